//! The OpenAPI document, `/docs/endpoints` and the page.

use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::deliverable::{DAY, end_of_day};
use devskyy_orchestration::domain::id::{SLUG, check_slug};
use devskyy_orchestration::domain::probe_url::{HTTPS_URL, LoopbackPolicy, ProbeUrl};
use devskyy_orchestration::domain::time::Timestamp;
use devskyy_orchestration::entry::native::{ADMIN_PASSWORD, ADMIN_USERNAME, World};
use devskyy_orchestration::http::Endpoint;
use devskyy_orchestration::http::openapi::{DOCUMENT, Examples, generate, matches};
use devskyy_orchestration::http::problem::Code;
use devskyy_orchestration::http::route::BodyKind;
use devskyy_orchestration::http::{Body, Reply, Request};
use devskyy_orchestration::platform::Headers;
use devskyy_orchestration::routes::ROUTES;
use devskyy_orchestration::store::users::{EMAIL, USERNAME, check_email, check_username};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const EXAMPLES: &str = include_str!("../../src/http/examples.json");

/// Served whole, so no example of theirs is in the document.
const DOCUMENTS: [&str; 3] = ["openapi", "docs", "docs_asset"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

fn operation<'a>(document: &'a Value, route: &Endpoint) -> &'a Value {
    let method = route.method.as_str().to_ascii_lowercase();
    &document["paths"][route.path][method.as_str()]
}

fn world() -> World {
    World::new(Timestamp::parse("2026-01-31T12:00:00Z").unwrap()).unwrap()
}

fn send(world: &World, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Reply {
    let mut headers = Headers::default();
    for (name, value) in fields {
        headers.set(name, value);
    }
    world.send(Request {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        query: None,
        headers,
        body: Body::Whole(body.to_owned().into()),
    })
}

fn get(world: &World, path: &str) -> Reply {
    send(world, "GET", path, &[], "")
}

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

/// The value of an Authorization field.
fn log_in(world: &World, username: &str, password: &str) -> String {
    let body = json!({ "username": username, "password": password }).to_string();
    let reply =
        send(world, "POST", "/api/v1/auth/login", &[("content-type", "application/json")], &body);
    let tokens: Value = serde_json::from_slice(&reply.body).unwrap();
    format!("Bearer {}", tokens["access_token"].as_str().unwrap())
}

/// Every value under this key, anywhere.
fn all<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| all(item, key, found)),
        Value::Object(fields) => fields.iter().for_each(|(name, item)| {
            if name == key {
                found.push(item);
            }
            all(item, key, found);
        }),
        _ => {}
    }
}

#[test]
fn the_document_describes_every_route_once() {
    assert_eq!(matches(ROUTES), Ok(()));
    let ids: BTreeSet<&str> = ROUTES.iter().map(|route| route.id).collect();
    assert_eq!(ids.len(), ROUTES.len(), "an id is used twice");
    for route in ROUTES {
        assert_eq!(operation(&document(), route)["operationId"], route.id);
    }
    let difference = matches(&ROUTES[1..]).unwrap_err();
    assert_eq!(difference, format!("described but not served: GET {}", ROUTES[0].path));
}

#[test]
fn the_document_is_what_the_code_generates() {
    let examples: Examples = serde_json::from_str(EXAMPLES).unwrap();
    assert!(generate(ROUTES, &examples).unwrap() == document(), "run make generate");
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut references = Vec::new();
    all(&document, "$ref", &mut references);
    let references: BTreeSet<&str> = references.iter().map(|r| r.as_str().unwrap()).collect();
    for reference in &references {
        let target = document.pointer(reference.strip_prefix('#').unwrap());
        assert!(target.is_some(), "{reference}");
    }
    for kind in ["schemas", "headers", "parameters"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(references.contains(reference.as_str()), "{reference} is not used");
        }
    }
}

/// Each link names an operation and exactly what that one has to be told.
#[test]
fn every_link_leads_to_an_operation() {
    let document = document();
    let mut links = Vec::new();
    all(&document, "links", &mut links);
    let links: Vec<_> = links.iter().flat_map(|links| links.as_object().unwrap()).collect();
    assert!(links.len() > 20, "{}", links.len());
    for (name, link) in links {
        let target = ROUTES.iter().find(|route| link["operationId"] == route.id);
        let target = target.unwrap_or_else(|| panic!("{name} leads nowhere"));
        let mut parameters: BTreeSet<&str> =
            link["parameters"].as_object().into_iter().flatten().map(|(key, _)| &**key).collect();
        // To the next page.
        assert_eq!(parameters.remove("cursor"), target.paged, "{name}");
        let in_path: BTreeSet<&str> =
            target.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        assert_eq!(parameters, in_path, "{name}");
        let content = &operation(&document, target)["requestBody"]["content"];
        let schema = &content["application/json"]["schema"]["$ref"];
        for field in link["requestBody"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let schema = document.pointer(schema.as_str().unwrap().trim_start_matches('#'));
            assert!(schema.unwrap()["properties"].get(field).is_some(), "{name}: {field}");
        }
    }
}

/// Text that is near to what the patterns of the document take.
fn nearly() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9_.é-]{0,70}",
        "[a-zé.@ ]{0,12}@[a-zé.@\u{2003}]{0,12}",
        "[hH]ttps?:/{0,3}[a-z0-9.]{1,12}(\\.com|:8443)?/?[a-z #\\\\\u{a0}]{0,3}",
        "[1-3][089][67][0-9]-[0-9]{1,2}-[0-3][0-9]T?",
    ]
}

proptest! {
    /// What a schema refuses must be refused, and what it alone decides taken.
    #[test]
    fn patterns_say_what_the_checks_do(text in nearly()) {
        let fits = |pattern: &str| {
            let schema = json!({ "pattern": pattern });
            jsonschema::draft202012::new(&schema).unwrap().is_valid(&json!(text))
        };
        prop_assert_eq!(fits(SLUG), check_slug(&text).is_ok());
        prop_assert_eq!(fits(USERNAME), check_username("", &text).is_none());
        prop_assert!(fits(EMAIL) || check_email("", &text).is_some());
        prop_assert!(fits(DAY) || end_of_day(&text).is_err());
        let url = ProbeUrl::parse(&text, LoopbackPolicy::Refused);
        prop_assert!(fits(HTTPS_URL) || url.is_err());
    }
}

#[test]
fn every_operation_is_explained() {
    let document = document();
    let described: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    for route in ROUTES {
        let operation = operation(&document, route);
        for field in ["summary", "description"] {
            assert!(!operation[field].as_str().unwrap().is_empty(), "{}: {field}", route.id);
        }
        assert!(described.contains(operation["tags"][0].as_str().unwrap()), "{}", route.id);
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let in_path: Vec<&Value> = parameters.filter(|p| p["in"] == "path").collect();
        assert_eq!(in_path.len(), route.path.matches('{').count(), "{}", route.id);
        for parameter in in_path {
            let name = parameter["name"].as_str().unwrap();
            assert!(route.path.contains(&format!("{{{name}}}")), "{}: {name}", route.id);
            assert!(!parameter["description"].as_str().unwrap().is_empty(), "{}: {name}", route.id);
        }
    }
}

#[test]
fn every_body_has_an_example() {
    let document = document();
    for route in ROUTES.iter().filter(|route| !DOCUMENTS.contains(&route.id)) {
        let operation = operation(&document, route);
        let request = operation["requestBody"]["content"].as_object();
        assert_eq!(request.is_some(), route.body != BodyKind::None, "{}", route.id);
        let reply = operation["responses"][route.status.to_string()]["content"].as_object();
        assert_eq!(reply.is_some(), !route.media.is_empty(), "{}", route.id);
        for (media, content) in request.into_iter().chain(reply).flatten() {
            assert!(content.get("example").is_some(), "{} has no example of {media}", route.id);
        }
    }
}

#[test]
fn every_example_fits_its_schema() {
    let document = document();
    let mut contents = Vec::new();
    all(&document, "content", &mut contents);
    // A schema that happens to have a property `content` would show up here too.
    let media_types = contents
        .iter()
        .flat_map(|content| content.as_object().unwrap())
        .filter(|(_, content)| content.get("schema").is_some());
    let mut checked = 0;
    for (media, content) in media_types {
        let mut schema = json!({ "allOf": [content["schema"]] });
        schema["components"] = document["components"].clone();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        if let Some(example) = content.get("example") {
            let errors: Vec<String> = validator
                .iter_errors(example)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{media}: {errors:#?}\n{example:#}");
            checked += 1;
        }
    }
    assert!(checked > ROUTES.len(), "{checked}");
}

#[test]
fn examples_hold_no_token() {
    let mut tokens = Vec::new();
    let examples: Value = serde_json::from_str(EXAMPLES).unwrap();
    all(&examples, "access_token", &mut tokens);
    all(&examples, "refresh_token", &mut tokens);
    assert!(tokens.len() >= 4);
    assert!(tokens.iter().all(|token| token.as_str().unwrap().starts_with('<')));
    assert!(!EXAMPLES.contains("eyJ"));
}

/// Whatever a careless client sends, the status it gets is one that the
/// document announces for the operation.
#[test]
fn refusals_are_announced() {
    let document = document();
    let world = world();
    let admin = log_in(&world, ADMIN_USERNAME, ADMIN_PASSWORD);
    let maria =
        json!({ "username": "maria", "password": "a passphrase of hers", "role": Role::Viewer });
    let fields = [("authorization", admin.as_str()), ("content-type", "application/json")];
    let created = send(&world, "POST", "/api/v1/auth/users", &fields, &maria.to_string());
    assert_eq!(created.status, 201);
    let viewer = log_in(&world, "maria", "a passphrase of hers");
    for route in ROUTES {
        let path: String = route
            .path
            .split(['{', '}'])
            .enumerate()
            .map(|(index, part)| if index % 2 == 0 { part } else { "no_such_thing" })
            .collect();
        let responses = operation(&document, route)["responses"].as_object().unwrap();
        for authorization in ["", "Bearer nonsense", admin.as_str(), viewer.as_str()] {
            for (media, body) in [
                ("", ""),
                ("application/json", "{"),
                ("application/json", "{\"x\":1}"),
                ("text/plain", "x"),
            ] {
                let mut fields = vec![];
                if !authorization.is_empty() {
                    fields.push(("authorization", authorization));
                }
                if !media.is_empty() {
                    fields.push(("content-type", media));
                }
                let status = send(&world, route.method.as_str(), &path, &fields, body).status;
                assert!(
                    responses.contains_key(status.as_str()),
                    "{} answered {status} to {fields:?} {body}; announced: {:?}",
                    route.id,
                    responses.keys()
                );
            }
        }
    }
}

#[test]
fn the_document_is_served_to_anyone() {
    let reply = get(&world(), "/openapi.json");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(text(&reply), DOCUMENT);
}

#[test]
fn endpoints_lists_the_table_with_its_examples() {
    let world = world();
    let admin = log_in(&world, ADMIN_USERNAME, ADMIN_PASSWORD);
    let path = "/api/v1/orchestration/docs/endpoints";
    let reply = send(&world, "GET", path, &[("authorization", admin.as_str())], "");
    assert_eq!(reply.status, 200);
    let out: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(out["api_version"], "v1");
    assert_eq!(out["base_url"], "/api/v1/orchestration");
    assert_eq!(out["rate_limiting"]["enforced"], true);
    assert_eq!(out["rate_limiting"]["defaults"]["default"], 100);
    assert_eq!(out["error_handling"]["codes"].as_array().unwrap().len(), Code::ALL.len());
    assert_eq!(out["authentication"]["roles"]["metrics_viewer"], json!(["metrics:read"]));
    let examples: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).unwrap();
    let endpoints = out["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), ROUTES.len());
    for (endpoint, route) in endpoints.iter().zip(ROUTES) {
        assert_eq!(endpoint["id"], route.id);
        assert_eq!(endpoint["method"], route.method.as_str());
        assert_eq!(endpoint["path"], route.path);
        let none = Value::Null;
        let example = examples.get(route.id).unwrap_or(&none);
        assert_eq!(endpoint["request_example"], *example.get("request").unwrap_or(&none));
        assert_eq!(endpoint["response_example"], *example.get("response").unwrap_or(&none));
    }
    let listed: usize = out["rate_limiting"]["classes"]
        .as_object()
        .unwrap()
        .values()
        .map(|ids| ids.as_array().unwrap().len())
        .sum();
    assert_eq!(listed, ROUTES.len());
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let reply = get(&world(), "/docs");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = reply.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("script-src 'self';"),
        "{policy}"
    );
    let html = text(&reply);
    assert!(html.contains("<html lang=\"en\">"));
    assert!(!html.contains("://"), "another host");
    let scripts: Vec<&str> = html.split("<script").skip(1).collect();
    assert_eq!(scripts.len(), 2);
    for script in scripts {
        let (tag, rest) = script.split_once('>').unwrap();
        assert!(tag.contains("src=\"/docs-assets/") && rest.starts_with("</script>"), "{tag}");
    }
    let list = html.split_once("<noscript>").unwrap().1;
    for route in ROUTES {
        assert!(list.contains(&format!("<code>{}</code>", route.path)), "{}", route.path);
    }
}

#[test]
fn every_file_the_page_names_is_served_and_no_other() {
    let world = world();
    let assets = &world.platform.assets;
    for own in ["page.js", "page.css"] {
        let path = format!("{}/assets/public/docs/{own}", env!("CARGO_MANIFEST_DIR"));
        assets.put(
            &format!("/docs/{own}"),
            "application/octet-stream",
            &std::fs::read(path).unwrap(),
        );
    }
    for copied in ["swagger-ui-bundle.js", "swagger-ui.css", "LICENSE"] {
        assets.put(
            &format!("/docs-assets/{copied}"),
            "application/octet-stream",
            copied.as_bytes(),
        );
    }
    assets.put("/secret.txt", "text/plain", b"not for the page");

    let page = get(&world, "/docs");
    let named: Vec<&str> =
        text(&page).split('"').filter(|part| part.starts_with("/docs-assets/")).collect();
    assert_eq!(named.len(), 4);
    for path in named {
        let reply = get(&world, path);
        assert_eq!(reply.status, 200, "{path}");
        let media = if path.ends_with(".js") { "text/javascript" } else { "text/css" };
        assert_eq!(
            reply.header("content-type").unwrap(),
            format!("{media}; charset=utf-8"),
            "{path}"
        );
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("public, max-age=300"));
    }
    // NOTICE is on the list, but was not copied in this world.
    for path in [
        "/docs-assets/secret.txt",
        "/docs-assets/..%2Fsecret.txt",
        "/docs-assets/NOTICE",
        "/docs-assets/",
    ] {
        assert_eq!(get(&world, path).status, 404, "{path}");
    }
}

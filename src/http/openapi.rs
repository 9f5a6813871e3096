//! GET `/openapi.json`. `make generate` writes the document from the route
//! table, the wire types and replies of the application itself; the Worker
//! serves the file as it is.

use super::app::{Cx, Endpoint};
use super::conditional;
use super::problem::Problem;
use super::reply::{DOCUMENT_HEADERS, Reply};
use ::http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, BTreeSet};

pub const DOCUMENT: &str = include_str!("openapi.json");

pub async fn document(cx: Cx) -> Result<Reply, Problem> {
    let mut reply = Reply::bytes(StatusCode::OK, "application/json", DOCUMENT.as_bytes());
    // The same for every request of a build, and much to hash.
    let etag = cx.app.openapi_etag.get_or_init(|| conditional::etag_of(DOCUMENT.as_bytes()));
    reply.set("etag", etag.as_str());
    Ok(reply.with_constant(DOCUMENT_HEADERS))
}

/// Method and path of every operation in the document; `None` if it is not an
/// OpenAPI document.
pub fn described_routes() -> Option<BTreeSet<(String, String)>> {
    #[derive(Deserialize)]
    struct Described {
        /// By path and by method in lower case.
        paths: BTreeMap<String, BTreeMap<String, IgnoredAny>>,
    }
    let described: Described = serde_json::from_str(DOCUMENT).ok()?;
    let operations = described.paths.into_iter().flat_map(|(path, methods)| {
        methods.into_keys().map(move |method| (method.to_ascii_uppercase(), path.clone()))
    });
    Some(operations.collect())
}

/// Whether the document describes these routes and no other.
///
/// # Errors
/// What is missing on either side.
pub fn matches(routes: &[Endpoint]) -> Result<(), String> {
    let described = described_routes().ok_or("the document cannot be read")?;
    let served: BTreeSet<_> =
        routes.iter().map(|r| (r.method.as_str().to_owned(), r.path.to_owned())).collect();
    let list = |what: &str, routes: Vec<&(String, String)>| {
        let names: Vec<_> =
            routes.iter().map(|(method, path)| format!("{method} {path}")).collect();
        (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
    };
    let differences: Vec<_> = [
        list("not described", served.difference(&described).collect()),
        list("described but not served", described.difference(&served).collect()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if differences.is_empty() { Ok(()) } else { Err(differences.join("; ")) }
}

#[cfg(not(target_arch = "wasm32"))]
pub use generator::{Example, Examples, example_name, generate};

/// Writing the document. The Worker has no use for it.
#[cfg(not(target_arch = "wasm32"))]
mod generator {
    use crate::auth::permission::{Permission, Role};
    use crate::domain::id::{
        BACKUP_ID, CHANNEL_ID, DECISION_ID, DELIVERY_ID, INCIDENT_ID, KEY_ID, MAINTENANCE_ID, SLUG,
        USER_ID,
    };
    use crate::http::app::Endpoint;
    use crate::http::docs::FILES;
    use crate::http::idempotency::IDEMPOTENCY_KEY;
    use crate::http::pages::MAX_LIMIT;
    use crate::http::problem::{Code, ProblemOut};
    use crate::http::route::{Access, BodyKind, Shape};
    use ::http::Method;
    use schemars::generate::{Contract, SchemaSettings};
    use schemars::transform::RecursiveTransform;
    use schemars::{Schema, SchemaGenerator};
    use serde::{Deserialize, Serialize};
    use serde_json::{Map, Value, json};
    use std::collections::BTreeMap;

    /// A request and its reply, as the application took and gave them; text
    /// as a JSON string.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    pub struct Example {
        /// Parameters of the path.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        pub parameters: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub request: Option<Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub response: Option<Value>,
    }

    /// By route id (see [`example_name`]), and by `problem.` and status.
    pub type Examples = BTreeMap<String, Example>;

    /// What the example of a route's reply in this media type is called: for
    /// the route's default type its id alone.
    pub fn example_name(route: &Endpoint, media: &str) -> String {
        if route.media.first() == Some(&media) {
            return route.id.to_owned();
        }
        let bare = media.split(';').next().unwrap_or_default().trim();
        format!("{} as {bare}", route.id)
    }

    const TITLE: &str = "DevSkyy Orchestration API";

    const INTRODUCTION: &str = "\
How each external AI partner is doing: measured, scored, explained. Every figure is measured, or \
was stored by somebody with a name and a time; where there is no data, the reply says so.

**Log in** with POST `/api/v1/auth/login`, then send the access token as `Authorization: Bearer …`. \
It is good for 15 minutes; POST `/api/v1/auth/refresh` gives the next one. On the page at `/docs`, \
*Authorize* does both steps: paste a token under *bearer*, or give name and password under *password*.

**Limits**: so many requests of one client may pass in any 60 s, by class; every reply says how many \
are left (`RateLimit`, `X-RateLimit-*`), and 429 when to come again (`Retry-After`). A client is an \
API key, else a user, else an address.

**Lockout**: five failed logins of an account within an hour lock it for 15 minutes; the answer is \
that of a wrong password. **Keys**: programs send an API key as bearer token or `X-API-Key`. The key \
that signs access tokens may change at any time; the JWKS then shows both, the signing one first.

**Repeating a write**: send an `Idempotency-Key` where an operation takes one; a repetition is done \
once and answered the same.

```sh
# how much of the limit is left
curl -s -o /dev/null -D - $BASE/api/v1/orchestration/partnerships -H \"authorization: Bearer $TOKEN\"
# an API key that may read metrics
curl -s $BASE/api/v1/auth/keys -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' \\
  -d '{\"name\": \"Prometheus\", \"permissions\": [\"metrics:read\"]}'
# a write that may be repeated
curl -s $BASE/api/v1/orchestration/decisions -H \"authorization: Bearer $TOKEN\" \\
  -H 'idempotency-key: \"8e03978e-40d5\"' -H 'content-type: application/json' -d '{\"context\": {}}'
# who was locked out
curl -s $BASE/api/v1/orchestration/activity -H \"authorization: Bearer $TOKEN\"
# the keys that verify access tokens
curl -s $BASE/.well-known/jwks.json
```

**Errors** are problem details (RFC 9457, `application/problem+json`): `code` is stable and for \
programs, `errors` points at each field that is wrong, `request_id` is what to quote in a report.

**Times** are RFC 3339 in UTC with milliseconds. Percentages go from 0 to 100. HEAD is answered \
wherever GET is, OPTIONS everywhere.

**The examples** are replies of this application, taken from a scripted run: the clock was \
set by hand, and the partners' answers were written beforehand. They say nothing about the real \
partners. Lists and dictionaries of replies are cut to their first two entries; tokens are left \
out.";

    /// The groups, in the order of the page.
    const TAGS: &[(&str, &str)] = &[
        ("Health and metrics", "How the partners are doing now."),
        ("Partnerships", "What was agreed with each partner and how far it is kept."),
        ("Objectives and incidents", "What was promised, what burns, and who looks after it."),
        ("Ingest", "What clients measured and sent."),
        (
            "Decisions",
            "Investments, strategies and choices: ranked, explained, signed, and judged later.",
        ),
        ("Notifications", "Where incidents are told, and what arrived there."),
        ("Backups", "Sets of backups: the list, checks, and filling an empty environment."),
        ("System", "The service itself."),
        ("Login", "Tokens, and the caller's own account."),
        ("Users", "Who may log in, and in which role."),
        ("API keys", "Keys for programs."),
        ("Documentation", "What you are reading."),
    ];

    /// A route belongs to the group of the first text that its path holds.
    const GROUPS: &[(&str, &str)] = &[
        ("/health", "Health and metrics"),
        ("/metrics", "Health and metrics"),
        ("/slos", "Objectives and incidents"),
        ("/maintenance", "Objectives and incidents"),
        ("/incidents", "Objectives and incidents"),
        ("/alert-policies", "Objectives and incidents"),
        ("/observations", "Ingest"),
        ("/kpis/", "Ingest"),
        ("/partnerships", "Partnerships"),
        ("/decisions", "Decisions"),
        ("/policies", "Decisions"),
        ("/receipt-keys.json", "Decisions"),
        ("/channels", "Notifications"),
        ("/deliveries", "Notifications"),
        ("/backups", "Backups"),
        ("/auth/users", "Users"),
        ("/auth/keys", "API keys"),
        ("/auth/", "Login"),
        ("/jwks.json", "Login"),
        ("/docs", "Documentation"),
        ("/openapi.json", "Documentation"),
        ("", "System"),
    ];

    /// What a parameter means in paths that hold the text before it, and what
    /// it looks like. The first that fits counts.
    const PARAMETERS: &[(&str, &str, &str, &str)] = &[
        ("/auth/users/", "id", "Id of the user.", USER_ID),
        ("/auth/keys/", "id", "Id of the API key.", KEY_ID),
        ("/channels/", "id", "Id of the channel.", CHANNEL_ID),
        ("/deliveries/", "id", "Id of the delivery.", DELIVERY_ID),
        (
            "/rate-limits/",
            "client",
            "Id of a user (`usr_…`) or of an API key (`key_…`), or an IP address.",
            "^[0-9A-Za-z_:.-]{1,64}$",
        ),
        ("/incidents/", "id", "Id of the incident.", INCIDENT_ID),
        ("/maintenance/", "window", "Id of the maintenance.", MAINTENANCE_ID),
        ("/slos/", "key", "Key of the objective.", SLUG),
        ("/backups/", "id", "Id of the set.", BACKUP_ID),
        ("/decisions/", "id", "Id of the decision.", DECISION_ID),
        ("/policies/", "id", "Id of the policy: `standard`.", "^standard$"),
        ("/versions/", "version", "Number of the version.", "^[1-9][0-9]{0,8}$"),
        ("/partnerships/", "id", "Id of the partnership, or one of its aliases.", SLUG),
        ("/metrics/", "type", "Id of the partnership, or one of its aliases.", SLUG),
        ("/deliverables/", "key", "Key of the deliverable.", SLUG),
        ("/kpis/", "name", "Name of the KPI.", SLUG),
        ("/docs-assets/", "file", "Name of the file.", ""),
    ];

    /// What the query of a route may hold beside the page: names, meanings and
    /// schemas.
    fn filters(route: &Endpoint) -> Vec<(&'static str, &'static str, Value)> {
        match route.id {
            "list_incidents" => vec![
                (
                    "state",
                    "`open` (acknowledged ones among them) or `resolved`; left out: all.",
                    json!({ "type": "string", "enum": ["open", "resolved"] }),
                ),
                (
                    "partnership",
                    "Id of a partnership, or one of its aliases; left out: all, and the \
                     service itself.",
                    json!({ "type": "string", "pattern": SLUG }),
                ),
            ],
            "list_decisions" => vec![
                (
                    "kind",
                    "Only of this kind.",
                    json!({ "type": "string", "enum": ["appraisal", "strategy", "choice"] }),
                ),
                (
                    "author",
                    "Id of the user or API key that asked.",
                    json!({ "type": "string", "minLength": 1, "maxLength": 100 }),
                ),
                (
                    "decision",
                    "Such as `APPROVE_IMMEDIATE`.",
                    json!({ "type": "string", "minLength": 1, "maxLength": 100 }),
                ),
                ("from", "Decided at this instant or later.", instant()),
                ("to", "Decided before this instant.", instant()),
            ],
            _ => vec![],
        }
    }

    fn instant() -> Value {
        json!({ "type": "string", "format": "date-time", "pattern": "^(19[7-9]|2)" })
    }

    /// What a reply of the first route (by id) gives to a request of the
    /// second: parameters of its path, or fields of its body.
    const LINKS: &[(&str, &str, Values)] = &[
        ("login", "refresh", REFRESH_TOKEN),
        ("login", "logout", REFRESH_TOKEN),
        ("refresh", "refresh", REFRESH_TOKEN),
        ("refresh", "logout", REFRESH_TOKEN),
        ("create_user", "change_user", &[("id", "$response.body#/id")]),
        ("change_user", "change_user", &[("id", "$request.path.id")]),
        ("list_users", "change_user", &[("id", "$response.body#/users/0/id")]),
        ("list_metrics", "get_metrics", &[("type", "$response.body#/0/partnership_type")]),
        ("list_partnerships", "get_metrics", &[("type", "$response.body#/0/id")]),
        ("list_partnerships", "get_partnership_status", &[("id", "$response.body#/0/id")]),
        ("list_partnerships", "change_partnership", &[("id", "$response.body#/0/id")]),
        ("list_partnerships", "push_kpi", KPI_OF_FIRST),
        ("list_partnerships", "push_observations", &[("id", "$response.body#/0/id")]),
        ("list_partnerships", "report_deliverable", DELIVERABLE_OF_FIRST),
        ("create_partnership", "get_metrics", &[("type", "$response.body#/id")]),
        ("create_partnership", "get_partnership_status", ID),
        ("create_partnership", "change_partnership", ID),
        ("create_partnership", "retire_partnership", ID),
        ("create_partnership", "push_kpi", KPI),
        ("create_partnership", "push_observations", ID),
        ("create_partnership", "report_deliverable", DELIVERABLE),
        ("change_partnership", "get_partnership_status", ID),
        ("change_partnership", "retire_partnership", ID),
        ("change_partnership", "push_kpi", KPI),
        ("report_deliverable", "get_partnership_status", &[("id", "$request.path.id")]),
        ("push_kpi", "get_metrics", &[("type", "$request.path.id")]),
        ("push_observations", "get_metrics", &[("type", "$request.path.id")]),
        ("create_partnership", "get_partnership", ID),
        ("change_partnership", "get_partnership", ID),
        ("report_deliverable", "get_deliverable", SAME_DELIVERABLE),
        ("get_deliverable", "report_deliverable", SAME_DELIVERABLE),
        ("create_user", "get_rate_limits", &[("client", "$response.body#/id")]),
        ("create_key", "get_key", NEW_KEY),
        ("create_key", "rotate_key", NEW_KEY),
        ("create_key", "revoke_key", NEW_KEY),
        ("create_key", "get_rate_limits", &[("client", "$response.body#/api_key/id")]),
        ("rotate_key", "get_key", NEW_KEY),
        ("rotate_key", "revoke_key", NEW_KEY),
        ("get_rate_limits", "lift_block", &[("client", "$response.body#/client")]),
        ("list_partnerships", "create_slo", &[("id", "$response.body#/0/id")]),
        ("list_partnerships", "create_maintenance", &[("id", "$response.body#/0/id")]),
        ("create_partnership", "create_slo", ID),
        ("create_partnership", "create_maintenance", ID),
        ("create_slo", "get_slo", NEW_SLO),
        ("create_slo", "change_slo", NEW_SLO),
        ("create_slo", "delete_slo", NEW_SLO),
        (
            "list_slos",
            "get_slo",
            &[("id", "$request.path.id"), ("key", "$response.body#/slos/0/key")],
        ),
        ("change_slo", "get_slo", SAME_SLO),
        ("delete_slo", "get_slo", SAME_SLO),
        (
            "list_slos",
            "delete_slo",
            &[("id", "$request.path.id"), ("key", "$response.body#/slos/0/key")],
        ),
        (
            "list_maintenance",
            "delete_maintenance",
            &[("id", "$request.path.id"), ("window", "$response.body#/maintenance/0/id")],
        ),
        (
            "create_maintenance",
            "delete_maintenance",
            &[("id", "$request.path.id"), ("window", "$response.body#/id")],
        ),
        ("decide", "get_decision", DECISION),
        ("decide", "replay_decision", DECISION),
        ("decide", "what_if", DECISION),
        ("decide", "record_outcome", DECISION),
        ("list_decisions", "get_decision", FIRST_DECISION),
        ("list_decisions", "replay_decision", FIRST_DECISION),
        ("list_decisions", "what_if", FIRST_DECISION),
        ("list_decisions", "record_outcome", FIRST_DECISION),
        (
            "list_policy_versions",
            "get_policy_version",
            &[("id", "$request.path.id"), ("version", "$response.body#/versions/0/version")],
        ),
        ("list_incidents", "get_incident", FIRST_INCIDENT),
        ("list_incidents", "note_incident", FIRST_INCIDENT),
        ("list_incidents", "acknowledge_incident", FIRST_INCIDENT),
        ("list_incidents", "list_incidents", NEXT_PAGE),
        ("create_channel", "get_channel", NEW_CHANNEL),
        ("create_channel", "change_channel", NEW_CHANNEL),
        ("create_channel", "delete_channel", NEW_CHANNEL),
        ("create_channel", "test_channel", NEW_CHANNEL),
        ("test_channel", "replay_delivery", ID),
        ("list_users", "list_users", NEXT_PAGE),
        ("list_keys", "list_keys", NEXT_PAGE),
        ("list_decisions", "list_decisions", NEXT_PAGE),
        ("list_activity", "list_activity", NEXT_PAGE),
        ("list_channels", "list_channels", NEXT_PAGE),
        ("list_deliveries", "list_deliveries", NEXT_PAGE_OF_CHANNEL),
        ("list_backups", "list_backups", NEXT_PAGE),
        ("list_backups", "get_backup", &[("id", "$response.body#/backups/0/id")]),
        ("list_backups", "verify_backup", &[("id", "$response.body#/backups/0/id")]),
    ];
    /// By name, where in the request or the reply to find it.
    type Values = &'static [(&'static str, &'static str)];
    const REFRESH_TOKEN: Values = &[("refresh_token", "$response.body#/refresh_token")];
    const NEW_KEY: Values = &[("id", "$response.body#/api_key/id")];
    const NEW_CHANNEL: Values = &[("id", "$response.body#/channel/id")];
    const NEXT_PAGE_OF_CHANNEL: Values =
        &[("id", "$request.path.id"), ("cursor", "$response.body#/next_cursor")];
    const NEXT_PAGE: Values = &[("cursor", "$response.body#/next_cursor")];
    const SAME_DELIVERABLE: Values = &[("id", "$request.path.id"), ("key", "$request.path.key")];
    const NEW_SLO: Values = &[("id", "$request.path.id"), ("key", "$response.body#/key")];
    const SAME_SLO: Values = &[("id", "$request.path.id"), ("key", "$request.path.key")];
    const DECISION: Values = &[("id", "$response.body#/decision_id")];
    const FIRST_DECISION: Values = &[("id", "$response.body#/decisions/0/decision_id")];
    const FIRST_INCIDENT: Values = &[("id", "$response.body#/incidents/0/id")];
    const ID: Values = &[("id", "$response.body#/id")];
    const KPI: Values =
        &[("id", "$response.body#/id"), ("name", "$response.body#/agreement/kpis/0/name")];
    const KPI_OF_FIRST: Values =
        &[("id", "$response.body#/0/id"), ("name", "$response.body#/0/agreement/kpis/0/name")];
    const DELIVERABLE: Values =
        &[("id", "$response.body#/id"), ("key", "$response.body#/deliverables/0/name")];
    const DELIVERABLE_OF_FIRST: Values =
        &[("id", "$response.body#/0/id"), ("key", "$response.body#/0/deliverables/0/name")];

    /// Fields of every reply to a request that was counted.
    const BUDGET: [&str; 6] = [
        "RateLimit-Policy",
        "RateLimit",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
        "X-RateLimit-Status",
    ];

    /// Statuses of problems with the names of their components.
    const PROBLEMS: &[(u16, &str)] = &[
        (400, "BadRequest"),
        (401, "Unauthorized"),
        (403, "Forbidden"),
        (404, "NotFound"),
        (409, "Conflict"),
        (412, "PreconditionFailed"),
        (428, "PreconditionRequired"),
        (413, "PayloadTooLarge"),
        (415, "UnsupportedMediaType"),
        (422, "Invalid"),
        (429, "TooManyRequests"),
        (500, "Internal"),
        (503, "Unavailable"),
    ];

    /// Serialising sorts the keys, so the same input gives the same text.
    ///
    /// # Errors
    /// Two wire types share a name.
    pub fn generate(routes: &[Endpoint], examples: &Examples) -> Result<Value, String> {
        let mut schemas = Schemas::new();
        let mut paths = Map::new();
        for route in routes {
            let operation = operation(route, examples, &mut schemas);
            let methods = paths.entry(route.path).or_insert_with(|| json!({}));
            set(methods, &route.method.as_str().to_ascii_lowercase(), operation);
        }
        let responses: Map<String, Value> = PROBLEMS
            .iter()
            .map(|(status, name)| ((*name).to_owned(), problem(*status, examples, &mut schemas)))
            .collect();
        Ok(json!({
            "openapi": "3.1.0",
            "info": {
                "title": TITLE,
                "version": env!("CARGO_PKG_VERSION"),
                "description": INTRODUCTION,
                "license": { "name": "MIT", "identifier": "MIT" },
            },
            "servers": [{ "url": "/" }],
            "tags": tags(routes),
            "paths": paths,
            "components": {
                "schemas": schemas.finish()?,
                "responses": responses,
                "headers": headers(),
                "parameters": common_parameters(),
                "securitySchemes": security_schemes(),
            },
        }))
    }

    fn tags(routes: &[Endpoint]) -> Vec<Value> {
        let used = TAGS.iter().filter(|(tag, _)| routes.iter().any(|route| group(route) == *tag));
        used.map(|(tag, what)| json!({ "name": tag, "description": what })).collect()
    }

    fn group(route: &Endpoint) -> &'static str {
        GROUPS.iter().find(|(text, _)| route.path.contains(text)).map_or("", |(_, tag)| tag)
    }

    fn operation(route: &Endpoint, examples: &Examples, schemas: &mut Schemas) -> Value {
        let mut operation = json!({
            "operationId": route.id,
            "tags": [group(route)],
            "summary": route.summary,
            "description": who(route.access),
            "security": security(route.access),
            "responses": responses(route, examples, schemas),
        });
        let parameters = parameters(route, examples);
        if !parameters.is_empty() {
            set(&mut operation, "parameters", parameters.into());
        }
        if let Some(shape) = route.request {
            let schema = schemas.request(shape);
            let example = examples.get(route.id).and_then(|example| example.request.clone());
            let body = media_type(&schema, example);
            let mut content = Map::from_iter([("application/json".to_owned(), body.clone())]);
            if route.body == BodyKind::JsonOrForm {
                content.insert("application/x-www-form-urlencoded".to_owned(), body);
            }
            set(&mut operation, "requestBody", json!({ "required": true, "content": content }));
        }
        operation
    }

    fn who(access: Access) -> String {
        let needs = |permission: Permission| {
            let roles: Vec<_> = Role::ALL
                .iter()
                .filter(|role| role.may(permission))
                .map(|role| format!("`{}`", role.name()))
                .collect();
            format!("the permission `{}` (roles: {})", permission.name(), roles.join(", "))
        };
        match access {
            Access::Public => "Anyone may call it.".to_owned(),
            Access::PublicHealth(permission) => format!(
                "Anyone may call it, unless the service is set up otherwise. A token that is \
                 sent must be valid and needs {}; the reply then says more.",
                needs(permission)
            ),
            Access::Authenticated => "Needs any valid access token or API key.".to_owned(),
            Access::User => "Needs a valid access token; an API key is no user.".to_owned(),
            Access::Requires(permission) => format!("Needs {}.", needs(permission)),
        }
    }

    fn security(access: Access) -> Value {
        match access {
            Access::Public => json!([]),
            Access::PublicHealth(_) => {
                json!([{}, { "bearer": [] }, { "apiKey": [] }, { "password": [] }])
            }
            Access::User => json!([{ "bearer": [] }, { "password": [] }]),
            Access::Authenticated | Access::Requires(_) => {
                json!([{ "bearer": [] }, { "apiKey": [] }, { "password": [] }])
            }
        }
    }

    fn parameters(route: &Endpoint, examples: &Examples) -> Vec<Value> {
        let example = examples.get(route.id);
        let names = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        let mut parameters: Vec<Value> = names
            .map(|name| {
                let known = PARAMETERS
                    .iter()
                    .find(|(needle, known, ..)| route.path.contains(needle) && *known == name);
                let (what, pattern) =
                    known.map_or(("", ""), |(_, _, what, pattern)| (what, pattern));
                let schema = if name == "file" {
                    let names: Vec<_> = FILES.iter().map(|(name, ..)| *name).collect();
                    json!({ "type": "string", "enum": names })
                } else {
                    json!({ "type": "string", "pattern": pattern })
                };
                let mut parameter = json!({
                    "name": name,
                    "in": "path",
                    "required": true,
                    "description": what,
                    "schema": schema,
                });
                if let Some(value) = example.and_then(|example| example.parameters.get(name)) {
                    set(&mut parameter, "example", value.as_str().into());
                }
                parameter
            })
            .collect();
        for (name, what, schema) in filters(route) {
            parameters.push(json!({
                "name": name,
                "in": "query",
                "required": false,
                "description": what,
                "schema": schema,
            }));
        }
        let flags = [
            (route.takes_key, "IdempotencyKey"),
            (route.paged, "Limit"),
            (route.paged, "Cursor"),
            (route.tagged, "IfNoneMatch"),
            (route.minds_if_match && !route.needs_if_match, "IfMatch"),
            (route.needs_if_match, "IfMatchRequired"),
        ];
        for (_, name) in flags.iter().filter(|(set, _)| *set) {
            let reference = format!("#/components/parameters/{name}");
            parameters.push(json!({ "$ref": reference }));
        }
        parameters
    }

    /// Without examples: the page would fill them in, and the second try with
    /// the same Idempotency-Key would be refused.
    fn common_parameters() -> Value {
        let parameter = |place: &str, name: &str, what: &str, schema: Value| {
            json!({
                "name": name,
                "in": place,
                "required": false,
                "description": what,
                "schema": schema,
            })
        };
        let header =
            |name: &str, what: &str, schema: Value| parameter("header", name, what, schema);
        let query = |name: &str, what: &str, schema: Value| parameter("query", name, what, schema);
        let what = "The `ETag` of what you have read: where it was changed since, nothing is done \
                    and the reply is 412.";
        let if_match = header("If-Match", what, json!({ "type": "string" }));
        let mut required = if_match.clone();
        set(&mut required, "required", true.into());
        json!({
            "IdempotencyKey": header(
                "Idempotency-Key",
                "1 to 255 visible ASCII characters, best in double quotes. For a day, a request \
                 that is repeated with the same key and body is done once and gets the same \
                 reply; with another body it is refused.",
                json!({ "type": "string", "pattern": IDEMPOTENCY_KEY }),
            ),
            "IfNoneMatch": header(
                "If-None-Match",
                "An `ETag` that you have: where it still holds, the reply is 304 without a body.",
                json!({ "type": "string" }),
            ),
            "IfMatch": if_match,
            "IfMatchRequired": required,
            "Limit": query(
                "limit",
                "Entries of a page; 50 if left out.",
                json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT }),
            ),
            "Cursor": query(
                "cursor",
                "The `next_cursor` of the page before.",
                json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,200}$" }),
            ),
        })
    }

    fn responses(route: &Endpoint, examples: &Examples, schemas: &mut Schemas) -> Value {
        let mut success = json!({
            "description": success_description(route),
            "headers": header_references(&reply_headers(route)),
        });
        let links = links(route);
        if !links.is_empty() {
            set(&mut success, "links", links.into());
        }
        let content: Map<String, Value> = route
            .media
            .iter()
            .map(|media| {
                let schema = match route.response {
                    Some(shape) if media.starts_with("application/json") => schemas.reply(shape),
                    None if media.starts_with("application/json") => json!({ "type": "object" }),
                    _ => json!({ "type": "string" }),
                };
                let example = examples.get(&example_name(route, media));
                let example = example.and_then(|example| example.response.clone());
                ((*media).to_owned(), media_type(&schema, example))
            })
            .collect();
        if !content.is_empty() {
            set(&mut success, "content", content.into());
        }
        let mut responses = Map::from_iter([(route.status.to_string(), success)]);
        if route.tagged {
            let unchanged = json!({
                "description": "You have it already.",
                "headers": header_references(&["X-Request-Id", "ETag"]),
            });
            responses.insert("304".to_owned(), unchanged);
        }
        for status in problems_of(route) {
            if let Some((_, name)) = PROBLEMS.iter().find(|(known, _)| *known == status) {
                let reference = json!({ "$ref": format!("#/components/responses/{name}") });
                responses.insert(status.to_string(), reference);
            }
        }
        responses.into()
    }

    /// Fields of a route's reply of success, beside those of every reply.
    fn reply_headers(route: &Endpoint) -> Vec<&'static str> {
        let mut names = EVERY_REPLY.to_vec();
        names.extend(BUDGET);
        let flags = [
            (route.takes_key, "Idempotency-Replayed"),
            (route.tagged || route.minds_if_match, "ETag"),
            (route.paged, "Link"),
            (
                ["create_partnership", "create_key", "rotate_key", "create_slo"]
                    .contains(&route.id),
                "Location",
            ),
        ];
        names.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name));
        names
    }

    /// By the id of the route they lead to.
    fn links(route: &Endpoint) -> Map<String, Value> {
        let from_here = LINKS.iter().filter(|(from, ..)| *from == route.id);
        from_here
            .map(|(_, to, values)| {
                let mut link = json!({ "operationId": to });
                let object: Map<String, Value> = values
                    .iter()
                    .map(|(name, expression)| ((*name).to_owned(), (*expression).into()))
                    .collect();
                let place = if *values == REFRESH_TOKEN { "requestBody" } else { "parameters" };
                set(&mut link, place, object.into());
                ((*to).to_owned(), link)
            })
            .collect()
    }

    fn success_description(route: &Endpoint) -> &'static str {
        match route.status {
            201 => "Created.",
            202 => "Accepted.",
            204 => "Done; there is nothing to say.",
            _ => "Success.",
        }
    }

    /// The problems this route can answer. 405 belongs to a path, not to an
    /// operation.
    fn problems_of(route: &Endpoint) -> Vec<u16> {
        let mut statuses = match route.access {
            // A login that is refused.
            Access::Public if route.body != BodyKind::None => vec![401],
            Access::Public => vec![],
            Access::Authenticated => vec![401],
            Access::User => vec![401, 403],
            Access::PublicHealth(_) | Access::Requires(_) => vec![401, 403],
        };
        // A simulation names its partnership in the body; a set of backups holds
        // every tenant, of whom all but the first find nothing.
        let by_name = route.id == "simulate_alerts" || route.path.contains("/backups");
        if route.path.contains('{') || by_name {
            statuses.push(404);
        }
        // Two who change the same thing, or a name that is taken.
        let registers = matches!(
            route.access,
            Access::Requires(
                Permission::PartnershipsWrite | Permission::UsersWrite | Permission::BackupsWrite
            )
        );
        if registers || [Method::PUT, Method::PATCH].contains(&route.method) {
            statuses.push(409);
        }
        if route.body != BodyKind::None {
            statuses.extend([400, 413, 415, 422]);
        }
        if route.takes_key || route.paged {
            statuses.push(400);
        }
        if route.takes_key {
            statuses.push(409);
        }
        if route.minds_if_match {
            statuses.push(412);
        }
        if route.needs_if_match {
            statuses.push(428);
        }
        statuses.extend([429, 500, 503]);
        statuses
    }

    fn problem(status: u16, examples: &Examples, schemas: &mut Schemas) -> Value {
        let codes: Vec<_> = Code::ALL.iter().filter(|code| code.status() == status).collect();
        let meanings: Vec<_> =
            codes.iter().map(|code| format!("`{}`: {}.", code.code(), code.title())).collect();
        let names_of_codes: Vec<_> = codes.iter().map(|code| code.code()).collect();
        let mut names = EVERY_REPLY.to_vec();
        names.extend(BUDGET);
        names.extend(match status {
            429 => Some("Retry-After"),
            401 => Some("WWW-Authenticate"),
            415 => Some("Accept-Post"),
            503 => Some("Retry-After"),
            _ => None,
        });
        let problem = schemas.reply(Shape { schema: SchemaGenerator::subschema_for::<ProblemOut> });
        let schema = json!({
            "allOf": [problem],
            "properties": { "status": { "const": status }, "code": { "enum": names_of_codes } },
        });
        let example = examples.get(&format!("problem.{status}"));
        let example = example.and_then(|example| example.response.clone());
        json!({
            "description": meanings.join(" "),
            "headers": header_references(&names),
            "content": { "application/problem+json": media_type(&schema, example) },
        })
    }

    fn media_type(schema: &Value, example: Option<Value>) -> Value {
        let mut media_type = json!({ "schema": schema });
        if let Some(example) = example {
            set(&mut media_type, "example", example);
        }
        media_type
    }

    fn set(object: &mut Value, name: &str, value: Value) {
        if let Some(fields) = object.as_object_mut() {
            fields.insert(name.to_owned(), value);
        }
    }

    fn header_references(names: &[&str]) -> Value {
        let reference = |name: &&str| {
            let reference = json!({ "$ref": format!("#/components/headers/{name}") });
            ((*name).to_owned(), reference)
        };
        names.iter().map(reference).collect::<Map<_, _>>().into()
    }

    /// Fields that every reply has.
    const EVERY_REPLY: &[&str] = &["X-Request-Id", "Cache-Control"];

    /// Everything but `Content-Type`, which the media types say, and the
    /// security headers, which are no part of the interface.
    fn headers() -> Value {
        let always = |what: &str, schema: Value| json!({ "description": what, "required": true, "schema": schema });
        let sometimes =
            |what: &str, schema: Value| json!({ "description": what, "schema": schema });
        json!({
            "X-Request-Id": always(
                "Name of this request in the log: the caller's own, if he sent one of 8 to 128 \
                 letters, digits, `-`, `_` or `.`.",
                json!({ "type": "string", "pattern": "^[A-Za-z0-9._-]{8,128}$" }),
            ),
            "Cache-Control": always(
                "`no-store`, but for the documents that are the same for everybody.",
                json!({ "type": "string", "enum": ["no-store", "public, max-age=300"] }),
            ),
            "Idempotency-Replayed": sometimes(
                "`true` where this reply was given before.",
                json!({ "type": "string", "const": "true" }),
            ),
            "Location": always(
                "Path of what was created.",
                json!({ "type": "string", "format": "uri-reference" }),
            ),
            "WWW-Authenticate": always(
                "`Bearer`, where a token would have helped (RFC 6750).",
                json!({ "type": "string", "pattern": "^Bearer" }),
            ),
            "Accept-Post": always(
                "The media type the body should have.",
                json!({ "type": "string", "const": "application/json" }),
            ),
            "ETag": sometimes(
                "Names this state of the resource (RFC 9110).",
                json!({ "type": "string", "pattern": "^\"[!#-~]*\"$" }),
            ),
            "Link": sometimes(
                "The next page, `rel=\"next\"` (RFC 8288).",
                json!({ "type": "string", "pattern": "^<.*>; rel=\"next\"$" }),
            ),
            "RateLimit-Policy": sometimes(
                "The limit this request drew from: its name, `q` requests in any `w` seconds \
                 (draft-ietf-httpapi-ratelimit-headers-11).",
                json!({ "type": "string" }),
            ),
            "RateLimit": sometimes(
                "`r`: requests left; `t`: seconds until the oldest that counts leaves the window.",
                json!({ "type": "string" }),
            ),
            "X-RateLimit-Limit": sometimes(
                "As `q` of `RateLimit-Policy`.",
                json!({ "type": "integer", "minimum": 1 }),
            ),
            "X-RateLimit-Remaining": sometimes(
                "As `r` of `RateLimit`.",
                json!({ "type": "integer", "minimum": 0 }),
            ),
            "X-RateLimit-Reset": sometimes(
                "The instant of `t` of `RateLimit`, in Unix seconds.",
                json!({ "type": "integer", "minimum": 0 }),
            ),
            "X-RateLimit-Status": sometimes(
                "That the limiter could not be asked (`unenforced`), or only KV (`quotas-unknown`).",
                json!({ "type": "string", "enum": ["unenforced", "quotas-unknown"] }),
            ),
            "Retry-After": sometimes(
                "Seconds after which a repetition may succeed.",
                json!({ "type": "integer", "minimum": 0 }),
            ),
        })
    }

    fn security_schemes() -> Value {
        json!({
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "The `access_token` of POST `/api/v1/auth/login`, or an API key.",
            },
            "apiKey": {
                "type": "apiKey",
                "in": "header",
                "name": "X-API-Key",
                "description": "An API key, of POST `/api/v1/auth/keys`.",
            },
            "password": {
                "type": "oauth2",
                "description": "User name (or e-mail address) and password. There are no clients: \
                    leave their id and secret out.",
                "flows": { "password": {
                    "tokenUrl": "/api/v1/auth/login",
                    "scopes": {},
                } },
            },
        })
    }

    /// Lines of a comment become one line of text; and a field that is left
    /// out is not always taken for null, so no schema says it is.
    fn tidy(schema: &mut Schema) {
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
        if let Some(Value::String(text)) = schema.get_mut("description") {
            let paragraphs: Vec<_> =
                text.split("\n\n").map(|part| part.replace('\n', " ")).collect();
            *text = paragraphs.join("\n\n");
        }
    }

    /// The schemas of all wire types. What a request may leave out and what a
    /// reply always holds differ, so there is a generator for each.
    struct Schemas {
        requests: SchemaGenerator,
        replies: SchemaGenerator,
    }

    impl Schemas {
        fn new() -> Self {
            let generator = |contract| {
                SchemaSettings::draft2020_12()
                    .with(|settings| {
                        settings.definitions_path = "/components/schemas".into();
                        settings.contract = contract;
                        settings.transforms.push(Box::new(RecursiveTransform(tidy)));
                    })
                    .into_generator()
            };
            Self {
                requests: generator(Contract::Deserialize),
                replies: generator(Contract::Serialize),
            }
        }

        fn request(&mut self, shape: Shape) -> Value {
            (shape.schema)(&mut self.requests).to_value()
        }

        fn reply(&mut self, shape: Shape) -> Value {
            (shape.schema)(&mut self.replies).to_value()
        }

        fn finish(mut self) -> Result<Map<String, Value>, String> {
            let mut all = self.replies.take_definitions(true);
            for (name, schema) in self.requests.take_definitions(true) {
                if all.get(&name).is_some_and(|known| *known != schema) {
                    return Err(format!(
                        "the schema {name} is not the same in requests and in replies; \
                         make it two types, {name}In and {name}Out"
                    ));
                }
                all.insert(name, schema);
            }
            Ok(all)
        }
    }
}

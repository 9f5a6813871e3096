//! The documentation: every route with examples as JSON, a page that renders
//! `/openapi.json`, and the page's files.

use super::app::{Cx, Endpoint};
use super::problem::{Code, Problem};
use super::reply::{DOCUMENT_HEADERS, PAGE_HEADERS, Reply};
use super::route::Access;
use crate::auth::permission::{Permission, Role};
use crate::auth::token::ACCESS_TOKEN_LIFETIME_S;
use crate::domain::rate_limit::{LOGINS_PER_ACCOUNT, LOGINS_PER_ADDRESS, Limits};
use ::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Day of the release these pages describe: the newest one in CHANGELOG.md.
pub const RELEASED: &str = "2026-11-22";

const API_VERSION: &str = "v1";
const BASE_URL: &str = "/api/v1/orchestration";

/// Requests and replies by route id, written by `make generate`.
const EXAMPLES: &str = include_str!("examples.json");

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EndpointsOut {
    pub api_version: &'static str,
    /// Where the eleven routes of the orchestration begin. The paths below
    /// are whole.
    pub base_url: &'static str,
    pub authentication: AuthenticationOut,
    pub rate_limiting: RateLimitingOut,
    pub error_handling: ErrorHandlingOut,
    /// Where the examples below come from.
    pub examples: &'static str,
    pub endpoints: Vec<EndpointOut>,
    /// Day of the release described here.
    pub last_updated: String,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AuthenticationOut {
    pub scheme: &'static str,
    pub how: &'static str,
    /// Seconds an access token is good for.
    pub access_token_lifetime_s: i64,
    /// Permissions by role.
    pub roles: BTreeMap<&'static str, &'static [Permission]>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RateLimitingOut {
    /// Whether a request can be refused for being one too many.
    pub enforced: bool,
    pub note: &'static str,
    /// Requests in any 60 s by class, and in a day, unless the tenant's
    /// settings say otherwise.
    pub defaults: Limits,
    pub logins_per_address: u32,
    pub logins_per_account: u32,
    /// Ids of the endpoints by the class they belong to.
    pub classes: BTreeMap<&'static str, Vec<&'static str>>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ErrorHandlingOut {
    pub content_type: &'static str,
    /// What each field of an error says.
    pub fields: BTreeMap<&'static str, &'static str>,
    pub codes: Vec<CodeOut>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct CodeOut {
    pub code: &'static str,
    pub status: u16,
    pub title: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EndpointOut {
    /// The `operationId` of the OpenAPI document.
    pub id: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    pub description: &'static str,
    pub access: AccessOut,
    /// What the caller's role must hold; null where any caller will do.
    pub permission: Option<Permission>,
    pub limit_class: &'static str,
    /// Null where there is no body.
    pub request_example: Option<Value>,
    /// Null where there is no body, or one that is no JSON.
    pub response_example: Option<Value>,
    /// Status of success.
    pub status: u16,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum AccessOut {
    /// Anyone; a token is not looked at.
    Anyone,
    /// Anyone, unless the service is set up otherwise; with a token that
    /// holds the permission the reply says more.
    AnyoneOrToken,
    /// Any valid access token or API key.
    Token,
    /// Any valid access token: an API key is no user.
    UserToken,
    /// A valid token whose role holds the permission.
    Permission,
}

/// GET `/docs/endpoints`.
pub async fn endpoints(cx: Cx) -> Result<Reply, Problem> {
    Ok(Reply::ok(&render_endpoints(cx.app.routes, cx.app.config.rate_limiting)?))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Example {
    request: Option<Value>,
    response: Option<Value>,
}

fn render_endpoints(
    routes: &'static [Endpoint],
    rate_limiting: bool,
) -> Result<EndpointsOut, Problem> {
    let mut examples: BTreeMap<String, Example> = serde_json::from_str(EXAMPLES)
        .map_err(|error| Problem::internal(format!("examples.json: {error}")))?;
    let mut classes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for route in routes {
        classes.entry(route.limit.name()).or_default().push(route.id);
    }
    let endpoints = routes.iter().map(|route| {
        let example = examples.remove(route.id).unwrap_or_default();
        let (access, permission) = match route.access {
            Access::Public => (AccessOut::Anyone, None),
            Access::PublicHealth(permission) => (AccessOut::AnyoneOrToken, Some(permission)),
            Access::Authenticated => (AccessOut::Token, None),
            Access::User => (AccessOut::UserToken, None),
            Access::Requires(permission) => (AccessOut::Permission, Some(permission)),
        };
        EndpointOut {
            id: route.id,
            method: route.method.as_str(),
            path: route.path,
            description: route.summary,
            access,
            permission,
            limit_class: route.limit.name(),
            request_example: example.request,
            response_example: example.response,
            status: route.status,
        }
    });
    Ok(EndpointsOut {
        api_version: API_VERSION,
        base_url: BASE_URL,
        authentication: AuthenticationOut {
            scheme: "bearer",
            how: "POST /api/v1/auth/login with {\"username\", \"password\"} as JSON or with the \
                  password form of OAuth 2, then send the access_token as Authorization: Bearer …; \
                  POST /api/v1/auth/refresh with the refresh_token before it expires. Programs send \
                  an API key (POST /api/v1/auth/keys) as Authorization: Bearer … or X-API-Key. The public \
                  keys are at /.well-known/jwks.json.",
            access_token_lifetime_s: ACCESS_TOKEN_LIFETIME_S,
            roles: Role::ALL.iter().map(|role| (role.name(), role.permissions())).collect(),
        },
        rate_limiting: RateLimitingOut {
            enforced: rate_limiting,
            note: "So many requests of one client pass in any 60 s, by class; a client is an API \
                   key, else a user, else an IP address (IPv6 by /64). Every reply says how many \
                   are left in RateLimit, RateLimit-Policy and X-RateLimit-*; 429 says in \
                   Retry-After when the next one passes. Besides, a tenant and an API key have a \
                   quota a day (UTC), logins of one account a limit of their own, and a client \
                   that goes on for five minutes without minding Retry-After is blocked for 15.",
            defaults: Limits::default(),
            logins_per_address: LOGINS_PER_ADDRESS,
            logins_per_account: LOGINS_PER_ACCOUNT,
            classes,
        },
        error_handling: ErrorHandlingOut {
            content_type: "application/problem+json",
            fields: BTreeMap::from(PROBLEM_FIELDS),
            codes: Code::ALL
                .iter()
                .map(|code| CodeOut {
                    code: code.code(),
                    status: code.status(),
                    title: code.title(),
                })
                .collect(),
        },
        examples: "Taken from a scripted run of this application: the clock was set by hand \
                   and the partners' answers were written beforehand. They say nothing about the real \
                   partners. Lists and dictionaries of replies are cut to their first \
                   two entries.",
        endpoints: endpoints.collect(),
        last_updated: format!("{RELEASED}T00:00:00.000Z"),
    })
}

const PROBLEM_FIELDS: [(&str, &str); 9] = [
    ("type", "URI that names the kind of problem"),
    ("title", "the kind of problem in words, always the same for a code"),
    ("status", "the HTTP status"),
    ("detail", "what went wrong this time"),
    ("instance", "the path that was asked"),
    ("code", "the kind of problem for programs, stable"),
    ("request_id", "name of the request in the log; quote it in a report"),
    ("violated-policies", "list of the limits that the request is over, with 429"),
    ("errors", "list of {pointer, detail}: the fields that are wrong, where there are any"),
];

/// GET `/docs`: the page. Its script reads `/openapi.json`.
pub async fn page(cx: Cx) -> Result<Reply, Problem> {
    let html = render_page(cx.app.routes);
    let reply = Reply::bytes(StatusCode::OK, "text/html; charset=utf-8", html);
    Ok(reply.with_constant(PAGE_HEADERS))
}

fn render_page(routes: &[Endpoint]) -> String {
    let mut rows = String::new();
    for route in routes {
        let access = match route.access {
            Access::Public => "anyone".to_owned(),
            Access::PublicHealth(permission) => format!("anyone, or {}", permission.name()),
            Access::Authenticated => "any token or API key".to_owned(),
            Access::User => "any user".to_owned(),
            Access::Requires(permission) => permission.name().to_owned(),
        };
        rows.push_str(&format!(
            "<tr><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td></tr>\n",
            route.method,
            escape(route.path),
            escape(&access),
            escape(route.summary),
        ));
    }
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>DevSkyy Orchestration API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs-assets/swagger-ui.css">
<link rel="stylesheet" href="/docs-assets/page.css">
<script src="/docs-assets/swagger-ui-bundle.js" defer></script>
<script src="/docs-assets/page.js" defer></script>
</head>
<body>
<main id="docs"></main>
<noscript>
<h1>DevSkyy Orchestration API</h1>
<p>Without scripts, this is the list of endpoints. All of it is in <a href="/openapi.json">openapi.json</a>.</p>
<table>
<thead><tr><th>Method</th><th>Path</th><th>Who</th><th>What</th></tr></thead>
<tbody>
{rows}</tbody>
</table>
</noscript>
</body>
</html>
"#
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The page's files: name in the URL, place at the file server, media type.
/// Ours are in `docs/`; `make` copies those of Swagger UI to `docs-assets/`.
pub(super) const FILES: &[(&str, &str, &str)] = &[
    ("page.js", "/docs/page.js", SCRIPT),
    ("page.css", "/docs/page.css", STYLE),
    ("swagger-ui-bundle.js", "/docs-assets/swagger-ui-bundle.js", SCRIPT),
    ("swagger-ui.css", "/docs-assets/swagger-ui.css", STYLE),
    ("swagger-ui-bundle.js.LICENSE.txt", "/docs-assets/swagger-ui-bundle.js.LICENSE.txt", TEXT),
    ("LICENSE", "/docs-assets/LICENSE", TEXT),
    ("NOTICE", "/docs-assets/NOTICE", TEXT),
];
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// GET `/docs-assets/{file}`.
pub async fn asset(cx: Cx) -> Result<Reply, Problem> {
    let name = cx.param("file")?;
    let missing = || Problem::not_found("the page at /docs has no such file");
    let (_, path, media) = FILES.iter().find(|(known, ..)| *known == name).ok_or_else(missing)?;
    let asset = cx.app.platform.assets.get(path).await?.ok_or_else(missing)?;
    Ok(Reply::bytes(StatusCode::OK, media, asset.bytes).with_constant(DOCUMENT_HEADERS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::ProblemOut;

    #[test]
    fn released_on_the_day_of_the_newest_changelog_entry() {
        let changelog =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md")).unwrap();
        let newest = changelog
            .lines()
            .filter_map(|line| line.strip_prefix("## [")?.split_once("] - "))
            .next()
            .unwrap();
        assert_eq!(newest, (env!("CARGO_PKG_VERSION"), RELEASED));
    }

    #[test]
    fn the_fields_of_a_problem_are_all_explained() {
        let schema = schemars::schema_for!(ProblemOut);
        let fields: Vec<_> =
            schema.get("properties").unwrap().as_object().unwrap().keys().collect();
        let mut explained = PROBLEM_FIELDS.map(|(name, _)| name);
        explained.sort_unstable();
        assert_eq!(explained.as_slice(), fields);
    }

    #[test]
    fn html_is_escaped() {
        assert_eq!(escape(r#"<a href="x">&"#), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}

//! The eleven routes: their fields, what they say of data that is not there,
//! who may call them, and what every reply carries.

use crate::support::{API, OTHER_TENANT, TestApp, TestReply, TestRequest};
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::auth::token::Grant;
use devskyy_orchestration::domain::decision::policy;
use devskyy_orchestration::domain::decision::receipt::canonical;
use devskyy_orchestration::domain::time::{MINUTE_MS, Timestamp};
use devskyy_orchestration::entry::native::{ADMIN_PASSWORD, ADMIN_USERNAME, SIGNING_KEY};
use devskyy_orchestration::http::app::Matched;
use devskyy_orchestration::platform::Vars;
use devskyy_orchestration::platform::native::{Fault, Script};
use devskyy_orchestration::routes::ROUTES;
use devskyy_orchestration::store::MIGRATIONS;
use devskyy_orchestration::store::kv::SELF_CHECK_KEY;
use devskyy_orchestration::store::tenants::DEFAULT_TENANT_ID;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

const SEEDS: [&str; 6] = [
    "chatgpt_customer",
    "claude_strategic",
    "cursor_technical",
    "gemini_visual",
    "grok_brand",
    "perplexity_research",
];

/// A key as a production deployment has it.
const PRODUCTION_KEY: &str = "ed25519:AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

const ORIGIN: &str = "https://console.example.com";

fn api(path: &str) -> String {
    format!("{API}{path}")
}

/// Nothing but the first admin: no tick has run.
fn bootstrapped() -> TestApp {
    let app = TestApp::new();
    log_in(&app);
    app
}

fn log_in(app: &TestApp) -> String {
    let body = json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD });
    let reply = app.post("/api/v1/auth/login").json(body).send().expect(200);
    reply["access_token"].as_str().unwrap().to_owned()
}

fn acme() -> Value {
    json!({
        "id": "acme_search", "name": "Search", "partner": "Acme", "aliases": ["acme"],
        "probes": [{ "key": "api", "url": "https://api.acme-partner.com/" }],
        "kpis": [{ "name": "speed", "target": 10, "unit": "pages/s", "direction": "higher" }],
        "deliverables": [{ "key": "index_rebuild" }],
    })
}

fn with_acme() -> TestApp {
    let app = TestApp::seeded();
    app.post(&api("/partnerships")).bearer(&app.admin()).json(acme()).send().expect(201);
    app
}

// ---- the fields of the contract ----

/// Checks a document against a shape: names of types, `?` behind those that
/// may be null, `*` for every name of a dictionary, one item for all of a list.
/// Fields that the shape does not name are fine.
#[track_caller]
fn fits(place: &str, value: &Value, shape: &Value) {
    match shape {
        Value::String(kind) => {
            let (kind, nullable) = match kind.strip_suffix('?') {
                Some(kind) => (kind, true),
                None => (kind.as_str(), false),
            };
            let fits = match kind {
                "text" => value.is_string(),
                "number" => value.is_number(),
                "flag" => value.is_boolean(),
                "time" => value.as_str().is_some_and(is_time),
                other => value == other,
            };
            assert!(fits || (nullable && value.is_null()), "{place}: {value} is no {shape}");
        }
        Value::Array(item) => {
            let list = value.as_array().unwrap_or_else(|| panic!("{place}: {value} is no list"));
            for (index, value) in list.iter().enumerate() {
                fits(&format!("{place}/{index}"), value, &item[0]);
            }
        }
        Value::Object(fields) => {
            let found =
                value.as_object().unwrap_or_else(|| panic!("{place}: {value} is no object"));
            for (name, shape) in fields {
                if name == "*" {
                    for (name, value) in found {
                        fits(&format!("{place}/{name}"), value, shape);
                    }
                } else {
                    let value =
                        found.get(name).unwrap_or_else(|| panic!("{place} has no {name}: {value}"));
                    fits(&format!("{place}/{name}"), value, shape);
                }
            }
        }
        other => panic!("not a shape: {other}"),
    }
}

/// RFC 3339 in UTC with milliseconds and `Z`, letter by letter.
fn is_time(text: &str) -> bool {
    Timestamp::parse(text).is_ok_and(|at| at.to_rfc3339() == text)
}

fn metric() -> Value {
    json!({
        "value": "number?", "unit": "text", "target": "number?", "direction": "text?",
        "n": "number", "coverage": "number?", "ci95": ["number"], "window": "text",
        "observed_at": "time?", "source": "text?", "state": "text",
    })
}

fn metric_without_value() -> Value {
    let mut shape = metric();
    shape["ci95"] = "none?".into();
    shape
}

fn term() -> Value {
    json!({
        "name": "text", "weight": "number", "actual": "number?", "target": "number?",
        "unit": "text", "attainment": "number?", "points": "number?", "state": "text",
        "rule": "text",
    })
}

/// Each of the eleven with the shape of its reply; those of the contract and
/// what the service adds to them.
fn shapes() -> Vec<(&'static str, Value)> {
    let partnership = json!({
        "id": "text", "name": "text", "health": "text", "progress": "number?",
        "deliverables": [{
            "name": "text", "progress": "number?", "status": "text?", "due_date": "text?",
            "weight": "number", "updated_by": "text?",
        }],
        "score": "number?", "coverage": "number", "verdict": "text", "terms": [term()],
    });
    let metrics = json!({
        "partnership_type": "text", "metrics": { "*": "number" }, "timestamp": "time",
        "details": { "*": {} },
    });
    vec![
        (
            "/health",
            json!({
                "status": "text", "last_updated": "time?",
                "partnerships": { "*": {
                    "health": "text", "score": "number?", "verdict": "text", "coverage": "number",
                    "terms": [term()], "metrics": { "*": {} }, "partner_status_page": {},
                    "observed_at": "time?",
                } },
            }),
        ),
        ("/metrics", json!([metrics.clone()])),
        ("/metrics/technical", metrics),
        ("/partnerships", json!([partnership.clone()])),
        ("/partnerships/cursor_technical/status", partnership),
        (
            "/status",
            json!({
                "overall_status": "text", "components": { "*": "text" },
                "resource_usage": {
                    "d1_rows": { "*": "number" }, "d1_bytes": "number?",
                    "observations_stored": "number?", "observations_total": "number?",
                    "object_bytes": "number?", "observations_per_minute": "number?",
                    "wasm_memory_bytes": "number?",
                },
                "recent_activity": [
                    { "timestamp": "time", "event": "text", "status": "text", "actor": "text" }
                ],
                "last_check": "time", "next_check": "time",
            }),
        ),
        (
            "/config",
            json!({
                "configuration": {
                    "api_settings": {}, "security_settings": {}, "orchestration_settings": {},
                    "partnership_settings": {},
                },
                "last_updated": "time", "version": "number",
            }),
        ),
        (
            "/deployment/readiness",
            json!({
                "overall_status": "text", "readiness_score": "number",
                "checks": { "*": { "status": "text", "message": "text", "checked_at": "time?" } },
                "summary": {
                    "total_checks": "number", "passed": "number", "warnings": "number",
                    "failed": "number", "not_run": "number",
                },
                "recommendations": ["text"], "last_check": "time",
            }),
        ),
        (
            "/info",
            json!({
                "system": "text", "version": "text", "status": "text", "partnerships": "number",
                "features": ["text"], "api_version": "text", "statistics": { "*": "number" },
                "last_updated": "time?",
                "user": { "id": "text", "role": "text", "permissions": ["text"] },
            }),
        ),
        (
            "/docs/endpoints",
            json!({
                "api_version": "text", "base_url": "/api/v1/orchestration",
                "authentication": {}, "rate_limiting": {}, "error_handling": {},
                "endpoints": [{
                    "method": "text", "path": "text", "description": "text", "access": "text",
                }],
                "last_updated": "text",
            }),
        ),
    ]
}

#[test]
fn every_route_has_the_fields_of_the_contract_with_and_without_data() {
    for (state, app) in [("before any data", bootstrapped()), ("after a tick", TestApp::measured())]
    {
        for (path, shape) in shapes() {
            fits(&format!("{state}, {path}"), &app.read(&api(path)), &shape);
        }
        let decision = app
            .post(&api("/decisions"))
            .bearer(&app.admin())
            .json(json!({ "context": { "estimated_cost": 100, "expected_revenue": 90 } }))
            .send()
            .expect(200);
        let shape = json!({
            "decision": "text", "rationale": "text",
            "implementation_plan": [
                { "phase": "text", "duration_days": "number?", "activities": ["text"] }
            ],
            "success_metrics": ["text"], "risk_mitigation": ["text"],
            "decision_id": "text", "kind": "appraisal", "decided_at": "time", "author": "text",
        });
        fits(&format!("{state}, /decisions"), &decision, &shape);
    }
}

#[test]
fn endpoints_are_listed_with_examples() {
    let app = bootstrapped();
    let listed = app.read(&api("/docs/endpoints"));
    let endpoints = listed["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), ROUTES.len());
    for endpoint in endpoints {
        for field in ["request_example", "response_example"] {
            assert!(endpoint.get(field).is_some(), "{endpoint} has no {field}");
        }
    }
}

// ---- nothing is made up ----

#[test]
fn before_any_data_no_metric_has_a_value() {
    let app = bootstrapped();
    let all = app.read(&api("/metrics"));
    let listed: Vec<&str> =
        all.as_array().unwrap().iter().map(|m| m["partnership_type"].as_str().unwrap()).collect();
    assert_eq!(listed, SEEDS);
    for partnership in all.as_array().unwrap() {
        assert_eq!(partnership["metrics"], json!({}), "{partnership}");
        let details = partnership["details"].as_object().unwrap();
        assert!(details.len() > 7, "{partnership}");
        for (name, detail) in details {
            let place = format!("{}/{name}", partnership["partnership_type"]);
            fits(&place, detail, &metric_without_value());
            for field in ["value", "ci95", "observed_at", "source"] {
                assert_eq!(detail[field], Value::Null, "{place}: {field}");
            }
            assert_eq!((&detail["n"], &detail["state"]), (&json!(0), &json!("no_data")), "{place}");
            let observed = detail["window"] == "24h";
            // No minute of the window was covered: that is known.
            let coverage = if observed { json!(0.0) } else { Value::Null };
            assert_eq!(detail["coverage"], coverage, "{place}");
        }
    }
}

#[test]
fn before_any_data_every_partnership_is_unknown() {
    let app = bootstrapped();
    let health = app.read(&api("/health"));
    assert_eq!(health["status"], "unknown");
    let of_health = health["partnerships"].as_object().unwrap();
    assert_eq!(of_health.keys().collect::<Vec<_>>(), SEEDS);
    for (id, known) in of_health {
        assert_eq!(known["health"], "unknown", "{id}");
        assert_eq!(known["verdict"], "unknown", "{id}");
        assert_eq!(known["score"], Value::Null, "{id}");
        assert_eq!(known["coverage"], 0.0, "{id}");
        assert_eq!(known["observed_at"], Value::Null, "{id}");
        for term in known["terms"].as_array().unwrap() {
            for field in ["actual", "attainment", "points"] {
                assert_eq!(term[field], Value::Null, "{id}: {term}");
            }
        }
        let page = &known["partner_status_page"];
        assert_eq!((&page["state"], &page["indicator"]), (&json!("not_run"), &json!("unknown")));
    }
    for partnership in app.read(&api("/partnerships")).as_array().unwrap() {
        assert_eq!(partnership["score"], Value::Null);
        assert_eq!(partnership["progress"], Value::Null);
        let deliverables = partnership["deliverables"].as_array().unwrap();
        assert!(!deliverables.is_empty(), "{partnership}");
        for deliverable in deliverables {
            for field in ["progress", "status", "due_date", "completed_at", "updated_by"] {
                assert_eq!(deliverable[field], Value::Null, "{deliverable}");
            }
        }
    }
    let usage = &app.read(&api("/status"))["resource_usage"];
    assert_eq!(usage["observations_stored"], 0);
    assert_eq!(usage["observations_total"], 0);
    assert_eq!(usage["observations_per_minute"], Value::Null);
    assert_eq!(usage["wasm_memory_bytes"], Value::Null, "the host has none");
    let info = app.read(&api("/info"));
    assert_eq!(info["status"], "unknown");
    for count in ["partnerships_with_score", "kpis_with_value", "observations_total", "decisions"] {
        assert_eq!(info["statistics"][count], 0, "{count}");
    }
}

#[test]
fn a_service_without_any_tenant_says_that_it_knows_nothing() {
    let app = TestApp::new();
    let health = app.get(&api("/health")).send().expect(200);
    assert_eq!(health, json!({ "status": "unknown", "partnerships": {}, "last_updated": null }));
}

#[test]
fn after_one_tick_metrics_say_what_one_observation_can() {
    let app = TestApp::measured();
    let cursor = app.read(&api("/metrics/cursor_technical"));
    let expected = json!({
        "uptime": 100.0, "success_rate": 100.0, "error_rate": 0.0, "requests_per_minute": 1.0,
        "response_time": 120.0, "response_time_p95": 120.0, "response_time_p99": 120.0,
    });
    assert_eq!(cursor["metrics"], expected, "and no KPI, as nobody sent one");
    let uptime = &cursor["details"]["uptime"];
    fits("uptime", uptime, &metric());
    // Wilson of 1 of 1: 1 / (1 + 1.96²) = 0.206543…
    assert_eq!(uptime["ci95"], json!([20.6543, 100.0]));
    assert_eq!(uptime["n"], 1);
    // 1 minute of 1,440.
    assert_eq!(uptime["coverage"], 0.0007);
    assert_eq!(uptime["source"], "probe");
    assert_eq!(uptime["state"], "ok");
    assert_eq!(uptime["observed_at"], app.now().to_rfc3339());
    assert_eq!(cursor["details"]["security_score"]["value"], Value::Null);

    let health = app.read(&api("/health"));
    assert_eq!(health["status"], "healthy");
    let cursor = &health["partnerships"]["cursor_technical"];
    assert_eq!(
        (&cursor["health"], &cursor["score"], &cursor["verdict"], &cursor["coverage"]),
        (&json!("excellent"), &json!(100.0), &json!("up"), &json!(0.4))
    );
    assert_eq!(health["last_updated"], app.now().to_rfc3339());
    let info = app.read(&api("/info"));
    assert_eq!(info["partnerships"], 6);
    assert_eq!(info["statistics"]["observations_total"], 6);
    assert_eq!(info["statistics"]["partnerships_with_score"], 6);
}

// ---- /health, for whom it says how much ----

#[test]
fn health_says_to_each_caller_what_is_meant_for_him() {
    let app = TestApp::measured();
    let anyone = app.get(&api("/health")).send().expect(200);
    let one = json!({ "health": "excellent", "score": 100.0 });
    let six: Map<String, Value> = SEEDS.iter().map(|id| ((*id).to_owned(), one.clone())).collect();
    let now = app.now().to_rfc3339();
    assert_eq!(
        anyone,
        json!({ "status": "healthy", "partnerships": six, "last_updated": now }),
        "nothing beside these"
    );
    let refused = app.get(&api("/health")).bearer("no.such.token").send();
    assert_eq!(refused.problem(401), "invalid_token");
    let refused = app.get(&api("/health")).bearer(&app.token(Role::Viewer)).send();
    assert_eq!(refused.problem(403), "forbidden");
    let allowed = app.get(&api("/health")).bearer(&app.token(Role::MetricsViewer)).send();
    let cursor = &allowed.expect(200)["partnerships"]["cursor_technical"];
    for evidence in ["verdict", "coverage", "terms", "metrics", "observed_at"] {
        assert!(!cursor[evidence].is_null(), "{evidence}: {cursor}");
    }
}

#[test]
fn health_asks_for_a_token_where_it_is_not_public() {
    for (value, status) in [("false", 401), ("true", 200)] {
        let app = TestApp::with_vars(|vars| vars.set("PUBLIC_HEALTH", value));
        assert_eq!(app.get(&api("/health")).send().status, status, "PUBLIC_HEALTH={value}");
        let viewer = app.get(&api("/health")).bearer(&app.token(Role::Viewer)).send();
        assert_eq!(viewer.status, 403, "PUBLIC_HEALTH={value}");
        let allowed = app.get(&api("/health")).bearer(&app.admin()).send();
        assert_eq!(allowed.status, 200, "PUBLIC_HEALTH={value}");
    }
}

#[test]
fn a_partner_that_is_down_keeps_the_system_from_being_healthy() {
    let app = TestApp::measured();
    app.platform.outbound.script(crate::support::CURSOR_PROBE, Script::Status(503, 10.0));
    for _ in 0..2 {
        app.next_minute();
    }
    let health = app.get(&api("/health")).send().expect(200);
    assert_eq!(health["status"], "degraded");
    // 1 of 3 was good: below the floor of 95 %.
    assert_eq!(
        health["partnerships"]["cursor_technical"],
        json!({ "health": "poor", "score": 0.0 })
    );
}

// ---- who may call what ----

/// Roles in the order of the columns below.
const ROLES: [Role; 6] = [
    Role::Admin,
    Role::SystemAdmin,
    Role::OrchestrationManager,
    Role::Viewer,
    Role::Ingest,
    Role::MetricsViewer,
];

struct Row {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    by_role: [u16; 6],
    /// With no token at all.
    anyone: u16,
    /// What a caller of another tenant gets where his role would do.
    foreign: u16,
}

fn row(
    method: &'static str,
    path: &'static str,
    by_role: [u16; 6],
    anyone: u16,
    foreign: u16,
) -> Row {
    Row { method, path, body: None, by_role, anyone, foreign }
}

impl Row {
    fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn whole_path(&self) -> String {
        match self.path.strip_prefix('/') {
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(path) if path.starts_with("api/") => self.path.to_owned(),
            _ => api(self.path),
        }
    }

    fn request<'a>(&self, app: &'a TestApp) -> TestRequest<'a> {
        let request = app.request(self.method, &self.whole_path());
        match &self.body {
            Some(body) => request.json(body.clone()),
            None => request,
        }
    }
}

/// The contract's roles, written out: admin, system_admin,
/// orchestration_manager, viewer, ingest, metrics_viewer.
fn access() -> Vec<Row> {
    let at = "2026-01-31T12:00:00Z";
    vec![
        row("GET", "/health", [200, 200, 200, 403, 403, 200], 200, 200),
        row("GET", "/metrics", [200, 200, 200, 403, 403, 200], 401, 200),
        // At the origin, not under the API.
        row("GET", "//metrics", [200, 200, 200, 403, 403, 200], 401, 200),
        row("GET", "/metrics/acme_search", [200, 200, 200, 403, 403, 200], 401, 404),
        row("POST", "/decisions", [200, 403, 200, 403, 403, 403], 401, 200)
            .body(json!({ "context": {} })),
        row("GET", "/partnerships", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/partnerships/acme_search/status", [200, 200, 200, 403, 403, 403], 401, 404),
        row("GET", "/partnerships/acme_search", [200, 200, 200, 403, 403, 403], 401, 404),
        row(
            "GET",
            "/partnerships/acme_search/deliverables/index_rebuild",
            [200, 200, 200, 403, 403, 403],
            401,
            404,
        ),
        row("GET", "/partnerships/acme_search/slos", [200, 200, 200, 403, 403, 403], 401, 404),
        row("POST", "/partnerships/acme_search/slos", [201, 201, 201, 403, 403, 403], 401, 404)
            .body(json!({
                "key": "fast", "kind": "latency", "target_percent": 99, "threshold_ms": 400,
                "period_days": 7,
            })),
        row(
            "GET",
            "/partnerships/acme_search/slos/availability",
            [200, 200, 200, 403, 403, 403],
            401,
            404,
        ),
        row(
            "PATCH",
            "/partnerships/acme_search/slos/availability",
            [200, 200, 200, 403, 403, 403],
            401,
            404,
        )
        .body(json!({ "period_days": 7 })),
        row(
            "DELETE",
            "/partnerships/acme_search/slos/availability",
            [204, 204, 204, 403, 403, 403],
            401,
            404,
        ),
        row(
            "GET",
            "/partnerships/acme_search/maintenance",
            [200, 200, 200, 403, 403, 403],
            401,
            404,
        ),
        row(
            "POST",
            "/partnerships/acme_search/maintenance",
            [201, 201, 201, 403, 403, 403],
            401,
            404,
        )
        .body(json!({
            "name": "patching",
            "once": { "starts_at": at, "ends_at": "2026-01-31T14:00:00Z" },
        })),
        row(
            "DELETE",
            "/partnerships/acme_search/maintenance/mwn_target",
            [204, 204, 204, 403, 403, 403],
            401,
            404,
        ),
        row("GET", "/incidents", [200, 200, 200, 403, 403, 403], 401, 200),
        // There is none of this id: what incidents do has tests of its own.
        row("GET", "/incidents/inc_target", [404, 404, 404, 403, 403, 403], 401, 404),
        row("POST", "/incidents/inc_target/acknowledge", [404, 404, 404, 403, 403, 403], 401, 404),
        row("POST", "/incidents/inc_target/resolve", [404, 404, 404, 403, 403, 403], 401, 404),
        row("POST", "/incidents/inc_target/notes", [404, 404, 404, 403, 403, 403], 401, 404)
            .body(json!({ "text": "a note" })),
        row("POST", "/alert-policies/simulate", [200, 200, 200, 403, 403, 403], 401, 200)
            .body(json!({ "days": 1 })),
        row("GET", "/decisions", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/decisions/quality", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/decisions/dec_target", [200, 200, 200, 403, 403, 403], 401, 404),
        // It was decided before there were receipts.
        row("POST", "/decisions/dec_target/replay", [409, 409, 409, 403, 403, 403], 401, 404),
        row("POST", "/decisions/dec_target/what-if", [409, 409, 409, 403, 403, 403], 401, 404)
            .body(json!({})),
        row("POST", "/decisions/dec_target/outcome", [201, 403, 201, 403, 403, 403], 401, 404)
            .body(json!({ "outcome": "rejected" })),
        // Every tenant has its own of this name.
        row("GET", "/policies", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/policies/standard", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/policies/standard/versions", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/policies/standard/versions/1", [200, 200, 200, 403, 403, 403], 401, 200),
        // Without If-Match.
        row("PUT", "/policies/standard", [428, 403, 403, 403, 403, 403], 401, 428)
            .body(serde_json::to_value(policy::shipped().unwrap()).unwrap()),
        row("POST", "/policies/standard/rehearse", [200, 200, 200, 403, 403, 403], 401, 200)
            .body(json!({ "document": policy::shipped().unwrap(), "days": 1 })),
        row("GET", "/activity", [200, 200, 200, 403, 403, 403], 401, 200),
        row("PATCH", "/config", [200, 403, 403, 403, 403, 403], 401, 200)
            .body(json!({ "limits": { "ingest": 700 } })),
        row("GET", "/rate-limits/usr_target", [200, 403, 403, 403, 403, 403], 401, 404),
        row("DELETE", "/rate-limits/usr_target", [204, 403, 403, 403, 403, 403], 401, 404),
        row("GET", "/channels", [200, 200, 403, 403, 403, 403], 401, 200),
        row("POST", "/channels", [201, 201, 403, 403, 403, 403], 401, 201)
            .body(json!({ "kind": "slack", "name": "ops", "url": "https://hooks.example.org/x" })),
        row("GET", "/channels/chn_target", [200, 200, 403, 403, 403, 403], 401, 404),
        row("PATCH", "/channels/chn_target", [200, 200, 403, 403, 403, 403], 401, 404)
            .body(json!({ "name": "other" })),
        row("DELETE", "/channels/chn_target", [204, 204, 403, 403, 403, 403], 401, 404),
        row("POST", "/channels/chn_target/test", [200, 200, 403, 403, 403, 403], 401, 404),
        row("GET", "/channels/chn_target/deliveries", [200, 200, 403, 403, 403, 403], 401, 404),
        // There is none.
        row("POST", "/deliveries/dlv_none/replay", [404, 404, 403, 403, 403, 403], 401, 404),
        row("GET", "/api/v1/auth/keys", [200, 403, 403, 403, 403, 403], 401, 200),
        row("POST", "/api/v1/auth/keys", [201, 403, 403, 403, 403, 403], 401, 201)
            .body(json!({ "name": "scraper", "permissions": ["metrics:read"] })),
        row("GET", "/api/v1/auth/keys/key_target", [200, 403, 403, 403, 403, 403], 401, 404),
        row("DELETE", "/api/v1/auth/keys/key_target", [204, 403, 403, 403, 403, 403], 401, 404),
        row(
            "POST",
            "/api/v1/auth/keys/key_target/rotate",
            [201, 403, 403, 403, 403, 403],
            401,
            404,
        )
        .body(json!({})),
        row("GET", "/status", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/config", [200, 403, 403, 403, 403, 403], 401, 200),
        row("GET", "/deployment/readiness", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/info", [200, 200, 200, 403, 403, 403], 401, 200),
        row("GET", "/docs/endpoints", [200, 200, 200, 403, 403, 403], 401, 200),
        row("POST", "/partnerships", [201, 201, 201, 403, 403, 403], 401, 201)
            .body(json!({ "id": "new_one", "name": "New", "partner": "New" })),
        row("PATCH", "/partnerships/acme_search", [200, 200, 200, 403, 403, 403], 401, 404)
            .body(json!({ "name": "Other" })),
        row("DELETE", "/partnerships/acme_search", [204, 204, 204, 403, 403, 403], 401, 404),
        row(
            "PUT",
            "/partnerships/acme_search/deliverables/index_rebuild",
            [200, 200, 200, 403, 403, 403],
            401,
            404,
        )
        .body(json!({ "completion_percentage": 50, "status": "in_progress" })),
        row(
            "POST",
            "/partnerships/acme_search/observations",
            [202, 403, 403, 403, 202, 403],
            401,
            404,
        )
        .body(json!([{ "at": at, "outcome": "up", "source": "gateway" }])),
        row(
            "POST",
            "/partnerships/acme_search/kpis/speed",
            [202, 403, 403, 403, 202, 403],
            401,
            404,
        )
        .body(json!({ "value": 1, "at": at })),
        row("GET", "/backups", [200, 200, 403, 403, 403, 403], 401, 404),
        row("POST", "/backups", [202, 403, 403, 403, 403, 403], 401, 404),
        row("GET", "/backups/bak_target", [200, 200, 403, 403, 403, 403], 401, 404),
        row("POST", "/backups/bak_target/verify", [200, 403, 403, 403, 403, 403], 401, 404),
        // Not in the bucket.
        row("POST", "/backups/bak_target/restore", [409, 403, 403, 403, 403, 403], 401, 404),
        // No user of this id in the other tenant, so he is nobody there.
        row("GET", "/api/v1/auth/me", [200; 6], 401, 401),
        row("POST", "/api/v1/auth/logout", [204; 6], 401, 204)
            .body(json!({ "refresh_token": "x" })),
        // Everybody may try; this is not his password.
        row("PUT", "/api/v1/auth/password", [422; 6], 401, 401)
            .body(json!({ "current_password": "not this one", "new_password": "nor this one" })),
        row("GET", "/api/v1/auth/users", [200, 403, 403, 403, 403, 403], 401, 200),
        row("POST", "/api/v1/auth/users", [201, 403, 403, 403, 403, 403], 401, 201).body(
            json!({ "username": "grace", "password": "a password of hers", "role": "viewer" }),
        ),
        row("PATCH", "/api/v1/auth/users/usr_target", [200, 403, 403, 403, 403, 403], 401, 404)
            .body(json!({ "role": "ingest" })),
    ]
}

/// A world in which every row of the table has what it is about, in the
/// default tenant; the other tenant has its seeds.
fn world_of(role: Role) -> TestApp {
    let app = with_acme();
    app.add_other_tenant();
    app.add_own_user(role);
    app.run(
        "INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, \
         created_at, created_by, updated_at) \
         VALUES ('usr_target', 'ten_default', 'target', 'x', 'admin', 'viewer', 0, 'system', 0)"
            .to_owned(),
    );
    add_backup(&app);
    add_key(&app);
    add_maintenance(&app, "acme_search");
    app.add_channel();
    app.add_decision();
    app
}

fn add_maintenance(app: &TestApp, partnership: &str) {
    app.run(format!(
        "INSERT INTO maintenance_windows (id, tenant_id, partnership_id, name, schedule, \
         created_at, created_by) VALUES ('mwn_target', 'ten_default', '{partnership}', 'target', \
         '{{\"weekly\":{{\"days\":[\"sunday\"],\"start\":\"02:30\",\"minutes\":1,\"time_zone\":\"UTC\"}}}}', \
         0, 'system')"
    ));
}

/// A whole set without a file.
fn add_backup(app: &TestApp) {
    app.run(
        "INSERT INTO backups (id, state, started_at, finished_at, rows_stored, bytes_stored, \
         manifest, lease, lease_until) VALUES ('bak_target', 'good', 0, 0, 0, 0, \
         '{\"id\":\"bak_target\",\"format\":1,\"schema_version\":\"\",\"app_version\":\"\",\
         \"started_at\":\"1970-01-01T00:00:00.000Z\",\
         \"finished_at\":\"1970-01-01T00:00:00.000Z\",\"files\":[]}', '', 0)"
            .to_owned(),
    );
}

fn add_key(app: &TestApp) {
    app.run(format!(
        "INSERT INTO api_keys (id, tenant_id, name, prefix, secret_hash, permissions, \
         created_at, created_by, expires_at) VALUES ('key_target', 'ten_default', 'target', \
         'dsk_0000000000', 'x', '[\"metrics:read\"]', 0, 'system', {})",
        app.now().plus_ms(60 * MINUTE_MS).millis()
    ));
}

#[test]
fn each_role_may_do_what_the_contract_says_and_nothing_else() {
    for row in access() {
        for (role, expected) in ROLES.into_iter().zip(row.by_role) {
            let app = world_of(role);
            let reply = row.request(&app).bearer(&app.token(role)).send();
            let place = format!("{} {} as {}", row.method, row.path, role.name());
            assert_eq!(reply.status, expected, "{place}: {}", reply.text);
            if expected == 403 {
                assert_eq!(reply.problem(403), "forbidden", "{place}");
            }
        }
    }
}

#[test]
fn without_a_valid_token_nobody_may_do_anything() {
    let app = world_of(Role::Admin);
    let tokens: Vec<String> = ROLES.iter().map(|role| app.token(*role)).collect();
    app.platform.clock.advance_ms(15 * MINUTE_MS);
    for row in access() {
        let place = format!("{} {}", row.method, row.path);
        let reply = row.request(&app).send();
        assert_eq!(reply.status, row.anyone, "{place} without a token: {}", reply.text);
        if row.anyone == 401 {
            assert_eq!(reply.problem(401), "unauthenticated", "{place}");
            assert_eq!(reply.headers["www-authenticate"], "Bearer", "{place}");
        }
        for token in &tokens {
            let reply = row.request(&app).bearer(token).send();
            assert_eq!(reply.problem(401), "invalid_token", "{place} with an expired token");
            let challenge = &reply.headers["www-authenticate"];
            assert!(challenge.contains("error=\"invalid_token\""), "{place}: {challenge}");
        }
    }
}

#[test]
fn a_caller_of_another_tenant_finds_nothing_of_ours() {
    for row in access() {
        for (role, own) in ROLES.into_iter().zip(row.by_role) {
            let app = world_of(role);
            let revisions = "SELECT COUNT(*) AS n FROM activity WHERE tenant_id = 'ten_default'";
            let before = app.count(revisions);
            let reply = row.request(&app).bearer(&app.token_of(OTHER_TENANT, role)).send();
            let expected = if own == 403 { 403 } else { row.foreign };
            let place = format!("{} {} as {} of another tenant", row.method, row.path, role.name());
            assert_eq!(reply.status, expected, "{place}: {}", reply.text);
            assert!(!reply.text.contains("Acme"), "{place}: {}", reply.text);
            assert_eq!(app.count(revisions), before, "{place} left something in our tenant");
        }
    }
}

#[test]
fn the_table_above_names_every_route_that_takes_a_token() {
    let app = TestApp::new();
    let guarded = ROUTES
        .iter()
        .filter(|route| {
            let path = route.path.replace(['{', '}'], "");
            let reply = app.request(route.method.as_str(), &path).bearer("garbage").send();
            reply.json["code"] == "invalid_token"
        })
        .count();
    assert_eq!(guarded, access().len());
}

// ---- the same, generated from the route table and the grants, for API keys as well ----

/// `tests/access.json`, which `make generate` writes and workerd is tried with.
#[derive(Deserialize)]
struct AccessTable {
    /// SQL that makes what the rows name.
    given: Vec<String>,
    /// What an API key may be given.
    key_permissions: Vec<String>,
    rows: Vec<AccessRow>,
}

#[derive(Deserialize)]
struct AccessRow {
    id: String,
    method: String,
    path: String,
    permission: Option<String>,
    body: Value,
    /// SQL that puts back what an earlier success used up.
    before: Vec<String>,
    expected: BTreeMap<String, u16>,
}

fn access_table() -> AccessTable {
    serde_json::from_str(include_str!("../access.json")).unwrap()
}

impl AccessTable {
    /// Where every row finds what it names.
    fn world(&self) -> TestApp {
        let app = TestApp::seeded();
        app.platform.assets.put("/docs/page.js", "text/javascript", b"text");
        for sql in self.given.iter().chain(self.rows.iter().flat_map(|row| &row.before)) {
            app.run(sql.clone());
        }
        app
    }

    /// The permissions of the API key that stands for this column, if one does.
    fn key(&self, row: &AccessRow, who: &str) -> Option<Vec<String>> {
        let needed = row.permission.as_ref().filter(|name| self.key_permissions.contains(name));
        let mut permissions = self.key_permissions.clone();
        match (who, needed) {
            ("api_key", Some(needed)) => permissions.retain(|name| name == needed),
            ("api_key_without", Some(needed)) => permissions.retain(|name| name != needed),
            ("api_key" | "api_key_without", None) => {}
            _ => return None,
        }
        Some(permissions)
    }

    fn credential(&self, app: &TestApp, row: &AccessRow, who: &str) -> Option<String> {
        if let Some(permissions) = self.key(row, who) {
            let body = json!({ "name": "of the table", "permissions": permissions });
            let admin = token_for(app, DEFAULT_TENANT_ID, "admin", Role::Admin, 0);
            let made = app.post("/api/v1/auth/keys").bearer(&admin).json(body).send().expect(201);
            return Some(made["key"].as_str().unwrap().to_owned());
        }
        Some(match who {
            "none" => return None,
            "expired" => token_for(app, DEFAULT_TENANT_ID, "admin", Role::Admin, 15 * MINUTE_MS),
            "other_tenant" => token_for(app, "ten_access_other", "other", Role::Admin, 0),
            role => token_for(app, DEFAULT_TENANT_ID, role, Role::parse(role).unwrap(), 0),
        })
    }
}

/// The token of a user that the table makes.
fn token_for(app: &TestApp, tenant_id: &str, user: &str, role: Role, age_ms: i64) -> String {
    let user_id = format!("usr_access_{user}");
    let grant = Grant { tenant_id, user_id: &user_id, role };
    app.world.app.verifier.keys().unwrap().sign(&grant, app.now().plus_ms(-age_ms), &[1; 10])
}

fn send_row(app: &TestApp, row: &AccessRow, credential: Option<&str>) -> TestReply {
    let mut request = app.request(&row.method, &row.path);
    if let Some(credential) = credential {
        request = request.bearer(credential);
    }
    if !row.body.is_null() {
        let body = row.body.to_string().replace("{now}", crate::support::NOW);
        request = request.body("application/json", &body);
    }
    request.send()
}

#[test]
fn every_caller_of_the_generated_table_gets_what_it_says() {
    let table = access_table();
    for row in &table.rows {
        // Refusals leave everything as it is, so one world will do for all of them.
        let (refused, served): (Vec<_>, Vec<_>) =
            row.expected.iter().partition(|(_, status)| [401, 403, 404].contains(*status));
        let app = table.world();
        let credentials: Vec<Option<String>> =
            refused.iter().map(|(who, _)| table.credential(&app, row, who)).collect();
        for key in credentials.iter().flatten().filter(|text| text.starts_with("dsk_")) {
            // Its use is noted once a minute.
            app.get("/api/v1/auth/me").bearer(key).send().expect(200);
        }
        let before = app.stored();
        for ((who, status), credential) in refused.iter().zip(&credentials) {
            let reply = send_row(&app, row, credential.as_deref());
            assert_eq!(reply.status, **status, "{} as {who}: {}", row.id, reply.text);
        }
        if !["login", "refresh"].contains(&row.id.as_str()) {
            assert_eq!(app.stored(), before, "a refusal of {} left something", row.id);
        }
        let is_read = row.method == "GET";
        let mut world = app;
        for (who, status) in served {
            if !is_read {
                world = table.world();
            }
            let credential = table.credential(&world, row, who);
            let reply = send_row(&world, row, credential.as_deref());
            assert_eq!(reply.status, *status, "{} as {who}: {}", row.id, reply.text);
        }
    }
}

#[test]
fn the_generated_table_has_every_route_and_agrees_with_the_one_above() {
    let table = access_table();
    let ids: Vec<&str> = table.rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ROUTES.iter().map(|route| route.id).collect::<Vec<_>>());
    let app = TestApp::new();
    let route_of =
        |method: &str, path: &str| match app.world.app.route(&method.parse().unwrap(), path) {
            Matched::Found(route, _) => route.id,
            _ => panic!("{method} {path} is no route"),
        };
    for row in access() {
        let id = route_of(row.method, &row.whole_path());
        let generated = table.rows.iter().find(|known| known.id == id).unwrap();
        assert_eq!(route_of(&generated.method, &generated.path), id);
        for (role, expected) in ROLES.into_iter().zip(row.by_role) {
            assert_eq!(generated.expected[role.name()], expected, "{id} as {}", role.name());
        }
        assert_eq!(generated.expected["none"], row.anyone, "{id}");
    }
}

#[test]
fn public_routes_do_not_look_at_a_token() {
    let app = bootstrapped();
    app.platform.assets.put("/docs-assets/LICENSE", "text/plain", b"text");
    for (method, path, body, status) in [
        ("GET", "/.well-known/jwks.json", "", 200),
        ("GET", "/openapi.json", "", 200),
        ("GET", "/docs", "", 200),
        ("GET", "/docs-assets/LICENSE", "", 200),
        ("POST", "/api/v1/auth/login", r#"{"username":"x","password":"y"}"#, 401),
        ("POST", "/api/v1/auth/refresh", r#"{"refresh_token":"x"}"#, 401),
    ] {
        for authorization in [None, Some("garbage"), Some("Bearer garbage")] {
            let mut request = app.request(method, path).body("application/json", body);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let reply = request.send();
            let place = format!("{method} {path} with {authorization:?}");
            assert_eq!(reply.status, status, "{place}: {}", reply.text);
            assert_ne!(reply.json["code"], "invalid_token", "{place}");
        }
    }
}

// ---- ids and aliases ----

#[test]
fn every_alias_of_the_contract_finds_its_partnership() {
    let app = TestApp::seeded();
    for (id, aliases, name, partner) in [
        ("cursor_technical", ["technical", "cursor"], "Technical Excellence", "Cursor"),
        ("grok_brand", ["brand", "grok"], "Brand Amplification", "Grok"),
        ("gemini_visual", ["visual", "gemini"], "Visual Intelligence", "Gemini"),
        ("chatgpt_customer", ["customer", "chatgpt"], "Customer Excellence", "ChatGPT"),
        ("claude_strategic", ["strategic", "claude"], "Strategic Command", "Claude"),
        ("perplexity_research", ["research", "perplexity"], "Market Research", "Perplexity"),
    ] {
        for called in [id, aliases[0], aliases[1]] {
            let found = app.read(&api(&format!("/metrics/{called}")));
            assert_eq!(found["partnership_type"], id, "{called}");
            let found = app.read(&api(&format!("/partnerships/{called}/status")));
            assert_eq!(found["id"], id, "{called}");
            assert_eq!((&found["name"], &found["partner"]), (&json!(name), &json!(partner)));
        }
    }
}

#[test]
fn an_unknown_id_is_not_found_and_the_valid_ones_are_named() {
    let app = TestApp::seeded();
    let long = "x".repeat(2_000);
    for (method, path, body) in [
        ("GET", "/metrics/{}", Value::Null),
        ("GET", "/partnerships/{}/status", Value::Null),
        ("PATCH", "/partnerships/{}", json!({})),
        ("DELETE", "/partnerships/{}", Value::Null),
        (
            "PUT",
            "/partnerships/{}/deliverables/ab",
            json!({ "completion_percentage": 1, "status": "blocked" }),
        ),
        ("POST", "/partnerships/{}/observations", json!([{}])),
        ("POST", "/partnerships/{}/kpis/speed", json!({ "value": 1, "at": crate::support::NOW })),
    ] {
        for id in ["no_such", "CURSOR_TECHNICAL", "..", "%00", "a'b", &long] {
            let path = api(&path.replace("{}", id));
            let reply = app.request(method, &path).bearer(&app.admin()).json(body.clone()).send();
            assert_eq!(reply.problem(404), "not_found", "{method} {path}");
            let detail = reply.json["detail"].as_str().unwrap();
            for known in SEEDS {
                assert!(detail.contains(known), "{method} {path}: {detail}");
            }
            assert!(detail.len() < 500, "{method} {path}: the name is cut");
        }
    }
}

#[test]
fn a_path_is_what_it_is_letter_by_letter() {
    let app = TestApp::seeded();
    for path in [
        "",
        "/",
        "/api/v1/orchestration",
        "/api/v1/orchestration/",
        "/api/v1/orchestration/health/",
        "/api/v1/orchestration//health",
        "/API/v1/orchestration/health",
        "/api/v2/orchestration/health",
        "/api/v1/orchestration/metrics/",
        "/api/v1/orchestration/partnerships/cursor_technical/",
        "/docs-assets/../openapi.json",
    ] {
        let reply = app.get(path).bearer(&app.admin()).send();
        assert_eq!(reply.status, 404, "{path}");
        reply.problem(404);
    }
}

// ---- methods ----

/// A path of the route with something that exists in each place.
fn concrete(path: &str) -> String {
    path.replace("keys/{id}", "keys/key_target")
        .replace("channels/{id}", "channels/chn_target")
        .replace("backups/{id}", "backups/bak_target")
        .replace("{client}", "203.0.113.7")
        .replace("{type}", "cursor")
        .replace("slos/{key}", "slos/availability")
        .replace("{window}", "mwn_target")
        .replace("decisions/{id}", "decisions/dec_target")
        .replace("policies/{id}", "policies/standard")
        .replace("{version}", "1")
        .replace("{id}", "cursor")
        .replace("{key}", "mobile_first_platform")
        .replace("{name}", "security_score")
        .replace("{file}", "LICENSE")
}

#[test]
fn head_is_get_without_the_body() {
    let app = TestApp::seeded();
    app.add_own_user(Role::Admin);
    add_key(&app);
    app.add_channel();
    app.add_decision();
    add_backup(&app);
    app.platform.assets.put("/docs-assets/LICENSE", "text/plain", b"text");
    add_maintenance(&app, "cursor_technical");
    // Two ticks too late: an incident of the service.
    app.platform.clock.advance_ms(4 * MINUTE_MS);
    app.world.ring();
    let incidents = app.read(&api("/incidents"));
    let incident = incidents["incidents"][0]["id"].as_str().unwrap();
    for route in ROUTES.iter().filter(|route| route.method == "GET") {
        let path = route.path.replace("incidents/{id}", &format!("incidents/{incident}"));
        let path = concrete(&path);
        let send = |method: &str| {
            app.request(method, &path)
                .bearer(&app.admin())
                .header("x-request-id", "the-same-for-both")
                .header("accept", "application/json")
                .send()
        };
        // The first readiness report of a minute writes to KV and says so.
        send("GET");
        let (get, head) = (send("GET"), send("HEAD"));
        assert_eq!(get.status, 200, "{path}: {}", get.text);
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        let mut expected = get.headers.clone();
        expected.insert("content-length".to_owned(), get.text.len().to_string());
        assert_eq!(head.headers, expected, "{path}");
    }
    for path in ["/health", "/no-such-path", "/metrics/nobody", "/decisions"] {
        let head = app.request("HEAD", &api(path)).bearer("garbage").send();
        assert_eq!(head.text, "", "{path}: an error has no body either");
        assert!(head.status >= 400, "{path}");
    }
}

/// The methods of each path, as the table has them.
fn methods_by_path() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut methods: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for route in ROUTES {
        let of_path = methods.entry(route.path).or_default();
        of_path.extend([route.method.as_str(), "OPTIONS"]);
        if route.method == "GET" {
            of_path.insert("HEAD");
        }
    }
    methods
}

fn allowed(reply: &TestReply) -> BTreeSet<&str> {
    reply.headers["allow"].split(", ").collect()
}

#[test]
fn another_method_is_refused_with_those_that_would_do() {
    let app = TestApp::seeded();
    for (path, known) in methods_by_path() {
        let path = concrete(path);
        let others = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW"];
        for method in others.iter().filter(|method| !known.contains(**method)) {
            for request in
                [app.request(method, &path), app.request(method, &path).bearer(&app.admin())]
            {
                let reply = request.send();
                let place = format!("{method} {path}");
                assert_eq!(allowed(&reply), known, "{place}");
                if *method == "HEAD" {
                    assert_eq!(reply.status, 405, "{place}");
                } else {
                    assert_eq!(reply.problem(405), "method_not_allowed", "{place}");
                }
            }
        }
        let options = app.request("OPTIONS", &path).send();
        assert_eq!((options.status, options.text.as_str()), (204, ""), "{path}");
        assert_eq!(allowed(&options), known, "{path}");
    }
    let unknown = app.request("OPTIONS", "/no/such/path").send();
    assert_eq!(unknown.problem(404), "not_found");
}

// ---- CORS ----

fn with_origins(origins: &str) -> TestApp {
    TestApp::with_vars(|vars| vars.set("CORS_ALLOWED_ORIGINS", origins))
}

fn preflight(app: &TestApp, origin: &str) -> TestReply {
    app.request("OPTIONS", &api("/decisions"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type")
        .send()
}

fn cors_fields(reply: &TestReply) -> Vec<&str> {
    reply
        .headers
        .keys()
        .map(String::as_str)
        .filter(|name| name.starts_with("access-control-"))
        .collect()
}

#[test]
fn a_preflight_of_an_allowed_origin_is_answered() {
    let app = with_origins(&format!("{ORIGIN}, https://other.example.com"));
    let reply = preflight(&app, ORIGIN);
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    assert_eq!(reply.headers["access-control-allow-origin"], ORIGIN);
    assert_eq!(reply.headers["vary"], "Origin");
    assert!(reply.headers["access-control-allow-methods"].contains("POST"));
    let headers = reply.headers["access-control-allow-headers"].to_ascii_lowercase();
    for name in ["authorization", "content-type", "idempotency-key", "x-request-id"] {
        assert!(headers.contains(name), "{headers}");
    }
    assert!(reply.headers["access-control-max-age"].parse::<u32>().unwrap() > 0);
    assert!(!reply.headers.contains_key("access-control-allow-credentials"));
}

#[test]
fn a_preflight_of_a_foreign_origin_is_not() {
    let app = with_origins(ORIGIN);
    for origin in [
        "https://evil.example.com",
        "https://console.example.com.evil.org",
        "https://console.example.com:8443",
        "https://console.example.com/",
        "http://console.example.com",
        "HTTPS://CONSOLE.EXAMPLE.COM",
        "null",
        "*",
        "",
    ] {
        let reply = preflight(&app, origin);
        assert_eq!(reply.status, 204, "{origin}");
        assert_eq!(cors_fields(&reply), [""; 0], "{origin}");
        assert_eq!(reply.headers["vary"], "Origin", "{origin}");
    }
}

#[test]
fn a_star_allows_nobody() {
    for origins in ["*", "https://*", "https://*.example.com"] {
        let app = with_origins(origins);
        for origin in ["https://evil.example.com", "https://example.com", "null"] {
            let reply = preflight(&app, origin);
            assert_eq!(cors_fields(&reply), [""; 0], "{origins} for {origin}");
        }
    }
}

#[test]
fn replies_can_be_read_by_the_allowed_origin_errors_too() {
    let app = with_origins(ORIGIN);
    let admin = log_in(&app);
    for (status, request) in every_status() {
        for (origin, expected) in
            [(Some(ORIGIN), Some(ORIGIN)), (Some("https://e.org"), None), (None, None)]
        {
            let mut request = request(&app, &admin);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let reply = request.send();
            let place = format!("{status} for {origin:?}");
            assert_eq!(reply.status, status, "{place}: {}", reply.text);
            assert_eq!(reply.headers["vary"], "Origin", "{place}");
            let allowed = reply.headers.get("access-control-allow-origin").map(String::as_str);
            assert_eq!(allowed, expected, "{place}");
            let exposed = reply.headers.get("access-control-expose-headers");
            assert_eq!(exposed.is_some(), expected.is_some(), "{place}");
            for name in ["RateLimit", "RateLimit-Policy", "Retry-After", "ETag", "X-Request-Id"] {
                let listed = exposed.is_none_or(|list| list.split(", ").any(|known| known == name));
                assert!(listed, "{place}: {name}");
            }
        }
    }
}

// ---- what every reply carries ----

type Ask = for<'a> fn(&'a TestApp, &str) -> TestRequest<'a>;

/// A request for each status that the service can answer, to be sent in order.
fn every_status() -> Vec<(u16, Ask)> {
    vec![
        (200, |app, _| app.get("/openapi.json")),
        (200, |app, _| app.get("/docs")),
        (200, |app, token| app.get("/api/v1/orchestration/metrics").bearer(token)),
        (202, |app, token| {
            let row = json!([{ "at": app.now(), "outcome": "up", "source": "gateway" }]);
            app.post("/api/v1/orchestration/partnerships/cursor/observations")
                .bearer(token)
                .json(row)
        }),
        (204, |app, _| app.request("OPTIONS", "/docs")),
        (204, |app, token| {
            app.post("/api/v1/auth/logout").bearer(token).json(json!({ "refresh_token": "x" }))
        }),
        (400, |app, _| app.post("/api/v1/auth/login").body("application/json", "{")),
        (401, |app, _| app.get("/api/v1/orchestration/metrics")),
        (403, |app, _| app.get("/api/v1/orchestration/metrics").bearer(&app.token(Role::Viewer))),
        (404, |app, _| app.get("/no/such/path")),
        (404, |app, token| app.get("/api/v1/orchestration/metrics/nobody").bearer(token)),
        (405, |app, _| app.delete("/docs")),
        (409, |app, token| {
            let body = json!({ "id": "cursor_technical", "name": "x", "partner": "y" });
            app.post("/api/v1/orchestration/partnerships").bearer(token).json(body)
        }),
        (413, |app, _| app.post("/api/v1/auth/login").too_large("application/json")),
        (415, |app, _| app.post("/api/v1/auth/login").body("text/plain", "{}")),
        (422, |app, _| app.post("/api/v1/auth/login").json(json!({}))),
        (500, |app, token| {
            // A tenant without settings is a defect.
            app.run("DELETE FROM settings".to_owned());
            app.get("/api/v1/orchestration/config").bearer(token)
        }),
        (503, |app, token| {
            app.platform.database.inject("INSERT INTO decisions", Fault::Lost);
            app.post("/api/v1/orchestration/decisions").bearer(token).json(json!({ "context": {} }))
        }),
    ]
}

const SECURITY_HEADERS: [(&str, &str); 10] = [
    ("strict-transport-security", "max-age=63072000; includeSubDomains"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-permitted-cross-domain-policies", "none"),
    ("x-dns-prefetch-control", "off"),
    ("x-request-id", ""),
];

#[test]
fn every_reply_has_the_security_headers_and_a_request_id() {
    let app = bootstrapped();
    let admin = log_in(&app);
    let mut seen = BTreeSet::new();
    for (status, request) in every_status() {
        let reply = request(&app, &admin).send();
        assert_eq!(reply.status, status, "{}", reply.text);
        for (name, value) in SECURITY_HEADERS {
            let found = reply.headers.get(name);
            assert!(found.is_some(), "{status}: {name}");
            assert!(value.is_empty() || found.unwrap() == value, "{status}: {name} {found:?}");
        }
        let policy = &reply.headers["content-security-policy"];
        let page = reply.headers.get("content-type").is_some_and(|t| t.starts_with("text/html"));
        let strict = policy == "default-src 'none'; frame-ancestors 'none'";
        assert_eq!(strict, !page, "{status}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{status}: {policy}");
        let permissions = &reply.headers["permissions-policy"];
        for feature in ["camera", "microphone", "geolocation", "payment", "usb"] {
            assert!(permissions.contains(&format!("{feature}=()")), "{status}: {feature}");
        }
        assert!(!permissions.contains("(self") && !permissions.contains('*'), "{permissions}");
        for name in ["server", "x-powered-by", "x-xss-protection"] {
            assert!(!reply.headers.contains_key(name), "{status}: {name}");
        }
        let public = reply.text.starts_with("<!doctype") || reply.json.get("openapi").is_some();
        if !public {
            assert_eq!(reply.headers["cache-control"], "no-store", "{status}");
        }
        let id = &reply.headers["x-request-id"];
        assert!(seen.insert(id.clone()), "{status}: {id} was given before");
        if status >= 400 {
            reply.problem(status);
            assert_eq!(reply.json["request_id"], id.as_str());
        }
    }
}

#[test]
fn a_failure_says_nothing_of_its_cause() {
    let app = bootstrapped();
    let admin = log_in(&app);
    for (status, request) in every_status().into_iter().filter(|(s, _)| *s >= 500) {
        let reply = request(&app, &admin).send();
        reply.problem(status);
        for secret in
            ["settings", "injected", "SELECT", "INSERT", "ten_default", "Misuse", "Unavailable:"]
        {
            assert!(!reply.text.contains(secret), "{status}: {secret} in {}", reply.text);
        }
        let logged = app.platform.log.lines().pop().unwrap();
        assert!(logged.contains("\"error.message\""), "{status}: the log has no cause: {logged}");
        let retry = reply.headers.get("retry-after").is_some_and(|s| s.parse::<u32>().is_ok());
        assert_eq!(retry, status == 503, "{status}: {:?}", reply.headers.get("retry-after"));
    }
}

#[test]
fn a_well_formed_request_id_is_kept_and_any_other_replaced() {
    let app = bootstrapped();
    let long = "x".repeat(128);
    let too_long = "x".repeat(129);
    for (given, kept) in [
        ("01234567", true),
        ("0190b6f0-7c1e-7aaa-bbbb-0123456789ab", true),
        ("trace_1.span-2", true),
        (long.as_str(), true),
        ("short", false),
        ("", false),
        ("has a space", false),
        ("semi;colon", false),
        ("quote\"quote", false),
        ("line\nbreak", false),
        ("ünïcödé-id", false),
        ("<script>alert(1)</script>", false),
        (too_long.as_str(), false),
    ] {
        let reply = app.get(&api("/health")).header("x-request-id", given).send();
        let answered = &reply.headers["x-request-id"];
        assert_eq!(answered == given, kept, "{given:?} became {answered}");
        let well_formed =
            answered.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        assert!((8..=128).contains(&answered.len()) && well_formed, "{given:?}: {answered}");
        let logged: Value = serde_json::from_str(&app.platform.log.lines().pop().unwrap()).unwrap();
        assert_eq!(logged["http.request.id"], answered.as_str());
        let problem = app.get("/nowhere").header("x-request-id", given).send();
        assert_eq!(problem.json["request_id"] == given, kept, "{given:?}");
    }
}

// ---- log lines ----

fn lines(app: &TestApp) -> Vec<Value> {
    let lines = app.platform.log.lines();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

#[test]
fn each_request_is_one_log_line_with_the_fields_of_ecs() {
    let app = bootstrapped();
    let admin = log_in(&app);
    for (status, request) in every_status() {
        let before = app.platform.log.lines().len();
        let request = request(&app, &admin)
            .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let (method, path) = (request.request.method.to_string(), request.request.path.clone());
        let reply = request.send();
        let place = format!("{method} {path} {status}");
        assert_eq!(reply.status, status, "{place}: {}", reply.text);
        let written = app.platform.log.lines().split_off(before);
        assert_eq!(written.len(), 1, "{place}: {written:#?}");
        let text = &written[0];
        assert!(!text.contains('\n'), "{place}");
        assert!(
            text.starts_with("{\"@timestamp\":\"") && {
                let order: Vec<usize> = ["@timestamp", "log.level", "message", "ecs.version"]
                    .iter()
                    .map(|name| text.find(&format!("\"{name}\":")).unwrap())
                    .collect();
                order.is_sorted()
            },
            "{place}: {text}"
        );
        let line: Value = serde_json::from_str(text).unwrap();
        assert!(is_time(line["@timestamp"].as_str().unwrap()), "{place}");
        let level = match status {
            500.. => "error",
            400.. => "warn",
            _ => "info",
        };
        for (field, expected) in [
            ("log.level", json!(level)),
            ("ecs.version", json!("8.11.0")),
            ("service.name", json!("devskyy-orchestration")),
            ("service.version", json!(env!("CARGO_PKG_VERSION"))),
            ("event.dataset", json!("devskyy.request")),
            ("trace.id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
            ("http.request.id", json!(reply.headers["x-request-id"])),
            ("http.request.method", json!(method)),
            ("http.response.status_code", json!(status)),
        ] {
            assert_eq!(line[field], expected, "{place}: {field}");
        }
        let template = line["url.path"].as_str().unwrap();
        let known = ROUTES.iter().any(|route| route.path == template);
        assert!(known || template == "(no route)", "{place}: {template} is no template");
        assert_eq!(line.get("error.type").is_some(), status >= 400, "{place}");
        if status >= 400 {
            assert_eq!(line["error.type"], reply.json["code"], "{place}");
        }
    }
}

#[test]
fn a_log_line_names_the_user_and_never_the_path_or_a_token() {
    let app = bootstrapped();
    let admin = log_in(&app);
    let path = api("/metrics/cursor_technical?secret=in-the-query");
    app.get(&path).bearer(&admin).header("cookie", "session=in-a-cookie").send().expect(200);
    app.get("/some/secret-path").bearer("in-a-token").send();
    let [.., found, missing] = &lines(&app)[..] else { panic!() };
    assert_eq!(found["url.path"], "/api/v1/orchestration/metrics/{type}");
    assert!(found["user.id"].as_str().unwrap().starts_with("usr_"));
    assert_eq!(missing["url.path"], "(no route)");
    assert!(missing.get("user.id").is_none());
    let all = app.platform.log.lines().join("\n");
    for secret in [
        ADMIN_PASSWORD,
        &admin,
        "in-the-query",
        "in-a-cookie",
        "in-a-token",
        "secret-path",
        "$argon2",
    ] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn text_of_strangers_is_escaped_and_cut_in_a_log_line() {
    let app = bootstrapped();
    let admin = log_in(&app);
    let nasty = format!("\u{1b}[31m\"}}{{\u{2028}{}", "x".repeat(5_000));
    let before = app.platform.log.lines().len();
    for request in [
        app.post(&api("/decisions"))
            .bearer(&admin)
            .json(json!({ "context": { nasty.as_str(): 1 } })),
        app.get(&api(&format!("/metrics/{nasty}"))).bearer(&admin),
        app.get(&api("/metrics")).bearer(&nasty),
        app.get(&api("/metrics")).bearer(&admin).header("traceparent", &nasty),
        app.get(&api("/metrics")).bearer(&admin).header("x-request-id", &nasty),
    ] {
        request.send();
    }
    for line in app.platform.log.lines().split_off(before) {
        assert!(line.len() < 2_000, "{} bytes", line.len());
        assert!(!line.chars().any(char::is_control), "{line}");
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
    }
}

#[test]
fn every_line_the_application_writes_is_ecs() {
    let app = TestApp::measured();
    app.platform.objects.inject("tick", Fault::Lost);
    app.next_minute();
    app.world.scheduled("17 * * * *", app.now());
    app.world.scheduled("no such line", app.now());
    for line in lines(&app) {
        for field in
            ["@timestamp", "log.level", "message", "ecs.version", "service.name", "event.dataset"]
        {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
}

// ---- the text formats of /metrics ----

/// One family of a scrape: its kind and its samples by name and labels.
struct Family {
    kind: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads OpenMetrics 1.0 or Prometheus text as strictly as their grammars are.
fn parse_exposition(text: &str, open_metrics: bool) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
    let mut lines: Vec<&str> = text.strip_suffix('\n').unwrap().split('\n').collect();
    if open_metrics {
        assert_eq!(lines.pop(), Some("# EOF"));
    }
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut current: Option<String> = None;
    let mut helped: Option<String> = None;
    for line in lines {
        assert!(!line.is_empty() && line.trim() == line, "{line:?}");
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').unwrap();
            assert!(!words.is_empty() && helped.is_none(), "{line}");
            helped = Some(name.to_owned());
        } else if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            assert_eq!(helped.take().as_deref(), Some(name), "HELP comes right before TYPE");
            assert!(["gauge", "counter", "summary", "histogram"].contains(&kind), "{line}");
            assert!(!(open_metrics && name.ends_with("_total")), "{line}");
            let family = Family { kind: kind.to_owned(), samples: Vec::new() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} is declared twice");
            current = Some(name.to_owned());
        } else {
            assert!(!line.starts_with('#') && helped.is_none(), "{line}");
            let (name, labels, value) = parse_sample(line);
            let family = current.clone().unwrap_or_else(|| panic!("{line} before its family"));
            let known = families.get_mut(&family).unwrap();
            let expected: &[&str] = match (known.kind.as_str(), open_metrics) {
                ("counter", true) => &["_total"],
                ("histogram", _) => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let suffix = name.strip_prefix(&family).unwrap_or("of another family");
            assert!(expected.contains(&suffix), "{line}");
            let is_bucket = known.kind == "histogram" && suffix == "_bucket";
            assert_eq!(labels.contains_key("le"), is_bucket, "{line}");
            assert_eq!(labels.contains_key("quantile"), known.kind == "summary", "{line}");
            assert!(seen.insert((name.clone(), labels.clone())), "{line} comes twice");
            assert!(value.is_finite() && (known.kind != "counter" || value >= 0.0), "{line}");
            known.samples.push((name, labels, value));
        }
    }
    assert!(helped.is_none());
    families.values().filter(|family| family.kind == "histogram").for_each(check_histogram);
    assert!(families.values().all(|family| !family.samples.is_empty()), "a family without samples");
    families
}

/// Of each set of labels: buckets that rise to the count, the sum and the count.
fn check_histogram(family: &Family) {
    let samples = &family.samples;
    let set = |labels: &BTreeMap<String, String>| {
        let mut labels = labels.clone();
        labels.remove("le");
        labels
    };
    let sets: BTreeSet<_> = samples.iter().map(|(_, labels, _)| set(labels)).collect();
    for wanted in sets {
        let of_set: Vec<_> = samples.iter().filter(|(_, l, _)| set(l) == wanted).collect();
        let [buckets @ .., (sum_name, _, sum), (count_name, _, count)] = &of_set[..] else {
            panic!("{wanted:?} is no histogram")
        };
        assert!(sum_name.ends_with("_sum") && count_name.ends_with("_count") && *sum >= 0.0);
        let mut before = (f64::NEG_INFINITY, 0.0);
        for (_, labels, value) in buckets {
            let bound: f64 = labels["le"].parse().unwrap();
            assert!(bound > before.0 && *value >= before.1, "{wanted:?} {bound}");
            before = (bound, *value);
        }
        assert_eq!(before, (f64::INFINITY, *count), "{wanted:?}");
        assert_eq!(buckets.last().unwrap().1["le"], "+Inf");
    }
}

fn parse_sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let is_name = |text: &str| {
        let mut bytes = text.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(name), "{line}");
        return (name.to_owned(), BTreeMap::new(), value.parse().unwrap());
    };
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    let mut chars = rest.chars();
    loop {
        let label: String = chars.by_ref().take_while(|c| *c != '=').collect();
        assert!(is_name(&label), "{line}");
        assert_eq!(chars.next(), Some('"'), "{line}");
        let mut value = String::new();
        loop {
            match chars.next().unwrap_or_else(|| panic!("{line}: no closing quote")) {
                '"' => break,
                '\\' => value.push(match chars.next() {
                    Some('n') => '\n',
                    Some(c @ ('\\' | '"')) => c,
                    other => panic!("{line}: \\{other:?}"),
                }),
                c => value.push(c),
            }
        }
        assert!(labels.insert(label, value).is_none(), "{line}: a label twice");
        match chars.next() {
            Some(',') => {}
            Some('}') => break,
            other => panic!("{line}: {other:?}"),
        }
    }
    let value = chars.as_str().strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    assert!(!value.contains(' '), "{line}: no timestamps");
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[test]
fn accept_decides_between_json_and_the_text_formats() {
    let app = TestApp::seeded();
    let scraper = "application/openmetrics-text;version=1.0.0;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    for (accept, media) in [
        (None, "application/json"),
        (Some("*/*"), "application/json"),
        (Some("application/json"), "application/json"),
        (Some("text/html, */*;q=0.1"), "application/json"),
        (Some("application/openmetrics-text"), OPEN_METRICS),
        (Some(scraper), OPEN_METRICS),
        (Some("text/plain"), PROMETHEUS),
        (Some("text/plain;version=0.0.4;q=0.9,application/json;q=0.1"), PROMETHEUS),
    ] {
        let mut request = app.get(&api("/metrics")).bearer(&app.token(Role::MetricsViewer));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        let reply = request.send();
        assert_eq!(reply.status, 200, "{accept:?}");
        assert_eq!(reply.headers["content-type"], media, "{accept:?}");
        assert_eq!(reply.json.is_array(), media == "application/json", "{accept:?}");
    }
}

#[test]
fn the_text_formats_say_what_the_json_says() {
    let app = with_acme();
    let hostile = json!({
        "kpis": [{ "name": "speed", "target": 10, "unit": "a \"b\" \\ {c}, é", "direction": "lower" }],
    });
    app.patch(&api("/partnerships/acme")).bearer(&app.admin()).json(hostile).send().expect(200);
    let value = json!({ "value": -2.5e-7, "at": app.now() });
    app.post(&api("/partnerships/acme/kpis/speed"))
        .bearer(&app.admin())
        .json(value)
        .send()
        .expect(202);
    let down =
        json!([{ "at": app.now(), "outcome": "down", "source": "gateway", "latency_ms": 7 }]);
    let pushed =
        app.post(&api("/partnerships/cursor/observations")).bearer(&app.admin()).json(down).send();
    pushed.expect(202);
    let documents = app.read(&api("/metrics"));
    let health = app.read(&api("/health"));

    for (media, open_metrics) in [(OPEN_METRICS, true), (PROMETHEUS, false)] {
        let request = app.get(&api("/metrics")).bearer(&app.admin()).header("accept", media);
        let families = parse_exposition(&request.send().text, open_metrics);
        let counter = if open_metrics { "observations" } else { "observations_total" };
        let counter = format!("devskyy_partnership_{counter}");
        for (name, family) in &families {
            if name.starts_with("devskyy_partnership_") {
                assert_eq!(family.kind == "counter", *name == counter, "{name}");
            }
        }
        let find = |family: &str, id: &str, label: Option<(&str, &str)>| -> Option<f64> {
            families.get(family)?.samples.iter().find_map(|(_, labels, value)| {
                let wanted = labels["partnership"] == id
                    && label.is_none_or(|(name, value)| labels[name] == value);
                wanted.then_some(*value)
            })
        };
        for document in documents.as_array().unwrap() {
            let id = document["partnership_type"].as_str().unwrap();
            let metric = |name: &str| document["metrics"][name].as_f64();
            let scaled = |value: Option<f64>, scale: f64| value.map(|value| value / scale);
            let quantile =
                |q| find("devskyy_partnership_response_time_seconds", id, Some(("quantile", q)));
            for (found, expected) in [
                (
                    find("devskyy_partnership_uptime_ratio", id, None),
                    scaled(metric("uptime"), 100.0),
                ),
                (
                    find("devskyy_partnership_success_ratio", id, None),
                    scaled(metric("success_rate"), 100.0),
                ),
                (quantile("0.5"), scaled(metric("response_time"), 1_000.0)),
                (quantile("0.95"), scaled(metric("response_time_p95"), 1_000.0)),
                (quantile("0.99"), scaled(metric("response_time_p99"), 1_000.0)),
                (
                    find("devskyy_partnership_score", id, None),
                    health["partnerships"][id]["score"].as_f64(),
                ),
                (
                    find("devskyy_partnership_coverage_ratio", id, None),
                    health["partnerships"][id]["coverage"].as_f64(),
                ),
            ] {
                assert_eq!(found.is_some(), expected.is_some(), "{id}, {media}");
                let difference = found.unwrap_or_default() - expected.unwrap_or_default();
                assert!(difference.abs() < 1e-9, "{id}, {media}: {found:?} {expected:?}");
            }
            let current = health["partnerships"][id]["verdict"].as_str().unwrap();
            let verdict = |name| find("devskyy_partnership_verdict", id, Some(("verdict", name)));
            for name in ["up", "down", "degraded", "unknown", "unreachable_from_us"] {
                assert_eq!(verdict(name), Some(f64::from(name == current)), "{id} {name}");
            }
        }
        let count = |verdict| {
            find(
                "devskyy_partnership_observations_24h",
                "cursor_technical",
                Some(("verdict", verdict)),
            )
        };
        assert_eq!((count("up"), count("down")), (Some(1.0), Some(1.0)));
        assert_eq!(find(&counter, "cursor_technical", None), Some(2.0));
        let kpis = &families["devskyy_partnership_kpi_value"].samples;
        let [(_, labels, value)] = &kpis[..] else { panic!("KPIs without a value are left out") };
        assert_eq!(*value, -2.5e-7);
        assert_eq!(labels["unit"], "a \"b\" \\ {c}, é");
        assert_eq!(
            (labels["kpi"].as_str(), labels["partnership"].as_str()),
            ("speed", "acme_search")
        );
    }
}

#[test]
fn a_scrape_before_any_data_is_well_formed_and_holds_no_value() {
    for app in [TestApp::new(), bootstrapped()] {
        for (media, open_metrics) in [(OPEN_METRICS, true), (PROMETHEUS, false)] {
            let request = app.get(&api("/metrics")).bearer(&app.admin()).header("accept", media);
            let families = parse_exposition(&request.send().text, open_metrics);
            let names: Vec<&str> = families.keys().map(String::as_str).collect();
            for absent in ["score", "uptime_ratio", "success_ratio", "response_time_seconds"] {
                let name = format!("devskyy_partnership_{absent}");
                assert!(!names.contains(&name.as_str()), "{name}");
            }
        }
    }
}

#[test]
fn a_scraper_that_knows_nothing_but_the_path_gets_text() {
    let app = TestApp::seeded();
    let scraper =
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (accept, media) in [
        (None, PROMETHEUS),
        (Some("*/*"), PROMETHEUS),
        (Some("application/json"), PROMETHEUS),
        (Some("text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), PROMETHEUS),
        (Some(scraper), OPEN_METRICS),
    ] {
        let mut request = app.get("/metrics").bearer(&app.token(Role::MetricsViewer));
        let mut same = app.get(&api("/metrics")).bearer(&app.token(Role::MetricsViewer));
        if let Some(accept) = accept {
            request = request.header("accept", accept);
        }
        same = same.header("accept", media);
        let (reply, same) = (request.send(), same.send());
        assert_eq!(reply.headers["content-type"], media, "{accept:?}");
        assert_eq!(reply.text, same.text, "{accept:?}");
    }
    // What Prometheus sends as `authorization.credentials`.
    let key = json!({ "name": "scraper", "permissions": ["metrics:read"] });
    let made = app.post("/api/v1/auth/keys").bearer(&app.admin()).json(key).send().expect(201);
    app.get("/metrics").bearer(made["key"].as_str().unwrap()).send().expect(200);
    assert_eq!(app.get("/metrics").send().problem(401), "unauthenticated");
}

/// The value of the one sample with these labels.
fn sample(
    families: &BTreeMap<String, Family>,
    family: &str,
    suffix: &str,
    wanted: &[(&str, &str)],
) -> Option<f64> {
    let name = format!("{family}{suffix}");
    let wanted: BTreeMap<String, String> =
        wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let samples = &families.get(family)?.samples;
    samples.iter().find(|(known, labels, _)| *known == name && *labels == wanted).map(|s| s.2)
}

#[test]
fn a_scrape_says_what_objectives_alerts_incidents_and_jobs_say() {
    let app = with_acme();
    let acme = ("partnership", "acme_search");
    let rows: Vec<Value> = [("up", 10), ("up", 200), ("up", 30_000), ("down", 40), ("down", 40)]
        .into_iter()
        .chain([("down", 40), ("down", 40)])
        .map(|(outcome, latency_ms)| {
            json!({
                "at": app.now(), "outcome": outcome, "latency_ms": latency_ms, "source": "gateway",
            })
        })
        .collect();
    let push = api("/partnerships/acme/observations");
    app.post(&push).bearer(&app.admin()).json(json!(rows)).send().expect(202);
    app.next_minute();
    let slos = app.read(&api("/partnerships/acme/slos"));
    let incidents = app.read(&api("/incidents"));
    let slo = &slos["slos"][0]["status"];
    let text = app.get("/metrics").bearer(&app.admin()).send().text;
    let families = parse_exposition(&text, false);
    let get = |family: &str, suffix: &str, labels: &[(&str, &str)]| {
        sample(&families, family, suffix, labels)
    };

    let latency = "devskyy_partnership_latency_seconds";
    let bucket = |le: &str| get(latency, "_bucket", &[acme, ("le", le)]);
    let read = ["0.05", "0.1", "0.25", "20.0", "+Inf"].map(bucket);
    // The probes of the two ticks were answered at once, and count too.
    let probed = read[0].unwrap() - 1.0;
    assert_eq!(read, [1.0, 1.0, 2.0, 2.0, 3.0].map(|count| Some(count + probed)));
    assert_eq!(get(latency, "_count", &[acme]), Some(3.0 + probed));
    assert!(get(latency, "_sum", &[acme]).is_some_and(|sum| (30.21..30.31).contains(&sum)));

    let availability = [acme, ("slo", "availability")];
    let [target, remaining, good, bad] =
        ["target_percent", "budget_remaining", "good", "bad"].map(|field| slo[field].as_f64());
    let ratio = get("devskyy_slo_target_ratio", "", &availability);
    assert_eq!((target, ratio), (Some(99.9), Some(0.999)));
    assert_eq!(get("devskyy_slo_budget_remaining_ratio", "", &availability), remaining);
    for (outcome, expected) in [("good", good), ("bad", bad)] {
        let labels = [acme, ("slo", "availability"), ("outcome", outcome)];
        assert_eq!(get("devskyy_slo_period_events", "", &labels), expected);
        assert!(expected > Some(0.0));
    }
    for window in ["5m", "30m", "1h", "2h", "6h", "1d", "3d"] {
        let labels = [acme, ("slo", "availability"), ("window", window)];
        assert_eq!(get("devskyy_slo_burn_rate", "", &labels), slo["burn"][window].as_f64());
    }

    let fast = [("rule", "slo_fast_burn"), ("severity", "critical")];
    assert_eq!(get("devskyy_alert_open", "", &[acme, fast[0], fast[1]]), Some(1.0), "{text}");
    let listed = incidents["incidents"].as_array().unwrap();
    let listed = listed.iter().filter(|known| known["rule"] == "slo_fast_burn").count();
    assert_eq!((listed, get("devskyy_incidents_open", "", &fast)), (1, Some(1.0)));
    assert_eq!(get("devskyy_incidents_opened_total", "_total", &fast[..1]), None);
    assert_eq!(get("devskyy_incidents_opened_total", "", &fast[..1]), Some(1.0));

    assert_eq!(get("devskyy_partnership_maintenance", "", &[acme]), Some(0.0));
    let now = app.now().millis() as f64 / 1_000.0;
    assert_eq!(get("devskyy_partnership_evaluated_timestamp_seconds", "", &[acme]), Some(now));
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(get("devskyy_build_info", "", &version), Some(1.0));

    let tick = ("name", "tick");
    assert_eq!(get("devskyy_job_last_run_timestamp_seconds", "", &[tick]), Some(now));
    assert_eq!(get("devskyy_job_last_success_timestamp_seconds", "", &[tick]), Some(now));
    let runs = |outcome| get("devskyy_job_runs_total", "", &[tick, ("outcome", outcome)]);
    assert_eq!(
        (runs("success").is_some_and(|runs| runs >= 1.0), runs("failure")),
        (true, Some(0.0))
    );
    assert_eq!(get("devskyy_job_runs_total", "", &[("name", "housekeeping")]), None);

    // Neither a user nor a URL.
    for word in ["usr_", "http", "gateway", "partner.com"] {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

#[test]
fn a_job_that_fails_keeps_the_time_of_its_last_success() {
    let app = TestApp::seeded();
    let tick = ("name", "tick");
    let read = || {
        let families =
            parse_exposition(&app.get("/metrics").bearer(&app.admin()).send().text, false);
        let get =
            |name: &str, labels: &[(&str, &str)]| sample(&families, name, "", labels).unwrap();
        (
            get("devskyy_job_last_run_timestamp_seconds", &[tick]),
            get("devskyy_job_last_success_timestamp_seconds", &[tick]),
            get("devskyy_job_runs_total", &[tick, ("outcome", "failure")]),
        )
    };
    app.tick();
    let (run_at, success_at, failures) = read();
    assert_eq!((run_at, failures), (success_at, 0.0));
    app.lose_database(1_000);
    app.next_minute();
    assert_eq!(read(), (run_at + 60.0, success_at, 1.0));
}

// ---- the hot read path ----

#[test]
fn reading_the_board_asks_d1_nothing() {
    let app = TestApp::measured();
    let admin = app.admin();
    for path in
        ["/health", "/metrics", "/metrics/cursor", "/partnerships", "/partnerships/cursor/status"]
    {
        for round in ["first", "second", "a second later"] {
            let before = app.platform.database.statements_run();
            app.get(&api(path)).bearer(&admin).send().expect(200);
            let statements = app.platform.database.statements_run() - before;
            assert_eq!(statements, 0, "{path}, {round}");
            if round == "second" {
                app.platform.clock.advance_ms(1_000);
            }
        }
    }
    let before = app.platform.database.statements_run();
    app.get(&api("/health")).send().expect(200);
    assert_eq!(app.platform.database.statements_run(), before, "without a token");
}

#[test]
fn the_hot_routes_answer_while_d1_is_lost() {
    let app = TestApp::measured();
    app.lose_database(100);
    for path in ["/health", "/metrics", "/partnerships", "/partnerships/cursor/status"] {
        app.get(&api(path)).bearer(&app.admin()).send().expect(200);
    }
}

#[test]
fn a_board_is_never_older_than_a_second() {
    let app = TestApp::seeded();
    let speed = |app: &TestApp| app.read(&api("/metrics/cursor"))["metrics"]["uptime"].clone();
    assert_eq!(speed(&app), 100.0);
    app.platform.outbound.script(crate::support::CURSOR_PROBE, Script::Status(500, 1.0));
    app.world.scheduled("* * * * *", app.now().plus_ms(MINUTE_MS));
    app.platform.clock.advance_ms(1_000);
    assert_eq!(speed(&app), 50.0);
}

#[test]
fn a_board_that_cannot_be_fetched_anew_serves_out_its_second() {
    let app = TestApp::seeded();
    let ask = || app.get(&api("/metrics")).bearer(&app.admin()).send().status;
    assert_eq!(ask(), 200);
    // From 700 ms on the first to see it asks for the next one.
    app.platform.clock.advance_ms(800);
    app.platform.objects.inject("snapshot", Fault::Lost);
    assert_eq!(ask(), 200);
    app.platform.clock.advance_ms(199);
    // One for the withdrawn tokens, one for the route.
    (0..2).for_each(|_| app.platform.objects.inject("snapshot", Fault::Lost));
    assert_eq!(ask(), 200, "999 ms old, and nobody asks twice");
    app.platform.clock.advance_ms(1);
    assert_eq!(ask(), 503, "a second old");
    assert_eq!(ask(), 200);
}

#[test]
fn an_unreachable_board_is_unavailable_and_not_empty() {
    for path in ["/health", "/metrics", "/metrics/cursor", "/partnerships", "/info"] {
        let app = TestApp::measured();
        // One call for the withdrawn tokens, one for the route.
        for _ in 0..2 {
            app.platform.objects.inject("snapshot", Fault::Lost);
        }
        let reply = app.get(&api(path)).bearer(&app.admin()).send();
        assert_eq!(reply.problem(503), "unavailable", "{path}");
        assert!(reply.headers["retry-after"].parse::<u32>().is_ok(), "{path}");
        app.get(&api(path)).bearer(&app.admin()).send().expect(200);
    }
}

// ---- decisions ----

fn decide(app: &TestApp, context: &Value) -> Value {
    let request = app.post(&api("/decisions")).bearer(&app.admin());
    request.json(json!({ "context": context })).send().expect(200)
}

#[test]
fn decisions_follow_the_rules() {
    let app = TestApp::seeded();
    // Pressing: revenue above 1,000,000 or customers above 10,000.
    let (critical, high, medium, low) = (
        json!({ "revenue_impact": 1_000_001 }),
        json!({ "customer_impact": 10_001 }),
        json!({ "operational_impact": 101 }),
        json!({ "revenue_impact": 1_000_000, "customer_impact": 10_000, "operational_impact": 100 }),
    );
    // Cost 100, so revenue 300 is an ROI of 200 %; every risk input at `risk`.
    for (impact, revenue, risk, priority, decision) in [
        (&critical, 301.0, 2.9, "critical", "APPROVE_IMMEDIATE"),
        (&high, 301.0, 2.9, "high", "APPROVE_IMMEDIATE"),
        (&critical, 300.0, 2.9, "critical", "APPROVE_SCHEDULED"),
        (&critical, 301.0, 3.0, "critical", "APPROVE_SCHEDULED"),
        (&high, 201.0, 4.9, "high", "APPROVE_SCHEDULED"),
        (&critical, 200.0, 4.9, "critical", "APPROVE_CONDITIONAL"),
        (&critical, 201.0, 5.0, "critical", "APPROVE_CONDITIONAL"),
        (&medium, 301.0, 2.9, "medium", "APPROVE_CONDITIONAL"),
        (&low, 301.0, 2.9, "low", "APPROVE_CONDITIONAL"),
        (&low, 151.0, 6.9, "low", "APPROVE_CONDITIONAL"),
        (&low, 150.0, 6.9, "low", "DEFER_OR_REJECT"),
        (&low, 151.0, 7.0, "low", "DEFER_OR_REJECT"),
        (&critical, 1e15, 7.0, "critical", "DEFER_OR_REJECT"),
        (&critical, 0.0, 0.0, "critical", "DEFER_OR_REJECT"),
    ] {
        let mut context = json!({
            "estimated_cost": 100, "expected_revenue": revenue, "estimated_days": 10,
            "technical_complexity": risk, "market_uncertainty": risk,
            "resource_availability": 10.0 - risk, "timeline_pressure": risk,
        });
        context.as_object_mut().unwrap().extend(impact.as_object().unwrap().clone());
        let reply = decide(&app, &context);
        assert_eq!(reply["decision"], decision, "{context}");
        assert_eq!(reply["priority"], priority, "{context}");
        assert_eq!(reply["missing"], json!([]), "{context}");
        let plan = reply["implementation_plan"].as_array().unwrap();
        let days: f64 = plan.iter().filter_map(|phase| phase["duration_days"].as_f64()).sum();
        let approved = decision.starts_with("APPROVE");
        let expected = if approved { 10.0 } else { 0.0 };
        assert!((days - expected).abs() < 1e-9, "{context}: {plan:?}");
    }
}

#[test]
fn a_decision_without_the_facts_names_what_is_missing() {
    let app = TestApp::seeded();
    let whole = json!({
        "estimated_cost": 100, "expected_revenue": 350, "technical_complexity": 4,
        "market_uncertainty": 2, "resource_availability": 8, "timeline_pressure": 3,
        "revenue_impact": 2_000_000,
    });
    assert_eq!(decide(&app, &whole)["decision"], "APPROVE_IMMEDIATE");
    for missing in [
        &["estimated_cost"][..],
        &["expected_revenue"],
        &["estimated_cost", "expected_revenue"],
        &["technical_complexity"],
        &["market_uncertainty"],
        &["resource_availability"],
        &["timeline_pressure"],
        &["technical_complexity", "market_uncertainty"],
    ] {
        let mut context = whole.clone();
        for name in missing {
            context.as_object_mut().unwrap().remove(*name);
        }
        let reply = decide(&app, &context);
        assert_eq!(reply["decision"], "INSUFFICIENT_DATA", "without {missing:?}");
        assert_eq!(reply["missing"], json!(missing));
        let money = missing.iter().any(|name| name.contains("cost") || name.contains("revenue"));
        assert_eq!(reply["roi_percent"].is_null(), money, "without {missing:?}");
        for name in missing {
            assert!(reply["rationale"].as_str().unwrap().contains(name), "{}", reply["rationale"]);
        }
    }
}

#[test]
fn a_decision_is_stored_with_its_inputs_and_its_author() {
    let app = TestApp::seeded();
    let context =
        json!({ "title": "Größe \"42\"", "estimated_cost": 100.5, "affects_security": true });
    let reply = decide(&app, &context);
    assert_eq!(reply["author"], app.user_id());
    assert_eq!(reply["decided_at"], app.now().to_rfc3339());
    assert!(reply["decision_id"].as_str().unwrap().starts_with("dec_"));
    let [row] = &app.rows("SELECT * FROM decisions")[..] else { panic!() };
    let text = |column: &str| row.get::<String>(column).unwrap();
    assert_eq!(text("id"), reply["decision_id"]);
    assert_eq!(text("tenant_id"), "ten_default");
    assert_eq!(text("author_id"), app.user_id());
    assert_eq!(text("decision"), reply["decision"]);
    assert_eq!(row.get::<i64>("created_at").unwrap(), app.now().millis());
    // What was signed: the reply, but for the signature and what a narrator says.
    let mut signed = reply.clone();
    let fields = signed.as_object_mut().unwrap();
    assert!(fields.remove("signature").unwrap()["value"].is_string());
    assert!(fields.remove("narrative").unwrap().is_null());
    assert_eq!(text("reply").as_bytes(), canonical(&signed).unwrap(), "as it was given");
    let mut inputs: Value = row.json("inputs").unwrap();
    inputs.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    assert_eq!(inputs, context);
    let [line] = &app.rows("SELECT * FROM activity WHERE event = 'decision.made'")[..] else {
        panic!()
    };
    assert_eq!(line.get::<String>("actor").unwrap(), app.user_id());
    assert_eq!(line.get::<String>("subject").unwrap(), reply["decision_id"]);
    assert_eq!(app.read(&api("/info"))["statistics"]["decisions"], 1);
}

#[test]
fn the_same_question_gets_the_same_answer_and_an_id_of_its_own() {
    let app = TestApp::seeded();
    let context = json!({ "estimated_cost": 3, "expected_revenue": 7 });
    let (mut first, mut second) = (decide(&app, &context), decide(&app, &context));
    assert_ne!(first["decision_id"].take(), second["decision_id"].take());
    assert_ne!(first["signature"].take(), second["signature"].take());
    assert_eq!(first, second);
}

// ---- /status ----

#[test]
fn status_says_of_each_component_what_was_found() {
    type Break = fn(&TestApp);
    for (what, damage, component, state, overall) in [
        ("all is well", (|_| {}) as Break, "d1", "operational", "operational"),
        (
            "KV does not answer",
            |app| app.platform.kv.inject(SELF_CHECK_KEY),
            "kv",
            "down",
            "degraded",
        ),
        (
            // The withdrawn tokens are read first.
            "the board does not answer",
            |app| (0..2).for_each(|_| app.platform.objects.inject("snapshot", Fault::Lost)),
            "board_object",
            "down",
            "degraded",
        ),
        (
            "the board does not answer a ping",
            |app| app.platform.objects.inject("BOARD/ten_default \"ping\"", Fault::Lost),
            "board_object",
            "down",
            "degraded",
        ),
        (
            "a partnership does not answer",
            |app| app.platform.objects.inject("PARTNERSHIP/", Fault::Lost),
            "partnership_object",
            "down",
            "degraded",
        ),
        (
            "D1 cannot count its rows",
            |app| (0..2).for_each(|_| app.platform.database.inject("COUNT(*)", Fault::Lost)),
            "d1",
            "down",
            "degraded",
        ),
        (
            "nothing outside answers",
            |app| app.platform.outbound.script("https://example.com/", Script::Hangs),
            "outbound",
            "down",
            "degraded",
        ),
        (
            "no tick for 181 s",
            |app| app.platform.clock.advance_ms(3 * MINUTE_MS + 1_000),
            "cron",
            "down",
            "degraded",
        ),
        (
            "no tick for 180 s",
            |app| app.platform.clock.advance_ms(3 * MINUTE_MS),
            "cron",
            "operational",
            "operational",
        ),
    ] {
        let app = TestApp::measured();
        app.outside_reachable();
        damage(&app);
        let status = app.read(&api("/status"));
        assert_eq!(status["components"][component], state, "{what}: {status:#}");
        assert_eq!(status["overall_status"], overall, "{what}: {status:#}");
        assert!(status["component_details"][component].is_string(), "{what}");
        let others = status["components"].as_object().unwrap();
        for (name, other) in others.iter().filter(|(name, _)| *name != component) {
            // Without a board nobody knows whom to ask.
            let unasked = what == "the board does not answer" && name == "partnership_object";
            assert_eq!(*other, if unasked { "unknown" } else { "operational" }, "{what}: {name}");
        }
        assert!(!status.to_string().contains("injected"), "{what}");
        assert_eq!(status["last_check"], app.now().to_rfc3339(), "{what}");
        let next = app.now().floor_to(MINUTE_MS).plus_ms(MINUTE_MS);
        assert_eq!(status["next_check"], next.to_rfc3339(), "{what}");
    }
}

#[test]
fn status_says_that_d1_is_lost_instead_of_failing() {
    let app = TestApp::measured();
    app.outside_reachable();
    app.lose_database(20);
    let reply = app.get(&api("/status")).bearer(&app.admin()).send();
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json["components"]["d1"], "down");
    assert_eq!(reply.json["resource_usage"]["d1_rows"], Value::Null);
    assert_eq!(reply.json["components"]["board_object"], "operational");
}

#[test]
fn status_does_not_say_that_cron_never_ran_where_d1_could_not_tell() {
    let app = TestApp::measured();
    app.outside_reachable();
    (0..2).for_each(|_| app.platform.database.inject("FROM job_runs WHERE", Fault::Lost));
    let status = app.read(&api("/status"));
    assert_eq!(status["components"]["cron"], "unknown", "{}", status["component_details"]["cron"]);
    assert!(!status["component_details"]["cron"].as_str().unwrap().contains("never"));
}

#[test]
fn checks_of_the_last_second_are_not_made_again() {
    for path in ["/status", "/deployment/readiness"] {
        let app = TestApp::measured();
        let statements = |after_ms: i64| {
            app.platform.clock.advance_ms(after_ms);
            let before = app.platform.database.statements_run();
            let report = app.read(&api(path));
            let checked_at = report["last_check"].as_str().unwrap().to_owned();
            (app.platform.database.statements_run() - before, checked_at)
        };
        let (first, checked_at) = statements(0);
        assert!(first > 0, "{path}");
        for after_ms in [0, 1, 600] {
            // And the reply says of when it is.
            assert_eq!(statements(after_ms), (0, checked_at.clone()), "{path}, {after_ms} ms on");
        }
        assert_eq!(statements(1_000), (first, app.now().to_rfc3339()), "{path}");
    }
}

#[test]
fn status_says_whether_the_tick_ran_and_how() {
    let app = bootstrapped();
    let cron = |app: &TestApp| {
        // The checks of the last second serve all.
        app.platform.clock.advance_ms(1_000);
        let status = app.read(&api("/status"));
        let detail = status["component_details"]["cron"].as_str().unwrap().to_owned();
        (status["components"]["cron"].as_str().unwrap().to_owned(), detail)
    };
    let (state, detail) = cron(&app);
    assert_eq!(state, "down");
    assert!(detail.contains("never"), "{detail}");
    app.platform.objects.inject("\"tick\"", Fault::Lost);
    app.tick();
    let (state, detail) = cron(&app);
    assert_eq!(state, "degraded");
    assert!(detail.contains("failed"), "{detail}");
    app.next_minute();
    let (state, detail) = cron(&app);
    assert_eq!(state, "operational");
    assert!(detail.contains("succeeded"), "{detail}");
}

#[test]
fn resource_usage_is_counted_and_activity_is_newest_first() {
    let app = TestApp::seeded();
    for percent in [10, 20] {
        app.platform.clock.advance_ms(1_000);
        let body = json!({ "completion_percentage": percent, "status": "in_progress" });
        let path = api("/partnerships/grok/deliverables/luxury_brand_positioning_framework");
        app.put(&path).bearer(&app.admin()).json(body).send().expect(200);
    }
    let status = app.read(&api("/status"));
    let usage = &status["resource_usage"];
    assert_eq!(usage["d1_rows"]["tenants"], 1);
    assert_eq!(usage["d1_rows"]["partnerships"], 6);
    assert_eq!(usage["d1_rows"]["activity"], app.count("SELECT COUNT(*) AS n FROM activity"));
    assert!(usage["d1_bytes"].as_u64().unwrap() > 10_000);
    assert_eq!(usage["observations_total"], 6);
    assert_eq!(usage["observations_stored"], 6);
    assert!(usage["object_bytes"].as_u64().unwrap() > 6 * 1_000);
    let activity = status["recent_activity"].as_array().unwrap();
    assert_eq!(activity[0]["event"], "deliverable.reported");
    assert_eq!(activity[0]["actor"], app.user_id());
    assert_eq!(activity[0]["status"], "success");
    assert_eq!(activity[0]["subject"], "grok_brand");
    assert_eq!(activity.last().unwrap()["event"], "tenant.created");
    let times: Vec<&str> =
        activity.iter().map(|line| line["timestamp"].as_str().unwrap()).collect();
    assert!(times.iter().rev().is_sorted(), "{times:?}");
}

// ---- /deployment/readiness ----

fn check<'a>(report: &'a Value, name: &str) -> (&'a str, &'a str) {
    let check = &report["checks"][name];
    (check["status"].as_str().unwrap(), check["message"].as_str().unwrap())
}

/// A deployment with nothing to complain about.
fn production() -> TestApp {
    let app = TestApp::with_vars(|vars| {
        vars.set("ENVIRONMENT", "production");
        vars.set("SIGNING_KEY", PRODUCTION_KEY);
    });
    app.all_partners(Script::Status(401, 120.0));
    app.outside_reachable();
    app.tick();
    app.run("UPDATE users SET password_source = 'self'".to_owned());
    // Somebody was told of an outage in time,
    let hook = "https://hooks.example.com/on-call";
    app.platform.outbound.script(hook, Script::Status(204, 30.0));
    let channel = json!({ "kind": "webhook", "name": "On call", "url": hook });
    app.post(&api("/channels")).bearer(&app.admin()).json(channel).send().expect(201);
    app.platform.outbound.script(crate::support::CURSOR_PROBE, Script::Status(503, 80.0));
    for _ in 0..3 {
        app.next_minute();
        app.world.ring();
    }
    app.next_minute();
    // there is a backup, and one was restored.
    app.world.scheduled("37 * * * *", app.now());
    let mut bucket = app.platform.bucket.contents();
    let drill = json!({
        "backup_id": "bak_1", "finished_at": app.now().to_rfc3339(), "duration_ms": 1, "rows": 1,
    });
    bucket.insert("drills/last.json".to_owned(), drill.to_string().into_bytes());
    app.platform.bucket.set_contents(bucket);
    app
}

#[test]
fn a_deployment_in_order_is_production_ready() {
    let app = production();
    let report = app.read(&api("/deployment/readiness"));
    assert_eq!(report["overall_status"], "production_ready", "{report:#}");
    assert_eq!(report["readiness_score"], 100.0);
    assert_eq!(report["recommendations"], json!([]));
    let total = report["checks"].as_object().unwrap().len();
    assert!(total >= 10);
    assert_eq!(
        report["summary"],
        json!({ "total_checks": total, "passed": total, "warnings": 0, "failed": 0, "not_run": 0 })
    );
    for (name, check) in report["checks"].as_object().unwrap() {
        assert_eq!(check["checked_at"], app.now().to_rfc3339(), "{name}");
    }
}

#[test]
fn readiness_finds_what_is_wrong() {
    type Break = fn(&mut TestApp);
    fn set(app: &mut TestApp, change: fn(&Vars)) {
        change(&app.platform.vars);
        app.world.restart();
    }
    for (what, damage, name, status, message) in [
        (
            "the development key",
            (|app| set(app, |vars| vars.set("SIGNING_KEY", SIGNING_KEY))) as Break,
            "signing_key",
            "fail",
            "development",
        ),
        (
            "a second key for development",
            |app| set(app, |vars| vars.set("SIGNING_KEY_2", SIGNING_KEY)),
            "signing_key",
            "fail",
            "SIGNING_KEY_2 is a development key",
        ),
        (
            "any origin",
            |app| set(app, |vars| vars.set("CORS_ALLOWED_ORIGINS", "*")),
            "cors",
            "fail",
            "*",
        ),
        (
            "any origin among others",
            |app| set(app, |vars| vars.set("CORS_ALLOWED_ORIGINS", "https://a.example,*")),
            "cors",
            "fail",
            "*",
        ),
        (
            "an origin without TLS",
            |app| set(app, |vars| vars.set("CORS_ALLOWED_ORIGINS", "http://a.example")),
            "cors",
            "warning",
            "http://a.example",
        ),
        (
            "loopback probes in production",
            |app| set(app, |vars| vars.set("ALLOW_LOOPBACK_PROBES", "true")),
            "loopback_probes",
            "fail",
            "outside of development",
        ),
        (
            "the password of the first start",
            |app| app.run("UPDATE users SET password_source = 'bootstrap'".to_owned()),
            "bootstrap_secret",
            "warning",
            "password",
        ),
        (
            "a migration that is missing",
            |app| app.run(format!("DELETE FROM d1_migrations WHERE name = '{}'", MIGRATIONS[5].0)),
            "migrations",
            "fail",
            MIGRATIONS[5].0,
        ),
        (
            "KV that does not answer",
            |app| app.platform.kv.inject(SELF_CHECK_KEY),
            "kv_round_trip",
            "fail",
            "KV",
        ),
        (
            "a partnership that does not answer",
            |app| app.platform.objects.inject("PARTNERSHIP/", Fault::Lost),
            "objects",
            "fail",
            "no answer",
        ),
        (
            "a tick that never ran",
            |app| app.run("DELETE FROM job_runs".to_owned()),
            "cron",
            "fail",
            "never",
        ),
        (
            "a tick 4 minutes ago",
            |app| app.platform.clock.advance_ms(4 * MINUTE_MS),
            "cron",
            "fail",
            "240 s ago",
        ),
        (
            "a tick that failed",
            |app| app.run("UPDATE job_runs SET outcome = 'failed'".to_owned()),
            "cron",
            "warning",
            "failed",
        ),
    ] {
        let mut app = production();
        damage(&mut app);
        let report = app.read(&api("/deployment/readiness"));
        let (found, says) = check(&report, name);
        assert_eq!(found, status, "{what}: {report:#}");
        assert!(says.contains(message), "{what}: {says}");
        let (overall, count) = match status {
            "fail" => ("not_ready", "failed"),
            _ => ("ready_with_warnings", "warnings"),
        };
        assert_eq!(report["overall_status"], overall, "{what}");
        assert_eq!(report["summary"][count], 1, "{what}: {report:#}");
        assert_eq!(report["recommendations"].as_array().unwrap().len(), 1, "{what}");
        assert!(!report.to_string().contains("injected"), "{what}");
    }
}

#[test]
fn what_could_not_be_checked_is_not_run_and_never_green() {
    let app = production();
    app.lose_database(20);
    let report = app.get(&api("/deployment/readiness")).bearer(&app.admin()).send().expect(200);
    assert_eq!(check(&report, "d1_round_trip").0, "fail");
    for name in ["migrations", "cron", "bootstrap_secret"] {
        let (status, message) = check(&report, name);
        assert_eq!(status, "not_run", "{name}");
        assert!(message.contains("not run"), "{name}: {message}");
        assert_eq!(report["checks"][name]["checked_at"], Value::Null, "{name}");
    }
    assert_eq!(report["overall_status"], "not_ready");
    adds_up(&report);

    let app = production();
    // One call for the withdrawn tokens, one for the report.
    (0..2).for_each(|_| app.platform.objects.inject("snapshot", Fault::Lost));
    let report = app.read(&api("/deployment/readiness"));
    assert_eq!(check(&report, "objects").0, "fail");
    assert_eq!(check(&report, "partnership_data").0, "not_run");
    adds_up(&report);
}

/// The summary counts the checks as they are, and `not_run` earns nothing.
#[track_caller]
fn adds_up(report: &Value) {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for check in report["checks"].as_object().unwrap().values() {
        *counts.entry(check["status"].as_str().unwrap()).or_default() += 1;
    }
    let count = |status| counts.get(status).copied().unwrap_or(0);
    let total: u64 = counts.values().sum();
    let (passed, warnings) = (count("pass"), count("warning"));
    assert_eq!(
        report["summary"],
        json!({
            "total_checks": total, "passed": passed, "warnings": warnings,
            "failed": count("fail"), "not_run": count("not_run"),
        })
    );
    let score = 100.0 * (passed as f64 + 0.5 * warnings as f64) / total as f64;
    assert!((report["readiness_score"].as_f64().unwrap() - score).abs() < 0.001, "{report:#}");
}

#[test]
fn a_fresh_deployment_is_not_ready() {
    let app = bootstrapped();
    let report = app.read(&api("/deployment/readiness"));
    assert_eq!(report["overall_status"], "not_ready");
    assert_eq!(check(&report, "cron").0, "fail");
    assert_eq!(check(&report, "signing_key").0, "fail");
    let (status, message) = check(&report, "partnership_data");
    assert_eq!(status, "warning");
    assert!(SEEDS.iter().all(|id| message.contains(id)), "{message}");
    adds_up(&report);
}

#[test]
fn a_missing_signing_key_is_said_clearly() {
    let app = TestApp::with_vars(|vars| vars.remove("SIGNING_KEY"));
    let body = json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD });
    for (what, reply) in [
        ("login", app.post("/api/v1/auth/login").json(body).send()),
        ("jwks", app.get("/.well-known/jwks.json").send()),
    ] {
        assert_eq!(reply.problem(503), "not_configured", "{what}");
        assert!(reply.json["detail"].as_str().unwrap().contains("SIGNING_KEY"), "{what}");
    }
    // No token can be valid, and who sends none still sees the public part.
    assert_eq!(app.get(&api("/metrics")).bearer("x.y.z").send().problem(401), "invalid_token");
    app.get(&api("/health")).send().expect(200);
}

#[test]
fn readiness_writes_to_kv_no_more_than_kv_takes() {
    let app = production();
    for step_ms in [0, 1, 500, 999, 1_000, MINUTE_MS] {
        app.platform.clock.advance_ms(step_ms);
        let report = app.read(&api("/deployment/readiness"));
        assert_eq!(check(&report, "kv_round_trip").0, "pass", "{step_ms}: {report:#}");
    }
}

// ---- /config and /info ----

#[test]
fn config_shows_the_values_in_force_and_no_secret() {
    let app = TestApp::with_vars(|vars| {
        vars.set("ENVIRONMENT", "staging");
        vars.set("PUBLIC_HEALTH", "false");
        vars.set("CORS_ALLOWED_ORIGINS", ORIGIN);
        vars.set("CONTROL_TARGETS", "https://one.example.org/,https://two.example.org/");
        vars.set("SIGNING_KEY", PRODUCTION_KEY);
        vars.set("SIGNING_KEY_2", SIGNING_KEY);
        vars.set("SIGNING_KEY_ACTIVE", "2");
        vars.set("BOOTSTRAP_ADMIN_PASSWORD", "canary of the bootstrap");
    });
    app.tick();
    let reply = app.get(&api("/config")).bearer(&app.admin()).send();
    for secret in [PRODUCTION_KEY, SIGNING_KEY, "AQECAwQF", "AAECAwQF", "canary", ADMIN_USERNAME] {
        assert!(!reply.text.contains(&format!("\"{secret}")), "{secret}: {}", reply.text);
    }
    assert!(!reply.text.contains("canary") && !reply.text.contains("AwQFBgc"), "{}", reply.text);
    let config = reply.expect(200);
    assert_eq!(config["version"], 1);
    assert_eq!(config["last_updated"], app.now().to_rfc3339());
    let configuration = &config["configuration"];
    let settings = &configuration["api_settings"];
    assert_eq!(settings["environment"], "staging");
    assert_eq!(settings["public_health"], false);
    assert_eq!(settings["cors_allowed_origins"], json!([ORIGIN]));
    assert_eq!(settings["max_batch_rows"], 500);
    let security = &configuration["security_settings"];
    assert_eq!(security["access_token_seconds"], 900);
    assert_eq!(security["refresh_token_seconds"], 7 * 24 * 3_600);
    assert_eq!(security["signing_key_usable"], true);
    assert_eq!(security["active_signing_key_slot"], 2);
    assert_eq!(security["second_signing_key_present"], true);
    assert_eq!(security["bootstrap_secrets_present"], true);
    let orchestration = &configuration["orchestration_settings"];
    assert_eq!(orchestration["metrics_window_ms"], 24 * 3_600_000);
    assert_eq!(orchestration["raw_retention_ms"], 48 * 3_600_000);
    assert_eq!(orchestration["day_rollup_retention_ms"], Value::Null);
    assert_eq!(
        orchestration["control_targets"],
        json!(["https://one.example.org/", "https://two.example.org/"])
    );
    let weights = json!({ "reliability": 40.0, "kpis": 40.0, "deliverables": 20.0 });
    assert_eq!(configuration["partnership_settings"]["weights"], weights);
    assert_eq!(configuration["partnership_settings"]["min_coverage"], 0.3);
}

#[test]
fn info_says_who_is_asking_and_counts_what_is_there() {
    let app = with_acme();
    for (role, permissions) in [
        (
            Role::SystemAdmin,
            vec![
                "metrics:read",
                "partnerships:read",
                "partnerships:write",
                "decisions:read",
                "policies:read",
                "system:read",
                "docs:read",
                "incidents:read",
                "incidents:write",
                "channels:read",
                "channels:write",
                "backups:read",
            ],
        ),
        (
            Role::OrchestrationManager,
            vec![
                "metrics:read",
                "partnerships:read",
                "partnerships:write",
                "decisions:read",
                "decisions:write",
                "policies:read",
                "docs:read",
                "system:read",
                "incidents:read",
                "incidents:write",
            ],
        ),
    ] {
        let info = app.get(&api("/info")).bearer(&app.token(role)).send().expect(200);
        assert_eq!(info["user"]["id"], app.user_id());
        assert_eq!(info["user"]["role"], role.name());
        let listed: BTreeSet<&str> = info["user"]["permissions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_str().unwrap())
            .collect();
        assert_eq!(listed, permissions.into_iter().collect(), "{}", role.name());
    }
    let info = app.read(&api("/info"));
    assert_eq!(info["partnerships"], 7);
    assert_eq!(info["api_version"], "v1");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    let statistics = &info["statistics"];
    // 6 seeds with 20 KPIs and 18 deliverables, and one more of each.
    assert_eq!(
        (&statistics["kpis"], &statistics["deliverables"], &statistics["probes_enabled"]),
        (&json!(21), &json!(19), &json!(7))
    );
    assert_eq!(statistics["partnerships_with_score"], 6);
}

#[test]
fn two_worlds_of_the_same_history_answer_alike() {
    let replies = || {
        let app = TestApp::measured();
        ["/health", "/metrics", "/partnerships", "/info"].map(|path| app.read(&api(path)))
    };
    assert_eq!(replies(), replies());
}

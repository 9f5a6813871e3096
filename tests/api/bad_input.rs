//! What careless and hostile clients send, and what is lost on the way: each
//! gets its stated refusal, nothing is half-written, and no secret gets out.

use crate::support::{API, NOW, OTHER_TENANT, Stored, TestApp, TestReply, TestRequest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::auth::token::Grant;
use devskyy_orchestration::domain::id::IdKind;
use devskyy_orchestration::domain::time::{MINUTE_MS, SECOND_MS, Timestamp};
use devskyy_orchestration::entry::native::{ADMIN_PASSWORD, ADMIN_USERNAME, SIGNING_KEY};
use devskyy_orchestration::platform::native::{Fault, Script};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

const JSON: &str = "application/json";
const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";

fn api(path: &str) -> String {
    format!("{API}{path}")
}

/// The one code and the pointers of a refusal.
#[track_caller]
fn refused(reply: &TestReply, place: &str, status: u16, code: &str, pointers: &[&str]) {
    assert_eq!(reply.status, status, "{place}: {}", reply.text);
    assert_eq!(reply.problem(status), code, "{place}: {}", reply.text);
    assert_eq!(reply.pointers(), pointers, "{place}: {}", reply.text);
}

// ---- every route that takes a body ----

/// A route that takes a body, with one that is right.
struct Target {
    method: &'static str,
    path: String,
    body: Value,
    /// Fields that must be there.
    required: &'static [&'static str],
    token: Option<String>,
}

impl Target {
    fn request<'a>(&self, app: &'a TestApp) -> TestRequest<'a> {
        let request = app.request(self.method, &self.path);
        match &self.token {
            Some(token) => request.bearer(token),
            None => request,
        }
    }

    fn place(&self, what: &str) -> String {
        format!("{} {}: {what}", self.method, self.path)
    }

    fn is_list(&self) -> bool {
        self.body.is_array()
    }
}

struct Session {
    access: String,
    refresh: String,
}

fn log_in(app: &TestApp) -> Session {
    let body = json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD });
    let reply = app.post(LOGIN).json(body).send().expect(200);
    let text = |name: &str| reply[name].as_str().unwrap().to_owned();
    Session { access: text("access_token"), refresh: text("refresh_token") }
}

fn targets(session: &Session) -> Vec<Target> {
    let target = |method, path: &str, required, body| {
        let public = path == LOGIN || path == REFRESH;
        let path = if path.starts_with("/api") { path.to_owned() } else { api(path) };
        let token = (!public).then(|| session.access.clone());
        Target { method, path, body, required, token }
    };
    vec![
        target("POST", "/decisions", &["context"], json!({ "context": { "estimated_cost": 1 } })),
        target(
            "POST",
            "/partnerships",
            &["id", "name", "partner"],
            json!({ "id": "acme_search", "name": "Search", "partner": "Acme" }),
        ),
        target("PATCH", "/partnerships/cursor", &[], json!({ "name": "Other" })),
        target(
            "PUT",
            "/partnerships/cursor/deliverables/mobile_first_platform",
            &["completion_percentage", "status"],
            json!({ "completion_percentage": 50, "status": "in_progress" }),
        ),
        target(
            "POST",
            "/partnerships/cursor/observations",
            &[],
            json!([{ "at": NOW, "outcome": "up", "source": "gateway" }]),
        ),
        target(
            "POST",
            "/partnerships/cursor/kpis/security_score",
            &["value", "at"],
            json!({ "value": 1, "at": NOW }),
        ),
        target(
            "POST",
            "/partnerships/cursor/kpis/security_score",
            &[],
            json!([{ "value": 1, "at": NOW }]),
        ),
        target(
            "POST",
            "/api/v1/auth/users",
            &["username", "password", "role"],
            json!({ "username": "grace", "password": "a password of hers", "role": "viewer" }),
        ),
        target("PATCH", "/api/v1/auth/users/usr_target", &[], json!({ "role": "ingest" })),
        target(
            "POST",
            LOGIN,
            &["username", "password"],
            json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD }),
        ),
        target("POST", REFRESH, &["refresh_token"], json!({ "refresh_token": session.refresh })),
        target(
            "POST",
            "/api/v1/auth/logout",
            &["refresh_token"],
            json!({ "refresh_token": session.refresh }),
        ),
        target(
            "PUT",
            "/api/v1/auth/password",
            &["current_password", "new_password"],
            json!({ "current_password": ADMIN_PASSWORD, "new_password": "quite another one" }),
        ),
    ]
}

/// A world in which all of the bodies above are right.
fn world() -> (TestApp, Session) {
    let app = TestApp::measured();
    app.run(
        "INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, \
         created_at, created_by, updated_at) \
         VALUES ('usr_target', 'ten_default', 'target', 'x', 'admin', 'viewer', 0, 'system', 0)"
            .to_owned(),
    );
    let session = log_in(&app);
    (app, session)
}

#[test]
fn the_bodies_below_are_right_but_for_their_one_flaw() {
    let (app, session) = world();
    for target in targets(&session) {
        let reply = target.request(&app).json(target.body.clone()).send();
        assert!(reply.status < 300, "{}: {}", target.place("valid"), reply.text);
    }
}

#[test]
fn what_is_not_json_is_malformed_everywhere() {
    let (app, session) = world();
    let before = app.stored();
    for target in targets(&session) {
        let whole = target.body.to_string();
        let cut = &whole[..whole.len() - 1];
        let wrap =
            |text: &str| if target.is_list() { format!("[{text}]") } else { text.to_owned() };
        let first = if target.is_list() { &target.body[0] } else { &target.body };
        let field = first.as_object().and_then(|fields| fields.keys().next()).unwrap();
        let value = |value: &str| wrap(&format!("{{\"{field}\": {value}}}")).into_bytes();
        for (what, body) in [
            ("empty", b"".to_vec()),
            ("blank", b" \n".to_vec()),
            ("cut off", cut.as_bytes().to_vec()),
            ("more behind it", format!("{whole} x").into_bytes()),
            ("two of them", format!("{whole}{whole}").into_bytes()),
            ("NaN", value("NaN")),
            ("Infinity", value("Infinity")),
            ("-Infinity", value("-Infinity")),
            ("a number out of range", value("1e999")),
            ("undefined", value("undefined")),
            ("half a character", wrap("{\"\\ud800\": 1}").into_bytes()),
            ("a control character", wrap("{\"a\nb\": 1}").into_bytes()),
            ("single quotes", wrap("{'value': 1}").into_bytes()),
            ("a comment", format!("{whole} // so").into_bytes()),
            ("a byte order mark", [b"\xef\xbb\xbf", whole.as_bytes()].concat()),
            ("UTF-16", whole.encode_utf16().flat_map(u16::to_le_bytes).collect()),
            ("no UTF-8", b"\xff\xfe\x00".to_vec()),
        ] {
            // Both are JSON as far as its grammar goes: there a row is refused,
            // and not the batch.
            let of_a_row = ["a number out of range", "half a character"].contains(&what);
            if of_a_row && target.path.ends_with("/observations") {
                continue;
            }
            let reply = target.request(&app).bytes(JSON, &body).send();
            refused(&reply, &target.place(what), 400, "malformed_json", &[]);
        }
    }
    assert_eq!(app.stored(), before);
}

#[test]
fn depth_is_bounded() {
    let (app, session) = world();
    let deep = 100_000;
    let (open, close) = ("[".repeat(deep), "]".repeat(deep));
    for target in targets(&session) {
        // The rows of a batch are read one by one: there the row is refused.
        let by_row = target.path.ends_with("/observations");
        for (what, body, of_rows) in [
            ("lists", open.clone(), 400),
            ("lists that end", format!("{open}{close}"), 202),
            ("objects", "{\"x\":".repeat(deep), 422),
            ("a value of a field", format!("{{\"x\":{open}1{close}}}"), 422),
            ("a value in a row", format!("[{{\"at\":{open}1{close}}}]"), 202),
        ] {
            let reply = target.request(&app).body(JSON, &body).send();
            let place = target.place(what);
            let expected = if by_row { of_rows } else { 400 };
            assert_eq!(reply.status, expected, "{place}: {}", reply.text);
            if expected == 202 {
                assert_eq!(reply.json["accepted"], 0, "{place}: {}", reply.text);
            } else {
                reply.problem(expected);
            }
            assert!(reply.text.len() < 2_000, "{place}: {} bytes", reply.text.len());
        }
    }
}

#[test]
fn the_media_type_must_be_that_of_json() {
    let (app, session) = world();
    let before = app.stored();
    for target in targets(&session) {
        let body = target.body.to_string();
        for media in [
            None,
            Some(""),
            Some("text/plain"),
            Some("text/json"),
            Some("application/xml"),
            Some("multipart/form-data; boundary=x"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonp"),
            Some("application/json/x"),
            Some("application"),
            Some("json"),
        ] {
            if target.path == LOGIN && media == Some("application/x-www-form-urlencoded") {
                continue;
            }
            let mut request = target.request(&app).body("x", &body);
            request.request.headers = Default::default();
            if let Some(token) = &target.token {
                request = request.bearer(token);
            }
            if let Some(media) = media {
                request = request.header("content-type", media);
            }
            let place = target.place(&format!("{media:?}"));
            refused(&request.send(), &place, 415, "unsupported_media_type", &[]);
        }
    }
    assert_eq!(app.stored(), before);
}

#[test]
fn the_media_type_may_have_parameters_and_any_case() {
    let (app, session) = world();
    for media in
        ["application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"]
    {
        let request = app.patch(&api("/partnerships/cursor")).bearer(&session.access);
        assert_eq!(request.body(media, "{}").send().status, 200, "{media}");
    }
}

#[test]
fn a_body_over_the_limit_is_too_large_everywhere() {
    let (app, session) = world();
    let before = app.stored();
    for target in targets(&session) {
        for media in [JSON, "text/plain"] {
            let reply = target.request(&app).too_large(media).send();
            refused(&reply, &target.place(media), 413, "payload_too_large", &[]);
        }
        if target.token.is_some() {
            let mut request = target.request(&app).too_large(JSON);
            request.request.headers = Default::default();
            // Who may not write at all learns nothing else.
            refused(&request.send(), &target.place("nobody"), 401, "unauthenticated", &[]);
        }
    }
    assert_eq!(app.stored(), before);
}

#[test]
fn another_shape_is_refused_everywhere_with_its_place() {
    let (app, session) = world();
    let before = app.stored();
    for target in targets(&session) {
        for (what, body) in [
            ("null", "null"),
            ("true", "true"),
            ("a number", "42"),
            ("a huge number", "123456789012345678901234567890"),
            ("a string", "\"text\""),
        ] {
            let reply = target.request(&app).body(JSON, body).send();
            refused(&reply, &target.place(what), 422, "validation_failed", &["#"]);
        }
        let other = if target.is_list() { "{}" } else { "[]" };
        // KPI values come alone or as a list.
        if !target.path.contains("/kpis/") {
            let reply = target.request(&app).body(JSON, other).send();
            refused(&reply, &target.place(other), 422, "validation_failed", &["#"]);
        }
        if target.is_list() {
            continue;
        }
        let mut with_more = target.body.clone();
        with_more["surprise/~"] = json!(1);
        let reply = target.request(&app).json(with_more).send();
        refused(&reply, &target.place("unknown"), 422, "validation_failed", &["#/surprise~1~0"]);
        for field in target.required {
            let pointer = format!("#/{field}");
            let place = target.place(field);
            let mut without = target.body.clone();
            without.as_object_mut().unwrap().remove(*field);
            let reply = target.request(&app).json(without).send();
            refused(&reply, &place, 422, "validation_failed", &[&pointer]);
            if is_word(&target, field) {
                continue;
            }
            let mut null = target.body.clone();
            null[*field] = Value::Null;
            let reply = target.request(&app).json(null).send();
            refused(&reply, &place, 422, "validation_failed", &[&pointer]);
        }
        for (field, value) in target.body.as_object().unwrap() {
            // An object fits no field here but `context`, a flag none at all.
            if !is_word(&target, field) {
                let mut flag = target.body.clone();
                flag[field] = json!(true);
                let reply = target.request(&app).json(flag).send();
                let pointer = format!("#/{field}");
                refused(&reply, &target.place(field), 422, "validation_failed", &[&pointer]);
            }
            let twice =
                target.body.to_string().replacen('{', &format!("{{\"{field}\":{value},"), 1);
            let reply = target.request(&app).body(JSON, &twice).send();
            assert_eq!(reply.status, 422, "{} twice: {}", target.place(field), reply.text);
        }
    }
    assert_eq!(app.stored(), before);
}

/// The library that reads JSON lets a list stand for an object, its values in
/// the order in which the type declares its fields. On the wire these are
/// objects, and a list says nothing of which value is which.
#[test]
fn a_list_of_values_is_no_object() {
    let (app, session) = world();
    let mut taken = Vec::new();
    let row = json!([[NOW, "up", 1.5, "gateway"]]);
    let pushed = app.post(&api("/partnerships/cursor/observations")).bearer(&session.access);
    if pushed.json(row.clone()).send().json["accepted"] == 1 {
        taken.push(format!("a row of observations: {row}"));
    }
    for target in targets(&session).iter().filter(|target| !target.required.is_empty()) {
        let values: Vec<Value> =
            target.required.iter().map(|field| target.body[*field].clone()).collect();
        for more in 0..12 {
            let mut list = values.clone();
            list.extend(vec![Value::Null; more]);
            let list = if target.path.contains("/kpis/") { json!([list]) } else { json!(list) };
            let reply = target.request(&app).json(list.clone()).send();
            if reply.status < 300 {
                taken.push(target.place(&list.to_string()));
                break;
            }
        }
    }
    assert!(taken.is_empty(), "taken for objects: {taken:#?}");
}

/// Whether the field is one of a few words.
fn is_word(target: &Target, field: &str) -> bool {
    target.path.contains("/deliverables/") && field == "status"
        || target.method == "PATCH" && field == "role"
}

/// `true` in place of a word is JSON all right, of another shape.
#[test]
fn a_word_of_another_type_is_refused_with_its_place() {
    let (app, session) = world();
    let before = app.stored();
    let mut wrong = Vec::new();
    let acme = |kpi: Value| json!({ "kpis": [kpi] });
    let kpi = |direction: &Value| json!({ "name": "speed", "target": 1, "unit": "x", "direction": direction });
    for value in [json!(true), json!(1), json!(null), json!([]), json!({}), json!("no such word")] {
        let patch = app.patch(&api("/partnerships/cursor")).bearer(&session.access);
        let reply = patch.json(acme(kpi(&value))).send();
        let mut replies = vec![("#/kpis/0/direction".to_owned(), reply)];
        for target in targets(&session) {
            let Some(fields) = target.body.as_object() else { continue };
            for field in fields.keys().filter(|field| is_word(&target, field)) {
                // Left out and null are the same for a change of a user.
                if target.method == "PATCH" && value.is_null() {
                    continue;
                }
                let mut body = target.body.clone();
                body[field] = value.clone();
                let reply = target.request(&app).json(body).send();
                replies.push((format!("#/{field}"), reply));
            }
        }
        for (pointer, reply) in replies {
            if reply.status != 422 || reply.pointers() != [pointer.as_str()] {
                wrong.push(format!("{value} at {pointer}: {}", reply.text));
            }
        }
    }
    assert_eq!(app.stored(), before);
    assert!(wrong.is_empty(), "expected 422 with the pointer: {wrong:#?}");
}

/// What was sent may be a secret in the wrong field.
#[test]
fn a_refusal_does_not_repeat_the_refused_value() {
    let app = TestApp::seeded();
    let canary = "canary-in-a-wrong-field";
    let mut repeated = Vec::new();
    for (method, path, body) in [
        ("POST", "/decisions", json!({ "context": { "estimated_cost": canary } })),
        ("POST", "/decisions", json!({ "context": canary })),
        ("PATCH", "/partnerships/cursor", json!({ "availability_target_percent": canary })),
        (
            "PATCH",
            "/partnerships/cursor",
            json!({ "kpis": [{ "name": "ab", "target": 1, "unit": "x", "direction": canary }] }),
        ),
        (
            "PUT",
            "/partnerships/cursor/deliverables/mobile_first_platform",
            json!({ "completion_percentage": 1, "status": canary }),
        ),
        (
            "POST",
            "/partnerships/cursor/observations",
            json!([{ "at": NOW, "outcome": canary, "source": "g" }, canary]),
        ),
        ("POST", "/partnerships/cursor/kpis/security_score", json!({ "value": canary, "at": NOW })),
        ("PATCH", "/api/v1/auth/users/usr_x", json!({ "role": canary })),
    ] {
        let path = if path.starts_with("/api") { path.to_owned() } else { api(path) };
        let reply = app.request(method, &path).bearer(&app.admin()).json(body).send();
        if reply.text.contains(canary) {
            repeated.push(format!("{method} {path}: {}", reply.text));
        }
        let logged = app.platform.log.lines().pop().unwrap();
        assert!(!logged.contains(canary), "{method} {path}: {logged}");
    }
    assert!(repeated.is_empty(), "{repeated:#?}");
}

// ---- fields, one by one ----

#[test]
fn decision_contexts_are_checked_field_by_field() {
    let app = TestApp::seeded();
    let numbers = [
        "estimated_cost",
        "expected_revenue",
        "estimated_days",
        "technical_complexity",
        "market_uncertainty",
        "resource_availability",
        "timeline_pressure",
        "revenue_impact",
        "customer_impact",
        "operational_impact",
    ];
    let decide = |context: &str| {
        let body = format!("{{\"context\": {context}}}");
        app.post(&api("/decisions")).bearer(&app.admin()).body(JSON, &body).send()
    };
    for name in numbers {
        let pointer = format!("#/context/{name}");
        for bad in ["\"1\"", "[]", "{}", "true", "-1", "1e300", "-1e-9"] {
            let reply = decide(&format!("{{\"{name}\": {bad}}}"));
            refused(&reply, &format!("{name} {bad}"), 422, "validation_failed", &[&pointer]);
        }
        for unreadable in ["NaN", "1e999", "-1e999", "0x10", "01", "1."] {
            let reply = decide(&format!("{{\"{name}\": {unreadable}}}"));
            refused(&reply, &format!("{name} {unreadable}"), 400, "malformed_json", &[]);
        }
        assert_eq!(
            decide(&format!("{{\"{name}\": null}}")).status,
            200,
            "{name}: null is not given"
        );
    }
    for (context, pointers) in [
        ("{\"estimated_cost\": 0}", &["#/context/estimated_cost"][..]),
        ("{\"estimated_cost\": 1e-7}", &["#/context/estimated_cost"]),
        ("{\"estimated_days\": 3651}", &["#/context/estimated_days"]),
        ("{\"timeline_pressure\": 10.000001}", &["#/context/timeline_pressure"]),
        ("{\"affects_security\": \"yes\"}", &["#/context/affects_security"]),
        ("{\"affects_security\": 1}", &["#/context/affects_security"]),
        ("{\"estimated_costs\": 1}", &["#/context/estimated_costs"]),
        (
            "{\"estimated_cost\": -1, \"expected_revenue\": -1, \"timeline_pressure\": 11}",
            &[
                "#/context/estimated_cost",
                "#/context/expected_revenue",
                "#/context/timeline_pressure",
            ],
        ),
    ] {
        refused(&decide(context), context, 422, "validation_failed", pointers);
    }
    for (length, status) in [(200, 200), (201, 422)] {
        assert_eq!(decide(&json!({ "title": "é".repeat(length) }).to_string()).status, status);
    }
    for (length, status) in [(2_000, 200), (2_001, 422)] {
        let context = json!({ "description": "é".repeat(length) });
        assert_eq!(decide(&context.to_string()).status, status);
    }
}

#[test]
fn deliverable_reports_are_checked_field_by_field() {
    let app = TestApp::seeded();
    let before = app.stored();
    let put = |body: &str| {
        let path = api("/partnerships/cursor/deliverables/mobile_first_platform");
        app.put(&path).bearer(&app.admin()).body(JSON, body).send()
    };
    for (body, status, pointers) in [
        (
            r#"{"completion_percentage": 100.1, "status": "in_progress"}"#,
            422,
            &["#/completion_percentage"][..],
        ),
        (
            r#"{"completion_percentage": -0.1, "status": "in_progress"}"#,
            422,
            &["#/completion_percentage"],
        ),
        (
            r#"{"completion_percentage": "50", "status": "in_progress"}"#,
            422,
            &["#/completion_percentage"],
        ),
        (r#"{"completion_percentage": 1e999, "status": "in_progress"}"#, 400, &[]),
        (r#"{"completion_percentage": 50, "status": "done"}"#, 422, &["#/status"]),
        (r#"{"completion_percentage": 50, "status": "COMPLETED"}"#, 422, &["#/status"]),
        (r#"{"completion_percentage": 99.9, "status": "completed"}"#, 422, &["#/status"]),
        (
            r#"{"completion_percentage": 5, "status": "blocked", "due_date": "tomorrow"}"#,
            422,
            &["#/due_date"],
        ),
        (
            r#"{"completion_percentage": 5, "status": "blocked", "due_date": "2026-02-30"}"#,
            422,
            &["#/due_date"],
        ),
        (
            r#"{"completion_percentage": 5, "status": "blocked", "due_date": 20260228}"#,
            422,
            &["#/due_date"],
        ),
        (
            r#"{"completion_percentage": -1, "status": "completed", "due_date": ""}"#,
            422,
            &["#/completion_percentage", "#/status", "#/due_date"],
        ),
    ] {
        let code = if status == 400 { "malformed_json" } else { "validation_failed" };
        refused(&put(body), body, status, code, pointers);
    }
    for key in ["A", "a", "a-b", "1ab", "%C3%A9t%C3%A9", &"a".repeat(65)] {
        let path = api(&format!("/partnerships/cursor/deliverables/{key}"));
        let body = json!({ "completion_percentage": 1, "status": "blocked" });
        let reply = app.put(&path).bearer(&app.admin()).json(body).send();
        refused(&reply, key, 404, "not_found", &[]);
    }
    assert_eq!(app.stored(), before);
}

#[test]
fn observation_rows_are_refused_one_by_one_with_their_reason() {
    let app = TestApp::seeded();
    let push = |body: &str| {
        app.post(&api("/partnerships/cursor/observations"))
            .bearer(&app.admin())
            .body(JSON, body)
            .send()
    };
    let good = format!(r#"{{"at":"{NOW}","outcome":"up","source":"g"}}"#);
    for (row, reason) in [
        (good.replace(NOW, "yesterday"), "at: expected an RFC 3339 time"),
        (good.replace(NOW, "2026-01-31"), "at: expected an RFC 3339 time"),
        (good.replace(NOW, "1969-12-31T23:59:59Z"), "at: expected a time from the year 1970"),
        (good.replace(NOW, "2026-01-31T12:01:00.001Z"), "at: more than 60 s ahead"),
        (good.replace(NOW, "2026-01-29T11:59:59.999Z"), "at: more than 48 hours before"),
        (good.replace(&format!("\"{NOW}\""), "1769860800000"), "at: "),
        (good.replace("\"up\"", "\"fine\""), "outcome: "),
        (good.replace("\"up\"", "1"), "outcome: "),
        (good.replace("\"up\"", "null"), "outcome: "),
        (good.replace("\"g\"", "\"\""), "source: expected 1 to 64"),
        (good.replace("\"g\"", &format!("\"{}\"", "x".repeat(65))), "source: expected 1 to 64"),
        (good.replace("\"g\"", "\"a\\u0000b\""), "source: expected 1 to 64"),
        (good.replace("\"g\"", "7"), "source: "),
        (good.replace("}", ",\"latency_ms\":-0.001}"), "latency_ms: expected milliseconds"),
        (good.replace("}", ",\"latency_ms\":3600000.1}"), "latency_ms: expected milliseconds"),
        (good.replace("}", ",\"latency_ms\":1e300}"), "latency_ms: expected milliseconds"),
        (good.replace("}", ",\"latency_ms\":\"12\"}"), "latency_ms: "),
        (good.replace("}", ",\"verdict\":\"up\"}"), "verdict: unknown field"),
        (good.replace(",\"source\":\"g\"", ""), "missing field `source`"),
        ("{}".to_owned(), "missing field `at`"),
        ("null".to_owned(), "expected an object"),
        ("7".to_owned(), "expected an object"),
        ("\"row\"".to_owned(), "expected an object"),
        (format!("[\"{NOW}\",\"up\",1,\"g\"]"), "expected an object"),
        (good.replace("}", ",\"latency_ms\":1e999}"), "latency_ms: number out of range"),
        (good.replace("\"up\"", "{\"up\":null}"), "outcome: "),
    ] {
        // The row between two good ones, told apart by their time.
        let reply = push(&format!("[{good},{row},{good}]")).expect(202);
        assert_eq!(reply["accepted"], 2, "{row}: {reply}");
        let rejected = reply["rejected"].as_array().unwrap();
        assert_eq!(rejected.len(), 1, "{row}: {reply}");
        assert_eq!(rejected[0]["row"], 1, "{row}: {reply}");
        let said = rejected[0]["reason"].as_str().unwrap();
        assert!(said.starts_with(reason), "{row}: {said}");
        assert!(said.len() < 300, "{row}: {said}");
    }
    // Where one row is no JSON, none of it is.
    let row = good.replace("}", ",\"latency_ms\":NaN}");
    refused(&push(&format!("[{good},{row}]")), &row, 400, "malformed_json", &[]);
}

#[test]
fn a_batch_has_1_to_500_rows() {
    let app = TestApp::seeded();
    let before = app.stored();
    let row = json!({ "at": NOW, "outcome": "up", "source": "gateway" });
    let value = json!({ "value": 1, "at": NOW });
    for (path, item) in [
        ("/partnerships/cursor/observations", &row),
        ("/partnerships/cursor/kpis/security_score", &value),
    ] {
        for rows in [0, 501, 5_000] {
            let body = Value::from(vec![item.clone(); rows]);
            let reply = app.post(&api(path)).bearer(&app.admin()).json(body).send();
            refused(&reply, &format!("{path}: {rows} rows"), 422, "validation_failed", &["#"]);
        }
    }
    assert_eq!(app.stored(), before);
    for (path, item) in [
        ("/partnerships/cursor/observations", &row),
        ("/partnerships/cursor/kpis/security_score", &value),
    ] {
        for rows in [1, 500] {
            let body = Value::from(vec![item.clone(); rows]);
            let reply = app.post(&api(path)).bearer(&app.admin()).json(body).send().expect(202);
            assert_eq!(reply["accepted"], rows, "{path}");
        }
    }
}

#[test]
fn kpi_values_are_checked_all_or_nothing_with_pointers() {
    let app = TestApp::seeded();
    let before = app.stored();
    let push = |body: &str| {
        let path = api("/partnerships/cursor/kpis/security_score");
        app.post(&path).bearer(&app.admin()).body(JSON, body).send()
    };
    let good = format!(r#"{{"value": 1, "at": "{NOW}"}}"#);
    for (bad, pointer) in [
        (good.replace(": 1", ": 1.1e15"), "/value"),
        (good.replace(": 1", ": -1.1e15"), "/value"),
        (good.replace(": 1", ": \"1\""), "/value"),
        (good.replace(": 1", ": null"), "/value"),
        (good.replace(NOW, "2026-01-31T12:01:00.001Z"), "/at"),
        // 400 days and a millisecond.
        (good.replace(NOW, "2024-12-27T11:59:59.999Z"), "/at"),
        (good.replace(NOW, "today"), "/at"),
        (good.replace('}', ", \"unit\": \"%\"}"), "/unit"),
    ] {
        refused(&push(&bad), &bad, 422, "validation_failed", &[&format!("#{pointer}")]);
        let list = format!("[{good}, {bad}, {good}]");
        refused(&push(&list), &list, 422, "validation_failed", &[&format!("#/1{pointer}")]);
    }
    let both = format!(
        "[{}, {}]",
        good.replace(": 1", ": 1e16"),
        good.replace(NOW, "2027-01-01T00:00:00Z")
    );
    refused(&push(&both), &both, 422, "validation_failed", &["#/0/value", "#/1/at"]);
    for body in [good.replace(": 1", ": 1e999"), good.replace(": 1", ": NaN")] {
        refused(&push(&body), &body, 400, "malformed_json", &[]);
    }
    for (name, detail) in [
        ("no_such_kpi", "security_score"),
        ("uptime", "security_score"),
        ("SECURITY_SCORE", "security_score"),
    ] {
        let path = api(&format!("/partnerships/cursor/kpis/{name}"));
        let reply = app.post(&path).bearer(&app.admin()).body(JSON, &good).send();
        refused(&reply, name, 404, "not_found", &[]);
        assert!(
            reply.json["detail"].as_str().unwrap().contains(detail),
            "{name} names the valid ones"
        );
    }
    assert_eq!(app.stored(), before);
    for at in ["2026-01-31T12:01:00Z", "2024-12-27T12:00:00Z"] {
        push(&good.replace(NOW, at)).expect(202);
    }
}

#[test]
fn idempotency_keys_that_cannot_be_read_are_refused() {
    let app = TestApp::seeded();
    let before = app.stored();
    let long = "k".repeat(256);
    for key in ["", " ", "\"\"", "\"open", "\"a\"b\"", "ü", "a\u{7f}b", "\"a\\b\"", long.as_str()]
    {
        for (path, body) in [
            (
                "/partnerships/cursor/observations",
                json!([{ "at": NOW, "outcome": "up", "source": "g" }]),
            ),
            ("/partnerships/cursor/kpis/security_score", json!({ "value": 1, "at": NOW })),
        ] {
            let request = app.post(&api(path)).bearer(&app.admin()).header("idempotency-key", key);
            let reply = request.json(body).send();
            refused(&reply, &format!("{path}: {key:?}"), 400, "malformed_request", &[]);
        }
    }
    assert_eq!(app.stored(), before);
}

#[test]
fn a_refusal_does_not_repeat_what_was_sent_at_length() {
    let (app, session) = world();
    let long = "x".repeat(100_000);
    for target in targets(&session) {
        let mut bodies = vec![json!({ long.as_str(): 1 }).to_string(), json!(long).to_string()];
        if let Some(fields) = target.body.as_object() {
            bodies.extend(fields.keys().map(|field| {
                let mut body = target.body.clone();
                body[field] = json!(long);
                body.to_string()
            }));
        }
        for body in bodies {
            let reply = target.request(&app).body(JSON, &body).send();
            let place = target.place(&body[..40]);
            // Logging out with a token that is none is no error.
            let ended = target.path.ends_with("/logout") && reply.status == 204;
            assert!(ended || (400..500).contains(&reply.status), "{place}: {}", reply.status);
            assert!(reply.text.len() < 2_000, "{place}: {} bytes", reply.text.len());
        }
    }
}

// ---- who is calling ----

#[test]
fn odd_authorization_fields_are_no_tokens() {
    let app = TestApp::seeded();
    let token = app.admin();
    let huge = format!("Bearer {}", "x".repeat(1 << 20));
    let padded = format!("Bearer {token}{}", "A".repeat(8 * 1024));
    for value in [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic YWRtaW46YWRtaW4=",
        "Token abc",
        "DPoP abc",
        "Negotiate abc",
        &token,
        &format!("Bearer{token}"),
        &format!("Bearer:{token}"),
        &format!("Bearer\t{token}"),
        &format!("Bearer {token} {token}"),
        &format!("Bearer {token}, Bearer {token}"),
        &format!("Bearer \"{token}\""),
        &format!("Basic {token}"),
        &format!("Bearer {token}\0"),
        "Bearer null",
        "Bearer undefined",
        "Bearer ..",
        "Bearer {}",
        "Bearer 💥",
        &huge,
        &padded,
    ] {
        for path in ["/metrics", "/health"] {
            let reply = app.get(&api(path)).header("authorization", value).send();
            let shown: String = value.chars().take(40).collect();
            refused(&reply, &format!("{path}: {shown:?}"), 401, "invalid_token", &[]);
            assert!(reply.text.len() < 1_000, "{shown:?}");
        }
    }
    for value in
        [format!("bearer {token}"), format!("BEARER {token}"), format!("Bearer   {token} ")]
    {
        let reply = app.get(&api("/metrics")).header("authorization", &value).send();
        assert_eq!(reply.status, 200, "RFC 9110, 11.1: the scheme is in any case");
    }
}

/// A token made by hand. Only one that is right in all parts is let in.
struct Forge {
    key: SigningKey,
    kid: String,
    now: Timestamp,
}

impl Forge {
    fn new(app: &TestApp) -> Self {
        let seed = SIGNING_KEY.strip_prefix("dev:").unwrap();
        let seed: [u8; 32] = URL_SAFE_NO_PAD.decode(seed).unwrap().try_into().unwrap();
        let jwks = app.get("/.well-known/jwks.json").send().expect(200);
        let kid = jwks["keys"][0]["kid"].as_str().unwrap().to_owned();
        Self { key: SigningKey::from_bytes(&seed), kid, now: app.now() }
    }

    fn header(&self) -> Value {
        json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": self.kid })
    }

    fn claims(&self) -> Value {
        let iat = self.now.seconds();
        json!({
            "iss": "devskyy-orchestration", "aud": "devskyy-orchestration-api",
            "sub": IdKind::User.make(self.now, &[3; 10]), "tid": "ten_default", "role": "admin",
            "jti": IdKind::Token.make(self.now, &[5; 10]),
            "iat": iat, "nbf": iat, "exp": iat + 900,
        })
    }

    fn message(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(header), part(claims))
    }

    fn sign_with(key: &SigningKey, header: &Value, claims: &Value) -> String {
        let message = Self::message(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes()).to_bytes());
        format!("{message}.{signature}")
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        Self::sign_with(&self.key, header, claims)
    }

    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = self.claims();
        claims[name] = value;
        self.sign(&self.header(), &claims)
    }

    fn with_header(&self, name: &str, value: Value) -> String {
        let mut header = self.header();
        header[name] = value;
        self.sign(&header, &self.claims())
    }
}

#[track_caller]
fn let_in(app: &TestApp, token: &str) -> bool {
    let reply = app.get(&api("/config")).bearer(token).send();
    if reply.status != 200 {
        assert_eq!(reply.problem(401), "invalid_token");
    }
    reply.status == 200
}

#[test]
fn a_token_must_be_right_in_every_part() {
    let app = TestApp::seeded();
    let forge = Forge::new(&app);
    let good = forge.sign(&forge.header(), &forge.claims());
    assert!(let_in(&app, &good), "the tokens below are this one but for their flaw");

    let other_key = SigningKey::from_bytes(&[9; 32]);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (head, body) = message.split_once('.').unwrap();
    let mac = {
        let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": forge.kid });
        let message = Forge::message(&header, &forge.claims());
        let mut mac = Hmac::<Sha256>::new_from_slice(forge.key.verifying_key().as_bytes()).unwrap();
        mac.update(message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    };
    let own_key = json!({
        "kty": "OKP", "crv": "Ed25519",
        "x": URL_SAFE_NO_PAD.encode(other_key.verifying_key().as_bytes()),
    });
    let brings_its_key = {
        let mut header = forge.header();
        header["jwk"] = own_key;
        Forge::sign_with(&other_key, &header, &forge.claims())
    };
    let mut promoted = forge.claims();
    promoted["role"] = json!("viewer");
    let viewer = forge.sign(&forge.header(), &promoted);
    let admin_body = body;
    let viewer_signature = viewer.rsplit_once('.').unwrap().1;
    let iat = forge.now.seconds();
    let mut without_type = forge.header();
    without_type.as_object_mut().unwrap().remove("typ");

    for (flaw, token) in [
        ("signed with another key", Forge::sign_with(&other_key, &forge.header(), &forge.claims())),
        ("brings its own key", brings_its_key),
        ("the public key as the secret of an HMAC", mac),
        ("alg none, unsigned", {
            let header = json!({ "alg": "none", "typ": "at+jwt", "kid": forge.kid });
            format!("{}.", Forge::message(&header, &forge.claims()))
        }),
        ("alg none, signed", forge.with_header("alg", json!("none"))),
        ("another alg", forge.with_header("alg", json!("ES256"))),
        ("no alg", forge.with_header("alg", Value::Null)),
        ("the type of any JWT", forge.with_header("typ", json!("JWT"))),
        ("the type of an id token", forge.with_header("typ", json!("id+jwt"))),
        ("no type", forge.sign(&without_type, &forge.claims())),
        ("an unknown key", forge.with_header("kid", json!("no-such-key"))),
        ("a path as the key", forge.with_header("kid", json!("../../dev/null"))),
        ("an extension that must be understood", forge.with_header("crit", json!(["b64"]))),
        ("expired", forge.with_claim("exp", json!(iat))),
        ("expired long ago", forge.with_claim("exp", json!(0))),
        ("never expires", forge.with_claim("exp", Value::Null)),
        ("lives longer than 15 minutes", forge.with_claim("exp", json!(iat + 901))),
        ("a time that overflows", forge.with_claim("exp", json!(i64::MAX))),
        ("a time in text", forge.with_claim("exp", json!("2027-01-01"))),
        ("not yet valid", forge.with_claim("nbf", json!(iat + 61))),
        ("from the future", forge.with_claim("iat", json!(iat + 61))),
        ("another issuer", forge.with_claim("iss", json!("somebody-else"))),
        ("another audience", forge.with_claim("aud", json!("another-api"))),
        ("a list of audiences", forge.with_claim("aud", json!(["devskyy-orchestration-api"]))),
        ("an unknown role", forge.with_claim("role", json!("root"))),
        ("a role in capitals", forge.with_claim("role", json!("Admin"))),
        ("roles as a list", forge.with_claim("role", json!(["admin"]))),
        ("no tenant", forge.with_claim("tid", Value::Null)),
        ("a tenant that is none", forge.with_claim("tid", json!("default"))),
        ("a subject that is no user", forge.with_claim("sub", json!("ten_default"))),
        ("an id that is none", forge.with_claim("jti", json!("1"))),
        (
            "an id of another time",
            forge.with_claim("jti", json!(IdKind::Token.make(Timestamp::from_millis(0), &[1; 10]))),
        ),
        ("another body under the signature", format!("{head}.{admin_body}.{viewer_signature}")),
        ("no signature", format!("{message}.")),
        ("two parts", message.to_owned()),
        ("four parts", format!("{good}.x")),
        ("half a signature", format!("{message}.{}", &signature[..40])),
        ("padded", format!("{good}=")),
        (
            "the signature of another alphabet",
            format!("{message}.{}", signature.replace(['-', '_'], "+")),
        ),
        ("claims that are a list", forge.sign(&forge.header(), &json!([]))),
        ("a header that is a list", forge.sign(&json!([]), &forge.claims())),
    ] {
        assert!(!let_in(&app, &token) || token == good, "let in: {flaw}");
    }
    assert!(let_in(&app, &good), "and refusing the others did no harm");
}

#[test]
fn a_token_lives_from_its_issue_for_fifteen_minutes() {
    let app = TestApp::seeded();
    let token = app.admin();
    for (offset_ms, valid) in [
        (0, true),
        (15 * MINUTE_MS - 1, true),
        (15 * MINUTE_MS, false),
        // A clock that is behind ours by up to half a minute.
        (-30 * SECOND_MS, true),
        (-61 * SECOND_MS, false),
    ] {
        // A fresh isolate: one that has seen the token remembers it.
        let mut fresh = TestApp::seeded();
        fresh.world.restart();
        fresh.platform.clock.advance_ms(offset_ms);
        assert_eq!(let_in(&fresh, &token), valid, "{offset_ms} ms");
    }
    assert!(let_in(&app, &token));
    app.platform.clock.advance_ms(15 * MINUTE_MS);
    assert!(!let_in(&app, &token), "remembered, and expired all the same");
}

#[test]
fn spent_refresh_tokens_are_refused_and_end_their_login() {
    let app = TestApp::new();
    let refresh = |token: &str| app.post(REFRESH).json(json!({ "refresh_token": token })).send();
    let first = log_in(&app).refresh;
    let second = refresh(&first).expect(200)["refresh_token"].as_str().unwrap().to_owned();
    app.platform.clock.advance_ms(11 * SECOND_MS);
    refused(&refresh(&first), "spent", 401, "invalid_refresh_token", &[]);
    refused(&refresh(&second), "its successor", 401, "invalid_refresh_token", &[]);
    for token in ["", "rt_", "rt_x", &"x".repeat(10_000), "null", "' OR 1=1 --"] {
        refused(&refresh(token), token, 401, "invalid_refresh_token", &[]);
    }
    let access = log_in(&app).access;
    refused(&refresh(&access), "an access token", 401, "invalid_refresh_token", &[]);
}

#[test]
fn sql_in_every_place_is_only_text() {
    let (app, session) = world();
    let before = app.stored().tables["users"].len();
    let sql = "x'; DELETE FROM users; --";
    let admin = &session.access;
    app.post(LOGIN).json(json!({ "username": sql, "password": sql })).send();
    app.get(&api(&format!("/metrics/{}", sql.replace(' ', "%20")))).bearer(admin).send();
    app.get(&api(&format!("/partnerships/{sql}/status"))).bearer(admin).send();
    app.patch(&api("/partnerships/cursor"))
        .bearer(admin)
        .json(json!({ "name": sql }))
        .send()
        .expect(200);
    let rows = json!([{ "at": NOW, "outcome": "up", "source": sql }]);
    app.post(&api("/partnerships/cursor/observations")).bearer(admin).json(rows).send().expect(202);
    app.post(&api("/decisions"))
        .bearer(admin)
        .json(json!({ "context": { "title": sql } }))
        .send()
        .expect(200);
    assert_eq!(app.stored().tables["users"].len(), before);
    assert_eq!(app.read(&api("/partnerships/cursor/status"))["name"], sql);
}

// ---- another tenant ----

#[test]
fn another_tenants_ids_are_not_found_and_nothing_changes_there() {
    let app = TestApp::seeded();
    let acme = json!({
        "id": "acme_search", "name": "Search", "partner": "Acme", "aliases": ["acme"],
        "kpis": [{ "name": "speed", "target": 10, "unit": "x", "direction": "higher" }],
        "deliverables": [{ "key": "index_rebuild" }],
    });
    app.post(&api("/partnerships")).bearer(&app.admin()).json(acme).send().expect(201);
    app.add_own_user(Role::Viewer);
    app.add_other_tenant();
    let stranger = app.token_of(OTHER_TENANT, Role::Admin);
    let own = |stored: Stored| {
        let mut tables = stored.tables;
        for rows in tables.values_mut() {
            rows.retain(|row| row.to_string().contains("\"ten_default\""));
        }
        (tables, stored.board)
    };
    let before = own(app.stored());
    let user = format!("/api/v1/auth/users/{}", app.user_id());
    for (method, path, body) in [
        ("GET", api("/metrics/acme_search"), Value::Null),
        ("GET", api("/metrics/acme"), Value::Null),
        ("GET", api("/partnerships/acme_search/status"), Value::Null),
        ("PATCH", api("/partnerships/acme_search"), json!({ "name": "Mine" })),
        ("PATCH", api("/partnerships/acme"), json!({ "aliases": [] })),
        ("DELETE", api("/partnerships/acme_search"), Value::Null),
        ("DELETE", api("/partnerships/acme"), Value::Null),
        (
            "PUT",
            api("/partnerships/acme_search/deliverables/index_rebuild"),
            json!({ "completion_percentage": 100, "status": "completed" }),
        ),
        (
            "POST",
            api("/partnerships/acme_search/observations"),
            json!([{ "at": NOW, "outcome": "down", "source": "stranger" }]),
        ),
        ("POST", api("/partnerships/acme_search/kpis/speed"), json!({ "value": 0, "at": NOW })),
        ("PATCH", user, json!({ "role": "admin" })),
    ] {
        let reply = app.request(method, &path).bearer(&stranger).json(body).send();
        refused(&reply, &format!("{method} {path}"), 404, "not_found", &[]);
        assert!(!reply.text.contains("Acme"), "{method} {path}");
        assert_eq!(own(app.stored()), before, "{method} {path}");
    }
    // The ids that both have lead to one's own.
    app.patch(&api("/partnerships/cursor"))
        .bearer(&stranger)
        .json(json!({ "name": "Mine" }))
        .send()
        .expect(200);
    let bad = json!([{ "at": NOW, "outcome": "down", "source": "stranger" }]);
    app.post(&api("/partnerships/cursor/observations"))
        .bearer(&stranger)
        .json(bad)
        .send()
        .expect(202);
    app.delete(&api("/partnerships/grok")).bearer(&stranger).send().expect(204);
    assert_eq!(own(app.stored()), before);
}

// ---- what is lost on the way to D1 ----

/// A route that writes, which part of its SQL to lose, and what a repetition
/// of the same request gets.
struct Write {
    target: Target,
    sql: &'static str,
    /// After the first one landed unseen.
    repeated: u16,
}

fn writes(session: &Session) -> Vec<Write> {
    let mut writes = Vec::new();
    for target in targets(session) {
        let (sql, repeated) = match (target.method, target.path.as_str()) {
            ("POST", path) if path.ends_with("/decisions") => ("INSERT INTO decisions", 200),
            ("POST", path) if path.ends_with("/partnerships") => ("INSERT INTO partnerships ", 409),
            ("PATCH", path) if path.contains("/partnerships/") => ("UPDATE partnerships", 200),
            ("PUT", path) if path.contains("/deliverables/") => ("UPDATE partnerships", 200),
            ("POST", path) if path.ends_with("/users") => ("INSERT INTO users", 409),
            ("PATCH", path) if path.contains("/users/") => ("UPDATE users", 200),
            ("POST", LOGIN) => ("INSERT INTO refresh_tokens", 200),
            ("POST", REFRESH) => ("INSERT INTO refresh_tokens", 200),
            ("POST", path) if path.ends_with("/logout") => ("UPDATE refresh_tokens", 204),
            ("PUT", path) if path.ends_with("/password") => ("UPDATE users", 204),
            // Those of the objects come below.
            _ => continue,
        };
        writes.push(Write { target, sql, repeated });
    }
    let target = Target {
        method: "DELETE",
        path: api("/partnerships/cursor"),
        body: Value::Null,
        required: &[],
        token: Some(session.access.clone()),
    };
    writes.push(Write { target, sql: "UPDATE partnerships SET retired_at", repeated: 404 });
    writes
}

#[track_caller]
fn unavailable(reply: &TestReply, place: &str) {
    refused(reply, place, 503, "unavailable", &[]);
    let after = reply.headers.get("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(after.is_some_and(|seconds| (1..=60).contains(&seconds)), "{place}: {after:?}");
    assert!(!reply.text.contains("injected"), "{place}: {}", reply.text);
}

#[test]
fn a_write_that_never_reached_d1_left_nothing_and_can_be_repeated() {
    let (_, session) = world();
    for index in 0..writes(&session).len() {
        let (app, session) = world();
        let Write { target, sql, .. } = writes(&session).swap_remove(index);
        let place = target.place(sql);
        let before = app.stored();
        app.platform.database.inject(sql, Fault::Lost);
        let reply = target.request(&app).json(target.body.clone()).send();
        unavailable(&reply, &place);
        assert_eq!(app.stored(), before, "{place}");
        let reply = target.request(&app).json(target.body.clone()).send();
        assert!(reply.status < 300, "{place}, again: {}", reply.text);
        let lines = |stored: &Stored| stored.tables["activity"].len();
        assert_eq!(lines(&app.stored()), lines(&before) + 1, "{place}: one line of activity");
    }
}

#[test]
fn a_write_that_landed_unseen_is_whole_and_its_repetition_is_told_so() {
    let (_, session) = world();
    for index in 0..writes(&session).len() {
        // What the same request does where nothing is lost.
        let (app, session) = world();
        let Write { target, .. } = writes(&session).swap_remove(index);
        let reply = target.request(&app).json(target.body.clone()).send();
        assert!(reply.status < 300, "{}: {}", target.place(""), reply.text);
        let undisturbed = app.stored().tables;

        let (app, session) = world();
        let Write { target, sql, repeated } = writes(&session).swap_remove(index);
        let place = target.place(sql);
        app.platform.database.inject(sql, Fault::LandedButErrored);
        let reply = target.request(&app).json(target.body.clone()).send();
        unavailable(&reply, &place);
        let landed = app.stored().tables;
        for (table, rows) in &undisturbed {
            assert_eq!(landed[table].len(), rows.len(), "{place}: rows of {table}");
        }
        assert_eq!(
            landed["activity"].iter().map(|line| &line[4]).collect::<Vec<_>>(),
            undisturbed["activity"].iter().map(|line| &line[4]).collect::<Vec<_>>(),
            "{place}: the line of activity came with it"
        );
        let reply = target.request(&app).json(target.body.clone()).send();
        assert_eq!(reply.status, repeated, "{place}, again: {}", reply.text);
    }
}

#[test]
fn the_tick_tells_the_board_what_a_landed_write_could_not() {
    // What the board says at the end, by whichever way it was told.
    let end = |fault: Option<(&str, Fault)>, method: &str, path: &str, body: &Value| {
        let app = TestApp::seeded();
        let admin = app.admin();
        if let Some((sql, fault)) = fault {
            app.platform.database.inject(sql, fault);
            let reply = app.request(method, &api(path)).bearer(&admin).json(body.clone()).send();
            unavailable(&reply, path);
        } else {
            let reply = app.request(method, &api(path)).bearer(&admin).json(body.clone()).send();
            assert!(reply.status < 300, "{path}: {}", reply.text);
        }
        app.next_minute();
        let mut listed = app.read(&api("/partnerships"));
        for partnership in listed.as_array_mut().unwrap() {
            partnership["metrics"].take();
        }
        listed
    };
    for (method, path, body, sql) in [
        (
            "POST",
            "/partnerships",
            json!({ "id": "acme_search", "name": "Search", "partner": "Acme" }),
            "INSERT INTO partnerships ",
        ),
        ("PATCH", "/partnerships/cursor", json!({ "name": "Other" }), "UPDATE partnerships"),
        (
            "PUT",
            "/partnerships/cursor/deliverables/mobile_first_platform",
            json!({ "completion_percentage": 50, "status": "in_progress" }),
            "UPDATE partnerships",
        ),
        ("DELETE", "/partnerships/cursor", Value::Null, "UPDATE partnerships"),
    ] {
        let healed = end(Some((sql, Fault::LandedButErrored)), method, path, &body);
        assert_eq!(healed, end(None, method, path, &body), "{method} {path}");
    }
}

// ---- what is lost on the way to an object ----

const OBSERVE: &str = "{\"observe\":";
const RECORD: &str = "{\"record_kpi\":";
const DEFINE: &str = "{\"define\":";
const REMOVE: &str = "{\"remove\":";
const REVOKE: &str = "{\"revoke_tokens\":";
const PUBLISH: &str = "{\"publish\":";

fn push_one<'a>(app: &'a TestApp, key: &str) -> TestRequest<'a> {
    app.post(&api("/partnerships/cursor/observations"))
        .bearer(&app.admin())
        .header("idempotency-key", key)
        .json(json!([{ "at": NOW, "outcome": "up", "source": "gateway" }]))
}

fn observations(app: &TestApp) -> u64 {
    app.platform.clock.advance_ms(1_000);
    app.read(&api("/metrics/cursor"))["details"]["requests_per_minute"]["n"].as_u64().unwrap()
}

fn send_kpi<'a>(app: &'a TestApp, key: &str) -> TestRequest<'a> {
    app.post(&api("/partnerships/cursor/kpis/security_score"))
        .bearer(&app.admin())
        .header("idempotency-key", key)
        .json(json!({ "value": 98, "at": NOW }))
}

#[test]
fn observations_that_never_arrived_are_not_counted_and_can_be_repeated() {
    let app = TestApp::seeded();
    app.platform.objects.inject(OBSERVE, Fault::Lost);
    unavailable(&push_one(&app, "batch-1").send(), "lost");
    assert_eq!(observations(&app), 1, "the tick's");
    push_one(&app, "batch-1").send().expect(202);
    assert_eq!(observations(&app), 2);
}

#[test]
fn observations_whose_reply_was_lost_count_once_when_repeated() {
    let app = TestApp::seeded();
    app.platform.objects.inject(OBSERVE, Fault::LandedButErrored);
    unavailable(&push_one(&app, "batch-1").send(), "landed");
    let repeated = push_one(&app, "batch-1").send();
    assert_eq!(repeated.headers["idempotency-replayed"], "true");
    assert_eq!(repeated.expect(202), json!({ "accepted": 1, "rejected": [] }));
    assert_eq!(observations(&app), 2);
}

#[test]
fn a_kpi_value_is_stored_with_its_line_of_activity_or_not_at_all() {
    let kpi_lines = "SELECT COUNT(*) AS n FROM activity WHERE event = 'kpi.recorded'";
    let value = |app: &TestApp| {
        app.platform.clock.advance_ms(1_000);
        app.read(&api("/metrics/cursor"))["metrics"]["security_score"].as_f64()
    };
    let app = TestApp::seeded();
    app.platform.objects.inject(RECORD, Fault::Lost);
    unavailable(&send_kpi(&app, "k-12345678").send(), "lost");
    assert_eq!((value(&app), app.count(kpi_lines)), (None, 0));
    send_kpi(&app, "k-12345678").send().expect(202);
    assert_eq!((value(&app), app.count(kpi_lines)), (Some(98.0), 1));

    // Landed unseen: the repetition, told what was kept, brings the line.
    let app = TestApp::seeded();
    app.platform.objects.inject(RECORD, Fault::LandedButErrored);
    unavailable(&send_kpi(&app, "k-12345678").send(), "landed");
    send_kpi(&app, "k-12345678").send().expect(202);
    assert_eq!((value(&app), app.count(kpi_lines)), (Some(98.0), 1));
}

#[test]
fn a_repeated_kpi_value_leaves_one_line_of_activity() {
    let app = TestApp::seeded();
    for _ in 0..3 {
        send_kpi(&app, "k-12345678").send().expect(202);
    }
    let kpi_lines = "SELECT COUNT(*) AS n FROM activity WHERE event = 'kpi.recorded'";
    assert_eq!(app.count(kpi_lines), 1, "it was recorded once");
}

#[test]
fn a_kpi_value_repeated_after_midnight_leaves_one_line_all_the_same() {
    let app = TestApp::seeded();
    let midnight = Timestamp::parse("2026-02-01T00:00:00Z").unwrap();
    for offset_ms in [-SECOND_MS, SECOND_MS] {
        app.platform.clock.set_ms(midnight.plus_ms(offset_ms).millis());
        send_kpi(&app, "k-12345678").send().expect(202);
    }
    let kpi_lines = "SELECT COUNT(*) AS n FROM activity WHERE event = 'kpi.recorded'";
    assert_eq!(app.count(kpi_lines), 1, "the key is kept for 24 hours, not for a day's date");
}

#[test]
fn a_key_used_for_another_value_a_day_later_is_another_line() {
    let app = TestApp::seeded();
    for _ in 0..2 {
        send_kpi(&app, "k-12345678").send().expect(202);
        app.platform.clock.advance_ms(24 * 60 * MINUTE_MS);
    }
    let kpi_lines = "SELECT COUNT(*) AS n FROM activity WHERE event = 'kpi.recorded'";
    assert_eq!(app.count(kpi_lines), 2);
}

#[test]
fn a_line_that_cannot_be_written_does_not_take_the_kpi_value_back() {
    let app = TestApp::seeded();
    app.platform.database.inject("INSERT INTO activity", Fault::Lost);
    send_kpi(&app, "k-12345678").send().expect(202);
    let log = app.platform.log.lines().join("\n");
    assert!(log.contains("activity not written"), "and the log says so: {log}");
}

#[test]
fn a_lost_message_to_an_object_is_made_up_for_by_the_tick() {
    for fault in [Fault::Lost, Fault::LandedButErrored] {
        for message in [DEFINE, PUBLISH] {
            let app = TestApp::seeded();
            app.platform.objects.inject(message, fault);
            let body = json!({ "id": "acme_search", "name": "Search", "partner": "Acme" });
            let made = app.post(&api("/partnerships")).bearer(&app.admin()).json(body).send();
            assert_eq!(made.status, 201, "{message} {fault:?}: it is stored: {}", made.text);
            assert_eq!(made.json["health"], "unknown");
            app.next_minute();
            let found = app.read(&api("/partnerships/acme_search/status"));
            assert_eq!(found["name"], "Search", "{message} {fault:?}");

            app.platform.objects.inject(message, fault);
            let change = json!({ "name": "Finding" });
            let changed = app
                .patch(&api("/partnerships/acme_search"))
                .bearer(&app.admin())
                .json(change)
                .send();
            assert_eq!(changed.expect(200)["name"], "Finding", "{message} {fault:?}");
            app.next_minute();
            let found = app.read(&api("/partnerships/acme_search/status"));
            assert_eq!(found["name"], "Finding", "{message} {fault:?}");
        }

        let app = TestApp::seeded();
        app.platform.objects.inject(REMOVE, fault);
        app.delete(&api("/partnerships/cursor")).bearer(&app.admin()).send().expect(204);
        app.next_minute();
        let reply = app.get(&api("/partnerships/cursor/status")).bearer(&app.admin()).send();
        refused(&reply, &format!("{fault:?}"), 404, "not_found", &[]);
        assert_eq!(app.read(&api("/partnerships")).as_array().unwrap().len(), 5, "{fault:?}");
    }
}

#[test]
fn tokens_that_could_not_be_withdrawn_are_by_the_repetition() {
    // The caller's own token is among those that a new password withdraws.
    for (fault, own_repeated) in [(Fault::Lost, 204), (Fault::LandedButErrored, 401)] {
        let (app, session) = world();
        let keys = app.world.app.verifier.keys().unwrap();
        let grant = Grant { tenant_id: "ten_default", user_id: "usr_target", role: Role::Viewer };
        let target = keys.sign(&grant, app.now(), &[6; 10]);
        let me = |token: &str| app.get("/api/v1/auth/me").bearer(token).send().status;
        app.platform.clock.advance_ms(10);
        assert_eq!(me(&target), 200);
        let change = || {
            let request = app.patch("/api/v1/auth/users/usr_target").bearer(&session.access);
            request.json(json!({ "role": "ingest" })).send()
        };
        app.platform.objects.inject(REVOKE, fault);
        unavailable(&change(), &format!("{fault:?}, a role"));
        assert_eq!(change().status, 200, "{fault:?}");
        assert_eq!(me(&target), 401, "{fault:?}");
        let changes = "SELECT COUNT(*) AS n FROM activity WHERE event = 'user.role_changed'";
        assert_eq!(app.count(changes), 1, "{fault:?}: it changed once");

        let password = || {
            let body =
                json!({ "current_password": ADMIN_PASSWORD, "new_password": "quite another one" });
            app.put("/api/v1/auth/password").bearer(&session.access).json(body).send()
        };
        app.platform.objects.inject(REVOKE, fault);
        unavailable(&password(), &format!("{fault:?}, a password"));
        assert_eq!(password().status, own_repeated, "{fault:?}");
        assert_eq!(me(&session.access), 401, "{fault:?}");
        let changes = "SELECT COUNT(*) AS n FROM activity WHERE event = 'user.password_changed'";
        assert_eq!(app.count(changes), 1, "{fault:?}: it changed once");
    }
}

#[test]
fn a_partnership_whose_object_was_never_told_takes_what_clients_send() {
    let app = TestApp::seeded();
    app.platform.objects.inject(DEFINE, Fault::Lost);
    let body = json!({
        "id": "acme_search", "name": "Search", "partner": "Acme",
        "kpis": [{ "name": "speed", "target": 10, "unit": "x", "direction": "higher" }],
    });
    app.post(&api("/partnerships")).bearer(&app.admin()).json(body).send().expect(201);
    let row = json!([{ "at": NOW, "outcome": "up", "source": "gateway" }]);
    let path = api("/partnerships/acme_search/observations");
    app.post(&path).bearer(&app.admin()).json(row).send().expect(202);
    assert_eq!(app.read(&api("/metrics/acme_search"))["metrics"]["uptime"], 100.0);
}

#[test]
fn observations_stay_when_the_board_cannot_be_told_and_show_after_the_tick() {
    let app = TestApp::seeded();
    app.platform.objects.inject(PUBLISH, Fault::Lost);
    push_one(&app, "batch-1").send().expect(202);
    assert_eq!(observations(&app), 1, "the board does not know yet");
    app.next_minute();
    assert_eq!(observations(&app), 3, "the batch, and two ticks");
}

#[test]
fn a_writer_whose_token_cannot_be_checked_does_not_write() {
    let (app, session) = world();
    for target in targets(&session).iter().filter(|target| target.token.is_some()) {
        // A second later the isolate has to ask for the board.
        app.platform.clock.advance_ms(1_000);
        let before = app.stored();
        app.platform.objects.inject("\"snapshot\"", Fault::Lost);
        let reply = target.request(&app).json(target.body.clone()).send();
        unavailable(&reply, &target.place("the board is out of reach"));
        assert_eq!(app.stored(), before, "{}", target.place(""));
    }
}

// ---- secrets ----

#[test]
fn no_secret_gets_into_a_log_line_or_a_reply() {
    const PASSWORD: &str = "canary-password-of-the-admin";
    const OTHER: &str = "canary-password-of-grace";
    const NEW: &str = "canary-password-that-is-new";
    let key = format!("dev:{}", URL_SAFE_NO_PAD.encode(b"canary-signing-key-of-32-bytes!!"));
    let seed = key.strip_prefix("dev:").unwrap().to_owned();
    let app = TestApp::with_vars(|vars| {
        vars.set("SIGNING_KEY", &key);
        vars.set("BOOTSTRAP_ADMIN_PASSWORD", PASSWORD);
    });
    app.all_partners(Script::Status(401, 120.0));
    app.tick();

    let mut secrets = vec![
        PASSWORD.to_owned(),
        OTHER.to_owned(),
        NEW.to_owned(),
        seed,
        "canary-signing-key".to_owned(),
        "$argon2".to_owned(),
        "injected:".to_owned(),
        "INSERT INTO".to_owned(),
        "SELECT ".to_owned(),
        "UPDATE ".to_owned(),
        "constraint failed".to_owned(),
        "Misuse".to_owned(),
    ];
    let of_log = |secret: &str| {
        // Causes belong into the log.
        !["injected:", "constraint failed", "Misuse"].contains(&secret)
    };
    let mut replies: Vec<(String, TestReply)> = Vec::new();
    let tokens = |reply: TestReply, secrets: &mut Vec<String>| -> Session {
        let reply = reply.expect(200);
        let text = |name: &str| reply[name].as_str().unwrap().to_owned();
        let session = Session { access: text("access_token"), refresh: text("refresh_token") };
        secrets.extend([session.access.clone(), session.refresh.clone()]);
        // Each part of the token too, but the header, which says nothing.
        secrets.extend(session.access.split('.').skip(1).map(str::to_owned));
        session
    };
    let login = |password: &str| {
        app.post(LOGIN).json(json!({ "username": ADMIN_USERNAME, "password": password })).send()
    };
    let session = tokens(login(PASSWORD), &mut secrets);
    let admin = session.access.clone();
    let refresh = app.post(REFRESH).json(json!({ "refresh_token": session.refresh })).send();
    let next = tokens(refresh, &mut secrets);

    let mut keep = |what: &str, request: TestRequest<'_>| {
        let reply = request.send();
        replies.push((what.to_owned(), reply));
    };
    let user = json!({ "username": "grace", "password": OTHER, "role": "viewer" });
    keep("wrong password", app.post(LOGIN).json(json!({ "username": "admin", "password": OTHER })));
    keep(
        "password as the name",
        app.post(LOGIN).json(json!({ "username": PASSWORD, "password": "x" })),
    );
    keep(
        "password of a wrong type",
        app.post(LOGIN).json(json!({ "username": "a", "password": [PASSWORD] })),
    );
    keep("broken body", app.post(LOGIN).body(JSON, &format!("{{\"password\": \"{PASSWORD}\"")));
    keep(
        "form",
        app.post(LOGIN).body(
            "application/x-www-form-urlencoded",
            &format!("username=a&username=b&password={PASSWORD}"),
        ),
    );
    keep("create user", app.post("/api/v1/auth/users").bearer(&admin).json(user.clone()));
    keep("create user again", app.post("/api/v1/auth/users").bearer(&admin).json(user));
    keep("list users", app.get("/api/v1/auth/users").bearer(&admin));
    keep("me", app.get("/api/v1/auth/me").bearer(&admin));
    keep("jwks", app.get("/.well-known/jwks.json"));
    keep("config", app.get(&api("/config")).bearer(&admin));
    keep("info", app.get(&api("/info")).bearer(&admin));
    keep("readiness", app.get(&api("/deployment/readiness")).bearer(&admin));
    keep("token in the path", app.get(&api(&format!("/metrics/{}", "x"))).bearer(&admin));
    keep(
        "token twice",
        app.get(&api("/metrics")).header("authorization", &format!("Bearer {admin} {admin}")),
    );
    keep("token as a refresh token", app.post(REFRESH).json(json!({ "refresh_token": admin })));
    keep(
        "spent refresh token",
        app.post("/api/v1/auth/logout")
            .bearer(&admin)
            .json(json!({ "refresh_token": [next.refresh] })),
    );
    for sql in ["INSERT INTO decisions", "INSERT INTO partnerships ", "INSERT INTO users"] {
        app.platform.database.inject(sql, Fault::Lost);
    }
    keep(
        "lost decision",
        app.post(&api("/decisions")).bearer(&admin).json(json!({ "context": {} })),
    );
    let acme = json!({ "id": "acme_search", "name": "Search", "partner": "Acme" });
    keep("lost partnership", app.post(&api("/partnerships")).bearer(&admin).json(acme));
    let ada = json!({ "username": "ada", "password": OTHER, "role": "viewer" });
    keep("lost user", app.post("/api/v1/auth/users").bearer(&admin).json(ada));
    app.platform.objects.inject(OBSERVE, Fault::LandedButErrored);
    keep("lost reply", push_one(&app, "batch-1"));
    app.lose_database(2);
    keep("lost database", app.get("/api/v1/auth/me").bearer(&admin));
    let change = |current: &str, new: &str| {
        app.put("/api/v1/auth/password")
            .bearer(&admin)
            .json(json!({ "current_password": current, "new_password": new }))
    };
    keep("wrong current password", change(OTHER, NEW));
    keep("unfit new password", change(PASSWORD, PASSWORD));
    app.platform.database.inject("UPDATE users", Fault::Lost);
    keep("lost password", change(PASSWORD, NEW));
    keep("new password", change(PASSWORD, NEW));
    app.platform.clock.advance_ms(1_000);
    keep("after the new password", app.get("/api/v1/auth/me").bearer(&admin));
    keep("status", app.get(&api("/status")).bearer(&app.token(Role::SystemAdmin)));
    keep("no settings", {
        app.run("DELETE FROM settings".to_owned());
        app.get(&api("/config")).bearer(&app.admin())
    });
    app.platform.objects.inject("{\"tick\":", Fault::Lost);
    app.next_minute();

    let statuses: Vec<u16> = replies.iter().map(|(_, reply)| reply.status).collect();
    for status in [200, 201, 204, 400, 401, 404, 409, 422, 500, 503] {
        assert!(statuses.contains(&status), "the scenario misses {status}: {statuses:?}");
    }
    for secret in &secrets {
        for (what, reply) in &replies {
            let shown = format!("{} {:?}", reply.text, reply.headers);
            assert!(!shown.contains(secret.as_str()), "{what}: {secret} in {shown}");
        }
        for line in app.platform.log.lines().iter().filter(|_| of_log(secret)) {
            assert!(!line.contains(secret.as_str()), "{secret} in {line}");
        }
    }
    assert!(app.platform.log.lines().len() > replies.len());
    for table in app.stored().tables.values() {
        for secret in
            secrets.iter().filter(|secret| secret.contains("canary") || secret.starts_with("rt_"))
        {
            let found = table.iter().find(|row| row.to_string().contains(secret.as_str()));
            assert!(found.is_none(), "{secret} is stored: {found:?}");
        }
    }
}

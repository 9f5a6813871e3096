//! Safe writes and cheap reads: Idempotency-Key on every write, also when a
//! message is lost; ETags, If-None-Match and If-Match; lists page by page.

use crate::support::{API, OTHER_TENANT, TestApp, TestReply, TestRequest};
use devskyy_orchestration::auth::password;
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::time::{DAY_MS, SECOND_MS};
use devskyy_orchestration::platform::native::Fault;
use devskyy_orchestration::routes::ROUTES;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PASSWORD: &str = "a password of the caller";

fn api(path: &str) -> String {
    format!("{API}{path}")
}

/// Every route that takes a key and keeps the reply in D1: method, path, a
/// body, another body, and a text of the statement that does it.
fn writes() -> Vec<(&'static str, String, Value, Value, &'static str)> {
    let partnership = |id: &str| json!({ "id": id, "name": "New", "partner": "New" });
    let user =
        |name: &str| json!({ "username": name, "password": "long enough", "role": "viewer" });
    let user = |name: &str| {
        let mut user = user(name);
        user["password"] = "a long enough password".into();
        user
    };
    let key = |name: &str| json!({ "name": name, "permissions": ["metrics:read"] });
    let decide = |cost: f64| json!({ "context": { "estimated_cost": cost } });
    let progress =
        |percent: f64| json!({ "completion_percentage": percent, "status": "in_progress" });
    let slo = |key: &str| json!({ "key": key, "kind": "availability", "target_percent": 99, "period_days": 7 });
    let window = |name: &str| {
        let days = json!(["sunday"]);
        let weekly = json!({ "days": days, "start": "02:30", "minutes": 1, "time_zone": "UTC" });
        json!({ "name": name, "weekly": weekly })
    };
    let change = |new: &str| json!({ "current_password": PASSWORD, "new_password": new });
    let hook =
        |name: &str| json!({ "kind": "webhook", "name": name, "url": "https://example.com/" });
    vec![
        ("POST", api("/channels"), hook("one"), hook("two"), "INSERT INTO channels"),
        ("POST", api("/decisions"), decide(1.0), decide(2.0), "INSERT INTO decisions"),
        (
            "POST",
            api("/decisions/dec_target/outcome"),
            json!({ "outcome": "rejected" }),
            json!({ "outcome": "reversed" }),
            "INSERT INTO decision_outcomes",
        ),
        (
            "POST",
            api("/partnerships"),
            partnership("one"),
            partnership("two"),
            "INSERT INTO partnerships",
        ),
        (
            "PUT",
            api("/partnerships/cursor_technical/deliverables/mobile_first_platform"),
            progress(10.0),
            progress(20.0),
            "UPDATE partnerships",
        ),
        ("POST", "/api/v1/auth/users".into(), user("ada"), user("grace"), "INSERT INTO users"),
        ("POST", "/api/v1/auth/keys".into(), key("a"), key("b"), "INSERT INTO api_keys"),
        (
            "POST",
            "/api/v1/auth/keys/key_target/rotate".into(),
            json!({}),
            json!({ "overlap_seconds": 5 }),
            "INSERT INTO api_keys",
        ),
        (
            "POST",
            api("/partnerships/cursor_technical/slos"),
            slo("one"),
            slo("two"),
            "INSERT INTO slos",
        ),
        (
            "POST",
            api("/partnerships/cursor_technical/maintenance"),
            window("one"),
            window("two"),
            "INSERT INTO maintenance_windows",
        ),
        (
            "PUT",
            "/api/v1/auth/password".into(),
            change("the next one of them"),
            change("quite another one of them"),
            "UPDATE users",
        ),
    ]
}

/// The rows that the requests above name are there.
fn world() -> TestApp {
    let app = TestApp::seeded();
    app.add_own_user(Role::Admin);
    let hash = password::hash(PASSWORD, &[3; password::SALT_BYTES]).unwrap();
    app.run(format!("UPDATE users SET password_hash = '{hash}'"));
    app.add_decision();
    app.run(format!(
        "INSERT INTO api_keys (id, tenant_id, name, prefix, secret_hash, permissions, created_at, \
         created_by, expires_at) VALUES ('key_target', 'ten_default', 'target', 'dsk_0000000000', \
         'x', '[\"metrics:read\"]', 0, 'system', {})",
        app.now().plus_ms(DAY_MS).millis()
    ));
    app
}

/// A token made after the clock moved: a new password withdraws those before.
fn request<'a>(
    app: &'a TestApp,
    method: &str,
    path: &str,
    body: &Value,
    key: &str,
) -> TestRequest<'a> {
    let request = app.request(method, path).bearer(&app.admin()).json(body.clone());
    request.header("idempotency-key", key)
}

fn send(app: &TestApp, method: &str, path: &str, body: &Value, key: &str) -> TestReply {
    request(app, method, path, body, key).send()
}

/// What is stored, apart from what a repetition may add: nothing.
fn tables(app: &TestApp) -> String {
    format!("{:?}", app.stored().tables)
}

#[track_caller]
fn same(first: &TestReply, again: &TestReply, place: &str) {
    assert_eq!((again.status, &again.text), (first.status, &first.text), "{place}");
    assert_eq!(again.headers["idempotency-replayed"], "true", "{place}");
    for field in ["location", "etag", "content-type"] {
        assert_eq!(again.headers.get(field), first.headers.get(field), "{place}: {field}");
    }
}

#[test]
fn every_write_that_takes_a_key_is_in_the_table() {
    let taking: BTreeSet<_> = ROUTES
        .iter()
        .filter(|route| route.takes_key && !route.path.contains("/observations"))
        // These are done by an object, which keeps the replies itself.
        .filter(|route| !route.path.contains("/kpis/") && !route.path.contains("/incidents/"))
        // The outbox knows these by the id that follows from the key.
        .filter(|route| !["test_channel", "replay_delivery"].contains(&route.id))
        .map(|route| route.id)
        .collect();
    assert_eq!(taking.len(), writes().len(), "{taking:?}");
    // Every other POST or PUT says why it takes none.
    let others: BTreeSet<_> = ROUTES
        .iter()
        .filter(|route| ["POST", "PUT"].contains(&route.method.as_str()) && !route.takes_key)
        .map(|route| route.id)
        .collect();
    // A simulation changes nothing, nor do a replay, a what-if and a rehearsal;
    // a policy is tied to a state by If-Match; a login is another login each time; a refresh may be repeated by its own
    // rule; a login that has ended stays so; work on a backup goes on with what
    // is under way.
    let backups = ["create_backup", "restore_backup", "verify_backup"];
    let decisions = ["replay_decision", "what_if", "rehearse_policy", "replace_policy"];
    assert_eq!(
        others,
        BTreeSet::from(["login", "logout", "refresh", "simulate_alerts"])
            .into_iter()
            .chain(backups)
            .chain(decisions)
            .collect()
    );
}

#[test]
fn a_repeated_write_is_done_once_and_answered_the_same() {
    for (method, path, body, other, _) in writes() {
        let app = world();
        let first = send(&app, method, &path, &body, "\"k-1\"");
        assert!((200..300).contains(&first.status), "{path}: {}", first.text);
        assert!(!first.headers.contains_key("idempotency-replayed"), "{path}");
        let stored = tables(&app);
        app.platform.clock.advance_ms(5 * SECOND_MS);
        same(&first, &send(&app, method, &path, &body, "\"k-1\""), &path);
        same(&first, &send(&app, method, &path, &body, "k-1"), &path);
        assert_eq!(tables(&app), stored, "{path}");
        let reused = send(&app, method, &path, &other, "\"k-1\"");
        assert_eq!(reused.problem(422), "idempotency_key_reused", "{path}");
        assert_eq!(tables(&app), stored, "{path}");
        // A day later the key is forgotten.
        app.platform.clock.advance_ms(DAY_MS);
        let late = send(&app, method, &path, &body, "\"k-1\"");
        assert!(!late.headers.contains_key("idempotency-replayed"), "{path}: {}", late.text);
    }
}

#[test]
fn a_write_whose_reply_was_lost_is_not_done_again() {
    for (method, path, body, _, statement) in writes() {
        let app = world();
        app.platform.database.inject(statement, Fault::LandedButErrored);
        let lost = send(&app, method, &path, &body, "k");
        assert_eq!(lost.problem(503), "unavailable", "{path}: {}", lost.text);
        let stored = tables(&app);
        app.platform.clock.advance_ms(SECOND_MS);
        let again = send(&app, method, &path, &body, "k");
        assert!((200..300).contains(&again.status), "{path}: {}", again.text);
        assert_eq!(again.headers["idempotency-replayed"], "true", "{path}");
        assert_eq!(tables(&app), stored, "{path}");
    }
}

#[test]
fn a_write_that_was_lost_is_done_by_its_repetition() {
    for (method, path, body, _, statement) in writes() {
        let app = world();
        app.platform.database.inject(statement, Fault::Lost);
        assert_eq!(send(&app, method, &path, &body, "k").status, 503, "{path}");
        let again = send(&app, method, &path, &body, "k");
        assert!((200..300).contains(&again.status), "{path}: {}", again.text);
        assert!(!again.headers.contains_key("idempotency-replayed"), "{path}");
    }
}

#[test]
fn a_request_that_was_refused_may_use_its_key_again() {
    let app = world();
    let path = api("/partnerships");
    let bad = json!({ "id": "X", "name": "New", "partner": "New" });
    assert_eq!(send(&app, "POST", &path, &bad, "k").status, 422);
    let good = json!({ "id": "one", "name": "New", "partner": "New" });
    assert_eq!(send(&app, "POST", &path, &good, "k").status, 201);
    for bad in ["", "\"open", "\"\"", &"k".repeat(256)] {
        assert_eq!(send(&app, "POST", &path, &good, bad).problem(400), "malformed_request");
    }
}

#[test]
fn a_key_is_the_callers_own_and_of_one_route() {
    let app = world();
    app.add_other_tenant();
    let body = json!({ "context": {} });
    let path = api("/decisions");
    let first = send(&app, "POST", &path, &body, "k").expect(200);
    let foreign = app
        .post(&path)
        .bearer(&app.token_of(OTHER_TENANT, Role::Admin))
        .header("idempotency-key", "k")
        .json(body)
        .send()
        .expect(200);
    assert_ne!(first["decision_id"], foreign["decision_id"]);
    let user = json!({ "name": "k", "permissions": ["metrics:read"] });
    assert_eq!(send(&app, "POST", "/api/v1/auth/keys", &user, "k").status, 201);
}

#[test]
fn no_secret_is_kept_for_a_repetition() {
    let app = world();
    let key = json!({ "name": "a", "permissions": ["metrics:read"] });
    let made = send(&app, "POST", "/api/v1/auth/keys", &key, "k").expect(201);
    let user = json!({ "username": "ada", "password": "correct horse battery", "role": "viewer" });
    send(&app, "POST", "/api/v1/auth/users", &user, "k").expect(201);
    let stored = tables(&app);
    for secret in [&made["key"].as_str().unwrap()[15..], "correct horse battery"] {
        assert!(!stored.contains(secret));
    }
    // Nor a hash that a list of passwords could be tried on.
    let plain = {
        use base64::Engine as _;
        use sha2::Digest as _;
        let hash = sha2::Sha256::digest(user.to_string());
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash)
    };
    assert!(!stored.contains(&plain));
}

// ---- conditions ----------------------------------------------------------------------------------

const TAGGED: [&str; 9] = [
    "/api/v1/orchestration/decisions/dec_target",
    "/api/v1/orchestration/policies/standard",
    "/.well-known/receipt-keys.json",
    "/api/v1/orchestration/channels/chn_target",
    "/api/v1/orchestration/partnerships/cursor_technical",
    "/api/v1/orchestration/partnerships/cursor_technical/deliverables/mobile_first_platform",
    "/api/v1/orchestration/config",
    "/openapi.json",
    "/.well-known/jwks.json",
];

#[test]
fn who_has_it_already_gets_304() {
    assert_eq!(ROUTES.iter().filter(|route| route.tagged).count(), TAGGED.len());
    let app = TestApp::seeded();
    app.add_channel();
    app.add_decision();
    for path in TAGGED {
        let get =
            |known: &str| app.get(path).bearer(&app.admin()).header("if-none-match", known).send();
        let first = get("\"another\"");
        assert_eq!(first.status, 200, "{path}");
        let etag = first.headers["etag"].clone();
        assert!(etag.starts_with('"') && etag.ends_with('"'), "strong: {etag}");
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".into()] {
            let again = get(&known);
            assert_eq!((again.status, again.text.as_str()), (304, ""), "{path} {known}");
            assert_eq!(again.headers["etag"], etag);
            assert_eq!(again.headers["cache-control"], first.headers["cache-control"]);
            assert!(!again.headers.contains_key("content-type"));
        }
        let head = app.request("HEAD", path).bearer(&app.admin()).send();
        assert_eq!(head.headers["etag"], etag, "{path}");
    }
    // A tag says nothing to who may not read.
    let config = app.get(TAGGED[3]).bearer(&app.token(Role::Viewer)).header("if-none-match", "*");
    assert_eq!(config.send().status, 403);
}

#[test]
fn a_change_names_the_state_it_is_about() {
    let app = TestApp::seeded();
    let path = api("/partnerships/cursor_technical");
    let etag = || app.get(&path).bearer(&app.admin()).send().headers["etag"].clone();
    let patch = |expected: &str, name: &str| {
        let request = app.patch(&path).bearer(&app.admin()).json(json!({ "name": name }));
        request.header("if-match", expected).send()
    };
    let first = etag();
    let changed = patch(&first, "Once");
    assert_eq!(changed.status, 200, "{}", changed.text);
    let second = changed.headers["etag"].clone();
    assert_eq!(second, etag(), "the reply of a change names the new state");
    assert_ne!(second, first);
    for stale in [first.as_str(), "\"nothing\"", &format!("W/{second}"), ""] {
        let refused = patch(stale, "Twice");
        assert_eq!(refused.problem(412), "precondition_failed", "{stale}");
        assert_eq!(refused.headers["etag"], second, "what it would have to be");
    }
    assert_eq!(app.read(&path)["name"], "Once");
    assert_eq!(
        patch(&first, "").problem(422),
        "validation_failed",
        "what is wrong anyway comes first"
    );
    assert_eq!(patch(&format!("\"x\", {second}"), "Twice").status, 200);
    assert_eq!(patch("*", "Thrice").status, 200);
    let delete =
        |expected: &str| app.delete(&path).bearer(&app.admin()).header("if-match", expected).send();
    assert_eq!(delete(&second).problem(412), "precondition_failed");
    assert_eq!(delete(&etag()).status, 204);
    assert_eq!(delete("*").problem(404), "not_found");
}

#[test]
fn a_deliverable_and_the_settings_mind_conditions_too() {
    let app = TestApp::seeded();
    let admin = app.admin();
    let path = api("/partnerships/cursor_technical/deliverables/mobile_first_platform");
    let put = |path: &str, expected: &str, percent: f64| {
        let body = json!({ "completion_percentage": percent, "status": "in_progress" });
        app.put(path).bearer(&admin).json(body).header("if-match", expected).send()
    };
    let before = app.get(&path).bearer(&admin).send().headers["etag"].clone();
    let changed = put(&path, &before, 10.0);
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(app.get(&path).bearer(&admin).send().headers["etag"], changed.headers["etag"]);
    assert_eq!(put(&path, &before, 20.0).problem(412), "precondition_failed");
    let absent = api("/partnerships/cursor_technical/deliverables/not_there");
    assert_eq!(put(&absent, "*", 20.0).problem(412), "precondition_failed");
    assert_eq!(app.get(&absent).bearer(&admin).send().problem(404), "not_found");

    let config = api("/config");
    let patch = |expected: &str, ingest: u32| {
        let body = json!({ "limits": { "ingest": ingest } });
        app.patch(&config).bearer(&admin).json(body).header("if-match", expected).send()
    };
    let before = app.get(&config).bearer(&admin).send().headers["etag"].clone();
    let changed = patch(&before, 700);
    assert_eq!(changed.status, 200);
    assert_eq!(patch(&before, 800).problem(412), "precondition_failed");
    assert_eq!(patch(&changed.headers["etag"], 800).status, 200);
    let unchanged = patch("*", 800).expect(200);
    assert_eq!(unchanged["version"], 3, "nothing changed, so there is no new version");
}

// ---- pages ---------------------------------------------------------------------------------------

/// Follows the links of a list; the entries of each page.
fn pages(app: &TestApp, path: &str, field: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let reply = app.get(&path).bearer(&app.admin()).send();
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        pages.push(reply.json[field].as_array().unwrap().clone());
        next = reply.headers.get("link").map(|link| {
            let (path, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
            assert_eq!(rest, "; rel=\"next\"");
            assert!(path.ends_with(reply.json["next_cursor"].as_str().unwrap()), "{link}");
            path.to_owned()
        });
        assert_eq!(next.is_none(), reply.json["next_cursor"].is_null());
        assert!(pages.len() < 100);
    }
    pages
}

#[test]
fn lists_go_page_by_page_and_show_everything_once() {
    let app = TestApp::seeded();
    app.add_other_tenant();
    for index in 0..7 {
        app.run(format!(
            "INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, \
             created_at, created_by, updated_at) VALUES ('usr_{index}', 'ten_default', 'user{index}', \
             'x', 'admin', 'viewer', 0, 'system', 0)"
        ));
        // Two of an instant, so that time alone does not order them.
        app.platform.clock.advance_ms(i64::from(index % 2));
        app.post(&api("/decisions"))
            .bearer(&app.admin())
            .json(json!({ "context": {} }))
            .send()
            .expect(200);
        let key = json!({ "name": format!("key {index}"), "permissions": ["metrics:read"] });
        app.post("/api/v1/auth/keys").bearer(&app.admin()).json(key).send().expect(201);
    }
    for (path, field, name) in [
        ("/api/v1/auth/users".to_owned(), "users", "username"),
        ("/api/v1/auth/keys".to_owned(), "keys", "name"),
        (api("/decisions"), "decisions", "decision_id"),
        (api("/activity"), "activity", "subject"),
    ] {
        let whole = pages(&app, &path, field).concat();
        assert!(whole.len() >= 7, "{path}");
        for limit in [1, 2, 3, 7, 200] {
            let paged = pages(&app, &format!("{path}?limit={limit}"), field);
            assert!(paged.iter().all(|page| page.len() <= limit), "{path} {limit}");
            assert_eq!(paged.concat(), whole, "{path} {limit}");
        }
        let names: Vec<_> = whole.iter().map(|entry| entry[name].clone()).collect();
        assert!(names.iter().all(Value::is_string), "{path}");
    }
    // A line that comes in while somebody reads shifts no page.
    let path = api("/activity?limit=5");
    let first = app.read(&path);
    app.post(&api("/decisions"))
        .bearer(&app.admin())
        .json(json!({ "context": {} }))
        .send()
        .expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = app.read(&format!("{path}&cursor={cursor}"));
    let seen = pages(&app, &api("/activity"), "activity").concat();
    assert_eq!(second["activity"].as_array().unwrap(), &seen[6..11]);
}

#[test]
fn what_is_wrong_with_a_page_is_said() {
    let app = TestApp::seeded();
    for query in
        ["limit=0", "limit=201", "limit=x", "limit=", "cursor=x", "cursor=", "limit=1&limit=2"]
    {
        for path in ["/api/v1/auth/users", &api("/activity"), &api("/decisions")] {
            let reply = app.get(&format!("{path}?{query}")).bearer(&app.admin()).send();
            assert_eq!(reply.problem(400), "malformed_request", "{path}?{query}");
        }
    }
}

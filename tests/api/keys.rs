//! API keys: made, shown once, used, rotated and revoked.

use crate::support::{API, OTHER_TENANT, TestApp, TestReply};
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::time::{DAY_MS, MINUTE_MS, SECOND_MS};
use devskyy_orchestration::platform::native::Fault;
use serde_json::{Value, json};

const KEYS: &str = "/api/v1/auth/keys";

fn api(path: &str) -> String {
    format!("{API}{path}")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn create(app: &TestApp, body: Value) -> TestReply {
    app.post(KEYS).bearer(&app.admin()).json(body).send()
}

/// The id of a new key that may read metrics, and the key.
fn scraper(app: &TestApp) -> (String, String) {
    let made = create(app, json!({ "name": "Prometheus", "permissions": ["metrics:read"] }));
    let made = made.expect(201);
    (text(&made["api_key"]["id"]), text(&made["key"]))
}

fn scrape(app: &TestApp, key: &str) -> TestReply {
    app.get(&api("/metrics")).bearer(key).send()
}

fn revoke(app: &TestApp, id: &str) -> TestReply {
    app.delete(&format!("{KEYS}/{id}")).bearer(&app.admin()).send()
}

fn show(app: &TestApp, id: &str) -> Value {
    app.read(&format!("{KEYS}/{id}"))
}

#[test]
fn a_key_does_what_it_was_given_and_nothing_else() {
    let app = TestApp::seeded();
    let (id, key) = scraper(&app);
    assert!(key.starts_with("dsk_") && key.len() == 58, "{key}");
    assert_eq!(scrape(&app, &key).status, 200);
    let by_header = app.get(&api("/metrics")).header("x-api-key", &key).send();
    assert_eq!(by_header.status, 200);
    let refused = app.get(&api("/partnerships")).bearer(&key).send();
    assert_eq!(refused.problem(403), "forbidden");
    assert!(
        refused.json["detail"].as_str().unwrap().contains("the API key lacks partnerships:read")
    );
    // An API key is no user, but it may ask who it is.
    let me = app.get("/api/v1/auth/me").bearer(&key).send().expect(200);
    assert_eq!(me["id"], id.as_str());
    assert_eq!((&me["username"], &me["role"]), (&json!("Prometheus"), &Value::Null));
    assert_eq!(me["permissions"], json!(["metrics:read"]));
    let body = json!({ "refresh_token": "x" });
    let reply = app.post("/api/v1/auth/logout").bearer(&key).json(body).send();
    assert_eq!(reply.problem(403), "forbidden");
    // It is the actor of what it does.
    let made = create(&app, json!({ "name": "d", "permissions": ["decisions:write"] })).expect(201);
    let decided = app
        .post(&api("/decisions"))
        .bearer(made["key"].as_str().unwrap())
        .json(json!({ "context": {} }))
        .send()
        .expect(200);
    assert_eq!(decided["author"], made["api_key"]["id"]);
}

#[test]
fn a_key_is_shown_once_and_stored_as_a_hash() {
    let app = TestApp::seeded();
    let (id, key) = scraper(&app);
    let stored = format!("{:?}", app.stored().tables);
    assert!(!stored.contains(&key) && !stored.contains(&key[15..]), "the secret is in a table");
    let listed = app.read(KEYS);
    assert_eq!(listed["keys"][0]["id"], id.as_str());
    assert_eq!(listed["keys"][0]["prefix"], &key[..14]);
    assert!(!listed.to_string().contains(&key[15..]));
    assert!(!show(&app, &id).to_string().contains("secret"));
    assert!(!app.platform.log.lines().join("\n").contains(&key[15..]));
    let events = "SELECT event FROM activity WHERE event LIKE 'api_key.%'";
    assert_eq!(app.rows(events)[0].get::<String>("event").unwrap(), "api_key.created");
}

#[test]
fn what_is_wrong_with_a_new_key_is_said_at_once() {
    let app = TestApp::seeded();
    for (body, pointers) in [
        (
            json!({ "name": "", "permissions": [], "expires_in_days": 0 }),
            vec!["#/name", "#/permissions", "#/expires_in_days"],
        ),
        (
            json!({ "name": "x", "permissions": ["metrics:read"], "expires_in_days": 366 }),
            vec!["#/expires_in_days"],
        ),
        (json!({ "name": "  ", "permissions": ["metrics:read"] }), vec!["#/name"]),
        (json!({ "name": "x", "permissions": ["users:write"] }), vec!["#/permissions/0"]),
        (json!({ "name": "x", "permissions": ["keys:write"] }), vec!["#/permissions/0"]),
        (json!({ "name": "x", "permissions": ["everything"] }), vec!["#/permissions/0"]),
        (json!({ "permissions": ["metrics:read"] }), vec!["#/name"]),
    ] {
        let reply = create(&app, body.clone());
        assert_eq!(reply.problem(422), "validation_failed", "{body}");
        assert_eq!(reply.pointers(), pointers, "{body}: {}", reply.text);
    }
    assert_eq!(app.read(KEYS)["keys"], json!([]));
}

#[test]
fn a_revoked_key_stops_at_once_here_and_within_a_second_elsewhere() {
    let mut app = TestApp::seeded();
    let (id, key) = scraper(&app);
    assert_eq!(scrape(&app, &key).status, 200);
    // Another isolate knows the key well.
    app.world.restart();
    assert_eq!(scrape(&app, &key).status, 200);
    let elsewhere = std::mem::replace(
        &mut app.world.app,
        devskyy_orchestration::http::App::new(
            app.platform.clone(),
            devskyy_orchestration::routes::ROUTES,
        ),
    );
    assert_eq!(revoke(&app, &id).status, 204);
    assert_eq!(scrape(&app, &key).problem(401), "invalid_token", "at once where it was revoked");
    app.world.app = elsewhere;
    app.platform.clock.advance_ms(SECOND_MS);
    let refused = scrape(&app, &key);
    assert_eq!(refused.problem(401), "invalid_token");
    assert!(refused.headers["www-authenticate"].contains("invalid_token"));
    assert_eq!(scrape(&app, &key).problem(401), "invalid_token", "and it stays so");
    let gone = app.get(&format!("{KEYS}/{id}")).bearer(&app.admin()).send();
    assert_eq!(gone.problem(404), "not_found");
    assert!(app.read(KEYS)["keys"][0]["revoked_at"].is_string(), "the list still shows it");
    assert_eq!(revoke(&app, &id).status, 204, "again");
    let lines = app.count("SELECT COUNT(*) AS n FROM activity WHERE event = 'api_key.revoked'");
    assert_eq!(lines, 1);
}

#[test]
fn a_revoked_key_stops_within_half_a_minute_although_the_board_was_not_told() {
    let app = TestApp::seeded();
    let (id, key) = scraper(&app);
    app.platform.objects.inject("revoke_tokens", Fault::Lost);
    assert_eq!(revoke(&app, &id).status, 204);
    assert_eq!(scrape(&app, &key).status, 401, "this isolate looks it up again");
    let mut app = app;
    let (id, key) = scraper(&app);
    assert_eq!(scrape(&app, &key).status, 200);
    app.run(format!("UPDATE api_keys SET revoked_at = 1 WHERE id = '{id}'"));
    assert_eq!(scrape(&app, &key).status, 200, "known a moment ago");
    app.platform.clock.advance_ms(30 * SECOND_MS);
    assert_eq!(scrape(&app, &key).status, 401);
    app.world.restart();
    assert_eq!(scrape(&app, &key).status, 401);
}

#[test]
fn a_key_expires() {
    let app = TestApp::seeded();
    let body = json!({ "name": "x", "permissions": ["metrics:read"], "expires_in_days": 1 });
    let made = create(&app, body).expect(201);
    let key = text(&made["key"]);
    assert_eq!(made["api_key"]["expires_at"], app.now().plus_ms(DAY_MS).to_rfc3339());
    app.platform.clock.advance_ms(DAY_MS - 1);
    assert_eq!(scrape(&app, &key).status, 200);
    app.platform.clock.advance_ms(1);
    assert_eq!(scrape(&app, &key).status, 401);
}

#[test]
fn a_rotated_key_works_on_for_the_overlap() {
    let app = TestApp::seeded();
    let (id, key) = scraper(&app);
    let rotate = |id: &str, body: Value| {
        app.post(&format!("{KEYS}/{id}/rotate")).bearer(&app.admin()).json(body).send()
    };
    let next = rotate(&id, json!({ "overlap_seconds": 600 })).expect(201);
    assert_eq!(next["api_key"]["replaces"], id.as_str());
    assert_eq!(next["api_key"]["permissions"], json!(["metrics:read"]));
    assert_eq!(next["api_key"]["expires_at"], app.now().plus_ms(90 * DAY_MS).to_rfc3339());
    let next_key = text(&next["key"]);
    assert_eq!((scrape(&app, &key).status, scrape(&app, &next_key).status), (200, 200));
    app.platform.clock.advance_ms(10 * MINUTE_MS);
    assert_eq!((scrape(&app, &key).status, scrape(&app, &next_key).status), (401, 200));
    assert_eq!(rotate(&id, json!({})).problem(409), "conflict", "it is over");
    // Without an overlap the old one stops at once, cached or not.
    let next_id = text(&next["api_key"]["id"]);
    let last = text(&rotate(&next_id, json!({ "overlap_seconds": 0 })).expect(201)["key"]);
    assert_eq!((scrape(&app, &next_key).status, scrape(&app, &last).status), (401, 200));
    assert_eq!(
        rotate(&next_id, json!({ "overlap_seconds": 604_801 })).pointers(),
        ["#/overlap_seconds"]
    );
}

#[test]
fn the_last_use_is_known_without_a_write_for_each() {
    let app = TestApp::seeded();
    let (id, key) = scraper(&app);
    assert_eq!(show(&app, &id)["last_used_at"], Value::Null);
    let started = app.now();
    scrape(&app, &key);
    assert_eq!(show(&app, &id)["last_used_at"], started.to_rfc3339());
    let before = app.platform.database.statements_run();
    for _ in 0..20 {
        scrape(&app, &key);
    }
    assert_eq!(app.platform.database.statements_run(), before, "known: no query, no write");
    for _ in 0..10 {
        app.platform.clock.advance_ms(10 * SECOND_MS);
        assert_eq!(scrape(&app, &key).status, 200);
    }
    let noted = show(&app, &id)["last_used_at"].as_str().unwrap().to_owned();
    assert!(noted >= started.plus_ms(MINUTE_MS).to_rfc3339(), "{noted}");
}

#[test]
fn a_use_that_cannot_be_noted_is_a_use_all_the_same() {
    let app = TestApp::seeded();
    let (_, key) = scraper(&app);
    app.platform.database.inject("UPDATE api_keys", Fault::Lost);
    assert_eq!(scrape(&app, &key).status, 200);
}

#[test]
fn anything_that_is_no_key_is_refused() {
    let app = TestApp::seeded();
    let (_, key) = scraper(&app);
    let (_, other) = scraper(&app);
    let forged = format!("{}{}", &key[..14], &other[14..]);
    for bad in ["dsk_", "dsk_x", &key[..57], &forged, &format!("{key} "), &key.to_uppercase()] {
        let reply = app.get(&api("/metrics")).header("x-api-key", bad).send();
        // Blanks around a field's value are none of it (RFC 9110, 5.5).
        let expected = if bad.trim() == key { 200 } else { 401 };
        assert_eq!(reply.status, expected, "{bad}");
    }
    let both = app.get(&api("/metrics")).bearer(&app.admin()).header("x-api-key", &key).send();
    assert_eq!(both.problem(401), "invalid_token", "one credential");
    // With the database out of reach nobody knows.
    let fresh = scraper(&app).1;
    app.lose_database(2);
    assert_eq!(scrape(&app, &fresh).problem(503), "unavailable");
}

#[test]
fn another_tenants_key_is_not_found_and_reads_its_own_tenant() {
    let app = TestApp::seeded();
    app.add_other_tenant();
    let (id, _) = scraper(&app);
    let foreign = app.token_of(OTHER_TENANT, Role::Admin);
    for reply in [
        app.get(&format!("{KEYS}/{id}")).bearer(&foreign).send(),
        app.delete(&format!("{KEYS}/{id}")).bearer(&foreign).send(),
        app.post(&format!("{KEYS}/{id}/rotate")).bearer(&foreign).json(json!({})).send(),
    ] {
        assert_eq!(reply.problem(404), "not_found");
    }
    let listed = app.get(KEYS).bearer(&foreign).send().expect(200);
    assert_eq!(listed["keys"], json!([]));
}

#[test]
fn a_tenant_has_at_most_two_hundred_keys_that_work() {
    let app = TestApp::seeded();
    let now = app.now().millis();
    app.run(format!(
        "INSERT INTO api_keys (id, tenant_id, name, prefix, secret_hash, permissions, created_at, \
         created_by, expires_at) \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) \
         SELECT 'key_' || i, 'ten_default', 'x', 'dsk_' || i, 'x', '[]', 0, 'system', {} FROM n",
        now + 1_000
    ));
    let body = json!({ "name": "one more", "permissions": ["metrics:read"] });
    assert_eq!(create(&app, body.clone()).problem(409), "conflict");
    app.platform.clock.advance_ms(1_000);
    create(&app, body).expect(201);
}

//! Logging in, staying logged in, logging out; users and the public keys.

use crate::support::{TestApp, TestReply};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::time::{DAY_MS, MINUTE_MS, SECOND_MS, Timestamp};
use devskyy_orchestration::entry::native::{ADMIN_PASSWORD, ADMIN_USERNAME as ADMIN};
use devskyy_orchestration::platform::native::Fault;
use devskyy_orchestration::platform::sql::{Row, Statement};
use devskyy_orchestration::store::users::{Change, Changed};
use devskyy_orchestration::store::{refresh_tokens, users};
use futures::FutureExt as _;
use serde_json::{Value, json};

const PASSWORD: &str = "a password of hers";
const TENANT: &str = "ten_default";

const LOGIN: &str = "/api/v1/auth/login";
const REFRESH: &str = "/api/v1/auth/refresh";
const LOGOUT: &str = "/api/v1/auth/logout";
const ME: &str = "/api/v1/auth/me";
const CHANGE_PASSWORD: &str = "/api/v1/auth/password";
const USERS: &str = "/api/v1/auth/users";
const JWKS: &str = "/.well-known/jwks.json";

// ---- speaking to the application ----

#[derive(Clone)]
struct Tokens {
    access: String,
    refresh: String,
}

fn tokens(reply: &TestReply) -> Tokens {
    assert_eq!(reply.status, 200, "{}", reply.json);
    Tokens {
        access: text(&reply.json, "access_token"),
        refresh: text(&reply.json, "refresh_token"),
    }
}

fn text(document: &Value, name: &str) -> String {
    document[name].as_str().unwrap_or_else(|| panic!("no {name} in {document}")).to_owned()
}

fn try_login(app: &TestApp, username: &str, password: &str) -> TestReply {
    app.post(LOGIN).json(json!({ "username": username, "password": password })).send()
}

fn login(app: &TestApp, username: &str, password: &str) -> Tokens {
    tokens(&try_login(app, username, password))
}

fn admin(app: &TestApp) -> Tokens {
    login(app, ADMIN, ADMIN_PASSWORD)
}

fn try_refresh(app: &TestApp, token: &str) -> TestReply {
    refresh_as(app, token, "test/1", "192.0.2.1")
}

fn refresh_as(app: &TestApp, token: &str, user_agent: &str, address: &str) -> TestReply {
    app.post(REFRESH)
        .header("user-agent", user_agent)
        .header("cf-connecting-ip", address)
        .json(json!({ "refresh_token": token }))
        .send()
}

fn me(app: &TestApp, token: &str) -> TestReply {
    app.get(ME).bearer(token).send()
}

fn logout(app: &TestApp, access: &str, refresh: &str) -> TestReply {
    app.post(LOGOUT).bearer(access).json(json!({ "refresh_token": refresh })).send()
}

fn change_password(app: &TestApp, token: &str, current: &str, new: &str) -> TestReply {
    app.put(CHANGE_PASSWORD)
        .bearer(token)
        .json(json!({ "current_password": current, "new_password": new }))
        .send()
}

/// A user of the default tenant, made by the admin.
fn add_user(app: &TestApp, username: &str, role: Role) -> String {
    let reply = app
        .post(USERS)
        .bearer(&admin(app).access)
        .json(json!({ "username": username, "email": format!("{username}@example.org"),
                      "password": PASSWORD, "role": role.name() }))
        .send();
    assert_eq!(reply.status, 201, "{}", reply.json);
    text(&reply.json, "id")
}

fn change_user(app: &TestApp, token: &str, id: &str, change: Value) -> TestReply {
    app.patch(&format!("{USERS}/{id}")).bearer(token).json(change).send()
}

fn advance(app: &TestApp, by_ms: i64) {
    app.platform.clock.advance_ms(by_ms);
}

fn now(app: &TestApp) -> Timestamp {
    Timestamp::from_millis(app.platform.clock.now_ms())
}

// ---- looking behind the scenes ----

/// On the host nothing has to be waited for.
fn ready<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the host's platform answers at once")
}

fn rows(app: &TestApp, sql: &'static str) -> Vec<Row> {
    ready(app.platform.database.query(Statement::new(sql))).unwrap()
}

fn run(app: &TestApp, sql: String) {
    ready(app.platform.database.batch(vec![Statement::new(sql)])).unwrap();
}

fn count(app: &TestApp, sql: &'static str) -> i64 {
    rows(app, sql)[0].get("n").unwrap()
}

fn events(app: &TestApp) -> Vec<String> {
    rows(app, "SELECT event FROM activity ORDER BY rowid")
        .iter()
        .map(|row| row.get("event").unwrap())
        .collect()
}

fn last_event(app: &TestApp) -> String {
    events(app).pop().unwrap_or_default()
}

fn live_refresh_tokens(app: &TestApp) -> i64 {
    count(
        app,
        "SELECT COUNT(*) AS n FROM refresh_tokens WHERE spent_at IS NULL AND revoked_at IS NULL",
    )
}

#[track_caller]
fn refused(reply: &TestReply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.json["code"].as_str()), (status, Some(code)), "{}", reply.json);
}

fn pointers(reply: &TestReply) -> Vec<String> {
    let errors = reply.json["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| text(error, "pointer")).collect()
}

// ---- the first login ----

#[test]
fn the_first_login_makes_the_tenant_and_its_admin() {
    let app = TestApp::new();
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM tenants"), 0);
    let reply = try_login(&app, ADMIN, ADMIN_PASSWORD);
    assert_eq!(reply.status, 200, "{}", reply.json);
    assert_eq!(reply.json["token_type"], "bearer");
    assert_eq!(reply.json["expires_in"], 900);
    assert_eq!(reply.headers["cache-control"], "no-store");
    let who = me(&app, &tokens(&reply).access);
    assert_eq!(who.json["username"], ADMIN);
    assert_eq!(who.json["role"], "admin");
    assert_eq!(who.json["tenant_id"], TENANT);
    assert!(events(&app).contains(&"user.created".to_owned()));
    assert_eq!(last_event(&app), "login.succeeded");
    // The second one finds them there.
    login(&app, ADMIN, ADMIN_PASSWORD);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM tenants"), 1);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM users"), 1);
}

#[test]
fn a_wrong_password_at_the_first_login_is_refused() {
    let app = TestApp::new();
    refused(&try_login(&app, ADMIN, "another password"), 401, "invalid_credentials");
    admin(&app);
}

#[test]
fn a_first_start_whose_reply_is_lost_is_found_done() {
    let app = TestApp::new();
    app.platform.database.inject("INSERT INTO tenants", Fault::LandedButErrored);
    refused(&try_login(&app, ADMIN, ADMIN_PASSWORD), 503, "unavailable");
    admin(&app);
}

#[test]
fn a_first_start_that_fails_leaves_nothing_behind() {
    let app = TestApp::new();
    app.platform.database.inject("INSERT INTO users", Fault::Lost);
    refused(&try_login(&app, ADMIN, ADMIN_PASSWORD), 503, "unavailable");
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM tenants"), 0);
    admin(&app);
}

#[test]
fn partnerships_that_cannot_be_told_do_not_stop_the_first_login() {
    let app = TestApp::new();
    app.platform.objects.inject("define", Fault::Lost);
    admin(&app);
    let log = app.platform.log.lines().join("\n");
    assert!(log.contains("definitions of the first partnerships not sent"), "{log}");
}

#[test]
fn a_missing_or_unfit_secret_is_named_and_nobody_is_let_in() {
    for (variable, value) in [
        ("SIGNING_KEY", None),
        ("SIGNING_KEY", Some("ed25519:c2VjcmV0")),
        ("SIGNING_KEY_2", Some("ed25519:c2VjcmV0")),
        ("SIGNING_KEY_ACTIVE", Some("2nd")),
        ("BOOTSTRAP_ADMIN_USERNAME", None),
        ("BOOTSTRAP_ADMIN_USERNAME", Some("not a name")),
        ("BOOTSTRAP_ADMIN_PASSWORD", None),
        ("BOOTSTRAP_ADMIN_PASSWORD", Some("hunter2")),
    ] {
        let app = TestApp::with_vars(|vars| match value {
            Some(value) => vars.set(variable, value),
            None => vars.remove(variable),
        });
        let reply = try_login(&app, ADMIN, ADMIN_PASSWORD);
        refused(&reply, 503, "not_configured");
        let detail = text(&reply.json, "detail");
        assert!(detail.contains(variable), "{detail}");
        let shown = format!("{detail} {}", app.platform.log.lines().join("\n"));
        assert!(value.is_none_or(|value| !shown.contains(value)), "{shown}");
        assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM users"), 0);
    }
}

// ---- login ----

#[test]
fn logs_in_by_name_or_address_in_any_case_and_by_form() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::MetricsViewer);
    for name in ["ada", "ADA", "ada@example.org", "Ada@Example.org"] {
        let who = me(&app, &login(&app, name, PASSWORD).access);
        assert_eq!(who.json["id"], id.as_str(), "{name}");
        assert_eq!(who.json["permissions"], json!(["metrics:read"]));
    }
    for form in [
        "username=ada&password=a+password+of+hers",
        "grant_type=password&username=ada%40example.org&password=a%20password%20of%20hers&scope=",
    ] {
        tokens(&app.post(LOGIN).body("application/x-www-form-urlencoded", form).send());
    }
}

#[test]
fn every_failed_login_gets_the_same_answer_for_the_same_work() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::Viewer);
    let admin = admin(&app);
    assert_eq!(change_user(&app, &admin.access, &id, json!({ "disabled": true })).status, 200);
    let attempt = |username: &str, password: &str| {
        let before = app.platform.database.statements_run();
        let mut reply = try_login(&app, username, password);
        refused(&reply, 401, "invalid_credentials");
        reply.json["request_id"].take();
        assert_eq!(last_event(&app), "login.refused", "{username}");
        (reply.json, app.platform.database.statements_run() - before)
    };
    let wrong_password = attempt(ADMIN, "another password");
    assert_eq!(attempt("nobody", "another password"), wrong_password);
    assert_eq!(attempt("ada", PASSWORD), wrong_password);
    assert_eq!(attempt("ada", "another password"), wrong_password);
    // What was typed is nowhere: it may be a password in the wrong field.
    attempt("hunter2hunter2", "x");
    assert!(!app.platform.log.lines().join("\n").contains("hunter2"));
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM activity WHERE subject LIKE '%hunter2%'"), 0);
}

#[test]
fn a_refusal_stands_where_its_line_cannot_be_written() {
    let app = TestApp::new();
    admin(&app);
    app.platform.database.inject("INSERT INTO activity", Fault::Lost);
    refused(&try_login(&app, ADMIN, "another password"), 401, "invalid_credentials");
}

#[test]
fn a_login_that_is_not_one_is_told_what_is_wrong_with_it() {
    let app = TestApp::new();
    let send = |body: Value| app.post(LOGIN).json(body).send();
    let long = json!({ "username": "x".repeat(255), "password": "x".repeat(1_025),
                       "grant_type": "refresh_token" });
    let reply = send(long);
    refused(&reply, 422, "validation_failed");
    assert_eq!(pointers(&reply), ["#/username", "#/password", "#/grant_type"]);
    let reply = send(json!({ "username": "a", "password": "b", "role": "admin" }));
    refused(&reply, 422, "validation_failed");
    assert_eq!(pointers(&reply), ["#/role"]);
    assert_eq!(pointers(&send(json!({ "username": "a" }))), ["#/password"]);
    assert_eq!(app.post(LOGIN).body("application/json", "{").send().status, 400);
    assert_eq!(app.post(LOGIN).body("text/plain", "{}").send().status, 415);
    assert_eq!(app.platform.database.statements_run(), 0, "nothing was looked up");
}

#[test]
fn a_password_changed_while_it_is_verified_lets_nobody_in() {
    let app = TestApp::new();
    let tokens = admin(&app);
    let before = ready(users::find_for_login(&app.platform.database, ADMIN, TENANT)).unwrap();
    let user = before.user.unwrap();
    assert_eq!(
        change_password(&app, &tokens.access, ADMIN_PASSWORD, "another password").status,
        204
    );
    let login = refresh_tokens::Login {
        tenant_id: TENANT,
        user_id: &user.id,
        password_hash: &user.password_hash,
        family_id: "fam_x",
        token_hash: "x",
        client_hash: "x",
    };
    let (database, random) = (&app.platform.database, &app.platform.random);
    let written = count(&app, "SELECT COUNT(*) AS n FROM activity");
    assert!(!ready(refresh_tokens::start(database, random, now(&app), &login)).unwrap());
    assert_eq!(live_refresh_tokens(&app), 0);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM activity"), written);
}

// ---- refresh ----

#[test]
fn a_refresh_token_is_good_for_one_refresh() {
    let app = TestApp::new();
    let first = admin(&app);
    assert!(first.refresh.starts_with("rt_") && first.refresh.len() == 46);
    advance(&app, MINUTE_MS);
    let reply = try_refresh(&app, &first.refresh);
    let second = tokens(&reply);
    assert_eq!(reply.json["token_type"], "bearer");
    assert_eq!(reply.json["expires_in"], 900);
    assert_ne!(second.refresh, first.refresh);
    assert_eq!(me(&app, &second.access).status, 200);
    advance(&app, MINUTE_MS);
    let third = tokens(&try_refresh(&app, &second.refresh));
    assert_eq!(me(&app, &third.access).status, 200);
    assert_eq!(last_event(&app), "login.refreshed");
    assert_eq!(live_refresh_tokens(&app), 1);
}

#[test]
fn only_hashes_of_refresh_tokens_are_stored() {
    let app = TestApp::new();
    let first = admin(&app);
    let second = tokens(&try_refresh(&app, &first.refresh));
    for row in rows(&app, "SELECT token_hash, client_hash, family_id FROM refresh_tokens") {
        for column in ["token_hash", "client_hash", "family_id"] {
            let stored: String = row.get(column).unwrap();
            assert!(!first.refresh.contains(&stored) && !second.refresh.contains(&stored));
        }
    }
    let log = app.platform.log.lines().join("\n");
    for secret in [&first.refresh, &second.refresh, &first.access, &second.access] {
        assert!(!log.contains(secret.as_str()));
    }
}

#[test]
fn a_spent_token_used_again_ends_the_whole_login() {
    let app = TestApp::new();
    let other_login = admin(&app);
    let first = admin(&app);
    let second = tokens(&try_refresh(&app, &first.refresh));
    advance(&app, 10 * SECOND_MS + 1);
    refused(&try_refresh(&app, &first.refresh), 401, "invalid_refresh_token");
    assert_eq!(last_event(&app), "login.refresh_reused");
    assert!(
        app.platform
            .log
            .lines()
            .iter()
            .any(|line| line.contains("used again") && line.contains("\"warn\""))
    );
    // The token of whoever was faster is gone as well, the other login lives.
    refused(&try_refresh(&app, &second.refresh), 401, "invalid_refresh_token");
    tokens(&try_refresh(&app, &other_login.refresh));
}

#[test]
fn a_client_that_lost_the_reply_gets_the_same_successor() {
    let app = TestApp::new();
    let first = admin(&app);
    let second = tokens(&try_refresh(&app, &first.refresh));
    advance(&app, 10 * SECOND_MS);
    let again = tokens(&try_refresh(&app, &first.refresh));
    assert_eq!(again.refresh, second.refresh);
    assert_ne!(again.access, second.access);
    assert_eq!(me(&app, &again.access).status, 200);
    tokens(&try_refresh(&app, &second.refresh));
    // Now that the successor is spent, the first one is a stolen one.
    refused(&try_refresh(&app, &first.refresh), 401, "invalid_refresh_token");
    assert_eq!(live_refresh_tokens(&app), 0);
}

#[test]
fn another_client_that_repeats_ends_the_login() {
    for (user_agent, address) in [("other/1", "192.0.2.1"), ("test/1", "192.0.2.2")] {
        let app = TestApp::new();
        let first = admin(&app);
        tokens(&try_refresh(&app, &first.refresh));
        let reply = refresh_as(&app, &first.refresh, user_agent, address);
        refused(&reply, 401, "invalid_refresh_token");
        assert_eq!(live_refresh_tokens(&app), 0);
    }
}

#[test]
fn a_refresh_that_fails_at_the_database_can_be_repeated() {
    for fault in [Fault::Lost, Fault::LandedButErrored] {
        let app = TestApp::new();
        let first = admin(&app);
        app.platform.database.inject("SET spent_at", fault);
        refused(&try_refresh(&app, &first.refresh), 503, "unavailable");
        let second = tokens(&try_refresh(&app, &first.refresh));
        tokens(&try_refresh(&app, &second.refresh));
    }
}

#[test]
fn of_two_that_spend_a_token_at_once_one_wins() {
    let app = TestApp::new();
    let token = admin(&app).refresh;
    let hash = devskyy_orchestration::auth::token::refresh_token_hash(&token);
    let (database, random) = (&app.platform.database, &app.platform.random);
    // Both have read the row before either writes.
    let row = ready(refresh_tokens::find(database, &hash)).unwrap().unwrap().token;
    let rotate = |successor: &str| {
        ready(refresh_tokens::rotate(database, random, now(&app), &row, successor, "c")).unwrap()
    };
    assert!(rotate("one"));
    let written = count(&app, "SELECT COUNT(*) AS n FROM activity");
    assert!(!rotate("one"), "the same successor: same client, same key");
    assert!(!rotate("two"));
    assert_eq!(live_refresh_tokens(&app), 1);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM activity"), written);
}

#[test]
fn what_is_not_a_live_refresh_token_is_refused() {
    let app = TestApp::new();
    let tokens = admin(&app);
    let long = "x".repeat(10_000);
    for bad in ["", "rt_", "rt_unknown", tokens.access.as_str(), &long] {
        refused(&try_refresh(&app, bad), 401, "invalid_refresh_token");
    }
    let reply = app.post(REFRESH).json(json!({ "refresh_token": 7 })).send();
    refused(&reply, 422, "validation_failed");
    advance(&app, 7 * DAY_MS);
    refused(&try_refresh(&app, &tokens.refresh), 401, "invalid_refresh_token");
}

#[test]
fn a_refresh_token_lives_seven_days_from_its_own_issue() {
    let app = TestApp::new();
    let first = admin(&app);
    advance(&app, 7 * DAY_MS - 1);
    let second = tokens(&try_refresh(&app, &first.refresh));
    advance(&app, 7 * DAY_MS - 1);
    tokens(&try_refresh(&app, &second.refresh));
}

#[test]
fn expired_refresh_tokens_are_forgotten_in_time() {
    let app = TestApp::new();
    admin(&app);
    let delete = || ready(refresh_tokens::delete_expired(&app.platform.database, now(&app), 30));
    advance(&app, 37 * DAY_MS);
    assert_eq!(delete().unwrap(), 0);
    advance(&app, 1);
    assert_eq!(delete().unwrap(), 1);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM refresh_tokens"), 0);
}

// ---- logout ----

#[test]
fn logout_ends_the_login_and_may_be_repeated() {
    let app = TestApp::new();
    let other_login = admin(&app);
    let first = admin(&app);
    let second = tokens(&try_refresh(&app, &first.refresh));
    // Any token of the family will do, a spent one as well.
    assert_eq!(logout(&app, &second.access, &first.refresh).status, 204);
    assert_eq!(last_event(&app), "login.ended");
    let written = count(&app, "SELECT COUNT(*) AS n FROM activity");
    assert_eq!(logout(&app, &second.access, &second.refresh).status, 204);
    assert_eq!(logout(&app, &second.access, "rt_unknown").status, 204);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM activity"), written);
    refused(&try_refresh(&app, &second.refresh), 401, "invalid_refresh_token");
    tokens(&try_refresh(&app, &other_login.refresh));
}

#[test]
fn nobody_ends_the_login_of_another() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Viewer);
    let admin = admin(&app);
    let ada = login(&app, "ada", PASSWORD);
    assert_eq!(logout(&app, &ada.access, &admin.refresh).status, 204);
    tokens(&try_refresh(&app, &admin.refresh));
    assert_eq!(app.post(LOGOUT).json(json!({ "refresh_token": ada.refresh })).send().status, 401);
}

// ---- the caller ----

#[test]
fn me_tells_each_role_what_it_may_do() {
    let app = TestApp::new();
    for role in Role::ALL {
        let name = format!("user-{}", role.name());
        add_user(&app, &name, *role);
        let reply = me(&app, &login(&app, &name, PASSWORD).access);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json["role"], role.name());
        assert_eq!(reply.json["email"], format!("{name}@example.org"));
        let permissions: Vec<&str> = role.permissions().iter().map(|p| p.name()).collect();
        assert_eq!(reply.json["permissions"], json!(permissions));
        assert!(!reply.json.to_string().contains("argon2"));
    }
}

#[test]
fn an_access_token_expires() {
    let app = TestApp::new();
    let tokens = admin(&app);
    advance(&app, 15 * MINUTE_MS - 1);
    assert_eq!(me(&app, &tokens.access).status, 200);
    advance(&app, 1);
    refused(&me(&app, &tokens.access), 401, "invalid_token");
}

// ---- the password ----

#[test]
fn a_new_password_ends_all_logins() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Viewer);
    let (here, there) = (login(&app, "ada", PASSWORD), login(&app, "ada", PASSWORD));
    let bystander = admin(&app);
    advance(&app, 10);
    assert_eq!(change_password(&app, &here.access, PASSWORD, "another password").status, 204);
    assert_eq!(last_event(&app), "user.password_changed");
    for tokens in [&here, &there] {
        refused(&me(&app, &tokens.access), 401, "invalid_token");
        refused(&try_refresh(&app, &tokens.refresh), 401, "invalid_refresh_token");
    }
    refused(&try_login(&app, "ada", PASSWORD), 401, "invalid_credentials");
    // A token issued right after the withdrawal counts, in the same second.
    advance(&app, 1);
    let fresh = login(&app, "ada", "another password");
    assert_eq!(me(&app, &fresh.access).status, 200);
    assert_eq!(me(&app, &bystander.access).status, 200);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM users WHERE password_source = 'self'"), 1);
}

#[test]
fn a_new_password_needs_the_old_one_and_must_be_good() {
    let app = TestApp::new();
    let token = admin(&app).access;
    let reply = change_password(&app, &token, "a password of somebody else", "another password");
    refused(&reply, 422, "validation_failed");
    assert_eq!(pointers(&reply), ["#/current_password"]);
    assert_eq!(last_event(&app), "user.password_refused");
    for bad in ["short", ADMIN_PASSWORD, &"x".repeat(129)] {
        let reply = change_password(&app, &token, ADMIN_PASSWORD, bad);
        refused(&reply, 422, "validation_failed");
        assert_eq!(pointers(&reply), ["#/new_password"], "{bad}");
    }
    assert_eq!(me(&app, &token).status, 200);
    admin(&app);
}

#[test]
fn a_withdrawal_that_fails_is_told_and_made_up_for() {
    let app = TestApp::new();
    let token = admin(&app).access;
    advance(&app, 10);
    app.platform.objects.inject("revoke_tokens", Fault::Lost);
    let reply = change_password(&app, &token, ADMIN_PASSWORD, "another password");
    refused(&reply, 503, "unavailable");
    assert!(text(&reply.json, "detail").contains("15 minutes"), "{}", reply.json);
    // The change stands, and the same request again finishes it.
    login(&app, ADMIN, "another password");
    assert_eq!(change_password(&app, &token, ADMIN_PASSWORD, "another password").status, 204);
    refused(&me(&app, &token), 401, "invalid_token");
}

#[test]
fn a_new_password_whose_reply_is_lost_can_be_sent_again() {
    let app = TestApp::new();
    let token = admin(&app).access;
    advance(&app, 10);
    app.platform.database.inject("UPDATE users", Fault::LandedButErrored);
    let reply = change_password(&app, &token, ADMIN_PASSWORD, "another password");
    refused(&reply, 503, "unavailable");
    assert_eq!(change_password(&app, &token, ADMIN_PASSWORD, "another password").status, 204);
    login(&app, ADMIN, "another password");
}

// ---- users ----

#[test]
fn an_admin_makes_and_lists_users() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::OrchestrationManager);
    let reply = app.get(USERS).bearer(&admin(&app).access).send();
    assert_eq!(reply.status, 200);
    let listed = reply.json["users"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let ada = listed.iter().find(|user| user["username"] == "ada").unwrap();
    assert_eq!(ada["id"], id.as_str());
    assert_eq!(ada["role"], "orchestration_manager");
    assert_eq!(ada["disabled"], false);
    assert_eq!(ada["created_at"], "2026-01-31T12:00:00.000Z");
    assert!(!reply.json.to_string().contains("argon2"));
}

#[test]
fn all_that_is_wrong_with_a_new_user_is_said_at_once() {
    let app = TestApp::new();
    let token = admin(&app).access;
    let send = |body: Value| app.post(USERS).bearer(&token).json(body).send();
    let reply =
        send(json!({ "username": "a b", "email": "x", "password": "short", "role": "root" }));
    refused(&reply, 422, "validation_failed");
    assert_eq!(pointers(&reply), ["#/username", "#/email", "#/password", "#/role"]);
    let good = json!({ "username": "adalovelace1", "password": "adaLovelace1", "role": "viewer" });
    assert_eq!(pointers(&send(good)), ["#/password"], "the password is the user name");
    let good = json!({ "username": "ada", "password": PASSWORD, "role": "viewer", "x": 1 });
    assert_eq!(pointers(&send(good)), ["#/x"]);
}

#[test]
fn names_and_addresses_are_taken_once() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Viewer);
    let token = admin(&app).access;
    let written = count(&app, "SELECT COUNT(*) AS n FROM activity");
    for (username, email, field) in
        [("ADA", "new@example.org", "#/username"), ("grace", "Ada@Example.org", "#/email")]
    {
        let body =
            json!({ "username": username, "email": email, "password": PASSWORD, "role": "viewer" });
        let reply = app.post(USERS).bearer(&token).json(body).send();
        refused(&reply, 409, "conflict");
        assert_eq!(pointers(&reply), [field]);
    }
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM activity"), written);
}

#[test]
fn only_an_admin_sees_and_changes_users() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::Viewer);
    for role in Role::ALL.iter().filter(|role| **role != Role::Admin) {
        let token = app.token(*role);
        assert_eq!(app.get(USERS).bearer(&token).send().status, 403, "{role:?}");
        let new = json!({ "username": "eve", "password": PASSWORD, "role": "admin" });
        assert_eq!(app.post(USERS).bearer(&token).json(new).send().status, 403, "{role:?}");
        assert_eq!(change_user(&app, &token, &id, json!({ "role": "admin" })).status, 403);
    }
    assert_eq!(app.get(USERS).send().status, 401);
}

#[test]
fn another_tenants_user_does_not_exist() {
    let app = TestApp::new();
    let token = admin(&app).access;
    run(&app, "INSERT INTO tenants (id, name, created_at) VALUES ('ten_b', 'B', 0)".to_owned());
    run(
        &app,
        "INSERT INTO users (id, tenant_id, username, password_hash, password_source, role, \
         created_at, created_by, updated_at) \
         VALUES ('usr_b', 'ten_b', 'bob', 'x', 'admin', 'viewer', 0, 'system', 0)"
            .to_owned(),
    );
    for id in ["usr_b", "usr_unknown"] {
        refused(&change_user(&app, &token, id, json!({ "role": "admin" })), 404, "not_found");
    }
    let listed = app.get(USERS).bearer(&token).send();
    assert_eq!(listed.json["users"].as_array().unwrap().len(), 1);
}

#[test]
fn a_disabled_user_is_out_at_once() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::Viewer);
    let (ada, admin) = (login(&app, "ada", PASSWORD), admin(&app));
    advance(&app, 10);
    let reply = change_user(&app, &admin.access, &id, json!({ "disabled": true }));
    assert_eq!(reply.status, 200, "{}", reply.json);
    assert_eq!(reply.json["disabled"], true);
    assert_eq!(last_event(&app), "user.disabled");
    refused(&me(&app, &ada.access), 401, "invalid_token");
    refused(&try_refresh(&app, &ada.refresh), 401, "invalid_refresh_token");
    refused(&try_login(&app, "ada", PASSWORD), 401, "invalid_credentials");
    advance(&app, 10);
    let reply = change_user(&app, &admin.access, &id, json!({ "disabled": false }));
    assert_eq!(reply.json["disabled"], false);
    assert_eq!(reply.json["disabled_at"], Value::Null);
    refused(&try_refresh(&app, &ada.refresh), 401, "invalid_refresh_token");
    assert_eq!(me(&app, &login(&app, "ada", PASSWORD).access).status, 200);
}

#[test]
fn a_login_that_outlived_its_user_is_ended_at_its_refresh() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Viewer);
    let ada = login(&app, "ada", PASSWORD);
    run(&app, "UPDATE users SET disabled_at = 1 WHERE username = 'ada'".to_owned());
    refused(&try_refresh(&app, &ada.refresh), 401, "invalid_refresh_token");
    assert_eq!(last_event(&app), "login.refresh_refused");
    run(&app, "UPDATE users SET disabled_at = NULL".to_owned());
    refused(&try_refresh(&app, &ada.refresh), 401, "invalid_refresh_token");
}

#[test]
fn a_new_role_counts_from_the_next_refresh_and_the_old_one_no_more() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::Admin);
    let (ada, admin) = (login(&app, "ada", PASSWORD), admin(&app));
    advance(&app, 10);
    let reply = change_user(&app, &admin.access, &id, json!({ "role": "viewer" }));
    assert_eq!(reply.json["role"], "viewer", "{}", reply.json);
    assert_eq!(last_event(&app), "user.role_changed");
    refused(&app.get(USERS).bearer(&ada.access).send(), 401, "invalid_token");
    advance(&app, 10);
    let ada = tokens(&try_refresh(&app, &ada.refresh));
    assert_eq!(me(&app, &ada.access).json["role"], "viewer");
    refused(&app.get(USERS).bearer(&ada.access).send(), 403, "forbidden");
}

#[test]
fn a_change_that_changes_nothing_writes_nothing() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::Viewer);
    let token = admin(&app).access;
    let written = count(&app, "SELECT COUNT(*) AS n FROM activity");
    let reply = change_user(&app, &token, &id, json!({ "role": "viewer", "disabled": false }));
    assert_eq!(reply.status, 200, "{}", reply.json);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM activity"), written);
    let reply = change_user(&app, &token, &id, json!({}));
    refused(&reply, 422, "validation_failed");
    assert_eq!(pointers(&change_user(&app, &token, &id, json!({ "role": "root" }))), ["#/role"]);
}

#[test]
fn a_change_whose_withdrawal_failed_is_made_up_for_by_its_repetition() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::Viewer);
    let (ada, admin) = (login(&app, "ada", PASSWORD), admin(&app));
    advance(&app, 10);
    app.platform.objects.inject("revoke_tokens", Fault::Lost);
    let disable = || change_user(&app, &admin.access, &id, json!({ "disabled": true }));
    refused(&disable(), 503, "unavailable");
    assert_eq!(disable().status, 200);
    refused(&me(&app, &ada.access), 401, "invalid_token");
    assert_eq!(events(&app).iter().filter(|event| *event == "user.disabled").count(), 1);
}

#[test]
fn an_admin_cannot_give_himself_up() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Admin);
    let token = admin(&app).access;
    let id = text(&me(&app, &token).json, "id");
    let reply = change_user(&app, &token, &id, json!({ "role": "viewer", "disabled": true }));
    refused(&reply, 422, "validation_failed");
    assert_eq!(pointers(&reply), ["#/role", "#/disabled"]);
}

#[test]
fn two_admins_who_demote_each_other_leave_one() {
    let app = TestApp::new();
    let ada = add_user(&app, "ada", Role::Admin);
    let admin = text(&me(&app, &admin(&app).access).json, "id");
    let (database, random) = (&app.platform.database, &app.platform.random);
    // Both have read before either writes.
    let find = |id: &str| ready(users::find(database, TENANT, id)).unwrap().unwrap();
    let (ada_row, admin_row) = (find(&ada), find(&admin));
    let apply = |actor: &str, before: &users::User, change: Change<'_>| {
        ready(users::change(database, random, now(&app), actor, before, change)).unwrap()
    };
    let demote = Change { role: Some("viewer"), disabled: None };
    let disable = Change { role: None, disabled: Some(true) };
    assert_eq!(apply(&admin, &ada_row, demote), Changed::Done);
    let written = count(&app, "SELECT COUNT(*) AS n FROM activity");
    assert_eq!(apply(&ada, &admin_row, demote), Changed::LastAdmin);
    assert_eq!(apply(&ada, &admin_row, disable), Changed::LastAdmin);
    // What was read before the first change is stale.
    assert_eq!(apply(&admin, &ada_row, disable), Changed::Stale);
    assert_eq!(count(&app, "SELECT COUNT(*) AS n FROM activity"), written);
    assert_eq!(find(&admin).role, "admin");
    // A disabled admin does not count as one.
    let grace = add_user(&app, "grace", Role::Admin);
    assert_eq!(apply(&admin, &find(&grace), disable), Changed::Done);
    assert_eq!(apply(&ada, &find(&admin), demote), Changed::LastAdmin);
}

// ---- the public keys ----

#[test]
fn the_public_keys_are_there_for_anyone() {
    let app = TestApp::new();
    let reply = app.get(JWKS).send();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["cache-control"], "public, max-age=300");
    let key = &reply.json["keys"][0];
    assert_eq!((key["kty"].as_str(), key["crv"].as_str()), (Some("OKP"), Some("Ed25519")));
    assert_eq!((key["alg"].as_str(), key["use"].as_str()), (Some("EdDSA"), Some("sig")));
    assert_eq!(key["d"], Value::Null);
    let app = TestApp::with_vars(|vars| vars.remove("SIGNING_KEY"));
    refused(&app.get(JWKS).send(), 503, "not_configured");
}

// ---- lockout ----

/// What a client can see of a reply.
fn seen(reply: &TestReply) -> (u16, Value, Vec<(String, String)>) {
    let mut body = reply.json.clone();
    body["request_id"] = Value::Null;
    let mut headers: Vec<_> = reply.headers.clone().into_iter().collect();
    headers.retain(|(name, _)| name != "x-request-id");
    headers.sort();
    (reply.status, body, headers)
}

fn fail_login(app: &TestApp, username: &str, times: usize) -> TestReply {
    (0..times).map(|_| try_login(app, username, "not the password")).last().unwrap()
}

#[test]
fn five_failures_lock_an_account_for_a_quarter_of_an_hour() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Viewer);
    let session = login(&app, "ada", PASSWORD);
    let wrong = fail_login(&app, "ada", 4);
    login(&app, "ada", PASSWORD);
    // A success forgives what was before it.
    fail_login(&app, "ada", 4);
    login(&app, "ada", PASSWORD);
    fail_login(&app, "ada", 5);
    let locked = try_login(&app, "ada", PASSWORD);
    assert_eq!(seen(&locked), seen(&wrong), "the right password reads like a wrong one");
    assert_eq!(seen(&locked), seen(&try_login(&app, "nobody", PASSWORD)));
    assert_eq!(seen(&locked), seen(&try_login(&app, "ada@example.org", PASSWORD)));
    // The owner's good session goes on.
    assert_eq!(me(&app, &session.access).status, 200);
    let session = tokens(&try_refresh(&app, &session.refresh));
    // Nobody else is locked.
    admin(&app);
    // Trying on does not make it longer.
    advance(&app, 14 * MINUTE_MS);
    fail_login(&app, "ada", 6);
    advance(&app, MINUTE_MS - 1);
    refused(&try_login(&app, "ada", PASSWORD), 401, "invalid_credentials");
    advance(&app, 1);
    login(&app, "ada", PASSWORD);
    assert_eq!(me(&app, &tokens(&try_refresh(&app, &session.refresh)).access).status, 200);
}

#[test]
fn an_admin_sees_who_is_locked() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::Viewer);
    fail_login(&app, "ada", 7);
    let locked = events(&app).into_iter().filter(|event| event == "login.locked").count();
    assert_eq!(locked, 1, "one line a lock");
    let token = admin(&app).access;
    let users = app.get(USERS).bearer(&token).send().expect(200);
    let ada = users["users"].as_array().unwrap().iter().find(|user| user["id"] == id).unwrap();
    assert_eq!(ada["locked_until"], now(&app).plus_ms(15 * MINUTE_MS).to_rfc3339());
    let activity = app.get("/api/v1/orchestration/activity").bearer(&token).send().expect(200);
    let line =
        activity["activity"].as_array().unwrap().iter().find(|l| l["event"] == "login.locked");
    assert_eq!(
        (&line.unwrap()["subject"], &line.unwrap()["status"]),
        (&json!(id), &json!("refused"))
    );
}

#[test]
fn failures_count_for_an_hour() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Viewer);
    for _ in 0..8 {
        fail_login(&app, "ada", 1);
        advance(&app, 15 * MINUTE_MS);
    }
    login(&app, "ada", PASSWORD);
    // Locked, over, and four more: not locked again by what led to the first.
    fail_login(&app, "ada", 5);
    advance(&app, 15 * MINUTE_MS);
    fail_login(&app, "ada", 4);
    login(&app, "ada", PASSWORD);
}

#[test]
fn a_login_that_fails_takes_the_same_work_whoever_it_is_for() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Viewer);
    add_user(&app, "eve", Role::Viewer);
    fail_login(&app, "eve", 5);
    let statements = |username: &str, password: &str| {
        let before = app.platform.database.statements_run();
        refused(&try_login(&app, username, password), 401, "invalid_credentials");
        app.platform.database.statements_run() - before
    };
    let wrong = statements("ada", "not the password");
    assert_eq!(statements("nobody", "not the password"), wrong);
    assert_eq!(statements("eve", PASSWORD), wrong, "locked, and the right password");
}

#[test]
fn a_stolen_token_buys_no_more_guesses() {
    let app = TestApp::new();
    add_user(&app, "ada", Role::Viewer);
    let stolen = login(&app, "ada", PASSWORD);
    for _ in 0..5 {
        let guess =
            change_password(&app, &stolen.access, "a guess of theirs", "the thief's own one");
        refused(&guess, 422, "validation_failed");
    }
    let right = change_password(&app, &stolen.access, PASSWORD, "the thief's own one");
    refused(&right, 422, "validation_failed");
    refused(&try_login(&app, "ada", PASSWORD), 401, "invalid_credentials");
    advance(&app, 15 * MINUTE_MS);
    login(&app, "ada", PASSWORD);
}

#[test]
fn a_lock_that_falls_while_a_login_is_looked_at_holds() {
    let app = TestApp::new();
    let id = add_user(&app, "ada", Role::Viewer);
    let user = ready(users::find(&app.platform.database, TENANT, &id)).unwrap().unwrap();
    fail_login(&app, "ada", 5);
    let started = ready(refresh_tokens::start(
        &app.platform.database,
        &app.platform.random,
        now(&app),
        &refresh_tokens::Login {
            tenant_id: TENANT,
            user_id: &id,
            password_hash: &user.password_hash,
            family_id: "fam_1",
            token_hash: "h",
            client_hash: "c",
        },
    ));
    assert!(!started.unwrap());
}

// ---- rotation of the signing key ----

const SECOND_KEY: &str = "ed25519:AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// The same world under other keys, as after a deploy.
fn deploy_with(app: &mut TestApp, vars: &[(&str, &str)]) {
    for (name, value) in vars {
        app.platform.vars.set(name, value);
    }
    app.world.restart();
}

fn kids(app: &TestApp) -> Vec<String> {
    let keys = app.get(JWKS).send().json["keys"].as_array().cloned().unwrap_or_default();
    keys.iter().map(|key| text(key, "kid")).collect()
}

fn kid_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    text(&serde_json::from_slice(&header).unwrap(), "kid")
}

#[test]
fn a_new_key_is_published_signs_and_replaces_the_old_one() {
    let mut app = TestApp::new();
    let before = admin(&app);
    let old = kids(&app);
    assert_eq!(old, [kid_of(&before.access)]);

    deploy_with(&mut app, &[("SIGNING_KEY_2", SECOND_KEY)]);
    let published = kids(&app);
    assert_eq!((published.len(), &published[0]), (2, &old[0]), "the active one first");
    assert_eq!(kid_of(&admin(&app).access), old[0], "published, and not yet signing");

    deploy_with(&mut app, &[("SIGNING_KEY_ACTIVE", "2")]);
    assert_eq!(kids(&app), [published[1].clone(), old[0].clone()]);
    let after = admin(&app);
    assert_eq!(kid_of(&after.access), published[1]);
    for token in [&before.access, &after.access] {
        assert_eq!(me(&app, token).status, 200);
    }

    // The next rotation writes over the old key.
    deploy_with(
        &mut app,
        &[("SIGNING_KEY", "ed25519:AgECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")],
    );
    refused(&me(&app, &before.access), 401, "invalid_token");
    assert_eq!(me(&app, &after.access).status, 200);
    assert!(!kids(&app).contains(&old[0]));
}

#[test]
fn an_old_token_ends_in_its_own_time_after_a_rotation() {
    let mut app = TestApp::new();
    let before = admin(&app);
    deploy_with(&mut app, &[("SIGNING_KEY_2", SECOND_KEY), ("SIGNING_KEY_ACTIVE", "2")]);
    advance(&app, 15 * MINUTE_MS - SECOND_MS);
    assert_eq!(me(&app, &before.access).status, 200);
    advance(&app, SECOND_MS);
    refused(&me(&app, &before.access), 401, "invalid_token");
}

#[test]
fn a_login_goes_on_over_a_rotation_even_if_a_reply_was_lost() {
    let mut app = TestApp::new();
    let before = admin(&app);
    let unseen = tokens(&try_refresh(&app, &before.refresh));
    deploy_with(&mut app, &[("SIGNING_KEY_2", SECOND_KEY), ("SIGNING_KEY_ACTIVE", "2")]);
    // The successor was made with the key that signed then.
    let again = tokens(&try_refresh(&app, &before.refresh));
    assert_eq!(again.refresh, unseen.refresh);
    assert_ne!(kid_of(&again.access), kid_of(&before.access));
    // From here on with the new one.
    let next = tokens(&try_refresh(&app, &again.refresh));
    assert_eq!(tokens(&try_refresh(&app, &again.refresh)).refresh, next.refresh);
    assert_eq!(me(&app, &next.access).status, 200);
}

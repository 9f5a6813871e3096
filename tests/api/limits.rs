//! Rate limits, quotas and blocks through the real router: who is counted,
//! what he is told, and what happens when the limiter cannot be asked.

use crate::support::{API, OTHER_TENANT, TestApp, TestReply, TestRequest};
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::rate_limit::{BLOCK_MS, DEFIANCE_MS, LimitClass};
use devskyy_orchestration::domain::time::{DAY_MS, SECOND_MS};
use devskyy_orchestration::entry::native::{ADMIN_PASSWORD, ADMIN_USERNAME};
use devskyy_orchestration::http::limiter::CAPACITY;
use devskyy_orchestration::objects::rate_limit::{Command, Reply};
use devskyy_orchestration::platform::native::Fault;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const LOGIN: &str = "/api/v1/auth/login";

fn api(path: &str) -> String {
    format!("{API}{path}")
}

/// GET /partnerships as the user of `token`.
fn read(app: &TestApp, token: &str) -> TestReply {
    app.get(&api("/partnerships")).bearer(token).send()
}

fn from(request: TestRequest<'_>, address: &str) -> TestReply {
    request.header("cf-connecting-ip", address).send()
}

fn try_login(app: &TestApp, address: &str, username: &str) -> TestReply {
    let body = json!({ "username": username, "password": "not the password" });
    from(app.post(LOGIN).json(body), address)
}

#[track_caller]
fn limited(reply: &TestReply, policy: &str) -> i64 {
    assert_eq!(reply.problem(429), "rate_limited");
    assert_eq!(
        reply.json["type"],
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    assert_eq!(reply.json["violated-policies"], json!([policy]));
    reply.headers["retry-after"].parse().unwrap()
}

fn use_up(app: &TestApp, token: &str) {
    for count in 1..=100 {
        let reply = read(app, token);
        assert_eq!(reply.status, 200, "{count}: {}", reply.text);
    }
}

// ---- the count -----------------------------------------------------------------------------------

#[test]
fn a_hundred_pass_and_the_next_one_is_told_when() {
    let app = TestApp::limited();
    let token = app.admin();
    let start = app.now();
    for count in 1..=100_i64 {
        let reply = read(&app, &token);
        assert_eq!(reply.status, 200, "{count}: {}", reply.text);
        let seconds = 60 - app.now().since_ms(start) / SECOND_MS;
        assert_eq!(reply.headers["ratelimit-policy"], "\"default\";q=100;w=60");
        assert_eq!(
            reply.headers["ratelimit"],
            format!("\"default\";r={};t={seconds}", 100 - count)
        );
        assert_eq!(reply.headers["x-ratelimit-limit"], "100");
        assert_eq!(reply.headers["x-ratelimit-remaining"], (100 - count).to_string());
        let reset = start.plus_ms(60 * SECOND_MS).seconds().to_string();
        assert_eq!(reply.headers["x-ratelimit-reset"], reset, "when the first one leaves");
        if count % 25 == 0 {
            app.platform.clock.advance_ms(SECOND_MS);
        }
    }
    let refused = read(&app, &token);
    assert_eq!(limited(&refused, "default"), 56);
    assert_eq!(refused.headers["ratelimit"], "\"default\";r=0;t=56");
    assert_eq!(refused.headers["x-content-type-options"], "nosniff");
    // 25 of them leave together; before that nothing passes.
    app.platform.clock.set_ms(start.plus_ms(60 * SECOND_MS - 1).millis());
    assert_eq!(limited(&read(&app, &token), "default"), 1);
    app.platform.clock.set_ms(start.plus_ms(60 * SECOND_MS).millis());
    for _ in 0..25 {
        assert_eq!(read(&app, &token).status, 200);
    }
    limited(&read(&app, &token), "default");
}

#[test]
fn most_requests_ask_no_object() {
    let app = TestApp::limited();
    let token = app.admin();
    let before = app.platform.objects.calls("RATE_LIMIT");
    let mut passed = 0;
    for _ in 0..240 {
        // The steady load of a dashboard: one request a second.
        app.platform.clock.advance_ms(SECOND_MS);
        assert_eq!(read(&app, &token).status, 200);
        passed += 1;
    }
    let calls = app.platform.objects.calls("RATE_LIMIT") - before;
    let mean = calls as f64 / f64::from(passed);
    println!("{calls} object calls for {passed} requests that passed: {mean:.3} a request");
    assert!(mean < 0.2, "{mean}");
}

#[test]
fn isolates_share_one_limit() {
    let mut app = TestApp::limited();
    let token = app.admin();
    for _ in 0..60 {
        assert_eq!(read(&app, &token).status, 200);
    }
    // Another isolate knows nothing; what the first one still holds is lost.
    app.world.restart();
    let passed = (0..60).filter(|_| read(&app, &token).status == 200).count();
    assert!((30..=40).contains(&passed), "{passed}");
    app.platform.objects.evict_all();
    limited(&read(&app, &token), "default");
}

#[test]
fn each_class_has_a_budget_of_its_own() {
    let app = TestApp::limited();
    let token = app.admin();
    use_up(&app, &token);
    limited(&read(&app, &token), "default");
    let scrape = app.get(&api("/metrics")).bearer(&token).send();
    assert_eq!(scrape.status, 200, "a dashboard does not starve a scraper of the same user");
    let decide =
        || app.post(&api("/decisions")).bearer(&token).json(json!({ "context": {} })).send();
    for _ in 0..30 {
        assert_eq!(decide().status, 200);
    }
    limited(&decide(), "decisions");
    let document = app.get("/.well-known/jwks.json").bearer(&token).send();
    assert_eq!(document.headers["ratelimit-policy"], "\"documents\";q=300;w=60");
}

#[test]
fn errors_count_and_preflights_do_not() {
    let app = TestApp::limited();
    let send = |method: &str, path: &str, address: &str| from(app.request(method, path), address);
    for count in 1..=100 {
        let (path, expected) = if count % 2 == 0 { ("/nowhere", 404) } else { (API, 404) };
        assert_eq!(send("GET", path, "192.0.2.1").status, expected, "{count}");
    }
    limited(&send("GET", "/nowhere", "192.0.2.1"), "default");
    limited(&send("PATCH", &api("/health"), "192.0.2.1"), "default");
    limited(&send("GET", &api("/info"), "192.0.2.1"), "default");
    for _ in 0..200 {
        assert_eq!(send("OPTIONS", &api("/info"), "192.0.2.1").status, 204, "free");
    }
    // A bad token counts against the address; the right one has its own budget.
    assert_eq!(send("GET", &api("/info"), "192.0.2.2").status, 401);
    for _ in 0..99 {
        let reply = from(app.get(&api("/info")).bearer("garbage"), "192.0.2.2");
        assert_eq!(reply.status, 401);
    }
    limited(&from(app.get(&api("/info")).bearer("garbage"), "192.0.2.2"), "default");
    let good = from(app.get(&api("/info")).bearer(&app.admin()), "192.0.2.2");
    assert_eq!(good.status, 200);
}

#[test]
fn an_address_is_what_cloudflare_saw_and_ipv6_counts_by_64_bits() {
    let app = TestApp::limited();
    let ask = |address: &str, forged: &str| {
        app.get(&api("/health"))
            .header("cf-connecting-ip", address)
            .header("x-forwarded-for", forged)
            .header("x-real-ip", forged)
            .header("true-client-ip", forged)
            .header("forwarded", &format!("for={forged}"))
            .send()
    };
    for count in 0..100 {
        let address = format!("2001:db8:0:7::{count:x}");
        assert_eq!(ask(&address, &format!("198.51.100.{count}")).status, 200);
    }
    limited(&ask("2001:db8:0:7:ffff::1", "203.0.113.200"), "default");
    assert_eq!(ask("2001:db8:0:8::1", "203.0.113.200").status, 200, "the next /64");
}

#[test]
fn a_refusal_can_be_read_by_the_page_that_caused_it() {
    let mut app = TestApp::limited();
    app.platform.vars.set("CORS_ALLOWED_ORIGINS", "https://console.example.com");
    app.world.restart();
    let token = app.admin();
    use_up(&app, &token);
    let reply = app
        .get(&api("/partnerships"))
        .bearer(&token)
        .header("origin", "https://console.example.com")
        .header("x-request-id", "mine-0001")
        .send();
    limited(&reply, "default");
    assert_eq!(reply.headers["access-control-allow-origin"], "https://console.example.com");
    let exposed = &reply.headers["access-control-expose-headers"];
    for name in ["RateLimit", "RateLimit-Policy", "Retry-After", "X-RateLimit-Reset"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    assert_eq!(reply.json["request_id"], "mine-0001");
}

#[test]
fn a_tenant_may_change_its_limits() {
    let app = TestApp::limited();
    let token = app.admin();
    let change = |limits: Value| {
        let body = json!({ "limits": limits });
        app.patch(&api("/config")).bearer(&token).json(body).send()
    };
    let changed = change(json!({ "default": 7, "decisions": 3 })).expect(200);
    let limits = &changed["configuration"]["api_settings"]["limits"];
    assert_eq!((&limits["default"], &limits["ingest"]), (&json!(7), &json!(600)));
    assert_eq!(changed["version"], 2);
    // The change itself was counted under the old limit.
    let passed = (0..10).filter(|_| read(&app, &token).status == 200).count();
    assert_eq!(passed, 6);
    // Another tenant's users keep theirs.
    app.add_other_tenant();
    let foreign = app.token_of(OTHER_TENANT, Role::Admin);
    assert_eq!(read(&app, &foreign).headers["x-ratelimit-limit"], "100");
    app.platform.clock.advance_ms(60 * SECOND_MS);
    let reply = change(json!({ "default": 0, "login": 5 }));
    assert_eq!(reply.problem(422), "validation_failed");
    let reply = change(json!({ "default": 0, "daily_tenant": 2_000_000_000_u32 }));
    assert_eq!(reply.pointers(), ["#/limits/default", "#/limits/daily_tenant"]);
}

// ---- logins --------------------------------------------------------------------------------------

#[test]
fn ten_logins_from_one_address_and_five_of_one_account() {
    let app = TestApp::limited();
    for count in 0..10 {
        let reply = try_login(&app, "192.0.2.1", &format!("nobody-{count}"));
        assert_eq!(reply.problem(401), "invalid_credentials");
    }
    limited(&try_login(&app, "192.0.2.1", "nobody-11"), "login");
    // From wherever it is tried, and in whatever case it is written.
    for count in 0..5 {
        let name = if count % 2 == 0 { "somebody" } else { "SomeBody" };
        let reply = try_login(&app, &format!("198.51.100.{count}"), name);
        assert_eq!(reply.problem(401), "invalid_credentials");
    }
    let refused = try_login(&app, "198.51.100.9", "somebody");
    limited(&refused, "account");
    assert_eq!(refused.headers["ratelimit-policy"], "\"account\";q=5;w=60", "the one that is over");
    let names = app.platform.objects.stored("RATE_LIMIT").join(" ");
    assert!(!names.contains("somebody"), "what was typed may be a password: {names}");
    // A token does not buy more guesses.
    let with_token = app.post(LOGIN).json(json!({ "username": "x", "password": "y" }));
    limited(&from(with_token.bearer(&app.admin()), "192.0.2.1"), "login");
}

// ---- quotas and blocks ---------------------------------------------------------------------------

/// A key of the default tenant: its id and the key.
fn make_key(app: &TestApp) -> (String, String) {
    let body = json!({ "name": "scraper", "permissions": ["metrics:read", "partnerships:read"] });
    let made = app.post("/api/v1/auth/keys").bearer(&app.admin()).json(body).send().expect(201);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&made["api_key"]["id"]), text(&made["key"]))
}

fn set_limits(app: &TestApp, limits: Value) {
    let body = json!({ "limits": limits });
    app.patch(&api("/config")).bearer(&app.admin()).json(body).send().expect(200);
}

#[test]
fn an_api_key_has_a_quota_a_day() {
    let app = TestApp::limited();
    let (id, key) = make_key(&app);
    set_limits(&app, json!({ "daily_key": 20 }));
    for count in 0..20 {
        assert_eq!(read(&app, &key).status, 200, "{count}");
    }
    let refused = read(&app, &key);
    assert_eq!(refused.problem(429), "quota_exceeded");
    assert_eq!(refused.json["violated-policies"], json!(["daily-key"]));
    assert_eq!(refused.headers["ratelimit-policy"], "\"daily-key\";q=20;w=86400");
    assert_eq!(refused.headers["retry-after"], (12 * 60 * 60).to_string(), "midnight, UTC");
    // Published, it holds where the object is not even asked.
    app.platform.clock.advance_ms(61 * SECOND_MS);
    app.world.ring();
    let before = app.platform.objects.calls("RATE_LIMIT");
    assert_eq!(read(&app, &key).problem(429), "quota_exceeded");
    assert_eq!(app.platform.objects.calls("RATE_LIMIT"), before);
    let seen = app.read(&api(&format!("/rate-limits/{id}")));
    assert_eq!(seen["object"]["day"]["used"], 20);
    assert_eq!(seen["kv"]["client"]["day"]["used"], 20);
    // The next day begins anew.
    app.platform.clock.set_ms(app.now().floor_to(DAY_MS).plus_ms(DAY_MS).millis());
    assert_eq!(read(&app, &key).status, 200);
}

#[test]
fn a_tenant_has_a_quota_a_day_over_all_of_its_clients() {
    let app = TestApp::limited();
    let (_, key) = make_key(&app);
    set_limits(&app, json!({ "daily_tenant": 30 }));
    for _ in 0..20 {
        assert_eq!(read(&app, &key).status, 200);
        assert_eq!(read(&app, &app.admin()).status, 200);
    }
    // Each object tells the tenant's sum, and that tells KV; an isolate that
    // has read KV reads it again after a minute.
    for _ in 0..4 {
        app.platform.clock.advance_ms(11 * SECOND_MS);
        app.world.ring();
    }
    app.platform.clock.advance_ms(61 * SECOND_MS);
    for token in [&key, &app.admin()] {
        let refused = read(&app, token);
        assert_eq!(refused.problem(429), "quota_exceeded");
        assert_eq!(refused.json["violated-policies"], json!(["daily-tenant"]));
    }
    // An admin can raise it, and then it holds at once.
    let config = app.get(&api("/config")).bearer(&app.admin()).send();
    assert_eq!(config.status, 200, "{}", config.text);
    set_limits(&app, json!({ "daily_tenant": 1_000 }));
    assert_eq!(read(&app, &key).status, 200);
    set_limits(&app, json!({ "daily_tenant": 30 }));
    assert_eq!(read(&app, &key).problem(429), "quota_exceeded");
    // Nobody else's.
    app.add_other_tenant();
    assert_eq!(read(&app, &app.token_of(OTHER_TENANT, Role::Admin)).status, 200);
    assert_eq!(from(app.get(&api("/health")), "192.0.2.1").status, 200);
}

/// Sends once a second for so long, whatever the answers.
fn go_on_sending(app: &TestApp, token: &str, for_ms: i64) -> TestReply {
    let until = app.now().plus_ms(for_ms);
    loop {
        let reply = read(app, token);
        if app.now() >= until {
            return reply;
        }
        app.platform.clock.advance_ms(SECOND_MS);
        app.world.ring();
    }
}

/// A client whose limit is so low that most of what it sends is refused.
fn defiant(app: &TestApp) -> (String, String) {
    let (id, key) = make_key(app);
    set_limits(app, json!({ "default": 10 }));
    (id, key)
}

#[test]
fn a_client_that_does_not_wait_is_blocked_for_a_quarter_of_an_hour() {
    let app = TestApp::limited();
    let (id, key) = defiant(&app);
    let reply = go_on_sending(&app, &key, DEFIANCE_MS - 10 * SECOND_MS);
    assert_ne!(reply.json["code"], "client_blocked", "{}", reply.text);
    let blocked = go_on_sending(&app, &key, 30 * SECOND_MS);
    assert_eq!(blocked.problem(429), "client_blocked");
    assert_eq!(blocked.json["violated-policies"], json!(["block"]));
    let wait: i64 = blocked.headers["retry-after"].parse().unwrap();
    assert!((BLOCK_MS / SECOND_MS - 30..=BLOCK_MS / SECOND_MS).contains(&wait), "{wait}");

    let admin = app.admin();
    let path = api(&format!("/rate-limits/{id}"));
    let seen = app.get(&path).bearer(&admin).send().expect(200);
    assert_eq!(seen["object"]["blocked_until"], seen["kv"]["client"]["blocked_until"]);
    assert!(seen["kv"]["client"]["blocked_until"].is_string(), "{seen}");

    // It ends by itself.
    app.platform.clock.advance_ms(wait * SECOND_MS);
    assert_eq!(read(&app, &key).status, 200);
}

#[test]
fn every_location_reads_the_block_and_an_admin_lifts_it() {
    let mut app = TestApp::limited();
    let (id, key) = defiant(&app);
    go_on_sending(&app, &key, DEFIANCE_MS + 30 * SECOND_MS);
    // An isolate that knows nothing, and an object out of reach.
    app.world.restart();
    app.platform.objects.inject("RATE_LIMIT/", Fault::Lost);
    assert_eq!(read(&app, &key).problem(429), "client_blocked");
    let path = api(&format!("/rate-limits/{id}"));
    // (The fault meets the admin's own request, a read.)
    app.get(&path).bearer(&app.admin()).send().expect(200);
    app.platform.clock.advance_ms(61 * SECOND_MS);
    assert_eq!(read(&app, &key).problem(429), "client_blocked");
    assert_eq!(app.delete(&path).bearer(&app.admin()).send().status, 204);
    assert_eq!(read(&app, &key).status, 200, "at once where it was lifted");
    assert_eq!(app.delete(&path).bearer(&app.admin()).send().status, 204, "again: nothing to lift");
    let lifted =
        app.count("SELECT COUNT(*) AS n FROM activity WHERE event = 'rate_limit.block_lifted'");
    assert_eq!(lifted, 1);
    app.platform.clock.advance_ms(61 * SECOND_MS);
    app.world.restart();
    assert_eq!(read(&app, &key).status, 200, "elsewhere a minute later");
}

#[test]
fn a_block_that_only_kv_knows_of_can_be_lifted_too() {
    let mut app = TestApp::limited();
    let record = r#"{"published_at":"2026-01-31T12:00:00.000Z","counted":{},"blocked_until":"2026-01-31T13:00:00.000Z","day":null}"#;
    let key = "rl:client:ip:192.0.2.9";
    futures::executor::block_on(app.platform.kv.put(key, record, 3_600)).unwrap();
    let ask = |app: &TestApp| from(app.get(&api("/health")), "192.0.2.9");
    assert_eq!(ask(&app).problem(429), "client_blocked");
    app.platform.clock.advance_ms(2 * SECOND_MS);
    let lift = app.delete(&api("/rate-limits/192.0.2.9")).bearer(&app.admin()).send();
    assert_eq!(lift.status, 204);
    app.world.restart();
    assert_eq!(ask(&app).status, 200, "also for who reads KV anew");
}

#[test]
fn a_polite_client_is_never_blocked() {
    let app = TestApp::limited();
    let (_, key) = defiant(&app);
    let end = app.now().plus_ms(3 * DEFIANCE_MS);
    while app.now() < end {
        let reply = read(&app, &key);
        let wait: i64 = match reply.status {
            200 => 0,
            _ => limited(&reply, "default"),
        };
        app.platform.clock.advance_ms(wait * SECOND_MS + 50);
    }
}

#[test]
fn counters_go_to_kv_no_more_often_than_it_takes_them() {
    let app = TestApp::limited();
    let (id, key) = make_key(&app);
    let before = app.platform.kv.writes();
    go_on_sending(&app, &key, 60 * SECOND_MS);
    let of_key = format!("rl:client:ten_default/{id}");
    assert!(app.platform.kv.keys().contains(&of_key), "{:?}", app.platform.kv.keys());
    let writes = app.platform.kv.writes() - before;
    assert!((2..=30).contains(&writes), "61 requests of one client made {writes} writes");
    assert!(!app.platform.log.lines().iter().any(|line| line.contains("Too Many")));
}

#[test]
fn a_client_that_is_gone_leaves_nothing() {
    let app = TestApp::limited();
    assert_eq!(from(app.get(&api("/health")), "192.0.2.77").status, 200);
    let (id, key) = make_key(&app);
    assert_eq!(read(&app, &key).status, 200);
    let stored = || app.platform.objects.stored("RATE_LIMIT");
    assert!(stored().contains(&"ip:192.0.2.77".to_owned()));
    for _ in 0..20 {
        app.platform.clock.advance_ms(10 * SECOND_MS);
        app.world.ring();
    }
    assert!(!stored().contains(&"ip:192.0.2.77".to_owned()), "{:?}", stored());
    assert!(stored().contains(&format!("ten_default/{id}")), "the day is still to be counted");
    app.platform.clock.set_ms(app.now().floor_to(DAY_MS).plus_ms(DAY_MS + 60_000).millis());
    for _ in 0..5 {
        app.platform.clock.advance_ms(30 * SECOND_MS);
        app.world.ring();
    }
    assert_eq!(stored(), [""; 0]);
    assert_eq!(from(app.get(&api("/health")), "192.0.2.77").status, 200, "and it may come back");
}

#[test]
fn an_isolate_remembers_a_bounded_number_of_clients() {
    let app = TestApp::limited();
    for index in 0..CAPACITY + 500 {
        let address = format!("10.{}.{}.{}", index >> 16, (index >> 8) & 255, index & 255);
        assert_eq!(from(app.get("/nowhere"), &address).status, 404);
    }
    assert_eq!(app.world.app.limiter.len(), CAPACITY);
}

// ---- out of reach --------------------------------------------------------------------------------

#[test]
fn reads_pass_and_writes_do_not_while_the_object_is_out_of_reach() {
    let app = TestApp::limited();
    let token = app.admin();
    app.platform.objects.inject("RATE_LIMIT/", Fault::Lost);
    let reply = read(&app, &token);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["x-ratelimit-status"], "unenforced");
    assert!(!reply.headers.contains_key("ratelimit"), "nothing is known");
    // For a second nobody waits for it again.
    let write = app.post(&api("/decisions")).bearer(&token).json(json!({ "context": {} }));
    let refused = write.send();
    assert_eq!(refused.problem(503), "unavailable");
    assert_eq!(refused.headers["retry-after"], "2");
    app.platform.objects.inject("RATE_LIMIT/", Fault::Lost);
    assert_eq!(try_login(&app, "192.0.2.1", "x").problem(503), "unavailable");
    let warned =
        app.platform.log.lines().iter().any(|l| l.contains("rate limiter cannot be reached"));
    assert!(warned);
    // Both passed uncounted, and that is a figure.
    app.platform.clock.advance_ms(2 * SECOND_MS);
    let scrape = app.get(&api("/metrics")).bearer(&token).header("accept", "text/plain").send();
    let line = "devskyy_rate_limit_unenforced_requests_total";
    let value = scrape.text.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    assert!(value.trim().parse::<f64>().unwrap() >= 1.0, "{value}");
    // It is back.
    assert_eq!(read(&app, &token).headers["x-ratelimit-limit"], "100");
}

#[test]
fn a_reply_of_the_object_that_is_lost_costs_the_client_little() {
    let app = TestApp::limited();
    let token = app.admin();
    for _ in 0..30 {
        read(&app, &token);
    }
    for _ in 0..3 {
        app.platform.objects.inject("RATE_LIMIT/", Fault::LandedButErrored);
        for _ in 0..12 {
            read(&app, &token);
        }
        app.platform.clock.advance_ms(2 * SECOND_MS);
    }
    let passed = (0..100).filter(|_| read(&app, &token).headers.contains_key("ratelimit")).count();
    assert!(passed <= 100, "never more");
}

#[test]
fn reads_pass_and_writes_do_not_while_kv_is_out_of_reach() {
    let app = TestApp::limited();
    let token = app.admin();
    app.platform.kv.inject("rl:");
    let reply = read(&app, &token);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["x-ratelimit-status"], "quotas-unknown");
    assert_eq!(reply.headers["x-ratelimit-remaining"], "99", "the limit itself is kept");
    let write = app.post(&api("/decisions")).bearer(&token).json(json!({ "context": {} })).send();
    assert_eq!(write.problem(503), "unavailable");
    assert!(write.headers.contains_key("retry-after"));
    app.platform.clock.advance_ms(2 * SECOND_MS);
    let write = app.post(&api("/decisions")).bearer(&token).json(json!({ "context": {} })).send();
    assert_eq!(write.status, 200);
    app.platform.kv.inject("rl:");
    assert_eq!(try_login(&app, "192.0.2.1", "x").problem(503), "unavailable");
}

#[test]
fn limits_can_be_switched_off_in_development_only() {
    let mut app = TestApp::limited();
    app.platform.vars.set("RATE_LIMITING", "off");
    app.world.restart();
    assert!(!read(&app, &app.admin()).headers.contains_key("ratelimit"));
    app.platform.vars.set("ENVIRONMENT", "production");
    app.world.restart();
    assert!(read(&app, &app.admin()).headers.contains_key("ratelimit"));
}

// ---- whose limits may be seen --------------------------------------------------------------------

#[test]
fn addresses_are_the_operators_and_users_are_their_tenants() {
    let app = TestApp::limited();
    app.add_own_user(Role::Admin);
    app.add_other_tenant();
    let ours = app.admin();
    let foreign = app.token_of(OTHER_TENANT, Role::Admin);
    assert_eq!(from(app.get(&api("/health")), "2001:db8::1").status, 200);
    for name in ["ip:2001:db8:0:0", "2001:db8::1", "ip%3A2001%3Adb8%3A0%3A0"] {
        let path = api(&format!("/rate-limits/{name}"));
        let seen = app.get(&path).bearer(&ours).send().expect(200);
        assert_eq!(seen["client"], "ip:2001:db8:0:0");
        assert_eq!(seen["object"]["classes"]["default"]["counted"], 1, "{seen}");
        assert_eq!(seen["kv"]["tenant"], Value::Null);
        assert_eq!(app.get(&path).bearer(&foreign).send().status, 404);
    }
    let path = api(&format!("/rate-limits/{}", app.user_id()));
    let seen = app.get(&path).bearer(&ours).send().expect(200);
    assert!(seen["object"]["classes"]["default"]["counted"].as_u64().unwrap() >= 4, "{seen}");
    assert_eq!(app.get(&path).bearer(&foreign).send().status, 404);
    for name in ["nobody", "usr_nobody", "key_nobody", "account:x", "@sum", "ten_default%2Fusr_1"] {
        let reply = app.get(&api(&format!("/rate-limits/{name}"))).bearer(&ours).send();
        assert_eq!(reply.problem(404), "not_found", "{name}");
    }
}

// ---- the wire ------------------------------------------------------------------------------------

#[test]
fn the_wire_form_of_the_limiter_is_pinned() {
    for text in [
        r#"{"take":{"client":{"tenant_id":"ten_a","id":"usr_1"},"class":"default","limit":100,"want":4,"report":{"settled":[{"lease":7,"uses":[[120,2]]}],"refused":1},"daily_key":null,"daily_tenant":100000}}"#,
        r#"{"used":{"tenant_id":"ten_a","client":"usr_1","day":"2026-01-31T00:00:00.000Z","used":12,"quota":100000}}"#,
        r#""look""#,
        r#"{"lift":{"client":{"tenant_id":null,"id":"ip:192.0.2.1"}}}"#,
    ] {
        let read: Command = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
    for text in [
        r#"{"granted":{"lease":7,"tokens":4,"granted_at":"2026-01-31T12:00:00.000Z","usable_until":"2026-01-31T12:00:10.000Z","remaining":96,"frees_at":null}}"#,
        r#"{"refused":{"now":"2026-01-31T12:00:00.000Z","retry_at":"2026-01-31T12:00:17.000Z"}}"#,
        r#"{"blocked":{"until":"2026-01-31T12:00:00.000Z"}}"#,
        r#"{"quota_used":{"until":"2026-02-01T00:00:00.000Z"}}"#,
        r#""done""#,
        r#"{"lifted":{"was_blocked":true}}"#,
    ] {
        let read: Reply = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
    let names: BTreeSet<&str> = LimitClass::ALL.iter().map(|class| class.name()).collect();
    assert_eq!(names.len(), LimitClass::ALL.len());
    for class in LimitClass::ALL {
        assert_eq!(serde_json::to_value(class).unwrap(), class.name());
        assert_eq!(LimitClass::parse(class.name()), Some(class));
    }
}

#[test]
fn a_new_deployment_can_be_logged_into() {
    let mut app = TestApp::new();
    app.platform.vars.remove("RATE_LIMITING");
    app.world.restart();
    let body = json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD });
    let reply = app.post(LOGIN).json(body).send();
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["ratelimit-policy"], "\"login\";q=10;w=60");
}

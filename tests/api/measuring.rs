//! Measuring: probes, what clients push, rollups, scores and the board, from
//! the tick to the reply.

use crate::support::{API, CURSOR_PROBE, NOW, OTHER_TENANT, TestApp, TestReply, TestRequest};
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::auth::token::Grant;
use devskyy_orchestration::domain::observation::{Observation, Origin};
use devskyy_orchestration::domain::partnership::{Definition, Stored, Summary};
use devskyy_orchestration::domain::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use devskyy_orchestration::domain::verdict::Verdict;
use devskyy_orchestration::entry::native::{ADMIN_PASSWORD, ADMIN_USERNAME};
use devskyy_orchestration::http::App;
use devskyy_orchestration::objects::Idempotency;
use devskyy_orchestration::objects::incident;
use devskyy_orchestration::objects::partnership::{self, KpiPoint, object_name};
use devskyy_orchestration::objects::{OBJECTS, Object, board};
use devskyy_orchestration::platform::native::{Fault, ObjectBody, ObjectStorage, Script};
use devskyy_orchestration::platform::{Error, ErrorKind};
use devskyy_orchestration::routes::ROUTES;
use devskyy_orchestration::store::registry;
use devskyy_orchestration::store::tenants::DEFAULT_TENANT_ID;
use futures::executor::block_on;
use futures::future::LocalBoxFuture;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::rc::Rc;

const STATUS_PAGE: &str = "https://status.cursor.com/api/v2/summary.json";

fn api(path: &str) -> String {
    format!("{API}{path}")
}

fn now() -> Timestamp {
    Timestamp::parse(NOW).unwrap()
}

/// A partnership that nothing probes: what is known of it, clients pushed.
fn with_acme() -> TestApp {
    let app = TestApp::seeded();
    let body = json!({
        "id": "acme_search", "name": "Search", "partner": "Acme", "aliases": ["acme"],
        "kpis": [{ "name": "speed", "target": 10, "unit": "x", "direction": "higher" }],
    });
    app.post(&api("/partnerships")).bearer(&app.admin()).json(body).send().expect(201);
    app
}

fn row(at: Timestamp, outcome: &str, latency_ms: Option<f64>) -> Value {
    json!({ "at": at, "outcome": outcome, "latency_ms": latency_ms, "source": "gateway" })
}

fn push<'a>(app: &'a TestApp, id: &str, rows: &[Value]) -> TestRequest<'a> {
    let path = api(&format!("/partnerships/{id}/observations"));
    app.post(&path).bearer(&app.token(Role::Ingest)).json(json!(rows))
}

#[track_caller]
fn pushed(app: &TestApp, id: &str, rows: &[Value]) {
    let reply = push(app, id, rows).send().expect(202);
    assert_eq!(reply, json!({ "accepted": rows.len(), "rejected": [] }));
}

fn send_kpi(app: &TestApp, id: &str, name: &str, body: Value) -> TestReply {
    let path = api(&format!("/partnerships/{id}/kpis/{name}"));
    app.post(&path).bearer(&app.token(Role::Ingest)).json(body).send()
}

fn metric(app: &TestApp, id: &str, name: &str) -> Value {
    app.read(&api(&format!("/metrics/{id}")))["details"][name].clone()
}

/// Observations in the window.
fn total(app: &TestApp, id: &str) -> u64 {
    metric(app, id, "requests_per_minute")["n"].as_u64().unwrap()
}

fn health(app: &TestApp, id: &str) -> Value {
    app.read(&api("/health"))["partnerships"][id].clone()
}

fn verdict(app: &TestApp, id: &str) -> String {
    health(app, id)["verdict"].as_str().unwrap().to_owned()
}

fn asked(app: &TestApp, url: &str) -> usize {
    app.platform.outbound.asked().iter().filter(|asked| *asked == url).count()
}

/// In a fresh isolate: one may show a board for up to a second.
fn set_clock(app: &mut TestApp, after_ms: i64) {
    app.platform.clock.set_ms(now().plus_ms(after_ms).millis());
    app.world.restart();
}

fn cursor_answers(app: &TestApp, script: Script) {
    app.platform.outbound.script(CURSOR_PROBE, script);
}

// ---- the tick ----

#[test]
fn a_new_tenant_knows_nothing_until_the_first_tick_measures_it() {
    let app = TestApp::new();
    app.all_partners(Script::Status(401, 80.0));
    let body = json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD });
    app.post("/api/v1/auth/login").json(body).send().expect(200);
    let health = app.read(&api("/health"));
    assert_eq!(health["status"], "unknown");
    let six = health["partnerships"].as_object().unwrap();
    assert_eq!(six.len(), 6);
    assert!(six.values().all(|one| one["health"] == "unknown" && one["score"].is_null()));
    assert!(app.platform.outbound.asked().is_empty(), "nobody was asked yet");
    app.next_minute();
    let health = app.read(&api("/health"));
    for (id, one) in health["partnerships"].as_object().unwrap() {
        assert_eq!(one["verdict"], "up", "{id}");
        assert_eq!(one["metrics"]["response_time"]["value"], 80.0, "{id}");
        assert_eq!(one["metrics"]["response_time"]["source"], "probe", "{id}");
        assert_eq!(one["observed_at"], app.now().to_rfc3339(), "{id}");
    }
    assert_eq!(health["status"], "healthy");
}

#[test]
fn each_partner_is_asked_at_his_own_address() {
    let app = TestApp::seeded();
    let mut addresses = app.platform.outbound.asked();
    addresses.retain(|url| !url.contains("summary.json"));
    addresses.sort();
    assert_eq!(
        addresses,
        [
            "https://api.anthropic.com/v1/models",
            "https://api.openai.com/v1/models",
            "https://api.perplexity.ai/",
            "https://api.x.ai/v1/models",
            "https://api2.cursor.sh/",
            "https://generativelanguage.googleapis.com/v1beta/models",
        ]
    );
}

#[test]
fn a_repeated_tick_probes_once_and_the_next_minute_again() {
    let app = TestApp::seeded();
    for repetition in 0..3 {
        app.tick();
        assert_eq!(asked(&app, CURSOR_PROBE), 1, "repetition {repetition}");
    }
    // Late within its minute, and early for the next: cron is no clock.
    app.platform.clock.advance_ms(59_999);
    app.world.scheduled("* * * * *", now());
    assert_eq!(asked(&app, CURSOR_PROBE), 1, "for the same minute");
    app.world.scheduled("* * * * *", now().plus_ms(MINUTE_MS));
    assert_eq!(asked(&app, CURSOR_PROBE), 2, "for the next one");
    app.world.scheduled("* * * * *", now());
    assert_eq!(asked(&app, CURSOR_PROBE), 2, "one that comes after its successor");
    app.platform.clock.advance_ms(1_000);
    assert_eq!(total(&app, "cursor"), 2);
}

#[test]
fn a_lost_tick_leaves_a_gap_that_coverage_shows() {
    let app = TestApp::seeded();
    for minute in 1..60 {
        // Ten minutes without a tick.
        if (20..30).contains(&minute) {
            app.platform.clock.advance_ms(MINUTE_MS);
        } else {
            app.next_minute();
        }
    }
    let uptime = metric(&app, "cursor", "uptime");
    assert_eq!(uptime["n"], 50);
    assert_eq!(uptime["value"], 100.0, "a gap is not an outage");
    // 50 of 1,440 minutes.
    assert_eq!(uptime["coverage"], 0.0347);
    // 50 in the 59 minutes since the first.
    assert_eq!(metric(&app, "cursor", "requests_per_minute")["value"], 0.8475);
}

#[test]
fn one_partnership_that_does_not_take_the_tick_does_not_stop_the_others() {
    let app = TestApp::seeded();
    app.platform.objects.inject("PARTNERSHIP/ten_default/cursor_technical", Fault::Lost);
    app.next_minute();
    assert_eq!(total(&app, "cursor"), 1);
    for other in ["grok", "gemini", "chatgpt", "claude", "perplexity"] {
        assert_eq!(total(&app, other), 2, "{other}");
    }
    app.next_minute();
    assert_eq!(total(&app, "cursor"), 2);
}

#[test]
fn observations_age_and_no_verdict_is_given_on_old_ones() {
    let mut app = TestApp::seeded();
    for (age_ms, expected) in
        [(10 * MINUTE_MS, "up"), (10 * MINUTE_MS + 1, "unknown"), (15 * MINUTE_MS, "unknown")]
    {
        set_clock(&mut app, age_ms);
        assert_eq!(verdict(&app, "cursor_technical"), expected, "{age_ms} ms old");
        assert_eq!(health(&app, "cursor_technical")["score"], 100.0, "{age_ms} ms old");
    }
    set_clock(&mut app, 15 * MINUTE_MS + 1);
    let cursor = health(&app, "cursor_technical");
    assert_eq!((&cursor["score"], &cursor["health"]), (&Value::Null, &json!("unknown")));
    assert_eq!(cursor["metrics"]["uptime"]["state"], "stale");
    assert_eq!(app.read(&api("/health"))["status"], "unknown");
}

// ---- verdicts ----

#[test]
fn an_answer_makes_its_verdict() {
    for (status, expected) in [
        (200, "up"),
        (204, "up"),
        (301, "up"),
        (401, "up"),
        (403, "up"),
        (404, "up"),
        (499, "up"),
        (429, "throttled"),
    ] {
        let app = TestApp::seeded();
        cursor_answers(&app, Script::Status(status, 50.0));
        app.next_minute();
        assert_eq!(verdict(&app, "cursor_technical"), expected, "{status}");
        assert_eq!(metric(&app, "cursor", "uptime")["value"], 100.0, "{status}");
    }
    for status in [500, 502, 503, 504, 599] {
        let app = TestApp::seeded();
        cursor_answers(&app, Script::Status(status, 50.0));
        app.next_minute();
        assert_eq!(metric(&app, "cursor", "uptime")["value"], 50.0, "{status}");
    }
}

#[test]
fn one_failure_is_degraded_two_are_down_and_one_success_is_up() {
    let app = TestApp::seeded();
    let seen = |app: &TestApp| verdict(app, "cursor_technical");
    cursor_answers(&app, Script::Status(500, 50.0));
    app.next_minute();
    assert_eq!(seen(&app), "degraded");
    app.next_minute();
    assert_eq!(seen(&app), "down");
    app.next_minute();
    assert_eq!(seen(&app), "down");
    cursor_answers(&app, Script::Status(200, 50.0));
    app.next_minute();
    assert_eq!(seen(&app), "up");
    // 2 of 5 were good.
    assert_eq!(metric(&app, "cursor", "uptime")["value"], 40.0);
    assert_eq!(metric(&app, "cursor", "success_rate")["value"], 40.0);
    assert_eq!(metric(&app, "cursor", "error_rate")["value"], 60.0);
    // A failed call says nothing of how fast a served one is.
    assert_eq!(metric(&app, "cursor", "response_time")["n"], 2);
}

#[test]
fn a_partner_that_was_never_up_is_down_at_the_first_failure() {
    let app = TestApp::new();
    app.all_partners(Script::Status(503, 50.0));
    app.tick();
    assert_eq!(verdict(&app, "cursor_technical"), "down");
    assert_eq!(app.read(&api("/health"))["status"], "critical");
}

#[test]
fn no_answer_is_the_partners_fault_only_where_the_outside_can_be_reached() {
    for script in [Script::Hangs, Script::Refuses] {
        let app = TestApp::seeded();
        app.outside_reachable();
        cursor_answers(&app, script.clone());
        for expected in ["degraded", "down"] {
            app.next_minute();
            assert_eq!(verdict(&app, "cursor_technical"), expected, "{script:?}");
        }
        // 1 of 3 was good.
        assert_eq!(metric(&app, "cursor", "uptime")["value"], 33.3333, "{script:?}");
        assert_eq!(verdict(&app, "grok_brand"), "up");

        let app = TestApp::seeded();
        app.all_partners(script.clone());
        for _ in 0..3 {
            app.next_minute();
            assert_eq!(verdict(&app, "cursor_technical"), "unreachable_from_us", "{script:?}");
        }
        let uptime = metric(&app, "cursor", "uptime");
        assert_eq!((&uptime["value"], &uptime["n"]), (&json!(100.0), &json!(1)), "not burned");
        assert_eq!(metric(&app, "cursor", "success_rate")["n"], 1, "no attempt at him either");
        assert_eq!(total(&app, "cursor"), 4, "and all of them are counted");
        assert_eq!(health(&app, "cursor_technical")["score"], 100.0);
    }
}

#[test]
fn any_one_control_target_that_answers_will_do() {
    let targets = ["https://captive.apple.com/hotspot-detect.html", "https://example.com/"];
    for (answers, expected) in [
        ([Script::Hangs, Script::Status(200, 1.0)], "down"),
        ([Script::Status(503, 1.0), Script::Refuses], "down"),
        ([Script::Hangs, Script::Refuses], "unreachable_from_us"),
    ] {
        let app = TestApp::new();
        app.all_partners(Script::Hangs);
        for (url, answer) in targets.iter().zip(answers.clone()) {
            app.platform.outbound.script(url, answer);
        }
        app.tick();
        assert_eq!(verdict(&app, "cursor_technical"), expected, "{answers:?}");
    }
    // Where everybody answers, nobody asks the control targets.
    let app = TestApp::seeded();
    assert!(targets.iter().all(|url| asked(&app, url) == 0));
}

#[test]
fn too_slow_is_degraded_and_counts_as_was_agreed() {
    let probe = json!([{ "key": "api", "url": CURSOR_PROBE, "degraded_above_ms": 200 }]);
    for (counts_as_bad, latency_ms, expected, uptime) in [
        (false, 200.0, "up", 100.0),
        (false, 200.1, "degraded", 100.0),
        (true, 200.0, "up", 100.0),
        (true, 200.1, "degraded", 50.0),
    ] {
        let app = TestApp::seeded();
        let change = json!({ "probes": probe, "degraded_counts_as_bad": counts_as_bad });
        app.patch(&api("/partnerships/cursor"))
            .bearer(&app.admin())
            .json(change)
            .send()
            .expect(200);
        cursor_answers(&app, Script::Status(200, latency_ms));
        app.next_minute();
        let place = format!("{latency_ms} ms, bad: {counts_as_bad}");
        assert_eq!(verdict(&app, "cursor_technical"), expected, "{place}");
        assert_eq!(metric(&app, "cursor", "uptime")["value"], uptime, "{place}");
        assert_eq!(metric(&app, "cursor", "response_time")["n"], 2, "{place}: it was served");
    }
}

#[test]
fn every_outcome_that_a_client_can_push_burns_what_it_should() {
    // Outcome, whether it is good or bad, whether it is an attempt.
    for (outcome, availability, attempt) in [
        ("up", Some(true), true),
        ("degraded", Some(true), true),
        ("down", Some(false), true),
        ("throttled", None, true),
        ("quota_exhausted", None, true),
        ("credential", None, true),
        ("unreachable_from_us", None, false),
        ("probe_invalid", None, false),
        ("unknown", None, false),
    ] {
        let app = with_acme();
        pushed(&app, "acme", &[row(app.now(), outcome, Some(5.0))]);
        let uptime = metric(&app, "acme", "uptime");
        let expected = availability.map(|good| if good { 100.0 } else { 0.0 });
        assert_eq!(uptime["value"].as_f64(), expected, "{outcome}");
        let attempts = metric(&app, "acme", "success_rate");
        assert_eq!(attempts["n"], u64::from(attempt), "{outcome}");
        let served = ["up", "degraded"].contains(&outcome);
        let expected = attempt.then_some(if served { 100.0 } else { 0.0 });
        assert_eq!(attempts["value"].as_f64(), expected, "{outcome}");
        assert_eq!(metric(&app, "acme", "response_time")["n"], u64::from(served), "{outcome}");
        assert_eq!(verdict(&app, "acme_search"), outcome);
        assert_eq!(total(&app, "acme"), 1, "{outcome}");
    }
}

// ---- what the partner says of himself ----

fn page_of(app: &TestApp) -> Value {
    health(app, "cursor_technical")["partner_status_page"].clone()
}

fn page(indicator: &str) -> Script {
    let body = json!({
        "page": { "updated_at": "2026-01-30T08:00:00Z" },
        "status": { "indicator": indicator, "description": "In his words" },
        "components": [{ "status": "operational" }, { "status": "partial_outage" }],
        "incidents": [{ "status": "investigating" }, { "status": "resolved" }],
    });
    Script::Body(200, body.to_string().into_bytes(), 30.0)
}

#[test]
fn the_partners_own_page_is_a_source_of_its_own() {
    let app = TestApp::seeded();
    for indicator in ["none", "minor", "major", "critical"] {
        app.platform.outbound.script(STATUS_PAGE, page(indicator));
        app.platform.clock.advance_ms(5 * MINUTE_MS);
        app.tick();
        let read = page_of(&app);
        assert_eq!(
            read,
            json!({
                "indicator": indicator, "description": "In his words",
                "page_updated_at": "2026-01-30T08:00:00.000Z", "components_affected": 1,
                "open_incidents": 1, "state": "ok", "reason": null,
                "fetched_at": app.now().to_rfc3339(),
            })
        );
        let shown = app.read(&api("/partnerships/cursor/status"))["partner_status_page"].clone();
        assert_eq!(shown, read);
        // What he says changes nothing of what we saw.
        let cursor = health(&app, "cursor_technical");
        assert_eq!((&cursor["verdict"], &cursor["score"]), (&json!("up"), &json!(100.0)));
    }
    assert_eq!(health(&app, "grok_brand")["partner_status_page"]["state"], "not_run");
}

#[test]
fn a_page_that_says_nothing_is_unknown_with_its_reason() {
    let whole = |length: usize| {
        let start = r#"{"status":{"indicator":"none"},"x":""#;
        let body = format!("{start}{}\"}}", "x".repeat(length - start.len() - 2));
        assert_eq!(body.len(), length);
        Script::Body(200, body.into_bytes(), 30.0)
    };
    for (script, state, reason) in [
        (Script::Body(200, b"<html>".to_vec(), 1.0), "failed", "not JSON"),
        (Script::Body(200, b"{\"status\":{}}".to_vec(), 1.0), "failed", "no status.indicator"),
        (Script::Body(200, b"\xff".to_vec(), 1.0), "failed", "not JSON"),
        (page("purple"), "failed", "purple"),
        (Script::Status(404, 1.0), "failed", "404"),
        (Script::Status(302, 1.0), "failed", "302"),
        (Script::Status(500, 1.0), "failed", "500"),
        (Script::Hangs, "failed", "in time"),
        (Script::Refuses, "failed", "cannot be reached"),
        (whole(64 * 1024 + 1), "failed", "longer than 64 KB"),
        (whole(64 * 1024), "ok", ""),
    ] {
        let app = TestApp::new();
        app.all_partners(Script::Status(401, 120.0));
        let shown = format!("{script:?}").chars().take(60).collect::<String>();
        app.platform.outbound.script(STATUS_PAGE, script);
        app.tick();
        let read = page_of(&app);
        assert_eq!(read["state"], state, "{shown}: {read}");
        assert_eq!(read["fetched_at"], app.now().to_rfc3339(), "{shown}");
        if state == "failed" {
            assert_eq!(read["indicator"], "unknown", "{shown}");
            let said = read["reason"].as_str().unwrap();
            assert!(said.contains(reason), "{shown}: {said}");
        }
        assert_eq!(verdict(&app, "cursor_technical"), "up", "{shown}");
    }
}

#[test]
fn a_page_is_read_every_five_minutes_and_grows_stale_after_thirty() {
    let mut app = TestApp::new();
    app.all_partners(Script::Status(401, 120.0));
    app.platform.outbound.script(STATUS_PAGE, page("minor"));
    app.tick();
    // 12:00, then 12:05 and 12:10.
    for minute in 1..=12 {
        app.next_minute();
        assert_eq!(asked(&app, STATUS_PAGE), 1 + minute / 5, "at 12:{minute:02}");
    }
    let fetched_at = Timestamp::parse("2026-01-31T12:10:00Z").unwrap();
    for (age_ms, state, indicator) in [
        (30 * MINUTE_MS, "ok", "minor"),
        (30 * MINUTE_MS + 1, "stale", "unknown"),
        (DAY_MS, "stale", "unknown"),
    ] {
        set_clock(&mut app, 10 * MINUTE_MS + age_ms);
        let read = page_of(&app);
        assert_eq!((&read["state"], &read["indicator"]), (&json!(state), &json!(indicator)));
        assert_eq!(read["fetched_at"], fetched_at.to_rfc3339());
    }
    app.next_minute();
    assert_eq!(page_of(&app)["state"], "ok", "read again");
}

// ---- what clients push ----

#[test]
fn five_hundred_rows_are_taken_at_once_in_any_order() {
    let app = with_acme();
    let at = |n: i64| app.now().plus_ms(-n * MINUTE_MS);
    // 17 is prime to 500, so this is every one of them, out of order.
    let rows: Vec<Value> = (0..500)
        .map(|n| n * 17 % 500)
        .map(|n| row(at(n), if n == 0 { "down" } else { "up" }, Some(n as f64)))
        .collect();
    pushed(&app, "acme", &rows);
    let uptime = metric(&app, "acme", "uptime");
    assert_eq!((&uptime["n"], &uptime["value"]), (&json!(500), &json!(99.8)));
    assert_eq!(uptime["source"], "client");
    assert_eq!(uptime["observed_at"], app.now().to_rfc3339(), "the newest by its own time");
    // 500 of 1,440 minutes.
    assert_eq!(uptime["coverage"], 0.3472);
    assert_eq!(verdict(&app, "acme_search"), "degraded", "down once, a minute after up");
}

#[test]
fn a_minute_is_covered_by_what_says_something_of_the_partner() {
    let app = with_acme();
    let outcomes =
        ["up", "throttled", "down", "unreachable_from_us", "degraded", "unknown", "credential"];
    let rows: Vec<Value> = outcomes
        .iter()
        .zip(0..)
        .map(|(outcome, n)| row(now().plus_ms(-n * MINUTE_MS), outcome, None))
        .collect();
    pushed(&app, "acme", &rows);
    // Up, down and degraded: 3 of 1,440 minutes.
    assert_eq!(metric(&app, "acme", "uptime")["coverage"], 0.0021);
}

#[test]
fn the_order_in_which_rows_come_does_not_matter() {
    let outcomes = ["up", "down", "up", "degraded", "throttled", "up", "down"];
    let rows: Vec<Value> = outcomes
        .iter()
        .zip(0..)
        .map(|(outcome, n)| row(now().plus_ms(-n * 40 * MINUTE_MS), outcome, Some(10.0 * n as f64)))
        .collect();
    let known = |order: &[usize], batch: usize| {
        let app = with_acme();
        let rows: Vec<Value> = order.iter().map(|index| rows[*index].clone()).collect();
        for rows in rows.chunks(batch) {
            pushed(&app, "acme", rows);
        }
        let partnership = app.read(&api("/partnerships/acme/status"));
        (
            partnership["metrics"].clone(),
            partnership["verdict"].clone(),
            partnership["score"].clone(),
        )
    };
    let expected = known(&[0, 1, 2, 3, 4, 5, 6], 7);
    for (order, batch) in
        [([6, 5, 4, 3, 2, 1, 0], 7), ([3, 6, 0, 5, 1, 4, 2], 7), ([2, 4, 0, 6, 1, 5, 3], 1)]
    {
        assert_eq!(known(&order, batch), expected, "{order:?} in batches of {batch}");
    }
}

#[test]
fn equal_rows_are_different_calls() {
    let app = with_acme();
    let one = row(app.now(), "up", Some(5.0));
    pushed(&app, "acme", &[one.clone(), one.clone()]);
    pushed(&app, "acme", &[one]);
    assert_eq!(total(&app, "acme"), 3, "two calls may be alike; a repeated batch has its key");
}

#[test]
fn rows_are_taken_from_48_hours_ago_to_60_seconds_ahead() {
    for (offset_ms, taken) in [
        (-48 * HOUR_MS, true),
        (-48 * HOUR_MS - 1, false),
        (60 * SECOND_MS, true),
        (60 * SECOND_MS + 1, false),
    ] {
        let app = with_acme();
        let at = app.now().plus_ms(offset_ms);
        let reply = push(&app, "acme", &[row(at, "up", None)]).send().expect(202);
        assert_eq!(reply["accepted"], u64::from(taken), "{offset_ms}: {reply}");
        let info = app.read(&api("/info"));
        // The six of the tick, and this one.
        assert_eq!(info["statistics"]["observations_total"], 6 + u64::from(taken), "{offset_ms}");
    }
}

#[test]
fn good_rows_are_stored_and_bad_ones_named() {
    let app = with_acme();
    let (good, mut bad) = (row(app.now(), "up", Some(1.0)), row(app.now(), "up", Some(-1.0)));
    let reply =
        push(&app, "acme", &[bad.clone(), good.clone(), bad.clone(), good]).send().expect(202);
    assert_eq!(reply["accepted"], 2);
    let rows: Vec<u64> =
        reply["rejected"].as_array().unwrap().iter().map(|r| r["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [0, 2]);
    assert_eq!(total(&app, "acme"), 2);
    bad["source"] = json!("");
    let reply = push(&app, "acme", &[bad]).send().expect(202);
    assert_eq!((&reply["accepted"], total(&app, "acme")), (&json!(0), 2), "a batch of bad rows");
}

#[test]
fn probes_and_clients_are_told_apart() {
    let app = TestApp::seeded();
    assert_eq!(metric(&app, "cursor", "uptime")["source"], "probe");
    pushed(&app, "cursor", &[row(app.now(), "up", None)]);
    assert_eq!(metric(&app, "cursor", "uptime")["source"], "probe+client");
}

#[test]
fn latency_is_not_made_up_for_rows_without_it() {
    let app = with_acme();
    pushed(&app, "acme", &[row(app.now(), "up", None)]);
    assert_eq!(metric(&app, "acme", "uptime")["value"], 100.0);
    let latency = metric(&app, "acme", "response_time");
    assert_eq!(
        (&latency["value"], &latency["n"], &latency["state"]),
        (&Value::Null, &json!(0), &json!("no_data"))
    );
    pushed(&app, "acme", &[row(app.now(), "up", Some(0.0))]);
    assert_eq!(metric(&app, "acme", "response_time")["value"], 0.0, "0 ms is a measurement");
}

// ---- repeated batches ----

#[test]
fn a_repeated_batch_counts_once() {
    let app = with_acme();
    let rows = [row(app.now(), "up", Some(5.0)), row(app.now(), "up", Some(-5.0))];
    let keyed = |key: &str| push(&app, "acme", &rows).header("idempotency-key", key).send();
    let first = keyed("\"batch-1\"");
    assert_eq!(first.headers.get("idempotency-replayed"), None);
    for key in ["\"batch-1\"", "batch-1"] {
        let again = keyed(key);
        assert_eq!(again.headers["idempotency-replayed"], "true", "{key}");
        assert_eq!((again.status, &again.json), (202, &first.json), "{key}: as the first time");
    }
    assert_eq!(total(&app, "acme"), 1);
    keyed("\"batch-2\"").expect(202);
    assert_eq!(total(&app, "acme"), 2, "another key, another batch");
}

#[test]
fn a_key_with_another_body_is_refused() {
    let app = with_acme();
    let send = |latency_ms: f64| {
        let request = push(&app, "acme", &[row(app.now(), "up", Some(latency_ms))]);
        request.header("idempotency-key", "batch-1").send()
    };
    send(1.0).expect(202);
    let other = send(2.0);
    assert_eq!(other.problem(422), "idempotency_key_reused");
    assert_eq!(total(&app, "acme"), 1);
    send(1.0).expect(202);
}

#[test]
fn a_key_belongs_to_its_user_route_and_partnership() {
    let app = with_acme();
    let rows = [row(app.now(), "up", Some(5.0))];
    let keyed = |id: &str| push(&app, id, &rows).header("idempotency-key", "the-same");
    keyed("acme").send().expect(202);
    assert_eq!(keyed("grok").send().headers.get("idempotency-replayed"), None, "partnership");
    let path = api("/partnerships/acme/kpis/speed");
    let kpi = app.post(&path).bearer(&app.admin()).header("idempotency-key", "the-same");
    let kpi = kpi.json(json!({ "value": 1, "at": app.now() })).send();
    assert_eq!((kpi.status, kpi.headers.get("idempotency-replayed")), (202, None), "route");
    // Somebody else in the tenant, with a key that he cannot know to be taken.
    let keys = app.world.app.verifier.keys().unwrap();
    let grant =
        Grant { tenant_id: DEFAULT_TENANT_ID, user_id: "usr_somebody_else", role: Role::Ingest };
    let other = keyed("acme").bearer(&keys.sign(&grant, app.now(), &[2; 10])).send();
    assert_eq!((other.status, other.headers.get("idempotency-replayed")), (202, None), "user");
    assert_eq!(total(&app, "acme"), 2);
    assert_eq!(total(&app, "grok"), 2);
}

#[test]
fn a_key_is_kept_for_a_day() {
    let app = with_acme();
    // Old enough to be taken on both days.
    let rows = [row(app.now(), "up", Some(5.0))];
    let keyed = || push(&app, "acme", &rows).header("idempotency-key", "batch-1").send();
    keyed().expect(202);
    for (after_ms, replayed) in [(DAY_MS - 1, true), (DAY_MS, false)] {
        app.platform.clock.set_ms(now().plus_ms(after_ms).millis());
        let replay = keyed().headers.contains_key("idempotency-replayed");
        assert_eq!(replay, replayed, "after {after_ms} ms");
    }
}

#[test]
fn a_key_outlives_an_eviction() {
    let app = with_acme();
    let rows = [row(app.now(), "up", Some(5.0))];
    let keyed = || push(&app, "acme", &rows).header("idempotency-key", "batch-1").send();
    app.platform.objects.inject("{\"observe\":", Fault::LandedButErrored);
    assert_eq!(keyed().problem(503), "unavailable");
    app.platform.objects.evict_all();
    assert_eq!(keyed().headers["idempotency-replayed"], "true");
    assert_eq!(total(&app, "acme"), 1);
}

// ---- the window and its rollups ----

#[test]
fn the_window_is_24_hours_to_the_minute() {
    let mut app = with_acme();
    // At the end of a minute, of an hour, of a day, and at the beginnings.
    let pushed_at: Vec<Timestamp> = [
        "2026-01-31T11:59:59.999Z",
        "2026-01-31T12:00:00.000Z",
        "2026-01-31T12:00:59.999Z",
        "2026-01-31T11:00:00.000Z",
        "2026-01-31T10:59:59.999Z",
        "2026-01-31T00:00:00.000Z",
        "2026-01-30T23:59:59.999Z",
        "2026-01-30T12:00:00.000Z",
        "2026-01-30T11:59:59.999Z",
        "2026-01-29T12:00:00.000Z",
    ]
    .map(|at| Timestamp::parse(at).unwrap())
    .into();
    let rows: Vec<Value> = pushed_at.iter().map(|at| row(*at, "up", Some(10.0))).collect();
    pushed(&app, "acme", &rows);
    for (after_ms, expected) in [
        (0, 8),
        // 12:00:30: the window still begins at 12:00 of the day before.
        (30 * SECOND_MS, 8),
        (MINUTE_MS, 7),
        (11 * HOUR_MS + 59 * MINUTE_MS, 7),
        (12 * HOUR_MS - 1, 7),
        (12 * HOUR_MS, 6),
        (12 * HOUR_MS + MINUTE_MS, 5),
        (22 * HOUR_MS + 59 * MINUTE_MS, 5),
        (23 * HOUR_MS, 4),
        (23 * HOUR_MS + MINUTE_MS, 3),
        (23 * HOUR_MS + 59 * MINUTE_MS, 3),
        (24 * HOUR_MS, 2),
        (24 * HOUR_MS + 59_999, 2),
        (24 * HOUR_MS + MINUTE_MS, 0),
    ] {
        set_clock(&mut app, after_ms);
        app.tick();
        assert_eq!(total(&app, "acme"), expected, "after {after_ms} ms");
        let uptime = metric(&app, "acme", "uptime");
        assert_eq!(uptime["n"], expected, "after {after_ms} ms");
        if expected == 0 {
            assert_eq!((&uptime["value"], &uptime["state"]), (&Value::Null, &json!("no_data")));
        }
    }
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % end
    }
}

#[test]
fn the_window_holds_at_each_moment_what_a_count_of_the_rows_does() {
    let app = with_acme();
    let mut numbers = Numbers(7);
    let times: Vec<Timestamp> = (0..1_000)
        .map(|_| now().plus_ms(-i64::try_from(numbers.below(48 * 3_600_000)).unwrap()))
        .collect();
    for times in times.chunks(500) {
        let rows: Vec<Value> = times.iter().map(|at| row(*at, "up", None)).collect();
        pushed(&app, "acme", &rows);
    }
    for step in 0..40_i64 {
        // 37 minutes and a bit: every place within an hour comes up.
        app.platform.clock.set_ms(now().plus_ms(step * (37 * MINUTE_MS + 11_111)).millis());
        app.tick();
        let start = app.now().plus_ms(-DAY_MS).floor_to(MINUTE_MS);
        let within: Vec<&Timestamp> = times.iter().filter(|at| **at >= start).collect();
        assert_eq!(total(&app, "acme"), within.len() as u64, "at {}", app.now());
        let mut minutes: Vec<i64> = within.iter().map(|at| at.millis() / MINUTE_MS).collect();
        minutes.sort_unstable();
        minutes.dedup();
        let coverage = metric(&app, "acme", "uptime")["coverage"].as_f64().unwrap();
        assert!((coverage - minutes.len() as f64 / 1_440.0).abs() < 0.000_06, "at {}", app.now());
    }
}

#[test]
fn quantiles_are_within_a_hundredth_of_the_exact_ones() {
    let app = with_acme();
    let mut numbers = Numbers(42);
    // Ten thousand calls over 23 hours, most of them fast and a few very slow.
    let mut latencies = Vec::new();
    for _ in 0..20 {
        let rows: Vec<Value> = (0..500)
            .map(|_| {
                let uniform = (numbers.below(1_000_000) + 1) as f64 / 1_000_001.0;
                let latency_ms = 20.0 * uniform.powf(-0.7);
                latencies.push(latency_ms);
                let age_ms = i64::try_from(numbers.below(23 * 3_600_000)).unwrap();
                row(app.now().plus_ms(-age_ms), "up", Some(latency_ms))
            })
            .collect();
        pushed(&app, "acme", &rows);
    }
    latencies.sort_by(f64::total_cmp);
    for (name, q) in
        [("response_time", 0.50), ("response_time_p95", 0.95), ("response_time_p99", 0.99)]
    {
        let detail = metric(&app, "acme", name);
        let exact = latencies[((latencies.len() - 1) as f64 * q) as usize];
        let found = detail["value"].as_f64().unwrap();
        assert!((found - exact).abs() <= exact * 0.0101, "{name}: {found} for {exact}");
        assert_eq!(detail["n"], 10_000, "{name}");
        let ci = detail["ci95"].as_array().unwrap();
        let (low, high) = (ci[0].as_f64().unwrap(), ci[1].as_f64().unwrap());
        assert!(low <= found && found <= high, "{name}: {found} in {ci:?}");
        assert!(low >= exact * 0.8 && high <= exact * 1.25, "{name}: {ci:?} for {exact}");
    }
}

#[test]
fn percentiles_are_not_averaged() {
    let app = with_acme();
    // One fast minute with many calls, one slow minute with few.
    let fast = (0..99).map(|_| row(app.now(), "up", Some(10.0)));
    let slow = (0..1).map(|_| row(app.now().plus_ms(-2 * HOUR_MS), "up", Some(1_000.0)));
    pushed(&app, "acme", &fast.chain(slow).collect::<Vec<_>>());
    let value = |name| metric(&app, "acme", name)["value"].as_f64().unwrap();
    assert!((value("response_time_p95") - 10.0).abs() < 0.11, "{}", value("response_time_p95"));
}

// ---- retention and eviction ----

/// Code of the objects that lets a test look into their SQLite.
#[derive(Clone, Default)]
struct Opened(Rc<RefCell<Vec<ObjectStorage>>>);

struct Body(Rc<Object>);

impl ObjectBody for Body {
    fn handle(self: Rc<Self>, command: String) -> LocalBoxFuture<'static, Result<String, Error>> {
        Box::pin(Rc::clone(&self.0).handle(command))
    }

    fn alarm(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        Box::pin(Rc::clone(&self.0).alarm())
    }
}

impl Opened {
    /// From now on; whoever is called next shows its storage.
    fn of(app: &TestApp) -> Self {
        let opened = Self::default();
        let (keep, world) = (opened.clone(), app.platform.clone());
        app.platform.objects.install(Rc::new(move |binding: &str, storage: ObjectStorage| {
            keep.0.borrow_mut().push(storage.clone());
            let kind = OBJECTS.iter().find(|kind| kind.binding == binding);
            let kind = kind.ok_or_else(|| Error::new(ErrorKind::Misuse, "unknown binding"))?;
            let object = Object::new(kind.class, world.clone(), storage)?;
            Ok(Rc::new(Body(Rc::new(object))) as Rc<dyn ObjectBody>)
        }));
        app.platform.objects.evict_all();
        opened
    }

    /// A number out of the object of this partnership.
    fn number(&self, id: &str, sql: &str) -> i64 {
        let of_this = |storage: &&ObjectStorage| {
            let rows = storage.query("SELECT value FROM facts WHERE name = 'definition'", &[]);
            let rows = rows.unwrap_or_default();
            rows.first().is_some_and(|row| row.json::<Value>("value").unwrap()["id"] == id)
        };
        let storages = self.0.borrow();
        let storage = storages.iter().find(of_this).unwrap_or_else(|| panic!("{id} not opened"));
        storage.query(sql, &[]).unwrap()[0].get("n").unwrap()
    }
}

#[test]
fn what_is_past_its_retention_goes_and_days_stay() {
    let app = with_acme();
    let opened = Opened::of(&app);
    let first = row(app.now(), "up", Some(10.0));
    let second = row(app.now().plus_ms(MINUTE_MS), "up", Some(10.0));
    pushed(&app, "acme", &[first, second]);
    let count = |what: &str| {
        let sql = match what {
            "raw" => "SELECT COUNT(*) AS n FROM observations".to_owned(),
            grain => format!("SELECT COUNT(*) AS n FROM rollups WHERE grain = '{grain}'"),
        };
        opened.number("acme_search", &sql)
    };
    let counts = || ["raw", "minute", "hour", "day"].map(count);
    assert_eq!(counts(), [2, 2, 1, 1]);
    for (after_ms, expected) in [
        (48 * HOUR_MS, [2, 2, 1, 1]),
        (48 * HOUR_MS + 1, [1, 2, 1, 1]),
        (48 * HOUR_MS + MINUTE_MS + 1, [0, 2, 1, 1]),
        (14 * DAY_MS, [0, 2, 1, 1]),
        (14 * DAY_MS + 1, [0, 1, 1, 1]),
        (14 * DAY_MS + MINUTE_MS + 1, [0, 0, 1, 1]),
        (400 * DAY_MS, [0, 0, 1, 1]),
        (400 * DAY_MS + 1, [0, 0, 0, 1]),
        (4_000 * DAY_MS, [0, 0, 0, 1]),
    ] {
        app.platform.clock.set_ms(now().plus_ms(after_ms).millis());
        app.tick();
        assert_eq!(counts(), expected, "after {after_ms} ms");
    }
    // What is shown of it agrees.
    let statistics = app.read(&api("/info"))["statistics"].clone();
    let usage = app.read(&api("/status"))["resource_usage"].clone();
    assert_eq!(statistics["observations_total"], usage["observations_total"]);
    let ever = opened.number(
        "acme_search",
        "SELECT value + 0 AS n FROM facts WHERE name = 'observations_total'",
    );
    assert_eq!(ever, 2, "taken for ever");
    let kept = opened
        .number("acme_search", "SELECT value + 0 AS n FROM facts WHERE name = 'observations'");
    assert_eq!(kept, 0);
}

#[test]
fn kept_replies_go_after_their_day() {
    let app = with_acme();
    let opened = Opened::of(&app);
    let rows = [row(app.now(), "up", None)];
    push(&app, "acme", &rows).header("idempotency-key", "batch-1").send().expect(202);
    let kept = || opened.number("acme_search", "SELECT COUNT(*) AS n FROM idempotency");
    for (after_ms, expected) in [(DAY_MS - 1, 1), (DAY_MS, 0)] {
        app.platform.clock.set_ms(now().plus_ms(after_ms).millis());
        app.tick();
        assert_eq!(kept(), expected, "after {after_ms} ms");
    }
}

#[test]
fn the_rollups_of_a_row_are_those_of_its_own_time() {
    let app = with_acme();
    let opened = Opened::of(&app);
    // The last moment of a day, and the first of the next.
    for at in ["2026-01-30T23:59:59.999Z", "2026-01-31T00:00:00.000Z"] {
        pushed(&app, "acme", &[row(Timestamp::parse(at).unwrap(), "down", None)]);
    }
    for (grain, width_ms) in [("minute", MINUTE_MS), ("hour", HOUR_MS), ("day", DAY_MS)] {
        let midnight = Timestamp::parse("2026-01-31T00:00:00Z").unwrap().millis();
        for start in [midnight - width_ms, midnight] {
            let sql = format!(
                "SELECT SUM(conclusive) AS n FROM rollups WHERE grain = '{grain}' AND start = {start}"
            );
            assert_eq!(opened.number("acme_search", &sql), 1, "{grain} at {start}");
        }
        let sql = format!("SELECT COUNT(*) AS n FROM rollups WHERE grain = '{grain}'");
        assert_eq!(opened.number("acme_search", &sql), 2, "{grain}");
    }
}

#[test]
fn an_eviction_loses_nothing() {
    let app = with_acme();
    pushed(&app, "acme", &[row(app.now(), "up", Some(5.0)), row(app.now(), "down", None)]);
    send_kpi(&app, "acme", "speed", json!({ "value": 7, "at": app.now() })).expect(202);
    app.platform.outbound.script(STATUS_PAGE, page("minor"));
    app.platform.clock.advance_ms(5 * MINUTE_MS);
    app.tick();
    let before = app.stored();
    app.platform.objects.evict_all();
    assert_eq!(app.stored(), before);
    // And it goes on where it stopped, also when it happens all the time.
    app.platform.objects.evict_all();
    app.tick();
    app.platform.clock.advance_ms(1_000);
    assert_eq!(total(&app, "cursor"), 2, "the slot of this minute stays taken");
    for _ in 0..3 {
        app.platform.objects.evict_all();
        app.next_minute();
        app.platform.objects.evict_all();
        pushed(&app, "acme", &[row(app.now(), "up", Some(5.0))]);
    }
    assert_eq!(total(&app, "acme"), 5);
    assert_eq!(metric(&app, "acme", "speed")["value"], 7.0);
}

// ---- KPIs ----

#[test]
fn the_last_value_of_a_kpi_is_the_one_of_the_latest_instant() {
    let app = with_acme();
    let send = |value: f64, at: Timestamp| {
        send_kpi(&app, "acme", "speed", json!({ "value": value, "at": at })).expect(202);
        metric(&app, "acme", "speed")
    };
    let first = send(3.0, app.now().plus_ms(-HOUR_MS));
    assert_eq!((&first["value"], &first["n"]), (&json!(3.0), &json!(1)));
    assert_eq!(first["source"], app.user_id());
    assert_eq!(first["observed_at"], app.now().plus_ms(-HOUR_MS).to_rfc3339());
    assert_eq!((&first["window"], &first["state"]), (&json!("last"), &json!("ok")));
    assert_eq!(send(5.0, app.now())["value"], 5.0);
    let late = send(4.0, app.now().plus_ms(-2 * HOUR_MS));
    assert_eq!(
        (&late["value"], &late["n"]),
        (&json!(5.0), &json!(3)),
        "late news of an earlier hour"
    );
    let corrected = send(6.0, app.now());
    assert_eq!(
        (&corrected["value"], &corrected["n"]),
        (&json!(6.0), &json!(3)),
        "the same instant again"
    );
    assert_eq!(send(-1.5, app.now().plus_ms(30_000))["value"], -1.5);
}

#[test]
fn kpi_values_come_one_by_one_or_as_a_list() {
    let app = with_acme();
    let list = json!([
        { "value": 2, "at": app.now().plus_ms(-1_000) },
        { "value": 3, "at": app.now() },
        { "value": 1, "at": app.now().plus_ms(-2_000) },
    ]);
    assert_eq!(send_kpi(&app, "acme", "speed", list).expect(202), json!({ "accepted": 3 }));
    let detail = metric(&app, "acme", "speed");
    assert_eq!((&detail["value"], &detail["n"]), (&json!(3.0), &json!(3)));
    let one = json!({ "value": 4, "at": app.now().plus_ms(1) });
    assert_eq!(send_kpi(&app, "acme", "speed", one).expect(202), json!({ "accepted": 1 }));
    // One that is wrong, and none is stored.
    let list = json!([
        { "value": 9, "at": app.now().plus_ms(2) },
        { "value": 9, "at": app.now().plus_ms(61_000) },
        { "value": 2e15, "at": app.now() },
    ]);
    let refused = send_kpi(&app, "acme", "speed", list);
    assert_eq!(refused.problem(422), "validation_failed");
    assert_eq!(refused.pointers(), ["#/1/at", "#/2/value"]);
    let detail = metric(&app, "acme", "speed");
    assert_eq!((&detail["value"], &detail["n"]), (&json!(4.0), &json!(4)));
}

#[test]
fn an_unknown_kpi_is_not_found_and_the_known_ones_are_named() {
    let app = with_acme();
    let value = json!({ "value": 1, "at": app.now() });
    for name in ["security_score", "uptime", "speed_", "x"] {
        let reply = send_kpi(&app, "acme", name, value.clone());
        assert_eq!(reply.problem(404), "not_found", "{name}");
        assert!(reply.json["detail"].as_str().unwrap().contains("speed"), "{name}");
    }
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM activity WHERE event = 'kpi.recorded'"), 0);
}

#[test]
fn a_kpi_value_is_stale_after_35_days() {
    let mut app = with_acme();
    send_kpi(&app, "acme", "speed", json!({ "value": 10, "at": app.now() })).expect(202);
    for (after_ms, state, coverage) in [(35 * DAY_MS, "ok", 0.5), (35 * DAY_MS + 1, "stale", 0.0)] {
        set_clock(&mut app, after_ms);
        app.tick();
        let detail = metric(&app, "acme", "speed");
        assert_eq!((&detail["state"], &detail["value"]), (&json!(state), &json!(10.0)));
        let partnership = app.read(&api("/partnerships/acme/status"));
        // Reliability and KPIs weigh the same here; there are no deliverables.
        assert_eq!(partnership["coverage"], coverage, "{state}");
        assert_eq!(partnership["score"].is_null(), coverage < 0.3, "{state}");
    }
}

// ---- scores ----

#[test]
fn a_score_is_the_sum_of_its_terms() {
    let app = TestApp::seeded();
    send_kpi(&app, "cursor", "security_score", json!({ "value": 50, "at": app.now() })).expect(202);
    send_kpi(&app, "cursor", "api_response_time", json!({ "value": 400, "at": app.now() }))
        .expect(202);
    let half = json!({ "completion_percentage": 60, "status": "in_progress" });
    let path = api("/partnerships/cursor/deliverables/mobile_first_platform");
    app.put(&path).bearer(&app.admin()).json(half).send().expect(200);
    let cursor = app.read(&api("/partnerships/cursor/status"));
    let terms = cursor["terms"].as_array().unwrap();
    let shown: Vec<(&str, f64, Option<f64>, Option<f64>)> = terms
        .iter()
        .map(|term| {
            let number = |field: &str| term[field].as_f64();
            (
                term["name"].as_str().unwrap(),
                number("weight").unwrap(),
                number("attainment"),
                number("points"),
            )
        })
        .collect();
    // 80 of 100 weights have data; each point is 100 · w · a / 80.
    assert_eq!(
        shown,
        [
            ("availability", 40.0, Some(1.0), Some(50.0)),
            ("kpi:api_response_time", 10.0, Some(0.25), Some(3.125)),
            ("kpi:development_velocity", 10.0, None, None),
            ("kpi:security_score", 10.0, Some(0.5), Some(6.25)),
            ("kpi:system_uptime", 10.0, None, None),
            ("deliverables", 20.0, Some(0.6), Some(15.0)),
        ]
    );
    // 40 · 1 + 10 · 0.25 + 10 · 0.5 + 20 · 0.6 = 59.5, of 80.
    assert_eq!((&cursor["score"], &cursor["coverage"]), (&json!(74.375), &json!(0.8)));
    assert_eq!(cursor["health"], "fair");
    assert_eq!(health(&app, "cursor_technical")["score"], 74.375, "/health says the same");
}

#[test]
fn thin_coverage_gives_no_score() {
    // Four KPIs of 10 each, deliverables of 20, reliability of 40.
    for (kpis, deliverable, coverage, score) in [
        (0, false, 0.0, None),
        (1, false, 0.1, None),
        (2, false, 0.2, None),
        (0, true, 0.2, None),
        (3, false, 0.3, Some(100.0)),
        (1, true, 0.3, Some(100.0)),
    ] {
        let app = TestApp::seeded();
        // Fresh news only: what the tick saw is old.
        app.platform.clock.advance_ms(16 * MINUTE_MS);
        for name in ["development_velocity", "system_uptime", "security_score"].iter().take(kpis) {
            send_kpi(&app, "cursor", name, json!({ "value": 1_000, "at": app.now() })).expect(202);
        }
        if deliverable {
            let done = json!({ "completion_percentage": 100, "status": "completed" });
            let path = api("/partnerships/cursor/deliverables/mobile_first_platform");
            app.put(&path).bearer(&app.admin()).json(done).send().expect(200);
        }
        let cursor = health(&app, "cursor_technical");
        let place = format!("{kpis} KPIs, deliverable: {deliverable}");
        assert_eq!(cursor["coverage"], coverage, "{place}");
        assert_eq!(cursor["score"].as_f64(), score, "{place}");
        assert_eq!(cursor["health"] == "unknown", score.is_none(), "{place}");
    }
}

#[test]
fn bands_and_the_state_of_the_system_follow_the_scores() {
    // Uptime in percent of 1,000 calls: (uptime − 95) / (99.9 − 95).
    for (bad, band, system) in [
        (0, "excellent", "healthy"),
        (5, "excellent", "healthy"),
        (6, "good", "healthy"),
        (8, "good", "healthy"),
        (9, "good", "degraded"),
        (13, "good", "degraded"),
        (14, "fair", "degraded"),
        (15, "fair", "degraded"),
        (16, "fair", "critical"),
        (20, "fair", "critical"),
        (21, "poor", "critical"),
        (50, "poor", "critical"),
    ] {
        let app = TestApp::new();
        let admin = app.admin();
        app.post("/api/v1/auth/login")
            .json(json!({ "username": ADMIN_USERNAME, "password": ADMIN_PASSWORD }))
            .send()
            .expect(200);
        for half in 0..2 {
            let rows: Vec<Value> = (0..500)
                .map(|n| 500 * half + n)
                .map(|n| {
                    // The failures first, so that the newest ones are good.
                    let at = app.now().plus_ms((n - 1_000) * SECOND_MS);
                    row(at, if n < bad { "down" } else { "up" }, None)
                })
                .collect();
            push(&app, "cursor", &rows).bearer(&admin).send().expect(202);
        }
        let health = app.read(&api("/health"));
        let cursor = &health["partnerships"]["cursor_technical"];
        assert_eq!(cursor["health"], band, "{bad} bad: {}", cursor["score"]);
        assert_eq!(health["status"], system, "{bad} bad: {}", cursor["score"]);
    }
}

#[test]
fn a_latency_target_takes_its_share_of_reliability() {
    let app = TestApp::seeded();
    let target = json!({ "latency_target_ms": 60 });
    app.patch(&api("/partnerships/cursor")).bearer(&app.admin()).json(target).send().expect(200);
    let cursor = app.read(&api("/partnerships/cursor/status"));
    let latency =
        cursor["terms"].as_array().unwrap().iter().find(|t| t["name"] == "latency").unwrap();
    // p95 is 120 ms: half of it is attained.
    assert_eq!((&latency["weight"], &latency["attainment"]), (&json!(10.0), &json!(0.5)));
    // (30 · 1 + 10 · 0.5) / 40.
    assert_eq!(cursor["score"], 87.5);
    assert_eq!(metric(&app, "cursor", "response_time_p95")["target"], 60.0);
}

// ---- the board ----

fn snapshot(app: &TestApp) -> board::Snapshot {
    block_on(board::snapshot(&app.platform, DEFAULT_TENANT_ID)).unwrap()
}

fn on_board(app: &TestApp, id: &str) -> Option<Summary> {
    snapshot(app).summaries.into_iter().find(|summary| summary.definition.id == id)
}

fn publish(app: &TestApp, summary: &Summary) {
    block_on(board::publish(&app.platform, DEFAULT_TENANT_ID, summary)).unwrap();
}

#[test]
fn late_news_do_not_overwrite_newer_ones() {
    let app = with_acme();
    let old = on_board(&app, "acme_search").unwrap();
    app.platform.clock.advance_ms(1);
    pushed(&app, "acme", &[row(app.now(), "up", None)]);
    let new = on_board(&app, "acme_search").unwrap();
    assert!(new.computed_at > old.computed_at);
    publish(&app, &old);
    assert_eq!(on_board(&app, "acme_search"), Some(new.clone()), "an older summary");
    // An older revision of the definition, however late it was computed.
    let change = json!({ "name": "Finding" });
    app.patch(&api("/partnerships/acme")).bearer(&app.admin()).json(change).send().expect(200);
    let changed = on_board(&app, "acme_search").unwrap();
    let late = Summary { computed_at: changed.computed_at.plus_ms(HOUR_MS), ..new };
    publish(&app, &late);
    assert_eq!(on_board(&app, "acme_search"), Some(changed.clone()), "an older revision");
    // And of the same revision the later one is kept.
    let later = Summary { computed_at: changed.computed_at.plus_ms(1), ..changed };
    publish(&app, &later);
    assert_eq!(on_board(&app, "acme_search"), Some(later));
}

#[test]
fn late_news_do_not_bring_a_retired_partnership_back() {
    for lost in [false, true] {
        let app = with_acme();
        let known = on_board(&app, "acme_search").unwrap();
        if lost {
            app.platform.objects.inject("{\"remove\":", Fault::Lost);
        }
        app.delete(&api("/partnerships/acme")).bearer(&app.admin()).send().expect(204);
        assert_eq!(on_board(&app, "acme_search").is_some(), lost);
        // The tick makes up for what was lost.
        app.next_minute();
        assert_eq!(on_board(&app, "acme_search"), None, "lost: {lost}");
        for late_ms in [0, HOUR_MS] {
            let late = Summary { computed_at: app.now().plus_ms(late_ms), ..known.clone() };
            publish(&app, &late);
            assert_eq!(on_board(&app, "acme_search"), None, "lost: {lost}, {late_ms} ms");
        }
        app.next_minute();
        assert_eq!(on_board(&app, "acme_search"), None, "lost: {lost}");
    }
}

#[test]
fn a_board_that_lost_everything_is_filled_by_the_tick() {
    let app = TestApp::seeded();
    for summary in snapshot(&app).summaries {
        let id = summary.definition.id;
        // As if it had never been told.
        let keep = board::keep(&app.platform, "ten_elsewhere", vec![id], app.now(), None);
        block_on(keep).unwrap();
    }
    app.platform.objects.evict_all();
    app.next_minute();
    assert_eq!(snapshot(&app).summaries.len(), 6);
}

#[test]
fn a_definition_changed_in_d1_alone_arrives_with_the_tick() {
    let app = TestApp::seeded();
    let mut known = block_on(registry::find(&app.platform.database, DEFAULT_TENANT_ID, "cursor"))
        .unwrap()
        .unwrap();
    known.revision += 1;
    known.name = "Changed behind its back".to_owned();
    let statements = registry::replace(DEFAULT_TENANT_ID, &known).unwrap();
    block_on(app.platform.database.batch(statements)).unwrap();
    app.next_minute();
    assert_eq!(on_board(&app, "cursor_technical").unwrap().definition, known);
    // An older one that comes late does not undo it.
    let old = Definition { revision: 1, name: "Old".to_owned(), ..known.clone() };
    block_on(partnership::define(&app.platform, DEFAULT_TENANT_ID, old)).unwrap();
    assert_eq!(on_board(&app, "cursor_technical").unwrap().definition, known);
    // The object itself still goes by the newer one, or this would not be shown.
    pushed(&app, "cursor", &[row(app.now(), "up", None)]);
    assert_eq!(total(&app, "cursor"), 3);
}

#[test]
fn two_tenants_measure_for_themselves() {
    let app = TestApp::seeded();
    app.add_other_tenant();
    let stranger = app.token_of(OTHER_TENANT, Role::Admin);
    let theirs = |path: &str| app.get(&api(path)).bearer(&stranger).send().expect(200);
    let before = theirs("/metrics/cursor");
    pushed(&app, "cursor", &[row(app.now(), "down", None)]);
    send_kpi(&app, "cursor", "security_score", json!({ "value": 1, "at": app.now() })).expect(202);
    app.platform.clock.advance_ms(1_000);
    assert_eq!(theirs("/metrics/cursor"), before);
    assert_eq!(metric(&app, "cursor", "uptime")["value"], 50.0);
    assert_eq!(theirs("/info")["statistics"]["observations_total"], 6);
    let public = app.get(&api("/health")).send().expect(200);
    assert_eq!(public["partnerships"]["cursor_technical"]["health"], "poor", "the default tenant");
    // Each tenant's probes are its own too.
    assert_eq!(asked(&app, CURSOR_PROBE), 2);
}

#[test]
fn a_withdrawn_token_stops_at_once_here_and_within_a_second_elsewhere() {
    for (what, change) in
        [("disabled", json!({ "disabled": true })), ("role", json!({ "role": "viewer" }))]
    {
        let app = TestApp::seeded();
        app.add_own_user(Role::SystemAdmin);
        let token = app.token(Role::SystemAdmin);
        // Another isolate over the same world, with a board of its own.
        let elsewhere = App::new(app.platform.clone(), ROUTES);
        let ask = |app: &TestApp| {
            let request = app.get(&api("/metrics")).bearer(&token).request;
            block_on(elsewhere.handle(request)).status.as_u16()
        };
        app.get(&api("/metrics")).bearer(&token).send().expect(200);
        assert_eq!(ask(&app), 200, "{what}");
        app.platform.clock.advance_ms(100);
        let admin = {
            let keys = app.world.app.verifier.keys().unwrap();
            let grant =
                Grant { tenant_id: DEFAULT_TENANT_ID, user_id: "usr_an_admin", role: Role::Admin };
            keys.sign(&grant, app.now(), &[4; 10])
        };
        let path = format!("/api/v1/auth/users/{}", app.user_id());
        app.patch(&path).bearer(&admin).json(change.clone()).send().expect(200);
        let refused = app.get(&api("/metrics")).bearer(&token).send();
        assert_eq!(refused.problem(401), "invalid_token", "{what}");
        app.platform.clock.advance_ms(1_000);
        assert_eq!(ask(&app), 401, "{what}, elsewhere");
        // The board forgets the withdrawal when no such token can live.
        app.platform.clock.advance_ms(17 * MINUTE_MS);
        assert_eq!(ask(&app), 401, "{what}: expired by now");
    }
}

// ---- the wire between the Worker and its objects ----

fn definition_json() -> Value {
    json!({
        "id": "acme_search", "name": "Search", "partner": "Acme", "aliases": ["acme"],
        "status_page_url": "https://status.acme-partner.com/api/v2/summary.json",
        "targets": {
            "availability_percent": 99.9, "availability_floor_percent": 95.0,
            "latency_ms": 250.0, "degraded_counts_as_bad": false,
        },
        "probes": [{
            "key": "api", "url": "https://api.acme-partner.com/", "interval_s": 60,
            "deadline_ms": 10_000, "degraded_above_ms": 500.0, "enabled": true,
        }],
        "kpis": [{
            "name": "speed", "target": 10.0, "unit": "x", "direction": "higher", "weight": 1.0,
        }],
        "deliverables": [{
            "key": "crawler", "completion_percentage": 50.0, "status": "in_progress",
            "due_date": "2026-03-31", "weight": 1.0, "completed_at": null,
            "updated_at": "2026-01-31T12:00:00.000Z", "updated_by": "usr_1",
        }],
        "slos": [{
            "key": "availability", "kind": "availability", "target_percent": 99.9,
            "threshold_ms": null, "period_days": 30,
        }],
        "maintenance": [{
            "id": "mwn_1", "name": "Patch night",
            "schedule": { "weekly": {
                "days": ["sunday"], "start": "02:30", "minutes": 90, "time_zone": "Europe/Berlin",
            } },
            "created_at": "2026-01-31T12:00:00.000Z", "created_by": "usr_1",
        }],
        "settings": {
            "weights": { "reliability": 40.0, "kpis": 40.0, "deliverables": 20.0 },
            "min_coverage": 0.3, "observation_stale_after_ms": 900_000,
            "kpi_stale_after_ms": 3_024_000_000_i64, "status_page_stale_after_ms": 1_800_000,
            "alerting": policy_json(),
        },
        "revision": 3, "created_at": "2026-01-31T12:00:00.000Z",
        "updated_at": "2026-01-31T12:00:00.000Z",
    })
}

fn policy_json() -> Value {
    json!({
        "min_bad_samples": 3, "failures_to_open": 1, "recoveries_to_resolve": 3,
        "flap_changes": 6, "flap_window_minutes": 60, "data_absent_minutes": 5,
        "kpi_below_percent": 10.0, "kpi_deadband_percent": 2.0, "status_page_minutes": 10,
    })
}

fn alert_json() -> Value {
    json!({
        "family": "slo_fast_burn", "subject": "availability", "severity": "critical",
        "title": "Search: availability burns its budget fast", "detail": "3 of 60 bad",
        "opened_at": "2026-01-31T12:00:00.000Z", "began_at": "2026-01-31T11:58:00.000Z",
        "flapping": false,
    })
}

fn assessment_json() -> Value {
    json!({
        "evaluated_at": "2026-01-31T12:00:00.000Z",
        "slos": [{
            "key": "availability", "kind": "availability", "target_percent": 99.9,
            "threshold_ms": null, "period_days": 30, "good": 5, "bad": 1,
            "actual_percent": 83.3333, "raw_percent": 83.3333, "bad_in_maintenance": 0,
            "budget": 0.001, "budget_remaining": -165.6667,
            "burn": {
                "5m": 166.6667, "30m": 166.6667, "1h": 166.6667, "2h": 166.6667,
                "6h": 166.6667, "1d": 166.6667, "3d": null,
            },
            "exhausted_in_s": 0, "burning": "fast",
        }],
        "alerts": [alert_json()],
        "admission": { "outages": 1, "admitted": 1, "last_lag_s": 420, "median_lag_s": 420.0 },
        "maintenance_until": null,
    })
}

fn digest_json() -> Value {
    json!({
        "computed_at": "2026-01-31T12:00:00.000Z",
        "open": [{
            "id": "inc_1", "partnership": "acme_search", "rule": "slo_fast_burn",
            "severity": "critical", "title": "Search: availability burns its budget fast",
            "opened_at": "2026-01-31T12:00:00.000Z", "acknowledged": false, "flapping": false,
        }],
        "opened_total": { "slo_fast_burn": 1 },
        "channels": { "chn_1": {
            "delivered": 3, "failed_attempts": 1, "waiting": 0, "oldest_waiting_at": null,
            "last_delivered_at": "2026-01-31T12:00:00.000Z", "last_failed_at": null,
            "disabled_at": null,
        } },
        "last_page": {
            "incident_id": "inc_1", "began_at": "2026-01-31T11:58:00.000Z",
            "opened_at": "2026-01-31T12:00:00.000Z", "told_at": "2026-01-31T12:00:01.000Z",
        },
    })
}

/// Every message of the object of incidents.
fn incident_messages() -> Vec<(&'static str, Value)> {
    vec![
        (
            "report",
            json!({ "report": { "tenant_id": "ten_a", "report": {
                "source": "acme_search", "evaluated_at": "2026-01-31T12:00:00.000Z",
                "alerts": [alert_json()], "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            } } }),
        ),
        (
            "tick",
            json!({ "tick": {
                "tenant_id": "ten_a", "as_of": "2026-01-31T12:00:00.000Z",
                "partnerships": ["acme_search"],
                "service": [{ "family": "backup_old", "alert": null }],
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            } }),
        ),
        ("journal_written", json!({ "journal_written": { "upto": 7 } })),
        (
            "list",
            json!({ "list": {
                "is_open": true, "partnership": null,
                "before": ["2026-01-31T12:00:00.000Z", "inc_1"], "limit": 51,
            } }),
        ),
        ("get", json!({ "get": { "id": "inc_1" } })),
        (
            "act",
            json!({ "act": {
                "id": "inc_1", "action": { "note": "seen" }, "actor": "usr_1",
                "idempotency": { "key": "k", "payload_hash": "h" },
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            } }),
        ),
        ("ping", json!("ping")),
    ]
}

fn summary_json() -> Value {
    let quantile = json!({ "value_ms": 10.0, "ci95_ms": [9.0, 11.0] });
    json!({
        "definition": definition_json(),
        "computed_at": "2026-01-31T12:00:00.000Z", "window_start": "2026-01-30T12:00:00.000Z",
        "counts": {
            "up": 5, "degraded": 0, "down": 1, "throttled": 0, "quota_exhausted": 0,
            "credential": 0, "unreachable_from_us": 0, "probe_invalid": 0, "unknown": 0,
        },
        "counts_in_maintenance": {
            "up": 1, "degraded": 0, "down": 0, "throttled": 0, "quota_exhausted": 0,
            "credential": 0, "unreachable_from_us": 0, "probe_invalid": 0, "unknown": 0,
        },
        "from_probes": 4, "from_clients": 2, "covered_minutes": 6,
        "first_in_window": "2026-01-31T11:00:00.000Z",
        "latency": { "n": 5, "p50": quantile, "p95": quantile, "p99": quantile },
        "latency_ever": { "counts": [3, 1, 1, 0, 0, 0, 0, 0, 0, 0], "sum_ms": 217.5 },
        "newest": [["2026-01-31T12:00:00.000Z", "up"], ["2026-01-31T11:59:00.000Z", "down"]],
        "kpis": {
            "speed": { "value": 7.0, "at": "2026-01-31T12:00:00.000Z", "author": "usr_1", "n": 1 },
        },
        "status_page": {
            "indicator": "none", "description": null, "page_updated_at": null,
            "components_affected": 0, "open_incidents": null, "state": "ok", "reason": null,
            "fetched_at": "2026-01-31T12:00:00.000Z",
        },
        "assessment": assessment_json(),
        "stored": { "observations": 6, "observations_total": 9, "bytes": 4096 },
    })
}

/// Every message, as it is written.
fn messages() -> Vec<(&'static str, Value)> {
    vec![
        ("define", json!({ "define": { "tenant_id": "ten_a", "definition": definition_json() } })),
        (
            "tick",
            json!({ "tick": {
                "tenant_id": "ten_a", "definition": definition_json(),
                "scheduled_at": "2026-01-31T12:00:00.000Z",
                "control_targets": ["https://example.com/"],
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            } }),
        ),
        (
            "observe",
            json!({ "observe": {
                "rows": [{
                    "at": "2026-01-31T12:00:00.000Z", "verdict": "up", "latency_ms": 12.5,
                    "origin": "client", "source": "gateway",
                }],
                "reply": { "accepted": 1 },
                "idempotency": { "key": "k", "payload_hash": "h" },
            } }),
        ),
        (
            "record_kpi",
            json!({ "record_kpi": {
                "name": "speed", "author": "usr_1",
                "values": [{ "at": "2026-01-31T12:00:00.000Z", "value": 7.0 }],
                "reply": { "accepted": 1 },
                "idempotency": { "key": "k", "payload_hash": "h" },
            } }),
        ),
        (
            "simulate",
            json!({ "simulate": {
                "policy": policy_json(), "slos": null,
                "from": "2026-01-30T12:00:00.000Z", "until": "2026-01-31T12:00:00.000Z",
            } }),
        ),
        ("ping", json!("ping")),
    ]
}

fn board_messages() -> Vec<(&'static str, Value)> {
    vec![
        (
            "publish",
            json!({ "publish": {
                "id": "acme_search", "revision": 3, "computed_at": "2026-01-31T12:00:00.000Z",
                "summary": summary_json(),
            } }),
        ),
        ("remove", json!({ "remove": { "id": "acme_search", "revision": 4 } })),
        (
            "keep",
            json!({ "keep": {
                "ids": ["a"], "as_of": "2026-01-31T12:00:00.000Z",
                "limits": { "version": 2, "limits": limits_json() },
            } }),
        ),
        ("set_limits", json!({ "set_limits": { "version": 2, "limits": limits_json() } })),
        ("publish_incidents", json!({ "publish_incidents": digest_json() })),
        ("count", json!({ "count": { "name": "rate_limit_unenforced", "by": 3 } })),
        (
            "job_ran",
            json!({ "job_ran": {
                "job": "tick", "started_at": "2026-01-31T12:00:00.000Z", "succeeded": true,
            } }),
        ),
        (
            "revoke_tokens",
            json!({ "revoke_tokens": {
                "user_id": "usr_1", "issued_before": "2026-01-31T12:00:00.000Z",
                "now": "2026-01-31T12:00:00.000Z",
            } }),
        ),
        ("snapshot", json!("snapshot")),
        ("ping", json!("ping")),
    ]
}

fn limits_json() -> Value {
    json!({
        "default": 100, "metrics": 100, "decisions": 30, "ingest": 600, "documents": 300,
        "daily_tenant": 100_000, "daily_key": 100_000,
    })
}

/// What the two kinds of objects make of a message.
fn unread(message: &Value, of_board: bool) -> Option<serde_json::Error> {
    let text = message.to_string();
    if of_board {
        serde_json::from_str::<board::Command>(&text).err()
    } else {
        serde_json::from_str::<partnership::Command>(&text).err()
    }
}

fn all_messages() -> impl Iterator<Item = (&'static str, Value, bool)> {
    let objects = messages().into_iter().map(|(name, message)| (name, message, false));
    let boards = board_messages().into_iter().map(|(name, message)| (name, message, true));
    objects.chain(boards)
}

#[test]
fn the_wire_form_of_every_command_is_pinned() {
    for (name, message) in messages() {
        let read: partnership::Command = serde_json::from_str(&message.to_string())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(serde_json::to_value(read).unwrap(), message, "{name}");
    }
    for (name, message) in board_messages() {
        let read: board::Command = serde_json::from_str(&message.to_string())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(serde_json::to_value(read).unwrap(), message, "{name}");
    }
    for (name, message) in incident_messages() {
        let read: incident::Command = serde_json::from_str(&message.to_string())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(serde_json::to_value(read).unwrap(), message, "{name}");
    }
    let summary: Summary = serde_json::from_value(summary_json()).unwrap();
    assert_eq!(serde_json::to_value(summary).unwrap(), summary_json());
    // Letter by letter, where it is short enough to read.
    let at = now();
    let observe = partnership::Command::Observe {
        rows: vec![Observation {
            at,
            verdict: Verdict::QuotaExhausted,
            latency_ms: None,
            origin: Origin::Probe,
            source: "api".to_owned(),
        }],
        reply: json!({ "accepted": 1 }),
        idempotency: None,
    };
    let record = partnership::Command::RecordKpi {
        name: "speed".to_owned(),
        author: "usr_1".to_owned(),
        values: vec![KpiPoint { at, value: 7.5 }],
        reply: json!({}),
        idempotency: Some(Idempotency { key: "k".to_owned(), payload_hash: "h".to_owned() }),
    };
    for (command, text) in [
        (
            observe,
            r#"{"observe":{"rows":[{"at":"2026-01-31T12:00:00.000Z","verdict":"quota_exhausted","latency_ms":null,"origin":"probe","source":"api"}],"reply":{"accepted":1},"idempotency":null}}"#,
        ),
        (
            record,
            r#"{"record_kpi":{"name":"speed","author":"usr_1","values":[{"at":"2026-01-31T12:00:00.000Z","value":7.5}],"reply":{},"idempotency":{"key":"k","payload_hash":"h"}}}"#,
        ),
        (partnership::Command::Ping, r#""ping""#),
    ] {
        assert_eq!(serde_json::to_string(&command).unwrap(), text);
    }
}

#[test]
fn the_wire_form_of_every_reply_is_pinned() {
    use partnership::Reply;
    let stored = Stored { observations: 1, observations_total: 2, bytes: 3 };
    for (reply, text) in [
        (Reply::Done, r#""done""#),
        (
            Reply::Stored {
                value: json!({ "accepted": 1 }),
                replayed: true,
                stored_at: Some(Timestamp::parse("2026-01-31T12:00:00Z").unwrap()),
            },
            r#"{"stored":{"value":{"accepted":1},"replayed":true,"stored_at":"2026-01-31T12:00:00.000Z"}}"#,
        ),
        (Reply::KeyReused, r#""key_reused""#),
        (Reply::Undefined, r#""undefined""#),
        (Reply::Ticked { probes_run: 4 }, r#"{"ticked":{"probes_run":4}}"#),
        (
            Reply::Pong { stored },
            r#"{"pong":{"stored":{"observations":1,"observations_total":2,"bytes":3}}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert!(serde_json::from_str::<Reply>(text).is_ok(), "{text}");
    }
    // As the version before wrote it.
    let earlier = r#"{"stored":{"value":{"accepted":1},"replayed":true}}"#;
    assert!(serde_json::from_str::<Reply>(earlier).is_ok());
    assert_eq!(serde_json::to_string(&board::Done {}).unwrap(), "{}");
    let snapshot = json!({
        "summaries": [summary_json()],
        "revoked": [{ "user_id": "usr_1", "issued_before": "2026-01-31T12:00:00.000Z" }],
        "limits": limits_json(),
        "counters": { "rate_limit_unenforced": 3 },
        "incidents": digest_json(),
        "jobs": { "tick": {
            "last_run_at": "2026-01-31T12:00:00.000Z",
            "last_success_at": "2026-01-31T11:59:00.000Z", "succeeded": 59, "failed": 1,
        } },
    });
    let read: board::Snapshot = serde_json::from_value(snapshot.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), snapshot);
    // As the version before wrote it.
    let earlier = r#"{"summaries":[],"revoked":[]}"#;
    let read: board::Snapshot = serde_json::from_str(earlier).unwrap();
    assert!(read.limits.is_none() && read.counters.is_empty() && read.jobs.is_empty());
}

/// Every message without one of its fields that may be missing.
#[test]
fn messages_without_their_optional_fields_still_read() {
    let without = |mut message: Value, place: &str| {
        let (parent, field) = place.rsplit_once('/').unwrap();
        let parent = message.pointer_mut(parent).unwrap_or_else(|| panic!("{place}"));
        parent.as_object_mut().unwrap().remove(field).unwrap_or_else(|| panic!("{place}"));
        message
    };
    for place in [
        "/observe/idempotency",
        "/observe/rows/0/latency_ms",
        "/record_kpi/idempotency",
        "/define/definition/status_page_url",
        "/define/definition/targets/latency_ms",
        "/define/definition/probes/0/degraded_above_ms",
        "/define/definition/deliverables/0/completion_percentage",
        "/define/definition/deliverables/0/due_date",
        "/define/definition/settings/weights",
        "/define/definition/settings/min_coverage",
        "/define/definition/settings/observation_stale_after_ms",
        "/define/definition/settings/kpi_stale_after_ms",
        "/define/definition/settings/status_page_stale_after_ms",
        "/tick/definition/settings/weights/kpis",
        "/tick/trace_id",
        "/define/definition/slos",
        "/define/definition/maintenance",
        "/define/definition/settings/alerting",
        "/define/definition/settings/alerting/min_bad_samples",
    ] {
        let wanted = place.split('/').nth(1).unwrap();
        let (_, message) = messages().into_iter().find(|(name, _)| *name == wanted).unwrap();
        let error = unread(&without(message, place), false);
        assert!(error.is_none(), "without {place}: {error:?}");
    }
    for place in [
        "/first_in_window",
        "/latency",
        "/latency/p99/ci95_ms",
        "/counts/probe_invalid",
        "/counts/unreachable_from_us",
        "/status_page/description",
        "/status_page/open_incidents",
        "/definition/settings/min_coverage",
        "/assessment",
        "/assessment/alerts",
        "/counts_in_maintenance",
        "/latency_ever",
    ] {
        let read = serde_json::from_value::<Summary>(without(summary_json(), place));
        assert!(read.is_ok(), "a summary without {place}: {:?}", read.err());
    }
}

/// The place of every object in a document.
fn objects_in(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.push(at.to_owned());
            for (name, value) in fields {
                objects_in(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                objects_in(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// While a deploy is under way the code on either side may be the newer one.
#[test]
fn messages_with_a_field_of_the_next_version_still_read() {
    let mut refused = Vec::new();
    let summary = json!({ "summaries": [summary_json()], "revoked": [] });
    let reads_snapshot =
        |value: &Value| serde_json::from_str::<board::Snapshot>(&value.to_string()).err();
    let mut each =
        |name: &str, message: &Value, read: &dyn Fn(&Value) -> Option<serde_json::Error>| {
            let mut places = Vec::new();
            objects_in(message, "", &mut places);
            for place in places {
                // The name of the command, and dictionaries: no place for a field.
                // An enum is a name with its fields: another field is another name.
                if place.is_empty()
                    || place.ends_with("/schedule")
                    || ["/kpis", "/reply", "/opened_total", "/channels"]
                        .iter()
                        .any(|end| place.ends_with(end))
                {
                    continue;
                }
                let mut newer = message.clone();
                newer.pointer_mut(&place).unwrap()["of_the_next_version"] = json!(1);
                refused.extend(read(&newer).map(|error| format!("{name} {place}: {error}")));
            }
        };
    for (name, message, of_board) in all_messages() {
        each(name, &message, &|message| unread(message, of_board));
    }
    each("snapshot", &summary, &reads_snapshot);
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn an_unreadable_message_is_refused_and_changes_nothing() {
    let app = TestApp::seeded();
    let before = app.stored();
    let name = object_name(DEFAULT_TENANT_ID, "cursor_technical");
    assert_eq!(name, "ten_default/cursor_technical");
    for command in ["", "{", "null", "{}", r#""explode""#, r#"{"explode":{}}"#, r#"{"observe":{}}"#]
    {
        for (binding, name) in [("PARTNERSHIP", name.as_str()), ("BOARD", DEFAULT_TENANT_ID)] {
            let call = app.platform.objects.call(binding, name, command.to_owned());
            let refused = block_on(call).err().map(|error| error.kind);
            assert_eq!(refused, Some(ErrorKind::Misuse), "{binding}: {command}");
        }
    }
    assert_eq!(app.stored(), before);
    let unknown = app.platform.objects.call("NO_SUCH_BINDING", "x", "{}".to_owned());
    assert!(block_on(unknown).is_err());
}

//! What the service counts of itself.

use crate::support::{API, OTHER_TENANT, TestApp};
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::rate_limit::LimitClass;
use devskyy_orchestration::domain::telemetry::{Endpoint, Reading};
use devskyy_orchestration::domain::time::{DAY_MS, HOUR_MS};
use devskyy_orchestration::objects::telemetry;
use devskyy_orchestration::platform::native::Fault;
use devskyy_orchestration::store::tenants::DEFAULT_TENANT_ID;
use futures::executor::block_on;
use serde_json::json;

const HEALTH: &str = "/api/v1/orchestration/health";
const USERS: &str = "/api/v1/auth/users";

fn reading(app: &TestApp) -> Reading {
    block_on(telemetry::reading(&app.platform, DEFAULT_TENANT_ID)).unwrap()
}

fn counts(reading: &Reading, route: &'static str) -> [u64; 4] {
    let endpoint = Endpoint { route: route.into(), method: "GET".into() };
    reading.requests.get(&endpoint).copied().unwrap_or_default()
}

fn last_hour(app: &TestApp, class: LimitClass) -> (u64, u64, u64) {
    let reading = reading(app);
    let window = reading.last_hour.get(&class);
    window.map_or((0, 0, 0), |window| (window.requests, window.refused, window.errors))
}

#[test]
fn requests_are_counted_by_route_method_and_status() {
    let app = TestApp::seeded();
    app.get(HEALTH).send();
    app.get(HEALTH).send();
    app.get("/nothing/here").send();
    app.get(&format!("{API}/info")).send().problem(401);
    app.get(&format!("{API}/info")).bearer(&app.admin()).send().expect(200);
    app.request("BREW", HEALTH).send().problem(405);
    app.lose_database(10);
    app.get(USERS).bearer(&app.admin()).send().problem(503);
    app.platform.database.forget_faults();
    assert_eq!(reading(&app), Reading::default(), "nobody waits for the counting");
    app.world.flush();

    let reading = reading(&app);
    assert_eq!(counts(&reading, "health"), [2, 0, 0, 0]);
    assert_eq!(counts(&reading, "info"), [1, 0, 1, 0]);
    assert_eq!(counts(&reading, "list_users"), [0, 0, 0, 1]);
    assert_eq!(counts(&reading, "none"), [0, 0, 1, 0]);
    let brew = Endpoint { route: "none".into(), method: "OTHER".into() };
    assert_eq!(reading.requests[&brew], [0, 0, 1, 0], "a method is any word");
    assert_eq!(last_hour(&app, LimitClass::Default), (7, 3, 1));
    assert_eq!(reading.durations[&LimitClass::Default].count(), 7);
    assert!(!app.world.app.telemetry_due(), "nothing is left");
}

#[test]
fn a_batch_that_landed_but_errored_counts_once() {
    let app = TestApp::seeded();
    app.get(HEALTH).send();
    app.platform.objects.inject("TELEMETRY/", Fault::LandedButErrored);
    app.world.flush();
    assert_eq!(counts(&reading(&app), "health"), [1, 0, 0, 0]);
    // Counted meanwhile: a batch of its own.
    app.get(HEALTH).send();
    app.platform.objects.evict_all();
    app.world.flush();
    assert_eq!(counts(&reading(&app), "health"), [2, 0, 0, 0]);
    assert_eq!(last_hour(&app, LimitClass::Default), (2, 0, 0));
}

#[test]
fn a_batch_that_was_lost_is_handed_over_later() {
    let app = TestApp::seeded();
    for _ in 0..3 {
        app.get(HEALTH).send();
        app.platform.objects.inject("TELEMETRY/", Fault::Lost);
        app.world.flush();
    }
    assert_eq!(counts(&reading(&app), "health"), [0; 4]);
    app.world.flush();
    assert_eq!(counts(&reading(&app), "health"), [3, 0, 0, 0]);
}

#[test]
fn one_task_hands_over_the_requests_of_two_seconds() {
    let app = TestApp::seeded();
    assert!(!app.world.app.telemetry_due(), "nothing was counted");
    app.get(HEALTH).send();
    assert!(app.world.app.telemetry_due());
    app.get(HEALTH).send();
    assert!(!app.world.app.telemetry_due(), "there is a task");
    let before = app.platform.objects.calls("TELEMETRY");
    block_on(app.world.app.flush_telemetry());
    assert_eq!(app.platform.objects.calls("TELEMETRY"), before + 1);
    app.get(HEALTH).send();
    assert!(app.world.app.telemetry_due());
    // The runtime ended the task before its time.
    app.platform.clock.advance_ms(31_000);
    assert!(app.world.app.telemetry_due());
}

#[test]
fn tenants_are_counted_apart() {
    let app = TestApp::seeded();
    app.add_other_tenant();
    let theirs = app.token_of(OTHER_TENANT, Role::Admin);
    app.get(&format!("{API}/info")).bearer(&theirs).send().expect(200);
    let theirs = app.token_of(OTHER_TENANT, Role::Viewer);
    // A valid credential that may not is its tenant's all the same.
    app.get(USERS).bearer(&theirs).send().problem(403);
    app.get(HEALTH).bearer("nonsense").send();
    app.world.flush();
    assert_eq!(last_hour(&app, LimitClass::Default).0, 1);
    let other = block_on(telemetry::reading(&app.platform, OTHER_TENANT)).unwrap();
    assert_eq!(counts(&other, "info"), [1, 0, 0, 0]);
    assert_eq!(counts(&other, "list_users"), [0, 0, 1, 0]);
}

#[test]
fn minutes_pass_and_totals_stay() {
    let app = TestApp::seeded();
    let start = app.now();
    app.get(HEALTH).send();
    app.world.flush();
    app.platform.clock.advance_ms(HOUR_MS);
    assert_eq!(last_hour(&app, LimitClass::Default), (0, 0, 0));
    app.platform.clock.advance_ms(DAY_MS);
    app.get(HEALTH).send();
    app.world.flush();
    assert_eq!(last_hour(&app, LimitClass::Default), (1, 0, 0));
    app.platform.objects.evict_all();
    let reading = reading(&app);
    assert_eq!(reading.since, Some(start));
    assert_eq!(counts(&reading, "health"), [2, 0, 0, 0]);
    let stored = app.platform.objects.dump("TELEMETRY", DEFAULT_TENANT_ID).unwrap();
    assert_eq!(stored.matches("refused").count(), 1, "minutes go after a day: {stored}");
}

#[test]
fn the_figures_are_served_and_null_without_any() {
    let app = TestApp::seeded();
    let info = app.read(&format!("{API}/info"));
    assert_eq!(info["service"]["counting_since"], json!(null));
    let none = json!({ "requests": 0, "refused": 0, "errors": 0, "p50_s": null, "p95_s": null });
    for class in ["default", "metrics", "decisions", "ingest", "documents", "login"] {
        assert_eq!(info["service"]["last_hour"][class], none);
    }
    app.world.flush();
    app.platform.clock.advance_ms(1_000);
    for view in ["info", "status"] {
        let seen = app.read(&format!("{API}/{view}"));
        assert_eq!(seen["service"]["counting_since"], "2026-01-31T12:00:00.000Z");
        // The clock stands still.
        let one = json!({
            "requests": 1, "refused": 0, "errors": 0, "p50_s": 0.0025, "p95_s": 0.00475
        });
        assert_eq!(seen["service"]["last_hour"]["default"], one);
    }
    let before = app.platform.objects.calls("TELEMETRY");
    app.read(&format!("{API}/info"));
    assert_eq!(app.platform.objects.calls("TELEMETRY"), before, "kept for a second");
}

#[test]
fn what_cannot_be_read_is_null() {
    let app = TestApp::seeded();
    for view in ["info", "status"] {
        app.platform.clock.advance_ms(1_000);
        app.platform.objects.inject("TELEMETRY/", Fault::Lost);
        assert_eq!(app.read(&format!("{API}/{view}"))["service"], json!(null));
    }
}

#[test]
fn a_scraper_reads_what_was_counted() {
    let app = TestApp::seeded();
    let token = app.admin();
    for _ in 0..3 {
        app.get("/api/v1/orchestration/health").send().expect(200);
    }
    app.get("/api/v1/orchestration/metrics/nobody").bearer(&token).send().problem(404);
    app.world.flush();
    app.platform.clock.advance_ms(1_100);
    let text = app.get("/metrics").bearer(&token).send().text;
    for line in [
        "devskyy_api_requests_total{route=\"health\",method=\"GET\",status=\"2xx\"} 3",
        "devskyy_api_requests_total{route=\"get_metrics\",method=\"GET\",status=\"4xx\"} 1",
        "devskyy_api_request_duration_seconds_bucket{class=\"default\",le=\"0.005\"} 3",
        "devskyy_api_request_duration_seconds_count{class=\"metrics\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
    }
}

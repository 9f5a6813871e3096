//! Objectives, alerts, incidents and maintenance, from probes to replies.

use crate::support::{API, CURSOR_PROBE, TestApp};
use devskyy_orchestration::domain::time::{DAY_MS, MINUTE_MS};
use devskyy_orchestration::platform::native::{Fault, Script};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const ALARM: i64 = 4 * MINUTE_MS;

fn api(path: &str) -> String {
    format!("{API}{path}")
}

/// An hour in which everybody is well, and we can reach the outside.
fn well_for_an_hour() -> TestApp {
    let app = TestApp::seeded();
    app.outside_reachable();
    minutes(&app, 60);
    app
}

fn minutes(app: &TestApp, count: usize) {
    for _ in 0..count {
        app.next_minute();
    }
}

fn cursor(app: &TestApp, script: Script) {
    app.platform.outbound.script(CURSOR_PROBE, script);
}

const UP: Script = Script::Status(401, 120.0);
const DOWN: Script = Script::Status(503, 80.0);

fn incidents(app: &TestApp, filter: &str) -> Vec<Value> {
    app.read(&api(&format!("/incidents{filter}")))["incidents"].as_array().unwrap().clone()
}

fn only(app: &TestApp, filter: &str) -> Value {
    let found = incidents(app, filter);
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

fn of_rule(app: &TestApp, rule: &str) -> Vec<Value> {
    incidents(app, "").into_iter().filter(|incident| incident["rule"] == rule).collect()
}

fn act(app: &TestApp, id: &Value, what: &str) -> Value {
    let path = api(&format!("/incidents/{}/{what}", id.as_str().unwrap()));
    app.post(&path).bearer(&app.admin()).send().expect(200)
}

#[test]
fn an_outage_is_one_incident_from_the_third_failed_probe_to_its_end() {
    let app = well_for_an_hour();
    assert!(incidents(&app, "").is_empty());
    cursor(&app, DOWN);
    let began = app.now().plus_ms(MINUTE_MS);
    minutes(&app, 2);
    assert!(incidents(&app, "").is_empty(), "two lost packets page nobody");
    minutes(&app, 1);
    let incident = only(&app, "?state=open");
    assert_eq!(incident["rule"], "slo_fast_burn");
    assert_eq!(incident["severity"], "critical");
    assert_eq!(incident["partnership"], "cursor_technical");
    assert_eq!(incident["began_at"], began.to_rfc3339());
    assert_eq!(incident["opened_at"], app.now().to_rfc3339(), "two minutes after it began");
    minutes(&app, 20);
    assert_eq!(only(&app, "")["id"], incident["id"], "one incident for one cause");

    // It is seen everywhere.
    let health = app.read(&api("/health"));
    let open = &health["partnerships"]["cursor_technical"]["incidents"];
    assert_eq!(open[0]["id"], incident["id"]);
    assert_eq!(app.read(&api("/status"))["open_incidents"][0]["id"], incident["id"]);
    let partnership = app.read(&api("/partnerships/cursor/status"));
    assert_eq!(partnership["alerts"][0]["family"], "slo_fast_burn");
    assert_eq!(partnership["slos"][0]["burning"], "fast");
    let activity = app.read(&api("/activity"));
    let line = activity["activity"]
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["event"] == "incident.opened" && line["subject"] == incident["id"]);
    assert_eq!(line.unwrap()["actor"], "system");

    let acknowledged = act(&app, &incident["id"], "acknowledge");
    assert_eq!(acknowledged["state"], "acknowledged");
    assert_eq!(acknowledged["acknowledged"]["by"], app.user_id());
    assert_eq!(incidents(&app, "?state=open").len(), 1, "an acknowledged one is still open");

    cursor(&app, UP);
    minutes(&app, 40);
    let story = app.read(&api(&format!("/incidents/{}", incident["id"].as_str().unwrap())));
    assert_eq!(story["state"], "resolved");
    assert_eq!(story["resolved"]["by"], "system");
    let kinds: Vec<_> = story["timeline"].as_array().unwrap().iter().map(|e| &e["kind"]).collect();
    assert_eq!(kinds, ["opened", "acknowledged", "resolved"]);
    // A third of the month's budget is gone, which is a ticket and no page.
    let ticket = only(&app, "?state=open");
    assert_eq!(
        (&ticket["rule"], &ticket["severity"]),
        (&json!("slo_slow_burn"), &json!("warning"))
    );
    minutes(&app, 1);
    let health = app.read(&api("/health"));
    let open = &health["partnerships"]["cursor_technical"]["incidents"];
    assert_eq!(open.as_array().unwrap().len(), 1);
}

#[test]
fn alerts_need_no_database() {
    let app = well_for_an_hour();
    cursor(&app, DOWN);
    for _ in 0..3 {
        app.lose_database(40);
        app.next_minute();
        app.platform.database.forget_faults();
    }
    let incident = only(&app, "?state=open");
    assert_eq!(incident["rule"], "slo_fast_burn");
    // The activity log gets its line when the database is back.
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM activity WHERE event = 'incident.opened'"), 0);
    minutes(&app, 2);
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM activity WHERE event = 'incident.opened'"), 1);
}

#[test]
fn being_cut_off_is_one_incident_of_the_service() {
    let app = well_for_an_hour();
    app.all_partners(Script::Hangs);
    app.platform.outbound.script("https://example.com/", Script::Refuses);
    minutes(&app, 10);
    let incident = only(&app, "");
    assert_eq!((&incident["rule"], &incident["partnership"]), (&json!("egress"), &Value::Null));
    assert_eq!(incident["alerts"].as_array().unwrap().len(), 6, "all say the same");
    app.all_partners(UP);
    minutes(&app, 3);
    assert_eq!(only(&app, "")["state"], "resolved");
}

#[test]
fn a_tick_that_does_not_come_is_told_by_somebody_else() {
    let app = well_for_an_hour();
    app.platform.clock.advance_ms(3 * MINUTE_MS);
    app.world.ring();
    assert!(incidents(&app, "").is_empty(), "not late yet");
    app.platform.clock.advance_ms(MINUTE_MS);
    app.world.ring();
    let incident = only(&app, "");
    assert_eq!(
        (&incident["rule"], &incident["severity"]),
        (&json!("tick_late"), &json!("critical"))
    );
    app.next_minute();
    assert_eq!(only(&app, "")["state"], "resolved");
}

#[test]
fn silence_freezes_an_alert_and_is_told_apart() {
    let app = well_for_an_hour();
    cursor(&app, DOWN);
    minutes(&app, 5);
    assert_eq!(only(&app, "?state=open")["rule"], "slo_fast_burn");
    let off = json!({ "probes": [{ "key": "api", "url": CURSOR_PROBE, "enabled": false }] });
    app.patch(&api("/partnerships/cursor")).bearer(&app.admin()).json(off).send().expect(200);
    minutes(&app, 20);
    let rules: BTreeSet<_> =
        incidents(&app, "?state=open").iter().map(|i| i["rule"].to_string()).collect();
    // Nothing is probed any more: what clients push would be stale by now.
    assert_eq!(rules, BTreeSet::from(["\"data_absent\"".into(), "\"slo_fast_burn\"".into()]));
}

#[test]
fn retiring_a_partnership_ends_its_incidents() {
    let app = well_for_an_hour();
    cursor(&app, DOWN);
    minutes(&app, 5);
    app.delete(&api("/partnerships/cursor")).bearer(&app.admin()).send();
    minutes(&app, 1);
    assert_eq!(only(&app, "")["state"], "resolved");
}

#[test]
fn what_is_resolved_by_hand_does_not_come_back_while_it_lasts() {
    let app = well_for_an_hour();
    cursor(&app, DOWN);
    minutes(&app, 5);
    let first = only(&app, "");
    assert_eq!(act(&app, &first["id"], "resolve")["resolved"]["by"], app.user_id());
    minutes(&app, 5);
    assert_eq!(incidents(&app, "?state=open").len(), 0);
    let path = api(&format!("/incidents/{}/acknowledge", first["id"].as_str().unwrap()));
    assert_eq!(app.post(&path).bearer(&app.admin()).send().problem(409), "conflict");
    // The next outage is another one.
    cursor(&app, UP);
    minutes(&app, 90);
    cursor(&app, DOWN);
    minutes(&app, 5);
    assert_eq!(of_rule(&app, "slo_fast_burn").len(), 2);
}

#[test]
fn a_note_that_is_repeated_is_written_once() {
    let app = well_for_an_hour();
    cursor(&app, DOWN);
    minutes(&app, 5);
    let id = only(&app, "")["id"].as_str().unwrap().to_owned();
    let note = |key: &str, text: &str| {
        let request = app.post(&api(&format!("/incidents/{id}/notes"))).bearer(&app.admin());
        request.json(json!({ "text": text })).header("idempotency-key", key).send()
    };
    let first = note("k", "they roll back");
    let again = note("k", "they roll back");
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(first.text, again.text);
    assert_eq!(note("k", "another").problem(422), "idempotency_key_reused");
    let story = note("l", "they roll back").expect(200);
    let notes = story["timeline"].as_array().unwrap().iter().filter(|e| e["kind"] == "noted");
    assert_eq!(notes.count(), 2);
    assert_eq!(note("m", " ").pointers(), ["#/text"]);
}

#[test]
fn maintenance_excuses_and_both_availabilities_are_shown() {
    let app = well_for_an_hour();
    let window = json!({ "name": "moving", "once": {
        "starts_at": app.now().to_rfc3339(),
        "ends_at": app.now().plus_ms(30 * MINUTE_MS).to_rfc3339(),
    } });
    let path = api("/partnerships/cursor/maintenance");
    let made = app.post(&path).bearer(&app.admin()).json(window).send().expect(201);
    cursor(&app, DOWN);
    minutes(&app, 29);
    assert!(incidents(&app, "").is_empty());
    let partnership = app.read(&api("/partnerships/cursor/status"));
    assert_eq!(partnership["maintenance_until"], made["active_until"]);
    let availability = &partnership["availability"];
    assert_eq!(availability["adjusted_percent"], 100.0);
    assert_eq!(availability["in_maintenance"], 29);
    assert!(availability["raw_percent"].as_f64().unwrap() < 70.0);
    let slo = &partnership["slos"][0];
    assert_eq!((&slo["bad"], &slo["bad_in_maintenance"]), (&json!(0), &json!(29)));
    assert_eq!(slo["budget_remaining"], 1.0);
    // What goes on after it is an outage again.
    minutes(&app, 4);
    assert_eq!(only(&app, "")["rule"], "slo_fast_burn");
    assert_eq!(app.read(&path)["maintenance"], json!([]), "it is over");
}

#[test]
fn maintenance_that_is_called_off_excuses_nothing() {
    let app = well_for_an_hour();
    let window = json!({ "name": "every day", "weekly": {
        "days": ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"],
        "start": "00:00", "minutes": 1440, "time_zone": "Europe/Berlin",
    } });
    let path = api("/partnerships/cursor/maintenance");
    let made = app.post(&path).bearer(&app.admin()).json(window).send().expect(201);
    let one = format!("{path}/{}", made["id"].as_str().unwrap());
    assert_eq!(app.delete(&one).bearer(&app.admin()).send().status, 204);
    assert_eq!(app.delete(&one).bearer(&app.admin()).send().problem(404), "not_found");
    cursor(&app, DOWN);
    minutes(&app, 4);
    assert_eq!(only(&app, "")["rule"], "slo_fast_burn");
}

#[test]
fn bad_maintenance_is_refused_with_its_reason() {
    let app = TestApp::seeded();
    let weekly = |days: Value, start: &str, minutes: u32, zone: &str| json!({ "name": "n", "weekly": { "days": days, "start": start, "minutes": minutes, "time_zone": zone } });
    let at = |ms: i64| app.now().plus_ms(ms).to_rfc3339();
    let once = |from: i64, to: i64| json!({ "name": "n", "once": { "starts_at": at(from), "ends_at": at(to) } });
    for (body, pointers) in [
        (json!({ "name": "n" }), vec!["#"]),
        (once(-2 * MINUTE_MS, MINUTE_MS), vec!["#/once/starts_at"]),
        (once(MINUTE_MS, MINUTE_MS), vec!["#/once/ends_at"]),
        (once(0, 15 * DAY_MS), vec!["#/once/ends_at"]),
        (weekly(json!([]), "02:30", 1, "UTC"), vec!["#/weekly/days"]),
        (weekly(json!(["monday", "monday"]), "02:30", 1, "UTC"), vec!["#/weekly/days"]),
        (
            weekly(json!(["monday"]), "24:00", 0, "Atlantis"),
            vec!["#/weekly/start", "#/weekly/minutes", "#/weekly/time_zone"],
        ),
    ] {
        let path = api("/partnerships/cursor/maintenance");
        let reply = app.post(&path).bearer(&app.admin()).json(body.clone()).send();
        assert_eq!(reply.problem(422), "validation_failed", "{body}");
        assert_eq!(reply.pointers(), pointers, "{body}");
    }
}

#[test]
fn a_kpi_below_target_is_a_ticket_until_it_is_clearly_better() {
    let app = well_for_an_hour();
    let send = |value: f64| {
        let body = json!({ "value": value, "at": app.now().to_rfc3339() });
        let path = api("/partnerships/brand/kpis/brand_sentiment");
        app.post(&path).bearer(&app.admin()).json(body).send().expect(202);
    };
    // The target is 85.
    for (value, state) in
        [(77.0, None), (76.0, Some("open")), (77.5, Some("open")), (78.5, Some("resolved"))]
    {
        send(value);
        minutes(&app, 4);
        let found = of_rule(&app, "kpi_below_target");
        assert_eq!(found.first().map(|i| i["state"].as_str().unwrap()), state, "{value}");
    }
}

#[test]
fn an_overdue_deliverable_is_a_ticket_until_it_is_done() {
    let app = well_for_an_hour();
    let report = |percent: f64, status: &str| {
        let body =
            json!({ "completion_percentage": percent, "status": status, "due_date": "2026-01-30" });
        let path = api("/partnerships/technical/deliverables/mobile_first_platform");
        app.put(&path).bearer(&app.admin()).json(body).send().expect(200);
    };
    report(60.0, "in_progress");
    minutes(&app, 1);
    let incident = only(&app, "?partnership=technical");
    assert_eq!(incident["rule"], "deliverable_overdue");
    assert!(incident["detail"].as_str().unwrap().contains("60 % reported"), "{incident}");
    report(100.0, "completed");
    minutes(&app, 3);
    assert_eq!(only(&app, "")["state"], "resolved");
}

#[test]
fn how_long_a_partner_takes_to_admit_an_outage() {
    let app = well_for_an_hour();
    let page = |indicator: &str| {
        let body = format!(r#"{{"status": {{"indicator": "{indicator}", "description": "x"}}}}"#);
        let url = "https://status.cursor.com/api/v2/summary.json";
        app.platform.outbound.script(url, Script::Body(200, body.into(), 50.0));
    };
    page("none");
    minutes(&app, 6);
    cursor(&app, DOWN);
    minutes(&app, 13);
    let silent = of_rule(&app, "status_page_silent");
    assert_eq!(silent[0]["severity"], "info");
    page("major");
    minutes(&app, 6);
    let admission = &app.read(&api("/partnerships/cursor/status"))["admission"];
    assert_eq!((&admission["outages"], &admission["admitted"]), (&json!(1), &json!(1)));
    let lag = admission["last_lag_s"].as_i64().unwrap();
    assert!((13 * 60..=18 * 60).contains(&lag), "{lag}: pages are read every five minutes");
    // The reverse: he says so, and we see nothing of it.
    cursor(&app, UP);
    minutes(&app, 30);
    assert_eq!(of_rule(&app, "status_page_trouble").len(), 1);
    assert_eq!(of_rule(&app, "status_page_silent")[0]["state"], "resolved");
}

#[test]
fn objectives_are_added_changed_and_deleted() {
    let app = well_for_an_hour();
    let path = api("/partnerships/cursor/slos");
    let slo = json!({
        "key": "fast", "kind": "latency", "target_percent": 90, "threshold_ms": 100, "period_days": 7,
    });
    let post = |body: &Value| app.post(&path).bearer(&app.admin()).json(body.clone()).send();
    let made = post(&slo);
    assert_eq!(
        made.headers["location"],
        format!("{}/fast", path.replace("/cursor/", "/cursor_technical/"))
    );
    assert_eq!(made.expect(201)["status"], Value::Null, "not evaluated yet");
    assert_eq!(post(&slo).problem(409), "conflict");
    minutes(&app, 1);
    // Every probe took 120 ms, so all of them were too slow.
    let status = &app.read(&format!("{path}/fast"))["status"];
    assert_eq!((&status["good"], &status["bad"]), (&json!(0), &json!(62)));
    assert_eq!(status["burn"]["1h"], 10.0);
    assert_eq!(status["budget_remaining"], -9.0);
    assert_eq!(status["exhausted_in_s"], 0);
    assert_eq!(only(&app, "")["rule"], "slo_fast_burn");
    let patch =
        |body: Value| app.patch(&format!("{path}/fast")).bearer(&app.admin()).json(body).send();
    let changed = patch(json!({ "threshold_ms": 200 })).expect(200);
    assert_eq!(changed["status"], Value::Null, "what was found of another agreement is not shown");
    minutes(&app, 3);
    let status = &app.read(&format!("{path}/fast"))["status"];
    assert_eq!((&status["good"], &status["bad"]), (&json!(65), &json!(0)));
    assert_eq!(only(&app, "")["state"], "resolved", "history is counted anew");
    let delete = || app.delete(&format!("{path}/fast")).bearer(&app.admin()).send();
    assert_eq!(delete().status, 204);
    assert_eq!(delete().problem(404), "not_found");
    let list = app.read(&path);
    assert_eq!(list["slos"].as_array().unwrap().len(), 1);
    assert_eq!(patch(json!({ "period_days": 30 })).problem(404), "not_found");
    let threshold = json!({ "threshold_ms": 5 });
    let of_availability = app.patch(&format!("{path}/availability")).bearer(&app.admin());
    assert_eq!(of_availability.json(threshold).send().problem(409), "conflict");
    for (body, pointer) in [
        (
            json!({ "key": "X", "kind": "availability", "target_percent": 99, "period_days": 7 }),
            "#/key",
        ),
        (
            json!({ "key": "ab", "kind": "availability", "target_percent": 100, "period_days": 7 }),
            "#/target_percent",
        ),
        (
            json!({ "key": "ab", "kind": "availability", "target_percent": 0, "period_days": 7 }),
            "#/target_percent",
        ),
        (
            json!({ "key": "ab", "kind": "availability", "target_percent": 99, "period_days": 8 }),
            "#/period_days",
        ),
        (
            json!({ "key": "ab", "kind": "latency", "target_percent": 99, "period_days": 7 }),
            "#/threshold_ms",
        ),
        (
            json!({ "key": "ab", "kind": "availability", "target_percent": 99, "threshold_ms": 5, "period_days": 7 }),
            "#/threshold_ms",
        ),
    ] {
        assert_eq!(post(&body).pointers(), [pointer], "{body}");
    }
}

#[test]
fn the_policy_is_a_setting() {
    let app = well_for_an_hour();
    let patch = |body: Value| app.patch(&api("/config")).bearer(&app.admin()).json(body).send();
    let reply = patch(json!({ "alerting": { "min_bad_samples": 5, "kpi_below_percent": 5 } }));
    let settings = &reply.expect(200)["configuration"]["partnership_settings"];
    assert_eq!(settings["alerting"]["min_bad_samples"], 5);
    assert_eq!(settings["alerting"]["flap_changes"], 6, "the rest stays");
    let bad = patch(json!({ "alerting": { "min_bad_samples": 0, "flap_changes": 1 } }));
    assert_eq!(bad.pointers(), ["#/alerting/min_bad_samples", "#/alerting/flap_changes"]);
    cursor(&app, DOWN);
    minutes(&app, 4);
    assert!(incidents(&app, "").is_empty());
    minutes(&app, 1);
    assert_eq!(incidents(&app, "").len(), 1);
}

#[test]
fn a_simulation_says_what_really_happened() {
    let app = well_for_an_hour();
    cursor(&app, DOWN);
    minutes(&app, 8);
    cursor(&app, UP);
    minutes(&app, 60);
    let simulate = |body: Value| {
        let path = api("/alert-policies/simulate");
        app.post(&path).bearer(&app.admin()).json(body).send()
    };
    let out = simulate(json!({ "days": 1 })).expect(200);
    let real: BTreeMap<String, Value> = incidents(&app, "")
        .into_iter()
        .map(|i| {
            (i["rule"].to_string(), json!([i["began_at"], i["opened_at"], i["resolved"]["at"]]))
        })
        .collect();
    let simulated: BTreeMap<String, Value> = out["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a["rule"].to_string(), json!([a["began_at"], a["opened_at"], a["resolved_at"]])))
        .collect();
    assert_eq!(simulated, real);
    assert_eq!(
        (&out["pages"], &out["tickets"], &out["slowest_page_s"]),
        (&json!(1), &json!(1), &json!(120))
    );
    // A policy that nobody should want.
    let deaf = json!({ "partnership": "cursor", "days": 1, "policy": { "min_bad_samples": 9 } });
    let out = simulate(deaf).expect(200);
    assert_eq!((&out["pages"], &out["partnerships"].as_array().unwrap().len()), (&json!(0), &1));
    assert_eq!(out["policy"]["recoveries_to_resolve"], 3);
    // And objectives that are not agreed.
    let slo = json!({ "key": "strict", "kind": "latency", "target_percent": 99, "threshold_ms": 10, "period_days": 7 });
    let out = simulate(json!({ "partnership": "grok", "days": 1, "slos": [slo] })).expect(200);
    assert_eq!(out["alerts"][0]["subject"], "strict");
    assert_eq!(simulate(json!({ "partnership": "nobody" })).problem(404), "not_found");
    let bad = json!({ "days": 15, "policy": { "flap_changes": 0 }, "slos": [slo, slo] });
    assert_eq!(simulate(bad).pointers(), ["#/days", "#/slos/1/key", "#/policy/flap_changes"]);
    assert_eq!(incidents(&app, "").len(), 2, "a simulation opens nothing");
}

#[test]
fn incidents_go_page_by_page_and_by_filter() {
    let app = well_for_an_hour();
    app.all_partners(DOWN);
    minutes(&app, 4);
    let first = app.get(&api("/incidents?limit=4&state=open")).bearer(&app.admin()).send();
    let link = first.headers["link"].clone();
    assert!(link.contains("&state=open>"), "the filter goes on: {link}");
    let next = link.trim_start_matches('<').split('>').next().unwrap().to_owned();
    let second = app.read(&next);
    let ids: BTreeSet<String> = [&first.json, &second]
        .iter()
        .flat_map(|page| page["incidents"].as_array().unwrap())
        .map(|incident| incident["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 6);
    assert_eq!(incidents(&app, "?partnership=grok").len(), 1);
    assert_eq!(incidents(&app, "?partnership=nobody").len(), 0);
    assert_eq!(incidents(&app, "?state=resolved").len(), 0);
    for bad in ["?state=closed", "?state=open&state=open"] {
        let reply = app.get(&api(&format!("/incidents{bad}"))).bearer(&app.admin()).send();
        assert_eq!(reply.problem(400), "malformed_request", "{bad}");
    }
}

// ---- whatever happens ----------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Minute {
        is_up: bool,
    },
    /// The tick comes twice.
    Twice,
    /// Cron says nothing for so long.
    Gap(i64),
    Evict,
    Ring,
    /// A message to an object is lost, or its reply is.
    LoseReport(bool),
    LoseBoard(bool),
    LoseTick(bool),
    LoseDatabase,
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::bool::weighted(0.6).prop_map(|is_up| Step::Minute { is_up }),
        1 => Just(Step::Twice),
        1 => (2..8_i64).prop_map(Step::Gap),
        2 => Just(Step::Evict),
        1 => Just(Step::Ring),
        2 => any::<bool>().prop_map(Step::LoseReport),
        1 => any::<bool>().prop_map(Step::LoseBoard),
        1 => any::<bool>().prop_map(Step::LoseTick),
        1 => Just(Step::LoseDatabase),
    ]
}

pub fn take(app: &TestApp, step: Step) {
    let fault = |landed: bool| if landed { Fault::LandedButErrored } else { Fault::Lost };
    let objects = &app.platform.objects;
    match step {
        Step::Minute { is_up } => {
            cursor(app, if is_up { UP } else { DOWN });
            app.next_minute();
        }
        Step::Twice => app.tick(),
        Step::Gap(minutes) => app.platform.clock.advance_ms(minutes * MINUTE_MS),
        Step::Evict => objects.evict_all(),
        Step::Ring => {
            app.platform.clock.advance_ms(ALARM);
            app.world.ring();
        }
        Step::LoseReport(landed) => {
            objects.inject("INCIDENT/ten_default {\"report\"", fault(landed))
        }
        Step::LoseBoard(landed) => objects.inject("BOARD/", fault(landed)),
        Step::LoseTick(landed) => objects.inject("INCIDENT/ten_default {\"tick\"", fault(landed)),
        Step::LoseDatabase => app.lose_database(3),
    }
}

/// One is enough, and six take as many times as long.
pub fn one_partnership_that_is_well() -> TestApp {
    let app = TestApp::seeded();
    app.outside_reachable();
    for id in ["brand", "visual", "customer", "strategic", "research"] {
        app.delete(&api(&format!("/partnerships/{id}"))).bearer(&app.admin()).send();
    }
    app
}

/// From here on nothing is lost, and the partner is up.
pub fn recover(app: &TestApp) {
    app.platform.objects.forget_faults();
    app.platform.database.forget_faults();
    cursor(app, UP);
}

/// `partnership/rule` of an incident.
pub fn cause(incident: &Value) -> String {
    format!("{}/{}", incident["partnership"], incident["rule"])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of a cause there is at most one open incident at any time, incidents of
    /// a cause follow one another, and when the data is good all of them end.
    #[test]
    fn one_incident_for_one_cause_whatever_is_lost(steps in prop::collection::vec(step(), 20..90)) {
        let app = one_partnership_that_is_well();
        minutes(&app, 30);
        for step in steps {
            take(&app, step);
            let open = incidents(&app, "?state=open");
            let causes: BTreeSet<_> = open.iter().map(cause).collect();
            prop_assert_eq!(causes.len(), open.len(), "{:#?}", open);
        }
        recover(&app);
        // Half an hour is the short window of the slowest tier that pages.
        minutes(&app, 40);
        let open = incidents(&app, "?state=open");
        let paging: Vec<_> = {
            // A ticket lasts longer, and a gap may have swallowed minute 37.
            let waits = ["slo_slow_burn", "backup_old"].map(Value::from);
            open.iter().filter(|i| !waits.contains(&i["rule"])).collect()
        };
        prop_assert!(paging.is_empty(), "{:#?}", paging);
        let mut by_cause: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for incident in incidents(&app, "?limit=200") {
            let end = incident["resolved"]["at"].as_str().unwrap_or("9").to_owned();
            let begin = incident["opened_at"].as_str().unwrap().to_owned();
            by_cause.entry(cause(&incident)).or_default().push((begin, end));
        }
        for (cause, mut spans) in by_cause {
            spans.sort();
            for two in spans.windows(2) {
                prop_assert!(two[0].1 <= two[1].0, "{cause}: {spans:?}");
            }
        }
    }
}

#[test]
fn somebody_knows_within_five_minutes_and_readiness_says_so() {
    let app = well_for_an_hour();
    let hook = "https://hooks.example.com/on-call";
    app.platform.outbound.script(hook, Script::Status(204, 30.0));
    let check = |name: &str| {
        minutes(&app, 1);
        let report = app.read(&api("/deployment/readiness"));
        report["checks"][name].clone()
    };
    assert_eq!(check("channels")["status"], "warning", "nobody is told");
    assert_eq!(check("alert_latency")["status"], "not_run");
    assert_eq!(check("slo_data")["status"], "pass");
    let channel = json!({ "kind": "webhook", "name": "On call", "url": hook });
    let path = api("/channels");
    app.post(&path).bearer(&app.admin()).json(channel).send().expect(201);
    assert_eq!(check("channels")["status"], "not_run", "never tried");
    cursor(&app, DOWN);
    let began = app.now().plus_ms(MINUTE_MS);
    for _ in 0..4 {
        app.next_minute();
        app.world.ring();
    }
    let told = app.platform.outbound.sent().into_iter().find(|call| call.url == hook).unwrap();
    let body: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(body["type"], "incident.triggered");
    let latency = check("alert_latency");
    assert_eq!(latency["status"], "pass", "{latency}");
    let said = latency["message"].as_str().unwrap();
    let seconds: i64 = said.split(' ').next().unwrap().parse().unwrap();
    assert!((120..300).contains(&seconds), "{said}; it began at {began}");
    assert_eq!(check("channels")["status"], "pass");
    // A channel that refuses is told apart from one that was never tried.
    app.platform.outbound.script(hook, Script::Status(500, 30.0));
    cursor(&app, UP);
    for _ in 0..40 {
        app.next_minute();
        app.world.ring();
    }
    assert_eq!(check("channels")["status"], "fail");
    // Nobody evaluates any more.
    app.platform.clock.advance_ms(6 * MINUTE_MS);
    let report = app.read(&api("/deployment/readiness"));
    assert_eq!(report["checks"]["slo_data"]["status"], "fail");
}

#[test]
fn a_backup_that_is_too_old_is_a_ticket() {
    let app = well_for_an_hour();
    let rule = |app: &TestApp| of_rule(app, "backup_old").first().map(|i| i["state"].clone());
    // The job of minute 37 ran; now it does not.
    for _ in 0..125 {
        app.platform.clock.advance_ms(MINUTE_MS);
        app.tick();
    }
    assert_eq!(rule(&app), Some(json!("open")));
    app.world.scheduled("37 * * * *", app.now());
    minutes(&app, 2);
    assert_eq!(rule(&app), Some(json!("resolved")));
}

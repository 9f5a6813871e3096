//! Channels and the outbox: what is sent where, in which order and how often,
//! whatever the receivers answer and whatever is lost on the way.

use crate::incidents::{self, cause};
use crate::support::{API, CURSOR_PROBE, TestApp, TestReply};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use devskyy_orchestration::domain::delivery::{
    Channel, ChannelFigures, message_id, signature, webhook_key,
};
use devskyy_orchestration::domain::incident::{Notification, NotificationKind, Severity};
use devskyy_orchestration::domain::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use devskyy_orchestration::objects::incident;
use devskyy_orchestration::objects::outbox::{self, Command};
use devskyy_orchestration::platform::fetch::OutboundRequest;
use devskyy_orchestration::platform::native::{Fault, Script};
use devskyy_orchestration::store::channels;
use devskyy_orchestration::store::tenants::DEFAULT_TENANT_ID;
use futures::FutureExt;
use futures::executor::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const HOOK: &str = "https://hooks.example.com/in";
const SLACK: &str = "https://hooks.example.org/services/T000/B000/slack-token-of-ours";
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";
const ROUTING_KEY: &str = "0123456789abcdefABCDEF0123456789";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn api(path: &str) -> String {
    format!("{API}{path}")
}

fn webhook() -> Value {
    json!({ "kind": "webhook", "name": "Desk", "min_severity": "info", "url": HOOK, "secret": SECRET })
}

fn slack() -> Value {
    json!({ "kind": "slack", "name": "Chat", "url": SLACK })
}

fn pagerduty() -> Value {
    json!({ "kind": "pagerduty", "name": "On call", "min_severity": "critical", "routing_key": ROUTING_KEY })
}

impl TestApp {
    #[track_caller]
    fn channel(&self, body: Value) -> String {
        let made = self.post(&api("/channels")).bearer(&self.admin()).json(body).send().expect(201);
        made["channel"]["id"].as_str().unwrap().to_owned()
    }

    fn outbox(&self, command: Command) -> outbox::Reply {
        block_on(incident::outbox(&self.platform, DEFAULT_TENANT_ID, command)).unwrap()
    }

    /// As the incidents of the tenant do it.
    fn enqueue(&self, news: &Notification) {
        self.outbox(Command::Enqueue { notification: Box::new(news.clone()) });
    }

    /// Lets alarms ring for so long, each at its time.
    fn pass(&self, ms: i64) {
        let end = self.platform.clock.now_ms() + ms;
        for _ in 0..10_000 {
            let Some(next) = self.platform.objects.next_alarm_ms().filter(|at| *at <= end) else {
                break;
            };
            let now = self.platform.clock.now_ms();
            self.platform.clock.set_ms(next.max(now));
            self.world.ring();
        }
        self.platform.clock.set_ms(end);
    }

    /// What is due goes out, and nobody is there when an answer would come.
    fn interrupt(&self) {
        self.platform.outbound.hold(true);
        self.platform.objects.ring_and_evict(self.platform.clock.now_ms());
        self.platform.outbound.hold(false);
    }

    /// What is due goes out, something happens, and then the answers come.
    fn while_under_way(&self, something: impl FnOnce()) {
        self.platform.outbound.hold(true);
        let mut ringing = Box::pin(self.platform.objects.ring(self.platform.clock.now_ms()));
        assert!((&mut ringing).now_or_never().is_none(), "nothing went out");
        something();
        self.platform.outbound.hold(false);
        ringing.now_or_never().expect("an answer for each").unwrap();
    }

    fn deliveries(&self, channel: &str) -> Vec<Value> {
        let path = api(&format!("/channels/{channel}/deliveries?limit=200"));
        let mut all = self.read(&path)["deliveries"].as_array().unwrap().clone();
        all.reverse();
        all
    }

    fn figures(&self, channel: &str) -> ChannelFigures {
        let outbox::Reply::Figures(figures) = self.outbox(Command::Figures) else { panic!() };
        figures[channel].clone()
    }

    fn sent_to(&self, url: &str) -> Vec<OutboundRequest> {
        self.platform.outbound.sent().into_iter().filter(|sent| sent.url == url).collect()
    }

    fn test_channel(&self, id: &str) -> TestReply {
        self.post(&api(&format!("/channels/{id}/test"))).bearer(&self.admin()).send()
    }
}

fn header(sent: &OutboundRequest, name: &str) -> String {
    let found = sent.headers.iter().find(|(n, _)| *n == name);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

fn body(sent: &OutboundRequest) -> Value {
    serde_json::from_slice(&sent.body).unwrap()
}

fn news(id: &str, incident: &str, kind: NotificationKind, severity: Severity) -> Notification {
    let at = Timestamp::parse("2026-01-31T12:00:00Z").unwrap();
    Notification {
        id: id.to_owned(),
        kind,
        incident_id: incident.to_owned(),
        severity,
        at,
        opened_at: at,
        partnership: Some("cursor_technical".to_owned()),
        rule: "slo_burn".to_owned(),
        title: "Budget burns".to_owned(),
        detail: "14.4 over 1 h and 5 m".to_owned(),
        trace_id: Some(TRACE.to_owned()),
    }
}

fn trigger(id: &str, incident: &str) -> Notification {
    news(id, incident, NotificationKind::Triggered, Severity::Critical)
}

fn resolve(id: &str, incident: &str) -> Notification {
    news(id, incident, NotificationKind::Resolved, Severity::Critical)
}

// ---- channels ----

#[test]
fn no_secret_is_stored_or_shown_in_the_clear() {
    let app = TestApp::seeded();
    for body in [webhook(), slack(), pagerduty()] {
        app.channel(body);
    }
    let ours =
        json!({ "kind": "webhook", "name": "Made here", "url": "https://desk.example.com/" });
    let made = app.post(&api("/channels")).bearer(&app.admin()).json(ours).send().expect(201);
    let made_here = made["secret"].as_str().unwrap().to_owned();
    assert_eq!(webhook_key(&made_here).unwrap().len(), 32);
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.pass(MINUTE_MS);
    let listed = app.get(&api("/channels")).bearer(&app.admin()).send();
    assert_eq!(listed.json["channels"].as_array().unwrap().len(), 4);
    let said = format!("{}{}", listed.text, app.platform.log.lines().join("\n"));
    let stored = format!("{:?}", app.stored().tables);
    let in_object = app.platform.objects.dump(incident::BINDING, DEFAULT_TENANT_ID).unwrap();
    assert!(in_object.contains("ntf_1") && stored.contains("hooks.example.org"));
    for secret in
        [SECRET, &SECRET[6..], &made_here[6..], SLACK, "slack-token", "/services/", ROUTING_KEY]
    {
        for (place, text) in [("said", &said), ("D1", &stored), ("object", &in_object)] {
            assert!(!text.contains(secret), "{place}: {secret}");
        }
    }
    let hosts: BTreeSet<&str> = listed.json["channels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|channel| channel["host"].as_str().unwrap())
        .collect();
    let expected =
        ["desk.example.com", "events.pagerduty.com", "hooks.example.com", "hooks.example.org"];
    assert_eq!(hosts, BTreeSet::from(expected));
}

#[test]
fn what_does_not_fit_its_kind_is_refused() {
    let app = TestApp::seeded();
    let refuse = |body: Value, pointers: &[&str]| {
        let reply = app.post(&api("/channels")).bearer(&app.admin()).json(body).send();
        assert_eq!(reply.problem(422), "validation_failed");
        assert_eq!(reply.pointers(), pointers, "{}", reply.text);
        reply.text
    };
    let email = json!({ "kind": "email", "name": "x", "url": "https://example.com/" });
    assert!(refuse(email, &["#/kind"]).contains("e-mail is not sent from here"));
    refuse(json!({ "kind": "slack", "name": "x" }), &["#/url"]);
    refuse(json!({ "kind": "pagerduty", "name": "x" }), &["#/routing_key"]);
    refuse(
        json!({ "kind": "slack", "name": " ", "url": HOOK, "secret": SECRET }),
        &["#/name", "#/secret"],
    );
    for url in [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://u:p@example.com/",
        "https://db.internal/",
    ] {
        refuse(json!({ "kind": "webhook", "name": "x", "url": url }), &["#/url"]);
    }
    for secret in ["short", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
        refuse(
            json!({ "kind": "webhook", "name": "x", "url": HOOK, "secret": secret }),
            &["#/secret"],
        );
    }
    refuse(json!({ "kind": "pagerduty", "name": "x", "routing_key": "k" }), &["#/routing_key"]);
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM channels"), 0);
    for index in 0..20 {
        app.channel(json!({ "kind": "slack", "name": format!("{index}"), "url": SLACK }));
    }
    let full = app.post(&api("/channels")).bearer(&app.admin()).json(slack()).send();
    assert_eq!(full.problem(409), "conflict");
}

#[test]
fn without_a_key_no_channel_is_made_and_nothing_else_breaks() {
    let app = TestApp::with_vars(|vars| vars.remove("CHANNEL_KEY"));
    app.tick();
    let refused = app.post(&api("/channels")).bearer(&app.admin()).json(webhook()).send();
    assert_eq!(refused.problem(503), "not_configured");
    assert!(refused.text.contains("CHANNEL_KEY is not set"), "{}", refused.text);
    assert_eq!(app.read(&api("/channels"))["channels"], json!([]));
    // One that was made before is tried, and the log says why nothing arrives.
    app.add_channel();
    app.next_minute();
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.pass(SECOND_MS);
    let attempt = &app.deliveries("chn_target")[0]["attempts"][0];
    assert_eq!(attempt["failure"], "not_sendable");
    assert_eq!(app.read(&api("/health"))["partnerships"].as_object().unwrap().len(), 6);
}

#[test]
fn a_channel_is_changed_and_deleted_by_who_has_seen_it() {
    let app = TestApp::seeded();
    let id = app.channel(slack());
    let path = api(&format!("/channels/{id}"));
    let etag = app.get(&path).bearer(&app.admin()).send().headers["etag"].clone();
    let patch = |tag: &str, body: Value| {
        app.patch(&path).bearer(&app.admin()).header("if-match", tag).json(body).send()
    };
    assert_eq!(patch("\"x\"", json!({ "name": "n" })).problem(412), "precondition_failed");
    assert_eq!(patch("\"x\"", json!({ "name": "" })).problem(422), "validation_failed");
    assert_eq!(patch("\"x\"", json!({ "url": HOOK })).problem(422), "validation_failed");
    let changed = patch(&etag, json!({ "name": "New", "min_severity": "info", "enabled": false }));
    let next = changed.headers["etag"].clone();
    let changed = changed.expect(200);
    assert_eq!((&changed["name"], &changed["enabled"]), (&json!("New"), &json!(false)));
    assert_eq!(app.read(&path), changed);
    assert_ne!(next, etag);
    // Disabled: nothing is written down for it, and no test is sent.
    app.enqueue(&trigger("ntf_1", "inc_1"));
    assert_eq!(app.deliveries(&id), Vec::<Value>::new());
    assert_eq!(app.test_channel(&id).problem(409), "conflict");
    let delete = |tag: &str| app.delete(&path).bearer(&app.admin()).header("if-match", tag).send();
    assert_eq!(delete(&etag).problem(412), "precondition_failed");
    assert_eq!(delete(&next).status, 204);
    assert_eq!(app.get(&path).bearer(&app.admin()).send().problem(404), "not_found");
    assert_eq!(delete("*").problem(404), "not_found");
    // A late message of the tick does not bring it back.
    app.next_minute();
    app.enqueue(&trigger("ntf_2", "inc_2"));
    app.pass(MINUTE_MS);
    assert_eq!(app.sent_to(SLACK).len(), 0);
}

#[test]
fn a_lost_message_to_the_outbox_is_healed_by_the_tick() {
    let app = TestApp::seeded();
    app.platform.outbound.script(HOOK, Script::Status(200, 5.0));
    app.platform.objects.inject("INCIDENT/", Fault::Lost);
    let id = app.channel(webhook());
    app.enqueue(&trigger("ntf_1", "inc_1"));
    assert_eq!(app.deliveries(&id), Vec::<Value>::new(), "the outbox does not know it");
    app.next_minute();
    app.enqueue(&trigger("ntf_2", "inc_2"));
    app.pass(SECOND_MS);
    assert_eq!(app.sent_to(HOOK).len(), 1);
    // And a deletion of which nobody told.
    let path = api(&format!("/channels/{id}"));
    app.platform.objects.inject("remove_channel", Fault::Lost);
    assert_eq!(app.delete(&path).bearer(&app.admin()).send().status, 204);
    app.platform.clock.advance_ms(SECOND_MS);
    app.tick();
    app.enqueue(&trigger("ntf_3", "inc_3"));
    app.pass(MINUTE_MS);
    assert_eq!(app.sent_to(HOOK).len(), 1);
}

#[test]
fn late_news_brings_no_channel_back_and_a_list_that_was_too_old_takes_none_away() {
    let app = TestApp::seeded();
    app.platform.outbound.script(HOOK, Script::Status(200, 5.0));
    let id = app.channel(webhook());
    let set = |channels: Vec<Channel>, all_as_of: Option<Timestamp>| {
        let tenant_id = DEFAULT_TENANT_ID.to_owned();
        app.outbox(Command::SetChannels { tenant_id, channels, all_as_of });
    };
    let arrives = |news: &str| {
        let before = app.sent_to(HOOK).len();
        app.enqueue(&trigger(news, &format!("inc_of_{news}")));
        app.pass(SECOND_MS);
        app.sent_to(HOOK).len() > before
    };
    // A clock that is ahead made a list without it look newer than it is.
    set(vec![], Some(app.now().plus_ms(SECOND_MS)));
    assert!(!arrives("ntf_1"));
    app.tick();
    assert!(arrives("ntf_2"));
    // A tick that read the list before the deletion tells of it after.
    let rows = block_on(channels::all(&app.platform.database, DEFAULT_TENANT_ID)).unwrap();
    let stale: Vec<Channel> = rows.into_iter().map(|row| row.channel).collect();
    let path = api(&format!("/channels/{id}"));
    assert_eq!(app.delete(&path).bearer(&app.admin()).send().status, 204);
    set(stale, Some(app.now()));
    assert!(!arrives("ntf_3"));
}

// ---- what is sent ----

#[test]
fn each_channel_gets_what_is_urgent_enough_for_it_and_the_end_of_what_it_knows() {
    let app = TestApp::seeded();
    for url in [HOOK, SLACK] {
        app.platform.outbound.script(url, Script::Status(200, 5.0));
    }
    app.platform.outbound.script(PAGERDUTY, Script::Status(202, 5.0));
    let (hook, chat, pager) =
        (app.channel(webhook()), app.channel(slack()), app.channel(pagerduty()));
    let say = |id: &str, kind, severity| {
        app.enqueue(&news(id, "inc_1", kind, severity));
        app.pass(SECOND_MS);
    };
    say("ntf_1", NotificationKind::Triggered, Severity::Info);
    say("ntf_2", NotificationKind::Triggered, Severity::Warning);
    say("ntf_3", NotificationKind::Acknowledged, Severity::Warning);
    say("ntf_4", NotificationKind::Resolved, Severity::Warning);
    let kinds = |channel: &str| -> Vec<String> {
        let all = app.deliveries(channel);
        all.iter().map(|d| d["notification_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&hook), ["ntf_1", "ntf_2", "ntf_3", "ntf_4"]);
    assert_eq!(kinds(&chat), ["ntf_2", "ntf_3", "ntf_4"]);
    assert_eq!(kinds(&pager), Vec::<String>::new());
    app.enqueue(&trigger("ntf_5", "inc_2"));
    app.enqueue(&trigger("ntf_5", "inc_2"));
    app.enqueue(&news("ntf_6", "inc_2", NotificationKind::Acknowledged, Severity::Critical));
    app.enqueue(&resolve("ntf_7", "inc_2"));
    app.pass(SECOND_MS);
    let events: Vec<Value> = app.sent_to(PAGERDUTY).iter().map(body).collect();
    let said: Vec<_> =
        events.iter().map(|e| (e["event_action"].clone(), e["dedup_key"].clone())).collect();
    let expected = ["trigger", "acknowledge", "resolve"].map(|a| (json!(a), json!("inc_2")));
    assert_eq!(said, expected, "once each, though it was written down twice");
    assert!(events.iter().all(|event| event["routing_key"] == ROUTING_KEY));
    let figures = app.figures(&pager);
    let all = ChannelFigures { last_delivered_at: figures.last_delivered_at, ..Default::default() };
    assert_eq!(figures, ChannelFigures { delivered: 3, ..all });
}

#[test]
fn a_webhook_is_signed_with_the_time_of_the_attempt_and_one_id() {
    let app = TestApp::unticked();
    let steps = [
        Script::Status(500, 5.0),
        Script::Hangs,
        Script::Refuses,
        Script::Status(302, 5.0),
        Script::Status(204, 7.5),
    ];
    app.platform.outbound.script(HOOK, Script::Sequence(steps.to_vec()));
    let id = app.channel(webhook());
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.pass(6 * HOUR_MS);
    let sent = app.sent_to(HOOK);
    assert_eq!(sent.len(), 5);
    let mut times = Vec::new();
    for request in &sent {
        assert_eq!(header(request, "webhook-id"), message_id("ntf_1", &id));
        assert_eq!(request.body, sent[0].body);
        let time: i64 = header(request, "webhook-timestamp").parse().unwrap();
        times.push(time);
        let key = STANDARD.decode(&SECRET[6..]).unwrap();
        let expected = signature(&key, &message_id("ntf_1", &id), time, &request.body).unwrap();
        assert_eq!(header(request, "webhook-signature"), expected);
    }
    let pauses: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, expected) in pauses.iter().zip([5, 300, 1_800, 7_200]) {
        assert!((expected..=expected + expected / 10 + 1).contains(pause), "{pauses:?}");
    }
    let delivery = &app.deliveries(&id)[0];
    assert_eq!(
        (&delivery["state"], &delivery["next_attempt_at"]),
        (&json!("delivered"), &Value::Null)
    );
    let attempts = delivery["attempts"].as_array().unwrap();
    let failures: Vec<&Value> = attempts.iter().map(|attempt| &attempt["failure"]).collect();
    let expected =
        [json!("refused"), json!("timed_out"), json!("not_reached"), json!("refused"), Value::Null];
    assert_eq!(failures, expected.iter().collect::<Vec<_>>());
    assert_eq!(attempts[4]["latency_ms"], 7.5);
    assert_eq!(attempts[1]["latency_ms"], Value::Null);
    assert_eq!(attempts[3]["status"], 302);
    let figures = app.figures(&id);
    assert_eq!((figures.delivered, figures.failed_attempts, figures.waiting), (1, 4, 0));
}

#[test]
fn after_ten_attempts_it_is_given_up_and_can_be_replayed() {
    let app = TestApp::unticked();
    app.platform.outbound.script(HOOK, Script::Status(503, 5.0));
    let id = app.channel(webhook());
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.pass(10 * SECOND_MS);
    let waiting = app.deliveries(&id)[0].clone();
    let replay = |delivery: &Value, key: &str| {
        let path = api(&format!("/deliveries/{}/replay", delivery["id"].as_str().unwrap()));
        app.post(&path).bearer(&app.admin()).header("idempotency-key", key).send()
    };
    assert_eq!(replay(&waiting, "k").problem(409), "conflict");
    assert_eq!(
        app.figures(&id).oldest_waiting_at,
        Some(Timestamp::parse(waiting["created_at"].as_str().unwrap()).unwrap())
    );
    app.pass(4 * DAY_MS);
    let failed = app.deliveries(&id)[0].clone();
    assert_eq!(failed["state"], "failed");
    assert_eq!(failed["attempts"].as_array().unwrap().len(), 10);
    assert_eq!(app.sent_to(HOOK).len(), 10);
    app.platform.outbound.script(HOOK, Script::Status(200, 5.0));
    let replayed = replay(&failed, "k");
    let first = replayed.text.clone();
    let replayed = replayed.expect(202);
    assert_eq!(
        (&replayed["state"], &replayed["notification_id"]),
        (&json!("waiting"), &json!("ntf_1"))
    );
    assert_ne!(replayed["id"], failed["id"]);
    let again = replay(&failed, "k");
    assert_eq!((again.headers["idempotency-replayed"].as_str(), &again.text), ("true", &first));
    app.pass(SECOND_MS);
    let sent = app.sent_to(HOOK);
    assert_eq!(sent.len(), 11);
    assert_eq!(header(&sent[10], "webhook-id"), header(&sent[0], "webhook-id"));
    let missing = app.post(&api("/deliveries/dlv_x/replay")).bearer(&app.admin()).send();
    assert_eq!(missing.problem(404), "not_found");
    // Kept for 30 days.
    app.pass(31 * DAY_MS);
    let path = api(&format!("/channels/{id}"));
    app.patch(&path).bearer(&app.admin()).json(json!({})).send().expect(200);
    assert_eq!(app.deliveries(&id), Vec::<Value>::new());
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it() {
    let app = TestApp::unticked();
    let start = app.platform.clock.now_ms();
    let date = Timestamp::from_millis(start + 2 * HOUR_MS).to_chrono().to_rfc2822();
    let date = date.replace("+0000", "GMT");
    let steps = [
        Script::RetryAfter(429, "90".into()),
        Script::RetryAfter(503, date),
        Script::Status(200, 1.0),
    ];
    app.platform.outbound.script(HOOK, Script::Sequence(steps.to_vec()));
    let id = app.channel(webhook());
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.pass(89 * SECOND_MS);
    assert_eq!(app.sent_to(HOOK).len(), 1);
    app.pass(10 * SECOND_MS);
    assert_eq!(app.sent_to(HOOK).len(), 2);
    app.pass(2 * HOUR_MS - 101 * SECOND_MS);
    assert_eq!(app.sent_to(HOOK).len(), 2);
    app.pass(HOUR_MS);
    assert_eq!(app.deliveries(&id)[0]["state"], "delivered");
}

#[test]
fn the_end_is_not_told_before_the_beginning() {
    let app = TestApp::unticked();
    let steps = [Script::Refuses, Script::Refuses, Script::Status(200, 1.0)];
    app.platform.outbound.script(HOOK, Script::Sequence(steps.to_vec()));
    let id = app.channel(webhook());
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.enqueue(&resolve("ntf_2", "inc_1"));
    // Another incident does not wait for it.
    app.enqueue(&trigger("ntf_3", "inc_2"));
    app.pass(SECOND_MS);
    let types = || -> Vec<(Value, Value)> {
        let sent = app.sent_to(HOOK);
        sent.iter()
            .map(|s| (body(s)["type"].clone(), body(s)["data"]["incident_id"].clone()))
            .collect()
    };
    let (opened, closed) = (json!("incident.triggered"), json!("incident.resolved"));
    assert_eq!(types(), [(opened.clone(), json!("inc_1")), (opened.clone(), json!("inc_2"))]);
    app.pass(HOUR_MS);
    let of_first: Vec<Value> = types()
        .into_iter()
        .filter(|(_, incident)| *incident == "inc_1")
        .map(|(kind, _)| kind)
        .collect();
    assert_eq!(of_first, [opened.clone(), opened, closed]);
    assert!(app.deliveries(&id).iter().all(|delivery| delivery["state"] == "delivered"));
    assert_eq!(app.figures(&id).delivered, 3);
}

#[test]
fn pagerduty_is_tried_again_after_minutes_unless_it_says_that_the_event_is_bad() {
    let app = TestApp::unticked();
    let steps = [
        Script::Status(429, 1.0),
        Script::Status(500, 1.0),
        Script::Refuses,
        Script::Status(202, 1.0),
        Script::Status(400, 1.0),
        Script::Status(202, 1.0),
    ];
    app.platform.outbound.script(PAGERDUTY, Script::Sequence(steps.to_vec()));
    let id = app.channel(pagerduty());
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.pass(59 * SECOND_MS);
    assert_eq!(app.sent_to(PAGERDUTY).len(), 1);
    app.pass(HOUR_MS);
    assert_eq!(app.sent_to(PAGERDUTY).len(), 4);
    app.enqueue(&resolve("ntf_2", "inc_1"));
    app.pass(DAY_MS);
    assert_eq!(app.sent_to(PAGERDUTY).len(), 5);
    let states: Vec<Value> = app.deliveries(&id).iter().map(|d| d["state"].clone()).collect();
    assert_eq!(states, ["delivered", "failed"]);
}

#[test]
fn a_receiver_that_is_gone_is_disabled_and_the_others_are_told_once() {
    let app = TestApp::seeded();
    app.platform.outbound.script(HOOK, Script::Status(410, 1.0));
    app.platform.outbound.script(SLACK, Script::Status(200, 1.0));
    app.platform.outbound.script(PAGERDUTY, Script::Status(202, 1.0));
    let (hook, pager) = (app.channel(webhook()), app.channel(pagerduty()));
    app.channel(slack());
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.enqueue(&trigger("ntf_2", "inc_2"));
    app.pass(DAY_MS);
    let path = api(&format!("/channels/{hook}"));
    let shown = app.read(&path);
    assert_eq!(shown["enabled"], true);
    assert!(shown["disabled_reason"].as_str().unwrap().contains("410"), "{shown}");
    assert!(shown["disabled_at"].is_string());
    let tag = app.get(&path).bearer(&app.admin()).send().headers["etag"].clone();
    assert!(tag.ends_with(".disabled\""), "{tag}");
    assert!(app.deliveries(&hook).iter().all(|delivery| delivery["state"] == "failed"));
    let failing = || -> Vec<Value> {
        let sent = app.sent_to(PAGERDUTY);
        sent.iter()
            .map(body)
            .filter(|event| event["payload"]["class"] == "delivery_failing")
            .collect()
    };
    assert_eq!(
        failing().len(),
        1,
        "one per channel and episode, however urgent a channel wants it"
    );
    assert_eq!(failing()[0]["payload"]["severity"], "critical");
    app.enqueue(&trigger("ntf_3", "inc_3"));
    app.pass(MINUTE_MS);
    assert!(app.sent_to(HOOK).len() <= 2, "nothing is sent to it any more");
    let before = app.sent_to(HOOK).len();
    assert_eq!(app.test_channel(&hook).problem(409), "conflict");
    // Any change of it is another chance, and the end of the alert.
    app.platform.outbound.script(HOOK, Script::Status(200, 1.0));
    let patch = app.patch(&path).bearer(&app.admin()).header("if-match", &tag).json(json!({}));
    assert_eq!(patch.send().expect(200)["disabled_reason"], Value::Null);
    assert_eq!(app.read(&path)["disabled_reason"], Value::Null);
    app.enqueue(&trigger("ntf_4", "inc_4"));
    app.pass(MINUTE_MS);
    // inc_4, and the end of the alert is not for it: it was not told of it.
    assert_eq!(app.sent_to(HOOK).len(), before + 1);
    let actions: Vec<Value> = failing().iter().map(|event| event["event_action"].clone()).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert_eq!(failing()[0]["dedup_key"], failing()[1]["dedup_key"]);
    // Another episode.
    app.platform.outbound.script(HOOK, Script::Status(410, 1.0));
    app.enqueue(&trigger("ntf_5", "inc_5"));
    app.pass(MINUTE_MS);
    assert_eq!(failing().len(), 3);
    assert_ne!(failing()[2]["dedup_key"], failing()[1]["dedup_key"]);
    assert_eq!(app.figures(&pager).waiting, 0);
}

#[test]
fn a_test_is_one_call_whose_outcome_is_the_answer() {
    let app = TestApp::unticked();
    let steps = [Script::Status(204, 12.5), Script::Status(500, 3.0)];
    app.platform.outbound.script(HOOK, Script::Sequence(steps.to_vec()));
    app.platform.outbound.script(SLACK, Script::Status(200, 1.0));
    let id = app.channel(webhook());
    app.channel(slack());
    let tested = app.test_channel(&id).expect(200);
    assert_eq!((&tested["state"], &tested["kind"]), (&json!("delivered"), &json!("test")));
    assert_eq!(tested["attempts"][0]["status"], 204);
    assert_eq!(tested["attempts"][0]["latency_ms"], 12.5);
    assert_eq!(body(&app.sent_to(HOOK)[0])["type"], "channel.test");
    let failed = app.test_channel(&id).expect(200);
    assert_eq!(
        (&failed["state"], &failed["attempts"][0]["status"]),
        (&json!("failed"), &json!(500))
    );
    app.pass(DAY_MS);
    assert_eq!((app.sent_to(HOOK).len(), app.sent_to(SLACK).len()), (2, 0));
    // Repeated with its key, it is not sent again.
    let path = api(&format!("/channels/{id}/test"));
    let keyed = || app.post(&path).bearer(&app.admin()).header("idempotency-key", "k").send();
    let first = keyed();
    let again = keyed();
    assert_eq!((again.headers["idempotency-replayed"].as_str(), again.text), ("true", first.text));
    assert_eq!(app.sent_to(HOOK).len(), 3);
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM activity WHERE event = 'channel.tested'"), 3);
}

#[test]
fn deliveries_are_listed_page_by_page() {
    let app = TestApp::seeded();
    app.platform.outbound.script(HOOK, Script::Status(200, 1.0));
    let id = app.channel(webhook());
    for index in 0..5 {
        app.enqueue(&trigger(&format!("ntf_{index}"), &format!("inc_{index}")));
    }
    app.pass(SECOND_MS);
    let path = api(&format!("/channels/{id}/deliveries"));
    let (mut query, mut seen) = ("?limit=2".to_owned(), Vec::new());
    loop {
        let page = app.get(&format!("{path}{query}")).bearer(&app.admin()).send();
        let all = page.json["deliveries"].as_array().unwrap().clone();
        seen.extend(all.iter().map(|d| d["notification_id"].as_str().unwrap().to_owned()));
        let Some(next) = page.json["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
        let link = format!("<{path}{query}>; rel=\"next\"");
        assert_eq!(page.headers["link"], link);
    }
    assert_eq!(seen, ["ntf_4", "ntf_3", "ntf_2", "ntf_1", "ntf_0"]);
}

// ---- whatever happens ----

#[derive(Clone, Debug)]
enum Step {
    /// Of this incident, what comes next: it opens, is seen to, ends.
    Next(u8),
    Answer(u8, u16),
    Silence(u8),
    Pass(i64),
    Evict,
    Interrupt,
    /// The alarm is forgotten: the tick brings it back.
    LoseAlarm,
    Tick,
    Test,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..4).prop_map(Step::Next),
        3 => (0_u8..3, prop_oneof![Just(200_u16), Just(202), Just(500), Just(429), Just(301), Just(400)])
            .prop_map(|(to, status)| Step::Answer(to, status)),
        1 => (0_u8..3).prop_map(Step::Silence),
        3 => (1_i64..HOUR_MS).prop_map(Step::Pass),
        1 => (1_i64..8 * HOUR_MS).prop_map(Step::Pass),
        1 => Just(Step::Evict),
        2 => Just(Step::Interrupt),
        1 => Just(Step::LoseAlarm),
        1 => Just(Step::Tick),
        1 => Just(Step::Test),
    ];
    prop::collection::vec(step, 1..40)
}

const URLS: [&str; 3] = [HOOK, SLACK, PAGERDUTY];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn everything_arrives_in_order_or_is_given_up_under_one_id(steps in steps()) {
        let app = TestApp::seeded();
        let channels = [
            app.channel(webhook()),
            app.channel(json!({ "kind": "slack", "name": "s", "min_severity": "info", "url": SLACK })),
            app.channel(pagerduty()),
        ];
        let mut said: BTreeMap<u8, Vec<Notification>> = BTreeMap::new();
        let mut generation = 0;
        for step in steps {
            match step {
                Step::Next(incident) => {
                    let known = said.entry(incident).or_default();
                    let kind = match known.len() % 3 {
                        0 => NotificationKind::Triggered,
                        1 => NotificationKind::Acknowledged,
                        _ => NotificationKind::Resolved,
                    };
                    // What ended begins again under another id.
                    let incident_id = format!("inc_{incident}_{}", known.len() / 3);
                    generation += 1;
                    let next = news(&format!("ntf_{generation}"), &incident_id, kind, Severity::Critical);
                    app.enqueue(&next);
                    known.push(next);
                }
                Step::Answer(to, status) => {
                    app.platform.outbound.script(URLS[usize::from(to)], Script::Status(status, 1.0));
                }
                Step::Silence(to) => app.platform.outbound.script(URLS[usize::from(to)], Script::Hangs),
                Step::Pass(ms) => app.pass(ms),
                Step::Evict => app.platform.objects.evict_all(),
                Step::Interrupt => app.interrupt(),
                Step::LoseAlarm => app.platform.objects.forget_alarms(),
                Step::Tick => app.next_minute(),
                Step::Test => {
                    app.test_channel(&channels[0]).expect(200);
                }
            }
        }
        app.tick();
        // Three of one incident, one after the other, each tried ten times.
        app.pass(12 * DAY_MS);
        for (channel, url) in channels.iter().zip(URLS) {
            let deliveries = app.deliveries(channel);
            let sent = app.sent_to(url);
            for known in said.values() {
                let mut ends = Vec::new();
                for news in known {
                    let of: Vec<&Value> =
                        deliveries.iter().filter(|d| d["notification_id"] == news.id.as_str()).collect();
                    prop_assert_eq!(of.len(), 1, "written down once: {} to {}", news.id, url);
                    let state = of[0]["state"].as_str().unwrap();
                    prop_assert!(["delivered", "failed"].contains(&state), "{state}");
                    let attempts = of[0]["attempts"].as_array().unwrap();
                    prop_assert!((1..=10).contains(&attempts.len()));
                    let last = &attempts[attempts.len() - 1];
                    prop_assert_eq!(last["failure"].is_null(), state == "delivered");
                    let first_at = attempts[0]["at"].as_str().unwrap().to_owned();
                    ends.push((news.incident_id.clone(), first_at, last["at"].as_str().unwrap().to_owned()));
                }
                for pair in ends.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                    prop_assert!(pair[0].2 <= pair[1].1, "out of order: {pair:?}");
                }
            }
            let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for request in &sent {
                let said = body(request);
                let (news, id) = match url {
                    HOOK => (said["data"]["notification_id"].clone(), header(request, "webhook-id")),
                    PAGERDUTY => (said["payload"]["custom_details"]["notification_id"].clone(), said["dedup_key"].to_string()),
                    _ => continue,
                };
                ids.entry(news.as_str().unwrap().to_owned()).or_default().insert(id);
            }
            for (news, ids) in ids {
                prop_assert_eq!(ids.len(), 1, "{} has {:?}", news, ids);
            }
            prop_assert_eq!(app.figures(channel).waiting, 0);
        }
    }
}

/// What happens to the data and to the channels at once.
#[derive(Clone, Debug)]
enum Turn {
    Data(incidents::Step),
    /// Somebody does this to the incident that is open the longest.
    Act(&'static str),
    Answer(u8, u16),
    Silence(u8),
    Pass(i64),
    Interrupt,
    LoseAlarm,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        8 => incidents::step().prop_map(Turn::Data),
        1 => prop_oneof![Just("acknowledge"), Just("resolve")].prop_map(Turn::Act),
        2 => (0_u8..3, prop_oneof![Just(200_u16), Just(202), Just(500), Just(429), Just(400)])
            .prop_map(|(to, status)| Turn::Answer(to, status)),
        1 => (0_u8..3).prop_map(Turn::Silence),
        3 => (1..2 * MINUTE_MS).prop_map(Turn::Pass),
        1 => Just(Turn::Interrupt),
        1 => Just(Turn::LoseAlarm),
    ];
    prop::collection::vec(turn, 20..120)
}

fn turn(app: &TestApp, turn: Turn) {
    let outbound = &app.platform.outbound;
    match turn {
        Turn::Data(step) => incidents::take(app, step),
        Turn::Act(what) => {
            let open = app.read(&api("/incidents?state=open"));
            let Some(oldest) = open["incidents"].as_array().unwrap().last() else { return };
            let path = api(&format!("/incidents/{}/{what}", oldest["id"].as_str().unwrap()));
            app.post(&path).bearer(&app.admin()).send().expect(200);
        }
        Turn::Answer(to, status) => {
            outbound.script(URLS[usize::from(to)], Script::Status(status, 1.0));
        }
        Turn::Silence(to) => outbound.script(URLS[usize::from(to)], Script::Hangs),
        Turn::Pass(ms) => app.pass(ms),
        Turn::Interrupt => app.interrupt(),
        Turn::LoseAlarm => app.platform.objects.forget_alarms(),
    }
}

/// What people are told of an incident, by its timeline.
fn to_be_told(app: &TestApp, incident: &Value) -> Vec<&'static str> {
    let story = app.read(&api(&format!("/incidents/{}", incident["id"].as_str().unwrap())));
    let told = |entry: &Value| match entry["kind"].as_str().unwrap() {
        "opened" | "escalated" => Some("triggered"),
        "acknowledged" => Some("acknowledged"),
        "resolved" => Some("resolved"),
        _ => None,
    };
    story["timeline"].as_array().unwrap().iter().filter_map(told).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// From the data to the receivers: of a cause one incident is open at a
    /// time, all of them end when the data is good, and each channel is told
    /// once and in order of all that happened to each, under one key.
    #[test]
    fn whatever_happens_to_incidents_is_told_once(turns in turns()) {
        let app = incidents::one_partnership_that_is_well();
        let channels = [
            app.channel(webhook()),
            app.channel(json!({ "kind": "slack", "name": "s", "min_severity": "info", "url": SLACK })),
            app.channel(json!({ "kind": "pagerduty", "name": "p", "min_severity": "info", "routing_key": ROUTING_KEY })),
        ];
        for next in turns {
            turn(&app, next);
            let open = app.read(&api("/incidents?state=open"))["incidents"].as_array().unwrap().clone();
            let causes: BTreeSet<String> = open.iter().map(cause).collect();
            prop_assert_eq!(causes.len(), open.len(), "{:#?}", open);
        }
        incidents::recover(&app);
        URLS.iter().for_each(|url| app.platform.outbound.script(url, Script::Status(202, 1.0)));
        // Long enough for every pause, and for every window to forget; then
        // the minute comes in which a backup is written.
        app.tick();
        app.pass(12 * DAY_MS);
        for _ in 0..64 {
            app.next_minute();
            app.pass(0);
        }
        prop_assert_eq!(&app.read(&api("/incidents?state=open"))["incidents"], &json!([]));

        let all = app.read(&api("/incidents?limit=200"))["incidents"].as_array().unwrap().clone();
        let deliveries = channels.each_ref().map(|channel| app.deliveries(channel));
        for incident in &all {
            let id = incident["id"].as_str().unwrap();
            let expected = to_be_told(&app, incident);
            prop_assert_eq!((expected[0], expected[expected.len() - 1]), ("triggered", "resolved"));
            prop_assert_eq!(expected.iter().filter(|kind| **kind == "resolved").count(), 1);
            for (deliveries, url) in deliveries.iter().zip(URLS) {
                let of: Vec<&Value> = deliveries.iter().filter(|d| d["incident_id"] == id).collect();
                // A channel is not told of its own failures.
                if of.is_empty() && incident["rule"] == "delivery_failing" {
                    continue;
                }
                let kinds: Vec<&str> = of.iter().map(|d| d["kind"].as_str().unwrap()).collect();
                prop_assert_eq!(&kinds, &expected, "{} to {}", cause(incident), url);
                for delivery in &of {
                    let state = delivery["state"].as_str().unwrap();
                    let attempts = delivery["attempts"].as_array().unwrap();
                    let is_bad = url == PAGERDUTY && attempts[attempts.len() - 1]["status"] == 400;
                    let is_lost = state != "delivered" && attempts.len() < 10 && !is_bad;
                    prop_assert!(!is_lost, "{delivery}");
                }
                // As it came in: one after the other, the same again at most.
                let news: Vec<&str> = of.iter().map(|d| d["notification_id"].as_str().unwrap()).collect();
                prop_assert_eq!(news.iter().collect::<BTreeSet<_>>().len(), news.len());
                let mut came: Vec<String> = Vec::new();
                for request in app.sent_to(url) {
                    let said = body(&request);
                    let (notification, key) = match url {
                        HOOK => (&said["data"]["notification_id"], header(&request, "webhook-id")),
                        PAGERDUTY => (
                            &said["payload"]["custom_details"]["notification_id"],
                            said["dedup_key"].as_str().unwrap().to_owned(),
                        ),
                        _ => continue,
                    };
                    let notification = notification.as_str().unwrap().to_owned();
                    if news.contains(&notification.as_str()) {
                        match url {
                            PAGERDUTY => prop_assert_eq!(key, id, "the key of the incident"),
                            _ => prop_assert_eq!(key, message_id(&notification, &channels[0])),
                        }
                        came.push(notification);
                    }
                }
                came.dedup();
                prop_assert!(url == SLACK || came == news, "{came:?}, {news:?}");
            }
        }
        let ids: BTreeSet<&str> = all.iter().map(|i| i["id"].as_str().unwrap()).collect();
        for (deliveries, channel) in deliveries.iter().zip(&channels) {
            prop_assert!(deliveries.len() < 200, "more than a page");
            let of_none = deliveries.iter().find(|d| !ids.contains(d["incident_id"].as_str().unwrap()));
            prop_assert!(of_none.is_none(), "{of_none:?}");
            prop_assert_eq!(app.figures(channel).waiting, 0);
        }
    }
}

#[test]
fn what_an_eviction_interrupts_is_tried_again() {
    let app = TestApp::seeded();
    let id = app.channel(webhook());
    app.platform.outbound.script(HOOK, Script::Status(200, 1.0));
    app.enqueue(&trigger("ntf_1", "inc_1"));
    // The call goes out and nobody is there any more when the answer comes.
    app.interrupt();
    assert_eq!(app.sent_to(HOOK).len(), 1);
    let waiting = app.deliveries(&id)[0].clone();
    assert_eq!(waiting["state"], "waiting");
    assert_eq!(waiting["attempts"][0]["failure"], Value::Null, "nothing is known of it");
    app.next_minute();
    app.pass(MINUTE_MS);
    let delivery = app.deliveries(&id)[0].clone();
    assert_eq!(delivery["state"], "delivered");
    let failures: Vec<&Value> =
        delivery["attempts"].as_array().unwrap().iter().map(|a| &a["failure"]).collect();
    assert_eq!(failures, [&json!("interrupted"), &Value::Null]);
    let sent = app.sent_to(HOOK);
    assert_eq!(sent.len(), 2);
    assert_eq!(header(&sent[0], "webhook-id"), header(&sent[1], "webhook-id"));
}

#[test]
fn five_calls_are_under_way_at_once() {
    let app = TestApp::seeded();
    let id = app.channel(webhook());
    for index in 0..8 {
        app.enqueue(&trigger(&format!("ntf_{index}"), &format!("inc_{index}")));
    }
    app.interrupt();
    assert_eq!(app.sent_to(HOOK).len(), 5);
    // No line is free before the leases have passed, and the alarm knows it.
    app.platform.outbound.script(HOOK, Script::Status(200, 1.0));
    let before = app.platform.clock.now_ms();
    app.outbox(Command::States);
    assert_eq!(app.platform.objects.next_alarm_ms(), Some(before + 15 * SECOND_MS));
    app.pass(MINUTE_MS);
    assert_eq!(app.sent_to(HOOK).len(), 13);
    let figures = app.figures(&id);
    assert_eq!((figures.delivered, figures.failed_attempts, figures.waiting), (8, 5, 0));
}

#[test]
fn what_changes_while_a_call_is_under_way_is_not_overwritten() {
    let app = TestApp::unticked();
    let id = app.channel(webhook());
    let path = api(&format!("/channels/{id}"));
    let patch = |body: Value| app.patch(&path).bearer(&app.admin()).json(body).send().expect(200);
    // Given up meanwhile: the failure does not bring it back.
    app.platform.outbound.script(HOOK, Script::Status(500, 1.0));
    app.enqueue(&trigger("ntf_1", "inc_1"));
    app.while_under_way(|| drop(patch(json!({ "enabled": false }))));
    let delivery = &app.deliveries(&id)[0];
    assert_eq!(
        (&delivery["state"], &delivery["given_up"]),
        (&json!("failed"), &json!("the channel is disabled"))
    );
    assert_eq!(delivery["next_attempt_at"], Value::Null);
    assert_eq!(delivery["attempts"][0]["next_attempt_at"], Value::Null);
    patch(json!({ "enabled": true }));
    app.pass(DAY_MS);
    assert_eq!(app.sent_to(HOOK).len(), 1, "what was given up is not taken up by itself");
    // But what arrived has arrived.
    app.platform.outbound.script(HOOK, Script::Status(200, 1.0));
    app.enqueue(&trigger("ntf_2", "inc_2"));
    app.while_under_way(|| drop(patch(json!({ "enabled": false }))));
    let delivery = &app.deliveries(&id)[1];
    assert_eq!((&delivery["state"], &delivery["given_up"]), (&json!("delivered"), &Value::Null));
    patch(json!({ "enabled": true }));
    // A 410 of before the change disables nothing.
    app.platform
        .outbound
        .script(HOOK, Script::Sequence(vec![Script::Status(410, 1.0), Script::Status(200, 1.0)]));
    app.enqueue(&trigger("ntf_3", "inc_3"));
    app.while_under_way(|| drop(patch(json!({ "name": "Other" }))));
    assert_eq!(app.read(&path)["disabled_reason"], Value::Null);
    app.pass(MINUTE_MS);
    assert_eq!(app.deliveries(&id)[2]["state"], "delivered");
}

#[test]
fn an_incident_is_told_to_the_channels_of_its_tenant() {
    let app = TestApp::seeded();
    app.platform.outbound.script(HOOK, Script::Status(200, 1.0));
    let id = app.channel(webhook());
    // Nobody ticks any more: the object that watches the tick says so itself.
    app.pass(5 * MINUTE_MS);
    let told: Vec<Value> = app.sent_to(HOOK).iter().map(body).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["type"], "incident.triggered");
    assert_eq!(told[0]["data"]["rule"], "tick_late");
    app.tick();
    app.pass(SECOND_MS);
    let last = body(app.sent_to(HOOK).last().unwrap());
    assert_eq!(last["type"], "incident.resolved");
    assert_eq!(last["data"]["incident_id"], told[0]["data"]["incident_id"]);
    assert_eq!(app.figures(&id).delivered, 2);
}

/// Trace and span of a `traceparent`, which is well-formed.
#[track_caller]
fn trace_and_span(sent: &OutboundRequest) -> (String, String) {
    let parent = header(sent, "traceparent");
    let parts: Vec<&str> = parent.split('-').collect();
    let ["00", trace, span, "01"] = parts[..] else { panic!("{}: {parent:?}", sent.url) };
    for (id, length) in [(trace, 32), (span, 16)] {
        assert!(id.len() == length && id.bytes().all(|b| b.is_ascii_hexdigit()), "{parent}");
        assert!(id.bytes().any(|b| b != b'0'), "{parent}");
    }
    (trace.to_owned(), span.to_owned())
}

#[test]
fn every_call_is_a_span_of_its_own_in_the_trace_of_its_cause() {
    const CONTROL: &str = "https://example.com/";
    let app = TestApp::unticked();
    let steps = [Script::Status(500, 1.0), Script::Status(200, 1.0)];
    app.platform.outbound.script(HOOK, Script::Sequence(steps.to_vec()));
    app.channel(webhook());
    let given = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let post = |path: &str| {
        app.post(&api(path)).bearer(&app.admin()).header("traceparent", &given).send().expect(200)
    };
    // Nothing outside answers: the tick asks probes and control targets, and
    // tells of it; told again, it is the same trace.
    app.tick();
    app.pass(MINUTE_MS);
    let logged = app.platform.log.lines().into_iter().find(|line| line.contains("job tick"));
    let logged: Value = serde_json::from_str(&logged.unwrap()).unwrap();
    let mut spans = BTreeSet::new();
    let mut calls_in = |trace: &Value, calls: &[OutboundRequest]| {
        for sent in calls {
            let (id, span) = trace_and_span(sent);
            assert_eq!(&json!(id), trace, "{}", sent.url);
            assert!(spans.insert(span), "{}: a span of another call", sent.url);
        }
    };
    let told = app.sent_to(HOOK);
    assert_eq!(told.len(), 2);
    assert_eq!(header(&told[0], "webhook-id"), header(&told[1], "webhook-id"));
    calls_in(&logged["trace.id"], &app.platform.outbound.sent());
    assert!(!app.sent_to(CONTROL).is_empty() && !app.sent_to(CURSOR_PROBE).is_empty());
    // What a request causes is in the trace of that request.
    let before = app.platform.outbound.sent().len();
    let incident = body(&told[0])["data"]["incident_id"].as_str().unwrap().to_owned();
    post(&format!("/incidents/{incident}/acknowledge"));
    app.pass(SECOND_MS);
    post(&format!("/incidents/{incident}/resolve"));
    app.pass(SECOND_MS);
    let channel = app.read(&api("/channels"))["channels"][0]["id"].as_str().unwrap().to_owned();
    post(&format!("/channels/{channel}/test"));
    let status = app.get(&api("/status")).bearer(&app.admin()).header("traceparent", &given);
    status.send().expect(200);
    let caused = app.platform.outbound.sent().split_off(before);
    let kinds: Vec<Value> =
        app.sent_to(HOOK).iter().map(|sent| body(sent)["type"].clone()).collect();
    let expected = ["incident.acknowledged", "incident.resolved", "channel.test"];
    assert_eq!(kinds[2..], expected.map(|kind| json!(kind)));
    assert_eq!(caused.last().unwrap().url, CONTROL);
    calls_in(&json!(TRACE), &caused);
    // What nobody asked for begins one: no tick comes any more.
    app.pass(5 * MINUTE_MS);
    let late = app.sent_to(HOOK).pop().unwrap();
    assert_eq!(body(&late)["data"]["rule"], "tick_late");
    let (trace, _) = trace_and_span(&late);
    assert!(json!(trace) != logged["trace.id"] && trace != TRACE);
}

#[test]
fn a_channel_that_takes_nothing_is_one_incident_until_it_takes_something() {
    let app = TestApp::seeded();
    app.platform.outbound.script(HOOK, Script::Status(500, 1.0));
    app.platform.outbound.script(SLACK, Script::Status(200, 1.0));
    app.channel(webhook());
    app.channel(slack());
    app.enqueue(&trigger("ntf_1", "inc_1"));
    let failing = || -> Vec<Value> {
        let all = app.read(&api("/incidents"))["incidents"].as_array().unwrap().clone();
        all.into_iter().filter(|incident| incident["rule"] == "delivery_failing").collect()
    };
    let minutes = |count: usize| {
        (0..count).for_each(|_| {
            app.pass(MINUTE_MS);
            app.tick();
        })
    };
    minutes(14);
    assert_eq!(failing().len(), 0);
    minutes(2);
    assert_eq!(failing().len(), 1);
    // Only the other one is told of it.
    let told = |url: &str| {
        app.sent_to(url)
            .iter()
            .filter(|r| body(r).to_string().contains("takes no notifications"))
            .count()
    };
    assert_eq!((told(HOOK), told(SLACK)), (0, 1));
    // Given up is not mended.
    app.pass(4 * DAY_MS);
    app.tick();
    assert_eq!(failing()[0]["state"], "open");
    app.platform.outbound.script(HOOK, Script::Status(200, 1.0));
    app.enqueue(&trigger("ntf_2", "inc_2"));
    minutes(1);
    assert_eq!((failing().len(), &failing()[0]["state"]), (1, &json!("resolved")));
}

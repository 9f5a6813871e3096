//! `/decisions` and `/policies`: three kinds of question, receipts that can be
//! checked by anybody, and rules that are data.

use crate::support::{API, NOW, OTHER_TENANT, TestApp, TestReply};
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::decision::receipt;
use devskyy_orchestration::domain::time::{DAY_MS, MINUTE_MS};
use devskyy_orchestration::platform::native::Script;
use serde_json::{Value, json};

fn path(of: &str) -> String {
    format!("{API}{of}")
}

fn ask(app: &TestApp, context: &Value) -> TestReply {
    let body = json!({ "context": context });
    app.post(&path("/decisions")).bearer(&app.admin()).json(body).send()
}

#[track_caller]
fn decide(app: &TestApp, context: &Value) -> Value {
    ask(app, context).expect(200)
}

#[track_caller]
fn post(app: &TestApp, to: &str, body: Value) -> TestReply {
    app.post(&path(to)).bearer(&app.admin()).json(body).send()
}

fn id(decision: &Value) -> &str {
    decision["decision_id"].as_str().unwrap()
}

fn strategy() -> Value {
    json!({ "business_goal": "improve_reliability", "timeframe": "Q1_2026", "budget": 50_000 })
}

fn choice() -> Value {
    let option = |id: &str, price: f64| {
        let uptime = format!("{id}.metrics.uptime");
        json!({ "id": id, "values": { "uptime": uptime, "price": price } })
    };
    json!({
        "options": [option("cursor", 40.0), option("claude", 55.0)],
        "criteria": [
            { "id": "uptime", "direction": "max", "weight": 7, "bounds": [90, 100] },
            { "id": "price", "direction": "min", "weight": 3, "bounds": [0, 100] },
        ],
    })
}

/// An hour of ticks; one of the partners may be down all the while.
fn after_an_hour(sick: Option<&str>) -> TestApp {
    let app = TestApp::seeded();
    app.outside_reachable();
    if let Some(url) = sick {
        app.platform.outbound.script(url, Script::Status(503, 20.0));
    }
    for _ in 0..60 {
        app.next_minute();
    }
    app
}

const GROK: &str = "https://api.x.ai/v1/models";

#[test]
fn a_sick_partner_changes_what_should_be_done() {
    let well = decide(&after_an_hour(None), &strategy());
    assert_eq!((&well["kind"], &well["decision"]), (&json!("strategy"), &json!("MAINTAIN_COURSE")));
    let app = after_an_hour(Some(GROK));
    let sick = decide(&app, &strategy());
    assert_ne!(sick["decision"], "MAINTAIN_COURSE", "{}", sick["rationale"]);
    assert_eq!(sick["ranking"][0]["target"], "grok_brand", "{}", sick["rationale"]);
    assert_eq!(sick["abstained"], false);
    let days: f64 = sick["implementation_plan"]
        .as_array()
        .unwrap()
        .iter()
        .map(|phase| phase["duration_days"].as_f64().unwrap())
        .sum();
    // From 13:00 on 31 January to the end of March.
    assert!((days - 59.4583).abs() < 1e-3, "{days}");
    let facts = sick["evidence"].as_array().unwrap();
    let uptime = facts.iter().find(|fact| fact["id"] == "grok_brand.score").unwrap();
    assert_eq!(uptime["state"], "used", "{uptime}");
    assert!(uptime["age_s"].as_i64().unwrap() <= 60, "{uptime}");
}

#[test]
fn live_metrics_decide_a_choice() {
    let app = after_an_hour(None);
    let decision = decide(&app, &choice());
    assert_eq!(decision["decision"], "cursor", "{}", decision["rationale"]);
    assert_eq!(decision["kind"], "choice");
    // By the full name, with what a sceptic asks of it.
    let facts = decision["evidence"].as_array().unwrap();
    let uptime = facts.iter().find(|fact| fact["id"] == "cursor_technical.metrics.uptime").unwrap();
    assert_eq!((&uptime["value"], &uptime["n"]), (&json!(100.0), &json!(61)));
    assert!(uptime["interval"].is_array() && uptime["source"] == "probe", "{uptime}");

    let mut unknown = choice();
    unknown["options"][1]["values"]["uptime"] = json!("claude.metrics.mood");
    let reply = ask(&app, &unknown);
    assert_eq!(reply.problem(422), "validation_failed");
    assert_eq!(reply.pointers(), ["#/context/options/1/values/uptime"]);
    assert!(reply.text.contains("response_time_p95"), "it says what there is: {}", reply.text);
    unknown["options"][1]["values"]["uptime"] = json!("nobody.metrics.uptime");
    let reply = ask(&app, &unknown);
    reply.problem(422);
    assert!(reply.text.contains("claude_strategic"), "{}", reply.text);
}

#[test]
fn thin_evidence_is_no_evidence() {
    // One tick: one observation each.
    let app = TestApp::seeded();
    let decision = decide(&app, &choice());
    assert_eq!(decision["decision"], "INSUFFICIENT_DATA");
    assert_eq!(decision["abstained"], true);
    let next = decision["next_best_measurement"]["fact"].as_str().unwrap();
    assert!(next.ends_with(".metrics.uptime"), "{next}");
    let thin = decision["evidence"].as_array().unwrap();
    assert!(thin.iter().any(|fact| fact["state"] == "thin"), "{thin:#?}");
}

#[test]
fn what_is_wrong_is_pointed_at_in_each_kind() {
    let app = TestApp::seeded();
    for (context, pointer) in [
        (
            json!({ "business_goal": "world_peace", "timeframe": "Q1_2026", "budget": 1 }),
            "business_goal",
        ),
        (json!({ "business_goal": "grow_brand", "timeframe": "Q1_2026" }), "budget"),
        (json!({ "business_goal": "grow_brand", "timeframe": "Q1_2026", "budget": 0 }), "budget"),
        (
            json!({ "business_goal": "grow_brand", "timeframe": "Q4_2020", "budget": 1 }),
            "timeframe",
        ),
        (
            json!({ "business_goal": "grow_brand", "timeframe": "Q1_2026", "budget": 1, "estimated_cost": 5 }),
            "estimated_cost",
        ),
        (json!({ "options": [] , "criteria": [] }), "options"),
        (
            json!({ "options": [{ "id": "a", "values": { "x": true } }], "criteria": [] }),
            "options/0/values/x",
        ),
        (
            json!({ "options": [{ "id": "a", "values": {} }], "criteria": [{ "id": "x", "direction": "max", "weight": 1, "bounds": [1, 1] }] }),
            "criteria/0/bounds",
        ),
        (json!({ "estimated_costs": 5 }), "estimated_costs"),
    ] {
        let reply = ask(&app, &context);
        reply.problem(422);
        let expected = format!("#/context/{pointer}");
        assert!(reply.pointers().contains(&expected.as_str()), "{context}: {}", reply.text);
    }
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM decisions"), 0);
}

/// The record of a decision, and the keys to check it with.
#[test]
fn a_time_frame_is_short() {
    let app = TestApp::seeded();
    let mut question = strategy();
    for (digits, status) in [(9, 200), (90, 422)] {
        let fraction = "0".repeat(digits);
        question["timeframe"] = json!(format!("2026-01-01T00:00:00.{fraction}Z/P90D"));
        assert_eq!(ask(&app, &question).status, status, "{digits}");
    }
}

fn handed_out(app: &TestApp, decision: &str) -> (String, String) {
    let record = app.get(&path(&format!("/decisions/{decision}"))).bearer(&app.admin()).send();
    assert_eq!(record.status, 200, "{}", record.text);
    (record.text, app.get("/.well-known/receipt-keys.json").send().text)
}

#[test]
fn anybody_can_check_a_receipt_and_nobody_can_change_one() {
    let app = after_an_hour(Some(GROK));
    for context in [strategy(), choice(), json!({ "estimated_cost": 100, "expected_revenue": 350 })]
    {
        let made = decide(&app, &context);
        let (record, keys) = handed_out(&app, id(&made));
        let verified = receipt::verify(&record, &keys).unwrap();
        assert!(verified.valid, "{verified:#?}");

        let record: Value = serde_json::from_str(&record).unwrap();
        let failing = |record: &Value, keys: &str| -> Vec<&str> {
            let verified = receipt::verify(&record.to_string(), keys).unwrap();
            assert_eq!(verified.valid, verified.checks.iter().all(|check| check.passed));
            verified.checks.iter().filter(|check| !check.passed).map(|check| check.name).collect()
        };
        let mut forged = record.clone();
        forged["receipt"]["decision"] = json!("SOMETHING_ELSE");
        assert_eq!(failing(&forged, &keys), ["signature", "recomputation"]);
        let mut forged = record.clone();
        forged["receipt"]["author"] = json!("usr_somebody_else");
        assert_eq!(failing(&forged, &keys), ["signature"]);
        let mut forged = record.clone();
        forged["policy_document"]["title"] = json!("Another");
        assert_eq!(failing(&forged, &keys), ["policy"]);
        let mut forged = record.clone();
        forged["signature"] = Value::Null;
        assert_eq!(failing(&forged, &keys), ["signature"]);
        assert_eq!(failing(&record, r#"{"keys":[]}"#), ["signature"]);
        // A narrative is nobody's evidence.
        let mut told = record.clone();
        told["narrative"] = json!({ "text": "lies" });
        assert!(failing(&told, &keys).is_empty());
    }
}

/// `tests/receipts.json`, which `make generate` writes; the Worker and the npm
/// package are asked the same.
#[test]
fn the_kept_receipts_come_out_the_same_to_the_last_bit() {
    let kept: Value = serde_json::from_str(include_str!("../receipts.json")).unwrap();
    let keys = kept["keys"].to_string();
    let mut kinds = std::collections::BTreeSet::new();
    for case in kept["cases"].as_array().unwrap() {
        let record = case["record"].to_string();
        let verified = receipt::verify(&record, &keys).unwrap();
        assert!(verified.valid, "{verified:#?}");
        let other = receipt::what_if_text(&record, &case["changes"].to_string()).unwrap();
        assert_eq!(other, case["what_if"], "{}", case["changes"]);
        kinds.insert(case["record"]["receipt"]["kind"].to_string());
    }
    assert_eq!(kinds.len(), 3);
}

#[test]
fn a_receipt_outlives_the_key_that_signed_it() {
    let mut app = TestApp::seeded();
    let made = decide(&app, &json!({}));
    app.platform.vars.set("SIGNING_KEY_2", "dev:HB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs");
    app.platform.vars.set("SIGNING_KEY_ACTIVE", "2");
    app.platform.vars.remove("SIGNING_KEY");
    app.world.restart();
    let next = decide(&app, &json!({}));
    let jwks = app.get("/.well-known/jwks.json").send().text;
    for decision in [&made, &next] {
        let (record, keys) = handed_out(&app, id(decision));
        assert!(receipt::verify(&record, &keys).unwrap().valid);
        let is_next = decision == &next;
        assert_eq!(receipt::verify(&record, &jwks).unwrap().valid, is_next, "a new key set");
    }
}

#[test]
fn a_replay_comes_out_the_same_whenever_it_is_made() {
    let app = after_an_hour(Some(GROK));
    let made: Vec<Value> =
        [strategy(), choice(), json!({})].iter().map(|context| decide(&app, context)).collect();
    // The partner recovers, a quarter goes by, and another policy is in force.
    app.all_partners(Script::Status(401, 20.0));
    app.platform.clock.advance_ms(90 * DAY_MS);
    app.tick();
    replace_policy(&app, |policy| policy["stability"]["min_share"] = json!(0.99)).expect(200);
    for decision in made {
        let replay = post(&app, &format!("/decisions/{}/replay", id(&decision)), json!(null));
        let replay = replay.expect(200);
        assert_eq!(replay["identical"], true, "{replay:#}");
        assert_eq!(replay["differences"], json!([]));
    }
}

#[test]
fn what_if_changes_nothing_but_what_it_is_told() {
    let app = after_an_hour(Some(GROK));
    let made = decide(&app, &strategy());
    let what_if =
        |changes: Value| post(&app, &format!("/decisions/{}/what-if", id(&made)), changes);
    let same = what_if(json!({})).expect(200);
    assert_eq!(same["changed"], json!([]));
    assert_eq!(same["ranking"], made["ranking"]);
    let healthy = what_if(json!({ "facts": {
        "grok_brand.score": 100, "grok_brand.attainment.availability": 1,
        "grok_brand.slo_budget_remaining": 1,
    } }));
    let healthy = healthy.expect(200);
    assert_eq!(healthy["decision"], "MAINTAIN_COURSE", "{}", healthy["rationale"]);
    let cheap = what_if(json!({ "constraints": [{ "criterion": "cost", "at_most": 0 }] }));
    assert_eq!(cheap.expect(200)["decision"], "MAINTAIN_COURSE");
    for (changes, pointer) in [
        (json!({ "facts": { "nobody.score": 1 } }), "#/facts"),
        (json!({ "weights": { "beauty": 1 } }), "#/weights"),
        (json!({ "weights": { "cost_share": -1 } }), "#/weights"),
        (
            json!({ "constraints": [{ "criterion": "mood", "at_most": 0 }] }),
            "#/constraints/0/criterion",
        ),
        (json!({ "wishes": {} }), "#/wishes"),
    ] {
        let reply = what_if(changes.clone());
        reply.problem(422);
        assert_eq!(reply.pointers(), [pointer], "{changes}");
    }
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM decisions"), 1);
}

#[test]
fn quality_is_no_data_until_somebody_says_what_became_of_it() {
    let app = after_an_hour(Some(GROK));
    let quality = || app.read(&path("/decisions/quality"));
    assert_eq!(quality()["state"], "no_data");
    assert_eq!(quality()["brier"], json!({ "n": 0, "score": null, "ci95": null }));
    let made = decide(&app, &strategy());
    // Of two in one millisecond nobody knows which is the later.
    let outcome = |body: Value| {
        app.platform.clock.advance_ms(1);
        post(&app, &format!("/decisions/{}/outcome", id(&made)), body)
    };

    assert_eq!(outcome(json!({ "outcome": "rejected" })).expect(201)["was_right"], Value::Null);
    assert_eq!(quality()["state"], "no_data");
    let criteria = made["success_criteria"].as_array().unwrap();
    let missed: serde_json::Map<String, Value> = criteria
        .iter()
        .map(|c| {
            (
                c["fact"].as_str().unwrap().to_owned(),
                json!(if c["comparator"] == "at_most" { 1e9 } else { -1e9 }),
            )
        })
        .collect();
    let wrong = outcome(json!({ "outcome": "adopted", "observed": missed })).expect(201);
    assert_eq!(wrong["was_right"], false);
    assert_eq!(quality()["accuracy"]["share"], 0.0);
    let met: serde_json::Map<String, Value> = criteria
        .iter()
        .map(|c| (c["fact"].as_str().unwrap().to_owned(), c["target"].clone()))
        .collect();
    let right = outcome(json!({ "outcome": "adopted", "observed": met, "note": "It held." }));
    assert_eq!(right.expect(201)["was_right"], true);
    // The last word counts, once a decision.
    let now = quality();
    assert_eq!((&now["accuracy"]["n"], &now["accuracy"]["share"]), (&json!(1), &json!(1.0)));
    let confidence = made["confidence"].as_f64().unwrap();
    let expected = (1.0 - confidence) * (1.0 - confidence);
    assert!((now["brier"]["score"].as_f64().unwrap() - expected).abs() < 1e-4, "{now}");
    assert_eq!(now["accuracy_by_kind"]["strategy"]["n"], 1);
    let shown = app.read(&path(&format!("/decisions/{}", id(&made))));
    assert_eq!(shown["outcomes"].as_array().unwrap().len(), 3);
    for bad in
        [json!({ "outcome": "forgotten" }), json!({ "outcome": "adopted", "observed": { "": 1 } })]
    {
        outcome(bad).problem(422);
    }
}

#[test]
fn the_list_can_be_narrowed() {
    let app = after_an_hour(None);
    for context in [strategy(), choice(), json!({})] {
        decide(&app, &context);
        app.platform.clock.advance_ms(MINUTE_MS);
    }
    let kinds = |query: &str| -> Vec<String> {
        let list = app.read(&path(&format!("/decisions?{query}")));
        let rows = list["decisions"].as_array().unwrap().clone();
        rows.iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(""), ["appraisal", "choice", "strategy"]);
    assert_eq!(kinds("kind=choice"), ["choice"]);
    assert_eq!(kinds("decision=MAINTAIN_COURSE"), ["strategy"]);
    assert_eq!(kinds(&format!("author={}", app.user_id())).len(), 3);
    assert_eq!(kinds("author=usr_nobody").len(), 0);
    // 100 characters, whatever they take.
    assert_eq!(kinds(&format!("author={}", "%C3%A4".repeat(100))).len(), 0);
    assert_eq!(kinds("from=2026-01-31T13:02:00Z"), ["appraisal"]);
    assert_eq!(kinds("to=2026-01-31T13:01:00Z"), ["strategy"]);
    for bad in ["kind=guess", "from=yesterday", "kind=choice&kind=choice", "author="] {
        let reply = app.get(&path(&format!("/decisions?{bad}"))).bearer(&app.admin()).send();
        assert_eq!(reply.problem(400), "malformed_request", "{bad}");
    }
}

/// Puts a changed policy in force.
fn replace_policy(app: &TestApp, change: impl FnOnce(&mut Value)) -> TestReply {
    let current = app.get(&path("/policies/standard")).bearer(&app.admin()).send();
    let mut document = current.json["document"].clone();
    change(&mut document);
    app.put(&path("/policies/standard"))
        .bearer(&app.admin())
        .header("if-match", &current.headers["etag"])
        .json(document)
        .send()
}

#[test]
fn another_policy_is_another_version_and_decides_at_once() {
    let app = after_an_hour(Some(GROK));
    let before = decide(&app, &strategy());
    assert_eq!(before["policy"]["version"], 1);
    let changed = replace_policy(&app, |policy| {
        policy["title"] = json!("Nothing but the present course");
        let catalogue = policy["strategy"]["catalogue"].as_array_mut().unwrap();
        catalogue.retain(|option| option["id"] == "MAINTAIN_COURSE");
    });
    let changed = changed.expect(200);
    assert_eq!((&changed["version"], &changed["author"]), (&json!(2), &json!(app.user_id())));
    let after = decide(&app, &strategy());
    assert_eq!(
        after["policy"],
        json!({ "id": "standard", "version": 2, "sha256": changed["sha256"] })
    );
    assert_eq!(after["decision"], "MAINTAIN_COURSE");
    let versions = app.read(&path("/policies/standard/versions"));
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    let first = app.read(&path("/policies/standard/versions/1"));
    assert_eq!(first["sha256"], before["policy"]["sha256"]);
    for gone in
        ["/policies/standard/versions/3", "/policies/standard/versions/x", "/policies/other"]
    {
        app.get(&path(gone)).bearer(&app.admin()).send().problem(404);
    }
}

#[test]
fn a_policy_is_changed_by_who_has_read_it_and_only_into_a_valid_one() {
    let app = TestApp::seeded();
    let document = app.read(&path("/policies/standard"))["document"].clone();
    let put = |etag: Option<&str>, document: &Value| {
        let request = app.put(&path("/policies/standard")).bearer(&app.admin());
        let request =
            etag.into_iter().fold(request, |request, etag| request.header("if-match", etag));
        request.json(document.clone()).send()
    };
    assert_eq!(put(None, &document).problem(428), "precondition_required");
    assert_eq!(put(Some("\"old\""), &document).problem(412), "precondition_failed");
    // Nothing changed: no version.
    replace_policy(&app, |_| {}).expect(200);
    // Some clients write every number with a point.
    replace_policy(&app, |policy| {
        policy["stability"]["draws"] = json!(2000.0);
        policy["evidence"]["kpi"] = json!({ "max_age_s": 3888000.0, "min_n": 1.0 });
    })
    .expect(200);
    let mut bad = document.clone();
    bad["stability"]["draws"] = json!(3);
    bad["strategy"]["criteria"][0]["high"] = json!(-5);
    let reply = put(Some("*"), &bad);
    reply.problem(422);
    assert_eq!(reply.pointers(), ["#/stability/draws", "#/strategy/criteria/0/high"]);
    let mut bad = document.clone();
    bad["strategy"]["goals"]["world_peace"] = json!({});
    put(Some("*"), &bad).problem(422);
    let mut bad = document;
    bad["surprise"] = json!(1);
    let reply = put(Some("*"), &bad);
    reply.problem(422);
    assert_eq!(reply.pointers(), ["#/surprise"]);
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM policies WHERE tenant_id = 'ten_default'"), 1);
}

#[test]
fn a_draft_is_rehearsed_over_what_was_decided() {
    let app = after_an_hour(Some(GROK));
    let made = decide(&app, &strategy());
    decide(&app, &choice());
    let mut draft = app.read(&path("/policies/standard"))["document"].clone();
    let rehearse = |draft: &Value, more: Value| {
        let mut body = json!({ "document": draft, "days": 7 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&app, "/policies/standard/rehearse", body)
    };
    let same = rehearse(&draft, json!({})).expect(200);
    assert_eq!((&same["rehearsed"], &same["unchanged"]), (&json!(2), &json!(2)));
    for weight in
        draft["strategy"]["goals"]["improve_reliability"].as_object_mut().unwrap().values_mut()
    {
        *weight = json!(0);
    }
    draft["strategy"]["goals"]["improve_reliability"]["cost_share"] = json!(1);
    let other = rehearse(&draft, json!({})).expect(200);
    assert_eq!(other["changed"][0]["decision_id"], made["decision_id"]);
    assert_eq!(other["changed"][0]["rehearsed"], "MAINTAIN_COURSE");
    assert!(other["changed"][0]["why"].as_str().unwrap().contains("cost_share"));
    let cut = rehearse(&draft, json!({ "max_decisions": 1 })).expect(200);
    assert_eq!((&cut["rehearsed"], &cut["truncated"]), (&json!(1), &json!(true)));
    let reply = rehearse(&draft, json!({ "days": 0, "max_decisions": 101 }));
    reply.problem(422);
    assert_eq!(reply.pointers(), ["#/days", "#/max_decisions"]);
    // Nothing of it was stored.
    assert_eq!(app.read(&path("/policies/standard"))["version"], 1);
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM decisions"), 2);
}

#[test]
fn a_tenant_from_before_policies_gets_the_one_that_ships() {
    let app = TestApp::seeded();
    app.run("DELETE FROM policies".to_owned());
    let made = decide(&app, &json!({}));
    assert_eq!(made["policy"]["version"], 1);
    assert_eq!(app.read(&path("/policies"))["policies"][0]["author"], "system");
    assert_eq!(app.count("SELECT COUNT(*) AS n FROM policies"), 1);
}

#[test]
fn what_was_decided_before_receipts_is_still_there() {
    let app = TestApp::seeded();
    app.add_decision();
    let shown = app.read(&path("/decisions/dec_target"));
    assert_eq!((&shown["signature"], &shown["policy_document"]), (&Value::Null, &Value::Null));
    let reply = post(&app, "/decisions/dec_target/replay", json!(null));
    assert_eq!(reply.problem(409), "conflict");
    post(&app, "/decisions/dec_target/outcome", json!({ "outcome": "reversed" })).expect(201);
}

#[test]
fn tenants_know_nothing_of_each_others_decisions() {
    let app = TestApp::seeded();
    app.add_other_tenant();
    let made = decide(&app, &json!({}));
    let theirs = app.token_of(OTHER_TENANT, Role::Admin);
    let list = app.get(&path("/decisions")).bearer(&theirs).send().expect(200);
    assert_eq!(list["decisions"], json!([]));
    for (method, of) in [("GET", ""), ("POST", "/replay")] {
        let of = path(&format!("/decisions/{}{of}", id(&made)));
        app.request(method, &of).bearer(&theirs).send().problem(404);
    }
}

// ---- the narrator ----

const NARRATOR: &str = "https://llm.example.com/v1/chat/completions";

fn with_narrator() -> TestApp {
    let mut app = TestApp::seeded();
    app.platform.vars.set("NARRATOR_URL", NARRATOR);
    app.platform.vars.set("NARRATOR_MODEL", "small-1");
    app.platform.vars.set("NARRATOR_KEY", "narrator-key-of-the-tests");
    app.world.restart();
    app
}

#[test]
fn a_narrator_may_retell_a_receipt_and_change_nothing() {
    let plain = decide(&TestApp::seeded(), &json!({}));
    let app = with_narrator();
    let told = r#"{"choices":[{"message":{"content":"It cannot be said yet."}}]}"#;
    app.platform.outbound.script(NARRATOR, Script::Body(200, told.into(), 100.0));
    let made = decide(&app, &json!({}));
    assert_eq!(made["narrative"]["text"], "It cannot be said yet.");
    assert_eq!(
        (&made["narrative"]["model"], &made["narrative"]["written_at"]),
        (&json!("small-1"), &json!("2026-01-31T12:00:00.000Z"))
    );
    assert_eq!(NOW, "2026-01-31T12:00:00Z");
    for field in ["decision", "rationale", "evidence_hash", "policy"] {
        assert_eq!(made[field], plain[field], "{field}");
    }
    let sent = app.platform.outbound.sent();
    let request = sent.iter().find(|request| request.url == NARRATOR).unwrap();
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let receipt: Value =
        serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
    assert_eq!(receipt["decision_id"], made["decision_id"], "the receipt, and nothing else");
    assert!(
        request.headers.contains(&("authorization", "Bearer narrator-key-of-the-tests".to_owned()))
    );
    assert!(request.deadline_ms <= 5_000);
    let (record, keys) = handed_out(&app, id(&made));
    assert!(receipt::verify(&record, &keys).unwrap().valid);
    assert!(!app.platform.log.lines().join("\n").contains("narrator-key"));
}

#[test]
fn without_an_answer_of_the_narrator_all_else_is_the_same() {
    for script in [
        Script::Hangs,
        Script::Refuses,
        Script::Status(500, 5.0),
        Script::Body(200, b"no JSON".to_vec(), 5.0),
        Script::Body(200, vec![b' '; 70_000], 5.0),
    ] {
        let app = with_narrator();
        app.platform.outbound.script(NARRATOR, script.clone());
        let made = decide(&app, &json!({}));
        assert_eq!(made["narrative"], Value::Null, "{script:?}");
        assert_eq!(made["decision"], "INSUFFICIENT_DATA");
        assert_eq!(app.count("SELECT COUNT(*) AS n FROM decisions"), 1);
    }
}

//! The registry through the API: what was agreed is kept as it was said, a
//! change touches what it names, and what is retired is gone but not forgotten.

use crate::support::{API, CURSOR_PROBE, NOW, OTHER_TENANT, TestApp, TestReply};
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::time::{DAY_MS, MINUTE_MS};
use devskyy_orchestration::platform::native::Script;
use devskyy_orchestration::store::registry;
use devskyy_orchestration::store::tenants::DEFAULT_TENANT_ID;
use futures::executor::block_on;
use serde_json::{Map, Value, json};

const SEARCH_PROBE: &str = "https://api.acme-partner.com/health";

fn api(path: &str) -> String {
    format!("{API}{path}")
}

fn create(app: &TestApp, body: Value) -> TestReply {
    app.post(&api("/partnerships")).bearer(&app.admin()).json(body).send()
}

fn patch(app: &TestApp, id: &str, body: Value) -> TestReply {
    app.patch(&api(&format!("/partnerships/{id}"))).bearer(&app.admin()).json(body).send()
}

fn retire(app: &TestApp, id: &str) -> TestReply {
    app.delete(&api(&format!("/partnerships/{id}"))).bearer(&app.admin()).send()
}

fn report(app: &TestApp, id: &str, key: &str, body: Value) -> TestReply {
    let path = api(&format!("/partnerships/{id}/deliverables/{key}"));
    app.put(&path).bearer(&app.admin()).json(body).send()
}

fn status(app: &TestApp, id: &str) -> Value {
    app.read(&api(&format!("/partnerships/{id}/status")))
}

/// A partnership with something in every field.
fn acme() -> Value {
    json!({
        "id": "acme_search", "name": "Search", "partner": "Acme",
        "aliases": ["acme", "search"],
        "status_page_url": "https://status.acme-partner.com/api/v2/summary.json",
        "availability_target_percent": 99.5, "availability_floor_percent": 90.0,
        "latency_target_ms": 250.0, "degraded_counts_as_bad": true,
        "probes": [
            { "key": "api", "url": SEARCH_PROBE, "interval_s": 300, "deadline_ms": 2_000,
              "degraded_above_ms": 500.0, "enabled": true },
            { "key": "web", "url": "https://www.acme-partner.com/", "interval_s": 60,
              "deadline_ms": 10_000, "degraded_above_ms": null, "enabled": false },
        ],
        "kpis": [
            { "name": "recall", "target": 0.95, "unit": "of 1", "direction": "higher", "weight": 2.0 },
            { "name": "delay", "target": 40.0, "unit": "ms", "direction": "lower", "weight": 1.0 },
        ],
        "deliverables": [
            { "key": "crawler", "due_date": "2026-03-31", "weight": 3.0 },
            { "key": "ranking", "due_date": null, "weight": 1.0 },
        ],
    })
}

fn with_acme() -> TestApp {
    let app = TestApp::seeded();
    create(&app, acme()).expect(201);
    app
}

/// What was agreed, by the names of the input.
fn agreed(partnership: &Value) -> Map<String, Value> {
    let mut terms = partnership["agreement"].as_object().unwrap().clone();
    for field in ["id", "name", "partner", "aliases"] {
        terms.insert(field.to_owned(), partnership[field].clone());
    }
    let definition = |deliverable: &Value| {
        json!({ "key": deliverable["name"], "due_date": deliverable["due_date"],
                "weight": deliverable["weight"] })
    };
    let deliverables = partnership["deliverables"].as_array().unwrap();
    terms.insert("deliverables".to_owned(), deliverables.iter().map(definition).collect());
    terms
}

/// Lists come back by key, aliases by name.
fn sorted(mut terms: Map<String, Value>) -> Map<String, Value> {
    for value in terms.values_mut() {
        if let Some(list) = value.as_array_mut() {
            list.sort_by_key(|item| {
                let name = ["key", "name"].iter().find_map(|field| item[*field].as_str());
                name.or(item.as_str()).unwrap_or_default().to_owned()
            });
        }
    }
    terms
}

#[track_caller]
fn refused(reply: &TestReply, place: &str, status: u16, code: &str, pointers: &[&str]) {
    assert_eq!(reply.status, status, "{place}: {}", reply.text);
    assert_eq!(reply.problem(status), code, "{place}");
    assert_eq!(reply.pointers(), pointers, "{place}: {}", reply.text);
}

// ---- adding ----

#[test]
fn what_is_agreed_comes_back_as_it_was_said() {
    let app = TestApp::seeded();
    let made = create(&app, acme());
    assert_eq!(made.headers["location"], "/api/v1/orchestration/partnerships/acme_search");
    let made = made.expect(201);
    let said = sorted(acme().as_object().unwrap().clone());
    assert_eq!(sorted(agreed(&made)), said);
    assert_eq!(sorted(agreed(&status(&app, "acme_search"))), said, "read again");
    assert_eq!(made["revision"], 1);
    assert_eq!(made["created_at"], app.now().to_rfc3339());
    assert_eq!(made["updated_at"], app.now().to_rfc3339());
    app.next_minute();
    app.platform.objects.evict_all();
    assert_eq!(sorted(agreed(&status(&app, "acme_search"))), said, "after a tick");
}

#[test]
fn what_is_not_said_has_its_default() {
    let app = TestApp::seeded();
    let made =
        create(&app, json!({ "id": "acme_search", "name": "S", "partner": "A" })).expect(201);
    assert_eq!(
        made["agreement"],
        json!({
            "availability_target_percent": 99.9, "availability_floor_percent": 95.0,
            "latency_target_ms": null, "degraded_counts_as_bad": false, "status_page_url": null,
            "probes": [], "kpis": [],
        })
    );
    assert_eq!((&made["aliases"], &made["deliverables"]), (&json!([]), &json!([])));

    let lists = json!({
        "id": "acme_maps", "name": "M", "partner": "A",
        "probes": [{ "key": "api", "url": SEARCH_PROBE }],
        "kpis": [{ "name": "recall", "target": 1, "unit": "x", "direction": "higher" }],
        "deliverables": [{ "key": "tiles" }],
    });
    let made = create(&app, lists).expect(201);
    let agreement = &made["agreement"];
    assert_eq!(
        agreement["probes"],
        json!([{ "key": "api", "url": SEARCH_PROBE, "interval_s": 60, "deadline_ms": 10_000,
                 "degraded_above_ms": null, "enabled": true }])
    );
    assert_eq!(agreement["kpis"][0]["weight"], 1.0);
    let deliverable = &made["deliverables"][0];
    assert_eq!((&deliverable["weight"], &deliverable["due_date"]), (&json!(1.0), &Value::Null));
}

#[test]
fn a_new_partnership_is_listed_everywhere_and_known_for_nothing() {
    let app = TestApp::seeded();
    let made = create(&app, acme()).expect(201);
    assert_eq!(
        (&made["health"], &made["score"], &made["verdict"], &made["progress"], &made["coverage"]),
        (&json!("unknown"), &Value::Null, &json!("unknown"), &Value::Null, &json!(0.0))
    );
    assert_eq!(made["partner_status_page"]["state"], "not_run");
    assert_eq!(app.read(&api("/metrics/acme_search"))["metrics"], json!({}));
    assert!(app.read(&api("/health"))["partnerships"]["acme_search"].is_object());
    let public = app.get(&api("/health")).send().expect(200);
    assert_eq!(
        public["partnerships"]["acme_search"],
        json!({ "health": "unknown", "score": null })
    );
    assert_eq!(app.read(&api("/partnerships")).as_array().unwrap().len(), 7);
    assert_eq!(app.read(&api("/info"))["partnerships"], 7);
    for alias in ["acme", "search"] {
        assert_eq!(status(&app, alias)["id"], "acme_search");
    }
    // And it is probed from the next minute on, where that is wanted.
    app.next_minute();
    let asked = app.platform.outbound.asked();
    assert!(asked.contains(&SEARCH_PROBE.to_owned()));
    assert!(!asked.contains(&"https://www.acme-partner.com/".to_owned()), "not enabled");
}

#[test]
fn a_definition_is_checked_field_by_field() {
    let app = TestApp::seeded();
    let before = app.stored();
    let probe = |field: &str, value: Value| {
        let mut probe = json!({ "key": "api", "url": SEARCH_PROBE });
        probe[field] = value;
        json!([probe])
    };
    let kpi = |field: &str, value: Value| {
        let mut kpi = json!({ "name": "recall", "target": 1, "unit": "x", "direction": "higher" });
        kpi[field] = value;
        json!([kpi])
    };
    let long = "x".repeat(101);
    let many = |n: usize, item: &dyn Fn(usize) -> Value| Value::from_iter((0..n).map(item));
    for (field, value, pointers) in [
        ("name", json!(""), &["#/name"][..]),
        ("name", json!("  \t "), &["#/name"]),
        ("name", json!(long), &["#/name"]),
        ("name", json!("a\nb"), &["#/name"]),
        ("name", json!(7), &["#/name"]),
        ("partner", json!(""), &["#/partner"]),
        ("partner", json!(long), &["#/partner"]),
        ("aliases", json!(["A"]), &["#/aliases/0"]),
        ("aliases", json!(["ok", "not ok"]), &["#/aliases/1"]),
        ("aliases", json!(["twice", "twice"]), &["#/aliases/1"]),
        ("aliases", json!("alias"), &["#/aliases"]),
        ("aliases", many(11, &|n| json!(format!("alias_{n}"))), &["#/aliases"]),
        ("status_page_url", json!("not a url"), &["#/status_page_url"]),
        ("status_page_url", json!("http://status.acme-partner.com/"), &["#/status_page_url"]),
        ("status_page_url", json!("https://127.0.0.1/"), &["#/status_page_url"]),
        ("availability_target_percent", json!(100.1), &["#/availability_target_percent"]),
        ("availability_target_percent", json!("99"), &["#/availability_target_percent"]),
        // The floor stays where it was, at 95.
        ("availability_target_percent", json!(95), &["#/availability_floor_percent"]),
        ("availability_floor_percent", json!(-1), &["#/availability_floor_percent"]),
        ("availability_floor_percent", json!(99.9), &["#/availability_floor_percent"]),
        ("latency_target_ms", json!(0), &["#/latency_target_ms"]),
        ("latency_target_ms", json!(3_600_001), &["#/latency_target_ms"]),
        ("latency_target_ms", json!("fast"), &["#/latency_target_ms"]),
        ("degraded_counts_as_bad", json!("yes"), &["#/degraded_counts_as_bad"]),
        ("probes", probe("key", json!("A")), &["#/probes/0/key"]),
        ("probes", probe("url", json!("ftp://acme-partner.com/")), &["#/probes/0/url"]),
        ("probes", probe("interval_s", json!(59)), &["#/probes/0/interval_s"]),
        ("probes", probe("interval_s", json!(86_401)), &["#/probes/0/interval_s"]),
        ("probes", probe("interval_s", json!(60.5)), &["#/probes/0/interval_s"]),
        ("probes", probe("interval_s", json!(-60)), &["#/probes/0/interval_s"]),
        ("probes", probe("deadline_ms", json!(99)), &["#/probes/0/deadline_ms"]),
        ("probes", probe("deadline_ms", json!(20_001)), &["#/probes/0/deadline_ms"]),
        ("probes", probe("degraded_above_ms", json!(0)), &["#/probes/0/degraded_above_ms"]),
        // Its column holds whole milliseconds.
        ("probes", probe("degraded_above_ms", json!(500.5)), &["#/probes/0/degraded_above_ms"]),
        ("probes", probe("enabled", json!(1)), &["#/probes/0/enabled"]),
        ("probes", probe("headers", json!({})), &["#/probes/0/headers"]),
        ("probes", json!([{ "key": "api" }]), &["#/probes/0/url"]),
        (
            "probes",
            json!([{ "key": "api", "url": SEARCH_PROBE }, { "key": "api", "url": SEARCH_PROBE }]),
            &["#/probes/1/key"],
        ),
        (
            "probes",
            many(11, &|n| json!({ "key": format!("key_{n}"), "url": SEARCH_PROBE })),
            &["#/probes"],
        ),
        ("kpis", kpi("name", json!("Recall")), &["#/kpis/0/name"]),
        ("kpis", kpi("name", json!("uptime")), &["#/kpis/0/name"]),
        ("kpis", kpi("name", json!("response_time_p95")), &["#/kpis/0/name"]),
        ("kpis", kpi("target", json!(0)), &["#/kpis/0/target"]),
        ("kpis", kpi("target", json!(-1)), &["#/kpis/0/target"]),
        ("kpis", kpi("target", json!(1e16)), &["#/kpis/0/target"]),
        ("kpis", kpi("unit", json!("")), &["#/kpis/0/unit"]),
        ("kpis", kpi("unit", json!("x".repeat(41))), &["#/kpis/0/unit"]),
        ("kpis", kpi("direction", json!("up")), &["#/kpis/0/direction"]),
        ("kpis", kpi("weight", json!(0)), &["#/kpis/0/weight"]),
        ("kpis", json!([{ "name": "recall" }]), &["#/kpis/0/target"]),
        ("deliverables", json!([{ "key": "a-b" }]), &["#/deliverables/0/key"]),
        (
            "deliverables",
            json!([{ "key": "ab", "due_date": "31.3.2026" }]),
            &["#/deliverables/0/due_date"],
        ),
        ("deliverables", json!([{ "key": "ab", "weight": -1 }]), &["#/deliverables/0/weight"]),
        ("deliverables", many(101, &|n| json!({ "key": format!("key_{n}") })), &["#/deliverables"]),
    ] {
        let place = format!("{field} {}", value.to_string().chars().take(60).collect::<String>());
        let mut body = json!({ "id": "acme_search", "name": "Search", "partner": "Acme" });
        body[field] = value.clone();
        let place_of_create = format!("create, {place}");
        refused(&create(&app, body), &place_of_create, 422, "validation_failed", pointers);
        let changed = patch(&app, "cursor", json!({ field: value }));
        refused(&changed, &format!("patch, {place}"), 422, "validation_failed", pointers);
    }
    for id in ["", "a", "A_b", "1ab", "a-b", "a/b", "ä_b", &"x".repeat(65)] {
        let body = json!({ "id": id, "name": "Search", "partner": "Acme" });
        refused(&create(&app, body), id, 422, "validation_failed", &["#/id"]);
    }
    // All that is wrong at once.
    let body =
        json!({ "id": "A", "name": "", "partner": "", "aliases": ["B"], "latency_target_ms": 0 });
    let all = ["#/id", "#/name", "#/partner", "#/aliases/0", "#/latency_target_ms"];
    refused(&create(&app, body), "all at once", 422, "validation_failed", &all);
    assert_eq!(app.stored(), before);
}

#[test]
fn the_bounds_themselves_are_within() {
    let app = TestApp::seeded();
    let body = json!({
        "id": "x".repeat(64), "name": "é".repeat(100), "partner": "é".repeat(100),
        "aliases": (0..10).map(|n| format!("alias_{n}")).collect::<Vec<_>>(),
        "availability_target_percent": 100, "availability_floor_percent": 0,
        "latency_target_ms": 3_600_000,
        "probes": (0..10).map(|n| json!({
            "key": format!("key_{n}"), "url": SEARCH_PROBE, "interval_s": 86_400,
            "deadline_ms": 20_000, "degraded_above_ms": 20_000,
        })).collect::<Vec<_>>(),
        "kpis": (0..50).map(|n| json!({
            "name": format!("kpi_{n}"), "target": 1e15, "unit": "x".repeat(40),
            "direction": "lower", "weight": 1e-9,
        })).collect::<Vec<_>>(),
        "deliverables": (0..100).map(|n| json!({ "key": format!("key_{n}") })).collect::<Vec<_>>(),
    });
    let made = create(&app, body).expect(201);
    assert_eq!(made["deliverables"].as_array().unwrap().len(), 100);
    app.next_minute();
    assert_eq!(status(&app, "alias_9")["agreement"]["kpis"].as_array().unwrap().len(), 50);
    let one_more = json!({ "completion_percentage": 1, "status": "blocked" });
    let id = "x".repeat(64);
    refused(&report(&app, &id, "key_100", one_more.clone()), "the 101st", 409, "conflict", &[]);
    report(&app, &id, "key_99", one_more).expect(200);
}

/// JSON has one kind of number, and some clients write every one with a point.
#[test]
fn a_whole_number_may_be_written_with_a_point() {
    let app = TestApp::seeded();
    let probe = json!({ "key": "api", "url": SEARCH_PROBE, "interval_s": 120.0,
                        "deadline_ms": 5e3, "degraded_above_ms": 800.0 });
    let made = patch(&app, "cursor", json!({ "probes": [probe] })).expect(200);
    let stored = &made["agreement"]["probes"][0];
    assert_eq!(stored["interval_s"], 120);
    assert_eq!(stored["deadline_ms"], 5000);
    assert_eq!(stored["degraded_above_ms"], 800.0);
}

#[test]
fn a_tenant_holds_at_most_a_hundred_partnerships() {
    let app = TestApp::seeded();
    for n in 6..100 {
        let body = json!({ "id": format!("number_{n}"), "name": "N", "partner": "N" });
        create(&app, body).expect(201);
    }
    let body = json!({ "id": "one_more", "name": "N", "partner": "N" });
    refused(&create(&app, body.clone()), "the 101st", 409, "conflict", &[]);
    retire(&app, "number_50").expect(204);
    create(&app, body).expect(201);
}

// ---- names ----

#[test]
fn a_name_leads_to_one_partnership_only() {
    let app = with_acme();
    let before = app.stored();
    for (what, body) in [
        ("an id twice", json!({ "id": "acme_search" })),
        ("an alias as an id", json!({ "id": "acme" })),
        ("an id as an alias", json!({ "id": "acme_maps", "aliases": ["cursor_technical"] })),
        ("an alias twice", json!({ "id": "acme_maps", "aliases": ["maps", "grok"] })),
    ] {
        let mut body = body;
        body["name"] = json!("Maps");
        body["partner"] = json!("Acme");
        refused(&create(&app, body), what, 409, "conflict", &[]);
        assert_eq!(app.stored(), before, "{what}");
    }
    for aliases in [json!(["cursor"]), json!(["acme", "grok_brand"])] {
        let changed = patch(&app, "acme_search", json!({ "aliases": aliases }));
        refused(&changed, &aliases.to_string(), 409, "conflict", &[]);
        assert_eq!(app.stored(), before, "{aliases}");
    }
    let own = patch(&app, "acme_search", json!({ "aliases": ["acme_search"] }));
    refused(&own, "the own id", 422, "validation_failed", &["#/aliases"]);
    // An alias that is given up is free.
    patch(&app, "acme_search", json!({ "aliases": ["acme"] })).expect(200);
    patch(&app, "cursor", json!({ "aliases": ["cursor", "search"] })).expect(200);
    assert_eq!(status(&app, "search")["id"], "cursor_technical");
    let gone = app.get(&api("/partnerships/technical/status")).bearer(&app.admin()).send();
    refused(&gone, "an alias given up", 404, "not_found", &[]);
}

#[test]
fn each_tenant_has_names_of_its_own() {
    let app = with_acme();
    app.add_other_tenant();
    let stranger = app.token_of(OTHER_TENANT, Role::Admin);
    let body =
        json!({ "id": "acme_search", "name": "Theirs", "partner": "X", "aliases": ["acme"] });
    let made = app.post(&api("/partnerships")).bearer(&stranger).json(body).send().expect(201);
    assert_eq!(made["name"], "Theirs");
    assert_eq!(status(&app, "acme")["name"], "Search");
}

#[test]
fn an_id_is_not_used_again_and_the_aliases_are_free() {
    let app = with_acme();
    retire(&app, "acme").expect(204);
    for body in [
        json!({ "id": "acme_search", "name": "New", "partner": "Acme" }),
        json!({ "id": "acme_maps", "name": "New", "partner": "Acme", "aliases": ["acme_search"] }),
    ] {
        refused(&create(&app, body.clone()), &body.to_string(), 409, "conflict", &[]);
    }
    let body = json!({ "id": "acme_maps", "name": "Maps", "partner": "Acme", "aliases": ["acme"] });
    create(&app, body).expect(201);
    assert_eq!(status(&app, "acme")["id"], "acme_maps");
}

// ---- changing ----

#[test]
fn a_change_leaves_all_that_it_does_not_name() {
    for (field, value) in [
        ("name", json!("Finding")),
        ("partner", json!("Acme & Sons")),
        ("aliases", json!(["finder"])),
        ("status_page_url", json!("https://status.acme-partner.com/other.json")),
        ("availability_target_percent", json!(99.95)),
        ("availability_floor_percent", json!(50.0)),
        ("latency_target_ms", json!(300.0)),
        ("degraded_counts_as_bad", json!(false)),
        (
            "probes",
            json!([{ "key": "other", "url": "https://other.acme-partner.com/", "interval_s": 120,
                     "deadline_ms": 500, "degraded_above_ms": 100.0, "enabled": true }]),
        ),
        (
            "kpis",
            json!([{ "name": "other", "target": 2.0, "unit": "y", "direction": "lower",
                     "weight": 5.0 }]),
        ),
        ("deliverables", json!([{ "key": "other", "due_date": "2026-12-31", "weight": 9.0 }])),
    ] {
        let app = with_acme();
        let mut expected = sorted(acme().as_object().unwrap().clone());
        expected.insert(field.to_owned(), value.clone());
        app.platform.clock.advance_ms(1_234);
        let changed = patch(&app, "acme", json!({ field: value })).expect(200);
        assert_eq!(sorted(agreed(&changed)), expected, "{field}");
        assert_eq!(sorted(agreed(&status(&app, "acme_search"))), expected, "{field}, read again");
        assert_eq!(changed["revision"], 2, "{field}");
        assert_eq!(changed["updated_at"], app.now().to_rfc3339(), "{field}");
        assert_eq!(changed["created_at"], "2026-01-31T12:00:00.000Z", "{field}");
    }
}

#[test]
fn null_takes_away_and_left_out_does_not() {
    let app = with_acme();
    patch(&app, "acme", json!({ "name": "Finding" })).expect(200);
    let kept = status(&app, "acme");
    assert_eq!(kept["agreement"]["latency_target_ms"], 250.0);
    assert!(kept["agreement"]["status_page_url"].is_string());
    let nulls = json!({ "latency_target_ms": null, "status_page_url": null });
    let changed = patch(&app, "acme", nulls).expect(200);
    assert_eq!(changed["agreement"]["latency_target_ms"], Value::Null);
    assert_eq!(changed["agreement"]["status_page_url"], Value::Null);
    // The term of the score goes with the target.
    let terms = |partnership: &Value| {
        let terms = partnership["terms"].as_array().unwrap().iter();
        terms.map(|term| term["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(terms(&kept).contains(&"latency".to_owned()));
    assert!(!terms(&changed).contains(&"latency".to_owned()));
}

#[test]
fn an_empty_list_takes_all_of_it_away() {
    let app = with_acme();
    let empty = json!({ "aliases": [], "probes": [], "kpis": [], "deliverables": [] });
    let changed = patch(&app, "acme", empty).expect(200);
    assert_eq!(changed["aliases"], json!([]));
    assert_eq!(changed["agreement"]["probes"], json!([]));
    assert_eq!(changed["agreement"]["kpis"], json!([]));
    assert_eq!(changed["deliverables"], json!([]));
    for table in ["probes", "kpi_definitions", "deliverables"] {
        let rows = &app.stored().tables[table];
        assert!(!rows.iter().any(|row| row.to_string().contains("acme_search")), "{table}");
    }
}

#[test]
fn a_deliverable_that_stays_in_the_list_keeps_its_progress() {
    let app = with_acme();
    let done = json!({ "completion_percentage": 100, "status": "completed" });
    report(&app, "acme", "crawler", done).expect(200);
    let half = json!({ "completion_percentage": 50, "status": "in_progress" });
    report(&app, "acme", "ranking", half).expect(200);
    let find = |partnership: &Value, key: &str| {
        let list = partnership["deliverables"].as_array().unwrap();
        list.iter().find(|known| known["name"] == key).cloned()
    };
    let list =
        json!([{ "key": "crawler", "due_date": "2026-06-30", "weight": 1 }, { "key": "fresh" }]);
    let changed = patch(&app, "acme", json!({ "deliverables": list })).expect(200);
    let crawler = find(&changed, "crawler").unwrap();
    assert_eq!(crawler["progress"], 100.0);
    assert_eq!(crawler["status"], "completed");
    assert_eq!(crawler["completed_at"], app.now().to_rfc3339());
    assert_eq!(crawler["updated_by"], app.user_id());
    assert_eq!((&crawler["due_date"], &crawler["weight"]), (&json!("2026-06-30"), &json!(1.0)));
    assert_eq!(find(&changed, "fresh").unwrap()["progress"], Value::Null);
    assert_eq!(find(&changed, "ranking"), None);
    // What left the list and returns begins anew.
    let back = json!({ "deliverables": [{ "key": "crawler" }, { "key": "ranking" }] });
    let changed = patch(&app, "acme", back).expect(200);
    assert_eq!(find(&changed, "ranking").unwrap()["progress"], Value::Null);
    assert_eq!(find(&changed, "crawler").unwrap()["progress"], 100.0);
}

#[test]
fn the_revision_grows_with_each_change() {
    let app = with_acme();
    let revision = |app: &TestApp| status(app, "acme")["revision"].as_i64().unwrap();
    assert_eq!(revision(&app), 1);
    patch(&app, "acme", json!({ "name": "Finding" })).expect(200);
    assert_eq!(revision(&app), 2);
    report(&app, "acme", "crawler", json!({ "completion_percentage": 1, "status": "blocked" }))
        .expect(200);
    assert_eq!(revision(&app), 3);
    patch(&app, "acme", json!({ "name": "" }));
    assert_eq!(revision(&app), 3, "a refused change is none");
    app.next_minute();
    assert_eq!(revision(&app), 3, "a tick changes nothing that was agreed");
    assert_eq!(app.count("SELECT revision AS n FROM partnerships WHERE id = 'acme_search'"), 3);
}

#[test]
fn a_probe_follows_its_definition() {
    let app = with_acme();
    let asked = |app: &TestApp, url: &str| {
        app.platform.outbound.asked().iter().filter(|asked| *asked == url).count()
    };
    let before = asked(&app, CURSOR_PROBE);
    let moved = "https://new.cursor-partner.com/";
    patch(&app, "cursor", json!({ "probes": [{ "key": "api", "url": moved }] })).expect(200);
    app.next_minute();
    assert_eq!((asked(&app, CURSOR_PROBE), asked(&app, moved)), (before, 1));
    let off = json!({ "probes": [{ "key": "api", "url": moved, "enabled": false }] });
    patch(&app, "cursor", off).expect(200);
    app.next_minute();
    assert_eq!(asked(&app, moved), 1, "not enabled");
    // Every 300 s, in slots of the clock: 12:00, 12:05, …
    let minutes = |app: &TestApp| app.now().millis() / MINUTE_MS % 60;
    while minutes(&app) < 11 {
        app.next_minute();
    }
    assert_eq!(asked(&app, SEARCH_PROBE), 3, "at 12:01 for the first slot, at 12:05 and 12:10");
}

// ---- two at once ----

#[test]
fn who_changes_what_somebody_else_changed_meanwhile_writes_nothing() {
    let app = with_acme();
    let (database, tenant) = (&app.platform.database, DEFAULT_TENANT_ID);
    let mut stale = block_on(registry::find(database, tenant, "acme")).unwrap().unwrap();
    patch(&app, "acme", json!({ "name": "Finding" })).expect(200);
    let before = app.stored();
    stale.revision += 1;
    stale.name = "Stale".to_owned();
    stale.kpis.clear();
    let refused = block_on(database.batch(registry::replace(tenant, &stale).unwrap())).unwrap_err();
    assert!(refused.is_constraint(registry::REVISION_MOVED), "{refused}");
    assert_eq!(app.stored(), before, "not a row of it");
    stale.revision -= 1;
    let refused =
        block_on(database.batch(registry::retire(tenant, &stale, app.now()))).unwrap_err();
    assert!(refused.is_constraint(registry::REVISION_MOVED), "{refused}");
    assert_eq!(app.stored(), before);

    // Of two who read the same, the second learns it.
    let known = block_on(registry::find(database, tenant, "acme")).unwrap().unwrap();
    let (mut one, mut other) = (known.clone(), known);
    one.revision += 1;
    other.revision += 1;
    block_on(database.batch(registry::replace(tenant, &one).unwrap())).unwrap();
    let refused = block_on(database.batch(registry::replace(tenant, &other).unwrap())).unwrap_err();
    assert!(refused.is_constraint(registry::REVISION_MOVED), "{refused}");

    retire(&app, "acme").expect(204);
    let before = app.stored();
    one.revision += 2;
    let refused = block_on(database.batch(registry::replace(tenant, &one).unwrap())).unwrap_err();
    assert!(refused.is_constraint(registry::REVISION_MOVED), "a retired one stays so: {refused}");
    assert_eq!(app.stored(), before);
}

#[test]
fn who_loses_every_race_is_told_to_try_again() {
    let app = with_acme();
    // Each write meets the state of a lost race.
    app.run(
        "CREATE TRIGGER lost_race BEFORE UPDATE ON partnerships BEGIN \
         SELECT RAISE(ABORT, 'CHECK constraint failed: partnerships_revision'); END"
            .to_owned(),
    );
    let before = app.stored();
    let half = json!({ "completion_percentage": 50, "status": "in_progress" });
    for (what, reply) in [
        ("a change", patch(&app, "acme", json!({ "name": "Finding" }))),
        ("a report", report(&app, "acme", "crawler", half)),
        ("an end", retire(&app, "acme")),
    ] {
        refused(&reply, what, 409, "conflict", &[]);
        assert!(!reply.text.contains("constraint"), "{what}: {}", reply.text);
    }
    assert_eq!(app.stored(), before);
}

// ---- where probes may go ----

#[test]
fn probes_go_to_public_hosts_only() {
    let app = TestApp::seeded();
    for (url, fits) in [
        ("https://api.acme-partner.com/", true),
        ("https://api.acme-partner.com:8443/v1/models?x=1", true),
        ("HTTPS://API.ACME-PARTNER.COM/", true),
        ("http://api.acme-partner.com/", false),
        ("ftp://api.acme-partner.com/", false),
        ("file:///etc/passwd", false),
        ("data:text/plain,x", false),
        ("javascript:alert(1)", false),
        ("//api.acme-partner.com/", false),
        ("api.acme-partner.com", false),
        ("", false),
        ("https://", false),
        ("https://user@api.acme-partner.com/", false),
        ("https://user:secret@api.acme-partner.com/", false),
        ("https://api.acme-partner.com:22/", false),
        ("https://api.acme-partner.com/#part", false),
        ("https://api.acme-partner.com./", false),
        ("https://localhost/", false),
        ("https://localhost:8443/", false),
        ("https://db.localhost/", false),
        ("http://localhost:8787/", false),
        ("https://127.0.0.1/", false),
        ("https://127.1/", false),
        ("https://2130706433/", false),
        ("https://0x7f000001/", false),
        ("https://0177.0.0.1/", false),
        ("https://10.0.0.1/", false),
        ("https://169.254.169.254/latest/meta-data/", false),
        ("https://8.8.8.8/", false),
        ("https://[::1]/", false),
        ("https://[fd00::1]/", false),
        ("https://[::ffff:127.0.0.1]/", false),
        ("https://①②⑦.0.0.1/", false),
        ("https://intranet/", false),
        ("https://db.internal/", false),
        ("https://metadata.google.internal/", false),
        ("https://printer.local/", false),
        ("https://127.0.0.1.nip.io/", false),
        ("https://localtest.me/", false),
        ("https://api.acme-partner.com\\@evil.org/", false),
        ("https://api.acme-partner.com/ x", false),
        ("https://api.acme-\tpartner.com/", false),
    ] {
        let probe = json!({ "probes": [{ "key": "api", "url": url }] });
        let page = json!({ "status_page_url": url });
        for (pointer, body) in [("#/probes/0/url", probe), ("#/status_page_url", page)] {
            let reply = patch(&app, "cursor", body);
            if fits {
                assert_eq!(reply.status, 200, "{url}: {}", reply.text);
            } else {
                refused(&reply, url, 422, "validation_failed", &[pointer]);
                assert!(!reply.text.contains("secret"), "{url}");
            }
        }
    }
}

#[test]
fn this_machine_may_be_probed_where_that_is_allowed() {
    for (setting, allowed) in [("true", true), ("false", false), ("TRUE", false), ("1", false)] {
        let app = TestApp::with_vars(|vars| vars.set("ALLOW_LOOPBACK_PROBES", setting));
        app.all_partners(Script::Status(401, 120.0));
        app.tick();
        for url in ["http://127.0.0.1:9999/", "http://localhost:9999/", "http://[::1]:9999/x"] {
            let reply = patch(&app, "cursor", json!({ "probes": [{ "key": "api", "url": url }] }));
            let expected = if allowed { 200 } else { 422 };
            assert_eq!(reply.status, expected, "{setting} {url}: {}", reply.text);
        }
        for url in ["http://10.0.0.1/", "https://192.168.0.1/", "http://api.acme-partner.com/"] {
            let reply = patch(&app, "cursor", json!({ "probes": [{ "key": "api", "url": url }] }));
            assert_eq!(reply.status, 422, "{setting} {url}: no other address, ever");
        }
    }
}

// ---- deliverables ----

#[test]
fn a_report_says_how_far_a_deliverable_is_and_who_said_so() {
    let app = with_acme();
    app.platform.clock.advance_ms(5_000);
    let manager = app.token(Role::OrchestrationManager);
    let reply = app
        .put(&api("/partnerships/acme/deliverables/crawler"))
        .bearer(&manager)
        .json(json!({ "completion_percentage": 62.5, "status": "in_progress" }))
        .send()
        .expect(200);
    assert_eq!(
        reply,
        json!({
            "name": "crawler", "progress": 62.5, "status": "in_progress", "due_date": "2026-03-31",
            "weight": 3.0, "completed_at": null, "updated_at": app.now().to_rfc3339(),
            "updated_by": app.user_id(),
        })
    );
    assert_eq!(status(&app, "acme")["progress"], 62.5, "the mean of those that reported");
    report(&app, "acme", "ranking", json!({ "completion_percentage": 0, "status": "not_started" }))
        .expect(200);
    assert_eq!(status(&app, "acme")["progress"], 31.25);
    report(&app, "acme", "ranking", json!({ "completion_percentage": 0, "status": "cancelled" }))
        .expect(200);
    assert_eq!(status(&app, "acme")["progress"], 62.5, "cancelled work is owed by nobody");
}

#[test]
fn a_report_of_an_unknown_key_adds_the_deliverable() {
    let app = with_acme();
    let added = report(
        &app,
        "acme",
        "monitoring",
        json!({ "completion_percentage": 10, "status": "in_progress", "due_date": "2026-05-01" }),
    )
    .expect(200);
    assert_eq!((&added["weight"], &added["due_date"]), (&json!(1.0), &json!("2026-05-01")));
    assert_eq!(status(&app, "acme")["deliverables"].as_array().unwrap().len(), 3);
}

#[test]
fn a_due_date_stays_unless_it_is_said() {
    let app = with_acme();
    let due = |body: Value| report(&app, "acme", "crawler", body).expect(200)["due_date"].clone();
    let with = |due_date: Value| json!({ "completion_percentage": 1, "status": "blocked", "due_date": due_date });
    assert_eq!(due(json!({ "completion_percentage": 1, "status": "blocked" })), "2026-03-31");
    assert_eq!(due(with(json!("2026-04-30"))), "2026-04-30");
    assert_eq!(due(with(Value::Null)), Value::Null);
    assert_eq!(due(json!({ "completion_percentage": 1, "status": "blocked" })), Value::Null);
}

#[test]
fn finished_is_finished_at_the_first_report_of_it() {
    let app = with_acme();
    let done = || {
        let done = json!({ "completion_percentage": 100, "status": "completed" });
        report(&app, "acme", "crawler", done).expect(200)
    };
    let first = done()["completed_at"].clone();
    assert_eq!(first, app.now().to_rfc3339());
    app.platform.clock.advance_ms(60 * DAY_MS);
    assert_eq!(done()["completed_at"], first, "saying so again does not make it late");
    let reopened = json!({ "completion_percentage": 100, "status": "in_progress" });
    let reopened = report(&app, "acme", "crawler", reopened).expect(200);
    assert_eq!(reopened["completed_at"], Value::Null);
    assert_eq!(done()["completed_at"], app.now().to_rfc3339());
}

fn deliverables_term(app: &TestApp, id: &str) -> Value {
    let partnership = status(app, id);
    let terms = partnership["terms"].as_array().unwrap();
    terms.iter().find(|term| term["name"] == "deliverables").unwrap().clone()
}

#[test]
fn deliverables_in_time_and_late_make_their_term_of_the_score() {
    let app = with_acme();
    let term = |app: &TestApp| deliverables_term(app, "acme")["attainment"].as_f64();
    let tick_on = |app: &TestApp, day: i64| {
        // 12:00 on the day.
        let noon = devskyy_orchestration::domain::time::Timestamp::parse(NOW).unwrap();
        app.platform.clock.set_ms(noon.plus_ms(day * DAY_MS).millis());
        app.tick();
    };
    assert_eq!(term(&app), None, "nobody has sent anything");
    let half = json!({ "completion_percentage": 50, "status": "in_progress" });
    report(&app, "acme", "crawler", half).expect(200);
    assert_eq!(term(&app), Some(0.5), "nothing is due: the mean progress");
    // Due on 2026-03-31, day 59; weight 3 of 3 due.
    tick_on(&app, 59);
    assert_eq!(term(&app), Some(0.5), "on the day itself it is not late yet");
    tick_on(&app, 60);
    assert_eq!(term(&app), Some(0.0), "a day later it is");
    let late = json!({ "completion_percentage": 100, "status": "completed" });
    report(&app, "acme", "crawler", late.clone()).expect(200);
    assert_eq!(term(&app), Some(0.0), "finished late is late");
    // Another one, due later, weight 1, finished before.
    let list = json!([
        { "key": "crawler", "due_date": "2026-03-31", "weight": 3 },
        { "key": "ranking", "due_date": "2026-12-31", "weight": 1 },
    ]);
    patch(&app, "acme", json!({ "deliverables": list })).expect(200);
    report(&app, "acme", "ranking", late).expect(200);
    assert_eq!(term(&app), Some(0.25), "1 of 4 by weight");
    let shown = deliverables_term(&app, "acme");
    assert_eq!(shown["actual"], 25.0);
    assert!(shown["rule"].as_str().unwrap().contains("on-time"), "{shown}");
}

// ---- retiring ----

#[test]
fn a_retired_partnership_is_gone_from_everything_that_is_listed() {
    let app = with_acme();
    let row = json!([{ "at": NOW, "outcome": "up", "source": "gateway" }]);
    let push = |app: &TestApp| {
        let path = api("/partnerships/acme_search/observations");
        app.post(&path).bearer(&app.admin()).json(row.clone()).send()
    };
    push(&app).expect(202);
    app.next_minute();
    let reply = retire(&app, "acme_search");
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    for round in ["at once", "after a tick", "after an eviction"] {
        for path in ["/health", "/metrics", "/partnerships", "/info"] {
            let text = app.read(&api(path)).to_string();
            assert!(!text.contains("acme_search"), "{round}, {path}: {text}");
        }
        let scrape = app.get(&api("/metrics")).bearer(&app.admin()).header("accept", "text/plain");
        assert!(!scrape.send().text.contains("acme_search"), "{round}");
        let public = app.get(&api("/health")).send();
        assert!(!public.text.contains("acme_search"), "{round}");
        let half = json!({ "completion_percentage": 50, "status": "in_progress" });
        for id in ["acme_search", "acme"] {
            let metrics = app.get(&api(&format!("/metrics/{id}"))).bearer(&app.admin()).send();
            refused(&metrics, &format!("{round}, metrics of {id}"), 404, "not_found", &[]);
            let detail = metrics.json["detail"].as_str().unwrap();
            assert!(!detail.contains("there are: acme"), "{detail}");
            for (what, reply) in [
                ("change", patch(&app, id, json!({ "name": "Back" }))),
                ("retire", retire(&app, id)),
                ("report", report(&app, id, "crawler", half.clone())),
            ] {
                refused(&reply, &format!("{round}, {what} {id}"), 404, "not_found", &[]);
            }
        }
        refused(&push(&app), &format!("{round}, observations"), 404, "not_found", &[]);
        match round {
            "at once" => app.next_minute(),
            _ => app.platform.objects.evict_all(),
        }
    }
    assert_eq!(app.read(&api("/info"))["partnerships"], 6);
}

#[test]
fn a_retired_partnership_is_not_probed_any_more() {
    let app = TestApp::seeded();
    let asked = |app: &TestApp| {
        app.platform.outbound.asked().iter().filter(|url| *url == CURSOR_PROBE).count()
    };
    app.next_minute();
    let before = asked(&app);
    assert_eq!(before, 2);
    retire(&app, "cursor").expect(204);
    for _ in 0..3 {
        app.next_minute();
    }
    assert_eq!(asked(&app), before);
}

#[test]
fn the_history_of_a_retired_partnership_stays() {
    let app = with_acme();
    report(&app, "acme", "crawler", json!({ "completion_percentage": 50, "status": "blocked" }))
        .expect(200);
    app.platform.clock.advance_ms(1_000);
    retire(&app, "acme").expect(204);
    let [row] = &app.rows("SELECT * FROM partnerships WHERE id = 'acme_search'")[..] else {
        panic!()
    };
    assert_eq!(row.get::<i64>("retired_at").unwrap(), app.now().millis());
    assert_eq!(row.get::<String>("name").unwrap(), "Search");
    assert_eq!(row.get::<i64>("revision").unwrap(), 3);
    for (table, rows) in [("probes", 2), ("kpi_definitions", 2), ("deliverables", 2)] {
        let stored = &app.stored().tables[table];
        let of_acme = stored.iter().filter(|row| row.to_string().contains("acme_search")).count();
        assert_eq!(of_acme, rows, "{table}");
    }
    let progress = "SELECT completion_percentage AS n FROM deliverables WHERE key = 'crawler'";
    assert_eq!(app.rows(progress)[0].get::<f64>("n").unwrap(), 50.0);
}

// ---- who did what ----

#[test]
fn each_change_is_one_line_of_activity_with_its_actor() {
    let app = TestApp::seeded();
    let before = app.count("SELECT COUNT(*) AS n FROM activity");
    create(&app, acme()).expect(201);
    patch(&app, "acme", json!({ "name": "Finding" })).expect(200);
    report(&app, "acme", "crawler", json!({ "completion_percentage": 1, "status": "blocked" }))
        .expect(200);
    retire(&app, "acme").expect(204);
    // None of these happened.
    create(&app, acme());
    patch(&app, "cursor", json!({ "name": "" }));
    retire(&app, "nobody");
    let lines: Vec<(String, String, String, String)> = app
        .rows("SELECT event, actor, subject, status FROM activity ORDER BY rowid")
        .iter()
        .skip(usize::try_from(before).unwrap())
        .map(|row| {
            let text = |column: &str| row.get::<String>(column).unwrap();
            (text("event"), text("actor"), text("subject"), text("status"))
        })
        .collect();
    let expected: Vec<_> = [
        "partnership.created",
        "partnership.changed",
        "deliverable.reported",
        "partnership.retired",
    ]
    .into_iter()
    .map(|event| (event.to_owned(), app.user_id(), "acme_search".to_owned(), "success".to_owned()))
    .collect();
    assert_eq!(lines, expected);
}

#[test]
fn lines_of_activity_are_neither_changed_nor_deleted() {
    let app = TestApp::seeded();
    let before = app.stored().tables["activity"].clone();
    assert!(!before.is_empty());
    for sql in ["UPDATE activity SET actor = 'nobody'", "DELETE FROM activity"] {
        let statement = devskyy_orchestration::platform::sql::Statement::new(sql);
        assert!(block_on(app.platform.database.batch(vec![statement])).is_err(), "{sql}");
    }
    assert_eq!(app.stored().tables["activity"], before);
}

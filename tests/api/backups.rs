//! Backups: whatever fails on the way, a set that is listed is whole, and an
//! empty environment that is filled from it holds the same.

use crate::support::{API, TestApp};
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::domain::time::{HOUR_MS, MINUTE_MS};
use devskyy_orchestration::objects::OBJECTS;
use devskyy_orchestration::objects::transfer::{self, Reply, Transfer};
use devskyy_orchestration::platform::native::{Fault, Script};
use devskyy_orchestration::platform::sql::Statement;
use futures::executor::block_on;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const HOURLY: &str = "37 * * * *";

impl TestApp {
    fn back_up(&self) {
        self.world.scheduled(HOURLY, self.now());
    }

    fn sets(&self) -> Vec<Value> {
        self.read(&format!("{API}/backups"))["backups"].as_array().unwrap().clone()
    }

    fn verify(&self, id: &str) -> Value {
        let path = format!("{API}/backups/{id}/verify");
        self.post(&path).bearer(&self.admin()).send().expect(200)
    }

    /// Every row of D1 but those of `backups`, and of every object.
    fn everything(&self) -> BTreeMap<String, Vec<String>> {
        let mut found = BTreeMap::new();
        for (table, rows) in self.stored().tables {
            if table != "backups" {
                let mut rows: Vec<String> = rows.iter().map(ToString::to_string).collect();
                rows.sort();
                found.insert(format!("DB {table}"), rows);
            }
        }
        for kind in OBJECTS.iter().filter(|kind| {
            kind.name_rule.starts_with("{tenant_id}") && !kind.name_rule.contains(',')
        }) {
            for name in self.platform.objects.stored(kind.binding) {
                for (table, rows) in self.object(kind.binding, &name) {
                    found.insert(format!("{}/{name} {table}", kind.binding), rows);
                }
            }
        }
        found.retain(|_, rows| !rows.is_empty());
        found
    }

    /// The rows of an object by table, as a copy in a bucket of its own has them.
    fn object(&self, binding: &str, name: &str) -> BTreeMap<String, Vec<String>> {
        use devskyy_orchestration::store::dump;
        let before = self.platform.bucket.contents();
        let (set, of) = ("look".to_owned(), "look".to_owned());
        let export =
            Transfer::Export { set: set.clone(), of: of.clone(), name: "state".to_owned() };
        let call = |transfer| block_on(transfer::call(&self.platform, binding, name, transfer));
        let Reply::Exported { mut files, growing } = call(export).unwrap() else { panic!() };
        for from in growing {
            let mut from = Some(from);
            while let Some(position) = from {
                let name = format!("page-{}", files.len());
                let (set, of) = (set.clone(), of.clone());
                let page = Transfer::Page { set, of, name, from: position };
                let Reply::Paged { file, next } = call(page).unwrap() else { panic!() };
                files.extend(file);
                from = next;
            }
        }
        call(Transfer::Release).unwrap();
        let contents = self.platform.bucket.contents();
        self.platform.bucket.set_contents(before);
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for file in files {
            let bytes = &contents[&format!("backups/look/{}.ndjson.gz", file.name)];
            for text in dump::unpack(bytes).unwrap().lines() {
                let line = dump::line(text).unwrap();
                tables.entry(line.table).or_default().push(Value::from(line.row).to_string());
            }
        }
        tables
    }
}

/// Users, keys, partnerships (one retired), observations, KPIs, decisions,
/// settings, activity.
fn filled() -> TestApp {
    let app = TestApp::seeded();
    app.add_own_user(Role::Admin);
    app.next_minute();
    let admin = app.admin();
    let send = |method: &str, path: &str, body: Value, status| {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("{API}/{path}") };
        app.request(method, &path)
            .bearer(&admin)
            .header("idempotency-key", "k")
            .json(body)
            .send()
            .expect(status)
    };
    let old = json!({ "id": "old_one", "name": "Old", "partner": "Gone" });
    app.post(&format!("{API}/partnerships")).bearer(&admin).json(old).send().expect(201);
    app.delete(&format!("{API}/partnerships/old_one")).bearer(&admin).send().expect(204);
    let at = app.now().to_rfc3339();
    let rows: Vec<Value> = (0..60)
        .map(|n| json!({ "at": at, "outcome": "up", "latency_ms": 0.1 * f64::from(n) + 0.3, "source": "gateway" }))
        .collect();
    send("POST", "partnerships/cursor_technical/observations", json!(rows), 202);
    send(
        "POST",
        "partnerships/cursor_technical/kpis/security_score",
        json!({ "value": 99.1, "at": at }),
        202,
    );
    send("POST", "decisions", json!({ "context": { "title": "a \"quoted\" ünïcode\nline" } }), 200);
    send(
        "POST",
        "/api/v1/auth/keys",
        json!({ "name": "scraper", "permissions": ["metrics:read"] }),
        201,
    );
    app.patch(&format!("{API}/config"))
        .bearer(&admin)
        .json(json!({ "limits": { "ingest": 700 } }))
        .send()
        .expect(200);
    app
}

/// A new environment as it is minutes after its first start, with the bucket
/// of another one.
fn empty_with_bucket_of(app: &TestApp) -> TestApp {
    let empty = TestApp::seeded();
    empty.platform.clock.set_ms(app.platform.clock.now_ms());
    empty.platform.bucket.set_contents(app.platform.bucket.contents());
    empty.tick();
    empty
}

/// Calls until it is done; a call that fails is made again a few minutes later.
fn restore(app: &TestApp, id: &str) -> Value {
    for _ in 0..200 {
        let reply = app.post(&format!("{API}/backups/{id}/restore")).bearer(&app.admin()).send();
        if reply.status == 200 && !reply.json["drill"].is_null() {
            return reply.json;
        }
        if reply.status != 200 {
            app.platform.clock.advance_ms(4 * MINUTE_MS);
        }
    }
    panic!("the restore does not end");
}

fn same(left: &TestApp, right: &TestApp) {
    let (mut left, mut right) = (left.everything(), right.everything());
    for side in [&mut left, &mut right] {
        // The jobs of the source go on while the other is filled; the line that tells of it.
        side.remove("DB job_runs");
        side.remove("BOARD/ten_default jobs");
        // Woken, it looks at once at what is late, and tells the board; that the
        // rows were the same before, the restore has counted itself.
        side.retain(|table, _| !table.starts_with("INCIDENT/") && !table.ends_with(" incidents"));
        if let Some(lines) = side.get_mut("DB activity") {
            lines.retain(|line| !line.contains("backup."));
        }
    }
    assert_eq!(left.keys().collect::<Vec<_>>(), right.keys().collect::<Vec<_>>());
    for (table, rows) in &left {
        assert_eq!(rows, &right[table], "{table}");
    }
}

#[test]
fn an_empty_environment_is_filled_from_a_set() {
    let app = filled();
    assert_eq!(app.read(&format!("{API}/status"))["backups"]["last_good_age_s"], Value::Null);
    app.back_up();
    let sets = app.sets();
    assert_eq!(sets.len(), 1);
    let id = sets[0]["id"].as_str().unwrap();
    assert_eq!(app.verify(id)["defects"], json!([]));
    let manifest = app.read(&format!("{API}/backups/{id}"));
    let files = manifest["files"].as_array().unwrap();
    let bytes: u64 = files.iter().map(|file| file["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sets[0]["bytes"], bytes);
    assert!(files.iter().any(|file| file["of"] == "PARTNERSHIP/ten_default/old_one"));
    // The rate limiter's are left out on purpose.
    assert!(files.iter().all(|file| !file["of"].as_str().unwrap().starts_with("RATE_LIMIT")));
    let all: String = app.platform.bucket.contents().keys().cloned().collect();
    assert!(all.contains("manifest.json"));

    let empty = empty_with_bucket_of(&app);
    let done = restore(&empty, id);
    assert_eq!(done["drill"]["rows"], sets[0]["rows"]);
    same(&app, &empty);
    let status = empty.read(&format!("{API}/status"));
    assert_eq!(status["backups"]["last_drill_age_s"], 0);
    // Life goes on.
    empty.next_minute();
    let seen = empty.read(&format!("{API}/partnerships/cursor_technical/status"));
    assert_eq!(seen["id"], "cursor_technical");
    // Known where the backup is from too, by the bucket.
    app.platform.bucket.set_contents(empty.platform.bucket.contents());
    assert_eq!(app.read(&format!("{API}/backups"))["last_drill"]["backup_id"], id);
}

#[test]
fn an_environment_that_holds_something_is_left_alone() {
    let app = filled();
    app.back_up();
    let id = app.sets()[0]["id"].as_str().unwrap().to_owned();
    let before = app.everything();
    let path = format!("{API}/backups/{id}/restore");
    let refused = app.post(&path).bearer(&app.admin()).send();
    assert_eq!(refused.problem(409), "conflict");
    assert!(refused.text.contains("api_keys"), "{}", refused.text);
    assert_eq!(app.everything(), before);
    // Observations alone are enough.
    let other = empty_with_bucket_of(&app);
    let rows = json!([{ "at": other.now(), "outcome": "up", "source": "gateway" }]);
    let path = format!("{API}/partnerships/cursor_technical/observations");
    other.post(&path).bearer(&other.admin()).json(rows).send().expect(202);
    let path = format!("{API}/backups/{id}/restore");
    let refused = other.post(&path).bearer(&other.admin()).send();
    assert!(refused.text.contains("1 pushed observations"), "{}", refused.text);
}

#[test]
fn a_set_is_written_in_steps_and_not_listed_before_it_is_whole() {
    let app = filled();
    let begun = app.post(&format!("{API}/backups")).bearer(&app.admin()).send().expect(202);
    let again = app.post(&format!("{API}/backups")).bearer(&app.admin()).send().expect(202);
    assert_eq!(begun["id"], again["id"]);
    assert_eq!(again["begun"], false);
    let mut minutes = 0;
    while app.sets().is_empty() {
        let found = app
            .get(&format!("{API}/backups/{}", begun["id"].as_str().unwrap()))
            .bearer(&app.admin())
            .send();
        assert_eq!(found.status, 404);
        minutes += 1;
        assert!(minutes < 30);
        app.next_minute();
    }
    assert!(minutes > 1, "one small step did it all: nothing is tested");
    assert_eq!(app.verify(begun["id"].as_str().unwrap())["defects"], json!([]));
}

#[test]
fn damage_is_found_and_told() {
    let app = filled();
    app.back_up();
    let id = app.sets()[0]["id"].as_str().unwrap().to_owned();
    let mut contents = app.platform.bucket.contents();
    let keys: Vec<String> = contents.keys().filter(|key| key.ends_with("gz")).cloned().collect();
    contents.get_mut(&keys[0]).unwrap()[20] ^= 1;
    contents.remove(&keys[1]);
    app.platform.bucket.set_contents(contents);
    let mut found = app.verify(&id);
    while found["finished_at"].is_null() {
        found = app.verify(&id);
    }
    assert_eq!(found["defects"].as_array().unwrap().len(), 2, "{found}");
    assert_eq!(app.sets()[0]["verification"], found);
    // Nor is it restored: the environment stays without it, and says so.
    let empty = empty_with_bucket_of(&app);
    let path = format!("{API}/backups/{id}/restore");
    let statuses: Vec<u16> =
        (0..8).map(|_| empty.post(&path).bearer(&empty.admin()).send().status).collect();
    assert_eq!(statuses.last(), Some(&500), "{statuses:?}");
}

#[test]
fn what_is_never_finished_is_deleted_and_old_sets_go() {
    let app = filled();
    app.post(&format!("{API}/backups")).bearer(&app.admin()).send().expect(202);
    app.next_minute();
    assert!(!app.platform.bucket.contents().is_empty());
    app.platform.clock.advance_ms(7 * HOUR_MS);
    app.back_up();
    assert!(app.platform.bucket.contents().is_empty());
    assert!(app.sets().is_empty());
    for _ in 0..55 {
        app.platform.clock.advance_ms(HOUR_MS);
        app.back_up();
    }
    // 48 hours, and the newest of the one day before them.
    let ids: Vec<String> = app.sets().iter().map(|set| set["id"].to_string()).collect();
    assert!((48..=50).contains(&ids.len()), "{}", ids.len());
    let contents = app.platform.bucket.contents();
    let manifests = contents.keys().filter(|key| key.ends_with("manifest.json")).count();
    assert_eq!(manifests, ids.len());
}

#[test]
fn one_works_at_a_time() {
    let app = filled();
    app.post(&format!("{API}/backups")).bearer(&app.admin()).send().expect(202);
    let until = app.now().plus_ms(2 * MINUTE_MS).millis();
    app.run(format!("UPDATE backups SET lease = 'another', lease_until = {until}"));
    app.tick();
    assert!(app.platform.bucket.contents().is_empty(), "two are at it");
    app.platform.clock.advance_ms(3 * MINUTE_MS);
    app.tick();
    assert!(!app.platform.bucket.contents().is_empty(), "nobody takes over");
}

#[test]
fn an_object_that_is_only_asked_is_not_made() {
    let app = TestApp::seeded();
    let counted = block_on(transfer::call(&app.platform, "BOARD", "ten_nobody", Transfer::Count));
    assert!(matches!(counted, Ok(Reply::Counted(counts)) if counts.is_empty()));
    assert!(!app.platform.objects.stored("BOARD").contains(&"ten_nobody".to_owned()));
}

#[test]
fn rows_are_not_let_go_of_while_they_are_copied() {
    let app = filled();
    let (binding, name) = ("PARTNERSHIP", "ten_default/cursor_technical");
    let rows = |app: &TestApp| {
        let counted = block_on(transfer::call(&app.platform, binding, name, Transfer::Count));
        let Ok(Reply::Counted(counts)) = counted else { panic!() };
        counts["observations"]
    };
    let export = Transfer::Export { set: "s".into(), of: "o".into(), name: "n".into() };
    app.platform.clock.advance_ms(48 * HOUR_MS + MINUTE_MS);
    let before = rows(&app);
    block_on(transfer::call(&app.platform, binding, name, export)).unwrap();
    app.tick();
    assert!(rows(&app) > before, "rows went while they were copied");
    block_on(transfer::call(&app.platform, binding, name, Transfer::Release)).unwrap();
    app.tick();
    assert!(rows(&app) < before);
}

#[test]
fn only_a_restore_empties_objects() {
    let sources = std::process::Command::new("grep")
        .args(["-rlE", "Transfer::(Wipe|Load)", "src"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(sources.stdout).unwrap();
    let mut found: Vec<&str> = text.lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["src/backup/restore.rs", "src/objects/mod.rs"]);
}

#[derive(Clone, Debug)]
enum Failing {
    Bucket(&'static str, Fault),
    Database(&'static str, Fault),
    Object(&'static str, Fault),
    Eviction,
}

fn failing() -> impl Strategy<Value = Failing> {
    let fault = || prop::sample::select(vec![Fault::Lost, Fault::LandedButErrored]);
    prop_oneof![
        (prop::sample::select(vec!["put", "get", "list", "delete", "manifest", "-0"]), fault())
            .prop_map(|(what, fault)| Failing::Bucket(what, fault)),
        (
            prop::sample::select(vec![
                "backups",
                "UPDATE backups",
                "SELECT *",
                "activity",
                "INSERT"
            ]),
            fault()
        )
            .prop_map(|(what, fault)| Failing::Database(what, fault)),
        (prop::sample::select(vec!["transfer", "page", "PARTNERSHIP", "wipe", "load"]), fault())
            .prop_map(|(what, fault)| Failing::Object(what, fault)),
        Just(Failing::Eviction),
    ]
}

impl Failing {
    fn inject(&self, app: &TestApp) {
        match self {
            Self::Bucket(needle, fault) => app.platform.bucket.inject(needle, *fault),
            Self::Database(needle, fault) => app.platform.database.inject(needle, *fault),
            Self::Object(needle, fault) => app.platform.objects.inject(needle, *fault),
            Self::Eviction => app.platform.objects.evict_all(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Faults before each step of the writing, and of the filling.
    #[test]
    fn whatever_fails_a_listed_set_is_whole_and_restores_to_the_same(
        writing in prop::collection::vec(prop::option::of(failing()), 0..8),
        filling in prop::collection::vec(failing(), 0..4),
    ) {
        let app = filled();
        app.all_partners(Script::Status(401, 120.0));
        let mut faults = writing.into_iter();
        let mut minutes = 0;
        app.post(&format!("{API}/backups")).bearer(&app.admin()).send().expect(202);
        let count = "SELECT COUNT(*) AS n FROM backups WHERE state = 'good'";
        while app.count(count) == 0 {
            if let Some(Some(fault)) = faults.next() {
                fault.inject(&app);
            }
            minutes += 1;
            prop_assert!(minutes < 120, "it never ends");
            app.platform.clock.advance_ms(4 * MINUTE_MS);
            block_on(devskyy_orchestration::jobs::backup::resume(&app.platform));
        }
        app.platform.forget_faults();
        let bucket = app.platform.bucket.contents();
        let query = Statement::new("SELECT id FROM backups WHERE state = 'good'");
        let id: String = block_on(app.platform.database.query(query)).unwrap()[0].get("id").unwrap();
        let empty = TestApp::seeded();
        empty.platform.clock.set_ms(app.platform.clock.now_ms());
        empty.platform.bucket.set_contents(bucket);
        for fault in &filling {
            fault.inject(&empty);
        }
        restore(&empty, &id);
        empty.platform.forget_faults();
        same(&app, &empty);
    }
}

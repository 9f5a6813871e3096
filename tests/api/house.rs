//! The rules of the house: each table of entry points says what
//! `wrangler.toml` and `migrations/` say, and imports go downwards only.

use crate::support::TestApp;
use devskyy_orchestration::jobs::SCHEDULES;
use devskyy_orchestration::objects::OBJECTS;
use devskyy_orchestration::platform::native::Platform;
use devskyy_orchestration::platform::sql::Statement;
use devskyy_orchestration::routes::ROUTES;
use devskyy_orchestration::store::kv::KV_KEYS;
use devskyy_orchestration::store::{MIGRATIONS, TABLES};
use futures::executor::block_on;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

// ---- tables of entry points ----

/// As much of TOML as `wrangler.toml` and `Cargo.toml` need: each table with
/// its keys and the raw text of their values, a list of tables in order.
fn toml(path: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut tables = vec![(String::new(), BTreeMap::new())];
    let mut open: Option<(String, String)> = None;
    for line in read(path).lines() {
        let line = line.trim();
        if let Some((key, mut value)) = open.take() {
            value.push_str(line);
            if line.ends_with(']') || line.ends_with('}') {
                tables.last_mut().unwrap().1.insert(key, value);
            } else {
                open = Some((key, value));
            }
        } else if line.is_empty() || line.starts_with('#') {
        } else if line.starts_with('[') {
            let name = line.trim_start_matches('[').trim_end_matches(']').to_owned();
            tables.push((name, BTreeMap::new()));
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            let opens = |c| value.matches(c).count();
            if opens('[') > opens(']') || opens('{') > opens('}') {
                open = Some((key, value));
            } else {
                tables.last_mut().unwrap().1.insert(key, value);
            }
        }
    }
    assert!(open.is_none(), "{path}: a value does not end");
    tables
}

/// The texts in double quotes.
fn quoted(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn tables_named<'a>(
    tables: &'a [(String, BTreeMap<String, String>)],
    name: &str,
) -> impl Iterator<Item = &'a BTreeMap<String, String>> {
    tables.iter().filter(move |(known, _)| known == name).map(|(_, keys)| keys)
}

#[test]
fn objects_are_those_of_wrangler_toml() {
    let wrangler = toml("wrangler.toml");
    let bound: Vec<(String, String)> = tables_named(&wrangler, "durable_objects.bindings")
        .map(|keys| (quoted(&keys["name"])[0].clone(), quoted(&keys["class_name"])[0].clone()))
        .collect();
    let of_table: Vec<(String, String)> =
        OBJECTS.iter().map(|kind| (kind.binding.to_owned(), kind.class_name.to_owned())).collect();
    assert_eq!(of_table, bound, "bindings");
    let migrated: Vec<String> = tables_named(&wrangler, "migrations")
        .filter_map(|keys| keys.get("new_sqlite_classes"))
        .flat_map(|classes| quoted(classes))
        .collect();
    let classes: Vec<&str> = OBJECTS.iter().map(|kind| kind.class_name).collect();
    assert_eq!(classes, migrated, "classes with SQLite");
    // workerd needs a struct of the class's name.
    let shells = read("src/entry/worker.rs");
    for class in classes {
        assert!(shells.contains(&format!("    {class} = ")), "{class} has no shell");
    }
}

#[test]
fn the_bucket_of_backups_is_bound() {
    let wrangler = toml("wrangler.toml");
    let bound: Vec<String> = tables_named(&wrangler, "r2_buckets")
        .map(|keys| quoted(&keys["binding"])[0].clone())
        .collect();
    assert_eq!(bound, ["BACKUPS"]);
    let source = read("src/platform/cloudflare/bucket.rs");
    assert!(source.contains("const BINDING: &str = \"BACKUPS\";"));
}

#[test]
fn schedules_are_those_of_wrangler_toml() {
    let wrangler = toml("wrangler.toml");
    let triggers = tables_named(&wrangler, "triggers").next().unwrap();
    let crons: Vec<&str> = SCHEDULES.iter().map(|schedule| schedule.cron).collect();
    assert_eq!(crons, quoted(&triggers["crons"]));
    // A cron event names its line and nothing else.
    assert_eq!(crons.iter().collect::<BTreeSet<_>>().len(), crons.len(), "{crons:?}");
    let jobs: BTreeSet<&str> = SCHEDULES.iter().map(|schedule| schedule.job).collect();
    assert_eq!(jobs.len(), SCHEDULES.len(), "two jobs of one name would share a row");
}

#[test]
fn tables_are_those_that_the_migrations_make() {
    let app = TestApp::new();
    let made: BTreeSet<String> = app
        .rows(
            "SELECT name FROM sqlite_master WHERE type = 'table' \
             AND name <> 'd1_migrations' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )
        .iter()
        .map(|row| row.get("name").unwrap())
        .collect();
    let listed: BTreeSet<String> = TABLES.iter().map(|&table| table.to_owned()).collect();
    assert_eq!(listed, made);
    assert_eq!(listed.len(), TABLES.len(), "a table is listed twice");
}

#[test]
fn every_row_of_d1_belongs_to_a_tenant() {
    let app = TestApp::new();
    for &table in TABLES {
        let query = Statement::new(
            "SELECT COUNT(*) AS n FROM pragma_table_info(?1) \
             WHERE name = 'tenant_id' AND \"notnull\" = 1",
        );
        let rows = block_on(app.platform.database.query(query.bind(table))).unwrap();
        let has_tenant = rows[0].get::<u64>("n").unwrap() == 1;
        // A tenant is one; a cron job runs for all of them.
        // And a backup holds all of them.
        let exempt = ["tenants", "job_runs", "backups"].contains(&table);
        assert_eq!(has_tenant, !exempt, "{table}");
    }
}

#[test]
fn every_table_is_strict() {
    let app = TestApp::new();
    let loose: Vec<String> = app
        .rows(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
             AND strict = 0 AND name <> 'd1_migrations' AND name NOT LIKE 'sqlite%'",
        )
        .iter()
        .map(|row| row.get("name").unwrap())
        .collect();
    assert_eq!(loose, [""; 0]);
}

#[test]
fn migrations_are_the_files_of_the_folder_and_say_why() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let names: Vec<&str> = MIGRATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, files);
    for (index, (name, sql)) in MIGRATIONS.iter().enumerate() {
        assert_eq!(*sql, read(&format!("migrations/{name}")), "{name} is another file");
        let (number, rest) = name.split_once('_').unwrap_or_default();
        assert_eq!(number, format!("{:04}", index + 1), "{name}: NNNN_name.sql, without gaps");
        let stem = rest.strip_suffix(".sql").unwrap_or_default();
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        assert!(!stem.is_empty() && stem.bytes().all(plain), "{name}");
        let why = sql.lines().next().and_then(|line| line.strip_prefix("-- ")).unwrap_or_default();
        assert!(why.len() > 20, "{name} does not begin with its reason");
    }
}

#[test]
fn migrations_apply_one_after_the_other() {
    for known in 0..=MIGRATIONS.len() {
        let applied = Platform::new(0, &MIGRATIONS[..known]);
        assert!(applied.is_ok(), "{:?}", applied.err());
    }
}

#[test]
fn every_key_of_kv_is_in_the_table() {
    assert_eq!(KV_KEYS.iter().collect::<BTreeSet<_>>().len(), KV_KEYS.len(), "{KV_KEYS:?}");
    // One file speaks to KV, and every key it uses is of a family of the table.
    for source in sources().iter().filter(|source| !source.path.starts_with("platform/")) {
        for call in ["kv.get(", "kv.put(", "kv.delete("] {
            let speaks = source.code.contains(call);
            assert!(!speaks || source.path == "store/kv.rs", "{}: {call}", source.path);
        }
    }
    let store = read("src/store/kv.rs");
    let families: BTreeSet<&str> = store
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("const "))
        .filter_map(|line| line.split_once(": &str = \"").map(|(_, value)| value))
        .map(|value| value.trim_end_matches("\";"))
        .collect();
    assert_eq!(families, KV_KEYS.iter().copied().collect(), "constants, and the table");
}

#[test]
fn routes_have_ids_and_paths_of_their_own() {
    let ids: BTreeSet<&str> = ROUTES.iter().map(|route| route.id).collect();
    assert_eq!(ids.len(), ROUTES.len(), "an id is used twice");
    let paths: BTreeSet<(&str, &str)> =
        ROUTES.iter().map(|route| (route.method.as_str(), route.path)).collect();
    assert_eq!(paths.len(), ROUTES.len(), "a method and path are used twice");
    let app = TestApp::new();
    assert!(app.platform.log.lines().is_empty(), "the router refused a path");
}

#[test]
fn the_eleven_routes_of_the_contract_are_there() {
    for (method, path) in [
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/metrics/{type}"),
        ("POST", "/decisions"),
        ("GET", "/partnerships"),
        ("GET", "/partnerships/{id}/status"),
        ("GET", "/status"),
        ("GET", "/config"),
        ("GET", "/deployment/readiness"),
        ("GET", "/info"),
        ("GET", "/docs/endpoints"),
        // Beyond the eleven.
        ("POST", "/partnerships"),
        ("PATCH", "/partnerships/{id}"),
        ("DELETE", "/partnerships/{id}"),
        ("PUT", "/partnerships/{id}/deliverables/{key}"),
        ("POST", "/partnerships/{id}/observations"),
        ("POST", "/partnerships/{id}/kpis/{name}"),
    ] {
        let path = format!("/api/v1/orchestration{path}");
        let known = ROUTES.iter().any(|route| route.method == method && route.path == path);
        assert!(known, "{method} {path}");
    }
}

// ---- layers ----

struct Source {
    /// Below `src`.
    path: String,
    text: String,
    /// The text without comments, literals and tests.
    code: String,
}

/// Every file under `src`, programs aside.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                let code = without_tests(&without_comments(&text));
                found.push(Source { path, text, code });
            }
        }
    }
    found.retain(|source| !source.path.starts_with("bin/"));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 50, "the walk found {} files", found.len());
    found
}

/// Blanks what is no code: comments, strings and characters.
fn without_comments(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut code = String::new();
    let mut index = 0;
    while index < chars.len() {
        let start = index;
        match (at(index), at(index + 1)) {
            ('/', '/') => {
                while index < chars.len() && at(index) != '\n' {
                    index += 1;
                }
            }
            ('/', '*') => {
                while index < chars.len() && (at(index), at(index + 1)) != ('*', '/') {
                    index += 1;
                }
                index += 2;
            }
            ('r', '"' | '#') if index == 0 || !at(index - 1).is_alphanumeric() => {
                let hashes = (1..).take_while(|offset| at(index + offset) == '#').count();
                if at(index + 1 + hashes) == '"' {
                    index += hashes + 2;
                    let end: String =
                        std::iter::once('"').chain((0..hashes).map(|_| '#')).collect();
                    let rest: String = chars[index..].iter().collect();
                    index += rest.find(&end).map_or(rest.len(), |at| rest[..at].chars().count());
                    index += end.len();
                }
            }
            ('"', _) => {
                index += 1;
                while index < chars.len() && at(index) != '"' {
                    index += if at(index) == '\\' { 2 } else { 1 };
                }
                index += 1;
            }
            // A character, and not a lifetime.
            ('\'', '\\') => {
                index += 3;
                while index < chars.len() && at(index) != '\'' {
                    index += 1;
                }
                index += 1;
            }
            ('\'', _) if at(index + 2) == '\'' => index += 3,
            _ => {}
        }
        if index == start {
            code.push(at(index));
            index += 1;
        } else {
            code.push(' ');
        }
    }
    code
}

/// Drops each `#[cfg(test)] mod … { … }`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let open = after.find('{').unwrap_or_default();
        let mut depth = 0_usize;
        let end = after[open..].char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0).then_some(open + at + 1)
        });
        rest = &after[end.unwrap_or(after.len())..];
    }
    kept + rest
}

/// The module a file is: `http/mod.rs` is `["http"]`.
fn module(path: &str) -> Vec<String> {
    let stem = path.strip_suffix(".rs").unwrap();
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// Every path that starts at the crate's root, as its parts; those of `self`
/// and `super` are made absolute, and `{}` is spread out.
fn paths(source: &Source, code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back().unwrap_or(' ');
            // Part of a longer path or of a name, or `pub(in crate::…)`.
            if before.is_alphanumeric() || before == '_' || before == ':' || before == '$' {
                continue;
            }
            let mut tree = Vec::new();
            read_tree(&code[at..], &mut Vec::new(), &mut tree);
            found.extend(tree.into_iter().map(|path| absolute(&module(&source.path), &path)));
        }
    }
    found
}

/// Reads one `a::b::{c, d::e}` from the start of `code`; gives what is left.
fn read_tree<'a>(
    mut code: &'a str,
    prefix: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) -> &'a str {
    let depth = prefix.len();
    loop {
        code = code.trim_start();
        if let Some(mut inner) = code.strip_prefix('{') {
            loop {
                inner = inner.trim_start();
                if let Some(rest) = inner.strip_prefix('}') {
                    prefix.truncate(depth);
                    return rest;
                }
                if let Some(rest) = inner.strip_prefix(',') {
                    inner = rest;
                    continue;
                }
                let left = read_tree(inner, prefix, found);
                assert!(
                    left.len() < inner.len(),
                    "no end of {{}}: {}",
                    &inner[..40.min(inner.len())]
                );
                inner = left;
            }
        }
        let end =
            code.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*').unwrap_or(code.len());
        prefix.push(code[..end].to_owned());
        code = &code[end..];
        let Some(rest) = code.strip_prefix("::") else { break };
        if rest.trim_start().starts_with('<') {
            break;
        }
        code = rest;
    }
    found.push(prefix.clone());
    prefix.truncate(depth);
    // `x as y`
    match code.trim_start().strip_prefix("as ") {
        Some(rest) => {
            rest.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_')
        }
        None => code,
    }
}

fn absolute(module: &[String], path: &[String]) -> Vec<String> {
    let mut base: Vec<String> = match path[0].as_str() {
        "crate" => Vec::new(),
        _ => module.to_vec(),
    };
    for part in path {
        match part.as_str() {
            "crate" | "self" => {}
            "super" => {
                base.pop();
            }
            part => base.push(part.to_owned()),
        }
    }
    base
}

/// The layer of a file or of a path: its first part.
fn layer(path: &str) -> &str {
    path.split(['/', '.']).next().unwrap()
}

#[test]
fn imports_go_downwards_only() {
    // Each layer, and all that it may name beside itself.
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("domain", &[][..]),
        ("platform", &[]),
        ("config", &["platform"]),
        ("log", &["domain", "platform"]),
        ("store", &["config", "domain", "log", "platform"]),
        ("objects", &["config", "domain", "log", "platform", "store"]),
        ("backup", &["domain", "objects", "platform", "store"]),
        ("auth", &["config", "domain", "log", "objects", "platform", "store"]),
        ("http", &["auth", "backup", "config", "domain", "log", "objects", "platform", "store"]),
        ("jobs", &["auth", "backup", "config", "domain", "log", "objects", "platform", "store"]),
        ("routes", &["auth", "domain", "http"]),
        (
            "entry",
            &[
                "auth", "config", "domain", "http", "jobs", "log", "objects", "platform", "routes",
                "store",
            ],
        ),
    ]);
    let mut seen = BTreeSet::new();
    for source in sources() {
        let own = layer(&source.path).to_owned();
        seen.insert(own.clone());
        if own == "lib" {
            continue;
        }
        let allowed = allowed.get(own.as_str()).unwrap_or_else(|| panic!("a new layer: {own}"));
        // Tests within a file keep to the layers too.
        for path in paths(&source, &without_comments(&source.text)) {
            let Some(named) = path.first().filter(|named| **named != own) else { continue };
            assert!(
                allowed.contains(&named.as_str()),
                "{}: {own} may not name {}",
                source.path,
                path.join("::")
            );
        }
    }
    let listed: BTreeSet<String> =
        allowed.keys().map(|&own| own.to_owned()).chain(["lib".to_owned()]).collect();
    assert_eq!(seen, listed, "layers with a file, and layers with a rule");
}

/// For a `mod.rs`, what it passes on of its children: name and file.
fn passed_on(source: &Source) -> BTreeMap<String, Vec<String>> {
    let mut names = BTreeMap::new();
    for (at, _) in source.code.match_indices("pub use ") {
        let mut found = Vec::new();
        read_tree(&source.code[at + "pub use ".len()..], &mut Vec::new(), &mut found);
        for path in found {
            let mut target = module(&source.path);
            target.extend(path.iter().cloned());
            names.insert(path.last().unwrap().clone(), target);
        }
    }
    names
}

/// Who imports whom, by file. A `mod.rs` is no node of its own: it declares
/// its children and often holds what they share, so it and they name each
/// other by design; a name that it only passes on counts for the file it is
/// from.
fn imports(sources: &[Source]) -> BTreeMap<&str, BTreeSet<&str>> {
    let files: BTreeMap<Vec<String>, &Source> =
        sources.iter().map(|source| (module(&source.path), source)).collect();
    let is_node = |path: &str| !path.ends_with("mod.rs") && path != "lib.rs";
    let resolve = |mut path: Vec<String>| {
        for _ in 0..3 {
            let known = (0..=path.len()).rev().find(|&n| files.contains_key(&path[..n]))?;
            let file = files[&path[..known]];
            match path.get(known).and_then(|name| passed_on(file).get(name).cloned()) {
                Some(target) => path = target,
                None => return is_node(&file.path).then_some(file.path.as_str()),
            }
        }
        None
    };
    let mut graph = BTreeMap::new();
    for source in sources.iter().filter(|source| is_node(&source.path)) {
        let named: BTreeSet<&str> = paths(source, &source.code)
            .into_iter()
            .filter_map(&resolve)
            .filter(|path| *path != source.path)
            .collect();
        graph.insert(source.path.as_str(), named);
    }
    graph
}

#[test]
fn no_two_files_import_each_other() {
    let sources = sources();
    let graph = imports(&sources);
    let edges: usize = graph.values().map(BTreeSet::len).sum();
    assert!(edges > 150, "the graph has {edges} edges only");
    assert!(graph["http/health.rs"].contains("http/boards.rs"), "super::");
    assert!(graph["http/users.rs"].contains("http/app.rs"), "passed on by mod.rs");
    assert!(graph["domain/score.rs"].contains("domain/metrics.rs"), "{{}}");
    // The shortest way from each file back to itself, named once for its files.
    let mut circles = BTreeSet::new();
    for start in graph.keys() {
        let mut waiting = VecDeque::from([vec![*start]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = waiting.pop_front() {
            for next in &graph[way.last().unwrap()] {
                if next == start {
                    circles.insert(way.iter().copied().collect::<BTreeSet<&str>>());
                } else if seen.insert(next) {
                    waiting.push_back(way.iter().copied().chain([*next]).collect());
                }
            }
        }
    }
    assert!(circles.is_empty(), "these files import each other: {circles:#?}");
}

#[test]
fn nobody_names_the_entry() {
    for source in sources() {
        let own = layer(&source.path);
        let names_it = paths(&source, &without_comments(&source.text))
            .iter()
            .any(|path| path.first().is_some_and(|named| named == "entry"));
        assert!(own == "entry" || !names_it, "{} names entry", source.path);
    }
}

/// Without the feature `worker` there are the rules, and nothing of the rest.
#[test]
fn the_npm_package_is_the_domain_alone() {
    let lib = sources().into_iter().find(|source| source.path == "lib.rs").unwrap().text;
    let lines: Vec<&str> = lib.lines().collect();
    let always: Vec<&str> = lines
        .windows(2)
        .filter(|pair| pair[1].starts_with("pub mod ") && !pair[0].starts_with("#[cfg("))
        .map(|pair| pair[1])
        .collect();
    assert_eq!(always, ["pub mod domain;", "pub mod entry;"]);
    let package = sources().into_iter().find(|source| source.path == "entry/package.rs").unwrap();
    for path in paths(&package, &without_comments(&package.text)) {
        assert_eq!(path.first().unwrap(), "domain", "{path:?}");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for source in sources() {
        let first = source.text.lines().next().unwrap_or_default();
        let says = first.strip_prefix("//! ").unwrap_or_default();
        assert!(says.len() > 10, "{} begins with {first:?}", source.path);
    }
}

#[test]
fn crates_of_the_runtime_are_dependencies_of_wasm_alone() {
    let wasm = "target.'cfg(target_arch = \"wasm32\")'.dependencies";
    for name in ["worker", "wasm-bindgen", "web-sys", "js-sys"] {
        let tables: Vec<String> = toml("Cargo.toml")
            .into_iter()
            .filter(|(table, keys)| table.ends_with("dependencies") && keys.contains_key(name))
            .map(|(table, _)| table)
            .collect();
        assert_eq!(tables, [wasm], "{name}");
        // And code that the host compiles does not name them.
        let krate = format!("{}::", name.replace('-', "_"));
        for source in sources() {
            let only_wasm = source.path.starts_with("platform/cloudflare/")
                || ["entry/package.rs", "entry/worker.rs"].contains(&source.path.as_str());
            let names_it = source.code.match_indices(&krate).any(|(at, _)| {
                let before = source.code[..at].chars().next_back().unwrap_or(' ');
                !before.is_alphanumeric() && before != '_' && before != ':'
            });
            assert!(only_wasm || !names_it, "{} names {name}", source.path);
        }
    }
}

//! Every parser of what strangers send, fed with arbitrary and with slightly
//! damaged input: whatever comes, it answers and does not panic.
//!
//! `FUZZ_CASES` (2,000) cases each; `make fuzz` runs a million. `FUZZ_SEED`
//! (0) chooses which.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use devskyy_orchestration::auth::api_key::ApiKey;
use devskyy_orchestration::auth::permission::Role;
use devskyy_orchestration::auth::token::{Grant, Keys};
use devskyy_orchestration::config::Config;
use devskyy_orchestration::domain::decision::appraisal::AppraisalContext;
use devskyy_orchestration::domain::id::IdKind;
use devskyy_orchestration::domain::probe_url::{LoopbackPolicy, ProbeUrl};
use devskyy_orchestration::domain::status_page;
use devskyy_orchestration::domain::time::Timestamp;
use devskyy_orchestration::entry::native::{SIGNING_KEY, World};
use devskyy_orchestration::http::body::from_json;
use devskyy_orchestration::http::conditional::{self, Comparison};
use devskyy_orchestration::http::config::SettingsPatchIn;
use devskyy_orchestration::http::ingest::read_row;
use devskyy_orchestration::http::keys::CreateKeyIn;
use devskyy_orchestration::http::limiter::address_id;
use devskyy_orchestration::http::login::LoginIn;
use devskyy_orchestration::http::registry::PartnershipIn;
use devskyy_orchestration::http::{Body, Request, idempotency, pages};
use devskyy_orchestration::platform::{Headers, Vars};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config as RunnerConfig, RngAlgorithm, TestRng, TestRunner};
use serde_json::json;

const NOW: &str = "2026-01-31T12:00:00Z";

fn now() -> Timestamp {
    Timestamp::parse(NOW).unwrap()
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Runs the cases and says how many there were.
fn run<S: Strategy>(what: &str, strategy: S, check: impl Fn(S::Value)) {
    let cases = setting("FUZZ_CASES", 2_000);
    let config = RunnerConfig { cases, failure_persistence: None, ..RunnerConfig::default() };
    let mut seed = [0_u8; 32];
    seed[..4].copy_from_slice(&setting("FUZZ_SEED", 0).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let outcome = TestRunner::new_with_rng(config, rng).run(&strategy, |value| {
        check(value);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{what}: {error}");
    }
    println!("{what}: {cases} cases, no panic");
}

/// Text of any kind, and the given texts with a few bytes changed, left out,
/// doubled or cut.
fn near(seeds: Vec<String>) -> impl Strategy<Value = String> {
    let damage = (0..6_u8, any::<Index>(), any::<char>());
    let damaged = (proptest::sample::select(seeds), proptest::collection::vec(damage, 0..4));
    prop_oneof![
        1 => ".{0,80}",
        1 => "[\\x00-\\x7f]{0,200}",
        4 => damaged.prop_map(|(seed, damages)| {
            let mut chars: Vec<char> = seed.chars().collect();
            for (kind, index, letter) in damages {
                if chars.is_empty() {
                    break;
                }
                let at = index.index(chars.len());
                match kind {
                    0 => chars[at] = letter,
                    1 => { chars.remove(at); }
                    2 => chars.insert(at, letter),
                    3 => chars.truncate(at),
                    4 => chars.insert(at, chars[at]),
                    _ => {
                        let tail = chars.split_off(at);
                        chars = tail.into_iter().chain(chars).collect();
                    }
                }
            }
            chars.into_iter().collect()
        }),
    ]
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn keys() -> Keys {
    let vars = Vars::default();
    vars.set("SIGNING_KEY", SIGNING_KEY);
    Keys::from_config(&Config::from_vars(&vars)).unwrap()
}

#[test]
fn tokens() {
    let keys = keys();
    let user_id = IdKind::User.make(now(), &[7; 10]);
    let grant = Grant { tenant_id: "ten_default", user_id: &user_id, role: Role::Admin };
    let token = keys.sign(&grant, now(), &[1; 10]);
    assert!(keys.verify(&token, now()).is_ok());
    run("access tokens", near(vec![token.clone()]), |text| {
        let verified = keys.verify(&text, now());
        assert!(verified.is_err() || text == token, "{text}");
    });
}

#[test]
fn api_keys() {
    let key = ApiKey::make(&[3; 10], &[7; 32]);
    run("API keys", near(vec![key.expose().to_owned()]), |text| {
        if let Some(read) = ApiKey::parse(&text) {
            assert_eq!(read.expose(), text);
        }
    });
}

#[test]
fn cursors() {
    let seeds = texts(&["limit=5&cursor=bGlzdCB1c3JfMQ", "cursor=bGlzdCAxLmFjdF8x", "limit=200"]);
    run("cursors", near(seeds), |query| {
        if let Ok(page) = pages::parse("list", &query) {
            assert!((1..=pages::MAX_LIMIT).contains(&page.limit));
        }
    });
}

#[test]
fn idempotency_keys() {
    let seeds = texts(&["\"8e03978e-40d5-43e8\"", "plain-token", r#""a\"b\\c""#]);
    run("idempotency keys", near(seeds), |header| {
        if let Some(key) = idempotency::parse_key(&header) {
            assert!((1..=255).contains(&key.len()) && key.is_ascii());
        }
    });
}

#[test]
fn batch_rows() {
    let seeds = texts(&[
        r#"{"at":"2026-01-31T11:59:00Z","outcome":"up","latency_ms":12.5,"source":"g"}"#,
        r#"{"at":"2026-01-31T11:59:00+01:00","outcome":"throttled","source":"gateway-eu"}"#,
    ]);
    run("batch rows", near(seeds), |row| {
        if let Ok(observation) = read_row(&row, now()) {
            assert!(observation.at <= now().plus_ms(60_000));
        }
    });
}

#[test]
fn probe_urls() {
    let seeds = texts(&[
        "https://api.example.com/v1/models",
        "https://user:pass@example.com/",
        "http://127.0.0.1:8787/",
        "https://[::ffff:127.0.0.1]/",
        "https://0x7f.1/",
        "https://example.com.:443/a?b#c",
        "https://xn--bcher-kva.example/",
    ]);
    run("probe URLs", near(seeds), |url| {
        for policy in [LoopbackPolicy::Refused, LoopbackPolicy::Allowed] {
            if let Ok(probe) = ProbeUrl::parse(&url, policy) {
                // What is taken is taken again, and stays what it is.
                let text = probe.as_str().to_owned();
                assert_eq!(ProbeUrl::parse(&text, policy).unwrap().as_str(), text);
            }
        }
    });
}

#[test]
fn problem_pointers() {
    let seeds = texts(&[
        r#"{"id":"acme","name":"A","partner":"A","kpis":[{"name":"x","target":1,"unit":"u","direction":"higher"}]}"#,
        r#"{"context":{"estimated_cost":1,"~x/y":2}}"#,
        r#"{"username":"a","password":"b"}"#,
        r#"{"name":"a","permissions":["metrics:read"]}"#,
        r#"{"weights":{"reliability":1,"kpis":1,"deliverables":1},"limits":{"ingest":5}}"#,
    ]);
    run("bodies and problem pointers", near(seeds), |body| {
        let bytes = body.as_bytes();
        let problems = [
            from_json::<PartnershipIn>(bytes).err(),
            from_json::<AppraisalContext>(bytes).err(),
            from_json::<LoginIn>(bytes).err(),
            from_json::<CreateKeyIn>(bytes).err(),
            from_json::<SettingsPatchIn>(bytes).err(),
        ];
        for error in problems.into_iter().flatten().flat_map(|problem| problem.errors) {
            let well_formed = error.pointer.is_empty() || error.pointer.starts_with('/');
            let escapes = error.pointer.replace("~0", "").replace("~1", "");
            assert!(well_formed && !escapes.contains('~'), "{:?}", error.pointer);
        }
    });
}

#[test]
fn entity_tags() {
    let seeds = texts(&["\"a\", W/\"b\"", "*", "\"a,b\""]);
    run("entity tags", near(seeds), |list| {
        let strong = conditional::names(&list, "\"a\"", Comparison::Strong);
        assert!(!strong || conditional::names(&list, "\"a\"", Comparison::Weak));
    });
}

#[test]
fn addresses() {
    let seeds = texts(&["203.0.113.7", "2001:db8::1", "::ffff:1.2.3.4", "fe80::1%eth0"]);
    run("addresses", near(seeds), |text| {
        if let Some(id) = address_id(&text) {
            assert!(id.starts_with("ip:") && id.len() < 32, "{id}");
        }
    });
}

#[test]
fn status_pages() {
    let page = json!({
        "page": { "updated_at": NOW }, "status": { "indicator": "minor", "description": "x" },
        "components": [{ "status": "operational" }],
        "incidents": [{ "status": "investigating", "impact": "major" }],
    });
    run("status pages", near(vec![page.to_string()]), |body| {
        status_page::parse(body.as_bytes(), now());
    });
}

/// The whole way: method, path, query and headers of any kind.
#[test]
fn requests() {
    let world = World::new(now()).unwrap();
    let paths = texts(&[
        "/api/v1/orchestration/health",
        "/api/v1/orchestration/metrics/cursor",
        "/api/v1/orchestration/partnerships/cursor/deliverables/x",
        "/api/v1/orchestration/rate-limits/203.0.113.7",
        "/api/v1/auth/keys/key_1/rotate",
        "/.well-known/jwks.json",
        "/docs-assets/LICENSE",
    ]);
    let header = proptest::sample::select(texts(&[
        "authorization",
        "x-api-key",
        "accept",
        "origin",
        "traceparent",
        "x-request-id",
        "if-none-match",
        "cf-connecting-ip",
        "content-type",
        "access-control-request-method",
    ]));
    let value = near(texts(&[
        "Bearer a.b.c",
        "dsk_0000000000_AAAA",
        "text/plain;q=0.5, */*",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "application/json",
    ]));
    let request = (
        proptest::sample::select(texts(&[
            "GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE",
        ])),
        near(paths),
        proptest::option::of(".{0,40}"),
        proptest::collection::vec((header, value), 0..4),
        near(texts(&["{\"refresh_token\":\"x\"}", "username=a&password=b"])),
    );
    run("requests", request, |(method, path, query, fields, body)| {
        let mut headers = Headers::default();
        for (name, value) in &fields {
            headers.set(name, value);
        }
        let reply = futures::executor::block_on(world.app.handle(Request {
            method: method.parse().unwrap(),
            path,
            query,
            headers,
            body: Body::Whole(body.into_bytes().into()),
        }));
        assert!(reply.status != 500, "{}", String::from_utf8_lossy(&reply.body));
    });
}

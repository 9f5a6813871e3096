//! `make bench-decisions`: what a decision costs on the host. The promise: a
//! strategy question with six partnerships, seven options, eight criteria and
//! 2,000 draws in under 5 ms.

// A benchmark may panic, as tests may.
#![allow(clippy::expect_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use devskyy_orchestration::domain::decision::conclusion::{Case, Kind, Question, decide};
use devskyy_orchestration::domain::decision::evidence::{Fact, sorted};
use devskyy_orchestration::domain::decision::policy::{Family, shipped};
use devskyy_orchestration::domain::time::Timestamp;
use serde_json::{Value, json};
use std::hint::black_box;

fn question(context: Value) -> Question {
    Question::read(Kind::of_context(&context), context).expect("a question")
}

/// Six partnerships, the last of them sick, so that every option of the
/// catalogue is there.
fn partnerships(at: Timestamp) -> Vec<Fact> {
    let names = ["a", "b", "c", "d", "e", "sick"];
    let facts = names.into_iter().flat_map(|name| {
        let sick = name == "sick";
        let known = [
            ("score", Family::Score, if sick { 31.0 } else { 97.0 }),
            ("attainment.availability", Family::Score, if sick { 0.1 } else { 1.0 }),
            ("attainment.latency", Family::Score, 0.9),
            ("attainment.kpis", Family::Score, if sick { 0.5 } else { 0.95 }),
            ("attainment.deliverables", Family::Score, if sick { 0.4 } else { 0.96 }),
            ("slo_budget_remaining", Family::Slo, if sick { -2.0 } else { 0.9 }),
            ("incidents.open", Family::Incidents, 0.0),
        ];
        known.map(|(fact, family, value)| Fact {
            family,
            n: Some(1_440),
            observed_at: Some(at),
            ..Fact::of_caller(format!("{name}.{fact}"), Some(value), None)
        })
    });
    facts.collect()
}

/// As large as a choice may be.
fn largest() -> Value {
    let options: Vec<Value> = (0..24)
        .map(|n| {
            let values: serde_json::Map<String, Value> = (0..10)
                .map(|k| (format!("c{k}"), json!(f64::from((n * 7 + k * 13) % 11) / 10.0)))
                .collect();
            json!({ "id": format!("o{n}"), "values": values })
        })
        .collect();
    let criteria: Vec<Value> = (0..10)
        .map(|k| json!({ "id": format!("c{k}"), "direction": "max", "weight": k + 1, "bounds": [0, 1] }))
        .collect();
    json!({ "options": options, "criteria": criteria })
}

fn decisions(criterion: &mut Criterion) {
    let at = Timestamp::parse("2026-01-31T12:00:00Z").expect("a time");
    let mut policy = shipped().expect("a policy");
    // All eight criteria take part.
    for weights in policy.strategy.goals.values_mut() {
        for known in &policy.strategy.criteria {
            weights.entry(known.id.clone()).or_insert(5.0);
        }
    }
    let range = |low: f64, mode: f64, high: f64| json!({ "low": low, "mode": mode, "high": high });
    let cases = [
        (
            "strategy: 6 partnerships, 7 options, 8 criteria, 2000 draws",
            json!({ "business_goal": "improve_reliability", "timeframe": "90_days", "budget": 50_000 }),
        ),
        ("choice: 24 options, 10 criteria, 2000 draws", largest()),
        (
            "appraisal: 4 ranges, 2000 draws",
            json!({
                "estimated_cost": range(80.0, 100.0, 150.0), "expected_revenue": range(150.0, 300.0, 400.0),
                "estimated_days": 90, "technical_complexity": range(2.0, 4.0, 8.0), "market_uncertainty": 3,
                "resource_availability": range(5.0, 7.0, 9.0), "timeline_pressure": 2,
            }),
        ),
    ];
    for (name, context) in cases {
        let question = question(context);
        let facts = sorted([question.facts(), partnerships(at)].concat());
        let case = Case { question: &question, facts: &facts, policy: &policy, at };
        criterion.bench_function(name, |bench| bench.iter(|| decide(black_box(&case))));
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);

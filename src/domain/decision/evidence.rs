//! Evidence: the facts a decision rests on, each with where it comes from, how
//! much stands behind it and how old it is.

use super::policy::{EvidenceRule, EvidenceRules, Family};
use crate::domain::deliverable::DeliverableStatus;
use crate::domain::deliverable::end_of_day;
use crate::domain::metrics::{self, OBSERVED, round};
use crate::domain::partnership::Summary;
use crate::domain::score::Score;
use crate::domain::statistics::Interval;
use crate::domain::time::{SECOND_MS, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One fact as it was when the question was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Fact {
    /// Such as `cursor_technical.metrics.uptime` or `options.a.price`.
    pub id: String,
    pub family: Family,
    /// Who measured or sent it: `caller`, `probe`, `client`, a user's id.
    pub source: Option<String>,
    /// Null: nobody knows.
    pub value: Option<f64>,
    pub unit: Option<String>,
    /// Samples it was made from.
    pub n: Option<u64>,
    /// At 95 %, or the ends of the range the caller gave.
    pub interval: Option<Interval>,
    pub observed_at: Option<Timestamp>,
}

impl Fact {
    pub fn of_caller(id: String, value: Option<f64>, unit: Option<String>) -> Self {
        Self {
            id,
            family: Family::Caller,
            source: Some("caller".to_owned()),
            value,
            unit,
            n: None,
            interval: None,
            observed_at: None,
        }
    }
}

/// Whether a fact may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FactState {
    Used,
    /// Nobody knows it.
    Missing,
    /// Older than the policy allows.
    Stale,
    /// From fewer samples than the policy asks for.
    Thin,
}

impl FactState {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Missing => "missing",
            Self::Stale => "too old",
            Self::Thin => "from too few samples",
        }
    }
}

/// A fact, and what the policy makes of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Evidence {
    #[serde(flatten)]
    pub fact: Fact,
    /// Seconds between the newest sample and the decision.
    pub age_s: Option<i64>,
    pub state: FactState,
}

/// Facts by the policy's rules, in the order of their ids.
pub fn assess(facts: &[Fact], rules: &EvidenceRules, at: Timestamp) -> Vec<Evidence> {
    facts.iter().map(|fact| assess_one(fact, rules.of(fact.family), at)).collect()
}

fn assess_one(fact: &Fact, rule: Option<EvidenceRule>, at: Timestamp) -> Evidence {
    let age_ms = fact.observed_at.map(|observed_at| at.since_ms(observed_at).max(0));
    let state = match (fact.value, rule) {
        (None, _) => FactState::Missing,
        (Some(_), None) => FactState::Used,
        (Some(_), Some(rule)) => {
            let most_ms = i64::from(rule.max_age_s) * SECOND_MS;
            if age_ms.is_none_or(|age_ms| age_ms > most_ms) {
                FactState::Stale
            } else if fact.n.is_some_and(|n| n < u64::from(rule.min_n)) {
                FactState::Thin
            } else {
                FactState::Used
            }
        }
    };
    Evidence { fact: fact.clone(), age_s: age_ms.map(|ms| ms / SECOND_MS), state }
}

impl Evidence {
    /// The value, where it may be used.
    pub fn usable(&self) -> Option<f64> {
        self.fact.value.filter(|_| self.state == FactState::Used)
    }
}

/// The evidence of one id.
pub fn find<'a>(evidence: &'a [Evidence], id: &str) -> Option<&'a Evidence> {
    evidence
        .binary_search_by(|known| known.fact.id.as_str().cmp(id))
        .ok()
        .and_then(|at| evidence.get(at))
}

/// In the order of ids, each once; what [`find`] relies on.
pub fn sorted(mut facts: Vec<Fact>) -> Vec<Fact> {
    facts.sort_by(|a, b| a.id.cmp(&b.id));
    facts.dedup_by(|a, b| a.id == b.id);
    facts
}

/// SHA-256 over the canonical JSON (RFC 8785) of the facts: what random draws
/// are seeded with, so that they can be repeated and not chosen.
///
/// # Errors
/// A number that JSON cannot hold.
pub fn hash(facts: &[Fact]) -> Result<[u8; 32], String> {
    let facts = serde_json::to_value(facts).map_err(|error| error.to_string())?;
    let bytes = serde_json_canonicalizer::to_vec(&facts).map_err(|error| error.to_string())?;
    Ok(Sha256::digest(bytes).into())
}

/// Incidents of a partnership that are open, as of the last report of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpenIncidents {
    pub open: u64,
    pub reported_at: Timestamp,
}

/// Everything that can be asked of a partnership, known or not.
pub fn of_partnership(
    summary: &Summary,
    score: &Score,
    incidents: Option<OpenIncidents>,
    now: Timestamp,
) -> Vec<Fact> {
    let id = &summary.definition.id;
    let newest = summary.newest.first().map(|(at, _)| *at);
    let fact = |name: String, family, value: Option<f64>| Fact {
        id: format!("{id}.{name}"),
        family,
        source: Some("board".to_owned()),
        value,
        unit: None,
        n: None,
        interval: None,
        observed_at: Some(summary.computed_at),
    };
    let mut facts = vec![Fact {
        unit: Some("points".to_owned()),
        observed_at: newest,
        ..fact("score".to_owned(), Family::Score, score.score)
    }];
    for (name, of) in GROUPS {
        facts.push(Fact {
            unit: Some("ratio".to_owned()),
            ..fact(format!("attainment.{name}"), Family::Score, attained(score, of))
        });
    }
    for (name, detail) in metrics::all(summary, now) {
        let observed = OBSERVED.contains(&name.as_str());
        facts.push(Fact {
            source: detail.source,
            unit: Some(detail.unit),
            n: Some(detail.n),
            interval: detail.ci95,
            observed_at: detail.observed_at,
            ..fact(
                format!("metrics.{name}"),
                if observed { Family::Observed } else { Family::Kpi },
                detail.value,
            )
        });
    }
    let evaluated_at = summary.assessment.evaluated_at;
    for slo in &summary.assessment.slos {
        for (name, value) in [("budget_remaining", slo.budget_remaining), ("burn_1h", slo.burn.h1)]
        {
            facts.push(Fact {
                unit: Some("ratio".to_owned()),
                n: Some(slo.good.saturating_add(slo.bad)),
                observed_at: evaluated_at,
                ..fact(format!("slo.{}.{name}", slo.key), Family::Slo, value)
            });
        }
    }
    // The objective that is worst off speaks for all.
    let budgets =
        summary.assessment.slos.iter().filter_map(|slo| Some((slo.budget_remaining?, slo)));
    let worst = budgets.min_by(|a, b| a.0.total_cmp(&b.0));
    facts.push(Fact {
        unit: Some("ratio".to_owned()),
        n: worst.map(|(_, slo)| slo.good.saturating_add(slo.bad)),
        observed_at: evaluated_at,
        ..fact("slo_budget_remaining".to_owned(), Family::Slo, worst.map(|(left, _)| left))
    });
    facts.push(Fact {
        unit: Some("deliverables".to_owned()),
        ..fact("deliverables.overdue".to_owned(), Family::Deliverables, overdue(summary, now))
    });
    facts.push(Fact {
        unit: Some("incidents".to_owned()),
        observed_at: incidents.map(|incidents| incidents.reported_at),
        ..fact(
            "incidents.open".to_owned(),
            Family::Incidents,
            incidents.map(|incidents| incidents.open as f64),
        )
    });
    facts
}

/// Terms of the score that are looked at together, by the start of their names.
const GROUPS: [(&str, &str); 4] = [
    ("availability", "availability"),
    ("latency", "latency"),
    ("kpis", "kpi:"),
    ("deliverables", "deliverables"),
];

/// The weighted mean attainment of a group of terms, over those with data.
fn attained(score: &Score, prefix: &str) -> Option<f64> {
    let (mut sum, mut weights) = (0.0, 0.0);
    for term in score.terms.iter().filter(|term| term.name.starts_with(prefix)) {
        if let Some(attainment) = term.attainment {
            sum += term.weight * attainment;
            weights += term.weight;
        }
    }
    (weights > 0.0).then(|| round(sum / weights))
}

/// Deliverables whose day has passed and that are not done; nobody knows where
/// none has a day.
fn overdue(summary: &Summary, now: Timestamp) -> Option<f64> {
    let due: Vec<_> = summary
        .definition
        .deliverables
        .iter()
        .filter_map(|known| Some((known, end_of_day(known.due_date.as_deref()?).ok()?)))
        .collect();
    let done = [Some(DeliverableStatus::Completed), Some(DeliverableStatus::Cancelled)];
    let late = due.iter().filter(|(known, end)| now >= *end && !done.contains(&known.status));
    (!due.is_empty()).then(|| late.count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::partnership::tests::summary;
    use crate::domain::score;

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-31T12:00:00Z").unwrap()
    }

    #[test]
    fn what_nobody_measured_is_missing() {
        let summary = summary(now());
        let facts = of_partnership(&summary, &score::evaluate(&summary, now()), None, now());
        assert!(facts.iter().all(|fact| fact.value.is_none()), "{facts:#?}");
        let known = |id: &str| facts.iter().any(|fact| fact.id == format!("acme_search.{id}"));
        for id in ["score", "metrics.uptime", "metrics.speed", "attainment.kpis"] {
            assert!(known(id), "{id}");
        }
        let evidence = assess(&sorted(facts), &EvidenceRules::default(), now());
        assert!(evidence.iter().all(|e| e.state == FactState::Missing && e.usable().is_none()));
    }

    #[test]
    fn old_and_thin_facts_are_not_used() {
        let rules = EvidenceRules::default();
        let rule = rules.observed;
        let fact = |age_s: u32, n: u32| Fact {
            family: Family::Observed,
            n: Some(u64::from(n)),
            observed_at: Some(now().plus_ms(-i64::from(age_s) * SECOND_MS)),
            ..Fact::of_caller("a.metrics.uptime".to_owned(), Some(99.0), None)
        };
        let state = |fact: Fact| assess(&[fact], &rules, now())[0].state;
        assert_eq!(state(fact(rule.max_age_s, rule.min_n)), FactState::Used);
        assert_eq!(state(fact(rule.max_age_s + 1, rule.min_n)), FactState::Stale);
        assert_eq!(state(fact(0, rule.min_n - 1)), FactState::Thin);
        assert_eq!(state(Fact { observed_at: None, ..fact(0, rule.min_n) }), FactState::Stale);
        assert_eq!(state(Fact::of_caller("x".to_owned(), Some(1.0), None)), FactState::Used);
    }

    #[test]
    fn the_hash_is_of_the_facts_and_not_of_their_writing() {
        let fact = |value| Fact::of_caller("options.a.price".to_owned(), Some(value), None);
        assert_eq!(hash(&[fact(1.0)]), hash(&[fact(1.0)]));
        assert_ne!(hash(&[fact(1.0)]), hash(&[fact(1.5)]));
        let text = serde_json_canonicalizer::to_string(&[fact(1.0)]).unwrap();
        assert!(text.contains("\"value\":1}"), "{text}");
        let two = sorted(vec![fact(2.0), Fact { id: "a".to_owned(), ..fact(1.0) }, fact(2.0)]);
        assert_eq!(two.len(), 2);
    }
}

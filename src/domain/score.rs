//! The score of a partnership, with every term that makes it, and the state
//! of the whole system.
//!
//! score = 100 · Σ w·a / Σ w over terms with data;
//! coverage = Σ w with data / Σ w over all terms.

use super::deliverable;
use super::kpi;
use super::metrics::{self, MetricDetail, MetricState, round};
use super::partnership::Summary;
use super::time::Timestamp;
use super::verdict::{self, Verdict};
use serde::{Deserialize, Serialize};

/// Share of the reliability weight that latency takes where a latency target
/// was agreed; availability has the rest, or all of it.
const LATENCY_SHARE: f64 = 0.25;

/// Band of a score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// 90 and above.
    Excellent,
    /// 75 to below 90.
    Good,
    /// 60 to below 75.
    Fair,
    /// Below 60.
    Poor,
    /// Too little data for a score.
    Unknown,
}

impl Health {
    fn of(score: Option<f64>) -> Self {
        match score {
            None => Self::Unknown,
            Some(score) if score >= 90.0 => Self::Excellent,
            Some(score) if score >= 75.0 => Self::Good,
            Some(score) if score >= 60.0 => Self::Fair,
            Some(_) => Self::Poor,
        }
    }
}

/// State of all partnerships together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SystemHealth {
    Healthy,
    Degraded,
    Critical,
    Unknown,
}

/// One term of a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Term {
    /// `availability`, `latency`, `kpi:<name>` or `deliverables`.
    pub name: String,
    pub weight: f64,
    /// What was measured or sent.
    pub actual: Option<f64>,
    pub target: Option<f64>,
    pub unit: String,
    /// How much of the target is attained, 0 to 1; null without usable data.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub attainment: Option<f64>,
    /// What this term adds to the score; the points of all terms add up to it.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub points: Option<f64>,
    pub state: MetricState,
    /// How the attainment was made.
    pub rule: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Score {
    pub health: Health,
    /// 0 to 100; null where coverage is too low.
    pub score: Option<f64>,
    /// Weight of the terms with data over the weight of all, 0 to 1.
    pub coverage: f64,
    pub terms: Vec<Term>,
}

/// Scores a partnership as it is known at `now`.
pub fn evaluate(summary: &Summary, now: Timestamp) -> Score {
    let metrics = metrics::all(summary, now);
    let find = |name: &str| metrics.iter().find(|(n, _)| n == name).map(|(_, detail)| detail);
    let definition = &summary.definition;
    let weights = &definition.settings.weights;
    let mut terms = Vec::new();

    let latency_share = if definition.targets.latency_ms.is_some() { LATENCY_SHARE } else { 0.0 };
    if let Some(uptime) = find("uptime") {
        let (floor, target) = (
            definition.targets.availability_floor_percent,
            definition.targets.availability_percent,
        );
        let rule = format!("(uptime - {floor}) / ({target} - {floor})");
        let attained = |actual: f64| ((actual - floor) / (target - floor)).clamp(0.0, 1.0);
        let weight = weights.reliability * (1.0 - latency_share);
        terms.push(term("availability", weight, uptime, attained, rule));
    }
    if let (Some(target), Some(p95)) = (definition.targets.latency_ms, find("response_time_p95")) {
        let attained = |actual| kpi::attainment(actual, target, kpi::Direction::LowerIsBetter);
        let weight = weights.reliability * latency_share;
        terms.push(term("latency", weight, p95, attained, "target / p95".to_owned()));
    }
    let kpi_weights: f64 = definition.kpis.iter().map(|kpi| kpi.weight).sum();
    for kpi in &definition.kpis {
        let Some(detail) = find(&kpi.name) else { continue };
        let rule = match kpi.direction {
            kpi::Direction::HigherIsBetter => "actual / target",
            kpi::Direction::LowerIsBetter => "target / actual",
        };
        let attained = |actual| kpi::attainment(actual, kpi.target, kpi.direction);
        let weight = weights.kpis * kpi.weight / kpi_weights;
        terms.push(term(&format!("kpi:{}", kpi.name), weight, detail, attained, rule.to_owned()));
    }
    if !definition.deliverables.is_empty() {
        terms.push(deliverables(summary, weights.deliverables, now));
    }
    total(terms, definition.settings.min_coverage)
}

fn term(
    name: &str,
    weight: f64,
    detail: &MetricDetail,
    attained: impl Fn(f64) -> f64,
    rule: String,
) -> Term {
    Term {
        name: name.to_owned(),
        weight,
        actual: detail.value,
        target: detail.target,
        unit: detail.unit.clone(),
        attainment: detail.usable().map(attained),
        points: None,
        state: detail.state,
        rule,
    }
}

fn deliverables(summary: &Summary, weight: f64, now: Timestamp) -> Term {
    let attained = deliverable::attainment(&summary.definition.deliverables, now);
    let rule = match attained {
        Some(attained) if attained.by_due_date => "on-time weight / due weight",
        _ => "mean progress of those reported, as nothing is due",
    };
    Term {
        name: "deliverables".to_owned(),
        weight,
        actual: attained.map(|attained| round(100.0 * attained.value)),
        target: Some(100.0),
        unit: "percent".to_owned(),
        attainment: attained.map(|attained| attained.value),
        points: None,
        state: if attained.is_some() { MetricState::Ok } else { MetricState::NoData },
        rule: rule.to_owned(),
    }
}

fn total(mut terms: Vec<Term>, min_coverage: f64) -> Score {
    let all: f64 = terms.iter().map(|term| term.weight).sum();
    let known: f64 = terms.iter().filter(|t| t.attainment.is_some()).map(|t| t.weight).sum();
    let coverage = if all > 0.0 { known / all } else { 0.0 };
    let scored = coverage >= min_coverage && known > 0.0;
    let mut score = 0.0;
    for term in &mut terms {
        let points = term.attainment.filter(|_| scored).map(|a| 100.0 * term.weight * a / known);
        score += points.unwrap_or(0.0);
        term.points = points.map(round);
        term.attainment = term.attainment.map(round);
        term.weight = round(term.weight);
    }
    let score = scored.then(|| score.clamp(0.0, 100.0));
    Score { health: Health::of(score), score: score.map(round), coverage: round(coverage), terms }
}

/// The verdict on a partnership at `now`.
pub fn current_verdict(summary: &Summary, now: Timestamp) -> Verdict {
    verdict::current(&summary.newest, now)
}

/// The mean of the known scores: from 85 healthy, from 70 degraded, else
/// critical; none known: unknown. A partnership that is down keeps the system
/// from being healthy.
pub fn system(partnerships: impl IntoIterator<Item = (Option<f64>, Verdict)>) -> SystemHealth {
    let (mut sum, mut known, mut any_down) = (0.0, 0.0, false);
    for (score, verdict) in partnerships {
        if let Some(score) = score {
            sum += score;
            known += 1.0;
        }
        any_down |= verdict == Verdict::Down;
    }
    if known == 0.0 {
        return SystemHealth::Unknown;
    }
    match sum / known {
        mean if mean >= 85.0 && !any_down => SystemHealth::Healthy,
        mean if mean >= 70.0 => SystemHealth::Degraded,
        _ => SystemHealth::Critical,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::partnership::KpiValue;
    use crate::domain::partnership::tests::summary;
    use crate::domain::rollup::Counts;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn with_counts(up: u64, down: u64) -> Summary {
        let newest = vec![(NOW, if down > 0 { Verdict::Down } else { Verdict::Up })];
        Summary { counts: Counts { up, down, ..Counts::default() }, newest, ..summary(NOW) }
    }

    fn with_kpi(mut summary: Summary, name: &str, value: f64) -> Summary {
        let value = KpiValue { value, at: NOW, author: "usr_1".to_owned(), n: 1 };
        summary.kpis.insert(name.to_owned(), value);
        summary
    }

    #[test]
    fn without_data_there_is_no_score() {
        let score = evaluate(&summary(NOW), NOW);
        assert_eq!((score.health, score.score, score.coverage), (Health::Unknown, None, 0.0));
        assert!(score.terms.iter().all(|term| term.attainment.is_none() && term.points.is_none()));
    }

    #[test]
    fn availability_alone_gives_a_score_and_says_so() {
        // (99 - 95) / (99.9 - 95) = 0.816326...
        let score = evaluate(&with_counts(99, 1), NOW);
        assert_eq!(score.score, Some(81.6327));
        assert_eq!(score.coverage, 0.4);
        assert_eq!(score.health, Health::Good);
    }

    #[test]
    fn thin_coverage_gives_none() {
        // One KPI of two: 20 of 100.
        let score = evaluate(&with_kpi(summary(NOW), "speed", 10.0), NOW);
        assert_eq!((score.coverage, score.score), (0.2, None));
        // Both: 40 of 100.
        let both = with_kpi(with_kpi(summary(NOW), "speed", 10.0), "delay", 10.0);
        assert_eq!(evaluate(&both, NOW).score, Some(100.0));
    }

    #[test]
    fn old_observations_do_not_count() {
        let later = NOW.plus_ms(16 * 60_000);
        let score = evaluate(&with_counts(99, 1), later);
        assert_eq!(score.score, None);
        assert_eq!(score.terms[0].state, MetricState::Stale);
        assert_eq!(current_verdict(&with_counts(99, 1), later), Verdict::Unknown);
    }

    #[test]
    fn latency_takes_its_share_where_it_was_agreed() {
        let mut with_target = with_counts(100, 0);
        with_target.definition.targets.latency_ms = Some(200.0);
        let names: Vec<_> =
            evaluate(&with_target, NOW).terms.iter().map(|t| (t.name.clone(), t.weight)).collect();
        assert_eq!(names[0], ("availability".to_owned(), 30.0));
        assert_eq!(names[1], ("latency".to_owned(), 10.0));
    }

    #[test]
    fn the_system_is_the_mean_of_what_is_known() {
        use SystemHealth::*;
        for (known, expected) in [
            (vec![], Unknown),
            (vec![(None, Verdict::Up)], Unknown),
            (vec![(Some(85.0), Verdict::Up), (None, Verdict::Unknown)], Healthy),
            (vec![(Some(84.9), Verdict::Up)], Degraded),
            (vec![(Some(70.0), Verdict::Up)], Degraded),
            (vec![(Some(69.9), Verdict::Up)], Critical),
            (vec![(Some(100.0), Verdict::Up), (Some(100.0), Verdict::Down)], Degraded),
        ] {
            assert_eq!(system(known.clone()), expected, "{known:?}");
        }
    }

    proptest! {
        #[test]
        fn a_score_is_the_sum_of_its_points(
            up in 0_u64..5_000, down in 0_u64..5_000, speed in 0.0..50.0_f64, delay in 0.0..50.0_f64,
        ) {
            let summary = with_kpi(with_kpi(with_counts(up, down), "speed", speed), "delay", delay);
            let scored = evaluate(&summary, NOW);
            if let Some(score) = scored.score {
                prop_assert!((0.0..=100.0).contains(&score));
                let points: f64 = scored.terms.iter().filter_map(|t| t.points).sum();
                prop_assert!((points - score).abs() < 0.001);
            }
        }

        #[test]
        fn better_never_scores_lower(up in 1_u64..2_000, down in 1_u64..2_000, speed in 0.0..9.0_f64) {
            let base = with_kpi(with_counts(up, down), "speed", speed);
            let better = with_kpi(with_counts(up + 1, down - 1), "speed", speed + 1.0);
            prop_assert!(evaluate(&better, NOW).score >= evaluate(&base, NOW).score);
        }
    }
}

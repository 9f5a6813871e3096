//! The metrics of a partnership: each with its value or none, and with what a
//! sceptic asks about it: how many samples, how much of the window, which
//! interval, how old, from whom.

use super::kpi::Direction;
use super::partnership::{KpiDefinition, Summary};
use super::rollup::{Quantile, WINDOW_MS};
use super::settings::Settings;
use super::slo::Tally;
pub use super::statistics::round;
use super::statistics::{Interval, poisson_rate, wilson};
use super::time::{MINUTE_MS, Timestamp};
use serde::{Deserialize, Serialize};

pub const WINDOW_NAME: &str = "24h";

/// Names of the metrics made from observations; no KPI may be called so.
pub const OBSERVED: [&str; 7] = [
    "uptime",
    "response_time",
    "response_time_p95",
    "response_time_p99",
    "success_rate",
    "error_rate",
    "requests_per_minute",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MetricState {
    Ok,
    /// Nothing was ever measured or sent within the window.
    NoData,
    /// The newest measurement is too old to speak of now.
    Stale,
}

/// A metric and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MetricDetail {
    pub value: Option<f64>,
    pub unit: String,
    pub target: Option<f64>,
    /// Which way is better; null where neither is.
    pub direction: Option<Direction>,
    /// Samples the value was made from.
    pub n: u64,
    /// Share of the window's minutes with a sample, 0 to 1; null for values
    /// that somebody sends.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub coverage: Option<f64>,
    /// 95 % interval [low, high] of the value; null where the samples are too
    /// few for one.
    pub ci95: Option<Interval>,
    /// `24h` for observations, `last` for values that somebody sends.
    pub window: String,
    /// Time of the newest sample.
    pub observed_at: Option<Timestamp>,
    /// `probe`, `client`, `probe+client`, or the user who sent it.
    pub source: Option<String>,
    pub state: MetricState,
}

impl MetricDetail {
    /// The value, where it may be used to judge.
    pub fn usable(&self) -> Option<f64> {
        self.value.filter(|_| self.state == MetricState::Ok)
    }
}

/// Every metric of a partnership, in the order in which they are shown:
/// observations first, then its KPIs.
pub fn all(summary: &Summary, now: Timestamp) -> Vec<(String, MetricDetail)> {
    let mut metrics = observed(summary, now);
    let settings = &summary.definition.settings;
    metrics.extend(
        summary
            .definition
            .kpis
            .iter()
            .map(|kpi| (kpi.name.clone(), sent(summary, kpi, settings, now))),
    );
    metrics
}

fn observed(summary: &Summary, now: Timestamp) -> Vec<(String, MetricDetail)> {
    let targets = &summary.definition.targets;
    let counts = &summary.counts;
    let observed_at = summary.newest.first().map(|(at, _)| *at);
    let stale_after_ms = summary.definition.settings.observation_stale_after_ms;
    let coverage = share(summary.covered_minutes, (WINDOW_MS / MINUTE_MS).unsigned_abs());
    let source = match (summary.from_probes > 0, summary.from_clients > 0) {
        (true, true) => Some("probe+client".to_owned()),
        (true, false) => Some("probe".to_owned()),
        (false, true) => Some("client".to_owned()),
        (false, false) => None,
    };
    let metric =
        |name: &str, unit: &str, target, direction, n, value: Option<(f64, Option<Interval>)>| {
            let state = state(value.is_some(), observed_at, stale_after_ms, now);
            let detail = MetricDetail {
                value: value.as_ref().map(|(value, _)| round(*value)),
                unit: unit.to_owned(),
                target,
                direction,
                n,
                coverage: Some(round(coverage)),
                ci95: value
                    .and_then(|(_, ci)| ci)
                    .map(|ci| Interval { low: round(ci.low), high: round(ci.high) }),
                window: WINDOW_NAME.to_owned(),
                observed_at: observed_at.filter(|_| n > 0),
                source: source.clone().filter(|_| n > 0),
                state,
            };
            (name.to_owned(), detail)
        };

    let higher = Some(Direction::HigherIsBetter);
    let lower = Some(Direction::LowerIsBetter);
    let tally = Tally::availability(counts, targets.degraded_counts_as_bad);
    let (attempts, served) = (counts.attempts(), counts.up + counts.degraded);
    let latency = summary.latency.as_ref();
    let latency_n = latency.map_or(0, |latency| latency.n);
    let quantile = |of: fn(&super::rollup::Latency) -> &Quantile| {
        latency.map(|latency| (of(latency).value_ms, of(latency).ci95_ms))
    };
    vec![
        metric(
            "uptime",
            "percent",
            Some(targets.availability_percent),
            higher,
            tally.total(),
            percent(tally.good, tally.total()),
        ),
        metric("response_time", "ms", None, lower, latency_n, quantile(|l| &l.p50)),
        metric(
            "response_time_p95",
            "ms",
            targets.latency_ms,
            lower,
            latency_n,
            quantile(|l| &l.p95),
        ),
        metric("response_time_p99", "ms", None, lower, latency_n, quantile(|l| &l.p99)),
        metric("success_rate", "percent", None, higher, attempts, percent(served, attempts)),
        metric(
            "error_rate",
            "percent",
            None,
            lower,
            attempts,
            percent(attempts - served, attempts),
        ),
        metric("requests_per_minute", "per_minute", None, None, counts.total(), rate(summary)),
    ]
}

/// Observations a minute, over the time from the first one in the window (at
/// least a minute), so that a young partnership does not look idle.
fn rate(summary: &Summary) -> Option<(f64, Option<Interval>)> {
    let first = summary.first_in_window?;
    let minutes = (summary.computed_at.since_ms(first).max(MINUTE_MS)) as f64 / MINUTE_MS as f64;
    let total = summary.counts.total();
    Some((total as f64 / minutes, poisson_rate(total, minutes)))
}

fn sent(
    summary: &Summary,
    kpi: &KpiDefinition,
    settings: &Settings,
    now: Timestamp,
) -> MetricDetail {
    let last = summary.kpis.get(&kpi.name);
    MetricDetail {
        value: last.map(|last| last.value),
        unit: kpi.unit.clone(),
        target: Some(kpi.target),
        direction: Some(kpi.direction),
        n: last.map_or(0, |last| last.n),
        coverage: None,
        ci95: None,
        window: "last".to_owned(),
        observed_at: last.map(|last| last.at),
        source: last.map(|last| last.author.clone()),
        state: state(last.is_some(), last.map(|l| l.at), settings.kpi_stale_after_ms, now),
    }
}

fn state(
    has_value: bool,
    observed_at: Option<Timestamp>,
    stale_after_ms: i64,
    now: Timestamp,
) -> MetricState {
    match observed_at {
        Some(at) if has_value && now.since_ms(at) > stale_after_ms => MetricState::Stale,
        Some(_) if has_value => MetricState::Ok,
        _ => MetricState::NoData,
    }
}

fn percent(part: u64, total: u64) -> Option<(f64, Option<Interval>)> {
    let interval = wilson(part, total)?;
    let value = 100.0 * part as f64 / total as f64;
    Some((value, Some(Interval { low: 100.0 * interval.low, high: 100.0 * interval.high })))
}

fn share(part: u64, total: u64) -> f64 {
    (part as f64 / total as f64).clamp(0.0, 1.0)
}

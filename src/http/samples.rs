//! What the text formats of `/metrics` say: a board as samples.
//!
//! Labels are ids and fixed words; never a user or a URL.

use super::app::App;
use super::boards::{Board, Evaluated};
use crate::backup::last_drill;
use crate::domain::alert::{Family, Severity};
use crate::domain::delivery::ChannelFigures;
use crate::domain::exposition::{Labels, Sample};
use crate::domain::metrics;
use crate::domain::telemetry::{Reading, STATUS_CLASSES};
use crate::domain::time::Timestamp;
use crate::domain::verdict::Verdict;
use crate::log;
use crate::objects::board::UNENFORCED;
use crate::objects::{incident, outbox};
use crate::platform::Error;
use crate::store::backups;
use std::collections::BTreeMap;

const DATASET: &str = "devskyy.metrics";

/// A value in its base unit. Values have four decimals; dividing them as whole
/// numbers keeps `0.4157778` from becoming `0.41577780000000003`.
fn base(value: f64, units: f64) -> f64 {
    (value * 10_000.0).round() / (10_000.0 * units)
}

fn seconds(at: Timestamp) -> f64 {
    at.millis() as f64 / 1_000.0
}

/// Everything there is to say of a tenant.
pub async fn all(app: &App, tenant_id: &str, board: &Board) -> Vec<Sample> {
    let platform = &app.platform;
    let mut samples = of_board(board);
    let (reading, figures, backup, drill) = futures::join!(
        app.reading(tenant_id, Some(board)),
        incident::outbox(platform, tenant_id, outbox::Command::Figures),
        backups::latest(&platform.database),
        last_drill(platform),
    );
    // Whatever is out of reach, the rest is known all the same.
    let warn = |what: &str, error: &Error| {
        log::warn(&platform.log, board.fetched_at, DATASET, what, &error.to_string());
    };
    samples.extend(reading.as_deref().map(of_requests).unwrap_or_default());
    match figures {
        Ok(outbox::Reply::Figures(figures)) => samples.extend(of_deliveries(&figures)),
        Ok(_) => {}
        Err(error) => warn("metrics without deliveries", &error),
    }
    let backup = backup.inspect_err(|error| warn("metrics without backups", error));
    let drill = drill.inspect_err(|error| warn("metrics without restores", error));
    samples.extend(of_backups(
        backup.ok().flatten().and_then(|set| set.finished_at),
        drill.ok().flatten().map(|drill| drill.finished_at),
    ));
    samples
}

fn of_board(board: &Board) -> Vec<Sample> {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    let mut samples = vec![Sample::new("devskyy_build_info", version, 1.0)];
    if let Some(passed) = board.counters.get(UNENFORCED) {
        let family = "devskyy_rate_limit_unenforced_requests";
        samples.push(Sample::new(family, vec![], *passed as f64));
    }
    for known in &board.partnerships {
        of_partnership(known, board.fetched_at, &mut samples);
    }
    of_incidents(board, &mut samples);
    of_jobs(board, &mut samples);
    samples
}

fn of_partnership(known: &Evaluated, now: Timestamp, samples: &mut Vec<Sample>) {
    let id = known.summary.definition.id.as_str();
    let labelled = |labels: Labels| -> Labels {
        std::iter::once(("partnership", id.to_owned())).chain(labels).collect()
    };
    let latency = &known.summary.latency_ever;
    samples.push(Sample::histogram(
        "devskyy_partnership_latency_seconds",
        labelled(vec![]),
        latency.clone(),
    ));
    let mut gauge = |family: &'static str, labels: Labels, value: f64| {
        samples.push(Sample::new(family, labelled(labels), value));
    };
    if let Some(score) = known.score.score {
        gauge("devskyy_partnership_score", vec![], score);
    }
    gauge("devskyy_partnership_coverage_ratio", vec![], known.score.coverage);
    for verdict in Verdict::ALL {
        let on = f64::from(u8::from(verdict == known.verdict));
        let labels = vec![("verdict", verdict.name().to_owned())];
        gauge("devskyy_partnership_verdict", labels, on);
    }
    for verdict in Verdict::ALL {
        let labels = vec![("verdict", verdict.name().to_owned())];
        let count = known.summary.counts.of(verdict) as f64;
        gauge("devskyy_partnership_observations_24h", labels, count);
    }
    let total = known.summary.stored.observations_total as f64;
    gauge("devskyy_partnership_observations", vec![], total);
    if let Some((at, _)) = known.summary.newest.first() {
        let family = "devskyy_partnership_last_observation_timestamp_seconds";
        gauge(family, vec![], seconds(*at));
    }
    for (name, detail) in metrics::all(&known.summary, now) {
        let Some(value) = detail.value else { continue };
        let quantile = |q: &str| vec![("quantile", q.to_owned())];
        let latency = "devskyy_partnership_response_time_seconds";
        match name.as_str() {
            "uptime" => gauge("devskyy_partnership_uptime_ratio", vec![], base(value, 100.0)),
            "success_rate" => {
                gauge("devskyy_partnership_success_ratio", vec![], base(value, 100.0))
            }
            "response_time" => gauge(latency, quantile("0.5"), base(value, 1_000.0)),
            "response_time_p95" => gauge(latency, quantile("0.95"), base(value, 1_000.0)),
            "response_time_p99" => gauge(latency, quantile("0.99"), base(value, 1_000.0)),
            // The rest of what is observed follows from the above.
            "error_rate" | "requests_per_minute" => {}
            kpi => {
                let labels = vec![("kpi", kpi.to_owned()), ("unit", detail.unit.clone())];
                gauge("devskyy_partnership_kpi_value", labels, value);
            }
        }
    }
    let assessment = &known.summary.assessment;
    let Some(evaluated_at) = assessment.evaluated_at else { return };
    gauge("devskyy_partnership_evaluated_timestamp_seconds", vec![], seconds(evaluated_at));
    let maintenance = f64::from(u8::from(assessment.maintenance_until.is_some()));
    gauge("devskyy_partnership_maintenance", vec![], maintenance);
    for slo in &assessment.slos {
        let with = |labels: Labels| -> Labels {
            std::iter::once(("slo", slo.key.clone())).chain(labels).collect()
        };
        gauge("devskyy_slo_target_ratio", with(vec![]), base(slo.target_percent, 100.0));
        if let Some(remaining) = slo.budget_remaining {
            gauge("devskyy_slo_budget_remaining_ratio", with(vec![]), remaining);
        }
        for (window, burn) in slo.burn.known() {
            gauge("devskyy_slo_burn_rate", with(vec![("window", window.to_owned())]), burn);
        }
        for (outcome, events) in [("good", slo.good), ("bad", slo.bad)] {
            let labels = with(vec![("outcome", outcome.to_owned())]);
            gauge("devskyy_slo_period_events", labels, events as f64);
        }
    }
    let alerts = assessment.alerts.iter().map(|alert| (alert.family, alert.severity));
    for ((family, severity), open) in counted(alerts) {
        gauge("devskyy_alert_open", rule(family, Some(severity)), open as f64);
    }
}

fn of_incidents(board: &Board, samples: &mut Vec<Sample>) {
    let Some(digest) = &board.incidents else { return };
    let open = digest.open.iter().map(|incident| (incident.rule, incident.severity));
    for ((family, severity), open) in counted(open) {
        let labels = rule(family, Some(severity));
        samples.push(Sample::new("devskyy_incidents_open", labels, open as f64));
    }
    for (family, opened) in &digest.opened_total {
        let labels = rule(*family, None);
        samples.push(Sample::new("devskyy_incidents_opened", labels, *opened as f64));
    }
}

/// How many there are of each kind.
fn counted<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = BTreeMap::new();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    counts
}

fn rule(family: Family, severity: Option<Severity>) -> Labels {
    let severity = severity.map(|severity| ("severity", severity.name().to_owned()));
    std::iter::once(("rule", family.name().to_owned())).chain(severity).collect()
}

fn of_jobs(board: &Board, samples: &mut Vec<Sample>) {
    for (job, figures) in &board.jobs {
        // Not `job`: that is the name of the scrape in Prometheus.
        let label = || ("name", job.clone());
        for (outcome, runs) in [("success", figures.succeeded), ("failure", figures.failed)] {
            let labels = vec![label(), ("outcome", outcome.to_owned())];
            samples.push(Sample::new("devskyy_job_runs", labels, runs as f64));
        }
        let last = "devskyy_job_last_run_timestamp_seconds";
        samples.push(Sample::new(last, vec![label()], seconds(figures.last_run_at)));
        if let Some(at) = figures.last_success_at {
            let last = "devskyy_job_last_success_timestamp_seconds";
            samples.push(Sample::new(last, vec![label()], seconds(at)));
        }
    }
}

/// By channel.
fn of_deliveries(channels: &BTreeMap<String, ChannelFigures>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (channel, figures) in channels {
        let label = || ("channel", channel.clone());
        for (outcome, count) in
            [("delivered", figures.delivered), ("failed_attempt", figures.failed_attempts)]
        {
            let labels = vec![label(), ("outcome", outcome.to_owned())];
            samples.push(Sample::new("devskyy_deliveries", labels, count as f64));
        }
        let waiting = figures.waiting as f64;
        samples.push(Sample::new("devskyy_deliveries_waiting", vec![label()], waiting));
        if let Some(at) = figures.oldest_waiting_at {
            let oldest = "devskyy_delivery_oldest_waiting_timestamp_seconds";
            samples.push(Sample::new(oldest, vec![label()], seconds(at)));
        }
    }
    samples
}

/// What was asked of the API, and how long it took by class of limits.
fn of_requests(reading: &Reading) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (endpoint, statuses) in &reading.requests {
        for (status, count) in STATUS_CLASSES.iter().zip(statuses).filter(|(_, count)| **count > 0)
        {
            let labels = vec![
                ("route", endpoint.route.clone().into_owned()),
                ("method", endpoint.method.clone().into_owned()),
                ("status", (*status).to_owned()),
            ];
            samples.push(Sample::new("devskyy_api_requests", labels, *count as f64));
        }
    }
    samples.extend(reading.durations.iter().map(|(class, durations)| {
        let labels = vec![("class", class.name().to_owned())];
        Sample::histogram("devskyy_api_request_duration_seconds", labels, durations)
    }));
    samples
}

/// When the last good backup was made, and the last one tried.
fn of_backups(success_at: Option<Timestamp>, drill_at: Option<Timestamp>) -> Vec<Sample> {
    [
        ("devskyy_backup_last_success_timestamp_seconds", success_at),
        ("devskyy_backup_last_drill_timestamp_seconds", drill_at),
    ]
    .into_iter()
    .filter_map(|(family, at)| Some(Sample::new(family, vec![], seconds(at?))))
    .collect()
}

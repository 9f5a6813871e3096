//! The text formats of metrics: OpenMetrics 1.0 and Prometheus text 0.0.4.

use super::histogram::{BOUNDS_S, Histogram};
use super::telemetry;
use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    Prometheus,
}

impl Format {
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    /// Quantiles that were worked out here.
    Summary,
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
        }
    }
}

/// Every family, in the order in which they are written. Base units only.
#[rustfmt::skip]
const FAMILIES: &[(&str, Kind, &str)] = &[
    ("devskyy_build_info", Kind::Gauge, "1, with the version as a label."),
    ("devskyy_partnership_score", Kind::Gauge, "Score of a partnership, 0 to 100; absent without one."),
    ("devskyy_partnership_coverage_ratio", Kind::Gauge, "Share of the score's weight that has data."),
    ("devskyy_partnership_verdict", Kind::Gauge, "1 for the current verdict, 0 for the others."),
    ("devskyy_partnership_uptime_ratio", Kind::Gauge, "Good observations over good and bad ones, 24 h."),
    ("devskyy_partnership_success_ratio", Kind::Gauge, "Calls that were served over all attempts, 24 h."),
    ("devskyy_partnership_response_time_seconds", Kind::Summary, "Latency of served calls by quantile, 24 h."),
    ("devskyy_partnership_latency_seconds", Kind::Histogram, "Latency of served calls."),
    ("devskyy_partnership_observations_24h", Kind::Gauge, "Observations of the last 24 h by verdict."),
    ("devskyy_partnership_observations", Kind::Counter, "Observations ever taken."),
    ("devskyy_partnership_last_observation_timestamp_seconds", Kind::Gauge, "Time of the newest observation."),
    ("devskyy_partnership_kpi_value", Kind::Gauge, "Last value of a KPI in its own unit."),
    ("devskyy_partnership_maintenance", Kind::Gauge, "1 while announced maintenance goes on, else 0."),
    ("devskyy_partnership_evaluated_timestamp_seconds", Kind::Gauge, "When objectives and alerts were last evaluated."),
    ("devskyy_slo_target_ratio", Kind::Gauge, "Share of good events that was agreed."),
    ("devskyy_slo_budget_remaining_ratio", Kind::Gauge, "1: nothing of the period's error budget is used; below 0: overspent."),
    ("devskyy_slo_burn_rate", Kind::Gauge, "Burn over a window: at 1 the budget lasts exactly for its period."),
    ("devskyy_slo_period_events", Kind::Gauge, "Events of the objective's period so far, maintenance left out."),
    ("devskyy_alert_open", Kind::Gauge, "Open alerts of a partnership; absent without one."),
    ("devskyy_incidents_open", Kind::Gauge, "Open incidents; absent without one."),
    ("devskyy_incidents_opened", Kind::Counter, "Incidents ever opened."),
    ("devskyy_job_runs", Kind::Counter, "Runs of a cron job by what became of them."),
    ("devskyy_job_last_run_timestamp_seconds", Kind::Gauge, "Start of the last run of a cron job, however it went."),
    ("devskyy_job_last_success_timestamp_seconds", Kind::Gauge, "Start of the last run that did what it should."),
    ("devskyy_api_requests", Kind::Counter, "Requests answered, by class of status."),
    ("devskyy_api_request_duration_seconds", Kind::Histogram, "From a request to its answer, by rate-limit class of the route."),
    ("devskyy_deliveries", Kind::Counter, "Deliveries of a channel that arrived, and calls that failed."),
    ("devskyy_deliveries_waiting", Kind::Gauge, "Deliveries of a channel that are still to arrive."),
    ("devskyy_delivery_oldest_waiting_timestamp_seconds", Kind::Gauge, "When the oldest delivery was written down that is still to arrive."),
    ("devskyy_backup_last_success_timestamp_seconds", Kind::Gauge, "Time of the last good backup."),
    ("devskyy_backup_last_drill_timestamp_seconds", Kind::Gauge, "Time of the last restore that was tried and compared."),
    ("devskyy_rate_limit_unenforced_requests", Kind::Counter, "Reads that passed uncounted while the rate limiter was out of reach; absent before the first."),
];

pub type Labels = Vec<(&'static str, String)>;

pub enum Value {
    Number(f64),
    Histogram(Buckets),
}

/// A histogram as the formats write it.
pub struct Buckets {
    /// Upper ends in seconds; one bucket more has no end.
    bounds_s: Vec<f64>,
    /// Of each bucket by itself.
    counts: Vec<u64>,
    sum_ms: f64,
}

impl From<Histogram> for Buckets {
    fn from(histogram: Histogram) -> Self {
        Self {
            bounds_s: BOUNDS_S.to_vec(),
            counts: histogram.counts.to_vec(),
            sum_ms: histogram.sum_ms,
        }
    }
}

impl From<&telemetry::Histogram> for Buckets {
    fn from(histogram: &telemetry::Histogram) -> Self {
        Self {
            bounds_s: telemetry::BOUNDS_MS.iter().map(|ms| *ms as f64 / 1_000.0).collect(),
            counts: histogram.buckets.to_vec(),
            sum_ms: histogram.sum_ms as f64,
        }
    }
}

/// One number, or one histogram. For a counter the family is named without
/// `_total`.
pub struct Sample {
    pub family: &'static str,
    pub labels: Labels,
    pub value: Value,
}

impl Sample {
    pub const fn new(family: &'static str, labels: Labels, value: f64) -> Self {
        Self { family, labels, value: Value::Number(value) }
    }

    pub fn histogram(family: &'static str, labels: Labels, value: impl Into<Buckets>) -> Self {
        Self { family, labels, value: Value::Histogram(value.into()) }
    }
}

/// Writes the samples, family by family, as the formats demand.
pub fn write(samples: &[Sample], format: Format) -> String {
    let mut text = String::new();
    for &(family, kind, help) in FAMILIES {
        let mut of_family = samples.iter().filter(|sample| sample.family == family).peekable();
        if of_family.peek().is_none() {
            continue;
        }
        let suffix = if kind == Kind::Counter { "_total" } else { "" };
        // Prometheus text names a counter's family with its suffix.
        let declared_suffix = if format == Format::Prometheus { suffix } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {family}{declared_suffix} {help}");
        let _ = writeln!(text, "# TYPE {family}{declared_suffix} {}", kind.name());
        for sample in of_family {
            match &sample.value {
                Value::Number(value) => {
                    let labels = braces(&sample.labels, None);
                    let _ = writeln!(text, "{family}{suffix}{labels} {value}");
                }
                Value::Histogram(value) => buckets(&mut text, family, &sample.labels, value),
            }
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// Each bucket counts what those below it do too. Bounds are written alike in
/// both formats (`1.0`, as OpenMetrics asks): they are part of a series' name.
fn buckets(text: &mut String, family: &str, labels: &Labels, histogram: &Buckets) {
    let mut count = 0_u64;
    let bounds = histogram.bounds_s.iter().map(|bound| format!("{bound:?}"));
    for (bound, of_bucket) in bounds.chain(["+Inf".to_owned()]).zip(&histogram.counts) {
        count = count.saturating_add(*of_bucket);
        let labels = braces(labels, Some(("le", bound)));
        let _ = writeln!(text, "{family}_bucket{labels} {count}");
    }
    let labels = braces(labels, None);
    // Rounded to a microsecond: the rest comes from adding binary fractions.
    let sum = (histogram.sum_ms * 1_000.0).round() / 1_000_000.0;
    let _ = writeln!(text, "{family}_sum{labels} {sum}");
    let _ = writeln!(text, "{family}_count{labels} {count}");
}

fn braces(labels: &Labels, more: Option<(&'static str, String)>) -> String {
    let labels: Vec<String> =
        labels.iter().chain(&more).map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(family: &'static str, value: f64) -> Sample {
        Sample::new(family, vec![("partnership", "a\"b\\c\nd".to_owned())], value)
    }

    #[test]
    fn formats_differ_where_they_must() {
        let samples = [
            sample("devskyy_partnership_observations", 3.0),
            sample("devskyy_partnership_score", 81.5),
        ];
        let labels = r#"{partnership="a\"b\\c\nd"}"#;
        assert_eq!(
            write(&samples, Format::OpenMetrics),
            format!(
                "# HELP devskyy_partnership_score Score of a partnership, 0 to 100; absent without one.\n\
                 # TYPE devskyy_partnership_score gauge\n\
                 devskyy_partnership_score{labels} 81.5\n\
                 # HELP devskyy_partnership_observations Observations ever taken.\n\
                 # TYPE devskyy_partnership_observations counter\n\
                 devskyy_partnership_observations_total{labels} 3\n\
                 # EOF\n"
            )
        );
        let prometheus = write(&samples, Format::Prometheus);
        assert!(prometheus.contains("# TYPE devskyy_partnership_observations_total counter\n"));
        assert!(!prometheus.contains("EOF"));
    }

    #[test]
    fn buckets_are_cumulative_and_end_without_a_bound() {
        let mut latency = Histogram::default();
        for latency_ms in [10.0, 200.0, 200.0, 900.0, 30_000.0] {
            latency.add(latency_ms);
        }
        let labels = vec![("partnership", "acme".to_owned())];
        let sample = Sample::histogram("devskyy_partnership_latency_seconds", labels, latency);
        let expected = "\
            # HELP devskyy_partnership_latency_seconds Latency of served calls.\n\
            # TYPE devskyy_partnership_latency_seconds histogram\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"0.05\"} 1\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"0.1\"} 1\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"0.25\"} 3\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"0.5\"} 3\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"1.0\"} 4\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"2.5\"} 4\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"5.0\"} 4\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"10.0\"} 4\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"20.0\"} 4\n\
            devskyy_partnership_latency_seconds_bucket{partnership=\"acme\",le=\"+Inf\"} 5\n\
            devskyy_partnership_latency_seconds_sum{partnership=\"acme\"} 31.31\n\
            devskyy_partnership_latency_seconds_count{partnership=\"acme\"} 5\n";
        assert_eq!(write(&[sample], Format::Prometheus), expected);
    }
}

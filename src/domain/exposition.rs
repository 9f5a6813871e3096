//! The text formats of metrics: OpenMetrics 1.0 and Prometheus text 0.0.4.

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
}

/// Every family, in the order in which they are written. Base units only.
const FAMILIES: &[(&str, Kind, &str)] = &[
    (
        "devskyy_partnership_score",
        Kind::Gauge,
        "Score of a partnership, 0 to 100; absent without one.",
    ),
    (
        "devskyy_partnership_coverage_ratio",
        Kind::Gauge,
        "Share of the score's weight that has data.",
    ),
    ("devskyy_partnership_verdict", Kind::Gauge, "1 for the current verdict, 0 for the others."),
    (
        "devskyy_partnership_uptime_ratio",
        Kind::Gauge,
        "Good observations over good and bad ones, 24 h.",
    ),
    (
        "devskyy_partnership_success_ratio",
        Kind::Gauge,
        "Calls that were served over all attempts, 24 h.",
    ),
    (
        "devskyy_partnership_response_time_seconds",
        Kind::Gauge,
        "Latency of served calls by quantile, 24 h.",
    ),
    (
        "devskyy_partnership_observations_24h",
        Kind::Gauge,
        "Observations of the last 24 h by verdict.",
    ),
    ("devskyy_partnership_observations", Kind::Counter, "Observations ever taken."),
    (
        "devskyy_partnership_last_observation_timestamp_seconds",
        Kind::Gauge,
        "Time of the newest observation.",
    ),
    ("devskyy_partnership_kpi_value", Kind::Gauge, "Last value of a KPI in its own unit."),
    (
        "devskyy_rate_limit_unenforced_requests",
        Kind::Counter,
        "Reads that passed uncounted while the rate limiter was out of reach; absent before the first.",
    ),
];

/// One number. For a counter the family is named without `_total`.
pub struct Sample {
    pub family: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
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
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {family}{declared_suffix} {help}");
        let _ = writeln!(text, "# TYPE {family}{declared_suffix} {kind}");
        for sample in of_family {
            let labels: Vec<String> =
                sample.labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect();
            let labels = match labels.as_slice() {
                [] => String::new(),
                labels => format!("{{{}}}", labels.join(",")),
            };
            let _ = writeln!(text, "{family}{suffix}{labels} {}", sample.value);
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(family: &'static str, value: f64) -> Sample {
        Sample { family, labels: vec![("partnership", "a\"b\\c\nd".to_owned())], value }
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
}

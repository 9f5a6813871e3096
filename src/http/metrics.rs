//! GET `/metrics`: the metrics of the partnerships, as JSON or in the text
//! formats that Prometheus and OpenMetrics scrapers read.

use super::app::Cx;
use super::boards::{Board, Evaluated};
use super::partnerships::unknown_partnership;
use super::problem::Problem;
use super::reply::Reply;
use crate::domain::exposition::{Format, Sample, write};
use crate::domain::metrics::{self, MetricDetail};
use crate::domain::time::Timestamp;
use crate::domain::verdict::Verdict;
use crate::objects::board::UNENFORCED;
use ::http::StatusCode;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MetricsOut {
    /// Id of the partnership.
    pub partnership_type: String,
    /// Only the metrics that have a value.
    pub metrics: BTreeMap<String, f64>,
    /// When the summary behind them was made.
    pub timestamp: Timestamp,
    /// Every metric, with a value or without one.
    pub details: BTreeMap<String, MetricDetail>,
}

const JSON_MEDIA: &str = "application/json";

pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let caller = cx.caller()?;
    let board = cx.app.boards.snapshot(&cx.app.platform, caller.tenant_id(), cx.now).await?;
    let accept = cx.request.headers.get("accept");
    let reply = match accept.as_deref().and_then(preferred_text) {
        None => {
            let body = board.rendered("metrics", || {
                let all: Vec<_> = board
                    .partnerships
                    .iter()
                    .map(|known| render(known, board.fetched_at))
                    .collect();
                serde_json::to_vec(&all).unwrap_or_default()
            });
            Reply::bytes(StatusCode::OK, JSON_MEDIA, body)
        }
        Some(format) => {
            let body = board.rendered(format.media_type(), || expose(&board, format).into_bytes());
            Reply::bytes(StatusCode::OK, format.media_type(), body)
        }
    };
    Ok(reply)
}

pub async fn one(cx: Cx) -> Result<Reply, Problem> {
    let caller = cx.caller()?;
    let board = cx.app.boards.snapshot(&cx.app.platform, caller.tenant_id(), cx.now).await?;
    let name = cx.param("type")?;
    let known = board.find(name).ok_or_else(|| unknown_partnership(&board, name))?;
    Ok(Reply::ok(&render(known, board.fetched_at)))
}

fn render(known: &Evaluated, now: Timestamp) -> MetricsOut {
    let details: BTreeMap<String, MetricDetail> =
        metrics::all(&known.summary, now).into_iter().collect();
    MetricsOut {
        partnership_type: known.summary.definition.id.clone(),
        metrics: details.iter().filter_map(|(name, d)| Some((name.clone(), d.value?))).collect(),
        timestamp: known.summary.computed_at,
        details,
    }
}

/// The text format that an `Accept` header prefers over JSON, if it does
/// (RFC 9110, 12.5.1: the highest q wins; on a tie the more specific, then
/// JSON).
fn preferred_text(accept: &str) -> Option<Format> {
    let mut best: Option<(f64, bool, Option<Format>)> = None;
    for part in accept.split(',') {
        let mut fields = part.split(';').map(str::trim);
        let media = fields.next().unwrap_or_default().to_ascii_lowercase();
        let (exact, format) = match media.as_str() {
            "application/json" => (true, None),
            "application/openmetrics-text" => (true, Some(Format::OpenMetrics)),
            "text/plain" => (true, Some(Format::Prometheus)),
            "text/*" => (false, Some(Format::Prometheus)),
            "application/*" | "*/*" => (false, None),
            _ => continue,
        };
        let q = fields.find_map(|field| field.strip_prefix("q=")).map_or(1.0, |q| {
            q.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0)
        });
        let rank = (q, exact, format);
        if q > 0.0 && best.is_none_or(|(best_q, best_exact, _)| (q, exact) > (best_q, best_exact)) {
            best = Some(rank);
        }
    }
    best.and_then(|(_, _, format)| format)
}

/// A value in its base unit. Values have four decimals; dividing them as whole
/// numbers keeps `0.4157778` from becoming `0.41577780000000003`.
fn base(value: f64, units: f64) -> f64 {
    (value * 10_000.0).round() / (10_000.0 * units)
}

fn expose(board: &Board, format: Format) -> String {
    let mut samples = Vec::new();
    if let Some(passed) = board.counters.get(UNENFORCED) {
        samples.push(Sample {
            family: "devskyy_rate_limit_unenforced_requests",
            labels: Vec::new(),
            value: *passed as f64,
        });
    }
    for known in &board.partnerships {
        let id = known.summary.definition.id.as_str();
        let mut gauge = |family: &'static str, labels: Vec<(&'static str, String)>, value: f64| {
            let mut all = vec![("partnership", id.to_owned())];
            all.extend(labels);
            samples.push(Sample { family, labels: all, value });
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
            let seconds = at.millis() as f64 / 1_000.0;
            gauge("devskyy_partnership_last_observation_timestamp_seconds", vec![], seconds);
        }
        for (name, detail) in metrics::all(&known.summary, board.fetched_at) {
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
    }
    write(&samples, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_decides_the_format() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.1";
        for (accept, expected) in [
            ("*/*", None),
            ("application/json", None),
            ("text/html,application/xhtml+xml,*/*;q=0.8", None),
            ("text/plain", Some(Format::Prometheus)),
            ("text/plain;version=0.0.4", Some(Format::Prometheus)),
            ("application/openmetrics-text; version=1.0.0", Some(Format::OpenMetrics)),
            (prometheus, Some(Format::OpenMetrics)),
            ("application/json, text/plain;q=0.9", None),
            ("text/plain;q=0", None),
            ("text/plain;q=nonsense", None),
        ] {
            assert_eq!(preferred_text(accept), expected, "{accept}");
        }
    }
}

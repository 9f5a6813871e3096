//! GET `/metrics`: the metrics of the partnerships, as JSON or in the text
//! formats that Prometheus and OpenMetrics scrapers read.

use super::app::Cx;
use super::boards::{Board, Evaluated};
use super::partnerships::unknown_partnership;
use super::problem::Problem;
use super::reply::Reply;
use super::samples;
use crate::domain::exposition::{Format, write};
use crate::domain::metrics::{self, MetricDetail};
use crate::domain::time::Timestamp;
use ::http::StatusCode;
use bytes::Bytes;
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
        Some(format) => text(&cx, caller.tenant_id(), &board, format).await,
    };
    Ok(reply)
}

/// The same as text, for scrapers that know nothing but `/metrics`: they get
/// Prometheus text unless they would rather have OpenMetrics.
pub async fn scrape(cx: Cx) -> Result<Reply, Problem> {
    let caller = cx.caller()?;
    let board = cx.app.boards.snapshot(&cx.app.platform, caller.tenant_id(), cx.now).await?;
    let preferred = cx.request.headers.get("accept").as_deref().and_then(preferred_text);
    let format = preferred.unwrap_or(Format::Prometheus);
    Ok(text(&cx, caller.tenant_id(), &board, format).await)
}

async fn text(cx: &Cx, tenant_id: &str, board: &Board, format: Format) -> Reply {
    let media = format.media_type();
    let body = match board.kept(media) {
        Some(body) => body,
        None => {
            let samples = samples::all(&cx.app, tenant_id, board).await;
            board.keep(media, Bytes::from(write(&samples, format)))
        }
    };
    Reply::bytes(StatusCode::OK, media, body)
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

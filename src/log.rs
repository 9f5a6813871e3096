//! Log lines: one ECS JSON object each (Elastic Common Schema, flat names).

use crate::domain::time::Timestamp;
use crate::platform::Log;
use serde::Serialize;

const ECS_VERSION: &str = "8.11.0";
pub const SERVICE_NAME: &str = "devskyy-orchestration";
pub const SERVICE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Text that came from outside is cut to this many characters.
const MAX_TEXT_CHARS: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// One line. Never a secret, a token or a body.
#[derive(Serialize)]
pub struct Event<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: Timestamp,
    #[serde(rename = "log.level")]
    level: Level,
    message: String,
    #[serde(rename = "ecs.version")]
    ecs_version: &'static str,
    #[serde(rename = "service.name")]
    service_name: &'static str,
    #[serde(rename = "service.version")]
    service_version: &'static str,
    #[serde(rename = "event.dataset")]
    dataset: &'static str,
    #[serde(rename = "trace.id", skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<&'a str>,
    #[serde(rename = "span.id", skip_serializing_if = "Option::is_none")]
    pub span_id: Option<&'a str>,
    /// Nanoseconds across I/O: the platform's clock stands still in between.
    #[serde(rename = "event.duration", skip_serializing_if = "Option::is_none")]
    pub duration_ns: Option<u64>,
    #[serde(rename = "http.request.id", skip_serializing_if = "Option::is_none")]
    pub request_id: Option<&'a str>,
    #[serde(rename = "http.request.method", skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The route's template, never the path with its ids.
    #[serde(rename = "url.path", skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    #[serde(rename = "user.id", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<&'a str>,
    #[serde(rename = "error.type", skip_serializing_if = "Option::is_none")]
    pub error_type: Option<&'a str>,
    #[serde(rename = "error.message", skip_serializing_if = "Option::is_none")]
    error_message: Option<String>,
}

impl<'a> Event<'a> {
    pub fn new(now: Timestamp, level: Level, dataset: &'static str, message: &str) -> Self {
        Self {
            timestamp: now,
            level,
            message: cut(message),
            ecs_version: ECS_VERSION,
            service_name: SERVICE_NAME,
            service_version: SERVICE_VERSION,
            dataset,
            trace_id: None,
            span_id: None,
            duration_ns: None,
            request_id: None,
            method: None,
            status: None,
            route: None,
            user_id: None,
            error_type: None,
            error_message: None,
        }
    }

    pub fn error(mut self, kind: &'a str, message: &str) -> Self {
        self.error_type = Some(kind);
        self.error_message = Some(cut(message)).filter(|text| !text.is_empty());
        self
    }

    pub fn write(&self, log: &Log) {
        log.write(&serde_json::to_string(self).unwrap_or_default());
    }
}

/// A problem nobody asked about: no request to answer with it.
pub fn warn(log: &Log, now: Timestamp, dataset: &'static str, what: &str, cause: &str) {
    Event::new(now, Level::Warn, dataset, what).error("warning", cause).write(log);
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

/// Nanoseconds from one instant to another; 0 where the clock was set back.
pub fn duration_ns(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since_ms(from)).unwrap_or_default().saturating_mul(1_000_000)
}

/// The ids of traces and spans are written so.
pub use crate::domain::hex::hex;

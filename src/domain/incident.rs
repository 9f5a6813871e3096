//! Incidents: one per cause, from the first alert to the last, and what is
//! told of them to people.

use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How urgent an alert is. Critical ones page somebody; warnings make a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

/// What happened to an incident that people are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// It opened, or became more severe.
    Triggered,
    Acknowledged,
    Resolved,
    /// Not an incident: somebody tries a channel.
    Test,
}

/// One thing to be told, to every channel that wants it. Written down in the
/// transaction that changes the incident, so neither is without the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// `ntf_…`: the same however often it is sent.
    pub id: String,
    pub kind: NotificationKind,
    /// `inc_…`: what receivers recognise the incident by.
    pub incident_id: String,
    pub severity: Severity,
    /// When it happened.
    pub at: Timestamp,
    /// When the incident opened.
    pub opened_at: Timestamp,
    /// `None`: the service itself.
    pub partnership: Option<String>,
    /// Rule family, such as `slo_burn`.
    pub rule: String,
    /// One line for people.
    pub title: String,
    /// What was measured, with its figures.
    pub detail: String,
}

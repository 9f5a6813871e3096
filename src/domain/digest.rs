//! What a tenant's board shows of its incidents and of those who are told.

use super::alert::Family;
use super::delivery::ChannelFigures;
use super::incident::OpenIncident;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IncidentDigest {
    pub computed_at: Timestamp,
    pub open: Vec<OpenIncident>,
    /// Incidents ever opened, by rule family.
    pub opened_total: BTreeMap<Family, u64>,
    /// By id of the channel.
    pub channels: BTreeMap<String, ChannelFigures>,
    /// The last critical incident that somebody was told of.
    pub last_page: Option<PageLatency>,
}

/// How long it took from the trouble to somebody who knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageLatency {
    pub incident_id: String,
    /// The first bad event.
    pub began_at: Timestamp,
    pub opened_at: Timestamp,
    /// The first channel had taken the notification.
    pub told_at: Timestamp,
}

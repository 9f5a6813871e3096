//! A tenant's settings: one JSON document, versioned.

use super::alert::AlertPolicy;
use super::rate_limit::Limits;
use super::time::{DAY_MS, MINUTE_MS};
use serde::{Deserialize, Serialize};

/// What a tenant can tune of its scores and alerts.
// Every field has a default and unknown ones are passed over: code versions
// overlap during a deploy, and settings travel inside of definitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Settings {
    pub weights: Weights,
    /// Below this coverage a score is not given, 0 to 1.
    pub min_coverage: f64,
    /// Metrics from observations are stale when the newest is older, ms.
    pub observation_stale_after_ms: i64,
    /// A KPI value is stale when it is older, ms.
    pub kpi_stale_after_ms: i64,
    /// A partner's own status page is stale when the reading is older, ms.
    pub status_page_stale_after_ms: i64,
    /// When alerts open and end.
    pub alerting: AlertPolicy,
}

/// All of a tenant's settings. What scores are made of travels with every
/// definition; the rest does not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantSettings {
    #[serde(flatten)]
    pub scoring: Settings,
    /// Requests that may pass, per client in 60 s and per day.
    pub limits: Limits,
}

/// Weights of the three parts of a score; only their proportions count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Weights {
    pub reliability: f64,
    pub kpis: f64,
    pub deliverables: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { reliability: 40.0, kpis: 40.0, deliverables: 20.0 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weights: Weights::default(),
            min_coverage: 0.3,
            observation_stale_after_ms: 15 * MINUTE_MS,
            kpi_stale_after_ms: 35 * DAY_MS,
            status_page_stale_after_ms: 30 * MINUTE_MS,
            alerting: AlertPolicy::default(),
        }
    }
}

//! A partnership: what was agreed (the definition) and what is known (the
//! summary that its object publishes).

use super::alert::{Admission, AlertPolicy, OpenAlert};
use super::deliverable::Deliverable;
use super::histogram::Histogram;
use super::kpi::Direction;
use super::maintenance::MaintenanceWindow;
use super::rollup::{Counts, Latency, WINDOW_MS};
use super::settings::Settings;
use super::slo::{Slo, SloStatus};
use super::status_page::StatusPageReading;
use super::time::{MINUTE_MS, SECOND_MS, Timestamp};
use super::verdict::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was agreed with a partner, as the registry holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    pub id: String,
    pub name: String,
    pub partner: String,
    pub aliases: Vec<String>,
    pub status_page_url: Option<String>,
    pub targets: Targets,
    pub probes: Vec<Probe>,
    pub kpis: Vec<KpiDefinition>,
    pub deliverables: Vec<Deliverable>,
    #[serde(default)]
    pub slos: Vec<Slo>,
    #[serde(default)]
    pub maintenance: Vec<MaintenanceWindow>,
    pub settings: Settings,
    /// Grows with every change; an older definition never replaces a newer.
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Definition {
    /// Whether the partnership goes by this id or alias.
    pub fn is_called(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// For how long an observation may be missing before its absence is an
    /// alert: three intervals of the most frequent probe at least, or the age
    /// at which what clients push is stale where nothing is probed.
    pub fn data_absent_after_ms(&self, policy: &AlertPolicy) -> i64 {
        let policy_ms = i64::from(policy.data_absent_minutes) * MINUTE_MS;
        let probes = self.probes.iter().filter(|probe| probe.enabled);
        let least_ms = match probes.map(|probe| probe.interval_s).min() {
            Some(interval_s) => 3 * i64::from(interval_s) * SECOND_MS,
            None => self.settings.observation_stale_after_ms,
        };
        policy_ms.max(least_ms)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Targets {
    /// Percent of good observations that was agreed.
    pub availability_percent: f64,
    /// Percent at which nothing of the agreement is kept.
    pub availability_floor_percent: f64,
    /// Agreed p95 of served calls; `None`: nothing was agreed.
    pub latency_ms: Option<f64>,
    /// Whether a degraded answer burns availability.
    pub degraded_counts_as_bad: bool,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            availability_percent: 99.9,
            availability_floor_percent: 95.0,
            latency_ms: None,
            degraded_counts_as_bad: false,
        }
    }
}

/// An unauthenticated GET that costs nothing and tells whether the partner's
/// API can be reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub key: String,
    pub url: String,
    pub interval_s: u32,
    pub deadline_ms: u32,
    pub degraded_above_ms: Option<f64>,
    pub enabled: bool,
}

pub const DEFAULT_PROBE_INTERVAL_S: u32 = 60;
pub const DEFAULT_PROBE_DEADLINE_MS: u32 = 10_000;

impl Probe {
    /// The slot that a tick falls into: a probe runs at most once a slot, so
    /// a repeated or doubled tick does no harm.
    pub fn slot(&self, scheduled_at: Timestamp) -> i64 {
        scheduled_at.millis() / (i64::from(self.interval_s.max(1)) * 1_000)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KpiDefinition {
    pub name: String,
    pub target: f64,
    pub unit: String,
    pub direction: Direction,
    pub weight: f64,
}

/// The last value of a KPI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KpiValue {
    pub value: f64,
    pub at: Timestamp,
    /// The user who sent it.
    pub author: String,
    /// Values stored for this KPI.
    pub n: u64,
}

/// What the object of a partnership knows; everything that is served is made
/// from this and from the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub definition: Definition,
    pub computed_at: Timestamp,
    /// Start of the window of `counts` and `latency`; its end is `computed_at`.
    pub window_start: Timestamp,
    pub counts: Counts,
    /// Of these, the ones observed in maintenance.
    #[serde(default)]
    pub counts_in_maintenance: Counts,
    /// Observations in the window from our own probes.
    pub from_probes: u64,
    /// Observations in the window that clients pushed.
    pub from_clients: u64,
    /// Minutes of the window with at least one good or bad observation.
    pub covered_minutes: u64,
    /// First observation within the window.
    pub first_in_window: Option<Timestamp>,
    pub latency: Option<Latency>,
    /// Latency of served calls since the partnership's object began to count.
    #[serde(default)]
    pub latency_ever: Histogram,
    /// The newest observations, newest first: at most two.
    pub newest: Vec<(Timestamp, Verdict)>,
    pub kpis: BTreeMap<String, KpiValue>,
    pub status_page: StatusPageReading,
    #[serde(default)]
    pub assessment: Assessment,
    pub stored: Stored,
}

/// What the last evaluation found, at most a minute before the summary while
/// ticks come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Assessment {
    /// `None`: nothing was evaluated yet.
    pub evaluated_at: Option<Timestamp>,
    pub slos: Vec<SloStatus>,
    /// Alerts that are open.
    pub alerts: Vec<OpenAlert>,
    pub admission: Admission,
    /// When the maintenance ends that goes on now.
    pub maintenance_until: Option<Timestamp>,
}

impl Summary {
    /// What is known of a partnership before anything was measured.
    pub fn unmeasured(definition: Definition, now: Timestamp) -> Self {
        Self {
            definition,
            computed_at: now,
            window_start: now.plus_ms(-WINDOW_MS),
            counts: Counts::default(),
            counts_in_maintenance: Counts::default(),
            from_probes: 0,
            from_clients: 0,
            covered_minutes: 0,
            first_in_window: None,
            latency: None,
            latency_ever: Histogram::default(),
            newest: Vec::new(),
            kpis: BTreeMap::new(),
            status_page: StatusPageReading::not_run(),
            assessment: Assessment::default(),
            stored: Stored::default(),
        }
    }
}

/// What the object holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Stored {
    /// Raw observations kept right now.
    pub observations: u64,
    /// Observations ever taken.
    pub observations_total: u64,
    /// Bytes of the object's database.
    pub bytes: u64,
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A partnership with two KPIs and one deliverable, of which nothing is
    /// known.
    pub fn summary(now: Timestamp) -> Summary {
        let kpi = |name: &str, direction| KpiDefinition {
            name: name.to_owned(),
            target: 10.0,
            unit: "ms".to_owned(),
            direction,
            weight: 1.0,
        };
        let definition = Definition {
            id: "acme_search".to_owned(),
            name: "Search".to_owned(),
            partner: "Acme".to_owned(),
            aliases: vec!["acme".to_owned()],
            status_page_url: None,
            targets: Targets::default(),
            probes: Vec::new(),
            kpis: vec![
                kpi("speed", Direction::HigherIsBetter),
                kpi("delay", Direction::LowerIsBetter),
            ],
            deliverables: vec![Deliverable::new("search")],
            slos: Vec::new(),
            maintenance: Vec::new(),
            settings: Settings::default(),
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        Summary::unmeasured(definition, now)
    }

    #[test]
    fn a_slot_is_the_same_for_a_repeated_tick() {
        let probe = Probe {
            key: "api".to_owned(),
            url: "https://api.example.com/".to_owned(),
            interval_s: 60,
            deadline_ms: 1_000,
            degraded_above_ms: None,
            enabled: true,
        };
        let tick = Timestamp::from_millis(1_800_000_000_000);
        assert_eq!(probe.slot(tick), probe.slot(tick.plus_ms(59_999)));
        assert_eq!(probe.slot(tick) + 1, probe.slot(tick.plus_ms(60_000)));
    }
}

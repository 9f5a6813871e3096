//! Alerts: what is evaluated once a minute for every partnership, from what
//! its object holds, and when an alert opens, stays open and ends.
//!
//! One function serves the object and the simulation of a proposed policy, so
//! that the simulation says what would really have happened.

use super::deliverable::{Deliverable, DeliverableStatus, end_of_day};
use super::kpi::{Direction, attainment};
use super::slo::{Slo, TIERS, Tier, WINDOWS, Windows};
use super::statistics::round;
use super::status_page::Indicator;
use super::time::{MINUTE_MS, Timestamp};
use super::verdict::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How urgent an alert is. Critical ones page somebody; warnings make a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What an alert is about. Of one family and partnership there is one
/// incident at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// A budget burns so fast that somebody must act now.
    SloFastBurn,
    /// A budget burns faster than it lasts: a ticket.
    SloSlowBurn,
    /// Nothing was observed that says how the partner is.
    DataAbsent,
    /// No partner and no control target can be reached: it is us.
    Egress,
    KpiBelowTarget,
    DeliverableOverdue,
    /// The partner's status page says trouble, and we see none.
    StatusPageTrouble,
    /// We see the partner down, and his status page says nothing.
    StatusPageSilent,
    /// The minute tick does not come.
    TickLate,
    /// A channel does not take its notifications.
    DeliveryFailing,
    /// The last good backup is too old.
    BackupOld,
}

impl Family {
    pub const ALL: [Self; 11] = [
        Self::SloFastBurn,
        Self::SloSlowBurn,
        Self::DataAbsent,
        Self::Egress,
        Self::KpiBelowTarget,
        Self::DeliverableOverdue,
        Self::StatusPageTrouble,
        Self::StatusPageSilent,
        Self::TickLate,
        Self::DeliveryFailing,
        Self::BackupOld,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::SloFastBurn => "slo_fast_burn",
            Self::SloSlowBurn => "slo_slow_burn",
            Self::DataAbsent => "data_absent",
            Self::Egress => "egress",
            Self::KpiBelowTarget => "kpi_below_target",
            Self::DeliverableOverdue => "deliverable_overdue",
            Self::StatusPageTrouble => "status_page_trouble",
            Self::StatusPageSilent => "status_page_silent",
            Self::TickLate => "tick_late",
            Self::DeliveryFailing => "delivery_failing",
            Self::BackupOld => "backup_old",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.name() == name)
    }

    /// Whether its cause is this service and not one partner.
    pub const fn is_of_the_service(self) -> bool {
        matches!(self, Self::Egress | Self::TickLate | Self::DeliveryFailing | Self::BackupOld)
    }

    /// Whether the partner's maintenance explains it.
    const fn is_excused_by_maintenance(self) -> bool {
        matches!(
            self,
            Self::SloFastBurn
                | Self::SloSlowBurn
                | Self::DataAbsent
                | Self::StatusPageTrouble
                | Self::StatusPageSilent
        )
    }
}

/// When alerts open and end: a part of the tenant's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct AlertPolicy {
    /// Bad events in the long window before a burn opens an alert, 1 to 1,000.
    /// One lost probe of a minute reaches the fast factor at 99.9 %.
    pub min_bad_samples: u32,
    /// Evaluations in a row (one a minute) that open an alert, 1 to 60.
    pub failures_to_open: u32,
    /// Evaluations in a row that end it, 1 to 60.
    pub recoveries_to_resolve: u32,
    /// So many changes between open and ended within `flap_window_minutes`
    /// keep one alert open as flapping, 2 to 20.
    pub flap_changes: u32,
    /// 10 to 1,440.
    pub flap_window_minutes: u32,
    /// Minutes without an observation that says how the partner is, 2 to
    /// 1,440; three intervals of the most frequent probe where that is longer.
    pub data_absent_minutes: u32,
    /// A KPI this far below its target opens an alert, in percent of the
    /// target, 0 to 100.
    pub kpi_below_percent: f64,
    /// It ends where the KPI is better than that by this, in percent of the
    /// target, 0 to 100.
    pub kpi_deadband_percent: f64,
    /// Minutes for which a status page and our probes must disagree, 1 to 60.
    pub status_page_minutes: u32,
}

impl Default for AlertPolicy {
    fn default() -> Self {
        Self {
            min_bad_samples: 3,
            failures_to_open: 1,
            recoveries_to_resolve: 3,
            flap_changes: 6,
            flap_window_minutes: 60,
            data_absent_minutes: 5,
            kpi_below_percent: 10.0,
            kpi_deadband_percent: 2.0,
            status_page_minutes: 10,
        }
    }
}

/// An alert of one partnership: its family and what in it, such as the key of
/// an objective.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AlertKey {
    pub family: Family,
    pub subject: String,
}

/// What was found of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// The figures behind it.
    pub detail: String,
    /// When the trouble began, where that is known better than by when an
    /// evaluation first saw it.
    #[serde(default)]
    pub began_at: Option<Timestamp>,
}

/// What one evaluation says of an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    Bad(Finding),
    Good,
    /// Nothing can be said: everything stays as it is.
    Hold,
}

/// What is kept of an alert between evaluations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertState {
    /// As the signals say, before flapping is looked at.
    pub is_raised: bool,
    /// Evaluations in a row that said otherwise.
    pub streak: u32,
    /// When the first of the streak was, or the alert was raised.
    pub since: Timestamp,
    /// When the trouble began that raised it last.
    pub began_at: Option<Timestamp>,
    /// When it was raised or ended, within the flap window.
    pub changes: Vec<Timestamp>,
    pub is_flapping: bool,
    /// When it opened last.
    pub opened_at: Option<Timestamp>,
    pub finding: Option<Finding>,
}

impl AlertState {
    pub fn is_open(&self) -> bool {
        self.is_raised || self.is_flapping
    }

    /// One evaluation.
    fn step(&mut self, signal: Signal, policy: &AlertPolicy, needed: u32, now: Timestamp) {
        let was_open = self.is_open();
        let (says_raised, finding) = match signal {
            Signal::Hold => (None, None),
            Signal::Good => (Some(false), None),
            Signal::Bad(finding) => (Some(true), Some(finding)),
        };
        if let Some(finding) = finding {
            self.finding = Some(finding);
        }
        match says_raised {
            Some(says) if says != self.is_raised => {
                if self.streak == 0 {
                    self.since = now;
                }
                self.streak = self.streak.saturating_add(1);
                let needed = if says { needed } else { policy.recoveries_to_resolve };
                if self.streak >= needed {
                    self.is_raised = says;
                    self.streak = 0;
                    self.changes.push(now);
                    if says {
                        let seen = self.finding.as_ref().and_then(|finding| finding.began_at);
                        self.began_at = Some(seen.unwrap_or(self.since));
                    }
                }
            }
            Some(_) => self.streak = 0,
            None => {}
        }
        let window_ms = i64::from(policy.flap_window_minutes) * MINUTE_MS;
        self.changes.retain(|at| now.since_ms(*at) < window_ms);
        let changes = u32::try_from(self.changes.len()).unwrap_or(u32::MAX);
        // It ends flapping at less than half as many, or it would flap itself.
        self.is_flapping = changes >= policy.flap_changes
            || (self.is_flapping && 2 * changes >= policy.flap_changes);
        if self.is_open() && !was_open {
            self.opened_at = Some(now);
        }
    }

    /// Nothing in it differs from an alert that was never raised.
    fn is_blank(&self) -> bool {
        !self.is_open() && self.streak == 0 && self.changes.is_empty()
    }
}

/// An alert that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OpenAlert {
    pub family: Family,
    /// What in the family: an objective, a KPI, a deliverable; empty where
    /// there is but one.
    pub subject: String,
    pub severity: Severity,
    pub title: String,
    pub detail: String,
    pub opened_at: Timestamp,
    /// When the trouble began, as far as evaluations saw it.
    pub began_at: Timestamp,
    /// It came and went too often to be believed gone.
    pub flapping: bool,
}

/// The alerts of one partnership.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertBook {
    /// Names of the tiers that are on, by objective.
    tiers: BTreeMap<String, BTreeSet<String>>,
    /// A list, as JSON has no keys but text.
    alerts: Vec<(AlertKey, AlertState)>,
}

/// What an evaluation looks at, of one partnership at one instant.
pub struct Evidence<'a> {
    pub name: &'a str,
    pub now: Timestamp,
    pub slos: Vec<SloEvidence<'a>>,
    pub in_maintenance: bool,
    pub data: DataEvidence,
    pub kpis: Vec<KpiEvidence<'a>>,
    pub deliverables: &'a [Deliverable],
    /// `None`: the partner has no page, or nobody could read it.
    pub status_page: Option<Indicator>,
    pub verdict: Verdict,
}

/// Whether anything is heard of the partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataEvidence {
    /// Nobody probes it, and nobody has pushed anything.
    NotExpected,
    /// The newest observation that says how the partner is, and for how long
    /// one may be missing.
    Newest { at: Option<Timestamp>, since: Timestamp, absent_after_ms: i64 },
    /// The newest probe could reach nothing at all.
    CutOff,
}

/// The events of an objective.
pub struct SloEvidence<'a> {
    pub slo: &'a Slo,
    pub windows: Windows,
    /// The first bad event of the last hour.
    pub first_bad: Option<Timestamp>,
}

pub struct KpiEvidence<'a> {
    pub name: &'a str,
    pub unit: &'a str,
    pub target: f64,
    pub direction: Direction,
    /// `None`: nothing was sent, or too long ago.
    pub value: Option<f64>,
}

impl AlertBook {
    /// Evaluates everything. What is not looked at any more (its objective or
    /// KPI was deleted) ends.
    pub fn evaluate(&mut self, evidence: &Evidence<'_>, policy: &AlertPolicy) {
        let signals = self.signals(evidence, policy);
        let mut states: BTreeMap<AlertKey, AlertState> =
            std::mem::take(&mut self.alerts).into_iter().collect();
        self.alerts = signals
            .into_iter()
            .map(|(key, signal)| {
                let mut state = states.remove(&key).unwrap_or_default();
                let held = evidence.in_maintenance && key.family.is_excused_by_maintenance();
                let signal = if held { Signal::Hold } else { signal };
                let needed = match key.family {
                    Family::StatusPageTrouble | Family::StatusPageSilent => {
                        policy.status_page_minutes
                    }
                    _ => policy.failures_to_open,
                };
                state.step(signal, policy, needed, evidence.now);
                (key, state)
            })
            .filter(|(_, state)| !state.is_blank())
            .collect();
    }

    pub fn open(&self) -> Vec<OpenAlert> {
        let open = self.alerts.iter().filter(|(_, state)| state.is_open());
        open.filter_map(|(key, state)| {
            let finding = state.finding.clone()?;
            let opened_at = state.opened_at?;
            Some(OpenAlert {
                family: key.family,
                subject: key.subject.clone(),
                severity: finding.severity,
                title: finding.title,
                detail: finding.detail,
                opened_at,
                began_at: state.began_at.unwrap_or(opened_at).min(opened_at),
                flapping: state.is_flapping,
            })
        })
        .collect()
    }

    /// The fastest tier of the objective that is on.
    pub fn burning(&self, slo: &str) -> Option<&'static str> {
        let on = self.tiers.get(slo)?;
        TIERS.iter().map(|tier| tier.name).find(|name| on.contains(*name))
    }

    fn is_open(&self, family: Family, subject: &str) -> bool {
        let found =
            self.alerts.iter().find(|(key, _)| key.family == family && key.subject == subject);
        found.is_some_and(|(_, state)| state.is_open())
    }

    fn signals(
        &mut self,
        evidence: &Evidence<'_>,
        policy: &AlertPolicy,
    ) -> Vec<(AlertKey, Signal)> {
        let mut signals = Vec::new();
        let mut add = |family, subject: &str, signal| {
            signals.push((AlertKey { family, subject: subject.to_owned() }, signal));
        };
        self.tiers.retain(|key, _| evidence.slos.iter().any(|known| known.slo.key == *key));
        for known in &evidence.slos {
            if !evidence.in_maintenance {
                self.turn_tiers(known.slo, &known.windows, policy);
            }
            let (fast, slow) = self.burn_signals(evidence.name, known);
            add(Family::SloFastBurn, &known.slo.key, fast);
            add(Family::SloSlowBurn, &known.slo.key, slow);
        }
        match evidence.data {
            DataEvidence::NotExpected => {}
            DataEvidence::CutOff => {
                add(Family::DataAbsent, "", Signal::Hold);
                add(Family::Egress, "", Signal::Bad(cut_off(evidence.name)));
            }
            DataEvidence::Newest { at, since, absent_after_ms } => {
                let age_ms = evidence.now.since_ms(at.unwrap_or(since));
                let absent = age_ms >= absent_after_ms;
                let signal = if absent {
                    Signal::Bad(absence(evidence.name, at, age_ms))
                } else {
                    Signal::Good
                };
                add(Family::DataAbsent, "", signal);
                // While nothing is heard nobody knows whether it is us.
                add(Family::Egress, "", if absent { Signal::Hold } else { Signal::Good });
            }
        }
        for kpi in &evidence.kpis {
            add(Family::KpiBelowTarget, kpi.name, kpi_signal(evidence.name, kpi, policy));
        }
        for deliverable in evidence.deliverables {
            let signal = overdue(evidence.name, deliverable, evidence.now);
            add(Family::DeliverableOverdue, &deliverable.key, signal);
        }
        let (trouble, silent) = page_signals(evidence);
        add(Family::StatusPageTrouble, "", trouble);
        add(Family::StatusPageSilent, "", silent);
        signals
    }

    fn turn_tiers(&mut self, slo: &Slo, windows: &Windows, policy: &AlertPolicy) {
        let on = self.tiers.entry(slo.key.clone()).or_default();
        for tier in &TIERS {
            let was_on = on.contains(tier.name);
            if tier.is_on(was_on, slo, windows, policy.min_bad_samples) {
                on.insert(tier.name.to_owned());
            } else {
                on.remove(tier.name);
            }
        }
    }

    /// What the tiers say: of those that page, and of those that do not.
    fn burn_signals(&self, name: &str, known: &SloEvidence<'_>) -> (Signal, Signal) {
        let SloEvidence { slo, windows, .. } = known;
        let on = |pages: bool| {
            let tiers = TIERS.iter().filter(move |tier| tier.pages == pages);
            let is_on =
                |tier: &&Tier| self.tiers.get(&slo.key).is_some_and(|on| on.contains(tier.name));
            tiers.into_iter().find(is_on)
        };
        // Without events in the shortest window nobody knows whether it is over.
        let heard = WINDOWS.first().is_some_and(|(_, ms)| windows.tally(*ms).total() > 0);
        let quiet = if heard { Signal::Good } else { Signal::Hold };
        let found = |tier: &Tier| Signal::Bad(burn(name, known, tier));
        let fast = on(true).map_or_else(|| quiet.clone(), found);
        let fast_is_open = self.is_open(Family::SloFastBurn, &slo.key);
        let slow_is_open = self.is_open(Family::SloSlowBurn, &slo.key);
        let slow = match on(false) {
            // A faster one inhibits the slower ones, but for what is open already.
            Some(_) if !slow_is_open && (fast_is_open || fast != Signal::Good) => Signal::Hold,
            Some(tier) => found(tier),
            None => quiet,
        };
        (fast, slow)
    }
}

fn burn(name: &str, known: &SloEvidence<'_>, tier: &Tier) -> Finding {
    let SloEvidence { slo, windows, first_bad } = known;
    let of = |ms: i64| {
        let tally = windows.tally(ms);
        let window = WINDOWS.iter().find(|(_, width)| *width == ms).map_or("", |(name, _)| name);
        match tally.burn(slo.budget()) {
            Some(burn) => {
                format!("{} of {} bad in {window} (burn {})", tally.bad, tally.total(), round(burn))
            }
            None => format!("nothing observed in {window}"),
        }
    };
    let severity = if tier.pages { Severity::Critical } else { Severity::Warning };
    let urgency = if tier.pages { "burns its budget fast" } else { "burns more than its budget" };
    Finding {
        severity,
        title: format!("{name}: {} {urgency}", slo.key),
        detail: format!(
            "objective {} % over {} days, tier {}: {}, {}; fires from burn {}",
            slo.target_percent,
            slo.period_days,
            tier.name,
            of(tier.long_ms),
            of(tier.short_ms),
            round(tier.factor(slo.period_ms())),
        ),
        began_at: *first_bad,
    }
}

fn absence(name: &str, newest: Option<Timestamp>, age_ms: i64) -> Finding {
    let minutes = age_ms / MINUTE_MS;
    Finding {
        severity: Severity::Warning,
        title: format!("{name}: nothing observed for {minutes} minutes"),
        detail: match newest {
            Some(at) => format!("the newest observation that says how the partner is: {at}"),
            None => "there has never been an observation that says how the partner is".to_owned(),
        },
        began_at: newest,
    }
}

fn cut_off(name: &str) -> Finding {
    Finding {
        severity: Severity::Critical,
        title: "nothing outside can be reached from here".to_owned(),
        detail: format!("neither {name} nor a control target answered the newest probe"),
        began_at: None,
    }
}

fn kpi_signal(name: &str, kpi: &KpiEvidence<'_>, policy: &AlertPolicy) -> Signal {
    let Some(value) = kpi.value else { return Signal::Hold };
    let attained = attainment(value, kpi.target, kpi.direction);
    let opens_below = 1.0 - policy.kpi_below_percent / 100.0;
    let ends_from = (opens_below + policy.kpi_deadband_percent / 100.0).min(1.0);
    if round(attained) < round(opens_below) {
        Signal::Bad(Finding {
            severity: Severity::Warning,
            title: format!("{name}: {} misses its target", kpi.name),
            detail: format!(
                "{value} {} of {}: {} % attained, alert below {} %",
                kpi.unit,
                kpi.target,
                round(100.0 * attained),
                round(100.0 * opens_below)
            ),
            began_at: None,
        })
    } else if round(attained) >= round(ends_from) {
        Signal::Good
    } else {
        Signal::Hold
    }
}

fn overdue(name: &str, deliverable: &Deliverable, now: Timestamp) -> Signal {
    let finished = deliverable.completed_at.is_some()
        || matches!(
            deliverable.status,
            Some(DeliverableStatus::Completed | DeliverableStatus::Cancelled)
        );
    let due = deliverable.due_date.as_deref().and_then(|day| Some((day, end_of_day(day).ok()?)));
    match due {
        Some((day, end)) if end <= now && !finished => Signal::Bad(Finding {
            severity: Severity::Warning,
            title: format!("{name}: {} is overdue", deliverable.key),
            detail: match deliverable.completion_percentage {
                Some(percent) => format!("due on {day}, {percent} % reported"),
                None => format!("due on {day}, no progress reported"),
            },
            began_at: Some(end),
        }),
        _ => Signal::Good,
    }
}

/// What the partner says of himself against what we see: trouble that we do
/// not see, and trouble that he does not say.
fn page_signals(evidence: &Evidence<'_>) -> (Signal, Signal) {
    let name = evidence.name;
    let Some(indicator) = evidence.status_page else { return (Signal::Hold, Signal::Hold) };
    let says = matches!(indicator, Indicator::Major | Indicator::Critical);
    let finding = |title: String, detail: &str| {
        let detail = detail.to_owned();
        Signal::Bad(Finding { severity: Severity::Info, title, detail, began_at: None })
    };
    match (evidence.verdict, indicator) {
        (_, Indicator::Unknown) => (Signal::Hold, Signal::Hold),
        (Verdict::Up, _) if says => (
            finding(
                format!("{name}: the partner reports trouble that we do not see"),
                "his status page says major or critical, and our observations are good",
            ),
            Signal::Good,
        ),
        (Verdict::Down, Indicator::None) => (
            Signal::Good,
            finding(
                format!("{name}: down, and the partner's status page says nothing"),
                "our observations say down, and his status page reports no trouble",
            ),
        ),
        _ => (Signal::Good, Signal::Good),
    }
}

/// An outage that we saw, and when the partner admitted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    pub down_since: Timestamp,
    pub admitted_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// Outages kept to tell how long a partner takes to admit one.
pub const MAX_OUTAGES: usize = 50;

/// One evaluation of the list of outages, the latest last.
pub fn note_outage(
    outages: &mut Vec<Outage>,
    verdict: Verdict,
    down_since: Timestamp,
    page: Option<Indicator>,
    now: Timestamp,
) {
    let admits = matches!(page, Some(Indicator::Minor | Indicator::Major | Indicator::Critical));
    let running = outages.last_mut().filter(|outage| outage.ended_at.is_none());
    match (running, verdict) {
        (Some(outage), verdict) => {
            if admits {
                outage.admitted_at.get_or_insert(now);
            }
            if verdict == Verdict::Up {
                outage.ended_at = Some(now);
            }
        }
        (None, Verdict::Down) => {
            let admitted_at = admits.then_some(now);
            outages.push(Outage { down_since, admitted_at, ended_at: None });
            let extra = outages.len().saturating_sub(MAX_OUTAGES);
            outages.drain(..extra);
        }
        (None, _) => {}
    }
}

/// How a partner admits his outages, of the last [`MAX_OUTAGES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Admission {
    /// Outages that we saw while the partner's page could be read.
    pub outages: u64,
    /// Of these, those that the page admitted while they lasted.
    pub admitted: u64,
    /// From the first failed observation to the page's first word of it, in
    /// seconds, of the last that was admitted; null without one.
    pub last_lag_s: Option<i64>,
    /// The same, median of all.
    pub median_lag_s: Option<f64>,
}

pub fn admission(outages: &[Outage]) -> Admission {
    let lag_s = |outage: &Outage| {
        outage.admitted_at.map(|at| at.since_ms(outage.down_since).max(0) / 1_000)
    };
    let lags: Vec<i64> = outages.iter().filter_map(lag_s).collect();
    let mut sorted = lags.clone();
    sorted.sort_unstable();
    let half = sorted.len() / 2;
    let median_lag_s = match (sorted.get(half.wrapping_sub(1)), sorted.get(half)) {
        (Some(low), Some(high)) if sorted.len().is_multiple_of(2) => {
            Some((*low + *high) as f64 / 2.0)
        }
        (_, Some(middle)) => Some(*middle as f64),
        _ => None,
    };
    Admission {
        outages: outages.len() as u64,
        admitted: lags.len() as u64,
        last_lag_s: lags.last().copied(),
        median_lag_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::slo::{Tally, default_availability};
    use proptest::prelude::*;

    const T0: i64 = 1_800_000_000_000;

    fn minute(n: i64) -> Timestamp {
        Timestamp::from_millis(T0 + n * MINUTE_MS)
    }

    fn evidence(slo: &Slo, now: Timestamp, windows: Windows) -> Evidence<'_> {
        Evidence {
            name: "Search",
            now,
            slos: vec![SloEvidence { slo, windows, first_bad: None }],
            in_maintenance: false,
            data: DataEvidence::NotExpected,
            kpis: Vec::new(),
            deliverables: &[],
            status_page: None,
            verdict: Verdict::Up,
        }
    }

    /// Windows over one sample a minute: true is good, `None` is silence.
    fn windows_over(samples: &[Option<bool>]) -> Windows {
        let mut windows = Windows::default();
        for ((_, ms), tally) in WINDOWS.iter().zip(&mut windows.0) {
            let minutes = usize::try_from(ms / MINUTE_MS).unwrap();
            for sample in samples.iter().rev().take(minutes).flatten() {
                let one =
                    if *sample { Tally { good: 1, bad: 0 } } else { Tally { good: 0, bad: 1 } };
                *tally = tally.plus(one);
            }
        }
        windows
    }

    /// Runs the samples, one a minute, and gives the families that are open
    /// after each.
    fn run(samples: &[Option<bool>], policy: &AlertPolicy) -> Vec<Vec<Family>> {
        let slo = default_availability(99.9).unwrap();
        let mut book = AlertBook::default();
        (1..=samples.len())
            .map(|n| {
                let windows = windows_over(&samples[..n]);
                book.evaluate(&evidence(&slo, minute(n as i64), windows), policy);
                book.open().iter().map(|alert| alert.family).collect()
            })
            .collect()
    }

    fn good(n: usize) -> Vec<Option<bool>> {
        vec![Some(true); n]
    }

    #[test]
    fn an_outage_pages_within_five_minutes_and_once() {
        let mut samples = good(120);
        samples.extend(vec![Some(false); 10]);
        samples.extend(good(60));
        let open = run(&samples, &AlertPolicy::default());
        let pages = |at: &Vec<Family>| at.contains(&Family::SloFastBurn);
        let first = open.iter().position(pages).unwrap();
        assert_eq!(first - 120, 2, "at the third bad sample");
        let rises = open.windows(2).filter(|two| !pages(&two[0]) && pages(&two[1])).count();
        assert_eq!(rises, 1, "one page for one cause");
        assert!(!pages(open.last().unwrap()), "it ends by itself");
        assert!(open.last().unwrap().contains(&Family::SloSlowBurn), "and leaves a ticket");
        // Never both from nothing at once: the fast one inhibits the slow one.
        assert_eq!(open[first], [Family::SloFastBurn]);
    }

    #[test]
    fn a_lost_packet_pages_nobody() {
        let mut samples = good(300);
        samples[150] = Some(false);
        samples[260] = Some(false);
        assert!(run(&samples, &AlertPolicy::default()).iter().all(Vec::is_empty));
    }

    #[test]
    fn silence_freezes_what_is_open() {
        let mut samples = good(120);
        samples.extend(vec![Some(false); 10]);
        samples.extend(vec![None; 200]);
        let open = run(&samples, &AlertPolicy::default());
        assert!(open.last().unwrap().contains(&Family::SloFastBurn));
    }

    #[test]
    fn failures_and_recoveries_are_counted_apart() {
        let policy = AlertPolicy { failures_to_open: 4, ..AlertPolicy::default() };
        let mut samples = good(120);
        samples.extend(vec![Some(false); 10]);
        let open = run(&samples, &policy);
        assert_eq!(open.iter().position(|open| !open.is_empty()), Some(125));
    }

    #[test]
    fn flapping_keeps_one_alert_open() {
        let policy = AlertPolicy {
            recoveries_to_resolve: 1,
            flap_changes: 4,
            flap_window_minutes: 30,
            ..AlertPolicy::default()
        };
        let mut state = AlertState::default();
        let finding = || Finding {
            severity: Severity::Warning,
            title: "t".to_owned(),
            detail: "d".to_owned(),
            began_at: None,
        };
        let mut rises = 0;
        for n in 0..20 {
            let before = state.is_open();
            let signal = if n % 2 == 0 { Signal::Bad(finding()) } else { Signal::Good };
            state.step(signal, &policy, 1, minute(n));
            rises += i32::from(state.is_open() && !before);
        }
        assert!(state.is_flapping && state.is_open());
        assert_eq!(rises, 2, "opened twice before it was known to flap");
        for n in 20..60 {
            state.step(Signal::Good, &policy, 1, minute(n));
        }
        assert!(!state.is_open() && state.is_blank());
    }

    #[test]
    fn a_kpi_has_a_deadband() {
        let policy = AlertPolicy { recoveries_to_resolve: 1, ..AlertPolicy::default() };
        let kpi = |value| KpiEvidence {
            name: "sentiment",
            unit: "percent",
            target: 100.0,
            direction: Direction::HigherIsBetter,
            value,
        };
        for (value, expected) in
            [(Some(90.0), "good"), (Some(89.9), "bad"), (Some(91.9), "good"), (None, "hold")]
        {
            let signal = kpi_signal("Search", &kpi(value), &policy);
            let is = match signal {
                Signal::Bad(_) => "bad",
                Signal::Good => "good",
                Signal::Hold => "hold",
            };
            let within = value.is_some_and(|v| (90.0..92.0).contains(&v));
            assert_eq!(is, if within { "hold" } else { expected }, "{value:?}");
        }
    }

    #[test]
    fn overdue_from_the_first_instant_after_the_day() {
        let mut deliverable = Deliverable::new("search");
        deliverable.due_date = Some("2026-03-31".to_owned());
        let at = |text: &str| Timestamp::parse(text).unwrap();
        let is_bad = |d: &Deliverable, now| matches!(overdue("Search", d, now), Signal::Bad(_));
        assert!(!is_bad(&deliverable, at("2026-03-31T23:59:59Z")));
        assert!(is_bad(&deliverable, at("2026-04-01T00:00:00Z")));
        deliverable.status = Some(DeliverableStatus::Cancelled);
        assert!(!is_bad(&deliverable, at("2026-04-01T00:00:00Z")));
    }

    #[test]
    fn being_cut_off_is_one_cause_and_not_six() {
        let slo = default_availability(99.9).unwrap();
        let mut book = AlertBook::default();
        let mut look = evidence(&slo, minute(0), Windows::default());
        look.data = DataEvidence::CutOff;
        book.evaluate(&look, &AlertPolicy::default());
        let open = book.open();
        assert_eq!(open.len(), 1);
        assert!(open[0].family == Family::Egress && open[0].family.is_of_the_service());
    }

    #[test]
    fn absence_is_told_and_ends_with_the_first_observation() {
        let slo = default_availability(99.9).unwrap();
        let policy = AlertPolicy { recoveries_to_resolve: 1, ..AlertPolicy::default() };
        let mut book = AlertBook::default();
        let mut after = |n: i64, newest: i64| {
            let mut look = evidence(&slo, minute(n), Windows::default());
            look.data = DataEvidence::Newest {
                at: Some(minute(newest)),
                since: minute(0),
                absent_after_ms: 5 * MINUTE_MS,
            };
            book.evaluate(&look, &policy);
            book.open().len()
        };
        assert_eq!(after(4, 0), 0);
        assert_eq!(after(5, 0), 1);
        assert_eq!(after(6, 6), 0);
    }

    #[test]
    fn a_deleted_objective_takes_its_alert_along() {
        let slo = default_availability(99.9).unwrap();
        let mut book = AlertBook::default();
        let bad = windows_over(&[Some(false); 10]);
        book.evaluate(&evidence(&slo, minute(0), bad), &AlertPolicy::default());
        assert_eq!(book.open().len(), 1);
        let mut without = evidence(&slo, minute(1), bad);
        without.slos.clear();
        book.evaluate(&without, &AlertPolicy::default());
        assert_eq!(book, AlertBook::default());
    }

    #[test]
    fn maintenance_excuses_what_is_observed() {
        let slo = default_availability(99.9).unwrap();
        let mut book = AlertBook::default();
        let mut look = evidence(&slo, minute(0), windows_over(&[Some(false); 10]));
        look.in_maintenance = true;
        book.evaluate(&look, &AlertPolicy::default());
        assert!(book.open().is_empty());
    }

    #[test]
    fn the_lag_of_an_admission() {
        let mut outages = Vec::new();
        note_outage(&mut outages, Verdict::Down, minute(0), Some(Indicator::None), minute(1));
        note_outage(&mut outages, Verdict::Down, minute(0), Some(Indicator::Major), minute(7));
        note_outage(&mut outages, Verdict::Up, minute(9), Some(Indicator::Major), minute(9));
        note_outage(&mut outages, Verdict::Down, minute(20), Some(Indicator::None), minute(21));
        let figures = admission(&outages);
        assert_eq!((figures.outages, figures.admitted), (2, 1));
        assert_eq!((figures.last_lag_s, figures.median_lag_s), (Some(420), Some(420.0)));
        assert_eq!(admission(&[]), Admission::default());
    }

    proptest! {
        /// Whatever came before, a long run of good samples ends everything,
        /// and the stored form reads back as it was.
        #[test]
        fn good_data_ends_every_alert(
            samples in prop::collection::vec(prop::option::weighted(0.9, any::<bool>()), 0..200),
        ) {
            let policy = AlertPolicy::default();
            let mut all = samples;
            all.extend(good(4_400));
            let slo = default_availability(99.9).unwrap();
            let mut book = AlertBook::default();
            let count = all.len();
            // Every sample while they vary, then the last ones: in between
            // the book only waits.
            for n in (1..=count).filter(|n| *n < 260 || *n > count - 70) {
                book.evaluate(&evidence(&slo, minute(n as i64), windows_over(&all[..n])), &policy);
                let text = serde_json::to_string(&book).unwrap();
                prop_assert_eq!(&serde_json::from_str::<AlertBook>(&text).unwrap(), &book);
            }
            prop_assert!(book.open().is_empty());
        }
    }
}

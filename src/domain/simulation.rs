//! What a proposed alert policy would have done to the stored samples of a
//! partnership: the same evaluation as the real one, minute by minute.

use super::alert::{
    AlertBook, AlertPolicy, DataEvidence, Evidence, Family, KpiEvidence, SloEvidence,
};
use super::incident::Severity;
use super::partnership::Definition;
use super::slo::{Slo, SloKind, Tally, WINDOWS, Windows};
use super::time::{HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use super::verdict::Verdict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was stored of a minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Events of each objective, maintenance left out.
    pub tallies: Vec<Tally>,
    /// Whether anything said how the partner is.
    pub is_conclusive: bool,
}

/// What was stored of a partnership.
pub struct History<'a> {
    pub definition: &'a Definition,
    /// The objectives to simulate.
    pub slos: &'a [Slo],
    /// Start of the first minute.
    pub first: Timestamp,
    pub minutes: Vec<Minute>,
    /// Values of each KPI, the oldest first.
    pub kpis: BTreeMap<String, Vec<(Timestamp, f64)>>,
}

/// An alert as it would have been.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SimulatedAlert {
    /// Id of the partnership.
    pub partnership: String,
    pub rule: Family,
    /// An objective or a KPI; empty where there is but one.
    pub subject: String,
    /// `critical` pages somebody.
    pub severity: Severity,
    pub title: String,
    pub detail: String,
    /// When the trouble began: the first bad minute of the hour before.
    pub began_at: Timestamp,
    pub opened_at: Timestamp,
    /// Null: still open at the end.
    pub resolved_at: Option<Timestamp>,
    /// From the beginning of the trouble to the alert, in seconds.
    pub detection_delay_s: i64,
    /// Whether it flapped while it was open.
    pub flapped: bool,
}

/// What came out for one partnership.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Simulation {
    /// Id of the partnership.
    pub partnership: String,
    /// First minute that was evaluated.
    pub from: Timestamp,
    /// Start of the last minute.
    pub until: Timestamp,
    /// Evaluations, one a minute.
    pub evaluations: u64,
    /// Minutes with an observation that says how the partner was.
    pub minutes_with_data: u64,
    /// In the order in which they open.
    pub alerts: Vec<SimulatedAlert>,
}

/// Families whose past is stored; of status pages and deliverables it is not.
pub const SIMULATED: [Family; 4] =
    [Family::SloFastBurn, Family::SloSlowBurn, Family::DataAbsent, Family::KpiBelowTarget];

/// Runs the policy from one minute to another. What lies before in the history
/// fills the windows.
pub fn run(
    history: &History<'_>,
    policy: &AlertPolicy,
    from: Timestamp,
    until: Timestamp,
) -> Simulation {
    let definition = history.definition;
    let sums = prefix_sums(history);
    let mut book = AlertBook::default();
    let mut alerts: Vec<SimulatedAlert> = Vec::new();
    let mut newest: Option<Timestamp> = None;
    let (mut evaluations, mut minutes_with_data) = (0, 0);
    for (index, minute) in history.minutes.iter().enumerate() {
        let start = minute_at(history.first, index);
        if minute.is_conclusive {
            newest = Some(start);
        }
        if start < from || start > until {
            continue;
        }
        evaluations += 1;
        minutes_with_data += u64::from(minute.is_conclusive);
        let slos = history.slos.iter().zip(&sums).map(|(slo, sums)| SloEvidence {
            slo,
            windows: windows(sums, index),
            first_bad: (slo.kind == SloKind::Availability)
                .then(|| first_bad(history.first, sums, index))
                .flatten(),
        });
        let slos: Vec<_> = slos.collect();
        let evidence = Evidence {
            name: &definition.name,
            now: start,
            slos,
            in_maintenance: definition
                .maintenance
                .iter()
                .any(|window| window.active_until(start).is_some()),
            data: data_evidence(definition, policy, newest, start),
            kpis: kpis(history, start),
            deliverables: &[],
            status_page: None,
            verdict: Verdict::Unknown,
        };
        book.evaluate(&evidence, policy);
        follow(&mut alerts, &definition.id, &book, start);
    }
    Simulation {
        partnership: definition.id.clone(),
        from,
        until,
        evaluations,
        minutes_with_data,
        alerts,
    }
}

/// Brings the list up to what is open now.
fn follow(alerts: &mut Vec<SimulatedAlert>, id: &str, book: &AlertBook, now: Timestamp) {
    let open = book.open();
    for alert in alerts.iter_mut().filter(|alert| alert.resolved_at.is_none()) {
        let same = |known: &&super::alert::OpenAlert| {
            known.family == alert.rule && known.subject == alert.subject
        };
        match open.iter().find(same) {
            Some(known) => alert.flapped |= known.flapping,
            None => alert.resolved_at = Some(now),
        }
    }
    for known in open {
        let is_listed = alerts.iter().any(|alert| {
            alert.resolved_at.is_none()
                && alert.rule == known.family
                && alert.subject == known.subject
        });
        if !is_listed {
            alerts.push(SimulatedAlert {
                partnership: id.to_owned(),
                rule: known.family,
                subject: known.subject,
                severity: known.severity,
                title: known.title,
                detail: known.detail,
                began_at: known.began_at,
                opened_at: now,
                resolved_at: None,
                detection_delay_s: now.since_ms(known.began_at).max(0) / SECOND_MS,
                flapped: known.flapping,
            });
        }
    }
}

fn minute_at(first: Timestamp, index: usize) -> Timestamp {
    first.plus_ms(i64::try_from(index).unwrap_or(i64::MAX / MINUTE_MS) * MINUTE_MS)
}

/// For each objective the events before each minute.
fn prefix_sums(history: &History<'_>) -> Vec<Vec<Tally>> {
    (0..history.slos.len())
        .map(|slo| {
            let mut sum = Tally::default();
            let mut sums = vec![sum];
            sums.extend(history.minutes.iter().map(|minute| {
                sum = sum.plus(minute.tallies.get(slo).copied().unwrap_or_default());
                sum
            }));
            sums
        })
        .collect()
}

fn between(sums: &[Tally], from: usize, to: usize) -> Tally {
    let at = |index: usize| sums.get(index).copied().unwrap_or_default();
    at(to).without(at(from))
}

fn windows(sums: &[Tally], index: usize) -> Windows {
    let mut windows = Windows::default();
    for ((_, ms), tally) in WINDOWS.iter().zip(&mut windows.0) {
        let minutes = usize::try_from(ms / MINUTE_MS).unwrap_or_default();
        *tally = between(sums, (index + 1).saturating_sub(minutes), index + 1);
    }
    windows
}

/// The first bad minute of the last hour.
fn first_bad(first: Timestamp, sums: &[Tally], index: usize) -> Option<Timestamp> {
    let hour = usize::try_from(HOUR_MS / MINUTE_MS).unwrap_or_default();
    let begin = (index + 1).saturating_sub(hour);
    (between(sums, begin, index + 1).bad > 0)
        .then(|| (begin..=index).find(|at| between(sums, *at, at + 1).bad > 0))
        .flatten()
        .map(|at| minute_at(first, at))
}

fn data_evidence(
    definition: &Definition,
    policy: &AlertPolicy,
    newest: Option<Timestamp>,
    now: Timestamp,
) -> DataEvidence {
    // Before the first observation of the history nothing was expected.
    let Some(newest) = newest else { return DataEvidence::NotExpected };
    let absent_after_ms = definition.data_absent_after_ms(policy);
    DataEvidence::Newest { at: Some(newest), since: now, absent_after_ms }
}

fn kpis<'a>(history: &'a History<'_>, now: Timestamp) -> Vec<KpiEvidence<'a>> {
    let definition = history.definition;
    let stale_after_ms = definition.settings.kpi_stale_after_ms;
    let kpi = |kpi: &'a super::partnership::KpiDefinition| {
        let sent = history.kpis.get(&kpi.name).map(Vec::as_slice).unwrap_or_default();
        let known = sent.partition_point(|(at, _)| *at <= now);
        let last = known.checked_sub(1).and_then(|last| sent.get(last));
        KpiEvidence {
            name: &kpi.name,
            unit: &kpi.unit,
            target: kpi.target,
            direction: kpi.direction,
            value: last.filter(|(at, _)| now.since_ms(*at) <= stale_after_ms).map(|(_, v)| *v),
        }
    };
    definition.kpis.iter().map(kpi).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::partnership::tests::summary;
    use crate::domain::slo::default_availability;

    const T0: i64 = 1_800_000_000_000;

    fn simulate(samples: &[Option<bool>], policy: &AlertPolicy) -> Simulation {
        let first = Timestamp::from_millis(T0);
        let definition = summary(first).definition;
        let slos = [default_availability(99.9).unwrap()];
        let minute = |sample: &Option<bool>| Minute {
            tallies: vec![match sample {
                Some(true) => Tally { good: 1, bad: 0 },
                Some(false) => Tally { good: 0, bad: 1 },
                None => Tally::default(),
            }],
            is_conclusive: sample.is_some(),
        };
        let history = History {
            definition: &definition,
            slos: &slos,
            first,
            minutes: samples.iter().map(minute).collect(),
            kpis: BTreeMap::from([(
                "speed".to_owned(),
                vec![(first.plus_ms(10 * MINUTE_MS), 5.0), (first.plus_ms(20 * MINUTE_MS), 10.0)],
            )]),
        };
        let until = minute_at(first, samples.len());
        run(&history, policy, first, until)
    }

    fn of(simulation: &Simulation, rule: Family) -> Vec<(i64, Option<i64>, i64)> {
        let minute = |at: Timestamp| (at.millis() - T0) / MINUTE_MS;
        let found = simulation.alerts.iter().filter(|alert| alert.rule == rule);
        found
            .map(|a| (minute(a.opened_at), a.resolved_at.map(minute), a.detection_delay_s))
            .collect()
    }

    #[test]
    fn an_outage_with_its_delay() {
        let mut samples = vec![Some(true); 200];
        samples.splice(100..110, vec![Some(false); 10]);
        let simulation = simulate(&samples, &AlertPolicy::default());
        assert_eq!(simulation.evaluations, 200);
        // The third bad minute; two minutes after the first.
        let [(opened, resolved, delay_s)] = of(&simulation, Family::SloFastBurn)[..] else {
            panic!("{simulation:?}")
        };
        assert_eq!((opened, delay_s), (102, 120));
        // 30 minutes after the last bad one, and three evaluations to believe it.
        assert_eq!(resolved, Some(109 + 30 + 2));
        assert_eq!(of(&simulation, Family::KpiBelowTarget), [(10, Some(22), 0)]);
    }

    #[test]
    fn a_stricter_policy_is_later_and_silence_is_told() {
        let mut samples = vec![Some(true); 200];
        samples.splice(100..110, vec![Some(false); 10]);
        samples.splice(150..170, vec![None; 20]);
        let policy = AlertPolicy { min_bad_samples: 6, ..AlertPolicy::default() };
        let simulation = simulate(&samples, &policy);
        assert_eq!(of(&simulation, Family::SloFastBurn)[0].0, 105);
        assert_eq!(of(&simulation, Family::DataAbsent)[0], (164, Some(172), 15 * 60));
    }
}

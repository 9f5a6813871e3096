//! Deliverables: what a partnership promised to finish, and how far it is.

use super::time::{DAY_MS, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliverableStatus {
    NotStarted,
    InProgress,
    Blocked,
    Completed,
    Cancelled,
}

impl DeliverableStatus {
    pub const ALL: [Self; 5] =
        [Self::NotStarted, Self::InProgress, Self::Blocked, Self::Completed, Self::Cancelled];

    pub const fn name(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::InProgress => "in_progress",
            Self::Blocked => "blocked",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deliverable {
    pub key: String,
    /// 0 to 100; `None` until somebody sends one.
    pub completion_percentage: Option<f64>,
    pub status: Option<DeliverableStatus>,
    /// The last day on which it is in time, `YYYY-MM-DD`, in UTC.
    pub due_date: Option<String>,
    pub weight: f64,
    pub completed_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    pub updated_by: Option<String>,
}

/// What a day of the years 1970 to 9999 looks like, as a regular expression
/// of the document.
pub const DAY: &str = "^(19[7-9]|[2-9][0-9]{2})[0-9]-[0-9]{2}-[0-9]{2}$";

/// The first instant after the due day.
///
/// # Errors
/// Text that is no day.
pub fn end_of_day(due_date: &str) -> Result<Timestamp, String> {
    if due_date.len() != 10 {
        return Err("expected a day such as 2026-03-31".to_owned());
    }
    Timestamp::parse(&format!("{due_date}T00:00:00Z"))
        .map(|midnight| midnight.plus_ms(DAY_MS))
        .map_err(|_| "expected a day such as 2026-03-31".to_owned())
}

impl Deliverable {
    /// One of which nothing is known yet.
    pub fn new(key: &str) -> Self {
        Self {
            key: key.to_owned(),
            completion_percentage: None,
            status: None,
            due_date: None,
            weight: 1.0,
            completed_at: None,
            updated_at: None,
            updated_by: None,
        }
    }

    fn due_end(&self) -> Option<Timestamp> {
        self.due_date.as_deref().and_then(|day| end_of_day(day).ok())
    }

    /// Cancelled work is owed by nobody.
    fn counts(&self) -> bool {
        self.status != Some(DeliverableStatus::Cancelled)
    }

    /// Due, or already finished: its punctuality can be judged.
    fn is_due(&self, now: Timestamp) -> bool {
        self.due_end().is_some_and(|end| end <= now || self.completed_at.is_some())
    }

    fn was_on_time(&self) -> bool {
        match (self.completed_at, self.due_end()) {
            (Some(completed), Some(end)) => completed < end,
            _ => false,
        }
    }
}

/// What the deliverables say of a partnership.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attainment {
    /// 0 to 1.
    pub value: f64,
    /// Deliverables it was made from.
    pub n: u64,
    /// True: on-time weight over due weight. False: nothing was due, so the
    /// mean progress of those that reported some.
    pub by_due_date: bool,
}

/// On-time weight over due weight; where nothing is due, the weighted mean
/// progress; `None` where nobody has sent anything.
pub fn attainment(deliverables: &[Deliverable], now: Timestamp) -> Option<Attainment> {
    let counted = || deliverables.iter().filter(|d| d.counts());
    let due: Vec<_> = counted().filter(|d| d.is_due(now)).collect();
    if !due.is_empty() {
        let weight: f64 = due.iter().map(|d| d.weight).sum();
        let on_time: f64 = due.iter().filter(|d| d.was_on_time()).map(|d| d.weight).sum();
        return Some(Attainment {
            value: on_time / weight,
            n: due.len() as u64,
            by_due_date: true,
        });
    }
    let reported: Vec<(f64, f64)> =
        counted().filter_map(|d| Some((d.completion_percentage?, d.weight))).collect();
    let weight: f64 = reported.iter().map(|(_, weight)| weight).sum();
    (!reported.is_empty()).then(|| Attainment {
        value: reported.iter().map(|(p, w)| p / 100.0 * w).sum::<f64>() / weight,
        n: reported.len() as u64,
        by_due_date: false,
    })
}

/// Mean completion of those that reported one, 0 to 100.
pub fn progress(deliverables: &[Deliverable]) -> Option<f64> {
    let reported: Vec<f64> = deliverables
        .iter()
        .filter(|d| d.counts())
        .filter_map(|d| d.completion_percentage)
        .collect();
    (!reported.is_empty()).then(|| reported.iter().sum::<f64>() / reported.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-03-31T12:00:00Z";

    fn deliverable(progress: Option<f64>, due: Option<&str>, done: Option<&str>) -> Deliverable {
        Deliverable {
            key: "d".to_owned(),
            completion_percentage: progress,
            status: None,
            due_date: due.map(str::to_owned),
            weight: 1.0,
            completed_at: done.map(|at| Timestamp::parse(at).unwrap()),
            updated_at: None,
            updated_by: None,
        }
    }

    #[track_caller]
    fn check(deliverables: &[Deliverable], expected: Option<f64>) {
        let now = Timestamp::parse(NOW).unwrap();
        assert_eq!(attainment(deliverables, now).map(|a| a.value), expected);
    }

    #[test]
    fn on_time_share_where_something_is_due_else_mean_progress() {
        check(&[], None);
        check(&[deliverable(None, None, None)], None);
        check(
            &[deliverable(Some(40.0), None, None), deliverable(Some(60.0), None, None)],
            Some(0.5),
        );
        // Due today: still in time until the day ends.
        check(&[deliverable(Some(40.0), Some("2026-03-31"), None)], Some(0.4));
        check(&[deliverable(Some(40.0), Some("2026-03-30"), None)], Some(0.0));
        let on_time = deliverable(Some(100.0), Some("2026-03-30"), Some("2026-03-30T23:59:59Z"));
        let late = deliverable(Some(100.0), Some("2026-03-30"), Some("2026-03-31T00:00:00Z"));
        check(&[on_time.clone(), late], Some(0.5));
        let cancelled = Deliverable {
            status: Some(DeliverableStatus::Cancelled),
            ..deliverable(None, Some("2026-01-01"), None)
        };
        check(&[on_time, cancelled], Some(1.0));
    }

    #[test]
    fn a_due_date_is_a_day() {
        assert!(end_of_day("2026-02-28").is_ok());
        for bad in ["", "2026-02-30", "2026-2-3", "tomorrow", "2026-02-28T00:00:00Z"] {
            assert!(end_of_day(bad).is_err(), "{bad}");
        }
    }
}

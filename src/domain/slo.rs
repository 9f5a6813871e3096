//! Service level objectives and how fast their budgets burn (Google SRE
//! workbook, chapter 5: multiwindow, multi-burn-rate alerts).
//!
//! Budget fraction B = 1 - target. Error rate e(W) = bad / (good + bad) over a
//! window W, outcomes that say nothing of the partner left out. Burn
//! b(W) = e(W) / B: at 1 the budget lasts just for the period.

use super::rollup::{Counts, Rollup};
use super::statistics::round;
use super::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use super::verdict::Class;
use serde::{Deserialize, Serialize};

/// Periods that a budget may be for, in days.
pub const PERIODS_DAYS: [u32; 2] = [7, 30];

/// Latency is counted from a sketch: a call within this share of the threshold
/// may be counted on the other side of it.
pub const THRESHOLD_RELATIVE_ERROR: f64 = super::rollup::QUANTILE_RELATIVE_ERROR;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SloKind {
    /// Share of good observations among good and bad ones.
    Availability,
    /// Share of served calls that were answered within the threshold.
    Latency,
}

impl SloKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Availability => "availability",
            Self::Latency => "latency",
        }
    }
}

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slo {
    pub key: String,
    pub kind: SloKind,
    /// Percent of good events, above 0 and below 100.
    pub target_percent: f64,
    /// Of a latency objective.
    pub threshold_ms: Option<f64>,
    /// One of [`PERIODS_DAYS`].
    pub period_days: u32,
}

/// The availability objective that a new partnership begins with.
pub fn default_availability(target_percent: f64) -> Option<Slo> {
    // A target of 100 % leaves no budget, and a burn of it is no number.
    (target_percent > 0.0 && target_percent < 100.0).then(|| Slo {
        key: "availability".to_owned(),
        kind: SloKind::Availability,
        target_percent,
        threshold_ms: None,
        period_days: 30,
    })
}

impl Slo {
    /// Share of events that may be bad, above 0 and below 1.
    pub fn budget(&self) -> f64 {
        1.0 - self.target_percent / 100.0
    }

    pub fn period_ms(&self) -> i64 {
        i64::from(self.period_days) * DAY_MS
    }

    /// The events of a stretch of time.
    pub fn tally(&self, rollup: &Rollup, degraded_counts_as_bad: bool) -> Tally {
        match (self.kind, self.threshold_ms) {
            (SloKind::Latency, Some(threshold_ms)) => {
                let (served, good) = (rollup.served(), rollup.served_within(threshold_ms));
                Tally { good, bad: served.saturating_sub(good) }
            }
            // The table allows no latency objective without a threshold.
            (SloKind::Latency, None) => Tally::default(),
            (SloKind::Availability, _) => {
                Tally::availability(&rollup.counts, degraded_counts_as_bad)
            }
        }
    }
}

/// Good and bad events of a stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub good: u64,
    pub bad: u64,
}

impl Tally {
    /// Good and bad observations; those that say nothing of the partner are
    /// neither.
    pub fn availability(counts: &Counts, degraded_counts_as_bad: bool) -> Self {
        Self {
            good: counts.in_class(Class::Good, degraded_counts_as_bad),
            bad: counts.in_class(Class::Bad, degraded_counts_as_bad),
        }
    }

    pub const fn total(self) -> u64 {
        self.good.saturating_add(self.bad)
    }

    pub const fn plus(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }

    /// Without what was counted in `part`, such as maintenance.
    pub const fn without(self, part: Self) -> Self {
        Self { good: self.good.saturating_sub(part.good), bad: self.bad.saturating_sub(part.bad) }
    }

    /// Error rate over the budget fraction; `None` without events.
    pub fn burn(self, budget: f64) -> Option<f64> {
        (self.total() > 0).then(|| self.bad as f64 / self.total() as f64 / budget)
    }

    /// Percent of good events; `None` without events.
    pub fn good_percent(self) -> Option<f64> {
        (self.total() > 0).then(|| 100.0 * self.good as f64 / self.total() as f64)
    }
}

/// The windows that burn is measured over, shortest first.
pub const WINDOWS: [(&str, i64); 7] = [
    ("5m", 5 * MINUTE_MS),
    ("30m", 30 * MINUTE_MS),
    ("1h", HOUR_MS),
    ("2h", 2 * HOUR_MS),
    ("6h", 6 * HOUR_MS),
    ("1d", DAY_MS),
    ("3d", 3 * DAY_MS),
];

/// A tally for each of [`WINDOWS`], all ending now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows(pub [Tally; 7]);

impl Windows {
    pub fn tally(&self, window_ms: i64) -> Tally {
        let found = WINDOWS.iter().zip(&self.0).find(|((_, width), _)| *width == window_ms);
        found.map(|(_, tally)| *tally).unwrap_or_default()
    }
}

/// A pair of windows with the share of the budget that may burn in the long
/// one before somebody is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tier {
    pub name: &'static str,
    pub long_ms: i64,
    pub short_ms: i64,
    /// Percent of a 30-day budget burnt within the long window.
    pub budget_percent: f64,
    /// Wakes somebody; else it is a ticket.
    pub pages: bool,
}

/// Fastest first: a faster one inhibits the slower ones.
#[rustfmt::skip]
pub const TIERS: [Tier; 4] = [
    Tier { name: "fast", long_ms: HOUR_MS, short_ms: 5 * MINUTE_MS, budget_percent: 2.0, pages: true },
    Tier { name: "medium", long_ms: 6 * HOUR_MS, short_ms: 30 * MINUTE_MS, budget_percent: 5.0, pages: true },
    Tier { name: "slow", long_ms: DAY_MS, short_ms: 2 * HOUR_MS, budget_percent: 10.0, pages: false },
    Tier { name: "long", long_ms: 3 * DAY_MS, short_ms: 6 * HOUR_MS, budget_percent: 10.0, pages: false },
];

impl Tier {
    /// Burn at which the tier fires: (x / 100) · P / L, and at least 1, for
    /// what burns slower than that never uses up its budget. (Over 7 days the
    /// formula alone gives 0.7 and 0.23 for the two slow tiers.)
    pub fn factor(&self, period_ms: i64) -> f64 {
        (self.budget_percent / 100.0 * period_ms as f64 / self.long_ms as f64).max(1.0)
    }

    /// Whether the tier is on, given whether it was: on when both windows
    /// reach the factor and there are bad events enough, off when the short
    /// one drops below it. A short window without events says nothing, and
    /// nothing changes.
    pub fn is_on(&self, was_on: bool, slo: &Slo, windows: &Windows, min_bad: u32) -> bool {
        let factor = self.factor(slo.period_ms());
        let budget = slo.budget();
        let long = windows.tally(self.long_ms);
        // Rounded, as 14.4 times a budget of 0.001 is no binary number.
        let reaches = |burn: f64| round(burn) >= round(factor);
        match windows.tally(self.short_ms).burn(budget) {
            None => was_on,
            Some(short) if was_on => reaches(short),
            Some(short) => {
                reaches(short)
                    && long.bad >= u64::from(min_bad)
                    && long.burn(budget).is_some_and(reaches)
            }
        }
    }
}

/// An objective as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SloStatus {
    pub key: String,
    pub kind: SloKind,
    /// Agreed percent of good events.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub target_percent: f64,
    /// Of a latency objective, exact to 1 %.
    pub threshold_ms: Option<f64>,
    pub period_days: u32,
    /// Events of the period so far, maintenance left out.
    pub good: u64,
    pub bad: u64,
    /// Percent of good events of the period, maintenance left out; null
    /// without events.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub actual_percent: Option<f64>,
    /// The same with maintenance.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub raw_percent: Option<f64>,
    /// Bad events that fell into maintenance, and count in `raw_percent` only.
    pub bad_in_maintenance: u64,
    /// Share of events that may be bad, 0 to 1.
    pub budget: f64,
    /// 1 - bad / (budget · (good + bad)): 1 is untouched, below 0 overspent;
    /// null without events.
    pub budget_remaining: Option<f64>,
    /// Burn by window; null for a window without events.
    pub burn: Burn,
    /// How long the rest of the budget lasts at the burn of the last hour, in
    /// seconds; 0: used up; null: nothing burns, or there are no events.
    pub exhausted_in_s: Option<i64>,
    /// The tier that is on: `fast`, `medium`, `slow` or `long`.
    pub burning: Option<String>,
}

macro_rules! burn {
    ($($field:ident = $name:literal),*) => {
        /// Burn over the windows that end now; 1 is a budget that lasts
        /// exactly for its period.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub struct Burn {$(
            #[serde(rename = $name)]
            pub $field: Option<f64>,
        )*}

        impl Burn {
            /// By name of the window, those with events.
            pub fn known(&self) -> impl Iterator<Item = (&'static str, f64)> {
                [$(($name, self.$field)),*]
                    .into_iter()
                    .filter_map(|(name, burn)| Some((name, burn?)))
            }

            fn of(windows: &Windows, budget: f64) -> Self {
                let burn = |name: &str| {
                    let window = WINDOWS.iter().find(|(known, _)| *known == name);
                    window.and_then(|(_, ms)| windows.tally(*ms).burn(budget)).map(round)
                };
                Self { $($field: burn($name)),* }
            }
        }
    };
}

burn! { m5 = "5m", m30 = "30m", h1 = "1h", h2 = "2h", h6 = "6h", d1 = "1d", d3 = "3d" }

/// Events of a period, with and without maintenance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    pub raw: Tally,
    pub in_maintenance: Tally,
}

pub fn status(slo: &Slo, period: Period, windows: &Windows, burning: Option<&str>) -> SloStatus {
    let budget = slo.budget();
    let counted = period.raw.without(period.in_maintenance);
    let spent = counted.burn(budget);
    let remaining = spent.map(|spent| 1.0 - spent);
    let hourly = windows.tally(HOUR_MS).burn(budget).filter(|burn| *burn > 0.0);
    let exhausted_in_s = match (remaining, hourly) {
        (Some(left), _) if left <= 0.0 => Some(0),
        (Some(left), Some(burn)) => Some((left * slo.period_ms() as f64 / burn / 1_000.0) as i64),
        _ => None,
    };
    SloStatus {
        key: slo.key.clone(),
        kind: slo.kind,
        target_percent: slo.target_percent,
        threshold_ms: slo.threshold_ms,
        period_days: slo.period_days,
        good: counted.good,
        bad: counted.bad,
        actual_percent: counted.good_percent().map(round),
        raw_percent: period.raw.good_percent().map(round),
        bad_in_maintenance: period.in_maintenance.bad,
        // 1 - 0.999 is 0.0010000000000000009.
        budget: (budget * 1e9).round() / 1e9,
        budget_remaining: remaining.map(round),
        burn: Burn::of(windows, budget),
        exhausted_in_s,
        burning: burning.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slo(target_percent: f64, period_days: u32) -> Slo {
        Slo { period_days, ..default_availability(target_percent).unwrap() }
    }

    fn windows(tallies: &[(i64, u64, u64)]) -> Windows {
        let mut windows = Windows::default();
        for (ms, good, bad) in tallies {
            let at = WINDOWS.iter().position(|(_, width)| width == ms).unwrap();
            windows.0[at] = Tally { good: *good, bad: *bad };
        }
        windows
    }

    #[test]
    fn factors_of_the_workbook() {
        let factors = |days: i64| TIERS.map(|tier| round(tier.factor(days * DAY_MS)));
        assert_eq!(factors(30), [14.4, 6.0, 3.0, 1.0]);
        assert_eq!(factors(7), [3.36, 1.4, 1.0, 1.0]);
    }

    #[test]
    fn one_lost_probe_is_no_page_and_three_are() {
        let [fast, ..] = TIERS;
        let slo = slo(99.9, 30);
        let lost = |bad: u64| {
            windows(&[(5 * MINUTE_MS, 5 - bad.min(5), bad.min(5)), (HOUR_MS, 60 - bad, bad)])
        };
        // The figure alone would page: 1/60/0.001 = 16.7.
        assert!(lost(1).tally(HOUR_MS).burn(slo.budget()).unwrap() > 14.4);
        assert!(!fast.is_on(false, &slo, &lost(1), 3));
        assert!(!fast.is_on(false, &slo, &lost(2), 3));
        assert!(fast.is_on(false, &slo, &lost(3), 3));
        assert!(fast.is_on(false, &slo, &lost(1), 1));
    }

    #[test]
    fn the_short_window_resolves_and_no_data_freezes() {
        let [fast, ..] = TIERS;
        let slo = slo(99.9, 30);
        let over = windows(&[(5 * MINUTE_MS, 5, 0), (HOUR_MS, 40, 20)]);
        assert!(!fast.is_on(true, &slo, &over, 3));
        let silent = windows(&[(HOUR_MS, 40, 20)]);
        assert!(fast.is_on(true, &slo, &silent, 3));
        assert!(!fast.is_on(false, &slo, &silent, 3));
    }

    #[test]
    fn exactly_at_the_factor_counts() {
        let [fast, ..] = TIERS;
        // 144 bad of 10,000 at 99.9 %: 14.4 exactly, which floats miss.
        let at = windows(&[(5 * MINUTE_MS, 9_856, 144), (HOUR_MS, 9_856, 144)]);
        assert!(fast.is_on(false, &slo(99.9, 30), &at, 3));
    }

    #[test]
    fn the_status_of_a_half_spent_budget() {
        let period = Period {
            raw: Tally { good: 19_980, bad: 20 },
            in_maintenance: Tally { good: 0, bad: 10 },
        };
        let status = status(&slo(99.9, 30), period, &windows(&[(HOUR_MS, 59, 1)]), None);
        assert_eq!((status.good, status.bad), (19_980, 10));
        assert_eq!(status.raw_percent, Some(99.9));
        assert_eq!(status.actual_percent, Some(99.95));
        assert_eq!(status.budget_remaining, Some(0.4997));
        assert_eq!(status.burn.h1, Some(16.6667));
        assert_eq!(status.burn.m5, None);
        // Half of 30 days at 16.7 times the pace: about 21.6 hours.
        assert_eq!(status.exhausted_in_s.unwrap() / 3_600, 21);
    }

    #[test]
    fn without_events_nothing_is_known() {
        let status = status(&slo(99.9, 7), Period::default(), &Windows::default(), None);
        assert_eq!(status.actual_percent, None);
        assert_eq!(status.budget_remaining, None);
        assert_eq!(status.exhausted_in_s, None);
        assert_eq!(status.burn.known().count(), 0);
    }

    #[test]
    fn a_target_without_a_budget_has_no_objective() {
        assert_eq!(default_availability(100.0), None);
        assert_eq!(default_availability(0.0), None);
    }

    proptest! {
        /// More bad events never make a tier less on.
        #[test]
        fn a_tier_is_monotone_in_bad_events(
            total in 1_u64..5_000, bad in 0_u64..5_000, more in 0_u64..100, target in 50.0..99.99_f64,
        ) {
            let bad = bad.min(total);
            let worse = (bad + more).min(total);
            let slo = slo(target, 30);
            for tier in TIERS {
                let of = |bad| windows(&[(tier.short_ms, total - bad, bad), (tier.long_ms, total - bad, bad)]);
                if tier.is_on(false, &slo, &of(bad), 3) {
                    prop_assert!(tier.is_on(false, &slo, &of(worse), 3));
                }
            }
        }

        /// Spending the whole budget leaves nothing; remaining = 1 - burn of
        /// the period.
        #[test]
        fn remaining_is_one_minus_burn(good in 0_u64..100_000, bad in 0_u64..1_000) {
            prop_assume!(good + bad > 0);
            let slo = slo(99.0, 30);
            let period = Period { raw: Tally { good, bad }, in_maintenance: Tally::default() };
            let status = status(&slo, period, &Windows::default(), None);
            let burn = Tally { good, bad }.burn(slo.budget()).unwrap();
            prop_assert!((status.budget_remaining.unwrap() - (1.0 - burn)).abs() < 1e-3);
        }
    }
}

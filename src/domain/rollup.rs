//! Rollups: counts per verdict and a mergeable quantile sketch of latency, by
//! minute, hour and day.
//!
//! Percentiles are never averaged: sketches are merged, then asked.

use super::statistics::{Interval, quantile_ranks};
use super::time::{DAY_MS, HOUR_MS, MINUTE_MS, Timestamp};
use super::verdict::{Class, Verdict};
use serde::{Deserialize, Serialize};
use sketches_ddsketch::{Config, DDSketch};

/// Relative error of a quantile read from a sketch (DDSketch's alpha).
pub const QUANTILE_RELATIVE_ERROR: f64 = 0.01;

/// The window of everything that is made from observations.
pub const WINDOW_MS: i64 = DAY_MS;

/// Width of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grain {
    Minute,
    Hour,
    Day,
}

impl Grain {
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    pub const fn width_ms(self) -> i64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }

    /// How long buckets of this width are kept; `None`: for ever.
    pub const fn retention_ms(self) -> Option<i64> {
        match self {
            Self::Minute => Some(14 * DAY_MS),
            Self::Hour => Some(400 * DAY_MS),
            Self::Day => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// How often each verdict was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Counts {
    pub up: u64,
    pub degraded: u64,
    pub down: u64,
    pub throttled: u64,
    pub quota_exhausted: u64,
    pub credential: u64,
    pub unreachable_from_us: u64,
    pub probe_invalid: u64,
    pub unknown: u64,
}

impl Counts {
    pub const fn of(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Up => self.up,
            Verdict::Degraded => self.degraded,
            Verdict::Down => self.down,
            Verdict::Throttled => self.throttled,
            Verdict::QuotaExhausted => self.quota_exhausted,
            Verdict::Credential => self.credential,
            Verdict::UnreachableFromUs => self.unreachable_from_us,
            Verdict::ProbeInvalid => self.probe_invalid,
            Verdict::Unknown => self.unknown,
        }
    }

    pub const fn add(&mut self, verdict: Verdict, count: u64) {
        let slot = match verdict {
            Verdict::Up => &mut self.up,
            Verdict::Degraded => &mut self.degraded,
            Verdict::Down => &mut self.down,
            Verdict::Throttled => &mut self.throttled,
            Verdict::QuotaExhausted => &mut self.quota_exhausted,
            Verdict::Credential => &mut self.credential,
            Verdict::UnreachableFromUs => &mut self.unreachable_from_us,
            Verdict::ProbeInvalid => &mut self.probe_invalid,
            Verdict::Unknown => &mut self.unknown,
        };
        *slot = slot.saturating_add(count);
    }

    pub fn merge(&mut self, other: &Self) {
        for verdict in Verdict::ALL {
            self.add(verdict, other.of(verdict));
        }
    }

    fn sum(&self, wanted: impl Fn(Verdict) -> bool) -> u64 {
        Verdict::ALL.into_iter().filter(|v| wanted(*v)).map(|v| self.of(v)).sum()
    }

    pub fn total(&self) -> u64 {
        self.sum(|_| true)
    }

    pub fn in_class(&self, class: Class, degraded_counts_as_bad: bool) -> u64 {
        self.sum(|verdict| verdict.class(degraded_counts_as_bad) == class)
    }

    /// Calls whose outcome is about the call; see [`Verdict::is_attempt`].
    pub fn attempts(&self) -> u64 {
        self.sum(Verdict::is_attempt)
    }
}

/// What is known of one stretch of time.
#[derive(Clone)]
pub struct Rollup {
    pub counts: Counts,
    /// Latency of served calls, in milliseconds.
    latency: DDSketch,
}

impl Default for Rollup {
    fn default() -> Self {
        // The library's defaults (alpha 0.01, 2,048 bins) are what its binary
        // form can carry.
        Self { counts: Counts::default(), latency: DDSketch::new(Config::defaults()) }
    }
}

impl Rollup {
    pub fn add(&mut self, verdict: Verdict, latency_ms: Option<f64>) {
        self.counts.add(verdict, 1);
        if let Some(latency_ms) = latency_ms.filter(|_| verdict.is_served()) {
            self.latency.add(latency_ms);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        // Fails only between different configurations; there is one.
        let _ = self.latency.merge(&other.latency);
    }

    /// The sketch as stored (DDSketch's own binary form); empty: no latency.
    pub fn sketch_bytes(&self) -> Vec<u8> {
        if self.latency.count() == 0 { Vec::new() } else { self.latency.to_java_bytes() }
    }

    /// Reads back what [`Rollup::sketch_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes that are no sketch: the stored row is damaged.
    pub fn from_stored(counts: Counts, sketch: &[u8]) -> Result<Self, String> {
        if sketch.is_empty() {
            return Ok(Self { counts, ..Self::default() });
        }
        let latency = DDSketch::from_java_bytes(sketch).map_err(|error| error.to_string())?;
        Ok(Self { counts, latency })
    }

    pub fn latency(&self) -> Option<Latency> {
        let n = u64::try_from(self.latency.count()).ok().filter(|n| *n > 0)?;
        let at = |q: f64| Some(Quantile { value_ms: self.quantile(q)?, ci95_ms: self.ci(n, q) });
        Some(Latency { n, p50: at(0.50)?, p95: at(0.95)?, p99: at(0.99)? })
    }

    /// Served calls with a latency.
    pub fn served(&self) -> u64 {
        u64::try_from(self.latency.count()).unwrap_or(u64::MAX)
    }

    /// Served calls that took at most this long. The sketch knows latencies to
    /// 1 %, so one so near to the threshold may be counted on either side.
    pub fn served_within(&self, threshold_ms: f64) -> u64 {
        let n = self.served();
        // The sketch takes the rank below q · (n - 1); half a rank more keeps a
        // rounding error from taking the one before. Values rise with the
        // rank, so the first one beyond the threshold is found by halving.
        let value = |rank: u64| match n {
            0 | 1 => self.quantile(0.0),
            _ => self.quantile(((rank as f64 + 0.5) / (n - 1) as f64).min(1.0)),
        };
        let (mut low, mut high) = (0, n);
        while low < high {
            let middle = low + (high - low) / 2;
            if value(middle).is_some_and(|value| value <= threshold_ms) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn quantile(&self, q: f64) -> Option<f64> {
        let (low, high) = (self.latency.min()?, self.latency.max()?);
        // A bin's centre may lie outside of what was seen.
        self.latency.quantile(q).ok().flatten().map(|value| value.clamp(low, high))
    }

    fn ci(&self, n: u64, q: f64) -> Option<Interval> {
        let (low, high) = quantile_ranks(n, q)?;
        Some(Interval { low: self.quantile(low)?, high: self.quantile(high)? })
    }
}

/// Latency of served calls over a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub n: u64,
    pub p50: Quantile,
    pub p95: Quantile,
    pub p99: Quantile,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantile {
    pub value_ms: f64,
    /// Distribution-free, from the ranks; without the sketch's own 1 %. `None`
    /// where the samples are too few for one.
    pub ci95_ms: Option<Interval>,
}

/// The buckets that make up the window from `from` (rounded down to a minute)
/// to now: minutes up to the first full hour, then hours. At most 59 minutes
/// and as many hours as the window has, instead of one bucket a minute.
///
/// Gives half-open ranges of bucket starts.
pub fn window_plan(from: Timestamp, now: Timestamp) -> [(Grain, Timestamp, Timestamp); 2] {
    let start = from.floor_to(MINUTE_MS);
    let full_hours = start.plus_ms(HOUR_MS - 1).floor_to(HOUR_MS);
    let end = now.floor_to(HOUR_MS).plus_ms(2 * HOUR_MS);
    [(Grain::Minute, start, full_hours), (Grain::Hour, full_hours, end)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rollup(latencies: &[f64]) -> Rollup {
        let mut rollup = Rollup::default();
        latencies.iter().for_each(|ms| rollup.add(Verdict::Up, Some(*ms)));
        rollup
    }

    #[test]
    fn quantiles_of_known_values() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        let latency = rollup(&values).latency().unwrap();
        assert_eq!(latency.n, 1000);
        for (quantile, exact) in
            [(&latency.p50, 500.0), (&latency.p95, 950.0), (&latency.p99, 990.0)]
        {
            assert!((quantile.value_ms - exact).abs() <= exact * 0.011, "{quantile:?}");
            let interval = quantile.ci95_ms.unwrap();
            assert!(interval.low <= quantile.value_ms && quantile.value_ms <= interval.high);
        }
        assert_eq!(Rollup::default().latency(), None);
    }

    #[test]
    fn one_sample_has_a_value_and_no_interval() {
        let latency = rollup(&[69.0]).latency().unwrap();
        assert_eq!((latency.n, latency.p50.value_ms, latency.p50.ci95_ms), (1, 69.0, None));
    }

    #[test]
    fn failed_calls_have_no_service_latency() {
        let mut rollup = Rollup::default();
        rollup.add(Verdict::Down, Some(10_000.0));
        assert_eq!(rollup.latency(), None);
        assert_eq!(rollup.counts.down, 1);
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        assert!(Rollup::from_stored(Counts::default(), &[0xff, 0x00, 0x13]).is_err());
    }

    proptest! {
        /// Merging in any split gives what one sketch of all would give.
        #[test]
        fn merging_loses_nothing(
            left in prop::collection::vec(0.0..60_000.0_f64, 0..60),
            right in prop::collection::vec(0.0..60_000.0_f64, 0..60),
        ) {
            let mut merged = rollup(&left);
            let bytes = rollup(&right).sketch_bytes();
            let counts = Counts { up: right.len() as u64, ..Counts::default() };
            merged.merge(&Rollup::from_stored(counts, &bytes).unwrap());
            let all: Vec<f64> = left.iter().chain(&right).copied().collect();
            prop_assert_eq!(merged.counts, rollup(&all).counts);
            prop_assert_eq!(merged.latency(), rollup(&all).latency());
        }

        /// What is counted within a threshold is right but for what lies
        /// within 2 % of it.
        #[test]
        fn calls_within_a_threshold_are_counted(
            values in prop::collection::vec(1.0..5_000.0_f64, 0..300), threshold in 1.0..5_000.0_f64,
        ) {
            let within = rollup(&values).served_within(threshold);
            let exact = |limit: f64| values.iter().filter(|value| **value <= limit).count() as u64;
            prop_assert!(exact(threshold / 1.02) <= within, "{within}");
            prop_assert!(within <= exact(threshold * 1.02), "{within}");
        }

        /// Each minute of the window is in exactly one planned bucket.
        #[test]
        fn the_plan_covers_each_minute_once(now_minutes in 30_000_000_i64..31_000_000, ms in 0..MINUTE_MS) {
            let now = Timestamp::from_millis(now_minutes * MINUTE_MS + ms);
            let from = now.plus_ms(-DAY_MS);
            let plan = window_plan(from, now);
            for minute in 0..=(24 * 60) {
                let at = from.plus_ms(minute * MINUTE_MS);
                let hits = plan.iter().filter(|(grain, start, end)| {
                    let bucket = at.floor_to(grain.width_ms());
                    bucket >= *start && bucket < *end
                }).count();
                prop_assert_eq!(hits, 1, "{}", at);
            }
            let before = from.floor_to(MINUTE_MS).plus_ms(-1);
            let outside = plan.iter().all(|(grain, start, _)| before.floor_to(grain.width_ms()) < *start);
            prop_assert!(outside);
        }
    }
}

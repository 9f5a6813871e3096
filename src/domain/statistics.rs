//! Confidence intervals: every rate that is served says how sure it is.
//!
//! All of them are at 95 %, two-sided. Counts above 2^53 lose their last
//! digits as floats, which no interval can show.

use serde::{Deserialize, Serialize};

/// The standard normal quantile of a two-sided 95 % interval.
pub const Z95: f64 = 1.96;

/// A closed interval, `low <= high`; on the wire the array `[low, high]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(from = "[f64; 2]", into = "[f64; 2]")]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl From<[f64; 2]> for Interval {
    fn from([low, high]: [f64; 2]) -> Self {
        Self { low, high }
    }
}

impl From<Interval> for [f64; 2] {
    fn from(interval: Interval) -> Self {
        [interval.low, interval.high]
    }
}

/// The Wilson score interval of a proportion, as fractions from 0 to 1.
///
/// Centre `(p + z²/2n)/(1 + z²/n)`, half-width
/// `z·√(p(1−p)/n + z²/4n²)/(1 + z²/n)` (Wilson 1927, JASA 22:209-212). Unlike
/// the normal approximation it stays inside [0, 1] and has a width when every
/// trial was good.
///
/// `None` where nothing was counted, or more good than there are.
pub fn wilson(good: u64, total: u64) -> Option<Interval> {
    if total == 0 || good > total {
        return None;
    }
    let n = total as f64;
    let p = good as f64 / n;
    let z2 = Z95 * Z95;
    let scale = 1.0 + z2 / n;
    let centre = (p + z2 / (2.0 * n)) / scale;
    let half_width = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt() / scale;
    // At p = 0 and p = 1 the bound equals p; rounding must not push it past.
    Some(Interval {
        low: (centre - half_width).clamp(0.0, p),
        high: (centre + half_width).clamp(p, 1.0),
    })
}

/// The interval of a rate of events, in events per unit of `exposure`.
///
/// The normal approximation of a Poisson count, `count ± 1.96·√count`, floored
/// at 0 and divided by the exposure. Having seen none does not mean a rate of
/// 0: the upper bound is then `3 / exposure`, the rule of three (Hanley and
/// Lippman-Hand 1983, JAMA 249:1743-1745).
///
/// `None` where the exposure is not a finite number above 0.
pub fn poisson_rate(count: u64, exposure: f64) -> Option<Interval> {
    if !(exposure.is_finite() && exposure > 0.0) {
        return None;
    }
    let (low, high) = if count == 0 {
        (0.0, 3.0)
    } else {
        let count = count as f64;
        let half_width = Z95 * count.sqrt();
        ((count - half_width).max(0.0), count + half_width)
    };
    Some(Interval { low: low / exposure, high: high / exposure })
}

/// The two quantile positions, from 0 to 1, between whose values the true
/// quantile `q` of the population lies, whatever its distribution.
///
/// The number of `n` samples below the true quantile is binomial, so its rank
/// lies within `n·q ± 1.96·√(n·q·(1−q))` (Conover, Practical Nonparametric
/// Statistics, section 3.2); divided by `n`. Reading the sketch at both
/// positions gives the interval of the quantile.
///
/// `None` where the samples are too few for such an interval: a rank would lie
/// before the first or behind the last of them, and what is out there nobody
/// has seen. A median needs 4 samples, a p95 needs 73, a p99 needs 381. Also
/// `None` where `q` is outside [0, 1].
pub fn quantile_ranks(n: u64, q: f64) -> Option<(f64, f64)> {
    if n == 0 || !(0.0..=1.0).contains(&q) {
        return None;
    }
    let half_width = Z95 * (q * (1.0 - q) / n as f64).sqrt();
    let (low, high) = (q - half_width, q + half_width);
    (low >= 0.0 && high <= 1.0).then_some((low, high))
}

/// Four decimals: finer than any of our intervals, and readable.
pub fn round(value: f64) -> f64 {
    // Adding 0 turns -0 into 0.
    (value * 10_000.0).round() / 10_000.0 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 5e-7, "{actual} is not {expected}");
    }

    #[test]
    fn wilson_vectors() {
        for (good, total, low, high) in [
            (60, 60, 0.939_826, 1.0),
            (0, 60, 0.0, 0.060_174),
            (0, 1, 0.0, 0.793_457),
            (5, 10, 0.236_590, 0.763_410),
            (81, 263, 0.255_288, 0.366_211),
        ] {
            let interval = wilson(good, total).unwrap();
            assert_close(interval.low, low);
            assert_close(interval.high, high);
        }
        assert_eq!(wilson(60, 60).unwrap().high, 1.0);
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(2, 1), None);
    }

    #[test]
    fn poisson_vectors() {
        let rate = poisson_rate(100, 10.0).unwrap();
        assert_close(rate.low, 8.04);
        assert_close(rate.high, 11.96);
        // √1 · 1.96 is more than 1, so the low end is floored.
        assert_eq!(poisson_rate(1, 1.0), Some(Interval { low: 0.0, high: 2.96 }));
        assert_eq!(poisson_rate(0, 60.0), Some(Interval { low: 0.0, high: 0.05 }));
        for exposure in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(poisson_rate(5, exposure), None, "{exposure}");
        }
    }

    #[test]
    fn quantile_rank_vectors() {
        let (low, high) = quantile_ranks(100, 0.5).unwrap();
        assert_close(low, 0.402);
        assert_close(high, 0.598);
        // The first number of samples that is enough, and the one before it.
        for (q, enough) in [(0.5, 4), (0.95, 73), (0.99, 381)] {
            assert!(quantile_ranks(enough, q).is_some(), "{q}");
            assert_eq!(quantile_ranks(enough - 1, q), None, "{q}");
        }
        for (n, q) in [(0, 0.5), (10, -0.1), (10, 1.1), (10, f64::NAN)] {
            assert_eq!(quantile_ranks(n, q), None, "{n} {q}");
        }
    }

    #[test]
    fn an_interval_is_an_array_on_the_wire() {
        let interval = Interval { low: 0.25, high: 0.75 };
        assert_eq!(serde_json::to_string(&interval).unwrap(), "[0.25,0.75]");
        assert_eq!(serde_json::from_str::<Interval>("[0.25,0.75]").unwrap(), interval);
        let schema = serde_json::to_value(schemars::schema_for!(Interval)).unwrap();
        assert_eq!(schema["type"], "array");
        assert_eq!(schema["maxItems"], 2);
    }

    proptest! {
        #[test]
        fn wilson_holds_the_share_within_zero_and_one(total in 1..u64::MAX, part in 0.0..=1.0) {
            let good = ((total as f64 * part) as u64).min(total);
            let p = good as f64 / total as f64;
            let interval = wilson(good, total).unwrap();
            prop_assert!(0.0 <= interval.low && interval.low <= p);
            prop_assert!(p <= interval.high && interval.high <= 1.0);
        }

        #[test]
        fn wilson_narrows_with_more_of_the_same(
            good in 0..1000_u64, bad in 0..1000_u64, k in 2..50_u64,
        ) {
            prop_assume!(good + bad > 0);
            let few = wilson(good, good + bad).unwrap();
            let many = wilson(k * good, k * (good + bad)).unwrap();
            prop_assert!(many.high - many.low < few.high - few.low);
        }

        #[test]
        fn a_poisson_rate_holds_the_observed_one(count in 0..u64::MAX, exposure in 1e-3..1e9) {
            let rate = poisson_rate(count, exposure).unwrap();
            let observed = count as f64 / exposure;
            prop_assert!(0.0 <= rate.low && rate.low <= observed && observed <= rate.high);
        }

        #[test]
        fn quantile_positions_surround_the_quantile(n in 1..u64::MAX, q in 0.0..=1.0) {
            if let Some((low, high)) = quantile_ranks(n, q) {
                prop_assert!(0.0 <= low && low <= q && q <= high && high <= 1.0);
            }
        }
    }
}

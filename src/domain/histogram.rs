//! Durations counted in fixed buckets: unlike quantiles, such counts may be
//! added up across partnerships, and a scraper may take rates of them.

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets in seconds; one more is without a bound.
pub const BOUNDS_S: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

/// Counts that only grow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Histogram {
    /// By bucket: those above the bound before and not above its own; the last
    /// one counts what is above all bounds.
    pub counts: [u64; BOUNDS_S.len() + 1],
    /// In milliseconds.
    pub sum_ms: f64,
}

impl Histogram {
    pub fn add(&mut self, duration_ms: f64) {
        let bucket = BOUNDS_S.iter().position(|bound| duration_ms <= bound * 1_000.0);
        if let Some(count) = self.counts.get_mut(bucket.unwrap_or(BOUNDS_S.len())) {
            *count = count.saturating_add(1);
        }
        self.sum_ms += duration_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let mut histogram = Histogram::default();
        for duration_ms in [0.0, 50.0, 50.1, 100.0, 20_000.0, 20_000.1] {
            histogram.add(duration_ms);
        }
        assert_eq!(histogram.counts, [2, 2, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert!((histogram.sum_ms - 40_200.2).abs() < 1e-9);
    }

    proptest! {
        /// What a scraper reads: as many at most at a bound as there are.
        #[test]
        fn each_bound_has_as_many_below_as_were_added(
            durations in proptest::collection::vec(0.0..60_000.0_f64, 0..50),
        ) {
            let mut histogram = Histogram::default();
            durations.iter().for_each(|duration| histogram.add(*duration));
            for (index, bound) in BOUNDS_S.iter().enumerate() {
                let below: u64 = histogram.counts.iter().take(index + 1).sum();
                let expected = durations.iter().filter(|d| **d <= bound * 1_000.0).count();
                prop_assert_eq!(below, expected as u64);
            }
            prop_assert_eq!(histogram.counts.iter().sum::<u64>(), durations.len() as u64);
        }
    }
}

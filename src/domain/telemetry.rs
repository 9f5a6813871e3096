//! How this service does: requests counted as they are answered, and how long
//! they took.
//!
//! An isolate gathers a [`Batch`] and hands it over; batches only add up, so
//! it does not matter in which order they come or how they were cut.

use super::rate_limit::LimitClass;
use super::time::{MINUTE_MS, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Upper ends of the buckets of a duration in milliseconds, each included;
/// the last bucket, without an end, is not among them.
pub const BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// Statuses as they are counted, by the index in [`Statuses`].
pub const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The classes that routes belong to. (A login counts against its account as
/// well, which is a limit and no class of requests.)
pub const CLASSES: [LimitClass; 6] = [
    LimitClass::Default,
    LimitClass::Metrics,
    LimitClass::Decisions,
    LimitClass::Ingest,
    LimitClass::Documents,
    LimitClass::Login,
];

/// Minutes that a batch tells apart. One that could not be handed over for
/// longer keeps its totals and lets go of the oldest minutes.
pub const MAX_MINUTES: usize = 60;

/// The name of requests that no route was found for.
pub const NO_ROUTE: &str = "none";

/// Durations of requests, by bucket.
///
/// A duration is the time between two readings of the platform's clock, which
/// on Cloudflare stands still while a request computes: it is the time spent
/// waiting for storage, objects and the network. A route that waits for
/// nothing takes 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Requests per bucket (not cumulative); the last is beyond every bound.
    pub buckets: [u64; BUCKETS],
    pub sum_ms: u64,
}

impl Histogram {
    pub fn record(&mut self, duration_ms: u64) {
        let index = BOUNDS_MS.partition_point(|bound| *bound < duration_ms);
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket += 1;
        }
        self.sum_ms = self.sum_ms.saturating_add(duration_ms);
    }

    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.saturating_add(more);
        }
        self.sum_ms = self.sum_ms.saturating_add(other.sum_ms);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn sum_s(&self) -> f64 {
        self.sum_ms as f64 / 1_000.0
    }

    /// Each bound in seconds with the number of durations up to it, as
    /// Prometheus writes them; the last, `+Inf`, is [`Histogram::count`].
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut seen = 0;
        BOUNDS_MS.iter().zip(self.buckets).map(move |(bound, bucket)| {
            seen += bucket;
            (*bound as f64 / 1_000.0, seen)
        })
    }

    /// The quantile `q`, from 0 to 1, in seconds, estimated as Prometheus
    /// does: linear within its bucket, and the last bound for what lies beyond
    /// it. `None` without a request.
    pub fn quantile_s(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * count as f64;
        let (mut low, mut before) = (0.0, 0_u64);
        for (high, upto) in self.cumulative() {
            if upto > before && upto as f64 >= rank {
                let share = (rank - before as f64) / (upto - before) as f64;
                return Some(low + (high - low) * share);
            }
            (low, before) = (high, upto);
        }
        Some(low)
    }
}

/// What happened in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub requests: u64,
    /// Answered with 4xx.
    pub refused: u64,
    /// Answered with 5xx.
    pub errors: u64,
    pub durations: Histogram,
}

impl Window {
    fn record(&mut self, status: u16, duration_ms: u64) {
        self.requests += 1;
        match status {
            500.. => self.errors += 1,
            400.. => self.refused += 1,
            _ => {}
        }
        self.durations.record(duration_ms);
    }

    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.refused = self.refused.saturating_add(other.refused);
        self.errors = self.errors.saturating_add(other.errors);
        self.durations.merge(&other.durations);
    }
}

/// A route's id, or [`NO_ROUTE`], and the method as it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    pub route: Cow<'static, str>,
    pub method: Cow<'static, str>,
}

/// Replies by [`STATUS_CLASSES`].
pub type Statuses = [u64; STATUS_CLASSES.len()];

/// Requests that were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    #[serde(with = "pairs")]
    pub requests: BTreeMap<Endpoint, Statuses>,
    pub durations: BTreeMap<LimitClass, Histogram>,
    /// By the minute in which they came, its start.
    pub minutes: BTreeMap<Timestamp, BTreeMap<LimitClass, Window>>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Counts a request that came at `at` and was answered with `status`.
    pub fn record(
        &mut self,
        endpoint: Endpoint,
        class: LimitClass,
        status: u16,
        at: Timestamp,
        duration_ms: u64,
    ) {
        let index = usize::from(status / 100).saturating_sub(2);
        let statuses = self.requests.entry(endpoint).or_default();
        if let Some(count) = statuses.get_mut(index) {
            *count += 1;
        }
        self.durations.entry(class).or_default().record(duration_ms);
        let minute = self.minutes.entry(at.floor_to(MINUTE_MS)).or_default();
        minute.entry(class).or_default().record(status, duration_ms);
        self.bound();
    }

    fn bound(&mut self) {
        while self.minutes.len() > MAX_MINUTES {
            self.minutes.pop_first();
        }
    }
}

/// What has been counted of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The first minute that was counted; `None`: there was none yet.
    pub since: Option<Timestamp>,
    /// All requests ever, by route.
    #[serde(with = "pairs")]
    pub requests: BTreeMap<Endpoint, Statuses>,
    /// The durations of all of them.
    pub durations: BTreeMap<LimitClass, Histogram>,
    /// The minute of this reading and the 59 before it. A class without a
    /// request is missing.
    pub last_hour: BTreeMap<LimitClass, Window>,
}

/// A map whose keys are no strings, as a list of pairs.
mod pairs {
    use super::{BTreeMap, Endpoint, Statuses};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        map: &BTreeMap<Endpoint, Statuses>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Endpoint, Statuses>, D::Error> {
        Ok(Vec::<(Endpoint, Statuses)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(route: &'static str) -> Endpoint {
        Endpoint { route: route.into(), method: "GET".into() }
    }

    #[test]
    fn a_quantile_is_linear_within_its_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_s(0.5), None, "nothing was measured");
        (0..10).for_each(|_| histogram.record(7));
        assert_eq!(histogram.quantile_s(0.5), Some(0.0075));
        assert_eq!(histogram.quantile_s(1.0), Some(0.01));
        (0..10).for_each(|_| histogram.record(60_000));
        assert_eq!(
            histogram.quantile_s(0.95),
            Some(10.0),
            "the last bound stands for what is beyond"
        );
        assert_eq!(histogram.count(), 20);
        assert_eq!(histogram.sum_s(), 600.07);
        assert_eq!(histogram.quantile_s(1.5), None);
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::default();
        [0, 5, 6, 10_000, 10_001].into_iter().for_each(|ms| histogram.record(ms));
        let cumulative: Vec<(f64, u64)> = histogram.cumulative().collect();
        assert_eq!(cumulative[0], (0.005, 2));
        assert_eq!(cumulative[1], (0.01, 3));
        assert_eq!(cumulative[10], (10.0, 4));
        assert_eq!(histogram.count(), 5);
    }

    #[test]
    fn statuses_are_told_apart() {
        let mut batch = Batch::default();
        let at = Timestamp::from_millis(90_000);
        for status in [200, 204, 304, 404, 429, 500, 503] {
            batch.record(endpoint("health"), LimitClass::Default, status, at, 0);
        }
        assert_eq!(batch.requests[&endpoint("health")], [2, 1, 2, 2]);
        let minute = &batch.minutes[&Timestamp::from_millis(60_000)][&LimitClass::Default];
        assert_eq!((minute.requests, minute.refused, minute.errors), (7, 2, 2));
    }

    #[test]
    fn a_batch_that_waits_stays_small_and_loses_no_total() {
        let mut batch = Batch::default();
        for minute in 0..1_000 {
            let at = Timestamp::from_millis(minute * MINUTE_MS);
            batch.record(endpoint("health"), LimitClass::Default, 200, at, 3);
        }
        assert_eq!(batch.minutes.len(), MAX_MINUTES);
        assert_eq!(batch.requests[&endpoint("health")], [1_000, 0, 0, 0]);
        assert_eq!(batch.durations[&LimitClass::Default].count(), 1_000);
    }

    impl Batch {
        /// As the object of a tenant adds them up, in one value.
        fn merge(&mut self, other: Self) {
            for (endpoint, statuses) in other.requests {
                let known = self.requests.entry(endpoint).or_default();
                for (count, more) in known.iter_mut().zip(statuses) {
                    *count = count.saturating_add(more);
                }
            }
            for (class, histogram) in other.durations {
                self.durations.entry(class).or_default().merge(&histogram);
            }
            for (minute, classes) in other.minutes {
                let known = self.minutes.entry(minute).or_default();
                for (class, window) in classes {
                    known.entry(class).or_default().merge(&window);
                }
            }
            self.bound();
        }
    }

    fn any_batch() -> impl Strategy<Value = Batch> {
        let routes = prop::sample::select(vec!["health", "status", NO_ROUTE]);
        let classes = prop::sample::select(vec![LimitClass::Default, LimitClass::Ingest]);
        let request = (routes, classes, 200..600_u16, 0..30 * MINUTE_MS, 0..20_000_u64);
        prop::collection::vec(request, 0..20).prop_map(|requests| {
            let mut batch = Batch::default();
            for (route, class, status, at, ms) in requests {
                batch.record(endpoint(route), class, status, Timestamp::from_millis(at), ms);
            }
            batch
        })
    }

    proptest! {
        #[test]
        fn batches_add_up_in_any_order(batches in prop::collection::vec(any_batch(), 0..6), turn in 0..6_usize) {
            let merged = |batches: &[Batch]| {
                let mut all = Batch::default();
                batches.iter().for_each(|batch| all.merge(batch.clone()));
                all
            };
            let mut turned = batches.clone();
            turned.rotate_left(turn.min(batches.len()));
            turned.reverse();
            prop_assert_eq!(merged(&turned), merged(&batches));
        }

        #[test]
        fn a_batch_survives_the_wire(batch in any_batch()) {
            let text = serde_json::to_string(&batch).unwrap();
            prop_assert_eq!(serde_json::from_str::<Batch>(&text).unwrap(), batch);
        }

        #[test]
        fn quantiles_grow(durations in prop::collection::vec(0..20_000_u64, 1..50), a in 0.0..=1.0, b in 0.0..=1.0) {
            let mut histogram = Histogram::default();
            durations.iter().for_each(|ms| histogram.record(*ms));
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(histogram.quantile_s(low).unwrap() <= histogram.quantile_s(high).unwrap());
        }
    }
}

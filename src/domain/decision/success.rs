//! What shows that a decision was right: a fact, a limit and a day.

use crate::domain::time::{DAY_MS, Timestamp};
use serde::{Deserialize, Serialize};

/// On which side of the target it is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Comparator {
    AtLeast,
    AtMost,
}

/// A limit that a fact must have reached by a day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SuccessCriterion {
    /// What is observed, such as `context.expected_revenue`.
    pub fact: String,
    pub comparator: Comparator,
    /// In the unit of the fact.
    pub target: f64,
    /// `YYYY-MM-DD`, in UTC. Null where no day follows from what was given.
    #[cfg_attr(
        not(target_arch = "wasm32"),
        schemars(regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))
    )]
    pub by: Option<String>,
}

impl SuccessCriterion {
    /// Equal to the target is enough; what is no number never is.
    pub fn is_met(&self, observed: f64) -> bool {
        match self.comparator {
            Comparator::AtLeast => observed >= self.target,
            Comparator::AtMost => observed <= self.target,
        }
    }
}

/// The day, `YYYY-MM-DD` in UTC, so many days after `start`, rounded up to a
/// whole one. What floats leave of a sum, less than a nanoday, starts no day.
pub fn day_after(start: Timestamp, days: f64) -> String {
    let whole = ((days * 1e9).round() / 1e9).ceil();
    // `as` saturates, and so does a time: the last day is one of 9999.
    let day = start.plus_ms((whole as i64).saturating_mul(DAY_MS));
    day.to_chrono().date_naive().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_itself_is_enough() {
        let criterion = |comparator| SuccessCriterion {
            fact: "context.estimated_cost".to_owned(),
            comparator,
            target: 100.0,
            by: None,
        };
        let met = |comparator| {
            [99.9, 100.0, 100.1, f64::NAN].map(|observed| criterion(comparator).is_met(observed))
        };
        assert_eq!(met(Comparator::AtLeast), [false, true, true, false]);
        assert_eq!(met(Comparator::AtMost), [true, true, false, false]);
        assert_eq!(
            serde_json::to_value(criterion(Comparator::AtMost)).unwrap(),
            serde_json::json!({
                "fact": "context.estimated_cost", "comparator": "at_most", "target": 100.0, "by": null
            })
        );
    }

    #[test]
    fn days_are_rounded_up() {
        let start = Timestamp::parse("2026-01-31T23:59:59.999Z").unwrap();
        for (days, day) in [
            (0.0, "2026-01-31"),
            (0.1, "2026-02-01"),
            (1.0, "2026-02-01"),
            (1.1, "2026-02-02"),
            // 3.0000000000000004
            (1.1 + 1.9 + 4e-16, "2026-02-03"),
            (28.0, "2026-02-28"),
            (7_300.0, "2046-01-26"),
            (f64::INFINITY, "9999-12-31"),
        ] {
            assert_eq!(day_after(start, days), day, "{days}");
        }
    }
}

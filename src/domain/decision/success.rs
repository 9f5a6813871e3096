//! What shows later that a decision was right: a fact, a limit and a day.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Comparator {
    AtLeast,
    AtMost,
}

/// A success metric in a form that programs can check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SuccessCriterion {
    /// What to measure: the id of a fact.
    pub fact: String,
    pub comparator: Comparator,
    pub target: f64,
    /// The day by which, `YYYY-MM-DD` in UTC; null where no time was given.
    pub by: Option<String>,
}

impl SuccessCriterion {
    pub fn is_met(&self, observed: f64) -> bool {
        match self.comparator {
            Comparator::AtLeast => observed >= self.target,
            Comparator::AtMost => observed <= self.target,
        }
    }
}

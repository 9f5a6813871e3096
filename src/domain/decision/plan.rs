//! What is done after a decision, and how long each part takes.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PlanPhase {
    pub phase: String,
    /// Null where the days are not known.
    pub duration_days: Option<f64>,
    pub activities: Vec<String>,
}

//! What would settle a question that could not be decided.

use serde::{Deserialize, Serialize};

/// The fact that is worth finding out next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct NextMeasurement {
    /// Id of a fact, such as `context.estimated_cost`, or `weights.<criterion>`
    /// where no fact but a preference decides.
    pub fact: String,
    pub why: String,
}

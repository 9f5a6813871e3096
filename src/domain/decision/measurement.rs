//! What to find out next.

use serde::{Deserialize, Serialize};

/// The one fact that would help a decision most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct NextMeasurement {
    /// Such as `context.expected_revenue`.
    pub fact: String,
    /// What is known of its effect, with the numbers.
    pub why: String,
}

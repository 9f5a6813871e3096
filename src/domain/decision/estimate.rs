//! A number that is known, or a range of what it may be.

use super::chance::Chance;
use serde::{Deserialize, Serialize};

/// A number, or the least, the most likely and the most that it may be.
/// Ranges are taken as triangular distributions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Estimate {
    Known(f64),
    Range(Range),
}

/// `low <= mode <= high`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Range {
    pub low: f64,
    /// The most likely value.
    pub mode: f64,
    pub high: f64,
}

impl Estimate {
    /// The most likely value.
    pub fn mode(self) -> f64 {
        match self {
            Self::Known(value) => value,
            Self::Range(range) => range.mode,
        }
    }

    pub fn low(self) -> f64 {
        match self {
            Self::Known(value) => value,
            Self::Range(range) => range.low,
        }
    }

    pub fn high(self) -> f64 {
        match self {
            Self::Known(value) => value,
            Self::Range(range) => range.high,
        }
    }

    pub fn is_range(self) -> bool {
        matches!(self, Self::Range(range) if range.low < range.high)
    }

    /// One draw. A known number takes nothing from the stream.
    pub fn draw(self, chance: &mut Chance) -> f64 {
        match self {
            Self::Known(value) => value,
            Self::Range(Range { low, mode, high }) => chance.triangular(low, mode, high),
        }
    }
}

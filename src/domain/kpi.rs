//! How far a KPI's value is along the way to its target.

use serde::{Deserialize, Serialize};

/// Which way a KPI improves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub enum Direction {
    #[serde(rename = "higher")]
    HigherIsBetter,
    #[serde(rename = "lower")]
    LowerIsBetter,
}

/// The share of the target attained, from 0 to 1: `actual / target`, or
/// `target / actual` where lower is better, each clamped to [0, 1].
///
/// `target` is above 0, which validation of KPI definitions ensures. Where
/// lower is better an `actual` of 0 or less attains all of it. A value that is
/// not a number attains nothing.
pub fn attainment(actual: f64, target: f64, direction: Direction) -> f64 {
    let ratio = match direction {
        Direction::HigherIsBetter => actual / target,
        Direction::LowerIsBetter if actual <= 0.0 => 1.0,
        Direction::LowerIsBetter => target / actual,
    };
    if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::Direction::{HigherIsBetter, LowerIsBetter};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attainment_table() {
        for (actual, target, direction, expected) in [
            (0.0, 40.0, HigherIsBetter, 0.0),
            (20.0, 40.0, HigherIsBetter, 0.5),
            (40.0, 40.0, HigherIsBetter, 1.0),
            (80.0, 40.0, HigherIsBetter, 1.0),
            (-1.0, 40.0, HigherIsBetter, 0.0),
            (0.0, 100.0, LowerIsBetter, 1.0),
            (50.0, 100.0, LowerIsBetter, 1.0),
            (100.0, 100.0, LowerIsBetter, 1.0),
            (400.0, 100.0, LowerIsBetter, 0.25),
            (-5.0, 100.0, LowerIsBetter, 1.0),
            (f64::NAN, 100.0, HigherIsBetter, 0.0),
            (f64::NAN, 100.0, LowerIsBetter, 0.0),
            (f64::INFINITY, 100.0, LowerIsBetter, 0.0),
        ] {
            assert_eq!(attainment(actual, target, direction), expected, "{actual} of {target}");
        }
    }

    #[test]
    fn directions_are_the_words_of_the_contract() {
        assert_eq!(serde_json::to_string(&HigherIsBetter).unwrap(), "\"higher\"");
        assert_eq!(serde_json::to_string(&LowerIsBetter).unwrap(), "\"lower\"");
        assert_eq!(serde_json::from_str::<Direction>("\"lower\"").unwrap(), LowerIsBetter);
    }

    proptest! {
        #[test]
        fn attainment_is_a_share_of_one(actual in any::<f64>(), target in 1e-6..1e12) {
            for direction in [HigherIsBetter, LowerIsBetter] {
                prop_assert!((0.0..=1.0).contains(&attainment(actual, target, direction)));
            }
        }

        #[test]
        fn a_better_value_never_attains_less(
            a in -1e9..1e9_f64, b in -1e9..1e9_f64, target in 1e-6..1e9,
        ) {
            let (small, large) = (a.min(b), a.max(b));
            prop_assert!(
                attainment(small, target, HigherIsBetter) <= attainment(large, target, HigherIsBetter)
            );
            prop_assert!(
                attainment(small, target, LowerIsBetter) >= attainment(large, target, LowerIsBetter)
            );
        }
    }
}

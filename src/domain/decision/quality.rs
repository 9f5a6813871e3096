//! Was the engine right? Forecasts held against what came true.

use super::conclusion::Kind;
use super::success::SuccessCriterion;
use crate::domain::statistics::{Interval, Z95, round, wilson};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was done.
    Adopted,
    /// It was not done, so nobody knows.
    Rejected,
    /// It was done, and taken back.
    Reversed,
}

impl Fate {
    pub const ALL: [Self; 3] = [Self::Adopted, Self::Rejected, Self::Reversed];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Rejected => "rejected",
            Self::Reversed => "reversed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.name() == name)
    }
}

/// Whether a decision was right: one that was adopted was, where every success
/// criterion that has an observed value was met; one that was reversed was
/// not. `None`: nobody can say.
pub fn was_right(
    fate: Fate,
    criteria: &[SuccessCriterion],
    observed: &BTreeMap<String, f64>,
) -> Option<bool> {
    match fate {
        Fate::Rejected => None,
        Fate::Reversed => Some(false),
        Fate::Adopted => {
            let mut judged = criteria
                .iter()
                .filter_map(|criterion| Some(criterion.is_met(*observed.get(&criterion.fact)?)))
                .peekable();
            judged.peek()?;
            Some(judged.all(|met| met))
        }
    }
}

/// A decision that can be judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    pub kind: Kind,
    /// The engine's own probability; `None`: it gave none.
    pub confidence: Option<f64>,
    pub right: bool,
}

/// A share with what stands behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Rate {
    /// Decisions with a known outcome.
    pub n: u64,
    /// Of these, the ones that were right.
    pub right: u64,
    /// 0 to 1; null: no data.
    pub share: Option<f64>,
    /// Wilson, 95 %.
    pub ci95: Option<Interval>,
}

/// The Brier score: the mean of (confidence − outcome)², 0 is perfect, 0.25 is
/// what ½ every time would get (Brier 1950).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Brier {
    /// Decisions with a confidence and a known outcome.
    pub n: u64,
    /// 0 to 1; null: no data.
    pub score: Option<f64>,
    /// Mean ± 1.96 standard errors, within 0 to 1; null below two decisions.
    pub ci95: Option<Interval>,
}

/// Decisions of similar confidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct CalibrationRow {
    /// Confidence from here…
    pub from: f64,
    /// …to below here (the last row: up to and with).
    pub to: f64,
    /// Null: no data.
    pub mean_confidence: Option<f64>,
    #[serde(flatten)]
    pub rate: Rate,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Quality {
    /// `ok`, or `no_data`: no outcome can be judged yet.
    pub state: QualityState,
    pub brier: Brier,
    /// Ten rows of a tenth each.
    pub calibration: Vec<CalibrationRow>,
    pub accuracy: Rate,
    pub accuracy_by_kind: BTreeMap<Kind, Rate>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum QualityState {
    Ok,
    NoData,
}

const ROWS: u32 = 10;

/// Everything that can be said of the engine from these.
pub fn quality(judged: &[Judged]) -> Quality {
    let of_kind = |kind: Kind| rate(judged.iter().filter(move |known| known.kind == kind));
    Quality {
        state: if judged.is_empty() { QualityState::NoData } else { QualityState::Ok },
        brier: brier(judged),
        calibration: (0..ROWS).map(|row| calibration(judged, row)).collect(),
        accuracy: rate(judged.iter()),
        accuracy_by_kind: Kind::ALL.into_iter().map(|kind| (kind, of_kind(kind))).collect(),
    }
}

fn rate<'a>(judged: impl Iterator<Item = &'a Judged>) -> Rate {
    let (mut n, mut right) = (0_u64, 0_u64);
    for known in judged {
        n += 1;
        right += u64::from(known.right);
    }
    let ci95 = wilson(right, n).map(|ci| Interval { low: round(ci.low), high: round(ci.high) });
    Rate { n, right, share: (n > 0).then(|| round(right as f64 / n as f64)), ci95 }
}

fn brier(judged: &[Judged]) -> Brier {
    let errors: Vec<f64> = judged
        .iter()
        .filter_map(|known| {
            let error = known.confidence? - f64::from(u8::from(known.right));
            Some(error * error)
        })
        .collect();
    let n = errors.len() as f64;
    if errors.is_empty() {
        return Brier { n: 0, score: None, ci95: None };
    }
    let mean = errors.iter().sum::<f64>() / n;
    let ci95 = (errors.len() > 1).then(|| {
        let squares: f64 = errors.iter().map(|error| (error - mean) * (error - mean)).sum();
        let half = Z95 * (squares / (n - 1.0) / n).sqrt();
        Interval { low: round((mean - half).max(0.0)), high: round((mean + half).min(1.0)) }
    });
    Brier { n: errors.len() as u64, score: Some(round(mean)), ci95 }
}

fn calibration(judged: &[Judged], row: u32) -> CalibrationRow {
    let (from, to) = (f64::from(row) / f64::from(ROWS), f64::from(row + 1) / f64::from(ROWS));
    let is_last = row + 1 == ROWS;
    let within = |confidence: f64| confidence >= from && (confidence < to || is_last);
    let inside: Vec<&Judged> =
        judged.iter().filter(|known| known.confidence.is_some_and(within)).collect();
    let sum: f64 = inside.iter().filter_map(|known| known.confidence).sum();
    CalibrationRow {
        from,
        to,
        mean_confidence: (!inside.is_empty()).then(|| round(sum / inside.len() as f64)),
        rate: rate(inside.into_iter()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::success::Comparator;

    fn judged(confidence: f64, right: bool) -> Judged {
        Judged { kind: Kind::Strategy, confidence: Some(confidence), right }
    }

    #[test]
    fn nothing_known_is_no_data_and_not_zero() {
        let quality = quality(&[]);
        assert_eq!(quality.state, QualityState::NoData);
        assert_eq!((quality.brier.score, quality.accuracy.share), (None, None));
        assert!(quality.calibration.iter().all(|row| row.rate.share.is_none()));
        assert_eq!(quality.accuracy_by_kind.len(), 3);
    }

    #[test]
    fn figures_worked_out_by_hand() {
        let quality = quality(&[judged(0.9, true), judged(0.8, false), judged(1.0, true)]);
        // (0.01 + 0.64 + 0) / 3
        assert_eq!(quality.brier.score, Some(0.2167));
        assert_eq!(quality.brier.n, 3);
        assert_eq!(quality.accuracy.share, Some(0.6667));
        let rows: Vec<u64> = quality.calibration.iter().map(|row| row.rate.n).collect();
        assert_eq!(rows, [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(quality.calibration[9].mean_confidence, Some(0.95));
        let one = super::quality(&[Judged { confidence: None, ..judged(0.5, true) }]);
        assert_eq!((one.brier.n, one.accuracy.n), (0, 1));
    }

    #[test]
    fn a_decision_is_right_where_all_that_was_observed_holds() {
        let at_least = |fact: &str, target| SuccessCriterion {
            fact: fact.to_owned(),
            comparator: Comparator::AtLeast,
            target,
            by: None,
        };
        let criteria = [at_least("a.score", 80.0), at_least("b.score", 50.0)];
        let observed = |pairs: &[(&str, f64)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
        };
        let right = |fate, pairs| was_right(fate, &criteria, &observed(pairs));
        assert_eq!(right(Fate::Adopted, &[("a.score", 80.0)]), Some(true));
        assert_eq!(right(Fate::Adopted, &[("a.score", 80.0), ("b.score", 49.0)]), Some(false));
        assert_eq!(right(Fate::Adopted, &[("else", 1.0)]), None);
        assert_eq!(right(Fate::Rejected, &[("a.score", 80.0)]), None);
        assert_eq!(right(Fate::Reversed, &[]), Some(false));
    }
}

//! The rankings against an independent implementation: pymcdm's results for
//! the random problems of `tests/conformance/problems.json`, which
//! `make conformance` writes. The kept file is read here, so no Python is
//! needed.
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use devskyy_orchestration::domain::decision::ranking::{Axis, Direction, Matrix, Scores};
use serde::Deserialize;
use std::path::Path;

/// The most that two results may differ by, and the least difference of two
/// of pymcdm's that has to show in our ranks.
const TOLERANCE: f64 = 1e-9;

/// Written by `tests/conformance/problems.py`, which says what is what.
#[derive(Deserialize)]
struct Kept {
    pymcdm: String,
    seed: u64,
    problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    kind: String,
    types: Vec<i8>,
    weights: Vec<f64>,
    bounds: Vec<(f64, f64)>,
    rows: Vec<Vec<f64>>,
    spotis: Option<Vec<f64>>,
    wsm: Option<Vec<f64>>,
    topsis: Option<Vec<f64>>,
}

impl Problem {
    fn matrix(&self) -> Matrix {
        let criteria = self.types.iter().zip(&self.weights).zip(&self.bounds);
        let axes = criteria.map(|((kind, weight), (low, high))| Axis {
            direction: if *kind == 1 { Direction::Max } else { Direction::Min },
            weight: *weight,
            low: *low,
            high: *high,
        });
        Matrix { axes: axes.collect(), rows: self.rows.clone() }
    }
}

/// What a method was compared by.
#[derive(Default)]
struct Compared {
    problems: usize,
    numbers: usize,
    pairs: usize,
    largest_difference: f64,
}

impl Compared {
    /// `theirs`: higher is better, as ours.
    fn add(&mut self, what: &str, problem: &Problem, ours: &Scores, theirs: &[f64]) {
        self.problems += 1;
        assert_eq!(ours.scores.len(), theirs.len(), "{what}");
        for (our, their) in ours.scores.iter().zip(theirs) {
            let difference = (our - their).abs();
            // And not NaN.
            assert!(difference <= TOLERANCE, "{what}: {:?} and pymcdm's {theirs:?}", ours.scores);
            self.numbers += 1;
            self.largest_difference = self.largest_difference.max(difference);
        }
        for one in 0..theirs.len() {
            for other in 0..theirs.len() {
                let (our, rival) = (ours.ranks[one], ours.ranks[other]);
                if theirs[one] - theirs[other] > TOLERANCE {
                    assert!(our < rival, "{what}: {:?} for {theirs:?}", ours.ranks);
                    self.pairs += 1;
                } else if one != other && problem.rows[one] == problem.rows[other] {
                    assert_eq!(our, rival, "{what}: equal options, {:?}", ours.ranks);
                    self.pairs += 1;
                }
            }
        }
    }
}

#[test]
fn rankings_are_those_of_pymcdm() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/problems.json");
    let kept: Kept = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut compared: [Compared; 3] = Default::default();
    let [spotis, weighted_sum, topsis] = &mut compared;
    for (at, problem) in kept.problems.iter().enumerate() {
        let matrix = problem.matrix();
        let what = |method: &str| format!("{method} of problem {at} ({})", problem.kind);
        if let Some(distances) = &problem.spotis {
            let theirs: Vec<f64> = distances.iter().map(|distance| 1.0 - distance).collect();
            spotis.add(&what("spotis"), problem, &matrix.spotis(), &theirs);
        }
        if let Some(theirs) = &problem.wsm {
            weighted_sum.add(&what("weighted sum"), problem, &matrix.weighted_sum(), theirs);
        }
        if let Some(theirs) = &problem.topsis {
            topsis.add(&what("topsis"), problem, &matrix.topsis(), theirs);
        }
    }
    // After an end of line: the runner may have begun one.
    println!(
        "\nconformance: pymcdm {}: {} random problems (seed {}), tolerance {TOLERANCE:e}",
        kept.pymcdm,
        kept.problems.len(),
        kept.seed
    );
    for (name, method) in ["spotis", "weighted sum", "topsis"].iter().zip(&compared) {
        println!(
            "conformance: {name:<12} {} problems, {} numbers, largest difference {:.1e}; {} pairs ranked alike",
            method.problems, method.numbers, method.largest_difference, method.pairs
        );
    }
    let all = kept.problems.len();
    // pymcdm's TOPSIS has no answer to some; the others always have.
    assert!(all > 0 && compared[0].problems == all && compared[1].problems == all);
    assert!(2 * compared[2].problems > all, "{} of {all}", compared[2].problems);
}

//! Multi-criteria ranking: SPOTIS, with a weighted sum and TOPSIS as
//! cross-checks, dominance, flip points, and how stable the first place is
//! (SMAA).
//!
//! - SPOTIS: Dezert, Tchamova, Han, Tacnet (2020), "The SPOTIS rank reversal
//!   free method for multi-criteria decision-making support". Its bounds are
//!   part of the question, so no option changes how others compare.
//! - TOPSIS: Hwang and Yoon (1981).
//! - SMAA: Lahdelma, Hokkanen, Salminen (1998); here with weights from a
//!   Dirichlet distribution around the stated ones.

use super::chance::{Chance, Purpose};
use serde::{Deserialize, Serialize};

/// Which way a criterion is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "CriterionDirection"))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A benefit: more is better.
    Max,
    /// A cost: less is better.
    Min,
}

/// What options are compared by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    pub direction: Direction,
    /// Share of the whole, 0 to 1; all of them add up to 1.
    pub weight: f64,
    /// The least and the most that the question allows, `low < high`.
    pub low: f64,
    pub high: f64,
}

impl Axis {
    /// 1 at the better bound, 0 at the worse one: `1 − |x − s*| / (max − min)`.
    pub fn utility(&self, value: f64) -> f64 {
        let ideal = match self.direction {
            Direction::Max => self.high,
            Direction::Min => self.low,
        };
        1.0 - (value - ideal).abs() / (self.high - self.low)
    }
}

/// Options by criteria, every value known and within its bounds.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    pub axes: Vec<Axis>,
    /// A row an option, a column a criterion.
    pub rows: Vec<Vec<f64>>,
}

/// How options did by one method.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// Higher is better; rounded, so that equal is equal.
    pub scores: Vec<f64>,
    /// From 1; equal scores share a rank, and the next one is left out.
    pub ranks: Vec<u32>,
}

impl Scores {
    fn of(scores: Vec<f64>) -> Self {
        let scores: Vec<f64> = scores.into_iter().map(rounded).collect();
        let rank = |score: &f64| {
            let better = scores.iter().filter(|other| *other > score).count();
            u32::try_from(better).unwrap_or(u32::MAX).saturating_add(1)
        };
        let ranks = scores.iter().map(rank).collect();
        Self { scores, ranks }
    }
}

/// Twelve decimals, and no negative zero: what differs by less than floats
/// can be trusted for is equal.
pub fn rounded(value: f64) -> f64 {
    (value * 1e12).round() / 1e12 + 0.0
}

/// Weights that add up to 1, in the proportions of these; empty unless one is
/// above 0. Scaling all of them changes nothing, not even a last digit.
pub fn normalized(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    if !(sum > 0.0 && sum.is_finite()) {
        return Vec::new();
    }
    weights.iter().map(|weight| rounded(weight / sum)).collect()
}

impl Matrix {
    /// Utility by criterion, a row an option: what SPOTIS adds up.
    pub fn utilities(&self) -> Vec<Vec<f64>> {
        self.map(Axis::utility)
    }

    fn map(&self, of: impl Fn(&Axis, f64) -> f64) -> Vec<Vec<f64>> {
        let row = |row: &Vec<f64>| {
            row.iter().zip(&self.axes).map(|(value, axis)| of(axis, *value)).collect()
        };
        self.rows.iter().map(row).collect()
    }

    fn weights(&self) -> Vec<f64> {
        self.axes.iter().map(|axis| axis.weight).collect()
    }

    /// `u = 1 − D`, where D is the SPOTIS distance `Σ w·|x − s*|/(max − min)`.
    pub fn spotis(&self) -> Scores {
        let weights = self.weights();
        // 1 − Σ w·d and not Σ w·u: the same for weights that add up to 1, and
        // exact at the ideal.
        let distance =
            |row: &Vec<f64>| row.iter().zip(&weights).map(|(u, w)| w * (1.0 - u)).sum::<f64>();
        Scores::of(self.utilities().iter().map(|row| 1.0 - distance(row)).collect())
    }

    /// The weighted sum of values scaled to 0..1 between the worst and the
    /// best of today's options. A criterion in which all are equal tells
    /// nobody apart and counts 1 for everybody.
    pub fn weighted_sum(&self) -> Scores {
        let weights = self.weights();
        Scores::of(self.scaled().iter().map(|row| dot(row, &weights)).collect())
    }

    fn scaled(&self) -> Vec<Vec<f64>> {
        let column = |at: usize| self.rows.iter().filter_map(move |row| row.get(at).copied());
        let ranges: Vec<(f64, f64)> = (0..self.axes.len())
            .map(|at| {
                let low = column(at).fold(f64::INFINITY, f64::min);
                (low, column(at).fold(f64::NEG_INFINITY, f64::max))
            })
            .collect();
        let scale = |((value, axis), (low, high)): ((&f64, &Axis), &(f64, f64))| {
            if high <= low {
                return 1.0;
            }
            match axis.direction {
                Direction::Max => (value - low) / (high - low),
                Direction::Min => (high - value) / (high - low),
            }
        };
        let row =
            |row: &Vec<f64>| row.iter().zip(&self.axes).zip(&ranges).map(scale).collect::<Vec<_>>();
        self.rows.iter().map(row).collect()
    }

    /// Closeness to the best of today's options, `d⁻ / (d⁺ + d⁻)` from 0 to 1.
    /// Options that are all equal are as near to the best as to the worst: ½.
    pub fn topsis(&self) -> Scores {
        let squares: Vec<f64> = self.weights().iter().map(|weight| weight * weight).collect();
        let (to_best, to_worst) = self.topsis_squares();
        let closeness = |(best, worst): (&Vec<f64>, &Vec<f64>)| {
            let (plus, minus) = (dot(best, &squares).sqrt(), dot(worst, &squares).sqrt());
            if plus + minus > 0.0 { minus / (plus + minus) } else { 0.5 }
        };
        Scores::of(to_best.iter().zip(&to_worst).map(closeness).collect())
    }

    /// Squared distances to the best and to the worst, by option and criterion,
    /// of values over the root of their sum of squares, before weights.
    fn topsis_squares(&self) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
        let norms: Vec<f64> = (0..self.axes.len())
            .map(|at| {
                let column = self.rows.iter().filter_map(|row| row.get(at));
                let mut squares: Vec<f64> = column.map(|x| x * x).collect();
                // The same sum in whatever order the options come.
                squares.sort_by(f64::total_cmp);
                squares.iter().sum::<f64>().sqrt()
            })
            .collect();
        let unit = |row: &Vec<f64>| -> Vec<f64> {
            let unit = |(value, norm): (&f64, &f64)| if *norm > 0.0 { value / norm } else { 0.0 };
            row.iter().zip(&norms).map(unit).collect()
        };
        let units: Vec<Vec<f64>> = self.rows.iter().map(unit).collect();
        let ends = |at: usize| {
            let column = || units.iter().filter_map(move |row| row.get(at).copied());
            let low = column().fold(f64::INFINITY, f64::min);
            (low, column().fold(f64::NEG_INFINITY, f64::max))
        };
        let ends: Vec<(f64, f64)> = (0..self.axes.len()).map(ends).collect();
        let squared = |to_best: bool| -> Vec<Vec<f64>> {
            let square = |((value, axis), (low, high)): ((&f64, &Axis), &(f64, f64))| {
                let wants_high = (axis.direction == Direction::Max) == to_best;
                let difference = value - if wants_high { high } else { low };
                difference * difference
            };
            let row = |row: &Vec<f64>| row.iter().zip(&self.axes).zip(&ends).map(square).collect();
            units.iter().map(row).collect()
        };
        (squared(true), squared(false))
    }

    /// For each option the first one that is at least as good by every
    /// criterion that has a weight, and better by one of them.
    pub fn dominated(&self) -> Vec<Option<usize>> {
        let utilities = self.utilities();
        let beats = |one: &[f64], other: &[f64]| {
            let mut better = false;
            for ((a, b), axis) in one.iter().zip(other).zip(&self.axes) {
                if axis.weight > 0.0 && a < b {
                    return false;
                }
                better |= axis.weight > 0.0 && a > b;
            }
            better
        };
        utilities
            .iter()
            .map(|option| utilities.iter().position(|other| beats(other, option)))
            .collect()
    }

    /// The weight of a criterion at which `rival` draws level with `leader`,
    /// while the other weights keep their proportions: with
    /// `R = Σ_{k≠j} w_k(u_ak − u_bk)/(1 − w_j)` and `g = u_aj − u_bj` it is
    /// `t* = R/(R − g)`. `None` where no weight from 0 to 1 does that. `a` and
    /// `b` are the [`Matrix::utilities`] of the two.
    pub fn flip_point(&self, a: &[f64], b: &[f64], criterion: usize) -> Option<f64> {
        let weight = self.axes.get(criterion)?.weight;
        if weight >= 1.0 {
            return None;
        }
        let mut rest = 0.0;
        for (at, ((ua, ub), axis)) in a.iter().zip(b).zip(&self.axes).enumerate() {
            if at != criterion {
                rest += axis.weight * (ua - ub);
            }
        }
        let rest = rest / (1.0 - weight);
        let gain = a.get(criterion)? - b.get(criterion)?;
        let flips_at = rest / (rest - gain);
        (0.0..=1.0).contains(&flips_at).then(|| rounded(flips_at))
    }

    /// Shares of first places over `draws` draws of weights around the stated
    /// ones. Options that tie in a draw share it.
    pub fn smaa(&self, seed: &[u8; 32], draws: u32, concentration: f64) -> Vec<FirstPlaces> {
        let n = self.rows.len();
        let (utilities, scaled) = (columns(&self.utilities()), columns(&self.scaled()));
        let (to_best, to_worst) = self.topsis_squares();
        let (to_best, to_worst) = (columns(&to_best), columns(&to_worst));
        let weights = self.weights();
        let mut chance = Chance::new(seed, Purpose::Weights);
        let mut drawn = Vec::with_capacity(weights.len());
        let mut squares = Vec::with_capacity(weights.len());
        let mut counts = vec![[0.0_f64; 3]; n];
        let (mut scores, mut others) = (vec![0.0_f64; n], vec![0.0_f64; n]);
        for _ in 0..draws {
            chance.dirichlet(&weights, concentration, &mut drawn);
            squares.clear();
            squares.extend(drawn.iter().map(|weight| weight * weight));
            weigh(&utilities, &drawn, &mut scores);
            count_first(&scores, &mut counts, 0);
            weigh(&scaled, &drawn, &mut scores);
            count_first(&scores, &mut counts, 1);
            weigh(&to_best, &squares, &mut others);
            weigh(&to_worst, &squares, &mut scores);
            for (score, plus) in scores.iter_mut().zip(&others) {
                // Grows with d⁻/(d⁺ + d⁻), without a root.
                *score = if *plus + *score > 0.0 { *score / (*plus + *score) } else { 0.5 };
            }
            count_first(&scores, &mut counts, 2);
        }
        let all = f64::from(draws.max(1));
        counts
            .into_iter()
            .map(|[spotis, weighted_sum, topsis]| FirstPlaces {
                spotis: rounded(spotis / all),
                weighted_sum: rounded(weighted_sum / all),
                topsis: rounded(topsis / all),
            })
            .collect()
    }
}

/// Shares of draws in which an option came first, 0 to 1, by each method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct FirstPlaces {
    pub spotis: f64,
    pub weighted_sum: f64,
    pub topsis: f64,
}

/// Rows turned into columns: weighing them goes through memory in order.
fn columns(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let width = rows.first().map_or(0, Vec::len);
    (0..width).map(|at| rows.iter().filter_map(|row| row.get(at).copied()).collect()).collect()
}

/// For each option the sum of its values times the weights, in their order.
fn weigh(columns: &[Vec<f64>], weights: &[f64], sums: &mut [f64]) {
    sums.fill(0.0);
    for (column, weight) in columns.iter().zip(weights) {
        for (sum, value) in sums.iter_mut().zip(column) {
            *sum += weight * value;
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Adds a first place, or parts of one, in the column of a method.
fn count_first(scores: &[f64], counts: &mut [[f64; 3]], method: usize) {
    let (mut best, mut ties) = (f64::NEG_INFINITY, 0_u32);
    for score in scores {
        if *score > best {
            (best, ties) = (*score, 1);
        } else if *score == best {
            ties += 1;
        }
    }
    let part = 1.0 / f64::from(ties.max(1));
    for (score, count) in scores.iter().zip(counts) {
        if *score == best
            && let Some(count) = count.get_mut(method)
        {
            *count += part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The vector of STANDARDS: three partners by uptime, latency, quality and
    /// price.
    pub fn vector() -> Matrix {
        let axis = |direction, weight, low, high| Axis { direction, weight, low, high };
        Matrix {
            axes: vec![
                axis(Direction::Max, 0.4, 95.0, 100.0),
                axis(Direction::Min, 0.2, 0.0, 2_000.0),
                axis(Direction::Max, 0.3, 0.0, 1.0),
                axis(Direction::Min, 0.1, 0.0, 100.0),
            ],
            rows: vec![
                vec![99.9, 320.0, 0.92, 40.0],
                vec![99.2, 540.0, 0.81, 25.0],
                vec![99.7, 410.0, 0.95, 55.0],
            ],
        }
    }

    #[test]
    fn the_published_vector() {
        let matrix = vector();
        let near = |scores: Scores, expected: [f64; 3]| {
            for (score, expected) in scores.scores.iter().zip(expected) {
                assert!((score - expected).abs() < 5e-7, "{score} is not {expected}");
            }
            assert_eq!(scores.ranks, [1, 3, 2]);
        };
        near(matrix.spotis(), [1.0 - 0.104, 1.0 - 0.2, 1.0 - 0.135]);
        near(matrix.topsis(), [0.753_693, 0.390_384, 0.479_065]);
        assert_eq!(matrix.dominated(), [None, None, None]);
        let shares = matrix.smaa(&[1; 32], 2_000, 50.0);
        assert!(shares[0].spotis > 0.9, "{shares:?}");
        assert_eq!(shares, matrix.smaa(&[1; 32], 2_000, 50.0));
        assert_ne!(shares, matrix.smaa(&[2; 32], 2_000, 50.0));
    }

    #[test]
    fn a_flip_point_is_where_two_draw_level() {
        let matrix = vector();
        let (leader, rival, price) = (0, 1, 3);
        let utilities = matrix.utilities();
        let flip = |criterion| matrix.flip_point(&utilities[leader], &utilities[rival], criterion);
        let at = flip(price).unwrap();
        let mut tilted = matrix.clone();
        for (k, axis) in tilted.axes.iter_mut().enumerate() {
            axis.weight = if k == price { at } else { axis.weight * (1.0 - at) / (1.0 - 0.1) };
        }
        let scores = tilted.spotis().scores;
        assert!((scores[leader] - scores[rival]).abs() < 1e-9, "{scores:?} at {at}");
        // By uptime the leader is ahead anyway: no weight of it helps the rival
        // unless the rest already does.
        assert_eq!(flip(0), None);
    }

    #[test]
    fn degenerate_tables_have_stated_results() {
        let axis = Axis { direction: Direction::Max, weight: 1.0, low: 0.0, high: 1.0 };
        let one = Matrix { axes: vec![axis], rows: vec![vec![0.3]] };
        assert_eq!(one.spotis().scores, [0.3]);
        assert_eq!(one.weighted_sum().scores, [1.0]);
        assert_eq!(one.topsis().scores, [0.5]);
        assert_eq!(one.smaa(&[0; 32], 100, 50.0)[0].spotis, 1.0);
        let equal = Matrix { axes: vec![axis], rows: vec![vec![0.3]; 4] };
        assert_eq!(equal.spotis().ranks, [1; 4]);
        for shares in equal.smaa(&[0; 32], 100, 50.0) {
            assert_eq!([shares.spotis, shares.weighted_sum, shares.topsis], [0.25; 3]);
        }
        let zeros = Matrix { axes: vec![axis], rows: vec![vec![0.0], vec![0.0]] };
        assert_eq!(zeros.topsis().scores, [0.5, 0.5]);
        assert!(Matrix::default().smaa(&[0; 32], 10, 50.0).is_empty());
        assert!(normalized(&[0.0, 0.0]).is_empty());
        assert!(normalized(&[f64::NAN, 1.0]).is_empty());
        assert_eq!(normalized(&[2.0, 6.0]), [0.25, 0.75]);
    }

    prop_compose! {
        fn any_matrix()(criteria in 1_usize..6, options in 1_usize..7)(
            axes in prop::collection::vec(
                (any::<bool>(), 0.01_f64..1.0, -100.0_f64..0.0, 1.0_f64..100.0), criteria),
            parts in prop::collection::vec(
                prop::collection::vec(0.0_f64..=1.0, criteria), options),
        ) -> Matrix {
            let weights = normalized(&axes.iter().map(|axis| axis.1).collect::<Vec<_>>());
            let axes: Vec<Axis> = axes.iter().zip(weights).map(|((max, _, low, width), weight)| {
                let direction = if *max { Direction::Max } else { Direction::Min };
                Axis { direction, weight, low: *low, high: low + width }
            }).collect();
            let rows = parts.iter().map(|row| {
                row.iter().zip(&axes).map(|(part, axis)| axis.low + part * (axis.high - axis.low)).collect()
            }).collect();
            Matrix { axes, rows }
        }
    }

    proptest! {
        #[test]
        fn a_hopeless_option_changes_no_order(matrix in any_matrix()) {
            let before = matrix.spotis();
            let mut joined = matrix.clone();
            joined.rows.push(matrix.axes.iter().map(|axis| match axis.direction {
                Direction::Max => axis.low,
                Direction::Min => axis.high,
            }).collect());
            let after = joined.spotis();
            prop_assert_eq!(&after.scores[..before.scores.len()], &before.scores[..]);
            prop_assert_eq!(&after.ranks[..before.ranks.len()], &before.ranks[..]);
        }

        #[test]
        fn scaled_weights_are_the_same_weights(
            weights in prop::collection::vec(0.01_f64..1.0, 1..8), factor in 0.001_f64..1_000.0,
        ) {
            let scaled: Vec<f64> = weights.iter().map(|weight| weight * factor).collect();
            prop_assert_eq!(normalized(&weights), normalized(&scaled));
        }

        #[test]
        fn an_improved_leader_stays_in_front(
            matrix in any_matrix(), criterion in 0_usize..6, part in 0.0_f64..=1.0,
        ) {
            let leader = matrix.spotis().ranks.iter().position(|rank| *rank == 1).unwrap();
            let criterion = criterion % matrix.axes.len();
            let axis = matrix.axes[criterion];
            let best = if axis.direction == Direction::Max { axis.high } else { axis.low };
            let mut improved = matrix.clone();
            let value = &mut improved.rows[leader][criterion];
            *value += part * (best - *value);
            prop_assert_eq!(improved.spotis().ranks[leader], 1);
        }

        #[test]
        fn permuted_options_give_permuted_results(matrix in any_matrix(), by in 0_usize..7) {
            let by = by % matrix.rows.len();
            let mut rotated = matrix.clone();
            rotated.rows.rotate_left(by);
            let methods: [fn(&Matrix) -> Scores; 3] =
                [Matrix::spotis, Matrix::weighted_sum, Matrix::topsis];
            for of in methods {
                let mut before = of(&matrix);
                before.scores.rotate_left(by);
                before.ranks.rotate_left(by);
                prop_assert_eq!(of(&rotated), before);
            }
            let mut shares = matrix.smaa(&[3; 32], 200, 30.0);
            shares.rotate_left(by);
            prop_assert_eq!(rotated.smaa(&[3; 32], 200, 30.0), shares);
        }

        #[test]
        fn shares_add_up_to_one(matrix in any_matrix(), seed in any::<[u8; 32]>()) {
            let shares = matrix.smaa(&seed, 500, 20.0);
            let methods: [fn(&FirstPlaces) -> f64; 3] =
                [|s| s.spotis, |s| s.weighted_sum, |s| s.topsis];
            for of in methods {
                prop_assert!((shares.iter().map(of).sum::<f64>() - 1.0).abs() < 1e-9);
            }
            prop_assert_eq!(shares, matrix.smaa(&seed, 500, 20.0));
        }

        /// With the weight at the flip point two are level, and beyond it the
        /// other one leads.
        #[test]
        fn flip_points_flip(matrix in any_matrix()) {
            let ranks = matrix.spotis().ranks;
            let Some(leader) = ranks.iter().position(|rank| *rank == 1) else { return Ok(()) };
            let utilities = matrix.utilities();
            for rival in (0..matrix.rows.len()).filter(|rival| *rival != leader) {
                for criterion in 0..matrix.axes.len() {
                    let (a, b) = (&utilities[leader], &utilities[rival]);
                    let Some(at) = matrix.flip_point(a, b, criterion) else { continue };
                    let weight = matrix.axes[criterion].weight;
                    let mut tilted = matrix.clone();
                    for (k, axis) in tilted.axes.iter_mut().enumerate() {
                        axis.weight = if k == criterion { at } else {
                            axis.weight * (1.0 - at) / (1.0 - weight)
                        };
                    }
                    let scores = tilted.spotis().scores;
                    prop_assert!((scores[leader] - scores[rival]).abs() < 1e-6);
                }
            }
        }

        #[test]
        fn the_dominated_are_behind(matrix in any_matrix()) {
            let spotis = matrix.spotis();
            for (at, by) in matrix.dominated().iter().enumerate() {
                if let Some(by) = by {
                    prop_assert!(spotis.ranks[*by] <= spotis.ranks[at]);
                }
            }
        }
    }
}

//! Weighing options whose facts may be unknown: who is in front, how close it
//! is, what would change it, and whether that is enough for a decision.
//!
//! No missing fact is replaced by a default. An option with an unknown value
//! has no utility but a range of it, from the worst the value could be to the
//! best. Where that range reaches the leader there is no decision, and the
//! missing fact is what to find out next.

use super::measurement::NextMeasurement;
use super::policy::StabilityRules;
use super::ranking::{Axis, FirstPlaces, Matrix, rounded};
use serde::{Deserialize, Serialize};

/// What options are compared by.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    pub id: String,
    pub axis: Axis,
}

/// A value of an option, or the range it lies in.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    pub low: f64,
    pub high: f64,
    /// Facts it is made from.
    pub facts: Vec<String>,
    /// Those of them that cannot be used; with one there is no value.
    pub missing: Vec<String>,
    /// How far the value moves within the 95 % intervals of its facts.
    pub spread: f64,
}

impl Cell {
    pub fn value(&self) -> Option<f64> {
        self.missing.is_empty().then_some(self.low)
    }
}

/// An option before it is weighed.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: String,
    pub title: String,
    pub target: Option<String>,
    pub cost: Option<f64>,
    pub duration_days: Option<f64>,
    /// One for each criterion.
    pub cells: Vec<Cell>,
    /// Facts without which a constraint on it cannot be checked.
    pub unsettled: Vec<String>,
}

/// An option that a constraint removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Elimination {
    pub option: String,
    /// The constraint in words.
    pub constraint: String,
    /// What it was held against: a criterion, a signal or a fact.
    pub fact: String,
    /// Null: not known, though the constraint asks for it.
    pub value: Option<f64>,
}

/// What a criterion did for an option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Contribution {
    pub criterion: String,
    /// In the criterion's own unit; null: not known.
    pub value: Option<f64>,
    /// Share of the whole, 0 to 1.
    pub weight: f64,
    /// 0 at the worse bound of the criterion, 1 at the better one.
    pub utility: Option<f64>,
    /// `weight · utility`; the points of all criteria add up to the utility.
    pub points: Option<f64>,
}

/// Places by the three methods, from 1; equals share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Ranks {
    pub spotis: u32,
    pub weighted_sum: u32,
    pub topsis: u32,
}

/// Scores by the three methods, 0 to 1, more is better.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MethodScores {
    pub spotis: f64,
    pub weighted_sum: f64,
    pub topsis: f64,
}

/// An option as it was weighed, best first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RankedOption {
    pub option: String,
    pub title: String,
    /// The partnership it is about; null: none, or all.
    pub target: Option<String>,
    /// Money; null: not known.
    pub cost: Option<f64>,
    pub duration_days: Option<f64>,
    /// By SPOTIS; null where a fact is missing.
    pub rank: Option<u32>,
    /// `1 − D` of SPOTIS; null where a fact is missing.
    pub utility: Option<f64>,
    /// The least and the most that the missing facts leave open.
    pub utility_range: Option<[f64; 2]>,
    pub ranks: Option<Ranks>,
    pub scores: Option<MethodScores>,
    pub contributions: Vec<Contribution>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Dominated {
    pub option: String,
    /// At least as good by every weighed criterion, and better by one.
    pub by: String,
}

/// At this weight of a criterion another option would lead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct FlipPoint {
    pub criterion: String,
    /// As it is, 0 to 1.
    pub weight: f64,
    /// Where the two are level; the other weights keep their proportions.
    pub flips_at: f64,
    /// Who leads beyond it.
    pub rival: String,
}

/// First places of an option over all draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Share {
    pub option: String,
    /// Share of the draws in which it came first, by method.
    #[serde(flatten)]
    pub first_places: FirstPlaces,
}

/// How stable the first place is (SMAA): weights drawn around the stated ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Stability {
    pub draws: u32,
    /// Sum of the parameters of the Dirichlet distribution.
    pub concentration: f64,
    pub shares: Vec<Share>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The first of the ranking leads in enough of the draws.
    Winner,
    /// It leads in too few of them.
    Close,
    /// An option with missing facts could lead.
    Insufficient,
    /// The constraints left nothing.
    NothingLeft,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    pub outcome: Outcome,
    /// Options with all facts by rank, then those with a range by its top.
    pub ranking: Vec<RankedOption>,
    pub dominated: Vec<Dominated>,
    /// One a criterion, the nearest first.
    pub flip_points: Vec<FlipPoint>,
    pub stability: Stability,
    /// The mean of the leader's shares by the three methods, which agree or
    /// not; `None` where it had nobody to lead.
    pub confidence: Option<f64>,
    pub next: Option<NextMeasurement>,
}

/// Weighs what the constraints left. Criteria without weight take no part.
pub fn weigh(
    criteria: &[Criterion],
    candidates: &[Candidate],
    rules: &StabilityRules,
    seed: &[u8; 32],
) -> Weighed {
    let weighed: Vec<usize> = criteria
        .iter()
        .enumerate()
        .filter(|(_, criterion)| criterion.axis.weight > 0.0)
        .map(|(at, _)| at)
        .collect();
    let is_known = |candidate: &Candidate| missing(candidate, &weighed).next().is_none();
    let (known, open): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().partition(|candidate| is_known(candidate));
    let matrix = Matrix {
        axes: weighed.iter().filter_map(|at| criteria.get(*at)).map(|c| c.axis).collect(),
        rows: known
            .iter()
            .map(|candidate| cells(candidate, &weighed).map(|cell| cell.low).collect())
            .collect(),
    };
    let (spotis, sum, topsis) = (matrix.spotis(), matrix.weighted_sum(), matrix.topsis());
    let shares = matrix.smaa(seed, rules.draws, rules.concentration);

    // Best first; of equals the one with more first places, then by id, so
    // that the order in which options came does not count.
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by(|a, b| {
        let share = |at: &usize| shares.get(*at).map_or(0.0, |share| share.spotis);
        let id = |at: &usize| known.get(*at).map(|candidate| candidate.id.as_str());
        let rank = |at: &usize| spotis.ranks.get(*at);
        rank(a).cmp(&rank(b)).then(share(b).total_cmp(&share(a))).then(id(a).cmp(&id(b)))
    });

    let mut ranking: Vec<RankedOption> = order
        .iter()
        .filter_map(|at| {
            let mut option = ranked(known.get(*at)?, criteria);
            let (a, b, c) = (spotis.ranks.get(*at)?, sum.ranks.get(*at)?, topsis.ranks.get(*at)?);
            option.ranks = Some(Ranks { spotis: *a, weighted_sum: *b, topsis: *c });
            option.rank = Some(*a);
            option.utility = spotis.scores.get(*at).copied();
            option.scores = Some(MethodScores {
                spotis: *spotis.scores.get(*at)?,
                weighted_sum: *sum.scores.get(*at)?,
                topsis: *topsis.scores.get(*at)?,
            });
            Some(option)
        })
        .collect();
    let mut ranges: Vec<RankedOption> = open
        .iter()
        .map(|candidate| {
            let mut option = ranked(candidate, criteria);
            option.utility_range = Some(utility_range(candidate, criteria));
            option
        })
        .collect();
    let top = |option: &RankedOption| option.utility_range.map_or(0.0, |[_, high]| high);
    ranges.sort_by(|a, b| top(b).total_cmp(&top(a)).then(a.option.cmp(&b.option)));

    let leader = order.first().copied();
    let best = ranking.first().and_then(|option| option.utility);
    let could_lead: Vec<&&Candidate> = open
        .iter()
        .filter(|candidate| best.is_none_or(|best| utility_range(candidate, criteria)[1] >= best))
        .collect();
    let leader_share = leader.and_then(|at| shares.get(at)).map_or(0.0, |share| share.spotis);
    let outcome = if candidates.is_empty() {
        Outcome::NothingLeft
    } else if !could_lead.is_empty() {
        Outcome::Insufficient
    } else if leader_share >= rules.min_share {
        Outcome::Winner
    } else {
        Outcome::Close
    };
    let next = match outcome {
        Outcome::Insufficient => most_wanted(&could_lead, criteria),
        Outcome::Close => order
            .get(..2)
            .and_then(|two| settles(two.iter().filter_map(|at| known.get(*at).copied()), criteria)),
        _ => None,
    };
    let flip_points = flip_points(&matrix, &order, &weighed, criteria, &known);
    let next = next.or_else(|| {
        let nearest = flip_points.first().filter(|_| outcome == Outcome::Close)?;
        Some(NextMeasurement {
            fact: format!("weights.{}", nearest.criterion),
            why: format!(
                "No fact is in doubt; how much {} counts is: at a weight of {} in place of {}, \
                 {} draws level.",
                nearest.criterion,
                short(nearest.flips_at),
                short(nearest.weight),
                nearest.rival
            ),
        })
    });
    let confidence = leader
        .and_then(|at| shares.get(at))
        .filter(|_| known.len() > 1)
        .map(|share| rounded((share.spotis + share.weighted_sum + share.topsis) / 3.0));
    let dominated = matrix.dominated();
    let name = |at: usize| known.get(at).map(|candidate| candidate.id.clone());
    let dominated = dominated
        .iter()
        .enumerate()
        .filter_map(|(at, by)| Some(Dominated { option: name(at)?, by: name((*by)?)? }))
        .collect();
    let shares = order
        .iter()
        .filter_map(|at| Some(Share { option: name(*at)?, first_places: *shares.get(*at)? }))
        .collect();
    ranking.extend(ranges);
    Weighed {
        confidence: confidence.filter(|_| matches!(outcome, Outcome::Winner | Outcome::Close)),
        outcome,
        ranking,
        dominated,
        flip_points,
        stability: Stability { draws: rules.draws, concentration: rules.concentration, shares },
        next,
    }
}

fn cells<'a>(candidate: &'a Candidate, weighed: &'a [usize]) -> impl Iterator<Item = &'a Cell> {
    weighed.iter().filter_map(|at| candidate.cells.get(*at))
}

/// Facts without which a candidate cannot be placed.
fn missing<'a>(candidate: &'a Candidate, weighed: &'a [usize]) -> impl Iterator<Item = &'a String> {
    cells(candidate, weighed).flat_map(|cell| &cell.missing).chain(&candidate.unsettled)
}

fn ranked(candidate: &Candidate, criteria: &[Criterion]) -> RankedOption {
    let contribution = |(criterion, cell): (&Criterion, &Cell)| {
        let value = cell.value();
        let utility = value.map(|value| rounded(criterion.axis.utility(value)));
        Contribution {
            criterion: criterion.id.clone(),
            value,
            weight: criterion.axis.weight,
            utility,
            points: utility.map(|utility| rounded(criterion.axis.weight * utility)),
        }
    };
    RankedOption {
        option: candidate.id.clone(),
        title: candidate.title.clone(),
        target: candidate.target.clone(),
        cost: candidate.cost,
        duration_days: candidate.duration_days,
        rank: None,
        utility: None,
        utility_range: None,
        ranks: None,
        scores: None,
        contributions: criteria.iter().zip(&candidate.cells).map(contribution).collect(),
    }
}

/// The utilities at both ends of a cell, the lower one first.
fn ends(criterion: &Criterion, cell: &Cell) -> [f64; 2] {
    let (a, b) = (criterion.axis.utility(cell.low), criterion.axis.utility(cell.high));
    [a.min(b), a.max(b)]
}

fn utility_range(candidate: &Candidate, criteria: &[Criterion]) -> [f64; 2] {
    let (mut low, mut high) = (0.0, 0.0);
    for (criterion, cell) in criteria.iter().zip(&candidate.cells) {
        let [worst, best] = ends(criterion, cell);
        low += criterion.axis.weight * worst;
        high += criterion.axis.weight * best;
    }
    [rounded(low), rounded(high)]
}

/// The missing fact that leaves most of the utility open among those who could
/// lead.
fn most_wanted(could_lead: &[&&Candidate], criteria: &[Criterion]) -> Option<NextMeasurement> {
    let mut wanted: Option<(f64, &str, &str)> = None;
    for candidate in could_lead {
        for (criterion, cell) in criteria.iter().zip(&candidate.cells) {
            let [worst, best] = ends(criterion, cell);
            let open = criterion.axis.weight * (best - worst);
            for fact in &cell.missing {
                if open > 0.0 && wanted.is_none_or(|(most, ..)| open > most) {
                    wanted = Some((open, fact, &candidate.id));
                }
            }
        }
    }
    let unsettled = || {
        let mut facts = could_lead.iter().flat_map(|c| c.unsettled.iter().map(|f| (f, &c.id)));
        facts.next().map(|(fact, option)| NextMeasurement {
            fact: fact.clone(),
            why: format!("Without it nobody can say whether {option} keeps the constraints."),
        })
    };
    let found = wanted.map(|(open, fact, option)| NextMeasurement {
        fact: fact.to_owned(),
        why: format!(
            "It is not known, and it leaves {} of the utility of {option} open, which could lead.",
            short(open)
        ),
    });
    found.or_else(unsettled)
}

/// Of the first two, the fact whose interval moves their utilities most.
fn settles<'a>(
    two: impl Iterator<Item = &'a Candidate>,
    criteria: &[Criterion],
) -> Option<NextMeasurement> {
    let mut most: Option<(f64, &str)> = None;
    for candidate in two {
        for (criterion, cell) in criteria.iter().zip(&candidate.cells) {
            let Axis { weight, low, high, .. } = criterion.axis;
            let moves = weight * cell.spread / (high - low);
            if let Some(fact) = cell.facts.first()
                && moves > 0.0
                && most.is_none_or(|(known, _)| moves > known)
            {
                most = Some((moves, fact));
            }
        }
    }
    most.map(|(moves, fact)| NextMeasurement {
        fact: fact.to_owned(),
        why: format!(
            "Within its 95 % interval it moves a utility by {}, more than any other fact of the \
             first two.",
            short(moves)
        ),
    })
}

/// For each criterion the weight nearest to today's at which somebody else
/// would lead.
fn flip_points(
    matrix: &Matrix,
    order: &[usize],
    weighed: &[usize],
    criteria: &[Criterion],
    known: &[&Candidate],
) -> Vec<FlipPoint> {
    let Some((leader, rivals)) = order.split_first() else { return Vec::new() };
    let utilities = matrix.utilities();
    let Some(leading) = utilities.get(*leader) else { return Vec::new() };
    let mut points: Vec<FlipPoint> = weighed
        .iter()
        .enumerate()
        .filter_map(|(column, at)| {
            let criterion = criteria.get(*at)?;
            let weight = criterion.axis.weight;
            let flips = rivals.iter().filter_map(|rival| {
                let at = matrix.flip_point(leading, utilities.get(*rival)?, column)?;
                Some((at, known.get(*rival)?))
            });
            let nearest =
                flips.min_by(|(a, _), (b, _)| (a - weight).abs().total_cmp(&(b - weight).abs()))?;
            Some(FlipPoint {
                criterion: criterion.id.clone(),
                weight,
                flips_at: nearest.0,
                rival: nearest.1.id.clone(),
            })
        })
        .collect();
    points.sort_by(|a, b| {
        let distance = |point: &FlipPoint| (point.flips_at - point.weight).abs();
        distance(a).total_cmp(&distance(b)).then(a.criterion.cmp(&b.criterion))
    });
    points
}

/// A number for a sentence: four decimals at most.
pub fn short(value: f64) -> String {
    format!("{}", (value * 1e4).round() / 1e4 + 0.0)
}

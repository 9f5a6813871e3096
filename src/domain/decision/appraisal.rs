//! The appraisal of an investment: what it returns, what it risks, how
//! pressing it is, and what follows from the three by a policy.
//!
//! No missing fact is replaced by a default. Without cost or revenue there is
//! no ROI and no verdict. A risk input that is not given is taken as anything
//! from 0 to 10: the verdict stands if all of those lead to it, and is not
//! given otherwise.
//!
//! An input may be a range. Then draws of all ranges are appraised one by one,
//! and a verdict is given only if enough of them agree on it. Numbers that are
//! shown for a range are those at its mode.

use super::chance::{Chance, Purpose};
use super::estimate::Estimate;
#[cfg(not(target_arch = "wasm32"))]
use super::estimate::limits;
use super::measurement::NextMeasurement;
use super::plan::PlanPhase;
use super::policy::{AppraisalPolicy, ApprovalRule, Policy, PriorityLimits};
use super::present_value::CashFlow;
use super::priority::Priority;
use super::success::{Comparator, SuccessCriterion, day_after};
use crate::domain::time::Timestamp;
use crate::domain::validation::FieldError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MAX_TITLE_CHARS: usize = 200;
const MAX_DESCRIPTION_CHARS: usize = 2_000;
/// Largest amount: whole units stay exact in a float, with room to multiply.
const MAX_AMOUNT: f64 = 1e15;
/// Smallest cost: keeps ROI finite, at most 10^23 %.
const MIN_COST: f64 = 1e-6;
const MAX_DAYS: f64 = 3_650.0;
const MAX_RATE_PERCENT: f64 = 1_000.0;

/// The ends of a risk input's scale.
const LEAST: f64 = 0.0;
const MOST: f64 = 10.0;

/// What is known of an investment. Everything is optional; amounts of money
/// are in one currency, which the rules do not need to know. A number may be
/// given as a range, `{low, mode, high}` with `low <= mode <= high`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AppraisalContext {
    /// At most 200 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_TITLE_CHARS)))]
    pub title: Option<String>,
    /// At most 2000 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_DESCRIPTION_CHARS)))]
    pub description: Option<String>,
    /// Money spent on day 0, above 0: 0.000001 to 1e15.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", MIN_COST, MAX_AMOUNT)))]
    pub estimated_cost: Option<Estimate>,
    /// Money, 0 or more.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", 0.0, MAX_AMOUNT)))]
    pub expected_revenue: Option<Estimate>,
    /// Days from the decision to the delivery, above 0 and at most 3650.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("exclusiveMinimum", 0.0, MAX_DAYS)))]
    pub estimated_days: Option<Estimate>,
    /// What money costs, percent a year, 0 to 1000.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", 0.0, MAX_RATE_PERCENT)))]
    pub annual_discount_rate_percent: Option<Estimate>,
    /// Days over which the revenue arrives, evenly, from the delivery on;
    /// above 0 and at most 3650. Left out: it arrives at once at the delivery.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("exclusiveMinimum", 0.0, MAX_DAYS)))]
    pub revenue_period_days: Option<Estimate>,
    /// 0 (simple) to 10.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", LEAST, MOST)))]
    pub technical_complexity: Option<Estimate>,
    /// 0 (certain) to 10.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", LEAST, MOST)))]
    pub market_uncertainty: Option<Estimate>,
    /// 0 (none) to 10 (all there).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", LEAST, MOST)))]
    pub resource_availability: Option<Estimate>,
    /// 0 (no deadline) to 10.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", LEAST, MOST)))]
    pub timeline_pressure: Option<Estimate>,
    /// Money at stake, 0 or more; above the policy's limit the priority is
    /// critical.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", 0.0, MAX_AMOUNT)))]
    pub revenue_impact: Option<Estimate>,
    /// Customers touched, 0 or more; above the policy's limit the priority is
    /// at least high.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", 0.0, MAX_AMOUNT)))]
    pub customer_impact: Option<Estimate>,
    /// Size of the effect on operations, 0 or more; above the policy's limit
    /// the priority is at least medium.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(transform = limits("minimum", 0.0, MAX_AMOUNT)))]
    pub operational_impact: Option<Estimate>,
    pub affects_customers: Option<bool>,
    pub affects_revenue: Option<bool>,
    pub affects_operations: Option<bool>,
    pub affects_security: Option<bool>,
    pub affects_compliance: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Decision {
    ApproveImmediate,
    ApproveScheduled,
    ApproveConditional,
    DeferOrReject,
    /// The facts that are missing could turn the verdict.
    InsufficientData,
    /// The ranges could turn the verdict: too few draws agree on one.
    NoDefensibleWinner,
}

impl Decision {
    /// What one set of numbers can lead to, the best first.
    const OUTCOMES: [Self; 5] = [
        Self::ApproveImmediate,
        Self::ApproveScheduled,
        Self::ApproveConditional,
        Self::DeferOrReject,
        Self::InsufficientData,
    ];

    /// As it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApproveImmediate => "APPROVE_IMMEDIATE",
            Self::ApproveScheduled => "APPROVE_SCHEDULED",
            Self::ApproveConditional => "APPROVE_CONDITIONAL",
            Self::DeferOrReject => "DEFER_OR_REJECT",
            Self::InsufficientData => "INSUFFICIENT_DATA",
            Self::NoDefensibleWinner => "NO_DEFENSIBLE_WINNER",
        }
    }

    /// Whether no verdict is given.
    pub const fn is_abstention(self) -> bool {
        matches!(self, Self::InsufficientData | Self::NoDefensibleWinner)
    }
}

/// What the rules say of an investment, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Appraisal {
    pub decision: Decision,
    /// Whether no verdict is given: `INSUFFICIENT_DATA` or
    /// `NO_DEFENSIBLE_WINNER`.
    pub abstained: bool,
    /// 0 to 1: the share of the draws that came to this decision. Null where
    /// no verdict was drawn (no input of it is a range), and for
    /// `NO_DEFENSIBLE_WINNER`, which no single draw comes to.
    pub confidence: Option<f64>,
    /// What would help most. Where facts are missing: the first of cost,
    /// revenue and the risk inputs that is not given. Where no verdict is
    /// defensible: the range which, fixed at its mode, raises the largest
    /// share of a verdict most; null if none does.
    pub next_best_measurement: Option<NextMeasurement>,
    /// One sentence a term, with the numbers it rests on.
    pub rationale: String,
    /// For an approval, phases that add up to `estimated_days`. Else what to
    /// find out, which has no duration.
    pub implementation_plan: Vec<PlanPhase>,
    pub success_metrics: Vec<String>,
    /// The metrics of an approval, to compare with what is observed; else
    /// empty, as nothing is undertaken.
    pub success_criteria: Vec<SuccessCriterion>,
    pub risk_mitigation: Vec<String>,
    #[serde(flatten)]
    pub figures: AppraisalFigures,
}

/// The figures of an appraisal. Where an input is a range, they are those at
/// its mode unless they are said to be of the draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AppraisalFigures {
    /// Shares of the draws by what they came to, which add up to 1. A draw
    /// whose verdict hangs on missing inputs counts as `INSUFFICIENT_DATA`.
    /// Null where no input of ROI, risk or priority is a range.
    pub verdict_probabilities: Option<BTreeMap<String, f64>>,
    /// Null where there is no verdict and no impact was stated.
    pub priority: Option<Priority>,
    /// Percent: `(expected_revenue − estimated_cost) / estimated_cost · 100`.
    pub roi_percent: Option<f64>,
    /// The 2.5 % and 97.5 % quantiles of the draws, in percent; the p-quantile
    /// of n draws is the one of rank ⌈p·n⌉ from the lowest (type 1 of Hyndman
    /// and Fan, 1996). Null where neither cost nor revenue is a range.
    pub roi_interval_percent: Option<[f64; 2]>,
    /// 0 to 1: the mean of `technical_complexity`, `market_uncertainty`,
    /// `10 − resource_availability` and `timeline_pressure`, over 10. Null
    /// unless all four are given.
    pub risk: Option<f64>,
    /// The lowest and highest risk that the missing inputs leave open. Null
    /// where `risk` is known.
    pub risk_range: Option<[f64; 2]>,
    /// Net present value in money, the cost paid on day 0 and the revenue
    /// received at `estimated_days`, or evenly over `revenue_period_days` from
    /// then on: with `δ = ln(1 + annual_discount_rate_percent/100)` per 365
    /// days, `revenue · e^(−δ·days/365) · (1 − e^(−x))/x − cost`,
    /// `x = δ·revenue_period_days/365`, without the last factor where all
    /// arrives at once. Null unless cost, revenue, days and rate are given.
    pub npv: Option<f64>,
    /// Quantiles of the draws, as of `roi_interval_percent`. Null where there
    /// is no NPV or none of its inputs is a range.
    pub npv_interval: Option<[f64; 2]>,
    /// Days from the decision until the revenue received covers the cost. Null
    /// where it never does, and unless cost, revenue and days are given.
    pub payback_days: Option<f64>,
    /// The same with the revenue discounted to day 0; null also without a
    /// rate.
    pub discounted_payback_days: Option<f64>,
    /// Inputs of the verdict that were not given: cost, revenue, risk inputs.
    pub missing: Vec<String>,
}

/// All inputs that are numbers.
const INPUTS: usize = 12;
/// Those of ROI, risk and priority, which come first.
const DECISIVE: usize = 9;

impl AppraisalContext {
    /// The inputs by name, in the order in which they are drawn. The order is
    /// part of what a seed means: a new input goes to the end.
    fn inputs(&self) -> [(&'static str, Option<Estimate>); INPUTS] {
        [
            ("estimated_cost", self.estimated_cost),
            ("expected_revenue", self.expected_revenue),
            ("technical_complexity", self.technical_complexity),
            ("market_uncertainty", self.market_uncertainty),
            ("resource_availability", self.resource_availability),
            ("timeline_pressure", self.timeline_pressure),
            ("revenue_impact", self.revenue_impact),
            ("customer_impact", self.customer_impact),
            ("operational_impact", self.operational_impact),
            ("estimated_days", self.estimated_days),
            ("annual_discount_rate_percent", self.annual_discount_rate_percent),
            ("revenue_period_days", self.revenue_period_days),
        ]
    }

    /// Every field out of its range; empty for a valid context.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (name, text, limit) in [
            ("title", &self.title, MAX_TITLE_CHARS),
            ("description", &self.description, MAX_DESCRIPTION_CHARS),
        ] {
            if text.as_ref().is_some_and(|text| text.chars().count() > limit) {
                let detail = format!("must be at most {limit} characters");
                errors.push(FieldError::new(format!("/{name}"), detail));
            }
        }
        let cost = (
            MIN_COST..=MAX_AMOUNT,
            "must be above 0 (0.000001 to 1e15): a cost of 0 leaves ROI undefined",
        );
        let amount = (0.0..=MAX_AMOUNT, "must be a number from 0 to 1e15");
        let days = (f64::from_bits(1)..=MAX_DAYS, "must be above 0 and at most 3650 days");
        let rate = (0.0..=MAX_RATE_PERCENT, "must be a number from 0 to 1000");
        let scale = (LEAST..=MOST, "must be a number from 0 to 10");
        for (name, value) in self.inputs() {
            let (range, detail) = match name {
                "estimated_cost" => &cost,
                "estimated_days" | "revenue_period_days" => &days,
                "annual_discount_rate_percent" => &rate,
                "technical_complexity"
                | "market_uncertainty"
                | "resource_availability"
                | "timeline_pressure" => &scale,
                _ => &amount,
            };
            if let Some(value) = value {
                value.check(&format!("/{name}"), range, detail, &mut errors);
            }
        }
        errors
    }

    fn modes(&self) -> Numbers {
        Numbers(self.inputs().map(|(_, input)| input.map(Estimate::mode)))
    }

    /// The names of those that are ranges.
    fn ranges(&self) -> Vec<&'static str> {
        let is_range = |input: &Option<Estimate>| input.is_some_and(Estimate::is_range);
        let ranges = self.inputs().into_iter().filter(|(_, input)| is_range(input));
        ranges.map(|(name, _)| name).collect()
    }

    fn has_range_in(&self, names: &[&str]) -> bool {
        self.ranges().iter().any(|name| names.contains(name))
    }

    /// After a number that rests on these inputs.
    fn at_modes(&self, names: &[&str]) -> &'static str {
        if self.has_range_in(names) { " at the modes" } else { "" }
    }
}

const RISK_INPUTS: [&str; 4] =
    ["technical_complexity", "market_uncertainty", "resource_availability", "timeline_pressure"];
const ROI_INPUTS: [&str; 2] = ["estimated_cost", "expected_revenue"];
const NPV_INPUTS: [&str; 5] = [
    "estimated_cost",
    "expected_revenue",
    "estimated_days",
    "annual_discount_rate_percent",
    "revenue_period_days",
];

/// The inputs at one point, in the order of [`AppraisalContext::inputs`]: all
/// at their modes, or one draw of them.
#[derive(Clone, Copy)]
struct Numbers([Option<f64>; INPUTS]);

impl Numbers {
    fn cost(&self) -> Option<f64> {
        let Self([cost, ..]) = *self;
        cost
    }

    fn revenue(&self) -> Option<f64> {
        let Self([_, revenue, ..]) = *self;
        revenue
    }

    fn days(&self) -> Option<f64> {
        let Self([.., days, _, _]) = *self;
        days
    }

    fn rate_percent(&self) -> Option<f64> {
        let Self([.., rate, _]) = *self;
        rate
    }

    fn period_days(&self) -> Option<f64> {
        let Self([.., period]) = *self;
        period
    }

    fn roi_percent(&self) -> Option<f64> {
        let cost = self.cost().filter(|cost| *cost > 0.0)?;
        let revenue = self.revenue()?;
        Some(rounded((revenue - cost) / cost * 100.0))
    }

    /// The terms of the risk, 0 to 10 each, in the order of [`RISK_INPUTS`]. A
    /// lack of resources is the risk, so availability counts down from 10.
    fn risk_terms(&self) -> [Option<f64>; 4] {
        let Self([_, _, complexity, uncertainty, availability, pressure, ..]) = *self;
        [complexity, uncertainty, availability.map(|given| MOST - given), pressure]
    }

    fn named_risk_terms(&self) -> impl Iterator<Item = (&'static str, Option<f64>)> {
        RISK_INPUTS.into_iter().zip(self.risk_terms())
    }

    fn missing_risk_inputs(&self) -> Vec<&'static str> {
        let missing = self.named_risk_terms().filter(|(_, term)| term.is_none());
        missing.map(|(name, _)| name).collect()
    }

    /// Risk with every missing term at its least and at its most.
    fn risk_range(&self) -> [f64; 2] {
        [LEAST, MOST].map(|unknown| {
            let sum: f64 = self.risk_terms().iter().map(|term| term.unwrap_or(unknown)).sum();
            rounded(sum / (4.0 * MOST))
        })
    }

    /// The impacts, each with the priority it brings and the value above which
    /// it does, most pressing first.
    fn impacts(&self, limits: &PriorityLimits) -> [(&'static str, Option<f64>, f64, Priority); 3] {
        let Self([_, _, _, _, _, _, revenue, customers, operations, ..]) = *self;
        [
            ("revenue_impact", revenue, limits.critical_revenue_impact, Priority::Critical),
            ("customer_impact", customers, limits.high_customer_impact, Priority::High),
            ("operational_impact", operations, limits.medium_operational_impact, Priority::Medium),
        ]
    }

    fn has_impacts(&self, limits: &PriorityLimits) -> bool {
        self.impacts(limits).iter().any(|(_, value, ..)| value.is_some())
    }

    fn priority(&self, limits: &PriorityLimits) -> Priority {
        let decisive = self
            .impacts(limits)
            .into_iter()
            .find(|(_, value, limit, _)| value.is_some_and(|value| value > *limit));
        decisive.map_or(Priority::Low, |(.., priority)| priority)
    }

    /// The verdicts at the lowest and at the highest risk.
    fn ends(&self, policy: &AppraisalPolicy) -> Option<[Decision; 2]> {
        let roi_percent = self.roi_percent()?;
        let priority = self.priority(&policy.priorities);
        Some(self.risk_range().map(|risk| verdict(policy, priority, roi_percent, risk)))
    }

    /// What these numbers lead to, without a look at ranges.
    fn outcome(&self, policy: &AppraisalPolicy) -> Decision {
        match self.ends(policy) {
            // The verdict gets no better as risk rises, so equal ends mean the
            // same all between.
            Some([best, worst]) if best == worst => best,
            _ => Decision::InsufficientData,
        }
    }

    fn cash_flow(&self) -> Option<CashFlow> {
        Some(CashFlow {
            cost: self.cost()?,
            revenue: self.revenue()?,
            delivered_day: self.days()?,
            period_days: self.period_days(),
        })
    }

    fn npv(&self) -> Option<f64> {
        Some(rounded(self.cash_flow()?.npv(self.rate_percent()?)))
    }
}

/// Nine decimals, and no negative zero. Amounts that are not exact in binary
/// would otherwise tip a limit: 0.7 to 2.1 is an ROI of 200 %, which floats
/// make 200.00000000000003.
fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9 + 0.0
}

impl ApprovalRule {
    fn is_open_to(&self, priority: Priority) -> bool {
        self.priorities.contains(&priority)
    }

    fn is_open_to_all(&self) -> bool {
        Priority::ALL.into_iter().all(|priority| self.is_open_to(priority))
    }

    fn holds(&self, priority: Priority, roi_percent: f64, risk: f64) -> bool {
        self.is_open_to(priority) && roi_percent > self.roi_above_percent && risk < self.risk_below
    }

    /// Whether it holds wherever `other` does.
    fn covers(&self, other: &Self) -> bool {
        other.priorities.iter().all(|priority| self.is_open_to(*priority))
            && self.roi_above_percent <= other.roi_above_percent
            && self.risk_below >= other.risk_below
    }

    /// `critical or high`.
    fn priority_words(&self) -> String {
        let open = Priority::ALL.into_iter().filter(|priority| self.is_open_to(*priority));
        listed(&open.map(Priority::word).collect::<Vec<_>>(), "or")
    }

    /// As a sentence says that it holds.
    fn conditions(&self) -> String {
        let Self { roi_above_percent: roi, risk_below: risk, .. } = self;
        if self.is_open_to_all() {
            return format!("ROI is above {roi} % and risk below {risk}");
        }
        let priorities = self.priority_words();
        format!("priority is {priorities}, ROI above {roi} % and risk below {risk}")
    }

    /// As a sentence says what it asks for.
    fn demands(&self) -> String {
        let Self { roi_above_percent: roi, risk_below: risk, .. } = self;
        if self.is_open_to_all() {
            return format!("ROI above {roi} % and risk below {risk}");
        }
        let priorities = self.priority_words();
        format!("a priority of {priorities} with ROI above {roi} % and risk below {risk}")
    }
}

/// The verdict of the first rule that holds, the best tried first; never an
/// abstention. It gets no worse as ROI rises and no better as risk does, which
/// [`Numbers::outcome`] relies on, whatever the numbers of the policy are:
/// each rule asks for ROI above and risk below a limit, so a rule that held
/// still holds at more ROI or less risk, and the first of more rules comes no
/// later.
fn verdict(policy: &AppraisalPolicy, priority: Priority, roi_percent: f64, risk: f64) -> Decision {
    let first = Decision::OUTCOMES
        .into_iter()
        .zip(policy.approvals())
        .find(|(_, rule)| rule.holds(priority, roi_percent, risk));
    first.map_or(Decision::DeferOrReject, |(approval, _)| approval)
}

/// Counts of outcomes, in the order of [`Decision::OUTCOMES`].
#[derive(Clone, Copy, Default)]
struct Tally([u32; 5]);

impl Tally {
    fn add(&mut self, outcome: Decision) {
        for (known, count) in Decision::OUTCOMES.iter().zip(&mut self.0) {
            *count += u32::from(*known == outcome);
        }
    }

    fn by_outcome(&self) -> impl Iterator<Item = (Decision, u32)> {
        Decision::OUTCOMES.into_iter().zip(self.0)
    }

    fn of(&self, outcome: Decision) -> u32 {
        self.by_outcome().find(|(known, _)| *known == outcome).map_or(0, |(_, count)| count)
    }

    /// The verdict of most draws, with their number: the better one of equals.
    fn leader(&self) -> (Decision, u32) {
        let mut leader = (Decision::ApproveImmediate, self.of(Decision::ApproveImmediate));
        for (verdict, count) in self.by_outcome().filter(|(known, _)| !known.is_abstention()) {
            if count > leader.1 {
                leader = (verdict, count);
            }
        }
        leader
    }
}

/// What draws of the ranges came to.
struct Draws {
    /// How many there were, at least 1.
    n: u32,
    /// `None` where no input of the verdict is a range.
    outcomes: Option<Tally>,
    /// For each decisive input that is a range, what the same draws come to
    /// with that input at its mode.
    fixed: [Option<Tally>; DECISIVE],
    roi_interval_percent: Option<[f64; 2]>,
    npv_interval: Option<[f64; 2]>,
}

impl Draws {
    /// Each draw takes one number of the stream for each of the inputs, in the
    /// order of [`AppraisalContext::inputs`], even if the input is known or
    /// missing: so what becomes known changes no other input's draws, and
    /// `fixed` is just what the same seed gives once it is known.
    fn of(context: &AppraisalContext, policy: &Policy, seed: &[u8; 32]) -> Option<Self> {
        let inputs = context.inputs().map(|(_, input)| input);
        let is_range = |input: &Option<Estimate>| input.is_some_and(Estimate::is_range);
        if !inputs.iter().any(is_range) {
            return None;
        }
        let n = policy.stability.draws.max(1);
        let Numbers(modes) = context.modes();
        let has_verdicts = inputs.iter().take(DECISIVE).any(is_range);
        let mut outcomes = Tally::default();
        let mut fixed: [Option<Tally>; DECISIVE] = Default::default();
        for (tally, input) in fixed.iter_mut().zip(&inputs) {
            *tally = is_range(input).then(Tally::default);
        }
        let mut rois = Sample::of(n, context.has_range_in(&ROI_INPUTS));
        let mut npvs = Sample::of(n, context.has_range_in(&NPV_INPUTS));
        let mut chance = Chance::new(seed, Purpose::Estimates);
        for _ in 0..n {
            let drawn = inputs.map(|input| match input {
                Some(estimate) => Some(estimate.draw(&mut chance)),
                None => {
                    chance.uniform();
                    None
                }
            });
            let numbers = Numbers(drawn);
            rois.add(|| numbers.roi_percent());
            npvs.add(|| numbers.npv());
            if !has_verdicts {
                continue;
            }
            outcomes.add(numbers.outcome(&policy.appraisal));
            for (at, tally) in fixed.iter_mut().enumerate() {
                let Some(tally) = tally else { continue };
                let mut numbers = numbers;
                if let (Some(value), Some(mode)) = (numbers.0.get_mut(at), modes.get(at)) {
                    *value = *mode;
                }
                tally.add(numbers.outcome(&policy.appraisal));
            }
        }
        Some(Self {
            n,
            outcomes: has_verdicts.then_some(outcomes),
            fixed,
            roi_interval_percent: rois.interval(),
            npv_interval: npvs.interval(),
        })
    }

    fn share(&self, count: u32) -> f64 {
        f64::from(count) / f64::from(self.n)
    }

    /// The decision by these shares. Missing facts come first: while they
    /// leave more draws open than any verdict has, or as many, no range is the
    /// reason. Verdicts with equal shares are no winner, even where half is
    /// enough.
    fn decision(&self, outcomes: &Tally, min_share: f64) -> Decision {
        let (leader, most) = outcomes.leader();
        let equals =
            outcomes.by_outcome().filter(|(known, count)| !known.is_abstention() && *count == most);
        if outcomes.of(Decision::InsufficientData) >= most {
            Decision::InsufficientData
        } else if equals.count() == 1 && self.share(most) >= min_share {
            leader
        } else {
            Decision::NoDefensibleWinner
        }
    }
}

/// Numbers of draws, if they are wanted.
struct Sample(Option<Vec<f64>>);

impl Sample {
    fn of(n: u32, is_wanted: bool) -> Self {
        Self(is_wanted.then(|| Vec::with_capacity(n as usize)))
    }

    fn add(&mut self, number: impl FnOnce() -> Option<f64>) {
        if let Some(numbers) = &mut self.0 {
            numbers.extend(number());
        }
    }

    /// The 2.5 % and 97.5 % quantiles: of n numbers those of rank ⌈n/40⌉ and
    /// ⌈39n/40⌉ from the lowest (Hyndman and Fan 1996, type 1).
    fn interval(self) -> Option<[f64; 2]> {
        let mut numbers = self.0?;
        let n = numbers.len();
        numbers.sort_unstable_by(f64::total_cmp);
        let ranked = |rank: usize| numbers.get(rank.checked_sub(1)?).copied();
        Some([ranked(n.div_ceil(40))?, ranked((39 * n).div_ceil(40))?])
    }
}

/// Appraises a context that [`AppraisalContext::validate`] found valid, by a
/// valid policy. Of any other the result means nothing, but there is one.
/// Ranges are drawn from `seed`; without a range it has no effect. The
/// investment is taken to start at `at`.
pub fn appraise(
    context: &AppraisalContext,
    policy: &Policy,
    seed: &[u8; 32],
    at: Timestamp,
) -> Appraisal {
    let case = Case { context, policy, modes: context.modes(), at };
    let Case { modes, .. } = case;
    let limits = &policy.appraisal.priorities;
    let roi_percent = modes.roi_percent();
    let risk_range = modes.risk_range();
    let [_, highest_risk] = risk_range;

    let draws = Draws::of(context, policy, seed);
    let drawn = draws.as_ref().and_then(|draws| Some((draws, draws.outcomes?)));
    let decision = match &drawn {
        Some((draws, outcomes)) => draws.decision(outcomes, policy.stability.min_share),
        None => modes.outcome(&policy.appraisal),
    };

    let missing_risk_inputs = modes.missing_risk_inputs();
    let risk_is_known = missing_risk_inputs.is_empty();
    let money = ROI_INPUTS.into_iter().zip([modes.cost(), modes.revenue()]);
    let missing_money = money.filter(|(_, value)| value.is_none()).map(|(name, _)| name);
    let missing: Vec<String> =
        missing_money.chain(missing_risk_inputs).map(str::to_owned).collect();

    let measurement = match (decision, &draws) {
        (Decision::InsufficientData, _) => case.missing_fact(&missing),
        (Decision::NoDefensibleWinner, Some(draws)) => case.narrowing(draws),
        _ => None,
    };
    let mut success_criteria = Vec::new();
    let (implementation_plan, success_metrics) = match (decision, roi_percent) {
        (Decision::NoDefensibleWinner, _) => {
            find_out("Evidence", case.open_ranges(measurement.as_ref(), &missing))
        }
        (Decision::InsufficientData, _) | (_, None) => find_out("Evidence", unknowns(&missing)),
        (Decision::DeferOrReject, Some(roi)) => {
            find_out("Reconsideration", case.obstacles(roi, drawn))
        }
        (approval, Some(roi)) => {
            let goals = case.success(roi);
            success_criteria.extend(goals.iter().map(|goal| goal.criterion.clone()));
            let metrics = goals.into_iter().map(|goal| goal.sentence).collect();
            (case.plan_of_work(approval), metrics)
        }
    };

    let mut rationale = vec![case.explain_roi(), case.explain_risk(drawn.is_some())];
    rationale.extend(case.explain_timing());
    rationale.push(case.explain_priority());
    rationale.extend(draws.as_ref().map(|draws| case.explain_draws(draws)));
    rationale.push(case.explain_decision(decision, drawn));
    if implementation_plan.iter().any(|phase| phase.duration_days.is_some()) {
        rationale.push(case.explain_phases());
    }

    let rate_percent = modes.rate_percent();
    let flow = modes.cash_flow();
    Appraisal {
        decision,
        abstained: decision.is_abstention(),
        confidence: drawn
            .filter(|_| decision != Decision::NoDefensibleWinner)
            .map(|(draws, outcomes)| draws.share(outcomes.of(decision))),
        next_best_measurement: measurement,
        rationale: rationale.join(" "),
        implementation_plan,
        success_metrics,
        success_criteria,
        risk_mitigation: case.risk_mitigation(),
        figures: AppraisalFigures {
            verdict_probabilities: drawn.map(|(draws, outcomes)| {
                let share = |(known, count): (Decision, u32)| {
                    (known.as_str().to_owned(), draws.share(count))
                };
                outcomes.by_outcome().map(share).collect()
            }),
            priority: (!decision.is_abstention() || modes.has_impacts(limits))
                .then(|| modes.priority(limits)),
            roi_percent,
            roi_interval_percent: draws.as_ref().and_then(|draws| draws.roi_interval_percent),
            risk: risk_is_known.then_some(highest_risk),
            risk_range: (!risk_is_known).then_some(risk_range),
            npv: modes.npv(),
            npv_interval: draws.as_ref().and_then(|draws| draws.npv_interval),
            payback_days: flow.and_then(|flow| flow.payback_days()).map(rounded),
            discounted_payback_days: flow
                .zip(rate_percent)
                .and_then(|(flow, rate)| flow.discounted_payback_days(rate))
                .map(rounded),
            missing,
        },
    }
}

/// What verdicts were drawn.
type Drawn<'a> = Option<(&'a Draws, Tally)>;

/// An appraisal in the making.
#[derive(Clone, Copy)]
struct Case<'a> {
    context: &'a AppraisalContext,
    policy: &'a Policy,
    modes: Numbers,
    at: Timestamp,
}

/// Something to find out before an approval is possible.
struct Question {
    activity: String,
    /// What holds once it has a good answer.
    metric: String,
}

/// Something that has to come true, in words and in numbers.
struct Goal {
    sentence: String,
    criterion: SuccessCriterion,
}

impl Case<'_> {
    fn rules(&self) -> &AppraisalPolicy {
        &self.policy.appraisal
    }

    fn impacts(&self) -> [(&'static str, Option<f64>, f64, Priority); 3] {
        self.modes.impacts(&self.rules().priorities)
    }

    fn explain_roi(&self) -> String {
        let modes = &self.modes;
        match (modes.roi_percent(), modes.cost(), modes.revenue()) {
            (Some(roi), Some(cost), Some(revenue)) => {
                let at_modes = self.context.at_modes(&ROI_INPUTS);
                format!(
                    "ROI is {roi} %{at_modes}: (expected_revenue {revenue} − estimated_cost \
                     {cost}) / {cost} · 100."
                )
            }
            (_, None, None) => "ROI cannot be computed, as estimated_cost and expected_revenue \
                                are not given."
                .to_owned(),
            (_, Some(_), None) => {
                "ROI cannot be computed, as expected_revenue is not given.".to_owned()
            }
            _ => "ROI cannot be computed, as estimated_cost is not given.".to_owned(),
        }
    }

    fn explain_risk(&self, is_drawn: bool) -> String {
        let [low, high] = self.modes.risk_range();
        let at_modes = self.context.at_modes(&RISK_INPUTS);
        let missing = self.modes.missing_risk_inputs();
        if missing.is_empty() {
            let terms = self.modes.named_risk_terms().map(|(name, term)| {
                let term = term.unwrap_or_default();
                if name == "resource_availability" {
                    // Back to the number as it was given.
                    format!("10 − {name} {} = {}", rounded(MOST - term), rounded(term))
                } else {
                    format!("{name} {}", rounded(term))
                }
            });
            let terms = terms.collect::<Vec<_>>().join(", ");
            return format!("Risk is {low}{at_modes}: the mean of {terms}, over 10.");
        }
        let given = if missing.len() == 1 { "is" } else { "are" };
        let names = listed(&missing, "and");
        let open =
            format!("Risk lies between {low} and {high}{at_modes}, as {names} {given} not given");
        let of_modes = if is_drawn { " at the modes" } else { "" };
        match self.modes.ends(self.rules()) {
            None => format!("{open}."),
            Some([best, worst]) if best == worst => {
                format!("{open}; the verdict{of_modes} holds anywhere in there.")
            }
            Some([best, worst]) => format!(
                "{open}; the verdict{of_modes} is {} at the low end and {} at the high end, so \
                 there is none.",
                best.as_str(),
                worst.as_str()
            ),
        }
    }

    /// What the time costs; nothing where neither a rate nor a period is given.
    fn explain_timing(&self) -> Option<String> {
        let modes = &self.modes;
        let rate_percent = modes.rate_percent();
        if rate_percent.is_none() && modes.period_days().is_none() {
            return None;
        }
        let Some(flow) = modes.cash_flow() else {
            let facts = [
                ("estimated_cost", modes.cost()),
                ("expected_revenue", modes.revenue()),
                ("estimated_days", modes.days()),
            ];
            let unknown = facts.iter().filter(|(_, value)| value.is_none());
            let unknown: Vec<_> = unknown.map(|(name, _)| *name).collect();
            let given = if unknown.len() == 1 { "is" } else { "are" };
            let names = listed(&unknown, "and");
            return Some(format!(
                "NPV and payback cannot be computed, as {names} {given} not given."
            ));
        };
        let at_modes = self.context.at_modes(&NPV_INPUTS);
        let arrival = match flow.period_days {
            Some(period) => format!("evenly over {period} days from day {}", flow.delivered_day),
            None => format!("on day {}", flow.delivered_day),
        };
        let revenue = flow.revenue;
        let mut text = match (modes.npv(), rate_percent) {
            (Some(npv), Some(rate)) => format!(
                "NPV is {npv}{at_modes}: expected_revenue {revenue}, received {arrival} and \
                 discounted continuously at {rate} % a year, less estimated_cost {} on day 0.",
                flow.cost
            ),
            _ => format!(
                "NPV cannot be computed, as annual_discount_rate_percent is not given; \
                 expected_revenue {revenue} is received {arrival}."
            ),
        };
        match flow.payback_days() {
            Some(day) => {
                text.push_str(&format!(" The revenue covers the cost on day {}", rounded(day)))
            }
            None => text.push_str(" The revenue never covers the cost"),
        }
        if let Some(rate) = rate_percent {
            match flow.discounted_payback_days(rate) {
                Some(day) => text.push_str(&format!(", discounted on day {}", rounded(day))),
                None => text.push_str(", discounted never"),
            }
        }
        text.push('.');
        Some(text)
    }

    fn explain_priority(&self) -> String {
        let limits = &self.rules().priorities;
        if !self.modes.has_impacts(limits) {
            return "No impact was stated, so priority is low by rule.".to_owned();
        }
        let priority = self.modes.priority(limits);
        let names = self.impacts().map(|(name, ..)| name);
        let word = format!("{}{}", priority.word(), self.context.at_modes(&names));
        let mut text = match self.impacts().into_iter().find(|(.., brings)| *brings == priority) {
            Some((name, Some(value), limit, _)) => {
                format!("Priority is {word}: {name} {value} is above {limit}.")
            }
            _ => {
                let stated = self.impacts().into_iter().filter_map(|(name, value, limit, _)| {
                    value.map(|value| format!("{name} {value} is not above {limit}"))
                });
                format!("Priority is {word}: {}.", stated.collect::<Vec<_>>().join(", "))
            }
        };
        let unstated = self.impacts().into_iter().filter(|(_, value, ..)| value.is_none());
        let unstated: Vec<_> = unstated.map(|(name, ..)| name).collect();
        if !unstated.is_empty() {
            let names = listed(&unstated, "and");
            text.push_str(&format!(" Not stated, so without effect: {names}."));
        }
        text
    }

    fn explain_draws(&self, draws: &Draws) -> String {
        let ranges = self.context.inputs().into_iter().filter_map(|(name, input)| {
            let input = input.filter(|input| input.is_range())?;
            let (low, mode, high) = (input.low(), input.mode(), input.high());
            Some(format!("{name} {low} to {high}, mode {mode}"))
        });
        let ranges = ranges.collect::<Vec<_>>().join("; ");
        let n = draws.n;
        let mut text = format!("Drawn {n} times from triangular distributions: {ranges}.");
        for (name, interval, unit) in
            [("ROI", draws.roi_interval_percent, " %"), ("NPV", draws.npv_interval, "")]
        {
            if let Some([low, high]) = interval {
                let said = format!(" 95 % of the draws of {name} lie from {low} to {high}{unit}.");
                text.push_str(&said);
            }
        }
        if let Some(outcomes) = draws.outcomes {
            let shares = outcomes.by_outcome().filter(|(_, count)| *count > 0);
            let shares =
                shares.map(|(known, count)| format!("{} {}", known.as_str(), draws.share(count)));
            let shares = shares.collect::<Vec<_>>().join(", ");
            text.push_str(&format!(" Shares of the draws: {shares}."));
        }
        text
    }

    fn explain_decision(&self, decision: Decision, drawn: Drawn) -> String {
        let name = decision.as_str();
        let min_share = self.policy.stability.min_share;
        match decision {
            Decision::InsufficientData => {
                return format!("{name}: no verdict is given in place of the missing facts.");
            }
            Decision::NoDefensibleWinner => {
                return format!(
                    "{name}: no verdict has the share of the draws that the policy asks for, \
                     {min_share}."
                );
            }
            _ => {}
        }
        let approvals = self.rules().approvals();
        let better = |decision: Decision| Decision::OUTCOMES.iter().position(|d| *d == decision);
        let rule = better(decision).and_then(|at| Some((at, *approvals.get(at)?)));
        if let Some((draws, outcomes)) = drawn {
            let share = draws.share(outcomes.of(decision));
            let agreed = format!("{name} in {share} of the draws, and {min_share} is enough");
            return match rule {
                Some((_, rule)) => format!("{agreed}: it asks for {}.", rule.demands()),
                None => format!("{agreed}: there no rule for an approval holds."),
            };
        }
        let Some((at, rule)) = rule else {
            // A rule that another one covers adds nothing to what is said.
            let widest = approvals.iter().enumerate().filter(|(at, rule)| {
                !approvals.iter().enumerate().any(|(other_at, other)| {
                    let is_equal = rule.covers(other);
                    *at != other_at && other.covers(rule) && (!is_equal || other_at > *at)
                })
            });
            let widest: Vec<_> = widest.map(|(_, rule)| rule.demands()).collect();
            return match &widest[..] {
                [only] => {
                    format!("{name}: the widest rule for an approval, {only}, does not hold.")
                }
                all => format!("{name}: no rule for an approval holds: {}.", all.join("; ")),
            };
        };
        let better: Vec<_> = approvals.iter().take(at).map(|rule| rule.demands()).collect();
        let conditions = rule.conditions();
        match &better[..] {
            [] => format!("{name}: {conditions}."),
            better => format!("{name}: {conditions}, short of {}.", better.join(", and of ")),
        }
    }

    fn explain_phases(&self) -> String {
        let preparation = rounded(self.rules().preparation_share * 100.0);
        let delivery = rounded(self.rules().delivery_share * 100.0);
        let verification = rounded(100.0 - preparation - delivery);
        format!(
            "The plan divides the stated days{} by policy, {preparation}:{delivery}:{verification}, \
             between preparation, delivery and verification.",
            self.context.at_modes(&["estimated_days"])
        )
    }

    /// The first input of the verdict that is missing: money first, without
    /// which nothing follows, then the risk inputs, which weigh the same.
    fn missing_fact(&self, missing: &[String]) -> Option<NextMeasurement> {
        let name = missing.first()?;
        let why = if ROI_INPUTS.contains(&name.as_str()) {
            "Without it there is no ROI, and so no verdict.".to_owned()
        } else {
            let [low, high] = self.modes.risk_range();
            format!("The verdict hangs on where the risk lies between {low} and {high}.")
        };
        Some(NextMeasurement { fact: format!("context.{name}"), why })
    }

    /// The range which, fixed at its mode, raises the largest share of a
    /// verdict most; the first of equals.
    fn narrowing(&self, draws: &Draws) -> Option<NextMeasurement> {
        let (leader, now) = draws.outcomes?.leader();
        let mut best: Option<(&str, Estimate, (Decision, u32))> = None;
        for ((name, input), fixed) in self.context.inputs().into_iter().zip(draws.fixed) {
            let (Some(input), Some(fixed)) = (input, fixed) else { continue };
            let then = fixed.leader();
            if then.1 > best.map_or(now, |(.., (_, most))| most) {
                best = Some((name, input, then));
            }
        }
        let (name, input, (then_leads, then)) = best?;
        Some(NextMeasurement {
            fact: format!("context.{name}"),
            why: format!(
                "It may be anything from {} to {}. Were it {}, {} would hold in {} of the draws; \
                 now {} leads with {}.",
                input.low(),
                input.high(),
                input.mode(),
                then_leads.as_str(),
                draws.share(then),
                leader.as_str(),
                draws.share(now)
            ),
        })
    }

    /// Where ranges leave no winner: the measurement that helps most, the
    /// other ranges of the verdict, then what is missing.
    fn open_ranges(&self, next: Option<&NextMeasurement>, missing: &[String]) -> Vec<Question> {
        let min_share = self.policy.stability.min_share;
        let metric = format!("One verdict holds in at least {min_share} of the draws.");
        let is_next = |name: &str| next.is_some_and(|next| next.fact == format!("context.{name}"));
        let ranges = self
            .context
            .inputs()
            .into_iter()
            .take(DECISIVE)
            .filter_map(|(name, input)| Some((name, input.filter(|input| input.is_range())?)));
        let (first, others): (Vec<_>, Vec<_>) = ranges.partition(|(name, _)| is_next(name));
        let mut questions: Vec<_> = first
            .into_iter()
            .chain(others)
            .map(|(name, input)| Question {
                activity: format!("Narrow down {name}: {} to {}.", input.low(), input.high()),
                metric: metric.clone(),
            })
            .collect();
        questions.extend(unknowns(missing));
        questions
    }

    /// What keeps every approval out of reach: measured by the least of those
    /// that are open to the priority.
    fn obstacles(&self, roi_percent: f64, drawn: Drawn) -> Vec<Question> {
        let [lowest_risk, _] = self.modes.risk_range();
        let priority = self.modes.priority(&self.rules().priorities);
        let approvals = self.rules().approvals();
        let mut obstacles = Vec::new();
        match approvals.iter().rev().find(|rule| rule.is_open_to(priority)) {
            Some(rule) => {
                let (limit, risk_below) = (rule.roi_above_percent, rule.risk_below);
                if let Some(cost) = self.modes.cost().filter(|_| roi_percent <= limit) {
                    obstacles.push(Question {
                        // ROI above 50 % is revenue above one and a half times
                        // the cost.
                        activity: format!(
                            "Find out whether revenue above {} is within reach at a cost of \
                             {cost}: ROI is {roi_percent} % and an approval needs more than \
                             {limit} %.",
                            rounded(cost * (1.0 + limit / 100.0))
                        ),
                        metric: format!("ROI above {limit} %."),
                    });
                }
                if lowest_risk >= risk_below {
                    obstacles.push(Question {
                        activity: format!(
                            "Find out how to lower the risk: it is at least {lowest_risk} and an \
                             approval needs less than {risk_below}."
                        ),
                        metric: format!("Risk below {risk_below}."),
                    });
                }
            }
            None => obstacles.extend(approvals.iter().rev().take(1).map(|rule| Question {
                activity: format!(
                    "Find out whether the impact is understated: priority is {} and an approval \
                     needs {}.",
                    priority.word(),
                    rule.priority_words()
                ),
                metric: format!("Priority {}.", rule.priority_words()),
            })),
        }
        if let (true, Some((draws, outcomes))) = (obstacles.is_empty(), drawn) {
            // At the modes nothing is in the way; in most of the draws it is.
            let share = draws.share(outcomes.of(Decision::DeferOrReject));
            obstacles.push(Question {
                activity: format!(
                    "Narrow down {}: at the modes an approval is within reach, but not in {share} \
                     of the draws.",
                    listed(&self.context.ranges(), "and")
                ),
                metric: format!(
                    "An approval holds in at least {} of the draws.",
                    self.policy.stability.min_share
                ),
            });
        }
        obstacles
    }

    fn plan_of_work(&self, approval: Decision) -> Vec<PlanPhase> {
        let start = match approval {
            Decision::ApproveImmediate => "Start at once: name the owner and release the budget.",
            Decision::ApproveScheduled => "Name the owner and set the start date and the budget.",
            _ => "Name the owner and agree the conditions on which the budget is released.",
        };
        let mut preparation = vec![start.to_owned()];
        let missing = self.modes.missing_risk_inputs();
        preparation.extend(missing.iter().map(|name| format!("Find out {name}.")));
        if !self.risk_mitigation().is_empty() {
            preparation.push("Assign every measure under risk_mitigation.".to_owned());
        }

        let mut delivery = Vec::new();
        if approval == Decision::ApproveConditional {
            delivery.push("Begin once the agreed conditions are met.".to_owned());
        }
        delivery.push(match self.modes.cost() {
            Some(cost) => format!("Deliver, with the spending held against the cost of {cost}."),
            None => "Deliver.".to_owned(),
        });

        let verification = vec![
            "Measure every number under success_metrics.".to_owned(),
            "Record the outcome beside this decision.".to_owned(),
        ];

        self.rules().phases(self.modes.days(), [preparation, delivery, verification])
    }

    /// The given numbers turned round into what has to come true. Costs and
    /// impacts are due at the delivery; revenue, and with it ROI, once all of
    /// it has arrived.
    fn success(&self, roi_percent: f64) -> Vec<Goal> {
        let modes = &self.modes;
        let delivered = modes.days();
        let received = delivered.map(|days| days + modes.period_days().unwrap_or(0.0));
        let goal = |fact: &str, words: String, comparator, target, days: Option<f64>| {
            let by = days.map(|days| day_after(self.at, days));
            let when = match &by {
                Some(day) => format!("by {day}"),
                None => "(no date: estimated_days is not given)".to_owned(),
            };
            let fact = format!("context.{fact}");
            let sentence = format!("{words} {when}.");
            Goal { sentence, criterion: SuccessCriterion { fact, comparator, target, by } }
        };
        let (at_least, at_most) = (Comparator::AtLeast, Comparator::AtMost);
        let mut goals = Vec::new();
        if let Some(revenue) = modes.revenue() {
            let words = format!("Revenue of at least {revenue}");
            goals.push(goal("expected_revenue", words, at_least, revenue, received));
        }
        if let Some(cost) = modes.cost() {
            let words = format!("Cost of at most {cost}");
            goals.push(goal("estimated_cost", words, at_most, cost, delivered));
        }
        let words = format!("ROI of at least {roi_percent} %");
        goals.push(goal("roi_percent", words, at_least, roi_percent, received));
        if let Some(days) = delivered {
            let words = format!("Delivered within {days} days,");
            goals.push(goal("estimated_days", words, at_most, days, delivered));
        }
        for (name, value, ..) in self.impacts() {
            if let Some(value) = value.filter(|value| *value > 0.0) {
                let words = format!("{name} of at least {value}");
                goals.push(goal(name, words, at_least, value, delivered));
            }
        }
        goals
    }

    fn risk_mitigation(&self) -> Vec<String> {
        let measure = |name| match name {
            "technical_complexity" => "prove the hardest part first, before the rest is built",
            "market_uncertainty" => "test demand with a pilot before the whole is spent",
            "resource_availability" => "have people and budget committed by name before the start",
            _ => "agree what may be left out before the deadline decides it",
        };
        let from = self.rules().mitigate_from;
        let high =
            self.modes.named_risk_terms().filter(|(_, term)| term.is_some_and(|t| t >= from));
        let mut measures: Vec<String> = high
            .map(|(name, term)| {
                // Back to the number as it was given.
                let term = term.unwrap_or_default();
                let given = if name == "resource_availability" { MOST - term } else { term };
                format!("{name} is {} of 10: {}.", rounded(given), measure(name))
            })
            .collect();
        for (affected, measure) in [
            (
                self.context.affects_customers,
                "Customers are affected: release in steps, tell them first, keep a way back.",
            ),
            (
                self.context.affects_revenue,
                "Revenue is affected: agree the loss at which to turn back, and watch for it.",
            ),
            (
                self.context.affects_operations,
                "Operations are affected: rehearse the change and its reversal with those on call.",
            ),
            (
                self.context.affects_security,
                "Security is affected: model the threats before building, review before release.",
            ),
            (
                self.context.affects_compliance,
                "Compliance is affected: have whoever answers for it sign before release.",
            ),
        ] {
            if affected == Some(true) {
                measures.push(measure.to_owned());
            }
        }
        measures
    }
}

/// A plan whose one phase answers the questions; nobody knows how long it
/// takes. What several questions share is said once.
fn find_out(phase: &str, questions: Vec<Question>) -> (Vec<PlanPhase>, Vec<String>) {
    let (activities, mut metrics): (Vec<_>, Vec<_>) =
        questions.into_iter().map(|question| (question.activity, question.metric)).unzip();
    metrics.dedup();
    let phase = PlanPhase { phase: phase.to_owned(), duration_days: None, activities };
    (vec![phase], metrics)
}

fn unknowns(missing: &[String]) -> Vec<Question> {
    let question = |name: &String| Question {
        activity: format!("Find out {name}."),
        metric: format!("{name} is known."),
    };
    missing.iter().map(question).collect()
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str], and: &str) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} {and} {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::estimate::Range;
    use super::super::policy;
    use super::Decision::*;
    use super::*;
    use proptest::prelude::*;

    fn known(value: f64) -> Option<Estimate> {
        Some(value.into())
    }

    fn range(low: f64, mode: f64, high: f64) -> Option<Estimate> {
        Some(Estimate::Range(Range { low, mode, high }))
    }

    fn start() -> Timestamp {
        Timestamp::parse("2026-01-31T12:00:00Z").unwrap()
    }

    fn drawn(context: &AppraisalContext, seed: &[u8; 32]) -> Appraisal {
        appraise(context, &policy::shipped().unwrap(), seed, start())
    }

    fn appraised(context: &AppraisalContext) -> Appraisal {
        drawn(context, &[7; 32])
    }

    /// Risk 0.25, ROI 250 %, critical: approved at once.
    fn good() -> AppraisalContext {
        AppraisalContext {
            estimated_cost: known(100_000.0),
            expected_revenue: known(350_000.0),
            estimated_days: known(90.0),
            technical_complexity: known(3.0),
            market_uncertainty: known(2.0),
            resource_availability: known(8.0),
            timeline_pressure: known(3.0),
            revenue_impact: known(2_000_000.0),
            ..AppraisalContext::default()
        }
    }

    /// A context whose four risk terms are all `term`.
    fn with(revenue: f64, term: f64, revenue_impact: f64) -> AppraisalContext {
        AppraisalContext {
            estimated_cost: known(100.0),
            expected_revenue: known(revenue),
            technical_complexity: known(term),
            market_uncertainty: known(term),
            resource_availability: known(10.0 - term),
            timeline_pressure: known(term),
            revenue_impact: known(revenue_impact),
            ..AppraisalContext::default()
        }
    }

    #[test]
    fn boundaries() {
        let (pressing, not) = (1_000_001.0, 1_000_000.0);
        for (revenue, term, impact, expected) in [
            (300.01, 2.99, pressing, ApproveImmediate),
            (300.0, 2.99, pressing, ApproveScheduled),
            (300.01, 3.0, pressing, ApproveScheduled),
            (300.01, 2.99, not, ApproveConditional),
            (200.01, 4.99, pressing, ApproveScheduled),
            (200.0, 4.99, pressing, ApproveConditional),
            (200.01, 5.0, pressing, ApproveConditional),
            (200.01, 4.99, not, ApproveConditional),
            (150.01, 6.99, not, ApproveConditional),
            (150.0, 6.99, pressing, DeferOrReject),
            (150.01, 7.0, pressing, DeferOrReject),
            (1e15, 7.0, pressing, DeferOrReject),
            (0.0, 0.0, pressing, DeferOrReject),
        ] {
            let appraisal = appraised(&with(revenue, term, impact));
            assert_eq!(appraisal.decision, expected, "{revenue} {term} {impact}");
        }
    }

    #[test]
    fn amounts_that_are_not_exact_in_binary_do_not_tip_a_limit() {
        for (cost, revenue, roi) in
            [(0.7, 2.1, 200.0), (0.1, 0.3, 200.0), (0.1, 0.2, 100.0), (1.1, 1.65, 50.0)]
        {
            let context =
                AppraisalContext { estimated_cost: known(cost), ..with(revenue, 0.0, 0.0) };
            assert_eq!(appraised(&context).figures.roi_percent, Some(roi), "{cost} {revenue}");
        }
        assert_eq!(rounded(-1e-12).to_string(), "0");
        // 2.9 + 3.1 + (10 − 7.1) + 3.1
        let context = AppraisalContext {
            technical_complexity: known(2.9),
            market_uncertainty: known(3.1),
            resource_availability: known(7.1),
            timeline_pressure: known(3.1),
            ..good()
        };
        assert_eq!(appraised(&context).figures.risk, Some(0.3));
        assert_eq!(appraised(&context).decision, ApproveScheduled);
    }

    #[test]
    fn priorities() {
        for (revenue, customers, operations, expected) in [
            (Some(1_000_001.0), Some(20_000.0), Some(200.0), Priority::Critical),
            (Some(1_000_000.0), Some(10_001.0), Some(200.0), Priority::High),
            (Some(0.0), Some(10_000.0), Some(101.0), Priority::Medium),
            (Some(0.0), Some(0.0), Some(100.0), Priority::Low),
            (None, Some(10_001.0), None, Priority::High),
            (None, None, Some(1e15), Priority::Medium),
            (None, None, None, Priority::Low),
        ] {
            let appraisal = appraised(&AppraisalContext {
                revenue_impact: revenue.map(Estimate::Known),
                customer_impact: customers.map(Estimate::Known),
                operational_impact: operations.map(Estimate::Known),
                ..good()
            });
            assert_eq!(
                appraisal.figures.priority,
                Some(expected),
                "{revenue:?} {customers:?} {operations:?}"
            );
        }
    }

    #[test]
    fn a_whole_appraisal() {
        let context = AppraisalContext {
            affects_security: Some(true),
            affects_revenue: Some(false),
            ..good()
        };
        let appraisal = appraised(&context);
        assert_eq!(appraisal.decision, ApproveImmediate);
        assert_eq!(
            (appraisal.figures.roi_percent, appraisal.figures.risk, appraisal.figures.risk_range),
            (Some(250.0), Some(0.25), None)
        );
        assert_eq!(
            appraisal.rationale,
            "ROI is 250 %: (expected_revenue 350000 − estimated_cost 100000) / 100000 · 100. \
             Risk is 0.25: the mean of technical_complexity 3, market_uncertainty 2, \
             10 − resource_availability 8 = 2, timeline_pressure 3, over 10. \
             Priority is critical: revenue_impact 2000000 is above 1000000. \
             Not stated, so without effect: customer_impact and operational_impact. \
             APPROVE_IMMEDIATE: priority is critical or high, ROI above 200 % and risk below 0.3. \
             The plan divides the stated days by policy, 20:60:20, between preparation, delivery \
             and verification."
        );
        let plan: Vec<_> = appraisal
            .implementation_plan
            .iter()
            .map(|p| (p.phase.as_str(), p.duration_days))
            .collect();
        assert_eq!(
            plan,
            [("Preparation", Some(18.0)), ("Delivery", Some(54.0)), ("Verification", Some(18.0))]
        );
        assert_eq!(
            appraisal.success_metrics,
            [
                "Revenue of at least 350000 by 2026-05-01.",
                "Cost of at most 100000 by 2026-05-01.",
                "ROI of at least 250 % by 2026-05-01.",
                "Delivered within 90 days, by 2026-05-01.",
                "revenue_impact of at least 2000000 by 2026-05-01.",
            ]
        );
        assert_eq!(
            appraisal.risk_mitigation,
            ["Security is affected: model the threats before building, review before release."]
        );
        assert!(appraisal.figures.missing.is_empty());
    }

    #[test]
    fn without_cost_or_revenue_there_is_no_verdict() {
        let no_cost = appraised(&AppraisalContext { estimated_cost: None, ..good() });
        let no_revenue = appraised(&AppraisalContext { expected_revenue: None, ..good() });
        let nothing = appraised(&AppraisalContext::default());
        for (appraisal, missing) in [
            (&no_cost, &["estimated_cost"][..]),
            (&no_revenue, &["expected_revenue"]),
            (
                &nothing,
                &[
                    "estimated_cost",
                    "expected_revenue",
                    "technical_complexity",
                    "market_uncertainty",
                    "resource_availability",
                    "timeline_pressure",
                ],
            ),
        ] {
            assert_eq!(appraisal.decision, InsufficientData);
            assert_eq!(appraisal.figures.roi_percent, None);
            assert_eq!(appraisal.figures.missing, missing);
            for name in missing {
                assert!(appraisal.rationale.contains(name), "{}", appraisal.rationale);
            }
            let [phase] = &appraisal.implementation_plan[..] else { panic!() };
            assert_eq!((phase.duration_days, phase.activities.len()), (None, missing.len()));
        }
        assert_eq!(no_cost.figures.priority, Some(Priority::Critical));
        assert_eq!(nothing.figures.priority, None);
        assert_eq!(nothing.figures.risk_range, Some([0.0, 1.0]));
        assert!(nothing.rationale.contains("No impact was stated, so priority is low by rule."));
    }

    #[test]
    fn a_missing_risk_input_matters_only_if_it_could_turn_the_verdict() {
        // The other three leave 0.2 to 0.45: immediate or scheduled.
        let open = appraised(&AppraisalContext {
            timeline_pressure: None,
            technical_complexity: known(4.0),
            ..good()
        });
        assert_eq!(open.decision, InsufficientData);
        assert_eq!((open.figures.risk, open.figures.risk_range), (None, Some([0.2, 0.45])));
        assert_eq!(open.figures.missing, ["timeline_pressure"]);
        assert!(open.rationale.contains(
            "Risk lies between 0.2 and 0.45, as timeline_pressure is not given; the verdict is \
             APPROVE_IMMEDIATE at the low end and APPROVE_SCHEDULED at the high end, so there is none."
        ), "{}", open.rationale);

        // ROI 150 %: scheduled at either end.
        let stands = appraised(&AppraisalContext {
            timeline_pressure: None,
            technical_complexity: known(4.0),
            expected_revenue: known(250_000.0),
            ..good()
        });
        assert_eq!(stands.decision, ApproveScheduled);
        assert_eq!((stands.figures.risk, stands.figures.risk_range), (None, Some([0.2, 0.45])));
        assert_eq!(stands.figures.missing, ["timeline_pressure"]);
        assert!(
            stands.rationale.contains("the verdict holds anywhere in there"),
            "{}",
            stands.rationale
        );

        // A loss is a loss whatever the risk.
        let loss = appraised(&AppraisalContext {
            estimated_cost: known(100.0),
            expected_revenue: known(50.0),
            ..AppraisalContext::default()
        });
        assert_eq!((loss.decision, loss.figures.risk_range), (DeferOrReject, Some([0.0, 1.0])));
    }

    #[test]
    fn a_deferral_says_what_to_find_out() {
        let appraisal =
            appraised(&AppraisalContext { estimated_days: known(30.0), ..with(120.0, 8.0, 0.0) });
        let [phase] = &appraisal.implementation_plan[..] else { panic!() };
        assert_eq!(
            phase.activities,
            [
                "Find out whether revenue above 150 is within reach at a cost of 100: ROI is 20 % \
                 and an approval needs more than 50 %.",
                "Find out how to lower the risk: it is at least 0.8 and an approval needs less \
                 than 0.7.",
            ]
        );
        assert_eq!(phase.duration_days, None);
        assert_eq!(appraisal.success_metrics, ["ROI above 50 %.", "Risk below 0.7."]);
    }

    #[test]
    fn mitigation_follows_the_high_inputs_and_the_flags() {
        let starts = |context: &AppraisalContext| -> Vec<String> {
            let measures = appraised(context).risk_mitigation;
            measures.iter().map(|text| text.split(':').next().unwrap().to_owned()).collect()
        };
        let quiet = AppraisalContext {
            technical_complexity: known(6.9),
            market_uncertainty: known(6.9),
            resource_availability: known(3.1),
            timeline_pressure: known(6.9),
            affects_customers: Some(false),
            ..good()
        };
        assert!(starts(&quiet).is_empty());
        let loud = AppraisalContext {
            technical_complexity: known(7.0),
            market_uncertainty: known(8.5),
            resource_availability: known(3.0),
            timeline_pressure: known(10.0),
            affects_customers: Some(true),
            affects_revenue: Some(true),
            affects_operations: Some(true),
            affects_security: Some(true),
            affects_compliance: Some(true),
            ..good()
        };
        assert_eq!(
            starts(&loud),
            [
                "technical_complexity is 7 of 10",
                "market_uncertainty is 8.5 of 10",
                "resource_availability is 3 of 10",
                "timeline_pressure is 10 of 10",
                "Customers are affected",
                "Revenue is affected",
                "Operations are affected",
                "Security is affected",
                "Compliance is affected",
            ]
        );
    }

    #[test]
    fn validation_names_the_field() {
        type Set = fn(&mut AppraisalContext);
        let errors = |set: Set| {
            let mut context = AppraisalContext::default();
            set(&mut context);
            context.validate()
        };
        assert_eq!(good().validate(), []);
        let valid: [Set; 11] = [
            |_| {},
            |c| c.title = Some("é".repeat(200)),
            |c| c.estimated_cost = known(MIN_COST),
            |c| c.estimated_days = known(3_650.0),
            |c| c.estimated_days = known(f64::from_bits(1)),
            |c| c.resource_availability = known(10.0),
            |c| c.annual_discount_rate_percent = known(0.0),
            |c| c.annual_discount_rate_percent = known(1_000.0),
            |c| c.revenue_period_days = known(3_650.0),
            |c| c.estimated_cost = range(MIN_COST, 1.0, 1e15),
            |c| c.technical_complexity = range(4.0, 4.0, 4.0),
        ];
        for set in valid {
            assert_eq!(errors(set), []);
        }
        let invalid: [(Set, &str); 24] = [
            (|c| c.title = Some("é".repeat(201)), "/title"),
            (|c| c.description = Some("é".repeat(2_001)), "/description"),
            (|c| c.estimated_cost = known(0.0), "/estimated_cost"),
            (|c| c.estimated_cost = known(-1.0), "/estimated_cost"),
            (|c| c.estimated_cost = known(1e-300), "/estimated_cost"),
            (|c| c.estimated_cost = known(1.1e15), "/estimated_cost"),
            (|c| c.expected_revenue = known(-0.01), "/expected_revenue"),
            (|c| c.expected_revenue = known(f64::INFINITY), "/expected_revenue"),
            (|c| c.estimated_days = known(0.0), "/estimated_days"),
            (|c| c.estimated_days = known(3_650.1), "/estimated_days"),
            (|c| c.technical_complexity = known(10.1), "/technical_complexity"),
            (|c| c.market_uncertainty = known(-0.1), "/market_uncertainty"),
            (|c| c.resource_availability = known(f64::NAN), "/resource_availability"),
            (|c| c.timeline_pressure = known(11.0), "/timeline_pressure"),
            (|c| c.revenue_impact = known(-1.0), "/revenue_impact"),
            (|c| c.customer_impact = known(1e16), "/customer_impact"),
            (|c| c.operational_impact = known(f64::NAN), "/operational_impact"),
            (|c| c.annual_discount_rate_percent = known(-1.0), "/annual_discount_rate_percent"),
            (|c| c.annual_discount_rate_percent = known(1e4), "/annual_discount_rate_percent"),
            (|c| c.revenue_period_days = known(0.0), "/revenue_period_days"),
            (|c| c.estimated_cost = range(0.0, 1.0, 2.0), "/estimated_cost/low"),
            (|c| c.timeline_pressure = range(1.0, 2.0, 11.0), "/timeline_pressure/high"),
            (|c| c.expected_revenue = range(2.0, 1.0, 3.0), "/expected_revenue/mode"),
            (|c| c.expected_revenue = range(1.0, 4.0, 3.0), "/expected_revenue/high"),
        ];
        for (set, pointer) in invalid {
            let pointers: Vec<_> = errors(set).into_iter().map(|error| error.pointer).collect();
            assert_eq!(pointers, [pointer]);
        }
        let zero_cost = errors(|c| c.estimated_cost = known(0.0));
        assert!(zero_cost.iter().all(|error| error.detail.contains("ROI undefined")));
    }

    #[test]
    fn the_wire_form() {
        let context: AppraisalContext =
            serde_json::from_str(r#"{"estimated_cost": 100, "affects_security": true}"#).unwrap();
        assert_eq!((context.estimated_cost, context.affects_security), (known(100.0), Some(true)));
        assert!(serde_json::from_str::<AppraisalContext>(r#"{"estimated_costs": 100}"#).is_err());
        assert!(serde_json::from_str::<AppraisalContext>(r#"{"estimated_cost": "100"}"#).is_err());
        for decision in [
            ApproveImmediate,
            ApproveScheduled,
            ApproveConditional,
            DeferOrReject,
            InsufficientData,
            NoDefensibleWinner,
        ] {
            assert_eq!(serde_json::to_value(decision).unwrap(), decision.as_str());
        }
        let json = serde_json::to_value(appraised(&good())).unwrap();
        assert_eq!(json["decision"], "APPROVE_IMMEDIATE");
        assert_eq!(json["priority"], "critical");
        assert_eq!(json["risk_range"], serde_json::Value::Null);
    }

    /// Ranges around the limits between two approvals.
    fn open() -> AppraisalContext {
        AppraisalContext {
            estimated_cost: range(80_000.0, 100_000.0, 150_000.0),
            expected_revenue: range(150_000.0, 300_000.0, 500_000.0),
            timeline_pressure: range(1.0, 3.0, 8.0),
            ..good()
        }
    }

    #[test]
    fn ranges_are_drawn_and_a_verdict_needs_its_share() {
        let a = appraised(&open());
        let shares = a.figures.verdict_probabilities.clone().unwrap();
        assert_eq!(a.decision, NoDefensibleWinner, "{shares:?}");
        assert!(a.abstained && a.confidence.is_none());
        assert_eq!(a.figures.roi_percent, Some(200.0));
        assert_eq!(a.figures.risk, Some(0.25));
        let [low, high] = a.figures.roi_interval_percent.unwrap();
        assert!(low < 200.0 && 200.0 < high, "{low} {high}");
        assert!(a.figures.npv_interval.is_none(), "there is no rate");
        let next = a.next_best_measurement.unwrap();
        assert!(next.fact.starts_with("context."), "{next:?}");
        assert!(a.success_criteria.is_empty());
        assert_eq!(a.figures.priority, Some(Priority::Critical));
        for part in [
            "ROI is 200 % at the modes: ",
            "Risk is 0.25 at the modes: ",
            "Drawn 2000 times from triangular distributions: estimated_cost 80000 to 150000, mode \
             100000; expected_revenue 150000 to 500000, mode 300000; timeline_pressure 1 to 8, \
             mode 3.",
            "NO_DEFENSIBLE_WINNER: no verdict has the share of the draws that the policy asks \
             for, 0.7.",
        ] {
            assert!(a.rationale.contains(part), "{part}: {}", a.rationale);
        }
        let [phase] = &a.implementation_plan[..] else { panic!() };
        assert_eq!((phase.duration_days, phase.activities.len()), (None, 3));
        assert!(phase.activities[0].contains(next.fact.trim_start_matches("context.")));
        assert_eq!(a.success_metrics, ["One verdict holds in at least 0.7 of the draws."]);

        // What the measurement would do is what it does.
        let leads = |a: &Appraisal| {
            a.figures.verdict_probabilities.as_ref().unwrap().values().copied().fold(0.0, f64::max)
        };
        let now = leads(&appraised(&open()));
        let mut best = ("", now);
        for (name, fixed) in [
            ("estimated_cost", AppraisalContext { estimated_cost: known(100_000.0), ..open() }),
            ("expected_revenue", AppraisalContext { expected_revenue: known(3e5), ..open() }),
            ("timeline_pressure", AppraisalContext { timeline_pressure: known(3.0), ..open() }),
        ] {
            let then = leads(&appraised(&fixed));
            if then > best.1 {
                best = (name, then);
            }
        }
        assert_eq!(next.fact, format!("context.{}", best.0));
        assert!(next.why.contains(&format!("in {} of the draws", best.1)), "{}", next.why);
    }

    #[test]
    fn enough_draws_make_a_verdict_with_its_confidence() {
        let context =
            AppraisalContext { expected_revenue: range(290_000.0, 350_000.0, 400_000.0), ..good() };
        let a = appraised(&context);
        let shares = a.figures.verdict_probabilities.unwrap();
        assert_eq!((a.decision, a.abstained), (ApproveImmediate, false));
        assert_eq!(a.confidence, Some(shares["APPROVE_IMMEDIATE"]));
        // By hand: below 300000 lies (300 − 290)²/((400 − 290)(350 − 290)) of it.
        let below = 100.0 / (110.0 * 60.0);
        assert!((shares["APPROVE_SCHEDULED"] - below).abs() < 0.01, "{shares:?}");
        assert!(a.next_best_measurement.is_none());
        assert!(a.rationale.contains("of the draws, and 0.7 is enough: it asks for a priority of"));
        assert!(!a.success_criteria.is_empty());

        // At the mode it is approved, in most draws it is not.
        let skewed =
            AppraisalContext { expected_revenue: range(0.0, 151_000.0, 152_000.0), ..good() };
        let a = appraised(&skewed);
        assert_eq!((a.decision, a.figures.roi_percent), (DeferOrReject, Some(51.0)));
        assert!(a.confidence.unwrap() > 0.9);
        let [phase] = &a.implementation_plan[..] else { panic!() };
        assert!(phase.activities[0].starts_with("Narrow down expected_revenue: at the modes"));
        assert_eq!(a.success_metrics, ["An approval holds in at least 0.7 of the draws."]);
    }

    #[test]
    fn draws_that_missing_facts_leave_open_are_counted() {
        let no_revenue = AppraisalContext { expected_revenue: None, ..open() };
        let a = appraised(&no_revenue);
        assert_eq!((a.decision, a.confidence), (InsufficientData, Some(1.0)));
        assert_eq!(a.figures.verdict_probabilities.unwrap()["INSUFFICIENT_DATA"], 1.0);
        assert_eq!((a.figures.roi_percent, a.figures.roi_interval_percent), (None, None));
        assert_eq!(a.next_best_measurement.unwrap().fact, "context.expected_revenue");
        // Risk 0.175 to 0.425, and ROI from 200 to 300 %.
        let no_uncertainty = AppraisalContext {
            market_uncertainty: None,
            expected_revenue: range(290_000.0, 350_000.0, 400_000.0),
            ..good()
        };
        let a = appraised(&no_uncertainty);
        let shares = a.figures.verdict_probabilities.unwrap();
        assert_eq!(a.decision, InsufficientData);
        assert_eq!(a.confidence, Some(shares["INSUFFICIENT_DATA"]));
        assert!(shares["APPROVE_SCHEDULED"] > 0.0, "{shares:?}");
        assert_eq!(a.next_best_measurement.unwrap().fact, "context.market_uncertainty");
    }

    #[test]
    fn without_a_range_nothing_is_drawn() {
        let a = appraised(&good());
        assert_eq!(
            (a.confidence, a.figures.verdict_probabilities, a.abstained),
            (None, None, false)
        );
        assert_eq!((a.figures.roi_interval_percent, a.figures.npv_interval), (None, None));
        assert_eq!(a.next_best_measurement, None);
        let a = appraised(&AppraisalContext::default());
        assert_eq!((a.confidence, a.abstained), (None, true));
        assert_eq!(a.next_best_measurement.unwrap().fact, "context.estimated_cost");
        // A range that no verdict rests on.
        let a = appraised(&AppraisalContext {
            estimated_days: range(30.0, 90.0, 200.0),
            annual_discount_rate_percent: known(8.0),
            ..good()
        });
        assert_eq!((a.decision, a.confidence), (ApproveImmediate, None));
        assert_eq!((a.figures.verdict_probabilities, a.figures.roi_interval_percent), (None, None));
        let [low, high] = a.figures.npv_interval.unwrap();
        assert!(low < a.figures.npv.unwrap() && a.figures.npv.unwrap() < high);
        assert!(a.rationale.contains("The plan divides the stated days at the modes by policy"));
    }

    #[test]
    fn time_costs_money() {
        // 1500/1.1 − 1000 a year later.
        let context = AppraisalContext {
            estimated_days: known(365.0),
            annual_discount_rate_percent: known(10.0),
            estimated_cost: known(1_000.0),
            expected_revenue: known(1_500.0),
            ..good()
        };
        let a = appraised(&context);
        assert_eq!(a.figures.npv, Some(363.636_363_636));
        assert_eq!(
            (a.figures.payback_days, a.figures.discounted_payback_days),
            (Some(365.0), Some(365.0))
        );
        let evenly = AppraisalContext { revenue_period_days: known(365.0), ..context.clone() };
        let a = appraised(&evenly);
        assert_eq!(a.figures.npv, Some(300.668_432_305));
        assert_eq!(a.figures.payback_days, Some(608.333_333_333));
        assert_eq!(a.figures.discounted_payback_days, Some(642.480_903_964));
        assert!(
            a.rationale.contains(
                "NPV is 300.668432305: expected_revenue 1500, received evenly over 365 days from \
                 day 365 and discounted continuously at 10 % a year, less estimated_cost 1000 on \
                 day 0. The revenue covers the cost on day 608.333333333, discounted on day \
                 642.480903964."
            ),
            "{}",
            a.rationale
        );
        // The verdict asks for ROI, which no rate changes.
        assert_eq!(
            a.decision,
            appraised(&AppraisalContext { annual_discount_rate_percent: None, ..evenly.clone() })
                .decision
        );
        let no_days = appraised(&AppraisalContext { estimated_days: None, ..evenly });
        assert_eq!((no_days.figures.npv, no_days.figures.payback_days), (None, None));
        assert!(
            no_days
                .rationale
                .contains("NPV and payback cannot be computed, as estimated_days is not given.")
        );
        let never = appraised(&AppraisalContext { expected_revenue: known(999.0), ..context });
        assert_eq!(
            (never.figures.payback_days, never.figures.discounted_payback_days),
            (None, None)
        );
        assert!(never.rationale.contains("never covers the cost, discounted never."));
    }

    #[test]
    fn success_has_a_number_and_a_day() {
        let context = AppraisalContext {
            estimated_days: known(9.5),
            revenue_period_days: known(20.0),
            ..good()
        };
        let a = appraised(&context);
        let criteria: Vec<_> = a
            .success_criteria
            .iter()
            .map(|c| (c.fact.as_str(), c.comparator, c.target, c.by.as_deref().unwrap()))
            .collect();
        let (at_least, at_most) = (Comparator::AtLeast, Comparator::AtMost);
        assert_eq!(
            criteria,
            [
                ("context.expected_revenue", at_least, 350_000.0, "2026-03-02"),
                ("context.estimated_cost", at_most, 100_000.0, "2026-02-10"),
                ("context.roi_percent", at_least, 250.0, "2026-03-02"),
                ("context.estimated_days", at_most, 9.5, "2026-02-10"),
                ("context.revenue_impact", at_least, 2_000_000.0, "2026-02-10"),
            ]
        );
        let undated = appraised(&AppraisalContext { estimated_days: None, ..context });
        assert_eq!(undated.success_criteria.len(), 4);
        assert!(undated.success_criteria.iter().all(|criterion| criterion.by.is_none()));
        assert_eq!(
            undated.success_metrics[0],
            "Revenue of at least 350000 (no date: estimated_days is not given)."
        );
    }

    #[test]
    fn the_numbers_are_those_of_the_policy() {
        let mut policy = policy::shipped().unwrap();
        let rules = &mut policy.appraisal;
        rules.approve_immediate.roi_above_percent = 260.0;
        rules.approve_scheduled.risk_below = 0.2;
        rules.approve_conditional.priorities = vec![Priority::Medium, Priority::Critical];
        rules.approve_conditional.roi_above_percent = 240.0;
        rules.priorities.critical_revenue_impact = 5e6;
        rules.preparation_share = 0.5;
        rules.delivery_share = 0.25;
        rules.mitigate_from = 2.5;
        let by = |context: &AppraisalContext| appraise(context, &policy, &[0; 32], start());
        let critical = AppraisalContext { revenue_impact: known(6e6), ..good() };
        let a = by(&critical);
        assert_eq!(a.decision, ApproveConditional);
        for part in [
            "revenue_impact 6000000 is above 5000000.",
            "APPROVE_CONDITIONAL: priority is critical or medium, ROI above 240 % and risk below \
             0.7, short of a priority of critical or high with ROI above 260 % and risk below \
             0.3, and of a priority of critical or high with ROI above 100 % and risk below 0.2.",
            "by policy, 50:25:25, between",
        ] {
            assert!(a.rationale.contains(part), "{part}: {}", a.rationale);
        }
        assert_eq!(a.risk_mitigation.len(), 2);
        // Low: no approval is open to it, however good the rest is.
        let a = by(&good());
        assert_eq!((a.decision, a.figures.priority), (DeferOrReject, Some(Priority::Low)));
        assert_eq!(a.success_metrics, ["Priority critical or medium."]);
        assert!(
            a.rationale.contains("DEFER_OR_REJECT: no rule for an approval holds: "),
            "{}",
            a.rationale
        );
    }

    #[test]
    fn quantiles_have_their_ranks() {
        let of = |n: u32| {
            let mut sample = Sample::of(n, true);
            (1..=n).rev().for_each(|x| sample.add(|| Some(f64::from(x))));
            sample.interval()
        };
        assert_eq!(of(2_000), Some([50.0, 1_950.0]));
        assert_eq!(of(1), Some([1.0, 1.0]));
        assert_eq!(of(41), Some([2.0, 40.0]));
        assert_eq!(of(0), None);
    }

    /// Draws are the same on every body and in every version: change these
    /// numbers only with what is drawn.
    #[test]
    fn draws_are_pinned() {
        let a = appraised(&AppraisalContext {
            annual_discount_rate_percent: range(5.0, 8.0, 12.0),
            revenue_period_days: known(180.0),
            ..open()
        });
        let shares: Vec<f64> = a.figures.verdict_probabilities.unwrap().into_values().collect();
        // Conditional, immediate, scheduled, deferred, open.
        assert_eq!(shares, [0.095, 0.3205, 0.568, 0.0165, 0.0]);
        assert_eq!(a.figures.roi_interval_percent, Some([59.228530722, 357.398894426]));
        assert_eq!(a.figures.npv_interval, Some([62_083.108162506, 337_051.281938807]));
    }

    fn rank(decision: Decision) -> Option<u8> {
        match decision {
            ApproveImmediate => Some(0),
            ApproveScheduled => Some(1),
            ApproveConditional => Some(2),
            DeferOrReject => Some(3),
            InsufficientData | NoDefensibleWinner => None,
        }
    }

    fn map(estimate: Option<Estimate>, by: impl Fn(f64) -> f64) -> Option<Estimate> {
        estimate.map(|estimate| Estimate::Known(by(estimate.mode())))
    }

    fn maybe(range: std::ops::RangeInclusive<f64>) -> impl Strategy<Value = Option<Estimate>> {
        prop::option::weighted(0.8, range.prop_map(Estimate::Known))
    }

    prop_compose! {
        fn any_valid()(
            (estimated_cost, estimated_days) in (maybe(MIN_COST..=1e9), maybe(1e-9..=3650.0)),
            ratio in prop::option::weighted(0.8, 0.0..=5.0),
            any_revenue in prop::option::weighted(0.2, 0.0..=1e15),
            (technical_complexity, market_uncertainty) in (maybe(0.0..=10.0), maybe(0.0..=10.0)),
            (resource_availability, timeline_pressure) in (maybe(0.0..=10.0), maybe(0.0..=10.0)),
            (revenue_impact, annual_discount_rate_percent, revenue_period_days) in
                (maybe(0.0..=2e6), maybe(0.0..=1_000.0), maybe(1e-9..=3_650.0)),
            (customer_impact, operational_impact) in (maybe(0.0..=2e4), maybe(0.0..=200.0)),
            affects in prop::array::uniform5(any::<Option<bool>>()),
        ) -> AppraisalContext {
            let [
                affects_customers, affects_revenue, affects_operations,
                affects_security, affects_compliance,
            ] = affects;
            let cost = estimated_cost.map_or(1.0, |cost: Estimate| cost.mode());
            let near_cost = ratio.map(|ratio| ratio * cost);
            let expected_revenue = any_revenue.or(near_cost).map(Estimate::Known);
            AppraisalContext {
                title: None, description: None,
                estimated_cost, expected_revenue, estimated_days,
                annual_discount_rate_percent, revenue_period_days,
                technical_complexity, market_uncertainty, resource_availability, timeline_pressure,
                revenue_impact, customer_impact, operational_impact,
                affects_customers, affects_revenue, affects_operations,
                affects_security, affects_compliance,
            }
        }
    }

    /// The context with each of its numbers made something else.
    fn each(context: &AppraisalContext, to: impl Fn(f64) -> Option<Estimate>) -> AppraisalContext {
        let mut all = context.clone();
        for field in [
            &mut all.estimated_cost,
            &mut all.expected_revenue,
            &mut all.estimated_days,
            &mut all.annual_discount_rate_percent,
            &mut all.revenue_period_days,
            &mut all.technical_complexity,
            &mut all.market_uncertainty,
            &mut all.resource_availability,
            &mut all.timeline_pressure,
            &mut all.revenue_impact,
            &mut all.customer_impact,
            &mut all.operational_impact,
        ] {
            *field = field.and_then(|estimate| to(estimate.mode()));
        }
        all
    }

    prop_compose! {
        /// Each number becomes a range around it, or stays.
        fn any_ranged()(
            context in any_valid(), widths in prop::array::uniform12((any::<bool>(), 0.0..=0.6)),
        ) -> AppraisalContext {
            let widths = std::cell::RefCell::new(widths.into_iter());
            each(&context, |value| {
                let (is_range, width) = widths.borrow_mut().next().unwrap();
                if is_range {
                    range(value * (1.0 - width), value, value + width * (value * 0.5).min(10.0 - value).max(0.0))
                } else {
                    known(value)
                }
            })
        }
    }

    proptest! {
        #[test]
        fn any_valid_context_has_a_finite_appraisal(context in any_valid()) {
            prop_assert_eq!(context.validate(), vec![]);
            let a = appraised(&context);
            prop_assert!(a.figures.roi_percent.is_none_or(f64::is_finite));
            prop_assert_eq!(a.figures.risk.is_none(), a.figures.risk_range.is_some());
            let [low, high] = a.figures.risk_range.unwrap_or([a.figures.risk.unwrap_or(f64::NAN); 2]);
            prop_assert!(0.0 <= low && low <= high && high <= 1.0);
            let undecided = a.decision == InsufficientData;
            prop_assert!(!undecided || !a.figures.missing.is_empty());
            prop_assert!(a.figures.missing.iter().all(|name| a.rationale.contains(name.as_str())));
            prop_assert!(!a.implementation_plan.is_empty() && !a.success_metrics.is_empty());
            prop_assert!(a.implementation_plan.iter().all(|phase| !phase.activities.is_empty()));
        }

        #[test]
        fn the_phases_of_an_approval_add_up_to_the_stated_days(context in any_valid()) {
            let a = appraised(&context);
            let approved = rank(a.decision).is_some_and(|rank| rank < 3);
            let durations: Option<Vec<f64>> =
                a.implementation_plan.iter().map(|phase| phase.duration_days).collect();
            match context.estimated_days.filter(|_| approved) {
                Some(days) => {
                    let durations = durations.unwrap();
                    prop_assert!(durations.iter().all(|days| *days >= 0.0));
                    prop_assert!((durations.iter().sum::<f64>() - days.mode()).abs() < 1e-8);
                }
                None => prop_assert_eq!(durations, None),
            }
        }

        #[test]
        fn more_revenue_is_never_worse(context in any_valid(), factor in 1.0..10.0) {
            let richer = AppraisalContext {
                expected_revenue: map(context.expected_revenue, |revenue| revenue * factor),
                ..context.clone()
            };
            if let (Some(before), Some(after)) =
                (rank(appraised(&context).decision), rank(appraised(&richer).decision))
            {
                prop_assert!(after <= before);
            }
        }

        #[test]
        fn less_risk_is_never_worse(context in any_valid(), k in prop::array::uniform4(0.0..=1.0)) {
            let less = |value, k: f64| map(value, |value| value * k);
            let safer = AppraisalContext {
                technical_complexity: less(context.technical_complexity, k[0]),
                market_uncertainty: less(context.market_uncertainty, k[1]),
                resource_availability: map(context.resource_availability, |v| 10.0 - (10.0 - v) * k[2]),
                timeline_pressure: less(context.timeline_pressure, k[3]),
                ..context.clone()
            };
            if let (Some(before), Some(after)) =
                (rank(appraised(&context).decision), rank(appraised(&safer).decision))
            {
                prop_assert!(after <= before);
            }
        }

        /// A verdict that stands without an input is the one it would get with
        /// any value of it; one that does not stand differs for some.
        #[test]
        fn a_verdict_without_an_input_holds_for_each_of_its_values(
            context in any_valid(), value in 0.0..=10.0,
        ) {
            let open = AppraisalContext { market_uncertainty: None, ..context };
            let at = |value| {
                let market_uncertainty = known(value);
                appraised(&AppraisalContext { market_uncertainty, ..open.clone() }).decision
            };
            let decision = appraised(&open).decision;
            if decision != InsufficientData {
                prop_assert_eq!(at(value), decision);
            } else if at(value) != InsufficientData {
                prop_assert_ne!(at(0.0), at(10.0));
            }
        }

        #[test]
        fn timing_is_consistent(context in any_valid(), more in 0.0..=100.0) {
            let a = appraised(&context);
            if let (Some(plain), Some(discounted)) = (a.figures.payback_days, a.figures.discounted_payback_days) {
                prop_assert!(plain <= discounted);
            }
            let at = |rate| {
                let annual_discount_rate_percent = known(rate);
                appraised(&AppraisalContext { annual_discount_rate_percent, ..context.clone() }).figures.npv
            };
            let undiscounted = at(0.0);
            if let (Some(npv), Some(revenue), Some(cost)) =
                (undiscounted, context.expected_revenue, context.estimated_cost)
            {
                prop_assert_eq!(npv, rounded(revenue.mode() - cost.mode()));
                prop_assert!(at(more).unwrap() <= npv);
            }
            let days = context.estimated_days.is_some();
            let money = context.expected_revenue.is_some() && context.estimated_cost.is_some();
            prop_assert_eq!(undiscounted.is_some(), days && money);
        }

        #[test]
        fn a_range_of_one_point_is_the_number(context in any_valid(), seed in any::<[u8; 32]>()) {
            let pointed = each(&context, |value| range(value, value, value));
            prop_assert_eq!(drawn(&pointed, &seed), drawn(&context, &seed));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn draws_are_reproducible_and_add_up(
            context in any_ranged(), seed in any::<[u8; 32]>(),
        ) {
            prop_assert_eq!(context.validate(), vec![]);
            let a = drawn(&context, &seed);
            prop_assert_eq!(&a, &drawn(&context, &seed));
            let has_range = context.inputs().iter().take(DECISIVE)
                .any(|(_, input)| input.is_some_and(Estimate::is_range));
            prop_assert_eq!(a.figures.verdict_probabilities.is_some(), has_range);
            prop_assert_eq!(a.abstained, rank(a.decision).is_none());
            prop_assert!(!a.implementation_plan.is_empty() && !a.success_metrics.is_empty());
            prop_assert!(a.implementation_plan.iter().all(|phase| !phase.activities.is_empty()));
            for [low, high] in [a.figures.roi_interval_percent, a.figures.npv_interval].into_iter().flatten() {
                prop_assert!(low.is_finite() && low <= high && high.is_finite());
            }
            let Some(shares) = a.figures.verdict_probabilities else { return Ok(()) };
            prop_assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-12);
            let given = shares.get(a.decision.as_str()).copied();
            prop_assert_eq!(a.confidence, given);
            let largest = shares.values().copied().fold(0.0, f64::max);
            match a.decision {
                InsufficientData => prop_assert_eq!(given, Some(largest)),
                NoDefensibleWinner => prop_assert!(largest < 0.7),
                _ => prop_assert!(given == Some(largest) && largest >= 0.7),
            }
        }

        /// What is shown is at the modes, however wide the ranges are.
        #[test]
        fn ranges_widen_nothing_else(context in any_ranged(), seed in any::<[u8; 32]>()) {
            let (ranged, known) = (drawn(&context, &seed), appraised(&each(&context, known)));
            let shown = |a: &Appraisal| (
                (a.figures.roi_percent, a.figures.risk, a.figures.risk_range),
                (a.figures.npv, a.figures.payback_days, a.figures.discounted_payback_days),
                (a.figures.missing.clone(), a.risk_mitigation.clone()),
            );
            prop_assert_eq!(shown(&ranged), shown(&known));
            if ranged.decision == known.decision {
                prop_assert_eq!(ranged.success_criteria, known.success_criteria);
                prop_assert_eq!(ranged.figures.priority, known.figures.priority);
            }
        }

        #[test]
        fn draws_stay_within_the_ranges(context in any_ranged(), seed in any::<[u8; 32]>()) {
            let a = drawn(&context, &seed);
            if let (Some([low, high]), Some(cost), Some(revenue)) =
                (a.figures.roi_interval_percent, context.estimated_cost, context.expected_revenue)
            {
                let roi = |revenue: f64, cost: f64| rounded((revenue - cost) / cost * 100.0);
                prop_assert!(roi(revenue.low(), cost.high()) <= low);
                prop_assert!(high <= roi(revenue.high(), cost.low()));
            }
        }
    }
}

//! The appraisal of an investment: what it returns, what it risks, how
//! pressing it is, and what follows from the three.
//!
//! No missing fact is replaced by a default. Without cost or revenue there is
//! no ROI and no verdict. A risk input that is not given is taken as anything
//! from 0 to 10: the verdict stands if all of those lead to it, and is not
//! given otherwise.

use serde::{Deserialize, Serialize};

use super::plan::PlanPhase;
use super::policy::Priority;
use crate::domain::validation::FieldError;

const MAX_TITLE_CHARS: usize = 200;
const MAX_DESCRIPTION_CHARS: usize = 2_000;
/// Largest amount: whole units stay exact in a float, with room to multiply.
const MAX_AMOUNT: f64 = 1e15;
/// Smallest cost: keeps ROI finite, at most 10^23 %.
const MIN_COST: f64 = 1e-6;
const MAX_DAYS: f64 = 3_650.0;

/// The ends of a risk input's scale.
const LEAST: f64 = 0.0;
const MOST: f64 = 10.0;

/// How the stated days are divided between preparation, delivery and
/// verification: policy, not an estimate of this investment.
const PREPARATION_SHARE: f64 = 0.2;
const DELIVERY_SHARE: f64 = 0.6;

/// What is known of an investment. Everything is optional; amounts of money
/// are in one currency, which the rules do not need to know.
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
    /// Money, above 0: 0.000001 to 1e15.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = MIN_COST, max = MAX_AMOUNT)))]
    pub estimated_cost: Option<f64>,
    /// Money, 0 or more.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = MAX_AMOUNT)))]
    pub expected_revenue: Option<f64>,
    /// Days, above 0 and at most 3650.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(max = MAX_DAYS), extend("exclusiveMinimum" = 0)))]
    pub estimated_days: Option<f64>,
    /// 0 (simple) to 10.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = LEAST, max = MOST)))]
    pub technical_complexity: Option<f64>,
    /// 0 (certain) to 10.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = LEAST, max = MOST)))]
    pub market_uncertainty: Option<f64>,
    /// 0 (none) to 10 (all there).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = LEAST, max = MOST)))]
    pub resource_availability: Option<f64>,
    /// 0 (no deadline) to 10.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = LEAST, max = MOST)))]
    pub timeline_pressure: Option<f64>,
    /// Money at stake, 0 or more; above 1,000,000 makes the priority critical.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = MAX_AMOUNT)))]
    pub revenue_impact: Option<f64>,
    /// Customers touched, 0 or more; above 10,000 makes the priority high.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = MAX_AMOUNT)))]
    pub customer_impact: Option<f64>,
    /// Size of the effect on operations, 0 or more; above 100 makes the
    /// priority medium.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = MAX_AMOUNT)))]
    pub operational_impact: Option<f64>,
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
    InsufficientData,
}

impl Decision {
    /// As it is written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApproveImmediate => "APPROVE_IMMEDIATE",
            Self::ApproveScheduled => "APPROVE_SCHEDULED",
            Self::ApproveConditional => "APPROVE_CONDITIONAL",
            Self::DeferOrReject => "DEFER_OR_REJECT",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}

/// What the rules say of an investment, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Appraisal {
    pub decision: Decision,
    /// Null where there is no verdict and no impact was stated.
    pub priority: Option<Priority>,
    /// Percent: `(expected_revenue − estimated_cost) / estimated_cost · 100`.
    pub roi_percent: Option<f64>,
    /// 0 to 1: the mean of `technical_complexity`, `market_uncertainty`,
    /// `10 − resource_availability` and `timeline_pressure`, over 10. Null
    /// unless all four are given.
    pub risk: Option<f64>,
    /// The lowest and highest risk that the missing inputs leave open. Null
    /// where `risk` is known.
    pub risk_range: Option<[f64; 2]>,
    /// One sentence a term, with the numbers it rests on.
    pub rationale: String,
    /// Inputs of the verdict that were not given: cost, revenue, risk inputs.
    pub missing: Vec<String>,
    /// For an approval, phases that add up to `estimated_days`. Else what to
    /// find out, which has no duration.
    pub implementation_plan: Vec<PlanPhase>,
    pub success_metrics: Vec<String>,
    pub risk_mitigation: Vec<String>,
}

impl AppraisalContext {
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
        // A range holds neither NaN nor an infinity.
        let cost = (
            MIN_COST..=MAX_AMOUNT,
            "must be above 0 (0.000001 to 1e15): a cost of 0 leaves ROI undefined",
        );
        let amount = (0.0..=MAX_AMOUNT, "must be a number from 0 to 1e15");
        let days = (f64::from_bits(1)..=MAX_DAYS, "must be above 0 and at most 3650 days");
        let scale = (LEAST..=MOST, "must be a number from 0 to 10");
        for (name, value, (range, detail)) in [
            ("estimated_cost", self.estimated_cost, &cost),
            ("expected_revenue", self.expected_revenue, &amount),
            ("estimated_days", self.estimated_days, &days),
            ("technical_complexity", self.technical_complexity, &scale),
            ("market_uncertainty", self.market_uncertainty, &scale),
            ("resource_availability", self.resource_availability, &scale),
            ("timeline_pressure", self.timeline_pressure, &scale),
            ("revenue_impact", self.revenue_impact, &amount),
            ("customer_impact", self.customer_impact, &amount),
            ("operational_impact", self.operational_impact, &amount),
        ] {
            if value.is_some_and(|value| !range.contains(&value)) {
                errors.push(FieldError::new(format!("/{name}"), *detail));
            }
        }
        errors
    }

    fn roi_percent(&self) -> Option<f64> {
        let cost = self.estimated_cost.filter(|cost| *cost > 0.0)?;
        let revenue = self.expected_revenue?;
        Some(rounded((revenue - cost) / cost * 100.0))
    }

    /// The terms of the risk, 0 to 10 each. A lack of resources is the risk,
    /// so availability counts down from 10.
    fn risk_terms(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("technical_complexity", self.technical_complexity),
            ("market_uncertainty", self.market_uncertainty),
            ("resource_availability", self.resource_availability.map(|given| MOST - given)),
            ("timeline_pressure", self.timeline_pressure),
        ]
    }

    fn missing_risk_inputs(&self) -> Vec<&'static str> {
        let missing = self.risk_terms().into_iter().filter(|(_, term)| term.is_none());
        missing.map(|(name, _)| name).collect()
    }

    /// Risk with every missing term at its least and at its most.
    fn risk_range(&self) -> [f64; 2] {
        [LEAST, MOST].map(|unknown| {
            let sum: f64 = self.risk_terms().iter().map(|(_, term)| term.unwrap_or(unknown)).sum();
            rounded(sum / (4.0 * MOST))
        })
    }

    /// The impacts, each with the priority it brings and the value above which
    /// it does, most pressing first.
    fn impacts(&self) -> [(&'static str, Option<f64>, f64, Priority); 3] {
        [
            ("revenue_impact", self.revenue_impact, 1_000_000.0, Priority::Critical),
            ("customer_impact", self.customer_impact, 10_000.0, Priority::High),
            ("operational_impact", self.operational_impact, 100.0, Priority::Medium),
        ]
    }

    fn has_impacts(&self) -> bool {
        self.impacts().iter().any(|(_, value, ..)| value.is_some())
    }

    fn priority(&self) -> Priority {
        let decisive = self
            .impacts()
            .into_iter()
            .find(|(_, value, limit, _)| value.is_some_and(|value| value > *limit));
        decisive.map_or(Priority::Low, |(.., priority)| priority)
    }
}

/// Nine decimals, and no negative zero. Amounts that are not exact in binary
/// would otherwise tip a limit: 0.7 to 2.1 is an ROI of 200 %, which floats
/// make 200.00000000000003.
fn rounded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9 + 0.0
}

/// The verdict of the rules; never [`Decision::InsufficientData`]. It gets no
/// worse as ROI rises and no better as risk does, which [`appraise`] relies on.
fn verdict(priority: Priority, roi_percent: f64, risk: f64) -> Decision {
    let pressing = matches!(priority, Priority::Critical | Priority::High);
    if pressing && roi_percent > 200.0 && risk < 0.3 {
        Decision::ApproveImmediate
    } else if pressing && roi_percent > 100.0 && risk < 0.5 {
        Decision::ApproveScheduled
    } else if roi_percent > 50.0 && risk < 0.7 {
        Decision::ApproveConditional
    } else {
        Decision::DeferOrReject
    }
}

/// Appraises a context that [`AppraisalContext::validate`] found valid. Of any
/// other the result means nothing, but there is one.
pub fn appraise(context: &AppraisalContext) -> Appraisal {
    let roi_percent = context.roi_percent();
    let risk_range = context.risk_range();
    let [lowest_risk, highest_risk] = risk_range;
    let priority = context.priority();

    // The verdict gets no better as risk rises, so equal ends mean the same all between.
    let ends = roi_percent.map(|roi| risk_range.map(|risk| verdict(priority, roi, risk)));
    let decision = match ends {
        Some([best, worst]) if best == worst => best,
        _ => Decision::InsufficientData,
    };

    let missing_risk_inputs = context.missing_risk_inputs();
    let risk_is_known = missing_risk_inputs.is_empty();
    let money = [
        ("estimated_cost", context.estimated_cost),
        ("expected_revenue", context.expected_revenue),
    ];
    let missing_money = money.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| *name);
    let missing: Vec<String> =
        missing_money.chain(missing_risk_inputs).map(str::to_owned).collect();

    let (implementation_plan, success_metrics) = match (decision, roi_percent) {
        (Decision::InsufficientData, _) | (_, None) => find_out("Evidence", unknowns(&missing)),
        (Decision::DeferOrReject, Some(roi)) => {
            find_out("Reconsideration", obstacles(context, roi, lowest_risk))
        }
        (approval, Some(roi)) => (plan_of_work(approval, context), success_metrics(context, roi)),
    };

    let mut rationale = vec![
        explain_roi(context, roi_percent),
        explain_risk(context, ends),
        explain_priority(context),
        explain_decision(decision).to_owned(),
    ];
    if implementation_plan.iter().any(|phase| phase.duration_days.is_some()) {
        rationale.push(
            "The plan divides the stated days by policy, 20:60:20, between preparation, delivery \
             and verification."
                .to_owned(),
        );
    }

    let is_decided = decision != Decision::InsufficientData;
    Appraisal {
        decision,
        priority: (is_decided || context.has_impacts()).then_some(priority),
        roi_percent,
        risk: risk_is_known.then_some(highest_risk),
        risk_range: (!risk_is_known).then_some(risk_range),
        rationale: rationale.join(" "),
        missing,
        implementation_plan,
        success_metrics,
        risk_mitigation: risk_mitigation(context),
    }
}

fn explain_roi(context: &AppraisalContext, roi_percent: Option<f64>) -> String {
    match (roi_percent, context.estimated_cost, context.expected_revenue) {
        (Some(roi), Some(cost), Some(revenue)) => format!(
            "ROI is {roi} %: (expected_revenue {revenue} − estimated_cost {cost}) / {cost} · 100."
        ),
        (_, None, None) => "ROI cannot be computed, as estimated_cost and expected_revenue are \
                            not given."
            .to_owned(),
        (_, Some(_), None) => {
            "ROI cannot be computed, as expected_revenue is not given.".to_owned()
        }
        _ => "ROI cannot be computed, as estimated_cost is not given.".to_owned(),
    }
}

/// `ends` are the verdicts at the lowest and at the highest risk.
fn explain_risk(context: &AppraisalContext, ends: Option<[Decision; 2]>) -> String {
    let [low, high] = context.risk_range();
    let missing = context.missing_risk_inputs();
    if missing.is_empty() {
        let terms = context.risk_terms().map(|(name, term)| {
            let term = rounded(term.unwrap_or_default());
            match (name, context.resource_availability) {
                ("resource_availability", Some(given)) => format!("10 − {name} {given} = {term}"),
                _ => format!("{name} {term}"),
            }
        });
        return format!("Risk is {low}: the mean of {}, over 10.", terms.join(", "));
    }
    let given = if missing.len() == 1 { "is" } else { "are" };
    let open =
        format!("Risk lies between {low} and {high}, as {} {given} not given", listed(&missing));
    match ends {
        None => format!("{open}."),
        Some([best, worst]) if best == worst => {
            format!("{open}; the verdict holds anywhere in there.")
        }
        Some([best, worst]) => format!(
            "{open}; the verdict is {} at the low end and {} at the high end, so there is none.",
            best.as_str(),
            worst.as_str()
        ),
    }
}

fn explain_priority(context: &AppraisalContext) -> String {
    if !context.has_impacts() {
        return "No impact was stated, so priority is low by rule.".to_owned();
    }
    let priority = context.priority();
    let word = priority.word();
    let mut text = match context.impacts().into_iter().find(|(.., brings)| *brings == priority) {
        Some((name, Some(value), limit, _)) => {
            format!("Priority is {word}: {name} {value} is above {limit}.")
        }
        _ => {
            let stated = context.impacts().into_iter().filter_map(|(name, value, limit, _)| {
                value.map(|value| format!("{name} {value} is not above {limit}"))
            });
            format!("Priority is {word}: {}.", stated.collect::<Vec<_>>().join(", "))
        }
    };
    let unstated: Vec<_> =
        context.impacts().into_iter().filter(|(_, value, ..)| value.is_none()).collect();
    let unstated: Vec<_> = unstated.iter().map(|(name, ..)| *name).collect();
    if !unstated.is_empty() {
        text.push_str(&format!(" Not stated, so without effect: {}.", listed(&unstated)));
    }
    text
}

const fn explain_decision(decision: Decision) -> &'static str {
    match decision {
        Decision::ApproveImmediate => {
            "APPROVE_IMMEDIATE: priority is critical or high, ROI above 200 % and risk below 0.3."
        }
        Decision::ApproveScheduled => {
            "APPROVE_SCHEDULED: priority is critical or high, ROI above 100 % and risk below 0.5, \
             short of ROI above 200 % with risk below 0.3."
        }
        Decision::ApproveConditional => {
            "APPROVE_CONDITIONAL: ROI is above 50 % and risk below 0.7, short of a critical or \
             high priority with ROI above 100 % and risk below 0.5."
        }
        Decision::DeferOrReject => {
            "DEFER_OR_REJECT: the widest rule for an approval, ROI above 50 % and risk below 0.7, \
             does not hold."
        }
        Decision::InsufficientData => {
            "INSUFFICIENT_DATA: no verdict is given in place of the missing facts."
        }
    }
}

/// Something to find out before an approval is possible.
struct Question {
    activity: String,
    /// What holds once it has a good answer.
    metric: String,
}

/// A plan whose one phase answers the questions; nobody knows how long it takes.
fn find_out(phase: &str, questions: Vec<Question>) -> (Vec<PlanPhase>, Vec<String>) {
    let (activities, metrics) =
        questions.into_iter().map(|question| (question.activity, question.metric)).unzip();
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

/// What keeps every approval out of reach.
fn obstacles(context: &AppraisalContext, roi_percent: f64, lowest_risk: f64) -> Vec<Question> {
    let mut obstacles = Vec::new();
    if let Some(cost) = context.estimated_cost.filter(|_| roi_percent <= 50.0) {
        obstacles.push(Question {
            // ROI above 50 % is revenue above one and a half times the cost.
            activity: format!(
                "Find out whether revenue above {} is within reach at a cost of {cost}: ROI is \
                 {roi_percent} % and an approval needs more than 50 %.",
                rounded(cost * 1.5)
            ),
            metric: "ROI above 50 %.".to_owned(),
        });
    }
    if lowest_risk >= 0.7 {
        obstacles.push(Question {
            activity: format!(
                "Find out how to lower the risk: it is at least {lowest_risk} and an approval \
                 needs less than 0.7."
            ),
            metric: "Risk below 0.7.".to_owned(),
        });
    }
    obstacles
}

fn plan_of_work(approval: Decision, context: &AppraisalContext) -> Vec<PlanPhase> {
    let start = match approval {
        Decision::ApproveImmediate => "Start at once: name the owner and release the budget.",
        Decision::ApproveScheduled => "Name the owner and set the start date and the budget.",
        _ => "Name the owner and agree the conditions on which the budget is released.",
    };
    let mut preparation = vec![start.to_owned()];
    let missing = context.missing_risk_inputs();
    preparation.extend(missing.iter().map(|name| format!("Find out {name}.")));
    if !risk_mitigation(context).is_empty() {
        preparation.push("Assign every measure under risk_mitigation.".to_owned());
    }

    let mut delivery = Vec::new();
    if approval == Decision::ApproveConditional {
        delivery.push("Begin once the agreed conditions are met.".to_owned());
    }
    delivery.push(match context.estimated_cost {
        Some(cost) => format!("Deliver, with the spending held against the cost of {cost}."),
        None => "Deliver.".to_owned(),
    });

    let verification = vec![
        "Measure every number under success_metrics.".to_owned(),
        "Record the outcome beside this decision.".to_owned(),
    ];

    let durations = context.estimated_days.map(|days| {
        let preparation = rounded(days * PREPARATION_SHARE);
        let delivery = rounded(days * DELIVERY_SHARE);
        // What is left, so that the three add up.
        [preparation, delivery, rounded(days - preparation - delivery)]
    });
    let durations = match durations {
        Some(days) => days.map(Some),
        None => [None; 3],
    };
    let work =
        [("Preparation", preparation), ("Delivery", delivery), ("Verification", verification)];
    let phases = work.into_iter().zip(durations).map(|((phase, activities), duration_days)| {
        PlanPhase { phase: phase.to_owned(), duration_days, activities }
    });
    phases.collect()
}

/// The given numbers turned round into what has to come true.
fn success_metrics(context: &AppraisalContext, roi_percent: f64) -> Vec<String> {
    let review = match context.estimated_days {
        Some(days) => format!(", reviewed {days} days after the start"),
        None => String::new(),
    };
    let mut metrics = Vec::new();
    if let Some(revenue) = context.expected_revenue {
        metrics.push(format!("Revenue of at least {revenue}{review}."));
    }
    if let Some(cost) = context.estimated_cost {
        metrics.push(format!("Cost of at most {cost}{review}."));
    }
    metrics.push(format!("ROI of at least {roi_percent} %{review}."));
    if let Some(days) = context.estimated_days {
        metrics.push(format!("Delivered within {days} days."));
    }
    for (name, value, ..) in context.impacts() {
        if let Some(value) = value.filter(|value| *value > 0.0) {
            metrics.push(format!("{name} of at least {value}{review}."));
        }
    }
    metrics
}

fn risk_mitigation(context: &AppraisalContext) -> Vec<String> {
    let measure = |name| match name {
        "technical_complexity" => "prove the hardest part first, before the rest is built",
        "market_uncertainty" => "test demand with a pilot before the whole is spent",
        "resource_availability" => "have people and budget committed by name before the start",
        _ => "agree what may be left out before the deadline decides it",
    };
    let high = context.risk_terms().into_iter().filter(|(_, term)| term.is_some_and(|t| t >= 7.0));
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
            context.affects_customers,
            "Customers are affected: release in steps, tell them first, keep a way back.",
        ),
        (
            context.affects_revenue,
            "Revenue is affected: agree the loss at which to turn back, and watch for it.",
        ),
        (
            context.affects_operations,
            "Operations are affected: rehearse the change and its reversal with those on call.",
        ),
        (
            context.affects_security,
            "Security is affected: model the threats before building, review before release.",
        ),
        (
            context.affects_compliance,
            "Compliance is affected: have whoever answers for it sign before release.",
        ),
    ] {
        if affected == Some(true) {
            measures.push(measure.to_owned());
        }
    }
    measures
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::*;
    use super::*;
    use proptest::prelude::*;

    /// Risk 0.25, ROI 250 %, critical: approved at once.
    fn good() -> AppraisalContext {
        AppraisalContext {
            estimated_cost: Some(100_000.0),
            expected_revenue: Some(350_000.0),
            estimated_days: Some(90.0),
            technical_complexity: Some(3.0),
            market_uncertainty: Some(2.0),
            resource_availability: Some(8.0),
            timeline_pressure: Some(3.0),
            revenue_impact: Some(2_000_000.0),
            ..AppraisalContext::default()
        }
    }

    /// A context whose four risk terms are all `term`.
    fn with(revenue: f64, term: f64, revenue_impact: f64) -> AppraisalContext {
        AppraisalContext {
            estimated_cost: Some(100.0),
            expected_revenue: Some(revenue),
            technical_complexity: Some(term),
            market_uncertainty: Some(term),
            resource_availability: Some(10.0 - term),
            timeline_pressure: Some(term),
            revenue_impact: Some(revenue_impact),
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
            let appraisal = appraise(&with(revenue, term, impact));
            assert_eq!(appraisal.decision, expected, "{revenue} {term} {impact}");
        }
    }

    #[test]
    fn amounts_that_are_not_exact_in_binary_do_not_tip_a_limit() {
        for (cost, revenue, roi) in
            [(0.7, 2.1, 200.0), (0.1, 0.3, 200.0), (0.1, 0.2, 100.0), (1.1, 1.65, 50.0)]
        {
            let context =
                AppraisalContext { estimated_cost: Some(cost), ..with(revenue, 0.0, 0.0) };
            assert_eq!(appraise(&context).roi_percent, Some(roi), "{cost} {revenue}");
        }
        assert_eq!(rounded(-1e-12).to_string(), "0");
        // 2.9 + 3.1 + (10 − 7.1) + 3.1
        let context = AppraisalContext {
            technical_complexity: Some(2.9),
            market_uncertainty: Some(3.1),
            resource_availability: Some(7.1),
            timeline_pressure: Some(3.1),
            ..good()
        };
        assert_eq!(appraise(&context).risk, Some(0.3));
        assert_eq!(appraise(&context).decision, ApproveScheduled);
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
            let appraisal = appraise(&AppraisalContext {
                revenue_impact: revenue,
                customer_impact: customers,
                operational_impact: operations,
                ..good()
            });
            assert_eq!(
                appraisal.priority,
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
        let appraisal = appraise(&context);
        assert_eq!(appraisal.decision, ApproveImmediate);
        assert_eq!(
            (appraisal.roi_percent, appraisal.risk, appraisal.risk_range),
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
                "Revenue of at least 350000, reviewed 90 days after the start.",
                "Cost of at most 100000, reviewed 90 days after the start.",
                "ROI of at least 250 %, reviewed 90 days after the start.",
                "Delivered within 90 days.",
                "revenue_impact of at least 2000000, reviewed 90 days after the start.",
            ]
        );
        assert_eq!(
            appraisal.risk_mitigation,
            ["Security is affected: model the threats before building, review before release."]
        );
        assert!(appraisal.missing.is_empty());
    }

    #[test]
    fn without_cost_or_revenue_there_is_no_verdict() {
        let no_cost = appraise(&AppraisalContext { estimated_cost: None, ..good() });
        let no_revenue = appraise(&AppraisalContext { expected_revenue: None, ..good() });
        let nothing = appraise(&AppraisalContext::default());
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
            assert_eq!(appraisal.roi_percent, None);
            assert_eq!(appraisal.missing, missing);
            for name in missing {
                assert!(appraisal.rationale.contains(name), "{}", appraisal.rationale);
            }
            let [phase] = &appraisal.implementation_plan[..] else { panic!() };
            assert_eq!((phase.duration_days, phase.activities.len()), (None, missing.len()));
        }
        assert_eq!(no_cost.priority, Some(Priority::Critical));
        assert_eq!(nothing.priority, None);
        assert_eq!(nothing.risk_range, Some([0.0, 1.0]));
        assert!(nothing.rationale.contains("No impact was stated, so priority is low by rule."));
    }

    #[test]
    fn a_missing_risk_input_matters_only_if_it_could_turn_the_verdict() {
        // The other three leave 0.2 to 0.45: immediate or scheduled.
        let open = appraise(&AppraisalContext {
            timeline_pressure: None,
            technical_complexity: Some(4.0),
            ..good()
        });
        assert_eq!(open.decision, InsufficientData);
        assert_eq!((open.risk, open.risk_range), (None, Some([0.2, 0.45])));
        assert_eq!(open.missing, ["timeline_pressure"]);
        assert!(open.rationale.contains(
            "Risk lies between 0.2 and 0.45, as timeline_pressure is not given; the verdict is \
             APPROVE_IMMEDIATE at the low end and APPROVE_SCHEDULED at the high end, so there is none."
        ), "{}", open.rationale);

        // ROI 150 %: scheduled at either end.
        let stands = appraise(&AppraisalContext {
            timeline_pressure: None,
            technical_complexity: Some(4.0),
            expected_revenue: Some(250_000.0),
            ..good()
        });
        assert_eq!(stands.decision, ApproveScheduled);
        assert_eq!((stands.risk, stands.risk_range), (None, Some([0.2, 0.45])));
        assert_eq!(stands.missing, ["timeline_pressure"]);
        assert!(
            stands.rationale.contains("the verdict holds anywhere in there"),
            "{}",
            stands.rationale
        );

        // A loss is a loss whatever the risk.
        let loss = appraise(&AppraisalContext {
            estimated_cost: Some(100.0),
            expected_revenue: Some(50.0),
            ..AppraisalContext::default()
        });
        assert_eq!((loss.decision, loss.risk_range), (DeferOrReject, Some([0.0, 1.0])));
    }

    #[test]
    fn a_deferral_says_what_to_find_out() {
        let appraisal =
            appraise(&AppraisalContext { estimated_days: Some(30.0), ..with(120.0, 8.0, 0.0) });
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
            let measures = appraise(context).risk_mitigation;
            measures.iter().map(|text| text.split(':').next().unwrap().to_owned()).collect()
        };
        let quiet = AppraisalContext {
            technical_complexity: Some(6.9),
            market_uncertainty: Some(6.9),
            resource_availability: Some(3.1),
            timeline_pressure: Some(6.9),
            affects_customers: Some(false),
            ..good()
        };
        assert!(starts(&quiet).is_empty());
        let loud = AppraisalContext {
            technical_complexity: Some(7.0),
            market_uncertainty: Some(8.5),
            resource_availability: Some(3.0),
            timeline_pressure: Some(10.0),
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
        let valid: [Set; 6] = [
            |_| {},
            |c| c.title = Some("é".repeat(200)),
            |c| c.estimated_cost = Some(MIN_COST),
            |c| c.estimated_days = Some(3_650.0),
            |c| c.estimated_days = Some(f64::from_bits(1)),
            |c| c.resource_availability = Some(10.0),
        ];
        for set in valid {
            assert_eq!(errors(set), []);
        }
        let invalid: [(Set, &str); 17] = [
            (|c| c.title = Some("é".repeat(201)), "/title"),
            (|c| c.description = Some("é".repeat(2_001)), "/description"),
            (|c| c.estimated_cost = Some(0.0), "/estimated_cost"),
            (|c| c.estimated_cost = Some(-1.0), "/estimated_cost"),
            (|c| c.estimated_cost = Some(1e-300), "/estimated_cost"),
            (|c| c.estimated_cost = Some(1.1e15), "/estimated_cost"),
            (|c| c.expected_revenue = Some(-0.01), "/expected_revenue"),
            (|c| c.expected_revenue = Some(f64::INFINITY), "/expected_revenue"),
            (|c| c.estimated_days = Some(0.0), "/estimated_days"),
            (|c| c.estimated_days = Some(3_650.1), "/estimated_days"),
            (|c| c.technical_complexity = Some(10.1), "/technical_complexity"),
            (|c| c.market_uncertainty = Some(-0.1), "/market_uncertainty"),
            (|c| c.resource_availability = Some(f64::NAN), "/resource_availability"),
            (|c| c.timeline_pressure = Some(11.0), "/timeline_pressure"),
            (|c| c.revenue_impact = Some(-1.0), "/revenue_impact"),
            (|c| c.customer_impact = Some(1e16), "/customer_impact"),
            (|c| c.operational_impact = Some(f64::NAN), "/operational_impact"),
        ];
        for (set, pointer) in invalid {
            let pointers: Vec<_> = errors(set).into_iter().map(|error| error.pointer).collect();
            assert_eq!(pointers, [pointer]);
        }
        let zero_cost = errors(|c| c.estimated_cost = Some(0.0));
        assert!(zero_cost.iter().all(|error| error.detail.contains("ROI undefined")));
    }

    #[test]
    fn the_wire_form() {
        let context: AppraisalContext =
            serde_json::from_str(r#"{"estimated_cost": 100, "affects_security": true}"#).unwrap();
        assert_eq!((context.estimated_cost, context.affects_security), (Some(100.0), Some(true)));
        assert!(serde_json::from_str::<AppraisalContext>(r#"{"estimated_costs": 100}"#).is_err());
        assert!(serde_json::from_str::<AppraisalContext>(r#"{"estimated_cost": "100"}"#).is_err());
        for decision in [
            ApproveImmediate,
            ApproveScheduled,
            ApproveConditional,
            DeferOrReject,
            InsufficientData,
        ] {
            assert_eq!(serde_json::to_value(decision).unwrap(), decision.as_str());
        }
        let json = serde_json::to_value(appraise(&good())).unwrap();
        assert_eq!(json["decision"], "APPROVE_IMMEDIATE");
        assert_eq!(json["priority"], "critical");
        assert_eq!(json["risk_range"], serde_json::Value::Null);
    }

    fn rank(decision: Decision) -> Option<u8> {
        match decision {
            ApproveImmediate => Some(0),
            ApproveScheduled => Some(1),
            ApproveConditional => Some(2),
            DeferOrReject => Some(3),
            InsufficientData => None,
        }
    }

    fn maybe(range: std::ops::RangeInclusive<f64>) -> impl Strategy<Value = Option<f64>> {
        prop::option::weighted(0.8, range)
    }

    prop_compose! {
        fn any_valid()(
            (estimated_cost, estimated_days) in (maybe(MIN_COST..=1e9), maybe(1e-9..=3650.0)),
            ratio in maybe(0.0..=5.0),
            any_revenue in prop::option::weighted(0.2, 0.0..=1e15),
            (technical_complexity, market_uncertainty) in (maybe(0.0..=10.0), maybe(0.0..=10.0)),
            (resource_availability, timeline_pressure) in (maybe(0.0..=10.0), maybe(0.0..=10.0)),
            revenue_impact in maybe(0.0..=2e6),
            (customer_impact, operational_impact) in (maybe(0.0..=2e4), maybe(0.0..=200.0)),
            affects in prop::array::uniform5(any::<Option<bool>>()),
        ) -> AppraisalContext {
            let [
                affects_customers, affects_revenue, affects_operations,
                affects_security, affects_compliance,
            ] = affects;
            let near_cost = ratio.map(|ratio| ratio * estimated_cost.unwrap_or(1.0));
            let expected_revenue = any_revenue.or(near_cost);
            AppraisalContext {
                title: None, description: None,
                estimated_cost, expected_revenue, estimated_days,
                technical_complexity, market_uncertainty, resource_availability, timeline_pressure,
                revenue_impact, customer_impact, operational_impact,
                affects_customers, affects_revenue, affects_operations,
                affects_security, affects_compliance,
            }
        }
    }

    proptest! {
        #[test]
        fn any_valid_context_has_a_finite_appraisal(context in any_valid()) {
            prop_assert_eq!(context.validate(), vec![]);
            let a = appraise(&context);
            prop_assert!(a.roi_percent.is_none_or(f64::is_finite));
            prop_assert_eq!(a.risk.is_none(), a.risk_range.is_some());
            let [low, high] = a.risk_range.unwrap_or([a.risk.unwrap_or(f64::NAN); 2]);
            prop_assert!(0.0 <= low && low <= high && high <= 1.0);
            let undecided = a.decision == InsufficientData;
            prop_assert!(!undecided || !a.missing.is_empty());
            prop_assert!(a.missing.iter().all(|name| a.rationale.contains(name.as_str())));
            prop_assert!(!a.implementation_plan.is_empty() && !a.success_metrics.is_empty());
            prop_assert!(a.implementation_plan.iter().all(|phase| !phase.activities.is_empty()));
        }

        #[test]
        fn the_phases_of_an_approval_add_up_to_the_stated_days(context in any_valid()) {
            let a = appraise(&context);
            let approved = rank(a.decision).is_some_and(|rank| rank < 3);
            let durations: Option<Vec<f64>> =
                a.implementation_plan.iter().map(|phase| phase.duration_days).collect();
            match context.estimated_days.filter(|_| approved) {
                Some(days) => {
                    let durations = durations.unwrap();
                    prop_assert!(durations.iter().all(|days| *days >= 0.0));
                    prop_assert!((durations.iter().sum::<f64>() - days).abs() < 1e-8);
                }
                None => prop_assert_eq!(durations, None),
            }
        }

        #[test]
        fn more_revenue_is_never_worse(context in any_valid(), factor in 1.0..10.0) {
            let richer = AppraisalContext {
                expected_revenue: context.expected_revenue.map(|revenue| revenue * factor),
                ..context.clone()
            };
            if let (Some(before), Some(after)) =
                (rank(appraise(&context).decision), rank(appraise(&richer).decision))
            {
                prop_assert!(after <= before);
            }
        }

        #[test]
        fn less_risk_is_never_worse(context in any_valid(), k in prop::array::uniform4(0.0..=1.0)) {
            let less = |value: Option<f64>, k: f64| value.map(|value| value * k);
            let safer = AppraisalContext {
                technical_complexity: less(context.technical_complexity, k[0]),
                market_uncertainty: less(context.market_uncertainty, k[1]),
                resource_availability: context.resource_availability.map(|v| 10.0 - (10.0 - v) * k[2]),
                timeline_pressure: less(context.timeline_pressure, k[3]),
                ..context.clone()
            };
            if let (Some(before), Some(after)) =
                (rank(appraise(&context).decision), rank(appraise(&safer).decision))
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
                let market_uncertainty = Some(value);
                appraise(&AppraisalContext { market_uncertainty, ..open.clone() }).decision
            };
            let decision = appraise(&open).decision;
            if decision != InsufficientData {
                prop_assert_eq!(at(value), decision);
            } else if at(value) != InsufficientData {
                prop_assert_ne!(at(0.0), at(10.0));
            }
        }
    }
}

//! Policies: what a decision is made by, as data. Thresholds, weights, bounds,
//! the catalogue of strategies and how good evidence must be. A number in here
//! is somebody's choice, with a name and a version; none is a measurement.

use super::plan::PlanPhase;
use super::priority::Priority;
use super::ranking::{Direction, rounded};
use crate::domain::validation::{FieldError, check_text, whole_required};
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::{id::SLUG, validation::PRINTABLE};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The policy that a tenant begins with; there is one kind for now.
pub const STANDARD: &str = "standard";

/// What ships with this version.
pub const SHIPPED: &str = include_str!("policy.json");

/// Which rule says how old and how thin a fact may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Given with the question.
    Caller,
    /// Made from observations of the last 24 h.
    Observed,
    /// The last value somebody sent.
    Kpi,
    /// The score, and the attainments it is made of.
    Score,
    /// Budgets and burn of objectives.
    Slo,
    /// Progress that was reported.
    Deliverables,
    /// What is open now.
    Incidents,
}

/// What an option of the catalogue is called.
#[cfg(not(target_arch = "wasm32"))]
pub const OPTION_ID: &str = "^[A-Z][A-Z0-9_]{1,63}$";

/// What a catalogue's formulas may speak of, of all partnerships together:
/// how many there are, how far the best score is from the worst (over 100),
/// and else the mean over those where it is known.
pub const SIGNALS: &[&str] = &[
    "partnerships",
    "spread",
    "score_gap",
    "availability_gap",
    "kpi_gap",
    "delivery_gap",
    "budget_spent",
    "incidents",
    "cost_share",
    "time_share",
];

/// The same of the option's target, from 0 (as agreed) to 1.
pub const TARGET_SIGNALS: &[&str] = &[
    "target.score_gap",
    "target.availability_gap",
    "target.latency_gap",
    "target.kpi_gap",
    "target.delivery_gap",
    "target.budget_spent",
    "target.incidents",
];

/// A policy, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// 1 to 200 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200), regex(pattern = PRINTABLE)))]
    pub title: String,
    pub stability: StabilityRules,
    pub evidence: EvidenceRules,
    pub appraisal: AppraisalPolicy,
    pub strategy: StrategyPolicy,
}

/// When a first place is good enough to be called a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StabilityRules {
    /// Draws of weights, or of ranges.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 2_000, max = 5_000)))]
    #[serde(deserialize_with = "whole_required")]
    pub draws: u32,
    /// Sum of the parameters of the Dirichlet distribution that weights are
    /// drawn from: a weight w has a standard deviation of
    /// √(w(1−w)/(concentration + 1)).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 1_000)))]
    pub concentration: f64,
    /// Share of draws that the leader must win, 0.5 to 1.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0.5, max = 1)))]
    pub min_share: f64,
}

/// How old a fact may be, and how many samples it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EvidenceRule {
    /// Seconds, up to ten years.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 315_360_000)))]
    #[serde(deserialize_with = "whole_required")]
    pub max_age_s: u32,
    /// Fewer samples are too thin; facts without a number of samples pass.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(max = 1_000_000)))]
    #[serde(deserialize_with = "whole_required")]
    pub min_n: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EvidenceRules {
    pub observed: EvidenceRule,
    pub kpi: EvidenceRule,
    pub score: EvidenceRule,
    pub slo: EvidenceRule,
    pub deliverables: EvidenceRule,
    pub incidents: EvidenceRule,
}

impl EvidenceRules {
    /// `None`: what the caller says is taken as said.
    pub fn of(&self, family: Family) -> Option<EvidenceRule> {
        match family {
            Family::Caller => None,
            Family::Observed => Some(self.observed),
            Family::Kpi => Some(self.kpi),
            Family::Score => Some(self.score),
            Family::Slo => Some(self.slo),
            Family::Deliverables => Some(self.deliverables),
            Family::Incidents => Some(self.incidents),
        }
    }
}

#[cfg(test)]
impl Default for EvidenceRules {
    fn default() -> Self {
        shipped().unwrap().evidence
    }
}

/// The rules of an appraisal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AppraisalPolicy {
    pub approve_immediate: ApprovalRule,
    pub approve_scheduled: ApprovalRule,
    pub approve_conditional: ApprovalRule,
    pub priorities: PriorityLimits,
    /// Share of the stated days for preparation; what preparation and delivery
    /// leave is for verification.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub preparation_share: f64,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub delivery_share: f64,
    /// A term of the risk from here on asks for a measure, 0 to 10.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 10)))]
    pub mitigate_from: f64,
}

/// Holds where the priority is among these, ROI above and risk below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 4)))]
    pub priorities: Vec<Priority>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -100, max = 1_000_000)))]
    pub roi_above_percent: f64,
    /// 0 to 1.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub risk_below: f64,
}

/// Above which an impact makes a priority.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PriorityLimits {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1e15)))]
    pub critical_revenue_impact: f64,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1e15)))]
    pub high_customer_impact: f64,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1e15)))]
    pub medium_operational_impact: f64,
}

/// What a business wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    IncreaseRevenue,
    ReduceCost,
    ImproveReliability,
    AccelerateDelivery,
    GrowBrand,
    ImproveCustomerSatisfaction,
}

impl Goal {
    pub const ALL: [Self; 6] = [
        Self::IncreaseRevenue,
        Self::ReduceCost,
        Self::ImproveReliability,
        Self::AccelerateDelivery,
        Self::GrowBrand,
        Self::ImproveCustomerSatisfaction,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::IncreaseRevenue => "increase_revenue",
            Self::ReduceCost => "reduce_cost",
            Self::ImproveReliability => "improve_reliability",
            Self::AccelerateDelivery => "accelerate_delivery",
            Self::GrowBrand => "grow_brand",
            Self::ImproveCustomerSatisfaction => "improve_customer_satisfaction",
        }
    }
}

/// Every goal, each with a weight at least: a map of the goals would leave all
/// of them open.
#[cfg(not(target_arch = "wasm32"))]
fn goals_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let weights = serde_json::json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 12,
        "propertyNames": { "pattern": SLUG },
        "additionalProperties": { "type": "number", "minimum": 0, "maximum": 1_000 },
    });
    let goals: serde_json::Map<String, serde_json::Value> =
        Goal::ALL.iter().map(|goal| (goal.name().to_owned(), weights.clone())).collect();
    schemars::json_schema!({
        "type": "object",
        "properties": goals,
        "required": Goal::ALL.map(Goal::name),
        "additionalProperties": false,
    })
}

/// What strategies are compared by, what goals make of it, and which there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StrategyPolicy {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 12)))]
    pub criteria: Vec<Criterion>,
    /// By goal, the weight of each criterion (0 and above, not all 0; one that
    /// is left out weighs nothing). Every goal must be there.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(schema_with = "goals_schema"))]
    pub goals: BTreeMap<Goal, BTreeMap<String, f64>>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 12)))]
    pub catalogue: Vec<CatalogueOption>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Criterion {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = SLUG)))]
    pub id: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200), regex(pattern = PRINTABLE)))]
    pub title: String,
    pub direction: Direction,
    /// The worst and best that any option could be: `low < high`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    pub low: f64,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    pub high: f64,
}

/// Which partnership an option is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TargetRule {
    /// The one with the lowest score.
    LowestScore,
    /// The one with the least error budget left.
    LeastBudget,
}

/// One strategy of the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CatalogueOption {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = OPTION_ID)))]
    pub id: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200), regex(pattern = PRINTABLE)))]
    pub title: String,
    /// Null: about all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetRule>,
    /// All must hold for the option to be there.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 10)))]
    pub preconditions: Vec<Precondition>,
    pub cost: CostModel,
    /// How long it takes, in days.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 3_650)))]
    pub days: f64,
    /// The value by each criterion that any goal weighs.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("minProperties" = 1, "maxProperties" = 12, "propertyNames" = { "pattern": SLUG })))]
    pub criteria: BTreeMap<String, Linear>,
    /// What is done in `days`; the shares add up to 1.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 6)))]
    pub plan: Vec<PlanShare>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 6)))]
    pub success: Vec<SuccessRule>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 10)))]
    pub risks: Vec<RiskRule>,
}

/// A signal that must be known and within these limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Precondition {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("enum" = [SIGNALS, TARGET_SIGNALS].concat())))]
    pub signal: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

/// `share_of_budget · budget + fixed`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CostModel {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub share_of_budget: f64,
    /// Money.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1e15)))]
    pub fixed: f64,
}

/// `base + Σ times · signal`, held within the criterion's bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Linear {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    pub base: f64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 8)))]
    pub terms: Vec<LinearTerm>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LinearTerm {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("enum" = [SIGNALS, TARGET_SIGNALS].concat())))]
    pub signal: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    pub times: f64,
}

/// A part of the plan. `{target}` and `{partner}` in its activities become
/// those of the option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PlanShare {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200), regex(pattern = PRINTABLE)))]
    pub phase: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub share: f64,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 6), inner(length(min = 1, max = 500), regex(pattern = PRINTABLE))))]
    pub activities: Vec<String>,
}

/// What shows that it worked, at the end of the time frame: a fact with
/// exactly one limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SuccessRule {
    /// Of the target (`target.score`), of the worst partnership
    /// (`worst.score`), or `cost`.
    pub fact: SuccessFact,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// At least today's value and this much more (at most 100 for a score, 1
    /// for a ratio).
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e12, max = 1e12)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise_by: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub enum SuccessFact {
    #[serde(rename = "target.score")]
    TargetScore,
    #[serde(rename = "target.attainment.availability")]
    TargetAvailability,
    #[serde(rename = "target.attainment.kpis")]
    TargetKpis,
    #[serde(rename = "target.attainment.deliverables")]
    TargetDeliverables,
    #[serde(rename = "target.slo_budget_remaining")]
    TargetBudget,
    #[serde(rename = "worst.score")]
    WorstScore,
    /// Money spent; its limit is the option's cost.
    #[serde(rename = "cost")]
    Cost,
}

/// A measure, where its condition holds; null: always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RiskRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Precondition>,
    /// What may go wrong.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 500), regex(pattern = PRINTABLE)))]
    pub risk: String,
    /// What is done about it.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 500), regex(pattern = PRINTABLE)))]
    pub measure: String,
}

/// The policy that ships with this version.
///
/// # Errors
/// Never for what passed the tests; no caller may panic, though.
pub fn shipped() -> Result<Policy, String> {
    serde_json::from_str(SHIPPED).map_err(|error| error.to_string())
}

/// What is wrong with a document, and where.
struct Findings(Vec<FieldError>);

impl Findings {
    fn number(&mut self, pointer: String, value: f64, low: f64, high: f64) {
        // (A range holds no NaN.)
        if !(low..=high).contains(&value) {
            self.0.push(FieldError::new(pointer, format!("expected {low} to {high}")));
        }
    }

    fn text(&mut self, pointer: String, text: &str, max_chars: usize) {
        if let Err(detail) = check_text(text, max_chars) {
            self.0.push(FieldError::new(pointer, detail));
        }
    }

    fn count(&mut self, pointer: String, n: usize, low: usize, high: usize) {
        if !(low..=high).contains(&n) {
            self.0.push(FieldError::new(pointer, format!("expected {low} to {high} entries")));
        }
    }

    fn check(&mut self, pointer: String, holds: bool, detail: &str) {
        if !holds {
            self.0.push(FieldError::new(pointer, detail));
        }
    }

    /// Each name once.
    fn unique<'a>(&mut self, pointer: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = Vec::new();
        for (at, name) in names.enumerate() {
            self.check(format!("{pointer}/{at}/id"), !seen.contains(&name), "is there twice");
            seen.push(name);
        }
    }
}

/// The largest number a policy holds.
const MOST: f64 = 1e12;

impl Policy {
    /// Everything that is wrong beyond the shape; empty for a valid policy.
    pub fn validate(&self) -> Vec<FieldError> {
        let mut found = Findings(Vec::new());
        found.text("/title".to_owned(), &self.title, 200);
        let StabilityRules { draws, concentration, min_share } = self.stability;
        found.number("/stability/draws".to_owned(), f64::from(draws), 2_000.0, 5_000.0);
        found.number("/stability/concentration".to_owned(), concentration, 1.0, 1_000.0);
        found.number("/stability/min_share".to_owned(), min_share, 0.5, 1.0);
        self.evidence.validate(&mut found);
        self.appraisal.validate(&mut found);
        self.strategy.validate(&mut found);
        found.0
    }
}

impl EvidenceRules {
    fn validate(&self, found: &mut Findings) {
        for (name, rule) in [
            ("observed", self.observed),
            ("kpi", self.kpi),
            ("score", self.score),
            ("slo", self.slo),
            ("deliverables", self.deliverables),
            ("incidents", self.incidents),
        ] {
            let age = f64::from(rule.max_age_s);
            found.number(format!("/evidence/{name}/max_age_s"), age, 1.0, 315_360_000.0);
            found.number(format!("/evidence/{name}/min_n"), f64::from(rule.min_n), 0.0, 1e6);
        }
    }
}

impl AppraisalPolicy {
    /// Preparation, delivery and verification with what is done in each, which
    /// add up to the days there are, where somebody said how many.
    pub fn phases(&self, days: Option<f64>, activities: [Vec<String>; 3]) -> Vec<PlanPhase> {
        let preparation = days.map(|days| rounded(days * self.preparation_share));
        let delivery = days.map(|days| rounded(days * self.delivery_share));
        // What is left, so that the three add up.
        let rest = |days: f64| Some(rounded(days - preparation? - delivery?));
        let names = ["Preparation", "Delivery", "Verification"];
        let durations = [preparation, delivery, days.and_then(rest)];
        names
            .into_iter()
            .zip(durations)
            .zip(activities)
            .map(|((phase, duration_days), activities)| PlanPhase {
                phase: phase.to_owned(),
                duration_days,
                activities,
            })
            .collect()
    }

    /// The rules for an approval, the best first.
    pub fn approvals(&self) -> [&ApprovalRule; 3] {
        [&self.approve_immediate, &self.approve_scheduled, &self.approve_conditional]
    }

    fn validate(&self, found: &mut Findings) {
        let names = ["approve_immediate", "approve_scheduled", "approve_conditional"];
        for (name, rule) in names.iter().zip(self.approvals()) {
            let at = format!("/appraisal/{name}");
            found.count(format!("{at}/priorities"), rule.priorities.len(), 1, 4);
            found.number(format!("{at}/roi_above_percent"), rule.roi_above_percent, -100.0, 1e6);
            found.number(format!("{at}/risk_below"), rule.risk_below, 0.0, 1.0);
        }
        for (name, limit) in [
            ("critical_revenue_impact", self.priorities.critical_revenue_impact),
            ("high_customer_impact", self.priorities.high_customer_impact),
            ("medium_operational_impact", self.priorities.medium_operational_impact),
        ] {
            found.number(format!("/appraisal/priorities/{name}"), limit, 0.0, 1e15);
        }
        found.number("/appraisal/preparation_share".to_owned(), self.preparation_share, 0.0, 1.0);
        found.number("/appraisal/delivery_share".to_owned(), self.delivery_share, 0.0, 1.0);
        found.check(
            "/appraisal/delivery_share".to_owned(),
            self.preparation_share + self.delivery_share <= 1.0,
            "with preparation_share it may be at most 1",
        );
        found.number("/appraisal/mitigate_from".to_owned(), self.mitigate_from, 0.0, 10.0);
    }
}

impl StrategyPolicy {
    fn validate(&self, found: &mut Findings) {
        let at = "/strategy/criteria";
        found.count(at.to_owned(), self.criteria.len(), 1, 12);
        found.unique(at, self.criteria.iter().map(|criterion| criterion.id.as_str()));
        for (n, criterion) in self.criteria.iter().enumerate() {
            let at = format!("{at}/{n}");
            if let Err(detail) = crate::domain::id::check_slug(&criterion.id) {
                found.0.push(FieldError::new(format!("{at}/id"), detail));
            }
            found.text(format!("{at}/title"), &criterion.title, 200);
            found.number(format!("{at}/low"), criterion.low, -MOST, MOST);
            found.number(format!("{at}/high"), criterion.high, -MOST, MOST);
            let detail = "must be above low: with equal bounds nothing can be told apart";
            found.check(format!("{at}/high"), criterion.low < criterion.high, detail);
        }
        self.validate_goals(found);
        let at = "/strategy/catalogue";
        found.count(at.to_owned(), self.catalogue.len(), 1, 12);
        found.unique(at, self.catalogue.iter().map(|option| option.id.as_str()));
        for (n, option) in self.catalogue.iter().enumerate() {
            option.validate(&format!("{at}/{n}"), self, found);
        }
    }

    fn validate_goals(&self, found: &mut Findings) {
        for goal in Goal::ALL {
            let at = format!("/strategy/goals/{}", goal.name());
            let Some(weights) = self.goals.get(&goal) else {
                found.0.push(FieldError::new(at, "every goal must have its weights"));
                continue;
            };
            for (name, weight) in weights {
                let at = format!("{at}/{name}");
                found.check(at.clone(), self.has(name), "is no criterion of this policy");
                found.number(at, *weight, 0.0, 1_000.0);
            }
            let detail = "one weight must be above 0";
            found.check(at, weights.values().any(|weight| *weight > 0.0), detail);
        }
    }

    fn has(&self, criterion: &str) -> bool {
        self.criteria.iter().any(|known| known.id == criterion)
    }
}

impl CatalogueOption {
    fn validate(&self, at: &str, policy: &StrategyPolicy, found: &mut Findings) {
        let mut bytes = self.id.bytes();
        let well_named = bytes.next().is_some_and(|b| b.is_ascii_uppercase())
            && bytes.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            && (2..=64).contains(&self.id.len());
        let detail = "expected capital letters, digits and _, 2 to 64, a letter first";
        found.check(format!("{at}/id"), well_named, detail);
        found.text(format!("{at}/title"), &self.title, 200);
        found.count(format!("{at}/preconditions"), self.preconditions.len(), 0, 10);
        for (n, condition) in self.preconditions.iter().enumerate() {
            self.check_condition(&format!("{at}/preconditions/{n}"), condition, found);
        }
        found.number(format!("{at}/cost/share_of_budget"), self.cost.share_of_budget, 0.0, 1.0);
        found.number(format!("{at}/cost/fixed"), self.cost.fixed, 0.0, 1e15);
        found.number(format!("{at}/days"), self.days, 0.0, 3_650.0);
        for criterion in &policy.criteria {
            let there = self.criteria.contains_key(&criterion.id);
            let at = format!("{at}/criteria/{}", criterion.id);
            found.check(at, there, "every criterion needs its value");
        }
        for (name, linear) in &self.criteria {
            let at = format!("{at}/criteria/{name}");
            found.check(at.clone(), policy.has(name), "is no criterion of this policy");
            found.number(format!("{at}/base"), linear.base, -MOST, MOST);
            found.count(format!("{at}/terms"), linear.terms.len(), 0, 8);
            for (n, term) in linear.terms.iter().enumerate() {
                self.check_signal(&format!("{at}/terms/{n}/signal"), &term.signal, found);
                found.number(format!("{at}/terms/{n}/times"), term.times, -MOST, MOST);
            }
        }
        self.validate_texts(at, found);
    }

    fn validate_texts(&self, at: &str, found: &mut Findings) {
        found.count(format!("{at}/plan"), self.plan.len(), 0, 6);
        for (n, phase) in self.plan.iter().enumerate() {
            let at = format!("{at}/plan/{n}");
            found.text(format!("{at}/phase"), &phase.phase, 200);
            found.number(format!("{at}/share"), phase.share, 0.0, 1.0);
            found.count(format!("{at}/activities"), phase.activities.len(), 1, 6);
            for (n, activity) in phase.activities.iter().enumerate() {
                found.text(format!("{at}/activities/{n}"), activity, 500);
            }
        }
        let shares: f64 = self.plan.iter().map(|phase| phase.share).sum();
        let whole = self.days == 0.0 || (shares - 1.0).abs() < 1e-9;
        found.check(format!("{at}/plan"), whole, "the shares must add up to 1");
        found.count(format!("{at}/success"), self.success.len(), 1, 6);
        for (n, rule) in self.success.iter().enumerate() {
            let at = format!("{at}/success/{n}");
            let limits = [rule.at_least, rule.at_most, rule.raise_by];
            let given = limits.iter().flatten().count();
            let wanted = usize::from(rule.fact != SuccessFact::Cost);
            let detail = "expected one of at_least, at_most and raise_by; none for the cost";
            found.check(at.clone(), given == wanted, detail);
            for limit in limits.iter().flatten() {
                found.number(at.clone(), *limit, -MOST, MOST);
            }
            let is_targeted = !matches!(rule.fact, SuccessFact::WorstScore | SuccessFact::Cost);
            let detail = "the option has no target";
            found.check(format!("{at}/fact"), !is_targeted || self.target.is_some(), detail);
        }
        found.count(format!("{at}/risks"), self.risks.len(), 0, 10);
        for (n, rule) in self.risks.iter().enumerate() {
            let at = format!("{at}/risks/{n}");
            found.text(format!("{at}/risk"), &rule.risk, 500);
            found.text(format!("{at}/measure"), &rule.measure, 500);
            if let Some(condition) = &rule.when {
                self.check_condition(&format!("{at}/when"), condition, found);
            }
        }
    }

    fn check_condition(&self, at: &str, condition: &Precondition, found: &mut Findings) {
        self.check_signal(&format!("{at}/signal"), &condition.signal, found);
        let limits = [condition.at_least, condition.at_most];
        let detail = "expected at_least, at_most or both";
        found.check(at.to_owned(), limits.iter().any(Option::is_some), detail);
        for limit in limits.iter().flatten() {
            found.number(at.to_owned(), *limit, -MOST, MOST);
        }
    }

    fn check_signal(&self, at: &str, signal: &str, found: &mut Findings) {
        let of_target = TARGET_SIGNALS.contains(&signal);
        if of_target && self.target.is_none() {
            found.0.push(FieldError::new(at, "the option has no target"));
        } else if !of_target && !SIGNALS.contains(&signal) {
            let known = [SIGNALS, TARGET_SIGNALS].concat().join(", ");
            found.0.push(FieldError::new(at, format!("is no signal; there are {known}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn pointers(change: impl FnOnce(&mut Policy)) -> Vec<String> {
        let mut policy = shipped().unwrap();
        change(&mut policy);
        policy.validate().into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn what_ships_is_valid() {
        assert_eq!(shipped().unwrap().validate(), vec![]);
        // It is stored as it is written.
        let value: serde_json::Value = serde_json::from_str(SHIPPED).unwrap();
        assert_eq!(serde_json::to_value(shipped().unwrap()).unwrap()["title"], value["title"]);
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        type Change = fn(&mut Policy);
        let cases: [(Change, &str); 16] = [
            (|p| p.title.clear(), "/title"),
            (|p| p.stability.draws = 10, "/stability/draws"),
            (|p| p.stability.min_share = 0.2, "/stability/min_share"),
            (|p| p.stability.concentration = f64::NAN, "/stability/concentration"),
            (|p| p.evidence.kpi.max_age_s = 0, "/evidence/kpi/max_age_s"),
            (
                |p| p.appraisal.approve_scheduled.risk_below = 2.0,
                "/appraisal/approve_scheduled/risk_below",
            ),
            (|p| p.appraisal.delivery_share = 0.9, "/appraisal/delivery_share"),
            (
                |p| p.strategy.criteria[0].high = p.strategy.criteria[0].low,
                "/strategy/criteria/0/high",
            ),
            (
                |p| p.strategy.criteria[1].id = p.strategy.criteria[2].id.clone(),
                "/strategy/criteria/2/id",
            ),
            (
                |p| {
                    p.strategy.goals.remove(&Goal::GrowBrand);
                },
                "/strategy/goals/grow_brand",
            ),
            (
                |p| {
                    p.strategy
                        .goals
                        .get_mut(&Goal::GrowBrand)
                        .unwrap()
                        .values_mut()
                        .for_each(|w| *w = 0.0)
                },
                "/strategy/goals/grow_brand",
            ),
            (|p| p.strategy.catalogue[0].id = "a".to_owned(), "/strategy/catalogue/0/id"),
            (
                |p| {
                    p.strategy.catalogue[0].criteria.remove("cost_share");
                },
                "/strategy/catalogue/0/criteria/cost_share",
            ),
            (|p| p.strategy.catalogue[1].plan[0].share = 0.0, "/strategy/catalogue/1/plan"),
            (
                |p| p.strategy.catalogue[0].success[0].at_most = Some(1.0),
                "/strategy/catalogue/0/success/0",
            ),
            (
                |p| p.strategy.catalogue[1].preconditions[0].signal = "mood".to_owned(),
                "/strategy/catalogue/1/preconditions/0/signal",
            ),
        ];
        for (change, pointer) in cases {
            let found = pointers(change);
            assert!(found.iter().any(|found| found == pointer), "{pointer}: {found:?}");
        }
    }
}

//! A choice among the caller's own options, by his own criteria, from his
//! numbers or from live metrics.

use super::evidence::{self, Evidence, Fact};
use super::ranking::{Axis, Direction, normalized};
use super::timeframe;
use super::weigh::{Candidate, Cell, Criterion, Elimination};
use crate::domain::time::Timestamp;
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::validation::PRINTABLE;
use crate::domain::validation::{FieldError, check_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const MAX_OPTIONS: usize = 100;
pub const MAX_CRITERIA: usize = 20;

/// Drawing the weight of a criterion once costs about as much as looking at
/// its value of this many options.
const OPTIONS_PER_WEIGHT: usize = 20;

/// Most of criteria · (options + 20): so much takes about 7 ms of CPU in 2,000
/// draws as WebAssembly, where the free plan allows a request 10.
const MAX_WORK: usize = 440;

pub const MAX_CONSTRAINTS: usize = 50;
const MAX_AMOUNT: f64 = 1e15;
const MAX_WEIGHT: f64 = 1e6;

/// Names of options and criteria.
pub const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$";

/// Names of live facts: a partnership, and the fact in one to three parts.
#[cfg(not(target_arch = "wasm32"))]
const LIVE: &str = "^[a-z][a-z0-9_]{1,63}(\\.[a-z][a-z0-9_]{0,63}){1,3}$";
const MAX_LIVE_CHARS: usize = 200;

/// A plain choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChoiceContext {
    /// What is being decided, at most 200 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200), regex(pattern = PRINTABLE)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = MAX_OPTIONS)))]
    pub options: Vec<ChoiceOption>,
    /// Criteria times (options + 20) may be at most 440: 24 options by 10
    /// criteria, or 100 by 3.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = MAX_CRITERIA)))]
    pub criteria: Vec<ChoiceCriterion>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_CONSTRAINTS)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// When it should be done: `Q1_2026`, `30_days` or an ISO 8601 interval.
    /// With it the plan has durations and the success metrics have a date.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = timeframe::MAX_CHARS), regex(pattern = timeframe::PATTERN)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeframe: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChoiceOption {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = NAME)))]
    pub id: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200), regex(pattern = PRINTABLE)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// By criterion. One that is left out, or null, is not known.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("maxProperties" = MAX_CRITERIA, "propertyNames" = { "pattern": NAME })))]
    pub values: BTreeMap<String, Option<Value>>,
}

/// A number, or the name of a live fact.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Value {
    Number(#[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e15, max = 1e15)))] f64),
    /// Such as `cursor_technical.metrics.uptime`: a partnership's id or alias,
    /// then `score`, `metrics.<name>`, `attainment.<group>`,
    /// `slo.<key>.budget_remaining`, `slo.<key>.burn_1h`,
    /// `slo_budget_remaining`, `deliverables.overdue` or `incidents.open`.
    Live(
        #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_LIVE_CHARS), regex(pattern = LIVE)))]
         String,
    ),
}

/// By hand, as an untagged enum tells nobody what was expected.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Value;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or the name of a live fact")
            }
            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Number(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Number(value as f64))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(value as f64))
            }
            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Live(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChoiceCriterion {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = NAME)))]
    pub id: String,
    pub direction: Direction,
    /// 0 to 1,000,000, not all 0; only the proportions count.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = MAX_WEIGHT)))]
    pub weight: f64,
    /// The least and the most that the criterion could be, whatever today's
    /// options are: `[low, high]`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(inner(range(min = -1e15, max = 1e15))))]
    pub bounds: [f64; 2],
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 32), regex(pattern = PRINTABLE)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// What an option must keep to be there at all: at least one of the limits is
/// there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// Id of a criterion. Of a strategy also `cost` (money) or
    /// `duration_days`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = NAME)))]
    pub criterion: String,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e15, max = 1e15)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -1e15, max = 1e15)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

impl Constraint {
    /// What is wrong with it among criteria of these names.
    pub fn validate(&self, at: &str, has: impl Fn(&str) -> bool, errors: &mut Vec<FieldError>) {
        if !has(&self.criterion) {
            errors.push(FieldError::new(format!("{at}/criterion"), "names no criterion"));
        }
        if self.at_least.is_none() && self.at_most.is_none() {
            errors.push(FieldError::new(at, "expected at_least, at_most or both"));
        }
        for (name, limit) in [("at_least", self.at_least), ("at_most", self.at_most)] {
            if limit.is_some_and(|limit| !(-MAX_AMOUNT..=MAX_AMOUNT).contains(&limit)) {
                errors.push(FieldError::new(format!("{at}/{name}"), "expected -1e15 to 1e15"));
            }
        }
        if let (Some(least), Some(most)) = (self.at_least, self.at_most)
            && least > most
        {
            let detail = "at_least is above at_most: nothing can keep both";
            errors.push(FieldError::new(at, detail));
        }
    }

    /// Whether every value, or no value, from `low` to `high` keeps it; `None`:
    /// some do.
    pub fn holds(&self, low: f64, high: f64) -> Option<bool> {
        let least = self.at_least.unwrap_or(f64::NEG_INFINITY);
        let most = self.at_most.unwrap_or(f64::INFINITY);
        if low >= least && high <= most {
            Some(true)
        } else if high < least || low > most {
            Some(false)
        } else {
            None
        }
    }

    /// Those that an option cannot keep, each with the option's value there;
    /// facts without which one cannot be checked are noted in the option.
    pub fn broken<'a>(
        constraints: &'a [Self],
        criteria: &[Criterion],
        candidate: &mut Candidate,
    ) -> Vec<(&'a Self, Cell)> {
        let mut broken = Vec::new();
        for constraint in constraints {
            let at = criteria.iter().position(|known| known.id == constraint.criterion);
            let Some(cell) = at.and_then(|at| candidate.cells.get(at)) else { continue };
            match constraint.holds(cell.low, cell.high) {
                Some(true) => {}
                Some(false) => broken.push((constraint, cell.clone())),
                None => candidate.unsettled.extend(cell.missing.iter().cloned()),
            }
        }
        broken
    }

    /// In words.
    pub fn words(&self) -> String {
        match (self.at_least, self.at_most) {
            (Some(least), Some(most)) => format!("{} from {least} to {most}", self.criterion),
            (Some(least), None) => format!("{} of at least {least}", self.criterion),
            (None, Some(most)) => format!("{} of at most {most}", self.criterion),
            (None, None) => self.criterion.clone(),
        }
    }
}

pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && text.len() <= 64
}

impl ChoiceContext {
    /// Everything that is wrong beyond the shape; empty for a valid context.
    pub fn validate(&self, now: Timestamp) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut push = |at: String, detail: &str| errors.push(FieldError::new(at, detail));
        if let Some(title) = &self.title
            && let Err(detail) = check_text(title, 200)
        {
            push("/title".to_owned(), &detail);
        }
        if !(1..=MAX_OPTIONS).contains(&self.options.len()) {
            push("/options".to_owned(), "expected 1 to 100 options");
        }
        if !(1..=MAX_CRITERIA).contains(&self.criteria.len()) {
            push("/criteria".to_owned(), "expected 1 to 20 criteria");
        }
        let per_criterion = self.options.len().saturating_add(OPTIONS_PER_WEIGHT);
        if self.criteria.len().saturating_mul(per_criterion) > MAX_WORK {
            let detail = format!(
                "criteria times (options + {OPTIONS_PER_WEIGHT}) may be at most {MAX_WORK}: more \
                 would not fit into the CPU time of a request"
            );
            push("/options".to_owned(), &detail);
        }
        if self.constraints.len() > MAX_CONSTRAINTS {
            push("/constraints".to_owned(), "expected at most 50 constraints");
        }
        if let Some(text) = &self.timeframe
            && let Err(detail) = timeframe::parse(text, now)
        {
            push("/timeframe".to_owned(), &detail);
        }
        self.validate_criteria(&mut errors);
        self.validate_options(&mut errors);
        for (n, constraint) in self.constraints.iter().enumerate() {
            let has = |name: &str| self.criterion(name).is_some();
            constraint.validate(&format!("/constraints/{n}"), has, &mut errors);
        }
        errors
    }

    fn validate_criteria(&self, errors: &mut Vec<FieldError>) {
        for (n, criterion) in self.criteria.iter().enumerate() {
            let at = format!("/criteria/{n}");
            let mut push = |name: &str, detail: &str| {
                errors.push(FieldError::new(format!("{at}/{name}"), detail));
            };
            if !is_name(&criterion.id) {
                push("id", "expected 1 to 64 letters, digits, _ or -");
            } else if self.criteria.iter().take(n).any(|other| other.id == criterion.id) {
                push("id", "is there twice");
            }
            if !(0.0..=MAX_WEIGHT).contains(&criterion.weight) {
                push("weight", "expected 0 to 1000000");
            }
            let [low, high] = criterion.bounds;
            let within = |bound: f64| (-MAX_AMOUNT..=MAX_AMOUNT).contains(&bound);
            if !within(low) || !within(high) {
                push("bounds", "expected -1e15 to 1e15");
            } else if low >= high {
                push(
                    "bounds",
                    "the second must be above the first: nothing differs between equal bounds",
                );
            }
            if let Some(unit) = &criterion.unit
                && let Err(detail) = check_text(unit, 32)
            {
                push("unit", &detail);
            }
        }
        if !self.criteria.is_empty() && self.criteria.iter().all(|known| known.weight == 0.0) {
            let detail = "one weight must be above 0: else nothing tells the options apart";
            errors.push(FieldError::new("/criteria", detail));
        }
    }

    fn validate_options(&self, errors: &mut Vec<FieldError>) {
        for (n, option) in self.options.iter().enumerate() {
            let at = format!("/options/{n}");
            let mut push = |name: &str, detail: String| {
                errors.push(FieldError::new(format!("{at}/{name}"), detail));
            };
            if !is_name(&option.id) {
                push("id", "expected 1 to 64 letters, digits, _ or -".to_owned());
            } else if self.options.iter().take(n).any(|other| other.id == option.id) {
                push("id", "is there twice".to_owned());
            }
            if let Some(title) = &option.title
                && let Err(detail) = check_text(title, 200)
            {
                push("title", detail);
            }
            for (name, value) in &option.values {
                // The pointer of a name that is none would be the caller's text.
                let Some(criterion) = self.criterion(name) else {
                    push("values", "holds a name that is no criterion".to_owned());
                    continue;
                };
                let [low, high] = criterion.bounds;
                match value {
                    Some(Value::Number(number)) if !(low..=high).contains(number) => {
                        let detail =
                            format!("lies outside the criterion's bounds, {low} to {high}");
                        push(&format!("values/{name}"), detail);
                    }
                    Some(Value::Live(text)) if text.is_empty() || text.len() > MAX_LIVE_CHARS => {
                        push(&format!("values/{name}"), "names no fact".to_owned());
                    }
                    _ => {}
                }
            }
        }
    }

    fn criterion(&self, id: &str) -> Option<&ChoiceCriterion> {
        self.criteria.iter().find(|criterion| criterion.id == id)
    }

    /// The names of live facts, each with its pointer.
    pub fn live(&mut self) -> impl Iterator<Item = (String, &mut String)> {
        self.options.iter_mut().enumerate().flat_map(|(n, option)| {
            option.values.iter_mut().filter_map(move |(criterion, value)| match value {
                Some(Value::Live(name)) => Some((format!("/options/{n}/values/{criterion}"), name)),
                _ => None,
            })
        })
    }

    /// What the caller says himself.
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for option in &self.options {
            for criterion in &self.criteria {
                let value = match option.values.get(&criterion.id).cloned().flatten() {
                    Some(Value::Live(_)) => continue,
                    Some(Value::Number(number)) => Some(number),
                    None => None,
                };
                let id = fact_id(&option.id, &criterion.id);
                facts.push(Fact::of_caller(id, value, criterion.unit.clone()));
            }
        }
        facts
    }
}

fn fact_id(option: &str, criterion: &str) -> String {
    format!("options.{option}.{criterion}")
}

/// A choice made ready to be weighed.
pub struct Table {
    pub criteria: Vec<Criterion>,
    pub candidates: Vec<Candidate>,
    pub eliminated: Vec<Elimination>,
}

/// The table of a valid context and its evidence. Live values beyond the
/// bounds count as the bound.
pub fn table(context: &ChoiceContext, evidence: &[Evidence]) -> Table {
    let weights: Vec<f64> = context.criteria.iter().map(|criterion| criterion.weight).collect();
    let criteria: Vec<Criterion> = context
        .criteria
        .iter()
        .zip(normalized(&weights))
        .map(|(criterion, weight)| {
            let [low, high] = criterion.bounds;
            let axis = Axis { direction: criterion.direction, weight, low, high };
            Criterion { id: criterion.id.clone(), axis }
        })
        .collect();
    let mut table = Table { criteria, candidates: Vec::new(), eliminated: Vec::new() };
    for option in &context.options {
        let cells = table
            .criteria
            .iter()
            .map(|criterion| {
                let fact = match option.values.get(&criterion.id) {
                    Some(Some(Value::Live(name))) => name.clone(),
                    _ => fact_id(&option.id, &criterion.id),
                };
                cell(&fact, evidence, &criterion.axis)
            })
            .collect();
        let mut candidate = Candidate {
            id: option.id.clone(),
            title: option.title.clone().unwrap_or_else(|| option.id.clone()),
            target: None,
            cost: None,
            duration_days: None,
            cells,
            unsettled: Vec::new(),
        };
        let broken = Constraint::broken(&context.constraints, &table.criteria, &mut candidate);
        if broken.is_empty() {
            table.candidates.push(candidate);
        }
        table.eliminated.extend(broken.into_iter().map(|(constraint, cell)| Elimination {
            option: option.id.clone(),
            constraint: constraint.words(),
            value: cell.value(),
            fact: cell.facts.into_iter().next().unwrap_or_default(),
        }));
    }
    table
}

/// The value of one fact, or the whole of the criterion where it cannot be
/// used.
fn cell(id: &str, evidence: &[Evidence], axis: &Axis) -> Cell {
    let found = evidence::find(evidence, id);
    let facts = vec![id.to_owned()];
    match found.and_then(Evidence::usable) {
        Some(value) => {
            let value = value.clamp(axis.low, axis.high);
            let interval = found.and_then(|found| found.fact.interval);
            let spread = interval.map_or(0.0, |ci| {
                ci.high.clamp(axis.low, axis.high) - ci.low.clamp(axis.low, axis.high)
            });
            Cell { low: value, high: value, facts, missing: Vec::new(), spread }
        }
        None => Cell { low: axis.low, high: axis.high, missing: facts.clone(), facts, spread: 0.0 },
    }
}

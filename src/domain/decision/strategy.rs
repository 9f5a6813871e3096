//! Strategies: which option of the policy's catalogue serves a goal, within a
//! budget and a time, given how the partnerships are really doing.

use super::choice::{Constraint, Table};
use super::evidence::{self, Evidence, Fact};
use super::policy::{CatalogueOption, Goal, Policy, Precondition, SuccessFact, TargetRule};
use super::ranking::{Axis, normalized, rounded};
use super::timeframe::{self, Timeframe};
use super::weigh::{Candidate, Cell, Criterion, Elimination};
use crate::domain::time::Timestamp;
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::validation::PRINTABLE;
use crate::domain::validation::{FieldError, check_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// This many open incidents of a partnership count as 1, the most there is.
const MANY_INCIDENTS: f64 = 5.0;

const MAX_BUDGET: f64 = 1e15;
const MAX_LIST: usize = 50;

/// Where next quarter's money should go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StrategyContext {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200), regex(pattern = PRINTABLE)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub business_goal: Goal,
    /// `Q1_2026`, `30_days` or an ISO 8601 interval (`2026-01-01/2026-03-31`,
    /// `2026-01-01/P90D`), not over yet.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = timeframe::MAX_CHARS), regex(pattern = timeframe::PATTERN)))]
    pub timeframe: String,
    /// Money, above 0: 0.01 to 1e15.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0.01, max = MAX_BUDGET)))]
    pub budget: f64,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_LIST)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Options of the catalogue that are out of the question.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_LIST), inner(regex(pattern = super::policy::OPTION_ID))))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

impl StrategyContext {
    /// Everything that is wrong beyond the shape; empty for a valid context.
    pub fn validate(&self, policy: &Policy, now: Timestamp) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(title) = &self.title
            && let Err(detail) = check_text(title, 200)
        {
            errors.push(FieldError::new("/title", detail));
        }
        if let Err(detail) = timeframe::parse(&self.timeframe, now) {
            errors.push(FieldError::new("/timeframe", detail));
        }
        if !(0.01..=MAX_BUDGET).contains(&self.budget) {
            errors.push(FieldError::new("/budget", "must be above 0 (0.01 to 1e15)"));
        }
        if self.constraints.len() > MAX_LIST {
            errors.push(FieldError::new("/constraints", "expected at most 50 constraints"));
        }
        for (n, constraint) in self.constraints.iter().enumerate() {
            let has = |name: &str| {
                [COST, DURATION].contains(&name)
                    || policy.strategy.criteria.iter().any(|known| known.id == name)
            };
            constraint.validate(&format!("/constraints/{n}"), has, &mut errors);
        }
        if self.exclude.len() > MAX_LIST {
            errors.push(FieldError::new("/exclude", "expected at most 50 options"));
        }
        for (n, id) in self.exclude.iter().enumerate() {
            if !policy.strategy.catalogue.iter().any(|option| option.id == *id) {
                let detail = "names no option of the catalogue";
                errors.push(FieldError::new(format!("/exclude/{n}"), detail));
            }
        }
        errors
    }

    /// What the caller says himself.
    pub fn facts(&self) -> Vec<Fact> {
        let money = Some("money".to_owned());
        vec![Fact::of_caller("context.budget".to_owned(), Some(self.budget), money)]
    }
}

const COST: &str = "cost";
const DURATION: &str = "duration_days";

/// Facts of a partnership that strategies look at: the ends of their ids.
pub const FACTS: [&str; 7] = [
    "score",
    "attainment.availability",
    "attainment.latency",
    "attainment.kpis",
    "attainment.deliverables",
    "slo_budget_remaining",
    "incidents.open",
];

/// A signal: its value, or what is missing for it.
#[derive(Clone, Debug, Default)]
struct Signal {
    value: Option<f64>,
    facts: Vec<String>,
    missing: Vec<String>,
    /// How far it moves within the 95 % intervals of its facts.
    spread: f64,
}

impl Signal {
    fn known(value: f64) -> Self {
        Self { value: Some(value), ..Self::default() }
    }
}

/// What is known, read as signals.
struct Signals<'a> {
    evidence: &'a [Evidence],
    /// Ids of the partnerships, in order.
    partnerships: Vec<&'a str>,
}

impl<'a> Signals<'a> {
    fn new(evidence: &'a [Evidence]) -> Self {
        let ids = evidence.iter().filter_map(|known| {
            let (partnership, rest) = known.fact.id.split_once('.')?;
            (rest == "score").then_some(partnership)
        });
        let ids: BTreeSet<&str> = ids.filter(|id| !["context", "options"].contains(id)).collect();
        Self { evidence, partnerships: ids.into_iter().collect() }
    }

    fn fact(&self, partnership: &str, name: &str) -> Option<&'a Evidence> {
        evidence::find(self.evidence, &format!("{partnership}.{name}"))
    }

    fn usable(&self, partnership: &str, name: &str) -> Option<f64> {
        self.fact(partnership, name)?.usable()
    }

    /// A signal of one partnership, 0 (as agreed) to 1.
    fn of(&self, partnership: &str, name: &str) -> Signal {
        let (fact, from): (&str, fn(f64) -> f64) = match name {
            "score_gap" => ("score", |score| 1.0 - score / 100.0),
            "availability_gap" => ("attainment.availability", |attained| 1.0 - attained),
            "latency_gap" => ("attainment.latency", |attained| 1.0 - attained),
            "kpi_gap" => ("attainment.kpis", |attained| 1.0 - attained),
            "delivery_gap" => ("attainment.deliverables", |attained| 1.0 - attained),
            "budget_spent" => ("slo_budget_remaining", |left| 1.0 - left),
            _ => ("incidents.open", |open| open / MANY_INCIDENTS),
        };
        let id = format!("{partnership}.{fact}");
        let found = self.fact(partnership, fact);
        match found.and_then(Evidence::usable) {
            Some(value) => {
                let of = |value| rounded(from(value).clamp(0.0, 1.0));
                let interval = found.and_then(|found| found.fact.interval);
                let spread = interval.map_or(0.0, |ci| (of(ci.high) - of(ci.low)).abs());
                Signal { value: Some(of(value)), facts: vec![id], missing: Vec::new(), spread }
            }
            None => Signal { facts: vec![id.clone()], missing: vec![id], ..Signal::default() },
        }
    }

    fn scores(&self) -> Vec<f64> {
        self.partnerships.iter().filter_map(|id| self.usable(id, "score")).collect()
    }

    /// A signal of all partnerships.
    fn of_all(&self, name: &str) -> Signal {
        let scores = self.scores();
        match name {
            "partnerships" => return Signal::known(self.partnerships.len() as f64),
            "spread" if scores.is_empty() => {}
            "spread" => {
                let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let worst = scores.iter().copied().fold(f64::INFINITY, f64::min);
                return Signal::known(rounded((best - worst) / 100.0));
            }
            _ => {
                let each: Vec<Signal> =
                    self.partnerships.iter().map(|id| self.of(id, name)).collect();
                let known: Vec<f64> = each.iter().filter_map(|signal| signal.value).collect();
                if !known.is_empty() {
                    let n = known.len() as f64;
                    return Signal {
                        value: Some(rounded(known.iter().sum::<f64>() / n)),
                        facts: each.iter().flat_map(|signal| signal.facts.clone()).collect(),
                        missing: Vec::new(),
                        spread: each.iter().map(|signal| signal.spread).sum::<f64>() / n,
                    };
                }
            }
        }
        self.unknown(if name == "spread" { "score_gap" } else { name })
    }

    /// What is known of nobody: each of them would help.
    fn unknown(&self, name: &str) -> Signal {
        let missing: Vec<String> =
            self.partnerships.iter().flat_map(|id| self.of(id, name).missing).collect();
        Signal { facts: missing.clone(), missing, ..Signal::default() }
    }

    /// The partnership an option is about: the worst of those of whom the fact
    /// is known, the first by name of equals.
    fn target(&self, rule: TargetRule) -> Option<&'a str> {
        let fact = match rule {
            TargetRule::LowestScore => "score",
            TargetRule::LeastBudget => "slo_budget_remaining",
        };
        let known = self.partnerships.iter().filter_map(|id| Some((*id, self.usable(id, fact)?)));
        known.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(id, _)| id)
    }
}

/// One option of the catalogue with what its formulas may ask.
struct Reading<'a> {
    signals: &'a Signals<'a>,
    target: Option<&'a str>,
    cost_share: f64,
    time_share: f64,
}

impl Reading<'_> {
    fn signal(&self, name: &str) -> Signal {
        match (name.strip_prefix("target."), self.target) {
            (Some(name), Some(target)) => self.signals.of(target, name),
            (Some(name), None) => self.signals.unknown(name),
            (None, _) if name == "cost_share" => Signal::known(self.cost_share),
            (None, _) if name == "time_share" => Signal::known(self.time_share),
            (None, _) => self.signals.of_all(name),
        }
    }

    /// Whether the condition holds, with the signal it was held against;
    /// `None`: the signal is not known.
    fn holds(&self, condition: &Precondition) -> (Option<bool>, Signal) {
        let signal = self.signal(&condition.signal);
        let holds = signal.value.map(|value| {
            condition.at_least.is_none_or(|least| value >= least)
                && condition.at_most.is_none_or(|most| value <= most)
        });
        (holds, signal)
    }
}

fn words(condition: &Precondition) -> String {
    let constraint = Constraint {
        criterion: condition.signal.clone(),
        at_least: condition.at_least,
        at_most: condition.at_most,
    };
    format!("precondition: {}", constraint.words())
}

/// A measure that the evidence asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Mitigation {
    pub option: String,
    pub text: String,
}

/// A limit that shows success.
#[derive(Clone, Debug, PartialEq)]
pub struct Goalpost {
    pub option: String,
    pub fact: String,
    /// The value today.
    pub now: Option<f64>,
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
}

/// A strategy question made ready to be weighed.
pub struct Prepared {
    pub table: Table,
    pub timeframe: Timeframe,
    pub mitigations: Vec<Mitigation>,
    pub goalposts: Vec<Goalpost>,
}

/// The table of a valid context and its evidence.
///
/// # Errors
/// A time frame that is no longer one, as a replay at another time could find.
pub fn prepare(
    context: &StrategyContext,
    evidence: &[Evidence],
    policy: &Policy,
    at: Timestamp,
) -> Result<Prepared, String> {
    let timeframe = timeframe::parse(&context.timeframe, at)?;
    let days = timeframe.days();
    let rules = &policy.strategy;
    let weights = rules.goals.get(&context.business_goal);
    let weight = |id: &String| weights.and_then(|weights| weights.get(id)).copied().unwrap_or(0.0);
    let stated: Vec<f64> = rules.criteria.iter().map(|criterion| weight(&criterion.id)).collect();
    let criteria: Vec<Criterion> = rules
        .criteria
        .iter()
        .zip(normalized(&stated))
        .map(|(criterion, weight)| {
            let (direction, low, high) = (criterion.direction, criterion.low, criterion.high);
            Criterion { id: criterion.id.clone(), axis: Axis { direction, weight, low, high } }
        })
        .collect();
    let signals = Signals::new(evidence);
    let mut prepared = Prepared {
        table: Table { criteria, candidates: Vec::new(), eliminated: Vec::new() },
        timeframe,
        mitigations: Vec::new(),
        goalposts: Vec::new(),
    };
    for option in &rules.catalogue {
        let cost = rounded(option.cost.share_of_budget * context.budget + option.cost.fixed);
        let reading = Reading {
            signals: &signals,
            target: option.target.and_then(|rule| signals.target(rule)),
            cost_share: rounded(cost / context.budget),
            time_share: rounded(option.days / days),
        };
        let found = eliminations(option, &reading, context, cost, days);
        if found.is_empty() {
            prepared.admit(option, &reading, context, cost);
        } else {
            prepared.table.eliminated.extend(found);
        }
    }
    Ok(prepared)
}

/// Why an option is not there: everything that keeps it out.
fn eliminations(
    option: &CatalogueOption,
    reading: &Reading<'_>,
    context: &StrategyContext,
    cost: f64,
    days: f64,
) -> Vec<Elimination> {
    let removed = |constraint: String, fact: &str, value| Elimination {
        option: option.id.clone(),
        constraint,
        fact: fact.to_owned(),
        value,
    };
    let mut found = Vec::new();
    if context.exclude.contains(&option.id) {
        found.push(removed("excluded by the question".to_owned(), "context.exclude", None));
    }
    if option.target.is_some() && reading.signals.partnerships.is_empty() {
        let constraint = "precondition: a partnership".to_owned();
        found.push(removed(constraint, "partnerships", Some(0.0)));
    }
    for condition in &option.preconditions {
        // One that nobody can check keeps nobody out (see `admit`).
        if let (Some(false), Signal { value, .. }) = reading.holds(condition) {
            let about = reading.target.filter(|_| condition.signal.starts_with("target."));
            let fact = match (about, condition.signal.strip_prefix("target.")) {
                (Some(target), Some(name)) => format!("{target}.{name}"),
                _ => condition.signal.clone(),
            };
            found.push(removed(words(condition), &fact, value));
        }
    }
    if cost > context.budget {
        let limit = format!("the budget of {}", context.budget);
        found.push(removed(limit, COST, Some(cost)));
    }
    if option.days > days {
        found.push(removed(format!("the {days} days there are"), DURATION, Some(option.days)));
    }
    for constraint in &context.constraints {
        let value = match constraint.criterion.as_str() {
            COST => cost,
            DURATION => option.days,
            _ => continue,
        };
        if constraint.holds(value, value) == Some(false) {
            found.push(removed(constraint.words(), &constraint.criterion, Some(value)));
        }
    }
    found
}

impl Prepared {
    fn admit(
        &mut self,
        option: &CatalogueOption,
        reading: &Reading<'_>,
        context: &StrategyContext,
        cost: f64,
    ) {
        let cells: Vec<Cell> =
            self.table.criteria.iter().map(|criterion| cell(option, reading, criterion)).collect();
        let fill = |text: &str| fill(text, reading.target);
        let mut candidate = Candidate {
            id: option.id.clone(),
            title: fill(&option.title),
            target: reading.target.map(str::to_owned),
            cost: Some(cost),
            duration_days: Some(option.days),
            cells,
            unsettled: option
                .preconditions
                .iter()
                .map(|condition| reading.holds(condition))
                .filter(|(holds, _)| holds.is_none())
                .flat_map(|(_, signal)| signal.missing)
                .collect(),
        };
        let broken = Constraint::broken(&context.constraints, &self.table.criteria, &mut candidate);
        if let Some((constraint, cell)) = broken.into_iter().next() {
            return self.table.eliminated.push(Elimination {
                option: option.id.clone(),
                constraint: constraint.words(),
                fact: constraint.criterion.clone(),
                value: cell.value(),
            });
        }
        for rule in &option.risks {
            if rule.when.as_ref().is_none_or(|condition| reading.holds(condition).0 == Some(true)) {
                let text = format!("{} {}", fill(&rule.risk), fill(&rule.measure));
                self.mitigations.push(Mitigation { option: option.id.clone(), text });
            }
        }
        self.goalposts.extend(goalposts(option, reading, cost));
        self.table.candidates.push(candidate);
    }
}

/// `base + Σ times · signal` held within the bounds; with a signal that is not
/// known, the range over all it could be (0 to 1).
fn cell(option: &CatalogueOption, reading: &Reading<'_>, criterion: &Criterion) -> Cell {
    let Axis { low, high, .. } = criterion.axis;
    let mut cell = Cell { low: 0.0, high: 0.0, facts: vec![], missing: vec![], spread: 0.0 };
    let Some(linear) = option.criteria.get(&criterion.id) else { return cell };
    let (mut least, mut most) = (linear.base, linear.base);
    for term in &linear.terms {
        let signal = reading.signal(&term.signal);
        match signal.value {
            Some(value) => {
                least += term.times * value;
                most += term.times * value;
                cell.spread += term.times.abs() * signal.spread;
            }
            None => {
                least += term.times.min(0.0);
                most += term.times.max(0.0);
            }
        }
        cell.facts.extend(signal.facts);
        cell.missing.extend(signal.missing);
    }
    cell.low = rounded(least.clamp(low, high));
    cell.high = rounded(most.clamp(low, high));
    cell
}

fn goalposts(option: &CatalogueOption, reading: &Reading<'_>, cost: f64) -> Vec<Goalpost> {
    let signals = reading.signals;
    let worst = || signals.target(TargetRule::LowestScore);
    let of_target = |name: &'static str| (reading.target, name);
    let posts = option.success.iter().filter_map(|rule| {
        let (partnership, name) = match rule.fact {
            SuccessFact::Cost => {
                return Some(Goalpost {
                    option: option.id.clone(),
                    fact: "cost".to_owned(),
                    now: None,
                    at_least: None,
                    at_most: Some(cost),
                });
            }
            SuccessFact::TargetScore => of_target("score"),
            SuccessFact::TargetAvailability => of_target("attainment.availability"),
            SuccessFact::TargetKpis => of_target("attainment.kpis"),
            SuccessFact::TargetDeliverables => of_target("attainment.deliverables"),
            SuccessFact::TargetBudget => of_target("slo_budget_remaining"),
            SuccessFact::WorstScore => (worst(), "score"),
        };
        let partnership = partnership?;
        let now = signals.usable(partnership, name);
        let most = if name == "score" { 100.0 } else { 1.0 };
        // What is not known today cannot be raised by so much.
        let raised = match rule.raise_by {
            Some(by) => Some(rounded((now? + by).min(most))),
            None => None,
        };
        Some(Goalpost {
            option: option.id.clone(),
            fact: format!("{partnership}.{name}"),
            now,
            at_least: rule.at_least.or(raised),
            at_most: rule.at_most,
        })
    });
    posts.collect()
}

/// A text of the catalogue with the option's target in it.
pub fn fill(text: &str, target: Option<&str>) -> String {
    let target = target.unwrap_or("all partnerships");
    text.replace("{target}", target).replace("{partner}", &format!("the partner of {target}"))
}

//! From a question, its evidence and a policy to a conclusion. The same three
//! give the same conclusion, bit for bit, wherever and whenever it is drawn.

use super::appraisal::{Appraisal, AppraisalContext, AppraisalFigures, appraise};
use super::choice::{self, ChoiceContext, Table, Value};
use super::evidence::{self, Evidence, Fact, FactState};
use super::measurement::NextMeasurement;
use super::plan::PlanPhase;
use super::policy::{Policy, StabilityRules};
use super::ranking::{Direction, rounded};
use super::strategy::{self, Prepared, StrategyContext};
use super::success::{Comparator, SuccessCriterion};
use super::timeframe::{self, Timeframe};
use super::weigh::{
    Dominated, Elimination, FlipPoint, Outcome, RankedOption, Stability, Weighed, short, weigh,
};
use crate::domain::hex::hex;
use crate::domain::statistics::Interval;
use crate::domain::time::Timestamp;
use crate::domain::validation::FieldError;
use serde::{Deserialize, Serialize};

/// What computed a conclusion. Grows with every change that could make
/// another one of the same question, evidence and policy.
pub const ENGINE_VERSION: u32 = 1;

/// The leader wins in too few of the draws.
pub const NO_DEFENSIBLE_WINNER: &str = "NO_DEFENSIBLE_WINNER";
/// Facts are missing that could change who leads.
pub const INSUFFICIENT_DATA: &str = "INSUFFICIENT_DATA";
/// The constraints left no option.
pub const NO_FEASIBLE_OPTION: &str = "NO_FEASIBLE_OPTION";

/// Which question was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Is this investment worth it?
    Appraisal,
    /// Which strategy serves this goal?
    Strategy,
    /// Which of these options?
    Choice,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Appraisal, Self::Strategy, Self::Choice];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Appraisal => "appraisal",
            Self::Strategy => "strategy",
            Self::Choice => "choice",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind follows from what the context holds.
    pub fn of_context(context: &serde_json::Value) -> Self {
        if context.get("business_goal").is_some() {
            Self::Strategy
        } else if context.get("options").is_some() || context.get("criteria").is_some() {
            Self::Choice
        } else {
            Self::Appraisal
        }
    }
}

/// What was asked: exactly one of the three forms.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Question {
    Strategy(StrategyContext),
    Choice(ChoiceContext),
    Appraisal(Box<AppraisalContext>),
}

impl Question {
    /// Reads the context of a question of this kind.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(kind: Kind, context: serde_json::Value) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Appraisal => Self::Appraisal(Box::new(serde_json::from_value(context)?)),
            Kind::Strategy => Self::Strategy(serde_json::from_value(context)?),
            Kind::Choice => Self::Choice(serde_json::from_value(context)?),
        })
    }

    pub const fn kind(&self) -> Kind {
        match self {
            Self::Appraisal(_) => Kind::Appraisal,
            Self::Strategy(_) => Kind::Strategy,
            Self::Choice(_) => Kind::Choice,
        }
    }

    /// Everything that is wrong with its values.
    pub fn validate(&self, policy: &Policy, now: Timestamp) -> Vec<FieldError> {
        match self {
            Self::Appraisal(context) => context.validate(),
            Self::Strategy(context) => context.validate(policy, now),
            Self::Choice(context) => context.validate(now),
        }
    }

    /// What the caller says himself, as facts.
    pub fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Appraisal(context) => appraisal_facts(context),
            Self::Strategy(context) => context.facts(),
            Self::Choice(context) => context.facts(),
        }
    }
}

/// Everything a conclusion follows from.
pub struct Case<'a> {
    pub question: &'a Question,
    /// In the order of ids ([`evidence::sorted`]).
    pub facts: &'a [Fact],
    pub policy: &'a Policy,
    pub at: Timestamp,
}

/// What follows, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Conclusion {
    /// `APPROVE_IMMEDIATE`, `APPROVE_SCHEDULED`, `APPROVE_CONDITIONAL` or
    /// `DEFER_OR_REJECT`; an option of the catalogue; an option of the
    /// caller. Or why there is none: `NO_DEFENSIBLE_WINNER`,
    /// `INSUFFICIENT_DATA`, `NO_FEASIBLE_OPTION`.
    pub decision: String,
    /// One sentence a term, with the numbers it rests on.
    pub rationale: String,
    /// Phases that add up to the time there is. Where there is no decision,
    /// what to find out.
    pub implementation_plan: Vec<PlanPhase>,
    pub success_metrics: Vec<String>,
    /// The same in a form that programs can check.
    pub success_criteria: Vec<SuccessCriterion>,
    pub risk_mitigation: Vec<String>,
    /// True where there is no decision.
    pub abstained: bool,
    /// Share of the draws in which the decision is the same: of an appraisal
    /// with ranges that of its verdict, else the mean of the leader's shares
    /// by the three methods. Null where nothing was drawn, or nobody compared.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub confidence: Option<f64>,
    /// What would settle it; null where it is settled.
    pub next_best_measurement: Option<NextMeasurement>,
    /// Best first; empty for an appraisal.
    pub ranking: Vec<RankedOption>,
    pub eliminated: Vec<Elimination>,
    pub dominated: Vec<Dominated>,
    /// What would change it, the nearest first.
    pub flip_points: Vec<FlipPoint>,
    /// Null for an appraisal.
    pub stability: Option<Stability>,
    /// Every fact that was looked at, in the order of ids.
    pub evidence: Vec<Evidence>,
    /// SHA-256 of the facts as canonical JSON, in hexadecimal; seeds the draws.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = "^[0-9a-f]{64}$")))]
    pub evidence_hash: String,
    #[serde(flatten)]
    pub appraisal: Option<AppraisalFigures>,
}

/// Draws the conclusion of a valid question.
///
/// # Errors
/// A time frame that is over at `at`, or a fact that is no number: neither
/// can be, for a question that was found valid at `at`.
pub fn decide(case: &Case<'_>) -> Result<Conclusion, String> {
    let seed = evidence::hash(case.facts)?;
    let evidence = evidence::assess(case.facts, &case.policy.evidence, case.at);
    let rules = &case.policy.stability;
    let mut conclusion = match case.question {
        Question::Appraisal(context) => {
            of_appraisal(appraise(context, case.policy, &seed, case.at))
        }
        Question::Strategy(context) => {
            let prepared = strategy::prepare(context, &evidence, case.policy, case.at)?;
            let weighed = weigh(&prepared.table.criteria, &prepared.table.candidates, rules, &seed);
            of_strategy(context, case.policy, prepared, weighed, &evidence)
        }
        Question::Choice(context) => {
            let table = choice::table(context, &evidence);
            let weighed = weigh(&table.criteria, &table.candidates, rules, &seed);
            let timeframe = match &context.timeframe {
                Some(text) => Some(timeframe::parse(text, case.at)?),
                None => None,
            };
            of_choice(context, case.policy, table, weighed, &evidence, timeframe)
        }
    };
    conclusion.evidence = evidence;
    conclusion.evidence_hash = hex(&seed);
    Ok(conclusion)
}

impl Conclusion {
    /// One without a word on what it rests on.
    pub fn new(decision: String) -> Self {
        Self {
            decision,
            rationale: String::new(),
            implementation_plan: Vec::new(),
            success_metrics: Vec::new(),
            success_criteria: Vec::new(),
            risk_mitigation: Vec::new(),
            abstained: false,
            confidence: None,
            next_best_measurement: None,
            ranking: Vec::new(),
            eliminated: Vec::new(),
            dominated: Vec::new(),
            flip_points: Vec::new(),
            stability: None,
            evidence: Vec::new(),
            evidence_hash: String::new(),
            appraisal: None,
        }
    }

    fn of(weighed: Weighed, eliminated: Vec<Elimination>) -> Self {
        let leader = weighed.ranking.first().map(|option| option.option.clone());
        let decision = match (&weighed.outcome, leader) {
            (Outcome::Winner, Some(leader)) => leader,
            (Outcome::Insufficient, _) => INSUFFICIENT_DATA.to_owned(),
            (Outcome::NothingLeft, _) => NO_FEASIBLE_OPTION.to_owned(),
            _ => NO_DEFENSIBLE_WINNER.to_owned(),
        };
        Self {
            abstained: weighed.outcome != Outcome::Winner,
            confidence: weighed.confidence,
            next_best_measurement: weighed.next,
            ranking: weighed.ranking,
            eliminated,
            dominated: weighed.dominated,
            flip_points: weighed.flip_points,
            stability: Some(weighed.stability),
            ..Self::new(decision)
        }
    }

    /// The option that was decided for.
    fn winner(&self) -> Option<&RankedOption> {
        self.ranking.first().filter(|_| !self.abstained)
    }
}

fn of_appraisal(appraisal: Appraisal) -> Conclusion {
    Conclusion {
        rationale: appraisal.rationale,
        implementation_plan: appraisal.implementation_plan,
        success_metrics: appraisal.success_metrics,
        success_criteria: appraisal.success_criteria,
        risk_mitigation: appraisal.risk_mitigation,
        abstained: appraisal.abstained,
        confidence: appraisal.confidence,
        next_best_measurement: appraisal.next_best_measurement,
        appraisal: Some(appraisal.figures),
        ..Conclusion::new(appraisal.decision.as_str().to_owned())
    }
}

/// The numbers of an appraisal's context as facts; a range by its most likely
/// value, with its ends as the interval.
fn appraisal_facts(context: &AppraisalContext) -> Vec<Fact> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(context) else {
        return Vec::new();
    };
    let number = |value: &serde_json::Value, name: &str| value.get(name).and_then(|v| v.as_f64());
    let facts = fields.iter().filter_map(|(name, value)| {
        let fact = |value| Fact::of_caller(format!("context.{name}"), Some(value), None);
        if let Some(flag) = value.as_bool() {
            return Some(fact(f64::from(u8::from(flag))));
        }
        if let Some(known) = value.as_f64() {
            return Some(fact(known));
        }
        let (low, high) = (number(value, "low")?, number(value, "high")?);
        let interval = Some(Interval { low, high });
        Some(Fact { interval, ..fact(number(value, "mode")?) })
    });
    facts.collect()
}

fn of_strategy(
    context: &StrategyContext,
    policy: &Policy,
    prepared: Prepared,
    weighed: Weighed,
    evidence: &[Evidence],
) -> Conclusion {
    let Prepared { table, timeframe, mitigations, goalposts } = prepared;
    let mut conclusion = Conclusion::of(weighed, table.eliminated);
    let intro = format!(
        "The goal {} has {} days, until {}, and a budget of {}.",
        context.business_goal.name(),
        timeframe.days(),
        timeframe.last_day(),
        context.budget
    );
    conclusion.rationale = explain(&conclusion, &intro, evidence, &policy.stability);
    let by = timeframe.last_day();
    let option = conclusion.winner().and_then(|winner| {
        policy.strategy.catalogue.iter().find(|known| known.id == winner.option)
    });
    let Some(option) = option else {
        conclusion.find_out(Some(timeframe));
        return conclusion;
    };
    let target = conclusion.winner().and_then(|winner| winner.target.clone());
    let target = target.as_deref();
    // The last phase of the work ends where the shares end, whatever was
    // rounded before; what is left of the time is for watching.
    let mut spent = 0.0;
    let mut phases = Vec::new();
    for (n, phase) in option.plan.iter().enumerate() {
        let is_last = n + 1 == option.plan.len();
        let duration =
            rounded(if is_last { option.days - spent } else { option.days * phase.share });
        spent = rounded(spent + duration);
        phases.push(PlanPhase {
            phase: phase.phase.clone(),
            duration_days: Some(duration),
            activities: phase.activities.iter().map(|text| strategy::fill(text, target)).collect(),
        });
    }
    let left = rounded(timeframe.days() - spent);
    if left > 0.0 {
        phases.push(PlanPhase {
            phase: "Observation".to_owned(),
            duration_days: Some(left),
            activities: vec![
                "Look at every number under success_metrics each week.".to_owned(),
                format!("Record the outcome beside this decision by {by}."),
            ],
        });
    }
    conclusion.implementation_plan = phases;
    for post in goalposts.into_iter().filter(|post| post.option == option.id) {
        for (comparator, limit) in
            [(Comparator::AtLeast, post.at_least), (Comparator::AtMost, post.at_most)]
        {
            let Some(target) = limit else { continue };
            let today = post.now.map(|now| format!(" ({} today)", short(now)));
            conclusion.promise(
                &post.fact,
                comparator,
                target,
                Some(&by),
                &today.unwrap_or_default(),
            );
        }
    }
    conclusion.risk_mitigation = mitigations
        .into_iter()
        .filter(|mitigation| mitigation.option == option.id)
        .map(|mitigation| mitigation.text)
        .collect();
    conclusion.mind_the_gaps();
    conclusion
}

fn of_choice(
    context: &ChoiceContext,
    policy: &Policy,
    table: Table,
    weighed: Weighed,
    evidence: &[Evidence],
    timeframe: Option<Timeframe>,
) -> Conclusion {
    let mut conclusion = Conclusion::of(weighed, table.eliminated);
    let intro = format!(
        "{} options are compared by {} criteria.",
        context.options.len(),
        context.criteria.len()
    );
    conclusion.rationale = explain(&conclusion, &intro, evidence, &policy.stability);
    let Some(winner) = conclusion.winner().cloned() else {
        conclusion.find_out(timeframe);
        return conclusion;
    };
    let by = timeframe.map(|timeframe| timeframe.last_day());
    let days = timeframe.map(|timeframe| timeframe.days());
    let name = &winner.option;
    let record = match &by {
        Some(by) => format!("Record the outcome beside this decision by {by}."),
        None => "Record the outcome beside this decision.".to_owned(),
    };
    conclusion.implementation_plan = policy.appraisal.phases(
        days,
        [
            vec![
                format!("Tell everybody concerned that {name} was chosen, and by which criteria."),
                "Name the owner.".to_owned(),
            ],
            vec![format!("Put {name} into effect.")],
            vec!["Measure every number under success_metrics.".to_owned(), record],
        ],
    );
    for (criterion, contribution) in context.criteria.iter().zip(&winner.contributions) {
        let Some(value) = contribution.value.filter(|_| contribution.weight > 0.0) else {
            continue;
        };
        let comparator = match criterion.direction {
            Direction::Max => Comparator::AtLeast,
            Direction::Min => Comparator::AtMost,
        };
        let option = context.options.iter().find(|option| option.id == winner.option);
        let fact = match option.and_then(|option| option.values.get(&criterion.id)) {
            Some(Some(Value::Live(fact))) => fact.clone(),
            _ => format!("options.{}.{}", winner.option, criterion.id),
        };
        let unit = criterion.unit.as_ref().map(|unit| format!(" {unit}")).unwrap_or_default();
        conclusion.promise(&fact, comparator, value, by.as_deref(), &unit);
    }
    for contribution in &winner.contributions {
        if let (Some(value), Some(utility)) = (contribution.value, contribution.utility)
            && contribution.weight > 0.0
            && utility < WEAK_BELOW
        {
            conclusion.risk_mitigation.push(format!(
                "{name} is weak by {} ({value}, {} on a scale of 0 to 1): agree a limit for it \
                 and watch it first.",
                contribution.criterion,
                short(utility)
            ));
        }
    }
    conclusion.mind_the_gaps();
    conclusion
}

/// Below this utility a criterion of the chosen option is called a risk.
const WEAK_BELOW: f64 = 0.5;

impl Conclusion {
    /// A success metric, in words and for programs.
    fn promise(
        &mut self,
        fact: &str,
        comparator: Comparator,
        target: f64,
        by: Option<&str>,
        note: &str,
    ) {
        let words = match comparator {
            Comparator::AtLeast => "at least",
            Comparator::AtMost => "at most",
        };
        let when = match by {
            Some(by) => format!(" by {by}"),
            None => " (no date: no time frame was given)".to_owned(),
        };
        self.success_metrics.push(format!("{fact} of {words} {target}{note}{when}."));
        self.success_criteria.push(SuccessCriterion {
            fact: fact.to_owned(),
            comparator,
            target,
            by: by.map(str::to_owned),
        });
    }

    /// What a close call or evidence that could not be used asks for.
    fn mind_the_gaps(&mut self) {
        let nearest = self.flip_points.first();
        if let Some(point) =
            nearest.filter(|point| (point.flips_at - point.weight).abs() < NEAR_FLIP)
        {
            self.risk_mitigation.push(format!(
                "The order rests on how much {} counts: at {} in place of {} {} would lead. Have \
                 its weight confirmed by whoever answers for the goal.",
                point.criterion,
                short(point.flips_at),
                short(point.weight),
                point.rival
            ));
        }
        if let Some(open) = self.ranking.iter().find(|option| option.rank.is_none()) {
            self.risk_mitigation.push(format!(
                "{} could not be placed, as facts are missing; it could not have led. Ask again \
                 once they are known.",
                open.option
            ));
        }
    }

    /// A plan whose one phase is to find out what is missing.
    fn find_out(&mut self, timeframe: Option<Timeframe>) {
        let (activity, metric) = match &self.next_best_measurement {
            Some(next) => {
                (format!("Find out {}. {}", next.fact, next.why), format!("{} is known", next.fact))
            }
            None => (
                "Relax a constraint, or bring another option.".to_owned(),
                "At least one option keeps the constraints".to_owned(),
            ),
        };
        let when = timeframe.map(|timeframe| format!(" by {}", timeframe.last_day()));
        self.success_metrics = vec![format!("{metric}{}.", when.unwrap_or_default())];
        self.implementation_plan = vec![PlanPhase {
            phase: "Evidence".to_owned(),
            duration_days: timeframe.map(|timeframe| timeframe.days()),
            activities: vec![activity, "Ask the same question again.".to_owned()],
        }];
    }
}

/// A weight this near to a flip point is a risk of its own.
const NEAR_FLIP: f64 = 0.1;

/// The sentences of what was weighed, each from a computed value.
fn explain(
    conclusion: &Conclusion,
    intro: &str,
    evidence: &[Evidence],
    rules: &StabilityRules,
) -> String {
    let mut said = vec![intro.to_owned(), explain_evidence(evidence)];
    if let Some(option) = conclusion.ranking.first() {
        let weights: Vec<String> = option
            .contributions
            .iter()
            .filter(|contribution| contribution.weight > 0.0)
            .map(|contribution| {
                format!("{} {}", contribution.criterion, short(contribution.weight))
            })
            .collect();
        said.push(format!("Weights: {}.", weights.join(", ")));
    }
    for removed in &conclusion.eliminated {
        let value = match removed.value {
            Some(value) => format!("{} is {}", removed.fact, short(value)),
            None => format!("{} is not known", removed.fact),
        };
        let why =
            if removed.fact == "context.exclude" { String::new() } else { format!(", {value}") };
        said.push(format!("{} was left out: {}{why}.", removed.option, removed.constraint));
    }
    let placed: Vec<&RankedOption> =
        conclusion.ranking.iter().filter(|option| option.rank.is_some()).collect();
    if let Some(leader) = placed.first() {
        said.push(explain_leader(leader));
    }
    if let (Some(leader), Some(second)) = (placed.first(), placed.get(1))
        && let (Some(first), Some(utility)) = (leader.utility, second.utility)
    {
        let behind = short(first - utility);
        said.push(format!("{} follows with {}, {behind} behind.", second.option, short(utility)));
        said.push(explain_stability(conclusion, leader, rules));
        said.push(match conclusion.flip_points.first() {
            Some(point) => format!(
                "The nearest change of mind: were the weight of {} {} in place of {}, {} would \
                 draw level.",
                point.criterion,
                short(point.flips_at),
                short(point.weight),
                point.rival
            ),
            None => "No weight of a single criterion would change who leads.".to_owned(),
        });
    } else if placed.len() == 1 && conclusion.ranking.len() == 1 {
        said.push("It is the only option, so it was compared with none.".to_owned());
    }
    for option in conclusion.ranking.iter().filter(|option| option.rank.is_none()) {
        if let Some([low, high]) = option.utility_range {
            said.push(format!(
                "{} has no place, as facts are missing: its utility lies between {} and {}.",
                option.option,
                short(low),
                short(high)
            ));
        }
    }
    said.push(explain_decision(conclusion, rules));
    said.join(" ")
}

fn explain_evidence(evidence: &[Evidence]) -> String {
    let count = |state| evidence.iter().filter(|known| known.state == state).count();
    let unusable: Vec<String> = [FactState::Missing, FactState::Stale, FactState::Thin]
        .into_iter()
        .map(|state| (count(state), state.word()))
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let rest = if unusable.is_empty() { "none is missing".to_owned() } else { unusable.join(", ") };
    format!("Of {} facts {} were used; {rest}.", evidence.len(), count(FactState::Used))
}

fn explain_leader(leader: &RankedOption) -> String {
    let mut points: Vec<(&str, f64, f64, f64)> = leader
        .contributions
        .iter()
        .filter_map(|c| Some((c.criterion.as_str(), c.weight, c.utility?, c.points?)))
        .filter(|(.., points)| *points > 0.0)
        .collect();
    points.sort_by(|a, b| b.3.total_cmp(&a.3).then(a.0.cmp(b.0)));
    let terms: Vec<String> = points
        .iter()
        .map(|(criterion, weight, utility, points)| {
            format!("{criterion} {} · {} = {}", short(*weight), short(*utility), short(*points))
        })
        .collect();
    let utility = leader.utility.map(short).unwrap_or_default();
    let cost = leader.cost.map(|cost| format!(", at a cost of {cost}")).unwrap_or_default();
    if terms.is_empty() {
        return format!("{} leads with a utility of {utility}{cost}.", leader.option);
    }
    format!(
        "{} leads with a utility of {utility}{cost}, the sum of weight times utility: {}.",
        leader.option,
        terms.join(", ")
    )
}

fn explain_stability(
    conclusion: &Conclusion,
    leader: &RankedOption,
    rules: &StabilityRules,
) -> String {
    let percent = |share: f64| short(100.0 * share);
    let shares = conclusion.stability.iter().flat_map(|stability| &stability.shares);
    let Some(share) = shares.into_iter().find(|share| share.option == leader.option) else {
        return String::new();
    };
    let first = share.first_places;
    let agree = match leader.ranks {
        Some(ranks) if ranks.weighted_sum == 1 && ranks.topsis == 1 => "All three methods agree",
        Some(ranks) if ranks.weighted_sum == 1 || ranks.topsis == 1 => "One cross-check disagrees",
        _ => "Both cross-checks disagree",
    };
    format!(
        "{agree}: in {} draws of weights around the stated ones it comes first in {} % by SPOTIS, \
         {} % by a weighted sum and {} % by TOPSIS.",
        rules.draws,
        percent(first.spotis),
        percent(first.weighted_sum),
        percent(first.topsis)
    )
}

fn explain_decision(conclusion: &Conclusion, rules: &StabilityRules) -> String {
    let needed = short(100.0 * rules.min_share);
    match conclusion.decision.as_str() {
        INSUFFICIENT_DATA => {
            let next = conclusion.next_best_measurement.as_ref();
            let next = next.map(|next| format!(" {} would tell most.", next.fact));
            format!(
                "INSUFFICIENT_DATA: an option with missing facts could lead, and no default takes \
                 their place.{}",
                next.unwrap_or_default()
            )
        }
        NO_FEASIBLE_OPTION => {
            "NO_FEASIBLE_OPTION: the constraints left none to compare.".to_owned()
        }
        NO_DEFENSIBLE_WINNER => format!(
            "NO_DEFENSIBLE_WINNER: the leader must come first in {needed} % of the draws by SPOTIS, \
             and does not."
        ),
        winner => format!("{winner}: it comes first in at least {needed} % of the draws."),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::domain::decision::policy::{Family, shipped};
    use proptest::prelude::*;
    use serde_json::json;

    pub fn now() -> Timestamp {
        Timestamp::parse("2026-01-31T12:00:00Z").unwrap()
    }

    pub fn question(context: serde_json::Value) -> Question {
        Question::read(Kind::of_context(&context), context).unwrap()
    }

    /// Facts of a partnership, measured a minute ago.
    pub fn partnership(id: &str, score: f64, attained: [f64; 4], budget_left: f64) -> Vec<Fact> {
        let [availability, latency, kpis, deliverables] = attained;
        let fact = |name: &str, family, value: f64| Fact {
            id: format!("{id}.{name}"),
            family,
            source: Some("board".to_owned()),
            value: Some(value),
            unit: None,
            n: Some(1_440),
            interval: None,
            observed_at: Some(now().plus_ms(-60_000)),
        };
        vec![
            fact("score", Family::Score, score),
            fact("attainment.availability", Family::Score, availability),
            fact("attainment.latency", Family::Score, latency),
            fact("attainment.kpis", Family::Score, kpis),
            fact("attainment.deliverables", Family::Score, deliverables),
            fact("slo_budget_remaining", Family::Slo, budget_left),
            fact("incidents.open", Family::Incidents, 0.0),
        ]
    }

    pub fn concluded(question: &Question, live: Vec<Fact>) -> Conclusion {
        let policy = shipped().unwrap();
        assert_eq!(question.validate(&policy, now()), vec![]);
        let facts = evidence::sorted([question.facts(), live].concat());
        decide(&Case { question, facts: &facts, policy: &policy, at: now() }).unwrap()
    }

    pub fn strategy(goal: &str) -> Question {
        question(json!({ "business_goal": goal, "timeframe": "Q1_2026", "budget": 50_000.0 }))
    }

    /// Six partnerships; one of them may be sick.
    pub fn six(sick: bool) -> Vec<Fact> {
        let mut facts: Vec<Fact> = ["chatgpt", "claude", "cursor", "gemini", "perplexity"]
            .iter()
            .flat_map(|id| partnership(id, 97.0, [1.0, 0.98, 0.95, 0.96], 0.9))
            .collect();
        facts.extend(if sick {
            partnership("grok", 31.0, [0.1, 0.8, 0.5, 0.4], -2.0)
        } else {
            partnership("grok", 97.0, [1.0, 0.98, 0.95, 0.96], 0.9)
        });
        facts
    }

    #[test]
    fn a_sick_partner_changes_the_answer() {
        for goal in crate::domain::decision::policy::Goal::ALL {
            let question = strategy(goal.name());
            let well = concluded(&question, six(false));
            assert_eq!(well.decision, "MAINTAIN_COURSE", "{goal:?}: {}", well.rationale);
            let sick = concluded(&question, six(true));
            if goal.name() != "reduce_cost" {
                assert_ne!(sick.decision, "MAINTAIN_COURSE", "{goal:?}: {}", sick.rationale);
            }
            let target =
                sick.ranking.iter().find(|o| o.option == "OPTIMIZE_UNDERPERFORMING_PARTNER");
            assert_eq!(target.unwrap().target.as_deref(), Some("grok"));
        }
    }

    #[test]
    fn the_phases_add_up_to_the_time_there_is() {
        for sick in [false, true] {
            let conclusion = concluded(&strategy("improve_reliability"), six(sick));
            let days: f64 =
                conclusion.implementation_plan.iter().filter_map(|phase| phase.duration_days).sum();
            assert!((days - 59.5).abs() < 1e-9, "{days}: {conclusion:#?}");
            assert!(conclusion.success_metrics.iter().all(|text| text.contains("2026-03-31")));
            assert!(!conclusion.success_criteria.is_empty());
        }
    }

    #[test]
    fn without_evidence_nothing_is_decided() {
        let mut facts = six(true);
        for fact in &mut facts {
            fact.value = None;
        }
        let conclusion = concluded(&strategy("improve_reliability"), facts);
        assert_eq!(conclusion.decision, INSUFFICIENT_DATA, "{}", conclusion.rationale);
        assert!(conclusion.abstained && conclusion.confidence.is_none());
        assert!(conclusion.next_best_measurement.is_some());
        let mut old = six(true);
        old.iter_mut().for_each(|fact| fact.observed_at = Some(now().plus_ms(-86_400_000)));
        let conclusion = concluded(&strategy("improve_reliability"), old);
        assert_eq!(conclusion.decision, INSUFFICIENT_DATA, "{}", conclusion.rationale);
        assert!(conclusion.rationale.contains("too old"), "{}", conclusion.rationale);
    }

    #[test]
    fn what_a_constraint_forbids_is_reported() {
        let question = question(json!({
            "business_goal": "improve_reliability", "timeframe": "14_days", "budget": 50_000.0,
            "constraints": [{ "criterion": "cost", "at_most": 4_500.0 }],
            "exclude": ["PAUSE_PARTNERSHIP"],
        }));
        let conclusion = concluded(&question, six(true));
        let why = |id: &str| -> Vec<&str> {
            let of = conclusion.eliminated.iter().filter(|e| e.option == id);
            of.map(|e| e.constraint.as_str()).collect()
        };
        assert_eq!(why("PAUSE_PARTNERSHIP"), ["excluded by the question"]);
        assert_eq!(
            why("OPTIMIZE_UNDERPERFORMING_PARTNER"),
            ["the 14 days there are", "cost of at most 4500"]
        );
        assert!(why("MAINTAIN_COURSE").is_empty());
        assert!(conclusion.rationale.contains("PAUSE_PARTNERSHIP was left out"));
    }

    pub fn vector() -> serde_json::Value {
        let option = |id: &str, values: [f64; 4]| {
            json!({ "id": id, "values": {
                "uptime": values[0], "latency": values[1], "quality": values[2], "price": values[3],
            } })
        };
        let criterion = |id: &str, direction: &str, weight: f64, bounds: [f64; 2]| json!({ "id": id, "direction": direction, "weight": weight, "bounds": bounds });
        json!({
            "options": [
                option("cursor", [99.9, 320.0, 0.92, 40.0]),
                option("grok", [99.2, 540.0, 0.81, 25.0]),
                option("claude", [99.7, 410.0, 0.95, 55.0]),
            ],
            "criteria": [
                criterion("uptime", "max", 0.4, [95.0, 100.0]),
                criterion("latency", "min", 0.2, [0.0, 2000.0]),
                criterion("quality", "max", 0.3, [0.0, 1.0]),
                criterion("price", "min", 0.1, [0.0, 100.0]),
            ],
        })
    }

    #[test]
    fn the_published_vector_as_a_choice() {
        let conclusion = concluded(&question(vector()), vec![]);
        assert_eq!(conclusion.decision, "cursor", "{}", conclusion.rationale);
        let utilities: Vec<f64> =
            conclusion.ranking.iter().map(|option| option.utility.unwrap()).collect();
        assert_eq!(utilities, [0.896, 0.865, 0.8]);
        assert!(conclusion.confidence.unwrap() > 0.9);
        assert_eq!(conclusion.evidence.len(), 12);
    }

    #[test]
    fn an_unknown_value_decides_only_where_it_cannot_matter() {
        let mut context = vector();
        // Nobody knows grok's price: even at 0 it would not lead.
        context["options"][1]["values"]["price"] = json!(null);
        let conclusion = concluded(&question(context.clone()), vec![]);
        assert_eq!(conclusion.decision, "cursor", "{}", conclusion.rationale);
        assert_eq!(conclusion.ranking[2].rank, None);
        // Nor claude's: at 0 it would.
        context["options"][2]["values"].as_object_mut().unwrap().remove("price");
        let conclusion = concluded(&question(context), vec![]);
        assert_eq!(conclusion.decision, INSUFFICIENT_DATA, "{}", conclusion.rationale);
        assert_eq!(conclusion.next_best_measurement.unwrap().fact, "options.claude.price");
    }

    #[test]
    fn degenerate_choices_have_stated_results() {
        let mut one = vector();
        one["options"].as_array_mut().unwrap().truncate(1);
        let conclusion = concluded(&question(one), vec![]);
        assert_eq!((conclusion.decision.as_str(), conclusion.confidence), ("cursor", None));
        assert!(conclusion.rationale.contains("the only option"));

        let mut equal = vector();
        for n in 0..3 {
            equal["options"][n]["values"] = equal["options"][0]["values"].clone();
        }
        let conclusion = concluded(&question(equal), vec![]);
        assert_eq!(conclusion.decision, NO_DEFENSIBLE_WINNER, "{}", conclusion.rationale);

        let mut none = vector();
        none["constraints"] = json!([{ "criterion": "uptime", "at_least": 99.95 }]);
        let conclusion = concluded(&question(none), vec![]);
        assert_eq!(conclusion.decision, NO_FEASIBLE_OPTION);
        assert_eq!(conclusion.eliminated.len(), 3);
    }

    #[test]
    fn what_is_wrong_with_a_question_is_pointed_at() {
        let policy = shipped().unwrap();
        let pointers = |context: serde_json::Value| -> Vec<String> {
            let errors = question(context).validate(&policy, now());
            errors.into_iter().map(|error| error.pointer).collect()
        };
        type Change = fn(&mut serde_json::Value);
        let cases: [(Change, &str); 10] = [
            (|c| c["criteria"][1]["bounds"] = json!([5.0, 5.0]), "/criteria/1/bounds"),
            (|c| c["criteria"][1]["weight"] = json!(-1.0), "/criteria/1/weight"),
            (
                |c| {
                    for n in 0..4 {
                        c["criteria"][n]["weight"] = json!(0.0)
                    }
                },
                "/criteria",
            ),
            (|c| c["options"] = json!([]), "/options"),
            (|c| c["options"][1]["id"] = json!("cursor"), "/options/1/id"),
            (|c| c["options"][1]["id"] = json!("a b"), "/options/1/id"),
            (|c| c["options"][1]["values"]["uptime"] = json!(101.0), "/options/1/values/uptime"),
            (|c| c["options"][1]["values"]["speed"] = json!(1.0), "/options/1/values"),
            (|c| c["constraints"] = json!([{ "criterion": "price" }]), "/constraints/0"),
            (|c| c["timeframe"] = json!("soon"), "/timeframe"),
        ];
        for (change, pointer) in cases {
            let mut context = vector();
            change(&mut context);
            assert!(
                pointers(context.clone()).contains(&pointer.to_owned()),
                "{pointer}: {context}"
            );
        }
        let huge = json!({
            "options": (0..200).map(|n| json!({ "id": format!("o{n}"), "values": {} })).collect::<Vec<_>>(),
            "criteria": (0..50).map(|n| json!({
                "id": format!("c{n}"), "direction": "max", "weight": 1.0, "bounds": [0.0, 1.0],
            })).collect::<Vec<_>>(),
        });
        assert_eq!(pointers(huge), ["/options", "/criteria", "/options"]);
        let strategy = json!({
            "business_goal": "grow_brand", "timeframe": "Q1_2020", "budget": 0.0,
            "constraints": [{ "criterion": "mood", "at_most": 1.0 }], "exclude": ["NOTHING"],
        });
        let expected = ["/timeframe", "/budget", "/constraints/0/criterion", "/exclude/0"];
        assert_eq!(pointers(strategy), expected);
    }

    fn any_choice() -> impl Strategy<Value = serde_json::Value> {
        (2_usize..6, 1_usize..5).prop_flat_map(|(options, criteria)| {
            let weights = prop::collection::vec(0.1_f64..10.0, criteria);
            let values = prop::collection::vec(
                prop::collection::vec(prop::option::weighted(0.9, 0.0_f64..=1.0), criteria),
                options,
            );
            (weights, values).prop_map(|(weights, values)| {
                let options: Vec<_> = values
                    .iter()
                    .enumerate()
                    .map(|(n, row)| {
                        let values: serde_json::Map<_, _> = row
                            .iter()
                            .enumerate()
                            .map(|(k, value)| (format!("c{k}"), json!(value)))
                            .collect();
                        json!({ "id": format!("o{n}"), "values": values })
                    })
                    .collect();
                let criteria: Vec<_> = weights.iter().enumerate().map(|(k, weight)| json!({
                    "id": format!("c{k}"), "direction": if k % 2 == 0 { "max" } else { "min" },
                    "weight": weight, "bounds": [0.0, 1.0],
                })).collect();
                json!({ "options": options, "criteria": criteria })
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn the_order_of_options_does_not_count(context in any_choice()) {
            let mut reversed = context.clone();
            reversed["options"].as_array_mut().unwrap().reverse();
            let (one, other) = (concluded(&question(context), vec![]), concluded(&question(reversed), vec![]));
            prop_assert_eq!(one.decision, other.decision);
            prop_assert_eq!(one.ranking, other.ranking);
            prop_assert_eq!(one.evidence_hash, other.evidence_hash);
            prop_assert_eq!(one.stability, other.stability);
        }

        #[test]
        fn a_constraint_never_adds_an_option(context in any_choice(), least in 0.0_f64..=1.0) {
            let mut bound = context.clone();
            bound["constraints"] = json!([{ "criterion": "c0", "at_least": least }]);
            let names = |conclusion: &Conclusion| -> Vec<String> {
                let mut names: Vec<String> =
                    conclusion.ranking.iter().map(|option| option.option.clone()).collect();
                names.sort();
                names
            };
            let (free, bound) = (concluded(&question(context), vec![]), concluded(&question(bound), vec![]));
            prop_assert!(names(&bound).iter().all(|name| names(&free).contains(name)));
            prop_assert_eq!(bound.ranking.len() + bound.eliminated.len(), free.ranking.len());
        }

        #[test]
        fn scaled_weights_conclude_the_same(context in any_choice(), factor in 0.01_f64..100.0) {
            let mut scaled = context.clone();
            for criterion in scaled["criteria"].as_array_mut().unwrap() {
                criterion["weight"] = json!(criterion["weight"].as_f64().unwrap() * factor);
            }
            let (one, other) = (concluded(&question(context), vec![]), concluded(&question(scaled), vec![]));
            prop_assert_eq!(serde_json::to_value(one).unwrap(), serde_json::to_value(other).unwrap());
        }

        /// Whatever the unknown value turns out to be, a decision that was
        /// given without it stands.
        #[test]
        fn a_decision_without_a_fact_holds_for_each_of_its_values(
            context in any_choice(), value in 0.0_f64..=1.0,
        ) {
            let open = concluded(&question(context.clone()), vec![]);
            prop_assume!(!open.abstained);
            let mut filled = context;
            for option in filled["options"].as_array_mut().unwrap() {
                for (_, known) in option["values"].as_object_mut().unwrap() {
                    if known.is_null() {
                        *known = json!(value);
                    }
                }
            }
            let leader = concluded(&question(filled), vec![]).ranking[0].clone();
            prop_assert_eq!(leader.option, open.decision);
        }
    }
}

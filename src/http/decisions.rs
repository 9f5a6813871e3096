//! `/decisions`: questions answered from evidence and policy, with receipts
//! that can be checked, replayed, varied and judged by what became of them.

use super::app::Cx;
use super::boards::Board;
use super::idempotency::Once;
use super::narrator::{self, Narrative};
use super::pages::{Page, query_value};
use super::policies;
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::auth::token::Jwk;
use crate::domain::decision::conclusion::{
    Case, Conclusion, ENGINE_VERSION, Kind, Question, decide as conclude,
};
use crate::domain::decision::evidence::{self, Fact, OpenIncidents};
use crate::domain::decision::policy::Policy;
use crate::domain::decision::quality::{Fate, Quality, quality as measure, was_right};
use crate::domain::decision::receipt::{self, Changes, Receipt, ReceiptSignature, Replay};
use crate::domain::decision::strategy::FACTS;
use crate::domain::decision::success::SuccessCriterion;
use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::domain::validation::{FieldError, check_text};
use crate::store::{self, decisions, policies as versions};
use ::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Outcomes of one decision that are shown.
const MAX_OUTCOMES: u32 = 50;

/// Judged decisions that quality is measured over: the newest.
const MAX_JUDGED: u32 = 10_000;

const MAX_OBSERVED: usize = 50;
const MAX_FACT_CHARS: usize = 200;
const MAX_NOTE_CHARS: usize = 2_000;

/// The kind of the question follows from what the context holds: a
/// `business_goal` makes a strategy, `options` make a choice, all else is the
/// appraisal of an investment.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionIn<T = Question> {
    pub context: T,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DecisionOut {
    #[serde(flatten)]
    pub receipt: Receipt,
    /// Over all of this but the signature itself and the narrative, as
    /// canonical JSON (RFC 8785).
    pub signature: ReceiptSignature,
    /// What an optional narrator made of the receipt. Not signed, and nothing
    /// follows from it; null: there is none, or it did not answer in time.
    pub narrative: Option<Narrative>,
}

/// POST `/decisions`.
pub async fn decide(cx: Cx) -> Result<Reply, Problem> {
    let mut question = read_question(&cx)?;
    let platform = &cx.app.platform;
    let caller = cx.caller()?;
    let version = policies::in_force(&cx).await?;
    let policy = version.policy()?;
    let within = |errors| Problem::invalid(under("/context", errors));
    let errors = question.validate(&policy, cx.now);
    if !errors.is_empty() {
        return Err(within(errors));
    }
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return Ok(earlier.reply);
    }
    let facts = gather(&cx, &mut question).await?.map_err(within)?;
    let case = Case { question: &question, facts: &facts, policy: &policy, at: cx.now };
    let conclusion = conclude(&case).map_err(Problem::internal)?;
    let receipt = Receipt {
        decision_id: store::new_id(&platform.random, IdKind::Decision, cx.now)?,
        kind: question.kind(),
        decided_at: cx.now,
        author: caller.id().to_owned(),
        policy: version.reference(),
        engine_version: ENGINE_VERSION,
        question,
        conclusion,
    };
    let signed = receipt::canonical(&receipt).map_err(Problem::internal)?;
    let (signature, key) = sign(&cx, &signed)?;
    let narrative = narrator::tell(&cx, &signed).await;
    let out = DecisionOut { receipt, signature, narrative };

    let internal = |error: serde_json::Error| Problem::internal(error.to_string());
    let receipt_text = String::from_utf8(signed).map_err(|e| Problem::internal(e.to_string()))?;
    let inputs = serde_json::to_string(&out.receipt.question).map_err(internal)?;
    let signature_text = serde_json::to_string(&out.signature).map_err(internal)?;
    let narrative_text = out.narrative.as_ref().map(serde_json::to_string);
    let narrative_text = narrative_text.transpose().map_err(internal)?;
    let text = serde_json::to_string(&out).map_err(internal)?;
    let insert = decisions::insert(&decisions::Decision {
        id: &out.receipt.decision_id,
        tenant_id: caller.tenant_id(),
        kind: out.receipt.kind,
        decision: &out.receipt.conclusion.decision,
        inputs: &inputs,
        receipt: &receipt_text,
        author_id: caller.id(),
        created_at: cx.now,
        policy_id: &version.id,
        policy_version: version.version,
        signature: &signature_text,
        confidence: out.receipt.conclusion.confidence,
        narrative: narrative_text.as_deref(),
    });
    let jwk = serde_json::to_string(&key).map_err(internal)?;
    let remember = decisions::remember_key(caller.tenant_id(), &key.kid, &jwk, cx.now);
    let noted = cx.activity("decision.made", &out.receipt.decision_id)?;
    let reply = Reply::bytes(StatusCode::OK, "application/json", text.into_bytes());
    let kept = once.keep(&cx, &reply);
    let statements =
        [Some(insert), Some(remember), Some(noted), kept].into_iter().flatten().collect();
    match platform.database.batch(statements).await {
        Ok(_) => Ok(reply),
        Err(error) if Once::lost_race(&error) => Ok(once.winner(&cx).await?.reply),
        Err(error) => Err(error.into()),
    }
}

/// Reads the question in the form that its kind has, so that what is wrong is
/// pointed at.
fn read_question(cx: &Cx) -> Result<Question, Problem> {
    fn of<T: DeserializeOwned>(tree: &Value) -> Result<T, Problem> {
        Ok(super::body::read::<DecisionIn<T>>(tree)?.context)
    }
    let tree = cx.request.json_tree()?;
    // What is no question at all is refused in the words of the commonest kind.
    Ok(match Kind::of_context(tree.get("context").unwrap_or(&Value::Null)) {
        Kind::Appraisal => Question::Appraisal(of(&tree)?),
        Kind::Strategy => Question::Strategy(of(&tree)?),
        Kind::Choice => Question::Choice(of(&tree)?),
    })
}

fn under(prefix: &str, mut errors: Vec<FieldError>) -> Vec<FieldError> {
    for error in &mut errors {
        error.pointer.insert_str(0, prefix);
    }
    errors
}

/// The facts of a question: what the caller says, and what the board knows.
/// Names of live facts become full ones.
async fn gather(
    cx: &Cx,
    question: &mut Question,
) -> Result<Result<Vec<Fact>, Vec<FieldError>>, Problem> {
    let board = || async {
        let tenant_id = cx.caller()?.tenant_id();
        Ok::<_, Problem>(cx.app.boards.snapshot(&cx.app.platform, tenant_id, cx.now).await?)
    };
    let mut facts = question.facts();
    match question {
        Question::Appraisal(_) => {}
        Question::Strategy(_) => {
            let board = board().await?;
            for id in board.ids() {
                let known = facts_of(&board, id, cx.now);
                facts.extend(known.into_iter().filter(|fact| {
                    let name = fact.id.split_once('.').map(|(_, name)| name);
                    name.is_some_and(|name| FACTS.contains(&name))
                }));
            }
        }
        Question::Choice(context) => {
            let mut live = context.live().peekable();
            if live.peek().is_some() {
                let board = board().await?;
                let mut errors = Vec::new();
                // Many values may be of one partnership.
                let mut known = BTreeMap::new();
                for (pointer, name) in live {
                    match live_fact(&board, &mut known, name, cx.now) {
                        Ok(fact) => {
                            name.clone_from(&fact.id);
                            facts.push(fact);
                        }
                        Err(detail) => errors.push(FieldError::new(pointer, detail)),
                    }
                }
                if !errors.is_empty() {
                    return Ok(Err(errors));
                }
            }
        }
    }
    Ok(Ok(evidence::sorted(facts)))
}

fn facts_of(board: &Board, partnership: &str, now: Timestamp) -> Vec<Fact> {
    let Some(known) = board.find(partnership) else { return Vec::new() };
    let incidents = board.incidents.as_ref().map(|digest| OpenIncidents {
        open: board.incidents_of(Some(&known.summary.definition.id)).len() as u64,
        reported_at: digest.computed_at,
    });
    evidence::of_partnership(&known.summary, &known.score, incidents, now)
}

/// The fact of this name; of a partnership also by an alias.
fn live_fact<'a>(
    board: &'a Board,
    known: &mut BTreeMap<&'a str, Vec<Fact>>,
    name: &str,
    now: Timestamp,
) -> Result<Fact, String> {
    let (partnership, rest) = name
        .split_once('.')
        .ok_or("names no fact: expected a partnership, a point and the fact's name")?;
    let Some(found) = board.find(partnership) else {
        return Err(format!("names no partnership; there are {}", board.ids().join(", ")));
    };
    let partnership = found.summary.definition.id.as_str();
    let id = format!("{partnership}.{rest}");
    let facts = known.entry(partnership).or_insert_with(|| facts_of(board, partnership, now));
    facts.iter().find(|fact| fact.id == id).cloned().ok_or_else(|| {
        let names = facts.iter().filter_map(|fact| fact.id.split_once('.').map(|(_, name)| name));
        let names = names.collect::<Vec<_>>().join(", ");
        format!("names no fact of the partnership; it has {names}")
    })
}

fn sign(cx: &Cx, bytes: &[u8]) -> Result<(ReceiptSignature, Jwk), Problem> {
    let keys = cx.app.verifier.keys();
    let keys = keys.map_err(|defect| Problem::new(Code::NotConfigured, defect.to_string()))?;
    let (key, signature) = keys.sign_json(bytes);
    let signature = ReceiptSignature {
        alg: key.alg.clone(),
        kid: key.kid.clone(),
        value: URL_SAFE_NO_PAD.encode(signature),
    };
    Ok((signature, key))
}

/// A decision in short.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DecisionSummaryOut {
    pub decision_id: String,
    pub kind: String,
    pub decision: String,
    /// 0 to 1; null: the engine gave none.
    pub confidence: Option<f64>,
    /// A user's id, or an API key's.
    pub author: String,
    pub decided_at: Timestamp,
}

/// Newest first.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DecisionsOut {
    pub decisions: Vec<DecisionSummaryOut>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

/// GET `/decisions`.
pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let page = Page::of(&cx)?;
    let malformed = |detail: String| Problem::new(Code::MalformedRequest, detail);
    let text = |name: &str| -> Result<Option<String>, Problem> {
        let value = query_value(&cx, name)?;
        match &value {
            Some(text) if text.is_empty() || text.chars().count() > 100 => {
                Err(malformed(format!("{name}: expected 1 to 100 characters")))
            }
            _ => Ok(value),
        }
    };
    let kind =
        match query_value(&cx, "kind")? {
            None => None,
            Some(name) => Some(Kind::parse(&name).ok_or_else(|| {
                malformed("kind: expected appraisal, strategy or choice".to_owned())
            })?),
        };
    let moment = |name: &str| -> Result<Option<Timestamp>, Problem> {
        let value = query_value(&cx, name)?;
        let parsed = value.map(|text| Timestamp::parse(&text)).transpose();
        parsed.map_err(|reason| malformed(format!("{name}: {reason}")))
    };
    let filter = decisions::Filter {
        kind,
        author_id: text("author")?,
        decision: text("decision")?,
        from: moment("from")?,
        to: moment("to")?,
    };
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let before = page.after.as_deref();
    let mut rows = decisions::list(database, tenant_id, &filter, before, page.fetch()).await?;
    let next_cursor = page.cut(&cx, &mut rows, |row| row.id.clone());
    let decisions = rows.into_iter().map(|row| DecisionSummaryOut {
        decision_id: row.id,
        kind: row.kind,
        decision: row.decision,
        confidence: row.confidence,
        author: row.author_id,
        decided_at: row.created_at,
    });
    let out = DecisionsOut { decisions: decisions.collect(), next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

/// Everything that is needed to check a decision elsewhere.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DecisionRecordOut {
    /// What was signed. (Of a decision from before there were receipts, the
    /// reply of that time.)
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "BTreeMap<String, Value>"))]
    pub receipt: Box<RawValue>,
    /// Null: decided before there were receipts.
    pub signature: Option<ReceiptSignature>,
    /// The policy it was made by; null as above.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Option<Policy>"))]
    pub policy_document: Option<Box<RawValue>>,
    pub narrative: Option<Narrative>,
    /// The newest 50, the oldest of them first; the last one counts.
    pub outcomes: Vec<OutcomeOut>,
}

/// GET `/decisions/{id}`.
pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    let kept = find(&cx).await?;
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let policy = match &kept.policy {
        Some(_) => Some(policy_of(&cx, &kept).await?.document),
        None => None,
    };
    let outcomes = decisions::outcomes(database, tenant_id, &kept.id, MAX_OUTCOMES).await?;
    let id = kept.id.clone();
    let raw = |text: String| RawValue::from_string(text).map_err(unreadable);
    Ok(Reply::ok(&DecisionRecordOut {
        receipt: raw(kept.receipt)?,
        signature: read(kept.signature.as_deref())?,
        policy_document: policy.map(raw).transpose()?,
        narrative: read(kept.narrative.as_deref())?,
        outcomes: outcomes.into_iter().map(|o| outcome_out(&id, o)).collect::<Result<_, _>>()?,
    }))
}

fn unreadable(error: serde_json::Error) -> Problem {
    Problem::internal(format!("a stored decision cannot be read: {error}"))
}

fn read<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, Problem> {
    text.map(serde_json::from_str).transpose().map_err(unreadable)
}

async fn find(cx: &Cx) -> Result<decisions::Kept, Problem> {
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let found = decisions::find(database, tenant_id, cx.param("id")?).await?;
    found.ok_or_else(|| Problem::not_found("there is no decision of this id"))
}

/// The policy a decision was made by.
async fn policy_of(cx: &Cx, kept: &decisions::Kept) -> Result<versions::Version, Problem> {
    let Some((id, version)) = &kept.policy else {
        let detail = "this was decided before there were receipts: what it rested on is not known";
        return Err(Problem::new(Code::Conflict, detail));
    };
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let found = versions::find(database, tenant_id, id, *version).await?;
    found.ok_or_else(|| Problem::internal(format!("policy {id} version {version} is gone")))
}

/// A stored receipt with its policy.
async fn stored(cx: &Cx) -> Result<(Value, Policy), Problem> {
    let kept = find(cx).await?;
    let policy = policy_of(cx, &kept).await?.policy()?;
    Ok((kept.receipt()?, policy))
}

/// POST `/decisions/{id}/replay`.
pub async fn replay(cx: Cx) -> Result<Reply, Problem> {
    let (receipt, policy) = stored(&cx).await?;
    let replay: Replay = receipt::replay(&receipt, &policy).map_err(Problem::internal)?;
    Ok(Reply::ok(&replay))
}

/// What would have been, all else as in the receipt.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct WhatIfOut {
    /// Fields of the conclusion that come out otherwise.
    pub changed: Vec<String>,
    #[serde(flatten)]
    pub conclusion: Conclusion,
}

/// POST `/decisions/{id}/what-if`: nothing is stored.
pub async fn what_if(cx: Cx) -> Result<Reply, Problem> {
    let changes: Changes = cx.request.json()?;
    let (receipt, policy) = stored(&cx).await?;
    let conclusion = receipt::what_if(&receipt, &policy, &changes).map_err(Problem::invalid)?;
    let changed = receipt::changed(&receipt, &conclusion).map_err(Problem::internal)?;
    Ok(Reply::ok(&WhatIfOut { changed, conclusion }))
}

/// What became of a decision.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OutcomeIn {
    pub outcome: Fate,
    /// What was measured, by the names of `success_criteria` (others are kept
    /// and judge nothing); at most 50.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("maxProperties" = MAX_OBSERVED, "propertyNames" = { "minLength": 1, "maxLength": MAX_FACT_CHARS }, "additionalProperties" = { "type": "number", "minimum": -1e15, "maximum": 1e15 })))]
    #[serde(default)]
    pub observed: BTreeMap<String, f64>,
    /// At most 2,000 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = MAX_NOTE_CHARS), regex(pattern = crate::domain::validation::PRINTABLE)))]
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OutcomeOut {
    pub outcome_id: String,
    pub decision_id: String,
    pub outcome: Fate,
    pub observed: BTreeMap<String, f64>,
    pub note: Option<String>,
    /// Whether the decision was right: of one that was adopted, every success
    /// criterion with an observed value was met; one that was reversed was
    /// not. Null: nobody can say.
    pub was_right: Option<bool>,
    pub author: String,
    pub recorded_at: Timestamp,
}

impl OutcomeIn {
    fn validate(&self) -> Result<(), Problem> {
        let mut errors = Vec::new();
        if self.observed.len() > MAX_OBSERVED {
            errors.push(FieldError::new("/observed", "expected at most 50 values"));
        }
        for (name, value) in &self.observed {
            if name.is_empty() || name.chars().count() > MAX_FACT_CHARS {
                let detail = "holds a name that is not of 1 to 200 characters";
                errors.push(FieldError::new("/observed", detail));
            }
            if !(-1e15..=1e15).contains(value) {
                errors.push(FieldError::new("/observed", "expected -1e15 to 1e15"));
            }
        }
        if let Some(note) = &self.note
            && let Err(detail) = check_text(note, MAX_NOTE_CHARS)
        {
            errors.push(FieldError::new("/note", detail));
        }
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }
}

/// POST `/decisions/{id}/outcome`.
pub async fn record_outcome(cx: Cx) -> Result<Reply, Problem> {
    let input: OutcomeIn = cx.request.json()?;
    input.validate()?;
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return Ok(earlier.reply);
    }
    let kept = find(&cx).await?;
    #[derive(Deserialize)]
    struct Promised {
        #[serde(default)]
        success_criteria: Vec<SuccessCriterion>,
    }
    let promised: Promised = serde_json::from_str(&kept.receipt).map_err(unreadable)?;
    let right = was_right(input.outcome, &promised.success_criteria, &input.observed);
    let platform = &cx.app.platform;
    let caller = cx.caller()?;
    let outcome = decisions::Outcome {
        id: store::new_id(&platform.random, IdKind::Outcome, cx.now)?,
        outcome: input.outcome,
        observed: serde_json::to_string(&input.observed).map_err(unreadable)?,
        note: input.note,
        was_right: right,
        author_id: caller.id().to_owned(),
        created_at: cx.now,
    };
    let insert = decisions::insert_outcome(caller.tenant_id(), &kept.id, &outcome);
    let noted = cx.activity("decision.outcome_recorded", &kept.id)?;
    let reply = Reply::json(StatusCode::CREATED, &outcome_out(&kept.id, outcome)?);
    let remember = once.keep(&cx, &reply);
    let statements = [Some(insert), Some(noted), remember].into_iter().flatten().collect();
    match platform.database.batch(statements).await {
        Ok(_) => Ok(reply),
        Err(error) if Once::lost_race(&error) => Ok(once.winner(&cx).await?.reply),
        Err(error) => Err(error.into()),
    }
}

fn outcome_out(decision_id: &str, outcome: decisions::Outcome) -> Result<OutcomeOut, Problem> {
    Ok(OutcomeOut {
        outcome_id: outcome.id,
        decision_id: decision_id.to_owned(),
        outcome: outcome.outcome,
        observed: serde_json::from_str(&outcome.observed).map_err(unreadable)?,
        note: outcome.note,
        was_right: outcome.was_right,
        author: outcome.author_id,
        recorded_at: outcome.created_at,
    })
}

/// How good the engine's forecasts were.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct QualityOut {
    #[serde(flatten)]
    pub quality: Quality,
    /// The newest this many judged decisions count.
    pub window: u32,
    pub computed_at: Timestamp,
}

/// GET `/decisions/quality`.
pub async fn quality(cx: Cx) -> Result<Reply, Problem> {
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let judged = decisions::judged(database, tenant_id, MAX_JUDGED).await?;
    Ok(Reply::ok(&QualityOut {
        quality: measure(&judged),
        window: MAX_JUDGED,
        computed_at: cx.now,
    }))
}

/// Every public key that ever signed a receipt, the newest first (RFC 7517).
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ReceiptKeysOut {
    pub keys: Vec<Jwk>,
}

/// GET `/.well-known/receipt-keys.json`.
pub async fn receipt_keys(cx: Cx) -> Result<Reply, Problem> {
    let stored = decisions::keys(&cx.app.platform.database).await?;
    let keys = stored.iter().map(|jwk| serde_json::from_str(jwk).map_err(unreadable));
    Ok(Reply::ok(&ReceiptKeysOut { keys: keys.collect::<Result<_, _>>()? }))
}

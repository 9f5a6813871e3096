//! POST `/decisions`: the appraisal of an investment, stored with its inputs
//! and its author; GET `/decisions`: those made so far.

use super::app::Cx;
use super::idempotency::Once;
use super::pages::Page;
use super::problem::Problem;
use super::reply::Reply;
use crate::domain::decision::appraisal::{Appraisal, AppraisalContext, appraise};
use crate::domain::decision::policy;
use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::store::{self, decisions};
use ::http::StatusCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const KIND: &str = "appraisal";

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionIn {
    /// What is known of the investment.
    pub context: AppraisalContext,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DecisionOut {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = "^dec_[0-9a-f-]{36}$")))]
    pub decision_id: String,
    /// Which question was answered: `appraisal`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("const" = KIND)))]
    pub kind: String,
    #[serde(flatten)]
    pub appraisal: Appraisal,
    pub decided_at: Timestamp,
    /// The user who asked.
    pub author: String,
}

pub async fn decide(cx: Cx) -> Result<Reply, Problem> {
    let DecisionIn { context } = cx.request.json()?;
    let mut errors = context.validate();
    if !errors.is_empty() {
        for error in &mut errors {
            error.pointer.insert_str(0, "/context");
        }
        return Err(Problem::invalid(errors));
    }
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return Ok(earlier.reply);
    }
    let platform = &cx.app.platform;
    let caller = cx.caller()?;
    let json = |error: serde_json::Error| Problem::internal(error.to_string());
    let inputs = serde_json::to_string(&context).map_err(json)?;
    let policy = policy::shipped().map_err(Problem::internal)?;
    // Of the question itself: the same question gets the same answer.
    let seed: [u8; 32] = Sha256::digest(&inputs).into();
    let out = DecisionOut {
        decision_id: store::new_id(&platform.random, IdKind::Decision, cx.now)?,
        kind: KIND.to_owned(),
        appraisal: appraise(&context, &policy, &seed, cx.now),
        decided_at: cx.now,
        author: caller.id().to_owned(),
    };
    let text = serde_json::to_string(&out).map_err(json)?;
    let insert = decisions::insert(&decisions::Decision {
        id: &out.decision_id,
        tenant_id: caller.tenant_id(),
        kind: KIND,
        decision: out.appraisal.decision.as_str(),
        inputs: &inputs,
        reply: &text,
        author_id: caller.id(),
        created_at: cx.now,
    });
    let noted = cx.activity("decision.made", &out.decision_id)?;
    let reply = Reply::bytes(StatusCode::OK, "application/json", text.into_bytes());
    let kept = once.keep(&cx, &reply);
    let statements = [Some(insert), Some(noted), kept].into_iter().flatten().collect();
    match platform.database.batch(statements).await {
        Ok(_) => Ok(reply),
        Err(error) if Once::lost_race(&error) => Ok(once.winner(&cx).await?.reply),
        Err(error) => Err(error.into()),
    }
}

/// A decision in short.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DecisionSummaryOut {
    pub decision_id: String,
    pub kind: String,
    pub decision: String,
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
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let mut rows =
        decisions::list(database, tenant_id, page.after.as_deref(), page.fetch()).await?;
    let next_cursor = page.cut(&cx, &mut rows, |row| row.id.clone());
    let decisions = rows.into_iter().map(|row| DecisionSummaryOut {
        decision_id: row.id,
        kind: row.kind,
        decision: row.decision,
        author: row.author_id,
        decided_at: row.created_at,
    });
    let out = DecisionsOut { decisions: decisions.collect(), next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

//! POST `/decisions`: the appraisal of an investment, stored with its inputs
//! and its author.

use super::app::Cx;
use super::problem::Problem;
use super::reply::Reply;
use crate::domain::decision::appraisal::{Appraisal, AppraisalContext, appraise};
use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::store::{self, decisions};
use serde::{Deserialize, Serialize};

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
    let platform = &cx.app.platform;
    let caller = cx.caller()?;
    let out = DecisionOut {
        decision_id: store::new_id(&platform.random, IdKind::Decision, cx.now)?,
        kind: KIND.to_owned(),
        appraisal: appraise(&context),
        decided_at: cx.now,
        author: caller.user_id().to_owned(),
    };
    let json = |error: serde_json::Error| Problem::internal(error.to_string());
    let inputs = serde_json::to_string(&context).map_err(json)?;
    let reply = serde_json::to_string(&out).map_err(json)?;
    let insert = decisions::insert(&decisions::Decision {
        id: &out.decision_id,
        tenant_id: caller.tenant_id(),
        kind: KIND,
        decision: out.appraisal.decision.as_str(),
        inputs: &inputs,
        reply: &reply,
        author_id: caller.user_id(),
        created_at: cx.now,
    });
    let noted = cx.activity("decision.made", &out.decision_id)?;
    platform.database.batch(vec![insert, noted]).await?;
    Ok(Reply::bytes(::http::StatusCode::OK, "application/json", reply.into_bytes()))
}

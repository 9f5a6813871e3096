//! `/policies`: what decisions are made by, version by version, and what
//! another version would have decided.

use super::app::Cx;
use super::conditional;
use super::pages::{Page, unreadable_cursor};
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::domain::decision::policy::{Policy, STANDARD};
use crate::domain::decision::receipt::{self, Changes, PolicyRef};
use crate::domain::time::{DAY_MS, Timestamp};
use crate::domain::validation::FieldError;
use crate::platform::Headers;
use crate::store::decisions;
use crate::store::policies::{self, Version};
use serde::{Deserialize, Serialize};

/// Newest decisions that a rehearsal looks at, unless it is told another
/// number; each costs as much CPU as it did when it was made.
const REHEARSED: u32 = 25;
const MAX_REHEARSED: u32 = 100;
const MAX_DAYS: u32 = 365;

/// A version in short.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PolicyVersionOut {
    pub id: String,
    pub version: i64,
    /// Of the document as canonical JSON (RFC 8785), in hexadecimal.
    pub sha256: String,
    pub title: String,
    /// A user's id; `system`: it shipped with the build.
    pub author: String,
    pub created_at: Timestamp,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PoliciesOut {
    pub policies: Vec<PolicyVersionOut>,
}

/// Newest first.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PolicyVersionsOut {
    pub versions: Vec<PolicyVersionOut>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

/// A version with its document.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PolicyOut {
    #[serde(flatten)]
    pub version: PolicyVersionOut,
    pub document: Policy,
}

/// The version in force. A tenant from before there were policies gets the
/// one that ships.
pub(super) async fn in_force(cx: &Cx) -> Result<Version, Problem> {
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    if let Some(version) = policies::current(database, tenant_id, STANDARD).await? {
        return Ok(version);
    }
    let first = Version::first(crate::store::activity::SYSTEM, cx.now)?;
    database.batch(vec![first.insert_if_none(tenant_id)]).await?;
    // Of two who were first at once, the one that is stored.
    Ok(policies::current(database, tenant_id, STANDARD).await?.unwrap_or(first))
}

fn in_short(version: &Version) -> Result<PolicyVersionOut, Problem> {
    let PolicyRef { id, version: number, sha256 } = version.reference();
    Ok(PolicyVersionOut {
        id,
        version: number,
        sha256,
        title: version.policy()?.title,
        author: version.author_id.clone(),
        created_at: version.created_at,
    })
}

fn whole(version: &Version) -> Result<Reply, Problem> {
    Ok(Reply::ok(&PolicyOut { version: in_short(version)?, document: version.policy()? }))
}

/// The policy of the path, which must be one there is.
async fn named(cx: &Cx) -> Result<Version, Problem> {
    if cx.param("id")? == STANDARD {
        in_force(cx).await
    } else {
        Err(Problem::not_found(format!("there is no such policy; there is {STANDARD}")))
    }
}

/// GET `/policies`.
pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    Ok(Reply::ok(&PoliciesOut { policies: vec![in_short(&in_force(&cx).await?)?] }))
}

/// GET `/policies/{id}`.
pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    whole(&named(&cx).await?)
}

/// GET `/policies/{id}/versions`.
pub async fn list_versions(cx: Cx) -> Result<Reply, Problem> {
    let page = Page::of(&cx)?;
    let current = named(&cx).await?;
    let before = page.after.as_deref().map(str::parse).transpose();
    let before: Option<i64> = before.map_err(|_| unreadable_cursor())?;
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let mut rows =
        policies::versions(database, tenant_id, &current.id, before, page.fetch()).await?;
    let next_cursor = page.cut(&cx, &mut rows, |row| row.version.to_string());
    let versions = rows.iter().map(in_short).collect::<Result<_, _>>()?;
    let out = PolicyVersionsOut { versions, next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

/// GET `/policies/{id}/versions/{version}`.
pub async fn show_version(cx: Cx) -> Result<Reply, Problem> {
    let current = named(&cx).await?;
    let number: Option<i64> = cx.param("version")?.parse().ok();
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let found = match number {
        Some(number) => policies::find(database, tenant_id, &current.id, number).await?,
        None => None,
    };
    whole(&found.ok_or_else(|| Problem::not_found("there is no such version"))?)
}

/// PUT `/policies/{id}`: another version.
pub async fn replace(cx: Cx) -> Result<Reply, Problem> {
    let policy: Policy = cx.request.json()?;
    let errors = policy.validate();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let before = named(&cx).await?;
    let shown = whole(&before)?;
    // After everything else that may be wrong with it (RFC 9110, 13.2.1).
    if cx.request.headers.get("if-match").is_none() {
        let detail = "a policy is changed with If-Match: the ETag of the version you have read";
        return Err(Problem::new(Code::PreconditionRequired, detail));
    }
    conditional::check_if_match(&cx, Some(&conditional::etag_of(&shown.body)))?;
    let caller = cx.caller()?;
    let number = before.version + 1;
    let next = Version::of(&policy, &before.id, number, caller.id(), cx.now)?;
    if next.document == before.document {
        return Ok(conditional::answer(shown, &Headers::default()));
    }
    let line = cx.activity("policy.changed", &format!("policies/{}/{number}", next.id))?;
    match cx.app.platform.database.batch(vec![next.insert(caller.tenant_id()), line]).await {
        Ok(_) => Ok(conditional::answer(whole(&next)?, &Headers::default())),
        Err(error) if error.is_constraint("policies.version") => {
            let detail = "somebody else changed the policy at the same moment; read it again";
            Err(Problem::new(Code::Conflict, detail))
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RehearsalIn {
    /// The draft.
    pub document: Policy,
    /// How far back to go, 1 to 365.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = MAX_DAYS)))]
    #[serde(deserialize_with = "super::body::whole_required")]
    pub days: u32,
    /// The newest this many are rehearsed, 1 to 100; 25 if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = MAX_REHEARSED)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub max_decisions: Option<u32>,
}

/// A decision that the draft would have made otherwise.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RehearsedOut {
    pub decision_id: String,
    pub decision: String,
    /// What the draft says.
    pub rehearsed: String,
    pub rehearsed_confidence: Option<f64>,
    /// The draft's own rationale.
    pub why: String,
}

/// What a draft would have decided from the same evidence.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RehearsalOut {
    pub from: Timestamp,
    pub rehearsed: u64,
    pub unchanged: u64,
    /// Newest first.
    pub changed: Vec<RehearsedOut>,
    /// Questions that the draft cannot be asked, such as those with a
    /// constraint on a criterion that it does not have.
    pub not_applicable: Vec<NotApplicableOut>,
    /// There are more decisions in these days than were looked at.
    pub truncated: bool,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct NotApplicableOut {
    pub decision_id: String,
    pub why: String,
}

/// POST `/policies/{id}/rehearse`: nothing is stored.
pub async fn rehearse(cx: Cx) -> Result<Reply, Problem> {
    let input: RehearsalIn = cx.request.json()?;
    let mut errors = input.document.validate();
    for error in &mut errors {
        error.pointer.insert_str(0, "/document");
    }
    if !(1..=MAX_DAYS).contains(&input.days) {
        errors.push(FieldError::new("/days", "expected 1 to 365"));
    }
    let most = input.max_decisions.unwrap_or(REHEARSED);
    if !(1..=MAX_REHEARSED).contains(&most) {
        errors.push(FieldError::new("/max_decisions", "expected 1 to 100"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let current = named(&cx).await?;
    let from = cx.now.plus_ms(-i64::from(input.days) * DAY_MS);
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let mut kept =
        decisions::receipts_since(database, tenant_id, &current.id, from, most + 1).await?;
    let truncated = kept.len() > most as usize;
    kept.truncate(most as usize);
    let mut out = RehearsalOut {
        from,
        rehearsed: kept.len() as u64,
        unchanged: 0,
        changed: Vec::new(),
        not_applicable: Vec::new(),
        truncated,
    };
    for decision in kept {
        match receipt::what_if(&decision.receipt()?, &input.document, &Changes::default()) {
            Ok(conclusion) if conclusion.decision == decision.decision => out.unchanged += 1,
            Ok(conclusion) => out.changed.push(RehearsedOut {
                decision_id: decision.id,
                decision: decision.decision,
                rehearsed: conclusion.decision,
                rehearsed_confidence: conclusion.confidence,
                why: conclusion.rationale,
            }),
            Err(errors) => {
                let why: Vec<String> =
                    errors.iter().map(|e| format!("{}: {}", e.pointer, e.detail)).collect();
                out.not_applicable
                    .push(NotApplicableOut { decision_id: decision.id, why: why.join("; ") });
            }
        }
    }
    Ok(Reply::ok(&out))
}

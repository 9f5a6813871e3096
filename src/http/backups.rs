//! `/backups`: the sets there are, and work on them. A set holds every tenant,
//! so all of this is for people of the default tenant, the deployment's owner;
//! others find nothing. None of the writes takes an Idempotency-Key: repeated,
//! each goes on with what is under way.

use super::app::Cx;
use super::pages::Page;
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::backup::{Budget, SMALL, last_drill, restore as restoring, run, verify as verifying};
use crate::domain::time::{SECOND_MS, Timestamp};
use crate::store::backups::{self, Backup, Drill, GOOD, RESTORING, Verification};
use crate::store::tenants::DEFAULT_TENANT_ID;
use ::http::StatusCode;
use serde::Serialize;

const DATASET: &str = "devskyy.backup";

pub type VerificationOut = Verification;

/// A whole set.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BackupOut {
    pub id: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// Seconds since it was finished.
    pub age_s: i64,
    /// Of all files, gzipped.
    pub bytes: u64,
    pub rows: u64,
    pub files: u64,
    /// The last check of its files; null: none was asked for.
    pub verification: Option<Verification>,
}

/// Newest first.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BackupsOut {
    pub backups: Vec<BackupOut>,
    /// The last restore of a backup that succeeded, here or in another
    /// environment with the same bucket; null: none yet.
    pub last_drill: Option<Drill>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

/// A set that is being written. It is listed once it is whole.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BegunOut {
    pub id: String,
    /// False: it was under way already.
    pub begun: bool,
}

/// How far a restore has come.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RestoreOut {
    pub id: String,
    pub files: u64,
    pub files_restored: u64,
    pub rows_restored: u64,
    /// Null: it goes on with the next call. Otherwise every row was counted
    /// against the manifest.
    pub drill: Option<Drill>,
}

fn for_owner(cx: &Cx) -> Result<(), Problem> {
    if cx.caller()?.tenant_id() == DEFAULT_TENANT_ID {
        Ok(())
    } else {
        Err(Problem::not_found("backups hold every tenant and belong to the default one"))
    }
}

/// GET `/backups`.
pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    for_owner(&cx)?;
    let page = Page::of(&cx)?;
    let platform = &cx.app.platform;
    let before = page.after.as_deref().unwrap_or_default();
    let mut sets = backups::good(&platform.database, before, page.fetch()).await?;
    let last_drill = last_drill(platform).await?;
    let next_cursor = page.cut(&cx, &mut sets, |set| set.id.clone());
    let backups = sets.into_iter().map(|set| out(set, cx.now)).collect();
    let out = BackupsOut { backups, last_drill, next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

fn out(set: Backup, now: Timestamp) -> BackupOut {
    let finished_at = set.finished_at.unwrap_or(set.started_at);
    BackupOut {
        id: set.id,
        started_at: set.started_at,
        finished_at,
        age_s: now.since_ms(finished_at) / SECOND_MS,
        bytes: set.bytes,
        rows: set.rows,
        files: set.manifest.map_or(0, |manifest| manifest.files.len() as u64),
        verification: set.verification,
    }
}

/// POST `/backups`. The work itself is the minute's tick's.
pub async fn create(cx: Cx) -> Result<Reply, Problem> {
    for_owner(&cx)?;
    let platform = &cx.app.platform;
    let (id, begun) = match run::begin(platform).await? {
        Some(id) => (id, true),
        None => match backups::first_in(&platform.database, backups::RUNNING).await? {
            Some(set) => (set.id, false),
            None => {
                let detail = "an environment that is being restored is not backed up";
                return Err(Problem::new(Code::Conflict, detail));
            }
        },
    };
    if begun {
        cx.note(DATASET, cx.activity("backup.started", &id)?).await;
    }
    Ok(Reply::json(StatusCode::ACCEPTED, &BegunOut { id, begun }))
}

/// GET `/backups/{id}`.
pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    let set = good(&cx).await?;
    match set.manifest {
        Some(manifest) => Ok(Reply::ok(&manifest)),
        None => Err(Problem::internal(format!("{} is good without a manifest", set.id))),
    }
}

async fn good(cx: &Cx) -> Result<Backup, Problem> {
    for_owner(cx)?;
    let set = backups::find(&cx.app.platform.database, cx.param("id")?).await?;
    set.filter(|set| set.state == GOOD)
        .ok_or_else(|| Problem::not_found("there is no whole set of this id"))
}

/// POST `/backups/{id}/verify`: some files now; the rest with the next call,
/// or with the minute's tick.
pub async fn verify(cx: Cx) -> Result<Reply, Problem> {
    let set = good(&cx).await?;
    let state = verifying::step(&cx.app.platform, &set, &mut Budget::of_calls(SMALL)).await?;
    if state.finished_at.is_some() {
        let sound = state.defects.is_empty();
        let event = if sound { "backup.verified" } else { "backup.found_damaged" };
        cx.note(DATASET, cx.activity(event, &set.id)?).await;
    }
    Ok(Reply::ok(&state))
}

/// POST `/backups/{id}/restore`: the first call makes sure that the
/// environment is empty, this and the next ones fill it.
pub async fn restore(cx: Cx) -> Result<Reply, Problem> {
    for_owner(&cx)?;
    let (platform, id) = (&cx.app.platform, cx.param("id")?);
    let conflict = |detail: String| Problem::new(Code::Conflict, detail);
    let under_way = |set: &Backup| set.state == RESTORING;
    let mut set = backups::find(&platform.database, id).await?.filter(under_way);
    if set.is_none() {
        restoring::begin(platform, id).await?.map_err(conflict)?;
        set = backups::find(&platform.database, id).await?.filter(under_way);
    }
    let set = set.ok_or_else(|| conflict("the restore did not begin".to_owned()))?;
    let step = restoring::step(platform, &set, &mut Budget::of_calls(SMALL)).await?;
    let step = step.ok_or_else(|| conflict("another request is at it".to_owned()))?;
    if step.drill.is_some() {
        // What was known here is of before.
        cx.app.boards.forget(DEFAULT_TENANT_ID);
    }
    Ok(Reply::ok(&RestoreOut {
        id: set.id,
        files: step.files as u64,
        files_restored: step.files_loaded as u64,
        rows_restored: step.rows,
        drill: step.drill,
    }))
}

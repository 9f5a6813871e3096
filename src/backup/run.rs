//! Writing a set of backups.
//!
//! Objects first and D1 last: an object refuses a definition that is older
//! than its own, so D1 must not be behind them. D1's tables are read in one
//! transaction together with the ends of those that are large, which are then
//! read page by page up to there.

use super::{Budget, lease, misuse, now, objects, parse, text};
use crate::domain::backup::{BackupFile, FORMAT, Manifest, kept};
use crate::domain::id::IdKind;
use crate::domain::time::{HOUR_MS, Timestamp};
use crate::objects::transfer::{self, Reply, Transfer};
use crate::platform::sql::Statement;
use crate::platform::{Error, Platform};
use crate::store::backups::{self, Backup, file_key, manifest_key};
use crate::store::dump::{self, PAGE_ROWS, Packer, Position};
use crate::store::{MIGRATIONS, TABLES, new_id};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A set that is not whole by then never will be.
const ABANDONED_MS: i64 = 6 * HOUR_MS;

/// Sets whose files are deleted in one go.
const MAX_DELETED: usize = 5;

/// The manifest calls it so.
pub const DATABASE: &str = "DB";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// Still to be copied, the next one last.
    objects: Vec<(String, String)>,
    /// What is left of the object that is being copied.
    growing: Vec<Position>,
    /// What is left of D1; `None`: all of it.
    database: Option<Vec<Position>>,
    files: Vec<BackupFile>,
    finished_at: Option<Timestamp>,
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is nothing to do, or somebody else does it.
    Idle,
    Unfinished,
    Finished(String),
}

/// Begins a set, unless one is on its way. Its id, if it began.
pub async fn begin(platform: &Platform) -> Result<Option<String>, Error> {
    let now = now(platform);
    let id = new_id(&platform.random, IdKind::Backup, now)?;
    let mut objects = objects(platform).await?;
    objects.reverse();
    let progress = text(&Progress { objects, ..Progress::default() })?;
    Ok(backups::begin(&platform.database, &id, now, &progress).await?.then_some(id))
}

/// Goes on with the set that is being written.
pub async fn step(platform: &Platform, budget: &mut Budget) -> Result<Step, Error> {
    let database = &platform.database;
    let Some(set) = backups::first_in(database, backups::RUNNING).await? else {
        return Ok(Step::Idle);
    };
    let lease = lease(platform)?;
    if !backups::take(database, &set.id, &lease, now(platform)).await? {
        return Ok(Step::Idle);
    }
    // It may have gone on since it was read.
    let Some(set) = backups::find(database, &set.id).await? else { return Ok(Step::Idle) };
    if now(platform).since_ms(set.started_at) > ABANDONED_MS {
        backups::condemn(database, &set.id, backups::RUNNING).await?;
        return Ok(Step::Idle);
    }
    let done = work(platform, &set, &lease, budget).await;
    if !matches!(done, Ok(Step::Finished(_))) {
        // It ends by itself too, a few minutes later.
        drop(backups::let_go(database, &set.id, &lease).await);
    }
    done
}

async fn work(
    platform: &Platform,
    set: &Backup,
    lease: &str,
    budget: &mut Budget,
) -> Result<Step, Error> {
    let database = &platform.database;
    let mut progress: Progress = parse(set.progress.as_deref().unwrap_or("{}"))?;
    // Two who both think that it is their turn never write the same file.
    let author = lease.get(lease.len().saturating_sub(8)..).unwrap_or(lease);
    while progress.finished_at.is_none() {
        if !budget.spend() {
            return Ok(Step::Unfinished);
        }
        let name = format!("{:05}-{author}", progress.files.len());
        unit(platform, &set.id, name, &mut progress).await?;
        let saved = text(&progress)?;
        if !backups::save(database, &set.id, lease, now(platform), &saved).await? {
            return Ok(Step::Idle);
        }
    }
    let manifest = Manifest {
        id: set.id.clone(),
        format: FORMAT,
        schema_version: schema_version(),
        app_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: set.started_at,
        finished_at: progress.finished_at.unwrap_or(set.started_at),
        files: progress.files,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| misuse(error.to_string()))?;
    let key = manifest_key(&set.id);
    platform.bucket.put(&key, &bytes, &dump::sha256_hex(&bytes)).await?;
    let finished = backups::finish(database, lease, &manifest, Vec::new()).await?;
    Ok(if finished { Step::Finished(manifest.id) } else { Step::Idle })
}

/// The last migration of this build.
pub fn schema_version() -> String {
    MIGRATIONS.last().map(|(name, _)| (*name).to_owned()).unwrap_or_default()
}

/// The smallest piece of work: an object's state, or a file of a large table.
async fn unit(
    platform: &Platform,
    set: &str,
    name: String,
    progress: &mut Progress,
) -> Result<(), Error> {
    if let Some((binding, object)) = progress.objects.last().cloned() {
        object_unit(platform, set, name, progress, &binding, &object).await
    } else if let Some(left) = &mut progress.database {
        let Some(mut position) = left.pop() else {
            progress.finished_at = Some(now(platform));
            return Ok(());
        };
        let mut packer = Packer::default();
        let mut more = true;
        while more && !packer.is_full() {
            let rows = platform.database.query(position.page()).await?;
            more = rows.len() == PAGE_ROWS as usize;
            for row in &rows {
                packer.push(&position.table, row)?;
            }
            if let Some(last) = rows.last() {
                position.advance(last);
            }
        }
        if more {
            left.push(position);
        }
        let file = store(platform, set, packer, name).await?;
        progress.files.extend(file);
        Ok(())
    } else {
        snapshot(platform, set, name, progress).await
    }
}

async fn object_unit(
    platform: &Platform,
    set: &str,
    name: String,
    progress: &mut Progress,
    binding: &str,
    object: &str,
) -> Result<(), Error> {
    let (set, of) = (set.to_owned(), format!("{binding}/{object}"));
    let from = progress.growing.pop();
    let begun = from.is_some();
    let transfer = match from {
        Some(from) => Transfer::Page { set, of, name, from },
        None => Transfer::Export { set, of, name },
    };
    match transfer::call(platform, binding, object, transfer).await? {
        Reply::Exported { files, growing } => {
            progress.files.extend(files);
            progress.growing = growing;
        }
        Reply::Paged { file, next } => {
            progress.files.extend(file);
            progress.growing.extend(next);
        }
        other => return Err(misuse(format!("unexpected reply {other:?}"))),
    }
    if progress.growing.is_empty() {
        progress.objects.pop();
        if begun {
            // Lost, it ends by itself.
            drop(transfer::call(platform, binding, object, Transfer::Release).await);
        }
    }
    Ok(())
}

/// All of D1 that changes, and where the rest ends: one transaction.
async fn snapshot(
    platform: &Platform,
    set: &str,
    name: String,
    progress: &mut Progress,
) -> Result<(), Error> {
    let small: Vec<&str> = TABLES
        .iter()
        .copied()
        .filter(|table| {
            *table != backups::TABLE && !backups::GROWING.iter().any(|(known, ..)| known == table)
        })
        .collect();
    let mut statements: Vec<Statement> =
        small.iter().map(|table| Statement::new(format!("SELECT * FROM {table}"))).collect();
    statements.extend(backups::GROWING.iter().map(|(table, _, mark)| {
        Statement::new(format!("SELECT MAX({mark}) AS mark FROM {table}"))
    }));
    let mut answers = platform.database.batch(statements).await?.into_iter();
    let mut packer = Packer::default();
    let mut files = 0;
    for table in &small {
        for row in answers.next().unwrap_or_default().rows {
            packer.push(table, &row)?;
            if packer.is_full() {
                let file =
                    store(platform, set, std::mem::take(&mut packer), format!("{name}-{files}"));
                progress.files.extend(file.await?);
                files += 1;
            }
        }
    }
    progress.files.extend(store(platform, set, packer, format!("{name}-{files}")).await?);
    let mut growing = Vec::new();
    for (table, key, mark) in backups::GROWING {
        let rows = answers.next().unwrap_or_default().rows;
        let end: Option<i64> = rows.first().map_or(Ok(None), |row| row.get("mark"))?;
        let start = Position::by_key(table, key.iter().map(|&name| name.to_owned()).collect());
        growing.extend(end.map(|end| start.upto(mark, end)));
    }
    // The last one is next, and a table comes after those that it names.
    growing.reverse();
    progress.database = Some(growing);
    Ok(())
}

async fn store(
    platform: &Platform,
    set: &str,
    packer: Packer,
    name: String,
) -> Result<Option<BackupFile>, Error> {
    if packer.is_empty() {
        return Ok(None);
    }
    let (file, bytes) = packer.finish(DATABASE, name)?;
    platform.bucket.put(&file_key(set, &file.name), &bytes, &file.sha256).await?;
    Ok(Some(file))
}

// ---- tidying up ----

/// Lists what is in the bucket and unknown here, lets go of what is past its
/// time, and deletes the files of what was let go.
pub async fn tidy(platform: &Platform) -> Result<usize, Error> {
    adopt(platform).await?;
    let database = &platform.database;
    let known = backups::known(database).await?;
    let good = known.iter().filter(|(_, state, _)| state == backups::GOOD);
    let good: Vec<_> = good.map(|(id, _, at)| (id.clone(), *at)).collect();
    let stay = kept(&good);
    for (id, _) in good.iter().filter(|(id, _)| !stay.contains(id)) {
        backups::condemn(database, id, backups::GOOD).await?;
    }
    let mut deleted = 0;
    while deleted < MAX_DELETED
        && let Some(set) = backups::first_in(database, backups::DELETING).await?
    {
        delete_files(platform, &set.id).await?;
        backups::forget(database, &set.id).await?;
        deleted += 1;
    }
    Ok(deleted)
}

/// The manifest goes first: without it nobody takes the rest for a set.
async fn delete_files(platform: &Platform, set: &str) -> Result<(), Error> {
    platform.bucket.delete(&[manifest_key(set)]).await?;
    let prefix = format!("{}{set}/", backups::PREFIX);
    loop {
        let listing = platform.bucket.list(&prefix, None).await?;
        if listing.keys.is_empty() {
            return Ok(());
        }
        platform.bucket.delete(&listing.keys).await?;
    }
}

/// After a restore the table begins anew, the bucket does not.
async fn adopt(platform: &Platform) -> Result<(), Error> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut cursor = None;
    loop {
        let listing = platform.bucket.list(backups::PREFIX, cursor.as_deref()).await?;
        for key in listing.keys {
            let set = key.strip_prefix(backups::PREFIX).and_then(|rest| rest.split_once('/'));
            if let Some((set, _)) = set {
                found.entry(set.to_owned()).or_default().push(key);
            }
        }
        cursor = listing.cursor;
        if cursor.is_none() {
            break;
        }
    }
    let known = backups::known(&platform.database).await?;
    for (set, keys) in found {
        let is_known = known.iter().any(|(id, ..)| *id == set);
        if is_known || !keys.contains(&manifest_key(&set)) {
            continue;
        }
        let Some(manifest) = manifest(platform, &set).await? else { continue };
        let whole = manifest.files.iter().all(|file| keys.contains(&file_key(&set, &file.name)));
        if whole && manifest.id == set {
            backups::adopt(&platform.database, &manifest, backups::GOOD, None).await?;
        }
    }
    Ok(())
}

/// The manifest of a set in the bucket.
pub async fn manifest(platform: &Platform, set: &str) -> Result<Option<Manifest>, Error> {
    let Some(bytes) = platform.bucket.get(&manifest_key(set)).await? else { return Ok(None) };
    Ok(serde_json::from_slice(&bytes).ok())
}

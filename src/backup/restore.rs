//! Filling an empty environment from a set.
//!
//! Empty means: nothing but what the first start makes. Objects are filled
//! first and D1 last, so that the first administrator can log in until the
//! users of the set take his place. While it lasts, no cron job runs
//! (`jobs::run`).

use super::{Budget, lease, misuse, now, objects, parse, run, text};
use crate::domain::backup::{BackupFile, FORMAT, Manifest};
use crate::domain::seed;
use crate::domain::time::Timestamp;
use crate::objects::board;
use crate::objects::telemetry;
use crate::objects::transfer::{self, Reply, Transfer};
use crate::platform::sql::Statement;
use crate::platform::{Error, Platform};
use crate::store::activity::{self, Entry, Status};
use crate::store::backups::{self, Backup, DRILL_KEY, Drill};
use crate::store::dump::{self, Inserts};
use crate::store::{self, TABLES, tenants};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Statements of one batch: 100 parameters each, some KB.
const BATCH: usize = 40;

#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    started_at: Timestamp,
    /// Objects still to be emptied.
    wipe: Vec<(String, String)>,
    /// Files of objects, then those of D1, that are done.
    loaded: usize,
    database_wiped: bool,
    /// Not again: once woken, objects write.
    counted: bool,
}

/// How far a restore has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Restored {
    pub files_loaded: usize,
    pub files: usize,
    pub rows: u64,
    /// `None`: call again.
    pub drill: Option<Drill>,
}

/// Why a restore cannot begin; for people.
pub type Refusal = String;

/// What is in the way of a restore: nothing may be lost by it.
pub async fn occupied(platform: &Platform) -> Result<Option<Refusal>, Error> {
    let rows = platform
        .database
        .query(Statement::new(
            "SELECT (SELECT COUNT(*) FROM tenants) AS tenants, (SELECT COUNT(*) FROM users) AS users, \
             (SELECT COUNT(*) FROM api_keys) AS api_keys, (SELECT COUNT(*) FROM decisions) AS decisions, \
             (SELECT COUNT(*) FROM settings) AS settings, \
             (SELECT COUNT(*) FROM policies) AS policies, \
             (SELECT COUNT(*) FROM partnerships) AS partnerships, \
             (SELECT COUNT(*) FROM partnerships WHERE revision > 1) AS changed",
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut found = Vec::new();
    for (what, most) in [
        ("tenants", 1),
        ("users", 1),
        ("api_keys", 0),
        ("decisions", 0),
        ("settings", 1),
        ("policies", 1),
        ("partnerships", seed::PARTNERSHIPS.len() as u64),
        ("changed", 0),
    ] {
        let count: u64 = row.get(what)?;
        if count > most {
            let what = if what == "changed" { "changed partnerships" } else { what };
            found.push(format!("{count} {what} (at most {most} in an empty one)"));
        }
    }
    let board = board::snapshot(platform, tenants::DEFAULT_TENANT_ID).await?;
    let pushed: u64 = board.summaries.iter().map(|summary| summary.from_clients).sum();
    let kpis: usize = board.summaries.iter().map(|summary| summary.kpis.len()).sum();
    if pushed > 0 || kpis > 0 {
        found.push(format!("{pushed} pushed observations and {kpis} KPIs with values"));
    }
    Ok((!found.is_empty()).then(|| format!("the environment is not empty: {}", found.join(", "))))
}

/// Begins to restore a set of the bucket.
pub async fn begin(platform: &Platform, set: &str) -> Result<Result<(), Refusal>, Error> {
    let Some(manifest) = run::manifest(platform, set).await? else {
        return Ok(Err("the bucket has no whole set of this id".to_owned()));
    };
    let version = run::schema_version();
    if manifest.format != FORMAT || manifest.schema_version != version || manifest.id != set {
        return Ok(Err(format!(
            "the set is of schema {} and this build has {version}: deploy the build that wrote it \
             ({}), restore, and deploy the newer one then",
            manifest.schema_version, manifest.app_version
        )));
    }
    if let Some(refusal) = occupied(platform).await? {
        return Ok(Err(refusal));
    }
    let mut wipe: BTreeSet<(String, String)> = objects(platform).await?.into_iter().collect();
    wipe.extend(manifest.files.iter().filter_map(object_of));
    let progress = Progress {
        started_at: now(platform),
        wipe: wipe.into_iter().collect(),
        loaded: 0,
        database_wiped: false,
        counted: false,
    };
    let state = backups::RESTORING;
    let text = text(&progress)?;
    let begun = backups::adopt(&platform.database, &manifest, state, Some(&text)).await?;
    Ok(if begun { Ok(()) } else { Err("a backup is being written or restored".to_owned()) })
}

/// Goes on; `None` where somebody else is at it.
pub async fn step(
    platform: &Platform,
    set: &Backup,
    budget: &mut Budget,
) -> Result<Option<Restored>, Error> {
    let lease = lease(platform)?;
    if !backups::take(&platform.database, &set.id, &lease, now(platform)).await? {
        return Ok(None);
    }
    let Some(set) = backups::find(&platform.database, &set.id).await? else { return Ok(None) };
    let done = work(platform, &set, &lease, budget).await;
    if !matches!(&done, Ok(Some(Restored { drill: Some(_), .. }))) {
        drop(backups::let_go(&platform.database, &set.id, &lease).await);
    }
    done
}

async fn work(
    platform: &Platform,
    set: &Backup,
    lease: &str,
    budget: &mut Budget,
) -> Result<Option<Restored>, Error> {
    let (Some(manifest), Some(progress)) = (&set.manifest, &set.progress) else { return Ok(None) };
    let mut progress: Progress = parse(progress)?;
    let (of_database, of_objects): (Vec<&BackupFile>, Vec<&BackupFile>) =
        manifest.files.iter().partition(|file| file.of == run::DATABASE);
    let files: Vec<&BackupFile> = of_objects.iter().chain(&of_database).copied().collect();
    let far = |progress: &Progress, drill| Restored {
        files_loaded: progress.loaded,
        files: files.len(),
        rows: files.iter().take(progress.loaded).map(|file| file.rows).sum(),
        drill,
    };
    loop {
        if !budget.spend() {
            return Ok(Some(far(&progress, None)));
        }
        if let Some((binding, name)) = progress.wipe.last() {
            transfer::call(platform, binding, name, Transfer::Wipe).await?;
            progress.wipe.pop();
        } else if let Some(&file) = files.get(progress.loaded) {
            if let Some((binding, name)) = object_of(file) {
                let load = Transfer::Load { set: set.id.clone(), file: file.clone() };
                transfer::call(platform, &binding, &name, load).await?;
                progress.loaded += 1;
            } else if progress.database_wiped {
                load(platform, &set.id, file).await?;
                progress.loaded += 1;
            } else {
                wipe_database(platform, &set.id, file).await?;
                progress.database_wiped = true;
            }
        } else if !progress.counted {
            count(platform, manifest).await?;
            progress.counted = true;
        } else {
            let drill = complete(platform, manifest, progress.started_at, lease).await?;
            return Ok(Some(far(&progress, Some(drill))));
        }
        let saved = text(&progress)?;
        if !backups::save(&platform.database, &set.id, lease, now(platform), &saved).await? {
            return Ok(None);
        }
    }
}

fn object_of(file: &BackupFile) -> Option<(String, String)> {
    let (binding, name) = file.of.split_once('/')?;
    Some((binding.to_owned(), name.to_owned()))
}

/// Empties every table and puts the tenants in, in one transaction: at no
/// moment is the database such that the first start would be made again.
/// `activity` has triggers that refuse this, so they are taken down and put up
/// again within it.
async fn wipe_database(platform: &Platform, set: &str, first: &BackupFile) -> Result<(), Error> {
    let query = Statement::new(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND sql IS NOT NULL",
    );
    let mut triggers: Vec<(String, String)> = Vec::new();
    for row in platform.database.query(query).await? {
        triggers.push((row.get("name")?, row.get("sql")?));
    }
    let mut inserts = Inserts::default();
    for text in dump::read(&platform.bucket, set, first).await?.lines() {
        let line = dump::line(text)?;
        if line.table == "tenants" {
            inserts.push(&line)?;
        }
    }
    let tables = TABLES.iter().rev().filter(|table| **table != backups::TABLE);
    let statements = (triggers.iter())
        .map(|(name, _)| Statement::new(format!("DROP TRIGGER \"{name}\"")))
        .chain(tables.map(|table| Statement::new(format!("DELETE FROM {table}"))))
        .chain(triggers.iter().map(|(_, sql)| Statement::new(sql.clone())))
        .chain(inserts.finish());
    platform.database.batch(statements.collect()).await.map(drop)
}

async fn load(platform: &Platform, set: &str, file: &BackupFile) -> Result<(), Error> {
    let mut inserts = Inserts::default();
    for text in dump::read(&platform.bucket, set, file).await?.lines() {
        let line = dump::line(text)?;
        if !TABLES.contains(&line.table.as_str()) {
            return Err(misuse(format!("{}: an unknown table", file.name)));
        }
        inserts.push(&line)?;
        if inserts.len() >= BATCH {
            platform.database.batch(inserts.take()).await?;
        }
    }
    let rest = inserts.finish();
    if !rest.is_empty() {
        platform.database.batch(rest).await?;
    }
    Ok(())
}

/// Counts every row against the manifest.
async fn count(platform: &Platform, manifest: &Manifest) -> Result<(), Error> {
    let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
    for (table, rows) in store::row_counts(&platform.database).await? {
        if table != backups::TABLE {
            found.insert((run::DATABASE.to_owned(), table), rows);
        }
    }
    let objects: BTreeSet<_> = manifest.files.iter().filter_map(object_of).collect();
    for (binding, name) in &objects {
        let counted = transfer::call(platform, binding, name, Transfer::Count).await?;
        let Reply::Counted(counts) = counted else { continue };
        for (table, rows) in counts {
            found.insert((format!("{binding}/{name}"), table), rows);
        }
    }
    found.retain(|_, rows| *rows > 0);
    let mut wanted = manifest.counts();
    // It counts the requests of the restore itself, so it has gone on.
    let goes_on = |of: &str| of.starts_with(telemetry::BINDING);
    found.retain(|(of, _), _| !goes_on(of));
    wanted.retain(|(of, _), _| !goes_on(of));
    if found != wanted {
        let of = |counts: &BTreeMap<(String, String), u64>,
                  other: &BTreeMap<(String, String), u64>| {
            let differing = counts.iter().filter(|(key, rows)| other.get(*key) != Some(rows));
            differing.map(|((of, table), n)| format!("{of} {table} {n}")).collect::<Vec<_>>()
        };
        return Err(misuse(format!(
            "the rows differ; in the set: {:?}; restored: {:?}",
            of(&wanted, &found),
            of(&found, &wanted)
        )));
    }
    Ok(())
}

/// Lets life begin.
async fn complete(
    platform: &Platform,
    manifest: &Manifest,
    started_at: Timestamp,
    lease: &str,
) -> Result<Drill, Error> {
    let objects: BTreeSet<_> = manifest.files.iter().filter_map(object_of).collect();
    for (binding, name) in &objects {
        transfer::call(platform, binding, name, Transfer::Wake).await?;
    }
    let now = now(platform);
    let drill = Drill {
        backup_id: manifest.id.clone(),
        finished_at: now,
        duration_ms: now.since_ms(started_at),
        rows: manifest.rows(),
    };
    let entry = Entry {
        tenant_id: tenants::DEFAULT_TENANT_ID,
        actor: activity::SYSTEM,
        event: "backup.restored",
        status: Status::Success,
        subject: &manifest.id,
    };
    let line = activity::insert(&platform.random, now, &entry)?;
    let bytes = serde_json::to_vec(&drill).map_err(|error| misuse(error.to_string()))?;
    platform.bucket.put(DRILL_KEY, &bytes, &dump::sha256_hex(&bytes)).await?;
    backups::finish(&platform.database, lease, manifest, vec![line]).await?;
    Ok(drill)
}

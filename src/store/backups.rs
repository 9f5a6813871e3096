//! `backups`: the sets that were written, and how far work on one has come.
//! Who works on a set holds its lease; every save says so, and a save of
//! somebody who lost it changes nothing.

use crate::domain::backup::Manifest;
use crate::domain::time::{DAY_MS, MINUTE_MS, Timestamp};
use crate::platform::sql::{Row, Statement};
use crate::platform::{Database, Error};
use serde::{Deserialize, Serialize};

/// The one table that is not backed up.
pub const TABLE: &str = "backups";

/// Tables of D1 that may be large: they are read page by page, up to where
/// they ended when the others were read. Their rows do not change, save that a
/// refresh token's may be spent or revoked a moment later than the rest says.
/// Table, columns by which it is read, and the one that tells what is newer.
pub const GROWING: &[(&str, &[&str], &str)] = &[
    ("refresh_tokens", &[], "rowid"),
    ("decisions", &[], "rowid"),
    ("decision_outcomes", &[], "rowid"),
    ("activity", &[], "rowid"),
    ("idempotency_keys", &["tenant_id", "scope"], "created_at"),
];

/// What the last drill found: an object of the bucket, so that a drill in an
/// environment of its own is known to the one whose backup it was.
pub const DRILL_KEY: &str = "drills/last.json";

/// All sets are below.
pub const PREFIX: &str = "backups/";

/// Longer than any step of the work takes between two saves.
const LEASE_MS: i64 = 3 * MINUTE_MS;

pub fn file_key(set: &str, name: &str) -> String {
    format!("{PREFIX}{set}/{name}.ndjson.gz")
}

pub fn manifest_key(set: &str) -> String {
    format!("{PREFIX}{set}/manifest.json")
}

/// How far a check of a set has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Verification {
    pub started_at: Timestamp,
    /// Null: it goes on, in the background too.
    pub finished_at: Option<Timestamp>,
    pub files_checked: u64,
    /// What is wrong, by file; empty in a set that can be restored.
    pub defects: Vec<String>,
}

/// A restore that succeeded, all rows counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Drill {
    pub backup_id: String,
    pub finished_at: Timestamp,
    pub duration_ms: i64,
    pub rows: u64,
}

#[derive(Clone, Debug)]
pub struct Backup {
    pub id: String,
    pub state: String,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub rows: u64,
    pub bytes: u64,
    pub manifest: Option<Manifest>,
    pub progress: Option<String>,
    pub verification: Option<Verification>,
}

pub const RUNNING: &str = "running";
pub const GOOD: &str = "good";
pub const DELETING: &str = "deleting";
pub const RESTORING: &str = "restoring";

const COLUMNS: &str = "id, state, started_at, finished_at, rows_stored, bytes_stored, \
                       manifest, progress, verification";

fn backup(row: &Row) -> Result<Backup, Error> {
    let has = |column| Ok::<_, Error>(row.get::<Option<String>>(column)?.is_some());
    Ok(Backup {
        id: row.get("id")?,
        state: row.get("state")?,
        started_at: Timestamp::from_millis(row.get("started_at")?),
        finished_at: row.get::<Option<i64>>("finished_at")?.map(Timestamp::from_millis),
        rows: row.get("rows_stored")?,
        bytes: row.get("bytes_stored")?,
        manifest: if has("manifest")? { Some(row.json("manifest")?) } else { None },
        progress: row.get("progress")?,
        verification: if has("verification")? { Some(row.json("verification")?) } else { None },
    })
}

async fn one(database: &Database, query: Statement) -> Result<Option<Backup>, Error> {
    database.query(query).await?.first().map(backup).transpose()
}

/// Whether the statement changed a row.
async fn changed(database: &Database, statement: Statement) -> Result<bool, Error> {
    let applied = database.batch(vec![statement]).await?;
    Ok(applied.first().is_some_and(|applied| applied.changes > 0))
}

/// A new set, unless one is being written or restored.
pub async fn begin(
    database: &Database,
    id: &str,
    now: Timestamp,
    progress: &str,
) -> Result<bool, Error> {
    let statement = Statement::new(
        "INSERT INTO backups (id, state, started_at, rows_stored, bytes_stored, progress, \
         lease, lease_until) SELECT ?1, 'running', ?2, 0, 0, ?3, '', 0 WHERE NOT EXISTS \
         (SELECT 1 FROM backups WHERE state IN ('running', 'restoring'))",
    );
    changed(database, statement.bind(id).bind(now.millis()).bind(progress)).await
}

/// A set whose manifest was found in the bucket: good, or being restored.
pub async fn adopt(
    database: &Database,
    manifest: &Manifest,
    state: &str,
    progress: Option<&str>,
) -> Result<bool, Error> {
    let text = serde_json::to_string(manifest).unwrap_or_default();
    let statement = Statement::new(
        "INSERT INTO backups (id, state, started_at, finished_at, rows_stored, bytes_stored, \
         manifest, progress, lease, lease_until) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, '', 0 WHERE ?2 <> 'restoring' OR NOT EXISTS \
         (SELECT 1 FROM backups WHERE state IN ('running', 'restoring') AND id <> ?1) \
         ON CONFLICT (id) DO UPDATE SET state = excluded.state, progress = excluded.progress \
         WHERE excluded.state = 'restoring'",
    );
    let statement = statement
        .bind(manifest.id.as_str())
        .bind(state)
        .bind(manifest.started_at.millis())
        .bind(manifest.finished_at.millis())
        .bind(manifest.rows())
        .bind(manifest.bytes())
        .bind(text)
        .bind(progress);
    changed(database, statement).await
}

pub async fn find(database: &Database, id: &str) -> Result<Option<Backup>, Error> {
    let query = Statement::new(format!("SELECT {COLUMNS} FROM backups WHERE id = ?1"));
    one(database, query.bind(id)).await
}

/// The oldest set in this state.
pub async fn first_in(database: &Database, state: &str) -> Result<Option<Backup>, Error> {
    let sql = format!("SELECT {COLUMNS} FROM backups WHERE state = ?1 ORDER BY id LIMIT 1");
    one(database, Statement::new(sql).bind(state)).await
}

/// The newest good set.
pub async fn latest(database: &Database) -> Result<Option<Backup>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM backups WHERE state = 'good' ORDER BY finished_at DESC LIMIT 1"
    );
    one(database, Statement::new(sql)).await
}

/// A good set whose check has begun and not ended.
pub async fn unverified(database: &Database) -> Result<Option<Backup>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM backups WHERE state = 'good' AND verification IS NOT NULL \
         AND verification ->> 'finished_at' IS NULL ORDER BY id LIMIT 1"
    );
    one(database, Statement::new(sql)).await
}

/// Good sets, newest first, from before this one.
pub async fn good(database: &Database, before: &str, limit: u32) -> Result<Vec<Backup>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM backups WHERE state = 'good' AND (?1 = '' OR id < ?1) \
         ORDER BY id DESC LIMIT ?2"
    );
    let rows = database.query(Statement::new(sql).bind(before).bind(limit)).await?;
    rows.iter().map(backup).collect()
}

/// Every known set with its state and the time it is of.
pub async fn known(database: &Database) -> Result<Vec<(String, String, Timestamp)>, Error> {
    let query = Statement::new("SELECT id, state, started_at FROM backups ORDER BY id");
    let rows = database.query(query).await?;
    rows.iter()
        .map(|row| {
            let at = Timestamp::from_millis(row.get("started_at")?);
            Ok((row.get("id")?, row.get("state")?, at))
        })
        .collect()
}

/// A restore that nobody has gone on with for so long holds up nothing any
/// more.
const RESTORE_FORGOTTEN_MS: i64 = DAY_MS;

/// Whether this environment is being filled from a backup.
pub async fn is_restoring(database: &Database, now: Timestamp) -> Result<bool, Error> {
    let query = Statement::new(
        "SELECT id FROM backups WHERE state = 'restoring' AND lease_until > ?1 LIMIT 1",
    );
    let since = now.plus_ms(-RESTORE_FORGOTTEN_MS).millis();
    Ok(!database.query(query.bind(since)).await?.is_empty())
}

// ---- work on a set ----

pub async fn take(
    database: &Database,
    id: &str,
    lease: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let statement = Statement::new(
        "UPDATE backups SET lease = ?2, lease_until = ?3 WHERE id = ?1 AND lease_until <= ?4",
    );
    let until = now.plus_ms(LEASE_MS).millis();
    changed(database, statement.bind(id).bind(lease).bind(until).bind(now.millis())).await
}

/// False where somebody else has taken the set over.
pub async fn save(
    database: &Database,
    id: &str,
    lease: &str,
    now: Timestamp,
    progress: &str,
) -> Result<bool, Error> {
    let statement = Statement::new(
        "UPDATE backups SET progress = ?3, lease_until = ?4 WHERE id = ?1 AND lease = ?2",
    );
    let until = now.plus_ms(LEASE_MS).millis();
    changed(database, statement.bind(id).bind(lease).bind(progress).bind(until)).await
}

/// The set is whole.
pub async fn finish(
    database: &Database,
    lease: &str,
    manifest: &Manifest,
    also: Vec<Statement>,
) -> Result<bool, Error> {
    let text = serde_json::to_string(manifest).unwrap_or_default();
    let statement = Statement::new(
        "UPDATE backups SET state = 'good', finished_at = ?3, rows_stored = ?4, bytes_stored = ?5, \
         manifest = ?6, progress = NULL, lease = '', lease_until = 0 \
         WHERE id = ?1 AND lease = ?2 AND state IN ('running', 'restoring')",
    );
    let statement = statement
        .bind(manifest.id.as_str())
        .bind(lease)
        .bind(manifest.finished_at.millis())
        .bind(manifest.rows())
        .bind(manifest.bytes())
        .bind(text);
    let statements = std::iter::once(statement).chain(also).collect();
    let applied = database.batch(statements).await?;
    Ok(applied.first().is_some_and(|applied| applied.changes > 0))
}

pub async fn let_go(database: &Database, id: &str, lease: &str) -> Result<bool, Error> {
    let statement =
        Statement::new("UPDATE backups SET lease_until = 0 WHERE id = ?1 AND lease = ?2");
    changed(database, statement.bind(id).bind(lease)).await
}

/// From now on the set is not listed, and its files go.
pub async fn condemn(database: &Database, id: &str, state: &str) -> Result<bool, Error> {
    let statement = Statement::new(
        "UPDATE backups SET state = 'deleting', lease = '', lease_until = 0 \
         WHERE id = ?1 AND state = ?2",
    );
    changed(database, statement.bind(id).bind(state)).await
}

/// The files are gone.
pub async fn forget(database: &Database, id: &str) -> Result<bool, Error> {
    let statement = Statement::new("DELETE FROM backups WHERE id = ?1 AND state = 'deleting'");
    changed(database, statement.bind(id)).await
}

/// How far the check has come, unless another one has begun meanwhile.
pub async fn verified(
    database: &Database,
    id: &str,
    verification: &Verification,
) -> Result<bool, Error> {
    let text = serde_json::to_string(verification).unwrap_or_default();
    let statement =
        Statement::new("UPDATE backups SET verification = ?2 WHERE id = ?1 AND state = 'good'");
    changed(database, statement.bind(id).bind(text)).await
}

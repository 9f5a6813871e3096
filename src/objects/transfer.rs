//! What every object can do beside its own commands: write its state into a
//! set of backups, and take it back. No class and no table is known by name.
//!
//! The object itself speaks to the bucket, so no row crosses the call and
//! the caller needs no memory for them.
//!
//! A copy is of one instant. Tables that change are read in one go, without an
//! await, and packed in memory, together with the end of those that only grow
//! and may be large; these are read page by page up to that end, in as many
//! calls as it takes. What they let go of meanwhile is held back
//! ([`is_held`]).

use crate::domain::backup::BackupFile;
use crate::domain::time::{HOUR_MS, Timestamp};
use crate::platform::sql::Value;
use crate::platform::{Error, ObjectStorage, Platform};
use crate::store::backups::file_key;
use crate::store::dump::{self, Inserts, Packer, Position};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How such a command begins: a class's own has another first word.
pub const PREFIX: &str = "{\"transfer\":";

/// Our own table in an object that is being copied.
const HOLD: &str = "transfer_hold";

/// A copy that was never finished holds nothing back for longer.
const HELD_MS: i64 = HOUR_MS;

/// The command as it is sent.
#[derive(Serialize, Deserialize)]
pub struct Message {
    pub transfer: Transfer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfer {
    /// Rows of each table.
    Count,
    /// Write all that changes, and say where what grows ends. Files are named
    /// `{name}-{n}`.
    Export { set: String, of: String, name: String },
    /// Write one file of a table that grows.
    Page { set: String, of: String, name: String, from: Position },
    /// The copy is made.
    Release,
    /// Delete everything. Sent by a restore alone.
    Wipe,
    /// Take the rows of one file. Twice does no harm.
    Load { set: String, file: BackupFile },
    /// All is there again: look at what is due.
    Wake,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Counted(BTreeMap<String, u64>),
    Exported { files: Vec<BackupFile>, growing: Vec<Position> },
    Paged { file: Option<BackupFile>, next: Option<Position> },
    Done,
}

pub fn count(storage: &ObjectStorage) -> Result<Reply, Error> {
    let mut counts = BTreeMap::new();
    for table in tables(storage)? {
        let rows = storage.query(&format!("SELECT COUNT(*) AS n FROM \"{table}\""), &[])?;
        counts.insert(table, rows.first().map_or(Ok(0), |row| row.get("n"))?);
    }
    Ok(Reply::Counted(counts))
}

pub async fn export(
    platform: &Platform,
    storage: &ObjectStorage,
    growing: &[&str],
    (set, of, name): (&str, &str, &str),
) -> Result<Reply, Error> {
    let now = Timestamp::from_millis(platform.clock.now_ms());
    // No await from here on: what is packed is of one instant.
    let mut packed = Vec::new();
    let mut packer = Packer::default();
    let mut ends = Vec::new();
    for table in tables(storage)? {
        if growing.contains(&table.as_str()) {
            let sql = format!("SELECT MAX(rowid) AS mark FROM \"{table}\"");
            let end: Option<i64> =
                storage.query(&sql, &[])?.first().map_or(Ok(None), |row| row.get("mark"))?;
            let start = Position::by_key(&table, Vec::new());
            ends.extend(end.map(|end| start.upto("rowid", end)));
            continue;
        }
        let mut position = Position::by_key(&table, primary_key(storage, &table)?);
        loop {
            let page = position.page();
            let rows = storage.query(&page.sql, &page.values)?;
            for row in &rows {
                packer.push(&table, row)?;
                if packer.is_full() {
                    let name = format!("{name}-{}", packed.len());
                    packed.push(std::mem::take(&mut packer).finish(of, name)?);
                }
            }
            match rows.last() {
                Some(last) if rows.len() == dump::PAGE_ROWS as usize => position.advance(last),
                _ => break,
            }
        }
    }
    if !packer.is_empty() {
        let name = format!("{name}-{}", packed.len());
        packed.push(packer.finish(of, name)?);
    }
    if !ends.is_empty() {
        hold(storage, now.plus_ms(HELD_MS))?;
    }
    let mut files = Vec::new();
    for (file, bytes) in packed {
        platform.bucket.put(&file_key(set, &file.name), &bytes, &file.sha256).await?;
        files.push(file);
    }
    Ok(Reply::Exported { files, growing: ends })
}

pub async fn page(
    platform: &Platform,
    storage: &ObjectStorage,
    (set, of, name): (&str, &str, String),
    mut from: Position,
) -> Result<Reply, Error> {
    let mut packer = Packer::default();
    let mut more = true;
    while more && !packer.is_full() {
        let page = from.page();
        let rows = storage.query(&page.sql, &page.values)?;
        more = rows.len() == dump::PAGE_ROWS as usize;
        for row in &rows {
            packer.push(&from.table, row)?;
        }
        if let Some(last) = rows.last() {
            from.advance(last);
        }
    }
    let next = more.then_some(from);
    if packer.is_empty() {
        return Ok(Reply::Paged { file: None, next });
    }
    let (file, bytes) = packer.finish(of, name)?;
    platform.bucket.put(&file_key(set, &file.name), &bytes, &file.sha256).await?;
    Ok(Reply::Paged { file: Some(file), next })
}

/// The tables are there already: the class makes them when it starts.
pub async fn load(
    platform: &Platform,
    storage: &ObjectStorage,
    set: &str,
    file: &BackupFile,
) -> Result<Reply, Error> {
    let text = dump::read(&platform.bucket, set, file).await?;
    storage.transaction(|| {
        let mut inserts = Inserts::default();
        for line in text.lines() {
            inserts.push(&dump::line(line)?)?;
            for statement in inserts.take() {
                storage.query(&statement.sql, &statement.values)?;
            }
        }
        for statement in inserts.finish() {
            storage.query(&statement.sql, &statement.values)?;
        }
        Ok(())
    })?;
    Ok(Reply::Done)
}

/// Deletes every table, and not the storage itself: the runtime keeps tables of
/// its own there. An alarm that is set rings and finds nothing.
pub fn wipe(storage: &ObjectStorage) -> Result<Reply, Error> {
    let tables = tables(storage)?;
    storage.transaction(|| {
        for table in &tables {
            storage.query(&format!("DROP TABLE \"{table}\""), &[])?;
        }
        release(storage)
    })
}

/// Tables of the class: neither SQLite's, nor the runtime's, nor ours.
fn tables(storage: &ObjectStorage) -> Result<Vec<String>, Error> {
    let rows = storage.query(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         AND name NOT LIKE '\\_%' ESCAPE '\\' AND name <> ?1 ORDER BY name",
        &[HOLD.into()],
    )?;
    rows.iter().map(|row| row.get("name")).collect()
}

fn primary_key(storage: &ObjectStorage, table: &str) -> Result<Vec<String>, Error> {
    let mut columns: Vec<(u64, String)> = Vec::new();
    for row in storage.query(&format!("PRAGMA table_info(\"{table}\")"), &[])? {
        columns.push((row.get("pk")?, row.get("name")?));
    }
    columns.retain(|(place, _)| *place > 0);
    columns.sort();
    Ok(columns.into_iter().map(|(_, name)| name).collect())
}

// ---- holding back ----

fn hold(storage: &ObjectStorage, until: Timestamp) -> Result<(), Error> {
    storage.query(
        &format!("CREATE TABLE IF NOT EXISTS {HOLD} (one INTEGER NOT NULL PRIMARY KEY, until INTEGER NOT NULL) STRICT"),
        &[],
    )?;
    let sql = format!("INSERT OR REPLACE INTO {HOLD} (one, until) VALUES (1, ?1)");
    storage.query(&sql, &[until.millis().into()]).map(drop)
}

pub fn release(storage: &ObjectStorage) -> Result<Reply, Error> {
    storage.query(&format!("DROP TABLE IF EXISTS {HOLD}"), &[])?;
    Ok(Reply::Done)
}

/// Whether rows of a table that only grows must stay for now, as they are
/// being copied.
pub fn is_held(storage: &ObjectStorage, now: Timestamp) -> Result<bool, Error> {
    let known = storage.query(
        "SELECT 1 AS n FROM sqlite_master WHERE type = 'table' AND name = ?1",
        &[HOLD.into()],
    )?;
    if known.is_empty() {
        return Ok(false);
    }
    let until: Value = now.millis().into();
    let sql = format!("SELECT 1 AS n FROM {HOLD} WHERE until > ?1");
    Ok(!storage.query(&sql, &[until])?.is_empty())
}

// ---- calling an object ----

pub async fn call(
    platform: &Platform,
    binding: &str,
    name: &str,
    transfer: Transfer,
) -> Result<Reply, Error> {
    let command = super::write(&Message { transfer })?;
    super::read(&platform.objects.call(binding, name, command).await?)
}

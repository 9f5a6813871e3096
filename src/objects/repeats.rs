//! Requests that an object answers the same when they are repeated under one
//! Idempotency-Key: the reply is stored in one transaction with what it tells
//! of.

use super::write;
use crate::domain::time::{DAY_MS, Timestamp};
use crate::platform::{Error, ObjectStorage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A stored reply is kept this long.
const KEPT_MS: i64 = DAY_MS;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Idempotency {
    /// Scoped by the caller to his tenant, user and route.
    pub key: String,
    pub payload_hash: String,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    Done {
        value: Value,
        replayed: bool,
        /// When it was done: the first time.
        at: Timestamp,
    },
    /// The key came with another payload before.
    KeyReused,
}

pub fn create_table(storage: &ObjectStorage) -> Result<(), Error> {
    storage.query(
        "CREATE TABLE IF NOT EXISTS idempotency (
             key TEXT NOT NULL PRIMARY KEY,
             payload_hash TEXT NOT NULL,
             reply TEXT NOT NULL,
             at INTEGER NOT NULL
         ) STRICT, WITHOUT ROWID",
        &[],
    )?;
    Ok(())
}

/// Runs `work` and keeps its reply, both or neither; a repetition gets the
/// kept reply and changes nothing.
pub fn take(
    storage: &ObjectStorage,
    now: Timestamp,
    idempotency: Option<&Idempotency>,
    work: impl FnOnce() -> Result<Value, Error>,
) -> Result<Taken, Error> {
    if let Some(idempotency) = idempotency
        && let Some(earlier) = earlier(storage, now, idempotency)?
    {
        return Ok(earlier);
    }
    storage.transaction(|| {
        let value = work()?;
        if let Some(Idempotency { key, payload_hash }) = idempotency {
            storage.query(
                "INSERT INTO idempotency (key, payload_hash, reply, at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET payload_hash = excluded.payload_hash,
                     reply = excluded.reply, at = excluded.at",
                &[
                    key.as_str().into(),
                    payload_hash.as_str().into(),
                    write(&value)?.into(),
                    now.millis().into(),
                ],
            )?;
        }
        Ok(Taken::Done { value, replayed: false, at: now })
    })
}

fn earlier(
    storage: &ObjectStorage,
    now: Timestamp,
    idempotency: &Idempotency,
) -> Result<Option<Taken>, Error> {
    let rows = storage.query(
        "SELECT payload_hash, reply, at FROM idempotency WHERE key = ?1 AND at > ?2",
        &[idempotency.key.as_str().into(), now.plus_ms(-KEPT_MS).millis().into()],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    if row.get::<String>("payload_hash")? != idempotency.payload_hash {
        return Ok(Some(Taken::KeyReused));
    }
    let at = Timestamp::from_millis(row.get("at")?);
    Ok(Some(Taken::Done { value: row.json("reply")?, replayed: true, at }))
}

/// Lets go of replies that nobody may repeat any more.
pub fn prune(storage: &ObjectStorage, now: Timestamp) -> Result<(), Error> {
    storage.query(
        "DELETE FROM idempotency WHERE at <= ?1",
        &[now.plus_ms(-KEPT_MS).millis().into()],
    )?;
    Ok(())
}

//! `BoardObject`, one per tenant: the latest summary of each partnership and
//! the tenant's withdrawn tokens. One hop tells a reader everything.

use super::{read, write};
use crate::domain::partnership::Summary;
use crate::domain::time::{MINUTE_MS, Timestamp};
use crate::platform::{Error, ErrorKind, ObjectStorage, Platform};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::cell::RefCell;

pub const BINDING: &str = "BOARD";

/// A withdrawal is kept for the life of an access token (15 minutes) and the
/// clock skew.
const REVOCATION_KEPT_MS: i64 = 17 * MINUTE_MS;

/// (Externally tagged: serde would buffer every message of an internally
/// tagged enum before reading it.)
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A partnership tells what it knows.
    Publish {
        id: String,
        revision: i64,
        computed_at: Timestamp,
        /// A [`Summary`]. The board passes it on and never looks inside.
        summary: Box<RawValue>,
    },
    /// A partnership was retired at this revision of its definition.
    Remove { id: String, revision: i64 },
    /// These are all the partnerships there were at `as_of`; what is older and
    /// not among them goes. Heals a lost `Remove`.
    Keep { ids: Vec<String>, as_of: Timestamp },
    /// Access tokens of this user issued before the instant are withdrawn.
    RevokeTokens { user_id: String, issued_before: Timestamp, now: Timestamp },
    /// Everything on the board.
    Snapshot,
    /// Is anybody there?
    Ping,
}

/// Reply of every command but `Snapshot`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {}

/// Reply of `Snapshot`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub summaries: Vec<Summary>,
    pub revoked: Vec<Revocation>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revocation {
    pub user_id: String,
    pub issued_before: Timestamp,
}

pub struct BoardObject {
    storage: ObjectStorage,
    /// The snapshot as sent, until something changes.
    snapshot: RefCell<Option<String>>,
}

impl BoardObject {
    pub fn new(storage: ObjectStorage) -> Result<Self, Error> {
        for sql in [
            // A NULL summary is a retired partnership: late news of it must
            // not bring it back.
            "CREATE TABLE IF NOT EXISTS summaries (
                 id TEXT NOT NULL PRIMARY KEY,
                 revision INTEGER NOT NULL,
                 computed_at INTEGER NOT NULL,
                 summary TEXT
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS revocations (
                 user_id TEXT NOT NULL PRIMARY KEY,
                 issued_before INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
        ] {
            storage.query(sql, &[])?;
        }
        Ok(Self { storage, snapshot: RefCell::new(None) })
    }

    pub fn handle(&self, command: Command) -> Result<String, Error> {
        match command {
            Command::Publish { id, revision, computed_at, summary } => {
                self.publish(&id, revision, computed_at, &summary)?;
            }
            Command::Remove { id, revision } => self.remove(&id, revision)?,
            Command::Keep { ids, as_of } => {
                if !self.keep(&ids, as_of)? {
                    return write(&Done {});
                }
            }
            Command::RevokeTokens { user_id, issued_before, now } => {
                self.revoke(&user_id, issued_before, now)?;
            }
            Command::Snapshot => return self.snapshot(),
            Command::Ping => return write(&Done {}),
        }
        *self.snapshot.borrow_mut() = None;
        write(&Done {})
    }

    /// News may overtake one another; only newer ones are kept.
    fn publish(
        &self,
        id: &str,
        revision: i64,
        computed_at: Timestamp,
        summary: &RawValue,
    ) -> Result<(), Error> {
        self.storage.query(
            "INSERT INTO summaries (id, revision, computed_at, summary) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision,
                 computed_at = excluded.computed_at, summary = excluded.summary
             WHERE excluded.revision > revision
                OR (excluded.revision = revision AND summary IS NOT NULL
                    AND excluded.computed_at >= computed_at)",
            &[id.into(), revision.into(), computed_at.millis().into(), summary.get().into()],
        )?;
        Ok(())
    }

    fn remove(&self, id: &str, revision: i64) -> Result<(), Error> {
        self.storage.query(
            "INSERT INTO summaries (id, revision, computed_at, summary) VALUES (?1, ?2, 0, NULL)
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, summary = NULL
             WHERE excluded.revision >= revision",
            &[id.into(), revision.into()],
        )?;
        Ok(())
    }

    /// True where something went.
    fn keep(&self, ids: &[String], as_of: Timestamp) -> Result<bool, Error> {
        let gone = self.storage.query(
            "UPDATE summaries SET summary = NULL
             WHERE summary IS NOT NULL AND computed_at < ?1
               AND id NOT IN (SELECT value FROM json_each(?2))
             RETURNING id",
            &[as_of.millis().into(), write(&ids)?.into()],
        )?;
        Ok(!gone.is_empty())
    }

    fn revoke(&self, user_id: &str, before: Timestamp, now: Timestamp) -> Result<(), Error> {
        self.storage.query(
            "DELETE FROM revocations WHERE issued_before < ?1",
            &[now.plus_ms(-REVOCATION_KEPT_MS).millis().into()],
        )?;
        self.storage.query(
            "INSERT INTO revocations (user_id, issued_before) VALUES (?1, ?2)
             ON CONFLICT (user_id) DO UPDATE SET issued_before = excluded.issued_before
             WHERE excluded.issued_before > issued_before",
            &[user_id.into(), before.millis().into()],
        )?;
        Ok(())
    }

    /// The stored summaries are passed on as they are, without being read.
    fn snapshot(&self) -> Result<String, Error> {
        #[derive(Serialize)]
        struct Raw {
            summaries: Vec<Box<RawValue>>,
            revoked: Vec<Revocation>,
        }
        if let Some(text) = &*self.snapshot.borrow() {
            return Ok(text.clone());
        }
        let rows = self
            .storage
            .query("SELECT summary FROM summaries WHERE summary IS NOT NULL ORDER BY id", &[])?;
        let summaries =
            rows.iter().map(|row| row.json("summary")).collect::<Result<Vec<_>, Error>>()?;
        let rows = self.storage.query("SELECT user_id, issued_before FROM revocations", &[])?;
        let revoked = rows
            .iter()
            .map(|row| {
                Ok(Revocation {
                    user_id: row.get("user_id")?,
                    issued_before: Timestamp::from_millis(row.get("issued_before")?),
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let text = write(&Raw { summaries, revoked })?;
        *self.snapshot.borrow_mut() = Some(text.clone());
        Ok(text)
    }
}

/// The board of a tenant is named after it.
async fn call<T: serde::de::DeserializeOwned>(
    platform: &Platform,
    tenant_id: &str,
    command: &Command,
) -> Result<T, Error> {
    read(&platform.objects.call(BINDING, tenant_id, write(command)?).await?)
}

pub async fn snapshot(platform: &Platform, tenant_id: &str) -> Result<Snapshot, Error> {
    call(platform, tenant_id, &Command::Snapshot).await
}

pub async fn ping(platform: &Platform, tenant_id: &str) -> Result<(), Error> {
    call::<Done>(platform, tenant_id, &Command::Ping).await.map(|_| ())
}

pub async fn publish(platform: &Platform, tenant_id: &str, summary: &Summary) -> Result<(), Error> {
    let raw = RawValue::from_string(write(summary)?)
        .map_err(|error| Error::new(ErrorKind::Misuse, error.to_string()))?;
    let command = Command::Publish {
        id: summary.definition.id.clone(),
        revision: summary.definition.revision,
        computed_at: summary.computed_at,
        summary: raw,
    };
    call::<Done>(platform, tenant_id, &command).await.map(|_| ())
}

pub async fn remove(
    platform: &Platform,
    tenant_id: &str,
    id: &str,
    revision: i64,
) -> Result<(), Error> {
    let command = Command::Remove { id: id.to_owned(), revision };
    call::<Done>(platform, tenant_id, &command).await.map(|_| ())
}

pub async fn keep(
    platform: &Platform,
    tenant_id: &str,
    ids: Vec<String>,
    as_of: Timestamp,
) -> Result<(), Error> {
    call::<Done>(platform, tenant_id, &Command::Keep { ids, as_of }).await.map(|_| ())
}

/// Withdraws the user's access tokens issued before the instant; every
/// isolate knows within the second that it may keep a board.
pub async fn revoke_tokens(
    platform: &Platform,
    tenant_id: &str,
    user_id: &str,
    issued_before: Timestamp,
) -> Result<(), Error> {
    let now = Timestamp::from_millis(platform.clock.now_ms());
    let command = Command::RevokeTokens { user_id: user_id.to_owned(), issued_before, now };
    call::<Done>(platform, tenant_id, &command).await.map(|_| ())
}

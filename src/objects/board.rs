//! `BoardObject`, one per tenant: the latest summary of each partnership and
//! the tenant's withdrawn tokens. One hop tells a reader everything.

use super::{read, write};
use crate::domain::digest::IncidentDigest;
use crate::domain::partnership::Summary;
use crate::domain::rate_limit::Limits;
use crate::domain::time::{MINUTE_MS, Timestamp};
use crate::platform::sql::Row;
use crate::platform::{Error, ErrorKind, ObjectStorage, Platform};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::collections::BTreeMap;

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
    /// Heals a lost `SetLimits` too. (`None` from the version before that.)
    Keep {
        ids: Vec<String>,
        as_of: Timestamp,
        #[serde(default)]
        limits: Option<VersionedLimits>,
    },
    /// The tenant's rate limits changed.
    SetLimits(VersionedLimits),
    /// What is open now, as the tenant's incidents say it.
    PublishIncidents(Box<IncidentDigest>),
    /// Something happened `by` times that is worth a counter.
    Count { name: String, by: u64 },
    /// A cron job has ended.
    JobRan { job: String, started_at: Timestamp, succeeded: bool },
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
    /// `None` until somebody has told.
    #[serde(default)]
    pub limits: Option<Limits>,
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// `None` until somebody has told.
    #[serde(default)]
    pub incidents: Option<IncidentDigest>,
    /// By name of the job. Only the default tenant's board is told.
    #[serde(default)]
    pub jobs: BTreeMap<String, JobFigures>,
}

/// How a cron job went since the board was first told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobFigures {
    /// Start of the last run, however it went.
    pub last_run_at: Timestamp,
    /// Start of the last run that did what it should.
    pub last_success_at: Option<Timestamp>,
    /// Runs since ever.
    pub succeeded: u64,
    pub failed: u64,
}

/// Limits as of a version of the tenant's settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionedLimits {
    pub version: i64,
    pub limits: Limits,
}

/// Requests that passed while the rate limiter was out of reach.
pub const UNENFORCED: &str = "rate_limit_unenforced";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revocation {
    /// A user's, or an API key's.
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
            "CREATE TABLE IF NOT EXISTS limits (
                 one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
                 version INTEGER NOT NULL,
                 limits TEXT NOT NULL
             ) STRICT",
            "CREATE TABLE IF NOT EXISTS incidents (
                 one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
                 computed_at INTEGER NOT NULL,
                 digest TEXT NOT NULL
             ) STRICT",
            "CREATE TABLE IF NOT EXISTS counters (
                 name TEXT NOT NULL PRIMARY KEY,
                 value INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS jobs (
                 job TEXT NOT NULL PRIMARY KEY,
                 last_run_at INTEGER NOT NULL,
                 last_success_at INTEGER,
                 succeeded INTEGER NOT NULL,
                 failed INTEGER NOT NULL
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
            Command::Keep { ids, as_of, limits } => {
                let removed = self.keep(&ids, as_of)?;
                let changed = limits.map_or(Ok(false), |limits| self.set_limits(&limits))?;
                if !removed && !changed {
                    return write(&Done {});
                }
            }
            Command::SetLimits(limits) => {
                self.set_limits(&limits)?;
            }
            Command::PublishIncidents(digest) => self.publish_incidents(&digest)?,
            Command::Count { name, by } => self.count(&name, by)?,
            Command::JobRan { job, started_at, succeeded } => {
                self.job_ran(&job, started_at, succeeded)?;
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

    /// True where they are news.
    fn set_limits(&self, limits: &VersionedLimits) -> Result<bool, Error> {
        let changed = self.storage.query(
            "INSERT INTO limits (one, version, limits) VALUES (1, ?1, ?2)
             ON CONFLICT (one) DO UPDATE SET version = excluded.version, limits = excluded.limits
             WHERE excluded.version > version
             RETURNING one",
            &[limits.version.into(), write(&limits.limits)?.into()],
        )?;
        Ok(!changed.is_empty())
    }

    fn publish_incidents(&self, digest: &IncidentDigest) -> Result<(), Error> {
        self.storage.query(
            "INSERT INTO incidents (one, computed_at, digest) VALUES (1, ?1, ?2)
             ON CONFLICT (one) DO UPDATE SET computed_at = excluded.computed_at,
                 digest = excluded.digest
             WHERE excluded.computed_at >= computed_at",
            &[digest.computed_at.millis().into(), write(digest)?.into()],
        )?;
        Ok(())
    }

    fn count(&self, name: &str, by: u64) -> Result<(), Error> {
        self.storage.query(
            "INSERT INTO counters (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
            &[name.into(), by.into()],
        )?;
        Ok(())
    }

    /// Runs may end in another order than they began.
    fn job_ran(&self, job: &str, started_at: Timestamp, succeeded: bool) -> Result<(), Error> {
        let success_at = succeeded.then_some(started_at.millis());
        self.storage.query(
            "INSERT INTO jobs (job, last_run_at, last_success_at, succeeded, failed)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (job) DO UPDATE SET
                 last_run_at = max(last_run_at, excluded.last_run_at),
                 last_success_at = coalesce(
                     max(last_success_at, excluded.last_success_at),
                     last_success_at, excluded.last_success_at),
                 succeeded = succeeded + excluded.succeeded,
                 failed = failed + excluded.failed",
            &[
                job.into(),
                started_at.millis().into(),
                success_at.into(),
                u64::from(succeeded).into(),
                u64::from(!succeeded).into(),
            ],
        )?;
        Ok(())
    }

    fn jobs(&self) -> Result<BTreeMap<String, JobFigures>, Error> {
        let rows = self.storage.query("SELECT * FROM jobs", &[])?;
        let figures = |row: &Row| {
            let last_success_at: Option<i64> = row.get("last_success_at")?;
            let figures = JobFigures {
                last_run_at: Timestamp::from_millis(row.get("last_run_at")?),
                last_success_at: last_success_at.map(Timestamp::from_millis),
                succeeded: row.get("succeeded")?,
                failed: row.get("failed")?,
            };
            Ok((row.get("job")?, figures))
        };
        rows.iter().map(figures).collect()
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
            limits: Option<Box<RawValue>>,
            counters: BTreeMap<String, u64>,
            incidents: Option<Box<RawValue>>,
            jobs: BTreeMap<String, JobFigures>,
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
        let rows = self.storage.query("SELECT limits FROM limits", &[])?;
        let limits = rows.first().map(|row| row.json("limits")).transpose()?;
        let rows = self.storage.query("SELECT name, value FROM counters", &[])?;
        let counters = rows.iter().map(|row| Ok((row.get("name")?, row.get("value")?)));
        let counters = counters.collect::<Result<_, Error>>()?;
        let rows = self.storage.query("SELECT digest FROM incidents", &[])?;
        let incidents = rows.first().map(|row| row.json("digest")).transpose()?;
        let jobs = self.jobs()?;
        let text = write(&Raw { summaries, revoked, limits, counters, incidents, jobs })?;
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
    limits: Option<VersionedLimits>,
) -> Result<(), Error> {
    call::<Done>(platform, tenant_id, &Command::Keep { ids, as_of, limits }).await.map(|_| ())
}

pub async fn set_limits(
    platform: &Platform,
    tenant_id: &str,
    limits: VersionedLimits,
) -> Result<(), Error> {
    call::<Done>(platform, tenant_id, &Command::SetLimits(limits)).await.map(|_| ())
}

pub async fn count(platform: &Platform, tenant_id: &str, name: &str, by: u64) -> Result<(), Error> {
    let command = Command::Count { name: name.to_owned(), by };
    call::<Done>(platform, tenant_id, &command).await.map(|_| ())
}

pub async fn job_ran(
    platform: &Platform,
    tenant_id: &str,
    job: &str,
    started_at: Timestamp,
    succeeded: bool,
) -> Result<(), Error> {
    let command = Command::JobRan { job: job.to_owned(), started_at, succeeded };
    call::<Done>(platform, tenant_id, &command).await.map(|_| ())
}

pub async fn publish_incidents(
    platform: &Platform,
    tenant_id: &str,
    digest: IncidentDigest,
) -> Result<(), Error> {
    let command = Command::PublishIncidents(Box::new(digest));
    call::<Done>(platform, tenant_id, &command).await.map(|_| ())
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

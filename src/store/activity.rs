//! `activity`: who did what when. Append-only; triggers refuse anything else.

use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::platform::sql::Statement;
use crate::platform::{Database, Error, Random};

/// The actor of what the system does by itself.
pub const SYSTEM: &str = "system";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Success,
    /// Somebody was turned away.
    Refused,
    Failed,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// One line about to be written.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    pub tenant_id: &'a str,
    /// A user's id, or [`SYSTEM`].
    pub actor: &'a str,
    /// Such as `partnership.created`.
    pub event: &'a str,
    pub status: Status,
    /// What it was done to.
    pub subject: &'a str,
}

/// The line as a statement, to stand in one batch with what it tells of.
pub fn insert(random: &Random, now: Timestamp, entry: &Entry<'_>) -> Result<Statement, Error> {
    Ok(statement(super::new_id(random, IdKind::Activity, now)?, now, entry))
}

/// The line of something that a client may repeat under the same key: only the
/// first time writes one.
pub fn insert_once(key: &[u8; 32], now: Timestamp, entry: &Entry<'_>) -> Statement {
    statement(IdKind::Activity.of_key(key), now, entry)
}

/// As [`insert_once`], where `condition` holds; its parameters begin with ?8
/// and are still to be bound.
pub fn insert_once_if(
    key: &[u8; 32],
    now: Timestamp,
    entry: &Entry<'_>,
    condition: &str,
) -> Statement {
    let mut statement = statement(IdKind::Activity.of_key(key), now, entry);
    statement.sql = format!(
        "INSERT INTO activity (id, tenant_id, at, actor, event, status, subject) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE {condition} ON CONFLICT (id) DO NOTHING"
    )
    .into();
    statement
}

fn statement(id: String, now: Timestamp, entry: &Entry<'_>) -> Statement {
    Statement::new(
        "INSERT INTO activity (id, tenant_id, at, actor, event, status, subject) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id)
    .bind(entry.tenant_id)
    .bind(now.millis())
    .bind(entry.actor)
    .bind(entry.event)
    .bind(entry.status.name())
    .bind(entry.subject)
}

/// One line read back.
#[derive(Clone, Debug)]
pub struct Line {
    pub id: String,
    pub at: Timestamp,
    pub actor: String,
    pub event: String,
    pub status: String,
    pub subject: String,
}

/// Where a page of lines ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub at: Timestamp,
    pub id: String,
}

/// The latest lines of a tenant, newest first.
pub async fn recent(database: &Database, tenant_id: &str, limit: u32) -> Result<Vec<Line>, Error> {
    before(database, tenant_id, None, limit).await
}

/// Lines of a tenant, newest first, from before this position.
pub async fn before(
    database: &Database,
    tenant_id: &str,
    position: Option<&Position>,
    limit: u32,
) -> Result<Vec<Line>, Error> {
    let query = Statement::new(
        "SELECT id, at, actor, event, status, subject FROM activity \
         WHERE tenant_id = ?1 AND (?2 IS NULL OR (at, id) < (?2, ?3)) \
         ORDER BY at DESC, id DESC LIMIT ?4",
    )
    .bind(tenant_id)
    .bind(position.map(|position| position.at.millis()))
    .bind(position.map(|position| position.id.as_str()))
    .bind(limit);
    let rows = database.query(query).await?;
    rows.iter()
        .map(|row| {
            Ok(Line {
                id: row.get("id")?,
                at: Timestamp::from_millis(row.get("at")?),
                actor: row.get("actor")?,
                event: row.get("event")?,
                status: row.get("status")?,
                subject: row.get("subject")?,
            })
        })
        .collect()
}

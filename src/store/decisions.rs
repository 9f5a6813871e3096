//! `decisions`: what was asked, what was answered, and for whom.

use crate::domain::time::Timestamp;
use crate::platform::sql::Statement;
use crate::platform::{Database, Error};

pub struct Decision<'a> {
    pub id: &'a str,
    pub tenant_id: &'a str,
    pub kind: &'a str,
    pub decision: &'a str,
    /// The context as it was parsed, JSON.
    pub inputs: &'a str,
    /// The reply as it was sent, JSON.
    pub reply: &'a str,
    pub author_id: &'a str,
    pub created_at: Timestamp,
}

pub fn insert(decision: &Decision<'_>) -> Statement {
    Statement::new(
        "INSERT INTO decisions (id, tenant_id, kind, decision, inputs, reply, author_id, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(decision.id)
    .bind(decision.tenant_id)
    .bind(decision.kind)
    .bind(decision.decision)
    .bind(decision.inputs)
    .bind(decision.reply)
    .bind(decision.author_id)
    .bind(decision.created_at.millis())
}

/// Decisions of a tenant so far.
pub async fn count(database: &Database, tenant_id: &str) -> Result<u64, Error> {
    let query = Statement::new("SELECT COUNT(*) AS n FROM decisions WHERE tenant_id = ?1");
    let rows = database.query(query.bind(tenant_id)).await?;
    rows.first().map_or(Ok(0), |row| row.get("n"))
}

/// A decision in short.
pub struct Summary {
    pub id: String,
    pub kind: String,
    pub decision: String,
    pub author_id: String,
    pub created_at: Timestamp,
}

/// Decisions of a tenant, newest first, from before the one of this id.
pub async fn list(
    database: &Database,
    tenant_id: &str,
    before: Option<&str>,
    limit: u32,
) -> Result<Vec<Summary>, Error> {
    // Ids are UUIDv7, in the order of time.
    let query = Statement::new(
        "SELECT id, kind, decision, author_id, created_at FROM decisions \
         WHERE tenant_id = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3",
    )
    .bind(tenant_id)
    .bind(before)
    .bind(limit);
    let rows = database.query(query).await?;
    rows.iter()
        .map(|row| {
            Ok(Summary {
                id: row.get("id")?,
                kind: row.get("kind")?,
                decision: row.get("decision")?,
                author_id: row.get("author_id")?,
                created_at: Timestamp::from_millis(row.get("created_at")?),
            })
        })
        .collect()
}

//! `idempotency_keys`: replies to requests that may be repeated.

use crate::domain::time::{DAY_MS, Timestamp};
use crate::platform::sql::Statement;
use crate::platform::{Database, Error};

/// A reply is kept this long.
const KEPT_MS: i64 = DAY_MS;

/// Rows deleted at a time.
const DELETE_LIMIT: u32 = 1_000;

/// Names the column by which a second request with the key is refused.
pub const KEY_TAKEN: &str = "idempotency_keys.created_at";

/// A reply, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub payload_mac: String,
    pub status: u16,
    /// Names and values, JSON.
    pub headers: String,
    pub body: String,
    pub created_at: Timestamp,
}

pub async fn find(
    database: &Database,
    tenant_id: &str,
    scope: &str,
    now: Timestamp,
) -> Result<Option<Kept>, Error> {
    let query = Statement::new(
        "SELECT payload_mac, status, headers, body, created_at FROM idempotency_keys \
         WHERE tenant_id = ?1 AND scope = ?2 AND created_at > ?3",
    )
    .bind(tenant_id)
    .bind(scope)
    .bind(now.plus_ms(-KEPT_MS).millis());
    let rows = database.query(query).await?;
    rows.first()
        .map(|row| {
            Ok(Kept {
                payload_mac: row.get("payload_mac")?,
                status: u16::try_from(row.get::<u64>("status")?).unwrap_or_default(),
                headers: row.get("headers")?,
                body: row.get("body")?,
                created_at: Timestamp::from_millis(row.get("created_at")?),
            })
        })
        .transpose()
}

/// Keeps a reply, to stand in one batch with what it tells of. Where the key
/// is taken, the whole batch is refused ([`KEY_TAKEN`]): of two requests at
/// once, one is carried out.
pub fn keep(tenant_id: &str, scope: &str, kept: &Kept) -> Statement {
    Statement::new(
        "INSERT INTO idempotency_keys \
         (tenant_id, scope, payload_mac, status, headers, body, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT (tenant_id, scope) DO UPDATE SET payload_mac = excluded.payload_mac, \
         status = excluded.status, headers = excluded.headers, body = excluded.body, \
         created_at = CASE WHEN created_at <= ?8 THEN excluded.created_at END",
    )
    .bind(tenant_id)
    .bind(scope)
    .bind(kept.payload_mac.as_str())
    .bind(u32::from(kept.status))
    .bind(kept.headers.as_str())
    .bind(kept.body.as_str())
    .bind(kept.created_at.millis())
    .bind(kept.created_at.plus_ms(-KEPT_MS).millis())
}

/// Forgets replies of all tenants that are over a day old, at most 1,000 at a
/// time; how many they were.
pub async fn delete_expired(database: &Database, now: Timestamp) -> Result<u64, Error> {
    let statement = Statement::new(
        "DELETE FROM idempotency_keys WHERE (tenant_id, scope) IN \
         (SELECT tenant_id, scope FROM idempotency_keys WHERE created_at <= ?1 LIMIT ?2)",
    )
    .bind(now.plus_ms(-KEPT_MS).millis())
    .bind(DELETE_LIMIT);
    let applied = database.batch(vec![statement]).await?;
    Ok(applied.first().map_or(0, |applied| applied.changes))
}

//! `api_keys`: keys for programs.

use super::activity::{self, Entry, Status};
use crate::domain::time::Timestamp;
use crate::platform::sql::{Row, Statement};
use crate::platform::{Database, Error, Random};

/// One row. Not `Debug`: it holds the secret's hash.
#[derive(Clone)]
pub struct ApiKeyRow {
    pub id: String,
    pub tenant_id: String,
    pub name: String,
    pub prefix: String,
    pub secret_hash: String,
    /// Names of permissions.
    pub permissions: Vec<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub replaces: Option<String>,
    pub last_used_at: Option<Timestamp>,
}

impl ApiKeyRow {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let time = |name: &str| -> Result<Option<Timestamp>, Error> {
            Ok(row.get::<Option<i64>>(name)?.map(Timestamp::from_millis))
        };
        Ok(Self {
            id: row.get("id")?,
            tenant_id: row.get("tenant_id")?,
            name: row.get("name")?,
            prefix: row.get("prefix")?,
            secret_hash: row.get("secret_hash")?,
            permissions: row.json("permissions")?,
            created_at: Timestamp::from_millis(row.get("created_at")?),
            created_by: row.get("created_by")?,
            expires_at: Timestamp::from_millis(row.get("expires_at")?),
            revoked_at: time("revoked_at")?,
            replaces: row.get("replaces")?,
            last_used_at: time("last_used_at")?,
        })
    }
}

/// The key of this prefix, of any tenant: the key alone says of which one.
pub async fn find_by_prefix(database: &Database, prefix: &str) -> Result<Option<ApiKeyRow>, Error> {
    let query = Statement::new("SELECT * FROM api_keys WHERE prefix = ?1").bind(prefix);
    database.query(query).await?.first().map(ApiKeyRow::from_row).transpose()
}

/// A key of this tenant; another tenant's is not found.
pub async fn find(
    database: &Database,
    tenant_id: &str,
    id: &str,
) -> Result<Option<ApiKeyRow>, Error> {
    let query = Statement::new("SELECT * FROM api_keys WHERE tenant_id = ?1 AND id = ?2")
        .bind(tenant_id)
        .bind(id);
    database.query(query).await?.first().map(ApiKeyRow::from_row).transpose()
}

/// Keys of a tenant after the one of this id, oldest first.
pub async fn list(
    database: &Database,
    tenant_id: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<ApiKeyRow>, Error> {
    let query = Statement::new(
        "SELECT * FROM api_keys WHERE tenant_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )
    .bind(tenant_id)
    .bind(after)
    .bind(limit);
    database.query(query).await?.iter().map(ApiKeyRow::from_row).collect()
}

/// Keys of a tenant that can be used.
pub async fn count_live(
    database: &Database,
    tenant_id: &str,
    now: Timestamp,
) -> Result<u64, Error> {
    let query = Statement::new(
        "SELECT COUNT(*) AS n FROM api_keys \
         WHERE tenant_id = ?1 AND revoked_at IS NULL AND expires_at > ?2",
    )
    .bind(tenant_id)
    .bind(now.millis());
    database.query(query).await?.first().map_or(Ok(0), |row| row.get("n"))
}

/// Notes that the key was used, unless that was noted within `every_ms`.
pub async fn note_use(
    database: &Database,
    key: &ApiKeyRow,
    now: Timestamp,
    every_ms: i64,
) -> Result<(), Error> {
    let update = Statement::new(
        "UPDATE api_keys SET last_used_at = ?3 WHERE tenant_id = ?1 AND id = ?2 \
         AND (last_used_at IS NULL OR last_used_at <= ?4)",
    )
    .bind(key.tenant_id.as_str())
    .bind(key.id.as_str())
    .bind(now.millis())
    .bind(now.plus_ms(-every_ms).millis());
    database.batch(vec![update]).await.map(drop)
}

/// The statements that make a key, with the line that says so.
pub fn insert(random: &Random, now: Timestamp, key: &ApiKeyRow) -> Result<Vec<Statement>, Error> {
    let permissions = serde_json::to_string(&key.permissions)
        .map_err(|error| Error::new(crate::platform::ErrorKind::Misuse, error.to_string()))?;
    let insert = Statement::new(
        "INSERT INTO api_keys (id, tenant_id, name, prefix, secret_hash, permissions, \
         created_at, created_by, expires_at, replaces) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )
    .bind(key.id.as_str())
    .bind(key.tenant_id.as_str())
    .bind(key.name.as_str())
    .bind(key.prefix.as_str())
    .bind(key.secret_hash.as_str())
    .bind(permissions)
    .bind(key.created_at.millis())
    .bind(key.created_by.as_str())
    .bind(key.expires_at.millis())
    .bind(key.replaces.clone());
    Ok(vec![insert, line(random, now, key, &key.created_by, "api_key.created")?])
}

/// Ends a key at an instant: the overlap of a rotation. Where it was revoked
/// or has expired meanwhile, NULL in `expires_at` refuses the whole batch.
pub fn shorten(
    random: &Random,
    now: Timestamp,
    key: &ApiKeyRow,
    ends_at: Timestamp,
    actor: &str,
) -> Result<Vec<Statement>, Error> {
    let update = Statement::new(
        "UPDATE api_keys SET expires_at = \
         CASE WHEN revoked_at IS NULL AND expires_at > ?3 THEN min(expires_at, ?4) END \
         WHERE tenant_id = ?1 AND id = ?2",
    )
    .bind(key.tenant_id.as_str())
    .bind(key.id.as_str())
    .bind(now.millis())
    .bind(ends_at.millis());
    Ok(vec![update, line(random, now, key, actor, "api_key.rotated")?])
}

/// Names the column by which [`shorten`] refuses.
pub const NOT_LIVE: &str = "api_keys.expires_at";

/// Revokes a key; one that is revoked stays as it is.
pub async fn revoke(
    database: &Database,
    random: &Random,
    now: Timestamp,
    key: &ApiKeyRow,
    actor: &str,
) -> Result<(), Error> {
    let update = Statement::new(
        "UPDATE api_keys SET revoked_at = ?3 \
         WHERE tenant_id = ?1 AND id = ?2 AND revoked_at IS NULL",
    )
    .bind(key.tenant_id.as_str())
    .bind(key.id.as_str())
    .bind(now.millis());
    let line = line(random, now, key, actor, "api_key.revoked")?;
    database.batch(vec![update, line]).await.map(drop)
}

fn line(
    random: &Random,
    now: Timestamp,
    key: &ApiKeyRow,
    actor: &str,
    event: &str,
) -> Result<Statement, Error> {
    let entry = Entry {
        tenant_id: &key.tenant_id,
        actor,
        event,
        status: Status::Success,
        subject: &key.id,
    };
    activity::insert(random, now, &entry)
}

//! `refresh_tokens`: a login is a family of them; each use spends one and
//! makes the next. Only hashes are stored.
//!
//! Two isolates may present the same token at once. Who wins is decided in
//! SQL: the successor's row carries, in a column that is NOT NULL, a value
//! that is null unless the old token may still be spent, so that the loser's
//! whole batch is refused.

use super::activity::{self, Entry, Status};
use super::new_id;
use crate::domain::id::IdKind;
use crate::domain::time::{DAY_MS, Timestamp};
use crate::platform::sql::{Row, Statement};
use crate::platform::{Database, Error, Random};

/// Life of each token, counted from its own issue.
pub const LIFETIME_MS: i64 = 7 * DAY_MS;

/// Expired rows that one clean-up deletes at most: a statement on D1 may not
/// take over 30 s.
const DELETE_LIMIT: u32 = 1_000;

/// One row.
#[derive(Clone, Debug)]
pub struct RefreshToken {
    pub id: String,
    pub tenant_id: String,
    pub user_id: String,
    pub family_id: String,
    pub client_hash: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub spent_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

impl RefreshToken {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let time = |column: &str| -> Result<Option<Timestamp>, Error> {
            Ok(row.get::<Option<i64>>(column)?.map(Timestamp::from_millis))
        };
        Ok(Self {
            id: row.get("id")?,
            tenant_id: row.get("tenant_id")?,
            user_id: row.get("user_id")?,
            family_id: row.get("family_id")?,
            client_hash: row.get("client_hash")?,
            issued_at: Timestamp::from_millis(row.get("issued_at")?),
            expires_at: Timestamp::from_millis(row.get("expires_at")?),
            spent_at: time("spent_at")?,
            revoked_at: time("revoked_at")?,
        })
    }
}

/// A token that was presented, and what its user is now.
#[derive(Clone, Debug)]
pub struct Presented {
    pub token: RefreshToken,
    /// The name of the user's role as of this moment.
    pub role: String,
    pub user_disabled: bool,
}

/// The token of this hash. The token alone says of which tenant it is.
pub async fn find(database: &Database, token_hash: &str) -> Result<Option<Presented>, Error> {
    let rows = database
        .query(
            Statement::new(
                "SELECT t.id AS id, t.tenant_id AS tenant_id, t.user_id AS user_id, \
                 t.family_id AS family_id, t.client_hash AS client_hash, \
                 t.issued_at AS issued_at, t.expires_at AS expires_at, \
                 t.spent_at AS spent_at, t.revoked_at AS revoked_at, \
                 u.role AS role, u.disabled_at IS NOT NULL AS user_disabled \
                 FROM refresh_tokens t \
                 JOIN users u ON u.id = t.user_id AND u.tenant_id = t.tenant_id \
                 WHERE t.token_hash = ?1",
            )
            .bind(token_hash),
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Presented {
        token: RefreshToken::from_row(row)?,
        role: row.get("role")?,
        user_disabled: row.get("user_disabled")?,
    }))
}

/// A login that succeeded.
pub struct Login<'a> {
    pub tenant_id: &'a str,
    pub user_id: &'a str,
    /// The hash that the password was verified against.
    pub password_hash: &'a str,
    pub family_id: &'a str,
    pub token_hash: &'a str,
    pub client_hash: &'a str,
}

/// Starts a family, and forgets the logins that failed before it. False where
/// the password was changed or the user disabled or locked since it was read: then nothing was written.
pub async fn start(
    database: &Database,
    random: &Random,
    now: Timestamp,
    login: &Login<'_>,
) -> Result<bool, Error> {
    let first = Statement::new(
        "INSERT INTO refresh_tokens (id, tenant_id, user_id, family_id, token_hash, client_hash, \
         issued_at, expires_at) \
         VALUES (?1, ?2, (SELECT id FROM users WHERE id = ?3 AND tenant_id = ?2 \
             AND password_hash = ?4 AND disabled_at IS NULL \
             AND (locked_until IS NULL OR locked_until <= ?8)), ?5, ?6, ?7, ?8, ?9)",
    )
    .bind(new_id(random, IdKind::RefreshToken, now)?)
    .bind(login.tenant_id)
    .bind(login.user_id)
    .bind(login.password_hash)
    .bind(login.family_id)
    .bind(login.token_hash)
    .bind(login.client_hash)
    .bind(now.millis())
    .bind(now.plus_ms(LIFETIME_MS).millis());
    let line = activity::insert(
        random,
        now,
        &Entry {
            tenant_id: login.tenant_id,
            actor: login.user_id,
            event: "login.succeeded",
            status: Status::Success,
            subject: login.user_id,
        },
    )?;
    let forgive =
        Statement::new("DELETE FROM login_failures WHERE user_id = ?1 AND tenant_id = ?2")
            .bind(login.user_id)
            .bind(login.tenant_id);
    match database.batch(vec![first, forgive, line]).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_constraint("refresh_tokens.user_id") => Ok(false),
        Err(error) => Err(error),
    }
}

/// Spends `old` and puts its successor in place, or does neither: false
/// where `old` was spent, revoked or has expired, or its user was disabled.
pub async fn rotate(
    database: &Database,
    random: &Random,
    now: Timestamp,
    old: &RefreshToken,
    successor_hash: &str,
    client_hash: &str,
) -> Result<bool, Error> {
    let successor = Statement::new(
        "INSERT INTO refresh_tokens (id, tenant_id, user_id, family_id, token_hash, client_hash, \
         issued_at, expires_at) \
         VALUES (?1, ?2, (SELECT t.user_id FROM refresh_tokens t \
             JOIN users u ON u.id = t.user_id AND u.disabled_at IS NULL \
             WHERE t.id = ?3 AND t.tenant_id = ?2 AND t.spent_at IS NULL \
             AND t.revoked_at IS NULL AND t.expires_at > ?7), ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(new_id(random, IdKind::RefreshToken, now)?)
    .bind(old.tenant_id.as_str())
    .bind(old.id.as_str())
    .bind(old.family_id.as_str())
    .bind(successor_hash)
    .bind(client_hash)
    .bind(now.millis())
    .bind(now.plus_ms(LIFETIME_MS).millis());
    let spend =
        Statement::new("UPDATE refresh_tokens SET spent_at = ?3 WHERE id = ?1 AND tenant_id = ?2")
            .bind(old.id.as_str())
            .bind(old.tenant_id.as_str())
            .bind(now.millis());
    let line = activity::insert(
        random,
        now,
        &Entry {
            tenant_id: &old.tenant_id,
            actor: &old.user_id,
            event: "login.refreshed",
            status: Status::Success,
            subject: &old.user_id,
        },
    )?;
    match database.batch(vec![successor, spend, line]).await {
        Ok(_) => Ok(true),
        // NOT NULL where it may no longer be spent, UNIQUE where somebody
        // else has just put the same successor in place.
        Err(error)
            if error.is_constraint("refresh_tokens.user_id")
                || error.is_constraint("refresh_tokens.token_hash") =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Ends the login that `token` belongs to; `event` and `status` go into the
/// line that tells of it.
pub async fn revoke_family(
    database: &Database,
    random: &Random,
    now: Timestamp,
    token: &RefreshToken,
    reason: &str,
    event: &str,
    status: Status,
) -> Result<(), Error> {
    let revoke = Statement::new(
        "UPDATE refresh_tokens SET revoked_at = ?3, revoked_reason = ?4 \
         WHERE family_id = ?1 AND tenant_id = ?2 AND revoked_at IS NULL",
    )
    .bind(token.family_id.as_str())
    .bind(token.tenant_id.as_str())
    .bind(now.millis())
    .bind(reason);
    let line = activity::insert(
        random,
        now,
        &Entry {
            tenant_id: &token.tenant_id,
            actor: &token.user_id,
            event,
            status,
            subject: &token.user_id,
        },
    )?;
    database.batch(vec![revoke, line]).await.map(drop)
}

/// Ends all logins of a user, to stand in one batch with its reason.
pub fn revoke_all(tenant_id: &str, user_id: &str, reason: &str, now: Timestamp) -> Statement {
    Statement::new(
        "UPDATE refresh_tokens SET revoked_at = ?3, revoked_reason = ?4 \
         WHERE user_id = ?1 AND tenant_id = ?2 AND revoked_at IS NULL",
    )
    .bind(user_id)
    .bind(tenant_id)
    .bind(now.millis())
    .bind(reason)
}

/// Forgets tokens of all tenants that expired over `days` ago, at most 1,000
/// at a time; how many they were. Until then a token used twice is known as
/// one.
pub async fn delete_expired(database: &Database, now: Timestamp, days: u32) -> Result<u64, Error> {
    let statement = Statement::new(
        "DELETE FROM refresh_tokens WHERE id IN \
         (SELECT id FROM refresh_tokens WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
    )
    .bind(now.plus_ms(-i64::from(days) * DAY_MS).millis())
    .bind(DELETE_LIMIT);
    let applied = database.batch(vec![statement]).await?;
    Ok(applied.first().map_or(0, |applied| applied.changes))
}

//! `users`: who may log in, with which role.
//!
//! A change is a compare-and-set in one batch with its line in `activity`.
//! Where a precondition does not hold, the statement writes NULL into a
//! column that is NOT NULL: the constraint refuses the whole batch, so the
//! line is not written either, and the column in the message says which
//! precondition it was.

use super::activity::{self, Entry, Status};
use super::refresh_tokens;
use crate::domain::time::{HOUR_MS, MINUTE_MS, Timestamp};
use crate::domain::validation::FieldError;
use crate::platform::sql::{Row, Statement};
use crate::platform::{Database, Error, Random};
use sha2::{Digest, Sha256};

/// Longest user name or address, in bytes (the limit of an e-mail address).
pub const MAX_NAME_BYTES: usize = 254;

/// One row. Not `Debug`: it holds the password's hash.
#[derive(Clone)]
pub struct User {
    pub id: String,
    pub tenant_id: String,
    pub username: String,
    pub email: Option<String>,
    pub password_hash: String,
    /// The name of a role.
    pub role: String,
    pub disabled_at: Option<Timestamp>,
    /// Nobody can log in before this instant: too many have failed.
    pub locked_until: Option<Timestamp>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub updated_at: Timestamp,
}

impl User {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.get("id")?,
            tenant_id: row.get("tenant_id")?,
            username: row.get("username")?,
            email: row.get("email")?,
            password_hash: row.get("password_hash")?,
            role: row.get("role")?,
            disabled_at: row.get::<Option<i64>>("disabled_at")?.map(Timestamp::from_millis),
            locked_until: row.get::<Option<i64>>("locked_until")?.map(Timestamp::from_millis),
            created_at: Timestamp::from_millis(row.get("created_at")?),
            created_by: row.get("created_by")?,
            updated_at: Timestamp::from_millis(row.get("updated_at")?),
        })
    }
}

/// So many logins of one account that fail within an hour lock it.
pub const FAILURES_TO_LOCK: u32 = 5;
pub const FAILURES_COUNT_MS: i64 = HOUR_MS;
/// For so long. A login that is tried meanwhile fails and counts for nothing,
/// so that nobody can keep an account locked by trying on.
pub const LOCK_MS: i64 = 15 * MINUTE_MS;

impl User {
    pub fn is_locked(&self, now: Timestamp) -> bool {
        self.locked_until.is_some_and(|until| until > now)
    }
}

/// Writes down a login that failed, and locks the account if it was one too
/// many; both or neither. The statements are the same whoever asks: with
/// `None`, a user that does not exist, they find no row.
pub async fn note_failure(
    database: &Database,
    random: &Random,
    now: Timestamp,
    line: &Entry<'_>,
    user: Option<&User>,
) -> Result<(), Error> {
    let user_id = user.map_or("", |user| user.id.as_str());
    let locked_until = now.plus_ms(LOCK_MS).millis();
    let counts_from = now.plus_ms(-FAILURES_COUNT_MS).millis();
    let failure = Statement::new(
        "INSERT INTO login_failures (tenant_id, user_id, at) SELECT tenant_id, id, ?2 FROM users \
         WHERE id = ?1 AND (locked_until IS NULL OR locked_until <= ?2)",
    )
    .bind(user_id)
    .bind(now.millis());
    let lock = Statement::new(
        "UPDATE users SET locked_until = ?3 \
         WHERE id = ?1 AND (locked_until IS NULL OR locked_until <= ?2) AND ?5 <= \
         (SELECT COUNT(*) FROM login_failures WHERE user_id = ?1 AND at > ?4)",
    )
    .bind(user_id)
    .bind(now.millis())
    .bind(locked_until)
    .bind(counts_from)
    .bind(FAILURES_TO_LOCK);
    // One line a lock, however many failures see it being made.
    let lock_key: [u8; 32] = Sha256::digest(format!("{user_id}\n{locked_until}")).into();
    let locked = activity::insert_once_if(
        &lock_key,
        now,
        &Entry { event: "login.locked", ..*line },
        "EXISTS (SELECT 1 FROM users WHERE id = ?8 AND locked_until = ?9)",
    )
    .bind(user_id)
    .bind(locked_until);
    let tidy = Statement::new(
        "DELETE FROM login_failures WHERE user_id = ?1 AND (at <= ?2 \
         OR EXISTS (SELECT 1 FROM users WHERE id = ?1 AND locked_until = ?3))",
    )
    .bind(user_id)
    .bind(counts_from)
    .bind(locked_until);
    let line = activity::insert(random, now, line)?;
    database.batch(vec![line, failure, lock, locked, tidy]).await.map(drop)
}

/// Forgets failed logins of all users that count no longer; how many.
pub async fn delete_old_failures(database: &Database, now: Timestamp) -> Result<u64, Error> {
    let statement = Statement::new("DELETE FROM login_failures WHERE at <= ?1")
        .bind(now.plus_ms(-FAILURES_COUNT_MS).millis());
    let applied = database.batch(vec![statement]).await?;
    Ok(applied.first().map_or(0, |applied| applied.changes))
}

/// Who chose a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// The deployment's secret.
    Bootstrap,
    /// The admin who made the user.
    Admin,
    /// The user.
    Own,
}

impl PasswordSource {
    const fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Admin => "admin",
            Self::Own => "self",
        }
    }
}

/// A user about to be made.
pub struct NewUser<'a> {
    pub id: &'a str,
    pub tenant_id: &'a str,
    pub username: &'a str,
    pub email: Option<&'a str>,
    pub password_hash: &'a str,
    pub password_source: PasswordSource,
    pub role: &'a str,
    /// A user's id, or [`activity::SYSTEM`].
    pub created_by: &'a str,
}

/// What [`check_username`] takes, as a regular expression of the document.
pub const USERNAME: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{2,63}$";

/// What is wrong with a user name, if anything. Without `@`, so that no name
/// can be somebody else's address: a login takes either.
pub fn check_username(pointer: &str, username: &str) -> Option<FieldError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = (3..=64).contains(&username.len())
        && username.bytes().all(allowed)
        && username.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    (!good).then(|| {
        FieldError::new(
            pointer,
            "expected 3 to 64 ASCII letters, digits, '.', '_' or '-', a letter or digit first",
        )
    })
}

/// What every address that [`check_email`] takes looks like, as a regular
/// expression of the document; it knows neither bytes nor all blanks.
pub const EMAIL: &str = "^[^@\\u0000-\\u0020\\u007f-\\u00a0]{1,64}\
     @[^@.\\u0000-\\u0020\\u007f-\\u00a0]\
     [^@\\u0000-\\u0020\\u007f-\\u00a0]*\\.\
     [^@\\u0000-\\u0020\\u007f-\\u00a0]*\
     [^@.\\u0000-\\u0020\\u007f-\\u00a0]$";

/// What is wrong with an e-mail address, if anything. Whether it receives
/// mail, only a mail can tell.
pub fn check_email(pointer: &str, email: &str) -> Option<FieldError> {
    let good = email.len() <= MAX_NAME_BYTES
        && !email.chars().any(|c| c.is_whitespace() || c.is_control())
        && email.split_once('@').is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len())
                && !domain.contains('@')
                && domain.contains('.')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
        });
    (!good).then(|| FieldError::new(pointer, "expected an e-mail address, at most 254 bytes"))
}

/// What a login needs to know, in one query whoever asks: an unknown name
/// costs what a known one costs.
pub struct LoginCandidate {
    pub user: Option<User>,
    /// Whether the tenant that was asked about exists.
    pub tenant_exists: bool,
}

/// Who logs in with this user name or e-mail address, of any tenant (names
/// and addresses are unique over all), and whether `tenant_id` exists.
pub async fn find_for_login(
    database: &Database,
    name: &str,
    tenant_id: &str,
) -> Result<LoginCandidate, Error> {
    let rows = database
        .query(
            Statement::new(
                "SELECT (SELECT COUNT(*) FROM tenants WHERE id = ?2) AS tenants, \
                 u.id AS id, u.tenant_id AS tenant_id, u.username AS username, \
                 u.email AS email, u.password_hash AS password_hash, u.role AS role, \
                 u.disabled_at AS disabled_at, u.locked_until AS locked_until, \
                 u.created_at AS created_at, \
                 u.created_by AS created_by, u.updated_at AS updated_at \
                 FROM (SELECT 1) LEFT JOIN users u ON u.id = \
                 (SELECT id FROM users WHERE username = ?1 \
                  UNION ALL SELECT id FROM users WHERE email = ?1 LIMIT 1)",
            )
            .bind(name)
            .bind(tenant_id),
        )
        .await?;
    let Some(row) = rows.first() else {
        return Ok(LoginCandidate { user: None, tenant_exists: false });
    };
    let user = match row.get::<Option<String>>("id")? {
        Some(_) => Some(User::from_row(row)?),
        None => None,
    };
    Ok(LoginCandidate { user, tenant_exists: row.get("tenants")? })
}

/// A user of this tenant; another tenant's is not found.
pub async fn find(
    database: &Database,
    tenant_id: &str,
    user_id: &str,
) -> Result<Option<User>, Error> {
    let rows = database
        .query(
            Statement::new("SELECT * FROM users WHERE tenant_id = ?1 AND id = ?2")
                .bind(tenant_id)
                .bind(user_id),
        )
        .await?;
    rows.first().map(User::from_row).transpose()
}

/// What became of the first admin's password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootstrapPassword {
    /// There is no user at all yet.
    NoUsers,
    /// Somebody who can log in still has the password of the secret.
    InUse,
    /// Nobody has it.
    Gone,
}

pub async fn bootstrap_password(database: &Database) -> Result<BootstrapPassword, Error> {
    let rows = database
        .query(Statement::new(
            "SELECT COUNT(*) AS users, COALESCE(SUM(password_source = 'bootstrap' \
                 AND disabled_at IS NULL), 0) AS bootstrap FROM users",
        ))
        .await?;
    let Some(row) = rows.first() else { return Ok(BootstrapPassword::NoUsers) };
    let (users, bootstrap): (u64, u64) = (row.get("users")?, row.get("bootstrap")?);
    Ok(match (users, bootstrap) {
        (0, _) => BootstrapPassword::NoUsers,
        (_, 0) => BootstrapPassword::Gone,
        _ => BootstrapPassword::InUse,
    })
}

/// Users of a tenant after the one of this id, oldest first.
pub async fn list(
    database: &Database,
    tenant_id: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<User>, Error> {
    let query =
        Statement::new("SELECT * FROM users WHERE tenant_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3")
            .bind(tenant_id)
            .bind(after)
            .bind(limit);
    database.query(query).await?.iter().map(User::from_row).collect()
}

/// Names the columns that refuse a second user of the same name.
pub const USERNAME_TAKEN: &str = "users.username";
pub const EMAIL_TAKEN: &str = "users.email";

/// The statements that make a user, with the line that says so.
pub fn insert(random: &Random, now: Timestamp, new: &NewUser<'_>) -> Result<Vec<Statement>, Error> {
    let user = Statement::new(
        "INSERT INTO users (id, tenant_id, username, email, password_hash, password_source, \
         role, disabled_at, created_at, created_by, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, ?8, ?9, ?8)",
    )
    .bind(new.id)
    .bind(new.tenant_id)
    .bind(new.username)
    .bind(new.email)
    .bind(new.password_hash)
    .bind(new.password_source.name())
    .bind(new.role)
    .bind(now.millis())
    .bind(new.created_by);
    let line = activity::insert(
        random,
        now,
        &Entry {
            tenant_id: new.tenant_id,
            actor: new.created_by,
            event: "user.created",
            status: Status::Success,
            subject: new.id,
        },
    )?;
    Ok(vec![user, line])
}

/// What becomes of a user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'a> {
    /// The name of the new role.
    pub role: Option<&'a str>,
    pub disabled: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Done,
    /// Somebody changed the user since it was read.
    Stale,
    /// The tenant would be left without an admin who can log in.
    LastAdmin,
}

/// Gives a user another role, or disables or enables it; disabling ends its
/// logins. Compared with `before`, the row as it was read.
pub async fn change(
    database: &Database,
    random: &Random,
    now: Timestamp,
    actor: &str,
    before: &User,
    change: Change<'_>,
) -> Result<Changed, Error> {
    let role = change.role.unwrap_or(&before.role);
    let disabled_at = match change.disabled {
        Some(true) => Some(before.disabled_at.unwrap_or(now)),
        Some(false) => None,
        None => before.disabled_at,
    };
    let mut events = Vec::new();
    if role != before.role {
        events.push("user.role_changed");
    }
    match (before.disabled_at, disabled_at) {
        (None, Some(_)) => events.push("user.disabled"),
        (Some(_), None) => events.push("user.enabled"),
        _ => {}
    }
    if events.is_empty() {
        return Ok(Changed::Done);
    }
    let mut statements = vec![
        Statement::new(
            // `role` is null where the row is not as it was read, and
            // `updated_at` where this is the tenant's last working admin.
            "UPDATE users SET \
             role = CASE WHEN role = ?3 AND disabled_at IS ?4 THEN ?5 END, \
             disabled_at = ?6, \
             updated_at = CASE WHEN (?5 = 'admin' AND ?6 IS NULL) \
                 OR role <> 'admin' OR disabled_at IS NOT NULL \
                 OR EXISTS (SELECT 1 FROM users AS other WHERE other.tenant_id = ?1 \
                     AND other.id <> ?2 AND other.role = 'admin' AND other.disabled_at IS NULL) \
                 THEN ?7 END \
             WHERE tenant_id = ?1 AND id = ?2",
        )
        .bind(before.tenant_id.as_str())
        .bind(before.id.as_str())
        .bind(before.role.as_str())
        .bind(before.disabled_at.map(Timestamp::millis))
        .bind(role)
        .bind(disabled_at.map(Timestamp::millis))
        .bind(now.millis()),
    ];
    if disabled_at.is_some() && before.disabled_at.is_none() {
        statements.push(refresh_tokens::revoke_all(
            &before.tenant_id,
            &before.id,
            "user_disabled",
            now,
        ));
    }
    for event in events {
        statements.push(line(random, now, actor, event, before)?);
    }
    match database.batch(statements).await {
        Ok(_) => Ok(Changed::Done),
        Err(error) if error.is_constraint("users.role") => Ok(Changed::Stale),
        Err(error) if error.is_constraint("users.updated_at") => Ok(Changed::LastAdmin),
        Err(error) => Err(error),
    }
}

/// The user's own new password, which ends all of its logins; `kept` is
/// stored with it. `Stale` where the password is no longer the one that was
/// verified, or the user was disabled since.
pub async fn change_password(
    database: &Database,
    random: &Random,
    now: Timestamp,
    before: &User,
    new_hash: &str,
    kept: Option<Statement>,
) -> Result<Changed, Error> {
    let update = Statement::new(
        "UPDATE users SET \
         password_hash = CASE WHEN password_hash = ?3 AND disabled_at IS NULL THEN ?4 END, \
         password_source = ?5, updated_at = ?6 WHERE tenant_id = ?1 AND id = ?2",
    )
    .bind(before.tenant_id.as_str())
    .bind(before.id.as_str())
    .bind(before.password_hash.as_str())
    .bind(new_hash)
    .bind(PasswordSource::Own.name())
    .bind(now.millis());
    // The kept reply first: it tells a repetition, which finds the password
    // changed as well, from a change by somebody else.
    let mut statements = Vec::from_iter(kept);
    statements.extend([
        update,
        refresh_tokens::revoke_all(&before.tenant_id, &before.id, "password_changed", now),
        line(random, now, &before.id, "user.password_changed", before)?,
    ]);
    match database.batch(statements).await {
        Ok(_) => Ok(Changed::Done),
        Err(error) if error.is_constraint("users.password_hash") => Ok(Changed::Stale),
        Err(error) => Err(error),
    }
}

fn line(
    random: &Random,
    now: Timestamp,
    actor: &str,
    event: &str,
    user: &User,
) -> Result<Statement, Error> {
    activity::insert(
        random,
        now,
        &Entry {
            tenant_id: &user.tenant_id,
            actor,
            event,
            status: Status::Success,
            subject: &user.id,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_plain() {
        for good in ["abc", "admin", "Ada.Lovelace", "0-9_x", &"a".repeat(64)] {
            assert_eq!(check_username("/username", good), None, "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "ab", ".abc", "_abc", "a b c", "me@host.tld", "äöü", "a\nbc", &long] {
            assert!(check_username("/username", bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn addresses_look_like_addresses() {
        for good in ["a@b.c", "ada+x@mail.example.org", "ö@example.org"] {
            assert_eq!(check_email("/email", good), None, "{good}");
        }
        let long = format!("a@{}.org", "b".repeat(260));
        for bad in ["", "a", "@b.c", "a@b", "a@@b.c", "a@b@c.d", "a b@c.d", "a@.c", "a@c.", &long] {
            assert!(check_email("/email", bad).is_some(), "{bad}");
        }
    }
}

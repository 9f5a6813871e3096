//! First start: the default tenant with its seeds, and the first admin from
//! two secrets. All in one batch, so there is never a tenant without an
//! admin. No key and no password is ever made up.

use super::password;
use super::permission::Role;
use crate::config::Config;
use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::log;
use crate::platform::{Error, ErrorKind, Platform};
use crate::store::tenants::{self, DEFAULT_TENANT_ID};
use crate::store::users::{self, NewUser, PasswordSource};
use crate::store::{activity, new_id};

pub const USERNAME: &str = "BOOTSTRAP_ADMIN_USERNAME";
pub const PASSWORD: &str = "BOOTSTRAP_ADMIN_PASSWORD";

const TENANT_NAME: &str = "Default";

/// What is wrong with one of the two secrets. Names it, never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretDefect {
    Missing(&'static str),
    Refused { variable: &'static str, reason: String },
}

impl std::fmt::Display for SecretDefect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(variable) => write!(f, "the secret {variable} is not set"),
            Self::Refused { variable, reason } => write!(f, "the secret {variable}: {reason}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrapped {
    AlreadyThere,
    /// Just made; the definitions of its partnerships are still to be sent to
    /// their objects.
    Created,
    /// Nobody can log in before these are mended.
    MissingSecrets(Vec<SecretDefect>),
}

#[derive(Debug)]
pub struct BootstrapError(pub Error);

impl std::fmt::Display for BootstrapError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "first start: {}", self.0)
    }
}

impl std::error::Error for BootstrapError {}

impl From<Error> for BootstrapError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The two secrets, checked.
#[derive(Clone, Copy)]
pub struct FirstAdmin<'a> {
    username: &'a str,
    password: &'a str,
}

/// The first admin as the secrets describe him, or all that is wrong.
pub fn first_admin(config: &Config) -> Result<FirstAdmin<'_>, Vec<SecretDefect>> {
    let mut defects = Vec::new();
    let username = config.bootstrap_username.as_ref().map(|text| text.expose().trim());
    let password = config.bootstrap_password.as_ref().map(|text| text.expose());
    match username {
        None => defects.push(SecretDefect::Missing(USERNAME)),
        Some(name) => defects.extend(
            users::check_username("", name)
                .map(|error| SecretDefect::Refused { variable: USERNAME, reason: error.detail }),
        ),
    }
    match password {
        None => defects.push(SecretDefect::Missing(PASSWORD)),
        Some(password) => defects.extend(
            password::check("", password, username.unwrap_or_default())
                .map(|error| SecretDefect::Refused { variable: PASSWORD, reason: error.detail }),
        ),
    }
    match (username, password) {
        (Some(username), Some(password)) if defects.is_empty() => {
            Ok(FirstAdmin { username, password })
        }
        _ => Err(defects),
    }
}

/// Makes the default tenant and its first admin unless they exist. One query
/// where they do. Safe to call from two isolates at once: the tenant's id is
/// unique, so one of them wins and the other finds it done.
pub async fn ensure(
    platform: &Platform,
    config: &Config,
    now: Timestamp,
) -> Result<Bootstrapped, BootstrapError> {
    let database = &platform.database;
    if tenants::exists(database, DEFAULT_TENANT_ID).await? {
        return Ok(Bootstrapped::AlreadyThere);
    }
    let admin = match first_admin(config) {
        Ok(admin) => admin,
        Err(defects) => {
            for defect in &defects {
                let what = "nobody can log in: there is no first admin";
                log::warn(&platform.log, now, "devskyy.bootstrap", what, &defect.to_string());
            }
            return Ok(Bootstrapped::MissingSecrets(defects));
        }
    };
    let random = &platform.random;
    let mut salt = [0_u8; password::SALT_BYTES];
    random.fill(&mut salt)?;
    let password_hash = password::hash(admin.password, &salt)?;
    let user_id = new_id(random, IdKind::User, now)?;
    let mut statements =
        tenants::create(random, DEFAULT_TENANT_ID, TENANT_NAME, activity::SYSTEM, now)?;
    statements.extend(users::insert(
        random,
        now,
        &NewUser {
            id: &user_id,
            tenant_id: DEFAULT_TENANT_ID,
            username: admin.username,
            email: None,
            password_hash: &password_hash,
            password_source: PasswordSource::Bootstrap,
            role: Role::Admin.name(),
            created_by: activity::SYSTEM,
        },
    )?);
    match database.batch(statements).await {
        Ok(_) => Ok(Bootstrapped::Created),
        // Lost the race, if that is what was refused.
        Err(error) if error.kind == ErrorKind::Constraint => {
            if tenants::exists(database, DEFAULT_TENANT_ID).await? {
                Ok(Bootstrapped::AlreadyThere)
            } else {
                Err(error.into())
            }
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Vars;

    fn defects(username: Option<&str>, password: Option<&str>) -> Vec<String> {
        let vars = Vars::default();
        for (name, value) in [(USERNAME, username), (PASSWORD, password)] {
            if let Some(value) = value {
                vars.set(name, value);
            }
        }
        first_admin(&Config::from_vars(&vars))
            .err()
            .unwrap_or_default()
            .iter()
            .map(SecretDefect::to_string)
            .collect()
    }

    #[test]
    fn says_which_secret_is_missing_or_unfit_and_never_its_value() {
        assert!(defects(Some("admin"), Some("a long password")).is_empty());
        assert_eq!(
            defects(None, None),
            [
                "the secret BOOTSTRAP_ADMIN_USERNAME is not set",
                "the secret BOOTSTRAP_ADMIN_PASSWORD is not set",
            ]
        );
        assert_eq!(
            defects(Some("admin"), Some("short-pw")),
            ["the secret BOOTSTRAP_ADMIN_PASSWORD: expected 12 to 128 characters"]
        );
        assert_eq!(defects(Some("administrator"), Some("administrator")).len(), 1);
        assert_eq!(defects(Some("me@example.org"), Some("a long password")).len(), 1);
    }
}

//! The caller of a request. Only verification makes one.

use super::permission::{Permission, Role};
use crate::domain::time::Timestamp;
use std::rc::Rc;

/// Somebody who presented a valid credential. No public constructor: the
/// tenant and what he may do come from a verified access token or API key and
/// nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub(super) tenant_id: String,
    pub(super) id: String,
    pub(super) principal: Principal,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// What kind of caller it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    User { role: Role },
    ApiKey { name: Rc<str>, permissions: Rc<[Permission]> },
}

impl Caller {
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// `usr_…` or `key_…`: the actor of whatever is done, in rows and lines.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The role of a user; an API key has none.
    pub fn role(&self) -> Option<Role> {
        match self.principal {
            Principal::User { role } => Some(role),
            Principal::ApiKey { .. } => None,
        }
    }

    pub fn permissions(&self) -> &[Permission] {
        match &self.principal {
            Principal::User { role } => role.permissions(),
            Principal::ApiKey { permissions, .. } => permissions,
        }
    }

    pub fn may(&self, permission: Permission) -> bool {
        self.permissions().contains(&permission)
    }

    /// When the credential was issued, or an API key was last seen to be
    /// good: what was withdrawn since is refused.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }
}

/// Why a credential was refused; for the log, the client just hears "not
/// valid".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidToken {
    TooLong,
    Malformed,
    WrongType,
    UnknownKey,
    BadSignature,
    Expired,
    NotYetValid,
    WrongIssuerOrAudience,
    BadClaims,
    Revoked,
    /// This Worker has no usable signing key, so no token can be valid.
    NoKey,
}

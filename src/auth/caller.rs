//! The caller of a request. Only verification makes one.

use super::permission::{Permission, Role};
use crate::domain::time::Timestamp;

/// Somebody who presented a valid access token. No public constructor: the
/// tenant, the user and the role come from a verified token and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub(super) tenant_id: String,
    pub(super) user_id: String,
    pub(super) role: Role,
    pub(super) token_id: String,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl Caller {
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    pub fn role(&self) -> Role {
        self.role
    }

    pub fn may(&self, permission: Permission) -> bool {
        self.role.may(permission)
    }

    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }
}

/// Why a token was refused; for the log, the client just hears "not valid".
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
    /// This Worker has no usable signing key, so no token can be valid.
    NoKey,
}

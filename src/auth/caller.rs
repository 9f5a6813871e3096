//! The caller of a request. Only verification makes one.

use super::permission::{Permission, Role};
use super::token::{Keys, KeysDefect};
use crate::config::Config;
use crate::domain::time::Timestamp;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;

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

/// Tokens remembered per isolate. An Ed25519 verification costs as much as a
/// whole request, so a verified token is kept, by hash, until it expires.
const CACHE_CAPACITY: usize = 1_024;

pub struct Verifier {
    keys: Result<Keys, KeysDefect>,
    verified: RefCell<HashMap<[u8; 32], Caller>>,
}

impl Verifier {
    pub fn new(config: &Config) -> Self {
        Self { keys: Keys::from_config(config), verified: RefCell::default() }
    }

    /// The keys, or what is wrong with the configured ones.
    pub fn keys(&self) -> Result<&Keys, &KeysDefect> {
        self.keys.as_ref()
    }

    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Caller, InvalidToken> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(caller) = self.verified.borrow().get(&hash) {
            return if caller.expires_at > now {
                Ok(caller.clone())
            } else {
                Err(InvalidToken::Expired)
            };
        }
        let keys = self.keys.as_ref().map_err(|_| InvalidToken::NoKey)?;
        let caller = keys.verify(token, now)?;
        let mut verified = self.verified.borrow_mut();
        if verified.len() >= CACHE_CAPACITY {
            verified.retain(|_, kept| kept.expires_at > now);
        }
        if verified.len() >= CACHE_CAPACITY {
            // Still full of live tokens: start over rather than grow.
            verified.clear();
        }
        verified.insert(hash, caller.clone());
        Ok(caller)
    }
}

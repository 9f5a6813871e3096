//! Verification of access tokens, with what an isolate remembers of it.

use super::caller::{Caller, InvalidToken};
use super::token::{Keys, KeysDefect};
use crate::config::Config;
use crate::domain::time::Timestamp;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::collections::HashMap;

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

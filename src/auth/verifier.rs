//! Verification of access tokens and API keys, with what an isolate remembers
//! of it.

use super::api_key::ApiKey;
use super::caller::{Caller, InvalidToken, Principal};
use super::permission::Permission;
use super::token::{Keys, KeysDefect};
use crate::config::Config;
use crate::domain::time::{MINUTE_MS, SECOND_MS, Timestamp};
use crate::platform::{Error, Platform};
use crate::store::api_keys;
use lru::LruCache;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::num::NonZeroUsize;

/// Credentials remembered per isolate, of each kind. An Ed25519 verification
/// costs as much as a whole request and an API key a query, so a verified one
/// is kept, by hash.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// An API key is looked up again after this time. One that is revoked stops
/// within the second that a board may be kept; should the board be out of
/// reach, then within this time.
const API_KEY_KEPT_MS: i64 = 30 * SECOND_MS;

/// The use of an API key is noted at most so often.
const USE_NOTED_MS: i64 = MINUTE_MS;

pub struct Verifier {
    keys: Result<Keys, KeysDefect>,
    tokens: RefCell<LruCache<[u8; 32], Caller>>,
    api_keys: RefCell<LruCache<[u8; 32], Caller>>,
}

impl Verifier {
    pub fn new(config: &Config) -> Self {
        Self {
            keys: Keys::from_config(config),
            tokens: RefCell::new(LruCache::new(CAPACITY)),
            api_keys: RefCell::new(LruCache::new(CAPACITY)),
        }
    }

    /// The keys, or what is wrong with the configured ones.
    pub fn keys(&self) -> Result<&Keys, &KeysDefect> {
        self.keys.as_ref()
    }

    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Caller, InvalidToken> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(caller) = self.tokens.borrow_mut().get(&hash) {
            return if caller.expires_at > now {
                Ok(caller.clone())
            } else {
                Err(InvalidToken::Expired)
            };
        }
        let keys = self.keys.as_ref().map_err(|_| InvalidToken::NoKey)?;
        let caller = keys.verify(token, now)?;
        self.tokens.borrow_mut().put(hash, caller.clone());
        Ok(caller)
    }

    /// The caller of an API key that was verified here a moment ago.
    pub fn known_api_key(&self, text: &str, now: Timestamp) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(text).into();
        let mut known = self.api_keys.borrow_mut();
        let caller = known.get(&hash)?;
        let fresh = (0..API_KEY_KEPT_MS).contains(&now.since_ms(caller.issued_at));
        (fresh && caller.expires_at > now).then(|| caller.clone())
    }

    /// Looks an API key up. The outer error is that of the database.
    pub async fn verify_api_key(
        &self,
        platform: &Platform,
        text: &str,
        now: Timestamp,
    ) -> Result<Result<Caller, InvalidToken>, Error> {
        let Some(key) = ApiKey::parse(text) else { return Ok(Err(InvalidToken::Malformed)) };
        let Some(row) = api_keys::find_by_prefix(&platform.database, key.prefix()).await? else {
            return Ok(Err(InvalidToken::UnknownKey));
        };
        // Of two hashes; how far they agree says nothing about the secret.
        if row.secret_hash != key.hash() {
            return Ok(Err(InvalidToken::BadSignature));
        }
        if row.revoked_at.is_some() {
            return Ok(Err(InvalidToken::Revoked));
        }
        if row.expires_at <= now {
            return Ok(Err(InvalidToken::Expired));
        }
        if row.last_used_at.is_none_or(|last| now.since_ms(last) >= USE_NOTED_MS) {
            let noted = api_keys::note_use(&platform.database, &row, now, USE_NOTED_MS).await;
            if let Err(error) = noted {
                let what = "use of an API key not noted";
                crate::log::warn(&platform.log, now, "devskyy.auth", what, &error.to_string());
            }
        }
        let permissions = row.permissions.iter().filter_map(|name| Permission::parse(name));
        let caller = Caller {
            tenant_id: row.tenant_id,
            id: row.id,
            principal: Principal::ApiKey {
                name: row.name.into(),
                permissions: permissions.collect(),
            },
            issued_at: now,
            expires_at: row.expires_at,
        };
        let hash: [u8; 32] = Sha256::digest(text).into();
        self.api_keys.borrow_mut().put(hash, caller.clone());
        Ok(Ok(caller))
    }

    /// Forgets an API key, by id: it was changed here.
    pub fn forget_api_key(&self, id: &str) {
        let mut known = self.api_keys.borrow_mut();
        let hashes: Vec<[u8; 32]> =
            known.iter().filter(|(_, caller)| caller.id == id).map(|(hash, _)| *hash).collect();
        for hash in hashes {
            known.pop(&hash);
        }
    }
}

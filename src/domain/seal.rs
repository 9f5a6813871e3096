//! Secrets at rest: AES-256-GCM under a key that only the deployment has.
//! What is sealed for one row opens for that row alone.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// GCM's own: 96 bits. Random ones may collide after 2^32 secrets of one key.
pub const NONCE_BYTES: usize = 12;
const KEY_BYTES: usize = 32;

const KEY_LABEL: &[u8] = b"devskyy-orchestration/channel-secrets/v1";

/// Seals and opens. Not `Debug`: it holds the key.
pub struct Seal(Aes256Gcm);

impl Seal {
    /// From 32 bytes in base64. They are not used as they are, so that another
    /// use of the same variable could not meet this one.
    ///
    /// # Errors
    /// What is wrong with the text; never the text.
    pub fn new(key: &str) -> Result<Self, &'static str> {
        let bytes = STANDARD.decode(key.trim()).map_err(|_| "is not base64")?;
        if bytes.len() != KEY_BYTES {
            return Err("is not of 32 bytes");
        }
        let mut derived =
            <Hmac<Sha256> as Mac>::new_from_slice(&bytes).map_err(|_| "cannot be used as a key")?;
        derived.update(KEY_LABEL);
        let cipher = Aes256Gcm::new_from_slice(&derived.finalize().into_bytes());
        cipher.map(Self).map_err(|_| "cannot be used as a key")
    }

    /// Nonce and ciphertext in base64. `nonce` must be fresh; `owner` names
    /// the row.
    pub fn seal(&self, nonce: [u8; NONCE_BYTES], owner: &str, secret: &str) -> Option<String> {
        let payload = Payload { msg: secret.as_bytes(), aad: owner.as_bytes() };
        let sealed = self.0.encrypt(Nonce::from_slice(&nonce), payload).ok()?;
        Some(STANDARD.encode([&nonce[..], &sealed].concat()))
    }

    /// `None`: sealed for another row or under another key, or changed since.
    pub fn open(&self, owner: &str, sealed: &str) -> Option<String> {
        let bytes = STANDARD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: sealed, aad: owner.as_bytes() };
        let secret = self.0.decrypt(Nonce::from_slice(nonce), payload).ok()?;
        String::from_utf8(secret).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn opens_for_its_row_and_key_alone() {
        let seal = Seal::new(KEY).unwrap();
        let sealed = seal.seal([7; 12], "ten_1/chn_1", "whsec_secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_eq!(seal.open("ten_1/chn_1", &sealed).as_deref(), Some("whsec_secret"));
        assert_eq!(seal.open("ten_1/chn_2", &sealed), None);
        let other = Seal::new(&STANDARD.encode([9; 32])).unwrap();
        assert_eq!(other.open("ten_1/chn_1", &sealed), None);
        assert_ne!(seal.seal([8; 12], "ten_1/chn_1", "whsec_secret").unwrap(), sealed);
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for bad in ["", "AAEC", "not base64!", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 33])]
        {
            assert!(Seal::new(bad).is_err(), "{bad}");
        }
        assert!(Seal::new(&format!(" {KEY}\n")).is_ok(), "as a file may hold it");
    }

    proptest! {
        #[test]
        fn whatever_is_changed_does_not_open(secret in ".{0,80}", at in 0_usize..200, bit in 0_u8..8) {
            let seal = Seal::new(KEY).unwrap();
            let sealed = seal.seal([3; 12], "owner", &secret).unwrap();
            prop_assert_eq!(seal.open("owner", &sealed), Some(secret));
            let mut bytes = STANDARD.decode(&sealed).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(seal.open("owner", &STANDARD.encode(&bytes)), None);
        }
    }
}

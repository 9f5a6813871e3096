//! API keys: `dsk_` + prefix + secret. The prefix is public and finds the
//! row; of the secret, 256 random bits, only a hash is kept.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

pub const START: &str = "dsk_";

/// Random bytes that become the prefix, five bits a character.
pub const PREFIX_BYTES: usize = 10;

/// `dsk_`, ten characters, `_`, 32 bytes in base64url.
const LENGTH: usize = START.len() + PREFIX_BYTES + 1 + 43;

/// Without `i`, `l`, `o` and `u`, which are misread or make words.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A key, whole. It exists while it is made or verified and nowhere else.
pub struct ApiKey {
    text: String,
}

impl ApiKey {
    pub fn make(prefix: &[u8; PREFIX_BYTES], secret: &[u8; 32]) -> Self {
        let letter = |byte: &u8| ALPHABET.get(usize::from(byte & 31)).copied().unwrap_or(b'0');
        let prefix: String = prefix.iter().map(|byte| char::from(letter(byte))).collect();
        Self { text: format!("{START}{prefix}_{}", URL_SAFE_NO_PAD.encode(secret)) }
    }

    /// The key of this prefix (`dsk_` and ten characters) and secret.
    pub fn of(prefix: &str, secret: &[u8; 32]) -> Option<Self> {
        Self::parse(&format!("{prefix}_{}", URL_SAFE_NO_PAD.encode(secret)))
    }

    /// The key in a header; `None` for anything that cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, secret) = text.strip_prefix(START)?.split_at_checked(PREFIX_BYTES)?;
        let secret = secret.strip_prefix('_')?;
        let fits = text.len() == LENGTH
            && prefix.bytes().all(|byte| ALPHABET.contains(&byte))
            && URL_SAFE_NO_PAD.decode(secret).is_ok_and(|secret| secret.len() == 32);
        fits.then(|| Self { text: text.to_owned() })
    }

    /// The part that may be shown: `dsk_` and ten characters.
    pub fn prefix(&self) -> &str {
        self.text.get(..START.len() + PREFIX_BYTES).unwrap_or_default()
    }

    /// What is stored. The secret has 256 bits of its own, so a fast hash
    /// without salt cannot be searched.
    pub fn hash(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.text))
    }

    /// The whole, for the one reply that hands it out.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let key = ApiKey::make(&[0, 1, 2, 31, 32, 255, 7, 8, 9, 10], &[7; 32]);
        assert_eq!(key.prefix(), "dsk_012z0z789a");
        assert_eq!(key.expose().len(), LENGTH);
        let read = ApiKey::parse(key.expose()).unwrap();
        assert_eq!((read.prefix(), read.hash()), (key.prefix(), key.hash()));
        assert_ne!(key.hash(), ApiKey::make(&[0; 10], &[7; 32]).hash(), "the prefix is in it");
    }

    #[test]
    fn anything_else_is_none() {
        let good = ApiKey::make(&[3; 10], &[7; 32]).expose().to_owned();
        for bad in [
            "",
            "dsk_",
            "dsk_é23456789_",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}A"),
            &good.replace("dsk_", "DSK_"),
            &good.replacen('3', "u", 1),
            &format!("{}=", &good[..good.len() - 1]),
        ] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }
}

//! Passwords: Argon2id at the minimum OWASP recommends, and what a password
//! must be.

use crate::domain::validation::FieldError;
use crate::platform::{Error, ErrorKind};
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use std::ops::RangeInclusive;

pub const MEMORY_KIB: u32 = 19 * 1024;
pub const PASSES: u32 = 2;
pub const LANES: u32 = 1;

pub const SALT_BYTES: usize = 16;

/// Length of a new password, in characters.
pub const LENGTH: RangeInclusive<usize> = 12..=128;

/// A password to verify may not be longer than this, in bytes: hashing it
/// costs time before anything is known about its sender. 128 characters are
/// at most 512 bytes.
pub const MAX_BYTES: usize = 1_024;

/// The hash of no password: what an unknown user's password is compared with.
/// Same parameters, so it costs the same.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdC4$\
                      AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn argon2() -> Result<Argon2<'static>, Error> {
    let parameters = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(defect)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters))
}

fn defect(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Misuse, format!("argon2: {error}"))
}

/// The PHC string to store. Takes about 35 ms of CPU on a Worker.
pub fn hash(password: &str, salt: &[u8; SALT_BYTES]) -> Result<String, Error> {
    let salt = SaltString::encode_b64(salt).map_err(defect)?;
    let hash = argon2()?.hash_password(password.as_bytes(), &salt).map_err(defect)?;
    Ok(hash.to_string())
}

/// Whether this is the password behind the hash. Without a hash (an unknown
/// user) it does the same work and says no, so that the time it takes tells
/// nobody who exists.
pub fn verify(password: &str, hash: Option<&str>) -> bool {
    let (Ok(argon2), Ok(known)) = (argon2(), PasswordHash::new(hash.unwrap_or(NOBODY))) else {
        return false;
    };
    // Evaluated before the test for `Some`: the work must be done.
    let matches = argon2.verify_password(password.as_bytes(), &known).is_ok();
    matches && hash.is_some()
}

/// What is wrong with a new password, if anything. `pointer` is its place in
/// the input.
pub fn check(pointer: &str, password: &str, username: &str) -> Option<FieldError> {
    if !LENGTH.contains(&password.chars().count()) {
        return Some(FieldError::new(
            pointer,
            format!("expected {} to {} characters", LENGTH.start(), LENGTH.end()),
        ));
    }
    if password.to_lowercase() == username.to_lowercase() {
        return Some(FieldError::new(pointer, "must not be the user name"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_with_argon2id_and_verifies() {
        let hash = hash("correct horse battery", &[7; SALT_BYTES]).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(verify("correct horse battery", Some(&hash)));
        assert!(!verify("correct horse batterz", Some(&hash)));
        assert!(!verify("", Some(&hash)));
        let other_salt = super::hash("correct horse battery", &[8; SALT_BYTES]).unwrap();
        assert_ne!(hash, other_salt);
    }

    #[test]
    fn an_unknown_user_costs_the_same_and_never_matches() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let somebody = hash("correct horse battery", &[7; SALT_BYTES]).unwrap();
        let somebody = PasswordHash::new(&somebody).unwrap();
        assert_eq!(nobody.algorithm, somebody.algorithm);
        assert_eq!(nobody.version, somebody.version);
        assert_eq!(nobody.params, somebody.params);
        assert_eq!(nobody.hash.unwrap().len(), somebody.hash.unwrap().len());
        assert!(!verify("correct horse battery", None));
    }

    #[test]
    fn an_unreadable_hash_matches_nothing() {
        assert!(!verify("", Some("")));
        assert!(!verify("x", Some("x")));
    }

    #[test]
    fn passwords_are_long_and_not_the_user_name() {
        let wrong = |password: &str| check("/password", password, "Administrator").is_some();
        assert!(wrong("elevenchars"));
        assert!(wrong(""));
        assert!(wrong(&"x".repeat(129)));
        assert!(wrong("administrator"));
        assert!(!wrong("twelve chars"));
        assert!(!wrong(&"ä".repeat(128)));
        assert!("\u{10FFFF}".repeat(128).len() <= MAX_BYTES);
    }
}

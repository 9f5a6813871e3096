//! Names of things: prefixed UUIDv7 ids, and the slugs people choose.

use super::time::Timestamp;

/// A UUIDv7 (RFC 9562) of this instant from ten random bytes. Missing bytes
/// count as zero: the id stays valid, only less random.
pub fn uuid_v7(now: Timestamp, random: &[u8]) -> String {
    let mut bytes = [0_u8; 10];
    for (target, source) in bytes.iter_mut().zip(random) {
        *target = *source;
    }
    let millis = u64::try_from(now.millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid().to_string()
}

/// What an id of a user looks like, as a regular expression of the document.
pub const USER_ID: &str = "^usr_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// What an id of an API key looks like.
pub const KEY_ID: &str = "^key_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// What an id of an incident looks like.
pub const INCIDENT_ID: &str = "^inc_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// What an id of maintenance looks like.
pub const MAINTENANCE_ID: &str =
    "^mwn_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
/// What an id of a channel looks like.
pub const CHANNEL_ID: &str = "^chn_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// What an id of a delivery looks like.
pub const DELIVERY_ID: &str = "^dlv_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
/// What an id of a decision looks like.
pub const DECISION_ID: &str = "^dec_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// What an id of a backup looks like.
pub const BACKUP_ID: &str = "^bak_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";

/// What [`check_slug`] takes, as a regular expression of the document.
pub const SLUG: &str = "^[a-z][a-z0-9_]{1,63}$";

/// Kinds of rows with an id of their own; the prefix says which kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    Tenant,
    User,
    RefreshToken,
    RefreshFamily,
    Decision,
    Outcome,
    Activity,
    Token,
    ApiKey,
    Incident,
    Notification,
    Channel,
    Maintenance,
    Delivery,
    Backup,
}

impl IdKind {
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Tenant => "ten_",
            Self::User => "usr_",
            Self::RefreshToken => "rft_",
            Self::RefreshFamily => "fam_",
            Self::Decision => "dec_",
            Self::Outcome => "out_",
            Self::Activity => "act_",
            Self::Token => "tok_",
            Self::ApiKey => "key_",
            Self::Incident => "inc_",
            Self::Notification => "ntf_",
            Self::Channel => "chn_",
            Self::Maintenance => "mwn_",
            Self::Delivery => "dlv_",
            Self::Backup => "bak_",
        }
    }

    /// The same id for the same key (a hash), as a UUIDv8.
    pub fn of_key(self, key: &[u8; 32]) -> String {
        let mut bytes = [0_u8; 16];
        for (target, source) in bytes.iter_mut().zip(key) {
            *target = *source;
        }
        format!("{}{}", self.prefix(), uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    pub fn make(self, now: Timestamp, random: &[u8; 10]) -> String {
        format!("{}{}", self.prefix(), uuid_v7(now, random))
    }
}

/// Checks a name that becomes part of a URL: a lower-case letter, then lower
/// case letters, digits and `_`, 2 to 64 characters.
pub fn check_slug(text: &str) -> Result<(), String> {
    let mut bytes = text.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let goes_on_well = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if starts_well && goes_on_well && (2..=64).contains(&text.len()) {
        Ok(())
    } else {
        Err("expected a lower-case letter, then lower-case letters, digits or _, \
             2 to 64 characters in all"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_carry_kind_and_time() {
        let now = Timestamp::parse("2026-01-31T12:00:00Z").unwrap();
        let id = IdKind::User.make(now, &[0xff; 10]);
        assert!(id.starts_with("usr_019c"), "{id}");
        assert_eq!(uuid::Uuid::parse_str(&id[4..]).unwrap().get_version_num(), 7);
    }

    #[test]
    fn slugs_are_safe_in_urls() {
        for good in ["ab", "cursor_technical", "p2"] {
            assert_eq!(check_slug(good), Ok(()), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "a", "1a", "A_b", "a-b", "a/b", "a b", "ä_b", "_ab", &long] {
            assert!(check_slug(bad).is_err(), "{bad}");
        }
    }
}

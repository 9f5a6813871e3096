//! Points in time, as every layer passes them: milliseconds since the Unix
//! epoch, written on the wire as RFC 3339 UTC with milliseconds and `Z`.
//!
//! The domain never asks what time it is; `now` is always a parameter.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub const SECOND_MS: i64 = 1_000;
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// 9999-12-31T23:59:59.999Z, the last instant RFC 3339 can write.
const LATEST_MS: i64 = 253_402_300_799_999;

/// A point in time in milliseconds since 1970-01-01T00:00:00Z, from the year
/// 1970 to the year 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Clamps to the years 1970 to 9999, which is what can be written.
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            Self(0)
        } else if millis > LATEST_MS {
            Self(LATEST_MS)
        } else {
            Self(millis)
        }
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, as JWT and HTTP fields count them.
    pub const fn seconds(self) -> i64 {
        self.0 / SECOND_MS
    }

    /// This instant moved by `delta_ms` (negative: earlier), clamped.
    pub const fn plus_ms(self, delta_ms: i64) -> Self {
        Self::from_millis(self.0.saturating_add(delta_ms))
    }

    /// Milliseconds from `earlier` to `self`; negative if `earlier` is later.
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The start of the bucket of `width_ms` that holds this instant.
    pub const fn floor_to(self, width_ms: i64) -> Self {
        Self(self.0 - self.0 % width_ms)
    }

    /// Reads RFC 3339 with any offset; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parsed = DateTime::parse_from_rfc3339(text)
            .map_err(|_| "expected an RFC 3339 time such as 2026-01-31T12:00:00.000Z".to_owned())?;
        let millis = parsed.timestamp_millis();
        if (0..=LATEST_MS).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err("expected a time from the year 1970 to the year 9999".to_owned())
        }
    }

    pub fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }

    pub fn to_rfc3339(self) -> String {
        self.to_chrono().to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // Readers take what writers never write.
        let (pattern, description) = if generator.contract().is_serialize() {
            (
                r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
                "RFC 3339, UTC, milliseconds",
            )
        } else {
            ("^(19[67]|[2-9])", "RFC 3339, with any offset, of the years 1970 to 9999")
        };
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": pattern,
            "description": description
        })
    }
    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_utc_with_milliseconds_and_reads_any_offset() {
        let at = Timestamp::parse("2026-01-31T13:00:00+01:00").unwrap();
        assert_eq!(at.to_rfc3339(), "2026-01-31T12:00:00.000Z");
        assert_eq!(Timestamp::parse(&at.to_rfc3339()), Ok(at));
    }

    #[test]
    fn refuses_what_is_not_a_time_and_years_it_cannot_write() {
        for bad in ["", "yesterday", "2026-01-31", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z"] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn buckets_start_at_or_before_the_instant() {
        let at = Timestamp::parse("2026-01-31T12:34:56.789Z").unwrap();
        assert_eq!(at.floor_to(HOUR_MS).to_rfc3339(), "2026-01-31T12:00:00.000Z");
        assert_eq!(at.floor_to(DAY_MS).to_rfc3339(), "2026-01-31T00:00:00.000Z");
    }
}

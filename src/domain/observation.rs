//! Observations: one call of a partner, seen by our probes or by a client.

use super::time::{HOUR_MS, SECOND_MS, Timestamp};
use super::verdict::Verdict;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Raw observations are kept this long, and rows this old are still taken.
pub const RAW_RETENTION_MS: i64 = 48 * HOUR_MS;

/// A client's clock may run ahead this far.
pub const MAX_AHEAD_MS: i64 = 60 * SECOND_MS;

/// Rows in one call. 500 rows bound the work of one call to the object to a
/// few milliseconds.
pub const MAX_BATCH_ROWS: usize = 500;

/// One hour; a longer latency is a unit mistake.
const MAX_LATENCY_MS: f64 = 3_600_000.0;

const MAX_SOURCE_CHARS: usize = 64;

/// Who saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// One of our own probes.
    Probe,
    /// A client that pushed it.
    Client,
}

impl Origin {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Client => "client",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Probe, Self::Client].into_iter().find(|origin| origin.name() == name)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    pub at: Timestamp,
    pub verdict: Verdict,
    /// Time to the response headers.
    pub latency_ms: Option<f64>,
    pub origin: Origin,
    /// Key of the probe, or what the client calls itself.
    pub source: String,
}

/// One row as a client pushes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ObservationIn {
    /// When the call was made: at most 48 hours ago, at most 60 s ahead.
    pub at: Timestamp,
    #[serde(deserialize_with = "verdict_name")]
    pub outcome: Verdict,
    /// Time to the response headers in milliseconds, 0 to 3,600,000.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = MAX_LATENCY_MS)))]
    #[serde(default)]
    pub latency_ms: Option<f64>,
    /// Who saw it, such as `gateway-eu`: 1 to 64 printable characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = MAX_SOURCE_CHARS), regex(pattern = super::validation::NO_CONTROLS)))]
    pub source: String,
}

/// A verdict by its name alone: serde would also take `{"up": null}`.
fn verdict_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Verdict, D::Error> {
    let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
    Verdict::parse(&name).ok_or_else(|| {
        let names = Verdict::ALL.map(Verdict::name).join(", ");
        de::Error::custom(format!("unknown variant, expected one of {names}"))
    })
}

impl ObservationIn {
    /// Checks the row against the clock.
    ///
    /// # Errors
    /// The reason the row is refused.
    pub fn accept(self, now: Timestamp) -> Result<Observation, String> {
        check_time(self.at, now)?;
        if let Some(latency_ms) = self.latency_ms
            && !(0.0..=MAX_LATENCY_MS).contains(&latency_ms)
        {
            return Err("latency_ms: expected milliseconds from 0 to 3600000".to_owned());
        }
        let chars = self.source.chars().count();
        if chars == 0 || chars > MAX_SOURCE_CHARS || self.source.chars().any(char::is_control) {
            return Err("source: expected 1 to 64 printable characters".to_owned());
        }
        Ok(Observation {
            at: self.at,
            verdict: self.outcome,
            latency_ms: self.latency_ms,
            origin: Origin::Client,
            source: self.source,
        })
    }
}

/// Whether a measurement of this time can still be taken.
///
/// # Errors
/// The reason it cannot.
pub fn check_time(at: Timestamp, now: Timestamp) -> Result<(), String> {
    if at.since_ms(now) > MAX_AHEAD_MS {
        Err(format!("at: more than 60 s ahead of {now}"))
    } else if now.since_ms(at) > RAW_RETENTION_MS {
        Err(format!("at: more than 48 hours before {now}"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn row() -> ObservationIn {
        ObservationIn {
            at: NOW,
            outcome: Verdict::Up,
            latency_ms: Some(12.5),
            source: "gateway".to_owned(),
        }
    }

    #[test]
    fn takes_rows_within_the_window_and_says_why_not() {
        assert!(row().accept(NOW).is_ok());
        for (at_ms, ok) in [
            (MAX_AHEAD_MS, true),
            (MAX_AHEAD_MS + 1, false),
            (-RAW_RETENTION_MS, true),
            (-RAW_RETENTION_MS - 1, false),
        ] {
            let outcome = ObservationIn { at: NOW.plus_ms(at_ms), ..row() }.accept(NOW);
            assert_eq!(outcome.is_ok(), ok, "{at_ms}");
        }
        for latency_ms in [-1.0, f64::NAN, f64::INFINITY, 3_600_000.1] {
            let refused = ObservationIn { latency_ms: Some(latency_ms), ..row() }.accept(NOW);
            assert!(refused.unwrap_err().starts_with("latency_ms"), "{latency_ms}");
        }
        for source in ["", "a\nb", &"x".repeat(65)] {
            let refused = ObservationIn { source: source.to_owned(), ..row() }.accept(NOW);
            assert!(refused.unwrap_err().starts_with("source"), "{source:?}");
        }
    }
}

//! What one observation says of a partner, and what the latest ones say.

use super::time::{MINUTE_MS, Timestamp};
use serde::{Deserialize, Serialize};

/// What one observation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Answered as it should.
    Up,
    /// Answered, but too slowly or only in part.
    Degraded,
    /// Did not answer, or answered with a server error.
    Down,
    /// Answered 429: we asked too often.
    Throttled,
    /// Our paid quota with the partner is used up.
    QuotaExhausted,
    /// The partner refused our credential (401 or 403 on an authenticated call).
    Credential,
    /// Nothing outside could be reached from here: says nothing of the partner.
    UnreachableFromUs,
    /// The probe itself is wrong.
    ProbeInvalid,
    /// Nothing can be said.
    Unknown,
}

/// What a verdict does to availability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Good,
    Bad,
    /// Says nothing of the partner's availability.
    Neutral,
}

impl Verdict {
    pub const ALL: [Self; 9] = [
        Self::Up,
        Self::Degraded,
        Self::Down,
        Self::Throttled,
        Self::QuotaExhausted,
        Self::Credential,
        Self::UnreachableFromUs,
        Self::ProbeInvalid,
        Self::Unknown,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Throttled => "throttled",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Credential => "credential",
            Self::UnreachableFromUs => "unreachable_from_us",
            Self::ProbeInvalid => "probe_invalid",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }

    /// Only `down` burns the partner's availability, and `degraded` where the
    /// partnership's policy says so.
    pub const fn class(self, degraded_counts_as_bad: bool) -> Class {
        match self {
            Self::Up => Class::Good,
            Self::Degraded if degraded_counts_as_bad => Class::Bad,
            Self::Degraded => Class::Good,
            Self::Down => Class::Bad,
            _ => Class::Neutral,
        }
    }

    /// True where the partner was asked and the outcome is about the call:
    /// what `success_rate` is a share of.
    pub const fn is_attempt(self) -> bool {
        matches!(
            self,
            Self::Up
                | Self::Degraded
                | Self::Down
                | Self::Throttled
                | Self::QuotaExhausted
                | Self::Credential
        )
    }

    /// True where the call was served, so that its latency is that of service
    /// and not that of a failure.
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Up | Self::Degraded)
    }
}

/// The verdict of an unauthenticated probe that got an HTTP answer. Any
/// answer below 500 means reachable: the probe presents no credential, so 401
/// is what a healthy API host says.
pub fn of_answer(status: u16, latency_ms: f64, degraded_above_ms: Option<f64>) -> Verdict {
    match status {
        429 => Verdict::Throttled,
        500.. => Verdict::Down,
        _ if degraded_above_ms.is_some_and(|limit| latency_ms > limit) => Verdict::Degraded,
        _ => Verdict::Up,
    }
}

/// How old the latest observation may be for "now" to mean anything: ten
/// missed ticks.
pub const FRESH_MS: i64 = 10 * MINUTE_MS;

/// The last observations of a partnership, the newest first: all that the
/// current verdict is made from.
pub const RECENT: usize = 2;

/// What the newest observations say of the partner now.
///
/// One lost packet is no outage: a single `down` after an observation that was
/// good reads `degraded`; two in a row, or one with nothing before it, read
/// `down`. With no observation in the last ten minutes: `unknown`.
pub fn current(newest_first: &[(Timestamp, Verdict)], now: Timestamp) -> Verdict {
    let mut fresh = newest_first.iter().filter(|(at, _)| now.since_ms(*at) <= FRESH_MS);
    let Some((_, newest)) = fresh.next() else {
        return Verdict::Unknown;
    };
    match (newest, fresh.next()) {
        (Verdict::Down, Some((_, before))) if before.is_served() => Verdict::Degraded,
        (verdict, _) => *verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    #[track_caller]
    fn check(ages_and_verdicts: &[(i64, Verdict)], expected: Verdict) {
        let recent: Vec<_> =
            ages_and_verdicts.iter().map(|(age_ms, v)| (NOW.plus_ms(-age_ms), *v)).collect();
        assert_eq!(current(&recent, NOW), expected, "{ages_and_verdicts:?}");
    }

    #[test]
    fn one_failure_after_a_success_is_not_an_outage() {
        use Verdict::*;
        check(&[], Unknown);
        check(&[(0, Up)], Up);
        check(&[(0, Down), (60_000, Up)], Degraded);
        check(&[(0, Down), (60_000, Down)], Down);
        check(&[(0, Down)], Down);
        check(&[(0, Down), (FRESH_MS + 1, Up)], Down);
        check(&[(0, Up), (60_000, Down)], Up);
        check(&[(0, Throttled), (60_000, Up)], Throttled);
        check(&[(0, Down), (60_000, UnreachableFromUs)], Down);
        check(&[(FRESH_MS, Up)], Up);
        check(&[(FRESH_MS + 1, Up)], Unknown);
    }

    #[test]
    fn any_answer_below_500_is_reachable() {
        for (status, latency_ms, limit, expected) in [
            (200, 10.0, None, Verdict::Up),
            (301, 10.0, None, Verdict::Up),
            (401, 10.0, None, Verdict::Up),
            (404, 10.0, Some(10.0), Verdict::Up),
            (200, 10.1, Some(10.0), Verdict::Degraded),
            (429, 10.0, None, Verdict::Throttled),
            (500, 10.0, None, Verdict::Down),
            (503, 99.0, Some(10.0), Verdict::Down),
        ] {
            assert_eq!(of_answer(status, latency_ms, limit), expected, "{status} {latency_ms}");
        }
    }

    #[test]
    fn only_down_burns_availability() {
        for verdict in Verdict::ALL {
            let burns = verdict.class(false) == Class::Bad;
            assert_eq!(burns, verdict == Verdict::Down, "{verdict:?}");
            assert_eq!(Verdict::parse(verdict.name()), Some(verdict));
        }
        assert_eq!(Verdict::Degraded.class(true), Class::Bad);
    }
}

//! Time frames as people write them, and how much of one is left.

use crate::domain::time::{DAY_MS, Timestamp};

/// The longest time frame, in days: ten years.
const MAX_DAYS: i64 = 3_650;

/// More than any form needs.
pub const MAX_CHARS: usize = 100;

/// What [`parse`] may take, as a regular expression of the document. Whether
/// the frame is over or too long is not for a pattern to say.
#[cfg(not(target_arch = "wasm32"))]
pub const PATTERN: &str = "^(Q[1-4]_[0-9]{1,5}|[0-9]{1,5}_days?|\
     [0-9]{4}-[^/]{5,80}/(P[0-9]{1,5}[DW]|[0-9]{4}-[^/]{5,80}))$";

const EXPECTED: &str = "expected a quarter (Q1_2026), a number of days (30_days) or an ISO 8601 \
                        interval (2026-01-01/2026-03-31, 2026-01-01/P90D)";

/// What remains of a time frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeframe {
    /// The start of the frame, or now where that has passed.
    pub from: Timestamp,
    /// The first instant after it.
    pub end: Timestamp,
}

impl Timeframe {
    /// Days from `from` to the end, above 0.
    pub fn days(&self) -> f64 {
        // To the minute: milliseconds of a clock are no part of a plan.
        let minutes = self.end.since_ms(self.from) / 60_000;
        (minutes as f64 / 1_440.0 * 1e4).round() / 1e4
    }

    /// The last day, `YYYY-MM-DD` in UTC.
    pub fn last_day(&self) -> String {
        day(self.end.plus_ms(-1))
    }
}

/// `YYYY-MM-DD` in UTC.
fn day(at: Timestamp) -> String {
    at.to_rfc3339().chars().take(10).collect()
}

/// Reads a time frame.
///
/// # Errors
/// Text in no known form, a frame that is over, empty or longer than ten
/// years.
pub fn parse(text: &str, now: Timestamp) -> Result<Timeframe, String> {
    if text.len() > MAX_CHARS {
        return Err(EXPECTED.to_owned());
    }
    let (start, end) = if let Some((quarter, year)) = text.split_once('_')
        && let Some(quarter) = quarter.strip_prefix('Q')
    {
        of_quarter(quarter, year)?
    } else if let Some(days) = text.strip_suffix("_days").or_else(|| text.strip_suffix("_day")) {
        let days: i64 = digits(days).ok_or(EXPECTED)?;
        (now, moved(now, days)?)
    } else if let Some((start, end)) = text.split_once('/') {
        of_interval(start, end)?
    } else {
        return Err(EXPECTED.to_owned());
    };
    if end <= start {
        return Err("the time frame ends before it begins".to_owned());
    }
    if end.since_ms(start) > MAX_DAYS * DAY_MS {
        return Err(format!("a time frame has at most {MAX_DAYS} days"));
    }
    let from = start.max(now);
    if end.since_ms(from) < 60_000 {
        return Err("the time frame is over".to_owned());
    }
    Ok(Timeframe { from, end })
}

fn digits(text: &str) -> Option<i64> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn moved(at: Timestamp, days: i64) -> Result<Timestamp, String> {
    if (1..=MAX_DAYS).contains(&days) {
        Ok(at.plus_ms(days * DAY_MS))
    } else {
        Err(format!("a time frame has 1 to {MAX_DAYS} days"))
    }
}

fn of_quarter(quarter: &str, year: &str) -> Result<(Timestamp, Timestamp), String> {
    let year = digits(year).filter(|year| (1970..=9998).contains(year)).ok_or(EXPECTED)?;
    let (first, after) = match quarter {
        "1" => ((year, 1), (year, 4)),
        "2" => ((year, 4), (year, 7)),
        "3" => ((year, 7), (year, 10)),
        "4" => ((year, 10), (year + 1, 1)),
        _ => return Err(EXPECTED.to_owned()),
    };
    let month =
        |(year, month): (i64, i64)| Timestamp::parse(&format!("{year}-{month:02}-01T00:00:00Z"));
    Ok((month(first)?, month(after)?))
}

/// Start and end as days or instants; the end day counts whole. The end may be
/// a duration of days or weeks.
fn of_interval(start: &str, end: &str) -> Result<(Timestamp, Timestamp), String> {
    let from = instant(start).ok_or(EXPECTED)?;
    if let Some(duration) = end.strip_prefix('P') {
        let days = match (duration.strip_suffix('D'), duration.strip_suffix('W')) {
            (Some(days), _) => digits(days),
            (_, Some(weeks)) => digits(weeks).map(|weeks| weeks * 7),
            _ => None,
        };
        return Ok((from, moved(from, days.ok_or(EXPECTED)?)?));
    }
    let until = instant(end).ok_or(EXPECTED)?;
    let is_day = end.len() == 10;
    Ok((from, if is_day { until.plus_ms(DAY_MS) } else { until }))
}

fn instant(text: &str) -> Option<Timestamp> {
    if text.len() == 10 {
        return Timestamp::parse(&format!("{text}T00:00:00Z")).ok();
    }
    Timestamp::parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        Timestamp::parse("2026-01-31T12:00:00Z").unwrap()
    }

    #[test]
    fn time_frames_as_people_write_them() {
        for (text, days, last_day) in [
            ("Q1_2026", 59.5, "2026-03-31"),
            ("Q4_2026", 92.0, "2026-12-31"),
            ("30_days", 30.0, "2026-03-02"),
            ("1_day", 1.0, "2026-02-01"),
            ("2026-01-01/2026-03-31", 59.5, "2026-03-31"),
            ("2026-02-01/P90D", 90.0, "2026-05-01"),
            ("2026-02-01/P2W", 14.0, "2026-02-14"),
            ("2026-02-01T00:00:00Z/2026-02-01T06:00:00+01:00", 0.2083, "2026-02-01"),
        ] {
            let frame = parse(text, now()).unwrap();
            assert_eq!((frame.days(), frame.last_day().as_str()), (days, last_day), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_left_is_refused() {
        for (text, said) in [
            ("Q5_2026", "expected"),
            ("Q1_26", "expected"),
            ("soon", "expected"),
            ("0_days", "1 to 3650"),
            ("4000_days", "1 to 3650"),
            ("-5_days", "expected"),
            ("2026-13-01/2026-14-01", "expected"),
            ("2026-01-01/PT1H", "expected"),
            ("Q4_2025", "is over"),
            ("2026-05-01/2026-03-01", "before it begins"),
            ("2026-01-01/2046-03-01", "at most"),
        ] {
            let error = parse(text, now()).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse(&text, now());
        }

        #[test]
        fn what_is_read_lies_ahead(text in "Q[1-4]_20[0-9]{2}|[0-9]{1,4}_days|20[0-9]{2}-0[1-9]-1[0-9]/P[0-9]{1,3}[DW]") {
            if let Ok(frame) = parse(&text, now()) {
                prop_assert!(frame.from >= now() && frame.days() > 0.0);
            }
        }
    }
}

//! Maintenance windows: when a partner has said that he will be away. What is
//! observed then is kept and shown, and counts against no budget.
//!
//! An observation is marked when it is stored, so a window cannot begin in the
//! past: history is not rewritten.

use super::time::{DAY_MS, MINUTE_MS, Timestamp};
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// Longest window that repeats, in minutes: a day.
pub const MAX_WEEKLY_MINUTES: u32 = 1_440;

/// Longest window that happens once.
pub const MAX_ONCE_MS: i64 = 14 * DAY_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Day {
    const fn weekday(self) -> Weekday {
        match self {
            Self::Monday => Weekday::Monday,
            Self::Tuesday => Weekday::Tuesday,
            Self::Wednesday => Weekday::Wednesday,
            Self::Thursday => Weekday::Thursday,
            Self::Friday => Weekday::Friday,
            Self::Saturday => Weekday::Saturday,
            Self::Sunday => Weekday::Sunday,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaintenanceWindow {
    /// `mwn_…`
    pub id: String,
    pub name: String,
    pub schedule: MaintenanceSchedule,
    pub created_at: Timestamp,
    pub created_by: String,
}

/// When it is. A tag inside, as it stands in requests and replies too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MaintenanceSchedule {
    /// From one instant to another, at most 14 days.
    Once { starts_at: Timestamp, ends_at: Timestamp },
    /// On these days of every week, by the clock of a place.
    Weekly {
        days: Vec<Day>,
        /// `HH:MM`, local.
        start: String,
        /// 1 to 1,440.
        minutes: u32,
        /// A name of the IANA time zone database, such as `Europe/Berlin`.
        time_zone: String,
    },
}

/// `HH:MM` of a day.
pub const CLOCK: &str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

/// # Errors
/// Text that is no time of day.
pub fn parse_clock(text: &str) -> Result<Time, String> {
    let number = |part: &str| {
        let is_plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i8>().ok().filter(|_| is_plain)
    };
    let parsed = text
        .split_once(':')
        .and_then(|(hour, minute)| Time::new(number(hour)?, number(minute)?, 0, 0).ok());
    parsed.ok_or_else(|| "expected a time of day such as 02:30".to_owned())
}

/// # Errors
/// A name that is not in the IANA time zone database.
pub fn parse_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| {
        "expected a name of the IANA time zone database, such as Europe/Berlin or UTC".to_owned()
    })
}

impl MaintenanceWindow {
    /// When the stretch that holds `at` ends; `None` outside of the window.
    pub fn active_until(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.schedule {
            MaintenanceSchedule::Once { starts_at, ends_at } => {
                (*starts_at <= at && at < *ends_at).then_some(*ends_at)
            }
            MaintenanceSchedule::Weekly { days, start, minutes, time_zone } => {
                // Checked when it was stored; what cannot be read is no window.
                let zone = parse_zone(time_zone).ok()?;
                let start = parse_clock(start).ok()?;
                let today = jiff::Timestamp::from_millisecond(at.millis()).ok()?;
                let today = zone.to_datetime(today).date();
                // It may have begun yesterday, and last over midnight.
                let begun = [today.yesterday().ok(), Some(today)].into_iter().flatten();
                begun
                    .filter(|date| days.iter().any(|day| day.weekday() == date.weekday()))
                    .filter_map(|date| instant(&zone, date, start))
                    .map(|from| (from, from.plus_ms(i64::from(*minutes) * MINUTE_MS)))
                    .find(|(from, until)| *from <= at && at < *until)
                    .map(|(_, until)| until)
            }
        }
    }

    /// Whether nothing of it can still come.
    pub fn is_over(&self, now: Timestamp) -> bool {
        match &self.schedule {
            MaintenanceSchedule::Once { ends_at, .. } => *ends_at <= now,
            MaintenanceSchedule::Weekly { .. } => false,
        }
    }
}

/// The instant of a local time. In the hour that a clock change repeats it is
/// the first of the two; in the hour that one leaves out, as much later as the
/// clock was moved (RFC 5545, 3.3.5).
fn instant(zone: &TimeZone, date: Date, start: Time) -> Option<Timestamp> {
    let at = zone.to_timestamp(date.to_datetime(start)).ok()?;
    Some(Timestamp::from_millis(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn weekly(days: &[Day], start: &str, minutes: u32, time_zone: &str) -> MaintenanceWindow {
        window(MaintenanceSchedule::Weekly {
            days: days.to_vec(),
            start: start.to_owned(),
            minutes,
            time_zone: time_zone.to_owned(),
        })
    }

    fn window(schedule: MaintenanceSchedule) -> MaintenanceWindow {
        MaintenanceWindow {
            id: "mwn_1".to_owned(),
            name: "patching".to_owned(),
            schedule,
            created_at: Timestamp::default(),
            created_by: "usr_1".to_owned(),
        }
    }

    #[test]
    fn once_is_half_open() {
        let (starts_at, ends_at) = (at("2026-03-01T02:00:00Z"), at("2026-03-01T03:00:00Z"));
        let window = window(MaintenanceSchedule::Once { starts_at, ends_at });
        assert_eq!(window.active_until(starts_at), Some(ends_at));
        assert_eq!(window.active_until(ends_at.plus_ms(-1)), Some(ends_at));
        assert_eq!(window.active_until(ends_at), None);
        assert_eq!(window.active_until(starts_at.plus_ms(-1)), None);
        assert!(window.is_over(ends_at) && !window.is_over(starts_at));
    }

    #[test]
    fn weekly_follows_the_local_clock_through_the_year() {
        // Sundays 02:30 in Berlin: 01:30 UTC in winter, 00:30 in summer.
        let window = weekly(&[Day::Sunday], "02:30", 60, "Europe/Berlin");
        assert_eq!(
            window.active_until(at("2026-01-04T01:30:00Z")),
            Some(at("2026-01-04T02:30:00Z"))
        );
        assert_eq!(window.active_until(at("2026-01-04T01:29:59Z")), None);
        assert_eq!(
            window.active_until(at("2026-07-05T00:30:00Z")),
            Some(at("2026-07-05T01:30:00Z"))
        );
        assert_eq!(window.active_until(at("2026-07-05T01:30:00Z")), None);
        // A Monday.
        assert_eq!(window.active_until(at("2026-01-05T01:45:00Z")), None);
        // 2026-03-29, 02:00 becomes 03:00: 02:30 is 03:30 then.
        assert_eq!(
            window.active_until(at("2026-03-29T01:30:00Z")),
            Some(at("2026-03-29T02:30:00Z"))
        );
        assert_eq!(window.active_until(at("2026-03-29T01:29:59Z")), None);
        // 2026-10-25, 03:00 becomes 02:00: the first 02:30, 00:30 UTC.
        assert_eq!(
            window.active_until(at("2026-10-25T00:30:00Z")),
            Some(at("2026-10-25T01:30:00Z"))
        );
        assert_eq!(window.active_until(at("2026-10-25T01:30:00Z")), None);
    }

    #[test]
    fn it_may_last_over_midnight_and_over_the_week() {
        let window = weekly(&[Day::Sunday], "23:00", 120, "UTC");
        assert_eq!(
            window.active_until(at("2026-01-04T23:00:00Z")),
            Some(at("2026-01-05T01:00:00Z"))
        );
        assert_eq!(
            window.active_until(at("2026-01-05T00:59:59Z")),
            Some(at("2026-01-05T01:00:00Z"))
        );
        assert_eq!(window.active_until(at("2026-01-05T01:00:00Z")), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in ["2:30", "24:00", "02:60", "02:30:00", "", "+2:30"] {
            assert!(parse_clock(bad).is_err(), "{bad}");
        }
        for bad in ["Mars/Olympus", "", "+02:00", "europe berlin"] {
            assert!(parse_zone(bad).is_err(), "{bad}");
        }
        assert!(parse_zone("UTC").is_ok() && parse_zone("America/New_York").is_ok());
    }

    proptest! {
        /// A window of every day of the week that lasts a day never ends,
        /// whatever the place, but for the hour that a clock change adds.
        #[test]
        fn seven_days_of_a_day_cover_the_week(minute in 0_i64..525_600, zone in 0..4_usize) {
            let zone = ["UTC", "Asia/Tokyo", "Asia/Kolkata", "America/Bogota"][zone];
            let all = [Day::Monday, Day::Tuesday, Day::Wednesday, Day::Thursday, Day::Friday, Day::Saturday, Day::Sunday];
            let window = weekly(&all, "11:17", 1_440, zone);
            let at = at("2026-01-01T00:00:00Z").plus_ms(minute * MINUTE_MS);
            prop_assert!(window.active_until(at).is_some());
        }
    }
}

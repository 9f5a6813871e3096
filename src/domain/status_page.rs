//! What a partner says of himself: his status page in the Statuspage v2 form.
//!
//! It is a second source beside our own probes, never a substitute for them.
//! A page that failed to load, or was loaded too long ago, says `unknown`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::time::Timestamp;

/// Longest text kept of a page, in characters: it is shown, never parsed.
const MAX_TEXT_CHARS: usize = 200;

/// `status.indicator` of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Indicator {
    /// The partner reports no trouble.
    None,
    Minor,
    Major,
    Critical,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReadingState {
    Ok,
    /// Was read, but too long ago.
    Stale,
    /// Could not be fetched or understood.
    Failed,
    /// Nobody has tried yet.
    NotRun,
}

/// One reading of a status page. Whatever the page does not say is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct StatusPageReading {
    pub indicator: Indicator,
    /// The partner's own words, at most 200 characters.
    pub description: Option<String>,
    /// When the partner last changed the page. Old is normal: a page changes
    /// only when something happens.
    pub page_updated_at: Option<Timestamp>,
    /// Components that are not `operational` (maintenance included); a group
    /// is not counted beside its members.
    pub components_affected: Option<u32>,
    /// Incidents that are not resolved. Null where the page lists none at all,
    /// as the compatible pages of other makers do.
    pub open_incidents: Option<u32>,
    pub state: ReadingState,
    /// Why the state is not `ok`, at most 200 characters.
    pub reason: Option<String>,
    pub fetched_at: Option<Timestamp>,
}

impl StatusPageReading {
    /// Before the first fetch.
    pub fn not_run() -> Self {
        Self::unknown(ReadingState::NotRun, "the page has not been read yet", None)
    }

    /// A fetch that gave no page, for the reason given.
    pub fn failed(reason: &str, fetched_at: Timestamp) -> Self {
        Self::unknown(ReadingState::Failed, reason, Some(fetched_at))
    }

    /// This reading as it stands at `now`: one fetched more than
    /// `stale_after_ms` ago no longer says how the partner is. The page's own
    /// `page_updated_at` plays no part.
    pub fn at(&self, now: Timestamp, stale_after_ms: i64) -> Self {
        let Some(fetched_at) = self.fetched_at else {
            return self.clone();
        };
        if self.state != ReadingState::Ok || now.since_ms(fetched_at) <= stale_after_ms {
            return self.clone();
        }
        let reason = format!("last read at {fetched_at}, more than {stale_after_ms} ms ago");
        Self {
            page_updated_at: self.page_updated_at,
            ..Self::unknown(ReadingState::Stale, &reason, self.fetched_at)
        }
    }

    fn unknown(state: ReadingState, reason: &str, fetched_at: Option<Timestamp>) -> Self {
        Self {
            indicator: Indicator::Unknown,
            description: None,
            page_updated_at: None,
            components_affected: None,
            open_incidents: None,
            state,
            reason: Some(cut(reason)),
            fetched_at,
        }
    }
}

/// Reads `/api/v2/summary.json`. A body without an understandable
/// `status.indicator` is a failed reading with its reason; of the rest, what
/// is missing or of another shape is null.
pub fn parse(body: &[u8], fetched_at: Timestamp) -> StatusPageReading {
    let page: Value = match serde_json::from_slice(body) {
        Ok(page) => page,
        Err(error) => {
            let reason = format!("the page is not JSON: {error}");
            return StatusPageReading::failed(&reason, fetched_at);
        }
    };
    let indicator = match text_at(&page, "/status/indicator") {
        Some("none") => Indicator::None,
        Some("minor") => Indicator::Minor,
        Some("major") => Indicator::Major,
        Some("critical") => Indicator::Critical,
        Some(other) => {
            let other = cut(other);
            let reason =
                format!("status.indicator is not none, minor, major or critical: {other:?}");
            return StatusPageReading::failed(&reason, fetched_at);
        }
        None => return StatusPageReading::failed("the page has no status.indicator", fetched_at),
    };
    StatusPageReading {
        indicator,
        description: text_at(&page, "/status/description").map(cut),
        page_updated_at: text_at(&page, "/page/updated_at")
            .and_then(|text| Timestamp::parse(text).ok()),
        components_affected: count(&page, "/components", |component| {
            let is_group = component.pointer("/group") == Some(&Value::Bool(true));
            !is_group && text_at(component, "/status").is_some_and(|status| status != "operational")
        }),
        open_incidents: count(&page, "/incidents", |incident| {
            text_at(incident, "/status")
                .is_some_and(|status| !matches!(status, "resolved" | "postmortem"))
        }),
        state: ReadingState::Ok,
        reason: None,
        fetched_at: Some(fetched_at),
    }
}

fn text_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// How many of the list at `pointer` are wanted; `None` where there is no list.
fn count(page: &Value, pointer: &str, wanted: impl Fn(&Value) -> bool) -> Option<u32> {
    let list = page.pointer(pointer)?.as_array()?;
    u32::try_from(list.iter().filter(|item| wanted(item)).count()).ok()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::MINUTE_MS;
    use proptest::prelude::*;
    use serde_json::json;

    const FETCHED_AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn read(page: Value) -> StatusPageReading {
        parse(page.to_string().as_bytes(), FETCHED_AT)
    }

    #[test]
    fn reads_a_whole_page() {
        let reading = read(json!({
            "page": {"id": "x", "name": "Partner", "updated_at": "2023-01-02T03:04:05.678+01:00"},
            "status": {"indicator": "minor", "description": "Minor Service Outage"},
            "components": [
                {"status": "operational"},
                {"status": "degraded_performance", "group": false},
                {"status": "partial_outage", "group": true},
                {"status": "under_maintenance", "group": null},
                {"name": "no status"},
            ],
            "incidents": [
                {"status": "investigating", "impact": "minor"},
                {"status": "monitoring"},
                {"status": "resolved"},
                {"status": "postmortem"},
            ],
        }));
        assert_eq!(
            reading,
            StatusPageReading {
                indicator: Indicator::Minor,
                description: Some("Minor Service Outage".to_owned()),
                page_updated_at: Timestamp::parse("2023-01-02T02:04:05.678Z").ok(),
                components_affected: Some(2),
                open_incidents: Some(2),
                state: ReadingState::Ok,
                reason: None,
                fetched_at: Some(FETCHED_AT),
            }
        );
    }

    #[test]
    fn what_a_page_does_not_say_is_null() {
        let bare = read(json!({"status": {"indicator": "none"}}));
        assert_eq!((bare.indicator, bare.state), (Indicator::None, ReadingState::Ok));
        let odd = read(json!({
            "page": {"updated_at": "yesterday"},
            "status": {"indicator": "none", "description": 5},
            "components": {"status": "operational"},
            "incidents": null,
        }));
        assert_eq!(odd, bare);
        assert_eq!(
            (bare.description, bare.page_updated_at, bare.components_affected, bare.open_incidents),
            (None, None, None, None)
        );
    }

    #[test]
    fn every_indicator() {
        for (word, indicator, state) in [
            ("none", Indicator::None, ReadingState::Ok),
            ("minor", Indicator::Minor, ReadingState::Ok),
            ("major", Indicator::Major, ReadingState::Ok),
            ("critical", Indicator::Critical, ReadingState::Ok),
            ("maintenance", Indicator::Unknown, ReadingState::Failed),
            ("NONE", Indicator::Unknown, ReadingState::Failed),
            ("", Indicator::Unknown, ReadingState::Failed),
        ] {
            let reading = read(json!({"status": {"indicator": word}}));
            assert_eq!((reading.indicator, reading.state), (indicator, state), "{word}");
            assert_eq!(reading.reason.is_some(), state == ReadingState::Failed, "{word}");
        }
    }

    #[test]
    fn what_is_no_page_is_unknown_with_a_reason() {
        let deep = "[".repeat(100_000);
        for body in [
            &b""[..],
            b"<!doctype html>",
            b"{\"status\":",
            b"null",
            b"[]",
            b"{}",
            b"{\"status\":\"none\"}",
            b"{\"status\":{\"indicator\":0}}",
            b"{\"status\":{\"indicator\":\"\xff\"}}",
            deep.as_bytes(),
        ] {
            let reading = parse(body, FETCHED_AT);
            assert_eq!(
                (reading.indicator, reading.state, reading.fetched_at),
                (Indicator::Unknown, ReadingState::Failed, Some(FETCHED_AT)),
                "{}",
                String::from_utf8_lossy(body)
            );
            assert!(reading.reason.is_some_and(|reason| !reason.is_empty()));
        }
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        let long = "é".repeat(1_000);
        let reading = read(json!({"status": {"indicator": "none", "description": long}}));
        assert_eq!(reading.description.unwrap().chars().count(), 200);
        let reading = read(json!({"status": {"indicator": long}}));
        assert_eq!(reading.reason.unwrap().chars().count(), 200);
    }

    #[test]
    fn a_reading_grows_stale_by_its_fetch_not_by_the_page() {
        let reading = read(json!({
            "page": {"updated_at": "2001-01-01T00:00:00Z"},
            "status": {"indicator": "none", "description": "All Systems Operational"},
            "components": [], "incidents": [],
        }));
        let limit = 10 * MINUTE_MS;
        assert_eq!(reading.at(FETCHED_AT.plus_ms(limit), limit), reading);
        // A clock that is behind does not make a reading old.
        assert_eq!(reading.at(FETCHED_AT.plus_ms(-limit), limit), reading);

        let stale = reading.at(FETCHED_AT.plus_ms(limit + 1), limit);
        assert_eq!((stale.indicator, stale.state), (Indicator::Unknown, ReadingState::Stale));
        assert_eq!(
            (stale.fetched_at, stale.page_updated_at),
            (reading.fetched_at, reading.page_updated_at)
        );
        assert_eq!(
            (stale.description, stale.components_affected, stale.open_incidents),
            (None, None, None)
        );
        assert!(stale.reason.unwrap().contains(&FETCHED_AT.to_rfc3339()));
    }

    #[test]
    fn failed_and_not_run_stay_what_they_are() {
        let failed = StatusPageReading::failed("timeout", FETCHED_AT);
        assert_eq!(failed.at(FETCHED_AT.plus_ms(MINUTE_MS), 1), failed);
        let not_run = StatusPageReading::not_run();
        assert_eq!(not_run.at(FETCHED_AT, 1), not_run);
        assert_eq!((not_run.indicator, not_run.state), (Indicator::Unknown, ReadingState::NotRun));
    }

    #[test]
    fn the_stored_json_of_a_reading() {
        let reading = StatusPageReading::failed("timeout", FETCHED_AT);
        let stored = concat!(
            r#"{"indicator":"unknown","description":null,"page_updated_at":null,"#,
            r#""components_affected":null,"open_incidents":null,"state":"failed","#,
            r#""reason":"timeout","fetched_at":"2023-11-14T22:13:20.000Z"}"#,
        );
        assert_eq!(serde_json::to_string(&reading).unwrap(), stored);
        assert_eq!(serde_json::from_str::<StatusPageReading>(stored).unwrap(), reading);
    }

    proptest! {
        #[test]
        fn no_body_gives_an_indicator_without_saying_so(
            body in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert_eq!(parse(&body, FETCHED_AT).state, ReadingState::Failed);
        }
    }
}

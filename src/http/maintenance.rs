//! `/partnerships/{id}/maintenance`: when a partner has said that he will be
//! away.

use super::app::Cx;
use super::idempotency::Once;
use super::problem::{Code, Problem};
use super::registry;
use super::reply::Reply;
use crate::domain::id::IdKind;
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::maintenance::CLOCK;
use crate::domain::maintenance::{
    Day, MAX_ONCE_MS, MAX_WEEKLY_MINUTES, MaintenanceSchedule, MaintenanceWindow, parse_clock,
    parse_zone,
};
use crate::domain::partnership::Definition;
use crate::domain::time::{MINUTE_MS, Timestamp};
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::validation::PRINTABLE;
use crate::domain::validation::{FieldError, check_text};
use crate::store::new_id;
use ::http::StatusCode;
use serde::{Deserialize, Serialize};

/// Windows of one partnership, past ones not counted.
const MAX_WINDOWS: usize = 20;

/// A request takes a moment to arrive: "from now on" is no past.
const GRACE_MS: i64 = MINUTE_MS;

/// A window that happens `once`, or one that comes every week; one of the two.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(extend("oneOf" = [
    { "required": ["once"], "properties": { "once": { "type": "object" }, "weekly": { "type": "null" } } },
    { "required": ["weekly"], "properties": { "weekly": { "type": "object" }, "once": { "type": "null" } } },
])))]
#[serde(deny_unknown_fields)]
pub struct MaintenanceIn {
    /// What it is for, 1 to 100 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 100), regex(pattern = PRINTABLE)))]
    pub name: String,
    #[serde(default)]
    pub once: Option<OnceIn>,
    #[serde(default)]
    pub weekly: Option<WeeklyIn>,
}

/// At most 14 days, not begun more than a minute ago: history is not
/// rewritten.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OnceIn {
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
}

/// By the clock of a place. An hour that a clock change leaves out is the one
/// after it; of one that it repeats, the first.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WeeklyIn {
    /// 1 to 7, each once.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 7), extend("uniqueItems" = true)))]
    pub days: Vec<Day>,
    /// Local time of day, `HH:MM`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = CLOCK)))]
    pub start: String,
    /// 1 to 1,440.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = MAX_WEEKLY_MINUTES)))]
    #[serde(deserialize_with = "super::body::whole_required")]
    pub minutes: u32,
    /// A name of the IANA time zone database.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("format" = "time-zone", "examples" = ["Europe/Berlin"])))]
    pub time_zone: String,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MaintenanceOut {
    /// `mwn_…`
    pub id: String,
    pub name: String,
    pub schedule: MaintenanceSchedule,
    /// When the stretch ends that goes on now; null: none does.
    pub active_until: Option<Timestamp>,
    pub created_at: Timestamp,
    pub created_by: String,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MaintenanceListOut {
    /// Those that go on or can still come.
    pub maintenance: Vec<MaintenanceOut>,
}

pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let definition = registry::load(&cx).await?;
    let ahead = definition.maintenance.iter().filter(|window| !window.is_over(cx.now));
    let maintenance = ahead.map(|window| render(window, cx.now)).collect();
    Ok(Reply::ok(&MaintenanceListOut { maintenance }))
}

pub async fn create(cx: Cx) -> Result<Reply, Problem> {
    let input: MaintenanceIn = cx.request.json()?;
    let once = Once::of(&cx)?;
    // Before what depends on the clock: a repetition comes later.
    if let Some(earlier) = once.earlier(&cx).await? {
        return Ok(earlier.reply);
    }
    let window = MaintenanceWindow {
        id: new_id(&cx.app.platform.random, IdKind::Maintenance, cx.now)?,
        name: check_name(&input.name)?,
        schedule: accept(input, cx.now)?,
        created_at: cx.now,
        created_by: cx.caller()?.id().to_owned(),
    };
    let reply = Reply::json(StatusCode::CREATED, &render(&window, cx.now));
    let keep = |_: &Definition| Ok(once.keep(&cx, &reply));
    let changed = registry::change(&cx, "maintenance.created", keep, |definition| {
        // What is over has done its work: its observations are marked.
        definition.maintenance.retain(|known| !known.is_over(cx.now.plus_ms(-MAX_ONCE_MS)));
        let ahead = definition.maintenance.iter().filter(|known| !known.is_over(cx.now));
        if ahead.count() >= MAX_WINDOWS {
            let detail = format!("a partnership may have at most {MAX_WINDOWS} windows");
            return Err(Problem::new(Code::Conflict, detail));
        }
        definition.maintenance.push(window.clone());
        Ok(())
    })
    .await?;
    match changed {
        Some(_) => Ok(reply),
        None => Ok(once.winner(&cx).await?.reply),
    }
}

/// DELETE: it ends now, or never comes. What was observed in it stays marked.
pub async fn delete(cx: Cx) -> Result<Reply, Problem> {
    let id = cx.param("window")?;
    registry::change(
        &cx,
        "maintenance.deleted",
        |_| Ok(None),
        |definition| {
            let before = definition.maintenance.len();
            definition.maintenance.retain(|window| window.id != id);
            if definition.maintenance.len() == before {
                return Err(Problem::not_found("the partnership has no maintenance with this id"));
            }
            Ok(())
        },
    )
    .await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

fn render(window: &MaintenanceWindow, now: Timestamp) -> MaintenanceOut {
    MaintenanceOut {
        id: window.id.clone(),
        name: window.name.clone(),
        schedule: window.schedule.clone(),
        active_until: window.active_until(now),
        created_at: window.created_at,
        created_by: window.created_by.clone(),
    }
}

fn check_name(name: &str) -> Result<String, Problem> {
    match check_text(name, 100) {
        Ok(()) => Ok(name.to_owned()),
        Err(detail) => Err(Problem::invalid(vec![FieldError::new("/name", detail)])),
    }
}

fn accept(input: MaintenanceIn, now: Timestamp) -> Result<MaintenanceSchedule, Problem> {
    let mut errors = Vec::new();
    let schedule = match (input.once, input.weekly) {
        (Some(OnceIn { starts_at, ends_at }), None) => {
            if now.since_ms(starts_at) > GRACE_MS {
                let detail =
                    format!("begins in the past; it is {now}, and history is not rewritten");
                errors.push(FieldError::new("/once/starts_at", detail));
            }
            if ends_at <= starts_at || ends_at.since_ms(starts_at) > MAX_ONCE_MS {
                let detail = "expected an instant after starts_at, at most 14 days later";
                errors.push(FieldError::new("/once/ends_at", detail));
            }
            Some(MaintenanceSchedule::Once { starts_at, ends_at })
        }
        (None, Some(WeeklyIn { mut days, start, minutes, time_zone })) => {
            let count = days.len();
            days.sort_unstable();
            days.dedup();
            if !(1..=7).contains(&count) || days.len() != count {
                errors.push(FieldError::new("/weekly/days", "expected 1 to 7 days, each once"));
            }
            if let Err(detail) = parse_clock(&start) {
                errors.push(FieldError::new("/weekly/start", detail));
            }
            if !(1..=MAX_WEEKLY_MINUTES).contains(&minutes) {
                errors.push(FieldError::new("/weekly/minutes", "expected 1 to 1440"));
            }
            if let Err(detail) = parse_zone(&time_zone) {
                errors.push(FieldError::new("/weekly/time_zone", detail));
            }
            Some(MaintenanceSchedule::Weekly { days, start, minutes, time_zone })
        }
        _ => {
            errors.push(FieldError::new("", "expected either once or weekly"));
            None
        }
    };
    match schedule {
        Some(schedule) if errors.is_empty() => Ok(schedule),
        _ => Err(Problem::invalid(errors)),
    }
}

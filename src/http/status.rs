//! GET `/status`: is each part of this service there, checked at this call.

use super::app::Cx;
use super::boards::Evaluated;
use super::problem::Problem;
use super::reply::Reply;
use super::telemetry::ServiceOut;
use crate::backup::last_drill;
use crate::domain::incident::OpenIncident;
use crate::domain::metrics;
use crate::domain::partnership::Stored;
use crate::domain::time::{MINUTE_MS, SECOND_MS, Timestamp};
use crate::objects::board;
use crate::objects::incident;
use crate::objects::partnership::{self, Command};
use crate::objects::rate_limit::{self, ClientName};
use crate::store::job_runs::{TICK, TICK_LATE_MS};
use crate::store::{self, activity, backups, job_runs};
use ::http::StatusCode;
use serde::Serialize;
use std::collections::BTreeMap;

const VIEW: &str = "status";

const RECENT_LINES: u32 = 20;

const CONTROL_KEPT_MS: i64 = 30 * SECOND_MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ComponentState {
    Operational,
    /// It answers, but not as it should.
    Degraded,
    Down,
    /// There was nothing to ask it with.
    Unknown,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct StatusOut {
    /// The worst of the components whose state is known.
    pub overall_status: ComponentState,
    pub components: BTreeMap<String, ComponentState>,
    /// What each check did and found.
    pub component_details: BTreeMap<String, String>,
    pub resource_usage: ResourceUsageOut,
    pub backups: BackupsAgeOut,
    /// How this service did; null: what was counted cannot be read now.
    pub service: Option<ServiceOut>,
    /// The latest lines of the activity log, newest first; null where D1 could
    /// not be read.
    pub recent_activity: Option<Vec<ActivityOut>>,
    /// Open incidents, the oldest first; null where the board could not be
    /// read, or nobody has told it of any yet.
    pub open_incidents: Option<Vec<OpenIncident>>,
    /// When the components were checked: at this call, or within the second
    /// before it. (The outside is asked at most every 30 s; its detail says
    /// when.)
    pub last_check: Timestamp,
    /// When the next tick is due.
    pub next_check: Timestamp,
}

/// Null where there is none yet, or it could not be read.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BackupsAgeOut {
    /// Seconds since the last good set was finished.
    pub last_good_age_s: Option<i64>,
    /// Seconds since a backup was last restored with every row counted.
    pub last_drill_age_s: Option<i64>,
}

/// What can be measured from here; null where it cannot.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ResourceUsageOut {
    /// Rows of each table of D1, all tenants.
    pub d1_rows: Option<BTreeMap<String, u64>>,
    pub d1_bytes: Option<u64>,
    /// Raw observations that the tenant's objects keep right now.
    pub observations_stored: Option<u64>,
    /// Observations ever taken for the tenant.
    pub observations_total: Option<u64>,
    /// Bytes of the databases of the tenant's partnership objects.
    pub object_bytes: Option<u64>,
    /// Observations a minute over the last 24 h, all partnerships.
    pub observations_per_minute: Option<f64>,
    /// WebAssembly memory of the isolate that answered.
    pub wasm_memory_bytes: Option<u64>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ActivityOut {
    pub timestamp: Timestamp,
    pub event: String,
    /// `success`, `refused` or `failed`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("enum" = ["success", "refused", "failed"])))]
    pub status: String,
    /// A user's id, or `system`.
    pub actor: String,
    pub subject: String,
}

pub async fn status(cx: Cx) -> Result<Reply, Problem> {
    let platform = &cx.app.platform;
    let tenant_id = cx.caller()?.tenant_id();
    let board = cx.app.boards.snapshot(platform, tenant_id, cx.now).await;
    // Checks of the last second are not made again: a crowd that watches this
    // page must not become the load it reports.
    if let Some(body) = board.as_ref().ok().and_then(|board| board.kept(VIEW)) {
        return Ok(Reply::bytes(StatusCode::OK, "application/json", body));
    }
    // Six calls may wait for headers at once; a control asks two.
    let (rows, kv, pong, tick, reading) = futures::join!(
        store::row_counts(&platform.database),
        store::kv::self_check(&platform.kv),
        board::ping(platform, tenant_id),
        job_runs::last(&platform.database, TICK),
        cx.app.reading(tenant_id, board.as_deref().ok()),
    );
    let caller = cx.caller()?;
    let client = ClientName { tenant_id: Some(tenant_id.to_owned()), id: caller.id().to_owned() };
    let (lines, (control_at, reachable), counted, incidents, backup, drill) = futures::join!(
        activity::recent(&platform.database, tenant_id, RECENT_LINES),
        control(&cx),
        rate_limit::look(platform, &client),
        incident::call(platform, tenant_id, &incident::Command::Ping),
        backups::latest(&platform.database),
        last_drill(platform),
    );
    let has_board = board.is_ok();
    let known = board.as_ref().map(|board| board.partnerships.as_slice()).unwrap_or_default();

    let mut components = Components::default();
    components.add("d1", &rows, "counted the rows of every table");
    components.add("kv", &kv, "read a key");
    components.add(
        "board_object",
        &pong.and(board.as_ref().map_err(Clone::clone)),
        "fetched the board and pinged it",
    );
    components.add("incident_object", &incidents, "pinged it");
    components.add("rate_limit_object", &counted, "asked what it counts of the caller");
    match known.first() {
        None => {
            components.set("partnership_object", ComponentState::Unknown, "no partnership to ask")
        }
        Some(first) => {
            let id = &first.summary.definition.id;
            let pong = partnership::call(platform, tenant_id, id, &Command::Ping).await;
            components.add("partnership_object", &pong, &format!("pinged {id}"));
        }
    }
    let (state, detail) = match tick {
        Ok(tick) => cron(tick, cx.now),
        Err(_) => (ComponentState::Unknown, "D1 could not tell when the tick last ran".to_owned()),
    };
    components.set("cron", state, &detail);
    components.set(
        "outbound",
        match reachable {
            Some(true) => ComponentState::Operational,
            Some(false) => ComponentState::Down,
            None => ComponentState::Unknown,
        },
        &match reachable {
            Some(true) => format!("a control target answered at {control_at}"),
            Some(false) => format!("no control target answered at {control_at}: we are cut off"),
            None => "no control targets are configured".to_owned(),
        },
    );

    let stored = |of: fn(&Stored) -> u64| {
        has_board.then(|| known.iter().map(|partnership| of(&partnership.summary.stored)).sum())
    };
    let age_s = |at: Option<Timestamp>| at.map(|at| cx.now.since_ms(at) / SECOND_MS);
    let reply = Reply::ok(&StatusOut {
        backups: BackupsAgeOut {
            last_good_age_s: age_s(backup.ok().flatten().and_then(|set| set.finished_at)),
            last_drill_age_s: age_s(drill.ok().flatten().map(|drill| drill.finished_at)),
        },
        overall_status: components.overall(),
        resource_usage: ResourceUsageOut {
            d1_rows: rows.ok(),
            d1_bytes: platform.database.size_bytes(),
            observations_stored: stored(|stored| stored.observations),
            observations_total: stored(|stored| stored.observations_total),
            object_bytes: stored(|stored| stored.bytes),
            observations_per_minute: observation_rate(known, cx.now),
            wasm_memory_bytes: platform.wasm_memory_bytes(),
        },
        service: reading.as_deref().map(ServiceOut::of),
        components: components.states,
        component_details: components.details,
        open_incidents: board
            .as_ref()
            .ok()
            .and_then(|board| Some(board.incidents.as_ref()?.open.clone())),
        recent_activity: lines.ok().map(|lines| lines.into_iter().map(render_line).collect()),
        last_check: cx.now,
        next_check: cx.now.floor_to(MINUTE_MS).plus_ms(MINUTE_MS),
    });
    if let Ok(board) = &board {
        board.keep(VIEW, reply.body.clone());
    }
    Ok(reply)
}

fn render_line(line: activity::Line) -> ActivityOut {
    ActivityOut {
        timestamp: line.at,
        event: line.event,
        status: line.status,
        actor: line.actor,
        subject: line.subject,
    }
}

/// Whether the outside can be reached from here, and when that was tried.
///
/// The targets belong to others, so an isolate asks them at most every 30 s
/// however often it is asked itself.
async fn control(cx: &Cx) -> (Timestamp, Option<bool>) {
    if let Some((at, reachable)) = cx.app.control.get()
        && cx.now.since_ms(at) < CONTROL_KEPT_MS
    {
        return (at, reachable);
    }
    let targets = cx.app.config.control_targets.get(..2).unwrap_or(&cx.app.config.control_targets);
    let trace_id = Some(cx.trace_id.as_str());
    let reachable = partnership::control(&cx.app.platform, targets, trace_id).await;
    cx.app.control.set(Some((cx.now, reachable)));
    (cx.now, reachable)
}

fn observation_rate(known: &[Evaluated], now: Timestamp) -> Option<f64> {
    let rates: Vec<f64> = known
        .iter()
        .flat_map(|partnership| metrics::all(&partnership.summary, now))
        .filter(|(name, _)| name == "requests_per_minute")
        .filter_map(|(_, detail)| detail.value)
        .collect();
    (!rates.is_empty()).then(|| metrics::round(rates.iter().sum()))
}

/// The state of cron, from the last run of the tick.
pub fn cron(last: Option<job_runs::JobRun>, now: Timestamp) -> (ComponentState, String) {
    let Some(run) = last else {
        return (ComponentState::Down, "the tick has never run".to_owned());
    };
    let age_ms = now.since_ms(run.started_at);
    let detail = format!(
        "the tick last ran {} s ago, at {}, and {}",
        age_ms / 1_000,
        run.started_at,
        if run.succeeded { "succeeded" } else { "failed" }
    );
    match (age_ms > TICK_LATE_MS, run.succeeded) {
        (true, _) => (ComponentState::Down, detail),
        (false, false) => (ComponentState::Degraded, detail),
        (false, true) => (ComponentState::Operational, detail),
    }
}

#[derive(Default)]
struct Components {
    states: BTreeMap<String, ComponentState>,
    details: BTreeMap<String, String>,
}

impl Components {
    fn set(&mut self, name: &str, state: ComponentState, detail: &str) {
        self.states.insert(name.to_owned(), state);
        self.details.insert(name.to_owned(), detail.to_owned());
    }

    fn add<T>(&mut self, name: &str, outcome: &Result<T, crate::platform::Error>, did: &str) {
        match outcome {
            Ok(_) => self.set(name, ComponentState::Operational, did),
            // The cause is private; what was tried is not.
            Err(error) => {
                let detail = format!("could not do this: {did} ({:?})", error.kind);
                self.set(name, ComponentState::Down, &detail);
            }
        }
    }

    fn overall(&self) -> ComponentState {
        let has = |state| self.states.values().any(|known| *known == state);
        let vital_down = ["d1", "board_object"]
            .iter()
            .all(|name| self.states.get(*name) == Some(&ComponentState::Down));
        if vital_down {
            ComponentState::Down
        } else if has(ComponentState::Down) || has(ComponentState::Degraded) {
            ComponentState::Degraded
        } else {
            ComponentState::Operational
        }
    }
}

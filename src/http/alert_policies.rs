//! When alerts open and end: the part of the settings that says so, and POST
//! `/alert-policies/simulate`, what another policy would have done.

use super::app::Cx;
use super::partnerships::unknown_partnership;
use super::problem::Problem;
use super::reply::Reply;
use super::slos::{self, SloIn};
use crate::domain::alert::{AlertPolicy, Family};
use crate::domain::incident::Severity;
use crate::domain::rollup::Grain;
use crate::domain::simulation::{SIMULATED, SimulatedAlert, Simulation};
use crate::domain::slo::Slo;
use crate::domain::time::{DAY_MS, MINUTE_MS, Timestamp};
use crate::domain::validation::FieldError;
use crate::objects::partnership::{self, Command, Reply as ObjectReply, Simulate};
use futures::StreamExt;
use serde::{Deserialize, Serialize};

/// Minutes are kept for two weeks.
const MAX_DAYS: u32 = 14;
const DEFAULT_DAYS: u32 = 7;

/// Objects asked at once.
const MAX_IN_FLIGHT: usize = 5;

macro_rules! alerting_in {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $least:literal to $most:literal $(by $whole:literal)?),* $(,)?) => {
        /// What changes of the alert policy; a field that is left out stays as
        /// it is.
        #[derive(Clone, Default, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct AlertingIn {$(
            $(#[$doc])*
            #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = $least, max = $most)))]
            #[serde(default $(, deserialize_with = $whole)?)]
            pub $field: Option<$type>,
        )*}

        impl AlertingIn {
            /// Adds what is out of its range to `errors`, below the pointer.
            pub fn apply(self, pointer: &str, policy: &mut AlertPolicy, errors: &mut Vec<FieldError>) {$(
                if let Some(wanted) = self.$field {
                    if ($least..=$most).contains(&wanted) {
                        policy.$field = wanted;
                    } else {
                        let detail = format!("expected {} to {}", $least, $most);
                        let pointer = format!("{pointer}/{}", stringify!($field));
                        errors.push(FieldError::new(pointer, detail));
                    }
                }
            )*}
        }
    };
}

alerting_in! {
    /// Bad events in the long window before a burn opens an alert, 1 to 1,000.
    min_bad_samples: u32 = 1 to 1_000 by "super::body::whole",
    /// Evaluations in a row (one a minute) that open an alert, 1 to 60.
    failures_to_open: u32 = 1 to 60 by "super::body::whole",
    /// Evaluations in a row that end it, 1 to 60.
    recoveries_to_resolve: u32 = 1 to 60 by "super::body::whole",
    /// Changes within the window that keep one alert open as flapping, 2 to 20.
    flap_changes: u32 = 2 to 20 by "super::body::whole",
    /// 10 to 1,440 minutes.
    flap_window_minutes: u32 = 10 to 1_440 by "super::body::whole",
    /// Minutes without data before its absence is an alert, 2 to 1,440.
    data_absent_minutes: u32 = 2 to 1_440 by "super::body::whole",
    /// Percent of the target by which a KPI must miss it, 0 to 100.
    kpi_below_percent: f64 = 0.0 to 100.0,
    /// Percent of the target by which it must be better again, 0 to 100.
    kpi_deadband_percent: f64 = 0.0 to 100.0,
    /// Minutes for which a status page and our probes must disagree, 1 to 60.
    status_page_minutes: u32 = 1 to 60 by "super::body::whole",
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SimulateIn {
    /// Id or alias of one partnership; left out: all of them.
    #[serde(default)]
    pub partnership: Option<String>,
    /// Days of stored minutes, 1 to 14; 7 if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = MAX_DAYS)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub days: Option<u32>,
    /// What differs from the policy in force.
    #[serde(default)]
    pub policy: Option<AlertingIn>,
    /// Objectives in place of those that are agreed, at most 10, each with a
    /// key of its own.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = slos::MAX_SLOS)))]
    #[serde(default)]
    pub slos: Option<Vec<SloIn>>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SimulationOut {
    pub from: Timestamp,
    pub until: Timestamp,
    /// The policy that was simulated, whole.
    pub policy: AlertPolicy,
    /// Rule families that could be simulated; of the others no past is stored.
    pub simulated: Vec<Family>,
    pub not_simulated: Vec<Family>,
    /// Alerts that would have woken somebody.
    pub pages: u64,
    /// The others.
    pub tickets: u64,
    /// Alerts that flapped.
    pub flaps: u64,
    /// Longest time from the beginning of the trouble to a page, in seconds;
    /// null without a page.
    pub slowest_page_s: Option<i64>,
    /// In the order in which they open.
    pub alerts: Vec<SimulatedAlert>,
    /// What each was made from.
    pub partnerships: Vec<SimulatedOut>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SimulatedOut {
    pub id: String,
    /// Evaluations, one a minute.
    pub evaluations: u64,
    /// Minutes with an observation that says how the partner was.
    pub minutes_with_data: u64,
}

pub async fn simulate(cx: Cx) -> Result<Reply, Problem> {
    let input: SimulateIn = cx.request.json()?;
    let platform = &cx.app.platform;
    let tenant_id = cx.caller()?.tenant_id();
    let board = cx.app.boards.snapshot(platform, tenant_id, cx.now).await?;
    let mut errors = Vec::new();
    let days = input.days.unwrap_or(DEFAULT_DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        errors.push(FieldError::new("/days", format!("expected 1 to {MAX_DAYS}")));
    }
    let slos = input.slos.map(|slos| accept(slos, &mut errors));
    let ids: Vec<String> = match &input.partnership {
        Some(name) => {
            let known = board.find(name).ok_or_else(|| unknown_partnership(&board, name))?;
            vec![known.summary.definition.id.clone()]
        }
        None => board.ids().into_iter().map(str::to_owned).collect(),
    };
    // One policy for all of a tenant travels with each of its definitions.
    let in_force = board.partnerships.first().map(|known| &known.summary.definition.settings);
    let mut policy = in_force.map(|settings| settings.alerting.clone()).unwrap_or_default();
    input.policy.unwrap_or_default().apply("/policy", &mut policy, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let until = cx.now.floor_to(MINUTE_MS);
    let from = until.plus_ms(MINUTE_MS - i64::from(days) * DAY_MS);
    let ask = |id: String| {
        let (policy, slos) = (policy.clone(), slos.clone());
        async move {
            let wanted = Command::Simulate(Box::new(Simulate { policy, slos, from, until }));
            match partnership::call(platform, tenant_id, &id, &wanted).await? {
                ObjectReply::Simulated(simulation) => Ok(Some(*simulation)),
                // Nobody has told its object of it yet: there is nothing stored.
                ObjectReply::Undefined => Ok(None),
                other => Err(Problem::internal(format!("unexpected reply: {other:?}"))),
            }
        }
    };
    let all: Vec<Result<Option<Simulation>, Problem>> =
        futures::stream::iter(ids).map(ask).buffered(MAX_IN_FLIGHT).collect().await;
    let all: Vec<Simulation> =
        all.into_iter().filter_map(Result::transpose).collect::<Result<_, _>>()?;
    Ok(Reply::ok(&render(all, policy, from, until)))
}

fn accept(inputs: Vec<SloIn>, errors: &mut Vec<FieldError>) -> Vec<Slo> {
    if inputs.len() > slos::MAX_SLOS {
        let detail = format!("expected at most {} objectives", slos::MAX_SLOS);
        errors.push(FieldError::new("/slos", detail));
    }
    let mut accepted: Vec<Slo> = Vec::new();
    for (index, input) in inputs.into_iter().enumerate() {
        let slo = slos::accept(input, &format!("/slos/{index}"), errors);
        if accepted.iter().any(|known| known.key == slo.key) {
            errors.push(FieldError::new(format!("/slos/{index}/key"), "stands twice"));
        }
        accepted.push(slo);
    }
    accepted
}

fn render(
    all: Vec<Simulation>,
    policy: AlertPolicy,
    from: Timestamp,
    until: Timestamp,
) -> SimulationOut {
    let partnerships = all.iter().map(|simulation| SimulatedOut {
        id: simulation.partnership.clone(),
        evaluations: simulation.evaluations,
        minutes_with_data: simulation.minutes_with_data,
    });
    let partnerships = partnerships.collect();
    let mut alerts: Vec<SimulatedAlert> = all.into_iter().flat_map(|s| s.alerts).collect();
    alerts.sort_by(|a, b| {
        (a.opened_at, &a.partnership, a.rule).cmp(&(b.opened_at, &b.partnership, b.rule))
    });
    let count = |wanted: &dyn Fn(&SimulatedAlert) -> bool| {
        alerts.iter().filter(|alert| wanted(alert)).count() as u64
    };
    let pages = |alert: &SimulatedAlert| alert.severity == Severity::Critical;
    SimulationOut {
        from,
        until,
        policy,
        simulated: SIMULATED.to_vec(),
        not_simulated: Family::ALL.into_iter().filter(|f| !SIMULATED.contains(f)).collect(),
        pages: count(&pages),
        tickets: count(&|alert| !pages(alert)),
        flaps: count(&|alert| alert.flapped),
        slowest_page_s: alerts.iter().filter(|a| pages(a)).map(|a| a.detection_delay_s).max(),
        partnerships,
        alerts,
    }
}

// What the constants above promise of the object.
const _: () = assert!(match Grain::Minute.retention_ms() {
    Some(kept_ms) => kept_ms >= MAX_DAYS as i64 * DAY_MS,
    None => true,
});

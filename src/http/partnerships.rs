//! GET `/partnerships` and `/partnerships/{id}/status`: what was agreed with
//! each partner and how far it is kept.

use super::app::Cx;
use super::boards::{Board, Evaluated};
use super::health::status_page;
use super::problem::Problem;
use super::reply::Reply;
use crate::domain::alert::{Admission, OpenAlert};
use crate::domain::deliverable::{self, Deliverable, DeliverableStatus};
use crate::domain::kpi::Direction;
use crate::domain::metrics::{self, MetricDetail};
use crate::domain::partnership::{Definition, Summary};
use crate::domain::rollup::Counts;
use crate::domain::score::{Health, Term};
use crate::domain::slo::{SloStatus, Tally};
use crate::domain::status_page::StatusPageReading;
use crate::domain::time::Timestamp;
use crate::domain::verdict::Verdict;
use ::http::StatusCode;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PartnershipOut {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = crate::domain::id::SLUG)))]
    pub id: String,
    pub name: String,
    pub partner: String,
    pub aliases: Vec<String>,
    pub health: Health,
    /// 0 to 100; null where too little is known.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub score: Option<f64>,
    /// Weight of the terms with data over the weight of all, 0 to 1.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub coverage: f64,
    pub verdict: Verdict,
    /// Mean completion of the deliverables that reported one, 0 to 100; null
    /// where none did.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub progress: Option<f64>,
    pub deliverables: Vec<DeliverableOut>,
    /// What the score is made of.
    pub terms: Vec<Term>,
    pub metrics: BTreeMap<String, MetricDetail>,
    pub partner_status_page: StatusPageReading,
    /// Objectives with budget and burn, as last evaluated.
    pub slos: Vec<SloStatus>,
    /// Alerts that are open.
    pub alerts: Vec<OpenAlert>,
    /// When objectives and alerts were last evaluated; null: never.
    pub evaluated_at: Option<Timestamp>,
    pub availability: AvailabilityOut,
    /// How long the partner's status page takes to admit what we see.
    pub admission: Admission,
    /// When the maintenance ends that goes on now; null: none does.
    pub maintenance_until: Option<Timestamp>,
    pub agreement: AgreementOut,
    /// Grows with every change of the definition.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1)))]
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Time of the newest observation.
    pub observed_at: Option<Timestamp>,
}

/// Percent of good observations over 24 h, with maintenance and without it;
/// null without observations.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AvailabilityOut {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub raw_percent: Option<f64>,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub adjusted_percent: Option<f64>,
    /// Observations in maintenance that say how the partner was.
    pub in_maintenance: u64,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DeliverableOut {
    /// Key of the deliverable.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = crate::domain::id::SLUG)))]
    pub name: String,
    /// 0 to 100; null until somebody sends one.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub progress: Option<f64>,
    pub status: Option<DeliverableStatus>,
    /// Last day on which it is in time, UTC.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("format" = "date")))]
    pub due_date: Option<String>,
    pub weight: f64,
    pub completed_at: Option<Timestamp>,
    pub updated_at: Option<Timestamp>,
    /// Who said so.
    pub updated_by: Option<String>,
}

/// What was agreed, and how it is checked.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AgreementOut {
    pub availability_target_percent: f64,
    pub availability_floor_percent: f64,
    /// Agreed p95; null where nothing was agreed.
    pub latency_target_ms: Option<f64>,
    pub degraded_counts_as_bad: bool,
    pub status_page_url: Option<String>,
    pub probes: Vec<ProbeOut>,
    pub kpis: Vec<KpiOut>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ProbeOut {
    pub key: String,
    pub url: String,
    pub interval_s: u32,
    pub deadline_ms: u32,
    pub degraded_above_ms: Option<f64>,
    pub enabled: bool,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct KpiOut {
    pub name: String,
    pub target: f64,
    pub unit: String,
    pub direction: Direction,
    pub weight: f64,
}

pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let caller = cx.caller()?;
    let board = cx.app.boards.snapshot(&cx.app.platform, caller.tenant_id(), cx.now).await?;
    let body = board.rendered("partnerships", || {
        let all: Vec<_> =
            board.partnerships.iter().map(|known| render(known, board.fetched_at)).collect();
        serde_json::to_vec(&all).unwrap_or_default()
    });
    Ok(Reply::bytes(StatusCode::OK, "application/json", body))
}

pub async fn one(cx: Cx) -> Result<Reply, Problem> {
    let caller = cx.caller()?;
    let board = cx.app.boards.snapshot(&cx.app.platform, caller.tenant_id(), cx.now).await?;
    let name = cx.param("id")?;
    let known = board.find(name).ok_or_else(|| unknown_partnership(&board, name))?;
    Ok(Reply::ok(&render(known, board.fetched_at)))
}

/// 404 that names what there is.
pub fn unknown_partnership(board: &Board, name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    Problem::not_found(format!(
        "no partnership is called {shown:?}; there are: {}",
        board.ids().join(", ")
    ))
}

pub fn render(known: &Evaluated, now: Timestamp) -> PartnershipOut {
    let definition = &known.summary.definition;
    PartnershipOut {
        id: definition.id.clone(),
        name: definition.name.clone(),
        partner: definition.partner.clone(),
        aliases: definition.aliases.clone(),
        health: known.score.health,
        score: known.score.score,
        coverage: known.score.coverage,
        verdict: known.verdict,
        progress: deliverable::progress(&definition.deliverables).map(metrics::round),
        deliverables: definition.deliverables.iter().map(render_deliverable).collect(),
        terms: known.score.terms.clone(),
        metrics: metrics::all(&known.summary, now).into_iter().collect(),
        partner_status_page: status_page(known, now),
        slos: known.summary.assessment.slos.clone(),
        alerts: known.summary.assessment.alerts.clone(),
        evaluated_at: known.summary.assessment.evaluated_at,
        availability: availability(&known.summary),
        admission: known.summary.assessment.admission,
        maintenance_until: known.summary.assessment.maintenance_until,
        agreement: render_agreement(definition),
        revision: definition.revision,
        created_at: definition.created_at,
        updated_at: definition.updated_at,
        observed_at: known.summary.newest.first().map(|(at, _)| *at),
    }
}

fn availability(summary: &Summary) -> AvailabilityOut {
    let degraded = summary.definition.targets.degraded_counts_as_bad;
    let tally = |counts: &Counts| Tally::availability(counts, degraded);
    let raw = tally(&summary.counts);
    let excused = tally(&summary.counts_in_maintenance);
    AvailabilityOut {
        raw_percent: raw.good_percent().map(metrics::round),
        adjusted_percent: raw.without(excused).good_percent().map(metrics::round),
        in_maintenance: excused.total(),
    }
}

pub fn render_agreement(definition: &Definition) -> AgreementOut {
    let targets = &definition.targets;
    AgreementOut {
        availability_target_percent: targets.availability_percent,
        availability_floor_percent: targets.availability_floor_percent,
        latency_target_ms: targets.latency_ms,
        degraded_counts_as_bad: targets.degraded_counts_as_bad,
        status_page_url: definition.status_page_url.clone(),
        probes: definition
            .probes
            .iter()
            .map(|probe| ProbeOut {
                key: probe.key.clone(),
                url: probe.url.clone(),
                interval_s: probe.interval_s,
                deadline_ms: probe.deadline_ms,
                degraded_above_ms: probe.degraded_above_ms,
                enabled: probe.enabled,
            })
            .collect(),
        kpis: definition
            .kpis
            .iter()
            .map(|kpi| KpiOut {
                name: kpi.name.clone(),
                target: kpi.target,
                unit: kpi.unit.clone(),
                direction: kpi.direction,
                weight: kpi.weight,
            })
            .collect(),
    }
}

pub fn render_deliverable(deliverable: &Deliverable) -> DeliverableOut {
    DeliverableOut {
        name: deliverable.key.clone(),
        progress: deliverable.completion_percentage,
        status: deliverable.status,
        due_date: deliverable.due_date.clone(),
        weight: deliverable.weight,
        completed_at: deliverable.completed_at,
        updated_at: deliverable.updated_at,
        updated_by: deliverable.updated_by.clone(),
    }
}

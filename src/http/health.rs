//! GET `/health`: how the partners are doing, in one look.

use super::app::Cx;
use super::boards::{Board, Evaluated};
use super::problem::Problem;
use super::reply::Reply;
use crate::domain::incident::OpenIncident;
use crate::domain::metrics::{self, MetricDetail};
use crate::domain::score::{self, Health, SystemHealth, Term};
use crate::domain::status_page::StatusPageReading;
use crate::domain::time::Timestamp;
use crate::domain::verdict::Verdict;
use crate::store::tenants::DEFAULT_TENANT_ID;
use ::http::StatusCode;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct HealthOut {
    pub status: SystemHealth,
    /// By partnership id.
    pub partnerships: BTreeMap<String, PartnershipHealthOut>,
    /// When the newest of the summaries was made; null without any.
    pub last_updated: Option<Timestamp>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PartnershipHealthOut {
    pub health: Health,
    /// 0 to 100; null where too little is known.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub score: Option<f64>,
    /// Shown to callers who may read metrics.
    #[serde(flatten)]
    pub evidence: Option<EvidenceOut>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EvidenceOut {
    pub verdict: Verdict,
    /// Weight of the terms with data over the weight of all, 0 to 1.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 1)))]
    pub coverage: f64,
    /// What the score is made of; the points add up to it.
    pub terms: Vec<Term>,
    pub metrics: BTreeMap<String, MetricDetail>,
    /// What the partner says of himself, a second source.
    pub partner_status_page: StatusPageReading,
    /// Open incidents; GET `/incidents/{id}` tells more.
    pub incidents: Vec<OpenIncident>,
    /// When the maintenance ends that goes on now; null: none does.
    pub maintenance_until: Option<Timestamp>,
    /// Time of the newest observation.
    pub observed_at: Option<Timestamp>,
}

pub async fn health(cx: Cx) -> Result<Reply, Problem> {
    let (tenant_id, view) = match &cx.caller {
        Some(caller) => (caller.tenant_id(), "health"),
        None => (DEFAULT_TENANT_ID, "health.public"),
    };
    let board = cx.app.boards.snapshot(&cx.app.platform, tenant_id, cx.now).await?;
    let detailed = cx.caller.is_some();
    let body =
        board.rendered(view, || serde_json::to_vec(&render(&board, detailed)).unwrap_or_default());
    Ok(Reply::bytes(StatusCode::OK, "application/json", body))
}

/// The state of all partnerships of a board together.
pub fn system(board: &Board) -> SystemHealth {
    score::system(board.partnerships.iter().map(|known| (known.score.score, known.verdict)))
}

/// When the newest of the summaries was made.
pub fn last_updated(board: &Board) -> Option<Timestamp> {
    board.partnerships.iter().map(|known| known.summary.computed_at).max()
}

fn render(board: &Board, detailed: bool) -> HealthOut {
    let partnerships = board.partnerships.iter().map(|known| {
        let health = PartnershipHealthOut {
            health: known.score.health,
            score: known.score.score,
            evidence: detailed.then(|| evidence(board, known)),
        };
        (known.summary.definition.id.clone(), health)
    });
    HealthOut {
        status: system(board),
        partnerships: partnerships.collect(),
        last_updated: last_updated(board),
    }
}

fn evidence(board: &Board, known: &Evaluated) -> EvidenceOut {
    let now = board.fetched_at;
    EvidenceOut {
        verdict: known.verdict,
        coverage: known.score.coverage,
        terms: known.score.terms.clone(),
        metrics: metrics::all(&known.summary, now).into_iter().collect(),
        partner_status_page: status_page(known, now),
        incidents: board.incidents_of(Some(&known.summary.definition.id)),
        maintenance_until: known.summary.assessment.maintenance_until,
        observed_at: known.summary.newest.first().map(|(at, _)| *at),
    }
}

/// The reading of the partner's status page as it stands now.
pub fn status_page(known: &Evaluated, now: Timestamp) -> StatusPageReading {
    let settings = &known.summary.definition.settings;
    known.summary.status_page.at(now, settings.status_page_stale_after_ms)
}

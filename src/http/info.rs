//! GET `/info`: what this is, how much of it there is, and who is asking.

use super::app::Cx;
use super::health::{last_updated, system};
use super::problem::Problem;
use super::reply::Reply;
use super::telemetry::ServiceOut;
use crate::auth::permission::{Permission, Role};
use crate::domain::score::SystemHealth;
use crate::domain::time::Timestamp;
use crate::log::{SERVICE_NAME, SERVICE_VERSION};
use crate::store::decisions;
use serde::Serialize;

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct InfoOut {
    pub system: String,
    pub version: String,
    /// State of all partnerships together, as in `/health`.
    pub status: SystemHealth,
    pub partnerships: u64,
    pub features: Vec<String>,
    pub api_version: String,
    pub statistics: StatisticsOut,
    /// Null: what was counted cannot be read now.
    pub service: Option<ServiceOut>,
    /// When the newest of the summaries was made.
    pub last_updated: Option<Timestamp>,
    pub user: InfoUserOut,
}

/// Counts of the caller's tenant.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct StatisticsOut {
    pub partnerships_with_score: u64,
    pub probes_enabled: u64,
    pub kpis: u64,
    pub kpis_with_value: u64,
    pub deliverables: u64,
    pub deliverables_reported: u64,
    pub observations_total: u64,
    pub decisions: u64,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct InfoUserOut {
    pub id: String,
    /// Null: an API key.
    pub role: Option<Role>,
    pub permissions: Vec<Permission>,
}

const FEATURES: &[&str] = &[
    "partner_probes",
    "partner_status_pages",
    "observation_ingest",
    "kpis",
    "deliverables",
    "scores_with_terms",
    "investment_appraisal",
    "openmetrics",
];

pub async fn info(cx: Cx) -> Result<Reply, Problem> {
    let platform = &cx.app.platform;
    let caller = cx.caller()?;
    let board = cx.app.boards.snapshot(platform, caller.tenant_id(), cx.now).await?;
    let reading = cx.app.reading(caller.tenant_id(), Some(&board)).await;
    let known = &board.partnerships;
    let sum = |count: fn(&super::boards::Evaluated) -> usize| {
        known.iter().map(|partnership| count(partnership) as u64).sum()
    };
    Ok(Reply::ok(&InfoOut {
        system: SERVICE_NAME.to_owned(),
        version: SERVICE_VERSION.to_owned(),
        status: system(&board),
        partnerships: known.len() as u64,
        features: FEATURES.iter().map(|&feature| feature.to_owned()).collect(),
        api_version: "v1".to_owned(),
        statistics: StatisticsOut {
            partnerships_with_score: sum(|p| usize::from(p.score.score.is_some())),
            probes_enabled: sum(|p| {
                p.summary.definition.probes.iter().filter(|probe| probe.enabled).count()
            }),
            kpis: sum(|p| p.summary.definition.kpis.len()),
            kpis_with_value: sum(|p| {
                let sent = &p.summary.kpis;
                p.summary.definition.kpis.iter().filter(|k| sent.contains_key(&k.name)).count()
            }),
            deliverables: sum(|p| p.summary.definition.deliverables.len()),
            deliverables_reported: sum(|p| {
                p.summary.definition.deliverables.iter().filter(|d| d.updated_at.is_some()).count()
            }),
            observations_total: known.iter().map(|p| p.summary.stored.observations_total).sum(),
            decisions: decisions::count(&platform.database, caller.tenant_id()).await?,
        },
        service: reading.as_deref().map(ServiceOut::of),
        last_updated: last_updated(&board),
        user: InfoUserOut {
            id: caller.id().to_owned(),
            role: caller.role(),
            permissions: caller.permissions().to_vec(),
        },
    }))
}

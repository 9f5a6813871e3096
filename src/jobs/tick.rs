//! The minute tick: tells every partnership's object that a minute has begun.
//!
//! A missed tick leaves a gap that coverage shows; a repeated one finds its
//! slots taken. One partnership that fails does not keep the others waiting.

use super::{DATASET, JobContext, JobOutcome};
use crate::auth::bootstrap;
use crate::domain::partnership::Definition;
use crate::domain::time::Timestamp;
use crate::log;
use crate::objects::board::{self, VersionedLimits};
use crate::objects::partnership::{self, Command, Reply};
use crate::platform::Platform;
use crate::store::{job_runs, registry, settings, tenants};
use futures::StreamExt;

pub const NAME: &str = job_runs::TICK;

/// Objects called at once: six connections may be open, one is D1's.
const MAX_IN_FLIGHT: usize = 5;

pub async fn run(context: JobContext<'_>) -> JobOutcome {
    let JobContext { platform, config, scheduled_at } = context;
    let now = Timestamp::from_millis(platform.clock.now_ms());
    // A new deployment measures from its first minute, before anybody logs in.
    bootstrap::ensure(platform, config, now).await.map_err(|error| error.0.to_string())?;

    let mut work = Vec::new();
    for tenant_id in tenants::all(&platform.database).await.map_err(|e| e.to_string())? {
        let as_of = Timestamp::from_millis(platform.clock.now_ms());
        let known = registry::all(&platform.database, &tenant_id).await;
        let known = known.map_err(|error| error.to_string())?;
        let ids = known.iter().map(|definition| definition.id.clone()).collect();
        let limits = match settings::current(&platform.database, &tenant_id).await {
            Ok(current) => current.map(|current| VersionedLimits {
                version: current.version,
                limits: current.settings.limits,
            }),
            Err(error) => return Err(error.to_string()),
        };
        if let Err(error) = board::keep(platform, &tenant_id, ids, as_of, limits).await {
            log::warn(&platform.log, now, DATASET, "board not tidied", &error.to_string());
        }
        work.extend(known.into_iter().map(|definition| (tenant_id.clone(), definition)));
    }
    let total = work.len();
    let probes: Vec<Option<u32>> = futures::stream::iter(work)
        .map(|(tenant_id, definition)| {
            tick_one(platform, tenant_id, definition, scheduled_at, &config.control_targets)
        })
        .buffer_unordered(MAX_IN_FLIGHT)
        .collect()
        .await;
    let failed = probes.iter().filter(|probes| probes.is_none()).count();
    let sent: u32 = probes.iter().flatten().sum();
    if failed > 0 {
        return Err(format!("{failed} of {total} partnerships did not take the tick"));
    }
    Ok(format!("{total} partnerships, {sent} probes"))
}

async fn tick_one(
    platform: &Platform,
    tenant_id: String,
    definition: Definition,
    scheduled_at: Timestamp,
    control_targets: &[String],
) -> Option<u32> {
    let id = definition.id.clone();
    let command = Command::Tick {
        tenant_id: tenant_id.clone(),
        definition: Box::new(definition),
        scheduled_at,
        control_targets: control_targets.to_vec(),
    };
    match partnership::call(platform, &tenant_id, &id, &command).await {
        Ok(Reply::Ticked { probes_run }) => Some(probes_run),
        other => {
            let now = Timestamp::from_millis(platform.clock.now_ms());
            let cause = match other {
                Ok(reply) => format!("unexpected reply {reply:?}"),
                Err(error) => error.to_string(),
            };
            log::warn(&platform.log, now, DATASET, &format!("tick of {id} failed"), &cause);
            None
        }
    }
}

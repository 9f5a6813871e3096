//! The minute tick: tells every partnership's object, and the object of the
//! tenant's incidents, that a minute has begun.
//!
//! A missed tick leaves a gap that coverage shows; a repeated one finds its
//! slots taken. One partnership that fails does not keep the others waiting,
//! and neither does D1: without it the tick goes by what the board knows.

use super::{DATASET, JobContext, JobOutcome};
use crate::auth::bootstrap;
use crate::domain::alert::{Family, OpenAlert, Severity};
use crate::domain::backup::BACKUP_LATE_MS;
use crate::domain::partnership::Definition;
use crate::domain::time::Timestamp;
use crate::log;
use crate::objects::board::{self, VersionedLimits};
use crate::objects::incident::{self, JournalLine, ServiceFinding};
use crate::objects::outbox;
use crate::objects::partnership::{self, Command, Reply};
use crate::platform::{Error, Platform};
use crate::store::activity::{self, Entry, Status};
use crate::store::tenants::DEFAULT_TENANT_ID;
use crate::store::{backups, channels, job_runs, registry, settings, tenants};
use futures::StreamExt;
use sha2::{Digest, Sha256};

pub const NAME: &str = job_runs::TICK;

/// Objects called at once: six connections may be open, one is D1's.
const MAX_IN_FLIGHT: usize = 5;

/// A tenant as this tick sees it.
struct Known {
    tenant_id: String,
    definitions: Vec<Definition>,
    /// When the registry was read; `None`: it could not be.
    as_of: Option<Timestamp>,
}

pub async fn run(context: JobContext<'_>) -> JobOutcome {
    let platform = context.platform;
    let (all, failure) = match from_registry(&context).await {
        Ok(all) => (all, None),
        // Only of the tenant that is always there: which others there are is
        // written in D1 alone.
        Err(cause) => match from_board(platform, DEFAULT_TENANT_ID).await {
            Ok(known) => (vec![known], Some(cause)),
            Err(error) => return Err(format!("{cause}; nor does the board answer: {error}")),
        },
    };
    let work: Vec<(&str, Definition)> = all
        .iter()
        .flat_map(|known| known.definitions.iter().map(|d| (known.tenant_id.as_str(), d.clone())))
        .collect();
    let total = work.len();
    let probes: Vec<Option<u32>> = futures::stream::iter(work)
        .map(|(tenant_id, definition)| tick_one(&context, tenant_id, definition))
        .buffer_unordered(MAX_IN_FLIGHT)
        .collect()
        .await;
    for known in &all {
        tick_incidents(&context, known).await;
    }
    super::backup::resume(platform).await;
    let failed = probes.iter().filter(|probes| probes.is_none()).count();
    let sent: u32 = probes.iter().flatten().sum();
    match (failed, failure) {
        (_, Some(cause)) => Err(format!("went by the board, {failed} of {total} failed: {cause}")),
        (0, None) => Ok(format!("{total} partnerships, {sent} probes")),
        (_, None) => Err(format!("{failed} of {total} partnerships did not take the tick")),
    }
}

async fn from_registry(context: &JobContext<'_>) -> Result<Vec<Known>, String> {
    let JobContext { platform, config, .. } = context;
    let now = Timestamp::from_millis(platform.clock.now_ms());
    // A new deployment measures from its first minute, before anybody logs in.
    bootstrap::ensure(platform, config, now).await.map_err(|error| error.0.to_string())?;
    let mut all = Vec::new();
    for tenant_id in tenants::all(&platform.database).await.map_err(|e| e.to_string())? {
        let as_of = Timestamp::from_millis(platform.clock.now_ms());
        let known = registry::all(&platform.database, &tenant_id).await;
        let definitions = known.map_err(|error| error.to_string())?;
        let ids = definitions.iter().map(|definition| definition.id.clone()).collect();
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
        // What a lost message left out, and the alarm that goes with it.
        if let Err(error) = tell_channels(platform, &tenant_id, as_of).await {
            log::warn(&platform.log, now, DATASET, "channels not told", &error.to_string());
        }
        all.push(Known { tenant_id, definitions, as_of: Some(as_of) });
    }
    Ok(all)
}

async fn from_board(platform: &Platform, tenant_id: &str) -> Result<Known, String> {
    let board = board::snapshot(platform, tenant_id).await.map_err(|error| error.to_string())?;
    let definitions = board.summaries.into_iter().map(|summary| summary.definition).collect();
    Ok(Known { tenant_id: tenant_id.to_owned(), definitions, as_of: None })
}

async fn tell_channels(
    platform: &Platform,
    tenant_id: &str,
    as_of: Timestamp,
) -> Result<(), Error> {
    let rows = channels::all(&platform.database, tenant_id).await?;
    let command = outbox::Command::SetChannels {
        tenant_id: tenant_id.to_owned(),
        channels: rows.into_iter().map(|row| row.channel).collect(),
        all_as_of: Some(as_of),
    };
    incident::outbox(platform, tenant_id, command).await.map(drop)
}

async fn tick_one(
    context: &JobContext<'_>,
    tenant_id: &str,
    definition: Definition,
) -> Option<u32> {
    let platform = context.platform;
    let id = definition.id.clone();
    let command = Command::Tick {
        tenant_id: tenant_id.to_owned(),
        definition: Box::new(definition),
        scheduled_at: context.scheduled_at,
        control_targets: context.config.control_targets.clone(),
        trace_id: Some(context.trace_id.clone()),
    };
    match partnership::call(platform, tenant_id, &id, &command).await {
        Ok(Reply::Ticked { probes_run }) => Some(probes_run),
        other => {
            let cause = match other {
                Ok(reply) => format!("unexpected reply {reply:?}"),
                Err(error) => error.to_string(),
            };
            warn(platform, &format!("tick of {id} failed"), &cause);
            None
        }
    }
}

/// Says that the tick came, and writes what happened to incidents into the
/// activity log.
async fn tick_incidents(context: &JobContext<'_>, known: &Known) {
    let platform = context.platform;
    let ids = || known.definitions.iter().map(|definition| definition.id.clone()).collect();
    let command = incident::Command::Tick {
        tenant_id: known.tenant_id.clone(),
        as_of: known.as_of.unwrap_or_default(),
        partnerships: known.as_of.map(|_| ids()),
        service: service_findings(platform, known).await,
        trace_id: Some(context.trace_id.clone()),
    };
    match incident::call(platform, &known.tenant_id, &command).await {
        Ok(incident::Reply::Journal(lines)) => {
            if let Err(error) = write_journal(platform, &known.tenant_id, &lines).await {
                warn(platform, "incidents not in the activity log yet", &error.to_string());
            }
        }
        Ok(reply) => warn(platform, "tick of the incidents failed", &format!("{reply:?}")),
        Err(error) => warn(platform, "tick of the incidents failed", &error.to_string()),
    }
}

/// Alerts of the service that are seen in D1; what cannot be seen now stays as
/// it was. Backups are of the whole deployment, so its own tenant is told.
async fn service_findings(platform: &Platform, known: &Known) -> Vec<ServiceFinding> {
    if known.tenant_id != DEFAULT_TENANT_ID || known.as_of.is_none() {
        return Vec::new();
    }
    let now = Timestamp::from_millis(platform.clock.now_ms());
    let latest = backups::latest(&platform.database).await;
    let since = match latest {
        Ok(Some(set)) => set.finished_at,
        // Before the first one, as old as the deployment.
        Ok(None) => tenants::created_at(&platform.database, DEFAULT_TENANT_ID).await.ok().flatten(),
        Err(_) => None,
    };
    let Some(since) = since else { return Vec::new() };
    let late_at = since.plus_ms(BACKUP_LATE_MS);
    let alert = (late_at <= now).then(|| OpenAlert {
        family: Family::BackupOld,
        subject: String::new(),
        severity: Severity::Warning,
        title: "there is no backup of the last two hours".to_owned(),
        detail: format!("the last good one, or the deployment itself, is of {since}"),
        opened_at: now,
        began_at: late_at,
        flapping: false,
    });
    vec![ServiceFinding { family: Family::BackupOld, alert }]
}

/// However often a line is handed over, it is written once.
async fn write_journal(
    platform: &Platform,
    tenant_id: &str,
    lines: &[JournalLine],
) -> Result<(), crate::platform::Error> {
    let Some(last) = lines.last() else { return Ok(()) };
    let statements = lines.iter().map(|line| {
        let key = Sha256::new()
            .chain_update(b"incident journal")
            .chain_update(tenant_id)
            .chain_update(&line.subject)
            .chain_update(line.seq.to_be_bytes());
        let entry = Entry {
            tenant_id,
            actor: &line.actor,
            event: &line.event,
            status: Status::Success,
            subject: &line.subject,
        };
        activity::insert_once(&key.finalize().into(), line.at, &entry)
    });
    platform.database.batch(statements.collect()).await?;
    let written = incident::Command::JournalWritten { upto: last.seq };
    incident::call(platform, tenant_id, &written).await.map(|_| ())
}

fn warn(platform: &Platform, what: &str, cause: &str) {
    let now = Timestamp::from_millis(platform.clock.now_ms());
    log::warn(&platform.log, now, DATASET, what, cause);
}

//! EVERY CRON JOB: one table, one file a job.

pub mod backup;
pub mod housekeeping;
pub mod tick;

use crate::config::Config;
use crate::domain::time::Timestamp;
use crate::log::{self, Event, Level};
use crate::objects::board;
use crate::platform::Platform;
use crate::store::backups;
use crate::store::job_runs::{self, JobRun};
use crate::store::tenants::DEFAULT_TENANT_ID;
use futures::future::LocalBoxFuture;

const DATASET: &str = "devskyy.job";

/// What a job is given.
pub struct JobContext<'a> {
    pub platform: &'a Platform,
    pub config: &'a Config,
    /// The minute this run is for; cron may come late or twice.
    pub scheduled_at: Timestamp,
    /// Of this run; calls that it causes carry it on (W3C `traceparent`).
    pub trace_id: String,
}

/// What it did, for people, or why it failed.
pub type JobOutcome = Result<String, String>;

pub struct Schedule {
    pub job: &'static str,
    /// UTC, as in `wrangler.toml`.
    pub cron: &'static str,
    pub what: &'static str,
    pub run: for<'a> fn(JobContext<'a>) -> LocalBoxFuture<'a, JobOutcome>,
}

pub static SCHEDULES: &[Schedule] = &[
    Schedule {
        job: tick::NAME,
        cron: "* * * * *",
        what: "every minute: probe what is due and refresh every summary",
        run: |context| Box::pin(tick::run(context)),
    },
    Schedule {
        job: housekeeping::NAME,
        cron: "17 * * * *",
        what: "every hour at minute 17: delete refresh tokens long past their end",
        run: |context| Box::pin(housekeeping::run(context)),
    },
    Schedule {
        job: backup::NAME,
        cron: "37 * * * *",
        what: "every hour at minute 37: write a set of backups",
        run: |context| Box::pin(backup::run(context)),
    },
];

/// Runs the job of this cron line and records how it went. Never fails: there
/// is nobody to tell but the log and `/status`.
pub async fn run(platform: &Platform, cron: &str, scheduled_at_ms: i64) {
    let now = || Timestamp::from_millis(platform.clock.now_ms());
    let Some(schedule) = SCHEDULES.iter().find(|schedule| schedule.cron == cron) else {
        log::warn(&platform.log, now(), DATASET, "no job for this cron line", cron);
        return;
    };
    // What a job wrote would be lost, or mixed with what is being restored.
    if backups::is_restoring(&platform.database, now()).await.unwrap_or_default() {
        log::warn(&platform.log, now(), DATASET, "no job runs during a restore", schedule.job);
        return;
    }
    let config = Config::from_vars(&platform.vars);
    let scheduled_at = Timestamp::from_millis(scheduled_at_ms);
    let started_at = now();
    let mut random = [0_u8; 24];
    if let Err(error) = platform.random.fill(&mut random) {
        let what = "no randomness for a trace id";
        log::warn(&platform.log, started_at, DATASET, what, &error.to_string());
    }
    let (for_trace, for_span) = random.split_at(16);
    let (trace_id, span_id) = (log::hex(for_trace), log::hex(for_span));
    let context =
        JobContext { platform, config: &config, scheduled_at, trace_id: trace_id.clone() };
    let outcome = (schedule.run)(context).await;
    let finished_at = now();
    let (succeeded, detail) = match outcome {
        Ok(detail) => (true, detail),
        Err(detail) => (false, detail),
    };
    let level = if succeeded { Level::Info } else { Level::Error };
    let mut event = Event::new(finished_at, level, DATASET, &format!("job {}", schedule.job));
    if !succeeded {
        event = event.error("job_failed", &detail);
    }
    event.trace_id = Some(&trace_id);
    event.span_id = Some(&span_id);
    event.duration_ns = Some(log::duration_ns(started_at, finished_at));
    event.write(&platform.log);
    // A private cause belongs into the log alone; the row is shown to people.
    let detail = if succeeded { detail } else { "failed; the cause is in the log".to_owned() };
    let run = JobRun {
        job: schedule.job.to_owned(),
        scheduled_at,
        started_at,
        finished_at,
        succeeded,
        detail,
    };
    let told = board::job_ran(platform, DEFAULT_TENANT_ID, &run.job, started_at, succeeded).await;
    if let Err(error) = told {
        log::warn(&platform.log, now(), DATASET, "job run not counted", &error.to_string());
    }
    if let Err(error) = job_runs::record(&platform.database, &run).await {
        log::warn(&platform.log, now(), DATASET, "job run not recorded", &error.to_string());
    }
}

//! `job_runs`: when each cron job last ran and how it went.

use crate::domain::time::{MINUTE_MS, Timestamp};
use crate::platform::sql::Statement;
use crate::platform::{Database, Error};

/// Name of the minute tick's row.
pub const TICK: &str = "tick";

/// A tick that began longer ago than this is late: three of them were missed.
pub const TICK_LATE_MS: i64 = 3 * MINUTE_MS;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRun {
    pub job: String,
    /// The minute it was for.
    pub scheduled_at: Timestamp,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub succeeded: bool,
    pub detail: String,
}

pub async fn record(database: &Database, run: &JobRun) -> Result<(), Error> {
    let statement = Statement::new(
        "INSERT INTO job_runs (job, scheduled_at, started_at, finished_at, outcome, detail) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (job) DO UPDATE SET scheduled_at = excluded.scheduled_at, \
             started_at = excluded.started_at, finished_at = excluded.finished_at, \
             outcome = excluded.outcome, detail = excluded.detail \
         WHERE excluded.started_at >= started_at",
    )
    .bind(run.job.as_str())
    .bind(run.scheduled_at.millis())
    .bind(run.started_at.millis())
    .bind(run.finished_at.millis())
    .bind(if run.succeeded { "success" } else { "failed" })
    .bind(run.detail.as_str());
    database.batch(vec![statement]).await.map(|_| ())
}

/// The last run of a job; `None` if it never ran.
pub async fn last(database: &Database, job: &str) -> Result<Option<JobRun>, Error> {
    let rows = database
        .query(
            Statement::new(
                "SELECT job, scheduled_at, started_at, finished_at, outcome, detail \
                 FROM job_runs WHERE job = ?1",
            )
            .bind(job),
        )
        .await?;
    rows.first()
        .map(|row| {
            Ok(JobRun {
                job: row.get("job")?,
                scheduled_at: Timestamp::from_millis(row.get("scheduled_at")?),
                started_at: Timestamp::from_millis(row.get("started_at")?),
                finished_at: Timestamp::from_millis(row.get("finished_at")?),
                succeeded: row.get::<String>("outcome")? == "success",
                detail: row.get("detail")?,
            })
        })
        .transpose()
}

//! Hourly: lets go of rows that nobody can use any more.

use super::{JobContext, JobOutcome};
use crate::domain::time::Timestamp;
use crate::platform::Error;
use crate::store::{idempotency, refresh_tokens, users};

pub const NAME: &str = "housekeeping";

/// Expired refresh tokens stay this long, so that the reuse of one is still
/// recognised and the family's history can be read.
const REFRESH_TOKENS_KEPT_DAYS: u32 = 30;

pub async fn run(context: JobContext<'_>) -> JobOutcome {
    let database = &context.platform.database;
    let now = Timestamp::from_millis(context.platform.clock.now_ms());
    let text = |error: Error| error.to_string();
    let tokens = refresh_tokens::delete_expired(database, now, REFRESH_TOKENS_KEPT_DAYS).await;
    let replies = idempotency::delete_expired(database, now).await;
    let failures = users::delete_old_failures(database, now).await;
    Ok(format!(
        "{} refresh tokens, {} replies to repetitions and {} failed logins deleted",
        tokens.map_err(text)?,
        replies.map_err(text)?,
        failures.map_err(text)?,
    ))
}

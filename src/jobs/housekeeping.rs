//! Hourly: lets go of rows that nobody can use any more.

use super::{JobContext, JobOutcome};
use crate::domain::time::Timestamp;
use crate::store::refresh_tokens;

pub const NAME: &str = "housekeeping";

/// Expired refresh tokens stay this long, so that the reuse of one is still
/// recognised and the family's history can be read.
const REFRESH_TOKENS_KEPT_DAYS: u32 = 30;

pub async fn run(context: JobContext<'_>) -> JobOutcome {
    let now = Timestamp::from_millis(context.platform.clock.now_ms());
    refresh_tokens::delete_expired(&context.platform.database, now, REFRESH_TOKENS_KEPT_DAYS)
        .await
        .map(|deleted| format!("{deleted} refresh tokens deleted"))
        .map_err(|error| error.to_string())
}

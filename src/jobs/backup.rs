//! Hourly: writes a set of backups, and lets go of those past their time. What
//! is not done in one go, the minute's tick goes on with.

use super::{DATASET, JobContext, JobOutcome};
use crate::backup::run::{self, Step};
use crate::backup::{Budget, LARGE, SMALL, verify};
use crate::domain::time::Timestamp;
use crate::log;
use crate::platform::{Error, Platform};
use crate::store::backups;

pub const NAME: &str = "backup";

pub async fn run(context: JobContext<'_>) -> JobOutcome {
    let platform = context.platform;
    let text = |error: Error| error.to_string();
    let begun = run::begin(platform).await.map_err(text)?;
    let step = run::step(platform, &mut Budget::of_calls(LARGE)).await.map_err(text)?;
    let deleted = run::tidy(platform).await.map_err(text)?;
    let set = match (step, begun) {
        (Step::Finished(id), _) => format!("{id} written"),
        (_, Some(id)) => format!("{id} begun"),
        (_, None) => "one is under way".to_owned(),
    };
    Ok(format!("{set}, {deleted} old ones deleted"))
}

/// A little more of a set, or of a check, that is under way.
pub async fn resume(platform: &Platform) {
    if let Err(error) = go_on(platform).await {
        let now = Timestamp::from_millis(platform.clock.now_ms());
        log::warn(&platform.log, now, DATASET, "backup not gone on with", &error.to_string());
    }
}

async fn go_on(platform: &Platform) -> Result<(), Error> {
    let mut budget = Budget::of_calls(SMALL);
    if run::step(platform, &mut budget).await? == Step::Idle
        && let Some(set) = backups::unverified(&platform.database).await?
    {
        verify::step(platform, &set, &mut budget).await?;
    }
    Ok(())
}

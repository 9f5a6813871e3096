//! Backups: writing a set, checking one, filling an empty environment from
//! one. The routes and the cron jobs both drive this.
//!
//! All work is in small units, and after each of them is saved how far it has
//! come; whoever comes next goes on from there. One works at a time: the set's
//! lease says who.

pub mod restore;
pub mod run;
pub mod verify;

use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::objects::OBJECTS;
use crate::platform::sql::Statement;
use crate::platform::{Error, ErrorKind, Platform};
use crate::store::backups::{DRILL_KEY, Drill};
use crate::store::{new_id, tenants};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What one invocation may still do.
///
/// A Worker has 50 subrequests an invocation on the free plan and 10,000 on
/// the paid one. A unit is at most [`UNIT_CALLS`] of them.
pub struct Budget {
    units: u32,
}

const UNIT_CALLS: u32 = 6;

/// A minute's tick, or one request: fits the free plan beside what else these
/// do.
pub const SMALL: u32 = 36;

/// The hourly job: 15 minutes of processor time.
pub const LARGE: u32 = 6_000;

impl Budget {
    pub fn of_calls(calls: u32) -> Self {
        Self { units: (calls / UNIT_CALLS).max(1) }
    }

    fn spend(&mut self) -> bool {
        let left = self.units > 0;
        self.units = self.units.saturating_sub(1);
        left
    }
}

fn now(platform: &Platform) -> Timestamp {
    Timestamp::from_millis(platform.clock.now_ms())
}

fn lease(platform: &Platform) -> Result<String, Error> {
    new_id(&platform.random, IdKind::Backup, now(platform))
}

fn misuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Misuse, message)
}

/// How far a run has come, as it is saved.
fn text(progress: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(progress).map_err(|error| misuse(error.to_string()))
}

fn parse<T: DeserializeOwned>(progress: &str) -> Result<T, Error> {
    serde_json::from_str(progress).map_err(|error| misuse(error.to_string()))
}

/// Every object that holds something worth keeping, as binding and name.
///
/// Objects of clients (the rate limiter's) are left out on purpose: they live
/// for a minute to a day, and a limit that starts over harms nobody.
async fn objects(platform: &Platform) -> Result<Vec<(String, String)>, Error> {
    let tenants = tenants::all(&platform.database).await?;
    // Retired ones too: their history stays.
    let query = Statement::new("SELECT tenant_id, id FROM partnerships ORDER BY tenant_id, id");
    let rows = platform.database.query(query).await?;
    let mut partnerships: Vec<(String, String)> = Vec::new();
    for row in &rows {
        partnerships.push((row.get("tenant_id")?, row.get("id")?));
    }
    let mut objects = Vec::new();
    for kind in OBJECTS {
        let names: Vec<String> = match kind.name_rule {
            "{tenant_id}" => tenants.clone(),
            "{tenant_id}/{partnership_id}" => {
                partnerships.iter().map(|(tenant, id)| format!("{tenant}/{id}")).collect()
            }
            _ => Vec::new(),
        };
        objects.extend(names.into_iter().map(|name| (kind.binding.to_owned(), name)));
    }
    Ok(objects)
}

/// The last drill that succeeded, wherever it was.
pub async fn last_drill(platform: &Platform) -> Result<Option<Drill>, Error> {
    let Some(bytes) = platform.bucket.get(DRILL_KEY).await? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| misuse(error.to_string()))
}

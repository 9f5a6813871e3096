//! SQL, one file a table or a family of tables, written once over
//! `platform::Database`. Every statement names its tenant.

pub mod activity;
pub mod api_keys;
pub mod backups;
pub mod channels;
pub mod decisions;
pub mod dump;
pub mod idempotency;
pub mod job_runs;
pub mod kv;
pub mod policies;
pub mod refresh_tokens;
pub mod registry;
pub mod settings;
pub mod tenants;
pub mod users;

use crate::domain::id::IdKind;
use crate::domain::time::Timestamp;
use crate::platform::sql::Statement;
use crate::platform::{Database, Error, Random};
use std::collections::BTreeMap;

/// EVERY TABLE of D1, in the order in which they can be filled.
pub const TABLES: &[&str] = &[
    "tenants",
    "users",
    "refresh_tokens",
    "login_failures",
    "api_keys",
    "partnerships",
    "partnership_names",
    "probes",
    "kpi_definitions",
    "deliverables",
    "slos",
    "maintenance_windows",
    "policies",
    "decisions",
    "decision_outcomes",
    "receipt_keys",
    "activity",
    "settings",
    "idempotency_keys",
    "job_runs",
    "channels",
    "backups",
];

macro_rules! migration {
    ($name:literal) => {
        ($name, include_str!(concat!("../../migrations/", $name)))
    };
}

/// EVERY MIGRATION, in order: what `migrations/` holds and what the database
/// must have applied before this build is ready.
pub const MIGRATIONS: &[(&str, &str)] = &[
    migration!("0001_tenants_and_users.sql"),
    migration!("0002_registry.sql"),
    migration!("0003_decisions.sql"),
    migration!("0004_activity.sql"),
    migration!("0005_settings.sql"),
    migration!("0006_job_runs.sql"),
    migration!("0007_api_keys.sql"),
    migration!("0008_lockout.sql"),
    migration!("0009_idempotency.sql"),
    migration!("0010_slos.sql"),
    migration!("0011_maintenance.sql"),
    migration!("0012_channels.sql"),
    migration!("0013_backups.sql"),
    migration!("0014_receipts.sql"),
];

/// Names of the migrations the database has applied, in order.
pub async fn applied_migrations(database: &Database) -> Result<Vec<String>, Error> {
    // The table is wrangler's own.
    let query = Statement::new("SELECT name FROM d1_migrations ORDER BY id");
    database.query(query).await?.iter().map(|row| row.get("name")).collect()
}

/// Rows of every table. (One row of subselects: D1 takes no compound SELECT of
/// more than five.)
pub async fn row_counts(database: &Database) -> Result<BTreeMap<String, u64>, Error> {
    let selects: Vec<String> =
        TABLES.iter().map(|table| format!("(SELECT COUNT(*) FROM {table}) AS {table}")).collect();
    let query = Statement::new(format!("SELECT {}", selects.join(", ")));
    let rows = database.query(query).await?;
    let Some(row) = rows.first() else { return Ok(BTreeMap::new()) };
    TABLES.iter().map(|table| Ok(((*table).to_owned(), row.get(table)?))).collect()
}

/// A fresh id of this kind.
pub fn new_id(random: &Random, kind: IdKind, now: Timestamp) -> Result<String, Error> {
    let mut bytes = [0_u8; 10];
    random.fill(&mut bytes)?;
    Ok(kind.make(now, &bytes))
}

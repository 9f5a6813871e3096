//! `tenants`: who owns rows. A new tenant gets its settings, a policy and the six
//! partnerships as definitions, and no values.

use super::activity::{self, Entry, Status};
use super::{policies, registry, settings};
use crate::domain::seed;
use crate::domain::time::Timestamp;
use crate::platform::sql::Statement;
use crate::platform::{Database, Error, Random};

/// The tenant that is made on first start, and the one that `/health` shows
/// to callers without a token.
pub const DEFAULT_TENANT_ID: &str = "ten_default";

pub async fn exists(database: &Database, tenant_id: &str) -> Result<bool, Error> {
    let query = Statement::new("SELECT id FROM tenants WHERE id = ?1").bind(tenant_id);
    Ok(!database.query(query).await?.is_empty())
}

/// All tenants, for jobs.
pub async fn all(database: &Database) -> Result<Vec<String>, Error> {
    let rows = database.query(Statement::new("SELECT id FROM tenants ORDER BY id")).await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// The statements that make a tenant, to be run in one batch.
pub fn create(
    random: &Random,
    tenant_id: &str,
    name: &str,
    author: &str,
    now: Timestamp,
) -> Result<Vec<Statement>, Error> {
    let mut statements = vec![
        Statement::new("INSERT INTO tenants (id, name, created_at) VALUES (?1, ?2, ?3)")
            .bind(tenant_id)
            .bind(name)
            .bind(now.millis()),
        settings::insert_first(tenant_id, author, now)?,
        policies::Version::first(author, now)?.insert(tenant_id),
    ];
    for seed in &seed::PARTNERSHIPS {
        statements.extend(registry::insert(tenant_id, &registry::seeded(seed, now))?);
    }
    statements.push(activity::insert(
        random,
        now,
        &Entry {
            tenant_id,
            actor: author,
            event: "tenant.created",
            status: Status::Success,
            subject: tenant_id,
        },
    )?);
    Ok(statements)
}

/// When the tenant was made; `None`: there is none of this id.
pub async fn created_at(database: &Database, tenant_id: &str) -> Result<Option<Timestamp>, Error> {
    let query = Statement::new("SELECT created_at FROM tenants WHERE id = ?1").bind(tenant_id);
    let rows = database.query(query).await?;
    rows.first().map(|row| row.get("created_at").map(Timestamp::from_millis)).transpose()
}

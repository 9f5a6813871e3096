//! `settings`: a tenant's settings, one row a version.

use crate::domain::settings::TenantSettings;
use crate::domain::time::Timestamp;
use crate::platform::sql::Statement;
use crate::platform::{Database, Error, ErrorKind};

#[derive(Clone)]
pub struct Version {
    pub version: i64,
    pub settings: TenantSettings,
    pub author_id: String,
    pub created_at: Timestamp,
}

/// The settings in force; `None` for a tenant that does not exist.
pub async fn current(database: &Database, tenant_id: &str) -> Result<Option<Version>, Error> {
    let rows = database
        .query(
            Statement::new(
                "SELECT version, document, author_id, created_at FROM settings \
                 WHERE tenant_id = ?1 ORDER BY version DESC LIMIT 1",
            )
            .bind(tenant_id),
        )
        .await?;
    rows.first()
        .map(|row| {
            Ok(Version {
                version: row.get("version")?,
                settings: row.json("document")?,
                author_id: row.get("author_id")?,
                created_at: Timestamp::from_millis(row.get("created_at")?),
            })
        })
        .transpose()
}

/// The first version of a new tenant.
pub fn insert_first(tenant_id: &str, author_id: &str, now: Timestamp) -> Result<Statement, Error> {
    let first = Version {
        version: 1,
        settings: TenantSettings::default(),
        author_id: author_id.to_owned(),
        created_at: now,
    };
    insert(tenant_id, &first)
}

/// Another version; refused where there is one of this number already.
pub fn insert(tenant_id: &str, version: &Version) -> Result<Statement, Error> {
    let document = serde_json::to_string(&version.settings)
        .map_err(|error| Error::new(ErrorKind::Misuse, error.to_string()))?;
    Ok(Statement::new(
        "INSERT INTO settings (tenant_id, version, document, author_id, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(tenant_id)
    .bind(version.version)
    .bind(document)
    .bind(version.author_id.as_str())
    .bind(version.created_at.millis()))
}

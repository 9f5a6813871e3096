//! `policies`: what decisions are made by, one row a version.

use crate::domain::decision::policy::{Policy, STANDARD, shipped};
use crate::domain::decision::receipt::{PolicyRef, canonical};
use crate::domain::hex::sha256_hex;
use crate::domain::time::Timestamp;
use crate::platform::sql::{Row, Statement};
use crate::platform::{Database, Error, ErrorKind};

#[derive(Clone, Debug)]
pub struct Version {
    pub id: String,
    pub version: i64,
    /// Canonical JSON.
    pub document: String,
    pub author_id: String,
    pub created_at: Timestamp,
}

fn misuse(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Misuse, error.to_string())
}

impl Version {
    /// The policy that ships with this build, as the first version.
    pub fn first(author_id: &str, now: Timestamp) -> Result<Self, Error> {
        Self::of(&shipped().map_err(misuse)?, STANDARD, 1, author_id, now)
    }

    pub fn of(
        policy: &Policy,
        id: &str,
        version: i64,
        author_id: &str,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let document = canonical(policy).map_err(misuse)?;
        Ok(Self {
            id: id.to_owned(),
            version,
            document: String::from_utf8(document).map_err(misuse)?,
            author_id: author_id.to_owned(),
            created_at: now,
        })
    }

    /// What a receipt says of the policy it was made by.
    pub fn reference(&self) -> PolicyRef {
        PolicyRef {
            id: self.id.clone(),
            version: self.version,
            // The document is canonical as it stands.
            sha256: sha256_hex(self.document.as_bytes()),
        }
    }

    pub fn policy(&self) -> Result<Policy, Error> {
        serde_json::from_str(&self.document).map_err(misuse)
    }

    /// Another version; refused where there is one of this number already.
    pub fn insert(&self, tenant_id: &str) -> Statement {
        self.statement(tenant_id, "INSERT INTO")
    }

    /// The first version of a tenant from before there were policies; nothing
    /// where somebody was faster.
    pub fn insert_if_none(&self, tenant_id: &str) -> Statement {
        self.statement(tenant_id, "INSERT OR IGNORE INTO")
    }

    fn statement(&self, tenant_id: &str, verb: &str) -> Statement {
        Statement::new(format!(
            "{verb} policies (tenant_id, id, version, document, author_id, created_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
        ))
        .bind(tenant_id)
        .bind(self.id.as_str())
        .bind(self.version)
        .bind(self.document.as_str())
        .bind(self.author_id.as_str())
        .bind(self.created_at.millis())
    }
}

fn version(row: &Row) -> Result<Version, Error> {
    Ok(Version {
        id: row.get("id")?,
        version: row.get("version")?,
        document: row.get("document")?,
        author_id: row.get("author_id")?,
        created_at: Timestamp::from_millis(row.get("created_at")?),
    })
}

/// The version in force.
pub async fn current(
    database: &Database,
    tenant_id: &str,
    id: &str,
) -> Result<Option<Version>, Error> {
    Ok(versions(database, tenant_id, id, None, 1).await?.into_iter().next())
}

pub async fn find(
    database: &Database,
    tenant_id: &str,
    id: &str,
    number: i64,
) -> Result<Option<Version>, Error> {
    let query = Statement::new(
        "SELECT id, version, document, author_id, created_at FROM policies \
         WHERE tenant_id = ?1 AND id = ?2 AND version = ?3",
    );
    let rows = database.query(query.bind(tenant_id).bind(id).bind(number)).await?;
    rows.first().map(version).transpose()
}

/// Versions of a policy, newest first, from before this one.
pub async fn versions(
    database: &Database,
    tenant_id: &str,
    id: &str,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Version>, Error> {
    let query = Statement::new(
        "SELECT id, version, document, author_id, created_at FROM policies \
         WHERE tenant_id = ?1 AND id = ?2 AND (?3 IS NULL OR version < ?3) \
         ORDER BY version DESC LIMIT ?4",
    );
    let query = query.bind(tenant_id).bind(id).bind(before).bind(limit);
    database.query(query).await?.iter().map(version).collect()
}

//! `channels`: where notifications of incidents go.

use crate::domain::delivery::{Channel, ChannelKind};
use crate::domain::incident::Severity;
use crate::domain::time::Timestamp;
use crate::platform::sql::{Row, Statement};
use crate::platform::{Database, Error, ErrorKind};

/// Violated by a change of a channel that somebody changed meanwhile.
pub const REVISION_MOVED: &str = "channels_revision";

const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn severity_of(name: &str) -> Option<Severity> {
    let all = [Severity::Info, Severity::Warning, Severity::Critical];
    all.into_iter().find(|severity| severity_name(*severity) == name)
}

/// One row.
#[derive(Clone)]
pub struct ChannelRow {
    pub channel: Channel,
    /// Of its address.
    pub host: String,
    pub created_at: Timestamp,
    pub created_by: String,
    pub updated_at: Timestamp,
}

impl ChannelRow {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let unknown =
            |what: &str| Error::new(ErrorKind::Misuse, format!("unknown {what} of a channel"));
        let kind: String = row.get("kind")?;
        let severity: String = row.get("min_severity")?;
        Ok(Self {
            channel: Channel {
                id: row.get("id")?,
                kind: ChannelKind::parse(&kind).ok_or_else(|| unknown("kind"))?,
                name: row.get("name")?,
                min_severity: severity_of(&severity).ok_or_else(|| unknown("severity"))?,
                enabled: row.get("enabled")?,
                sealed: row.get("sealed")?,
                revision: row.get("revision")?,
            },
            host: row.get("host")?,
            created_at: Timestamp::from_millis(row.get("created_at")?),
            created_by: row.get("created_by")?,
            updated_at: Timestamp::from_millis(row.get("updated_at")?),
        })
    }
}

/// Every channel of the tenant: there are few.
pub async fn all(database: &Database, tenant_id: &str) -> Result<Vec<ChannelRow>, Error> {
    let query = Statement::new("SELECT * FROM channels WHERE tenant_id = ?1 ORDER BY id");
    database.query(query.bind(tenant_id)).await?.iter().map(ChannelRow::from_row).collect()
}

/// A channel of this tenant; another tenant's is not found.
pub async fn find(
    database: &Database,
    tenant_id: &str,
    id: &str,
) -> Result<Option<ChannelRow>, Error> {
    let query = Statement::new("SELECT * FROM channels WHERE tenant_id = ?1 AND id = ?2");
    let rows = database.query(query.bind(tenant_id).bind(id)).await?;
    rows.first().map(ChannelRow::from_row).transpose()
}

/// Channels of a tenant after the one of this id, oldest first.
pub async fn list(
    database: &Database,
    tenant_id: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<ChannelRow>, Error> {
    let query = Statement::new(
        "SELECT * FROM channels WHERE tenant_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    );
    let query = query.bind(tenant_id).bind(after).bind(limit);
    database.query(query).await?.iter().map(ChannelRow::from_row).collect()
}

pub async fn count(database: &Database, tenant_id: &str) -> Result<u64, Error> {
    let query = Statement::new("SELECT COUNT(*) AS n FROM channels WHERE tenant_id = ?1");
    database.query(query.bind(tenant_id)).await?.first().map_or(Ok(0), |row| row.get("n"))
}

pub fn insert(tenant_id: &str, row: &ChannelRow) -> Statement {
    let channel = &row.channel;
    Statement::new(
        "INSERT INTO channels (tenant_id, id, kind, name, min_severity, enabled, host, sealed, \
             revision, created_at, created_by, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )
    .bind(tenant_id)
    .bind(channel.id.as_str())
    .bind(channel.kind.name())
    .bind(channel.name.as_str())
    .bind(severity_name(channel.min_severity))
    .bind(channel.enabled)
    .bind(row.host.as_str())
    .bind(channel.sealed.as_str())
    .bind(channel.revision)
    .bind(row.created_at.millis())
    .bind(row.created_by.as_str())
    .bind(row.updated_at.millis())
}

/// Puts the channel in the place of its revision before `channel.revision`. If
/// somebody changed it meanwhile, the batch fails on [`REVISION_MOVED`].
pub fn replace(tenant_id: &str, row: &ChannelRow) -> Statement {
    let channel = &row.channel;
    Statement::new(
        "UPDATE channels SET name = ?3, min_severity = ?4, enabled = ?5, updated_at = ?6, \
             revision = iif(revision = ?7 - 1, ?7, 0) WHERE tenant_id = ?1 AND id = ?2",
    )
    .bind(tenant_id)
    .bind(channel.id.as_str())
    .bind(channel.name.as_str())
    .bind(severity_name(channel.min_severity))
    .bind(channel.enabled)
    .bind(row.updated_at.millis())
    .bind(channel.revision)
}

/// The statements that delete the channel, if it still is of this revision.
pub fn delete(tenant_id: &str, channel: &Channel) -> Vec<Statement> {
    vec![
        Statement::new(
            "UPDATE channels SET revision = iif(revision = ?3, ?3 + 1, 0) \
             WHERE tenant_id = ?1 AND id = ?2",
        )
        .bind(tenant_id)
        .bind(channel.id.as_str())
        .bind(channel.revision),
        Statement::new("DELETE FROM channels WHERE tenant_id = ?1 AND id = ?2")
            .bind(tenant_id)
            .bind(channel.id.as_str()),
    ]
}

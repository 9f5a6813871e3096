//! `partnerships`, `partnership_names`, `probes`, `kpi_definitions`,
//! `deliverables`, `slos`, `maintenance_windows`: one definition is read and
//! written as a whole.

use crate::domain::deliverable::Deliverable;
use crate::domain::partnership::{
    DEFAULT_PROBE_DEADLINE_MS, DEFAULT_PROBE_INTERVAL_S, Definition, KpiDefinition, Probe, Targets,
};
use crate::domain::seed::SeedPartnership;
use crate::domain::settings::Settings;
use crate::domain::slo;
use crate::domain::time::Timestamp;
use crate::platform::sql::{Row, Statement};
use crate::platform::{Database, Error, ErrorKind};

/// Violated by a second partnership of the same id.
pub const ID_TAKEN: &str = "partnerships.id";
/// Violated by a name that another partnership has.
pub const NAME_TAKEN: &str = "partnership_names.name";
/// Violated by a change of a definition that somebody changed meanwhile.
pub const REVISION_MOVED: &str = "partnerships_revision";

/// A definition with all that belongs to it in one row, so that reading is
/// one statement and sees one state.
const SELECT: &str = "\
SELECT p.id, p.name, p.partner, p.status_page_url, p.availability_target_percent, \
    p.availability_floor_percent, p.latency_target_ms, p.degraded_counts_as_bad, p.revision, \
    p.created_at, p.updated_at, \
    (SELECT document FROM settings s WHERE s.tenant_id = p.tenant_id \
     ORDER BY version DESC LIMIT 1) AS settings, \
    (SELECT json_group_array(n.name) FROM partnership_names n \
     WHERE n.tenant_id = p.tenant_id AND n.partnership_id = p.id AND n.name <> p.id) AS aliases, \
    (SELECT json_group_array(json_object('key', r.key, 'url', r.url, \
        'interval_s', r.interval_s, 'deadline_ms', r.deadline_ms, \
        'degraded_above_ms', r.degraded_above_ms, \
        'enabled', json(iif(r.enabled, 'true', 'false')))) FROM probes r \
     WHERE r.tenant_id = p.tenant_id AND r.partnership_id = p.id) AS probes, \
    (SELECT json_group_array(json_object('name', k.name, 'target', k.target, 'unit', k.unit, \
        'direction', k.direction, 'weight', k.weight)) FROM kpi_definitions k \
     WHERE k.tenant_id = p.tenant_id AND k.partnership_id = p.id) AS kpis, \
    (SELECT json_group_array(json_object('key', d.key, \
        'completion_percentage', d.completion_percentage, 'status', d.status, \
        'due_date', d.due_date, 'weight', d.weight, \
        'completed_at', strftime('%Y-%m-%dT%H:%M:%fZ', d.completed_at / 1000.0, 'unixepoch'), \
        'updated_at', strftime('%Y-%m-%dT%H:%M:%fZ', d.updated_at / 1000.0, 'unixepoch'), \
        'updated_by', d.updated_by)) FROM deliverables d \
     WHERE d.tenant_id = p.tenant_id AND d.partnership_id = p.id) AS deliverables, \
    (SELECT json_group_array(json_object('key', o.key, 'kind', o.kind, \
        'target_percent', o.target_percent, 'threshold_ms', o.threshold_ms, \
        'period_days', o.period_days)) FROM slos o \
     WHERE o.tenant_id = p.tenant_id AND o.partnership_id = p.id) AS slos, \
    (SELECT json_group_array(json_object('id', m.id, 'name', m.name, \
        'schedule', json(m.schedule), \
        'created_at', strftime('%Y-%m-%dT%H:%M:%fZ', m.created_at / 1000.0, 'unixepoch'), \
        'created_by', m.created_by) ORDER BY m.id) FROM maintenance_windows m \
     WHERE m.tenant_id = p.tenant_id AND m.partnership_id = p.id) AS maintenance \
FROM partnerships p WHERE p.tenant_id = ?1 AND p.retired_at IS NULL";

/// Every partnership of the tenant that is not retired, by id.
pub async fn all(database: &Database, tenant_id: &str) -> Result<Vec<Definition>, Error> {
    let query = Statement::new(format!("{SELECT} ORDER BY p.id")).bind(tenant_id);
    database.query(query).await?.iter().map(definition).collect()
}

/// The partnership of this id or alias.
pub async fn find(
    database: &Database,
    tenant_id: &str,
    name: &str,
) -> Result<Option<Definition>, Error> {
    let query = Statement::new(format!(
        "{SELECT} AND p.id = (SELECT partnership_id FROM partnership_names \
         WHERE tenant_id = ?1 AND name = ?2)"
    ))
    .bind(tenant_id)
    .bind(name);
    database.query(query).await?.first().map(definition).transpose()
}

fn definition(row: &Row) -> Result<Definition, Error> {
    Ok(Definition {
        id: row.get("id")?,
        name: row.get("name")?,
        partner: row.get("partner")?,
        aliases: row.json("aliases")?,
        status_page_url: row.get("status_page_url")?,
        targets: Targets {
            availability_percent: row.get("availability_target_percent")?,
            availability_floor_percent: row.get("availability_floor_percent")?,
            latency_ms: row.get("latency_target_ms")?,
            degraded_counts_as_bad: row.get("degraded_counts_as_bad")?,
        },
        probes: row.json("probes")?,
        kpis: row.json("kpis")?,
        deliverables: row.json("deliverables")?,
        slos: row.json("slos")?,
        maintenance: row.json("maintenance")?,
        settings: row.json("settings")?,
        revision: row.get("revision")?,
        created_at: Timestamp::from_millis(row.get("created_at")?),
        updated_at: Timestamp::from_millis(row.get("updated_at")?),
    })
}

/// The statements that store a new definition.
pub fn insert(tenant_id: &str, definition: &Definition) -> Result<Vec<Statement>, Error> {
    let mut statements = vec![
        agreement(
            tenant_id,
            definition,
            "INSERT INTO partnerships (tenant_id, id, name, partner, status_page_url, \
                 availability_target_percent, availability_floor_percent, latency_target_ms, \
                 degraded_counts_as_bad, revision, created_at, updated_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )
        .bind(definition.revision)
        .bind(definition.created_at.millis())
        .bind(definition.updated_at.millis()),
    ];
    statements.extend(insert_parts(tenant_id, definition)?);
    Ok(statements)
}

/// The statements that put `definition` in the place of its revision before
/// `definition.revision`. If somebody changed it meanwhile, or retired it, the
/// batch fails on [`REVISION_MOVED`] and nothing is written.
pub fn replace(tenant_id: &str, definition: &Definition) -> Result<Vec<Statement>, Error> {
    let mut statements = vec![
        agreement(
            tenant_id,
            definition,
            "UPDATE partnerships SET name = ?3, partner = ?4, status_page_url = ?5, \
                 availability_target_percent = ?6, availability_floor_percent = ?7, \
                 latency_target_ms = ?8, degraded_counts_as_bad = ?9, updated_at = ?11, \
                 revision = iif(revision = ?10 - 1 AND retired_at IS NULL, ?10, 0) \
             WHERE tenant_id = ?1 AND id = ?2",
        )
        .bind(definition.revision)
        .bind(definition.updated_at.millis()),
    ];
    for sql in [
        "DELETE FROM partnership_names WHERE tenant_id = ?1 AND partnership_id = ?2",
        "DELETE FROM probes WHERE tenant_id = ?1 AND partnership_id = ?2",
        "DELETE FROM kpi_definitions WHERE tenant_id = ?1 AND partnership_id = ?2",
        "DELETE FROM deliverables WHERE tenant_id = ?1 AND partnership_id = ?2",
        "DELETE FROM slos WHERE tenant_id = ?1 AND partnership_id = ?2",
        "DELETE FROM maintenance_windows WHERE tenant_id = ?1 AND partnership_id = ?2",
    ] {
        statements.push(Statement::new(sql).bind(tenant_id).bind(definition.id.as_str()));
    }
    statements.extend(insert_parts(tenant_id, definition)?);
    Ok(statements)
}

/// A statement whose `?1 … ?9` are the tenant, the id and what was agreed.
fn agreement(tenant_id: &str, definition: &Definition, sql: &'static str) -> Statement {
    let targets = &definition.targets;
    Statement::new(sql)
        .bind(tenant_id)
        .bind(definition.id.as_str())
        .bind(definition.name.as_str())
        .bind(definition.partner.as_str())
        .bind(definition.status_page_url.clone())
        .bind(targets.availability_percent)
        .bind(targets.availability_floor_percent)
        .bind(targets.latency_ms)
        .bind(targets.degraded_counts_as_bad)
}

/// The statements that retire a partnership: it is no longer listed, probed or
/// scored; its rows stay, and so does its id, which nobody else may take.
pub fn retire(tenant_id: &str, definition: &Definition, now: Timestamp) -> Vec<Statement> {
    vec![
        Statement::new(
            "UPDATE partnerships SET retired_at = ?3, updated_at = ?3, \
                 revision = iif(revision = ?4 AND retired_at IS NULL, ?4 + 1, 0) \
             WHERE tenant_id = ?1 AND id = ?2",
        )
        .bind(tenant_id)
        .bind(definition.id.as_str())
        .bind(now.millis())
        .bind(definition.revision),
        Statement::new(
            "DELETE FROM partnership_names \
             WHERE tenant_id = ?1 AND partnership_id = ?2 AND name <> ?2",
        )
        .bind(tenant_id)
        .bind(definition.id.as_str()),
    ]
}

/// One statement a table, its rows as one JSON parameter: the number of bound
/// parameters stays the same however many there are.
fn insert_parts(tenant_id: &str, definition: &Definition) -> Result<Vec<Statement>, Error> {
    let mut names = vec![definition.id.as_str()];
    names.extend(definition.aliases.iter().map(String::as_str));
    let millis = |at: Option<Timestamp>| at.map(Timestamp::millis);
    let probes: Vec<_> = definition
        .probes
        .iter()
        .map(|p| {
            (&p.key, &p.url, p.interval_s, p.deadline_ms, p.degraded_above_ms, i32::from(p.enabled))
        })
        .collect();
    let kpis: Vec<_> = definition
        .kpis
        .iter()
        .map(|k| (&k.name, k.target, &k.unit, k.direction, k.weight))
        .collect();
    let deliverables: Vec<_> = definition
        .deliverables
        .iter()
        .map(|d| {
            let status = d.status.map(|status| status.name());
            let (completed, updated) = (millis(d.completed_at), millis(d.updated_at));
            (
                &d.key,
                d.completion_percentage,
                status,
                &d.due_date,
                d.weight,
                completed,
                updated,
                &d.updated_by,
            )
        })
        .collect();
    let slos: Vec<_> = definition
        .slos
        .iter()
        .map(|o| (&o.key, o.kind, o.target_percent, o.threshold_ms, o.period_days))
        .collect();
    let maintenance: Vec<_> = definition
        .maintenance
        .iter()
        .map(|m| (&m.id, &m.name, &m.schedule, m.created_at.millis(), &m.created_by))
        .collect();
    Ok(vec![
        part(
            "INSERT INTO partnership_names (tenant_id, partnership_id, name) \
             SELECT ?1, ?2, value FROM json_each(?3)",
            tenant_id,
            definition,
            &names,
        )?,
        part(
            "INSERT INTO probes (tenant_id, partnership_id, key, url, interval_s, deadline_ms, \
                 degraded_above_ms, enabled) \
             SELECT ?1, ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
                 value ->> 5 FROM json_each(?3)",
            tenant_id,
            definition,
            &probes,
        )?,
        part(
            "INSERT INTO kpi_definitions (tenant_id, partnership_id, name, target, unit, \
                 direction, weight) \
             SELECT ?1, ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 \
             FROM json_each(?3)",
            tenant_id,
            definition,
            &kpis,
        )?,
        part(
            "INSERT INTO deliverables (tenant_id, partnership_id, key, completion_percentage, \
                 status, due_date, weight, completed_at, updated_at, updated_by) \
             SELECT ?1, ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
                 value ->> 5, value ->> 6, value ->> 7 FROM json_each(?3)",
            tenant_id,
            definition,
            &deliverables,
        )?,
        part(
            "INSERT INTO slos (tenant_id, partnership_id, key, kind, target_percent, \
                 threshold_ms, period_days) \
             SELECT ?1, ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 \
             FROM json_each(?3)",
            tenant_id,
            definition,
            &slos,
        )?,
        part(
            "INSERT INTO maintenance_windows (tenant_id, partnership_id, id, name, schedule, \
                 created_at, created_by) \
             SELECT ?1, ?2, value ->> 0, value ->> 1, value -> 2, value ->> 3, value ->> 4 \
             FROM json_each(?3)",
            tenant_id,
            definition,
            &maintenance,
        )?,
    ])
}

fn part(
    sql: &'static str,
    tenant_id: &str,
    definition: &Definition,
    rows: &impl serde::Serialize,
) -> Result<Statement, Error> {
    let rows = serde_json::to_string(rows)
        .map_err(|error| Error::new(ErrorKind::Misuse, error.to_string()))?;
    Ok(Statement::new(sql).bind(tenant_id).bind(definition.id.as_str()).bind(rows))
}

/// A seed as the definition of a new tenant.
pub fn seeded(seed: &SeedPartnership, now: Timestamp) -> Definition {
    Definition {
        id: seed.id.to_owned(),
        name: seed.name.to_owned(),
        partner: seed.partner.to_owned(),
        aliases: seed.aliases.iter().map(|&alias| alias.to_owned()).collect(),
        status_page_url: seed.status_page_url.map(str::to_owned),
        targets: Targets::default(),
        probes: seed
            .probes
            .iter()
            .map(|probe| Probe {
                key: probe.key.to_owned(),
                url: probe.url.to_owned(),
                interval_s: DEFAULT_PROBE_INTERVAL_S,
                deadline_ms: DEFAULT_PROBE_DEADLINE_MS,
                degraded_above_ms: None,
                enabled: true,
            })
            .collect(),
        kpis: seed
            .kpis
            .iter()
            .map(|kpi| KpiDefinition {
                name: kpi.name.to_owned(),
                target: kpi.target,
                unit: kpi.unit.to_owned(),
                direction: kpi.direction,
                weight: 1.0,
            })
            .collect(),
        deliverables: seed.deliverables.iter().map(|&key| Deliverable::new(key)).collect(),
        slos: Vec::from_iter(slo::default_availability(Targets::default().availability_percent)),
        maintenance: Vec::new(),
        settings: Settings::default(),
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

//! POST `/partnerships/{id}/observations` and `/partnerships/{id}/kpis/{name}`:
//! what clients measured.

use super::app::Cx;
use super::body::reason;
use super::idempotency;
use super::partnerships::unknown_partnership;
use super::problem::Problem;
use super::reply::Reply;
use crate::domain::observation::{MAX_AHEAD_MS, MAX_BATCH_ROWS, Observation, ObservationIn};
use crate::domain::partnership::Definition;
use crate::domain::time::{DAY_MS, Timestamp};
use crate::domain::validation::FieldError;
use crate::objects::partnership::{self, Command, KpiPoint, Reply as ObjectReply};
use crate::store::{activity, registry};
use ::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A KPI value may be reported this late; a year's figure comes in spring.
const MAX_KPI_AGE_MS: i64 = 400 * DAY_MS;

/// Larger numbers lose their units' digits in a float.
const MAX_KPI_VALUE: f64 = 1e15;

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct IngestOut {
    /// Rows stored.
    pub accepted: u64,
    /// Rows refused, each with its reason; the others are stored all the same.
    pub rejected: Vec<RejectedOut>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RejectedOut {
    /// Position in the batch, from 0.
    pub row: u64,
    pub reason: String,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct KpiAcceptedOut {
    /// Values stored.
    pub accepted: u64,
}

/// 1 to 500 rows. A row that is not valid is refused with its reason, the
/// others are stored.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ObservationsIn(
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = MAX_BATCH_ROWS)))]
    pub  Vec<ObservationIn>,
);

/// A value of a KPI.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KpiValueIn {
    /// In the KPI's unit, at most 1e15 either way.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = -MAX_KPI_VALUE, max = MAX_KPI_VALUE)))]
    pub value: f64,
    /// The instant it is for: at most 400 days ago, at most 60 s ahead.
    pub at: Timestamp,
}

/// One value, or a list of up to 500.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum KpiIn {
    One(KpiValueIn),
    Many(
        #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = MAX_BATCH_ROWS)))]
        Vec<KpiValueIn>,
    ),
}

pub async fn observations(cx: Cx) -> Result<Reply, Problem> {
    let rows = cx.request.json_rows()?;
    check_batch_length(rows.len())?;
    let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
    for (row, text) in (0_u64..).zip(rows) {
        match read_row(text.get(), cx.now) {
            Ok(observation) => accepted.push(observation),
            Err(reason) => rejected.push(RejectedOut { row, reason }),
        }
    }
    let reply = json(&IngestOut { accepted: accepted.len() as u64, rejected })?;
    // The object stands for the partnership, which therefore does not count.
    let scope = idempotency::in_object(&cx, |name| name != "id")?;
    let sent = send(&cx, |_| {
        Ok(Command::Observe {
            rows: accepted.clone(),
            reply: reply.clone(),
            idempotency: scope.as_ref().map(|(_, idempotency)| idempotency.clone()),
        })
    })
    .await?;
    Ok(sent.reply)
}

/// One row of a batch, or why it is refused.
pub fn read_row(text: &str, now: Timestamp) -> Result<Observation, String> {
    if !text.starts_with('{') {
        return Err("expected an object".to_owned());
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let row: ObservationIn = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let detail = reason(&error.into_inner());
        if path == "." { detail } else { format!("{path}: {detail}") }
    })?;
    row.accept(now)
}

pub async fn kpi(cx: Cx) -> Result<Reply, Problem> {
    let points = kpi_points(&cx)?;
    let author = cx.caller()?.id().to_owned();
    let name = cx.param("name")?.to_owned();
    let reply = json(&KpiAcceptedOut { accepted: points.len() as u64 })?;
    // The object stands for the partnership, which therefore does not count.
    let scope = idempotency::in_object(&cx, |name| name != "id")?;
    let sent = send(&cx, |definition| {
        if !definition.kpis.iter().any(|kpi| kpi.name == name) {
            let names: Vec<_> = definition.kpis.iter().map(|kpi| kpi.name.as_str()).collect();
            let shown: String = name.chars().take(64).collect();
            return Err(Problem::not_found(format!(
                "{} has no KPI {shown:?}; it has: {}",
                definition.id,
                names.join(", ")
            )));
        }
        Ok(Command::RecordKpi {
            name: name.clone(),
            author: author.clone(),
            values: points.clone(),
            reply: reply.clone(),
            idempotency: scope.as_ref().map(|(_, idempotency)| idempotency.clone()),
        })
    })
    .await?;
    let subject = format!("{}/{name}", sent.partnership_id);
    let entry = cx.entry("kpi.recorded", &subject)?;
    let line = match &scope {
        // However often it is repeated, and whatever reply was lost: what was
        // stored at this instant under this key has one line.
        Some((key, _)) => {
            let instant = sent.stored_at.millis().to_be_bytes();
            let once = Sha256::new().chain_update(key).chain_update(&subject).chain_update(instant);
            activity::insert_once(&once.finalize().into(), cx.now, &entry)
        }
        None => activity::insert(&cx.app.platform.random, cx.now, &entry)?,
    };
    cx.note("devskyy.ingest", line).await;
    Ok(sent.reply)
}

/// All values or none: a KPI is a statement somebody makes, not a log.
fn kpi_points(cx: &Cx) -> Result<Vec<KpiPoint>, Problem> {
    // Told apart here, as the errors of an untagged enum do not say where.
    let first = cx.request.bytes()?.iter().find(|byte| !byte.is_ascii_whitespace());
    let many = first == Some(&b'[');
    let values: Vec<KpiValueIn> = if many { cx.request.json()? } else { vec![cx.request.json()?] };
    check_batch_length(values.len())?;
    let mut errors = Vec::new();
    for (index, point) in values.iter().enumerate() {
        let place = if many { format!("/{index}") } else { String::new() };
        if point.value.abs() > MAX_KPI_VALUE {
            errors.push(FieldError::new(format!("{place}/value"), "expected at most 1e15"));
        }
        if point.at.since_ms(cx.now) > MAX_AHEAD_MS {
            let detail = format!("more than 60 s ahead of {}", cx.now);
            errors.push(FieldError::new(format!("{place}/at"), detail));
        }
        if cx.now.since_ms(point.at) > MAX_KPI_AGE_MS {
            let detail = format!("more than 400 days before {}", cx.now);
            errors.push(FieldError::new(format!("{place}/at"), detail));
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    Ok(values.into_iter().map(|point| KpiPoint { at: point.at, value: point.value }).collect())
}

fn check_batch_length(rows: usize) -> Result<(), Problem> {
    if (1..=MAX_BATCH_ROWS).contains(&rows) {
        return Ok(());
    }
    let detail = format!("expected 1 to {MAX_BATCH_ROWS} rows, got {rows}");
    Err(Problem::invalid(vec![FieldError::new("", detail)]))
}

/// What became of a command.
struct Sent {
    partnership_id: String,
    reply: Reply,
    /// When it was stored: at the first of its repetitions.
    stored_at: Timestamp,
}

/// Sends a command to the partnership of the path, whose object may never
/// have heard of it if a message was lost.
async fn send(
    cx: &Cx,
    command: impl Fn(&Definition) -> Result<Command, Problem>,
) -> Result<Sent, Problem> {
    let platform = &cx.app.platform;
    let tenant_id = cx.caller()?.tenant_id();
    let name = cx.param("id")?;
    let board = cx.app.boards.snapshot(platform, tenant_id, cx.now).await?;
    let known = board.find(name).map(|known| known.summary.definition.clone());
    let definition = match known {
        Some(definition) => definition,
        // Just added, and not on the board yet.
        None => registry::find(&platform.database, tenant_id, name)
            .await?
            .ok_or_else(|| unknown_partnership(&board, name))?,
    };
    let id = definition.id.clone();
    let command = command(&definition)?;
    let mut outcome = partnership::call(platform, tenant_id, &id, &command).await?;
    if matches!(outcome, ObjectReply::Undefined) {
        partnership::define(platform, tenant_id, definition).await?;
        outcome = partnership::call(platform, tenant_id, &id, &command).await?;
    }
    cx.app.boards.forget(tenant_id);
    match outcome {
        ObjectReply::Stored { value, replayed, stored_at } => {
            let mut reply = Reply::json(StatusCode::ACCEPTED, &value);
            if replayed {
                reply.set("idempotency-replayed", "true");
            }
            Ok(Sent { partnership_id: id, reply, stored_at: stored_at.unwrap_or(cx.now) })
        }
        ObjectReply::KeyReused => Err(idempotency::reused()),
        other => Err(Problem::internal(format!("unexpected reply of the object: {other:?}"))),
    }
}

fn json(value: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_refused_with_their_reason() {
        let now = Timestamp::parse("2026-01-31T12:00:00Z").unwrap();
        for (row, reason) in [
            (r#"{"at":"2026-01-31T11:59:00Z","outcome":"up","source":"g"}"#, ""),
            (r#"{"at":"yesterday","outcome":"up","source":"g"}"#, "at: expected an RFC 3339"),
            (
                r#"{"at":"2026-01-31T11:59:00Z","outcome":"fine","source":"g"}"#,
                "outcome: unknown variant",
            ),
            (
                r#"{"at":"2026-01-31T11:59:00Z","outcome":{"up":null},"source":"g"}"#,
                "outcome: invalid type",
            ),
            (r#"{"at":"2026-01-31T11:59:00Z","outcome":"up"}"#, "missing field `source`"),
            (
                r#"{"at":"2026-01-31T11:59:00Z","outcome":"up","source":"g","x":1}"#,
                "x: unknown field",
            ),
            (
                r#"{"at":"2026-01-31T11:59:00Z","outcome":"up","source":"g","latency_ms":"1"}"#,
                "latency_ms: invalid type",
            ),
            (
                r#"{"at":"2026-01-31T12:01:00.001Z","outcome":"up","source":"g"}"#,
                "at: more than 60 s ahead",
            ),
            ("null", "expected an object"),
            (r#"["2026-01-31T11:59:00Z","up",1,"g"]"#, "expected an object"),
        ] {
            let outcome = read_row(row, now).err().unwrap_or_default();
            assert!(
                outcome.starts_with(reason) && outcome.is_empty() == reason.is_empty(),
                "{outcome}"
            );
        }
    }
}

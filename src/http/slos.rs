//! `/partnerships/{id}/slos`: what was agreed as objectives, and how far their
//! budgets are spent.

use super::app::Cx;
use super::idempotency::Once;
use super::problem::{Code, Problem};
use super::registry;
use super::reply::Reply;
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::id::SLUG;
use crate::domain::id::check_slug;
use crate::domain::partnership::{Assessment, Definition};
use crate::domain::slo::{PERIODS_DAYS, Slo, SloKind, SloStatus};
use crate::domain::time::Timestamp;
use crate::domain::validation::FieldError;
use ::http::StatusCode;
use serde::{Deserialize, Serialize};

/// Objectives of one partnership.
pub const MAX_SLOS: usize = 10;

/// A finer target has a budget of less than one event in 100,000.
const MAX_TARGET_PERCENT: f64 = 99.999;

const MAX_THRESHOLD_MS: f64 = 3_600_000.0;

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(extend("oneOf" = [
    { "properties": { "kind": { "const": "availability" }, "threshold_ms": { "type": "null" } } },
    { "properties": { "kind": { "const": "latency" }, "threshold_ms": { "type": "number" } }, "required": ["threshold_ms"] },
])))]
#[serde(deny_unknown_fields)]
pub struct SloIn {
    /// Lower-case letters, digits and `_`, 2 to 64 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = SLUG)))]
    pub key: String,
    pub kind: SloKind,
    /// Percent of good events, above 0, at most 99.999: a target of 100 leaves
    /// no budget.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(max = MAX_TARGET_PERCENT), extend("exclusiveMinimum" = 0)))]
    pub target_percent: f64,
    /// Of a latency objective: a served call that took longer is bad, 1 to
    /// 3,600,000 ms. It is exact to 1 %.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = MAX_THRESHOLD_MS)))]
    #[serde(default)]
    pub threshold_ms: Option<f64>,
    /// 7 or 30.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("enum" = PERIODS_DAYS)))]
    #[serde(deserialize_with = "super::body::whole_required")]
    pub period_days: u32,
}

/// What changes; a field that is left out stays as it is.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SloPatchIn {
    /// Percent of good events, above 0, at most 99.999.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(max = MAX_TARGET_PERCENT), extend("exclusiveMinimum" = 0)))]
    #[serde(default)]
    pub target_percent: Option<f64>,
    /// Of a latency objective, 1 to 3,600,000 ms.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = MAX_THRESHOLD_MS)))]
    #[serde(default)]
    pub threshold_ms: Option<f64>,
    /// 7 or 30.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("enum" = [7, 30, null])))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub period_days: Option<u32>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SloOut {
    pub key: String,
    pub kind: SloKind,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub target_percent: f64,
    pub threshold_ms: Option<f64>,
    pub period_days: u32,
    /// How far it is kept; null until it was evaluated as it is agreed now.
    pub status: Option<SloStatus>,
    /// When that was; the minute tick does it.
    pub evaluated_at: Option<Timestamp>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SlosOut {
    pub slos: Vec<SloOut>,
}

pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let definition = registry::load(&cx).await?;
    let assessment = assessment(&cx, &definition).await?;
    let slos = definition.slos.iter().map(|slo| render(slo, &assessment)).collect();
    Ok(Reply::ok(&SlosOut { slos }))
}

pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    let definition = registry::load(&cx).await?;
    let slo = find(&cx, &definition)?;
    let assessment = assessment(&cx, &definition).await?;
    Ok(Reply::ok(&render(slo, &assessment)))
}

pub async fn create(cx: Cx) -> Result<Reply, Problem> {
    let input: SloIn = cx.request.json()?;
    let mut errors = Vec::new();
    let slo = accept(input, "", &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return Ok(earlier.reply);
    }
    let reply = |id: &str| {
        let mut reply = Reply::json(StatusCode::CREATED, &render(&slo, &Assessment::default()));
        let path = cx.route.path.replace("{id}", id);
        reply.set("location", format!("{path}/{}", slo.key));
        reply
    };
    let keep = |definition: &Definition| Ok(once.keep(&cx, &reply(&definition.id)));
    let changed = registry::change(&cx, "slo.created", keep, |definition| {
        if definition.slos.iter().any(|known| known.key == slo.key) {
            let detail = format!("{} has an objective {:?} already", definition.id, slo.key);
            return Err(Problem::new(Code::Conflict, detail));
        }
        if definition.slos.len() >= MAX_SLOS {
            let detail = format!("a partnership may have at most {MAX_SLOS} objectives");
            return Err(Problem::new(Code::Conflict, detail));
        }
        definition.slos.push(slo.clone());
        Ok(())
    })
    .await?;
    match changed {
        Some(definition) => Ok(reply(&definition.id)),
        None => Ok(once.winner(&cx).await?.reply),
    }
}

pub async fn patch(cx: Cx) -> Result<Reply, Problem> {
    let input: SloPatchIn = cx.request.json()?;
    let mut errors = Vec::new();
    check("", input.target_percent, input.threshold_ms, input.period_days, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let key = cx.param("key")?;
    let changed = registry::change(
        &cx,
        "slo.changed",
        |_| Ok(None),
        |definition| {
            let kind = find(&cx, definition)?.kind;
            if input.threshold_ms.is_some() && kind != SloKind::Latency {
                let detail = "an availability objective has no threshold";
                return Err(Problem::new(Code::Conflict, detail));
            }
            for slo in definition.slos.iter_mut().filter(|slo| slo.key == key) {
                slo.target_percent = input.target_percent.unwrap_or(slo.target_percent);
                slo.threshold_ms = input.threshold_ms.or(slo.threshold_ms);
                slo.period_days = input.period_days.unwrap_or(slo.period_days);
            }
            Ok(())
        },
    )
    .await?;
    let definition = changed.ok_or_else(|| Problem::internal("nobody sent a key"))?;
    let assessment = assessment(&cx, &definition).await?;
    Ok(Reply::ok(&render(find(&cx, &definition)?, &assessment)))
}

pub async fn delete(cx: Cx) -> Result<Reply, Problem> {
    let key = cx.param("key")?;
    registry::change(
        &cx,
        "slo.deleted",
        |_| Ok(None),
        |definition| {
            find(&cx, definition)?;
            definition.slos.retain(|slo| slo.key != key);
            Ok(())
        },
    )
    .await?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// What the object of the partnership found last.
async fn assessment(cx: &Cx, definition: &Definition) -> Result<Assessment, Problem> {
    let tenant_id = cx.caller()?.tenant_id();
    let board = cx.app.boards.snapshot(&cx.app.platform, tenant_id, cx.now).await?;
    let known = board.find(&definition.id).map(|known| known.summary.assessment.clone());
    Ok(known.unwrap_or_default())
}

fn render(slo: &Slo, assessment: &Assessment) -> SloOut {
    // Of another agreement than the present one it says nothing.
    let fits = |status: &&SloStatus| {
        status.key == slo.key
            && status.kind == slo.kind
            && status.target_percent == slo.target_percent
            && status.threshold_ms == slo.threshold_ms
            && status.period_days == slo.period_days
    };
    let status = assessment.slos.iter().find(fits).cloned();
    SloOut {
        key: slo.key.clone(),
        kind: slo.kind,
        target_percent: slo.target_percent,
        threshold_ms: slo.threshold_ms,
        period_days: slo.period_days,
        evaluated_at: assessment.evaluated_at.filter(|_| status.is_some()),
        status,
    }
}

fn find<'a>(cx: &Cx, definition: &'a Definition) -> Result<&'a Slo, Problem> {
    let key = cx.param("key")?;
    definition.slos.iter().find(|slo| slo.key == key).ok_or_else(|| {
        let keys: Vec<_> = definition.slos.iter().map(|slo| slo.key.as_str()).collect();
        let shown: String = key.chars().take(64).collect();
        Problem::not_found(format!(
            "{} has no objective {shown:?}; it has: {}",
            definition.id,
            keys.join(", ")
        ))
    })
}

/// The objective, with what is wrong with it added to `errors`, below the
/// pointer.
pub fn accept(input: SloIn, pointer: &str, errors: &mut Vec<FieldError>) -> Slo {
    let SloIn { key, kind, target_percent, threshold_ms, period_days } = input;
    if let Err(reason) = check_slug(&key) {
        errors.push(FieldError::new(format!("{pointer}/key"), reason));
    }
    check(pointer, Some(target_percent), threshold_ms, Some(period_days), errors);
    let mismatch = match (kind, threshold_ms) {
        (SloKind::Latency, None) => Some("a latency objective needs one"),
        (SloKind::Availability, Some(_)) => Some("an availability objective has none"),
        _ => None,
    };
    if let Some(detail) = mismatch {
        errors.push(FieldError::new(format!("{pointer}/threshold_ms"), detail));
    }
    Slo { key, kind, target_percent, threshold_ms, period_days }
}

fn check(
    pointer: &str,
    target_percent: Option<f64>,
    threshold_ms: Option<f64>,
    period_days: Option<u32>,
    errors: &mut Vec<FieldError>,
) {
    let mut refuse = |field: &str, detail: String| {
        errors.push(FieldError::new(format!("{pointer}/{field}"), detail));
    };
    if target_percent.is_some_and(|target| !(target > 0.0 && target <= MAX_TARGET_PERCENT)) {
        let detail = format!("expected a number above 0, at most {MAX_TARGET_PERCENT}");
        refuse("target_percent", detail);
    }
    if threshold_ms.is_some_and(|ms| !(1.0..=MAX_THRESHOLD_MS).contains(&ms)) {
        refuse("threshold_ms", "expected 1 to 3600000".to_owned());
    }
    if period_days.is_some_and(|days| !PERIODS_DAYS.contains(&days)) {
        refuse("period_days", "expected 7 or 30".to_owned());
    }
}

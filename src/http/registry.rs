//! The registry: POST `/partnerships`; GET, PATCH and DELETE
//! `/partnerships/{id}`; GET and PUT `/partnerships/{id}/deliverables/{key}`.
//!
//! D1 holds what was agreed. After a write the partnership's object is told;
//! should that message be lost, the minute tick brings it.

use super::app::Cx;
use super::boards::Evaluated;
use super::conditional;
use super::idempotency::Once;
use super::partnerships::{
    AgreementOut, DeliverableOut, render, render_agreement, render_deliverable, unknown_partnership,
};
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::domain::deliverable::{self, Deliverable, DeliverableStatus};
use crate::domain::id::check_slug;
use crate::domain::kpi::Direction;
use crate::domain::partnership::{
    DEFAULT_PROBE_DEADLINE_MS, DEFAULT_PROBE_INTERVAL_S, Definition, KpiDefinition, Probe, Targets,
};
use crate::domain::probe_url::{LoopbackPolicy, ProbeUrl};
use crate::domain::slo;
use crate::domain::time::Timestamp;
use crate::domain::validation::{FieldError, check_text};
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::{deliverable::DAY, id::SLUG, probe_url::HTTPS_URL, validation::PRINTABLE};
use crate::log;
use crate::objects::{board, partnership};
use crate::platform::sql::Statement;
use crate::store::{registry, settings};
use ::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeSet;

/// Bounds of one tenant and one partnership: a board is read whole.
const MAX_PARTNERSHIPS: usize = 100;
const MAX_ALIASES: usize = 10;
const MAX_PROBES: usize = 10;
const MAX_KPIS: usize = 50;
const MAX_DELIVERABLES: usize = 100;

/// A change read a definition that somebody else then changed: read again and
/// apply again, this often.
const MAX_ATTEMPTS: u32 = 3;

/// A body that may hold the terms of an agreement beside fields of its own.
/// (serde's `flatten` would lose the place of an error.)
macro_rules! with_terms {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            /// Other names of the partnership, at most 10; not its id.
            #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_ALIASES), inner(regex(pattern = SLUG)), extend("uniqueItems" = true)))]
            pub aliases: Option<Vec<String>>,
            /// The partner's `summary.json` in the Statuspage form; null: none.
            #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = HTTPS_URL), length(max = 2048), extend("format" = "probe-url")))]
            #[serde(default, deserialize_with = "present")]
            pub status_page_url: Option<Option<String>>,
            /// 0 to 100, above the floor; 99.9 for a new partnership.
            #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
            pub availability_target_percent: Option<f64>,
            /// 0 to 100; 95 for a new partnership.
            #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
            pub availability_floor_percent: Option<f64>,
            /// Agreed p95, 1 to 3,600,000 ms; null: nothing is agreed.
            #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 3_600_000)))]
            #[serde(default, deserialize_with = "present")]
            pub latency_target_ms: Option<Option<f64>>,
            /// Whether a degraded answer burns availability; false for a new
            /// partnership.
            pub degraded_counts_as_bad: Option<bool>,
            /// At most 10, each with a key of its own.
            #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_PROBES)))]
            pub probes: Option<Vec<ProbeIn>>,
            /// At most 50, each with a name of its own.
            #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_KPIS)))]
            pub kpis: Option<Vec<KpiDefinitionIn>>,
            /// At most 100, each with a key of its own; one that stays in the
            /// list keeps its progress.
            #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = MAX_DELIVERABLES)))]
            pub deliverables: Option<Vec<DeliverableDefinitionIn>>,
        }

        impl $name {
            fn terms(&mut self) -> Terms {
                Terms {
                    aliases: self.aliases.take(),
                    status_page_url: self.status_page_url.take(),
                    availability_target_percent: self.availability_target_percent,
                    availability_floor_percent: self.availability_floor_percent,
                    latency_target_ms: self.latency_target_ms,
                    degraded_counts_as_bad: self.degraded_counts_as_bad,
                    probes: self.probes.take(),
                    kpis: self.kpis.take(),
                    deliverables: self.deliverables.take(),
                }
            }
        }
    };
}

with_terms! {
    /// A new partnership.
    PartnershipIn {
        /// Lower-case letters, digits and `_`, 2 to 64 characters.
        #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = SLUG)))]
        id: String,
        /// 1 to 100 characters.
        #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 100), regex(pattern = PRINTABLE)))]
        name: String,
        /// Who the partner is, 1 to 100 characters.
        #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 100), regex(pattern = PRINTABLE)))]
        partner: String,
    }
}

with_terms! {
    /// What changes; a field that is left out stays as it is, and a list
    /// replaces the list before it.
    PartnershipPatchIn {
        /// 1 to 100 characters.
        #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 100), regex(pattern = PRINTABLE)))]
        name: Option<String>,
        /// 1 to 100 characters.
        #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 100), regex(pattern = PRINTABLE)))]
        partner: Option<String>,
    }
}

/// What is agreed and how it is checked, as far as a body said it.
struct Terms {
    aliases: Option<Vec<String>>,
    status_page_url: Option<Option<String>>,
    availability_target_percent: Option<f64>,
    availability_floor_percent: Option<f64>,
    latency_target_ms: Option<Option<f64>>,
    degraded_counts_as_bad: Option<bool>,
    probes: Option<Vec<ProbeIn>>,
    kpis: Option<Vec<KpiDefinitionIn>>,
    deliverables: Option<Vec<DeliverableDefinitionIn>>,
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProbeIn {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = SLUG)))]
    pub key: String,
    /// An https URL that costs nothing to GET; no addresses, no credentials.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = HTTPS_URL), length(max = 2048), extend("format" = "probe-url")))]
    pub url: String,
    /// 60 to 86,400 seconds; 60 if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 60, max = 86_400)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub interval_s: Option<u32>,
    /// 100 to 20,000 ms; 10,000 if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 100, max = 20_000)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub deadline_ms: Option<u32>,
    /// A slower answer is `degraded`, 1 to 20,000 ms; left out: none is too
    /// slow.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 20_000)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub degraded_above_ms: Option<u32>,
    pub enabled: Option<bool>,
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KpiDefinitionIn {
    /// Not a name of a metric that is made from observations.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = SLUG), extend("not" = { "enum": crate::domain::metrics::OBSERVED })))]
    pub name: String,
    /// Above 0, in the unit.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(max = 1e15), extend("exclusiveMinimum" = 0)))]
    pub target: f64,
    /// 1 to 40 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 40), regex(pattern = PRINTABLE)))]
    pub unit: String,
    pub direction: Direction,
    /// Above 0; 1 if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(max = 1e15), extend("exclusiveMinimum" = 0)))]
    pub weight: Option<f64>,
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeliverableDefinitionIn {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = SLUG)))]
    pub key: String,
    /// Last day on which it is in time, such as 2026-03-31, UTC.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("format" = "date"), regex(pattern = DAY)))]
    pub due_date: Option<String>,
    /// Above 0; 1 if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(max = 1e15), extend("exclusiveMinimum" = 0)))]
    pub weight: Option<f64>,
}

/// How far a deliverable is.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(extend("anyOf" = [
    { "properties": { "status": { "not": { "const": "completed" } } } },
    { "properties": { "completion_percentage": { "minimum": 100 } } },
])))]
#[serde(deny_unknown_fields)]
pub struct DeliverableIn {
    /// 0 to 100.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 100)))]
    pub completion_percentage: f64,
    /// `completed` needs 100 %.
    pub status: DeliverableStatus,
    /// Last day on which it is in time, such as 2026-03-31, UTC; null: none;
    /// left out: as before.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("format" = "date"), regex(pattern = DAY)))]
    #[serde(default, deserialize_with = "present")]
    pub due_date: Option<Option<String>>,
}

/// Tells a field that is null from one that is left out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

pub async fn create(cx: Cx) -> Result<Reply, Problem> {
    let mut input: PartnershipIn = cx.request.json()?;
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return Ok(earlier.reply);
    }
    let terms = input.terms();
    let platform = &cx.app.platform;
    let tenant_id = cx.caller()?.tenant_id();
    let mut check = Check::new(&cx);
    check.slug("/id", &input.id);
    let settings = settings::current(&platform.database, tenant_id).await?;
    let mut definition = Definition {
        id: input.id,
        name: input.name,
        partner: input.partner,
        aliases: Vec::new(),
        status_page_url: None,
        targets: Targets::default(),
        probes: Vec::new(),
        kpis: Vec::new(),
        deliverables: Vec::new(),
        slos: Vec::new(),
        maintenance: Vec::new(),
        settings: settings.map(|version| version.settings.scoring).unwrap_or_default(),
        revision: 1,
        created_at: cx.now,
        updated_at: cx.now,
    };
    check.apply(&mut definition, terms);
    check.finish()?;
    definition.slos.extend(slo::default_availability(definition.targets.availability_percent));
    let known = registry::all(&platform.database, tenant_id).await?;
    if known.len() >= MAX_PARTNERSHIPS {
        return Err(Problem::new(
            Code::Conflict,
            format!("a tenant may hold at most {MAX_PARTNERSHIPS} partnerships"),
        ));
    }
    // A new partnership: nothing of it is measured, so the reply is known
    // before it is stored, and can be stored with it.
    let unmeasured = Evaluated::unmeasured(definition.clone(), cx.now);
    let mut reply = Reply::json(StatusCode::CREATED, &render(&unmeasured, cx.now));
    reply.set("location", format!("{}/{}", cx.route.path, definition.id));
    reply.set("etag", etag(&definition));
    // The key first: it tells a repetition from another partnership of the id.
    let mut statements = Vec::from_iter(once.keep(&cx, &reply));
    statements.extend(registry::insert(tenant_id, &definition)?);
    if write(&cx, statements, "partnership.created", &definition.id).await? == Written::KeyTaken {
        return Ok(once.winner(&cx).await?.reply);
    }
    tell(&cx, &definition).await;
    Ok(reply)
}

/// A partnership as the registry holds it.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RegistryOut {
    pub id: String,
    pub name: String,
    pub partner: String,
    pub aliases: Vec<String>,
    pub agreement: AgreementOut,
    pub deliverables: Vec<DeliverableOut>,
    /// Grows with every change; the `ETag` follows from it.
    pub revision: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// GET `/partnerships/{id}`: the row that PATCH and DELETE change, from the
/// database and not from a board that may be a second old.
pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    let definition = load(&cx).await?;
    let mut reply = Reply::ok(&RegistryOut {
        agreement: render_agreement(&definition),
        deliverables: definition.deliverables.iter().map(render_deliverable).collect(),
        id: definition.id.clone(),
        name: definition.name.clone(),
        partner: definition.partner.clone(),
        aliases: definition.aliases.clone(),
        revision: definition.revision,
        created_at: definition.created_at,
        updated_at: definition.updated_at,
    });
    reply.set("etag", etag(&definition));
    Ok(reply)
}

/// GET `/partnerships/{id}/deliverables/{key}`.
pub async fn show_deliverable(cx: Cx) -> Result<Reply, Problem> {
    let definition = load(&cx).await?;
    let key = cx.param("key")?;
    match definition.deliverables.iter().find(|known| known.key == key) {
        Some(known) => Ok(deliverable_reply(known)),
        None => {
            let keys: Vec<_> = definition.deliverables.iter().map(|d| d.key.as_str()).collect();
            let shown: String = key.chars().take(64).collect();
            Err(Problem::not_found(format!(
                "{} has no deliverable {shown:?}; it has: {}",
                definition.id,
                keys.join(", ")
            )))
        }
    }
}

fn deliverable_reply(deliverable: &Deliverable) -> Reply {
    let mut reply = Reply::ok(&render_deliverable(deliverable));
    let etag = conditional::etag_of(&reply.body);
    reply.set("etag", etag);
    reply
}

/// Every change of the row makes a new revision.
fn etag(definition: &Definition) -> String {
    format!("\"{}.{}\"", definition.id, definition.revision)
}

pub async fn patch(cx: Cx) -> Result<Reply, Problem> {
    // Parsed anew in each attempt, as applying it takes it apart.
    cx.request.json::<PartnershipPatchIn>()?;
    let keep_nothing = |_: &Definition| Ok(None);
    let changed = change(&cx, "partnership.changed", keep_nothing, |definition| {
        let present = etag(definition);
        let mut input: PartnershipPatchIn = cx.request.json()?;
        let terms = input.terms();
        let mut check = Check::new(&cx);
        if let Some(name) = input.name {
            definition.name = name;
        }
        if let Some(partner) = input.partner {
            definition.partner = partner;
        }
        check.apply(definition, terms);
        check.finish()?;
        // After everything else that may be wrong with it (RFC 9110, 13.2.1).
        conditional::check_if_match(&cx, Some(&present))
    })
    .await?;
    let definition = changed.ok_or_else(|| Problem::internal("nobody sent a key"))?;
    let mut reply = reply_with(&cx, StatusCode::OK, &definition).await?;
    reply.set("etag", etag(&definition));
    Ok(reply)
}

pub async fn put_deliverable(cx: Cx) -> Result<Reply, Problem> {
    let input: DeliverableIn = cx.request.json()?;
    let key = cx.param("key")?.to_owned();
    let author = cx.caller()?.id().to_owned();
    let mut check = Check::new(&cx);
    check.range("/completion_percentage", input.completion_percentage, 0.0, 100.0);
    if input.status == DeliverableStatus::Completed && input.completion_percentage < 100.0 {
        check.refuse("/status", "completed needs a completion_percentage of 100");
    }
    if let Some(Some(day)) = &input.due_date {
        check.day("/due_date", day);
    }
    check.finish()?;
    check_slug(&key).map_err(|reason| Problem::not_found(format!("deliverable key: {reason}")))?;
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return Ok(earlier.reply);
    }
    let now = cx.now;
    let stored = |definition: &Definition| {
        let stored = definition.deliverables.iter().find(|known| known.key == key);
        let stored = stored.ok_or_else(|| Problem::internal("the deliverable was not stored"))?;
        Ok::<_, Problem>(deliverable_reply(stored))
    };
    let keep = |definition: &Definition| Ok(once.keep(&cx, &stored(definition)?));
    let changed = change(&cx, "deliverable.reported", keep, |definition| {
        let deliverables = &mut definition.deliverables;
        let present = deliverables.iter().find(|known| known.key == key);
        let present = present.map(|known| conditional::etag_of(&deliverable_reply(known).body));
        conditional::check_if_match(&cx, present.as_deref())?;
        if present.is_none() {
            if deliverables.len() >= MAX_DELIVERABLES {
                return Err(Problem::new(
                    Code::Conflict,
                    format!("a partnership may hold at most {MAX_DELIVERABLES} deliverables"),
                ));
            }
            deliverables.push(Deliverable::new(&key));
        }
        for known in deliverables.iter_mut().filter(|known| known.key == key) {
            known.completion_percentage = Some(input.completion_percentage);
            known.status = Some(input.status);
            if let Some(due_date) = &input.due_date {
                known.due_date.clone_from(due_date);
            }
            // Finished once: saying so again does not make it late.
            known.completed_at = (input.status == DeliverableStatus::Completed)
                .then(|| known.completed_at.unwrap_or(now));
            known.updated_at = Some(now);
            known.updated_by = Some(author.clone());
        }
        Ok(())
    })
    .await?;
    match changed {
        Some(definition) => stored(&definition),
        None => Ok(once.winner(&cx).await?.reply),
    }
}

pub async fn retire(cx: Cx) -> Result<Reply, Problem> {
    let platform = &cx.app.platform;
    let tenant_id = cx.caller()?.tenant_id();
    let definition = load(&cx).await?;
    conditional::check_if_match(&cx, Some(&etag(&definition)))?;
    let statements = registry::retire(tenant_id, &definition, cx.now);
    write(&cx, statements, "partnership.retired", &definition.id).await?;
    let removed = board::remove(platform, tenant_id, &definition.id, definition.revision + 1).await;
    if let Err(error) = removed {
        warn(&cx, "retired partnership still on the board", &error.to_string());
    }
    cx.app.boards.forget(tenant_id);
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Reads a definition, changes it, and stores it if nobody else did meanwhile,
/// together with what `keep` makes of it. A change that changes nothing is
/// not stored. `None`: the key of what `keep` made was taken meanwhile.
pub(super) async fn change(
    cx: &Cx,
    event: &str,
    keep: impl Fn(&Definition) -> Result<Option<Statement>, Problem>,
    apply: impl Fn(&mut Definition) -> Result<(), Problem>,
) -> Result<Option<Definition>, Problem> {
    let tenant_id = cx.caller()?.tenant_id();
    let mut attempt = 1;
    loop {
        let before = load(cx).await?;
        let mut definition = before.clone();
        apply(&mut definition)?;
        if definition == before {
            return Ok(Some(definition));
        }
        definition.revision += 1;
        definition.updated_at = cx.now;
        let mut statements = Vec::from_iter(keep(&definition)?);
        statements.extend(registry::replace(tenant_id, &definition)?);
        match write(cx, statements, event, &definition.id).await {
            Ok(Written::Done) => {
                tell(cx, &definition).await;
                return Ok(Some(definition));
            }
            Ok(Written::KeyTaken) => return Ok(None),
            Err(problem) if problem.code == Code::Conflict && attempt < MAX_ATTEMPTS => {
                attempt += 1;
            }
            Err(problem) => return Err(problem),
        }
    }
}

pub(super) async fn load(cx: &Cx) -> Result<Definition, Problem> {
    let platform = &cx.app.platform;
    let tenant_id = cx.caller()?.tenant_id();
    let name = cx.param("id")?;
    if let Some(definition) = registry::find(&platform.database, tenant_id, name).await? {
        return Ok(definition);
    }
    let board = cx.app.boards.snapshot(platform, tenant_id, cx.now).await?;
    Err(unknown_partnership(&board, name))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Done,
    /// Another request with the same Idempotency-Key was faster.
    KeyTaken,
}

/// Runs the statements and the line of activity as one batch.
async fn write(
    cx: &Cx,
    mut statements: Vec<Statement>,
    event: &str,
    subject: &str,
) -> Result<Written, Problem> {
    let platform = &cx.app.platform;
    statements.push(cx.activity(event, subject)?);
    match platform.database.batch(statements).await {
        Ok(_) => Ok(Written::Done),
        Err(error) if Once::lost_race(&error) => Ok(Written::KeyTaken),
        Err(error) if error.is_constraint(registry::ID_TAKEN) => Err(Problem::new(
            Code::Conflict,
            format!("there is, or was, a partnership {subject:?}; ids are not used again"),
        )),
        Err(error) if error.is_constraint(registry::NAME_TAKEN) => Err(Problem::new(
            Code::Conflict,
            "the id or one of the aliases is a name of another partnership",
        )),
        Err(error) if error.is_constraint(registry::REVISION_MOVED) => {
            Err(Problem::new(Code::Conflict, "the partnership was changed meanwhile; try again"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Tells the object; what is lost here the next tick brings.
async fn tell(cx: &Cx, definition: &Definition) {
    let platform = &cx.app.platform;
    let Ok(caller) = cx.caller() else { return };
    let told = partnership::define(platform, caller.tenant_id(), definition.clone()).await;
    if let Err(error) = told {
        warn(cx, "definition not delivered to the object", &error.to_string());
    }
    cx.app.boards.forget(caller.tenant_id());
}

/// The partnership as it now stands: from the board where its object answered,
/// else as one of which nothing is known.
async fn reply_with(
    cx: &Cx,
    status: StatusCode,
    definition: &Definition,
) -> Result<Reply, Problem> {
    let tenant_id = cx.caller()?.tenant_id();
    let board = cx.app.boards.snapshot(&cx.app.platform, tenant_id, cx.now).await;
    if let Ok(board) = &board
        && let Some(known) = board.find(&definition.id)
        && known.summary.definition.revision >= definition.revision
    {
        return Ok(Reply::json(status, &render(known, board.fetched_at)));
    }
    let unknown = Evaluated::unmeasured(definition.clone(), cx.now);
    Ok(Reply::json(status, &render(&unknown, cx.now)))
}

fn warn(cx: &Cx, what: &str, cause: &str) {
    log::warn(&cx.app.platform.log, cx.now, "devskyy.registry", what, cause);
}

/// Applies input to a definition and gathers all that is wrong with it.
struct Check {
    errors: Vec<FieldError>,
    loopback: LoopbackPolicy,
}

impl Check {
    fn new(cx: &Cx) -> Self {
        Self { errors: Vec::new(), loopback: LoopbackPolicy::of(cx.app.config.loopback_probes) }
    }

    fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }

    fn refuse(&mut self, pointer: &str, detail: impl Into<String>) {
        self.errors.push(FieldError::new(pointer, detail));
    }

    fn apply(&mut self, definition: &mut Definition, terms: Terms) {
        self.text("/name", &definition.name, 100);
        self.text("/partner", &definition.partner, 100);
        if let Some(aliases) = terms.aliases {
            self.names("/aliases", MAX_ALIASES, aliases.iter().map(|alias| (String::new(), alias)));
            if aliases.contains(&definition.id) {
                self.refuse("/aliases", "the id is no alias");
            }
            definition.aliases = aliases;
        }
        if let Some(url) = terms.status_page_url {
            if let Some(url) = &url {
                self.url("/status_page_url", url);
            }
            definition.status_page_url = url;
        }
        self.targets(
            definition,
            &terms.availability_target_percent,
            &terms.availability_floor_percent,
        );
        if let Some(latency_ms) = terms.latency_target_ms {
            if let Some(latency_ms) = latency_ms {
                self.range("/latency_target_ms", latency_ms, 1.0, 3_600_000.0);
            }
            definition.targets.latency_ms = latency_ms;
        }
        if let Some(counts) = terms.degraded_counts_as_bad {
            definition.targets.degraded_counts_as_bad = counts;
        }
        if let Some(probes) = terms.probes {
            definition.probes = self.probes(probes);
        }
        if let Some(kpis) = terms.kpis {
            definition.kpis = self.kpis(kpis);
        }
        if let Some(deliverables) = terms.deliverables {
            definition.deliverables = self.deliverables(deliverables, &definition.deliverables);
        }
    }

    fn targets(&mut self, definition: &mut Definition, target: &Option<f64>, floor: &Option<f64>) {
        let targets = &mut definition.targets;
        targets.availability_percent = target.unwrap_or(targets.availability_percent);
        targets.availability_floor_percent = floor.unwrap_or(targets.availability_floor_percent);
        let (target, floor) = (targets.availability_percent, targets.availability_floor_percent);
        self.range("/availability_target_percent", target, 0.0, 100.0);
        self.range("/availability_floor_percent", floor, 0.0, 100.0);
        if floor >= target {
            self.refuse("/availability_floor_percent", "expected less than the target");
        }
    }

    fn probes(&mut self, probes: Vec<ProbeIn>) -> Vec<Probe> {
        let keys = probes.iter().map(|probe| ("/key".to_owned(), &probe.key));
        self.names("/probes", MAX_PROBES, keys);
        let mut checked = Vec::new();
        for (index, probe) in probes.into_iter().enumerate() {
            let place = format!("/probes/{index}");
            self.url(&format!("{place}/url"), &probe.url);
            let interval_s = probe.interval_s.unwrap_or(DEFAULT_PROBE_INTERVAL_S);
            self.range(&format!("{place}/interval_s"), f64::from(interval_s), 60.0, 86_400.0);
            let deadline_ms = probe.deadline_ms.unwrap_or(DEFAULT_PROBE_DEADLINE_MS);
            self.range(&format!("{place}/deadline_ms"), f64::from(deadline_ms), 100.0, 20_000.0);
            let degraded_above_ms = probe.degraded_above_ms.map(f64::from);
            if let Some(limit) = degraded_above_ms {
                self.range(&format!("{place}/degraded_above_ms"), limit, 1.0, 20_000.0);
            }
            checked.push(Probe {
                key: probe.key,
                url: probe.url,
                interval_s,
                deadline_ms,
                degraded_above_ms,
                enabled: probe.enabled.unwrap_or(true),
            });
        }
        checked
    }

    fn kpis(&mut self, kpis: Vec<KpiDefinitionIn>) -> Vec<KpiDefinition> {
        self.names("/kpis", MAX_KPIS, kpis.iter().map(|kpi| ("/name".to_owned(), &kpi.name)));
        let mut checked = Vec::new();
        for (index, kpi) in kpis.into_iter().enumerate() {
            let place = format!("/kpis/{index}");
            if crate::domain::metrics::OBSERVED.contains(&kpi.name.as_str()) {
                self.refuse(
                    &format!("{place}/name"),
                    "this name is a metric made from observations",
                );
            }
            self.positive(&format!("{place}/target"), kpi.target);
            self.text(&format!("{place}/unit"), &kpi.unit, 40);
            let weight = kpi.weight.unwrap_or(1.0);
            self.positive(&format!("{place}/weight"), weight);
            checked.push(KpiDefinition {
                name: kpi.name,
                target: kpi.target,
                unit: kpi.unit,
                direction: kpi.direction,
                weight,
            });
        }
        checked
    }

    fn deliverables(
        &mut self,
        deliverables: Vec<DeliverableDefinitionIn>,
        before: &[Deliverable],
    ) -> Vec<Deliverable> {
        let keys = deliverables.iter().map(|d| ("/key".to_owned(), &d.key));
        self.names("/deliverables", MAX_DELIVERABLES, keys);
        let mut checked = Vec::new();
        for (index, deliverable) in deliverables.into_iter().enumerate() {
            let place = format!("/deliverables/{index}");
            if let Some(day) = &deliverable.due_date {
                self.day(&format!("{place}/due_date"), day);
            }
            let weight = deliverable.weight.unwrap_or(1.0);
            self.positive(&format!("{place}/weight"), weight);
            let known = before.iter().find(|known| known.key == deliverable.key).cloned();
            let known = known.unwrap_or_else(|| Deliverable::new(&deliverable.key));
            checked.push(Deliverable { due_date: deliverable.due_date, weight, ..known });
        }
        checked
    }

    /// Slugs, all different, and not too many of them. Each comes with the
    /// rest of its pointer behind the index.
    fn names<'a>(
        &mut self,
        list: &str,
        max: usize,
        names: impl ExactSizeIterator<Item = (String, &'a String)>,
    ) {
        if names.len() > max {
            self.refuse(list, format!("expected at most {max} entries"));
        }
        let mut seen = BTreeSet::new();
        for (index, (rest, name)) in names.enumerate() {
            let pointer = format!("{list}/{index}{rest}");
            self.slug(&pointer, name);
            if !seen.insert(name) {
                self.refuse(&pointer, "stands in the list twice");
            }
        }
    }

    fn slug(&mut self, pointer: &str, text: &str) {
        if let Err(reason) = check_slug(text) {
            self.refuse(pointer, reason);
        }
    }

    fn text(&mut self, pointer: &str, text: &str, max_chars: usize) {
        if let Err(reason) = check_text(text, max_chars) {
            self.refuse(pointer, reason);
        }
    }

    fn url(&mut self, pointer: &str, text: &str) {
        if let Err(error) = ProbeUrl::parse(text, self.loopback) {
            self.refuse(pointer, error.to_string());
        }
    }

    fn day(&mut self, pointer: &str, text: &str) {
        if let Err(reason) = deliverable::end_of_day(text) {
            self.refuse(pointer, reason);
        }
    }

    fn range(&mut self, pointer: &str, value: f64, low: f64, high: f64) {
        if !(low..=high).contains(&value) {
            self.refuse(pointer, format!("expected {low} to {high}"));
        }
    }

    fn positive(&mut self, pointer: &str, value: f64) {
        if !(value > 0.0 && value <= 1e15) {
            self.refuse(pointer, "expected more than 0 and at most 1e15");
        }
    }
}

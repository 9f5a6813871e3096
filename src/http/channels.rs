//! `/channels` and `/deliveries`: where notifications of incidents go, and
//! what became of them.
//!
//! D1 holds the channels; the tenant's outbox is told after a write, and once
//! more by the minute tick, should that message be lost. Secrets are sealed
//! before they are stored, and no reply shows them, save that of a webhook to
//! the request that made it.

use super::app::Cx;
use super::conditional;
use super::idempotency::Once;
use super::pages::{Page, unreadable_cursor};
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::domain::delivery::{self, Channel, ChannelKind, PAGERDUTY_URL, Target};
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::delivery::{Delivery, ROUTING_KEY, WEBHOOK_SECRET};
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::id::CHANNEL_ID;
use crate::domain::id::IdKind;
use crate::domain::incident::{Notification, NotificationKind, Severity};
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::probe_url::HTTPS_URL;
use crate::domain::probe_url::{LoopbackPolicy, ProbeUrl};
use crate::domain::seal::{NONCE_BYTES, Seal};
use crate::domain::time::Timestamp;
#[cfg(not(target_arch = "wasm32"))]
use crate::domain::validation::PRINTABLE;
use crate::domain::validation::{FieldError, check_text};
use crate::log;
use crate::objects::incident;
use crate::objects::outbox::{self, ChannelState, Command};
use crate::platform::sql::Statement;
use crate::store::channels::{self, ChannelRow};
use crate::store::new_id;
use ::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Channels of one tenant: the outbox reads them all for each notification.
const MAX_CHANNELS: u64 = 20;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChannelKindIn {
    Pagerduty,
    Slack,
    Webhook,
    /// Left out, and the answer says so.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(skip))]
    Email,
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(extend("anyOf" = [
    {
        "properties": {
            "kind": { "const": "pagerduty" }, "routing_key": { "type": "string" },
            "url": { "type": "null" }, "secret": { "type": "null" },
        },
        "required": ["routing_key"],
    },
    {
        "properties": {
            "kind": { "const": "slack" }, "url": { "type": "string" },
            "routing_key": { "type": "null" }, "secret": { "type": "null" },
        },
        "required": ["url"],
    },
    {
        "properties": {
            "kind": { "const": "webhook" }, "url": { "type": "string" },
            "routing_key": { "type": "null" },
        },
        "required": ["url"],
    },
])))]
#[serde(deny_unknown_fields)]
pub struct ChannelIn {
    pub kind: ChannelKindIn,
    /// 1 to 100 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 100), regex(pattern = PRINTABLE)))]
    pub name: String,
    /// Less urgent incidents are not told; `warning` if left out.
    pub min_severity: Option<Severity>,
    /// True if left out.
    pub enabled: Option<bool>,
    /// Of `slack` and `webhook`: an https URL; no addresses, no credentials.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = HTTPS_URL), length(max = 2048), extend("format" = "probe-url")))]
    pub url: Option<String>,
    /// Of `pagerduty`: the integration key of an Events API v2 integration.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = ROUTING_KEY)))]
    pub routing_key: Option<String>,
    /// Of `webhook`: what signs, `whsec_` and 24 to 64 bytes in base64; made
    /// here and shown once if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = WEBHOOK_SECRET)))]
    pub secret: Option<String>,
}

/// Another address or secret is another channel.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChannelPatchIn {
    /// 1 to 100 characters.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 100), regex(pattern = PRINTABLE)))]
    pub name: Option<String>,
    pub min_severity: Option<Severity>,
    /// False gives up what waits for the channel.
    pub enabled: Option<bool>,
}

/// A channel, without its secret.
#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ChannelOut {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(regex(pattern = CHANNEL_ID)))]
    pub id: String,
    pub kind: ChannelKind,
    pub name: String,
    pub min_severity: Severity,
    pub enabled: bool,
    /// Of the address, which is secret as a whole.
    pub host: String,
    /// Why nothing is sent to it although it is enabled: its receiver wants no
    /// more. Any change of the channel gives it another chance. Null: it was
    /// not disabled.
    pub disabled_reason: Option<String>,
    pub disabled_at: Option<Timestamp>,
    /// Grows with every change.
    pub revision: i64,
    pub created_at: Timestamp,
    pub created_by: String,
    pub updated_at: Timestamp,
}

impl ChannelOut {
    fn new(row: ChannelRow, state: Option<ChannelState>) -> Self {
        let (disabled_reason, disabled_at) =
            state.map(|state| (state.disabled_reason, state.disabled_at)).unwrap_or_default();
        Self {
            id: row.channel.id,
            kind: row.channel.kind,
            name: row.channel.name,
            min_severity: row.channel.min_severity,
            enabled: row.channel.enabled,
            host: row.host,
            disabled_reason,
            disabled_at,
            revision: row.channel.revision,
            created_at: row.created_at,
            created_by: row.created_by,
            updated_at: row.updated_at,
        }
    }

    fn reply(&self, status: StatusCode) -> Reply {
        let mut reply = Reply::json(status, self);
        // That it was disabled is a change nobody made.
        let state = if self.disabled_at.is_some() { ".disabled" } else { "" };
        reply.set("etag", format!("\"{}.{}{state}\"", self.id, self.revision));
        reply
    }
}

/// A new channel. The secret of a webhook is shown this once.
#[derive(Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct NewChannelOut {
    pub channel: ChannelOut,
    /// What signs (Standard Webhooks), where it was made here; else null.
    pub secret: Option<String>,
}

/// Oldest first.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ChannelsOut {
    pub channels: Vec<ChannelOut>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

/// Newest first. Kept for 30 days after they ended, at most 10,000 of all
/// channels.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DeliveriesOut {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Vec<Delivery>"))]
    pub deliveries: Vec<Box<RawValue>>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

/// GET `/channels`.
pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let page = Page::of(&cx)?;
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let after = page.after.as_deref().unwrap_or_default();
    let mut rows = channels::list(database, tenant_id, after, page.fetch()).await?;
    let next_cursor = page.cut(&cx, &mut rows, |row| row.channel.id.clone());
    let mut states = states(&cx).await?;
    let channels = rows
        .into_iter()
        .map(|row| {
            let known = states.iter().position(|state| state.id == row.channel.id);
            ChannelOut::new(row, known.map(|at| states.swap_remove(at)))
        })
        .collect();
    let out = ChannelsOut { channels, next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

/// GET `/channels/{id}`.
pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    let (_, out) = load(&cx).await?;
    Ok(out.reply(StatusCode::OK))
}

/// POST `/channels`.
pub async fn create(cx: Cx) -> Result<Reply, Problem> {
    let input: ChannelIn = cx.request.json()?;
    let is_ours = input.kind == ChannelKindIn::Webhook && input.secret.is_none();
    let mut fresh = [0_u8; 32];
    let platform = &cx.app.platform;
    platform.random.fill(&mut fresh)?;
    let Checked { kind, name, min_severity, enabled, target, host } = check(&cx, input, &fresh)?;
    let seal = seal(&cx)?;
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return shown_again(&cx, &seal, is_ours, earlier.reply).await;
    }
    let caller = cx.caller()?;
    let tenant_id = caller.tenant_id();
    if channels::count(&platform.database, tenant_id).await? >= MAX_CHANNELS {
        let detail = format!("a tenant may hold at most {MAX_CHANNELS} channels");
        return Err(Problem::new(Code::Conflict, detail));
    }
    let id = new_id(&platform.random, IdKind::Channel, cx.now)?;
    let mut nonce = [0_u8; NONCE_BYTES];
    platform.random.fill(&mut nonce)?;
    let secret = serde_json::to_string(&target).map_err(|e| Problem::internal(e.to_string()))?;
    let sealed = seal.seal(nonce, &delivery::owner(tenant_id, &id), &secret);
    let sealed = sealed.ok_or_else(|| Problem::internal("a secret could not be sealed"))?;
    let row = ChannelRow {
        channel: Channel { id, kind, name, min_severity, enabled, sealed, revision: 1 },
        host,
        created_at: cx.now,
        created_by: caller.id().to_owned(),
        updated_at: cx.now,
    };
    let channel = row.channel.clone();
    let statements = vec![channels::insert(tenant_id, &row)];
    // What is kept for a repetition is without the secret.
    let mut out = NewChannelOut { channel: ChannelOut::new(row, None), secret: None };
    let kept = once.keep(&cx, &created(&out));
    if !write(&cx, kept, statements, "channel.created", &channel.id).await? {
        let earlier = once.winner(&cx).await?;
        return shown_again(&cx, &seal, is_ours, earlier.reply).await;
    }
    tell(&cx, &channel).await;
    if let Target::Webhook { secret, .. } = target
        && is_ours
    {
        out.secret = Some(secret);
    }
    Ok(created(&out))
}

fn created(out: &NewChannelOut) -> Reply {
    let mut reply = Reply::json(StatusCode::CREATED, out);
    reply.set("location", format!("/api/v1/orchestration/channels/{}", out.channel.id));
    reply
}

/// The same channel, to a request that is repeated; its secret is opened.
async fn shown_again(
    cx: &Cx,
    seal: &Seal,
    is_ours: bool,
    mut reply: Reply,
) -> Result<Reply, Problem> {
    if !is_ours {
        return Ok(reply);
    }
    let mut out: NewChannelOut = serde_json::from_slice(&reply.body)
        .map_err(|error| Problem::internal(format!("kept reply: {error}")))?;
    let id = out.channel.id.as_str();
    let tenant_id = cx.caller()?.tenant_id();
    let row = channels::find(&cx.app.platform.database, tenant_id, id).await?;
    let owner = delivery::owner(tenant_id, id);
    let opened = row.and_then(|row| seal.open(&owner, &row.channel.sealed));
    let target = opened.and_then(|text| serde_json::from_str(&text).ok());
    let Some(Target::Webhook { secret, .. }) = target else {
        let detail = format!("the channel {id} was made; its secret cannot be shown again");
        return Err(Problem::new(Code::Conflict, detail));
    };
    out.secret = Some(secret);
    reply.body = serde_json::to_vec(&out).unwrap_or_default().into();
    Ok(reply)
}

struct Checked {
    kind: ChannelKind,
    name: String,
    min_severity: Severity,
    enabled: bool,
    target: Target,
    host: String,
}

/// `fresh` makes the secret of a webhook that brings none.
fn check(cx: &Cx, input: ChannelIn, fresh: &[u8; 32]) -> Result<Checked, Problem> {
    let mut errors = Vec::new();
    check_name(&input.name, &mut errors);
    let ChannelIn { kind, url, routing_key, secret, .. } = input;
    let has_url = matches!(kind, ChannelKindIn::Slack | ChannelKindIn::Webhook);
    let has_key = kind == ChannelKindIn::Pagerduty;
    for (field, is_there, belongs, is_needed) in [
        ("/url", url.is_some(), has_url, has_url),
        ("/routing_key", routing_key.is_some(), has_key, has_key),
        ("/secret", secret.is_some(), kind == ChannelKindIn::Webhook, false),
    ] {
        if is_there && !belongs && kind != ChannelKindIn::Email {
            errors.push(FieldError::new(field, "does not belong to a channel of this kind"));
        } else if is_needed && !is_there {
            errors.push(FieldError::new(field, "is needed for a channel of this kind"));
        }
    }
    if kind == ChannelKindIn::Email {
        let detail = "e-mail is not sent from here; have a webhook call a service that sends it";
        errors.push(FieldError::new("/kind", detail));
    }
    let loopback = LoopbackPolicy::of(cx.app.config.loopback_probes);
    let mut host = String::new();
    match url.as_deref().map(|url| ProbeUrl::parse(url, loopback)) {
        Some(Ok(url)) => url.host().clone_into(&mut host),
        Some(Err(error)) => errors.push(FieldError::new("/url", error.to_string())),
        None => {}
    }
    let is_key = |key: &str| key.len() == 32 && key.bytes().all(|b| b.is_ascii_alphanumeric());
    if routing_key.as_deref().is_some_and(|key| !is_key(key)) {
        errors.push(FieldError::new("/routing_key", "expected 32 letters and digits"));
    }
    if secret.as_deref().is_some_and(|secret| delivery::webhook_key(secret).is_none()) {
        let detail = "expected whsec_ and 24 to 64 bytes in base64";
        errors.push(FieldError::new("/secret", detail));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let (url, routing_key) = (url.unwrap_or_default(), routing_key.unwrap_or_default());
    let (kind, target) = match kind {
        ChannelKindIn::Slack => (ChannelKind::Slack, Target::Slack { url }),
        ChannelKindIn::Webhook => {
            let secret = secret.unwrap_or_else(|| delivery::webhook_secret(fresh));
            (ChannelKind::Webhook, Target::Webhook { url, secret })
        }
        ChannelKindIn::Pagerduty | ChannelKindIn::Email => {
            let url = ProbeUrl::parse(PAGERDUTY_URL, LoopbackPolicy::Refused);
            url.map(|url| url.host().to_owned()).unwrap_or_default().clone_into(&mut host);
            (ChannelKind::Pagerduty, Target::Pagerduty { routing_key })
        }
    };
    Ok(Checked {
        kind,
        name: input.name,
        min_severity: input.min_severity.unwrap_or(Severity::Warning),
        enabled: input.enabled.unwrap_or(true),
        target,
        host,
    })
}

fn check_name(name: &str, errors: &mut Vec<FieldError>) {
    if let Err(detail) = check_text(name, 100) {
        errors.push(FieldError::new("/name", detail));
    }
}

/// PATCH `/channels/{id}`. Also where nothing differs: it is how a channel
/// that was disabled gets another chance.
pub async fn patch(cx: Cx) -> Result<Reply, Problem> {
    let input: ChannelPatchIn = cx.request.json()?;
    let (mut row, out) = load(&cx).await?;
    let mut errors = Vec::new();
    if let Some(name) = &input.name {
        check_name(name, &mut errors);
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    // After everything else that may be wrong with it (RFC 9110, 13.2.1).
    conditional::check_if_match(&cx, out.reply(StatusCode::OK).header("etag"))?;
    let channel = &mut row.channel;
    channel.name = input.name.unwrap_or_else(|| channel.name.clone());
    channel.min_severity = input.min_severity.unwrap_or(channel.min_severity);
    channel.enabled = input.enabled.unwrap_or(channel.enabled);
    channel.revision += 1;
    row.updated_at = cx.now;
    let statements = vec![channels::replace(cx.caller()?.tenant_id(), &row)];
    write(&cx, None, statements, "channel.changed", &row.channel.id).await?;
    tell(&cx, &row.channel).await;
    Ok(ChannelOut::new(row, None).reply(StatusCode::OK))
}

/// DELETE `/channels/{id}`.
pub async fn delete(cx: Cx) -> Result<Reply, Problem> {
    let (row, out) = load(&cx).await?;
    conditional::check_if_match(&cx, out.reply(StatusCode::OK).header("etag"))?;
    let Channel { id, revision, .. } = row.channel.clone();
    let statements = channels::delete(cx.caller()?.tenant_id(), &row.channel);
    write(&cx, None, statements, "channel.deleted", &id).await?;
    told(&cx, Command::RemoveChannel { id, revision: revision + 1 }).await;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// POST `/channels/{id}/test`: one call, whose outcome is the answer.
pub async fn test(cx: Cx) -> Result<Reply, Problem> {
    let once = Once::of(&cx)?;
    let row = find(&cx).await?;
    let random = &cx.app.platform.random;
    let notification = Notification {
        id: new_id(random, IdKind::Notification, cx.now)?,
        kind: NotificationKind::Test,
        incident_id: new_id(random, IdKind::Incident, cx.now)?,
        severity: Severity::Info,
        at: cx.now,
        opened_at: cx.now,
        partnership: None,
        rule: "channel_test".to_owned(),
        title: format!("Test of the channel {:?}", row.channel.name),
        detail: "Somebody tries whether notifications arrive; there is nothing to do.".to_owned(),
        trace_id: Some(cx.trace_id.clone()),
    };
    let command = Command::Test {
        tenant_id: cx.caller()?.tenant_id().to_owned(),
        channel: row.channel,
        delivery_id: delivery_id(&cx, &once)?,
        notification: Box::new(notification),
    };
    let (delivery, again) = delivered(&cx, command).await?;
    noted(&cx, StatusCode::OK, "channel.tested", &delivery, again).await
}

/// GET `/channels/{id}/deliveries`.
pub async fn deliveries(cx: Cx) -> Result<Reply, Problem> {
    let page = Page::of(&cx)?;
    let row = find(&cx).await?;
    let before = match &page.after {
        None => None,
        Some(after) => Some(after.parse().map_err(|_| unreadable_cursor())?),
    };
    let command = Command::Deliveries { channel_id: row.channel.id, before, limit: page.fetch() };
    let outbox::Reply::Deliveries(mut rows) = ask(&cx, command).await? else {
        return Err(Problem::internal("the outbox answered something else"));
    };
    let next_cursor = page.cut(&cx, &mut rows, |(number, _)| number.to_string());
    let deliveries = rows.into_iter().map(|(_, delivery)| delivery).collect();
    let out = DeliveriesOut { deliveries, next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

/// POST `/deliveries/{id}/replay`.
pub async fn replay(cx: Cx) -> Result<Reply, Problem> {
    let once = Once::of(&cx)?;
    let new_id = delivery_id(&cx, &once)?;
    let command = Command::Replay { delivery_id: cx.param("id")?.to_owned(), new_id };
    let (delivery, again) = delivered(&cx, command).await?;
    noted(&cx, StatusCode::ACCEPTED, "delivery.replayed", &delivery, again).await
}

/// What was done, with its line of activity; a repetition did nothing.
async fn noted(
    cx: &Cx,
    status: StatusCode,
    event: &str,
    delivery: &RawValue,
    again: bool,
) -> Result<Reply, Problem> {
    let mut reply = Reply::bytes(status, "application/json", delivery.get().to_owned());
    if again {
        reply.set("idempotency-replayed", "true");
    } else {
        cx.note("devskyy.channels", cx.activity(event, cx.param("id")?)?).await;
    }
    Ok(reply)
}

/// With an Idempotency-Key the same in every repetition, by which the outbox
/// knows that it did so already.
fn delivery_id(cx: &Cx, once: &Once) -> Result<String, Problem> {
    match once.scope() {
        Some(scope) => Ok(IdKind::Delivery.of_key(scope)),
        None => Ok(new_id(&cx.app.platform.random, IdKind::Delivery, cx.now)?),
    }
}

/// The delivery, and whether it was there already.
async fn delivered(cx: &Cx, command: Command) -> Result<(Box<RawValue>, bool), Problem> {
    match ask(cx, command).await? {
        outbox::Reply::Delivery { delivery, again } => Ok((delivery, again)),
        outbox::Reply::Unknown => Err(Problem::not_found("there is no delivery with this id")),
        outbox::Reply::StillWaiting => Err(Problem::new(
            Code::Conflict,
            "the delivery is still to arrive; see next_attempt_at",
        )),
        outbox::Reply::Disabled => {
            Err(Problem::new(Code::Conflict, "the channel is disabled or deleted"))
        }
        _ => Err(Problem::internal("the outbox answered something else")),
    }
}

async fn ask(cx: &Cx, command: Command) -> Result<outbox::Reply, Problem> {
    Ok(incident::outbox(&cx.app.platform, cx.caller()?.tenant_id(), command).await?)
}

async fn states(cx: &Cx) -> Result<Vec<ChannelState>, Problem> {
    match ask(cx, Command::States).await? {
        outbox::Reply::States(states) => Ok(states),
        _ => Err(Problem::internal("the outbox answered something else")),
    }
}

/// A channel of the caller's tenant; another tenant's is not found.
async fn find(cx: &Cx) -> Result<ChannelRow, Problem> {
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    channels::find(database, tenant_id, cx.param("id")?)
        .await?
        .ok_or_else(|| Problem::not_found("there is no channel with this id"))
}

/// The row, and what is shown of it.
async fn load(cx: &Cx) -> Result<(ChannelRow, ChannelOut), Problem> {
    let row = find(cx).await?;
    let state = states(cx).await?.into_iter().find(|state| state.id == row.channel.id);
    Ok((row.clone(), ChannelOut::new(row, state)))
}

/// Runs the statements and the line of activity as one batch. False: another
/// request with the same Idempotency-Key was faster.
async fn write(
    cx: &Cx,
    kept: Option<Statement>,
    statements: Vec<Statement>,
    event: &str,
    subject: &str,
) -> Result<bool, Problem> {
    // The key first: it tells a repetition.
    let mut batch = Vec::from_iter(kept);
    batch.extend(statements);
    batch.push(cx.activity(event, subject)?);
    match cx.app.platform.database.batch(batch).await {
        Ok(_) => Ok(true),
        Err(error) if Once::lost_race(&error) => Ok(false),
        Err(error) if error.is_constraint(channels::REVISION_MOVED) => {
            Err(Problem::new(Code::Conflict, "the channel was changed meanwhile; try again"))
        }
        Err(error) => Err(error.into()),
    }
}

async fn tell(cx: &Cx, channel: &Channel) {
    let Ok(caller) = cx.caller() else { return };
    let command = Command::SetChannels {
        tenant_id: caller.tenant_id().to_owned(),
        channels: vec![channel.clone()],
        all_as_of: None,
    };
    told(cx, command).await;
}

/// What is lost here the next tick brings.
async fn told(cx: &Cx, command: Command) {
    if let Err(problem) = ask(cx, command).await {
        let cause = problem.cause.unwrap_or_default();
        let what = "the outbox does not know of a change of a channel";
        log::warn(&cx.app.platform.log, cx.now, "devskyy.channels", what, &cause);
    }
}

/// # Errors
/// 503 where the deployment has no key for it.
fn seal(cx: &Cx) -> Result<Seal, Problem> {
    let refused = |why: &str| Problem::new(Code::NotConfigured, format!("CHANNEL_KEY {why}"));
    let key = cx.app.config.channel_key.as_ref().ok_or_else(|| refused("is not set"))?;
    Seal::new(key.expose()).map_err(refused)
}

//! `/api/v1/auth/keys`: API keys of the caller's tenant. Admins only, by the
//! route table.

use super::app::Cx;
use super::idempotency::{Earlier, Once};
use super::pages::Page;
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::auth::api_key::{ApiKey, PREFIX_BYTES};
use crate::auth::permission::{FOR_API_KEYS, Permission};
use crate::domain::id::IdKind;
use crate::domain::time::{DAY_MS, SECOND_MS, Timestamp};
use crate::domain::validation::FieldError;
use crate::objects::board;
use crate::platform::sql::Statement;
use crate::store::api_keys::{self, ApiKeyRow};
use crate::store::new_id;
use ::http::StatusCode;
use serde::{Deserialize, Serialize};

const DEFAULT_LIFE_DAYS: u32 = 90;
const MAX_LIFE_DAYS: u32 = 365;

/// How long the old key works beside the new one, unless the caller says.
const DEFAULT_OVERLAP_S: u32 = 24 * 60 * 60;
const MAX_OVERLAP_S: u32 = 7 * 24 * 60 * 60;

/// Keys of a tenant that can be used at once.
const MAX_LIVE_KEYS: u64 = 200;

const SECRET_LABEL: &[u8] = b"devskyy-orchestration/api-key-secret/v1";

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateKeyIn {
    /// What it is for, 1 to 100 characters.
    #[cfg_attr(
        not(target_arch = "wasm32"),
        schemars(length(min = 1, max = 100), regex(pattern = r"\S"))
    )]
    pub name: String,
    /// At least one; none of those that manage users, keys, settings or
    /// limits.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1)))]
    pub permissions: Vec<KeyPermission>,
    /// 1 to 365; 90 if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = 365)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub expires_in_days: Option<u32>,
}

/// What an API key may be given: one of [`FOR_API_KEYS`].
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyPermission(Permission);

impl KeyPermission {
    const fn permission(self) -> Permission {
        self.0
    }
}

impl TryFrom<String> for KeyPermission {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let known = FOR_API_KEYS.iter().find(|permission| permission.name() == name);
        known.copied().map(Self).ok_or_else(|| {
            let names: Vec<_> = FOR_API_KEYS.iter().map(|p| format!("`{}`", p.name())).collect();
            format!("unknown variant, expected one of {}", names.join(", "))
        })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl schemars::JsonSchema for KeyPermission {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeyPermission".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = FOR_API_KEYS.iter().map(|permission| permission.name()).collect();
        schemars::json_schema!({
            "description": "What an API key may be given.",
            "type": "string",
            "enum": names,
        })
    }
}

#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RotateKeyIn {
    /// Seconds for which the old key goes on working, 0 to 604,800 (a week);
    /// 86,400 (a day) if left out.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0, max = 604_800)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub overlap_seconds: Option<u32>,
}

/// An API key, without its secret.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct KeyOut {
    pub id: String,
    pub name: String,
    /// How the key begins.
    pub prefix: String,
    pub permissions: Vec<String>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    /// The key that this one took the place of.
    pub replaces: Option<String>,
    /// To about a minute; null: never.
    pub last_used_at: Option<Timestamp>,
}

impl KeyOut {
    fn from_row(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            permissions: row.permissions,
            created_at: row.created_at,
            created_by: row.created_by,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            replaces: row.replaces,
            last_used_at: row.last_used_at,
        }
    }
}

/// A new API key. It is shown this once.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct NewKeyOut {
    /// Send it as `Authorization: Bearer …` or as `X-API-Key`.
    pub key: String,
    pub api_key: KeyOut,
}

/// Oldest first.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct KeysOut {
    pub keys: Vec<KeyOut>,
    /// For the page after this one; null: this is the last.
    pub next_cursor: Option<String>,
}

/// GET `/auth/keys`.
pub async fn list(cx: Cx) -> Result<Reply, Problem> {
    let page = Page::of(&cx)?;
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    let after = page.after.as_deref().unwrap_or_default();
    let mut rows = api_keys::list(database, tenant_id, after, page.fetch()).await?;
    let next_cursor = page.cut(&cx, &mut rows, |row| row.id.clone());
    let keys = rows.into_iter().map(KeyOut::from_row).collect();
    let out = KeysOut { keys, next_cursor };
    Ok(page.link(&cx, Reply::ok(&out), out.next_cursor.as_deref()))
}

/// GET `/auth/keys/{id}`. One that was revoked stands in the list only.
pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    let row = find(&cx).await?;
    if row.revoked_at.is_some() {
        return Err(Problem::not_found("the API key was revoked; the list still shows it"));
    }
    Ok(Reply::ok(&KeyOut::from_row(row)))
}

/// POST `/auth/keys`.
pub async fn create(cx: Cx) -> Result<Reply, Problem> {
    let input: CreateKeyIn = cx.request.json()?;
    let life_days = check(&input)?;
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return shown_again(&cx, &once, earlier).await;
    }
    let mut permissions: Vec<String> = Vec::new();
    for permission in FOR_API_KEYS {
        if input.permissions.iter().any(|wanted| wanted.permission() == *permission) {
            permissions.push(permission.name().to_owned());
        }
    }
    let expires_at = cx.now.plus_ms(i64::from(life_days) * DAY_MS);
    hand_out(&cx, &once, input.name, permissions, expires_at, None).await
}

fn check(input: &CreateKeyIn) -> Result<u32, Problem> {
    let mut errors = Vec::new();
    let name = input.name.trim();
    if !(1..=100).contains(&input.name.chars().count()) || name.is_empty() {
        errors.push(FieldError::new("/name", "expected 1 to 100 characters, not all blank"));
    }
    if input.permissions.is_empty() {
        errors.push(FieldError::new("/permissions", "expected at least one"));
    }
    let life_days = input.expires_in_days.unwrap_or(DEFAULT_LIFE_DAYS);
    if !(1..=MAX_LIFE_DAYS).contains(&life_days) {
        let detail = format!("expected 1 to {MAX_LIFE_DAYS} days");
        errors.push(FieldError::new("/expires_in_days", detail));
    }
    if errors.is_empty() { Ok(life_days) } else { Err(Problem::invalid(errors)) }
}

/// POST `/auth/keys/{id}/rotate`: a new key with the same permissions and the
/// same life, and the end of the old one after an overlap.
pub async fn rotate(cx: Cx) -> Result<Reply, Problem> {
    let input: RotateKeyIn = cx.request.json()?;
    let overlap_s = input.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_S);
    if overlap_s > MAX_OVERLAP_S {
        let detail = format!("expected 0 to {MAX_OVERLAP_S}");
        return Err(Problem::invalid(vec![FieldError::new("/overlap_seconds", detail)]));
    }
    let once = Once::of(&cx)?;
    if let Some(earlier) = once.earlier(&cx).await? {
        return shown_again(&cx, &once, earlier).await;
    }
    let old = find(&cx).await?;
    if old.revoked_at.is_some() || old.expires_at <= cx.now {
        return Err(not_live());
    }
    let ends_at = cx.now.plus_ms(i64::from(overlap_s) * SECOND_MS);
    let life_ms = old.expires_at.since_ms(old.created_at).max(DAY_MS);
    let platform = &cx.app.platform;
    let end = api_keys::shorten(&platform.random, cx.now, &old, ends_at, cx.caller()?.id())?;
    let (id, name, permissions) = (old.id, old.name, old.permissions);
    let replaced = Replaced { id: id.clone(), end };
    let expires_at = cx.now.plus_ms(life_ms);
    let reply = hand_out(&cx, &once, name, permissions, expires_at, Some(replaced)).await?;
    if overlap_s == 0 {
        stop(&cx, &id).await;
    }
    Ok(reply)
}

/// A key that another one takes the place of.
struct Replaced {
    id: String,
    /// The statements that end it.
    end: Vec<Statement>,
}

/// Makes a key and shows it. With an Idempotency-Key the secret follows from
/// that and from ours, so that a repetition can be shown the same key although
/// it is stored nowhere.
async fn hand_out(
    cx: &Cx,
    once: &Once,
    name: String,
    permissions: Vec<String>,
    expires_at: Timestamp,
    replaced: Option<Replaced>,
) -> Result<Reply, Problem> {
    let platform = &cx.app.platform;
    let caller = cx.caller()?;
    // A key takes the place of a live one, and adds one otherwise.
    let live = api_keys::count_live(&platform.database, caller.tenant_id(), cx.now).await?;
    if live >= MAX_LIVE_KEYS {
        let detail = format!("a tenant may have at most {MAX_LIVE_KEYS} keys that can be used");
        return Err(Problem::new(Code::Conflict, detail));
    }
    let id = new_id(&platform.random, IdKind::ApiKey, cx.now)?;
    let mut prefix = [0_u8; PREFIX_BYTES];
    platform.random.fill(&mut prefix)?;
    let secret = match secrets(cx, once, &id)?.into_iter().next() {
        Some(secret) => secret,
        None => {
            let mut secret = [0_u8; 32];
            platform.random.fill(&mut secret)?;
            secret
        }
    };
    let key = ApiKey::make(&prefix, &secret);
    let row = ApiKeyRow {
        id,
        tenant_id: caller.tenant_id().to_owned(),
        name,
        prefix: key.prefix().to_owned(),
        secret_hash: key.hash(),
        permissions,
        created_at: cx.now,
        created_by: caller.id().to_owned(),
        expires_at,
        revoked_at: None,
        replaces: replaced.as_ref().map(|replaced| replaced.id.clone()),
        last_used_at: None,
    };
    // What is kept for a repetition is the id alone.
    let kept = once.keep(cx, &Reply::json(StatusCode::CREATED, &row.id));
    let mut statements = Vec::from_iter(kept);
    statements.extend(replaced.into_iter().flat_map(|replaced| replaced.end));
    statements.extend(api_keys::insert(&platform.random, cx.now, &row)?);
    match platform.database.batch(statements).await {
        Ok(_) => Ok(created(&key, row)),
        Err(error) if Once::lost_race(&error) => {
            let earlier = once.winner(cx).await?;
            shown_again(cx, once, earlier).await
        }
        Err(error) if error.is_constraint(api_keys::NOT_LIVE) => Err(not_live()),
        Err(error) => Err(error.into()),
    }
}

fn created(key: &ApiKey, row: ApiKeyRow) -> Reply {
    let location = format!("/api/v1/auth/keys/{}", row.id);
    let out = NewKeyOut { key: key.expose().to_owned(), api_key: KeyOut::from_row(row) };
    let mut reply = Reply::json(StatusCode::CREATED, &out);
    reply.set("location", location);
    reply
}

/// The secrets that the key of this id may have, under each live signing key;
/// none without an Idempotency-Key.
fn secrets(cx: &Cx, once: &Once, id: &str) -> Result<Vec<[u8; 32]>, Problem> {
    let Some(scope) = once.scope() else { return Ok(Vec::new()) };
    let keys = cx.app.verifier.keys();
    let keys = keys.map_err(|defect| Problem::new(Code::NotConfigured, defect.to_string()))?;
    let message = [id.as_bytes(), scope].concat();
    Ok(keys.derived(SECRET_LABEL, &message).collect())
}

/// The same key, to a request that is repeated.
async fn shown_again(cx: &Cx, once: &Once, earlier: Earlier) -> Result<Reply, Problem> {
    let id: String = serde_json::from_slice(&earlier.reply.body)
        .map_err(|error| Problem::internal(format!("kept reply: {error}")))?;
    let row = api_keys::find(&cx.app.platform.database, cx.caller()?.tenant_id(), &id).await?;
    let row = row.ok_or_else(|| Problem::internal(format!("no row of the key {id}")))?;
    let candidates = secrets(cx, once, &id)?;
    let same = candidates
        .iter()
        .filter_map(|secret| ApiKey::of(&row.prefix, secret))
        .find(|key| key.hash() == row.secret_hash);
    let Some(key) = same else {
        // The signing keys changed twice within a day.
        let detail = format!("the key {id} was made; it cannot be shown again: rotate it");
        return Err(Problem::new(Code::Conflict, detail));
    };
    let mut reply = created(&key, row);
    reply.set("idempotency-replayed", "true");
    Ok(reply)
}

fn not_live() -> Problem {
    Problem::new(Code::Conflict, "the key was revoked or has expired; create a new one")
}

/// DELETE `/auth/keys/{id}`: revokes it.
pub async fn revoke(cx: Cx) -> Result<Reply, Problem> {
    let row = find(&cx).await?;
    let platform = &cx.app.platform;
    if row.revoked_at.is_none() {
        let (database, random) = (&platform.database, &platform.random);
        api_keys::revoke(database, random, cx.now, &row, cx.caller()?.id()).await?;
    }
    stop(&cx, &row.id).await;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Tells all isolates through the tenant's board that a key is no longer good;
/// those that it does not reach look it up again within 30 s.
async fn stop(cx: &Cx, id: &str) {
    let platform = &cx.app.platform;
    let Ok(caller) = cx.caller() else { return };
    cx.app.verifier.forget_api_key(id);
    let now = Timestamp::from_millis(platform.clock.now_ms());
    let told = board::revoke_tokens(platform, caller.tenant_id(), id, now).await;
    cx.app.boards.forget(caller.tenant_id());
    if let Err(error) = told {
        let what = "the board does not know of a revoked API key";
        crate::log::warn(&platform.log, cx.now, "devskyy.auth", what, &error.to_string());
    }
}

/// A key of the caller's tenant; another tenant's is not found.
async fn find(cx: &Cx) -> Result<ApiKeyRow, Problem> {
    let (database, tenant_id) = (&cx.app.platform.database, cx.caller()?.tenant_id());
    api_keys::find(database, tenant_id, cx.param("id")?)
        .await?
        .ok_or_else(|| Problem::not_found("there is no API key with this id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_may_be_given_just_what_the_table_says() {
        let schema = schemars::schema_for!(KeyPermission).to_value();
        let names: Vec<&str> =
            schema["enum"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let table: Vec<&str> = FOR_API_KEYS.iter().map(|permission| permission.name()).collect();
        assert_eq!(names, table);
        for name in names {
            let read: KeyPermission = serde_json::from_value(name.into()).unwrap();
            assert_eq!(read.permission().name(), name);
        }
    }
}

//! EVERY KEY of KV, as families of keys with what they hold. KV is where all
//! locations can read cheaply, up to a minute late, and where no counter can
//! be kept: the objects count and publish here.

use crate::domain::rate_limit::LimitClass;
use crate::domain::time::{DAY_MS, Timestamp};
use crate::platform::{Error, ErrorKind, KeyValue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The families, each with what follows its name.
pub const KV_KEYS: &[&str] = &[SELF_CHECK_KEY, CLIENT, TENANT];

/// Written and read back by the readiness check, at most once a minute.
pub const SELF_CHECK_KEY: &str = "selfcheck:readiness";

/// What the object of a client published: `rl:client:{object name}`.
const CLIENT: &str = "rl:client:";

/// What was counted for a tenant today: `rl:tenant:{tenant_id}`.
const TENANT: &str = "rl:tenant:";

const SELF_CHECK_TTL_S: u64 = 600;

/// KV keeps nothing for less than a minute.
const MIN_TTL_S: u64 = 60;

/// What every location may know of a client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ClientRecord {
    pub published_at: Timestamp,
    /// Requests of the last 60 s by class, unused leases included.
    pub counted: BTreeMap<LimitClass, u32>,
    pub blocked_until: Option<Timestamp>,
    /// Requests of this UTC day; of a user or an API key.
    pub day: Option<DayCount>,
}

/// Requests of one day (UTC), unused leases included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DayCount {
    /// When the day began.
    pub day: Timestamp,
    pub used: u64,
    /// What may be used that day; null: no quota of its own.
    pub quota: Option<u32>,
}

impl DayCount {
    /// Whether so much was used today. (The quota that was published with
    /// the count may have been changed since.)
    pub fn has_reached(&self, quota: u32, now: Timestamp) -> bool {
        self.day == now.floor_to(DAY_MS) && self.used >= u64::from(quota)
    }

    pub fn ends_at(&self) -> Timestamp {
        self.day.plus_ms(DAY_MS)
    }
}

/// What every location may know of a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct TenantRecord {
    pub published_at: Timestamp,
    pub day: DayCount,
}

pub async fn client(kv: &KeyValue, object_name: &str) -> Result<Option<ClientRecord>, Error> {
    read(kv, &format!("{CLIENT}{object_name}")).await
}

/// Kept while it says something.
pub async fn publish_client(
    kv: &KeyValue,
    object_name: &str,
    record: &ClientRecord,
) -> Result<(), Error> {
    let ends = [record.blocked_until, record.day.map(|day| day.ends_at())];
    write(kv, &format!("{CLIENT}{object_name}"), record, record.published_at, &ends).await
}

pub async fn tenant(kv: &KeyValue, tenant_id: &str) -> Result<Option<TenantRecord>, Error> {
    read(kv, &format!("{TENANT}{tenant_id}")).await
}

pub async fn publish_tenant(
    kv: &KeyValue,
    tenant_id: &str,
    record: &TenantRecord,
) -> Result<(), Error> {
    let ends = [Some(record.day.ends_at())];
    write(kv, &format!("{TENANT}{tenant_id}"), record, record.published_at, &ends).await
}

/// What the last self-check wrote, as far as it is to be seen here.
pub async fn self_check(kv: &KeyValue) -> Result<Option<String>, Error> {
    kv.get(SELF_CHECK_KEY).await
}

pub async fn write_self_check(kv: &KeyValue, text: &str) -> Result<(), Error> {
    kv.put(SELF_CHECK_KEY, text, SELF_CHECK_TTL_S).await
}

async fn read<T: DeserializeOwned>(kv: &KeyValue, key: &str) -> Result<Option<T>, Error> {
    let Some(text) = kv.get(key).await? else { return Ok(None) };
    let value = serde_json::from_str(&text);
    value.map(Some).map_err(|error| Error::new(ErrorKind::Misuse, format!("{key}: {error}")))
}

async fn write(
    kv: &KeyValue,
    key: &str,
    value: &impl Serialize,
    now: Timestamp,
    ends: &[Option<Timestamp>],
) -> Result<(), Error> {
    let text = serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::Misuse, error.to_string()))?;
    let last = ends.iter().flatten().max().map_or(0, |end| end.since_ms(now).max(0));
    let ttl_s = u64::try_from(last / 1_000).unwrap_or_default() + 2 * MIN_TTL_S;
    kv.put(key, &text, ttl_s).await
}

//! `/rate-limits/{client}`: what the object of a client counts, what KV shows
//! of it, and the end of a block.

use super::app::Cx;
use super::limiter::address_id;
use super::problem::Problem;
use super::reply::Reply;
use crate::domain::id::IdKind;
use crate::domain::rate_limit::{LOGINS_PER_ADDRESS, Limits};
use crate::domain::time::Timestamp;
use crate::objects::rate_limit::{self, ClientName, View};
use crate::store::kv::{self, ClientRecord, TenantRecord};
use crate::store::tenants::DEFAULT_TENANT_ID;
use crate::store::{api_keys, users};
use ::http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Serialize;

/// A client, seen from both sides.
#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ClientLimitsOut {
    /// `usr_…`, `key_…`, or `ip:…` with an IPv6 address cut to its /64.
    pub client: String,
    /// Limits in force for this client.
    pub limits: Limits,
    /// Logins from one address in 60 s, which no setting changes.
    pub logins_per_address: u32,
    /// What counts: the client's object.
    pub object: View,
    /// What other locations see, up to a minute late.
    pub kv: KvViewOut,
    pub observed_at: Timestamp,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct KvViewOut {
    /// Null: nothing was published lately.
    pub client: Option<ClientRecord>,
    /// The day of the whole tenant; null for an address, or before the first
    /// was published.
    pub tenant: Option<TenantRecord>,
}

/// GET `/rate-limits/{client}`.
pub async fn show(cx: Cx) -> Result<Reply, Problem> {
    let client = find(&cx).await?;
    let platform = &cx.app.platform;
    let board = cx.app.boards.snapshot(platform, cx.caller()?.tenant_id(), cx.now).await?;
    let limits = match &client.tenant_id {
        Some(_) => board.limits.unwrap_or_default(),
        None => Limits::default(),
    };
    let object_name = client.object_name();
    let of_tenant = async {
        match &client.tenant_id {
            Some(tenant_id) => kv::tenant(&platform.kv, tenant_id).await,
            None => Ok(None),
        }
    };
    let (object, of_client, of_tenant) = futures::join!(
        rate_limit::look(platform, &client),
        kv::client(&platform.kv, &object_name),
        of_tenant,
    );
    Ok(Reply::ok(&ClientLimitsOut {
        limits,
        logins_per_address: LOGINS_PER_ADDRESS,
        object: object?,
        kv: KvViewOut { client: of_client?, tenant: of_tenant? },
        observed_at: cx.now,
        client: client.id,
    }))
}

/// DELETE `/rate-limits/{client}`: ends a block; its counters stay.
pub async fn lift(cx: Cx) -> Result<Reply, Problem> {
    let client = find(&cx).await?;
    let platform = &cx.app.platform;
    let was_blocked = rate_limit::lift(platform, &client).await?;
    cx.app.limiter.forget_record(&client);
    if was_blocked {
        let line = cx.activity("rate_limit.block_lifted", &client.id)?;
        cx.note("devskyy.rate_limit", line).await;
    }
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// A user or API key of the caller's tenant, or an address. Addresses belong
/// to no tenant; the operator's admins look after them.
async fn find(cx: &Cx) -> Result<ClientName, Problem> {
    let database = &cx.app.platform.database;
    let tenant_id = cx.caller()?.tenant_id();
    let name = percent_decode_str(cx.param("client")?).decode_utf8_lossy();
    let known = if name.starts_with(IdKind::User.prefix()) {
        users::find(database, tenant_id, &name).await?.map(|user| user.id)
    } else if name.starts_with(IdKind::ApiKey.prefix()) {
        api_keys::find(database, tenant_id, &name).await?.map(|key| key.id)
    } else if tenant_id == DEFAULT_TENANT_ID {
        let id = address(&name);
        return id.map(|id| ClientName { tenant_id: None, id }).ok_or_else(unknown);
    } else {
        None
    };
    let id = known.ok_or_else(unknown)?;
    Ok(ClientName { tenant_id: Some(tenant_id.to_owned()), id })
}

fn unknown() -> Problem {
    Problem::not_found(
        "there is no such client; expected the id of a user (usr_…) or of an API key (key_…), \
         or an IP address",
    )
}

/// An address with or without `ip:`, whole or already cut to its /64.
fn address(name: &str) -> Option<String> {
    let bare = name.strip_prefix("ip:").unwrap_or(name);
    let whole = if bare.is_empty() { None } else { address_id(&format!("{bare}::")) };
    address_id(bare).or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_whole_or_cut() {
        for name in ["ip:203.0.113.7", "203.0.113.7", "::ffff:203.0.113.7"] {
            assert_eq!(address(name).as_deref(), Some("ip:203.0.113.7"), "{name}");
        }
        for name in ["2001:db8:0:1::9", "ip:2001:db8:0:1", "ip:2001:db8:0:1::"] {
            assert_eq!(address(name).as_deref(), Some("ip:2001:db8:0:1"), "{name}");
        }
        for name in ["", "ip:", "localhost", "account:abc", "ten_default/usr_1"] {
            assert_eq!(address(name), None, "{name}");
        }
    }
}

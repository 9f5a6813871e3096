//! GET `/config`: the values in force. A secret is shown as present or absent.

use super::app::Cx;
use super::body::MAX_BODY_BYTES;
use super::problem::Problem;
use super::reply::Reply;
use crate::auth::password::{LANES, MEMORY_KIB, PASSES};
use crate::auth::token::{ACCESS_TOKEN_LIFETIME_S, Keys};
use crate::domain::observation::{MAX_AHEAD_MS, MAX_BATCH_ROWS, RAW_RETENTION_MS};
use crate::domain::rollup::{Grain, WINDOW_MS};
use crate::domain::settings::Settings;
use crate::domain::time::Timestamp;
use crate::domain::verdict::FRESH_MS;
use crate::platform::{DATABASE_DEADLINE_MS, OBJECT_DEADLINE_MS};
use crate::store::refresh_tokens;
use crate::store::settings;
use serde::Serialize;

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ConfigOut {
    pub configuration: ConfigurationOut,
    /// When the tenant's settings were last changed.
    pub last_updated: Timestamp,
    /// Version of the tenant's settings.
    pub version: i64,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ConfigurationOut {
    pub api_settings: ApiSettingsOut,
    pub security_settings: SecuritySettingsOut,
    pub orchestration_settings: OrchestrationSettingsOut,
    /// The tenant's own settings.
    pub partnership_settings: Settings,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ApiSettingsOut {
    pub environment: String,
    pub base_path: String,
    pub public_health: bool,
    pub max_body_bytes: u64,
    pub max_batch_rows: u64,
    pub cors_allowed_origins: Vec<String>,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SecuritySettingsOut {
    pub token_algorithm: String,
    pub access_token_seconds: i64,
    pub refresh_token_seconds: i64,
    pub password_hash: String,
    /// Whether the key that signs is set and every key is readable; never a value.
    pub signing_key_usable: bool,
    /// The slot that signs, 1 or 2; null where the keys are not usable.
    pub active_signing_key_slot: Option<u8>,
    /// Whether both slots hold a key: the one that does not sign verifies.
    pub second_signing_key_present: bool,
    pub bootstrap_secrets_present: bool,
    pub loopback_probes_allowed: bool,
}

#[derive(Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OrchestrationSettingsOut {
    pub metrics_window_ms: i64,
    pub verdict_fresh_ms: i64,
    pub raw_retention_ms: i64,
    pub minute_rollup_retention_ms: Option<i64>,
    pub hour_rollup_retention_ms: Option<i64>,
    /// Null: kept for ever.
    pub day_rollup_retention_ms: Option<i64>,
    pub max_ahead_ms: i64,
    pub control_targets: Vec<String>,
    pub database_deadline_ms: u32,
    pub object_deadline_ms: u32,
}

pub async fn config(cx: Cx) -> Result<Reply, Problem> {
    let config = &cx.app.config;
    let tenant_id = cx.caller()?.tenant_id();
    let version = settings::current(&cx.app.platform.database, tenant_id)
        .await?
        .ok_or_else(|| Problem::internal(format!("tenant {tenant_id} has no settings")))?;
    Ok(Reply::ok(&ConfigOut {
        configuration: ConfigurationOut {
            api_settings: ApiSettingsOut {
                environment: config.environment.clone(),
                base_path: "/api/v1/orchestration".to_owned(),
                public_health: config.public_health,
                max_body_bytes: MAX_BODY_BYTES as u64,
                max_batch_rows: MAX_BATCH_ROWS as u64,
                cors_allowed_origins: config.cors_origins.clone(),
            },
            security_settings: SecuritySettingsOut {
                token_algorithm: "EdDSA".to_owned(),
                access_token_seconds: ACCESS_TOKEN_LIFETIME_S,
                refresh_token_seconds: refresh_tokens::LIFETIME_MS / 1_000,
                password_hash: format!("argon2id m={MEMORY_KIB} KiB t={PASSES} p={LANES}"),
                signing_key_usable: cx.app.verifier.keys().is_ok(),
                active_signing_key_slot: cx.app.verifier.keys().ok().map(Keys::active_slot),
                second_signing_key_present: config.signing_key.is_some()
                    && config.signing_key_2.is_some(),
                bootstrap_secrets_present: config.bootstrap_username.is_some()
                    || config.bootstrap_password.is_some(),
                loopback_probes_allowed: config.loopback_probes,
            },
            orchestration_settings: OrchestrationSettingsOut {
                metrics_window_ms: WINDOW_MS,
                verdict_fresh_ms: FRESH_MS,
                raw_retention_ms: RAW_RETENTION_MS,
                minute_rollup_retention_ms: Grain::Minute.retention_ms(),
                hour_rollup_retention_ms: Grain::Hour.retention_ms(),
                day_rollup_retention_ms: Grain::Day.retention_ms(),
                max_ahead_ms: MAX_AHEAD_MS,
                control_targets: config.control_targets.clone(),
                database_deadline_ms: DATABASE_DEADLINE_MS,
                object_deadline_ms: OBJECT_DEADLINE_MS,
            },
            partnership_settings: version.settings,
        },
        last_updated: version.created_at,
        version: version.version,
    }))
}

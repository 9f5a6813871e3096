//! GET and PATCH `/config`: the values in force. A secret is shown as present
//! or absent.

use super::alert_policies::AlertingIn;
use super::app::Cx;
use super::body::MAX_BODY_BYTES;
use super::conditional;
use super::problem::{Code, Problem};
use super::reply::Reply;
use crate::auth::password::{LANES, MEMORY_KIB, PASSES};
use crate::auth::token::{ACCESS_TOKEN_LIFETIME_S, Keys};
use crate::domain::observation::{MAX_AHEAD_MS, MAX_BATCH_ROWS, RAW_RETENTION_MS};
use crate::domain::rate_limit::{
    BLOCK_MS, LOGINS_PER_ACCOUNT, LOGINS_PER_ADDRESS, Limits, MAX_DAILY, MAX_LIMIT,
};
use crate::domain::rollup::{Grain, WINDOW_MS};
use crate::domain::settings::{Settings, TenantSettings, Weights};
use crate::domain::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use crate::domain::validation::FieldError;
use crate::domain::verdict::FRESH_MS;
use crate::objects::board::{self, VersionedLimits};
use crate::platform::{DATABASE_DEADLINE_MS, Headers, OBJECT_DEADLINE_MS};
use crate::store::refresh_tokens;
use crate::store::settings::{self, Version};
use crate::store::users;
use serde::{Deserialize, Serialize};

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
    /// What scores are made of: the tenant's own settings.
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
    /// Requests of one client in any 60 s by class, and in a day: the
    /// tenant's own settings.
    pub limits: Limits,
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
    /// False in development only.
    pub rate_limiting: bool,
    pub logins_per_address_per_minute: u32,
    pub logins_per_account_per_minute: u32,
    /// Failed logins of an account within an hour that lock it.
    pub failures_to_lock: u32,
    pub lock_seconds: i64,
    /// For a client that goes on for five minutes without minding
    /// `Retry-After`.
    pub block_seconds: i64,
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

/// What changes of the settings; a field that is left out stays as it is.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SettingsPatchIn {
    /// Weights of the three parts of a score.
    #[serde(default)]
    pub weights: Option<WeightsIn>,
    /// Below this coverage a score is not given, 0 to 1.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0.0, max = 1.0)))]
    #[serde(default)]
    pub min_coverage: Option<f64>,
    /// 60,000 to 86,400,000 ms.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 60_000, max = 86_400_000)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub observation_stale_after_ms: Option<i64>,
    /// 3,600,000 to 31,622,400,000 ms (a year).
    #[cfg_attr(
        not(target_arch = "wasm32"),
        schemars(range(min = 3_600_000, max = 31_622_400_000_i64))
    )]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub kpi_stale_after_ms: Option<i64>,
    /// 60,000 to 86,400,000 ms.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 60_000, max = 86_400_000)))]
    #[serde(default, deserialize_with = "super::body::whole")]
    pub status_page_stale_after_ms: Option<i64>,
    #[serde(default)]
    pub limits: Option<LimitsIn>,
    /// When alerts open and end.
    #[serde(default)]
    pub alerting: Option<AlertingIn>,
}

/// From 0 to 1,000 each, not all 0; only their proportions count.
#[derive(Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(extend("anyOf" = [
    { "properties": { "reliability": { "exclusiveMinimum": 0 } } },
    { "properties": { "kpis": { "exclusiveMinimum": 0 } } },
    { "properties": { "deliverables": { "exclusiveMinimum": 0 } } },
])))]
#[serde(deny_unknown_fields)]
pub struct WeightsIn {
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0.0, max = 1_000.0)))]
    pub reliability: f64,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0.0, max = 1_000.0)))]
    pub kpis: f64,
    #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 0.0, max = 1_000.0)))]
    pub deliverables: f64,
}

macro_rules! limits_in {
    ($($field:ident: $max:ident = $literal:literal),* $(,)?) => {
        /// Requests that may pass: of one client in any 60 s by class (1 to
        /// 1,000,000), and in a day (1 to 1,000,000,000). Logins are not
        /// among them.
        #[derive(Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        #[serde(deny_unknown_fields)]
        pub struct LimitsIn {$(
            #[cfg_attr(not(target_arch = "wasm32"), schemars(range(min = 1, max = $literal)))]
            #[serde(default, deserialize_with = "super::body::whole")]
            pub $field: Option<u32>,
        )*}

        impl LimitsIn {
            fn apply(self, limits: &mut Limits, errors: &mut Vec<FieldError>) {$(
                if let Some(wanted) = self.$field {
                    if (1..=$max).contains(&wanted) {
                        limits.$field = wanted;
                    } else {
                        let pointer = concat!("/limits/", stringify!($field));
                        errors.push(FieldError::new(pointer, format!("expected 1 to {}", $max)));
                    }
                }
            )*}
        }
    };
}

limits_in! {
    default: MAX_LIMIT = 1_000_000,
    metrics: MAX_LIMIT = 1_000_000,
    decisions: MAX_LIMIT = 1_000_000,
    ingest: MAX_LIMIT = 1_000_000,
    documents: MAX_LIMIT = 1_000_000,
    daily_tenant: MAX_DAILY = 1_000_000_000,
    daily_key: MAX_DAILY = 1_000_000_000,
}

impl SettingsPatchIn {
    /// # Errors
    /// Everything that is out of its range.
    fn apply(self, settings: &mut TenantSettings) -> Result<(), Problem> {
        let mut errors = Vec::new();
        let TenantSettings { scoring, limits } = settings;
        if let Some(weights) = self.weights {
            let WeightsIn { reliability, kpis, deliverables } = weights;
            let all = [reliability, kpis, deliverables];
            if all.iter().all(|weight| (0.0..=1_000.0).contains(weight)) && all != [0.0; 3] {
                scoring.weights = Weights { reliability, kpis, deliverables };
            } else {
                let detail = "expected three numbers from 0 to 1000, not all 0";
                errors.push(FieldError::new("/weights", detail));
            }
        }
        if let Some(min_coverage) = self.min_coverage {
            if (0.0..=1.0).contains(&min_coverage) {
                scoring.min_coverage = min_coverage;
            } else {
                errors.push(FieldError::new("/min_coverage", "expected 0 to 1"));
            }
        }
        let mut time =
            |name: &str, wanted: Option<i64>, least: i64, most: i64, at: &mut i64| match wanted {
                Some(wanted) if (least..=most).contains(&wanted) => *at = wanted,
                Some(_) => {
                    let detail = format!("expected {least} to {most} ms");
                    errors.push(FieldError::new(format!("/{name}"), detail));
                }
                None => {}
            };
        time(
            "observation_stale_after_ms",
            self.observation_stale_after_ms,
            MINUTE_MS,
            DAY_MS,
            &mut scoring.observation_stale_after_ms,
        );
        time(
            "kpi_stale_after_ms",
            self.kpi_stale_after_ms,
            HOUR_MS,
            366 * DAY_MS,
            &mut scoring.kpi_stale_after_ms,
        );
        time(
            "status_page_stale_after_ms",
            self.status_page_stale_after_ms,
            MINUTE_MS,
            DAY_MS,
            &mut scoring.status_page_stale_after_ms,
        );
        if let Some(wanted) = self.limits {
            wanted.apply(limits, &mut errors);
        }
        if let Some(wanted) = self.alerting {
            wanted.apply("/alerting", &mut scoring.alerting, &mut errors);
        }
        if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
    }
}

/// GET `/config`.
pub async fn config(cx: Cx) -> Result<Reply, Problem> {
    Ok(render(&cx, current(&cx).await?))
}

/// PATCH `/config`: a new version of the tenant's settings. Rate limits hold
/// at once; what a score is made of follows with the next tick.
pub async fn change(cx: Cx) -> Result<Reply, Problem> {
    let input: SettingsPatchIn = cx.request.json()?;
    let platform = &cx.app.platform;
    let before = current(&cx).await?;
    let shown = render(&cx, before.clone());
    let mut after = before.settings.clone();
    input.apply(&mut after)?;
    // After everything else that may be wrong with it (RFC 9110, 13.2.1).
    conditional::check_if_match(&cx, Some(&conditional::etag_of(&shown.body)))?;
    if after == before.settings {
        return Ok(conditional::answer(shown, &Headers::default()));
    }
    let caller = cx.caller()?;
    let next = Version {
        version: before.version + 1,
        settings: after,
        author_id: caller.id().to_owned(),
        created_at: cx.now,
    };
    let insert = settings::insert(caller.tenant_id(), &next)?;
    let line = cx.activity("settings.changed", &format!("settings/{}", next.version))?;
    match platform.database.batch(vec![insert, line]).await {
        Ok(_) => {}
        Err(error) if error.is_constraint("settings.version") => {
            let detail = "somebody else changed the settings at the same moment; read them again";
            return Err(Problem::new(Code::Conflict, detail));
        }
        Err(error) => return Err(error.into()),
    }
    let limits = VersionedLimits { version: next.version, limits: next.settings.limits };
    if let Err(error) = board::set_limits(platform, caller.tenant_id(), limits).await {
        // The next tick brings them.
        let what = "new rate limits not sent";
        crate::log::warn(&platform.log, cx.now, "devskyy.config", what, &error.to_string());
    }
    cx.app.boards.forget(caller.tenant_id());
    Ok(conditional::answer(render(&cx, next), &Headers::default()))
}

async fn current(cx: &Cx) -> Result<Version, Problem> {
    let tenant_id = cx.caller()?.tenant_id();
    settings::current(&cx.app.platform.database, tenant_id)
        .await?
        .ok_or_else(|| Problem::internal(format!("tenant {tenant_id} has no settings")))
}

fn render(cx: &Cx, version: Version) -> Reply {
    let config = &cx.app.config;
    Reply::ok(&ConfigOut {
        configuration: ConfigurationOut {
            api_settings: ApiSettingsOut {
                environment: config.environment.clone(),
                base_path: "/api/v1/orchestration".to_owned(),
                public_health: config.public_health,
                max_body_bytes: MAX_BODY_BYTES as u64,
                max_batch_rows: MAX_BATCH_ROWS as u64,
                cors_allowed_origins: config.cors_origins.clone(),
                limits: version.settings.limits,
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
                rate_limiting: config.rate_limiting,
                logins_per_address_per_minute: LOGINS_PER_ADDRESS,
                logins_per_account_per_minute: LOGINS_PER_ACCOUNT,
                failures_to_lock: users::FAILURES_TO_LOCK,
                lock_seconds: users::LOCK_MS / SECOND_MS,
                block_seconds: BLOCK_MS / SECOND_MS,
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
            partnership_settings: version.settings.scoring,
        },
        last_updated: version.created_at,
        version: version.version,
    })
}

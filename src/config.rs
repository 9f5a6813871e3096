//! Variables and secrets of the Worker, parsed once per isolate.

use crate::platform::Vars;

/// Two targets of different owners that answer anyone, to tell "the partner
/// is down" from "we are cut off".
const DEFAULT_CONTROL_TARGETS: &str =
    "https://captive.apple.com/hotspot-detect.html,https://example.com/";

#[derive(Clone)]
pub struct Config {
    /// `production` or `development`, for people and readiness.
    pub environment: String,
    /// Whether `/health` answers without a token.
    pub public_health: bool,
    /// Origins that may read replies in a browser, exactly as sent.
    pub cors_origins: Vec<String>,
    pub control_targets: Vec<String>,
    /// Development only: probes may go to this machine.
    pub loopback_probes: bool,
    /// False in development only, and only where it is asked for: to measure
    /// without limits, or to test something else.
    pub rate_limiting: bool,
    /// `None` where the variable is missing or cannot be read; the reason is
    /// in `defects`.
    pub signing_key: Option<SecretText>,
    pub signing_key_2: Option<SecretText>,
    /// The slot that signs, as it was written: what reads the keys judges it.
    pub signing_key_active: String,
    /// Seals the secrets of notification channels: 32 bytes in base64.
    pub channel_key: Option<SecretText>,
    /// Who puts decisions into prose; `None`: nobody does.
    pub narrator: Option<NarratorConfig>,
    pub bootstrap_username: Option<SecretText>,
    pub bootstrap_password: Option<SecretText>,
}

/// A chat endpoint in the form of OpenAI's API.
#[derive(Clone)]
pub struct NarratorConfig {
    /// Such as `https://llm.example.com/v1/chat/completions`.
    pub url: String,
    pub model: String,
    /// Sent as bearer token where there is one.
    pub key: Option<SecretText>,
}

/// Text that never shows itself.
#[derive(Clone)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

impl Config {
    pub fn from_vars(vars: &Vars) -> Self {
        let text = |name: &str| vars.get(name).filter(|value| !value.trim().is_empty());
        let list = |value: &str| -> Vec<String> {
            value.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
        };
        let secret = |name: &str| text(name).map(SecretText);
        Self {
            environment: text("ENVIRONMENT").unwrap_or_else(|| "production".to_owned()),
            public_health: text("PUBLIC_HEALTH").as_deref() != Some("false"),
            cors_origins: text("CORS_ALLOWED_ORIGINS").as_deref().map(list).unwrap_or_default(),
            control_targets: list(
                text("CONTROL_TARGETS").as_deref().unwrap_or(DEFAULT_CONTROL_TARGETS),
            ),
            loopback_probes: text("ALLOW_LOOPBACK_PROBES").as_deref() == Some("true"),
            rate_limiting: text("RATE_LIMITING").as_deref() != Some("off")
                || text("ENVIRONMENT").as_deref() != Some("development"),
            signing_key: secret("SIGNING_KEY"),
            signing_key_2: secret("SIGNING_KEY_2"),
            signing_key_active: text("SIGNING_KEY_ACTIVE").unwrap_or_else(|| "1".to_owned()),
            channel_key: secret("CHANNEL_KEY"),
            narrator: text("NARRATOR_URL")
                .zip(text("NARRATOR_MODEL"))
                .map(|(url, model)| NarratorConfig { url, model, key: secret("NARRATOR_KEY") }),
            bootstrap_username: secret("BOOTSTRAP_ADMIN_USERNAME"),
            bootstrap_password: secret("BOOTSTRAP_ADMIN_PASSWORD"),
        }
    }
}

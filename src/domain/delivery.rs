//! How people are told of incidents: the kinds of channels, what is sent to
//! each, when it is tried again, and what an answer means.

use super::incident::{Notification, NotificationKind, Severity};
use super::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;

/// Where PagerDuty takes events (API v2).
pub const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// How long a receiver has for its answer.
pub const DEADLINE_MS: u32 = 10_000;

/// What the secret of a webhook looks like: 24 to 64 bytes in base64.
pub const WEBHOOK_SECRET: &str = "^whsec_(([A-Za-z0-9+/]{4}){8,20}\
     ([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?\
     |([A-Za-z0-9+/]{4}){21}([A-Za-z0-9+/][AQgw]==)?)$";
const SECRET_PREFIX: &str = "whsec_";

/// What an integration key of PagerDuty looks like.
pub const ROUTING_KEY: &str = "^[0-9A-Za-z]{32}$";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    Pagerduty,
    /// Slack, or what takes the same messages.
    Slack,
    /// Signed by Standard Webhooks 1.0.0.
    Webhook,
}

impl ChannelKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pagerduty => "pagerduty",
            Self::Slack => "slack",
            Self::Webhook => "webhook",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Pagerduty, Self::Slack, Self::Webhook].into_iter().find(|kind| kind.name() == name)
    }
}

/// A channel as the outbox keeps it. Its secret is sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    pub id: String,
    pub kind: ChannelKind,
    pub name: String,
    /// Less urgent triggers are not sent to it.
    pub min_severity: Severity,
    pub enabled: bool,
    /// A [`Target`], sealed for [`owner`].
    pub sealed: String,
    /// Grows with every change.
    pub revision: i64,
}

/// For whom the secret of a channel is sealed.
pub fn owner(tenant_id: &str, channel_id: &str) -> String {
    format!("{tenant_id}/{channel_id}")
}

/// Where a channel leads: all of it is secret, as whoever knows it can write
/// there. Not `Debug`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Pagerduty { routing_key: String },
    Slack { url: String },
    Webhook { url: String, secret: String },
}

/// One call to make.
pub struct Message {
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// The secret of a webhook, of random bytes.
pub fn webhook_secret(bytes: &[u8; 32]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes))
}

/// The key of a `whsec_…`; `None` where it is none.
pub fn webhook_key(secret: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(secret.strip_prefix(SECRET_PREFIX)?).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// What one attempt sends. `id` is the same in every attempt; `now` is that of
/// this one. `None`: the secret of the channel cannot be used.
pub fn message(target: &Target, news: &Notification, id: &str, now: Timestamp) -> Option<Message> {
    let json = |url: &str, body: Value| Message {
        url: url.to_owned(),
        headers: vec![("content-type", "application/json".to_owned())],
        body: body.to_string().into_bytes(),
    };
    Some(match target {
        Target::Pagerduty { routing_key } => json(PAGERDUTY_URL, pagerduty(routing_key, news)),
        Target::Slack { url } => json(url, slack(news)),
        Target::Webhook { url, secret } => {
            let mut message = json(url, webhook(news));
            let signature = signature(&webhook_key(secret)?, id, now.seconds(), &message.body)?;
            message.headers.extend([
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", now.seconds().to_string()),
                ("webhook-signature", signature),
            ]);
            message
        }
    })
}

/// Of Standard Webhooks 1.0.0: HMAC-SHA256 of `id.timestamp.body`.
pub fn signature(key: &[u8], id: &str, timestamp_s: i64, body: &[u8]) -> Option<String> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).ok()?;
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// The `webhook-id`. (Its parts hold no full stop: that separates it from
/// what else is signed.)
pub fn message_id(notification_id: &str, channel_id: &str) -> String {
    format!("{notification_id}-{channel_id}")
}

const fn event_type(kind: NotificationKind) -> &'static str {
    match kind {
        NotificationKind::Triggered => "incident.triggered",
        NotificationKind::Acknowledged => "incident.acknowledged",
        NotificationKind::Resolved => "incident.resolved",
        NotificationKind::Test => "channel.test",
    }
}

fn webhook(news: &Notification) -> Value {
    json!({
        "type": event_type(news.kind),
        "timestamp": news.at,
        "data": {
            "notification_id": news.id,
            "incident_id": news.incident_id,
            "severity": news.severity,
            "opened_at": news.opened_at,
            "partnership": news.partnership,
            "rule": news.rule,
            "title": news.title,
            "detail": news.detail,
        },
    })
}

fn slack(news: &Notification) -> Value {
    let (what, color) = match (news.kind, news.severity) {
        (NotificationKind::Resolved, _) => ("Resolved", "good"),
        (NotificationKind::Acknowledged, _) => ("Acknowledged", "#439FE0"),
        (NotificationKind::Test, _) => ("Test", "#439FE0"),
        (NotificationKind::Triggered, Severity::Critical) => ("Critical", "danger"),
        (NotificationKind::Triggered, Severity::Warning) => ("Warning", "warning"),
        (NotificationKind::Triggered, Severity::Info) => ("Info", "#439FE0"),
    };
    let mut fields = vec![
        json!({ "title": "Rule", "value": escaped(&news.rule), "short": true }),
        json!({ "title": "Incident", "value": escaped(&news.incident_id), "short": true }),
    ];
    if let Some(partnership) = &news.partnership {
        let field = json!({ "title": "Partnership", "value": escaped(partnership), "short": true });
        fields.insert(0, field);
    }
    let title = escaped(&news.title);
    json!({
        "text": format!("{what}: {title}"),
        "attachments": [{
            "color": color,
            "fallback": format!("{what}: {title}"),
            "text": escaped(&news.detail),
            "fields": fields,
            "ts": news.at.seconds(),
        }],
    })
}

/// Slack reads these three as the start of links, mentions and entities.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

const MAX_SUMMARY_CHARS: usize = 1_024;

fn pagerduty(routing_key: &str, news: &Notification) -> Value {
    let action = match news.kind {
        NotificationKind::Triggered | NotificationKind::Test => "trigger",
        NotificationKind::Acknowledged => "acknowledge",
        NotificationKind::Resolved => "resolve",
    };
    let severity = match news.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let source = news.partnership.as_deref().unwrap_or("devskyy-orchestration");
    json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": news.incident_id,
        "client": "DevSkyy Orchestration",
        "payload": {
            "summary": news.title.chars().take(MAX_SUMMARY_CHARS).collect::<String>(),
            "source": source,
            "severity": severity,
            "timestamp": news.at,
            "component": source,
            "group": "devskyy-orchestration",
            "class": news.rule,
            "custom_details": {
                "detail": news.detail,
                "incident_id": news.incident_id,
                "notification_id": news.id,
                "opened_at": news.opened_at,
            },
        },
    })
}

// ---- answers ----

/// Why an attempt did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// An answer that is no success; the status says which.
    Refused,
    /// No answer within 10 s.
    TimedOut,
    /// No connection, or one that broke.
    NotReached,
    /// The channel's secret cannot be opened, or leads where nobody may call.
    NotSendable,
    /// This service stopped in the middle: whether it arrived is not known.
    Interrupted,
}

impl Failure {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::NotReached => "not_reached",
            Self::NotSendable => "not_sendable",
            Self::Interrupted => "interrupted",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Refused, Self::TimedOut, Self::NotReached, Self::NotSendable, Self::Interrupted]
            .into_iter()
            .find(|failure| failure.name() == name)
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    TryAgain,
    /// It will never take this one.
    GiveUp,
    /// It wants nothing any more.
    Disable,
}

pub const fn verdict(kind: ChannelKind, status: u16) -> Verdict {
    match (kind, status) {
        (ChannelKind::Pagerduty, 202) => Verdict::Delivered,
        (ChannelKind::Pagerduty, 400) => Verdict::GiveUp,
        (ChannelKind::Pagerduty, _) => Verdict::TryAgain,
        (_, 200..=299) => Verdict::Delivered,
        (_, 410) => Verdict::Disable,
        _ => Verdict::TryAgain,
    }
}

// ---- the schedule ----

/// Pauses after the first failed attempt, the second and so on (Standard
/// Webhooks 1.0.0: ten attempts in 75 hours).
const WEBHOOK_PAUSES_MS: [i64; 9] = [
    5 * SECOND_MS,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    2 * HOUR_MS,
    5 * HOUR_MS,
    10 * HOUR_MS,
    14 * HOUR_MS,
    20 * HOUR_MS,
    24 * HOUR_MS,
];

/// PagerDuty asks for minutes: ten attempts in 8 hours.
const PAGERDUTY_PAUSES_MS: [i64; 9] = [
    MINUTE_MS,
    2 * MINUTE_MS,
    4 * MINUTE_MS,
    8 * MINUTE_MS,
    15 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    2 * HOUR_MS,
    4 * HOUR_MS,
];

/// A receiver may not put off an attempt for longer.
const MAX_RETRY_AFTER_MS: i64 = DAY_MS;

/// When to try again after so many attempts, the last of which failed just
/// now; `None`: no more. Never before the pause has passed: `jitter` (any
/// number) adds up to a tenth of it, so that what failed together does not
/// come back together.
pub fn next_attempt(
    kind: ChannelKind,
    attempts: u32,
    now: Timestamp,
    retry_after: Option<&str>,
    jitter: u32,
) -> Option<Timestamp> {
    let pauses = match kind {
        ChannelKind::Pagerduty => &PAGERDUTY_PAUSES_MS,
        ChannelKind::Slack | ChannelKind::Webhook => &WEBHOOK_PAUSES_MS,
    };
    let index = usize::try_from(attempts).ok()?.checked_sub(1)?;
    let pause_ms = *pauses.get(index)?;
    let spread_ms = (pause_ms / 10) * i64::from(jitter) / i64::from(u32::MAX);
    let asked = retry_after.and_then(|text| retry_after_ms(text, now)).unwrap_or_default();
    Some(now.plus_ms(pause_ms.max(asked) + spread_ms))
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date.
fn retry_after_ms(text: &str, now: Timestamp) -> Option<i64> {
    let text = text.trim();
    let wait_ms = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number holds are still a long time.
        text.parse::<i64>().unwrap_or(i64::MAX).saturating_mul(SECOND_MS)
    } else {
        let at = DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
        at.saturating_sub(now.millis())
    };
    Some(wait_ms.clamp(0, MAX_RETRY_AFTER_MS))
}

// ---- what is told of deliveries ----

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// To be tried, or tried again.
    Waiting,
    Delivered,
    /// Given up. Replay sends it anew.
    Failed,
}

impl DeliveryState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Delivered, Self::Failed].into_iter().find(|s| s.name() == name)
    }
}

/// One call that was made, or is being made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Attempt {
    pub at: Timestamp,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    /// Null: it succeeded, or has no outcome yet.
    pub failure: Option<Failure>,
    /// To the headers of the answer, in milliseconds.
    pub latency_ms: Option<f64>,
    /// When it is tried again; null: not.
    pub next_attempt_at: Option<Timestamp>,
}

/// One notification to one channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Delivery {
    /// `dlv_…`
    pub id: String,
    pub channel_id: String,
    /// The same in every delivery and attempt; of a webhook, with the
    /// channel's id, the `webhook-id`.
    pub notification_id: String,
    pub incident_id: String,
    pub kind: NotificationKind,
    pub title: String,
    pub state: DeliveryState,
    /// Why it was given up without a last attempt; null: it was not.
    pub given_up: Option<String>,
    pub created_at: Timestamp,
    /// Null: none is to come.
    pub next_attempt_at: Option<Timestamp>,
    /// First to last.
    pub attempts: Vec<Attempt>,
}

/// Figures of one channel since it was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelFigures {
    /// Deliveries that arrived.
    pub delivered: u64,
    /// Calls that failed, whatever became of the delivery.
    pub failed_attempts: u64,
    /// Deliveries that are still to arrive.
    pub waiting: u64,
    /// When the oldest of those was written down.
    pub oldest_waiting_at: Option<Timestamp>,
    #[serde(default)]
    pub last_delivered_at: Option<Timestamp>,
    #[serde(default)]
    pub last_failed_at: Option<Timestamp>,
    /// When its receiver said that it wants nothing any more.
    #[serde(default)]
    pub disabled_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn news(kind: NotificationKind) -> Notification {
        Notification {
            id: "ntf_1".to_owned(),
            kind,
            incident_id: "inc_1".to_owned(),
            severity: Severity::Critical,
            at: at("2026-01-31T12:00:00Z"),
            opened_at: at("2026-01-31T11:58:00Z"),
            partnership: Some("cursor_technical".to_owned()),
            rule: "slo_burn".to_owned(),
            title: "Errors <b>&</b> @here".to_owned(),
            detail: "burn 20 > 14.4".to_owned(),
            trace_id: None,
        }
    }

    /// Of the specification's own test suite: the vector that its libraries
    /// share.
    #[test]
    fn signs_like_the_standard() {
        let key = webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signature(
            &key,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_hold_24_to_64_bytes() {
        let pattern = jsonschema::draft202012::new(&json!({ "pattern": WEBHOOK_SECRET })).unwrap();
        for bytes in 0..80_usize {
            for fill in [0_u8, 0xa7, 0xff] {
                let secret = format!("whsec_{}", STANDARD.encode(vec![fill; bytes]));
                let good = (24..=64).contains(&bytes);
                assert_eq!(webhook_key(&secret).is_some(), good, "{bytes}");
                assert_eq!(pattern.is_valid(&json!(secret)), good, "{bytes}");
            }
        }
        for bad in [
            "",
            "whsec_",
            "sec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS=",
        ] {
            assert_eq!(webhook_key(bad), None, "{bad}");
            assert!(!pattern.is_valid(&json!(bad)), "{bad}");
        }
        assert!(webhook_key(&webhook_secret(&[5; 32])).is_some());
    }

    #[test]
    fn each_kind_of_channel_gets_its_own_form() {
        let now = at("2026-01-31T12:00:07.900Z");
        let of = |target: &Target, kind| {
            let message = message(target, &news(kind), "ntf_1-chn_1", now).unwrap();
            let body: Value = serde_json::from_slice(&message.body).unwrap();
            (message, body)
        };
        let webhook = Target::Webhook {
            url: "https://example.com/hook".to_owned(),
            secret: webhook_secret(&[1; 32]),
        };
        let (message, body) = of(&webhook, NotificationKind::Triggered);
        assert_eq!(body["type"], "incident.triggered");
        assert_eq!(body["timestamp"], "2026-01-31T12:00:00.000Z");
        assert_eq!(body["data"]["incident_id"], "inc_1");
        let header = |name: &str| {
            message.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()).unwrap()
        };
        assert_eq!(header("webhook-id"), "ntf_1-chn_1");
        assert_eq!(header("webhook-timestamp"), "1769860807");
        let expected = signature(&[1; 32], "ntf_1-chn_1", 1_769_860_807, &message.body).unwrap();
        assert_eq!(header("webhook-signature"), expected);

        let slack = Target::Slack { url: "https://hooks.example.org/x".to_owned() };
        let (message, body) = of(&slack, NotificationKind::Triggered);
        assert_eq!(message.url, "https://hooks.example.org/x");
        assert_eq!(body["text"], "Critical: Errors &lt;b&gt;&amp;&lt;/b&gt; @here");
        assert_eq!(body["attachments"][0]["text"], "burn 20 &gt; 14.4");
        assert_eq!(of(&slack, NotificationKind::Resolved).1["attachments"][0]["color"], "good");

        let pagerduty = Target::Pagerduty { routing_key: "k".repeat(32) };
        for (kind, action) in [
            (NotificationKind::Triggered, "trigger"),
            (NotificationKind::Acknowledged, "acknowledge"),
            (NotificationKind::Resolved, "resolve"),
            (NotificationKind::Test, "trigger"),
        ] {
            let (message, body) = of(&pagerduty, kind);
            assert_eq!(message.url, PAGERDUTY_URL);
            assert_eq!(
                (&body["event_action"], &body["dedup_key"]),
                (&json!(action), &json!("inc_1"))
            );
            assert_eq!(body["payload"]["severity"], "critical");
        }
        let mut long = news(NotificationKind::Triggered);
        long.title = "é".repeat(2_000);
        let body = super::pagerduty("k", &long);
        assert_eq!(body["payload"]["summary"].as_str().unwrap().chars().count(), 1_024);
    }

    #[test]
    fn only_2xx_is_success() {
        use ChannelKind::*;
        for status in 100..600 {
            for kind in [Slack, Webhook] {
                let expected = match status {
                    200..300 => Verdict::Delivered,
                    410 => Verdict::Disable,
                    _ => Verdict::TryAgain,
                };
                assert_eq!(verdict(kind, status), expected, "{status}");
            }
            let expected = match status {
                202 => Verdict::Delivered,
                400 => Verdict::GiveUp,
                _ => Verdict::TryAgain,
            };
            assert_eq!(verdict(Pagerduty, status), expected, "{status}");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_a_pause() {
        let now = at("2026-01-31T12:00:00Z");
        let wait = |text: &str| {
            next_attempt(ChannelKind::Webhook, 1, now, Some(text), 0).unwrap().since_ms(now)
        };
        assert_eq!(wait("120"), 120_000);
        assert_eq!(wait(" 7 "), 7_000);
        assert_eq!(wait("Sat, 31 Jan 2026 12:10:00 GMT"), 600_000);
        for shorter in ["1", "0", "", "soon", "-5", "Sat, 31 Jan 2026 11:00:00 GMT"] {
            assert_eq!(wait(shorter), 5_000, "{shorter}");
        }
        for longer in ["99999999", "99999999999999999999999", "Sun, 31 Jan 2027 12:10:00 GMT"] {
            assert_eq!(wait(longer), DAY_MS, "{longer}");
        }
    }

    proptest! {
        #[test]
        fn never_early_and_a_tenth_late_at_most(attempts in 0_u32..20, jitter: u32, ms in 0_i64..1 << 40) {
            let now = Timestamp::from_millis(ms);
            let next = next_attempt(ChannelKind::Webhook, attempts, now, None, jitter);
            prop_assert_eq!(next.is_some(), (1..10).contains(&attempts));
            if let Some(next) = next {
                let pause = WEBHOOK_PAUSES_MS[attempts as usize - 1];
                let waited = next.since_ms(now);
                prop_assert!(waited >= pause && waited <= pause + pause / 10, "{waited}");
            }
        }

        #[test]
        fn any_retry_after_is_read_or_ignored(text in ".{0,40}") {
            let now = Timestamp::from_millis(1_700_000_000_000);
            let next = next_attempt(ChannelKind::Webhook, 1, now, Some(&text), 0).unwrap();
            prop_assert!((5_000..=DAY_MS).contains(&next.since_ms(now)));
        }
    }
}

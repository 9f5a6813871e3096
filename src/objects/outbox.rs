//! The outbox: what is to be told of incidents, to which channel, and how
//! often that was tried. A component over the SQLite of the object that hosts
//! it, so that an incident and the news of it are written in one transaction.
//!
//! At least once: an attempt is written down before the call is made, with a
//! lease; what an eviction interrupts is found when the lease has passed. Of
//! one incident, a channel is told in order. Neither D1 nor KV is touched: the
//! channels are told to the object, their secrets sealed.

use crate::config::Config;
use crate::domain::delivery::{
    self, Attempt, Channel, ChannelFigures, DEADLINE_MS, Delivery, DeliveryState, Failure, Target,
    Verdict,
};
use crate::domain::id::IdKind;
use crate::domain::incident::{Notification, NotificationKind};
use crate::domain::probe_url::{LoopbackPolicy, ProbeUrl};
use crate::domain::seal::Seal;
use crate::domain::time::{DAY_MS, MINUTE_MS, SECOND_MS, Timestamp};
use crate::log;
use crate::platform::fetch::{OutboundMethod, OutboundReply, OutboundRequest};
use crate::platform::sql::Row;
use crate::platform::{Error, ErrorKind, ObjectStorage, Platform};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

const DATASET: &str = "devskyy.outbox";

/// Calls at once: six connections may be open, one is left to others.
const MAX_IN_FLIGHT: u64 = 5;

/// Calls of one alarm; what is left rings again.
const MAX_PER_RUN: usize = 100;

/// A call that has no outcome after its deadline and this was interrupted.
const LEASE_MS: i64 = DEADLINE_MS as i64 + 5 * SECOND_MS;

/// How long deliveries that have ended are kept, and how many at most.
const KEPT_MS: i64 = 30 * DAY_MS;
const MAX_KEPT: u32 = 10_000;

/// A channel that has taken nothing for so long, though it was tried, is worth
/// an alert.
const STUCK_MS: i64 = 15 * MINUTE_MS;

/// What the hosting object is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// These channels are, or have become, so. With `all_as_of`, they are all
    /// there were then, and what is older and not among them goes: heals what
    /// was lost.
    SetChannels {
        tenant_id: String,
        channels: Vec<Channel>,
        all_as_of: Option<Timestamp>,
    },
    /// The channel is gone, as of this revision.
    RemoveChannel {
        id: String,
        revision: i64,
    },
    /// Tells people of something, as [`enqueue`] does.
    Enqueue {
        notification: Box<Notification>,
    },
    /// What became of the channels.
    States,
    /// Sends a notification to one channel, once, and waits for the answer.
    Test {
        tenant_id: String,
        channel: Channel,
        delivery_id: String,
        notification: Box<Notification>,
    },
    /// Newest first, from below this number.
    Deliveries {
        channel_id: String,
        before: Option<i64>,
        limit: u32,
    },
    /// Sends the notification of a delivery that has ended again.
    Replay {
        delivery_id: String,
        new_id: String,
    },
    Figures,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    States(Vec<ChannelState>),
    Delivery {
        /// A [`Delivery`], passed on as it is.
        delivery: Box<RawValue>,
        /// Nothing was done: it was there already.
        again: bool,
    },
    /// Newest first, each with its number; passed on as they are.
    Deliveries(Vec<(i64, Box<RawValue>)>),
    /// There is no such delivery.
    Unknown,
    /// It has not ended.
    StillWaiting,
    /// The channel takes nothing: it is disabled, or gone.
    Disabled,
    Figures(BTreeMap<String, ChannelFigures>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelState {
    pub id: String,
    /// Why it was disabled, and when; `None`: it was not.
    pub disabled_reason: Option<String>,
    pub disabled_at: Option<Timestamp>,
}

pub fn create_tables(storage: &ObjectStorage) -> Result<(), Error> {
    for sql in [
        // The row of a removed one stays: late news must not bring it back.
        "CREATE TABLE IF NOT EXISTS outbox_channels (
             id TEXT NOT NULL PRIMARY KEY,
             tenant_id TEXT NOT NULL,
             revision INTEGER NOT NULL,
             channel TEXT NOT NULL,
             told_at INTEGER NOT NULL,
             removed_at INTEGER,
             disabled_reason TEXT,
             disabled_at INTEGER,
             delivered INTEGER NOT NULL DEFAULT 0,
             failed_attempts INTEGER NOT NULL DEFAULT 0,
             last_delivered_at INTEGER,
             last_failed_at INTEGER,
             -- The first failure since something arrived.
             failing_since INTEGER
         ) STRICT, WITHOUT ROWID",
        // `next_at` of one in flight is the end of its lease.
        "CREATE TABLE IF NOT EXISTS outbox_deliveries (
             seq INTEGER PRIMARY KEY AUTOINCREMENT,
             id TEXT NOT NULL UNIQUE,
             channel_id TEXT NOT NULL,
             incident_id TEXT NOT NULL,
             notification TEXT NOT NULL,
             state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'failed')),
             given_up TEXT,
             attempts INTEGER NOT NULL DEFAULT 0,
             in_flight INTEGER NOT NULL DEFAULT 0,
             next_at INTEGER,
             created_at INTEGER NOT NULL,
             ended_at INTEGER
         ) STRICT",
        "CREATE INDEX IF NOT EXISTS outbox_waiting
             ON outbox_deliveries (channel_id, incident_id, seq) WHERE state = 'waiting'",
        "CREATE INDEX IF NOT EXISTS outbox_by_channel ON outbox_deliveries (channel_id, seq)",
        "CREATE INDEX IF NOT EXISTS outbox_by_incident ON outbox_deliveries (incident_id)",
        "CREATE INDEX IF NOT EXISTS outbox_by_end ON outbox_deliveries (ended_at)",
        "CREATE TABLE IF NOT EXISTS outbox_attempts (
             delivery_id TEXT NOT NULL,
             n INTEGER NOT NULL,
             at INTEGER NOT NULL,
             status INTEGER,
             failure TEXT,
             latency_ms REAL,
             next_at INTEGER,
             PRIMARY KEY (delivery_id, n)
         ) STRICT, WITHOUT ROWID",
        // Which channels know of an incident that is not resolved.
        "CREATE TABLE IF NOT EXISTS outbox_told (
             incident_id TEXT NOT NULL,
             channel_id TEXT NOT NULL,
             PRIMARY KEY (incident_id, channel_id)
         ) STRICT, WITHOUT ROWID",
    ] {
        storage.query(sql, &[])?;
    }
    Ok(())
}

// ---- what is to be told ----

/// Writes down a delivery for each channel that wants the notification, or
/// that was told of the incident before. Doing so again changes nothing. The
/// caller sets the alarm by [`next_due`].
pub fn enqueue(
    storage: &ObjectStorage,
    now: Timestamp,
    notification: &Notification,
) -> Result<(), Error> {
    enqueue_except(&[], storage, now, notification)
}

/// As [`enqueue`], but not to these channels: what is wrong with them is for
/// the others.
pub fn enqueue_except(
    channels: &[&str],
    storage: &ObjectStorage,
    now: Timestamp,
    notification: &Notification,
) -> Result<(), Error> {
    let incident_id = notification.incident_id.as_str();
    let told: Vec<String> = storage
        .query("SELECT channel_id FROM outbox_told WHERE incident_id = ?1", &[incident_id.into()])?
        .iter()
        .map(|row| row.get("channel_id"))
        .collect::<Result<_, _>>()?;
    for (channel, _) in open_channels(storage)? {
        let id = channel.id.as_str();
        let wanted = match notification.kind {
            NotificationKind::Triggered => {
                channel.min_severity <= notification.severity && !channels.contains(&id)
            }
            NotificationKind::Acknowledged | NotificationKind::Resolved => {
                told.iter().any(|told| told == id)
            }
            // Is sent to the one that is tried.
            NotificationKind::Test => false,
        };
        if wanted {
            insert(storage, now, &first_id(&notification.id, id), id, notification)?;
        }
        if wanted && notification.kind == NotificationKind::Triggered {
            storage.query(
                "INSERT INTO outbox_told (incident_id, channel_id) VALUES (?1, ?2)
                 ON CONFLICT DO NOTHING",
                &[incident_id.into(), id.into()],
            )?;
        }
    }
    if notification.kind == NotificationKind::Resolved {
        let sql = "DELETE FROM outbox_told WHERE incident_id = ?1";
        storage.query(sql, &[incident_id.into()])?;
    }
    Ok(())
}

/// The same for the same notification and channel, so that writing it down
/// twice does not send it twice.
fn first_id(notification_id: &str, channel_id: &str) -> String {
    let message_id = delivery::message_id(notification_id, channel_id);
    IdKind::Delivery.of_key(&Sha256::digest(message_id).into())
}

fn insert(
    storage: &ObjectStorage,
    now: Timestamp,
    id: &str,
    channel_id: &str,
    notification: &Notification,
) -> Result<(), Error> {
    storage.query(
        "INSERT INTO outbox_deliveries
             (id, channel_id, incident_id, notification, state, next_at, created_at)
         VALUES (?1, ?2, ?3, ?4, 'waiting', ?5, ?5) ON CONFLICT DO NOTHING",
        &[
            id.into(),
            channel_id.into(),
            notification.incident_id.as_str().into(),
            super::write(notification)?.into(),
            now.millis().into(),
        ],
    )?;
    Ok(())
}

// ---- channels ----

const OPEN: &str = "removed_at IS NULL AND disabled_at IS NULL \
                    AND json_extract(channel, '$.enabled')";

/// Channels that take something, with the tenant whose they are.
fn open_channels(storage: &ObjectStorage) -> Result<Vec<(Channel, String)>, Error> {
    let sql = format!("SELECT channel, tenant_id FROM outbox_channels WHERE {OPEN} ORDER BY id");
    let rows = storage.query(&sql, &[])?;
    rows.iter().map(|row| Ok((row.json("channel")?, row.get("tenant_id")?))).collect()
}

fn open_channel(storage: &ObjectStorage, id: &str) -> Result<Option<(Channel, String)>, Error> {
    let sql = format!("SELECT channel, tenant_id FROM outbox_channels WHERE id = ?1 AND {OPEN}");
    let rows = storage.query(&sql, &[id.into()])?;
    rows.first().map(|row| Ok((row.json("channel")?, row.get("tenant_id")?))).transpose()
}

/// Takes over the channels that are news. A channel that was disabled gets
/// another chance with every change of it. One that was taken for gone, as a
/// list from before it was made did not have it, comes back; one of whose end
/// the outbox was told has a higher revision than any news of it.
fn set_channels(
    storage: &ObjectStorage,
    now: Timestamp,
    tenant_id: &str,
    channels: &[Channel],
    all_as_of: Option<Timestamp>,
) -> Result<(), Error> {
    for channel in channels {
        storage.query(
            "INSERT INTO outbox_channels (id, tenant_id, revision, channel, told_at)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision,
                 channel = excluded.channel, told_at = excluded.told_at, removed_at = NULL,
                 disabled_reason = NULL, disabled_at = NULL, failing_since = NULL
             WHERE excluded.revision > revision
                OR (excluded.revision = revision AND removed_at IS NOT NULL)",
            &[
                channel.id.as_str().into(),
                tenant_id.into(),
                channel.revision.into(),
                super::write(channel)?.into(),
                now.millis().into(),
            ],
        )?;
        if open_channel(storage, &channel.id)?.is_none() {
            give_up_waiting(storage, now, &channel.id, "the channel is disabled")?;
        }
    }
    if let Some(as_of) = all_as_of {
        let ids: Vec<&str> = channels.iter().map(|channel| channel.id.as_str()).collect();
        let gone = storage.query(
            "SELECT id, revision FROM outbox_channels WHERE removed_at IS NULL AND told_at < ?1
               AND id NOT IN (SELECT value FROM json_each(?2))",
            &[as_of.millis().into(), super::write(&ids)?.into()],
        )?;
        for row in gone {
            let id: String = row.get("id")?;
            remove_channel(storage, now, &id, row.get("revision")?)?;
        }
    }
    Ok(())
}

/// The row stays for as long as its deliveries do, without the secret.
fn remove_channel(
    storage: &ObjectStorage,
    now: Timestamp,
    id: &str,
    revision: i64,
) -> Result<(), Error> {
    storage.query(
        "UPDATE outbox_channels SET removed_at = ?2, revision = max(revision, ?3),
             channel = json_set(channel, '$.sealed', '') WHERE id = ?1 AND removed_at IS NULL",
        &[id.into(), now.millis().into(), revision.into()],
    )?;
    storage.query("DELETE FROM outbox_told WHERE channel_id = ?1", &[id.into()])?;
    give_up_waiting(storage, now, id, "the channel was deleted")
}

/// Ends all that waits for a channel. What is in flight may still arrive.
fn give_up_waiting(
    storage: &ObjectStorage,
    now: Timestamp,
    channel_id: &str,
    why: &str,
) -> Result<(), Error> {
    storage.query(
        "UPDATE outbox_deliveries SET state = 'failed', given_up = ?3, next_at = NULL,
             in_flight = 0, ended_at = ?2 WHERE channel_id = ?1 AND state = 'waiting'",
        &[channel_id.into(), now.millis().into(), why.into()],
    )?;
    Ok(())
}

/// The channel said that it wants nothing any more.
fn disable(storage: &ObjectStorage, now: Timestamp, channel: &Channel) -> Result<(), Error> {
    let reason = "the receiver answered 410 (Gone)";
    storage.query(
        "UPDATE outbox_channels SET disabled_reason = ?2, disabled_at = ?3 WHERE id = ?1",
        &[channel.id.as_str().into(), reason.into(), now.millis().into()],
    )?;
    give_up_waiting(storage, now, &channel.id, reason)
}

/// A channel that somebody should look after.
pub struct Failing {
    pub channel_id: String,
    pub name: String,
    /// Why, for people.
    pub reason: String,
    pub since: Timestamp,
}

/// Channels that were disabled by their receiver, and those that have taken
/// nothing since a failure [`STUCK_MS`] ago. That its deliveries were given up
/// makes a channel no better.
pub fn failing(storage: &ObjectStorage, now: Timestamp) -> Result<Vec<Failing>, Error> {
    let rows = storage.query(
        "SELECT id, json_extract(channel, '$.name') AS name, disabled_reason, disabled_at,
             failing_since
         FROM outbox_channels
         WHERE removed_at IS NULL AND (disabled_at IS NOT NULL OR failing_since <= ?1)",
        &[now.plus_ms(-STUCK_MS).millis().into()],
    )?;
    rows.iter()
        .map(|row| {
            let since = instant(row, "disabled_at")?.or(instant(row, "failing_since")?);
            let since = since.unwrap_or(now);
            let reason: Option<String> = row.get("disabled_reason")?;
            Ok(Failing {
                channel_id: row.get("id")?,
                name: row.get("name")?,
                reason: reason.unwrap_or_else(|| format!("every try since {since} has failed")),
                since,
            })
        })
        .collect()
}

/// When the first channel had been told that the incident opened.
pub fn first_told(storage: &ObjectStorage, incident_id: &str) -> Result<Option<Timestamp>, Error> {
    let rows = storage.query(
        "SELECT MIN(ended_at) AS at FROM outbox_deliveries
         WHERE incident_id = ?1 AND state = 'delivered'
           AND json_extract(notification, '$.kind') = 'triggered'",
        &[incident_id.into()],
    )?;
    rows.first().map_or(Ok(None), |row| instant(row, "at"))
}

// ---- delivering ----

/// An attempt that is written down, and all that the call needs.
struct Flight {
    delivery_id: String,
    n: u32,
    channel: Channel,
    tenant_id: String,
    notification: Notification,
    at: Timestamp,
}

/// What became of a call.
struct Outcome {
    status: Option<u16>,
    failure: Option<Failure>,
    latency_ms: Option<f64>,
    retry_after: Option<String>,
}

impl Outcome {
    const fn failed(failure: Failure) -> Self {
        Self { status: None, failure: Some(failure), latency_ms: None, retry_after: None }
    }
}

/// One that is not waiting behind another of its incident.
const IN_TURN: &str = "state = 'waiting' AND NOT EXISTS (
         SELECT 1 FROM outbox_deliveries earlier WHERE earlier.state = 'waiting'
             AND earlier.channel_id = d.channel_id AND earlier.incident_id = d.incident_id
             AND earlier.seq < d.seq)";

/// Delivers what is due, five at a time. What fails is logged and tried again
/// when it is due again: the caller sets the alarm by [`next_due`].
pub async fn deliver_due(platform: &Platform, storage: &ObjectStorage) -> Result<(), Error> {
    tidy(storage, clock(platform))?;
    let mut flights = FuturesUnordered::new();
    let mut started = 0;
    loop {
        while started < MAX_PER_RUN
            && let Some(flight) = take_off(platform, storage)?
        {
            started += 1;
            flights.push(fly(platform, storage, flight));
        }
        match flights.next().await {
            Some(Ok(())) => {}
            // The lease of this one runs out by itself; the others go on.
            Some(Err(error)) => {
                let what = "the outcome of a delivery is not written down";
                log::warn(&platform.log, clock(platform), DATASET, what, &error.to_string());
            }
            None => return Ok(()),
        }
    }
}

/// When the alarm should ring; `None`: nothing is to come.
pub fn next_due(storage: &ObjectStorage, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    // With all lines taken, nothing can start before one is free.
    let only = if in_flight(storage, now)? >= MAX_IN_FLIGHT { "AND in_flight" } else { "" };
    let sql = format!("SELECT min(next_at) AS at FROM outbox_deliveries d WHERE {IN_TURN} {only}");
    let rows = storage.query(&sql, &[])?;
    let at: Option<i64> = rows.first().map_or(Ok(None), |row| row.get("at"))?;
    Ok(at.map(Timestamp::from_millis))
}

fn in_flight(storage: &ObjectStorage, now: Timestamp) -> Result<u64, Error> {
    let sql = "SELECT count(*) AS n FROM outbox_deliveries
               WHERE state = 'waiting' AND in_flight AND next_at > ?1";
    storage.query(sql, &[now.millis().into()])?.first().map_or(Ok(0), |row| row.get("n"))
}

/// Writes down the next attempt that is due. `None`: none is, or all lines are
/// taken.
fn take_off(platform: &Platform, storage: &ObjectStorage) -> Result<Option<Flight>, Error> {
    loop {
        let now = clock(platform);
        if in_flight(storage, now)? >= MAX_IN_FLIGHT {
            return Ok(None);
        }
        let sql = format!(
            "SELECT id FROM outbox_deliveries d WHERE {IN_TURN} AND next_at <= ?1
             ORDER BY next_at, seq LIMIT 1"
        );
        let rows = storage.query(&sql, &[now.millis().into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        // `None`: that one has ended or was put off; look again.
        if let Some(flight) = start(platform, storage, now, &row.get::<String>("id")?)? {
            return Ok(Some(flight));
        }
    }
}

/// Writes down an attempt before its call is made. `None`: none is to be made
/// now, and what is known of the delivery has changed.
fn start(
    platform: &Platform,
    storage: &ObjectStorage,
    now: Timestamp,
    id: &str,
) -> Result<Option<Flight>, Error> {
    let rows = storage.query(
        "SELECT channel_id, notification, attempts, in_flight FROM outbox_deliveries
         WHERE id = ?1 AND state = 'waiting'",
        &[id.into()],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let channel_id: String = row.get("channel_id")?;
    let Some((channel, tenant_id)) = open_channel(storage, &channel_id)? else {
        give_up_waiting(storage, now, &channel_id, "the channel is disabled")?;
        return Ok(None);
    };
    let n: u32 = number(row, "attempts")?;
    let mut flight = Flight {
        delivery_id: id.to_owned(),
        n,
        channel,
        tenant_id,
        notification: row.json("notification")?,
        at: now,
    };
    if row.get("in_flight")? {
        // Its lease has passed.
        conclude(platform, storage, &flight, Outcome::failed(Failure::Interrupted))?;
        return Ok(None);
    }
    flight.n += 1;
    let lease_ends = now.plus_ms(LEASE_MS).millis();
    storage.transaction(|| {
        storage.query(
            "UPDATE outbox_deliveries SET attempts = ?2, in_flight = 1, next_at = ?3 WHERE id = ?1",
            &[id.into(), flight.n.into(), lease_ends.into()],
        )?;
        storage.query(
            "INSERT INTO outbox_attempts (delivery_id, n, at) VALUES (?1, ?2, ?3)",
            &[id.into(), flight.n.into(), now.millis().into()],
        )
    })?;
    Ok(Some(flight))
}

async fn fly(platform: &Platform, storage: &ObjectStorage, flight: Flight) -> Result<(), Error> {
    let outcome = match request(platform, &flight) {
        Some(request) => answer(&flight, platform.outbound.send(request).await),
        None => Outcome::failed(Failure::NotSendable),
    };
    conclude(platform, storage, &flight, outcome)
}

/// `None`: the channel's secret cannot be opened, or leads where this
/// deployment does not call.
fn request(platform: &Platform, flight: &Flight) -> Option<OutboundRequest> {
    let Flight { channel, tenant_id, notification, at, .. } = flight;
    let config = Config::from_vars(&platform.vars);
    let seal = Seal::new(config.channel_key?.expose()).ok()?;
    let owner = delivery::owner(tenant_id, &channel.id);
    let target: Target = serde_json::from_str(&seal.open(&owner, &channel.sealed)?).ok()?;
    let message_id = delivery::message_id(&notification.id, &channel.id);
    let message = delivery::message(&target, notification, &message_id, *at)?;
    let loopback = LoopbackPolicy::of(config.loopback_probes);
    let url = ProbeUrl::parse(&message.url, loopback).ok()?;
    let request = OutboundRequest {
        method: OutboundMethod::Post,
        url: url.as_str().to_owned(),
        headers: message.headers,
        body: message.body,
        deadline_ms: DEADLINE_MS,
        max_body_bytes: 0,
    };
    Some(super::traced(platform, request, notification.trace_id.as_deref()))
}

fn answer(flight: &Flight, reply: Result<OutboundReply, Error>) -> Outcome {
    match reply {
        Ok(OutboundReply::Answered { status, latency_ms, retry_after, .. }) => {
            let delivered = delivery::verdict(flight.channel.kind, status) == Verdict::Delivered;
            Outcome {
                status: Some(status),
                failure: (!delivered).then_some(Failure::Refused),
                latency_ms: Some(latency_ms),
                retry_after,
            }
        }
        Ok(OutboundReply::TimedOut) => Outcome::failed(Failure::TimedOut),
        // The reason may quote the address, which is secret.
        Ok(OutboundReply::Failed { .. }) => Outcome::failed(Failure::NotReached),
        Err(_) => Outcome::failed(Failure::NotSendable),
    }
}

/// Writes down what became of an attempt. What is stored may have changed
/// while the call was on its way, so it is read again.
fn conclude(
    platform: &Platform,
    storage: &ObjectStorage,
    flight: &Flight,
    outcome: Outcome,
) -> Result<(), Error> {
    let now = clock(platform);
    let mut jitter = [0_u8; 4];
    platform.random.fill(&mut jitter)?;
    let jitter = u32::from_le_bytes(jitter);
    let kind = flight.channel.kind;
    let verdict = match (outcome.status, outcome.failure) {
        (_, None) => Verdict::Delivered,
        // A test says how it is now; nobody waits for its repetition.
        (_, Some(_)) if flight.notification.kind == NotificationKind::Test => Verdict::GiveUp,
        (Some(status), _) => delivery::verdict(kind, status),
        (None, _) => Verdict::TryAgain,
    };
    let retry_after = outcome.retry_after.as_deref();
    storage.transaction(|| {
        let id = flight.delivery_id.as_str();
        let sql = "SELECT state, attempts FROM outbox_deliveries WHERE id = ?1";
        let rows = storage.query(sql, &[id.into()])?;
        let Some(row) = rows.first() else { return Ok(()) };
        let state: String = row.get("state")?;
        // Another attempt, after the lease of this one, has the say.
        let is_latest = number::<u32>(row, "attempts")? == flight.n;
        let waits = state == DeliveryState::Waiting.name() && is_latest;
        // Whoever changed the channel meanwhile may have given it another
        // address.
        let gone = outcome.status.map(|status| delivery::verdict(kind, status));
        let channel = open_channel(storage, &flight.channel.id)?.map(|(channel, _)| channel);
        let disabled = channel.filter(|channel| {
            gone == Some(Verdict::Disable) && channel.revision == flight.channel.revision
        });
        let next_at = match verdict {
            Verdict::TryAgain | Verdict::Disable if waits && disabled.is_none() => {
                delivery::next_attempt(kind, flight.n, now, retry_after, jitter)
            }
            _ => None,
        };
        let delivered = verdict == Verdict::Delivered;
        if delivered && state != DeliveryState::Delivered.name() {
            end(storage, now, id, DeliveryState::Delivered, None)?;
        } else if waits && !delivered {
            match next_at {
                Some(at) => {
                    storage.query(
                        "UPDATE outbox_deliveries SET in_flight = 0, next_at = ?2 WHERE id = ?1",
                        &[id.into(), at.millis().into()],
                    )?;
                }
                None => end(storage, now, id, DeliveryState::Failed, None)?,
            }
        }
        storage.query(
            "UPDATE outbox_attempts SET status = ?3, failure = ?4, latency_ms = ?5, next_at = ?6
             WHERE delivery_id = ?1 AND n = ?2",
            &[
                id.into(),
                flight.n.into(),
                outcome.status.map(u32::from).into(),
                outcome.failure.map(Failure::name).into(),
                outcome.latency_ms.into(),
                next_at.map(Timestamp::millis).into(),
            ],
        )?;
        let count = if delivered {
            "UPDATE outbox_channels SET delivered = delivered + 1, last_delivered_at = ?2,
                 failing_since = NULL WHERE id = ?1"
        } else {
            "UPDATE outbox_channels SET failed_attempts = failed_attempts + 1, last_failed_at = ?2,
                 failing_since = coalesce(failing_since, ?2) WHERE id = ?1"
        };
        storage.query(count, &[flight.channel.id.as_str().into(), now.millis().into()])?;
        disabled.map_or(Ok(()), |channel| disable(storage, now, &channel))
    })
}

fn end(
    storage: &ObjectStorage,
    now: Timestamp,
    id: &str,
    state: DeliveryState,
    given_up: Option<&str>,
) -> Result<(), Error> {
    storage.query(
        "UPDATE outbox_deliveries SET state = ?2, given_up = ?3, in_flight = 0, next_at = NULL,
             ended_at = ?4 WHERE id = ?1",
        &[id.into(), state.name().into(), given_up.into(), now.millis().into()],
    )?;
    Ok(())
}

/// Lets go of what has ended long ago, and of the oldest where it is much.
fn tidy(storage: &ObjectStorage, now: Timestamp) -> Result<(), Error> {
    let before = now.plus_ms(-KEPT_MS).millis();
    storage.query(
        "DELETE FROM outbox_deliveries WHERE ended_at < ?1 OR seq <= (
             SELECT seq FROM outbox_deliveries WHERE ended_at IS NOT NULL
             ORDER BY seq DESC LIMIT 1 OFFSET ?2) AND ended_at IS NOT NULL",
        &[before.into(), MAX_KEPT.into()],
    )?;
    storage.query(
        "DELETE FROM outbox_attempts
         WHERE delivery_id NOT IN (SELECT id FROM outbox_deliveries)",
        &[],
    )?;
    storage.query("DELETE FROM outbox_channels WHERE removed_at < ?1", &[before.into()])?;
    Ok(())
}

fn clock(platform: &Platform) -> Timestamp {
    Timestamp::from_millis(platform.clock.now_ms())
}

/// A column that holds a small whole number.
fn number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<T, Error> {
    T::try_from(row.get::<i64>(column)?)
        .map_err(|_| Error::new(ErrorKind::Misuse, format!("{column} is out of range")))
}

// ---- commands ----

/// Carries out a command. The caller sets the alarm by [`next_due`].
pub async fn handle(
    platform: &Platform,
    storage: &ObjectStorage,
    command: Command,
) -> Result<Reply, Error> {
    let now = clock(platform);
    match command {
        Command::SetChannels { tenant_id, channels, all_as_of } => {
            storage.transaction(|| {
                set_channels(storage, now, &tenant_id, &channels, all_as_of)?;
                tidy(storage, now)
            })?;
            Ok(Reply::Done)
        }
        Command::RemoveChannel { id, revision } => {
            storage.transaction(|| remove_channel(storage, now, &id, revision))?;
            Ok(Reply::Done)
        }
        Command::Enqueue { notification } => {
            storage.transaction(|| enqueue(storage, now, &notification))?;
            Ok(Reply::Done)
        }
        Command::States => states(storage).map(Reply::States),
        Command::Test { tenant_id, channel, delivery_id, notification } => {
            // A repetition finds that it was sent.
            if find(storage, &delivery_id)?.is_some() {
                return found(storage, &delivery_id, true);
            }
            let channels = [channel];
            storage.transaction(|| {
                set_channels(storage, now, &tenant_id, &channels, None)?;
                let [channel] = &channels;
                if open_channel(storage, &channel.id)?.is_some() {
                    insert(storage, now, &delivery_id, &channel.id, &notification)?;
                }
                Ok(())
            })?;
            if find(storage, &delivery_id)?.is_none() {
                return Ok(Reply::Disabled);
            }
            if let Some(flight) = start(platform, storage, now, &delivery_id)? {
                fly(platform, storage, flight).await?;
            }
            found(storage, &delivery_id, false)
        }
        Command::Deliveries { channel_id, before, limit } => {
            let sql = format!(
                "{DELIVERIES} WHERE channel_id = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3"
            );
            let before = before.unwrap_or(1 << 53);
            let rows = storage.query(&sql, &[channel_id.into(), before.into(), limit.into()])?;
            let deliveries = rows.iter().map(|row| Ok((row.get("seq")?, delivery(row)?)));
            Ok(Reply::Deliveries(deliveries.collect::<Result<_, Error>>()?))
        }
        Command::Replay { delivery_id, new_id } => replay(storage, now, &delivery_id, &new_id),
        Command::Figures => figures(storage).map(Reply::Figures),
    }
}

fn replay(
    storage: &ObjectStorage,
    now: Timestamp,
    delivery_id: &str,
    new_id: &str,
) -> Result<Reply, Error> {
    // A repetition of the request.
    if find(storage, new_id)?.is_some() {
        return found(storage, new_id, true);
    }
    let sql = "SELECT channel_id, notification, state FROM outbox_deliveries WHERE id = ?1";
    let rows = storage.query(sql, &[delivery_id.into()])?;
    let Some(row) = rows.first() else { return Ok(Reply::Unknown) };
    if row.get::<String>("state")? == DeliveryState::Waiting.name() {
        return Ok(Reply::StillWaiting);
    }
    let channel_id: String = row.get("channel_id")?;
    if open_channel(storage, &channel_id)?.is_none() {
        return Ok(Reply::Disabled);
    }
    insert(storage, now, new_id, &channel_id, &row.json("notification")?)?;
    found(storage, new_id, false)
}

fn states(storage: &ObjectStorage) -> Result<Vec<ChannelState>, Error> {
    let rows = storage.query(
        "SELECT id, disabled_reason, disabled_at FROM outbox_channels WHERE removed_at IS NULL",
        &[],
    )?;
    let state = |row: &Row| {
        Ok(ChannelState {
            id: row.get("id")?,
            disabled_reason: row.get("disabled_reason")?,
            disabled_at: instant(row, "disabled_at")?,
        })
    };
    rows.iter().map(state).collect()
}

/// By channel.
pub fn figures(storage: &ObjectStorage) -> Result<BTreeMap<String, ChannelFigures>, Error> {
    let rows = storage.query(
        "SELECT c.id, c.delivered, c.failed_attempts, c.last_delivered_at, c.last_failed_at,
             c.disabled_at, count(d.seq) AS waiting, min(d.created_at) AS oldest
         FROM outbox_channels c
         LEFT JOIN outbox_deliveries d ON d.channel_id = c.id AND d.state = 'waiting'
         WHERE c.removed_at IS NULL GROUP BY c.id",
        &[],
    )?;
    let figures = |row: &Row| {
        let figures = ChannelFigures {
            delivered: row.get("delivered")?,
            failed_attempts: row.get("failed_attempts")?,
            waiting: row.get("waiting")?,
            oldest_waiting_at: instant(row, "oldest")?,
            last_delivered_at: instant(row, "last_delivered_at")?,
            last_failed_at: instant(row, "last_failed_at")?,
            disabled_at: instant(row, "disabled_at")?,
        };
        Ok((row.get("id")?, figures))
    };
    rows.iter().map(figures).collect()
}

fn instant(row: &Row, column: &str) -> Result<Option<Timestamp>, Error> {
    Ok(row.get::<Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// Each row with its attempts, so that reading a page is one statement.
const DELIVERIES: &str = "SELECT d.*, (
         SELECT json_group_array(json_array(a.at, a.status, a.failure, a.latency_ms, a.next_at))
         FROM (SELECT * FROM outbox_attempts WHERE delivery_id = d.id ORDER BY n) a
     ) AS log FROM outbox_deliveries d";

fn find(storage: &ObjectStorage, id: &str) -> Result<Option<Box<RawValue>>, Error> {
    let rows = storage.query(&format!("{DELIVERIES} WHERE id = ?1"), &[id.into()])?;
    rows.first().map(delivery).transpose()
}

fn found(storage: &ObjectStorage, id: &str, again: bool) -> Result<Reply, Error> {
    Ok(find(storage, id)?.map_or(Reply::Unknown, |delivery| Reply::Delivery { delivery, again }))
}

fn delivery(row: &Row) -> Result<Box<RawValue>, Error> {
    type Logged = (i64, Option<u16>, Option<String>, Option<f64>, Option<i64>);
    let news: Notification = row.json("notification")?;
    let state: String = row.get("state")?;
    let state = DeliveryState::parse(&state)
        .ok_or_else(|| Error::new(ErrorKind::Misuse, "unknown state of a delivery"))?;
    // The end of a lease is nothing to tell people of.
    let next_at: Option<i64> = if row.get("in_flight")? { None } else { row.get("next_at")? };
    let attempt = |(at, status, failure, latency_ms, next_at): Logged| Attempt {
        at: Timestamp::from_millis(at),
        status,
        failure: failure.as_deref().and_then(Failure::parse),
        latency_ms,
        next_attempt_at: next_at.map(Timestamp::from_millis),
    };
    let delivery = Delivery {
        id: row.get("id")?,
        channel_id: row.get("channel_id")?,
        notification_id: news.id,
        incident_id: news.incident_id,
        kind: news.kind,
        title: news.title,
        state,
        given_up: row.get("given_up")?,
        created_at: Timestamp::from_millis(row.get("created_at")?),
        next_attempt_at: next_at.map(Timestamp::from_millis),
        attempts: row.json::<Vec<Logged>>("log")?.into_iter().map(attempt).collect(),
    };
    RawValue::from_string(super::write(&delivery)?)
        .map_err(|error| Error::new(ErrorKind::Misuse, error.to_string()))
}

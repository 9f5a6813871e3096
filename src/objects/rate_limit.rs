//! `RateLimitObject`, one per client: the sliding log of its requests by
//! class, its block, and its count of the day. One more per tenant adds up the
//! day of all of its clients.
//!
//! A grant is written before the reply leaves, since an object is evicted
//! without notice: one statement. Everything else waits for the alarm, a few
//! seconds later: what became of leases (an object that is evicted before
//! counts them as used to the last moment, which is never too little), KV, and
//! the tenant's sum. An alarm after the last of it deletes everything: a
//! client that is gone costs nothing.

use super::{read, write};
use crate::domain::id::IdKind;
use crate::domain::rate_limit::{
    CLOCK_SKEW_MS, Conduct, Granted, Lease, LimitClass, Report, SlidingLog, WINDOW_MS,
};
use crate::domain::time::{DAY_MS, SECOND_MS, Timestamp};
use crate::log;
use crate::platform::sql::Value;
use crate::platform::{Error, ObjectStorage, Platform};
use crate::store::kv::{self, ClientRecord, DayCount, TenantRecord};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

pub const BINDING: &str = "RATE_LIMIT";
const DATASET: &str = "devskyy.rate_limit";

/// A limiter that does not answer in this time is treated as out of reach: a
/// request must not wait longer for being counted than for being answered.
pub const DEADLINE_MS: u32 = 2_000;

/// Between two times that a client is published. KV takes a write a second of
/// a key and shows it to others after a minute, so more often serves nobody.
const PUBLISH_INTERVAL_MS: i64 = 10 * SECOND_MS;

/// KV refuses a second write of a key within a second.
const KV_WRITE_INTERVAL_MS: i64 = 1_100;

/// Name of the object that adds up a tenant's day. No client is called so.
const SUM: &str = "@sum";

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientName {
    /// `None`: an address or an account, which belong to no tenant.
    pub tenant_id: Option<String>,
    /// `usr_…`, `key_…`, `ip:203.0.113.7`, `ip:2001:db8:0:1` (a /64),
    /// `account:…`.
    pub id: String,
}

impl ClientName {
    pub fn is_key(&self) -> bool {
        self.id.starts_with(IdKind::ApiKey.prefix())
    }

    pub fn object_name(&self) -> String {
        match &self.tenant_id {
            Some(tenant_id) => format!("{tenant_id}/{}", self.id),
            None => self.id.clone(),
        }
    }
}

/// (Externally tagged: serde would buffer every message of an internally
/// tagged enum before reading it.)
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// An isolate asks for tokens and says what became of earlier ones.
    Take(Take),
    /// A client's object tells how much of the day it has used. (The whole,
    /// not what was added: it may be said twice.)
    Used { tenant_id: String, client: String, day: Timestamp, used: u64, quota: u32 },
    /// What is known here.
    Look,
    /// Ends a block. Says whose, as KV may know of one that this object does
    /// not: its storage may be newer.
    Lift { client: ClientName },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Take {
    pub client: ClientName,
    pub class: LimitClass,
    pub limit: u32,
    pub want: u32,
    pub report: Report,
    /// Requests in a day with this API key; `None` of another client.
    pub daily_key: Option<u32>,
    /// Requests in a day of the whole tenant.
    pub daily_tenant: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Granted(Granted),
    Refused {
        now: Timestamp,
        retry_at: Timestamp,
    },
    Blocked {
        until: Timestamp,
    },
    /// The key's quota of the day is used up.
    QuotaUsed {
        until: Timestamp,
    },
    Done,
    /// False: there was no block.
    Lifted {
        was_blocked: bool,
    },
    View(View),
}

/// What the object knows, for people.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct View {
    /// By class, those with requests that count.
    pub classes: BTreeMap<LimitClass, ClassView>,
    pub blocked_until: Option<Timestamp>,
    /// Since when the client has been sending without waiting as it was told.
    pub ignoring_retry_after_since: Option<Timestamp>,
    /// Requests of this UTC day; of a user or an API key.
    pub day: Option<DayCount>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ClassView {
    /// Requests that count now: of the last 60 s, and those that leases allow.
    pub counted: u32,
    /// Of these, tokens of leases that nobody has accounted for yet.
    pub leased: u32,
    /// When the first of them counts no longer.
    pub frees_at: Option<Timestamp>,
}

/// What is in memory of the tables below.
struct State {
    logs: BTreeMap<LimitClass, SlidingLog>,
    facts: Facts,
    /// The facts as they are stored, but for the count of the day.
    stored: Facts,
    next_lease: i64,
    /// What became of leases and is not stored yet.
    unsaved: Vec<Settled>,
}

/// A lease that was accounted for: when its tokens were used.
struct Settled {
    lease: i64,
    class: LimitClass,
    used: Vec<(Timestamp, u32)>,
}

/// One row, as it is small and written whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Facts {
    client: Option<ClientName>,
    conduct: Conduct,
    day: Option<DayCount>,
    daily_tenant: u32,
    /// What the tenant's sum has been told of this day.
    told: u64,
    /// Of the object of a tenant's sum.
    sum_of: Option<String>,
}

pub struct RateLimitObject {
    platform: Platform,
    storage: ObjectStorage,
    state: RefCell<Option<State>>,
    /// An alarm is known to be set.
    alarm_set: Cell<bool>,
    /// Something was counted since the last time it was published.
    is_dirty: Cell<bool>,
    published_at: Cell<Timestamp>,
    /// The clock of an object must not run backwards while it counts.
    latest: Cell<Timestamp>,
}

impl RateLimitObject {
    pub fn new(platform: Platform, storage: ObjectStorage) -> Self {
        Self {
            platform,
            storage,
            state: RefCell::default(),
            alarm_set: Cell::new(false),
            is_dirty: Cell::new(false),
            published_at: Cell::default(),
            latest: Cell::default(),
        }
    }

    pub async fn handle(&self, command: Command) -> Result<Reply, Error> {
        match command {
            Command::Take(take) => {
                let was_blocked = self.is_blocked()?;
                let reply = self.take(&take)?;
                match reply {
                    // Known already, here and in KV: nothing new to tell.
                    Reply::Blocked { .. } if was_blocked => {}
                    Reply::Blocked { .. } => self.publish_now().await?,
                    _ => self.publish_soon().await?,
                }
                Ok(reply)
            }
            Command::Used { tenant_id, client, day, used, quota } => {
                self.add_up(tenant_id, &client, day, used, quota)?;
                self.publish_soon().await?;
                Ok(Reply::Done)
            }
            Command::Look => self.look().map(Reply::View),
            Command::Lift { client } => self.lift(client).await,
        }
    }

    fn now(&self) -> Timestamp {
        let now = Timestamp::from_millis(self.platform.clock.now_ms()).max(self.latest.get());
        self.latest.set(now);
        now
    }

    // ---- counting ----

    /// Without an await: nothing happens in between.
    fn take(&self, take: &Take) -> Result<Reply, Error> {
        let now = self.now();
        let outcome = self.with_state(|state| {
            state.facts.client.get_or_insert_with(|| take.client.clone());
            state.facts.daily_tenant = take.daily_tenant;
            state.start_day(take, now);
            state.settle(take);
            let reply = self.answer(state, take, now)?;
            self.store_facts_if_changed(state)?;
            Ok(reply)
        });
        if outcome.is_err() {
            // Memory may be ahead of the tables: read them again.
            *self.state.borrow_mut() = None;
        }
        outcome
    }

    fn is_blocked(&self) -> Result<bool, Error> {
        let now = self.now();
        self.with_state(|state| Ok(state.facts.conduct.blocked_until(now).is_some()))
    }

    fn answer(&self, state: &mut State, take: &Take, now: Timestamp) -> Result<Reply, Error> {
        let State { logs, facts, next_lease, .. } = state;
        if let Some(until) = facts.conduct.blocked_until(now) {
            return Ok(Reply::Blocked { until });
        }
        let log = logs.entry(take.class).or_default();
        log.expire(now);
        if take.report.refused > 0
            && let Some(retry_at) = log.frees_at()
            && facts.conduct.refused(now, retry_at)
        {
            return Ok(blocked(facts, now));
        }
        if let (Some(day), Some(quota)) = (facts.day, take.daily_key)
            && day.has_reached(quota, now)
        {
            return Ok(Reply::QuotaUsed { until: day.ends_at() });
        }
        // No lease reaches beyond the quota of the day.
        let left_today = facts.day.and_then(|day| {
            Some(u64::from(day.quota?).saturating_sub(day.used).try_into().unwrap_or(u32::MAX))
        });
        let want = left_today.map_or(take.want, |left| take.want.min(left));
        let id = *next_lease;
        let Some(grant) = log.grant(id, take.limit, want, now) else {
            // A limit of 0 has nothing to wait for but the window.
            let retry_at = log.frees_at().unwrap_or(now.plus_ms(WINDOW_MS));
            return Ok(match facts.conduct.refused(now, retry_at) {
                true => blocked(facts, now),
                false => Reply::Refused { now, retry_at },
            });
        };
        *next_lease = id + 1;
        let Lease { tokens, usable_until, .. } = grant.lease;
        if let Some(day) = &mut facts.day {
            day.used = day.used.saturating_add(u64::from(tokens));
        }
        let used = facts.day.map_or(0, |day| day.used);
        self.storage.query(
            "INSERT INTO leases (id, class, usable_until, tokens, used_that_day)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            &[
                id.into(),
                take.class.name().into(),
                usable_until.millis().into(),
                tokens.into(),
                used.into(),
            ],
        )?;
        Ok(Reply::Granted(Granted {
            lease: id,
            tokens,
            granted_at: now,
            usable_until,
            remaining: grant.remaining,
            frees_at: grant.frees_at,
        }))
    }

    // ---- a tenant's sum ----

    fn add_up(
        &self,
        tenant_id: String,
        client: &str,
        day: Timestamp,
        used: u64,
        quota: u32,
    ) -> Result<(), Error> {
        self.with_state(|state| {
            self.storage.transaction(|| {
                let known = state.facts.day.map(|known| known.day);
                if known.is_some_and(|known| known > day) {
                    return Ok(()); // yesterday's, late
                }
                if known != Some(day) {
                    self.storage.query("DELETE FROM usage", &[])?;
                }
                self.storage.query(
                    "INSERT INTO usage (client, used) VALUES (?1, ?2)
                     ON CONFLICT (client) DO UPDATE SET used = excluded.used",
                    &[client.into(), used.into()],
                )?;
                let rows = self.storage.query("SELECT SUM(used) AS used FROM usage", &[])?;
                let used = rows.first().map_or(Ok(0), |row| row.get("used"))?;
                state.facts.day = Some(DayCount { day, used, quota: Some(quota) });
                state.facts.sum_of = Some(tenant_id);
                self.store_facts(&state.facts)
            })
        })
    }

    // ---- people ----

    fn look(&self) -> Result<View, Error> {
        let now = self.now();
        self.with_state(|state| {
            let classes = state.logs.iter_mut().filter_map(|(class, log)| {
                log.expire(now);
                let view = ClassView {
                    counted: log.counted(),
                    leased: log.leased(),
                    frees_at: log.frees_at(),
                };
                (view.counted > 0).then_some((*class, view))
            });
            Ok(View {
                classes: classes.collect(),
                blocked_until: state.facts.conduct.blocked_until(now),
                ignoring_retry_after_since: state.facts.conduct.defiant_since,
                day: state.facts.day.filter(|day| day.day == now.floor_to(DAY_MS)),
            })
        })
    }

    async fn lift(&self, client: ClientName) -> Result<Reply, Error> {
        let now = self.now();
        let was_blocked = self.with_state(|state| {
            let was_blocked = state.facts.conduct.blocked_until(now).is_some();
            state.facts.conduct = Conduct::default();
            state.facts.client = Some(client);
            self.store_facts(&state.facts)?;
            Ok(was_blocked)
        })?;
        self.publish_now().await?;
        Ok(Reply::Lifted { was_blocked })
    }

    // ---- publishing, and the end ----

    /// Publishes what changed, tells the tenant's sum, and deletes everything
    /// once it says nothing any more. What fails here is tried again by the
    /// next alarm.
    pub async fn alarm(&self) {
        self.alarm_set.set(false);
        let outcome = async {
            let now = self.now();
            self.save()?;
            if self.is_dirty.get() {
                self.publish(now).await;
                self.tell_sum().await;
            }
            let idle_at = self.tidy(now)?;
            match idle_at {
                _ if self.is_dirty.get() => self.set_alarm(now.plus_ms(PUBLISH_INTERVAL_MS)).await,
                Some(at) if at > now => self.set_alarm(at.plus_ms(SECOND_MS)).await,
                _ => self.end().await,
            }
        };
        if let Err(error) = outcome.await {
            self.warn("alarm failed", &error);
            if let Err(error) = self.set_alarm(self.now().plus_ms(PUBLISH_INTERVAL_MS)).await {
                self.warn("no alarm is set", &error);
            }
        }
    }

    /// Stays dirty where it did not work out, or not yet.
    async fn publish(&self, now: Timestamp) {
        if now.since_ms(self.published_at.get()) < KV_WRITE_INTERVAL_MS {
            return;
        }
        self.is_dirty.set(false);
        self.published_at.set(now);
        let kv = &self.platform.kv;
        let published = match self.records(now) {
            Ok((Some((name, record)), _)) => kv::publish_client(kv, &name, &record).await,
            Ok((_, Some((tenant_id, record)))) => kv::publish_tenant(kv, &tenant_id, &record).await,
            Ok((None, None)) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = published {
            self.is_dirty.set(true);
            self.warn("counters not published", &error);
        }
    }

    #[allow(clippy::type_complexity, reason = "one or the other, used once")]
    fn records(
        &self,
        now: Timestamp,
    ) -> Result<(Option<(String, ClientRecord)>, Option<(String, TenantRecord)>), Error> {
        self.with_state(|state| {
            let facts = &state.facts;
            if let (Some(tenant_id), Some(day)) = (&facts.sum_of, facts.day) {
                let record = TenantRecord { published_at: now, day };
                return Ok((None, Some((tenant_id.clone(), record))));
            }
            let Some(client) = &facts.client else { return Ok((None, None)) };
            let counted = state.logs.iter_mut().map(|(class, log)| {
                log.expire(now);
                (*class, log.counted())
            });
            let record = ClientRecord {
                published_at: now,
                counted: counted.collect(),
                blocked_until: facts.conduct.blocked_until(now),
                day: facts.day,
            };
            Ok((Some((client.object_name(), record)), None))
        })
    }

    /// Tells the tenant's sum what this client has used today, if it changed.
    async fn tell_sum(&self) {
        let news = self.with_state(|state| {
            let Facts { client, day, told, daily_tenant, .. } = &state.facts;
            let tenant_id = client.as_ref().and_then(|client| client.tenant_id.clone());
            let (Some(tenant_id), Some(client), Some(day)) = (tenant_id, client, day) else {
                return Ok(None);
            };
            let command = Command::Used {
                tenant_id: tenant_id.clone(),
                client: client.id.clone(),
                day: day.day,
                used: day.used,
                quota: *daily_tenant,
            };
            Ok((day.used != *told).then_some((tenant_id, command, day.used)))
        });
        let told = match news {
            Ok(None) => return,
            Ok(Some((tenant_id, command, used))) => {
                let name = format!("{tenant_id}/{SUM}");
                match send(&self.platform, &name, &command).await {
                    Ok(_) => self.with_state(|state| {
                        state.facts.told = used;
                        self.store_facts(&state.facts)
                    }),
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            self.is_dirty.set(true);
            self.warn("the tenant's sum was not told", &error);
        }
    }

    /// Stores what waited for it.
    fn save(&self) -> Result<(), Error> {
        self.with_state(|state| {
            let mut by_class: BTreeMap<LimitClass, Vec<(i64, u32)>> = BTreeMap::new();
            for settled in &state.unsaved {
                let passes = by_class.entry(settled.class).or_default();
                passes.extend(settled.used.iter().map(|(at, tokens)| (at.millis(), *tokens)));
            }
            let leases: Vec<i64> = state.unsaved.iter().map(|settled| settled.lease).collect();
            self.storage.transaction(|| {
                for (class, passes) in &by_class {
                    self.storage.query(
                        "INSERT INTO passes (class, at, tokens)
                         SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) WHERE true
                         ON CONFLICT (class, at) DO UPDATE SET tokens = tokens + excluded.tokens",
                        &[class.name().into(), write(passes)?.into()],
                    )?;
                }
                self.storage.query(
                    "DELETE FROM leases WHERE id IN (SELECT value FROM json_each(?1))",
                    &[write(&leases)?.into()],
                )?;
                self.store_facts(&state.facts)
            })?;
            state.stored = state.facts.clone();
            state.unsaved.clear();
            Ok(())
        })
    }

    /// Deletes rows that count no longer; returns until when there is
    /// something to remember.
    fn tidy(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.with_state(|state| {
            let old: Value = now.plus_ms(-WINDOW_MS - CLOCK_SKEW_MS).millis().into();
            self.storage.query("DELETE FROM passes WHERE at <= ?1", std::slice::from_ref(&old))?;
            self.storage.query("DELETE FROM leases WHERE usable_until <= ?1", &[old])?;
            state.logs.retain(|_, log| {
                log.expire(now);
                log.counted() > 0
            });
            let of_logs = state.logs.values().filter_map(SlidingLog::idle_at).max();
            let of_day = state.facts.day.map(|day| day.ends_at());
            Ok([of_logs, of_day, state.facts.conduct.idle_at()].into_iter().flatten().max())
        })
    }

    async fn end(&self) -> Result<(), Error> {
        // Before the await: a command that comes meanwhile makes the tables
        // anew, after the deletion that was asked for first.
        *self.state.borrow_mut() = None;
        self.storage.delete_all().await
    }

    /// Something changed that can wait for the alarm.
    async fn publish_soon(&self) -> Result<(), Error> {
        self.is_dirty.set(true);
        if !self.alarm_set.replace(true) {
            self.set_alarm(self.now().plus_ms(PUBLISH_INTERVAL_MS)).await?;
        }
        Ok(())
    }

    /// Something changed that others should see: as soon as KV takes it.
    async fn publish_now(&self) -> Result<(), Error> {
        self.is_dirty.set(true);
        self.publish(self.now()).await;
        let next = match self.is_dirty.get() {
            true => self.published_at.get().plus_ms(KV_WRITE_INTERVAL_MS),
            false => self.now().plus_ms(PUBLISH_INTERVAL_MS),
        };
        self.alarm_set.set(true);
        self.set_alarm(next).await
    }

    async fn set_alarm(&self, at: Timestamp) -> Result<(), Error> {
        self.storage.set_alarm_ms(at.millis()).await
    }

    // ---- storage ----

    /// Runs `work` on what is in memory, read from the tables if need be.
    fn with_state<T>(&self, work: impl FnOnce(&mut State) -> Result<T, Error>) -> Result<T, Error> {
        let mut state = self.state.borrow_mut();
        match &mut *state {
            Some(state) => work(state),
            none => work(none.insert(self.load()?)),
        }
    }

    fn load(&self) -> Result<State, Error> {
        for sql in [
            "CREATE TABLE IF NOT EXISTS passes (
                 class TEXT NOT NULL,
                 at INTEGER NOT NULL,
                 tokens INTEGER NOT NULL,
                 PRIMARY KEY (class, at)
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS leases (
                 id INTEGER PRIMARY KEY,
                 class TEXT NOT NULL,
                 usable_until INTEGER NOT NULL,
                 tokens INTEGER NOT NULL,
                 used_that_day INTEGER NOT NULL
             ) STRICT",
            "CREATE TABLE IF NOT EXISTS usage (
                 client TEXT NOT NULL PRIMARY KEY,
                 used INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS facts (
                 name TEXT NOT NULL PRIMARY KEY,
                 value TEXT NOT NULL
             ) STRICT, WITHOUT ROWID",
        ] {
            self.storage.query(sql, &[])?;
        }
        let rows = self.storage.query("SELECT value FROM facts WHERE name = 'facts'", &[])?;
        let facts: Option<Facts> = rows.first().map(|row| row.json("value")).transpose()?;
        // Whatever the last instance counted, nobody may have been told.
        self.is_dirty.set(facts.is_some());
        let mut facts = facts.unwrap_or_default();
        let mut logs: BTreeMap<LimitClass, SlidingLog> = BTreeMap::new();
        for row in self.storage.query("SELECT class, at, tokens FROM passes", &[])? {
            let Some(class) = LimitClass::parse(&row.get::<String>("class")?) else { continue };
            let at = Timestamp::from_millis(row.get("at")?);
            logs.entry(class).or_default().restore_pass(at, tokens(row.get("tokens")?));
        }
        // Ids go on from the clock: an isolate may still hold a lease of before
        // everything was deleted, and must not settle another one with it.
        let mut next_lease = self.now().millis();
        for row in self.storage.query("SELECT * FROM leases", &[])? {
            let Some(class) = LimitClass::parse(&row.get::<String>("class")?) else { continue };
            let lease = Lease {
                id: row.get("id")?,
                tokens: tokens(row.get("tokens")?),
                usable_until: Timestamp::from_millis(row.get("usable_until")?),
                foreign: true,
            };
            next_lease = next_lease.max(lease.id + 1);
            // The count of the day is stored with each grant.
            if let Some(day) = &mut facts.day
                && lease.usable_until.floor_to(DAY_MS) == day.day
            {
                day.used = day.used.max(row.get("used_that_day")?);
            }
            logs.entry(class).or_default().restore_lease(lease);
        }
        let stored = facts.clone();
        Ok(State { logs, facts, stored, next_lease, unsaved: Vec::new() })
    }

    /// The count of the day alone stands in the row of the grant.
    fn store_facts_if_changed(&self, state: &mut State) -> Result<(), Error> {
        let mut stored = state.stored.clone();
        if let (Some(stored), Some(day)) = (&mut stored.day, &state.facts.day) {
            stored.used = day.used;
        }
        if stored != state.facts {
            self.store_facts(&state.facts)?;
            state.stored = state.facts.clone();
        }
        Ok(())
    }

    fn store_facts(&self, facts: &Facts) -> Result<(), Error> {
        self.storage.query(
            "INSERT OR REPLACE INTO facts (name, value) VALUES ('facts', ?1)",
            &[write(facts)?.into()],
        )?;
        Ok(())
    }

    fn warn(&self, what: &str, error: &Error) {
        log::warn(&self.platform.log, self.now(), DATASET, what, &error.to_string());
    }
}

impl State {
    fn settle(&mut self, take: &Take) {
        let log = self.logs.entry(take.class).or_default();
        for settlement in &take.report.settled {
            let Some((used, unused)) = log.settle(settlement) else { continue };
            if let Some(day) = &mut self.facts.day {
                day.used = day.used.saturating_sub(u64::from(unused));
            }
            self.unsaved.push(Settled { lease: settlement.lease, class: take.class, used });
        }
    }

    /// Users and keys are counted by the day.
    fn start_day(&mut self, take: &Take, now: Timestamp) {
        if take.client.tenant_id.is_none() {
            return;
        }
        let today = now.floor_to(DAY_MS);
        match &mut self.facts.day {
            Some(day) if day.day == today => day.quota = take.daily_key,
            day => {
                *day = Some(DayCount { day: today, used: 0, quota: take.daily_key });
                self.facts.told = 0;
            }
        }
    }
}

fn blocked(facts: &Facts, now: Timestamp) -> Reply {
    Reply::Blocked { until: facts.conduct.blocked_until(now).unwrap_or(now) }
}

fn tokens(stored: u64) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}

// ---- calling the object of a client ----

async fn send(platform: &Platform, name: &str, command: &Command) -> Result<Reply, Error> {
    let command = write(command)?;
    read(&platform.objects.call_within(DEADLINE_MS, BINDING, name, command).await?)
}

pub async fn take(platform: &Platform, take: Take) -> Result<Reply, Error> {
    let name = take.client.object_name();
    send(platform, &name, &Command::Take(take)).await
}

pub async fn look(platform: &Platform, client: &ClientName) -> Result<View, Error> {
    match send(platform, &client.object_name(), &Command::Look).await? {
        Reply::View(view) => Ok(view),
        other => Err(unexpected(&other)),
    }
}

/// True where there was a block to end.
pub async fn lift(platform: &Platform, client: &ClientName) -> Result<bool, Error> {
    let command = Command::Lift { client: client.clone() };
    match send(platform, &client.object_name(), &command).await? {
        Reply::Lifted { was_blocked } => Ok(was_blocked),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::new(crate::platform::ErrorKind::Misuse, format!("unexpected reply {reply:?}"))
}

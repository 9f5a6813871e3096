//! `IncidentObject`, one per tenant: its incidents, and the outbox that tells
//! people of them. Both are in one object so that a change of an incident and
//! the notification of it are one transaction.
//!
//! What opens and ends an incident is a level and no edge: each partnership
//! reports all of its open alerts every minute, and incidents are made to fit
//! what was reported last. A report that is lost, doubled or late does no
//! harm, and there is at most one open incident of a cause because the table
//! allows no second.

use super::facts::Facts;
use super::repeats::{self, Idempotency, Taken};
use super::{board, outbox, read, write};
use crate::domain::alert::{Family, OpenAlert};
use crate::domain::digest::{IncidentDigest, PageLatency};
use crate::domain::id::IdKind;
use crate::domain::incident::{
    ByWhom, Cause, Change, Incident, NotificationKind, OpenIncident, SERVICE, Severity,
    SourcedAlert, TimelineEntry, TimelineKind,
};
use crate::domain::time::{DAY_MS, MINUTE_MS, SECOND_MS, Timestamp};
use crate::log;
use crate::platform::sql::{Row, Value};
use crate::platform::{Error, ObjectStorage, Platform};
use crate::store::activity::SYSTEM;
use crate::store::job_runs::TICK_LATE_MS;
use crate::store::new_id;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const BINDING: &str = "INCIDENT";
const DATASET: &str = "devskyy.incident";

/// So long after the last tick somebody is told: a little later than it is
/// late, as a tick takes its time. It is watched from here, as cron cannot tell
/// of its own silence.
const WATCHED_TICK_LATE_MS: i64 = TICK_LATE_MS + 30 * SECOND_MS;

const RESOLVED_KEPT_MS: i64 = 400 * DAY_MS;

/// Lines for the activity log handed over at once.
const MAX_JOURNAL_LINES: u32 = 50;

/// A report of one partnership.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Its id.
    pub source: String,
    pub evaluated_at: Timestamp,
    /// All of its open alerts.
    pub alerts: Vec<OpenAlert>,
    /// Of the tick, as in the commands below.
    #[serde(default)]
    pub trace_id: Option<String>,
}

/// (Externally tagged: serde would buffer every message of an internally
/// tagged enum before reading it.)
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Report {
        tenant_id: String,
        report: Report,
    },
    /// A minute has begun. Brings which partnerships there are (`None` where
    /// the registry could not be read) and takes lines for the activity log.
    Tick {
        tenant_id: String,
        as_of: Timestamp,
        partnerships: Option<Vec<String>>,
        /// Alerts of the service that the tick knows of; a family that is not
        /// named was not looked at, and stays as it is.
        #[serde(default)]
        service: Vec<ServiceFinding>,
        /// 32 hexadecimal digits; `None` from the version before.
        #[serde(default)]
        trace_id: Option<String>,
    },
    /// Lines up to this one are in the activity log.
    JournalWritten {
        upto: i64,
    },
    List(Filter),
    Get {
        id: String,
    },
    Act {
        id: String,
        action: Action,
        actor: String,
        idempotency: Option<Idempotency>,
        #[serde(default)]
        trace_id: Option<String>,
    },
    /// Of channels and deliveries.
    Outbox(outbox::Command),
    /// Is anybody there?
    Ping,
}

/// What the tick found of a family that is about the service: an alert, or
/// that there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceFinding {
    pub family: Family,
    pub alert: Option<OpenAlert>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Filter {
    /// True: open ones, acknowledged or not; `None`: all.
    pub is_open: Option<bool>,
    pub partnership: Option<String>,
    /// Those after this position, newest first.
    pub before: Option<(Timestamp, String)>,
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Acknowledge,
    Resolve,
    Note(String),
}

/// A line for the activity log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalLine {
    pub seq: i64,
    pub at: Timestamp,
    pub event: String,
    pub actor: String,
    /// Id of the incident.
    pub subject: String,
}

/// An incident with all that happened to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub incident: Incident,
    pub timeline: Vec<TimelineEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Outbox(outbox::Reply),
    Journal(Vec<JournalLine>),
    Incidents(Vec<Incident>),
    Story(Box<Story>),
    /// What was done, or had been done before under the same key.
    Acted {
        story: Box<Story>,
        replayed: bool,
    },
    NotFound,
    /// It is over: there is nothing to acknowledge.
    AlreadyResolved,
    /// The Idempotency-Key came with another payload before.
    KeyReused,
}

/// When something happens to incidents, and in which trace; `None`: in one of
/// its own.
#[derive(Clone, Copy)]
struct Occasion<'a> {
    now: Timestamp,
    trace_id: Option<&'a str>,
}

pub struct IncidentObject {
    platform: Platform,
    storage: ObjectStorage,
    facts: Facts,
}

impl IncidentObject {
    pub fn new(platform: Platform, storage: ObjectStorage) -> Result<Self, Error> {
        for sql in [
            "CREATE TABLE IF NOT EXISTS incidents (
                 id TEXT NOT NULL PRIMARY KEY,
                 cause TEXT NOT NULL,
                 is_open INTEGER NOT NULL,
                 partnership TEXT,
                 opened_at INTEGER NOT NULL,
                 document TEXT NOT NULL
             ) STRICT, WITHOUT ROWID",
            // At most one open incident of a cause.
            "CREATE UNIQUE INDEX IF NOT EXISTS incidents_open ON incidents (cause)
                 WHERE is_open = 1",
            "CREATE INDEX IF NOT EXISTS incidents_by_time ON incidents (opened_at, id)",
            // As reported last, by whom.
            "CREATE TABLE IF NOT EXISTS alerts (
                 source TEXT NOT NULL,
                 cause TEXT NOT NULL,
                 subject TEXT NOT NULL,
                 document TEXT NOT NULL,
                 PRIMARY KEY (source, cause, subject)
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS reports (
                 source TEXT NOT NULL PRIMARY KEY,
                 at INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
            // Causes of which somebody said that it is over while they last.
            "CREATE TABLE IF NOT EXISTS muted (
                 cause TEXT NOT NULL PRIMARY KEY
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS timeline (
                 seq INTEGER PRIMARY KEY AUTOINCREMENT,
                 incident_id TEXT NOT NULL,
                 at INTEGER NOT NULL,
                 kind TEXT NOT NULL,
                 actor TEXT NOT NULL,
                 text TEXT NOT NULL,
                 -- 1: still to be written into the activity log.
                 is_unlogged INTEGER NOT NULL
             ) STRICT",
            "CREATE INDEX IF NOT EXISTS timeline_by_incident ON timeline (incident_id, seq)",
            "CREATE INDEX IF NOT EXISTS timeline_unlogged ON timeline (seq) WHERE is_unlogged = 1",
            "CREATE TABLE IF NOT EXISTS opened (
                 family TEXT NOT NULL PRIMARY KEY,
                 total INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
        ] {
            storage.query(sql, &[])?;
        }
        repeats::create_table(&storage)?;
        outbox::create_tables(&storage)?;
        let facts = Facts::new(&storage)?;
        Ok(Self { platform, storage, facts })
    }

    pub async fn handle(&self, command: Command) -> Result<Reply, Error> {
        let now = self.now();
        match command {
            Command::Report { tenant_id, report } => {
                self.storage.transaction(|| {
                    self.facts.set("tenant_id", &tenant_id)?;
                    self.take_report(report, now)
                })?;
                self.after_change(now).await;
                Ok(Reply::Done)
            }
            Command::Tick { tenant_id, as_of, partnerships, service, trace_id } => {
                let occasion = Occasion { now, trace_id: trace_id.as_deref() };
                let lines = self.storage.transaction(|| {
                    self.facts.set("tenant_id", &tenant_id)?;
                    self.tick(as_of, partnerships, service, occasion)?;
                    self.journal()
                })?;
                // Once a minute, so that a board that missed one heals.
                self.facts.set("is_digest_stale", &true)?;
                self.after_change(now).await;
                Ok(Reply::Journal(lines))
            }
            Command::JournalWritten { upto } => {
                self.storage.query(
                    "UPDATE timeline SET is_unlogged = 0 WHERE is_unlogged = 1 AND seq <= ?1",
                    &[upto.into()],
                )?;
                Ok(Reply::Done)
            }
            Command::List(filter) => self.list(&filter).map(Reply::Incidents),
            Command::Get { id } => Ok(match self.story(&id)? {
                Some(story) => Reply::Story(Box::new(story)),
                None => Reply::NotFound,
            }),
            Command::Act { id, action, actor, idempotency, trace_id } => {
                let occasion = Occasion { now, trace_id: trace_id.as_deref() };
                let reply = self.act(&id, action, &actor, idempotency.as_ref(), occasion)?;
                self.after_change(now).await;
                Ok(reply)
            }
            Command::Outbox(command) => {
                let reply = outbox::handle(&self.platform, &self.storage, command).await;
                // Whatever became of it, something may wait.
                self.watch(|| self.watch_channels(self.now()));
                self.after_change(now).await;
                Ok(Reply::Outbox(reply?))
            }
            Command::Ping => Ok(Reply::Done),
        }
    }

    /// Looks after what nobody else watches, and delivers what is due. A
    /// failure is logged: the runtime would give up after six, and the next
    /// tick sets the alarm again.
    pub async fn alarm(&self) {
        let now = self.now();
        self.watch(|| self.watch_tick(now));
        if let Err(error) = outbox::deliver_due(&self.platform, &self.storage).await {
            self.warn("what is to be told to people waits", &error);
        }
        self.watch(|| self.watch_channels(self.now()));
        self.after_change(now).await;
    }

    /// What is watched here is watched again at the next alarm or tick.
    fn watch(&self, look: impl FnOnce() -> Result<(), Error>) {
        if let Err(error) = self.storage.transaction(look) {
            self.warn("the service is not watched", &error);
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.platform.clock.now_ms())
    }

    // ---- what is reported ----

    fn take_report(&self, report: Report, now: Timestamp) -> Result<(), Error> {
        let Report { source, evaluated_at, alerts, trace_id } = report;
        let news = self.storage.query(
            "INSERT INTO reports (source, at) VALUES (?1, ?2)
             ON CONFLICT (source) DO UPDATE SET at = excluded.at WHERE excluded.at >= at
             RETURNING at",
            &[source.as_str().into(), evaluated_at.millis().into()],
        )?;
        if news.is_empty() {
            return Ok(()); // overtaken by a newer one
        }
        self.storage.query("DELETE FROM alerts WHERE source = ?1", &[source.as_str().into()])?;
        for alert in alerts {
            self.put_alert(&source, alert)?;
        }
        self.reconcile(Occasion { now, trace_id: trace_id.as_deref() })
    }

    fn put_alert(&self, source: &str, alert: OpenAlert) -> Result<(), Error> {
        let cause = Cause::of(source, alert.family);
        let subject = alert.subject.clone();
        let sourced = SourcedAlert { source: source.to_owned(), alert };
        self.storage.query(
            "INSERT OR REPLACE INTO alerts (source, cause, subject, document)
             VALUES (?1, ?2, ?3, ?4)",
            &[source.into(), cause.key().into(), subject.into(), write(&sourced)?.into()],
        )?;
        Ok(())
    }

    fn tick(
        &self,
        as_of: Timestamp,
        partnerships: Option<Vec<String>>,
        service: Vec<ServiceFinding>,
        occasion: Occasion<'_>,
    ) -> Result<(), Error> {
        let now = occasion.now;
        self.facts.set("last_tick_at", &now)?;
        if let Some(ids) = partnerships {
            // What was retired reports nothing any more, not even that it is well.
            self.storage.query(
                "DELETE FROM alerts WHERE source <> ?1
                   AND source NOT IN (SELECT value FROM json_each(?2))
                   AND source IN (SELECT source FROM reports WHERE at < ?3)",
                &[SERVICE.into(), write(&ids)?.into(), as_of.millis().into()],
            )?;
        }
        for finding in service {
            self.set_service_alert(finding.family, finding.alert)?;
        }
        self.set_service_alert(Family::TickLate, None)?;
        self.storage.query(
            "DELETE FROM timeline WHERE incident_id IN
             (SELECT id FROM incidents WHERE is_open = 0 AND opened_at < ?1)",
            &[now.plus_ms(-RESOLVED_KEPT_MS).millis().into()],
        )?;
        self.storage.query(
            "DELETE FROM incidents WHERE is_open = 0 AND opened_at < ?1",
            &[now.plus_ms(-RESOLVED_KEPT_MS).millis().into()],
        )?;
        repeats::prune(&self.storage, now)?;
        self.reconcile(occasion)
    }

    /// The one alert of a family that is about the service, or none.
    fn set_service_alert(&self, family: Family, alert: Option<OpenAlert>) -> Result<(), Error> {
        self.storage.query(
            "DELETE FROM alerts WHERE source = ?1 AND cause = ?2",
            &[SERVICE.into(), Cause::of(SERVICE, family).key().into()],
        )?;
        alert.map_or(Ok(()), |alert| self.put_alert(SERVICE, alert))
    }

    fn watch_tick(&self, now: Timestamp) -> Result<(), Error> {
        let Some(last): Option<Timestamp> = self.facts.get("last_tick_at")? else { return Ok(()) };
        if now.since_ms(last) < WATCHED_TICK_LATE_MS {
            return Ok(());
        }
        let known = self.alerts_of(&Cause::of(SERVICE, Family::TickLate))?;
        let opened_at = known.first().map_or(now, |known| known.alert.opened_at);
        let alert = OpenAlert {
            family: Family::TickLate,
            subject: String::new(),
            severity: Severity::Critical,
            title: "the minute tick does not come: nothing is probed or evaluated".to_owned(),
            detail: format!("the last tick was at {last}"),
            opened_at,
            began_at: last.plus_ms(MINUTE_MS).min(opened_at),
            flapping: false,
        };
        self.set_service_alert(Family::TickLate, Some(alert))?;
        self.reconcile(Occasion { now, trace_id: None })
    }

    /// An alert for each channel that takes nothing, which the others are told
    /// of.
    fn watch_channels(&self, now: Timestamp) -> Result<(), Error> {
        let known = self.alerts_of(&Cause::of(SERVICE, Family::DeliveryFailing))?;
        let failing = outbox::failing(&self.storage, now)?;
        if known.is_empty() && failing.is_empty() {
            return Ok(());
        }
        self.set_service_alert(Family::DeliveryFailing, None)?;
        for channel in failing {
            let before = known.iter().find(|known| known.alert.subject == channel.channel_id);
            self.put_alert(
                SERVICE,
                OpenAlert {
                    family: Family::DeliveryFailing,
                    subject: channel.channel_id,
                    severity: Severity::Critical,
                    title: format!("the channel {:?} takes no notifications", channel.name),
                    detail: channel.reason,
                    opened_at: before.map_or(now, |before| before.alert.opened_at),
                    began_at: channel.since,
                    flapping: false,
                },
            )?;
        }
        self.reconcile(Occasion { now, trace_id: None })
    }

    // ---- incidents ----

    /// Makes the incidents fit the alerts: one for each cause that has any.
    fn reconcile(&self, occasion: Occasion<'_>) -> Result<(), Error> {
        let mut by_cause: BTreeMap<Cause, Vec<SourcedAlert>> = BTreeMap::new();
        for row in self.storage.query("SELECT document FROM alerts", &[])? {
            let alert: SourcedAlert = row.json("document")?;
            let cause = Cause::of(&alert.source, alert.alert.family);
            by_cause.entry(cause).or_default().push(alert);
        }
        let open = self.incidents("SELECT document FROM incidents WHERE is_open = 1", &[])?;
        for mut incident in open {
            match by_cause.remove(&incident.cause) {
                Some(alerts) => {
                    let change = incident.report(alerts);
                    self.store(&incident)?;
                    let kind = match change {
                        Change::Nothing => continue,
                        Change::Updated => TimelineKind::Updated,
                        Change::Escalated => TimelineKind::Escalated,
                    };
                    self.enter(&incident, kind, SYSTEM, &incident.title, occasion.now)?;
                    if change == Change::Escalated {
                        self.tell(&incident, NotificationKind::Triggered, occasion)?;
                    }
                }
                None => self.resolve(&mut incident, SYSTEM, "every alert has ended", occasion)?,
            }
        }
        let muted = self.storage.query("SELECT cause FROM muted", &[])?;
        let muted: Vec<String> =
            muted.iter().map(|row| row.get("cause")).collect::<Result<_, Error>>()?;
        for cause in &muted {
            // It has ended at last: the next time counts again.
            if !by_cause.keys().any(|known| known.key() == *cause) {
                self.storage
                    .query("DELETE FROM muted WHERE cause = ?1", &[cause.as_str().into()])?;
            }
        }
        for (cause, alerts) in by_cause {
            if muted.contains(&cause.key()) {
                continue;
            }
            let family = cause.family.name();
            let id = new_id(&self.platform.random, IdKind::Incident, occasion.now)?;
            let incident = Incident::open(id, cause, alerts, occasion.now);
            self.store(&incident)?;
            self.enter(&incident, TimelineKind::Opened, SYSTEM, &incident.detail, occasion.now)?;
            self.tell(&incident, NotificationKind::Triggered, occasion)?;
            self.storage.query(
                "INSERT INTO opened (family, total) VALUES (?1, 1)
                 ON CONFLICT (family) DO UPDATE SET total = total + 1",
                &[family.into()],
            )?;
        }
        Ok(())
    }

    fn resolve(
        &self,
        incident: &mut Incident,
        actor: &str,
        why: &str,
        occasion: Occasion<'_>,
    ) -> Result<(), Error> {
        incident.resolved = Some(ByWhom { at: occasion.now, by: actor.to_owned() });
        self.store(incident)?;
        self.enter(incident, TimelineKind::Resolved, actor, why, occasion.now)?;
        self.tell(incident, NotificationKind::Resolved, occasion)
    }

    /// What a person does to an incident.
    fn act(
        &self,
        id: &str,
        action: Action,
        actor: &str,
        idempotency: Option<&Idempotency>,
        occasion: Occasion<'_>,
    ) -> Result<Reply, Error> {
        let now = occasion.now;
        let Some(mut incident) = self.incident(id)? else { return Ok(Reply::NotFound) };
        if action == Action::Acknowledge && incident.resolved.is_some() {
            return Ok(Reply::AlreadyResolved);
        }
        let taken = repeats::take(&self.storage, now, idempotency, || {
            match &action {
                Action::Acknowledge if incident.acknowledged.is_some() => {}
                Action::Acknowledge => {
                    incident.acknowledged = Some(ByWhom { at: now, by: actor.to_owned() });
                    self.store(&incident)?;
                    self.enter(&incident, TimelineKind::Acknowledged, actor, "", now)?;
                    self.tell(&incident, NotificationKind::Acknowledged, occasion)?;
                }
                Action::Resolve if incident.resolved.is_some() => {}
                Action::Resolve => {
                    self.resolve(&mut incident, actor, "resolved by hand", occasion)?;
                    // While its alerts last it must not come back at once.
                    self.storage.query(
                        "INSERT OR IGNORE INTO muted (cause)
                         SELECT ?1 WHERE EXISTS (SELECT 1 FROM alerts WHERE cause = ?1)",
                        &[incident.cause.key().into()],
                    )?;
                }
                Action::Note(text) => {
                    self.enter(&incident, TimelineKind::Noted, actor, text, now)?;
                }
            }
            let story = Story { timeline: self.timeline(id)?, incident };
            serde_json::to_value(story).map_err(super::unwritable)
        })?;
        Ok(match taken {
            Taken::Done { value, replayed, .. } => {
                let story = serde_json::from_value(value).map_err(super::unreadable)?;
                Reply::Acted { story: Box::new(story), replayed }
            }
            Taken::KeyReused => Reply::KeyReused,
        })
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Incident>, Error> {
        let (before_at, before_id) = match &filter.before {
            Some((at, id)) => (Some(at.millis()), Some(id.as_str())),
            None => (None, None),
        };
        self.incidents(
            "SELECT document FROM incidents
             WHERE (?1 IS NULL OR is_open = ?1) AND (?2 IS NULL OR partnership = ?2)
               AND (?3 IS NULL OR (opened_at, id) < (?3, ?4))
             ORDER BY opened_at DESC, id DESC LIMIT ?5",
            &[
                filter.is_open.into(),
                filter.partnership.as_deref().into(),
                before_at.into(),
                before_id.into(),
                filter.limit.into(),
            ],
        )
    }

    fn incidents(&self, sql: &str, values: &[Value]) -> Result<Vec<Incident>, Error> {
        self.storage.query(sql, values)?.iter().map(|row| row.json("document")).collect()
    }

    fn incident(&self, id: &str) -> Result<Option<Incident>, Error> {
        let sql = "SELECT document FROM incidents WHERE id = ?1";
        Ok(self.incidents(sql, &[id.into()])?.pop())
    }

    fn story(&self, id: &str) -> Result<Option<Story>, Error> {
        let Some(incident) = self.incident(id)? else { return Ok(None) };
        Ok(Some(Story { incident, timeline: self.timeline(id)? }))
    }

    fn timeline(&self, id: &str) -> Result<Vec<TimelineEntry>, Error> {
        let entry = |row: &Row| {
            Ok(TimelineEntry {
                at: Timestamp::from_millis(row.get("at")?),
                kind: row.json("kind")?,
                actor: row.get("actor")?,
                text: row.get("text")?,
            })
        };
        let rows = self.storage.query(
            "SELECT at, kind, actor, text FROM timeline WHERE incident_id = ?1 ORDER BY seq",
            &[id.into()],
        )?;
        rows.iter().map(entry).collect()
    }

    fn store(&self, incident: &Incident) -> Result<(), Error> {
        self.storage.query(
            "INSERT INTO incidents (id, cause, is_open, partnership, opened_at, document)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET is_open = excluded.is_open,
                 document = excluded.document",
            &[
                incident.id.as_str().into(),
                incident.cause.key().into(),
                incident.resolved.is_none().into(),
                incident.cause.partnership.as_deref().into(),
                incident.opened_at.millis().into(),
                write(incident)?.into(),
            ],
        )?;
        Ok(())
    }

    fn enter(
        &self,
        incident: &Incident,
        kind: TimelineKind,
        actor: &str,
        text: &str,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.facts.set("is_digest_stale", &true)?;
        self.storage.query(
            "INSERT INTO timeline (incident_id, at, kind, actor, text, is_unlogged)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            &[
                incident.id.as_str().into(),
                now.millis().into(),
                write(&kind)?.into(),
                actor.into(),
                text.into(),
                kind.event().is_some().into(),
            ],
        )?;
        Ok(())
    }

    fn tell(
        &self,
        incident: &Incident,
        kind: NotificationKind,
        Occasion { now, trace_id }: Occasion<'_>,
    ) -> Result<(), Error> {
        let id = new_id(&self.platform.random, IdKind::Notification, now)?;
        let trace_id = trace_id.map_or_else(|| self.new_trace(), |known| Ok(known.to_owned()))?;
        let news = incident.notification(id, kind, now, trace_id);
        let failing: Vec<&str> = match incident.cause.family {
            Family::DeliveryFailing => {
                incident.alerts.iter().map(|known| known.alert.subject.as_str()).collect()
            }
            _ => Vec::new(),
        };
        outbox::enqueue_except(&failing, &self.storage, now, &news)
    }

    // ---- what others see ----

    /// Lines that the activity log does not have yet. The log is in D1, which
    /// no alert waits for: the tick writes them.
    fn journal(&self) -> Result<Vec<JournalLine>, Error> {
        let rows = self.storage.query(
            "SELECT seq, incident_id, at, kind, actor FROM timeline
             WHERE is_unlogged = 1 ORDER BY seq LIMIT ?1",
            &[MAX_JOURNAL_LINES.into()],
        )?;
        rows.iter()
            .map(|row| {
                let kind: TimelineKind = row.json("kind")?;
                Ok(JournalLine {
                    seq: row.get("seq")?,
                    at: Timestamp::from_millis(row.get("at")?),
                    event: kind.event().unwrap_or_default().to_owned(),
                    actor: row.get("actor")?,
                    subject: row.get("incident_id")?,
                })
            })
            .collect()
    }

    fn digest(&self, now: Timestamp) -> Result<IncidentDigest, Error> {
        let open = self.incidents(
            "SELECT document FROM incidents WHERE is_open = 1 ORDER BY opened_at, id",
            &[],
        )?;
        let rows = self.storage.query("SELECT family, total FROM opened", &[])?;
        let totals = rows.iter().map(|row| Ok((row.get::<String>("family")?, row.get("total")?)));
        let totals: Vec<(String, u64)> = totals.collect::<Result<_, Error>>()?;
        Ok(IncidentDigest {
            computed_at: now,
            open: open.iter().map(OpenIncident::from).collect(),
            opened_total: totals
                .into_iter()
                .filter_map(|(family, total)| Some((Family::parse(&family)?, total)))
                .collect(),
            channels: outbox::figures(&self.storage)?,
            last_page: self.last_page()?,
        })
    }

    /// Of the latest incidents, the last critical one that a channel took.
    fn last_page(&self) -> Result<Option<PageLatency>, Error> {
        let latest = self.incidents(
            "SELECT document FROM incidents ORDER BY opened_at DESC, id DESC LIMIT 20",
            &[],
        )?;
        for incident in latest.iter().filter(|known| known.severity == Severity::Critical) {
            if let Some(told_at) = outbox::first_told(&self.storage, &incident.id)? {
                return Ok(Some(PageLatency {
                    incident_id: incident.id.clone(),
                    began_at: incident.began_at,
                    opened_at: incident.opened_at,
                    told_at,
                }));
            }
        }
        Ok(None)
    }

    /// Sets the alarm, and publishes what changed: nobody who is to be told
    /// waits for the board.
    async fn after_change(&self, now: Timestamp) {
        if let Err(error) = self.set_alarm().await {
            self.warn("alarm not set", &error);
        }
        if let Err(error) = self.publish(now).await {
            self.warn("incidents not published", &error);
        }
    }

    async fn publish(&self, now: Timestamp) -> Result<(), Error> {
        let Some(tenant_id) = self.facts.get::<String>("tenant_id")? else { return Ok(()) };
        if !self.facts.get("is_digest_stale")?.unwrap_or(false) {
            return Ok(());
        }
        // Before the call: what changes while it lasts makes it stale again.
        self.facts.set("is_digest_stale", &false)?;
        let published = board::publish_incidents(&self.platform, &tenant_id, self.digest(now)?);
        if let Err(error) = published.await {
            self.facts.set("is_digest_stale", &true)?;
            return Err(error);
        }
        Ok(())
    }

    /// For the next delivery, and for when the tick is missed next.
    async fn set_alarm(&self) -> Result<(), Error> {
        let now = self.now();
        let last: Option<Timestamp> = self.facts.get("last_tick_at")?;
        let late_at = last.map(|last| last.plus_ms(WATCHED_TICK_LATE_MS)).filter(|at| *at > now);
        match outbox::next_due(&self.storage, now)?.into_iter().chain(late_at).min() {
            Some(at) => self.storage.set_alarm_ms(at.millis()).await,
            None => Ok(()),
        }
    }

    // ---- small things ----

    /// Of what this object finds by itself.
    fn new_trace(&self) -> Result<String, Error> {
        let mut random = [0_u8; 16];
        self.platform.random.fill(&mut random)?;
        Ok(log::hex(&random))
    }

    fn alerts_of(&self, cause: &Cause) -> Result<Vec<SourcedAlert>, Error> {
        let sql = "SELECT document FROM alerts WHERE cause = ?1";
        let rows = self.storage.query(sql, &[cause.key().into()])?;
        rows.iter().map(|row| row.json("document")).collect()
    }

    fn warn(&self, what: &str, error: &Error) {
        log::warn(&self.platform.log, self.now(), DATASET, what, &error.to_string());
    }
}

/// The object of a tenant is named after it.
pub async fn call(platform: &Platform, tenant_id: &str, command: &Command) -> Result<Reply, Error> {
    read(&platform.objects.call(BINDING, tenant_id, write(command)?).await?)
}

pub async fn report(platform: &Platform, tenant_id: &str, report: Report) -> Result<(), Error> {
    let tenant = tenant_id.to_owned();
    call(platform, tenant_id, &Command::Report { tenant_id: tenant, report }).await.map(|_| ())
}

/// Asks the outbox of a tenant.
///
/// # Errors
/// Of the call; an answer of another kind counts as a defect.
pub async fn outbox(
    platform: &Platform,
    tenant_id: &str,
    command: outbox::Command,
) -> Result<outbox::Reply, Error> {
    match call(platform, tenant_id, &Command::Outbox(command)).await? {
        Reply::Outbox(reply) => Ok(reply),
        _ => Err(super::unexpected("outbox")),
    }
}

//! `PartnershipObject`, one per tenant and partnership: its observations, KPI
//! values and rollups, the probes of its partner, and the summary it makes of
//! all that and publishes to the board.
//!
//! SQLite calls are synchronous and code without an `await` is atomic, so each
//! step below either happens whole or not at all; what an `await` separates
//! must stand eviction in between.

use super::facts::Facts;
use super::repeats::{self, Idempotency, Taken};
use super::tallies::{self, Tallies, stored_rollup};
use super::transfer::is_held;
use super::{board, incident, read, traced, write};
use crate::domain::alert::{
    self, AlertBook, AlertPolicy, DataEvidence, Evidence, KpiEvidence, Outage, SloEvidence,
};
use crate::domain::histogram::Histogram;
use crate::domain::maintenance::MaintenanceWindow;
use crate::domain::observation::{Observation, Origin, RAW_RETENTION_MS};
use crate::domain::partnership::{Assessment, Definition, KpiValue, Probe, Stored, Summary};
use crate::domain::rollup::{Grain, Rollup, WINDOW_MS, window_plan};
use crate::domain::simulation::{self, History, Minute, Simulation};
use crate::domain::slo::{self, Slo, SloKind, Tally};
use crate::domain::status_page::{self, StatusPageReading};
use crate::domain::time::{DAY_MS, HOUR_MS, MINUTE_MS, Timestamp};
use crate::domain::verdict::{self, RECENT, Verdict};
use crate::log;
use crate::platform::fetch::{OutboundReply, OutboundRequest};
use crate::platform::sql::Value;
use crate::platform::{Error, ObjectStorage, Platform};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const BINDING: &str = "PARTNERSHIP";
const DATASET: &str = "devskyy.partnership";

/// Fetches in flight at once. Six connections may wait for headers in one
/// invocation; one is left for the board.
const MAX_IN_FLIGHT: usize = 5;

/// Bytes read of a status page.
const MAX_BODY_BYTES: usize = 64 * 1024;

const STATUS_PAGE_INTERVAL_MS: i64 = 5 * MINUTE_MS;
const STATUS_PAGE_DEADLINE_MS: u32 = 10_000;
const CONTROL_DEADLINE_MS: u32 = 5_000;

/// Raw rows deleted in one tick, so that a tick stays short.
const MAX_PRUNED_ROWS: i64 = 20_000;

/// (Externally tagged: serde would buffer every message of an internally
/// tagged enum before reading it.)
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The registry changed.
    Define { tenant_id: String, definition: Box<Definition> },
    /// A minute has begun: probe what is due. Carries the definition, so that
    /// a lost `Define` heals within a minute.
    Tick {
        tenant_id: String,
        definition: Box<Definition>,
        scheduled_at: Timestamp,
        control_targets: Vec<String>,
        /// Of the tick, 32 hexadecimal digits.
        #[serde(default)]
        trace_id: Option<String>,
    },
    /// A client pushed a batch of observations.
    Observe {
        rows: Vec<Observation>,
        /// The reply to keep for a repetition of the same batch.
        reply: serde_json::Value,
        idempotency: Option<Idempotency>,
    },
    /// A client sent values of a KPI.
    RecordKpi {
        name: String,
        author: String,
        values: Vec<KpiPoint>,
        reply: serde_json::Value,
        idempotency: Option<Idempotency>,
    },
    /// What this policy would have done from one minute to another.
    Simulate(Box<Simulate>),
    /// Is anybody there?
    Ping,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Simulate {
    pub policy: AlertPolicy,
    /// `None`: the objectives as they are agreed.
    pub slos: Option<Vec<Slo>>,
    pub from: Timestamp,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KpiPoint {
    pub at: Timestamp,
    pub value: f64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    /// Stored; `value` is the reply given, or the one kept from the first time.
    Stored {
        value: serde_json::Value,
        replayed: bool,
        /// When it was stored: the first time. `None` from an object that runs
        /// the version before this field.
        #[serde(default)]
        stored_at: Option<Timestamp>,
    },
    /// The Idempotency-Key came with another payload before.
    KeyReused,
    /// Nobody has defined this partnership yet.
    Undefined,
    Ticked {
        probes_run: u32,
    },
    Simulated(Box<Simulation>),
    Pong {
        stored: Stored,
    },
}

pub struct PartnershipObject {
    platform: Platform,
    storage: ObjectStorage,
    facts: Facts,
}

impl PartnershipObject {
    pub fn new(platform: Platform, storage: ObjectStorage) -> Result<Self, Error> {
        for sql in [
            "CREATE TABLE IF NOT EXISTS observations (
                 id INTEGER PRIMARY KEY,
                 at INTEGER NOT NULL,
                 verdict TEXT NOT NULL,
                 latency_ms REAL,
                 origin TEXT NOT NULL,
                 source TEXT NOT NULL
             ) STRICT",
            "CREATE INDEX IF NOT EXISTS observations_by_time ON observations (at)",
            "CREATE TABLE IF NOT EXISTS kpi_values (
                 name TEXT NOT NULL,
                 at INTEGER NOT NULL,
                 value REAL NOT NULL,
                 author TEXT NOT NULL,
                 PRIMARY KEY (name, at)
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS slots (
                 probe TEXT NOT NULL PRIMARY KEY,
                 slot INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
        ] {
            storage.query(sql, &[])?;
        }
        tallies::create_tables(&storage)?;
        repeats::create_table(&storage)?;
        let facts = Facts::new(&storage)?;
        Ok(Self { platform, storage, facts })
    }

    pub async fn handle(&self, command: Command) -> Result<Reply, Error> {
        match command {
            Command::Define { tenant_id, definition } => {
                self.storage.transaction(|| self.define(&tenant_id, &definition))?;
                self.publish().await?;
                Ok(Reply::Done)
            }
            Command::Tick { tenant_id, definition, scheduled_at, control_targets, trace_id } => {
                self.storage.transaction(|| {
                    self.define(&tenant_id, &definition)?;
                    self.prune()
                })?;
                let probes_run =
                    self.probe(scheduled_at, &control_targets, trace_id.as_deref()).await?;
                self.assess_and_report(trace_id.as_deref()).await;
                self.publish().await?;
                Ok(Reply::Ticked { probes_run })
            }
            Command::Observe { rows, reply, idempotency } => {
                self.take(reply, idempotency, |known| self.observe(&rows, &known.maintenance)).await
            }
            Command::RecordKpi { name, author, values, reply, idempotency } => {
                self.take(reply, idempotency, |_| self.record_kpi(&name, &author, &values)).await
            }
            Command::Simulate(wanted) => self.simulate(&wanted),
            Command::Ping => Ok(Reply::Pong { stored: self.stored()? }),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.platform.clock.now_ms())
    }

    // ---- the definition ----

    /// Keeps the definition unless a newer one is here already.
    fn define(&self, tenant_id: &str, definition: &Definition) -> Result<(), Error> {
        if self.definition()?.is_some_and(|known| known.revision > definition.revision) {
            return Ok(());
        }
        self.facts.set("tenant_id", &tenant_id)?;
        self.facts.set("definition", definition)
    }

    fn definition(&self) -> Result<Option<Definition>, Error> {
        self.facts.get("definition")
    }

    // ---- taking what clients send ----

    /// Runs `work` and keeps `reply`, both or neither; a repetition of the same
    /// request gets the kept reply and changes nothing.
    async fn take(
        &self,
        reply: serde_json::Value,
        idempotency: Option<Idempotency>,
        work: impl FnOnce(&Definition) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        let Some(definition) = self.definition()? else { return Ok(Reply::Undefined) };
        let taken = repeats::take(&self.storage, self.now(), idempotency.as_ref(), || {
            work(&definition)?;
            Ok(reply)
        })?;
        let (value, stored_at) = match taken {
            Taken::KeyReused => return Ok(Reply::KeyReused),
            Taken::Done { value, replayed: true, at } => {
                return Ok(Reply::Stored { value, replayed: true, stored_at: Some(at) });
            }
            Taken::Done { value, at, .. } => (value, at),
        };
        // Without ticks the clients that push still cause evaluations.
        let known: Assessment = self.facts.get("assessment")?.unwrap_or_default();
        let minute = |at: Timestamp| at.floor_to(MINUTE_MS);
        if known.evaluated_at.is_none_or(|at| minute(at) < minute(stored_at)) {
            self.assess_and_report(None).await;
        }
        if let Err(error) = self.publish().await {
            // The rows are safe; the next tick publishes them.
            self.warn("summary not published", &error);
        }
        Ok(Reply::Stored { value, replayed: false, stored_at: Some(stored_at) })
    }

    /// Stores rows and adds them to the rollups of their own minute, hour and
    /// day, in whatever order they come.
    fn observe(
        &self,
        rows: &[Observation],
        maintenance: &[MaintenanceWindow],
    ) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let values: Vec<_> = rows
            .iter()
            .map(|row| {
                let (verdict, origin) = (row.verdict.name(), row.origin.name());
                (row.at.millis(), verdict, row.latency_ms, origin, row.source.as_str())
            })
            .collect();
        // One statement for the whole batch, whatever its length.
        self.storage.query(
            "INSERT INTO observations (at, verdict, latency_ms, origin, source)
             SELECT value ->> 0, value ->> 1, CAST(value ->> 2 AS REAL), value ->> 3, value ->> 4
             FROM json_each(?1)",
            &[write(&values)?.into()],
        )?;
        let mut buckets: BTreeMap<(&str, Grain, Timestamp, Origin), Rollup> = BTreeMap::new();
        for row in rows {
            let excused = maintenance.iter().any(|window| window.active_until(row.at).is_some());
            let tables = [Some(tallies::ALL), excused.then_some(tallies::IN_MAINTENANCE)];
            for table in tables.into_iter().flatten() {
                for grain in Grain::ALL {
                    let start = row.at.floor_to(grain.width_ms());
                    let bucket = buckets.entry((table, grain, start, row.origin)).or_default();
                    bucket.add(row.verdict, row.latency_ms);
                }
            }
        }
        for ((table, grain, start, origin), added) in buckets {
            self.add_to_rollup(table, grain, start, origin, added)?;
        }
        let mut latency: Histogram = self.facts.get("latency_ever")?.unwrap_or_default();
        rows.iter()
            .filter(|row| row.verdict.is_served())
            .filter_map(|row| row.latency_ms)
            .for_each(|latency_ms| latency.add(latency_ms));
        self.facts.set("latency_ever", &latency)?;
        let rows = rows.len() as u64;
        self.count("observations", |kept| kept.saturating_add(rows))?;
        self.count("observations_total", |total| total.saturating_add(rows))
    }

    fn add_to_rollup(
        &self,
        table: &str,
        grain: Grain,
        start: Timestamp,
        origin: Origin,
        mut rollup: Rollup,
    ) -> Result<(), Error> {
        let key: [Value; 3] = [grain.name().into(), start.millis().into(), origin.name().into()];
        let found = self.storage.query(
            &format!(
                "SELECT counts, sketch FROM {table}
                 WHERE grain = ?1 AND start = ?2 AND origin = ?3"
            ),
            &key,
        )?;
        if let Some(row) = found.first() {
            rollup.merge(&stored_rollup(row)?);
        }
        let counts = &rollup.counts;
        let conclusive = counts.up + counts.degraded + counts.down;
        let [grain, start, origin] = key;
        self.storage.query(
            &format!(
                "INSERT OR REPLACE INTO {table} (grain, start, origin, counts, conclusive, sketch)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
            ),
            &[
                grain,
                start,
                origin,
                write(counts)?.into(),
                conclusive.into(),
                rollup.sketch_bytes().into(),
            ],
        )?;
        Ok(())
    }

    /// A value for the same instant replaces the one before.
    fn record_kpi(&self, name: &str, author: &str, values: &[KpiPoint]) -> Result<(), Error> {
        for point in values {
            self.storage.query(
                "INSERT OR REPLACE INTO kpi_values (name, at, value, author)
                 VALUES (?1, ?2, ?3, ?4)",
                &[name.into(), point.at.millis().into(), point.value.into(), author.into()],
            )?;
        }
        Ok(())
    }

    // ---- probing ----

    /// Probes what is due in the slot of `scheduled_at`; returns how many ran.
    async fn probe(
        &self,
        scheduled_at: Timestamp,
        control_targets: &[String],
        trace_id: Option<&str>,
    ) -> Result<u32, Error> {
        let Some(definition) = self.definition()? else { return Ok(0) };
        // The slots are taken before the first fetch: a tick that comes twice,
        // even while the first one waits, probes once.
        let mut due = Vec::new();
        for probe in definition.probes.iter().filter(|probe| probe.enabled) {
            if self.take_slot(&probe.key, probe.slot(scheduled_at))? {
                due.push(probe.clone());
            }
        }
        let page = match &definition.status_page_url {
            Some(url) => {
                let slot = scheduled_at.millis() / STATUS_PAGE_INTERVAL_MS;
                // A probe's key is a slug, so this name is free.
                self.take_slot("@status_page", slot)?.then(|| url.clone())
            }
            None => None,
        };
        // A page that hangs must not hold back what the probes found.
        let (probes_run, page_read) = futures::join!(
            self.run_probes(due, control_targets, trace_id),
            self.read_status_page(page, trace_id),
        );
        page_read?;
        probes_run
    }

    async fn run_probes(
        &self,
        due: Vec<Probe>,
        control_targets: &[String],
        trace_id: Option<&str>,
    ) -> Result<u32, Error> {
        let outcomes: Vec<ProbeOutcome> = futures::stream::iter(due)
            .map(|probe| self.probe_once(probe, trace_id))
            // One place is the status page's.
            .buffer_unordered(MAX_IN_FLIGHT - 1)
            .collect()
            .await;
        let cut_off = !outcomes.is_empty()
            && outcomes.iter().all(|outcome| outcome.verdict.is_none())
            && !self.outside_is_reachable(control_targets, trace_id).await;
        let rows: Vec<Observation> =
            outcomes.into_iter().map(|outcome| outcome.observation(cut_off)).collect();
        // Read again: the probes took their time.
        let maintenance = self.definition()?.map(|known| known.maintenance).unwrap_or_default();
        self.storage.transaction(|| self.observe(&rows, &maintenance))?;
        Ok(u32::try_from(rows.len()).unwrap_or(u32::MAX))
    }

    /// True for the first who asks for this slot.
    fn take_slot(&self, probe: &str, slot: i64) -> Result<bool, Error> {
        let taken = self.storage.query(
            "INSERT INTO slots (probe, slot) VALUES (?1, ?2)
             ON CONFLICT (probe) DO UPDATE SET slot = excluded.slot WHERE excluded.slot > slot
             RETURNING slot",
            &[probe.into(), slot.into()],
        )?;
        Ok(!taken.is_empty())
    }

    async fn probe_once(&self, probe: Probe, trace_id: Option<&str>) -> ProbeOutcome {
        let at = self.now();
        let request = OutboundRequest::get(probe.url, probe.deadline_ms);
        let reply = self.platform.outbound.send(traced(&self.platform, request, trace_id)).await;
        let (verdict, latency_ms) = match reply {
            Ok(OutboundReply::Answered { status, latency_ms, .. }) => (
                Some(verdict::of_answer(status, latency_ms, probe.degraded_above_ms)),
                Some(latency_ms),
            ),
            // No answer in HTTP: down, unless nothing at all can be reached.
            Ok(OutboundReply::TimedOut | OutboundReply::Failed { .. }) => (None, None),
            // The call could not even be made.
            Err(error) => {
                self.warn("probe cannot be sent", &error);
                (Some(Verdict::ProbeInvalid), None)
            }
        };
        ProbeOutcome { key: probe.key, at, verdict, latency_ms }
    }

    /// Whether any of the control targets answers in HTTP.
    async fn outside_is_reachable(&self, targets: &[String], trace_id: Option<&str>) -> bool {
        control(&self.platform, targets, trace_id).await != Some(false)
    }

    async fn read_status_page(
        &self,
        url: Option<String>,
        trace_id: Option<&str>,
    ) -> Result<(), Error> {
        let Some(url) = url else { return Ok(()) };
        let request = OutboundRequest {
            headers: vec![("accept", "application/json".to_owned())],
            max_body_bytes: MAX_BODY_BYTES,
            ..OutboundRequest::get(url, STATUS_PAGE_DEADLINE_MS)
        };
        let reply = self.platform.outbound.send(traced(&self.platform, request, trace_id)).await;
        let now = self.now();
        let reading = match reply {
            Ok(OutboundReply::Answered { truncated: true, .. }) => {
                StatusPageReading::failed("the page is longer than 64 KB", now)
            }
            Ok(OutboundReply::Answered { status: 200, body, .. }) => status_page::parse(&body, now),
            Ok(OutboundReply::Answered { status, .. }) => {
                StatusPageReading::failed(&format!("the page answered {status}"), now)
            }
            Ok(OutboundReply::TimedOut) => {
                StatusPageReading::failed("the page did not answer in time", now)
            }
            Ok(OutboundReply::Failed { .. }) => {
                StatusPageReading::failed("the page cannot be reached", now)
            }
            Err(error) => {
                self.warn("status page cannot be asked", &error);
                StatusPageReading::failed("the page cannot be asked", now)
            }
        };
        self.facts.set("status_page", &reading)
    }

    // ---- alerts ----

    /// Evaluates the alerts and reports those that are open. A failure is
    /// logged, and the next minute does it again.
    async fn assess_and_report(&self, trace_id: Option<&str>) {
        if let Err(error) = self.storage.transaction(|| self.assess()) {
            self.warn("alerts not evaluated", &error);
            return;
        }
        if let Err(error) = self.report(trace_id).await {
            self.warn("alerts not reported", &error);
        }
    }

    fn assess(&self) -> Result<(), Error> {
        let Some(definition) = self.definition()? else { return Ok(()) };
        let now = self.now();
        let settings = &definition.settings;
        let degraded = definition.targets.degraded_counts_as_bad;
        let had_maintenance = tallies::had_maintenance(&self.storage)?;
        let first_bad = tallies::first_bad(&self.storage, now.plus_ms(-HOUR_MS), degraded)?;
        let mut slos = Vec::new();
        let mut periods = Vec::new();
        for slo in &definition.slos {
            let tallies = Tallies {
                storage: &self.storage,
                slo,
                degraded_counts_as_bad: degraded,
                had_maintenance,
                now,
            };
            let first_bad = first_bad.filter(|_| slo.kind == SloKind::Availability);
            slos.push(SloEvidence { slo, windows: tallies.windows()?, first_bad });
            periods.push(tallies.period()?);
        }
        let newest = self.newest()?;
        let kpis = self.kpis()?;
        let page: Option<StatusPageReading> = self.facts.get("status_page")?;
        let page = page.map(|page| page.at(now, settings.status_page_stale_after_ms).indicator);
        let verdict = verdict::current(&newest, now);
        let maintenance_until =
            definition.maintenance.iter().filter_map(|window| window.active_until(now)).max();
        let name = format!("{} ({})", definition.name, definition.partner);
        let evidence = Evidence {
            name: &name,
            now,
            slos,
            in_maintenance: maintenance_until.is_some(),
            data: self.data_evidence(&definition, &newest)?,
            kpis: definition
                .kpis
                .iter()
                .map(|kpi| KpiEvidence {
                    name: &kpi.name,
                    unit: &kpi.unit,
                    target: kpi.target,
                    direction: kpi.direction,
                    value: kpis
                        .get(&kpi.name)
                        .filter(|sent| now.since_ms(sent.at) <= settings.kpi_stale_after_ms)
                        .map(|sent| sent.value),
                })
                .collect(),
            deliverables: &definition.deliverables,
            status_page: page,
            verdict,
        };
        let mut book: AlertBook = self.facts.get("alerts")?.unwrap_or_default();
        book.evaluate(&evidence, &settings.alerting);
        self.facts.set("alerts", &book)?;

        let mut outages: Vec<Outage> = self.facts.get("outages")?.unwrap_or_default();
        // Down means that the newest two say so: the older is where it began.
        let down_since = newest.last().map_or(now, |(at, _)| *at);
        alert::note_outage(&mut outages, verdict, down_since, page, now);
        self.facts.set("outages", &outages)?;

        let statuses = evidence.slos.iter().zip(periods);
        let assessment = Assessment {
            evaluated_at: Some(now),
            slos: statuses
                .map(|(known, period)| {
                    slo::status(known.slo, period, &known.windows, book.burning(&known.slo.key))
                })
                .collect(),
            alerts: book.open(),
            admission: alert::admission(&outages),
            maintenance_until,
        };
        self.facts.set("assessment", &assessment)
    }

    fn data_evidence(
        &self,
        definition: &Definition,
        newest: &[(Timestamp, Verdict)],
    ) -> Result<DataEvidence, Error> {
        if newest.first().is_some_and(|(_, verdict)| *verdict == Verdict::UnreachableFromUs) {
            return Ok(DataEvidence::CutOff);
        }
        let is_probed = definition.probes.iter().any(|probe| probe.enabled);
        if !is_probed && self.stored()?.observations_total == 0 {
            return Ok(DataEvidence::NotExpected);
        }
        Ok(DataEvidence::Newest {
            at: tallies::newest_conclusive(&self.storage)?,
            since: definition.created_at,
            absent_after_ms: definition.data_absent_after_ms(&definition.settings.alerting),
        })
    }

    /// Runs a policy over the minutes that are stored; three days more fill
    /// the longest window, as far as they are there.
    fn simulate(&self, wanted: &Simulate) -> Result<Reply, Error> {
        let Some(definition) = self.definition()? else { return Ok(Reply::Undefined) };
        let slos = wanted.slos.as_ref().unwrap_or(&definition.slos);
        let first = wanted.from.plus_ms(-3 * DAY_MS).floor_to(MINUTE_MS);
        let degraded = definition.targets.degraded_counts_as_bad;
        let history = History {
            definition: &definition,
            slos,
            first,
            minutes: self.minutes(slos, degraded, first, wanted.until)?,
            kpis: self.kpi_history(wanted.until)?,
        };
        let simulation = simulation::run(&history, &wanted.policy, wanted.from, wanted.until);
        Ok(Reply::Simulated(Box::new(simulation)))
    }

    /// Every minute from `first` to `until`, with or without observations.
    fn minutes(
        &self,
        slos: &[Slo],
        degraded_counts_as_bad: bool,
        first: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Minute>, Error> {
        let count = usize::try_from(until.since_ms(first) / MINUTE_MS + 1).unwrap_or_default();
        let empty = Minute { tallies: vec![Tally::default(); slos.len()], is_conclusive: false };
        let mut minutes = vec![empty; count];
        for table in [tallies::ALL, tallies::IN_MAINTENANCE] {
            let mut from = first;
            while from <= until {
                // A day at a time: sketches are large.
                let end = from.plus_ms(DAY_MS);
                let rows = self.storage.query(
                    &format!(
                        "SELECT start, counts, sketch FROM {table}
                         WHERE grain = 'minute' AND start >= ?1 AND start < ?2"
                    ),
                    &[from.millis().into(), end.millis().into()],
                )?;
                for row in &rows {
                    let start = Timestamp::from_millis(row.get("start")?);
                    let index = usize::try_from(start.since_ms(first) / MINUTE_MS);
                    let minute = index.ok().and_then(|index| minutes.get_mut(index));
                    let Some(minute) = minute else { continue };
                    let rollup = stored_rollup(row)?;
                    for (slo, tally) in slos.iter().zip(&mut minute.tallies) {
                        let part = slo.tally(&rollup, degraded_counts_as_bad);
                        *tally = match table {
                            tallies::ALL => tally.plus(part),
                            _ => tally.without(part),
                        };
                    }
                    let counts = &rollup.counts;
                    minute.is_conclusive |= counts.up + counts.degraded + counts.down > 0;
                }
                from = end;
            }
        }
        Ok(minutes)
    }

    fn kpi_history(
        &self,
        until: Timestamp,
    ) -> Result<BTreeMap<String, Vec<(Timestamp, f64)>>, Error> {
        let rows = self.storage.query(
            "SELECT name, at, value FROM kpi_values WHERE at <= ?1 ORDER BY at",
            &[until.millis().into()],
        )?;
        let mut history: BTreeMap<String, Vec<(Timestamp, f64)>> = BTreeMap::new();
        for row in &rows {
            let point = (Timestamp::from_millis(row.get("at")?), row.get("value")?);
            history.entry(row.get("name")?).or_default().push(point);
        }
        Ok(history)
    }

    /// Tells the tenant's incidents which alerts are open: all of them each
    /// time, so that a report that is lost, or comes twice, does no harm.
    async fn report(&self, trace_id: Option<&str>) -> Result<(), Error> {
        let Some(tenant_id) = self.facts.get::<String>("tenant_id")? else { return Ok(()) };
        let Some(definition) = self.definition()? else { return Ok(()) };
        let assessment: Assessment = self.facts.get("assessment")?.unwrap_or_default();
        let Some(evaluated_at) = assessment.evaluated_at else { return Ok(()) };
        let told: Option<Option<Timestamp>> = self.facts.get("told_of_none_at")?;
        let is_news = told.flatten().is_none_or(|at| evaluated_at.since_ms(at) >= HOUR_MS);
        if assessment.alerts.is_empty() && !is_news {
            return Ok(());
        }
        let told_of_none = assessment.alerts.is_empty();
        let report = incident::Report {
            source: definition.id,
            evaluated_at,
            alerts: assessment.alerts,
            trace_id: trace_id.map(str::to_owned),
        };
        // Before the call: should its reply be lost, the next one is made again.
        self.facts.set("told_of_none_at", &None::<Timestamp>)?;
        incident::report(&self.platform, &tenant_id, report).await?;
        // Unless another evaluation found something meanwhile.
        let latest: Assessment = self.facts.get("assessment")?.unwrap_or_default();
        if told_of_none && latest.evaluated_at == Some(evaluated_at) {
            self.facts.set("told_of_none_at", &Some(evaluated_at))?;
        }
        Ok(())
    }

    // ---- what is known ----

    async fn publish(&self) -> Result<(), Error> {
        let Some(tenant_id) = self.facts.get::<String>("tenant_id")? else { return Ok(()) };
        let Some(summary) = self.summary()? else { return Ok(()) };
        board::publish(&self.platform, &tenant_id, &summary).await
    }

    fn summary(&self) -> Result<Option<Summary>, Error> {
        let Some(definition) = self.definition()? else { return Ok(None) };
        let now = self.now();
        let window_start = now.plus_ms(-WINDOW_MS).floor_to(MINUTE_MS);
        let mut whole = Rollup::default();
        let (mut from_probes, mut from_clients) = (0, 0);
        for (grain, from, until) in window_plan(window_start, now) {
            let rows = self.storage.query(
                "SELECT origin, counts, sketch FROM rollups
                 WHERE grain = ?1 AND start >= ?2 AND start < ?3",
                &[grain.name().into(), from.millis().into(), until.millis().into()],
            )?;
            for row in &rows {
                let rollup = stored_rollup(row)?;
                match Origin::parse(&row.get::<String>("origin")?) {
                    Some(Origin::Client) => from_clients += rollup.counts.total(),
                    _ => from_probes += rollup.counts.total(),
                }
                whole.merge(&rollup);
            }
        }
        let start = window_start.millis();
        let covered_minutes = self.number(
            "SELECT COUNT(DISTINCT start) AS number FROM rollups
             WHERE grain = 'minute' AND start >= ?1 AND conclusive > 0",
            &[start.into()],
        )?;
        let first = self
            .storage
            .query("SELECT MIN(at) AS at FROM observations WHERE at >= ?1", &[start.into()])?;
        let first: Option<i64> = first.first().map_or(Ok(None), |row| row.get("at"))?;
        Ok(Some(Summary {
            computed_at: now,
            window_start,
            counts: whole.counts,
            counts_in_maintenance: tallies::counts(
                &self.storage,
                tallies::IN_MAINTENANCE,
                window_start,
                now,
            )?,
            from_probes,
            from_clients,
            covered_minutes,
            first_in_window: first.map(Timestamp::from_millis),
            latency: whole.latency(),
            latency_ever: self.facts.get("latency_ever")?.unwrap_or_default(),
            newest: self.newest()?,
            kpis: self.kpis()?,
            status_page: self.facts.get("status_page")?.unwrap_or_else(StatusPageReading::not_run),
            assessment: self.facts.get("assessment")?.unwrap_or_default(),
            stored: self.stored()?,
            definition,
        }))
    }

    fn newest(&self) -> Result<Vec<(Timestamp, Verdict)>, Error> {
        let rows = self.storage.query(
            "SELECT at, verdict FROM observations ORDER BY at DESC, id DESC LIMIT ?1",
            &[(RECENT as u64).into()],
        )?;
        rows.iter()
            .map(|row| {
                let verdict = Verdict::parse(&row.get::<String>("verdict")?);
                Ok((Timestamp::from_millis(row.get("at")?), verdict.unwrap_or(Verdict::Unknown)))
            })
            .collect()
    }

    fn kpis(&self) -> Result<BTreeMap<String, KpiValue>, Error> {
        // With a lone MAX, SQLite takes the other columns from its row.
        let rows = self.storage.query(
            "SELECT name, MAX(at) AS at, value, author, COUNT(*) AS n
             FROM kpi_values GROUP BY name",
            &[],
        )?;
        rows.iter()
            .map(|row| {
                let value = KpiValue {
                    value: row.get("value")?,
                    at: Timestamp::from_millis(row.get("at")?),
                    author: row.get("author")?,
                    n: row.get("n")?,
                };
                Ok((row.get("name")?, value))
            })
            .collect()
    }

    fn stored(&self) -> Result<Stored, Error> {
        Ok(Stored {
            observations: self.facts.get("observations")?.unwrap_or(0),
            observations_total: self.facts.get("observations_total")?.unwrap_or(0),
            bytes: self.storage.size_bytes()?,
        })
    }

    /// Lets go of what is past its retention, unless it is being copied.
    fn prune(&self) -> Result<(), Error> {
        let now = self.now();
        if is_held(&self.storage, now)? {
            return Ok(());
        }
        let raw_end: Value = now.plus_ms(-RAW_RETENTION_MS).millis().into();
        let old = self.number(
            "SELECT COUNT(*) AS number FROM
             (SELECT 1 FROM observations WHERE at < ?1 ORDER BY at LIMIT ?2)",
            &[raw_end.clone(), MAX_PRUNED_ROWS.into()],
        )?;
        if old > 0 {
            self.storage.query(
                "DELETE FROM observations WHERE id IN
                 (SELECT id FROM observations WHERE at < ?1 ORDER BY at LIMIT ?2)",
                &[raw_end, MAX_PRUNED_ROWS.into()],
            )?;
            self.count("observations", |kept| kept.saturating_sub(old))?;
        }
        for grain in Grain::ALL {
            if let Some(kept_ms) = grain.retention_ms() {
                for table in [tallies::ALL, tallies::IN_MAINTENANCE] {
                    self.storage.query(
                        &format!("DELETE FROM {table} WHERE grain = ?1 AND start < ?2"),
                        &[grain.name().into(), now.plus_ms(-kept_ms).millis().into()],
                    )?;
                }
            }
        }
        repeats::prune(&self.storage, now)
    }

    // ---- small things ----

    /// Changes a counter kept as a fact: counting the rows would read them all.
    fn count(&self, name: &str, change: impl FnOnce(u64) -> u64) -> Result<(), Error> {
        let before: u64 = self.facts.get(name)?.unwrap_or(0);
        self.facts.set(name, &change(before))
    }

    fn number(&self, sql: &str, values: &[Value]) -> Result<u64, Error> {
        self.storage.query(sql, values)?.first().map_or(Ok(0), |row| row.get("number"))
    }

    fn warn(&self, what: &str, error: &Error) {
        log::warn(&self.platform.log, self.now(), DATASET, what, &error.to_string());
    }
}

struct ProbeOutcome {
    key: String,
    at: Timestamp,
    /// `None`: no answer in HTTP.
    verdict: Option<Verdict>,
    latency_ms: Option<f64>,
}

impl ProbeOutcome {
    fn observation(self, cut_off: bool) -> Observation {
        let silent = if cut_off { Verdict::UnreachableFromUs } else { Verdict::Down };
        Observation {
            at: self.at,
            verdict: self.verdict.unwrap_or(silent),
            latency_ms: self.latency_ms,
            origin: Origin::Probe,
            source: self.key,
        }
    }
}

/// Whether any of the control targets answers in HTTP; `None` without targets.
pub async fn control(
    platform: &Platform,
    targets: &[String],
    trace_id: Option<&str>,
) -> Option<bool> {
    let ask = |url: &String| {
        let request = OutboundRequest::get(url.clone(), CONTROL_DEADLINE_MS);
        platform.outbound.send(traced(platform, request, trace_id))
    };
    let replies = futures::future::join_all(targets.iter().take(MAX_IN_FLIGHT).map(ask)).await;
    (!replies.is_empty())
        .then(|| replies.iter().any(|r| matches!(r, Ok(OutboundReply::Answered { .. }))))
}

// ---- calling a partnership ----

/// The name of the object of a partnership.
pub fn object_name(tenant_id: &str, partnership_id: &str) -> String {
    format!("{tenant_id}/{partnership_id}")
}

pub async fn call(
    platform: &Platform,
    tenant_id: &str,
    partnership_id: &str,
    command: &Command,
) -> Result<Reply, Error> {
    let name = object_name(tenant_id, partnership_id);
    read(&platform.objects.call(BINDING, &name, write(command)?).await?)
}

/// Tells every object of a tenant what the registry holds.
pub async fn define_all(
    platform: &Platform,
    tenant_id: &str,
    definitions: Vec<Definition>,
) -> Result<(), Error> {
    for definition in definitions {
        define(platform, tenant_id, definition).await?;
    }
    Ok(())
}

pub async fn define(
    platform: &Platform,
    tenant_id: &str,
    definition: Definition,
) -> Result<(), Error> {
    let id = definition.id.clone();
    let definition = Box::new(definition);
    let command = Command::Define { tenant_id: tenant_id.to_owned(), definition };
    call(platform, tenant_id, &id, &command).await.map(|_| ())
}

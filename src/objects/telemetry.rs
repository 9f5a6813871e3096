//! `TelemetryObject`, one per tenant: what was counted of the API's requests
//! by every isolate. Requests without a valid credential belong to the default
//! tenant.

use super::{read, write};
use crate::domain::rate_limit::LimitClass;
use crate::domain::telemetry::{
    Batch, Endpoint, Histogram, Reading, STATUS_CLASSES, Statuses, Window,
};
use crate::domain::time::{DAY_MS, MINUTE_MS, Timestamp};
use crate::platform::sql::Row;
use crate::platform::{Error, ObjectStorage, Platform};
use serde::{Deserialize, Serialize};

pub const BINDING: &str = "TELEMETRY";

/// Minutes are kept for so long.
const MINUTES_KEPT_MS: i64 = DAY_MS;

/// A batch that is handed over again comes within seconds of the next request,
/// unless the isolate is idle; it is known for this long.
const BATCHES_KEPT_MS: i64 = 30 * MINUTE_MS;

/// The minutes of "the last hour": the current one and those before it.
const HOUR_MINUTES: i64 = 60;

/// A batch waits in the isolate; this bounds how long its task does.
const DEADLINE_MS: u32 = 5_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Adds up; once, however often a batch of this id comes.
    Add { batch_id: String, batch: Batch },
    /// All there is to read.
    Read,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Added,
    Reading(Box<Reading>),
}

pub struct TelemetryObject {
    platform: Platform,
    storage: ObjectStorage,
}

impl TelemetryObject {
    pub fn new(platform: Platform, storage: ObjectStorage) -> Result<Self, Error> {
        for sql in [
            "CREATE TABLE IF NOT EXISTS batches (
                 id TEXT NOT NULL PRIMARY KEY,
                 at INTEGER NOT NULL
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS requests (
                 route TEXT NOT NULL,
                 method TEXT NOT NULL,
                 status_class TEXT NOT NULL,
                 count INTEGER NOT NULL,
                 PRIMARY KEY (route, method, status_class)
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS durations (
                 class TEXT NOT NULL PRIMARY KEY,
                 histogram TEXT NOT NULL
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS minutes (
                 at INTEGER NOT NULL,
                 class TEXT NOT NULL,
                 figures TEXT NOT NULL,
                 PRIMARY KEY (at, class)
             ) STRICT, WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS since (
                 one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
                 at INTEGER NOT NULL
             ) STRICT",
        ] {
            storage.query(sql, &[])?;
        }
        Ok(Self { platform, storage })
    }

    pub fn handle(&self, command: Command) -> Result<Reply, Error> {
        let now = Timestamp::from_millis(self.platform.clock.now_ms());
        match command {
            Command::Add { batch_id, batch } => {
                self.storage.transaction(|| self.add(&batch_id, batch, now))?;
                Ok(Reply::Added)
            }
            Command::Read => Ok(Reply::Reading(Box::new(self.read(now)?))),
        }
    }

    fn add(&self, batch_id: &str, batch: Batch, now: Timestamp) -> Result<(), Error> {
        let oldest_batch = now.plus_ms(-BATCHES_KEPT_MS).millis();
        self.storage.query("DELETE FROM batches WHERE at < ?1", &[oldest_batch.into()])?;
        let first_time = self.storage.query(
            "INSERT INTO batches (id, at) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING
             RETURNING id",
            &[batch_id.into(), now.millis().into()],
        )?;
        if first_time.is_empty() {
            return Ok(());
        }
        for (endpoint, statuses) in &batch.requests {
            self.add_requests(endpoint, statuses)?;
        }
        for (class, more) in &batch.durations {
            let rows = self.storage.query(
                "SELECT histogram FROM durations WHERE class = ?1",
                &[class.name().into()],
            )?;
            let mut all: Histogram = first(&rows, "histogram")?;
            all.merge(more);
            self.storage.query(
                "INSERT INTO durations (class, histogram) VALUES (?1, ?2)
                 ON CONFLICT (class) DO UPDATE SET histogram = excluded.histogram",
                &[class.name().into(), write(&all)?.into()],
            )?;
        }
        let oldest = now.plus_ms(-MINUTES_KEPT_MS);
        self.storage.query("DELETE FROM minutes WHERE at < ?1", &[oldest.millis().into()])?;
        for (at, classes) in batch.minutes.range(oldest..) {
            for (class, more) in classes {
                self.add_minute(*at, *class, more)?;
            }
        }
        if let Some((earliest, _)) = batch.minutes.first_key_value() {
            self.storage.query(
                "INSERT INTO since (one, at) VALUES (1, ?1)
                 ON CONFLICT (one) DO UPDATE SET at = min(at, excluded.at)",
                &[earliest.millis().into()],
            )?;
        }
        Ok(())
    }

    fn add_requests(&self, endpoint: &Endpoint, statuses: &Statuses) -> Result<(), Error> {
        for (class, count) in STATUS_CLASSES.iter().zip(statuses).filter(|(_, count)| **count > 0) {
            self.storage.query(
                "INSERT INTO requests (route, method, status_class, count) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (route, method, status_class)
                 DO UPDATE SET count = count + excluded.count",
                &[
                    endpoint.route.as_ref().into(),
                    endpoint.method.as_ref().into(),
                    (*class).into(),
                    (*count).into(),
                ],
            )?;
        }
        Ok(())
    }

    fn add_minute(&self, at: Timestamp, class: LimitClass, more: &Window) -> Result<(), Error> {
        let rows = self.storage.query(
            "SELECT figures FROM minutes WHERE at = ?1 AND class = ?2",
            &[at.millis().into(), class.name().into()],
        )?;
        let mut all: Window = first(&rows, "figures")?;
        all.merge(more);
        self.storage.query(
            "INSERT INTO minutes (at, class, figures) VALUES (?1, ?2, ?3)
             ON CONFLICT (at, class) DO UPDATE SET figures = excluded.figures",
            &[at.millis().into(), class.name().into(), write(&all)?.into()],
        )?;
        Ok(())
    }

    fn read(&self, now: Timestamp) -> Result<Reading, Error> {
        let mut reading = Reading::default();
        let rows = self.storage.query("SELECT at FROM since", &[])?;
        reading.since =
            rows.first().map(|row| row.get("at").map(Timestamp::from_millis)).transpose()?;
        let sql = "SELECT route, method, status_class, count FROM requests";
        for row in self.storage.query(sql, &[])? {
            let endpoint = Endpoint {
                route: row.get::<String>("route")?.into(),
                method: row.get::<String>("method")?.into(),
            };
            let class = row.get::<String>("status_class")?;
            let statuses = reading.requests.entry(endpoint).or_default();
            let known = STATUS_CLASSES.iter().zip(statuses).find(|(name, _)| **name == class);
            if let Some((_, count)) = known {
                *count = row.get("count")?;
            }
        }
        for row in self.storage.query("SELECT class, histogram FROM durations", &[])? {
            reading.durations.insert(read_class(&row)?, row.json("histogram")?);
        }
        let from = now.floor_to(MINUTE_MS).plus_ms(-(HOUR_MINUTES - 1) * MINUTE_MS);
        let sql = "SELECT class, figures FROM minutes WHERE at >= ?1";
        for row in self.storage.query(sql, &[from.millis().into()])? {
            let minute: Window = row.json("figures")?;
            reading.last_hour.entry(read_class(&row)?).or_default().merge(&minute);
        }
        Ok(reading)
    }
}

fn first<T: Default + serde::de::DeserializeOwned>(rows: &[Row], column: &str) -> Result<T, Error> {
    rows.first().map_or_else(|| Ok(T::default()), |row| row.json(column))
}

fn read_class(row: &Row) -> Result<LimitClass, Error> {
    let name: String = row.get("class")?;
    LimitClass::parse(&name).ok_or_else(|| super::unexpected(&name))
}

/// # Errors
/// When the object cannot be reached; the batch may have landed all the same.
pub async fn add(
    platform: &Platform,
    tenant_id: &str,
    batch_id: &str,
    batch: &Batch,
) -> Result<(), Error> {
    /// As [`Command::Add`], of a batch that stays where it is.
    #[derive(Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Message<'a> {
        Add { batch_id: &'a str, batch: &'a Batch },
    }
    let message = write(&Message::Add { batch_id, batch })?;
    call(platform, tenant_id, message).await.map(|_| ())
}

/// # Errors
/// When the object cannot be reached.
pub async fn reading(platform: &Platform, tenant_id: &str) -> Result<Reading, Error> {
    match call(platform, tenant_id, write(&Command::Read)?).await? {
        Reply::Reading(reading) => Ok(*reading),
        Reply::Added => Err(super::unexpected("added")),
    }
}

async fn call(platform: &Platform, tenant_id: &str, message: String) -> Result<Reply, Error> {
    read(&platform.objects.call_within(DEADLINE_MS, BINDING, tenant_id, message).await?)
}

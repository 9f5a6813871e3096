//! Good and bad events of windows, read from the rollups of a partnership.

use crate::domain::rollup::{Counts, Grain, Rollup, window_plan};
use crate::domain::slo::{Period, Slo, SloKind, Tally, WINDOWS, Windows};
use crate::domain::time::{MINUTE_MS, Timestamp};
use crate::platform::sql::Row;
use crate::platform::{Error, ErrorKind, ObjectStorage};

/// Everything that was observed.
pub const ALL: &str = "rollups";
/// Of that, what was observed in maintenance.
pub const IN_MAINTENANCE: &str = "maintenance_rollups";

/// Both tables of rollups. `conclusive`: up + degraded + down, for coverage in
/// SQL.
pub fn create_tables(storage: &ObjectStorage) -> Result<(), Error> {
    for table in [ALL, IN_MAINTENANCE] {
        storage.query(
            &format!(
                "CREATE TABLE IF NOT EXISTS {table} (
                     grain TEXT NOT NULL,
                     start INTEGER NOT NULL,
                     origin TEXT NOT NULL,
                     counts TEXT NOT NULL,
                     conclusive INTEGER NOT NULL,
                     sketch BLOB NOT NULL,
                     PRIMARY KEY (grain, start, origin)
                 ) STRICT, WITHOUT ROWID"
            ),
            &[],
        )?;
    }
    Ok(())
}

pub fn stored_rollup(row: &Row) -> Result<Rollup, Error> {
    let counts: Counts = row.json("counts")?;
    Rollup::from_stored(counts, &row.get::<Vec<u8>>("sketch")?)
        .map_err(|reason| Error::new(ErrorKind::Misuse, format!("damaged sketch: {reason}")))
}

/// The start of the first minute of a window that ends with this minute.
fn begin(now: Timestamp, window_ms: i64) -> Timestamp {
    now.floor_to(MINUTE_MS).plus_ms(MINUTE_MS - window_ms)
}

/// How one objective counts what is in the tables.
pub struct Tallies<'a> {
    pub storage: &'a ObjectStorage,
    pub slo: &'a Slo,
    pub degraded_counts_as_bad: bool,
    /// See [`had_maintenance`]: most have not, and need half the queries.
    pub had_maintenance: bool,
    pub now: Timestamp,
}

impl Tallies<'_> {
    /// Over the windows of the burn, without maintenance.
    pub fn windows(&self) -> Result<Windows, Error> {
        let mut windows = Windows::default();
        for ((_, window_ms), tally) in WINDOWS.iter().zip(&mut windows.0) {
            let from = begin(self.now, *window_ms);
            *tally = self.tally(ALL, from)?.without(self.in_maintenance(from)?);
        }
        Ok(windows)
    }

    /// Over the objective's period.
    pub fn period(&self) -> Result<Period, Error> {
        let from = begin(self.now, self.slo.period_ms());
        Ok(Period { raw: self.tally(ALL, from)?, in_maintenance: self.in_maintenance(from)? })
    }

    fn in_maintenance(&self, from: Timestamp) -> Result<Tally, Error> {
        if self.had_maintenance { self.tally(IN_MAINTENANCE, from) } else { Ok(Tally::default()) }
    }

    fn tally(&self, table: &str, from: Timestamp) -> Result<Tally, Error> {
        match self.slo.kind {
            SloKind::Latency => {
                let merged = self.merged(table, from)?;
                Ok(self.slo.tally(&merged, self.degraded_counts_as_bad))
            }
            // As `Slo::tally`, of sums that SQLite makes.
            SloKind::Availability => {
                let counts = counts(self.storage, table, from, self.now)?;
                Ok(Tally::availability(&counts, self.degraded_counts_as_bad))
            }
        }
    }

    fn merged(&self, table: &str, from: Timestamp) -> Result<Rollup, Error> {
        let mut whole = Rollup::default();
        for (grain, from, until) in window_plan(from, self.now) {
            let rows = self.storage.query(
                &format!(
                    "SELECT counts, sketch FROM {table}
                     WHERE grain = ?1 AND start >= ?2 AND start < ?3"
                ),
                &[grain.name().into(), from.millis().into(), until.millis().into()],
            )?;
            for row in &rows {
                whole.merge(&stored_rollup(row)?);
            }
        }
        Ok(whole)
    }
}

/// Observations that say how the partner is, summed by SQLite itself: reading
/// the rows of 30 days would cost as much as all the rest.
pub fn counts(
    storage: &ObjectStorage,
    table: &str,
    from: Timestamp,
    now: Timestamp,
) -> Result<Counts, Error> {
    let mut sum = Counts::default();
    for (grain, from, until) in window_plan(from, now) {
        let rows = storage.query(
            &format!(
                "SELECT COALESCE(SUM(counts ->> 'up'), 0) AS up,
                     COALESCE(SUM(counts ->> 'degraded'), 0) AS degraded,
                     COALESCE(SUM(counts ->> 'down'), 0) AS down
                 FROM {table} WHERE grain = ?1 AND start >= ?2 AND start < ?3 AND conclusive > 0"
            ),
            &[grain.name().into(), from.millis().into(), until.millis().into()],
        )?;
        let Some(row) = rows.first() else { continue };
        let (up, degraded, down) = (row.get("up")?, row.get("degraded")?, row.get("down")?);
        sum.merge(&Counts { up, degraded, down, ..Counts::default() });
    }
    Ok(sum)
}

/// Whether anything was ever observed in maintenance.
pub fn had_maintenance(storage: &ObjectStorage) -> Result<bool, Error> {
    let found = storage.query(&format!("SELECT 1 AS one FROM {IN_MAINTENANCE} LIMIT 1"), &[])?;
    Ok(!found.is_empty())
}

/// The first minute since `from` with an observation that burns availability.
pub fn first_bad(
    storage: &ObjectStorage,
    from: Timestamp,
    degraded_counts_as_bad: bool,
) -> Result<Option<Timestamp>, Error> {
    let bad = match degraded_counts_as_bad {
        true => "(counts ->> 'down') + (counts ->> 'degraded') > 0",
        false => "(counts ->> 'down') > 0",
    };
    let rows = storage.query(
        &format!(
            "SELECT MIN(start) AS start FROM {ALL}
             WHERE grain = 'minute' AND start >= ?1 AND conclusive > 0 AND {bad}"
        ),
        &[from.millis().into()],
    )?;
    let start: Option<i64> = rows.first().map_or(Ok(None), |row| row.get("start"))?;
    Ok(start.map(Timestamp::from_millis))
}

/// The newest minute with an observation that says how the partner is.
pub fn newest_conclusive(storage: &ObjectStorage) -> Result<Option<Timestamp>, Error> {
    let rows = storage.query(
        &format!(
            "SELECT start FROM {ALL} WHERE grain = ?1 AND conclusive > 0
             ORDER BY start DESC LIMIT 1"
        ),
        &[Grain::Minute.name().into()],
    )?;
    rows.first().map(|row| row.get("start").map(Timestamp::from_millis)).transpose()
}

//! Backups: what a set consists of, and which sets are kept.

use crate::domain::time::{DAY_MS, HOUR_MS, Timestamp};
use chrono::Datelike;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A set is begun every hour; so old the last good one must not be.
pub const BACKUP_LATE_MS: i64 = 2 * HOUR_MS;

pub const HOURLY: usize = 48;
pub const DAILY: usize = 30;
pub const MONTHLY: usize = 12;

/// How the files are written; another number is not read.
pub const FORMAT: u32 = 1;

/// Everything about a set. Written last: where it is, the set is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Manifest {
    pub id: String,
    /// How the files are written: 1.
    pub format: u32,
    /// The last migration of the database.
    pub schema_version: String,
    pub app_version: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub files: Vec<BackupFile>,
}

/// One file: lines of JSON (`{"table": …, "row": {…}}`), gzipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BackupFile {
    /// In the bucket, below `backups/{id}/`.
    pub name: String,
    /// `DB`, or the class and name of an object such as `BOARD/ten_default`.
    pub of: String,
    pub rows: u64,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// As stored, gzipped.
    pub bytes: u64,
    /// Of the stored bytes, in hex.
    pub sha256: String,
}

impl Manifest {
    pub fn rows(&self) -> u64 {
        self.files.iter().map(|file| file.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Rows by what they are of and by table.
    pub fn counts(&self) -> BTreeMap<(String, String), u64> {
        let mut counts = BTreeMap::new();
        for file in &self.files {
            for (table, rows) in &file.tables {
                *counts.entry((file.of.clone(), table.clone())).or_default() += rows;
            }
        }
        counts
    }
}

/// Which sets stay: the newest of each of the last 48 hours, 30 days and 12
/// months that have one (UTC).
pub fn kept(sets: &[(String, Timestamp)]) -> BTreeSet<String> {
    let mut newest_first: Vec<&(String, Timestamp)> = sets.iter().collect();
    newest_first.sort_by(|a, b| (b.1, &b.0).cmp(&(a.1, &a.0)));
    let mut kept = BTreeSet::new();
    for count in [HOURLY, DAILY, MONTHLY] {
        let period = |at: Timestamp| match count {
            HOURLY => at.millis().div_euclid(HOUR_MS),
            DAILY => at.millis().div_euclid(DAY_MS),
            _ => {
                let date = at.to_chrono();
                i64::from(date.year()) * 12 + i64::from(date.month0())
            }
        };
        let mut seen = BTreeSet::new();
        for (id, at) in &newest_first {
            if seen.len() == count {
                break;
            }
            if seen.insert(period(*at)) {
                kept.insert(id.clone());
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sets(hours: impl IntoIterator<Item = i64>) -> Vec<(String, Timestamp)> {
        let at = |hour| Timestamp::from_millis(1_767_225_600_000 + hour * HOUR_MS);
        hours.into_iter().map(|hour| (format!("bak_{hour:08}"), at(hour))).collect()
    }

    #[test]
    fn a_year_of_hourly_sets() {
        let year = sets(0..24 * 365);
        let kept = kept(&year);
        // Days that are among the hours are not kept twice, nor months among the days.
        assert!(kept.len() <= HOURLY + DAILY + MONTHLY);
        assert!(kept.len() >= HOURLY + DAILY - 2 + MONTHLY - 2, "{}", kept.len());
        for hour in 24 * 365 - 48..24 * 365 {
            assert!(kept.contains(&format!("bak_{hour:08}")));
        }
    }

    proptest! {
        #[test]
        fn retention(hours in prop::collection::btree_set(0_i64..24 * 800, 0..300)) {
            let all = sets(hours);
            let kept_now = kept(&all);
            prop_assert!(kept_now.len() <= HOURLY + DAILY + MONTHLY);
            // The newest always stays, and of few all.
            if let Some((newest, _)) = all.last() {
                prop_assert!(kept_now.contains(newest));
            }
            prop_assert!(kept_now.len() >= all.len().min(MONTHLY));
            // The newest 48 sets stay: each is at least an hour from the next.
            for (id, _) in all.iter().rev().take(HOURLY) {
                prop_assert!(kept_now.contains(id));
            }
            // Deleting the others changes nothing, whichever come first.
            let rest: Vec<_> = all.iter().filter(|(id, _)| kept_now.contains(id)).cloned().collect();
            prop_assert_eq!(kept(&rest), kept_now);
        }
    }
}

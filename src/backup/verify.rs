//! Checking a set: each file is there, has its SHA-256 and its rows.

use super::{Budget, now};
use crate::platform::{Error, Platform};
use crate::store::backups::{self, Backup, Verification, file_key};
use crate::store::dump;

/// Checks some more files of a good set; from the first one on, unless a check
/// is under way. Two at once do the same work twice and no harm.
pub async fn step(
    platform: &Platform,
    set: &Backup,
    budget: &mut Budget,
) -> Result<Verification, Error> {
    let files = set.manifest.as_ref().map(|m| m.files.as_slice()).unwrap_or_default();
    let under_way = set.verification.clone().filter(|known| known.finished_at.is_none());
    let mut state = under_way.unwrap_or_else(|| Verification {
        started_at: now(platform),
        finished_at: None,
        files_checked: 0,
        defects: Vec::new(),
    });
    let checked = usize::try_from(state.files_checked).unwrap_or(usize::MAX);
    for file in files.iter().skip(checked) {
        if !budget.spend() {
            break;
        }
        let bytes = platform.bucket.get(&file_key(&set.id, &file.name)).await?;
        if let Some(defect) = dump::defect(file, bytes.as_deref()) {
            state.defects.push(format!("{} {defect}", file.name));
        }
        state.files_checked += 1;
    }
    if state.files_checked >= files.len() as u64 {
        state.finished_at = Some(now(platform));
    }
    backups::verified(&platform.database, &set.id, &state).await?;
    Ok(state)
}

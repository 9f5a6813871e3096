-- The sets of backups that were written or are being written, and how far. A set holds every tenant,
-- so no row belongs to one; and none of it is backed up: it describes the bucket, not the deployment.
CREATE TABLE backups (
    id           TEXT    NOT NULL PRIMARY KEY,
    state        TEXT    NOT NULL CONSTRAINT backups_state CHECK (state IN ('running', 'good', 'deleting', 'restoring')),
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER,
    rows_stored  INTEGER NOT NULL,
    bytes_stored INTEGER NOT NULL,
    -- What is in the set, once it is good.
    manifest     TEXT    CONSTRAINT backups_manifest CHECK (manifest IS NULL OR json_valid(manifest)),
    -- How far the run, or the restore, has come.
    progress     TEXT    CONSTRAINT backups_progress CHECK (progress IS NULL OR json_valid(progress)),
    -- How far the last check has come and what it found.
    verification TEXT    CONSTRAINT backups_verification CHECK (verification IS NULL OR json_valid(verification)),
    -- Who works on it, and until when nobody else may.
    lease        TEXT    NOT NULL,
    lease_until  INTEGER NOT NULL,
    CONSTRAINT backups_good CHECK (state <> 'good' OR (manifest IS NOT NULL AND finished_at IS NOT NULL))
) STRICT;

CREATE INDEX backups_by_state ON backups (state, id);

-- When each cron job last ran and how it went: one row a job, not per tenant.

CREATE TABLE job_runs (
    job           TEXT    NOT NULL PRIMARY KEY,
    scheduled_at  INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER NOT NULL,
    outcome       TEXT    NOT NULL CONSTRAINT job_runs_outcome CHECK (outcome IN ('success', 'failed')),
    detail        TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- When a partner has said that he will be away: observations of that time burn no budget.

CREATE TABLE maintenance_windows (
    id             TEXT    NOT NULL PRIMARY KEY,
    tenant_id      TEXT    NOT NULL,
    partnership_id TEXT    NOT NULL,
    name           TEXT    NOT NULL,
    -- Once, or weekly by the clock of a place.
    schedule       TEXT    NOT NULL CONSTRAINT maintenance_windows_schedule CHECK (json_valid(schedule)),
    created_at     INTEGER NOT NULL,
    created_by     TEXT    NOT NULL,
    FOREIGN KEY (tenant_id, partnership_id) REFERENCES partnerships (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX maintenance_windows_by_partnership ON maintenance_windows (tenant_id, partnership_id);

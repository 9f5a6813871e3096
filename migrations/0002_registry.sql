-- What was agreed with each partner: partnerships, their probes, KPIs and deliverables.
-- Definitions only; measurements live in the partnership's Durable Object.

CREATE TABLE partnerships (
    tenant_id               TEXT    NOT NULL REFERENCES tenants (id),
    id                      TEXT    NOT NULL,
    name                    TEXT    NOT NULL,
    partner                 TEXT    NOT NULL,
    status_page_url         TEXT,
    availability_target_percent REAL NOT NULL,
    availability_floor_percent  REAL NOT NULL,
    latency_target_ms       REAL    CONSTRAINT partnerships_latency CHECK (latency_target_ms > 0),
    degraded_counts_as_bad  INTEGER NOT NULL CONSTRAINT partnerships_degraded CHECK (degraded_counts_as_bad IN (0, 1)),
    -- Grows by one with every change of the partnership or what belongs to it.
    -- A writer who lost a race sets 0, and the CHECK undoes his whole batch.
    revision                INTEGER NOT NULL CONSTRAINT partnerships_revision CHECK (revision > 0),
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL,
    retired_at              INTEGER,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT partnerships_availability CHECK
        (availability_floor_percent >= 0 AND availability_floor_percent < availability_target_percent AND availability_target_percent <= 100)
) STRICT;

-- Every name under which a partnership is found, its id among them: ids and
-- aliases share one name space within a tenant.
CREATE TABLE partnership_names (
    tenant_id      TEXT NOT NULL,
    name           TEXT NOT NULL,
    partnership_id TEXT NOT NULL,
    CONSTRAINT partnership_names_taken PRIMARY KEY (tenant_id, name),
    FOREIGN KEY (tenant_id, partnership_id) REFERENCES partnerships (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE probes (
    tenant_id         TEXT    NOT NULL,
    partnership_id    TEXT    NOT NULL,
    key               TEXT    NOT NULL,
    url               TEXT    NOT NULL,
    interval_s        INTEGER NOT NULL CONSTRAINT probes_interval CHECK (interval_s BETWEEN 60 AND 86400),
    deadline_ms       INTEGER NOT NULL CONSTRAINT probes_deadline CHECK (deadline_ms BETWEEN 100 AND 20000),
    -- A slower answer is degraded; NULL: no answer is too slow.
    degraded_above_ms INTEGER CONSTRAINT probes_degraded CHECK (degraded_above_ms > 0),
    enabled           INTEGER NOT NULL CONSTRAINT probes_enabled CHECK (enabled IN (0, 1)),
    PRIMARY KEY (tenant_id, partnership_id, key),
    FOREIGN KEY (tenant_id, partnership_id) REFERENCES partnerships (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE kpi_definitions (
    tenant_id      TEXT NOT NULL,
    partnership_id TEXT NOT NULL,
    name           TEXT NOT NULL,
    target         REAL NOT NULL CONSTRAINT kpi_definitions_target CHECK (target > 0),
    unit           TEXT NOT NULL,
    direction      TEXT NOT NULL CONSTRAINT kpi_definitions_direction CHECK (direction IN ('higher', 'lower')),
    weight         REAL NOT NULL CONSTRAINT kpi_definitions_weight CHECK (weight > 0),
    PRIMARY KEY (tenant_id, partnership_id, name),
    FOREIGN KEY (tenant_id, partnership_id) REFERENCES partnerships (tenant_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliverables (
    tenant_id             TEXT NOT NULL,
    partnership_id        TEXT NOT NULL,
    key                   TEXT NOT NULL,
    -- NULL until somebody sends one.
    completion_percentage REAL CONSTRAINT deliverables_completion CHECK (completion_percentage BETWEEN 0 AND 100),
    status                TEXT CONSTRAINT deliverables_status CHECK
        (status IN ('not_started', 'in_progress', 'blocked', 'completed', 'cancelled')),
    due_date              TEXT CONSTRAINT deliverables_due_date CHECK (due_date IS NULL OR length(due_date) = 10),
    weight                REAL NOT NULL CONSTRAINT deliverables_weight CHECK (weight > 0),
    completed_at          INTEGER,
    updated_at            INTEGER,
    updated_by            TEXT,
    PRIMARY KEY (tenant_id, partnership_id, key),
    FOREIGN KEY (tenant_id, partnership_id) REFERENCES partnerships (tenant_id, id)
) STRICT, WITHOUT ROWID;

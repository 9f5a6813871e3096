-- Where notifications of incidents go. Secrets are sealed with a key that the database does not hold.

CREATE TABLE channels (
    tenant_id    TEXT    NOT NULL REFERENCES tenants (id),
    id           TEXT    NOT NULL,
    kind         TEXT    NOT NULL CONSTRAINT channels_kind CHECK (kind IN ('pagerduty', 'slack', 'webhook')),
    name         TEXT    NOT NULL CONSTRAINT channels_name CHECK (length(name) BETWEEN 1 AND 100),
    min_severity TEXT    NOT NULL CONSTRAINT channels_min_severity CHECK (min_severity IN ('info', 'warning', 'critical')),
    enabled      INTEGER NOT NULL CONSTRAINT channels_enabled CHECK (enabled IN (0, 1)),
    -- Of the address: all of it that is shown.
    host         TEXT    NOT NULL,
    -- AES-256-GCM, bound to tenant and id.
    sealed       TEXT    NOT NULL,
    -- A writer who lost a race sets 0, and the CHECK undoes his whole batch.
    revision     INTEGER NOT NULL CONSTRAINT channels_revision CHECK (revision > 0),
    created_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT, WITHOUT ROWID;

-- Who did what when. Rows are written once and never changed or deleted.

CREATE TABLE activity (
    id        TEXT    NOT NULL PRIMARY KEY,
    tenant_id TEXT    NOT NULL REFERENCES tenants (id),
    at        INTEGER NOT NULL,
    -- A user's id, or 'system'.
    actor     TEXT    NOT NULL,
    event     TEXT    NOT NULL,
    status    TEXT    NOT NULL CONSTRAINT activity_status CHECK (status IN ('success', 'refused', 'failed')),
    -- What it was done to.
    subject   TEXT    NOT NULL
) STRICT;

CREATE INDEX activity_by_tenant ON activity (tenant_id, at);

CREATE TRIGGER activity_is_not_changed BEFORE UPDATE ON activity
BEGIN
    SELECT RAISE(ABORT, 'activity is append-only');
END;

CREATE TRIGGER activity_is_not_deleted BEFORE DELETE ON activity
BEGIN
    SELECT RAISE(ABORT, 'activity is append-only');
END;

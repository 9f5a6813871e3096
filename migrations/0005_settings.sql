-- A tenant's settings; a change adds a version and keeps the earlier ones.

CREATE TABLE settings (
    tenant_id  TEXT    NOT NULL REFERENCES tenants (id),
    version    INTEGER NOT NULL CONSTRAINT settings_version CHECK (version > 0),
    document   TEXT    NOT NULL CONSTRAINT settings_document CHECK (json_valid(document)),
    author_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, version)
) STRICT, WITHOUT ROWID;

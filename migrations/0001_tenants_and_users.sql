-- Who uses the API: tenants, their users, and the refresh tokens of logins.
-- Times are milliseconds since the Unix epoch; every row belongs to a tenant.

CREATE TABLE tenants (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL CONSTRAINT tenants_name CHECK (length(name) BETWEEN 1 AND 100),
    created_at INTEGER NOT NULL
) STRICT;

-- User names and addresses are unique over all tenants: a login names no tenant.
CREATE TABLE users (
    id              TEXT    NOT NULL PRIMARY KEY,
    tenant_id       TEXT    NOT NULL REFERENCES tenants (id),
    username        TEXT    NOT NULL COLLATE NOCASE CONSTRAINT users_username UNIQUE,
    email           TEXT    COLLATE NOCASE CONSTRAINT users_email UNIQUE,
    password_hash   TEXT    NOT NULL,
    -- bootstrap: the first admin, password from the deployment's secret.
    password_source TEXT    NOT NULL
        CONSTRAINT users_password_source CHECK (password_source IN ('bootstrap', 'admin', 'self')),
    role            TEXT    NOT NULL CONSTRAINT users_role CHECK (role IN
        ('admin', 'system_admin', 'orchestration_manager', 'viewer', 'ingest', 'metrics_viewer')),
    disabled_at     INTEGER,
    created_at      INTEGER NOT NULL,
    created_by      TEXT    NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;

CREATE INDEX users_by_tenant ON users (tenant_id, id);

-- A login is a family of refresh tokens; each use spends one and makes the
-- next. Only hashes are stored.
CREATE TABLE refresh_tokens (
    id             TEXT    NOT NULL PRIMARY KEY,
    tenant_id      TEXT    NOT NULL REFERENCES tenants (id),
    user_id        TEXT    NOT NULL REFERENCES users (id),
    family_id      TEXT    NOT NULL,
    token_hash     TEXT    NOT NULL CONSTRAINT refresh_tokens_hash UNIQUE,
    -- Hash of what the client looks like: only the same client may repeat.
    client_hash    TEXT    NOT NULL,
    issued_at      INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    spent_at       INTEGER,
    revoked_at     INTEGER,
    revoked_reason TEXT
) STRICT;

CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_by_user ON refresh_tokens (user_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

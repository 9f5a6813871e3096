-- Failed logins of the last hour, and until when an account is locked for them.

CREATE TABLE login_failures (
    id        INTEGER PRIMARY KEY,
    tenant_id TEXT    NOT NULL REFERENCES tenants (id),
    user_id   TEXT    NOT NULL REFERENCES users (id),
    at        INTEGER NOT NULL
) STRICT;

CREATE INDEX login_failures_by_user ON login_failures (user_id, at);

ALTER TABLE users ADD COLUMN locked_until INTEGER;

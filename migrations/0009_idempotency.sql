-- Replies to requests with an Idempotency-Key, written in one batch with what they tell of: a
-- repetition gets the same reply and changes nothing.

CREATE TABLE idempotency_keys (
    tenant_id   TEXT    NOT NULL REFERENCES tenants (id),
    -- Hash of tenant, caller, route, parameters and key.
    scope       TEXT    NOT NULL,
    -- Keyed, as a body may hold a password.
    payload_mac TEXT    NOT NULL,
    status      INTEGER NOT NULL,
    headers     TEXT    NOT NULL CONSTRAINT idempotency_keys_headers CHECK (json_valid(headers)),
    body        TEXT    NOT NULL,
    -- NULL, which is refused, where another request has the key already.
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, scope)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);

-- Keys for programs: scoped, expiring, revocable. Only a hash of the secret is stored.

CREATE TABLE api_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    tenant_id    TEXT    NOT NULL REFERENCES tenants (id),
    name         TEXT    NOT NULL CONSTRAINT api_keys_name CHECK (length(name) BETWEEN 1 AND 100),
    -- The public part, by which a key that is presented is found.
    prefix       TEXT    NOT NULL CONSTRAINT api_keys_prefix UNIQUE,
    secret_hash  TEXT    NOT NULL,
    permissions  TEXT    NOT NULL CONSTRAINT api_keys_permissions CHECK (json_valid(permissions)),
    created_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    -- Moves nearer when the key is rotated: the end of the overlap.
    expires_at   INTEGER NOT NULL,
    revoked_at   INTEGER,
    -- The key that this one took the place of.
    replaces     TEXT,
    -- To the minute; not written with every request.
    last_used_at INTEGER
) STRICT;

CREATE INDEX api_keys_by_tenant ON api_keys (tenant_id, id);

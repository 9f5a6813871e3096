-- Decisions with their inputs, their reply and their author, as they were given.

CREATE TABLE decisions (
    id         TEXT    NOT NULL PRIMARY KEY,
    tenant_id  TEXT    NOT NULL REFERENCES tenants (id),
    kind       TEXT    NOT NULL CONSTRAINT decisions_kind CHECK (kind IN ('appraisal')),
    decision   TEXT    NOT NULL,
    inputs     TEXT    NOT NULL CONSTRAINT decisions_inputs CHECK (json_valid(inputs)),
    reply      TEXT    NOT NULL CONSTRAINT decisions_reply CHECK (json_valid(reply)),
    author_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX decisions_by_tenant ON decisions (tenant_id, id);

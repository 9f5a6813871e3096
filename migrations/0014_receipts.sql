-- Decisions become receipts: two more kinds, the signature, the policy it was made by, and what became of it.

CREATE TABLE decisions_with_receipts (
    id             TEXT    NOT NULL PRIMARY KEY,
    tenant_id      TEXT    NOT NULL REFERENCES tenants (id),
    kind           TEXT    NOT NULL CONSTRAINT decisions_kind CHECK (kind IN ('appraisal', 'strategy', 'choice')),
    decision       TEXT    NOT NULL,
    inputs         TEXT    NOT NULL CONSTRAINT decisions_inputs CHECK (json_valid(inputs)),
    reply          TEXT    NOT NULL CONSTRAINT decisions_reply CHECK (json_valid(reply)),
    author_id      TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    -- NULL in what was decided before there were receipts.
    policy_id      TEXT,
    policy_version INTEGER CONSTRAINT decisions_policy CHECK ((policy_id IS NULL) = (policy_version IS NULL)),
    signature      TEXT    CONSTRAINT decisions_signature CHECK (signature IS NULL OR json_valid(signature)),
    -- NULL where none was given, or nobody was asked to tell it.
    confidence     REAL    CONSTRAINT decisions_confidence CHECK (confidence BETWEEN 0 AND 1),
    narrative      TEXT    CONSTRAINT decisions_narrative CHECK (narrative IS NULL OR json_valid(narrative))
) STRICT;

-- In the order of rowid, by which backups read.
INSERT INTO decisions_with_receipts (id, tenant_id, kind, decision, inputs, reply, author_id, created_at)
SELECT id, tenant_id, kind, decision, inputs, reply, author_id, created_at FROM decisions ORDER BY rowid;

DROP TABLE decisions;

ALTER TABLE decisions_with_receipts RENAME TO decisions;

CREATE INDEX decisions_by_tenant ON decisions (tenant_id, id);

-- What became of a decision; the last row of one counts.
CREATE TABLE decision_outcomes (
    id          TEXT    NOT NULL PRIMARY KEY,
    tenant_id   TEXT    NOT NULL REFERENCES tenants (id),
    decision_id TEXT    NOT NULL REFERENCES decisions (id),
    outcome     TEXT    NOT NULL CONSTRAINT decision_outcomes_outcome CHECK (outcome IN ('adopted', 'rejected', 'reversed')),
    observed    TEXT    NOT NULL CONSTRAINT decision_outcomes_observed CHECK (json_valid(observed)),
    note        TEXT,
    -- NULL where nobody can say.
    was_right   INTEGER CONSTRAINT decision_outcomes_right CHECK (was_right IN (0, 1)),
    author_id   TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX decision_outcomes_by_decision ON decision_outcomes (tenant_id, decision_id, id);

-- Policies, one row a version.
CREATE TABLE policies (
    tenant_id  TEXT    NOT NULL REFERENCES tenants (id),
    id         TEXT    NOT NULL,
    version    INTEGER NOT NULL CONSTRAINT policies_version CHECK (version >= 1),
    document   TEXT    NOT NULL CONSTRAINT policies_document CHECK (json_valid(document)),
    author_id  TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id, version)
) STRICT;

-- Public keys that ever signed a receipt: a receipt outlives the key, which leaves the key set of tokens when it is
-- replaced.
CREATE TABLE receipt_keys (
    tenant_id     TEXT    NOT NULL REFERENCES tenants (id),
    kid           TEXT    NOT NULL,
    jwk           TEXT    NOT NULL CONSTRAINT receipt_keys_jwk CHECK (json_valid(jwk)),
    first_used_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, kid)
) STRICT;

-- Service level objectives of a partnership; their budgets live in its Durable Object.

CREATE TABLE slos (
    tenant_id      TEXT    NOT NULL,
    partnership_id TEXT    NOT NULL,
    key            TEXT    NOT NULL,
    kind           TEXT    NOT NULL CONSTRAINT slos_kind CHECK (kind IN ('availability', 'latency')),
    -- Percent of good events: 100 would leave no budget.
    target_percent REAL    NOT NULL CONSTRAINT slos_target CHECK (target_percent > 0 AND target_percent < 100),
    threshold_ms   REAL    CONSTRAINT slos_threshold CHECK (threshold_ms > 0),
    period_days    INTEGER NOT NULL CONSTRAINT slos_period CHECK (period_days IN (7, 30)),
    PRIMARY KEY (tenant_id, partnership_id, key),
    FOREIGN KEY (tenant_id, partnership_id) REFERENCES partnerships (tenant_id, id),
    CONSTRAINT slos_threshold_of_latency CHECK ((kind = 'latency') = (threshold_ms IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- What was agreed so far is an objective; new partnerships get theirs when they are added.
INSERT INTO slos (tenant_id, partnership_id, key, kind, target_percent, period_days)
SELECT tenant_id, id, 'availability', 'availability', availability_target_percent, 30
FROM partnerships
WHERE availability_target_percent > 0 AND availability_target_percent < 100;

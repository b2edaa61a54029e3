CREATE TABLE effects (
    -- The order in which they came.
    seq        INTEGER NOT NULL PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    repository TEXT    NOT NULL REFERENCES repositories (id),
    run        TEXT    NOT NULL,
    provenance TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    wanted     TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    -- The status with its data.
    detail     TEXT    NOT NULL,
    -- Of a pending effect.
    due_at     INTEGER,
    -- Until when it is with a performer.
    held_until INTEGER,
    attempts   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    CHECK ((status = 'pending') = (due_at IS NOT NULL))
) STRICT;

CREATE INDEX effects_pending ON effects (status, due_at, seq) WHERE status = 'pending';
CREATE INDEX effects_held ON effects (repository, held_until) WHERE held_until IS NOT NULL;
CREATE INDEX effects_run ON effects (run, seq);

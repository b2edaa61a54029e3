-- Repositories on forges: found by the forge's own number for them.
ALTER TABLE repositories ADD COLUMN place TEXT;
CREATE UNIQUE INDEX repositories_place ON repositories (place) WHERE place IS NOT NULL;

-- The pull request that a run works on.
ALTER TABLE runs ADD COLUMN subject TEXT;

-- An event that cannot be dispatched yet, because a forge does not answer, lets the others pass.
ALTER TABLE events ADD COLUMN due_at INTEGER;

-- A forge's webhook names its repository in the body, which is read afterwards.
CREATE TABLE deliveries_new (
    id          TEXT    NOT NULL PRIMARY KEY,
    source      TEXT    NOT NULL,
    repository  TEXT    REFERENCES repositories (id),
    -- What it is about, in the sender's words.
    name        TEXT,
    external_id TEXT,
    content     BLOB    NOT NULL,
    body        BLOB    NOT NULL,
    received_at INTEGER NOT NULL,
    verdict     TEXT,
    settled_at  INTEGER
) STRICT;
INSERT INTO deliveries_new
    SELECT id, source, repository, NULL, external_id, content, body, received_at, verdict, settled_at FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE deliveries_new RENAME TO deliveries;
CREATE UNIQUE INDEX deliveries_content ON deliveries (source, content, IFNULL(repository, ''));
CREATE UNIQUE INDEX deliveries_external ON deliveries (source, external_id, IFNULL(repository, ''))
    WHERE external_id IS NOT NULL;
CREATE INDEX deliveries_unsettled ON deliveries (settled_at, id) WHERE settled_at IS NULL;

-- The server speaks for itself, too: then there is no run.
CREATE TABLE effects_new (
    -- The order in which they came.
    seq        INTEGER NOT NULL PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    repository TEXT    NOT NULL REFERENCES repositories (id),
    run        TEXT,
    author     TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    -- Of what the server wants by itself: the same is wanted once.
    dedupe     TEXT,
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
INSERT INTO effects_new
    SELECT seq, id, repository, run, provenance, key, NULL, wanted, status, detail, due_at, held_until, attempts, created_at
    FROM effects;
DROP TABLE effects;
ALTER TABLE effects_new RENAME TO effects;
CREATE INDEX effects_pending ON effects (status, due_at, seq) WHERE status = 'pending';
CREATE INDEX effects_held ON effects (repository, held_until) WHERE held_until IS NOT NULL;
CREATE INDEX effects_run ON effects (run, seq);
CREATE UNIQUE INDEX effects_dedupe ON effects (repository, dedupe) WHERE dedupe IS NOT NULL;

ALTER TABLE comments RENAME COLUMN provenance TO author;
ALTER TABLE checks RENAME COLUMN provenance TO author;

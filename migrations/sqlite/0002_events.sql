CREATE TABLE deliveries (
    id          TEXT    NOT NULL PRIMARY KEY,
    source      TEXT    NOT NULL,
    repository  TEXT    NOT NULL REFERENCES repositories (id),
    external_id TEXT,
    content     BLOB    NOT NULL,
    body        BLOB    NOT NULL,
    received_at INTEGER NOT NULL,
    verdict     TEXT,
    settled_at  INTEGER,
    UNIQUE (repository, source, content)
) STRICT;

CREATE UNIQUE INDEX deliveries_external ON deliveries (repository, source, external_id)
    WHERE external_id IS NOT NULL;
CREATE INDEX deliveries_unsettled ON deliveries (settled_at, id) WHERE settled_at IS NULL;

CREATE TABLE events (
    id            TEXT    NOT NULL PRIMARY KEY,
    repository    TEXT    NOT NULL REFERENCES repositories (id),
    kind          TEXT    NOT NULL,
    dedupe        TEXT,
    fact          TEXT    NOT NULL,
    occurred_at   INTEGER NOT NULL,
    dispatched_at INTEGER
) STRICT;

CREATE UNIQUE INDEX events_dedupe ON events (repository, dedupe) WHERE dedupe IS NOT NULL;
CREATE INDEX events_undispatched ON events (dispatched_at, id) WHERE dispatched_at IS NULL;

CREATE TABLE matches (
    event   TEXT    NOT NULL REFERENCES events (id),
    ordinal INTEGER NOT NULL,
    daemon  TEXT    NOT NULL,
    branch  TEXT    NOT NULL,
    run     TEXT,
    reason  TEXT    NOT NULL,
    PRIMARY KEY (event, ordinal)
) STRICT, WITHOUT ROWID;

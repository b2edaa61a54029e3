-- What daemons keep from run to run, sealed: variables, and conversations with models.
CREATE TABLE memos (
    repository TEXT    NOT NULL REFERENCES repositories (id),
    daemon     TEXT    NOT NULL,
    branch     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    -- This writing of it, by which a writer tells that nobody else was there.
    written    TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    -- Which key opens it.
    sealed_by  TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    -- Bytes, unsealed.
    size       INTEGER NOT NULL,
    author     TEXT    NOT NULL,
    written_at INTEGER NOT NULL,
    PRIMARY KEY (repository, daemon, branch, kind, name),
    CHECK (kind IN ('variable', 'session'))
) STRICT;

-- Which session was written the longest ago: of one daemon on a branch, and of all.
CREATE INDEX memos_age ON memos (repository, daemon, branch, kind, written_at);
CREATE INDEX memos_sessions ON memos (written_at) WHERE kind = 'session';

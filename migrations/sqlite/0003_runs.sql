CREATE TABLE runs (
    id                TEXT    NOT NULL PRIMARY KEY,
    repository        TEXT    NOT NULL REFERENCES repositories (id),
    daemon            TEXT    NOT NULL,
    branch            TEXT    NOT NULL,
    commit_id         TEXT    NOT NULL,
    digest            TEXT    NOT NULL,
    cause             TEXT    NOT NULL,
    -- Out of the cause, for the indexes.
    event             TEXT,
    parent_run        TEXT REFERENCES runs (id),
    parent_stage      TEXT,
    inputs            TEXT    NOT NULL,
    effects           TEXT    NOT NULL,
    idempotency       TEXT,
    priority          INTEGER NOT NULL,
    concurrency_key   TEXT,
    concurrency_limit INTEGER,
    status            TEXT    NOT NULL,
    -- Of a queued run.
    ready_at          INTEGER,
    -- Of a running run; together with the attempt they are its lease.
    worker            TEXT,
    lease_until       INTEGER,
    -- Of an ended run.
    outcome           TEXT,
    ended_at          INTEGER,
    attempt           INTEGER NOT NULL,
    cancel_by         TEXT,
    cancel_at         INTEGER,
    -- Billionths of a dollar.
    cost              INTEGER NOT NULL,
    -- The number of the last line of its log, also when the lines are an object by now.
    log_lines         INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    started_at        INTEGER,
    CHECK ((status = 'queued') = (ready_at IS NOT NULL)),
    CHECK ((status = 'running') = (worker IS NOT NULL AND lease_until IS NOT NULL)),
    CHECK ((outcome IS NOT NULL) = (ended_at IS NOT NULL)),
    CHECK ((status IN ('queued', 'running', 'waiting')) = (ended_at IS NULL))
) STRICT;

CREATE UNIQUE INDEX runs_idempotency ON runs (repository, idempotency) WHERE idempotency IS NOT NULL;
CREATE UNIQUE INDEX runs_parent ON runs (parent_run, parent_stage) WHERE parent_run IS NOT NULL;

-- The queue in its order, the moments at which it changes by itself, and who holds a place in a group.
CREATE INDEX runs_queued ON runs (status, priority DESC, id) WHERE status = 'queued';
CREATE INDEX runs_ready ON runs (status, ready_at) WHERE status = 'queued';
CREATE INDEX runs_running ON runs (status, lease_until) WHERE status = 'running';
CREATE INDEX runs_waiting ON runs (status, id) WHERE status = 'waiting';
CREATE INDEX runs_group_running ON runs (repository, concurrency_key) WHERE status = 'running';
CREATE INDEX runs_group ON runs (repository, concurrency_key, id)
    WHERE ended_at IS NULL AND concurrency_key IS NOT NULL;

CREATE INDEX runs_daemon ON runs (repository, daemon, branch, id);
CREATE INDEX runs_daemon_ended ON runs (repository, daemon, branch, id, status) WHERE ended_at IS NOT NULL;
CREATE INDEX runs_repository ON runs (repository, id);
CREATE INDEX runs_status ON runs (status, id);
CREATE INDEX runs_event ON runs (event, id) WHERE event IS NOT NULL;

-- The journal: finished stages, each once.
CREATE TABLE stages (
    run      TEXT    NOT NULL REFERENCES runs (id),
    ordinal  INTEGER NOT NULL,
    path     TEXT    NOT NULL,
    status   TEXT    NOT NULL,
    record   TEXT    NOT NULL,
    ended_at INTEGER NOT NULL,
    PRIMARY KEY (run, ordinal),
    UNIQUE (run, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE log_lines (
    run    TEXT    NOT NULL REFERENCES runs (id),
    number INTEGER NOT NULL,
    stage  TEXT    NOT NULL,
    source TEXT    NOT NULL,
    text   TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (run, number)
) STRICT, WITHOUT ROWID;

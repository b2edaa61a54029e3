-- Times are milliseconds since the Unix epoch, ids are prefixed UUIDv7 (text that sorts by age),
-- structured values are JSON in text.

CREATE TABLE repositories (
    id             TEXT    NOT NULL PRIMARY KEY,
    path           TEXT    NOT NULL,
    -- The path in lower case: by it a repository is found.
    path_key       TEXT    NOT NULL UNIQUE,
    origin         TEXT    NOT NULL,
    default_branch TEXT    NOT NULL,
    sync_status    TEXT    NOT NULL,
    sync_message   TEXT,
    checked_at     INTEGER,
    due_at         INTEGER,
    failures       INTEGER NOT NULL,
    -- When to look: due_at, or since it is known for a watched one that was never looked at.
    poll_at        INTEGER,
    created_at     INTEGER NOT NULL
) STRICT;

CREATE INDEX repositories_poll ON repositories (poll_at, id) WHERE poll_at IS NOT NULL;

CREATE TABLE branches (
    repository TEXT    NOT NULL REFERENCES repositories (id),
    branch     TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    moved_at   INTEGER NOT NULL,
    PRIMARY KEY (repository, branch)
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
    id         TEXT    NOT NULL PRIMARY KEY,
    repository TEXT    NOT NULL REFERENCES repositories (id),
    daemon     TEXT    NOT NULL,
    branch     TEXT    NOT NULL,
    commit_id  TEXT    NOT NULL,
    content    TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (repository, daemon, branch, commit_id)
) STRICT;

CREATE INDEX revisions_commit ON revisions (repository, daemon, commit_id, id);
CREATE INDEX revisions_history ON revisions (repository, daemon, id);
CREATE INDEX revisions_branch ON revisions (repository, daemon, branch, id);

-- Which revision of a daemon is the newest on a branch: the last one that an advance named.
CREATE TABLE currents (
    repository TEXT    NOT NULL REFERENCES repositories (id),
    daemon     TEXT    NOT NULL,
    branch     TEXT    NOT NULL,
    revision   TEXT    NOT NULL REFERENCES revisions (id),
    removed    INTEGER NOT NULL,
    PRIMARY KEY (repository, daemon, branch)
) STRICT, WITHOUT ROWID;

CREATE INDEX currents_branch ON currents (repository, branch, daemon);

-- The kinds of events that the newest revisions wait for, one row a kind.
CREATE TABLE current_triggers (
    repository TEXT NOT NULL REFERENCES repositories (id),
    branch     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    daemon     TEXT NOT NULL,
    revision   TEXT NOT NULL REFERENCES revisions (id),
    PRIMARY KEY (repository, branch, kind, daemon)
) STRICT, WITHOUT ROWID;

CREATE INDEX current_triggers_daemon ON current_triggers (repository, daemon, branch);
CREATE INDEX current_triggers_scheduled ON current_triggers (kind, repository, daemon, branch)
    WHERE kind = 'schedule';

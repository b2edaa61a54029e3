CREATE TABLE proposals (
    id         TEXT    NOT NULL PRIMARY KEY,
    repository TEXT    NOT NULL REFERENCES repositories (id),
    number     INTEGER NOT NULL,
    key        TEXT,
    provenance TEXT,
    title      TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    base       TEXT    NOT NULL,
    branch     TEXT    NOT NULL,
    head       TEXT    NOT NULL,
    draft      INTEGER NOT NULL,
    labels     TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    -- The status with its data.
    detail     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (repository, number)
) STRICT;

CREATE UNIQUE INDEX proposals_open_key ON proposals (repository, key) WHERE status = 'open' AND key IS NOT NULL;
CREATE INDEX proposals_repository ON proposals (repository, id);
CREATE INDEX proposals_status ON proposals (repository, status, id);

CREATE TABLE comments (
    id         TEXT    NOT NULL PRIMARY KEY,
    repository TEXT    NOT NULL REFERENCES repositories (id),
    target     TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    provenance TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (repository, key)
) STRICT;

CREATE INDEX comments_repository ON comments (repository, id);
CREATE INDEX comments_target ON comments (repository, target, id);

CREATE TABLE checks (
    id          TEXT    NOT NULL,
    repository  TEXT    NOT NULL REFERENCES repositories (id),
    commit_id   TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    provenance  TEXT    NOT NULL,
    conclusion  TEXT    NOT NULL,
    summary     TEXT    NOT NULL,
    annotations TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (repository, commit_id, name)
) STRICT;

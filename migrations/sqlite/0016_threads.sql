-- The issue or pull request that an event is about, so that what happened there is found again.
ALTER TABLE events ADD COLUMN thread INTEGER;
UPDATE events SET thread = json_extract(fact, '$.payload.number')
WHERE json_type(fact, '$.payload.number') = 'integer';
UPDATE events SET thread = json_extract(fact, '$.payload.issue.number')
WHERE json_type(fact, '$.payload.issue.number') = 'integer';
UPDATE events SET thread = json_extract(fact, '$.payload.pull_request.number')
WHERE json_type(fact, '$.payload.pull_request.number') = 'integer';
CREATE INDEX events_repository ON events (repository, id);
CREATE INDEX events_thread ON events (repository, thread, id) WHERE thread IS NOT NULL;

-- What is kept up to date in one place is found by its key.
CREATE INDEX effects_key ON effects (repository, key, seq);

-- Daemons that were told to rest.
CREATE TABLE pauses (
    repository TEXT    NOT NULL REFERENCES repositories (id),
    daemon     TEXT    NOT NULL,
    branch     TEXT    NOT NULL,
    paused_by  TEXT    NOT NULL,
    paused_at  INTEGER NOT NULL,
    PRIMARY KEY (repository, daemon, branch)
) STRICT, WITHOUT ROWID;

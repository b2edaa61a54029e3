-- The issue or pull request that an event is about, for the commands that ask about it.
ALTER TABLE events ADD COLUMN thread INTEGER;
CREATE INDEX events_thread ON events (repository, thread, id) WHERE thread IS NOT NULL;

-- Daemons that were told to rest.
CREATE TABLE pauses (
    repository TEXT    NOT NULL REFERENCES repositories (id),
    daemon     TEXT    NOT NULL,
    branch     TEXT    NOT NULL,
    paused_by  TEXT    NOT NULL,
    paused_at  INTEGER NOT NULL,
    PRIMARY KEY (repository, daemon, branch)
) STRICT, WITHOUT ROWID;

-- Whether the newest revision of a daemon on a branch is invalid: a repository with ten thousand daemons is
-- asked after every push whether all of them can run.
ALTER TABLE currents ADD COLUMN invalid INTEGER NOT NULL DEFAULT 0;

UPDATE currents SET invalid = 1
    WHERE revision IN (SELECT id FROM revisions WHERE content ->> 'state' = 'invalid');

CREATE INDEX currents_invalid ON currents (repository, branch) WHERE invalid = 1;

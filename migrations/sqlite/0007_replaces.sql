-- Whose place a run takes while they are not begun: `debounce`.
ALTER TABLE runs ADD COLUMN replaces TEXT;

CREATE INDEX runs_replaces ON runs (repository, replaces) WHERE status = 'queued' AND replaces IS NOT NULL;

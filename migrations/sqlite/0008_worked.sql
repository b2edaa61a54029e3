-- How long workers were at a run, in milliseconds, and since when one is: what its time limit counts.
ALTER TABLE runs ADD COLUMN worked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN leased_at INTEGER;

-- The beginning of these attempts is not known; they are not counted.
UPDATE runs SET leased_at = lease_until WHERE status = 'running';

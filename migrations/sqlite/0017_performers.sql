-- Who performs an effect that is held: what a performer holds that is known to be gone need not wait.
ALTER TABLE effects ADD COLUMN held_by TEXT;

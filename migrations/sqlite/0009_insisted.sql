-- Whether it was asked more than once that a run ends.
ALTER TABLE runs ADD COLUMN cancel_insisted INTEGER NOT NULL DEFAULT 0;

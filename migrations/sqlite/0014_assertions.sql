-- The daemons that a token is confined to, as JSON; null is good for whatever its role may.
ALTER TABLE tokens ADD COLUMN reach TEXT;

CREATE INDEX tokens_expiry ON tokens (expires_at);

-- Assertions of other issuers that were exchanged for a token, each once.
CREATE TABLE assertions (
    -- SHA-256 of issuer and id.
    hash  BLOB    NOT NULL PRIMARY KEY,
    -- Until when it holds, and is kept in mind.
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX assertions_until ON assertions (until);

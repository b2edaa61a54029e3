CREATE TABLE accounts (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    -- The name in lower case: by it an account is found.
    name_key   TEXT    NOT NULL UNIQUE,
    role       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    account    TEXT    NOT NULL REFERENCES accounts (id),
    label      TEXT    NOT NULL,
    -- SHA-256 of the token.
    hash       BLOB    NOT NULL UNIQUE,
    role       TEXT    NOT NULL,
    once       INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE INDEX tokens_account ON tokens (account, id);

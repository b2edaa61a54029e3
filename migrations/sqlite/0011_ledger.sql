-- Every call of a model.
CREATE TABLE ledger (
    id             TEXT    NOT NULL PRIMARY KEY,
    run            TEXT    NOT NULL REFERENCES runs (id),
    run_attempt    INTEGER NOT NULL,
    stage          TEXT    NOT NULL,
    owner          TEXT    NOT NULL,
    repository     TEXT    NOT NULL,
    daemon         TEXT    NOT NULL,
    branch         TEXT    NOT NULL,
    author         TEXT    NOT NULL,
    pull_request   TEXT,
    -- 'reserved', 'final' or 'estimated'
    standing       TEXT    NOT NULL,
    -- Whether the run's cost has it: a stage recorded it, or it was closed without one.
    recorded       INTEGER NOT NULL,
    requested      TEXT    NOT NULL,
    served         TEXT    NOT NULL,
    provider       TEXT    NOT NULL,
    attempt        INTEGER NOT NULL,
    input          INTEGER NOT NULL,
    cache_read     INTEGER NOT NULL,
    cache_write    INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    output         INTEGER NOT NULL,
    reasoning      INTEGER NOT NULL,
    images         INTEGER NOT NULL,
    price_source   TEXT,
    price_date     TEXT,
    -- Billionths of a dollar, at most a billion dollars, so that sums stay integers.
    cost           INTEGER NOT NULL,
    dearest        INTEGER,
    failure        TEXT,
    at             INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_run ON ledger (run, at);
CREATE INDEX ledger_at ON ledger (at);
CREATE INDEX ledger_owner ON ledger (owner, at);
CREATE INDEX ledger_repository ON ledger (repository, at);
CREATE INDEX ledger_author ON ledger (author, at);
CREATE INDEX ledger_unrecorded ON ledger (run) WHERE recorded = 0;

-- Sums of the ledger, for what some budget was ever asked about: made when it is first asked, kept from then on.
CREATE TABLE balances (
    scope      TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    -- '2026-11-30', '2026-11', 'total' or a run
    period_key TEXT    NOT NULL,
    spent      INTEGER NOT NULL,
    reserved   INTEGER NOT NULL,
    PRIMARY KEY (scope, subject, period_key)
) STRICT, WITHOUT ROWID;

-- Every budget that was ever set.
CREATE TABLE budgets (
    id       TEXT    NOT NULL PRIMARY KEY,
    scope    TEXT    NOT NULL,
    -- NULL is each one for itself.
    subject  TEXT,
    period   TEXT    NOT NULL,
    amount   INTEGER NOT NULL,
    set_by   TEXT    NOT NULL,
    set_at   INTEGER NOT NULL,
    ended_by TEXT,
    ended_at INTEGER,
    CHECK ((ended_by IS NULL) = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX budgets_held ON budgets (scope, COALESCE(subject, ''), period) WHERE ended_at IS NULL;

-- Who was told that so much of a budget is gone: once for each period, amount and threshold.
CREATE TABLE alerts (
    scope      TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    period_key TEXT    NOT NULL,
    amount     INTEGER NOT NULL,
    percent    INTEGER NOT NULL,
    period     TEXT    NOT NULL,
    starts_at  INTEGER NOT NULL,
    ends_at    INTEGER,
    repository TEXT    NOT NULL,
    spent      INTEGER NOT NULL,
    run        TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (scope, subject, period_key, amount, percent)
) STRICT, WITHOUT ROWID;

CREATE INDEX alerts_at ON alerts (at DESC);

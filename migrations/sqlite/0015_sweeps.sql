-- How far the server has asked what happened on a forge, or in a repository of one.
CREATE TABLE sweeps (
    of       TEXT    NOT NULL PRIMARY KEY,
    through  INTEGER NOT NULL,
    due_at   INTEGER NOT NULL,
    failures INTEGER NOT NULL
) STRICT;

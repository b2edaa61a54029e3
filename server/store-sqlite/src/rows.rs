//! From rows to the nouns of `domain`.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use domain::access::{Account, Role, Token};
use domain::effect::Effect;
use domain::event::Event;
use domain::memo::{Memo, MemoKey, MemoOwner, Sealed};
use domain::money::NanoUsd;
use domain::proposal::{Check, Comment, Proposal};
use domain::repository::{BranchHead, Repository, Sync};
use domain::revision::{Pause, Revision};
use domain::run::{Lease, Run, RunState, RunStatus};
use domain::stage::{StagePath, StageRecord};
use domain::time::Timestamp;
use ports::store::StoreError;
use ports::store::events::{Delivery, DeliveryRecord, MatchRecord, Sweep};
use ports::store::logs::{LineSource, LogLine, NewLine};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::sqlite::{Sqlite, SqliteRow};

use crate::deliveries::Packed;
use crate::failure::{failed, unwritable};

/// Reads the columns of one row by name.
pub(crate) struct Columns<'r>(pub(crate) &'r SqliteRow);

impl<'r> Columns<'r> {
    pub(crate) fn raw<T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite>>(
        &self,
        name: &str,
    ) -> Result<T, StoreError> {
        self.0.try_get(name).map_err(failed)
    }

    pub(crate) fn text(&self, name: &str) -> Result<String, StoreError> {
        self.raw(name)
    }

    /// A value that has a parser: an id, a name.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, StoreError> {
        parse(name, self.raw::<&str>(name)?)
    }

    pub(crate) fn parsed_if<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, StoreError> {
        self.raw::<Option<&str>>(name)?.map(|text| parse(name, text)).transpose()
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        from_json(name, self.raw(name)?)
    }

    pub(crate) fn json_if<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        self.raw::<Option<&str>>(name)?.map(|text| from_json(name, text)).transpose()
    }

    /// An enum without data, stored as its word.
    pub(crate) fn word<T: DeserializeOwned>(&self, name: &str) -> Result<T, StoreError> {
        let word = self.text(name)?;
        serde_json::from_value(serde_json::Value::String(word)).map_err(|error| unreadable(name, error))
    }

    pub(crate) fn number<T: TryFrom<i64, Error: Display>>(&self, name: &str) -> Result<T, StoreError> {
        T::try_from(self.raw(name)?).map_err(|error| unreadable(name, error))
    }

    pub(crate) fn time(&self, name: &str) -> Result<Timestamp, StoreError> {
        self.raw(name).map(Timestamp::from_millis)
    }

    pub(crate) fn time_if(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.raw::<Option<i64>>(name)?.map(Timestamp::from_millis))
    }

    fn digest(&self, name: &str) -> Result<[u8; 32], StoreError> {
        self.raw::<&[u8]>(name)?.try_into().map_err(|error| unreadable(name, error))
    }
}

fn unreadable(column: &str, error: impl Display) -> StoreError {
    StoreError::Corrupt(format!("{column}: {error}"))
}

fn parse<T: FromStr<Err: Display>>(column: &str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error| unreadable(column, error))
}

fn from_json<T: DeserializeOwned>(column: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

/// A value as it is stored.
pub(crate) fn json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(unwritable)
}

/// The word of an enum without data.
pub(crate) fn word(value: &impl Serialize) -> Result<String, StoreError> {
    match serde_json::to_value(value).map_err(unwritable)? {
        serde_json::Value::String(word) => Ok(word),
        other => Err(StoreError::Conflict(format!("{other} is not a word"))),
    }
}

/// A memo.
pub(crate) fn memo(row: &SqliteRow) -> Result<Memo, StoreError> {
    let columns = Columns(row);
    let owner = MemoOwner {
        repository: columns.parsed("repository")?,
        daemon: columns.parsed("daemon")?,
        branch: columns.parsed("branch")?,
    };
    Ok(Memo {
        key: MemoKey { owner, kind: columns.parsed("kind")?, name: columns.parsed("name")? },
        written: columns.parsed("written")?,
        version: columns.number("version")?,
        sealed: Sealed { key: columns.text("sealed_by")?, bytes: columns.raw("sealed")? },
        size: columns.number("size")?,
        by: columns.json("author")?,
        at: columns.time("written_at")?,
    })
}

/// Each row of an answer.
pub(crate) fn each<T>(
    rows: &[SqliteRow],
    read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.iter().map(read).collect()
}

pub(crate) fn repository(row: &SqliteRow) -> Result<Repository, StoreError> {
    let columns = Columns(row);
    Ok(Repository {
        id: columns.parsed("id")?,
        path: columns.parsed("path")?,
        origin: columns.json("origin")?,
        default_branch: columns.parsed("default_branch")?,
        sync: Sync {
            status: columns.word("sync_status")?,
            message: columns.raw("sync_message")?,
            checked_at: columns.time_if("checked_at")?,
            due_at: columns.time_if("due_at")?,
            failures: columns.number("failures")?,
        },
        created_at: columns.time("created_at")?,
    })
}

pub(crate) fn branch_head(row: &SqliteRow) -> Result<BranchHead, StoreError> {
    let columns = Columns(row);
    Ok(BranchHead {
        branch: columns.parsed("branch")?,
        role: columns.word("role")?,
        commit: columns.parsed("commit_id")?,
        moved_at: columns.time("moved_at")?,
    })
}

pub(crate) fn revision(row: &SqliteRow) -> Result<Revision, StoreError> {
    let columns = Columns(row);
    Ok(Revision {
        id: columns.parsed("id")?,
        repository: columns.parsed("repository")?,
        daemon: columns.parsed("daemon")?,
        branch: columns.parsed("branch")?,
        commit: columns.parsed("commit_id")?,
        content: columns.json("content")?,
        created_at: columns.time("created_at")?,
    })
}

pub(crate) fn delivery(row: &SqliteRow) -> Result<Delivery, StoreError> {
    let columns = Columns(row);
    Ok(Delivery {
        id: columns.parsed("id")?,
        source: columns.text("source")?,
        repository: columns.parsed_if("repository")?,
        name: columns.raw("name")?,
        external_id: columns.raw("external_id")?,
        content: columns.digest("content")?,
        body: Packed { bytes: columns.raw("body")?, unpacked: columns.raw("unpacked")? }.body()?,
        received_at: columns.time("received_at")?,
    })
}

pub(crate) fn delivery_record(row: &SqliteRow) -> Result<DeliveryRecord, StoreError> {
    let columns = Columns(row);
    Ok(DeliveryRecord {
        id: columns.parsed("id")?,
        source: columns.text("source")?,
        repository: columns.parsed_if("repository")?,
        name: columns.raw("name")?,
        external_id: columns.raw("external_id")?,
        bytes: columns.number("bytes")?,
        received_at: columns.time("received_at")?,
        verdict: columns.raw("verdict")?,
    })
}

pub(crate) fn event(row: &SqliteRow) -> Result<Event, StoreError> {
    Columns(row).json("fact")
}

pub(crate) fn sweep(row: &SqliteRow) -> Result<Sweep, StoreError> {
    let columns = Columns(row);
    Ok(Sweep {
        through: columns.time("through")?,
        due_at: columns.time("due_at")?,
        failures: columns.number("failures")?,
    })
}

pub(crate) fn match_record(row: &SqliteRow) -> Result<MatchRecord, StoreError> {
    let columns = Columns(row);
    Ok(MatchRecord {
        daemon: columns.parsed("daemon")?,
        branch: columns.parsed("branch")?,
        run: columns.parsed_if("run")?,
        reason: columns.text("reason")?,
    })
}

pub(crate) fn pause(row: &SqliteRow) -> Result<Pause, StoreError> {
    let columns = Columns(row);
    Ok(Pause {
        daemon: columns.parsed("daemon")?,
        branch: columns.parsed("branch")?,
        by: columns.text("paused_by")?,
        at: columns.time("paused_at")?,
    })
}

pub(crate) fn run(row: &SqliteRow) -> Result<Run, StoreError> {
    let columns = Columns(row);
    Ok(Run {
        id: columns.parsed("id")?,
        repository: columns.parsed("repository")?,
        daemon: columns.parsed("daemon")?,
        branch: columns.parsed("branch")?,
        commit: columns.parsed("commit_id")?,
        digest: columns.parsed("digest")?,
        subject: columns.json_if("subject")?,
        cause: columns.json("cause")?,
        inputs: columns.json("inputs")?,
        effects: columns.word("effects")?,
        state: run_state(&columns)?,
        attempt: columns.number("attempt")?,
        cancel_requested: columns.raw("cancel_by")?,
        cancel_insisted: columns.raw("cancel_insisted")?,
        cost: NanoUsd::from_nanos(columns.raw("cost")?),
        created_at: columns.time("created_at")?,
        started_at: columns.time_if("started_at")?,
        worked: Duration::from_millis(columns.number("worked")?),
    })
}

fn run_state(columns: &Columns<'_>) -> Result<RunState, StoreError> {
    Ok(match run_status(columns, "status")? {
        RunStatus::Queued => RunState::Queued { ready_at: columns.time("ready_at")? },
        RunStatus::Running => RunState::Running {
            lease: Lease {
                worker: columns.parsed("worker")?,
                attempt: columns.number("attempt")?,
                until: columns.time("lease_until")?,
            },
        },
        RunStatus::Waiting => RunState::Waiting,
        RunStatus::Succeeded
        | RunStatus::Failed
        | RunStatus::TimedOut
        | RunStatus::Cancelled
        | RunStatus::Skipped => {
            RunState::Ended { outcome: columns.json("outcome")?, at: columns.time("ended_at")? }
        }
    })
}

pub(crate) fn run_status(columns: &Columns<'_>, name: &str) -> Result<RunStatus, StoreError> {
    let word = columns.raw::<&str>(name)?;
    RunStatus::parse(word).ok_or_else(|| unreadable(name, format!("`{word}` is not a status")))
}

pub(crate) fn stage_record(row: &SqliteRow) -> Result<StageRecord, StoreError> {
    Columns(row).json("record")
}

pub(crate) fn log_line(row: &SqliteRow) -> Result<LogLine, StoreError> {
    let columns = Columns(row);
    let source = columns.raw::<&str>("source")?;
    Ok(LogLine {
        number: columns.number("number")?,
        line: NewLine {
            stage: StagePath::stored(columns.text("stage")?),
            source: LineSource::parse(source)
                .ok_or_else(|| unreadable("source", format!("`{source}` is not a source")))?,
            text: columns.text("text")?,
            at: columns.time("at")?,
        },
    })
}

pub(crate) fn effect(row: &SqliteRow) -> Result<Effect, StoreError> {
    let columns = Columns(row);
    Ok(Effect {
        id: columns.parsed("id")?,
        repository: columns.parsed("repository")?,
        author: columns.json("author")?,
        key: columns.text("key")?,
        kind: columns.json("wanted")?,
        status: columns.json("detail")?,
        attempts: columns.number("attempts")?,
        created_at: columns.time("created_at")?,
    })
}

pub(crate) fn proposal(row: &SqliteRow) -> Result<Proposal, StoreError> {
    let columns = Columns(row);
    Ok(Proposal {
        id: columns.parsed("id")?,
        repository: columns.parsed("repository")?,
        number: columns.number("number")?,
        key: columns.raw("key")?,
        provenance: columns.json_if("provenance")?,
        title: columns.text("title")?,
        body: columns.text("body")?,
        base: columns.parsed("base")?,
        branch: columns.parsed("branch")?,
        head: columns.parsed("head")?,
        draft: columns.raw("draft")?,
        labels: columns.json("labels")?,
        status: columns.json("detail")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

pub(crate) fn comment(row: &SqliteRow) -> Result<Comment, StoreError> {
    let columns = Columns(row);
    Ok(Comment {
        id: columns.parsed("id")?,
        repository: columns.parsed("repository")?,
        target: columns.json("target")?,
        key: columns.text("key")?,
        author: columns.json("author")?,
        body: columns.text("body")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

pub(crate) fn check(row: &SqliteRow) -> Result<Check, StoreError> {
    let columns = Columns(row);
    Ok(Check {
        id: columns.parsed("id")?,
        repository: columns.parsed("repository")?,
        commit: columns.parsed("commit_id")?,
        name: columns.text("name")?,
        author: columns.json("author")?,
        conclusion: columns.word("conclusion")?,
        summary: columns.text("summary")?,
        annotations: columns.json("annotations")?,
        created_at: columns.time("created_at")?,
    })
}

pub(crate) fn account(row: &SqliteRow) -> Result<Account, StoreError> {
    let columns = Columns(row);
    Ok(Account {
        id: columns.parsed("id")?,
        name: columns.text("name")?,
        role: role(&columns, "role")?,
        created_at: columns.time("created_at")?,
    })
}

pub(crate) fn token(row: &SqliteRow) -> Result<Token, StoreError> {
    let columns = Columns(row);
    Ok(Token {
        id: columns.parsed("id")?,
        account: columns.parsed("account")?,
        label: columns.text("label")?,
        hash: columns.digest("hash")?,
        role: role(&columns, "role")?,
        once: columns.raw("once")?,
        created_at: columns.time("created_at")?,
        expires_at: columns.time_if("expires_at")?,
        reach: columns.json_if("reach")?,
    })
}

fn role(columns: &Columns<'_>, name: &str) -> Result<Role, StoreError> {
    let word = columns.raw::<&str>(name)?;
    Role::parse(word).ok_or_else(|| unreadable(name, format!("`{word}` is not a role")))
}

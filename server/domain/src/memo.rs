//! Memos: what a daemon on a branch keeps from run to run, sealed. A variable is declared in its `state`; a
//! session is a model's conversation.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{MemoWriteId, RepositoryId, RunId};
use crate::name::{Branch, DaemonId, MemoName};
use crate::time::Timestamp;

/// The most variables of a daemon on a branch.
pub const MOST_VARIABLES: usize = 64;
/// The largest variable, bytes of JSON.
pub const LONGEST_VARIABLE: usize = 256 << 10;
/// The most that all variables of a daemon on a branch hold together, bytes of JSON.
pub const ALL_VARIABLES: usize = 1 << 20;
/// The most sessions of a daemon on a branch; beyond them, those unused for the longest time are forgotten.
pub const MOST_SESSIONS: usize = 1_000;
/// How much of a conversation is kept, bytes of JSON; older turns are left out.
pub const LONGEST_SESSION: usize = 400 << 10;
/// How long a session is kept that nobody uses.
pub const SESSION_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whose memos: a daemon's, on a branch. A fork has its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoOwner {
    /// Of which repository.
    pub repository: RepositoryId,
    /// Which daemon.
    pub daemon: DaemonId,
    /// On which branch.
    pub branch: Branch,
}

/// What a memo is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoKind {
    /// A variable of the daemon.
    Variable,
    /// A model's conversation.
    Session,
}

impl MemoKind {
    /// The word in tables and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Variable => "variable",
            Self::Session => "session",
        }
    }
}

impl FromStr for MemoKind {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "variable" => Ok(Self::Variable),
            "session" => Ok(Self::Session),
            _ => Err("write `variable` or `session`"),
        }
    }
}

/// One memo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoKey {
    /// Whose.
    pub owner: MemoOwner,
    /// What it is.
    pub kind: MemoKind,
    /// Its name.
    pub name: MemoName,
}

impl MemoKey {
    /// What a seal is bound to, so that what was sealed for one memo opens as no other. No two keys have
    /// the same: of the parts only the last may hold a line's end, and it holds none.
    pub fn bound(&self) -> Vec<u8> {
        let MemoOwner { repository, daemon, branch } = &self.owner;
        format!("memo\n{repository}\n{daemon}\n{branch}\n{}\n{}", self.kind.as_str(), self.name).into_bytes()
    }
}

/// Bytes that only the vault can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key opens it.
    pub key: String,
    /// The sealed bytes, in base64.
    #[serde(with = "as_text")]
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes by {})", self.bytes.len(), self.key)
    }
}

/// A memo as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memo {
    /// Which.
    pub key: MemoKey,
    /// This writing of it: another one whenever it is written.
    pub written: MemoWriteId,
    /// How many times it was written.
    pub version: u64,
    /// What is written.
    pub sealed: Sealed,
    /// How long that is, unsealed, bytes.
    pub size: usize,
    /// By whom.
    pub by: MemoAuthor,
    /// When.
    pub at: Timestamp,
}

/// Who wrote a memo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoAuthor {
    /// A run.
    Run(RunId),
    /// A person, by name.
    Person(String),
}

impl fmt::Display for MemoAuthor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(run) => run.fmt(f),
            Self::Person(name) => f.write_str(name),
        }
    }
}

/// What a memo must be so that it may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is: its writer has not read it.
    Anything,
    /// It is not there.
    Absent,
    /// It is this writing.
    Written(MemoWriteId),
}

impl Expected {
    /// What a reader found.
    pub const fn found(written: Option<MemoWriteId>) -> Self {
        match written {
            None => Self::Absent,
            Some(written) => Self::Written(written),
        }
    }

    /// Whether a memo is so.
    pub fn holds(self, written: Option<MemoWriteId>) -> bool {
        match self {
            Self::Anything => true,
            Self::Absent => written.is_none(),
            Self::Written(expected) => written == Some(expected),
        }
    }
}

/// A memo to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoWrite {
    /// Which.
    pub key: MemoKey,
    /// What it must be.
    pub expected: Expected,
    /// This writing.
    pub written: MemoWriteId,
    /// What is written.
    pub sealed: Sealed,
    /// How long that is, unsealed, bytes.
    pub size: usize,
    /// By whom.
    pub by: MemoAuthor,
    /// When.
    pub at: Timestamp,
}

/// What a stage read and set of its daemon's variables, for the run that goes on after it: sealed, as they
/// were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The variable.
    pub name: MemoName,
    /// Which writing of it; `None` for what it is at first.
    pub written: Option<MemoWriteId>,
    /// What is written there.
    pub sealed: Option<Sealed>,
}

mod as_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn every_key_is_bound_to_other_bytes() {
        let owner = |daemon: &str, branch: &str| MemoOwner {
            repository: RepositoryId::new(Uuid::from_u128(7)),
            daemon: daemon.parse().unwrap(),
            branch: branch.parse().unwrap(),
        };
        let key = |owner: MemoOwner, kind: MemoKind, name: &str| {
            MemoKey { owner, kind, name: name.parse().unwrap() }.bound()
        };
        let (main, fork) = (owner("a", "main"), owner("a", "main-b"));
        let all = std::collections::BTreeSet::from([
            key(main.clone(), MemoKind::Variable, "n"),
            key(main.clone(), MemoKind::Session, "n"),
            key(main, MemoKind::Variable, "n2"),
            key(fork, MemoKind::Variable, "n"),
            key(owner("b", "main"), MemoKind::Variable, "n"),
        ]);
        assert_eq!(all.len(), 5);
        assert!("two\nlines".parse::<MemoName>().is_err(), "it would be another key");
    }

    #[test]
    fn what_was_read_is_what_is_expected() {
        let [one, two] = [1, 2].map(|number| MemoWriteId::new(Uuid::from_u128(number)));
        for (expected, holds) in [
            (Expected::Anything, [true, true, true]),
            (Expected::found(None), [true, false, false]),
            (Expected::found(Some(one)), [false, true, false]),
        ] {
            assert_eq!([None, Some(one), Some(two)].map(|written| expected.holds(written)), holds);
        }
    }
}

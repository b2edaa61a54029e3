//! Revisions: a daemon at a commit of a branch. Every commit that changed a daemon makes one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{RepositoryId, RevisionId};
use crate::name::{Branch, Commit, DaemonId, Digest};
use crate::time::Timestamp;
use crate::trigger::Trigger;

/// A daemon at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Which.
    pub id: RevisionId,
    /// In which repository.
    pub repository: RepositoryId,
    /// Which daemon.
    pub daemon: DaemonId,
    /// On which branch.
    pub branch: Branch,
    /// At which commit; together with repository, daemon and branch it is unique.
    pub commit: Commit,
    /// What the commit made of the daemon.
    pub content: RevisionContent,
    /// When the server recorded it.
    pub created_at: Timestamp,
}

/// What a commit made of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum RevisionContent {
    /// It can run.
    Valid {
        /// The tree id of its directory.
        digest: Digest,
        /// Where its directory is, relative to the repository's root; empty for the root.
        directory: String,
        /// What its manifest says of it.
        summary: DaemonSummary,
        /// When it wants to run.
        triggers: Vec<Trigger>,
    },
    /// Its manifest is broken.
    Invalid {
        /// The tree id of its directory.
        digest: Digest,
        /// Where its directory is.
        directory: String,
        /// What is wrong, as shown to people, code frames and all.
        problems: String,
    },
    /// It is gone.
    Removed,
}

impl RevisionContent {
    /// The digest, when there is a directory.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::Valid { digest, .. } | Self::Invalid { digest, .. } => Some(digest),
            Self::Removed => None,
        }
    }
}

/// What a listing shows of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonSummary {
    /// The title that its author gave it.
    pub name: String,
    /// The author's label for the version.
    pub version: Option<String>,
    /// One sentence.
    pub description: Option<String>,
}

/// A daemon that was told to rest: nothing starts it by itself until it is told to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Which daemon.
    pub daemon: DaemonId,
    /// On which branch.
    pub branch: Branch,
    /// By whom.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

/// How a daemon fares (the words are Argo CD's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Health {
    /// It can run, and its last run did not fail.
    Healthy,
    /// Its last run failed, or its newest revision is invalid.
    Degraded,
    /// Triggers are off: it is on a fork, or somebody has paused it.
    Suspended,
    /// It is gone from the branch.
    Missing,
}

impl Health {
    /// The health of a daemon from what is known of it.
    pub fn of(
        content: &RevisionContent,
        role: crate::repository::BranchRole,
        last_run: Option<crate::run::RunStatus>,
        pause: Option<&Pause>,
    ) -> Self {
        use crate::repository::BranchRole;
        use crate::run::RunStatus;
        match (content, role, last_run) {
            (RevisionContent::Removed, ..) => Self::Missing,
            (RevisionContent::Invalid { .. }, ..) => Self::Degraded,
            (_, BranchRole::Fork | BranchRole::Ignored, _) => Self::Suspended,
            _ if pause.is_some() => Self::Suspended,
            (_, BranchRole::Deploy, Some(RunStatus::Failed | RunStatus::TimedOut)) => Self::Degraded,
            (_, BranchRole::Deploy, _) => Self::Healthy,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "Healthy",
            Self::Degraded => "Degraded",
            Self::Suspended => "Suspended",
            Self::Missing => "Missing",
        })
    }
}

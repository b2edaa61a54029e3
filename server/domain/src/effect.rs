//! Effects: changes wanted outside, stored with the state of the run that wants them and performed
//! afterwards, once each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{EffectId, RepositoryId, RunId};
use crate::name::{Branch, Commit, DaemonId, Digest};
use crate::time::Timestamp;

/// One change wanted outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Which.
    pub id: EffectId,
    /// In which repository.
    pub repository: RepositoryId,
    /// Who wants it.
    pub provenance: Provenance,
    /// Makes performing it twice the same as once: the same key finds the same comment, branch or
    /// check. Unique in the repository for what is edited in place, in the run for everything else.
    pub key: String,
    /// What is wanted.
    pub kind: EffectKind,
    /// How far it is.
    pub status: EffectStatus,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was wanted.
    pub created_at: Timestamp,
}

/// Who wants an effect: what every comment, proposal and check names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The run.
    pub run: RunId,
    /// The daemon.
    pub daemon: DaemonId,
    /// The commit that it ran.
    pub commit: Commit,
    /// The tree of its directory.
    pub digest: Digest,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EffectKind {
    /// Offer a change for merging; the same key updates the same one in place.
    CreatePullRequest {
        /// One line.
        title: String,
        /// Markdown.
        body: String,
        /// The branch to be changed.
        base: Branch,
        /// The branch to be made; deterministic, from daemon and key.
        branch: Branch,
        /// What the branch is to hold: a snapshot of the run's workspace.
        commit: Commit,
        /// Not ready for merging.
        draft: bool,
        /// Labels to put on.
        labels: Vec<String>,
        /// People to ask.
        reviewers: Vec<String>,
    },
    /// Say something.
    AddComment {
        /// Where.
        target: CommentTarget,
        /// Markdown.
        body: String,
        /// Whether the comment of the same key is edited in place.
        sticky: bool,
    },
    /// Report on a commit.
    CreateCheck {
        /// Which commit.
        commit: Commit,
        /// The name of the check.
        name: String,
        /// What came of it.
        conclusion: CheckConclusion,
        /// Markdown.
        summary: String,
        /// Remarks on lines.
        annotations: Vec<Annotation>,
    },
    /// Nothing, for a reason that is worth recording.
    Noop {
        /// The reason.
        reason: String,
    },
}

impl EffectKind {
    /// The word for it in manifests and messages.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::CreatePullRequest { .. } => "create-pull-request",
            Self::AddComment { .. } => "add-comment",
            Self::CreateCheck { .. } => "create-check",
            Self::Noop { .. } => "noop",
        }
    }
}

/// Where a comment goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "on")]
pub enum CommentTarget {
    /// Under a commit.
    Commit {
        /// Which.
        commit: Commit,
    },
    /// Under an issue, a pull request or a proposal.
    Thread {
        /// Its number.
        number: u64,
    },
}

impl fmt::Display for CommentTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commit { commit } => f.write_str(&commit.as_str()[..12]),
            Self::Thread { number } => write!(f, "#{number}"),
        }
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckConclusion {
    /// All is well.
    Success,
    /// Something is wrong.
    Failure,
    /// Neither.
    Neutral,
}

/// A remark on lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// The file, relative to the root.
    pub path: String,
    /// The first line, from 1.
    pub start_line: u32,
    /// The last line.
    pub end_line: u32,
    /// How grave.
    pub level: AnnotationLevel,
    /// What.
    pub message: String,
}

/// How grave a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnnotationLevel {
    /// For information.
    Notice,
    /// Worth mending.
    Warning,
    /// Wrong.
    Failure,
}

/// How far an effect is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum EffectStatus {
    /// Wanted by a fork: shown until someone promotes it.
    Staged,
    /// To be performed, not before `at`.
    Pending {
        /// The earliest moment.
        at: Timestamp,
    },
    /// Performed and verified.
    Done {
        /// What it became.
        receipt: Receipt,
    },
    /// Refused for good.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What an effect became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Where to look at it: a path on this server, or an address on the forge.
    pub url: Option<String>,
    /// One sentence: `opened proposal #3`.
    pub summary: String,
}

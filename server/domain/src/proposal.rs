//! What the built-in host keeps beside the commits: proposals (its pull requests), comments, checks.

use serde::{Deserialize, Serialize};

use crate::effect::{Annotation, Author, CheckConclusion, CommentTarget, Provenance};
use crate::id::{CheckId, CommentId, ProposalId, RepositoryId};
use crate::name::{Branch, Commit};
use crate::time::Timestamp;

/// A change offered for merging.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// Which.
    pub id: ProposalId,
    /// In which repository.
    pub repository: RepositoryId,
    /// Its number there; counted from 1.
    pub number: u64,
    /// The effect's key, when a run made it; an open proposal with the same key is updated in place.
    pub key: Option<String>,
    /// Who made it, when a run did.
    pub provenance: Option<Provenance>,
    /// One line.
    pub title: String,
    /// Markdown.
    pub body: String,
    /// The branch to be changed.
    pub base: Branch,
    /// The branch that holds the change.
    pub branch: Branch,
    /// Where that branch is.
    pub head: Commit,
    /// Not ready for merging.
    pub draft: bool,
    /// Labels on it.
    pub labels: Vec<String>,
    /// How far it is.
    pub status: ProposalStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// How far a proposal is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum ProposalStatus {
    /// Waiting for someone.
    Open,
    /// In the base branch.
    Merged {
        /// The commit that brought it there.
        commit: Commit,
        /// Who merged it.
        by: String,
    },
    /// Declined.
    Closed {
        /// Who closed it.
        by: String,
    },
}

impl ProposalStatus {
    /// The word in the store and the API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Merged { .. } => "merged",
            Self::Closed { .. } => "closed",
        }
    }
}

/// Something said.
#[derive(Debug, Clone, PartialEq)]
pub struct Comment {
    /// Which.
    pub id: CommentId,
    /// In which repository.
    pub repository: RepositoryId,
    /// Where.
    pub target: CommentTarget,
    /// The effect's key; unique in the repository.
    pub key: String,
    /// Who said it.
    pub author: Author,
    /// Markdown.
    pub body: String,
    /// When it was first said.
    pub created_at: Timestamp,
    /// When it was last edited.
    pub updated_at: Timestamp,
}

/// A report on a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Which.
    pub id: CheckId,
    /// In which repository.
    pub repository: RepositoryId,
    /// On which commit.
    pub commit: Commit,
    /// The name; unique on the commit.
    pub name: String,
    /// Who reports.
    pub author: Author,
    /// What came of it.
    pub conclusion: CheckConclusion,
    /// Markdown.
    pub summary: String,
    /// Remarks on lines.
    pub annotations: Vec<Annotation>,
    /// When.
    pub created_at: Timestamp,
}

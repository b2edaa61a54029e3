//! Repositories: where daemons live, and how the server's picture of them stands to git's.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::RepositoryId;
use crate::name::{Branch, Commit, ForgeName, RepositoryPath};
use crate::time::Timestamp;

/// A repository that the server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Which.
    pub id: RepositoryId,
    /// Under which name people and addresses find it.
    pub path: RepositoryPath,
    /// Where its commits come from.
    pub origin: Origin,
    /// The branch that `HEAD` names, the deploy branch unless `spellbook.yaml` says otherwise.
    pub default_branch: Branch,
    /// How the server's picture stands to git's.
    pub sync: Sync,
    /// When the server first knew it.
    pub created_at: Timestamp,
}

/// Where a repository's commits come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Origin {
    /// People push here: the built-in git host.
    Hosted,
    /// The server fetches from elsewhere.
    Watched {
        /// Where from; never with a credential in it.
        url: String,
        /// The name of the secret that opens it, when it is not public.
        credential: Option<crate::name::SecretName>,
        /// What it is on a forge that this server is known to: there it hears what happens, and may answer.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
    },
}

impl Origin {
    /// What the repository is on a forge.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Watched { place: Some(place), .. } => Some(place),
            Self::Hosted | Self::Watched { .. } => None,
        }
    }
}

/// A repository on a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The operator's name for the forge, as `github`.
    pub forge: ForgeName,
    /// Its path there, as it is now: `acme/app`. Forges allow other names than this server does.
    pub path: String,
    /// The forge's own number for it, which stays when it is renamed; another number under the same path is
    /// another repository.
    pub id: u64,
}

impl Place {
    /// What no two repositories of a server share.
    pub fn key(&self) -> String {
        format!("{}/{}", self.forge, self.id)
    }
}

/// The last time that the server compared its picture with git's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// What came of it.
    pub status: SyncStatus,
    /// Why it is not `Synced`, in words for the operator.
    pub message: Option<String>,
    /// When.
    pub checked_at: Option<Timestamp>,
    /// When to look again; only watched repositories are looked at.
    pub due_at: Option<Timestamp>,
    /// How many times in a row the origin could not be reached.
    pub failures: u32,
}

impl Sync {
    /// Before the first look.
    pub const NEVER: Self =
        Self { status: SyncStatus::OutOfSync, message: None, checked_at: None, due_at: None, failures: 0 };
}

/// How the server's picture stands to git's (the words are Argo CD's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SyncStatus {
    /// What git has is what the server runs.
    Synced,
    /// Git has moved on.
    OutOfSync,
    /// Git has something that cannot be deployed.
    Invalid,
    /// Git did not answer.
    Unreachable,
}

impl fmt::Display for SyncStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Synced => "Synced",
            Self::OutOfSync => "OutOfSync",
            Self::Invalid => "Invalid",
            Self::Unreachable => "Unreachable",
        })
    }
}

/// What a branch is to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BranchRole {
    /// Its daemons answer to triggers, and what they want is performed.
    Deploy,
    /// A fork: its own state, triggers off, what its daemons want is staged.
    Fork,
    /// Not looked at.
    Ignored,
}

/// A branch as the server last recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchHead {
    /// Which branch.
    pub branch: Branch,
    /// What it is to the server.
    pub role: BranchRole,
    /// Where it was.
    pub commit: Commit,
    /// Since when.
    pub moved_at: Timestamp,
}

//! Events: normalised facts that triggers are matched against, whatever forge they came from.

use serde::{Deserialize, Serialize};

use crate::id::{EventId, RepositoryId};
use crate::name::{Branch, Commit};
use crate::time::Timestamp;
use crate::value::Taint;

/// A fact about a repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Which.
    pub id: EventId,
    /// About which repository.
    pub repository: RepositoryId,
    /// What happened.
    pub kind: EventKind,
    /// The finer kind, in the forge's words (`opened`, `synchronize`, …).
    pub action: Option<String>,
    /// On which branch; for a pull request the branch it wants to change.
    pub branch: Option<Branch>,
    /// At which commit.
    pub commit: Option<Commit>,
    /// Which files changed.
    pub paths: Vec<String>,
    /// Who did it.
    pub actor: Actor,
    /// The labels on the thing.
    pub labels: Vec<String>,
    /// Whether it is a draft.
    pub draft: bool,
    /// The whole fact, as `${event…}` shows it.
    pub payload: serde_json::Value,
    /// Who could have written the payload.
    pub taint: Taint,
    /// How many daemons, each started by the one before, led here.
    pub depth: u32,
    /// When.
    pub occurred_at: Timestamp,
}

impl Event {
    /// The number of the issue or pull request that it is about.
    pub fn thread(&self) -> Option<u64> {
        ["/pull_request/number", "/issue/number", "/number"]
            .iter()
            .find_map(|at| self.payload.pointer(at)?.as_u64())
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Commits arrived on a branch.
    Push,
    /// A pull request or proposal changed.
    PullRequest,
    /// Someone commented.
    Comment,
    /// An issue changed.
    Issues,
    /// A label was put on something.
    Label,
    /// A release was published.
    Release,
    /// A suite of checks ended.
    CheckSuite,
    /// A clock struck.
    Schedule,
    /// A daemon's own endpoint was called.
    Webhook,
    /// Another daemon ended.
    Daemon,
    /// A person or a program asked.
    Manual,
}

impl EventKind {
    /// The word for it in manifests and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::PullRequest => "pull_request",
            Self::Comment => "comment",
            Self::Issues => "issues",
            Self::Label => "label",
            Self::Release => "release",
            Self::CheckSuite => "check_suite",
            Self::Schedule => "schedule",
            Self::Webhook => "webhook",
            Self::Daemon => "daemon",
            Self::Manual => "manual",
        }
    }
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The name to show.
    pub name: String,
    /// What they may do in the repository: `read`, `write`, `admin`, …
    pub role: Option<String>,
    /// Whether it is a program.
    pub bot: bool,
}

impl Actor {
    /// The server itself.
    pub fn server() -> Self {
        Self { name: "spellbook".to_owned(), role: None, bot: true }
    }
}

//! Effects: changes wanted outside, stored with the state of the run that wants them and performed
//! afterwards, once each.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{EffectId, RepositoryId, RunId};
use crate::name::{Branch, Commit, DaemonId, Digest, SecretName, Tag};
use crate::time::Timestamp;

/// One change wanted outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Which.
    pub id: EffectId,
    /// In which repository.
    pub repository: RepositoryId,
    /// Who wants it.
    pub author: Author,
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
#[serde(untagged)]
pub enum Author {
    /// A run.
    Run(Provenance),
    /// The server itself.
    Server {
        /// On which occasion.
        act: Act,
    },
}

impl Author {
    /// The run, when it is one.
    pub const fn run(&self) -> Option<RunId> {
        match self {
            Self::Run(provenance) => Some(provenance.run),
            Self::Server { .. } => None,
        }
    }

    /// All that is known of the run, when it is one.
    pub const fn provenance(&self) -> Option<&Provenance> {
        match self {
            Self::Run(provenance) => Some(provenance),
            Self::Server { .. } => None,
        }
    }

    /// Whether somebody who came later has spoken already. What was put off must not take a newer one back.
    pub fn is_outdated_by(&self, there: &Self) -> bool {
        matches!((self.run(), there.run()), (Some(ours), Some(theirs)) if theirs > ours)
    }
}

/// An occasion on which the server speaks for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// A command was seen.
    Receipt,
    /// A command is answered.
    Answer,
    /// What a pull request would change about daemons.
    Plan,
    /// A run failed and left nothing that says so.
    Report,
    /// How the daemons of a repository fare.
    Dashboard,
}

impl Act {
    /// The word for it in markers and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Answer => "answer",
            Self::Plan => "plan",
            Self::Report => "report",
            Self::Dashboard => "dashboard",
        }
    }
}

/// A run that wants an effect.
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
    /// Bring a change to the branch of the pull request that the run is about.
    PushToPullRequestBranch {
        /// Which pull request.
        number: u64,
        /// Its branch.
        branch: Branch,
        /// Where the branch was when the run began; anywhere else, nothing is pushed.
        from: Commit,
        /// Where it is to go: a commit above `from`.
        commit: Commit,
    },
    /// Open an issue.
    CreateIssue {
        /// One line.
        title: String,
        /// Markdown.
        body: String,
        /// Labels to put on.
        labels: Vec<String>,
        /// Who is to care for it.
        assignees: Vec<String>,
        /// Whether the open issue of the same key is edited in place.
        sticky: bool,
    },
    /// Change an issue or a pull request; what is absent stays as it is.
    UpdateIssue {
        /// Its number.
        number: u64,
        /// One line.
        title: Option<String>,
        /// Markdown.
        body: Option<String>,
        /// Whether it is open.
        state: Option<IssueState>,
    },
    /// Close the open issue of the same key, which says this from then on.
    CloseIssue {
        /// Markdown.
        body: String,
    },
    /// Put labels on an issue or a pull request.
    AddLabels {
        /// Its number.
        number: u64,
        /// Which.
        labels: Vec<String>,
    },
    /// Take labels off: a trigger's label is removed once it is taken.
    RemoveLabels {
        /// The number of the issue or pull request.
        number: u64,
        /// Which.
        labels: Vec<String>,
    },
    /// Ask people to review a pull request.
    AddReviewers {
        /// Its number.
        number: u64,
        /// Accounts; `org/team` is a team.
        reviewers: Vec<String>,
    },
    /// Put a status on a commit.
    SetStatus {
        /// Which commit.
        commit: Commit,
        /// The name of the status.
        context: String,
        /// How it stands.
        state: StatusState,
        /// One line.
        description: String,
        /// Where to read more.
        url: Option<String>,
    },
    /// Publish a release; the tag is made when it is not there.
    CreateRelease {
        /// The tag.
        tag: Tag,
        /// Which commit it names.
        commit: Commit,
        /// The title.
        name: String,
        /// Markdown.
        body: String,
        /// Not published yet.
        draft: bool,
        /// Not for everybody.
        prerelease: bool,
    },
    /// Keep files of the workspace for people.
    UploadArtifact {
        /// What the daemon calls them.
        name: String,
        /// The snapshot that holds them.
        commit: Commit,
        /// Which.
        files: Vec<ArtifactFile>,
        /// Until when; as long as the run, when it is not said.
        until: Option<Timestamp>,
    },
    /// Call an address, signed.
    CallWebhook {
        /// Where to.
        url: String,
        /// The hosts that the daemon may reach.
        allowed: Vec<String>,
        /// The name of the secret that signs the call.
        secret: Option<SecretName>,
        /// Headers, in order.
        headers: Vec<(String, String)>,
        /// JSON.
        body: String,
    },
    /// Put a reaction on a comment.
    React {
        /// The comment.
        comment: CommentRef,
        /// Which.
        reaction: Reaction,
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
            Self::PushToPullRequestBranch { .. } => "push-to-pull-request-branch",
            Self::CreateIssue { .. } => "create-issue",
            Self::UpdateIssue { .. } => "update-issue",
            Self::CloseIssue { .. } => "close-issue",
            Self::AddLabels { .. } => "add-labels",
            Self::RemoveLabels { .. } => "remove-labels",
            Self::AddReviewers { .. } => "add-reviewers",
            Self::SetStatus { .. } => "set-status",
            Self::CreateRelease { .. } => "create-release",
            Self::UploadArtifact { .. } => "upload-artifact",
            Self::CallWebhook { .. } => "call-webhook",
            Self::React { .. } => "react",
            Self::Noop { .. } => "noop",
        }
    }
}

/// A file that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// Its path in the workspace.
    pub path: String,
    /// How long it is.
    pub bytes: u64,
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

/// A comment on a forge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentRef {
    /// Its number there.
    pub id: u64,
    /// Which list of the forge it is in.
    pub kind: CommentKind,
    /// The issue or pull request that it is under.
    pub thread: u64,
}

/// Where a comment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommentKind {
    /// In the conversation of an issue or a pull request.
    Issue,
    /// At a line of a pull request's change.
    Review,
}

/// A sign on a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// It was seen.
    Eyes,
    /// It went well.
    Rocket,
    /// It did not.
    Confused,
}

impl Reaction {
    /// The word for it on forges.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eyes => "eyes",
            Self::Rocket => "rocket",
            Self::Confused => "confused",
        }
    }
}

/// Whether an issue is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IssueState {
    /// It is.
    Open,
    /// It is not.
    Closed,
}

impl IssueState {
    /// The word for it, the same on all forges.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// How the status of a commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusState {
    /// Not known yet.
    Pending,
    /// Well.
    Success,
    /// Not well.
    Failure,
    /// Something went wrong on the way.
    Error,
}

impl StatusState {
    /// The word for it, the same on all forges.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
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
        /// How often it failed. To be put off, or to be cut short when the server ends, is no failure.
        #[serde(default)]
        failures: u32,
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

impl EffectStatus {
    /// To be performed, not before a moment, and not tried yet.
    pub const fn wanted(at: Timestamp) -> Self {
        Self::Pending { at, failures: 0 }
    }
}

/// What an effect became.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Where to look at it: a path on this server, or an address on the forge.
    pub url: Option<String>,
    /// One sentence: `opened proposal #3`.
    pub summary: String,
    /// What was written, part by part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<Written>,
}

impl Receipt {
    /// It became something that says nothing, or nothing that can be looked at.
    pub fn new(url: Option<String>, summary: impl Into<String>) -> Self {
        Self { url, summary: summary.into(), written: Vec::new() }
    }

    /// A text stands where it can be looked at.
    #[must_use]
    pub fn says(self, text: &str) -> Self {
        let url = self.url.clone();
        self.saying(url, text)
    }

    /// A text stands at an address; without an address nobody will find it.
    #[must_use]
    pub fn saying(mut self, url: Option<String>, text: &str) -> Self {
        self.written.extend(url.map(|url| Written { url, print: print(text) }));
        self
    }
}

/// A text that was written, by which it is known again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Where it stands.
    pub url: String,
    /// Its fingerprint.
    pub print: String,
}

/// The fingerprint of a text: SHA-256, whatever a forge does to the ends of its lines and to its own end.
pub fn print(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    hex::encode(Sha256::digest(text.trim_end().as_bytes()))
}

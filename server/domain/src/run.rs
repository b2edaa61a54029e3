//! The life of a run: `queued → running → (waiting) → ended`, and who may move it along.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Actor, EventKind};
use crate::id::{EventId, RepositoryId, RunId, WorkerId};
use crate::money::NanoUsd;
use crate::name::{Branch, Commit, DaemonId, Digest};
use crate::time::Timestamp;

/// One execution of a daemon at a commit, for an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// Of which repository.
    pub repository: RepositoryId,
    /// Which daemon.
    pub daemon: DaemonId,
    /// From which branch.
    pub branch: Branch,
    /// At which commit; the run keeps it even when the branch moves on.
    pub commit: Commit,
    /// The daemon's tree at that commit.
    pub digest: Digest,
    /// What it works on, when that is not the daemon's own commit.
    pub subject: Option<Subject>,
    /// Why it exists.
    pub cause: Cause,
    /// The inputs given, by name.
    pub inputs: serde_json::Map<String, serde_json::Value>,
    /// Whether what it wants is performed or only shown.
    pub effects: EffectMode,
    /// Where it is.
    pub state: RunState,
    /// How many times a worker took it up; the number of the last attempt is its fencing token.
    pub attempt: u32,
    /// Who asked to end it, if someone did.
    pub cancel_requested: Option<String>,
    /// Whether that was asked more than once: then nothing cleans up any more.
    pub cancel_insisted: bool,
    /// What its models cost so far.
    pub cost: NanoUsd,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When a worker first took it up.
    pub started_at: Option<Timestamp>,
    /// How long workers were at it in attempts that are over. One that died counts until its lease lapsed.
    pub worked: Duration,
}

impl Run {
    /// Whether it works on a stranger's pull request.
    pub fn is_for_stranger(&self) -> bool {
        self.subject.as_ref().is_some_and(|subject| subject.standing == Standing::Stranger)
    }

    /// The commit that it works on.
    pub fn start(&self) -> &Commit {
        self.subject.as_ref().map_or(&self.commit, |subject| &subject.commit)
    }
}

/// A pull request that a run works on. The daemon itself comes from the branch that it is deployed on,
/// whatever the pull request makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its number.
    pub number: u64,
    /// Its newest commit when the run was wanted.
    pub commit: Commit,
    /// Its branch.
    pub branch: Branch,
    /// The branch that it wants to change.
    pub base: Branch,
    /// Whose work it is.
    pub standing: Standing,
}

/// Whose work a run works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// That of people who may write here: its branch is in this repository.
    Member,
    /// Somebody else's: secrets stay away, and nothing is written but comments and checks.
    Stranger,
}

/// What is to be run, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Of which repository.
    pub repository: RepositoryId,
    /// Which daemon.
    pub daemon: DaemonId,
    /// From which branch.
    pub branch: Branch,
    /// At which commit.
    pub commit: Commit,
    /// The daemon's tree at that commit.
    pub digest: Digest,
    /// What it works on, when that is not the daemon's own commit.
    pub subject: Option<Subject>,
    /// Why.
    pub cause: Cause,
    /// The inputs given, by name.
    pub inputs: serde_json::Map<String, serde_json::Value>,
    /// Whether what it wants is performed or only shown.
    pub effects: EffectMode,
}

impl Order {
    /// The run, queued, that a worker may take up from `ready_at` on.
    pub fn queued(self, id: RunId, now: Timestamp, ready_at: Timestamp) -> Run {
        Run {
            id,
            repository: self.repository,
            daemon: self.daemon,
            branch: self.branch,
            commit: self.commit,
            digest: self.digest,
            subject: self.subject,
            cause: self.cause,
            inputs: self.inputs,
            effects: self.effects,
            state: RunState::Queued { ready_at },
            attempt: 0,
            cancel_requested: None,
            cancel_insisted: false,
            cost: NanoUsd::ZERO,
            created_at: now,
            started_at: None,
            worked: Duration::ZERO,
        }
    }
}

/// Why a run exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The event; `None` for a run without a server.
    pub event: Option<EventId>,
    /// The kind of that event.
    pub kind: EventKind,
    /// Who made it happen.
    pub actor: Actor,
    /// The run and stage that called this daemon.
    pub parent: Option<ParentStage>,
    /// The run that this one takes up again, and where.
    pub replay: Option<Replay>,
}

/// A stage of another run that waits for this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentStage {
    /// The run.
    pub run: RunId,
    /// The stage's path in it.
    pub stage: String,
}

/// A run taken up again from one of its stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The run.
    pub of: RunId,
    /// The first stage to run anew; `None` runs everything anew.
    pub from_stage: Option<String>,
    /// A model or agent to use in place of that stage's own.
    pub agent: Option<String>,
}

/// Whether what a run wants is performed or only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectMode {
    /// Performed.
    Perform,
    /// Shown, and performed only when someone promotes it: a fork's runs.
    Stage,
}

/// Where a run is, with the data that belongs to that place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// Waiting for a worker, not before `ready_at`.
    Queued {
        /// The earliest moment.
        ready_at: Timestamp,
    },
    /// A worker has it.
    Running {
        /// The worker's claim.
        lease: Lease,
    },
    /// Waiting for the runs that its stages called.
    Waiting,
    /// It has ended, once and for ever.
    Ended {
        /// How.
        outcome: RunOutcome,
        /// When.
        at: Timestamp,
    },
}

impl RunState {
    /// The state without its data.
    pub fn status(&self) -> RunStatus {
        match self {
            Self::Queued { .. } => RunStatus::Queued,
            Self::Running { .. } => RunStatus::Running,
            Self::Waiting => RunStatus::Waiting,
            Self::Ended { outcome, .. } => outcome.status(),
        }
    }
}

/// A worker's timed claim on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who has it.
    pub worker: WorkerId,
    /// The attempt that it is for: the fencing token. A write under an older one is refused.
    pub attempt: u32,
    /// When it lapses unless renewed.
    pub until: Timestamp,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum RunOutcome {
    /// Every stage that had to succeed did.
    Succeeded,
    /// A stage failed.
    Failed {
        /// What, for the person who reads the report.
        failure: Failure,
    },
    /// The run or a stage took longer than it may.
    TimedOut {
        /// Which limit.
        failure: Failure,
    },
    /// Someone ended it.
    Cancelled {
        /// Who.
        by: String,
    },
    /// There was nothing to do, or it may not run. Neutral, never green.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl RunOutcome {
    /// The end of a run that had not begun when one for a newer event came.
    pub fn replaced_by(newer: RunId) -> Self {
        Self::Skipped { reason: format!("`debounce`: {newer} is for a newer event and takes its place") }
    }

    /// The status of a run that ended so.
    pub fn status(&self) -> RunStatus {
        match self {
            Self::Succeeded => RunStatus::Succeeded,
            Self::Failed { .. } => RunStatus::Failed,
            Self::TimedOut { .. } => RunStatus::TimedOut,
            Self::Cancelled { .. } => RunStatus::Cancelled,
            Self::Skipped { .. } => RunStatus::Skipped,
        }
    }

    /// One sentence for people; `None` when all went well.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Succeeded => None,
            Self::Failed { failure } | Self::TimedOut { failure } => Some(failure.to_string()),
            Self::Cancelled { by } => Some(format!("cancelled by {by}")),
            Self::Skipped { reason } => Some(reason.clone()),
        }
    }
}

/// Why something failed: a stable code, and words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `out_of_memory`, `exit_status`, `model_unavailable`, …: stable, for programs.
    pub code: String,
    /// The stage that failed, when it was one.
    pub stage: Option<String>,
    /// What happened and what to do, for people.
    pub message: String,
}

impl Failure {
    /// A failure of no particular stage.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), stage: None, message: message.into() }
    }

    /// The same failure, of a stage.
    #[must_use]
    pub fn at(mut self, stage: &str) -> Self {
        self.stage = Some(stage.to_owned());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Some(stage) => write!(f, "{stage}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Where a run is, for filters and pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waiting for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Waiting for other runs.
    Waiting,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Took too long.
    TimedOut,
    /// Ended by someone.
    Cancelled,
    /// Did not have to, or may not, run.
    Skipped,
}

impl RunStatus {
    /// All of them, in the order of a run's life.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Waiting,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
        Self::Skipped,
    ];

    /// The word in the store and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// The status that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Waiting)
    }

    /// Whether a run may go from here to `next`. A final status is never left.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            // A queued run may end unrun: cancelled, or skipped for its concurrency group.
            Self::Queued => matches!(next, Self::Running | Self::Cancelled | Self::Skipped),
            // A running run may be put back: its worker stopped, or its lease lapsed.
            Self::Running => !matches!(next, Self::Running),
            Self::Waiting => matches!(next, Self::Queued | Self::Cancelled),
            Self::Succeeded | Self::Failed | Self::TimedOut | Self::Cancelled | Self::Skipped => false,
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many runs of a group go at once, and what becomes of the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// Runs of the same repository with the same key share the limit.
    pub key: String,
    /// How many at once, at least one.
    pub limit: u32,
    /// What becomes of a run that finds the group full.
    pub behavior: ConcurrencyBehavior,
}

/// What becomes of a run that finds its group full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConcurrencyBehavior {
    /// It waits its turn.
    #[default]
    Queue,
    /// The older ones are cancelled.
    Cancel,
    /// It is skipped, with the reason.
    Fail,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_run_stays_ended() {
        for status in RunStatus::ALL.into_iter().filter(|status| status.is_final()) {
            for next in RunStatus::ALL {
                assert!(!status.may_become(next), "{status} may become {next}");
            }
        }
    }

    #[test]
    fn every_run_can_end() {
        for status in RunStatus::ALL.into_iter().filter(|status| !status.is_final()) {
            assert!(status.may_become(RunStatus::Cancelled), "{status} cannot be cancelled");
        }
    }

    #[test]
    fn every_word_is_read_back() {
        for status in RunStatus::ALL {
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
    }
}

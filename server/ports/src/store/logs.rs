//! What runs write while they run.

use async_trait::async_trait;
use domain::id::RunId;
use domain::stage::StagePath;
use domain::time::Timestamp;

use super::{Fenced, LeaseProof, StoreError};

/// The logs of runs that are under way; the log of an ended run is one object.
#[async_trait]
pub trait Logs {
    /// Adds lines and numbers them on from the last one of the run.
    async fn log_append(&self, proof: &LeaseProof, lines: &[NewLine]) -> Result<Fenced, StoreError>;

    /// Lines after a number, in order, at most so many.
    async fn log_read(&self, run: RunId, after: u64, most: u32) -> Result<Vec<LogLine>, StoreError>;

    /// Forgets the lines of a run: its log is an object now.
    async fn log_remove(&self, run: RunId) -> Result<(), StoreError>;
}

/// A line to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    /// Which stage wrote it.
    pub stage: StagePath,
    /// Where to.
    pub source: LineSource,
    /// Text without the line's end.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its number in the run, from 1.
    pub number: u64,
    /// The line.
    pub line: NewLine,
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineSource {
    /// The program's standard output.
    Stdout,
    /// The program's standard error.
    Stderr,
    /// A model's answer.
    Model,
    /// The server, about the stage.
    Server,
}

impl LineSource {
    /// The word in the store and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Model => "model",
            Self::Server => "server",
        }
    }

    /// The source that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Stdout, Self::Stderr, Self::Model, Self::Server].into_iter().find(|s| s.as_str() == word)
    }
}

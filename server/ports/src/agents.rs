//! Coding agents: programs of others that work on a directory by themselves, with a model.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::run::Failure;

/// Where programs are found in a jail, each in a directory of its own, read-only.
pub const AGENTS: &str = "/opt/agents";

/// Knows coding agents, and has them there when they are needed.
#[async_trait]
pub trait Agents: fmt::Debug + Send + Sync {
    /// The names that a stage may ask for.
    fn names(&self) -> Vec<String>;

    /// A program, ready to be run in a jail. It is installed first where it is not there; whoever asks
    /// for the same one meanwhile waits for that, and it is installed once.
    ///
    /// # Errors
    /// When there is no such agent, or it cannot be installed.
    async fn prepare(&self, name: &str) -> Result<Arc<dyn Program>, AgentError>;
}

/// A program that is there.
pub trait Program: fmt::Debug + Send + Sync {
    /// The agent's name.
    fn name(&self) -> &str;

    /// The version that is there.
    fn version(&self) -> &str;

    /// The model that it asks when nobody says another.
    fn model(&self) -> &str;

    /// Calls of models that it makes besides one for each turn: titles, summaries.
    fn spare_calls(&self) -> u32;

    /// How it is run for a job.
    fn invoke(&self, job: &Job<'_>) -> Invocation;

    /// Reads what it writes on its standard output, from the first line on.
    fn listen(&self) -> Box<dyn Listener>;
}

/// What a program is to do.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The task.
    pub prompt: &'a str,
    /// The model to be asked, by the name that the proxy knows.
    pub model: &'a str,
    /// The address of the proxy, as in `http://127.0.0.1:8080`.
    pub proxy: &'a str,
    /// What it shows there instead of a key.
    pub token: &'a str,
    /// The directory in the jail that is its home.
    pub home: &'a str,
    /// The most turns with the model.
    pub turns: u32,
}

/// How a program is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What its environment has besides the jail's own.
    pub env: BTreeMap<String, String>,
    /// What it reads on its standard input.
    pub stdin: Bytes,
}

/// Hears what a program says.
pub trait Listener: fmt::Debug + Send {
    /// Takes one line of its output; gives what of it people are to read.
    fn line(&mut self, line: &str) -> Vec<String>;

    /// What came of it: how the program exited, and the end of its standard error.
    fn end(self: Box<Self>, exit: i32, stderr: &str) -> Heard;
}

/// What a program said, all in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Its last word.
    pub message: Option<String>,
    /// What it calls the conversation.
    pub session: Option<String>,
    /// Why it did not do what it was asked for: `cost_limit`, `turns_limit`, `agent_auth_failed`,
    /// `model_refused`, `agent_failed`, …
    pub failure: Option<Failure>,
}

/// A program is not to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentError {
    /// Nobody knows an agent of that name.
    #[error("there is no coding agent `{name}`; there are {}", known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names that are known.
        known: Vec<String>,
    },
    /// It is known and off.
    #[error("the coding agent `{name}` is off: {why}")]
    Off {
        /// The agent.
        name: String,
        /// Why, and what turns it on.
        why: String,
    },
    /// It has to be brought by the operator.
    #[error("the coding agent `{name}` is not installed: {why}")]
    NotInstalled {
        /// The agent.
        name: String,
        /// What to do.
        why: String,
    },
    /// It could not be installed. Trying again may help.
    #[error("the coding agent `{name}` could not be installed: {why}")]
    InstallFailed {
        /// The agent.
        name: String,
        /// What the installer said last.
        why: String,
    },
}

impl AgentError {
    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "agent_unknown",
            Self::Off { .. } => "agent_off",
            Self::NotInstalled { .. } => "agent_not_installed",
            Self::InstallFailed { .. } => "agent_install_failed",
        }
    }
}

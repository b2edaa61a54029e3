//! Stages: one file a type. A stage takes what it needs from [`At`] and says what came of it; the
//! journal, the graph and the order of things are [`crate::execution`]'s.

mod agent;
mod ask;
mod attachments;
mod daemon;
mod excerpt;
mod foreach;
mod http;
mod hybrid;
mod image;
mod jail;
mod prompt;
mod rules;
mod script;
mod servers;
mod tools;
mod trial;
mod worker;

use domain::run::Failure;
use domain::stage::{StagePath, StageUsage};
use domain::value::{Taint, Value};
use manifest::expression::{EvaluationError, JsonTemplate, Template};
use manifest::model::{Stage, StageKind};
use ports::Retry;
use ports::store::logs::LineSource;
use ports::store::runs::NewRun;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::execution::Execution;
use crate::session::Said;
use crate::stop::Turn;
use crate::workspace::Work;

pub(crate) use trial::{tried, wait_before};

/// Where a stage stands when it runs.
#[derive(Debug)]
pub(crate) struct At<'a> {
    /// The run that it is part of.
    pub(crate) run: &'a Execution<'a>,
    /// The stage as declared.
    pub(crate) stage: &'a Stage,
    /// Where it stands in the run.
    pub(crate) path: &'a StagePath,
    /// What it knows.
    pub(crate) context: &'a Context,
    /// What it may do.
    pub(crate) turn: Turn,
    /// Ends it early: time is up, or someone ended the run.
    pub(crate) cancel: CancellationToken,
}

/// What came of running a stage once.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It ran.
    Made(Box<Made>),
    /// It waits for runs; these are to be queued, unless they are under way already.
    Waits(Vec<NewRun>),
}

/// What a stage made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// What it hands on, or why it failed; what a failed stage printed is kept beside the failure.
    pub(crate) result: Option<Value>,
    /// Why it failed.
    pub(crate) trouble: Option<Trouble>,
    /// What it used.
    pub(crate) usage: StageUsage,
    /// What it left in the workspace.
    pub(crate) work: Option<Work>,
    /// Whether stages inside it left the workspace another than at the run's start.
    pub(crate) changed: Option<bool>,
    /// The conversation that it was in, when that is kept.
    pub(crate) said: Option<Said>,
}

/// Why a stage failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) failure: Failure,
    /// Whether the failure is that time was up.
    pub(crate) timed_out: bool,
    pub(crate) retry: Retry,
}

impl Made {
    /// It succeeded.
    pub(crate) fn value(value: Value) -> Self {
        Self { result: Some(value), ..Self::default() }
    }

    /// It failed for good.
    pub(crate) fn failed(failure: Failure) -> Self {
        Self { trouble: Some(failure.into()), ..Self::default() }
    }

    /// The same, having used this.
    pub(crate) fn using(mut self, usage: StageUsage) -> Self {
        self.usage = usage;
        self
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self { failure, timed_out: false, retry: Retry::Never }
    }
}

impl From<EvaluationError> for Trouble {
    fn from(error: EvaluationError) -> Self {
        Failure::new("expression_failed", error.to_string()).into()
    }
}

impl From<Trouble> for Made {
    fn from(trouble: Trouble) -> Self {
        Self { trouble: Some(trouble), ..Self::default() }
    }
}

/// Runs a stage once.
pub(crate) async fn run(at: &At<'_>) -> Ended {
    match &at.stage.kind {
        StageKind::Script(stage) => script::run(stage, at).await.into(),
        StageKind::Prompt(stage) if !(stage.tools.is_empty() && stage.mcp.is_empty()) => {
            worker::ask(stage, at).await.into()
        }
        StageKind::Prompt(stage) => prompt::run(stage, at).await.into(),
        StageKind::Hybrid(stage) => hybrid::run(stage, at).await.into(),
        StageKind::Http(stage) => http::run(stage, at).await.into(),
        StageKind::Rules(rules) => rules::decide(rules, at).into(),
        StageKind::Daemon(stage) => daemon::run(stage, at).await,
        StageKind::Foreach(stage) => foreach::run(stage, at).await,
        StageKind::Agent(stage) if is_program(&stage.task.agent, at) => agent::run(stage, at).await.into(),
        StageKind::Agent(stage) => worker::run(stage, at).await.into(),
        StageKind::Image(stage) => image::run(stage, at).await.into(),
        StageKind::Approval(_) => unsupported(&at.stage.kind).into(),
    }
}

/// Whether a name is a coding agent's; otherwise it is a model's.
fn is_program(name: &str, at: &At<'_>) -> bool {
    manifest::CODING_AGENTS.contains(&name) || at.run.world.agents.names().iter().any(|known| known == name)
}

/// A run with such a stage is refused before it begins; a journal of an older version may hold one.
fn unsupported(kind: &StageKind) -> Made {
    let message = format!("this version cannot run stages of type `{}`", kind.as_str());
    Made::failed(Failure::new("stage_unsupported", message))
}

impl From<Made> for Ended {
    fn from(made: Made) -> Self {
        Self::Made(Box::new(made))
    }
}

impl At<'_> {
    /// A line about the stage, from the server.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.run.log.line(self.path, LineSource::Server, text.into());
    }

    /// The text of a template and who could have written it; nothing for no template.
    pub(crate) fn text(
        &self,
        template: Option<&Template>,
    ) -> Result<Option<(String, Taint)>, EvaluationError> {
        template
            .map(|template| template.evaluate(self.context).map(|value| (value.text(), value.taint)))
            .transpose()
    }

    /// The value of a JSON template.
    pub(crate) fn json(&self, template: &JsonTemplate) -> Result<Value, EvaluationError> {
        template.evaluate(self.context)
    }
}

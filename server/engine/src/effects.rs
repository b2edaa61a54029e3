//! From a manifest's `outcomes:` to effects: what a run that ended wants done, checked before it is
//! stored. What may not be done is stored too, refused with its reason, so that nobody wonders.

mod artifacts;
mod changes;
mod outbound;
mod reports;
mod words;

use domain::effect::{Act, Author, Effect, EffectKind, EffectStatus};
use domain::event::Event;
use domain::id::{EffectId, RepositoryId};
use domain::name::NameError;
use domain::run::EffectMode;
use manifest::expression::{EvaluationError, RunSoFar};
use manifest::model::{OutcomeKind, OutcomeSpec};
use serde_json::Value as Json;

use crate::context::Context;
use crate::effects::outbound::Outbound;
use crate::execution::Execution;
use crate::report;
use crate::world::World;

/// The longest key, characters.
const LONGEST_KEY: usize = 80;
/// The longest title, characters.
const LONGEST_TITLE: usize = 200;

/// Why an outcome makes no effect that is to be performed.
#[derive(Debug)]
enum Unwanted {
    /// There is nothing to do.
    Nothing(String),
    /// It may not be done.
    Refused(String),
}

impl From<EvaluationError> for Unwanted {
    fn from(error: EvaluationError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<NameError> for Unwanted {
    fn from(error: NameError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Something that the server wants by itself.
pub(crate) fn own(
    world: &World,
    repository: RepositoryId,
    act: Act,
    key: String,
    kind: EffectKind,
) -> Effect {
    let now = world.clock.now();
    Effect {
        id: EffectId::new(world.clock.unique()),
        repository,
        author: Author::Server { act },
        key,
        kind,
        status: EffectStatus::wanted(now),
        attempts: 0,
        created_at: now,
    }
}

/// What a run wants done, in the manifest's order. Of a run that failed, only what asks for that
/// (`if: failure()`, `if: always()`).
pub(crate) async fn wanted(
    execution: &Execution<'_>,
    context: &Context,
    event: Option<&Event>,
) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    if execution.manifest.outcomes.is_empty() {
        return effects;
    }
    let outbound = Outbound::of(execution, event).await;
    for (index, outcome) in execution.manifest.outcomes.iter().enumerate() {
        let asks_status =
            outcome.condition.as_ref().is_some_and(manifest::expression::Expression::asks_status);
        if context.status != RunSoFar::Success && !asks_status {
            continue;
        }
        let stated = match outcome.condition.as_ref().map(|condition| condition.holds(context)) {
            Some(Ok(false)) => continue,
            Some(Err(error)) => Err(error.into()),
            None | Some(Ok(true)) => {
                Wish { outcome, index, execution, context, event, outbound: &outbound }.effect().await
            }
        };
        let (key, kind, status) = match stated {
            Ok((key, kind)) => (key, kind, status(execution)),
            Err(Unwanted::Nothing(reason)) => {
                let receipt = domain::effect::Receipt::new(None, reason.clone());
                (run_key(execution, index), EffectKind::Noop { reason }, EffectStatus::Done { receipt })
            }
            Err(Unwanted::Refused(reason)) => {
                let reason = format!("{}: {reason}", outcome.kind.as_str());
                let kind = EffectKind::Noop { reason: reason.clone() };
                (run_key(execution, index), kind, EffectStatus::Refused { reason })
            }
        };
        effects.push(Effect {
            id: EffectId::new(execution.world.clock.unique()),
            repository: execution.run.repository,
            author: Author::Run(report::provenance(execution.run)),
            key,
            kind,
            status,
            attempts: 0,
            created_at: execution.world.clock.now(),
        });
    }
    effects
}

fn status(execution: &Execution<'_>) -> EffectStatus {
    match execution.run.effects {
        EffectMode::Perform => EffectStatus::wanted(execution.world.clock.now()),
        EffectMode::Stage => EffectStatus::Staged,
    }
}

/// A key that no other run has.
fn run_key(execution: &Execution<'_>, index: usize) -> String {
    format!("{}/{index}", execution.run.id)
}

/// An outcome of a manifest, at the end of a run.
struct Wish<'a> {
    outcome: &'a OutcomeSpec,
    index: usize,
    execution: &'a Execution<'a>,
    context: &'a Context,
    event: Option<&'a Event>,
    outbound: &'a Outbound,
}

impl Wish<'_> {
    async fn effect(&self) -> Result<(String, EffectKind), Unwanted> {
        self.check_standing()?;
        match self.outcome.kind {
            OutcomeKind::CreatePullRequest => self.pull_request().await,
            OutcomeKind::PushToPullRequestBranch => self.push_to_branch().await,
            OutcomeKind::AddComment => self.comment(),
            OutcomeKind::CreateIssue => self.issue(),
            OutcomeKind::UpdateIssue => self.issue_update(),
            OutcomeKind::AddLabels => self.labels(),
            OutcomeKind::AddReviewers => self.reviewers(),
            OutcomeKind::CreateRelease => self.release(),
            OutcomeKind::CreateCheck => self.check(),
            OutcomeKind::SetStatus => self.commit_status(),
            OutcomeKind::CallWebhook => self.webhook(),
            OutcomeKind::UploadArtifact => self.artifact().await,
            OutcomeKind::Noop => {
                Err(Unwanted::Nothing(self.text("reason")?.unwrap_or_else(|| "nothing to do".to_owned())))
            }
        }
    }

    /// What a stranger sent may be talked about, and nothing else.
    fn check_standing(&self) -> Result<(), Unwanted> {
        let is_strange = self.execution.run.is_for_stranger();
        match self.outcome.kind {
            OutcomeKind::AddComment | OutcomeKind::CreateCheck | OutcomeKind::Noop => Ok(()),
            _ if !is_strange => Ok(()),
            _ => Err(Unwanted::Refused(
                "the run works on a stranger's pull request, after which only comments and checks are made"
                    .to_owned(),
            )),
        }
    }

    /// What the author calls this, so that the next run finds it: fit for a branch's name.
    fn key(&self) -> Result<Option<String>, EvaluationError> {
        let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
        let key = self.text("key")?.map(|key| key.chars().map(fit).take(LONGEST_KEY).collect::<String>());
        Ok(key.filter(|key| !key.is_empty()))
    }

    /// A key for what only this run makes.
    fn run_key(&self) -> String {
        run_key(self.execution, self.index)
    }

    /// The number of the thread that the run is about.
    fn thread(&self) -> Option<u64> {
        let subject = self.execution.run.subject.as_ref().map(|subject| subject.number);
        subject.or_else(|| self.event?.thread())
    }

    /// The thread that is meant: `target: 12`, else the one that the run is about.
    fn number(&self) -> Result<u64, Unwanted> {
        match self.text("target")?.as_deref() {
            None | Some("triggering") => self.thread().ok_or_else(|| {
                Unwanted::Refused(
                    "the run is about no issue and no pull request; name one by `target`".to_owned(),
                )
            }),
            Some(text) => numbered(text),
        }
    }

    fn value(&self, field: &str) -> Result<Option<Json>, EvaluationError> {
        self.outcome
            .fields
            .get(field)
            .map(|template| template.evaluate(self.context).map(|value| value.json))
            .transpose()
    }

    fn text(&self, field: &str) -> Result<Option<String>, EvaluationError> {
        let value =
            self.outcome.fields.get(field).map(|template| template.evaluate(self.context)).transpose()?;
        Ok(value.filter(|value| !value.json.is_null()).map(|value| value.text()))
    }

    /// One line that others will read.
    fn line(&self, field: &str) -> Result<Option<String>, Unwanted> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        self.outbound.check(field, &text)?;
        Ok(Some(one_line(&text, LONGEST_TITLE)))
    }

    /// Markdown that others will read: without secrets, and harmless where somebody else had a hand in it.
    fn prose(&self, field: &str) -> Result<Option<String>, Unwanted> {
        let template = self.outcome.fields.get(field);
        let value = template.map(|template| template.evaluate(self.context)).transpose()?;
        let Some(value) = value.filter(|value| !value.json.is_null()) else { return Ok(None) };
        self.outbound.prose(field, &value.text(), value.taint).map(Some)
    }

    fn flag(&self, field: &str) -> Result<bool, EvaluationError> {
        let value =
            self.outcome.fields.get(field).map(|template| template.evaluate(self.context)).transpose()?;
        Ok(value.is_some_and(|value| manifest::expression::is_true(&value)))
    }

    fn list(&self, field: &str) -> Result<Vec<String>, Unwanted> {
        let Some(value) = self.value(field)? else { return Ok(Vec::new()) };
        let items: Vec<String> = match value {
            Json::Array(items) => {
                items.iter().filter_map(Json::as_str).map(|item| one_line(item, 100)).collect()
            }
            Json::String(item) => vec![one_line(&item, 100)],
            _ => Vec::new(),
        };
        for item in &items {
            self.outbound.check(field, item)?;
        }
        Ok(items.into_iter().filter(|item| !item.is_empty()).collect())
    }
}

/// The number of a thread, as people write it.
fn numbered(text: &str) -> Result<u64, Unwanted> {
    text.trim_start_matches('#').parse().map_err(|_| {
        Unwanted::Refused(format!("`target` is `{}`, not the number of a thread", one_line(text, 40)))
    })
}

fn one_line(text: &str, most: usize) -> String {
    text.replace(char::is_control, " ").trim().chars().take(most).collect()
}

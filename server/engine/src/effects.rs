//! From a manifest's `outcomes:` to effects: what a run that ended wants done, checked before it is
//! stored. What may not be done is stored too, refused with its reason, so that nobody wonders.

use domain::effect::{Annotation, Author, CheckConclusion, CommentTarget, Effect, EffectKind, EffectStatus};
use domain::event::Event;
use domain::id::EffectId;
use domain::name::Branch;
use domain::run::EffectMode;
use manifest::discover::Layout;
use manifest::expression::{EvaluationError, RunSoFar};
use manifest::model::{OutcomeKind, OutcomeSpec};
use manifest::protected::Protected;
use ports::source::{PathChange, SourceError, View};
use serde_json::Value as Json;

use crate::context::Context;
use crate::execution::Execution;
use crate::report;
use crate::survey;

/// The longest text of one effect, bytes; GitHub's own bound for a comment is 65,536 characters.
const LONGEST_BODY: usize = 60_000;
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

/// What a run wants done, in the manifest's order. Of a run that failed, only what asks for that
/// (`if: failure()`, `if: always()`).
pub(crate) async fn wanted(
    execution: &Execution<'_>,
    context: &Context,
    event: Option<&Event>,
) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    for (index, outcome) in execution.manifest.outcomes.iter().enumerate() {
        let asks_status =
            outcome.condition.as_ref().is_some_and(manifest::expression::Expression::asks_status);
        if context.status != RunSoFar::Success && !asks_status {
            continue;
        }
        let stated = match outcome.condition.as_ref().map(|condition| condition.holds(context)) {
            Some(Ok(false)) => continue,
            Some(Err(error)) => Err(error.into()),
            None | Some(Ok(true)) => Wish { outcome, index, execution, context, event }.effect().await,
        };
        let (key, kind, status) = match stated {
            Ok((key, kind)) => (key, kind, status(execution)),
            Err(Unwanted::Nothing(reason)) => {
                let receipt = domain::effect::Receipt { url: None, summary: reason.clone() };
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
        EffectMode::Perform => EffectStatus::Pending { at: execution.world.clock.now() },
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
}

impl Wish<'_> {
    async fn effect(&self) -> Result<(String, EffectKind), Unwanted> {
        match self.outcome.kind {
            OutcomeKind::CreatePullRequest => self.pull_request().await,
            OutcomeKind::AddComment => self.comment(),
            OutcomeKind::CreateCheck => self.check(),
            OutcomeKind::Noop => {
                Err(Unwanted::Nothing(self.text("reason")?.unwrap_or_else(|| "nothing to do".to_owned())))
            }
            OutcomeKind::PushToPullRequestBranch
            | OutcomeKind::CreateIssue
            | OutcomeKind::UpdateIssue
            | OutcomeKind::AddLabels
            | OutcomeKind::AddReviewers
            | OutcomeKind::SetStatus
            | OutcomeKind::CreateRelease
            | OutcomeKind::UploadArtifact
            | OutcomeKind::CallWebhook => {
                Err(Unwanted::Refused("the built-in host does not offer it".to_owned()))
            }
        }
    }

    async fn pull_request(&self) -> Result<(String, EffectKind), Unwanted> {
        let execution = self.execution;
        let run = execution.run;
        let tip = execution.workspace.tip().await;
        let changes = self.changes(&tip).await?;
        if changes.is_empty() {
            return Err(Unwanted::Nothing(
                "the run changed no file, so there is nothing to propose".to_owned(),
            ));
        }
        self.check_protected(&changes).await?;
        let base = match self.text("base")? {
            Some(text) => {
                text.parse().map_err(|error: domain::name::NameError| Unwanted::Refused(error.to_string()))?
            }
            None => run.branch.clone(),
        };
        let prefix = self.text("title_prefix")?.unwrap_or_default();
        let title = self.text("title")?.unwrap_or_else(|| format!("Changes by {}", execution.manifest.name));
        let title = one_line(&format!("{prefix}{title}"), LONGEST_TITLE);
        let subject =
            self.text("message")?.map_or_else(|| title.clone(), |text| one_line(&text, LONGEST_TITLE));
        let message = report::proposal_commit(&subject, run);
        let commit = execution.world.source.commit(ports::source::CommitSpec {
            repository: run.repository,
            parent: execution.workspace.start(),
            tree_of: &tip,
            message: &message,
            at: run.created_at,
        });
        let commit = commit.await.map_err(|error| Unwanted::Refused(error.to_string()))?;
        let name = self.key()?.unwrap_or_else(|| self.subject(&base));
        let branch = Branch::parse(format!("spellbook/{}/{name}", run.daemon))
            .map_err(|error| Unwanted::Refused(error.to_string()))?;
        let body = self.text("body")?.unwrap_or_default();
        let kind = EffectKind::CreatePullRequest {
            title,
            body: cut(body),
            base,
            branch,
            commit,
            draft: self.flag("draft")?,
            labels: self.list("labels")?,
            reviewers: self.list("reviewers")?,
        };
        Ok((format!("{}/{}/{name}", run.daemon, self.outcome.kind.as_str()), kind))
    }

    fn comment(&self) -> Result<(String, EffectKind), Unwanted> {
        let run = self.execution.run;
        let Some(body) = self.text("body")?.filter(|body| !body.trim().is_empty()) else {
            return Err(Unwanted::Nothing("there is nothing to say".to_owned()));
        };
        let target = self.target()?;
        let sticky = self.flag("sticky")?;
        let key = match (sticky, self.key()?) {
            (true, Some(key)) => format!("{}/comment/{key}", run.daemon),
            (true, None) => format!("{}/comment-{}/{target}", run.daemon, self.index),
            (false, _) => run_key(self.execution, self.index),
        };
        Ok((key, EffectKind::AddComment { target, body: cut(body), sticky }))
    }

    fn check(&self) -> Result<(String, EffectKind), Unwanted> {
        let run = self.execution.run;
        let name = self.text("name")?.unwrap_or_else(|| run.daemon.to_string());
        let conclusion = match self.text("conclusion")?.as_deref() {
            None if self.context.status == RunSoFar::Success => CheckConclusion::Success,
            None => CheckConclusion::Failure,
            Some("success") => CheckConclusion::Success,
            Some("failure") => CheckConclusion::Failure,
            Some("neutral") => CheckConclusion::Neutral,
            Some(other) => {
                let message = format!(
                    "`conclusion` is `{}`; it must be success, failure or neutral",
                    one_line(other, 40)
                );
                return Err(Unwanted::Refused(message));
            }
        };
        let mut summary = cut(self.text("summary")?.or(self.text("body")?).unwrap_or_default());
        if let Some(title) = self.text("title")? {
            summary = format!("**{}**\n\n{summary}", one_line(&title, LONGEST_TITLE));
        }
        let annotations = match self.value("annotations")? {
            None | Some(Json::Null) => Vec::new(),
            Some(json) => serde_json::from_value::<Vec<Annotation>>(json)
                .map_err(|error| Unwanted::Refused(format!("`annotations`: {error}")))?,
        };
        let name = one_line(&name, 100);
        let key = format!("{}/check/{name}/{}", run.daemon, run.commit);
        Ok((
            key,
            EffectKind::CreateCheck { commit: run.commit.clone(), name, conclusion, summary, annotations },
        ))
    }

    /// What the author calls this change, so that the next run finds it: fit for a branch's name.
    fn key(&self) -> Result<Option<String>, EvaluationError> {
        let fit = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
        let key = self.text("key")?.map(|key| key.chars().map(fit).take(LONGEST_KEY).collect::<String>());
        Ok(key.filter(|key| !key.is_empty()))
    }

    /// What a proposal or comment is about, as a part of a branch's name: the number of the thread
    /// that the event is about, else the branch.
    fn subject(&self, base: &Branch) -> String {
        self.thread().map_or_else(|| base.to_string(), |number| number.to_string())
    }

    fn thread(&self) -> Option<u64> {
        self.event?.thread()
    }

    /// Where a comment goes: `target: 12`, else the thread that the event is about, else the commit.
    fn target(&self) -> Result<CommentTarget, Unwanted> {
        let commit = CommentTarget::Commit { commit: self.execution.run.commit.clone() };
        match self.text("target")?.as_deref() {
            None | Some("triggering") => {
                Ok(self.thread().map_or(commit, |number| CommentTarget::Thread { number }))
            }
            Some("commit") => Ok(commit),
            Some(text) => match text.trim_start_matches('#').parse() {
                Ok(number) => Ok(CommentTarget::Thread { number }),
                Err(_) => Err(Unwanted::Refused(format!(
                    "`target` is `{}`, not the number of a thread",
                    one_line(text, 40)
                ))),
            },
        }
    }

    async fn changes(&self, tip: &domain::name::Commit) -> Result<Vec<PathChange>, Unwanted> {
        let view = View::of(self.execution.run.repository);
        let changes =
            self.execution.world.source.changes(&view, Some(self.execution.workspace.start()), tip).await;
        changes.map_err(|error| Unwanted::Refused(error.to_string()))
    }

    async fn check_protected(&self, changes: &[PathChange]) -> Result<(), Unwanted> {
        if self.text("protected_files")?.as_deref() == Some("allowed") {
            return Ok(());
        }
        let layout = self.layout().await.map_err(|error| Unwanted::Refused(error.to_string()))?;
        let protected = Protected::of(&layout);
        let found = changes.iter().find_map(|change| Some((&change.path, protected.kind(&change.path)?)));
        let Some((path, kind)) = found else { return Ok(()) };
        Err(Unwanted::Refused(format!(
            "`{path}` is {kind}, and a daemon may change it only where the outcome says `protected_files: allowed`"
        )))
    }

    /// Where the repository has its daemons, as the run found it: not as the run left it.
    async fn layout(&self) -> Result<Layout, SourceError> {
        let Execution { world, run, workspace, .. } = self.execution;
        let view = View::of(run.repository);
        // The name is that of a daemon in the root, whose manifest is protected under any name.
        survey::layout(world, "", &view, workspace.start()).await
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

    fn flag(&self, field: &str) -> Result<bool, EvaluationError> {
        let value =
            self.outcome.fields.get(field).map(|template| template.evaluate(self.context)).transpose()?;
        Ok(value.is_some_and(|value| manifest::expression::is_true(&value)))
    }

    fn list(&self, field: &str) -> Result<Vec<String>, EvaluationError> {
        let Some(value) = self.value(field)? else { return Ok(Vec::new()) };
        Ok(match value {
            Json::Array(items) => {
                items.iter().filter_map(Json::as_str).map(|item| one_line(item, 100)).collect()
            }
            Json::String(item) => vec![one_line(&item, 100)],
            _ => Vec::new(),
        })
    }
}

fn one_line(text: &str, most: usize) -> String {
    text.replace(char::is_control, " ").trim().chars().take(most).collect()
}

/// A body that fits, with a word about what was left out.
fn cut(mut body: String) -> String {
    if body.len() > LONGEST_BODY {
        body.truncate(body.floor_char_boundary(LONGEST_BODY));
        body.push_str("\n\n… the rest is on the page of the run");
    }
    body
}

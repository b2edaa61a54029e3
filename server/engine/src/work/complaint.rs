//! What becomes of a run that somebody asked for in a comment and that ends without a word of its own: a
//! failure is told in one comment for each daemon and thread, which says so when the next run goes well; that
//! one went well is a sign on the comment.

use domain::effect::{Act, CommentTarget, Effect, EffectKind, EffectStatus, Reaction};
use domain::event::Event;
use domain::run::{EffectMode, Run, RunOutcome, RunStatus};
use ports::store::runs::RunFilter;
use ports::store::{Page, StoreError};
use sha2::{Digest as _, Sha256};

use crate::dispatch::answers::tame;
use crate::dispatch::commands::comment_of;
use crate::effects;
use crate::world::World;

/// How many runs of a thread are looked through for the one before.
const LOOKED: u32 = 20;

/// What the server says about the end of a run.
pub(crate) async fn about(
    world: &World,
    run: &Run,
    outcome: &RunOutcome,
    effects: &[Effect],
) -> Result<Vec<Effect>, StoreError> {
    let Some(event) = event_of(world, run).await? else { return Ok(Vec::new()) };
    let Some((comment, thread)) = comment_of(&event).zip(event.thread()) else { return Ok(Vec::new()) };
    let says = Says { world, run, thread };
    let mut wanted = Vec::new();
    match outcome.status() {
        RunStatus::Failed | RunStatus::TimedOut | RunStatus::Skipped if !speaks(effects) => {
            wanted.push(says.failure(outcome));
        }
        RunStatus::Succeeded => {
            if says.is_mended().await? {
                wanted.push(says.mended());
            }
            if !speaks(effects) {
                let kind = EffectKind::React { comment, reaction: Reaction::Rocket };
                wanted.push(says.wish(Act::Receipt, format!("rocket/{}", run.id), kind));
            }
        }
        _ => {}
    }
    Ok(wanted)
}

/// The comment that a run comes of, when it is one to answer.
async fn event_of(world: &World, run: &Run) -> Result<Option<Event>, StoreError> {
    match run.cause.event {
        Some(event) if run.cause.parent.is_none() && run.effects == EffectMode::Perform => {
            world.store.event_get(event).await
        }
        _ => Ok(None),
    }
}

/// Whether a run says something where people see it.
fn speaks(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| {
        let said = matches!(
            effect.kind,
            EffectKind::AddComment { .. }
                | EffectKind::CreatePullRequest { .. }
                | EffectKind::PushToPullRequestBranch { .. }
        );
        said && !matches!(effect.status, EffectStatus::Refused { .. })
    })
}

struct Says<'a> {
    world: &'a World,
    run: &'a Run,
    thread: u64,
}

impl Says<'_> {
    fn failure(&self, outcome: &RunOutcome) -> Effect {
        let run = self.run;
        let why = tame(&outcome.message().unwrap_or_default());
        let what = match outcome.status() {
            RunStatus::TimedOut => "took too long",
            RunStatus::Skipped => "did nothing",
            _ => "failed",
        };
        let body = format!(
            "`{}` {what}: {why}\n\nRun `{}` at `{}`, fault `{}`. `{} retry {}` starts it again.",
            run.daemon,
            run.id,
            &run.start().as_str()[..12],
            fingerprint(run, outcome),
            self.world.settings.prefix,
            run.id,
        );
        self.report(body)
    }

    fn mended(&self) -> Effect {
        let run = self.run;
        self.report(format!("`{}` goes well again, since run `{}`.", run.daemon, run.id))
    }

    /// Whether the run before had its failure told here.
    async fn is_mended(&self) -> Result<bool, StoreError> {
        let filter = RunFilter {
            repository: Some(self.run.repository),
            daemon: Some(self.run.daemon.clone()),
            branch: Some(self.run.branch.clone()),
            thread: Some(self.thread),
            ..RunFilter::default()
        };
        let store = &self.world.store;
        let runs = store.run_list(&filter, &Page::first(LOOKED)).await?;
        let before = runs
            .iter()
            .find(|run| run.id < self.run.id && run.state.status().is_final() && run.cause.parent.is_none());
        let Some(before) = before else { return Ok(false) };
        let told =
            matches!(before.state.status(), RunStatus::Failed | RunStatus::TimedOut | RunStatus::Skipped);
        let by_comment =
            event_of(self.world, before).await?.is_some_and(|event| comment_of(&event).is_some());
        Ok(told && by_comment && !speaks(&store.effect_list(before.id).await?))
    }

    fn report(&self, body: String) -> Effect {
        let target = CommentTarget::Thread { number: self.thread };
        let key = format!("report/{}/{}", self.run.daemon, self.thread);
        self.wish(Act::Report, key, EffectKind::AddComment { target, body, sticky: true })
    }

    fn wish(&self, act: Act, key: String, kind: EffectKind) -> Effect {
        effects::own(self.world, self.run.repository, act, key, kind)
    }
}

/// What tells one fault from another: the daemon, its version, and where and how it failed.
fn fingerprint(run: &Run, outcome: &RunOutcome) -> String {
    let cause = match outcome {
        RunOutcome::Failed { failure } | RunOutcome::TimedOut { failure } => {
            format!("{}/{}", failure.code, failure.stage.as_deref().unwrap_or_default())
        }
        other => other.status().to_string(),
    };
    hex::encode(Sha256::digest(format!("{}@{}/{cause}", run.daemon, run.digest)))[..8].to_owned()
}

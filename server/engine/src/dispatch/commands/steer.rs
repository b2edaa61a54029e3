//! Commands about what is there: `retry`, `cancel`, `pause` and `resume`.

use domain::command::RunOrDaemon;
use domain::id::RunId;
use domain::name::DaemonId;
use domain::revision::Pause;
use domain::run::Run;
use ports::store::Page;
use ports::store::events::{MatchRecord, Rest};
use ports::store::runs::{Cancellation, RunFilter};

use super::{Heard, Hearing};
use crate::dispatch::consider;
use crate::dispatch::ordered::reason_or_later;
use crate::dispatch::subject::Undecided;
use crate::replay;

/// How many runs of a thread are looked at.
const LOOKED: u32 = 200;

impl Hearing<'_, '_> {
    /// `retry [RUN]`
    pub(super) async fn retry(&mut self, run: Option<RunId>) -> Result<Heard, Undecided> {
        let runs = self.runs().await?;
        let old = match run {
            Some(id) => runs.into_iter().find(|run| run.id == id),
            None => runs.into_iter().find(|run| run.state.status().is_final()),
        };
        let old = match (old, run) {
            (Some(old), _) => old,
            (None, Some(id)) => return Ok(Heard::Refused(format!("`{id}` is no run of this thread."))),
            (None, None) => {
                return Ok(Heard::Refused("Nothing has run here that could run again.".to_owned()));
            }
        };
        let actor = self.scene.event.actor.clone();
        let request = replay::Request { run: old.id, from_stage: None, agent: None, actor };
        let prepared = match replay::prepare(self.scene.world, request).await {
            Ok(new) => Ok(new),
            Err(refusal) => reason_or_later(refusal)?,
        };
        let new = match prepared {
            Ok(new) => new,
            Err(reason) => {
                return Ok(Heard::Refused(format!("`{}` does not run again: {reason}.", old.daemon)));
            }
        };
        let said = self.place(&new).await?;
        let (daemon, branch) = (new.run.daemon.clone(), new.run.branch.clone());
        let reason = format!("{} wants {} again", self.scene.event.actor.name, old.id);
        self.decision.matches.push(MatchRecord { daemon, branch, run: Some(new.run.id), reason });
        self.decision.runs.push(new);
        Ok(Heard::Done(said))
    }

    /// `cancel [RUN|ID]`
    pub(super) async fn cancel(&mut self, what: Option<RunOrDaemon>) -> Result<Heard, Undecided> {
        let meant = |run: &Run| match &what {
            None => true,
            Some(RunOrDaemon::Run(id)) => run.id == *id,
            Some(RunOrDaemon::Daemon(daemon)) => run.daemon == *daemon,
        };
        let mut runs = self.runs().await?;
        runs.retain(|run| meant(run) && !run.state.status().is_final());
        if runs.is_empty() {
            return Ok(Heard::Refused(match what {
                Some(RunOrDaemon::Run(id)) => format!("`{id}` does not run here."),
                Some(RunOrDaemon::Daemon(daemon)) => format!("`{daemon}` does not run here."),
                None => "Nothing runs here.".to_owned(),
            }));
        }
        // The comment is part of the name: who asks in two comments insists, one comment that is read twice does not.
        let by = format!("{} (comment {})", self.scene.event.actor.name, self.comment.reference.id);
        let mut said = Vec::new();
        for run in runs {
            let shown = format!("`{}` (`{}`)", run.daemon, run.id);
            let now = self.scene.world.clock.now();
            let asked = run.cancel_requested.as_deref() == Some(&by);
            let came = match asked {
                true => Cancellation::Requested,
                false => self.scene.world.store.run_cancel(run.id, &by, now).await?,
            };
            said.push(match came {
                Cancellation::Cancelled => format!("{shown} is cancelled."),
                Cancellation::Requested => format!("{shown} was asked to end; it cleans up first."),
                Cancellation::Ended | Cancellation::Unknown => format!("{shown} has ended by itself."),
            });
        }
        Ok(Heard::Done(Some(said.join("\n"))))
    }

    /// `pause ID`
    pub(super) async fn pause(&mut self, daemon: &DaemonId) -> Result<Heard, Undecided> {
        let (branch, by) = (self.home.branch.clone(), self.scene.event.actor.name.clone());
        let prefix = &self.scene.world.settings.prefix;
        let said = format!(
            "`{daemon}` rests on `{branch}`: nothing starts it by itself until `{prefix} resume {daemon}`. \
             Who asks for a run by name gets one."
        );
        let at = self.scene.world.clock.now();
        self.decision.rests.push(Rest::Pause(Pause { daemon: daemon.clone(), branch, by, at }));
        Ok(Heard::Done(Some(said)))
    }

    /// `resume ID`
    pub(super) async fn resume(&mut self, daemon: &DaemonId) -> Result<Heard, Undecided> {
        let Some(candidate) = self.candidate(daemon, &serde_json::Map::new()) else {
            return Ok(Heard::Refused(format!("There is no daemon `{daemon}` on `{}`.", self.home.branch)));
        };
        let branch = self.home.branch.clone();
        let resting = |rest: &Rest| matches!(rest, Rest::Pause(pause) if pause.daemon == *daemon);
        let rests = consider::pause(self.scene.world, &candidate.revision).await?.is_some()
            || self.decision.rests.iter().any(resting);
        if !rests {
            return Ok(Heard::Refused(format!("`{daemon}` does not rest on `{branch}`.")));
        }
        let said = format!("`{daemon}` answers to its triggers on `{branch}` again.");
        self.decision.rests.push(Rest::Resume { daemon: daemon.clone(), branch });
        Ok(Heard::Done(Some(said)))
    }

    /// The runs of the thread that no other run called, newest first.
    pub(super) async fn runs(&self) -> Result<Vec<Run>, Undecided> {
        let filter = RunFilter {
            repository: Some(self.scene.repository.id),
            thread: Some(self.comment.reference.thread),
            ..RunFilter::default()
        };
        let mut runs = self.scene.world.store.run_list(&filter, &Page::first(LOOKED)).await?;
        runs.retain(|run| run.cause.parent.is_none());
        Ok(runs)
    }
}

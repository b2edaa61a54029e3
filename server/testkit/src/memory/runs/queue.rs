//! Who is let into the queue, and who is next out of it.

use domain::id::RunId;
use domain::run::{Concurrency, ConcurrencyBehavior, RunOutcome, RunState, RunStatus};
use domain::time::Timestamp;
use ports::store::StoreError;
use ports::store::runs::NewRun;

use super::Entry;
use crate::memory::State;

impl State {
    pub(in crate::memory) fn refuse_runs(&self, news: &[NewRun]) -> Result<(), StoreError> {
        for (nth, new) in news.iter().enumerate() {
            let run = &new.run;
            if !matches!(run.state, RunState::Queued { .. }) {
                return Err(StoreError::Conflict(format!("{} is not queued", run.id)));
            }
            self.refuse_unknown_repository(run.repository)?;
            let same_stage = |other: &domain::run::Run| {
                run.cause.parent.is_some() && other.cause.parent == run.cause.parent
            };
            let twice = news[..nth].iter().any(|other| other.run.id == run.id || same_stage(&other.run));
            let known = self.runs.values().any(|other| other.run.id == run.id || same_stage(&other.run));
            if twice || known {
                return Err(StoreError::Conflict(format!("{} is there already", run.id)));
            }
        }
        Ok(())
    }

    /// Queues the runs that a run's stages call, and lets it wait for them.
    pub(super) fn call(
        &mut self,
        parent: RunId,
        children: &[NewRun],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let foreign = |new: &&NewRun| new.run.cause.parent.as_ref().is_none_or(|stage| stage.run != parent);
        if let Some(new) = children.iter().find(foreign) {
            return Err(StoreError::Conflict(format!("{} is not called by {parent}", new.run.id)));
        }
        let known =
            |new: &NewRun| self.children(parent).any(|child| child.run.cause.parent == new.run.cause.parent);
        let fresh: Vec<NewRun> = children.iter().filter(|new| !known(new)).cloned().collect();
        self.refuse_runs(&fresh)?;
        // While the children come the parent still counts as running, so that one of them that ends
        // at once, for its group, does not wake it too early.
        for new in &fresh {
            self.enqueue(new, None, at);
        }
        let waits = self.children(parent).any(Entry::is_active);
        if let Some(entry) = self.runs.get_mut(&parent) {
            entry.run.state = if waits { RunState::Waiting } else { RunState::Queued { ready_at: at } };
        }
        Ok(())
    }

    pub(in crate::memory) fn enqueue(&mut self, new: &NewRun, idempotency: Option<&str>, at: Timestamp) {
        self.replace(new, at);
        let mut run = new.run.clone();
        if let Some(outcome) = new.concurrency.as_ref().and_then(|group| self.admit(new, group, at)) {
            run.state = RunState::Ended { outcome, at };
        }
        let entry = Entry {
            run,
            concurrency: new.concurrency.clone(),
            replaces: new.replaces.clone(),
            priority: new.priority,
            idempotency: idempotency.map(str::to_owned),
            journal: Vec::new(),
            lines: Vec::new(),
            numbered: 0,
            asked_at: None,
            leased_at: None,
        };
        self.runs.insert(new.run.id, entry);
    }

    /// Ends the runs whose place a new one takes, those that no worker has taken up.
    fn replace(&mut self, new: &NewRun, at: Timestamp) {
        let waits = |entry: &&Entry| {
            new.replaces.is_some()
                && entry.replaces == new.replaces
                && entry.run.repository == new.run.repository
                && entry.run.state.status() == RunStatus::Queued
                && entry.run.attempt == 0
        };
        let replaced: Vec<RunId> = self.runs.values().filter(waits).map(|entry| entry.run.id).collect();
        for id in replaced {
            self.end(id, &RunOutcome::replaced_by(new.run.id), at);
        }
    }

    /// Makes room for a run in its group, or says how it ends for want of room. The runs that wait
    /// for it, its ancestors, take no room: they could not go on before it does.
    fn admit(&mut self, new: &NewRun, group: &Concurrency, at: Timestamp) -> Option<RunOutcome> {
        let limit = group.limit.max(1) as usize;
        let ancestors = self.ancestors(new);
        let members: Vec<(RunId, bool)> = self
            .members(new, group)
            .filter(|member| !ancestors.contains(&member.run.id))
            .map(|member| (member.run.id, member.run.cancel_requested.is_some()))
            .collect();
        match group.behavior {
            ConcurrencyBehavior::Queue => None,
            ConcurrencyBehavior::Fail if members.len() < limit => None,
            ConcurrencyBehavior::Fail => Some(RunOutcome::Skipped {
                reason: format!("the concurrency group `{}` is full (limit {limit})", group.key),
            }),
            ConcurrencyBehavior::Cancel => {
                let staying: Vec<RunId> =
                    members.into_iter().filter(|(_, asked)| !asked).map(|(id, _)| id).collect();
                let by = format!("{}, newer in the concurrency group `{}`", new.run.id, group.key);
                for id in &staying[..(staying.len() + 1).saturating_sub(limit)] {
                    self.cancel(*id, &by, at);
                }
                None
            }
        }
    }

    /// The runs of a group that have not ended, oldest first.
    fn members(&self, new: &NewRun, group: &Concurrency) -> impl Iterator<Item = &Entry> {
        self.runs.values().filter(move |entry| {
            entry.is_active()
                && entry.run.repository == new.run.repository
                && entry.concurrency.as_ref().is_some_and(|other| other.key == group.key)
        })
    }

    fn ancestors(&self, new: &NewRun) -> Vec<RunId> {
        let mut ancestors = Vec::new();
        let mut next = new.run.cause.parent.as_ref().map(|parent| parent.run);
        while let Some(id) = next.filter(|id| !ancestors.contains(id)) {
            ancestors.push(id);
            next =
                self.runs.get(&id).and_then(|entry| entry.run.cause.parent.as_ref()).map(|parent| parent.run);
        }
        ancestors
    }

    /// The run that is to be given out next.
    pub(super) fn next_run(&self, now: Timestamp) -> Option<RunId> {
        let ready = |entry: &&Entry| match &entry.run.state {
            RunState::Queued { ready_at } => *ready_at <= now && self.has_room(entry),
            // A lapsed run has its place in its group already.
            RunState::Running { lease } => lease.until <= now,
            RunState::Waiting | RunState::Ended { .. } => false,
        };
        let next = self
            .runs
            .values()
            .filter(ready)
            .min_by_key(|entry| (std::cmp::Reverse(entry.priority), entry.run.id));
        next.map(|entry| entry.run.id)
    }

    fn has_room(&self, entry: &Entry) -> bool {
        let Some(group) = &entry.concurrency else { return true };
        let running = self.runs.values().filter(|other| {
            other.run.state.status() == RunStatus::Running
                && other.run.repository == entry.run.repository
                && other.concurrency.as_ref().is_some_and(|theirs| theirs.key == group.key)
        });
        running.count() < group.limit.max(1) as usize
    }

    /// When the next retry is due or the next lease lapses.
    pub(super) fn next_moment(&self, now: Timestamp) -> Option<Timestamp> {
        let moments = self.runs.values().filter_map(|entry| match &entry.run.state {
            RunState::Queued { ready_at } => Some(*ready_at),
            RunState::Running { lease } => Some(lease.until),
            RunState::Waiting | RunState::Ended { .. } => None,
        });
        moments.filter(|at| *at > now).min()
    }
}

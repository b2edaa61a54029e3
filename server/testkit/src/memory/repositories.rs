use async_trait::async_trait;
use domain::event::EventKind;
use domain::id::{RepositoryId, RevisionId};
use domain::name::{Branch, Commit, DaemonId, RepositoryPath};
use domain::repository::{BranchHead, BranchRole, Origin, Place, Repository, Sync};
use domain::revision::{Pause, Revision, RevisionContent};
use domain::run::RunStatus;
use domain::time::Timestamp;
use ports::store::repositories::{Advanced, BranchAdvance, DaemonFilter, DaemonRow};
use ports::store::{Page, Recorded, Repositories, StoreError, Topic};

use super::{MemoryStore, State, newest};

#[async_trait]
impl Repositories for MemoryStore {
    async fn repository_create(&self, repository: &Repository) -> Result<Recorded<Repository>, StoreError> {
        let mut state = self.state();
        if let Some(known) = state.find(&repository.path) {
            return Ok(Recorded::Known(known.clone()));
        }
        if state.repositories.contains_key(&repository.id) {
            return Err(StoreError::Conflict(format!("{} is there already", repository.id)));
        }
        state.repositories.insert(repository.id, repository.clone());
        Ok(Recorded::New)
    }

    async fn repository_get(&self, id: RepositoryId) -> Result<Option<Repository>, StoreError> {
        Ok(self.state().repositories.get(&id).cloned())
    }

    async fn repository_find(&self, path: &RepositoryPath) -> Result<Option<Repository>, StoreError> {
        Ok(self.state().find(path).cloned())
    }

    async fn repository_at(&self, place: &Place) -> Result<Option<Repository>, StoreError> {
        let state = self.state();
        let key = Some(place.key());
        Ok(state.repositories.values().find(|known| known.origin.place().map(Place::key) == key).cloned())
    }

    async fn repository_origin(&self, id: RepositoryId, origin: &Origin) -> Result<(), StoreError> {
        let mut state = self.state();
        let key = origin.place().map(Place::key);
        let taken = state
            .repositories
            .values()
            .any(|known| key.is_some() && known.id != id && known.origin.place().map(Place::key) == key);
        if taken {
            return Err(StoreError::Conflict("another repository has this place".to_owned()));
        }
        state.change(id, |repository| repository.origin = origin.clone())
    }

    async fn repository_list(&self, page: &Page) -> Result<Vec<Repository>, StoreError> {
        let state = self.state();
        Ok(newest(
            state.repositories.iter().rev().map(|(id, repository)| (id.uuid(), repository.clone())),
            page,
        ))
    }

    async fn repository_due(&self, now: Timestamp, most: u32) -> Result<Vec<Repository>, StoreError> {
        let state = self.state();
        let mut due: Vec<_> = state
            .repositories
            .values()
            .filter_map(|repository| Some((poll_at(repository)?, repository)))
            .filter(|(at, _)| *at <= now)
            .collect();
        due.sort_by_key(|(at, repository)| (*at, repository.id));
        Ok(due.into_iter().take(most as usize).map(|(_, repository)| repository.clone()).collect())
    }

    async fn repository_synced(&self, id: RepositoryId, sync: &Sync) -> Result<(), StoreError> {
        self.state().change(id, |repository| {
            let hinted = repository.sync.due_at.filter(|due| sync.checked_at.is_some_and(|at| *due > at));
            let due_at = sync.due_at.map(|due| hinted.map_or(due, |hinted| hinted.min(due)));
            repository.sync = Sync { due_at, ..sync.clone() };
        })
    }

    async fn repository_default_branch(&self, id: RepositoryId, branch: &Branch) -> Result<(), StoreError> {
        self.state().change(id, |repository| repository.default_branch = branch.clone())
    }

    async fn repository_hint(&self, id: RepositoryId, at: Timestamp) -> Result<(), StoreError> {
        self.state().change(id, |repository| {
            repository.sync.due_at = Some(repository.sync.due_at.map_or(at, |due| due.min(at)));
        })
    }

    async fn branch_list(&self, repository: RepositoryId) -> Result<Vec<BranchHead>, StoreError> {
        let state = self.state();
        Ok(state
            .branches
            .iter()
            .filter(|((of, _), _)| *of == repository)
            .map(|(_, head)| head.clone())
            .collect())
    }

    async fn branch_advance(&self, advance: &BranchAdvance) -> Result<Advanced, StoreError> {
        let advanced = self.state().advance(advance)?;
        if advanced == Advanced::Recorded && advance.event.is_some() {
            self.wake(&[Topic::Events]);
        }
        Ok(advanced)
    }

    async fn revision_current(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        branch: &Branch,
    ) -> Result<Option<Revision>, StoreError> {
        let state = self.state();
        let current = state.currents.get(&(repository, daemon.clone(), branch.clone()));
        Ok(current.and_then(|id| state.revisions.get(id)).cloned())
    }

    async fn revision_currents(
        &self,
        repository: RepositoryId,
        branch: &Branch,
    ) -> Result<Vec<Revision>, StoreError> {
        let state = self.state();
        let on_branch = |(of, _, on): &&(RepositoryId, DaemonId, Branch)| *of == repository && on == branch;
        let currents = state.currents.keys().filter(on_branch).filter_map(|key| state.current(key));
        Ok(currents.cloned().collect())
    }

    async fn revision_triggered(
        &self,
        repository: RepositoryId,
        branch: &Branch,
        kind: EventKind,
    ) -> Result<Vec<Revision>, StoreError> {
        let currents = self.revision_currents(repository, branch).await?;
        Ok(currents.into_iter().filter(|revision| waits_for(revision, kind)).collect())
    }

    async fn revision_any_invalid(&self, repository: RepositoryId) -> Result<bool, StoreError> {
        let state = self.state();
        let deployed = |branch: &Branch| {
            let head = state.branches.get(&(repository, branch.clone()));
            head.is_some_and(|head| head.role == BranchRole::Deploy)
        };
        let invalid = |revision: &Revision| matches!(revision.content, RevisionContent::Invalid { .. });
        let mut keys = state.currents.keys().filter(|(of, _, on)| *of == repository && deployed(on));
        Ok(keys.any(|key| state.current(key).is_some_and(invalid)))
    }

    async fn revision_get(&self, id: RevisionId) -> Result<Option<Revision>, StoreError> {
        Ok(self.state().revisions.get(&id).cloned())
    }

    async fn revision_at(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        commit: &Commit,
    ) -> Result<Option<Revision>, StoreError> {
        let state = self.state();
        let at_commit = |revision: &&Revision| {
            revision.repository == repository && revision.daemon == *daemon && revision.commit == *commit
        };
        Ok(state.revisions.values().rev().find(at_commit).cloned())
    }

    async fn revision_history(
        &self,
        repository: RepositoryId,
        daemon: &DaemonId,
        branch: Option<&Branch>,
        page: &Page,
    ) -> Result<Vec<Revision>, StoreError> {
        let state = self.state();
        let of_daemon = |revision: &&Revision| {
            revision.repository == repository
                && revision.daemon == *daemon
                && branch.is_none_or(|branch| revision.branch == *branch)
        };
        let history = state.revisions.values().rev().filter(of_daemon);
        Ok(newest(history.map(|revision| (revision.id.uuid(), revision.clone())), page))
    }

    async fn revision_scheduled(&self) -> Result<Vec<Revision>, StoreError> {
        let state = self.state();
        let deployed = state.currents.keys().filter_map(|key| {
            let head = state.branches.get(&(key.0, key.2.clone()))?;
            (head.role == BranchRole::Deploy).then(|| state.current(key))?
        });
        Ok(deployed.filter(|revision| waits_for(revision, EventKind::Schedule)).cloned().collect())
    }

    async fn pause_list(&self, repository: RepositoryId) -> Result<Vec<Pause>, StoreError> {
        let state = self.state();
        let of_repository = state.pauses.iter().filter(|((of, ..), _)| *of == repository);
        Ok(of_repository.map(|(_, pause)| pause.clone()).collect())
    }

    async fn daemon_list(&self, filter: &DaemonFilter, page: &Page) -> Result<Vec<DaemonRow>, StoreError> {
        let state = self.state();
        let mut rows: Vec<_> =
            state.currents.keys().filter_map(|key| state.daemon_row(key, filter)).collect();
        rows.sort_by_key(|row| place(&row.path, &row.revision));
        if let Some(after) = page.after {
            let Some(last) = state.revisions.get(&RevisionId::new(after)) else { return Ok(Vec::new()) };
            let Some(repository) = state.repositories.get(&last.repository) else { return Ok(Vec::new()) };
            let last = place(&repository.path, last);
            rows.retain(|row| place(&row.path, &row.revision) > last);
        }
        rows.truncate(page.size as usize);
        Ok(rows)
    }
}

impl State {
    fn find(&self, path: &RepositoryPath) -> Option<&Repository> {
        let key = path.to_string().to_lowercase();
        self.repositories.values().find(|repository| repository.path.to_string().to_lowercase() == key)
    }

    fn current(&self, key: &(RepositoryId, DaemonId, Branch)) -> Option<&Revision> {
        self.revisions.get(self.currents.get(key)?)
    }

    fn change(&mut self, id: RepositoryId, change: impl FnOnce(&mut Repository)) -> Result<(), StoreError> {
        let known = self.repositories.get_mut(&id);
        known.map(change).ok_or_else(|| StoreError::Conflict(format!("there is no {id}")))
    }

    fn advance(&mut self, advance: &BranchAdvance) -> Result<Advanced, StoreError> {
        if !self.repositories.contains_key(&advance.repository) {
            return Err(StoreError::Conflict(format!("there is no {}", advance.repository)));
        }
        let branch = (advance.repository, advance.branch.clone());
        let actual = self.branches.get(&branch).map(|head| head.commit.clone());
        if actual != advance.from {
            return Ok(Advanced::Stale { actual });
        }
        if let Some(event) = &advance.event {
            self.refuse_known_event(event.id)?;
        }
        let fresh = self.fresh(&advance.revisions)?;
        match &advance.to {
            None => drop(self.branches.remove(&branch)),
            Some(commit) => {
                let head = BranchHead {
                    branch: advance.branch.clone(),
                    role: advance.role,
                    commit: commit.clone(),
                    moved_at: advance.at,
                };
                self.branches.insert(branch, head);
            }
        }
        for revision in fresh {
            let key = (revision.repository, revision.daemon.clone(), revision.branch.clone());
            self.currents.insert(key, revision.id);
            self.revisions.entry(revision.id).or_insert(revision);
        }
        if advance.to.is_none() {
            self.currents.retain(|(of, _, on), _| *of != advance.repository || *on != advance.branch);
        }
        if let Some(event) = &advance.event {
            self.keep_event(event, None);
        }
        Ok(Advanced::Recorded)
    }

    /// The revisions as they will be stored: an identical one that is there already stands in.
    fn fresh(&self, revisions: &[Revision]) -> Result<Vec<Revision>, StoreError> {
        let mut fresh: Vec<Revision> = Vec::new();
        for revision in revisions {
            let identical = |known: &&Revision| {
                known.repository == revision.repository
                    && known.daemon == revision.daemon
                    && known.branch == revision.branch
                    && known.commit == revision.commit
            };
            let known = self.revisions.values().find(identical).or(fresh.iter().find(identical));
            if known.is_none() && self.revisions.contains_key(&revision.id) {
                return Err(StoreError::Conflict(format!("{} is there already", revision.id)));
            }
            fresh.push(known.unwrap_or(revision).clone());
        }
        Ok(fresh)
    }

    fn daemon_row(&self, key: &(RepositoryId, DaemonId, Branch), filter: &DaemonFilter) -> Option<DaemonRow> {
        let revision = self.current(key)?;
        let head = self.branches.get(&(key.0, key.2.clone()))?;
        let wanted = filter.repository.is_none_or(|repository| repository == key.0)
            && match &filter.branch {
                Some(branch) => *branch == key.2,
                None => head.role == BranchRole::Deploy,
            }
            && revision.content != RevisionContent::Removed;
        wanted.then(|| DaemonRow {
            path: self.repositories[&key.0].path.clone(),
            revision: revision.clone(),
            role: head.role,
            last_run: self.last_run(key),
            pause: self.pauses.get(key).cloned(),
        })
    }

    fn last_run(&self, (repository, daemon, branch): &(RepositoryId, DaemonId, Branch)) -> Option<RunStatus> {
        let of_daemon =
            self.runs.values().rev().map(|entry| &entry.run).filter(|run| {
                run.repository == *repository && run.daemon == *daemon && run.branch == *branch
            });
        of_daemon.map(|run| run.state.status()).find(|status| status.is_final())
    }
}

/// Since when a repository is to be looked at: a watched one that never was, since it is known.
fn poll_at(repository: &Repository) -> Option<Timestamp> {
    match (&repository.origin, repository.sync.due_at, repository.sync.checked_at) {
        (Origin::Hosted, ..) => None,
        (Origin::Watched { .. }, None, None) => Some(repository.created_at),
        (Origin::Watched { .. }, due_at, _) => due_at,
    }
}

fn waits_for(revision: &Revision, kind: EventKind) -> bool {
    match &revision.content {
        RevisionContent::Valid { triggers, .. } => triggers.iter().any(|trigger| trigger.on.event() == kind),
        RevisionContent::Invalid { .. } | RevisionContent::Removed => false,
    }
}

/// Where a daemon stands in the list.
fn place(path: &RepositoryPath, revision: &Revision) -> (String, DaemonId, Branch) {
    (path.to_string().to_lowercase(), revision.daemon.clone(), revision.branch.clone())
}

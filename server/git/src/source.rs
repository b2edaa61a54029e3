//! `Source` for real: each method takes a turn, opens the mirror and leaves the work to one module.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use domain::files::File;
use domain::id::{RepositoryId, RunId};
use domain::name::{Branch, Commit, Tag};
use domain::time::Timestamp;
use ports::source::{
    CommitInfo, CommitSpec, Diff, Directory, Entry, Fetched, MergeSpec, Merged, Moved, PathChange, PushSpec,
    ReadBounds, Remote, RemotePolicy, Snapshot, SnapshotSpec, Source, SourceError, View,
};
use tokio::sync::Semaphore;

use crate::bring::Brought;
use crate::config::Config;
use crate::connect::Means;
use crate::error::Doing;
use crate::fetch::{Fetch, Wish};
use crate::hook::RefUpdate;
use crate::meter::Meter;
use crate::mirror::{Mirror, Mirrors};
use crate::program::Program;
use crate::push::Push;
use crate::remote::Address;
use crate::turns::Turns;
use crate::{checkout, commit, connect, history, hooks, https, maintain, object, reference, snapshot, tree};

/// All repositories of this server. A handle: cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Git {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) program: Program,
    pub(crate) mirrors: Mirrors,
    /// One fetch, push or housekeeping at a time for each repository.
    pub(crate) turns: Turns,
    pub(crate) requests: Arc<Semaphore>,
    operations: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    /// One client for public addresses only, one for all; their connections outlive a poll.
    clients: [OnceLock<reqwest::blocking::Client>; 2],
}

impl Git {
    /// Looks for the programs, makes the directories and the hooks. Blocks; for start-up.
    ///
    /// # Errors
    /// When git is missing, too old or without its HTTP backend, or the directory cannot be written.
    pub fn open(mut config: Config) -> Result<Self, SourceError> {
        std::fs::create_dir_all(&config.root).doing("making the directory of repositories")?;
        config.root = config.root.canonicalize().doing("opening the directory of repositories")?;
        let hooks = hooks::install(&config.root)?;
        let program = Program::find(&config, &hooks)?;
        let bounds = config.bounds;
        let inner = Inner {
            program,
            mirrors: Mirrors::at(config.root.clone(), bounds.object_bytes),
            turns: Turns::default(),
            requests: Arc::new(Semaphore::new(bounds.requests)),
            operations: Arc::new(Semaphore::new(bounds.operations)),
            fetches: Arc::new(Semaphore::new(bounds.fetches)),
            clients: Default::default(),
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps what a push takes away from branches and tags: for each ref that moves to something
    /// which does not hold its old history, the old commit. To be called before the push is accepted.
    ///
    /// # Errors
    /// When the repository cannot be read or written.
    pub async fn keep_replaced(&self, view: &View, updates: &[RefUpdate]) -> Result<(), SourceError> {
        let (view, updates) = (view.clone(), updates.to_vec());
        self.work(move |inner| {
            let seen = inner.mirrors.view(&view)?;
            let mirror = inner.mirrors.open(view.repository)?;
            for update in &updates {
                let Some(old) = &update.old else { continue };
                let Some(old) = object::peeled(&seen, object::id(old))? else { continue };
                if !reference::is_within(&seen, old, update.new.as_ref().map(object::id))? {
                    reference::keep(&mirror, old)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Puts a repository's objects together when there are many small pieces; says whether it did.
    /// For a slow loop: it may take minutes.
    ///
    /// # Errors
    /// When git fails; nothing is lost then.
    pub async fn maintain(&self, repository: RepositoryId) -> Result<bool, SourceError> {
        let path = self.inner.mirrors.path(repository);
        let turn = self.inner.turns.take(repository).await;
        self.work(move |inner| {
            let _turn = turn;
            maintain::sweep(&path)?;
            let is_due = maintain::is_due(&path);
            if is_due {
                maintain::run(&inner.program, &path)?;
                inner.mirrors.forget(repository);
            }
            Ok(is_due)
        })
        .await
    }

    /// Does work for which a remote is needed, in so much time. When that is over, what is under way sees
    /// it soon: reads fail, programs are killed. The turn ends only then.
    async fn abroad<T: Send + 'static, Turn: Send + 'static>(
        &self,
        timeout: Duration,
        turn: impl Future<Output = Turn> + Send,
        work: impl FnOnce(&Inner, &Arc<Meter>) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let meter = Arc::new(Meter::new());
        let _stop = StopOnDrop(Arc::clone(&meter));
        let working = async {
            let turn = turn.await;
            let work = move |inner: &Inner| {
                let _turn = turn;
                work(inner, &meter)
            };
            self.inner.work(&self.inner.fetches, work).await
        };
        tokio::time::timeout(timeout, working).await.unwrap_or_else(|_| {
            Err(SourceError::Unreachable(format!("the remote took more than {} s", timeout.as_secs_f32())))
        })
    }

    /// Does blocking work on a thread for it, when it is its turn.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        self.inner.work(&self.inner.operations, work).await
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        repository: RepositoryId,
        work: impl FnOnce(&Inner, &Mirror) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        self.work(move |inner| work(inner, &inner.mirrors.open(repository)?)).await
    }

    async fn view<T: Send + 'static>(
        &self,
        view: &View,
        work: impl FnOnce(&Mirror) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let view = view.clone();
        self.work(move |inner| work(&inner.mirrors.view(&view)?)).await
    }
}

impl Inner {
    async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        turns: &Arc<Semaphore>,
        work: impl FnOnce(&Self) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let permit = Arc::clone(turns).acquire_owned().await.doing("waiting for a turn")?;
        let inner = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&inner)
        });
        task.await.doing("reading or writing a repository")?
    }

    fn client(&self, policy: RemotePolicy) -> Result<reqwest::blocking::Client, SourceError> {
        let slot = &self.clients[usize::from(policy.private_addresses)];
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let client = https::client(policy, self.config.certificates.as_deref())?;
        Ok(slot.get_or_init(|| client).clone())
    }

    fn means(&self, address: &Address, policy: RemotePolicy) -> Result<Means<'_>, SourceError> {
        let client = match address {
            Address::Http(_) => Some(self.client(policy)?),
            Address::Ssh { .. } | Address::File(_) => None,
        };
        Ok(Means { program: &self.program, client, ssh: self.config.ssh.as_ref() })
    }

    fn fetch(
        &self,
        repository: RepositoryId,
        remote: &Remote,
        wish: &Wish,
        meter: &Meter,
    ) -> Result<Fetched, SourceError> {
        let address = Address::parse(&remote.url, remote.policy)?;
        let fetch = Fetch { mirrors: &self.mirrors, repository, wish, bounds: self.config.bounds, meter };
        let means = self.means(&address, remote.policy)?;
        let fetched = connect::fetch(&fetch, &means, &address, remote)?;
        let path = self.mirrors.path(repository);
        if fetched != Fetched::Unchanged && maintain::is_due(&path) {
            if let Err(error) = maintain::run(&self.program, &path) {
                tracing::warn!(%repository, "could not put the objects of {repository} together: {error}");
            }
            self.mirrors.forget(repository);
        }
        Ok(fetched)
    }

    fn push(&self, spec: &PushSpec<'_>, meter: &Arc<Meter>) -> Result<Moved, SourceError> {
        let address = Address::parse(&spec.remote.url, spec.remote.policy)?;
        let mirror = self.mirrors.open(spec.repository)?;
        object::find(&mirror, spec.to)?;
        let push = Push {
            program: &self.program,
            mirror: &mirror,
            bounds: self.config.bounds,
            meter,
            branch: spec.branch,
            from: spec.from,
            to: spec.to,
            secrets: spec.remote.credential.as_ref().map(connect::secrets).unwrap_or_default(),
        };
        connect::push(&push, &self.means(&address, spec.remote.policy)?, &address, spec.remote)
    }
}

/// Stops a fetch or a push that nobody waits for any more.
struct StopOnDrop(Arc<Meter>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[async_trait]
impl Source for Git {
    async fn create(&self, repository: RepositoryId, default_branch: &Branch) -> Result<(), SourceError> {
        let branch = default_branch.clone();
        self.work(move |inner| inner.mirrors.create(repository, &branch)).await
    }

    fn path(&self, repository: RepositoryId) -> PathBuf {
        self.inner.mirrors.path(repository)
    }

    async fn branches(&self, repository: RepositoryId) -> Result<Vec<(Branch, Commit)>, SourceError> {
        self.read(repository, |_, mirror| reference::branches(mirror)).await
    }

    async fn tag(&self, repository: RepositoryId, tag: &Tag) -> Result<Option<Commit>, SourceError> {
        let tag = tag.clone();
        self.read(repository, move |_, mirror| reference::tag(mirror, &tag)).await
    }

    async fn line(
        &self,
        repository: RepositoryId,
        from: Option<&Commit>,
        to: &Commit,
        most: usize,
    ) -> Result<Vec<Commit>, SourceError> {
        let (from, to) = (from.cloned(), to.clone());
        self.read(repository, move |_, mirror| history::line(mirror, from.as_ref(), &to, most)).await
    }

    async fn describe(
        &self,
        repository: RepositoryId,
        commits: &[Commit],
    ) -> Result<Vec<CommitInfo>, SourceError> {
        let commits = commits.to_vec();
        self.read(repository, move |_, mirror| {
            commits.iter().map(|commit| history::describe(mirror, commit)).collect()
        })
        .await
    }

    async fn changes(
        &self,
        view: &View,
        from: Option<&Commit>,
        to: &Commit,
    ) -> Result<Vec<PathChange>, SourceError> {
        let (from, to) = (from.cloned(), to.clone());
        self.view(view, move |mirror| history::changes(mirror, from.as_ref(), &to)).await
    }

    async fn list(&self, view: &View, commit: &Commit, directory: &str) -> Result<Vec<Entry>, SourceError> {
        let (commit, directory) = (commit.clone(), directory.to_owned());
        self.view(view, move |mirror| tree::list(mirror, &commit, &directory)).await
    }

    async fn file(
        &self,
        view: &View,
        commit: &Commit,
        path: &str,
        max_bytes: u64,
    ) -> Result<Option<File>, SourceError> {
        let (commit, path) = (commit.clone(), path.to_owned());
        self.view(view, move |mirror| tree::file(mirror, &commit, &path, max_bytes)).await
    }

    async fn directories(
        &self,
        view: &View,
        commit: &Commit,
        directories: &[String],
        bounds: ReadBounds,
    ) -> Result<Vec<Directory>, SourceError> {
        let (commit, directories) = (commit.clone(), directories.to_vec());
        self.view(view, move |mirror| tree::directories(mirror, &commit, &directories, bounds)).await
    }

    async fn checkout(
        &self,
        repository: RepositoryId,
        commit: &Commit,
        directory: &Path,
    ) -> Result<(), SourceError> {
        let (commit, directory) = (commit.clone(), directory.to_owned());
        self.read(repository, move |_, mirror| checkout::checkout(mirror, &commit, &directory)).await
    }

    async fn snapshot(&self, spec: SnapshotSpec<'_>) -> Result<Snapshot, SourceError> {
        let owned = OwnedSnapshot {
            run: spec.run,
            directory: spec.directory.to_owned(),
            parent: spec.parent.clone(),
            checkout: spec.checkout.cloned(),
            message: spec.message.to_owned(),
            max_bytes: spec.max_bytes,
            at: spec.at,
        };
        let repository = spec.repository;
        self.read(repository, move |inner, mirror| {
            let largest = inner.config.bounds.object_bytes;
            snapshot::snapshot(mirror, &inner.config.identity, largest, &owned.spec(repository))
        })
        .await
    }

    async fn diff(
        &self,
        repository: RepositoryId,
        from: &Commit,
        to: &Commit,
        max_bytes: usize,
    ) -> Result<Diff, SourceError> {
        let (from, to) = (from.clone(), to.clone());
        self.read(repository, move |inner, mirror| {
            history::diff(&inner.program, mirror, &from, &to, max_bytes)
        })
        .await
    }

    async fn commit(&self, spec: CommitSpec<'_>) -> Result<Commit, SourceError> {
        let (parent, tree_of) = (spec.parent.clone(), spec.tree_of.clone());
        let (repository, message, at) = (spec.repository, spec.message.to_owned(), spec.at);
        self.read(repository, move |inner, mirror| {
            let spec = CommitSpec { repository, parent: &parent, tree_of: &tree_of, message: &message, at };
            commit::squash(mirror, &inner.config.identity, &spec)
        })
        .await
    }

    async fn merge_base(
        &self,
        repository: RepositoryId,
        one: &Commit,
        other: &Commit,
    ) -> Result<Option<Commit>, SourceError> {
        let (one, other) = (one.clone(), other.clone());
        self.read(repository, move |_, mirror| commit::merge_base(mirror, &one, &other)).await
    }

    async fn move_branch(
        &self,
        repository: RepositoryId,
        branch: &Branch,
        from: Option<&Commit>,
        to: Option<&Commit>,
    ) -> Result<Moved, SourceError> {
        let (branch, from, to) = (branch.clone(), from.cloned(), to.cloned());
        self.read(repository, move |_, mirror| {
            reference::move_branch(mirror, &branch, from.as_ref(), to.as_ref())
        })
        .await
    }

    async fn merge(&self, spec: MergeSpec<'_>) -> Result<Merged, SourceError> {
        let (base, head) = (spec.base.clone(), spec.head.clone());
        let (repository, message, at) = (spec.repository, spec.message.to_owned(), spec.at);
        self.read(repository, move |inner, mirror| {
            let spec = MergeSpec { repository, base: &base, head: &head, message: &message, at };
            commit::merge(&inner.program, mirror, &inner.config.identity, &spec)
        })
        .await
    }

    async fn keep(&self, repository: RepositoryId, commit: &Commit) -> Result<(), SourceError> {
        let commit = commit.clone();
        self.read(repository, move |_, mirror| commit::keep(mirror, &commit)).await
    }

    async fn fetch(&self, repository: RepositoryId, remote: &Remote) -> Result<Fetched, SourceError> {
        let owned = remote.clone();
        let turn = self.inner.turns.take(repository);
        self.abroad(remote.timeout, turn, move |inner, meter| {
            inner.fetch(repository, &owned, &Wish::BranchesAndTags, meter)
        })
        .await
    }

    async fn bring(
        &self,
        repository: RepositoryId,
        remote: &Remote,
        reference: &str,
    ) -> Result<Commit, SourceError> {
        let brought = Brought::parse(reference)?;
        let owned = remote.clone();
        let turn = self.inner.turns.take(repository);
        self.abroad(remote.timeout, turn, move |inner, meter| {
            inner.fetch(repository, &owned, &Wish::One(brought.clone()), meter)?;
            let at = reference::target(&*inner.mirrors.open(repository)?, brought.ours())?;
            at.map(object::name).ok_or_else(|| SourceError::Broken("what was brought is not there".into()))
        })
        .await
    }

    async fn push(&self, spec: PushSpec<'_>) -> Result<Moved, SourceError> {
        let (repository, remote) = (spec.repository, spec.remote.clone());
        let (branch, from, to) = (spec.branch.clone(), spec.from.cloned(), spec.to.clone());
        // The mirror is only read: others need not wait.
        let no_turn = std::future::ready(());
        self.abroad(spec.remote.timeout, no_turn, move |inner, meter| {
            let (branch, from, to) = (&branch, from.as_ref(), &to);
            inner.push(&PushSpec { repository, remote: &remote, branch, from, to }, meter)
        })
        .await
    }
}

struct OwnedSnapshot {
    run: RunId,
    directory: PathBuf,
    parent: Commit,
    checkout: Option<Commit>,
    message: String,
    max_bytes: u64,
    at: Timestamp,
}

impl OwnedSnapshot {
    fn spec(&self, repository: RepositoryId) -> SnapshotSpec<'_> {
        SnapshotSpec {
            repository,
            run: self.run,
            directory: &self.directory,
            parent: &self.parent,
            checkout: self.checkout.as_ref(),
            message: &self.message,
            max_bytes: self.max_bytes,
            at: self.at,
        }
    }
}

//! The bare repositories on disk, and the ones that are open.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use domain::id::RepositoryId;
use domain::name::Branch;
use ports::source::{SourceError, View};
use tempfile::TempDir;

use crate::error::{Doing, refused};

/// How many repositories stay open. An open one holds a few descriptors and its pack indices' maps.
const MOST_OPEN: usize = 128;

/// How many handles with warm caches wait for the next reader, of all repositories together. Each
/// keeps objects that were read lately, at most [`CACHES`] of them.
const MOST_IDLE: usize = 4;

/// What a handle keeps in memory at most: pieces of packs, and whole objects.
const CACHES: [&str; 2] = ["core.deltaBaseCacheLimit=64m", "gitoxide.objects.cacheLimit=16m"];

/// How many packs an open repository can come to see; gix makes room for them when it opens one.
/// Housekeeping sets in at a tenth of it.
const MOST_PACKS: usize = 512;

const CONFIG: &str =
    "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\tlogAllRefUpdates = false\n";

/// All repositories below one directory.
#[derive(Debug)]
pub(crate) struct Mirrors {
    root: PathBuf,
    object_bytes: u64,
    open: Mutex<Open>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

#[derive(Debug, Default)]
struct Open {
    used: u64,
    mirrors: HashMap<RepositoryId, (u64, Arc<gix::ThreadSafeRepository>)>,
}

/// A handle that nobody uses at the moment; the one used last is at the end.
struct Idle {
    /// The opened repository that it is a handle of: one that was opened anew has new handles.
    of: Arc<gix::ThreadSafeRepository>,
    repo: gix::Repository,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Idle").field("path", &self.repo.path()).finish()
    }
}

/// A repository for one thread, with its caches. They outlive it: the next reader of the same
/// repository finds what this one read.
pub(crate) struct Mirror {
    /// Always there until it is dropped.
    repo: Option<gix::Repository>,
    keeper: Keeper,
}

/// Who is left with something when a [`Mirror`] is dropped.
enum Keeper {
    /// The handle goes back to the others.
    Idle { of: Arc<gix::ThreadSafeRepository>, idle: Arc<Mutex<Vec<Idle>>> },
    /// It was for one look only, and so was its directory.
    Once { _directory: TempDir },
}

impl std::ops::Deref for Mirror {
    type Target = gix::Repository;

    fn deref(&self) -> &gix::Repository {
        self.repo.as_ref().expect("because it is taken out only by `drop`")
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let (Keeper::Idle { of, idle }, Some(repo)) = (&self.keeper, self.repo.take()) else { return };
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MOST_IDLE {
            idle.remove(0);
        }
        idle.push(Idle { of: Arc::clone(of), repo });
    }
}

impl Mirrors {
    pub(crate) fn at(root: PathBuf, object_bytes: u64) -> Self {
        Self { root, object_bytes, open: Mutex::default(), idle: Arc::default() }
    }

    pub(crate) fn path(&self, repository: RepositoryId) -> PathBuf {
        self.root.join(format!("{repository}.git"))
    }

    /// Makes the repository; one that is there already is left as it is.
    pub(crate) fn create(&self, repository: RepositoryId, head: &Branch) -> Result<(), SourceError> {
        let path = self.path(repository);
        if path.is_dir() {
            return Ok(());
        }
        let new =
            tempfile::Builder::new().prefix(".new-").tempdir_in(&self.root).doing("making a repository")?;
        skeleton(new.path(), &format!("ref: refs/heads/{head}\n")).doing("making a repository")?;
        match fs::rename(new.path(), &path) {
            Ok(()) => {
                // It has another name now; there is nothing left to remove.
                let _ = new.keep();
                Ok(())
            }
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(error).doing("making a repository"),
        }
    }

    /// Opens what a view shows.
    pub(crate) fn view(&self, view: &View) -> Result<Mirror, SourceError> {
        match &view.quarantine {
            None => self.open(view.repository),
            Some(quarantine) => self.quarantined(view.repository, quarantine),
        }
    }

    pub(crate) fn open(&self, repository: RepositoryId) -> Result<Mirror, SourceError> {
        let of = self.shared(repository)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let warm = idle.iter().rposition(|one| Arc::ptr_eq(&one.of, &of)).map(|at| idle.remove(at).repo);
        drop(idle);
        let repo = warm.unwrap_or_else(|| of.to_thread_local());
        Ok(Mirror { repo: Some(repo), keeper: Keeper::Idle { of, idle: Arc::clone(&self.idle) } })
    }

    fn shared(&self, repository: RepositoryId) -> Result<Arc<gix::ThreadSafeRepository>, SourceError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.used += 1;
        let now = open.used;
        if let Some((used, shared)) = open.mirrors.get_mut(&repository) {
            *used = now;
            return Ok(Arc::clone(shared));
        }
        let path = self.path(repository);
        if !path.is_dir() {
            return Err(SourceError::NotFound(format!("there is no repository {repository}")));
        }
        let shared = Arc::new(self.open_at(&path)?);
        if open.mirrors.len() >= MOST_OPEN {
            let oldest = open.mirrors.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id);
            if let Some(id) = oldest {
                self.close(open.mirrors.remove(&id));
            }
        }
        open.mirrors.insert(repository, (now, Arc::clone(&shared)));
        Ok(shared)
    }

    /// Closes a repository, so that it is opened anew next time.
    pub(crate) fn forget(&self, repository: RepositoryId) {
        let known = self.open.lock().unwrap_or_else(PoisonError::into_inner).mirrors.remove(&repository);
        self.close(known);
    }

    fn close(&self, mirror: Option<(u64, Arc<gix::ThreadSafeRepository>)>) {
        let Some((_, closed)) = mirror else { return };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| !Arc::ptr_eq(&one.of, &closed));
    }

    /// A repository that has the objects of the mirror and those below `quarantine`, and writes to
    /// neither. Only directories that git itself makes for a push (or this crate for a fetch) are
    /// looked into, whatever a hook says.
    pub(crate) fn quarantined(
        &self,
        repository: RepositoryId,
        quarantine: &Path,
    ) -> Result<Mirror, SourceError> {
        let objects = self
            .path(repository)
            .join("objects")
            .canonicalize()
            .map_err(|_| SourceError::NotFound(format!("there is no repository {repository}")))?;
        let Ok(quarantine) = quarantine.canonicalize() else {
            return Err(SourceError::NotFound("the push is over: its objects are gone".into()));
        };
        let name = quarantine.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if quarantine.parent() != Some(&objects)
            || !(name.starts_with("tmp_objdir-") || name.starts_with("incoming-"))
        {
            return refused("that is not the quarantine of a push to this repository");
        }
        let directory = tempfile::tempdir().doing("making a view of a push")?;
        skeleton(directory.path(), "ref: refs/heads/main\n").doing("making a view of a push")?;
        let alternates = format!("{}\n{}\n", quarantine.display(), objects.display());
        fs::write(directory.path().join("objects/info/alternates"), alternates)
            .doing("making a view of a push")?;
        let repo = self.open_at(directory.path())?.to_thread_local();
        Ok(Mirror { repo: Some(repo), keeper: Keeper::Once { _directory: directory } })
    }

    fn open_at(&self, path: &Path) -> Result<gix::ThreadSafeRepository, SourceError> {
        // Without these caches reading is four times slower.
        gix::open::Options::isolated()
            .with(gix::sec::Trust::Full)
            .open_path_as_is(true)
            .object_store_slots(gix::odb::store::init::Slots::AsNeededByDiskState {
                multiplier: 2.0,
                minimum: MOST_PACKS,
            })
            .config_overrides(CACHES.map(str::to_owned).into_iter().chain([
                "core.useReplaceRefs=false".to_owned(),
                format!("gitoxide.objects.allocLimit={}", self.object_bytes),
            ]))
            .open(path)
            .doing("opening a repository")
    }
}

fn skeleton(path: &Path, head: &str) -> std::io::Result<()> {
    for directory in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        fs::create_dir_all(path.join(directory))?;
    }
    fs::write(path.join("config"), CONFIG)?;
    fs::write(path.join("HEAD"), head)
}

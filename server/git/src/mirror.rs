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
}

#[derive(Debug, Default)]
struct Open {
    used: u64,
    mirrors: HashMap<RepositoryId, (u64, Arc<gix::ThreadSafeRepository>)>,
}

/// A repository for one thread, with its caches.
pub(crate) struct Mirror {
    pub(crate) repo: gix::Repository,
    _directory: Option<TempDir>,
}

impl std::ops::Deref for Mirror {
    type Target = gix::Repository;

    fn deref(&self) -> &gix::Repository {
        &self.repo
    }
}

impl Mirrors {
    pub(crate) fn at(root: PathBuf, object_bytes: u64) -> Self {
        Self { root, object_bytes, open: Mutex::default() }
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
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.used += 1;
        let now = open.used;
        if let Some((used, shared)) = open.mirrors.get_mut(&repository) {
            *used = now;
            return Ok(Mirror { repo: shared.to_thread_local(), _directory: None });
        }
        let path = self.path(repository);
        if !path.is_dir() {
            return Err(SourceError::NotFound(format!("there is no repository {repository}")));
        }
        let shared = Arc::new(self.open_at(&path)?);
        if open.mirrors.len() >= MOST_OPEN {
            let oldest = open.mirrors.iter().min_by_key(|(_, (used, _))| *used).map(|(id, _)| *id);
            oldest.map(|id| open.mirrors.remove(&id));
        }
        open.mirrors.insert(repository, (now, Arc::clone(&shared)));
        Ok(Mirror { repo: shared.to_thread_local(), _directory: None })
    }

    /// Closes a repository, so that it is opened anew next time.
    pub(crate) fn forget(&self, repository: RepositoryId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).mirrors.remove(&repository);
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
        Ok(Mirror { repo: self.open_at(directory.path())?.to_thread_local(), _directory: Some(directory) })
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
            .config_overrides([
                "core.deltaBaseCacheLimit=64m".to_owned(),
                "core.useReplaceRefs=false".to_owned(),
                "gitoxide.objects.cacheLimit=16m".to_owned(),
                format!("gitoxide.objects.allocLimit={}", self.object_bytes),
            ])
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

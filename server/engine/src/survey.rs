//! Surveys: which daemons a commit holds, which ones it changed, and what is wrong with them. The same
//! code for a push that is not accepted yet, for a branch that moved, and for an address.

mod calls;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use domain::files::File;
use domain::name::{Commit, DaemonId, Digest};
use domain::repository::Repository;
use domain::revision::{DaemonSummary, RevisionContent};
use manifest::discover::{Layout, MANIFESTS, SPELLBOOKS};
use manifest::{Checked, DaemonSource, Diagnostic, Manifest, Siblings, Spellbook, Style};
use ports::source::{Directory, ReadBounds, SourceError, View};

use crate::standard::Standard;
use crate::world::World;

pub(crate) use calls::names;

/// How much of a daemon's directory is read: what is larger is no prompt and no manifest.
const BOUNDS: ReadBounds = ReadBounds { max_bytes: 1 << 20, max_files: 2_000, max_total: 16 << 20 };
/// How many directories are read at once, so that memory stays bounded whatever a push holds.
const AT_ONCE: usize = 8;

/// A view of one commit of a repository.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    world: &'a World,
    repository: &'a Repository,
    view: View,
    commit: Commit,
    layout: Layout,
    standard: Standard,
    /// The repository's own file at this commit, and what is wrong with it.
    pub(crate) spellbook: Checked<Spellbook>,
    own: Option<OwnFile>,
}

/// The repository's own file, whatever it is.
#[derive(Debug)]
struct OwnFile {
    name: &'static str,
    file: File,
}

impl OwnFile {
    async fn read(world: &World, view: &View, commit: &Commit) -> Result<Option<Self>, SourceError> {
        for name in SPELLBOOKS {
            if let Some(file) = world.source.file(view, commit, name, BOUNDS.max_bytes).await? {
                return Ok(Some(Self { name, file }));
            }
        }
        Ok(None)
    }

    fn check(own: Option<&Self>) -> Checked<Spellbook> {
        Standard::spellbook(own.map_or(SPELLBOOKS[0], |own| own.name), own.map(|own| &own.file))
    }

    fn text(&self) -> Cow<'_, str> {
        match &self.file {
            File::Regular(bytes) => String::from_utf8_lossy(bytes),
            File::Large(_) | File::Symlink | File::Submodule => Cow::Borrowed(""),
        }
    }
}

/// A daemon as a commit has it.
#[derive(Debug)]
pub(crate) struct Surveyed {
    /// The name of its directory; it may be no id, which is then one of the diagnostics.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) directory: String,
    /// What is to be said of it.
    pub(crate) verdict: Verdict,
}

/// What a commit changed.
#[derive(Debug)]
pub(crate) struct Changed {
    /// Daemons; those that it removed, too.
    pub(crate) daemons: Vec<Surveyed>,
    /// Files, sorted.
    pub(crate) paths: Vec<String>,
}

/// What is to be said of a daemon.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It can run.
    Valid { digest: Digest, manifest: Arc<Manifest>, warnings: String, diagnostics: Vec<Diagnostic> },
    /// It cannot.
    Invalid { digest: Digest, problems: String, diagnostics: Vec<Diagnostic> },
    /// It is not there (any more).
    Removed,
}

impl Surveyed {
    /// The daemon's id, if its name is one.
    pub(crate) fn id(&self) -> Option<DaemonId> {
        self.name.parse().ok()
    }

    /// Whether the commit has no such daemon.
    pub(crate) fn is_removed(&self) -> bool {
        matches!(self.verdict, Verdict::Removed)
    }

    /// What the commit made of the daemon, as it is stored.
    pub(crate) fn content(&self) -> RevisionContent {
        match &self.verdict {
            Verdict::Removed => RevisionContent::Removed,
            Verdict::Invalid { digest, problems, .. } => RevisionContent::Invalid {
                digest: digest.clone(),
                directory: self.directory.clone(),
                problems: problems.clone(),
            },
            Verdict::Valid { digest, manifest, .. } => RevisionContent::Valid {
                digest: digest.clone(),
                directory: self.directory.clone(),
                summary: DaemonSummary {
                    name: manifest.name.clone(),
                    version: manifest.version.clone(),
                    description: manifest.description.clone(),
                },
                triggers: manifest.triggers.clone(),
            },
        }
    }
}

/// Where a commit has its daemons; in the usual places when its own file is broken.
pub(crate) async fn layout(
    world: &World,
    repository: &str,
    view: &View,
    commit: &Commit,
) -> Result<Layout, SourceError> {
    let own = OwnFile::read(world, view, commit).await?;
    Ok(own_layout(repository, &OwnFile::check(own.as_ref())))
}

fn own_layout(repository: &str, spellbook: &Checked<Spellbook>) -> Layout {
    Layout::new(repository, spellbook.value.as_ref().unwrap_or(&Spellbook::default()))
}

impl<'a> Survey<'a> {
    /// Looks at a commit.
    pub(crate) async fn at(
        world: &'a World,
        repository: &'a Repository,
        view: View,
        commit: &Commit,
    ) -> Result<Self, SourceError> {
        let own = OwnFile::read(world, &view, commit).await?;
        let spellbook = OwnFile::check(own.as_ref());
        let layout = own_layout(repository.path.name.as_str(), &spellbook);
        let standard = Standard::of(world);
        Ok(Self { world, repository, view, commit: commit.clone(), layout, standard, spellbook, own })
    }

    /// What is wrong with the repository's own file, as shown to people.
    pub(crate) fn spellbook_problems(&self) -> String {
        match &self.own {
            Some(own) if !self.spellbook.diagnostics.is_empty() => {
                manifest::render(&self.spellbook.diagnostics, &(own.name, &*own.text()), Style::Plain)
            }
            Some(_) | None => String::new(),
        }
    }

    /// The daemons that differ between an earlier commit and this one, or all of them.
    pub(crate) async fn changed(&self, from: Option<&Commit>) -> Result<Changed, SourceError> {
        let paths = self.paths_since(from).await?;
        let affected = self.layout.affected(paths.iter().map(String::as_str));
        let mut directories = affected.directories;
        if let Some(from) = from.filter(|_| affected.everything) {
            // Licences and globs are in the repository's own file: any daemon may differ, and those that
            // it does not name any more are gone.
            directories.extend(self.directories().await?);
            let before = Box::pin(Self::at(self.world, self.repository, self.view.clone(), from)).await?;
            directories.extend(before.directories().await?);
        }
        Ok(Changed { daemons: self.read(directories).await?, paths })
    }

    /// The directories of the commit that may be a daemon's.
    async fn directories(&self) -> Result<BTreeSet<String>, SourceError> {
        let paths = self.paths_since(None).await?;
        Ok(self.layout.affected(paths.iter().map(String::as_str)).directories)
    }

    async fn paths_since(&self, from: Option<&Commit>) -> Result<Vec<String>, SourceError> {
        let changes = self.world.source.changes(&self.view, from, &self.commit).await?;
        Ok(changes.into_iter().map(|change| change.path).collect())
    }

    /// One daemon, wherever the layout allows it to be.
    pub(crate) async fn find(&self, daemon: &DaemonId) -> Result<Option<Surveyed>, SourceError> {
        let mut likely =
            BTreeSet::from([format!("daemons/{daemon}"), format!(".spellbook/daemons/{daemon}")]);
        if self.layout.id_of("").as_ref() == Some(daemon) {
            likely.insert(String::new());
        }
        let there = |one: &Surveyed| !matches!(one.verdict, Verdict::Removed) && one.name == daemon.as_str();
        if let Some(found) = self.read(likely).await?.into_iter().find(there) {
            return Ok(Some(found));
        }
        let elsewhere = self.spellbook.value.as_ref().is_some_and(|spellbook| !spellbook.daemons.is_empty());
        if !elsewhere {
            return Ok(None);
        }
        let named = |directory: &String| self.layout.id_of(directory).as_ref() == Some(daemon);
        let named = self.directories().await?.into_iter().filter(named).collect();
        Ok(self.read(named).await?.into_iter().find(there))
    }

    async fn read(&self, mut directories: BTreeSet<String>) -> Result<Vec<Surveyed>, SourceError> {
        // Every path lies below the root, but hardly ever is the root a daemon; it would be read whole.
        if directories.contains("") && !self.root_is_daemon().await? {
            directories.remove("");
        }
        let (directories, others): (Vec<String>, Vec<String>) =
            directories.into_iter().partition(|directory| self.layout.holds(directory));
        let mut surveyed: Vec<Surveyed> =
            others.iter().map(|directory| self.judge(directory, None)).collect();
        for some in directories.chunks(AT_ONCE) {
            let mut read = self.world.source.directories(&self.view, &self.commit, some, BOUNDS).await?;
            for directory in some {
                let found = read.iter().position(|one| one.path == *directory).map(|at| read.swap_remove(at));
                surveyed.push(self.judge(directory, found));
            }
        }
        Ok(surveyed)
    }

    async fn root_is_daemon(&self) -> Result<bool, SourceError> {
        for name in MANIFESTS {
            if self.world.source.file(&self.view, &self.commit, name, 0).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn judge(&self, directory: &str, found: Option<Directory>) -> Surveyed {
        let last = directory.rsplit('/').next().unwrap_or(directory);
        let name = self.layout.id_of(directory).map_or_else(|| last.to_owned(), |id| id.to_string());
        let has_manifest = |found: &Directory| MANIFESTS.iter().any(|file| found.files.get(file).is_some());
        let verdict = match found.filter(has_manifest) {
            None => Verdict::Removed,
            Some(found) => self.check(&name, &found, None),
        };
        Surveyed { name, directory: directory.to_owned(), verdict }
    }

    fn check(&self, name: &str, found: &Directory, siblings: Option<&Siblings>) -> Verdict {
        let digest = found.digest.clone();
        let source = DaemonSource { id: name, directory: &found.path, files: &found.files };
        let Checked { value, diagnostics } =
            self.standard.daemon(source, self.spellbook.value.as_ref(), siblings);
        let said = said(&diagnostics, source);
        match value {
            Some(manifest) => {
                let manifest = Arc::new(manifest);
                self.world.manifests.put(&digest, &manifest);
                Verdict::Valid { digest, manifest, warnings: said, diagnostics }
            }
            None => Verdict::Invalid { digest, problems: said, diagnostics },
        }
    }
}

fn said(diagnostics: &[Diagnostic], source: DaemonSource<'_>) -> String {
    if diagnostics.is_empty() { String::new() } else { manifest::render(diagnostics, &source, Style::Plain) }
}

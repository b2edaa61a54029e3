//! Surveys: which daemons a commit holds, which ones it changed, and what is wrong with them. The same
//! code for a push that is not accepted yet, for a branch that moved, and for an address.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::files::File;
use domain::name::{Commit, DaemonId, Digest};
use domain::repository::Repository;
use domain::revision::{DaemonSummary, RevisionContent};
use manifest::discover::{Layout, MANIFESTS};
use manifest::{Checked, DaemonSource, Diagnostic, Manifest, Rules, Spellbook, Style};
use ports::source::{Directory, ReadBounds, SourceError, View};

use crate::world::World;

/// The repository's own file.
const SPELLBOOK: &str = "spellbook.yaml";
/// How much of a daemon's directory is read: what is larger is no prompt and no manifest.
const BOUNDS: ReadBounds = ReadBounds { max_bytes: 1 << 20, max_files: 2_000 };
/// How many directories are read at once, so that memory stays bounded whatever a push holds.
const AT_ONCE: usize = 8;

/// A view of one commit of a repository.
#[derive(Debug)]
pub(crate) struct Survey<'a> {
    world: &'a World,
    view: View,
    commit: Commit,
    layout: Layout,
    /// The repository's own file at this commit, and what is wrong with it.
    pub(crate) spellbook: Checked<Spellbook>,
    text: Option<Vec<u8>>,
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

/// What is to be said of a daemon.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It can run.
    Valid { digest: Digest, manifest: Arc<Manifest>, warnings: String },
    /// It cannot.
    Invalid { digest: Digest, problems: String },
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
            Verdict::Invalid { digest, problems } => RevisionContent::Invalid {
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

impl<'a> Survey<'a> {
    /// Looks at a commit.
    pub(crate) async fn at(
        world: &'a World,
        repository: &Repository,
        view: View,
        commit: &Commit,
    ) -> Result<Self, SourceError> {
        let text = match world.source.file(&view, commit, SPELLBOOK, BOUNDS.max_bytes).await? {
            Some(File::Regular(bytes)) => Some(bytes),
            Some(File::Large(_) | File::Symlink | File::Submodule) | None => None,
        };
        let spellbook = match &text {
            Some(bytes) => manifest::check_spellbook(SPELLBOOK, bytes),
            None => Checked { value: Some(Spellbook::default()), diagnostics: Vec::new() },
        };
        let unchanged = Spellbook::default();
        let layout =
            Layout::new(repository.path.name.as_str(), spellbook.value.as_ref().unwrap_or(&unchanged));
        Ok(Self { world, view, commit: commit.clone(), spellbook, text, layout })
    }

    /// What is wrong with the repository's own file, as shown to people.
    pub(crate) fn spellbook_problems(&self) -> String {
        if self.spellbook.diagnostics.is_empty() {
            return String::new();
        }
        let text = String::from_utf8_lossy(self.text.as_deref().unwrap_or_default());
        manifest::render(&self.spellbook.diagnostics, &(SPELLBOOK, &*text), Style::Plain)
    }

    /// Every daemon of the commit.
    pub(crate) async fn all(&self) -> Result<Vec<Surveyed>, SourceError> {
        let changes = self.world.source.changes(&self.view, None, &self.commit).await?;
        let affected = self.layout.affected(changes.iter().map(|change| change.path.as_str()));
        self.read(affected.directories).await
    }

    /// The daemons that differ between an earlier commit and this one; removed ones too. When the
    /// repository's own file differs, every daemon may: licences and globs are in it.
    pub(crate) async fn changed(&self, from: Option<&Commit>) -> Result<Vec<Surveyed>, SourceError> {
        let Some(from) = from else { return self.all().await };
        let changes = self.world.source.changes(&self.view, Some(from), &self.commit).await?;
        let affected = self.layout.affected(changes.iter().map(|change| change.path.as_str()));
        if affected.everything {
            let whole = self.world.source.changes(&self.view, None, &self.commit).await?;
            let all = self.layout.affected(whole.iter().map(|change| change.path.as_str()));
            return self.read(affected.directories.into_iter().chain(all.directories).collect()).await;
        }
        self.read(affected.directories).await
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
        if elsewhere { Ok(self.all().await?.into_iter().find(there)) } else { Ok(None) }
    }

    async fn read(&self, mut directories: BTreeSet<String>) -> Result<Vec<Surveyed>, SourceError> {
        // Every path lies below the root, but hardly ever is the root a daemon; it would be read whole.
        if directories.contains("") && !self.root_is_daemon().await? {
            directories.remove("");
        }
        let directories: Vec<String> = directories.into_iter().collect();
        let mut surveyed = Vec::new();
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
            Some(found) => self.check(&name, &found),
        };
        Surveyed { name, directory: directory.to_owned(), verdict }
    }

    fn check(&self, name: &str, found: &Directory) -> Verdict {
        let digest = found.digest.clone();
        let source = DaemonSource { id: name, directory: &found.path, files: &found.files };
        let models = self.world.models.names();
        let models: Vec<&str> = models.iter().map(String::as_str).collect();
        let runtimes = self.world.sandbox.runtimes();
        let runtimes: Vec<&str> = runtimes.iter().map(String::as_str).collect();
        let rules = Rules {
            ceiling: &self.world.settings.ceiling,
            models: &models,
            runtimes: &runtimes,
            spellbook: self.spellbook.value.as_ref(),
        };
        let Checked { value, diagnostics } = manifest::check_daemon(source, &rules);
        let said = said(&diagnostics, source);
        match value {
            Some(manifest) => {
                let manifest = Arc::new(manifest);
                self.world.manifests.put(&digest, &manifest);
                Verdict::Valid { digest, manifest, warnings: said }
            }
            None => Verdict::Invalid { digest, problems: said },
        }
    }
}

fn said(diagnostics: &[Diagnostic], source: DaemonSource<'_>) -> String {
    if diagnostics.is_empty() { String::new() } else { manifest::render(diagnostics, &source, Style::Plain) }
}

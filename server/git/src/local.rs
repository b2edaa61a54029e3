//! A person's own repository, on their machine: read, never written.

use std::path::{Path, PathBuf};

use domain::name::Commit;
use gix::bstr::BStr;
use ports::source::SourceError;

use crate::error::{Doing, refused};
use crate::{checkout, commit, object};

/// A repository with a working tree.
#[derive(Debug, Clone)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// The repository of a working tree.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(root: &Path) -> Result<Self, SourceError> {
        let local = Self { root: root.to_owned() };
        local.repository().map(|_| local)
    }

    /// The commit that a revision names, as git reads it: `HEAD~2`, `origin/main`, `v1.2`.
    ///
    /// # Errors
    /// When it names none.
    pub fn commit(&self, revision: &str) -> Result<Commit, SourceError> {
        let repo = self.repository()?;
        let found = repo.rev_parse_single(<&BStr>::from(revision)).ok().map(gix::Id::detach);
        match found.map(|id| object::peeled(&repo, id)).transpose()?.flatten() {
            Some(commit) => Ok(object::name(commit)),
            None => refused(format!("`{revision}` names no commit of {}", self.root.display())),
        }
    }

    /// Where two histories part.
    ///
    /// # Errors
    /// When a commit is not there.
    pub fn merge_base(&self, one: &Commit, other: &Commit) -> Result<Option<Commit>, SourceError> {
        commit::merge_base(&self.repository()?, one, other)
    }

    /// Writes the files of a commit into an empty directory.
    ///
    /// # Errors
    /// When it is not there, or the directory cannot be written.
    pub fn checkout(&self, commit: &Commit, directory: &Path) -> Result<(), SourceError> {
        checkout::checkout(&self.repository()?, commit, directory)
    }

    /// Nothing of the person's configuration is read, nor what would run a program.
    fn repository(&self) -> Result<gix::Repository, SourceError> {
        let opened = gix::open::Options::isolated().with(gix::sec::Trust::Full).open(&self.root);
        Ok(opened.doing("opening the repository")?.to_thread_local())
    }
}

//! A first commit for files that are in no repository yet.

use std::fs;
use std::path::Path;

use domain::id::RepositoryId;
use domain::name::Commit;
use domain::time::Timestamp;
use gix::objs::tree::{Entry, EntryKind};
use ports::source::SourceError;

use crate::commit::{self, Making};
use crate::error::Doing;
use crate::{Git, object};

/// The largest list of ignored files that is read, bytes.
const LARGEST: u64 = 1 << 20;

impl Git {
    /// Makes a commit without a parent that holds only the directory's `.gitignore`, if it has one: a
    /// snapshot above it then leaves out what the directory's owner wants left out.
    ///
    /// # Errors
    /// When the repository cannot be written.
    pub async fn begin(
        &self,
        repository: RepositoryId,
        directory: &Path,
        at: Timestamp,
    ) -> Result<Commit, SourceError> {
        let ignore = directory.join(".gitignore");
        self.read(repository, move |inner, repo| {
            let mut tree = gix::objs::Tree::empty();
            if fs::symlink_metadata(&ignore).is_ok_and(|file| file.is_file() && file.len() <= LARGEST) {
                let bytes = fs::read(&ignore).doing("reading .gitignore")?;
                let oid = repo.write_blob(&bytes).doing("writing .gitignore")?.detach();
                tree.entries.push(Entry { mode: EntryKind::Blob.into(), filename: ".gitignore".into(), oid });
            }
            let tree = repo.write_object(&tree).doing("writing a tree")?.detach();
            let making = Making { tree, parents: &[], message: "Nothing yet\n", at };
            commit::write(repo, &inner.config.identity, &making).map(object::name)
        })
        .await
    }
}

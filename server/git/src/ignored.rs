//! The `.gitignore` files of a commit.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use gix::bstr::BStr;
use gix::glob::pattern::Case;
use ports::source::SourceError;

use crate::error::Doing;
use crate::tree::Tree;

/// A larger file of patterns is not one that a person wrote.
const LONGEST: usize = 256 << 10;

/// The patterns from the root to the directory that a walk is in.
#[derive(Default)]
pub(crate) struct Ignored {
    search: gix::ignore::Search,
}

/// How many files of patterns a directory brought.
#[derive(Clone, Copy)]
pub(crate) struct Entered(usize);

impl Ignored {
    /// Adds the patterns of a directory, if the commit has any there.
    pub(crate) fn enter(
        &mut self,
        repo: &gix::Repository,
        tree: Option<&Tree>,
        path: &BStr,
    ) -> Result<Entered, SourceError> {
        let Some((mode, id)) = tree.and_then(|tree| tree.entries.get(BStr::new(".gitignore"))) else {
            return Ok(Entered(0));
        };
        if !mode.is_blob() || repo.find_header(*id).doing("reading .gitignore")?.size() > LONGEST as u64 {
            return Ok(Entered(0));
        }
        let patterns = repo.find_object(*id).doing("reading .gitignore")?;
        // The root is only a name: nothing is read from there.
        let root = Path::new("/");
        let source = root.join(OsStr::from_bytes(path)).join(".gitignore");
        let parse = gix::ignore::search::Ignore { support_precious: false };
        self.search
            .add_patterns_buffer(&patterns.data, source, Some(root), parse)
            .doing("reading .gitignore")?;
        Ok(Entered(1))
    }

    /// Forgets the patterns of a directory.
    pub(crate) fn leave(&mut self, entered: Entered) {
        let left = self.search.patterns.len().saturating_sub(entered.0);
        self.search.patterns.truncate(left);
    }

    /// Whether the patterns name a path; that of a directory above it is the caller's to remember.
    pub(crate) fn matches(&self, path: &BStr, is_directory: bool) -> bool {
        self.search
            .pattern_matching_relative_path(path, Some(is_directory), Case::Sensitive)
            .is_some_and(|found| !found.pattern.is_negative())
    }
}

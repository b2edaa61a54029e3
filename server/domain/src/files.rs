//! The files of a directory at a commit, as far as the rules need them.

use std::collections::BTreeMap;

/// The files below a directory, by path relative to it (`daemon.yaml`, `prompts/analyze.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, File>);

/// One entry of a directory at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// A regular file, whole.
    Regular(Vec<u8>),
    /// A regular file that is too large to be read here; its size in bytes.
    Large(u64),
    /// A symbolic link; never followed.
    Symlink,
    /// Another repository; never entered.
    Submodule,
}

impl Files {
    /// Adds or replaces a file.
    pub fn insert(&mut self, path: impl Into<String>, file: File) {
        self.0.insert(path.into(), file);
    }

    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.0.get(path)
    }

    /// The bytes of a regular file.
    pub fn bytes(&self, path: &str) -> Option<&[u8]> {
        match self.get(path) {
            Some(File::Regular(bytes)) => Some(bytes),
            Some(File::Large(_) | File::Symlink | File::Submodule) | None => None,
        }
    }

    /// All paths, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl<P: Into<String>> FromIterator<(P, File)> for Files {
    fn from_iter<I: IntoIterator<Item = (P, File)>>(files: I) -> Self {
        Self(files.into_iter().map(|(path, file)| (path.into(), file)).collect())
    }
}

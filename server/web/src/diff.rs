//! Differences of commits, whole or of some directories.

use ports::source::{ChangeKind, Diff, PathChange};
use serde::Serialize;
use utoipa::ToSchema;

/// The longest patch, bytes.
pub(crate) const LONGEST: usize = 1 << 20;

/// The difference of two commits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Diff)]
pub(crate) struct DiffJson {
    /// The files that differ.
    files: Vec<ChangeJson>,
    /// A unified diff.
    patch: String,
    /// Whether the patch was cut.
    truncated: bool,
}

/// A file that differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Change)]
pub(crate) struct ChangeJson {
    /// Relative to the repository's root.
    path: String,
    /// `added`, `modified` or `removed`.
    change: &'static str,
}

impl From<Diff> for DiffJson {
    fn from(diff: Diff) -> Self {
        Self {
            files: diff.files.into_iter().map(ChangeJson::from).collect(),
            patch: diff.patch,
            truncated: diff.truncated,
        }
    }
}

impl From<PathChange> for ChangeJson {
    fn from(change: PathChange) -> Self {
        let word = match change.kind {
            ChangeKind::Added => "added",
            ChangeKind::Modified => "modified",
            ChangeKind::Removed => "removed",
        };
        Self { path: change.path, change: word }
    }
}

impl DiffJson {
    /// What of a difference lies in these directories; the root is the empty one.
    pub(crate) fn within(diff: Diff, directories: &[Option<&str>]) -> Self {
        let roots: Vec<&str> = directories.iter().flatten().copied().collect();
        if roots.iter().any(|root| root.is_empty()) {
            return Self::from(diff);
        }
        let inside = |path: &str| {
            roots.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')))
        };
        let patch = sections(&diff.patch).filter(|section| subject(section).is_some_and(inside)).collect();
        let files =
            diff.files.into_iter().filter(|change| inside(&change.path)).map(ChangeJson::from).collect();
        Self { files, patch, truncated: diff.truncated }
    }
}

/// The parts of a patch, one a file; each begins with its `diff --git` line. No other line of a patch
/// begins so: those of a file's content begin with a space, `+`, `-` or `\`.
fn sections(patch: &str) -> impl Iterator<Item = &str> {
    let mut rest = patch;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find("\ndiff --git ").map_or(rest.len(), |newline| newline + 1);
        let (section, next) = rest.split_at(end);
        rest = next;
        Some(section)
    })
}

/// The path that a section is about: the same on both sides, as renames are a removal and an addition.
/// Git writes unusual names in quotes; their directories are told apart all the same.
fn subject(section: &str) -> Option<&str> {
    let line = section.strip_prefix("diff --git ")?.lines().next()?;
    line.strip_prefix("a/").or_else(|| line.strip_prefix("\"a/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "diff --git a/daemons/a/x b/daemons/a/x\n--- a/daemons/a/x\n+++ b/daemons/a/x\n@@ -1 +1 @@\n-1\n+diff --git a/daemons/b/x\n\
        diff --git \"a/daemons/b/\\303\\274\" \"b/daemons/b/\\303\\274\"\nnew file mode 100644\n\
        diff --git a/daemons/ab/z b/daemons/ab/z\ndeleted file mode 100644\n";

    fn check(directories: &[Option<&str>], expect: &[usize]) {
        let names = ["daemons/a/x", "daemons/b/ü", "daemons/ab/z"];
        let files = names.map(|path| PathChange { path: path.to_owned(), kind: ChangeKind::Modified });
        let all: Vec<&str> = sections(PATCH).collect();
        let diff = Diff { files: files.to_vec(), patch: PATCH.to_owned(), truncated: false };
        let got = DiffJson::within(diff, directories);
        let wanted: Vec<&str> = expect.iter().map(|at| names[*at]).collect();
        assert_eq!(got.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), wanted);
        assert_eq!(got.patch, expect.iter().map(|at| all[*at]).collect::<String>());
    }

    #[test]
    fn only_what_lies_in_the_directories_is_shown() {
        check(&[Some("daemons/a")], &[0]);
        check(&[Some("daemons/b"), Some("daemons/b")], &[1]);
        check(&[Some("daemons/ab"), None], &[2]);
        check(&[Some("")], &[0, 1, 2]);
        check(&[None, None], &[]);
    }
}

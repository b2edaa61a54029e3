//! Where daemons are in a repository.
//!
//! A daemon is a directory with a manifest: `daemons/<id>/`, `.spellbook/daemons/<id>/`, the root, or what the
//! globs of `spellbook.yaml` say. Whether a *path* can be such a directory is known from the path alone; so
//! after a push only the directories above the changed files are looked at, however large the tree is.

use std::collections::{BTreeMap, BTreeSet};

use domain::name::DaemonId;
use globset::{GlobBuilder, GlobMatcher};

use crate::codes;
use crate::diagnostic::{Diagnostic, Problem};
use crate::spellbook::Spellbook;
use crate::suggest::quoted;

/// The names of a manifest, best first.
pub const MANIFESTS: [&str; 2] = ["daemon.yaml", "daemon.yml"];
/// The names of a repository's own file, best first.
pub const SPELLBOOKS: [&str; 2] = ["spellbook.yaml", "spellbook.yml"];

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Relative to the repository; empty for the root.
    pub directory: String,
    /// The name of the directory; for the root that of the repository.
    pub id: DaemonId,
}

/// Where daemons can be in one repository.
#[derive(Debug, Clone)]
pub struct Layout {
    root_id: Option<DaemonId>,
    /// In the order of the file: the last that matches decides, and one with `!` decides against.
    globs: Vec<(GlobMatcher, bool)>,
}

/// The daemons of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// In the order of their directories.
    pub daemons: Vec<Location>,
    /// Directories with a manifest that cannot be daemons: what they are called is not an id, or is taken.
    pub diagnostics: Vec<Diagnostic>,
}

/// What a change of files means for daemons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// Directories that may hold a daemon, and in which something changed. Whether there is a manifest must be
    /// looked up; when there was one before and is none now, the daemon is gone.
    pub directories: BTreeSet<String>,
    /// Whether the repository's own file changed: then daemons may be elsewhere, and the whole tree must be
    /// listed.
    pub everything: bool,
}

impl Layout {
    /// The layout of a repository, from its name and its own file.
    pub fn new(repository: &str, spellbook: &Spellbook) -> Self {
        let globs = spellbook.daemons.iter().filter_map(|glob| {
            let (pattern, selects) =
                glob.strip_prefix('!').map_or((glob.as_str(), true), |rest| (rest, false));
            let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
            let glob = GlobBuilder::new(pattern).literal_separator(true).build().ok()?;
            Some((glob.compile_matcher(), selects))
        });
        Self { root_id: root_id(repository), globs: globs.collect() }
    }

    /// Whether a directory can be a daemon's, by its path.
    pub fn holds(&self, directory: &str) -> bool {
        let child = |parent: &str| {
            directory.strip_prefix(parent).is_some_and(|name| !name.is_empty() && !name.contains('/'))
        };
        let listed = || {
            let deciding = self.globs.iter().rev().find(|(glob, _)| glob.is_match(directory));
            deciding.is_some_and(|(_, selects)| *selects)
        };
        directory.is_empty() || child("daemons/") || child(".spellbook/daemons/") || listed()
    }

    /// The id of the daemon in a directory; `None` when no daemon can be called so.
    pub fn id_of(&self, directory: &str) -> Option<DaemonId> {
        if directory.is_empty() {
            return self.root_id.clone();
        }
        DaemonId::parse(directory.rsplit('/').next().unwrap_or(directory)).ok()
    }

    /// The directories that can be a daemon's and hold this file, outermost first. A daemon owns everything
    /// below its directory, so they may be several; the root is always the first.
    pub fn directories_of<'p>(&self, path: &'p str) -> impl Iterator<Item = &'p str> {
        let above = path.match_indices('/').map(|(slash, _)| &path[..slash]);
        std::iter::once("").chain(above).filter(|directory| self.holds(directory))
    }

    /// What changed files mean for daemons; looks at nothing but the paths.
    pub fn affected<'p>(&self, changed: impl IntoIterator<Item = &'p str>) -> Affected {
        let mut affected = Affected::default();
        for path in changed {
            affected.everything |= SPELLBOOKS.contains(&path);
            for directory in self.directories_of(path) {
                if !affected.directories.contains(directory) {
                    affected.directories.insert(directory.to_owned());
                }
            }
        }
        affected
    }

    /// The daemons of a tree, from the paths of its files.
    pub fn discover<'p>(&self, paths: impl IntoIterator<Item = &'p str>) -> Discovered {
        let mut found: BTreeMap<&str, &str> = BTreeMap::new();
        for path in paths {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            if MANIFESTS.contains(&name) && self.holds(directory) {
                found.entry(directory).or_insert(path);
            }
        }
        let mut discovered = Discovered::default();
        let mut taken: BTreeMap<DaemonId, &str> = BTreeMap::new();
        for (directory, path) in found {
            match self.place(directory, &taken) {
                Ok(location) => {
                    taken.insert(location.id.clone(), directory);
                    discovered.daemons.push(location);
                }
                Err(problem) => discovered.diagnostics.push(problem.at(path, "", 0..0, String::new())),
            }
        }
        discovered
    }

    fn place(&self, directory: &str, taken: &BTreeMap<DaemonId, &str>) -> Result<Location, Problem> {
        let name = directory.rsplit('/').next().unwrap_or(directory);
        let Some(id) = self.id_of(directory) else {
            let message = format!("{} is not a daemon id", quoted(name));
            return Err(Problem::error(&codes::BAD_DAEMON_ID, message)
                .help("name the directory with lower-case letters, digits and single hyphens, at most 64"));
        };
        match taken.get(&id) {
            None => Ok(Location { directory: directory.to_owned(), id }),
            Some(other) => {
                let message = format!("the daemon `{id}` is already in {}", quoted(&format!("{other}/")));
                Err(Problem::error(&codes::DUPLICATE_ID, message).help("rename one of the directories"))
            }
        }
    }
}

/// The id of a daemon in the root: the repository's name, with what an id may not have made hyphens.
fn root_id(repository: &str) -> Option<DaemonId> {
    let slug: Vec<String> = repository
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    DaemonId::parse(slug.join("-")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(globs: &[&str]) -> Layout {
        let daemons = globs.iter().map(ToString::to_string).collect();
        Layout::new("My.Book_2", &Spellbook { daemons, ..Spellbook::default() })
    }

    #[test]
    fn daemons_are_found_where_they_may_be() {
        let paths = [
            "daemon.yaml",
            "daemons/review/daemon.yaml",
            "daemons/review/prompts/daemon.yaml",
            "daemons/triage/daemon.yml",
            "daemons/empty/README.md",
            "daemons/Bad_Name/daemon.yaml",
            ".spellbook/daemons/hidden/daemon.yaml",
            ".spellbook/daemons/review/daemon.yaml",
            "tools/a/daemon/daemon.yaml",
            "tools/old/daemon/daemon.yaml",
            "elsewhere/x/daemon.yaml",
        ];
        let found = layout(&["tools/*/daemon", "!tools/old/*"]).discover(paths);
        let daemons: Vec<String> =
            found.daemons.iter().map(|one| format!("{}={}", one.id, one.directory)).collect();
        assert_eq!(
            daemons,
            [
                "my-book-2=",
                "hidden=.spellbook/daemons/hidden",
                "review=.spellbook/daemons/review",
                "triage=daemons/triage",
                "daemon=tools/a/daemon",
            ]
        );
        let problems: Vec<String> = found.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "daemons/Bad_Name/daemon.yaml:1:1: error[SB0011]: `Bad_Name` is not a daemon id",
                "daemons/review/daemon.yaml:1:1: error[SB0012]: the daemon `review` is already in `.spellbook/daemons/review/`",
            ]
        );
    }

    #[test]
    fn a_change_reaches_only_the_directories_above_it() {
        let layout = layout(&["agents/**"]);
        let check = |changed: &[&str], expect: &[&str], everything: bool| {
            let affected = layout.affected(changed.iter().copied());
            assert_eq!(affected.directories.iter().map(String::as_str).collect::<Vec<_>>(), expect);
            assert_eq!(affected.everything, everything);
        };
        check(&["README.md"], &[""], false);
        check(&["daemons/review/prompts/a.md", "daemons/review/daemon.yaml"], &["", "daemons/review"], false);
        check(&["daemons/README.md", "src/daemons/x/daemon.yaml"], &[""], false);
        check(&["agents/a/b/c.txt"], &["", "agents/a", "agents/a/b"], false);
        check(&["spellbook.yaml"], &[""], true);
        check(&[], &[], false);
    }

    #[test]
    fn what_is_discovered_is_what_a_change_of_its_manifest_affects() {
        let layout = layout(&["agents/**"]);
        for path in [
            "daemon.yaml",
            "daemons/a/daemon.yaml",
            ".spellbook/daemons/b/daemon.yml",
            "agents/x/y/daemon.yaml",
        ] {
            for location in layout.discover([path]).daemons {
                assert!(layout.affected([path]).directories.contains(&location.directory), "{path}");
            }
        }
    }
}

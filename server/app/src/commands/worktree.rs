//! A spellbook as it lies on this machine: the working tree of a repository, or any directory.
//!
//! Symbolic links are told apart and never followed below the root, as on a server, which sees git's
//! trees and not what a link points to.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use domain::files::{File, Files};
use domain::limits::Limits;
use domain::name::DaemonId;
use manifest::discover::{Discovered, Layout, Location, MANIFESTS, SPELLBOOKS};
use manifest::{
    Checked, DaemonSource, Diagnostic, Manifest, POLICY, Rules, Siblings, Spellbook, check_daemon,
    check_policy, check_spellbook,
};

use crate::exit::{CommandError, Exit};

/// The largest file that is read, bytes; a manifest may name none that is larger.
const LONGEST_FILE: u64 = 1 << 20;
/// How much of a daemon's directory is read, bytes. Beyond it only files are read whose names stand in
/// the manifest: a daemon in the root of a repository owns everything there.
const MOST_READ: u64 = 64 << 20;
/// How many entries are looked at below one directory.
const MOST_ENTRIES: usize = 200_000;

/// A spellbook on this machine.
#[derive(Debug)]
pub(crate) struct Worktree {
    root: PathBuf,
    spellbook: Option<OwnFile>,
    layout: Layout,
    /// Every daemon of it, once somebody asked.
    all: OnceLock<Vec<Location>>,
}

/// `spellbook.yaml`, as it was read and understood.
#[derive(Debug)]
pub(crate) struct OwnFile {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its text; empty when it is none.
    pub(crate) text: String,
    /// What it says, or what is wrong with it.
    pub(crate) checked: Checked<Spellbook>,
}

/// `.spellbook/policy.yaml`, as it was read, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    /// Its text; empty when it is none.
    pub(crate) text: String,
    /// What is wrong with it.
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A daemon on this machine.
#[derive(Debug)]
pub(crate) struct LocalDaemon {
    /// Where it is.
    pub(crate) location: Location,
    /// The files of its directory.
    pub(crate) files: Files,
}

impl LocalDaemon {
    /// The daemon, as a check takes it.
    pub(crate) fn source(&self) -> DaemonSource<'_> {
        DaemonSource {
            id: self.location.id.as_str(),
            directory: &self.location.directory,
            files: &self.files,
        }
    }

    /// Checks it against what any server allows.
    pub(crate) fn check(
        &self,
        spellbook: Option<&Spellbook>,
        siblings: Option<&Siblings>,
    ) -> Checked<Manifest> {
        let rules =
            Rules { ceiling: &Limits::CEILING, models: &[], agents: &[], runtimes: &[], spellbook, siblings };
        check_daemon(self.source(), &rules)
    }
}

impl Worktree {
    /// The spellbook that holds a path: the git repository around it, else the nearest directory with a
    /// `spellbook.yaml`, else the directory itself.
    ///
    /// # Errors
    /// When there is no such path, or it cannot be read.
    pub(crate) fn around(path: &Path) -> Result<(Self, PathBuf), CommandError> {
        let whole = path.canonicalize().map_err(|error| unreadable(path, error))?;
        let root = root_of(&whole);
        let inside = whole.strip_prefix(&root).unwrap_or(Path::new("")).to_owned();
        let spellbook = own_file(&root)?;
        let value = spellbook.as_ref().and_then(|file| file.checked.value.clone()).unwrap_or_default();
        let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let layout = Layout::new(&name, &value);
        Ok((Self { root, spellbook, layout, all: OnceLock::new() }, inside))
    }

    /// The root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `spellbook.yaml`, if there is one.
    pub(crate) fn own_file(&self) -> Option<&OwnFile> {
        self.spellbook.as_ref()
    }

    /// `.spellbook/policy.yaml`, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn policy(&self) -> Result<Option<PolicyFile>, CommandError> {
        let path = self.root.join(POLICY);
        let Ok(meta) = path.symlink_metadata() else { return Ok(None) };
        if !meta.is_file() {
            let diagnostics = check_policy(POLICY, &File::Symlink).diagnostics;
            return Ok(Some(PolicyFile { text: String::new(), diagnostics }));
        }
        let bytes = read_up_to(&path, LONGEST_FILE + 1)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let diagnostics = check_policy(POLICY, &File::Regular(bytes)).diagnostics;
        Ok(Some(PolicyFile { text, diagnostics }))
    }

    /// What `spellbook.yaml` says; `None` without one, or with a broken one.
    pub(crate) fn spellbook(&self) -> Option<&Spellbook> {
        self.spellbook.as_ref().and_then(|file| file.checked.value.as_ref())
    }

    /// The daemons at a path relative to the root: those below it, and the one around it.
    pub(crate) fn discover(&self, inside: &Path) -> Result<Discovered, CommandError> {
        let inside = slashed(inside);
        let mut found = self.layout.discover(self.manifests()?.iter().map(String::as_str));
        let wanted = |directory: &str| {
            is_within(directory, &inside) || (!directory.is_empty() && is_within(&inside, directory))
        };
        found.daemons.retain(|location| {
            wanted(&location.directory)
                || (location.directory.is_empty() && MANIFESTS.contains(&inside.as_str()))
        });
        found.diagnostics.retain(|diagnostic| {
            wanted(diagnostic.file.rsplit_once('/').map_or("", |(directory, _)| directory))
        });
        Ok(found)
    }

    /// A directory with a manifest that a server would not look at; `None` when it would, or when there
    /// is no manifest.
    pub(crate) fn outsider(&self, inside: &Path) -> Option<Location> {
        let directory = match inside.file_name().and_then(|name| name.to_str()) {
            Some(name) if MANIFESTS.contains(&name) => slashed(inside.parent()?),
            _ => slashed(inside),
        };
        let has_manifest = MANIFESTS.iter().any(|name| is_entry(&self.root.join(&directory).join(name)));
        if self.layout.holds(&directory) || !has_manifest {
            return None;
        }
        let id = DaemonId::parse(directory.rsplit('/').next()?).ok()?;
        Some(Location { directory, id })
    }

    /// What a daemon calls by `./id`, and what else it could have called.
    pub(crate) fn siblings(&self, caller: &Manifest) -> Result<Siblings, CommandError> {
        let all = self.all()?;
        let ids = all.iter().map(|location| location.id.clone()).collect();
        let mut siblings = Siblings { ids, ..Siblings::default() };
        for location in all.iter().filter(|location| caller.callees().contains(&location.id)) {
            let checked = self.load(location.clone())?.check(self.spellbook(), None);
            siblings.called.insert(location.id.clone(), checked.value.map(|manifest| manifest.inputs));
        }
        Ok(siblings)
    }

    /// The daemon of an id.
    pub(crate) fn daemon(&self, id: &DaemonId) -> Result<Option<LocalDaemon>, CommandError> {
        let location = self.all()?.iter().find(|location| location.id == *id);
        location.map(|location| self.load(location.clone())).transpose()
    }

    /// Every daemon of the spellbook.
    fn all(&self) -> Result<&[Location], CommandError> {
        if let Some(all) = self.all.get() {
            return Ok(all);
        }
        let found = self.discover(Path::new(""))?.daemons;
        Ok(self.all.get_or_init(|| found))
    }

    /// Reads a daemon.
    pub(crate) fn load(&self, location: Location) -> Result<LocalDaemon, CommandError> {
        let files = read_files(&self.root.join(&location.directory))?;
        Ok(LocalDaemon { location, files })
    }

    /// The paths of all files that are called like a manifest, where daemons may be.
    fn manifests(&self) -> Result<Vec<String>, CommandError> {
        let mut directories: BTreeSet<String> = BTreeSet::from([String::new()]);
        for parent in ["daemons", ".spellbook/daemons"] {
            directories.extend(self.children(parent)?);
        }
        for glob in self.spellbook().iter().flat_map(|spellbook| &spellbook.daemons) {
            if !glob.starts_with('!') {
                self.below(fixed_part(glob), &mut directories)?;
            }
        }
        let manifest = |directory: &String, name: &str| {
            if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
        };
        let paths = directories.iter().flat_map(|directory| MANIFESTS.map(|name| manifest(directory, name)));
        Ok(paths.filter(|path| is_entry(&self.root.join(path))).collect())
    }

    /// The directories in a directory, relative to the root.
    fn children(&self, parent: &str) -> Result<Vec<String>, CommandError> {
        let path = self.root.join(parent);
        if !path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            return Ok(Vec::new());
        }
        let entries = entries(&path)?.into_iter().filter(|(name, kind)| kind.is_dir() && name != ".git");
        Ok(entries
            .map(|(name, _)| if parent.is_empty() { name } else { format!("{parent}/{name}") })
            .collect())
    }

    /// A directory and everything below it, relative to the root.
    fn below(&self, from: &str, into: &mut BTreeSet<String>) -> Result<(), CommandError> {
        let mut open = vec![from.to_owned()];
        while let Some(directory) = open.pop() {
            open.extend(self.children(&directory)?);
            into.insert(directory);
            if into.len() > MOST_ENTRIES {
                return Err(too_many(&self.root.join(from)));
            }
        }
        Ok(())
    }
}

/// The root of the spellbook that holds a path.
fn root_of(path: &Path) -> PathBuf {
    let start = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let marked = |marks: &[&str]| {
        start.ancestors().find(|directory| marks.iter().any(|mark| is_entry(&directory.join(mark))))
    };
    if let Some(root) = marked(&[".git"]).or_else(|| marked(&SPELLBOOKS)) {
        return root.to_owned();
    }
    // `…/daemons/<id>` outside of any repository still is the daemon of that id.
    let parent = start.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "daemons"));
    let above = parent
        .and_then(Path::parent)
        .map(|above| if above.ends_with(".spellbook") { above.parent().unwrap_or(above) } else { above });
    above.unwrap_or(start).to_owned()
}

/// Reads and checks the repository's own file.
fn own_file(root: &Path) -> Result<Option<OwnFile>, CommandError> {
    let Some(name) = SPELLBOOKS.into_iter().find(|name| is_entry(&root.join(name))) else { return Ok(None) };
    let path = root.join(name);
    let meta = path.symlink_metadata().map_err(|error| unreadable(&path, error))?;
    if !meta.is_file() {
        let message = format!("{} is not a regular file", path.display());
        return Err(CommandError::new(Exit::Invalid, "not_a_file", message)
            .help("commit the file itself, not a link to it"));
    }
    // One byte more than allowed is enough for the check to say that it is too long.
    let bytes = read_up_to(&path, LONGEST_FILE + 1)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let checked = check_spellbook(name, &File::Regular(bytes), env!("CARGO_PKG_VERSION"));
    Ok(Some(OwnFile { name, text, checked }))
}

/// The files below a daemon's directory.
fn read_files(directory: &Path) -> Result<Files, CommandError> {
    let manifest = MANIFESTS.iter().find_map(|name| {
        let path = directory.join(name);
        path.symlink_metadata().ok().filter(fs::Metadata::is_file)?;
        read_up_to(&path, LONGEST_FILE).ok()
    });
    let manifest = String::from_utf8_lossy(manifest.as_deref().unwrap_or_default()).into_owned();
    let mut files = Files::default();
    let (mut read, mut seen) = (0, 0);
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        for (name, kind) in entries(&directory.join(&below))? {
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            seen += 1;
            if seen > MOST_ENTRIES {
                return Err(too_many(directory));
            }
            if kind.is_symlink() {
                files.insert(path, File::Symlink);
            } else if kind.is_dir() && name != ".git" {
                match is_entry(&directory.join(&path).join(".git")) {
                    true => files.insert(path, File::Submodule),
                    false => open.push(path),
                }
            } else if kind.is_file() {
                let needed = MANIFESTS.contains(&path.as_str()) || manifest.contains(&name);
                let file = read_file(&directory.join(&path), needed || read < MOST_READ)?;
                read += if let File::Regular(bytes) = &file { bytes.len() as u64 } else { 0 };
                files.insert(path, file);
            }
        }
    }
    Ok(files)
}

/// A regular file; one whose content nobody needs is an empty one.
fn read_file(path: &Path, needed: bool) -> Result<File, CommandError> {
    let size = path.symlink_metadata().map_err(|error| unreadable(path, error))?.len();
    Ok(match (size > LONGEST_FILE, needed) {
        (true, _) => File::Large(size),
        (false, true) => File::Regular(read_up_to(path, LONGEST_FILE)?),
        (false, false) => File::Regular(Vec::new()),
    })
}

fn read_up_to(path: &Path, most: u64) -> Result<Vec<u8>, CommandError> {
    use io::Read;
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| unreadable(path, error))?;
    Ok(bytes)
}

/// The text of a manifest: a regular file of bearable size in UTF-8.
///
/// # Errors
/// When it is something else, or cannot be read.
pub(super) fn read_text(path: &Path) -> Result<String, CommandError> {
    let meta = path.symlink_metadata().map_err(|error| unreadable(path, error))?;
    let refused =
        |why: &str| CommandError::new(Exit::Invalid, "not_a_manifest", format!("{} {why}", path.display()));
    if !meta.is_file() {
        return Err(refused("is not a regular file"));
    }
    if meta.len() > LONGEST_FILE {
        return Err(refused("is larger than 1 MiB"));
    }
    String::from_utf8(read_up_to(path, LONGEST_FILE)?).map_err(|_| refused("is not UTF-8 text"))
}

/// The entries of a directory, by name; those whose names are no text cannot be named by a manifest.
fn entries(directory: &Path) -> Result<Vec<(String, fs::FileType)>, CommandError> {
    let read = || -> io::Result<Vec<(String, fs::FileType)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push((name, entry.file_type()?));
            }
        }
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    };
    read().map_err(|error| unreadable(directory, error))
}

/// Whether something is there, also when it is a link to nowhere.
fn is_entry(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The part of a glob before the first wildcard, as a directory.
fn fixed_part(glob: &str) -> &str {
    let glob = glob.trim_start_matches("./").trim_end_matches('/');
    match glob.find(['*', '?', '[', '{', '\\']) {
        None => glob,
        Some(wildcard) => glob[..wildcard].rsplit_once('/').map_or("", |(directory, _)| directory),
    }
}

/// Whether a path is another one, or below it; everything is below the root.
fn is_within(path: &str, directory: &str) -> bool {
    directory.is_empty()
        || path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn slashed(path: &Path) -> String {
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn unreadable(path: &Path, error: io::Error) -> CommandError {
    match error.kind() {
        io::ErrorKind::NotFound => {
            CommandError::usage("no_such_path", format!("there is no file or directory `{}`", path.display()))
        }
        _ => CommandError::failed("unreadable", format!("{} cannot be read", path.display())).because(error),
    }
}

fn too_many(directory: &Path) -> CommandError {
    let message = format!("there are more than {MOST_ENTRIES} entries below {}", directory.display());
    CommandError::failed("too_many_files", message).help("name the daemons' directories")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory with files; a path that ends with `/` is a directory, `a -> b` a link.
    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::Builder::new().prefix("book").tempdir().unwrap();
        for path in paths {
            let (path, link) = path.split_once(" -> ").map_or((*path, None), |(path, to)| (path, Some(to)));
            let whole = root.path().join(path);
            fs::create_dir_all(if path.ends_with('/') { &whole } else { whole.parent().unwrap() }).unwrap();
            match link {
                Some(to) => symlink(to, whole).unwrap(),
                None if path.ends_with('/') => {}
                None if path == "spellbook.yaml" => {
                    fs::write(whole, "daemons: [\"tools/*/daemon\", \"!tools/old/*\"]\n").unwrap();
                }
                None => {
                    fs::write(
                        whole,
                        "daemon: { name: X, stages: [{ name: A, type: script, script: ls }] }\n",
                    )
                    .unwrap();
                }
            }
        }
        root
    }

    fn check(paths: &[&str], at: &str, expect: &[&str]) {
        let root = tree(paths);
        let (worktree, inside) = Worktree::around(&root.path().join(at)).unwrap();
        let found = worktree.discover(&inside).unwrap().daemons;
        assert_eq!(
            found.iter().map(|one| one.directory.as_str()).collect::<Vec<_>>(),
            expect,
            "{paths:?} at {at}"
        );
    }

    const BOOK: &[&str] = &[
        ".git/",
        "spellbook.yaml",
        "daemons/a/daemon.yaml",
        "daemons/a/prompts/x.md",
        "daemons/b/daemon.yml",
        "daemons/none/README.md",
        "daemons/deep/er/daemon.yaml",
        ".spellbook/daemons/c/daemon.yaml",
        "tools/x/daemon/daemon.yaml",
        "tools/old/daemon/daemon.yaml",
        "elsewhere/y/daemon.yaml",
        "daemons/link -> ../elsewhere/y",
    ];

    #[test]
    fn daemons_are_found_below_a_path_and_around_it() {
        check(BOOK, "", &[".spellbook/daemons/c", "daemons/a", "daemons/b", "tools/x/daemon"]);
        check(BOOK, "daemons", &["daemons/a", "daemons/b"]);
        check(BOOK, "daemons/a/prompts/x.md", &["daemons/a"]);
        check(BOOK, "daemons/b/daemon.yml", &["daemons/b"]);
        check(BOOK, "tools", &["tools/x/daemon"]);
        check(BOOK, "elsewhere", &[]);
        check(&["daemon.yaml", "daemons/a/daemon.yaml"], "", &["", "daemons/a"]);
        check(&["daemon.yaml", "src/x"], "daemon.yaml", &[""]);
        check(&["daemons/a/daemon.yaml"], "daemons/a", &["daemons/a"]);
        check(&[".spellbook/daemons/a/daemon.yaml"], ".spellbook/daemons/a", &[".spellbook/daemons/a"]);
    }

    #[test]
    fn a_daemon_that_no_server_sees_is_known_when_it_is_named() {
        let root = tree(BOOK);
        let (worktree, inside) = Worktree::around(&root.path().join("elsewhere/y")).unwrap();
        assert_eq!(worktree.outsider(&inside).map(|one| one.directory), Some("elsewhere/y".to_owned()));
        let (worktree, inside) = Worktree::around(&root.path().join("daemons/a")).unwrap();
        assert_eq!(worktree.outsider(&inside), None);
    }

    #[test]
    fn links_and_other_repositories_are_not_entered() {
        let root = tree(&[
            ".git/",
            "daemons/a/daemon.yaml",
            "daemons/a/secret -> /etc/passwd",
            "daemons/a/etc -> /etc",
            "daemons/a/sub/.git/",
            "daemons/a/sub/x",
        ]);
        let (worktree, inside) = Worktree::around(root.path()).unwrap();
        let location = worktree.discover(&inside).unwrap().daemons.remove(0);
        let files = worktree.load(location).unwrap().files;
        assert_eq!(files.paths().collect::<Vec<_>>(), ["daemon.yaml", "etc", "secret", "sub"]);
        assert_eq!(
            [files.get("secret"), files.get("etc"), files.get("sub")],
            [Some(&File::Symlink), Some(&File::Symlink), Some(&File::Submodule)]
        );
    }

    #[test]
    fn a_linked_spellbook_file_is_refused() {
        let root = tree(&[".git/", "real.yaml", "spellbook.yaml -> real.yaml"]);
        assert_eq!(Worktree::around(root.path()).unwrap_err().code(), "not_a_file");
    }

    #[test]
    fn a_large_file_is_known_by_its_size() {
        let root = tree(&["daemon.yaml"]);
        fs::write(root.path().join("big.bin"), vec![0; (1 << 20) + 1]).unwrap();
        assert_eq!(read_files(root.path()).unwrap().get("big.bin"), Some(&File::Large((1 << 20) + 1)));
    }
}

//! Trees of commits: what lies where, and what is in it. Links are never followed.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use domain::files::{File, Files};
use domain::name::{Commit, Digest};
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::TreeRefIter;
use gix::objs::tree::{EntryKind as Mode, EntryMode};
use ports::source::{Directory, Entry, EntryKind, ReadBounds, SourceError};

use crate::error::{Doing, no_commit, refused};
use crate::object;

/// How deep directories may lie in each other. Linux' own limit on a path is 2,048 names.
pub(crate) const MOST_DEPTH: usize = 256;

/// What lies directly below a directory.
pub(crate) fn list(
    repo: &gix::Repository,
    commit: &Commit,
    directory: &str,
) -> Result<Vec<Entry>, SourceError> {
    let Some(found) = Trees::of(repo, commit, 1)?.directory(directory)? else { return Ok(Vec::new()) };
    let entries = found.entries.iter().map(|(name, (mode, id))| Entry {
        name: name.to_str_lossy().into_owned(),
        kind: kind(*mode),
        object: id.to_string(),
    });
    Ok(entries.collect())
}

/// One file.
pub(crate) fn file(
    repo: &gix::Repository,
    commit: &Commit,
    path: &str,
    max_bytes: u64,
) -> Result<Option<File>, SourceError> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let Some(parent) = Trees::of(repo, commit, 1)?.find(parent)? else { return Ok(None) };
    match scan(repo, parent, name.as_bytes())? {
        None => Ok(None),
        Some((mode, _)) if mode.is_tree() => Ok(None),
        Some((mode, id)) => read(repo, mode, id, max_bytes).map(Some),
    }
}

/// Several directories whole.
pub(crate) fn directories(
    repo: &gix::Repository,
    commit: &Commit,
    directories: &[String],
    bounds: ReadBounds,
) -> Result<Vec<Directory>, SourceError> {
    let mut trees = Trees::of(repo, commit, directories.len())?;
    let mut found = Vec::with_capacity(directories.len());
    for path in directories {
        let Some(tree) = trees.directory(path)? else { continue };
        let mut reading =
            Reading { repo, bounds, files: Files::default(), count: 0, bytes_left: bounds.max_total };
        reading.directory(&tree, "", 0)?;
        let digest =
            Digest::parse(tree.id.to_string()).expect("because an object id is 40 hexadecimal digits");
        found.push(Directory { path: path.clone(), digest, files: reading.files });
    }
    Ok(found)
}

/// A tree, parsed.
pub(crate) struct Tree {
    pub(crate) id: ObjectId,
    pub(crate) entries: BTreeMap<BString, (EntryMode, ObjectId)>,
}

impl Tree {
    /// Reads a tree. Two entries of one name are refused: which one counts is a matter of taste, and
    /// an attacker's taste is not ours.
    pub(crate) fn read(repo: &gix::Repository, id: ObjectId) -> Result<Self, SourceError> {
        let object = repo.find_object(id).doing("reading a tree")?;
        let parsed = object.try_into_tree().doing("reading a tree")?;
        let mut entries = BTreeMap::new();
        for entry in parsed.iter() {
            let entry = entry.doing("reading a tree")?;
            let new = (entry.mode(), entry.object_id());
            if entries.insert(entry.filename().to_owned(), new).is_some() {
                return refused(format!("the tree {id} names `{}` twice", entry.filename()));
            }
        }
        Ok(Self { id, entries })
    }
}

/// From so many paths on, it pays to parse a tree for look-ups instead of looking through it.
const MANY: usize = 16;

/// The directories of one commit.
struct Trees<'r> {
    repo: &'r gix::Repository,
    root: ObjectId,
    is_for_many: bool,
    parsed: HashMap<ObjectId, Rc<Tree>>,
}

impl<'r> Trees<'r> {
    fn of(repo: &'r gix::Repository, commit: &Commit, paths: usize) -> Result<Self, SourceError> {
        let root = object::tree(repo, commit)?;
        if !repo.has_object(root) {
            return Err(no_commit(commit));
        }
        Ok(Self { repo, root, is_for_many: paths >= MANY, parsed: HashMap::new() })
    }

    fn directory(&mut self, path: &str) -> Result<Option<Tree>, SourceError> {
        self.find(path)?.map(|id| Tree::read(self.repo, id)).transpose()
    }

    /// The tree at a path, when it is a directory.
    fn find(&mut self, path: &str) -> Result<Option<ObjectId>, SourceError> {
        let mut found = self.root;
        if path.is_empty() {
            return Ok(Some(found));
        }
        for name in path.split('/') {
            match self.entry(found, name.as_bytes())? {
                Some((mode, id)) if mode.is_tree() => found = id,
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    fn entry(&mut self, tree: ObjectId, name: &[u8]) -> Result<Option<(EntryMode, ObjectId)>, SourceError> {
        if !self.is_for_many {
            return scan(self.repo, tree, name);
        }
        let parsed = match self.parsed.entry(tree) {
            std::collections::hash_map::Entry::Occupied(known) => Rc::clone(known.get()),
            std::collections::hash_map::Entry::Vacant(new) => {
                Rc::clone(new.insert(Rc::new(Tree::read(self.repo, tree)?)))
            }
        };
        Ok(parsed.entries.get(BStr::new(name)).copied())
    }
}

/// One entry of a tree, found without remembering the others.
fn scan(
    repo: &gix::Repository,
    tree: ObjectId,
    name: &[u8],
) -> Result<Option<(EntryMode, ObjectId)>, SourceError> {
    let object = repo.find_object(tree).doing("reading a tree")?;
    for entry in TreeRefIter::from_bytes(&object.data, tree.kind()) {
        let entry = entry.doing("reading a tree")?;
        if entry.filename == name {
            return Ok(Some((entry.mode, entry.oid.to_owned())));
        }
    }
    Ok(None)
}

struct Reading<'r> {
    repo: &'r gix::Repository,
    bounds: ReadBounds,
    files: Files,
    count: usize,
    bytes_left: u64,
}

impl Reading<'_> {
    /// What lies in a directory first, then what lies deeper: a manifest is read however much there is
    /// beside it.
    fn directory(&mut self, tree: &Tree, prefix: &str, depth: usize) -> Result<(), SourceError> {
        if depth > MOST_DEPTH {
            return refused(format!("directories lie more than {MOST_DEPTH} deep"));
        }
        for (name, (mode, id)) in tree.entries.iter().filter(|(_, (mode, _))| !mode.is_tree()) {
            self.file(format!("{prefix}{}", name.to_str_lossy()), *mode, *id)?;
        }
        for (name, (_, id)) in tree.entries.iter().filter(|(_, (mode, _))| mode.is_tree()) {
            let prefix = format!("{prefix}{}/", name.to_str_lossy());
            self.directory(&Tree::read(self.repo, *id)?, &prefix, depth + 1)?;
        }
        Ok(())
    }

    fn file(&mut self, path: String, mode: EntryMode, id: ObjectId) -> Result<(), SourceError> {
        self.count += 1;
        // Names alone are small, but there is no end to a hostile tree of trees.
        if self.count > self.bounds.max_files.saturating_mul(16) {
            return refused("there are far too many files in one directory");
        }
        let file = match self.count > self.bounds.max_files {
            false => read(self.repo, mode, id, self.bounds.max_bytes.min(self.bytes_left))?,
            true => unread(self.repo, mode, id)?,
        };
        if let File::Regular(bytes) = &file {
            self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
        }
        self.files.insert(path, file);
        Ok(())
    }
}

fn read(repo: &gix::Repository, mode: EntryMode, id: ObjectId, max_bytes: u64) -> Result<File, SourceError> {
    match unread(repo, mode, id)? {
        File::Large(size) if size <= max_bytes => {
            let mut object = repo.find_object(id).doing("reading a file")?;
            Ok(File::Regular(std::mem::take(&mut object.data)))
        }
        other => Ok(other),
    }
}

fn unread(repo: &gix::Repository, mode: EntryMode, id: ObjectId) -> Result<File, SourceError> {
    Ok(match kind(mode) {
        EntryKind::File => File::Large(repo.find_header(id).doing("reading a file")?.size()),
        EntryKind::Symlink => File::Symlink,
        EntryKind::Submodule | EntryKind::Directory => File::Submodule,
    })
}

fn kind(mode: EntryMode) -> EntryKind {
    match mode.kind() {
        Mode::Tree => EntryKind::Directory,
        Mode::Blob | Mode::BlobExecutable => EntryKind::File,
        Mode::Link => EntryKind::Symlink,
        Mode::Commit => EntryKind::Submodule,
    }
}

//! A directory that a jail wrote, recorded as a commit.
//!
//! Everything is reached through descriptors, one name at a time, without following links, so that
//! nothing in the directory can lead elsewhere. `.git` in any spelling is not there as far as this
//! is concerned, and neither are sockets, pipes and devices. Files that the `.gitignore` files *of the
//! parent commit* name are left out unless that commit has them: a jail cannot hide what it did to a
//! tracked file, and build directories do not fill the repository.
//!
//! On the way it is seen whether the directory still is what a checkout made, so that it can serve again.

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use domain::name::Commit;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::tree::{Entry, EntryKind as Mode, EntryMode};
use gix::objs::{Kind, Write as _};
use ports::source::{Snapshot, SnapshotSpec, SourceError};
use rustix::fs::{AtFlags, Dir, FileType, Mode as Permissions, OFlags, Stat};

use crate::checkout::{is_safe_link, is_safe_name};
use crate::commit::{self, Making};
use crate::config::Identity;
use crate::error::{Doing, refused};
use crate::ignored::Ignored;
use crate::tree::{MOST_DEPTH, Tree};
use crate::{checkout, object, reference};

/// How many files, links and directories a workspace may have.
const MOST_ENTRIES: usize = 500_000;

/// Files above this are not read into memory whole.
const STREAMED: u64 = 8 << 20;

/// Records a directory above a commit, on the ref of its run.
pub(crate) fn snapshot(
    repo: &gix::Repository,
    identity: &Identity,
    largest: u64,
    spec: &SnapshotSpec<'_>,
) -> Result<Snapshot, SourceError> {
    let parent = object::find(repo, spec.parent)?.id;
    let before = object::tree(repo, spec.parent)?;
    let root =
        rustix::fs::open(spec.directory, DIRECTORY, Permissions::empty()).doing("opening the workspace")?;
    let mut walk = Walk {
        repo,
        largest,
        bytes_left: spec.max_bytes,
        max_bytes: spec.max_bytes,
        entries_left: MOST_ENTRIES,
        ignored: Ignored::default(),
        buffer: Vec::new(),
        untouched: spec.checkout.map(|commit| Untouched::of(repo, commit)).transpose()?,
    };
    walk.look(&rustix::fs::fstat(&root).doing("reading the workspace")?, &root);
    let place = Place { path: BString::default(), depth: 0, is_ignored: false };
    let tree = match walk.directory(&root, Some(before), &place)? {
        Some(tree) => tree,
        None => repo.write_object(gix::objs::Tree::empty()).doing("writing a tree")?.detach(),
    };
    let making = Making { tree, parents: &[parent], message: spec.message, at: spec.at };
    let commit = commit::write(repo, identity, &making)?;
    reference::advance_run(repo, spec.run, parent, commit)?;
    let changed = tree != before;
    Ok(Snapshot { commit: object::name(commit), changed, untouched: !changed && walk.untouched.is_some() })
}

/// What everything in a directory looks like that was checked out and never touched.
#[derive(Debug, Clone, Copy)]
struct Untouched {
    date: i64,
}

impl Untouched {
    fn of(repo: &gix::Repository, commit: &Commit) -> Result<Self, SourceError> {
        let date = checkout::date(repo, commit)?.duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self { date: date.map_or(0, |date| i64::try_from(date.as_secs()).unwrap_or(0)) })
    }

    /// Whether a file or directory has the date, one of the modes that a checkout gives (what is left of
    /// it by the usual masks), no second name and no attributes of its own.
    fn fits(self, stat: &Stat, opened: impl AsFd) -> bool {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let modes: &[u32] = if is_directory { &[0o755, 0o700] } else { &[0o644, 0o600, 0o755, 0o700] };
        // No name has room in one byte.
        let no_attributes = rustix::fs::flistxattr(opened, &mut [0u8; 1]).is_ok();
        stat.st_mtime == self.date
            && stat.st_mtime_nsec == 0
            && modes.contains(&(stat.st_mode & 0o7777))
            && (is_directory || stat.st_nlink == 1)
            && no_attributes
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

struct Walk<'r> {
    repo: &'r gix::Repository,
    largest: u64,
    bytes_left: u64,
    max_bytes: u64,
    entries_left: usize,
    ignored: Ignored,
    buffer: Vec<u8>,
    /// Taken away by the first thing that a checkout did not make.
    untouched: Option<Untouched>,
}

/// Where the walk is.
struct Place {
    path: BString,
    depth: usize,
    is_ignored: bool,
}

impl Place {
    fn join(&self, name: &BStr) -> BString {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }
}

/// What was found under a name, and what the parent commit has there.
struct Found<'a> {
    name: &'a BStr,
    stat: &'a Stat,
    tracked: Option<(EntryMode, ObjectId)>,
}

type Stored = Option<(Mode, ObjectId)>;

impl Walk<'_> {
    /// Looks whether a checkout made this.
    fn look(&mut self, stat: &Stat, opened: impl AsFd) {
        self.untouched = self.untouched.filter(|untouched| untouched.fits(stat, opened));
    }

    /// Nothing that is kept, and nothing that a checkout made.
    fn left_out(&mut self) -> Stored {
        self.untouched = None;
        None
    }

    /// The tree of a directory; `None` when it holds nothing that git would keep.
    fn directory(
        &mut self,
        directory: &OwnedFd,
        tracked: Option<ObjectId>,
        place: &Place,
    ) -> Result<Option<ObjectId>, SourceError> {
        if place.depth > MOST_DEPTH {
            return refused(format!("the workspace has directories more than {MOST_DEPTH} deep"));
        }
        let tracked = tracked.map(|id| Tree::read(self.repo, id)).transpose()?;
        let patterns = self.ignored.enter(self.repo, tracked.as_ref(), place.path.as_ref())?;
        let mut entries = self.entries(directory, tracked.as_ref(), place)?;
        self.ignored.leave(patterns);
        if let Some(tracked) = &tracked {
            self.restore_unwritten(tracked, place.depth, &mut entries)?;
        }
        if entries.is_empty() {
            return Ok(None);
        }
        entries.sort();
        let tree = gix::objs::Tree { entries };
        Ok(Some(self.repo.write_object(&tree).doing("writing a tree")?.detach()))
    }

    fn entries(
        &mut self,
        directory: &OwnedFd,
        tracked: Option<&Tree>,
        place: &Place,
    ) -> Result<Vec<Entry>, SourceError> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(directory).doing("reading the workspace")? {
            let entry = entry.doing("reading the workspace")?;
            let name = BStr::new(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            if !is_safe_name(name) {
                self.left_out();
                continue;
            }
            self.entries_left = match self.entries_left.checked_sub(1) {
                Some(left) => left,
                None => return refused(format!("the workspace has more than {MOST_ENTRIES} files")),
            };
            let stat = rustix::fs::statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)
                .doing("reading the workspace")?;
            let found = Found {
                name,
                stat: &stat,
                tracked: tracked.and_then(|tree| tree.entries.get(name).copied()),
            };
            if let Some((mode, oid)) = self.entry(directory, &found, place)? {
                entries.push(Entry { mode: mode.into(), filename: name.to_owned(), oid });
            }
        }
        Ok(entries)
    }

    fn entry(&mut self, parent: &OwnedFd, found: &Found<'_>, place: &Place) -> Result<Stored, SourceError> {
        let path = place.join(found.name);
        let kind = FileType::from_raw_mode(found.stat.st_mode);
        let is_directory = kind == FileType::Directory;
        let is_ignored = place.is_ignored || self.ignored.matches(path.as_ref(), is_directory);
        if is_ignored && found.tracked.is_none() {
            return Ok(self.left_out());
        }
        match kind {
            FileType::Directory => {
                let tracked = found.tracked.filter(|(mode, _)| mode.is_tree()).map(|(_, id)| id);
                let child = self.open(parent, found, DIRECTORY)?;
                self.look(found.stat, &child);
                let place = Place { path, depth: place.depth + 1, is_ignored };
                let tree = self.directory(&child, tracked, &place)?;
                Ok(tree.map_or_else(|| self.left_out(), |id| Some((Mode::Tree, id))))
            }
            FileType::RegularFile => self.file(parent, found, path.as_ref()),
            FileType::Symlink => self.link(parent, found.name),
            _ => Ok(self.left_out()),
        }
    }

    fn file(&mut self, parent: &OwnedFd, found: &Found<'_>, path: &BStr) -> Result<Stored, SourceError> {
        let mut file = std::fs::File::from(self.open(parent, found, FILE)?);
        let metadata = file.metadata().doing("reading the workspace")?;
        if !metadata.is_file() {
            return Ok(self.left_out());
        }
        self.look(found.stat, &file);
        let size = metadata.len();
        if size > self.largest {
            return refused(format!("`{path}` has {size} bytes; a file may have {}", self.largest));
        }
        self.spend(size)?;
        let is_executable = found.stat.st_mode & 0o100 != 0;
        let mode = if is_executable { Mode::BlobExecutable } else { Mode::Blob };
        let known = found.tracked.filter(|(mode, _)| mode.is_blob()).map(|(_, id)| id);
        if size > STREAMED {
            return Ok(Some((mode, self.write_stream(&mut file, size, known)?)));
        }
        self.buffer.clear();
        (&mut file).take(STREAMED + 1).read_to_end(&mut self.buffer).doing("reading the workspace")?;
        Ok(Some((mode, self.write_blob(known)?)))
    }

    fn link(&mut self, parent: &OwnedFd, name: &BStr) -> Result<Stored, SourceError> {
        let target = rustix::fs::readlinkat(parent, name.as_bytes(), Vec::new()).doing("reading a link")?;
        self.spend(target.as_bytes().len() as u64)?;
        self.buffer.clear();
        self.buffer.extend_from_slice(target.as_bytes());
        Ok(Some((Mode::Link, self.write_blob(None)?)))
    }

    fn spend(&mut self, bytes: u64) -> Result<(), SourceError> {
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => refused(format!("the workspace has more than {} bytes", self.max_bytes)),
        }
    }

    fn write_blob(&self, known: Option<ObjectId>) -> Result<ObjectId, SourceError> {
        let id = gix::objs::compute_hash(self.repo.object_hash(), Kind::Blob, &self.buffer)
            .doing("hashing a file")?;
        if known == Some(id) {
            return Ok(id);
        }
        Ok(self.repo.write_blob(&self.buffer).doing("writing a file")?.detach())
    }

    fn write_stream(
        &self,
        file: &mut std::fs::File,
        size: u64,
        known: Option<ObjectId>,
    ) -> Result<ObjectId, SourceError> {
        let never = AtomicBool::new(false);
        let hash = self.repo.object_hash();
        let id =
            gix::objs::compute_stream_hash(hash, Kind::Blob, file, size, &mut gix::progress::Discard, &never)
                .doing("hashing a file")?;
        if known == Some(id) || self.repo.has_object(id) {
            return Ok(id);
        }
        file.seek(SeekFrom::Start(0)).doing("reading the workspace")?;
        self.repo.objects.write_stream(Kind::Blob, size, file).doing("writing a file")
    }

    /// Opens a file or directory; one that the jail made unreadable for its owner is made readable.
    fn open(&self, parent: &OwnedFd, found: &Found<'_>, flags: OFlags) -> Result<OwnedFd, SourceError> {
        let name = found.name.as_bytes();
        match rustix::fs::openat(parent, name, flags, Permissions::empty()) {
            Err(rustix::io::Errno::ACCESS) => {
                let mode =
                    Permissions::from_raw_mode(found.stat.st_mode) | Permissions::RUSR | Permissions::XUSR;
                let mode = if flags.contains(OFlags::DIRECTORY) { mode } else { mode & !Permissions::XUSR };
                // Not a link: it was looked at, and nobody else writes here any more.
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty()).doing("reading the workspace")?;
                rustix::fs::openat(parent, name, flags, Permissions::empty()).doing("reading the workspace")
            }
            other => other.doing("reading the workspace"),
        }
    }

    /// What a checkout does not write, a stage cannot have removed: submodules, and links that would
    /// lead outside.
    fn restore_unwritten(
        &self,
        tracked: &Tree,
        depth: usize,
        entries: &mut Vec<Entry>,
    ) -> Result<(), SourceError> {
        for (name, (mode, id)) in &tracked.entries {
            let is_unwritten = match mode.kind() {
                Mode::Commit => true,
                Mode::Link if entries.iter().all(|entry| entry.filename != *name) => {
                    let target = self.repo.find_object(*id).doing("reading a link")?;
                    !is_safe_link(&target.data, depth)
                }
                Mode::Link | Mode::Tree | Mode::Blob | Mode::BlobExecutable => false,
            };
            if is_unwritten && entries.iter().all(|entry| entry.filename != *name) {
                entries.push(Entry { mode: *mode, filename: name.clone(), oid: *id });
            }
        }
        Ok(())
    }
}

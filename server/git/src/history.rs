//! The first-parent line of a branch, and what differs between two commits.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::process::Stdio;

use domain::name::Commit;
use domain::time::Timestamp;
use gix::bstr::ByteSlice;
use gix::objs::tree::EntryMode;
use ports::source::{ChangeKind, CommitInfo, Diff, PathChange, SourceError};

use crate::error::{Doing, refused};
use crate::object;
use crate::program::{Program, complaint};

/// How far back a line is followed. A `from` that is further away is taken for a force-push.
const LONGEST_LINE: usize = 50_000;

/// How many paths may differ, and how long one may be.
const MOST_CHANGES: usize = 1_000_000;
const LONGEST_PATH: usize = 16 << 10;

/// The commits between two, oldest first, along first parents.
pub(crate) fn line(
    repo: &gix::Repository,
    from: Option<&Commit>,
    to: &Commit,
    most: usize,
) -> Result<Vec<Commit>, SourceError> {
    let mut commit = object::find(repo, to)?;
    let only = vec![to.clone()];
    let Some(from) = from.map(object::id) else { return Ok(only) };
    let mut line = VecDeque::new();
    for _ in 0..LONGEST_LINE {
        if commit.id == from {
            return Ok(line.into_iter().rev().collect());
        }
        if line.len() < most {
            line.push_back(object::name(commit.id));
        }
        let Some(parent) = commit.parent_ids().next() else { return Ok(only) };
        commit = object::find(repo, &object::name(parent))?;
    }
    Ok(only)
}

/// The longest message that is given out, bytes.
const LONGEST_MESSAGE: usize = 4 << 10;

/// What a commit says of itself.
pub(crate) fn describe(repo: &gix::Repository, commit: &Commit) -> Result<CommitInfo, SourceError> {
    let found = object::find(repo, commit)?;
    let said = found.decode().doing("reading a commit")?;
    let author = said.author().doing("reading a commit")?;
    let mut message = said.message.to_str_lossy().into_owned();
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    Ok(CommitInfo {
        commit: commit.clone(),
        message,
        author: author.name.to_str_lossy().into_owned(),
        at: Timestamp::from_millis(author.time().map_or(0, |time| time.seconds.saturating_mul(1_000))),
    })
}

/// What differs between the trees of two commits, sorted by path. Equal subtrees are not looked
/// into, so the cost grows with what changed.
pub(crate) fn changes(
    repo: &gix::Repository,
    from: Option<&Commit>,
    to: &Commit,
) -> Result<Vec<PathChange>, SourceError> {
    let new = object::tree(repo, to)?;
    let old = from.map(|from| object::tree(repo, from)).transpose()?;
    if old == Some(new) {
        return Ok(Vec::new());
    }
    let old = match old {
        Some(old) => repo.find_tree(old).doing("reading a tree")?,
        None => repo.empty_tree(),
    };
    let new = repo.find_tree(new).doing("reading a tree")?;
    let mut changes = Vec::new();
    let mut too_much = false;
    old.changes()
        .doing("comparing trees")?
        .options(|options| {
            options.track_path().track_rewrites(None);
        })
        .for_each_to_obtain_tree(&new, |change| {
            too_much = changes.len() >= MOST_CHANGES || change.location().len() > LONGEST_PATH;
            record(&change, &mut changes);
            Ok(if too_much { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .map(drop)
        .or_else(|error| if too_much { Ok(()) } else { Err(error) })
        .doing("comparing trees")?;
    if too_much {
        return refused("too much differs to be listed");
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes.dedup_by(|removed, added| {
        // A file that became a directory, or the other way round, leaves no double entry; a path
        // that is both removed and added changed its kind.
        let same = removed.path == added.path;
        if same {
            added.kind = ChangeKind::Modified;
        }
        same
    });
    Ok(changes)
}

fn record(change: &gix::object::tree::diff::Change<'_, '_, '_>, changes: &mut Vec<PathChange>) {
    use gix::object::tree::diff::Change;
    let mut push = |path: &gix::bstr::BStr, mode: EntryMode, kind| {
        if !mode.is_tree() {
            changes.push(PathChange { path: path.to_str_lossy().into_owned(), kind });
        }
    };
    match change {
        Change::Addition { location, entry_mode, .. } => push(location, *entry_mode, ChangeKind::Added),
        Change::Deletion { location, entry_mode, .. } => push(location, *entry_mode, ChangeKind::Removed),
        Change::Modification { location, previous_entry_mode, entry_mode, .. } => {
            match (previous_entry_mode.is_tree(), entry_mode.is_tree()) {
                (false, true) => push(location, *previous_entry_mode, ChangeKind::Removed),
                (true, false) => push(location, *entry_mode, ChangeKind::Added),
                _ => push(location, *entry_mode, ChangeKind::Modified),
            }
        }
        Change::Rewrite { source_location, location, entry_mode, .. } => {
            push(source_location, *entry_mode, ChangeKind::Removed);
            push(location, *entry_mode, ChangeKind::Added);
        }
    }
}

/// The difference as git itself shows it, so that a reader sees what they would see at home.
pub(crate) fn diff(
    program: &Program,
    repo: &gix::Repository,
    from: &Commit,
    to: &Commit,
    max_bytes: usize,
) -> Result<Diff, SourceError> {
    let files = changes(repo, Some(from), to)?;
    if files.is_empty() {
        return Ok(Diff { files, patch: String::new(), truncated: false });
    }
    let mut child = program
        .git()
        .arg("--git-dir")
        .arg(repo.git_dir())
        .args(["diff-tree", "-r", "-p", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv"])
        .args(["--full-index", "--end-of-options", from.as_str(), to.as_str(), "--"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing("starting git diff-tree")?;
    let (bytes, truncated) = read_at_most(child.stdout.take(), max_bytes)?;
    if truncated {
        child.kill().doing("stopping git diff-tree")?;
    }
    let output = child.wait_with_output().doing("waiting for git diff-tree")?;
    if !truncated && !output.status.success() {
        return Err(SourceError::Broken(format!("git diff-tree: {}", complaint(&output.stderr))));
    }
    Ok(Diff { files, patch: into_text(bytes, truncated), truncated })
}

fn read_at_most(source: Option<impl std::io::Read>, most: usize) -> Result<(Vec<u8>, bool), SourceError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    if let Some(source) = source {
        source.take(limit).read_to_end(&mut bytes).doing("reading from git diff-tree")?;
    }
    let truncated = bytes.len() > most;
    bytes.truncate(most);
    Ok((bytes, truncated))
}

/// A cut may go through a character; what is left of it is dropped, and so is the broken line.
fn into_text(mut bytes: Vec<u8>, truncated: bool) -> String {
    if truncated {
        let end = bytes.rfind_byte(b'\n').map_or(0, |at| at + 1);
        bytes.truncate(end);
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

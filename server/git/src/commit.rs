//! Commits that the server makes. The same arguments make the same commit: nothing but them, and the
//! configured identity, goes into it.

use domain::name::Commit;
use domain::time::Timestamp;
use gix::ObjectId;
use gix::bstr::BString;
use ports::source::{CommitSpec, MergeSpec, Merged, SourceError};

use crate::config::Identity;
use crate::error::{Doing, refused};
use crate::program::{Program, complaint};
use crate::{object, reference};

/// What a commit is made of.
pub(crate) struct Making<'a> {
    pub(crate) tree: ObjectId,
    pub(crate) parents: &'a [ObjectId],
    pub(crate) message: &'a str,
    pub(crate) at: Timestamp,
}

/// Writes a commit.
pub(crate) fn write(
    repo: &gix::Repository,
    identity: &Identity,
    making: &Making<'_>,
) -> Result<ObjectId, SourceError> {
    let who = gix::actor::Signature {
        name: plain(&identity.name),
        email: plain(&identity.email),
        time: gix::date::Time::new(making.at.millis().div_euclid(1000), 0),
    };
    // Git ends a message at a NUL and wants a line feed at its end.
    let mut message = making.message.replace('\0', "\u{fffd}");
    if !message.ends_with('\n') {
        message.push('\n');
    }
    let commit = gix::objs::Commit {
        tree: making.tree,
        parents: making.parents.iter().copied().collect(),
        author: who.clone(),
        committer: who,
        encoding: None,
        message: message.into(),
        extra_headers: Vec::new(),
    };
    Ok(repo.write_object(&commit).doing("writing a commit")?.detach())
}

fn plain(text: &str) -> BString {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect::<String>().into()
}

/// The whole change in one commit.
pub(crate) fn squash(
    repo: &gix::Repository,
    identity: &Identity,
    spec: &CommitSpec<'_>,
) -> Result<Commit, SourceError> {
    object::find(repo, spec.parent)?;
    let making = Making {
        tree: object::tree(repo, spec.tree_of)?,
        parents: &[object::id(spec.parent)],
        message: spec.message,
        at: spec.at,
    };
    write(repo, identity, &making).map(object::name)
}

/// Brings `head` into `base`.
pub(crate) fn merge(
    program: &Program,
    repo: &gix::Repository,
    identity: &Identity,
    spec: &MergeSpec<'_>,
) -> Result<Merged, SourceError> {
    let (base, head) = (object::find(repo, spec.base)?.id, object::find(repo, spec.head)?.id);
    match repo.merge_base(base, head).doing("comparing histories")? {
        Some(common) if common == base => return Ok(Merged::Merged(spec.head.clone())),
        Some(common) if common == head => return Ok(Merged::Merged(spec.base.clone())),
        Some(_) => {}
        None => return refused("the two commits have no common history"),
    }
    let tree = match merge_trees(program, repo, spec)? {
        Ok(tree) => tree,
        Err(conflicts) => return Ok(Merged::Conflict(conflicts)),
    };
    let making = Making { tree, parents: &[base, head], message: spec.message, at: spec.at };
    write(repo, identity, &making).map(|commit| Merged::Merged(object::name(commit)))
}

/// Where two histories part.
pub(crate) fn merge_base(
    repo: &gix::Repository,
    one: &Commit,
    other: &Commit,
) -> Result<Option<Commit>, SourceError> {
    let (one, other) = (object::find(repo, one)?.id, object::find(repo, other)?.id);
    Ok(repo.merge_base(one, other).doing("comparing histories")?.map(object::name))
}

/// `git merge-tree`: the merged tree, or the files in conflict. See its manual, OUTPUT.
fn merge_trees(
    program: &Program,
    repo: &gix::Repository,
    spec: &MergeSpec<'_>,
) -> Result<Result<ObjectId, Vec<String>>, SourceError> {
    let output = program
        .git()
        .arg("--git-dir")
        .arg(repo.git_dir())
        .args(["merge-tree", "--write-tree", "--no-messages", "--name-only", "-z"])
        .args([spec.base.as_str(), spec.head.as_str()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .output()
        .doing("starting git merge-tree")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut fields = text.split('\0').filter(|field| !field.is_empty());
    let tree = fields.next().and_then(|field| ObjectId::from_hex(field.trim().as_bytes()).ok());
    match (output.status.code(), tree) {
        (Some(0), Some(tree)) => Ok(Ok(tree)),
        (Some(1), Some(_)) => Ok(Err(fields.map(str::to_owned).collect())),
        _ => Err(SourceError::Broken(format!("git merge-tree: {}", complaint(&output.stderr)))),
    }
}

/// Keeps a commit that is there.
pub(crate) fn keep(repo: &gix::Repository, commit: &Commit) -> Result<(), SourceError> {
    reference::keep(repo, object::find(repo, commit)?.id)
}

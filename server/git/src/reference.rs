//! Branches, tags, and the hidden refs below `refs/spellbook/`, which keep what a run refers to.

use domain::id::RunId;
use domain::name::{Branch, Commit, Tag};
use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::refs::transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog};
use gix::refs::{FullName, Target};
use ports::source::{Moved, SourceError};

use crate::error::{Doing, refused};
use crate::{maintain, object};

/// All branches, sorted; those with names that the product does not allow are left out.
pub(crate) fn branches(repo: &gix::Repository) -> Result<Vec<(Branch, Commit)>, SourceError> {
    let mut branches = Vec::new();
    for (name, id) in below(repo, "refs/heads/")? {
        let short = name.as_bstr().strip_prefix(b"refs/heads/").unwrap_or_default();
        let Some(branch) = short.to_str().ok().and_then(|text| Branch::parse(text).ok()) else { continue };
        branches.push((branch, object::name(id)));
    }
    branches.sort();
    Ok(branches)
}

/// What the refs with a prefix point to, symbolic ones left out.
pub(crate) fn below(repo: &gix::Repository, prefix: &str) -> Result<Vec<(FullName, ObjectId)>, SourceError> {
    let platform = repo.references().doing("reading refs")?;
    let mut found = Vec::new();
    for reference in platform.prefixed(prefix).doing("reading refs")? {
        let reference = reference.doing("reading refs")?;
        if let Target::Object(id) = reference.inner.target {
            found.push((reference.inner.name, id));
        }
    }
    Ok(found)
}

/// The commit that a tag leads to.
pub(crate) fn tag(repo: &gix::Repository, tag: &Tag) -> Result<Option<Commit>, SourceError> {
    let Some(id) = target(repo, &format!("refs/tags/{tag}"))? else { return Ok(None) };
    Ok(object::peeled(repo, id)?.map(object::name))
}

/// What a ref points to by itself.
pub(crate) fn target(repo: &gix::Repository, name: &str) -> Result<Option<ObjectId>, SourceError> {
    let found = repo.try_find_reference(full(name)?.as_ref()).doing("reading a ref")?;
    Ok(found.and_then(|reference| reference.inner.target.try_into_id().ok()))
}

/// Moves a branch if it is where the caller believes it is.
pub(crate) fn move_branch(
    repo: &gix::Repository,
    branch: &Branch,
    from: Option<&Commit>,
    to: Option<&Commit>,
) -> Result<Moved, SourceError> {
    let name = format!("refs/heads/{branch}");
    if let Some(to) = to {
        object::find(repo, to)?;
    }
    let actual = target(repo, &name)?.map(object::name);
    if actual.as_ref() != from {
        return Ok(Moved::Stale { actual });
    }
    if let Some(from) = from {
        keep_unless_within(repo, object::id(from), to.map(object::id))?;
    }
    let expected = from.map(|commit| Target::Object(object::id(commit)));
    let edit = match (to, expected) {
        (Some(to), None) => update(&name, object::id(to), PreviousValue::MustNotExist)?,
        (Some(to), Some(expected)) => {
            update(&name, object::id(to), PreviousValue::MustExistAndMatch(expected))?
        }
        (None, Some(expected)) => remove(&name, PreviousValue::MustExistAndMatch(expected))?,
        (None, None) => return Ok(Moved::Moved),
    };
    let Err(error) = edit_all(repo, vec![edit]) else { return Ok(Moved::Moved) };
    // Someone else may have been faster between the look and the lock.
    match target(repo, &name)?.map(object::name) {
        actual if actual.as_ref() != from => Ok(Moved::Stale { actual }),
        _ => Err(error),
    }
}

/// Keeps a commit and all before it, whatever becomes of the branches.
pub(crate) fn keep(repo: &gix::Repository, commit: ObjectId) -> Result<(), SourceError> {
    edit_all(repo, vec![kept(commit)?])
}

/// The edit that keeps a commit.
pub(crate) fn kept(commit: ObjectId) -> Result<RefEdit, SourceError> {
    update(&format!("refs/spellbook/kept/{commit}"), commit, PreviousValue::Any)
}

/// Keeps what a ref pointed to, unless all of it is also in what the ref points to next.
pub(crate) fn keep_unless_within(
    repo: &gix::Repository,
    old: ObjectId,
    new: Option<ObjectId>,
) -> Result<(), SourceError> {
    if let Some(old) = object::peeled(repo, old)?
        && !is_within(repo, old, new)?
    {
        keep(repo, old)?;
    }
    Ok(())
}

/// Whether a commit is in the history of another.
pub(crate) fn is_within(
    repo: &gix::Repository,
    old: ObjectId,
    new: Option<ObjectId>,
) -> Result<bool, SourceError> {
    let Some(new) = new else { return Ok(false) };
    let Some(new) = object::peeled(repo, new)? else { return Ok(false) };
    if new == old {
        return Ok(true);
    }
    let base = repo.merge_base(old, new).doing("comparing histories")?;
    Ok(base.is_some_and(|base| base == old))
}

/// Points the ref of a run at its newest snapshot. Stages that ran side by side, and a run that goes
/// on from an earlier stage, leave a snapshot that is not below the new one; it is kept.
pub(crate) fn advance_run(
    repo: &gix::Repository,
    run: RunId,
    parent: ObjectId,
    commit: ObjectId,
) -> Result<(), SourceError> {
    let name = format!("refs/spellbook/runs/{run}");
    for _ in 0..16 {
        let actual = target(repo, &name)?;
        let expected = match actual {
            None => PreviousValue::MustNotExist,
            Some(actual) => PreviousValue::MustExistAndMatch(Target::Object(actual)),
        };
        if let Some(actual) = actual
            && actual != parent
            && actual != commit
        {
            keep(repo, actual)?;
        }
        if edit_all(repo, vec![update(&name, commit, expected)?]).is_ok() {
            return Ok(());
        }
    }
    Err(SourceError::Broken(format!("{name} cannot be moved: it is locked or moves all the time")))
}

pub(crate) fn full(name: &str) -> Result<FullName, SourceError> {
    FullName::try_from(name).map_err(|_| SourceError::Refused(format!("`{name}` is not a ref")))
}

pub(crate) fn update(name: &str, to: ObjectId, expected: PreviousValue) -> Result<RefEdit, SourceError> {
    let change = Change::Update { log: LogChange::default(), expected, new: Target::Object(to) };
    Ok(RefEdit { change, name: full(name)?, deref: false })
}

pub(crate) fn remove(name: &str, expected: PreviousValue) -> Result<RefEdit, SourceError> {
    Ok(RefEdit {
        change: Change::Delete { expected, log: RefLog::AndReference },
        name: full(name)?,
        deref: false,
    })
}

/// Performs edits, all or none as far as a file system can.
pub(crate) fn edit_all(repo: &gix::Repository, edits: Vec<RefEdit>) -> Result<(), SourceError> {
    if edits.is_empty() {
        return Ok(());
    }
    if repo.edit_references_as(edits.clone(), None).is_ok() {
        return Ok(());
    }
    // A process that was killed may have left a lock.
    maintain::sweep(repo.git_dir())?;
    repo.edit_references_as(edits, None).doing("writing refs")?;
    Ok(())
}

/// Points `HEAD` at a branch, there or not.
pub(crate) fn set_head(repo: &gix::Repository, branch: &Branch) -> Result<(), SourceError> {
    let target = full(&format!("refs/heads/{branch}"))?;
    let change = Change::Update {
        log: LogChange::default(),
        expected: PreviousValue::Any,
        new: Target::Symbolic(target),
    };
    edit_all(repo, vec![RefEdit { change, name: full("HEAD")?, deref: false }])
}

/// The branch that `HEAD` names.
pub(crate) fn head(repo: &gix::Repository) -> Result<Option<Branch>, SourceError> {
    let name = repo.head_name().doing("reading HEAD")?;
    let Some(name) = name else { return Ok(None) };
    let Some(short) = name.as_bstr().strip_prefix(b"refs/heads/") else {
        return refused("HEAD names no branch");
    };
    Ok(short.to_str().ok().and_then(|text| Branch::parse(text).ok()))
}

/// So many edits at once go into the one file of packed refs instead of a file each.
const MANY: usize = 64;

/// Performs edits that may be very many.
pub(crate) fn edit_many(repo: &gix::Repository, edits: Vec<RefEdit>) -> Result<(), SourceError> {
    if edits.len() < MANY {
        return edit_all(repo, edits);
    }
    let wait = gix::lock::acquire::Fail::AfterDurationWithBackoff(std::time::Duration::from_secs(1));
    repo.refs
        .transaction()
        .packed_refs(gix::refs::file::transaction::PackedRefs::DeletionsAndNonSymbolicUpdatesRemoveLooseSourceReference(
            Box::new(&repo.objects),
        ))
        .prepare(edits, wait, wait)
        .and_then(|prepared| prepared.commit(None))
        .doing("writing refs")?;
    Ok(())
}

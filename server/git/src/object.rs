//! Commits and their trees, by the names that the port gives them.

use domain::name::Commit;
use gix::ObjectId;
use ports::source::SourceError;

use crate::error::{Doing, no_commit};

/// The id that a name stands for.
pub(crate) fn id(commit: &Commit) -> ObjectId {
    ObjectId::from_hex(commit.as_str().as_bytes()).expect("because a commit's name is 40 hexadecimal digits")
}

/// The name of a commit's id.
pub(crate) fn name(id: impl Into<ObjectId>) -> Commit {
    Commit::parse(id.into().to_string()).expect("because an object id is written in 40 hexadecimal digits")
}

/// The commit, if there is one by that name; never another one instead.
pub(crate) fn find<'r>(repo: &'r gix::Repository, commit: &Commit) -> Result<gix::Commit<'r>, SourceError> {
    let object =
        repo.try_find_object(id(commit)).doing("reading a commit")?.ok_or_else(|| no_commit(commit))?;
    object.try_into_commit().map_err(|_| SourceError::NotFound(format!("{commit} is not a commit")))
}

/// The tree of a commit.
pub(crate) fn tree(repo: &gix::Repository, commit: &Commit) -> Result<ObjectId, SourceError> {
    Ok(find(repo, commit)?.tree_id().doing("reading a commit")?.detach())
}

/// The commit that a chain of tags leads to; `None` when it leads elsewhere.
pub(crate) fn peeled(repo: &gix::Repository, id: ObjectId) -> Result<Option<ObjectId>, SourceError> {
    let Some(mut object) = repo.try_find_object(id).doing("reading a tag")? else { return Ok(None) };
    for _ in 0..16 {
        match object.kind {
            gix::objs::Kind::Commit => return Ok(Some(object.id)),
            gix::objs::Kind::Tag => {
                let target = object.to_tag_ref().target();
                let Some(next) = repo.try_find_object(target).doing("reading a tag")? else {
                    return Ok(None);
                };
                object = next;
            }
            gix::objs::Kind::Tree | gix::objs::Kind::Blob => return Ok(None),
        }
    }
    Ok(None)
}

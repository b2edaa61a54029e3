//! Bringing one ref of a remote that is neither branch nor tag: forges keep one for each pull request.
//! It lands below `refs/spellbook/brought/`, where no fetch prunes and no clone looks.

use domain::name::Branch;
use gix::ObjectId;
use gix::objs::Kind;
use gix::protocol::fetch::RefMap;
use gix::refs::transaction::PreviousValue;
use ports::source::SourceError;

use crate::error::{Doing, refused};
use crate::fetch::Moves;
use crate::reference;

/// A ref of a remote, and the one of ours that follows it. Its name comes from a forge.
#[derive(Debug, Clone)]
pub(crate) struct Brought {
    theirs: String,
    ours: String,
}

impl Brought {
    /// Takes names that git allows, below `refs/`, that a fetch does not bring anyway.
    pub(crate) fn parse(name: &str) -> Result<Self, SourceError> {
        let rest = name.strip_prefix("refs/").filter(|rest| Branch::parse(*rest).is_ok());
        let Some(rest) = rest.filter(|_| reference::full(name).is_ok()) else {
            return refused("that is not the name of a ref");
        };
        if ["heads/", "tags/", "spellbook/"].iter().any(|other| rest.starts_with(other)) {
            return refused("only refs that are neither branches nor tags are brought one by one");
        }
        Ok(Self { theirs: name.to_owned(), ours: format!("refs/spellbook/brought/{rest}") })
    }

    /// The remote's name for it.
    pub(crate) fn theirs(&self) -> &str {
        &self.theirs
    }

    /// Where it is followed here.
    pub(crate) fn ours(&self) -> &str {
        &self.ours
    }

    /// What has to be got, where the remote shows this ref.
    pub(crate) fn compare(&self, repo: &gix::Repository, mut map: RefMap) -> Result<Moves, SourceError> {
        let name = reference::full(&self.ours)?;
        map.mappings.retain(|mapping| mapping.local.as_ref().is_some_and(|local| local == name.as_bstr()));
        let Some(id) = map.mappings.first().and_then(|mapping| mapping.remote.as_id()).map(ToOwned::to_owned)
        else {
            return Err(SourceError::NotFound(format!("the remote has no {}", self.theirs)));
        };
        let before = reference::target(repo, &self.ours)?;
        if before == Some(id) {
            return Ok(Moves::none(map));
        }
        let tips = tips(repo, before)?;
        let mut moves = Moves::none(map);
        moves.changed.insert(name, id);
        moves.tips = tips;
        Ok(moves)
    }

    /// Moves our ref to what was got.
    pub(crate) fn land(&self, repo: &gix::Repository, moves: &Moves) -> Result<(), SourceError> {
        for id in moves.changed.values() {
            let kind = repo.find_header(*id).doing("reading what was fetched")?.kind();
            if kind != Kind::Commit {
                return refused(format!("the remote's {} is not a commit", self.theirs));
            }
            reference::edit_all(repo, vec![reference::update(&self.ours, *id, PreviousValue::Any)?])?;
        }
        Ok(())
    }
}

/// How many branches are told to the remote at most. What is asked for mostly grew from the first of them.
const MOST_TIPS: usize = 256;

/// What the remote may have too: where the ref was, the default branch, other branches.
fn tips(repo: &gix::Repository, before: Option<ObjectId>) -> Result<Vec<ObjectId>, SourceError> {
    let head = reference::head(repo)?;
    let head = head.map(|branch| reference::target(repo, &format!("refs/heads/{branch}"))).transpose()?;
    let branches = reference::below(repo, "refs/heads/")?.into_iter().map(|(_, id)| id);
    Ok(before.into_iter().chain(head.flatten()).chain(branches.take(MOST_TIPS)).collect())
}

//! What is at an address of the built-in host: `/ada/book/proposals/3`, `/ada/book/commits/<commit>#cmt_…`.

use domain::effect::CommentTarget;
use domain::id::{CheckId, CommentId};
use domain::name::Commit;
use domain::proposal::{Check, Comment};
use domain::repository::Repository;
use ports::forge::{ForgeError, Thing, ThingKind};
use ports::source::SourceError;

use crate::failure::{git_failed, store_failed};
use crate::forge::{HostedForge, Wanted};

impl HostedForge {
    pub(crate) async fn thing_at(
        &self,
        repository: &Repository,
        url: &str,
    ) -> Result<Option<Thing>, ForgeError> {
        let (page, fragment) = url.split_once('#').unwrap_or((url, ""));
        let page = page.split('?').next().unwrap_or(page);
        let parts: Vec<&str> = page.split('/').filter(|part| !part.is_empty()).skip(2).collect();
        let target = match parts.as_slice() {
            ["proposals", number] => number.parse().ok().map(|number| CommentTarget::Thread { number }),
            ["commits", commit] => Commit::parse(*commit).ok().map(|commit| CommentTarget::Commit { commit }),
            _ => None,
        };
        let Some(target) = target else { return Ok(None) };
        if let Ok(id) = fragment.parse::<CommentId>() {
            let found = self.comment_with(repository, &target, |comment| comment.id == id).await?;
            return Ok(found.map(|comment| said(url, &comment)));
        }
        match target {
            CommentTarget::Thread { number } => self.proposal_at(repository, url, number).await,
            CommentTarget::Commit { commit } => match fragment.parse::<CheckId>() {
                Ok(id) => {
                    let checks = self.store.check_list(repository.id, &commit).await;
                    let checks = checks.map_err(|error| store_failed(&error))?;
                    let found = checks.into_iter().find(|check| check.id == id);
                    Ok(found.map(|check| reported(url, &check)))
                }
                Err(_) => self.commit_at(repository, url, commit).await,
            },
        }
    }

    async fn proposal_at(
        &self,
        repository: &Repository,
        url: &str,
        number: u64,
    ) -> Result<Option<Thing>, ForgeError> {
        let found = self.store.proposal_get(repository.id, number).await;
        let found = found.map_err(|error| store_failed(&error))?;
        Ok(found.map(|proposal| Thing {
            kind: ThingKind::PullRequest,
            url: url.to_owned(),
            text: proposal.body,
            own: Some(proposal.provenance.is_some()),
            commit: Some(proposal.head),
        }))
    }

    async fn commit_at(
        &self,
        repository: &Repository,
        url: &str,
        commit: Commit,
    ) -> Result<Option<Thing>, ForgeError> {
        let described = match self.source.describe(repository.id, std::slice::from_ref(&commit)).await {
            Ok(described) => described,
            Err(SourceError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(git_failed(&error)),
        };
        Ok(described.into_iter().next().map(|info| Thing {
            kind: ThingKind::Commit,
            url: url.to_owned(),
            text: info.message,
            own: None,
            commit: Some(commit),
        }))
    }

    /// The first comment on a target that fits.
    pub(crate) async fn comment_with(
        &self,
        repository: &Repository,
        target: &CommentTarget,
        fits: impl Fn(&Comment) -> bool + Send,
    ) -> Result<Option<Comment>, ForgeError> {
        let mut after = None;
        loop {
            let part = self.store.comment_list(repository.id, Some(target), &Wanted::page(after)).await;
            let part = part.map_err(|error| store_failed(&error))?;
            let Some(last) = part.last() else { return Ok(None) };
            after = Some(last.id.uuid());
            if let Some(found) = part.into_iter().find(&fits) {
                return Ok(Some(found));
            }
        }
    }
}

/// Nobody but the server writes comments and checks here.
fn said(url: &str, comment: &Comment) -> Thing {
    let text = comment.body.clone();
    Thing { kind: ThingKind::Comment, url: url.to_owned(), text, own: Some(true), commit: None }
}

fn reported(url: &str, check: &Check) -> Thing {
    Thing {
        kind: ThingKind::Check,
        url: url.to_owned(),
        text: check.summary.clone(),
        own: Some(true),
        commit: Some(check.commit.clone()),
    }
}

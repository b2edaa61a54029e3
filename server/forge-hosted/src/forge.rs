//! The built-in host as a forge.

use std::sync::Arc;

use async_trait::async_trait;
use domain::effect::{Effect, EffectKind, Provenance, Receipt};
use domain::name::Commit;
use domain::repository::Repository;
use ports::clock::Clock;
use ports::forge::{Forge, ForgeError};
use ports::source::{Source, SourceError};
use ports::store::{Page, Store};

use crate::failure::{git_failed, refused};

/// How much of a list is read at once.
pub(crate) const PART: u32 = 200;

/// Performs effects on the built-in host. Comments and checks of a watched repository are kept here
/// too, where its people see its runs; proposals are for hosted repositories only.
#[derive(Debug, Clone)]
pub struct HostedForge {
    /// Where proposals, comments and checks are kept.
    pub store: Arc<dyn Store>,
    /// Where the branches are.
    pub source: Arc<dyn Source>,
    /// When it is.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Forge for HostedForge {
    async fn perform(&self, repository: &Repository, effect: &Effect) -> Result<Receipt, ForgeError> {
        let wanted = Wanted { forge: self, repository, effect };
        match &effect.kind {
            EffectKind::CreatePullRequest { .. } => wanted.proposal().await,
            EffectKind::AddComment { target, body, sticky } => wanted.comment(target, body, *sticky).await,
            EffectKind::CreateCheck { .. } => wanted.check().await,
            EffectKind::Noop { reason } => Ok(Receipt { url: None, summary: reason.clone() }),
        }
    }
}

/// An effect that is being performed; each kind has its own file.
pub(crate) struct Wanted<'a> {
    pub(crate) forge: &'a HostedForge,
    pub(crate) repository: &'a Repository,
    pub(crate) effect: &'a Effect,
}

impl Wanted<'_> {
    /// Whether somebody who came later has spoken in this place already. An effect that was put off
    /// must not take a newer one back.
    pub(crate) fn is_outdated_by(&self, there: &Provenance) -> bool {
        there.run > self.effect.provenance.run
    }

    /// Refuses a commit that is not in the repository.
    pub(crate) async fn require_commit(&self, commit: &Commit) -> Result<(), ForgeError> {
        match self.forge.source.line(self.repository.id, None, commit, 1).await {
            Ok(_) => Ok(()),
            Err(SourceError::NotFound(_)) => {
                Err(refused(format!("{} has no commit {commit}", self.repository.path)))
            }
            Err(error) => Err(git_failed(&error)),
        }
    }

    /// The part of a list after an entry.
    pub(crate) fn page(after: Option<uuid::Uuid>) -> Page {
        Page { after, size: PART }
    }
}

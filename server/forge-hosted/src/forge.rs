//! The built-in host as a forge.

use std::sync::Arc;

use async_trait::async_trait;
use domain::access::Role;
use domain::effect::{Author, Effect, EffectKind, Receipt};
use domain::name::Commit;
use domain::repository::Repository;
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::forge::{Account, Fact, Forge, ForgeError, Offer, PullRequest, Thing};
use ports::source::{Source, SourceError};
use ports::store::{Page, Store};
use secrecy::SecretString;

use crate::failure::{git_failed, store_failed};

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
            EffectKind::Noop { reason } => Ok(Receipt::new(None, reason.clone())),
            EffectKind::PushToPullRequestBranch { .. }
            | EffectKind::CreateIssue { .. }
            | EffectKind::UpdateIssue { .. }
            | EffectKind::CloseIssue { .. }
            | EffectKind::AddLabels { .. }
            | EffectKind::RemoveLabels { .. }
            | EffectKind::AddReviewers { .. }
            | EffectKind::SetStatus { .. }
            | EffectKind::CreateRelease { .. }
            | EffectKind::UploadArtifact { .. }
            | EffectKind::CallWebhook { .. }
            | EffectKind::React { .. } => {
                let kind = effect.kind.as_str();
                Err(ForgeError::refused(format!("the built-in host does not offer `{kind}`")))
            }
        }
    }

    async fn role(&self, _repository: &Repository, account: &str) -> Result<Option<String>, ForgeError> {
        let account = self.store.account_find(account).await.map_err(|error| store_failed(&error))?;
        Ok(account.map(|account| role_word(account.role).to_owned()))
    }

    async fn own_account(&self, _repository: &Repository) -> Result<Option<Account>, ForgeError> {
        Ok(None)
    }

    async fn look(&self, repository: &Repository, url: &str) -> Result<Option<Thing>, ForgeError> {
        self.thing_at(repository, url).await
    }

    async fn offers(&self, repository: &Repository) -> Result<Vec<Offer>, ForgeError> {
        self.open_offers(repository).await
    }

    async fn pull_request(
        &self,
        _repository: &Repository,
        _number: u64,
    ) -> Result<Option<PullRequest>, ForgeError> {
        Ok(None)
    }

    async fn credential(&self, _repository: &Repository) -> Result<Option<SecretString>, ForgeError> {
        Ok(None)
    }

    async fn recent(&self, _repository: &Repository, _since: Timestamp) -> Result<Vec<Fact>, ForgeError> {
        Ok(Vec::new())
    }
}

/// What an account of this server may do, in the words of forges.
const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "read",
        Role::Runner => "triage",
        Role::Maintainer => "write",
        Role::Admin => "admin",
    }
}

/// An effect that is being performed; each kind has its own file.
pub(crate) struct Wanted<'a> {
    pub(crate) forge: &'a HostedForge,
    pub(crate) repository: &'a Repository,
    pub(crate) effect: &'a Effect,
}

impl Wanted<'_> {
    /// Whether somebody who came later has spoken in this place already.
    pub(crate) fn is_outdated_by(&self, there: &Author) -> bool {
        self.effect.author.is_outdated_by(there)
    }

    /// Refuses a commit that is not in the repository.
    pub(crate) async fn require_commit(&self, commit: &Commit) -> Result<(), ForgeError> {
        match self.forge.source.line(self.repository.id, None, commit, 1).await {
            Ok(_) => Ok(()),
            Err(SourceError::NotFound(_)) => {
                Err(ForgeError::refused(format!("{} has no commit {commit}", self.repository.path)))
            }
            Err(error) => Err(git_failed(&error)),
        }
    }

    /// The part of a list after an entry.
    pub(crate) fn page(after: Option<uuid::Uuid>) -> Page {
        Page { after, size: PART }
    }
}

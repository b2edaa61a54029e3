//! GitLab as a forge and as a host.

use async_trait::async_trait;
use domain::effect::{Effect, EffectKind, Receipt};
use domain::name::ForgeName;
use domain::repository::Repository;
use domain::time::Timestamp;
use forge_remote::{Account, BuildError, Config, Failure, Own, Surroundings, escaped, path_at};
use ports::forge::{
    Fact, Forge, ForgeError, Found, Headers, Host, Offer, PullRequest, Signed, Thing, Understood, Unsigned,
};
use secrecy::SecretString;
use serde_json::Value;

use crate::look::Page;
use crate::shape::{number, text};
use crate::thing;
use crate::thread::Thread;
use crate::understand::Reader;
use crate::verify::verify;

/// Where its API is below its address.
const API: &str = "/api/v4";

/// One GitLab.
#[derive(Debug)]
pub struct GitLab {
    pub(crate) account: Account,
}

impl GitLab {
    /// Where a GitLab is, and what opens it, with nothing allowed beyond https.
    pub fn config(name: ForgeName, url: &str, token: SecretString) -> Config {
        Config::new(name, url, API, token)
    }

    /// Makes a forge of it. Nobody is asked yet.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn build(config: Config, surroundings: Surroundings) -> Result<Self, BuildError> {
        Ok(Self { account: Account::build("GitLab", config, surroundings)? })
    }

    /// Whose token it is.
    pub(crate) async fn own(&self) -> Result<&Own, Failure> {
        let read =
            |user: &Value| Some(Own { id: number(user, "/id")?, login: text(user, "/username")?.to_owned() });
        self.account.own("/user", read).await
    }

    async fn place_at(&self, url: &str) -> Result<Option<Found>, Failure> {
        let config = &self.account.config;
        let Some(path) = path_at(&config.web_url, url).filter(|path| thing::is_path(path)) else {
            return Ok(None);
        };
        let project = self.account.find(&format!("/projects/{}", escaped(path))).await?;
        Ok(project.and_then(|project| thing::found(&config.name, &config.web_url, &project)))
    }
}

#[async_trait]
impl Forge for GitLab {
    async fn perform(&self, repository: &Repository, effect: &Effect) -> Result<Receipt, ForgeError> {
        if let EffectKind::Noop { reason } = &effect.kind {
            return Ok(Receipt::new(None, reason.clone()));
        }
        if let Some(place) = repository.origin.place() {
            self.account.foresee_write(place.id)?;
        }
        let visit = self.visit(repository).await?;
        Ok(forge_remote::perform(&visit, effect).await?)
    }

    async fn role(&self, repository: &Repository, account: &str) -> Result<Option<String>, ForgeError> {
        Ok(self.visit(repository).await?.role(account).await?)
    }

    async fn own_account(
        &self,
        _repository: &Repository,
    ) -> Result<Option<ports::forge::Account>, ForgeError> {
        let own = self.own().await?;
        Ok(Some(ports::forge::Account { id: own.id, name: own.login.clone() }))
    }

    async fn look(&self, repository: &Repository, url: &str) -> Result<Option<Thing>, ForgeError> {
        match Page::parse(&self.account.config.web_url, url) {
            Some(page) => Ok(page.look(&self.visit(repository).await?).await?),
            None => Ok(None),
        }
    }

    async fn offers(&self, repository: &Repository) -> Result<Vec<Offer>, ForgeError> {
        Ok(self.visit(repository).await?.offers().await?)
    }

    async fn pull_request(
        &self,
        repository: &Repository,
        number: u64,
    ) -> Result<Option<PullRequest>, ForgeError> {
        Ok(self.visit(repository).await?.pull_request(number).await?)
    }

    async fn credential(&self, repository: &Repository) -> Result<Option<SecretString>, ForgeError> {
        Ok(repository.origin.place().map(|_| self.account.config.token.clone()))
    }

    async fn recent(&self, repository: &Repository, since: Timestamp) -> Result<Vec<Fact>, ForgeError> {
        Ok(self.visit(repository).await?.recent(since).await?)
    }
}

#[async_trait]
impl Host for GitLab {
    fn verify(&self, headers: &dyn Headers, _body: &[u8]) -> Result<Signed, Unsigned> {
        verify(&self.account.config.webhook_secrets, headers)
    }

    fn understand(&self, name: &str, body: &[u8], received_at: Timestamp) -> Understood {
        let own = self.account.known_own().map(|own| own.id);
        Reader { forge: &self.account.config.name, own }.understand(name, body, received_at)
    }

    fn issue_number(&self, number: u64) -> u64 {
        Thread::Issue(number).number()
    }

    /// A token does not say where the server is wanted. Whose it is must be known before the account's own
    /// comments come back as webhooks.
    async fn places(&self) -> Result<Option<Vec<Found>>, ForgeError> {
        self.own().await?;
        Ok(None)
    }

    async fn place(&self, url: &str) -> Result<Option<Found>, ForgeError> {
        Ok(self.place_at(url).await?)
    }

    /// GitLab tries again by itself for some minutes; after that the sweep asks the repositories.
    async fn redeliver(&self, _since: Timestamp) -> Result<usize, ForgeError> {
        Ok(0)
    }
}

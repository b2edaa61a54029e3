//! Forgejo as a forge and as a host.

use async_trait::async_trait;
use domain::effect::{Effect, EffectKind, Receipt};
use domain::repository::Repository;
use domain::time::Timestamp;
use forge_remote::{Account, BuildError, Config, Failure, Own, Surroundings, path_at};
use ports::forge::{
    Fact, Forge, ForgeError, Found, Headers, Host, Offer, PullRequest, Signed, Thing, Understood, Unsigned,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::look::Page;
use crate::shape::{self, number, text};
use crate::understand::Reader;
use crate::verify::verify;

/// Where its API is below its address.
const API: &str = "/api/v1";

/// One Forgejo, or one Gitea.
#[derive(Debug)]
pub struct Forgejo {
    pub(crate) account: Account,
}

impl Forgejo {
    /// Where a Forgejo is, and what opens it, with nothing allowed beyond https.
    pub fn config(name: domain::name::ForgeName, url: &str, token: SecretString) -> Config {
        Config::new(name, url, API, token)
    }

    /// Makes a forge of it. Nobody is asked yet.
    ///
    /// # Errors
    /// When the configuration makes no sense.
    pub fn build(config: Config, surroundings: Surroundings) -> Result<Self, BuildError> {
        Ok(Self { account: Account::build("Forgejo", config, surroundings)? })
    }

    /// Whose token it is.
    pub(crate) async fn own(&self) -> Result<&Own, Failure> {
        let read =
            |user: &Value| Some(Own { id: number(user, "/id")?, login: text(user, "/login")?.to_owned() });
        self.account.own("/user", read).await
    }

    fn found(&self, repository: &Value) -> Option<Found> {
        shape::found(&self.account.config.name, &self.account.config.web_url, repository)
    }

    async fn place_at(&self, url: &str) -> Result<Option<Found>, Failure> {
        let config = &self.account.config;
        let made_up = path_at(&config.web_url, url).map(|path| json!({ "id": 0, "full_name": path }));
        let place = made_up.and_then(|made_up| shape::place(&config.name, &made_up));
        let Some(place) = place else { return Ok(None) };
        let repository = self.account.find(&format!("/repos/{}", place.path)).await?;
        Ok(repository.and_then(|repository| self.found(&repository)))
    }
}

#[async_trait]
impl Forge for Forgejo {
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
impl Host for Forgejo {
    fn verify(&self, headers: &dyn Headers, body: &[u8]) -> Result<Signed, Unsigned> {
        verify(&self.account.config.webhook_secrets, headers, body)
    }

    fn understand(&self, name: &str, body: &[u8], received_at: Timestamp) -> Understood {
        let own = self.account.known_own().map(|own| own.id);
        Reader { forge: &self.account.config.name, own }.understand(name, body, received_at)
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

    /// Forgejo keeps no list of deliveries that its API would tell of; the sweep asks the repositories.
    async fn redeliver(&self, _since: Timestamp) -> Result<usize, ForgeError> {
        Ok(0)
    }
}

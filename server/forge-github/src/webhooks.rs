//! GitHub as a host: what its webhooks say, and what it answers about itself.

use async_trait::async_trait;
use domain::time::Timestamp;
use ports::forge::{ForgeError, Found, Headers, Host, Signed, Understood, Unsigned};

use crate::github::GitHub;
use crate::understand::Reader;
use crate::verify::verify;

#[async_trait]
impl Host for GitHub {
    fn verify(&self, headers: &dyn Headers, body: &[u8]) -> Result<Signed, Unsigned> {
        verify(&self.config.webhook_secrets, headers, body)
    }

    fn understand(&self, name: &str, body: &[u8], received_at: Timestamp) -> Understood {
        let own = self.known_own();
        let reader = Reader {
            forge: &self.config.name,
            web_url: &self.config.web_url,
            own: own.map(|own| own.id),
            app: own.and_then(|own| own.login.strip_suffix("[bot]")),
        };
        reader.understand(name, body, received_at)
    }

    async fn places(&self) -> Result<Option<Vec<Found>>, ForgeError> {
        Self::places(self).await
    }

    async fn place(&self, url: &str) -> Result<Option<Found>, ForgeError> {
        Self::place(self, url).await
    }

    async fn redeliver(&self, since: Timestamp) -> Result<usize, ForgeError> {
        Self::redeliver(self, since).await
    }
}

//! What opens a repository: the token of an account, or one that the app gets for one repository and just
//! what it is about to do there. What is for writing is got anew for each effect and kept by nobody;
//! what is for reading is kept for some minutes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::repository::Place;
use domain::time::Timestamp;
use forge_remote::{Failure, Verb, is_token};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use crate::github::GitHub;
use crate::shape::{moment, number, text};

/// How long a token for reading is used again; GitHub's live an hour.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// A token that is given out lives at least so long.
const LEFT: Duration = Duration::from_secs(5 * 60);

/// What a token is to allow: `contents`, `write`.
pub(crate) type Permissions = &'static [(&'static str, &'static str)];

/// All that reading needs.
pub(crate) const READS: Permissions =
    &[("contents", "read"), ("issues", "read"), ("pull_requests", "read"), ("metadata", "read")];

/// The tokens that are kept, by the repository's number.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<u64, Kept>>);

#[derive(Debug, Clone)]
struct Kept {
    token: Token,
    until: Timestamp,
}

/// A token, and whose limits it counts against.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) secret: SecretString,
    /// The number of the installation; 0 for the token of an account.
    pub(crate) account: u64,
}

impl Tokens {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GitHub {
    /// A token for reading in a repository.
    pub(crate) async fn reading(&self, place: &Place) -> Result<Token, Failure> {
        if let Some(token) = self.plain() {
            return Ok(token);
        }
        let now = self.clock.now();
        let kept = self.tokens.kept().get(&place.id).filter(|kept| kept.until > now).cloned();
        if let Some(kept) = kept {
            return Ok(kept.token);
        }
        let (token, expires) = self.minted(place, READS).await?;
        let until = now.after(KEPT).min(Timestamp::from_millis(
            expires.millis().saturating_sub(i64::try_from(LEFT.as_millis()).unwrap_or(i64::MAX)),
        ));
        let mut tokens = self.tokens.kept();
        tokens.retain(|_, kept| kept.until > now);
        tokens.insert(place.id, Kept { token: token.clone(), until });
        Ok(token)
    }

    /// A token for one effect in a repository.
    pub(crate) async fn writing(&self, place: &Place, permissions: Permissions) -> Result<Token, Failure> {
        match self.plain() {
            Some(token) => Ok(token),
            None => Ok(self.minted(place, permissions).await?.0),
        }
    }

    /// Nobody uses a token again that GitHub no longer takes.
    pub(crate) fn forget_token(&self, place: &Place) {
        self.tokens.kept().remove(&place.id);
    }

    /// A token of the installation that a repository belongs to, for that repository alone.
    async fn minted(&self, place: &Place, permissions: Permissions) -> Result<(Token, Timestamp), Failure> {
        let installation =
            self.ask_as_app(Verb::Get, &format!("/repos/{}/installation", place.path), None).await;
        let installation = installation.map_err(|failure| match failure {
            Failure::Missing(_) => Failure::Refused(format!("the app is not installed in {}", place.path)),
            other => other,
        })?;
        let id = number(&installation, "/id").ok_or_else(|| odd("an installation"))?;
        if text(&installation, "/suspended_at").is_some() {
            return Err(Failure::Refused(format!("the app is suspended in {}", place.path)));
        }
        let permissions: Map<String, Value> =
            permissions.iter().map(|(name, level)| ((*name).to_owned(), json!(level))).collect();
        let wanted = json!({ "repository_ids": [place.id], "permissions": permissions });
        self.mint(id, &wanted).await
    }

    /// A token of an installation.
    pub(crate) async fn mint(
        &self,
        installation: u64,
        wanted: &Value,
    ) -> Result<(Token, Timestamp), Failure> {
        let path = format!("/app/installations/{installation}/access_tokens");
        let minted = self.ask_as_app(Verb::Post, &path, Some(wanted)).await?;
        let secret = text(&minted, "/token").filter(|text| is_token(text)).ok_or_else(|| odd("a token"))?;
        let expires = moment(&minted, "/expires_at").unwrap_or_else(|| self.clock.now());
        Ok((Token { secret: secret.into(), account: installation }, expires))
    }
}

/// GitHub says yes, and something else than what it documents.
pub(crate) fn odd(what: &str) -> Failure {
    Failure::odd("GitHub", what)
}

//! GitHub's own side: where this server is at home, and what GitHub could not deliver.

use std::collections::BTreeMap;

use domain::time::Timestamp;
use forge_remote::{Failure, Verb, path_at};
use ports::forge::{ForgeError, Found};
use serde_json::{Value, json};

use crate::github::GitHub;
use crate::shape::{self, moment, number, text};
use crate::tokens::odd;

/// So many pages of deliveries are looked through, of a hundred each.
const MOST_PAGES: usize = 10;
/// So many are asked for again at once; the next look finds the others.
const MOST_AGAIN: usize = 100;

impl GitHub {
    /// The repositories of all installations; `None` with a token, which does not say.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn places(&self) -> Result<Option<Vec<Found>>, ForgeError> {
        Ok(self.all_places().await?)
    }

    async fn all_places(&self) -> Result<Option<Vec<Found>>, Failure> {
        if let Some(token) = self.plain() {
            // Whose token it is must be known before its own comments come back as webhooks.
            self.ask_own(&token).await?;
            return Ok(None);
        }
        let mut found = Vec::new();
        for installation in self.list(&self.as_app()?, "/app/installations?per_page=100", "").await? {
            let Some(id) = number(&installation, "/id") else { continue };
            if text(&installation, "/suspended_at").is_some() {
                continue;
            }
            let (token, _) = self.mint(id, &json!({ "permissions": { "metadata": "read" } })).await?;
            let path = "/installation/repositories?per_page=100";
            let repositories = self.list(&token, path, "/repositories").await?;
            found.extend(repositories.iter().filter_map(|repository| self.found(repository)));
        }
        Ok(Some(found))
    }

    /// The repository at an address for people or git, when it is here and we may see it.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn place(&self, url: &str) -> Result<Option<Found>, ForgeError> {
        Ok(self.place_at(url).await?)
    }

    async fn place_at(&self, url: &str) -> Result<Option<Found>, Failure> {
        let Some(path) = self.path_of(url) else { return Ok(None) };
        let asked = async {
            let token = match self.plain() {
                Some(token) => token,
                None => {
                    let installation = format!("/repos/{path}/installation");
                    let installation = self.ask_as_app(Verb::Get, &installation, None).await?;
                    let id = number(&installation, "/id").ok_or_else(|| odd("an installation"))?;
                    let name = path.split_once('/').map_or(path.as_str(), |(_, name)| name);
                    let wanted = json!({ "repositories": [name], "permissions": { "metadata": "read" } });
                    self.mint(id, &wanted).await?.0
                }
            };
            self.ask(&token, Verb::Get, &format!("/repos/{path}"), None).await
        };
        match asked.await {
            Ok(answer) => Ok(self.found(&answer.body)),
            Err(Failure::Missing(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Asks for what failed to arrive since a moment and has not arrived since; how many that were.
    ///
    /// # Errors
    /// Says whether trying again may help.
    pub async fn redeliver(&self, since: Timestamp) -> Result<usize, ForgeError> {
        Ok(self.ask_again(since).await?)
    }

    async fn ask_again(&self, since: Timestamp) -> Result<usize, Failure> {
        if self.plain().is_some() {
            return Ok(0);
        }
        let app = self.as_app()?;
        let mut deliveries = Vec::new();
        let mut next = Some("/app/hook/deliveries?per_page=100".to_owned());
        for _ in 0..MOST_PAGES {
            let Some(path) = next else { break };
            let answer = self.ask(&app, Verb::Get, &path, None).await?;
            next = answer.next_page(self.client.api_url());
            let Value::Array(page) = answer.body else { return Err(odd("a list")) };
            let older = page.iter().any(|delivery| moment(delivery, "/delivered_at") < Some(since));
            deliveries.extend(page);
            if older {
                break;
            }
        }
        let failed = failed(&deliveries, since);
        for id in failed.iter().take(MOST_AGAIN) {
            self.may_write(&app, *id)?;
            self.ask(&app, Verb::Post, &format!("/app/hook/deliveries/{id}/attempts"), None).await?;
        }
        Ok(failed.len().min(MOST_AGAIN))
    }

    fn found(&self, repository: &Value) -> Option<Found> {
        shape::found(&self.config.name, &self.config.web_url, repository)
    }

    /// `owner/name` of an address on this GitHub.
    fn path_of(&self, url: &str) -> Option<String> {
        let path = path_at(&self.config.web_url, url)?;
        let made_up = json!({ "id": 0, "full_name": path });
        Some(shape::place(&self.config.name, &made_up)?.path)
    }
}

/// The newest try of each delivery that never arrived, oldest first.
fn failed(deliveries: &[Value], since: Timestamp) -> Vec<u64> {
    let mut tries: BTreeMap<&str, (bool, Timestamp, u64)> = BTreeMap::new();
    for delivery in deliveries {
        let (Some(guid), Some(id), Some(at)) =
            (text(delivery, "/guid"), number(delivery, "/id"), moment(delivery, "/delivered_at"))
        else {
            continue;
        };
        let arrived = number(delivery, "/status_code").is_some_and(|code| (200..300).contains(&code));
        let known = tries.entry(guid).or_insert((false, at, id));
        known.0 |= arrived;
        if at > known.1 {
            (known.1, known.2) = (at, id);
        }
    }
    let mut failed: Vec<(Timestamp, u64)> = tries
        .into_values()
        .filter(|(arrived, at, _)| !arrived && *at >= since)
        .map(|(_, at, id)| (at, id))
        .collect();
    failed.sort_unstable();
    failed.into_iter().map(|(_, id)| id).collect()
}

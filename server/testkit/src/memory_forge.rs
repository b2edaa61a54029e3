//! A forge in memory: accounts with roles, pull requests, and what was performed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::effect::{CommentTarget, Effect, EffectKind, Receipt};
use domain::marker::signed;
use domain::repository::Repository;
use domain::time::Timestamp;
use ports::forge::{Account, Fact, Forge, ForgeError, Offer, PullRequest, Thing, ThingKind};
use secrecy::SecretString;

/// A forge that remembers what it was told. It is whatever a test makes of it; nobody is known to it at first.
#[derive(Debug, Default)]
pub struct MemoryForge {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    own: Option<Account>,
    roles: BTreeMap<String, String>,
    pulls: BTreeMap<u64, PullRequest>,
    recent: Vec<Fact>,
    performed: Vec<Effect>,
    things: BTreeMap<String, Thing>,
    failures: Vec<ForgeError>,
}

impl MemoryForge {
    /// Gives an account a role.
    pub fn member(&self, account: &str, role: &str) {
        self.state().roles.insert(account.to_owned(), role.to_owned());
    }

    /// The server does what it does by this account.
    pub fn known_as(&self, id: u64, name: &str) {
        self.state().own = Some(Account { id, name: name.to_owned() });
    }

    /// Opens or changes a pull request.
    pub fn pull(&self, pull: PullRequest) {
        self.state().pulls.insert(pull.number, pull);
    }

    /// Something is to be seen at its address, whoever put it there.
    pub fn shows(&self, thing: Thing) {
        self.state().things.insert(thing.url.clone(), thing);
    }

    /// Something happened that no webhook told.
    pub fn happened(&self, fact: Fact) {
        self.state().recent.push(fact);
    }

    /// The next thing that is asked of it fails so.
    pub fn fail(&self, error: ForgeError) {
        self.state().failures.push(error);
    }

    /// What was performed, in its order; the same effect again stands there once.
    pub fn performed(&self) -> Vec<Effect> {
        self.state().performed.clone()
    }

    /// What is said in a thread, oldest first: what is edited in place stands where it was said at first.
    pub fn comments(&self, thread: u64) -> Vec<String> {
        let mut said: Vec<(Effect, String)> = Vec::new();
        for effect in self.performed() {
            let EffectKind::AddComment { target, body, sticky } = &effect.kind else { continue };
            if *target != (CommentTarget::Thread { number: thread }) {
                continue;
            }
            let body = body.clone();
            match said.iter_mut().find(|(there, _)| *sticky && there.key == effect.key) {
                Some((there, _)) if effect.author.is_outdated_by(&there.author) => {}
                Some(there) => *there = (effect, body),
                None => said.push((effect, body)),
            }
        }
        said.into_iter().map(|(_, body)| body).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self) -> Result<MutexGuard<'_, State>, ForgeError> {
        let mut state = self.state();
        if state.failures.is_empty() { Ok(state) } else { Err(state.failures.remove(0)) }
    }
}

#[async_trait]
impl Forge for MemoryForge {
    async fn perform(&self, repository: &Repository, effect: &Effect) -> Result<Receipt, ForgeError> {
        let mut state = self.answer()?;
        if !state.performed.iter().any(|known| known.id == effect.id) {
            state.performed.push(effect.clone());
        }
        if let Some(thing) = thing(repository, effect) {
            let receipt =
                Receipt::new(Some(thing.url.clone()), format!("performed {}", effect.kind.as_str()));
            let receipt = receipt.says(&thing.text);
            state.things.insert(thing.url.clone(), thing);
            return Ok(receipt);
        }
        let summary = match &effect.kind {
            EffectKind::Noop { reason } => reason.clone(),
            kind => format!("performed {}", kind.as_str()),
        };
        Ok(Receipt::new(None, summary))
    }

    async fn role(&self, _repository: &Repository, account: &str) -> Result<Option<String>, ForgeError> {
        Ok(self.answer()?.roles.get(account).cloned())
    }

    /// It is known to the server already, so that nothing is asked.
    async fn own_account(&self, _repository: &Repository) -> Result<Option<Account>, ForgeError> {
        Ok(self.state().own.clone())
    }

    async fn look(&self, _repository: &Repository, url: &str) -> Result<Option<Thing>, ForgeError> {
        Ok(self.answer()?.things.get(url).cloned())
    }

    async fn offers(&self, _repository: &Repository) -> Result<Vec<Offer>, ForgeError> {
        let state = self.answer()?;
        let mut offers: Vec<Offer> = Vec::new();
        for effect in &state.performed {
            let is_new = !offers.iter().any(|offer| offer.key.as_ref() == Some(&effect.key));
            if is_new && matches!(effect.kind, EffectKind::CreatePullRequest { .. }) {
                let number = offers.len() as u64 + 1;
                offers.push(Offer { number, key: Some(effect.key.clone()) });
            }
        }
        Ok(offers)
    }

    async fn pull_request(
        &self,
        _repository: &Repository,
        number: u64,
    ) -> Result<Option<PullRequest>, ForgeError> {
        Ok(self.answer()?.pulls.get(&number).cloned())
    }

    async fn credential(&self, _repository: &Repository) -> Result<Option<SecretString>, ForgeError> {
        self.answer().map(|_| None)
    }

    async fn recent(&self, _repository: &Repository, since: Timestamp) -> Result<Vec<Fact>, ForgeError> {
        let state = self.answer()?;
        Ok(state.recent.iter().filter(|fact| fact.occurred_at >= since).cloned().collect())
    }
}

/// What an effect leaves to be seen: what is edited in place keeps its address.
fn thing(repository: &Repository, effect: &Effect) -> Option<Thing> {
    let (kind, body, sticky, commit) = match &effect.kind {
        EffectKind::AddComment { body, sticky, .. } => (ThingKind::Comment, body, *sticky, None),
        EffectKind::CreateIssue { body, sticky, .. } => (ThingKind::Issue, body, *sticky, None),
        EffectKind::CloseIssue { body } => (ThingKind::Issue, body, true, None),
        EffectKind::CreateCheck { summary, commit, .. } => (ThingKind::Check, summary, false, Some(commit)),
        EffectKind::CreatePullRequest { body, commit, .. } => {
            (ThingKind::PullRequest, body, true, Some(commit))
        }
        _ => return None,
    };
    let name = if sticky { effect.key.clone() } else { effect.id.to_string() };
    Some(Thing {
        kind,
        url: format!("/{}/things/{name}", repository.path),
        text: signed(body, effect, &repository.path),
        own: Some(true),
        commit: commit.cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::forge::{Interruptible, Stand, suite};
    use crate::{FixedClock, build};

    #[derive(Debug)]
    struct Memory {
        forge: MemoryForge,
        clock: FixedClock,
        repository: Repository,
    }

    #[async_trait]
    impl Stand for Memory {
        fn forge(&self) -> &dyn Forge {
            &self.forge
        }

        fn clock(&self) -> &FixedClock {
            &self.clock
        }

        fn repository(&self) -> &Repository {
            &self.repository
        }

        fn thread(&self) -> u64 {
            1
        }

        async fn comments(&self) -> Vec<String> {
            self.forge.comments(1)
        }

        async fn stranger_says(&self, _text: &str) -> Option<()> {
            None
        }

        fn lose_answer(&self, _request: Option<usize>) -> Interruptible {
            Interruptible::No
        }
    }

    #[tokio::test]
    async fn keeps_the_promises_of_a_forge() {
        let clock = FixedClock::new();
        let repository = build::repository(&clock, "ada/book");
        suite(&Memory { forge: MemoryForge::default(), clock, repository }).await;
    }
}

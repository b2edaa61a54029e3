//! A forge's own side in memory: it understands what a test says, and is at home where a test says.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::signature::Signature;
use domain::time::Timestamp;
use ports::forge::{ForgeError, Found, Headers, Host, Signed, Understood, Unsigned};

/// A host whose webhooks are signed as GitHub's are, and mean what a test says they do.
#[derive(Debug)]
pub struct MemoryHost {
    secret: String,
    /// What is added to the numbers of issues.
    issues: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    understood: BTreeMap<String, Understood>,
    places: Option<Vec<Found>>,
    by_url: BTreeMap<String, Found>,
    redelivered: Vec<Timestamp>,
    failed: usize,
    failures: Vec<ForgeError>,
}

impl MemoryHost {
    /// A host whose webhooks are signed with this; with nothing, it has no secret.
    pub fn new(secret: &str) -> Self {
        Self { secret: secret.to_owned(), issues: 0, state: Mutex::default() }
    }

    /// One that counts issues apart from pull requests: the server adds so much to their numbers.
    pub fn counting_issues_from(self, issues: u64) -> Self {
        Self { issues, ..self }
    }

    /// Webhooks of this name mean this; others are ignored.
    pub fn means(&self, name: &str, understood: Understood) {
        self.state().understood.insert(name.to_owned(), understood);
    }

    /// The server is at home in these; `None` when the forge does not say.
    pub fn at_home(&self, places: Option<Vec<Found>>) {
        self.state().places = places;
    }

    /// Something is at its address.
    pub fn found(&self, found: Found) {
        self.state().by_url.insert(found.url.clone(), found);
    }

    /// So many deliveries failed.
    pub fn failed(&self, deliveries: usize) {
        self.state().failed = deliveries;
    }

    /// Since when it was asked to deliver again, each time.
    pub fn redelivered(&self) -> Vec<Timestamp> {
        self.state().redelivered.clone()
    }

    /// The next thing that is asked of it fails so.
    pub fn fail(&self, error: ForgeError) {
        self.state().failures.push(error);
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
impl Host for MemoryHost {
    fn verify(&self, headers: &dyn Headers, body: &[u8]) -> Result<Signed, Unsigned> {
        if self.secret.is_empty() {
            return Err(Unsigned::NoSecret);
        }
        let given = headers.one("x-hub-signature-256").and_then(Signature::parse).ok_or(Unsigned::Missing)?;
        if !given.holds([&*self.secret], &[body]) {
            return Err(Unsigned::Wrong);
        }
        let name = headers.one("x-github-event").ok_or(Unsigned::Headers)?.to_owned();
        Ok(Signed { name, id: headers.one("x-github-delivery").map(str::to_owned) })
    }

    fn understand(&self, name: &str, _body: &[u8], _received_at: Timestamp) -> Understood {
        let understood = self.state().understood.get(name).cloned();
        understood.unwrap_or_else(|| Understood::Ignored(format!("`{name}` starts nothing")))
    }

    fn issue_number(&self, number: u64) -> u64 {
        number + self.issues
    }

    async fn places(&self) -> Result<Option<Vec<Found>>, ForgeError> {
        Ok(self.answer()?.places.clone())
    }

    async fn place(&self, url: &str) -> Result<Option<Found>, ForgeError> {
        Ok(self.answer()?.by_url.get(url).cloned())
    }

    async fn redeliver(&self, since: Timestamp) -> Result<usize, ForgeError> {
        let mut state = self.answer()?;
        state.redelivered.push(since);
        Ok(std::mem::take(&mut state.failed))
    }
}

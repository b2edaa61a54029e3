//! A forge before a hub, and effects to perform.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::effect::{CommentKind, CommentRef, Effect, EffectKind, Receipt};
use domain::repository::{Origin, Place, Repository};
use forge_forgejo::Forgejo;
use forge_remote::Surroundings;
use ports::clock::Clock;
use ports::forge::{Forge, ForgeError};
use ports::source::RemotePolicy;
use testkit::conformance::effects::{self, Far};
use testkit::conformance::forge::{Interruptible, Stand, perform};
use testkit::{FixedClock, Gate, Trouble, build};

use crate::hub::{ADA, Hub, ISSUE, PULL, REPOSITORY, TOKEN};

/// A forge, and what it is before.
pub(crate) struct House {
    pub(crate) gate: Arc<Gate<Hub>>,
    pub(crate) forge: Forgejo,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) repository: Repository,
    pub(crate) url: String,
}

impl House {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(FixedClock::new());
        let (gate, url) = Gate::open(clock.clone(), Hub::new(clock.now())).await;
        gate.behind().web.clone_from(&url);
        let mut config = Forgejo::config(build::name("codeberg"), &url, TOKEN.into());
        config.allow = RemotePolicy { plain_http: true, private_addresses: true, file: false };
        config.timeout = Duration::from_secs(5);
        let surroundings = Surroundings { clock: clock.clone(), source: gate.clone() };
        let forge = Forgejo::build(config, surroundings).unwrap();
        let place = Place { forge: build::name("codeberg"), path: "acme/app".to_owned(), id: REPOSITORY };
        let origin =
            Origin::Watched { url: format!("{url}/acme/app.git"), credential: None, place: Some(place) };
        let repository = Repository { origin, ..build::repository(&*clock, "acme/app") };
        Self { gate, forge, clock, repository, url }
    }

    /// What a new run wants.
    pub(crate) fn effect(&self, kind: &str, wanted: EffectKind) -> Effect {
        effects::effect(self, kind, wanted)
    }

    pub(crate) async fn perform(&self, effect: &Effect) -> Result<Receipt, ForgeError> {
        perform(self, effect).await
    }

    pub(crate) async fn done(&self, effect: &Effect) -> Receipt {
        effects::done(self, effect).await
    }

    pub(crate) async fn refusal(&self, effect: &Effect) -> String {
        let error = self.perform(effect).await.expect_err("it is to be refused");
        assert_eq!(error.retry, ports::Retry::Never, "{error}");
        error.message
    }
}

impl Drop for House {
    /// Whatever a test is about: Forgejo would have taken each request.
    fn drop(&mut self) {
        let violations = self.gate.violations();
        assert!(violations.is_empty() || std::thread::panicking(), "{violations:#?}");
    }
}

#[async_trait]
impl Stand for House {
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
        ISSUE
    }

    async fn comments(&self) -> Vec<String> {
        let hub = self.gate.behind();
        hub.comments.iter().filter_map(|comment| comment["body"].as_str()).map(str::to_owned).collect()
    }

    async fn stranger_says(&self, text: &str) -> Option<()> {
        self.gate.behind().comment(ISSUE, 5, text);
        Some(())
    }

    fn lose_answer(&self, request: Option<usize>) -> Interruptible {
        self.gate.trouble(request.map(|request| (request, Trouble::LostAnswer)));
        Interruptible::Yes
    }
}

impl Far for House {
    fn shown(&self) -> String {
        self.gate.behind().seen()
    }

    fn requests(&self) -> Vec<String> {
        self.gate.seen()
    }

    fn trouble(&self, trouble: Option<(usize, Trouble)>) {
        self.gate.trouble(trouble);
    }

    fn is_still_to_come(&self) -> bool {
        self.gate.is_still_to_come()
    }

    fn pull(&self) -> u64 {
        PULL
    }

    fn written(&self) -> CommentRef {
        let id = self.gate.behind().comment(ISSUE, ADA, "/spellbook help");
        CommentRef { id, kind: CommentKind::Issue, thread: ISSUE }
    }
}

//! A forge before a hub, and effects to perform.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::effect::{Act, Author, Effect, EffectKind, Receipt};
use domain::repository::{Origin, Place, Repository};
use domain::run::Run;
use forge_github::{Access, Config, GitHub, Surroundings};
use ports::clock::Clock;
use ports::forge::{Forge, ForgeError};
use ports::source::RemotePolicy;
use testkit::conformance::forge::{Interruptible, Stand};
use testkit::hub::{Hub, ISSUE, REPOSITORY};
use testkit::{FixedClock, build};

use crate::gate::{Gate, Trouble};
use crate::pusher::Pusher;
use testkit::emulate::KEY;

/// A forge, and what it is before.
pub(crate) struct House {
    pub(crate) gate: Arc<Gate>,
    pub(crate) forge: GitHub,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) repository: Repository,
    pub(crate) url: String,
}

impl House {
    /// With an app.
    pub(crate) async fn new() -> Self {
        Self::with(Access::App { id: "Iv1.abc".to_owned(), key: KEY.into() }).await
    }

    pub(crate) async fn with(access: Access) -> Self {
        let clock = Arc::new(FixedClock::new());
        let (gate, url) = Gate::before_hub(clock.clone(), Hub::new(clock.now())).await;
        gate.hub().web.clone_from(&url);
        let place = Place { forge: build::name("github"), path: "acme/app".to_owned(), id: REPOSITORY };
        Self::at(clock, gate, &url, access, place)
    }

    pub(crate) fn at(
        clock: Arc<FixedClock>,
        gate: Arc<Gate>,
        url: &str,
        access: Access,
        place: Place,
    ) -> Self {
        let mut config = Config::new(access);
        (config.api_url, config.web_url) = (url.to_owned(), gate.web_url(url));
        config.allow = RemotePolicy { plain_http: true, private_addresses: true, file: false };
        config.timeout = Duration::from_secs(5);
        let source = Arc::new(Pusher(gate.clone()));
        let forge = GitHub::build(config, Surroundings { clock: clock.clone(), source }).unwrap();
        let origin = Origin::Watched {
            url: format!("{url}/{}.git", place.path),
            credential: None,
            place: Some(place),
        };
        let repository = Repository { origin, ..build::repository(&*clock, "acme/app") };
        Self { gate, forge, clock, repository, url: url.to_owned() }
    }

    pub(crate) fn run(&self) -> Run {
        self.clock.advance(Duration::from_secs(1));
        build::run(&*self.clock, &self.repository, "review")
    }

    /// What a new run wants.
    pub(crate) fn effect(&self, key: &str, kind: EffectKind) -> Effect {
        build::effect(&*self.clock, &self.run(), key, kind)
    }

    /// What the server itself wants.
    pub(crate) fn by_server(&self, key: &str, kind: EffectKind) -> Effect {
        Effect { author: Author::Server { act: Act::Answer }, ..self.effect(key, kind) }
    }

    /// Performs an effect as the outbox does.
    pub(crate) async fn perform(&self, effect: &Effect) -> Result<Receipt, ForgeError> {
        testkit::conformance::forge::perform(self, effect).await
    }

    pub(crate) async fn done(&self, effect: &Effect) -> Receipt {
        self.perform(effect).await.unwrap_or_else(|error| panic!("{}: {error}", effect.key))
    }

    pub(crate) async fn refusal(&self, effect: &Effect) -> String {
        let error = self.perform(effect).await.expect_err("it is to be refused");
        assert_eq!(error.retry, ports::Retry::Never, "{error}");
        error.message
    }
}

impl Drop for House {
    /// Whatever a test is about: GitHub would have taken each request.
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
        let hub = self.gate.hub();
        hub.comments.iter().filter_map(|comment| comment["body"].as_str()).map(str::to_owned).collect()
    }

    async fn stranger_says(&self, text: &str) -> Option<()> {
        self.gate.hub().comment(ISSUE, 5, text);
        Some(())
    }

    fn lose_answer(&self, request: Option<usize>) -> Interruptible {
        self.gate.trouble(request.map(|request| (request, Trouble::LostAnswer)));
        Interruptible::Yes
    }
}

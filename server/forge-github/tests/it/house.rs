//! A forge before a hub, and effects to perform.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::effect::{Act, Author, CommentKind, CommentRef, Effect, EffectKind, Receipt};
use domain::repository::{Origin, Place, Repository};
use forge_github::{Access, Config, GitHub, Surroundings};
use ports::clock::Clock;
use ports::forge::{Forge, ForgeError};
use ports::source::RemotePolicy;
use testkit::conformance::effects::{self, Far, without_runs};
use testkit::conformance::forge::{Interruptible, Stand, perform};
use testkit::emulate::KEY;
use testkit::hub::{ADA, Hub, ISSUE, PULL, REPOSITORY};
use testkit::{FixedClock, Gate, Trouble, build};

use crate::counterpart::Counterpart;

/// Who is asked to look at a change: a person and a team.
pub(crate) const REVIEWERS: &[&str] = &["bob", "acme/core"];

/// A forge, and what it is before.
pub(crate) struct House {
    pub(crate) gate: Arc<Gate<Counterpart>>,
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
        let near = Counterpart { hub: Hub::new(clock.now()), program: None };
        let (gate, url) = Gate::open(clock.clone(), near).await;
        gate.behind().hub.web.clone_from(&url);
        let place = Place { forge: build::name("github"), path: "acme/app".to_owned(), id: REPOSITORY };
        Self::at(clock, gate, &url, access, place)
    }

    pub(crate) fn at(
        clock: Arc<FixedClock>,
        gate: Arc<Gate<Counterpart>>,
        url: &str,
        access: Access,
        place: Place,
    ) -> Self {
        let mut config = Config::new(access);
        (config.api_url, config.web_url) = (url.to_owned(), gate.behind().hub.web.clone());
        config.allow = RemotePolicy { plain_http: true, private_addresses: true, file: false };
        config.timeout = Duration::from_secs(5);
        let surroundings = Surroundings { clock: clock.clone(), source: gate.clone() };
        let forge = GitHub::build(config, surroundings).unwrap();
        let origin = Origin::Watched {
            url: format!("{url}/{}.git", place.path),
            credential: None,
            place: Some(place),
        };
        let repository = Repository { origin, ..build::repository(&*clock, "acme/app") };
        Self { gate, forge, clock, repository, url: url.to_owned() }
    }

    /// What a new run wants.
    pub(crate) fn effect(&self, kind: &str, wanted: EffectKind) -> Effect {
        effects::effect(self, kind, wanted)
    }

    /// What the server itself wants.
    pub(crate) fn by_server(&self, key: &str, wanted: EffectKind) -> Effect {
        let author = Author::Server { act: Act::Answer };
        Effect { author, key: key.to_owned(), ..self.effect(key, wanted) }
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
        let hub = &self.gate.behind().hub;
        hub.comments.iter().filter_map(|comment| comment["body"].as_str()).map(str::to_owned).collect()
    }

    async fn stranger_says(&self, text: &str) -> Option<()> {
        self.gate.behind().hub.comment(ISSUE, 5, text);
        Some(())
    }

    fn lose_answer(&self, request: Option<usize>) -> Interruptible {
        self.gate.trouble(request.map(|request| (request, Trouble::LostAnswer)));
        Interruptible::Yes
    }
}

impl Far for House {
    fn shown(&self) -> String {
        without_runs(&serde_json::to_string_pretty(&self.gate.behind().hub.seen()).unwrap())
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
        let id = self.gate.behind().hub.comment(ISSUE, ADA, "/spellbook help");
        CommentRef { id, kind: CommentKind::Issue, thread: ISSUE }
    }

    fn reviewers(&self) -> &'static [&'static str] {
        REVIEWERS
    }
}

//! Against `emulate` of npm: GitHub's API as somebody else understood it. What it lacks (pushes, statuses,
//! reactions, the webhook log, comments on pull requests) is tried before the hub.

use std::sync::Arc;

use async_trait::async_trait;
use domain::effect::{CommentTarget, EffectKind};
use domain::repository::{Place, Repository};
use domain::time::Timestamp;
use forge_github::Access;
use ports::clock::Clock;
use ports::forge::Forge;
use serde_json::{Value, json};
use testkit::conformance::effects::{check, comment, issue};
use testkit::conformance::forge::{Interruptible, Stand, suite};
use testkit::emulate::{ADAS_TOKEN, APP_ID, Emulator, KEY};
use testkit::hub::Hub;
use testkit::{FixedClock, Gate, Trouble, build};

use crate::counterpart::{Counterpart, Program};
use crate::house::House;

struct Away {
    program: Program,
    house: House,
    thread: u64,
    _emulator: Emulator,
}

impl Away {
    async fn new() -> Self {
        let emulator = Emulator::start(&["app"]);
        let program = Program::new(&emulator.address);
        let title = json!({ "title": "It breaks" });
        let made = as_ada(&program, "POST", "/repos/acme/app/issues", Some(title)).await;
        let repository = as_ada(&program, "GET", "/repos/acme/app", None).await;
        let clock = Arc::new(FixedClock::new());
        // The emulator believes its own clock, and holds our tokens against it.
        #[expect(clippy::disallowed_methods, reason = "another program's clock is the machine's")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        clock.set(Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap()));
        let mut hub = Hub::empty(clock.now());
        // The emulator calls itself so, whoever asks.
        hub.web = emulator.address.replace("127.0.0.1", "localhost");
        let behind = Counterpart { hub, program: Some(program.clone()) };
        let (gate, url) = Gate::open(clock.clone(), behind).await;
        let place = Place {
            forge: build::name("github"),
            path: "acme/app".to_owned(),
            id: repository["id"].as_u64().unwrap(),
        };
        let access = Access::App { id: APP_ID.to_string(), key: KEY.into() };
        let house = House::at(clock, gate, &url, access, place);
        Self { program, house, thread: made["number"].as_u64().unwrap(), _emulator: emulator }
    }
}

/// Asks as Ada.
async fn as_ada(program: &Program, method: &str, path: &str, body: Option<Value>) -> Value {
    let (status, answer) = program.ask(method, path, ADAS_TOKEN, body.as_ref()).await;
    assert!((200..300).contains(&status), "{method} {path}: {status}");
    answer
}

#[async_trait]
impl Stand for Away {
    fn forge(&self) -> &dyn Forge {
        &self.house.forge
    }

    fn clock(&self) -> &FixedClock {
        &self.house.clock
    }

    fn repository(&self) -> &Repository {
        &self.house.repository
    }

    fn thread(&self) -> u64 {
        self.thread
    }

    async fn comments(&self) -> Vec<String> {
        let path = format!("/repos/acme/app/issues/{}/comments?per_page=100", self.thread);
        let list = as_ada(&self.program, "GET", &path, None).await;
        let bodies = list.as_array().into_iter().flatten().filter_map(|comment| comment["body"].as_str());
        bodies.map(str::to_owned).collect()
    }

    async fn stranger_says(&self, text: &str) -> Option<()> {
        let path = format!("/repos/acme/app/issues/{}/comments", self.thread);
        as_ada(&self.program, "POST", &path, Some(json!({ "body": text }))).await;
        Some(())
    }

    fn lose_answer(&self, request: Option<usize>) -> Interruptible {
        self.house.gate.trouble(request.map(|request| (request, Trouble::LostAnswer)));
        Interruptible::Yes
    }
}

#[tokio::test]
async fn keeps_the_promises_of_a_forge() {
    suite(&Away::new().await).await;
}

#[tokio::test]
async fn issues_labels_checks_and_commits() {
    let away = Away::new().await;
    let house = &away.house;
    assert_eq!(house.done(&house.effect("issue", issue("One.", true))).await.summary, "opened issue #2");
    assert_eq!(house.done(&house.effect("issue", issue("Two.", true))).await.summary, "updated issue #2");
    let labels = vec!["needs review".to_owned()];
    let number = away.thread;
    house.done(&house.effect("on", EffectKind::AddLabels { number, labels: labels.clone() })).await;
    house.done(&house.effect("off", EffectKind::RemoveLabels { number, labels })).await;

    let main = as_ada(&away.program, "GET", "/repos/acme/app/git/ref/heads/main", None).await;
    let head: domain::name::Commit = build::name(main["object"]["sha"].as_str().unwrap());
    let EffectKind::CreateCheck { name, conclusion, summary, annotations, .. } = check(3) else {
        unreachable!("it is one")
    };
    let kind = EffectKind::CreateCheck { commit: head.clone(), name, conclusion, summary, annotations };
    let effect = house.effect("check", kind);
    house.done(&effect).await;
    house.done(&effect).await;
    let path = format!("/repos/acme/app/commits/{head}/check-runs");
    let checks = as_ada(&away.program, "GET", &path, None).await;
    assert_eq!(checks["total_count"], 1, "{checks}");

    let target = CommentTarget::Commit { commit: head };
    house.done(&house.effect("commit", comment(target, "Seen."))).await;
    let role = house.forge.role(&house.repository, "ada").await.unwrap();
    assert_eq!(role.as_deref(), Some("admin"));
    assert_eq!(house.forge.pull_request(&house.repository, 99).await.unwrap(), None);
    let facts = house.forge.recent(&house.repository, Timestamp::EPOCH).await.unwrap();
    assert!(facts.iter().any(|fact| fact.key.starts_with("issue/1/opened/")), "{facts:?}");
}

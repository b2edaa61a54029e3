//! Against `emulate` of npm: GitHub's API as somebody else understood it. What it lacks (pushes, statuses,
//! reactions, the webhook log, comments on pull requests) is tried before the hub.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use domain::effect::{CommentTarget, EffectKind};
use domain::repository::{Place, Repository};
use domain::time::Timestamp;
use forge_github::Access;
use ports::forge::Forge;
use serde_json::{Value, json};
use testkit::conformance::forge::{Interruptible, Stand, suite};
use testkit::{FixedClock, build};

use crate::effects::{check, comment, issue};
use crate::gate::{Gate, Trouble, client};
use crate::house::{House, KEY};

/// The emulator, with an organisation `acme`, its repository `app`, and Ada, who is a member.
struct Emulator {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Emulator {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let seed = directory.path().join("seed.json");
        std::fs::write(&seed, seed_text()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let modules = installed().join("node_modules");
        let program = modules.join("emulate/dist/index.js");
        assert!(program.exists(), "{} is missing: `./x setup` installs it", program.display());
        #[expect(clippy::disallowed_methods, reason = "the test starts the emulator and ends it")]
        let mut command = Command::new(modules.join(".bin/node"));
        command.arg(program).args(["start", "--service", "github", "--port", &port.to_string(), "--seed"]);
        let mut child = command.arg(seed).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("Ready.")));
        assert!(ready, "the emulator did not start");
        Self { child, address: format!("http://127.0.0.1:{port}"), _directory: directory }
    }

    async fn as_ada(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.address);
        let mut request = client().request(method.parse().unwrap(), url).bearer_auth("tok_ada");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{method} {path}: {}", answer.status());
        answer.json().await.unwrap()
    }
}

/// Where `./x setup` put it.
#[expect(clippy::disallowed_methods, reason = "tests are told where tools are by the environment")]
fn installed() -> PathBuf {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if let Some(own) = named("SPELLBOOK_EMULATE") {
        return own;
    }
    let tools = named("SPELLBOOK_TOOLS").or_else(|| {
        let data = named("XDG_DATA_HOME").or_else(|| Some(named("HOME")?.join(".local/share")))?;
        Some(data.join("spellbook/tools"))
    });
    tools.expect("HOME is set").join("emulate")
}

fn seed_text() -> String {
    let permissions = json!({
        "contents": "write", "issues": "write", "pull_requests": "write", "checks": "write", "metadata": "read",
    });
    let app = json!({
        "app_id": 12, "slug": "spellbook", "name": "Spellbook", "private_key": KEY, "permissions": permissions,
        "events": [], "installations": [
            { "installation_id": 100, "account": "acme", "repository_selection": "all" },
        ],
    });
    // Whose token it does not know is the first of the users there: one who may do nothing.
    let seed = json!({
        "tokens": { "tok_ada": { "login": "ada", "scopes": ["repo", "user"] } },
        "github": {
            "users": [{ "login": "nobody" }, { "login": "ada" }],
            "orgs": [{ "login": "acme", "name": "Acme", "members": [{ "login": "ada", "role": "admin" }] }],
            "repos": [{ "owner": "acme", "name": "app", "private": true, "auto_init": true }],
            "apps": [app],
        },
    });
    seed.to_string()
}

struct Away {
    emulator: Emulator,
    house: House,
    thread: u64,
}

impl Away {
    async fn new() -> Self {
        let emulator = Emulator::start();
        let made =
            emulator.as_ada("POST", "/repos/acme/app/issues", Some(json!({ "title": "It breaks" }))).await;
        let repository = emulator.as_ada("GET", "/repos/acme/app", None).await;
        let clock = Arc::new(FixedClock::new());
        // The emulator believes its own clock, and holds our tokens against it.
        #[expect(clippy::disallowed_methods, reason = "another program's clock is the machine's")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        clock.set(Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap()));
        let (gate, url) = Gate::before(clock.clone(), &emulator.address).await;
        let place = Place {
            forge: build::name("github"),
            path: "acme/app".to_owned(),
            id: repository["id"].as_u64().unwrap(),
        };
        let access = Access::App { id: "12".to_owned(), key: KEY.into() };
        let house = House::at(clock, gate, &url, access, place);
        Self { emulator, house, thread: made["number"].as_u64().unwrap() }
    }
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
        let list = self.emulator.as_ada("GET", &path, None).await;
        let bodies = list.as_array().into_iter().flatten().filter_map(|comment| comment["body"].as_str());
        bodies.map(str::to_owned).collect()
    }

    async fn stranger_says(&self, text: &str) -> Option<()> {
        let path = format!("/repos/acme/app/issues/{}/comments", self.thread);
        self.emulator.as_ada("POST", &path, Some(json!({ "body": text }))).await;
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
    assert_eq!(
        house.done(&house.effect("review/issue", issue("One.", true))).await.summary,
        "opened issue #2"
    );
    assert_eq!(
        house.done(&house.effect("review/issue", issue("Two.", true))).await.summary,
        "updated issue #2"
    );
    let labels = vec!["needs review".to_owned()];
    let number = away.thread;
    house.done(&house.effect("review/on", EffectKind::AddLabels { number, labels: labels.clone() })).await;
    house.done(&house.effect("review/off", EffectKind::RemoveLabels { number, labels })).await;

    let main = away.emulator.as_ada("GET", "/repos/acme/app/git/ref/heads/main", None).await;
    let head: domain::name::Commit = build::name(main["object"]["sha"].as_str().unwrap());
    let EffectKind::CreateCheck { name, conclusion, summary, annotations, .. } = check(3) else {
        unreachable!("it is one")
    };
    let kind = EffectKind::CreateCheck { commit: head.clone(), name, conclusion, summary, annotations };
    let effect = house.effect("review/check", kind);
    house.done(&effect).await;
    house.done(&effect).await;
    let path = format!("/repos/acme/app/commits/{head}/check-runs");
    let checks = away.emulator.as_ada("GET", &path, None).await;
    assert_eq!(checks["total_count"], 1, "{checks}");

    let target = CommentTarget::Commit { commit: head };
    house.done(&house.effect("review/commit", comment(target, "Seen.", true))).await;
    let role = house.forge.role(&house.repository, "ada").await.unwrap();
    assert_eq!(role.as_deref(), Some("admin"));
    assert_eq!(house.forge.pull_request(&house.repository, 99).await.unwrap(), None);
    let facts = house.forge.recent(&house.repository, Timestamp::EPOCH).await.unwrap();
    assert!(facts.iter().any(|fact| fact.key.starts_with("issue/1/opened/")), "{facts:?}");
}

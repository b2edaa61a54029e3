//! How long somebody waits who asks for a run in a comment: from the moment at which GitHub sends the webhook until
//! a worker has the run. In between the webhook is stored and understood, GitHub is asked what its author may do,
//! and the run is queued.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};
use axum::http::{Method, StatusCode, Uri};
use axum::{Json, Router};
use domain::id::RunId;
use domain::repository::Repository;
use domain::run::{Run, RunState};
use domain::signature::Signature;
use engine::World;
use engine::reconcile::{self, Pushed};
use ports::store::runs::RunFilter;
use ports::store::{Page, Topic};
use serde_json::{Value, json};
use spellbook::config::Config;
use spellbook::server::{Plan, Roles, Server};
use spellbook::wiring::{self, SecretSource};
use tokio::task::JoinSet;

use crate::figure::{Figure, Goal};
use crate::intake::repository;
use crate::load::{Letter, REPOSITORY, SECRET};

/// So many comments, one after the other.
const COMMENTS: usize = 100;

const DAEMON: &str = "daemon:
  name: Review
  on: { comment: { command: review } }
  stages: [{ name: Look, script: 'true' }]
";

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let home = tempfile::tempdir()?;
    let mut github = JoinSet::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let config = config(home.path(), &format!("http://{}", listener.local_addr()?))?;
    github.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let data = home.path().join("data");
    let wired = wiring::wire(&config, &data, SecretSource::Files).await?;
    let world = Arc::clone(&wired.world);
    let repository = deployed(&world, home.path()).await?;
    let listen = "127.0.0.1:0".parse()?;
    let server = Server::start_with(Plan { config, data, listen, roles: Roles::ServeAndWork }, wired).await?;
    let asked = Asked { world, repository, url: format!("{}/hooks/forges/github", server.url()) };
    let took = asked.in_turn().await;
    server.stop().await;
    let mut took = took?;
    took.sort_unstable();
    Ok(vec![Figure {
        name: "comment.to_run_ms",
        value: took[took.len() * 99 / 100] as f64,
        unit: "ms",
        goal: Goal::AtMost(100.0),
        against: "99 in 100 comments, from the webhook until a worker has the run",
    }])
}

/// A server that is told of comments.
struct Asked {
    world: Arc<World>,
    repository: Repository,
    url: String,
}

impl Asked {
    /// How long each took, milliseconds. The next one comes when the run of the one before is over.
    async fn in_turn(&self) -> anyhow::Result<Vec<i64>> {
        let letter = Letter::saying("/review")?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let mut hints = self.world.store.wakeups(Topic::Runs);
        let (mut took, mut last) = (Vec::new(), None);
        for number in 0..COMMENTS as u64 {
            let body = letter.written(number);
            let request = http
                .post(&self.url)
                .header("content-type", "application/json")
                .header("x-github-event", "issue_comment")
                .header("x-github-delivery", format!("00000000-0000-4000-8000-{number:012x}"))
                .header("x-hub-signature-256", Signature::of(SECRET, &[&body]).written())
                .body(body);
            let sent = self.world.clock.now();
            let status = request.send().await?.status();
            ensure!(status == StatusCode::ACCEPTED, "a webhook was answered with {status}");
            let run = loop {
                if let Some(run) = self.ended_after(last).await? {
                    break run;
                }
                hints.changed().await?;
            };
            last = Some(run.id);
            let started = run.started_at.context("it ended without a worker")?;
            took.push(started.millis() - sent.millis());
        }
        Ok(took)
    }

    async fn ended_after(&self, last: Option<RunId>) -> anyhow::Result<Option<Run>> {
        let filter = RunFilter { repository: Some(self.repository.id), ..RunFilter::default() };
        let newest = self.world.store.run_list(&filter, &Page::first(1)).await?.pop();
        Ok(newest.filter(|run| Some(run.id) != last && matches!(run.state, RunState::Ended { .. })))
    }
}

/// A server that is known to a forge, as an account there.
fn config(home: &Path, url: &str) -> anyhow::Result<Config> {
    let held = |name: &str, text: &str| {
        let path = home.join(name);
        std::fs::write(&path, text)?;
        anyhow::Ok(json!({ "file": path }))
    };
    let forge = json!({
        "name": "github", "kind": "github", "url": url, "api_url": url, "allow_private": true, "allow_http": true,
        "token": held("token", "bench")?, "webhook_secrets": [held("secret", SECRET)?],
    });
    Ok(serde_json::from_value(json!({ "forges": [forge] }))?)
}

/// The repository, with a daemon that waits for a comment.
async fn deployed(world: &World, home: &Path) -> anyhow::Result<Repository> {
    let repository = repository("github".parse()?, world.clock.unique(), world.clock.now());
    let _ = world.store.repository_create(&repository).await?;
    world.source.create(repository.id, &repository.default_branch).await?;
    let (tree, mirror) = (home.join("tree"), world.source.path(repository.id));
    std::fs::create_dir_all(tree.join("daemons/review"))?;
    std::fs::write(tree.join("daemons/review/daemon.yaml"), DAEMON)?;
    let mirror = mirror.to_str().context("no text")?;
    for arguments in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "--all"],
        &[
            "-c",
            "user.name=Bench",
            "-c",
            "user.email=bench@localhost",
            "commit",
            "--quiet",
            "--message",
            "One",
        ],
        &["push", "--quiet", mirror, "main"],
    ] {
        #[expect(clippy::disallowed_methods, reason = "somebody else's git")]
        let status = Command::new("git").args(arguments).current_dir(&tree).status()?;
        ensure!(status.success(), "git {}: {status}", arguments[0]);
    }
    reconcile::repository(world, repository.id, &Pushed::default()).await?;
    Ok(repository)
}

/// GitHub, as far as a comment leads to it.
async fn answer(method: Method, uri: Uri) -> (StatusCode, Json<Value>) {
    let said = match uri.path().trim_end_matches('/').rsplit('/').next() {
        Some("user") => json!({ "id": 5, "login": "bench-bot", "type": "User" }),
        Some("permission") => json!({ "permission": "write", "role_name": "write" }),
        Some("bench") => json!({ "id": REPOSITORY, "full_name": "bench/bench", "private": true }),
        Some("reactions") => json!({ "content": "eyes" }),
        _ => json!([]),
    };
    (if method == Method::POST { StatusCode::CREATED } else { StatusCode::OK }, Json(said))
}

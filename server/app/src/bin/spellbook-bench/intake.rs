//! Webhooks of a forge: how many a server takes in, each on the disk before it is answered, against Probot,
//! which does nothing with them and keeps none; and how long whoever sends them waits.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Context;
use domain::id::RepositoryId;
use domain::name::ForgeName;
use domain::repository::{Origin, Place, Repository, Sync};
use domain::time::Timestamp;
use forge_github::{Access, GitHub, Surroundings};
use ports::source::RemotePolicy;
use serde_json::json;
use spellbook::config::Config;
use spellbook::server::{Plan, Roles, Server as Spellbook};
use spellbook::tools;
use spellbook::wiring::{self, SecretSource};

use crate::figure::{Figure, Goal};
use crate::load::{Load, REPOSITORY, SECRET};
use crate::process::{Server, say};

/// Connections at once, where throughput is measured: more than either keeps busy.
const BUSY: usize = 128;
/// Connections at once, where the wait is measured, and webhooks a second.
const CLIENTS: usize = 64;
const RATE: u32 = 2_000;
/// How long each is measured, seconds, and how often in turn.
const SPAN: u64 = 5;
const ROUNDS: usize = 3;

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let (mut ours, mut theirs, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let busy = Load { connections: BUSY, seconds: SPAN, rate: 0, ..Load::default() };
        ours.push(taken(&busy)?.per_second);
        theirs.push(probot(&busy)?.per_second);
        let steady = Load { connections: CLIENTS, seconds: SPAN, rate: RATE, ..Load::default() };
        waits.push(taken(&steady)?.p99_ms);
    }
    Ok(vec![
        Figure {
            name: "intake.vs_probot",
            value: middle(ours) / middle(theirs),
            unit: "ratio",
            goal: Goal::AtLeast(3.0),
            against: "Probot with a handler that does nothing, same webhooks",
        },
        Figure {
            name: "intake.p99_ms",
            value: middle(waits),
            unit: "ms",
            goal: Goal::AtMost(50.0),
            against: "2,000 webhooks a second, from when each was to be sent",
        },
    ])
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What a new server takes in. What it makes of it afterwards goes on at the same time.
fn taken(load: &Load) -> anyhow::Result<crate::load::Taken> {
    let data = tempfile::tempdir()?;
    let data = data.path().join("data");
    let mut server = Server::start(&["--intake", data.to_str().context("no text")?])?;
    let url = server.line()?["url"].as_str().context("no address")?.to_owned();
    Load { url, ..load.clone() }.in_a_process()
}

fn probot(load: &Load) -> anyhow::Result<crate::load::Taken> {
    let program =
        tools::variable("SPELLBOOK_PROBOT").context("SPELLBOOK_PROBOT is not set; use ./x bench")?;
    #[expect(clippy::disallowed_methods, reason = "the peer is a program")]
    let mut command = Command::new("node");
    command.arg(program).arg(SECRET).env("NODE_ENV", "production").stderr(Stdio::null());
    let mut server = Server::of(&mut command)?;
    let url = server.line()?["url"].as_str().context("no address")?.to_owned();
    Load { url, ..load.clone() }.in_a_process()
}

/// The process of the server, until it is ended: the whole of it, known to one forge and at home in one
/// repository there.
pub(crate) async fn serve(data: &Path) -> anyhow::Result<()> {
    let config = Config::default();
    let mut wired = wiring::wire(&config, data, SecretSource::Files).await?;
    let forge: ForgeName = "github".parse()?;
    let world = Arc::get_mut(&mut wired.world).context("somebody else has the world already")?;
    let around = Surroundings { clock: Arc::clone(&world.clock), source: Arc::clone(&world.source) };
    world.hosts.insert(forge.clone(), Arc::new(GitHub::build(github(), around)?));
    let _ =
        world.store.repository_create(&repository(forge, world.clock.unique(), world.clock.now())).await?;
    let (listen, data) = ("127.0.0.1:0".parse()?, data.to_owned());
    let server = Spellbook::start_with(Plan { config, data, listen, roles: Roles::Serve }, wired).await?;
    say(&json!({ "url": format!("{}/hooks/forges/github", server.url()) }))?;
    std::future::pending().await
}

/// GitHub as far as its webhooks go: there is nobody to ask.
fn github() -> forge_github::Config {
    let nowhere = || "http://127.0.0.1:9".to_owned();
    forge_github::Config {
        api_url: nowhere(),
        web_url: nowhere(),
        webhook_secrets: vec![SECRET.into()],
        allow: RemotePolicy { plain_http: true, private_addresses: true, ..RemotePolicy::default() },
        ..forge_github::Config::new(Access::Token { token: "bench".into(), account: None })
    }
}

/// The repository of the webhooks. Nobody looks at it meanwhile.
pub(crate) fn repository(forge: ForgeName, unique: uuid::Uuid, now: Timestamp) -> Repository {
    let place = Some(Place { forge, path: "bench/bench".to_owned(), id: REPOSITORY });
    let url = "https://localhost/bench/bench.git".to_owned();
    let later = now.after(std::time::Duration::from_secs(24 * 3600));
    Repository {
        id: RepositoryId::new(unique),
        path: "bench/bench".parse().expect("because it is a path"),
        origin: Origin::Watched { url, credential: None, place },
        default_branch: "main".parse().expect("because it is a branch"),
        sync: Sync { checked_at: Some(now), due_at: Some(later), ..Sync::NEVER },
        created_at: now,
    }
}

//! What the door of a jail costs: the same program in the same jail with it and without it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use domain::limits::Limits;
use domain::purse::Purse;
use ports::proxy::{Guest, Proxy};
use ports::sandbox::{Door, JailEnd, JailSpec, Network, Sandbox};
use sandbox::{Config as JailConfig, Jails};
use spellbook::config::Config;
use spellbook::tools::{self, Tools};
use spellbook::wiring::{self, SecretSource};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::figure::{Figure, Goal, median};

/// Jails of each kind, in turn.
const PAIRS: usize = 100;

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let home = tempfile::Builder::new().prefix("sbb-").tempdir()?;
    open(home.path())?;
    let wired =
        wiring::wire(&Config::default(), &home.path().join("data"), SecretSource::Environment).await?;
    let nsjail = Tools::from_environment(tools::variable).nsjail();
    // One at a time, and one that comes meanwhile.
    let jails =
        Jails::open(JailConfig { prepared: 2, ..JailConfig::new(nsjail, home.path().join("jails")) })?;
    let spec = spec(home.path())?;
    let (mut closed, mut opened) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS + 5 {
        let without = run(&jails, spec.clone()).await?;
        let with = visited(&jails, spec.clone(), &*wired.proxy).await?;
        // The first ones warm up.
        if pair >= 5 {
            closed.push(without);
            opened.push(with);
        }
    }
    let cost = (median(opened) - median(closed)) * 1_000.0;
    Ok(vec![Figure {
        name: "sandbox.door",
        value: cost,
        unit: "ms",
        goal: Goal::AtMost(1.5),
        against: "the same prepared jail without a door",
    }])
}

/// A run with a door, from the admission of its guest to the end of the visit.
async fn visited(jails: &Jails, spec: JailSpec, proxy: &dyn Proxy) -> anyhow::Result<Duration> {
    ready(jails).await?;
    let begun = Instant::now();
    let visit = proxy.admit(Guest {
        name: "bench".to_owned(),
        choice: ports::models::Choice::default(),
        till: Arc::new(Purse::new(None, domain::money::NanoUsd::ZERO)),
        most_calls: Some(0),
        provider_tools: Vec::new(),
        allowed: vec!["example.com".to_owned()],
    });
    let network = Network::Door(Arc::clone(&visit) as Arc<dyn Door>);
    once(jails, JailSpec { network, ..spec }).await?;
    visit.end();
    Ok(begun.elapsed())
}

async fn run(jails: &Jails, spec: JailSpec) -> anyhow::Result<Duration> {
    ready(jails).await?;
    let begun = Instant::now();
    once(jails, spec).await?;
    Ok(begun.elapsed())
}

/// Making the next jail must not slow down what is measured.
async fn ready(jails: &Jails) -> anyhow::Result<()> {
    ensure!(
        jails.prepare(None, &Limits::DEFAULT).await? > 0,
        "no jail can be prepared here; as root one can"
    );
    Ok(())
}

async fn once(jails: &Jails, spec: JailSpec) -> anyhow::Result<()> {
    let (sender, mut output) = tokio::sync::mpsc::channel(1);
    let report = jails.run(spec, sender, CancellationToken::new());
    let (report, ()) = tokio::join!(report, async { while output.recv().await.is_some() {} });
    let end = report?.end;
    ensure!(end == JailEnd::Exited(0), "the program failed: {end:?}");
    Ok(())
}

fn spec(home: &Path) -> anyhow::Result<JailSpec> {
    let workspace = home.join("work");
    std::fs::create_dir_all(&workspace)?;
    Ok(JailSpec {
        name: "door".to_owned(),
        command: ["sh", "-c", "true"].map(str::to_owned).to_vec(),
        stdin: ports::sandbox::Stdin::nothing(),
        env: std::collections::BTreeMap::new(),
        workspace,
        directory: ".".into(),
        runtime: None,
        limits: Limits::DEFAULT,
        network: Network::None,
    })
}

fn open(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711))?)
}

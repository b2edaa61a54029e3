//! Runs of a script, from the queue to the record, against the same jail by nsjail alone.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use domain::event::Actor;
use domain::id::WorkerId;
use domain::limits::Limits;
use domain::name::{Address, At};
use domain::repository::Origin;
use domain::run::RunStatus;
use engine::work::{self, WorkOutcome};
use engine::{World, intake};
use ports::sandbox::{JailEnd, JailSpec, Network, Sandbox};
use ports::source::{Moved, SnapshotSpec};
use ports::store::Topic;
use sandbox::{Config as JailConfig, Jails};
use spellbook::config::Config;
use spellbook::tools::{self, Tools};
use spellbook::wiring::{self, SecretSource};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::figure::{Figure, Goal, median};

/// Runs of each kind, one at a time and in turn.
const PAIRS: usize = 60;
/// Runs at once, as many as the machines that the goals are meant for have processors.
const PARALLEL: usize = 2;
/// How long a lane waits for word of its run.
const GLANCE: Duration = Duration::from_millis(2);
/// Runs of each kind in a round when all processors are busy.
const SATURATED: usize = 120;
/// Rounds of either, in turn, so that what else the machine does meets both; the middle one counts.
const ROUNDS: usize = 5;

const DAEMON: &str = "daemon:\n  name: Nothing\n  stages:\n    - { name: Nothing, type: script, shell: [sh], script: \"true\" }\n";

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let home = tempfile::Builder::new().prefix("sbb-").tempdir()?;
    open(home.path())?;
    let raw = Raw::prepare(home.path())?;
    // Nothing is prepared in one; in the other as much as by default.
    let plain = world(&home.path().join("plain"), Some(0)).await?;
    let ready = world(&home.path().join("ready"), None).await?;
    for _ in 0..5 {
        run(&plain, 0).await?;
        run(&ready, 0).await?;
        raw.run(0)?;
    }
    let (mut ours, mut made, mut prepared, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        ours.push(run(&plain, 0).await?);
        made.push(raw.run_made().await?);
        prepared.push(raw.run_prepared().await?);
        theirs.push(raw.run(0)?);
    }
    let theirs = median(theirs);
    let mut busy = Vec::new();
    for _ in 0..ROUNDS {
        let ours = saturate(&ready).await?;
        busy.push(raw.saturate()?.div_duration_f64(ours));
    }
    busy.sort_by(f64::total_cmp);
    Ok(vec![
        Figure {
            name: "sandbox.run_latency",
            value: median(ours) / theirs,
            unit: "ratio",
            goal: Goal::AtMost(1.3),
            against: "the same jail by nsjail alone",
        },
        Figure {
            name: "sandbox.start",
            value: median(made) / theirs,
            unit: "ratio",
            goal: Goal::AtMost(1.1),
            against: "nsjail alone, both from the start of the jail to its end",
        },
        Figure {
            name: "sandbox.start_prepared",
            value: median(prepared) / theirs,
            unit: "ratio",
            goal: Goal::AtMost(0.5),
            against: "nsjail alone, both from the start of the jail to its end",
        },
        Figure {
            name: "sandbox.throughput",
            value: busy[ROUNDS / 2],
            unit: "ratio",
            goal: Goal::AtLeast(0.8),
            against: "nsjail in a loop, same parallelism",
        },
    ])
}

fn open(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711))?)
}

/// A store, a repository and a daemon that does nothing.
async fn world(home: &Path, prepared: Option<usize>) -> anyhow::Result<Arc<World>> {
    std::fs::create_dir_all(home)?;
    open(home)?;
    let mut config = Config::default();
    config.sandbox.prepared = prepared;
    let wired = wiring::wire(&config, &home.join("data"), SecretSource::Environment).await?;
    let world = Arc::clone(&wired.world);
    let created =
        engine::repositories::create(&world, "bench/book".parse()?, Origin::Hosted, "main".parse()?).await?;
    let files = home.join("files/daemons/nothing");
    std::fs::create_dir_all(&files)?;
    std::fs::write(files.join("daemon.yaml"), DAEMON)?;
    let root = home.join("files");
    let now = world.clock.now();
    let parent = wired.git.begin(created.id, &root, now).await?;
    let run = domain::id::RunId::new(world.clock.unique());
    let message = "Add a daemon\n";
    let spec = SnapshotSpec {
        repository: created.id,
        run,
        directory: &root,
        parent: &parent,
        checkout: None,
        message,
        max_bytes: 1 << 20,
        at: now,
    };
    let commit = world.source.snapshot(spec).await?.commit;
    let moved = world.source.move_branch(created.id, &"main".parse()?, None, Some(&commit)).await?;
    ensure!(moved == Moved::Moved, "the branch is there already");
    let pushed = engine::reconcile::Pushed { branches: vec!["main".parse()?], actor: None, skip_runs: true };
    engine::reconcile::repository(&world, created.id, &pushed).await?;
    // The lock on the jails' directory lives as long as the process.
    std::mem::forget(wired);
    Ok(world)
}

/// One run, from the request to its recorded end.
async fn run(world: &Arc<World>, slot: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let address = Address { repository: "bench/book".parse()?, daemon: "nothing".parse()?, at: At::Deployed };
    let actor = Actor { name: "bench".to_owned(), role: None, bot: true };
    let start = intake::Start { address, inputs: serde_json::Map::new(), actor, idempotency: None };
    let started = intake::start(world, start).await?;
    let worker = WorkerId::new(world.clock.unique());
    let stop = CancellationToken::new();
    let mut hints = world.store.wakeups(Topic::Runs);
    loop {
        hints.mark_unchanged();
        match work::next(world, worker, &stop).await? {
            WorkOutcome::Worked { .. } => {}
            // The other lane has it.
            WorkOutcome::Idle { .. } => drop(tokio::time::timeout(GLANCE, hints.changed()).await),
        }
        let run = world.store.run_get(started.run).await?.context("the run is gone")?;
        if run.state.status().is_final() {
            ensure!(run.state.status() == RunStatus::Succeeded, "run {slot}: {:?}", run.state);
            return Ok(begun.elapsed());
        }
    }
}

async fn saturate(world: &Arc<World>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for slot in 0..PARALLEL {
        let world = Arc::clone(world);
        lanes.spawn(async move {
            for _ in 0..SATURATED / PARALLEL {
                run(&world, slot).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(begun.elapsed())
}

/// A jail for a shell that does nothing.
fn spec(home: &Path, name: &str) -> anyhow::Result<JailSpec> {
    let workspace = home.join(format!("work-{name}"));
    std::fs::create_dir_all(&workspace)?;
    Ok(JailSpec {
        name: name.to_owned(),
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

/// nsjail with the configuration that our jails have.
struct Raw {
    nsjail: std::path::PathBuf,
    configurations: Vec<std::path::PathBuf>,
    /// Keeps jails ready for the same program.
    jails: Jails,
    /// Makes each when it is needed.
    unprepared: Jails,
    spec: JailSpec,
}

impl Raw {
    fn prepare(home: &Path) -> anyhow::Result<Self> {
        let nsjail = Tools::from_environment(tools::variable).nsjail();
        let config = JailConfig { prepared: PARALLEL, ..JailConfig::new(nsjail.clone(), home.join("raw")) };
        let jails = Jails::open(config)?;
        let unprepared =
            JailConfig { prepared: 0, ..JailConfig::new(nsjail.clone(), home.join("unprepared")) };
        let unprepared = Jails::open(unprepared)?;
        let mut configurations = Vec::new();
        for slot in 0..PARALLEL {
            let spec = spec(home, &format!("raw-{slot}"))?;
            let file = home.join(format!("raw-{slot}.cfg"));
            std::fs::write(&file, jails.raw_command(&spec)?.configuration)?;
            configurations.push(file);
        }
        let spec = spec(home, "prepared")?;
        Ok(Self { nsjail, configurations, jails, unprepared, spec })
    }

    /// The same jail by ours, when none is at hand.
    async fn run_made(&self) -> anyhow::Result<Duration> {
        timed(&self.unprepared, self.spec.clone()).await
    }

    /// The same jail by ours, when one is at hand.
    async fn run_prepared(&self) -> anyhow::Result<Duration> {
        let ready = self.jails.prepare(None, &self.spec.limits).await?;
        ensure!(ready > 0, "no jail can be prepared here; as root one can");
        let took = timed(&self.jails, self.spec.clone()).await?;
        // Making the next one must not slow down what is measured after this.
        self.jails.prepare(None, &self.spec.limits).await?;
        Ok(took)
    }

    #[expect(clippy::disallowed_methods, reason = "nsjail alone is what is measured against")]
    fn run(&self, slot: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut nsjail = Command::new(&self.nsjail);
        nsjail.arg("--config").arg(&self.configurations[slot]).stdin(Stdio::null());
        let output = nsjail.output()?;
        ensure!(output.status.success(), "nsjail: {}", String::from_utf8_lossy(&output.stderr));
        Ok(begun.elapsed())
    }

    fn saturate(&self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let lane = |slot| (0..SATURATED / PARALLEL).try_for_each(|_| self.run(slot).map(drop));
            let lanes: Vec<_> = (0..PARALLEL).map(|slot| scope.spawn(move || lane(slot))).collect();
            lanes
                .into_iter()
                .try_for_each(|lane| lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))?)
        })?;
        Ok(begun.elapsed())
    }
}

/// One run in a jail of ours.
async fn timed(jails: &Jails, spec: JailSpec) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let (sender, mut output) = tokio::sync::mpsc::channel(1);
    let report = jails.run(spec, sender, CancellationToken::new());
    let (report, ()) = tokio::join!(report, async { while output.recv().await.is_some() {} });
    let took = begun.elapsed();
    ensure!(report?.end == JailEnd::Exited(0), "the program failed");
    Ok(took)
}

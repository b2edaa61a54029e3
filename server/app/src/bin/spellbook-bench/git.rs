//! A watched repository with many daemons of which one changes, from the remote's commit to the
//! recorded revision, against git doing the fetch and the diff alone.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use domain::name::SecretName;
use domain::repository::{Origin, SyncStatus};
use spellbook::config::Config;
use spellbook::wiring::{self, SecretSource, Wired};
use tokio::time::Instant;

use crate::figure::{Figure, Goal, median};

/// Changes of one daemon, each fetched by both.
const CHANGES: usize = 15;

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let small = compare(1_000).await?;
    let large = compare(10_000).await?;
    Ok(vec![
        Figure {
            name: "git.push_to_deployed",
            value: small.ours / small.theirs,
            unit: "ratio",
            goal: Goal::AtMost(1.5),
            against: "git fetch and git diff, 1,000 daemons",
        },
        Figure {
            name: "git.scale",
            // What the remote's git takes to pack a directory of so many is in both.
            value: (large.ours / large.theirs) / (small.ours / small.theirs),
            unit: "ratio",
            goal: Goal::AtMost(1.3),
            against: "how git's own time grows from 1,000 to 10,000 daemons",
        },
    ])
}

struct Compared {
    ours: f64,
    theirs: f64,
}

async fn compare(daemons: usize) -> anyhow::Result<Compared> {
    let home = tempfile::tempdir()?;
    let remote = Repository { path: home.path().join("remote") };
    remote.create(daemons)?;
    let mut config = Config::default();
    config.remotes.allow_file = true;
    let Wired { world, place: _place, .. } =
        wiring::wire(&config, &home.path().join("data"), SecretSource::Environment).await?;
    let origin = Origin::Watched {
        url: format!("file://{}", remote.path.display()),
        credential: None::<SecretName>,
        place: None,
    };
    let watched =
        engine::repositories::create(&world, "bench/book".parse()?, origin, "main".parse()?).await?;
    let first = engine::repositories::sync_now(&world, watched.id).await?;
    ensure!(first.sync.status == SyncStatus::Synced, "not synced: {:?}", first.sync.message);
    let mirror = Repository { path: home.path().join("mirror") };
    mirror.clone_of(&remote)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        remote.change(change % daemons, change)?;
        let repository = world.store.repository_get(watched.id).await?.context("gone")?;
        let begun = Instant::now();
        let status = engine::watch::look(&world, &repository).await?;
        ours.push(begun.elapsed());
        ensure!(status == SyncStatus::Synced, "not synced after a change");
        theirs.push(mirror.fetch_and_diff()?);
    }
    let current = world.store.revision_currents(watched.id, &"main".parse()?).await?;
    ensure!(current.len() == daemons, "{} of {daemons} daemons are recorded", current.len());
    Ok(Compared { ours: median(ours), theirs: median(theirs) })
}

/// A repository driven by git itself.
struct Repository {
    path: PathBuf,
}

impl Repository {
    fn create(&self, daemons: usize) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.path)?;
        self.git(&["init", "--quiet", "--initial-branch=main", "."])?;
        for number in 0..daemons {
            self.write(number, 0)?;
        }
        self.commit("Add daemons")?;
        self.git(&["gc", "--quiet"])
    }

    fn write(&self, number: usize, version: usize) -> anyhow::Result<()> {
        let directory = self.path.join(format!("daemons/daemon-{number}"));
        std::fs::create_dir_all(&directory)?;
        let text = format!(
            "daemon:\n  name: Daemon {number}\n  version: 1.0.{version}\n  description: One of many\n  stages:\n    - {{ name: Say, type: script, script: \"echo {version}\" }}\n"
        );
        Ok(std::fs::write(directory.join("daemon.yaml"), text)?)
    }

    fn change(&self, number: usize, version: usize) -> anyhow::Result<()> {
        self.write(number, version + 1)?;
        self.commit("Change one")
    }

    fn commit(&self, message: &str) -> anyhow::Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])
    }

    fn clone_of(&self, remote: &Self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.path)?;
        self.git(&["init", "--quiet", "--bare", "."])?;
        self.git(&["remote", "add", "origin", &format!("file://{}", remote.path.display())])?;
        self.git(&["fetch", "--quiet", "origin", "+refs/heads/*:refs/heads/*"])
    }

    /// What a person would do by hand to know which daemons changed.
    fn fetch_and_diff(&self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        self.git(&["update-ref", "refs/old", "refs/heads/main"])?;
        self.git(&["fetch", "--quiet", "origin", "+refs/heads/*:refs/heads/*"])?;
        self.git(&["diff", "--name-only", "refs/old", "refs/heads/main"])?;
        Ok(begun.elapsed())
    }

    #[expect(clippy::disallowed_methods, reason = "git alone is what is measured against")]
    fn git(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Bench", "-c", "user.email=bench@example.com", "-c", "gc.auto=0"]);
        git.args(arguments)
            .current_dir(&self.path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::null());
        let output = git.output()?;
        ensure!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

//! `serve --demo`: what a person would do first, done for them and shown: a spellbook is pushed with
//! git, its daemons are deployed, one runs, and its answer is on the screen.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::access::{Account, Role, Token};
use domain::effect::{EffectKind, EffectStatus};
use domain::id::{AccountId, TokenId};
use domain::name::RepositoryPath;
use domain::run::{Run, RunState};
use engine::World;
use ports::store::runs::RunFilter;
use ports::store::{Page, Recorded, Topic};
use secrecy::{ExposeSecret, SecretString};
use tokio::process::Command;

use crate::exit::CommandError;
use crate::output::{Tone, Ui};
use crate::server::Server;
use crate::tools::{self, Tools};

/// Where the example is pushed to.
const REPOSITORY: &str = "demo/spellbook";
/// The account that pushes it.
const ACCOUNT: &str = "demo";
/// How long the account's token is good.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// How many lines of an answer are shown.
const LONGEST_ANSWER: usize = 60;
/// How long the first runs may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Pushes the spellbook of the current directory and shows what comes of it.
///
/// # Errors
/// When git does not push, or no run ends.
pub(crate) async fn show(server: &Server, ui: &Ui) -> Result<(), CommandError> {
    let here = std::env::current_dir().map_err(anyhow::Error::from)?;
    let known = runs(&server.world).await?.len();
    let said = push(server, &here).await?;
    ui.line("")?;
    ui.line(format_args!("$ git push {}/git/{REPOSITORY}.git main", server.url()))?;
    ui.foreign(&said)?;
    for run in settled(&server.world, known).await? {
        answer(&server.world, &run, ui).await?;
    }
    ui.line("")?;
    ui.line("The server goes on; stop it with Ctrl-C. To go on yourself:")?;
    ui.line(format_args!("  spellbook list --server {}", server.url()))?;
    ui.line(format_args!("  spellbook run {REPOSITORY}/code-health --watch --server {}", server.url()))?;
    Ok(())
}

/// A real push of a copy of the spellbook, with a token that only git's environment holds.
async fn push(server: &Server, spellbook: &Path) -> anyhow::Result<String> {
    let daemons = spellbook.join("daemons");
    if !daemons.is_dir() {
        bail!("{} has no directory `daemons`; start the demo in a spellbook", spellbook.display());
    }
    let token = token(&server.world).await?;
    let directory = tempfile::tempdir()?;
    let git = Git { directory: directory.path().to_owned(), token };
    let url = format!("{}/git/{REPOSITORY}.git", server.url());
    git.run(&["init", "--quiet", "--initial-branch=main", "."]).await?;
    // On a second start the repository is there, and the push goes on top of it.
    if git.run(&["fetch", "--quiet", &url, "main"]).await.is_ok() {
        git.run(&["reset", "--quiet", "--soft", "FETCH_HEAD"]).await?;
    }
    copy(&daemons, &directory.path().join("daemons"))?;
    for file in ["spellbook.yaml", "README.md", "CHANGELOG.md"] {
        if spellbook.join(file).is_file() {
            std::fs::copy(spellbook.join(file), directory.path().join(file))?;
        }
    }
    git.run(&["add", "--all"]).await?;
    git.run(&["commit", "--quiet", "--allow-empty", "--message", "Show what a spellbook does"]).await?;
    git.run(&["push", &url, "HEAD:main"]).await
}

struct Git {
    directory: PathBuf,
    token: SecretString,
}

impl Git {
    /// Runs git apart from everything that the person has configured; gives what it said.
    #[expect(clippy::disallowed_methods, reason = "the demo shows the real git, as a person would run it")]
    async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let program =
            Tools::from_environment(tools::variable).find("git").context("git is not on the PATH")?;
        let basic = STANDARD.encode(format!("{ACCOUNT}:{}", self.token.expose_secret()));
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&self.directory)
            .env_clear()
            .env("PATH", tools::variable("PATH").unwrap_or_default())
            .env("HOME", &self.directory)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "Spellbook demo")
            .env("GIT_AUTHOR_EMAIL", "demo@example.com")
            .env("GIT_COMMITTER_NAME", "Spellbook demo")
            .env("GIT_COMMITTER_EMAIL", "demo@example.com")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {basic}"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!("git {} failed:\n{said}", arguments.first().unwrap_or(&""));
        }
        Ok(said)
    }
}

/// Copies regular files; links are left out.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A token for the account that pushes; it is good for an hour, and for pushing only.
async fn token(world: &World) -> anyhow::Result<SecretString> {
    let now = world.clock.now();
    let new = Account {
        id: AccountId::new(world.clock.unique()),
        name: ACCOUNT.to_owned(),
        role: Role::Maintainer,
        created_at: now,
    };
    let account = match world.store.account_create(&new).await? {
        Recorded::New => new,
        Recorded::Known(known) => known,
    };
    let (secret, hash) = web::token::mint();
    let token = Token {
        id: TokenId::new(world.clock.unique()),
        account: account.id,
        label: "demo".to_owned(),
        hash,
        role: Role::Maintainer,
        once: false,
        reach: None,
        created_at: now,
        expires_at: Some(now.after(TOKEN_LIFE)),
    };
    world.store.token_create(&token).await?;
    Ok(secret)
}

async fn runs(world: &World) -> anyhow::Result<Vec<Run>> {
    let path: RepositoryPath = REPOSITORY.parse().expect("because it is a repository's path");
    let Some(repository) = world.store.repository_find(&path).await? else { return Ok(Vec::new()) };
    let filter = RunFilter { repository: Some(repository.id), ..RunFilter::default() };
    Ok(world.store.run_list(&filter, &Page::first(200)).await?)
}

/// Waits until every run that the push started has ended, and what it wants is settled; the last to
/// be started comes first.
async fn settled(world: &World, known: usize) -> anyhow::Result<Vec<Run>> {
    let mut hints = [world.store.wakeups(Topic::Runs), world.store.wakeups(Topic::Outbox)];
    let looking = async {
        loop {
            let mut runs = runs(world).await?;
            runs.truncate(runs.len().saturating_sub(known));
            if !runs.is_empty() && all_settled(world, &runs).await? {
                return anyhow::Ok(runs);
            }
            let [run, outbox] = &mut hints;
            tokio::select! {
                changed = run.changed() => changed,
                changed = outbox.changed() => changed,
            }
            .context("the store is closed")?;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.context("the runs did not end in time")?
}

async fn all_settled(world: &World, runs: &[Run]) -> anyhow::Result<bool> {
    for run in runs {
        let effects = world.store.effect_list(run.id).await?;
        let pending = effects.iter().any(|effect| matches!(effect.status, EffectStatus::Pending { .. }));
        if pending || !matches!(run.state, RunState::Ended { .. }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What came of a run: its end, and what it said or made.
async fn answer(world: &World, run: &Run, ui: &Ui) -> Result<(), CommandError> {
    let status = run.state.status();
    ui.line("")?;
    let head = (ui.paint(Tone::Strong, &run.daemon), ui.paint(Tone::of(status.as_str()), status));
    ui.line(format_args!("{} {}  {}", head.0, head.1, ui.paint(Tone::Dim, run.id)))?;
    for effect in world.store.effect_list(run.id).await.map_err(anyhow::Error::from)? {
        match &effect.status {
            EffectStatus::Done { receipt } => {
                ui.line(format_args!("  {}", ui.foreign_line(&receipt.summary)))?;
            }
            EffectStatus::Refused { reason } => {
                ui.line(format_args!("  refused: {}", ui.foreign_line(reason)))?;
            }
            EffectStatus::Staged | EffectStatus::Pending { .. } => {}
        }
        if let EffectKind::AddComment { body, .. } = &effect.kind {
            ui.line("")?;
            for line in body.lines().take(LONGEST_ANSWER) {
                ui.line(format_args!("  {}", ui.foreign_line(line)))?;
            }
        }
    }
    Ok(())
}

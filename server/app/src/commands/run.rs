//! `spellbook run PATH`: a daemon of this machine, run by the same engine as on a server, on a data
//! directory of its own. The person's files are copied and never changed; what the daemon would do
//! outside is shown, not done.

use std::path::{Path, PathBuf};

use domain::effect::{Effect, EffectKind, EffectStatus, IssueState};
use domain::event::Actor;
use domain::id::{RepositoryId, RunId, WorkerId};
use domain::name::{Address, At, Branch, DaemonId, RepositoryPath};
use domain::repository::{Origin, Repository};
use domain::run::{Run, RunState, RunStatus};
use domain::value::Value;
use engine::reconcile::{self, Pushed};
use engine::replay;
use engine::work::{self, WorkOutcome};
use engine::{Refusal, World, intake};
use ports::source::{Diff, Moved, SnapshotSpec};
use ports::store::Page;
use ports::store::logs::LineSource;
use ports::store::runs::RunFilter;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use crate::cli::{RunArgs, inputs};
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};
use crate::tools;
use crate::wiring::{self, SecretSource, Wired};

/// The branch that holds a copy of the person's files. Not a deploy branch: outcomes are staged.
const BRANCH: &str = "local";
/// The most bytes that are copied.
const MOST_BYTES: u64 = 2 << 30;

/// Runs a daemon's directory.
pub(crate) async fn run(
    directory: &Path,
    args: &RunArgs,
    config: &Config,
    ui: &Ui,
) -> Result<Exit, CommandError> {
    let given = inputs::read(&args.inputs)?;
    let place = Place::of(directory)?;
    let data =
        args.data.data.clone().unwrap_or_else(|| tools::state_home(tools::variable).join("spellbook/local"));
    let wired = wiring::wire(config, &data, SecretSource::Environment).await?;
    let world = &wired.world;
    let repository = repository(world, &place).await?;
    let address = Address {
        repository: repository.path.clone(),
        daemon: place.daemon.clone(),
        at: At::Named(branch()),
    };
    copy(&wired, &repository, &place).await?;
    let actor =
        Actor { name: tools::variable("USER").unwrap_or_else(|| "you".to_owned()), role: None, bot: false };
    let started = match &args.from_stage {
        None => {
            intake::start(world, intake::Start { address, inputs: given, actor, idempotency: None }).await
        }
        Some(stage) => {
            let run = last_run(world, repository.id, &place.daemon).await?;
            replay::start(world, replay::Request { run, from_stage: Some(stage.clone()), agent: None, actor })
                .await
        }
    };
    let started = started.map_err(|refusal| refused(&refusal))?;
    let (run, last_line) = follow(world, started.run, ui).await?;
    let report = Report::of(world, &run).await?;
    if let Some(path) = &args.report {
        report.write(path)?;
    }
    let exit = report.show(&last_line, ui)?;
    wired.proxy.shutdown().await;
    wired.gateway.shutdown().await;
    Ok(exit)
}

/// A daemon on this machine.
#[derive(Debug)]
struct Place {
    /// The whole spellbook: what the daemon works on.
    root: PathBuf,
    daemon: DaemonId,
    path: RepositoryPath,
}

impl Place {
    /// The spellbook is the nearest directory above that is a git repository or has `spellbook.yaml`;
    /// without one, the daemon's directory itself.
    fn of(directory: &Path) -> Result<Self, CommandError> {
        let missing = |error: std::io::Error| {
            CommandError::usage("daemon_missing", format!("{}: {error}", directory.display()))
                .help("give the directory of a daemon, or an address such as owner/repository/id")
        };
        let directory = directory.canonicalize().map_err(missing)?;
        let directory = if directory.is_file() {
            directory.parent().map(Path::to_owned).unwrap_or(directory)
        } else {
            directory
        };
        let is_root = |dir: &&Path| dir.join(".git").exists() || dir.join("spellbook.yaml").exists();
        let root = directory.ancestors().find(is_root).unwrap_or(&directory).to_owned();
        let repository = slug(&root);
        let daemon = if directory == root { repository.clone() } else { name(&directory) };
        let daemon = DaemonId::parse(daemon).map_err(|error| {
            CommandError::new(Exit::Invalid, "daemon_name_invalid", error.to_string())
                .help("a daemon is called like its directory; rename it")
        })?;
        let path = format!("local/{repository}").parse().map_err(anyhow::Error::from)?;
        Ok(Self { root, daemon, path })
    }
}

fn name(directory: &Path) -> String {
    directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A directory's name as a repository's.
fn slug(directory: &Path) -> String {
    let words: Vec<String> = name(directory)
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    if words.is_empty() { "spellbook".to_owned() } else { words.join("-").chars().take(64).collect() }
}

fn branch() -> Branch {
    BRANCH.parse().expect("because it is a branch's name")
}

async fn repository(world: &World, place: &Place) -> Result<Repository, CommandError> {
    if let Some(known) = world.store.repository_find(&place.path).await.map_err(anyhow::Error::from)? {
        return Ok(known);
    }
    let main = "main".parse().expect("because it is a branch's name");
    let created = engine::repositories::create(world, place.path.clone(), Origin::Hosted, main).await;
    created.map_err(|refusal| refused(&refusal))
}

/// Copies the person's files into the branch, as one commit on top of the last copy.
async fn copy(wired: &Wired, repository: &Repository, place: &Place) -> Result<(), CommandError> {
    let world = &wired.world;
    let source = &world.source;
    let heads = source.branches(repository.id).await.map_err(anyhow::Error::from)?;
    let before = heads.into_iter().find(|(name, _)| *name == branch()).map(|(_, commit)| commit);
    let now = world.clock.now();
    let parent = match &before {
        Some(commit) => commit.clone(),
        None => wired.git.begin(repository.id, &place.root, now).await.map_err(anyhow::Error::from)?,
    };
    let spec = SnapshotSpec {
        repository: repository.id,
        run: RunId::new(world.clock.unique()),
        directory: &place.root,
        parent: &parent,
        checkout: None,
        message: "The files of this machine\n",
        max_bytes: MOST_BYTES,
        at: now,
    };
    let copied = source.snapshot(spec).await.map_err(anyhow::Error::from)?;
    let moved = source.move_branch(repository.id, &branch(), before.as_ref(), Some(&copied.commit)).await;
    if let Moved::Stale { .. } = moved.map_err(anyhow::Error::from)? {
        return Err(CommandError::failed("busy", "another `spellbook run` of the same files is under way"));
    }
    let pushed = Pushed { branches: vec![branch()], actor: None, skip_runs: true };
    reconcile::repository(world, repository.id, &pushed).await.map_err(|refusal| refused(&refusal))?;
    Ok(())
}

async fn last_run(world: &World, repository: RepositoryId, daemon: &DaemonId) -> Result<RunId, CommandError> {
    let filter =
        RunFilter { repository: Some(repository), daemon: Some(daemon.clone()), ..RunFilter::default() };
    let runs = world.store.run_list(&filter, &Page::first(1)).await.map_err(anyhow::Error::from)?;
    let missing = || CommandError::failed("run_missing", format!("`{daemon}` has not run here yet"));
    runs.first().map(|run| run.id).ok_or_else(missing)
}

/// Works until the run has ended, and prints what it writes as it comes. Called daemons are runs too,
/// so that whatever is ready is worked on.
async fn follow(world: &World, run: RunId, ui: &Ui) -> Result<(Run, String), CommandError> {
    let worker = WorkerId::new(world.clock.unique());
    let stop = CancellationToken::new();
    let working = async {
        loop {
            match work::next(world, worker, &stop).await {
                Ok(WorkOutcome::Worked { .. }) => {}
                Ok(WorkOutcome::Idle { .. }) => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(error) => return anyhow::Error::from(error),
            }
        }
    };
    tokio::pin!(working);
    let mut wakeups = world.store.wakeups(ports::store::Topic::Runs);
    let mut printed = Printed::default();
    loop {
        tokio::select! {
            error = &mut working => return Err(error.into()),
            _ = wakeups.changed() => {}
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
            _ = tokio::signal::ctrl_c() => {
                intake::cancel(world, run, "you").await.map_err(|refusal| refused(&refusal))?;
            }
        }
        print_log(world, run, &mut printed, ui).await?;
        let state = world.store.run_get(run).await.map_err(anyhow::Error::from)?;
        if let Some(ended) = state.filter(|run| matches!(run.state, RunState::Ended { .. })) {
            print_log(world, run, &mut printed, ui).await?;
            return Ok((ended, printed.last));
        }
    }
}

/// How much of a log is on the screen.
#[derive(Debug, Default)]
struct Printed {
    number: u64,
    /// The last line that the daemon itself wrote.
    last: String,
}

async fn print_log(world: &World, run: RunId, printed: &mut Printed, ui: &Ui) -> Result<(), CommandError> {
    let lines = engine::logs::read(world, run, printed.number, 1_000).await;
    for line in lines.map_err(|refusal| refused(&refusal))? {
        printed.number = line.number;
        if !ui.is_json() {
            let stage = ui.paint(Tone::Dim, format!("{} |", line.line.stage));
            ui.line(format_args!("{stage} {}", ui.foreign_line(&line.line.text)))?;
        }
        if line.line.source != LineSource::Server {
            printed.last = line.line.text;
        }
    }
    Ok(())
}

/// What came of a run: the end, what it made, which files it would change, what it wants done.
#[derive(Debug)]
struct Report {
    run: RunId,
    status: RunStatus,
    message: Option<String>,
    output: Value,
    diff: Diff,
    effects: Vec<Effect>,
    execution: Json,
}

impl Report {
    async fn of(world: &World, run: &Run) -> Result<Self, CommandError> {
        let refused = |refusal: Refusal| refused(&refusal);
        Ok(Self {
            run: run.id,
            status: run.state.status(),
            message: message(run),
            output: engine::export::output(world, run).await.map_err(refused)?,
            diff: replay::run_diff(world, run.id).await.map_err(refused)?,
            effects: world.store.effect_list(run.id).await.map_err(anyhow::Error::from)?,
            execution: engine::export::execution(world, run.id).await.map_err(refused)?,
        })
    }

    fn to_json(&self) -> Json {
        let wants = self.effects.iter().map(
            |effect| json!({ "kind": effect.kind.as_str(), "effect": effect.kind, "status": effect.status }),
        );
        let files: Vec<_> = self.diff.files.iter().map(|change| change.path.as_str()).collect();
        json!({
            "run": self.run, "status": self.status.as_str(), "message": self.message, "output": self.output.json,
            "files": files, "patch": self.diff.patch, "effects": wants.collect::<Vec<_>>(),
            "execution": self.execution,
        })
    }

    /// Writes it to a file, for programs.
    fn write(&self, path: &Path) -> Result<(), CommandError> {
        std::fs::write(path, format!("{}\n", self.to_json())).map_err(|error| {
            let message = format!("the report cannot be written to {}", path.display());
            CommandError::failed("report_unwritable", message).because(error)
        })
    }

    /// Shows it to people, or to programs.
    fn show(&self, last_line: &str, ui: &Ui) -> Result<Exit, CommandError> {
        let Self { status, output, diff, .. } = self;
        if ui.is_json() {
            ui.document(&self.to_json())?;
            return Ok(exit(*status));
        }
        ui.line("")?;
        let message = self.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        ui.line(format_args!("{}{message}", ui.paint(Tone::of(status.as_str()), status)))?;
        let text = match &output.json {
            json @ (Json::Object(_) | Json::Array(_)) => {
                serde_json::to_string_pretty(json).unwrap_or_default()
            }
            _ => output.text(),
        };
        // What a program printed last is on the screen already.
        if !text.is_empty() && output.text().lines().last() != Some(last_line) {
            ui.line("")?;
            ui.foreign(&format!("{text}\n"))?;
        }
        if !diff.files.is_empty() {
            ui.line("")?;
            ui.foreign(&diff.patch)?;
        }
        for effect in &self.effects {
            show_effect(effect, ui)?;
        }
        Ok(exit(*status))
    }
}

fn show_effect(effect: &Effect, ui: &Ui) -> Result<(), CommandError> {
    let (tone, note) = match &effect.status {
        EffectStatus::Staged | EffectStatus::Pending { .. } => {
            (Tone::Odd, "would be done on a server".to_owned())
        }
        EffectStatus::Done { receipt } => (Tone::Dim, receipt.summary.clone()),
        EffectStatus::Refused { reason } => (Tone::Bad, format!("refused: {reason}")),
    };
    ui.line("")?;
    ui.line(format_args!("{} {}", ui.paint(Tone::Name, effect.kind.as_str()), ui.paint(tone, note)))?;
    for line in wish(&effect.kind).lines() {
        ui.line(format_args!("  {}", ui.foreign_line(line)))?;
    }
    Ok(())
}

/// What an effect would make, for the person who looks before it is made.
fn wish(kind: &EffectKind) -> String {
    match kind {
        EffectKind::CreatePullRequest { title, body, base, branch, .. } => {
            format!("{title}\n{branch} → {base}\n\n{body}")
        }
        EffectKind::AddComment { body, .. } | EffectKind::CloseIssue { body } => body.clone(),
        EffectKind::CreateCheck { name, summary, .. } => format!("{name}\n\n{summary}"),
        EffectKind::PushToPullRequestBranch { number, branch, .. } => format!("#{number}, {branch}"),
        EffectKind::CreateIssue { title, body, .. } | EffectKind::CreateRelease { name: title, body, .. } => {
            format!("{title}\n\n{body}")
        }
        EffectKind::UpdateIssue { number, title, body, state } => {
            let said = [title.as_deref(), body.as_deref(), state.map(IssueState::as_str)];
            format!("#{number}\n{}", said.into_iter().flatten().collect::<Vec<_>>().join("\n"))
        }
        EffectKind::AddLabels { number, labels: names }
        | EffectKind::RemoveLabels { number, labels: names }
        | EffectKind::AddReviewers { number, reviewers: names } => format!("#{number}: {}", names.join(", ")),
        EffectKind::SetStatus { context, state, description, .. } => {
            format!("{context}: {}\n{description}", state.as_str())
        }
        EffectKind::CallWebhook { url, body, .. } => format!("{url}\n{body}"),
        EffectKind::UploadArtifact { name, files, .. } => {
            let paths = files.iter().map(|file| file.path.as_str());
            format!("{name}\n{}", paths.collect::<Vec<_>>().join("\n"))
        }
        EffectKind::React { .. } | EffectKind::Noop { .. } => String::new(),
    }
}

fn message(run: &Run) -> Option<String> {
    match &run.state {
        RunState::Ended { outcome, .. } => outcome.message(),
        RunState::Queued { .. } | RunState::Running { .. } | RunState::Waiting => None,
    }
}

fn exit(status: RunStatus) -> Exit {
    match status {
        RunStatus::Succeeded | RunStatus::Skipped => Exit::Ok,
        _ => Exit::Failed,
    }
}

fn refused(refusal: &Refusal) -> CommandError {
    let exit = match refusal.code {
        "daemon_invalid" | "daemon_not_found" => Exit::Invalid,
        "inputs_invalid" => Exit::Usage,
        _ => Exit::Failed,
    };
    CommandError::new(exit, refusal.code, refusal.message.clone())
}

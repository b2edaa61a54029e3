//! `spellbook status`: how repositories, a daemon or a run fare.

use domain::id::RunId;
use domain::name::{Address, At};
use serde_json::{Value as Json, json};

use engine::report::size;

use super::list::short;
use super::run_remote::{effects, took};
use crate::cli::{Global, StatusArgs, Target};
use crate::client::answers::{DaemonDetail, Part, Repository, Run, RunDetail, Stage};
use crate::client::{Client, understood};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// How many of the last runs are shown.
const LAST_RUNS: &str = "10";

/// Shows how things stand. The exit code says whether that could be found out, not how it is.
pub(crate) async fn run(args: &StatusArgs, global: &Global, ui: &Ui) -> Result<Exit, CommandError> {
    let client = Client::connect(global)?;
    match &args.target {
        None => overview(&client, ui).await?,
        Some(Target::Daemon(address)) => daemon(&client, address, ui).await?,
        Some(Target::Run(run)) => one_run(&client, *run, ui).await?,
    }
    Ok(Exit::Ok)
}

async fn overview(client: &Client, ui: &Ui) -> Result<(), CommandError> {
    let repositories = client.list(&["repositories"], &[]).await?;
    let runs = client.get(&["runs"], &[("limit", LAST_RUNS)]).await?;
    if ui.is_json() {
        return ui.document(&json!({ "repositories": repositories, "runs": runs["items"] }));
    }
    let repositories: Vec<Repository> = repositories.into_iter().map(understood).collect::<Result<_, _>>()?;
    let rows = repositories.iter().map(|repository| {
        let sync = &repository.sync;
        [
            (Tone::Name, repository.path.clone()),
            (Tone::Plain, repository.default_branch.clone()),
            (Tone::of(&sync.status), sync.status.clone()),
            (Tone::Dim, sync.checked_at.clone().unwrap_or_else(|| "never".to_owned())),
            (Tone::Plain, sync.message.clone().unwrap_or_default()),
        ]
    });
    ui.table(["REPOSITORY", "BRANCH", "SYNC", "LOOKED AT", ""], rows)?;
    ui.line("")?;
    last_runs(runs, ui)
}

async fn daemon(client: &Client, address: &Address, ui: &Ui) -> Result<(), CommandError> {
    let detail = get_daemon(client, address).await?;
    let Address { repository, daemon, .. } = address;
    let (path, id) = (repository.to_string(), daemon.to_string());
    let branch = detail["daemon"]["revision"]["branch"].as_str().unwrap_or_default();
    let mut query = vec![("repository", path.as_str()), ("daemon", id.as_str()), ("limit", LAST_RUNS)];
    query.extend((!branch.is_empty()).then_some(("branch", branch)));
    let runs = client.get(&["runs"], &query).await?;
    if ui.is_json() {
        let mut whole = detail;
        whole["runs"] = runs["items"].clone();
        return ui.document(&whole);
    }
    let DaemonDetail { daemon, hook_url } = understood(detail)?;
    let revision = &daemon.revision;
    let toned = |word: &str| ui.paint(Tone::of(word), word);
    let title = revision.name.as_deref().unwrap_or(&revision.daemon);
    let version = revision.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    ui.line(format_args!("{}{}", ui.paint(Tone::Strong, title), ui.paint(Tone::Plain, version)))?;
    if let Some(description) = &revision.description {
        ui.line(ui.paint(Tone::Plain, description))?;
    }
    ui.line(format_args!("  daemon   {}", ui.paint(Tone::Name, &daemon.address)))?;
    let branch = format!("{} ({})", revision.branch, daemon.role);
    ui.line(format_args!(
        "  branch   {} at {}",
        ui.paint(Tone::Plain, branch),
        ui.paint(Tone::Dim, short(&revision.commit))
    ))?;
    if let Some(digest) = &revision.digest {
        ui.line(format_args!("  digest   {}", ui.paint(Tone::Dim, digest)))?;
    }
    ui.line(format_args!("  sync     {}", toned(&daemon.sync)))?;
    ui.line(format_args!("  health   {}", toned(&daemon.health)))?;
    if revision.state != "valid" {
        ui.line(format_args!("  manifest {}", toned(&revision.state)))?;
    }
    if let Some(url) = hook_url {
        ui.line(format_args!("  webhook  {}", ui.paint(Tone::Plain, url)))?;
    }
    if let Some(problems) = &revision.problems {
        ui.line("")?;
        ui.foreign(problems.trim_end())?;
        ui.line("")?;
    }
    ui.line("")?;
    last_runs(runs, ui)
}

async fn one_run(client: &Client, run: RunId, ui: &Ui) -> Result<(), CommandError> {
    let detail = client.get(&["runs", &run.to_string()], &[]).await?;
    if ui.is_json() {
        return ui.document(&detail);
    }
    let RunDetail { run, stages, effects: wanted } = understood(detail)?;
    let plain = |text: &str| ui.paint(Tone::Plain, text);
    ui.line(format_args!(
        "{} {}",
        ui.paint(Tone::Strong, &run.id),
        ui.paint(Tone::of(&run.status), &run.status)
    ))?;
    if let Some(message) = &run.message {
        ui.line(format_args!("  {}", plain(message)))?;
    }
    let address = format!("{}/{}@{}", run.repository, run.daemon, run.branch);
    ui.line(format_args!(
        "  daemon   {} at {}",
        ui.paint(Tone::Name, address),
        ui.paint(Tone::Dim, short(&run.commit))
    ))?;
    ui.line(format_args!("  cause    {} by {}", plain(&run.cause.kind), plain(&run.cause.actor)))?;
    if let Some(old) = &run.cause.replay_of {
        ui.line(format_args!("  replays  {}", plain(old)))?;
    }
    ui.line(format_args!("  queued   {}", plain(&run.created_at)))?;
    if let Some(started) = &run.started_at {
        let attempts = if run.attempt > 1 { format!(" (attempt {})", run.attempt) } else { String::new() };
        ui.line(format_args!("  started  {}{attempts}", plain(started)))?;
    }
    if let Some(ended) = &run.ended_at {
        let since = run.started_at.as_deref().unwrap_or(&run.created_at);
        ui.line(format_args!("  ended    {} ({})", plain(ended), took(since, ended)))?;
    }
    ui.line(format_args!("  cost     {}", plain(&run.cost.text)))?;
    if !stages.is_empty() {
        ui.line("")?;
        let rows = stages.iter().map(|stage| {
            [
                (Tone::Plain, stage.path.clone()),
                (Tone::of(&stage.status), stage.status.clone()),
                (Tone::Plain, took(&stage.started_at, &stage.ended_at)),
                (Tone::Plain, stage.cost.text.clone()),
                (Tone::Dim, stage.message.clone().unwrap_or_default()),
            ]
        });
        ui.table(["STAGE", "STATUS", "TOOK", "COST", ""], rows)?;
    }
    hosts(&stages, ui)?;
    effects(&wanted, ui)
}

/// The hosts that programs of the run asked for.
fn hosts(stages: &[Stage], ui: &Ui) -> Result<(), CommandError> {
    let asked = stages.iter().flat_map(|stage| stage.hosts.iter().map(move |host| (stage, host)));
    let rows: Vec<_> = asked
        .map(|(stage, host)| {
            [
                (Tone::Plain, format!("{}:{}", host.host, host.port)),
                (Tone::Plain, stage.path.clone()),
                (Tone::Plain, host.requests.to_string()),
                (Tone::Plain, size(host.sent)),
                (Tone::Plain, size(host.received)),
                (Tone::Bad, host.refused.clone().unwrap_or_default()),
            ]
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    ui.line("")?;
    ui.table(["HOST", "STAGE", "ASKED", "OUT", "IN", "REFUSED"], rows)
}

fn last_runs(runs: Json, ui: &Ui) -> Result<(), CommandError> {
    let runs: Part<Run> = understood(runs)?;
    if runs.items.is_empty() {
        return ui.line(ui.paint(Tone::Dim, "no runs yet"));
    }
    let rows = runs.items.iter().map(|run| {
        [
            (Tone::Plain, run.id.clone()),
            (Tone::Name, format!("{}/{}", run.repository, run.daemon)),
            (Tone::of(&run.status), run.status.clone()),
            (Tone::Plain, format!("{} by {}", run.cause.kind, run.cause.actor)),
            (Tone::Dim, run.created_at.clone()),
            (Tone::Plain, run.cost.text.clone()),
        ]
    });
    ui.table(["RUN", "DAEMON", "STATUS", "CAUSE", "QUEUED", "COST"], rows)
}

/// What the server knows of a daemon at a version.
pub(super) async fn get_daemon(client: &Client, address: &Address) -> Result<Json, CommandError> {
    let Address { repository, daemon, at } = address;
    let path =
        ["repositories", repository.owner.as_str(), repository.name.as_str(), "daemons", daemon.as_str()];
    match at {
        At::Deployed => client.get(&path, &[]).await,
        At::Named(name) => client.get(&path, &[("at", name.as_str())]).await,
        At::Commit(commit) => client.get(&path, &[("at", commit.as_str())]).await,
    }
}

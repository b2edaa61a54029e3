//! Runs: start, look, cancel, replay.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::access::Principal;
use domain::id::{EventId, RunId};
use domain::money::NanoUsd;
use domain::name::{Address, At, Branch, DaemonId, RepositoryPath};
use domain::repository::Repository;
use domain::run::{EffectMode, Run, RunState, RunStatus};
use engine::{intake, replay};
use ports::store::runs::{Cancellation, RunFilter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json_};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Onlooker, Runner, Starter, Viewer, actor};
use crate::doors::Server;
use crate::effects::EffectJson;
use crate::input::{self, Json, Path};
use crate::manifests;
use crate::page::{Listing, PageParams, Paged, Part};
use crate::problem::Problem;
use crate::stages::StageRecordJson;

/// Money.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Money)]
pub(crate) struct MoneyJson {
    /// Billionths of a dollar; exact.
    #[schema(example = 4_990_000_000_i64)]
    nano_usd: i64,
    /// Credits, a cent each, rounded up.
    #[schema(example = 499)]
    credits: i64,
    /// For people.
    #[schema(example = "$4.99")]
    text: String,
}

impl From<NanoUsd> for MoneyJson {
    fn from(amount: NanoUsd) -> Self {
        Self { nano_usd: amount.nanos(), credits: amount.credits().count(), text: amount.to_string() }
    }
}

/// One execution of a daemon.
#[derive(Serialize, ToSchema)]
#[schema(as = Run)]
pub(crate) struct RunJson {
    /// Which.
    #[schema(example = "run_0198000000007000800000000000002a")]
    id: String,
    /// `owner/name`.
    repository: String,
    /// Which daemon.
    daemon: String,
    /// From which branch.
    branch: String,
    /// At which commit.
    commit: String,
    /// The daemon's tree at that commit.
    digest: String,
    /// `queued`, `running`, `waiting`, `succeeded`, `failed`, `timed_out`, `cancelled` or `skipped`.
    status: &'static str,
    /// How it ended, in one sentence; null when all went well or it has not ended.
    message: Option<String>,
    /// Why it failed, for programs: `out_of_memory`, `exit_status`, …
    failure_code: Option<String>,
    /// The stage that failed.
    failed_stage: Option<String>,
    /// Why it exists.
    cause: CauseJson,
    /// `perform`, or `stage`: what it wants is shown until someone promotes it.
    effects: &'static str,
    /// How many times a worker took it up.
    attempt: u32,
    /// Whether someone asked to end it.
    cancel_requested: bool,
    /// What its models cost so far.
    cost: MoneyJson,
    /// When it was queued.
    #[schema(format = DateTime)]
    created_at: String,
    /// When a worker first took it up.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When it ended.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// Why a run exists.
#[derive(Serialize, ToSchema)]
#[schema(as = Cause)]
pub(crate) struct CauseJson {
    /// The event: `evt_…`.
    event: Option<String>,
    /// Its kind: `push`, `manual`, …
    kind: &'static str,
    /// Who made it happen.
    actor: String,
    /// Whether that is a program.
    bot: bool,
    /// The run whose stage called this daemon.
    parent: Option<String>,
    /// That stage.
    parent_stage: Option<String>,
    /// The run that this one takes up again.
    replay_of: Option<String>,
    /// The first stage that runs anew.
    replay_from: Option<String>,
}

impl RunJson {
    pub(crate) fn new(run: &Run, repository: &Repository) -> Self {
        let (outcome, ended_at) = match &run.state {
            RunState::Ended { outcome, at } => (Some(outcome), Some(at.to_string())),
            RunState::Queued { .. } | RunState::Running { .. } | RunState::Waiting => (None, None),
        };
        let failure = outcome.and_then(failure);
        Self {
            id: run.id.to_string(),
            repository: repository.path.to_string(),
            daemon: run.daemon.to_string(),
            branch: run.branch.to_string(),
            commit: run.commit.to_string(),
            digest: run.digest.to_string(),
            status: run.state.status().as_str(),
            message: outcome.and_then(domain::run::RunOutcome::message),
            failure_code: failure.map(|failure| failure.code.clone()),
            failed_stage: failure.and_then(|failure| failure.stage.clone()),
            cause: CauseJson::from(&run.cause),
            effects: match run.effects {
                EffectMode::Perform => "perform",
                EffectMode::Stage => "stage",
            },
            attempt: run.attempt,
            cancel_requested: run.cancel_requested.is_some(),
            cost: MoneyJson::from(run.cost),
            created_at: run.created_at.to_string(),
            started_at: run.started_at.map(|at| at.to_string()),
            ended_at,
        }
    }
}

impl From<&domain::run::Cause> for CauseJson {
    fn from(cause: &domain::run::Cause) -> Self {
        Self {
            event: cause.event.map(|event| event.to_string()),
            kind: cause.kind.as_str(),
            actor: cause.actor.name.clone(),
            bot: cause.actor.bot,
            parent: cause.parent.as_ref().map(|parent| parent.run.to_string()),
            parent_stage: cause.parent.as_ref().map(|parent| parent.stage.clone()),
            replay_of: cause.replay.as_ref().map(|replay| replay.of.to_string()),
            replay_from: cause.replay.as_ref().and_then(|replay| replay.from_stage.clone()),
        }
    }
}

fn failure(outcome: &domain::run::RunOutcome) -> Option<&domain::run::Failure> {
    use domain::run::RunOutcome;
    match outcome {
        RunOutcome::Failed { failure } | RunOutcome::TimedOut { failure } => Some(failure),
        RunOutcome::Succeeded | RunOutcome::Cancelled { .. } | RunOutcome::Skipped { .. } => None,
    }
}

/// A run that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRun {
    /// Which daemon: `owner/repository/id`, with `@branch`, `@tag` or `@commit` for another version.
    #[schema(example = "ada/book/review")]
    daemon: String,
    /// What it is given, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    inputs: Map<String, Json_>,
}

/// Starts a run. With the same `Idempotency-Key` twice, the second answer is the first one's run.
#[utoipa::path(
    post, operation_id = "start_run", path = "/api/v1/runs", tag = "runs", request_body = NewRun,
    params(("Idempotency-Key" = Option<String>, Header, description = "Up to 200 visible ASCII characters; the same key never starts a second run")),
    responses((status = 201, description = "It is queued", body = RunJson),
              (status = 200, description = "It was there already", body = RunJson),
              (status = 404, description = "There is no such daemon", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "The inputs do not fit", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn start(
    Starter(principal): Starter,
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    Json(wanted): Json<NewRun>,
) -> Result<Response, Problem> {
    let address: Address = input::required("daemon", &wanted.daemon)?;
    if principal.reach.as_ref().is_some_and(|reach| !reach.holds(&address.repository, &address.daemon)) {
        // Said before anything is looked up: what is out of reach may be there or not.
        let detail = format!("this token may not start `{}/{}`", address.repository, address.daemon);
        return Err(Problem::new(StatusCode::FORBIDDEN, "out_of_reach", detail));
    }
    let given = (address.clone(), wanted.inputs.clone());
    let started = intake::start(
        server.world(),
        intake::Start {
            address,
            inputs: wanted.inputs,
            actor: actor(&principal),
            idempotency: idempotency(&headers, &principal)?,
        },
    )
    .await?;
    if started.known {
        same_request(&server, started.run, &given.0, &given.1).await?;
    }
    answer(&server, &started).await
}

/// The caller's key, told apart from other callers' keys.
fn idempotency(headers: &HeaderMap, principal: &Principal) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all("idempotency-key").iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let text = key.to_str().unwrap_or_default();
    let plain = (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !plain || keys.next().is_some() {
        let detail = "`Idempotency-Key` must be given once, as 1 to 200 visible ASCII characters";
        return Err(Problem::bad_request("invalid_idempotency_key", detail));
    }
    Ok(Some(format!("{}:{text}", principal.account.id)))
}

/// Says no when a key comes back with another request.
async fn same_request(
    server: &Server,
    run: RunId,
    address: &Address,
    inputs: &Map<String, Json_>,
) -> Result<(), Problem> {
    let (run, _) = find(server, run).await?;
    let pinned = Address { at: At::Commit(run.commit.clone()), ..address.clone() };
    let resolved = engine::address::resolve(server.world(), &pinned).await?;
    let same = run.daemon == address.daemon
        && engine::inputs::accept(&resolved.manifest.inputs, inputs)
            .is_ok_and(|accepted| accepted == run.inputs);
    if same {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        format!("this `Idempotency-Key` was used for another request, which started {}", run.id),
    ))
}

/// A run that was started, or was there.
async fn answer(server: &Server, started: &intake::Started) -> Result<Response, Problem> {
    let (run, repository) = find(server, started.run).await?;
    let status = if started.known { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = (status, axum::Json(RunJson::new(&run, &repository))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/api/v1/runs/{}", run.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Which runs to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunsFilter {
    /// Of one repository: `owner/name`.
    repository: Option<String>,
    /// Of one daemon.
    daemon: Option<String>,
    /// From one branch.
    branch: Option<String>,
    /// In one status.
    status: Option<String>,
    /// Started by one event: `evt_…`.
    event: Option<String>,
}

/// Lists runs, newest first.
#[utoipa::path(
    get, operation_id = "list_runs", path = "/api/v1/runs", tag = "runs", params(RunsFilter, PageParams),
    responses((status = 200, description = "Runs", body = Part<RunJson>))
)]
pub(crate) async fn list(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    listing: Listing<RunsFilter>,
) -> Result<Paged<RunJson>, Problem> {
    let RunsFilter { repository, daemon, branch, status, event } = &listing.filter;
    let path: Option<RepositoryPath> = input::optional("repository", repository.as_deref())?;
    let repository = match path {
        Some(path) => Some(server.repository(path.owner.as_str(), path.name.as_str()).await?.id),
        None => None,
    };
    let filter = RunFilter {
        repository,
        daemon: input::optional::<DaemonId>("daemon", daemon.as_deref())?,
        branch: input::optional::<Branch>("branch", branch.as_deref())?,
        status: status.as_deref().map(run_status).transpose()?,
        event: input::optional::<EventId>("event", event.as_deref())?,
        thread: None,
    };
    let found = server.store().run_list(&filter, &listing.page(RunId::uuid)?).await?;
    let part = listing.part(found, |run| run.id.to_string());
    let repositories = server.repositories(part.items().iter().map(|run| run.repository)).await?;
    Ok(part
        .map(|run| repositories.get(&run.repository).map(|repository| RunJson::new(&run, repository)))
        .flatten())
}

fn run_status(word: &str) -> Result<RunStatus, Problem> {
    RunStatus::parse(word).ok_or_else(|| {
        let words: Vec<&str> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
        Problem::bad_request("invalid_parameter", format!("`status` must be one of {}", words.join(", ")))
    })
}

/// A run, and everything about it.
#[derive(Serialize, ToSchema)]
#[schema(as = RunDetail)]
pub(crate) struct RunDetailJson {
    /// The run.
    run: RunJson,
    /// What it was given; secret inputs are left out.
    #[schema(value_type = Object)]
    inputs: Map<String, Json_>,
    /// Its finished stages, in the order in which they ended.
    stages: Vec<StageRecordJson>,
    /// What it wants done.
    effects: Vec<EffectJson>,
    /// The runs that its stages called.
    children: Vec<String>,
}

/// Shows a run with its stages and effects.
#[utoipa::path(
    get, operation_id = "get_run", path = "/api/v1/runs/{run}", tag = "runs", params(("run" = String, Path, description = "`run_…`")),
    responses((status = 200, description = "The run", body = RunDetailJson),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    Onlooker(who): Onlooker,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<axum::Json<RunDetailJson>, Problem> {
    let (run, repository) = reach(&server, who.as_ref(), known(&run)?).await?;
    let journal = server.store().run_journal(run.id).await?;
    let effects = server.store().effect_list(run.id).await?;
    let children = server.store().run_children(run.id).await?;
    Ok(axum::Json(RunDetailJson {
        inputs: shown_inputs(&server, &run, &repository).await,
        stages: journal.iter().map(StageRecordJson::brief).collect(),
        effects: effects.iter().map(EffectJson::from).collect(),
        children: children.iter().map(|child| child.id.to_string()).collect(),
        run: RunJson::new(&run, &repository),
    }))
}

/// The inputs of a run without the secret ones. When the manifest cannot be read, nobody knows which
/// are secret, and none is shown.
async fn shown_inputs(server: &Server, run: &Run, repository: &Repository) -> Map<String, Json_> {
    let at = At::Commit(run.commit.clone());
    let address = Address { repository: repository.path.clone(), daemon: run.daemon.clone(), at };
    let Ok(resolved) = engine::address::resolve(server.world(), &address).await else {
        return Map::new();
    };
    let secret = manifests::secret_inputs(&resolved.manifest);
    let shown = run.inputs.iter().filter(|(name, _)| !secret.contains(&name.as_str()));
    shown.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Asks a run to end.
#[utoipa::path(
    post, operation_id = "cancel_run", path = "/api/v1/runs/{run}/cancel", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, description = "It has ended", body = RunJson),
              (status = 202, description = "Its worker was asked", body = RunJson),
              (status = 409, description = "It had ended before", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn cancel(
    Starter(principal): Starter,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<Response, Problem> {
    let id = known(&run)?;
    reach(&server, Some(&principal), id).await?;
    let status = match engine::intake::cancel(server.world(), id, &principal.account.name).await? {
        Cancellation::Cancelled => StatusCode::OK,
        Cancellation::Requested => StatusCode::ACCEPTED,
        Cancellation::Ended => return Err(Problem::conflict("run_ended", "the run has ended already")),
        Cancellation::Unknown => return Err(absent(id)),
    };
    let (run, repository) = find(&server, id).await?;
    Ok((status, axum::Json(RunJson::new(&run, &repository))).into_response())
}

/// How a run is to be taken up again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReplay {
    /// The first stage to run anew; without it, everything.
    from_stage: Option<String>,
    /// A model or agent to use in place of that stage's own.
    agent: Option<String>,
}

/// Starts a new run from a stage of this one.
#[utoipa::path(
    post, operation_id = "replay_run", path = "/api/v1/runs/{run}/replays", tag = "runs", request_body = NewReplay, params(("run" = String, Path)),
    responses((status = 201, description = "It is queued", body = RunJson))
)]
pub(crate) async fn replay(
    Runner(principal): Runner,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
    Json(wanted): Json<NewReplay>,
) -> Result<Response, Problem> {
    let request = replay::Request {
        run: known(&run)?,
        from_stage: wanted.from_stage,
        agent: wanted.agent,
        actor: actor(&principal),
    };
    answer(&server, &replay::start(server.world(), request).await?).await
}

/// The id in a path.
pub(crate) fn known(text: &str) -> Result<RunId, Problem> {
    input::known("run", text)
}

fn absent(id: RunId) -> Problem {
    Problem::not_found(format!("there is no run `{id}`"))
}

/// A run that the caller may see. Of a token that is confined, these are the runs within its reach which its own
/// account started.
pub(crate) async fn reach(
    server: &Server,
    who: Option<&Principal>,
    id: RunId,
) -> Result<(Run, Repository), Problem> {
    let (run, repository) = find(server, id).await?;
    let confined = who.and_then(|who| Some((who, who.reach.as_ref()?)));
    let within = confined.is_none_or(|(who, reach)| {
        reach.holds(&repository.path, &run.daemon) && run.cause.actor.name == who.account.name
    });
    if within { Ok((run, repository)) } else { Err(absent(id)) }
}

/// A run and its repository.
pub(crate) async fn find(server: &Server, id: RunId) -> Result<(Run, Repository), Problem> {
    let run = server.store().run_get(id).await?.ok_or_else(|| absent(id))?;
    let repository = server.store().repository_get(run.repository).await?;
    Ok((run, repository.ok_or_else(|| absent(id))?))
}

//! What stages made: the journal of a run, the difference that a stage made, the execution log.

use std::sync::Arc;

use axum::extract::State;
use domain::stage::{HostUsage, ModelUsage, StageRecord};
use domain::value::Taint;
use serde::Serialize;
use serde_json::Value as Json_;
use utoipa::ToSchema;

use crate::auth::{Onlooker, Viewer};
use crate::diff::DiffJson;
use crate::doors::Server;
use crate::input::Path;
use crate::page::Part;
use crate::problem::Problem;
use crate::rankings::RankingJson;
use crate::runs::{self, MoneyJson};

/// A finished stage.
#[derive(Serialize, ToSchema)]
#[schema(as = StageRecord)]
pub(crate) struct StageRecordJson {
    /// Which: its name, below a `foreach` with the index of the item.
    #[schema(example = "Each[3]/Label")]
    path: String,
    /// `succeeded`, `failed`, `timed_out`, `cancelled` or `skipped`.
    status: &'static str,
    /// Why it failed or was skipped.
    message: Option<String>,
    /// Why it failed, for programs.
    failure_code: Option<String>,
    /// Whether the run went on all the same.
    tolerated: bool,
    /// The name under which its output is known.
    output_name: Option<String>,
    /// What it made; only in the journal.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Json_>,
    /// `trusted`, or `external`: anybody could have written its output.
    taint: Option<&'static str>,
    /// The workspace after it.
    snapshot: Option<String>,
    /// Every call of a model.
    calls: Vec<CallJson>,
    /// How the models were chosen, one for each question that was decided otherwise than the one before.
    rankings: Vec<RankingJson>,
    /// What they cost together.
    cost: MoneyJson,
    /// Processor time, microseconds.
    cpu_micros: u64,
    /// The most memory at once, bytes.
    memory_peak: u64,
    /// The digest of the sandbox's policy.
    sandbox: Option<String>,
    /// Every host that its programs reached or asked for.
    hosts: Vec<HostJson>,
    /// When it began.
    #[schema(format = DateTime)]
    started_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    ended_at: String,
}

/// What passed between a stage's programs and one host.
#[derive(Serialize, ToSchema)]
#[schema(as = HostTraffic)]
pub(crate) struct HostJson {
    /// Its name.
    #[schema(example = "registry.example.com")]
    host: String,
    /// Its port.
    port: u16,
    /// Requests and tunnels, refused ones too.
    requests: u64,
    /// Bytes towards it.
    sent: u64,
    /// Bytes from it.
    received: u64,
    /// Why it was refused, the last time that it was.
    refused: Option<String>,
}

/// A call of a model.
#[derive(Serialize, ToSchema)]
#[schema(as = ModelCall)]
pub(crate) struct CallJson {
    /// The model that the manifest names.
    requested: String,
    /// The model that answered.
    served: String,
    /// Whose it is.
    provider: String,
    /// Tokens read afresh.
    input_tokens: u64,
    /// Tokens read from the provider's cache.
    cache_read_tokens: u64,
    /// Tokens written to the provider's cache.
    cache_write_tokens: u64,
    /// Tokens written.
    output_tokens: u64,
    /// Tokens written without being shown; part of `output_tokens`.
    reasoning_tokens: u64,
    /// What it cost.
    cost: MoneyJson,
    /// Whether that is reckoned rather than told by the provider.
    estimated: bool,
}

impl StageRecordJson {
    /// Without the output, which may be long.
    pub(crate) fn brief(record: &StageRecord) -> Self {
        Self { output: None, ..Self::whole(record) }
    }

    fn whole(record: &StageRecord) -> Self {
        use domain::stage::StageEnd;
        let failure = record.end.failure();
        let (message, tolerated) = match &record.end {
            StageEnd::Failed { failure, tolerated } | StageEnd::TimedOut { failure, tolerated } => {
                (Some(failure.message.clone()), *tolerated)
            }
            StageEnd::Skipped { reason } => (Some(reason.clone()), false),
            StageEnd::Succeeded | StageEnd::Cancelled => (None, false),
        };
        let output = record.output.as_ref();
        Self {
            path: record.path.to_string(),
            status: record.end.as_str(),
            message,
            failure_code: failure.map(|failure| failure.code.clone()),
            tolerated,
            output_name: output.and_then(|output| output.name.clone()),
            output: output.map(|output| output.value.json.clone()),
            taint: output.map(|output| match output.value.taint {
                Taint::Trusted => "trusted",
                Taint::External => "external",
            }),
            snapshot: record.snapshot.as_ref().map(ToString::to_string),
            calls: record.usage.calls.iter().map(CallJson::from).collect(),
            rankings: record.usage.rankings.iter().map(RankingJson::from).collect(),
            cost: MoneyJson::from(record.usage.cost()),
            cpu_micros: record.usage.cpu_micros,
            memory_peak: record.usage.memory_peak,
            sandbox: record.usage.sandbox.clone(),
            hosts: record.usage.hosts.iter().map(HostJson::from).collect(),
            started_at: record.started_at.to_string(),
            ended_at: record.ended_at.to_string(),
        }
    }
}

impl From<&HostUsage> for HostJson {
    fn from(traffic: &HostUsage) -> Self {
        let HostUsage { host, port, requests, sent, received, refused } = traffic.clone();
        Self { host, port, requests, sent, received, refused }
    }
}

impl From<&ModelUsage> for CallJson {
    fn from(call: &ModelUsage) -> Self {
        Self {
            requested: call.requested.clone(),
            served: call.served.clone(),
            provider: call.provider.clone(),
            input_tokens: call.tokens.input,
            cache_read_tokens: call.tokens.cache_read,
            cache_write_tokens: call.tokens.cache_write,
            output_tokens: call.tokens.output,
            reasoning_tokens: call.tokens.reasoning,
            cost: MoneyJson::from(call.cost),
            estimated: call.estimated,
        }
    }
}

/// Lists the finished stages of a run with what they made, in the order in which they ended.
#[utoipa::path(
    get, operation_id = "get_journal", path = "/api/v1/runs/{run}/journal", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, description = "The journal", body = Part<StageRecordJson>))
)]
pub(crate) async fn journal(
    Onlooker(who): Onlooker,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<axum::Json<Part<StageRecordJson>>, Problem> {
    let (run, _) = runs::reach(&server, who.as_ref(), runs::known(&run)?).await?;
    let records = server.store().run_journal(run.id).await?;
    Ok(Part::whole(records.iter().map(StageRecordJson::whole).collect()))
}

/// Shows what a stage changed in the workspace.
#[utoipa::path(
    get, operation_id = "diff_stage", path = "/api/v1/runs/{run}/stages/{stage}/diff", tag = "runs",
    params(("run" = String, Path), ("stage" = String, Path, description = "The stage's path, percent-encoded")),
    responses((status = 200, description = "What changed", body = DiffJson))
)]
pub(crate) async fn diff(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((run, stage)): Path<(String, String)>,
) -> Result<axum::Json<DiffJson>, Problem> {
    let (run, _) = runs::find(&server, runs::known(&run)?).await?;
    let diff = engine::replay::stage_diff(server.world(), run.id, &stage).await?;
    Ok(axum::Json(DiffJson::from(diff)))
}

/// Shows what a whole run changed in the workspace.
#[utoipa::path(
    get, operation_id = "diff_run", path = "/api/v1/runs/{run}/diff", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, description = "What changed", body = DiffJson))
)]
pub(crate) async fn run_diff(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<axum::Json<DiffJson>, Problem> {
    let (run, _) = runs::find(&server, runs::known(&run)?).await?;
    Ok(axum::Json(DiffJson::from(engine::replay::run_diff(server.world(), run.id).await?)))
}

/// The execution log: the whole run as one document.
#[utoipa::path(
    get, operation_id = "get_execution", path = "/api/v1/runs/{run}/execution", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, description = "The execution log", body = Object))
)]
pub(crate) async fn execution(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<axum::Json<Json_>, Problem> {
    let (run, _) = runs::find(&server, runs::known(&run)?).await?;
    Ok(axum::Json(engine::export::execution(server.world(), run.id).await?))
}

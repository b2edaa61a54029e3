//! What a daemon keeps from run to run: variables and sessions.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use domain::memo::{MemoAuthor, MemoKind};
use domain::value::Taint;
use engine::state::{self, Change, Owner, Shown};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json_;
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Maintainer, Viewer};
use crate::daemons::address;
use crate::doors::Server;
use crate::input::{self, Json, Path, Query};
use crate::page::Part;
use crate::problem::Problem;

/// Something that a daemon keeps from run to run, without what it says.
#[derive(Serialize, ToSchema)]
#[schema(as = StateEntry)]
pub(crate) struct EntryJson {
    /// `variable` or `session`.
    kind: &'static str,
    /// Its name; of a session its key.
    #[schema(example = "counter")]
    name: String,
    /// How many times it was written; 0 for a variable that was never set.
    version: u64,
    /// How long it is, bytes of JSON.
    size: usize,
    /// The run that wrote it, if a run did.
    run: Option<String>,
    /// The person who wrote it, if a person did.
    person: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    written_at: Option<String>,
}

impl From<Shown> for EntryJson {
    fn from(shown: Shown) -> Self {
        let Shown { kind, name, version, size, written } = shown;
        let (by, at) = written.map_or((None, None), |(by, at)| (Some(by), Some(at.to_string())));
        let (run, person) = match by {
            Some(MemoAuthor::Run(run)) => (Some(run.to_string()), None),
            Some(MemoAuthor::Person(name)) => (None, Some(name)),
            None => (None, None),
        };
        Self { kind: kind.as_str(), name, version, size, run, person, written_at: at }
    }
}

/// A variable and what it is.
#[derive(Serialize, ToSchema)]
#[schema(as = Variable)]
pub(crate) struct VariableJson {
    /// What is known of it.
    #[serde(flatten)]
    entry: EntryJson,
    /// What it is.
    #[schema(value_type = Object)]
    value: Json_,
    /// `trusted`, or `external`: anybody could have written it.
    taint: &'static str,
}

/// What a variable is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewValue {
    /// Any JSON, at most 256 KiB.
    #[schema(value_type = Object)]
    value: Json_,
    /// Which version the variable must have, 0 for one that was never set; without it, whichever.
    version: Option<u64>,
}

/// Whose state is meant.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct BranchQuery {
    /// A branch; without it, the default branch.
    at: Option<String>,
}

/// What is to be removed.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveQuery {
    /// A branch; without it, the default branch.
    at: Option<String>,
    /// `variable` or `session`; without it, a variable.
    kind: Option<String>,
}

/// A daemon, as the path names it.
type DaemonPath = Path<(String, String, String)>;
/// One of its variables.
type VariablePath = Path<(String, String, String, String)>;

async fn owner(server: &Server, daemon: [&str; 3], at: Option<&str>) -> Result<Owner, Problem> {
    let [owner, name, daemon] = daemon;
    Ok(state::owner(server.world(), &address(owner, name, daemon, at)?).await?)
}

/// Lists what a daemon keeps on a branch, without what it says: variables, then sessions.
#[utoipa::path(
    get, operation_id = "list_state", path = "/api/v1/repositories/{owner}/{name}/daemons/{daemon}/state", tag = "daemons",
    params(("owner" = String, Path), ("name" = String, Path), ("daemon" = String, Path), BranchQuery),
    responses((status = 200, description = "Variables and sessions", body = Part<EntryJson>),
              (status = 404, description = "There is no such daemon", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn list(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((repository, name, daemon)): DaemonPath,
    Query(query): Query<BranchQuery>,
) -> Result<axum::Json<Part<EntryJson>>, Problem> {
    let owner = owner(&server, [&repository, &name, &daemon], query.at.as_deref()).await?;
    let all = state::list(server.world(), &owner).await?;
    Ok(Part::whole(all.into_iter().map(EntryJson::from).collect()))
}

/// Shows a variable and what it is; for maintainers.
#[utoipa::path(
    get, operation_id = "get_variable", path = "/api/v1/repositories/{owner}/{name}/daemons/{daemon}/state/{variable}", tag = "daemons",
    params(("owner" = String, Path), ("name" = String, Path), ("daemon" = String, Path), ("variable" = String, Path), BranchQuery),
    responses((status = 200, description = "The variable", body = VariableJson),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    _maintainer: Maintainer,
    State(server): State<Arc<Server>>,
    Path((repository, name, daemon, variable)): VariablePath,
    Query(query): Query<BranchQuery>,
) -> Result<axum::Json<VariableJson>, Problem> {
    let owner = owner(&server, [&repository, &name, &daemon], query.at.as_deref()).await?;
    let (shown, value) = state::get(server.world(), &owner, &variable).await?;
    let taint = match value.taint {
        Taint::Trusted => "trusted",
        Taint::External => "external",
    };
    Ok(axum::Json(VariableJson { entry: shown.into(), value: value.json, taint }))
}

/// Sets a variable that the daemon declares; for maintainers.
#[utoipa::path(
    put, operation_id = "set_variable", path = "/api/v1/repositories/{owner}/{name}/daemons/{daemon}/state/{variable}", tag = "daemons",
    params(("owner" = String, Path), ("name" = String, Path), ("daemon" = String, Path), ("variable" = String, Path), BranchQuery),
    request_body = NewValue,
    responses((status = 200, description = "It is set", body = EntryJson),
              (status = 404, description = "The daemon declares no such variable", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "It has another version, or there is no room", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn set(
    Maintainer(principal): Maintainer,
    State(server): State<Arc<Server>>,
    Path((repository, name, daemon, variable)): VariablePath,
    Query(query): Query<BranchQuery>,
    Json(new): Json<NewValue>,
) -> Result<axum::Json<EntryJson>, Problem> {
    let owner = owner(&server, [&repository, &name, &daemon], query.at.as_deref()).await?;
    let NewValue { value, version } = new;
    let change = Change { name: variable, value, version, by: principal.account.name };
    Ok(axum::Json(state::set(server.world(), &owner, change).await?.into()))
}

/// Removes a variable, which is then what it was at first, or a session, which then begins anew; for
/// maintainers.
#[utoipa::path(
    delete, operation_id = "remove_state", path = "/api/v1/repositories/{owner}/{name}/daemons/{daemon}/state/{variable}", tag = "daemons",
    params(("owner" = String, Path), ("name" = String, Path), ("daemon" = String, Path), ("variable" = String, Path), RemoveQuery),
    responses((status = 204, description = "It is gone"),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn remove(
    _maintainer: Maintainer,
    State(server): State<Arc<Server>>,
    Path((repository, name, daemon, variable)): VariablePath,
    Query(query): Query<RemoveQuery>,
) -> Result<StatusCode, Problem> {
    let owner = owner(&server, [&repository, &name, &daemon], query.at.as_deref()).await?;
    let kind: Option<MemoKind> = input::optional("kind", query.kind.as_deref())?;
    state::remove(server.world(), &owner, kind.unwrap_or(MemoKind::Variable), &variable).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Artifacts: files that runs keep for people.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use domain::id::EffectId;
use engine::artifacts::{self, Artifact};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Onlooker;
use crate::doors::Server;
use crate::input::{self, Path, Query};
use crate::page::Part;
use crate::problem::Problem;
use crate::runs;

/// Files of a run's workspace that are kept.
#[derive(Serialize, ToSchema)]
#[schema(as = Artifact)]
pub(crate) struct ArtifactJson {
    /// Which: the effect that keeps them.
    id: String,
    /// What the daemon calls them.
    name: String,
    /// Which files.
    files: Vec<ArtifactFileJson>,
    /// Until when they are kept; as long as the run, when it is null.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// A file that is kept.
#[derive(Serialize, ToSchema)]
#[schema(as = ArtifactFile)]
pub(crate) struct ArtifactFileJson {
    /// Its path in the workspace.
    path: String,
    /// How long it is.
    bytes: u64,
}

impl From<Artifact> for ArtifactJson {
    fn from(artifact: Artifact) -> Self {
        let files = artifact.files.into_iter();
        Self {
            id: artifact.id.to_string(),
            name: artifact.name,
            files: files.map(|file| ArtifactFileJson { path: file.path, bytes: file.bytes }).collect(),
            until: artifact.until.map(|until| until.to_string()),
        }
    }
}

/// Which file to read.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileParams {
    /// Its path in the workspace.
    #[param(example = "report/index.html")]
    path: String,
}

/// Lists the files that a run keeps.
#[utoipa::path(
    get, operation_id = "list_artifacts", path = "/api/v1/runs/{run}/artifacts", tag = "runs", params(("run" = String, Path)),
    responses((status = 200, description = "Artifacts", body = Part<ArtifactJson>))
)]
pub(crate) async fn list(
    Onlooker(who): Onlooker,
    State(server): State<Arc<Server>>,
    Path(run): Path<String>,
) -> Result<axum::Json<Part<ArtifactJson>>, Problem> {
    let (run, _) = runs::reach(&server, who.as_ref(), runs::known(&run)?).await?;
    let found = artifacts::list(server.world(), run.id).await?;
    Ok(Part::whole(found.into_iter().map(ArtifactJson::from).collect()))
}

/// Reads a file that a run keeps.
#[utoipa::path(
    get, operation_id = "read_artifact", path = "/api/v1/runs/{run}/artifacts/{effect}", tag = "runs",
    params(("run" = String, Path), ("effect" = String, Path, description = "`eff_…`"), FileParams),
    responses((status = 200, description = "The file, as it was", body = Vec<u8>, content_type = "application/octet-stream"),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn read(
    Onlooker(who): Onlooker,
    State(server): State<Arc<Server>>,
    Path((run, effect)): Path<(String, String)>,
    Query(FileParams { path }): Query<FileParams>,
) -> Result<Response, Problem> {
    let (run, _) = runs::reach(&server, who.as_ref(), runs::known(&run)?).await?;
    let id: EffectId = input::known("artifact", &effect)?;
    let bytes = artifacts::read(server.world(), run.id, id, &path).await?;
    // Whatever a daemon wrote: it is saved, not shown, so that no page of it is one of this server's.
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, bytes).into_response())
}

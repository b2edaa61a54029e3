//! Checking daemon files without pushing them.

use std::sync::Arc;

use axum::extract::State;
use domain::files::{File, Files};
use manifest::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json_;
use utoipa::ToSchema;

use crate::auth::Onlooker;
use crate::doors::Server;
use crate::input::Json;
use crate::problem::Problem;

/// The most files in one request.
const MOST: usize = 1_000;

/// Files to check.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Validate {
    /// The files, as they would lie in a repository.
    files: Vec<FileText>,
}

/// A file.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileText {
    /// Relative to the repository's root.
    #[schema(example = "daemons/review/daemon.yaml")]
    path: String,
    /// What is in it.
    text: String,
}

/// What is wrong with the files.
#[derive(Serialize, ToSchema)]
pub(crate) struct Validated {
    /// Whether they could be deployed.
    valid: bool,
    /// Everything that is wrong: `code`, `severity`, `file`, `line`, `column`, `message`, `help`, …
    #[schema(value_type = Vec<Object>)]
    diagnostics: Vec<Json_>,
}

/// Checks daemon files: the same that a push is held to.
#[utoipa::path(
    post, operation_id = "validate_files", path = "/api/v1/validate", tag = "manifests", request_body = Validate,
    responses((status = 200, description = "What is wrong with them", body = Validated))
)]
pub(crate) async fn validate(
    _anybody: Onlooker,
    State(server): State<Arc<Server>>,
    Json(given): Json<Validate>,
) -> Result<axum::Json<Validated>, Problem> {
    if given.files.len() > MOST {
        return Err(Problem::bad_request(
            "too_many_files",
            format!("at most {MOST} files are checked at once"),
        ));
    }
    // Parsing may take a while: it is no business of the threads that answer others.
    let files: Files =
        given.files.into_iter().map(|file| (file.path, File::Regular(file.text.into_bytes()))).collect();
    let checked = tokio::task::spawn_blocking(move || engine::admission::check(server.world(), &files)).await;
    let diagnostics = checked.map_err(|error| Problem::internal(&error.to_string()))?;
    let valid = !diagnostics.iter().any(Diagnostic::is_error);
    let shown = diagnostics.iter().filter_map(|diagnostic| serde_json::to_value(diagnostic).ok());
    Ok(axum::Json(Validated { valid, diagnostics: shown.collect() }))
}

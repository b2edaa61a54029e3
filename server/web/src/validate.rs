//! Checking daemon files without pushing them.

use std::sync::Arc;

use axum::extract::State;
use domain::files::{File, Files};
use engine::World;
use manifest::discover::{Layout, Location, SPELLBOOKS};
use manifest::{DaemonSource, Diagnostic, Rules, Spellbook};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json_;
use utoipa::ToSchema;

use crate::auth::Viewer;
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
    _viewer: Viewer,
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
    let checked = tokio::task::spawn_blocking(move || check(server.world(), &given.files)).await;
    let diagnostics = checked.map_err(|error| Problem::internal(&error.to_string()))?;
    let valid = !diagnostics.iter().any(Diagnostic::is_error);
    let shown = diagnostics.iter().filter_map(|diagnostic| serde_json::to_value(diagnostic).ok());
    Ok(axum::Json(Validated { valid, diagnostics: shown.collect() }))
}

/// Everything that is wrong with the files of a repository.
fn check(world: &World, given: &[FileText]) -> Vec<Diagnostic> {
    let find = |path: &str| given.iter().find(|file| file.path == path);
    let own = SPELLBOOKS
        .iter()
        .find_map(|name| find(name))
        .map(|file| manifest::check_spellbook(&file.path, &regular(file)));
    let (spellbook, mut diagnostics) = own.map_or((None, Vec::new()), |own| (own.value, own.diagnostics));
    let layout = Layout::new("spellbook", spellbook.as_ref().unwrap_or(&Spellbook::default()));
    let discovered = layout.discover(given.iter().map(|file| file.path.as_str()));
    diagnostics.extend(discovered.diagnostics);
    let (models, runtimes) = (world.models.names(), world.sandbox.runtimes());
    let models: Vec<&str> = models.iter().map(String::as_str).collect();
    let runtimes: Vec<&str> = runtimes.iter().map(String::as_str).collect();
    let rules = Rules {
        ceiling: &world.settings.ceiling,
        models: &models,
        runtimes: &runtimes,
        spellbook: spellbook.as_ref(),
    };
    for Location { directory, id } in &discovered.daemons {
        let inside = given.iter().filter_map(|file| Some((below(directory, &file.path)?, regular(file))));
        let files: Files = inside.collect();
        let source = DaemonSource { id: id.as_str(), directory, files: &files };
        diagnostics.extend(manifest::check_daemon(source, &rules).diagnostics);
    }
    diagnostics
}

/// A path relative to a directory, if it lies below it.
fn below<'p>(directory: &str, path: &'p str) -> Option<&'p str> {
    if directory.is_empty() { Some(path) } else { path.strip_prefix(directory)?.strip_prefix('/') }
}

fn regular(file: &FileText) -> File {
    File::Regular(file.text.clone().into_bytes())
}

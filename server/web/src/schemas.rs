//! The published contracts: JSON Schemas of daemon files, and the API's own document.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::input::{self, Path};
use crate::problem::Problem;

/// Contracts change with the server's version only.
const CACHE: &str = "public, max-age=300";

/// The JSON Schema (draft 2020-12) of a kind of file, for editors.
#[utoipa::path(
    get, operation_id = "get_schema", path = "/schema/{file}", tag = "manifests", security(()),
    params(("file" = String, Path, description = "`daemon.v1.json`, `spellbook.v1.json`, `policy.v1.json` or `test.v1.json`")),
    responses((status = 200, description = "A JSON Schema", body = Object, content_type = "application/schema+json"),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn schema(Path(file): Path<String>) -> Result<Response, Problem> {
    let schema = match file.as_str() {
        "daemon.v1.json" => manifest::schema::daemon(),
        "spellbook.v1.json" => manifest::schema::spellbook(),
        "policy.v1.json" => manifest::schema::policy(),
        "test.v1.json" => manifest::schema::test(),
        other => return Err(Problem::not_found(format!("there is no schema `{}`", input::cut(other)))),
    };
    let text = manifest::schema::to_text(&schema);
    Ok(([(header::CONTENT_TYPE, "application/schema+json"), (header::CACHE_CONTROL, CACHE)], text)
        .into_response())
}

/// This document.
#[utoipa::path(
    get, operation_id = "get_openapi", path = "/api/v1/openapi.json", tag = "server", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
pub(crate) async fn openapi() -> Response {
    ([(header::CACHE_CONTROL, CACHE)], axum::Json(crate::openapi())).into_response()
}

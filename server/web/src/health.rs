//! Whether the server lives, whether it is ready, and its figures.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use domain::access::Role;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth;
use crate::doors::Server;
use crate::problem::Problem;

/// How the server fares.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthJson {
    /// `ok`.
    status: &'static str,
    /// The server's version.
    version: String,
}

/// Says that the process lives.
#[utoipa::path(get, operation_id = "get_health", path = "/healthz", tag = "server", security(()), responses((status = 200, description = "It lives", body = HealthJson)))]
pub(crate) async fn alive(State(server): State<Arc<Server>>) -> axum::Json<HealthJson> {
    axum::Json(HealthJson { status: "ok", version: server.settings().version.clone() })
}

/// Says whether requests can be served: the store answers, and the server is not about to stop.
#[utoipa::path(
    get, operation_id = "get_readiness", path = "/readyz", tag = "server", security(()),
    responses((status = 200, description = "They can", body = HealthJson),
              (status = 503, description = "Not now", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn ready(State(server): State<Arc<Server>>) -> Result<axum::Json<HealthJson>, Problem> {
    if server.doors.closing.is_cancelled() {
        return Err(Problem::unavailable("closing", "the server is about to stop"));
    }
    server.store().run_depth().await?;
    Ok(axum::Json(HealthJson { status: "ok", version: server.settings().version.clone() }))
}

/// The server's figures in Prometheus' text format.
#[utoipa::path(get, operation_id = "get_metrics", path = "/metrics", tag = "server", responses((status = 200, description = "Figures", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !server.settings().public_metrics {
        let principal = auth::principal(&headers, &server).await?.ok_or_else(auth::stranger)?;
        auth::require(principal, Role::Viewer)?;
    }
    let text = (server.doors.metrics)();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

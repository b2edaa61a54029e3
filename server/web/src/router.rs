//! All doors behind one router.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::doors::{Doors, Server};
use crate::problem::Problem;
use crate::{envelope, git, mcp, openapi};

/// The router of the whole server. Serve it with `into_make_service_with_connect_info::<SocketAddr>()`,
/// so that callers are told apart by their addresses.
pub fn router(doors: Doors) -> Router {
    assemble(Server::new(doors))
}

/// Layers that are added later are passed earlier.
pub(crate) fn assemble(server: Arc<Server>) -> Router {
    let pace = from_fn_with_state(Arc::clone(&server), envelope::pace);
    let hook_pace = from_fn_with_state(Arc::clone(&server), envelope::hook_pace);
    let patience = from_fn_with_state(Arc::clone(&server), envelope::patience);
    let git_patience = from_fn_with_state(Arc::clone(&server), envelope::git_patience);
    let guard = from_fn_with_state(Arc::clone(&server), envelope::guard);
    let identify = from_fn_with_state(Arc::clone(&server), envelope::identify);

    let (api, _) = openapi::api().split_for_parts();
    let (probes, _) = openapi::server().split_for_parts();
    let (hooks, _) = openapi::hooks().split_for_parts();
    let body_limit = DefaultBodyLimit::max(server.settings().api_body);
    let api =
        api.layer(body_limit).layer(CompressionLayer::new()).layer(patience.clone()).layer(pace.clone());
    // Git's answers are streams, mostly compressed already: they are passed on as they are.
    let git = Router::new().route("/git/{*path}", any(git::serve)).layer(git_patience).layer(pace.clone());
    // An answer begins, at the latest, when the run that was called has ended: no patience is long enough.
    let mcp = Router::new().route("/mcp", any(mcp::serve)).layer(pace);
    let hooks = hooks.layer(patience.clone()).layer(hook_pace);
    Router::new()
        .merge(api)
        .merge(git)
        .merge(mcp)
        .merge(hooks)
        .merge(probes.layer(patience))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(CatchPanicLayer::custom(envelope::panicked))
        .layer(guard)
        .layer(identify)
        .with_state(server)
}

async fn nothing_here() -> Problem {
    Problem::not_found("there is nothing at this address; see /api/v1/openapi.json for what there is")
}

async fn not_so() -> Problem {
    let detail = "this address does not answer to that method; the `Allow` header says to which it does";
    Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

//! Events, and why daemons did or did not answer to them.

use std::sync::Arc;

use axum::extract::State;
use domain::id::EventId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::Viewer;
use crate::doors::Server;
use crate::input::{self, Path};
use crate::page::Part;
use crate::problem::Problem;

/// A fact about a repository.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventJson {
    /// Which.
    id: String,
    /// `push`, `comment`, …
    kind: &'static str,
    /// The finer kind: `opened`, …
    action: Option<String>,
    /// On which branch.
    branch: Option<String>,
    /// At which commit.
    commit: Option<String>,
    /// Which files changed.
    paths: Vec<String>,
    /// Who did it.
    actor: String,
    /// What they may do there.
    actor_role: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    occurred_at: String,
}

/// Shows an event.
#[utoipa::path(
    get, operation_id = "get_event", path = "/api/v1/events/{event}", tag = "events", params(("event" = String, Path, description = "`evt_…`")),
    responses((status = 200, description = "The event", body = EventJson),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path(event): Path<String>,
) -> Result<axum::Json<EventJson>, Problem> {
    let event = find(&server, &event).await?;
    Ok(axum::Json(EventJson {
        id: event.id.to_string(),
        kind: event.kind.as_str(),
        action: event.action,
        branch: event.branch.map(|branch| branch.to_string()),
        commit: event.commit.map(|commit| commit.to_string()),
        paths: event.paths,
        actor: event.actor.name,
        actor_role: event.actor.role,
        occurred_at: event.occurred_at.to_string(),
    }))
}

/// Whether a daemon answered to an event, and why.
#[derive(Serialize, ToSchema)]
#[schema(as = Match)]
pub(crate) struct MatchJson {
    /// Which daemon.
    daemon: String,
    /// On which branch.
    branch: String,
    /// The run that it started; null when it did not.
    run: Option<String>,
    /// Why, or why not.
    reason: String,
}

/// Says which daemons answered to an event, which did not, and by which rule.
#[utoipa::path(
    get, operation_id = "list_matches", path = "/api/v1/events/{event}/matches", tag = "events", params(("event" = String, Path)),
    responses((status = 200, description = "The decisions", body = Part<MatchJson>))
)]
pub(crate) async fn matches(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path(event): Path<String>,
) -> Result<axum::Json<Part<MatchJson>>, Problem> {
    let event = find(&server, &event).await?;
    let matches = server.store().match_list(event.id).await?;
    let shown = matches.into_iter().map(|decision| MatchJson {
        daemon: decision.daemon.to_string(),
        branch: decision.branch.to_string(),
        run: decision.run.map(|run| run.to_string()),
        reason: decision.reason,
    });
    Ok(Part::whole(shown.collect()))
}

async fn find(server: &Server, text: &str) -> Result<domain::event::Event, Problem> {
    let id: EventId = input::known("event", text)?;
    server.store().event_get(id).await?.ok_or_else(|| Problem::not_found(format!("there is no event `{id}`")))
}

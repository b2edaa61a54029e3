//! Events, and why daemons did or did not answer to them.

use std::sync::Arc;

use axum::extract::State;
use domain::event::Event;
use domain::id::EventId;
use engine::why::{self, Thread};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Viewer;
use crate::doors::Server;
use crate::input::{self, Path};
use crate::page::{Listing, PageParams, Paged, Part};
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
    /// The number of the issue or pull request that it is about.
    thread: Option<u64>,
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

impl From<Event> for EventJson {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.to_string(),
            thread: event.thread(),
            kind: event.kind.as_str(),
            action: event.action,
            branch: event.branch.map(|branch| branch.to_string()),
            commit: event.commit.map(|commit| commit.to_string()),
            paths: event.paths,
            actor: event.actor.name,
            actor_role: event.actor.role,
            occurred_at: event.occurred_at.to_string(),
        }
    }
}

/// Which events to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventFilter {
    /// The issue or pull request: `owner/repository#7`, or the address of its page on the forge.
    #[param(required = true, example = "acme/app#7")]
    about: Option<String>,
}

/// Lists what the server heard of an issue or a pull request, newest first.
#[utoipa::path(
    get, operation_id = "list_events", path = "/api/v1/events", tag = "events", params(EventFilter, PageParams),
    responses((status = 200, description = "Events; none when the server never heard of it", body = Part<EventJson>),
              (status = 404, description = "There is no such repository", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn list(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    listing: Listing<EventFilter>,
) -> Result<Paged<EventJson>, Problem> {
    let thread = listing.filter.about.as_deref().and_then(Thread::parse).ok_or_else(|| {
        let detail = "`about` must be owner/repository#7, or the address of an issue or a pull request";
        Problem::bad_request("invalid_parameter", detail)
    })?;
    let repository = why::repository(server.world(), &thread).await?;
    let page = listing.page(EventId::uuid)?;
    let number = thread.number_in(server.world(), &repository);
    let found = server.store().event_list(repository.id, Some(number), &page).await?;
    Ok(listing.part(found, |event| event.id.to_string()).map(EventJson::from))
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
    Ok(axum::Json(EventJson::from(find(&server, &event).await?)))
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

async fn find(server: &Server, text: &str) -> Result<Event, Problem> {
    let id: EventId = input::known("event", text)?;
    server.store().event_get(id).await?.ok_or_else(|| Problem::not_found(format!("there is no event `{id}`")))
}

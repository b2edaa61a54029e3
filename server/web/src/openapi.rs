//! The table of doors, and the document (OpenAPI 3.1) that is made from it.

use std::sync::Arc;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, OpenApi};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::doors::Server;
use crate::{
    accounts, actions, artifacts, budgets, daemons, discussions, effects, estimates, events, forges, health,
    hooks, logs, proposals, repositories, revisions, runs, schemas, sign_in, spend, sse, stages, state,
    tokens, validate, verify,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Spellbook", description = "A GitOps server for AI daemons. See docs/api.md.", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    security(("token" = [])),
    modifiers(&Tokens),
    tags(
        (name = "people", description = "Signing in, tokens, accounts"),
        (name = "repositories", description = "Repositories and branches"),
        (name = "daemons", description = "Daemons and their revisions"),
        (name = "runs", description = "Runs, their stages, logs and effects"),
        (name = "money", description = "Budgets, the ledger of calls of models, what was spent"),
        (name = "events", description = "Events and why daemons answered to them"),
        (name = "discussions", description = "Proposals, comments, checks"),
        (name = "manifests", description = "Checking daemon files; their JSON Schemas"),
        (name = "webhooks", description = "Signed calls from outside"),
        (name = "server", description = "Health and figures"),
    )
)]
struct Document;

/// How callers say who they are.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("sb_…")
            .description(Some("An API token; see `POST /api/v1/sign-in`"))
            .build();
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The OpenAPI document of the server.
pub fn openapi() -> OpenApi {
    let mut document = Document::openapi();
    for routes in [api(), server(), hooks()] {
        document.merge(routes.into_openapi());
    }
    document
}

/// The API: bodies are JSON, answers are short or streams of events.
pub(crate) fn api() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::new()
        .routes(routes!(sign_in::sign_in))
        .routes(routes!(actions::sign_in))
        .routes(routes!(sign_in::me))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(accounts::list, accounts::create))
        .routes(routes!(accounts::invite))
        .routes(routes!(repositories::list, repositories::create))
        .routes(routes!(repositories::get))
        .routes(routes!(repositories::sync))
        .routes(routes!(repositories::branches))
        .routes(routes!(daemons::list))
        .routes(routes!(daemons::get))
        .routes(routes!(daemons::inputs))
        .routes(routes!(state::list))
        .routes(routes!(state::get, state::set, state::remove))
        .routes(routes!(revisions::history))
        .routes(routes!(revisions::get))
        .routes(routes!(revisions::compare))
        .routes(routes!(revisions::plan))
        .routes(routes!(runs::list, runs::start))
        .routes(routes!(runs::get))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::replay))
        .routes(routes!(stages::journal))
        .routes(routes!(stages::diff))
        .routes(routes!(stages::run_diff))
        .routes(routes!(stages::execution))
        .routes(routes!(logs::read))
        .routes(routes!(sse::events))
        .routes(routes!(effects::list))
        .routes(routes!(effects::promote))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::read))
        .routes(routes!(budgets::list, budgets::set))
        .routes(routes!(budgets::history))
        .routes(routes!(budgets::remove))
        .routes(routes!(estimates::estimate))
        .routes(routes!(spend::calls))
        .routes(routes!(spend::report))
        .routes(routes!(events::list))
        .routes(routes!(events::get))
        .routes(routes!(events::matches))
        .routes(routes!(hooks::deliveries::list))
        .routes(routes!(proposals::list, proposals::create))
        .routes(routes!(proposals::get))
        .routes(routes!(proposals::merge))
        .routes(routes!(proposals::close))
        .routes(routes!(discussions::comments))
        .routes(routes!(discussions::checks))
        .routes(routes!(verify::get))
        .routes(routes!(validate::validate))
        .routes(routes!(schemas::openapi))
        .routes(routes!(schemas::schema))
}

/// What whoever runs the server looks at.
pub(crate) fn server() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::new()
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
}

/// What others call.
pub(crate) fn hooks() -> OpenApiRouter<Arc<Server>> {
    OpenApiRouter::new()
        .routes(routes!(hooks::remote))
        .routes(routes!(hooks::daemon))
        .routes(routes!(forges::deliver))
}

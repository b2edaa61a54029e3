//! Revisions: daemons at commits, and what changed between two.

use std::sync::Arc;

use axum::extract::State;
use domain::id::RevisionId;
use domain::name::{Branch, DaemonId};
use domain::revision::{Revision, RevisionContent};
use engine::plan::{self, Change, DaemonPlan, Plan};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Viewer;
use crate::diff::{self, DiffJson};
use crate::doors::Server;
use crate::input::{self, Path, Query};
use crate::page::{Listing, PageParams, Paged, Part};
use crate::problem::Problem;

/// The id of a revision that was made up for showing it.
pub(crate) const UNRECORDED: RevisionId = RevisionId::new(uuid::Uuid::nil());

/// A daemon at a commit of a branch.
#[derive(Serialize, ToSchema)]
#[schema(as = Revision)]
pub(crate) struct RevisionJson {
    /// Which; null for a commit that the server recorded nothing of, as one that only a tag leads to.
    id: Option<String>,
    /// Which daemon.
    daemon: String,
    /// On which branch.
    branch: String,
    /// At which commit.
    commit: String,
    /// `valid`, `invalid` or `removed`.
    state: &'static str,
    /// The tree id of its directory: same digest, same behaviour.
    digest: Option<String>,
    /// Where its directory is.
    directory: Option<String>,
    /// The title that its author gave it.
    name: Option<String>,
    /// The author's label for the version.
    version: Option<String>,
    /// One sentence.
    description: Option<String>,
    /// What is wrong with it, code frames and all.
    problems: Option<String>,
    /// When the server recorded it.
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<&Revision> for RevisionJson {
    fn from(revision: &Revision) -> Self {
        let bare = Self {
            id: (revision.id != UNRECORDED).then(|| revision.id.to_string()),
            daemon: revision.daemon.to_string(),
            branch: revision.branch.to_string(),
            commit: revision.commit.to_string(),
            state: "removed",
            digest: revision.content.digest().map(ToString::to_string),
            directory: None,
            name: None,
            version: None,
            description: None,
            problems: None,
            created_at: revision.created_at.to_string(),
        };
        match revision.content.clone() {
            RevisionContent::Valid { directory, summary, .. } => Self {
                state: "valid",
                directory: Some(directory),
                name: Some(summary.name),
                version: summary.version,
                description: summary.description,
                ..bare
            },
            RevisionContent::Invalid { directory, problems, .. } => {
                Self { state: "invalid", directory: Some(directory), problems: Some(problems), ..bare }
            }
            RevisionContent::Removed => bare,
        }
    }
}

/// Which revisions to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryFilter {
    /// Of one branch only.
    branch: Option<String>,
}

/// Lists the revisions of a daemon, newest first.
#[utoipa::path(
    get, operation_id = "list_revisions", path = "/api/v1/repositories/{owner}/{name}/daemons/{daemon}/revisions", tag = "daemons",
    params(("owner" = String, Path), ("name" = String, Path), ("daemon" = String, Path), HistoryFilter, PageParams),
    responses((status = 200, description = "Revisions", body = Part<RevisionJson>))
)]
pub(crate) async fn history(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name, daemon)): Path<(String, String, String)>,
    listing: Listing<HistoryFilter>,
) -> Result<Paged<RevisionJson>, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let daemon: DaemonId = input::known("daemon", &daemon)?;
    let branch: Option<Branch> = input::optional("branch", listing.filter.branch.as_deref())?;
    let page = listing.page(RevisionId::uuid)?;
    let found = server.store().revision_history(repository.id, &daemon, branch.as_ref(), &page).await?;
    Ok(listing.part(found, |revision| revision.id.to_string()).map(|revision| RevisionJson::from(&revision)))
}

/// Shows a revision.
#[utoipa::path(
    get, operation_id = "get_revision", path = "/api/v1/revisions/{revision}", tag = "daemons", params(("revision" = String, Path, description = "`rev_…`")),
    responses((status = 200, description = "The revision", body = RevisionJson),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path(revision): Path<String>,
) -> Result<axum::Json<RevisionJson>, Problem> {
    Ok(axum::Json(RevisionJson::from(&find(&server, &revision).await?)))
}

/// Which revision to compare with.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DiffQuery {
    /// The older revision of the same repository: `rev_…`.
    from: String,
}

/// Shows what changed in a daemon's directory from one revision to another.
#[utoipa::path(
    get, operation_id = "diff_revisions", path = "/api/v1/revisions/{revision}/diff", tag = "daemons",
    params(("revision" = String, Path, description = "The newer one: `rev_…`"), DiffQuery),
    responses((status = 200, description = "What changed", body = DiffJson))
)]
pub(crate) async fn compare(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path(revision): Path<String>,
    Query(query): Query<DiffQuery>,
) -> Result<axum::Json<DiffJson>, Problem> {
    let (from, to) = pair(&server, &query.from, &revision).await?;
    let diff = server.world().source.diff(to.repository, &from.commit, &to.commit, diff::LONGEST).await?;
    let directories = [directory(&from), directory(&to)];
    Ok(axum::Json(DiffJson::within(diff, &directories)))
}

/// What a daemon may do more or less, when it runs and what it does, from one version to another.
#[derive(Serialize, ToSchema)]
#[schema(as = DaemonPlan)]
pub(crate) struct PlanJson {
    /// Which daemon.
    daemon: String,
    /// What becomes of it: `new`, `changed`, `mended`, `invalid`, `removed` or `unchanged`.
    fate: &'static str,
    /// Whether it may do more than before.
    wider: bool,
    /// The differences, the weightiest first.
    changes: Vec<PlannedChangeJson>,
    /// The same for people; empty when there is nothing to say.
    text: String,
}

/// One difference.
#[derive(Serialize, ToSchema)]
#[schema(as = PlannedChange)]
struct PlannedChangeJson {
    /// What it is about: `network`, `secrets`, …
    heading: &'static str,
    /// `wider` where the daemon may do more by it, `narrower` where it may do less; null where neither.
    bearing: Option<&'static str>,
    /// A sentence, with values in backticks.
    text: String,
}

impl PlanJson {
    fn new(daemon: &DaemonId, plan: Option<DaemonPlan>) -> Self {
        let Some(plan) = plan else {
            let daemon = daemon.to_string();
            return Self {
                daemon,
                fate: "unchanged",
                wider: false,
                changes: Vec::new(),
                text: String::new(),
            };
        };
        let change = |change: &Change| PlannedChangeJson {
            heading: change.heading.as_str(),
            bearing: change.bearing.as_str(),
            text: change.text.clone(),
        };
        Self {
            daemon: daemon.to_string(),
            fate: plan.fate.as_str(),
            wider: plan.is_wider(),
            changes: plan.changes.iter().map(change).collect(),
            text: plan::text(&Plan { daemons: vec![plan], ..Plan::default() }),
        }
    }
}

/// Says what a daemon may do more or less from one revision to another, and what it is expected to cost.
#[utoipa::path(
    get, operation_id = "plan_revisions", path = "/api/v1/revisions/{revision}/plan", tag = "daemons",
    params(("revision" = String, Path, description = "The newer one: `rev_…`"), DiffQuery),
    responses((status = 200, description = "What differs in meaning", body = PlanJson))
)]
pub(crate) async fn plan(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path(revision): Path<String>,
    Query(query): Query<DiffQuery>,
) -> Result<axum::Json<PlanJson>, Problem> {
    let (from, to) = pair(&server, &query.from, &revision).await?;
    let Some(repository) = server.store().repository_get(to.repository).await? else {
        return Err(Problem::not_found("the repository is gone"));
    };
    let plan = plan::of_daemon(server.world(), &repository, &to.daemon, &from.commit, &to.commit).await?;
    Ok(axum::Json(PlanJson::new(&to.daemon, plan)))
}

/// Two revisions of one repository.
async fn pair(server: &Server, from: &str, to: &str) -> Result<(Revision, Revision), Problem> {
    let to = find(server, to).await?;
    let from = find(server, from).await?;
    if from.repository != to.repository {
        return Err(Problem::bad_request(
            "other_repository",
            "the two revisions are of different repositories",
        ));
    }
    Ok((from, to))
}

async fn find(server: &Server, text: &str) -> Result<Revision, Problem> {
    let id: RevisionId = input::known("revision", text)?;
    let found = server.store().revision_get(id).await?;
    found.ok_or_else(|| Problem::not_found(format!("there is no revision `{id}`")))
}

fn directory(revision: &Revision) -> Option<&str> {
    match &revision.content {
        RevisionContent::Valid { directory, .. } | RevisionContent::Invalid { directory, .. } => {
            Some(directory)
        }
        RevisionContent::Removed => None,
    }
}

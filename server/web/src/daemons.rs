//! Daemons: how they fare, and what they are.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use domain::id::{RepositoryId, RevisionId};
use domain::name::{Address, Branch, DaemonId, RepositoryPath};
use domain::repository::{BranchRole, Repository};
use domain::revision::{DaemonSummary, Health, Pause, Revision, RevisionContent};
use domain::run::RunStatus;
use engine::address::Resolved;
use ports::store::Page;
use ports::store::repositories::{DaemonFilter, DaemonRow};
use ports::store::runs::RunFilter;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Viewer;
use crate::doors::Server;
use crate::input::{self, Path, Query};
use crate::manifests::{self, ManifestJson};
use crate::page::{Listing, PageParams, Paged, Part};
use crate::problem::Problem;
use crate::repositories::role_word;
use crate::revisions::{RevisionJson, UNRECORDED};

/// A daemon on a branch.
#[derive(Serialize, ToSchema)]
#[schema(as = Daemon)]
pub(crate) struct DaemonJson {
    /// `owner/repository/id`, with `@branch` unless it is the default branch.
    #[schema(example = "ada/book/review")]
    address: String,
    /// `owner/name`.
    repository: String,
    /// What the branch is to the server: `deploy`, `fork` or `ignored`.
    role: &'static str,
    /// `Synced`, `OutOfSync`, `Invalid` or `Unreachable`: of the repository.
    sync: String,
    /// `Healthy`, `Degraded`, `Suspended` or `Missing`.
    health: String,
    /// The status of its last run that has ended.
    last_run: Option<&'static str>,
    /// Its newest revision on the branch.
    revision: RevisionJson,
}

impl DaemonJson {
    fn new(repository: &Repository, row: &DaemonRow) -> Self {
        let Revision { daemon, branch, content, .. } = &row.revision;
        let at = if *branch == repository.default_branch { String::new() } else { format!("@{branch}") };
        Self {
            address: format!("{}/{daemon}{at}", row.path),
            repository: row.path.to_string(),
            role: role_word(row.role),
            sync: repository.sync.status.to_string(),
            health: Health::of(content, row.role, row.last_run, row.pause.as_ref()).to_string(),
            last_run: row.last_run.map(RunStatus::as_str),
            revision: RevisionJson::from(&row.revision),
        }
    }
}

/// Which daemons to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct DaemonsFilter {
    /// Of one repository only: `owner/name`.
    repository: Option<String>,
    /// On one branch only; without it, on deploy branches.
    branch: Option<String>,
}

/// Lists daemons with sync and health, by repository and name.
#[utoipa::path(
    get, operation_id = "list_daemons", path = "/api/v1/daemons", tag = "daemons", params(DaemonsFilter, PageParams),
    responses((status = 200, description = "Daemons", body = Part<DaemonJson>))
)]
pub(crate) async fn list(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    listing: Listing<DaemonsFilter>,
) -> Result<Paged<DaemonJson>, Problem> {
    let path: Option<RepositoryPath> = input::optional("repository", listing.filter.repository.as_deref())?;
    let repository = match path {
        Some(path) => Some(server.repository(path.owner.as_str(), path.name.as_str()).await?.id),
        None => None,
    };
    let branch: Option<Branch> = input::optional("branch", listing.filter.branch.as_deref())?;
    let page = listing.page(RevisionId::uuid)?;
    let rows = server.store().daemon_list(&DaemonFilter { repository, branch }, &page).await?;
    let part = listing.part(rows, |row| row.revision.id.to_string());
    let repositories = server.repositories(part.items().iter().map(|row| row.revision.repository)).await?;
    let mut broken = None;
    let part = part.map(|row| {
        let repository = repositories.get(&row.revision.repository);
        broken = broken.or(repository.is_none().then_some(row.revision.repository));
        repository.map(|repository| DaemonJson::new(repository, &row))
    });
    match broken {
        Some(id) => Err(Problem::internal(&format!("a daemon's repository {id} is not in the store"))),
        None => Ok(part.flatten()),
    }
}

impl Server {
    /// Several repositories, each looked up once.
    pub(crate) async fn repositories(
        &self,
        ids: impl Iterator<Item = RepositoryId>,
    ) -> Result<HashMap<RepositoryId, Repository>, Problem> {
        let mut found = HashMap::new();
        for id in ids {
            if !found.contains_key(&id)
                && let Some(repository) = self.store().repository_get(id).await?
            {
                found.insert(id, repository);
            }
        }
        Ok(found)
    }
}

/// Which version of a daemon is meant.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AtQuery {
    /// A branch, a tag or a commit; without it, what is deployed.
    at: Option<String>,
}

/// A daemon, and what it is.
#[derive(Serialize, ToSchema)]
#[schema(as = DaemonDetail)]
pub(crate) struct DaemonDetailJson {
    /// How it fares.
    daemon: DaemonJson,
    /// What it is; null when its manifest is invalid or it is gone.
    manifest: Option<ManifestJson>,
    /// Where its own webhook is, when it has one.
    hook_url: Option<String>,
}

/// Shows a daemon: how it fares, and what its manifest says.
#[utoipa::path(
    get, operation_id = "get_daemon", path = "/api/v1/repositories/{owner}/{name}/daemons/{daemon}", tag = "daemons",
    params(("owner" = String, Path), ("name" = String, Path), ("daemon" = String, Path), AtQuery),
    responses((status = 200, description = "The daemon", body = DaemonDetailJson),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name, daemon)): Path<(String, String, String)>,
    Query(query): Query<AtQuery>,
) -> Result<axum::Json<DaemonDetailJson>, Problem> {
    let address = address(&owner, &name, &daemon, query.at.as_deref())?;
    let repository = server.repository(&owner, &name).await?;
    let (row, resolved) = match engine::address::resolve(server.world(), &address).await {
        Ok(resolved) => (row(&server, &address.daemon, &resolved).await?, Some(resolved)),
        // An invalid or removed daemon is still shown, with what is wrong.
        Err(refusal) if query.at.is_none() => match deployed(&server, &repository, &address.daemon).await? {
            Some(row) => (row, None),
            None => return Err(refusal.into()),
        },
        Err(refusal) => return Err(refusal.into()),
    };
    let manifest = resolved.as_ref().map(|resolved| ManifestJson::from(&*resolved.manifest));
    let hooked =
        resolved.as_ref().is_some_and(|resolved| manifests::has_webhook(&resolved.manifest.triggers));
    let hook = format!("{}/hooks/daemons/{}/{}", server.settings().base_url, repository.path, address.daemon);
    Ok(axum::Json(DaemonDetailJson {
        daemon: DaemonJson::new(&repository, &row),
        manifest,
        hook_url: hooked.then_some(hook),
    }))
}

/// The JSON Schema (draft 2020-12) of what a run of a daemon may be given.
#[utoipa::path(
    get, operation_id = "get_daemon_inputs", path = "/api/v1/repositories/{owner}/{name}/daemons/{daemon}/inputs", tag = "daemons",
    params(("owner" = String, Path), ("name" = String, Path), ("daemon" = String, Path), AtQuery),
    responses((status = 200, description = "A JSON Schema", body = Object, content_type = "application/schema+json"))
)]
pub(crate) async fn inputs(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name, daemon)): Path<(String, String, String)>,
    Query(query): Query<AtQuery>,
) -> Result<([(axum::http::HeaderName, &'static str); 1], String), Problem> {
    let address = address(&owner, &name, &daemon, query.at.as_deref())?;
    let resolved = engine::address::resolve(server.world(), &address).await?;
    let schema = manifests::inputs_schema(&resolved.manifest);
    Ok(([(axum::http::header::CONTENT_TYPE, "application/schema+json")], schema.to_string()))
}

/// The address that a path and `?at=` make.
pub(crate) fn address(owner: &str, name: &str, daemon: &str, at: Option<&str>) -> Result<Address, Problem> {
    let bare: Address = input::known("daemon", &format!("{owner}/{name}/{daemon}"))?;
    match at {
        None => Ok(bare),
        Some(at) => input::required("at", &format!("{bare}@{at}")),
    }
}

/// The row of a daemon that was resolved.
async fn row(server: &Server, daemon: &DaemonId, resolved: &Resolved) -> Result<DaemonRow, Problem> {
    let Resolved { repository, branch, commit, .. } = resolved;
    let current = server.store().revision_current(repository.id, daemon, branch).await?;
    let revision = match current.filter(|revision| revision.content.digest() == Some(&resolved.digest)) {
        Some(revision) => Some(revision),
        None => server.store().revision_at(repository.id, daemon, commit).await?,
    };
    // A commit that changed nothing of the daemon has no revision of its own: an older one tells.
    let revision = match revision {
        Some(revision) => Some(revision),
        None => by_digest(server, daemon, resolved).await?,
    };
    let revision = revision.unwrap_or_else(|| unrecorded(server, daemon, resolved));
    finish_row(server, repository, revision, resolved.role).await
}

/// The newest revision with the digest that was resolved.
async fn by_digest(
    server: &Server,
    daemon: &DaemonId,
    resolved: &Resolved,
) -> Result<Option<Revision>, Problem> {
    let history =
        server.store().revision_history(resolved.repository.id, daemon, None, &Page::first(200)).await?;
    Ok(history.into_iter().find(|revision| revision.content.digest() == Some(&resolved.digest)))
}

/// What a revision of a commit would be that is on no branch the server looks at.
fn unrecorded(server: &Server, daemon: &DaemonId, resolved: &Resolved) -> Revision {
    let manifest = &resolved.manifest;
    Revision {
        id: UNRECORDED,
        repository: resolved.repository.id,
        daemon: daemon.clone(),
        branch: resolved.branch.clone(),
        commit: resolved.commit.clone(),
        content: RevisionContent::Valid {
            digest: resolved.digest.clone(),
            directory: resolved.directory.clone(),
            summary: DaemonSummary {
                name: manifest.name.clone(),
                version: manifest.version.clone(),
                description: manifest.description.clone(),
            },
            triggers: manifest.triggers.clone(),
        },
        created_at: server.now(),
    }
}

/// The row of a daemon on its repository's default branch, whatever its state.
async fn deployed(
    server: &Server,
    repository: &Repository,
    daemon: &DaemonId,
) -> Result<Option<DaemonRow>, Problem> {
    let branch = &repository.default_branch;
    let Some(revision) = server.store().revision_current(repository.id, daemon, branch).await? else {
        return Ok(None);
    };
    let heads = server.store().branch_list(repository.id).await?;
    let role = heads.iter().find(|head| head.branch == *branch).map_or(BranchRole::Deploy, |head| head.role);
    finish_row(server, repository, revision, role).await.map(Some)
}

async fn finish_row(
    server: &Server,
    repository: &Repository,
    revision: Revision,
    role: BranchRole,
) -> Result<DaemonRow, Problem> {
    let filter = RunFilter {
        repository: Some(repository.id),
        daemon: Some(revision.daemon.clone()),
        branch: Some(revision.branch.clone()),
        ..RunFilter::default()
    };
    let runs = server.store().run_list(&filter, &Page::first(20)).await?;
    let last_run = runs.iter().map(|run| run.state.status()).find(|status| status.is_final());
    let pauses = server.store().pause_list(repository.id).await?;
    let here = |pause: &Pause| pause.daemon == revision.daemon && pause.branch == revision.branch;
    let pause = pauses.into_iter().find(here);
    Ok(DaemonRow { path: repository.path.clone(), revision, role, last_run, pause })
}

//! Repositories, and their branches.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::name::{Branch, RepositoryPath, SecretName};
use domain::repository::{BranchHead, BranchRole, Origin, Repository};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::{Maintainer, Viewer};
use crate::doors::Server;
use crate::input::{self, Json, Path};
use crate::page::{Listing, NoFilter, PageParams, Paged, Part};
use crate::problem::Problem;
use crate::remote_url;

/// A repository.
#[derive(Serialize, ToSchema)]
#[schema(as = Repository)]
pub(crate) struct RepositoryJson {
    /// Which.
    id: String,
    /// `owner/name`.
    #[schema(example = "ada/book")]
    path: String,
    /// Where its commits come from.
    origin: OriginJson,
    /// Where to clone it from, when it is hosted here.
    clone_url: Option<String>,
    /// Where its webhook calls, when it is watched.
    hook_url: Option<String>,
    /// The branch that `HEAD` names.
    default_branch: String,
    /// How the server's picture stands to git's.
    sync: SyncJson,
    /// Since when the server knows it.
    #[schema(format = DateTime)]
    created_at: String,
}

/// Where a repository's commits come from.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Origin)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub(crate) enum OriginJson {
    /// People push here.
    Hosted {},
    /// The server fetches from elsewhere.
    Watched {
        /// Where from: `https://…`, without a credential.
        url: String,
        /// The name of the secret that opens it.
        #[serde(default)]
        credential: Option<String>,
    },
}

/// How the server's picture stands to git's.
#[derive(Serialize, ToSchema)]
#[schema(as = Sync)]
pub(crate) struct SyncJson {
    /// `Synced`, `OutOfSync`, `Invalid` or `Unreachable`.
    status: String,
    /// Why it is not `Synced`.
    message: Option<String>,
    /// When the server last looked.
    #[schema(format = DateTime)]
    checked_at: Option<String>,
    /// When it looks next.
    #[schema(format = DateTime)]
    due_at: Option<String>,
    /// How many times in a row the origin could not be reached.
    failures: u32,
}

impl RepositoryJson {
    pub(crate) fn new(server: &Server, repository: &Repository) -> Self {
        let base = &server.settings().base_url;
        let (origin, clone_url, hook_url) = match &repository.origin {
            Origin::Hosted => {
                (OriginJson::Hosted {}, Some(format!("{base}/git/{}.git", repository.path)), None)
            }
            Origin::Watched { url, credential, .. } => {
                let credential = credential.as_ref().map(ToString::to_string);
                let hook = format!("{base}/hooks/remotes/{}", repository.id);
                (OriginJson::Watched { url: url.clone(), credential }, None, Some(hook))
            }
        };
        let sync = &repository.sync;
        Self {
            id: repository.id.to_string(),
            path: repository.path.to_string(),
            origin,
            clone_url,
            hook_url,
            default_branch: repository.default_branch.to_string(),
            sync: SyncJson {
                status: sync.status.to_string(),
                message: sync.message.clone(),
                checked_at: sync.checked_at.map(|at| at.to_string()),
                due_at: sync.due_at.map(|at| at.to_string()),
                failures: sync.failures,
            },
            created_at: repository.created_at.to_string(),
        }
    }
}

impl Server {
    /// The repository that two segments of a path name.
    pub(crate) async fn repository(&self, owner: &str, name: &str) -> Result<Repository, Problem> {
        let path: RepositoryPath = input::known("repository", &format!("{owner}/{name}"))?;
        let found = self.store().repository_find(&path).await?;
        found.ok_or_else(|| Problem::not_found(format!("there is no repository `{path}`")))
    }
}

/// Lists repositories, newest first.
#[utoipa::path(
    get, operation_id = "list_repositories", path = "/api/v1/repositories", tag = "repositories", params(PageParams),
    responses((status = 200, description = "Repositories", body = Part<RepositoryJson>))
)]
pub(crate) async fn list(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    listing: Listing<NoFilter>,
) -> Result<Paged<RepositoryJson>, Problem> {
    let page = listing.page(domain::id::RepositoryId::uuid)?;
    let found = server.store().repository_list(&page).await?;
    let part = listing.part(found, |repository| repository.id.to_string());
    Ok(part.map(|repository| RepositoryJson::new(&server, &repository)))
}

/// A repository that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRepository {
    /// `owner/name`.
    #[schema(example = "ada/book")]
    path: String,
    /// Where its commits come from; without it, people push here.
    origin: Option<OriginJson>,
    /// The branch that `HEAD` names; without it, `main`.
    default_branch: Option<String>,
}

/// Adds a repository: hosted here, or watched elsewhere.
#[utoipa::path(
    post, operation_id = "create_repository", path = "/api/v1/repositories", tag = "repositories", request_body = NewRepository,
    responses((status = 201, description = "It is there", body = RepositoryJson),
              (status = 409, description = "The path is taken", body = Problem, content_type = "application/problem+json"),
              (status = 422, description = "Its address is not allowed", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn create(
    Maintainer(principal): Maintainer,
    State(server): State<Arc<Server>>,
    Json(wanted): Json<NewRepository>,
) -> Result<Response, Problem> {
    let path: RepositoryPath = input::required("path", &wanted.path)?;
    let branch: Branch =
        input::required("default_branch", wanted.default_branch.as_deref().unwrap_or("main"))?;
    let origin = match wanted.origin {
        None | Some(OriginJson::Hosted {}) => Origin::Hosted,
        Some(OriginJson::Watched { url, credential }) => {
            remote_url::check(&url, server.world().settings.remotes)?;
            Origin::Watched {
                url,
                credential: input::optional::<SecretName>("origin.credential", credential.as_deref())?,
                place: None,
            }
        }
    };
    let repository = engine::repositories::create(server.world(), path, origin, branch).await?;
    tracing::info!(repository.id = %repository.id, "{} added {}", principal.account.name, repository.path);
    let location = format!("/api/v1/repositories/{}", repository.path);
    let mut response =
        (StatusCode::CREATED, axum::Json(RepositoryJson::new(&server, &repository))).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Shows a repository.
#[utoipa::path(
    get, operation_id = "get_repository", path = "/api/v1/repositories/{owner}/{name}", tag = "repositories",
    params(("owner" = String, Path), ("name" = String, Path)),
    responses((status = 200, description = "The repository", body = RepositoryJson),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<axum::Json<RepositoryJson>, Problem> {
    Ok(axum::Json(RepositoryJson::new(&server, &server.repository(&owner, &name).await?)))
}

/// Compares the server's picture with git's now; answers when that is done.
#[utoipa::path(
    post, operation_id = "sync_repository", path = "/api/v1/repositories/{owner}/{name}/sync", tag = "repositories",
    params(("owner" = String, Path), ("name" = String, Path)),
    responses((status = 200, description = "What came of it", body = RepositoryJson))
)]
pub(crate) async fn sync(
    _maintainer: Maintainer,
    State(server): State<Arc<Server>>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<axum::Json<RepositoryJson>, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let fresh = engine::repositories::sync_now(server.world(), repository.id).await?;
    Ok(axum::Json(RepositoryJson::new(&server, &fresh)))
}

/// A branch.
#[derive(Serialize, ToSchema)]
#[schema(as = Branch)]
pub(crate) struct BranchJson {
    /// Its name.
    name: String,
    /// `deploy`, `fork` or `ignored`.
    role: &'static str,
    /// Where it is.
    commit: String,
    /// Since when.
    #[schema(format = DateTime)]
    moved_at: String,
}

impl From<&BranchHead> for BranchJson {
    fn from(head: &BranchHead) -> Self {
        Self {
            name: head.branch.to_string(),
            role: role_word(head.role),
            commit: head.commit.to_string(),
            moved_at: head.moved_at.to_string(),
        }
    }
}

/// The word for what a branch is to the server.
pub(crate) const fn role_word(role: BranchRole) -> &'static str {
    match role {
        BranchRole::Deploy => "deploy",
        BranchRole::Fork => "fork",
        BranchRole::Ignored => "ignored",
    }
}

/// Lists the branches of a repository, by name.
#[utoipa::path(
    get, operation_id = "list_branches", path = "/api/v1/repositories/{owner}/{name}/branches", tag = "repositories",
    params(("owner" = String, Path), ("name" = String, Path)),
    responses((status = 200, description = "Branches", body = Part<BranchJson>))
)]
pub(crate) async fn branches(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<axum::Json<Part<BranchJson>>, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let heads = server.store().branch_list(repository.id).await?;
    Ok(Part::whole(heads.iter().map(BranchJson::from).collect()))
}

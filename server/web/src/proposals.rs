//! Proposals: the pull requests of the built-in host.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::id::ProposalId;
use domain::name::Branch;
use domain::proposal::{Proposal, ProposalStatus};
use domain::repository::Repository;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::{Maintainer, Runner, Viewer};
use crate::diff::DiffJson;
use crate::doors::Server;
use crate::effects::ProvenanceJson;
use crate::input::{self, Json, Path};
use crate::page::{Listing, PageParams, Paged, Part};
use crate::problem::Problem;

/// A change offered for merging.
#[derive(Serialize, ToSchema)]
#[schema(as = Proposal)]
pub(crate) struct ProposalJson {
    /// Which.
    id: String,
    /// Its number in the repository.
    number: u64,
    /// One line.
    title: String,
    /// Markdown.
    body: String,
    /// The branch to be changed.
    base: String,
    /// The branch that holds the change.
    branch: String,
    /// Where that branch is.
    head: String,
    /// Not ready for merging.
    draft: bool,
    /// Labels on it.
    labels: Vec<String>,
    /// `open`, `merged` or `closed`.
    status: &'static str,
    /// The commit that brought it into the base branch.
    merged_as: Option<String>,
    /// Who merged or closed it.
    settled_by: Option<String>,
    /// Who made it, when a run did.
    provenance: Option<ProvenanceJson>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<&Proposal> for ProposalJson {
    fn from(proposal: &Proposal) -> Self {
        let (merged_as, settled_by) = match &proposal.status {
            ProposalStatus::Open => (None, None),
            ProposalStatus::Merged { commit, by } => (Some(commit.to_string()), Some(by.clone())),
            ProposalStatus::Closed { by } => (None, Some(by.clone())),
        };
        Self {
            id: proposal.id.to_string(),
            number: proposal.number,
            title: proposal.title.clone(),
            body: proposal.body.clone(),
            base: proposal.base.to_string(),
            branch: proposal.branch.to_string(),
            head: proposal.head.to_string(),
            draft: proposal.draft,
            labels: proposal.labels.clone(),
            status: proposal.status.as_str(),
            merged_as,
            settled_by,
            provenance: proposal.provenance.as_ref().map(ProvenanceJson::from),
            created_at: proposal.created_at.to_string(),
            updated_at: proposal.updated_at.to_string(),
        }
    }
}

/// Which proposals to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProposalsFilter {
    /// `open`, `merged` or `closed`.
    status: Option<String>,
}

/// Lists proposals, newest first.
#[utoipa::path(
    get, operation_id = "list_proposals", path = "/api/v1/repositories/{owner}/{name}/proposals", tag = "discussions",
    params(("owner" = String, Path), ("name" = String, Path), ProposalsFilter, PageParams),
    responses((status = 200, description = "Proposals", body = Part<ProposalJson>))
)]
pub(crate) async fn list(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name)): Path<(String, String)>,
    listing: Listing<ProposalsFilter>,
) -> Result<Paged<ProposalJson>, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let status = listing.filter.status.as_deref();
    if status.is_some_and(|word| !["open", "merged", "closed"].contains(&word)) {
        return Err(Problem::bad_request(
            "invalid_parameter",
            "`status` must be `open`, `merged` or `closed`",
        ));
    }
    let page = listing.page(ProposalId::uuid)?;
    let found = server.store().proposal_list(repository.id, status, &page).await?;
    Ok(listing.part(found, |proposal| proposal.id.to_string()).map(|proposal| ProposalJson::from(&proposal)))
}

/// A proposal, and what it changes.
#[derive(Serialize, ToSchema)]
#[schema(as = ProposalDetail)]
pub(crate) struct ProposalDetailJson {
    /// The proposal.
    proposal: ProposalJson,
    /// What it changes; null when git no longer has its commits.
    diff: Option<DiffJson>,
}

/// Shows a proposal with what it changes.
#[utoipa::path(
    get, operation_id = "get_proposal", path = "/api/v1/repositories/{owner}/{name}/proposals/{number}", tag = "discussions",
    params(("owner" = String, Path), ("name" = String, Path), ("number" = u64, Path)),
    responses((status = 200, description = "The proposal", body = ProposalDetailJson),
              (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn get(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name, number)): Path<(String, String, String)>,
) -> Result<axum::Json<ProposalDetailJson>, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let proposal = find(&server, &repository, &number).await?;
    let diff = engine::proposals::diff(server.world(), &proposal).await?;
    Ok(axum::Json(ProposalDetailJson {
        proposal: ProposalJson::from(&proposal),
        diff: diff.map(DiffJson::from),
    }))
}

/// A proposal that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProposal {
    /// One line.
    title: String,
    /// Markdown.
    #[serde(default)]
    body: String,
    /// The branch that holds the change.
    branch: String,
    /// The branch to be changed; without it, the default branch.
    base: Option<String>,
}

/// Offers a branch for merging.
#[utoipa::path(
    post, operation_id = "create_proposal", path = "/api/v1/repositories/{owner}/{name}/proposals", tag = "discussions",
    params(("owner" = String, Path), ("name" = String, Path)), request_body = NewProposal,
    responses((status = 201, description = "It is there", body = ProposalJson))
)]
pub(crate) async fn create(
    Runner(principal): Runner,
    State(server): State<Arc<Server>>,
    Path((owner, name)): Path<(String, String)>,
    Json(wanted): Json<NewProposal>,
) -> Result<Response, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let base: Option<Branch> = input::optional("base", wanted.base.as_deref())?;
    let offer = engine::proposals::Offer {
        title: wanted.title,
        body: wanted.body,
        branch: input::required("branch", &wanted.branch)?,
        base: base.unwrap_or_else(|| repository.default_branch.clone()),
        by: principal.account.name,
    };
    let proposal = engine::proposals::create(server.world(), repository.id, offer).await?;
    let location = format!("/api/v1/repositories/{}/proposals/{}", repository.path, proposal.number);
    let mut response = (StatusCode::CREATED, axum::Json(ProposalJson::from(&proposal))).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Merges a proposal into its base branch.
#[utoipa::path(
    post, operation_id = "merge_proposal", path = "/api/v1/repositories/{owner}/{name}/proposals/{number}/merge", tag = "discussions",
    params(("owner" = String, Path), ("name" = String, Path), ("number" = u64, Path)),
    responses((status = 200, description = "It is merged", body = ProposalJson),
              (status = 409, description = "It cannot be merged", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn merge(
    Maintainer(principal): Maintainer,
    State(server): State<Arc<Server>>,
    Path(address): Path<(String, String, String)>,
) -> Result<axum::Json<ProposalJson>, Problem> {
    settle(&server, address, Settlement::Merge, &principal.account.name).await
}

/// Declines a proposal.
#[utoipa::path(
    post, operation_id = "close_proposal", path = "/api/v1/repositories/{owner}/{name}/proposals/{number}/close", tag = "discussions",
    params(("owner" = String, Path), ("name" = String, Path), ("number" = u64, Path)),
    responses((status = 200, description = "It is closed", body = ProposalJson),
              (status = 409, description = "It is not open", body = Problem, content_type = "application/problem+json"))
)]
pub(crate) async fn close(
    Maintainer(principal): Maintainer,
    State(server): State<Arc<Server>>,
    Path(address): Path<(String, String, String)>,
) -> Result<axum::Json<ProposalJson>, Problem> {
    settle(&server, address, Settlement::Close, &principal.account.name).await
}

/// How somebody ends a proposal.
#[derive(Clone, Copy)]
enum Settlement {
    Merge,
    Close,
}

async fn settle(
    server: &Server,
    (owner, name, number): (String, String, String),
    how: Settlement,
    by: &str,
) -> Result<axum::Json<ProposalJson>, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let number = find(server, &repository, &number).await?.number;
    let settled = match how {
        Settlement::Merge => engine::proposals::merge(server.world(), repository.id, number, by).await?,
        Settlement::Close => engine::proposals::close(server.world(), repository.id, number, by).await?,
    };
    Ok(axum::Json(ProposalJson::from(&settled)))
}

async fn find(server: &Server, repository: &Repository, number: &str) -> Result<Proposal, Problem> {
    let number: u64 = input::known("proposal", number)?;
    // The store counts in signed numbers: what is beyond them names nothing.
    let found = match i64::try_from(number) {
        Ok(_) => server.store().proposal_get(repository.id, number).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Problem::not_found(format!("{} has no proposal #{number}", repository.path)))
}

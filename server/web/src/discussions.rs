//! Comments and checks on the built-in host.

use std::sync::Arc;

use axum::extract::State;
use domain::effect::{Annotation, AnnotationLevel, CheckConclusion, CommentTarget};
use domain::id::CommentId;
use domain::name::Commit;
use domain::proposal::{Check, Comment};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Viewer;
use crate::doors::Server;
use crate::effects::ProvenanceJson;
use crate::input::{self, Path};
use crate::page::{Listing, PageParams, Paged, Part};
use crate::problem::Problem;

/// Something said.
#[derive(Serialize, ToSchema)]
#[schema(as = Comment)]
pub(crate) struct CommentJson {
    /// Which.
    id: String,
    /// Under which commit.
    commit: Option<String>,
    /// Under which proposal or issue.
    thread: Option<u64>,
    /// Markdown.
    body: String,
    /// Who said it; the server itself, when it is absent.
    provenance: Option<ProvenanceJson>,
    /// When it was first said.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last edited.
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<Comment> for CommentJson {
    fn from(comment: Comment) -> Self {
        let (commit, thread) = match &comment.target {
            CommentTarget::Commit { commit } => (Some(commit.to_string()), None),
            CommentTarget::Thread { number } => (None, Some(*number)),
        };
        Self {
            id: comment.id.to_string(),
            commit,
            thread,
            body: comment.body,
            provenance: comment.author.provenance().map(ProvenanceJson::from),
            created_at: comment.created_at.to_string(),
            updated_at: comment.updated_at.to_string(),
        }
    }
}

/// Which comments to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommentsFilter {
    /// Under one commit, oldest first.
    commit: Option<String>,
    /// Under one proposal or issue, oldest first.
    thread: Option<String>,
}

/// Lists comments: of the whole repository, newest first, or under one thing, oldest first.
#[utoipa::path(
    get, operation_id = "list_comments", path = "/api/v1/repositories/{owner}/{name}/comments", tag = "discussions",
    params(("owner" = String, Path), ("name" = String, Path), CommentsFilter, PageParams),
    responses((status = 200, description = "Comments", body = Part<CommentJson>))
)]
pub(crate) async fn comments(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name)): Path<(String, String)>,
    listing: Listing<CommentsFilter>,
) -> Result<Paged<CommentJson>, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let commit: Option<Commit> = input::optional("commit", listing.filter.commit.as_deref())?;
    let thread: Option<u64> = input::optional("thread", listing.filter.thread.as_deref())?;
    let target = match (commit, thread) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("invalid_query", "give `commit` or `thread`, not both"));
        }
        (Some(commit), None) => Some(CommentTarget::Commit { commit }),
        (None, Some(number)) => Some(CommentTarget::Thread { number }),
        (None, None) => None,
    };
    let page = listing.page(CommentId::uuid)?;
    let found = server.store().comment_list(repository.id, target.as_ref(), &page).await?;
    Ok(listing.part(found, |comment| comment.id.to_string()).map(CommentJson::from))
}

/// A report on a commit.
#[derive(Serialize, ToSchema)]
#[schema(as = Check)]
pub(crate) struct CheckJson {
    /// Which.
    id: String,
    /// The name; unique on the commit.
    name: String,
    /// On which commit.
    commit: String,
    /// `success`, `failure` or `neutral`.
    conclusion: &'static str,
    /// Markdown.
    summary: String,
    /// Remarks on lines.
    annotations: Vec<AnnotationJson>,
    /// Who reports; the server itself, when it is absent.
    provenance: Option<ProvenanceJson>,
    /// When.
    #[schema(format = DateTime)]
    created_at: String,
}

/// A remark on lines of a file.
#[derive(Serialize, ToSchema)]
#[schema(as = Annotation)]
pub(crate) struct AnnotationJson {
    /// The file.
    path: String,
    /// The first line, from 1.
    start_line: u32,
    /// The last line.
    end_line: u32,
    /// `notice`, `warning` or `failure`.
    level: &'static str,
    /// What.
    message: String,
}

impl From<Check> for CheckJson {
    fn from(check: Check) -> Self {
        Self {
            id: check.id.to_string(),
            name: check.name,
            commit: check.commit.to_string(),
            conclusion: match check.conclusion {
                CheckConclusion::Success => "success",
                CheckConclusion::Failure => "failure",
                CheckConclusion::Neutral => "neutral",
            },
            summary: check.summary,
            annotations: check.annotations.into_iter().map(AnnotationJson::from).collect(),
            provenance: check.author.provenance().map(ProvenanceJson::from),
            created_at: check.created_at.to_string(),
        }
    }
}

impl From<Annotation> for AnnotationJson {
    fn from(annotation: Annotation) -> Self {
        Self {
            path: annotation.path,
            start_line: annotation.start_line,
            end_line: annotation.end_line,
            level: match annotation.level {
                AnnotationLevel::Notice => "notice",
                AnnotationLevel::Warning => "warning",
                AnnotationLevel::Failure => "failure",
            },
            message: annotation.message,
        }
    }
}

/// Lists the checks on a commit, by name.
#[utoipa::path(
    get, operation_id = "list_checks", path = "/api/v1/repositories/{owner}/{name}/commits/{commit}/checks", tag = "discussions",
    params(("owner" = String, Path), ("name" = String, Path), ("commit" = String, Path, description = "All 40 digits")),
    responses((status = 200, description = "Checks", body = Part<CheckJson>))
)]
pub(crate) async fn checks(
    _viewer: Viewer,
    State(server): State<Arc<Server>>,
    Path((owner, name, commit)): Path<(String, String, String)>,
) -> Result<axum::Json<Part<CheckJson>>, Problem> {
    let repository = server.repository(&owner, &name).await?;
    let commit: Commit = input::known("commit", &commit)?;
    let checks = server.store().check_list(repository.id, &commit).await?;
    Ok(Part::whole(checks.into_iter().map(CheckJson::from).collect()))
}

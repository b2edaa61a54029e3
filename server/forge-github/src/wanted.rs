//! What an app's token must allow for an effect. How effects are done is `forge_remote`'s.

use domain::effect::{CommentKind, CommentTarget, Effect, EffectKind, Receipt};
use domain::repository::Repository;
use forge_remote::Failure;

use crate::github::GitHub;
use crate::tokens::Permissions;

/// Performs an effect.
pub(crate) async fn perform(
    github: &GitHub,
    repository: &Repository,
    effect: &Effect,
) -> Result<Receipt, Failure> {
    let visit = github.visit_to_write(repository, permissions(&effect.kind)).await?;
    forge_remote::perform(&visit, effect).await
}

/// What an app's token must allow for an effect, and nothing more ("Permissions required for GitHub Apps").
const fn permissions(kind: &EffectKind) -> Permissions {
    match kind {
        EffectKind::CreatePullRequest { .. } => {
            &[("contents", "write"), ("pull_requests", "write"), ("issues", "write")]
        }
        EffectKind::AddComment { target: CommentTarget::Commit { .. }, .. } => &[("contents", "write")],
        EffectKind::AddComment { target: CommentTarget::Thread { .. }, .. }
        | EffectKind::UpdateIssue { .. }
        | EffectKind::AddLabels { .. }
        | EffectKind::RemoveLabels { .. } => &[("issues", "write"), ("pull_requests", "write")],
        EffectKind::CreateCheck { .. } => &[("checks", "write")],
        EffectKind::PushToPullRequestBranch { .. } => &[("contents", "write"), ("pull_requests", "read")],
        EffectKind::CreateIssue { .. } | EffectKind::CloseIssue { .. } => &[("issues", "write")],
        EffectKind::AddReviewers { .. } => &[("pull_requests", "write")],
        EffectKind::SetStatus { .. } => &[("statuses", "write")],
        EffectKind::CreateRelease { .. } => &[("contents", "write")],
        EffectKind::React { comment, .. } => match comment.kind {
            CommentKind::Issue => &[("issues", "write")],
            CommentKind::Review => &[("pull_requests", "write")],
        },
        EffectKind::CallWebhook { .. } | EffectKind::UploadArtifact { .. } | EffectKind::Noop { .. } => {
            &[("metadata", "read")]
        }
    }
}

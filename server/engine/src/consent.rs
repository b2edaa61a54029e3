//! Consent: what a repository's own `.spellbook/policy.yaml` lets daemons do in it. It is read from the default branch
//! in the moment in which something is to be done, and a file that cannot be understood allows nothing.

use std::borrow::Cow;
use std::time::Duration;

use domain::effect::{Effect, EffectKind};
use domain::repository::Repository;
use manifest::{POLICY, Policy};
use ports::Retry;
use ports::forge::ForgeError;
use ports::source::{Fetched, Remote, SourceError, View};

use crate::watch::remote;
use crate::world::World;

/// How long git is waited for; an effect is held for longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest file that is read, bytes; a larger one is not understood.
const LARGEST: u64 = 1 << 20;

/// The effect as the repository wants it.
///
/// # Errors
/// When the repository does not allow it, or nobody can tell now.
pub(crate) async fn given<'e>(
    world: &World,
    repository: &Repository,
    effect: &'e Effect,
) -> Result<Cow<'e, Effect>, ForgeError> {
    if !Policy::concerns(&effect.author, &effect.kind) {
        return Ok(Cow::Borrowed(effect));
    }
    let Some(policy) = policy(world, repository).await? else { return Ok(Cow::Borrowed(effect)) };
    if let Some(rule) = policy.forbids(&effect.author, &repository.path, &effect.kind) {
        return Err(refused(&format!("does not allow it: `{rule}`")));
    }
    let EffectKind::CreatePullRequest { labels, .. } = &effect.kind else { return Ok(Cow::Borrowed(effect)) };
    if let Some(most) = policy.max_open {
        let open = world.forge.offers(repository).await?;
        // What is open already is brought up to date.
        let is_new = !open.iter().any(|offer| offer.key.as_ref() == Some(&effect.key));
        if is_new && open.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            let rule = format!("pull_requests.max_open: {most}");
            return Err(refused(&format!("allows no more: `{rule}`, and {} are open", open.len())));
        }
    }
    if policy.labels.iter().all(|label| labels.contains(label)) {
        return Ok(Cow::Borrowed(effect));
    }
    let mut marked = effect.clone();
    if let EffectKind::CreatePullRequest { labels, .. } = &mut marked.kind {
        let missing: Vec<String> =
            policy.labels.iter().filter(|label| !labels.contains(label)).cloned().collect();
        labels.extend(missing);
    }
    Ok(Cow::Owned(marked))
}

/// What the default branch says at this moment; `None` when it says nothing.
async fn policy(world: &World, repository: &Repository) -> Result<Option<Policy>, ForgeError> {
    let Some(file) = file(world, repository).await.map_err(|error| untold(&error))? else { return Ok(None) };
    let checked = manifest::check_policy(POLICY, &file);
    match (checked.value, checked.diagnostics.iter().find(|one| one.is_error())) {
        (Some(policy), None) => Ok(Some(policy)),
        (_, fault) => {
            let why = fault.map_or_else(String::new, |fault| {
                format!(" ({}, line {}: {})", fault.code, fault.line, fault.message)
            });
            Err(refused(&format!("cannot be understood, so nothing is done here until it is mended{why}")))
        }
    }
}

async fn file(world: &World, repository: &Repository) -> Result<Option<domain::files::File>, SourceError> {
    let mut branch = repository.default_branch.clone();
    // What was pushed a moment ago counts, also where no webhook tells of it.
    if let Some(remote) = remote::of(world, repository).await?
        && let remote = (Remote { timeout: PATIENCE, ..remote })
        && let Fetched::Updated { default_branch: Some(now) } =
            world.source.fetch(repository.id, &remote).await?
    {
        let recorded = world.store.repository_default_branch(repository.id, &now).await;
        recorded.map_err(|error| SourceError::Unreachable(error.to_string()))?;
        branch = now;
    }
    let branches = world.source.branches(repository.id).await?;
    let Some((_, head)) = branches.into_iter().find(|(name, _)| *name == branch) else { return Ok(None) };
    world.source.file(&View::of(repository.id), &head, POLICY, LARGEST).await
}

fn refused(what: &str) -> ForgeError {
    ForgeError::refused(format!("`{POLICY}` of the repository {what}"))
}

/// Whether what the repository allows can be told later.
fn untold(error: &SourceError) -> ForgeError {
    let retry = match error {
        SourceError::Unreachable(_) | SourceError::Broken(_) => Retry::Later,
        SourceError::NotFound(_) | SourceError::Refused(_) | SourceError::Unauthorized(_) => Retry::Never,
    };
    let message = format!("nobody can tell what `{POLICY}` of the repository allows: {error}");
    ForgeError { message, retry, not_before: None }
}

//! Adding repositories, and looking at one at once.

use domain::id::RepositoryId;
use domain::name::{Branch, RepositoryPath};
use domain::repository::{Origin, Repository, Sync};
use ports::store::Recorded;

use crate::reconcile::{self, Pushed};
use crate::refusal::Refusal;
use crate::watch;
use crate::world::World;

/// Adds a repository; a hosted one begins empty, a watched one is looked at soon.
///
/// # Errors
/// `repository_exists` when the path is taken.
pub async fn create(
    world: &World,
    path: RepositoryPath,
    origin: Origin,
    default_branch: Branch,
) -> Result<Repository, Refusal> {
    let now = world.clock.now();
    let due_at = matches!(origin, Origin::Watched { .. }).then_some(now);
    let repository = Repository {
        id: RepositoryId::new(world.clock.unique()),
        path,
        origin,
        default_branch,
        sync: Sync { due_at, ..Sync::NEVER },
        created_at: now,
    };
    // The bare repository first: one that the store does not know is only a directory, while a row
    // without a repository would be an error on every page.
    world.source.create(repository.id, &repository.default_branch).await?;
    match world.store.repository_create(&repository).await? {
        Recorded::New => Ok(repository),
        Recorded::Known(known) => Err(Refusal::conflict(
            "repository_exists",
            format!("there is a repository {} already", known.path),
        )),
    }
}

/// Compares the server's picture of a repository with git's at once; a watched one is fetched before.
///
/// # Errors
/// When there is no such repository, or it cannot be read.
pub async fn sync_now(world: &World, id: RepositoryId) -> Result<Repository, Refusal> {
    let repository = get(world, id).await?;
    match &repository.origin {
        Origin::Watched { .. } => drop(watch::look(world, &repository).await?),
        Origin::Hosted => drop(reconcile::repository(world, id, &Pushed::default()).await?),
    }
    get(world, id).await
}

async fn get(world: &World, id: RepositoryId) -> Result<Repository, Refusal> {
    let found = world.store.repository_get(id).await?;
    found.ok_or_else(|| Refusal::not_found("repository_not_found", format!("there is no repository {id}")))
}

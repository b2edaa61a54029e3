//! What a server looks after now and then by itself.

use std::sync::Arc;
use std::time::Duration;

use domain::repository::Repository;
use domain::time::Timestamp;
use engine::World;
use engine::reconcile::Pushed;
use gateway::Gateway;
use git::Git;
use ports::store::Page;
use tokio_util::sync::CancellationToken;

/// How often what git has is compared with what is recorded: a push that was accepted and not recorded,
/// because its client or the store went away, waits no longer than this.
const RECONCILE: Duration = Duration::from_secs(60);
/// How often calls of models are charged whose end nobody saw.
const CLOSE: Duration = Duration::from_secs(60);
/// How often small pieces of repositories are put together, where there are many.
const MAINTAIN: Duration = Duration::from_secs(600);
/// How often a newer catalogue of models is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How often conversations are forgotten that nobody has used for long.
const FORGET: Duration = Duration::from_secs(3600);

/// How long an expired token is still listed, milliseconds.
const EXPIRED: i64 = 7 * 24 * 3600 * 1000;

/// Compares every repository with what is recorded of it, at once and then every minute.
pub(crate) async fn reconcile(world: Arc<World>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        for repository in all(&world).await {
            let reconciled = engine::reconcile::repository(&world, repository.id, &Pushed::default()).await;
            if let Err(error) = reconciled {
                tracing::warn!(repository = %repository.path, %error, "not reconciled");
            }
        }
        rest(RECONCILE, &stop).await;
    }
}

/// Keeps the issue up to date that says how the daemons of a repository fare, where one is asked for.
pub(crate) async fn dashboards(world: Arc<World>, stop: CancellationToken) {
    if world.hosts.is_empty() {
        return;
    }
    while !stop.is_cancelled() {
        for repository in all(&world).await {
            if let Err(error) = engine::dashboard::update(&world, &repository).await {
                tracing::warn!(repository = %repository.path, %error, "its dashboard was not looked at");
            }
        }
        rest(engine::dashboard::INTERVAL, &stop).await;
    }
}

/// Charges what runs that were given up had set aside for models, every minute.
pub(crate) async fn close_calls(world: Arc<World>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = engine::budgets::close(&world).await {
            tracing::warn!(%error, "calls of models are not closed");
        }
        rest(CLOSE, &stop).await;
    }
}

/// Keeps repositories quick to read: pushes and runs leave packs and loose objects behind.
pub(crate) async fn maintain(world: Arc<World>, git: Git, stop: CancellationToken) {
    rest(MAINTAIN, &stop).await;
    while !stop.is_cancelled() {
        for repository in all(&world).await {
            match git.maintain(repository.id).await {
                Ok(true) => tracing::info!(repository = %repository.path, "its objects were put together"),
                Ok(false) => {}
                Err(error) => tracing::warn!(repository = %repository.path, %error, "not maintained"),
            }
        }
        rest(MAINTAIN, &stop).await;
    }
}

/// Takes a catalogue of models that `spellbook models update` wrote, without a restart.
pub(crate) async fn look_for_catalogue(gateway: Arc<Gateway>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        rest(LOOK, &stop).await;
        gateway.look_for_update();
    }
}

/// Forgets conversations that nobody has used for long, and tokens that expired a while ago.
pub(crate) async fn forget(world: Arc<World>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let before = Timestamp::from_millis(world.clock.now().millis().saturating_sub(EXPIRED));
        if let Err(error) = world.store.expired_forget(before).await {
            tracing::warn!(%error, "no expired tokens could be forgotten");
        }
        match engine::state::forget_sessions(&world).await {
            Ok(0) => {}
            Ok(number) => tracing::info!("{number} sessions that were not used for long are forgotten"),
            Err(error) => tracing::warn!(%error, "no sessions could be forgotten"),
        }
        rest(FORGET, &stop).await;
    }
}

/// Every repository; those before it when the store does not answer.
async fn all(world: &World) -> Vec<Repository> {
    let mut page = Page::first(100);
    let mut all = Vec::new();
    while let Ok(repositories) = world.store.repository_list(&page).await
        && let Some(last) = repositories.last()
    {
        page.after = Some(last.id.uuid());
        all.extend(repositories);
    }
    all
}

async fn rest(span: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(span) => {}
        () = stop.cancelled() => {}
    }
}

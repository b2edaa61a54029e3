//! What waits for somebody who may write to approve it: daemons that a stranger's pull request would start.

use std::collections::BTreeSet;

use domain::event::{Event, EventKind};
use domain::id::RepositoryId;
use domain::name::DaemonId;
use ports::store::runs::RunFilter;
use ports::store::{Page, StoreError};

use super::consider::WAITS_FOR_APPROVAL;
use crate::world::World;

/// The daemons that wait, each with the newest of what happened that it waits with, newest first. Of one pull
/// request or of all; so many events are looked through.
pub(crate) async fn waiting(
    world: &World,
    repository: RepositoryId,
    thread: Option<u64>,
    looked: u32,
) -> Result<Vec<(Event, DaemonId)>, StoreError> {
    let (mut waiting, mut seen) = (Vec::new(), BTreeSet::new());
    for event in world.store.event_list(repository, thread, &Page::first(looked)).await? {
        if !matches!(event.kind, EventKind::PullRequest | EventKind::Label) {
            continue;
        }
        for record in world.store.match_list(event.id).await? {
            if record.reason.starts_with(WAITS_FOR_APPROVAL)
                && seen.insert((event.thread(), record.daemon.clone()))
                && !is_started(world, &event, &record.daemon).await?
            {
                waiting.push((event.clone(), record.daemon));
            }
        }
    }
    Ok(waiting)
}

/// Whether an event started a daemon: somebody has approved before.
async fn is_started(world: &World, event: &Event, daemon: &DaemonId) -> Result<bool, StoreError> {
    let filter = RunFilter { event: Some(event.id), daemon: Some(daemon.clone()), ..RunFilter::default() };
    Ok(!world.store.run_list(&filter, &Page::first(1)).await?.is_empty())
}

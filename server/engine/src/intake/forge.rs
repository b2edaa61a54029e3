//! What the webhooks of forges say: facts, which become events; hints that commits moved; other
//! repositories in which the server is at home.

use domain::event::{Event, EventKind};
use domain::id::{EventId, RepositoryId};
use domain::name::ForgeName;
use domain::repository::{Place, Repository};
use domain::value::Taint;
use ports::forge::{Fact, Host, Moved, Understood};
use ports::store::events::Delivery;
use ports::store::{Recorded, StoreError};

use crate::installations;
use crate::world::World;

/// Makes of a webhook what it is; what that was, in a sentence.
pub(crate) async fn said(world: &World, delivery: &Delivery, forge: &str) -> Result<String, StoreError> {
    let known = forge.parse::<ForgeName>().ok().and_then(|name| world.hosts.get_key_value(&name));
    let Some((forge, host)) = known else {
        return Ok(format!("the forge `{forge}` is not configured any more"));
    };
    let name = delivery.name.as_deref().unwrap_or_default();
    match host.understand(name, &delivery.body, delivery.received_at) {
        Understood::Ignored(reason) => Ok(format!("ignored: {reason}")),
        Understood::About { place, moved, facts } => about(world, &**host, &place, moved, &facts).await,
        // It says that something changed, not what.
        Understood::Installed { added, removed } if added.is_empty() && removed.is_empty() => {
            match installations::reconcile(world, forge, &**host).await? {
                Ok(changed) => Ok(changed.to_string()),
                Err(error) => Ok(format!(
                    "{forge} did not say where the server is at home: {error}; it is asked again soon"
                )),
            }
        }
        Understood::Installed { added, removed } => {
            Ok(installations::changed(world, &added, &removed).await?.to_string())
        }
    }
}

async fn about(
    world: &World,
    host: &dyn Host,
    place: &Place,
    moved: Moved,
    facts: &[Fact],
) -> Result<String, StoreError> {
    let Some(repository) = world.store.repository_at(place).await? else {
        return Ok(format!("ignored: the server is not at home in {}", place.path));
    };
    let mut said = Vec::new();
    if repository.origin.place().is_some_and(|known| known.path != place.path) {
        said.push(renamed(world, host, &repository, place).await?);
    }
    for fact in facts {
        let kind = fact.kind.as_str();
        said.push(match fact_record(world, repository.id, fact).await? {
            Recorded::New => format!("an event `{kind}`"),
            Recorded::Known(event) => format!("`{kind}` is known as {event}"),
        });
    }
    if moved == Moved::Perhaps {
        world.store.repository_hint(repository.id, world.clock.now()).await?;
        said.push("the repository is looked at next".to_owned());
    }
    if said.is_empty() {
        said.push("nothing that matters here".to_owned());
    }
    Ok(format!("{}: {}", repository.path, said.join(", ")))
}

/// Follows a repository to its new name. A webhook may be an old one that is delivered late, and under the
/// name that it gives there may be another repository by now: the forge is asked.
async fn renamed(
    world: &World,
    host: &dyn Host,
    repository: &Repository,
    place: &Place,
) -> Result<String, StoreError> {
    let Some(url) = installations::url_at(&repository.origin, &place.path) else {
        return Ok(format!("it is called {} there", place.path));
    };
    match host.place(&url).await {
        Ok(Some(found)) if found.place == *place => {
            installations::follow(world, repository, &found).await?;
            Ok(format!("it is called {} there now", place.path))
        }
        Ok(_) => Ok(format!("{} is not its name any more", place.path)),
        Err(error) => Ok(format!("its new name {} is not certain: {error}", place.path)),
    }
}

/// Records a fact as an event, once, whoever brings it.
pub(crate) async fn fact_record(
    world: &World,
    repository: RepositoryId,
    fact: &Fact,
) -> Result<Recorded<EventId>, StoreError> {
    let event = Event {
        id: EventId::new(world.clock.unique()),
        repository,
        kind: fact.kind,
        action: fact.action.clone(),
        branch: fact.branch.clone(),
        commit: fact.commit.clone(),
        paths: Vec::new(),
        actor: fact.actor.clone(),
        labels: fact.labels.clone(),
        draft: fact.draft,
        payload: fact.payload.clone(),
        taint: Taint::External,
        depth: 0,
        occurred_at: fact.occurred_at,
    };
    debug_assert_ne!(fact.kind, EventKind::Push, "git says what was pushed");
    world.store.event_record(&event, Some(&fact.key)).await
}

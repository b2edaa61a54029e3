//! Intake: somebody or something wants something. It is durable before it is answered.

pub(crate) mod forge;

use domain::event::{Actor, Event, EventKind};
use domain::id::{DeliveryId, EventId, RepositoryId, RunId};
use domain::name::{Address, DaemonId, ForgeName};
use domain::repository::{BranchRole, Origin};
use domain::run::{Cause, EffectMode, Order};
use domain::trigger::TriggerKind;
use domain::value::Taint;
use ports::store::events::Delivery;
use ports::store::runs::{Cancellation, NewRun, Priority};
use ports::store::{Recorded, StoreError};
use serde_json::{Map, Value as Json, json};

use crate::refusal::Refusal;
use crate::world::World;
use crate::{address, group, inputs};

/// A run that somebody asks for.
#[derive(Debug, Clone)]
pub struct Start {
    /// Which daemon, at which version.
    pub address: Address,
    /// What it is given.
    pub inputs: Map<String, Json>,
    /// Who asks.
    pub actor: Actor,
    /// The same key from the same caller asks for the same run.
    pub idempotency: Option<String>,
}

/// A run that is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// Which.
    pub run: RunId,
    /// Whether it was before.
    pub known: bool,
}

/// Queues a run. On a fork, or at a version that is not deployed, what it wants is staged.
///
/// # Errors
/// When there is no such daemon, or it cannot be run so.
pub async fn start(world: &World, start: Start) -> Result<Started, Refusal> {
    let target = address::resolve(world, &start.address).await?;
    if let Some((stage, what)) = manifest::unsupported_stages(&target.manifest).first() {
        let message = format!("this version cannot run stage `{stage}`: it cannot run {what} yet");
        return Err(Refusal::invalid("stage_unsupported", message));
    }
    let accepted = inputs::accept(&target.manifest.inputs, &start.inputs)?;
    let now = world.clock.now();
    let effects = if target.role == BranchRole::Deploy { EffectMode::Perform } else { EffectMode::Stage };
    let run = Order {
        repository: target.repository.id,
        daemon: start.address.daemon,
        branch: target.branch,
        commit: target.commit,
        digest: target.digest,
        subject: None,
        cause: Cause { event: None, kind: EventKind::Manual, actor: start.actor, parent: None, replay: None },
        inputs: accepted,
        effects,
    }
    .queued(RunId::new(world.clock.unique()), now, now);
    let id = run.id;
    let concurrency = group::of(&target.manifest, &run, None)
        .map_err(|error| Refusal::invalid("concurrency_invalid", error.to_string()))?;
    let new = NewRun { run, concurrency, replaces: None, priority: Priority::Interactive };
    match world.store.run_enqueue(&new, start.idempotency.as_deref()).await? {
        Recorded::New => Ok(Started { run: id, known: false }),
        Recorded::Known(run) => Ok(Started { run, known: true }),
    }
}

/// Asks a run to end.
///
/// # Errors
/// When there is no such run.
pub async fn cancel(world: &World, run: RunId, by: &str) -> Result<Cancellation, Refusal> {
    match world.store.run_cancel(run, by, world.clock.now()).await? {
        Cancellation::Unknown => Err(Refusal::not_found("run_not_found", format!("there is no run {run}"))),
        known => Ok(known),
    }
}

/// A signed request, already verified.
#[derive(Debug, Clone)]
pub struct Hint {
    /// The sender's id for it.
    pub external_id: Option<String>,
    /// SHA-256 of what was signed.
    pub content: [u8; 32],
    /// The body.
    pub body: Vec<u8>,
}

/// Takes the webhook of a watched repository: a hint to look at it soon.
///
/// # Errors
/// When there is no such watched repository.
pub async fn remote_hint(
    world: &World,
    repository: RepositoryId,
    hint: Hint,
) -> Result<Recorded<DeliveryId>, Refusal> {
    let known = world.store.repository_get(repository).await?;
    if !known.is_some_and(|repository| matches!(repository.origin, Origin::Watched { .. })) {
        return Err(Refusal::not_found("repository_not_found", "there is no such watched repository"));
    }
    Ok(record(world, "remote".to_owned(), repository, hint).await?)
}

/// Takes a call of a daemon's own endpoint.
///
/// # Errors
/// When there is no such daemon on a deploy branch, or it has no `webhook` trigger.
pub async fn daemon_call(
    world: &World,
    repository: RepositoryId,
    daemon: &DaemonId,
    hint: Hint,
) -> Result<Recorded<DeliveryId>, Refusal> {
    let refused = || Refusal::not_found("webhook_not_found", format!("`{daemon}` has no `webhook` trigger"));
    webhook_trigger(world, repository, daemon).await?.ok_or_else(refused)?;
    Ok(record(world, format!("daemon/{daemon}"), repository, hint).await?)
}

/// The `webhook` trigger of a deployed daemon: whoever verifies a call needs the name of its secret.
///
/// # Errors
/// When the store does not answer.
pub async fn webhook_trigger(
    world: &World,
    repository: RepositoryId,
    daemon: &DaemonId,
) -> Result<Option<domain::name::SecretName>, StoreError> {
    for head in
        world.store.branch_list(repository).await?.iter().filter(|head| head.role == BranchRole::Deploy)
    {
        for revision in world.store.revision_triggered(repository, &head.branch, EventKind::Webhook).await? {
            let domain::revision::RevisionContent::Valid { triggers, .. } = &revision.content else {
                continue;
            };
            let secret = triggers.iter().find_map(|trigger| match &trigger.on {
                TriggerKind::Webhook { secret } => Some(secret.clone()),
                _ => None,
            });
            if revision.daemon == *daemon && secret.is_some() {
                return Ok(secret);
            }
        }
    }
    Ok(None)
}

/// The webhook of a forge, already verified.
#[derive(Debug)]
pub struct Told {
    /// Which forge.
    pub forge: ForgeName,
    /// What it is about, in the forge's words.
    pub name: String,
    /// The forge's id for it.
    pub external_id: Option<String>,
    /// SHA-256 of what was signed.
    pub content: [u8; 32],
    /// The body.
    pub body: Vec<u8>,
}

/// Takes the webhook of a forge. What it says is understood later: whoever sends it waits.
///
/// # Errors
/// When the store does not answer.
pub async fn forge_told(world: &World, told: Told) -> Result<Recorded<DeliveryId>, StoreError> {
    let delivery = Delivery {
        id: DeliveryId::new(world.clock.unique()),
        source: format!("forge/{}", told.forge),
        repository: None,
        name: Some(told.name),
        external_id: told.external_id,
        content: told.content,
        body: told.body,
        received_at: world.clock.now(),
    };
    world.store.delivery_record(&delivery).await
}

async fn record(
    world: &World,
    source: String,
    repository: RepositoryId,
    hint: Hint,
) -> Result<Recorded<DeliveryId>, StoreError> {
    let delivery = Delivery {
        id: DeliveryId::new(world.clock.unique()),
        source,
        repository: Some(repository),
        name: None,
        external_id: hint.external_id,
        content: hint.content,
        body: hint.body,
        received_at: world.clock.now(),
    };
    world.store.delivery_record(&delivery).await
}

/// What came of looking for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeOutcome {
    /// One was understood.
    Settled,
    /// There is none.
    Empty,
}

/// Makes of the oldest delivery what it is: a hint to look at a repository, or events. It may be done again
/// after a crash, and makes the same of it then.
///
/// # Errors
/// When the store does not answer; the delivery comes again.
pub async fn next(world: &World) -> Result<IntakeOutcome, StoreError> {
    let Some(delivery) = world.store.delivery_next().await? else { return Ok(IntakeOutcome::Empty) };
    let verdict = match (delivery.repository, delivery.source.split_once('/')) {
        (None, Some(("forge", name))) => forge::said(world, &delivery, name).await?,
        (Some(repository), Some(("daemon", daemon))) => {
            call_event(world, &delivery, repository, daemon).await?
        }
        (Some(repository), _) => look_soon(world, repository).await?,
        (None, _) => "nobody knows what it is about".to_owned(),
    };
    world.store.delivery_settle(delivery.id, &verdict, world.clock.now()).await?;
    Ok(IntakeOutcome::Settled)
}

async fn look_soon(world: &World, repository: RepositoryId) -> Result<String, StoreError> {
    if world.store.repository_get(repository).await?.is_none() {
        return Ok("the repository is gone".to_owned());
    }
    world.store.repository_hint(repository, world.clock.now()).await?;
    Ok("the repository is looked at next".to_owned())
}

async fn call_event(
    world: &World,
    delivery: &Delivery,
    repository: RepositoryId,
    daemon: &str,
) -> Result<String, StoreError> {
    let body: Json = serde_json::from_slice(&delivery.body).unwrap_or(Json::Null);
    let heads = world.store.branch_list(repository).await?;
    for head in heads.iter().filter(|head| head.role == BranchRole::Deploy) {
        let event = Event {
            id: EventId::new(world.clock.unique()),
            repository,
            kind: EventKind::Webhook,
            action: None,
            branch: Some(head.branch.clone()),
            commit: Some(head.commit.clone()),
            paths: Vec::new(),
            actor: Actor { name: "webhook".to_owned(), role: None, bot: true },
            labels: Vec::new(),
            draft: false,
            payload: json!({ "daemon": { "id": daemon }, "body": body }),
            taint: Taint::External,
            depth: 0,
            occurred_at: delivery.received_at,
        };
        world.store.event_record(&event, Some(&format!("{}/{}", delivery.id, head.branch))).await?;
    }
    Ok(format!("an event for `{daemon}`"))
}

//! The sweep: asks forges what happened, for what no webhook told. It comes to the same events, under the
//! same keys, with webhooks and without; those that it is first to bring were missed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::name::ForgeName;
use domain::repository::Repository;
use domain::time::Timestamp;
use ports::forge::{Fact, ForgeError, Host};
use ports::store::events::{Sweep, SweepOf};
use ports::store::{Recorded, StoreError};

use crate::installations;
use crate::intake::forge::fact_record;
use crate::world::World;

/// How often everything is asked.
pub const INTERVAL: Duration = Duration::from_secs(300);
/// So far back is asked again: lists of forges lag behind, and clocks differ.
pub(crate) const OVERLAP: Duration = Duration::from_secs(600);
/// What is younger may still be on its way here, and is left to the next sweep.
const ON_ITS_WAY: Duration = Duration::from_secs(60);
/// What is older has waited too long: nobody wants an answer to what they asked last week. GitHub keeps its
/// deliveries as long.
const OLDEST: Duration = Duration::from_secs(3 * 24 * 3600);
/// The longest wait after failures.
const LONGEST_WAIT: Duration = Duration::from_secs(2 * 3600);

/// What a sweep found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many repositories were asked about.
    pub repositories: usize,
    /// How many events no webhook had told, by forge.
    pub missed: BTreeMap<ForgeName, u64>,
    /// How many failed deliveries are on their way again, by forge.
    pub redelivered: BTreeMap<ForgeName, u64>,
}

/// Asks every forge where the server is at home, which deliveries failed, and what happened in each
/// repository. Who does not answer is left alone for longer and longer, and keeps nobody else waiting.
///
/// # Errors
/// When the store does not answer.
pub async fn all(world: &World) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    let mut away = BTreeSet::new();
    for (forge, host) in &world.hosts {
        if home(world, forge, &**host, &mut swept).await? == Asked::Away {
            away.insert(forge);
        }
    }
    for repository in installations::all(world).await? {
        let Some(place) = repository.origin.place() else { continue };
        let Some((forge, _)) = world.hosts.get_key_value(&place.forge) else { continue };
        if away.contains(forge) {
            continue;
        }
        // A forge that names a time has heard enough from this server, whichever repository it is about.
        if recent(world, forge, &repository, &mut swept).await? == Asked::Away {
            away.insert(forge);
        }
    }
    Ok(swept)
}

/// Asks a forge where the server is at home, and which deliveries failed.
async fn home(
    world: &World,
    forge: &ForgeName,
    host: &dyn Host,
    swept: &mut Swept,
) -> Result<Asked, StoreError> {
    let (of, now) = (SweepOf::Forge(forge.clone()), world.clock.now());
    let before = world.store.sweep_get(&of).await?;
    if before.is_some_and(|sweep| sweep.due_at > now) {
        return Ok(Asked::Away);
    }
    match installations::reconcile(world, forge, host).await? {
        Ok(changed) if changed == installations::Changed::default() => {}
        Ok(changed) => tracing::info!(forge = %forge, "at home on {forge}: {changed}"),
        Err(error) => {
            tracing::warn!(forge = %forge, %error, "{forge} does not say where the server is at home");
            world.store.sweep_record(&of, &next(before, Some(&error), now, now)).await?;
            return Ok(Asked::Away);
        }
    }
    // Nothing failed before the server was known there.
    let since = before.map_or(now, |sweep| since(Some(sweep.through), Timestamp::EPOCH, now));
    let through = match host.redeliver(since).await {
        Ok(number) => {
            if number > 0 {
                tracing::warn!(forge = %forge, "{number} deliveries of {forge} had failed; they come again");
                *swept.redelivered.entry(forge.clone()).or_default() += number as u64;
            }
            now
        }
        // What happened in the repositories is asked all the same.
        Err(error) => {
            tracing::warn!(forge = %forge, %error, "{forge} does not say which deliveries failed");
            before.map_or(now, |sweep| sweep.through)
        }
    };
    world.store.sweep_record(&of, &Sweep { through, due_at: now, failures: 0 }).await?;
    Ok(Asked::Done)
}

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// The forge can be asked for more.
    Done,
    /// It does not answer, or wants to be left alone for now.
    Away,
}

/// Asks a forge what happened in a repository.
async fn recent(
    world: &World,
    forge: &ForgeName,
    repository: &Repository,
    swept: &mut Swept,
) -> Result<Asked, StoreError> {
    let (of, now) = (SweepOf::Repository(repository.id), world.clock.now());
    let before = world.store.sweep_get(&of).await?;
    if before.is_some_and(|sweep| sweep.due_at > now) {
        return Ok(Asked::Done);
    }
    let since = since(before.map(|sweep| sweep.through), repository.created_at, now);
    let answer = world.forge.recent(repository, since).await;
    swept.repositories += 1;
    if let Ok(facts) = &answer {
        let missed = take(world, repository, facts, since, now).await?;
        if missed > 0 {
            *swept.missed.entry(forge.clone()).or_default() += missed;
        }
    }
    if let Err(error) = &answer {
        tracing::warn!(repository = %repository.path, %error, "not swept");
    }
    let error = answer.as_ref().err();
    world.store.sweep_record(&of, &next(before, error, repository.created_at, now)).await?;
    Ok(if error.is_some_and(|error| error.not_before.is_some()) { Asked::Away } else { Asked::Done })
}

/// Records facts; how many were new to the server.
async fn take(
    world: &World,
    repository: &Repository,
    facts: &[Fact],
    since: Timestamp,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let mut missed = 0;
    for fact in facts {
        if fact.occurred_at < since || fact.occurred_at.after(ON_ITS_WAY) > now {
            continue;
        }
        if let Recorded::New = fact_record(world, repository.id, fact).await? {
            let kind = fact.kind.as_str();
            tracing::warn!(repository = %repository.path, fact = fact.key, "no webhook told of `{kind}` {}", fact.key);
            missed += 1;
        }
    }
    Ok(missed)
}

/// From when on to ask: somewhat before the last answer, or where there was none since `first`.
fn since(through: Option<Timestamp>, first: Timestamp, now: Timestamp) -> Timestamp {
    let back = |from: Timestamp, span: Duration| {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(from.millis().saturating_sub(span))
    };
    through.map_or(first, |through| back(through, OVERLAP).max(first.min(through))).max(back(now, OLDEST))
}

/// What to remember after asking.
fn next(before: Option<Sweep>, error: Option<&ForgeError>, first: Timestamp, now: Timestamp) -> Sweep {
    let Some(error) = error else {
        // It may lie ahead: nothing is asked about the time before the server was at home there.
        let through = before.map_or(now, |sweep| sweep.through.max(now));
        return Sweep { through, due_at: now, failures: 0 };
    };
    let failures = before.map_or(0, |sweep| sweep.failures).saturating_add(1);
    let wait = INTERVAL.saturating_mul(1 << failures.min(12)).min(LONGEST_WAIT);
    let due_at = error.not_before.unwrap_or_else(|| now.after(wait));
    Sweep { through: before.map_or(first, |sweep| sweep.through), due_at, failures }
}

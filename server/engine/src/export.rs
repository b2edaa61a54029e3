//! The execution log of a run, in the shape that the product promises to other programs.

use domain::id::RunId;
use domain::money::NanoUsd;
use domain::run::{Run, RunState, RunStatus};
use domain::stage::StageRecord;
use domain::value::Value;
use serde_json::{Value as Json, json};

use crate::refusal::Refusal;
use crate::world::World;

/// What a run made: the output of the last stage that made something.
///
/// # Errors
/// When the journal cannot be read.
pub async fn output(world: &World, run: &Run) -> Result<Value, Refusal> {
    let journal = world.store.run_journal(run.id).await?;
    let last = journal
        .iter()
        .rev()
        .filter(|record| !record.path.as_str().contains('['))
        .find_map(|record| record.output.as_ref());
    Ok(last.map_or_else(|| Value::trusted(Json::Null), |output| output.value.clone()))
}

/// The execution log: `execution_id`, `daemon_id`, `user_id`, `started_at`, `completed_at`, `status`,
/// `stages` with their `cost`, `total_cost`. Dollars are numbers here because readers expect them so;
/// the ledger's integers are beside them as `nano_usd`.
///
/// # Errors
/// When there is no such run.
pub async fn execution(world: &World, id: RunId) -> Result<Json, Refusal> {
    let Some(run) = world.store.run_get(id).await? else {
        return Err(Refusal::not_found("run_not_found", format!("there is no run {id}")));
    };
    let journal = world.store.run_journal(id).await?;
    let completed_at = match &run.state {
        RunState::Ended { at, .. } => Some(at.to_string()),
        RunState::Queued { .. } | RunState::Running { .. } | RunState::Waiting => None,
    };
    let repository = world.store.repository_get(run.repository).await?;
    let daemon = repository.map_or_else(|| run.daemon.to_string(), |r| format!("{}/{}", r.path, run.daemon));
    let total: NanoUsd = journal.iter().map(|record| record.usage.cost()).sum();
    Ok(json!({
        "execution_id": run.id.to_string(),
        "daemon_id": daemon,
        "commit": run.commit.as_str(),
        "user_id": run.cause.actor.name,
        "started_at": run.started_at.map(|at| at.to_string()),
        "completed_at": completed_at,
        "status": status(run.state.status()),
        "stages": journal.iter().map(stage).collect::<Vec<_>>(),
        "total_cost": { "credits": total.credits().count(), "usd": dollars(total), "nano_usd": total.nanos() },
    }))
}

fn stage(record: &StageRecord) -> Json {
    let cost = record.usage.cost();
    let duration = record.ended_at.since(record.started_at);
    json!({
        "name": record.path.as_str(),
        "status": record.end.as_str(),
        "duration_ms": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        "cost": {
            "tokens": record.usage.tokens().total(),
            "credits": cost.credits().count(),
            "usd": dollars(cost),
            "nano_usd": cost.nanos(),
        },
        "output": record.output.as_ref().map(|output| output.value.json.clone()),
    })
}

/// The words of the execution log; those that it does not know stay as they are.
fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Succeeded => "success",
        RunStatus::TimedOut => "timeout",
        other => other.as_str(),
    }
}

/// Dollars for display, from the text that says them exactly.
fn dollars(amount: NanoUsd) -> f64 {
    amount.to_string().replace('$', "").parse().unwrap_or(0.0)
}

//! The time that a run may take: `limits.timeout` of wall-clock time while it is worked on, over all its
//! attempts, the runs that it calls included. Waiting in the queue does not count.

use std::time::Duration;

use domain::run::{Failure, Run, RunState};
use domain::time::Timestamp;
use ports::store::StoreError;

use crate::report::span;
use crate::world::World;
use crate::{address, stop};

/// How long a run that is being ended may clean up, at most; never longer than its whole time limit.
const CLEAN_UP: Duration = Duration::from_secs(5 * 60);

/// What is left of a run's time when an attempt begins.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// Until its time is up.
    pub(crate) left: Duration,
    /// Whose limit that is.
    pub(crate) limit: Limit,
    /// How long it may clean up when it is ended before.
    pub(crate) clean_up: Duration,
    /// Until also cleaning up is over, however many workers die at it.
    last: Duration,
}

/// A time limit: of a run, or of one that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The run's own.
    Own(Duration),
    /// Of a run that called it.
    Caller(Duration),
    /// Of cleaning up.
    CleanUp(Duration),
}

impl Limit {
    /// The failure of what is under way when the time is up.
    pub(crate) fn passed(self) -> Failure {
        let message = match self {
            Self::Own(limit) => format!("the run took longer than its time limit of {}", span(limit)),
            Self::Caller(limit) => {
                format!("the run that called this one took longer than its time limit of {}", span(limit))
            }
            Self::CleanUp(limit) => format!("cleaning up took longer than {}", span(limit)),
        };
        Failure::new("timed_out", message)
    }
}

impl Allowance {
    /// What is left of the time of a run that a worker just took up, by its own limit and by those of all
    /// that wait for it.
    pub(crate) async fn of(world: &World, run: &Run, limit: Duration) -> Result<Self, StoreError> {
        let now = world.clock.now();
        // Whoever was never taken up before has called nobody.
        let used = if run.attempt == 1 { run.worked } else { used(world, run, now).await? };
        let clean_up = CLEAN_UP.min(limit);
        let mut allowance = Self {
            left: limit.saturating_sub(used),
            limit: Limit::Own(limit),
            clean_up,
            last: (limit + clean_up).saturating_sub(run.worked),
        };
        let mut caller = run.cause.parent.as_ref().map(|parent| parent.run);
        while let Some(id) = caller {
            let Some(run) = world.store.run_get(id).await? else { break };
            // A caller whose manifest cannot be read now has a limit all the same, when it goes on.
            if let Ok(manifest) = address::manifest_of_run(world, &run).await {
                let limit = manifest.limits.timeout;
                let left = limit.saturating_sub(self::used(world, &run, now).await?);
                if left < allowance.left {
                    allowance.left = left;
                    allowance.limit = Limit::Caller(limit);
                }
            }
            caller = run.cause.parent.as_ref().map(|parent| parent.run);
        }
        Ok(allowance)
    }

    /// How long cleaning up may take that begins when an attempt has lasted so long.
    pub(crate) fn clean_up_after(&self, lasted: Duration) -> Duration {
        self.clean_up.min(self.last.saturating_sub(lasted))
    }

    /// Why what is under way ends when the time is up.
    pub(crate) fn time_up(&self) -> stop::StopReason {
        stop::StopReason::TimeUp(self.limit)
    }
}

/// The time that was spent on a run before now: in attempts that are over, and on the runs that it called.
async fn used(world: &World, run: &Run, now: Timestamp) -> Result<Duration, StoreError> {
    let called = world.store.run_children(run.id).await?;
    let spans = called.iter().filter_map(|run| {
        let until = match &run.state {
            RunState::Ended { at, .. } => *at,
            RunState::Queued { .. } | RunState::Running { .. } | RunState::Waiting => now,
        };
        Some((run.started_at?, until))
    });
    Ok(run.worked + together(spans.collect()))
}

/// How long at least one of these spans lasted.
fn together(mut spans: Vec<(Timestamp, Timestamp)>) -> Duration {
    spans.sort_unstable();
    let mut sum = Duration::ZERO;
    let mut covered = Timestamp::from_millis(i64::MIN);
    for (from, until) in spans {
        sum += until.since(from.max(covered));
        covered = covered.max(until);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spans: &[(i64, i64)], expect: u64) {
        let at = Timestamp::from_millis;
        let spans = spans.iter().map(|(from, until)| (at(*from), at(*until))).collect();
        assert_eq!(together(spans), Duration::from_millis(expect));
    }

    #[test]
    fn spans_side_by_side_count_once() {
        check(&[], 0);
        check(&[(10, 20), (30, 45)], 25);
        check(&[(30, 45), (10, 20), (12, 18), (15, 32)], 35);
        check(&[(10, 20), (10, 20)], 10);
        check(&[(20, 10)], 0);
    }
}

//! Trying a stage: its time limit, and how often it is tried again.

use std::time::Duration;

use domain::run::Failure;
use manifest::model::{Retry as Policy, StageKind};
use ports::Retry;

use super::{At, Ended, Trouble};
use crate::report::span;

/// Runs a stage until it succeeds, waits, or has been tried often enough. An author who asks for
/// retries gets them for every failure; without, a stage is never run twice by itself.
pub(crate) async fn tried(at: &At<'_>) -> Ended {
    // The journal has what the first try made, and a called run has ended: neither can be tried anew.
    let once = matches!(at.stage.kind, StageKind::Foreach(_) | StageKind::Daemon(_));
    let policy = if once { Policy::default() } else { at.stage.retry };
    let mut usage = domain::stage::StageUsage::default();
    for attempt in 0..=policy.limit {
        let mut made = match within(at, at.stage.timeout).await {
            Ended::Made(made) => made,
            waits @ Ended::Waits(_) => return waits,
        };
        usage.add(std::mem::take(&mut made.usage));
        let again = made.trouble.is_some() && attempt < policy.limit && !at.cancel.is_cancelled();
        if !again {
            made.usage = usage;
            return Ended::Made(made);
        }
        let wait = wait_before(&policy, attempt);
        if let Some(trouble) = &made.trouble {
            at.note(format!("{}; tried again in {}", trouble.failure.message, span(wait)));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = at.cancel.cancelled() => {
                made.usage = usage;
                return Ended::Made(made);
            }
        }
        if let Some(work) = made.work.take() {
            at.run.workspace.again(at.path, work).await;
        }
    }
    unreachable!("the last attempt returns")
}

/// Runs a stage once, for at most so long.
async fn within(at: &At<'_>, limit: Option<Duration>) -> Ended {
    let Some(limit) = limit else { return super::run(at).await };
    let inner = At { cancel: at.cancel.child_token(), ..*at };
    let running = super::run(&inner);
    tokio::pin!(running);
    let in_time = tokio::select! {
        ended = &mut running => return ended,
        () = tokio::time::sleep(limit) => false,
    };
    debug_assert!(!in_time);
    // The stage ends itself, so that its jail is empty and its work recorded before anything else.
    inner.cancel.cancel();
    match running.await {
        Ended::Made(mut made) => {
            if made.trouble.is_some() {
                made.trouble = Some(timed_out(limit));
            }
            Ended::Made(made)
        }
        waits @ Ended::Waits(_) => waits,
    }
}

/// The trouble of a stage whose time is up.
pub(super) fn timed_out(limit: Duration) -> Trouble {
    let message = format!("took longer than its time limit of {}", span(limit));
    Trouble { failure: Failure::new("timed_out", message), timed_out: true, retry: Retry::Later }
}

/// The wait before the next attempt: `duration × factor^attempt`, at most `max_duration`.
pub(crate) fn wait_before(policy: &Policy, attempt: u32) -> Duration {
    let factor = policy.factor.max(1.0).powi(i32::try_from(attempt).unwrap_or(i32::MAX));
    let most = if policy.max_wait.is_zero() { Duration::from_secs(3600) } else { policy.max_wait };
    let seconds = (policy.wait.as_secs_f64() * factor).min(most.as_secs_f64());
    Duration::from_secs_f64(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let policy =
            Policy { limit: 9, wait: Duration::from_secs(1), factor: 2.0, max_wait: Duration::from_secs(5) };
        let waits: Vec<u64> = (0..4).map(|attempt| wait_before(&policy, attempt).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5]);
        let endless = Policy { factor: 10.0, max_wait: Duration::ZERO, ..policy };
        assert_eq!(wait_before(&endless, u32::MAX), Duration::from_secs(3600));
    }
}

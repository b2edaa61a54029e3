//! How an attempt at a run ends before its time, and what its stages may still do then.

use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::allowance::Limit;

/// Ends an attempt early, in two steps: first what is under way, then also what cleans up after it.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    work: CancellationToken,
    clean_up: CancellationToken,
    reasons: Mutex<Reasons>,
}

#[derive(Debug, Default)]
struct Reasons {
    work: Option<StopReason>,
    clean_up: Option<StopReason>,
}

/// Why an attempt ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// Someone asked.
    Cancelled,
    /// Time is up.
    TimeUp(Limit),
    /// The lease was lost, or the store does not answer: another worker will go on.
    Lost,
    /// This worker stops; another will go on.
    Shutdown,
}

impl StopReason {
    /// Whether the run goes on, with another worker.
    pub(crate) fn leaves(self) -> bool {
        matches!(self, Self::Lost | Self::Shutdown)
    }
}

impl Stop {
    /// Ends what is under way; when the worker leaves the run, everything. That outweighs what was said
    /// before, otherwise the first reason stands.
    pub(crate) fn because(&self, reason: StopReason) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if reason.leaves() {
            *reasons = Reasons { work: Some(reason), clean_up: Some(reason) };
            self.clean_up.cancel();
        } else {
            reasons.work.get_or_insert(reason);
        }
        drop(reasons);
        self.work.cancel();
    }

    /// Ends also what cleans up.
    pub(crate) fn at_last(&self, reason: StopReason) {
        if reason.leaves() {
            return self.because(reason);
        }
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clean_up.get_or_insert(reason);
        self.clean_up.cancel();
    }

    /// Why what was under way was ended.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).work
    }

    /// Whether the run is being ended, by this worker: then what cleans up may begin.
    pub(crate) fn ends_run(&self) -> bool {
        self.reason().is_some_and(|reason| !reason.leaves())
    }

    /// Why a stage is ended early, as far as it is.
    pub(crate) fn reason_for(&self, turn: Turn) -> Option<StopReason> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        match turn {
            Turn::Work | Turn::Never => reasons.work,
            Turn::CleanUp => reasons.clean_up,
        }
    }

    /// What ends the stages of a list.
    pub(crate) fn token(&self, turn: Turn) -> &CancellationToken {
        match turn {
            Turn::Work | Turn::Never => &self.work,
            Turn::CleanUp => &self.clean_up,
        }
    }
}

/// What a stage may do when it is its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It works.
    Work,
    /// It works although the run is being ended, for a time of its own.
    CleanUp,
    /// The run is being ended; it does not begin any more.
    Never,
}

/// What a list of stages stands under.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Under<'a> {
    /// What its stages do.
    pub(crate) turn: Turn,
    /// Ends them.
    pub(crate) cancel: &'a CancellationToken,
}

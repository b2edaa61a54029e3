//! A list of stages: which may begin when, side by side where their needs allow it, and what is known at
//! its end.

use std::collections::{BTreeMap, BTreeSet};

use domain::run::Failure;
use domain::stage::{StageEnd, StagePath, StageRecord};
use domain::value::Value;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use manifest::expression::RunSoFar;
use manifest::model::Stage;
use ports::store::runs::NewRun;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::execution::Execution;
use crate::stages::At;
use crate::stop::{StopReason, Turn, Under};

/// Where a list of stages stands in its run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// The manifest's own list.
    Root,
    /// Its `on_failure` list.
    OnFailure,
    /// Inside a `foreach`, for one item.
    Item { list: &'a StagePath, index: usize },
}

impl Place<'_> {
    fn path(self, name: &str) -> StagePath {
        match self {
            Self::Root => StagePath::root(name),
            Self::OnFailure => StagePath::root(&format!("on_failure/{name}")),
            Self::Item { list, index } => list.item(index, name),
        }
    }
}

/// What came of a list of stages.
#[derive(Debug)]
pub(crate) struct Graph {
    /// What is known at the end.
    pub(crate) context: Context,
    /// The records, in the order in which they ended.
    pub(crate) records: Vec<StageRecord>,
    /// The runs to be queued, when some stage waits for runs.
    pub(crate) waits: Option<Vec<NewRun>>,
}

impl Graph {
    /// Why the list failed.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let broken = self.records.iter().find(|record| record.end.breaks_run())?;
        broken.end.failure().cloned()
    }

    /// What the last stage that made something made.
    pub(crate) fn last_output(&self) -> Option<Value> {
        self.records.iter().rev().find_map(|record| record.output.as_ref()).map(|output| output.value.clone())
    }
}

/// What comes after a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Others, or something that takes a while.
    More,
    /// The end of the run, at once.
    End,
}

/// What came of a stage for its list.
#[derive(Debug)]
pub(crate) enum Progressed {
    /// It ended, and the journal has it; whether the workspace is another than at the start.
    Recorded(Box<StageRecord>, Option<bool>),
    /// It waits for runs.
    Waits(Vec<NewRun>),
    /// The attempt is over; nothing was recorded.
    Stopped,
}

impl Execution<'_> {
    /// Runs a list of stages as far as it goes.
    pub(crate) async fn graph(
        &self,
        stages: &[Stage],
        place: Place<'_>,
        context: Context,
        under: Under<'_>,
    ) -> Graph {
        let mut graph = Graph { context, records: Vec::new(), waits: None };
        let mut progress = Progress::default();
        let mut waiting = Vec::new();
        let mut running = FuturesUnordered::new();
        loop {
            // A stage that waited for runs when the run was ended waits no longer.
            let stuck = if self.stop.ends_run() && running.is_empty() { waiting.pop() } else { None };
            let given_up = stuck.map(|stage| (stage, Turn::Never, CancellationToken::new()));
            let due: Vec<_> = given_up.into_iter().chain(self.due(&mut progress, stages, under)).collect();
            let alone = running.is_empty() && waiting.is_empty() && due.len() == 1;
            let last = alone && progress.started.len() == stages.len();
            let next = if last { self.after_all(place) } else { Next::More };
            for (stage, turn, cancel) in due {
                let path = place.path(&stage.name);
                let obstacle = progress.obstacle(stage);
                let context = self.seen_by(&graph.context, obstacle);
                running.push(async move {
                    let at = At { run: self, stage, path: &path, context: &context, turn, cancel };
                    let ended = self.stage(&at, obstacle, next).await;
                    (stage, ended)
                });
            }
            let Some((stage, ended)) = running.next().await else { break };
            match ended {
                Progressed::Recorded(record, changed) => {
                    progress.end(stage, &record.end);
                    graph.context.changed = changed.unwrap_or(graph.context.changed);
                    graph.context.learn(&stage.name, &record);
                    graph.records.push(*record);
                }
                Progressed::Waits(mut calls) => {
                    graph.waits.get_or_insert_default().append(&mut calls);
                    waiting.push(stage);
                }
                Progressed::Stopped => {}
            }
        }
        graph
    }

    /// The stages whose turn it is, each with what it may do and what ends it.
    fn due<'s>(
        &self,
        progress: &mut Progress<'s>,
        stages: &'s [Stage],
        under: Under<'_>,
    ) -> Vec<(&'s Stage, Turn, CancellationToken)> {
        let mut due = Vec::new();
        while let Some(stage) = progress.next(stages) {
            let Some((turn, cancel)) = self.turn(stage, under) else { break };
            progress.started.insert(&stage.name);
            due.push((stage, turn, cancel));
        }
        due
    }

    /// What a stage may do now; nothing when only its list has ended, or this worker leaves the run. Once
    /// a run is being ended, stages whose `if` asks for that clean up, as in GitHub's workflows.
    fn turn(&self, stage: &Stage, under: Under<'_>) -> Option<(Turn, CancellationToken)> {
        if !under.cancel.is_cancelled() {
            return Some((under.turn, under.cancel.child_token()));
        }
        if !self.stop.ends_run() {
            return None;
        }
        let last = self.stop.token(Turn::CleanUp);
        let cleans = under.turn == Turn::Work && asks_status(stage) && !last.is_cancelled();
        let turn = if cleans { Turn::CleanUp } else { Turn::Never };
        Some((turn, last.child_token()))
    }

    fn seen_by(&self, context: &Context, obstacle: Option<&str>) -> Context {
        let mut context = context.clone();
        context.status = match (self.stop.reason(), obstacle) {
            (Some(StopReason::Cancelled), _) => RunSoFar::Cancelled,
            (Some(StopReason::TimeUp(_)), _) | (_, Some(_)) => RunSoFar::Failure,
            (_, None) => context.status,
        };
        context
    }

    /// What comes after the last stage of a list. To find out what a run wants done may take a while, in
    /// which what the stage cost must not be lost.
    fn after_all(&self, place: Place<'_>) -> Next {
        let at_once = self.manifest.outcomes.is_empty() && self.manifest.on_failure.is_empty();
        match place {
            Place::Root if at_once => Next::End,
            Place::Root | Place::OnFailure | Place::Item { .. } => Next::More,
        }
    }
}

/// How far the stages of a list are.
#[derive(Debug, Default)]
struct Progress<'s> {
    started: BTreeSet<&'s str>,
    ended: BTreeSet<&'s str>,
    /// Stages that failed, and all that need them, near or far: each with the one that failed.
    broken: BTreeMap<&'s str, &'s str>,
}

impl<'s> Progress<'s> {
    fn next(&self, stages: &'s [Stage]) -> Option<&'s Stage> {
        stages.iter().find(|stage| {
            !self.started.contains(stage.name.as_str())
                && stage.needs.iter().all(|need| self.ended.contains(need.as_str()))
        })
    }

    /// A stage that failed and that this one needs, near or far.
    fn obstacle(&self, stage: &Stage) -> Option<&'s str> {
        stage.needs.iter().find_map(|need| self.broken.get(need.as_str())).copied()
    }

    fn end(&mut self, stage: &'s Stage, end: &StageEnd) {
        self.ended.insert(&stage.name);
        let failed = end.breaks_run() || matches!(end, StageEnd::Cancelled);
        let culprit = if failed { Some(stage.name.as_str()) } else { self.obstacle(stage) };
        if let Some(culprit) = culprit {
            self.broken.insert(&stage.name, culprit);
        }
    }
}

/// Whether a stage's `if` asks how the run goes (`failure()`, `always()`, `cancelled()`).
pub(crate) fn asks_status(stage: &Stage) -> bool {
    stage.condition.as_ref().is_some_and(manifest::expression::Expression::asks_status)
}

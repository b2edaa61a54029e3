//! One attempt at a run: its stages in the order that their needs allow, each recorded before another
//! builds on it. What the journal holds is never done again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use domain::ledger::Entry;
use domain::memo::{Memo, MemoKey, MemoKind, MemoWrite};
use domain::run::{Failure, Run};
use domain::stage::{StageEnd, StageOutput, StagePath, StageRecord, StageUsage};
use domain::time::Timestamp;
use domain::value::Value;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use manifest::Manifest;
use manifest::expression::RunSoFar;
use manifest::model::Stage;
use ports::store::memos::Kept;
use ports::store::runs::NewRun;
use ports::store::{Fenced, LeaseProof, StoreError};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::logs::RunLog;
use crate::report::span;
use crate::session;
use crate::stages::{At, Ended, Made, tried, wait_before};
use crate::stop::{Stop, StopReason, Turn, Under};
use crate::till::Till;
use crate::variables::{self, Held, Variables};
use crate::workspace::{Joined, Workspace};
use crate::world::World;

/// An attempt at a run.
#[derive(Debug)]
pub(crate) struct Execution<'w> {
    pub(crate) world: &'w World,
    pub(crate) run: &'w Run,
    pub(crate) manifest: &'w Manifest,
    pub(crate) workspace: &'w Workspace,
    pub(crate) variables: &'w Variables,
    pub(crate) log: &'w RunLog<'w>,
    pub(crate) proof: &'w LeaseProof,
    /// Ends everything, and why.
    pub(crate) stop: &'w Stop,
    /// What earlier attempts recorded.
    pub(crate) journal: BTreeMap<StagePath, StageRecord>,
    /// Held while an entry of the journal is made and stored.
    pub(crate) recording: tokio::sync::Mutex<()>,
    /// The run's last stage, until it is stored together with the run's end.
    pub(crate) last: Mutex<Option<StageRecord>>,
    /// What models are paid from; what earlier attempts spent is gone.
    pub(crate) till: Till,
}

/// What comes after a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Others, or something that takes a while.
    More,
    /// The end of the run, at once.
    End,
}

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

    /// Runs one stage, unless the journal has it, and records what came of it.
    async fn stage(&self, at: &At<'_>, obstacle: Option<&str>, next: Next) -> Progressed {
        if let Some(record) = self.journal.get(at.path) {
            return Progressed::Recorded(Box::new(record.clone()), self.changed_by(record).await);
        }
        let mut so_far = SoFar { started_at: self.world.clock.now(), usage: StageUsage::default() };
        for tries in 0.. {
            let last = tries >= at.stage.retry.limit;
            let once = Once { obstacle, next, last };
            match self.holding(at, once, &mut so_far).await {
                Tried::Through(progressed) => return progressed,
                Tried::Again(failure) => self.rest(at, tries, &failure).await,
            }
        }
        unreachable!("the last try is through")
    }

    /// Runs a stage once, with the variables that it reads in sight.
    async fn holding(&self, at: &At<'_>, once: Once<'_>, so_far: &mut SoFar) -> Tried {
        let held = self.variables.hold(self.world, self.manifest, at.stage).await;
        match held {
            Ok(held) if held.is_empty() => self.once(at, held, once, so_far).await,
            Ok(held) => {
                let context = at.context.with_state(held.iter().map(|(name, known)| (name, &known.value)));
                let at = At { context: &context, cancel: at.cancel.clone(), ..*at };
                self.once(&at, held, once, so_far).await
            }
            Err(failure) => {
                let _order = self.recording.lock().await;
                let made = Made::failed(failure);
                let end = self.end_of(at, &made);
                let record = self.entry(at, end, made, so_far);
                Tried::Through(self.stored(Box::new(record), None, once.next).await)
            }
        }
    }

    async fn once(&self, at: &At<'_>, held: Held, once: Once<'_>, so_far: &mut SoFar) -> Tried {
        let (end, made) = match self.came_of(at, once.obstacle).await {
            Came::Waits(calls) => return Tried::Through(Progressed::Waits(calls)),
            Came::End(end, made) => (end, made),
        };
        let given_up = self.stop.reason().is_some_and(StopReason::leaves);
        if given_up && !matches!(end, StageEnd::Succeeded) {
            return Tried::Through(Progressed::Stopped);
        }
        // A stage's work becomes a part of the branch together with its entry: the last entry that has a
        // snapshot names the tip, and nothing is in it that is not recorded.
        let _order = self.recording.lock().await;
        let before = self.workspace.tip().await;
        let (end, mut made, joined) = self.join(at, end, *made).await;
        let said = made.said.take().filter(|_| matches!(end, StageEnd::Succeeded));
        let changed = joined.as_ref().map(|joined| joined.changed).or(made.changed);
        let mut record = self.entry(at, end, made, so_far);
        record.snapshot = joined.as_ref().map(|joined| joined.commit.clone());
        let mut wanted = match self.wanted(at, &record, &held).await {
            Ok(wanted) => wanted,
            Err(failure) => {
                self.spoil(at, &mut record, failure);
                Vec::new()
            }
        };
        record.state = self.variables.seen(&wanted).await;
        let keeps = matches!(record.end, StageEnd::Succeeded);
        let mut writes: Vec<MemoWrite> = wanted.iter().map(|(write, _)| write.clone()).collect();
        writes.extend(said.as_ref().filter(|_| keeps).map(|said| said.write.clone()));
        if !writes.is_empty() {
            match self.keep(&mut record, &writes).await {
                Ok(Kept::Written) => {
                    self.variables.recorded(&record.state, wanted).await;
                    return Tried::Through(Progressed::Recorded(Box::new(record), changed));
                }
                Ok(Kept::Lost) | Err(_) => {
                    self.stop.because(StopReason::Lost);
                    return Tried::Through(Progressed::Stopped);
                }
                Ok(Kept::Conflict(key, there)) => {
                    let failure = first_come(&key, there.as_deref());
                    if !once.last && !at.cancel.is_cancelled() {
                        if let Some(joined) = &joined {
                            self.workspace.rewind(at.path, before, joined).await;
                        }
                        self.variables.forget(at.stage).await;
                        so_far.usage = record.usage;
                        return Tried::Again(failure);
                    }
                    self.spoil(at, &mut record, failure);
                }
                Ok(Kept::Full(key)) => self.spoil(at, &mut record, variables::full(&key.name)),
            }
            wanted.clear();
            record.state = self.variables.seen(&wanted).await;
        }
        Tried::Through(self.stored(Box::new(record), changed, once.next).await)
    }

    /// What the journal is to say of a stage.
    fn entry(&self, at: &At<'_>, end: StageEnd, made: Made, so_far: &mut SoFar) -> StageRecord {
        let mut usage = std::mem::take(&mut so_far.usage);
        usage.add(made.usage);
        StageRecord {
            path: at.path.clone(),
            end: self.named(at, end),
            output: made.result.map(|value| StageOutput { name: at.stage.output.clone(), value }),
            snapshot: None,
            usage,
            state: Vec::new(),
            started_at: so_far.started_at,
            ended_at: self.world.clock.now(),
        }
    }

    /// What a stage that has succeeded sets; it knows what it made itself.
    async fn wanted(
        &self,
        at: &At<'_>,
        record: &StageRecord,
        held: &Held,
    ) -> Result<Vec<(MemoWrite, Value)>, Failure> {
        if at.stage.set.is_empty() || !matches!(record.end, StageEnd::Succeeded) {
            return Ok(Vec::new());
        }
        let mut context = at.context.clone();
        context.learn(&at.stage.name, record);
        self.variables.wanted(self.world, self.run, at.stage, (&context, held)).await
    }

    /// A stage that did well, and whose end could not be kept.
    fn spoil(&self, at: &At<'_>, record: &mut StageRecord, failure: Failure) {
        let end = self.end_of(at, &Made::failed(failure));
        record.end = self.named(at, end);
        record.output = None;
    }

    /// Stores an entry that sets nothing.
    async fn stored(&self, mut record: Box<StageRecord>, changed: Option<bool>, next: Next) -> Progressed {
        match self.record(&mut record, next).await {
            Ok(Fenced::Written) => {
                self.variables.recorded(&record.state, Vec::new()).await;
                Progressed::Recorded(record, changed)
            }
            Ok(Fenced::Lost) | Err(_) => {
                self.stop.because(StopReason::Lost);
                Progressed::Stopped
            }
        }
    }

    /// Stores the stage's lines, then its entry together with what it wants kept.
    async fn keep(&self, record: &mut StageRecord, writes: &[MemoWrite]) -> Result<Kept, StoreError> {
        if self.log.flush().await? == Fenced::Lost {
            return Ok(Kept::Lost);
        }
        let calls = self.till.entries(record);
        let kept = self.world.store.stage_keep(self.proof, record, &calls, writes).await?;
        self.told(record, &calls).await;
        Ok(kept)
    }

    /// Waits until a stage is tried again, which was too late to keep what it made.
    async fn rest(&self, at: &At<'_>, tries: u32, failure: &Failure) {
        let wait = wait_before(&at.stage.retry, tries);
        at.note(format!("{}; tried again in {}", failure.message, span(wait)));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = at.cancel.cancelled() => {}
        }
    }

    /// Runs a stage, if it is to run.
    async fn came_of(&self, at: &At<'_>, obstacle: Option<&str>) -> Came {
        let failed = |failure| {
            let made = Made::failed(failure);
            Came::End(self.end_of(at, &made), Box::new(made))
        };
        if at.turn == Turn::Never {
            return Came::End(StageEnd::Cancelled, Box::default());
        }
        match reason_to_skip(at.stage, at.context, obstacle) {
            Err(failure) => failed(failure),
            Ok(Some(reason)) => {
                at.note(format!("skipped: {reason}"));
                Came::End(StageEnd::Skipped { reason }, Box::default())
            }
            Ok(None) => match tried(at).await {
                Ended::Made(made) => Came::End(self.end_of(at, &made), made),
                Ended::Waits(_) if at.turn == Turn::CleanUp => {
                    failed(Failure::new("run_ending", "a run that is being ended calls no other"))
                }
                Ended::Waits(_) if self.stop.ends_run() => Came::End(StageEnd::Cancelled, Box::default()),
                Ended::Waits(calls) => Came::Waits(calls),
            },
        }
    }

    /// How a stage ended: why it was ended early outweighs how the stage itself took it.
    fn end_of(&self, at: &At<'_>, made: &Made) -> StageEnd {
        let tolerated = at.stage.continue_on_error;
        match (&made.trouble, self.stop.reason_for(at.turn)) {
            (None, _) => StageEnd::Succeeded,
            (Some(_), Some(StopReason::Cancelled)) => StageEnd::Cancelled,
            (Some(_), Some(StopReason::TimeUp(limit))) => {
                StageEnd::TimedOut { failure: limit.passed(), tolerated: false }
            }
            (Some(trouble), _) if trouble.timed_out => {
                StageEnd::TimedOut { failure: trouble.failure.clone(), tolerated }
            }
            (Some(trouble), _) => StageEnd::Failed { failure: trouble.failure.clone(), tolerated },
        }
    }

    /// Brings what a stage left into the run's branch; where that is in conflict with what another left,
    /// the stage has failed.
    async fn join(&self, at: &At<'_>, end: StageEnd, mut made: Made) -> (StageEnd, Made, Option<Joined>) {
        let Some(work) = made.work.take() else { return (end, made, None) };
        match self.workspace.join(self.world, self.run, work).await {
            Ok(joined) => (end, made, Some(joined)),
            // How the stage itself ended says more.
            Err(_) if !matches!(end, StageEnd::Succeeded) => (end, made, None),
            Err(failure) => {
                made.result = None;
                made.trouble = Some(failure.into());
                (self.end_of(at, &made), made, None)
            }
        }
    }

    /// An end whose failure names its stage, and is in the log.
    fn named(&self, at: &At<'_>, end: StageEnd) -> StageEnd {
        if let Some(failure) = end.failure() {
            at.note(failure.message.clone());
        }
        match end {
            StageEnd::Failed { failure, tolerated } => {
                StageEnd::Failed { failure: failure.at(at.path.as_str()), tolerated }
            }
            StageEnd::TimedOut { failure, tolerated } => {
                StageEnd::TimedOut { failure: failure.at(at.path.as_str()), tolerated }
            }
            StageEnd::Succeeded | StageEnd::Cancelled | StageEnd::Skipped { .. } => end,
        }
    }

    /// Stores the stage's lines and its entry, in that order: an entry never precedes its log. When the
    /// run's end follows, the entry is stored with it, unless it has calls that budgets are to be told of.
    async fn record(&self, record: &mut StageRecord, next: Next) -> Result<Fenced, StoreError> {
        if self.log.flush().await? == Fenced::Lost {
            return Ok(Fenced::Lost);
        }
        let calls = self.till.entries(record);
        if next == Next::End && calls.is_empty() {
            self.till.tell(self.log);
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(record.clone());
            return Ok(Fenced::Written);
        }
        let recorded = self.world.store.stage_record(self.proof, record, &calls).await?;
        self.told(record, &calls).await;
        Ok(recorded)
    }

    /// Tells of the budgets that a stage's calls have passed.
    async fn told(&self, record: &StageRecord, calls: &[Entry]) {
        if calls.is_empty() {
            self.till.tell(self.log);
        } else {
            self.till.recorded(&record.path, self.log).await;
        }
    }

    /// The last stage's entry, for whoever stores it.
    pub(crate) fn take_last(&self) -> Option<StageRecord> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
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

    async fn changed_by(&self, record: &StageRecord) -> Option<bool> {
        let snapshot = record.snapshot.as_ref()?;
        self.workspace.differs(self.world, self.run, snapshot).await.ok()
    }

    /// A name for the jail of a stage: unique among all that run at the same time.
    pub(crate) fn jail_name(&self, path: &StagePath) -> String {
        let unique = self.world.clock.unique().simple().to_string();
        let slug: String = path.as_str().chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        format!("{}-{slug}-{}", &self.run.id.uuid().simple().to_string()[20..], &unique[20..])
    }

    /// The message of a stage's commit: what ran, in trailers (see `git help interpret-trailers`).
    pub(crate) fn commit_message(&self, path: &StagePath, trailers: &[(&str, &str)]) -> String {
        let own = [
            ("Spellbook-Run", self.run.id.to_string()),
            ("Spellbook-Daemon", self.run.daemon.to_string()),
            ("Spellbook-Stage", path.to_string().replace(char::is_control, " ")),
            ("Spellbook-Digest", self.run.digest.to_string()),
        ];
        let mut message = format!("{}: {}\n", self.run.daemon, path.as_str().replace(char::is_control, " "));
        for (key, value) in own.iter().map(|(key, value)| (*key, value.as_str())) {
            message.push_str(&format!("\n{key}: {value}"));
        }
        for (key, value) in trailers {
            message.push_str(&format!("\nSpellbook-{key}: {value}"));
        }
        message.push('\n');
        message
    }
}

/// How a stage is run.
#[derive(Debug, Clone, Copy)]
struct Once<'o> {
    /// A stage that failed and that this one needs.
    obstacle: Option<&'o str>,
    next: Next,
    /// Whether it is not tried again when somebody else was first to write what it sets.
    last: bool,
}

/// What earlier tries of a stage left.
#[derive(Debug)]
struct SoFar {
    started_at: Timestamp,
    usage: StageUsage,
}

/// What came of running a stage once.
#[derive(Debug)]
enum Tried {
    /// It is over.
    Through(Progressed),
    /// Somebody else was first to write what it sets: it is tried again.
    Again(Failure),
}

/// Somebody else wrote a memo since it was read.
fn first_come(key: &MemoKey, there: Option<&Memo>) -> Failure {
    let by = there.map(|memo| &memo.by);
    match key.kind {
        MemoKind::Variable => variables::conflict(&key.name, by),
        MemoKind::Session => session::conflict(&key.name, by),
    }
}

/// What came of a stage for its list.
#[derive(Debug)]
enum Progressed {
    /// It ended, and the journal has it; whether the workspace is another than at the start.
    Recorded(Box<StageRecord>, Option<bool>),
    /// It waits for runs.
    Waits(Vec<NewRun>),
    /// The attempt is over; nothing was recorded.
    Stopped,
}

/// What came of a stage.
enum Came {
    /// It ended.
    End(StageEnd, Box<Made>),
    /// It waits for runs.
    Waits(Vec<NewRun>),
}

/// Whether a stage's `if` asks how the run goes (`failure()`, `always()`, `cancelled()`).
fn asks_status(stage: &Stage) -> bool {
    stage.condition.as_ref().is_some_and(manifest::expression::Expression::asks_status)
}

/// Why a stage does not run: its `if` does not hold, or something that it needs failed. An `if` that
/// asks for the status itself (`failure()`, `always()`) decides alone, as in GitHub's workflows.
fn reason_to_skip(
    stage: &Stage,
    context: &Context,
    obstacle: Option<&str>,
) -> Result<Option<String>, Failure> {
    if let Some(need) = obstacle.filter(|_| !asks_status(stage)) {
        return Ok(Some(format!("needs `{need}`, which did not succeed")));
    }
    let Some(condition) = &stage.condition else { return Ok(None) };
    match condition.holds(context) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(format!("`if: {}` does not hold", condition.source()))),
        Err(error) => Err(Failure::new("expression_failed", format!("`if`: {error}"))),
    }
}

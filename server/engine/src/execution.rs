//! One attempt at a run: each of its stages, recorded before another builds on it ([`crate::graph`] has the
//! order). What the journal holds is never done again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use domain::ledger::Entry;
use domain::memo::{Memo, MemoKey, MemoKind, MemoWrite};
use domain::run::{Failure, Run};
use domain::stage::{StageEnd, StageOutput, StagePath, StageRecord, StageUsage};
use domain::time::Timestamp;
use domain::value::Value;
use manifest::Manifest;
use manifest::model::Stage;
use ports::store::memos::Kept;
use ports::store::runs::NewRun;
use ports::store::{Fenced, LeaseProof, StoreError};

use crate::context::Context;
use crate::graph::{Next, Progressed, asks_status};
use crate::logs::RunLog;
use crate::report::span;
use crate::session;
use crate::stages::{At, Ended, Made, tried, wait_before};
use crate::stop::{Stop, StopReason, Turn};
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

impl Execution<'_> {
    /// Runs one stage, unless the journal has it, and records what came of it.
    pub(crate) async fn stage(&self, at: &At<'_>, obstacle: Option<&str>, next: Next) -> Progressed {
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
        // A conversation that a stranger had a part in is not gone on with.
        let keeps = matches!(end, StageEnd::Succeeded) && !self.run.is_for_stranger();
        let said = made.said.take().filter(|_| keeps);
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
        if self.run.is_for_stranger() {
            at.note("what it sets is not kept: the pull request is a stranger's");
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

/// What came of a stage.
enum Came {
    /// It ended.
    End(StageEnd, Box<Made>),
    /// It waits for runs.
    Waits(Vec<NewRun>),
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

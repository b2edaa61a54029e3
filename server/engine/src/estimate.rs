//! What a run will probably cost, and how long it will take: by what runs did cost before, else by the sizes
//! of what its stages ask. It says what it rests on, and how sure that is.

use std::time::Duration;

use domain::money::NanoUsd;
use domain::name::{Address, Digest};
use domain::run::{Run, RunState, RunStatus};
use manifest::Manifest;
use manifest::expression::Template;
use manifest::model::{PromptStage, Stage, StageKind};
use ports::store::runs::RunFilter;
use ports::store::{Page, StoreError};
use serde_json::{Map, Value as Json};

use crate::refusal::Refusal;
use crate::world::World;
use crate::{address, inputs};

/// How many of the last runs count.
const RUNS: usize = 20;
/// How many of the last runs are looked through for them.
const LOOKED: u32 = 200;
/// Bytes of a value that is not known before the run: a diff, the answer of a stage before.
const VALUE: usize = 4_000;
/// Tokens of an answer whose length has no limit: of a schema, and of words.
const ANSWERS: (u64, u64) = (300, 800);
/// Tokens of a picture: one of middling quality, 1536 by 1024.
const PICTURE: u64 = 1_600;
/// How many items a list is taken to have.
const ITEMS: u64 = 5;
/// How much more than usual a reckoned run may cost.
const DOUBT: i64 = 3;

/// What a run will probably use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The tree of the daemon that it is for.
    pub digest: Digest,
    /// What its models cost; `None` when nobody can tell.
    pub cost: Option<Spread<NanoUsd>>,
    /// How long it takes from its beginning to its end; `None` when it never ran.
    pub time: Option<Spread<Duration>>,
    /// What that rests on.
    pub basis: Basis,
    /// How sure it is.
    pub confidence: Confidence,
    /// What its limits let it cost at most.
    pub limit: Option<NanoUsd>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

/// Half of all runs use no more than usual, nine of ten no more than high.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread<T> {
    /// The median.
    pub usual: T,
    /// The ninetieth percentile.
    pub high: T,
}

/// What an estimate rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// So many runs of this very version.
    Runs(usize),
    /// So many runs of older versions.
    OlderRuns(usize),
    /// The sizes of what its stages ask.
    Sizes,
}

/// How sure an estimate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confidence {
    /// Ten runs or more of this version.
    High,
    /// Three runs or more.
    Fair,
    /// Less.
    Low,
}

impl Basis {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runs(_) => "runs",
            Self::OlderRuns(_) => "older_runs",
            Self::Sizes => "sizes",
        }
    }

    /// How many runs it is.
    pub const fn runs(self) -> usize {
        match self {
            Self::Runs(count) | Self::OlderRuns(count) => count,
            Self::Sizes => 0,
        }
    }

    fn confidence(self) -> Confidence {
        match self {
            Self::Runs(10..) => Confidence::High,
            Self::Runs(3..) | Self::OlderRuns(10..) => Confidence::Fair,
            Self::Runs(_) | Self::OlderRuns(_) | Self::Sizes => Confidence::Low,
        }
    }
}

impl Confidence {
    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Fair => "fair",
            Self::Low => "low",
        }
    }
}

/// Estimates a run of a daemon that is given these inputs; those that are missing are not known yet.
///
/// # Errors
/// When there is no such daemon, or it is never given such inputs.
pub async fn of(world: &World, address: &Address, given: &Map<String, Json>) -> Result<Estimate, Refusal> {
    let target = address::resolve(world, address).await?;
    let asked: Vec<_> =
        target.manifest.inputs.iter().filter(|input| given.contains_key(&input.name)).cloned().collect();
    let unknown = given.len() > asked.len();
    // What is not an input is named together with those that are.
    let checked = if unknown { &target.manifest.inputs } else { &asked };
    inputs::accept(checked, given)?;
    let filter = RunFilter {
        repository: Some(target.repository.id),
        daemon: Some(address.daemon.clone()),
        status: Some(RunStatus::Succeeded),
        ..RunFilter::default()
    };
    let mut runs = world.store.run_list(&filter, &Page::first(LOOKED)).await?;
    runs.retain(|run| run.cause.replay.is_none());
    let own: Vec<&Run> = runs.iter().filter(|run| run.digest == target.digest).take(RUNS).collect();
    let (basis, past) = match own.is_empty() {
        false => (Basis::Runs(own.len()), own),
        true => {
            let older: Vec<&Run> = runs.iter().take(RUNS).collect();
            (if older.is_empty() { Basis::Sizes } else { Basis::OlderRuns(older.len()) }, older)
        }
    };
    let mut notes = Vec::new();
    let cost = if basis == Basis::Sizes {
        by_sizes(world, &target.manifest, given, &mut notes)
    } else {
        Spread::of(costs(world, &past).await?)
    };
    let time = Spread::of(past.iter().filter_map(|run| took(run)).collect());
    if matches!(basis, Basis::OlderRuns(_)) {
        notes.push("this version has not succeeded yet; older ones may have done other things".to_owned());
    }
    let limit = target.manifest.limits.cost;
    Ok(Estimate { digest: target.digest, cost, time, basis, confidence: basis.confidence(), limit, notes })
}

/// What a run costs by the sizes of what its stages ask, with a note of each; `None` when nobody can tell.
pub(crate) fn by_sizes(
    world: &World,
    manifest: &Manifest,
    given: &Map<String, Json>,
    notes: &mut Vec<String>,
) -> Option<Spread<NanoUsd>> {
    let usual = Sizes { world, manifest, given, notes }.stages(&manifest.stages);
    usual.map(|usual| Spread { usual, high: usual.times(DOUBT) })
}

impl<T: Ord + Copy> Spread<T> {
    /// By the nearest rank; nothing of nothing.
    fn of(mut values: Vec<T>) -> Option<Self> {
        values.sort_unstable();
        let rank =
            |percent: usize| values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { usual: rank(50)?, high: rank(90)? })
    }
}

/// What runs did cost, with the runs that they called.
async fn costs(world: &World, runs: &[&Run]) -> Result<Vec<NanoUsd>, StoreError> {
    let mut costs = Vec::with_capacity(runs.len());
    for run in runs {
        let called: NanoUsd = world.store.run_children(run.id).await?.iter().map(|child| child.cost).sum();
        costs.push(run.cost.plus(called));
    }
    Ok(costs)
}

fn took(run: &Run) -> Option<Duration> {
    match (&run.state, run.started_at) {
        (RunState::Ended { at, .. }, Some(started)) => Some(at.since(started)),
        _ => None,
    }
}

/// Reckons by sizes.
struct Sizes<'a> {
    world: &'a World,
    manifest: &'a Manifest,
    given: &'a Map<String, Json>,
    notes: &'a mut Vec<String>,
}

impl Sizes<'_> {
    /// What stages cost together; `None` when that of one cannot be told.
    fn stages(&mut self, stages: &[Stage]) -> Option<NanoUsd> {
        // Each of them has its note.
        let costs: Vec<Option<NanoUsd>> = stages.iter().map(|stage| self.stage(stage)).collect();
        costs.into_iter().sum::<Option<NanoUsd>>()
    }

    fn stage(&mut self, stage: &Stage) -> Option<NanoUsd> {
        let name = &stage.name;
        match &stage.kind {
            StageKind::Prompt(question) => self.question(name, question),
            StageKind::Hybrid(hybrid) => self.question(name, &hybrid.question),
            StageKind::Script(_) | StageKind::Http(_) | StageKind::Rules(_) | StageKind::Approval(_) => {
                Some(NanoUsd::ZERO)
            }
            StageKind::Foreach(list) => {
                self.notes.push(format!("`{name}` is reckoned with {ITEMS} items"));
                self.stages(&list.stages).map(|each| each.times(i64::try_from(ITEMS).unwrap_or(i64::MAX)))
            }
            StageKind::Agent(_) => self.unknown(name, "a coding agent asks as often as it needs"),
            StageKind::Image(drawing) => self.drawing(name, drawing),
            StageKind::Daemon(_) => self.unknown(name, "it calls another daemon, which has its own estimate"),
        }
    }

    fn unknown(&mut self, name: &str, why: &str) -> Option<NanoUsd> {
        self.notes.push(format!("what `{name}` costs cannot be told before it ran: {why}"));
        None
    }

    /// What a picture costs: what its words are, and its tokens.
    fn drawing(&mut self, name: &str, drawing: &PromptStage) -> Option<NanoUsd> {
        let (read, model) = (self.read(drawing), self.model(drawing));
        let cost = self.world.models.price(&model, read, PICTURE);
        match cost {
            Some(cost) => {
                self.notes.push(format!("`{name}` is reckoned with one picture by {model}: {cost}"));
            }
            None => self.notes.push(format!("what `{name}` costs is not known: {model} has no price")),
        }
        cost
    }

    /// The tokens of what is asked, at 3.5 bytes each.
    fn read(&self, question: &PromptStage) -> u64 {
        let texts = [&question.system, &question.prompt, &question.input];
        let read: usize = texts.into_iter().flatten().map(|text| self.bytes(text)).sum();
        (read as u64 * 2).div_ceil(7)
    }

    /// The model that is asked first.
    fn model(&self, question: &PromptStage) -> String {
        let alias = self.manifest.models.get(&question.agent);
        alias.and_then(|alias| alias.targets.first()).unwrap_or(&question.agent).clone()
    }

    fn question(&mut self, name: &str, question: &PromptStage) -> Option<NanoUsd> {
        let (read, model) = (self.read(question), self.model(question));
        let usual = if question.schema.is_some() { ANSWERS.0 } else { ANSWERS.1 };
        let written = question.max_tokens.map_or(usual, |most| usual.min(most.into()));
        let cost = self.world.models.price(&model, read, written);
        match cost {
            Some(cost) => {
                self.notes.push(format!(
                    "`{name}` is reckoned with {read} tokens read and {written} written by {model}: {cost}"
                ));
            }
            None => self.notes.push(format!("what `{name}` costs is not known: {model} has no price")),
        }
        cost
    }

    /// The size of a text: what is written there, what is given, and a guess for what is not known yet.
    fn bytes(&self, text: &Template) -> usize {
        let source = text.source();
        let holes = source.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
        let value = |expression: &str| {
            let name = expression.trim();
            let given = self.given.get(name).or_else(|| self.given.get(name.strip_prefix("inputs.")?));
            match given {
                Some(Json::String(text)) => text.len(),
                Some(other) => other.to_string().len(),
                None => VALUE,
            }
        };
        source.len() + holes.map(|(expression, _)| value(expression)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_ranks() {
        for (count, usual, high) in [(1, 1, 1), (2, 1, 2), (3, 2, 3), (10, 5, 9), (20, 10, 18)] {
            let values: Vec<i32> = (1..=count).rev().collect();
            assert_eq!(Spread::of(values), Some(Spread { usual, high }), "of {count}");
        }
        assert_eq!(Spread::<i32>::of(Vec::new()), None);
    }

    #[test]
    fn more_runs_are_surer() {
        for (basis, expect) in [
            (Basis::Runs(10), Confidence::High),
            (Basis::Runs(3), Confidence::Fair),
            (Basis::Runs(2), Confidence::Low),
            (Basis::OlderRuns(20), Confidence::Fair),
            (Basis::OlderRuns(9), Confidence::Low),
            (Basis::Sizes, Confidence::Low),
        ] {
            assert_eq!(basis.confidence(), expect, "{basis:?}");
        }
    }
}

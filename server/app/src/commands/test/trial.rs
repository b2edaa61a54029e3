//! One test: its world, its run, what came of it, and its cassette.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cassettes::{Cassette, Mode, Tape};
use domain::event::{Actor, Event};
use domain::id::{EventId, RunId, WorkerId};
use domain::name::{Address, At, SecretName};
use domain::repository::Origin;
use domain::run::{Run, RunState};
use domain::scrub::Scrub;
use domain::value::Taint;
use engine::reconcile::{self, Pushed};
use engine::rehearsal::{self, Past, Rehearsal, Rehearsed};
use engine::work::{self, WorkOutcome};
use engine::{Refusal, World};
use manifest::Manifest;
use manifest::model::InputKind;
use manifest::test::{TESTS, Test, Turn};
use ports::source::SnapshotSpec;
use ports::store::Page;
use ports::store::runs::RunFilter;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book;
use super::judge::{self, Course};
use super::report::{Fault, Verdict};
use super::shelf::Shelf;
use super::surroundings::{Surroundings, TestClock};
use crate::commands::worktree::{LocalDaemon, Worktree};
use crate::config::Config;
use crate::exit::CommandError;
use crate::tools;

/// The most bytes that a test's repository has.
const MOST_BYTES: u64 = 256 << 20;
/// How long nothing is looked for when nothing is ready.
const PAUSE: Duration = Duration::from_millis(20);

/// A test that is to be run.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) worktree: Arc<Worktree>,
    pub(super) daemon: Arc<LocalDaemon>,
    pub(super) manifest: Manifest,
    /// Its file in the daemon's directory.
    pub(super) file: String,
    pub(super) test: Test,
    pub(super) mode: Mode,
}

impl Trial {
    /// Runs it and judges what came of it.
    pub(super) async fn run(&self, config: &Config) -> Verdict {
        let begun = Instant::now();
        let mut verdict = Verdict {
            daemon: self.daemon.location.id.to_string(),
            test: self.test.name.clone(),
            title: self.test.title.clone(),
            file: self.daemon.source().path(&self.file),
            ..Verdict::default()
        };
        if let Err(error) = self.play(config, &mut verdict).await {
            verdict.faults.push(Fault::of_error(&error));
        }
        verdict.took = begun.elapsed();
        verdict
    }

    async fn play(&self, config: &Config, verdict: &mut Verdict) -> Result<(), CommandError> {
        let secrets = self.secrets();
        let shelf = self.shelf();
        let cassette = match shelf.cassette() {
            Ok(cassette) => cassette,
            // What is to be recorded anew need not be readable.
            Err(_) if self.mode == Mode::Record => Cassette::default(),
            Err(error) => return Err(error),
        };
        let tape = Arc::new(Tape::new(cassette, self.mode, self.scrub(&secrets)));
        let surroundings = Surroundings::make(config, &tape, secrets).await?;
        let played = self.rehearse(&surroundings, &tape, verdict).await;
        surroundings.close().await;
        played?;
        let replay = self.mode == Mode::Replay;
        // What has no recording went wrong for that reason, and so did what came after it.
        let misses = tape.misses();
        if !misses.is_empty() {
            let name = format!("{}/{}", verdict.daemon, verdict.test);
            verdict.faults = misses.into_iter().map(|miss| Fault::of_miss(miss, &name)).collect();
        }
        verdict.faults.extend(tape.not_recorded().into_iter().map(Fault::of_unrecorded));
        if verdict.faults.is_empty() {
            verdict.unused = tape.unused();
            verdict.knocks = tape.knocks();
        }
        if !replay && tape.not_recorded().is_empty() {
            verdict.recorded = Some(shelf.keep(&tape.cassette(), &self.scrub(&self.secrets()))?);
        }
        Ok(())
    }

    /// Runs it in a world of its own.
    async fn rehearse(
        &self,
        surroundings: &Surroundings,
        tape: &Tape,
        verdict: &mut Verdict,
    ) -> Result<(), CommandError> {
        let world = &surroundings.world;
        let address = self.deploy(surroundings).await?;
        let event = self.test.event.as_ref().map(|event| Event {
            id: EventId::new(world.clock.unique()),
            // Where it happened is filled in when it is known.
            repository: domain::id::RepositoryId::new(world.clock.unique()),
            kind: event.kind,
            action: event.action.clone(),
            branch: None,
            commit: None,
            paths: event.paths.clone(),
            actor: Actor { name: event.actor.clone(), role: Some(event.role.clone()), bot: false },
            labels: event.labels.clone(),
            draft: event.draft,
            payload: event.payload.clone(),
            taint: Taint::External,
            depth: 0,
            occurred_at: TestClock::beginning(),
        });
        let rehearsal = Rehearsal {
            address: address.clone(),
            inputs: self.test.inputs.clone(),
            actor: Actor { name: "tester".to_owned(), role: Some("write".to_owned()), bot: false },
            event: event.clone(),
            past: self.past(),
        };
        let run = match rehearsal::start(world, rehearsal).await.map_err(|refusal| refused(&refusal))? {
            Rehearsed::Started(run) => run,
            Rehearsed::NotStarted(reason) => {
                verdict.faults = judge::not_started(&self.test.expect, &reason);
                return Ok(());
            }
        };
        surroundings.clock.begin();
        let run = Box::pin(finish(world, run)).await?;
        self.note_changes(world, tape).await?;
        let course = Course::of(world, &address, run, event).await?;
        verdict.cost = course.cost();
        verdict.faults = judge::faults(&self.test.expect, &course, world).await?;
        Ok(())
    }

    /// What the daemon remembers.
    fn past(&self) -> Past {
        let turn = |Turn { user, assistant }: &Turn| (user.clone(), assistant.clone());
        let sessions = self.test.sessions.iter();
        Past {
            variables: self.test.state.clone(),
            sessions: sessions.map(|(key, turns)| (key.clone(), turns.iter().map(turn).collect())).collect(),
        }
    }

    /// Makes the repository of the test, with the daemon deployed.
    async fn deploy(&self, surroundings: &Surroundings) -> Result<Address, CommandError> {
        let world = &surroundings.world;
        let directory = surroundings.book();
        book::write(&directory, &self.worktree, &self.daemon, &self.test)?;
        let branch = &self.test.branch;
        // A daemon in the root is called like the repository.
        let path = format!("tests/{}", self.daemon.location.id).parse().map_err(anyhow::Error::from)?;
        let created = engine::repositories::create(world, path, Origin::Hosted, branch.clone()).await;
        let repository = created.map_err(|refusal| refused(&refusal))?;
        let at = TestClock::beginning();
        let begun = surroundings.wired.git.begin(repository.id, &directory, at).await;
        let parent = begun.map_err(anyhow::Error::from)?;
        let spec = SnapshotSpec {
            repository: repository.id,
            run: RunId::new(world.clock.unique()),
            directory: &directory,
            parent: &parent,
            checkout: None,
            message: "The files of a test\n",
            max_bytes: MOST_BYTES,
            at,
        };
        let commit = world.source.snapshot(spec).await.map_err(anyhow::Error::from)?.commit;
        let moved = world.source.move_branch(repository.id, branch, None, Some(&commit)).await;
        moved.map_err(anyhow::Error::from)?;
        let pushed = Pushed { branches: vec![branch.clone()], actor: None, skip_runs: true };
        reconcile::repository(world, repository.id, &pushed).await.map_err(|refusal| refused(&refusal))?;
        let (repository, daemon) = (repository.path, self.daemon.location.id.clone());
        Ok(Address { repository, daemon, at: At::Named(branch.clone()) })
    }

    /// The secrets of the run: those that the test makes up. A recording goes to real servers and takes real
    /// ones, from where `spellbook run` has them.
    fn secrets(&self) -> BTreeMap<SecretName, SecretString> {
        let made_up =
            self.test.secrets.iter().map(|(name, text)| (name.clone(), SecretString::from(text.clone())));
        let mut secrets: BTreeMap<SecretName, SecretString> = made_up.collect();
        if self.mode != Mode::Replay {
            for name in &self.manifest.permissions.secrets {
                let real = tools::variable(&format!("SPELLBOOK_SECRET_{name}"));
                secrets.extend(real.map(|real| (name.clone(), SecretString::from(real))));
            }
        }
        secrets
    }

    /// What takes secrets out: those of the run, its secret inputs, and in a replay nothing more than these.
    fn scrub(&self, secrets: &BTreeMap<SecretName, SecretString>) -> Scrub {
        let is_secret = |name: &str| {
            self.manifest.inputs.iter().any(|input| input.name == name && input.kind == InputKind::Secret)
        };
        let given = self.test.inputs.iter().filter(|(name, _)| is_secret(name));
        let inputs = given.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let declared = secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose_secret()));
        Scrub::new(declared.chain(inputs))
    }

    /// Where its cassette lies.
    fn shelf(&self) -> Shelf {
        let directory = self.worktree.root().join(&self.daemon.location.directory);
        Shelf::new(&directory.join(TESTS).join("cassettes"), &self.test.name)
    }

    /// Tells the tape what coding agents changed.
    async fn note_changes(&self, world: &World, tape: &Tape) -> Result<(), CommandError> {
        let workers = tape.workers();
        if workers.is_empty() {
            return Ok(());
        }
        let runs = world.store.run_list(&RunFilter::default(), &Page::first(1_000)).await;
        for run in runs.map_err(anyhow::Error::from)? {
            for record in world.store.run_journal(run.id).await.map_err(anyhow::Error::from)? {
                let guest = format!("{} {}", run.id, record.path);
                if !workers.contains(&guest) || record.snapshot.is_none() {
                    continue;
                }
                let diff = engine::replay::stage_diff(world, run.id, record.path.as_str()).await;
                let diff = diff.map_err(|refusal| refused(&refusal))?;
                if diff.truncated || diff.patch.contains("\nBinary files ") {
                    tape.refuse(format!("`{}` changed too much, or binary files", record.path));
                }
                tape.changed(&guest, &diff.patch);
            }
        }
        Ok(())
    }
}

/// Works until the run has ended, and with it the runs that it calls.
async fn finish(world: &World, run: RunId) -> Result<Run, CommandError> {
    let worker = WorkerId::new(world.clock.unique());
    let never = CancellationToken::new();
    loop {
        let outcome = work::next(world, worker, &never).await.map_err(anyhow::Error::from)?;
        if matches!(outcome, WorkOutcome::Worked { .. }) {
            continue;
        }
        let known = world.store.run_get(run).await.map_err(anyhow::Error::from)?;
        match known.filter(|run| matches!(run.state, RunState::Ended { .. })) {
            Some(ended) => return Ok(ended),
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

pub(super) fn refused(refusal: &Refusal) -> CommandError {
    CommandError::failed(refusal.code, refusal.message.clone())
}

//! `spellbook test`: a daemon's `tests/*.yaml`, each run by the same engine as on a server, with answers that
//! were recorded. Nothing is asked of the network, and nothing is done outside.

mod book;
mod judge;
mod junit;
mod report;
mod shelf;
mod surroundings;
mod trial;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cassettes::Mode;
use futures::StreamExt;
use manifest::Severity;

use self::report::{Report, Verdict};
use self::trial::Trial;
use super::validate::{Findings, nothing_at, places};
use super::worktree::Worktree;
use crate::cli::TestArgs;
use crate::config::Config;
use crate::exit::{CommandError, Exit};
use crate::output::Ui;

/// Runs the tests of all daemons at the paths.
pub(crate) async fn run(args: &TestArgs, config: &Config, ui: &Ui) -> Result<Exit, CommandError> {
    let mode = match (args.record, args.record_missing) {
        (true, _) => Mode::Record,
        (false, true) => Mode::RecordMissing,
        (false, false) => Mode::Replay,
    };
    let Found { trials, findings, untested } = find(args, mode)?;
    if findings.count(Severity::Error) > 0 {
        findings.present(ui)?;
        return Ok(Exit::Invalid);
    }
    if trials.is_empty() {
        return Err(nothing_to_test(args));
    }
    let progress = ui.steps("testing", trials.len());
    // A recording asks a model, which answers one after the other, and whose money is watched by people.
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let at_once = if mode == Mode::Replay { processors } else { 1 };
    let running = trials.iter().map(|trial| {
        let progress = &progress;
        async move {
            let verdict = trial.run(config).await;
            progress.step();
            verdict
        }
    });
    let verdicts: Vec<Verdict> = futures::stream::iter(running).buffered(at_once).collect().await;
    let report = Report { verdicts, untested, strict: args.strict };
    drop(progress);
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::document(&report)).map_err(|error| {
            CommandError::failed("unwritable", format!("{} cannot be written", path.display())).because(error)
        })?;
    }
    report.show(ui)?;
    Ok(if report.passed() { Exit::Ok } else { Exit::Failed })
}

/// What is at the paths.
struct Found {
    trials: Vec<Trial>,
    findings: Findings,
    /// Daemons without a test.
    untested: Vec<String>,
}

fn find(args: &TestArgs, mode: Mode) -> Result<Found, CommandError> {
    let mut found = Found { trials: Vec::new(), findings: Findings::default(), untested: Vec::new() };
    let mut done: BTreeSet<PathBuf> = BTreeSet::new();
    for path in places(&args.paths) {
        found.add(path, args, mode, &mut done)?;
    }
    Ok(found)
}

impl Found {
    fn add(
        &mut self,
        path: &Path,
        args: &TestArgs,
        mode: Mode,
        done: &mut BTreeSet<PathBuf>,
    ) -> Result<(), CommandError> {
        let (worktree, inside) = Worktree::around(path)?;
        let worktree = Arc::new(worktree);
        let mut daemons = worktree.discover(&inside)?.daemons;
        daemons.extend(worktree.outsider(&inside));
        if daemons.is_empty() {
            return Err(nothing_at(path));
        }
        // A path to one test means that one.
        let only = worktree.root().join(&inside);
        for location in daemons {
            let directory = worktree.root().join(&location.directory);
            if !done.insert(directory.clone()) {
                continue;
            }
            let daemon = Arc::new(worktree.load(location)?);
            let Some(manifest) = self.findings.check(&daemon, &worktree)? else { continue };
            let tests = self.findings.check_tests(&daemon, &manifest);
            if tests.is_empty() {
                self.untested.push(daemon.location.id.to_string());
            }
            for (file, test) in tests {
                let is_meant = !only.is_file()
                    || !only.starts_with(directory.join("tests"))
                    || only == directory.join(&file);
                let whole = format!("{}/{}", daemon.location.id, test.name);
                if is_meant && args.filter.as_ref().is_none_or(|part| whole.contains(part.as_str())) {
                    let (worktree, daemon) = (Arc::clone(&worktree), Arc::clone(&daemon));
                    self.trials.push(Trial {
                        worktree,
                        daemon,
                        manifest: manifest.clone(),
                        file,
                        test,
                        mode,
                    });
                }
            }
        }
        Ok(())
    }
}

fn nothing_to_test(args: &TestArgs) -> CommandError {
    match &args.filter {
        Some(filter) => CommandError::failed("no_tests", format!("no test has `{filter}` in its name")),
        None => CommandError::failed("no_tests", "there are no tests").help(
            "a test is a file tests/NAME.yaml in the daemon's directory; docs/testing.md says what it holds",
        ),
    }
}

//! `spellbook plan`: what a change would make of daemons, without a server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use domain::name::{Commit, DaemonId};
use engine::plan::{self, DaemonPlan, Fate, Plan};
use git::Local;
use manifest::discover::Location;
use manifest::{Manifest, Severity};
use ports::source::SourceError;
use serde_json::{Value as Json, json};

use super::validate::Findings;
use super::worktree::{LocalDaemon, Worktree};
use crate::cli::PlanArgs;
use crate::exit::{CommandError, Exit};
use crate::output::{Ui, visible_lines};

/// Compares two states of the daemons of a repository. Exits as `validate` does when one of them cannot run.
pub(crate) fn run(args: &PlanArgs, ui: &Ui) -> Result<Exit, CommandError> {
    let wanted = Wanted::of(args);
    let (here, inside) = Worktree::around(&wanted.path)?;
    let local = Local::open(here.root()).map_err(|error| {
        let message = format!("{} is in no git repository", here.root().display());
        CommandError::failed("no_repository", message).because(error).help("git init, then commit something")
    })?;
    let (base, head) = wanted.commits(&local)?;
    let before = Past::of(&local, &base, here.root())?;
    let after = head.map(|head| Past::of(&local, &head, here.root())).transpose()?;
    let now = after.as_ref().map_or(&here, |after| &after.tree);

    let mut findings = Findings::default();
    let daemons = compared(&before.tree, now, &inside, &mut findings)?;
    let valid = findings.count(Severity::Error) == 0;
    let plan = Plan { daemons, ..Plan::default() };
    if ui.is_json() {
        let mut document = findings.to_json();
        document["daemons"] = plan.daemons.iter().map(one).collect();
        ui.document(&document)?;
    } else {
        ui.text(visible_lines(&plan::text(&plan)))?;
        if !findings.is_empty() {
            ui.line("")?;
            findings.show(ui)?;
        }
    }
    Ok(if valid { Exit::Ok } else { Exit::Invalid })
}

/// What is to be compared.
struct Wanted {
    path: PathBuf,
    base: String,
    /// A commit; the files as they are, without one.
    head: Option<String>,
    /// Whether to begin where the two part.
    apart: bool,
}

impl Wanted {
    /// What is there on this machine is a path; two commits are meant otherwise, if there are two dots.
    fn of(args: &PlanArgs) -> Self {
        let here = PathBuf::from(".");
        let Some(what) = &args.what else {
            return Self { path: here, base: args.base.clone(), head: None, apart: false };
        };
        let commits = what.split_once("...").map(|pair| (pair, true));
        let commits = commits.or_else(|| what.split_once("..").map(|pair| (pair, false)));
        match commits.filter(|_| !Path::new(what).exists()) {
            Some(((base, head), apart)) => {
                let named = |name: &str| if name.is_empty() { "HEAD".to_owned() } else { name.to_owned() };
                Self { path: here, base: named(base), head: Some(named(head)), apart }
            }
            None => Self { path: PathBuf::from(what), base: args.base.clone(), head: None, apart: false },
        }
    }

    fn commits(&self, local: &Local) -> Result<(Commit, Option<Commit>), CommandError> {
        let base = local.commit(&self.base).map_err(|error| no_commit(&error))?;
        let Some(head) = &self.head else { return Ok((base, None)) };
        let head = local.commit(head).map_err(|error| no_commit(&error))?;
        let common = if self.apart {
            local.merge_base(&base, &head).map_err(|error| no_commit(&error))?
        } else {
            None
        };
        Ok((common.unwrap_or(base), Some(head)))
    }
}

fn no_commit(error: &SourceError) -> CommandError {
    CommandError::usage("no_such_commit", error.to_string())
}

/// The files of a commit, beside the person's own.
struct Past {
    tree: Worktree,
    _directory: tempfile::TempDir,
}

impl Past {
    fn of(local: &Local, commit: &Commit, root: &Path) -> Result<Self, CommandError> {
        let failed = |error: std::io::Error| {
            CommandError::failed("unwritable", "no temporary directory can be made").because(error)
        };
        let directory = tempfile::tempdir().map_err(failed)?;
        // A daemon in the root has the name of the directory.
        let place = directory.path().join(root.file_name().unwrap_or("spellbook".as_ref()));
        std::fs::create_dir(&place).map_err(failed)?;
        local.checkout(commit, &place).map_err(|error| {
            CommandError::failed("unreadable", format!("{commit} cannot be read")).because(error)
        })?;
        // So that nothing above is taken for its root.
        std::fs::create_dir(place.join(".git")).map_err(failed)?;
        let (tree, _) = Worktree::around(&place)?;
        Ok(Self { tree, _directory: directory })
    }
}

/// The daemons that differ, by name, with what is wrong with them as they are now.
fn compared(
    before: &Worktree,
    after: &Worktree,
    inside: &Path,
    findings: &mut Findings,
) -> Result<Vec<DaemonPlan>, CommandError> {
    let by_id = |tree: &Worktree| -> Result<BTreeMap<DaemonId, Location>, CommandError> {
        let found = tree.discover(inside)?.daemons;
        Ok(found.into_iter().map(|location| (location.id.clone(), location)).collect())
    };
    let (was, is) = (by_id(before)?, by_id(after)?);
    let mut plans = Vec::new();
    for id in was.keys().chain(is.keys().filter(|id| !was.contains_key(*id))) {
        let was = Side::of(before, was.get(id))?;
        let is = Side::of(after, is.get(id))?;
        plans.extend(planned(id, &was, &is, findings)?);
    }
    plans.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(plans)
}

/// One of the two states of a daemon.
struct Side<'t> {
    tree: &'t Worktree,
    daemon: Option<LocalDaemon>,
}

impl<'t> Side<'t> {
    fn of(tree: &'t Worktree, location: Option<&Location>) -> Result<Self, CommandError> {
        let daemon = location.map(|location| tree.load(location.clone())).transpose()?;
        Ok(Self { tree, daemon })
    }

    /// What it is, if it is valid.
    fn manifest(&self) -> Option<Manifest> {
        self.daemon.as_ref().and_then(|daemon| daemon.check(self.tree.spellbook(), None).value)
    }
}

fn planned(
    id: &DaemonId,
    before: &Side<'_>,
    after: &Side<'_>,
    findings: &mut Findings,
) -> Result<Option<DaemonPlan>, CommandError> {
    let known = before.daemon.as_ref();
    let Some(now) = &after.daemon else {
        let gone = |known: &LocalDaemon| {
            DaemonPlan::new(id.as_str(), &known.location.directory, Fate::Removed, Vec::new())
        };
        return Ok(known.map(gone));
    };
    let (fate, changes) = match (known, &before.manifest(), &after.manifest()) {
        (_, _, None) => (Fate::Invalid, Vec::new()),
        (None, _, Some(is)) => (Fate::New, plan::between(None, is)),
        (Some(_), None, Some(is)) => (Fate::Mended, plan::between(None, is)),
        (Some(_), Some(was), Some(is)) => (Fate::Changed, plan::between(Some(was), is)),
    };
    if changes.is_empty() && known.is_some_and(|known| known.files == now.files) {
        return Ok(None);
    }
    findings.check(now, after.tree)?;
    Ok(Some(DaemonPlan::new(id.as_str(), &now.location.directory, fate, changes)))
}

fn one(daemon: &DaemonPlan) -> Json {
    let change = |change: &plan::Change| json!({ "heading": change.heading.as_str(), "bearing": change.bearing.as_str(), "text": change.text });
    json!({
        "daemon": daemon.name,
        "directory": daemon.directory,
        "fate": daemon.fate.as_str(),
        "wider": daemon.is_wider(),
        "changes": daemon.changes.iter().map(change).collect::<Vec<Json>>(),
    })
}

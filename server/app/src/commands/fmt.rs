//! `spellbook fmt`: one way to write manifests.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use manifest::discover::{MANIFESTS, SPELLBOOKS};
use serde_json::json;

use super::validate::{nothing_at, places};
use super::worktree::{Worktree, read_text};
use crate::cli::FmtArgs;
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// What became of the files.
#[derive(Debug, Default)]
struct Outcome {
    changed: Vec<String>,
    unchanged: usize,
    broken: Vec<CommandError>,
}

/// Formats every manifest at the paths, or says which are not formatted. A file that is not YAML is left
/// as it is; the others are formatted all the same.
pub(crate) fn run(args: &FmtArgs, ui: &Ui) -> Result<Exit, CommandError> {
    let mut outcome = Outcome::default();
    let mut done = BTreeSet::new();
    for path in places(&args.paths) {
        let files = files(path)?;
        if files.is_empty() {
            return Err(nothing_at(path));
        }
        for file in files.into_iter().filter(|file| done.insert(file.clone())) {
            match format(&file, args.check) {
                Ok(true) => outcome.changed.push(shown(&file)),
                Ok(false) => outcome.unchanged += 1,
                Err(error) if error.exit() == Exit::Invalid => outcome.broken.push(error),
                Err(error) => return Err(error),
            }
        }
    }
    report(&outcome, args.check, ui)
}

/// The manifests at a path.
fn files(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let (worktree, inside) = Worktree::around(path)?;
    let named = inside.file_name().and_then(|name| name.to_str());
    if named.is_some_and(|name| MANIFESTS.contains(&name) || SPELLBOOKS.contains(&name)) {
        return Ok(vec![worktree.root().join(&inside)]);
    }
    let own = worktree
        .own_file()
        .filter(|_| inside.as_os_str().is_empty())
        .map(|own| worktree.root().join(own.name));
    let found = worktree.discover(&inside)?.daemons.into_iter().chain(worktree.outsider(&inside));
    let manifests = found.filter_map(|location| {
        let directory = worktree.root().join(location.directory);
        MANIFESTS.iter().map(|name| directory.join(name)).find(|file| file.symlink_metadata().is_ok())
    });
    Ok(own.into_iter().chain(manifests).collect())
}

/// Formats a file; gives whether it was not formatted before.
fn format(path: &Path, only_check: bool) -> Result<bool, CommandError> {
    let text = read_text(path)?;
    let formatted = manifest::format::fmt(&text).map_err(|error| {
        let message = format!("{}:{error}", shown(path));
        CommandError::new(Exit::Invalid, "not_yaml", message)
            .help(format!("spellbook validate {}", shown(path)))
    })?;
    if formatted == text {
        return Ok(false);
    }
    if !only_check {
        replace(path, &formatted).map_err(|error| {
            CommandError::failed("unwritable", format!("{} cannot be written", shown(path))).because(error)
        })?;
    }
    Ok(true)
}

/// Replaces a file at once, so that no crash leaves half of it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let permissions = fs::metadata(path)?.permissions();
    let mut file = tempfile::Builder::new().permissions(permissions.clone()).tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn report(outcome: &Outcome, only_check: bool, ui: &Ui) -> Result<Exit, CommandError> {
    let Outcome { changed, unchanged, broken } = outcome;
    if ui.is_json() {
        let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
        ui.document(
            &json!({ "changed": changed, "unchanged": unchanged, "broken": broken, "check": only_check }),
        )?;
    } else {
        let word = if only_check { "would format" } else { "formatted" };
        for file in changed {
            ui.line(format_args!("{word} {}", ui.paint(Tone::Name, file)))?;
        }
        broken.iter().for_each(|error| ui.error(error));
        ui.note(format_args!("{} {word}, {unchanged} unchanged", changed.len()));
    }
    Ok(match (broken.is_empty(), only_check && !changed.is_empty()) {
        (false, _) => Exit::Invalid,
        (true, true) => Exit::Failed,
        (true, false) => Exit::Ok,
    })
}

/// A path as people write it: relative to the current directory when it is below.
pub(super) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize()).ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_path_buf));
    below.unwrap_or_else(|| path.to_owned()).display().to_string()
}

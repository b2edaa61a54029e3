//! `spellbook init`: makes a git repository a spellbook.

use std::path::{Path, PathBuf};

use manifest::discover::SPELLBOOKS;

use super::fmt::shown;
use super::new::{report, write};
use crate::cli::InitArgs;
use crate::exit::{CommandError, Exit};
use crate::output::Ui;

/// What is written, by path relative to the repository.
const FILES: [(&str, &str); 2] = [
    ("spellbook.yaml", include_str!("../../templates/init/spellbook.yaml")),
    ("daemons/hello/daemon.yaml", include_str!("../../templates/init/daemons/hello/daemon.yaml")),
];

/// Adds `spellbook.yaml` and a first daemon to the repository around a path.
pub(crate) fn run(args: &InitArgs, ui: &Ui) -> Result<Exit, CommandError> {
    let root = repository(&args.path)?;
    if let Some(name) = SPELLBOOKS.iter().find(|name| root.join(name).symlink_metadata().is_ok()) {
        let message = format!("{} is a spellbook already: {name} is there", root.display());
        return Err(CommandError::failed("spellbook_exists", message).help("spellbook new ID adds a daemon"));
    }
    let files = FILES.map(|(path, text)| (root.join(path), text.to_owned()));
    write(&root, &files)?;
    let place = shown(&root.join("daemons/hello"));
    report(
        &files,
        &[
            format!("spellbook run {place} --input who=you"),
            "git add . && git commit -m 'Become a spellbook'".to_owned(),
        ],
        ui,
    )
}

/// The root of the git repository around a path.
fn repository(path: &Path) -> Result<PathBuf, CommandError> {
    let whole = path.canonicalize().map_err(|error| {
        CommandError::usage("no_such_path", format!("{} cannot be entered", path.display())).because(error)
    })?;
    let root = whole.ancestors().find(|directory| directory.join(".git").symlink_metadata().is_ok());
    root.map(Path::to_owned).ok_or_else(|| {
        CommandError::failed("no_repository", format!("{} is not in a git repository", whole.display()))
            .help("git init")
    })
}

//! `spellbook new`, and the writing that it shares with `spellbook init`: files are added, never replaced,
//! and all of them or none.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use domain::name::DaemonId;
use serde_json::json;

use super::fmt::shown;
use super::worktree::Worktree;
use crate::cli::{NewArgs, Template};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui};

/// The files of a template, by path relative to the daemon's directory. `__TITLE__` and `__ID__` stand for
/// the daemon's own.
const fn files(template: Template) -> &'static [(&'static str, &'static str)] {
    match template {
        Template::Script => &[
            ("daemon.yaml", include_str!("../../templates/script/daemon.yaml")),
            ("tests/count.yaml", include_str!("../../templates/script/tests/count.yaml")),
        ],
        Template::Prompt => &[
            ("daemon.yaml", include_str!("../../templates/prompt/daemon.yaml")),
            ("prompts/sum-up.md", include_str!("../../templates/prompt/prompts/sum-up.md")),
        ],
        Template::Review => &[
            ("daemon.yaml", include_str!("../../templates/review/daemon.yaml")),
            ("prompts/review.md", include_str!("../../templates/review/prompts/review.md")),
        ],
        Template::Http => &[("daemon.yaml", include_str!("../../templates/http/daemon.yaml"))],
    }
}

/// Writes a daemon into the spellbook around the current directory.
pub(crate) fn run(args: &NewArgs, ui: &Ui) -> Result<Exit, CommandError> {
    let (worktree, _) = Worktree::around(Path::new("."))?;
    let root = worktree.root();
    let parent = match (root.join("daemons").exists(), root.join(".spellbook/daemons").exists()) {
        (false, true) => ".spellbook/daemons",
        _ => "daemons",
    };
    let directory = root.join(parent).join(args.id.as_str());
    if directory.symlink_metadata().is_ok() {
        let message = format!("{} is there already", shown(&directory));
        return Err(
            CommandError::failed("daemon_exists", message).help("choose another id, or change what is there")
        );
    }
    let files = files(args.template).iter().map(|(path, text)| {
        let text = text.replace("__TITLE__", &title(&args.id)).replace("__ID__", args.id.as_str());
        (directory.join(path), text)
    });
    let files: Vec<(PathBuf, String)> = files.collect();
    write(root, &files)?;
    let place = shown(&directory);
    let mut next = vec![format!("spellbook validate {place}")];
    if files.iter().any(|(path, _)| path.starts_with(directory.join("tests"))) {
        next.push(format!("spellbook test {place}"));
    }
    next.push(run_command(args.template, &place));
    report(&files, &next, ui)
}

/// How to try a daemon of a template.
fn run_command(template: Template, place: &str) -> String {
    match template {
        Template::Script | Template::Http => format!("spellbook run {place}"),
        Template::Prompt => format!("spellbook run {place} --input text=@README.md"),
        Template::Review => format!("git add {place} && git commit -m 'Add a review' && git push"),
    }
}

/// The title that an id suggests: `code-review` is `Code review`. An id that YAML would take for a number or
/// a truth value is put in quotes.
fn title(id: &DaemonId) -> String {
    let words = id.as_str().replace('-', " ");
    let mut letters = words.chars();
    let title: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
    let plain = title.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(title.as_str(), "True" | "False" | "Null" | "Yes" | "No" | "On" | "Off" | "Y" | "N");
    if plain { title } else { format!("\"{title}\"") }
}

/// Writes files below a directory. When one cannot be written, those before it are removed again.
pub(super) fn write(root: &Path, files: &[(PathBuf, String)]) -> Result<(), CommandError> {
    for (path, _) in files {
        if path.symlink_metadata().is_ok() {
            let message = format!("{} is there already; nothing was written", shown(path));
            return Err(CommandError::failed("file_exists", message));
        }
        if let Some(link) = path
            .ancestors()
            .skip(1)
            .take_while(|above| above.starts_with(root) && *above != root)
            .find(|above| above.is_symlink())
        {
            let message = format!("{} is a symbolic link; nothing was written", shown(link));
            return Err(CommandError::failed("symbolic_link", message)
                .help("a server does not follow it; make it a directory"));
        }
    }
    let mut made = Vec::new();
    for (path, text) in files {
        if let Err(error) = add(path, text, &mut made) {
            for path in made.iter().rev() {
                // A directory that somebody else has put a file into stays.
                let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
            }
            return Err(CommandError::failed("unwritable", format!("{} cannot be written", shown(path)))
                .because(error));
        }
    }
    Ok(())
}

/// Adds one file, and notes down what was made for it.
fn add(path: &Path, text: &str, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|above| !above.exists()).collect();
    for directory in missing.into_iter().rev() {
        fs::create_dir(directory)?;
        made.push(directory.to_owned());
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    made.push(path.to_owned());
    file.write_all(text.as_bytes())
}

/// Says what was written, and what to do next.
pub(super) fn report(files: &[(PathBuf, String)], next: &[String], ui: &Ui) -> Result<Exit, CommandError> {
    let written: Vec<String> = files.iter().map(|(path, _)| shown(path)).collect();
    if ui.is_json() {
        ui.document(&json!({ "written": written, "next": next }))?;
        return Ok(Exit::Ok);
    }
    for path in &written {
        ui.line(format_args!("wrote {}", ui.paint(Tone::Name, path)))?;
    }
    ui.line("")?;
    ui.line("Next:")?;
    for command in next {
        ui.line(format_args!("  {}", ui.paint(Tone::Strong, command)))?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_read_from_ids() {
        for (id, expect) in [
            ("code-review", "Code review"),
            ("x", "X"),
            ("on", "\"On\""),
            ("3d", "\"3d\""),
            ("1e9", "\"1e9\""),
        ] {
            assert_eq!(title(&id.parse().unwrap()), expect);
        }
    }

    #[test]
    fn all_files_are_written_or_none() {
        let root = tempfile::tempdir().unwrap();
        // The second file's directory is the first file.
        let files = [(root.path().join("d/a"), "x".to_owned()), (root.path().join("d/a/b"), "x".to_owned())];
        assert_eq!(write(root.path(), &files).unwrap_err().code(), "unwritable");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("daemons")).unwrap();
        let files = [(root.path().join("daemons/hello/daemon.yaml"), "x".to_owned())];
        assert_eq!(write(root.path(), &files).unwrap_err().code(), "symbolic_link");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}

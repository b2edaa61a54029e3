//! Paths, and the files of the daemon's directory that a manifest names.

use super::{Check, Spot, file_text};
use crate::codes;
use crate::diagnostic::Problem;
use crate::expression::Template;
use crate::raw::scalar::{Line, Templated};
use crate::read::{Place, Slot};
use crate::suggest::{did_you_mean, quoted};

/// A file that was read, with its path in the repository.
pub(super) struct Named {
    pub(super) path: String,
    pub(super) text: String,
}

impl Check<'_> {
    /// The file of the daemon's directory that a key names.
    pub(super) fn named_file(&mut self, slot: &Slot<Line>) -> Option<Named> {
        let (Line(written), place) = slot.found()?;
        let inside = written.strip_prefix("./").unwrap_or(written);
        if leaves(inside) {
            self.refuse_path(written, place, "the daemon's directory");
            return None;
        }
        let Some(file) = self.source.files.get(inside) else {
            let near = did_you_mean(inside, self.source.files.paths());
            let problem =
                Problem::error(&codes::NO_SUCH_FILE, format!("there is no file {}", quoted(inside)));
            let help = near.unwrap_or_else(|| "paths count from the daemon's directory".to_owned());
            self.reader.report(problem.help(help), place);
            return None;
        };
        match file_text(file) {
            Ok(text) => Some(Named { path: self.source.path(inside), text: text.to_owned() }),
            Err(problem) => {
                self.reader.report(problem, place);
                None
            }
        }
    }

    /// The template that a file is.
    pub(super) fn file_template(&mut self, file: &Named) -> Option<Template> {
        Template::parse(&file.text)
            .map_err(|error| {
                let help = error.help.or_else(|| Some("`$${` is a `${` that is only text".to_owned()));
                let problem = Problem::error(&codes::BAD_EXPRESSION, error.message).maybe_help(help);
                self.report_at(problem, Spot::File(&file.path, &file.text), error.offset);
            })
            .ok()
    }

    /// A path in the workspace. What an expression makes of it is checked when the stage runs.
    pub(super) fn workspace_path(&mut self, slot: &Slot<Templated>) {
        let Some((Templated(template), place)) = slot.found() else { return };
        if template
            .literal()
            .is_some_and(|path| leaves(path.strip_prefix("./").unwrap_or(path)) && path != ".")
        {
            self.refuse_path(template.source(), place, "the workspace");
        }
    }

    fn refuse_path(&mut self, path: &str, place: Place, place_name: &str) {
        let problem = Problem::error(&codes::PATH_LEAVES, format!("{} leaves {place_name}", quoted(path)));
        self.reader.report(problem.expected("a relative path with `/`, without `..`"), place);
    }
}

/// Whether a path is not one that stays below where it begins.
pub(super) fn leaves(path: &str) -> bool {
    path.is_empty()
        || path.starts_with(['/', '~'])
        || path.contains(['\\', '\0'])
        || path.get(1..2) == Some(":")
        || path.trim_end_matches('/').split('/').any(|part| matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::leaves;

    #[test]
    fn only_paths_that_stay_inside_are_taken() {
        for path in ["a", "a/b.md", ".hidden", "a..b", "prompts/"] {
            assert!(!leaves(path), "{path:?} was refused");
        }
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../a",
            "a/../../b",
            "a//b",
            "a/./b",
            "~/x",
            "~root",
            "a\\b",
            "c:x",
            "a\0b",
        ] {
            assert!(leaves(path), "{path:?} was accepted");
        }
    }
}

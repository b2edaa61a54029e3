//! `spellbook validate`: the checks of a server, without one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use manifest::discover::SPELLBOOKS;
use manifest::test::Test;
use manifest::{Diagnostic, Manifest, POLICY, Severity, Sources, Style, check_test, render, to_json};
use serde_json::{Value as Json, json};

use super::worktree::{LocalDaemon, Worktree};
use crate::cli::{ReportFormat, ValidateArgs};
use crate::exit::{CommandError, Exit};
use crate::output::{Tone, Ui, visible, visible_lines};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    daemons: usize,
    problems: Vec<Problem>,
    unseen: Vec<String>,
}

/// A diagnostic, and the text of the file that it is about: two spellbooks may have files of one name.
#[derive(Debug)]
struct Problem {
    diagnostic: Diagnostic,
    text: Option<Rc<str>>,
}

/// Checks everything at the paths.
pub(crate) fn run(args: &ValidateArgs, ui: &Ui) -> Result<Exit, CommandError> {
    let mut findings = Findings::default();
    let mut done = BTreeSet::new();
    for path in places(&args.paths) {
        findings.add(path, &mut done, ui)?;
    }
    for directory in &findings.unseen {
        ui.warn(format_args!(
            "a server does not look in {directory}; name it under `daemons:` in spellbook.yaml"
        ));
    }
    match if ui.is_json() { ReportFormat::Json } else { args.format } {
        ReportFormat::Human => findings.show(ui)?,
        ReportFormat::Json => ui.document(&findings.to_json())?,
        ReportFormat::Github => findings.annotate(ui)?,
    }
    Ok(if findings.count(Severity::Error) == 0 { Exit::Ok } else { Exit::Invalid })
}

/// The paths that were given, or here.
pub(super) fn places(paths: &[PathBuf]) -> Vec<&Path> {
    if paths.is_empty() { vec![Path::new(".")] } else { paths.iter().map(PathBuf::as_path).collect() }
}

/// The error of a path at which nothing is found.
pub(super) fn nothing_at(path: &Path) -> CommandError {
    CommandError::new(Exit::Invalid, "no_daemon", format!("there is no daemon in {}", path.display()))
        .help("daemons are in daemons/ID/daemon.yaml; `spellbook init` or `spellbook new ID` writes one")
}

impl Findings {
    fn add(&mut self, path: &Path, done: &mut BTreeSet<PathBuf>, ui: &Ui) -> Result<(), CommandError> {
        let (worktree, inside) = Worktree::around(path)?;
        let own =
            worktree.own_file().filter(|own| inside.as_os_str().is_empty() || inside == Path::new(own.name));
        let mut found = worktree.discover(&inside)?;
        let outsider = worktree.outsider(&inside);
        self.unseen.extend(outsider.iter().map(|location| location.directory.clone()));
        found.daemons.extend(outsider);
        let only_own = inside.to_str().is_some_and(|name| SPELLBOOKS.contains(&name) || name == POLICY);
        if only_own {
            found.daemons.clear();
            found.diagnostics.clear();
        }
        let policy =
            worktree.policy()?.filter(|_| inside.as_os_str().is_empty() || inside == Path::new(POLICY));
        if found.daemons.is_empty() && found.diagnostics.is_empty() && own.is_none() && policy.is_none() {
            return Err(nothing_at(path));
        }
        if let Some(own) = own.filter(|own| done.insert(worktree.root().join(own.name))) {
            self.extend(own.checked.diagnostics.clone(), &(own.name, own.text.as_str()));
        }
        if let Some(policy) = policy.filter(|_| done.insert(worktree.root().join(POLICY))) {
            self.extend(policy.diagnostics, &(POLICY, policy.text.as_str()));
        }
        found.diagnostics.retain(|one| done.insert(worktree.root().join(&one.file)));
        self.extend(found.diagnostics, &BTreeMap::new());
        let progress = ui.steps("checking", found.daemons.len());
        for location in found.daemons {
            if done.insert(worktree.root().join(&location.directory)) {
                let daemon = worktree.load(location)?;
                if let Some(manifest) = self.check(&daemon, &worktree)? {
                    self.check_tests(&daemon, &manifest);
                }
            }
            progress.step();
        }
        Ok(())
    }

    /// Checks a daemon, and gives what it is when it is valid.
    pub(super) fn check(
        &mut self,
        daemon: &LocalDaemon,
        worktree: &Worktree,
    ) -> Result<Option<Manifest>, CommandError> {
        self.daemons += 1;
        let mut checked = daemon.check(worktree.spellbook(), None);
        if let Some(manifest) = checked.value.as_ref().filter(|manifest| !manifest.callees().is_empty()) {
            let siblings = worktree.siblings(manifest)?;
            checked = daemon.check(worktree.spellbook(), Some(&siblings));
        }
        self.extend(checked.diagnostics, &daemon.source());
        Ok(checked.value)
    }

    /// Checks the tests of a daemon, and gives those that are valid, each with its file.
    pub(super) fn check_tests(&mut self, daemon: &LocalDaemon, manifest: &Manifest) -> Vec<(String, Test)> {
        let mut tests = Vec::new();
        for file in manifest::test::files_of(&daemon.files) {
            let checked = check_test(daemon.source(), file, Some(manifest));
            self.extend(checked.diagnostics, &daemon.source());
            tests.extend(checked.value.map(|test| (file.to_owned(), test)));
        }
        tests
    }

    fn extend(&mut self, diagnostics: Vec<Diagnostic>, sources: &dyn Sources) {
        let mut texts: BTreeMap<String, Option<Rc<str>>> = BTreeMap::new();
        for diagnostic in diagnostics {
            let text = texts
                .entry(diagnostic.file.clone())
                .or_insert_with_key(|file| sources.text(file).map(Rc::from));
            self.problems.push(Problem { text: text.clone(), diagnostic });
        }
    }

    fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.problems.iter().map(|problem| &problem.diagnostic)
    }

    /// How many there are.
    pub(super) fn count(&self, severity: Severity) -> usize {
        self.diagnostics().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// Whether nothing is wrong at all.
    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Shows them to people, or to programs.
    pub(super) fn present(&self, ui: &Ui) -> Result<(), CommandError> {
        if ui.is_json() { ui.document(&self.to_json()) } else { self.show(ui) }
    }

    fn summary(&self) -> String {
        let words = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        format!(
            "{}, {}, {}",
            words(self.daemons, "daemon"),
            words(errors, "error"),
            words(warnings, "warning")
        )
    }

    pub(super) fn show(&self, ui: &Ui) -> Result<(), CommandError> {
        let style = if ui.has_color() { Style::Color } else { Style::Plain };
        for Problem { diagnostic, text } in &self.problems {
            let diagnostic =
                Diagnostic { file: visible(&diagnostic.file).into_owned(), ..diagnostic.clone() };
            let file = text.as_deref().map_or(("", ""), |text| (diagnostic.file.as_str(), text));
            let rendered = render(std::slice::from_ref(&diagnostic), &file, style);
            // The last line counts, which is done below for all of them.
            let frame = rendered.rsplit_once("\n\n").map_or(rendered.as_str(), |(frame, _)| frame);
            ui.text(format_args!("{}\n\n", visible_lines(frame)))?;
        }
        let tone = match (self.count(Severity::Error), self.count(Severity::Warning)) {
            (0, 0) => Tone::Good,
            (0, _) => Tone::Odd,
            _ => Tone::Bad,
        };
        ui.line(ui.paint(tone, self.summary()))
    }

    pub(super) fn to_json(&self) -> Json {
        json!({
            "daemons": self.daemons,
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "diagnostics": to_json(&self.diagnostics().cloned().collect::<Vec<_>>()),
        })
    }

    /// Workflow commands of GitHub Actions: one annotation a problem.
    fn annotate(&self, ui: &Ui) -> Result<(), CommandError> {
        for diagnostic in self.diagnostics() {
            ui.line(visible(&annotation(diagnostic)))?;
        }
        ui.note(self.summary());
        Ok(())
    }
}

/// `::error file=…,line=…::…` (GitHub's "Workflow commands", with the escapes of its toolkit's
/// `command.ts`). No text of the file can end the command or begin another one.
fn annotation(diagnostic: &Diagnostic) -> String {
    let Diagnostic {
        code, severity, file, line, column, end_line, end_column, message, expected, help, ..
    } = diagnostic;
    let mut text = message.clone();
    for (word, more) in [("expected", expected), ("help:", help)] {
        if let Some(more) = more {
            text.push_str(&format!("\n{word} {more}"));
        }
    }
    // Columns are shown only within one line.
    let columns =
        if line == end_line { format!(",col={column},endColumn={end_column}") } else { String::new() };
    format!(
        "::{severity} file={},line={line},endLine={end_line}{columns},title={}::{}",
        escaped(file, ESCAPES),
        escaped(code, ESCAPES),
        escaped(&text, &ESCAPES[..3]),
    )
}

/// The first must come first; the last two are for properties only.
const ESCAPES: &[(&str, &str)] = &[("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")];

fn escaped(text: &str, escapes: &[(&str, &str)]) -> String {
    escapes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_cannot_be_broken_out_of() {
        let diagnostic = Diagnostic {
            code: "SB0101",
            severity: Severity::Error,
            file: "daemons/a,b:c/x\n.yaml".to_owned(),
            line: 3,
            column: 5,
            end_line: 3,
            end_column: 9,
            span: 0..0,
            message: "100% wrong\r\n::set-output name=x::y".to_owned(),
            expected: None,
            help: Some("did you mean `a`?".to_owned()),
            pointer: String::new(),
        };
        assert_eq!(
            annotation(&diagnostic),
            "::error file=daemons/a%2Cb%3Ac/x%0A.yaml,line=3,endLine=3,col=5,endColumn=9,title=SB0101::\
             100%25 wrong%0D%0A::set-output name=x::y%0Ahelp: did you mean `a`?"
        );
    }
}

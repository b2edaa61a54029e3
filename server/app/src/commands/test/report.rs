//! What came of the tests, for people and for programs.

use std::time::Duration;

use cassettes::Miss;
use domain::money::NanoUsd;
use serde_json::{Value as Json, json};

use crate::exit::CommandError;
use crate::output::{Tone, Ui};

/// What came of all of them.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) verdicts: Vec<Verdict>,
    /// Daemons without a test.
    pub(super) untested: Vec<String>,
    /// Whether a recording that nobody needs is a fault.
    pub(super) strict: bool,
}

/// What came of a test.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) daemon: String,
    pub(super) test: String,
    pub(super) title: Option<String>,
    /// Its file, from the root of the repository.
    pub(super) file: String,
    /// Everything that is not as it should be.
    pub(super) faults: Vec<Fault>,
    /// What was asked of the recordings that nobody needed.
    pub(super) unused: Vec<String>,
    /// What programs wanted of the network.
    pub(super) knocks: Vec<String>,
    /// How much was recorded, when something was.
    pub(super) recorded: Option<usize>,
    pub(super) took: Duration,
    /// What the models cost when they were asked.
    pub(super) cost: NanoUsd,
}

/// Something that is not as it should be.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    /// A stable word.
    pub(super) code: String,
    pub(super) message: String,
    /// A difference, or more to read.
    pub(super) detail: Option<String>,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message, detail: None, help: None }
    }

    pub(super) fn of_error(error: &CommandError) -> Self {
        let causes = error.causes();
        Self {
            detail: (!causes.is_empty()).then(|| causes.join("\n")),
            help: error.advice().map(str::to_owned),
            ..Self::new(error.code(), error.to_string())
        }
    }

    pub(super) fn of_miss(miss: Miss, name: &str) -> Self {
        let help = format!("if that is meant, record it: spellbook test --record --filter {name}");
        Self { detail: miss.difference, help: Some(help), ..Self::new("not_recorded", miss.message) }
    }

    pub(super) fn of_unrecorded(why: String) -> Self {
        let help = "nothing was recorded; what was recorded before stays".to_owned();
        Self { help: Some(help), ..Self::new("unrecordable", why) }
    }

    fn to_json(&self) -> Json {
        json!({ "code": self.code, "message": self.message, "detail": self.detail, "help": self.help })
    }
}

impl Verdict {
    /// What is wrong, with recordings that nobody needs where that counts.
    pub(super) fn all_faults(&self, strict: bool) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        if strict && !self.unused.is_empty() {
            faults.push(Fault { detail: Some(self.unused.join("\n\n")), ..self.unused_fault() });
        }
        faults
    }

    fn unused_fault(&self) -> Fault {
        let count = self.unused.len();
        let message = match count {
            1 => "a recording was not used".to_owned(),
            _ => format!("{count} recordings were not used"),
        };
        let help = "record the test anew, and they are gone: spellbook test --record";
        Fault { help: Some(help.to_owned()), ..Fault::new("unused_recording", message) }
    }

    /// What is worth a look and no fault.
    fn warnings(&self, strict: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        if !strict && !self.unused.is_empty() {
            warnings.push(self.unused_fault().message);
        }
        let knocks = self.knocks.iter();
        warnings.extend(knocks.map(|what| format!("a program asked for `{what}`; a test has no network")));
        warnings
    }
}

impl Report {
    /// Whether all is well.
    pub(super) fn passed(&self) -> bool {
        self.failed() == 0
    }

    fn failed(&self) -> usize {
        self.verdicts.iter().filter(|verdict| !verdict.all_faults(self.strict).is_empty()).count()
    }

    /// Writes it.
    pub(super) fn show(&self, ui: &Ui) -> Result<(), CommandError> {
        if ui.is_json() {
            return ui.document(&self.to_json());
        }
        let mut daemon = "";
        for verdict in &self.verdicts {
            if verdict.daemon != daemon {
                ui.line(ui.paint(Tone::Name, &verdict.daemon))?;
                daemon = &verdict.daemon;
            }
            self.show_one(verdict, ui)?;
        }
        for daemon in &self.untested {
            ui.note(format_args!("{daemon} has no tests"));
        }
        let (all, failed) = (self.verdicts.len(), self.failed());
        let cost: NanoUsd = self.verdicts.iter().map(|verdict| verdict.cost).sum();
        let tone = if failed == 0 { Tone::Good } else { Tone::Bad };
        let summary = format!("{} passed, {failed} failed", all - failed);
        ui.line("")?;
        ui.line(format_args!("{} {}", ui.paint(tone, summary), ui.paint(Tone::Dim, format!("({cost})"))))
    }

    fn show_one(&self, verdict: &Verdict, ui: &Ui) -> Result<(), CommandError> {
        let faults = verdict.all_faults(self.strict);
        let (tone, mark) = if faults.is_empty() { (Tone::Good, "✓") } else { (Tone::Bad, "✗") };
        let mut told = vec![format!("{:.1} s", verdict.took.as_secs_f64())];
        if verdict.cost > NanoUsd::ZERO {
            told.push(verdict.cost.to_string());
        }
        told.extend(verdict.recorded.map(|count| match count {
            0 => "nothing to record".to_owned(),
            1 => "1 answer recorded".to_owned(),
            _ => format!("{count} answers recorded"),
        }));
        let title = verdict.title.as_deref().map(|title| format!(": {}", ui.foreign_line(title)));
        let (mark, told) = (ui.paint(tone, mark), ui.paint(Tone::Dim, told.join(", ")));
        ui.line(format_args!("  {mark} {}{} {told}", verdict.test, title.unwrap_or_default()))?;
        for fault in &faults {
            for (at, line) in fault.message.lines().enumerate() {
                let indent = if at == 0 { "" } else { "  " };
                ui.line(format_args!("      {indent}{}", ui.paint(Tone::Bad, line)))?;
            }
            for line in fault.detail.iter().flat_map(|detail| detail.lines()) {
                let tone = match line.as_bytes().first() {
                    Some(b'+') => Tone::Good,
                    Some(b'-') => Tone::Bad,
                    _ => Tone::Plain,
                };
                ui.line(format_args!("        {}", ui.paint(tone, line)).to_string().trim_end())?;
            }
            if let Some(help) = &fault.help {
                ui.line(format_args!("      {} {help}", ui.paint(Tone::Good, "help:")))?;
            }
        }
        for warning in verdict.warnings(self.strict) {
            ui.line(format_args!("      {} {}", ui.paint(Tone::Odd, "warning:"), ui.foreign_line(&warning)))?;
        }
        Ok(())
    }

    fn to_json(&self) -> Json {
        let test = |verdict: &Verdict| {
            let faults = verdict.all_faults(self.strict);
            json!({
                "daemon": verdict.daemon,
                "test": verdict.test,
                "title": verdict.title,
                "file": verdict.file,
                "status": if faults.is_empty() { "passed" } else { "failed" },
                "duration_ms": u64::try_from(verdict.took.as_millis()).unwrap_or(u64::MAX),
                "cost": { "nano_usd": verdict.cost.nanos(), "credits": verdict.cost.credits() },
                "faults": faults.iter().map(Fault::to_json).collect::<Vec<_>>(),
                "warnings": verdict.warnings(self.strict),
                "recorded": verdict.recorded,
            })
        };
        json!({
            "passed": self.verdicts.len() - self.failed(),
            "failed": self.failed(),
            "untested": self.untested,
            "tests": self.verdicts.iter().map(test).collect::<Vec<_>>(),
        })
    }
}

//! A test of a daemon, as it was understood: what a run is given, and what must come of it. Nothing runs here.

use std::collections::BTreeMap;
use std::fmt;

use domain::event::EventKind;
use domain::files::Files;
use domain::money::NanoUsd;
use domain::name::{Branch, MemoName, SecretName};
use domain::run::RunStatus;
use domain::value::Value;
use regex::Regex;
use serde_json::{Map, Value as Json};

use crate::expression::Expression;
use crate::model::OutcomeKind;

/// The directory of tests in a daemon's directory.
pub const TESTS: &str = "tests";

/// The files of a daemon's directory that are tests, in order: `tests/<name>.yaml`. What lies deeper are fixtures.
pub fn files_of(files: &Files) -> impl Iterator<Item = &str> {
    files.paths().filter(|path| {
        let name = path.strip_prefix(TESTS).and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| !name.contains('/') && (name.ends_with(".yaml") || name.ends_with(".yml")))
    })
}

/// The name of a test: that of its file without the ending.
pub fn name_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(name, _)| name)
}

/// A valid test.
#[derive(Debug, Clone)]
pub struct Test {
    /// The name of its file, without the ending.
    pub name: String,
    /// A title for people.
    pub title: Option<String>,
    /// What the run is given.
    pub inputs: Map<String, Json>,
    /// The branch on which the daemon runs, and on which it happened.
    pub branch: Branch,
    /// What the daemon's variables are, where they are not as at first.
    pub state: BTreeMap<String, Json>,
    /// The conversations that were held before, by their keys.
    pub sessions: BTreeMap<MemoName, Vec<Turn>>,
    /// What happened; without it somebody runs the daemon by hand.
    pub event: Option<TestEvent>,
    /// Files of the workspace, by path, besides those of the daemon itself.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Made-up secrets.
    pub secrets: BTreeMap<SecretName, String>,
    /// What must come of it.
    pub expect: Expect,
}

/// A question to a model, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What was said to it.
    pub user: String,
    /// What it said.
    pub assistant: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub struct TestEvent {
    /// Which trigger it is for.
    pub kind: EventKind,
    /// What was done.
    pub action: Option<String>,
    /// Who did it.
    pub actor: String,
    /// What the actor may do in the repository.
    pub role: String,
    /// The files that changed.
    pub paths: Vec<String>,
    /// The labels of what it is about.
    pub labels: Vec<String>,
    /// Whether that is a draft.
    pub draft: bool,
    /// What `${event.…}` sees.
    pub payload: Json,
}

/// What must come of a run.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// How it ends.
    pub ending: Ending,
    /// Why it failed or was skipped.
    pub message: Option<Matcher>,
    /// What stages made, by the name of the output or of the stage.
    pub outputs: Vec<(String, Matcher)>,
    /// What holds at the end.
    pub when: Vec<Expression>,
    /// What the daemon's variables are at the end.
    pub state: Vec<(String, Matcher)>,
    /// Files at the end.
    pub files: Vec<(String, Matcher)>,
    /// Everything that it wants done, in order; `None` leaves that open.
    pub outcomes: Option<Vec<OutcomeExpect>>,
    /// What the models may have cost.
    pub cost: Option<(Bound, NanoUsd)>,
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Ended(RunStatus),
    /// The event starts none.
    NotStarted,
}

impl Default for Ending {
    fn default() -> Self {
        Self::Ended(RunStatus::Succeeded)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(status) => f.write_str(status.as_str()),
            Self::NotStarted => f.write_str("not_started"),
        }
    }
}

/// Something that the run wants done.
#[derive(Debug, Clone)]
pub struct OutcomeExpect {
    /// What kind.
    pub kind: OutcomeKind,
    /// What holds for its fields, by the name in the manifest.
    pub fields: Vec<(String, Matcher)>,
}

/// What holds for a value. All of it must hold.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    /// It is this.
    pub equals: Option<Json>,
    /// Its text has these in it.
    pub contains: Vec<String>,
    /// Its text has none of these in it.
    pub lacks: Vec<String>,
    /// This finds something in its text.
    pub matches: Option<Regex>,
    /// Its text is that of a file: the file's name, and its text.
    pub same_as: Option<(String, String)>,
    /// Whether it is there at all.
    pub absent: Option<bool>,
}

/// Why a value is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// In words that follow the name of the value: `does not contain …`.
    pub message: String,
    /// What was expected and what is there, when both are texts of several lines and a difference says more.
    pub texts: Option<(String, String)>,
}

impl Mismatch {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), texts: None }
    }
}

impl Matcher {
    /// What is wrong with a value; nothing when it is as it should be. `None` is a value that is not there.
    pub fn mismatches(&self, value: Option<&Json>) -> Vec<Mismatch> {
        let Some(json) = value else {
            return if self.absent == Some(true) { Vec::new() } else { vec![Mismatch::new("is not there")] };
        };
        if self.absent == Some(true) {
            return vec![Mismatch::new("is there, and should not be")];
        }
        let text = Value::trusted(json.clone()).text();
        let mut wrong = Vec::new();
        if let Some(wanted) = self.equals.as_ref().filter(|wanted| !is_same(wanted, json)) {
            let texts = match (wanted, json) {
                (Json::String(wanted), Json::String(text))
                    if wanted.contains('\n') || text.contains('\n') =>
                {
                    Some((wanted.clone(), text.clone()))
                }
                (Json::Object(_) | Json::Array(_), _) => {
                    Some((format!("{wanted:#}\n"), format!("{json:#}\n")))
                }
                _ => None,
            };
            let message = match &texts {
                Some(_) => "is another than expected".to_owned(),
                None => format!("is {}, not {}", shown(json), shown(wanted)),
            };
            wrong.push(Mismatch { message, texts });
        }
        if let Some((file, wanted)) = self.same_as.as_ref().filter(|(_, wanted)| *wanted != text) {
            let message = format!("is not the text of {file}");
            wrong.push(Mismatch { message, texts: Some((wanted.clone(), text.clone())) });
        }
        for part in self.contains.iter().filter(|part| !text.contains(part.as_str())) {
            wrong.push(Mismatch::new(format!("does not contain {}; it is {}", quoted(part), quoted(&text))));
        }
        for part in self.lacks.iter().filter(|part| text.contains(part.as_str())) {
            wrong.push(Mismatch::new(format!("contains {}; it is {}", quoted(part), quoted(&text))));
        }
        if let Some(pattern) = self.matches.as_ref().filter(|pattern| !pattern.is_match(&text)) {
            wrong.push(Mismatch::new(format!(
                "does not match {}; it is {}",
                quoted(pattern.as_str()),
                quoted(&text)
            )));
        }
        wrong
    }
}

/// Whether two values are the same; `1` and `1.0` are.
fn is_same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => one.as_f64() == other.as_f64(),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, one)| other.get(key).is_some_and(|other| is_same(one, other)))
        }
        _ => one == other,
    }
}

fn shown(json: &Json) -> String {
    quoted(&json.to_string())
}

/// A text in a sentence: in backquotes, not endless.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 300;
    let cut: String = text.chars().take(LONGEST).collect();
    let more = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    format!("`{}{more}`", cut.trim_end())
}

/// A comparison with an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `=`
    Exactly,
}

impl Bound {
    /// The sign.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Exactly => "=",
        }
    }

    /// Whether an amount is within it.
    pub fn admits(self, amount: NanoUsd, bound: NanoUsd) -> bool {
        match self {
            Self::Below => amount < bound,
            Self::AtMost => amount <= bound,
            Self::Exactly => amount == bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(matcher: &Matcher, value: Option<&Json>, expect: &[&str]) {
        let wrong = matcher.mismatches(value);
        assert_eq!(wrong.iter().map(|one| one.message.as_str()).collect::<Vec<_>>(), expect, "{value:?}");
    }

    #[test]
    fn values_are_held_against_what_is_expected() {
        let equals = |json| Matcher { equals: Some(json), ..Matcher::default() };
        check(&equals(json!(1)), Some(&json!(1.0)), &[]);
        check(&equals(json!({ "a": [1] })), Some(&json!({ "a": [1.0] })), &[]);
        check(&equals(json!("bug")), Some(&json!("docs")), &["is `\"docs\"`, not `\"bug\"`"]);
        check(&equals(json!("bug")), None, &["is not there"]);
        check(&equals(json!([])), Some(&json!([1])), &["is another than expected"]);
        let text = Matcher {
            contains: vec!["a".to_owned(), "b".to_owned()],
            lacks: vec!["c".to_owned()],
            matches: Some(Regex::new("^a").unwrap()),
            ..Matcher::default()
        };
        check(&text, Some(&json!("ab")), &[]);
        check(
            &text,
            Some(&json!("cb")),
            &[
                "does not contain `a`; it is `cb`",
                "contains `c`; it is `cb`",
                "does not match `^a`; it is `cb`",
            ],
        );
        let absent = Matcher { absent: Some(true), ..Matcher::default() };
        check(&absent, None, &[]);
        check(&absent, Some(&json!("")), &["is there, and should not be"]);
    }

    #[test]
    fn only_what_lies_right_in_the_directory_is_a_test() {
        let names = [
            "daemon.yaml",
            "tests/a.yaml",
            "tests/b.yml",
            "tests/c.json",
            "tests/cassettes/a.yaml",
            "tests.yaml",
        ];
        let files: Files =
            names.map(|name| (name, domain::files::File::Regular(Vec::new()))).into_iter().collect();
        assert_eq!(files_of(&files).map(name_of).collect::<Vec<_>>(), ["a", "b"]);
    }
}

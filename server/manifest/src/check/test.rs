//! `tests/<name>.yaml` of a daemon.

use std::collections::{BTreeMap, BTreeSet};

use domain::files::File;
use domain::name::{Branch, MemoName, SecretName};
use regex::Regex;
use serde_json::{Map, Value as Json};

use super::files::leaves;
use super::{DaemonSource, regular_text, tree, whole_file};
use crate::codes;
use crate::diagnostic::{Checked, Problem, Report};
use crate::model::{Manifest, Stage, StageKind};
use crate::raw::scalar::{Any, Line, Named, OneOrMany, Secret, Text};
use crate::raw::test as raw;
use crate::raw::trigger::Role;
use crate::read::{Place, Read, Reader, Slot};
use crate::suggest::{did_you_mean, quoted};
use crate::test::{Ending, Expect, Matcher, OutcomeExpect, TESTS, Test, TestEvent, Turn, name_of};
use crate::yaml::Shape;
use domain::run::RunStatus;

/// A shorter secret is not told from other text when it is looked for.
const SHORTEST_SECRET: usize = 8;
/// Names that mean something in `when`, besides inputs and outputs.
const ROOTS: [&str; 8] = ["event", "inputs", "stages", "state", "workspace", "run", "repository", "outcomes"];

/// Checks a test: `path` is its file in the daemon's directory. Without a manifest, names are not looked up.
pub fn check_test(source: DaemonSource<'_>, path: &str, manifest: Option<&Manifest>) -> Checked<Test> {
    let mut report = Report::default();
    let whole = source.path(path);
    let value = test(&source, path, manifest, &mut report);
    Checked::new(value, report.finish(&whole))
}

fn test(
    source: &DaemonSource<'_>,
    path: &str,
    manifest: Option<&Manifest>,
    report: &mut Report,
) -> Option<Test> {
    let whole = source.path(path);
    let text = regular_text(source.files.get(path), &whole, report)?;
    let node = tree(text, &whole, report)?;
    if node.shape == Shape::Scalar(Json::Null) {
        let problem = Problem::error(&codes::YAML_SYNTAX, "the file says nothing")
            .expected("a map with `inputs` or `event`, and `expect`");
        whole_file(report, &whole, problem);
        return None;
    }
    let mut reader = Reader::new(whole, text, report);
    let root = reader.root(&node);
    let raw = raw::File::read(&node, root, &mut reader)?;
    let known = manifest.map(Known::of);
    let mut check = TestCheck { source, reader, known };
    let expect = raw.expect.get().map(|raw| check.expect(raw)).unwrap_or_default();
    let inputs = check.inputs(&raw.inputs, root, &raw, &expect);
    let event = raw.event.found().and_then(|(raw, place)| check.event(raw, place, expect.ending));
    let mut files = check.workspace(&raw.workspace);
    files.extend(check.files(&raw.files));
    Some(Test {
        name: name_of(path).to_owned(),
        title: raw.name.get().map(|line| line.0.clone()),
        inputs,
        branch: check.branch(&raw.branch),
        state: check.state(&raw.state),
        sessions: check.sessions(&raw.sessions),
        event,
        files,
        secrets: check.secrets(&raw.secrets),
        expect,
    })
}

/// What the names of a test can mean.
struct Known<'m> {
    manifest: &'m Manifest,
    outputs: BTreeSet<&'m str>,
    stages: BTreeSet<&'m str>,
    /// Whether a stage keeps a conversation.
    talks: bool,
}

impl<'m> Known<'m> {
    fn of(manifest: &'m Manifest) -> Self {
        let (outputs, stages) = (BTreeSet::new(), BTreeSet::new());
        let mut known = Self { manifest, outputs, stages, talks: false };
        let mut open: Vec<&Stage> = manifest.stages.iter().chain(&manifest.on_failure).collect();
        while let Some(stage) = open.pop() {
            known.outputs.extend(stage.output.as_deref());
            known.stages.insert(&stage.name);
            known.talks |= match &stage.kind {
                StageKind::Prompt(question) => question.session.is_some(),
                StageKind::Hybrid(hybrid) => hybrid.question.session.is_some(),
                StageKind::Agent(agent) => agent.task.session.is_some(),
                _ => false,
            };
            if let StageKind::Foreach(foreach) = &stage.kind {
                open.extend(&foreach.stages);
            }
        }
        known
    }

    /// What is wrong with the name of a variable; nothing when the daemon declares it.
    fn undeclared(&self, name: &str) -> Option<Problem> {
        let declared = &self.manifest.state;
        (!declared.contains_key(name)).then(|| {
            let message = format!("the daemon has no variable {}", quoted(name));
            let near = did_you_mean(name, declared.keys().map(String::as_str));
            Problem::error(&codes::TEST_STATE, message).maybe_help(near)
        })
    }

    fn inputs(&self) -> impl Iterator<Item = &'m str> {
        self.manifest.inputs.iter().map(|input| input.name.as_str())
    }
}

/// A check under way.
struct TestCheck<'c> {
    source: &'c DaemonSource<'c>,
    reader: Reader<'c>,
    known: Option<Known<'c>>,
}

impl TestCheck<'_> {
    fn inputs(
        &mut self,
        slot: &Slot<Named<Any>>,
        root: Place,
        raw: &raw::File,
        expect: &Expect,
    ) -> Map<String, Json> {
        let mut inputs = Map::new();
        for (name, place, value) in slot.get().map_or(&[][..], |named| &named.0) {
            if let Some(known) = &self.known
                && known.inputs().all(|input| input != name)
            {
                let message = format!("the daemon has no input {}", quoted(name));
                let problem = Problem::error(&codes::TEST_INPUTS, message)
                    .maybe_help(did_you_mean(name, known.inputs()));
                self.reader.report(problem, *place);
            }
            if let Some(value) = value.get() {
                inputs.insert(name.clone(), value.0.clone());
            }
        }
        let manifest = self.known.as_ref().map(|known| known.manifest);
        let needed = manifest.iter().flat_map(|manifest| &manifest.inputs).filter(|input| input.required);
        // A run that an event starts is refused without them, as is one by hand.
        let missing: Vec<_> = needed.filter(|input| !inputs.contains_key(&input.name)).collect();
        if !missing.is_empty() && expect.ending != Ending::NotStarted {
            let names: Vec<_> = missing.iter().map(|input| format!("`{}`", input.name)).collect();
            let message = format!("the daemon needs {}, which the test does not give", names.join(", "));
            let place = slot.place().or(raw.event.place()).unwrap_or(root);
            self.reader.report(Problem::error(&codes::TEST_INPUTS, message), place);
        }
        inputs
    }

    fn branch(&mut self, slot: &Slot<Line>) -> Branch {
        let main = || Branch::parse("main").expect("because it is a branch's name");
        let Some((Line(written), place)) = slot.found() else { return main() };
        Branch::parse(written.as_str()).unwrap_or_else(|error| {
            self.reader.report(Problem::error(&codes::BAD_IDENTIFIER, error.to_string()), place);
            main()
        })
    }

    fn state(&mut self, slot: &Slot<Named<Any>>) -> BTreeMap<String, Json> {
        let mut state = BTreeMap::new();
        for (name, place, value) in slot.get().map_or(&[][..], |named| &named.0) {
            self.variable(name, *place);
            state.extend(value.get().map(|Any(json)| (name.clone(), json.clone())));
        }
        state
    }

    /// Refuses the name of a variable that the daemon does not declare.
    fn variable(&mut self, name: &str, place: Place) {
        let problem = self.known.as_ref().and_then(|known| known.undeclared(name));
        if let Some(problem) = problem {
            self.reader.report(problem, place);
        }
    }

    fn sessions(&mut self, slot: &Slot<Named<Vec<Slot<raw::Turn>>>>) -> BTreeMap<MemoName, Vec<Turn>> {
        let mut sessions = BTreeMap::new();
        let Some((Named(entries), place)) = slot.found() else { return sessions };
        if self.known.as_ref().is_some_and(|known| !known.talks) {
            let message = "no stage of the daemon has a `session`, so that nobody goes on with these";
            self.reader.report(Problem::error(&codes::TEST_STATE, message), place);
        }
        for (key, place, turns) in entries {
            let turn = |turn: &raw::Turn| {
                let (Text(user), Text(assistant)) = (turn.user.get()?, turn.assistant.get()?);
                Some(Turn { user: user.clone(), assistant: assistant.clone() })
            };
            let turns = turns.get().map_or(&[][..], Vec::as_slice).iter().filter_map(Slot::get);
            match MemoName::parse(key.as_str()) {
                Ok(key) => drop(sessions.insert(key, turns.filter_map(turn).collect())),
                Err(error) => {
                    self.reader.report(Problem::error(&codes::TEST_STATE, error.to_string()), *place);
                }
            }
        }
        sessions
    }

    fn event(&mut self, raw: &raw::Event, place: Place, ending: Ending) -> Option<TestEvent> {
        let kind = raw.kind.get()?.0;
        let waits =
            |known: &Known<'_>| known.manifest.triggers.iter().any(|trigger| trigger.on.event() == kind);
        if ending != Ending::NotStarted && self.known.as_ref().is_some_and(|known| !waits(known)) {
            let message =
                format!("the daemon has no trigger `{}`, so that this starts no run", kind.as_str());
            let help = "expect `status: not_started`, or give inputs in place of the event";
            let problem = Problem::error(&codes::TEST_EVENT, message).help(help);
            self.reader.report(problem, raw.kind.place().unwrap_or(place));
        }
        let lines = |slot: &Slot<OneOrMany<Line>>| -> Vec<String> {
            let lines = slot.get().map_or(&[][..], |lines| &lines.0);
            lines.iter().filter_map(|line| line.get().map(|line| line.0.clone())).collect()
        };
        let role = raw.role.cloned().unwrap_or(Role::Write);
        Some(TestEvent {
            kind,
            action: raw.action.get().map(|line| line.0.clone()),
            actor: raw.actor.get().map_or_else(|| "tester".to_owned(), |line| line.0.clone()),
            role: Role::WORDS[role as usize].to_owned(),
            paths: lines(&raw.paths),
            labels: lines(&raw.labels),
            draft: raw.draft.cloned().unwrap_or(false),
            payload: raw.payload.get().map_or_else(|| Json::Object(Map::new()), |any| any.0.clone()),
        })
    }

    /// The files of a directory beside the test.
    fn workspace(&mut self, slot: &Slot<Line>) -> BTreeMap<String, Vec<u8>> {
        let Some((Line(written), place)) = slot.found() else { return BTreeMap::new() };
        let inside = written.trim_start_matches("./").trim_end_matches('/');
        let prefix = format!("{TESTS}/{inside}/");
        let paths = self.source.files.paths().filter(|path| path.starts_with(&prefix));
        let files: BTreeMap<String, Vec<u8>> = paths
            .filter_map(|path| {
                Some((path[prefix.len()..].to_owned(), self.source.files.bytes(path)?.to_vec()))
            })
            .collect();
        if inside.is_empty() || leaves(inside) {
            self.refuse_path(written, place, "the directory of tests");
        } else if files.is_empty() {
            let directories: BTreeSet<&str> = self
                .source
                .files
                .paths()
                .filter_map(|path| path.strip_prefix(TESTS)?.strip_prefix('/')?.split_once('/'))
                .map(|(directory, _)| directory)
                .collect();
            let message = format!("there is no directory {} beside the test", quoted(written));
            let help = did_you_mean(inside, directories);
            self.reader.report(Problem::error(&codes::TEST_FIXTURE, message).maybe_help(help), place);
        }
        files
    }

    fn files(&mut self, slot: &Slot<Named<Text>>) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for (path, place, text) in slot.get().map_or(&[][..], |named| &named.0) {
            if leaves(path) {
                self.refuse_path(path, *place, "the workspace");
            } else if let Some(Text(text)) = text.get() {
                files.push((path.clone(), text.clone().into_bytes()));
            }
        }
        files
    }

    fn secrets(&mut self, slot: &Slot<raw::Secrets>) -> BTreeMap<SecretName, String> {
        let mut secrets = BTreeMap::new();
        for (Secret(name), place, text) in slot.get().map_or(&[][..], |secrets| &secrets.0) {
            if let Some(known) = &self.known {
                let declared = &known.manifest.permissions.secrets;
                if declared.iter().all(|secret| secret != name) {
                    let message = format!("the daemon does not name the secret {}", quoted(name.as_str()));
                    let near = did_you_mean(name.as_str(), declared.iter().map(SecretName::as_str));
                    let problem = Problem::error(&codes::TEST_SECRET, message).maybe_help(near);
                    self.reader.report(problem, *place);
                }
            }
            let Some((Text(text), place)) = text.found() else { continue };
            if text.chars().count() < SHORTEST_SECRET {
                let message = "the value is too short to be found wherever it turns up";
                let problem = Problem::error(&codes::TEST_SECRET, message);
                let expected = format!("at least {SHORTEST_SECRET} characters, made up");
                self.reader.report(problem.expected(expected), place);
            }
            secrets.insert(name.clone(), text.clone());
        }
        secrets
    }

    fn expect(&mut self, raw: &raw::Expect) -> Expect {
        let ending = match raw.status.cloned() {
            None | Some(raw::Ending::Succeeded) => Ending::Ended(RunStatus::Succeeded),
            Some(raw::Ending::Failed) => Ending::Ended(RunStatus::Failed),
            Some(raw::Ending::TimedOut) => Ending::Ended(RunStatus::TimedOut),
            Some(raw::Ending::Skipped) => Ending::Ended(RunStatus::Skipped),
            Some(raw::Ending::NotStarted) => Ending::NotStarted,
        };
        self.output_names(&raw.outputs);
        self.conditions(&raw.when);
        for (name, place, _) in raw.state.get().map_or(&[][..], |named| &named.0) {
            self.variable(name, *place);
        }
        let outcomes = raw.outcomes.get().map(|list| {
            list.iter()
                .filter_map(Slot::get)
                .map(|one| OutcomeExpect { kind: one.kind, fields: self.matchers(&one.fields) })
                .collect()
        });
        let named = |slot: &Slot<Named<raw::Match>>, check: &mut Self| {
            slot.get().map(|named| check.matchers(&named.0)).unwrap_or_default()
        };
        let when = raw.when.get().map_or(&[][..], |when| &when.0);
        Expect {
            ending,
            message: raw.message.found().and_then(|(raw, place)| self.matcher(raw, place)),
            outputs: named(&raw.outputs, self),
            when: when.iter().filter_map(|one| one.get().map(|one| one.expression.clone())).collect(),
            state: named(&raw.state, self),
            files: named(&raw.files, self),
            outcomes,
            cost: raw.cost.get().map(|cost| (cost.0, cost.1)),
        }
    }

    fn output_names(&mut self, slot: &Slot<Named<raw::Match>>) {
        let Some(known) = &self.known else { return };
        for (name, place, _) in slot.get().map_or(&[][..], |named| &named.0) {
            // A stage inside `foreach` is named with its place: `Each[0]/Ask`.
            let inner = name.rsplit('/').next().unwrap_or(name);
            if known.outputs.contains(name.as_str()) || known.stages.contains(inner) {
                continue;
            }
            let names = known.outputs.iter().chain(&known.stages).copied();
            let message = format!("the daemon has no output and no stage {}", quoted(name));
            let problem = Problem::error(&codes::TEST_OUTPUT, message).maybe_help(did_you_mean(name, names));
            self.reader.report(problem, *place);
        }
    }

    fn conditions(&mut self, slot: &Slot<OneOrMany<crate::raw::scalar::Condition>>) {
        let Some(known) = &self.known else { return };
        for (condition, place) in slot.get().map_or(&[][..], |when| &when.0).iter().filter_map(Slot::found) {
            for reference in condition.expression.references() {
                if let ("state", [name, ..]) = (reference.root, reference.path.as_slice())
                    && !reference.guarded
                    && let Some(problem) = known.undeclared(name)
                {
                    self.reader.report_within(problem, place, &condition.text, reference.offset);
                    continue;
                }
                let names = || known.inputs().chain(known.outputs.iter().copied()).chain(ROOTS);
                if reference.guarded || names().any(|name| name == reference.root) {
                    continue;
                }
                let message = format!("nothing is called {}", quoted(reference.root));
                let near = did_you_mean(reference.root, names());
                let problem = Problem::error(&codes::UNKNOWN_VALUE, message).maybe_help(near);
                self.reader.report_within(problem, place, &condition.text, reference.offset);
            }
        }
    }

    fn matchers(&mut self, named: &[(String, Place, Slot<raw::Match>)]) -> Vec<(String, Matcher)> {
        let mut matchers = Vec::new();
        for (name, _, slot) in named {
            let matcher = slot.found().and_then(|(raw, place)| self.matcher(raw, place));
            matchers.extend(matcher.map(|matcher| (name.clone(), matcher)));
        }
        matchers
    }

    fn matcher(&mut self, raw: &raw::Match, place: Place) -> Option<Matcher> {
        let wanted = match raw {
            raw::Match::Is(json) => {
                return Some(Matcher { equals: Some(json.clone()), ..Matcher::default() });
            }
            raw::Match::Wanted(wanted) => wanted,
        };
        let texts = |slot: &Slot<OneOrMany<Text>>| -> Vec<String> {
            let texts = slot.get().map_or(&[][..], |texts| &texts.0);
            texts.iter().filter_map(|text| text.get().map(|text| text.0.clone())).collect()
        };
        let matcher = Matcher {
            equals: wanted.equals.get().map(|any| any.0.clone()),
            contains: texts(&wanted.contains),
            lacks: texts(&wanted.lacks),
            matches: wanted.matches.found().and_then(|(Text(source), place)| self.pattern(source, place)),
            same_as: wanted.same_as.found().and_then(|(Line(path), place)| self.same_as(path, place)),
            absent: wanted.absent.cloned(),
        };
        let slots = crate::read::Written::written(&**wanted);
        let written = slots.iter().filter(|(_, place)| place.is_some()).count();
        if written == 0 || (matcher.absent == Some(true) && written > 1) {
            let message = if written == 0 {
                "nothing is expected here"
            } else {
                "what is absent cannot be anything else as well"
            };
            let problem = Problem::error(&codes::TEST_EXPECTATION, message);
            let keys = raw::Wanted::KEYS.join(", ");
            self.reader.report(problem.expected(format!("a value, or a map of conditions: {keys}")), place);
        }
        Some(matcher)
    }

    fn pattern(&mut self, source: &str, place: Place) -> Option<Regex> {
        let pattern = regex::RegexBuilder::new(source).size_limit(1 << 20).build();
        pattern
            .map_err(|error| {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                let message = format!("{} is not a regular expression", quoted(source));
                self.reader.report(Problem::error(&codes::TEST_PATTERN, message).help(why), place);
            })
            .ok()
    }

    fn same_as(&mut self, written: &str, place: Place) -> Option<(String, String)> {
        let inside = written.trim_start_matches("./");
        if leaves(inside) {
            self.refuse_path(written, place, "the directory of tests");
            return None;
        }
        let path = format!("{TESTS}/{inside}");
        let text = match self.source.files.get(&path) {
            Some(File::Regular(bytes)) => std::str::from_utf8(bytes).ok(),
            Some(_) | None => None,
        };
        if text.is_none() {
            let beside =
                self.source.files.paths().filter_map(|path| path.strip_prefix(TESTS)?.strip_prefix('/'));
            let message = format!("there is no text file {} beside the test", quoted(written));
            let near = did_you_mean(inside, beside);
            self.reader.report(Problem::error(&codes::TEST_FIXTURE, message).maybe_help(near), place);
        }
        text.map(|text| (path, text.to_owned()))
    }

    fn refuse_path(&mut self, path: &str, place: Place, whole: &str) {
        let problem = Problem::error(&codes::PATH_LEAVES, format!("{} leaves {whole}", quoted(path)));
        self.reader.report(problem.expected("a relative path with `/`, without `..`"), place);
    }
}

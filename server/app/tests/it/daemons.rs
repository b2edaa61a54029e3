//! The daemons of this repository, each run by the real program as a person would, in a copy of the
//! spellbook with a small repository around it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};

/// Variables that say where the sandbox and the model are.
const TOOLS: [&str; 4] =
    ["SPELLBOOK_TOOLS", "SPELLBOOK_NSJAIL", "SPELLBOOK_MODEL_PYTHON", "SPELLBOOK_MODEL_GGUF"];

/// A copy of the spellbook, and a home that no other test sees.
struct Book {
    root: tempfile::TempDir,
    /// Whether there is a model on this machine.
    model: bool,
}

/// What `spellbook run --json` said.
struct Ran {
    code: Option<i32>,
    document: Json,
}

impl Book {
    /// With these files of the daemons' own fixtures in it: where from, where to.
    fn with(fixtures: &[(&str, &str)]) -> Self {
        let root = tempfile::Builder::new().prefix("daemons").tempdir().unwrap();
        let book = Self { root, model: true };
        fs::create_dir_all(book.root.path().join("home")).unwrap();
        copy(&source().join("daemons"), &book.path().join("daemons"));
        copy(&source().join("spellbook.yaml"), &book.path().join("spellbook.yaml"));
        for (from, to) in fixtures {
            copy(&source().join("daemons").join(from), &book.path().join(to));
        }
        book
    }

    /// On a machine without a model.
    fn without_model(self) -> Self {
        Self { model: false, ..self }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join("book")
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap()
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Output {
        #[expect(clippy::disallowed_methods, reason = "the program itself is what is tested")]
        let mut command = Command::new(program);
        let home = self.root.path().join("home");
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", &home).env("XDG_DATA_HOME", home.join("data"));
        command.envs(variable("PATH").map(|path| ("PATH", path)));
        command.env("SPELLBOOK_TOOLS", tools());
        command.envs(TOOLS.into_iter().filter_map(|name| Some((name, variable(name)?))));
        if !self.model {
            command.env("SPELLBOOK_MODEL_PYTHON", home.join("no-python"));
        }
        command.output().unwrap()
    }

    fn spellbook(&self, arguments: &[&str]) -> Output {
        self.output(env!("CARGO_BIN_EXE_spellbook"), arguments)
    }

    /// Runs a daemon with inputs, each `name=value`.
    fn run(&self, daemon: &str, inputs: &[&str]) -> Ran {
        let directory = format!("daemons/{daemon}");
        let mut arguments = vec!["run", &directory, "--json"];
        arguments.extend(inputs.iter().flat_map(|input| ["--input", input]));
        let output = self.spellbook(&arguments);
        let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr));
        });
        Ran { code: output.status.code(), document }
    }

    /// Runs a daemon, and does to the files what it would change.
    fn run_and_apply(&self, daemon: &str, inputs: &[&str]) {
        let directory = format!("daemons/{daemon}");
        let mut arguments = vec!["run", directory.as_str()];
        arguments.extend(inputs.iter().flat_map(|input| ["--input", input]));
        let output = self.spellbook(&arguments);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        let said = text(&output.stdout);
        let patch = &said[said.find("diff --git").expect("because it changes a file")..];
        fs::write(self.path().join("change.patch"), patch).unwrap();
        let applied = self.output("git", &["apply", "change.patch"]);
        assert!(applied.status.success(), "{}\n{patch}", text(&applied.stderr));
    }
}

impl Ran {
    fn succeeded(self) -> Self {
        assert_eq!(
            (self.code, &self.document["status"]),
            (Some(0), &json!("succeeded")),
            "{:#}",
            self.document
        );
        self
    }

    /// It failed, and these are its words.
    fn failed(self, words: &str) {
        assert_eq!((self.code, &self.document["status"]), (Some(1), &json!("failed")), "{:#}", self.document);
        let message = self.document["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
        assert_eq!(self.document["effects"], json!([]), "what failed wants nothing done");
    }

    fn output(&self) -> &Json {
        &self.document["output"]
    }

    fn files(&self) -> &Json {
        &self.document["files"]
    }

    /// What it wants done: only effects of these kinds, staged.
    fn wants(&self, kinds: &[&str]) -> Vec<&Json> {
        let effects: Vec<&Json> = self.document["effects"].as_array().unwrap().iter().collect();
        let found: Vec<_> =
            effects.iter().map(|e| (e["kind"].as_str().unwrap(), e["status"]["status"].as_str())).collect();
        let expected: Vec<_> = kinds.iter().map(|kind| (*kind, Some("staged"))).collect();
        assert_eq!(found, expected, "{:#}", self.document);
        effects.into_iter().map(|effect| &effect["effect"]).collect()
    }

    /// How a stage ended, and what it made.
    fn stage(&self, name: &str) -> (&str, &Json) {
        let stages = self.document["execution"]["stages"].as_array().unwrap();
        let stage = stages.iter().find(|stage| stage["name"] == name).unwrap();
        (stage["status"].as_str().unwrap(), &stage["output"])
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[expect(clippy::disallowed_methods, reason = "the environment of the test says where the tools are")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Where `./x` has put the sandbox and the model; the home of the test hides it.
fn tools() -> PathBuf {
    let data = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || PathBuf::from(variable("HOME").unwrap_or_default()).join(".local/share");
    data.unwrap_or_else(home).join("spellbook/tools")
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_has(whole: &str, parts: &[&str]) {
    for part in parts {
        assert!(whole.contains(part), "there is no {part:?} in:\n{whole}");
    }
}

#[test]
fn all_are_valid_and_formatted() {
    let book = Book::with(&[]);
    for arguments in [["validate", "."], ["fmt", "--check"]] {
        let output = book.spellbook(&arguments);
        assert!(output.status.success(), "{arguments:?}\n{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!text(&output.stdout).contains("warning:"), "{}", text(&output.stdout));
    }
}

#[test]
fn only_two_start_by_themselves_on_a_push() {
    let mut started: Vec<String> = fs::read_dir(source().join("daemons"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .filter(|entry| fs::read_to_string(entry.path().join("daemon.yaml")).unwrap().contains("\n    push:"))
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    started.sort();
    assert_eq!(started, ["changelog", "code-health"]);
}

mod jail {
    use super::*;

    const COMMITS: &str = "commits=@daemons/changelog/tests/commits.json";

    #[test]
    fn changelog_adds_entries_and_touches_nothing_else() {
        let book = Book::with(&[("changelog/tests/CHANGELOG.md", "CHANGELOG.md")]);
        let ran = book.run("changelog", &[COMMITS]).succeeded();
        assert_eq!(ran.files(), &json!(["CHANGELOG.md"]));
        assert_eq!((&ran.output()["known"], &ran.output()["left_out"]), (&json!(1), &json!(2)));
        let wanted = ran.wants(&["create-pull-request"])[0];
        assert_eq!(
            (&wanted["title"], &wanted["labels"]),
            (&json!("changelog: Add 4 entries"), &json!(["changelog"]))
        );
        assert_has(wanted["body"].as_str().unwrap(), &["### Breaking", "**cli:** Add `new` (2222222)"]);

        book.run_and_apply("changelog", &[COMMITS]);
        assert_eq!(book.read("CHANGELOG.md"), book.read("daemons/changelog/tests/CHANGELOG.after.md"));
    }

    #[test]
    fn changelog_adds_nothing_twice() {
        let book = Book::with(&[("changelog/tests/CHANGELOG.after.md", "CHANGELOG.md")]);
        let ran = book.run("changelog", &[COMMITS]).succeeded();
        assert_eq!((ran.files(), &ran.output()["added"]), (&json!([]), &json!([])));
        ran.wants(&[]);
    }

    #[test]
    fn changelog_begins_a_file_and_a_section_where_there_is_none() {
        let book = Book::with(&[]);
        let added = "commits=[{\"id\": \"2222222\", \"message\": \"fix: a hang\"}]";
        book.run_and_apply("changelog", &[added]);
        assert_eq!(
            book.read("CHANGELOG.md"),
            "# Changelog\n\n## Unreleased\n\n### Fixed\n\n- A hang (2222222)\n"
        );
        fs::write(book.path().join("CHANGELOG.md"), "# Log\r\n\r\n## 1.0.0\r\n\r\n- First\r\n").unwrap();
        let ran = book.run("changelog", &[added]).succeeded();
        assert_eq!(ran.output()["added"], json!(["- A hang (2222222)"]));
    }

    #[test]
    fn changelog_says_what_is_wrong_with_its_input() {
        let book = Book::with(&[]);
        book.run("changelog", &["commits={}"]).failed("`commits` is not a list");
        book.run("changelog", &["commits=[1]"]).failed("each of `commits` needs a \"message\"");
        book.run("changelog", &["commits=[]", "changelog=../../etc/passwd"])
            .failed("is not a file inside the repository");
    }

    fn check_triage(book: &Book, title: &str, body: &str, expect: [&str; 2]) -> Json {
        let (title, body) = (format!("title={title}"), format!("body={body}"));
        let ran = book.run("triage", &[&title, &body]).succeeded();
        let output = ran.output();
        assert_eq!([&output["kind"], &output["priority"]], expect, "{title}: {output:#}");
        assert_eq!(ran.wants(&["add-comment"])[0]["body"], output["comment"]);
        output.clone()
    }

    #[test]
    fn triage_goes_by_words_where_there_is_no_model() {
        let book = Book::with(&[]).without_model();
        let steps = "@daemons/triage/tests/issue.md";
        check_triage(&book, "It crashes on a large file", steps, ["bug", "high"]);
        let asked = check_triage(&book, "The login is broken", "", ["bug", "normal"]);
        assert_has(asked["answer"].as_str().unwrap(), &["how to make it happen again", "the version"]);
        check_triage(&book, "Please add dark mode", "", ["feature", "low"]);
        check_triage(&book, "The server leaks my token into the log", "", ["bug", "urgent"]);
        check_triage(&book, "Colours", "I see blue instead of green", ["question", "low"]);
        let hostile = check_triage(&book, "Typo in README <img src=x> $(id) @ada", "", ["docs", "normal"]);
        assert_has(hostile["comment"].as_str().unwrap(), &["\\<img src=x\\>", "$(id)", "@\u{200b}ada"]);
        book.run("triage", &[]).failed("there is no issue to look at");
    }

    #[test]
    fn digest_calls_triage_for_each() {
        let book = Book::with(&[]).without_model();
        let ran = book.run("digest", &["issues=@daemons/digest/tests/issues.json"]).succeeded();
        let expect = "3 issues, 1 of them urgent or high.\n\n\
            | Priority | Kind | Issue | Labels |\n\
            | --- | --- | --- | --- |\n\
            | high | bug | The server crashes on start | `bug`, `crash` |\n\
            | low | question | How do I change the port? | `question` |\n\
            | low | feature | Please add dark mode | `enhancement` |";
        assert_eq!(ran.output(), expect);
        // One comment for all, none for each.
        assert_eq!(ran.wants(&["add-comment"])[0]["body"], expect);
    }

    #[test]
    fn code_health_reports_also_without_a_model() {
        let book = Book::with(&[("code-health/tests/workspace", ".")]).without_model();
        fs::remove_dir_all(book.path().join("daemons/code-health/tests")).unwrap();
        fs::write(book.path().join("data.bin"), vec![0; 600 << 10]).unwrap();
        let ran = book.run("code-health", &[]).succeeded();
        assert_eq!(ran.stage("Judge").0, "failed");
        let report = ran.output().as_str().unwrap();
        assert_has(
            report,
            &[
                ", mostly Python. Fix first: long function `parse_all` in src/parse.py, 123 lines.",
                "| Long functions | 1 |",
                "| Repeated blocks | 1 |",
                "| Large binary files | 1 |",
                "| `src/alpha.js:3` | `src/beta.js:6` | 14 |",
                "| `data.bin` | 600 KiB |",
            ],
        );
        let wanted = ran.wants(&["add-comment", "create-check"]);
        assert_eq!((&wanted[0]["body"], &wanted[0]["sticky"]), (ran.output(), &json!(true)));
        assert_eq!((&wanted[1]["conclusion"], &wanted[1]["summary"]), (&json!("neutral"), ran.output()));
        let first = json!({ "path": "src/parse.py", "start_line": 1, "end_line": 123, "level": "warning", "message": "`parse_all` has 123 lines" });
        assert_eq!(wanted[1]["annotations"][0], first);
        assert_eq!(ran.files(), &json!([]));
    }

    #[test]
    fn release_notes_move_what_is_unreleased() {
        let book = Book::with(&[("release-notes/tests/CHANGELOG.md", "CHANGELOG.md")]).without_model();
        let inputs = ["version=v1.1.0", "date=2026-11-22"];
        let ran = book.run("release-notes", &inputs).succeeded();
        assert_eq!(ran.files(), &json!(["CHANGELOG.md", "docs/releases/1.1.0.md"]));
        assert_eq!(ran.wants(&["create-pull-request"])[0]["title"], "release: 1.1.0");
        book.run_and_apply("release-notes", &inputs);
        for (path, expect) in [("CHANGELOG.md", "CHANGELOG.after.md"), ("docs/releases/1.1.0.md", "1.1.0.md")]
        {
            assert_eq!(
                book.read(path),
                book.read(&format!("daemons/release-notes/tests/{expect}")),
                "{path}"
            );
        }
    }

    #[test]
    fn release_notes_say_why_there_is_nothing_to_release() {
        let book = Book::with(&[("release-notes/tests/CHANGELOG.after.md", "CHANGELOG.md")]).without_model();
        book.run("release-notes", &["version=1.2.0"]).failed("nothing stands under `## Unreleased`");
        book.run("release-notes", &["version=1.1.0"]).failed("has a section 1.1.0 already");
        book.run("release-notes", &["version=../1"]).failed("is not a version");
        book.run("release-notes", &["version=1.2.0", "date=soon"]).failed("`soon` is not a day");
        book.run("release-notes", &["version=1.2.0", "changelog=LOG.md"]).failed("there is no LOG.md");
    }
}

mod local_model {
    use super::*;

    #[test]
    fn triage_asks_the_model() {
        let book = Book::with(&[]);
        let ran = book.run("triage", &["title=Colours", "body=I see blue instead of green"]).succeeded();
        let (status, said) = ran.stage("Classify");
        assert_eq!(status, "succeeded", "{:#}", ran.document);
        assert!(["bug", "feature", "question", "docs"].contains(&said["kind"].as_str().unwrap()), "{said:#}");
        // No word decides here, so the model does.
        assert_eq!(ran.output()["kind"], said["kind"]);
        ran.wants(&["add-comment"]);
    }

    #[test]
    fn code_health_gets_a_verdict() {
        let book = Book::with(&[("code-health/tests/workspace", ".")]);
        let ran = book.run("code-health", &[]).succeeded();
        let (status, said) = ran.stage("Judge");
        assert_eq!(status, "succeeded", "{:#}", ran.document);
        assert!(!said.as_str().unwrap().is_empty());
        let report = ran.output().as_str().unwrap();
        let verdict = report.lines().nth(2).unwrap();
        assert_has(verdict, &["The code", "parse_all"]);
        ran.wants(&["add-comment", "create-check"]);
    }

    #[test]
    fn release_notes_are_summed_up() {
        let book = Book::with(&[("release-notes/tests/CHANGELOG.md", "CHANGELOG.md")]);
        let ran = book.run("release-notes", &["version=1.1.0"]).succeeded();
        assert_eq!(ran.stage("Sum up").0, "succeeded", "{:#}", ran.document);
        assert_has(
            ran.output()["text"].as_str().unwrap(),
            &["# 1.1.0\n", "1.1.0", "## Added", "- Search takes several words,\n  in any order"],
        );
        ran.wants(&["create-pull-request"]);
    }
}

//! `spellbook test`: recorded, replayed, and what it says when something is not as it was.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};

use crate::house::agents;
use crate::upstream::{Step, Upstream};

/// Variables that say where the sandbox is; where the model is, only a recording is told.
const SANDBOX: [&str; 1] = ["SPELLBOOK_NSJAIL"];
const MODEL: [&str; 2] = ["SPELLBOOK_MODEL_PYTHON", "SPELLBOOK_MODEL_GGUF"];

/// A spellbook of its own, with a home that nobody else sees.
struct Book {
    root: tempfile::TempDir,
}

impl Book {
    fn new() -> Self {
        let root = tempfile::Builder::new().prefix("cassettes").tempdir().unwrap();
        // Jails pass through it.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711)).unwrap();
        fs::create_dir_all(root.path().join("home")).unwrap();
        fs::create_dir_all(root.path().join("book/.git")).unwrap();
        Self { root }
    }

    /// With the daemons of this repository in it.
    fn of_this_repository() -> Self {
        let book = Self::new();
        copy(&source().join("daemons"), &book.path("daemons"));
        copy(&source().join("spellbook.yaml"), &book.path("spellbook.yaml"));
        book
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join("book").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn change(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no {from:?}");
        self.write(path, &text.replace(from, to));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spellbook"));
        let home = self.root.path().join("home");
        command.arg("test").args(arguments).current_dir(self.path("")).env_clear().stdin(Stdio::null());
        command.env("HOME", &home).env("XDG_DATA_HOME", home.join("data"));
        command.envs(variable("PATH").map(|path| ("PATH", path)));
        command.env("SPELLBOOK_TOOLS", tools());
        command.envs(SANDBOX.into_iter().filter_map(|name| Some((name, variable(name)?))));
        command
    }

    /// Runs tests on a machine without a model.
    fn test(&self, arguments: &[&str]) -> Tested {
        let mut command = self.command(arguments);
        command.env(MODEL[0], "/nowhere/python");
        command.output().unwrap().into()
    }

    /// The same on one with the model of the machine.
    fn test_with_model(&self, arguments: &[&str]) -> Tested {
        let mut command = self.command(arguments);
        command.envs(MODEL.into_iter().filter_map(|name| Some((name, variable(name)?))));
        command.output().unwrap().into()
    }
}

/// What `spellbook test` said.
struct Tested {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Tested {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Tested {
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        self
    }

    fn json(&self) -> Json {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    /// What a person reads, without times.
    fn seen(&self) -> String {
        let timeless = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let at = words.iter().position(|word| *word == "s" || *word == "s,");
            let Some(at) = at.filter(|at| *at > 0 && words[at - 1].parse::<f64>().is_ok()) else {
                return line.to_owned();
            };
            [&words[..at - 1], &["TIME"], &words[at..]].concat().join(" ")
        };
        let lines: Vec<String> = self.stdout.lines().map(timeless).collect();
        format!("exit: {:?}\n{}\n--- stderr\n{}", self.code, lines.join("\n"), self.stderr)
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Where `./x` has put the sandbox and the model; the home of the test hides it.
fn tools() -> PathBuf {
    let data = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || PathBuf::from(variable("HOME").unwrap_or_default()).join(".local/share");
    let usual = || data.unwrap_or_else(home).join("spellbook/tools");
    variable("SPELLBOOK_TOOLS").map_or_else(usual, PathBuf::from)
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// How many elements of each name an XML document has, as a parser of others' sees it.
fn elements(xml: &Path) -> String {
    let count = "import collections, sys, xml.etree.ElementTree as tree\n\
                 names = collections.Counter(one.tag for one in tree.parse(sys.argv[1]).iter())\n\
                 print(' '.join(f'{name}={names[name]}' for name in sorted(names)))";
    let output = Command::new("python3").args(["-c", count]).arg(xml).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_daemons_of_this_repository_pass_without_a_model() {
    let book = Book::of_this_repository();
    let tested = book.test(&["--strict", "--json", "--junit", "report.xml"]).exits(0);
    let report = tested.json();
    assert_eq!(
        (&report["failed"], report["untested"].as_array().unwrap().len()),
        (&Json::from(0), 0),
        "{report:#}"
    );
    let count = report["tests"].as_array().unwrap().len();
    assert_eq!(report["passed"], count);
    assert_eq!(elements(&book.path("report.xml")), format!("testcase={count} testsuite=8 testsuites=1"));
    // What it made for itself is gone.
    let left = fs::read_dir(book.root.path().join("home/data/spellbook/tests")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn a_prompt_that_changed_fails_with_the_difference() {
    let book = Book::of_this_repository();
    book.change(
        "daemons/triage/prompts/classify.md",
        "Sum it up in a few words.",
        "Sum it up in one sentence.",
    );
    let tested = book.test(&["daemons/triage", "--filter", "triage/crash", "--junit", "report.xml"]).exits(1);
    insta::assert_snapshot!(tested.seen());
    assert_eq!(elements(&book.path("report.xml")), "failure=1 testcase=1 testsuite=1 testsuites=1");
}

const NOTE: &str = "daemon:\n  name: Note\n  license: MIT\n  inputs:\n    - { name: who, type: string, default: Ada }\n  stages:\n    \
    - { name: Write, script: 'echo \"Hello $who\" > note.txt; cat note.txt', output: note }\n  outcomes:\n    \
    - add-comment: { body: \"${note}\" }\n";

#[test]
fn what_is_not_as_expected_is_told_in_words() {
    let book = Book::new();
    book.write("daemons/note/daemon.yaml", NOTE);
    book.write(
        "daemons/note/tests/right.yaml",
        "expect: { files: { note.txt: \"Hello Ada\\n\" }, outcomes: [{ kind: add-comment }] }\n",
    );
    let wrong = "name: Everything is wrong\nexpect:\n  status: failed\n  outputs: { note: { equals: \"Hello\\nBob\", lacks: Ada } }\n  \
        when: [workspace.changed, len(outcomes) == 2, note == 'x']\n  files: { note.txt: { absent: true }, other.txt: x }\n  \
        outcomes: [{ kind: noop }]\n  cost: < $0\n";
    book.write("daemons/note/tests/wrong.yaml", wrong);
    book.write("daemons/bare/daemon.yaml", NOTE);
    insta::assert_snapshot!(book.test(&[]).exits(1).seen());
    assert_eq!(book.test(&["--filter", "right"]).exits(0).stderr, "bare has no tests\n");
    book.test(&["--filter", "nothing"]).exits(1);
    book.test(&["daemons/bare"]).exits(1);
    assert!(book.test(&["daemons/note/tests/right.yaml"]).exits(0).stdout.contains("1 passed, 0 failed"));
    book.write("daemons/note/tests/wrong.yaml", "expcet: {}\n");
    assert!(book.test(&[]).exits(65).stdout.contains("did you mean `expect`?"));
}

const CALL: &str = "daemon:\n  name: Call\n  license: MIT\n  permissions: { secrets: [CALL_TOKEN], network: { allowed: [\"127.0.0.1:PORT\"] } }\n  \
    stages:\n    - name: Ask\n      type: http\n      request:\n        method: POST\n        url: \"http://127.0.0.1:PORT/?t=${secrets.CALL_TOKEN}\"\n        \
    headers: { Authorization: \"Bearer ${secrets.CALL_TOKEN}\" }\n        json: { deep: [\"the ${secrets.CALL_TOKEN}\"] }\n      output: told\n";

/// Answers one request with what it was sent, and is gone.
fn echo_once() -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let begun = head.len();
            reader.read_line(&mut head).unwrap();
            let line = head[begun..].to_lowercase();
            length = line.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let whole = format!("{head}{}", String::from_utf8_lossy(&body));
        let answer = serde_json::json!({ "echo": whole }).to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nset-cookie: session=secret\r\nconnection: close";
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
        whole
    });
    (port, serving)
}

#[test]
fn a_secret_never_gets_into_a_cassette() {
    let book = Book::new();
    let (port, serving) = echo_once();
    book.write("daemons/call/daemon.yaml", &CALL.replace("PORT", &port.to_string()));
    book.write(
        "daemons/call/tests/echo.yaml",
        "secrets: { CALL_TOKEN: made-up-token }\nexpect: { outputs: { told: { contains: \"the ${secrets.CALL_TOKEN}\" } } }\n",
    );
    let network = format!("[network]\nallow_http = true\nallow_private = [\"127.0.0.1:{port}\"]\n");
    book.write("server.toml", &network);
    let real = "sk-live/0123+456";
    let mut recording = book.command(&["--record", "--config", "server.toml"]);
    let recorded: Tested = recording.env("SPELLBOOK_SECRET_CALL_TOKEN", real).output().unwrap().into();
    assert!(recorded.exits(0).stdout.contains("1 answer recorded"));
    let sent = serving.join().unwrap();
    assert!(sent.contains(real), "the real secret goes to the real server: {sent}");
    let cassette = book.read("daemons/call/tests/cassettes/echo.yaml");
    for trace in ["sk-live", "0123", "made-up", "session="] {
        assert!(!cassette.contains(trace), "{trace} in:\n{cassette}");
    }
    assert!(cassette.contains("authorization: (hidden)"), "{cassette}");
    // Nobody listens any more, and nobody needs to.
    book.test(&["--strict"]).exits(0);
}

#[test]
fn a_coding_agent_is_replayed_without_the_program() {
    let book = Book::new();
    let program = book.root.path().join("agents/mender-1.0/mend");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let script = "#!/bin/bash\nset -eu\ncat > /dev/null\necho mended > broken.txt\nmkdir docs\necho new > docs/new.txt\n\
        chmod +x run.sh\nrm old.txt\necho 'I mended it.'\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let agents = book.root.path().join("agents");
    let config = format!(
        "agents_directory = {agents:?}\n[agents.mender]\ntitle = \"Mender\"\nversion = \"1.0\"\nregistry = \"hand\"\n\
         dialect = \"openai-chat\"\nmodel = \"local\"\ncommand = [\"{{program}}\"]\nstdin = \"{{prompt}}\"\n\
         packages.any = {{ program = \"mend\" }}\noutput = {{ format = \"text\" }}\n"
    );
    book.write("server.toml", &config);
    book.write(
        "daemons/mend/daemon.yaml",
        "daemon:\n  name: Mend\n  license: MIT\n  stages:\n    - { name: Mend, type: agent, agent: mender, prompt_template: Mend it, working_directory: work, output: said }\n",
    );
    book.write(
        "daemons/mend/tests/mend.yaml",
        "files: { work/broken.txt: \"broken\\n\", work/old.txt: \"old\\n\", work/run.sh: \"exit\\n\" }\nexpect:\n  outputs: { said: I mended it. }\n  \
         files: { work/broken.txt: \"mended\\n\", work/docs/new.txt: \"new\\n\", work/old.txt: { absent: true } }\n",
    );
    book.test(&["--record", "--config", "server.toml"]).exits(0);
    let cassette = book.read("daemons/mend/tests/cassettes/mend.yaml");
    insta::assert_snapshot!(cassette);
    fs::remove_dir_all(&agents).unwrap();
    book.test(&["--strict", "--config", "server.toml"]).exits(0);
    book.change("daemons/mend/tests/mend.yaml", "broken\\n", "other\\n");
    let unfit = book.test(&["--config", "server.toml"]).exits(1);
    assert!(
        unfit.stdout.contains("does not fit the files any more: patch failed: work/broken.txt:1"),
        "{}",
        unfit.stdout
    );
    book.change("daemons/mend/daemon.yaml", "Mend it", "Mend it well");
    let changed = book.test(&["--config", "server.toml"]).exits(1);
    assert!(changed.stdout.contains("mender is asked something that has no recording"), "{}", changed.stdout);
}

const BROKEN: &str = "def add(a, b):\\n    return a - b\\n";

/// A book whose daemon has somebody mend a sum, and the configuration in which everybody asks this provider.
fn broken_sum(agent: &str, upstream: &Upstream) -> Book {
    let book = Book::new();
    let (at, agents) = (upstream.url(), agents());
    let config = format!(
        "agents_directory = {agents:?}\n[models.providers.anthropic]\nbase_url = \"{at}\"\nkey = {{ file = \"/dev/null\" }}\n\
         [models.providers.openai]\nbase_url = \"{at}/v1\"\nkey = {{ file = \"/dev/null\" }}\n"
    );
    book.write("server.toml", &config);
    let daemon = format!(
        "daemon:\n  name: Fix\n  license: MIT\n  stages:\n    - {{ name: Fix, type: agent, agent: {agent}, prompt_template: Make the test pass., output: said }}\n"
    );
    book.write("daemons/fix/daemon.yaml", &daemon);
    let test = format!(
        "files: {{ calc.py: \"{BROKEN}\" }}\nexpect:\n  outputs: {{ said: Fixed. }}\n  files: {{ calc.py: {{ contains: a + b }} }}\n"
    );
    book.write("daemons/fix/tests/sum.yaml", &test);
    book
}

/// Records with the provider, and replays without; what it cost is told again.
fn records_and_replays(agent: &str, script: Vec<Step>) -> String {
    let upstream = Upstream::start(script);
    let book = broken_sum(agent, &upstream);
    let cost = |tested: &Tested| tested.json()["tests"][0]["cost"]["nano_usd"].as_i64().unwrap();
    let recorded = book.test(&["--record", "--json", "--config", "server.toml"]).exits(0);
    drop(upstream);
    let replayed = book.test(&["--strict", "--json", "--config", "server.toml"]).exits(0);
    assert!(cost(&recorded) > 0, "{}", recorded.stdout);
    assert_eq!(cost(&recorded), cost(&replayed));
    book.read("daemons/fix/tests/cassettes/sum.yaml")
}

#[test]
fn a_model_with_tools_is_replayed_turn_by_turn() {
    let tool = |name: &str, arguments: Json| Step::Tool(name.to_owned(), arguments);
    let cassette = records_and_replays(
        "gpt-5",
        vec![
            tool("run", json!({ "command": "cat calc.py; exit 3" })),
            tool("edit", json!({ "path": "calc.py", "old": "a - b", "new": "a + b" })),
            Step::Says("Fixed.".to_owned()),
        ],
    );
    assert_eq!(cassette.matches("\n- key: ").count(), 3, "{cassette}");
}

#[test]
fn a_picture_is_recorded_and_hangs_there_again() {
    let upstream = Upstream::start(Vec::new());
    let book = Book::new();
    let at = upstream.url();
    let config = format!(
        "[models.providers.openai]\nbase_url = \"{at}/v1\"\nkey = {{ file = \"/dev/null\" }}\nalso = {{ openai-images = \"{at}/v1\" }}\n"
    );
    book.write("server.toml", &config);
    book.write(
        "daemons/paint/daemon.yaml",
        "daemon:\n  name: Paint\n  license: MIT\n  stages:\n    \
         - { name: Hero, type: image, agent: gpt-image-2, prompt_template: A lighthouse, output: hero }\n",
    );
    let test = "expect:\n  outputs: { hero: images/Hero.png }\n  \
        files: { images/Hero.png: { contains: PNG } }\n  cost: < $1\n";
    book.write("daemons/paint/tests/hero.yaml", test);
    let cost = |tested: &Tested| tested.json()["tests"][0]["cost"]["nano_usd"].as_i64().unwrap();
    let recorded = book.test(&["--record", "--json", "--config", "server.toml"]).exits(0);
    drop(upstream);
    assert!(cost(&recorded) > 0, "{}", recorded.stdout);
    let replayed = book.test(&["--strict", "--json"]).exits(0);
    assert_eq!(cost(&recorded), cost(&replayed));

    // The picture is a file that a review shows.
    let pictures: Vec<_> = fs::read_dir(book.path("daemons/paint/tests/cassettes/hero"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(pictures.len(), 1, "{pictures:?}");
    let bytes = fs::read(&pictures[0]).unwrap();
    fs::write(&pictures[0], b"\x89PNG\r\n\x1a\nanother").unwrap();
    let other = book.test(&["--json"]).exits(1);
    assert_eq!(other.json()["tests"][0]["faults"][0]["code"], "cassette_unreadable");
    fs::write(&pictures[0], bytes).unwrap();

    book.change("daemons/paint/daemon.yaml", "A lighthouse", "A lighthouse in fog");
    let changed = book.test(&["--junit", "report.xml"]).exits(1);
    assert!(changed.stdout.contains("-A lighthouse\n"), "{}", changed.stdout);
    assert!(changed.stdout.contains("+A lighthouse in fog\n"), "{}", changed.stdout);
    assert_eq!(elements(&book.path("report.xml")), "failure=1 testcase=1 testsuite=1 testsuites=1");

    // What is recorded anew takes the old picture's place.
    let upstream = Upstream::start(Vec::new());
    book.write("server.toml", &config.replace(&at, &upstream.url()));
    fs::write(pictures[0].with_file_name("0123456789abcdef01234567.png"), "left over").unwrap();
    book.test(&["--record", "--config", "server.toml"]).exits(0);
    assert_eq!(fs::read_dir(pictures[0].parent().unwrap()).unwrap().count(), 1);
    book.test(&["--strict"]).exits(0);
}

#[test]
fn a_test_brings_what_the_daemon_remembers() {
    let upstream = Upstream::start(Vec::new());
    let book = Book::new();
    let at = upstream.url();
    let config =
        format!("[models.providers.openai]\nbase_url = \"{at}/v1\"\nkey = {{ file = \"/dev/null\" }}\n");
    book.write("server.toml", &config);
    book.write(
        "daemons/talk/daemon.yaml",
        "daemon:\n  name: Talk\n  license: MIT\n  state: { count: 0 }\n  on: { push: { branches: [\"release/*\"] } }\n  stages:\n    \
         - { name: Count, script: 'echo $((COUNT + 1))', env: { COUNT: \"${state.count}\" }, schema: { type: integer }, output: next, set: { count: \"${next}\" } }\n    \
         - { name: Ask, agent: gpt-5, prompt_template: \"${run.branch}?\", session: one, output: said }\n",
    );
    book.write(
        "daemons/talk/tests/second.yaml",
        "event: { kind: push }\nbranch: release/2\nstate: { count: 6 }\n\
         sessions: { one: [{ user: Hello, assistant: Who is it? }] }\n\
         expect:\n  state: { count: 7 }\n  when: state.count == next\n",
    );
    book.write("daemons/talk/tests/main.yaml", "event: { kind: push }\nexpect: { status: not_started }\n");
    book.test(&["--record", "--config", "server.toml"]).exits(0);
    drop(upstream);
    let cassette = book.read("daemons/talk/tests/cassettes/second.yaml");
    let messages = "    messages:\n    - user: Hello\n    - assistant:\n        text: Who is it?\n    - user: release/2?\n";
    assert!(cassette.contains(messages), "{cassette}");
    book.test(&["--strict"]).exits(0);
    book.change("daemons/talk/tests/second.yaml", "count: 7", "count: 8");
    book.change("daemons/talk/tests/second.yaml", "assistant: Who", "assistant: What");
    let changed = book.test(&["--filter", "second"]).exits(1);
    assert!(changed.stdout.contains("-Who is it?\n"), "{}", changed.stdout);
    book.change("daemons/talk/tests/second.yaml", "assistant: What", "assistant: Who");
    let wrong = book.test(&["--filter", "second"]).exits(1);
    assert!(wrong.stdout.contains("the variable `count` is `7`, not `8`"), "{}", wrong.stdout);
    book.change("daemons/talk/tests/second.yaml", "count: 6", "cuont: 6");
    assert!(book.test(&[]).exits(65).stdout.contains("did you mean `count`?"));
}

#[test]
fn claude_code_is_replayed_without_a_provider() {
    crate::jail_agents::installed("claude-code");
    let edit = json!({ "command": "sed -i 's/a - b/a + b/' calc.py", "description": "Mend" });
    let script = vec![Step::Tool("Bash".to_owned(), edit), Step::Says("Fixed.".to_owned())];
    let cassette = records_and_replays("claude-code", script);
    assert!(cassette.contains("+    return a + b\n"), "{cassette}");
    assert!(cassette.contains("provider: anthropic\n"), "{cassette}");
}

#[test]
fn a_new_daemon_has_a_test_that_passes() {
    let book = Book::new();
    let mut new = book.command(&[]);
    let arguments = ["new", "counter", "--template", "script"];
    let made = Command::new(new.get_program()).args(arguments).current_dir(book.path("")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tested: Tested = new.output().unwrap().into();
    assert!(tested.exits(0).stdout.contains("1 passed, 0 failed"));
}

#[test]
fn programs_reach_nothing_and_it_is_told() {
    let book = Book::new();
    book.write(
        "daemons/net/daemon.yaml",
        "daemon:\n  name: Net\n  license: MIT\n  permissions: { network: { allowed: [packages.example.org] } }\n  stages:\n    \
         - { name: Fetch, script: 'curl -sS https://packages.example.org/x || echo \"not there\"', output: got }\n",
    );
    book.write("daemons/net/tests/fetch.yaml", "expect: { outputs: { got: { contains: not there } } }\n");
    let tested = book.test(&["--json"]).exits(0);
    let warnings = &tested.json()["tests"][0]["warnings"];
    assert_eq!(
        warnings[0], "a program asked for `CONNECT packages.example.org:443`; a test has no network",
        "{warnings}"
    );
}

mod local_model {
    use super::*;

    #[test]
    fn what_is_recorded_is_replayed() {
        let book = Book::of_this_repository();
        let cassette = "daemons/triage/tests/cassettes/no-words.yaml";
        fs::remove_file(book.path(cassette)).unwrap();
        let missing = book.test(&["--filter", "no-words"]).exits(1);
        assert!(
            missing.stdout.contains("a model is asked, and nothing of the kind is recorded"),
            "{}",
            missing.stdout
        );
        let recorded = book.test_with_model(&["--filter", "no-words", "--record"]).exits(0);
        assert!(recorded.stdout.contains("1 answer recorded"), "{}", recorded.stdout);
        book.test(&["--filter", "no-words", "--strict"]).exits(0);
        // Another question is added to what is there, and what nobody needs any more is told.
        let before = book.read(cassette);
        book.change("daemons/triage/tests/no-words.yaml", "I see blue", "I see red");
        book.test_with_model(&["--filter", "no-words", "--record-missing"]).exits(0);
        assert!(book.read(cassette).starts_with(&before), "what was recorded stays");
        let lax = book.test(&["--filter", "no-words"]).exits(0);
        assert!(lax.stdout.contains("a recording was not used"), "{}", lax.stdout);
        book.test(&["--filter", "no-words", "--strict"]).exits(1);
    }

    #[test]
    fn without_a_model_nothing_is_recorded() {
        let book = Book::of_this_repository();
        let cassette = "daemons/triage/tests/cassettes/crash.yaml";
        let before = book.read(cassette);
        let recorded = book.test(&["--filter", "triage/crash", "--record"]).exits(1);
        assert!(recorded.stdout.contains("a model did not answer"), "{}", recorded.stdout);
        assert_eq!(book.read(cassette), before);
    }
}

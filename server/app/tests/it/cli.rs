//! The command line, as people and scripts meet it: the real program in an environment of its own, and a
//! server that says what a test wants.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod artifacts;
mod deliveries;
mod github;
mod models;
mod plans;
mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::{Value as Json, json};

const RUN: &str = "run_0198000000007000800000000000002a";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A home and a repository that no other test sees.
struct Desk {
    root: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let root = tempfile::Builder::new().prefix("desk").tempdir().unwrap();
        fs::create_dir_all(root.path().join("home")).unwrap();
        fs::create_dir_all(root.path().join("book")).unwrap();
        Self { root }
    }

    /// With a git repository.
    fn with_repository() -> Self {
        let desk = Self::new();
        desk.write(".git/HEAD", "ref: refs/heads/main\n");
        desk
    }

    fn book(&self) -> PathBuf {
        self.root.path().join("book")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.book().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.book().join(path)).unwrap()
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the program itself is what is tested")]
        let mut command = Command::new(program);
        let path: std::ffi::OsString = path_variable();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.root.path().join("home"))
            .current_dir(self.book());
        command.stdin(Stdio::null());
        command
    }

    fn spellbook(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_spellbook"));
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.spellbook(arguments).output().unwrap()
    }

    /// What a person saw, without what is different each time.
    fn seen(&self, output: &Output) -> String {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let all = format!(
            "exit: {}\n--- stdout\n{}--- stderr\n{}",
            output.status.code().expect("because no signal ended it"),
            text(&output.stdout),
            text(&output.stderr)
        );
        let root = self.root.path().canonicalize().unwrap();
        without_ports(&all.replace(root.to_str().unwrap(), "[desk]"))
    }

    /// Runs several command lines, and shows each with what came of it.
    fn session(&self, lines: &[&[&str]]) -> String {
        let shown = |line: &&[&str]| {
            format!("$ spellbook {}\n{}", without_ports(&line.join(" ")), self.seen(&self.run(line)))
        };
        lines.iter().map(shown).collect::<Vec<_>>().join("\n")
    }
}

#[expect(clippy::disallowed_methods, reason = "git, script and the like are found by it")]
fn path_variable() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// A server of a test listens on another port each time.
fn without_ports(text: &str) -> String {
    let mut pieces = text.split("127.0.0.1:");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |shown, rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{shown}127.0.0.1:[port]{rest}")
    })
}

/// A request that the server was sent.
#[derive(Debug, Clone)]
struct Sent {
    line: String,
    headers: BTreeMap<String, String>,
    body: Json,
}

/// An answer that a test wants.
#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    kind: &'static str,
    header: Option<(&'static str, String)>,
    body: String,
}

#[expect(clippy::needless_pass_by_value, reason = "it reads better where it is called")]
fn ok(body: Json) -> Answer {
    Answer { status: 200, kind: "application/json", header: None, body: body.to_string() }
}

fn problem(status: u16, code: &str, detail: &str) -> Answer {
    let body = json!({ "type": format!("urn:spellbook:problem:{code}"), "title": "No", "status": status, "code": code, "detail": detail });
    Answer { status, kind: "application/problem+json", header: None, body: body.to_string() }
}

fn events(text: &str) -> Answer {
    Answer { status: 200, kind: "text/event-stream", header: None, body: text.to_owned() }
}

/// Answers by request line, each list from its front; the last one stays.
type Script = BTreeMap<&'static str, Vec<Answer>>;

/// A server that says what a test wants, over a real socket, until it is dropped.
struct Mock {
    address: SocketAddr,
    sent: Arc<Mutex<Vec<Sent>>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Mock {
    fn start(script: impl IntoIterator<Item = (&'static str, Vec<Answer>)>) -> Self {
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script.into_iter().collect()));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = mpsc::channel();
        let seen = Arc::clone(&sent);
        let router = axum::Router::new()
            .fallback(move |request: Request<Body>| answer(Arc::clone(&script), Arc::clone(&seen), request));
        let serve = async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            axum::serve(listener, router)
                .with_graceful_shutdown(async {
                    let _ = stopped.await;
                })
                .await
                .unwrap();
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(serve));
        let address = told.recv().unwrap();
        Self { address, sent, stop: Some(stop), thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }

    /// Runs command lines against this server.
    fn session(&self, desk: &Desk, lines: &[&[&str]]) -> String {
        let url = self.url();
        let shown = |line: &&[&str]| {
            let output = desk.spellbook(line).env("SPELLBOOK_SERVER", &url).output().unwrap();
            format!("$ spellbook {}\n{}", without_ports(&line.join(" ")), desk.seen(&output))
        };
        lines.iter().map(shown).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()),
            "the server of the test panicked"
        );
    }
}

async fn answer(
    script: Arc<Mutex<Script>>,
    sent: Arc<Mutex<Vec<Sent>>>,
    request: Request<Body>,
) -> Response<Body> {
    let line = format!("{} {}", request.method(), request.uri());
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = axum::body::to_bytes(request.into_body(), 1 << 24).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Json::Null);
    sent.lock().unwrap().push(Sent { line: line.clone(), headers, body });
    let answer = match script.lock().unwrap().get_mut(line.as_str()) {
        Some(answers) if answers.len() > 1 => answers.remove(0),
        Some(answers) => answers[0].clone(),
        None => problem(404, "not_found", &format!("the test has no answer for {line}")),
    };
    let mut response = Response::builder().status(answer.status).header("content-type", answer.kind);
    if let Some((name, value)) = answer.header {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}

fn a_run(status: &str) -> Json {
    let ended = !matches!(status, "queued" | "running");
    json!({
        "id": RUN, "repository": "ada/book", "daemon": "review", "branch": "main", "commit": COMMIT,
        "digest": COMMIT, "status": status, "message": (status == "failed").then_some("Test: exit status 3"),
        "failure_code": null, "failed_stage": null,
        "cause": { "event": null, "kind": "manual", "actor": "ada", "bot": false, "parent": null, "parent_stage": null, "replay_of": null, "replay_from": null },
        "effects": "perform", "attempt": 1, "cancel_requested": false,
        "cost": { "nano_usd": 1_200_000, "text": "$0.0012" },
        "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:01Z",
        "ended_at": ended.then_some("2026-01-01T00:00:04.5Z"),
    })
}

fn a_stage(path: &str, status: &str) -> Json {
    json!({
        "path": path, "status": status, "message": (status == "failed").then_some("exit status 3"), "failure_code": null,
        "tolerated": false, "output_name": null, "taint": null, "snapshot": COMMIT, "calls": [],
        "cost": { "nano_usd": 0, "text": "$0.00" }, "cpu_micros": 1, "memory_peak": 1, "sandbox": null,
        "started_at": "2026-01-01T00:00:01Z", "ended_at": "2026-01-01T00:00:01.25Z",
    })
}

fn a_detail(status: &str) -> Json {
    json!({
        "run": a_run(status), "inputs": {}, "stages": [a_stage("Review", "succeeded"), a_stage("Test", status)],
        "effects": [{ "id": "eff_1", "kind": "add-comment", "key": "k", "wanted": {}, "status": "done", "message": "commented on #7",
            "url": "https://example.com/7#1", "attempts": 1, "provenance": {}, "created_at": "2026-01-01T00:00:04Z" }],
        "children": [],
    })
}

fn a_daemon(id: &str, health: &str) -> Json {
    json!({
        "address": format!("ada/book/{id}"), "repository": "ada/book", "role": "deploy", "sync": "Synced", "health": health,
        "last_run": (health == "Degraded").then_some("failed"), "revision": a_revision(id, "rev_1"),
    })
}

fn a_revision(daemon: &str, id: &str) -> Json {
    json!({
        "id": id, "daemon": daemon, "branch": "main", "commit": COMMIT, "state": "valid", "digest": COMMIT, "directory": format!("daemons/{daemon}"),
        "name": "Code review", "version": "1.2.0", "description": "Reviews a pull request", "problems": null, "created_at": "2026-01-01T00:00:00Z",
    })
}

fn a_line(number: u64, stage: &str, text: &str) -> Json {
    json!({ "number": number, "stage": stage, "source": "stdout", "text": text, "at": "2026-01-01T00:00:00Z" })
}

fn a_line_event(number: u64, stage: &str, text: &str) -> String {
    format!("event: line\nid: {number}\ndata: {}\n\n", a_line(number, stage, text))
}

fn part(items: &[Json]) -> Answer {
    ok(json!({ "items": items, "next": null }))
}

fn diff(patch: &str) -> Answer {
    ok(json!({ "files": [{ "path": "a.txt", "change": "modified" }], "patch": patch, "truncated": false }))
}

const PATCH: &str = "diff --git a/a.txt b/a.txt\n--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-old\n+new\n";
const BROKEN: &str = "daemon:\n  name: Review\n  stagse:\n    - { name: A, script: ls }\n";

// What the program says about itself.

#[test]
fn docs_hold_the_help_texts() {
    let desk = Desk::new();
    let help = |arguments: &[&str]| {
        let output = desk.run(arguments);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let overview = help(&["--help"]);
    let listed = overview.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let commands =
        listed.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let mut text = include_str!("cli_intro.md").to_owned();
    text.push_str(&format!("\n## spellbook\n\n```text\n{overview}```\n"));
    for command in commands {
        text.push_str(&format!("\n## spellbook {command}\n\n```text\n{}```\n", help(&[command, "--help"])));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if bless() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/cli.md is not what the program says; SPELLBOOK_BLESS=1 ./x test -E 'test(docs_hold_the_help_texts)' writes it anew"
    );
}

#[expect(clippy::disallowed_methods, reason = "a test reads its own switch")]
fn bless() -> bool {
    std::env::var_os("SPELLBOOK_BLESS").is_some()
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_may_be_meant() {
    let desk = Desk::new();
    insta::assert_snapshot!(desk.session(&[
        &["valdate"],
        &["fmt", "--chek"],
        &["new", "Code_Review"],
        &["new", "x", "--template", "promt"],
        &["logs", "run_1"],
        &["replay", RUN, "--agent", "gpt-5"],
        &["run", "ada/book/review", "--input", "depth"],
        &["diff", "ada/book/review"],
        &["diff", "ada/book/review", "ada/book/triage"],
        &["run", "ada/book/review", "--from-stage", "Fix"],
        &["run", "ada/book/review", "-i", "a=1", "-i", "a=2"],
        &["list", "--server", "ftp://example.com"],
        &["login", "https://ada:hunter2@example.com"],
    ]));
}

#[test]
fn completions_are_for_shells() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = desk.run(&["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains("validate") && text.contains("from-stage"),
            "{shell}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let desk = Desk::new();
    // The pipe's buffer is smaller than the script.
    let line = format!(
        "{} completions zsh | head -c 1; echo \" ${{PIPESTATUS[0]}}\"",
        env!("CARGO_BIN_EXE_spellbook")
    );
    let output = desk.command("bash").args(["-c", &line]).output().unwrap();
    assert_eq!((String::from_utf8(output.stdout).unwrap().as_str(), output.stderr.len()), ("# 0\n", 0));
}

// Without a server.

#[test]
fn a_repository_becomes_a_spellbook() {
    let desk = Desk::with_repository();
    insta::assert_snapshot!(desk.session(&[
        &["init"],
        &["init"],
        &["validate"],
        &["new", "hello"],
        &["--json", "new", "code-review", "-t", "review"]
    ]));
}

#[test]
fn only_a_repository_becomes_a_spellbook() {
    let desk = Desk::new();
    insta::assert_snapshot!(desk.session(&[&["init"], &["init", "nowhere"]]));
    assert_eq!(fs::read_dir(desk.book()).unwrap().count(), 0);
}

#[test]
fn init_replaces_nothing() {
    let desk = Desk::with_repository();
    desk.write("daemons/hello/daemon.yaml", "mine");
    assert_eq!(desk.run(&["init"]).status.code(), Some(1));
    assert_eq!(desk.read("daemons/hello/daemon.yaml"), "mine");
    assert!(!desk.book().join("spellbook.yaml").exists());
}

#[test]
fn templates_are_valid_and_formatted() {
    let desk = Desk::with_repository();
    assert!(desk.run(&["init"]).status.success());
    for template in ["script", "prompt", "review", "http"] {
        assert!(
            desk.run(&["new", &format!("my-{template}"), "--template", template]).status.success(),
            "{template}"
        );
    }
    assert_eq!(
        desk.seen(&desk.run(&["validate"])),
        "exit: 0\n--- stdout\n5 daemons, 0 errors, 0 warnings\n--- stderr\n"
    );
    assert_eq!(
        desk.seen(&desk.run(&["fmt", "--check"])),
        "exit: 0\n--- stdout\n--- stderr\n0 would format, 6 unchanged\n"
    );
    assert!(
        desk.read("daemons/my-review/daemon.yaml").contains("name: My review")
            && desk.read("daemons/my-review/daemon.yaml").contains("run my-review")
    );
}

#[test]
fn problems_are_shown_in_three_ways() {
    let desk = Desk::with_repository();
    desk.write("daemons/review/daemon.yaml", BROKEN);
    desk.write(
        "daemons/fine/daemon.yaml",
        "daemon:\n  name: Fine\n  stages:\n    - { name: A, script: ls }\n",
    );
    desk.write("daemons/Bad/daemon.yaml", BROKEN);
    desk.write("spellbook.yaml", "publsh: true\n");
    insta::assert_snapshot!(desk.session(&[
        &["validate"],
        &["validate", "--format", "github"],
        &["validate", "daemons/review", "--json"],
        &["validate", "daemons/fine", "daemons/fine/daemon.yaml"],
        &["validate", "spellbook.yaml"],
    ]));
}

#[test]
fn where_nothing_is_nothing_is_valid() {
    let desk = Desk::with_repository();
    desk.write("src/main.rs", "");
    desk.write(
        "elsewhere/stray/daemon.yaml",
        "daemon:\n  name: Stray\n  stages:\n    - { name: A, script: ls }\n",
    );
    insta::assert_snapshot!(desk.session(&[
        &["validate", "src"],
        &["validate", "nowhere"],
        &["fmt", "src"],
        &["validate", "elsewhere/stray"]
    ]));
}

#[test]
fn a_manifest_that_is_a_link_is_not_followed() {
    let desk = Desk::with_repository();
    desk.write("daemons/sly/prompt.md", "x");
    std::os::unix::fs::symlink("/etc/passwd", desk.book().join("daemons/sly/daemon.yaml")).unwrap();
    for command in ["validate", "fmt"] {
        let output = desk.run(&[command]);
        assert_eq!(output.status.code(), Some(65), "{output:?}");
        assert!(!desk.seen(&output).contains("root:"), "{output:?}");
    }
    assert!(desk.book().join("daemons/sly/daemon.yaml").is_symlink());
}

#[test]
fn a_terminal_does_not_obey_a_manifest() {
    let desk = Desk::with_repository();
    let evil = "daemon:\n  name: \"\\e]0;owned\\a\"\n  \"\\e]0;owned\\a\": 1\n  stages: [{ name: \"\\u009d0;x\", agnt: \"\\e[2J\" }] # \u{9d}0;owned\u{9c}\n";
    desk.write("daemons/evil/daemon.yaml", evil);
    desk.write("daemons/raw/daemon.yaml", "daemon: { name: \u{1b}]0;owned\u{7}, stages: [] }\n");
    desk.write("daemons/\u{1b}]0;owned/daemon.yaml", "");
    for arguments in [
        ["validate", "--color=always"],
        ["validate", "--format=github"],
        ["validate", "--json"],
        ["fmt", "--check"],
    ] {
        let output = desk.run(&arguments);
        let shown = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let colours_left = shown.replace("\u{1b}[", "");
        assert!(output.status.code() == Some(65) && shown.contains("evil"), "{shown:?}");
        assert!(
            !colours_left.contains(['\u{1b}', '\u{7}', '\u{9d}']) && !shown.contains("\u{1b}[2J"),
            "{arguments:?}: {shown:?}"
        );
    }
}

#[test]
fn formatting_keeps_comments_and_is_done_once() {
    let desk = Desk::with_repository();
    desk.write("daemons/review/daemon.yaml", "daemon:\r\n    stages:   # what it does\r\n        - { name: A, script: ls }   \r\n    name: Review\r\n\r\n\r\n");
    desk.write("daemons/torn/daemon.yaml", "daemon: [\n");
    let session = desk.session(&[
        &["fmt", "--check"],
        &["fmt"],
        &["fmt", "--json"],
        &["fmt", "daemons/review", "--check"],
    ]);
    insta::assert_snapshot!(format!("{session}\n{}", desk.read("daemons/review/daemon.yaml")));
    assert_eq!(desk.read("daemons/torn/daemon.yaml"), "daemon: [\n");
}

// With a server.

#[test]
fn signing_in_is_remembered_for_that_server_only() {
    let signed_in = json!({ "secret": "sb_lasting", "token": {}, "account": { "id": "acc_1", "name": "ada", "role": "admin", "created_at": "" } });
    let script = || {
        [
            ("POST /api/v1/sign-in", vec![Answer { status: 201, ..ok(signed_in.clone()) }]),
            ("GET /api/v1/daemons?limit=200", vec![part(&[])]),
        ]
    };
    let (mock, other) = (Mock::start(script()), Mock::start(script()));
    let desk = Desk::new();
    let mut login = desk
        .spellbook(&["login", &mock.url()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    login.stdin.take().unwrap().write_all(b"sb_once\n").unwrap();
    let shown = desk.seen(&login.wait_with_output().unwrap());
    let listed = desk.session(&[&["list"]]);
    let elsewhere = desk.session(&[&["list", "--server", &other.url()]]);
    insta::assert_snapshot!(format!("{shown}\n{listed}\n{elsewhere}"));
    let sent = mock.sent();
    assert_eq!(sent[0].body["token"], "sb_once");
    assert!(!sent[0].headers.contains_key("authorization"));
    assert_eq!(sent[1].headers["authorization"], "Bearer sb_lasting");
    assert!(!other.sent()[0].headers.contains_key("authorization"), "the token was sent to another server");
    let file = desk.root.path().join("home/.config/spellbook/credentials.toml");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_token_that_lasts_is_kept_as_it_is() {
    let mock = Mock::start([
        ("POST /api/v1/sign-in", vec![problem(401, "token_lasting", "this token lasts already")]),
        (
            "GET /api/v1/me",
            vec![ok(
                json!({ "account": { "id": "acc_1", "name": "ada", "role": "admin", "created_at": "" }, "role": "viewer", "token": "tok_1" }),
            )],
        ),
    ]);
    let desk = Desk::new();
    let output = desk.run(&["--json", "login", &mock.url(), "--token", "sb_lasting"]);
    let answer: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((answer["account"].as_str(), answer["role"].as_str()), (Some("ada"), Some("viewer")));
    assert_eq!(mock.sent()[1].headers["authorization"], "Bearer sb_lasting");
}

#[test]
fn refusals_have_words_and_exit_codes() {
    let desk = Desk::new();
    let of = |answer: Answer, arguments: &[&str]| {
        Mock::start([("GET /api/v1/daemons?limit=200", vec![answer])]).session(&desk, &[arguments])
    };
    let moved = Answer {
        header: Some(("location", "https://evil.example/".to_owned())),
        ..problem(302, "moved", "")
    };
    let page =
        Answer { status: 200, kind: "text/html", header: None, body: "<html>\u{1b}]0;owned\u{7}".to_owned() };
    let nothing_there = "http://127.0.0.1:9";
    let all = [
        of(problem(401, "token_missing", "sign in: send a token"), &["list"]),
        of(problem(403, "role_missing", "this needs the role runner"), &["list"]),
        of(problem(404, "not_found", "there is no repository `ada/book`"), &["list"]),
        of(problem(503, "store_unavailable", "try again shortly"), &["list"]),
        of(problem(500, "internal", "something is wrong\u{1b}[2J\nsecond line"), &["list"]),
        of(problem(404, "not_found", "there is none"), &["list", "--json"]),
        of(moved, &["list"]),
        of(page, &["list"]),
        desk.session(&[&["list", "--server", nothing_there]]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn daemons_are_listed_part_by_part() {
    let odd = json!({ "address": "ada/book/\u{1b}]0;owned\u{7}", "repository": "ada/book", "role": "deploy", "sync": "Synced", "health": "Healthy", "last_run": null, "revision": a_revision("odd", "rev_2") });
    let query = "GET /api/v1/daemons?repository=ada%2Fbook&branch=try%2Fx&limit=200";
    let mock = Mock::start([
        (
            query,
            vec![ok(
                json!({ "items": [a_daemon("review", "Healthy"), a_daemon("triage", "Degraded")], "next": "rev_1" }),
            )],
        ),
        (
            "GET /api/v1/daemons?repository=ada%2Fbook&branch=try%2Fx&limit=200&after=rev_1",
            vec![part(&[odd])],
        ),
    ]);
    insta::assert_snapshot!(mock.session(&Desk::new(), &[&["list", "-r", "ada/book", "-b", "try/x"]]));
}

#[test]
fn status_shows_everything_a_daemon_or_a_run() {
    let repository = json!({ "path": "ada/book", "default_branch": "main", "sync": { "status": "Unreachable", "message": "no route to host", "checked_at": "2026-01-01T00:00:00Z" } });
    let detail = json!({ "daemon": a_daemon("review", "Degraded"), "manifest": null, "hook_url": null });
    let mock = Mock::start([
        ("GET /api/v1/repositories?limit=200", vec![part(&[repository])]),
        ("GET /api/v1/runs?limit=10", vec![part(&[a_run("running"), a_run("failed")])]),
        ("GET /api/v1/repositories/ada/book/daemons/review?at=try%2Fx", vec![ok(detail)]),
        ("GET /api/v1/runs?repository=ada%2Fbook&daemon=review&limit=10&branch=main", vec![part(&[])]),
        ("GET /api/v1/runs/run_0198000000007000800000000000002a", vec![ok(a_detail("failed"))]),
    ]);
    insta::assert_snapshot!(
        mock.session(&Desk::new(), &[&["status"], &["status", "ada/book/review@try/x"], &["status", RUN]])
    );
}

#[test]
fn logs_are_printed_whole() {
    let effect = |status: &str, message: &str| json!({ "kind": "add-comment", "status": status, "message": message, "url": null });
    let mock = Mock::start([
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/logs?limit=200",
            vec![part(&[a_line(1, "Build", "one"), a_line(2, "Test", "two")])],
        ),
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/effects",
            vec![part(&[effect("done", "commented"), effect("refused", "it is not wanted")])],
        ),
    ]);
    insta::assert_snapshot!(mock.session(&Desk::new(), &[&["logs", RUN], &["logs", RUN, "--json"]]));
}

#[test]
fn a_followed_log_goes_on_where_it_broke_off() {
    let mock = Mock::start([(
        "GET /api/v1/runs/run_0198000000007000800000000000002a/logs",
        vec![
            events(
                &(a_line_event(1, "Build", "one")
                    + &a_line_event(2, "Build", "two")
                    + "event: line\nid: 3\ndata: {\"cut"),
            ),
            problem(503, "too_many_streams", "try again later"),
            events(
                &(": keep alive\n\n".to_owned()
                    + &a_line_event(3, "Test", "three")
                    + "event: end\ndata: {\"status\":\"failed\"}\n\n"),
            ),
        ],
    )]);
    insta::assert_snapshot!(mock.session(&Desk::new(), &[&["logs", "-f", RUN]]));
    let seen: Vec<Option<String>> =
        mock.sent().iter().map(|sent| sent.headers.get("last-event-id").cloned()).collect();
    assert_eq!(seen, [None, Some("2".to_owned()), Some("2".to_owned())]);
}

#[test]
fn a_terminal_does_not_obey_a_log() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\rdone \u{1b}[31mred\u{1b}[0m";
    let mock = Mock::start([
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/logs?limit=200",
            vec![part(&[a_line(1, "Evil", evil)])],
        ),
        ("GET /api/v1/runs/run_0198000000007000800000000000002a/effects", vec![part(&[])]),
    ]);
    let desk = Desk::new();
    let line = format!("{} --server {} logs {RUN}", env!("CARGO_BIN_EXE_spellbook"), mock.url());
    // util-linux's `script` gives the program a terminal.
    let output =
        desk.command("script").args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("␛]0;owned␇␛[2J␍done red"), "{shown:?}");
    assert!(shown.contains("\u{1b}[1m== Evil"), "a terminal has colours: {shown:?}");
    assert!(!shown.contains("\u{1b}]") && !shown.contains("\u{1b}[2J"), "{shown:?}");
    // A file gets what the run wrote.
    let output = desk.run(&["--server", &mock.url(), "logs", RUN]);
    assert!(String::from_utf8(output.stdout).unwrap().contains(evil));
}

#[test]
fn a_run_is_started_once_and_watched_to_its_end() {
    let mock = Mock::start([
        (
            "POST /api/v1/runs",
            vec![
                problem(503, "store_unavailable", "try again"),
                Answer { status: 201, ..ok(a_run("queued")) },
            ],
        ),
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/logs",
            vec![events(
                &(a_line_event(1, "Test", "boom") + "event: end\ndata: {\"status\":\"failed\"}\n\n"),
            )],
        ),
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/events",
            vec![events("event: end\ndata: {\"status\":\"failed\"}\n\n")],
        ),
        ("GET /api/v1/runs/run_0198000000007000800000000000002a", vec![ok(a_detail("failed"))]),
    ]);
    let desk = Desk::new();
    desk.write("change.patch", "+ü\n");
    let lines: [&[&str]; 2] = [
        &[
            "run",
            "ada/book/review@main",
            "--input",
            "depth=quick",
            "--input",
            "diff=@change.patch",
            "--watch",
        ],
        &["run", "ada/book/review"],
    ];
    insta::assert_snapshot!(mock.session(&desk, &lines));
    let started: Vec<Sent> =
        mock.sent().into_iter().filter(|sent| sent.line == "POST /api/v1/runs").collect();
    assert_eq!(
        started[0].body,
        json!({ "daemon": "ada/book/review@main", "inputs": { "depth": "quick", "diff": "+ü\n" } })
    );
    let key = |sent: &Sent| sent.headers["idempotency-key"].clone();
    assert!(
        started.len() == 3 && key(&started[0]) == key(&started[1]) && key(&started[1]) != key(&started[2])
    );
}

#[test]
fn runs_are_replayed_cancelled_and_compared() {
    let versions = |id: &str| {
        ok(
            json!({ "daemon": { "address": "ada/book/review", "repository": "ada/book", "role": "deploy", "sync": "Synced", "health": "Healthy", "last_run": null, "revision": a_revision("review", id) }, "manifest": null, "hook_url": null }),
        )
    };
    let mock = Mock::start([
        (
            "POST /api/v1/runs/run_0198000000007000800000000000002a/replays",
            vec![Answer { status: 201, ..ok(a_run("queued")) }],
        ),
        (
            "POST /api/v1/runs/run_0198000000007000800000000000002a/cancel",
            vec![
                Answer { status: 202, ..ok(a_run("running")) },
                problem(409, "run_ended", "the run has ended already"),
            ],
        ),
        ("GET /api/v1/runs/run_0198000000007000800000000000002a", vec![ok(a_detail("failed"))]),
        ("GET /api/v1/runs/run_0198000000007000800000000000002a/stages/Review/diff", vec![diff("")]),
        ("GET /api/v1/runs/run_0198000000007000800000000000002a/stages/Test/diff", vec![diff(PATCH)]),
        (
            "GET /api/v1/runs/run_0198000000007000800000000000002a/stages/Each[3]%2FLabel/diff",
            vec![diff(PATCH)],
        ),
        ("GET /api/v1/repositories/ada/book/daemons/review?at=v1.1.0", vec![versions("rev_1")]),
        ("GET /api/v1/repositories/ada/book/daemons/review", vec![versions("rev_2")]),
        ("GET /api/v1/repositories/ada/book/daemons/review?at=next", vec![versions("rev_3")]),
        ("GET /api/v1/revisions/rev_2/diff?from=rev_1", vec![diff(PATCH)]),
        ("GET /api/v1/revisions/rev_3/diff?from=rev_2", vec![diff(PATCH)]),
        ("GET /api/v1/revisions/rev_2/plan?from=rev_1", vec![ok(json!({ "daemon": "review", "text": "" }))]),
        (
            "GET /api/v1/revisions/rev_3/plan?from=rev_2",
            vec![ok(json!({ "daemon": "review", "text": "review: changed\n  ! wider  network  it may\n" }))],
        ),
    ]);
    let lines: [&[&str]; 9] = [
        &["replay", RUN, "--from", "Test", "--agent", "gpt-5"],
        &["cancel", RUN],
        &["cancel", RUN],
        &["diff", RUN],
        &["diff", RUN, "--stage", "Each[3]/Label"],
        &["diff", "ada/book/review@v1.1.0", "ada/book/review", "--json"],
        &["diff", "ada/book/review@v1.1.0", "ada/book/review", "--color", "always"],
        &["diff", "ada/book/review@next"],
        &["diff", "ada/book/review"],
    ];
    insta::assert_snapshot!(mock.session(&Desk::new(), &lines));
    assert_eq!(mock.sent()[0].body, json!({ "from_stage": "Test", "agent": "gpt-5" }));
}

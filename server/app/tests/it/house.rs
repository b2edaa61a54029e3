//! What the tests of the whole program live in: a data directory, a server, a person with git.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// The program under test.
pub(crate) const SPELLBOOK: &str = env!("CARGO_BIN_EXE_spellbook");

/// A server and its data; stopped and removed when dropped.
pub(crate) struct House {
    pub(crate) data: TempDir,
    pub(crate) url: String,
    pub(crate) token: String,
    /// Where it listens; a free port as long as nobody says.
    pub(crate) listen: String,
    server: Option<Child>,
    pub(crate) said: Arc<Said>,
    client: reqwest::blocking::Client,
}

impl House {
    /// Starts a new server and signs in.
    pub(crate) fn new() -> Self {
        Self::with_config("")
    }

    /// The same, with a configuration.
    pub(crate) fn with_config(config: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let data = tempfile::Builder::new().prefix("sb-").tempdir().unwrap();
        open_to_jails(data.path());
        std::fs::write(data.path().join("config.toml"), config).unwrap();
        let client = reqwest::blocking::Client::builder().timeout(None).build().unwrap();
        let (url, token) = (String::new(), String::new());
        let listen = "127.0.0.1:0".to_owned();
        let mut house = Self { data, url, token, listen, server: None, said: Arc::default(), client };
        let first = house.start();
        let sign_in = json!({ "token": first["sign_in_token"], "label": "test" });
        let (status, answer) = house.post("sign-in", &sign_in);
        assert_eq!(status, 201, "{answer}");
        house.token = answer["secret"].as_str().unwrap().to_owned();
        house
    }

    /// Starts the server; gives the first line that it says.
    pub(crate) fn start(&mut self) -> Json {
        let line = self.begin();
        let first = self.first(line);
        first.unwrap_or_else(|| panic!("the server did not start: {}", self.logged()))
    }

    /// Starts the server and waits for nothing.
    pub(crate) fn begin(&mut self) -> ChildStdout {
        let mut server = hermetic(Command::new(SPELLBOOK), self.data.path())
            .args(["serve", "--json", "--listen", &self.listen, "--data"])
            .arg(self.data.path().join("data"))
            .arg("--config")
            .arg(self.data.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (said, errors) = (Arc::clone(&self.said), BufReader::new(server.stderr.take().unwrap()));
        std::thread::spawn(move || errors.lines().map_while(Result::ok).for_each(|line| said.line(&line)));
        let out = server.stdout.take().unwrap();
        self.server = Some(server);
        out
    }

    /// The first line that a server says that was begun; `None` when it ended before.
    pub(crate) fn first(&mut self, out: ChildStdout) -> Option<Json> {
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).unwrap();
        let first: Json = serde_json::from_str(&line).ok()?;
        first["url"].as_str().unwrap().clone_into(&mut self.url);
        Some(first)
    }

    /// Where the server is, and the token of who is signed in.
    pub(crate) fn door(&self) -> (&str, &str) {
        (&self.url, &self.token)
    }

    /// What a command says to who is signed in.
    pub(crate) fn says_to(&self, arguments: &[&str]) -> String {
        let mut command = hermetic(Command::new(SPELLBOOK), self.data.path());
        command.args(arguments).env("SPELLBOOK_SERVER", &self.url).env("SPELLBOOK_TOKEN", &self.token);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.as_ref().expect("the server runs").id()
    }

    /// What the server logged.
    pub(crate) fn logged(&self) -> String {
        self.said.lines.lock().unwrap().join("\n")
    }

    /// Ends the server at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("the server runs");
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// The same, for who may meet a server that dies.
    pub(crate) fn try_get(&self, path: &str) -> Option<Json> {
        let answer = self.client.get(self.api(path)).bearer_auth(&self.token).send().ok()?;
        answer.status().is_success().then(|| answer.json().ok())?
    }

    pub(crate) fn get(&self, path: &str) -> Json {
        let answer = self.client.get(self.api(path)).bearer_auth(&self.token).send().unwrap();
        let status = answer.status();
        let json: Json = answer.json().unwrap();
        assert!(status.is_success(), "GET {path}: {status} {json}");
        json
    }

    pub(crate) fn post(&self, path: &str, body: &Json) -> (u16, Json) {
        let request = self.client.post(self.api(path)).json(body);
        let request = if self.token.is_empty() { request } else { request.bearer_auth(&self.token) };
        let answer = request.send().unwrap();
        (answer.status().as_u16(), answer.json().unwrap())
    }

    /// The address of an API path.
    pub(crate) fn api(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.url)
    }

    /// Waits until a run has ended; gives it with its stages and effects. The server says when.
    pub(crate) fn ended(&self, run: &str) -> Json {
        let request = self.client.get(self.api(&format!("runs/{run}/logs"))).bearer_auth(&self.token);
        let stream = request.header("accept", "text/event-stream").send().unwrap();
        let said = stream.text().unwrap();
        assert!(said.contains("event: end"), "the log of {run} ended early:\n{said}\n{}", self.logged());
        self.shown(run)
    }

    /// A run with its stages, whole, and its effects.
    pub(crate) fn shown(&self, run: &str) -> Json {
        let mut shown = self.get(&format!("runs/{run}"));
        shown["stages"] = self.get(&format!("runs/{run}/journal"))["items"].clone();
        shown
    }

    /// Starts a run.
    pub(crate) fn run(&self, daemon: &str, inputs: &Json) -> String {
        let (status, run) = self.post("runs", &json!({ "daemon": daemon, "inputs": inputs }));
        assert_eq!(status, 201, "{run}");
        run["id"].as_str().unwrap().to_owned()
    }

    /// Waits until something is so: looks whenever the server has logged something. For what it does by
    /// itself and tells nobody else.
    pub(crate) fn until<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            let said = self.said.count();
            if let Some(found) = look(self) {
                return found;
            }
            assert!(self.said.more_than(said), "waited in vain for {what}\n{}", self.logged());
        }
    }

    /// Waits until a line of a run's log holds a word; the server sends them as they come.
    pub(crate) fn says(&self, run: &str, word: &str) {
        let request = self.client.get(self.api(&format!("runs/{run}/logs"))).bearer_auth(&self.token);
        let stream = request.header("accept", "text/event-stream").send().unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(word)), "{run} ended without {word:?}\n{}", self.logged());
    }

    /// The runs of a repository, newest first.
    pub(crate) fn runs(&self, repository: &str) -> Vec<Json> {
        self.get(&format!("runs?repository={repository}"))["items"].as_array().unwrap().clone()
    }

    /// A clone to be, of a repository that need not be there yet.
    pub(crate) fn work_tree(&self, repository: &str) -> WorkTree {
        let directory = tempfile::tempdir().unwrap();
        let tree = WorkTree {
            directory,
            remote: format!("{}/git/{repository}.git", self.url),
            token: self.token.clone(),
        };
        assert!(tree.git(&["init", "--quiet", "--initial-branch=main", "."]).status.success());
        tree
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // The whole way down, so that jails and the local model are gone with it.
            let id = server.id().to_string();
            let _ = Command::new("kill").arg(id).status();
            let _ = server.wait();
        }
    }
}

/// What a server logged, over all its lives, and what a test wrote down between.
#[derive(Default)]
pub(crate) struct Said {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Said {
    pub(crate) fn line(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
        self.more.notify_all();
    }

    pub(crate) fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// Waits for more lines than these; whether they came within a minute.
    fn more_than(&self, count: usize) -> bool {
        self.more_within(count, Duration::from_secs(60))
    }

    /// The same within some time.
    pub(crate) fn more_within(&self, count: usize, time: Duration) -> bool {
        let lines = self.lines.lock().unwrap();
        let few = |lines: &mut Vec<String>| lines.len() <= count;
        let (_lines, waited) = self.more.wait_timeout_while(lines, time, few).unwrap();
        !waited.timed_out()
    }
}

/// A person's own directory with git.
pub(crate) struct WorkTree {
    directory: TempDir,
    pub(crate) remote: String,
    token: String,
}

impl WorkTree {
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// Commits everything.
    pub(crate) fn commit(&self, message: &str) {
        assert!(self.git(&["add", "--all"]).status.success());
        assert!(self.git(&["commit", "--quiet", "--message", message]).status.success());
    }

    /// Pushes; gives whether it was accepted, and what git showed.
    pub(crate) fn push(&self, arguments: &[&str]) -> (bool, String) {
        let output = self.git(&[&["push", self.remote.as_str()], arguments].concat());
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// What git writes.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.git(arguments);
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> Output {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("ada:{}", self.token));
        Command::new("git")
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_AUTHOR_NAME", "Ada")
            .env("GIT_AUTHOR_EMAIL", "ada@example.com")
            .env("GIT_COMMITTER_NAME", "Ada")
            .env("GIT_COMMITTER_EMAIL", "ada@example.com")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {basic}"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

/// A command that sees nothing of the person's own configuration but where the tools are.
pub(crate) fn hermetic(mut command: Command, home: &Path) -> Command {
    let keep = ["PATH", "SPELLBOOK_NSJAIL", "SPELLBOOK_MODEL_PYTHON", "SPELLBOOK_MODEL_GGUF"];
    let kept: Vec<_> = keep.iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
    command.env_clear().envs(kept).env("SPELLBOOK_TOOLS", tools()).env("HOME", home);
    command
}

/// Where `./x` puts what it installs.
pub(crate) fn tools() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let data = || set("XDG_DATA_HOME").unwrap_or_else(|| set("HOME").unwrap().join(".local/share"));
    set("SPELLBOOK_TOOLS").unwrap_or_else(|| data().join("spellbook/tools"))
}

/// Where coding agents are kept from one test to the next: jails, which belong to others, must be able to
/// pass through to it, and nobody passes through root's home.
pub(crate) fn agents() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let state = || {
        let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
        if rustix::process::geteuid().is_root() { PathBuf::from("/var/lib") } else { data.unwrap() }
    };
    set("SPELLBOOK_AGENTS").unwrap_or_else(|| state().join("spellbook/agents"))
}

/// Temporary directories are closed to others; jails belong to others.
fn open_to_jails(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)).unwrap();
}

//! GitHub, as far as a job sees it: an issuer that says who the job is, and a runner that runs a step of the
//! Action with the files and the commands that real ones have.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value as Json, json};
use tempfile::TempDir;
use testkit::Issuer;

use crate::house::{House, hermetic};

/// What a job shows to learn who it is; nobody else may see it.
const REQUEST_TOKEN: &str = "request-token-of-the-job";

/// A server of bytes; it stops when it is dropped.
pub(crate) struct Listener {
    pub(crate) at: SocketAddr,
    over: Arc<Mutex<bool>>,
    serving: Option<JoinHandle<()>>,
}

impl Listener {
    fn serving(each: impl Fn(TcpStream) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let over = Arc::new(Mutex::new(false));
        let shared = Arc::clone(&over);
        let serving = std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if *shared.lock().unwrap() {
                    return;
                }
                let each = each.clone();
                std::thread::spawn(move || each(connection));
            }
        });
        Self { at, over, serving: Some(serving) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        *self.over.lock().unwrap() = true;
        // Whoever waits for a connection gets one, and sees that it is over.
        let _ = TcpStream::connect(self.at);
        let _ = self.serving.take().unwrap().join();
    }
}

/// The issuer of identities, and what else a job gets from elsewhere.
pub(crate) struct GitHub {
    listener: Listener,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl GitHub {
    pub(crate) fn new() -> Self {
        let files: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let issued = Arc::new(Mutex::new(0));
        let shared = Arc::clone(&files);
        let listener = Listener::serving(move |connection| {
            let Some((path, head)) = read_request(&connection) else { return };
            let issuer = Issuer::new(format!("http://{}", connection.local_addr().unwrap()));
            let body = if let Some(query) = path.strip_prefix("/identity?") {
                let allowed = head.contains(&format!("Bearer {REQUEST_TOKEN}\r\n"));
                allowed.then(|| identity(&issuer, query, &issued).to_string().into_bytes())
            } else if let Some(document) = issuer.document(&path) {
                Some(document.to_string().into_bytes())
            } else {
                shared.lock().unwrap().get(&path).cloned()
            };
            answer(connection, body);
        });
        Self { listener, files }
    }

    pub(crate) fn url(&self) -> String {
        self.listener.url()
    }

    /// The issuer, for identities that no job gets.
    pub(crate) fn issuer(&self) -> Issuer {
        Issuer::new(self.url())
    }

    /// Offers a file for download.
    pub(crate) fn offer(&self, path: &str, bytes: &[u8]) {
        self.files.lock().unwrap().insert(path.to_owned(), bytes.to_vec());
    }

    /// A configuration that trusts the jobs of `acme/app` with these daemons.
    pub(crate) fn trusted_with(&self, daemons: &[&str]) -> String {
        format!(
            "[network]\nallow_http = true\nallow_private = ['{at}']\n\
             [actions]\nissuer = '{}'\n\
             [[actions.trust]]\nrepository = 'acme/*'\nrole = 'runner'\ndaemons = {}\n",
            self.url(),
            json!(daemons),
            at = self.listener.at,
        )
    }
}

/// Who the job is, for an audience; each time another identity.
fn identity(issuer: &Issuer, query: &str, issued: &Mutex<u32>) -> Json {
    let audience = query.split('&').find_map(|pair| pair.strip_prefix("audience=")).unwrap_or_default();
    let audience = audience.replace("%3A", ":").replace("%2F", "/");
    let mut issued = issued.lock().unwrap();
    *issued += 1;
    json!({ "value": issuer.sign(&issuer.claims(&audience, now(), &format!("identity-{issued}"))) })
}

/// This moment, in seconds.
#[expect(clippy::disallowed_methods, reason = "the server under test has the clock of this machine")]
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The path and the head of a request; bodies are none.
fn read_request(connection: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some((head.split(' ').nth(1)?.to_owned(), head))
}

fn answer(mut connection: TcpStream, body: Option<Vec<u8>>) {
    let (status, body) = body.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client may leave in the middle.
    let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
}

/// An address that stays while the server behind it comes and goes.
pub(crate) struct Relay {
    listener: Listener,
    target: Arc<Mutex<Option<String>>>,
}

impl Relay {
    pub(crate) fn new() -> Self {
        let target: Arc<Mutex<Option<String>>> = Arc::default();
        let shared = Arc::clone(&target);
        let listener = Listener::serving(move |near| {
            let Some(target) = shared.lock().unwrap().clone() else { return };
            let Ok(far) = TcpStream::connect(target) else { return };
            let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            let up = std::thread::spawn(move || pass(near_too, far_too));
            pass(far, near);
            let _ = up.join();
        });
        Self { listener, target }
    }

    pub(crate) fn url(&self) -> String {
        self.listener.url()
    }

    /// Says where the server is now.
    pub(crate) fn lead_to(&self, house: &House) {
        *self.target.lock().unwrap() = Some(house.url.trim_start_matches("http://").to_owned());
    }
}

/// Passes bytes on until one side ends, then ends both.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// A runner of GitHub Actions with a checked out workspace.
pub(crate) struct Runner {
    home: TempDir,
    environment: BTreeMap<String, String>,
}

/// A step that has ended, as its runner sees it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) code: Option<i32>,
    /// The log, with what is to be hidden hidden.
    pub(crate) log: String,
    /// The commands that the runner obeyed, but for those that hide.
    pub(crate) obeyed: Vec<String>,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) summary: String,
    /// Every argument that curl got.
    pub(crate) arguments: String,
}

impl Runner {
    /// A runner whose jobs may ask GitHub who they are.
    pub(crate) fn new(github: &GitHub) -> Self {
        let home = tempfile::tempdir().unwrap();
        for directory in ["workspace", "temp", "bin"] {
            std::fs::create_dir(home.path().join(directory)).unwrap();
        }
        let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let mut environment = BTreeMap::new();
        for (name, value) in [
            ("GITHUB_ACTION_PATH", action().to_str().unwrap().to_owned()),
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITHUB_WORKSPACE", at("workspace")),
            ("GITHUB_REPOSITORY", "acme/app".to_owned()),
            ("GITHUB_REPOSITORY_ID", "4711".to_owned()),
            ("GITHUB_RUN_ID", "1001".to_owned()),
            ("GITHUB_RUN_ATTEMPT", "1".to_owned()),
            ("GITHUB_JOB", "spellbook".to_owned()),
            ("GITHUB_ACTION", "__self".to_owned()),
            ("GITHUB_EVENT_PATH", at("event.json")),
            ("GITHUB_OUTPUT", at("output")),
            ("GITHUB_STEP_SUMMARY", at("summary")),
            ("GITHUB_ENV", at("env")),
            ("GITHUB_PATH", at("path")),
            ("RUNNER_TEMP", at("temp")),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{}/identity?api-version=2.0", github.url())),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN.to_owned()),
        ] {
            environment.insert(name.to_owned(), value);
        }
        std::fs::write(at("event.json"), "{}").unwrap();
        let runner = Self { home, environment };
        runner.watch_curl();
        runner
    }

    /// A curl that writes down what it is told, and then does it.
    fn watch_curl(&self) {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::var_os("PATH").unwrap();
        let real =
            std::env::split_paths(&path).map(|entry| entry.join("curl")).find(|path| path.is_file()).unwrap();
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" >>'{}/arguments'\nexec '{}' \"$@\"\n",
            self.home.path().display(),
            real.display()
        );
        let own = self.home.path().join("bin/curl");
        std::fs::write(&own, script).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.home.path().join("workspace")
    }

    /// Checks out a repository with these files.
    pub(crate) fn check_out(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            let file = self.workspace().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        for arguments in [&["init", "--quiet", "."][..], &["add", "--all"]] {
            let mut git = hermetic(Command::new("git"), self.home.path());
            assert!(git.args(arguments).current_dir(self.workspace()).status().unwrap().success());
        }
    }

    /// Takes the job its permission to say who it is.
    pub(crate) fn forbid_identity(&mut self) {
        self.environment.retain(|name, _| !name.starts_with("ACTIONS_ID_TOKEN"));
    }

    /// What is left in the runner's own directory for temporary files.
    pub(crate) fn left_over(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.home.path().join("temp")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Runs the Action with these inputs.
    pub(crate) fn step(&self, inputs: &[(&str, &str)]) -> Step {
        self.begin(inputs).end()
    }

    /// Begins a step, as the runner does: `shell: bash` with what `run:` says.
    pub(crate) fn begin(&self, inputs: &[(&str, &str)]) -> Begun {
        for file in ["output", "summary", "env", "path", "arguments"] {
            std::fs::write(self.home.path().join(file), "").unwrap();
        }
        let metadata = Metadata::read();
        let mut command = hermetic(Command::new("bash"), self.home.path());
        let path = std::env::var("PATH").unwrap();
        command
            .args(["--noprofile", "--norc", "-e", "-o", "pipefail", "-c", &metadata.run])
            .current_dir(self.workspace())
            .envs(&self.environment)
            .envs(metadata.environment(inputs))
            .env("PATH", format!("{}/bin:{path}", self.home.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            errors.read_to_string(&mut text).map(|_| text).unwrap()
        });
        Begun { child, out, errors, printed: String::new(), home: self.home.path().to_owned() }
    }
}

/// A step that goes on.
pub(crate) struct Begun {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    errors: JoinHandle<String>,
    printed: String,
    home: PathBuf,
}

impl Begun {
    /// Waits until the step prints a word.
    pub(crate) fn says(&mut self, word: &str) {
        let start = self.printed.len();
        while !self.printed[start..].contains(word) {
            assert_ne!(self.out.read_line(&mut self.printed).unwrap(), 0, "no {word:?} in {}", self.printed);
        }
    }

    /// Cancels the job: the runner interrupts the shell that it started.
    pub(crate) fn interrupt(&self) {
        assert!(
            Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    pub(crate) fn end(mut self) -> Step {
        self.out.read_to_string(&mut self.printed).unwrap();
        let code = self.child.wait().unwrap().code();
        let errors = self.errors.join().unwrap();
        let read = |name: &str| std::fs::read_to_string(self.home.join(name)).unwrap();
        for file in ["env", "path"] {
            assert_eq!(read(file), "", "the Action sets nothing for other steps");
        }
        let (obeyed, log) = obey(&format!("{}{errors}", self.printed));
        Step {
            code,
            log,
            obeyed,
            outputs: outputs(&read("output")),
            summary: read("summary"),
            arguments: read("arguments"),
        }
    }
}

/// What a runner obeys of what a step prints (its `ActionCommandManager`), and the log that people see.
fn obey(printed: &str) -> (Vec<String>, String) {
    let (mut obeyed, mut stop, mut hidden, mut log) = (Vec::new(), None, BTreeSet::new(), String::new());
    for line in printed.split(['\n', '\r']) {
        let text = line.trim_start();
        if let Some(word) = &stop {
            if text == format!("::{word}::") {
                stop = None;
                continue;
            }
        } else if let Some(word) = text.strip_prefix("::stop-commands::") {
            stop = Some(word.to_owned());
            continue;
        } else if let Some(secret) = text.strip_prefix("::add-mask::") {
            hidden.insert(secret.to_owned());
            continue;
        } else if text.starts_with("::") || text.contains("##[") {
            obeyed.push(text.to_owned());
        }
        log.push_str(line);
        log.push('\n');
    }
    assert_eq!(stop, None, "commands stay stopped");
    for secret in &hidden {
        log = log.replace(secret.as_str(), "***");
    }
    for mark in ["sb_", "eyJ", REQUEST_TOKEN] {
        assert!(!log.contains(mark), "a credential that is not hidden: {log}");
    }
    (obeyed, log)
}

/// The file of outputs, as a runner reads it (its `FileCommandManager`).
fn outputs(text: &str) -> BTreeMap<String, String> {
    let (mut outputs, mut lines) = (BTreeMap::new(), text.lines());
    while let Some(line) = lines.next() {
        let (name, end) = line.split_once("<<").unwrap_or_else(|| panic!("`{line}` begins no output"));
        let value: Vec<_> = lines.by_ref().take_while(|line| *line != end).collect();
        outputs.insert(name.to_owned(), value.join("\n"));
    }
    outputs
}

/// As much of `action.yml` as a runner needs for its one step.
struct Metadata {
    run: String,
    /// Variables with the inputs that they stand for.
    variables: Vec<(String, String)>,
    defaults: BTreeMap<String, String>,
}

impl Metadata {
    fn read() -> Self {
        let text = std::fs::read_to_string(action().join("action.yml")).unwrap();
        let (mut run, mut variables, mut defaults, mut input) =
            (None, Vec::new(), BTreeMap::new(), String::new());
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let (indent, key, value) =
                (key.len() - key.trim_start().len(), key.trim(), value.trim().trim_matches('\''));
            match (indent, key) {
                (2, name) => name.clone_into(&mut input),
                (4, "default") => drop(defaults.insert(input.clone(), value.to_owned())),
                (6, "run") => run = Some(value.to_owned()),
                (8, name) => {
                    let named = value.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}"));
                    variables.extend(named.map(|input| (name.to_owned(), input.to_owned())));
                }
                _ => {}
            }
        }
        Self { run: run.unwrap(), variables, defaults }
    }

    fn environment(&self, inputs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut given = self.defaults.clone();
        for (name, value) in inputs {
            assert!(self.variables.iter().any(|(_, input)| input == name), "there is no input `{name}`");
            given.insert((*name).to_owned(), (*value).to_owned());
        }
        self.variables
            .iter()
            .filter_map(|(name, input)| Some((name.clone(), given.get(input)?.clone())))
            .collect()
    }
}

/// The Action.
fn action() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../action").canonicalize().unwrap()
}

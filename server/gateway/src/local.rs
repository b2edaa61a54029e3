//! The model of this machine: llama.cpp's own HTTP server from the Python wheel `xllamacpp`, as a
//! child process. A crash in it costs one answer, not the server.
//!
//! It is started by the first question, listens on a free port of the loopback address with a key of
//! its own, answers one question at a time, is started again (with growing pauses) when it dies, and
//! goes when this process goes, however that happens.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use crate::class::{Class, Fault};
use crate::config::LocalConfig;

const SCRIPT: &str = include_str!("local/serve.py");

/// How long loading the model may take.
const START_MAX: Duration = Duration::from_secs(120);

/// How long a living server may take to say that it lives.
const HEALTH_MAX: Duration = Duration::from_secs(5);

/// The pause after the first death; it doubles with each.
const PAUSE: Duration = Duration::from_millis(250);

/// Where doubling ends.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A server that lived so long was healthy: its death is the first again.
const SOUND: Duration = Duration::from_secs(60);

/// How much of what it says is kept for an error, bytes.
const LOG_MAX: usize = 8 << 10;

/// The model of this machine, running or not.
#[derive(Debug)]
pub(crate) struct Local {
    python: PathBuf,
    gguf: PathBuf,
    context: u32,
    threads: u32,
    /// It answers one question at a time; the others wait here, where no timeout runs.
    places: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct State {
    server: Option<Server>,
    deaths: u32,
    not_before: Option<Instant>,
    /// Why the last one did not start.
    not_started: Option<String>,
    closed: bool,
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
struct Server {
    child: Child,
    /// Open as long as we live; it ends when it closes.
    _lifeline: ChildStdin,
    base: Url,
    key: SecretString,
    since: Instant,
    log: Log,
}

/// A place at the running server, until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) base: Url,
    pub(crate) key: SecretString,
    state: Arc<Mutex<State>>,
    _place: OwnedSemaphorePermit,
}

/// The last words of a server.
type Log = Arc<StdMutex<VecDeque<u8>>>;

impl Local {
    pub(crate) fn new(config: &LocalConfig, tools: &Path) -> Self {
        Self {
            python: config.python_under(tools),
            gguf: config.gguf_under(tools),
            context: config.context,
            threads: config.threads,
            places: Arc::new(Semaphore::new(1)),
            state: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Waits for a place, and starts the server when it does not run.
    ///
    /// # Errors
    /// When it is not installed, does not start, or died a moment ago because it did not start.
    pub(crate) async fn connect(&self, http: &reqwest::Client) -> Result<Slot, Fault> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let mut state = self.state.lock().await;
        state.bury();
        if state.closed {
            return Err(closed());
        }
        if state.server.is_none() {
            self.start_again(http, &mut state).await?;
        }
        let server = state.server.as_ref().ok_or_else(closed)?;
        let (base, key) = (server.base.clone(), server.key.clone());
        Ok(Slot { base, key, state: Arc::clone(&self.state), _place: place })
    }

    /// What of it is not installed, if something is not.
    pub(crate) fn missing(&self) -> Option<Fault> {
        [&self.python, &self.gguf].into_iter().find(|file| !file.is_file()).map(|file| missing(file))
    }

    /// Stops the server and waits until it is gone; no question starts it again.
    pub(crate) async fn shutdown(&self) {
        self.places.close();
        let mut state = self.state.lock().await;
        state.closed = true;
        if let Some(mut server) = state.server.take() {
            // An error says that it is gone already.
            let _ = server.child.kill().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts a server where none is, not sooner than its last deaths allow.
    async fn start_again(&self, http: &reqwest::Client, state: &mut State) -> Result<(), Fault> {
        for file in [&self.python, &self.gguf] {
            if !tokio::fs::metadata(file).await.is_ok_and(|found| found.is_file()) {
                return Err(missing(file));
            }
        }
        match (state.not_before.filter(|then| *then > Instant::now()), &state.not_started) {
            // It would not start now either; the question may have another model to go to.
            (Some(_), Some(why)) => return Err(not_started(why)),
            (Some(then), None) => sleep_until(then).await,
            (None, _) => {}
        }
        match self.start(http).await {
            Ok(server) => {
                state.server = Some(server);
                state.not_started = None;
                Ok(())
            }
            Err(why) => {
                let fault = not_started(&why);
                state.died(Duration::ZERO);
                state.not_started = Some(why);
                Err(fault)
            }
        }
    }

    async fn start(&self, http: &reqwest::Client) -> Result<Server, String> {
        let begun = Instant::now();
        let mut server = self.spawn().await.map_err(|error| error.to_string())?;
        let ready = timeout(START_MAX, self.ready(http, &mut server)).await;
        match ready.unwrap_or_else(|_| Err(format!("it was not ready within {START_MAX:?}"))) {
            Ok(()) => {
                let millis = begun.elapsed().as_millis();
                tracing::info!(
                    model.pid = server.child.id(),
                    model.ready_ms = millis,
                    "the local model is ready after {millis} ms"
                );
                Ok(server)
            }
            Err(why) => {
                let _ = server.child.kill().await;
                self.drain().await;
                let words = last_words(&server.log);
                Err(if words.is_empty() { why } else { words })
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the room that owns the local model's process")]
    async fn spawn(&self) -> std::io::Result<Server> {
        let key = SecretString::from(hex(rand::rng().random::<u128>()));
        let mut child = Command::new(&self.python)
            // Nothing of ours goes along: no environment, no module path, no working directory, and no
            // signal that is typed at our terminal.
            .args(["-I", "-c", SCRIPT])
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lost = || std::io::Error::other("a pipe of the process is missing");
        let mut lifeline = child.stdin.take().ok_or_else(lost)?;
        let log = Log::default();
        self.tasks.spawn(keep(child.stderr.take().ok_or_else(lost)?, Arc::clone(&log)));
        let settings = json!({
            "model": std::path::absolute(&self.gguf)?,
            "name": "smollm2",
            "key": key.expose_secret(),
            "context": self.context,
            "threads": self.threads,
        });
        lifeline.write_all(format!("{settings}\n").as_bytes()).await?;
        lifeline.flush().await?;
        let base = Url::parse("http://127.0.0.1/v1").map_err(std::io::Error::other)?;
        Ok(Server { child, _lifeline: lifeline, base, key, since: Instant::now(), log })
    }

    /// Waits for the address and the first sign of health.
    async fn ready(&self, http: &reqwest::Client, server: &mut Server) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Ready {
            address: String,
        }
        let stdout = server.child.stdout.take().ok_or("its standard output is missing")?;
        let mut line = String::new();
        let read = BufReader::new(stdout.take(4_096)).read_line(&mut line).await;
        read.map_err(|error| error.to_string())?;
        let ready: Ready =
            serde_json::from_str(&line).map_err(|_| "it ended before it was ready".to_owned())?;
        server.base = Url::parse(&format!("{}/v1", ready.address)).map_err(|error| error.to_string())?;
        if is_healthy(http, &server.base).await { Ok(()) } else { Err("it does not answer".to_owned()) }
    }

    /// Waits until what a dead server had said is read.
    async fn drain(&self) {
        self.tasks.close();
        let _ = timeout(HEALTH_MAX, self.tasks.wait()).await;
        self.tasks.reopen();
    }
}

impl Slot {
    /// A call failed: when the server does not answer any more, it is ended, and the next question
    /// starts another.
    pub(crate) async fn report_broken(&self, http: &reqwest::Client) {
        let mut state = self.state.lock().await;
        let is_ours = state.server.as_ref().is_some_and(|server| server.base == self.base);
        if is_ours && !is_healthy(http, &self.base).await {
            state.kill().await;
        }
    }
}

impl State {
    /// Notices a death.
    fn bury(&mut self) {
        let Some(server) = &mut self.server else { return };
        if let Ok(Some(status)) = server.child.try_wait() {
            let lived = server.since.elapsed();
            let words = last_words(&server.log);
            tracing::warn!(model.status = %status, "the local model's server died ({status}): {words}");
            self.server = None;
            self.died(lived);
        }
    }

    async fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let _ = server.child.kill().await;
        let words = last_words(&server.log);
        tracing::warn!("the local model's server does not answer and was ended: {words}");
        self.died(server.since.elapsed());
    }

    fn died(&mut self, lived: Duration) {
        self.deaths = if lived >= SOUND { 1 } else { self.deaths.saturating_add(1) };
        let pause = PAUSE.saturating_mul(1 << (self.deaths - 1).min(10)).min(PAUSE_MAX);
        self.not_before = Some(Instant::now() + pause);
    }
}

async fn is_healthy(http: &reqwest::Client, base: &Url) -> bool {
    let mut url = base.clone();
    url.set_path("/health");
    let answer = timeout(HEALTH_MAX, http.get(url).send()).await;
    matches!(answer, Ok(Ok(response)) if response.status().is_success())
}

async fn keep(mut from: ChildStderr, log: Log) {
    let mut buffer = [0; 1_024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend(&buffer[..read]);
        let over = log.len().saturating_sub(LOG_MAX);
        log.drain(..over);
    }
}

/// The last four lines, on one.
fn last_words(log: &Log) -> String {
    let bytes: Vec<u8> = log.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = &lines[lines.len().saturating_sub(4)..];
    tail.join(" / ").chars().filter(|c| !c.is_control()).take(400).collect()
}

fn hex(number: u128) -> String {
    format!("{number:032x}")
}

fn missing(file: &Path) -> Fault {
    let why = "is not installed: there is no";
    let what = "run `./x setup`, or name a model of a provider and set its key (ANTHROPIC_API_KEY, OPENAI_API_KEY, …)";
    Fault::new(Class::Unavailable, format!("{why} {}; {what}", file.display()))
}

fn not_started(why: &str) -> Fault {
    Fault::new(Class::Unavailable, format!("did not start: {why}"))
}

fn closed() -> Fault {
    Fault::new(Class::Unavailable, "is shut down")
}

#[cfg(test)]
#[path = "local/tests.rs"]
mod local_model;

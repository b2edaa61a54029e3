//! The API of a forge that runs here, on the loopback: a small one that remembers what it is told ([`Behind`]),
//! before which each request is seen, and requests and answers are lost on demand. Git pushes to it too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::files::File;
use domain::id::RepositoryId;
use domain::name::{Branch, Commit, Tag};
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::source::{
    CommitInfo, CommitSpec, Diff, Directory, Entry, Fetched, MergeSpec, Merged, Moved, PathChange, PushSpec,
    ReadBounds, Remote, Snapshot, SnapshotSpec, Source, SourceError, View,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::FixedClock;

/// A request, read.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `POST`.
    pub method: String,
    /// The path as it was written, below the API's own.
    pub path: String,
    /// What follows it, decoded.
    pub query: Vec<(String, String)>,
    /// The body, where it is JSON.
    pub body: Option<Value>,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Asked {
    /// Reads one whose body is here.
    pub fn read(parts: &Parts, body: &[u8]) -> Self {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        Self {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().split('&').filter_map(pair).collect(),
            body: serde_json::from_slice(body).ok(),
            headers: parts.headers.iter().filter_map(header).collect(),
        }
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A field of the body.
    pub fn field(&self, name: &str) -> Value {
        self.body.as_ref().and_then(|body| body.get(name)).cloned().unwrap_or(Value::Null)
    }

    /// The token that whoever asks is known by.
    pub fn bearer(&self) -> &str {
        let sent = self.headers.get("authorization");
        sent.and_then(|sent| sent.strip_prefix("Bearer ")).unwrap_or_default()
    }
}

/// The status of an answer and what it says, when it comes.
pub type Answering = Pin<Box<dyn Future<Output = (u16, Value)> + Send>>;

/// A small forge that remembers. A list is answered whole: the gate makes pages of it.
pub trait Behind: Send + 'static {
    /// Where its API begins: `/api/v1`.
    const API: &str;
    /// The parameter that says how long a page is; `None` where no pages are made.
    const PER_PAGE: Option<&str> = None;
    /// With which status and in which words it wants to be asked more slowly.
    const SLOWER: (u16, &str) = (429, "not so fast");

    /// Carries a request out: its status and what it says.
    fn answer(&mut self, asked: &Asked, now: Timestamp) -> (u16, Value);
    /// Carries a push out.
    fn push(&mut self, push: &PushSpec<'_>) -> Moved;
    /// What the forge would not have taken of a request.
    fn violations(&self, asked: &Asked) -> Vec<String>;

    /// Where else to ask, as a path below the API, when that is all it says.
    fn moved(&self, _: &Asked) -> Option<String> {
        None
    }

    /// What a program elsewhere says in its place.
    fn elsewhere(&self, _: &Asked) -> Option<Answering> {
        None
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is carried out, and the answer is lost.
    LostAnswer,
    /// It does not arrive.
    LostRequest,
    /// The forge wants to be asked more slowly.
    Limited,
}

#[derive(Debug, Default)]
struct Watch {
    seen: Vec<String>,
    violations: Vec<String>,
    counted: usize,
    trouble: Option<(usize, Trouble)>,
}

/// The way to a small forge.
pub struct Gate<B> {
    behind: Mutex<B>,
    watch: Mutex<Watch>,
    clock: Arc<FixedClock>,
}

impl<B> std::fmt::Debug for Gate<B> {
    /// Without what is behind it: a forge holds it, and must not show a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl<B: Behind> Gate<B> {
    /// Opens it; says where.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn open(clock: Arc<FixedClock>, behind: B) -> (Arc<Self>, String) {
        let gate = Arc::new(Self { behind: Mutex::new(behind), watch: Mutex::default(), clock });
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        serve(listener, Router::new().fallback(answer::<B>).with_state(Arc::clone(&gate)));
        (gate, url)
    }

    /// What is behind it.
    pub fn behind(&self) -> MutexGuard<'_, B> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request of this number, from now on and counted from zero, meets trouble; `None` ends all of it.
    pub fn trouble(&self, trouble: Option<(usize, Trouble)>) {
        let mut watch = self.watch();
        (watch.counted, watch.trouble) = (0, trouble);
    }

    /// Whether the trouble has not come yet.
    pub fn is_still_to_come(&self) -> bool {
        self.watch().trouble.is_some()
    }

    /// The requests since the last look, as `POST /repos/acme/app/issues`.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.watch().seen)
    }

    /// What the forge would not have taken.
    pub fn violations(&self) -> Vec<String> {
        self.watch().violations.clone()
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_trouble(&self) -> Option<Trouble> {
        let mut watch = self.watch();
        let number = watch.counted;
        watch.counted += 1;
        let (_, trouble) = watch.trouble.filter(|(at, _)| *at == number)?;
        watch.trouble = None;
        Some(trouble)
    }

    fn note(&self, asked: &Asked) {
        let wrong = self.behind().violations(asked);
        let mut watch = self.watch();
        watch.violations.extend(wrong);
        watch.seen.push(format!("{} {}", asked.method, asked.path));
    }

    async fn carry_out(&self, asked: &Asked) -> Response {
        let (moved, elsewhere) = {
            let behind = self.behind();
            (behind.moved(asked), behind.elsewhere(asked))
        };
        if let Some(path) = moved {
            let location = format!("http://{}{}{path}", asked.headers["host"], B::API);
            return (StatusCode::MOVED_PERMANENTLY, [("location", location)]).into_response();
        }
        let (status, value) = match elsewhere {
            Some(answering) => answering.await,
            None => self.behind().answer(asked, self.clock.now()),
        };
        let status = status_of(status);
        let size = B::PER_PAGE.and_then(|name| asked.parameter(name)?.parse::<usize>().ok());
        match (value, size) {
            (Value::Null, _) => status.into_response(),
            (Value::Array(list), Some(size)) => page(asked, status, list, size),
            (value, _) => (status, axum::Json(value)).into_response(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
fn serve(listener: TcpListener, router: Router) {
    tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
}

async fn answer<B: Behind>(State(gate): State<Arc<Gate<B>>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let mut asked = Asked::read(&parts, &body);
    let Some(path) = asked.path.strip_prefix(B::API) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    asked.path = path.to_owned();
    assert!(asked.headers["user-agent"].starts_with("spellbook/"), "it says who it is");
    gate.note(&asked);
    match gate.next_trouble() {
        Some(Trouble::LostRequest) => StatusCode::BAD_GATEWAY.into_response(),
        Some(Trouble::Limited) => {
            let (status, message) = B::SLOWER;
            let body = axum::Json(json!({ "message": message }));
            (status_of(status), [("retry-after", "30")], body).into_response()
        }
        Some(Trouble::LostAnswer) => {
            gate.carry_out(&asked).await;
            StatusCode::BAD_GATEWAY.into_response()
        }
        None => gate.carry_out(&asked).await,
    }
}

/// One page. The link to the next has the address that the forge believes to be its own, which is another.
fn page(asked: &Asked, status: StatusCode, list: Vec<Value>, size: usize) -> Response {
    let number = asked.parameter("page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1);
    let rest = list.len().saturating_sub(number * size);
    let page: Vec<Value> = list.into_iter().skip((number - 1) * size).take(size).collect();
    let link = format!("<http://forge.internal/x?page={}>; rel=\"next\"", number + 1);
    if rest > 0 {
        (status, [("link", link)], axum::Json(page)).into_response()
    } else {
        (status, axum::Json(page)).into_response()
    }
}

fn status_of(number: u16) -> StatusCode {
    StatusCode::from_u16(number).expect("a status")
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), decoded(value)))
}

/// Text without the escapes of an address.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

type Answer<T> = Result<T, SourceError>;

fn unasked<T>() -> Answer<T> {
    Err(SourceError::Broken("only pushing is offered here".to_owned()))
}

/// Git, for a forge that has branches and no commits: only pushing is asked of it.
#[async_trait]
impl<B: Behind> Source for Gate<B> {
    async fn push(&self, push: PushSpec<'_>) -> Answer<Moved> {
        self.watch().seen.push(format!("PUSH {}", push.branch));
        let trouble = self.next_trouble();
        let hung_up = || Err(SourceError::Unreachable("the remote hung up".to_owned()));
        if trouble == Some(Trouble::LostRequest) {
            return hung_up();
        }
        let moved = self.behind().push(&push);
        if trouble.is_some() { hung_up() } else { Ok(moved) }
    }

    async fn create(&self, _: RepositoryId, _: &Branch) -> Answer<()> {
        unasked()
    }

    fn path(&self, _: RepositoryId) -> PathBuf {
        PathBuf::new()
    }

    async fn branches(&self, _: RepositoryId) -> Answer<Vec<(Branch, Commit)>> {
        unasked()
    }

    async fn tag(&self, _: RepositoryId, _: &Tag) -> Answer<Option<Commit>> {
        unasked()
    }

    async fn line(&self, _: RepositoryId, _: Option<&Commit>, _: &Commit, _: usize) -> Answer<Vec<Commit>> {
        unasked()
    }

    async fn describe(&self, _: RepositoryId, _: &[Commit]) -> Answer<Vec<CommitInfo>> {
        unasked()
    }

    async fn changes(&self, _: &View, _: Option<&Commit>, _: &Commit) -> Answer<Vec<PathChange>> {
        unasked()
    }

    async fn list(&self, _: &View, _: &Commit, _: &str) -> Answer<Vec<Entry>> {
        unasked()
    }

    async fn file(&self, _: &View, _: &Commit, _: &str, _: u64) -> Answer<Option<File>> {
        unasked()
    }

    async fn directories(&self, _: &View, _: &Commit, _: &[String], _: ReadBounds) -> Answer<Vec<Directory>> {
        unasked()
    }

    async fn checkout(&self, _: RepositoryId, _: &Commit, _: &Path) -> Answer<()> {
        unasked()
    }

    async fn snapshot(&self, _: SnapshotSpec<'_>) -> Answer<Snapshot> {
        unasked()
    }

    async fn diff(&self, _: RepositoryId, _: &Commit, _: &Commit, _: usize) -> Answer<Diff> {
        unasked()
    }

    async fn commit(&self, _: CommitSpec<'_>) -> Answer<Commit> {
        unasked()
    }

    async fn move_branch(
        &self,
        _: RepositoryId,
        _: &Branch,
        _: Option<&Commit>,
        _: Option<&Commit>,
    ) -> Answer<Moved> {
        unasked()
    }

    async fn keep(&self, _: RepositoryId, _: &Commit) -> Answer<()> {
        unasked()
    }

    async fn merge(&self, _: MergeSpec<'_>) -> Answer<Merged> {
        unasked()
    }

    async fn merge_base(&self, _: RepositoryId, _: &Commit, _: &Commit) -> Answer<Option<Commit>> {
        unasked()
    }

    async fn fetch(&self, _: RepositoryId, _: &Remote) -> Answer<Fetched> {
        unasked()
    }

    async fn bring(&self, _: RepositoryId, _: &Remote, _: &str) -> Answer<Commit> {
        unasked()
    }
}

//! The way to a GitHub: sees each request, holds it against GitHub's description, and lets answers be lost.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request as HttpRequest, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::name::Commit;
use ports::clock::Clock;
use ports::source::{Moved, PushSpec};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use testkit::FixedClock;
use testkit::hub::{Hub, Request, decoded};
use tokio::net::TcpListener;

use crate::contract::violations;

/// What is behind it.
enum Behind {
    Hub(Box<Mutex<Hub>>),
    /// A program that listens there.
    Far(String),
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is carried out, and the answer is lost.
    LostAnswer,
    /// It does not arrive.
    LostRequest,
    /// GitHub wants to be asked more slowly.
    Limited,
}

#[derive(Debug, Default)]
struct Watch {
    seen: Vec<String>,
    violations: Vec<String>,
    counted: usize,
    trouble: Option<(usize, Trouble)>,
}

/// The way to a GitHub.
pub(crate) struct Gate {
    behind: Behind,
    watch: Mutex<Watch>,
    clock: Arc<FixedClock>,
    http: reqwest::Client,
}

impl std::fmt::Debug for Gate {
    /// Without what is behind it: the forge holds it, and must not show a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}

impl Gate {
    /// Opens it before a hub; says where.
    pub(crate) async fn before_hub(clock: Arc<FixedClock>, hub: Hub) -> (Arc<Self>, String) {
        Self::open(clock, Behind::Hub(Box::new(Mutex::new(hub)))).await
    }

    /// Opens it before a program.
    pub(crate) async fn before(clock: Arc<FixedClock>, address: &str) -> (Arc<Self>, String) {
        Self::open(clock, Behind::Far(address.to_owned())).await
    }

    async fn open(clock: Arc<FixedClock>, behind: Behind) -> (Arc<Self>, String) {
        let http = client();
        let gate = Arc::new(Self { behind, watch: Mutex::default(), clock, http });
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&gate));
        serve(listener, router);
        (gate, url)
    }

    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        match &self.behind {
            Behind::Hub(hub) => hub.lock().unwrap(),
            Behind::Far(_) => panic!("there is no hub here"),
        }
    }

    /// The request of this number, from now on and counted from zero, meets trouble; `None` ends all of it.
    pub(crate) fn trouble(&self, trouble: Option<(usize, Trouble)>) {
        let mut watch = self.watch.lock().unwrap();
        (watch.counted, watch.trouble) = (0, trouble);
    }

    /// Whether the trouble has not come yet.
    pub(crate) fn is_still_to_come(&self) -> bool {
        self.watch.lock().unwrap().trouble.is_some()
    }

    /// The requests since the last look, as `POST /repos/acme/app/issues`.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.watch.lock().unwrap().seen)
    }

    /// What GitHub would not have taken.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.watch.lock().unwrap().violations.clone()
    }

    /// What git does with a push.
    pub(crate) fn push(&self, push: &PushSpec<'_>) -> Result<Moved, String> {
        let PushSpec { remote, branch, from, to, .. } = push;
        let (url, token) = (&remote.url, remote.credential.as_ref().map(ExposeSecret::expose_secret));
        self.watch.lock().unwrap().seen.push(format!("PUSH {branch}"));
        let trouble = self.next_trouble();
        if trouble == Some(Trouble::LostRequest) {
            return Err("the remote hung up".to_owned());
        }
        let moved = {
            let mut hub = self.hub();
            assert!(url.ends_with(&format!("/{}.git", hub.path)), "{url}");
            let may = token.is_some_and(|token| {
                token == "ghp_plain"
                    || hub.tokens.get(token).is_some_and(|allowed| allowed["contents"] == "write")
            });
            assert!(may, "the token is not good for pushing");
            let at = hub.branches.get(branch.as_str()).cloned();
            if at.as_deref() == from.map(Commit::as_str) {
                hub.branches.insert(branch.to_string(), to.to_string());
                Moved::Moved
            } else {
                Moved::Stale { actual: at.and_then(|at| Commit::parse(at).ok()) }
            }
        };
        if trouble.is_some() { Err("the remote hung up".to_owned()) } else { Ok(moved) }
    }

    /// Where people find what is behind it; `url` is the gate's own address.
    pub(crate) fn web_url(&self, url: &str) -> String {
        match &self.behind {
            Behind::Hub(_) => url.to_owned(),
            // The emulator calls itself so, whoever asks.
            Behind::Far(address) => address.replace("127.0.0.1", "localhost"),
        }
    }

    fn moved(&self, path: &str) -> Option<String> {
        match &self.behind {
            Behind::Hub(hub) => hub.lock().unwrap().moved(path),
            Behind::Far(_) => None,
        }
    }

    fn next_trouble(&self) -> Option<Trouble> {
        let mut watch = self.watch.lock().unwrap();
        let number = watch.counted;
        watch.counted += 1;
        let (at, trouble) = watch.trouble?;
        if at != number {
            return None;
        }
        watch.trouble = None;
        Some(trouble)
    }

    fn note(&self, request: &Request) {
        let wrong = violations(&request.method, &request.path, &request.query, request.body.as_ref());
        let mut watch = self.watch.lock().unwrap();
        watch.violations.extend(wrong);
        watch.seen.push(format!("{} {}", request.method, request.path));
    }

    async fn carry_out(&self, request: Request, query: &str) -> (u16, Value) {
        match &self.behind {
            Behind::Hub(hub) => {
                let mut hub = hub.lock().unwrap();
                hub.now = self.clock.now();
                hub.answer(&request)
            }
            Behind::Far(address) => {
                let url = format!("{address}{}{query}", request.path);
                let method = request.method.parse().unwrap();
                let mut asked = self.http.request(method, url).bearer_auth(&request.bearer);
                if let Some(body) = &request.body {
                    asked = asked.json(body);
                }
                let answered = asked.send().await.unwrap();
                let status = answered.status().as_u16();
                (status, answered.json().await.unwrap_or(Value::Null))
            }
        }
    }
}

/// A client of the tests' own.
pub(crate) fn client() -> reqwest::Client {
    // Another part of the program may have done so already; one is enough.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
fn serve(listener: TcpListener, router: Router) {
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
}

async fn answer(State(gate): State<Arc<Gate>>, request: HttpRequest<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let uri = parts.uri;
    let query: Vec<(String, String)> = uri.query().unwrap_or_default().split('&').filter_map(pair).collect();
    let request = Request {
        method: parts.method.to_string(),
        path: uri.path().to_owned(),
        query,
        body: serde_json::from_slice(&body).ok(),
        bearer: bearer(&parts.headers),
    };
    assert!(parts.headers["user-agent"].to_str().unwrap().starts_with("spellbook/"));
    assert!(parts.headers.contains_key("x-github-api-version"));
    gate.note(&request);
    let trouble = gate.next_trouble();
    match trouble {
        Some(Trouble::LostRequest) => return StatusCode::BAD_GATEWAY.into_response(),
        Some(Trouble::Limited) => {
            let body = axum::Json(json!({ "message": "You have exceeded a secondary rate limit" }));
            return (StatusCode::FORBIDDEN, [("retry-after", "30")], body).into_response();
        }
        Some(Trouble::LostAnswer) | None => {}
    }
    if let Some(target) = gate.moved(&request.path) {
        let host = parts.headers["host"].to_str().unwrap();
        let location = format!("http://{host}{target}");
        return (StatusCode::MOVED_PERMANENTLY, [("location", location)]).into_response();
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let (status, value) = gate.carry_out(request, &query).await;
    if trouble.is_some() {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let status = StatusCode::from_u16(status).unwrap();
    if value.is_null() { status.into_response() } else { (status, axum::Json(value)).into_response() }
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.to_owned(), decoded(value)))
}

fn bearer(headers: &HeaderMap) -> String {
    let sent = headers.get("authorization").and_then(|sent| sent.to_str().ok()).unwrap_or_default();
    sent.strip_prefix("Bearer ").unwrap_or_default().to_owned()
}

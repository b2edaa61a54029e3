//! GitHub, as the server under test sees it: one address for its API, for git and for what it is told by
//! webhooks. Apps, their installations and tokens, and who may do what, are `emulate`'s; what that lacks, the
//! hub's; repositories are git's own.
//!
//! And the place from which the server is killed: before or after any request, or at some instant behind it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request as HttpRequest, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value as Json;
use testkit::Asked;
use testkit::emulate::{ADAS_TOKEN, Emulator};
use testkit::hub::{BOT, Hub, account};

use super::bare::Bare;
use super::fate::{Deed, Fate, Moment};
use super::hooks::{self, Delivery};
use crate::github::now;
use crate::house::Said;

/// So long whoever asked a server that is dead by now is left waiting.
const UNHEARD: Duration = Duration::from_millis(500);

/// GitHub.
pub(crate) struct Front {
    pub(crate) url: String,
    pub(crate) bare: Bare,
    hub: Mutex<Hub>,
    fate: Mutex<Fate>,
    emulator: Arc<Emulator>,
    pub(super) http: reqwest::Client,
    runtime: tokio::runtime::Handle,
    said: Mutex<Option<Arc<Said>>>,
}

/// Ends it with the test.
pub(crate) struct Open {
    pub(crate) front: Arc<Front>,
    _runtime: tokio::runtime::Runtime,
    _home: tempfile::TempDir,
}

impl Open {
    /// A GitHub with one repository, `acme/<name>`, in which the app is installed.
    pub(crate) fn new(emulator: Arc<Emulator>, name: &str, fate: Fate) -> Self {
        let home = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // The emulator hangs up on connections that nobody used for a while, and perhaps just then.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let name = format!("acme/{name}");
        let described = runtime.block_on(async {
            let asked = http.get(format!("{}/repos/{name}", emulator.address)).bearer_auth(ADAS_TOKEN);
            asked.send().await.unwrap().json::<Json>().await.unwrap()
        });
        let mut hub = Hub::empty(moment());
        hub.number = described["id"].as_u64().unwrap();
        hub.path.clone_from(&name);
        let front = Arc::new(Front {
            url,
            bare: Bare::new(home.path(), &name),
            hub: Mutex::new(hub),
            fate: Mutex::new(fate),
            emulator,
            http,
            runtime: runtime.handle().clone(),
            said: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&front));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { front, _runtime: runtime, _home: home }
    }
}

/// This moment, in whole seconds, as GitHub tells it.
fn moment() -> domain::time::Timestamp {
    domain::time::Timestamp::from_millis(now() * 1_000)
}

impl Front {
    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        let mut hub = self.hub.lock().unwrap();
        hub.now = moment();
        hub
    }

    pub(crate) fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap()
    }

    /// Where it is written down what is asked here, among what the server says.
    pub(crate) fn write_into(&self, said: Arc<Said>) {
        *self.said.lock().unwrap() = Some(said);
    }

    pub(crate) fn note(&self, line: &str) {
        if let Some(said) = &*self.said.lock().unwrap() {
            said.line(&format!("        github: {line}"));
        }
    }

    /// Kills the server, if it is alive.
    pub(super) fn kill(&self, why: &str) {
        if self.fate().kill(why) {
            self.note(&format!("KILLED {why}"));
        }
    }

    /// Kills it some time from now.
    pub(super) fn kill_within(self: &Arc<Self>, span: Duration, why: String) {
        let front = Arc::clone(self);
        self.runtime.spawn(async move {
            let _ = tokio::time::timeout(span, std::future::pending::<()>()).await;
            front.kill(&why);
        });
    }

    /// Somebody pushed: the picture of the repository is brought up to date, and the server is told.
    pub(crate) fn pushed(self: &Arc<Self>, by: &Json) {
        let tips = self.bare.branches();
        let (told, moved) = {
            let mut hub = self.hub();
            let before = std::mem::replace(&mut hub.branches, tips);
            let told = hooks::of_push(&mut hub, &before, by);
            let moved: Vec<(u64, Json)> = hub
                .pulls
                .keys()
                .filter_map(|number| Some((*number, hub.pull(*number)?["head"]["sha"].clone())))
                .collect();
            (told, moved)
        };
        for (number, head) in moved {
            self.bare.point(&format!("refs/pull/{number}/head"), head.as_str().unwrap_or_default());
        }
        self.tell(told);
    }

    /// Sends webhooks, each once.
    pub(crate) fn tell(self: &Arc<Self>, told: Vec<(&'static str, Json)>) {
        for (name, body) in told {
            let delivery = Delivery::new(self, name, &body);
            self.send(delivery);
        }
    }

    fn send(self: &Arc<Self>, delivery: Delivery) {
        let front = Arc::clone(self);
        self.runtime.spawn(async move { hooks::send(front, delivery).await });
    }

    /// Carries a request out.
    async fn carry_out(self: &Arc<Self>, asked: &Asked) -> (u16, Json) {
        if is_emulated(&asked.path) {
            let (status, value) = self.ask_far(asked).await;
            if asked.path.ends_with("/access_tokens") && status == 201 {
                let token = value["token"].as_str().unwrap_or_default().to_owned();
                self.hub().tokens.insert(token, value["permissions"].clone());
            }
            return (status, value);
        }
        let (answer, told, again) = {
            let mut hub = self.hub();
            let answer = hub.answer(asked);
            let again = std::mem::take(&mut hub.again);
            let told = hooks::of_request(&mut hub, asked, &answer);
            (answer, told, again)
        };
        if asked.method == "POST" && asked.path.ends_with("/pulls") && answer.0 == 201 {
            let head = answer.1["head"]["sha"].as_str().unwrap_or_default();
            self.bare.point(&format!("refs/pull/{}/head", answer.1["number"]), head);
        }
        self.tell(told);
        for id in again {
            if let Some(delivery) = Delivery::again(self, id) {
                self.send(delivery);
            }
        }
        answer
    }

    async fn ask_far(&self, asked: &Asked) -> (u16, Json) {
        let url = format!("{}{}", self.emulator.address, asked.path);
        let url = reqwest::Url::parse_with_params(&url, &asked.query).unwrap();
        let mut request = self.http.request(asked.method.parse().unwrap(), url).bearer_auth(asked.bearer());
        if let Some(body) = &asked.body {
            request = request.json(body);
        }
        let answered = request.send().await.unwrap();
        (answered.status().as_u16(), answered.json().await.unwrap_or(Json::Null))
    }
}

/// What the emulator does as GitHub does; see `hub` for the rest.
fn is_emulated(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    matches!(
        parts.as_slice(),
        ["app"]
            | ["app", "installations", ..]
            | ["repos", _, _, "installation"]
            | ["repos", _, _, "collaborators", ..]
    )
}

async fn answer(State(front): State<Arc<Front>>, request: HttpRequest<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let label = format!("{} {}", parts.method, parts.uri);
    let moment = front.fate().meets(deed(&parts));
    if moment == Some(Moment::Before) {
        front.kill(&format!("before {label}"));
        return unheard().await;
    }
    let answer = if parts.uri.path().contains(".git/") {
        git(&front, &parts, body).await
    } else {
        api(&front, &parts, &body).await
    };
    front.note(&format!("{label}: {}", answer.status().as_u16()));
    match moment {
        Some(Moment::After) => {
            front.kill(&format!("after {label}"));
            unheard().await
        }
        Some(Moment::Within(span)) => {
            front.kill_within(span, format!("{span:?} after {label}"));
            answer
        }
        Some(Moment::Before) | None => answer,
    }
}

/// Git asks what it is to push by a GET, and what it is to fetch by a POST; a new token changes nothing.
fn deed(parts: &Parts) -> Deed {
    let path = parts.uri.path();
    let asks = path.ends_with("/git-upload-pack") || path.ends_with("/access_tokens");
    if parts.method == "GET" || asks { Deed::Read } else { Deed::Write }
}

async fn unheard() -> Response {
    let _ = tokio::time::timeout(UNHEARD, std::future::pending::<()>()).await;
    StatusCode::BAD_GATEWAY.into_response()
}

async fn api(front: &Arc<Front>, parts: &Parts, body: &Bytes) -> Response {
    let (status, value) = front.carry_out(&Asked::read(parts, body)).await;
    let status = StatusCode::from_u16(status).unwrap();
    if value.is_null() { status.into_response() } else { (status, axum::Json(value)).into_response() }
}

/// Git over HTTP, for whoever shows a token of the app.
async fn git(front: &Arc<Front>, parts: &Parts, body: Bytes) -> Response {
    use base64::Engine as _;
    let given = said(&parts.headers, "authorization").trim_start_matches("Basic ").to_owned();
    let given = base64::engine::general_purpose::STANDARD.decode(given).unwrap_or_default();
    let given = String::from_utf8_lossy(&given).into_owned();
    let token = given.strip_prefix("x-access-token:").unwrap_or_default();
    let contents = front.hub().tokens.get(token).map(|allowed| allowed["contents"].clone());
    let writes = parts.uri.to_string().contains("git-receive-pack");
    let allowed = match contents.as_ref().and_then(Json::as_str) {
        Some("write") => true,
        Some("read") => !writes,
        _ => false,
    };
    if !allowed {
        return (StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=\"GitHub\"")]).into_response();
    }
    let (bare, head) = (front.bare.clone(), parts.clone());
    let answer = tokio::task::spawn_blocking(move || bare.serve(&head, &body)).await.unwrap();
    if parts.method == "POST" && writes {
        front.pushed(&account(BOT));
    }
    answer
}

pub(super) fn said(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|sent| sent.to_str().ok()).unwrap_or_default().to_owned()
}

/// A file that only the test reads.
pub(crate) fn written(directory: &std::path::Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

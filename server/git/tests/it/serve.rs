//! The smart HTTP backend, with the git that people have on the other end.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use git::http::{Access, Backend, BackendError, CgiRequest};
use git::{HOOK_PROGRAM, HOOK_SOCKET};
use ports::source::Source;
use tokio_util::io::StreamReader;

use crate::fixture::{Fixture, OTHER, REPOSITORY, branch, git_command, noise, text};

/// What the little server around the backend does.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) backend: Backend,
    pub(crate) access: Access,
    pub(crate) hooks: Vec<(String, String)>,
    /// What `Authorization` must be.
    pub(crate) wants: Option<String>,
    /// Where everything else is sent.
    pub(crate) redirect: Option<String>,
}

impl Door {
    pub(crate) fn to(fixture: &Fixture) -> Self {
        let hooks = vec![(HOOK_PROGRAM.to_owned(), hook(fixture, "exit 0"))];
        Self { backend: fixture.git.http(), access: Access::Write, hooks, wants: None, redirect: None }
    }

    /// Opens it on a free port of loopback; it closes with the test.
    pub(crate) async fn open(self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = self.router();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    }

    pub(crate) fn router(self) -> axum::Router {
        axum::Router::new().fallback(answer).with_state(self)
    }
}

/// A program for hooks that runs this script.
pub(crate) fn hook(fixture: &Fixture, script: &str) -> String {
    let path = fixture.path("hook");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

pub(crate) fn address_of(address: SocketAddr) -> String {
    format!("http://{address}/{REPOSITORY}.git")
}

async fn answer(State(door): State<Door>, request: Request) -> Response {
    if let Some(target) = &door.redirect {
        let location = format!("{target}{}", request.uri());
        return (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
    }
    let given = text_of(request.headers(), "authorization");
    if door.wants.is_some() && given != door.wants {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"x\"")]).into_response();
    }
    let Some((repository, service)) = request
        .uri()
        .path()
        .trim_start_matches('/')
        .split_once(".git/")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Ok(repository) = repository.parse() else { return StatusCode::NOT_FOUND.into_response() };
    let (parts, body) = request.into_parts();
    let cgi = CgiRequest {
        repository,
        service,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        method: parts.method.to_string(),
        content_type: text_of(&parts.headers, "content-type"),
        content_encoding: text_of(&parts.headers, "content-encoding"),
        git_protocol: text_of(&parts.headers, "git-protocol"),
        remote_user: Some("ada".into()),
        access: door.access,
        hook_environment: door.hooks.clone(),
        body: Box::pin(StreamReader::new(body.into_data_stream().map_err(std::io::Error::other))),
    };
    match door.backend.serve(cgi).await {
        Ok(answer) => {
            let mut response = Response::builder().status(answer.status);
            for (name, value) in &answer.headers {
                response = response.header(name, value);
            }
            response.body(Body::from_stream(answer.body)).unwrap()
        }
        Err(BackendError::NotFound) => StatusCode::NOT_FOUND.into_response(),
        Err(BackendError::Method) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        Err(BackendError::Forbidden) => StatusCode::FORBIDDEN.into_response(),
        Err(BackendError::Busy) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(BackendError::Broken(_)) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// Runs git beside the server.
pub(crate) async fn git(directory: PathBuf, arguments: &[&str]) -> std::process::Output {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || git_command(&directory).args(arguments).output().unwrap();
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn complaint(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn people_push_and_clone() {
    let fixture = Fixture::new().await;
    let url = address_of(Door::to(&fixture).open().await);
    fixture.write("a", "a");
    // Large enough for a request in chunks, and for a compressed one on the way back.
    fixture.write("large", (0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    let first = fixture.commit("first");
    fixture.run(["tag", "-a", "-m", "m", "v1"]);
    text(&git(fixture.work.clone(), &["push", "--quiet", "--follow-tags", &url, "main"]).await);
    assert_eq!(fixture.git.branches(REPOSITORY).await.unwrap(), [(branch("main"), first.clone())]);
    let clone = fixture.path("clone");
    text(&git(fixture.directory.path().into(), &["clone", "--quiet", &url, "clone"]).await);
    assert_eq!(text(&git(clone.clone(), &["rev-parse", "HEAD", "v1^{}"]).await), format!("{first}\n{first}"));
    // Many haves: git compresses the request.
    for n in 0..50 {
        fixture.commit(&n.to_string());
    }
    text(&git(fixture.work.clone(), &["push", "--quiet", &url, "main"]).await);
    text(&git(clone.clone(), &["pull", "--quiet"]).await);
    assert_eq!(text(&git(clone.clone(), &["rev-parse", "HEAD"]).await), fixture.head().as_str());
    text(&git(clone, &["clone", "--quiet", "--depth=1", "--filter=blob:none", &url, "small"]).await);
}

#[tokio::test]
async fn only_the_smart_protocol_is_served() {
    let fixture = Fixture::new().await;
    fixture.commit("first");
    fixture.fetch().await;
    let address = Door::to(&fixture).open().await;
    let status = async |method: &str, path: &str| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        client.request(method, format!("http://{address}/{path}")).send().await.unwrap().status().as_u16()
    };
    let ours = |rest: &str| format!("{REPOSITORY}.git/{rest}");
    assert_eq!(status("GET", &ours("info/refs?service=git-upload-pack")).await, 200);
    for path in [
        "info/refs",
        "info/refs?service=git-upload-archive",
        "info/refs?service=git-upload-pack&service=git-receive-pack",
        "HEAD",
        "config",
        "objects/info/packs",
        "objects/info/alternates",
        "git-upload-archive",
        "../hooks/pre-receive",
        "%2e%2e/hooks/pre-receive",
        "",
    ] {
        assert_eq!(status("GET", &ours(path)).await, 404, "{path}");
    }
    assert_eq!(status("POST", &ours("info/refs?service=git-upload-pack")).await, 405);
    assert_eq!(status("GET", &ours("git-upload-pack")).await, 405);
    assert_eq!(
        status("POST", &ours("git-upload-pack")).await,
        415,
        "a form of another site is not a request of git"
    );
    assert_eq!(status("GET", &format!("{OTHER}.git/info/refs?service=git-upload-pack")).await, 404);
}

#[tokio::test]
async fn readers_cannot_push() {
    let fixture = Fixture::new().await;
    let door = Door { access: Access::Read, ..Door::to(&fixture) };
    let url = address_of(door.open().await);
    fixture.commit("first");
    let pushed = git(fixture.work.clone(), &["push", "--quiet", &url, "main"]).await;
    assert!(!pushed.status.success());
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
}

#[tokio::test]
async fn hooks_see_the_push_and_people_see_their_words() {
    let fixture = Fixture::new().await;
    let log = fixture.path("log");
    let script = format!(
        "{{ echo \"$@\"; cat; echo \"$GIT_PUSH_OPTION_COUNT $GIT_PUSH_OPTION_0 ${HOOK_SOCKET} ${{HOME-none}}\"; }} \
         >> {}\necho 'review: deployed'\n[ \"$GIT_PUSH_OPTION_0\" != no ]",
        log.display()
    );
    let mut door = Door::to(&fixture);
    door.hooks =
        vec![(HOOK_PROGRAM.into(), hook(&fixture, &script)), (HOOK_SOCKET.into(), "/run/socket".into())];
    let url = address_of(door.open().await);
    let first = fixture.commit("first");
    let zero = "0".repeat(40);
    let pushed = git(fixture.work.clone(), &["push", "-o", "hello", &url, "main"]).await;
    assert!(complaint(&pushed).contains("remote: review: deployed"), "{}", complaint(&pushed));
    let line = format!("{zero} {first} refs/heads/main");
    let expect = format!(
        "git-hook pre-receive\n{line}\n1 hello /run/socket none\ngit-hook post-receive\n{line}\n1 hello /run/socket none\n"
    );
    assert_eq!(std::fs::read_to_string(&log).unwrap(), expect);
    let second = fixture.commit("second");
    let pushed = git(fixture.work.clone(), &["push", "-o", "no", &url, "main"]).await;
    assert!(!pushed.status.success() && complaint(&pushed).contains("pre-receive hook declined"));
    assert_eq!(fixture.git.branches(REPOSITORY).await.unwrap(), [(branch("main"), first)]);
    let gone = fixture.git.list(&fixture.view(), &second, "").await;
    assert!(gone.is_err(), "what was refused is not there");
}

#[tokio::test]
async fn without_a_program_for_hooks_nothing_is_accepted() {
    let fixture = Fixture::new().await;
    let door = Door { hooks: Vec::new(), ..Door::to(&fixture) };
    let url = address_of(door.open().await);
    fixture.commit("first");
    let pushed = git(fixture.work.clone(), &["push", "--quiet", &url, "main"]).await;
    assert!(!pushed.status.success());
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_repositorys_own_hooks_never_run() {
    let fixture = Fixture::new().await;
    let payload = fixture.path("payload-ran");
    for hook in
        ["pre-receive", "update", "post-receive", "post-update", "reference-transaction", "proc-receive"]
    {
        let path = fixture.mirror().join("hooks").join(hook);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\ntouch {}\n", payload.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let url = address_of(Door::to(&fixture).open().await);
    fixture.commit("first");
    text(&git(fixture.work.clone(), &["push", "--quiet", &url, "main"]).await);
    assert!(!payload.exists());
}

#[tokio::test]
async fn hidden_refs_are_hidden() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    fixture.git.keep(REPOSITORY, &first).await.unwrap();
    fixture.in_mirror(["update-ref", "refs/spellbook/runs/run_1", first.as_str()]);
    let url = address_of(Door::to(&fixture).open().await);
    let listed = text(&git(fixture.work.clone(), &["ls-remote", &url]).await);
    let names: Vec<&str> = listed.lines().map(|line| line.split_once('\t').unwrap().1).collect();
    assert_eq!(names, ["HEAD", "refs/heads/main", "refs/spellbook/runs/run_1"]);
    for name in ["refs/spellbook/kept/x", "refs/spellbook/runs/run_1"] {
        let pushed =
            git(fixture.work.clone(), &["push", "--quiet", "--force", &url, &format!("main:{name}x")]).await;
        assert!(!pushed.status.success(), "{name}");
    }
    let removed = git(fixture.work.clone(), &["push", "--quiet", &url, ":refs/spellbook/runs/run_1"]).await;
    assert!(!removed.status.success());
    // Any stage can be checked out.
    text(&git(fixture.work.clone(), &["fetch", "--quiet", &url, "refs/spellbook/runs/run_1"]).await);
}

#[tokio::test]
async fn unsafe_trees_are_not_pushed() {
    let fixture = Fixture::new().await;
    let url = address_of(Door::to(&fixture).open().await);
    let blob = fixture.object("blob", b"x");
    for (n, name) in ["..", ".git", ".GIT", "a/b", "git~1"].iter().enumerate() {
        let tree = fixture.tree(&[(&format!("100644 {name}"), &blob)]);
        let branch = format!("bad{n}");
        fixture.commit_tree(&branch, &tree);
        let pushed = git(fixture.work.clone(), &["push", "--quiet", &url, &branch]).await;
        assert!(!pushed.status.success(), "{name} was accepted");
    }
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_push_that_is_too_large_leaves_nothing() {
    let fixture = Fixture::with(|config| config.bounds.push_bytes = 100_000).await;
    let url = address_of(Door::to(&fixture).open().await);
    fixture.write("noise", noise(300_000));
    fixture.commit("first");
    let pushed = git(fixture.work.clone(), &["push", "--quiet", &url, "main"]).await;
    assert!(!pushed.status.success());
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
    let left: u64 = walk(&fixture.mirror().join("objects"));
    assert!(left < 10_000, "{left} bytes were left behind");
}

fn walk(path: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(
            |entry| if entry.path().is_dir() { walk(&entry.path()) } else { entry.metadata().unwrap().len() },
        )
        .sum()
}

fn receive(fixture: &Fixture, body: Pin<Box<dyn tokio::io::AsyncRead + Send>>) -> CgiRequest {
    CgiRequest {
        repository: REPOSITORY,
        service: "git-receive-pack".into(),
        query: String::new(),
        method: "POST".into(),
        content_type: Some("application/x-git-receive-pack-request".into()),
        content_encoding: None,
        git_protocol: None,
        remote_user: None,
        access: Access::Write,
        hook_environment: Door::to(fixture).hooks,
        body,
    }
}

/// Waits for what other processes do; they tell nobody when they begin and end.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), wait).await.expect("it never came to that");
}

/// The processes that serve this fixture's repositories.
fn processes(fixture: &Fixture) -> usize {
    let root = format!("GIT_PROJECT_ROOT={}", fixture.path("repositories").display());
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == root.as_bytes())
        })
        .count()
}

#[tokio::test]
async fn a_request_that_is_dropped_leaves_no_process() {
    let fixture = Fixture::new().await;
    // Hangs in the hook, so that all of git's processes are there.
    let fifo = fixture.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut door = Door::to(&fixture);
    let ready = fixture.path("ready");
    assert!(std::process::Command::new("mkfifo").arg(&ready).status().unwrap().success());
    let script = format!("echo x > {}; cat {}", ready.display(), fifo.display());
    door.hooks = vec![(HOOK_PROGRAM.into(), hook(&fixture, &script))];
    let url = address_of(door.open().await);
    fixture.commit("first");
    let mut push = git_command(&fixture.work);
    let mut push = push.args(["push", "--quiet", &url, "main"]).process_group(0).spawn().unwrap();
    tokio::task::spawn_blocking(move || std::fs::read(ready).unwrap()).await.unwrap();
    assert!(processes(&fixture) >= 2);
    let everything = format!("kill -9 -{}", push.id());
    assert!(std::process::Command::new("sh").args(["-c", &everything]).status().unwrap().success());
    push.wait().unwrap();
    until(|| processes(&fixture) == 0).await;
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_slow_request_ends_in_time() {
    let fixture = Fixture::with(|config| config.bounds.request_time = Duration::from_millis(300)).await;
    let (_writer, reader) = tokio::io::duplex(16);
    let served = fixture.git.http().serve(receive(&fixture, Box::pin(reader))).await;
    // git may have written its head before it waits for the body; then the body fails.
    match served {
        Err(error) => assert!(matches!(error, BackendError::Broken(_)), "{error:?}"),
        Ok(answer) => assert!(answer.body.try_collect::<Vec<_>>().await.is_err()),
    }
    until(|| processes(&fixture) == 0).await;
}

#[tokio::test]
async fn pushes_to_one_repository_take_turns() {
    let fixture = Fixture::with(|config| config.bounds.requests = 2).await;
    let (writer, reader) = tokio::io::duplex(16);
    let backend = fixture.git.http();
    let first = tokio::spawn({
        let (backend, request) = (backend.clone(), receive(&fixture, Box::pin(reader)));
        async move {
            let answer = backend.serve(request).await?;
            answer.body.try_collect::<Vec<_>>().await.map_err(|error| BackendError::Broken(error.to_string()))
        }
    });
    until(|| processes(&fixture) > 0).await;
    let second = backend.serve(receive(&fixture, Box::pin(tokio::io::empty())));
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(early.is_err(), "the second push did not wait for the first");
    drop(writer);
    first.await.unwrap().ok();
    tokio::time::timeout(Duration::from_secs(30), second).await.unwrap().ok();
}

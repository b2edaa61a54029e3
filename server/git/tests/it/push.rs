//! Pushing one branch to a directory, over http, and through a stand-in for ssh; and to remotes that
//! refuse, lie, hang or mean harm.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use domain::name::Commit;
use git::{Config, Git, Ssh};
use ports::source::{Moved, PushSpec, Remote, RemotePolicy, Source, SourceError};
use secrecy::SecretString;

use crate::fixture::{Fixture, REPOSITORY, branch, commit, noise, remote, run_git, text};
use crate::serve::{Door, address_of, hook, until};

const BRANCH: &str = "spellbook/review/12";
const TOKEN: &str = "a-very-secret-token";

/// Somebody else's server with an empty repository.
struct Theirs {
    git: Git,
}

impl Theirs {
    async fn new(fixture: &Fixture) -> Self {
        let git = Git::open(Config::new(fixture.path("theirs"))).unwrap();
        git.create(REPOSITORY, &branch("main")).await.unwrap();
        Self { git }
    }

    fn door(&self, fixture: &Fixture) -> Door {
        Door { backend: self.git.http(), ..Door::to(fixture) }
    }

    fn path(&self) -> PathBuf {
        self.git.path(REPOSITORY)
    }

    /// Where the branch is.
    async fn at(&self) -> Option<Commit> {
        let branches = self.git.branches(REPOSITORY).await.unwrap();
        branches.into_iter().find(|(name, _)| name.as_str() == BRANCH).map(|(_, at)| at)
    }
}

/// A mirror with one commit, and a server whose door is open.
async fn opened(change: impl FnOnce(&mut Door)) -> (Fixture, Theirs, Remote, Commit) {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    let theirs = Theirs::new(&fixture).await;
    let mut door = theirs.door(&fixture);
    change(&mut door);
    let remote = remote(&address_of(door.open().await));
    (fixture, theirs, remote, first)
}

async fn push(
    fixture: &Fixture,
    remote: &Remote,
    from: Option<&Commit>,
    to: &Commit,
) -> Result<Moved, SourceError> {
    let branch = branch(BRANCH);
    fixture.git.push(PushSpec { repository: REPOSITORY, remote, branch: &branch, from, to }).await
}

async fn serve(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// Everything that a branch goes through.
async fn lead(fixture: &Fixture, theirs: &Theirs, remote: &Remote) {
    let push = async |from: Option<&Commit>, to: &Commit| push(fixture, remote, from, to).await.unwrap();
    fixture.write("a", noise(100_000));
    let first = fixture.commit("first");
    fixture.run(["tag", "v1"]);
    fixture.write("b", "b");
    let second = fixture.commit("second");
    fixture.run(["checkout", "--quiet", "--orphan", "other"]);
    let rewritten = fixture.commit("rewritten");
    fixture.fetch().await;
    assert_eq!(push(None, &first).await, Moved::Moved);
    assert_eq!(theirs.at().await.as_ref(), Some(&first));
    assert_eq!(push(None, &first).await, Moved::Moved, "doing it again finds it done");
    assert_eq!(push(Some(&first), &second).await, Moved::Moved);
    assert_eq!(push(Some(&first), &second).await, Moved::Moved);
    let stale = Moved::Stale { actual: Some(second.clone()) };
    assert_eq!(push(Some(&first), &rewritten).await, stale);
    assert_eq!(push(None, &first).await, stale);
    assert_eq!(theirs.at().await.as_ref(), Some(&second));
    assert_eq!(push(Some(&second), &rewritten).await, Moved::Moved, "what is elsewhere is where it may go");
    assert_eq!(theirs.at().await.as_ref(), Some(&rewritten));
    let refs = text(&run_git(&theirs.path(), ["for-each-ref", "--format=%(refname)"]));
    let refs: Vec<_> = refs.lines().filter(|name| !name.starts_with("refs/spellbook/")).collect();
    assert_eq!(refs, [format!("refs/heads/{BRANCH}")], "nothing else was pushed");
    text(&run_git(&theirs.path(), ["update-ref", "-d", &format!("refs/heads/{BRANCH}")]));
    assert_eq!(push(Some(&rewritten), &second).await, Moved::Stale { actual: None });
    assert_eq!(push(None, &second).await, Moved::Moved, "all that it needs is there already");
    text(&run_git(&theirs.path(), ["fsck", "--strict"]));
    let left = std::fs::read_dir(fixture.mirror().join("objects")).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".tmp")));
}

#[tokio::test]
async fn a_branch_is_led_over_http() {
    let fixture = Fixture::new().await;
    let theirs = Theirs::new(&fixture).await;
    let remote = remote(&address_of(theirs.door(&fixture).open().await));
    lead(&fixture, &theirs, &remote).await;
}

#[tokio::test]
async fn a_branch_is_led_in_a_directory() {
    let fixture = Fixture::new().await;
    let theirs = Theirs::new(&fixture).await;
    let remote = remote(&theirs.path().display().to_string());
    lead(&fixture, &theirs, &remote).await;
}

/// A fixture whose `ssh` is this script.
async fn with_ssh(script: impl Fn(&std::path::Path) -> String) -> Fixture {
    let fixture = Fixture::with(|config| {
        let root = config.root.parent().unwrap().to_owned();
        config.ssh =
            Some(Ssh { program: root.join("ssh"), key: root.join("key"), known_hosts: root.join("hosts") });
    })
    .await;
    let script = format!("#!/bin/sh\n{}\n", script(fixture.directory.path()));
    std::fs::write(fixture.path("ssh"), script).unwrap();
    std::fs::set_permissions(fixture.path("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    fixture
}

#[tokio::test]
async fn a_branch_is_led_over_ssh() {
    // Does what sshd does: gives the last argument to a shell.
    let fixture = with_ssh(|_| "for last; do :; done\nexec sh -c \"$last\"".into()).await;
    let theirs = Theirs::new(&fixture).await;
    let remote = remote(&format!("ssh://git@localhost:2222{}", theirs.path().display()));
    lead(&fixture, &theirs, &remote).await;
}

#[tokio::test]
async fn a_key_that_is_refused_says_so() {
    let fixture =
        with_ssh(|_| "echo 'git@localhost: Permission denied (publickey).' >&2; exit 255".into()).await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    let pushed = push(&fixture, &remote("git@localhost:a/b.git"), None, &first).await;
    assert!(matches!(pushed, Err(SourceError::Unauthorized(_))), "{pushed:?}");
}

#[tokio::test]
async fn a_refusal_has_the_words_of_the_remote() {
    let (fixture, theirs, remote, first) = opened(|_| {}).await;
    hook(&fixture, "printf 'GH006: \\033[31mprotected\\007 branch\\nask ada\\n' >&2; exit 1");
    let pushed = push(&fixture, &remote, None, &first).await;
    let Err(SourceError::Refused(why)) = pushed else { panic!("{pushed:?}") };
    assert_eq!(why, "the remote refuses: pre-receive hook declined: GH006: [31mprotected branch; ask ada");
    assert_eq!(theirs.at().await, None);
    hook(&fixture, "exit 0");
    assert_eq!(push(&fixture, &remote, None, &first).await.unwrap(), Moved::Moved);
}

#[tokio::test]
async fn a_branch_that_moves_meanwhile_is_stale() {
    let (fixture, theirs, remote, first) = opened(|_| {}).await;
    let second = fixture.commit("second");
    fixture.fetch().await;
    assert_eq!(push(&fixture, &remote, None, &first).await.unwrap(), Moved::Moved);
    // While the push is looked at, someone else is faster.
    let faster = theirs.path().join("refs/heads").join(BRANCH);
    let other = "1".repeat(40);
    hook(&fixture, &format!("echo {other} > {}", faster.display()));
    let pushed = push(&fixture, &remote, Some(&first), &second).await.unwrap();
    assert_eq!(pushed, Moved::Stale { actual: Some(commit(&other)) });
}

/// How many processes hold this in their arguments or environment.
fn processes_with(secret: &str) -> usize {
    let holds = |path: PathBuf| {
        let content = std::fs::read(path).unwrap_or_default();
        content.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| ["cmdline", "environ"].iter().any(|file| holds(entry.path().join(file)))).count()
}

#[tokio::test]
async fn a_credential_is_in_no_other_process_and_on_no_disk() {
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
    let (fixture, theirs, mut remote, first) =
        opened(|door| door.wants = Some(format!("Basic {basic}"))).await;
    for wrong in [None, Some(SecretString::from("another-secret"))] {
        remote.credential = wrong;
        let pushed = push(&fixture, &remote, None, &first).await;
        assert!(
            matches!(&pushed, Err(SourceError::Unauthorized(why)) if !why.contains("secret")),
            "{pushed:?}"
        );
    }
    remote.credential = Some(SecretString::from(TOKEN));
    let (ready, done) = (fixture.path("ready"), fixture.path("done"));
    for fifo in [&ready, &done] {
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    }
    hook(
        &fixture,
        &format!("[ $2 = post-receive ] || {{ echo > {}; cat {}; }}", ready.display(), done.display()),
    );
    let place = fixture.path("theirs").display().to_string();
    let look = tokio::task::spawn_blocking(move || {
        std::fs::read(ready).unwrap();
        let found = (processes_with(&place), processes_with(TOKEN), processes_with(&basic));
        std::fs::write(done, "").unwrap();
        (found, basic)
    });
    assert_eq!(push(&fixture, &remote, None, &first).await.unwrap(), Moved::Moved);
    assert_eq!(theirs.at().await, Some(first));
    let ((seen, with_token, with_header), basic) = look.await.unwrap();
    assert!(seen > 0, "the processes of the push were not seen");
    assert_eq!((with_token, with_header), (0, 0));
    for secret in [TOKEN, &basic] {
        let found = std::process::Command::new("grep")
            .args(["-r", "-l", secret])
            .arg(fixture.directory.path())
            .output();
        assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "", "the token is on the disk");
    }
}

#[tokio::test]
async fn redirects_to_another_host_get_neither_commit_nor_credential() {
    let heard = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = heard.local_addr().unwrap();
    for target in
        [format!("http://{elsewhere}"), format!("http://localhost:{}", elsewhere.port()), "file://".into()]
    {
        let (fixture, _, mut remote, first) = opened(|door| door.redirect = Some(target)).await;
        remote.credential = Some(SecretString::from(TOKEN));
        let pushed = push(&fixture, &remote, None, &first).await;
        assert!(matches!(&pushed, Err(SourceError::Refused(why)) if !why.contains(TOKEN)), "{pushed:?}");
    }
    let knocked = tokio::time::timeout(Duration::from_millis(50), heard.accept()).await;
    assert!(knocked.is_err(), "the redirect was followed");
}

#[tokio::test]
async fn a_repository_that_was_renamed_is_found_on_the_same_host() {
    let (fixture, theirs, _, first) = opened(|_| {}).await;
    let moved = |request: Request| async move {
        let question = request.uri().query().unwrap_or_default().to_owned();
        let target = format!("/{REPOSITORY}.git/info/refs?{question}");
        (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, target)])
    };
    let app = Router::new()
        .route("/old.git/info/refs", get(moved))
        .fallback_service(theirs.door(&fixture).router());
    let old = remote(&format!("http://{}/old.git/", serve(app).await));
    assert_eq!(push(&fixture, &old, None, &first).await.unwrap(), Moved::Moved);
    assert_eq!(theirs.at().await, Some(first));
}

#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for() {
    let (fixture, theirs, _, first) = opened(|_| {}).await;
    let lose = |request: Request, next: axum::middleware::Next| async move {
        let is_post = request.method() == Method::POST;
        let answer = next.run(request).await;
        if !is_post {
            return answer;
        }
        axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        StatusCode::BAD_GATEWAY.into_response()
    };
    let app = theirs.door(&fixture).router().layer(axum::middleware::from_fn(lose));
    let remote = remote(&address_of(serve(app).await));
    assert_eq!(push(&fixture, &remote, None, &first).await.unwrap(), Moved::Moved);
    assert_eq!(theirs.at().await, Some(first));
}

#[tokio::test]
async fn who_is_told_to_wait_has_no_wrong_credential() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    for (header, value, waits) in [
        ("retry-after", "60", true),
        ("x-ratelimit-remaining", "0", true),
        ("x-ratelimit-remaining", "4999", false),
    ] {
        let forbids = move || async move { (StatusCode::FORBIDDEN, [(header, value)]) };
        let remote = remote(&format!("http://{}/a.git", serve(Router::new().fallback(forbids)).await));
        let pushed = push(&fixture, &remote, None, &first).await.unwrap_err();
        let fetched = fixture.git.fetch(REPOSITORY, &remote).await.unwrap_err();
        for error in [pushed, fetched] {
            assert_eq!(matches!(error, SourceError::Unreachable(_)), waits, "{header}: {value}: {error:?}");
            assert_eq!(matches!(error, SourceError::Unauthorized(_)), !waits, "{header}: {value}: {error:?}");
        }
    }
}

/// A server that answers with these bytes, whatever is pushed.
async fn liar(refs: Vec<u8>, report: Vec<u8>) -> Remote {
    fn answer(kind: &str, body: Vec<u8>) -> Response {
        let kind = format!("application/x-git-receive-pack-{kind}");
        let headers: [(HeaderName, String); 1] = [(header::CONTENT_TYPE, kind)];
        (headers, body).into_response()
    }
    let app = Router::new()
        .route("/a.git/info/refs", get(move || async move { answer("advertisement", refs) }))
        .route("/a.git/git-receive-pack", post(move |_: Bytes| async move { answer("result", report) }));
    let mut remote = remote(&format!("http://{}/a.git", serve(app).await));
    remote.credential = Some(SecretString::from(TOKEN));
    remote
}

fn lines(lines: &[&str]) -> Vec<u8> {
    let line = |line: &&str| match *line {
        "" => "0000".to_owned(),
        line => format!("{:04x}{line}", line.len() + 4),
    };
    lines.iter().map(line).collect::<String>().into_bytes()
}

#[tokio::test]
async fn a_remote_that_lies_is_not_believed() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    let said = async |refs: Vec<u8>, report: Vec<u8>| {
        let pushed = push(&fixture, &liar(refs, report).await, None, &first).await;
        let error = pushed.expect_err("it was believed");
        assert!(!error.to_string().contains(TOKEN), "{error}");
        error
    };
    let head = "# service=git-receive-pack\n";
    let zero = "0".repeat(40);
    let empty =
        |capabilities: &str| lines(&[head, "", &format!("{zero} capabilities^{{}}\0{capabilities}"), ""]);
    let able = || empty("report-status delete-refs ofs-delta");
    // Not a word of git.
    for refs in [b"<html>".to_vec(), lines(&["hello", ""]), lines(&[head, "", &zero]), Vec::new()] {
        said(refs, Vec::new()).await;
    }
    let words = format!("ERR go \u{1b}[31maway, {TOKEN}");
    let error = said(lines(&[head, "", &words]), Vec::new()).await;
    assert!(matches!(&error, SourceError::Refused(why) if why.ends_with("go [31maway, ***")), "{error}");
    // Too old, or of another kind.
    for capabilities in ["", "report-status object-format=sha256"] {
        let error = said(empty(capabilities), Vec::new()).await;
        assert!(matches!(error, SourceError::Refused(_)), "{error}");
    }
    // Reports about something else, or none.
    for report in [
        Vec::new(),
        b"ok".to_vec(),
        lines(&["unpack ok\n", ""]),
        lines(&["unpack ok\n", "ok refs/heads/main\n", ""]),
    ] {
        let error = said(able(), report).await;
        assert!(matches!(error, SourceError::Unreachable(_)), "{error}");
    }
    let report = lines(&["unpack ok\n", &format!("ng refs/heads/{BRANCH} {TOKEN}\n"), ""]);
    let error = said(able(), report).await;
    assert!(matches!(&error, SourceError::Refused(why) if why.ends_with("***")), "{error}");
    // More than anyone has to say.
    let endless = lines(&["x".repeat(60_000).as_str()]).repeat(400);
    said(able(), endless).await;
}

#[tokio::test]
async fn too_many_refs_and_too_large_packs_are_refused() {
    let fixture = Fixture::with(|config| {
        config.bounds.refs = 10;
        config.bounds.push_bytes = 100_000;
    })
    .await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    let theirs = Theirs::new(&fixture).await;
    let remote = remote(&address_of(theirs.door(&fixture).open().await));
    assert_eq!(push(&fixture, &remote, None, &first).await.unwrap(), Moved::Moved);
    fixture.write("noise", noise(300_000));
    let large = fixture.commit("large");
    fixture.fetch().await;
    let pushed = push(&fixture, &remote, Some(&first), &large).await;
    assert!(matches!(&pushed, Err(SourceError::Refused(why)) if why.contains("larger")), "{pushed:?}");
    assert_eq!(theirs.at().await.as_ref(), Some(&first));
    for n in 0..20 {
        text(&run_git(&theirs.path(), ["branch", &n.to_string(), first.as_str()]));
    }
    let pushed = push(&fixture, &remote, Some(&first), &large).await;
    assert!(matches!(&pushed, Err(SourceError::Refused(why)) if why.contains("refs")), "{pushed:?}");
}

#[tokio::test]
async fn what_is_not_here_is_not_pushed() {
    let (fixture, theirs, remote, _) = opened(|_| {}).await;
    let pushed = push(&fixture, &remote, None, &commit(&"1".repeat(40))).await;
    assert!(matches!(pushed, Err(SourceError::NotFound(_))), "{pushed:?}");
    assert_eq!(theirs.at().await, None);
}

#[tokio::test]
async fn what_does_not_answer_is_unreachable_and_what_is_not_there_not_found() {
    let (fixture, _, there, first) = opened(|_| {}).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hanging = remote(&format!("http://{}/a", silent.local_addr().unwrap()));
    hanging.timeout = Duration::from_millis(300);
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for away in [hanging, remote(&format!("http://{closed}/a"))] {
        let pushed = push(&fixture, &away, None, &first).await;
        assert!(matches!(pushed, Err(SourceError::Unreachable(_))), "{pushed:?}");
    }
    let nowhere = fixture.path("nowhere").display().to_string();
    for missing in [remote(&there.url.replace(".git", "x.git")), remote(&nowhere)] {
        let pushed = push(&fixture, &missing, None, &first).await;
        assert!(matches!(pushed, Err(SourceError::NotFound(_))), "{pushed:?}");
    }
}

#[tokio::test]
async fn a_push_that_nobody_waits_for_leaves_no_process() {
    let fixture = with_ssh(|root| {
        let (ready, pid) = (root.join("ready"), root.join("pid"));
        format!("sleep 1000 & echo $! > {}; echo > {}; wait", pid.display(), ready.display())
    })
    .await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    let ready = fixture.path("ready");
    assert!(std::process::Command::new("mkfifo").arg(&ready).status().unwrap().success());
    let started = tokio::task::spawn_blocking(move || std::fs::read(ready).unwrap());
    let remote = remote("git@localhost:a/b.git");
    tokio::select! {
        pushed = push(&fixture, &remote, None, &first) => panic!("{pushed:?}"),
        started = started => { started.unwrap(); }
    }
    let pid = std::fs::read_to_string(fixture.path("pid")).unwrap();
    // One that is dead and not yet waited for has no arguments.
    let arguments = PathBuf::from(format!("/proc/{}/cmdline", pid.trim()));
    until(|| std::fs::read(&arguments).unwrap_or_default().is_empty()).await;
}

#[tokio::test]
async fn addresses_of_this_machine_are_refused_where_they_are_not_allowed() {
    let (fixture, theirs, there, first) = opened(|_| {}).await;
    let port = reqwest::Url::parse(&there.url).unwrap().port().unwrap();
    let policy = RemotePolicy { plain_http: true, file: false, private_addresses: false };
    let hosts = ["localhost", "127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "[::1]"];
    let urls = hosts.map(|host| format!("http://{host}:{port}/{REPOSITORY}.git"));
    let others = ["--exec=touch", "ext::sh", "git://127.0.0.1/a", "https://u:p@example.org/a", "/etc"];
    for url in urls.into_iter().chain(others.map(str::to_owned)) {
        let pushed = push(&fixture, &Remote { policy, ..remote(&url) }, None, &first).await;
        assert!(matches!(pushed, Err(SourceError::Refused(_))), "{url}: {pushed:?}");
    }
    let strict = Remote { policy: RemotePolicy::default(), ..there };
    let pushed = push(&fixture, &strict, None, &first).await;
    assert!(matches!(pushed, Err(SourceError::Refused(_))), "{pushed:?}");
    assert_eq!(theirs.at().await, None);
}

#[tokio::test]
async fn odd_names_are_names() {
    let (fixture, theirs, remote, first) = opened(|_| {}).await;
    let odd =
        ["$(touch X)".replace(' ', ""), "a;b".into(), "x'y\"z".into(), "+main".into(), "refs/heads/a".into()];
    for name in &odd {
        let branch = branch(name);
        let spec =
            PushSpec { repository: REPOSITORY, remote: &remote, branch: &branch, from: None, to: &first };
        assert_eq!(fixture.git.push(spec).await.unwrap(), Moved::Moved, "{name}");
    }
    let mut odd = odd.map(|name| branch(&name));
    odd.sort();
    let there = theirs.git.branches(REPOSITORY).await.unwrap();
    assert_eq!(there.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), odd);
}

#[tokio::test]
async fn hooks_of_a_directory_never_run() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    let theirs = Theirs::new(&fixture).await;
    let payload = fixture.path("payload-ran");
    for name in ["pre-receive", "update", "post-receive", "reference-transaction"] {
        let path = theirs.path().join("hooks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\ntouch {}\n", payload.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let remote = remote(&theirs.path().display().to_string());
    assert_eq!(push(&fixture, &remote, None, &first).await.unwrap(), Moved::Moved);
    assert!(!payload.exists());
}

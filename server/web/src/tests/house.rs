//! A server for a test: everything in memory, the clock held still.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use domain::access::{Account, Role, Token};
use domain::files::{File, Files};
use domain::id::{AccountId, RepositoryId, TokenId};
use domain::name::{Branch, Commit, Digest, SecretName, Tag};
use domain::repository::{BranchRole, Repository};
use engine::World;
use engine::world::Manifests;
use futures::StreamExt;
use ports::clock::Clock;
use ports::forge::Host;
use ports::secrets::{Secrets, SecretsError};
use ports::smart_http::{GitRequest, GitResponse, MayPush, SmartHttp};
use ports::source::{
    CommitSpec, Diff, Directory, Entry, Fetched, MergeSpec, Merged, Moved, PathChange, PushSpec, ReadBounds,
    Remote, Snapshot, SnapshotSpec, Source, SourceError, View,
};
use ports::store::Accounts;
use ports::store::repositories::{BranchAdvance, Repositories};
use ports::vault::Vault;
use ports::web::{WebError, WebRequest, WebResponse};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value as Json;
use testkit::{
    FixedClock, Issuer, MemoryForge, MemoryHost, MemoryObjects, MemoryStore, MemoryVault, ScriptedModels,
    ScriptedSandbox, ScriptedWeb, build,
};
use tower::ServiceExt;

use crate::doors::{Doors, Server, Settings};

/// A server, and what it stands on.
pub(super) struct House {
    pub(super) clock: Arc<FixedClock>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) source: Arc<Books>,
    pub(super) git: Arc<Echo>,
    pub(super) secrets: Arc<Safe>,
    pub(super) vault: Arc<dyn Vault>,
    pub(super) web: Arc<ScriptedWeb>,
    pub(super) issuer: Arc<Mutex<Option<Issuer>>>,
    pub(super) forge: Arc<MemoryForge>,
    pub(super) objects: Arc<MemoryObjects>,
    pub(super) closing: tokio_util::sync::CancellationToken,
    router: Router,
}

impl House {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A server whose operator decided otherwise.
    pub(super) fn with(edit: impl FnOnce(&mut Settings)) -> Self {
        Self::telling(edit, || "spellbook_up 1\n".to_owned())
    }

    /// A server whose figures are made otherwise.
    pub(super) fn telling(edit: impl FnOnce(&mut Settings), metrics: fn() -> String) -> Self {
        let clock = Arc::new(FixedClock::new());
        let vault: Arc<dyn Vault> = Arc::new(MemoryVault::new());
        let store = Arc::new(MemoryStore::new());
        let source = Arc::new(Books::default());
        let issuer = Arc::new(Mutex::new(None));
        let web = Arc::new(ScriptedWeb::new(internet(Arc::clone(&issuer))));
        let forge = Arc::new(MemoryForge::default());
        let objects = Arc::new(MemoryObjects::new());
        let (git, secrets) = (Arc::new(Echo::default()), Arc::new(Safe::default()));
        let hosts = [("github", MemoryHost::new("s3cret")), ("bare", MemoryHost::new(""))];
        let hosts = hosts.map(|(name, host)| (name, Arc::new(host)));
        let world = World {
            store: store.clone(),
            source: source.clone(),
            sandbox: Arc::new(ScriptedSandbox::writing("")),
            models: Arc::new(ScriptedModels::saying("ok").with_names(&["small"])),
            agents: Arc::new(testkit::ScriptedAgents::named(&["codex"])),
            proxy: Arc::new(testkit::ScriptedProxy::silent()),
            mcp: Arc::new(testkit::ScriptedMcp::failing("mcp_gone", "nobody is there")),
            web: web.clone(),
            secrets: secrets.clone(),
            vault: vault.clone(),
            objects: objects.clone(),
            forge: forge.clone(),
            hosts: hosts
                .iter()
                .map(|(name, host)| (build::name(name), host.clone() as Arc<dyn Host>))
                .collect(),
            clock: clock.clone(),
            settings: engine::world::Settings::new(PathBuf::from("/nonexistent")),
            manifests: Manifests::default(),
            desks: engine::world::Desks::default(),
            sessions: engine::world::Sessions::default(),
        };
        let mut settings = Settings::new("http://spellbook.test", "0.0.0-test");
        edit(&mut settings);
        let closing = tokio_util::sync::CancellationToken::new();
        let doors = Doors {
            world: Arc::new(world),
            git: git.clone(),
            settings,
            metrics: Arc::new(metrics),
            closing: closing.clone(),
        };
        let router = crate::router::assemble(Server::new(doors));
        Self { clock, store, source, git, secrets, vault, web, issuer, forge, objects, closing, router }
    }

    /// A token of a new account.
    pub(super) async fn token(&self, name: &str, role: Role) -> String {
        let account = Account {
            id: AccountId::new(self.clock.unique()),
            name: name.to_owned(),
            role,
            created_at: self.clock.now(),
        };
        let _ = self.store.account_create(&account).await.unwrap();
        self.token_of(&account, |_| {}).await
    }

    pub(super) async fn token_of(&self, account: &Account, edit: impl FnOnce(&mut Token)) -> String {
        let (secret, hash) = crate::token::mint();
        let mut token = Token {
            id: TokenId::new(self.clock.unique()),
            account: account.id,
            label: "test".to_owned(),
            hash,
            role: account.role,
            once: false,
            reach: None,
            created_at: self.clock.now(),
            expires_at: None,
        };
        edit(&mut token);
        self.store.token_create(&token).await.unwrap();
        secret.expose_secret().to_owned()
    }

    /// A repository whose deploy branch holds one commit with these files.
    pub(super) async fn repository(&self, path: &str, files: &[(&str, &str)]) -> Repository {
        let repository = build::repository(&*self.clock, path);
        let _ = self.store.repository_create(&repository).await.unwrap();
        let moved = Move { branch: "main", role: BranchRole::Deploy, at: 1, files, revisions: Vec::new() };
        self.advance(&repository, moved).await;
        repository
    }

    pub(super) async fn advance(&self, repository: &Repository, moved: Move<'_>) {
        let Move { branch, role, at, files, revisions } = moved;
        self.source.put(repository.id, &build::commit(at), files);
        let advance = BranchAdvance {
            repository: repository.id,
            branch: build::name(branch),
            role,
            from: None,
            to: Some(build::commit(at)),
            revisions,
            event: None,
            at: self.clock.now(),
        };
        self.store.branch_advance(&advance).await.unwrap();
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A response whose body is still to be read.
    pub(super) async fn open(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(request(Method::GET, path, token).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn post(&self, path: &str, token: &str, body: &Json) -> Answer {
        let request = request(Method::POST, path, token).header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }
}

/// Where the issuer of the tests is.
pub(super) const ISSUER: &str = "https://issuer.test";

/// Everybody else: nobody but the issuer, when there is one.
fn internet(
    issuer: Arc<Mutex<Option<Issuer>>>,
) -> impl Fn(&WebRequest) -> Result<WebResponse, WebError> + Send + Sync + 'static {
    move |request| {
        let issuer = issuer.lock().unwrap();
        let document = request.url.strip_prefix(ISSUER).zip(issuer.as_ref());
        match document.map(|(path, issuer)| issuer.document(path)) {
            Some(Some(json)) => Ok(ScriptedWeb::answer(200, &json.to_string())),
            Some(None) => Ok(ScriptedWeb::answer(404, "")),
            None => Err(ScriptedWeb::unreachable("nobody is there")),
        }
    }
}

/// A branch that moves to a commit that is told apart by a number.
pub(super) struct Move<'a> {
    pub(super) branch: &'a str,
    pub(super) role: BranchRole,
    pub(super) at: u32,
    pub(super) files: &'a [(&'a str, &'a str)],
    pub(super) revisions: Vec<domain::revision::Revision>,
}

/// A request with a token; an empty one is none.
pub(super) fn request(method: Method, path: &str, token: &str) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    if token.is_empty() { request } else { request.header(header::AUTHORIZATION, format!("Bearer {token}")) }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(super) fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// A header, or nothing.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `200`, or for a problem `404 not_found`; a problem that is not told as one fails the test.
    pub(super) fn verdict(&self) -> String {
        if self.status.is_success() {
            return self.status.as_u16().to_string();
        }
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("urn:spellbook:problem:{code}"));
        assert!(
            !problem["detail"].as_str().unwrap().is_empty() && !problem["title"].as_str().unwrap().is_empty()
        );
        format!("{} {code}", self.status.as_u16())
    }
}

/// A git that answers with what it was asked.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pub(super) requests: Mutex<Vec<String>>,
}

#[async_trait]
impl SmartHttp for Echo {
    async fn serve(&self, request: GitRequest) -> Result<GitResponse, SourceError> {
        let push = if request.may_push == MayPush::Yes { "may push" } else { "may fetch" };
        let GitRequest { service, method, query, user, protocol, content_encoding, .. } = &request;
        let line = format!(
            "{method} {service} ?{query} by {user:?}, {push}, {}, {}",
            protocol.as_deref().unwrap_or("no protocol"),
            content_encoding.as_deref().unwrap_or("plain"),
        );
        self.requests.lock().unwrap().push(line);
        let headers = vec![("Content-Type".to_owned(), format!("application/x-{service}-result"))];
        // The answer is the request's own body, piece by piece as it comes.
        Ok(GitResponse { status: 200, headers, body: request.body.map(|piece| piece).boxed() })
    }
}

/// Secrets of a test.
#[derive(Debug, Default)]
pub(super) struct Safe(pub(super) Mutex<BTreeMap<(RepositoryId, String), String>>);

#[async_trait]
impl Secrets for Safe {
    async fn secret(
        &self,
        repository: RepositoryId,
        name: &SecretName,
    ) -> Result<Option<SecretString>, SecretsError> {
        let secrets = self.0.lock().unwrap();
        Ok(secrets.get(&(repository, name.to_string())).map(|secret| SecretString::from(secret.clone())))
    }
}

/// Commits in memory: enough to resolve an address. Whatever else is asked of it is not of these tests.
#[derive(Debug, Default)]
pub(super) struct Books {
    commits: Mutex<BTreeMap<(RepositoryId, Commit), BTreeMap<String, String>>>,
    pub(super) diff: Mutex<Option<Diff>>,
}

impl Books {
    pub(super) fn put(&self, repository: RepositoryId, commit: &Commit, files: &[(&str, &str)]) {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        self.commits.lock().unwrap().insert((repository, commit.clone()), files);
    }

    fn files(
        &self,
        repository: RepositoryId,
        commit: &Commit,
    ) -> Result<BTreeMap<String, String>, SourceError> {
        let commits = self.commits.lock().unwrap();
        commits
            .get(&(repository, commit.clone()))
            .cloned()
            .ok_or_else(|| SourceError::NotFound(format!("no commit {commit}")))
    }
}

fn beyond<T>() -> Result<T, SourceError> {
    Err(SourceError::Broken("these tests ask nothing of the kind".to_owned()))
}

#[async_trait]
impl Source for Books {
    async fn create(&self, _: RepositoryId, _: &Branch) -> Result<(), SourceError> {
        Ok(())
    }

    fn path(&self, _: RepositoryId) -> PathBuf {
        PathBuf::from("/nonexistent")
    }

    async fn branches(&self, _: RepositoryId) -> Result<Vec<(Branch, Commit)>, SourceError> {
        Ok(Vec::new())
    }

    async fn tag(&self, _: RepositoryId, _: &Tag) -> Result<Option<Commit>, SourceError> {
        Ok(None)
    }

    async fn line(
        &self,
        _: RepositoryId,
        _: Option<&Commit>,
        _: &Commit,
        _: usize,
    ) -> Result<Vec<Commit>, SourceError> {
        beyond()
    }

    async fn describe(
        &self,
        _: RepositoryId,
        _: &[Commit],
    ) -> Result<Vec<ports::source::CommitInfo>, SourceError> {
        Ok(Vec::new())
    }

    async fn changes(
        &self,
        _: &View,
        _: Option<&Commit>,
        _: &Commit,
    ) -> Result<Vec<PathChange>, SourceError> {
        beyond()
    }

    async fn list(&self, _: &View, _: &Commit, _: &str) -> Result<Vec<Entry>, SourceError> {
        beyond()
    }

    async fn file(
        &self,
        view: &View,
        commit: &Commit,
        path: &str,
        _: u64,
    ) -> Result<Option<File>, SourceError> {
        let files = self.files(view.repository, commit)?;
        Ok(files.get(path).map(|text| File::Regular(text.clone().into_bytes())))
    }

    async fn directories(
        &self,
        view: &View,
        commit: &Commit,
        directories: &[String],
        _: ReadBounds,
    ) -> Result<Vec<Directory>, SourceError> {
        let whole = self.files(view.repository, commit)?;
        let mut found = Vec::new();
        for path in directories.iter().filter(|path| !path.is_empty()) {
            let inside = whole.iter().filter_map(|(file, text)| {
                let rest = file.strip_prefix(path.as_str())?.strip_prefix('/')?;
                Some((rest, File::Regular(text.clone().into_bytes())))
            });
            let files: Files = inside.collect();
            if files.paths().next().is_some() {
                found.push(Directory { path: path.clone(), digest: digest(&files), files });
            }
        }
        Ok(found)
    }

    async fn checkout(&self, _: RepositoryId, _: &Commit, _: &Path) -> Result<(), SourceError> {
        beyond()
    }

    async fn snapshot(&self, _: SnapshotSpec<'_>) -> Result<Snapshot, SourceError> {
        beyond()
    }

    async fn diff(&self, _: RepositoryId, _: &Commit, _: &Commit, _: usize) -> Result<Diff, SourceError> {
        self.diff.lock().unwrap().clone().map_or_else(beyond, Ok)
    }

    async fn merge_base(
        &self,
        _: RepositoryId,
        _: &Commit,
        _: &Commit,
    ) -> Result<Option<Commit>, SourceError> {
        beyond()
    }

    async fn commit(&self, _: CommitSpec<'_>) -> Result<Commit, SourceError> {
        beyond()
    }

    async fn move_branch(
        &self,
        _: RepositoryId,
        _: &Branch,
        _: Option<&Commit>,
        _: Option<&Commit>,
    ) -> Result<Moved, SourceError> {
        beyond()
    }

    async fn keep(&self, _: RepositoryId, _: &Commit) -> Result<(), SourceError> {
        Ok(())
    }

    async fn merge(&self, _: MergeSpec<'_>) -> Result<Merged, SourceError> {
        beyond()
    }

    async fn fetch(&self, _: RepositoryId, _: &Remote) -> Result<Fetched, SourceError> {
        Err(SourceError::Unreachable("the network is away".to_owned()))
    }

    async fn bring(&self, _: RepositoryId, _: &Remote, _: &str) -> Result<Commit, SourceError> {
        Err(SourceError::Unreachable("the network is away".to_owned()))
    }

    async fn push(&self, _: PushSpec<'_>) -> Result<Moved, SourceError> {
        Err(SourceError::Unreachable("the network is away".to_owned()))
    }
}

/// Same content, same digest.
fn digest(files: &Files) -> Digest {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    for path in files.paths() {
        hash.update(path);
        hash.update(files.bytes(path).unwrap_or_default());
    }
    build::name(&hex::encode(hash.finalize())[..40])
}

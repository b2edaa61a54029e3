//! What the stories are told in: a repository with daemons, a server around it, and jails that know a
//! few words.

use std::collections::BTreeMap;
use std::fmt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::id::{RepositoryId, RunId, WorkerId};
use domain::name::{Commit, SecretName};
use domain::repository::{Origin, Place, Repository};
use domain::run::{Run, RunState};
use domain::stage::StageRecord;
use git::{Config, Git};
use ports::clock::Clock;
use ports::models::Models;
use ports::sandbox::{JailEnd, JailReport, JailSpec, OutputChunk, SandboxError, Stdin, Stream};
use ports::secrets::{Secrets, SecretsError};
use ports::source::{Moved, Source};
use ports::store::{Page, Repositories, Runs, Store, Topic};
use secrecy::SecretString;
use serde_json::Value as Json;
use testkit::{
    FixedClock, MemoryForge, MemoryObjects, MemoryStore, MemoryVault, ScriptedAgents, ScriptedMcp,
    ScriptedModels, ScriptedProxy, ScriptedSandbox, ScriptedWeb, build,
};
use tokio_util::sync::CancellationToken;

use crate::intake::{self, Start};
use crate::reconcile::{self, Pushed};
use crate::work::{self, WorkOutcome};
use crate::world::{Manifests, Settings, World};
use crate::{Refusal, dispatch};

/// A server with one repository, `ada/book`.
pub(super) struct House {
    pub(super) world: Arc<World>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) clock: Arc<FixedClock>,
    pub(super) source: Arc<Git>,
    pub(super) sandbox: Arc<ScriptedSandbox>,
    pub(super) proxy: Arc<ScriptedProxy>,
    pub(super) forge: Arc<MemoryForge>,
    pub(super) mcp: Arc<ScriptedMcp>,
    pub(super) repository: Repository,
    pub(super) worker: WorkerId,
    directory: tempfile::TempDir,
}

impl House {
    /// A server whose book has these daemons (`id`, what stands below `name:`), deployed without
    /// starting a run.
    pub(super) async fn new(daemons: &[(&str, &str)]) -> Self {
        Self::asking(daemons, Arc::new(ScriptedModels::saying("ok").with_names(&["small"]))).await
    }

    /// The same, with other models.
    pub(super) async fn asking(daemons: &[(&str, &str)], models: Arc<dyn Models>) -> Self {
        Self::with(daemons, models, ScriptedProxy::silent(), nobody()).await
    }

    /// The same, with this behind the doors of jails.
    pub(super) async fn visiting(daemons: &[(&str, &str)], proxy: ScriptedProxy) -> Self {
        let models = ScriptedModels::saying("ok").with_names(&["small"]);
        Self::with(daemons, Arc::new(models), proxy, nobody()).await
    }

    /// The same, with models that work with servers that have tools.
    pub(super) async fn meeting(daemons: &[(&str, &str)], models: Arc<dyn Models>, mcp: ScriptedMcp) -> Self {
        Self::with(daemons, models, ScriptedProxy::silent(), mcp).await
    }

    async fn with(
        daemons: &[(&str, &str)],
        models: Arc<dyn Models>,
        proxy: ScriptedProxy,
        mcp: ScriptedMcp,
    ) -> Self {
        let (proxy, mcp, forge) = (Arc::new(proxy), Arc::new(mcp), Arc::new(MemoryForge::default()));
        let directory = tempfile::tempdir().unwrap();
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(FixedClock::new()));
        let source = Arc::new(Git::open(Config::new(directory.path().join("git"))).unwrap());
        let told = Arc::clone(&clock);
        let sandbox = Arc::new(ScriptedSandbox::new(move |jail| program(jail, &told)));
        let repository = build::repository(&*clock, "ada/book");
        let _ = store.repository_create(&repository).await.unwrap();
        source.create(repository.id, &repository.default_branch).await.unwrap();
        let world = World {
            store: store.clone(),
            source: source.clone(),
            sandbox: sandbox.clone(),
            models,
            agents: Arc::new(ScriptedAgents::named(&["codex", "broken"])),
            proxy: proxy.clone(),
            mcp: mcp.clone(),
            web: Arc::new(ScriptedWeb::new(|_| Err(ScriptedWeb::unreachable("nobody is there")))),
            secrets: Arc::new(NoSecrets),
            vault: Arc::new(MemoryVault::new()),
            objects: Arc::new(MemoryObjects::new()),
            forge: forge.clone(),
            hosts: BTreeMap::new(),
            clock: clock.clone(),
            settings: Settings::new(directory.path().join("work")),
            manifests: Manifests::default(),
            desks: crate::world::Desks::default(),
            sessions: crate::world::Sessions::default(),
        };
        let worker = WorkerId::new(clock.unique());
        let world = Arc::new(world);
        let house =
            Self { world, store, clock, source, sandbox, proxy, mcp, forge, repository, worker, directory };
        let files: Vec<(String, String)> = daemons
            .iter()
            .map(|(id, body)| (format!("daemons/{id}/daemon.yaml"), format!("daemon:\n  name: {id}\n{body}")))
            .chain([("shared.txt".to_owned(), "one\n".to_owned())])
            .collect();
        house
            .push(
                &files,
                Pushed { branches: vec![build::name("main")], actor: Some(build::actor()), skip_runs: true },
            )
            .await;
        house.dispatch().await;
        house
    }

    /// Brings files onto `main`, beside those that are there.
    pub(super) async fn push(&self, files: &[(String, String)], pushed: Pushed) -> Commit {
        let main = &self.repository.default_branch;
        let before = self.head().await;
        let commit = self.commit(files, before.as_ref());
        let moved =
            self.source.move_branch(self.repository.id, main, before.as_ref(), Some(&commit)).await.unwrap();
        assert_eq!(moved, Moved::Moved);
        let reconciled = reconcile::repository(&self.world, self.repository.id, &pushed).await;
        reconciled.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        commit
    }

    /// Where `main` is.
    pub(super) async fn head(&self) -> Option<Commit> {
        let branches = self.source.branches(self.repository.id).await.unwrap();
        let main = branches.into_iter().find(|(name, _)| *name == self.repository.default_branch);
        main.map(|(_, commit)| commit)
    }

    /// A commit of files beside those that were ever written, on no branch.
    pub(super) fn commit(&self, files: &[(String, String)], parent: Option<&Commit>) -> Commit {
        let tree = self.directory.path().join("tree");
        for (path, text) in files {
            let file = tree.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        self.git(&["add", "--all"]);
        let made = self.git(&["write-tree"]);
        let mut arguments = vec!["commit-tree", &made, "-m", "Write"];
        arguments.extend(parent.iter().flat_map(|parent| ["-p", parent.as_str()]));
        build::name(&self.git(&arguments))
    }

    /// A commit above `main` that no branch holds, with these files besides: a pull request's.
    pub(super) fn proposed(&self, files: &[(&str, &str)]) -> Commit {
        let main = self.git(&["rev-parse", "refs/heads/main"]);
        self.git(&["read-tree", &main]);
        for (path, text) in files {
            let file = self.directory.path().join("proposed");
            std::fs::write(&file, text).unwrap();
            let blob = self.git(&["hash-object", "-w", file.to_str().unwrap()]);
            self.git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{path}")]);
        }
        let tree = self.git(&["write-tree"]);
        let commit = self.git(&["commit-tree", &tree, "-m", "Propose", "-p", &main]);
        self.git(&["update-ref", &format!("refs/pull/{}/head", &commit[..12]), &commit]);
        build::name(&commit)
    }

    /// Moves the repository to a forge: another repository, which has `main` and, as the forge keeps them, the
    /// commits of pull request 7. Here nothing holds these any more.
    pub(super) async fn move_out(&mut self, head: &Commit) {
        let other = RepositoryId::new(self.clock.unique());
        self.source.create(other, &self.repository.default_branch).await.unwrap();
        let path = self.source.path(other);
        let path = path.to_str().unwrap();
        let receive = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack";
        let pull = format!("{head}:refs/pull/7/head");
        self.git(&["push", "--quiet", receive, path, "refs/heads/main:refs/heads/main", &pull]);
        self.git(&["update-ref", "-d", &format!("refs/pull/{}/head", &head.as_str()[..12])]);
        let place = Place { forge: build::name("github"), path: "ada/book".to_owned(), id: 1 };
        let url = format!("file://{path}");
        let origin = Origin::Watched { url, credential: None, place: Some(place) };
        self.store.repository_origin(self.repository.id, &origin).await.unwrap();
        let world = Arc::get_mut(&mut self.world).expect("nobody else has the world");
        world.settings.remotes.file = true;
    }

    /// What git says of the repository.
    pub(super) fn git(&self, arguments: &[&str]) -> String {
        #[expect(clippy::disallowed_methods, reason = "a test makes its commits with the real program")]
        let mut command = Command::new("git");
        let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
        command.arg("--git-dir").arg(self.source.path(self.repository.id));
        command.arg("--work-tree").arg(self.directory.path().join("tree"));
        command.args(arguments).envs(who.map(|name| (name, "test@localhost")));
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_INDEX_FILE", self.directory.path().join("index"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Decides about every event.
    pub(super) async fn dispatch(&self) {
        while dispatch::next(&self.world).await.unwrap() != dispatch::DispatchOutcome::Empty {}
    }

    /// Asks for a run.
    pub(super) async fn start(&self, daemon: &str, inputs: &Json) -> RunId {
        let start = Start {
            address: build::name(&format!("ada/book/{daemon}")),
            inputs: inputs.as_object().unwrap().clone(),
            actor: build::actor(),
            idempotency: None,
        };
        let started: Result<_, Refusal> = intake::start(&self.world, start).await;
        started.unwrap_or_else(|refusal| panic!("{refusal:?}")).run
    }

    /// Takes up one run.
    pub(super) async fn work_once(&self) -> WorkOutcome {
        self.work_until(&CancellationToken::new()).await
    }

    /// Takes up one run, with a worker that may be stopped.
    pub(super) async fn work_until(&self, shutdown: &CancellationToken) -> WorkOutcome {
        work::next(&self.world, self.worker, shutdown).await.unwrap()
    }

    /// Works until nothing is ready.
    pub(super) async fn work(&self) {
        while let WorkOutcome::Worked { .. } = self.work_once().await {}
    }

    /// Asks for a run and works until it has ended.
    pub(super) async fn ended(&self, daemon: &str, inputs: &Json) -> Ended {
        let id = self.start(daemon, inputs).await;
        self.work().await;
        self.end_of(id).await
    }

    pub(super) async fn run(&self, id: RunId) -> Run {
        self.store.run_get(id).await.unwrap().expect("the run is there")
    }

    /// The runs of a daemon, oldest first, each by its status.
    pub(super) async fn statuses(&self, daemon: &str) -> Vec<&'static str> {
        let runs = self.store.run_list(&Default::default(), &Page::first(100)).await.unwrap();
        let of = runs.iter().rev().filter(|run| run.daemon.as_str() == daemon);
        of.map(|run| run.state.status().as_str()).collect()
    }

    /// A run that has ended, and its journal.
    pub(super) async fn end_of(&self, id: RunId) -> Ended {
        let run = self.run(id).await;
        assert!(run.state.status().is_final(), "{run:#?}");
        Ended { run, journal: self.store.run_journal(id).await.unwrap() }
    }

    /// The log of a run, as one text.
    pub(super) async fn log(&self, id: RunId) -> String {
        let lines = crate::logs::read(&self.world, id, 0, 1_000).await.unwrap();
        lines.into_iter().map(|line| line.line.text).collect::<Vec<_>>().join("\n")
    }

    /// Waits until the store says something that `look` is content with.
    pub(super) async fn until<T>(&self, look: impl AsyncFn(&Self) -> Option<T>) -> T {
        let (mut runs, mut logs) = (self.store.wakeups(Topic::Runs), self.store.wakeups(Topic::Logs));
        loop {
            runs.mark_unchanged();
            logs.mark_unchanged();
            if let Some(found) = look(self).await {
                return found;
            }
            let said = futures::future::select(Box::pin(runs.changed()), Box::pin(logs.changed()));
            let said = tokio::time::timeout(Duration::from_secs(30), said).await;
            said.expect("the store says something in time");
        }
    }
}

/// No server with tools.
fn nobody() -> ScriptedMcp {
    ScriptedMcp::failing("mcp_gone", "nobody is there")
}

/// A run that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) run: Run,
    pub(super) journal: Vec<StageRecord>,
}

impl Ended {
    /// The status and, for people, why.
    pub(super) fn outcome(&self) -> String {
        let RunState::Ended { outcome, .. } = &self.run.state else { unreachable!("it has ended") };
        match outcome.message() {
            Some(message) => format!("{}: {message}", outcome.status()),
            None => outcome.status().to_string(),
        }
    }

    /// How each stage ended, in that order: `One succeeded, Two failed`.
    pub(super) fn stages(&self) -> String {
        let stages = self.journal.iter().map(|record| format!("{} {}", record.path, record.end.as_str()));
        stages.collect::<Vec<_>>().join(", ")
    }

    /// What a stage made.
    pub(super) fn output(&self, path: &str) -> Json {
        let record = self.journal.iter().find(|record| record.path.as_str() == path);
        let record = record.unwrap_or_else(|| panic!("{path} is not in the journal: {self:#?}"));
        record.output.as_ref().map_or(Json::Null, |output| output.value.json.clone())
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.outcome(), self.stages())
    }
}

/// A jail's program, of these words, one a line: `say WORDS`, `put FILE WORD` (a line at its end),
/// `show FILE`, `tell VARIABLE`, `take MINUTES` of the clock, `fail`, `hang` until somebody ends it. The
/// programs that a model's tools are made of are the machine's.
fn program(jail: &JailSpec, clock: &FixedClock) -> Result<(Vec<OutputChunk>, JailReport), SandboxError> {
    if let [name, ..] = jail.command.as_slice()
        && ["sed", "sh", "cat", "find", "grep"].contains(&name.as_str())
    {
        return Ok(real(jail));
    }
    // What an agent is asked to do is what it does, up to the first empty line.
    let script = match jail.command.as_slice() {
        [agent, _] if agent == "agent" => {
            let task = String::from_utf8_lossy(input(jail));
            task.split("\n\n").next().unwrap_or_default().to_owned()
        }
        command => command.last().cloned().unwrap_or_default(),
    };
    let mut said = Vec::new();
    for line in script.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let file = |name: &str| jail.workspace.join(name);
        let read = |name: &str| std::fs::read_to_string(file(name)).unwrap_or_default();
        match words.as_slice() {
            ["say", ..] => said.push(ScriptedSandbox::stdout(&(line.trim_start()[4..].to_owned() + "\n"))),
            ["put", name, word] => {
                std::fs::create_dir_all(file(name).parent().unwrap()).unwrap();
                std::fs::write(file(name), read(name) + word + "\n").unwrap();
            }
            ["show", name] => said.push(ScriptedSandbox::stdout(&read(name).replace('\n', " "))),
            ["take", minutes] => {
                clock.advance(Duration::from_secs(60 * minutes.parse::<u64>().unwrap()));
            }
            [] => {}
            ["fail"] => return Ok((said, ScriptedSandbox::exited(1))),
            ["tell", name] => {
                let value = jail.env.get(*name).map_or("nothing", String::as_str);
                said.push(ScriptedSandbox::stdout(&format!("{value}\n")));
            }
            ["hang"] => {
                said.push(ScriptedSandbox::stdout("hangs\n"));
                return Ok((said, ScriptedSandbox::ended(JailEnd::Cancelled)));
            }
            other => panic!("no such word: {other:?}"),
        }
    }
    Ok((said, ScriptedSandbox::exited(0)))
}

/// A program that reads and writes files for a model, for real: what it is given are a test's own words.
fn real(jail: &JailSpec) -> (Vec<OutputChunk>, JailReport) {
    #[expect(clippy::disallowed_methods, reason = "the tools of a model are the machine's own programs")]
    let mut command = Command::new(&jail.command[0]);
    command.args(&jail.command[1..]).current_dir(jail.workspace.join(&jail.directory));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).envs(&jail.env);
    let mut child = command.spawn().unwrap();
    // A program that ends without reading what it is given is none the worse for it.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input(jail));
    let output = child.wait_with_output().unwrap();
    let said = [(Stream::Stdout, output.stdout), (Stream::Stderr, output.stderr)];
    let said = said.map(|(stream, bytes)| OutputChunk { stream, bytes: bytes.into() });
    (said.to_vec(), ScriptedSandbox::exited(output.status.code().unwrap()))
}

fn input(jail: &JailSpec) -> &[u8] {
    match &jail.stdin {
        Stdin::Bytes(bytes) => bytes,
        Stdin::Pipe(_) => b"",
    }
}

#[derive(Debug)]
struct NoSecrets;

#[async_trait]
impl Secrets for NoSecrets {
    async fn secret(&self, _: RepositoryId, _: &SecretName) -> Result<Option<SecretString>, SecretsError> {
        Ok(None)
    }
}

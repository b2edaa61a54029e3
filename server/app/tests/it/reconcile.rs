//! What the server makes of what a watched remote has, commit by commit.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use domain::event::EventKind;
use domain::id::RepositoryId;
use domain::repository::{Origin, SyncStatus};
use domain::revision::RevisionContent;
use engine::World;
use engine::reconcile::{self, Pushed};
use engine::watch;
use ports::source::Source as _;
use spellbook::config::Config;
use spellbook::wiring::{self, SecretSource, Wired};
use tempfile::TempDir;

/// A remote that git itself drives, and a server that watches it.
struct Watched {
    home: TempDir,
    world: Arc<World>,
    git: git::Git,
    repository: RepositoryId,
    _wired: (Arc<gateway::Gateway>, wiring::JailPlace),
}

impl Watched {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.remotes.allow_file = true;
        let Wired { world, git, gateway, proxy: _, place } =
            wiring::wire(&config, &home.path().join("data"), SecretSource::Files).await.unwrap();
        let remote = home.path().join("remote");
        std::fs::create_dir(&remote).unwrap();
        let origin =
            Origin::Watched { url: format!("file://{}", remote.display()), credential: None, place: None };
        let (path, main) = ("ada/book".parse().unwrap(), "main".parse().unwrap());
        let repository = engine::repositories::create(&world, path, origin, main).await.unwrap().id;
        let watched = Self { home, world, git, repository, _wired: (gateway, place) };
        watched.run(&["init", "--quiet", "--initial-branch=main"]);
        watched
    }

    fn file(&self, path: &str) -> PathBuf {
        self.home.path().join("remote").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::create_dir_all(self.file(path).parent().unwrap()).unwrap();
        std::fs::write(self.file(path), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]).args(arguments);
        command.current_dir(self.home.path().join("remote")).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = command.output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn commit(&self) {
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--allow-empty", "--message", "Change"]);
    }

    async fn look(&self) -> SyncStatus {
        let repository = self.world.store.repository_get(self.repository).await.unwrap().unwrap();
        watch::look(&self.world, &repository).await.unwrap()
    }

    /// The daemons that are deployed, each with what it is.
    async fn deployed(&self) -> Vec<String> {
        let main = "main".parse().unwrap();
        let current = self.world.store.revision_currents(self.repository, &main).await.unwrap();
        let shown = current.into_iter().filter_map(|revision| match revision.content {
            RevisionContent::Removed => None,
            RevisionContent::Valid { directory, .. } => Some(directory),
            RevisionContent::Invalid { directory, .. } => Some(format!("{directory} (invalid)")),
        });
        shown.collect()
    }
}

const SOUND: &str = "daemon:\n  name: Sound\n  stages:\n    - { name: Say, type: script, script: echo }\n";
const BROKEN: &str = "daemon:\n  name: Broken\n  stagse: []\n";

#[tokio::test]
async fn a_repository_is_invalid_until_the_last_daemon_is_mended() {
    let watched = Watched::new().await;
    watched.write("daemons/a/daemon.yaml", BROKEN);
    watched.write("daemons/b/daemon.yaml", BROKEN);
    watched.commit();
    assert_eq!(watched.look().await, SyncStatus::Invalid);
    assert_eq!(watched.look().await, SyncStatus::Invalid, "nothing moved");
    watched.write("daemons/a/daemon.yaml", SOUND);
    watched.commit();
    assert_eq!(watched.look().await, SyncStatus::Invalid, "`b` still is");
    assert_eq!(watched.deployed().await, ["daemons/a", "daemons/b (invalid)"]);
    std::fs::remove_dir_all(watched.file("daemons/b")).unwrap();
    watched.commit();
    assert_eq!(watched.look().await, SyncStatus::Synced);
}

#[tokio::test]
async fn a_daemon_that_no_glob_names_any_more_is_gone() {
    let watched = Watched::new().await;
    watched.write("spellbook.yaml", "daemons: [\"tools/*\", \"agents/*\"]\n");
    for directory in ["tools/a", "agents/b", "daemons/c"] {
        watched.write(&format!("{directory}/daemon.yaml"), SOUND);
    }
    watched.commit();
    assert_eq!(watched.look().await, SyncStatus::Synced);
    assert_eq!(watched.deployed().await, ["tools/a", "agents/b", "daemons/c"]);
    watched.write("spellbook.yaml", "daemons: [\"agents/*\"]\n");
    watched.commit();
    assert_eq!(watched.look().await, SyncStatus::Synced);
    assert_eq!(watched.deployed().await, ["agents/b", "daemons/c"]);
}

#[tokio::test]
async fn a_file_of_the_repository_that_is_no_file_is_not_taken_for_none() {
    let watched = Watched::new().await;
    watched.write("daemons/a/daemon.yaml", SOUND);
    watched.commit();
    assert_eq!(watched.look().await, SyncStatus::Synced);
    std::os::unix::fs::symlink("/etc/passwd", watched.file("spellbook.yaml")).unwrap();
    watched.commit();
    assert_eq!(watched.look().await, SyncStatus::Invalid);
    std::fs::remove_file(watched.file("spellbook.yaml")).unwrap();
    watched.write("spellbook.yml", &"# long\n".repeat(200_000));
    watched.commit();
    assert_eq!(watched.look().await, SyncStatus::Invalid);
}

#[tokio::test]
async fn a_push_speaks_for_the_branches_that_it_moved() {
    let watched = Watched::new().await;
    watched.write("spellbook.yaml", "branches: { deploy: [main, live] }\n");
    watched.write("daemons/a/daemon.yaml", SOUND);
    watched.commit();
    watched.run(&["branch", "live"]);
    let repository = watched.world.store.repository_get(watched.repository).await.unwrap().unwrap();
    let Origin::Watched { url, .. } = &repository.origin else { panic!("it is watched") };
    let policy = watched.world.settings.remotes;
    let timeout = std::time::Duration::from_secs(60);
    let remote = ports::source::Remote { url: url.clone(), credential: None, policy, timeout };
    watched.git.fetch(watched.repository, &remote).await.unwrap();
    // Somebody pushed `main` and wants no runs; `live` moved by itself.
    let actor = domain::event::Actor { name: "ada".to_owned(), role: None, bot: false };
    let pushed = Pushed { branches: vec!["main".parse().unwrap()], actor: Some(actor), skip_runs: true };
    let reconciled = reconcile::repository(&watched.world, watched.repository, &pushed).await.unwrap();
    assert_eq!(reconciled.branches.len(), 2);
    let event =
        watched.world.store.event_next(watched.world.clock.now()).await.unwrap().expect("`live` moved");
    assert_eq!(event.branch.map(|branch| branch.to_string()).as_deref(), Some("live"));
    assert_eq!((event.kind, event.actor.name.as_str()), (EventKind::Push, "spellbook"));
}

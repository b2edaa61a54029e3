//! Repositories made by real git in an environment of their own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use domain::id::{RepositoryId, RunId};
use domain::name::{Branch, Commit};
use domain::time::Timestamp;
use git::{Config, Git};
use ports::source::{Remote, RemotePolicy, Source, View};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const REPOSITORY: RepositoryId = RepositoryId::new(Uuid::from_u128(1));
pub(crate) const OTHER: RepositoryId = RepositoryId::new(Uuid::from_u128(2));
pub(crate) const RUN: RunId = RunId::new(Uuid::from_u128(3));
pub(crate) const AT: Timestamp = Timestamp::from_millis(1_795_341_600_000);
pub(crate) const FOR_TESTS: RemotePolicy =
    RemotePolicy { file: true, plain_http: true, private_addresses: true };

/// A server's repositories, and a person's working copy.
pub(crate) struct Fixture {
    pub(crate) git: Git,
    pub(crate) directory: TempDir,
    pub(crate) work: PathBuf,
}

impl Fixture {
    /// With one hosted repository, empty, and one working copy, empty.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Config::new(directory.path().join("repositories"));
        change(&mut config);
        let git = Git::open(config).unwrap();
        git.create(REPOSITORY, &branch("main")).await.unwrap();
        let work = directory.path().join("work");
        fs::create_dir(&work).unwrap();
        let fixture = Self { git, directory, work };
        fixture.run(["init", "--quiet", "--initial-branch=main"]);
        fixture
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn mirror(&self) -> PathBuf {
        self.git.path(REPOSITORY)
    }

    /// Writes a file of the working copy.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.work.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn make_executable(&self, path: &str) {
        fs::set_permissions(self.work.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs git in the working copy, and gives what it wrote.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        text(&run_git(&self.work, arguments))
    }

    /// Runs git in the mirror.
    pub(crate) fn in_mirror<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        text(&run_git(&self.mirror(), arguments))
    }

    /// Commits all of the working copy.
    pub(crate) fn commit(&self, message: &str) -> Commit {
        self.run(["add", "--all"]);
        self.run(["commit", "--quiet", "--allow-empty", "-m", message]);
        self.head()
    }

    pub(crate) fn head(&self) -> Commit {
        commit(&self.run(["rev-parse", "HEAD"]))
    }

    /// Brings everything into the mirror by fetching it from the working copy.
    pub(crate) async fn fetch(&self) -> ports::source::Fetched {
        self.git.fetch(REPOSITORY, &self.remote()).await.unwrap()
    }

    /// The working copy as a remote.
    pub(crate) fn remote(&self) -> Remote {
        remote(&format!("file://{}", self.work.display()))
    }

    pub(crate) fn view(&self) -> View {
        View::of(REPOSITORY)
    }

    /// Writes an object as it is, valid or not, into the working copy's repository.
    pub(crate) fn object(&self, kind: &str, content: &[u8]) -> String {
        use std::io::Write;
        let mut child = git_command(&self.work)
            .args(["hash-object", "--literally", "-w", "--stdin", "-t", kind])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(content).unwrap();
        text(&child.wait_with_output().unwrap())
    }

    /// A tree of these entries (`mode name`, id), whatever they are, in this order.
    pub(crate) fn tree(&self, entries: &[(&str, &str)]) -> String {
        let mut content = Vec::new();
        for (head, id) in entries {
            content.extend_from_slice(head.as_bytes());
            content.push(0);
            content.extend((0..20).map(|at| u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).unwrap()));
        }
        self.object("tree", &content)
    }

    /// A commit of a tree on a branch of the working copy, without looking at the tree.
    pub(crate) fn commit_tree(&self, branch: &str, tree: &str) -> Commit {
        let who = "A <a@example.org> 1795341600 +0000";
        let id =
            self.object("commit", format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nm\n").as_bytes());
        fs::write(self.work.join(".git/refs/heads").join(branch), format!("{id}\n")).unwrap();
        commit(&id)
    }
}

pub(crate) fn remote(url: &str) -> Remote {
    Remote { url: url.into(), credential: None, policy: FOR_TESTS, timeout: Duration::from_secs(60) }
}

pub(crate) fn branch(name: &str) -> Branch {
    Branch::parse(name).unwrap()
}

pub(crate) fn commit(id: &str) -> Commit {
    Commit::parse(id).unwrap()
}

pub(crate) fn git_command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.org")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.org")
        .env("GIT_AUTHOR_DATE", "1795341600 +0000")
        .env("GIT_COMMITTER_DATE", "1795341600 +0000");
    command
}

pub(crate) fn run_git<S: AsRef<OsStr>>(directory: &Path, arguments: impl IntoIterator<Item = S>) -> Output {
    git_command(directory).args(arguments).output().unwrap()
}

/// Bytes that no one can compress (xorshift).
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What a program wrote; it must have succeeded.
pub(crate) fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

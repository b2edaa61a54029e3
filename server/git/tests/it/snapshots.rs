//! From a commit to a workspace and back, with whatever a jail leaves there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use domain::name::Commit;
use ports::source::{Snapshot, SnapshotSpec, Source, SourceError};

use crate::fixture::{AT, Fixture, REPOSITORY, RUN, text};

struct Workspace {
    fixture: Fixture,
    parent: Commit,
    directory: std::path::PathBuf,
}

impl Workspace {
    /// A checkout of what `prepare` commits.
    async fn of(prepare: impl FnOnce(&Fixture)) -> Self {
        let fixture = Fixture::new().await;
        prepare(&fixture);
        let parent = fixture.commit("parent");
        Self::at(fixture, parent).await
    }

    async fn at(fixture: Fixture, parent: Commit) -> Self {
        fixture.fetch().await;
        let directory = fixture.path("workspace");
        fs::create_dir(&directory).unwrap();
        fixture.git.checkout(REPOSITORY, &parent, &directory).await.unwrap();
        Self { fixture, parent, directory }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.join(name)
    }

    async fn try_snapshot(&self, parent: &Commit, max_bytes: u64) -> Result<Snapshot, SourceError> {
        let spec = SnapshotSpec {
            repository: REPOSITORY,
            run: RUN,
            directory: &self.directory,
            parent,
            checkout: Some(&self.parent),
            message: "Stage: Fix\n\nSpellbook-Stage: Fix",
            max_bytes,
            at: AT,
        };
        self.fixture.git.snapshot(spec).await
    }

    async fn snapshot(&self) -> Snapshot {
        self.try_snapshot(&self.parent, 1 << 30).await.unwrap()
    }

    /// The files of a snapshot, as `mode path`.
    fn files(&self, snapshot: &Snapshot) -> Vec<String> {
        let listed = self.fixture.in_mirror([
            "ls-tree",
            "-r",
            "--format=%(objectmode) %(path)",
            snapshot.commit.as_str(),
        ]);
        listed.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn an_untouched_checkout_is_the_same_tree() {
    let workspace = Workspace::of(|fixture| {
        fixture.write("src/main.rs", "fn main() {}\n");
        fixture.write("crlf.txt", "a\r\nb\r\n");
        fixture
            .write(".gitattributes", "* text eol=crlf\n*.rs ident filter=lfs working-tree-encoding=UTF-16\n");
        fixture.write("run.sh", "#!/bin/sh\n");
        fixture.make_executable("run.sh");
        fixture.write("empty", "");
        symlink("src/main.rs", fixture.work.join("link")).unwrap();
        symlink("../run.sh", fixture.work.join("src/up")).unwrap();
        fixture.write("unusual \"name\" \u{e9}\t", "x");
        // As they are in the working copy, whatever the attributes say.
        fs::write(
            fixture.work.join(".git/info/attributes"),
            "* -text -ident -filter -working-tree-encoding\n",
        )
        .unwrap();
    })
    .await;
    assert!(!workspace.path(".git").exists());
    assert_eq!(fs::read(workspace.path("src/main.rs")).unwrap(), b"fn main() {}\n");
    assert_eq!(fs::metadata(workspace.path("run.sh")).unwrap().permissions().mode() & 0o111, 0o111);
    let snapshot = workspace.snapshot().await;
    assert!(!snapshot.changed && snapshot.untouched);
    assert_ne!(snapshot.commit, workspace.parent);
    let shown =
        workspace.fixture.in_mirror(["log", "-1", "--format=%P %B", &format!("refs/spellbook/runs/{RUN}")]);
    assert_eq!(shown.trim_end(), format!("{} Stage: Fix\n\nSpellbook-Stage: Fix", workspace.parent));
    assert_eq!(workspace.snapshot().await, snapshot, "the same workspace makes the same commit");
}

#[tokio::test]
async fn what_changed_is_what_git_would_add() {
    let workspace = Workspace::of(|fixture| {
        for path in ["kept", "changed", "removed", "a/b/c", "a-b", "a0", "becomes/directory"] {
            fixture.write(path, path);
        }
        fixture.write("becomes-directory", "x");
    })
    .await;
    let touch = |root: &Path| {
        fs::write(root.join("changed"), "new").unwrap();
        fs::remove_file(root.join("removed")).unwrap();
        fs::remove_file(root.join("becomes-directory")).unwrap();
        fs::create_dir(root.join("becomes-directory")).unwrap();
        fs::write(root.join("becomes-directory/x"), "y").unwrap();
        fs::create_dir_all(root.join("empty/empty")).unwrap();
        symlink("/etc/passwd", root.join("outside")).unwrap();
        fs::write(root.join("run"), "#!/bin/sh").unwrap();
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(root.join("large"), vec![b'x'; 9 << 20]).unwrap();
    };
    touch(&workspace.directory);
    touch(&workspace.fixture.work);
    let snapshot = workspace.snapshot().await;
    workspace.fixture.commit("by git");
    assert!(snapshot.changed);
    let ours = workspace.fixture.in_mirror(["rev-parse", &format!("{}^{{tree}}", snapshot.commit)]);
    assert_eq!(ours, workspace.fixture.run(["rev-parse", "HEAD^{tree}"]));
    workspace.fixture.in_mirror(["fsck", "--strict", "--no-dangling"]);
}

#[tokio::test]
async fn the_parents_ignored_files_are_left_out() {
    let workspace = Workspace::of(|fixture| {
        fixture.write("src/x", "x");
        fixture.write("target/tracked", "1");
        fixture.commit("before");
        fixture.write(".gitignore", "target/\n*.log\n!keep.log\n/root-only\n");
        fixture.write("src/.gitignore", "generated\n");
        fixture.run(["add", "--force", "target/tracked"]);
    })
    .await;
    for path in [
        "target/new",
        "target/deep/new",
        "a.log",
        "keep.log",
        "root-only",
        "src/root-only",
        "src/generated",
        "generated",
    ] {
        fs::create_dir_all(workspace.path(path).parent().unwrap()).unwrap();
        fs::write(workspace.path(path), "x").unwrap();
    }
    fs::write(workspace.path("target/tracked"), "2").unwrap();
    // The jail's own wish to hide something is not heard.
    fs::write(workspace.path("src/.gitignore"), "*\n").unwrap();
    let files = workspace.files(&workspace.snapshot().await);
    let expect =
        [".gitignore", "generated", "keep.log", "src/.gitignore", "src/root-only", "src/x", "target/tracked"];
    assert_eq!(files, expect.map(|path| format!("100644 {path}")));
}

#[tokio::test]
async fn a_jails_git_directory_is_not_there() {
    let workspace = Workspace::of(|fixture| fixture.write("a", "a")).await;
    let payload = workspace.fixture.path("payload-ran");
    let command = format!("touch {}", payload.display());
    text(&crate::fixture::run_git(&workspace.directory, ["init", "--quiet"]));
    for (key, value) in [
        ("core.fsmonitor", command.as_str()),
        ("core.sshCommand", &command),
        ("filter.evil.clean", &command),
        ("filter.evil.smudge", &command),
        ("alias.status", &format!("!{command}")),
    ] {
        text(&crate::fixture::run_git(&workspace.directory, ["config", key, value]));
    }
    for hook in ["pre-commit", "post-index-change", "reference-transaction", "pre-receive"] {
        let path = workspace.path(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{command}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::write(workspace.path(".gitattributes"), "* filter=evil\n").unwrap();
    for directory in [".GIT", "sub/.git", "sub/.Git", "git~1", ".git ", "nested/.git"] {
        fs::create_dir_all(workspace.path(directory)).unwrap();
        fs::write(workspace.path(directory).join("config"), "[core]\n\tfsmonitor = x\n").unwrap();
    }
    fs::write(workspace.path("nested/file"), "x").unwrap();
    fs::create_dir_all(workspace.path("other")).unwrap();
    fs::write(workspace.path("other/.git"), "gitdir: /etc").unwrap();
    let files = workspace.files(&workspace.snapshot().await);
    assert_eq!(files, ["100644 .gitattributes", "100644 a", "100644 nested/file"]);
    assert!(!payload.exists());
}

#[tokio::test]
async fn odd_files_do_no_harm() {
    let workspace = Workspace::of(|fixture| fixture.write("a", "a")).await;
    let _socket = std::os::unix::net::UnixListener::bind(workspace.path("socket")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(workspace.path("fifo")).status().unwrap().success());
    symlink("/proc/self/environ", workspace.path("environ")).unwrap();
    symlink("/etc", workspace.path("etc")).unwrap();
    symlink("loop", workspace.path("loop")).unwrap();
    fs::write(workspace.path("unreadable"), "x").unwrap();
    fs::set_permissions(workspace.path("unreadable"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::create_dir(workspace.path("closed")).unwrap();
    fs::write(workspace.path("closed/x"), "x").unwrap();
    fs::set_permissions(workspace.path("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    let snapshot = workspace.snapshot().await;
    assert_eq!(
        workspace.files(&snapshot),
        ["100644 a", "100644 closed/x", "120000 environ", "120000 etc", "120000 loop", "100644 unreadable"]
    );
    let target = workspace.fixture.in_mirror(["cat-file", "blob", &format!("{}:environ", snapshot.commit)]);
    assert_eq!(target, "/proc/self/environ");
    // What comes out again has no link that leads outside.
    let again = workspace.fixture.path("again");
    fs::create_dir(&again).unwrap();
    workspace.fixture.git.checkout(REPOSITORY, &snapshot.commit, &again).await.unwrap();
    assert!(
        fs::symlink_metadata(again.join("environ")).is_err()
            && fs::symlink_metadata(again.join("etc")).is_err()
    );
    assert!(fs::symlink_metadata(again.join("loop")).is_ok());
}

#[tokio::test]
async fn size_and_depth_are_bounded() {
    let workspace = Workspace::of(|fixture| fixture.write("a", "a")).await;
    let refused = async |max_bytes| {
        let snapshot = workspace.try_snapshot(&workspace.parent, max_bytes).await;
        assert!(matches!(snapshot, Err(SourceError::Refused(_))), "{snapshot:?}");
    };
    // A sparse file costs nothing on the disk and everything afterwards.
    let sparse = fs::File::create(workspace.path("sparse")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    refused(1 << 20).await;
    refused(u64::MAX).await;
    fs::remove_file(workspace.path("sparse")).unwrap();
    workspace.try_snapshot(&workspace.parent, 1).await.unwrap();
    refused(0).await;
    // Deeper than any path that can be written down.
    let chain = "ddd/".repeat(600);
    for top in ["one", "two", "three"] {
        fs::create_dir_all(workspace.path(top).join(&chain)).unwrap();
    }
    fs::rename(workspace.path("two"), workspace.path("one").join(&chain).join("two")).unwrap();
    fs::rename(workspace.path("one"), workspace.path("three").join(&chain).join("one")).unwrap();
    refused(1 << 20).await;
    let at_the_end =
        workspace.fixture.in_mirror(["for-each-ref", "--format=%(refname)", "refs/spellbook/runs"]);
    assert_eq!(at_the_end, format!("refs/spellbook/runs/{RUN}"));
}

#[tokio::test]
async fn what_a_checkout_leaves_out_is_not_removed() {
    let fixture = Fixture::new().await;
    fixture.write("a", "a");
    symlink("/etc/passwd", fixture.work.join("absolute")).unwrap();
    symlink("../../x", fixture.work.join("climbs")).unwrap();
    fixture.commit("first");
    let other = fixture.head();
    fixture.run(["update-index", "--add", "--cacheinfo", &format!("160000,{other},module")]);
    fixture.write(
        ".gitmodules",
        "[submodule \"module\"]\n\tpath = module\n\turl = ./x\n\tupdate = !touch /tmp/x\n",
    );
    fixture.run(["add", ".gitmodules"]);
    fixture.run(["commit", "--quiet", "-m", "with a submodule"]);
    let parent = fixture.head();
    let workspace = Workspace::at(fixture, parent).await;
    for absent in ["absolute", "climbs", "module"] {
        assert!(fs::symlink_metadata(workspace.path(absent)).is_err(), "{absent}");
    }
    assert!(!workspace.snapshot().await.changed);
}

#[tokio::test]
async fn links_through_links_do_not_lead_outside() {
    let workspace = Workspace::of(|fixture| {
        fixture.write("d/e/f", "x");
        symlink("..", fixture.work.join("d/e/up")).unwrap();
        // Inside by its letters, outside by what `up` is.
        symlink("up/../../x", fixture.work.join("d/e/sly")).unwrap();
        symlink("d/./e//f", fixture.work.join("plain")).unwrap();
    })
    .await;
    assert!(fs::symlink_metadata(workspace.path("d/e/sly")).is_err());
    assert_eq!(fs::read(workspace.path("plain")).unwrap(), b"x");
    assert_eq!(
        fs::canonicalize(workspace.path("d/e/up")).unwrap(),
        workspace.directory.canonicalize().unwrap().join("d")
    );
}

#[tokio::test]
async fn snapshots_side_by_side_are_all_kept() {
    let workspace = Workspace::of(|fixture| fixture.write("a", "a")).await;
    let first = workspace.snapshot().await;
    fs::write(workspace.path("b"), "b").unwrap();
    let second = workspace.try_snapshot(&workspace.parent, 1 << 20).await.unwrap();
    let third = workspace.try_snapshot(&second.commit, 1 << 20).await.unwrap();
    let refs =
        workspace.fixture.in_mirror(["for-each-ref", "--format=%(refname) %(objectname)", "refs/spellbook"]);
    assert_eq!(
        refs,
        format!("refs/spellbook/kept/{0} {0}\nrefs/spellbook/runs/{RUN} {1}", first.commit, third.commit)
    );
}

#[tokio::test]
async fn a_checkout_wants_an_empty_directory() {
    let workspace = Workspace::of(|fixture| fixture.write("a", "a")).await;
    let again = workspace.fixture.git.checkout(REPOSITORY, &workspace.parent, &workspace.directory).await;
    assert!(matches!(again, Err(SourceError::Refused(_))), "{again:?}");
}

#[tokio::test]
async fn an_emptied_workspace_is_an_empty_tree() {
    let workspace = Workspace::of(|fixture| fixture.write("a", "a")).await;
    fs::remove_file(workspace.path("a")).unwrap();
    let snapshot = workspace.snapshot().await;
    assert!(snapshot.changed);
    assert!(workspace.files(&snapshot).is_empty());
}

#[tokio::test]
async fn whatever_was_touched_is_seen() {
    type Touch = fn(&Path);
    let touches: [(&str, Touch); 10] = [
        ("content", |root| fs::write(root.join("src/a"), "b").unwrap()),
        ("the same content anew", |root| fs::write(root.join("src/a"), "a").unwrap()),
        ("a date", |root| {
            let file = fs::File::options().write(true).open(root.join("src/a")).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        }),
        ("a mode", |root| fs::set_permissions(root.join("src"), fs::Permissions::from_mode(0o777)).unwrap()),
        ("a second name", |root| {
            fs::hard_link(root.join("src/a"), root.join("src/b")).unwrap();
            fs::rename(root.join("src/b"), root.join("ignored")).unwrap();
        }),
        ("a file that git ignores", |root| fs::write(root.join("ignored"), "").unwrap()),
        ("an empty directory", |root| fs::create_dir(root.join("empty")).unwrap()),
        ("a name that git does not take", |root| fs::create_dir(root.join(".git")).unwrap()),
        ("something made and removed", |root| {
            fs::write(root.join("new"), "").unwrap();
            fs::remove_file(root.join("new")).unwrap();
        }),
        ("an attribute", |root| {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.join("src/a"), "user.note", b"x", flags).unwrap();
        }),
    ];
    for (what, touch) in touches {
        let workspace = Workspace::of(|fixture| {
            fixture.write("src/a", "a");
            fixture.write(".gitignore", "ignored\n");
        })
        .await;
        assert!(workspace.snapshot().await.untouched, "before {what}");
        touch(&workspace.directory);
        assert!(!workspace.snapshot().await.untouched, "{what}");
    }
}

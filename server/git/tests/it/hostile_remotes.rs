//! Remotes and repositories that mean harm.

use std::os::unix::fs::symlink;
use std::time::Duration;

use domain::files::File;
use ports::source::{ReadBounds, Remote, RemotePolicy, Source, SourceError};
use secrecy::SecretString;

use crate::fixture::{Fixture, REPOSITORY, commit, noise, remote};
use crate::serve::{Door, address_of};

async fn refused(fixture: &Fixture, remote: &Remote) {
    let fetched = fixture.git.fetch(REPOSITORY, remote).await;
    assert!(matches!(fetched, Err(SourceError::Refused(_))), "{}: {fetched:?}", remote.url);
}

#[tokio::test]
async fn options_and_other_schemes_start_nothing() {
    let fixture = Fixture::new().await;
    let payload = fixture.path("X");
    let touch = format!("touch {}", payload.display());
    for url in [
        format!("--upload-pack={touch}"),
        format!("-u{touch}"),
        format!("ext::sh -c {touch}"),
        format!("ssh://-oProxyCommand={touch}/a"),
        "fd::17".into(),
        "git://127.0.0.1/a".into(),
        "user@a@b:c".into(),
        "https://127.0.0.1/a\n".into(),
    ] {
        refused(&fixture, &remote(&url)).await;
    }
    assert!(!payload.exists());
}

#[tokio::test]
async fn a_name_is_judged_when_it_is_connected_to() {
    let fixture = Fixture::new().await;
    let door = Door::to(&fixture).open().await;
    let policy = RemotePolicy { plain_http: true, file: false, private_addresses: false };
    for host in ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]"] {
        let url = format!("http://{host}:{}/{REPOSITORY}.git", door.port());
        refused(&fixture, &Remote { policy, ..remote(&url) }).await;
    }
}

#[tokio::test]
async fn redirects_to_another_host_are_not_followed_and_get_no_credential() {
    let fixture = Fixture::new().await;
    fixture.commit("first");
    fixture.fetch().await;
    let heard = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = heard.local_addr().unwrap();
    for target in
        [format!("http://{elsewhere}"), format!("http://localhost:{}", elsewhere.port()), "file://".into()]
    {
        let mut door = Door::to(&fixture);
        door.redirect = Some(target);
        let mut remote = remote(&address_of(door.open().await));
        remote.credential = Some(SecretString::from("secret"));
        remote.timeout = Duration::from_secs(10);
        let fetched = fixture.git.fetch(REPOSITORY, &remote).await;
        assert!(matches!(&fetched, Err(SourceError::Refused(why)) if !why.contains("secret")), "{fetched:?}");
    }
    let knocked = tokio::time::timeout(Duration::from_millis(50), heard.accept()).await;
    assert!(knocked.is_err(), "the redirect was followed");
}

#[tokio::test]
async fn unsafe_trees_are_not_fetched() {
    let fixture = Fixture::new().await;
    fixture.write("a", "a");
    let good = fixture.commit("good");
    fixture.fetch().await;
    let old = fixture.object("blob", b"a");
    let blob = fixture.object("blob", b"../../etc");
    let inner = fixture.tree(&[("100644 x", &blob)]);
    let tree = |entries: &[(&str, &str)]| fixture.tree(entries);
    let trees = [
        tree(&[("100644 ..", &blob)]),
        tree(&[("40000 ..", &inner)]),
        tree(&[("100644 .", &blob)]),
        tree(&[("100644 .git", &blob)]),
        tree(&[("40000 .git", &inner)]),
        tree(&[("100644 .GIT", &blob)]),
        tree(&[("40000 .git ", &inner)]),
        tree(&[("40000 git~1", &inner)]),
        tree(&[("40000 .g\u{200c}it", &inner)]),
        tree(&[("100644 a/b", &blob)]),
        tree(&[("100644 ", &blob)]),
        tree(&[("100644 d", &blob), ("120000 d", &blob)]),
        tree(&[("120000 d", &blob), ("40000 d", &inner)]),
        tree(&[("120000 .gitmodules", &blob)]),
        // What was there before is no excuse for what is new beside it.
        tree(&[("100644 a", &old), ("120000 a", &blob)]),
        tree(&[("120000 a", &blob), ("100644 a", &old)]),
        tree(&[("100644 a", &old), ("100644 a", &old)]),
        tree(&[("100644 .git", &blob), ("100644 a", &old)]),
        // Deep below, where only a look at every tree finds it.
        tree(&[("40000 e", &tree(&[("40000 f", &tree(&[("40000 .Git", &inner)]))]))]),
    ];
    for (n, tree) in trees.iter().enumerate() {
        let bad = fixture.commit_tree("bad", tree);
        let fetched = fixture.git.fetch(REPOSITORY, &fixture.remote()).await;
        // A name of no letters is too much for the git of the remote already.
        let is_refused = matches!(fetched, Err(SourceError::Refused(_))) || n == 10 && fetched.is_err();
        assert!(is_refused, "tree {n}: {fetched:?}");
        let seen = fixture.git.list(&fixture.view(), &bad, "").await;
        assert!(matches!(seen, Err(SourceError::NotFound(_))), "tree {n}: {seen:?}");
    }
    let branches = fixture.git.branches(REPOSITORY).await.unwrap();
    assert_eq!(branches.into_iter().map(|(_, at)| at).collect::<Vec<_>>(), [good]);
    let left = std::fs::read_dir(fixture.mirror().join("objects")).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("incoming")));
}

#[tokio::test]
async fn a_remote_that_keeps_objects_back_is_refused() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    let second = fixture.commit("second");
    // Makes the git of the remote believe that the second commit has no parent.
    std::fs::write(fixture.work.join(".git/info/grafts"), format!("{second}\n")).unwrap();
    let fetched = fixture.git.fetch(REPOSITORY, &fixture.remote()).await;
    assert!(
        matches!(&fetched, Err(SourceError::Refused(why)) if why.contains(first.as_str())),
        "{fetched:?}"
    );
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
}

#[tokio::test]
async fn links_are_links_wherever_they_lead() {
    let fixture = Fixture::new().await;
    for (name, target) in
        [("shadow", "/etc/shadow"), ("environ", "/proc/self/environ"), ("up", "../vault.db"), ("self", ".")]
    {
        std::fs::create_dir_all(fixture.work.join("daemons").join(name)).unwrap();
        symlink(target, fixture.work.join("daemons").join(name).join("daemon.yaml")).unwrap();
    }
    symlink("/etc", fixture.work.join("daemons/linked")).unwrap();
    let head = fixture.commit("links");
    fixture.fetch().await;
    let view = fixture.view();
    for name in ["shadow", "environ", "up", "self"] {
        let path = format!("daemons/{name}/daemon.yaml");
        assert_eq!(
            fixture.git.file(&view, &head, &path, 1 << 20).await.unwrap(),
            Some(File::Symlink),
            "{path}"
        );
    }
    assert_eq!(fixture.git.file(&view, &head, "daemons/linked/passwd", 1 << 20).await.unwrap(), None);
    let bounds = ReadBounds { max_bytes: 1 << 20, max_files: 100, max_total: 1 << 30 };
    let read = fixture.git.directories(&view, &head, &["daemons/linked".into()], bounds).await.unwrap();
    assert!(read.is_empty());
}

#[tokio::test]
async fn too_much_is_refused_and_leaves_nothing() {
    let fixture = Fixture::with(|config| config.bounds.fetch_bytes = 100_000).await;
    fixture.write("noise", noise(300_000));
    fixture.commit("first");
    refused(&fixture, &fixture.remote()).await;
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
    let packs = std::fs::read_dir(fixture.mirror().join("objects/pack")).unwrap().count();
    assert_eq!(packs, 0);
}

#[tokio::test]
async fn too_many_objects_are_refused() {
    let fixture = Fixture::with(|config| config.bounds.fetch_objects = 10).await;
    for n in 0..10 {
        fixture.write(&n.to_string(), n.to_string());
    }
    fixture.commit("twelve objects");
    refused(&fixture, &fixture.remote()).await;
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_bomb_is_not_unpacked() {
    // 40 MB of nothing in 40 KB, where an object may have 1 MB.
    let fixture = Fixture::with(|config| config.bounds.object_bytes = 1 << 20).await;
    fixture.write("bomb", vec![0; 40 << 20]);
    fixture.commit("first");
    let fetched = fixture.git.fetch(REPOSITORY, &fixture.remote()).await;
    assert!(fetched.is_err(), "{fetched:?}");
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_very_deep_tree_is_an_error_and_not_a_crash() {
    use gix::objs::Write as _;
    let fixture = Fixture::new().await;
    let before = fixture.commit("before");
    fixture.fetch().await;
    // Put where no git looks at them first.
    let store = gix::odb::loose::Store::at(fixture.mirror().join("objects"), gix::hash::Kind::Sha1);
    let write = |kind, content: &[u8]| store.write_buf(kind, content).unwrap();
    let blob = write(gix::objs::Kind::Blob, b"x");
    let mut tree = write(gix::objs::Kind::Tree, &[b"100644 x\0", blob.as_slice()].concat());
    for _ in 0..1_000 {
        tree = write(gix::objs::Kind::Tree, &[b"40000 d\0", tree.as_slice()].concat());
    }
    let who = "A <a@example.org> 1795341600 +0000";
    let content = format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nm\n");
    let deep = commit(&write(gix::objs::Kind::Commit, content.as_bytes()).to_string());
    let bounds = ReadBounds { max_bytes: 1, max_files: 10, max_total: 1 << 30 };
    let read = fixture.git.directories(&fixture.view(), &deep, &[String::new()], bounds).await;
    assert!(matches!(read, Err(SourceError::Refused(_))), "{read:?}");
    fixture.git.changes(&fixture.view(), Some(&before), &deep).await.unwrap();
    let directory = fixture.path("out");
    std::fs::create_dir(&directory).unwrap();
    let checkout = fixture.git.checkout(REPOSITORY, &deep, &directory).await;
    assert!(matches!(checkout, Err(SourceError::Refused(_))), "{checkout:?}");
}

//! Fetching from a directory, over http, and through a stand-in for ssh.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use git::Ssh;
use ports::source::{Fetched, Source, SourceError};
use secrecy::SecretString;

use crate::fixture::{Fixture, OTHER, REPOSITORY, branch, remote, run_git, text};
use crate::serve::{Door, address_of};

fn refs(fixture: &Fixture, directory: &std::path::Path) -> String {
    let listed = text(&run_git(
        directory,
        ["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags"],
    ));
    let _ = fixture;
    listed
}

/// Everything that can happen to a remote, each time compared with it.
pub(crate) async fn follow(fixture: &Fixture, remote: &ports::source::Remote) {
    let same = || assert_eq!(refs(fixture, &fixture.mirror()), refs(fixture, &fixture.work));
    let fetch = async || fixture.git.fetch(REPOSITORY, remote).await.unwrap();
    let updated = Fetched::Updated { default_branch: Some(branch("main")) };
    fixture.write("a", "a");
    let first = fixture.commit("first");
    assert_eq!(fetch().await, updated);
    same();
    assert_eq!(fetch().await, Fetched::Unchanged);
    fixture.write("b", "b");
    let second = fixture.commit("second");
    fixture.run(["branch", "side/one"]);
    fixture.run(["tag", "-a", "-m", "m", "v1"]);
    assert_eq!(fetch().await, updated);
    same();
    fixture.run(["branch", "-D", "--quiet", "side/one"]);
    fixture.run(["branch", "side"]);
    fixture.run(["tag", "-d", "v1"]);
    fixture.run(["reset", "--hard", "--quiet", first.as_str()]);
    let rewritten = fixture.commit("rewritten");
    fixture.run(["branch", "-D", "--quiet", "side"]);
    assert_eq!(fetch().await, updated);
    same();
    let kept = fixture.in_mirror(["for-each-ref", "--format=%(refname)", "refs/spellbook/kept"]);
    assert_eq!(kept, format!("refs/spellbook/kept/{second}"));
    assert_eq!(fetch().await, Fetched::Unchanged);
    fixture.run(["checkout", "--quiet", "-b", "trunk"]);
    assert_eq!(fetch().await, Fetched::Updated { default_branch: Some(branch("trunk")) });
    assert_eq!(fixture.in_mirror(["symbolic-ref", "HEAD"]), "refs/heads/trunk");
    assert_eq!(fixture.in_mirror(["rev-parse", "trunk"]), rewritten.as_str());
    fixture.in_mirror(["fsck", "--strict"]);
    let left: Vec<_> = std::fs::read_dir(fixture.mirror().join("objects")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().contains("incoming")));
}

#[tokio::test]
async fn a_directory_is_followed() {
    let fixture = Fixture::new().await;
    follow(&fixture, &fixture.remote()).await;
}

/// A server of its own over the working copy's repository, as if it were somebody else's.
async fn served(fixture: &Fixture, change: impl FnOnce(&mut Door)) -> (String, git::Git) {
    let (mut door, theirs) = theirs(fixture);
    change(&mut door);
    (address_of(door.open().await), theirs)
}

/// The door of that server, still closed.
pub(crate) fn theirs(fixture: &Fixture) -> (Door, git::Git) {
    let theirs = git::Git::open(git::Config::new(fixture.path("theirs"))).unwrap();
    std::os::unix::fs::symlink(fixture.work.join(".git"), theirs.path(REPOSITORY)).unwrap();
    (Door { backend: theirs.http(), ..Door::to(fixture) }, theirs)
}

#[tokio::test]
async fn http_is_followed() {
    let fixture = Fixture::new().await;
    let (url, _theirs) = served(&fixture, |_| {}).await;
    follow(&fixture, &remote(&url)).await;
}

#[tokio::test]
async fn a_credential_is_sent_and_stays_secret() {
    const TOKEN: &str = "a-very-secret-token";
    let fixture = Fixture::new().await;
    fixture.commit("first");
    use base64::Engine as _;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
    let (url, _theirs) = served(&fixture, |door| door.wants = Some(format!("Basic {basic}"))).await;
    let mut remote = remote(&url);
    let missing = fixture.git.fetch(REPOSITORY, &remote).await;
    assert!(matches!(missing, Err(SourceError::Unauthorized(_))), "{missing:?}");
    remote.credential = Some(SecretString::from("another-secret"));
    let wrong = fixture.git.fetch(REPOSITORY, &remote).await;
    assert!(matches!(&wrong, Err(SourceError::Unauthorized(why)) if !why.contains("secret")), "{wrong:?}");
    remote.credential = Some(SecretString::from(TOKEN));
    fixture.git.fetch(REPOSITORY, &remote).await.unwrap();
    assert_eq!(fixture.git.branches(REPOSITORY).await.unwrap().len(), 1);
    for secret in [TOKEN, &basic] {
        let found = std::process::Command::new("grep")
            .args(["-r", "-l", secret])
            .arg(fixture.path("repositories"))
            .output();
        assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "", "the token is on the disk");
    }
}

#[tokio::test]
async fn ssh_is_followed_with_nothing_of_the_users_own() {
    let fixture = Fixture::with(|config| {
        let root = config.root.parent().unwrap().to_owned();
        config.ssh =
            Some(Ssh { program: root.join("ssh"), key: root.join("key"), known_hosts: root.join("hosts") });
    })
    .await;
    // Does what sshd does: gives the last argument to a shell.
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" > {}\nenv > {}\nfor last; do :; done\nexec sh -c \"$last\"\n",
        fixture.path("arguments").display(),
        fixture.path("environment").display()
    );
    std::fs::write(fixture.path("ssh"), script).unwrap();
    std::fs::set_permissions(fixture.path("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    follow(&fixture, &remote(&format!("ssh://git@localhost:2222{}", fixture.work.display()))).await;
    let arguments = std::fs::read_to_string(fixture.path("arguments")).unwrap();
    for expect in [
        "/dev/null",
        "BatchMode=yes",
        "ProxyCommand=none",
        "HostKeyAlias=localhost",
        "StrictHostKeyChecking=yes",
    ] {
        assert!(arguments.lines().any(|line| line == expect), "{expect} is not in {arguments}");
    }
    assert!(
        arguments.contains("HostName=127.0.0.1\n") || arguments.contains("HostName=::1\n"),
        "{arguments}"
    );
    let environment = std::fs::read_to_string(fixture.path("environment")).unwrap();
    assert!(!environment.contains("HOME=") && !environment.contains("SSH_AUTH_SOCK"), "{environment}");
}

#[tokio::test]
async fn ssh_without_a_key_is_refused() {
    let fixture = Fixture::new().await;
    let fetched = fixture.git.fetch(REPOSITORY, &remote("ssh://git@localhost/a")).await;
    assert!(matches!(fetched, Err(SourceError::Refused(_))), "{fetched:?}");
}

#[tokio::test]
async fn many_refs_at_once() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    let input: String = (0..300).map(|n| format!("create refs/heads/b{n} {first}\n")).collect();
    std::fs::write(fixture.path("refs"), input).unwrap();
    let script = format!("git update-ref --stdin < {}", fixture.path("refs").display());
    assert!(
        std::process::Command::new("sh")
            .arg("-c")
            .arg(script)
            .current_dir(&fixture.work)
            .status()
            .unwrap()
            .success()
    );
    fixture.fetch().await;
    assert_eq!(fixture.git.branches(REPOSITORY).await.unwrap().len(), 301);
    let second = fixture.commit("second");
    fixture.run(["branch", "--force", "b7", second.as_str()]);
    fixture.fetch().await;
    assert_eq!(refs(&fixture, &fixture.mirror()), refs(&fixture, &fixture.work));
    let few = Fixture::with(|config| config.bounds.refs = 100).await;
    let refused = few.git.fetch(REPOSITORY, &fixture.remote()).await;
    assert!(matches!(refused, Err(SourceError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn an_empty_remote_is_no_error_and_an_emptied_one_removes_nothing() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.fetch().await, Fetched::Unchanged);
    fixture.commit("first");
    fixture.fetch().await;
    std::fs::remove_dir_all(fixture.work.join(".git")).unwrap();
    fixture.run(["init", "--quiet", "--initial-branch=main"]);
    let emptied = fixture.git.fetch(REPOSITORY, &fixture.remote()).await;
    assert!(matches!(emptied, Err(SourceError::Unreachable(_))), "{emptied:?}");
    assert_eq!(fixture.git.branches(REPOSITORY).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_what_does_not_answer_is_unreachable() {
    let fixture = Fixture::new().await;
    let missing =
        fixture.git.fetch(REPOSITORY, &remote(&fixture.path("nowhere").display().to_string())).await;
    assert!(matches!(missing, Err(SourceError::NotFound(_))), "{missing:?}");
    let (url, _theirs) = served(&fixture, |_| {}).await;
    let missing = fixture
        .git
        .fetch(REPOSITORY, &remote(&url.replace(&REPOSITORY.to_string(), &OTHER.to_string())))
        .await;
    assert!(matches!(missing, Err(SourceError::NotFound(_))), "{missing:?}");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = fixture.git.fetch(REPOSITORY, &remote(&format!("http://{closed}/a"))).await;
    assert!(matches!(refused, Err(SourceError::Unreachable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_remote_that_hangs_is_given_up() {
    let fixture = Fixture::new().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut hanging = remote(&format!("http://{}/a", silent.local_addr().unwrap()));
    hanging.timeout = Duration::from_millis(300);
    let fetched = fixture.git.fetch(REPOSITORY, &hanging).await;
    assert!(matches!(fetched, Err(SourceError::Unreachable(_))), "{fetched:?}");
    // The turn of the repository is free again.
    fixture.commit("first");
    tokio::time::timeout(Duration::from_secs(20), fixture.fetch()).await.unwrap();
}

#[tokio::test]
async fn packs_are_put_together() {
    let fixture = Fixture::new().await;
    for n in 0..52 {
        fixture.write("a", n.to_string());
        fixture.commit(&n.to_string());
        fixture.fetch().await;
    }
    let packs = std::fs::read_dir(fixture.mirror().join("objects/pack")).unwrap().flatten();
    let packs = packs.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "idx")).count();
    assert!(packs < 10, "{packs} packs");
    assert!(!fixture.git.maintain(REPOSITORY).await.unwrap());
    let head = fixture.head();
    assert_eq!(fixture.git.list(&fixture.view(), &head, "").await.unwrap().len(), 1);
    fixture.in_mirror(["fsck", "--strict"]);
}

//! Bringing the commit of a pull request, which forges keep under a ref of its own.

use std::time::Duration;

use domain::name::Commit;
use ports::source::{Fetched, Remote, Source, SourceError};

use crate::fetch::theirs;
use crate::fixture::{Fixture, REPOSITORY, remote};
use crate::serve::{Door, address_of, git};

const PULL: &str = "refs/pull/7/head";

/// Points a ref of the working copy's repository at something.
fn point(fixture: &Fixture, name: &str, at: &str) {
    fixture.run(["update-ref", name, at]);
}

/// A commit that is on no branch.
fn aside(fixture: &Fixture, message: &str) -> Commit {
    fixture.run(["checkout", "--quiet", "--detach", "main"]);
    fixture.write("pull", message);
    let made = fixture.commit(message);
    fixture.run(["checkout", "--quiet", "main"]);
    made
}

async fn bring(fixture: &Fixture, remote: &Remote, name: &str) -> Result<Commit, SourceError> {
    fixture.git.bring(REPOSITORY, remote, name).await
}

fn packs(fixture: &Fixture) -> usize {
    let packs = std::fs::read_dir(fixture.mirror().join("objects/pack")).unwrap().flatten();
    packs.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "pack")).count()
}

fn brought(fixture: &Fixture) -> String {
    fixture.in_mirror(["for-each-ref", "--format=%(refname) %(objectname)", "refs/spellbook/brought"])
}

/// Everything that a pull request goes through.
async fn follow(fixture: &Fixture, remote: &Remote) {
    fixture.write("a", "a");
    fixture.commit("first");
    assert!(matches!(bring(fixture, remote, PULL).await, Err(SourceError::NotFound(_))));
    fixture.git.fetch(REPOSITORY, remote).await.unwrap();
    let one = aside(fixture, "one");
    point(fixture, PULL, one.as_str());
    point(fixture, "refs/pull/8/head", aside(fixture, "of another").as_str());
    assert_eq!(bring(fixture, remote, PULL).await.unwrap(), one);
    assert_eq!(fixture.git.list(&fixture.view(), &one, "").await.unwrap().len(), 2);
    let before = packs(fixture);
    assert_eq!(bring(fixture, remote, PULL).await.unwrap(), one);
    assert_eq!(packs(fixture), before, "what was here was sent again");
    // What a fetch removes is never this.
    fixture.run(["branch", "gone"]);
    fixture.git.fetch(REPOSITORY, remote).await.unwrap();
    fixture.run(["branch", "-D", "--quiet", "gone"]);
    assert_ne!(fixture.git.fetch(REPOSITORY, remote).await.unwrap(), Fetched::Unchanged);
    assert_eq!(brought(fixture), format!("refs/spellbook/brought/pull/7/head {one}"));
    assert_eq!(fixture.git.fetch(REPOSITORY, remote).await.unwrap(), Fetched::Unchanged);
    fixture.in_mirror(["gc", "--quiet", "--prune=now"]);
    assert_eq!(fixture.git.list(&fixture.view(), &one, "").await.unwrap().len(), 2);
    // A force-push moves it; what a run refers to is kept by whoever refers to it.
    fixture.git.keep(REPOSITORY, &one).await.unwrap();
    let two = aside(fixture, "two");
    point(fixture, PULL, two.as_str());
    assert_eq!(bring(fixture, remote, PULL).await.unwrap(), two);
    assert_eq!(brought(fixture), format!("refs/spellbook/brought/pull/7/head {two}"));
    fixture.in_mirror(["gc", "--quiet", "--prune=now"]);
    for commit in [&one, &two] {
        assert_eq!(fixture.git.list(&fixture.view(), commit, "").await.unwrap().len(), 2);
    }
    // One that is on a branch as well need not be sent.
    point(fixture, PULL, "main");
    let before = packs(fixture);
    assert_eq!(bring(fixture, remote, PULL).await.unwrap(), fixture.head());
    assert_eq!(packs(fixture), before);
    fixture.run(["update-ref", "-d", PULL]);
    let gone = bring(fixture, remote, PULL).await;
    assert!(matches!(gone, Err(SourceError::NotFound(_))), "{gone:?}");
    fixture.in_mirror(["fsck", "--strict"]);
}

#[tokio::test]
async fn a_pull_request_is_followed_in_a_directory() {
    let fixture = Fixture::new().await;
    follow(&fixture, &fixture.remote()).await;
}

#[tokio::test]
async fn a_pull_request_is_followed_over_http() {
    let fixture = Fixture::new().await;
    let (door, _theirs) = theirs(&fixture);
    let url = address_of(door.open().await);
    follow(&fixture, &remote(&url)).await;
}

#[tokio::test]
async fn only_that_ref_is_asked_for() {
    let fixture = Fixture::with(|config| config.bounds.refs = 2).await;
    let first = fixture.commit("first");
    for n in 0..20 {
        point(&fixture, &format!("refs/pull/{n}/head"), first.as_str());
    }
    assert_eq!(bring(&fixture, &fixture.remote(), PULL).await.unwrap(), first);
    assert!(fixture.git.branches(REPOSITORY).await.unwrap().is_empty());
    assert_eq!(brought(&fixture), format!("refs/spellbook/brought/pull/7/head {first}"));
}

#[tokio::test]
async fn what_is_no_commit_is_refused() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    point(&fixture, PULL, first.as_str());
    bring(&fixture, &fixture.remote(), PULL).await.unwrap();
    let blob = fixture.object("blob", b"x");
    let tree = fixture.tree(&[("100644 x", &blob)]);
    fixture.run(["tag", "-a", "-m", "m", "v1"]);
    let tag = fixture.run(["rev-parse", "v1"]);
    for other in [blob, tree, tag] {
        point(&fixture, PULL, &other);
        let refused = bring(&fixture, &fixture.remote(), PULL).await;
        assert!(matches!(refused, Err(SourceError::Refused(_))), "{refused:?}");
        assert_eq!(brought(&fixture), format!("refs/spellbook/brought/pull/7/head {first}"));
    }
}

#[tokio::test]
async fn unsafe_trees_are_not_brought() {
    let fixture = Fixture::new().await;
    fixture.commit("first");
    let blob = fixture.object("blob", b"x");
    let bad = fixture.commit_tree("bad", &fixture.tree(&[("100644 .git", &blob)]));
    point(&fixture, PULL, bad.as_str());
    let refused = bring(&fixture, &fixture.remote(), PULL).await;
    assert!(matches!(refused, Err(SourceError::Refused(_))), "{refused:?}");
    assert_eq!(brought(&fixture), "");
    assert!(fixture.git.list(&fixture.view(), &bad, "").await.is_err());
}

#[tokio::test]
async fn names_that_are_none_are_refused_before_anyone_is_asked() {
    let fixture = Fixture::new().await;
    let mut nobody = remote("http://127.0.0.1:1/a");
    nobody.timeout = Duration::from_secs(10);
    for name in [
        "",
        "HEAD",
        "pull/7/head",
        "refs/",
        "refs/heads/main",
        "refs/tags/v1",
        "refs/spellbook/kept/x",
        "refs/pull/*/head",
        "refs/pull/7/head:refs/heads/main",
        "+refs/pull/7/head",
        "^refs/pull/7/head",
        "--upload-pack=touch X",
        "refs/--upload-pack=x y",
        "refs/pull/../heads/main",
        "refs/pull//head",
        "refs/pull/7/head.lock",
        "refs/pull/7/.head",
        "refs/pull/7/head\n",
        "refs/pull/7/head\0",
        "refs/pull/@{1}",
        "0123456789abcdef0123456789abcdef01234567",
    ] {
        let refused = bring(&fixture, &nobody, name).await;
        assert!(matches!(refused, Err(SourceError::Refused(_))), "{name:?}: {refused:?}");
    }
    let asked = bring(&fixture, &nobody, PULL).await;
    assert!(matches!(asked, Err(SourceError::Unreachable(_))), "{asked:?}");
}

#[tokio::test]
async fn what_was_brought_is_not_shown_to_those_who_clone() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    point(&fixture, PULL, first.as_str());
    bring(&fixture, &fixture.remote(), PULL).await.unwrap();
    let url = address_of(Door::to(&fixture).open().await);
    let listed = git(fixture.work.clone(), &["ls-remote", &url]).await;
    assert_eq!(crate::fixture::text(&listed), "");
}

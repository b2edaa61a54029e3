//! Commits, branches, merges: made by us, understood by git.

use domain::name::Commit;
use ports::source::{CommitSpec, MergeSpec, Merged, Moved, Source, SourceError};

use crate::fixture::{AT, Fixture, REPOSITORY, branch, commit};

const ABSENT: &str = "1111111111111111111111111111111111111111";

#[tokio::test]
async fn the_same_arguments_make_the_same_commit() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    fixture.write("a", "1");
    fixture.commit("second");
    fixture.write("a", "2");
    let third = fixture.commit("third");
    fixture.fetch().await;
    let make = async |message: &str| {
        let spec = CommitSpec { repository: REPOSITORY, parent: &first, tree_of: &third, message, at: AT };
        fixture.git.commit(spec).await.unwrap()
    };
    let made = make("Fix it\n\nSpellbook-Run: x").await;
    assert_eq!(make("Fix it\n\nSpellbook-Run: x").await, made);
    assert_ne!(make("Fix it").await, made);
    let shown = fixture.in_mirror(["show", "--no-patch", "--format=%P %T %an <%ae> %at%n%B", made.as_str()]);
    let tree = fixture.run(["rev-parse", "HEAD^{tree}"]);
    assert_eq!(
        shown.trim_end(),
        format!("{first} {tree} Spellbook <spellbook@localhost> 1795341600\nFix it\n\nSpellbook-Run: x")
    );
    fixture.in_mirror(["fsck", "--strict", "--no-dangling"]);
}

#[tokio::test]
async fn a_branch_moves_only_from_where_it_is() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    let second = fixture.commit("second");
    fixture.fetch().await;
    let name = branch("spellbook/review/12");
    let go = async |from: Option<&Commit>, to: Option<&Commit>| {
        fixture.git.move_branch(REPOSITORY, &name, from, to).await.unwrap()
    };
    let at = || fixture.in_mirror(["for-each-ref", "--format=%(objectname)", "refs/heads/spellbook"]);
    assert_eq!(go(None, None).await, Moved::Moved);
    assert_eq!(go(Some(&first), Some(&second)).await, Moved::Stale { actual: None });
    assert_eq!(go(None, Some(&first)).await, Moved::Moved);
    assert_eq!(go(None, Some(&second)).await, Moved::Stale { actual: Some(first.clone()) });
    assert_eq!(go(Some(&first), Some(&second)).await, Moved::Moved);
    assert_eq!(at(), second.as_str());
    assert_eq!(go(Some(&second), None).await, Moved::Moved);
    assert_eq!(at(), "");
    let absent = commit(ABSENT);
    let moved = fixture.git.move_branch(REPOSITORY, &name, None, Some(&absent)).await;
    assert!(matches!(moved, Err(SourceError::NotFound(_))), "{moved:?}");
}

#[tokio::test]
async fn many_at_once_and_one_wins() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    let commits: Vec<Commit> = (0..8).map(|n| fixture.commit(&n.to_string())).collect();
    fixture.fetch().await;
    let name = branch("contested");
    fixture.git.move_branch(REPOSITORY, &name, None, Some(&first)).await.unwrap();
    let moves = commits.iter().map(|to| fixture.git.move_branch(REPOSITORY, &name, Some(&first), Some(to)));
    let results = futures::future::join_all(moves).await;
    let won = results.iter().filter(|result| matches!(result, Ok(Moved::Moved))).count();
    let stale = results.iter().filter(|result| matches!(result, Ok(Moved::Stale { .. }))).count();
    assert_eq!((won, stale), (1, 7), "{results:?}");
}

#[tokio::test]
async fn a_rewritten_branch_loses_nothing() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    let second = fixture.commit("second");
    fixture.run(["checkout", "--quiet", "-b", "other", first.as_str()]);
    let other = fixture.commit("other");
    fixture.fetch().await;
    let name = branch("main");
    let kept = || fixture.in_mirror(["for-each-ref", "--format=%(refname)", "refs/spellbook/kept"]);
    fixture.git.move_branch(REPOSITORY, &name, Some(&second), Some(&other)).await.unwrap();
    assert_eq!(kept(), format!("refs/spellbook/kept/{second}"));
    fixture.git.keep(REPOSITORY, &first).await.unwrap();
    fixture.git.keep(REPOSITORY, &first).await.unwrap();
    assert_eq!(kept().lines().count(), 2);
    let absent = fixture.git.keep(REPOSITORY, &commit(ABSENT)).await;
    assert!(matches!(absent, Err(SourceError::NotFound(_))), "{absent:?}");
}

/// `main` and `side` from a common start, each with its own file; gives start, main, side.
async fn forked(main: (&str, &str), side: (&str, &str)) -> (Fixture, Commit, Commit, Commit) {
    let fixture = Fixture::new().await;
    fixture.write("both", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    let start = fixture.commit("start");
    fixture.run(["checkout", "--quiet", "-b", "side"]);
    fixture.write(side.0, side.1);
    let side = fixture.commit("side");
    fixture.run(["checkout", "--quiet", "main"]);
    fixture.write(main.0, main.1);
    let main = fixture.commit("main");
    fixture.fetch().await;
    (fixture, start, main, side)
}

async fn merge(fixture: &Fixture, base: &Commit, head: &Commit) -> Result<Merged, SourceError> {
    fixture.git.merge(MergeSpec { repository: REPOSITORY, base, head, message: "Merge", at: AT }).await
}

#[tokio::test]
async fn merging_goes_forward_when_it_can() {
    let (fixture, start, main, _) = forked(("a", "a"), ("b", "b")).await;
    assert_eq!(merge(&fixture, &start, &main).await.unwrap(), Merged::Merged(main.clone()));
    assert_eq!(merge(&fixture, &main, &start).await.unwrap(), Merged::Merged(main.clone()));
    assert_eq!(merge(&fixture, &main, &main).await.unwrap(), Merged::Merged(main.clone()));
}

#[tokio::test]
async fn two_branches_go_back_to_what_git_says() {
    let (fixture, start, main, side) = forked(("a", "a"), ("b", "b")).await;
    let oracle = fixture.run(["merge-base", main.as_str(), side.as_str()]);
    assert_eq!(oracle.trim(), start.as_str());
    fixture.run(["checkout", "--quiet", "--orphan", "other"]);
    let other = fixture.commit("other");
    fixture.fetch().await;
    for (one, two, expect) in [
        (&main, &side, Some(&start)),
        (&side, &main, Some(&start)),
        (&main, &start, Some(&start)),
        (&main, &main, Some(&main)),
        (&main, &other, None),
    ] {
        let found = fixture.git.merge_base(REPOSITORY, one, two).await.unwrap();
        assert_eq!(found.as_ref(), expect, "{one} and {two}");
    }
    let absent = fixture.git.merge_base(REPOSITORY, &main, &commit(ABSENT)).await;
    assert!(matches!(absent, Err(SourceError::NotFound(_))), "{absent:?}");
}

#[tokio::test]
async fn a_merge_has_the_tree_that_git_makes() {
    let changed = "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n";
    let (fixture, _, main, side) =
        forked(("both", changed), ("both", "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n")).await;
    let Merged::Merged(merged) = merge(&fixture, &main, &side).await.unwrap() else { panic!("a conflict") };
    fixture.run(["merge", "--quiet", "--no-ff", "-m", "git's", "side"]);
    let tree = fixture.run(["rev-parse", "HEAD^{tree}"]);
    let ours = fixture.in_mirror(["show", "--no-patch", "--format=%T %P", merged.as_str()]);
    assert_eq!(ours, format!("{tree} {main} {side}"));
    assert_eq!(merge(&fixture, &main, &side).await.unwrap(), Merged::Merged(merged));
}

#[tokio::test]
async fn conflicts_are_named_and_attributes_do_not_hide_them() {
    let (fixture, _, main, side) = forked(("both", "main\n"), ("both", "side\n")).await;
    assert_eq!(merge(&fixture, &main, &side).await.unwrap(), Merged::Conflict(vec!["both".into()]));
    fixture.run(["checkout", "--quiet", "--orphan", "alone"]);
    let alone = fixture.commit("alone");
    fixture.fetch().await;
    let unrelated = merge(&fixture, &main, &alone).await;
    assert!(matches!(unrelated, Err(SourceError::Refused(_))), "{unrelated:?}");
}

#[tokio::test]
async fn a_lock_whose_owner_is_gone_holds_nobody_up() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    let lock = |name: &str, age: &str| {
        let path = fixture.mirror().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        let touched = std::process::Command::new("touch").args(["-d", age]).arg(&path).status();
        assert!(touched.unwrap().success());
        path
    };
    lock("refs/heads/left/behind.lock", "5 minutes ago");
    lock("packed-refs.lock", "5 minutes ago");
    let moved =
        fixture.git.move_branch(REPOSITORY, &branch("left/behind"), None, Some(&first)).await.unwrap();
    assert_eq!(moved, Moved::Moved);
    // One that is in use is waited for, and not broken.
    let young = lock("refs/heads/young.lock", "now");
    let moved = fixture.git.move_branch(REPOSITORY, &branch("young"), None, Some(&first)).await;
    assert!(matches!(moved, Err(SourceError::Broken(_))), "{moved:?}");
    assert!(young.exists());
    let old = lock("objects/incoming-old/pack/x", "now").parent().unwrap().parent().unwrap().to_owned();
    let touched = std::process::Command::new("touch").args(["-d", "2 days ago"]).arg(&old).status();
    assert!(touched.unwrap().success());
    fixture.git.maintain(REPOSITORY).await.unwrap();
    assert!(!old.exists());
}

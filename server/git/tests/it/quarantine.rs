//! A push that is not accepted yet looks the same as it will once it is.

use git::HOOK_PROGRAM;
use git::hook::{HookInput, refuse_hidden};
use ports::source::{ReadBounds, Source, SourceError, View};

use crate::fixture::{Fixture, REPOSITORY, run_git, text};
use crate::serve::{Door, address_of, hook};

const BOUNDS: ReadBounds = ReadBounds { max_bytes: 1 << 20, max_files: 1_000, max_total: 1 << 30 };

/// A hook that hands its input over through one pipe and waits for the verdict from another.
struct Waiting {
    ask: std::path::PathBuf,
    answer: std::path::PathBuf,
}

impl Waiting {
    fn in_hooks_of(fixture: &Fixture) -> (Self, String) {
        let (ask, answer) = (fixture.path("ask"), fixture.path("answer"));
        for pipe in [&ask, &answer] {
            assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let script = format!(
            "[ \"$2\" = pre-receive ] || exit 0\n{{ echo \"$GIT_QUARANTINE_PATH\"; cat; }} > {}\nread verdict < {}\nexit \"$verdict\"",
            ask.display(),
            answer.display()
        );
        let program = hook(fixture, &script);
        (Self { ask, answer }, program)
    }

    /// What the hook of a push was given.
    async fn input(&self, pushing: &mut tokio::task::JoinHandle<String>) -> HookInput {
        let ask = self.ask.clone();
        let told = tokio::select! {
            told = tokio::task::spawn_blocking(move || std::fs::read_to_string(ask).unwrap()) => told.unwrap(),
            pushed = pushing => panic!("the push ended before its hook: {pushed:?}"),
        };
        let (quarantine, stdin) = told.split_once('\n').unwrap();
        let quarantine = quarantine.to_owned();
        HookInput::from_environment(stdin, |name| (name == "GIT_QUARANTINE_PATH").then(|| quarantine.clone()))
            .unwrap()
    }

    async fn decide(&self, verdict: &'static str) {
        let answer = self.answer.clone();
        tokio::task::spawn_blocking(move || std::fs::write(answer, verdict).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn reads_are_the_same_before_and_after() {
    let fixture = Fixture::new().await;
    fixture.write("daemons/a/daemon.yaml", "1\n");
    fixture.write("daemons/b/daemon.yaml", "1\n");
    let first = fixture.commit("first");
    fixture.fetch().await;
    fixture.write("daemons/a/daemon.yaml", "2\n");
    fixture.write("new", "x");
    let second = fixture.commit("second");
    fixture.run(["checkout", "--quiet", "-b", "rewritten", first.as_str()]);
    let third = fixture.commit("third");
    let mut door = Door::to(&fixture);
    let (waiting, program) = Waiting::in_hooks_of(&fixture);
    door.hooks = vec![(HOOK_PROGRAM.into(), program)];
    let url = address_of(door.open().await);
    let push = |refspec: &'static str| {
        let (work, url) = (fixture.work.clone(), url.clone());
        tokio::task::spawn_blocking(move || {
            text(&run_git(&work, ["push", "--quiet", "--force", &url, refspec]))
        })
    };

    let mut pushing = push("main");
    let input = waiting.input(&mut pushing).await;
    assert_eq!(refuse_hidden(&input.updates), None);
    assert_eq!(input.updates.len(), 1);
    assert_eq!((input.updates[0].old.as_ref(), input.updates[0].new.as_ref()), (Some(&first), Some(&second)));
    let before = View { repository: REPOSITORY, quarantine: input.quarantine.clone() };
    assert!(before.quarantine.is_some());
    let hidden = fixture.git.list(&View::of(REPOSITORY), &second, "").await;
    assert!(matches!(hidden, Err(SourceError::NotFound(_))), "{hidden:?}");
    let wanted = ["daemons/a".to_owned(), "daemons/b".to_owned(), String::new()];
    let read = async |view: &View| {
        (
            fixture.git.changes(view, Some(&first), &second).await.unwrap(),
            fixture.git.directories(view, &second, &wanted, BOUNDS).await.unwrap(),
            fixture.git.list(view, &second, "daemons").await.unwrap(),
            fixture.git.file(view, &second, "new", 10).await.unwrap(),
        )
    };
    let seen_before = read(&before).await;
    fixture.git.keep_replaced(&before, &input.updates).await.unwrap();
    waiting.decide("0\n").await;
    pushing.await.unwrap();
    assert_eq!(read(&View::of(REPOSITORY)).await, seen_before);
    assert_eq!(fixture.in_mirror(["for-each-ref", "refs/spellbook/kept"]), "", "nothing was replaced");
    let over = fixture.git.list(&before, &second, "").await;
    assert!(matches!(over, Err(SourceError::NotFound(_))), "{over:?}");

    let mut pushing = push("rewritten:main");
    let input = waiting.input(&mut pushing).await;
    let view = View { repository: REPOSITORY, quarantine: input.quarantine.clone() };
    fixture.git.keep_replaced(&view, &input.updates).await.unwrap();
    waiting.decide("0\n").await;
    pushing.await.unwrap();
    let kept = fixture.in_mirror(["for-each-ref", "--format=%(refname)", "refs/spellbook/kept"]);
    assert_eq!(kept, format!("refs/spellbook/kept/{second}"));
    assert_eq!(fixture.in_mirror(["rev-parse", "main"]), third.as_str());
}

#[tokio::test]
async fn only_a_push_to_this_repository_is_looked_into() {
    let fixture = Fixture::new().await;
    let first = fixture.commit("first");
    fixture.fetch().await;
    let objects = fixture.mirror().join("objects");
    let elsewhere = fixture.path("tmp_objdir-elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    for place in [
        elsewhere,
        fixture.work.join(".git/objects"),
        objects.join("pack"),
        objects.join("tmp_objdir-x/../../../../work/.git/objects"),
        "/etc".into(),
        "/".into(),
        objects.clone(),
    ] {
        std::fs::create_dir_all(objects.join("tmp_objdir-x")).unwrap();
        let view = View { repository: REPOSITORY, quarantine: Some(place.clone()) };
        let read = fixture.git.list(&view, &first, "").await;
        assert!(matches!(read, Err(SourceError::Refused(_))), "{}: {read:?}", place.display());
    }
    let linked = objects.join("tmp_objdir-linked");
    std::os::unix::fs::symlink(fixture.work.join(".git/objects"), &linked).unwrap();
    let view = View { repository: REPOSITORY, quarantine: Some(linked) };
    assert!(matches!(fixture.git.list(&view, &first, "").await, Err(SourceError::Refused(_))));
}

//! Revisions and the list of daemons.

use domain::event::EventKind;
use domain::name::{Branch, DaemonId};
use domain::repository::{BranchRole, Repository};
use domain::revision::{Revision, RevisionContent};
use domain::run::{Failure, RunOutcome, RunStatus};
use domain::trigger::{Trigger, TriggerKind};
use ports::clock::Clock;
use ports::store::repositories::{Advanced, BranchAdvance, DaemonFilter, DaemonRow};
use ports::store::runs::Finish;
use ports::store::{Page, Store, StoreError};

use super::repositories::advance;
use super::scene::{ANSWERS, Scene, all_pages};
use crate::{FixedClock, build};

/// Moves a branch, from wherever it is, to a commit that makes these revisions.
async fn moved(scene: Scene<'_>, branch: &str, role: BranchRole, to: u32, revisions: &[Revision]) {
    let heads = scene.store.branch_list(scene.repository).await.expect(ANSWERS);
    let from = heads.into_iter().find(|head| head.branch.as_str() == branch).map(|head| head.commit);
    let advance = BranchAdvance {
        branch: build::name(branch),
        role,
        from,
        revisions: revisions.to_vec(),
        ..advance(&scene.repository().await, None, Some(to), scene.clock)
    };
    assert_eq!(scene.store.branch_advance(&advance).await.expect(ANSWERS), Advanced::Recorded);
}

async fn deployed(scene: Scene<'_>, to: u32, revisions: &[Revision]) {
    moved(scene, "main", BranchRole::Deploy, to, revisions).await;
}

fn on(branch: &str, revision: Revision) -> Revision {
    Revision { branch: build::name(branch), ..revision }
}

async fn current(store: &dyn Store, repository: &Repository, daemon: &str, branch: &str) -> Option<Revision> {
    let (daemon, branch) = (build::name::<DaemonId>(daemon), build::name::<Branch>(branch));
    store.revision_current(repository.id, &daemon, &branch).await.expect(ANSWERS)
}

/// On a branch that is gone nothing is current, nothing waits for events; the history stays.
pub async fn nothing_is_current_on_a_branch_that_is_gone(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let revision = build::revision(clock, &repository, "review", 1);
    deployed(scene, 1, std::slice::from_ref(&revision)).await;
    let gone = advance(&repository, Some(1), None, clock);
    assert_eq!(store.branch_advance(&gone).await.expect(ANSWERS), Advanced::Recorded);

    assert_eq!(current(store, &repository, "review", "main").await, None);
    let main = build::name("main");
    assert_eq!(store.revision_currents(repository.id, &main).await.expect(ANSWERS), []);
    assert_eq!(store.revision_triggered(repository.id, &main, EventKind::Push).await.expect(ANSWERS), []);
    assert_eq!(store.revision_get(revision.id).await.expect(ANSWERS), Some(revision));
}

/// The newest revision of a daemon on a branch is its current one; other branches have their own.
pub async fn the_newest_revision_is_current(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let first = build::revision(clock, &repository, "review", 1);
    let second = build::revision(clock, &repository, "review", 2);
    let other = build::revision(clock, &repository, "lint", 2);
    let fork = on("fork", build::revision(clock, &repository, "review", 1));
    deployed(scene, 2, &[first.clone(), second.clone(), other.clone()]).await;
    moved(scene, "fork", BranchRole::Fork, 1, std::slice::from_ref(&fork)).await;

    assert_eq!(current(store, &repository, "review", "main").await, Some(second.clone()));
    assert_eq!(current(store, &repository, "review", "fork").await, Some(fork.clone()));
    assert_eq!(current(store, &repository, "nobody", "main").await, None);
    let currents = store.revision_currents(repository.id, &build::name("main")).await.expect(ANSWERS);
    assert_eq!(currents, [other, second]);
    assert_eq!(store.revision_get(first.id).await.expect(ANSWERS), Some(first));
}

/// It is known whether any daemon that is deployed is invalid; forks and what is gone do not count.
pub async fn an_invalid_daemon_is_known(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let any = async || store.revision_any_invalid(repository.id).await.expect(ANSWERS);
    let broken = |daemon: &str, commit| {
        let revision = build::revision(clock, &repository, daemon, commit);
        let digest = revision.content.digest().expect("it is valid").clone();
        let (directory, problems) = (format!("daemons/{daemon}"), "it is broken".to_owned());
        Revision { content: RevisionContent::Invalid { digest, directory, problems }, ..revision }
    };
    deployed(scene, 1, &[build::revision(clock, &repository, "review", 1)]).await;
    moved(scene, "fork", BranchRole::Fork, 2, &[on("fork", broken("review", 2))]).await;
    assert!(!any().await);
    deployed(scene, 3, &[broken("review", 3), broken("lint", 3)]).await;
    assert!(any().await);
    deployed(scene, 4, &[build::revision(clock, &repository, "review", 4)]).await;
    assert!(any().await, "`lint` still is");
    let gone = build::revision(clock, &repository, "lint", 5);
    deployed(scene, 5, &[Revision { content: RevisionContent::Removed, ..gone }]).await;
    assert!(!any().await);
}

/// An identical revision that is there stays, and is the current one again when the branch goes back.
pub async fn going_back_makes_the_old_revision_current(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let first = build::revision(clock, &repository, "review", 1);
    let second = build::revision(clock, &repository, "review", 2);
    deployed(scene, 1, std::slice::from_ref(&first)).await;
    deployed(scene, 2, std::slice::from_ref(&second)).await;
    let again = build::revision(clock, &repository, "review", 1);
    deployed(scene, 1, std::slice::from_ref(&again)).await;

    assert_eq!(current(store, &repository, "review", "main").await, Some(first.clone()));
    assert_eq!(store.revision_get(again.id).await.expect(ANSWERS), None);
    let daemon = build::name("review");
    let history = store.revision_history(repository.id, &daemon, None, &Page::first(9)).await.expect(ANSWERS);
    assert_eq!(history, [second, first]);
}

/// Removed daemons are still current, as removed.
pub async fn a_removed_daemon_is_current_as_removed(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let valid = build::revision(clock, &repository, "review", 1);
    let removed =
        Revision { content: RevisionContent::Removed, ..build::revision(clock, &repository, "review", 2) };
    let broken = Revision {
        content: RevisionContent::Invalid {
            digest: build::digest(3),
            directory: String::new(),
            problems: "error[SB0101]: é\n".to_owned(),
        },
        ..build::revision(clock, &repository, "broken", 2)
    };
    deployed(scene, 2, &[valid, removed.clone(), broken.clone()]).await;
    let currents = store.revision_currents(repository.id, &build::name("main")).await.expect(ANSWERS);
    assert_eq!(currents, [broken.clone(), removed]);
    let listed = store.daemon_list(&DaemonFilter::default(), &Page::first(9)).await.expect(ANSWERS);
    let listed: Vec<_> = listed.into_iter().map(|row| row.revision).collect();
    assert_eq!(listed, [broken], "what is gone is no longer listed");
}

/// A revision is found by its commit on whichever branch, and in the history of one or of all.
pub async fn a_revision_is_found_by_its_commit(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let main: Vec<_> = (1..=5).map(|at| build::revision(clock, &repository, "review", at)).collect();
    let fork = on("fork", build::revision(clock, &repository, "review", 9));
    deployed(scene, 5, &main).await;
    moved(scene, "fork", BranchRole::Fork, 9, std::slice::from_ref(&fork)).await;

    let daemon = build::name::<DaemonId>("review");
    for (commit, expect) in [(3, Some(main[2].clone())), (9, Some(fork.clone())), (8, None)] {
        let found = store.revision_at(repository.id, &daemon, &build::commit(commit)).await.expect(ANSWERS);
        assert_eq!(found, expect);
    }
    let history = async |branch: Option<&str>| {
        let branch = branch.map(build::name::<Branch>);
        let (branch, daemon) = (branch.as_ref(), &daemon);
        let read = |page: Page| async move {
            store.revision_history(repository.id, daemon, branch, &page).await.expect(ANSWERS)
        };
        all_pages(2, |revision: &Revision| revision.id.uuid(), read).await
    };
    let newest_first: Vec<_> = main.into_iter().rev().collect();
    assert_eq!(history(Some("main")).await, newest_first);
    assert_eq!(history(None).await, [vec![fork], newest_first].concat());
    assert!(history(Some("other")).await.is_empty());
}

/// An advance whose revision contradicts what is there changes nothing at all.
pub async fn an_advance_is_all_or_nothing(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let first = build::revision(clock, &repository, "review", 1);
    deployed(scene, 1, std::slice::from_ref(&first)).await;
    let good = build::revision(clock, &repository, "good", 2);
    let same_id = Revision { id: first.id, ..build::revision(clock, &repository, "other", 2) };
    let advance = BranchAdvance {
        revisions: vec![good.clone(), same_id],
        event: Some(build::event(clock, &repository)),
        ..advance(&repository, Some(1), Some(2), clock)
    };
    assert!(matches!(store.branch_advance(&advance).await, Err(StoreError::Conflict(_))));
    assert_eq!(store.branch_list(repository.id).await.expect(ANSWERS)[0].commit, build::commit(1));
    assert_eq!(store.revision_get(good.id).await.expect(ANSWERS), None);
    assert_eq!(current(store, &repository, "good", "main").await, None);
    assert_eq!(store.event_next(clock.now()).await.expect(ANSWERS), None);
}

/// What waits for an event on a branch is found by its kind: the newest, valid revisions, each once.
pub async fn what_waits_for_an_event_is_found_by_its_kind(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let waiting = |daemon: &str, at: u32, triggers: &[TriggerKind]| {
        let triggers = triggers.iter().cloned().map(Trigger::on).collect();
        Revision {
            content: build::content(daemon, at, triggers),
            ..build::revision(clock, &repository, daemon, at)
        }
    };
    let comment = |word: &str| TriggerKind::Comment { command: Some(word.to_owned()) };
    let both = waiting("z", 1, &[TriggerKind::Push, comment("a"), comment("b")]);
    let push = waiting("a", 1, &[TriggerKind::Push]);
    let was = waiting("was", 1, &[TriggerKind::Push]);
    let now = waiting("was", 2, &[TriggerKind::Release]);
    let gone = Revision { content: RevisionContent::Removed, ..waiting("gone", 2, &[]) };
    let revisions = [
        both.clone(),
        push.clone(),
        was.clone(),
        waiting("gone", 1, &[TriggerKind::Push]),
        now.clone(),
        gone,
    ];
    deployed(scene, 2, &revisions).await;
    let fork = on("fork", waiting("a", 1, &[TriggerKind::Push]));
    moved(scene, "fork", BranchRole::Fork, 1, std::slice::from_ref(&fork)).await;

    let found = async |branch: &str, kind| {
        store.revision_triggered(repository.id, &build::name(branch), kind).await.expect(ANSWERS)
    };
    assert_eq!(found("main", EventKind::Push).await, [push.clone(), both.clone()]);
    assert_eq!(found("main", EventKind::Comment).await, std::slice::from_ref(&both));
    assert_eq!(found("main", EventKind::Release).await, [now]);
    assert_eq!(found("fork", EventKind::Push).await, [fork]);
    assert!(found("main", EventKind::Manual).await.is_empty());
    deployed(scene, 1, std::slice::from_ref(&was)).await;
    assert_eq!(found("main", EventKind::Push).await, [push, was, both], "the branch went back");
    assert!(found("main", EventKind::Release).await.is_empty());
}

/// Only what is current, valid, deployed and has a `schedule` is scheduled.
pub async fn only_deployed_schedules_are_scheduled(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    let timed = |daemon: &str, at: u32| {
        let on = TriggerKind::Schedule { cron: "0 9 * * 1".to_owned(), timezone: "Europe/Berlin".to_owned() };
        let content = build::content(daemon, at, vec![Trigger::on(TriggerKind::Push), Trigger::on(on)]);
        Revision { content, ..build::revision(clock, &repository, daemon, at) }
    };
    let plain = |daemon: &str, at| build::revision(clock, &repository, daemon, at);
    let stays = timed("stays", 1);
    let revisions =
        [stays.clone(), timed("no-longer", 1), timed("gone", 1), plain("never", 1), plain("no-longer", 2)];
    deployed(scene, 2, &revisions).await;
    let gone = Revision { content: RevisionContent::Removed, ..plain("gone", 3) };
    deployed(scene, 3, &[gone]).await;
    moved(scene, "fork", BranchRole::Fork, 1, &[on("fork", timed("forked", 1))]).await;
    moved(scene, "old", BranchRole::Deploy, 1, &[on("old", timed("deleted", 1))]).await;
    let removal = BranchAdvance { branch: build::name("old"), ..advance(&repository, Some(1), None, clock) };
    store.branch_advance(&removal).await.expect(ANSWERS);

    assert_eq!(store.revision_scheduled().await.expect(ANSWERS), [stays]);
}

fn shown(row: &DaemonRow) -> String {
    format!("{}/{}@{}", row.path, row.revision.daemon, row.revision.branch)
}

/// Daemons are listed by path, name and branch, in parts; of deploy branches unless a branch is named.
pub async fn daemons_are_listed_in_order(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let book = scene.repository().await;
    let tool = build::repository(clock, "Ada/a-tool");
    store.repository_create(&tool).await.expect(ANSWERS);
    let of_book = [build::revision(clock, &book, "b", 1), build::revision(clock, &book, "a", 1)];
    deployed(scene, 1, &of_book).await;
    deployed(Scene { repository: tool.id, ..scene }, 1, &[build::revision(clock, &tool, "z", 1)]).await;
    moved(
        scene,
        "fork",
        BranchRole::Fork,
        1,
        &[on("fork", of_book[1].clone())]
            .map(|revision| Revision { id: build::revision(clock, &book, "a", 1).id, ..revision }),
    )
    .await;
    moved(scene, "also", BranchRole::Deploy, 1, &[on("also", build::revision(clock, &book, "a", 1))]).await;

    let list = async |filter: DaemonFilter, size: u32| -> Vec<String> {
        let filter = &filter;
        let read = |page: Page| async move { store.daemon_list(filter, &page).await.expect(ANSWERS) };
        all_pages(size, |row: &DaemonRow| row.revision.id.uuid(), read).await.iter().map(shown).collect()
    };
    let all = ["Ada/a-tool/z@main", "ada/book/a@also", "ada/book/a@main", "ada/book/b@main"];
    assert_eq!(list(DaemonFilter::default(), 9).await, all);
    assert_eq!(list(DaemonFilter::default(), 1).await, all);
    assert_eq!(list(DaemonFilter { repository: Some(book.id), branch: None }, 2).await, all[1..]);
    let fork = DaemonFilter { repository: None, branch: Some(build::name("fork")) };
    assert_eq!(list(fork, 2).await, ["ada/book/a@fork"]);
}

/// A listed daemon shows its newest run on the branch that has ended.
pub async fn a_listed_daemon_shows_its_last_run(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let repository = scene.repository().await;
    deployed(scene, 1, &[build::revision(clock, &repository, "review", 1)]).await;
    let last_run = async || {
        let rows = store.daemon_list(&DaemonFilter::default(), &Page::first(2)).await.expect(ANSWERS);
        rows[0].last_run
    };
    assert_eq!(last_run().await, None);
    let failure = Failure::new("exit_status", "it ended with 1");
    let failed = Finish { outcome: RunOutcome::Failed { failure }, ..scene.succeeded() };
    let proof = scene.running().await;
    store.run_finish(&proof, &failed).await.map(drop).expect(ANSWERS);
    assert_eq!(last_run().await, Some(RunStatus::Failed));
    let proof = scene.running().await;
    assert_eq!(last_run().await, Some(RunStatus::Failed), "a run that goes on does not count");
    scene.finish(&proof).await;
    assert_eq!(last_run().await, Some(RunStatus::Succeeded));
    let mut elsewhere = scene.new_run().await;
    elsewhere.run.branch = build::name("fork");
    scene.enqueue(&elsewhere).await;
    scene.cancel(elsewhere.run.id).await;
    assert_eq!(last_run().await, Some(RunStatus::Succeeded), "a run of another branch does not count");
}

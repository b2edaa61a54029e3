//! Repositories and their branches.

use std::time::Duration;

use domain::name::Branch;
use domain::repository::{BranchRole, Origin, Place, Repository, Sync, SyncStatus};
use ports::clock::Clock;
use ports::store::repositories::{Advanced, BranchAdvance};
use ports::store::{Page, Recorded, Store, StoreError, Topic};

use super::scene::{ANSWERS, Scene, all_pages};
use crate::{FixedClock, build};

/// A path belongs to the first who takes it, however it is written.
pub async fn a_path_is_taken_once(store: &dyn Store, clock: &FixedClock) {
    let first = build::watched(clock, "ada/Book");
    assert_eq!(store.repository_create(&first).await.expect(ANSWERS), Recorded::New);
    for path in ["ada/Book", "ADA/book"] {
        let second = build::repository(clock, path);
        let known = store.repository_create(&second).await.expect(ANSWERS);
        assert_eq!(known, Recorded::Known(first.clone()));
        assert_eq!(store.repository_find(&second.path).await.expect(ANSWERS), Some(first.clone()));
        assert_eq!(store.repository_get(second.id).await.expect(ANSWERS), None);
    }
    assert_eq!(store.repository_get(first.id).await.expect(ANSWERS), Some(first.clone()));
    assert_eq!(store.repository_find(&build::name("ada/books")).await.expect(ANSWERS), None);
    let same_id = Repository { path: build::name("ada/other"), ..first };
    assert!(matches!(store.repository_create(&same_id).await, Err(StoreError::Conflict(_))));
}

/// A repository on a forge is found by the forge's own number, whatever it is called there.
pub async fn a_place_belongs_to_one_repository(store: &dyn Store, clock: &FixedClock) {
    let place = |path: &str, id| Place { forge: build::name("github"), path: path.to_owned(), id };
    let origin =
        |place| Origin::Watched { url: "https://git.example.com/a.git".to_owned(), credential: None, place };
    let here = Repository { origin: origin(Some(place("acme/app", 7))), ..build::watched(clock, "acme/app") };
    let other = build::watched(clock, "acme/other");
    for repository in [&here, &other] {
        assert_eq!(store.repository_create(repository).await.expect(ANSWERS), Recorded::New);
    }
    let at = async |path, id| store.repository_at(&place(path, id)).await.expect(ANSWERS);
    assert_eq!(at("acme/renamed", 7).await, Some(here.clone()));
    assert_eq!(at("acme/app", 8).await, None, "another repository under the same name");
    let taken = origin(Some(place("acme/app", 7)));
    assert!(matches!(store.repository_origin(other.id, &taken).await, Err(StoreError::Conflict(_))));
    store.repository_origin(here.id, &origin(None)).await.expect(ANSWERS);
    assert_eq!(at("acme/app", 7).await, None, "it is no longer at home there");
    store.repository_origin(other.id, &taken).await.expect(ANSWERS);
    assert_eq!(at("acme/app", 7).await.map(|found| found.id), Some(other.id));
}

/// The list is newest first, in parts.
pub async fn repositories_are_listed_newest_first(store: &dyn Store, clock: &FixedClock) {
    let mut expect = Vec::new();
    for number in 0..7 {
        let repository = build::repository(clock, &format!("ada/book-{number}"));
        store.repository_create(&repository).await.expect(ANSWERS);
        expect.insert(0, repository);
    }
    let read = |page: Page| async move { store.repository_list(&page).await.expect(ANSWERS) };
    assert_eq!(all_pages(3, |repository: &Repository| repository.id.uuid(), read).await, expect);
}

/// Watched repositories are due when they say so, and at once when they were never looked at; the
/// longest due first. Hosted ones never are.
pub async fn watched_repositories_become_due(store: &dyn Store, clock: &FixedClock) {
    let hosted = build::repository(clock, "ada/hosted");
    let [first, second, paused] =
        ["ada/first", "ada/second", "ada/paused"].map(|path| build::watched(clock, path));
    for repository in [&hosted, &second, &first, &paused] {
        store.repository_create(repository).await.expect(ANSWERS);
    }
    let now = clock.now();
    let synced = |due: Option<u64>| Sync {
        status: SyncStatus::Unreachable,
        message: Some("no route".to_owned()),
        checked_at: Some(now),
        due_at: due.map(|seconds| now.after(Duration::from_secs(seconds))),
        failures: 2,
    };
    let due = async |most| -> Vec<String> {
        let due = store.repository_due(clock.now(), most).await.expect(ANSWERS);
        due.iter().map(|repository| repository.path.to_string()).collect()
    };
    assert_eq!(due(9).await.len(), 3, "a watched repository that was never looked at is due");
    store.repository_synced(first.id, &synced(Some(10))).await.expect(ANSWERS);
    store.repository_synced(second.id, &synced(Some(20))).await.expect(ANSWERS);
    store.repository_synced(paused.id, &synced(None)).await.expect(ANSWERS);
    assert!(due(9).await.is_empty());
    clock.advance(Duration::from_secs(10));
    assert_eq!(due(9).await, ["ada/first"]);
    clock.advance(Duration::from_secs(10));
    assert_eq!(due(9).await, ["ada/first", "ada/second"]);
    assert_eq!(due(1).await, ["ada/first"]);
}

/// What came of a look is kept, and another default branch only when one is given.
pub async fn a_look_is_recorded(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let sync = Sync {
        status: SyncStatus::Invalid,
        message: Some("daemons/x is broken: \"é\"".to_owned()),
        checked_at: Some(clock.now()),
        due_at: None,
        failures: 3,
    };
    store.repository_default_branch(scene.repository, &build::name("trunk")).await.expect(ANSWERS);
    store.repository_synced(scene.repository, &sync).await.expect(ANSWERS);
    let repository = scene.repository().await;
    assert_eq!((repository.sync, repository.default_branch.as_str()), (sync, "trunk"));
    let unknown = build::repository(clock, "no/where").id;
    assert!(store.repository_synced(unknown, &Sync::NEVER).await.is_err());
    assert!(store.repository_hint(unknown, clock.now()).await.is_err());
}

/// A hint makes a repository due at once, also when it comes while somebody looks already.
pub async fn a_hint_is_not_lost(store: &dyn Store, clock: &FixedClock) {
    let watched = build::watched(clock, "ada/watched");
    store.repository_create(&watched).await.expect(ANSWERS);
    let due = async || store.repository_due(clock.now(), 9).await.expect(ANSWERS).len();
    let look = |begun| Sync {
        status: SyncStatus::Synced,
        checked_at: Some(begun),
        due_at: Some(clock.now().after(Duration::from_secs(60))),
        ..Sync::NEVER
    };
    store.repository_synced(watched.id, &look(clock.now())).await.expect(ANSWERS);
    assert_eq!(due().await, 0);
    store.repository_hint(watched.id, clock.now().after(Duration::from_secs(90))).await.expect(ANSWERS);
    store.repository_hint(watched.id, clock.now()).await.expect(ANSWERS);
    assert_eq!(due().await, 1, "it was hinted at");

    clock.advance(Duration::from_secs(1));
    let begun = clock.now();
    clock.advance(Duration::from_secs(1));
    store.repository_synced(watched.id, &look(begun)).await.expect(ANSWERS);
    assert_eq!(due().await, 0, "the look was after the hint");
    store.repository_hint(watched.id, clock.now()).await.expect(ANSWERS);
    store.repository_synced(watched.id, &look(begun)).await.expect(ANSWERS);
    assert_eq!(due().await, 1, "the hint came while somebody looked");
}

pub(super) fn advance(
    repository: &Repository,
    from: Option<u32>,
    to: Option<u32>,
    clock: &FixedClock,
) -> BranchAdvance {
    BranchAdvance {
        repository: repository.id,
        branch: build::name("main"),
        role: BranchRole::Deploy,
        from: from.map(build::commit),
        to: to.map(build::commit),
        revisions: Vec::new(),
        event: None,
        at: clock.now(),
    }
}

/// A branch moves only from where it is believed to be; what is refused leaves no trace.
pub async fn a_branch_moves_from_where_it_is(store: &dyn Store, clock: &FixedClock) {
    let repository = Scene::set(store, clock).await.repository().await;
    let cases = [
        (None, Some(1), Advanced::Recorded),
        (None, Some(2), Advanced::Stale { actual: Some(build::commit(1)) }),
        (Some(2), Some(3), Advanced::Stale { actual: Some(build::commit(1)) }),
        (Some(1), Some(2), Advanced::Recorded),
        (Some(2), None, Advanced::Recorded),
        (Some(2), None, Advanced::Stale { actual: None }),
        (None, Some(1), Advanced::Recorded),
    ];
    for (nth, (from, to, expect)) in cases.into_iter().enumerate() {
        let mut advance = advance(&repository, from, to, clock);
        let number = u32::try_from(nth).expect("few cases") + 10;
        advance.revisions = vec![build::revision(clock, &repository, &format!("daemon-{nth}"), number)];
        advance.event = Some(build::event(clock, &repository));
        let advanced = store.branch_advance(&advance).await.expect(ANSWERS);
        assert_eq!(advanced, expect, "{from:?} to {to:?}");
        let recorded = advanced == Advanced::Recorded;
        let event = store.event_get(advance.event.expect("just set").id).await.expect(ANSWERS);
        let revision = store.revision_get(advance.revisions[0].id).await.expect(ANSWERS);
        assert_eq!((event.is_some(), revision.is_some()), (recorded, recorded), "{from:?} to {to:?}");
        if recorded {
            let heads = store.branch_list(repository.id).await.expect(ANSWERS);
            assert_eq!(heads.first().map(|head| head.commit.clone()), to.map(build::commit));
        }
    }
    let unknown = BranchAdvance {
        repository: build::repository(clock, "no/where").id,
        ..advance(&repository, None, Some(1), clock)
    };
    assert!(matches!(store.branch_advance(&unknown).await, Err(StoreError::Conflict(_))));
}

/// Branches are listed by name, with what they are.
pub async fn branches_are_listed_by_name(store: &dyn Store, clock: &FixedClock) {
    let repository = Scene::set(store, clock).await.repository().await;
    for (branch, role) in
        [("main", BranchRole::Deploy), ("a/b", BranchRole::Fork), ("Z", BranchRole::Ignored)]
    {
        let advance =
            BranchAdvance { branch: build::name(branch), role, ..advance(&repository, None, Some(1), clock) };
        store.branch_advance(&advance).await.expect(ANSWERS);
    }
    let heads = store.branch_list(repository.id).await.expect(ANSWERS);
    let shown: Vec<_> = heads.iter().map(|head| (head.branch.as_str(), head.role)).collect();
    assert_eq!(shown, [("Z", BranchRole::Ignored), ("a/b", BranchRole::Fork), ("main", BranchRole::Deploy)]);
    assert!(heads.iter().all(|head| head.moved_at == clock.now()));
}

/// Of many who move a branch from the same place, one does.
pub async fn a_branch_is_moved_by_one_of_many(store: &dyn Store, clock: &FixedClock) {
    let repository = Scene::set(store, clock).await.repository().await;
    let moves: Vec<_> = (1..=20).map(|to| advance(&repository, None, Some(to), clock)).collect();
    let outcomes = futures::future::join_all(moves.iter().map(|advance| store.branch_advance(advance))).await;
    let recorded = outcomes.into_iter().filter(|outcome| matches!(outcome, Ok(Advanced::Recorded))).count();
    assert_eq!(recorded, 1);
}

/// An advance with an event wakes who waits for events.
pub async fn an_advance_wakes_who_waits_for_events(store: &dyn Store, clock: &FixedClock) {
    let repository = Scene::set(store, clock).await.repository().await;
    let mut woken = store.wakeups(Topic::Events);
    woken.mark_unchanged();
    let mut advance = advance(&repository, None, Some(1), clock);
    advance.branch = build::name::<Branch>("main");
    advance.event = Some(build::event(clock, &repository));
    store.branch_advance(&advance).await.expect(ANSWERS);
    assert!(woken.has_changed().expect("the store lives"));
}

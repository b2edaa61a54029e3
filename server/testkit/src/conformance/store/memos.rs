//! Memos: compare and set, bounds, and one transaction with the journal.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::id::MemoWriteId;
use domain::memo::{
    ALL_VARIABLES, Expected, LONGEST_VARIABLE, MOST_SESSIONS, MOST_VARIABLES, Memo, MemoAuthor, MemoKey,
    MemoKind, MemoOwner, MemoWrite, Sealed,
};
use ports::clock::Clock;
use ports::store::memos::Kept;
use ports::store::{Store, StoreError};

use super::scene::{ANSWERS, Scene, TTL};
use crate::{FixedClock, build};

fn owner(scene: Scene<'_>, branch: &str) -> MemoOwner {
    MemoOwner { repository: scene.repository, daemon: build::name("review"), branch: build::name(branch) }
}

fn write(scene: Scene<'_>, kind: MemoKind, name: &str, expected: Expected) -> MemoWrite {
    MemoWrite {
        key: MemoKey { owner: owner(scene, "main"), kind, name: build::name(name) },
        expected,
        written: MemoWriteId::new(scene.clock.unique()),
        sealed: Sealed { key: "k1".to_owned(), bytes: vec![0, 255, 39, 7] },
        size: 4,
        by: MemoAuthor::Person("ada".to_owned()),
        at: scene.clock.now(),
    }
}

fn variable(scene: Scene<'_>, name: &str, expected: Expected) -> MemoWrite {
    write(scene, MemoKind::Variable, name, expected)
}

async fn put(scene: Scene<'_>, write: &MemoWrite) -> Kept {
    scene.store.memo_put(write).await.expect(ANSWERS)
}

async fn get(scene: Scene<'_>, write: &MemoWrite) -> Option<Memo> {
    scene.store.memo_get(&write.key).await.expect(ANSWERS)
}

/// What is there once a writing has succeeded for the `version`th time.
fn memo(write: &MemoWrite, version: u64) -> Memo {
    let MemoWrite { key, written, sealed, size, by, at, .. } = write.clone();
    Memo { key, written, version, sealed, size, by, at }
}

/// Nothing is written, because this is there.
fn conflict(write: &MemoWrite, there: Option<Memo>) -> Kept {
    Kept::Conflict(write.key.clone(), there.map(Box::new))
}

/// A memo comes back as it was written, whatever its name and its bytes; memos are listed by name.
pub async fn a_memo_comes_back_as_it_was(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let run = scene.queued().await;
    let odd = MemoWrite {
        by: MemoAuthor::Run(run),
        ..write(scene, MemoKind::Session, "pr '\"; -- \u{1f600}", Expected::Absent)
    };
    let (b, a) = (variable(scene, "b", Expected::Absent), variable(scene, "a", Expected::Anything));
    for write in [&odd, &b, &a] {
        assert_eq!(get(scene, write).await, None);
        assert_eq!(put(scene, write).await, Kept::Written);
        assert_eq!(get(scene, write).await, Some(memo(write, 1)));
    }
    let listed = async |kind| store.memo_list(&odd.key.owner, kind).await.expect(ANSWERS);
    assert_eq!(listed(MemoKind::Variable).await, [memo(&a, 1), memo(&b, 1)]);
    assert_eq!(listed(MemoKind::Session).await, [memo(&odd, 1)]);
    let mut nowhere = variable(scene, "c", Expected::Absent);
    nowhere.key.owner.repository = build::repository(clock, "no/where").id;
    assert!(matches!(store.memo_put(&nowhere).await, Err(StoreError::Conflict(_))));
}

/// A memo is written by who knows what it is, or does not care; anybody else is told what it is.
pub async fn a_memo_is_written_by_who_knows_it(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = variable(scene, "n", Expected::Absent);
    assert_eq!(put(scene, &first).await, Kept::Written);
    scene.later(Duration::from_secs(1));
    let there = || Some(memo(&first, 1));
    let late = variable(scene, "n", Expected::Absent);
    assert_eq!(put(scene, &late).await, conflict(&late, there()));
    let stranger = variable(scene, "n", Expected::Written(late.written));
    assert_eq!(put(scene, &stranger).await, conflict(&stranger, there()));
    assert_eq!(get(scene, &first).await, there());
    let second = variable(scene, "n", Expected::Written(first.written));
    assert_eq!(put(scene, &second).await, Kept::Written);
    let careless = variable(scene, "n", Expected::Anything);
    assert_eq!(put(scene, &careless).await, Kept::Written);
    assert_eq!(get(scene, &first).await, Some(memo(&careless, 3)));
    let nothing = variable(scene, "m", Expected::Written(first.written));
    assert_eq!(put(scene, &nothing).await, conflict(&nothing, None));
}

/// Who read a memo does not take for it one that was made anew, though that was written as often.
pub async fn a_memo_that_was_removed_is_another_one(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = variable(scene, "n", Expected::Absent);
    assert_eq!(put(scene, &first).await, Kept::Written);
    let wrong = Expected::Absent;
    let removed = store.memo_remove(&first.key, wrong).await.expect(ANSWERS);
    assert_eq!(removed, conflict(&first, Some(memo(&first, 1))));
    let known = Expected::Written(first.written);
    assert_eq!(store.memo_remove(&first.key, known).await.expect(ANSWERS), Kept::Written);
    assert_eq!(get(scene, &first).await, None);
    let again = variable(scene, "n", Expected::Absent);
    assert_eq!(put(scene, &again).await, Kept::Written);
    let late = variable(scene, "n", known);
    assert_eq!(put(scene, &late).await, conflict(&late, Some(memo(&again, 1))));
}

/// Of many who write at once on what they read before, one does.
pub async fn a_memo_is_written_by_one_of_many(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = variable(scene, "n", Expected::Absent);
    assert_eq!(put(scene, &first).await, Kept::Written);
    let writes: Vec<_> = (0..20).map(|_| variable(scene, "n", Expected::Written(first.written))).collect();
    let kept = futures::future::join_all(writes.iter().map(|write| put(scene, write))).await;
    let written: Vec<_> = writes
        .iter()
        .zip(&kept)
        .filter(|(_, kept)| **kept == Kept::Written)
        .map(|(write, _)| write)
        .collect();
    let [winner] = written[..] else { panic!("{} wrote it", written.len()) };
    assert_eq!(get(scene, &first).await, Some(memo(winner, 2)));
}

/// A fork, another daemon, and the other kind each have a memo of their own under the same name.
pub async fn every_branch_has_memos_of_its_own(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let main = variable(scene, "n", Expected::Absent);
    let mut fork = variable(scene, "n", Expected::Absent);
    fork.key.owner.branch = build::name("fork");
    let mut other = variable(scene, "n", Expected::Absent);
    other.key.owner.daemon = build::name("other");
    let session = write(scene, MemoKind::Session, "n", Expected::Absent);
    let all = [&main, &fork, &other, &session];
    for write in all {
        assert_eq!(put(scene, write).await, Kept::Written, "{write:?}");
    }
    for write in all {
        assert_eq!(get(scene, write).await, Some(memo(write, 1)));
    }
    let listed = store.memo_list(&fork.key.owner, MemoKind::Variable).await.expect(ANSWERS);
    assert_eq!(listed, [memo(&fork, 1)]);
}

/// So many variables of a branch, and so many bytes; what is replaced does not count.
pub async fn variables_are_bounded(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    for nth in 0..MOST_VARIABLES {
        assert_eq!(put(scene, &variable(scene, &format!("n{nth}"), Expected::Absent)).await, Kept::Written);
    }
    let more = variable(scene, "more", Expected::Absent);
    assert_eq!(put(scene, &more).await, Kept::Full(more.key.clone()));
    assert_eq!(get(scene, &more).await, None);
    assert_eq!(put(scene, &variable(scene, "n7", Expected::Anything)).await, Kept::Written);
    let small = 4 * (MOST_VARIABLES - 4);
    for nth in 0..3 {
        let large =
            MemoWrite { size: LONGEST_VARIABLE, ..variable(scene, &format!("n{nth}"), Expected::Anything) };
        assert_eq!(put(scene, &large).await, Kept::Written);
    }
    let room = ALL_VARIABLES - 3 * LONGEST_VARIABLE - small;
    let last = |size| MemoWrite { size, ..variable(scene, "n3", Expected::Anything) };
    let too_large = last(room + 1);
    assert_eq!(put(scene, &too_large).await, Kept::Full(too_large.key.clone()));
    assert_eq!(put(scene, &last(room)).await, Kept::Written);
    assert_eq!(put(scene, &last(room)).await, Kept::Written, "it takes its own place");
}

/// Beyond so many sessions of a branch, those that were written the longest ago are forgotten.
pub async fn the_session_written_longest_ago_is_forgotten(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let session = |name: &str| write(scene, MemoKind::Session, name, Expected::Anything);
    let elsewhere = {
        let mut elsewhere = session("s0");
        elsewhere.key.owner.branch = build::name("fork");
        elsewhere
    };
    assert_eq!(put(scene, &elsewhere).await, Kept::Written);
    for nth in 0..MOST_SESSIONS {
        scene.later(Duration::from_millis(1));
        assert_eq!(put(scene, &session(&format!("s{nth}"))).await, Kept::Written);
    }
    scene.later(Duration::from_secs(1));
    assert_eq!(put(scene, &session("s0")).await, Kept::Written);
    scene.later(Duration::from_secs(1));
    assert_eq!(put(scene, &session("new")).await, Kept::Written);
    let there = store.memo_list(&owner(scene, "main"), MemoKind::Session).await.expect(ANSWERS);
    let names: BTreeSet<&str> = there.iter().map(|memo| memo.key.name.as_str()).collect();
    assert_eq!(names.len(), MOST_SESSIONS);
    assert!(names.contains("new") && names.contains("s0") && !names.contains("s1") && names.contains("s2"));
    assert_eq!(get(scene, &elsewhere).await, Some(memo(&elsewhere, 1)));
}

/// A session that was not written for long is gone; a variable stays.
pub async fn sessions_expire_and_variables_do_not(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let (old, kept) =
        (write(scene, MemoKind::Session, "old", Expected::Absent), variable(scene, "n", Expected::Absent));
    assert_eq!(put(scene, &old).await, Kept::Written);
    assert_eq!(put(scene, &kept).await, Kept::Written);
    let moment = scene.later(Duration::from_secs(60));
    let new = write(scene, MemoKind::Session, "new", Expected::Absent);
    assert_eq!(put(scene, &new).await, Kept::Written);
    assert_eq!(store.session_expire(moment).await.expect(ANSWERS), 1);
    assert_eq!(store.session_expire(moment).await.expect(ANSWERS), 0);
    assert_eq!(
        [get(scene, &old).await, get(scene, &kept).await, get(scene, &new).await],
        [None, Some(memo(&kept, 1)), Some(memo(&new, 1))]
    );
}

/// A stage's entry and what it keeps are written together or not at all.
pub async fn a_stage_and_its_memos_are_one(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let (n, m) = (variable(scene, "n", Expected::Absent), variable(scene, "m", Expected::Absent));
    let record = build::stage(clock, "Count");
    let keep = async |record, writes: &[MemoWrite]| {
        store.stage_keep(&proof, record, &[], writes).await.expect(ANSWERS)
    };
    assert_eq!(keep(&record, &[n.clone(), m.clone()]).await, Kept::Written);
    assert_eq!(store.run_journal(proof.run).await.expect(ANSWERS), std::slice::from_ref(&record));
    assert_eq!([get(scene, &n).await, get(scene, &m).await], [Some(memo(&n, 1)), Some(memo(&m, 1))]);
    let next = build::stage(clock, "Next");
    let (good, bad) =
        (variable(scene, "n", Expected::Written(n.written)), variable(scene, "m", Expected::Absent));
    assert_eq!(keep(&next, &[good, bad.clone()]).await, conflict(&bad, Some(memo(&m, 1))));
    assert_eq!(store.run_journal(proof.run).await.expect(ANSWERS), [record]);
    assert_eq!(get(scene, &n).await, Some(memo(&n, 1)), "the first of the two was written");
}

/// A worker that lost its lease keeps nothing.
pub async fn a_late_worker_writes_no_memo(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let late = scene.running().await;
    scene.later(TTL * 2);
    scene.lease().await;
    let write = variable(scene, "n", Expected::Absent);
    let kept =
        store.stage_keep(&late, &build::stage(clock, "Count"), &[], std::slice::from_ref(&write)).await;
    assert_eq!(kept.expect(ANSWERS), Kept::Lost);
    assert_eq!(get(scene, &write).await, None);
    assert_eq!(store.run_journal(late.run).await.expect(ANSWERS), []);
}

/// A stage that the journal has keeps nothing again: a variable that it had set and another run has set
/// since is left alone.
pub async fn a_stage_that_is_known_writes_nothing_again(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let record = build::stage(clock, "Count");
    let write = variable(scene, "n", Expected::Anything);
    for _ in 0..2 {
        let kept = store.stage_keep(&proof, &record, &[], std::slice::from_ref(&write)).await;
        assert_eq!(kept.expect(ANSWERS), Kept::Written);
    }
    assert_eq!(get(scene, &write).await, Some(memo(&write, 1)));
}

//! Log lines.

use domain::stage::StagePath;
use ports::clock::Clock;
use ports::store::logs::{LineSource, NewLine};
use ports::store::{Fenced, LeaseProof, Store, Topic};

use super::scene::{ANSWERS, Scene, TTL};
use crate::FixedClock;

pub(super) fn line(clock: &FixedClock, text: &str) -> NewLine {
    NewLine {
        stage: StagePath::root("Test"),
        source: LineSource::Stdout,
        text: text.to_owned(),
        at: clock.now(),
    }
}

async fn append(store: &dyn Store, proof: &LeaseProof, lines: &[NewLine]) {
    assert_eq!(store.log_append(proof, lines).await.expect(ANSWERS), Fenced::Written);
}

/// Lines come back as they were, numbered on from one.
pub async fn lines_are_numbered_on(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let mut woken = store.wakeups(Topic::Logs);
    woken.mark_unchanged();
    let mut lines = Vec::new();
    for source in [LineSource::Stdout, LineSource::Stderr, LineSource::Model, LineSource::Server] {
        lines.push(NewLine { source, ..line(clock, "\u{1b}[31m\u{0} '\"; --") });
    }
    append(store, &proof, &lines).await;
    assert!(woken.has_changed().expect("the store lives"));
    append(store, &proof, &[]).await;
    let last = line(clock, "");
    append(store, &proof, std::slice::from_ref(&last)).await;
    lines.push(last);
    let read = store.log_read(proof.run, 0, 99).await.expect(ANSWERS);
    assert_eq!(read.iter().map(|line| line.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(read.into_iter().map(|line| line.line).collect::<Vec<_>>(), lines);
}

/// Lines are read after a number, at most so many.
pub async fn lines_are_read_in_parts(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let proof = scene.running().await;
    let lines: Vec<_> = (1..=1_000).map(|number| line(clock, &number.to_string())).collect();
    append(store, &proof, &lines).await;
    let other = scene.running().await;
    append(store, &other, &lines[..1]).await;
    for (after, most, expect) in
        [(0, 2, vec![1, 2]), (998, 9, vec![999, 1_000]), (1_000, 9, vec![]), (5, 0, vec![])]
    {
        let read = store.log_read(proof.run, after, most).await.expect(ANSWERS);
        assert_eq!(read.iter().map(|line| line.number).collect::<Vec<_>>(), expect);
        assert!(read.iter().all(|line| line.line.text == line.number.to_string()));
    }
}

/// The next attempt goes on with the numbers; what is forgotten is not numbered anew.
pub async fn numbers_are_never_used_twice(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = scene.running().await;
    append(store, &first, &[line(clock, "one")]).await;
    scene.later(TTL);
    let second = scene.lease().await;
    append(store, &second, &[line(clock, "two")]).await;
    store.log_remove(second.run).await.expect(ANSWERS);
    assert!(store.log_read(second.run, 0, 9).await.expect(ANSWERS).is_empty());
    append(store, &second, &[line(clock, "three")]).await;
    let read = store.log_read(second.run, 0, 9).await.expect(ANSWERS);
    assert_eq!(read.iter().map(|line| line.number).collect::<Vec<_>>(), [3]);
}

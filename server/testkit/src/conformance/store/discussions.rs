//! Proposals, comments, checks.

use std::time::Duration;

use domain::effect::{Annotation, AnnotationLevel, Author, CheckConclusion, CommentTarget};
use domain::id::{CheckId, CommentId, ProposalId};
use domain::proposal::{Check, Comment, Proposal, ProposalStatus};
use ports::clock::Clock;
use ports::store::{Page, Store, StoreError};

use super::scene::{ANSWERS, Scene, all_pages};
use crate::{FixedClock, build};

async fn proposal(scene: Scene<'_>, key: Option<&str>) -> Proposal {
    let run = build::run(scene.clock, &scene.repository().await, "review");
    Proposal {
        id: ProposalId::new(scene.clock.unique()),
        repository: scene.repository,
        number: 0,
        key: key.map(str::to_owned),
        provenance: key.map(|_| build::provenance(&run)),
        title: "Fixes é".to_owned(),
        body: "**b**".to_owned(),
        base: build::name("main"),
        branch: build::name("spellbook/review/1"),
        head: build::commit(1),
        draft: true,
        labels: vec!["a b".to_owned()],
        status: ProposalStatus::Open,
        created_at: scene.clock.now(),
        updated_at: scene.clock.now(),
    }
}

async fn put(scene: Scene<'_>, proposal: &Proposal) -> Proposal {
    scene.store.proposal_put(proposal).await.expect(ANSWERS)
}

/// Proposals are numbered from one in each repository, and come back as they were.
pub async fn proposals_are_numbered_in_their_repository(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let other = build::repository(clock, "ada/other");
    store.repository_create(&other).await.expect(ANSWERS);
    let elsewhere = Scene { repository: other.id, ..scene };
    for (scene, number) in [(scene, 1), (scene, 2), (elsewhere, 1), (scene, 3)] {
        let given = Proposal { number: 77, ..proposal(scene, None).await };
        let stored = put(scene, &given).await;
        assert_eq!(stored, Proposal { number, ..given });
        assert_eq!(store.proposal_get(scene.repository, number).await.expect(ANSWERS), Some(stored.clone()));
        assert!(
            matches!(store.proposal_put(&stored).await, Err(StoreError::Conflict(_))),
            "the same id twice"
        );
    }
    assert_eq!(store.proposal_get(scene.repository, 4).await.expect(ANSWERS), None);
}

/// Many proposals at once get numbers of their own.
pub async fn many_proposals_get_numbers_of_their_own(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut proposals = Vec::new();
    for nth in 0..20 {
        proposals.push(proposal(scene, Some(&format!("k{nth}"))).await);
    }
    let stored = futures::future::join_all(proposals.iter().map(|proposal| put(scene, proposal))).await;
    let mut numbers: Vec<_> = stored.iter().map(|proposal| proposal.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
}

/// An open proposal with the same key is changed in place; a closed one makes room for a new one.
pub async fn an_open_proposal_is_changed_in_place(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let first = put(scene, &proposal(scene, Some("k")).await).await;
    scene.later(Duration::from_secs(5));
    let change = Proposal {
        title: "Other".to_owned(),
        body: "other".to_owned(),
        head: build::commit(2),
        draft: false,
        labels: Vec::new(),
        base: build::name("elsewhere"),
        ..proposal(scene, Some("k")).await
    };
    let changed = put(scene, &change).await;
    let expect = Proposal {
        id: first.id,
        number: 1,
        base: first.base.clone(),
        created_at: first.created_at,
        ..change.clone()
    };
    assert_eq!(changed, expect);
    assert_eq!(store.proposal_get(scene.repository, 1).await.expect(ANSWERS), Some(expect));
    let closed = ProposalStatus::Closed { by: "ada".to_owned() };
    assert!(store.proposal_settle(first.id, &closed, clock.now()).await.expect(ANSWERS));
    assert_eq!(put(scene, &proposal(scene, Some("k")).await).await.number, 2);
}

/// An open proposal is settled once.
pub async fn a_proposal_is_settled_once(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let open = put(scene, &proposal(scene, None).await).await;
    let at = scene.later(Duration::from_secs(5));
    let merged = ProposalStatus::Merged { commit: build::commit(9), by: "ada".to_owned() };
    assert!(store.proposal_settle(open.id, &merged, at).await.expect(ANSWERS));
    let closed = ProposalStatus::Closed { by: "bob".to_owned() };
    assert!(!store.proposal_settle(open.id, &closed, at).await.expect(ANSWERS));
    let expect = Proposal { status: merged, updated_at: at, ..open };
    assert_eq!(store.proposal_get(scene.repository, 1).await.expect(ANSWERS), Some(expect));
    assert!(!store.proposal_settle(ProposalId::new(clock.unique()), &closed, at).await.expect(ANSWERS));
}

/// Proposals are listed newest first, in parts, by status.
pub async fn proposals_are_listed_newest_first(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let mut all = Vec::new();
    for _ in 0..5 {
        all.insert(0, put(scene, &proposal(scene, None).await).await);
    }
    let closed = ProposalStatus::Closed { by: "ada".to_owned() };
    store.proposal_settle(all[1].id, &closed, clock.now()).await.expect(ANSWERS);
    let numbers = async |status: Option<&str>| -> Vec<u64> {
        let read = |page: Page| async move {
            store.proposal_list(scene.repository, status, &page).await.expect(ANSWERS)
        };
        let proposals = all_pages(2, |proposal: &Proposal| proposal.id.uuid(), read).await;
        proposals.iter().map(|proposal| proposal.number).collect()
    };
    assert_eq!(numbers(None).await, [5, 4, 3, 2, 1]);
    assert_eq!(numbers(Some("open")).await, [5, 3, 2, 1]);
    assert_eq!(numbers(Some("closed")).await, [4]);
    assert!(numbers(Some("merged")).await.is_empty());
}

async fn comment(scene: Scene<'_>, key: &str, target: &CommentTarget) -> Comment {
    let run = build::run(scene.clock, &scene.repository().await, "review");
    Comment {
        id: CommentId::new(scene.clock.unique()),
        repository: scene.repository,
        target: target.clone(),
        key: key.to_owned(),
        author: Author::Run(build::provenance(&run)),
        body: format!("{key}: é <script>"),
        created_at: scene.clock.now(),
        updated_at: scene.clock.now(),
    }
}

/// A comment with the same key is changed in place.
pub async fn a_comment_is_changed_in_place(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let target = CommentTarget::Thread { number: 3 };
    let first = comment(scene, "k", &target).await;
    assert_eq!(store.comment_put(&first).await.expect(ANSWERS), first);
    scene.later(Duration::from_secs(5));
    let change = Comment { body: "other".to_owned(), ..comment(scene, "k", &target).await };
    let expect = Comment { id: first.id, created_at: first.created_at, ..change.clone() };
    assert_eq!(store.comment_put(&change).await.expect(ANSWERS), expect);
    assert_eq!(store.comment_list(scene.repository, None, &Page::first(9)).await.expect(ANSWERS), [expect]);
}

/// Comments are listed oldest first on a target, newest first of a repository, in parts.
pub async fn comments_are_listed_by_target(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let thread = CommentTarget::Thread { number: 3 };
    let commit = CommentTarget::Commit { commit: build::commit(3) };
    for (nth, target) in [&thread, &commit, &thread, &commit, &thread].into_iter().enumerate() {
        store.comment_put(&comment(scene, &format!("k{nth}"), target).await).await.expect(ANSWERS);
    }
    let keys = async |target: Option<&CommentTarget>| -> Vec<String> {
        let read = |page: Page| async move {
            store.comment_list(scene.repository, target, &page).await.expect(ANSWERS)
        };
        let comments = all_pages(2, |comment: &Comment| comment.id.uuid(), read).await;
        comments.into_iter().map(|comment| comment.key).collect()
    };
    assert_eq!(keys(Some(&thread)).await, ["k0", "k2", "k4"]);
    assert_eq!(keys(Some(&commit)).await, ["k1", "k3"]);
    assert_eq!(keys(None).await, ["k4", "k3", "k2", "k1", "k0"]);
    assert!(keys(Some(&CommentTarget::Thread { number: 4 })).await.is_empty());
}

/// A check of the same name on the same commit is replaced; checks are listed by name.
pub async fn a_check_is_replaced(store: &dyn Store, clock: &FixedClock) {
    let scene = Scene::set(store, clock).await;
    let run = build::run(clock, &scene.repository().await, "review");
    let check = |name: &str, commit, conclusion| Check {
        id: CheckId::new(clock.unique()),
        repository: scene.repository,
        commit: build::commit(commit),
        name: name.to_owned(),
        author: Author::Run(build::provenance(&run)),
        conclusion,
        summary: "s".to_owned(),
        annotations: vec![Annotation {
            path: "a".to_owned(),
            start_line: 1,
            end_line: 2,
            level: AnnotationLevel::Notice,
            message: "m".to_owned(),
        }],
        created_at: clock.now(),
    };
    let [old, new] = [CheckConclusion::Failure, CheckConclusion::Success].map(|end| check("b", 1, end));
    let (other, elsewhere) =
        (check("a", 1, CheckConclusion::Neutral), check("a", 2, CheckConclusion::Neutral));
    for check in [&old, &other, &elsewhere, &new] {
        store.check_put(check).await.expect(ANSWERS);
    }
    let on = async |commit| store.check_list(scene.repository, &build::commit(commit)).await.expect(ANSWERS);
    assert_eq!(on(1).await, [other, new]);
    assert_eq!(on(2).await, [elsewhere]);
    assert!(on(3).await.is_empty());
}

//! What forges say, by webhooks and when they are asked: events, and where the server is at home.

use std::sync::Arc;
use std::time::Duration;

use domain::event::{Actor, Event, EventKind};
use domain::name::ForgeName;
use domain::repository::{Origin, Place, Repository, SyncStatus};
use domain::time::Timestamp;
use ports::clock::Clock;
use ports::forge::{Fact, ForgeError, Found, Moved, Understood};
use ports::store::events::{Delivery, Dispatch, SweepOf};
use ports::store::{Events, Recorded, Repositories};
use serde_json::json;
use testkit::{MemoryHost, build};

use super::house::House;
use crate::intake::{self, IntakeOutcome, Told};
use crate::sweep::{self, Swept};
use crate::why::{self, Thread};

/// A server that is known to `github`.
async fn house() -> (House, Arc<MemoryHost>) {
    let mut house = House::new(&[]).await;
    let host = Arc::new(MemoryHost::new("s3cret"));
    let world = Arc::get_mut(&mut house.world).expect("nobody else has it yet");
    world.hosts.insert(github(), host.clone());
    (house, host)
}

fn github() -> ForgeName {
    build::name("github")
}

fn place(id: u64, path: &str) -> Place {
    Place { forge: github(), path: path.to_owned(), id }
}

fn found(id: u64, path: &str) -> Found {
    let url = format!("https://github.test/{path}.git");
    Found { place: place(id, path), url, default_branch: Some(build::name("main")) }
}

fn fact(key: &str, at: Timestamp) -> Fact {
    Fact {
        key: key.to_owned(),
        kind: EventKind::Issues,
        action: Some("opened".to_owned()),
        branch: None,
        commit: None,
        actor: Actor { name: "ada".to_owned(), role: None, bot: false },
        labels: vec!["bug".to_owned()],
        draft: false,
        payload: json!({ "issue": { "number": 7 } }),
        occurred_at: at,
    }
}

fn added(all: &[Found]) -> Understood {
    Understood::Installed { added: all.to_vec(), removed: Vec::new() }
}

fn removed(all: &[Found]) -> Understood {
    Understood::Installed {
        added: Vec::new(),
        removed: all.iter().map(|found| found.place.clone()).collect(),
    }
}

fn about(place: Place, moved: Moved, facts: &[Fact]) -> Understood {
    Understood::About { place, moved, facts: facts.to_vec() }
}

/// A webhook comes that means this; what was made of it.
async fn said(house: &House, host: &MemoryHost, understood: Understood) -> String {
    host.means("event", understood);
    let delivery = Delivery {
        id: domain::id::DeliveryId::new(house.clock.unique()),
        source: "forge/github".to_owned(),
        repository: None,
        name: Some("event".to_owned()),
        external_id: None,
        content: [0; 32],
        body: b"{}".to_vec(),
        received_at: house.clock.now(),
    };
    let mut verdicts = Vec::new();
    // A crash may come before the verdict is recorded: all is done again, and nothing twice.
    for _ in 0..2 {
        verdicts.push(intake::forge::said(&house.world, &delivery, "github").await.unwrap());
    }
    verdicts.swap_remove(0)
}

async fn repository(house: &House, path: &str) -> Repository {
    house
        .store
        .repository_find(&build::name(path))
        .await
        .unwrap()
        .unwrap_or_else(|| panic!("there is no {path}"))
}

/// The events that are to be dispatched; they are, as far as the store is concerned.
async fn events(house: &House) -> Vec<Event> {
    let mut all = Vec::new();
    while let Some(event) = house.store.event_next(house.clock.now()).await.unwrap() {
        let (matches, runs, effects) = (Vec::new(), Vec::new(), Vec::new());
        let (learned, once, rests) = (None, Vec::new(), Vec::new());
        let at = house.clock.now();
        let dispatch = Dispatch { event: event.id, learned, matches, runs, effects, once, rests, at };
        house.store.event_dispatch(&dispatch).await.unwrap();
        all.push(event);
    }
    all
}

async fn sweep(house: &House) -> Swept {
    sweep::all(&house.world).await.unwrap()
}

fn missed(swept: &Swept) -> u64 {
    swept.missed.values().sum()
}

#[tokio::test]
async fn a_webhook_is_taken_in_and_understood_later() {
    let (house, host) = house().await;
    said(&house, &host, added(&[found(1, "acme/app")])).await;
    host.means("issues", about(place(1, "acme/app"), Moved::No, &[fact("issue/7", house.clock.now())]));
    let told = || Told {
        forge: github(),
        name: "issues".to_owned(),
        external_id: Some("1".to_owned()),
        content: [1; 32],
        body: b"{}".to_vec(),
    };
    let first = intake::forge_told(&house.world, told()).await.unwrap();
    assert_eq!(first, Recorded::New);
    assert!(events(&house).await.is_empty(), "nothing is understood before the answer");
    assert!(matches!(intake::forge_told(&house.world, told()).await.unwrap(), Recorded::Known(_)));
    assert_eq!(intake::next(&house.world).await.unwrap(), IntakeOutcome::Settled);
    assert_eq!(intake::next(&house.world).await.unwrap(), IntakeOutcome::Empty);
    let [event] = &*events(&house).await else { panic!("one event") };
    assert_eq!((event.kind, event.repository), (EventKind::Issues, repository(&house, "acme/app").await.id));
    assert_eq!((event.actor.name.as_str(), event.thread()), ("ada", Some(7)));
}

#[tokio::test]
async fn the_server_is_at_home_where_a_forge_says() {
    let (house, host) = house().await;
    let all = [found(1, "acme/app"), found(2, "acme/.github"), found(3, "ada/book")];
    insta::assert_snapshot!(said(&house, &host, added(&all)).await, @"added: acme/app; not taken: acme/.github (`.github` is not a repository name: use letters, digits, `-`, `_` and `.`, at most 100; it may not begin with `.` or `-` or end with `.git` or `.lock`), ada/book (the name belongs to a repository that this server hosts itself)");
    let app = repository(&house, "acme/app").await;
    assert_eq!(app.origin.place(), Some(&place(1, "acme/app")));
    assert!(app.sync.due_at.is_some(), "it is looked at soon");

    insta::assert_snapshot!(said(&house, &host, removed(&all)).await, @"removed: acme/app");
    let gone = repository(&house, "acme/app").await;
    assert_eq!(
        (gone.id, gone.origin.place(), gone.sync.due_at),
        (app.id, None, None),
        "kept, and left alone"
    );
    assert_eq!(gone.sync.status, SyncStatus::Unreachable);
    assert_eq!(repository(&house, "ada/book").await.origin, Origin::Hosted);

    insta::assert_snapshot!(said(&house, &host, added(&all[..1])).await, @"added: acme/app");
    let back = repository(&house, "acme/app").await;
    assert_eq!((back.id, back.origin.place()), (app.id, Some(&place(1, "acme/app"))));
    assert!(back.sync.due_at.is_some(), "it is looked at again");
    // Another repository under the same name is not that one.
    insta::assert_snapshot!(said(&house, &host, added(&[found(9, "acme/app")])).await, @"not taken: acme/app (the name belongs to a repository that is watched at https://github.test/acme/app.git)");
}

#[tokio::test]
async fn a_watched_repository_gets_its_place() {
    let (house, host) = house().await;
    let origin =
        Origin::Watched { url: "https://github.test/Acme/App".to_owned(), credential: None, place: None };
    let own = Repository { origin, ..build::watched(&*house.clock, "ada/mine") };
    let _ = house.store.repository_create(&own).await.unwrap();
    insta::assert_snapshot!(said(&house, &host, added(&[found(1, "acme/app")])).await, @"added: acme/app");
    assert_eq!(house.store.repository_at(&place(1, "")).await.unwrap().unwrap().id, own.id);
}

#[tokio::test]
async fn an_issue_has_the_number_that_its_forge_says() {
    let mut house = House::new(&[]).await;
    let host = Arc::new(MemoryHost::new("s3cret").counting_issues_from(1_000));
    let world = Arc::get_mut(&mut house.world).expect("nobody else has it yet");
    world.hosts.insert(github(), host.clone());
    said(&house, &host, added(&[found(1, "acme/app")])).await;
    for (text, expect) in [
        ("https://github.test/acme/app/issues/7", 1_007),
        ("https://github.test/acme/app/-/work_items/7#note_1", 1_007),
        ("https://github.test/acme/app/-/merge_requests/7", 7),
        ("acme/app#7", 7),
    ] {
        let thread = Thread::parse(text).expect("it is one");
        let repository = why::repository(&house.world, &thread).await.expect("it is known");
        assert_eq!(thread.number_in(&house.world, &repository), expect, "{text}");
    }
}

#[tokio::test]
async fn facts_become_events_once() {
    let (house, host) = house().await;
    said(&house, &host, added(&[found(1, "acme/app")])).await;
    let both = [fact("issue/7/opened", house.clock.now()), fact("label/7/bug", house.clock.now())];
    let verdict = said(&house, &host, about(place(1, "acme/app"), Moved::Perhaps, &both)).await;
    assert_eq!(verdict, "acme/app: an event `issues`, an event `issues`, the repository is looked at next");
    assert_eq!(events(&house).await.len(), 2);
    let verdict = said(&house, &host, about(place(1, "acme/app"), Moved::No, &both[..1])).await;
    assert!(verdict.starts_with("acme/app: `issues` is known as evt_"), "{verdict}");
    let verdict = said(&house, &host, about(place(1, "acme/app"), Moved::No, &[])).await;
    assert_eq!(verdict, "acme/app: nothing that matters here");
    // Of the same name, and another repository.
    let verdict = said(&house, &host, about(place(2, "acme/app"), Moved::Perhaps, &both)).await;
    assert_eq!(verdict, "ignored: the server is not at home in acme/app");
    let verdict = said(&house, &host, Understood::Ignored("an edit never triggers".to_owned())).await;
    assert_eq!(verdict, "ignored: an edit never triggers");
    assert!(events(&house).await.is_empty());
}

#[tokio::test]
async fn a_new_name_is_believed_when_the_forge_says_so() {
    let (house, host) = house().await;
    said(&house, &host, added(&[found(1, "acme/app")])).await;
    let renamed = || about(place(1, "acme/tool"), Moved::No, &[]);
    // An old webhook that comes late: somebody else is there by now.
    host.found(Found { place: place(2, "acme/tool"), ..found(2, "acme/tool") });
    insta::assert_snapshot!(said(&house, &host, renamed()).await, @"acme/app: acme/tool is not its name any more");
    host.fail(ForgeError::later("GitHub is away"));
    host.fail(ForgeError::later("GitHub is away"));
    insta::assert_snapshot!(said(&house, &host, renamed()).await, @"acme/app: its new name acme/tool is not certain: GitHub is away");
    assert_eq!(repository(&house, "acme/app").await.origin.place(), Some(&place(1, "acme/app")));

    host.found(found(1, "acme/tool"));
    insta::assert_snapshot!(said(&house, &host, renamed()).await, @"acme/app: it is called acme/tool there now");
    let Origin::Watched { url, place: now, .. } = repository(&house, "acme/app").await.origin else {
        panic!("it is watched")
    };
    assert_eq!((url.as_str(), now), ("https://github.test/acme/tool.git", Some(place(1, "acme/tool"))));
    // The old name is free on the forge, and not here: who comes under it is another repository.
    insta::assert_snapshot!(said(&house, &host, added(&[found(3, "acme/app")])).await, @"not taken: acme/app (the name belongs to a repository that is watched at https://github.test/acme/tool.git)");
}

#[tokio::test]
async fn without_any_webhook_the_same_comes_of_it() {
    let (house, host) = house().await;
    host.at_home(Some(vec![found(1, "acme/app"), found(2, "acme/tool")]));
    assert_eq!(sweep(&house).await, Swept { repositories: 2, ..Swept::default() });
    let app = repository(&house, "acme/app").await;
    house.clock.advance(Duration::from_secs(60));
    house.forge.happened(fact("issue/7/opened", house.clock.now()));
    house.clock.advance(Duration::from_secs(59));
    assert_eq!(missed(&sweep(&house).await), 0, "its webhook may be on its way");
    house.clock.advance(Duration::from_secs(1));
    assert_eq!(missed(&sweep(&house).await), 2, "one in each, as the forge of this test says");
    assert_eq!(events(&house).await.len(), 2);
    // What a webhook told was not missed, and what was swept is no news in a webhook.
    house.forge.happened(fact("issue/8/opened", house.clock.now()));
    let told = [fact("issue/7/opened", house.clock.now()), fact("issue/8/opened", house.clock.now())];
    for found in [found(1, "acme/app"), found(2, "acme/tool")] {
        said(&house, &host, about(found.place, Moved::No, &told)).await;
    }
    assert_eq!(events(&house).await.len(), 2);
    house.clock.advance(Duration::from_secs(300));
    assert_eq!(missed(&sweep(&house).await), 0);
    assert!(events(&house).await.is_empty());

    host.at_home(Some(vec![found(2, "acme/thing")]));
    sweep(&house).await;
    assert_eq!(repository(&house, "acme/app").await.origin.place(), None);
    assert_eq!(repository(&house, "acme/tool").await.origin.place(), Some(&place(2, "acme/thing")));
    assert_eq!(repository(&house, "acme/app").await.id, app.id);
}

#[tokio::test]
async fn the_past_is_nobodys_question() {
    let (house, host) = house().await;
    let past = fact("issue/1/opened", house.clock.now());
    house.clock.advance(Duration::from_secs(3600));
    host.at_home(Some(vec![found(1, "acme/app")]));
    house.forge.happened(past);
    house.clock.advance(Duration::from_secs(3600));
    assert_eq!(missed(&sweep(&house).await), 0, "before the server was at home there");
    // While it was away for days, somebody asked something.
    house.forge.happened(fact("issue/2/opened", house.clock.now()));
    house.clock.advance(Duration::from_secs(4 * 24 * 3600));
    house.forge.happened(fact("issue/3/opened", house.clock.now()));
    house.clock.advance(Duration::from_secs(3600));
    assert_eq!(missed(&sweep(&house).await), 1, "what is three days old is not answered");
    // It is sent away and comes back: what happened meanwhile was not its business.
    host.at_home(Some(Vec::new()));
    sweep(&house).await;
    house.forge.happened(fact("issue/4/opened", house.clock.now()));
    house.clock.advance(Duration::from_secs(300));
    host.at_home(Some(vec![found(1, "acme/app")]));
    sweep(&house).await;
    house.clock.advance(Duration::from_secs(300));
    assert_eq!(missed(&sweep(&house).await), 0);
}

#[tokio::test]
async fn who_does_not_answer_is_asked_less_often() {
    let (house, host) = house().await;
    host.at_home(Some(vec![found(1, "acme/app"), found(2, "acme/tool")]));
    sweep(&house).await;
    let minutes = |number: u64| house.clock.advance(Duration::from_secs(number * 60));
    let of = SweepOf::Repository(repository(&house, "acme/app").await.id);
    minutes(5);
    house.forge.happened(fact("issue/7/opened", house.clock.now()));
    minutes(5);
    // One fails, and the other is asked all the same.
    house.forge.fail(ForgeError::later("it hangs"));
    let swept = sweep(&house).await;
    assert_eq!((swept.repositories, missed(&swept)), (2, 1));
    minutes(5);
    assert_eq!(sweep(&house).await.repositories, 1);
    minutes(5);
    let swept = sweep(&house).await;
    assert_eq!((swept.repositories, missed(&swept)), (2, 1), "and nothing is lost");

    // Who names a time is not asked for anything more until then.
    let until = house.clock.now().after(Duration::from_secs(1800));
    house.forge.fail(ForgeError { not_before: Some(until), ..ForgeError::later("too often") });
    assert_eq!(sweep(&house).await.repositories, 1);
    let kept: Vec<_> = [house.store.sweep_get(&of).await.unwrap()].into_iter().flatten().collect();
    assert_eq!(kept.len(), 1);

    minutes(60);
    house.forge.happened(fact("issue/8/opened", house.clock.now()));
    minutes(5);
    host.fail(ForgeError::later("GitHub is away"));
    assert_eq!(sweep(&house).await.repositories, 0, "the whole forge is away");
    assert_eq!(
        repository(&house, "acme/app").await.origin.place(),
        Some(&place(1, "acme/app")),
        "nothing is taken from that"
    );
    minutes(5);
    assert_eq!(sweep(&house).await.repositories, 0);
    minutes(5);
    assert_eq!(missed(&sweep(&house).await), 2);
}

#[tokio::test]
async fn what_failed_is_delivered_again() {
    let (house, host) = house().await;
    host.at_home(Some(Vec::new()));
    let start = house.clock.now();
    sweep(&house).await;
    house.clock.advance(Duration::from_secs(3600));
    host.failed(3);
    assert_eq!(sweep(&house).await.redelivered.get(&github()), Some(&3));
    house.clock.advance(Duration::from_secs(300));
    assert!(sweep(&house).await.redelivered.is_empty());
    let before = |at: Timestamp, seconds: i64| Timestamp::from_millis(at.millis() - seconds * 1000);
    let hour = start.after(Duration::from_secs(3600));
    assert_eq!(host.redelivered(), [start, before(start, 600), before(hour, 600)]);
}

#[tokio::test]
async fn with_a_token_addresses_are_asked_about() {
    let (house, host) = house().await;
    let mine = Repository {
        origin: Origin::Watched { url: found(1, "acme/app").url, credential: None, place: None },
        ..build::watched(&*house.clock, "acme/app")
    };
    let _ = house.store.repository_create(&mine).await.unwrap();
    let elsewhere = build::watched(&*house.clock, "ada/elsewhere");
    let _ = house.store.repository_create(&elsewhere).await.unwrap();
    host.found(found(1, "acme/app"));
    assert_eq!(sweep(&house).await.repositories, 1);
    assert_eq!(repository(&house, "acme/app").await.origin.place(), Some(&place(1, "acme/app")));
    assert_eq!(repository(&house, "ada/elsewhere").await.origin.place(), None);
}

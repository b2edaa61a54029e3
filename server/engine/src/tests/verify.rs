//! Proof: what the server wrote is told from what only looks like it.

use domain::effect::{Act, Author, CommentTarget, Effect, EffectKind, EffectStatus};
use domain::id::{EffectId, RunId};
use domain::marker::signed;
use domain::name::Commit;
use ports::clock::Clock;
use ports::forge::{Forge, ForgeError, Thing, ThingKind};
use ports::store::{Outbox, Recorded, Repositories};
use serde_json::json;
use testkit::build;

use super::house::House;
use crate::outbox::{self, OutboxOutcome};
use crate::verify::verify;

const WRITER: &str = "
  permissions: { contents: write }
  stages: [{ name: Write, script: put new.txt word }]
  outcomes:
    - create-pull-request: { title: Change, body: Look. }
    - add-comment: { body: Said once. }
    - add-comment: { body: \"Kept up to date, ${run.id}.\", sticky: true, key: place }
    - create-check: { name: writer, summary: Fine. }
";

/// A repository in which a daemon has written everything that one can.
struct Wall {
    house: House,
    /// What is said of each case.
    told: Vec<String>,
}

impl Wall {
    async fn new() -> Self {
        Self { house: House::new(&[("writer", WRITER)]).await, told: Vec::new() }
    }

    /// A new run writes; what it left, in its order.
    async fn write(&self) -> (RunId, Vec<Thing>) {
        let run = self.house.ended("writer", &json!({})).await.run.id;
        self.perform().await;
        let mut things = Vec::new();
        for effect in self.house.store.effect_list(run).await.unwrap() {
            let EffectStatus::Done { receipt } = effect.status else { panic!("{:?}", effect.status) };
            things.push(self.at(&receipt.url.expect("it is somewhere")).await);
        }
        (run, things)
    }

    async fn perform(&self) {
        while outbox::next(&self.house.world, self.house.worker).await.unwrap() != OutboxOutcome::Empty {}
    }

    async fn at(&self, url: &str) -> Thing {
        self.house.forge.look(&self.house.repository, url).await.unwrap().expect("it is there")
    }

    async fn tell(&mut self, case: &str, url: &str) {
        let told = match verify(&self.house.world, url).await {
            Ok(proof) if proof.is_proved() => {
                let effect = proof.effect.expect("a record");
                format!("proved, {}", effect.kind.as_str())
            }
            Ok(proof) => {
                let doubts = proof.doubts.iter().map(|doubt| format!("{}: {doubt}", doubt.code()));
                doubts.collect::<Vec<_>>().join("; ")
            }
            Err(refusal) => format!("{:?} {}: {}", refusal.kind, refusal.code, refusal.message),
        };
        self.told.push(format!("{case}: {told}"));
    }

    /// Somebody makes it otherwise, where it is or elsewhere.
    async fn forged(&mut self, case: &str, thing: &Thing, change: impl FnOnce(&mut Thing)) {
        let mut forged = thing.clone();
        change(&mut forged);
        self.house.forge.shows(forged.clone());
        self.tell(case, &forged.url).await;
        self.house.forge.shows(thing.clone());
    }

    fn script(&self, names: &[(&str, &str)]) -> String {
        let mut text = self.told.join("\n");
        for (name, id) in names {
            text = text.replace(id, &format!("<{name}>")).replace(&id[..12], &format!("<{name}>"));
        }
        text
    }
}

#[tokio::test]
async fn what_the_server_wrote_is_told_from_what_looks_like_it() {
    let mut wall = Wall::new().await;
    let (first, things) = wall.write().await;
    for thing in &things {
        wall.tell("as it was written", &thing.url).await;
    }
    let [pull, said, sticky, check] = &things[..] else { panic!("{things:?}") };
    wall.forged("line ends and a line more", said, |thing| {
        thing.text = thing.text.replace('\n', "\r\n") + "\r\n";
    })
    .await;
    wall.forged("a word is another", said, |thing| thing.text = thing.text.replace("once", "twice")).await;
    wall.forged("no marker", said, |thing| thing.text = "Said once.".to_owned()).await;
    wall.forged("another run's name", check, |thing| {
        thing.text = thing.text.replace(&first.to_string(), "run_0198000000007000800000000000002a");
    })
    .await;
    wall.forged("another daemon's name", said, |thing| {
        thing.text = thing.text.replace("\"writer\"", "\"reader\"");
    })
    .await;
    wall.forged("a key of nothing", said, |thing| {
        thing.text = thing.text.replace("\"key\":\"", "\"key\":\"x");
    })
    .await;
    wall.forged("another repository's name", said, |thing| {
        thing.text = thing.text.replace("\"ada/book\"", "\"eve/book\"");
    })
    .await;
    let elsewhere =
        |thing: &mut Thing, own| (thing.url, thing.own) = ("/ada/book/things/copy".to_owned(), own);
    wall.forged("a stranger's copy", said, |thing| elsewhere(thing, Some(false))).await;
    wall.forged("our own copy", said, |thing| elsewhere(thing, None)).await;
    wall.forged("a push", pull, |thing| thing.commit = Some(build::commit(7))).await;
    let (_, newer) = wall.write().await;
    assert_eq!(newer[2].url, sticky.url, "it is edited in place");
    wall.tell("edited by a later run", &sticky.url).await;
    wall.forged("put back", &newer[2], |thing| *thing = sticky.clone()).await;
    wall.tell("nothing there", "/ada/book/things/none").await;
    wall.tell("no such repository", "/ada/none/things/x").await;
    wall.tell("another host", "https://evil.example/ada/book/things/x").await;
    wall.tell("no address", "hello").await;
    wall.house.forge.fail(ForgeError::later("it is down"));
    wall.tell("away", &said.url).await;
    insta::assert_snapshot!(wall.script(&[("FIRST", &first.to_string())]));
}

#[tokio::test]
async fn a_commit_is_what_the_record_has_made() {
    let mut wall = Wall::new().await;
    let (first, things) = wall.write().await;
    let commit = things[0].commit.clone().expect("the change");
    let message = wall.house.git(&["log", "-1", "--format=%B", commit.as_str()]);
    let thing = |commit: &Commit, text: &str| Thing {
        kind: ThingKind::Commit,
        url: format!("/ada/book/commits/{commit}"),
        text: text.to_owned(),
        own: None,
        commit: Some(commit.clone()),
    };
    let made = thing(&commit, &message);
    wall.house.forge.shows(made.clone());
    wall.tell("as it was made", &made.url).await;
    wall.forged("rebased", &made, |there| *there = thing(&build::commit(9), &message)).await;
    wall.forged("a person's", &made, |there| *there = thing(&build::commit(9), "Mend it\n")).await;
    let other = build::digest(5).to_string();
    let digest = message.lines().find_map(|line| line.strip_prefix("Spellbook-Digest: ")).unwrap().to_owned();
    wall.forged("another digest", &made, |there| there.text = there.text.replace(&digest, &other)).await;
    let elsewhere = build::repository(&*wall.house.clock, "ada/other");
    let _ = wall.house.store.repository_create(&elsewhere).await.unwrap();
    wall.forged("in another repository", &made, |there| there.url = there.url.replace("book", "other")).await;
    let names = [("FIRST", first.to_string()), ("OTHER", other), ("DIGEST", digest)];
    let names: Vec<(&str, &str)> = names.iter().map(|(name, id)| (*name, id.as_str())).collect();
    insta::assert_snapshot!(wall.script(&names));
}

#[tokio::test]
async fn what_the_server_says_for_itself_is_proved_too() {
    let mut wall = Wall::new().await;
    let effect = |body: &str| Effect {
        id: EffectId::new(wall.house.clock.unique()),
        repository: wall.house.repository.id,
        author: Author::Server { act: Act::Plan },
        key: "plan/7".to_owned(),
        kind: EffectKind::AddComment {
            target: CommentTarget::Thread { number: 7 },
            body: body.to_owned(),
            sticky: true,
        },
        status: EffectStatus::wanted(wall.house.clock.now()),
        attempts: 0,
        created_at: wall.house.clock.now(),
    };
    let (first, second) = (effect("A plan."), effect("A later plan."));
    let store = wall.house.store.clone();
    assert_eq!(store.effect_record(&first, "first").await.unwrap(), Recorded::New);
    let url = "/ada/book/things/plan/7";
    let text = signed("A plan.", &first, &wall.house.repository.path);
    let early = Thing { kind: ThingKind::Comment, url: url.to_owned(), text, own: Some(true), commit: None };
    wall.house.forge.shows(early);
    wall.tell("before it was written", url).await;
    wall.perform().await;
    wall.tell("as it was written", url).await;
    assert_eq!(store.effect_record(&second, "second").await.unwrap(), Recorded::New);
    wall.tell("a newer one is on its way", url).await;
    let there = wall.at(url).await;
    wall.forged("as if a run had said it", &there, |thing| {
        let run = "\"run\":\"run_0198000000007000800000000000002a\"";
        thing.text = thing.text.replace("\"act\":\"plan\"", run);
    })
    .await;
    insta::assert_snapshot!(wall.script(&[]));
}

//! What people write on a forge and what they read there, as one text.

use std::cell::{Cell, RefCell};

use domain::effect::{EffectKind, Reaction};
use domain::event::{Actor, Event, EventKind};
use domain::id::EventId;
use domain::name::Commit;
use domain::run::Run;
use domain::value::Taint;
use ports::clock::Clock;
use ports::forge::PullRequest;
use ports::store::runs::RunFilter;
use ports::store::{Events, Page, Recorded, Runs};
use serde_json::{Value as Json, json};
use testkit::build;

use super::house::House;
use crate::outbox::{self, OutboxOutcome};

/// One issue or pull request, and everything that is said there.
pub(super) struct Talk {
    pub(super) house: House,
    number: u64,
    is_pull: bool,
    text: RefCell<String>,
    count: Cell<u64>,
    performed: Cell<usize>,
}

impl Talk {
    /// An issue, where ada may write and tom may sort things; nobody else is known.
    pub(super) fn about_issue(house: House) -> Self {
        house.forge.member("ada", "write");
        house.forge.member("tom", "triage");
        let (count, performed) = (Cell::new(100), Cell::new(0));
        Self { house, number: 3, is_pull: false, text: RefCell::default(), count, performed }
    }

    /// The same with a pull request.
    pub(super) fn about_pull(house: House) -> Self {
        Self { number: 7, is_pull: true, ..Self::about_issue(house) }
    }

    /// The pull request is at a commit, by somebody, from a fork or not.
    pub(super) fn at(&self, head: &Commit, by: &str, from_fork: bool) {
        self.house.forge.pull(PullRequest {
            number: self.number,
            head: head.clone(),
            branch: build::name("topic"),
            base: build::name("main"),
            from_fork,
            author: by.to_owned(),
            author_id: None,
            open: true,
            reference: "refs/pull/7/head".to_owned(),
            payload: json!({ "number": self.number, "title": "A change", "fork": from_fork }),
        });
    }

    /// Somebody comments; a name that ends in `[bot]` is a program's.
    pub(super) async fn says(&self, who: &str, body: &str) {
        self.edits(who, body, "created").await;
    }

    pub(super) async fn edits(&self, who: &str, body: &str, action: &str) {
        self.comments(json!({ "login": who }), body, action).await;
    }

    /// The account of this number comments, by whatever name.
    pub(super) async fn says_as(&self, id: u64, who: &str, body: &str) {
        self.comments(json!({ "login": who, "id": id }), body, "created").await;
    }

    async fn comments(&self, sender: Json, body: &str, action: &str) {
        let who = sender["login"].as_str().unwrap_or_default().to_owned();
        self.count.set(self.count.get() + 1);
        let id = self.count.get();
        let payload = json!({
            "action": action,
            "sender": sender,
            "issue": { "number": self.number, "pull_request": self.is_pull },
            "comment": { "id": id, "kind": "issue", "body": body },
        });
        self.note(&format!("{who}: {}", body.replace('\n', "\n     ")));
        self.happens(EventKind::Comment, &who, None, payload).await;
    }

    /// Something happens to the pull request, at a commit.
    pub(super) async fn pull(&self, action: &str, who: &str, head: &Commit) {
        self.note(&format!("({who}: {action})"));
        let url = format!("https://github.test/ada/book/pull/{}", self.number);
        let pull = json!({ "number": self.number, "html_url": url });
        let payload = json!({ "number": self.number, "action": action, "pull_request": pull });
        self.happens(EventKind::PullRequest, who, Some(head.clone()), payload).await;
    }

    /// Somebody puts a label on.
    pub(super) async fn label(&self, name: &str, who: &str) {
        self.note(&format!("({who} labels it {name})"));
        let payload =
            json!({ "action": "labeled", "issue": { "number": self.number }, "label": { "name": name } });
        self.happens(EventKind::Label, who, None, payload).await;
    }

    async fn happens(&self, kind: EventKind, who: &str, head: Option<Commit>, payload: Json) {
        let event = Event {
            id: EventId::new(self.house.clock.unique()),
            repository: self.house.repository.id,
            kind,
            action: payload["action"].as_str().map(str::to_owned),
            branch: (kind == EventKind::PullRequest).then(|| build::name("main")),
            commit: head,
            paths: Vec::new(),
            actor: Actor { name: who.to_owned(), role: None, bot: who.ends_with("[bot]") },
            labels: Vec::new(),
            draft: false,
            payload,
            taint: Taint::External,
            depth: 0,
            occurred_at: self.house.clock.now(),
        };
        assert_eq!(self.house.store.event_record(&event, None).await.unwrap(), Recorded::New);
        self.house.dispatch().await;
        self.listen().await;
    }

    /// Works until nothing is ready.
    pub(super) async fn work(&self) {
        self.house.work().await;
        self.house.dispatch().await;
        self.note("(runs are worked off)");
        self.listen().await;
    }

    /// Writes down what the server does on the forge.
    async fn listen(&self) {
        while outbox::next(&self.house.world, self.house.worker).await.unwrap() != OutboxOutcome::Empty {}
        let performed = self.house.forge.performed();
        for effect in &performed[self.performed.get()..] {
            let said = match &effect.kind {
                EffectKind::React { reaction, .. } => match reaction {
                    Reaction::Eyes => "👀".to_owned(),
                    Reaction::Rocket => "🚀".to_owned(),
                    Reaction::Confused => "😕".to_owned(),
                },
                EffectKind::AddComment { body, sticky, .. } => {
                    let place = if *sticky { format!("[{}] ", effect.key) } else { String::new() };
                    format!("{place}{body}")
                }
                EffectKind::RemoveLabels { labels, .. } => format!("(takes off {})", labels.join(", ")),
                other => format!("({})", other.as_str()),
            };
            self.note(&format!("   < {}", said.replace('\n', "\n     ")));
        }
        self.performed.set(performed.len());
    }

    fn note(&self, line: &str) {
        let mut text = self.text.borrow_mut();
        text.push_str(line);
        text.push('\n');
    }

    /// Everything that was said, with short names for runs and commits.
    pub(super) async fn script(&self, commits: &[(&str, &Commit)]) -> String {
        let mut text = self.text.borrow().clone();
        for (nth, run) in (1..).zip(self.runs().await) {
            text = text.replace(&run.id.to_string(), &format!("run_{nth}"));
        }
        let main = build::name::<Commit>(&self.house.git(&["rev-parse", "refs/heads/main"]));
        for (name, commit) in commits.iter().copied().chain([("MAIN", &main)]) {
            text = text.replace(commit.as_str(), &format!("<all of {name}>"));
            text = text.replace(&commit.as_str()[..12], &format!("<{name}>"));
            text = text.replace(&commit.as_str()[..8], &format!("<start of {name}>"));
        }
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        lines.join("\n")
    }

    /// All runs, oldest first.
    pub(super) async fn runs(&self) -> Vec<Run> {
        let mut runs = self.house.store.run_list(&RunFilter::default(), &Page::first(99)).await.unwrap();
        runs.reverse();
        runs
    }

    /// Why each daemon answered to the newest event or not.
    pub(super) async fn why(&self) -> Vec<String> {
        let store = &self.house.store;
        let newest = store
            .event_list(self.house.repository.id, Some(self.number), &Page::first(1))
            .await
            .unwrap()
            .remove(0);
        let matches = store.match_list(newest.id).await.unwrap();
        matches.into_iter().map(|record| format!("{}: {}", record.daemon, record.reason)).collect()
    }
}

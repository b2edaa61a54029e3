//! The story of a pull request on GitHub: a push deploys daemons, a pull request is planned, people ask for
//! things in comments, daemons answer, and a fix is offered. It is told undisturbed, and then with a server
//! that is killed again and again at any point of it, and with webhooks that are lost: what is at GitHub in
//! the end is always the same, and nothing is there twice.

mod bare;
mod fate;
mod front;
mod hooks;
mod shown;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use testkit::emulate::Emulator;
use testkit::hub::{ADA, BOT, account};

use self::fate::Fate;
use self::front::{Front, Open, written};
use crate::house::{House, hermetic};

const REVIEW: &str = r#"daemon:
  name: Review
  on:
    comment: { command: review }
    pull_request: { types: [synchronize] }
  stages:
    - { name: Look, script: 'cat words.txt | wc -l', output: lines }
  outcomes:
    - add-comment: { body: "I see ${lines} lines.", sticky: true }
"#;

const FIX: &str = r#"daemon:
  name: Fix
  on:
    comment: { command: fix }
  stages:
    - { name: Mend, script: 'sed -i s/teh/the/ words.txt' }
  outcomes:
    - create-pull-request: { title: "Mend the words of #${event.number}", body: "As asked.", labels: [words] }
    - create-check: { name: Words, conclusion: success, summary: "They are mended." }
"#;

/// So often the server dies in one story.
const DEATHS: usize = 10;
/// The parts of a story, among which its deaths are divided.
const PARTS: usize = 6;
/// Stories that are told at once: most of their time they wait for GitHub's pace.
const AT_ONCE: usize = 10;
/// No part of a story takes longer.
const LONGEST: Duration = Duration::from_secs(90);
/// What every story leaves at GitHub.
const ENDED: &str = "a_story_has_ended";

#[test]
fn a_pull_request_is_planned_reviewed_and_mended() {
    let story = tell("app", None);
    insta::assert_snapshot!(ENDED, story.shown);
    insta::assert_snapshot!(story.told);
}

#[test]
fn killed_at_any_point_it_ends_the_same() {
    told_with_deaths(1);
}

#[test]
fn killed_at_other_points_it_ends_the_same() {
    told_with_deaths(11);
}

#[test]
fn a_dashboard_is_opened_once() {
    let emulator = Arc::new(Emulator::start(&["app"]));
    let mut story = Story::begin(emulator, "app", None);
    story.write("spellbook.yaml", "dashboard: true\n");
    story.a_push_deploys_daemons();
    // It looks as soon as it lives again.
    for _ in 0..2 {
        story.rise();
        story.until("the dashboard", |story| !story.dashboards().is_empty());
    }
    let said = story.dashboards();
    assert!(
        matches!(said.as_slice(), [one] if one.contains("| `review` | Healthy | none yet |")),
        "{said:#?}"
    );
}

/// What came of a story.
struct Told {
    shown: String,
    /// What people are told who ask the server about it.
    told: String,
    deaths: Vec<String>,
    rises: Vec<Duration>,
}

#[expect(clippy::print_stdout, reason = "when a story ends otherwise, people want to tell it again")]
fn told_with_deaths(first: u64) {
    let seeds: Vec<u64> = (first..first + u64::try_from(AT_ONCE).unwrap()).collect();
    let stories: Vec<_> = seeds
        .iter()
        .map(|seed| {
            let seed = *seed;
            std::thread::spawn(move || tell("app", Some(seed)))
        })
        .collect();
    for (seed, story) in seeds.iter().zip(stories) {
        let story = story.join().unwrap_or_else(|_| panic!("the story of seed {seed} broke off"));
        assert!(story.deaths.len() >= DEATHS, "the server died only {} times", story.deaths.len());
        let slowest = story.rises.iter().max().copied().unwrap_or_default();
        println!("seed {seed}, started again within {slowest:?}, killed {}", story.deaths.join("; "));
        insta::assert_snapshot!(ENDED, story.shown, &format!("the story of seed {seed}"));
    }
}

/// Tells the story once.
fn tell(name: &str, seed: Option<u64>) -> Told {
    let emulator = Arc::new(Emulator::start(&[name]));
    let mut story = Story::begin(emulator, name, seed);
    story.a_push_deploys_daemons();
    let number = story.a_pull_request_is_planned();
    story.a_comment_asks_for_a_review(number);
    story.a_push_is_reviewed_again(number);
    story.a_fix_is_offered(number);
    story.a_misspelling_is_answered(number);
    story.end(number)
}

/// A story while it is told.
struct Story {
    house: House,
    open: Open,
    ada: tempfile::TempDir,
    disturbed: bool,
    rises: Vec<Duration>,
}

impl Story {
    /// A repository without daemons, and a server that is at home there.
    fn begin(emulator: Arc<Emulator>, name: &str, seed: Option<u64>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let open = Open::new(emulator, name, Fate::of(seed.unwrap_or_default()));
        let ada = tempfile::tempdir().unwrap();
        let mut house = House::with_config(&config(&open.front.url, ada.path()));
        // GitHub knows it by one address.
        house.url.trim_start_matches("http://").clone_into(&mut house.listen);
        open.front.write_into(Arc::clone(&house.said));
        let mut story = Self { house, open, ada, disturbed: seed.is_some(), rises: Vec::new() };
        story.front().fate().url.clone_from(&story.house.url);
        story.front().fate().lives(story.house.pid());
        story.git(&["init", "--quiet", "--initial-branch=main", "work"], ".");
        story.commit("words.txt", "one\ntwo\nteh end\n", "Begin");
        story.push("main");
        story.until("the server to be at home", |story| {
            story.house.try_get("repositories/acme/app").is_some_and(|it| it["sync"]["status"] == "Synced")
        });
        story
    }

    fn front(&self) -> Arc<Front> {
        Arc::clone(&self.open.front)
    }

    fn a_push_deploys_daemons(&mut self) {
        self.part();
        self.write("daemons/review/daemon.yaml", REVIEW);
        self.commit("daemons/fix/daemon.yaml", FIX, "Add daemons");
        self.push("main");
        self.until("both daemons", |story| {
            let daemons = story.house.try_get("daemons");
            daemons.is_some_and(|list| list["items"].as_array().is_some_and(|items| items.len() == 2))
        });
    }

    fn a_pull_request_is_planned(&mut self) -> u64 {
        self.part();
        self.git(&["checkout", "--quiet", "-b", "topic"], "work");
        self.write("daemons/review/daemon.yaml", &REVIEW.replace("I see", "There are"));
        self.commit("words.txt", "one\ntwo\nthree\nteh end\n", "Say more");
        self.push("topic");
        let number = 1;
        let front = self.front();
        let told = {
            let mut hub = front.hub();
            let said =
                json!({ "title": "Say more", "body": "Please look.", "head": "topic", "base": "main" });
            hub.new_pull(number, ADA, &said);
            hooks::of_pull(&hub, number, "opened", &account(ADA))
        };
        front.bare.point(&format!("refs/pull/{number}/head"), "refs/heads/topic");
        front.tell(vec![told]);
        self.until("a plan", |story| story.said_by_server(number, "Spellbook").is_some());
        self.until("the plan's check", |story| story.checks_of("topic") == 1);
        number
    }

    fn a_comment_asks_for_a_review(&mut self, number: u64) {
        self.part();
        self.comment(number, "/review");
        self.until("a review", |story| story.said_by_server(number, "I see 4 lines.").is_some());
    }

    fn a_push_is_reviewed_again(&mut self, number: u64) {
        self.part();
        self.commit("words.txt", "one\ntwo\nthree\nfour\nteh end\n", "Say even more");
        self.push("topic");
        self.until("another review", |story| story.said_by_server(number, "I see 5 lines.").is_some());
        self.until("the plan's check", |story| story.checks_of("topic") == 1);
    }

    fn a_fix_is_offered(&mut self, number: u64) {
        self.part();
        self.comment(number, "/fix");
        self.until("a pull request", |story| {
            let hub = story.front();
            let hub = hub.hub();
            hub.threads.values().any(|thread| thread["labels"][0]["name"] == "words")
        });
        self.until("its check", |story| story.checks_of("topic") == 2);
    }

    fn a_misspelling_is_answered(&mut self, number: u64) {
        self.part();
        self.comment(number, "/spellbook statsu");
        self.until("an answer", |story| story.said_by_server(number, "did you mean").is_some());
    }

    /// All that is still to come has come before the answer to the last question.
    fn end(mut self, number: u64) -> Told {
        while self.disturbed && self.front().fate().left > 0 {
            self.front().kill("while nothing happens");
            self.rise();
        }
        self.until("every webhook", |story| hooks::is_all_delivered(&story.front().hub()));
        self.comment(number, "/spellbook help");
        self.until("the last answer", |story| story.said_by_server(number, "five commands").is_some());
        let runs = self.house.runs("acme/app");
        let mut runs: Vec<String> =
            runs.iter().map(|run| format!("{} {}", run["daemon"], run["status"])).collect();
        runs.sort();
        let shown = format!("{}\nruns: {}", shown::of(&self.front()), runs.join(", "));
        let deaths = self.front().fate().deaths.clone();
        Told { shown, told: self.told(), deaths, rises: self.rises }
    }

    /// What the command line says about the story.
    fn told(&self) -> String {
        let asked: [&[&str]; 3] = [&["list"], &["status"], &["why", "acme/app#1", "--last", "20"]];
        let said =
            asked.map(|asked| format!("$ spellbook {}\n{}\n", asked.join(" "), self.house.says_to(asked)));
        shown::timeless(&shown::anonymous(&said.concat()))
    }

    /// The next part of the story begins, with its share of deaths.
    fn part(&mut self) {
        if self.disturbed {
            let share = DEATHS.div_ceil(PARTS);
            let fate = self.front();
            let mut fate = fate.fate();
            let more = share.min(DEATHS.saturating_sub(fate.deaths.len() + fate.left));
            fate.allow(more);
        }
    }

    /// Waits until something is so; a server that died in the meantime is started again.
    fn until(&mut self, what: &str, look: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        loop {
            let said = self.house.said.count();
            if self.front().fate().is_dead() {
                self.rise();
            } else if look(self) {
                return;
            } else {
                // Not everything that a server records is followed by a line.
                self.house.said.more_within(said, Duration::from_secs(1));
                assert!(began.elapsed() < LONGEST, "waited in vain for {what}\n{}", self.house.logged());
            }
        }
    }

    /// Starts the server again, which may die while it starts.
    fn rise(&mut self) {
        loop {
            self.house.kill();
            let began = Instant::now();
            let out = self.house.begin();
            self.front().fate().lives(self.house.pid());
            if self.house.first(out).is_some() {
                self.rises.push(began.elapsed());
                self.front().note("the server lives again");
                return;
            }
            assert!(self.front().fate().is_dead(), "it did not start: {}", self.house.logged());
        }
    }

    /// What the server said in a thread and that holds a word.
    fn said_by_server(&self, number: u64, word: &str) -> Option<Json> {
        let front = self.front();
        let hub = front.hub();
        let fits = |comment: &&Json| {
            comment["thread"] == number
                && comment["user"]["id"] == BOT
                && comment["body"].as_str().is_some_and(|body| body.contains(word))
        };
        hub.comments.iter().find(fits).cloned()
    }

    /// What the open issues say that tell how daemons fare.
    fn dashboards(&self) -> Vec<String> {
        let front = self.front();
        let hub = front.hub();
        let ours = hub.threads.values().filter(|thread| thread["title"] == "Daemons of this repository");
        ours.filter_map(|thread| thread["body"].as_str()).map(str::to_owned).collect()
    }

    /// How many checks the head of a branch has.
    fn checks_of(&self, branch: &str) -> usize {
        let front = self.front();
        let hub = front.hub();
        let Some(head) = hub.branches.get(branch) else { return 0 };
        hub.checks.iter().filter(|check| check["head_sha"] == **head).count()
    }

    fn comment(&self, number: u64, text: &str) {
        let front = self.front();
        let told = {
            let mut hub = front.hub();
            let id = hub.comment(number, ADA, text);
            let made = hub.comments.iter().find(|comment| comment["id"] == id).cloned().unwrap();
            hooks::of_comment(&hub, number, &made, &account(ADA))
        };
        front.tell(vec![told]);
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.ada.path().join("work").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    fn commit(&self, path: &str, text: &str, message: &str) {
        self.write(path, text);
        self.git(&["add", "--all"], "work");
        self.git(&["commit", "--quiet", "--message", message], "work");
    }

    /// Pushes a branch, and lets GitHub tell of it.
    fn push(&self, branch: &str) {
        let front = self.front();
        self.git(&["push", "--quiet", front.bare.path.to_str().unwrap(), branch], "work");
        front.pushed(&account(ADA));
    }

    fn git(&self, arguments: &[&str], directory: &str) {
        let mut git = hermetic(Command::new("git"), self.ada.path());
        git.args(arguments).current_dir(self.ada.path().join(directory));
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@example.com");
            git.env(format!("GIT_{who}_DATE"), "2026-11-01T09:00:00Z");
        }
        let output = git.output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn config(url: &str, home: &std::path::Path) -> String {
    let key = written(home, "key.pem", testkit::emulate::KEY);
    let secret = written(home, "secret", hooks::SECRET);
    format!(
        "[remotes]\nallow_http = true\nallow_private = true\npoll_seconds = 3600\n\
         [work]\nslots = 2\n[sandbox]\nprepared = 0\n\
         [[forges]]\nname = 'github'\nkind = 'github'\nurl = '{url}'\napi_url = '{url}'\napp_id = '{}'\n\
         private_key = {{ file = '{}' }}\nwebhook_secrets = [{{ file = '{}' }}]\n\
         allow_private = true\nallow_http = true\n",
        testkit::emulate::APP_ID,
        key.display(),
        secret.display(),
    )
}

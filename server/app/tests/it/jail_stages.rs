//! What stages do to one another and to their run: order, conditions, failures, time, calls, effects.
//! Each test is a house with a book of small daemons, run in real jails.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::house::{House, WorkTree};

/// A repository with these daemons (`id`, what stands below `name:`), deployed without starting a run.
pub(crate) fn book(house: &House, daemons: &[(&str, &str)]) -> WorkTree {
    let tree = house.work_tree("ada/book");
    tree.write("shared.txt", "one\ntwo\nthree\nfour\nfive\nsix\nseven\n");
    for (id, body) in daemons {
        tree.write(&format!("daemons/{id}/daemon.yaml"), &manifest(body));
    }
    tree.commit("Add daemons");
    let (accepted, said) = tree.push(&["-o", "skip", "main"]);
    assert!(accepted, "{said}");
    tree
}

/// A manifest with this below its name.
pub(crate) fn manifest(body: &str) -> String {
    format!("daemon:\n  name: Test\n{body}")
}

/// Starts a run of the book and waits for its end.
pub(crate) fn ended(house: &House, daemon: &str, inputs: &Json) -> Ended {
    end_of(house, &house.run(&format!("ada/book/{daemon}"), inputs))
}

/// Waits for a run's end and reads its journal.
pub(crate) fn end_of(house: &House, id: &str) -> Ended {
    let run = house.ended(id);
    let journal = house.get(&format!("runs/{id}/journal"))["items"].as_array().unwrap().clone();
    Ended { run, journal }
}

/// A run that has ended, and what its stages made.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) run: Json,
    pub(crate) journal: Vec<Json>,
}

impl Ended {
    pub(crate) fn id(&self) -> &str {
        self.run["run"]["id"].as_str().unwrap()
    }

    /// The status, the code of the failure and its words.
    #[track_caller]
    pub(crate) fn check(&self, status: &str, code: Option<&str>, words: &str) {
        let run = &self.run["run"];
        let message = run["message"].as_str().unwrap_or_default();
        assert_eq!((&run["status"], &run["failure_code"]), (&json!(status), &json!(code)), "{self:#?}");
        assert!(message.contains(words), "{words:?} is not in {message:?}");
    }

    #[track_caller]
    pub(crate) fn succeeded(&self) -> &Self {
        self.check("succeeded", None, "");
        self
    }

    /// The journal's entry of a stage.
    #[track_caller]
    pub(crate) fn stage(&self, path: &str) -> &Json {
        self.journal.iter().find(|stage| stage["path"] == path).unwrap_or_else(|| {
            panic!("{path} is not in the journal: {self:#?}");
        })
    }

    /// What a stage made.
    #[track_caller]
    pub(crate) fn output(&self, path: &str) -> &Json {
        &self.stage(path)["output"]
    }

    /// How each stage ended, by path.
    fn statuses(&self) -> BTreeMap<&str, &str> {
        let entries = self.journal.iter();
        entries.map(|stage| (stage["path"].as_str().unwrap(), stage["status"].as_str().unwrap())).collect()
    }
}

/// The lines of a run's log, as one text.
pub(crate) fn log(house: &House, run: &str) -> String {
    let lines = house.get(&format!("runs/{run}/logs?limit=200"));
    let texts = lines["items"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap());
    texts.collect::<Vec<_>>().join("\n")
}

/// A run once every effect that it wants is performed or refused.
pub(crate) fn settled(house: &House, run: &str) -> Json {
    house.until("its effects", |house| {
        let run = house.get(&format!("runs/{run}"));
        let pending = run["effects"].as_array().unwrap().iter().any(|effect| effect["status"] == "pending");
        (!pending).then_some(run)
    })
}

const SIDE_BY_SIDE: &str = r"
  stages:
    - { name: First, needs: [], script: 'sed -i s/one/ONE/ shared.txt; echo a > a.txt' }
    - { name: Last, needs: [], script: 'sed -i s/seven/SEVEN/ shared.txt; echo b > b.txt' }
    - { name: Both, needs: [First, Last], script: 'cat a.txt b.txt shared.txt | tr \\n ,', output: both }
";

const COLLISION: &str = r"
  stages:
    - { name: Left, needs: [], script: 'sed -i s/four/left/ shared.txt' }
    - { name: Right, needs: [], script: 'sed -i s/four/right/ shared.txt' }
    - { name: After, needs: [Left, Right], script: cat shared.txt }
";

#[test]
fn stages_side_by_side_are_merged_or_in_conflict() {
    let house = House::new();
    book(&house, &[("both", SIDE_BY_SIDE), ("collision", COLLISION)]);
    let merged = ended(&house, "both", &json!({}));
    assert_eq!(merged.succeeded().output("Both"), "a,b,ONE,two,three,four,five,six,SEVEN,");

    let collision = ended(&house, "collision", &json!({}));
    collision.check("failed", Some("workspace_conflict"), "shared.txt; let one of the two `needs` the other");
    let statuses = collision.statuses();
    assert_eq!(statuses["After"], "skipped");
    let sides = [statuses["Left"], statuses["Right"]];
    assert!(sides.contains(&"failed") && sides.contains(&"succeeded"), "{statuses:?}");
}

const CONDITIONS: &str = r#"
  stages:
    - { name: Break, script: "echo first >&2; echo 'the last word' >&2; exit 3" }
    - { name: After, script: "echo never" }
    - { name: Deeper, script: "echo never" }
    - { name: Rescue, needs: [Break], if: "failure()", script: 'echo "$why"', env: { why: "${stages.Break.error}" } }
    - { name: Always, needs: [Deeper], if: "always()", script: "echo always" }
    - { name: Calm, needs: [], script: "echo calm" }
    - { name: Healthy, needs: [Calm], if: "failure()", script: "echo never" }
    - { name: Never, needs: [], if: "1 == 2", script: "echo never" }
  on_failure:
    - { name: Tell, script: 'echo "told: $why"', env: { why: "${stages.Break.error}" }, output: told }
  outcomes:
    - add-comment: { body: "${told}", if: "failure()" }
    - add-comment: { body: "all went well" }
"#;

const TOLERANT: &str = r#"
  stages:
    - { name: Flaky, continue_on_error: true, script: "exit 1" }
    - { name: On, script: 'echo "it $how"', env: { how: "${stages.Flaky.status}" } }
  on_failure:
    - { name: Tell, script: "echo never" }
"#;

const NOTHING: &str = "
  stages:
    - { name: Never, if: 'false', script: 'echo never' }
";

#[test]
fn a_failure_decides_what_else_runs() {
    let house = House::new();
    book(&house, &[("conditions", CONDITIONS), ("tolerant", TOLERANT), ("nothing", NOTHING)]);
    let run = ended(&house, "conditions", &json!({}));
    run.check("failed", Some("exit_status"), "Break: exited with status 3: the last word");
    assert_eq!(run.run["run"]["failed_stage"], "Break");
    let expect = [
        ("After", "skipped"),
        ("Always", "succeeded"),
        ("Break", "failed"),
        ("Calm", "succeeded"),
        ("Deeper", "skipped"),
        ("Healthy", "skipped"),
        ("Never", "skipped"),
        ("Rescue", "succeeded"),
        ("on_failure/Tell", "succeeded"),
    ];
    assert_eq!(run.statuses(), BTreeMap::from(expect));
    for skipped in ["After", "Deeper"] {
        assert_eq!(run.stage(skipped)["message"], "needs `Break`, which did not succeed");
    }
    assert_eq!(run.stage("Never")["message"], "`if: 1 == 2` does not hold");
    assert_eq!(run.output("Rescue"), "exited with status 3: the last word");
    let settled = settled(&house, run.id());
    let bodies: Vec<&Json> =
        settled["effects"].as_array().unwrap().iter().map(|effect| &effect["wanted"]["body"]).collect();
    assert_eq!(bodies, ["told: exited with status 3: the last word"]);

    let tolerant = ended(&house, "tolerant", &json!({}));
    assert_eq!(tolerant.succeeded().output("On"), "it failed");
    assert_eq!(tolerant.stage("Flaky")["tolerated"], true);
    assert_eq!(tolerant.statuses().len(), 2);

    ended(&house, "nothing", &json!({})).check("skipped", None, "every stage was skipped");
}

const RETRIED: &str = r#"
  stages:
    - name: Twice
      retry: { limit: 2, backoff: { duration: 10ms } }
      script: |
        if [ -e /tmp/seen ]; then echo "the jail is not new" >&2; exit 9; fi
        touch /tmp/seen
        if [ -e tries ]; then cat tries; else echo "left by the first try" > tries; exit 7; fi
"#;

const EXHAUSTED: &str = r#"
  stages:
    - { name: Thrice, retry: { limit: 2, backoff: { duration: 10ms } }, script: "echo x >> tries; wc -l < tries; exit 7" }
"#;

const SLOW_STAGE: &str = "
  stages:
    - { name: Slow, timeout: 300ms, script: 'echo begun; exec sleep 60' }
    - { name: After, script: 'echo never' }
";

const SLOW_TOLERATED: &str = r#"
  stages:
    - { name: Slow, timeout: 300ms, continue_on_error: true, script: 'exec sleep 60' }
    - { name: After, script: 'echo "$how"', env: { how: "${stages.Slow.status}" } }
"#;

const SLOW_RUN: &str = "
  limits: { timeout: 3s }
  stages:
    - { name: Quick, script: 'echo quick' }
    - { name: Slow, continue_on_error: true, script: 'exec sleep 60' }
    - { name: Next, script: 'echo never' }
    - { name: Clean, if: always(), script: 'echo cleaned' }
";

#[test]
fn a_stage_is_tried_again_and_time_is_up() {
    let house = House::new();
    book(
        &house,
        &[
            ("retried", RETRIED),
            ("exhausted", EXHAUSTED),
            ("slow-stage", SLOW_STAGE),
            ("slow-tolerated", SLOW_TOLERATED),
            ("slow-run", SLOW_RUN),
        ],
    );
    // A new jail, on the files as the last try left them.
    let run = ended(&house, "retried", &json!({}));
    assert_eq!(run.succeeded().output("Twice"), "left by the first try");
    let said = log(&house, run.id());
    assert!(said.contains("exited with status 7; tried again in 10 ms"), "{said}");

    let run = ended(&house, "exhausted", &json!({}));
    run.check("failed", Some("exit_status"), "Thrice: exited with status 7");
    assert_eq!(run.output("Thrice"), "3");

    let run = ended(&house, "slow-stage", &json!({}));
    run.check("timed_out", Some("timed_out"), "Slow: took longer than its time limit of 300 ms");
    assert_eq!(run.output("Slow"), "begun", "what it wrote is kept");
    assert_eq!(run.statuses()["After"], "skipped");

    let run = ended(&house, "slow-tolerated", &json!({}));
    assert_eq!(run.succeeded().output("After"), "timed_out");

    let run = ended(&house, "slow-run", &json!({}));
    run.check("timed_out", Some("timed_out"), "Slow: the run took longer than its time limit of 3 s");
    let expect =
        [("Clean", "succeeded"), ("Next", "cancelled"), ("Quick", "succeeded"), ("Slow", "timed_out")];
    assert_eq!(run.statuses(), BTreeMap::from(expect));
}

const ENDLESS: &str = "
  stages:
    - { name: Wait, script: 'echo begun; exec sleep 600' }
    - { name: Clean, if: always(), script: 'echo cleaned' }
  on_failure:
    - { name: Tell, script: 'echo never' }
  outcomes:
    - add-comment: { body: never, if: always() }
";

const CALLS_ENDLESS: &str = "
  stages:
    - { name: Call, type: daemon, uses: ./endless }
";

/// Waits until a run has said something.
pub(crate) fn begun(house: &House, run: &str) {
    house.says(run, "begun");
}

/// Asks a run to end; gives the status of the answer.
fn cancel(house: &House, run: &str) -> (u16, Json) {
    house.post(&format!("runs/{run}/cancel"), &json!({}))
}

#[test]
fn a_cancelled_run_ends_once() {
    let house = House::with_config("[work]\nslots = 1\n");
    book(&house, &[("endless", ENDLESS), ("calls", CALLS_ENDLESS)]);
    let running = house.run("ada/book/endless", &json!({}));
    begun(&house, &running);
    let queued = house.run("ada/book/endless", &json!({}));
    let (status, answer) = cancel(&house, &queued);
    assert_eq!((status, &answer["status"]), (200, &json!("cancelled")), "it was only queued");

    assert_eq!(cancel(&house, &running).0, 202);
    let end = end_of(&house, &running);
    end.check("cancelled", None, "cancelled by admin");
    assert_eq!(end.statuses(), BTreeMap::from([("Clean", "succeeded"), ("Wait", "cancelled")]));
    assert_eq!(end.output("Clean"), "cleaned");
    assert_eq!(end.run["effects"], json!([]));
    let (status, problem) = cancel(&house, &running);
    assert_eq!((status, &problem["code"]), (409, &json!("run_ended")));
    assert_eq!(house.get(&format!("runs/{running}"))["run"], end.run["run"], "it stays as it was");
    end_of(&house, &queued).check("cancelled", None, "cancelled by admin");

    // A run that waits is ended with the one that it waits for.
    let caller = house.run("ada/book/calls", &json!({}));
    let called = house.until("the called run", |house| {
        let run = house.get(&format!("runs/{caller}"));
        (run["run"]["status"] == "waiting").then(|| run["children"][0].as_str().unwrap().to_owned())
    });
    begun(&house, &called);
    assert_eq!(cancel(&house, &caller).0, 202, "it has begun, and may clean up");
    end_of(&house, &caller).check("cancelled", None, "");
    end_of(&house, &called).check("cancelled", None, "");

    // Asked twice a run ends once, however far it has come.
    let twice = house.run("ada/book/endless", &json!({}));
    begun(&house, &twice);
    assert_eq!(cancel(&house, &twice).0, 202);
    assert!([202, 409].contains(&cancel(&house, &twice).0));
    end_of(&house, &twice).check("cancelled", None, "cancelled by admin");
}

const FOREACH: &str = r#"
  inputs:
    - { name: list, type: json }
  stages:
    - name: Each
      type: foreach
      items: "${list}"
      as: word
      limit: 2
      stages:
        - name: Shout
          script: 'sleep 0.4; [ "$word" != bad ] || { echo "bad item" >&2; exit 4; }; tr a-z A-Z <<< "$word"'
          output: loud
        - name: Judge
          type: rules
          rules: [{ when: "loud == 'ADA'", then: known }, { when: "loud == 'BOB'", then: "${word}" }, { then: "${loud}" }]
      output: judged
    - { name: Told, script: 'cat', input: "${judged}" }
"#;

#[test]
fn stages_run_for_each_item() {
    let house = House::new();
    book(&house, &[("each", FOREACH)]);
    let run = ended(&house, "each", &json!({ "list": ["ada", "bob", "$(id)", "eve"] }));
    assert_eq!(run.succeeded().output("Each"), &json!(["known", "bob", "$(ID)", "EVE"]));
    assert_eq!(run.output("Told"), r#"["known","bob","$(ID)","EVE"]"#);
    assert_eq!(most_at_once(&run, "/Shout"), 2, "{run:#?}");

    let run = ended(&house, "each", &json!({ "list": ["ada", "bad", "eve"] }));
    run.check(
        "failed",
        Some("items_failed"),
        "Each: 1 of 3 items failed; the first: Each[1]/Shout: exited with status 4: bad item",
    );
    let statuses = run.statuses();
    let shown = ["Each[0]/Judge", "Each[1]/Judge", "Each[2]/Judge", "Told"].map(|path| statuses[path]);
    assert_eq!(shown, ["succeeded", "skipped", "succeeded", "skipped"]);

    assert_eq!(ended(&house, "each", &json!({ "list": [] })).succeeded().output("Each"), &json!([]));
    ended(&house, "each", &json!({ "list": "7" })).check("failed", Some("items_invalid"), "is not a list");
    let many = vec![0; 1_001];
    ended(&house, "each", &json!({ "list": many })).check("failed", Some("too_many_items"), "at most 1000");
}

/// The most stages with such an end of their path that ran at the same time.
fn most_at_once(run: &Ended, suffix: &str) -> usize {
    let moment = |stage: &Json, key: &str| stage[key].as_str().unwrap().to_owned();
    let of: Vec<(String, String)> = run
        .journal
        .iter()
        .filter(|stage| stage["path"].as_str().unwrap().ends_with(suffix))
        .map(|stage| (moment(stage, "started_at"), moment(stage, "ended_at")))
        .collect();
    let during = |at: &String| of.iter().filter(|(start, end)| start <= at && at < end).count();
    of.iter().map(|(start, _)| during(start)).max().unwrap_or(0)
}

const CALLEE: &str = r#"
  inputs:
    - { name: word }
  stages:
    - { name: Shout, script: 'tr a-z A-Z <<< "$word"', output: loud }
    - { name: Fail, if: "word == 'bad'", script: "echo 'not this word' >&2; exit 5" }
"#;

const CALLER: &str = r#"
  inputs:
    - { name: word }
  stages:
    - { name: Call, type: daemon, uses: ./callee, inputs: { word: "${word}" }, output: got }
    - { name: Use, script: 'echo "got $got"' }
"#;

const CALLS_ITSELF: &str = "
  stages:
    - { name: Again, type: daemon, uses: ./itself }
";

const CALLS_NOBODY: &str = "
  stages:
    - { name: Call, type: daemon, uses: ./nobody }
";

const CALLS_WRONGLY: &str = "
  stages:
    - { name: Call, type: daemon, uses: ./callee, inputs: { wrod: x } }
";

#[test]
fn daemons_call_one_another_but_not_for_ever() {
    let house = House::new();
    book(
        &house,
        &[
            ("callee", CALLEE),
            ("caller", CALLER),
            ("itself", CALLS_ITSELF),
            ("lost", CALLS_NOBODY),
            ("wrong", CALLS_WRONGLY),
        ],
    );
    let run = ended(&house, "caller", &json!({ "word": "hi; $(id)" }));
    assert_eq!(run.succeeded().output("Use"), "got HI; $(ID)");
    let child = house.get(&format!("runs/{}", run.run["children"][0].as_str().unwrap()));
    assert_eq!(child["run"]["cause"]["parent"], run.run["run"]["id"]);
    assert_eq!(child["run"]["cause"]["parent_stage"], "Call");

    let run = ended(&house, "caller", &json!({ "word": "bad" }));
    run.check("failed", Some("callee_failed"), "failed: Fail: exited with status 5: not this word");
    ended(&house, "lost", &json!({})).check("failed", Some("daemon_not_found"), "has no daemon `nobody`");
    ended(&house, "wrong", &json!({})).check("failed", Some("inputs_invalid"), "`wrod` is not an input");

    let run = ended(&house, "itself", &json!({}));
    run.check("failed", Some("callee_failed"), "8 daemons have called one another; the next call is refused");
    let all = house.get("runs?repository=ada/book&daemon=itself")["items"].as_array().unwrap().clone();
    let mut codes: Vec<_> = all.iter().map(|run| run["failure_code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [["call_too_deep"].as_slice(), &["callee_failed"; 8]].concat());
}

#[test]
fn a_group_holds_only_so_many_runs() {
    let group = |behavior: &str, script: &str| {
        format!(
            "
  inputs:
    - {{ name: group, default: a }}
  concurrency: {{ group: '${{group}}', limit: 1, behavior: {behavior} }}
  stages:
    - {{ name: Wait, script: '{script}' }}
"
        )
    };
    let (queue, newest, first) = (
        group("queue", "sleep 0.5"),
        group("cancel", "echo begun; sleep 60"),
        group("fail", "echo begun; sleep 60"),
    );
    let house = House::with_config("[work]\nslots = 4\n");
    book(&house, &[("queue", &queue), ("newest", &newest), ("first", &first)]);
    let start =
        |daemon: &str, group: &str| house.run(&format!("ada/book/{daemon}"), &json!({ "group": group }));

    let queued = [start("queue", "a"), start("queue", "a")].map(|id| house.ended(&id)["run"].clone());
    assert!(queued.iter().all(|run| run["status"] == "succeeded"), "{queued:#?}");
    let moment = |run: &Json, key: &str| run[key].as_str().unwrap().to_owned();
    assert!(moment(&queued[1], "started_at") >= moment(&queued[0], "ended_at"), "{queued:#?}");

    let older = start("newest", "a");
    begun(&house, &older);
    let newer = start("newest", "a");
    let words = format!("cancelled by {newer}, newer in the concurrency group `newest");
    end_of(&house, &older).check("cancelled", None, &words);
    let other = start("newest", "b");
    begun(&house, &newer);
    begun(&house, &other);
    for run in [&newer, &other] {
        assert_eq!(cancel(&house, run).0, 202, "it goes on, other groups do not touch it");
    }

    let holder = start("first", "a");
    begun(&house, &holder);
    end_of(&house, &start("first", "a")).check("skipped", None, "/a` is full (limit 1)");
    cancel(&house, &holder);
    end_of(&house, &holder).check("cancelled", None, "");
}

#[test]
fn every_daemon_says_why_a_push_does_or_does_not_start_it() {
    let cases = [
        ("any", "{}", "`push` matches"),
        ("docs", "{ paths: ['docs/**'] }", "`push` matches"),
        ("trunk", "{ branches: ['*', '!release'] }", "`push` matches"),
        ("rust", "{ paths: ['src/**'] }", "`paths` wants src/**; the event has docs/a.md"),
        ("code", "{ paths_ignore: ['docs/**'] }", "`paths_ignore` wants docs/**; the event has docs/a.md"),
        ("release", "{ branches: ['release/*'] }", "`branches` wants release/*; the event has main"),
        ("eve", "{ actors: [eve] }", "`actors` wants eve; the event has admin"),
        ("wip", "{ skip_if: \"contains(event.commits[0].message, 'WIP')\" }", "`skip_if: "),
        ("rare", "{ cooldown: 1h }", "`cooldown`: it ran "),
    ];
    let house = House::new();
    let tree = house.work_tree("ada/book");
    for (id, push, _) in cases {
        let body = format!(
            "  on:\n    push: {push}\n  stages:\n    - {{ name: Done, type: rules, rules: [{{ then: ok }}] }}\n"
        );
        tree.write(&format!("daemons/{id}/daemon.yaml"), &manifest(&body));
    }
    tree.write("daemons/by-hand/daemon.yaml", &manifest("  stages:\n    - { name: Done, script: 'true' }\n"));
    tree.commit("Add daemons");
    assert!(tree.push(&["main"]).0);
    house.until("the first runs", |house| (house.runs("ada/book").len() >= 5).then_some(()));

    tree.write("docs/a.md", "words\n");
    tree.commit("WIP: Write");
    let commit = tree.says(&["rev-parse", "HEAD"]);
    assert!(tree.push(&["main"]).0);
    let run = house.until("a run of `docs`", |house| {
        house.runs("ada/book").into_iter().find(|run| run["daemon"] == "docs" && run["commit"] == commit)
    });
    let event = run["cause"]["event"].as_str().unwrap();
    let decisions = house.get(&format!("events/{event}/matches"))["items"].as_array().unwrap().clone();
    assert_eq!(decisions.len(), cases.len(), "{decisions:#?}");
    for (id, _, reason) in cases {
        let decision = decisions.iter().find(|decision| decision["daemon"] == id).unwrap();
        let found = decision["reason"].as_str().unwrap();
        assert!(found.starts_with(reason), "{id}: {found}");
        assert_eq!(decision["run"].is_string(), reason == "`push` matches", "{decision}");
    }
}

#[test]
fn a_daemon_follows_another_until_it_looks_like_a_loop() {
    let after = |id: &str| {
        format!(
            "  on:\n    daemon: {{ ids: [{id}] }}\n  stages:\n    - {{ name: Done, type: rules, rules: [{{ then: \"${{event.daemon.id}}\" }}] }}\n"
        )
    };
    let (ping, pong) = (after("pong"), after("ping"));
    let house = House::new();
    book(&house, &[("ping", &ping.replace("${event.daemon.id}", "ok")), ("pong", &pong)]);
    house.run("ada/book/ping", &json!({}));
    let refused = house.until("the event that starts nothing", |house| {
        let logged = house.logged();
        let lines = logged.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
        let mut said = lines.map(|line| line["fields"].clone());
        let last = said.find(|fields| fields["message"] == "dispatched: 0 runs")?;
        Some(last["event.id"].as_str()?.to_owned())
    });
    let reason = house.get(&format!("events/{refused}/matches"))["items"][0]["reason"].clone();
    assert_eq!(reason, "5 daemons have started one another; this looks like a loop");
    let mut runs = house.runs("ada/book");
    runs.reverse();
    let names: Vec<&str> = runs.iter().map(|run| run["daemon"].as_str().unwrap()).collect();
    assert_eq!(names, ["ping", "pong", "ping", "pong", "ping"]);
    assert_eq!(end_of(&house, runs[1]["id"].as_str().unwrap()).succeeded().output("Done"), "ping");
}

const REPORTER: &str = r#"
  inputs:
    - { name: word }
  stages:
    - name: Look
      script: >-
        printf '[{"path":"shared.txt","start_line":%d,"end_line":2,"level":"warning","message":"%s"}]' 2 "$word"
      schema: { type: array }
      output: remarks
    - { name: Fail, if: "word == 'bad'", script: "exit 1" }
  outcomes:
    - add-comment: { body: "now ${word}", sticky: true }
    - add-comment: { body: "said ${word}" }
    - create-check: { name: Words, if: always(), conclusion: "${success() ? 'success' : 'failure'}", summary: "about ${word}", annotations: "${remarks}" }
"#;

#[test]
fn comments_and_checks_are_edited_in_place() {
    let house = House::new();
    let tree = book(&house, &[("reporter", REPORTER)]);
    for word in ["one", "two"] {
        let run = ended(&house, "reporter", &json!({ "word": word }));
        settled(&house, run.succeeded().id());
    }
    let comments = house.get("repositories/ada/book/comments")["items"].as_array().unwrap().clone();
    let begin = |comment: &Json| comment["body"].as_str().unwrap().lines().next().unwrap().to_owned();
    let mut bodies: Vec<String> = comments.iter().map(begin).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["now two", "said one", "said two"]);

    let run = ended(&house, "reporter", &json!({ "word": "bad" }));
    run.check("failed", Some("exit_status"), "Fail");
    settled(&house, run.id());
    let commit = tree.says(&["rev-parse", "HEAD"]);
    let checks = house.get(&format!("repositories/ada/book/commits/{commit}/checks"))["items"].clone();
    assert_eq!(checks.as_array().unwrap().len(), 1, "{checks:#}");
    assert_eq!((&checks[0]["name"], &checks[0]["conclusion"]), (&json!("Words"), &json!("failure")));
    let remark =
        json!({ "path": "shared.txt", "start_line": 2, "end_line": 2, "level": "warning", "message": "bad" });
    assert_eq!(checks[0]["annotations"], json!([remark]));
}

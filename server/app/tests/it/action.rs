//! The Action, as its users have it: its own scripts, run as a runner runs them, against the real server.

use serde_json::{Value as Json, json};
use testkit::Issuer;

use crate::github::{GitHub, Relay, Runner, Step, now};
use crate::house::{House, SPELLBOOK};
use crate::jail_stages::book;

const GOOD: &str = "daemon:\n  name: Review\n  stages:\n    - { name: Say, type: script, script: echo hi }\n";
/// Wrong in a key and in a name.
const BAD: &str = "daemon:\n  name: Review\n  stagse: []\n";

fn no_secret_is_an_argument(step: &Step) {
    for mark in ["sb_", "eyJ", "Bearer", "request-token"] {
        assert!(!step.arguments.contains(mark), "{}", step.arguments);
    }
}

#[test]
fn an_identity_over_real_sockets_holds_once_and_only_as_it_is() {
    let github = GitHub::new();
    let house = House::with_config(&github.trusted_with(&["ada/book/*"]));
    let issuer = github.issuer();
    let good = |id: &str| issuer.claims(&house.url, now(), id);
    let exchange = |identity: String| {
        let client = reqwest::blocking::Client::new();
        let request = client.post(house.api("sign-in/actions")).json(&json!({ "token": identity }));
        let answer = request.send().unwrap();
        let status = answer.status().as_u16();
        let json: Json = answer.json().unwrap();
        format!("{status} {}", json["code"].as_str().unwrap_or_default())
    };
    let with = |id: &str, name: &str, value: Json| {
        let mut claims = good(id);
        claims[name] = value;
        issuer.sign(&claims)
    };
    assert_eq!(exchange(issuer.sign(&good("a"))), "201 ");
    assert_eq!(exchange(issuer.sign(&good("a"))), "401 identity_used");
    assert_eq!(exchange(with("b", "aud", json!("https://other.example"))), "401 identity_audience");
    assert_eq!(exchange(with("c", "iss", json!("https://other.example"))), "401 identity_issuer");
    assert_eq!(exchange(with("d", "exp", json!(now() - 100))), "401 identity_expired");
    assert_eq!(exchange(with("e", "repository", json!("evil/app"))), "403 identity_untrusted");
    assert_eq!(exchange(with("f", "event_name", json!("pull_request_target"))), "403 identity_untrusted");
    assert_eq!(exchange(Issuer::impostor(github.url()).sign(&good("g"))), "401 identity_forged");
    for (header, expect) in [
        (json!({ "alg": "none", "kid": "key-1" }), "401 identity_algorithm"),
        (json!({ "alg": "HS256", "kid": "key-1" }), "401 identity_algorithm"),
        (json!({ "alg": "RS256", "kid": "key-2" }), "401 identity_key_unknown"),
    ] {
        assert_eq!(exchange(issuer.sign_as(&header, &good("h"))), expect, "{header}");
    }
}

#[test]
fn daemon_files_are_checked_by_the_server_as_by_the_program() {
    let github = GitHub::new();
    let house = House::with_config(&github.trusted_with(&["ada/book/*"]));
    let runner = Runner::new(&github);
    let odd = "daemons/re,view/daemon.yaml";
    runner.check_out(&[("daemons/review/daemon.yaml", BAD), (odd, GOOD), ("README.md", "")]);
    std::os::unix::fs::symlink("/etc/passwd", runner.workspace().join("daemons/review/link.md")).unwrap();
    runner.check_out(&[]);
    let there = runner.step(&[("mode", "validate"), ("server", &house.url)]);
    let here = runner.step(&[("mode", "validate"), ("binary", SPELLBOOK)]);
    for step in [&there, &here] {
        assert_eq!(step.code, Some(1), "{step:#?}");
        let found =
            step.obeyed.iter().find(|line| line.contains("stagse")).unwrap_or_else(|| panic!("{step:#?}"));
        assert!(
            found.starts_with("::error file=daemons/review/daemon.yaml,line=3,endLine=3,col=3,"),
            "{found}"
        );
        assert!(found.contains("title=SB") && found.contains("%0Ahelp: did you mean `stages`?"), "{found}");
        assert_eq!(step.outputs["status"], "invalid");
        assert!(
            step.summary.contains("the daemons are not valid") && step.summary.contains("| SB0"),
            "{step:#?}"
        );
        no_secret_is_an_argument(step);
    }
    let errors = |step: &Step| {
        let mut lines: Vec<_> =
            step.obeyed.iter().filter(|line| line.starts_with("::error")).cloned().collect();
        lines.sort();
        lines
    };
    assert_eq!(errors(&there), errors(&here));
    std::fs::remove_dir_all(runner.workspace().join("daemons")).unwrap();
    runner.check_out(&[("daemons/review/daemon.yaml", GOOD)]);
    for step in [
        runner.step(&[("mode", "validate"), ("server", &house.url)]),
        runner.step(&[("mode", "validate"), ("binary", SPELLBOOK), ("path", "daemons/..")]),
    ] {
        assert_eq!((step.code, step.outputs["conclusion"].as_str()), (Some(0), "success"), "{step:#?}");
    }
    assert_eq!(runner.left_over(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_program_is_downloaded_when_it_is_the_one_that_is_meant() {
    use sha2::{Digest, Sha256};
    let github = GitHub::new();
    let runner = Runner::new(&github);
    runner.check_out(&[("daemons/review/daemon.yaml", GOOD)]);
    let program = format!("#!/bin/sh\nexec '{SPELLBOOK}' \"$@\"\n");
    github.offer("/1.2.3/spellbook-linux", program.as_bytes());
    let url = format!("{}/{{version}}/spellbook-{{os}}", github.url());
    let sum = hex::encode(Sha256::digest(program.as_bytes()));
    let step = |sum: &str| {
        runner.step(&[("mode", "validate"), ("version", "1.2.3"), ("download-url", &url), ("sha256", sum)])
    };
    assert_eq!(step(&sum).code, Some(0), "{:#?}", step(&sum));
    let other = step(&"0".repeat(64));
    assert!(other.obeyed[0].contains(&format!("has the SHA-256 {sum}, not the one")), "{other:#?}");
    assert_eq!(step("").code, Some(1));
}

#[test]
fn what_cannot_work_is_said_in_words() {
    let github = GitHub::new();
    let house = House::with_config(&github.trusted_with(&["ada/book/review"]));
    let mut runner = Runner::new(&github);
    runner.check_out(&[("README.md", "")]);
    let check = |runner: &Runner, inputs: &[(&str, &str)], expect: &str| {
        let step = runner.step(inputs);
        assert_eq!(step.code, Some(1), "{step:#?}");
        assert!(
            step.obeyed.len() == 1 && step.obeyed[0].starts_with("::error title=Spellbook::"),
            "{step:#?}"
        );
        assert!(step.obeyed[0].contains(expect), "{step:#?}");
    };
    let run = [("mode", "run"), ("server", &*house.url)];
    let with = |more: &[(&'static str, &'static str)]| [&run[..], more].concat();
    check(&runner, &[("mode", "destroy\n::warning::x")], "not \"destroy%0A::warning::x\"");
    check(
        &runner,
        &[("mode", "run"), ("daemon", "a/b/c"), ("server", "http://example.com")],
        "https address",
    );
    check(
        &runner,
        &[("mode", "run"), ("daemon", "a/b/c"), ("server", "https://a@b.example")],
        "https address",
    );
    check(&runner, &run, "needs a daemon");
    check(&runner, &with(&[("daemon", "ada/book/deploy")]), "may not start `ada/book/deploy` (out_of_reach)");
    check(&runner, &with(&[("daemon", "ada/book/review")]), "(repository_not_found)");
    check(&runner, &with(&[("daemon", "ada/book/review"), ("inputs", "{} {}")]), "not one JSON object");
    check(&runner, &with(&[("daemon", "ada/book/review"), ("inputs", "depth")]), "name=value");
    check(&runner, &with(&[("daemon", "ada/book/review"), ("timeout-minutes", "1h")]), "whole numbers");
    check(&runner, &with(&[("daemon", "a/b/c"), ("audience", "https://x.example")]), "(identity_audience)");
    check(&runner, &[("mode", "validate")], "needs a binary");
    check(&runner, &[("mode", "validate"), ("server", &house.url)], "no daemon in .");
    check(&runner, &[("mode", "local"), ("daemon", "daemons/x")], "no directory daemons/x");
    runner.forbid_identity();
    check(&runner, &with(&[("daemon", "a/b/c")]), "id-token: write");
    let step = runner.step(&with(&[("daemon", "ada/none/x"), ("token", "sb_of_nobody")]));
    assert!(step.obeyed[0].contains("(token_invalid)"), "{step:#?}");
}

/// Prints what a runner would obey, in a log and in what it makes.
const HOSTILE: &str = r#"
  inputs:
    - { name: who, type: string }
    - { name: many, type: integer, default: 1 }
  stages:
    - name: Say
      type: script
      output: said
      script: |
        say() { printf '::error::evil\n  ::set-output name=x::y\n##[add-path]/evil\n::stop-commands::x\n::x::\n'; }
        say >&2
        printf 'a\r::warning::evil\rb 100%% %%0A\n' >&2
        printf '```\n'
        say
        printf 'EOF\nstatus<<x\nsucceeded\nx\n<img src=x> for %s %s\n' "$who" "$many"
"#;

#[test]
fn jail_a_run_is_followed_and_nothing_that_it_says_is_obeyed() {
    let github = GitHub::new();
    let house = House::with_config(&github.trusted_with(&["ada/book/hostile"]));
    book(&house, &[("hostile", HOSTILE)]);
    let runner = Runner::new(&github);
    let inputs = "who=$(id) `id` ${{ x }}\n\nmany=7";
    let given =
        [("mode", "run"), ("server", &*house.url), ("daemon", "ada/book/hostile"), ("inputs", inputs)];
    let step = runner.step(&given);
    assert_eq!((step.code, &step.obeyed), (Some(0), &Vec::new()), "{step:#?}");
    let run = &step.outputs["run-id"];
    let shown = house.get(&format!("runs/{run}"));
    assert_eq!(shown["run"]["cause"]["actor"], "repo:acme/app");
    for (name, value) in
        [("status", "succeeded"), ("conclusion", "success"), ("cost-usd", "0.00"), ("pull-request-url", "")]
    {
        assert_eq!(step.outputs[name], value, "{name}");
    }
    let made = house.get(&format!("runs/{run}/journal"))["items"][0]["output"].as_str().unwrap().to_owned();
    assert!(made.contains("for $(id) `id` ${{ x }} 7") && made.contains("\nstatus<<x\n"), "{made}");
    assert_eq!(step.outputs["output"], made.trim_end_matches('\n'));
    assert!(step.log.contains("Say | ::error::evil") && step.log.contains("100% %0A"), "{}", step.log);
    // What it made is a block that its own fence does not end.
    assert!(step.summary.contains("\n````\n```\n::error::evil\n"), "{}", step.summary);
    no_secret_is_an_argument(&step);
    assert_eq!(runner.left_over(), Vec::<std::path::PathBuf>::new());
    // The same step, asked again, is the same run; with other inputs it is another one.
    assert_eq!(&runner.step(&given).outputs["run-id"], run);
    let other = [&given[..3], &[("inputs", r#"{ "who": "x" }"#)]].concat();
    assert_ne!(&runner.step(&other).outputs["run-id"], run);
}

#[test]
fn jail_a_run_that_fails_fails_the_job() {
    let github = GitHub::new();
    let house = House::with_config(&github.trusted_with(&["ada/**"]));
    let fails = "\n  stages:\n    - { name: Break, script: 'echo \"::warning::x\"; exit 3' }\n";
    let sleeps = "\n  limits: { timeout: 1s }\n  stages:\n    - { name: Sleep, script: 'sleep 60' }\n";
    book(&house, &[("fails", fails), ("sleeps", sleeps)]);
    let runner = Runner::new(&github);
    for (daemon, status, conclusion, word) in
        [("fails", "failed", "failure", "exit"), ("sleeps", "timed_out", "timed_out", "the run timed out")]
    {
        let address = format!("ada/book/{daemon}");
        let step = runner.step(&[("mode", "run"), ("server", &house.url), ("daemon", &address)]);
        assert_eq!(step.code, Some(1), "{step:#?}");
        assert_eq!((&*step.outputs["status"], &*step.outputs["conclusion"]), (status, conclusion));
        assert!(step.obeyed.len() == 1 && step.obeyed[0].contains(word), "{step:#?}");
        assert!(
            step.summary.starts_with(&format!("## Spellbook: {}\n", status.replace('_', " "))),
            "{step:#?}"
        );
    }
}

const SLOW: &str = "\n  stages:\n    - { name: Slow, script: 'echo begun; sleep 60' }\n";

#[test]
fn jail_a_cancelled_job_cancels_its_run() {
    let github = GitHub::new();
    let house = House::with_config(&github.trusted_with(&["ada/**"]));
    book(&house, &[("slow", SLOW)]);
    let runner = Runner::new(&github);
    let mut begun = runner.begin(&[("mode", "run"), ("server", &house.url), ("daemon", "ada/book/slow")]);
    begun.says("begun");
    begun.interrupt();
    let step = begun.end();
    assert_eq!((step.code, &*step.outputs["conclusion"]), (Some(130), "cancelled"), "{step:#?}");
    let run = house.ended(&step.outputs["run-id"]);
    assert_eq!(run["run"]["status"], "cancelled");
    assert!(run["run"]["message"].as_str().unwrap().contains("repo:acme/app"), "{run}");
    assert_eq!(runner.left_over(), Vec::<std::path::PathBuf>::new());
}

/// Its second life ends at once.
const TWICE: &str = "
  stages:
    - { name: First, script: 'seq 1 50' }
    - { name: Second, script: 'echo begun; sleep 3; echo over' }
";

#[test]
fn jail_a_server_that_comes_back_is_followed_on() {
    let (github, relay) = (GitHub::new(), Relay::new());
    let config = format!("public_url = '{}'\n{}", relay.url(), github.trusted_with(&["ada/**"]));
    let mut house = House::with_config(&config);
    relay.lead_to(&house);
    book(&house, &[("twice", TWICE)]);
    let runner = Runner::new(&github);
    let mut begun = runner.begin(&[("mode", "run"), ("server", &relay.url()), ("daemon", "ada/book/twice")]);
    begun.says("begun");
    house.kill();
    house.start();
    relay.lead_to(&house);
    let step = begun.end();
    assert_eq!((step.code, &*step.outputs["status"]), (Some(0), "succeeded"), "{step:#?}");
    for number in 1..=50 {
        let line = format!("First | {number}");
        assert_eq!(step.log.lines().filter(|shown| *shown == line).count(), 1, "{line}: {}", step.log);
    }
    assert_eq!(step.log.matches("Second | over").count(), 1, "{}", step.log);
}

#[test]
fn jail_a_server_that_stays_away_is_given_up() {
    let github = GitHub::new();
    let mut house = House::with_config(&github.trusted_with(&["ada/**"]));
    book(&house, &[("slow", SLOW)]);
    let runner = Runner::new(&github);
    let inputs =
        [("mode", "run"), ("server", &*house.url), ("daemon", "ada/book/slow"), ("patience-seconds", "2")];
    let mut begun = runner.begin(&inputs);
    begun.says("begun");
    house.kill();
    let step = begun.end();
    assert_eq!((step.code, &*step.outputs["conclusion"]), (Some(1), "failure"), "{step:#?}");
    assert!(step.obeyed[0].contains("out of reach for 2 seconds"), "{step:#?}");
}

#[test]
fn jail_a_daemon_runs_in_the_runner_itself() {
    let github = GitHub::new();
    let runner = Runner::new(&github);
    open_to_jails(&runner);
    let manifest = |body: &str| format!("daemon:\n  name: Test\n{body}");
    let fails = "\n  stages:\n    - { name: Break, script: 'exit 3' }\n";
    runner.check_out(&[
        ("daemons/hostile/daemon.yaml", &manifest(HOSTILE)),
        ("daemons/fails/daemon.yaml", &manifest(fails)),
    ]);
    let step = runner.step(&[
        ("mode", "local"),
        ("binary", SPELLBOOK),
        ("daemon", "daemons/hostile"),
        ("inputs", r#"{ "who": "@/etc/passwd", "many": 7 }"#),
    ]);
    assert_eq!((step.code, &step.obeyed), (Some(0), &Vec::new()), "{step:#?}");
    assert_eq!(&*step.outputs["status"], "succeeded");
    assert!(step.outputs["output"].contains("for @/etc/passwd 7"), "{step:#?}");
    let step = runner.step(&[("mode", "local"), ("binary", SPELLBOOK), ("daemon", "daemons/fails")]);
    assert_eq!((step.code, &*step.outputs["conclusion"]), (Some(1), "failure"), "{step:#?}");
}

/// Jails belong to other users, who must be able to pass through to their workspaces.
fn open_to_jails(runner: &Runner) {
    use std::os::unix::fs::PermissionsExt;
    let home = runner.workspace().parent().unwrap().to_owned();
    for directory in [home.clone(), home.join("temp")] {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o711)).unwrap();
    }
}

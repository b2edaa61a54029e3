//! Coding agents, and what programs of a daemon reach through the door of their jail.

use domain::money::NanoUsd;
use domain::route::{Ability, Ranking, Route};
use domain::stage::{HostUsage, ModelUsage, StageRecord, Tokens};
use ports::models::Choice;
use ports::proxy::{Guest, VisitReport};
use ports::source::{Source, View};
use serde_json::json;
use testkit::ScriptedProxy;

use super::house::{Ended, House};

/// A call of a guest's first model, for a cent.
fn call(guest: &Guest) -> ModelUsage {
    ModelUsage {
        requested: guest.choice.targets[0].clone(),
        served: "large".to_owned(),
        provider: "scripted".to_owned(),
        tokens: Tokens { input: 10, output: 5, ..Tokens::default() },
        cost: NanoUsd::from_nanos(10_000_000),
        ..ModelUsage::default()
    }
}

/// How one of several was chosen: by the guest's wish.
fn ranking(guest: &Guest) -> Ranking {
    Ranking { route: guest.choice.route, verdicts: Vec::new() }
}

/// A proxy through which so many calls are made by everybody who may ask a model, and one host is refused.
fn proxy(calls: usize) -> ScriptedProxy {
    ScriptedProxy::new(move |guest| VisitReport {
        calls: if guest.choice.targets.is_empty() { Vec::new() } else { vec![call(guest); calls] },
        rankings: if guest.choice.targets.len() > 1 { vec![ranking(guest)] } else { Vec::new() },
        hosts: guest.allowed.iter().map(|host| traffic(host)).collect(),
    })
}

fn traffic(host: &str) -> HostUsage {
    let (host, refused) = (host.to_owned(), Some("it is not allowed".to_owned()));
    HostUsage { host, port: 443, requests: 2, sent: 1, received: 2_048, refused }
}

/// One stage, with the script of what the agent does as its task.
fn stage(more: &str, task: &str) -> String {
    let task: String = task.lines().map(|line| format!("\n        {line}")).collect();
    format!(
        "\n  stages:\n    - name: Fix\n      agent: codex{more}\n      output: fixed\n      prompt_template: |{task}\n"
    )
}

async fn works(more: &str, task: &str, calls: usize) -> (House, Ended) {
    let house = House::visiting(&[("test", &stage(more, task))], proxy(calls)).await;
    let ended = house.ended("test", &json!({})).await;
    assert_eq!(house.proxy.open(), 0, "a visit was not ended");
    (house, ended)
}

async fn check(more: &str, task: &str, expect: &str) {
    let (_, ended) = works(more, task, 1).await;
    assert_eq!(ended.to_string(), expect);
}

fn fix(ended: &Ended) -> &StageRecord {
    &ended.journal[0]
}

#[tokio::test]
async fn an_agents_change_is_the_stages_commit_and_its_last_word_the_value() {
    let (house, ended) = works("", "put new.txt line\nsay session abc\nsay working\nsay All done.", 2).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    assert_eq!(ended.output("Fix"), "All done.");
    let record = fix(&ended);
    assert_eq!((record.usage.calls.len(), record.usage.cost()), (2, NanoUsd::from_nanos(20_000_000)));
    assert_eq!(record.output.as_ref().unwrap().value.taint, domain::value::Taint::External);

    let (view, commit) = (View::of(house.repository.id), record.snapshot.clone().unwrap());
    let changes = house.source.changes(&view, Some(&ended.run.commit), &commit).await.unwrap();
    let paths: Vec<String> = changes.iter().map(|change| change.path.clone()).collect();
    assert_eq!(paths, ["new.txt"]);
    let message = house.git(&["log", "-1", "--format=%B", commit.as_str()]);
    for trailer in ["Agent: codex 1.0", "Model: large", "Tokens: 30", "Cost: $0.02"] {
        assert!(
            message.contains(&format!("Spellbook-{trailer}\n")) || message.ends_with(trailer),
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_agent_is_admitted_to_its_models_with_the_runs_purse() {
    let more = "\n      turns: 7";
    let (house, ended) = works(more, "tell MODEL", 0).await;
    assert_eq!(ended.output("Fix"), "small");
    let guest = &house.proxy.guests()[0];
    assert_eq!((guest.choice.targets.as_slice(), guest.most_calls), (&["small".to_owned()][..], Some(8)));
    assert_eq!((guest.allowed.len(), guest.provider_tools.len()), (0, 0));
    assert!(!guest.till.is_bounded().await);

    let own = format!(
        "\n  models: {{ codex: {{ route: cheapest, targets: [one, two], requires: [tools] }} }}\n  limits: {{ cost: $0.50, turns: 5 }}{}",
        stage(more, "tell MODEL\ntell TURNS")
    );
    let house = House::visiting(&[("test", &own)], proxy(0)).await;
    let ended = house.ended("test", &json!({})).await;
    assert_eq!(ended.output("Fix"), "5", "{ended}");
    assert_eq!(fix(&ended).usage.rankings, [Ranking { route: Route::Cheapest, verdicts: Vec::new() }]);
    let guest = &house.proxy.guests()[0];
    let Choice { targets, route, needs, .. } = &guest.choice;
    assert_eq!(
        (targets.join(" ").as_str(), *route, &needs[..]),
        ("one two", Route::Cheapest, &[Ability::Tools][..])
    );
    assert!(guest.till.is_bounded().await);
}

#[tokio::test]
async fn the_token_and_the_way_are_in_the_environment_and_nothing_else() {
    let (house, _) = works("", "say ok", 0).await;
    let jail = &house.sandbox.jails()[0];
    let names: Vec<&str> = jail.env.keys().map(String::as_str).collect();
    assert_eq!(names, ["MODEL", "PROXY", "TOKEN", "TURNS"]);
    assert_eq!(jail.env["PROXY"], "http://127.0.0.1:8080");
}

#[tokio::test]
async fn what_an_agent_does_not_do_is_said() {
    check("", "put a b\nsay x\nfail", "failed: Fix: `codex` ended with status 1 (Fix failed)").await;
    check("", "say error cost_limit", "failed: Fix: `codex` may not spend more than is left of the run's money (ended with status 0) (Fix failed)").await;
    check(
        "",
        "say error turns_limit",
        "failed: Fix: `codex` has used all its turns (ended with status 0) (Fix failed)",
    )
    .await;
    check("", "", "failed: Fix: `codex` changed nothing and said nothing (Fix failed)").await;
    check("", "put a b", "succeeded (Fix succeeded)").await;
    let limited = format!("\n  limits: {{ cost: $0.015 }}{}", stage("", "say error cost_limit"));
    let house = House::visiting(&[("test", &limited)], proxy(2)).await;
    let outcome = house.ended("test", &json!({})).await.outcome();
    let why = "failed: Fix: a call of `codex` was not made: of $0.015, $0.01 are spent and $0.00 set aside";
    assert!(outcome.starts_with(why), "{outcome}");
    let (_, ended) = works("\n      turns: 2", "fail", 3).await;
    assert_eq!(ended.outcome(), "failed: Fix: `codex` asked models 3 times, which is all that it may");
    assert_eq!(fix(&ended).usage.calls.len(), 3, "what a failed agent used is forgotten");
}

#[tokio::test]
async fn what_was_spent_is_recorded_also_when_the_work_cannot_be_kept() {
    let much = format!("put much {}\nsay done", "x".repeat(100_000));
    let limited = format!("\n  limits: {{ disk: 64KiB }}{}", stage("", &much));
    let house = House::visiting(&[("test", &limited)], proxy(2)).await;
    let ended = house.ended("test", &json!({})).await;
    assert!(ended.outcome().starts_with("failed: Fix: the workspace cannot be"), "{ended}");
    assert_eq!(fix(&ended).usage.cost(), NanoUsd::from_nanos(20_000_000));
}

#[tokio::test]
async fn an_agent_with_a_schema_says_json() {
    let schema = "\n      schema: { type: object, required: [ok] }";
    let (_, ended) = works(schema, r#"say {"ok": true}"#, 0).await;
    assert_eq!(ended.output("Fix"), json!({ "ok": true }));
    for (task, words) in [
        ("say done", "is not JSON, which the stage's `schema` asks for"),
        ("say {}", "does not fit the stage's `schema`"),
        ("put a b", "the stage has a `schema`, but `codex` said nothing"),
    ] {
        let (_, ended) = works(schema, task, 0).await;
        assert!(ended.outcome().contains(words), "{task}: {ended}");
    }
}

#[tokio::test]
async fn one_that_cannot_be_installed_or_is_unknown_fails_the_stage() {
    let broken = "\n  stages:\n    - { name: Fix, type: agent, agent: broken, input: x }\n";
    let unknown = "\n  stages:\n    - { name: Fix, agent: gemini-cli, input: x }\n";
    let house = House::new(&[("broken", broken), ("unknown", unknown)]).await;
    let ended = house.ended("broken", &json!({})).await;
    assert_eq!(
        ended.outcome(),
        "failed: Fix: the coding agent `broken` could not be installed: nobody is there"
    );
    let ended = house.ended("unknown", &json!({})).await;
    assert_eq!(
        ended.outcome(),
        "failed: Fix: there is no coding agent `gemini-cli`; there are codex, broken"
    );
    assert_eq!(house.sandbox.jails().len(), 0);
}

#[tokio::test]
async fn an_agent_that_is_cancelled_ends_its_visit() {
    let house = House::visiting(&[("test", &stage("", "hang"))], proxy(1)).await;
    let run = house.start("test", &json!({})).await;
    let asking = async {
        house.until(async |house| (!house.sandbox.jails().is_empty()).then_some(())).await;
        crate::intake::cancel(&house.world, run, "ada").await.unwrap();
    };
    tokio::join!(house.work(), asking);
    let ended = house.end_of(run).await;
    assert_eq!(ended.to_string(), "cancelled: cancelled by ada (Fix cancelled)");
    assert_eq!((house.proxy.open(), fix(&ended).usage.calls.len()), (0, 1));
}

/// Only a daemon that may reach hosts has a door in its scripts' jails, and no model behind it.
#[tokio::test]
async fn a_script_reaches_the_hosts_of_its_daemon() {
    let scripts = "\n  stages:\n    - { name: Fetch, script: tell https_proxy }\n    - { name: Ask, type: hybrid, agent: small, script: tell NO_PROXY }\n";
    let open = format!(
        "\n  permissions: {{ network: {{ allowed: [a.example.com, b.example.com], blocked: [b.example.com] }} }}{scripts}"
    );
    let house = House::visiting(&[("closed", scripts), ("open", &open)], proxy(1)).await;
    let ended = house.ended("closed", &json!({})).await;
    assert_eq!(ended.output("Fetch"), "nothing");
    let taint = |ended: &Ended| fix(ended).output.as_ref().unwrap().value.taint;
    assert_eq!(taint(&ended), domain::value::Taint::Trusted);
    assert!(house.proxy.guests().is_empty());
    assert!(house.sandbox.jails().iter().all(|jail| matches!(jail.network, ports::sandbox::Network::None)));

    let ended = house.ended("open", &json!({})).await;
    assert_eq!(ended.output("Fetch"), "http://127.0.0.1:8080");
    assert_eq!(taint(&ended), domain::value::Taint::External, "it may read what others serve");
    let guests = house.proxy.guests();
    assert_eq!(guests.len(), 2);
    for (guest, record) in guests.iter().zip(&ended.journal) {
        assert_eq!(
            (guest.allowed.as_slice(), guest.choice.targets.len()),
            (&["a.example.com".to_owned()][..], 0)
        );
        let hosts: Vec<_> =
            record.usage.hosts.iter().map(|host| (host.host.as_str(), host.requests)).collect();
        assert_eq!(hosts, [("a.example.com", 2)]);
    }
    let log = house.log(ended.run.id).await;
    assert!(log.contains("asked a.example.com:443 2 times and was refused: it is not allowed"), "{log}");
}

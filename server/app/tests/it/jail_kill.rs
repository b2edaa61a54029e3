//! The server is killed, again and again, at any moment of a run: the run ends once, nothing is lost,
//! nothing is done twice, no process stays.

use serde_json::{Value as Json, json};

use crate::house::House;
use crate::jail_stages::{begun, book};

const STEPS: &str = r#"daemon:
  name: Steps
  inputs:
    - { name: nonce, type: string }
  stages:
    - { name: One, type: script, script: "echo $nonce-one >> trace.txt; echo one", output: one }
    - { name: Two, type: script, script: "echo $nonce-two >> trace.txt; echo $one two", output: two }
    - { name: Three, type: script, script: "echo $nonce-three >> trace.txt; cat trace.txt", output: three }
  outcomes:
    - add-comment: { body: "${nonce}: ${three}" }
"#;

/// How often the server dies.
const DEATHS: usize = 50;

/// So often a server is asked about a run before it dies, at most: its answers are the clock.
const ANSWERS: usize = 80;

const SLOW: &str = "
  stages:
    - { name: Slow, script: 'echo begun; sleep 1; echo done' }
";

#[test]
fn a_run_goes_on_at_once_when_its_server_is_started_again() {
    let mut house = House::new();
    book(&house, &[("slow", SLOW)]);
    let run = house.run("ada/book/slow", &json!({}));
    begun(&house, &run);
    house.kill();
    assert!(!house.logged().contains(TAKEN_OVER));
    house.start();
    assert_eq!(house.ended(&run)["run"]["status"], "succeeded");
    assert!(house.logged().contains(TAKEN_OVER), "its lease had to lapse\n{}", house.logged());
}

/// What a server says that need not wait for leases of its earlier life.
const TAKEN_OVER: &str = "took over 1 runs of an earlier life";

#[test]
fn whenever_the_server_dies_a_run_ends_once_and_nothing_is_lost() {
    let mut house = House::new();
    let tree = house.work_tree("ada/book");
    tree.write("daemons/steps/daemon.yaml", STEPS);
    tree.commit("Add steps");
    assert!(tree.push(&["-o", "skip", "main"]).0);

    let mut accepted = Vec::new();
    for death in 0..DEATHS {
        let nonce = format!("n{death}");
        accepted.push((nonce.clone(), house.run("ada/book/steps", &json!({ "nonce": nonce }))));
        // From the moment of acceptance to past the end of a run, in uneven steps.
        for _ in 0..death * death * 17 % ANSWERS {
            house.get(&format!("runs/{}", accepted[death].1));
        }
        house.kill();
        house.start();
    }
    for (nonce, id) in &accepted {
        let run = house.ended(id);
        assert_eq!(run["run"]["status"], "succeeded", "{run:#}");
        let names: Vec<&str> =
            run["stages"].as_array().unwrap().iter().map(|s| s["path"].as_str().unwrap()).collect();
        assert_eq!(names, ["One", "Two", "Three"], "{run:#}");
        let trace = run["stages"][2]["output"].as_str().unwrap();
        assert_eq!(
            trace,
            format!("{nonce}-one\n{nonce}-two\n{nonce}-three"),
            "a stage worked on another's leavings"
        );
    }
    let comments = house.until("every comment", |house| {
        let comments = every(house, "repositories/ada/book/comments");
        (comments.len() >= accepted.len()).then_some(comments)
    });
    assert_eq!(comments.len(), accepted.len(), "a comment was made twice");
    for (nonce, _) in &accepted {
        let about = comments
            .iter()
            .filter(|c| c["body"].as_str().unwrap().starts_with(&format!("{nonce}: ")))
            .count();
        assert_eq!(about, 1, "comments on {nonce}");
    }
    let ids: Vec<&str> = accepted.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(processes_of(&ids), Vec::<String>::new());
}

/// A whole list, part by part.
fn every(house: &House, path: &str) -> Vec<Json> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let part = house.get(&format!("{path}?limit=100{after}"));
        all.extend(part["items"].as_array().unwrap().iter().cloned());
        match part["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
}

/// The processes whose environment names one of these runs.
fn processes_of(runs: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&environment).into_owned();
        if runs.iter().any(|run| text.contains(&format!("SPELLBOOK_RUN={run}"))) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

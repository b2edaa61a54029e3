//! The way of a push: refused or deployed, run in a jail, answered with a comment and a proposal.

use serde_json::{Value as Json, json};

use crate::house::House;

const GREETER: &str = r#"daemon:
  name: Greeter
  license: Apache-2.0
  on:
    push: {}
  stages:
    - name: Greet
      type: script
      script: |
        echo "hello from $SPELLBOOK_BRANCH"
        echo "written by a daemon" > greeting.txt
      output: greeting
  outcomes:
    - add-comment: { body: "${greeting}", sticky: true }
    - create-pull-request: { title: "Greet", if: "${workspace.changed}" }
"#;

fn effect<'e>(run: &'e Json, kind: &str) -> &'e Json {
    let effects = run["effects"].as_array().unwrap();
    effects
        .iter()
        .find(|effect| effect["kind"] == kind)
        .unwrap_or_else(|| panic!("no {kind} among {effects:#?}"))
}

/// The newest run, once it and what it wants are settled.
fn settled(house: &House, repository: &str, count: usize) -> Json {
    let id = house.until("a run", |house| {
        let runs = house.runs(repository);
        (runs.len() >= count).then(|| runs[0]["id"].as_str().unwrap().to_owned())
    });
    house.ended(&id);
    house.until("its effects", |house| {
        let run = house.get(&format!("runs/{id}"));
        let pending = run["effects"].as_array().unwrap().iter().any(|effect| effect["status"] == "pending");
        (!pending).then_some(run)
    })
}

#[test]
fn a_broken_manifest_is_refused_with_its_place_and_a_hint() {
    let house = House::new();
    let tree = house.work_tree("ada/book");
    tree.write("daemons/greeter/daemon.yaml", &GREETER.replace("stages:", "stagse:"));
    tree.commit("Add a daemon with a slip");
    let (accepted, said) = tree.push(&["main"]);
    assert!(!accepted, "{said}");
    for expected in [
        "remote: ",
        "daemons/greeter/daemon.yaml:",
        "error[SB",
        "did you mean `stages`?",
        "deploy branch",
        "pre-receive hook declined",
    ] {
        assert!(said.contains(expected), "{expected:?} is missing:\n{said}");
    }
    assert_eq!(house.get("repositories/ada/book/branches")["items"], json!([]));

    // The same on another branch is a warning.
    let (accepted, said) = tree.push(&["main:try"]);
    assert!(accepted, "{said}");
    assert!(said.contains("cannot run on try"), "{said}");
}

#[test]
fn a_push_deploys_runs_and_answers() {
    let house = House::new();
    let tree = house.work_tree("ada/book");
    tree.write("daemons/greeter/daemon.yaml", GREETER);
    tree.commit("Add a greeter");
    let (accepted, said) = tree.push(&["main"]);
    assert!(accepted && said.contains("greeter  deployed"), "{said}");

    let run = settled(&house, "ada/book", 1);
    assert_eq!(run["run"]["status"], "succeeded", "{run:#}\n{}", house.logged());
    assert_eq!(effect(&run, "add-comment")["status"], "done", "{run:#}");
    assert_eq!(effect(&run, "create-pull-request")["status"], "done", "{run:#}");
    let comments = house.get("repositories/ada/book/comments");
    let body = comments["items"][0]["body"].as_str().unwrap();
    assert!(body.contains("hello from main") && body.contains(run["run"]["id"].as_str().unwrap()), "{body}");

    let proposal = house.get("repositories/ada/book/proposals/1");
    assert!(proposal["diff"]["patch"].as_str().unwrap().contains("+written by a daemon"), "{proposal:#}");
    let (status, merged) = house.post("repositories/ada/book/proposals/1/merge", &json!({}));
    assert_eq!((status, &merged["status"]), (200, &json!("merged")), "{merged:#}");
    assert!(tree.git(&["fetch", &tree.remote, "main"]).status.success());
    assert_eq!(tree.says(&["show", "FETCH_HEAD:greeting.txt"]), "written by a daemon");

    // The merge is a push: the daemon runs again, finds nothing to change, and edits its comment.
    let again = settled(&house, "ada/book", 2);
    assert_eq!(again["run"]["status"], "succeeded", "{again:#}");
    assert_eq!(house.get("repositories/ada/book/proposals")["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_second_push_names_what_changed_and_what_did_not() {
    let house = House::new();
    let tree = house.work_tree("ada/book");
    tree.write("daemons/greeter/daemon.yaml", GREETER);
    tree.write("daemons/other/daemon.yaml", &GREETER.replace("push: {}", "manual: {}"));
    tree.commit("Add two daemons");
    assert!(tree.push(&["-o", "skip", "main"]).0);
    tree.write(
        "daemons/other/daemon.yaml",
        &GREETER.replace("push: {}", "manual: {}").replace("hello", "good day"),
    );
    tree.commit("Change one");
    let (accepted, said) = tree.push(&["-o", "skip", "main"]);
    assert!(accepted, "{said}");
    assert!(said.contains("other    deployed") && said.contains("greeter  unchanged"), "{said}");
    assert!(said.contains("starts no runs"), "{said}");
    assert_eq!(house.runs("ada/book"), Vec::<Json>::new());
    let history = house.get("repositories/ada/book/daemons/other/revisions");
    assert_eq!(history["items"].as_array().unwrap().len(), 2, "{history:#}");
}

#[test]
fn a_fork_shows_what_it_wants_and_does_nothing() {
    let house = House::new();
    let tree = house.work_tree("ada/book");
    tree.write("daemons/greeter/daemon.yaml", GREETER);
    tree.commit("Add a greeter");
    assert!(tree.push(&["-o", "skip", "main"]).0);
    tree.write("daemons/greeter/daemon.yaml", &GREETER.replace("hello", "good day"));
    tree.commit("Try another greeting");
    let (accepted, said) = tree.push(&["main:polite"]);
    assert!(accepted && said.contains("triggers off"), "{said}");
    assert_eq!(house.runs("ada/book"), Vec::<Json>::new());

    let run = house.ended(&house.run("ada/book/greeter@polite", &json!({})));
    assert_eq!(run["run"]["status"], "succeeded", "{run:#}");
    assert_eq!(effect(&run, "add-comment")["status"], "staged", "{run:#}");
    assert_eq!(house.get("repositories/ada/book/comments")["items"], json!([]));
}

#[test]
fn what_a_run_did_can_be_fetched_compared_and_taken_up_again() {
    let house = House::new();
    let tree = house.work_tree("ada/book");
    let two = GREETER.replace("  outcomes:", "    - name: Shout\n      type: script\n      script: tr a-z A-Z <<< \"$greeting\"\n      output: loud\n  outcomes:");
    tree.write("daemons/greeter/daemon.yaml", &two);
    tree.commit("Add a greeter that shouts");
    assert!(tree.push(&["-o", "skip", "main"]).0);
    let id = house.run("ada/book/greeter", &json!({}));
    let run = house.ended(&id);
    assert_eq!(run["stages"][1]["output"], "HELLO FROM MAIN", "{run:#}");

    assert!(tree.git(&["fetch", &tree.remote, &format!("refs/spellbook/runs/{id}")]).status.success());
    assert_eq!(tree.says(&["show", "FETCH_HEAD:greeting.txt"]), "written by a daemon");
    assert!(tree.says(&["log", "-1", "--format=%B", "FETCH_HEAD~1"]).contains("Spellbook-Stage: Greet"));
    let diff = house.get(&format!("runs/{id}/stages/Greet/diff"));
    assert!(diff["patch"].as_str().unwrap().contains("+written by a daemon"), "{diff:#}");

    let (status, replay) = house.post(&format!("runs/{id}/replays"), &json!({ "from_stage": "Shout" }));
    assert_eq!(status, 201, "{replay:#}");
    let replayed = house.ended(replay["id"].as_str().unwrap());
    assert_eq!(replayed["run"]["status"], "succeeded", "{replayed:#}");
    assert_eq!(replayed["stages"][0]["snapshot"], run["stages"][0]["snapshot"]);
}

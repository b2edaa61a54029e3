//! Stages that have pictures made.

use std::sync::Arc;

use domain::money::NanoUsd;
use domain::value::Taint;
use serde_json::{Value as Json, json};
use testkit::ScriptedModels;

use super::house::{Ended, House};

async fn drawn(stages: &str) -> (House, Ended, Arc<ScriptedModels>) {
    let models = Arc::new(ScriptedModels::saying("I see.").with_names(&["small"]));
    let house = House::asking(&[("test", &format!("\n  stages:\n{stages}"))], models.clone()).await;
    let ended = house.ended("test", &json!({})).await;
    (house, ended, models)
}

#[tokio::test]
async fn a_picture_is_the_stages_commit_and_its_path_the_value() {
    let (house, ended, models) = drawn(
        r#"
    - { name: Draw it, type: image, agent: small, prompt_template: A fox., output: fox }
    - { name: Look, agent: small, input: What is it?, attachments: ["${fox}"] }
    - { name: Change, type: image, agent: small, input: Make it blue., attachments: ["${fox}"] }
"#,
    )
    .await;
    assert_eq!(ended.to_string(), "succeeded (Draw it succeeded, Look succeeded, Change succeeded)");
    assert_eq!(ended.output("Draw it"), "images/Draw-it.png");
    let record = &ended.journal[0];
    assert_eq!(record.output.as_ref().unwrap().value.taint, Taint::External);
    assert_eq!((record.usage.calls.len(), record.usage.cost()), (1, NanoUsd::from_nanos(1_000_000)));
    let commit = record.snapshot.clone().unwrap();
    let size = house.git(&["cat-file", "-s", &format!("{commit}:images/Draw-it.png")]);
    assert_eq!(size, "14");
    let message = house.git(&["log", "-1", "--format=%B", commit.as_str()]);
    for trailer in ["Model: small", "Cost: $0.001"] {
        assert!(message.contains(&format!("Spellbook-{trailer}")), "{message}");
    }
    let [first, second] = &models.drawings()[..] else { panic!("not two pictures") };
    assert_eq!((first.prompt.as_str(), first.from.len()), ("A fox.", 0));
    assert_eq!((second.prompt.as_str(), &second.from[0].bytes()[8..]), ("Make it blue.", &b"A fox."[..]));
    let log = house.log(ended.run.id).await;
    assert!(log.contains("images/Draw-it.png: 14 bytes, by small"), "{log}");
}

#[tokio::test]
async fn several_pictures_are_a_list() {
    let (_, ended, _) = drawn("    - { name: Draw, type: image, agent: small, input: two foxes }\n").await;
    assert_eq!(ended.output("Draw"), json!(["images/Draw.png", "images/Draw-2.png"]));
}

#[tokio::test]
async fn each_item_has_a_picture_of_its_own() {
    let (house, ended, _) = drawn(
        r#"
    - name: Each
      type: foreach
      items: '${fromJSON(''["fox","owl"]'')}'
      stages:
        - { name: Draw, type: image, agent: small, input: "${item}" }
"#,
    )
    .await;
    assert_eq!(ended.output("Each"), json!(["images/Each-0-Draw.png", "images/Each-1-Draw.png"]));
    let tip = ended.journal.iter().rev().find_map(|record| record.snapshot.clone()).unwrap();
    let files = house.git(&["ls-tree", "-r", "--name-only", tip.as_str(), "images/"]);
    assert_eq!(files, "images/Each-0-Draw.png\nimages/Each-1-Draw.png");
}

/// Links that a script left are not written through.
#[tokio::test]
async fn a_link_leads_a_picture_nowhere() {
    let link = |script: &str| {
        format!(
            "    - {{ name: Link, shell: [sh, -c], script: \"{script}\" }}\n    - {{ name: Draw, type: image, agent: small, input: x }}\n"
        )
    };
    let (house, ended, _) = drawn(&link("mkdir images && ln -s ../shared.txt images/Draw.png")).await;
    assert_eq!(ended.to_string(), "succeeded (Link succeeded, Draw succeeded)");
    let commit = ended.journal[1].snapshot.clone().unwrap();
    assert_eq!(house.git(&["show", &format!("{commit}:shared.txt")]), "one");
    let entry = house.git(&["ls-tree", commit.as_str(), "images/Draw.png"]);
    assert!(entry.starts_with("100644 blob"), "{entry}");

    let (_, ended, _) = drawn(&link("ln -s daemons images")).await;
    assert_eq!(
        ended.outcome(),
        "failed: Draw: the picture cannot be put into images/Draw.png: exited with status 1: images is a symbolic link; pictures are put into a directory"
    );
    // It is paid for all the same.
    assert_eq!(ended.journal[1].usage.calls.len(), 1);
}

#[tokio::test]
async fn a_refusal_leaves_nothing_behind() {
    let (_, ended, _) = drawn("    - { name: Draw, type: image, agent: small, input: nothing }\n").await;
    assert_eq!(ended.to_string(), "failed: Draw: it refused (Draw failed)");
    assert_eq!(ended.journal[0].output.as_ref().map(|output| &output.value.json), None::<&Json>);
}

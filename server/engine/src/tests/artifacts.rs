//! Artifacts: what a run leaves for people is kept, and nothing else.

use domain::effect::EffectStatus;
use domain::id::RunId;
use ports::clock::Clock;
use ports::store::Outbox;
use serde_json::json;

use super::house::House;
use crate::artifacts;
use crate::outbox::{self, OutboxOutcome};

/// What comes of one outcome of a daemon that writes some files: its reason, or the files that are kept.
async fn kept(house: &House, daemon: &str) -> (RunId, String) {
    let run = house.ended(daemon, &json!({})).await.run.id;
    while outbox::next(&house.world, house.worker).await.unwrap() != OutboxOutcome::Empty {}
    let effects = house.store.effect_list(run).await.unwrap();
    let [effect] = &effects[..] else { panic!("one outcome: {effects:?}") };
    let shown = match &effect.status {
        EffectStatus::Done { receipt } => receipt.summary.clone(),
        EffectStatus::Refused { reason } => reason.clone(),
        other => format!("{other:?}"),
    };
    (run, shown)
}

fn daemon(fields: &str) -> String {
    format!(
        "
  stages:
    - {{ name: Write, script: \"put report/a.txt one\\nput report/deep/b.txt two\\nput key.txt AKIAABCDEFGHIJKLMNOP\" }}
  outcomes: [upload-artifact: {{ {fields} }}]
"
    )
}

#[tokio::test]
async fn files_of_the_workspace_are_kept() {
    let named = daemon("name: report, path: report");
    let house = House::new(&[("writer", &named)]).await;
    let (run, shown) = kept(&house, "writer").await;
    assert_eq!(shown, "kept 2 files as report, 8 bytes");
    let [artifact] = &artifacts::list(&house.world, run).await.unwrap()[..] else { panic!("one artifact") };
    let paths: Vec<&str> = artifact.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!((artifact.name.as_str(), paths), ("report", vec!["report/a.txt", "report/deep/b.txt"]));
    let read = async |run, path| artifacts::read(&house.world, run, artifact.id, path).await;
    assert_eq!(&read(run, "report/deep/b.txt").await.unwrap()[..], b"two\n");
    for path in ["key.txt", "report", "report/../key.txt", ""] {
        assert_eq!(read(run, path).await.unwrap_err().code, "artifact_not_found", "{path}");
    }
    let other = kept(&house, "writer").await.0;
    assert_eq!(read(other, "report/a.txt").await.unwrap_err().code, "artifact_not_found", "another run's");
}

#[tokio::test]
async fn only_what_is_meant_and_may_leave_is_kept() {
    for (fields, expect) in [
        ("path: [\"report/*\"]", "kept 2 files as writer, 8 bytes"),
        ("path: [report, \"!report/deep\"]", "kept 1 file as writer, 4 bytes"),
        ("path: [report/a.txt], name: one", "kept 1 file as one, 4 bytes"),
        ("path: [\"*.html\"]", "no file of the workspace is called *.html"),
        (
            "path: [../../etc/passwd, /etc/passwd, \"~\"]",
            "no file of the workspace is called ../../etc/passwd, /etc/passwd, ~",
        ),
        ("path: key.txt", "upload-artifact: `key.txt` holds what looks like a key of AWS"),
        (
            "path: report, retention_days: \"${4000}\"",
            "upload-artifact: `retention_days` must be a whole number from 1 to 3650",
        ),
    ] {
        let house = House::new(&[("writer", &daemon(fields))]).await;
        assert_eq!(kept(&house, "writer").await.1, expect, "{fields}");
    }
}

#[tokio::test]
async fn they_are_gone_when_their_time_is_over() {
    let house = House::new(&[("writer", &daemon("path: report, retention_days: 7"))]).await;
    let (run, _) = kept(&house, "writer").await;
    let there = async || artifacts::list(&house.world, run).await.unwrap();
    let artifact = there().await.remove(0);
    let until = artifact.until.expect("a time");
    assert!(until.since(house.clock.now()) <= std::time::Duration::from_secs(7 * 24 * 3_600));
    house.clock.set(until);
    assert!(there().await.is_empty());
    let read = artifacts::read(&house.world, run, artifact.id, "report/a.txt").await;
    assert_eq!(read.unwrap_err().code, "artifact_not_found");
}

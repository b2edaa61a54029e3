//! Models that work with tools.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::money::NanoUsd;
use ports::Retry;
use ports::models::{Answer, Message, ModelError, Question};
use ports::source::{Source, View};
use serde_json::{Value as Json, json};
use testkit::ScriptedModels;

use super::house::{Ended, House};

const STAGE: &str =
    "\n  stages:\n    - { name: Fix, type: agent, agent: small, input: Fix it., output: said }\n";

type Turn = (&'static str, Json);

/// A model that calls these, a list for each answer, and says `done` then.
fn calling(turns: Vec<Vec<Turn>>) -> Arc<ScriptedModels> {
    let turn = AtomicUsize::new(0);
    let models = ScriptedModels::new(move |question| {
        let now = turn.fetch_add(1, Ordering::Relaxed);
        Ok(match turns.get(now) {
            Some(calls) => ScriptedModels::calling(question, "I look.", calls),
            None => ScriptedModels::answer(question, "done"),
        })
    });
    Arc::new(models.with_names(&["small"]))
}

async fn works(stage: &str, models: &Arc<ScriptedModels>) -> (House, Ended) {
    let house = House::asking(&[("test", stage)], models.clone()).await;
    let ended = house.ended("test", &json!({})).await;
    (house, ended)
}

/// What the model was told of its calls, in the order of the calls; a failure begins with `!`.
fn told(models: &ScriptedModels) -> Vec<String> {
    let last = models.questions().pop().unwrap();
    let results = last.messages.iter().filter_map(|message| match message {
        Message::Results(results) => Some(results),
        Message::User { .. } | Message::Assistant { .. } => None,
    });
    results
        .flatten()
        .map(|result| format!("{}{}", if result.failed { "!" } else { "" }, result.text))
        .collect()
}

/// What came of one call in each turn, besides.
async fn check(calls: &[Turn], expect: &[&str]) {
    let models = calling(calls.iter().map(|call| vec![call.clone()]).collect());
    let (_, ended) = works(STAGE, &models).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    assert_eq!(told(&models), expect);
}

#[tokio::test]
async fn a_models_changes_are_the_stages_commit() {
    let edit = json!({ "path": "shared.txt", "old": "one", "new": "two" });
    let models = calling(vec![
        vec![("list", json!({})), ("read", json!({ "path": "shared.txt" }))],
        vec![
            ("edit", edit),
            ("write", json!({ "path": "a/new.txt", "content": "line\n" })),
            ("run", json!({ "command": "say tested" })),
        ],
    ]);
    let (house, ended) = works(STAGE, &models).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    assert_eq!(ended.output("Fix"), "done");
    assert_eq!(
        told(&models),
        [
            "daemons/\ndaemons/test/\nshared.txt",
            "one\n",
            "it is replaced",
            "5 bytes are written",
            "It exited with status 0.\n\nstandard output:\ntested",
        ]
    );
    let record = &ended.journal[0];
    assert_eq!((record.usage.calls.len(), record.usage.cost()), (3, NanoUsd::from_nanos(3_000_000)));
    assert_eq!(record.output.as_ref().unwrap().value.taint, domain::value::Taint::External);
    let commit = record.snapshot.clone().unwrap();
    let changes =
        house.source.changes(&View::of(house.repository.id), Some(&ended.run.commit), &commit).await.unwrap();
    let paths: Vec<String> = changes.iter().map(|change| change.path.clone()).collect();
    assert_eq!(paths, ["a/new.txt", "shared.txt"]);
    assert_eq!(house.git(&["show", &format!("{commit}:shared.txt")]), "two");
    let message = house.git(&["log", "-1", "--format=%B", commit.as_str()]);
    for trailer in ["Model: small", "Tokens: 45", "Cost: $0.003"] {
        assert!(message.contains(&format!("Spellbook-{trailer}")), "{message}");
    }
    let log = house.log(ended.run.id).await;
    for line in [
        "I look.",
        "▸ read shared.txt",
        "▸ edit shared.txt",
        "▸ write a/new.txt",
        "tested",
        "▸ run say tested",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} is not in:\n{log}");
    }
}

#[tokio::test]
async fn a_model_is_told_what_it_may_and_what_was_said() {
    let models = calling(vec![vec![("list", json!({}))]]);
    let stage = "\n  stages:\n    - { name: Fix, agent: small, system: Be brief., input: Look., tools: [list, search] }\n";
    let (_, ended) = works(stage, &models).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    let [first, second] = &models.questions()[..] else { panic!("it was not asked twice") };
    let names: Vec<&str> = first.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["list", "search"]);
    let system = first.system.as_deref().unwrap();
    assert!(system.starts_with("You work on the files") && system.ends_with("\nBe brief."), "{system}");
    assert_eq!(first.messages, [Message::user("Look.")]);
    assert_eq!(second.messages.len(), 3);
    assert!(
        matches!(&second.messages[1], Message::Assistant { text, calls } if text == "I look." && calls.len() == 1)
    );
}

#[tokio::test]
async fn what_goes_wrong_in_a_call_is_told_to_the_model() {
    check(
        &[
            ("read", json!({ "path": "none.txt" })),
            ("read", json!({ "path": "shared.txt", "first": 9 })),
            ("edit", json!({ "path": "shared.txt", "old": "four", "new": "4" })),
            ("delete", json!({})),
            ("write", json!({ "path": "x" })),
            ("search", json!({ "pattern": "(" })),
            ("search", json!({ "pattern": "nowhere" })),
            ("search", json!({ "pattern": "^o", "files": "*.txt" })),
            ("run", json!({ "command": "say no\nfail" })),
        ],
        &[
            "!sed: can't read none.txt: No such file or directory",
            "!the file has fewer than 9 lines",
            "!`old` is not in the file; read the file again",
            "!there is no tool `delete`; there are read, write, edit, list, search, run",
            "!the arguments are not as the tool wants them: missing field `content` at line 1 column 12",
            "!grep: Unmatched ( or \\(",
            "(it is nowhere)",
            "shared.txt:1:one",
            "!It exited with status 1.\n\nstandard output:\nno",
        ],
    )
    .await;
}

/// What a model writes is an argument, whatever it looks like.
#[tokio::test]
async fn nothing_that_a_model_names_is_an_option_or_a_script() {
    let content = "--\n$(touch owned)\n";
    check(
        &[
            ("write", json!({ "path": "-n $(touch owned)/`touch owned`.txt", "content": content })),
            ("read", json!({ "path": "-n $(touch owned)/`touch owned`.txt" })),
            ("list", json!({ "path": "-n $(touch owned)" })),
            ("search", json!({ "pattern": "--version", "path": "-n $(touch owned)" })),
            ("edit", json!({ "path": "-n $(touch owned)/`touch owned`.txt", "old": "--", "new": "++" })),
            ("list", json!({ "depth": 1 })),
        ],
        &[
            "18 bytes are written",
            content,
            "-n $(touch owned)/`touch owned`.txt",
            "(it is nowhere)",
            "it is replaced",
            "-n $(touch owned)/\ndaemons/\nshared.txt",
        ],
    )
    .await;
}

#[tokio::test]
async fn turns_are_counted_and_the_last_ones_are_told() {
    let stage = "\n  stages:\n    - { name: Fix, type: agent, agent: small, input: Fix it., turns: 5 }\n";
    let models = calling(vec![vec![("list", json!({ "depth": 1 }))]; 9]);
    let (_, ended) = works(stage, &models).await;
    assert_eq!(
        ended.to_string(),
        "failed: Fix: the model has used all its 5 turns and is not done (Fix failed)"
    );
    assert_eq!((models.questions().len(), ended.journal[0].usage.calls.len()), (5, 5));
    let told = told(&models);
    assert_eq!(told[0], "daemons/\nshared.txt");
    assert!(
        told[2].ends_with("(You have 2 answers left, and the last one must call no tool.)"),
        "{}",
        told[2]
    );
    assert_eq!(told[3], "daemons/\nshared.txt\n\n(This was the last call of tools: now answer without any.)");
}

#[tokio::test]
async fn what_was_changed_and_spent_is_kept_when_the_model_fails() {
    let asked = AtomicUsize::new(0);
    let models = ScriptedModels::new(move |question: &Question| -> Result<Answer, ModelError> {
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(ScriptedModels::calling(
                question,
                "",
                &[("write", json!({ "path": "a", "content": "b" }))],
            )),
            _ => Err(ScriptedModels::failure("model_unavailable", "small is away", Retry::Later)),
        }
    });
    let (_, ended) = works(STAGE, &Arc::new(models.with_names(&["small"]))).await;
    assert_eq!(ended.to_string(), "failed: Fix: small is away (Fix failed)");
    assert_eq!(ended.journal[0].usage.calls.len(), 1);
    assert_ne!(ended.journal[0].snapshot.as_ref(), Some(&ended.run.commit));
}

#[tokio::test]
async fn a_model_that_does_nothing_has_failed() {
    let silent = ScriptedModels::new(|question| Ok(ScriptedModels::answer(question, " ")));
    let (_, ended) = works(STAGE, &Arc::new(silent.with_names(&["small"]))).await;
    assert_eq!(ended.outcome(), "failed: Fix: the model changed nothing and said nothing");
}

/// A conversation goes on with whoever answered first, also when that was not the first target.
#[tokio::test]
async fn a_conversation_stays_with_its_model() {
    let models = ScriptedModels::new(|question: &Question| {
        let answer = match question.messages.len() {
            1 => ScriptedModels::calling(question, "", &[("list", json!({}))]),
            _ => ScriptedModels::answer(question, "done"),
        };
        Ok(Answer { target: "second".to_owned(), ..answer })
    });
    let models = Arc::new(models.with_names(&["first", "second"]));
    let stage = format!("\n  models: {{ small: {{ targets: [first, second] }} }}{STAGE}");
    let (_, ended) = works(&stage, &models).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    let with: Vec<_> = models.questions().iter().map(|question| question.choice.stays_with.clone()).collect();
    assert_eq!(with, [None, Some("second".to_owned())]);
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_shortened() {
    let models = ScriptedModels::new(|question: &Question| {
        let long = |message: &Message| matches!(message, Message::Results(results) if results[0].text.len() > 10_000);
        match question.messages.iter().filter(|message| long(message)).count() {
            _ if question.messages.len() > 40 => Ok(ScriptedModels::answer(question, "done")),
            0..=9 => Ok(ScriptedModels::calling(
                question,
                "",
                &[("read", json!({ "path": "long.txt", "lines": 2000 }))],
            )),
            _ => Err(ScriptedModels::failure("model_incapable", "too long", Retry::Never)),
        }
    });
    let models = Arc::new(models.with_names(&["small"]));
    let house = House::asking(&[("test", STAGE)], models.clone()).await;
    let files = [("long.txt".to_owned(), "some words\n".repeat(4_000))];
    let main = testkit::build::name("main");
    house.push(&files, crate::reconcile::Pushed { branches: vec![main], actor: None, skip_runs: true }).await;
    let ended = house.ended("test", &json!({})).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    assert!(house.log(ended.run.id).await.contains("older results are left out"));
}

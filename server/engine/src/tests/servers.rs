//! Models that work with the tools of MCP servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ports::Retry;
use ports::mcp::McpError;
use ports::models::{Message, ToolResult};
use serde_json::{Value as Json, json};
use testkit::{ScriptedMcp, ScriptedModels};

use super::house::{Ended, House};

type Turn = (&'static str, Json);

const STAGES: &str = "
  mcp_servers:
    files: { command: hang, env: { WHOSE: '${event.actor.login}' }, allowed: ['*', '!secret'] }
  stages:
    - { name: Fix, type: agent, agent: small, input: Fix it., output: said }
";

/// A model that calls these, one in each answer, and says `done` then.
fn calling(turns: Vec<Turn>) -> Arc<ScriptedModels> {
    let turn = AtomicUsize::new(0);
    let models = ScriptedModels::new(move |question| {
        Ok(match turns.get(turn.fetch_add(1, Ordering::Relaxed)) {
            Some(call) => ScriptedModels::calling(question, "", std::slice::from_ref(call)),
            None => ScriptedModels::answer(question, "done"),
        })
    });
    Arc::new(models.with_names(&["small"]))
}

/// What the model was told of its calls; a failure begins with `!`.
fn told(models: &ScriptedModels) -> Vec<String> {
    let last = models.questions().pop().unwrap();
    let results = last.messages.iter().filter_map(|message| match message {
        Message::Results(results) => Some(results),
        Message::User { .. } | Message::Assistant { .. } => None,
    });
    let mark = |result: &ToolResult| format!("{}{}", if result.failed { "!" } else { "" }, result.text);
    results.flatten().map(mark).collect()
}

async fn works(stages: &str, models: &Arc<ScriptedModels>, mcp: ScriptedMcp) -> (House, Ended) {
    let house = House::meeting(&[("test", stages)], models.clone(), mcp).await;
    let ended = house.ended("test", &json!({})).await;
    (house, ended)
}

#[tokio::test]
async fn a_servers_tools_are_offered_beside_ours_and_called() {
    let models = calling(vec![
        ("files__read_all", json!({ "path": "a" })),
        ("files__break", json!({})),
        ("read", json!({ "path": "shared.txt" })),
        ("files__secret", json!({})),
    ]);
    let mcp = ScriptedMcp::new(&["read.all", "break", "secret"], |tool, arguments| match tool {
        "read.all" => ScriptedMcp::said(&format!("all of {}", arguments["path"])),
        _ => Ok(ToolResult { text: "it is broken".to_owned(), failed: true }),
    });
    let (house, ended) = works(STAGES, &models, mcp).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    let first = &models.questions()[0];
    let names: Vec<&str> = first.tools.iter().map(|tool| tool.name.as_str()).collect();
    let ours = ["read", "write", "edit", "list", "search", "run"];
    assert_eq!(names, [&ours[..], &["files__break", "files__read_all"]].concat());
    assert!(first.system.as_ref().unwrap().contains("two underscores"), "{first:?}");
    let told = told(&models);
    assert_eq!(told[..3], ["all of \"a\"", "!it is broken", "one\n"]);
    assert!(told[3].starts_with("!there is no tool `files__secret`; there are read, "), "{told:?}");
    assert!(told[3].contains("files__read_all"), "{told:?}");
    let called: Vec<String> = house.mcp.called().into_iter().map(|(tool, _)| tool).collect();
    assert_eq!(
        (called, house.mcp.met()),
        (vec!["read.all".to_owned(), "break".to_owned()], vec!["pipes".to_owned()])
    );
    let jails = house.sandbox.jails();
    let (server, tools): (Vec<_>, Vec<_>) = jails.iter().partition(|jail| jail.command == ["hang"]);
    assert_eq!((server.len(), tools.len()), (1, 1), "{jails:?}");
    assert_eq!(server[0].workspace, tools[0].workspace);
    assert!(server[0].env.contains_key("WHOSE"), "{jails:?}");
    let log = house.log(ended.run.id).await;
    for line in [
        "the MCP server `files` offers 2 of its 3 tools",
        "▸ files/read.all {\"path\":\"a\"}",
        "▸ files/break {}: it is broken",
    ] {
        assert!(log.lines().any(|found| found == line), "{line} is not in:\n{log}");
    }
}

#[tokio::test]
async fn a_stage_has_the_tools_that_it_names() {
    let models = calling(vec![]);
    let stages = "
  mcp_servers:
    files: { command: hang }
    notes: { command: hang }
    other: { command: hang }
  stages:
    - { name: Ask, agent: small, input: Look., tools: [list, 'files/get_*', notes/set] }
    - { name: Only, agent: small, input: Look., tools: [other/get_a] }
    - { name: None, agent: small, input: Look., tools: [list] }
";
    let mcp = ScriptedMcp::new(&["get_a", "get_b", "set"], |_, _| ScriptedMcp::said("ok"));
    let (house, ended) = works(stages, &models, mcp).await;
    assert_eq!(ended.to_string(), "succeeded (Ask succeeded, Only succeeded, None succeeded)");
    let names: Vec<Vec<String>> = models
        .questions()
        .iter()
        .map(|question| question.tools.iter().map(|tool| tool.name.clone()).collect())
        .collect();
    assert_eq!(
        names,
        [vec!["list", "files__get_a", "files__get_b", "notes__set"], vec!["other__get_a"], vec!["list"]]
    );
    assert_eq!(house.mcp.met().len(), 3);
}

#[tokio::test]
async fn a_server_that_cannot_be_met_ends_the_stage_and_says_how_it_ended() {
    let stages = |command: &str| {
        format!(
            "
  mcp_servers:
    files: {{ command: {command} }}
  stages:
    - {{ name: Fix, type: agent, agent: small, input: Fix it. }}
"
        )
    };
    let gone = || ScriptedMcp::failing("mcp_gone", "it has ended");
    let (_, ended) = works(&stages("fail"), &calling(vec![]), gone()).await;
    assert_eq!(ended.outcome(), "failed: Fix: the MCP server `files` does not work: it exited with status 1");
    let (_, ended) = works(&stages("say what"), &calling(vec![]), gone()).await;
    assert_eq!(ended.outcome(), "failed: Fix: the MCP server `files` does not work: it has ended by itself");
    let late = ScriptedMcp::failing("mcp_timed_out", "it did not answer within 60s");
    let (house, ended) = works(&stages("hang"), &calling(vec![]), late).await;
    let message = "failed: Fix: the MCP server `files` does not work: it did not answer within 60s";
    assert_eq!(ended.outcome(), message);
    let record = &ended.journal[0];
    assert_eq!(record.end.as_str(), "failed");
    assert_eq!(house.sandbox.jails().len(), 1, "and its jail was ended, or the run had not");
}

#[tokio::test]
async fn a_server_that_dies_in_between_is_told_of_and_the_work_goes_on() {
    let models = calling(vec![("files__look", json!({})), ("files__look", json!([])), ("list", json!({}))]);
    let mcp = ScriptedMcp::new(&["look"], |_, _| {
        Err(McpError { code: "mcp_gone", message: "it has ended".to_owned(), retry: Retry::Later })
    });
    let stages = STAGES.replace("hang", "fail");
    let (_, ended) = works(&stages, &models, mcp).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    let told = told(&models);
    assert_eq!(told[0], "!the MCP server `files` gave no result: it exited with status 1");
    assert!(
        told[1].starts_with("!the arguments are not as the tool wants them: invalid type: sequence"),
        "{told:?}"
    );
    assert!(told[2].starts_with("daemons/"), "{told:?}");
}

#[tokio::test]
async fn a_test_without_a_recording_of_it_fails() {
    let models = calling(vec![("files__look", json!({}))]);
    let mcp = ScriptedMcp::new(&["look"], |_, _| {
        Err(McpError { code: "not_recorded", message: "no recording".to_owned(), retry: Retry::Never })
    });
    let (_, ended) = works(STAGES, &models, mcp).await;
    assert_eq!(ended.outcome(), "failed: Fix: no recording");
}

#[tokio::test]
async fn a_long_result_is_shown_in_part() {
    let models = calling(vec![("files__look", json!({}))]);
    let mcp = ScriptedMcp::new(&["look"], |_, _| ScriptedMcp::said(&"a line\n".repeat(10_000)));
    let (_, ended) = works(STAGES, &models, mcp).await;
    assert_eq!(ended.to_string(), "succeeded (Fix succeeded)");
    let told = told(&models);
    assert!(told[0].len() < 25_000 && told[0].contains("left out"), "{}", told[0].len());
}

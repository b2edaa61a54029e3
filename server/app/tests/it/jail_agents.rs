//! The real coding agents, in real jails, through the real gateway, before a provider that follows a
//! script: it has each agent mend a file and run the test that failed before.
//!
//! What a script asks for are the tools that each program brings, so that a new version of a program
//! whose tools are others fails here first.

use std::process::Command;

use serde_json::{Value as Json, json};

use crate::house::{House, SPELLBOOK, WorkTree, agents, hermetic};
use crate::jail_stages::{Ended, book, ended, log};
use crate::upstream::{Asked, Dialect, Step, Upstream};

const BROKEN: &str = "def add(a, b):\n    return a - b\n";
const TEST: &str = "python3 -B -c 'import calc; assert calc.add(2, 3) == 5' && echo the test passed\n";
const PATCH: &str = "*** Begin Patch\n*** Update File: calc.py\n@@\n def add(a, b):\n-    return a - b\n+    \
                     return a + b\n*** End Patch";

/// What stands below the name of a daemon whose agent mends the file.
fn daemon(agent: &str, more: &str) -> String {
    format!(
        "{more}
  stages:
    - {{ name: Before, script: 'sh test.sh && exit 1 || echo it fails', continue_on_error: true }}
    - {{ name: Fix, agent: {agent}, prompt_template: 'Make the test pass.', input: 'a < b & c', output: said }}
    - {{ name: After, script: sh test.sh }}
"
    )
}

/// A server whose models are all this provider.
fn house(upstream: &Upstream) -> House {
    let at = upstream.url();
    House::with_config(&format!(
        r#"
        agents_directory = "{}"
        [models.providers.anthropic]
        base_url = "{at}"
        key = {{ file = "/dev/null" }}
        [models.providers.openai]
        base_url = "{at}/v1"
        key = {{ file = "/dev/null" }}
        also = {{ openai-responses = "{at}/v1" }}
        [models.providers.google]
        base_url = "{at}/v1beta/openai"
        key = {{ file = "/dev/null" }}
        also = {{ gemini = "{at}/v1beta" }}
        "#,
        agents().display()
    ))
}

/// A server of a test knows nothing of the mirrors and proxies of this machine, and could install nothing.
fn installed(agent: &str) {
    let mut command = hermetic(Command::new(SPELLBOOK), &agents());
    command.args(["agents", "list", "--json"]).env("SPELLBOOK_AGENTS", agents());
    let states: Json = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let state = states.as_array().unwrap().iter().find(|state| state["name"] == agent).unwrap();
    assert!(state["directory"].is_string(), "{agent} is not in {:?}; `./x setup` installs it", agents());
}

/// A repository with a broken program, its test, and a daemon whose agent is to mend it.
fn broken(house: &House, agent: &str, more: &str) -> WorkTree {
    let tree = book(house, &[("fix", &daemon(agent, more))]);
    tree.write("calc.py", BROKEN);
    tree.write("test.sh", TEST);
    tree.commit("Add a program and its test");
    let (accepted, said) = tree.push(&["-o", "skip", "main"]);
    assert!(accepted, "{said}");
    tree
}

/// Lets an agent work by this script; gives the run and what the provider was asked.
fn works(agent: &str, more: &str, script: Vec<Step>) -> (House, Ended, Vec<Asked>) {
    let upstream = Upstream::start(script);
    installed(agent);
    let house = house(&upstream);
    broken(&house, agent, more);
    let ended = ended(&house, "fix", &json!({}));
    (house, ended, upstream.asked())
}

fn mends(agent: &str, dialect: Dialect, script: Vec<Step>) {
    let (house, ended, asked) = works(agent, "", script);
    let log = log(&house, ended.id());
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}\n{asked:#?}\n{}", house.logged());
    assert_eq!((ended.output("Fix"), ended.output("After")), (&json!("Fixed."), &json!("the test passed")));
    assert!(log.contains("the test passed\n"), "what the agent ran is not in the log:\n{log}");

    let fix = ended.stage("Fix");
    let calls = fix["calls"].as_array().unwrap();
    assert!(calls.len() >= 3, "{fix:#}");
    assert!(calls.iter().all(|call| call["output_tokens"] == 20), "{fix:#}");
    let path = format!("runs/{}/stages/Fix/diff", ended.id());
    let diff = house.get(&path).to_string();
    assert!(diff.contains("return a + b") && !diff.contains("test.sh"), "{diff}");

    assert!(asked.iter().all(|asked| asked.dialect == dialect), "{asked:#?}");
    let first = asked.iter().find(|asked| asked.has_tools).unwrap();
    assert!(first.text.contains("Make the test pass.") && first.text.contains("a < b & c"), "{}", first.text);
    assert!(!first.text.contains("spellbook-"), "the token of the visit reached the provider");
}

fn tool(name: &str, arguments: Json) -> Step {
    Step::Tool(name.to_owned(), arguments)
}

fn says(text: &str) -> Step {
    Step::Says(text.to_owned())
}

fn claude_code() -> Vec<Step> {
    let edit = json!({ "file_path": "/work/calc.py", "old_string": "a - b", "new_string": "a + b" });
    vec![
        tool("Read", json!({ "file_path": "/work/calc.py" })),
        tool("Edit", edit),
        tool("Bash", json!({ "command": "sh test.sh", "description": "Run the test" })),
        says("Fixed."),
    ]
}

#[test]
fn claude_code_mends_a_program() {
    mends("claude-code", Dialect::Anthropic, claude_code());
}

#[test]
fn codex_mends_a_program() {
    let patch = format!("apply_patch <<'EOF'\n{PATCH}\nEOF");
    let script = vec![
        tool("exec_command", json!({ "cmd": patch })),
        tool("exec_command", json!({ "cmd": "sh test.sh" })),
        says("Fixed."),
    ];
    mends("codex", Dialect::Responses, script);
}

#[test]
fn gemini_cli_mends_a_program() {
    let edit = json!({
        "file_path": "/work/calc.py",
        "instruction": "Add.",
        "old_string": "a - b",
        "new_string": "a + b",
    });
    let script = vec![
        tool("replace", edit),
        tool("run_shell_command", json!({ "command": "sh test.sh" })),
        says("Fixed."),
    ];
    mends("gemini-cli", Dialect::Gemini, script);
}

#[test]
fn opencode_mends_a_program() {
    let script = vec![
        tool("apply_patch", json!({ "patchText": PATCH })),
        tool("bash", json!({ "command": "sh test.sh", "description": "Run the test" })),
        says("Fixed."),
    ];
    mends("opencode", Dialect::Chat, script);
}

/// Each stops at once when nothing is left, and the run says so.
#[test]
fn an_agent_that_may_not_spend_more_stops() {
    for agent in ["claude-code", "codex", "gemini-cli", "opencode"] {
        let (_, ended, asked) = works(agent, "\n  limits: { cost: \"$0.000001\" }", vec![says("never")]);
        ended.check("failed", Some("cost_limit"), &format!("`{agent}` may not spend more"));
        assert!(asked.is_empty(), "{agent}: {asked:#?}");
    }
}

/// An agent that never comes to an end has so many turns; what it did is kept.
#[test]
fn an_agent_has_so_many_turns() {
    let look = || tool("Read", json!({ "file_path": "/work/calc.py" }));
    let script = std::iter::repeat_with(look).take(20).collect();
    let (_, ended, asked) = works("claude-code", "\n  limits: { turns: 3 }", script);
    ended.check("failed", Some("turns_limit"), "`claude-code` has used all its turns");
    assert_eq!(ended.stage("Fix")["calls"].as_array().unwrap().len(), asked.len());
    assert!((3..=5).contains(&asked.len()), "{}", asked.len());
}

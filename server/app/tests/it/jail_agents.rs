//! The real coding agents, in real jails, through the real gateway, before a provider that follows a
//! script: it has each agent run a test that fails, mend a file, and run the test again. The mended file, and
//! nothing besides, becomes a proposal.
//!
//! What a script asks for are the tools that each program brings, so that a new version of a program
//! whose tools are others fails here first.

use std::process::Command;

use serde_json::{Value as Json, json};

use crate::house::{House, SPELLBOOK, WorkTree, agents, hermetic};
use crate::jail_stages::{Ended, book, ended, log, settled};
use crate::upstream::{Asked, Dialect, Step, Upstream};

const BROKEN: &str = "def add(a, b):\n    return a - b\n";
const TEST: &str = "python3 -B -c 'import calc; assert calc.add(2, 3) == 5' && echo the test passed\n";
/// All that a proposal of it changes.
const MENDED: &str = "@@ -1,2 +1,2 @@\n def add(a, b):\n-    return a - b\n+    return a + b\n";
const PATCH: &str = "*** Begin Patch\n*** Update File: calc.py\n@@\n def add(a, b):\n-    return a - b\n+    \
                     return a + b\n*** End Patch";

/// What stands below the name of a daemon whose agent mends the file.
fn daemon(agent: &str, more: &str) -> String {
    format!(
        "{more}
  stages:
    - {{ name: Fix, agent: {agent}, prompt_template: 'Make the test pass.', input: 'a < b & c', output: said }}
    - {{ name: After, script: sh test.sh }}
  outcomes:
    - create-pull-request: {{ title: 'Mend the sum', body: '${{said}}' }}
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
pub(crate) fn installed(agent: &str) {
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

fn mends(agent: &str, more: &str, dialect: Dialect, script: Vec<Step>) {
    let (house, ended, asked) = works(agent, more, script);
    let log = log(&house, ended.id());
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}\n{asked:#?}\n{}", house.logged());
    assert_eq!((ended.output("Fix"), ended.output("After")), (&json!("Fixed."), &json!("the test passed")));
    let [failed, passed] = ["AssertionError", "the test passed\n"].map(|words| log.find(words));
    assert!(failed.is_some() && failed < passed, "what the agent ran is not in the log:\n{log}");

    let fix = ended.stage("Fix");
    let calls = fix["calls"].as_array().unwrap();
    assert!(calls.len() >= 3, "{fix:#}");
    assert!(calls.iter().all(|call| call["output_tokens"] == 20), "{fix:#}");
    check_proposal(&house, &ended);

    assert!(asked.iter().all(|asked| asked.dialect == dialect), "{asked:#?}");
    let first = asked.iter().find(|asked| asked.has_tools).unwrap();
    assert!(first.text.contains("Make the test pass.") && first.text.contains("a < b & c"), "{}", first.text);
    assert!(!first.text.contains("spellbook-"), "the token of the visit reached the provider");
}

/// The run proposes the mended file and nothing else.
fn check_proposal(house: &House, ended: &Ended) {
    let effect = &settled(house, ended.id())["effects"][0];
    assert_eq!(
        (&effect["kind"], &effect["status"]),
        (&json!("create-pull-request"), &json!("done")),
        "{effect:#}"
    );
    let shown = house.get("repositories/ada/book/proposals/1");
    let (proposal, diff) = (&shown["proposal"], &shown["diff"]);
    assert_eq!(proposal["title"], "Mend the sum", "{shown:#}");
    assert!(proposal["body"].as_str().unwrap().starts_with("Fixed.\n"), "{shown:#}");
    assert_eq!(diff["files"], json!([{ "path": "calc.py", "change": "modified" }]), "{shown:#}");
    let patch = diff["patch"].as_str().unwrap();
    assert!(patch.ends_with(MENDED) && patch.matches("@@ ").count() == 1, "{patch}");
}

pub(crate) fn tool(name: &str, arguments: Json) -> Step {
    Step::Tool(name.to_owned(), arguments)
}

pub(crate) fn says(text: &str) -> Step {
    Step::Says(text.to_owned())
}

/// With little money: what a call could cost at most is set aside first, so that the program must not ask for
/// the longest answer there is.
#[test]
fn claude_code_mends_a_program() {
    let test = || tool("Bash", json!({ "command": "sh test.sh", "description": "Run the test" }));
    let edit = json!({ "file_path": "/work/calc.py", "old_string": "a - b", "new_string": "a + b" });
    let script = vec![
        test(),
        tool("Read", json!({ "file_path": "/work/calc.py" })),
        tool("Edit", edit),
        test(),
        says("Fixed."),
    ];
    mends("claude-code", "\n  limits: { cost: \"$0.40\" }", Dialect::Anthropic, script);
}

#[test]
fn codex_mends_a_program() {
    let patch = format!("apply_patch <<'EOF'\n{PATCH}\nEOF");
    let test = || tool("exec_command", json!({ "cmd": "sh test.sh" }));
    let script = vec![test(), tool("exec_command", json!({ "cmd": patch })), test(), says("Fixed.")];
    mends("codex", "", Dialect::Responses, script);
}

#[test]
fn gemini_cli_mends_a_program() {
    let edit = json!({
        "file_path": "/work/calc.py",
        "instruction": "Add.",
        "old_string": "a - b",
        "new_string": "a + b",
    });
    let test = || tool("run_shell_command", json!({ "command": "sh test.sh" }));
    let script = vec![test(), tool("replace", edit), test(), says("Fixed.")];
    mends("gemini-cli", "", Dialect::Gemini, script);
}

#[test]
fn opencode_mends_a_program() {
    let test = || tool("bash", json!({ "command": "sh test.sh", "description": "Run the test" }));
    let script = vec![test(), tool("apply_patch", json!({ "patchText": PATCH })), test(), says("Fixed.")];
    mends("opencode", "", Dialect::Chat, script);
}

/// Each stops at once when nothing is left, and the run says so.
#[test]
fn an_agent_that_may_not_spend_more_stops() {
    for agent in ["claude-code", "codex", "gemini-cli", "opencode"] {
        let (_, ended, asked) = works(agent, "\n  limits: { cost: \"$0.000001\" }", vec![says("never")]);
        ended.check("failed", Some("cost_limit"), &format!("a call of `{agent}` was not made: of $0.000001"));
        assert!(asked.is_empty(), "{agent}: {asked:#?}");
    }
}

/// A provider that is away is gone around in the middle of an agent's work, and the run says why.
#[test]
fn an_agent_goes_around_a_provider_that_is_away() {
    installed("codex");
    let upstream = Upstream::start(vec![says("Fixed.")]);
    let house = House::with_config(&format!(
        r#"
        agents_directory = "{}"
        [models.providers.away]
        dialect = "openai-responses"
        base_url = "http://127.0.0.1:9/v1"
        [models.providers.there]
        dialect = "openai-responses"
        base_url = "{}/v1"
        [models.names]
        first = {{ target = "away/small", prices = {{ input = "1", output = "2" }} }}
        second = {{ target = "there/large", prices = {{ input = "10", output = "20" }} }}
        "#,
        agents().display(),
        upstream.url()
    ));
    let more = "\n  models: { codex: { targets: [first, claude-opus, second] } }";
    let _tree = broken(&house, "codex", more);
    let ended = ended(&house, "fix", &json!({}));
    assert_eq!(ended.output("Fix"), &json!("Fixed."), "{ended:#?}");
    let calls = ended.stage("Fix")["calls"].as_array().unwrap();
    let told = |call: &Json| (call["requested"].clone(), call["cost"]["nano_usd"].clone());
    assert_eq!(told(&calls[0]), (json!("first"), json!(0)), "{calls:#?}");
    assert!(calls[1..].iter().all(|call| call["requested"] == "second"), "{calls:#?}");
    let said = house.says_to(&["explain", ended.id()]);
    for words in ["1. first", "2. second", "claude-opus", "it is not asked in the language of the program"] {
        assert!(said.contains(words), "{words}: {said}");
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

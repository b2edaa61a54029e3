//! Models that work with tools of ours, in real jails, through the real gateway, before a provider that
//! follows a script.

use serde_json::{Value as Json, json};

use crate::house::House;
use crate::jail_stages::{Ended, book, ended, log};
use crate::upstream::{Dialect, PICTURE, Step, Upstream};

const BROKEN: &str = "def add(a, b):\n    return a - b\n";
const TEST: &str = "python3 -B -c 'import calc; assert calc.add(2, 3) == 5' && echo the test passed\n";

/// A server whose models are all this provider, and a repository with a broken program and its test.
fn works(stages: &str, script: Vec<Step>) -> (House, Ended, Upstream) {
    let upstream = Upstream::start(script);
    let at = upstream.url();
    let house = House::with_config(&format!(
        r#"
        [models.providers.anthropic]
        base_url = "{at}"
        key = {{ file = "/dev/null" }}
        [models.providers.openai]
        base_url = "{at}/v1"
        key = {{ file = "/dev/null" }}
        also = {{ openai-responses = "{at}/v1", openai-images = "{at}/v1" }}
        [models.providers.google]
        dialect = "gemini"
        base_url = "{at}/v1beta"
        key = {{ file = "/dev/null" }}
        "#
    ));
    let tree = book(&house, &[("fix", stages)]);
    tree.write("app/calc.py", BROKEN);
    tree.write("app/test.sh", TEST);
    tree.commit("Add a program and its test");
    let (accepted, said) = tree.push(&["-o", "skip", "main"]);
    assert!(accepted, "{said}");
    let ended = ended(&house, "fix", &json!({}));
    (house, ended, upstream)
}

fn tool(name: &str, arguments: Json) -> Step {
    Step::Tool(name.to_owned(), arguments)
}

fn says(text: &str) -> Step {
    Step::Says(text.to_owned())
}

fn mends(model: &str, dialect: Dialect) {
    let stages = format!(
        "
  stages:
    - {{ name: Before, script: 'sh test.sh && exit 1 || echo it fails', working_directory: app }}
    - {{ name: Fix, type: agent, agent: {model}, prompt_template: Make the test pass., working_directory: app, output: said }}
    - {{ name: After, script: sh test.sh, working_directory: app }}
"
    );
    let script = vec![
        tool("list", json!({})),
        tool("search", json!({ "pattern": "def .*add", "files": "*.py" })),
        tool("run", json!({ "command": "sh test.sh" })),
        tool("read", json!({ "path": "calc.py" })),
        tool("edit", json!({ "path": "calc.py", "old": "a - b", "new": "a + b" })),
        tool("run", json!({ "command": "sh test.sh; touch /etc/owned" })),
        says("Fixed."),
    ];
    let (house, ended, upstream) = works(&stages, script);
    let (log, asked) = (log(&house, ended.id()), upstream.asked());
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}\n{asked:#?}");
    assert_eq!((ended.output("Fix"), ended.output("After")), (&json!("Fixed."), &json!("the test passed")));

    let last = &asked.last().unwrap().text;
    let results = [
        "calc.py\ntest.sh\n",
        "calc.py:1:def add(a, b):\n",
        "It exited with status 1.",
        BROKEN,
        "it is replaced",
        "the test passed",
        "touch: cannot touch '/etc/owned': Read-only file system",
    ];
    for result in results {
        assert!(last.contains(result), "the model was not told {result:?}:\n{last}");
    }
    assert!(asked.iter().all(|asked| asked.dialect == dialect), "{asked:#?}");
    for line in ["▸ read calc.py\n", "▸ edit calc.py\n", "the test passed\n"] {
        assert!(log.contains(line), "{line:?} is not in the log:\n{log}");
    }
    let diff = house.get(&format!("runs/{}/stages/Fix/diff", ended.id())).to_string();
    assert!(diff.contains("return a + b") && !diff.contains("test.sh"), "{diff}");
    assert_eq!(ended.stage("Fix")["calls"].as_array().unwrap().len(), 7);
}

#[test]
fn a_model_mends_a_program_by_chat() {
    mends("gpt-5", Dialect::Chat);
}

#[test]
fn a_model_mends_a_program_by_responses() {
    mends("gpt-5-pro", Dialect::Responses);
}

#[test]
fn a_model_mends_a_program_by_gemini() {
    mends("gemini-pro", Dialect::Gemini);
}

/// A picture is made, looked at by a script and by a model, and made into another one.
#[test]
fn a_picture_becomes_a_file_of_the_workspace() {
    let stages = "
  stages:
    - { name: Draw it, type: image, agent: gpt-image-2, prompt_template: A dot., output: dot }
    - { name: Show, script: 'tail -c 3 images/Draw-it.png', output: shown }
    - { name: Look, agent: gpt-5, input: What is it?, attachments: [app/test.sh, \"${dot}\"], output: seen }
    - { name: Change, type: image, agent: gpt-image-2, input: Make it blue., attachments: [\"${dot}\"] }
";
    let (house, ended, upstream) = works(stages, vec![]);
    let (log, asked) = (log(&house, ended.id()), upstream.asked());
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}\n{log}\n{asked:#?}");
    assert_eq!(
        (ended.output("Draw it"), ended.output("Show")),
        (&json!("images/Draw-it.png"), &json!("dot"))
    );
    assert_eq!((ended.output("Look"), ended.output("Change")), (&json!("ok"), &json!("images/Change.png")));
    let [draw, look, change] = &asked[..] else { panic!("{asked:#?}") };
    assert!(
        draw.text.starts_with("POST /v1/images/generations ") && draw.text.contains("A dot."),
        "{draw:?}"
    );
    let shown =
        [&format!("data:image/png;base64,{PICTURE}"), &format!("<file path=\"app/test.sh\">\n{TEST}</file>")];
    assert!(shown.iter().all(|part| look.text.contains(*part)), "{look:?}");
    let parts =
        ["POST /v1/images/edits ", "Make it blue.", "filename=\"1.png\"\r\nContent-Type: image/png\r\n\r\n"];
    assert!(parts.iter().all(|part| change.text.contains(part)), "{change:?}");
    assert_eq!(ended.stage("Draw it")["calls"][0]["output_tokens"], 1056, "{ended:#?}");
}

#[test]
fn a_model_mends_a_program_by_messages() {
    mends("claude-opus", Dialect::Anthropic);
}

/// Whatever a command leaves running is gone with it, and one that takes too long is ended.
#[test]
fn a_command_ends_when_its_time_is_up() {
    let stages = "\n  stages:\n    - { name: Fix, type: agent, agent: gpt-5, input: Look. }\n";
    let script = vec![
        tool("run", json!({ "command": "sleep 900 & echo started", "seconds": 30 })),
        tool("run", json!({ "command": "echo begun; sleep 900", "seconds": 1 })),
        says("Done."),
    ];
    let (_, ended, upstream) = works(stages, script);
    assert_eq!(ended.run["run"]["status"], "succeeded", "{ended:#?}");
    let last = upstream.asked().pop().unwrap().text;
    assert!(last.contains("It exited with status 0.\n\nstandard output:\nstarted\n"), "{last}");
    assert!(last.contains("It took longer than 1 s and was ended.\n\nstandard output:\nbegun\n"), "{last}");
}

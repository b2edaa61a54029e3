//! The whole loop with a real model: a prompt, its structured answer, a decision.

use serde_json::json;

use crate::house::House;

const TRIAGE: &str = r#"daemon:
  name: Triage
  inputs:
    - { name: title, type: string }
  stages:
    - name: Read
      agent: local
      prompt_template: "Is this a bug or a question? ${title}"
      schema: { type: object, required: [kind], additionalProperties: false, properties: { kind: { enum: [bug, question] } } }
      output: request
    - name: Decide
      type: rules
      rules:
        - { when: "request.kind == 'bug'", then: { label: bug } }
        - { then: { label: question } }
      output: decision
"#;

#[test]
fn a_model_answers_in_the_form_that_is_asked() {
    let house = House::new();
    let tree = house.work_tree("ada/book");
    tree.write("daemons/triage/daemon.yaml", TRIAGE);
    tree.commit("Add triage");
    assert!(tree.push(&["main"]).0);
    let run = house.ended(&house.run("ada/book/triage", &json!({ "title": "It crashes when I save" })));
    assert_eq!(run["run"]["status"], "succeeded", "{run:#}\n{}", house.logged());
    let label = run["stages"][1]["output"]["label"].as_str().unwrap();
    assert!(["bug", "question"].contains(&label), "{run:#}");
    let call = &run["stages"][0]["calls"][0];
    assert!(call["output_tokens"].as_u64().unwrap() > 0, "{run:#}");
}

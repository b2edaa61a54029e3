//! Why a run asked which model, and what it paid, when a provider breaks off in the middle.

use serde_json::{Value as Json, json};

use crate::house::House;
use crate::jail_stages::{book, ended};
use crate::upstream::Upstream;

const DAEMON: &str = "
  models: { strong: { route: cheapest, targets: [first, blind, nobody, second], requires: [vision] } }
  limits: { cost: $1.00 }
  stages:
    - { name: Ask, agent: strong, prompt_template: 'What is this?', max_tokens: 500, output: said }
";

#[test]
fn a_run_that_goes_around_a_broken_provider_pays_right_and_says_why() {
    let (broken, whole) = (Upstream::breaking(), Upstream::start(Vec::new()));
    let house = House::with_config(&format!(
        r#"
        [models.retry]
        same_target = 0
        [models.providers.one]
        dialect = "openai-chat"
        base_url = "{}/v1"
        [models.providers.two]
        dialect = "openai-chat"
        base_url = "{}/v1"
        [models.names]
        first = {{ target = "one/small", prices = {{ input = "1", output = "2" }} }}
        second = {{ target = "two/large", prices = {{ input = "10", output = "20" }} }}
        blind = {{ target = "groq/allam-2-7b" }}
        "#,
        broken.url(),
        whole.url()
    ));
    let _tree = book(&house, &[("ask", DAEMON)]);
    let ended = ended(&house, "ask", &json!({}));
    assert_eq!(ended.succeeded().output("Ask"), "ok");

    let stage = ended.stage("Ask");
    let calls = stage["calls"].as_array().unwrap();
    let told = |call: &Json| (call["requested"].clone(), call["estimated"].clone());
    assert_eq!(
        calls.iter().map(told).collect::<Vec<_>>(),
        [(json!("first"), json!(true)), (json!("second"), json!(false))]
    );
    // Ten tokens in and twenty out, at ten and twenty dollars a million, besides what the first is estimated at.
    assert_eq!(calls[1]["cost"]["nano_usd"], 10 * 10_000 + 20 * 20_000);
    let (read, written) = (&calls[0]["input_tokens"], &calls[0]["output_tokens"]);
    let first = read.as_i64().unwrap() * 1_000 + written.as_i64().unwrap() * 2_000;
    assert_eq!(calls[0]["cost"]["nano_usd"], first);
    assert_eq!(stage["cost"]["nano_usd"], first + 500_000);
    assert_eq!(ended.run["run"]["cost"], stage["cost"]);
    assert_eq!((broken.asked().len(), whole.asked().len()), (1, 1));

    insta::assert_snapshot!(house.says_to(&["explain", ended.id()]));
}

//! What a daemon keeps from run to run: counted by many runs at once and over a power cut, on each branch for
//! itself, sealed on the disk; and a conversation with a model over two runs.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value as Json, json};

use crate::house::House;
use crate::jail_stages::{book, ended};
use crate::upstream::Upstream;

const COUNT: &str = "
  state: { counter: 0, word: '' }
  stages:
    - name: Count
      script: echo $((COUNTER + 1))
      env: { COUNTER: '${state.counter}' }
      schema: { type: integer }
      output: next
      set: { counter: '${next}' }
      retry: { limit: 10, backoff: { duration: 10ms, factor: 1 } }
";

/// Begins by counting; the first attempt is held up until the server is gone.
const HELD: &str = "
  state: { counter: 0 }
  stages:
    - { name: Count, script: 'echo $((COUNTER + 1))', env: { COUNTER: '${state.counter}' }, output: next, schema: { type: integer }, set: { counter: '${next}' } }
    - { name: Hold, script: 'echo holding; [ \"$ATTEMPT\" -gt 1 ] || read -r _ < <(tail -f /dev/null)', shell: bash, env: { ATTEMPT: '${run.attempt}' } }
    - { name: Tell, script: 'echo \"$COUNTER\"', env: { COUNTER: '${state.counter}' }, output: told }
";

const TALK: &str = "
  inputs: [{ name: question }]
  stages: [{ name: Ask, agent: wise, input: '${question}', session: talk, output: said }]
";

fn value(house: &House, daemon: &str, name: &str) -> Json {
    serde_json::from_str(&house.says_to(&["state", "get", daemon, name])).unwrap()
}

#[test]
fn variables_are_counted_on_kept_apart_and_sealed() {
    let mut house = House::new();
    let tree = book(&house, &[("count", COUNT), ("held", HELD)]);
    let runs: Vec<String> = (0..4).map(|_| house.run("ada/book/count", &json!({}))).collect();
    for run in &runs {
        let shown = house.ended(run);
        assert_eq!(shown["run"]["status"], "succeeded", "{shown:#}");
    }
    assert_eq!(value(&house, "ada/book/count", "counter"), 4, "a run was lost");

    // A fork begins anew.
    let (pushed, said) = tree.push(&["main:next"]);
    assert!(pushed, "{said}");
    let fork = house.ended(&house.run("ada/book/count@next", &json!({})));
    assert_eq!(fork["run"]["status"], "succeeded", "{fork:#}");
    assert_eq!(value(&house, "ada/book/count@next", "counter"), 1);
    assert_eq!(value(&house, "ada/book/count", "counter"), 4);

    // What a person sets is nowhere on the disk but sealed.
    house.says_to(&["state", "set", "ada/book/count", "word", "\"unheard-of words\""]);
    assert_eq!(value(&house, "ada/book/count", "word"), "unheard-of words");
    let data = house.data.path().join("data");
    for file in ["spellbook.db", "spellbook.db-wal"] {
        let bytes = std::fs::read(data.join(file)).unwrap_or_default();
        assert!(!bytes.windows(10).any(|part| part == b"unheard-of"), "{file} tells it");
    }
    let mode = std::fs::metadata(data.join("vault.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The power is cut after the first stage; another run of the daemon counts before the first goes on.
    let run = house.run("ada/book/held", &json!({}));
    house.says(&run, "holding");
    house.kill();
    house.start();
    house.says_to(&["state", "set", "ada/book/held", "counter", "70"]);
    let held = house.ended(&run);
    assert_eq!(held["run"]["status"], "succeeded", "{held:#}\n{}", house.logged());
    let told = held["stages"].as_array().unwrap().iter().find(|stage| stage["path"] == "Tell").unwrap();
    assert_eq!(told["output"], "1", "it knows what it set itself");
    assert_eq!(value(&house, "ada/book/held", "counter"), 70);

    let listed = house.says_to(&["state", "list", "ada/book/count"]);
    assert!(
        listed.contains("counter") && listed.contains("run_") && !listed.contains("unheard-of"),
        "{listed}"
    );
    house.says_to(&["state", "remove", "ada/book/count", "counter"]);
    assert_eq!(value(&house, "ada/book/count", "counter"), 0);
}

#[test]
fn a_conversation_goes_on_in_the_next_run() {
    let upstream = Upstream::start(Vec::new());
    let mut house = House::with_config(&format!(
        r#"
        [models.providers.one]
        dialect = "openai-chat"
        base_url = "{}/v1"
        [models.names]
        wise = {{ target = "one/wise", prices = {{ input = "1", output = "2" }} }}
        "#,
        upstream.url()
    ));
    let _tree = book(&house, &[("talk", TALK)]);
    ended(&house, "talk", &json!({ "question": "What is the first thing?" })).succeeded();
    house.kill();
    house.start();
    ended(&house, "talk", &json!({ "question": "And the second thing?" })).succeeded();
    let asked = upstream.asked();
    assert_eq!(asked.len(), 2);
    assert!(!asked[0].text.contains("the second thing"));
    let second = &asked[1].text;
    let places = ["the first thing", "\nok\n", "the second thing"].map(|words| second.find(words));
    assert!(places.is_sorted() && places[0].is_some(), "{second}");
    house.says_to(&["state", "remove", "ada/book/talk", "talk", "--session"]);
    ended(&house, "talk", &json!({ "question": "And the third thing?" })).succeeded();
    assert!(!upstream.asked()[2].text.contains("the first thing"));
}

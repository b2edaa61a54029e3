//! Money, through the whole program: a provider that says what was used, budgets by configuration and by
//! command, the ledger, sums and estimates.

use std::process::{Command, Stdio};

use serde_json::{Value as Json, json};

use crate::house::{House, SPELLBOOK, hermetic};
use crate::jail_stages::{book, ended, log};
use crate::upstream::Upstream;

/// A dollar for a million tokens read, two for a million written: a question with its answer costs
/// 10 and 20 of them, and may cost 0.0723 cents.
fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "[models.providers.acme]\ndialect = 'openai-chat'\nbase_url = '{}/v1'\n\
         [models.names.strong]\ntarget = 'acme/big'\nprices = {{ input = '1', output = '2' }}\n\
         [models.names.dear]\ntarget = 'acme/vast'\nprices = {{ input = '10', output = '20' }}\n{more}",
        upstream.url()
    )
}

const ASK: &str = "
  models: { either: { targets: [strong, dear] } }
  stages: [{ name: Ask, type: prompt, agent: either, max_tokens: 10, prompt_template: 'Well?', output: answer }]
";

/// What the program says to somebody who has signed in to the house.
fn spellbook(house: &House, arguments: &[&str]) -> (i32, String, String) {
    let output = hermetic(Command::new(SPELLBOOK), house.data.path())
        .args(arguments)
        .env("SPELLBOOK_SERVER", &house.url)
        .env("SPELLBOOK_TOKEN", &house.token)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn says(house: &House, arguments: &[&str]) -> String {
    let (status, out, err) = spellbook(house, arguments);
    assert_eq!(status, 0, "{arguments:?}: {err}");
    out
}

#[test]
fn a_budget_binds_every_call_and_is_told() {
    let upstream = Upstream::start(Vec::new());
    let own = "[[budgets]]\nscope = 'author'\nperiod = 'total'\nlimit = '$1'\n";
    let house = House::with_config(&config(&upstream, own));
    let _tree = book(&house, &[("ask", ASK)]);
    let before: Json = serde_json::from_str(&says(&house, &["estimate", "ada/book/ask", "--json"])).unwrap();
    assert_eq!((&before["basis"], &before["runs"]), (&json!("sizes"), &json!(0)));

    let set = says(&house, &["budgets", "set", "repository", "day", "0.00075", "--for", "ada/book"]);
    assert!(set.starts_with("bud_") && set.contains("$0.00075 a day for repository ada/book"), "{set}");
    let first = ended(&house, "ask", &json!({}));
    first.succeeded();
    assert_eq!(first.run["run"]["cost"]["nano_usd"], 50_000);
    let second = ended(&house, "ask", &json!({}));
    second.check(
        "failed",
        Some("budget_exhausted"),
        "the budget of $0.00075 a day for repository ada/book has no room: $0.00005 are spent",
    );
    assert_eq!(upstream.asked().len(), 1, "a call was made that does not fit");

    let calls = house.get(&format!("runs/{}/ledger", first.id()));
    let call = &calls["items"][0];
    let told =
        [&call["standing"], &call["requested"], &call["provider"], &call["price_source"], &call["failure"]];
    assert_eq!(
        told,
        [&json!("final"), &json!("strong"), &json!("acme"), &json!("configuration"), &Json::Null]
    );
    assert_eq!((&call["tokens"]["input"], &call["tokens"]["output"]), (&json!(10), &json!(20)));
    let listed = says(&house, &["budgets", "list"]);
    for word in ["configuration", "bud_", "ada/book", "$0.00005", "$0.0007"] {
        assert!(listed.contains(word), "{word} is not in\n{listed}");
    }
    let spend = says(&house, &["spend", "--by", "model"]);
    assert!(
        spend.contains("acme/gpt-5") && spend.contains("$0.0005") && spend.contains("$0.00045"),
        "{spend}"
    );

    // A smaller one is passed at once by what was spent before; someone is told, once.
    let id = set.split(' ').next().unwrap();
    says(&house, &["budgets", "remove", id]);
    says(&house, &["budgets", "set", "daemon", "month", "0.00006"]);
    for is_told in [true, false] {
        let run = ended(&house, "ask", &json!({}));
        run.check("failed", Some("budget_exhausted"), "a month for daemon ada/book/ask");
        assert_eq!(log(&house, run.id()).contains("80 % of the budget of $0.00006 a month"), is_told);
    }
    assert!(says(&house, &["budgets", "list"]).contains("80 % at "));
    assert!(house.logged().contains("80 % of the budget of $0.00006 a month"), "{}", house.logged());
    says(&house, &["budgets", "set", "daemon", "total", "0.05"]);
    let (status, _, error) = spellbook(&house, &["budgets", "set", "daemon", "month", "1", "--for", "ada"]);
    assert_eq!(status, 1, "{error}");
    assert!(error.contains("`ada` is no daemon; write OWNER/NAME/ID"), "{error}");
    let history = says(&house, &["budgets", "list", "--history"]);
    assert_eq!(history.lines().count(), 4, "{history}");
    let after: Json = serde_json::from_str(&says(&house, &["estimate", "ada/book/ask", "--json"])).unwrap();
    assert_eq!((&after["basis"], &after["cost"]["usual"]["nano_usd"]), (&json!("runs"), &json!(50_000)));
}

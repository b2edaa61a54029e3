//! The gateway from outside, against providers on real sockets.

mod acceptance;
mod budget;
mod drawing;
mod faults;
mod formats;
mod languages;
pub(crate) mod mock;
mod pictures;
mod proxy;
mod routing;
mod tools;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::money::NanoUsd;
use domain::purse::Purse;
use domain::time::Timestamp;
use ports::models::{Answer, Choice, Message, ModelError, Models, Question};
use secrecy::SecretString;
use serde_json::{Value, json};
use testkit::FixedClock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Config, Gateway, KeySource, SchemaCheck, Surroundings};
use mock::Mock;

/// The first moment of the 22nd of November 2026.
const MIDNIGHT: Timestamp = Timestamp::from_millis(1_795_305_600_000);

pub(crate) const KEY: &str = "sk-test-0123456789";

/// Checks only `required` and `enum`: enough to tell right answers from wrong ones.
pub(crate) fn small_check() -> SchemaCheck {
    SchemaCheck::new(|schema, value| {
        let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut problems: Vec<String> = missing
            .filter(|name| value.get(name).is_none())
            .map(|name| format!("`{name}` is missing"))
            .collect();
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            if let (Some(known), Some(found)) = (inner["enum"].as_array(), value.get(name))
                && !known.contains(found)
            {
                problems.push(format!("`{name}` is {found}, which is not in the list"));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    })
}

pub(crate) fn build(toml: &str, tools: PathBuf) -> Gateway {
    let config: Config = toml::from_str(toml).unwrap();
    let keys = |source: &KeySource| match source {
        KeySource::Env(name) if name == "TEST_KEY" => Ok(Some(SecretString::from(KEY.to_owned()))),
        _ => Ok(None),
    };
    let clock = FixedClock::new();
    clock.set(MIDNIGHT);
    let around =
        Surroundings { clock: Arc::new(clock), check: small_check(), keys: &keys, tools, catalogue: None };
    Gateway::build(config, around).unwrap()
}

/// A gateway whose `openai`, `other` and `anthropic` are mocks.
pub(crate) fn gateway(openai: &Mock, other: Option<&Mock>, anthropic: Option<&Mock>) -> Gateway {
    with_patience(openai, other, anthropic, "30s")
}

/// As [`gateway`], with the time that `openai` has for each part of an answer.
pub(crate) fn with_patience(
    openai: &Mock,
    other: Option<&Mock>,
    anthropic: Option<&Mock>,
    time: &str,
) -> Gateway {
    let port = |mock: Option<&Mock>| mock.map_or(1, |mock| mock.port);
    let timeouts = format!("timeouts = {{ first_byte = '{time}', stall = '{time}' }}");
    build(
        &format!(
            r#"
            [retry]
            first = "1ms"
            longest = "2ms"
            [providers.openai]
            base_url = "http://127.0.0.1:{}/v1"
            key = {{ env = "TEST_KEY" }}
            {timeouts}
            [providers.other]
            dialect = "openai-chat"
            base_url = "http://127.0.0.1:{}"
            [providers.anthropic]
            base_url = "http://127.0.0.1:{}"
            key = {{ env = "TEST_KEY" }}
            [names.priced]
            target = "other/big"
            prices = {{ input = "1", output = "2" }}
            context = 1000000
            "#,
            openai.port,
            port(other),
            port(anthropic),
        ),
        PathBuf::from("/nowhere"),
    )
}

pub(crate) fn question(target: &str) -> Question {
    Question {
        choice: Choice::of(target),
        conversation: None,
        system: Some("You greet.".to_owned()),
        messages: vec![Message::user("Greet the world.")],
        tools: Vec::new(),
        schema: None,
        max_tokens: Some(100),
        temperature: Some(0.5),
        till: Arc::new(Purse::new(None, NanoUsd::ZERO)),
    }
}

/// A question to the first of these that answers.
pub(crate) fn to_any(targets: &[&str]) -> Question {
    let targets = targets.iter().map(|name| (*name).to_owned()).collect();
    Question { choice: Choice { targets, ..Choice::default() }, ..question("") }
}

pub(crate) fn label() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["label"],
        "properties": { "label": { "type": "string", "enum": ["bug", "feature", "question"] } }
    })
}

/// Asks, and also returns what a watcher saw.
pub(crate) async fn ask(gateway: &Gateway, question: Question) -> (Result<Answer, ModelError>, String) {
    let (to, mut from) = mpsc::channel(1_000);
    let asked = gateway.ask(question, to, CancellationToken::new());
    let result = tokio::time::timeout(Duration::from_secs(300), asked).await.unwrap();
    let mut seen = String::new();
    while let Ok(piece) = from.try_recv() {
        seen.push_str(&piece);
    }
    (result, seen)
}

//! What both dialects look like on the wire, in both directions.

use domain::money::NanoUsd;
use domain::stage::Tokens;
use ports::models::{Message, Models, Question};
use serde_json::json;

use super::mock::{Act, Mock};
use super::{KEY, ask, build, gateway, label, question};

const OPENAI: &str = include_str!("wire/openai_text.sse");
const ANTHROPIC: &str = include_str!("wire/anthropic_text.sse");
const ANTHROPIC_TOOL: &str = include_str!("wire/anthropic_tool.sse");

/// A stream of the chat dialect with this text.
pub(super) fn chat(text: &str) -> Act {
    let chunk = |choices, usage| json!({ "id": "c", "object": "chat.completion.chunk", "model": "m", "choices": choices, "usage": usage });
    let delta =
        chunk(json!([{ "index": 0, "delta": { "content": text }, "finish_reason": null }]), json!(null));
    let stop = chunk(json!([{ "index": 0, "delta": {}, "finish_reason": "stop" }]), json!(null));
    let usage = chunk(json!([]), json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 }));
    Act::stream(&format!("data: {delta}\n\ndata: {stop}\n\ndata: {usage}\n\ndata: [DONE]\n\n"))
}

#[tokio::test]
async fn openai_answers() {
    let mock = Mock::start(vec![Act::stream(OPENAI)]).await;
    let (answer, seen) = ask(&gateway(&mock, None, None), question("gpt-5")).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), seen.as_str()), ("Grüße, world", "Grüße, world"));
    let [call] = &answer.calls[..] else { panic!("{:?}", answer.calls) };
    assert_eq!(
        call.tokens,
        Tokens { input: 93, cache_read: 1024, cache_write: 0, output: 46, reasoning: 32 }
    );
    assert_eq!(
        (call.requested.as_str(), call.served.as_str(), call.provider.as_str()),
        ("gpt-5", "gpt-5-2025-08-07", "openai")
    );
    // $1.25, $0.125 and $10 a million.
    assert_eq!(call.cost, NanoUsd::from_nanos(93 * 1_250 + 1024 * 125 + 46 * 10_000));
    assert!(!call.estimated);
    let [request] = &mock.requests()[..] else { panic!("more than one request") };
    assert!(request.head.starts_with("post /v1/chat/completions http/1.1"), "{}", request.head);
    assert!(request.head.contains(&format!("authorization: bearer {KEY}")), "{}", request.head);
    let messages = json!([{ "role": "system", "content": "You greet." }, { "role": "user", "content": "Greet the world." }]);
    // gpt-5 takes no temperature, and wants its limit under the newer name.
    let expect = json!({
        "model": "gpt-5", "messages": messages, "stream": true,
        "stream_options": { "include_usage": true }, "max_completion_tokens": 100
    });
    assert_eq!(request.json(), expect);
}

#[tokio::test]
async fn anthropic_answers() {
    let (unused, mock) = (Mock::start(vec![]).await, Mock::start(vec![Act::stream(ANTHROPIC)]).await);
    let (answer, seen) = ask(&gateway(&unused, None, Some(&mock)), question("claude-sonnet-4-6")).await;
    let answer = answer.unwrap();
    // Thoughts are paid and not shown.
    assert_eq!((answer.text.as_str(), seen.as_str()), ("Grüße, world", "Grüße, world"));
    let [call] = &answer.calls[..] else { panic!("{:?}", answer.calls) };
    assert_eq!(
        call.tokens,
        Tokens { input: 472, cache_read: 2000, cache_write: 100, output: 89, reasoning: 0 }
    );
    assert_eq!(call.cost, NanoUsd::from_nanos(472 * 3_000 + 2000 * 300 + 100 * 3_750 + 89 * 15_000));
    assert!(!call.estimated);
    let [request] = &mock.requests()[..] else { panic!("more than one request") };
    assert!(request.head.starts_with("post /v1/messages http/1.1"), "{}", request.head);
    assert!(request.head.contains(&format!("x-api-key: {KEY}")), "{}", request.head);
    assert!(request.head.contains("anthropic-version: 2023-06-01"), "{}", request.head);
    let expect = json!({
        "model": "claude-sonnet-4-6", "system": "You greet.", "max_tokens": 100, "stream": true, "temperature": 0.5,
        "messages": [{ "role": "user", "content": "Greet the world." }]
    });
    assert_eq!(request.json(), expect);
}

/// A single question marks what a model is told before where that is long enough to be kept.
#[tokio::test]
async fn a_long_system_prompt_is_marked_for_the_cache() {
    let unused = Mock::start(vec![]).await;
    for (length, is_marked) in [(4_095, false), (4_096, true)] {
        let mock = Mock::start(vec![Act::stream(ANTHROPIC)]).await;
        let asked = Question { system: Some("a".repeat(length)), ..question("claude-sonnet-4-6") };
        ask(&gateway(&unused, None, Some(&mock)), asked).await.0.unwrap();
        let body = mock.requests()[0].json();
        assert_eq!(body["system"].is_array(), is_marked, "{length}");
        let mark = json!({ "type": "ephemeral" });
        assert!(!is_marked || body["system"][0]["cache_control"] == mark, "{body}");
        assert_eq!(
            body["messages"][0]["content"], "Greet the world.",
            "what is asked once is not written down"
        );
    }
}

/// A conversation in words goes on too: what the next question begins with is marked, and OpenAI is told
/// which it is. Nobody else is sent a field that it may refuse.
#[tokio::test]
async fn a_conversation_is_marked_for_the_cache_where_it_ends_and_where_it_ended() {
    let said = |text: &str| Message::Assistant { text: text.to_owned(), calls: Vec::new() };
    let messages =
        vec![Message::user("One?"), said("1."), Message::user("Two?"), said("2."), Message::user("Three?")];
    let asked = |model: &str| {
        let conversation = Some("spellbook-7".to_owned());
        Question { conversation, messages: messages.clone(), ..question(model) }
    };
    let (openai, other) = (Mock::start(vec![chat("3.")]).await, Mock::start(vec![chat("3.")]).await);
    let mock = Mock::start(vec![Act::stream(ANTHROPIC)]).await;
    let gateway = gateway(&openai, Some(&other), Some(&mock));
    for model in ["claude-sonnet-4-6", "gpt-4o", "other/big"] {
        ask(&gateway, asked(model)).await.0.unwrap();
    }
    let body = mock.requests()[0].json();
    let marked =
        |text: &str| json!([{ "type": "text", "text": text, "cache_control": { "type": "ephemeral" } }]);
    assert_eq!(body["system"], marked("You greet."));
    let contents: Vec<_> =
        body["messages"].as_array().unwrap().iter().map(|one| one["content"].clone()).collect();
    assert_eq!(contents, [json!("One?"), json!("1."), marked("Two?"), json!("2."), marked("Three?")]);
    assert_eq!(body.to_string().matches("cache_control").count(), 3);
    assert_eq!(openai.requests()[0].json()["prompt_cache_key"], "spellbook-7");
    assert!(!String::from_utf8_lossy(&other.requests()[0].body).contains("cache"));
}

#[tokio::test]
async fn a_stream_may_be_cut_into_any_pieces() {
    let single: Vec<Vec<u8>> = OPENAI.bytes().map(|byte| vec![byte]).collect();
    let crlf = OPENAI.replace('\n', "\r\n").into_bytes();
    let sevens = crlf.chunks(7).map(<[u8]>::to_vec).collect();
    for pieces in [single, sevens] {
        let mock = Mock::start(vec![Act::Stream(pieces, super::mock::End::Whole)]).await;
        let (answer, seen) = ask(&gateway(&mock, None, None), question("gpt-5")).await;
        assert_eq!((answer.unwrap().text.as_str(), seen.as_str()), ("Grüße, world", "Grüße, world"));
    }
}

#[tokio::test]
async fn openai_is_sent_the_schema() {
    let mock = Mock::start(vec![chat(r#"{"label":"bug"}"#)]).await;
    let asked = Question { schema: Some(label()), ..question("gpt-4o") };
    let answer = ask(&gateway(&mock, None, None), asked).await.0.unwrap();
    assert_eq!(answer.json, Some(json!({ "label": "bug" })));
    let body = mock.requests()[0].json();
    let expect = json!({ "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": label() } });
    assert_eq!(body["response_format"], expect);
    assert_eq!(body["temperature"], 0.5);
}

#[tokio::test]
async fn anthropic_is_made_to_call_a_tool() {
    let unused = Mock::start(vec![]).await;
    for (model, choice) in [("claude-sonnet-4-6", "tool"), ("claude-opus", "auto")] {
        let mock = Mock::start(vec![Act::stream(ANTHROPIC_TOOL)]).await;
        let asked = Question { schema: Some(label()), ..question(model) };
        let answer = ask(&gateway(&unused, None, Some(&mock)), asked).await.0.unwrap();
        // Words before the call are no part of the answer, although there is JSON in them.
        assert_eq!(answer.json, Some(json!({ "label": "bug" })));
        assert_eq!(answer.text, r#"{"label": "bug"}"#);
        let body = mock.requests()[0].json();
        assert_eq!(body["tools"][0]["input_schema"], label());
        assert_eq!(body["tool_choice"]["type"], choice);
        assert!(body["system"].as_str().unwrap().starts_with("You greet."), "{body}");
    }
}

#[tokio::test]
async fn a_model_without_schemas_is_told_in_words() {
    let mock = Mock::start(vec![chat("Sure!\n```json\n{\"label\":\"bug\"}\n```")]).await;
    let toml = format!("[providers.groq]\nbase_url = 'http://127.0.0.1:{}'\n", mock.port);
    // A model of the catalogue that is known to take no schema.
    let asked = Question { schema: Some(label()), system: None, ..question("groq/allam-2-7b") };
    let answer = ask(&build(&toml, "/nowhere".into()), asked).await.0.unwrap();
    assert_eq!(answer.json, Some(json!({ "label": "bug" })));
    let body = mock.requests()[0].json();
    assert!(body.get("response_format").is_none(), "{body}");
    assert!(body["messages"][0]["content"].as_str().unwrap().contains("JSON Schema"), "{body}");
}

#[tokio::test]
async fn usage_that_comes_unasked_is_not_asked_for() {
    let mock = Mock::start(vec![chat("a")]).await;
    let toml = format!("[providers.mistral]\nbase_url = 'http://127.0.0.1:{}'\n", mock.port);
    let answer = ask(&build(&toml, "/nowhere".into()), question("mistral")).await.0.unwrap();
    assert!(!answer.calls[0].estimated);
    let body = mock.requests()[0].json();
    assert_eq!(body["max_tokens"], 100);
    assert!(body.get("stream_options").is_none(), "{body}");
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5 });
    let choice = json!({ "index": 0, "message": { "role": "assistant", "content": "Hello" }, "finish_reason": "stop" });
    let whole = json!({ "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage });
    let openai = Mock::start(vec![Act::json(200, &whole)]).await;
    let message = json!({
        "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
        "content": [{ "type": "text", "text": "So:" }, { "type": "tool_use", "id": "t", "name": "answer", "input": { "label": "bug" } }],
        "usage": { "input_tokens": 3, "output_tokens": 2 }
    });
    let anthropic = Mock::start(vec![Act::json(200, &message)]).await;
    let gateway = gateway(&openai, None, Some(&anthropic));
    let (answer, seen) = ask(&gateway, question("gpt-5")).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), seen.as_str(), answer.calls[0].tokens.input), ("Hello", "Hello", 3));
    let asked = Question { schema: Some(label()), ..question("claude-sonnet-4-6") };
    assert_eq!(ask(&gateway, asked).await.0.unwrap().json, Some(json!({ "label": "bug" })));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_mended_once() {
    let mock = Mock::start(vec![chat(r#"{"label":"joke"}"#), chat(r#"{"label":"bug"}"#)]).await;
    let asked = Question { schema: Some(label()), ..question("gpt-4o") };
    let (answer, seen) = ask(&gateway(&mock, None, None), asked.clone()).await;
    let answer = answer.unwrap();
    assert_eq!(answer.json, Some(json!({ "label": "bug" })));
    assert_eq!(answer.calls.len(), 2, "both calls are paid");
    assert!(seen.contains("it is being mended"), "{seen}");
    let turns = mock.requests()[1].json()["messages"].clone();
    assert_eq!(turns[2], json!({ "role": "assistant", "content": r#"{"label":"joke"}"# }));
    assert!(
        turns[3]["content"].as_str().unwrap().contains("`label` is \"joke\", which is not in the list"),
        "{turns}"
    );

    let mock = Mock::start(vec![chat("no"), chat("never")]).await;
    let error = ask(&gateway(&mock, None, None), asked).await.0.unwrap_err();
    assert_eq!((error.failure.code.as_str(), error.calls.len()), ("answer_invalid", 2));
    assert!(error.failure.message.contains("the answer is not JSON"), "{error}");
}

#[tokio::test]
async fn an_answer_cut_off_at_the_limit_is_not_mended() {
    let cut = r#"data: {"choices":[{"index":0,"delta":{"content":"{\"label\":"},"finish_reason":"length"}]}"#;
    let mock = Mock::start(vec![Act::stream(&format!("{cut}\n\ndata: [DONE]\n\n"))]).await;
    let asked = Question { schema: Some(label()), ..question("gpt-4o") };
    let error = ask(&gateway(&mock, None, None), asked).await.0.unwrap_err();
    assert_eq!((error.failure.code.as_str(), error.calls.len()), ("answer_invalid", 1));
    assert!(error.failure.message.contains("max_tokens"), "{error}");
}

#[tokio::test]
async fn prices_are_the_operators_or_none() {
    let mock = Mock::start(vec![]).await;
    let other = Mock::start(vec![chat("a"), chat("a")]).await;
    let gateway = gateway(&mock, Some(&other), None);
    let priced = ask(&gateway, question("priced")).await.0.unwrap();
    assert_eq!(
        (priced.calls[0].cost, priced.calls[0].estimated),
        (NanoUsd::from_nanos(10 * 1_000 + 5 * 2_000), false)
    );
    assert_eq!(priced.calls[0].requested, "priced");
    let unpriced = ask(&gateway, question("other/big")).await.0.unwrap();
    assert_eq!((unpriced.calls[0].cost, unpriced.calls[0].estimated), (NanoUsd::ZERO, true));
    assert!(gateway.is_priced("priced") && gateway.is_priced("gpt-5") && gateway.is_priced("local"));
    assert!(gateway.is_priced("ollama/qwen3"), "the operator's own machine costs nothing");
    assert!(!gateway.is_priced("other/big") && !gateway.is_priced("no-such-model"));
    assert!(gateway.knows("openai/gpt-99") && !gateway.knows("local/other") && !gateway.knows("nobody/x"));
    let info = gateway.meaning("claude-opus").unwrap().model;
    assert_eq!((info.provider.as_str(), info.source.as_str()), ("anthropic", "models.dev"));
    assert!(info.date.is_some() && info.context.is_some() && info.prices.is_some());
    let names = gateway.names();
    assert!(
        ["local", "gpt-4", "priced", "anthropic/claude-opus-5-5"]
            .iter()
            .all(|name| names.contains(&(*name).to_owned()))
    );
}

#[tokio::test]
async fn what_an_answer_rests_on_stands_below_it() {
    let chunk = |extra: serde_json::Value| {
        let mut chunk =
            json!({ "model": "m", "choices": [{ "index": 0, "delta": { "content": "It rains [1][2]." } }] });
        let all = chunk.as_object_mut().unwrap();
        all.extend(extra.as_object().unwrap().clone());
        Act::stream(&format!("data: {chunk}\n\ndata: [DONE]\n\n"))
    };
    let (one, two) = ("https://example.org/one", "https://example.org/two?a=b");
    let cited = "It rains [1][2].\n\nSources:\n[1] https://example.org/one\n[2] https://example.org/two?a=b";
    let annotation =
        |url: &str| json!({ "type": "url_citation", "url_citation": { "url": url, "title": "T" } });
    let annotated = json!({ "choices": [{ "index": 0, "delta": {
        "content": "It rains [1][2].", "annotations": [annotation(one), annotation(two), annotation(one)],
    } }] });
    for (extra, expect) in [
        (json!({ "citations": [one, two] }), cited),
        (annotated, cited),
        (json!({ "citations": ["javascript:alert(1)", "https://a b", 7] }), "It rains [1][2]."),
        (json!({ "citations": null }), "It rains [1][2]."),
    ] {
        let mock = Mock::start(vec![chunk(extra)]).await;
        let (answer, _) = ask(&gateway(&mock, None, None), question("gpt-5")).await;
        assert_eq!(answer.unwrap().text, expect);
    }
}

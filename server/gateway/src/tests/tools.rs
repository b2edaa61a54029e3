//! Models that call tools, in both dialects and both directions.

use ports::models::{Message, Question, Tool, ToolCall, ToolResult};
use serde_json::{Value, json};

use super::formats::chat;
use super::mock::{Act, Mock};
use super::{ask, build, gateway, label, question, to_any};

const OPENAI: &str = include_str!("wire/openai_calls.sse");
const ANTHROPIC: &str = include_str!("wire/anthropic_calls.sse");

pub(super) fn tools() -> Vec<Tool> {
    let parameters = json!({ "type": "object", "properties": { "path": { "type": "string" } } });
    ["read", "list"].map(|name| tool(name, &parameters)).to_vec()
}

fn tool(name: &str, parameters: &Value) -> Tool {
    let description = format!("Does {name}.");
    Tool { name: name.to_owned(), description, parameters: parameters.clone() }
}

fn call(name: &str, arguments: &str) -> ToolCall {
    ToolCall { name: name.to_owned(), arguments: arguments.to_owned(), opaque: None }
}

/// A conversation in which two tools were called, one of them badly.
pub(super) fn conversation(target: &str) -> Question {
    let result = |text: &str, failed| ToolResult { text: text.to_owned(), failed };
    let messages = vec![
        Message::user("Fix it."),
        Message::Assistant {
            text: "Let me look.".to_owned(),
            calls: vec![call("read", r#"{"path":"a.rs"}"#), call("list", "{\"path")],
        },
        Message::Results(vec![result("fn a()", false), result("the arguments are no JSON", true)]),
        Message::Assistant { text: String::new(), calls: vec![call("list", "{}")] },
        Message::Results(vec![result("a.rs", false)]),
    ];
    Question { messages, tools: tools(), temperature: None, system: None, ..question(target) }
}

#[tokio::test]
async fn calls_are_read_as_they_stream() {
    let (openai, anthropic) =
        (Mock::start(vec![Act::stream(OPENAI)]).await, Mock::start(vec![Act::stream(ANTHROPIC)]).await);
    let gateway = gateway(&openai, None, Some(&anthropic));
    for (model, words) in [("gpt-5", ""), ("claude-sonnet-4-6", "Let me look.")] {
        let (answer, seen) = ask(&gateway, Question { tools: tools(), ..question(model) }).await;
        let answer = answer.unwrap();
        assert_eq!((answer.text.as_str(), seen.as_str(), answer.target.as_str()), (words, words, model));
        let [read, list] = &answer.wants[..] else { panic!("{model}: {:?}", answer.wants) };
        let arguments: Value = serde_json::from_str(&read.arguments).unwrap();
        assert_eq!((read.name.as_str(), arguments), ("read", json!({ "path": "a.rs" })));
        assert_eq!((list.name.as_str(), list.arguments.as_str()), ("list", "{}"));
        assert!(!answer.calls[0].estimated);
    }
}

#[tokio::test]
async fn a_conversation_is_written_for_chat() {
    let mock = Mock::start(vec![chat("done")]).await;
    ask(&gateway(&mock, None, None), conversation("gpt-4o")).await.0.unwrap();
    let body = mock.requests()[0].json();
    let call = |id: &str, name: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
    let expect = json!([
        { "role": "user", "content": "Fix it." },
        { "role": "assistant", "content": "Let me look.", "tool_calls": [
            call("call00001", "read", r#"{"path":"a.rs"}"#), call("call00002", "list", "{}") ] },
        { "role": "tool", "tool_call_id": "call00001", "content": "fn a()" },
        { "role": "tool", "tool_call_id": "call00002", "content": "the arguments are no JSON" },
        { "role": "assistant", "content": null, "tool_calls": [call("call00003", "list", "{}")] },
        { "role": "tool", "tool_call_id": "call00003", "content": "a.rs" },
    ]);
    assert_eq!(body["messages"], expect);
    let function =
        json!({ "name": "read", "description": "Does read.", "parameters": tools()[0].parameters });
    assert_eq!(body["tools"][0], json!({ "type": "function", "function": function }));
}

#[tokio::test]
async fn a_conversation_is_written_for_messages_and_marked_for_the_cache() {
    let (unused, mock) = (Mock::start(vec![]).await, Mock::start(vec![Act::stream(ANTHROPIC)]).await);
    let asked = Question { system: Some("You fix.".to_owned()), ..conversation("claude-sonnet-4-6") };
    ask(&gateway(&unused, None, Some(&mock)), asked).await.0.unwrap();
    let body = mock.requests()[0].json();
    let mark = json!({ "type": "ephemeral" });
    let expect = json!([
        { "role": "user", "content": "Fix it." },
        { "role": "assistant", "content": [
            { "type": "text", "text": "Let me look." },
            { "type": "tool_use", "id": "call00001", "name": "read", "input": { "path": "a.rs" } },
            { "type": "tool_use", "id": "call00002", "name": "list", "input": {} } ] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "call00001", "content": "fn a()", "is_error": false },
            { "type": "tool_result", "tool_use_id": "call00002", "content": "the arguments are no JSON", "is_error": true, "cache_control": mark } ] },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "call00003", "name": "list", "input": {} }] },
        { "role": "user", "content": [
            { "type": "tool_result", "tool_use_id": "call00003", "content": "a.rs", "is_error": false, "cache_control": mark } ] },
    ]);
    assert_eq!(body["messages"], expect);
    assert_eq!(body["system"], json!([{ "type": "text", "text": "You fix.", "cache_control": mark }]));
    assert_eq!(body["tools"][0]["input_schema"], tools()[0].parameters);
    assert_eq!(body.get("tool_choice"), None);
}

/// With a schema, an answer that calls a tool is not checked, and the last one is.
#[tokio::test]
async fn tools_and_a_schema_go_together() {
    let answered = ANTHROPIC.replace(r#""name":"read""#, r#""name":"answer""#);
    let answered =
        answered.replace(r#"{\"path\":"#, r#"{\"label\":"#).replace(r#" \"a.rs\"}"#, r#" \"bug\"}"#);
    let (openai, anthropic) = (
        Mock::start(vec![Act::stream(OPENAI), chat(r#"{"label":"bug"}"#)]).await,
        Mock::start(vec![
            Act::stream(ANTHROPIC),
            Act::stream(&answered.replace(r#""name":"list""#, r#""name":"answer""#)),
        ])
        .await,
    );
    let gateway = gateway(&openai, None, Some(&anthropic));
    for model in ["gpt-4o", "claude-sonnet-4-6"] {
        let asked = Question { tools: tools(), schema: Some(label()), ..question(model) };
        let first = ask(&gateway, asked.clone()).await.0.unwrap();
        assert_eq!((first.wants.len(), first.json), (2, None), "{model}");
        let last = ask(&gateway, asked).await.0.unwrap();
        assert_eq!((last.wants.len(), last.json), (0, Some(json!({ "label": "bug" }))), "{model}");
    }
    let body = anthropic.requests()[0].json();
    assert_eq!(body["tool_choice"], json!({ "type": "any" }));
    assert_eq!(body["tools"][2]["name"], "answer");
}

/// Servers differ in how they stream calls: whole ones with one place for all, or with none.
#[tokio::test]
async fn calls_of_compatible_servers_are_told_apart() {
    let call = |id: &str, name: &str| json!({ "id": id, "function": { "name": name, "arguments": { "path": name } } });
    let mut same_place = json!([call("a", "read"), call("b", "list")]);
    same_place[0]["index"] = 0.into();
    same_place[1]["index"] = 0.into();
    for calls in [
        same_place,
        json!([call("a", "read"), call("b", "list")]),
        json!([call("", "read"), call("", "list")]),
    ] {
        let delta =
            json!({ "choices": [{ "delta": { "tool_calls": calls }, "finish_reason": "tool_calls" }] });
        let mock = Mock::start(vec![Act::stream(&format!("data: {delta}\n\ndata: [DONE]\n\n"))]).await;
        let asked = Question { tools: tools(), ..question("gpt-4o") };
        let answer = ask(&gateway(&mock, None, None), asked).await.0.unwrap();
        let names: Vec<_> =
            answer.wants.iter().map(|call| (call.name.as_str(), call.arguments.as_str())).collect();
        assert_eq!(names, [("read", r#"{"path":"read"}"#), ("list", r#"{"path":"list"}"#)], "{delta}");
    }
}

#[tokio::test]
async fn what_google_signs_is_sent_back_with_the_call() {
    let signed = json!({ "google": { "thought_signature": "abc" } });
    let call = json!({ "index": 0, "id": "x", "extra_content": signed, "function": { "name": "list", "arguments": "{}" } });
    let delta = json!({ "choices": [{ "delta": { "tool_calls": [call] }, "finish_reason": "stop" }] });
    let mock =
        Mock::start(vec![Act::stream(&format!("data: {delta}\n\ndata: [DONE]\n\n")), chat("ok")]).await;
    let gateway = gateway(&mock, None, None);
    let mut asked = Question { tools: tools(), ..question("gpt-4o") };
    let answer = ask(&gateway, asked.clone()).await.0.unwrap();
    asked.messages.push(Message::Assistant { text: answer.text, calls: answer.wants });
    asked.messages.push(Message::Results(vec![ToolResult { text: "none".to_owned(), failed: false }]));
    ask(&gateway, asked).await.0.unwrap();
    assert_eq!(mock.requests()[1].json()["messages"][2]["tool_calls"][0]["extra_content"], signed);
}

#[tokio::test]
async fn a_model_that_cannot_call_tools_is_passed_over() {
    let mock = Mock::start(vec![chat("ok")]).await;
    let gateway = build(
        &format!(
            "[providers.groq]\nbase_url = 'http://127.0.0.1:{}'\n[providers.other]\ndialect = 'openai-chat'\nbase_url = 'http://127.0.0.1:{}'",
            mock.port, mock.port
        ),
        "/nowhere".into(),
    );
    let asked = Question { tools: tools(), ..question("groq/allam-2-7b") };
    let error = ask(&gateway, asked.clone()).await.0.unwrap_err();
    assert_eq!(error.failure.code, "model_incapable");
    assert_eq!(error.failure.message, "groq/allam-2-7b is not asked: it cannot call tools");
    let choice = to_any(&["groq/allam-2-7b", "other/any"]).choice;
    let answer = ask(&gateway, Question { choice, ..asked }).await.0.unwrap();
    assert_eq!((answer.text.as_str(), answer.target.as_str()), ("ok", "other/any"));
}

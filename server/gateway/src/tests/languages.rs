//! OpenAI's responses and Google's Gemini, in both directions.

use domain::money::NanoUsd;
use domain::stage::Tokens;
use ports::models::{Message, Question, ToolCall, ToolResult};
use serde_json::{Value, json};

use super::mock::{Act, Mock};
use super::tools::{conversation, tools};
use super::{KEY, ask, build, label, question};
use crate::Gateway;

const RESPONSES: &str = include_str!("wire/responses_text.sse");
const RESPONSES_CALLS: &str = include_str!("wire/responses_calls.sse");
const GEMINI: &str = include_str!("wire/gemini_text.sse");
const GEMINI_CALLS: &str = include_str!("wire/gemini_calls.sse");

/// A gateway whose `openai` is asked in responses and whose `google` in Gemini.
fn gateway(mock: &Mock) -> Gateway {
    let toml = format!(
        r#"
        [retry]
        first = "1ms"
        longest = "2ms"
        [providers.openai]
        dialect = "openai-responses"
        base_url = "http://127.0.0.1:{0}/v1"
        key = {{ env = "TEST_KEY" }}
        [providers.google]
        dialect = "gemini"
        base_url = "http://127.0.0.1:{0}/v1beta"
        key = {{ env = "TEST_KEY" }}
        "#,
        mock.port
    );
    build(&toml, "/nowhere".into())
}

/// Only OpenAI is told which conversation it is; Gemini keeps by itself what it has read.
#[tokio::test]
async fn responses_are_told_the_conversation() {
    let mock = Mock::start(vec![responses("ok"), gemini("ok")]).await;
    let gateway = gateway(&mock);
    for model in ["gpt-5", "gemini-2.5-flash"] {
        let asked = Question { conversation: Some("spellbook-7".to_owned()), ..question(model) };
        ask(&gateway, asked).await.0.unwrap();
    }
    assert_eq!(mock.requests()[0].json()["prompt_cache_key"], "spellbook-7");
    assert!(!String::from_utf8_lossy(&mock.requests()[1].body).contains("cache"));
}

/// An event of Gemini's with this text.
fn gemini(text: &str) -> Act {
    let content = json!({ "role": "model", "parts": [{ "text": text }] });
    let usage = json!({ "promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15 });
    Act::stream(&format!(
        "data: {}\n\n",
        json!({ "candidates": [{ "content": content, "finishReason": "STOP" }], "usageMetadata": usage })
    ))
}

/// An answer of responses with this text, in one piece.
fn responses(text: &str) -> Act {
    let part = json!({ "type": "output_text", "text": text, "annotations": [] });
    let output = json!([{ "type": "reasoning", "summary": [] }, { "type": "message", "role": "assistant", "content": [part] }]);
    let usage = json!({ "input_tokens": 10, "output_tokens": 5, "total_tokens": 15 });
    Act::json(
        200,
        &json!({ "object": "response", "status": "completed", "error": null, "model": "m", "output": output, "usage": usage }),
    )
}

#[tokio::test]
async fn responses_answer() {
    let mock = Mock::start(vec![Act::stream(RESPONSES)]).await;
    let (answer, seen) = ask(&gateway(&mock), question("gpt-5")).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), seen.as_str()), ("Grüße, world", "Grüße, world"));
    let [call] = &answer.calls[..] else { panic!("{:?}", answer.calls) };
    let expect = Tokens { input: 93, cache_read: 1024, cache_write: 0, output: 46, reasoning: 32 };
    assert_eq!((call.tokens, call.served.as_str(), call.estimated), (expect, "gpt-5-2025-08-07", false));
    assert_eq!(call.cost, NanoUsd::from_nanos(93 * 1_250 + 1024 * 125 + 46 * 10_000));
    let [request] = &mock.requests()[..] else { panic!("more than one request") };
    assert!(request.head.starts_with("post /v1/responses http/1.1"), "{}", request.head);
    assert!(request.head.contains(&format!("authorization: bearer {KEY}")), "{}", request.head);
    let expect = json!({
        "model": "gpt-5", "instructions": "You greet.", "input": [{ "role": "user", "content": "Greet the world." }],
        "stream": true, "store": false, "max_output_tokens": 100
    });
    assert_eq!(request.json(), expect);
}

#[tokio::test]
async fn gemini_answers() {
    let mock = Mock::start(vec![Act::stream(GEMINI)]).await;
    let (answer, seen) = ask(&gateway(&mock), question("gemini-2.5-flash")).await;
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), seen.as_str()), ("Grüße, world", "Grüße, world"));
    let [call] = &answer.calls[..] else { panic!("{:?}", answer.calls) };
    let expect = Tokens { input: 53, cache_read: 64, cache_write: 0, output: 40, reasoning: 33 };
    assert_eq!((call.tokens, call.served.as_str(), call.estimated), (expect, "gemini-3-pro", false));
    let [request] = &mock.requests()[..] else { panic!("more than one request") };
    let path = "post /v1beta/models/gemini-2.5-flash:streamgeneratecontent?alt=sse http/1.1";
    assert!(request.head.starts_with(path), "{}", request.head);
    assert!(request.head.contains(&format!("x-goog-api-key: {KEY}")), "{}", request.head);
    let expect = json!({
        "systemInstruction": { "parts": [{ "text": "You greet." }] },
        "contents": [{ "role": "user", "parts": [{ "text": "Greet the world." }] }],
        "generationConfig": { "maxOutputTokens": 100, "temperature": 0.5 }
    });
    assert_eq!(request.json(), expect);
}

#[tokio::test]
async fn calls_are_read_as_they_stream() {
    let mock = Mock::start(vec![Act::stream(RESPONSES_CALLS), Act::stream(GEMINI_CALLS)]).await;
    let gateway = gateway(&mock);
    for model in ["gpt-5", "gemini-2.5-flash"] {
        let (answer, seen) = ask(&gateway, Question { tools: tools(), ..question(model) }).await;
        let answer = answer.unwrap();
        // Thoughts are paid and not shown.
        assert_eq!((answer.text.as_str(), seen.as_str()), ("", ""), "{model}");
        let [read, list] = &answer.wants[..] else { panic!("{model}: {:?}", answer.wants) };
        let arguments: Value = serde_json::from_str(&read.arguments).unwrap();
        assert_eq!((read.name.as_str(), arguments), ("read", json!({ "path": "a.rs" })), "{model}");
        assert_eq!((list.name.as_str(), list.arguments.as_str()), ("list", "{}"), "{model}");
        let tokens = answer.calls[0].tokens;
        assert_eq!((tokens.input, tokens.output, tokens.reasoning), (200, 40, 16), "{model}");
        assert!(!answer.calls[0].estimated);
    }
}

#[tokio::test]
async fn a_conversation_is_written_for_responses() {
    let mock = Mock::start(vec![responses("done")]).await;
    let answer = ask(&gateway(&mock), conversation("gpt-5")).await.0.unwrap();
    assert_eq!((answer.text.as_str(), answer.calls[0].tokens.input), ("done", 10));
    let body = mock.requests()[0].json();
    let call = |id: &str, name: &str, arguments: &str| json!({ "type": "function_call", "call_id": id, "name": name, "arguments": arguments });
    let output =
        |id: &str, text: &str| json!({ "type": "function_call_output", "call_id": id, "output": text });
    let expect = json!([
        { "role": "user", "content": "Fix it." },
        { "role": "assistant", "content": "Let me look." },
        call("call00001", "read", r#"{"path":"a.rs"}"#), call("call00002", "list", "{}"),
        output("call00001", "fn a()"), output("call00002", "the arguments are no JSON"),
        call("call00003", "list", "{}"), output("call00003", "a.rs"),
    ]);
    assert_eq!(body["input"], expect);
    let expect = json!({ "type": "function", "name": "read", "description": "Does read.", "parameters": tools()[0].parameters, "strict": false });
    assert_eq!(body["tools"][0], expect);
}

#[tokio::test]
async fn a_conversation_is_written_for_gemini() {
    let mock = Mock::start(vec![gemini("done"), gemini("done")]).await;
    let gateway = gateway(&mock);
    ask(&gateway, conversation("gemini-2.5-flash")).await.0.unwrap();
    let body = mock.requests()[0].json();
    let call = |id: &str, name: &str, args: Value| json!({ "functionCall": { "id": id, "name": name, "args": args } });
    let result = |id: &str, name: &str, response: Value| json!({ "functionResponse": { "id": id, "name": name, "response": response } });
    let expect = json!([
        { "role": "user", "parts": [{ "text": "Fix it." }] },
        { "role": "model", "parts": [
            { "text": "Let me look." }, call("call00001", "read", json!({ "path": "a.rs" })), call("call00002", "list", json!({})) ] },
        { "role": "user", "parts": [
            result("call00001", "read", json!({ "result": "fn a()" })),
            result("call00002", "list", json!({ "error": "the arguments are no JSON" })) ] },
        { "role": "model", "parts": [call("call00003", "list", json!({}))] },
        { "role": "user", "parts": [result("call00003", "list", json!({ "result": "a.rs" }))] },
    ]);
    assert_eq!(body["contents"], expect);
    let expect =
        json!({ "name": "read", "description": "Does read.", "parametersJsonSchema": tools()[0].parameters });
    assert_eq!(
        body["tools"],
        json!([{ "functionDeclarations": [expect, body["tools"][0]["functionDeclarations"][1]] }])
    );

    // A newer one refuses a first call without a signature, although another model may have made it.
    ask(&gateway, conversation("google/gemini-3-pro-preview")).await.0.unwrap();
    let contents = mock.requests()[1].json()["contents"].clone();
    assert_eq!(contents[1]["parts"][1]["thoughtSignature"], "skip_thought_signature_validator");
    assert!(contents[1]["parts"][2].get("thoughtSignature").is_none(), "{contents}");
}

#[tokio::test]
async fn what_google_signs_is_sent_back_with_the_call() {
    let mock = Mock::start(vec![Act::stream(GEMINI_CALLS), gemini("ok")]).await;
    let gateway = gateway(&mock);
    let mut asked = Question { tools: tools(), ..question("gemini-2.5-flash") };
    let answer = ask(&gateway, asked.clone()).await.0.unwrap();
    // In the form in which Google signs where it is asked in the language of chat.
    assert_eq!(answer.wants[0].opaque, Some(json!({ "google": { "thought_signature": "CkE=" } })));
    asked.messages.push(Message::Assistant { text: answer.text, calls: answer.wants });
    let result = ToolResult { text: "none".to_owned(), failed: false };
    asked.messages.push(Message::Results(vec![result.clone(), result]));
    ask(&gateway, asked).await.0.unwrap();
    let parts = mock.requests()[1].json()["contents"][1]["parts"].clone();
    assert_eq!((&parts[0]["thoughtSignature"], parts[1].get("thoughtSignature")), (&json!("CkE="), None));
}

#[tokio::test]
async fn each_is_sent_the_schema_in_its_own_way() {
    let json = r#"{"label":"bug"}"#;
    let mock = Mock::start(vec![responses(json), gemini(json), gemini(json)]).await;
    let gateway = gateway(&mock);
    let asked = |model: &str| Question { schema: Some(label()), ..question(model) };
    for asked in
        [asked("gpt-4o"), asked("gemini-2.5-flash"), Question { tools: tools(), ..asked("gemini-2.5-flash") }]
    {
        let answer = ask(&gateway, asked).await.0.unwrap();
        assert_eq!(answer.json, Some(json!({ "label": "bug" })));
    }
    let [openai, google, with_tools] =
        &mock.requests().iter().map(super::mock::Request::json).collect::<Vec<_>>()[..]
    else {
        panic!("not three requests")
    };
    let format = json!({ "type": "json_schema", "name": "answer", "strict": true, "schema": label() });
    assert_eq!(openai["text"], json!({ "format": format }));
    assert_eq!(google["generationConfig"]["responseMimeType"], "application/json");
    assert_eq!(google["generationConfig"]["responseJsonSchema"], label());
    // Both at once it refuses.
    assert!(with_tools["generationConfig"].get("responseJsonSchema").is_none(), "{with_tools}");
    let system = with_tools["systemInstruction"]["parts"][0]["text"].as_str().unwrap();
    assert!(system.contains("JSON Schema"), "{system}");
}

/// What goes wrong with an answer of 200 is classified as if it had been refused.
#[tokio::test]
async fn errors_in_a_stream_and_filters_are_understood() {
    let event = |body: Value| Act::stream(&format!("data: {body}\n\n"));
    let failed = |code: &str| {
        event(
            json!({ "type": "response.failed", "response": { "status": "failed", "error": { "code": code, "message": "No." } } }),
        )
    };
    let incomplete = |reason: &str| {
        event(
            json!({ "type": "response.incomplete", "response": { "status": "incomplete", "incomplete_details": { "reason": reason } } }),
        )
    };
    let stopped = |reason: &str| {
        event(
            json!({ "candidates": [{ "content": { "parts": [{ "text": "a" }] }, "finishReason": reason }] }),
        )
    };
    for (model, act, code, words) in [
        ("gpt-5", failed("invalid_prompt"), "model_refused", "broke off its answer: No."),
        ("gpt-5", failed("context_length_exceeded"), "model_incapable", "broke off its answer: No."),
        ("gpt-5", incomplete("content_filter"), "model_refused", "refused to answer"),
        (
            "gpt-5",
            event(json!({ "type": "error", "code": "insufficient_quota", "message": "Pay." })),
            "model_unavailable",
            "Pay.",
        ),
        (
            "gpt-5",
            event(json!({ "type": "response.refusal.delta", "delta": "I" })),
            "model_refused",
            "refused to answer",
        ),
        ("gemini-2.5-flash", stopped("SAFETY"), "model_refused", "refused to answer"),
        ("gemini-2.5-flash", stopped("PROHIBITED_CONTENT"), "model_refused", "refused to answer"),
        (
            "gemini-2.5-flash",
            event(json!({ "promptFeedback": { "blockReason": "OTHER" } })),
            "model_refused",
            "refused to answer",
        ),
        (
            "gemini-2.5-flash",
            event(json!({ "error": { "code": 403, "message": "No.", "status": "PERMISSION_DENIED" } })),
            "model_unavailable",
            "No.",
        ),
        (
            "gemini-2.5-flash",
            Act::json(
                400,
                &json!({ "error": { "code": 400, "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).", "status": "INVALID_ARGUMENT" } }),
            ),
            "model_incapable",
            "input token count",
        ),
    ] {
        let mock = Mock::start(vec![act]).await;
        let error = ask(&gateway(&mock), question(model)).await.0.unwrap_err();
        assert_eq!((error.failure.code.as_str(), mock.requests().len()), (code, 1), "{error}");
        assert!(error.failure.message.contains(words), "{error}");
    }
}

/// A call that a model could not write down, an overloaded server, a stream that is cut: once more.
#[tokio::test]
async fn what_may_go_better_is_asked_again() {
    let event = |body: Value| Act::stream(&format!("data: {body}\n\n"));
    let delta = json!({ "type": "response.output_text.delta", "output_index": 0, "delta": "so" });
    let server = json!({ "type": "response.failed", "response": { "status": "failed", "error": { "code": "server_error", "message": "x" } } });
    for (model, act, good) in [
        ("gpt-5", event(server), responses("ok")),
        ("gpt-5", event(delta), responses("ok")),
        (
            "gemini-2.5-flash",
            event(json!({ "candidates": [{ "finishReason": "MALFORMED_FUNCTION_CALL" }] })),
            gemini("ok"),
        ),
        (
            "gemini-2.5-flash",
            event(json!({ "candidates": [{ "content": { "parts": [{ "text": "so" }] } }] })),
            gemini("ok"),
        ),
        (
            "gemini-2.5-flash",
            event(json!({ "error": { "code": 503, "message": "x", "status": "UNAVAILABLE" } })),
            gemini("ok"),
        ),
    ] {
        let mock = Mock::start(vec![act, good]).await;
        let answer = ask(&gateway(&mock), question(model)).await.0.unwrap();
        assert_eq!((answer.text.as_str(), answer.calls.len()), ("ok", 2), "{model}");
    }
}

/// An answer that ends at its limit is whole, and says so.
#[tokio::test]
async fn the_limit_is_told_from_the_end() {
    let event = |body: Value| Act::stream(&format!("data: {body}\n\n"));
    let cut = json!({ "type": "response.incomplete", "response": { "status": "incomplete", "incomplete_details": { "reason": "max_output_tokens" }, "output": [
        { "type": "message", "content": [{ "type": "output_text", "text": "{\"label\":" }] } ] } });
    let google = json!({ "candidates": [{ "content": { "parts": [{ "text": "{\"label\":" }] }, "finishReason": "MAX_TOKENS" }] });
    for (model, act) in [("gpt-4o", event(cut)), ("gemini-2.5-flash", event(google))] {
        let mock = Mock::start(vec![act]).await;
        let asked = Question { schema: Some(label()), ..question(model) };
        let error = ask(&gateway(&mock), asked).await.0.unwrap_err();
        assert!(error.failure.message.contains("max_tokens"), "{error}");
    }
}

/// A model's name is a part of the path there.
#[tokio::test]
async fn a_name_leads_nowhere_else() {
    let mock = Mock::start(vec![]).await;
    for name in
        ["google/../../upload", "google/a/../b", "google/x?y", "google/x%2e", "google/.", "google/a b"]
    {
        let error = ask(&gateway(&mock), question(name)).await.0.unwrap_err();
        assert!(error.failure.message.contains("no name of a model"), "{name}: {error}");
    }
    assert!(mock.requests().is_empty());
}

/// What another provider wants to see again is Google's to read only in Google's form.
#[tokio::test]
async fn what_is_kept_for_others_is_not_sent() {
    let mock = Mock::start(vec![gemini("ok")]).await;
    let mut asked = Question { tools: tools(), ..question("gemini-2.5-flash") };
    let call = ToolCall {
        name: "list".to_owned(),
        arguments: "{}".to_owned(),
        opaque: Some(json!({ "secret": 1 })),
    };
    asked.messages.push(Message::Assistant { text: String::new(), calls: vec![call] });
    asked.messages.push(Message::Results(vec![ToolResult { text: "none".to_owned(), failed: false }]));
    ask(&gateway(&mock), asked).await.0.unwrap();
    assert!(!mock.requests()[0].json().to_string().contains("secret"));
}

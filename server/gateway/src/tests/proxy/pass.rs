//! What passes, in both directions, and what it is metered at.

use domain::money::NanoUsd;
use domain::stage::{ModelUsage, Tokens};
use ports::proxy::{Guest, VisitReport};
use serde_json::json;

use super::super::KEY;
use super::super::mock::{Act, Mock};
use super::{guest, jail, several};

const CHAT: &str = include_str!("../wire/openai_text.sse");
const RESPONSES: &str = include_str!("../wire/responses_text.sse");
const MESSAGES: &str = include_str!("../wire/anthropic_text.sse");
const GEMINI: &str = include_str!("../wire/gemini_text.sse");

/// Sends a path and a body; expects another at the provider, the stream back as it is, and this row.
async fn check(
    (path, body): (&str, &str),
    stream: &str,
    (at, arrives): (&str, &str),
    row: (&str, Tokens, i64),
) {
    let mock = Mock::start(vec![Act::stream(stream)]).await;
    let jail = jail(&mock, guest());
    let headers = "anthropic-beta: a-1,b-2\r\nanthropic-version: 2099-01-01\r\nX-Own: yes\r\nCookie: a=b\r\nx-api-key: sk-mine\r\nx-goog-api-key: mine\r\n";
    let reply = jail.send(jail.request(&format!("POST {path}"), headers, body)).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.is_whole), (200, stream, true), "{path}");
    let [request] = &mock.requests()[..] else { panic!("{path}") };
    let (head, token) = (&request.head, jail.token());
    assert!(head.starts_with(&format!("post {at} http/1.1\r\n")), "{head}");
    assert_eq!(String::from_utf8_lossy(&request.body), arrives, "{path}");
    for kept in [
        "anthropic-beta: a-1,b-2",
        "anthropic-version: 2099-01-01",
        "x-own: yes",
        "content-type: application/json",
    ] {
        assert_eq!(head.matches(kept).count(), 1, "{kept}: {head}");
    }
    assert_eq!(head.matches(KEY).count(), 1, "{head}");
    for gone in ["cookie", "sk-mine", ": mine", token.as_str(), "key=", &jail.at.to_string()] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    let VisitReport { calls, hosts, .. } = jail.visit.end();
    let [ModelUsage { requested, tokens, cost, estimated, .. }] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(
        (requested.as_str(), *tokens, cost.nanos(), *estimated),
        (row.0, row.1, row.2, false),
        "{path}"
    );
    assert!(hosts.is_empty());
}

fn tokens(input: u64, cache_read: u64, cache_write: u64, output: u64, reasoning: u64) -> Tokens {
    Tokens { input, cache_read, cache_write, output, reasoning }
}

#[tokio::test]
async fn chat_passes() {
    let used = tokens(93, 1024, 0, 46, 32);
    let cost = 93 * 1_250 + 1024 * 125 + 46 * 10_000;
    let plain = "{ \"model\" : \"gpt-5\",\"stream\": false, \"new_thing\": [1e400 , \"\\u0000\"]}\n";
    let at = "/v1/chat/completions";
    check(("/v1/chat/completions", plain), CHAT, (at, plain), ("gpt-5", used, cost)).await;
    let stream = r#"{"stream":true,"model":"openai/gpt-5"}"#;
    let arrives = r#"{"stream_options":{"include_usage":true},"stream":true,"model":"gpt-5"}"#;
    check(("/v1/chat/completions", stream), CHAT, (at, arrives), ("gpt-5", used, cost)).await;
    // A name of the operator's is the provider's there, and its own in the report.
    let own = r#"{"model":"strong","stream":true,"stream_options":{"include_usage":false,"x":1}}"#;
    let arrives = r#"{"model":"gpt-5","stream":true,"stream_options":{"include_usage":true,"x":1}}"#;
    check(("/v1/chat/completions", own), CHAT, (at, arrives), ("strong", used, cost)).await;
}

#[tokio::test]
async fn responses_pass() {
    let used = tokens(93, 1024, 0, 46, 32);
    let cost = 93 * 1_250 + 1024 * 125 + 46 * 10_000;
    let body = r#"{"model":"gpt-5","stream":true,"store":false,"input":[{"role":"user","content":[{"type":"input_text","text":"https://x"}]}]}"#;
    check(("/v1/responses", body), RESPONSES, ("/v1/responses", body), ("gpt-5", used, cost)).await;
    check(("/v1/responses/compact", body), RESPONSES, ("/v1/responses/compact", body), ("gpt-5", used, cost))
        .await;
}

#[tokio::test]
async fn messages_pass() {
    let body = r#"{"model":"claude-sonnet-4-6","max_tokens":64000,"stream":true,"thinking":{"type":"adaptive"},"messages":[]}"#;
    let used = tokens(472, 2000, 100, 89, 0);
    let cost = 472 * 3_000 + 2000 * 300 + 100 * 3_750 + 89 * 15_000;
    check(
        ("/v1/messages?beta=true", body),
        MESSAGES,
        ("/v1/messages?beta=true", body),
        ("claude-sonnet-4-6", used, cost),
    )
    .await;
    // What stays in the cache for an hour costs more.
    let long = MESSAGES.replace(
        r#""ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":0"#,
        r#""ephemeral_5m_input_tokens":40,"ephemeral_1h_input_tokens":60"#,
    );
    let cost = cost + 60 * (6_000 - 3_750);
    check(("/v1/messages", body), &long, ("/v1/messages", body), ("claude-sonnet-4-6", used, cost)).await;
}

#[tokio::test]
async fn gemini_passes() {
    let used = tokens(53, 64, 0, 40, 33);
    let cost = 53 * 2_000 + 64 * 200 + 40 * 12_000;
    let body =
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"generationConfig":{"temperature":0.5}}"#;
    let at = "/v1beta/models/gemini-pro-latest:streamgeneratecontent?alt=sse";
    let path = "/v1beta/models/gemini-pro:streamGenerateContent?alt=sse&access_token=x";
    check((path, body), GEMINI, (at, body), ("gemini-pro", used, cost)).await;
    // Google ends lines with both.
    let stream = GEMINI.replace('\n', "\r\n");
    let named = r#"{"model":"models/gemini-pro","contents":[]}"#;
    let arrives = r#"{"model":"models/gemini-pro-latest","contents":[]}"#;
    check((path, named), &stream, (at, arrives), ("gemini-pro", used, cost)).await;
}

#[tokio::test]
async fn an_answer_in_one_piece_is_metered_too() {
    let list: Vec<&str> = GEMINI.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let completed = RESPONSES.rsplit("data: ").next().unwrap().trim();
    let response = serde_json::from_str::<serde_json::Value>(completed).unwrap()["response"].to_string();
    let usage = r#"{"input_tokens":10,"output_tokens":20,"input_tokens_details":{"text_tokens":10}}"#;
    let long = "x".repeat(9 << 20);
    for (path, body, answer, used) in [
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-5"}"#,
            r#"{"model":"gpt-5-x","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#.to_owned(),
            tokens(9, 0, 0, 2, 0),
        ),
        ("/v1/responses", r#"{"model":"gpt-5"}"#, response, tokens(93, 1024, 0, 46, 32)),
        (
            "/v1/messages",
            r#"{"model":"claude-sonnet-4-6","max_tokens":9}"#,
            r#"{"type":"message","model":"m","content":[],"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":3,"cache_read_input_tokens":2}}"#.to_owned(),
            tokens(5, 2, 0, 3, 0),
        ),
        ("/v1beta/models/gemini-pro:streamGenerateContent", "{}", format!("[{}]", list.join(",\n")), tokens(53, 64, 0, 40, 33)),
        ("/v1beta/models/gemini-pro:generateContent", "{}", list[1].to_owned(), tokens(53, 64, 0, 40, 33)),
        ("/v1/images/generations", r#"{"model":"painter","prompt":"a cat","n":2}"#, format!(r#"{{"created":1,"data":[{{"b64_json":"{long}"}}],"usage":{usage}}}"#), tokens(10, 0, 0, 20, 0)),
    ] {
        let headers = vec![("content-type", "application/json".to_owned()), ("x-request-id", "r1".to_owned()), ("set-cookie", "a=b".to_owned())];
        let mock = Mock::start(vec![Act::Reply { status: 200, headers, body: answer.clone() }]).await;
        let jail = jail(&mock, guest());
        let reply = jail.post(path, body).await;
        assert!(reply.status == 200 && reply.body == answer, "{path}: {}", reply.status);
        assert!(reply.head.contains("x-request-id: r1") && !reply.head.contains("set-cookie"), "{}", reply.head);
        let calls = jail.visit.end().calls;
        assert_eq!((calls[0].tokens, calls[0].estimated), (used, false), "{path}");
        if path.starts_with("/v1/images") {
            assert_eq!(calls[0].cost, NanoUsd::from_nanos(10 * 5_000 + 20 * 40_000 + 2 * 10_000_000));
        }
    }
}

#[tokio::test]
async fn a_form_passes() {
    let answer =
        json!({ "data": [{ "b64_json": "AA" }], "usage": { "input_tokens": 1, "output_tokens": 1 } });
    let mock = Mock::start(vec![Act::json(200, &answer)]).await;
    let jail = jail(&mock, guest());
    let body = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\npainter\r\n--b\r\nContent-Disposition: form-data; name=\"image[]\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\u{1}\r\n--b--\r\n";
    let request = jail
        .request("POST /v1/images/edits", "", body)
        .replace("application/json", "multipart/form-data; boundary=b");
    assert_eq!(jail.send(request).await.status, 200);
    let [request] = &mock.requests()[..] else { panic!() };
    assert!(request.head.contains("content-type: multipart/form-data; boundary=b"), "{}", request.head);
    assert_eq!(String::from_utf8_lossy(&request.body), body.replace("painter", "gpt-image-2"));
    assert_eq!(jail.visit.end().calls[0].cost, NanoUsd::from_nanos(5_000 + 40_000 + 10_000_000));
}

#[tokio::test]
async fn tokens_are_counted_by_the_provider_or_here() {
    let count = json!({ "input_tokens": 12 });
    let not_found = Act::json(404, &json!({ "error": {} }));
    let mock = Mock::start(vec![Act::json(200, &count), not_found.clone(), not_found]).await;
    let jail = jail(&mock, Guest { most_calls: Some(0), ..guest() });
    let body = r#"{"model":"claude-sonnet-4-6","messages":[]}"#;
    assert_eq!(jail.post("/v1/messages/count_tokens", body).await.json(), count);
    assert!(mock.requests()[0].head.starts_with("post /v1/messages/count_tokens"));
    let counted = jail.post("/v1/messages/count_tokens", body).await.json();
    assert!(counted["input_tokens"].as_u64().is_some_and(|tokens| tokens > 5), "{counted}");
    assert!(jail.post("/v1beta/models/gemini-pro:countTokens", "{}").await.json()["totalTokens"].is_u64());
    assert!(jail.visit.end().calls.is_empty(), "counting is a call of a model");
}

#[tokio::test]
async fn models_are_listed_and_the_door_is_there() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, Guest { choice: several(&["gpt-5", "no-such"]), ..guest() });
    let list = jail.send(jail.request("GET /v1/models?client_version=1", "", "")).await.json();
    assert_eq!((list["data"][0]["id"].as_str(), list["data"].as_array().unwrap().len()), (Some("gpt-5"), 1));
    let head = jail.send(format!("HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", jail.at)).await;
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn what_was_granted_at_the_provider_passes() {
    let mock = Mock::start(vec![Act::stream(MESSAGES)]).await;
    let jail = jail(&mock, Guest { provider_tools: vec!["web_search".to_owned()], ..guest() });
    let body = r#"{"model":"claude-sonnet-4-6","max_tokens":9,"tools":[{"type":"web_search_20260209","name":"web_search"}]}"#;
    assert_eq!(jail.post("/v1/messages", body).await.status, 200);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let mock = Mock::start(vec![Act::stream(CHAT), Act::stream(CHAT)]).await;
    let jail = jail(&mock, guest());
    let mut stream = jail.connect().await;
    for _ in 0..2 {
        let request = jail.request("POST /v1/chat/completions", "", r#"{"model":"gpt-5"}"#);
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
        assert_eq!(super::answer(&mut stream).await.body, CHAT);
    }
}

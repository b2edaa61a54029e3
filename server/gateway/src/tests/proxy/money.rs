//! What may be spent, and what a program is told when that is spent.

use std::sync::Arc;

use domain::money::NanoUsd;
use domain::purse::Purse;
use ports::models::Choice;
use ports::proxy::Guest;
use serde_json::json;

use super::super::budget::Empty;
use super::super::mock::{Act, Mock};
use super::{guest, jail, several};

fn purse(nanos: i64) -> Purse {
    Purse::new(Some(NanoUsd::from_nanos(nanos)), NanoUsd::ZERO)
}

fn paying(nanos: i64) -> Guest {
    Guest { till: Arc::new(purse(nanos)), ..guest() }
}

fn costly(read: u64, written: u64) -> Act {
    Act::json(
        200,
        &json!({ "choices": [{ "finish_reason": "stop" }], "usage": { "prompt_tokens": read, "completion_tokens": written } }),
    )
}

#[tokio::test]
async fn many_at_once_do_not_overspend() {
    let mock = Mock::start(vec![costly(700, 100); 200]).await;
    let purse = purse(10_000_000);
    let jail = jail(&mock, Guest { till: Arc::new(purse.clone()), ..guest() });
    let body = r#"{"model":"priced","max_tokens":100,"messages":[]}"#;
    let replies = futures::future::join_all((0..200).map(|_| jail.post("/v1/chat/completions", body))).await;
    let good = replies.iter().filter(|reply| reply.status == 200).count();
    let spent: NanoUsd = jail.visit.end().calls.iter().map(|call| call.cost).sum();
    assert_eq!((purse.spent(), mock.requests().len()), (spent, good));
    assert!(spent <= NanoUsd::CREDIT && (8..=11).contains(&good), "{spent}, {good}");
    assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 402)));
}

#[tokio::test]
async fn an_empty_purse_is_said_so_that_each_client_stops() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, paying(1));
    for (path, body, status, shape) in [
        ("/v1/chat/completions", r#"{"model":"gpt-5"}"#, 402, r#""code":"cost_limit""#),
        ("/v1/responses", r#"{"model":"gpt-5"}"#, 429, r#""code":"insufficient_quota""#),
        ("/v1/messages", r#"{"model":"claude-sonnet-4-6","max_tokens":9}"#, 402, r#""type":"billing_error""#),
        ("/v1beta/models/gemini-pro:generateContent", "{}", 402, r#""status":"RESOURCE_EXHAUSTED""#),
        ("/v1/images/generations", r#"{"model":"painter","prompt":"x"}"#, 402, r#""code":"cost_limit""#),
    ] {
        let reply = jail.post(path, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        assert!(reply.body.contains(shape) && reply.body.contains("$0.000000001"), "{path}: {}", reply.body);
        assert!(reply.head.contains("x-should-retry: false"), "{path}: {}", reply.head);
    }
    assert_eq!((mock.requests().len(), jail.visit.end().calls.len()), (0, 0));
}

#[tokio::test]
async fn an_exhausted_budget_is_said_so_that_each_client_stops() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, Guest { till: Arc::new(Empty::default()), ..guest() });
    for (path, body, status, shape) in [
        ("/v1/chat/completions", r#"{"model":"gpt-5"}"#, 402, r#""code":"budget_exhausted""#),
        ("/v1/responses", r#"{"model":"gpt-5"}"#, 429, r#""code":"insufficient_quota""#),
        ("/v1/messages", r#"{"model":"claude-sonnet-4-6","max_tokens":9}"#, 402, r#""type":"billing_error""#),
        ("/v1beta/models/gemini-pro:generateContent", "{}", 402, r#""status":"RESOURCE_EXHAUSTED""#),
    ] {
        let reply = jail.post(path, body).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        assert!(reply.body.contains(shape) && reply.body.contains("$5.00 a day"), "{path}: {}", reply.body);
        assert!(reply.head.contains("x-should-retry: false"), "{path}: {}", reply.head);
    }
    assert_eq!((mock.requests().len(), jail.visit.end().calls.len()), (0, 0));
}

#[tokio::test]
async fn calls_are_counted() {
    let mock = Mock::start(vec![costly(1, 1), costly(1, 1)]).await;
    let jail = jail(&mock, Guest { most_calls: Some(2), ..guest() });
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(jail.post("/v1/chat/completions", r#"{"model":"gpt-5"}"#).await.status);
    }
    codes.push(jail.post("/v1/responses", r#"{"model":"gpt-5"}"#).await.status);
    assert_eq!(codes, [200, 200, 402, 429]);
}

#[tokio::test]
async fn what_has_no_price_is_refused_where_money_is_limited() {
    let mock = Mock::start(vec![costly(1, 1)]).await;
    let choice = Choice::of("other/unheard-of");
    let limited = jail(&mock, Guest { choice: choice.clone(), ..paying(10_000_000) });
    let body = r#"{"model":"other/unheard-of"}"#;
    let reply = limited.post("/v1/chat/completions", body).await;
    assert!(reply.status == 403 && reply.body.contains("unpriced_model"), "{reply:?}");
    assert_eq!(mock.requests().len(), 0);
    let free = jail(&mock, Guest { choice, ..guest() });
    assert_eq!(free.post("/v1/chat/completions", body).await.status, 200);
    assert!(free.visit.end().calls[0].estimated);
}

#[tokio::test]
async fn an_answer_without_a_limit_gets_one_where_money_is_limited() {
    for (path, body, arrives) in [
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-5"}"#,
            r#"{"max_completion_tokens":32000,"model":"gpt-5"}"#,
        ),
        ("/v1/chat/completions", r#"{"model":"priced"}"#, r#"{"max_tokens":32000,"model":"big"}"#),
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-5","max_tokens":null}"#,
            r#"{"model":"gpt-5","max_tokens":32000}"#,
        ),
        ("/v1/responses", r#"{"model":"gpt-5"}"#, r#"{"max_output_tokens":32000,"model":"gpt-5"}"#),
        (
            "/v1beta/models/gemini-pro:generateContent",
            "{}",
            r#"{"generationConfig":{"maxOutputTokens":32000}}"#,
        ),
        (
            "/v1beta/models/gemini-pro:generateContent",
            r#"{"a":1}"#,
            r#"{"generationConfig":{"maxOutputTokens":32000},"a":1}"#,
        ),
        (
            "/v1beta/models/gemini-pro:generateContent",
            r#"{"generation_config":{"topK":1}}"#,
            r#"{"generation_config":{"maxOutputTokens":32000,"topK":1}}"#,
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"gpt-5","max_tokens":7}"#,
            r#"{"model":"gpt-5","max_tokens":7}"#,
        ),
    ] {
        let mock = Mock::start(vec![costly(1, 1)]).await;
        let jail = jail(&mock, paying(10_000_000_000));
        assert_eq!(jail.post(path, body).await.status, 200, "{body}");
        assert_eq!(String::from_utf8_lossy(&mock.requests()[0].body), arrives);
    }
}

#[tokio::test]
async fn a_picture_that_is_read_is_not_a_text_of_its_size() {
    let mock = Mock::start(vec![costly(1, 1)]).await;
    // A megabyte of picture is some thousand tokens, not half a million: ten cents are enough.
    let jail = jail(&mock, paying(100_000_000));
    let data = "A".repeat(1 << 20);
    let body = format!(
        r#"{{"model":"claude-sonnet-4-6","max_tokens":100,"messages":[{{"content":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}]}}]}}"#
    );
    assert_eq!(jail.post("/v1/messages", &body).await.status, 200);
    let text =
        format!(r#"{{"model":"claude-sonnet-4-6","max_tokens":100,"messages":[{{"content":"{data}"}}]}}"#);
    assert_eq!(jail.post("/v1/messages", &text).await.status, 402);
}

#[tokio::test]
async fn pictures_are_charged_although_nobody_says_how_much() {
    let drawn = Act::json(200, &json!({ "data": [{ "url": "x" }, { "url": "y" }] }));
    let choice = several(&["nobody", "painter", "by-tokens"]);
    // Each has a price; or tokens have, and as many as there can be are taken.
    for (model, cost, estimated) in [("painter", 20_000_000, false), ("by-tokens", 2 * 16_384 * 40_000, true)]
    {
        let mock = Mock::start(vec![drawn.clone()]).await;
        let jail = jail(&mock, Guest { choice: choice.clone(), ..paying(10_000_000_000) });
        let body = format!(r#"{{"model":"{model}","prompt":"a cat","n":2}}"#);
        assert_eq!(jail.post("/v1/images/generations", &body).await.status, 200);
        let calls = jail.visit.end().calls;
        assert_eq!((calls[0].cost, calls[0].estimated), (NanoUsd::from_nanos(cost), estimated), "{model}");
    }
}

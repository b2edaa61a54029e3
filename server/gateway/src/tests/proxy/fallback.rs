//! Where the name that a program was told stands for several models: who is asked when one fails, and when
//! nobody else is.

use std::sync::Arc;

use domain::money::NanoUsd;
use domain::purse::Purse;
use domain::route::Route;
use domain::stage::ModelUsage;
use ports::models::Choice;
use ports::proxy::{Guest, VisitReport};
use serde_json::{Value, json};

use super::super::build;
use super::super::mock::{Act, End, Mock};
use super::{Jail, Reply, guest, jail_of, proxy, several};
use crate::Gateway;
use crate::web::{Config, Egress};

const CHAT: &str = include_str!("../wire/openai_text.sse");

const BODY: &str = r#"{"model":"first","max_tokens":100,"messages":[]}"#;

/// Two providers, of which the first reads less.
fn house(one: &Mock, two: &Mock, more: &str) -> Gateway {
    let (one, two) = (one.port, two.port);
    build(
        &format!(
            r#"
            [providers.one]
            dialect = "openai-chat"
            base_url = "http://127.0.0.1:{one}/v1"
            timeouts = {{ first_byte = "300ms", stall = "300ms" }}
            {more}
            [providers.two]
            dialect = "openai-chat"
            base_url = "http://127.0.0.1:{two}/v1"
            also = {{ anthropic-messages = "http://127.0.0.1:{two}" }}
            [names.first]
            target = "one/small"
            prices = {{ input = "1", output = "2" }}
            context = 100000
            [names.second]
            target = "two/large"
            prices = {{ input = "10", output = "20" }}
            context = 200000
            "#
        ),
        "/nowhere".into(),
    )
}

fn jail(one: &Mock, two: &Mock, guest: Guest) -> Jail {
    jail_of(&proxy(house(one, two, ""), Egress::build(&Config::default()).unwrap()), guest)
}

fn routed() -> Guest {
    Guest { choice: several(&["first", "second"]), ..guest() }
}

fn error(status: u16, code: &str) -> Act {
    Act::json(status, &json!({ "error": { "message": format!("It is {code}."), "code": code } }))
}

fn whole(model: &str) -> Act {
    Act::json(
        200,
        &json!({ "model": model, "choices": [{ "finish_reason": "stop" }], "usage": { "prompt_tokens": 10, "completion_tokens": 5 } }),
    )
}

fn event(body: &Value) -> Act {
    Act::stream(&format!("data: {body}\n\n"))
}

fn piece(text: &str) -> Vec<u8> {
    let chunk = json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
    format!("data: {chunk}\n\n").into_bytes()
}

fn rows(calls: &[ModelUsage]) -> Vec<(u32, &str, Option<&str>)> {
    calls.iter().map(|call| (call.attempt, call.requested.as_str(), call.failure.as_deref())).collect()
}

/// Who was to be asked, in order, and why the others were not.
fn told(report: &VisitReport) -> Vec<Vec<String>> {
    let told = |ranking: &domain::route::Ranking| {
        let verdict = |one: &domain::route::Verdict| match one.place {
            Some(place) => format!("{place}. {}", one.target),
            None => format!("{}: {}", one.target, one.reason.as_str()),
        };
        ranking.verdicts.iter().map(verdict).collect()
    };
    report.rankings.iter().map(told).collect()
}

#[tokio::test]
async fn what_fails_before_its_answer_begins_goes_to_the_next() {
    let overloaded = json!({ "error": { "message": "Overloaded", "code": 529 } });
    for (name, act, class) in [
        ("500", error(500, "server_error"), "transient"),
        ("529", error(529, "overloaded_error"), "transient"),
        ("429", error(429, "rate_limit_exceeded"), "rate_limited"),
        ("quota", error(429, "insufficient_quota"), "account"),
        ("401", error(401, "invalid_api_key"), "account"),
        ("402", error(402, "billing_error"), "account"),
        ("404", error(404, "model_not_found"), "unavailable"),
        (
            "redirect",
            Act::Reply { status: 307, headers: vec![("location", "/x".to_owned())], body: String::new() },
            "unavailable",
        ),
        ("too long", error(400, "context_length_exceeded"), "capability"),
        ("reset", Act::Reset, "transient"),
        ("silence", Act::Silence, "transient"),
        ("silence after the head", Act::Stream(Vec::new(), End::Stall), "transient"),
        ("an end before the beginning", Act::stream(""), "stream_broken"),
        ("cut before the beginning", Act::Stream(Vec::new(), End::Cut), "stream_broken"),
        ("an error instead of a beginning", event(&overloaded), "transient"),
    ] {
        let (one, two) = (Mock::start(vec![act]).await, Mock::start(vec![whole("large")]).await);
        let purse = Purse::new(Some(NanoUsd::USD), NanoUsd::ZERO);
        let jail = jail(&one, &two, Guest { till: Arc::new(purse.clone()), ..routed() });
        let Reply { status, body, .. } = jail.post("/v1/chat/completions", BODY).await;
        assert!(status == 200 && body.contains(r#""model":"large""#), "{name}: {status} {body}");
        let [asked] = &two.requests()[..] else { panic!("{name}") };
        assert_eq!(String::from_utf8_lossy(&asked.body), BODY.replace("first", "large"), "{name}");
        assert_eq!(one.requests()[0].json()["model"], "small", "{name}");
        let report = jail.visit.end();
        assert_eq!(rows(&report.calls), [(1, "first", Some(class)), (2, "second", None)], "{name}");
        assert_eq!(report.calls[1].cost, NanoUsd::from_nanos(10 * 10_000 + 5 * 20_000), "{name}");
        // What was not answered may have been read; what was refused was not.
        let (is_paid, answered) = (report.calls[0].cost > NanoUsd::ZERO, matches!(name, "silence" | "reset"));
        let streamed =
            class == "stream_broken" || name.starts_with("silence") || name.starts_with("an error");
        assert_eq!(is_paid, answered || streamed, "{name}: {:?}", report.calls[0]);
        assert_eq!(purse.spent(), report.calls.iter().map(|call| call.cost).sum(), "{name}");
        assert_eq!(told(&report), [["1. first", "2. second"]], "{name}");
    }
}

#[tokio::test]
async fn what_is_wrong_or_has_begun_goes_to_nobody_else() {
    let body = BODY.replace(r#""max_tokens""#, r#""stream":true,"max_tokens""#);
    for (name, act, status, words, class) in [
        ("400", error(400, "invalid_value"), 400, "It is invalid_value.", "request"),
        ("422", error(422, "tool_argument"), 422, "It is tool_argument.", "request"),
        ("413", error(413, "request_too_large"), 413, "It is request_too_large.", "request"),
        ("a filter", error(400, "content_filter"), 400, "It is content_filter.", "content"),
        ("cut", Act::Stream(vec![piece("half ")], End::Cut), 200, "upstream_failed", "stream_broken"),
        ("stalled", Act::Stream(vec![piece("half ")], End::Stall), 200, "upstream_failed", "stream_broken"),
    ] {
        let (one, two) = (Mock::start(vec![act]).await, Mock::start(vec![whole("large")]).await);
        let jail = jail(&one, &two, routed());
        let reply = jail.post("/v1/chat/completions", &body).await;
        assert_eq!(reply.status, status, "{name}");
        assert!(reply.body.contains(words) && !reply.body.contains("[DONE]"), "{name}: {}", reply.body);
        assert!(two.requests().is_empty(), "{name}: another was asked");
        assert_eq!(rows(&jail.visit.end().calls), [(1, "first", Some(class))], "{name}");
    }
}

#[tokio::test]
async fn a_stream_of_the_next_passes_as_it_is() {
    let (one, two) =
        (Mock::start(vec![error(503, "down")]).await, Mock::start(vec![Act::stream(CHAT)]).await);
    let jail = jail(&one, &two, routed());
    let reply = jail.post("/v1/chat/completions", r#"{"model":"first","stream":true}"#).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.is_whole), (200, CHAT, true));
    let report = jail.visit.end();
    assert_eq!(rows(&report.calls), [(1, "first", Some("transient")), (2, "second", None)]);
    assert!(!report.calls[1].estimated, "{:?}", report.calls[1]);
    // The first that answers is waited for piece by piece too.
    let (one, two) = (Mock::start(vec![Act::stream(CHAT)]).await, Mock::start(vec![]).await);
    let jail =
        super::jail_of(&proxy(house(&one, &two, ""), Egress::build(&Config::default()).unwrap()), routed());
    let reply = jail.post("/v1/chat/completions", r#"{"model":"first","stream":true}"#).await;
    assert_eq!((reply.status, reply.body.as_str(), reply.is_whole), (200, CHAT, true));
    let [call] = &jail.visit.end().calls[..] else { panic!("it is one call") };
    assert_eq!((call.tokens.input, call.tokens.output, call.estimated), (93, 46, false));
}

#[tokio::test]
async fn when_all_fail_the_program_hears_the_last() {
    let down = |code: &str| Act::Reply {
        status: 503,
        headers: vec![("retry-after", "9".to_owned())],
        body: json!({ "error": { "code": code } }).to_string(),
    };
    let (one, two) = (Mock::start(vec![down("a")]).await, Mock::start(vec![down("b")]).await);
    let jail = jail(&one, &two, routed());
    let reply = jail.post("/v1/chat/completions", BODY).await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (503, Some("b")));
    assert!(reply.head.contains("retry-after: 9"), "{}", reply.head);
    assert_eq!(jail.visit.end().calls.len(), 2);
}

#[tokio::test]
async fn a_conversation_stays_and_a_broken_model_is_left_alone() {
    let (one, two) =
        (Mock::start(vec![error(503, "down"); 6]).await, Mock::start(vec![whole("large"); 12]).await);
    let proxy = proxy(house(&one, &two, ""), Egress::build(&Config::default()).unwrap());
    for _ in 0..4 {
        let jail = jail_of(&proxy, routed());
        for _ in 0..2 {
            assert_eq!(jail.post("/v1/chat/completions", BODY).await.status, 200);
        }
        // The second question goes where the first was answered.
        assert_eq!(told(&jail.visit.end()), [["1. first", "2. second"], ["2. first", "1. second"]]);
    }
    // After the fifth failure in a row it is left alone.
    for expect in [["1. first", "2. second"], ["first: open", "1. second"]] {
        let jail = jail_of(&proxy, routed());
        assert_eq!(jail.post("/v1/chat/completions", BODY).await.status, 200);
        assert_eq!(told(&jail.visit.end()), [expect]);
    }
    assert_eq!((one.requests().len(), two.requests().len()), (5, 10));
}

#[tokio::test]
async fn a_name_that_was_not_told_is_that_model_only() {
    let (one, two) = (Mock::start(vec![whole("small")]).await, Mock::start(vec![error(503, "down")]).await);
    let jail = jail(&one, &two, routed());
    let reply = jail.post("/v1/chat/completions", &BODY.replace("first", "second")).await;
    assert_eq!((reply.status, one.requests().len()), (503, 0));
    let report = jail.visit.end();
    assert_eq!((rows(&report.calls), told(&report).len()), (vec![(1, "second", Some("transient"))], 0));
}

#[tokio::test]
async fn those_that_speak_another_language_are_passed_over() {
    let (one, two) =
        (Mock::start(vec![]).await, Mock::start(vec![Act::json(200, &json!({ "usage": {} }))]).await);
    let choice = Choice { route: Route::Cheapest, ..several(&["first", "nobody", "second"]) };
    let jail = jail(&one, &two, Guest { choice, ..guest() });
    let body = r#"{"model":"first","max_tokens":9,"messages":[]}"#;
    assert_eq!(jail.post("/v1/messages", body).await.status, 200);
    assert_eq!(two.requests()[0].json()["model"], "large");
    let report = jail.visit.end();
    assert_eq!(told(&report), [["1. second", "first: language", "nobody: unknown"]]);
    assert_eq!(report.rankings[0].route, Route::Cheapest);
}

#[tokio::test]
async fn money_is_set_aside_for_each_and_no_other_is_asked_without_it() {
    // Enough for the first, not for the second, which is ten times as dear.
    let (one, two) = (Mock::start(vec![error(503, "down")]).await, Mock::start(vec![]).await);
    let till = Arc::new(Purse::new(Some(NanoUsd::from_nanos(2_000_000)), NanoUsd::ZERO));
    let jail = jail(&one, &two, Guest { till, ..routed() });
    assert_eq!(jail.post("/v1/chat/completions", BODY).await.status, 503);
    let report = jail.visit.end();
    assert_eq!(told(&report), [["1. first", "second: too_dear"]]);
    assert_eq!((rows(&report.calls).len(), two.requests().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn so_much_is_asked_in_a_minute_and_no_more() {
    let (one, two) = (Mock::start(vec![whole("small"); 2]).await, Mock::start(vec![whole("large")]).await);
    let gateway = house(&one, &two, "requests_per_minute = 1");
    let proxy = proxy(gateway, Egress::build(&Config::default()).unwrap());
    let alone = jail_of(&proxy, Guest { choice: Choice::of("first"), ..guest() });
    assert_eq!(alone.post("/v1/chat/completions", BODY).await.status, 200);
    let reply = alone.post("/v1/chat/completions", BODY).await;
    assert!(reply.status == 429 && reply.body.contains("as much as it may be in a minute"), "{reply:?}");
    assert!(!reply.head.contains("x-should-retry"), "{}", reply.head);
    // Where another may be asked, it is.
    let several = jail_of(&proxy, routed());
    assert_eq!(several.post("/v1/chat/completions", BODY).await.status, 200);
    assert_eq!(told(&several.visit.end()), [["first: limited", "1. second"]]);
    // Before the minute is over it is waited for.
    tokio::time::advance(std::time::Duration::from_secs(45)).await;
    assert_eq!(alone.post("/v1/chat/completions", BODY).await.status, 200);
    assert_eq!((one.requests().len(), alone.visit.end().calls.len()), (2, 2));
}

//! What happens when something goes wrong: each fault of a provider, and what comes of it.

use ports::Retry;
use ports::models::{Models, Question};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::formats::chat;
use super::mock::{Act, End, Mock};
use super::{KEY, ask, gateway, label, question, to_any, with_patience};

fn error(status: u16, code: &str) -> Act {
    Act::json(
        status,
        &json!({ "error": { "message": format!("It is {code}."), "type": "t", "param": null, "code": code } }),
    )
}

fn busy(retry_after: &str) -> Act {
    let body = r#"{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
    Act::Reply { status: 429, headers: vec![("retry-after", retry_after.to_owned())], body: body.to_owned() }
}

fn piece(text: &str) -> Vec<u8> {
    let chunk = json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
    format!("data: {chunk}\n\n").into_bytes()
}

/// `first` has these faults, `second` would answer "two". Expects the text or failure code, and how
/// often each was asked.
#[track_caller]
fn check(
    name: &str,
    first: Vec<Act>,
    patience: &str,
    expect: Result<&str, &str>,
    asked: (usize, usize),
) -> impl Future<Output = ()> {
    let (name, patience) = (name.to_owned(), patience.to_owned());
    let expect = expect.map(str::to_owned).map_err(str::to_owned);
    async move {
        let (one, two) = (Mock::start(first).await, Mock::start(vec![chat("two"), chat("two")]).await);
        let gateway = with_patience(&one, Some(&two), None, &patience);
        let (result, _) = ask(&gateway, to_any(&["gpt-5", "priced"])).await;
        let found = result.map(|answer| answer.text).map_err(|error| error.failure.code);
        assert_eq!(found, expect, "{name}");
        assert_eq!((one.requests().len(), two.requests().len()), asked, "{name}: how often each was asked");
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    check("500 once", vec![error(500, "server_error"), chat("one")], "30s", Ok("one"), (2, 0)).await;
    check("529 once", vec![error(529, "overloaded_error"), chat("one")], "30s", Ok("one"), (2, 0)).await;
    check("429 with a short wait", vec![busy("0.01"), chat("one")], "30s", Ok("one"), (2, 0)).await;
    check("reset once", vec![Act::Reset, chat("one")], "30s", Ok("one"), (2, 0)).await;
    check(
        "cut once",
        vec![Act::Stream(vec![piece("half ")], End::Cut), chat("one")],
        "30s",
        Ok("one"),
        (2, 0),
    )
    .await;
    check(
        "malformed once",
        vec![Act::stream("data: {\"choices\":[\n\n"), chat("one")],
        "30s",
        Ok("one"),
        (2, 0),
    )
    .await;
    let ended = Act::Stream(vec![piece("half ")], End::Whole);
    check("ended without a reason", vec![ended, chat("one")], "30s", Ok("one"), (2, 0)).await;
    check("empty", vec![Act::stream(""), chat("one")], "30s", Ok("one"), (2, 0)).await;
    let broken = "data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\n";
    check("error in the stream", vec![Act::stream(broken), chat("one")], "30s", Ok("one"), (2, 0)).await;
}

#[tokio::test]
async fn what_lasts_goes_to_the_next() {
    let thrice = |act: Act| vec![act.clone(), act.clone(), act];
    check("503 always", thrice(error(503, "down")), "30s", Ok("two"), (3, 1)).await;
    check("429 with a long wait", vec![busy("21")], "30s", Ok("two"), (1, 1)).await;
    check("429 until tomorrow", vec![busy("Mon, 23 Nov 2026 00:00:00 GMT")], "30s", Ok("two"), (1, 1)).await;
    check("429 without a wait", vec![error(429, "rate_limit_exceeded")], "30s", Ok("two"), (1, 1)).await;
    check("no money", vec![error(429, "insufficient_quota")], "30s", Ok("two"), (1, 1)).await;
    check("wrong key", vec![error(401, "invalid_api_key")], "30s", Ok("two"), (1, 1)).await;
    check("no such model", vec![error(404, "model_not_found")], "30s", Ok("two"), (1, 1)).await;
    check(
        "too long, and the next reads more",
        vec![error(400, "context_length_exceeded")],
        "30s",
        Ok("two"),
        (1, 1),
    )
    .await;
    check("redirect", vec![error(302, "")], "30s", Ok("two"), (1, 1)).await;
    check("silence", thrice(Act::Silence), "80ms", Ok("two"), (3, 1)).await;
    check("stall", thrice(Act::Stream(vec![piece("half ")], End::Stall)), "80ms", Ok("two"), (3, 1)).await;
    check("no body", thrice(Act::Stream(vec![], End::Stall)), "80ms", Ok("two"), (3, 1)).await;
}

#[tokio::test]
async fn a_retry_after_that_is_a_date_is_waited_for() {
    // The clock stands at midnight: a date in the past is no wait at all.
    check("past", vec![busy("Sun, 22 Nov 2026 00:00:00 GMT"), chat("one")], "30s", Ok("one"), (2, 0)).await;
}

#[tokio::test]
async fn what_is_wrong_stays_wrong() {
    check("bad request", vec![error(400, "invalid_value")], "30s", Err("request_invalid"), (1, 0)).await;
    check("too large", vec![error(413, "request_too_large")], "30s", Err("request_invalid"), (1, 0)).await;
    check("filtered", vec![error(400, "content_filter")], "30s", Err("model_refused"), (1, 0)).await;
    let refusal = r#"data: {"choices":[{"index":0,"delta":{"refusal":"I can't help with that."},"finish_reason":"stop"}]}"#;
    check("refusal", vec![Act::stream(&format!("{refusal}\n\n"))], "30s", Err("model_refused"), (1, 0)).await;
    let filtered = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"content_filter"}]}"#;
    check(
        "filtered late",
        vec![Act::stream(&format!("{filtered}\n\n"))],
        "30s",
        Err("model_refused"),
        (1, 0),
    )
    .await;
}

#[tokio::test]
async fn an_answer_is_whole_without_the_mark_at_its_end() {
    let end = r#"data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}"#;
    for (name, pieces, how) in [
        ("no mark", vec![format!("{end}\n\n")], End::Whole),
        ("cut after the end", vec![format!("{end}\n\n")], End::Cut),
        ("held open after the end", vec![format!("{end}\n\n")], End::Stall),
        ("one line feed only", vec![format!("{end}\n\ndata: [DONE]\n")], End::Whole),
    ] {
        let pieces = pieces.into_iter().map(String::into_bytes).collect();
        check(name, vec![Act::Stream(pieces, how)], "2s", Ok("one"), (1, 0)).await;
    }
}

#[tokio::test]
async fn a_target_that_reads_no_more_is_passed_over() {
    let one = Mock::start(vec![error(400, "context_length_exceeded")]).await;
    // gpt-4o reads less than gpt-5, and is at the same mock: it would be the second request.
    let (result, _) = ask(&gateway(&one, None, None), to_any(&["gpt-5", "gpt-4o"])).await;
    assert_eq!(result.unwrap_err().failure.code, "model_incapable");
    assert_eq!(one.requests().len(), 1);
}

#[tokio::test]
async fn a_broken_answer_is_never_continued() {
    let cut = Act::Stream(vec![piece("Once upon"), piece(" a time")], End::Cut);
    let mock = Mock::start(vec![cut, chat("Twice")]).await;
    let (answer, seen) = ask(&gateway(&mock, None, None), question("gpt-5")).await;
    let answer = answer.unwrap();
    assert_eq!(answer.text, "Twice");
    assert_eq!(seen, "Once upon a time\n— the answer broke off; it is asked for again —\nTwice");
    let [first, second] = &answer.calls[..] else { panic!("{:?}", answer.calls) };
    assert!(first.estimated && first.tokens.input > 0 && first.tokens.output >= 4, "{first:?}");
    assert!(first.cost > domain::money::NanoUsd::ZERO);
    assert!(!second.estimated);
}

#[tokio::test]
async fn a_refused_call_costs_nothing() {
    let mock = Mock::start(vec![error(500, "x"), chat("one")]).await;
    let answer = ask(&gateway(&mock, None, None), question("gpt-5")).await.0.unwrap();
    assert_eq!((answer.calls[0].tokens.total(), answer.calls[0].estimated), (0, false));
    assert_eq!(answer.calls[1].tokens.total(), 15);
}

#[tokio::test]
async fn no_more_calls_than_allowed() {
    let away: Vec<Act> = (0..9).map(|_| error(503, "down")).collect();
    let (one, two) = (Mock::start(away.clone()).await, Mock::start(away).await);
    let asked = to_any(&["gpt-5", "other/a", "other/b", "other/c"]);
    let error = ask(&gateway(&one, Some(&two), None), asked).await.0.unwrap_err();
    assert_eq!((one.requests().len(), two.requests().len()), (3, 3));
    assert_eq!(
        (error.failure.code.as_str(), error.retry, error.calls.len()),
        ("model_unavailable", Retry::Later, 6)
    );
    assert_eq!(
        error.failure.message,
        "openai/gpt-5 answered 503: It is down.; other/a answered 503: It is down."
    );
}

#[tokio::test]
async fn a_key_is_never_in_an_error() {
    let echo = json!({ "error": { "message": format!("Incorrect API key provided: {KEY}."), "code": "invalid_api_key" } });
    let mock = Mock::start(vec![Act::json(401, &echo)]).await;
    let error = ask(&gateway(&mock, None, None), question("gpt-5")).await.0.unwrap_err();
    assert_eq!(error.failure.message, "openai/gpt-5 answered 401: Incorrect API key provided: ….");
    assert_eq!(error.retry, Retry::Never);
}

#[tokio::test]
async fn an_endless_answer_is_refused() {
    let body = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, "x".repeat(9 << 20));
    let headers = vec![("content-type", "application/json".to_owned())];
    let whole = Act::Reply { status: 200, headers, body };
    check("whole", vec![whole], "30s", Err("request_invalid"), (1, 0)).await;
    let pieces = (0..20).map(|_| piece(&"x".repeat(1 << 20))).collect();
    check("streamed", vec![Act::Stream(pieces, End::Stall)], "30s", Err("request_invalid"), (1, 0)).await;
    let line = (0..20).map(|_| vec![b'x'; 1 << 20]).collect::<Vec<_>>();
    let endless = || Act::Stream(line.clone(), End::Stall);
    check("one line", vec![endless(), endless(), endless()], "30s", Ok("two"), (3, 1)).await;
}

#[tokio::test]
async fn a_provider_that_is_away_or_has_no_key_says_so() {
    let mock = Mock::start(vec![]).await;
    let gateway = gateway(&mock, None, None);
    let error = ask(&gateway, question("other/x")).await.0.unwrap_err();
    assert!(error.failure.message.starts_with("other/x cannot be reached"), "{error}");
    assert_eq!(error.retry, Retry::Later);
    let error = ask(&gateway, question("mistral")).await.0.unwrap_err();
    assert!(error.failure.message.contains("has no key: set MISTRAL_API_KEY"), "{error}");
    assert_eq!((error.failure.code.as_str(), error.calls.len()), ("model_unavailable", 0));
}

#[tokio::test]
async fn an_unknown_model_is_named_with_its_neighbour() {
    let mock = Mock::start(vec![chat("one")]).await;
    let gateway = gateway(&mock, None, None);
    let error = ask(&gateway, question("claude-opsu")).await.0.unwrap_err();
    assert_eq!(error.failure.code, "model_unknown");
    assert!(error.failure.message.contains("Did you mean `claude-opus`?"), "{error}");
    let error = ask(&gateway, to_any(&[])).await.0.unwrap_err();
    assert_eq!(error.failure.code, "model_unknown");
    assert_eq!(ask(&gateway, to_any(&["no-such-model", "gpt-5"])).await.0.unwrap().text, "one");
}

#[tokio::test]
async fn a_question_can_be_cancelled_anywhere() {
    let stall = Act::Stream(vec![piece("half ")], End::Stall);
    for (name, act) in
        [("before the answer", Act::Silence), ("in the answer", stall), ("in a wait", busy("15"))]
    {
        let mock = Mock::start(vec![act]).await;
        let gateway = gateway(&mock, None, None);
        let cancel = CancellationToken::new();
        let (to, mut from) = mpsc::channel(8);
        let schema = Some(label());
        let asked = gateway.ask(Question { schema, ..question("gpt-5") }, to, cancel.clone());
        let watch = async {
            mock.asked().await;
            if name == "in the answer" {
                assert_eq!(from.recv().await.unwrap(), "half ");
            }
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(asked, watch);
        let error = result.unwrap_err();
        assert_eq!(error.failure.code, "cancelled", "{name}");
        let [call] = &error.calls[..] else { panic!("{name}: {:?}", error.calls) };
        // In the wait, or just before: the refusal may not have been read yet.
        assert!(call.estimated || name == "in a wait", "{name}: {call:?}");
    }
}

#[tokio::test]
async fn anthropic_overloaded_in_the_middle_is_asked_again_and_paid_twice() {
    let whole = include_str!("wire/anthropic_text.sse");
    let (begun, _) = whole
        .split_once("event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}")
        .unwrap();
    let overloaded = r#"{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}"#;
    let first = Act::stream(&format!("{begun}event: error\ndata: {overloaded}\n\n"));
    let (unused, mock) = (Mock::start(vec![]).await, Mock::start(vec![first, Act::stream(whole)]).await);
    let answer = ask(&gateway(&unused, None, Some(&mock)), question("claude-sonnet-4-6")).await.0.unwrap();
    assert_eq!(answer.text, "Grüße, world");
    let [broken, good] = &answer.calls[..] else { panic!("{:?}", answer.calls) };
    // What it had said of its usage counts; what it had written by then is estimated.
    assert_eq!((broken.tokens.input, broken.tokens.cache_read, broken.estimated), (472, 2000, true));
    assert!(broken.tokens.output >= 4 && broken.cost > domain::money::NanoUsd::ZERO, "{broken:?}");
    assert!(!good.estimated);
}

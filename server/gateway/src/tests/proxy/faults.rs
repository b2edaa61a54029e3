//! What happens when either side breaks: bounded time and memory, a clear word, and what was used is
//! paid for.

use std::sync::Arc;
use std::time::Duration;

use domain::money::NanoUsd;
use domain::purse::Purse;
use ports::proxy::Guest;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::KEY;
use super::super::mock::{Act, End, Mock};
use super::{Reply, gateway, guest, jail, jail_of, proxy};
use crate::web::{Config, Egress};

const CHAT: &str = include_str!("../wire/openai_text.sse");
const RESPONSES: &str = include_str!("../wire/responses_text.sse");
const MESSAGES: &str = include_str!("../wire/anthropic_text.sse");
const GEMINI: &str = include_str!("../wire/gemini_text.sse");

const BODY: &str = r#"{"model":"gpt-5","stream":true}"#;

async fn ask(act: Act, path: &str, body: &str) -> (Reply, Vec<domain::stage::ModelUsage>) {
    let mock = Mock::start(vec![act]).await;
    let proxy = proxy(gateway(&mock, "150ms"), Egress::build(&Config::default()).unwrap());
    let jail = jail_of(&proxy, guest());
    let reply = jail.post(path, body).await;
    let calls = jail.visit.end().calls;
    assert_eq!(mock.requests().len(), 1, "there is one loop of retries, and it is the client's");
    (reply, calls)
}

#[tokio::test]
async fn a_providers_own_error_passes_without_its_key() {
    let echo = json!({ "error": { "message": format!("Incorrect API key provided: {KEY}."), "code": "invalid_api_key" } });
    for status in [400, 401, 429, 500, 529] {
        let headers = vec![("retry-after", "7".to_owned()), ("content-type", "application/json".to_owned())];
        let act = Act::Reply { status, headers, body: echo.to_string() };
        let (reply, calls) = ask(act, "/v1/chat/completions", BODY).await;
        assert_eq!(reply.status, status);
        assert!(reply.head.contains("retry-after: 7"), "{}", reply.head);
        assert_eq!(reply.json()["error"]["message"], "Incorrect API key provided: ….");
        assert_eq!((calls.len(), calls[0].cost), (1, NanoUsd::ZERO));
    }
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let headers = vec![("location", "http://169.254.169.254/".to_owned())];
    let redirect = Act::Reply { status: 307, headers, body: String::new() };
    for (act, status, words) in [
        (Act::Silence, 504, "did not begin to answer"),
        (Act::Reset, 502, "the connection was cut"),
        (redirect, 502, "redirects are not followed"),
    ] {
        let (reply, _) =
            ask(act.clone(), "/v1/messages", r#"{"model":"claude-sonnet-4-6","max_tokens":9}"#).await;
        assert_eq!(reply.status, status, "{act:?}");
        assert_eq!(reply.json()["type"], "error", "{act:?}");
        assert!(reply.body.contains(words) && !reply.body.contains("169.254"), "{act:?}: {}", reply.body);
    }
}

#[tokio::test]
async fn without_a_key_nobody_is_asked() {
    let mock = Mock::start(vec![]).await;
    let reply = jail(&mock, guest()).post("/v1/chat/completions", r#"{"model":"mistral"}"#).await;
    assert!(reply.status == 502 && reply.body.contains("MISTRAL_API_KEY"), "{reply:?}");
}

/// The stream in two pieces, cut within a line, so that the first ends before `mark`.
fn halves(stream: &str, mark: &str) -> Vec<Vec<u8>> {
    let (first, _) = stream.split_once(mark).unwrap();
    vec![first.as_bytes().to_vec()]
}

#[tokio::test]
async fn a_stream_that_breaks_says_so_in_its_own_words() {
    for (path, body, stream, last) in [
        ("/v1/chat/completions", BODY, CHAT, r#"data: {"error":{"message":"openai/gpt-5 "#),
        ("/v1/responses", BODY, RESPONSES, "event: response.failed\ndata: {\"type\":\"response.failed\","),
        (
            "/v1/messages",
            r#"{"model":"claude-sonnet-4-6","max_tokens":9,"stream":true}"#,
            MESSAGES,
            "event: error\ndata: {\"type\":\"error\",",
        ),
        (
            "/v1beta/models/gemini-pro:streamGenerateContent?alt=sse",
            "{}",
            GEMINI,
            r#"data: {"error":{"code":502,"#,
        ),
    ] {
        for end in [End::Cut, End::Stall] {
            // Within a line: what has come of it must not be taken for an event.
            let (reply, calls) = ask(Act::Stream(halves(stream, "world"), end), path, body).await;
            assert!(reply.status == 200 && reply.is_whole, "{path} {end:?}");
            let (before, event) =
                reply.body.rsplit_once(last).unwrap_or_else(|| panic!("{path}: {}", reply.body));
            // What went on are whole lines, and one more end of a line.
            let whole = before.strip_suffix('\n').unwrap();
            assert!(stream.starts_with(whole) && whole.ends_with('\n'), "{path}: {before}");
            assert!(event.ends_with("}\n\n") && !reply.body.contains("[DONE]"), "{path}: {event}");
            let [call] = &calls[..] else { panic!("{calls:?}") };
            assert!(call.estimated && call.cost > NanoUsd::ZERO, "{path}: {call:?}");
        }
    }
}

#[tokio::test]
async fn a_line_without_end_is_refused() {
    let line = (0..20).map(|_| vec![b'x'; 1 << 20]).collect::<Vec<_>>();
    let (reply, _) = ask(Act::Stream(line, End::Stall), "/v1/chat/completions", BODY).await;
    assert!(reply.is_whole && reply.body.len() < 1_000, "{} bytes", reply.body.len());
    assert!(reply.body.contains("too large"), "{}", reply.body);
}

#[tokio::test]
async fn what_is_no_json_passes_and_is_estimated() {
    let odd = "data: {\"choices\":[\n\n: comment\n\ndata: x\n\n";
    let (reply, calls) = ask(Act::stream(odd), "/v1/chat/completions", BODY).await;
    assert_eq!((reply.body.as_str(), reply.is_whole), (odd, true));
    assert!(calls[0].estimated);
}

#[tokio::test]
async fn an_answer_of_another_length_than_it_says_is_broken_off() {
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("x", "y\r\ntransfer-encoding: identity".to_owned()),
    ];
    let cut = Act::Stream(vec![b"{\"id\":".to_vec()], End::Cut);
    let (reply, _) = ask(cut, "/v1/chat/completions", r#"{"model":"gpt-5"}"#).await;
    // As a stream, by its content type: it says so. In one piece it cannot, and is not whole.
    assert!(reply.body.contains("broke off"), "{}", reply.body);
    let odd = Act::Reply { status: 200, headers, body: "{}".to_owned() };
    let (reply, _) = ask(odd, "/v1/chat/completions", r#"{"model":"gpt-5"}"#).await;
    assert!(reply.status == 502 || reply.status == 200, "{reply:?}");
}

#[tokio::test]
async fn who_hangs_up_is_not_answered_further_and_pays() {
    let begun = MESSAGES.split_once("event: content_block_stop").unwrap().0;
    for act in [Act::Stream(vec![begun.as_bytes().to_vec()], End::Stall), Act::Silence] {
        let is_silent = matches!(act, Act::Silence);
        let mock = Mock::start(vec![act]).await;
        let jail = jail(&mock, guest());
        let mut stream = jail.connect().await;
        let body = r#"{"model":"claude-sonnet-4-6","max_tokens":9,"stream":true}"#;
        stream.write_all(jail.request("POST /v1/messages", "", body).as_bytes()).await.unwrap();
        if is_silent {
            mock.asked().await;
        } else {
            assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        }
        drop(stream);
        mock.hung_up().await;
        let calls = jail.visit.end().calls;
        let [call] = &calls[..] else { panic!("{calls:?}") };
        assert!(call.estimated && call.cost > NanoUsd::ZERO, "{call:?}");
        assert!(is_silent || call.tokens.input == 472, "{call:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_visit_breaks_off_what_is_under_way() {
    let begun = MESSAGES.split_once("event: content_block_stop").unwrap().0;
    let mock = Mock::start(vec![Act::Stream(vec![begun.as_bytes().to_vec()], End::Stall)]).await;
    let purse = Purse::new(None, NanoUsd::ZERO);
    let jail = jail(&mock, Guest { till: Arc::new(purse.clone()), ..guest() });
    let mut stream = jail.connect().await;
    let body = r#"{"model":"claude-sonnet-4-6","max_tokens":9,"stream":true}"#;
    stream.write_all(jail.request("POST /v1/messages", "", body).as_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    // At once, also for what is under way; a second time says the same.
    let report = jail.visit.end();
    assert!(
        report.calls.len() == 1 && report.calls[0].estimated && report.calls[0].tokens.input == 472,
        "{report:?}"
    );
    assert_eq!((purse.spent(), jail.visit.end()), (report.calls[0].cost, report.clone()));
    let gone = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    mock.hung_up().await;
    jail.proxy.shutdown().await;
    assert_eq!(jail.visit.end(), report);
}

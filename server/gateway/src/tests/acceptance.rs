//! Sixteen faults of a provider, at a glance: what comes of each, who was asked, and what it cost. They are
//! those of failoverbench (S01 to S16), and each is made here by a provider on a real socket.
//!
//! `first` has the fault and costs $1 and $2 for a million tokens, `second` is well and costs ten times as
//! much. A question is asked of both, in this order.

use std::time::Duration;

use domain::money::NanoUsd;
use domain::stage::ModelUsage;
use serde_json::json;

use super::formats::chat;
use super::mock::{Act, End, Mock};
use super::{ask, build, to_any};
use crate::Gateway;

/// A fault: its name, what the first provider does, the answer or the code of the failure, how often each was
/// asked, and the rows of the ledger.
type Fault = (&'static str, Vec<Act>, Result<&'static str, &'static str>, (usize, usize), Rows);

/// Rows of the ledger, in order: who, the class of its failure, and how it is charged.
type Rows = &'static [(&'static str, &'static str, Charged)];

/// How a call is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charged {
    /// Not at all: it was answered with an error, or nobody was reached.
    Nothing,
    /// For its question, as far as is known: the provider may have read it.
    Read,
    /// For its question and what had come of an answer.
    Part,
    /// As the provider says.
    Said,
}

use Charged::{Nothing, Part, Read, Said};

const ONE: (&str, &str, Charged) = ("first", "", Said);
const TWO: (&str, &str, Charged) = ("second", "", Said);
const REFUSED: (&str, &str, Charged) = ("first", "transient", Nothing);
const SILENT: (&str, &str, Charged) = ("first", "transient", Read);
const BROKEN: (&str, &str, Charged) = ("first", "stream_broken", Part);
const BUSY: (&str, &str, Charged) = ("first", "rate_limited", Nothing);

fn faults() -> Vec<Fault> {
    let thrice = |act: Act| vec![act.clone(), act.clone(), act];
    let once = |act: Act| vec![act, chat("one")];
    let cut = || Act::Stream((0..40).map(|_| piece("word ")).collect(), End::Cut);
    let late = || Act::Stream(Vec::new(), End::Stall);
    let stalled = || Act::Stream(vec![piece("half ")], End::Stall);
    let malformed = || Act::Stream(vec![piece("half "), b"data: {\"choices\":[\n\n".to_vec()], End::Whole);
    let unmarked = || Act::Stream(vec![stop("one")], End::Whole);
    let (one, two, filtered) = (Ok("one"), Ok("two"), Err("model_refused"));
    let gone: Rows = &[("first", "account", Nothing), TWO];
    let too_long: Rows = &[("first", "capability", Nothing), TWO];
    let content: Rows = &[("first", "content", Nothing)];
    vec![
        ("S01 429 with Retry-After, once", once(busy(Some("0.01"))), one, (2, 0), &[BUSY, ONE]),
        ("S02 429 again and again", thrice(busy(None)), two, (1, 1), &[BUSY, TWO]),
        ("S03 500 once", once(refused(500, "server_error")), one, (2, 0), &[REFUSED, ONE]),
        ("S04 503 always", thrice(refused(503, "down")), two, (3, 1), &[REFUSED, REFUSED, REFUSED, TWO]),
        ("S05 the connection is reset", once(Act::Reset), one, (2, 0), &[SILENT, ONE]),
        ("S06 silence", thrice(Act::Silence), two, (3, 1), &[SILENT, SILENT, SILENT, TWO]),
        ("S07 the first piece is late", thrice(late()), two, (3, 1), &[SILENT, SILENT, SILENT, TWO]),
        ("S08 cut after 40 pieces of 60", once(cut()), one, (2, 0), &[BROKEN, ONE]),
        ("S09 stalled in the middle", once(stalled()), one, (2, 0), &[BROKEN, ONE]),
        ("S10 a piece that is no JSON", once(malformed()), one, (2, 0), &[BROKEN, ONE]),
        ("S11 no [DONE] at the end", vec![unmarked()], one, (1, 0), &[ONE]),
        ("S12 too long", vec![refused(400, "context_length_exceeded")], two, (1, 1), too_long),
        ("S13 a filter refuses it", vec![refused(400, "content_filter")], filtered, (1, 0), content),
        ("S14 cut, and nobody goes on with half", thrice(cut()), two, (3, 1), &[BROKEN, BROKEN, BROKEN, TWO]),
        ("S16 each is billed as itself", vec![refused(401, "invalid_api_key")], two, (1, 1), gone),
    ]
}

#[tokio::test]
async fn each_fault_ends_as_the_table_says_and_is_billed_right() {
    for (name, acts, end, asked, expect) in faults() {
        let waits = |act: &Act| matches!(act, Act::Silence | Act::Stream(_, End::Stall));
        let time = if acts.iter().any(waits) { "400ms" } else { "30s" };
        let (one, two) = (Mock::start(acts).await, Mock::start(vec![chat("two"); 2]).await);
        let (result, _) = ask(&house(&one, &two, (time, 2)), to_any(&["first", "second"])).await;
        let (ended, calls) = match result {
            Ok(answer) => (Ok(answer.text), answer.calls),
            Err(error) => (Err(error.failure.code), error.calls),
        };
        let expected = end.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(ended, expected, "{name}");
        assert_eq!((one.requests().len(), two.requests().len()), asked, "{name}: who was asked");
        let rows: Vec<_> = calls.iter().map(row).collect();
        assert_eq!(rows, expect, "{name}: {calls:?}");
        // Nobody is asked to go on with what another began.
        for request in one.requests().iter().chain(&two.requests()) {
            let body = request.json();
            assert_eq!(body["messages"].as_array().map(Vec::len), Some(2), "{name}: {body}");
        }
        for call in &calls {
            assert_eq!(call.cost, expected_cost(call), "{name}: {call:?}");
            let answered = if call.requested == "first" { "small" } else { "large" };
            // The model that says that it answered, where one did.
            assert_eq!(call.served, if call.failure.is_none() { "m" } else { answered }, "{name}");
        }
    }
}

/// S15: for a minute nothing answers, and twenty questions come, one every five seconds.
#[tokio::test(start_paused = true)]
async fn an_outage_of_a_minute_costs_nobody_an_answer_and_is_over_when_it_is_over() {
    let one = Mock::start([vec![refused(503, "down"); 6], vec![chat("one"); 20]].concat()).await;
    let two = Mock::start(vec![chat("two"); 20]).await;
    let gateway = house(&one, &two, ("30s", 0));
    let mut answers = Vec::new();
    for _ in 0..20 {
        let answer = ask(&gateway, to_any(&["first", "second"])).await.0.unwrap();
        let failed: Vec<_> = answer.calls.iter().filter(|call| call.failure.is_some()).collect();
        assert!(failed.iter().all(|call| call.cost == NanoUsd::ZERO), "{:?}", answer.calls);
        answers.push(answer.text + &"!".repeat(failed.len()));
        tokio::time::advance(Duration::from_millis(5_100)).await;
    }
    // Five failures open the breaker. After half a minute one question tries, and fails; after another half
    // the provider is well again.
    let expect = "two! two! two! two! two! two two two two two two! two two two two two one one one one";
    assert_eq!(answers.join(" "), expect);
    assert_eq!(one.requests().len(), 10);
}

/// With the time that the first provider has for each part of an answer, and how often it is asked again.
fn house(one: &Mock, two: &Mock, (time, again): (&str, u32)) -> Gateway {
    let (one, two) = (one.port, two.port);
    build(
        &format!(
            r#"
            [retry]
            first = "1ms"
            longest = "2ms"
            same_target = {again}
            [providers.one]
            dialect = "openai-chat"
            base_url = "http://127.0.0.1:{one}"
            timeouts = {{ first_byte = "{time}", stall = "{time}" }}
            [providers.two]
            dialect = "openai-chat"
            base_url = "http://127.0.0.1:{two}"
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

fn row(call: &ModelUsage) -> (&str, &str, Charged) {
    let charged = match (call.tokens.input, call.tokens.output, call.estimated) {
        (0, 0, false) => Nothing,
        (_, _, false) => Said,
        (_, 0, true) => Read,
        (_, _, true) => Part,
    };
    (&call.requested, call.failure.as_deref().unwrap_or_default(), charged)
}

/// By the tokens of the row and the price of the model that was asked, not of the one that answered in the end.
fn expected_cost(call: &ModelUsage) -> NanoUsd {
    let times = if call.requested == "first" { 1_000 } else { 10_000 };
    let tokens = |count: u64| i64::try_from(count).unwrap();
    NanoUsd::from_nanos(times * (tokens(call.tokens.input) + 2 * tokens(call.tokens.output)))
}

fn refused(status: u16, code: &str) -> Act {
    Act::json(status, &json!({ "error": { "message": format!("It is {code}."), "code": code } }))
}

fn busy(retry_after: Option<&str>) -> Act {
    let body =
        json!({ "error": { "message": "Rate limit reached", "code": "rate_limit_exceeded" } }).to_string();
    let headers = retry_after.map(|wait| ("retry-after", wait.to_owned())).into_iter().collect();
    Act::Reply { status: 429, headers, body }
}

fn piece(text: &str) -> Vec<u8> {
    let chunk = json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
    format!("data: {chunk}\n\n").into_bytes()
}

/// The whole of an answer, without the mark that usually ends a stream.
fn stop(text: &str) -> Vec<u8> {
    let chunk = json!({
        "model": "m", "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 5 }
    });
    format!("data: {chunk}\n\n").into_bytes()
}

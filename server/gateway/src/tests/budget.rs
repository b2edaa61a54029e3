//! What may be spent is set aside before each call, so that many at once never spend more.

use domain::money::NanoUsd;
use domain::purse::Purse;
use ports::Retry;
use ports::models::{Models, Question};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::formats::chat;
use super::mock::{Act, End, Mock};
use super::{ask, gateway, label, question, to_any};

/// An answer for which the provider charges so much.
fn costly(read: u64, written: u64) -> Act {
    let chunk = json!({
        "model": "m", "choices": [{ "index": 0, "delta": { "content": "ok" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": read, "completion_tokens": written }
    });
    Act::stream(&format!("data: {chunk}\n\ndata: [DONE]\n\n"))
}

fn paying(target: &str, limit: i64) -> Question {
    Question { purse: Purse::new(Some(NanoUsd::from_nanos(limit)), NanoUsd::ZERO), ..question(target) }
}

#[tokio::test]
async fn many_at_once_do_not_overspend() {
    // Each costs what a question of this size and limit may cost at most, or nearly: $1 and $2 a million.
    let (unused, mock) = (Mock::start(vec![]).await, Mock::start(vec![costly(700, 100); 200]).await);
    let gateway = gateway(&unused, Some(&mock), None);
    let question = paying("priced", 10_000_000);
    let asked = (0..200).map(|_| ask(&gateway, question.clone()));
    let results = futures::future::join_all(asked).await;
    let (good, bad): (Vec<_>, Vec<_>) =
        results.into_iter().map(|(result, _)| result).partition(Result::is_ok);
    let spent: NanoUsd = good.iter().flatten().flat_map(|answer| &answer.calls).map(|call| call.cost).sum();
    assert_eq!(question.purse.spent(), spent);
    assert!(spent <= NanoUsd::CREDIT, "{spent}");
    assert!((8..=11).contains(&good.len()), "{} were answered", good.len());
    assert_eq!(good.len(), mock.requests().len());
    for error in bad.into_iter().filter_map(Result::err) {
        assert_eq!(
            (error.failure.code.as_str(), error.retry, error.calls.len()),
            ("cost_limit", Retry::Never, 0)
        );
    }
}

#[tokio::test]
async fn a_retry_is_paid_like_a_first_try() {
    let cut =
        Act::Stream(vec![b"data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n".to_vec()], End::Cut);
    let (unused, mock) = (Mock::start(vec![]).await, Mock::start(vec![cut, chat("whole")]).await);
    let gateway = gateway(&unused, Some(&mock), None);
    // Enough for one, which is charged for although it broke off.
    let question = paying("priced", 920_000);
    let error = ask(&gateway, question.clone()).await.0.unwrap_err();
    assert_eq!((error.failure.code.as_str(), mock.requests().len()), ("cost_limit", 1));
    assert!(error.calls[0].estimated && question.purse.spent() == error.calls[0].cost, "{error:?}");
}

#[tokio::test]
async fn a_repair_is_paid_like_a_question() {
    let (unused, mock) = (Mock::start(vec![]).await, Mock::start(vec![costly(900, 100), chat("{}")]).await);
    let gateway = gateway(&unused, Some(&mock), None);
    let question = Question { schema: Some(label()), ..paying("priced", 1_200_000) };
    let error = ask(&gateway, question).await.0.unwrap_err();
    assert_eq!((error.failure.code.as_str(), mock.requests().len()), ("cost_limit", 1));
}

#[tokio::test]
async fn what_has_no_price_is_passed_over_where_money_is_limited() {
    let (one, two) = (Mock::start(vec![]).await, Mock::start(vec![chat("two"), chat("three")]).await);
    let gateway = gateway(&one, Some(&two), None);
    let error = ask(&gateway, paying("other/unheard-of", 10_000_000)).await.0.unwrap_err();
    assert_eq!((error.failure.code.as_str(), error.retry), ("unpriced_model", Retry::Never));
    assert!(error.failure.message.contains("`[models.names]`"), "{error}");
    let purse = paying("", 10_000_000).purse;
    let answer =
        ask(&gateway, Question { purse, ..to_any(&["other/unheard-of", "priced"]) }).await.0.unwrap();
    assert_eq!((answer.text.as_str(), two.requests().len()), ("two", 1));
    // Without a limit it is asked, and flagged.
    let answer = ask(&gateway, question("other/unheard-of")).await.0.unwrap();
    assert!(answer.calls[0].estimated);
}

#[tokio::test]
async fn an_answer_without_a_limit_gets_one_where_money_is_limited() {
    for (limit, expect) in [(Some(10_000_000_000), json!(8_192)), (None, json!(null))] {
        let mock = Mock::start(vec![chat("one")]).await;
        let purse = Purse::new(limit.map(NanoUsd::from_nanos), NanoUsd::ZERO);
        let asked = Question { max_tokens: None, purse, ..question("gpt-5") };
        ask(&gateway(&mock, None, None), asked).await.0.unwrap();
        assert_eq!(mock.requests()[0].json()["max_completion_tokens"], expect);
    }
}

#[tokio::test]
async fn a_question_that_is_given_up_is_paid_for() {
    for cancelled in [true, false] {
        let mock = Mock::start(vec![Act::Silence]).await;
        let gateway = gateway(&mock, None, None);
        let (question, cancel) = (paying("gpt-5", 10_000_000), CancellationToken::new());
        let asked = gateway.ask(question.clone(), mpsc::channel(1).0, cancel.clone());
        let given_up = async {
            mock.asked().await;
            cancel.cancel();
        };
        if cancelled {
            assert!(tokio::join!(asked, given_up).0.is_err());
        } else {
            tokio::select! { biased; () = given_up => {}, _ = asked => panic!("it was answered") }
        }
        // It was sent: the input counts, as far as its size tells. What was set aside is back.
        assert!(question.purse.spent() > NanoUsd::ZERO);
        let left = NanoUsd::from_nanos(10_000_000 - question.purse.spent().nanos());
        assert!(question.purse.reserve(left).is_ok());
    }
}

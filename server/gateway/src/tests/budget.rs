//! What may be spent is set aside before each call, so that many at once never spend more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::money::NanoUsd;
use domain::purse::Purse;
use ports::Retry;
use ports::models::{Models, Question};
use ports::till::{Bound, Declined, Intended, Reservation, Till};
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

fn purse(limit: i64) -> Purse {
    Purse::new(Some(NanoUsd::from_nanos(limit)), NanoUsd::ZERO)
}

/// A question that is paid from a purse.
fn from(purse: &Purse, target: &str) -> Question {
    Question { till: Arc::new(purse.clone()), ..question(target) }
}

fn paying(target: &str, limit: i64) -> Question {
    from(&purse(limit), target)
}

#[tokio::test]
async fn many_at_once_do_not_overspend() {
    // Each costs what a question of this size and limit may cost at most, or nearly: $1 and $2 a million.
    let (unused, mock) = (Mock::start(vec![]).await, Mock::start(vec![costly(700, 100); 200]).await);
    let gateway = gateway(&unused, Some(&mock), None);
    let purse = purse(10_000_000);
    let question = from(&purse, "priced");
    let asked = (0..200).map(|_| ask(&gateway, question.clone()));
    let results = futures::future::join_all(asked).await;
    let (good, bad): (Vec<_>, Vec<_>) =
        results.into_iter().map(|(result, _)| result).partition(Result::is_ok);
    let spent: NanoUsd = good.iter().flatten().flat_map(|answer| &answer.calls).map(|call| call.cost).sum();
    assert_eq!(purse.spent(), spent);
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
    let purse = purse(920_000);
    let question = from(&purse, "priced");
    let error = ask(&gateway, question.clone()).await.0.unwrap_err();
    assert_eq!((error.failure.code.as_str(), mock.requests().len()), ("cost_limit", 1));
    assert!(error.calls[0].estimated && purse.spent() == error.calls[0].cost, "{error:?}");
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
    let till = paying("", 10_000_000).till;
    let answer = ask(&gateway, Question { till, ..to_any(&["other/unheard-of", "priced"]) }).await.0.unwrap();
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
        let asked = Question { max_tokens: None, ..from(&purse, "gpt-5") };
        ask(&gateway(&mock, None, None), asked).await.0.unwrap();
        assert_eq!(mock.requests()[0].json()["max_completion_tokens"], expect);
    }
}

#[tokio::test]
async fn a_question_that_is_given_up_is_paid_for() {
    for cancelled in [true, false] {
        let mock = Mock::start(vec![Act::Silence]).await;
        let gateway = gateway(&mock, None, None);
        let (purse, cancel) = (purse(10_000_000), CancellationToken::new());
        let question = from(&purse, "gpt-5");
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
        assert!(purse.spent() > NanoUsd::ZERO);
        let left = NanoUsd::from_nanos(10_000_000 - purse.spent().nanos());
        assert!(purse.reserve(left).is_ok());
    }
}

/// A till that has nothing, for whatever it is asked; how often that was.
#[derive(Debug, Default)]
pub(super) struct Empty(AtomicUsize);

#[async_trait::async_trait]
impl Till for Empty {
    async fn bound(&self) -> Bound {
        Bound::Budgets
    }

    async fn reserve(&self, _: &Intended<'_>) -> Result<Box<dyn Reservation>, Declined> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let message = "the budget of $5.00 a day has no room".to_owned();
        Err(Declined::Exhausted { code: "budget_exhausted", message })
    }
}

#[tokio::test]
async fn what_does_not_fit_a_budget_goes_to_no_other_provider() {
    let (one, two) = (Mock::start(vec![]).await, Mock::start(vec![]).await);
    let till = Arc::new(Empty::default());
    let asked = Question { till: till.clone(), ..to_any(&["gpt-5", "priced"]) };
    let error = ask(&gateway(&one, Some(&two), None), asked).await.0.unwrap_err();
    assert_eq!(
        (error.failure.code.as_str(), error.retry, error.calls.len()),
        ("budget_exhausted", Retry::Never, 0)
    );
    assert!(error.failure.message.starts_with("openai/gpt-5 is not asked: the budget of"), "{error}");
    assert_eq!((one.requests().len(), two.requests().len(), till.0.load(Ordering::SeqCst)), (0, 0, 1));
}

#[tokio::test]
async fn a_call_says_which_try_it_was_and_whose_price_it_has() {
    let busy = || Act::json(500, &json!({ "error": { "message": "Busy." } }));
    let (one, two) =
        (Mock::start(vec![busy(), busy(), busy()]).await, Mock::start(vec![costly(100, 10)]).await);
    let calls = ask(&gateway(&one, Some(&two), None), to_any(&["gpt-5", "priced"])).await.0.unwrap().calls;
    let told: Vec<_> =
        calls.iter().map(|call| (call.attempt, call.failure.as_deref(), call.cost.nanos())).collect();
    let failed = |attempt| (attempt, Some("transient"), 0);
    assert_eq!(told, [failed(1), failed(2), failed(3), (4, None, 100 * 1_000 + 10 * 2_000)]);
    let sources: Vec<_> = calls.iter().map(|call| call.price.clone().unwrap()).collect();
    assert!(sources[0].source == "models.dev" && sources[0].date.is_some(), "{sources:?}");
    assert_eq!((sources[3].source.as_str(), &sources[3].date), ("configuration", &None));
    // The same tokens with gpt-5, at $1.25 and $10 a million.
    assert_eq!(calls[3].dearest, Some(NanoUsd::from_nanos(100 * 1_250 + 10 * 10_000)));
    // Where there is no other model, or one without a price, nothing can be said.
    for others in [&["priced"][..], &["priced", "other/unheard-of"]] {
        let two = Mock::start(vec![costly(100, 10)]).await;
        let calls = ask(&gateway(&one, Some(&two), None), to_any(others)).await.0.unwrap().calls;
        assert_eq!(calls[0].dearest, None, "{others:?}");
    }
}

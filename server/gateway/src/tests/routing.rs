//! How one of several models is chosen, by what providers did before, on real sockets.

use std::sync::Arc;

use domain::money::NanoUsd;
use domain::purse::Purse;
use domain::route::{Ability, Ranking, Reason, Route};
use ports::models::{Choice, Question};
use serde_json::json;

use super::formats::chat;
use super::mock::{Act, End, Mock};
use super::{ask, build, gateway, question, to_any};
use crate::Gateway;

/// Models of one mock, each under a name of the operator's.
fn house(mock: &Mock, more: &str, names: &str) -> Gateway {
    build(
        &format!(
            "[retry]\nfirst = '1ms'\nsame_target = 0\n[providers.house]\ndialect = 'openai-chat'\nbase_url = 'http://127.0.0.1:{}'\n{more}\n{names}",
            mock.port
        ),
        "/nowhere".into(),
    )
}

fn priced(name: &str, output: &str, more: &str) -> String {
    format!(
        "[names.{name}]\ntarget = 'house/{name}'\nprices = {{ input = '1', output = '{output}' }}\n{more}\n"
    )
}

fn by(route: Route, targets: &[&str]) -> Question {
    let asked = to_any(targets);
    Question { choice: Choice { route, ..asked.choice.clone() }, ..asked }
}

/// Who is asked, in order, and why the others are not.
fn told(ranking: &Ranking) -> Vec<String> {
    let mut asked: Vec<_> = ranking.verdicts.iter().filter(|one| one.place.is_some()).collect();
    asked.sort_by_key(|one| one.place);
    let not = ranking.verdicts.iter().filter(|one| one.place.is_none());
    let not = not.map(|one| format!("{}: {}", one.target, one.reason));
    asked.into_iter().map(|one| one.target.clone()).chain(not).collect()
}

async fn ranked(gateway: &Gateway, question: Question) -> Vec<String> {
    match ask(gateway, question).await.0 {
        Ok(answer) => told(&answer.ranking),
        Err(error) => told(&error.ranking.unwrap()),
    }
}

fn failure(status: u16, code: &str) -> Act {
    Act::json(status, &json!({ "error": { "message": "no", "code": code } }))
}

#[tokio::test]
async fn the_wish_decides() {
    let mock = Mock::start(vec![chat("ok"); 3]).await;
    let names = priced("dear", "50", "")
        + &priced("cheap", "2", "quality = 9000")
        + "[names.odd]\ntarget = 'house/odd'";
    let gateway = house(&mock, "", &names);
    assert_eq!(
        ranked(&gateway, by(Route::Cheapest, &["odd", "dear", "cheap"])).await,
        ["cheap", "dear", "odd"]
    );
    // Fifty dollars are 5,000 points, and what the operator says is 9,000.
    assert_eq!(
        ranked(&gateway, by(Route::Quality, &["odd", "dear", "cheap"])).await,
        ["cheap", "dear", "odd"]
    );
    // The one that was asked is the only one of which is known how fast it is.
    assert_eq!(ranked(&gateway, by(Route::Fastest, &["cheap", "dear"])).await, ["dear", "cheap"]);
    let models: Vec<_> = mock.requests().iter().map(|request| request.json()["model"].clone()).collect();
    assert_eq!(models, ["cheap", "cheap", "dear"]);
}

#[tokio::test]
async fn what_is_not_known_or_not_paid_is_left_out() {
    let mock = Mock::start(vec![chat("ok"); 3]).await;
    let names = priced("dear", "5000", "") + &priced("cheap", "2", "") + "[names.odd]\ntarget = 'house/odd'";
    let gateway = house(&mock, "region = 'eu'", &names);
    let asked = to_any(&["nobody", "odd", "dear", "cheap"]);
    let till = Arc::new(Purse::new(Some(NanoUsd::from_nanos(100_000_000)), NanoUsd::ZERO));
    let expect = [
        "cheap",
        "odd: nobody knows what it costs, and money is limited",
        "dear: it may cost more than is left",
        "nobody: this server does not know it",
    ];
    assert_eq!(ranked(&gateway, Question { till, ..asked }).await, expect);
    let needs = vec![Ability::Region];
    let question = Question { choice: Choice { needs, ..Choice::of("cheap") }, ..question("") };
    let error = ask(&gateway, question.clone()).await.0.unwrap_err();
    assert_eq!(
        error.failure.message,
        "house/cheap is not asked: it is not known to run in a region that the operator allows"
    );
    let allowed = house(&mock, "region = 'eu'", &("[names.x]\ntarget = 'house/x'\n".to_owned() + &names));
    assert!(ask(&allowed, question.clone()).await.0.is_err());
    let gateway = build(
        &format!(
            "regions = ['eu']\n[providers.house]\ndialect = 'openai-chat'\nregion = 'eu'\nbase_url = 'http://127.0.0.1:{}'\n{names}",
            mock.port
        ),
        "/nowhere".into(),
    );
    assert_eq!(ranked(&gateway, question).await, ["cheap"]);
}

/// A provider that is down for a while: questions go elsewhere, soon without trying, and come back.
#[tokio::test(start_paused = true)]
async fn an_outage_is_gone_around_until_it_is_over() {
    let down = vec![failure(503, "down"); 5];
    let one = Mock::start([down, vec![failure(503, "down"), chat("one"), chat("one")]].concat()).await;
    let two = Mock::start(vec![chat("two"); 30]).await;
    let gateway = build(
        &format!(
            "[retry]\nfirst = '1ms'\nsame_target = 0\n[providers.one]\ndialect = 'openai-chat'\nbase_url = 'http://127.0.0.1:{}'\n[providers.two]\ndialect = 'openai-chat'\nbase_url = 'http://127.0.0.1:{}'",
            one.port, two.port
        ),
        "/nowhere".into(),
    );
    let mut answers = String::new();
    let mut asked = async |wait: u64| {
        tokio::time::advance(std::time::Duration::from_secs(wait)).await;
        let answer = ask(&gateway, to_any(&["one/m", "two/m"])).await.0.unwrap();
        answers.push_str(if answer.text == "one" { "1" } else { "2" });
        (answer.calls.len(), answer.ranking)
    };
    for question in 0..20 {
        let (calls, ranking) = asked(1).await;
        let open = matches!(ranking.verdicts[0].reason, Reason::Open { .. });
        assert_eq!((calls, open), if question < 5 { (2, false) } else { (1, true) }, "question {question}");
    }
    // It may try again after half a minute: still down, so it rests once more.
    assert_eq!(asked(20).await.0, 2);
    assert_eq!(asked(1).await.0, 1);
    assert_eq!(asked(31).await.0, 1);
    asked(1).await;
    assert_eq!(answers, "2".repeat(22) + "11");
    assert_eq!((one.requests().len(), two.requests().len()), (8, 22));
}

/// A single model is asked also while it should rest: there is nobody else.
#[tokio::test]
async fn who_is_alone_is_asked_all_the_same() {
    let mock = Mock::start(vec![failure(401, "invalid_api_key"), chat("ok")]).await;
    let gateway = gateway(&mock, None, None);
    assert!(ask(&gateway, question("gpt-5")).await.0.is_err());
    let answer = ask(&gateway, question("gpt-5")).await.0.unwrap();
    assert!(matches!(answer.ranking.verdicts[0].reason, Reason::LastResort { .. }), "{:?}", answer.ranking);
}

#[tokio::test]
async fn a_conversation_stays_with_its_model_while_that_answers() {
    let mock = Mock::start(vec![chat("ok"), failure(503, "down"), chat("ok")]).await;
    let gateway = house(&mock, "", "");
    let stays = |with: &str| {
        let asked = to_any(&["house/a", "house/b"]);
        Question { choice: Choice { stays_with: Some(with.to_owned()), ..asked.choice.clone() }, ..asked }
    };
    let answer = ask(&gateway, stays("house/b")).await.0.unwrap();
    assert_eq!((answer.target.as_str(), &answer.ranking.verdicts[1].reason), ("house/b", &Reason::Kept));
    let answer = ask(&gateway, stays("house/b")).await.0.unwrap();
    assert_eq!(answer.target, "house/a");
}

/// Nobody is asked more often in a minute than the operator allows; a short wait is waited for.
#[tokio::test(start_paused = true)]
async fn so_many_questions_are_put_in_a_minute() {
    let mock = Mock::start(vec![chat("ok"); 4]).await;
    let gateway = house(&mock, "requests_per_minute = 2", "");
    let begun = tokio::time::Instant::now();
    for _ in 0..2 {
        ask(&gateway, question("house/a")).await.0.unwrap();
    }
    tokio::time::advance(std::time::Duration::from_secs(30)).await;
    let error = ask(&gateway, question("house/b")).await.0.unwrap_err();
    assert_eq!((error.failure.code.as_str(), error.retry), ("model_unavailable", ports::Retry::Later));
    assert!(
        error
            .failure
            .message
            .starts_with("house/b is not asked: it was asked as much as it may be in a minute"),
        "{}",
        error.failure.message
    );
    tokio::time::advance(std::time::Duration::from_secs(20)).await;
    ask(&gateway, question("house/b")).await.0.unwrap();
    assert!(begun.elapsed() >= std::time::Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(mock.requests().len(), 3);
}

/// What a model did before it broke off is charged, and so is the whole answer of the other.
#[tokio::test]
async fn a_run_that_fails_over_in_the_middle_has_the_right_bill() {
    let chunk = |text: &str| {
        let chunk =
            json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
        format!("data: {chunk}\n\n").into_bytes()
    };
    let mock = Mock::start(vec![Act::Stream(vec![chunk(&"x".repeat(350))], End::Cut), chat("done")]).await;
    let gateway = house(&mock, "", &(priced("first", "10", "") + &priced("second", "20", "")));
    let answer = ask(&gateway, to_any(&["first", "second"])).await.0.unwrap();
    assert_eq!((answer.text.as_str(), answer.target.as_str()), ("done", "second"));
    let [broken, whole] = &answer.calls[..] else { panic!("{:?}", answer.calls) };
    // A dollar and ten for a million: 100 tokens were written by the first, 10 read and 5 written by the other.
    assert!(broken.estimated && broken.tokens.output == 100, "{broken:?}");
    assert_eq!(broken.cost, NanoUsd::from_nanos(1_000 * broken.tokens.input as i64 + 100 * 10_000));
    assert_eq!((whole.cost, whole.estimated), (NanoUsd::from_nanos(10 * 1_000 + 5 * 20_000), false));
}

//! Proof, asked for from outside.

use axum::http::Method;
use domain::access::Role;
use domain::effect::{CommentTarget, EffectKind};
use ports::forge::{Forge, ForgeError};
use ports::store::{Fenced, Outbox, Recorded};
use serde_json::json;
use testkit::build;

use super::house::House;

#[tokio::test]
async fn what_was_written_is_proved_to_whoever_may_look() {
    let house = House::new();
    let repository = house.repository("ada/book", &[]).await;
    let run = build::run(&*house.clock, &repository, "review");
    let kind = EffectKind::AddComment {
        target: CommentTarget::Thread { number: 7 },
        body: "Fine.".to_owned(),
        sticky: true,
    };
    let effect = domain::effect::Effect {
        author: domain::effect::Author::Server { act: domain::effect::Act::Plan },
        ..build::effect(&*house.clock, &run, "plan/7", kind)
    };
    assert_eq!(house.store.effect_record(&effect, "plan").await.unwrap(), Recorded::New);
    let receipt = house.forge.perform(&repository, &effect).await.unwrap();
    let url = receipt.url.clone().unwrap();
    let status = domain::effect::EffectStatus::Done { receipt };
    assert_eq!(house.store.effect_settle(effect.id, 0, &status).await.unwrap(), Fenced::Written);

    let viewer = house.token("vic", Role::Viewer).await;
    let ask = async |url: &str| {
        house.get(&format!("/api/v1/verify?url={}", url.replace('#', "%23")), &viewer).await
    };
    let answer = ask(&url).await.json();
    assert_eq!(answer["proved"], true, "{answer}");
    assert_eq!(answer["record"]["effect"], effect.id.to_string());
    assert_eq!(
        ask(&format!("http://spellbook.test{url}")).await.json(),
        answer,
        "with this server's own host"
    );
    assert_eq!(ask(&format!("http://elsewhere.test{url}")).await.verdict(), "404 repository_not_found");

    let mut there = house.forge.look(&repository, &url).await.unwrap().unwrap();
    there.text = there.text.replace("Fine", "Bad");
    house.forge.shows(there);
    let answer = ask(&url).await.json();
    assert_eq!(
        (answer["proved"].clone(), answer["doubts"][0]["code"].clone()),
        (json!(false), json!("edited"))
    );

    assert_eq!(ask("/ada/book/none").await.verdict(), "404 nothing_there");
    assert_eq!(ask("x").await.verdict(), "422 url_invalid");
    house.forge.fail(ForgeError::later("down"));
    assert_eq!(ask(&url).await.verdict(), "503 forge_unavailable");
    assert_eq!(house.get("/api/v1/verify", &viewer).await.verdict(), "400 invalid_query");
    let request = super::house::request(Method::GET, "/api/v1/verify?url=/a/b", "");
    let answer = house.send(request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(answer.verdict(), "401 token_missing");
}

//! Pictures that are made: by OpenAI's pictures, by Gemini, and in the language of chat.

use std::sync::Arc;

use domain::money::NanoUsd;
use domain::purse::Purse;
use ports::models::{Drawing, Drawn, ModelError, Models};
use ports::picture::{Picture, PictureKind};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::mock::{Act, Mock, Request};
use super::{KEY, ask, build, question, to_any};
use crate::Gateway;

const IMAGES: &str = include_str!("wire/images.sse");
const GEMINI: &str = include_str!("wire/gemini_picture.sse");
const FOX: &[u8] = b"\x89PNG\r\n\x1a\nfox";

/// The one event of a stream, as an answer in one piece.
fn whole(stream: &str) -> Value {
    serde_json::from_str(stream.trim().strip_prefix("data: ").unwrap()).unwrap()
}

fn gateway(mock: &Mock) -> Gateway {
    let toml = format!(
        r#"
        [retry]
        first = "1ms"
        longest = "2ms"
        [providers.openai]
        base_url = "http://127.0.0.1:{0}/v1"
        key = {{ env = "TEST_KEY" }}
        also = {{ openai-images = "http://127.0.0.1:{0}/v1" }}
        [providers.google]
        dialect = "gemini"
        base_url = "http://127.0.0.1:{0}/v1beta"
        key = {{ env = "TEST_KEY" }}
        [providers.other]
        dialect = "openai-chat"
        base_url = "http://127.0.0.1:{0}"
        [providers.mine]
        dialect = "openai-images"
        base_url = "http://127.0.0.1:{0}"
        [names.each]
        target = "mine/painter"
        prices = {{ input = "0", output = "0", image = "0.04" }}
        "#,
        mock.port
    );
    build(&toml, "/nowhere".into())
}

fn drawing(target: &str) -> Drawing {
    let till = Arc::new(Purse::new(None, NanoUsd::ZERO));
    Drawing { choice: to_any(&[target]).choice, prompt: "A fox.".to_owned(), from: Vec::new(), till }
}

/// What an answer costs at most may be so much.
fn paying(target: &str, micros: i64) -> Drawing {
    let till = Arc::new(Purse::new(Some(NanoUsd::from_nanos(micros * 1_000)), NanoUsd::ZERO));
    Drawing { till, ..drawing(target) }
}

async fn draw(gateway: &Gateway, drawing: Drawing) -> Result<Drawn, ModelError> {
    gateway.draw(drawing, CancellationToken::new()).await
}

fn fox() -> Picture {
    Picture::read(FOX.into()).unwrap()
}

#[tokio::test]
async fn openai_draws() {
    let mock = Mock::start(vec![Act::json(200, &whole(IMAGES))]).await;
    let drawn = draw(&gateway(&mock), drawing("gpt-image-2")).await.unwrap();
    assert_eq!((&drawn.pictures[..], drawn.target.as_str()), (&[fox()][..], "gpt-image-2"));
    let [call] = &drawn.calls[..] else { panic!("{:?}", drawn.calls) };
    assert_eq!((call.tokens.input, call.tokens.output, call.estimated), (50, 1056, false));
    // $5 and $30 a million.
    assert_eq!(call.cost, NanoUsd::from_nanos(50 * 5_000 + 1056 * 30_000));
    let [request] = &mock.requests()[..] else { panic!("more than one request") };
    assert!(request.head.starts_with("post /v1/images/generations http/1.1"), "{}", request.head);
    assert!(request.head.contains(&format!("authorization: bearer {KEY}")), "{}", request.head);
    assert_eq!(request.json(), json!({ "model": "gpt-image-2", "prompt": "A fox.", "n": 1 }));
}

/// The parts of a form: what says what each is, and its value.
fn parts(request: &Request) -> Vec<(String, Vec<u8>)> {
    let boundary = request.head.lines().find_map(|line| line.split_once("boundary=")).unwrap().1.to_owned();
    let body = String::from_utf8_lossy(&request.body);
    assert!(body.ends_with(&format!("\r\n--{boundary}--\r\n")), "{body}");
    let marks = format!("--{boundary}\r\n");
    let at: Vec<usize> = request
        .body
        .windows(marks.len())
        .enumerate()
        .filter(|(_, at)| *at == marks.as_bytes())
        .map(|(at, _)| at)
        .collect();
    let end = request.body.len() - boundary.len() - 6;
    let ends = at.iter().skip(1).copied().chain([end]);
    at.iter()
        .zip(ends)
        .map(|(begin, end)| {
            let part = &request.body[begin + marks.len()..end - 2];
            let head = part.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            (String::from_utf8(part[..head].to_vec()).unwrap(), part[head + 4..].to_vec())
        })
        .collect()
}

#[tokio::test]
async fn openai_draws_from_other_pictures() {
    let mock = Mock::start(vec![Act::json(200, &whole(IMAGES)), Act::json(200, &whole(IMAGES))]).await;
    let gateway = gateway(&mock);
    let gif = Picture::read(b"GIF89a\r\n--\r\n".as_slice().into()).unwrap();
    let prompt = "Blue.\r\n--\"quoted\"".to_owned();
    draw(&gateway, Drawing { from: vec![fox()], prompt, ..drawing("gpt-image-2") }).await.unwrap();
    draw(&gateway, Drawing { from: vec![fox(), gif.clone()], ..drawing("mine/painter") }).await.unwrap();
    let [one, two] = &mock.requests()[..] else { panic!("not two requests") };
    assert!(one.head.starts_with("post /v1/images/edits http/1.1"), "{}", one.head);
    let field = |name: &str| format!("Content-Disposition: form-data; name=\"{name}\"");
    let file = |name: &str, file: &str, kind: &str| {
        format!("{}; filename=\"{file}\"\r\nContent-Type: {kind}", field(name))
    };
    let expect = vec![
        (field("model"), b"gpt-image-2".to_vec()),
        (field("prompt"), b"Blue.\r\n--\"quoted\"".to_vec()),
        (field("n"), b"1".to_vec()),
        (file("image", "1.png", "image/png"), FOX.to_vec()),
    ];
    assert_eq!(parts(one), expect);
    let expect = [
        (field("response_format"), b"b64_json".to_vec()),
        (file("image[]", "1.png", "image/png"), FOX.to_vec()),
        (file("image[]", "2.gif", "image/gif"), gif.bytes().to_vec()),
    ];
    assert_eq!(parts(two)[3..], expect);
}

#[tokio::test]
async fn gemini_draws() {
    let mock = Mock::start(vec![Act::json(200, &whole(GEMINI))]).await;
    let gateway = gateway(&mock);
    let drawn =
        draw(&gateway, Drawing { from: vec![fox()], ..drawing("gemini-3.1-flash-image") }).await.unwrap();
    // What it only thought of is left out.
    assert_eq!(drawn.pictures, [fox()]);
    assert_eq!(drawn.calls[0].cost, NanoUsd::from_nanos(7 * 500 + 1280 * 60_000));
    let [request] = &mock.requests()[..] else { panic!("more than one request") };
    let path = "post /v1beta/models/gemini-3.1-flash-image:generatecontent http/1.1";
    assert!(request.head.starts_with(path), "{}", request.head);
    let body = request.json();
    assert_eq!(body["generationConfig"], json!({ "responseModalities": ["TEXT", "IMAGE"] }));
    assert_eq!(body["contents"][0]["parts"][0]["inlineData"]["mimeType"], "image/png");
    assert_eq!(body["contents"][0]["parts"][1], json!({ "text": "A fox." }));
}

#[tokio::test]
async fn who_speaks_only_chat_draws_in_it() {
    let picture =
        json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgpmb3g=" } });
    let message = json!({ "role": "assistant", "content": "Here.", "images": [picture] });
    let answer = json!({ "choices": [{ "message": message, "finish_reason": "stop" }], "usage": { "prompt_tokens": 5, "completion_tokens": 9 } });
    let mock = Mock::start(vec![Act::json(200, &answer)]).await;
    let drawn = draw(&gateway(&mock), drawing("other/painter")).await.unwrap();
    assert_eq!((&drawn.pictures[..], drawn.calls[0].tokens.output), (&[fox()][..], 9));
    let body = mock.requests()[0].json();
    let messages = json!([{ "role": "user", "content": "A fox." }]);
    assert_eq!(
        body,
        json!({ "model": "painter", "messages": messages, "modalities": ["image", "text"], "stream": false })
    );
}

/// A price of each picture, tokens where nothing is said of them, and what nobody knows the price of.
#[tokio::test]
async fn a_picture_is_paid() {
    let silent = json!({ "data": [{ "b64_json": "iVBORw0KGgpmb3g=" }] });
    let mock = Mock::start(vec![Act::json(200, &silent); 2]).await;
    let gateway = gateway(&mock);
    let drawn = draw(&gateway, paying("each", 40_000)).await.unwrap();
    assert_eq!((drawn.calls[0].cost, drawn.calls[0].estimated), (NanoUsd::from_nanos(40_000_000), false));
    assert_eq!(mock.requests()[0].json()["response_format"], "b64_json");
    // 16,384 tokens at most, and all of them are charged where the provider does not say.
    let drawn = draw(&gateway, paying("gpt-image-2", 500_000)).await.unwrap();
    let call = &drawn.calls[0];
    assert_eq!((call.tokens.input, call.tokens.output, call.estimated), (2, 16_384, true));
    for (asked, code) in [
        (paying("each", 39_999), "cost_limit"),
        (paying("gpt-image-2", 490_000), "cost_limit"),
        (paying("mine/painter", 1_000_000), "unpriced_model"),
    ] {
        let error = draw(&gateway, asked).await.unwrap_err();
        assert_eq!((error.failure.code.as_str(), error.calls.len()), (code, 0), "{error}");
    }
    assert_eq!(mock.requests().len(), 2);
}

#[tokio::test]
async fn what_is_no_picture_is_said() {
    let data = |data: Value| Act::json(200, &json!({ "data": [data] }));
    let error = |status: u16, code: &str| {
        Act::json(
            status,
            &json!({ "error": { "message": "No.", "type": "image_generation_user_error", "code": code } }),
        )
    };
    let says = |text: &str| {
        Act::json(
            200,
            &json!({ "candidates": [{ "content": { "parts": [{ "text": text }] }, "finishReason": "STOP" }] }),
        )
    };
    let stops = |reason: &str| Act::json(200, &json!({ "candidates": [{ "finishReason": reason }] }));
    for (model, act, code, words) in [
        (
            "gpt-image-2",
            data(json!({ "url": "https://example.com/a.png" })),
            "request_invalid",
            "the address of a picture",
        ),
        ("gpt-image-2", data(json!({})), "answer_invalid", "without a picture"),
        ("gpt-image-2", error(400, "moderation_blocked"), "model_refused", "answered 400: No."),
        (
            "gemini-3-pro-image",
            says("I would rather not."),
            "answer_invalid",
            "no picture: I would rather not.",
        ),
        ("gemini-3-pro-image", stops("IMAGE_SAFETY"), "model_refused", "refused"),
        ("gpt-5", stops("STOP"), "model_incapable", "it makes no pictures"),
        ("nobody/x", stops("STOP"), "model_unknown", "there is no model"),
    ] {
        let mock = Mock::start(vec![act]).await;
        let error = draw(&gateway(&mock), drawing(model)).await.unwrap_err();
        assert_eq!(error.failure.code, code, "{error}");
        assert!(error.failure.message.contains(words), "{error}");
    }
}

/// A picture that is none may be whole the next time; another target may draw as well.
#[tokio::test]
async fn another_try_and_another_target() {
    let broken = Act::json(200, &json!({ "data": [{ "b64_json": "bm90IGEgcGljdHVyZQ==" }] }));
    let mock = Mock::start(vec![broken, Act::json(503, &json!({})), Act::json(200, &whole(IMAGES))]).await;
    let drawn = draw(&gateway(&mock), drawing("gpt-image-2")).await.unwrap();
    assert_eq!((drawn.pictures[0].kind(), drawn.calls.len()), (PictureKind::Png, 3));

    let mock = Mock::start(vec![Act::json(404, &json!({})), Act::json(200, &whole(GEMINI))]).await;
    let choice = to_any(&["gpt-5", "gpt-image-2", "gemini-3-pro-image"]).choice;
    let drawn = draw(&gateway(&mock), Drawing { choice, ..drawing("") }).await.unwrap();
    assert_eq!((drawn.target.as_str(), drawn.calls.len()), ("gemini-3-pro-image", 2));
}

#[tokio::test]
async fn who_makes_only_pictures_is_asked_nothing() {
    let mock = Mock::start(vec![]).await;
    let error = ask(&gateway(&mock), question("gpt-image-2")).await.0.unwrap_err();
    assert!(error.failure.message.contains("in an `image` stage"), "{error}");
    assert!(mock.requests().is_empty());
}

/// Some models of OpenAI's are asked in responses only, although it is asked in chat first.
#[tokio::test]
async fn a_model_may_have_a_language_of_its_own() {
    let mock = Mock::start(vec![Act::stream(include_str!("wire/responses_text.sse"))]).await;
    let toml = format!(
        "[providers.openai]\nbase_url = 'http://127.0.0.1:{0}/v1'\nalso = {{ openai-responses = 'http://127.0.0.1:{0}/v1' }}",
        mock.port
    );
    ask(&build(&toml, "/nowhere".into()), question("gpt-5-pro")).await.0.unwrap();
    assert!(mock.requests()[0].head.starts_with("post /v1/responses "), "{}", mock.requests()[0].head);
}

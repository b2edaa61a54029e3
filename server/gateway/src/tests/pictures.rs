//! Pictures in questions, in every language.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::money::NanoUsd;
use domain::purse::Purse;
use ports::models::{Message, Question};
use ports::picture::Picture;
use serde_json::json;

use super::formats::chat;
use super::mock::{Act, Mock};
use super::{ask, build, question, to_any};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest";

fn picture() -> Picture {
    Picture::read(Bytes::from_static(PNG)).unwrap()
}

fn with_picture(target: &str) -> Question {
    let messages = vec![Message::User { text: "What is it?".to_owned(), pictures: vec![picture()] }];
    Question { messages, system: None, ..question(target) }
}

#[tokio::test]
async fn a_picture_is_shown_in_each_language() {
    let data = STANDARD.encode(PNG);
    let url = format!("data:image/png;base64,{data}");
    let anthropic = include_str!("wire/anthropic_text.sse");
    let (responses, gemini) = (include_str!("wire/responses_text.sse"), include_str!("wire/gemini_text.sse"));
    let (text, words) = (json!({ "type": "text", "text": "What is it?" }), "What is it?");
    for (dialect, act, path, expect) in [
        (
            "openai-chat",
            chat("a"),
            "/messages/0/content",
            json!([text, { "type": "image_url", "image_url": { "url": url } }]),
        ),
        (
            "anthropic-messages",
            Act::stream(anthropic),
            "/messages/0/content",
            json!([{ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": data } }, text]),
        ),
        (
            "openai-responses",
            Act::stream(responses),
            "/input/0/content",
            json!([{ "type": "input_text", "text": words }, { "type": "input_image", "image_url": url, "detail": "auto" }]),
        ),
        (
            "gemini",
            Act::stream(gemini),
            "/contents/0/parts",
            json!([{ "inlineData": { "mimeType": "image/png", "data": data } }, { "text": words }]),
        ),
    ] {
        let mock = Mock::start(vec![act]).await;
        let toml =
            format!("[providers.x]\ndialect = '{dialect}'\nbase_url = 'http://127.0.0.1:{}'", mock.port);
        ask(&build(&toml, "/nowhere".into()), with_picture("x/any")).await.0.unwrap();
        assert_eq!(mock.requests()[0].json().pointer(path), Some(&expect), "{dialect}");
    }
}

#[tokio::test]
async fn a_model_that_sees_nothing_is_passed_over() {
    let mock = Mock::start(vec![chat("a cat")]).await;
    let toml = format!(
        "[providers.deepseek]\nbase_url = 'http://127.0.0.1:{0}'\n[providers.other]\ndialect = 'openai-chat'\nbase_url = 'http://127.0.0.1:{0}'",
        mock.port
    );
    let gateway = build(&toml, "/nowhere".into());
    let error = ask(&gateway, with_picture("deepseek")).await.0.unwrap_err();
    assert_eq!(error.failure.code, "model_incapable");
    assert!(error.failure.message.ends_with("is not asked: it reads no pictures"), "{error}");
    let choice = to_any(&["deepseek", "other/any"]).choice;
    let answer = ask(&gateway, Question { choice, ..with_picture("") }).await.0.unwrap();
    assert_eq!(answer.target, "other/any");
}

/// A picture counts in what is set aside before the call, and in what is estimated after one that broke off.
#[tokio::test]
async fn a_picture_has_its_price() {
    let cut = Act::Stream(
        vec![b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n".to_vec()],
        super::mock::End::Cut,
    );
    let mock = Mock::start(vec![cut.clone(), cut]).await;
    let toml = format!(
        "[retry]\nattempts = 1\n[providers.x]\ndialect = 'openai-chat'\nbase_url = 'http://127.0.0.1:{}'\n[names.m]\ntarget = 'x/m'\nprices = {{ input = '1', output = '0' }}",
        mock.port
    );
    let gateway = build(&toml, "/nowhere".into());
    let money = |micros: i64| Arc::new(Purse::new(Some(NanoUsd::from_nanos(micros * 1_000)), NanoUsd::ZERO));
    let error = ask(&gateway, Question { till: money(5_000), ..with_picture("m") }).await.0.unwrap_err();
    assert_eq!((error.failure.code.as_str(), mock.requests().len()), ("cost_limit", 0), "{error}");
    let error = ask(&gateway, Question { till: money(6_000), ..with_picture("m") }).await.0.unwrap_err();
    let [call] = &error.calls[..] else { panic!("{:?}", error.calls) };
    assert!(call.estimated && (2_800..3_000).contains(&call.tokens.input), "{call:?}");
}

//! Tapes, from the outside: the ports on one side, the cassette's data on the other.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::money::NanoUsd;
use domain::purse::Purse;
use domain::scrub::Scrub;
use domain::stage::ModelUsage;
use ports::Retry;
use ports::agents::{Agents, Job};
use ports::models::{Answer, Choice, Drawing, Drawn, Message, ModelError, Models, Question};
use ports::proxy::{Guest, Proxy};
use ports::web::{Web, WebRequest, WebResponse};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};
use testkit::{ScriptedAgents, ScriptedModels, ScriptedProxy, ScriptedWeb};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Cassette, Mode, Tape, TapedAgents, TapedModels, TapedProxy, TapedWeb};

const SECRET: &str = "hunter2-and-more";

fn tape(cassette: Json, mode: Mode, secret: &str) -> Arc<Tape> {
    Arc::new(Tape::new(Cassette::from_json(cassette).unwrap(), mode, Scrub::new([("TOKEN", secret)])))
}

fn empty() -> Json {
    json!({ "version": 1 })
}

fn written(tape: &Tape) -> Json {
    tape.cassette().to_json(&tape.scrub)
}

fn question(prompt: &str) -> Question {
    Question {
        choice: Choice::of("local"),
        conversation: None,
        system: None,
        messages: vec![Message::User { text: prompt.to_owned(), pictures: Vec::new() }],
        tools: Vec::new(),
        schema: None,
        max_tokens: Some(50),
        temperature: Some(0.0),
        till: Arc::new(Purse::new(None, NanoUsd::ZERO)),
    }
}

async fn ask(tape: &Arc<Tape>, real: ScriptedModels, prompt: &str) -> Result<Answer, ModelError> {
    let (sender, _receiver) = mpsc::channel(8);
    let models = TapedModels::new(Arc::clone(tape), Arc::new(real));
    models.ask(question(prompt), sender, CancellationToken::new()).await
}

/// Nobody is to ask these.
fn nobody() -> ScriptedModels {
    ScriptedModels::new(|question| panic!("a model was asked: {:?}", question.messages))
}

/// A cassette with answers to these questions: each is its own answer.
async fn recorded(prompts: &[&str], before: Json) -> Json {
    let tape = tape(before, Mode::Record, SECRET);
    for prompt in prompts {
        let echo = ScriptedModels::new(|question| match &question.messages[0] {
            Message::User { text, .. } => Ok(ScriptedModels::answer(question, &format!("said: {text}"))),
            other => panic!("{other:?}"),
        });
        ask(&tape, echo, prompt).await.unwrap();
    }
    written(&tape)
}

#[tokio::test]
async fn what_was_answered_is_answered_again_in_any_order() {
    let cassette = recorded(&["one", "two", "one"], empty()).await;
    let tape = tape(cassette, Mode::Replay, SECRET);
    for prompt in ["two", "one"] {
        let answer = ask(&tape, nobody(), prompt).await.unwrap();
        assert_eq!(answer.text, format!("said: {prompt}"));
        // Which try it was is the weather of its day.
        assert_eq!(answer.calls, [ModelUsage { attempt: 0, ..ScriptedModels::usage(&question(prompt)) }]);
    }
    assert_eq!((tape.unused().len(), tape.misses()), (1, Vec::new()));
    ask(&tape, nobody(), "one").await.unwrap();
    assert_eq!(tape.unused(), Vec::<String>::new());
    // Each as often as it was recorded.
    let error = ask(&tape, nobody(), "one").await.unwrap_err();
    assert_eq!((error.failure.code.as_str(), error.retry), ("not_recorded", Retry::Never));
    assert_eq!(tape.misses()[0].message, "a model is asked the same more often than is recorded");
}

#[tokio::test]
async fn a_question_that_changed_is_shown_with_what_it_was() {
    let cassette = recorded(&["Sum up.\n\nThe first text", "Translate.\n\nAnother text"], empty()).await;
    let tape = tape(cassette, Mode::Replay, SECRET);
    ask(&tape, nobody(), "Sum it up.\n\nThe first text").await.unwrap_err();
    let miss = tape.misses().remove(0);
    insta::assert_snapshot!(format!("{}\n{}", miss.message, miss.difference.unwrap()));
}

#[tokio::test]
async fn what_is_missing_is_asked_and_the_rest_stays() {
    let cassette = recorded(&["one", "two"], empty()).await;
    let tape = tape(cassette.clone(), Mode::RecordMissing, SECRET);
    ask(&tape, nobody(), "two").await.unwrap();
    ask(&tape, ScriptedModels::saying("new"), "three").await.unwrap();
    let after = written(&tape);
    assert_eq!(after["models"].as_array().unwrap()[..2], cassette["models"].as_array().unwrap()[..]);
    assert_eq!(after["models"][2]["answer"]["text"], "new");
}

#[tokio::test]
async fn recordings_keep_their_places() {
    let before = recorded(&["one", "two", "three"], empty()).await;
    let after = recorded(&["three", "new", "one"], before.clone()).await;
    let prompts = |cassette: &Json| -> Vec<String> {
        let recordings = cassette["models"].as_array().unwrap().iter();
        recordings.map(|one| one["question"]["messages"][0]["user"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(prompts(&after), ["one", "three", "new"]);
    assert_eq!(recorded(&["two", "one", "three"], before.clone()).await, before);
}

#[tokio::test]
async fn a_refusal_is_kept_and_bad_weather_is_not() {
    let tape = tape(empty(), Mode::Record, SECRET);
    let failing = |code: &'static str| {
        ScriptedModels::new(move |_| Err(ScriptedModels::failure(code, "no", Retry::Later)))
    };
    ask(&tape, failing("model_refused"), "one").await.unwrap_err();
    assert_eq!(tape.not_recorded(), Vec::<String>::new());
    ask(&tape, failing("model_unavailable"), "two").await.unwrap_err();
    assert_eq!(tape.not_recorded(), ["a model did not answer: no"]);
    let cassette = written(&tape);
    let again = self::tape(cassette, Mode::Replay, SECRET);
    let error = ask(&again, nobody(), "one").await.unwrap_err();
    assert_eq!((error.failure.code.as_str(), error.retry), ("model_refused", Retry::Later));
    assert_eq!(ask(&again, nobody(), "two").await.unwrap_err().failure.code, "not_recorded");
}

#[tokio::test]
async fn an_answer_that_costs_more_than_is_left_is_not_given() {
    let tape = tape(recorded(&["one"], empty()).await, Mode::Replay, SECRET);
    let (sender, _receiver) = mpsc::channel(8);
    let models = TapedModels::new(Arc::clone(&tape), Arc::new(nobody()));
    let poor = Question {
        till: Arc::new(Purse::new(Some(NanoUsd::from_nanos(1)), NanoUsd::ZERO)),
        ..question("one")
    };
    let error = models.ask(poor, sender, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.failure.code, "cost_limit");
}

#[tokio::test]
async fn a_secret_in_a_question_never_gets_in() {
    let cassette = recorded(&[&format!("The token is {SECRET}."), &STANDARD.encode(SECRET)], empty()).await;
    let text = cassette.to_string();
    assert!(!text.contains("hunter2") && !text.contains(&STANDARD.encode("hunter2")), "{text}");
    assert!(text.contains("The token is ${secrets.TOKEN}."), "{text}");
    // The same question with another secret is the same question.
    let tape = tape(cassette, Mode::Replay, "made-up-token");
    let answer = ask(&tape, nobody(), "The token is made-up-token.").await.unwrap();
    assert_eq!(answer.text, "said: The token is ${secrets.TOKEN}.");
}

fn drawing(prompt: &str) -> Drawing {
    Drawing {
        choice: Choice::of("painter"),
        prompt: prompt.to_owned(),
        from: Vec::new(),
        till: Arc::new(Purse::new(None, NanoUsd::ZERO)),
    }
}

async fn draw(tape: &Arc<Tape>, real: ScriptedModels, prompt: &str) -> Result<Drawn, ModelError> {
    let models = TapedModels::new(Arc::clone(tape), Arc::new(real));
    models.draw(drawing(prompt), CancellationToken::new()).await
}

/// A cassette with a picture of this.
async fn drawn(prompt: &str) -> Cassette {
    let tape = tape(empty(), Mode::Record, SECRET);
    draw(&tape, nobody(), prompt).await.unwrap();
    tape.cassette()
}

#[tokio::test]
async fn a_picture_is_a_file_of_its_own() {
    let recorded = drawn("two cats").await;
    let written = recorded.to_json(&Scrub::new([]));
    insta::assert_snapshot!(format!("{written:#}"));
    // Two pictures that are the same are one file.
    let name = recorded.pictures().first().map(|name| (*name).to_owned()).unwrap();
    let bytes = recorded.picture(&name).unwrap().to_vec();
    let mut cassette = Cassette::from_json(written.clone()).unwrap();
    let wrong = cassette.bring(&name, b"\x89PNG\r\n\x1a\nanother".to_vec()).unwrap_err().to_string();
    assert!(wrong.ends_with(&format!("{name} is not the picture that was recorded")), "{wrong}");
    cassette.bring(&name, bytes.clone()).unwrap();
    let tape = Arc::new(Tape::new(cassette, Mode::Replay, Scrub::new([])));
    let again = draw(&tape, nobody(), "two cats").await.unwrap();
    assert_eq!(again.pictures.iter().map(|one| one.bytes().to_vec()).collect::<Vec<_>>(), vec![bytes; 2]);
    assert_eq!((again.calls.len(), tape.unused().len(), tape.misses()), (1, 0, Vec::new()));
    // Without its file there is none.
    let bare = Arc::new(Tape::new(Cassette::from_json(written).unwrap(), Mode::Replay, Scrub::new([])));
    assert_eq!(draw(&bare, nobody(), "two cats").await.unwrap_err().failure.code.as_str(), "not_recorded");
    assert!(bare.misses()[0].message.contains("is not there"), "{:?}", bare.misses());
}

#[tokio::test]
async fn a_picture_that_is_ordered_otherwise_is_shown_with_what_it_was() {
    let replay = Arc::new(Tape::new(drawn("A cat\n\nin ink").await, Mode::Replay, Scrub::new([])));
    let error = draw(&replay, nobody(), "A dog\n\nin ink").await.unwrap_err();
    assert_eq!((error.failure.code.as_str(), error.retry), ("not_recorded", Retry::Never));
    let miss = replay.misses().remove(0);
    insta::assert_snapshot!(format!("{}\n{}", miss.message, miss.difference.unwrap()));
}

#[tokio::test]
async fn a_secret_is_neither_in_the_order_of_a_picture_nor_in_the_picture() {
    let tape = tape(empty(), Mode::Record, SECRET);
    // The picture has what was ordered in it.
    draw(&tape, nobody(), &format!("A sign that says {SECRET}")).await.unwrap();
    assert_eq!(tape.not_recorded(), ["a secret would stand in a picture"]);
    assert!(tape.cassette().is_empty());
    // A refusal has no picture in it, and what was asked is kept.
    draw(&tape, nobody(), "nothing").await.unwrap_err();
    assert_eq!(written(&tape)["pictures"][0]["failure"]["code"], "model_refused");
    let replay = self::tape(written(&tape), Mode::Replay, SECRET);
    draw(&replay, nobody(), &format!("A sign that says {SECRET}")).await.unwrap_err();
    let miss = format!("{:?}", replay.misses());
    assert!(miss.contains("A sign that says ${secrets.TOKEN}") && !miss.contains(SECRET), "{miss}");
}

fn request(secret: &str) -> WebRequest {
    WebRequest {
        method: "POST".to_owned(),
        url: format!("https://api.example.org/?key={secret}"),
        headers: vec![
            ("Authorization".to_owned(), "Basic YTpi".to_owned()),
            ("X-Api-Key".to_owned(), "never declared".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
            ("x-who".to_owned(), format!("me/{secret}")),
        ],
        body: Bytes::from(json!({ "token": secret, "n": 1 }).to_string()),
        allowed: vec!["api.example.org".to_owned()],
        timeout: Duration::from_secs(1),
        max_bytes: 1 << 20,
    }
}

#[tokio::test]
async fn a_server_answers_again_and_no_secret_is_kept() {
    let recording = tape(empty(), Mode::Record, SECRET);
    let real = ScriptedWeb::new(|request| {
        let body = json!({ "echo": String::from_utf8_lossy(&request.body), "hex": hex::encode(SECRET) });
        let mut response = ScriptedWeb::answer(201, &body.to_string());
        response.headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("set-cookie".to_owned(), "s=1".to_owned()),
        ];
        Ok(response)
    });
    TapedWeb::new(Arc::clone(&recording), Arc::new(real)).send(request(SECRET)).await.unwrap();
    let cassette = written(&recording);
    insta::assert_snapshot!(format!("{cassette:#}"));

    let replay = tape(cassette, Mode::Replay, "made-up-token");
    let silent = || Arc::new(ScriptedWeb::new(|request| panic!("{request:?} was sent")));
    let web = TapedWeb::new(Arc::clone(&replay), silent());
    let answer = web.send(request("made-up-token")).await.unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!(serde_json::from_slice::<Json>(&answer.body).unwrap()["hex"], "${secrets.TOKEN}");
    let error =
        web.send(WebRequest { method: "PUT".to_owned(), ..request("made-up-token") }).await.unwrap_err();
    assert_eq!(error.code, "not_recorded");
    assert!(
        replay.misses()[0].message.starts_with("PUT https://api.example.org/?key=${secrets.TOKEN} is asked"),
        "{:?}",
        replay.misses()
    );
}

/// The server is spoken to in the session that it began; the tape knows a number.
#[tokio::test]
async fn a_session_has_a_number_on_the_tape() {
    let in_session = |session: &str| WebRequest {
        headers: vec![("Mcp-Session-Id".to_owned(), session.to_owned())],
        ..request(SECRET)
    };
    let recording = tape(empty(), Mode::Record, SECRET);
    let real = Arc::new(ScriptedWeb::new(|_| {
        let headers = vec![("mcp-session-id".to_owned(), "9f1c-of-the-server".to_owned())];
        Ok(WebResponse { headers, ..ScriptedWeb::answer(200, "hello") })
    }));
    let web = TapedWeb::new(Arc::clone(&recording), real.clone());
    let session =
        |response: WebResponse| response.headers.into_iter().find(|(name, _)| name == "mcp-session-id");
    let numbered = Some(("mcp-session-id".to_owned(), "session-1".to_owned()));
    assert_eq!(session(web.send(request(SECRET)).await.unwrap()), numbered);
    web.send(in_session("session-1")).await.unwrap();
    web.send(in_session("session-2")).await.unwrap();
    let said: Vec<String> = real.requests()[1..].iter().map(|request| request.headers[0].1.clone()).collect();
    assert_eq!(said, ["9f1c-of-the-server", "session-2"]);
    let cassette = written(&recording);
    assert!(!cassette.to_string().contains("9f1c"), "{cassette:#}");

    let silent = Arc::new(ScriptedWeb::new(|request| panic!("{request:?} was sent")));
    let web = TapedWeb::new(tape(cassette, Mode::Replay, SECRET), silent);
    assert_eq!(session(web.send(request(SECRET)).await.unwrap()), numbered);
    assert_eq!(web.send(in_session("session-1")).await.unwrap().status, 200);
}

fn guest(name: &str) -> Guest {
    Guest {
        name: name.to_owned(),
        choice: ports::models::Choice::default(),
        till: Arc::new(Purse::new(None, NanoUsd::ZERO)),
        most_calls: None,
        provider_tools: Vec::new(),
        allowed: Vec::new(),
    }
}

fn worked() -> Json {
    json!({ "version": 1, "agents": [{
        "job": { "agent": "codex", "model": "gpt-5", "prompt": "Mend it" },
        "done": { "version": "1.2", "said": "Mended", "changed": "diff --git a/x b/x\n", "usage": [
            { "requested": "gpt-5", "served": "openai/gpt-5", "provider": "openai", "input": 9, "output": 1, "cost": "$0.01" },
        ] },
    }] })
}

#[tokio::test]
async fn a_coding_agent_is_its_change_and_its_words() {
    let tape = tape(worked(), Mode::Replay, SECRET);
    let proxy = TapedProxy::new(
        Arc::clone(&tape),
        Arc::new(ScriptedProxy::silent()),
        tokio::runtime::Handle::current(),
    );
    let agents = TapedAgents::new(Arc::clone(&tape), Arc::new(ScriptedAgents::named(&["codex"])));
    let work = async |prompt: &str, exit: i32, stderr: &str| {
        let program = agents.prepare("codex").await.unwrap();
        let visit = proxy.admit(guest("run Fix"));
        let token = visit.token();
        let job = Job {
            prompt,
            model: program.model(),
            proxy: "http://127.0.0.1:8080",
            token: token.expose_secret(),
            home: "/home/agent",
            turns: 3,
        };
        let invocation = program.invoke(&job);
        (invocation, program.listen().end(exit, stderr), visit.end())
    };
    let (invocation, heard, report) = work("Mend it", 0, "").await;
    assert_eq!(invocation.command[..3], ["git", "-C", "/work"]);
    assert_eq!(invocation.stdin, "diff --git a/x b/x\n");
    assert_eq!((heard.message.as_deref(), heard.failure), (Some("Mended"), None));
    assert_eq!(report.calls[0].cost, "$0.01".parse().unwrap());
    assert_eq!(tape.misses(), Vec::new());
    let (invocation, heard, _) = work("Mend it well", 0, "").await;
    assert_eq!(
        (invocation.command, heard.failure.unwrap().code.as_str()),
        (vec!["true".to_owned()], "not_recorded")
    );
    let miss = tape.misses().remove(0);
    assert!(miss.difference.unwrap().contains("-Mend it\n+Mend it well\n"));
}

#[tokio::test]
async fn a_change_that_does_not_fit_any_more_is_told() {
    let tape = tape(worked(), Mode::Replay, SECRET);
    let agents = TapedAgents::new(Arc::clone(&tape), Arc::new(ScriptedAgents::named(&["codex"])));
    let program = agents.prepare("codex").await.unwrap();
    let job = Job { prompt: "Mend it", model: "gpt-5", proxy: "", token: "", home: "", turns: 1 };
    program.invoke(&job);
    let heard = program.listen().end(1, "error: patch failed: x:1\n");
    assert_eq!(heard.failure.unwrap().code, "not_recorded");
    assert_eq!(
        tape.misses()[0].message,
        "codex: what it changed when it was recorded does not fit the files any more: patch failed: x:1"
    );
}

#[tokio::test]
async fn nothing_is_behind_the_door_of_a_replay() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let tape = tape(empty(), Mode::Replay, SECRET);
    let proxy = TapedProxy::new(
        Arc::clone(&tape),
        Arc::new(ScriptedProxy::silent()),
        tokio::runtime::Handle::current(),
    );
    assert!(proxy.variables(&["defaults".to_owned()]).await.is_empty());
    let visit = proxy.admit(guest("run Build"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let open = visit.open(listener).unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"CONNECT registry.example.org:443 HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("has no network.\n"), "{answer}");
    assert_eq!(tape.knocks(), ["CONNECT registry.example.org:443"]);
    drop(open);
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the door is shut");
}

//! Runs: started once, shown without secrets, followed live.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, header};
use domain::access::Role;
use domain::effect::{EffectKind, EffectStatus};
use domain::id::{RunId, WorkerId};
use domain::repository::BranchRole;
use domain::run::{EffectMode, Run, RunOutcome};
use domain::stage::{StageOutput, StagePath};
use domain::value::Value;
use futures::StreamExt;
use ports::clock::Clock;
use ports::store::logs::{LineSource, NewLine};
use ports::store::repositories::Repositories;
use ports::store::runs::{Finish, LeaseOutcome};
use ports::store::{Fenced, LeaseProof, Logs, Runs};
use serde_json::{Value as Json, json};
use testkit::build;

use super::house::{Answer, House, Move, request};

const MANIFEST: &str = r#"
daemon:
  name: Review
  inputs:
    - { name: depth, type: integer, default: 1 }
    - { name: key, type: secret, required: false }
  stages:
    - { name: Say, type: script, script: echo hi, output: said }
"#;

/// A server with one daemon, and the token of a runner.
async fn house() -> (House, String) {
    let house = House::new();
    house.repository("ada/book", &[("daemons/review/daemon.yaml", MANIFEST)]).await;
    let runner = house.token("rune", Role::Runner).await;
    (house, runner)
}

async fn start(house: &House, token: &str, key: Option<&str>, body: &Json) -> Answer {
    let mut request =
        request(Method::POST, "/api/v1/runs", token).header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    house.send(request.body(Body::from(body.to_string())).unwrap()).await
}

fn id(answer: &Answer) -> RunId {
    answer.json()["id"].as_str().unwrap().parse().unwrap()
}

/// The next run, as its worker holds it.
async fn lease(house: &House) -> (Run, LeaseProof) {
    let worker = WorkerId::new(house.clock.unique());
    match house.store.run_lease(worker, house.clock.now(), Duration::from_secs(60)).await.unwrap() {
        LeaseOutcome::Leased(run, proof) => (*run, proof),
        LeaseOutcome::Empty { .. } => panic!("there is no run to lease"),
    }
}

async fn say(house: &House, proof: &LeaseProof, text: &str) {
    let line = NewLine {
        stage: StagePath::root("Say"),
        source: LineSource::Stdout,
        text: text.to_owned(),
        at: house.clock.now(),
    };
    assert_eq!(house.store.log_append(proof, &[line]).await.unwrap(), Fenced::Written);
}

async fn finish(house: &House, proof: &LeaseProof, effects: Vec<domain::effect::Effect>) {
    let finish =
        Finish { outcome: RunOutcome::Succeeded, effects, record: None, event: None, at: house.clock.now() };
    assert_eq!(house.store.run_finish(proof, &finish).await.unwrap(), Fenced::Written);
}

#[tokio::test]
async fn a_run_is_started_listed_and_cancelled() {
    let (house, runner) = house().await;
    let started =
        start(&house, &runner, None, &json!({ "daemon": "ada/book/review", "inputs": { "depth": "3" } }))
            .await;
    assert_eq!(started.verdict(), "201");
    let run = id(&started);
    assert_eq!(started.header("location"), format!("/api/v1/runs/{run}"));
    assert_eq!(started.json()["cause"]["actor"], "rune");
    let shown = house.get(&format!("/api/v1/runs/{run}"), &runner).await.json();
    assert_eq!((&shown["inputs"]["depth"], &shown["run"]["status"]), (&json!(3), &json!("queued")));
    for (filter, count) in [
        ("", 1),
        ("?status=queued", 1),
        ("?status=failed", 0),
        ("?daemon=review", 1),
        ("?repository=ada/book", 1),
        ("?branch=dev", 0),
    ] {
        let list = house.get(&format!("/api/v1/runs{filter}"), &runner).await.json();
        assert_eq!(list["items"].as_array().map(Vec::len), Some(count), "{filter}");
    }
    for (body, expect) in [
        (json!({ "daemon": "ada/book/none" }), "404 daemon_not_found"),
        (json!({ "daemon": "ada/none/review" }), "404 repository_not_found"),
        (json!({ "daemon": "ada/book/review@nowhere" }), "404 ref_not_found"),
        (json!({ "daemon": "ada/book/review", "inputs": { "depth": "deep", "x": 1 } }), "422 inputs_invalid"),
    ] {
        assert_eq!(start(&house, &runner, None, &body).await.verdict(), expect, "{body}");
    }
    let path = format!("/api/v1/runs/{run}/cancel");
    let cancelled = house.post(&path, &runner, &json!({})).await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.json()["status"]), (200, &json!("cancelled")));
    assert_eq!(house.post(&path, &runner, &json!({})).await.verdict(), "409 run_ended");
    let replayed = house.post(&format!("/api/v1/runs/{run}/replays"), &runner, &json!({})).await;
    assert_eq!(
        (replayed.verdict().as_str(), &replayed.json()["cause"]["replay_of"]),
        ("201", &json!(run.to_string()))
    );
    let nowhere = json!({ "from_stage": "None" });
    let answer = house.post(&format!("/api/v1/runs/{run}/replays"), &runner, &nowhere).await;
    assert_eq!(answer.verdict(), "404 stage_not_found");
}

#[tokio::test]
async fn the_same_key_starts_one_run() {
    let (house, runner) = house().await;
    let body = json!({ "daemon": "ada/book/review", "inputs": { "depth": 2 } });
    let answers = futures::future::join_all((0..20).map(|_| start(&house, &runner, Some("k1"), &body))).await;
    let first = id(&answers[0]);
    assert!(answers.iter().all(|answer| id(answer) == first));
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);

    let other = json!({ "daemon": "ada/book/review", "inputs": { "depth": 3 } });
    assert_eq!(start(&house, &runner, Some("k1"), &other).await.verdict(), "422 idempotency_key_reused");
    // The key of another caller is another key.
    let admin = house.token("root", Role::Admin).await;
    let theirs = start(&house, &admin, Some("k1"), &body).await;
    assert_eq!(theirs.verdict(), "201");
    assert_ne!(id(&theirs), first);
    for key in ["", " ", "a b", "ü", &"k".repeat(201)] {
        assert_eq!(
            start(&house, &runner, Some(key), &body).await.verdict(),
            "400 invalid_idempotency_key",
            "{key:?}"
        );
    }
}

#[tokio::test]
async fn a_secret_input_is_never_shown() {
    let (house, runner) = house().await;
    let body = json!({ "daemon": "ada/book/review", "inputs": { "key": "hunter2" } });
    let started = start(&house, &runner, None, &body).await;
    let run = id(&started);
    assert!(!started.text().contains("hunter2"));
    let (leased, proof) = lease(&house).await;
    assert_eq!(leased.inputs["key"], "hunter2", "the run itself has it");
    finish(&house, &proof, Vec::new()).await;
    for path in ["", "/journal", "/execution", "/effects", "/logs"] {
        let answer = house.get(&format!("/api/v1/runs/{run}{path}"), &runner).await;
        assert_eq!(answer.verdict(), "200", "{path}");
        assert!(!answer.text().contains("hunter2"), "{path}");
    }
    let list = house.get("/api/v1/runs", &runner).await;
    assert!(!list.text().contains("hunter2"));
}

#[tokio::test]
async fn the_journal_tells_what_stages_made() {
    let (house, runner) = house().await;
    let run = id(&start(&house, &runner, None, &json!({ "daemon": "ada/book/review" })).await);
    let (_, proof) = lease(&house).await;
    let mut record = build::stage(&*house.clock, "Say");
    record.output = Some(StageOutput { name: Some("said".to_owned()), value: Value::external("<b>hi</b>") });
    assert_eq!(house.store.stage_record(&proof, &record, &[]).await.unwrap(), Fenced::Written);
    let journal = house.get(&format!("/api/v1/runs/{run}/journal"), &runner).await.json();
    assert_eq!(
        (&journal["items"][0]["output"], &journal["items"][0]["taint"]),
        (&json!("<b>hi</b>"), &json!("external"))
    );
    let brief = house.get(&format!("/api/v1/runs/{run}"), &runner).await.json();
    assert_eq!((&brief["stages"][0]["path"], &brief["stages"][0]["output"]), (&json!("Say"), &Json::Null));
    let execution = house.get(&format!("/api/v1/runs/{run}/execution"), &runner).await.json();
    assert_eq!(execution["execution_id"], run.to_string());
    let path = format!("/api/v1/runs/{run}/stages/Each%5B0%5D%2FSay/diff");
    assert_eq!(house.get(&path, &runner).await.verdict(), "404 stage_not_found");
}

#[tokio::test]
async fn what_a_fork_wants_is_promoted_once() {
    let (house, runner) = house().await;
    let maintainer = house.token("mia", Role::Maintainer).await;
    let run = id(&start(&house, &runner, None, &json!({ "daemon": "ada/book/review" })).await);
    let (leased, proof) = lease(&house).await;
    assert_eq!(leased.effects, EffectMode::Perform);
    let mut effect =
        build::effect(&*house.clock, &leased, "k", EffectKind::Noop { reason: "nothing".to_owned() });
    effect.status = EffectStatus::Staged;
    finish(&house, &proof, vec![effect.clone()]).await;
    let path = format!("/api/v1/runs/{run}/effects/{}/promote", effect.id);
    assert_eq!(house.post(&path, &runner, &json!({})).await.verdict(), "403 role_missing");
    let promoted = house.post(&path, &maintainer, &json!({})).await;
    assert_eq!((promoted.status.as_u16(), &promoted.json()["status"]), (202, &json!("pending")));
    assert_eq!(house.post(&path, &maintainer, &json!({})).await.verdict(), "409 effect_not_staged");
    // An effect is found under its own run only.
    let other = id(&start(&house, &runner, None, &json!({ "daemon": "ada/book/review" })).await);
    let path = format!("/api/v1/runs/{other}/effects/{}/promote", effect.id);
    assert_eq!(house.post(&path, &maintainer, &json!({})).await.verdict(), "404 not_found");
}

#[tokio::test]
async fn logs_are_read_in_parts() {
    let (house, runner) = house().await;
    let run = id(&start(&house, &runner, None, &json!({ "daemon": "ada/book/review" })).await);
    let (_, proof) = lease(&house).await;
    for text in ["one", "two", "three"] {
        say(&house, &proof, text).await;
    }
    let part =
        async |query: &str| house.get(&format!("/api/v1/runs/{run}/logs{query}"), &runner).await.json();
    let texts = |part: &Json| -> Vec<String> {
        part["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|line| line["text"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = part("?limit=2").await;
    assert_eq!((texts(&first), &first["next"]), (vec!["one".to_owned(), "two".to_owned()], &json!("2")));
    let last = part("?limit=2&after=2").await;
    assert_eq!((texts(&last), &last["next"]), (vec!["three".to_owned()], &Json::Null));
    assert_eq!(texts(&part("?after=18446744073709551615").await), Vec::<String>::new());
    assert_eq!(
        house.get(&format!("/api/v1/runs/{run}/logs?after=-1"), &runner).await.verdict(),
        "400 invalid_cursor"
    );
}

/// A stream of events, read event by event.
struct Stream {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Stream {
    async fn open(house: &House, path: &str, token: &str, headers: &[(&str, &str)]) -> Self {
        let mut request =
            request(Method::GET, path, token).header(header::ACCEPT, "text/event-stream, */*;q=0.1");
        for (name, value) in headers.iter().chain(&[("accept-encoding", "gzip")]) {
            request = request.header(*name, *value);
        }
        let response = house.open(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(!response.headers().contains_key("content-encoding"));
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event as `name id data`; nothing at the end.
    async fn next(&mut self) -> Option<(String, String, Json)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = event.lines().filter_map(|line| line.strip_prefix(name));
                    lines.next().unwrap_or_default().trim().to_owned()
                };
                let (name, id, data) = (field("event:"), field("id:"), field("data:"));
                self.text = rest.to_owned();
                if !data.is_empty() {
                    return Some((name, id, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let piece = tokio::time::timeout(Duration::from_secs(20), self.body.next())
                .await
                .expect("an event in time")?;
            self.text += std::str::from_utf8(&piece.unwrap()).unwrap();
        }
    }

    async fn line(&mut self) -> (String, String) {
        let (name, id, data) = self.next().await.unwrap();
        assert_eq!(name, "line");
        (id, data["text"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn a_log_is_followed_live_and_taken_up_again() {
    let (house, runner) = house().await;
    let run = id(&start(&house, &runner, None, &json!({ "daemon": "ada/book/review" })).await);
    let path = format!("/api/v1/runs/{run}/logs");
    let mut early = Stream::open(&house, &path, &runner, &[]).await;
    let (_, proof) = lease(&house).await;
    // A line of a log cannot end its event, nor begin another.
    for text in ["one", "two\r\ndata: forged\n\nevent: end", "three"] {
        say(&house, &proof, text).await;
    }
    assert_eq!(early.line().await, ("1".to_owned(), "one".to_owned()));
    assert_eq!(early.line().await.1, "two\r\ndata: forged\n\nevent: end");
    assert_eq!(early.line().await.0, "3");

    let mut again = Stream::open(&house, &path, &runner, &[("last-event-id", "2")]).await;
    assert_eq!(again.line().await, ("3".to_owned(), "three".to_owned()));
    say(&house, &proof, "four").await;
    finish(&house, &proof, Vec::new()).await;
    for stream in [&mut early, &mut again] {
        assert_eq!(stream.line().await.1, "four");
        assert_eq!(
            stream.next().await,
            Some(("end".to_owned(), String::new(), json!({ "status": "succeeded" })))
        );
        assert_eq!(stream.next().await, None);
    }
    let mut late = Stream::open(&house, &format!("{path}?after=3"), &runner, &[]).await;
    assert_eq!(late.line().await.1, "four");
    assert_eq!(late.next().await.unwrap().0, "end");

    let odd = request(Method::GET, &path, &runner)
        .header(header::ACCEPT, "text/event-stream")
        .header("last-event-id", "x");
    assert_eq!(house.send(odd.body(Body::empty()).unwrap()).await.verdict(), "400 invalid_cursor");
}

#[tokio::test]
async fn a_run_is_followed_until_everything_is_done() {
    let (house, runner) = house().await;
    let run = id(&start(&house, &runner, None, &json!({ "daemon": "ada/book/review" })).await);
    let mut stream = Stream::open(&house, &format!("/api/v1/runs/{run}/events"), &runner, &[]).await;
    let status =
        |event: Option<(String, String, Json)>| event.unwrap().2["status"].as_str().unwrap().to_owned();
    assert_eq!(status(stream.next().await), "queued");
    let (leased, proof) = lease(&house).await;
    assert_eq!(status(stream.next().await), "running");
    let effect =
        build::effect(&*house.clock, &leased, "k", EffectKind::Noop { reason: "nothing".to_owned() });
    finish(&house, &proof, vec![effect]).await;
    let (_, _, ended) = stream.next().await.unwrap();
    assert_eq!((&ended["status"], &ended["pending"]), (&json!("succeeded"), &json!(1)));
    use ports::store::Outbox;
    let performer = domain::id::WorkerId::new(house.clock.unique());
    let due = house.store.effect_next(performer, house.clock.now(), Duration::from_secs(60)).await;
    let due = due.unwrap().unwrap();
    let receipt = domain::effect::Receipt::new(None, "nothing to do");
    let settled =
        house.store.effect_settle(due.id, due.attempts, &EffectStatus::Done { receipt }).await.unwrap();
    assert_eq!(settled, Fenced::Written);
    assert_eq!(stream.next().await.unwrap().2["pending"], 0);
    assert_eq!(stream.next().await.unwrap().0, "end");
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_server() {
    let house = House::with(|settings| settings.streams = 1);
    house.repository("ada/book", &[("daemons/review/daemon.yaml", MANIFEST)]).await;
    let runner = house.token("rune", Role::Runner).await;
    let run = id(&start(&house, &runner, None, &json!({ "daemon": "ada/book/review" })).await);
    let path = format!("/api/v1/runs/{run}/events");
    let mut only = Stream::open(&house, &path, &runner, &[]).await;
    assert_eq!(house.get(&path, &runner).await.verdict(), "503 too_many_streams");
    assert!(only.next().await.is_some());
    house.closing.cancel();
    assert_eq!(only.next().await, None);
    drop(only);
}

#[tokio::test]
async fn files_that_are_kept_are_saved_and_not_shown() {
    use domain::effect::{ArtifactFile, Effect, Receipt};
    use ports::objects::Objects;
    let (house, runner) = house().await;
    let run = id(&start(&house, &runner, None, &json!({ "daemon": "ada/book/review" })).await);
    let (leased, proof) = lease(&house).await;
    let kind = EffectKind::UploadArtifact {
        name: "report".to_owned(),
        commit: build::commit(1),
        files: vec![ArtifactFile { path: "a/b c.html".to_owned(), bytes: 4 }],
        until: None,
    };
    let status = EffectStatus::Done { receipt: Receipt::new(None, "kept") };
    let effect = Effect { status, ..build::effect(&*house.clock, &leased, "k", kind) };
    finish(&house, &proof, vec![effect.clone()]).await;
    let key = format!("artifacts/{run}/{}/0", effect.id);
    house.objects.put(&key, bytes::Bytes::from_static(b"<p>!")).await.unwrap();
    let path = format!("/api/v1/runs/{run}/artifacts");
    let listed = house.get(&path, &runner).await.json();
    let expect = json!({ "id": effect.id.to_string(), "name": "report", "files": [{ "path": "a/b c.html", "bytes": 4 }], "until": null });
    assert_eq!(listed["items"], json!([expect]));
    let file = format!("{path}/{}?path=", effect.id);
    let answer = house.get(&format!("{file}a%2Fb%20c.html"), &runner).await;
    assert_eq!((answer.text(), answer.header("content-disposition")), ("<p>!", "attachment"));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(house.get(&format!("{file}none"), &runner).await.verdict(), "404 artifact_not_found");
    assert_eq!(house.get(&format!("{file}x"), "").await.verdict(), "401 token_missing");
}

/// A tool's call lasts as long as its run, however little patience there is with other requests.
#[tokio::test(start_paused = true)]
async fn a_call_of_a_tool_is_waited_for() {
    let house = House::with(|settings| settings.patience = Duration::from_millis(50));
    let repository = build::repository(&*house.clock, "ada/book");
    let _ = Repositories::repository_create(&*house.store, &repository).await.unwrap();
    let revisions = vec![build::revision(&*house.clock, &repository, "review", 1)];
    let files = [("daemons/review/daemon.yaml", MANIFEST)];
    let moved = Move { branch: "main", role: BranchRole::Deploy, at: 1, files: &files, revisions };
    house.advance(&repository, moved).await;
    let runner = house.token("rune", Role::Runner).await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": "ada__book__review", "arguments": {}, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let request = request(Method::POST, "/mcp", &runner)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "ada__book__review")
        .header(header::HOST, "localhost");
    let calling = house.send(request.body(Body::from(body.to_string())).unwrap());
    let answer = tokio::time::timeout(Duration::from_secs(3_600), calling).await;
    assert!(
        answer.is_err(),
        "it was answered before its run has ended: {:?}",
        answer.map(|answer| answer.text().to_owned())
    );
    let (run, _) = lease(&house).await;
    assert_eq!(run.daemon.as_str(), "review");
}

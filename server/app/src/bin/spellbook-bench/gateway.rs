//! The door of jails: what it adds to a call of a model, and how many calls a core carries, against
//! LiteLLM's proxy. A mock provider, the door and the peer are processes of their own.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use axum::routing::post;
use domain::money::NanoUsd;
use domain::purse::Purse;
use gateway::{AgentProxy, Egress, Gateway, KeySource, SchemaCheck, Surroundings};
use ports::models::Choice;
use ports::proxy::{Guest, Proxy};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use spellbook::clock::SystemClock;
use spellbook::tools;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figure::{Figure, Goal, quantile};
use crate::process::{Server, processor_time, say};
use crate::thousand;

/// Calls at once.
const CLIENTS: usize = 100;
/// Doors among which they are divided: a jail is let make sixteen calls at once.
const DOORS: usize = 10;
/// About how long the provider thinks, where latency is measured; the least of a real one.
const THINKS: u64 = 100;
/// How long each is measured, and how often in turn.
const SPAN: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
/// Calls at once where throughput is measured; more only wait for the peer.
const BUSY: usize = 32;

/// What the peer takes instead of a token; it refuses short ones.
const PEER_KEY: &str = "sk-0123456789abcdef0123456789abcdef0123456789abcdef";

const QUESTION: &str = r#"{"model":"gpt-5","max_completion_tokens":1000,"messages":[{"role":"system","content":"You are a careful reviewer. Answer in one short paragraph and name the file and line of each finding."},{"role":"user","content":"fn main() { let words: Vec<String> = std::env::args().skip(1).collect(); println!(\"{}\", words.join(\" \")); }"}],"tools":[{"type":"function","function":{"name":"read","description":"Reads a file","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}}]}"#;

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1795305600,"model":"gpt-5-2025-08-07","choices":[{"index":0,"message":{"role":"assistant","content":"src/main.rs, line 1: the program joins its arguments and prints them; nothing is read or written besides, and nothing can fail.","refusal":null,"annotations":[]},"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":34,"total_tokens":154,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":null}"#;

/// Where calls go: an address for each client in turn, with the key that it takes.
type Places = Vec<(String, String)>;

pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let mut upstream = Server::start(&["--provider"])?;
    let provider = upstream.line()?;
    let base = |thinks: u64| format!("{}/think/{thinks}/v1", provider["url"].as_str().unwrap_or_default());
    let thousand = thousand::measure(&base(thousand::THINKS))?;
    let (direct, door) = latency(&base(THINKS)).await?;
    let (ours, theirs) = throughput(&base(0)).await?;
    let added = |name, share, bound| Figure {
        name,
        value: (quantile(&door, share) - quantile(&direct, share)) * 1_000.0,
        unit: "ms",
        goal: Goal::AtMost(bound),
        against: "the same calls without the door, 100 at once",
    };
    Ok(vec![
        added("gateway.added_p50_ms", 0.50, 0.5),
        added("gateway.added_p99_ms", 0.99, 2.0),
        Figure {
            name: "gateway.vs_litellm",
            value: ours / theirs,
            unit: "ratio",
            goal: Goal::AtLeast(20.0),
            against: "LiteLLM's proxy, calls a second of processor time",
        },
        thousand,
    ])
}

/// How long calls take without and with the door.
async fn latency(base: &str) -> anyhow::Result<(Vec<Duration>, Vec<Duration>)> {
    let mut door = Server::start(&["--door", base])?;
    let doors = places(&door.line()?);
    let direct = vec![(base.to_owned(), "sk-bench".to_owned())];
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.append(&mut load(&direct, CLIENTS, SPAN).await?);
        with.append(&mut load(&doors, CLIENTS, SPAN).await?);
    }
    without.sort_unstable();
    with.sort_unstable();
    Ok((without, with))
}

/// Calls for each second of processor time, of the door and of the peer.
async fn throughput(base: &str) -> anyhow::Result<(f64, f64)> {
    let mut door = Server::start(&["--door", base])?;
    let doors = places(&door.line()?);
    let home = tempfile::tempdir()?;
    let peer = litellm(base, home.path()).await?;
    let own = vec![(peer.url.clone(), PEER_KEY.to_owned())];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(carried(&door.child, &doors).await?);
        theirs.push(carried(&peer.server.child, &own).await?);
    }
    ours.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    Ok((ours[ROUNDS / 2], theirs[ROUNDS / 2]))
}

async fn carried(process: &Child, to: &Places) -> anyhow::Result<f64> {
    let before = processor_time(process)?;
    let calls = load(to, BUSY, SPAN).await?.len();
    let spent = processor_time(process)? - before;
    Ok(calls as f64 / spent)
}

/// Calls again and again by so many clients at once; how long each call took. A call that fails is an
/// error: whoever refuses is quick.
async fn load(to: &Places, clients: usize, span: Duration) -> anyhow::Result<Vec<Duration>> {
    let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(clients).build()?;
    let until = Instant::now() + span;
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let ((url, key), http) = (to[client % to.len()].clone(), http.clone());
        tasks.spawn(async move {
            // Not all in step.
            tokio::time::sleep(Duration::from_millis(client as u64)).await;
            let mut took = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                let request = http.post(format!("{url}/chat/completions")).bearer_auth(&key);
                let answer = request.header(CONTENT_TYPE, "application/json").body(QUESTION).send().await?;
                let status = answer.status();
                let body = answer.bytes().await?;
                ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
                took.push(begun.elapsed());
            }
            Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(took) = tasks.join_next().await {
        all.append(&mut took??);
    }
    ensure!(!all.is_empty(), "no call was made");
    Ok(all)
}

struct Peer {
    server: Server,
    url: String,
}

/// LiteLLM's proxy with one worker, as its documentation has it for speed: no database, no logs.
#[expect(clippy::disallowed_methods, reason = "the peer is a program")]
async fn litellm(base: &str, home: &std::path::Path) -> anyhow::Result<Peer> {
    let program =
        tools::variable("SPELLBOOK_LITELLM").context("SPELLBOOK_LITELLM is not set; use ./x bench")?;
    let config = home.join("config.yaml");
    let text = format!(
        "model_list:\n  - model_name: gpt-5\n    litellm_params:\n      model: openai/gpt-5\n      api_base: {base}\n      api_key: sk-bench\nlitellm_settings:\n  set_verbose: false\n  telemetry: false\n"
    );
    std::fs::write(&config, text)?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let port_text = port.to_string();
    let mut server = Server::of(
        Command::new(program)
            .args(["--host", "127.0.0.1", "--port", &port_text, "--num_workers", "1", "--config"])
            .arg(&config)
            .env("LITELLM_MASTER_KEY", PEER_KEY)
            .env("LITELLM_LOG", "ERROR")
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            .env("HOME", home)
            .stderr(Stdio::null()),
    )?;
    let url = format!("http://127.0.0.1:{port}");
    let http = reqwest::Client::builder().no_proxy().build()?;
    let until = Instant::now() + Duration::from_secs(180);
    while http.get(format!("{url}/health/liveliness")).send().await.is_err() {
        let is_gone = server.child.try_wait()?.is_some();
        ensure!(!is_gone && Instant::now() < until, "LiteLLM did not start");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(Peer { server, url: format!("{url}/v1") })
}

fn places(line: &Value) -> Places {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let doors = line["doors"].as_array().cloned().unwrap_or_default();
    doors.iter().map(|door| (format!("http://{}/v1", text(&door["at"])), text(&door["token"]))).collect()
}

/// The process of the mock provider, until it is ended.
pub(crate) async fn provide() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    say(&json!({ "url": format!("http://{}", listener.local_addr()?) }))?;
    let turn = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let router =
        axum::Router::new().route("/think/{millis}/v1/chat/completions", post(think)).with_state(turn);
    axum::serve(listener, router).await?;
    Ok(())
}

/// Answers after about so long, a different time for each in turn, so that calls do not come in step.
async fn think(
    State(turn): State<Arc<std::sync::atomic::AtomicU64>>,
    axum::extract::Path(millis): axum::extract::Path<u64>,
    _question: axum::body::Bytes,
) -> Response {
    let turn = turn.fetch_add(7, std::sync::atomic::Ordering::Relaxed);
    if millis > 0 {
        tokio::time::sleep(Duration::from_millis(millis - millis / 5 + turn % (2 * millis / 5 + 1))).await;
    }
    let mut answer = Response::new(Body::from(ANSWER));
    answer.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    answer
}

/// The process of the door, until it is ended.
pub(crate) async fn stand(base: &str) -> anyhow::Result<()> {
    let gateway = Arc::new(gateway(base)?);
    let egress = Arc::new(Egress::build(&gateway::web::Config::default())?);
    let proxy = AgentProxy::new(gateway, egress, tokio::runtime::Handle::current());
    let mut kept = Vec::new();
    let mut doors = Vec::new();
    for number in 0..DOORS {
        let visit = proxy.admit(Guest {
            name: format!("bench-{number}"),
            choice: Choice::of("gpt-5"),
            till: Arc::new(Purse::new(Some(NanoUsd::USD.times(1_000_000)), NanoUsd::ZERO)),
            most_calls: None,
            provider_tools: Vec::new(),
            allowed: Vec::new(),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        doors.push(
            json!({ "at": listener.local_addr()?.to_string(), "token": visit.token().expose_secret() }),
        );
        kept.push((visit.open(listener)?, visit));
    }
    say(&json!({ "doors": doors }))?;
    std::future::pending().await
}

/// A gateway whose `openai` is the mock provider.
pub(crate) fn gateway(base: &str) -> anyhow::Result<Gateway> {
    let config = format!("[providers.openai]\nbase_url = \"{base}\"\nkey = {{ env = \"BENCH_KEY\" }}\n");
    let keys = |source: &KeySource| match source {
        KeySource::Env(name) if name == "BENCH_KEY" => Ok(Some("sk-bench".to_owned().into())),
        _ => Ok(None),
    };
    let around = Surroundings {
        clock: Arc::new(SystemClock),
        check: SchemaCheck::new(manifest::schema::validate),
        keys: &keys,
        tools: "/nowhere".into(),
        catalogue: None,
    };
    Ok(Gateway::build(toml::from_str(&config)?, around)?)
}

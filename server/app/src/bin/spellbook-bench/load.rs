//! Whoever sends webhooks: one that GitHub sent, each time with another comment in it and signed anew, over
//! connections that stay open, from a process of its own. It takes as little of the machine as it can: on one thread,
//! with signatures that were made before.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use domain::signature::Signature;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spellbook::tools::{self, Tools};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figure::quantile;
use crate::process::{Server, say};

/// What signs them.
pub(crate) const SECRET: &str = "bench-secret-of-webhooks";
/// The number of the repository that they are about.
pub(crate) const REPOSITORY: u64 = 186_853_002;
/// So many webhooks a second are signed beforehand; what is taken beyond that is signed when it is sent.
const MOST: u64 = 20_000;
/// Stands where the comment's number is to be.
const NUMBER: u64 = 7_777_777_777_777;

/// What is to be sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) url: String,
    /// Over so many connections.
    pub(crate) connections: usize,
    /// For so long.
    pub(crate) seconds: u64,
    /// So many a second; 0 is as many as are taken.
    pub(crate) rate: u32,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) per_second: f64,
    pub(crate) p99_ms: f64,
}

impl Load {
    /// Sends it from a process of its own.
    pub(crate) fn in_a_process(&self) -> anyhow::Result<Taken> {
        let line = Server::start(&["--load", &serde_json::to_string(self)?])?.line()?;
        serde_json::from_value(line).context("the webhooks were not taken")
    }
}

/// The process that sends.
pub(crate) async fn run(plan: &str) -> anyhow::Result<()> {
    let load: Load = serde_json::from_str(plan)?;
    let letter = Arc::new(Letter::read()?);
    let target: hyper::Uri = load.url.parse()?;
    let address: SocketAddr = target.authority().context("no address")?.as_str().parse()?;
    let mut senders = Vec::new();
    for number in 0..load.connections as u64 {
        let numbers = (number..).step_by(load.connections);
        let before = numbers.clone().take_while(|number| *number < load.seconds * MOST);
        let before: Vec<_> = before.map(|number| (number, letter.signature(number))).collect();
        let (later, signs) = (numbers.skip(before.len()), Arc::clone(&letter));
        let later = later.map(move |number| (number, signs.signature(number)));
        senders.push(Sender {
            path: target.path().to_owned(),
            host: address.to_string(),
            connection: connect(address, number).await?,
            signed: Box::new(before.into_iter().chain(later)),
            letter: Arc::clone(&letter),
        });
    }
    let begun = Instant::now() + Duration::from_millis(100);
    let until = begun + Duration::from_secs(load.seconds);
    let mut tasks = JoinSet::new();
    for (number, sender) in senders.into_iter().enumerate() {
        let every = (load.rate > 0).then(|| Duration::from_secs(1) * load.connections as u32 / load.rate);
        // Not all in step.
        let first = begun + every.unwrap_or_default() * number as u32 / load.connections as u32;
        tasks.spawn(send(sender, first, every, until));
    }
    let mut took = Vec::new();
    while let Some(sent) = tasks.join_next().await {
        took.append(&mut sent??);
    }
    let span = (Instant::now() - begun).as_secs_f64();
    took.sort_unstable();
    ensure!(!took.is_empty(), "nothing was sent");
    let taken = Taken { per_second: took.len() as f64 / span, p99_ms: quantile(&took, 0.99) * 1_000.0 };
    say(&serde_json::to_value(&taken)?)
}

/// Sends one after the other; how long each took from when it was to be sent, whoever was in its way.
async fn send(
    mut sender: Sender,
    first: Instant,
    every: Option<Duration>,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut due = first;
    while due < until {
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        sender.send().await?;
        let now = Instant::now();
        took.push(now - due);
        due = every.map_or(now, |every| due + every);
    }
    Ok(took)
}

/// One connection.
struct Sender {
    letter: Arc<Letter>,
    path: String,
    host: String,
    connection: SendRequest<Full<Bytes>>,
    /// The numbers of its webhooks, and their signatures.
    signed: Box<dyn Iterator<Item = (u64, String)> + Send>,
}

impl Sender {
    async fn send(&mut self) -> anyhow::Result<()> {
        let (number, signature) = self.signed.next().context("there are no more numbers")?;
        let body = self.letter.written(number);
        let request = Request::post(&self.path)
            .header(header::HOST, &self.host)
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-github-event", "issue_comment")
            .header("x-github-delivery", format!("00000000-0000-4000-8000-{number:012x}"))
            .header("x-hub-signature-256", signature)
            .body(Full::new(Bytes::from(body)))?;
        self.connection.ready().await?;
        let answer = self.connection.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        ensure!(!body.ends_with(b"true}"), "a webhook was taken for another");
        Ok(())
    }
}

/// Connects from an address of its own: the pace of webhooks is held for each address, and a forge has many.
async fn connect(to: SocketAddr, number: u64) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let socket = TcpSocket::new_v4()?;
    let from = Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(number % 200)?);
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    driver.detach_all();
    Ok(sender)
}

/// A webhook that GitHub sent about a comment, up to the comment's number and after it.
pub(crate) struct Letter {
    before: String,
    after: String,
}

impl Letter {
    fn read() -> anyhow::Result<Self> {
        Self::with(|_| ())
    }

    /// One in which somebody says this.
    pub(crate) fn saying(text: &str) -> anyhow::Result<Self> {
        Self::with(|letter| letter["comment"]["body"] = json!(text))
    }

    fn with(change: impl FnOnce(&mut Value)) -> anyhow::Result<Self> {
        let tools = Tools::from_environment(tools::variable);
        let path = "webhooks/node_modules/@octokit/webhooks-examples/api.github.com/index.json";
        let path = tools.directory.join(path);
        let text = std::fs::read(&path).with_context(|| format!("{}; use ./x bench", path.display()))?;
        let all: Vec<Value> = serde_json::from_slice(&text)?;
        let event = all.iter().find(|event| event["name"] == "issue_comment").context("no comments")?;
        let examples = event["examples"].as_array().context("no examples")?;
        let created = examples.iter().find(|example| example["action"] == "created");
        let mut letter = created.context("no new comment")?.clone();
        letter["comment"]["id"] = json!(NUMBER);
        letter["repository"]["id"] = json!(REPOSITORY);
        letter["repository"]["full_name"] = json!("bench/bench");
        change(&mut letter);
        let text = letter.to_string();
        let (before, after) = text.split_once(&NUMBER.to_string()).context("no number")?;
        Ok(Self { before: before.to_owned(), after: after.to_owned() })
    }

    fn signature(&self, number: u64) -> String {
        Signature::of(SECRET, &[&self.written(number)]).written()
    }

    pub(crate) fn written(&self, number: u64) -> Vec<u8> {
        format!("{}{}{}", self.before, 1_000_000 + number, self.after).into_bytes()
    }
}

//! The agent proxy from a jail's side, over real sockets, byte by byte: also what no HTTP library
//! would send.

mod bounds;
mod egress;
mod fallback;
mod faults;
mod money;
mod pass;
mod refused;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::money::NanoUsd;
use domain::purse::Purse;
use ports::models::Choice;
use ports::proxy::{Guest, Proxy, Visit};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::build;
use super::mock::Mock;
use crate::web::{Config, Egress};
use crate::{AgentProxy, Gateway};

/// A gateway whose providers are all this mock, with the time that each part of an answer has.
fn gateway(mock: &Mock, time: &str) -> Gateway {
    let at = format!("http://127.0.0.1:{}", mock.port);
    let timeouts = format!("timeouts = {{ first_byte = '{time}', stall = '{time}' }}");
    let toml = format!(
        r#"
        [providers.openai]
        base_url = "{at}/v1"
        key = {{ env = "TEST_KEY" }}
        also = {{ openai-responses = "{at}/v1", openai-images = "{at}/v1" }}
        headers = {{ x-team = "platform" }}
        {timeouts}
        [providers.anthropic]
        base_url = "{at}"
        key = {{ env = "TEST_KEY" }}
        {timeouts}
        [providers.google]
        base_url = "{at}/v1beta/openai"
        key = {{ env = "TEST_KEY" }}
        also = {{ gemini = "{at}/v1beta" }}
        {timeouts}
        [providers.other]
        dialect = "openai-chat"
        base_url = "{at}/v1"
        [names.strong]
        target = "gpt-5"
        [names.priced]
        target = "other/big"
        prices = {{ input = "1", output = "2" }}
        context = 1000000
        [names.painter]
        target = "openai/gpt-image-2"
        prices = {{ input = "5", output = "40", image = "0.01" }}
        [names.by-tokens]
        target = "openai/gpt-image-2"
        prices = {{ input = "5", output = "40" }}
        "#
    );
    build(&toml, PathBuf::from("/nowhere"))
}

/// A jail's side of a door.
struct Jail {
    visit: Arc<dyn Visit>,
    at: SocketAddr,
    _open: Box<dyn Send>,
    proxy: Arc<AgentProxy>,
}

fn several(names: &[&str]) -> Choice {
    Choice { targets: names.iter().map(|name| (*name).to_owned()).collect(), ..Choice::default() }
}

fn guest() -> Guest {
    // The first one, which a program would be told, is not asked here: its name stands for all.
    let models =
        ["nobody", "gpt-5", "strong", "claude-sonnet-4-6", "gemini-pro", "priced", "painter", "mistral"];
    Guest {
        name: "guest".to_owned(),
        choice: several(&models),
        till: Arc::new(Purse::new(None, NanoUsd::ZERO)),
        most_calls: None,
        provider_tools: Vec::new(),
        allowed: Vec::new(),
    }
}

fn jail(mock: &Mock, guest: Guest) -> Jail {
    jail_of(&proxy(gateway(mock, "30s"), Egress::build(&Config::default()).unwrap()), guest)
}

fn proxy(gateway: Gateway, egress: Egress) -> Arc<AgentProxy> {
    Arc::new(AgentProxy::new(Arc::new(gateway), Arc::new(egress), tokio::runtime::Handle::current()))
}

fn jail_of(proxy: &Arc<AgentProxy>, guest: Guest) -> Jail {
    let visit = proxy.admit(guest);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let open = visit.open(listener).unwrap();
    Jail { visit, at, _open: open, proxy: Arc::clone(proxy) }
}

/// An answer as it came.
#[derive(Debug)]
struct Reply {
    status: u16,
    /// In lower case.
    head: String,
    /// Without the form of its transfer.
    body: String,
    /// Whether it ended as its head says.
    is_whole: bool,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

impl Jail {
    fn token(&self) -> String {
        self.visit.token().expose_secret().to_owned()
    }

    /// A request with the token; `HEADERS` are further lines, each with its end.
    fn request(&self, line: &str, headers: &str, body: &str) -> String {
        let (token, at, length) = (self.token(), self.at, body.len());
        format!(
            "{line} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n{headers}\r\n{body}"
        )
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// Sends bytes as they are, and reads one answer.
    async fn send(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        answer(&mut stream).await
    }

    async fn post(&self, path: &str, body: &str) -> Reply {
        self.send(self.request(&format!("POST {path}"), "", body)).await
    }
}

/// Reads one answer, to the end that its head says.
async fn answer(stream: &mut TcpStream) -> Reply {
    let reading = async {
        let mut all = Vec::new();
        loop {
            if let Some(reply) = parse(&all, false) {
                return reply;
            }
            let mut buffer = vec![0; 64 << 10];
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => {
                    return parse(&all, true)
                        .unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&all)));
                }
                Ok(read) => all.extend_from_slice(&buffer[..read]),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(600), reading).await.unwrap()
}

fn parse(all: &[u8], ended: bool) -> Option<Reply> {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = &all[end + 4..];
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let (body, is_whole) = if let Some(length) = field("content-length: ") {
        let length: usize = length.parse().unwrap();
        (rest[..rest.len().min(length)].to_vec(), rest.len() >= length)
    } else if field("transfer-encoding: chunked").is_some() {
        chunks(rest)
    } else {
        (rest.to_vec(), ended)
    };
    (is_whole || ended).then(|| Reply {
        status,
        head,
        body: String::from_utf8_lossy(&body).into_owned(),
        is_whole,
    })
}

fn chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else { return (body, false) };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = &rest[line + 2..];
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(&rest[..rest.len().min(size)]);
        if rest.len() < size + 2 {
            return (body, false);
        }
        rest = &rest[size + 2..];
    }
}

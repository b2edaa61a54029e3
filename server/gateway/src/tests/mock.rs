//! A provider on a real socket that does what it is told, in order, also what no HTTP library would.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What the provider does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers in one piece.
    Reply { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// Streams pieces, each sent by itself, and ends so.
    Stream(Vec<Vec<u8>>, End),
    /// Resets the connection without a word.
    Reset,
    /// Takes the question and never answers.
    Silence,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// The connection closes without the last chunk.
    Cut,
    /// Nothing more comes, and the connection stays.
    Stall,
}

impl Act {
    pub(crate) fn stream(text: &str) -> Self {
        Self::Stream(vec![text.as_bytes().to_vec()], End::Whole)
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Reply {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string(),
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) struct Mock {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    asked: Arc<Notify>,
    _tasks: JoinSet<()>,
}

impl Mock {
    pub(crate) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, asked) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(Notify::new()));
        let mut tasks = JoinSet::new();
        let (seen, tell) = (Arc::clone(&requests), Arc::clone(&asked));
        tasks.spawn(async move {
            let mut acts = acts.into_iter();
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read(&mut stream).await else { continue };
                seen.lock().unwrap().push(request);
                tell.notify_one();
                let extra =
                    Act::Reply { status: 599, headers: Vec::new(), body: "asked too often".to_owned() };
                if let Some(kept) = perform(stream, acts.next().unwrap_or(extra)).await {
                    silent.push(kept);
                }
            }
        });
        Self { port, requests, asked, _tasks: tasks }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until it was asked.
    pub(crate) async fn asked(&self) {
        tokio::time::timeout(Duration::from_secs(20), self.asked.notified()).await.unwrap();
    }
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut all = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        all.extend_from_slice(&buffer[..read]);
        let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(all[..end].to_vec()).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |n| n.parse().unwrap());
        if all.len() >= end + 4 + length {
            return Some(Request { head, body: all[end + 4..].to_vec() });
        }
    }
}

/// Returns the connection when it is to stay open. A client that hangs up first is no error.
async fn perform(mut stream: TcpStream, act: Act) -> Option<TcpStream> {
    match act {
        Act::Reply { status, headers, body } => {
            let headers: String =
                headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            None
        }
        Act::Stream(pieces, end) => {
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            for piece in pieces {
                let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat();
                let _ = stream.write_all(&chunk).await;
                let _ = stream.flush().await;
            }
            match end {
                End::Whole => {
                    let _ = stream.write_all(b"0\r\n\r\n").await;
                    let _ = stream.shutdown().await;
                    None
                }
                End::Cut => {
                    let _ = stream.shutdown().await;
                    None
                }
                End::Stall => Some(stream),
            }
        }
        Act::Reset => {
            stream.set_zero_linger().unwrap();
            None
        }
        Act::Silence => Some(stream),
    }
}

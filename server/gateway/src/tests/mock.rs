//! A provider on a real socket that does what it is told, in order, also what no HTTP library would.

use std::collections::VecDeque;
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
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    acts: Mutex<VecDeque<Act>>,
    requests: Mutex<Vec<Request>>,
    asked: Notify,
    hung_up: Notify,
}

impl Mock {
    /// Does these, in the order in which requests have come.
    pub(crate) async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen { acts: Mutex::new(acts.into()), ..Seen::default() });
        let mut tasks = JoinSet::new();
        let to = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&to)));
            }
        });
        Self { port, seen, _tasks: tasks }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits until it was asked.
    pub(crate) async fn asked(&self) {
        tokio::time::timeout(Duration::from_secs(20), self.seen.asked.notified()).await.unwrap();
    }

    /// Waits until someone hung up who had been kept waiting.
    pub(crate) async fn hung_up(&self) {
        tokio::time::timeout(Duration::from_secs(20), self.seen.hung_up.notified()).await.unwrap();
    }
}

async fn serve(mut stream: TcpStream, seen: Arc<Seen>) {
    let Some(request) = read(&mut stream).await else { return };
    let act = {
        // One after another, so that acts and requests have the same order.
        let mut requests = seen.requests.lock().unwrap();
        requests.push(request);
        let extra = || Act::Reply { status: 599, headers: Vec::new(), body: "asked too often".to_owned() };
        seen.acts.lock().unwrap().pop_front().unwrap_or_else(extra)
    };
    seen.asked.notify_one();
    if let Some(mut kept) = perform(stream, act).await {
        // It ends when the client hangs up.
        while kept.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        seen.hung_up.notify_one();
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

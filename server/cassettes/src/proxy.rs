//! The doors of jails, for a tape. In a replay nothing is behind them: a program that knocks is told so.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use domain::stage::ModelUsage;
use ports::proxy::{Guest, Proxy, Visit, VisitReport};
use ports::sandbox::Door;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::tape::{Tape, Visited};

/// What whoever knocks is told.
const CLOSED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n\
                      A test of a daemon has no network.\n";
/// The longest line that is kept of what was asked, bytes.
const LONGEST: u64 = 200;

/// Doors whose passage is kept on a tape.
#[derive(Debug)]
pub struct TapedProxy {
    tape: Arc<Tape>,
    real: Arc<dyn Proxy>,
    runtime: Handle,
    count: AtomicU64,
}

impl TapedProxy {
    /// With this behind it, which a replay never uses, on the runtime that will serve doors.
    pub fn new(tape: Arc<Tape>, real: Arc<dyn Proxy>, runtime: Handle) -> Self {
        Self { tape, real, runtime, count: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Proxy for TapedProxy {
    async fn variables(&self, allowed: &[String]) -> BTreeMap<String, String> {
        if self.tape.is_replay() { BTreeMap::new() } else { self.real.variables(allowed).await }
    }

    fn admit(&self, guest: Guest) -> Arc<dyn Visit> {
        let name = guest.name.clone();
        let real = (!self.tape.is_replay()).then(|| self.real.admit(guest));
        let token = match &real {
            Some(visit) => visit.token(),
            None => format!("visit-{}", self.count.fetch_add(1, Ordering::Relaxed)).into(),
        };
        self.tape.state().visits.push(Visited {
            token: token.expose_secret().to_owned(),
            guest: name,
            report: VisitReport::default(),
        });
        Arc::new(TapedVisit { tape: Arc::clone(&self.tape), real, token, runtime: self.runtime.clone() })
    }
}

#[derive(Debug)]
struct TapedVisit {
    tape: Arc<Tape>,
    real: Option<Arc<dyn Visit>>,
    token: SecretString,
    runtime: Handle,
}

impl Visit for TapedVisit {
    fn token(&self) -> SecretString {
        self.token.clone()
    }

    fn end(&self) -> VisitReport {
        let report = self.real.as_ref().map(|visit| visit.end());
        let mut state = self.tape.state();
        let known = state.visits.iter_mut().find(|visit| visit.token == self.token.expose_secret());
        match (known, report) {
            (Some(known), Some(report)) => {
                known.report = report.clone();
                report
            }
            (Some(known), None) => known.report.clone(),
            (None, report) => report.unwrap_or_default(),
        }
    }
}

impl Door for TapedVisit {
    fn open(&self, listener: TcpListener) -> io::Result<Box<dyn Send>> {
        if let Some(real) = &self.real {
            return real.open(listener);
        }
        let _entered = self.runtime.enter();
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let tape = Arc::clone(&self.tape);
        let turning_away = async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One at a time is enough: nobody is let in.
                let _ = turn_away(stream, &tape).await;
            }
        };
        Ok(Box::new(AbortOnDropHandle::new(self.runtime.spawn(turning_away))))
    }
}

async fn turn_away(mut stream: TcpStream, tape: &Tape) -> io::Result<()> {
    let mut asked = Vec::new();
    let (reader, mut writer) = stream.split();
    let mut reader = reader.take(LONGEST);
    while !asked.contains(&b'\n') && reader.read_buf(&mut asked).await? > 0 {}
    let line = String::from_utf8_lossy(&asked);
    let words: Vec<&str> = line.split_whitespace().take(2).collect();
    tape.knock(tape.scrub.text(&words.join(" ")));
    writer.write_all(CLOSED.as_bytes()).await?;
    writer.shutdown().await
}

impl Tape {
    /// What a visit is said to have used when it ends.
    pub(crate) fn bill(&self, token: &str, calls: Vec<ModelUsage>) {
        if let Some(visit) = self.state().visits.iter_mut().find(|visit| visit.token == token) {
            visit.report.calls = calls;
        }
    }
}

//! Git over smart HTTP, for people's clones, fetches and pushes: `git http-backend` as a CGI program
//! (RFC 3875), one process a request, streamed both ways.
//!
//! Who may do what is decided before a request comes here. The files of a repository are not served
//! (the "dumb" protocol): only the three addresses of the smart one are.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::id::RepositoryId;
use futures::Stream;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;

use crate::source::{Git, Inner};
use crate::turns::Turn;

/// The longest head of an answer, bytes.
const LONGEST_HEAD: usize = 64 << 10;
/// How much of what git complains about is kept for the log, bytes.
const LONGEST_COMPLAINT: usize = 8 << 10;

/// Serves repositories. A handle: cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Backend {
    inner: Arc<Inner>,
}

/// One request, already authorised.
pub struct CgiRequest {
    /// Which repository.
    pub repository: RepositoryId,
    /// What comes after the repository in the address: `info/refs`, `git-upload-pack`, `git-receive-pack`.
    pub service: String,
    /// What comes after `?`, as it came.
    pub query: String,
    /// `GET` or `POST`.
    pub method: String,
    /// The header of that name.
    pub content_type: Option<String>,
    /// The header of that name; git compresses larger requests.
    pub content_encoding: Option<String>,
    /// The header `Git-Protocol`.
    pub git_protocol: Option<String>,
    /// Who signed in, for git's own records.
    pub remote_user: Option<String>,
    /// What this person may do.
    pub access: Access,
    /// What the hooks are given besides git's own variables; see [`crate::HOOK_PROGRAM`] and [`crate::HOOK_SOCKET`].
    pub hook_environment: Vec<(String, String)>,
    /// The body.
    pub body: Pin<Box<dyn AsyncRead + Send>>,
}

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Clone and fetch.
    Read,
    /// Push as well.
    Write,
}

/// An answer whose body is still on its way.
#[derive(Debug)]
pub struct CgiResponse {
    /// The HTTP status.
    pub status: u16,
    /// Names and values, as git wrote them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: CgiBody,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// There is no such repository or service.
    #[error("there is nothing at this address")]
    NotFound,
    /// The service takes the other method.
    #[error("this address takes another method")]
    Method,
    /// A push by someone who may only read.
    #[error("pushing to this repository is not allowed")]
    Forbidden,
    /// Too many requests are being served, or the time was over before this one began.
    #[error("too many requests at once; try again")]
    Busy,
    /// Git failed; for the operator.
    #[error("git http-backend: {0}")]
    Broken(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Advertise,
    Receive,
    Upload,
}

impl Git {
    /// The smart HTTP backend over the same repositories.
    pub fn http(&self) -> Backend {
        Backend { inner: Arc::clone(&self.inner) }
    }
}

impl Backend {
    /// Serves one request: gives the head of the answer as soon as it is there. Dropping the future
    /// or the body ends git with everything that it started; so does the end of its time
    /// (`Bounds::request_time`). Pushes to one repository take turns.
    ///
    /// # Errors
    /// When there is no answer to give, or none in time.
    pub async fn serve(&self, request: CgiRequest) -> Result<CgiResponse, BackendError> {
        let service = service(&request)?;
        if !self.inner.mirrors.path(request.repository).is_dir() {
            return Err(BackendError::NotFound);
        }
        let time = self.inner.config.bounds.request_time;
        let begin = async {
            let permit =
                Arc::clone(&self.inner.requests).acquire_owned().await.map_err(|_| BackendError::Busy)?;
            let turn = match service {
                Service::Receive => Some(self.begin_push(request.repository).await?),
                Service::Advertise | Service::Upload => None,
            };
            Ok::<_, BackendError>(Held { _permit: permit, _turn: turn })
        };
        let held = tokio::time::timeout(time, begin).await.map_err(|_| BackendError::Busy)??;
        let mut exchange = self.start(request, service, held, time)?;
        let (status, headers) = std::future::poll_fn(|context| exchange.poll_head(context)).await?;
        Ok(CgiResponse { status, headers, body: CgiBody { exchange: Some(exchange) } })
    }

    /// Takes the turn, and removes locks that would fail the push for no fault of its own.
    async fn begin_push(&self, repository: RepositoryId) -> Result<Turn, BackendError> {
        let turn = self.inner.turns.take(repository).await;
        let path = self.inner.mirrors.path(repository);
        let swept = tokio::task::spawn_blocking(move || crate::maintain::sweep(&path)).await;
        match swept {
            Ok(Ok(())) => Ok(turn),
            Ok(Err(error)) => Err(BackendError::Broken(error.to_string())),
            Err(error) => Err(BackendError::Broken(error.to_string())),
        }
    }

    fn start(
        &self,
        request: CgiRequest,
        service: Service,
        held: Held,
        time: Duration,
    ) -> Result<Exchange, BackendError> {
        let writes: &[(&'static str, &str)] = match request.access {
            Access::Write => &[("http.receivepack", "true")],
            Access::Read => &[("http.receivepack", "false")],
        };
        let mut command = self.inner.program.http_backend(writes);
        command
            .envs(request.hook_environment)
            .env("GIT_PROJECT_ROOT", &self.inner.config.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("SERVER_PROTOCOL", "HTTP/1.1")
            .env("REQUEST_METHOD", &request.method)
            .env("PATH_INFO", format!("/{}.git/{}", request.repository, request.service))
            .env("QUERY_STRING", &request.query);
        let optional = [
            ("CONTENT_TYPE", request.content_type),
            ("HTTP_CONTENT_ENCODING", request.content_encoding),
            ("GIT_PROTOCOL", request.git_protocol),
            ("REMOTE_USER", request.remote_user),
        ];
        for (name, value) in optional {
            if let Some(value) = value.filter(|value| !value.contains('\0')) {
                command.env(name, value);
            }
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| BackendError::Broken(error.to_string()))?;
        let (Some(input), Some(output), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(BackendError::Broken("it has no streams".into()));
        };
        let body = if service == Service::Advertise { Box::pin(tokio::io::empty()) } else { request.body };
        Ok(Exchange {
            feeding: Some(Box::pin(feed(body, input))),
            output: Some(output),
            errors: Some(errors),
            complaint: Vec::new(),
            pending: VecDeque::new(),
            head: BytesMut::new(),
            deadline: Box::pin(tokio::time::sleep(time)),
            group: Group { child, inner: Arc::clone(&self.inner), is_over: false },
            _held: held,
        })
    }
}

fn service(request: &CgiRequest) -> Result<Service, BackendError> {
    let (service, method) = match request.service.as_str() {
        "info/refs" => (Service::Advertise, "GET"),
        "git-upload-pack" => (Service::Upload, "POST"),
        "git-receive-pack" => (Service::Receive, "POST"),
        _ => return Err(BackendError::NotFound),
    };
    if request.method != method {
        return Err(BackendError::Method);
    }
    let pushes = match (service, request.query.as_str()) {
        (Service::Advertise, "service=git-upload-pack") | (Service::Upload, _) => false,
        (Service::Advertise, "service=git-receive-pack") | (Service::Receive, _) => true,
        // Without a service it would be the dumb protocol.
        (Service::Advertise, _) => return Err(BackendError::NotFound),
    };
    if pushes && request.access == Access::Read {
        return Err(BackendError::Forbidden);
    }
    Ok(service)
}

/// Hands the body over; git may stop listening before its end, and says why in its answer.
async fn feed(mut body: Pin<Box<dyn AsyncRead + Send>>, mut input: ChildStdin) -> io::Result<()> {
    match tokio::io::copy(&mut body, &mut input).await {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map(drop),
    }
}

/// What a request holds while it is served.
#[derive(Debug)]
struct Held {
    _permit: OwnedSemaphorePermit,
    _turn: Option<Turn>,
}

type Feeding = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// A request being served: all of its streams, moved forward whenever any of them is looked at.
struct Exchange {
    feeding: Option<Feeding>,
    output: Option<ChildStdout>,
    errors: Option<ChildStderr>,
    complaint: Vec<u8>,
    pending: VecDeque<Bytes>,
    head: BytesMut,
    deadline: Pin<Box<Sleep>>,
    group: Group,
    _held: Held,
}

type Head = (u16, Vec<(String, String)>);

impl Exchange {
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, BackendError>> {
        loop {
            match std::task::ready!(self.poll_chunk(context)) {
                None => {
                    let words = crate::program::complaint(&self.complaint);
                    return Poll::Ready(Err(BackendError::Broken(words)));
                }
                Some(Err(error)) => return Poll::Ready(Err(BackendError::Broken(error.to_string()))),
                Some(Ok(chunk)) => self.head.extend_from_slice(&chunk),
            }
            if let Some((length, skip)) = end_of_head(&self.head) {
                let head = self.head.split_to(length);
                let mut rest = std::mem::take(&mut self.head).freeze();
                let rest = rest.split_off(skip);
                if !rest.is_empty() {
                    self.pending.push_back(rest);
                }
                return Poll::Ready(parse_head(&head));
            }
            if self.head.len() > LONGEST_HEAD {
                return Poll::Ready(Err(BackendError::Broken("its answer has no end of a head".into())));
            }
        }
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            self.group.kill();
            return Poll::Ready(Some(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the request took too long",
            ))));
        }
        if let Some(chunk) = self.pending.pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        if let Some(feeding) = &mut self.feeding
            && let Poll::Ready(fed) = feeding.as_mut().poll(context)
        {
            self.feeding = None;
            if let Err(error) = fed {
                self.group.kill();
                return Poll::Ready(Some(Err(error)));
            }
        }
        self.poll_errors(context);
        let mut chunk = BytesMut::zeroed(32 << 10);
        let Some(output) = &mut self.output else { return self.poll_end(context) };
        let mut buffer = ReadBuf::new(&mut chunk);
        match std::task::ready!(Pin::new(output).poll_read(context, &mut buffer)) {
            Err(error) => Poll::Ready(Some(Err(error))),
            Ok(()) if buffer.filled().is_empty() => {
                self.output = None;
                self.poll_end(context)
            }
            Ok(()) => {
                let length = buffer.filled().len();
                chunk.truncate(length);
                Poll::Ready(Some(Ok(chunk.freeze())))
            }
        }
    }

    /// Waits for the program: hooks that run after the answer still belong to the request.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let waited = {
            let wait = self.group.child.wait();
            tokio::pin!(wait);
            std::task::ready!(wait.poll(context))
        };
        self.group.is_over = true;
        if !waited.is_ok_and(|status| status.success()) {
            let words = crate::program::complaint(&self.complaint);
            tracing::debug!("git http-backend failed: {words}");
        }
        Poll::Ready(None)
    }

    fn poll_errors(&mut self, context: &mut Context<'_>) {
        let mut space = [0; 1024];
        while let Some(errors) = &mut self.errors {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(errors).poll_read(context, &mut buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let room = LONGEST_COMPLAINT.saturating_sub(self.complaint.len());
                    let length = buffer.filled().len().min(room);
                    self.complaint.extend_from_slice(&buffer.filled()[..length]);
                }
                Poll::Ready(_) => self.errors = None,
            }
        }
    }
}

/// The program and all that it started: receive-pack, index-pack, hooks.
struct Group {
    child: Child,
    inner: Arc<Inner>,
    is_over: bool,
}

impl Group {
    fn kill(&mut self) {
        let Some(leader) = self.child.id().filter(|_| !self.is_over) else { return };
        self.is_over = true;
        // The shell, as the standard library kills no groups. The leader is not waited for yet, so
        // its number is still its own.
        let status =
            self.inner.program.other("/bin/sh").args(["-c", "kill -9 \"-$0\"", &leader.to_string()]).status();
        if let Err(error) = status {
            tracing::warn!("could not end the processes of git {leader}: {error}");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The body of an answer. Dropping it ends the request.
pub struct CgiBody {
    exchange: Option<Exchange>,
}

impl std::fmt::Debug for CgiBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CgiBody")
    }
}

impl std::fmt::Debug for CgiRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CgiRequest({} {} {})", self.method, self.repository, self.service)
    }
}

impl Stream for CgiBody {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(exchange) = &mut self.exchange else { return Poll::Ready(None) };
        let chunk = std::task::ready!(exchange.poll_chunk(context));
        if !matches!(chunk, Some(Ok(_))) {
            self.exchange = None;
        }
        Poll::Ready(chunk)
    }
}

/// Where the head ends, and how long the empty line after it is.
fn end_of_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let crlf = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| (at, 4));
    let lf = bytes.windows(2).position(|window| window == b"\n\n").map(|at| (at, 2));
    crlf.into_iter().chain(lf).min()
}

fn parse_head(head: &[u8]) -> Result<Head, BackendError> {
    let text = String::from_utf8_lossy(head);
    let mut status = 200;
    let mut headers = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else {
            return Err(BackendError::Broken("its answer has a broken head".into()));
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            status = value.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(500);
        } else {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok((status, headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_with_either_line_end() {
        for text in
            ["Status: 404 Not Found\r\nExpires: x\r\n\r\nrest", "Status: 404 Not Found\nExpires: x\n\nrest"]
        {
            let (length, skip) = end_of_head(text.as_bytes()).unwrap();
            let (status, headers) = parse_head(&text.as_bytes()[..length]).unwrap();
            assert_eq!((status, headers), (404, vec![("Expires".to_owned(), "x".to_owned())]));
            assert_eq!(&text[length + skip..], "rest");
        }
        assert!(end_of_head(b"Status: 200 OK\r\n").is_none());
        assert!(parse_head(b"nonsense").is_err());
    }
}

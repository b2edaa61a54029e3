//! The other side of a push, over https by our own client, or a program's standard streams.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gix::protocol::transport::Service;
use ports::source::SourceError;
use reqwest::blocking::{Body, Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};

use crate::error::{Doing, refused};
use crate::https;
use crate::meter::{self, Meter, Metered};
use crate::packet::{self, Packet};
use crate::push::Receiver;

const SERVICE: Service = Service::ReceivePack;

/// A remote that is asked by HTTP (gitprotocol-http(5)).
pub(crate) struct OverHttp {
    pub(crate) client: Client,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) timeout: Duration,
    pub(crate) meter: Arc<Meter>,
    /// Where the repository is, without `/` at its end.
    pub(crate) base: String,
}

impl OverHttp {
    fn exchange(&self, request: RequestBuilder, answer: &str) -> Result<Response, SourceError> {
        let request = match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        };
        let response = request.timeout(self.timeout).send().map_err(https::failure)?;
        https::judge(&response)?;
        let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if kind != Some(format!("application/x-{}-{answer}", SERVICE.as_str()).as_bytes()) {
            return refused("that address is not one of a git repository");
        }
        Ok(response)
    }
}

impl Receiver for OverHttp {
    fn ask(&mut self) -> Result<Box<dyn Read + '_>, SourceError> {
        let question = format!("/info/refs?service={}", SERVICE.as_str());
        let response = self.exchange(self.client.get(format!("{}{question}", self.base)), "advertisement")?;
        // A repository that has another name now; the client left the host for no redirect.
        match response.url().as_str().strip_suffix(&question) {
            Some(base) => self.base = base.to_owned(),
            None => return refused("the remote redirects to something else"),
        }
        let mut reader = BufReader::new(Metered { inner: response, meter: &self.meter });
        // `# service=git-receive-pack`, and a flush.
        for _ in 0..2 {
            match packet::read(&mut reader) {
                Ok(Some(Packet::Data(line))) if line.starts_with(b"# service=") => {}
                Ok(Some(Packet::Flush)) => {}
                Ok(_) => return refused("that address is not one of a git repository"),
                Err(error) => return Err(SourceError::Unreachable(format!("the remote broke off: {error}"))),
            }
        }
        Ok(Box::new(reader))
    }

    fn send(&mut self, command: Vec<u8>, pack: File) -> Result<Box<dyn Read + '_>, SourceError> {
        let size = pack.metadata().doing("reading what is pushed")?.len() + command.len() as u64;
        let body = Stoppable { inner: Cursor::new(command).chain(pack), meter: Arc::clone(&self.meter) };
        let request = self
            .client
            .post(format!("{}/{}", self.base, SERVICE.as_str()))
            .header(CONTENT_TYPE, format!("application/x-{}-request", SERVICE.as_str()))
            .header(ACCEPT, format!("application/x-{}-result", SERVICE.as_str()))
            .body(Body::sized(body, size));
        let response = self.exchange(request, "result")?;
        Ok(Box::new(BufReader::new(Metered { inner: response, meter: &self.meter })))
    }
}

/// A reader that fails as soon as nobody waits any more.
struct Stoppable<R> {
    inner: R,
    meter: Arc<Meter>,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.meter.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        self.inner.read(buffer)
    }
}

/// A remote that a program speaks with, or is.
pub(crate) struct OverProgram<'m> {
    command: Command,
    meter: &'m Meter,
    running: Option<Running>,
}

struct Running {
    child: u32,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl<'m> OverProgram<'m> {
    pub(crate) fn new(mut command: Command, meter: &'m Meter) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, meter, running: None }
    }

    /// Ends the program and gives what it complained about.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let Some(running) = self.running.take() else { return Vec::new() };
        let Some(mut child) = self.meter.release(running.child) else { return Vec::new() };
        // It has nothing more to do for us, whether it knows that or not.
        drop(running);
        meter::kill(&mut child);
        child.wait_with_output().map(|output| output.stderr).unwrap_or_default()
    }
}

impl Receiver for OverProgram<'_> {
    fn ask(&mut self) -> Result<Box<dyn Read + '_>, SourceError> {
        self.end();
        let mut child = self.command.spawn().doing("starting the program that reaches the remote")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(SourceError::Broken("the program that reaches the remote has no streams".into()));
        };
        let child = self.meter.adopt(child);
        let running = Running { child, input: Some(input), output: BufReader::new(output) };
        let running = self.running.insert(running);
        Ok(Box::new(Metered { inner: &mut running.output, meter: self.meter }))
    }

    fn send(&mut self, command: Vec<u8>, mut pack: File) -> Result<Box<dyn Read + '_>, SourceError> {
        let Some(running) = &mut self.running else {
            return Err(SourceError::Broken("the remote was not asked first".into()));
        };
        if let Some(mut input) = running.input.take() {
            // When it does not take all, its report says why.
            let _ = input.write_all(&command).and_then(|()| io::copy(&mut pack, &mut input));
        }
        Ok(Box::new(Metered { inner: &mut running.output, meter: self.meter }))
    }
}

//! How a remote is reached: https by our own client, ssh by the `ssh` program, a directory of this
//! machine by the `git` program.

use std::io::BufReader;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;

use gix::bstr::BString;
use gix::protocol::transport::client::blocking_io::http::Transport as HttpTransport;
use gix::protocol::transport::client::git::{ConnectMode, blocking_io::Connection as Piped};
use gix::protocol::transport::{Protocol, Service};
use ports::source::{Fetched, Moved, Remote, RemotePolicy, SourceError};
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;

use crate::config::Ssh;
use crate::error::{Doing, refused};
use crate::fetch::Fetch;
use crate::https::Connection;
use crate::meter::{self, Metered};
use crate::program::{Program, complaint};
use crate::push::Push;
use crate::receiver::{OverHttp, OverProgram};
use crate::remote::{Address, allow};

/// What connections are made with.
pub(crate) struct Means<'a> {
    pub(crate) program: &'a Program,
    /// Made only when an address wants it: it costs a thread and the system's certificates.
    pub(crate) client: Option<reqwest::blocking::Client>,
    pub(crate) ssh: Option<&'a Ssh>,
}

/// Fetches from an address.
pub(crate) fn fetch(
    fetch: &Fetch<'_>,
    means: &Means<'_>,
    address: &Address,
    remote: &Remote,
) -> Result<Fetched, SourceError> {
    match address {
        Address::Http(url) => {
            let connection = Connection {
                client: means.client()?,
                authorization: remote.credential.as_ref().map(authorization).transpose()?,
                timeout: remote.timeout,
                meter: fetch.meter,
                moved_to: None,
            };
            let parsed = gix::url::parse(url.as_str()).doing("reading an address")?;
            fetch.run(HttpTransport::new_http(connection, parsed, Protocol::V2, false))
        }
        Address::Ssh { path, .. } => {
            piped(fetch, means.command(address, remote.policy, Service::UploadPack)?, path)
        }
        Address::File(path) => {
            let command = means.command(address, remote.policy, Service::UploadPack)?;
            piped(fetch, command, &path.display().to_string())
        }
    }
}

/// Pushes to an address.
pub(crate) fn push(
    push: &Push<'_>,
    means: &Means<'_>,
    address: &Address,
    remote: &Remote,
) -> Result<Moved, SourceError> {
    match address {
        Address::Http(url) => push.run(&mut OverHttp {
            client: means.client()?,
            authorization: remote.credential.as_ref().map(authorization).transpose()?,
            timeout: remote.timeout,
            meter: Arc::clone(push.meter),
            base: url.as_str().trim_end_matches('/').to_owned(),
        }),
        Address::Ssh { .. } | Address::File(_) => {
            let command = means.command(address, remote.policy, Service::ReceivePack)?;
            let mut receiver = OverProgram::new(command, push.meter);
            let pushed = push.run(&mut receiver);
            let complaint = receiver.end();
            pushed.map_err(|error| explain(error, &complaint))
        }
    }
}

impl Means<'_> {
    fn client(&self) -> Result<reqwest::blocking::Client, SourceError> {
        self.client.clone().ok_or_else(|| SourceError::Broken("there is no https client".into()))
    }

    /// The program whose standard streams lead to a service of the remote. It leads a group of its own.
    fn command(
        &self,
        address: &Address,
        policy: RemotePolicy,
        service: Service,
    ) -> Result<Command, SourceError> {
        let mut command = match address {
            Address::Http(_) => return refused("no program speaks https here"),
            Address::Ssh { user, host, port, path } => {
                let Some(ssh) = self.ssh else {
                    return refused("no ssh key is configured, so ssh addresses are not allowed");
                };
                let place = resolve(host, *port, policy)?;
                let mut command = self.program.other(&ssh.program);
                options(&mut command, ssh, host, place);
                // The other side is a shell; the path has no character that means anything to it.
                command.args(["--", &format!("{user}@{host}"), &format!("{} '{path}'", service.as_str())]);
                command
            }
            Address::File(path) => {
                let mut command = self.program.git();
                // Not our hooks, which are for what people push to us, and not those of the directory.
                command.args(["-c", "core.hooksPath=/dev/null"]);
                command.args([service.as_str().trim_start_matches("git-"), "--"]).arg(path);
                command
            }
        };
        command.process_group(0);
        Ok(command)
    }
}

/// What of a credential is never shown: itself, and as it is sent.
pub(crate) fn secrets(credential: &secrecy::SecretString) -> Vec<String> {
    let secret = credential.expose_secret();
    let password = secret.split_once(':').map_or(secret, |(_, password)| password);
    let sent = authorization(credential).ok();
    let sent = sent.and_then(|value| value.to_str().ok()?.strip_prefix("Basic ").map(str::to_owned));
    let all = [Some(secret.to_owned()), Some(password.to_owned()), sent];
    all.into_iter().flatten().filter(|secret| !secret.is_empty()).collect()
}

/// HTTP basic authentication with a token; forges take any name or this one (RFC 7617).
fn authorization(credential: &secrecy::SecretString) -> Result<HeaderValue, SourceError> {
    use base64::Engine as _;
    let pair = match credential.expose_secret() {
        pair if pair.contains(':') => pair.to_owned(),
        token => format!("x-access-token:{token}"),
    };
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).doing("writing a header")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Resolves a name once and judges what it gives.
fn resolve(host: &str, port: u16, policy: RemotePolicy) -> Result<SocketAddr, SourceError> {
    let found: Vec<SocketAddr> = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(|error| {
            SourceError::Unreachable(format!("the name of the remote does not resolve: {error}"))
        })?
        .collect();
    for address in &found {
        allow(address.ip(), policy)?;
    }
    found
        .first()
        .copied()
        .ok_or_else(|| SourceError::Unreachable("the name of the remote has no address".into()))
}

/// Nothing of the user's own configuration, no questions, no forwarding, and the very address that
/// was judged.
fn options(command: &mut Command, ssh: &Ssh, host: &str, place: SocketAddr) {
    command.args(["-F", "/dev/null", "-T", "-a", "-x", "-p", &place.port().to_string(), "-i"]).arg(&ssh.key);
    let known_hosts = format!("UserKnownHostsFile={}", ssh.known_hosts.display());
    let name = format!("HostName={}", place.ip());
    let alias = format!("HostKeyAlias={host}");
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "ProxyCommand=none",
        "PermitLocalCommand=no",
        "ClearAllForwardings=yes",
        "ConnectTimeout=10",
        "ServerAliveInterval=15",
        "SendEnv=GIT_PROTOCOL",
        &known_hosts,
        &name,
        &alias,
    ] {
        command.args(["-o", option]);
    }
}

/// Speaks with a program over its standard streams.
fn piped(fetch: &Fetch<'_>, mut command: Command, path: &str) -> Result<Fetched, SourceError> {
    let mut child = command
        .env("GIT_PROTOCOL", "version=2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing("starting the program that reaches the remote")?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(SourceError::Broken("the program that reaches the remote has no streams".into()));
    };
    let child = fetch.meter.adopt(child);
    let transport = Piped::new(
        BufReader::new(Metered { inner: output, meter: fetch.meter }),
        input,
        Protocol::V2,
        BString::from(path),
        None::<(String, Option<u16>)>,
        ConnectMode::Process,
        false,
    );
    let fetched = fetch.run(transport);
    let Some(mut child) = fetch.meter.release(child) else { return fetched };
    // It has nothing more to do for us, whether it knows that or not.
    meter::kill(&mut child);
    if fetched.is_err() {
        // What it complains about says more than a stream that ended.
        let output = child.wait_with_output().doing("waiting for the program that reaches the remote")?;
        return fetched.map_err(|error| explain(error, &output.stderr));
    }
    child.wait().doing("waiting for the program that reaches the remote")?;
    fetched
}

fn explain(error: SourceError, stderr: &[u8]) -> SourceError {
    if stderr.is_empty() {
        return error;
    }
    let words = complaint(stderr);
    match error {
        SourceError::Unreachable(_) if words.contains("Permission denied") => {
            SourceError::Unauthorized(format!("the remote refuses our key: {words}"))
        }
        SourceError::Unreachable(_) if words.contains("a git repository") => {
            SourceError::NotFound(format!("the remote has no such repository: {words}"))
        }
        SourceError::Unreachable(text) => SourceError::Unreachable(format!("{text}: {words}")),
        other => other,
    }
}

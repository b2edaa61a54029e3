//! Addresses of remotes, parsed before anything is started or connected to.

use std::net::IpAddr;
use std::path::PathBuf;

use ports::source::{RemotePolicy, SourceError};

use crate::address::is_public;
use crate::error::refused;

const LONGEST: usize = 2_000;

/// Where a remote is; every part of it is safe to hand to a program or a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `https://`, or `http://` where the operator allows it; without user, password, query, fragment.
    Http(reqwest::Url),
    /// `ssh://user@host:port/path` or `user@host:path`.
    Ssh {
        /// Who signs in; `git` when the address does not say.
        user: String,
        /// A name or an IP address.
        host: String,
        /// 22 unless said.
        port: u16,
        /// As the other side knows it; relative to the user's home when it has no `/` in front.
        path: String,
    },
    /// A directory on this machine, where the operator allows it.
    File(PathBuf),
}

impl Address {
    /// Parses an address and holds it against what is allowed.
    ///
    /// # Errors
    /// `Refused` with the rule that it breaks. Names are only resolved, and judged, when connecting.
    pub fn parse(url: &str, policy: RemotePolicy) -> Result<Self, SourceError> {
        if url.is_empty() || url.len() > LONGEST {
            return refused("an address has between 1 and 2,000 characters");
        }
        if url.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') || !url.is_ascii() {
            return refused(
                "an address has no spaces, control characters, backslashes or letters beyond ASCII",
            );
        }
        if url.starts_with('-') {
            return refused("an address does not begin with `-`");
        }
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None if url.starts_with('/') => ("file".to_owned(), url),
            None => return scp(url, policy),
        };
        match scheme.as_str() {
            "https" => http(url, policy),
            "http" if policy.plain_http => http(url, policy),
            "http" => {
                refused("addresses of remotes begin with https:// or ssh://; http:// is not allowed here")
            }
            "ssh" => ssh(rest, policy),
            "file" if policy.file => file(rest),
            "file" => refused("directories of this machine are not allowed as remotes here"),
            _ => refused("addresses of remotes begin with https:// or ssh://"),
        }
    }

    /// The address as it may be shown and logged; it never holds a credential.
    pub fn shown(&self) -> String {
        match self {
            Self::Http(url) => url.to_string(),
            Self::Ssh { user, host, port: 22, path } if !path.starts_with('/') => {
                format!("{user}@{host}:{path}")
            }
            Self::Ssh { user, host, port, path } => {
                let slash = if path.starts_with('/') { "" } else { "/" };
                let port = if *port == 22 { String::new() } else { format!(":{port}") };
                format!("ssh://{user}@{host}{port}{slash}{path}")
            }
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn http(url: &str, policy: RemotePolicy) -> Result<Address, SourceError> {
    // That parser overlooks too many slashes; a person who wrote them meant something else.
    if url.split_once("://").is_some_and(|(_, rest)| rest.starts_with('/')) {
        return refused("the address names no host");
    }
    let Ok(url) = reqwest::Url::parse(url) else { return refused("that is not an address") };
    if !url.username().is_empty() || url.password().is_some() {
        return refused("an address holds no name and no token; give the token by itself");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("an address of a repository has no `?` and no `#`");
    }
    // This parser has already turned 2130706433, 0x7f.1 and 0177.0.0.1 into what they mean.
    match url.host_str() {
        None | Some("") => refused("the address names no host"),
        Some(host) => {
            check_host(host.trim_matches(['[', ']']), policy)?;
            Ok(Address::Http(url))
        }
    }
}

fn ssh(rest: &str, policy: RemotePolicy) -> Result<Address, SourceError> {
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = split_user(authority)?;
    let (host, port) = match host.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':').or(Some(""))),
            None => return refused("the address has an open bracket"),
        },
        None => match host.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        },
    };
    let port = match port.map(str::parse::<u16>) {
        None => 22,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return refused("the address has a port that is none"),
    };
    build_ssh(user, host, port, path, policy)
}

/// `user@host:path`, as `scp` writes it.
fn scp(url: &str, policy: RemotePolicy) -> Result<Address, SourceError> {
    let Some((authority, path)) = url.split_once(':') else {
        return refused("addresses of remotes begin with https:// or ssh://");
    };
    if !authority.contains('@') || path.starts_with(':') {
        return refused("addresses of remotes begin with https:// or ssh://");
    }
    let (user, host) = split_user(authority)?;
    build_ssh(user, host, 22, path, policy)
}

fn split_user(authority: &str) -> Result<(&str, &str), SourceError> {
    match authority.split_once('@') {
        None => Ok(("git", authority)),
        Some((_, host)) if host.contains('@') => refused("the address has two `@`"),
        Some((user, _)) if user.contains(':') => refused("an ssh address holds no password"),
        Some((user, host)) => Ok((user, host)),
    }
}

fn build_ssh(
    user: &str,
    host: &str,
    port: u16,
    path: &str,
    policy: RemotePolicy,
) -> Result<Address, SourceError> {
    let is_user = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if user.is_empty() || user.starts_with('-') || !user.chars().all(is_user) {
        return refused(
            "the user of an ssh address has letters, digits, `_`, `.` and `-`, and does not begin with `-`",
        );
    }
    let is_path =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | '~' | '+' | '@' | '%');
    // `/~ada/book` is ada's own, as git has it.
    let path = if path.starts_with("/~") { &path[1..] } else { path };
    if path.len() < 2 || !path.chars().all(is_path) || path.trim_start_matches('/').starts_with('-') {
        return refused("the path of an ssh address has letters, digits and `_ . - / ~ + @ %`");
    }
    check_host(host, policy)?;
    Ok(Address::Ssh { user: user.to_owned(), host: host.to_ascii_lowercase(), port, path: path.to_owned() })
}

fn file(path: &str) -> Result<Address, SourceError> {
    let path = PathBuf::from(path);
    let plain = path
        .components()
        .all(|part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_)));
    if !path.is_absolute() || !plain {
        refused("a directory is named by its absolute path")
    } else {
        Ok(Address::File(path))
    }
}

fn check_host(host: &str, policy: RemotePolicy) -> Result<(), SourceError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return allow(address, policy);
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    if host.len() > 253 || !host.trim_end_matches('.').split('.').all(is_label) {
        return refused("the address has a host that is none");
    }
    Ok(())
}

/// Whether an address may be connected to.
pub(crate) fn allow(address: IpAddr, policy: RemotePolicy) -> Result<(), SourceError> {
    if policy.private_addresses || is_public(address) {
        return Ok(());
    }
    refused("the remote is on this machine or in a private network, which is not allowed here")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: RemotePolicy, accepted: &[(&str, &str)], rejected: &[&str]) {
        for (url, shown) in accepted {
            assert_eq!(Address::parse(url, policy).map(|address| address.shown()).unwrap(), *shown);
        }
        for url in rejected {
            let parsed = Address::parse(url, policy);
            assert!(matches!(parsed, Err(SourceError::Refused(_))), "{url:?} gave {parsed:?}");
        }
    }

    #[test]
    fn only_https_and_ssh_by_default() {
        check(
            RemotePolicy::default(),
            &[
                ("https://example.org/a/b.git", "https://example.org/a/b.git"),
                ("HTTPS://Example.org:8443/a/b", "https://example.org:8443/a/b"),
                ("https://1.1.1.1/a", "https://1.1.1.1/a"),
                ("ssh://git@example.org/a/b.git", "ssh://git@example.org/a/b.git"),
                ("ssh://example.org:2222/a/b.git", "ssh://git@example.org:2222/a/b.git"),
                ("git@example.org:a/b.git", "git@example.org:a/b.git"),
                ("ssh://git@example.org/~ada/b.git", "git@example.org:~ada/b.git"),
            ],
            &[
                "",
                "--upload-pack=touch X",
                "-utouch",
                "--output=F",
                "--exec=x",
                "ext::sh -c touch% X",
                "ext::sh",
                "fd::7",
                "file:///etc",
                "/etc",
                "./x",
                "git://example.org/a",
                "http://example.org/a",
                "ftp://example.org/a",
                "ssh://-oProxyCommand=touch/a",
                "ssh://git@-oProxyCommand=touch/a",
                "ssh://-oProxyCommand@example.org/a",
                "-oProxyCommand=x@example.org:a",
                "user@a@b:c",
                "ssh://user@a@b/c",
                "https://user@example.org/a",
                "https://user:token@example.org/a",
                "ssh://user:password@example.org/a",
                "https://example.org/a\nb",
                "https://example.org/a\rb",
                "https://example.org/a b",
                "https://example.org/a\0",
                "https://example.org/a?b",
                "https://example.org/a#b",
                "https:///a",
                "ssh://example.org",
                "ssh://example.org:0/a",
                "ssh://example.org:99999/a",
                "ssh://example.org/a;touch x",
                "ssh://example.org/$(touch x)",
                "ssh://example.org/'a'",
                "git@example.org:-oProxyCommand=x",
                "https://ex\u{430}mple.org/a",
            ],
        );
    }

    #[test]
    fn addresses_of_this_machine_are_seen_in_every_spelling() {
        check(
            RemotePolicy::default(),
            &[],
            &[
                "https://127.0.0.1/a",
                "https://[::1]/a",
                "https://[::ffff:169.254.169.254]/a",
                "https://2130706433/a",
                "https://0x7f000001/a",
                "https://0x7f.1/a",
                "https://0177.0.0.1/a",
                "https://127.1/a",
                "https://0/a",
                "https://169.254.169.254/latest/meta-data",
                "https://10.0.0.1/a",
                "ssh://git@127.0.0.1/a",
                "ssh://git@[::1]/a",
                "ssh://git@[::1]:22/a",
            ],
        );
    }

    #[test]
    fn the_operator_may_allow_more() {
        let policy = RemotePolicy { file: true, plain_http: true, private_addresses: true };
        check(
            policy,
            &[
                ("/srv/git/a.git", "/srv/git/a.git"),
                ("file:///srv/git/a.git", "/srv/git/a.git"),
                ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/a"),
            ],
            &[
                "file://host/a",
                "/srv/../etc",
                "file://",
                "git://127.0.0.1/a",
                "ext::sh",
                "http://u:p@127.0.0.1/a",
            ],
        );
    }
}

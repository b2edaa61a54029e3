//! Hosts, addresses and headers: what the server or a sandbox may talk to.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Check;
use crate::codes;
use crate::diagnostic::Problem;
use crate::expression::Template;
use crate::raw::scalar::Line;
use crate::read::{Place, Slot};
use crate::suggest::{did_you_mean, quoted};

/// The sets of hosts that have names, as in GitHub's agentic workflows.
pub const NETWORK_SETS: [&str; 14] = [
    "defaults",
    "containers",
    "dart",
    "dotnet",
    "github",
    "go",
    "haskell",
    "java",
    "linux-distros",
    "node",
    "php",
    "python",
    "ruby",
    "rust",
];

impl Check<'_> {
    /// Hosts and named sets of `permissions.network`.
    pub(super) fn hosts(&mut self, list: Option<&[Slot<Line>]>) -> Vec<String> {
        let mut hosts = Vec::new();
        for (Line(host), place) in list.unwrap_or_default().iter().filter_map(Slot::found) {
            if host.contains(['.', ':', '/', '*']) || host.eq_ignore_ascii_case("localhost") {
                if let Some(problem) = host_fault(host) {
                    self.reader.report(problem, place);
                }
            } else if !NETWORK_SETS.contains(&host.as_str()) {
                let message = format!("there is no set of hosts called {}", quoted(host));
                let problem = Problem::warning(&codes::UNKNOWN_NETWORK_SET, message);
                self.reader.report(problem.maybe_help(did_you_mean(host, NETWORK_SETS)), place);
            }
            hosts.push(host.to_lowercase());
        }
        hosts
    }

    /// The address of a call. What an expression puts into it is checked when the call is made.
    pub(super) fn url(&mut self, template: &Template, place: Place) {
        let fixed = template.source().split("${").next().unwrap_or_default();
        let whole = template.literal().is_some();
        if fixed.is_empty() && !whole {
            return;
        }
        let problem = match url_fault(fixed, whole) {
            None => return,
            Some(Fault::Wrong(message)) => {
                Problem::error(&codes::BAD_URL, message).expected("an https address")
            }
            Some(Fault::Closed(message)) => Problem::warning(&codes::BAD_URL, message)
                .help("the server refuses such calls unless its operator allows them"),
        };
        self.reader.report(problem, place);
    }

    /// The name of a header.
    pub(super) fn header(&mut self, name: &str, place: Place) {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let own = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];
        let message = if name.len() > 100 || !name.bytes().all(token) {
            format!("{} is not the name of a header", quoted(name))
        } else if own.contains(&name.to_ascii_lowercase().as_str()) {
            format!("the server sets {} itself", quoted(name))
        } else {
            return;
        };
        self.reader.report(Problem::error(&codes::BAD_HEADER, message), place);
    }
}

enum Fault {
    /// Never right.
    Wrong(&'static str),
    /// Only where the operator allows it.
    Closed(&'static str),
}

fn url_fault(fixed: &str, whole: bool) -> Option<Fault> {
    let Some((scheme, rest)) = fixed.split_once("://") else {
        let begun = !whole && ["https://", "http://"].iter().any(|scheme| scheme.starts_with(fixed));
        return (!begun).then_some(Fault::Wrong("this is not an address"));
    };
    if fixed.chars().any(|c| c.is_control() || c == ' ') {
        return Some(Fault::Wrong("the address has a space or a control character"));
    }
    let end = rest.find(['/', '?', '#', '\\']);
    let authority = &rest[..end.unwrap_or(rest.len())];
    if authority.contains('@') {
        return Some(Fault::Wrong("the address has a user name in it"));
    }
    match scheme {
        "https" => {}
        "http" => return Some(Fault::Closed("the address is not encrypted")),
        _ => return Some(Fault::Wrong("the address is of another kind")),
    }
    if end.is_none() && !whole {
        return None;
    }
    if authority.contains('*') {
        return Some(Fault::Wrong("the address has no host"));
    }
    match host_pattern(authority) {
        Err(_) => Some(Fault::Wrong("the address has no valid host")),
        Ok(Host::Near) => Some(Fault::Closed("the address is in a network of the server's own")),
        Ok(Host::Named) => None,
    }
}

/// What a pattern of hosts denotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    /// A name, like all the internet has.
    Named,
    /// This machine, the address of a machine, or a name without a dot: whether such may be reached, only
    /// the operator can say, and says it where the call is made.
    Near,
}

fn host_fault(host: &str) -> Option<Problem> {
    match host_pattern(host) {
        Ok(Host::Named) => None,
        Ok(Host::Near) => {
            let message = format!("{} may be closed to daemons", quoted(host));
            Some(Problem::warning(&codes::NEAR_HOST, message).help(
                "the server reaches private addresses and itself only where its operator's `allow_private` names host and port",
            ))
        }
        Err(reason) => {
            let problem = Problem::error(&codes::BAD_HOST, format!("{} {reason}", quoted(host)));
            let help = bare_host(host).map(|bare| format!("write `{bare}`"));
            Some(problem.maybe_help(help))
        }
    }
}

/// `host`, `*.host`, each with `:port`; for addresses the number or `[…]` in place of the host.
fn host_pattern(text: &str) -> Result<Host, &'static str> {
    if text.contains('/') {
        return Err("has more than a host in it");
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err("needs brackets around the address");
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err("has a port that is none");
    }
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return address.map(|_| Host::Near).ok_or("is not the address of a machine");
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return Ok(Host::Near);
    }
    let (name, starred) = host.strip_prefix("*.").map_or((host, false), |rest| (rest, true));
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label) || starred && !name.contains('.') {
        return Err("is not the name of a host");
    }
    // The last part of a name is never a number (WHATWG URL, "ends in a number").
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
        return Err("is the address of a machine, written in an unusual way");
    }
    let near = !name.contains('.') || last == "localhost";
    Ok(if near { Host::Near } else { Host::Named })
}

/// The host inside something that is too much.
fn bare_host(text: &str) -> Option<&str> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next()?;
    (host != text && host_pattern(host).is_ok()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names() {
        for host in ["api.snyk.io", "*.example.org", "example.org:8443", "a-b.c.de", "xn--bcher-kva.example"]
        {
            assert_eq!(host_pattern(host), Ok(Host::Named), "{host}");
        }
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "x.localhost",
            "127.0.0.1",
            "127.0.0.1:8080",
            "10.1.2.3",
            "8.8.8.8",
            "[::1]",
            "[fd00::1]:8443",
            "ollama:11434",
        ] {
            assert_eq!(host_pattern(host), Ok(Host::Near), "{host}");
        }
        for host in [
            "",
            "0x7f.1",
            "127.1",
            "2130706433",
            "1.2.3.0x4",
            "1.2.3.4.5",
            "::1",
            "fd00::1",
            "[::1",
            "[::1]x",
            "[127.0.0.1]",
            "[::1]:0",
            "*.127.0.0.1",
            "*.localhost",
            "a..b",
            "-a.b",
            "https://a.b",
            "a.b/c",
            "a.b:0",
            "a.b:99999",
            "a.b:",
            "*",
            "*.*.a.b",
            "ünïcode.example",
            "a_b.c",
            "user@a.b",
        ] {
            assert!(host_pattern(host).is_err(), "{host:?} was accepted");
        }
    }

    #[test]
    fn addresses_are_https_and_named() {
        let check = |text: &str| match url_fault(text, true) {
            None => "fine",
            Some(Fault::Wrong(_)) => "wrong",
            Some(Fault::Closed(_)) => "closed",
        };
        for (url, expect) in [
            ("https://api.snyk.io/test?x=1#y", "fine"),
            ("https://example.org:8443/", "fine"),
            ("http://example.org/", "closed"),
            ("https://127.0.0.1/", "closed"),
            ("https://2130706433/", "wrong"),
            ("https://[::1]/", "closed"),
            ("https://localhost:80/", "closed"),
            ("https://ollama:11434/", "closed"),
            ("https://127.1/", "wrong"),
            ("https://user:pass@example.org/", "wrong"),
            ("https://example.org@evil.org/", "wrong"),
            ("file:///etc/passwd", "wrong"),
            ("example.org", "wrong"),
            ("https://", "wrong"),
            ("https://a.b/c d", "wrong"),
        ] {
            assert_eq!(check(url), expect, "{url}");
        }
    }
}

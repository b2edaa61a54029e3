//! Hosts, addresses and headers: what the server or a sandbox may talk to.

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
            if host.contains(['.', ':', '/', '*']) || host == "localhost" {
                if let Err(reason) = host_pattern(host) {
                    let problem = Problem::error(&codes::BAD_HOST, format!("{} {reason}", quoted(host)));
                    let help = bare_host(host).map(|bare| format!("write `{bare}`"));
                    self.reader.report(problem.maybe_help(help), place);
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
            Some(Fault::Wrong(message)) => Problem::error(&codes::BAD_URL, message),
            Some(Fault::Closed(message)) => Problem::warning(&codes::BAD_URL, message)
                .help("the server refuses such calls unless its operator allows them"),
        };
        self.reader.report(problem.expected("an https address"), place);
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
    match host_pattern(authority) {
        _ if authority.contains('*') => Some(Fault::Wrong("the address has no host")),
        Err("is the address of a machine") => Some(Fault::Closed("the address is of a machine, not a name")),
        Err("is this machine") => Some(Fault::Closed("the address is of the server itself")),
        Err(_) => Some(Fault::Wrong("the address has no valid host")),
        Ok(()) => None,
    }
}

/// `host`, `*.host`, each with `:port`.
fn host_pattern(text: &str) -> Result<(), &'static str> {
    if text.contains("//") || text.contains('/') {
        return Err("has more than a host in it");
    }
    if text.starts_with('[') || text.matches(':').count() > 1 {
        return Err("is the address of a machine");
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    if port
        .is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err())
    {
        return Err("has a port that is none");
    }
    let host = host.strip_prefix("*.").unwrap_or(host);
    if host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost") {
        return Err("is this machine");
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label) || !host.contains('.') {
        return Err("is not the name of a host");
    }
    // The last part of a name is never a number (WHATWG URL, "ends in a number").
    let last = host.rsplit('.').next().unwrap_or_default();
    let number =
        last.bytes().all(|byte| byte.is_ascii_digit()) || last.to_ascii_lowercase().starts_with("0x");
    if number { Err("is the address of a machine") } else { Ok(()) }
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
            assert_eq!(host_pattern(host), Ok(()), "{host}");
        }
        for host in [
            "",
            "localhost",
            "x.localhost",
            "127.0.0.1",
            "0x7f.1",
            "1.2.3.0x4",
            "[::1]",
            "::1",
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

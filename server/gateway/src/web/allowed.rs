//! Which hosts a daemon's list names.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use reqwest::Url;

const DATA: &str = include_str!("../../data/network-sets.toml");

/// The named sets.
static SETS: LazyLock<BTreeMap<String, Vec<String>>> =
    LazyLock::new(|| toml::from_str(DATA).expect("because a test reads the same file"));

/// Whether the list names this host and port. An entry is a set, `host`, `*.host` or either with
/// `:port`; `*` stands for exactly one label, and without a port only the scheme's own is meant.
pub(super) fn allows(list: &[String], host: &str, port: u16, is_https: bool) -> bool {
    let usual = if is_https { 443 } else { 80 };
    let names = |entry: &String| names(entry, host, port, usual);
    list.iter().any(|entry| match SETS.get(entry) {
        Some(set) => set.iter().any(names),
        None => names(entry),
    })
}

fn names(entry: &str, host: &str, port: u16, usual: u16) -> bool {
    let (label, rest) = match entry.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, entry),
    };
    let Some((known, at)) = canonical(rest) else { return false };
    if at.unwrap_or(usual) != port {
        return false;
    }
    if !label {
        return known == host;
    }
    // `*.org` would be half the internet.
    known.contains('.')
        && host.split_once('.').is_some_and(|(first, parent)| !first.is_empty() && parent == known)
}

/// `host:port`, both said.
pub(super) fn host_and_port(entry: &str) -> Option<(String, u16)> {
    canonical(entry).and_then(|(host, port)| Some((host, port?)))
}

/// Host and port as a URL would have them: lower case, punycode, addresses in their plain form.
fn canonical(entry: &str) -> Option<(String, Option<u16>)> {
    if entry.is_empty()
        || entry.contains(['/', '\\', '@', '?', '#', '*', '%'])
        || entry.contains(char::is_whitespace)
    {
        return None;
    }
    let url = Url::parse(&format!("https://{entry}")).ok()?;
    let host = url.host_str()?.trim_end_matches('.').to_owned();
    let port = match entry.rsplit_once(':') {
        Some((_, digits)) if !digits.ends_with(']') => Some(digits.parse().ok()?),
        _ => None,
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entry: &str, host: &str, port: u16, expect: bool) {
        assert_eq!(allows(&[entry.to_owned()], host, port, true), expect, "{entry} {host}:{port}");
    }

    #[test]
    fn hosts_are_named_exactly() {
        check("api.example.com", "api.example.com", 443, true);
        check("API.Example.com.", "api.example.com", 443, true);
        check("bücher.example", "xn--bcher-kva.example", 443, true);
        check("api.example.com", "api.example.com", 8443, false);
        check("api.example.com:8443", "api.example.com", 8443, true);
        check("api.example.com:8443", "api.example.com", 443, false);
        check("api.example.com:443", "api.example.com", 443, true);
        check("example.com", "api.example.com", 443, false);
        check("example.com", "example.com.evil.net", 443, false);
        check("localhost", "localhost", 443, true);
        check("[::1]:8080", "[::1]", 8080, true);
        check("127.0.0.1:80", "127.0.0.1", 80, true);
    }

    #[test]
    fn a_star_is_one_label() {
        check("*.example.com", "api.example.com", 443, true);
        check("*.example.com", "example.com", 443, false);
        check("*.example.com", "a.b.example.com", 443, false);
        check("*.example.com", "evilexample.com", 443, false);
        check("*.example.com:8443", "api.example.com", 8443, true);
        check("*.com", "example.com", 443, false);
        check("*", "example.com", 443, false);
        check("*.*.com", "a.b.com", 443, false);
        check("api.*.com", "api.x.com", 443, false);
    }

    #[test]
    fn nonsense_names_nothing() {
        for entry in [
            "",
            " ",
            "https://example.com",
            "example.com/x",
            "u@example.com",
            "example.com:99999",
            "example.com:x",
            "exa mple.com",
        ] {
            check(entry, "example.com", 443, false);
        }
        assert!(!allows(&[], "example.com", 443, true));
    }

    #[test]
    fn a_set_names_its_hosts() {
        check("defaults", "json-schema.org", 443, true);
        check("github", "api.github.com", 443, true);
        check("github", "github.com", 22, false);
        check("no-such-set", "api.github.com", 443, false);
        for (set, hosts) in SETS.iter() {
            assert!(hosts.iter().all(|host| canonical(host.trim_start_matches("*.")).is_some()), "{set}");
        }
    }

    #[test]
    fn without_a_port_plain_http_has_its_own() {
        assert!(allows(&["example.com".to_owned()], "example.com", 80, false));
        assert!(!allows(&["example.com".to_owned()], "example.com", 443, false));
    }
}

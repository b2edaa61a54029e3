//! Which hosts a daemon's list names.

use std::collections::BTreeMap;

use reqwest::Url;

const DATA: &str = include_str!("../../data/network-sets.toml");

/// Sets of hosts by name.
pub(super) type Sets = BTreeMap<String, Vec<String>>;

/// The sets that ship with the program.
pub(super) fn shipped() -> Sets {
    toml::from_str(DATA).expect("because a test reads the same file")
}

/// Whether a list names a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does.
    Named,
    /// It does not; it names these sets, which nobody has said what they are.
    NotNamed { unknown: Vec<String> },
}

/// Whether the list names this host and port. An entry is a set, `host`, `*.host` or either with
/// `:port`; `*` stands for exactly one label, and without a port only the usual ones are meant.
pub(super) fn verdict(list: &[String], sets: &Sets, host: &str, port: u16, usual: &[u16]) -> Verdict {
    let names = |entry: &String| names(entry, host, port, usual);
    let is_named = list.iter().any(|entry| match sets.get(entry) {
        Some(set) => set.iter().any(names),
        None => names(entry),
    });
    if is_named {
        return Verdict::Named;
    }
    let is_unknown = |entry: &&String| !sets.contains_key(*entry) && is_set(entry);
    Verdict::NotNamed { unknown: list.iter().filter(is_unknown).cloned().collect() }
}

/// Whether an entry of a list is the name of a set, known or not.
pub(super) fn is_set(entry: &str) -> bool {
    !entry.contains(['.', ':', '/', '*']) && entry != "localhost"
}

/// Whether an entry of a set is `host`, `*.host` or either with `:port`.
pub(super) fn is_entry(entry: &str) -> bool {
    let (known, is_label) = entry.strip_prefix("*.").map_or((entry, false), |rest| (rest, true));
    canonical(known).is_some_and(|(host, _)| !is_label || host.contains('.'))
}

fn names(entry: &str, host: &str, port: u16, usual: &[u16]) -> bool {
    let (label, rest) = match entry.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, entry),
    };
    let Some((known, at)) = canonical(rest) else { return false };
    if !at.map_or_else(|| usual.contains(&port), |at| at == port) {
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

/// `host` or `host:port`, as a program writes it, in its plain form.
pub(crate) fn place(authority: &str, usual: Option<u16>) -> Option<(String, u16)> {
    canonical(authority).and_then(|(host, port)| Some((host, port.or(usual)?)))
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

    fn allows(list: &[&str], host: &str, port: u16, usual: &[u16]) -> bool {
        let list: Vec<String> = list.iter().map(|entry| (*entry).to_owned()).collect();
        verdict(&list, &shipped(), host, port, usual) == Verdict::Named
    }

    #[track_caller]
    fn check(entry: &str, host: &str, port: u16, expect: bool) {
        assert_eq!(allows(&[entry], host, port, &[443]), expect, "{entry} {host}:{port}");
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
        assert!(!allows(&[], "example.com", 443, &[443]));
    }

    #[test]
    fn a_set_names_its_hosts() {
        check("github", "api.github.com", 443, true);
        check("github", "github.com", 22, false);
        check("no-such-set", "api.github.com", 443, false);
        for (set, hosts) in shipped() {
            assert!(hosts.iter().all(|host| is_entry(host)), "{set}");
        }
        for wrong in ["https://x.org", "*.org", "x.org/", "", "*"] {
            assert!(!is_entry(wrong), "{wrong}");
        }
        let list = ["defaults", "node", "x.org", "localhost"].map(str::to_owned);
        let expect = Verdict::NotNamed { unknown: vec!["node".to_owned()] };
        assert_eq!(verdict(&list, &shipped(), "y.org", 443, &[443]), expect);
    }

    #[test]
    fn without_a_port_plain_http_has_its_own() {
        assert!(allows(&["example.com"], "example.com", 80, &[80]));
        assert!(!allows(&["example.com"], "example.com", 443, &[80]));
        assert!(allows(&["example.com"], "example.com", 80, &[443, 80]));
        assert!(!allows(&["example.com:443"], "example.com", 80, &[443, 80]));
    }
}

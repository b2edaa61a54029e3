//! Where a server is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

/// The address of a server: `http` or `https`, maybe with a path below which it answers, always the same
/// text for the same address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl(Url);

/// Text that is not the address of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a server: {rule}")]
pub(crate) struct ServerUrlError {
    text: String,
    rule: &'static str,
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, ServerUrlError> {
        let refused = |rule| ServerUrlError { text: text.chars().take(80).collect(), rule };
        let mut url =
            Url::parse(text).map_err(|_| refused("write it as https://host or http://host:port"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(refused("write it as https://host or http://host:port"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // The text is not repeated: it holds a password.
            let text = url.host_str().unwrap_or_default().to_owned();
            return Err(ServerUrlError {
                text,
                rule: "leave out user and password; `spellbook login` keeps a token",
            });
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("leave out what follows `?` or `#`"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

/// Without a slash at the end.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl ServerUrl {
    /// The address of something on the server. Each segment is percent-encoded by itself, so that none
    /// can become another path.
    pub(crate) fn at(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Whether others on the way could read what is sent.
    pub(crate) fn is_open(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let own = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        self.0.scheme() == "http" && !own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<&str>) {
        assert_eq!(text.parse::<ServerUrl>().ok().map(|url| url.to_string()).as_deref(), expect, "{text:?}");
    }

    #[test]
    fn one_address_has_one_text() {
        check("https://Spellbook.Example.COM/", Some("https://spellbook.example.com"));
        check("https://example.com:443", Some("https://example.com"));
        check("http://127.0.0.1:7717//", Some("http://127.0.0.1:7717"));
        check("https://example.com/tools/spellbook/", Some("https://example.com/tools/spellbook"));
        for text in [
            "",
            "example.com",
            "ftp://example.com",
            "file:///etc",
            "http://",
            "https://a:b@example.com",
            "https://example.com/?a",
            "https://example.com/#a",
        ] {
            check(text, None);
        }
        let refused = "https://ada:hunter2@example.com".parse::<ServerUrl>().unwrap_err().to_string();
        assert!(!refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn segments_stay_segments() {
        let server: ServerUrl = "https://example.com/sb".parse().unwrap();
        let url =
            server.at(&["api", "v1", "runs", "../../x?y#z", "stages", "Each[3]/Label"], &[("at", "a&b=c")]);
        assert_eq!(
            url.as_str(),
            "https://example.com/sb/api/v1/runs/..%2F..%2Fx%3Fy%23z/stages/Each[3]%2FLabel?at=a%26b%3Dc"
        );
    }

    #[test]
    fn only_plain_http_to_other_machines_is_open() {
        let open = |text: &str| text.parse::<ServerUrl>().unwrap().is_open();
        assert!(open("http://example.com") && open("http://10.0.0.1"));
        assert!(
            !open("https://example.com")
                && !open("http://localhost:1")
                && !open("http://127.0.0.1")
                && !open("http://[::1]:1")
        );
    }
}

//! The token that programs show instead of a key, wherever their client puts keys.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Headers in which clients put keys, besides `Authorization`.
const PLACES: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// Headers that never go on: credentials of any kind, whose account is charged, where it came from.
const OURS: [&str; 16] = [
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "cookie",
    "proxy-authorization",
    "x-goog-user-project",
    "openai-organization",
    "openai-project",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    // Some servers take another method from these than the one that was judged.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// Headers that belong to a connection or to the form of a body (RFC 9110, 7.6.1).
const OF_THE_CONNECTION: [&str; 12] = [
    "host",
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "accept-encoding",
    "http2-settings",
];

/// The parts of a query that go on. A key is in none of them.
const KEPT: [&str; 2] = ["alt", "beta"];

/// Whether the token is in any of the places; all of them are looked at, each in constant time.
pub(super) fn is_shown(token: &SecretString, headers: &HeaderMap, query: &Query) -> bool {
    let bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(rest.trim())
    });
    let plain =
        PLACES.iter().flat_map(|place| headers.get_all(*place)).filter_map(|value| value.to_str().ok());
    let shown = bearer.chain(plain).chain(query.keys.iter().map(String::as_str));
    let token = token.expose_secret().as_bytes();
    shown.fold(false, |found, text| found | bool::from(text.as_bytes().ct_eq(token)))
}

/// The headers that go on: all that are neither credentials nor of the connection.
pub(super) fn kept(headers: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(headers);
    let goes = |name: &HeaderName| {
        !OURS.contains(&name.as_str()) && !OF_THE_CONNECTION.contains(&name.as_str()) && !named.contains(name)
    };
    let pairs = headers.iter().filter(|(name, _)| goes(name));
    pairs.map(|(name, value)| (name.clone(), value.clone())).fold(
        HeaderMap::new(),
        |mut kept, (name, value)| {
            kept.append(name, value);
            kept
        },
    )
}

/// Headers that `Connection` says are its own.
pub(super) fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(hyper::header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// Whether a header is of the connection.
pub(super) fn is_of_the_connection(name: &HeaderName) -> bool {
    OF_THE_CONNECTION.contains(&name.as_str())
}

/// What a query says.
#[derive(Default)]
pub(super) struct Query {
    keys: Vec<String>,
    /// What goes on, written anew.
    pub(super) kept: Vec<(String, String)>,
}

impl Query {
    pub(super) fn of(query: Option<&str>) -> Self {
        let mut read = Self::default();
        let Some(Ok(url)) = query.map(|query| Url::parse(&format!("http://door/?{query}"))) else {
            return read;
        };
        for (name, value) in url.query_pairs() {
            if name == "key" {
                read.keys.push(value.into_owned());
            } else if KEPT.contains(&&*name) {
                read.kept.push((name.into_owned(), value.into_owned()));
            }
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], query: &str, expect: bool) {
        let pairs =
            headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = pairs.collect();
        let found = is_shown(&"t0ken".to_owned().into(), &headers, &Query::of(Some(query)));
        assert_eq!(found, expect, "{headers:?} ?{query}");
    }

    #[test]
    fn the_token_is_found_where_clients_put_keys() {
        for (name, value) in [
            ("authorization", "Bearer t0ken"),
            ("authorization", "bearer  t0ken"),
            ("x-api-key", "t0ken"),
            ("x-goog-api-key", "t0ken"),
            ("api-key", "t0ken"),
        ] {
            check(&[(name, value)], "", true);
        }
        check(&[], "alt=sse&key=t0ken", true);
        check(&[], "%6bey=t0%6ben", true);
        check(&[("x-api-key", "other"), ("authorization", "Bearer t0ken")], "", true);
        for (name, value) in [
            ("authorization", "t0ken"),
            ("authorization", "Basic t0ken"),
            ("authorization", "Bearer t0ken2"),
            ("authorization", "Bearer T0KEN"),
            ("x-api-key", ""),
            ("cookie", "key=t0ken"),
        ] {
            check(&[(name, value)], "", false);
        }
        check(&[], "", false);
        check(&[], "Key=t0ken", false);
    }

    #[test]
    fn credentials_do_not_go_on() {
        let query = Query::of(Some("key=a&access_token=b&alt=sse&beta=true&%61lt=x"));
        let names: Vec<&str> = query.kept.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["alt", "beta", "alt"]);
        let mut headers = HeaderMap::new();
        for name in OURS.iter().chain(&OF_THE_CONNECTION).chain(&["anthropic-beta", "x-own", "x-hop"]) {
            headers.insert(*name, "v".parse().unwrap());
        }
        headers.insert("connection", "close, X-Hop".parse().unwrap());
        let kept = kept(&headers);
        let mut names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["anthropic-beta", "x-own"]);
    }
}

use std::sync::atomic::{AtomicUsize, Ordering};

use std::net::IpAddr;

use super::*;
use crate::tests::mock::{Act, End, Mock};

fn request(url: &str, allowed: &[&str]) -> WebRequest {
    WebRequest {
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers: vec![("Authorization".to_owned(), "token s3cret".to_owned())],
        body: Bytes::from_static(b"{}"),
        allowed: allowed.iter().map(|entry| (*entry).to_owned()).collect(),
        timeout: Duration::from_secs(30),
        max_bytes: 1_000,
    }
}

/// Everything that an operator can open, for this mock.
fn open(mock: &Mock) -> Egress {
    let allow_private = vec![format!("localhost:{}", mock.port), format!("127.0.0.1:{}", mock.port)];
    Egress::build(&Config { allow_http: true, allow_private, ..Config::default() }).unwrap()
}

fn reply(body: &str) -> Act {
    let headers = vec![("X-Answer", "yes".to_owned()), ("location", "http://127.0.0.1:1/".to_owned())];
    Act::Reply { status: 200, headers, body: body.to_owned() }
}

#[tokio::test]
async fn an_allowed_host_is_called() {
    let mock = Mock::start(vec![reply("hello")]).await;
    let url = format!("http://localhost:{}/a/b?q=1", mock.port);
    let answer = open(&mock).send(request(&url, &[&format!("localhost:{}", mock.port)])).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert!(answer.headers.contains(&("x-answer".to_owned(), "yes".to_owned())));
    let asked = mock.requests()[0].clone();
    assert!(asked.head.starts_with("post /a/b?q=1 http/1.1"), "{}", asked.head);
    assert!(asked.head.contains("authorization: token s3cret"), "{}", asked.head);
    assert_eq!(asked.body, b"{}");
}

#[tokio::test]
async fn a_set_that_is_found_leads_to_its_hosts_and_their_addresses_are_judged() {
    let mock = Mock::start(vec![reply("hello")]).await;
    let entry = format!("localhost:{}", mock.port);
    let found = Found { hosts: vec![entry.clone()], ..Found::default() };
    let finder: Arc<Finder> = Arc::new(move |name| {
        let found = (name == "node").then(|| found.clone());
        Box::pin(async move { found })
    });
    let url = format!("http://{entry}/");
    let private = Config { allow_http: true, ..Config::default() };
    let closed = Egress::build(&private).unwrap().finding(Arc::clone(&finder));
    let open = open(&mock).finding(finder);
    let code = |list| closed.send(request(&url, list));
    assert_eq!(code(&["node"]).await.unwrap_err().code, "address_refused");
    assert_eq!(code(&["python"]).await.unwrap_err().code, "host_not_allowed");
    assert_eq!(open.send(request(&url, &["node"])).await.unwrap().status, 200);
    assert_eq!(open.send(request(&url, &["python"])).await.unwrap_err().code, "host_not_allowed");
    assert_eq!(mock.requests().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let act = Act::Reply {
        status: 302,
        headers: vec![("location", "http://169.254.169.254/".to_owned())],
        body: String::new(),
    };
    let mock = Mock::start(vec![act]).await;
    let url = format!("http://127.0.0.1:{}/", mock.port);
    let answer = open(&mock).send(request(&url, &[&format!("127.0.0.1:{}", mock.port)])).await.unwrap();
    assert_eq!((answer.status, mock.requests().len()), (302, 1));
}

/// Expects this code, and that nothing was asked and nothing secret said.
async fn check(config: &Config, request: WebRequest, code: &str) {
    let mock = Mock::start(vec![]).await;
    let url = request.url.replace("PORT", &mock.port.to_string());
    let allowed = request.allowed.iter().map(|entry| entry.replace("PORT", &mock.port.to_string())).collect();
    let request = WebRequest { url, allowed, ..request };
    let shown = request.url.chars().take(60).collect::<String>();
    let error = Egress::build(config).unwrap().send(request).await.unwrap_err();
    assert_eq!(error.code, code, "{shown:?}: {error}");
    assert_eq!(mock.requests().len(), 0, "{shown:?} was asked");
    assert!(!error.message.contains("s3cret"), "{shown:?}: {error}");
}

#[tokio::test]
async fn what_is_not_allowed_is_not_called() {
    let http = Config { allow_http: true, ..Config::default() };
    for (allowed, code) in [
        (&["example.com", "localhost", "localhost:1"][..], "host_not_allowed"),
        (&[], "host_not_allowed"),
        // Named by the daemon, and still this machine's.
        (&["localhost:PORT"], "address_refused"),
    ] {
        check(&http, request("http://localhost:PORT/?key=s3cret", allowed), code).await;
    }
    check(&Config::default(), request("http://localhost:PORT/", &["localhost:PORT"]), "host_not_allowed")
        .await;
    check(&http, request("http://LOCALHOST.:PORT/", &["localhost:PORT"]), "address_refused").await;
}

#[tokio::test]
async fn an_address_is_refused_however_it_is_written() {
    let http = Config { allow_http: true, ..Config::default() };
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "0",
        "[::]",
    ] {
        let entry = format!("{host}:PORT");
        check(&http, request(&format!("http://{host}:PORT/"), &[&entry]), "address_refused").await;
    }
    check(
        &Config::default(),
        request("https://169.254.169.254/latest", &["169.254.169.254"]),
        "address_refused",
    )
    .await;
}

#[tokio::test]
async fn a_bad_address_is_refused() {
    for url in [
        "",
        "localhost",
        "file:///etc/passwd",
        "ftp://localhost/",
        "https://",
        "https:///x",
        "https:x",
        "https:/x",
        "https:\\\\x",
        "https://s3cret@localhost/",
        "https://u:s3cret@localhost/",
        "https://local\nhost/s3cret",
        "https://localhost/ s3cret",
        "https://localhost:99999/s3cret",
        "https://[::1/s3cret",
        "javascript:s3cret",
    ] {
        check(&Config::default(), request(url, &["localhost"]), "invalid_url").await;
    }
    check(
        &Config::default(),
        request(&format!("https://localhost/{}", "a".repeat(9_000)), &["localhost"]),
        "invalid_url",
    )
    .await;
}

#[tokio::test]
async fn a_bad_request_is_refused_without_its_secrets() {
    let asked = || request("https://example.com/", &["example.com"]);
    for (name, value) in [
        ("X", "s3cret\r\nX: y"),
        ("a b", "s3cret"),
        ("Host", "s3cret"),
        ("transfer-encoding", "chunked"),
        ("", "s3cret"),
        ("x", "s3cret\0"),
    ] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        check(&Config::default(), WebRequest { headers, ..asked() }, "invalid_request").await;
    }
    for method in ["CONNECT", "TRACE", "GE T", "", "GET\r\n"] {
        check(&Config::default(), WebRequest { method: method.to_owned(), ..asked() }, "invalid_request")
            .await;
    }
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_checked_then() {
    let mock = Mock::start(vec![reply("inside")]).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    // A name that is public when it is first asked for, and this machine ever after.
    let lookup: Arc<Lookup> = Arc::new(move |_| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        let address: IpAddr = if first { [192, 0, 1, 1].into() } else { [127, 0, 0, 1].into() };
        Box::pin(async move { Ok(vec![address]) })
    });
    let egress = Egress::with_lookup(&Config { allow_http: true, ..Config::default() }, &lookup).unwrap();
    let url = format!("http://rebind.example:{}/", mock.port);
    let allowed = format!("rebind.example:{}", mock.port);
    let short = WebRequest { timeout: Duration::from_millis(100), ..request(&url, &[&allowed]) };
    let first = egress.send(short).await.unwrap_err();
    assert!(matches!(first.code, "timed_out" | "unreachable"), "{first}");
    assert_eq!(calls.load(Ordering::SeqCst), 1, "it was looked up again within a call");
    let second = egress.send(request(&url, &[&allowed])).await.unwrap_err();
    assert_eq!(second.code, "address_refused", "{second}");
    assert_eq!(mock.requests().len(), 0);
}

#[tokio::test]
async fn one_private_address_among_public_ones_is_too_many() {
    let lookup: Arc<Lookup> =
        Arc::new(|_| Box::pin(async { Ok(vec![[192, 0, 1, 1].into(), [10, 0, 0, 1].into()]) }));
    let egress = Egress::with_lookup(&Config::default(), &lookup).unwrap();
    let error = egress.send(request("https://mixed.example/", &["mixed.example"])).await.unwrap_err();
    assert_eq!(error.code, "address_refused");
    assert!(error.message.contains("at a private address"), "{error}");
}

#[tokio::test]
async fn an_answer_has_its_bounds() {
    let chunks = |n: usize| (0..n).map(|_| vec![b'x'; 100]).collect::<Vec<_>>();
    for (act, timeout, expect) in [
        (Act::Stream(chunks(10), End::Whole), 30_000, None),
        (reply(&"x".repeat(1_001)), 30_000, Some(("too_large", Retry::Never))),
        (Act::Stream(chunks(11), End::Stall), 30_000, Some(("too_large", Retry::Never))),
        (Act::Stream(chunks(1), End::Stall), 100, Some(("timed_out", Retry::Later))),
        (Act::Silence, 100, Some(("timed_out", Retry::Later))),
        (Act::Stream(chunks(1), End::Cut), 30_000, Some(("unreachable", Retry::Later))),
        (Act::Reset, 30_000, Some(("unreachable", Retry::Later))),
    ] {
        let mock = Mock::start(vec![act.clone()]).await;
        let url = format!("http://127.0.0.1:{}/?key=s3cret", mock.port);
        let asked = request(&url, &[&format!("127.0.0.1:{}", mock.port)]);
        let result = open(&mock).send(WebRequest { timeout: Duration::from_millis(timeout), ..asked }).await;
        let shown = format!("{act:?}").chars().take(60).collect::<String>();
        if let Err(error) = &result {
            assert!(!error.message.contains("s3cret"), "{shown}: {error}");
        }
        assert_eq!(result.err().map(|error| (error.code, error.retry)), expect, "{shown}");
    }
}

#[test]
fn a_private_entry_needs_its_port() {
    for entry in ["localhost", "http://localhost:80", ":80", ""] {
        let config = Config { allow_private: vec![entry.to_owned()], ..Config::default() };
        assert!(matches!(Egress::build(&config), Err(BuildError::Private(_))), "{entry}");
    }
}

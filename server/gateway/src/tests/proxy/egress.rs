//! Other hosts through the door: tunnels and plain HTTP. Names lead to servers of the test.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::stage::HostUsage;
use ports::proxy::Guest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::mock::{Act, Mock};
use super::{Jail, answer, gateway, guest, jail_of, proxy};
use crate::web::gate::Lookup;
use crate::web::{Config, Egress};

/// A jail that may reach these, where every name leads to these addresses (in turn, then the last), and
/// the operator allows `private`. `PORT` is the mock's.
fn reaching(mock: &Mock, allowed: &[&str], private: &[&str], addresses: &[&str]) -> (Jail, Arc<AtomicUsize>) {
    let port = |entries: &[&str]| -> Vec<String> {
        entries.iter().map(|entry| entry.replace("PORT", &mock.port.to_string())).collect()
    };
    let addresses: Vec<Vec<IpAddr>> =
        addresses.iter().map(|list| list.split(' ').map(|ip| ip.parse().unwrap()).collect()).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Arc<Lookup> = Arc::new(move |_| {
        let turn = count.fetch_add(1, Ordering::SeqCst).min(addresses.len() - 1);
        let found = addresses[turn].clone();
        Box::pin(async move { Ok(found) })
    });
    let config = Config { allow_private: port(private), ..Config::default() };
    let egress = Egress::with_lookup(&config, &lookup).unwrap();
    let guest = Guest { allowed: port(allowed), ..guest() };
    (jail_of(&proxy(gateway(mock, "30s"), egress), guest), asked)
}

fn reply(body: &str) -> Act {
    let headers = vec![
        ("X-Answer", "yes".to_owned()),
        ("location", "http://127.0.0.1:1/".to_owned()),
        ("proxy-authenticate", "x".to_owned()),
    ];
    Act::Reply { status: 302, headers, body: body.to_owned() }
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways() {
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = far.local_addr().unwrap().port();
    let mock = Mock::start(vec![]).await;
    let name = format!("echo.example:{port}");
    let (jail, asked) = reaching(&mock, &[&name], &[&name], &["127.0.0.1"]);
    let mut near = jail.connect().await;
    let head =
        format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\nProxy-Authorization: Basic s3cret\r\n\r\n");
    near.write_all(head.as_bytes()).await.unwrap();
    let (mut far, _) = far.accept().await.unwrap();
    let mut buffer = vec![0; 1_024];
    let read = near.read(&mut buffer).await.unwrap();
    assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
    near.write_all(b"\x16\x03\x01 ping").await.unwrap();
    let read = far.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"\x16\x03\x01 ping", "something else came through");
    far.write_all(b"pong!").await.unwrap();
    let read = near.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"pong!");
    // One side closes, the other still speaks.
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut buffer).await.unwrap(), 0);
    far.write_all(b"bye").await.unwrap();
    let read = near.read(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..read], b"bye");
    let traffic =
        HostUsage { host: "echo.example".to_owned(), port, requests: 1, sent: 8, received: 8, refused: None };
    let report = jail.visit.end();
    assert_eq!((report.hosts, asked.load(Ordering::SeqCst)), (vec![traffic], 1));
    // The end of the visit is the end of the tunnel, at both ends.
    assert!(matches!(near.read(&mut buffer).await, Ok(0) | Err(_)));
    assert!(matches!(far.read(&mut buffer).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn plain_http_is_passed_on() {
    let mock = Mock::start(vec![reply("hello")]).await;
    let (jail, _) = reaching(&mock, &["*.example.com:PORT"], &["a.example.com:PORT"], &["127.0.0.1"]);
    let port = mock.port;
    let request = format!(
        "POST http://A.Example.com.:{port}/x/../y?q=%41 HTTP/1.1\r\nHost: a.example.com:{port}\r\nContent-Length: 2\r\nAuthorization: Bearer mine\r\nAccept-Encoding: gzip\r\nProxy-Authorization: s3cret\r\nProxy-Connection: keep-alive\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Own: 1\r\n\r\n{{}}"
    );
    let answer = jail.send(request).await;
    assert_eq!((answer.status, answer.body.as_str()), (302, "hello"), "a redirect is an answer");
    assert!(answer.head.contains("x-answer: yes") && answer.head.contains("location: "), "{}", answer.head);
    let [request] = &mock.requests()[..] else { panic!("not once") };
    let head = &request.head;
    // Not tidied: what the host makes of its path is the host's.
    assert!(head.starts_with("post /x/../y?q=%41 http/1.1\r\n"), "{head}");
    for kept in ["authorization: bearer mine", "accept-encoding: gzip", "x-own: 1", "content-length: 2"] {
        assert!(head.contains(kept), "{kept}: {head}");
    }
    for gone in ["s3cret", "proxy-", "x-hop"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert_eq!((head.matches("\r\nhost: ").count(), &request.body[..]), (1, &b"{}"[..]));
    let hosts = jail.visit.end().hosts;
    let expect = HostUsage {
        host: "a.example.com".to_owned(),
        port,
        requests: 1,
        sent: 2,
        received: 5,
        refused: None,
    };
    assert_eq!(hosts, [expect]);
}

#[tokio::test]
async fn a_denial_says_which_host_and_what_to_do() {
    let mock = Mock::start(vec![]).await;
    let (jail, asked) = reaching(&mock, &["x.org", "node"], &[], &["127.0.0.1"]);
    let port = mock.port;
    for (line, host) in [
        ("CONNECT y.org:443", "y.org:443"),
        ("GET http://y.org/", "y.org:80"),
        ("CONNECT x.org:22", "x.org:22"),
    ] {
        let reply = jail.send(format!("{line} HTTP/1.1\r\n\r\n")).await;
        assert_eq!(reply.status, 403, "{line}: {reply:?}");
        assert_eq!(reply.body.lines().count(), 1);
        for words in [
            host,
            "`permissions.network.allowed`",
            "sets of hosts that this server does not have (node)",
            "`[network.sets]`",
        ] {
            assert!(reply.body.contains(words), "{line}: {}", reply.body);
        }
    }
    // By name alone, and by port: nothing was looked up.
    assert_eq!((asked.load(Ordering::SeqCst), mock.requests().len()), (0, 0));
    // Of those that are allowed, names lead to this machine.
    for line in
        ["CONNECT x.org:443".to_owned(), "CONNECT x.org:80".to_owned(), "GET http://x.org/".to_owned()]
    {
        let reply = jail.send(format!("{line} HTTP/1.1\r\n\r\n")).await;
        assert!(
            reply.status == 403 && reply.body.contains("x.org is at a loopback address"),
            "{line}: {reply:?}"
        );
    }
    let reply = jail.send(format!("GET http://x.org:{port}/ HTTP/1.1\r\n\r\n")).await;
    assert!(reply.body.contains(&format!("add `x.org:{port}`")), "{}", reply.body);
    let hosts = jail.visit.end().hosts;
    let counted: Vec<(&str, u16, u64, bool)> = hosts
        .iter()
        .map(|host| (host.host.as_str(), host.port, host.requests, host.refused.is_some()))
        .collect();
    let expect = [
        ("y.org", 443, 1, true),
        ("y.org", 80, 1, true),
        ("x.org", 22, 1, true),
        ("x.org", 443, 1, true),
        ("x.org", 80, 2, true),
        ("x.org", port, 1, true),
    ];
    assert_eq!(counted, expect);
}

#[tokio::test]
async fn an_address_is_refused_however_it_is_written() {
    let mock = Mock::start(vec![]).await;
    let all =
        ["127.0.0.1:PORT", "[::1]:PORT", "0.0.0.0:PORT", "[::ffff:7f00:1]:PORT", "169.254.169.254:PORT"];
    let (jail, _) = reaching(&mock, &all, &[], &["127.0.0.1"]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0",
        "169.254.169.254",
    ] {
        for line in [format!("CONNECT {host}:{}", mock.port), format!("GET http://{host}:{}/", mock.port)] {
            let reply = jail.send(format!("{line} HTTP/1.1\r\n\r\n")).await;
            assert_eq!(reply.status, 403, "{line}: {reply:?}");
            assert!(reply.body.contains("such addresses are refused"), "{line}: {}", reply.body);
        }
    }
    assert_eq!(mock.requests().len(), 0);
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_pinned() {
    // The operator allows the first address; who asks again gets another.
    let mock = Mock::start(vec![reply("a")]).await;
    let (jail, asked) = reaching(&mock, &["x.org:PORT"], &["x.org:PORT"], &["127.0.0.1", "::1"]);
    let reply = jail.send(format!("GET http://x.org:{}/ HTTP/1.1\r\n\r\n", mock.port)).await;
    assert_eq!((reply.status, asked.load(Ordering::SeqCst)), (302, 1));
    // One bad address among good ones is a name that plays games.
    let (jail, asked) = reaching(&mock, &["mixed.example"], &[], &["192.0.1.1 10.0.0.1"]);
    let reply = jail.send("CONNECT mixed.example:443 HTTP/1.1\r\n\r\n").await;
    assert!(reply.status == 403 && reply.body.contains("at a private address"), "{reply:?}");
    assert_eq!((asked.load(Ordering::SeqCst), mock.requests().len()), (1, 1));
}

#[tokio::test]
async fn what_is_not_plainly_a_host_is_refused() {
    let mock = Mock::start(vec![]).await;
    let (jail, asked) = reaching(&mock, &["x.org", "x.org:PORT"], &["x.org:PORT"], &["127.0.0.1"]);
    let port = mock.port;
    for head in [
        "CONNECT x.org".to_owned(),
        "CONNECT user@x.org:443".to_owned(),
        "CONNECT x.org:443:443".to_owned(),
        "CONNECT x.org:99999".to_owned(),
        "CONNECT [fe80::1%25eth0]:443".to_owned(),
        "CONNECT x.org%2eevil.org:443".to_owned(),
        "CONNECT http://x.org:443/".to_owned(),
        "CONNECT /x.org:443".to_owned(),
        format!("GET http://user:pw@x.org:{port}/"),
        format!("GET http://x.org:{port}@evil.org/"),
        format!("GET https://x.org:{port}/"),
        format!("GET ftp://x.org:{port}/"),
        format!("TRACE http://x.org:{port}/"),
        format!("GET http://x.org:{port}/ HTTP/1.1\r\nHost: evil.org"),
        format!("GET http://x.org:{port}/ HTTP/1.1\r\nHost: x.org:{port}\r\nHost: x.org:{port}"),
        "CONNECT x.org:443 HTTP/1.1\r\nHost: evil.org:443".to_owned(),
        "CONNECT x.org:443 HTTP/1.1\r\nContent-Length: 1".to_owned(),
        format!("POST http://x.org:{port}/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2"),
        format!("POST http://x.org:{port}/ HTTP/1.1\r\nTransfer-Encoding: chunked, identity"),
        format!("POST http://x.org:{port}/ HTTP/1.1\r\nTransfer-Encoding : chunked"),
        format!("GET http://x.org:{port}/ HTTP/1.1\r\n Folded: x"),
        format!("GET http://x.org:{port}/ HTTP/1.1\r\nX: a\0b"),
        format!("GET http://x.org:{port}/ a HTTP/1.1"),
    ] {
        let version = if head.contains("HTTP/1.1") { "" } else { " HTTP/1.1" };
        let reply = jail.send(format!("{head}{version}\r\n\r\n")).await;
        assert!(matches!(reply.status, 400 | 403), "{head}: {reply:?}");
        assert!(!reply.body.contains("pw"), "{head}: {}", reply.body);
        assert_eq!((asked.load(Ordering::SeqCst), mock.requests().len()), (0, 0), "{head}");
    }
}

#[tokio::test]
async fn names_are_the_same_however_they_are_written() {
    let mock = Mock::start(vec![reply("a"), reply("b"), reply("c")]).await;
    let names = ["bücher.example:PORT", "x.org:PORT"];
    let (jail, _) = reaching(&mock, &names, &names, &["127.0.0.1"]);
    for name in ["xn--bcher-kva.example", "X.ORG", "x.org."] {
        let reply = jail
            .send(format!("GET http://{name}:{}/ HTTP/1.1\r\nConnection: close\r\n\r\n", mock.port))
            .await;
        assert_eq!(reply.status, 302, "{name}: {reply:?}");
    }
    let hosts: Vec<String> = jail.visit.end().hosts.into_iter().map(|host| host.host).collect();
    assert_eq!(hosts, ["xn--bcher-kva.example", "x.org"]);
}

/// However a request is framed, one request goes on, framed by us.
#[tokio::test]
async fn nothing_is_smuggled() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x.org\r\n\r\n";
    let (chunk, length) = (format!("{:x}", smuggled.len()), smuggled.len());
    for (headers, body) in [
        // An extension of a chunk, which some read as the end of a line.
        ("Transfer-Encoding: chunked\r\n".to_owned(), format!("{chunk};x=\"y\"\r\n{smuggled}\r\n0\r\n\r\n")),
        // Both lengths, the other way round: the chunks count, and the length is gone.
        (
            format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
            format!("{chunk}\r\n{smuggled}\r\n0\r\n\r\n"),
        ),
        (
            "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n".to_owned(),
            format!("{chunk}\r\n{smuggled}\r\n0\r\n\r\n"),
        ),
        (format!("Content-Length: {length}\r\n"), smuggled.to_owned()),
        (format!("Content-Length: {length}\nX-Bare: 1\r\n"), smuggled.to_owned()),
    ] {
        let mock = Mock::start(vec![reply("one"), reply("two")]).await;
        let (jail, _) = reaching(&mock, &["x.org:PORT"], &["x.org:PORT"], &["127.0.0.1"]);
        let request = format!("POST http://x.org:{}/one HTTP/1.1\r\n{headers}\r\n{body}", mock.port);
        let mut stream = jail.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let reply = answer(&mut stream).await;
        assert!(matches!(reply.status, 302 | 400), "{headers:?}: {reply:?}");
        for request in mock.requests() {
            assert!(request.head.starts_with("post /one"), "{headers:?}: {}", request.head);
            assert!(
                !(request.head.contains("content-length") && request.head.contains("transfer-encoding")),
                "{}",
                request.head
            );
        }
        assert!(mock.requests().len() <= 1, "{headers:?}");
    }
}

#[tokio::test]
async fn who_is_away_is_said_to_be() {
    let mock = Mock::start(vec![Act::Reset]).await;
    let (jail, _) = reaching(&mock, &["x.org:PORT", "x.org:1"], &["x.org:PORT", "x.org:1"], &["127.0.0.1"]);
    for line in [
        "CONNECT x.org:1".to_owned(),
        "GET http://x.org:1/".to_owned(),
        format!("GET http://x.org:{}/", mock.port),
    ] {
        let reply = jail.send(format!("{line} HTTP/1.1\r\n\r\n")).await;
        assert!(reply.status == 502 && reply.body.contains("x.org:"), "{line}: {reply:?}");
    }
}

#[tokio::test]
async fn a_set_is_what_the_operator_says() {
    let mock = Mock::start(vec![reply("a")]).await;
    let host = format!("registry.example:{}", mock.port);
    let config = Config {
        allow_private: vec![host.clone()],
        sets: [("node".to_owned(), vec![host.clone()])].into(),
        ..Config::default()
    };
    let lookup: Arc<Lookup> = Arc::new(|_| Box::pin(async { Ok(vec![[127, 0, 0, 1].into()]) }));
    let egress = Egress::with_lookup(&config, &lookup).unwrap();
    let jail =
        jail_of(&proxy(gateway(&mock, "30s"), egress), Guest { allowed: vec!["node".to_owned()], ..guest() });
    assert_eq!(jail.send(format!("GET http://{host}/ HTTP/1.1\r\n\r\n")).await.status, 302);
    for wrong in ["https://x.org", "*.org", "x.org/y", ""] {
        let sets = [("node".to_owned(), vec![wrong.to_owned()])].into();
        assert!(Egress::build(&Config { sets, ..Config::default() }).is_err(), "{wrong}");
    }
}

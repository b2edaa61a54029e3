//! How much one jail can ask for at once, and how long it can keep it.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::mock::{Act, Mock};
use super::{answer, gateway, guest, jail, jail_of, proxy};
use crate::web::{Config, Egress};

#[tokio::test]
async fn sixteen_calls_at_once_and_the_next_waits() {
    let mock = Mock::start(vec![Act::Silence; 17]).await;
    let jail = jail(&mock, guest());
    let request = jail.request("POST /v1/chat/completions", "", r#"{"model":"gpt-5"}"#);
    let mut clients = Vec::new();
    for _ in 0..17 {
        let mut stream = jail.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        clients.push(stream);
    }
    while mock.requests().len() < 16 {
        mock.asked().await;
    }
    // The others wait here, and whatever costs nothing does not.
    assert_eq!(jail.send(jail.request("GET /v1/models", "", "")).await.status, 200);
    assert_eq!(mock.requests().len(), 16);
    drop(clients);
    mock.hung_up().await;
    assert!(jail.visit.end().calls.len() >= 16);
}

#[tokio::test]
async fn so_many_connections_and_the_next_waits() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, guest());
    let probe = format!("HEAD / HTTP/1.1\r\nHost: {}\r\n\r\n", jail.at);
    let mut open = Vec::new();
    for _ in 0..256 {
        let mut stream = jail.connect().await;
        stream.write_all(probe.as_bytes()).await.unwrap();
        open.push(stream);
    }
    for stream in &mut open {
        assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
    }
    let mut waiting = jail.connect().await;
    waiting.write_all(probe.as_bytes()).await.unwrap();
    // Those that are open go on.
    open[0].write_all(probe.as_bytes()).await.unwrap();
    assert!(open[0].read(&mut [0; 512]).await.unwrap() > 0);
    assert!(waiting.try_read(&mut [0; 512]).is_err(), "one more than there may be is served");
    open.pop();
    assert!(waiting.read(&mut [0; 512]).await.unwrap() > 0);
}

/// Lets time run: nobody does anything, so the clock goes to whatever is waited for next.
async fn ends(mut stream: TcpStream) {
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    while stream.read(&mut [0; 512]).await.is_ok_and(|read| read > 0) {}
    assert!(begun.elapsed() >= Duration::from_secs(30), "it ended at once");
}

#[tokio::test]
async fn who_sends_nothing_is_not_waited_for() {
    let mock = Mock::start(vec![]).await;
    let jail = jail(&mock, guest());
    for begun in ["", "POST /v1/mess", "POST /v1/messages HTTP/1.1\r\nHost: x"] {
        let mut stream = jail.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        ends(stream).await;
        tokio::time::resume();
    }
    // A body that stops.
    let head = jail
        .request("POST /v1/chat/completions", "", r#"{"model":"#)
        .replace("Content-Length: ", "Content-Length: 9");
    let mut stream = jail.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::pause();
    let reply = answer(&mut stream).await;
    assert!(reply.status == 400 && reply.body.contains("took too long"), "{reply:?}");
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_passes_is_closed() {
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("127.0.0.1:{}", far.local_addr().unwrap().port());
    let mock = Mock::start(vec![]).await;
    let egress = Egress::build(&Config { allow_private: vec![name.clone()], ..Config::default() }).unwrap();
    let guest = ports::proxy::Guest { allowed: vec![name.clone()], ..guest() };
    let jail = jail_of(&proxy(gateway(&mock, "30s"), egress), guest);
    let mut near = jail.connect().await;
    near.write_all(format!("CONNECT {name} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let (_far, _) = far.accept().await.unwrap();
    assert!(near.read(&mut [0; 512]).await.unwrap() > 0);
    ends(near).await;
}

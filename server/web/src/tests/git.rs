//! Git over HTTP: who may fetch and push, and that bodies stream.

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode, header};
use base64::Engine as _;
use domain::access::Role;
use futures::StreamExt;
use ports::store::Repositories;
use testkit::build;

use super::house::{House, request};

const FETCH: &str = "/git/ada/book.git/info/refs?service=git-upload-pack";
const PUSH: &str = "/git/ada/book.git/info/refs?service=git-receive-pack";

/// The status, and the code in the plain text that git prints.
async fn verdict(house: &House, method: Method, path: &str, token: &str) -> String {
    let answer = house.send(request(method, path, token).body(Body::empty()).unwrap()).await;
    if answer.status.is_success() {
        return "200".to_owned();
    }
    assert!(answer.header("content-type").starts_with("text/plain"), "{answer:?}");
    let challenged = answer.header("www-authenticate").starts_with("Basic ");
    assert_eq!(challenged, answer.status == StatusCode::UNAUTHORIZED, "{answer:?}");
    let code = answer.text().trim_end().rsplit_once('(').unwrap().1.trim_end_matches(')').to_owned();
    format!("{} {code}", answer.status.as_u16())
}

#[tokio::test]
async fn fetching_is_for_viewers_and_pushing_for_maintainers() {
    for public_read in [false, true] {
        let house = House::with(|settings| settings.public_read = public_read);
        house.repository("ada/book", &[]).await;
        let viewer = house.token("vera", Role::Viewer).await;
        let runner = house.token("rune", Role::Runner).await;
        let maintainer = house.token("mia", Role::Maintainer).await;
        let stranger = if public_read { "200" } else { "401 token_missing" };
        for (token, fetch, push) in [
            ("", stranger, "401 token_missing"),
            ("sb_wrong", "401 token_invalid", "401 token_invalid"),
            (&viewer, "200", "403 role_missing"),
            (&runner, "200", "403 role_missing"),
            (&maintainer, "200", "200"),
        ] {
            for (path, expect) in [(FETCH, fetch), (PUSH, push)] {
                assert_eq!(
                    verdict(&house, Method::GET, path, token).await,
                    expect,
                    "{path} {token:.6} {public_read}"
                );
            }
            for (service, expect) in [("git-upload-pack", fetch), ("git-receive-pack", push)] {
                let path = format!("/git/ada/book.git/{service}");
                assert_eq!(
                    verdict(&house, Method::POST, &path, token).await,
                    expect,
                    "{path} {token:.6} {public_read}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_first_push_makes_the_repository() {
    let house = House::new();
    let viewer = house.token("vera", Role::Viewer).await;
    let maintainer = house.token("mia", Role::Maintainer).await;
    let path = build::name("ada/book");
    assert_eq!(verdict(&house, Method::GET, FETCH, &maintainer).await, "404 not_found");
    assert_eq!(verdict(&house, Method::GET, PUSH, &viewer).await, "403 role_missing");
    assert_eq!(house.store.repository_find(&path).await.unwrap(), None);
    let pushes = (0..8).map(|_| verdict(&house, Method::GET, PUSH, &maintainer));
    assert!(futures::future::join_all(pushes).await.iter().all(|verdict| verdict == "200"));
    assert!(house.store.repository_find(&path).await.unwrap().is_some());
    assert_eq!(verdict(&house, Method::GET, FETCH, &viewer).await, "200");

    let watched = build::watched(&*house.clock, "ada/mirror");
    let _ = house.store.repository_create(&watched).await.unwrap();
    let push = PUSH.replace("book", "mirror");
    assert_eq!(verdict(&house, Method::GET, &push, &maintainer).await, "403 repository_watched");
    assert_eq!(verdict(&house, Method::GET, &FETCH.replace("book", "mirror"), &maintainer).await, "200");
}

#[tokio::test]
async fn hostile_addresses_name_nothing_and_make_nothing() {
    let house = House::new();
    let admin = house.token("root", Role::Admin).await;
    for path in [
        "/git/ada/book.git/HEAD",
        "/git/ada/book.git/info/refs",
        "/git/ada/book.git/objects/info/packs",
        "/git/ada/../../etc/passwd.git/info/refs?service=git-receive-pack",
        "/git/../ada/book.git/info/refs?service=git-receive-pack",
        "/git/ada/%2e%2e.git/info/refs?service=git-receive-pack",
        "/git/ada%2f..%2fbook.git/info/refs?service=git-receive-pack",
        "/git//ada/book.git/info/refs?service=git-receive-pack",
        "/git/ada/--upload-pack=x.git/info/refs?service=git-receive-pack",
        "/git/ada/book.git/info/refs?service=git-upload-archive",
        "/git/ada/book.git/git-upload-pack/x",
    ] {
        for method in [Method::GET, Method::POST, Method::PUT] {
            assert_eq!(verdict(&house, method, path, &admin).await, "404 not_found", "{path}");
        }
    }
    assert_eq!(verdict(&house, Method::POST, PUSH, &admin).await, "405 method_not_allowed");
    assert_eq!(
        verdict(&house, Method::GET, "/git/ada/book.git/git-receive-pack", &admin).await,
        "405 method_not_allowed"
    );
    assert!(house.store.repository_list(&ports::store::Page::first(10)).await.unwrap().is_empty());
    assert!(house.git.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn git_is_told_who_asks_and_bodies_stream_both_ways() {
    let house = House::new();
    house.repository("ada/book", &[]).await;
    let token = house.token("mia", Role::Maintainer).await;
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("x:{token}"));
    let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(1);
    let body = Body::from_stream(tokio_stream(receiver));
    let request = request(Method::POST, "/git/ada/book.git/git-receive-pack", "")
        .header(header::AUTHORIZATION, format!("Basic {basic}"))
        .header(header::CONTENT_TYPE, "application/x-git-receive-pack-request")
        .header(header::CONTENT_ENCODING, "gzip")
        .header(header::ACCEPT_ENCODING, "gzip")
        .header("git-protocol", "version=2");
    let response = house.open(request.body(body).unwrap()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-git-receive-pack-result");
    assert!(!response.headers().contains_key("content-encoding"), "git's answer was changed");
    let mut answer = response.into_body().into_data_stream();
    // Each piece comes back before the next is sent: nothing waits for the whole body.
    for piece in ["one", "two", "three"] {
        sender.send(Ok(Bytes::from(piece))).await.unwrap();
        assert_eq!(answer.next().await.unwrap().unwrap(), piece);
    }
    drop(sender);
    assert!(answer.next().await.is_none());
    let expect = r#"POST git-receive-pack ? by "mia", may push, version=2, gzip"#;
    assert_eq!(*house.git.requests.lock().unwrap(), [expect]);
}

fn tokio_stream(
    receiver: tokio::sync::mpsc::Receiver<std::io::Result<Bytes>>,
) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    })
}

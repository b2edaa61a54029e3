//! The one way out of a jail: an address of its own, with the server behind it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ports::sandbox::{DOOR, Door, JailEnd, JailSpec, Network, SandboxError};

use crate::jail::{Place, groups_of};
use crate::probe;

/// Whoever knocks gets the same answer, by HTTP.
#[derive(Debug)]
struct Greeter {
    answer: String,
    /// Doors that are open at the moment.
    open: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

/// Serves until it is dropped.
struct Serving {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    open: Arc<AtomicUsize>,
}

impl Greeter {
    fn new(answer: &str) -> Arc<Self> {
        Arc::new(Self { answer: answer.to_owned(), open: Arc::default(), asked: Arc::default() })
    }
}

impl Door for Greeter {
    fn open(&self, listener: TcpListener) -> io::Result<Box<dyn Send>> {
        assert_eq!(listener.local_addr()?, DOOR);
        let (stopped, stop) = nix::unistd::pipe()?;
        let (answer, asked) = (self.answer.clone(), Arc::clone(&self.asked));
        self.open.fetch_add(1, Ordering::SeqCst);
        let thread = std::thread::spawn(move || {
            loop {
                let mut polled = [
                    PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                    PollFd::new(listener.as_fd(), PollFlags::POLLIN),
                ];
                poll(&mut polled, PollTimeout::NONE).unwrap();
                if polled[0].any() == Some(true) {
                    return;
                }
                let (guest, from) = listener.accept().unwrap();
                assert!(from.ip().is_loopback(), "{from}");
                asked.fetch_add(1, Ordering::SeqCst);
                greet(guest, &answer);
            }
        });
        Ok(Box::new(Serving { stop: Some(stop), thread: Some(thread), open: Arc::clone(&self.open) }))
    }
}

fn greet(mut guest: TcpStream, answer: &str) {
    let mut request = Vec::new();
    while !request.windows(4).any(|piece| piece == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        match guest.read(&mut piece) {
            Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let text =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}", answer.len());
    // A guest may be gone by now.
    let _ = guest.write_all(text.as_bytes());
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop = None;
        self.thread.take().unwrap().join().unwrap();
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn behind(mut spec: JailSpec, door: &Arc<Greeter>) -> JailSpec {
    spec.network = Network::Door(Arc::clone(door) as Arc<dyn Door>);
    spec
}

const ASK: &str = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/x').read().decode())";

#[tokio::test]
async fn what_knocks_is_answered_until_the_jail_is_over() {
    let place = Place::new();
    let door = Greeter::new("hello");
    for _ in 0..2 {
        let ran = place.run(behind(place.spec(&["python3", "-c", ASK]), &door)).await;
        ran.ended(&JailEnd::Exited(0)).wrote("hello");
        assert_eq!(door.open.load(Ordering::SeqCst), 0, "the door outlived its jail");
    }
    assert_eq!(door.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn only_the_door_answers() {
    let found = probe::network(|spec| behind(spec, &Greeter::new("hello"))).await;
    probe::compare(&found, &[probe::NO_NETWORK, "tcp-door ok"].concat());
}

/// Each has the same address, and nobody reaches another's.
#[tokio::test]
async fn two_at_once_have_a_door_each() {
    let place = Place::new();
    let (one, two) = (Greeter::new("one"), Greeter::new("two"));
    let script = format!("{ASK}\n{ASK}");
    let spec = |door| behind(place.spec(&["python3", "-c", &script]), door);
    let (first, second) = tokio::join!(place.run(spec(&one)), place.run(spec(&two)));
    first.wrote("one\none");
    second.wrote("two\ntwo");
    let (one, two) = (one.asked.load(Ordering::SeqCst), two.asked.load(Ordering::SeqCst));
    assert_eq!((one, two), (2, 2));
}

/// A program can listen beside the door, but not in its place.
#[tokio::test]
async fn nobody_inside_takes_the_place_of_the_door() {
    let script = "import socket\n\
        for address in [('127.0.0.1', 8080), ('0.0.0.0', 8080), ('127.0.0.1', 8081)]:\n\
        \x20for option in [socket.SO_REUSEADDR, socket.SO_REUSEPORT]:\n\
        \x20 s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, option, 1)\n\
        \x20 try: s.bind(address); s.listen(); print('ok')\n\
        \x20 except OSError as error: print(error.errno)\n\
        \x20 s.close()";
    let place = Place::new();
    let ran = place.run(behind(place.spec(&["python3", "-c", script]), &Greeter::new("hello"))).await;
    ran.ended(&JailEnd::Exited(0)).wrote("98\n98\n98\n98\nok\nok");
}

#[tokio::test]
async fn the_door_closes_however_the_jail_ends() {
    let place = Place::new();
    let door = Greeter::new("hello");
    let mut spec = behind(place.spec(&["sleep", "1000"]), &door);
    spec.limits.timeout = Duration::from_millis(200);
    place.run(spec).await.ended(&JailEnd::TimedOut);
    assert_eq!(door.open.load(Ordering::SeqCst), 0);
    let spec = behind(place.spec(&["bash", "-c", "setsid sleep 1000 & exit 3"]), &door);
    place.run(spec).await.ended(&JailEnd::Exited(3));
    assert_eq!(door.open.load(Ordering::SeqCst), 0);
    let spec = behind(place.spec(&["no-such-program"]), &door);
    assert!(place.try_run(spec).await.is_err());
    assert_eq!(door.open.load(Ordering::SeqCst), 0);
    assert_eq!(groups_of(&place), Vec::<String>::new());
}

#[derive(Debug)]
struct Shut;

impl Door for Shut {
    fn open(&self, _: TcpListener) -> io::Result<Box<dyn Send>> {
        Err(io::Error::other("nobody at home"))
    }
}

#[tokio::test]
async fn a_door_that_nobody_serves_is_no_jail() {
    let place = Place::new();
    let mut spec = place.spec(&["bash", "-c", "touch /work/ran"]);
    let workspace = spec.workspace.clone();
    spec.network = Network::Door(Arc::new(Shut));
    let error = place.try_run(spec).await.expect_err("a jail was made");
    assert!(matches!(&error, SandboxError::Unavailable(why) if why.contains("nobody at home")), "{error}");
    assert!(!workspace.join("ran").exists());
    assert_eq!(groups_of(&place), Vec::<String>::new());
}

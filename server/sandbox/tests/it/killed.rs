//! What is left when the server, or nsjail, is killed at any moment: nothing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ports::sandbox::{JailEnd, Sandbox};
use sandbox::{Config, Jails};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::jail::{Place, gone, groups_of, nsjail, open_directory};

const HOME: &str = "SPELLBOOK_TEST_HOME";
const TAG: &str = "SPELLBOOK_TEST_TAG";

/// Not a test: a server with three jails in it, for the tests that kill one. Says `ready` right
/// before it starts them.
#[tokio::test]
#[ignore = "a program for other tests, which start it"]
async fn victim() {
    #[expect(clippy::disallowed_methods, reason = "this is a program, told by the test that starts it")]
    let variable = |name: &str| std::env::var(name).unwrap();
    let (home, tag) = (variable(HOME), variable(TAG));
    let place = Place {
        jails: Jails::open(Config::new(nsjail(), Path::new(&home).join("state"))).unwrap(),
        home: open_directory(),
    };
    // A daemon that ignores everything, and a child.
    let script = format!("(setsid bash -c 'trap \"\" TERM HUP; sleep {tag}; sleep {tag}' &) ; sleep {tag}");
    let jails: Vec<_> = (0..3).map(|_| place.spec(&["bash", "-c", &script])).collect();
    std::io::stdout().write_all(b"ready\n").unwrap();
    let runs = jails.into_iter().map(|spec| {
        let (sender, _) = mpsc::channel(1);
        place.jails.run(spec, sender, CancellationToken::new())
    });
    let _ = futures_join(runs.collect()).await;
}

async fn futures_join<F: Future>(futures: Vec<F>) -> usize {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(0) } else { std::task::Poll::Pending }
    })
    .await
}

/// Starts the program above; returns when it is about to start its jails.
fn start(home: &Path, tag: &str) -> Child {
    #[expect(clippy::disallowed_methods, reason = "the server that is killed is a process of its own")]
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["killed::victim", "--exact", "--ignored", "--nocapture"]);
    command.env(HOME, home).env(TAG, tag).env("SPELLBOOK_NSJAIL", nsjail());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("ready")), "the victim did not start");
    child
}

/// Without control groups there is nothing to sweep: the jails see that the server is gone.
async fn ended(tag: &str) {
    let until = tokio::time::Instant::now() + Duration::from_secs(5);
    while !gone(tag) {
        assert!(tokio::time::Instant::now() < until, "a jail outlived its server");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_killed_server_leaves_nothing() {
    for round in 0..50u64 {
        let place = open_directory();
        let tag = format!("5151{}{round}", std::process::id());
        let mut server = start(place.path(), &tag);
        // The moments of a jail's life: 0 to 60 ms.
        tokio::time::sleep(Duration::from_micros(round * 1250)).await;
        server.kill().unwrap();
        server.wait().unwrap();

        let jails = Jails::open(Config::new(nsjail(), place.path().join("state"))).unwrap();
        let swept = tokio::time::timeout(Duration::from_secs(5), jails.sweep()).await.unwrap().unwrap();
        ended(&tag).await;
        let place = Place { jails, home: place };
        assert_eq!(groups_of(&place), Vec::<String>::new(), "round {round}: {swept:?}");
        let again = place.jails.sweep().await.unwrap();
        assert_eq!((again.processes, again.groups), (0, 0));
    }
}

/// Without any sweep: the first process of a jail sees that nobody reads what it has to say.
#[tokio::test]
async fn jails_end_with_their_server() {
    let place = open_directory();
    let tag = format!("5252{}", std::process::id());
    let mut server = start(place.path(), &tag);
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while gone(&tag) {
        assert!(tokio::time::Instant::now() < until, "the jails did not start");
        tokio::task::yield_now().await;
    }
    server.kill().unwrap();
    server.wait().unwrap();
    ended(&tag).await;
    let jails = Jails::open(Config::new(nsjail(), place.path().join("state"))).unwrap();
    jails.sweep().await.unwrap();
}

#[tokio::test]
async fn a_killed_nsjail_takes_its_jail_along() {
    let place = Place::new();
    for delay in [0, 2, 4, 6, 8, 12, 20, 40] {
        let tag = format!("5353{}{delay}", std::process::id());
        let mut spec = place.spec(&["bash", "-c", &format!("(setsid sleep {tag} &); sleep {tag}")]);
        spec.name = format!("doomed-{delay}");
        let kill = async {
            loop {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                if kill_children() {
                    return;
                }
            }
        };
        let (ran, ()) = tokio::join!(place.try_run(spec), kill);
        assert!(ran.is_err() || ran.as_ref().unwrap().report.end != JailEnd::Exited(0), "{ran:?}");
        assert!(gone(&tag), "{delay}");
        assert_eq!(groups_of(&place), Vec::<String>::new());
    }
}

/// Kills the nsjail of this test: the child of the thread that is named after its jail.
fn kill_children() -> bool {
    let mut killed = false;
    for thread in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if !name.starts_with("jail-doomed") {
            continue;
        }
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let child = nix::unistd::Pid::from_raw(child.parse().unwrap());
            killed |= nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).is_ok();
        }
    }
    killed
}

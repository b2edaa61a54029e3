//! What is left when the server, or nsjail, is killed at any moment: nothing.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use ports::sandbox::{JailEnd, Sandbox};
use sandbox::{Config, Jails};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::jail::{
    self, Phase, Place, all_groups_of, bearers, gone, groups_of, jailers, nsjail, open_directory,
};

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
    // Two of the jails are prepared ones, as root; others are on their way when it ends.
    let config = Config { prepared: 2, ..Config::new(nsjail(), Path::new(&home).join("state")) };
    let place = Place { jails: Jails::open(config).unwrap(), home: open_directory() };
    place.jails.prepare(None, &place.spec(&["true"]).limits).await.unwrap();
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

/// The program above, about to start its jails.
struct Victim {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Victim {
    fn start(home: &Path, tag: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the server that is killed is a process of its own")]
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["killed::victim", "--exact", "--ignored", "--nocapture"]);
        command.env(HOME, home).env(TAG, tag).env("SPELLBOOK_NSJAIL", nsjail());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.ends_with("ready\n") {
            assert!(output.read_line(&mut line).unwrap() > 0, "the victim did not start");
        }
        Self { child, output }
    }

    /// Lives on for so long, and by itself not shorter: then its output would end.
    fn live(&self, time: Duration) {
        let mut polled = [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLIN)];
        let ended = ppoll(&mut polled, Some(TimeSpec::from(time)), None).unwrap();
        assert_eq!(ended, 0, "the victim ended by itself");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Without control groups there is nothing to sweep: the jails see that the server is gone. Waits for
/// one process after another.
fn ended(tag: &str) {
    while let Some(&pid) = bearers(tag).first() {
        // SAFETY: plain integers in, a new descriptor of ours or -1 out.
        #[expect(unsafe_code, reason = "pidfd_open has no safe wrapper")]
        let process = unsafe {
            let number = nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0);
            i32::try_from(number)
                .ok()
                .filter(|&number| number >= 0)
                .map(|number| OwnedFd::from_raw_fd(number))
        };
        // Gone since it was found.
        let Some(process) = process else { continue };
        let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        assert_eq!(
            ppoll(&mut polled, Some(TimeSpec::new(5, 0)), None).unwrap(),
            1,
            "{pid} outlived its server"
        );
    }
}

#[tokio::test]
async fn a_killed_server_leaves_nothing() {
    for round in 0..50u64 {
        let place = open_directory();
        let tag = format!("5151{}{round}", std::process::id());
        let server = Victim::start(place.path(), &tag);
        // The moments of a jail's life: 0 to 60 ms.
        server.live(Duration::from_micros(round * 1250));
        server.kill();

        let jails = Jails::open(Config::new(nsjail(), place.path().join("state"))).unwrap();
        let swept = tokio::time::timeout(Duration::from_secs(5), jails.sweep()).await.unwrap().unwrap();
        ended(&tag);
        let place = Place { jails, home: place };
        assert_eq!(all_groups_of(&place), Vec::<String>::new(), "round {round}: {swept:?}");
        let again = place.jails.sweep().await.unwrap();
        assert_eq!((again.processes, again.groups), (0, 0));
    }
}

/// Without any sweep: the first process of a jail sees that nobody reads what it has to say.
#[tokio::test]
async fn jails_end_with_their_server() {
    let place = open_directory();
    let tag = format!("5252{}", std::process::id());
    let server = Victim::start(place.path(), &tag);
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while gone(&tag) {
        assert!(tokio::time::Instant::now() < until, "the jails did not start");
        tokio::task::yield_now().await;
    }
    server.kill();
    ended(&tag);
    let jails = Jails::open(Config::new(nsjail(), place.path().join("state"))).unwrap();
    jails.sweep().await.unwrap();
}

#[tokio::test]
async fn a_killed_nsjail_takes_its_jail_along() {
    let place = Place::new();
    // As soon as it is there, some looks later, and when the program runs.
    let moments = [0, 1, 4, 16, 64, 256].map(|looks| (Phase::Jailer, looks));
    for (phase, looks) in moments.into_iter().chain([(Phase::Inside, 0), (Phase::Running, 0)]) {
        let tag = format!("5353{}{looks}{}", std::process::id(), phase as u8);
        let script = format!("(setsid sleep {tag} &); echo up; sleep {tag}");
        let mut spec = place.spec(&["bash", "-c", &script]);
        spec.name = format!("doomed-{looks}-{}", phase as u8);
        let name = spec.name.clone();
        let (up, is_up) = oneshot::channel();
        let kill = async {
            phase.reached(&name, is_up).await;
            for _ in 0..looks {
                tokio::task::yield_now().await;
            }
            for jailer in jailers(&name) {
                let jailer = nix::unistd::Pid::from_raw(jailer);
                let _ = nix::sys::signal::kill(jailer, nix::sys::signal::Signal::SIGKILL);
            }
        };
        let run = jail::run_telling(&place.jails, spec, CancellationToken::new(), up);
        let (ran, ()) = tokio::join!(run, kill);
        assert!(ran.is_err() || ran.as_ref().unwrap().report.end != JailEnd::Exited(0), "{ran:?}");
        assert!(gone(&tag), "{phase:?} {looks}");
        assert_eq!(groups_of(&place), Vec::<String>::new());
    }
}

/// In a container the server is often the first process, who inherits what others leave behind.
#[tokio::test]
async fn no_jail_leaves_a_zombie_to_its_server() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let place = Place::new();
    let zombies = || {
        let own = std::process::id().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let stats = processes.filter_map(|process| std::fs::read_to_string(process.path().join("stat")).ok());
        // After the name: state, parent.
        let rest = stats.filter_map(|stat| Some(stat.rsplit_once(") ")?.1.to_owned()));
        rest.filter(|rest| rest.starts_with(&format!("Z {own} "))).count()
    };
    place.sh("(setsid sleep 1000 &); true").await.ended(&JailEnd::Exited(0));
    let cancel = CancellationToken::new();
    let (up, is_up) = oneshot::channel();
    let spec = place.spec(&["bash", "-c", "echo up; sleep 1000"]);
    let run = jail::run_telling(&place.jails, spec, cancel.clone(), up);
    let (ran, ()) = tokio::join!(run, async {
        is_up.await.unwrap();
        cancel.cancel();
    });
    ran.unwrap().ended(&JailEnd::Cancelled);
    assert_eq!(zombies(), 0);
    let config = Config { prepared: 2, ..Config::new(nsjail(), place.home.path().join("more")) };
    let more = Place { jails: Jails::open(config).unwrap(), home: open_directory() };
    more.jails.prepare(None, &more.spec(&[]).limits).await.unwrap();
    more.sh("true").await.ended(&JailEnd::Exited(0));
    drop(more);
    assert_eq!(zombies(), 0);
}

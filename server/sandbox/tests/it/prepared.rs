//! Jails that were made before anybody knew what would run in them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use domain::limits::MIB;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ports::sandbox::{JailEnd, JailSpec, Sandbox};
use tokio::sync::{Mutex, MutexGuard};

use crate::heard;
use crate::jail::{PREPARED, Place, Ran, all_groups_of, was_prepared};
use crate::limits::spin;

/// One of these tests at a time in a process: they look at all its jails to come.
/// Its guard comes before the sandbox in each tuple, to be dropped after it.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A sandbox with jails at hand for [`Place::spec`]; `None` as an ordinary user, who has none.
async fn place(most: usize) -> Option<(MutexGuard<'static, ()>, Place)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let alone = ALONE.lock().await;
    heard::listen();
    let place = Place::with(|config| config.prepared = most);
    assert_eq!(place.jails.prepare(None, &place.spec(&["true"]).limits).await.unwrap(), most);
    Some((alone, place))
}

/// Runs in a prepared jail, and waits until there is one at hand again.
async fn run(place: &Place, mut spec: JailSpec) -> Ran {
    spec.name = format!("ready-{}", spec.name);
    let (name, limits) = (spec.name.clone(), spec.limits.clone());
    let ran = place.run(spec).await;
    assert!(was_prepared(&name), "{ran:?}");
    place.jails.prepare(None, &limits).await.unwrap();
    ran
}

async fn sh(place: &Place, script: &str) -> Ran {
    run(place, place.spec(&["bash", "-c", script])).await
}

/// The processes of jails to come: nsjail and its child, for each.
fn at_rest() -> Vec<(i32, i32)> {
    let mut found = Vec::new();
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        if !name.starts_with("cell-") {
            continue;
        }
        for jailer in children(&thread.path().join("children")) {
            let inside = children(format!("/proc/{jailer}/task/{jailer}/children").as_ref());
            found.extend(inside.into_iter().map(|inside| (jailer, inside)));
        }
    }
    found
}

/// The letter that says what a process is doing (proc_pid_stat(5)).
fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim().chars().next()
}

/// Waits until it does that: on its way there it may do something else for a moment.
async fn comes_to(pid: i32, expect: char) {
    while state(pid) != Some(expect) {
        assert!(fs::exists(format!("/proc/{pid}")).unwrap(), "{pid} ended");
        tokio::task::yield_now().await;
    }
}

fn children(file: &std::path::Path) -> Vec<i32> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// All tests of what a jail is, once more.
#[tokio::test]
async fn they_are_jails_like_any_other() {
    if place(1).await.is_none() {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "the same tests in another process")]
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["inside::", "probe::", "door::", "ends::", "--test-threads", "2"]).env(PREPARED, "1");
    command.env("SPELLBOOK_NSJAIL", crate::jail::nsjail()).process_group(0);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn nothing_of_a_run_is_in_the_next() {
    let Some((_alone, place)) = place(1).await else { return };
    let script = "for d in /tmp /dev/shm $HOME /work; do ls -A $d; touch $d/mine; done
        ipcs -m | grep -c 0x; ipcmk -M 4096 > /dev/null
        ls /proc > /tmp/listed; grep -c '^[0-9]' /tmp/listed
        setsid sleep 1000 & exec 1>&-; sleep 1000 & exit 0";
    let listen = "import os, socket\nfor a in [(socket.AF_UNIX, '\\0mine'), (socket.AF_INET, ('127.0.0.1', 8000))]:\n\
                  \x20s = socket.socket(a[0]); s.bind(a[1]); s.listen(); os.set_inheritable(s.fileno(), True)\n\
                  \x20os.spawnvp(os.P_NOWAIT, 'sleep', ['sleep', '1000'])\nprint('bound')";
    for _ in 0..4 {
        sh(&place, script).await.ended(&JailEnd::Exited(0)).wrote("0\n3");
        run(&place, place.spec(&["python3", "-c", listen])).await.ended(&JailEnd::Exited(0)).wrote("bound");
    }
}

#[tokio::test]
async fn limits_are_those_of_the_run() {
    let Some((_alone, place)) = place(1).await else { return };
    let count = "import os, resource, signal\nn = 1\ntry:\n while n < 40:\n  if os.fork() == 0: signal.pause()\n  n += 1\n\
                 except OSError: pass\nprint(n, resource.getrlimit(resource.RLIMIT_FSIZE)[0] >> 20)";
    for (processes, disk) in [(64, 64), (10, 8), (64, 32), (20, 16)] {
        let mut spec = place.spec(&["python3", "-c", count]);
        (spec.limits.processes, spec.limits.disk) = (processes, disk * MIB);
        run(&place, spec).await.wrote(&format!("{} {disk}", processes.min(40)));
    }
    let mut spec = place.spec(&["python3", "-c", &spin(1)]);
    spec.limits.cpu_millis = 200;
    // A fifth of an emulated processor takes long to start an interpreter.
    spec.limits.timeout = Duration::from_secs(100);
    let ran = run(&place, spec).await;
    assert!(ran.stdout.trim().parse::<f64>().unwrap() < 0.5, "{ran:?}");
}

#[tokio::test]
async fn counters_begin_with_the_run() {
    let Some((_alone, place)) = place(1).await else { return };
    let hog = "python3 -c 'x = bytearray(150 << 20)'";
    assert!(sh(&place, hog).await.report.memory_peak > 150 * MIB);
    assert!(sh(&place, "true").await.report.memory_peak < 100 * MIB);
    let spent = run(&place, place.spec(&["python3", "-c", &spin(3)])).await.report.cpu;
    let next = sh(&place, "true").await.report.cpu;
    assert!(next < spent, "{next:?} for nothing after {spent:?} of a run before");
    let mut spec = place.spec(&["bash", "-c", "python3 -c 'x = bytearray(400 << 20)'; exit 0"]);
    spec.name = "hungry".into();
    place.run(spec).await.ended(&JailEnd::OutOfMemory);
    place.jails.prepare(None, &place.spec(&[]).limits).await.unwrap();
    sh(&place, "true").await.ended(&JailEnd::Exited(0));
}

#[tokio::test]
async fn one_that_died_is_replaced() {
    let Some((_alone, place)) = place(2).await else { return };
    for victim in [|(jailer, _)| jailer, |(_, inside)| inside] {
        let before = at_rest();
        assert_eq!(before.len(), 2);
        for &pair in &before {
            let victim = victim(pair);
            kill(Pid::from_raw(victim), Signal::SIGKILL).unwrap();
            while state(victim).is_some_and(|state| state != 'Z') {
                tokio::task::yield_now().await;
            }
        }
        // Whatever they are at the moment, a run goes well.
        place.sh("echo fine").await.wrote("fine");
        while at_rest().len() < 2 || at_rest().iter().any(|pair| before.contains(pair)) {
            tokio::task::yield_now().await;
        }
        assert_eq!(place.jails.prepare(None, &place.spec(&[]).limits).await.unwrap(), 2);
        sh(&place, "echo again").await.wrote("again");
    }
}

#[tokio::test]
async fn other_runs_make_room_for_themselves() {
    let Some((_alone, place)) = place(1).await else { return };
    let spec = |name: &str| {
        let mut spec = place.spec(&["df", "--output=size", "-m", "/tmp"]);
        (spec.name, spec.limits.memory) = (name.to_owned(), 64 * MIB);
        spec
    };
    place.run(spec("first")).await.wrote("1M-blocks\n       32");
    assert!(!was_prepared("first"));
    assert_eq!(place.jails.prepare(None, &spec("x").limits).await.unwrap(), 1);
    place.run(spec("second")).await.wrote("1M-blocks\n       32");
    assert!(was_prepared("second"));
}

/// The files of the machine changed places, so what was mounted is not what is there.
#[tokio::test]
async fn one_whose_mounts_are_old_is_not_used() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // A thread with mounts of its own, so that the machine keeps its /usr.
    let thread = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (_alone, place) = place(1).await.unwrap();
            sh(&place, "ls /usr/src/below 2>/dev/null || echo nothing").await.wrote("nothing");
            mount(Some("x"), "/usr/src", Some("tmpfs"), MsFlags::empty(), Some("mode=1777")).unwrap();
            fs::write("/usr/src/below", "x").unwrap();
            place
                .sh("ls /usr/src/below; echo x > /usr/src/y || echo refused")
                .await
                .wrote("/usr/src/below\nrefused");
        });
    });
    thread.join().unwrap();
}

#[tokio::test]
async fn they_rest_and_end_with_the_sandbox() {
    let Some((_alone, place)) = place(2).await else { return };
    let resting = at_rest();
    assert_eq!(resting.len(), 2);
    for &(jailer, inside) in &resting {
        // Stopped, as soon as it gets to hear of it, and waiting for an order.
        comes_to(jailer, 'T').await;
        comes_to(inside, 'S').await;
    }
    assert!(!all_groups_of(&place).is_empty());
    // A sweep leaves them, though by itself it would prepare others.
    place.jails.sweep().await.unwrap();
    assert_eq!(place.jails.prepare(None, &place.spec(&[]).limits).await.unwrap(), 2);
    assert_eq!(at_rest(), resting);
    for &(jailer, inside) in &resting {
        comes_to(jailer, 'T').await;
        comes_to(inside, 'S').await;
    }
    let Place { jails, home } = place;
    drop(jails);
    assert_eq!(at_rest(), []);
    for (jailer, inside) in resting {
        for pid in [jailer, inside] {
            assert!(!fs::exists(format!("/proc/{pid}/ns/net")).unwrap(), "{pid}");
        }
    }
    let place = Place {
        jails: sandbox::Jails::open(sandbox::Config::new(crate::jail::nsjail(), home.path().join("state")))
            .unwrap(),
        home,
    };
    assert_eq!(all_groups_of(&place), Vec::<String>::new());
}

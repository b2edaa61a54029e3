//! Each way to end is told apart from every other.

use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::limits::MIB;
use ports::sandbox::{JailEnd, Sandbox};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::heard;
use crate::jail::{self, Phase, Place, gone, groups_of};
use crate::probe;

async fn check(script: &str, expect: JailEnd) {
    Place::new().sh(script).await.ended(&expect);
}

#[tokio::test]
async fn a_status_is_what_the_program_says() {
    // 153 is also what a shell says of a child that wrote past its quota.
    for code in [0, 1, 2, 127, 137, 143, 153, 159, 255] {
        check(&format!("exit {code}"), JailEnd::Exited(code)).await;
    }
}

#[tokio::test]
async fn a_signal_is_the_programs_own() {
    check("kill -KILL $$", JailEnd::Signalled(9)).await;
    check("kill -TERM $$", JailEnd::Signalled(15)).await;
    check("kill -SEGV $$", JailEnd::Signalled(11)).await;
    check("kill -SYS $$", JailEnd::ForbiddenSystemCall).await;
    // Only a shell's way to tell of its child's end.
    check("bash -c 'kill -KILL $$'; exit $?", JailEnd::Exited(137)).await;
}

/// Ends at its limit, and not a second later by the clock of whoever ends it. How long its processes
/// take to die is the machine's affair: they die at the priority that they have.
async fn times_out(program: &[&str]) {
    heard::listen();
    let place = Place::new();
    let mut spec = probe::spec(&place, &[]);
    spec.name = format!("late-{}", spec.name);
    let name = spec.name.clone();
    spec.command = program.iter().map(ToString::to_string).collect();
    spec.limits.timeout = Duration::from_millis(500);
    let ran = place.run(spec).await;
    ran.ended(&JailEnd::TimedOut);
    assert!(ran.report.wall >= Duration::from_millis(500), "{ran:?}");
    let late = heard::number(&name, "jail.late_ms").unwrap();
    assert!(late <= 1000, "{program:?} was ended {late} ms after its limit");
    assert_eq!(groups_of(&place), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_outlives_its_time() {
    times_out(&["sleep", "1000"]).await;
    times_out(&["bash", "-c", "while :; do :; done"]).await;
    times_out(&["bash", "-c", "trap '' TERM INT HUP; sleep 1000 & wait; sleep 1000"]).await;
    times_out(&["/work/probe", "stop"]).await;
    times_out(&["/work/probe", "blocked"]).await;
    times_out(&["bash", "-c", "kill -STOP 1 $$; sleep 1000"]).await;
}

#[tokio::test]
async fn memory_of_a_child_counts_though_the_program_exits_well() {
    let place = Place::new();
    let mut spec = probe::spec(&place, &["hog-child"]);
    spec.limits.memory = 64 * MIB;
    let ran = place.run(spec).await;
    ran.ended(&JailEnd::OutOfMemory);
    assert!(ran.report.memory_peak > 32 * MIB && ran.report.memory_peak <= 64 * MIB, "{ran:?}");

    let mut spec = probe::spec(&place, &["hog"]);
    spec.limits.memory = 64 * MIB;
    place.run(spec).await.ended(&JailEnd::OutOfMemory);
}

#[tokio::test]
async fn cancelling_ends_it_once_whenever_it_comes() {
    let place = Place::new();
    // Before it starts, while it is set up, while it runs.
    for phase in Phase::ALL {
        let cancel = CancellationToken::new();
        let spec = place.spec(&["bash", "-c", "echo up; sleep 1000"]);
        let name = spec.name.clone();
        let (up, is_up) = oneshot::channel();
        let run = jail::run_telling(&place.jails, spec, cancel.clone(), up);
        let stop = async {
            phase.reached(&name, is_up).await;
            cancel.cancel();
            cancel.cancel();
        };
        let (ran, ()) = tokio::join!(run, stop);
        ran.unwrap().ended(&JailEnd::Cancelled);
    }
    // After its end: nothing changes.
    let cancel = CancellationToken::new();
    let ran = jail::run(&place.jails, place.spec(&["true"]), cancel.clone()).await.unwrap();
    cancel.cancel();
    ran.ended(&JailEnd::Exited(0));
    assert_eq!(groups_of(&place), Vec::<String>::new());
}

#[tokio::test]
async fn dropping_the_future_ends_it_too() {
    let place = Place::new();
    for (number, phase) in Phase::ALL.into_iter().enumerate() {
        let tag = format!("4242{}{number}", std::process::id());
        let spec = place.spec(&["bash", "-c", &format!("echo up; exec sleep {tag}")]);
        let name = spec.name.clone();
        let (up, is_up) = oneshot::channel();
        tokio::select! {
            ran = jail::run_telling(&place.jails, spec, CancellationToken::new(), up) => panic!("{ran:?}"),
            () = phase.reached(&name, is_up) => {}
        }
        assert!(gone(&tag), "{phase:?}");
        assert_eq!(groups_of(&place), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_stays_behind_ends_with_the_program() {
    let place = Place::new();
    let begun = Instant::from(tokio::time::Instant::now());
    place.run(probe::spec(&place, &["leave"])).await.ended(&JailEnd::Exited(0)).wrote("left");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let tag = format!("4343{}", std::process::id());
    place
        .sh(&format!("setsid nohup sleep {tag} & disown; sleep {tag} & exit 3"))
        .await
        .ended(&JailEnd::Exited(3));
    assert!(gone(&tag));
    assert_eq!(groups_of(&place), Vec::<String>::new());
}

#[tokio::test]
async fn orphans_do_not_stay_zombies() {
    let script = "for n in $(seq 200); do (true & ) ; done; sleep 0.2; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
    Place::new().sh(script).await.ended(&JailEnd::Exited(0)).wrote("0");
}

#[tokio::test]
async fn output_is_counted_and_its_head_kept() {
    let place = Place::new();
    let mut spec = place.spec(&["bash", "-c", "printf 12345; head -c 200000 /dev/zero >&2; exit 4"]);
    spec.limits.output = 100_000;
    let ran = place.run(spec).await;
    ran.ended(&JailEnd::Exited(4)).wrote("12345");
    assert_eq!((ran.report.output_bytes, ran.report.output_truncated), (200_005, true));
    assert_eq!(ran.stdout.len() + ran.stderr.len(), 100_000);

    let mut spec = place.spec(&["bash", "-c", r"printf '\xff\xfe\e]0;x\a'; printf 12"]);
    spec.limits.output = 10;
    let report = place.run(spec).await.report;
    assert_eq!((report.output_bytes, report.output_truncated), (10, false));
}

#[tokio::test]
async fn a_flood_is_ended() {
    let place = Place::new();
    let mut spec = place.spec(&["bash", "-c", "cat /dev/zero & cat /dev/zero >&2"]);
    spec.limits.output = 4 * MIB;
    // Its output ends it, on a machine that is emulated too.
    spec.limits.timeout = Duration::from_secs(100);
    let before = resident();
    let ran = place.run(spec).await;
    ran.ended(&JailEnd::OutputLimit);
    assert!(ran.report.output_truncated && ran.report.output_bytes > 256 * MIB, "{:?}", ran.report);
    assert_eq!((ran.stdout.len() + ran.stderr.len()) as u64, 4 * MIB);
    assert!(resident() < before + 64 * MIB);
}

#[tokio::test]
async fn a_reader_that_is_slow_or_gone_holds_nothing_up() {
    let place = Place::new();
    let flood = ["bash", "-c", "head -c 3000000 /dev/zero; echo end >&2"];
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let report = place.jails.run(place.spec(&flood), sender, CancellationToken::new()).await.unwrap();
    assert_eq!(report.end, JailEnd::Exited(0));

    // Nobody reads until it is over.
    let mut spec = place.spec(&flood);
    spec.limits.timeout = Duration::from_secs(3);
    let (sender, mut receiver) = mpsc::channel(1);
    let report = place.jails.run(spec, sender, CancellationToken::new()).await.unwrap();
    assert_eq!((report.end, report.output_truncated), (JailEnd::Exited(0), true));
    assert!(report.wall < Duration::from_secs(2), "{:?}", report.wall);
    assert!(receiver.recv().await.is_some());
}

#[tokio::test]
async fn standard_input_is_given_and_then_closed() {
    let place = Place::new();
    let mut spec = place.spec(&["bash", "-c", "cat; echo \" $?\""]);
    spec.stdin = Bytes::from("x".repeat(300_000)).into();
    let ran = place.run(spec).await;
    ran.ended(&JailEnd::Exited(0));
    assert_eq!(ran.stdout.len(), 300_003);
    place.sh("cat | wc -c").await.wrote("0");
}

/// Bytes of memory of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

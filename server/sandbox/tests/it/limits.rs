//! What a program may use at most.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use domain::limits::MIB;
use ports::sandbox::{JailEnd, JailSpec, Stdin};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::heard;
use crate::jail::{self, Place, all_groups_in, all_groups_of, groups_of};
use crate::probe;

fn with_memory(mut spec: JailSpec, mib: u64) -> JailSpec {
    spec.limits.memory = mib * MIB;
    spec
}

#[tokio::test]
async fn fork_bombs_fill_their_own_jail_only() {
    heard::listen();
    let place = Place::new();
    let bombs: [&[&str]; 3] = [
        &["bash", "-c", "bomb() { bomb | bomb & }; echo up; bomb; while :; do :; done"],
        &[
            "/usr/bin/env",
            "python3",
            "-c",
            "import os\nprint('up', flush=True)\nwhile True:\n try: os.fork()\n except OSError: pass",
        ],
        &["/work/probe", "bomb"],
    ];
    for (number, bomb) in bombs.into_iter().enumerate() {
        let mut spec = probe::spec(&place, &[]);
        spec.name = format!("bomb-{number}-{}", spec.name);
        let name = spec.name.clone();
        spec.command = bomb.iter().map(ToString::to_string).collect();
        spec.limits.timeout = Duration::from_millis(700);
        spec.limits.processes = 40;
        let (up, is_up) = oneshot::channel();
        let jail = jail::run_telling(&place.jails, spec, CancellationToken::new(), up);
        let neighbour = async {
            is_up.await.unwrap();
            place.sh("echo fine").await
        };
        let (bombed, neighbour) = tokio::join!(jail, neighbour);
        bombed.unwrap().ended(&JailEnd::TimedOut);
        let late = heard::number(&name, "jail.late_ms").unwrap();
        assert!(late <= 1000, "{bomb:?} was ended {late} ms after its limit");
        neighbour.ended(&JailEnd::Exited(0)).wrote("fine");
        place.sh("echo again").await.wrote("again");
        assert_eq!(groups_of(&place), Vec::<String>::new());
    }
}

#[tokio::test]
async fn control_groups_go_from_one_jail_to_the_next_and_nothing_with_them() {
    let place = Place::with(|config| config.prepared = 0);
    let python = |script: &str, mib| with_memory(place.spec(&["python3", "-c", script]), mib);
    let hog = place.run(python("x = bytearray(150 << 20); sum(range(10 ** 7))", 256)).await;
    assert!(hog.report.memory_peak > 150 * MIB, "{hog:?}");
    let groups = all_groups_of(&place);
    assert!(!groups.is_empty());
    let next = place.sh("true").await;
    assert!(next.report.memory_peak < 100 * MIB, "{next:?}");
    assert!(next.report.cpu < hog.report.cpu, "{next:?} after {hog:?}");
    assert_eq!(all_groups_of(&place), groups);
    // Another amount of memory is another group, and both are there for the next.
    place.run(python("x = bytearray(150 << 20)", 100)).await.ended(&JailEnd::OutOfMemory);
    let more = all_groups_of(&place);
    assert!(more.len() > groups.len(), "{more:?}");
    place.run(python("x = bytearray(150 << 20)", 256)).await.ended(&JailEnd::Exited(0));
    assert_eq!(all_groups_of(&place).len(), more.len());
    let Place { home, jails } = place;
    drop(jails);
    assert_eq!(all_groups_in(home.path()), Vec::<String>::new());
}

#[tokio::test]
async fn processes_are_as_many_as_allowed() {
    let place = Place::new();
    let mut spec =
        place.spec(&["bash", "-c", "for n in $(seq 50); do sleep 5 & done 2>/dev/null; jobs -p | wc -l"]);
    spec.limits.processes = 20;
    let ran = place.run(spec).await;
    let count: u32 = ran.stdout.trim().parse().unwrap_or(0);
    assert!(count <= 20, "{ran:?}");
}

#[tokio::test]
async fn scratch_space_is_memory() {
    let place = Place::new();
    let fill = |path: &str| {
        place.spec(&[
            "bash",
            "-c",
            &format!(
                "cat /dev/zero > {path}/x; echo full; df -m {path} | tail -1 | tr -s ' ' | cut -d' ' -f2"
            ),
        ])
    };
    for (path, share) in [("/tmp", 2), ("/dev/shm", 4), ("/home/agent", 4)] {
        let ran = place.run(with_memory(fill(path), 128)).await;
        ran.ended(&JailEnd::Exited(0)).wrote(&format!("full\n{}", 128 / share));
    }
    let mut everywhere =
        place.spec(&["bash", "-c", "for d in /tmp /dev/shm $HOME; do cat /dev/zero > $d/x; done; cat"]);
    everywhere.stdin = Stdin::nothing();
    place.run(with_memory(everywhere, 64)).await.ended(&JailEnd::OutOfMemory);
    place.run(with_memory(probe::spec(&place, &["hog-memfd"]), 64)).await.ended(&JailEnd::OutOfMemory);
}

/// Memory of the kernel that a program can fill from outside its own.
#[tokio::test]
async fn what_the_kernel_keeps_for_a_program_is_its_memory() {
    let place = Place::new();
    place.run(with_memory(probe::spec(&place, &["hog-shm"]), 64)).await.ended(&JailEnd::OutOfMemory);
    // There is a bound for each user as well, which may come first.
    let ran = place.run(with_memory(probe::spec(&place, &["hog-pipes"]), 32)).await;
    assert!(matches!(ran.report.end, JailEnd::OutOfMemory | JailEnd::Exited(0)), "{ran:?}");
    // Whoever is killed for it finishes the call that it is in, in which nothing is counted any more.
    assert!(ran.report.memory_peak <= (32 + 64) * MIB, "{ran:?}");
}

/// Fills the workspace; what the machine has left shrinks by hardly more than the quota.
async fn check_full(script: &str, quota: u64) {
    let place = Place::new();
    let mut spec = probe::spec(&place, &[]);
    spec.command = ["bash", "-c", script].map(str::to_owned).to_vec();
    spec.limits.disk = quota;
    spec.limits.timeout = Duration::from_secs(60);
    let workspace = spec.workspace.clone();
    let ran = place.run(spec).await;
    assert_eq!(ran.report.end, JailEnd::DiskFull, "{script}: {ran:?}");
    // As much as is written between two looks, on a fast disk.
    let taken = taken(&workspace);
    assert!(taken <= quota + 256 * MIB, "{taken} bytes");
}

/// Bytes of disk below a directory.
fn taken(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| {
            let at = std::fs::symlink_metadata(entry.path()).unwrap();
            at.blocks() * 512 + if at.is_dir() { taken(&entry.path()) } else { 0 }
        })
        .sum()
}

#[tokio::test]
async fn a_full_workspace_has_its_own_end() {
    let quota = 64 * MIB;
    check_full("cat /dev/zero > x", quota).await;
    check_full("exec dd if=/dev/zero of=x bs=1M status=none", quota).await;
    check_full("n=0; while :; do n=$((n+1)); head -c 1000000 /dev/zero > $n; done", quota).await;
    check_full("mkdir -p a/b/c; cd a/b/c; for n in $(seq 9); do cat /dev/zero > $n & done; wait", quota)
        .await;
    check_full("exec truncate -s 1T x", quota).await;
    check_full("/work/probe nameless", quota).await;
}

#[tokio::test]
async fn a_million_files_are_a_full_workspace_too() {
    // Four thousand of them, however slow the disk.
    check_full("seq 1000000 | xargs -P 2 touch", 4 * MIB).await;
}

/// Spins for so many seconds and says how much processor time it had meanwhile.
pub(crate) fn spin(seconds: u32) -> String {
    format!(
        "import time\nused, begun = time.process_time(), time.monotonic()\n\
         while time.monotonic() - begun < {seconds}: pass\nprint(time.process_time() - used)"
    )
}

#[tokio::test]
async fn processor_time_is_shared_out() {
    let place = Place::new();
    let mut spec = place.spec(&["python3", "-c", &spin(1)]);
    spec.limits.cpu_millis = 200;
    // A fifth of an emulated processor takes long to start an interpreter.
    spec.limits.timeout = Duration::from_secs(100);
    let ran = place.run(spec).await;
    let used: f64 = ran.stdout.trim().parse().unwrap();
    assert!(used < 0.5 && used > 0.01, "{ran:?}");
    assert!(ran.report.cpu.as_secs_f64() >= used, "{ran:?}");
}

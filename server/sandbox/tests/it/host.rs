//! The sandbox on this machine: what it says of itself, how fast it is, and as an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use ports::sandbox::{JailEnd, ProtectionState, Sandbox};

use crate::jail::{Place, groups_of, nsjail, open_directory};

#[tokio::test]
async fn protections_are_found_by_looking() {
    let place = Place::new();
    let protections = place.jails.protections().await;
    for protection in &protections {
        assert_ne!(protection.state, ProtectionState::Required, "{protections:#?}");
        assert_eq!(
            protection.remedy.is_some(),
            protection.state == ProtectionState::Missing,
            "{protection:?}"
        );
    }
    let names: Vec<_> = protections.iter().map(|protection| protection.name.as_str()).collect();
    let expect = [
        "nsjail",
        "namespaces",
        "network",
        "door",
        "system calls",
        "privileges",
        "capabilities",
        "process list",
        "own user",
        "memory limit",
        "process limit",
        "processor limit",
        "disk quota",
        "prepared jails",
        "program bash",
        "program git",
        "program node",
        "program python3",
    ];
    assert_eq!(names, expect);
}

/// None lost, none slow; a run that had to wait for nsjail's own clock would take a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_runs_eight_at_a_time() {
    let place = std::sync::Arc::new(Place::new());
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(8));
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (place, permits) = (place.clone(), permits.clone());
        runs.spawn(async move {
            let _permit = permits.acquire().await.unwrap();
            let begun = tokio::time::Instant::now();
            place.run(place.spec(&["/bin/true"])).await.ended(&JailEnd::Exited(0));
            begun.elapsed()
        });
    }
    let mut times: Vec<Duration> = runs.join_all().await;
    times.sort_unstable();
    assert_eq!(times.len(), 300);
    assert!(times[150] < Duration::from_millis(500), "median {:?}", times[150]);
    // On an idle machine half of it; other tests run beside this one.
    assert!(times[299] < Duration::from_secs(3), "slowest {:?}", times[299]);
    assert_eq!(groups_of(&place), Vec::<String>::new());
}

/// The same policy by nsjail alone gives the same jail.
#[tokio::test]
async fn the_raw_jail_is_the_same_jail() {
    let place = Place::new();
    let raw =
        place.jails.raw_command(&place.spec(&["bash", "-c", "echo $HOME; id -u; ls /; exit 7"])).unwrap();
    let file = place.home.path().join("jail.cfg");
    fs::write(&file, &raw.configuration).unwrap();
    #[expect(clippy::disallowed_methods, reason = "nsjail without the sandbox is what is compared")]
    let output = Command::new(&raw.nsjail).arg("--config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let ran = place.sh("echo $HOME; id -u; ls /; exit 7").await;
    ran.ended(&JailEnd::Exited(7)).wrote(String::from_utf8_lossy(&output.stdout).trim_end());
}

#[tokio::test]
async fn a_policy_is_known_by_its_hash() {
    let (one, other) = (Place::new(), Place::new());
    let first = one.sh("true").await.report.policy;
    assert_eq!(first.len(), 64);
    let mut spec = other.spec(&["false"]);
    spec.env.insert("A".into(), "b".into());
    spec.limits.memory *= 2;
    assert_eq!(other.run(spec).await.report.policy, first);
}

/// All other tests once more, as a user with no rights; when that is who runs them, they just ran.
#[tokio::test]
async fn an_ordinary_user_gets_a_sandbox_too() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    const USER: u32 = 12_345;
    let home = open_directory();
    let program = home.path().join("it");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let jailer = home.path().join("nsjail");
    fs::copy(nsjail(), &jailer).unwrap();
    let scratch = home.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    std::os::unix::fs::chown(&scratch, Some(USER), Some(USER)).unwrap();
    let run = |arguments: &[&str]| {
        #[expect(clippy::disallowed_methods, reason = "another user is another process")]
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("TMPDIR", &scratch)
            .env("HOME", &scratch)
            .env("SPELLBOOK_NSJAIL", &jailer);
        let output = command.uid(USER).gid(USER).current_dir(&scratch).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    };
    // It counts the children of its process, and must have that for itself.
    const ALONE: &str = "killed::no_jail_leaves_a_zombie_to_its_server";
    run(&["--exact", ALONE]);
    let all = [
        "door::",
        "ends::",
        "image::",
        "inside::",
        "probe::",
        "refused::",
        "host::protections",
        "host::the_raw",
    ];
    // What needs a limit that only a control group can set.
    let most = ["killed::", "--skip", ALONE, "--skip", "memory_of_a_child", "--test-threads", "2"];
    run(&[&all[..], &most[..]].concat());
}

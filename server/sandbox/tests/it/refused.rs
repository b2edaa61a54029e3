//! Where no jail can be made, nothing runs, and the error says what to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use ports::sandbox::{JailEnd, JailSpec, ProtectionState, Sandbox, SandboxError};
use sandbox::Runtime;

use crate::jail::Place;

#[derive(Debug, PartialEq)]
enum Kind {
    Unavailable,
    Refused,
    SetUp,
}

/// The program of the jail would leave a file behind; it must not.
async fn check(place: &Place, change: impl FnOnce(&mut JailSpec), expect: Kind, words: &str) {
    let mut spec = place.spec(&["bash", "-c", "touch /work/ran"]);
    let workspace = spec.workspace.clone();
    change(&mut spec);
    let error = place.try_run(spec).await.expect_err("a jail was made");
    let kind = match error {
        SandboxError::Unavailable(_) => Kind::Unavailable,
        SandboxError::Refused(_) => Kind::Refused,
        SandboxError::SetUp(_) => Kind::SetUp,
    };
    assert_eq!(kind, expect, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert!(!workspace.join("ran").exists());
}

#[tokio::test]
async fn without_nsjail_nothing_runs() {
    let place = Place::with(|config| config.nsjail = "/nonexistent/nsjail".into());
    check(&place, |_| {}, Kind::Unavailable, "/nonexistent/nsjail").await;
    let protections = place.jails.protections().await;
    assert_eq!(protections[0].state, ProtectionState::Required, "{protections:?}");
    assert!(protections[0].remedy.is_some());

    // Something else in its place.
    let place = Place::with(|config| config.nsjail = "/bin/true".into());
    check(&place, |_| {}, Kind::SetUp, "nsjail said nothing").await;
    let place = Place::with(|config| config.nsjail = "/etc/passwd".into());
    check(&place, |_| {}, Kind::Unavailable, "could not be started").await;
}

/// A machine for this thread alone, changed by `change`: mounts of its own. For root only.
fn on_another_machine(change: impl FnOnce() + Send + 'static, then: impl AsyncFnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let thread = std::thread::spawn(move || {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        change();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(then());
    });
    thread.join().unwrap();
}

/// As containers mask it.
#[test]
fn with_a_masked_proc_nothing_runs() {
    use nix::mount::{MsFlags, mount};
    let mask =
        || mount(Some("/dev/null"), "/proc/uptime", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    on_another_machine(mask, async || {
        let place = Place::new();
        check(&place, |_| {}, Kind::Unavailable, "/proc of this machine is masked").await;
        let protections = place.jails.protections().await;
        let jail = protections.iter().find(|protection| protection.name == "jail").unwrap();
        assert_eq!(jail.state, ProtectionState::Required);
        assert!(jail.detail.contains("masked"), "{jail:?}");
    });
}

/// Where no control group can be made runs go on, and the report says what is not in force.
#[test]
fn without_control_groups_the_report_says_so() {
    use nix::mount::{MsFlags, mount};
    let hide =
        || mount(Some("x"), "/sys/fs/cgroup", Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>).unwrap();
    on_another_machine(hide, async || {
        let place = Place::new();
        place.sh("echo runs").await.wrote("runs");
        let protections = place.jails.protections().await;
        for name in ["memory limit", "process limit", "processor limit"] {
            let limit = protections.iter().find(|protection| protection.name == name).unwrap();
            assert_eq!(limit.state, ProtectionState::Missing, "{limit:?}");
            assert!(limit.remedy.is_some());
        }
        let required = protections.iter().find(|protection| protection.state == ProtectionState::Required);
        assert_eq!(required, None);
    });
}

const POOR: &str = "SPELLBOOK_TEST_POOR";

/// In a user namespace that may have none below it, as a machine that forbids them to all.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the sandbox of another machine is another process")]
async fn without_user_namespaces_nothing_runs() {
    if std::env::var(POOR).is_ok() {
        let place = Place::new();
        check(&place, |_| {}, Kind::Unavailable, "the kernel makes no namespaces for this user").await;
        return;
    }
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" --exact refused::without_user_namespaces_nothing_runs";
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", forbid]).arg(std::env::current_exe().unwrap());
    command.env(POOR, "1").env("SPELLBOOK_NSJAIL", crate::jail::nsjail());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}\n{output:?}");
}

#[tokio::test]
async fn a_broken_policy_is_no_policy() {
    let place = Place::new();
    let roots = place.home.path().join("state/roots");
    let policy = fs::read_dir(&roots).unwrap().next().unwrap().unwrap().path().join("seccomp.kafel");
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&policy, "POLICY a { ALLOW { read } } USE b DEFAULT KILL").unwrap();
    check(&place, |_| {}, Kind::SetUp, "nsjail said").await;
    fs::remove_file(&policy).unwrap();
    check(&place, |_| {}, Kind::SetUp, "nsjail said").await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words() {
    let place = Place::new();
    let refused =
        |change: fn(&mut JailSpec), words: &'static str| check(&place, change, Kind::Refused, words);
    refused(
        |spec| spec.command = vec!["no-such-program".into()],
        "there is no program `no-such-program` in the jail",
    )
    .await;
    refused(|spec| spec.command = vec!["./x".into()], "there is no program `./x`").await;
    refused(|spec| spec.command = vec!["/etc/passwd".into()], "may not be executed").await;
    refused(|spec| spec.workspace = "/nonexistent".into(), "the workspace /nonexistent: No such file").await;
    refused(|spec| spec.workspace = "relative".into(), "not an absolute path").await;
    refused(
        |spec| spec.directory = "missing".into(),
        "the directory `missing` of the workspace: No such file",
    )
    .await;
    refused(|spec| spec.directory = "../..".into(), "leaves the workspace").await;
    refused(|spec| spec.directory = "/etc".into(), "leaves the workspace").await;
    refused(
        |spec| {
            symlink("/etc", spec.workspace.join("etc")).unwrap();
            spec.directory = "etc".into();
        },
        "leaves the workspace",
    )
    .await;
    refused(
        |spec| {
            let real = spec.workspace.clone();
            spec.workspace = real.with_extension("link");
            symlink(&real, &spec.workspace).unwrap();
        },
        "the workspace",
    )
    .await;
    refused(|spec| spec.runtime = Some("cobol".into()), "there is no runtime `cobol`; there are bash").await;
    refused(|spec| spec.limits.memory = 1 << 50, "ceiling: memory").await;
}

#[tokio::test]
async fn one_name_is_one_jail() {
    let place = Place::new();
    let mut one = place.spec(&["sleep", "0.5"]);
    one.name = "same".into();
    let other = check(&place, |spec| spec.name = "same".into(), Kind::Refused, "a jail named `same` already");
    let (one, ()) = tokio::join!(place.run(one), other);
    one.ended(&JailEnd::Exited(0));
}

#[tokio::test]
async fn a_workspace_that_the_jails_user_cannot_reach_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        // An ordinary user reaches what it owns.
        return;
    }
    let place = Place::new();
    let closed = place.home.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(closed.join("work")).unwrap();
    check(&place, |spec| spec.workspace = closed.join("work"), Kind::Refused, "chmod o+x").await;
}

#[tokio::test]
async fn a_state_directory_has_one_server() {
    let place = Place::new();
    let config = sandbox::Config::new(crate::jail::nsjail(), place.home.path().join("state"));
    let error = sandbox::Jails::open(config).expect_err("two servers with one state directory");
    assert!(error.to_string().contains("another server uses"), "{error}");
}

#[tokio::test]
async fn a_runtime_is_a_directory_too() {
    let image = crate::jail::open_directory();
    for directory in ["bin", "etc", "proc", "tmp"] {
        fs::create_dir(image.path().join(directory)).unwrap();
    }
    fs::write(image.path().join("etc/os-release"), "ID=image\n").unwrap();
    fs::write(image.path().join("etc/passwd"), "somebody\n").unwrap();
    // A whole toolchain in one static program: our own first process can start itself.
    let place = Place::with(|config| {
        config.runtimes.insert("image".into(), Runtime::Directory(image.path().to_owned()));
        config.runtimes.insert("gone".into(), Runtime::Directory("/nonexistent".into()));
    });
    assert!(place.jails.runtimes().contains(&"image".to_owned()));
    assert!(!place.jails.runtimes().contains(&"gone".to_owned()));
    check(&place, |spec| spec.runtime = Some("gone".into()), Kind::Refused, "runtime `gone`").await;
    // It has no bash, though the host does.
    check(&place, |spec| spec.runtime = Some("image".into()), Kind::Refused, "there is no program `bash`")
        .await;

    let mut spec = crate::probe::spec(&place, &[]);
    crate::probe::build_static(&image.path().join("bin/show"));
    spec.command = ["show", "/etc/os-release", "/etc/passwd"].map(str::to_owned).to_vec();
    spec.runtime = Some("image".into());
    let ran = place.run(spec).await;
    ran.ended(&JailEnd::Exited(0));
    assert!(ran.stdout.starts_with("ID=image\nroot:x:0:0"), "{ran:?}");
}

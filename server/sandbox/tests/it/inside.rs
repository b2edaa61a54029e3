//! What a program sees.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use ports::sandbox::{JailEnd, OutputChunk, Sandbox, Stdin};
use tokio_util::sync::CancellationToken;

use crate::jail::Place;

async fn check(script: &str, expect: &str) {
    Place::new().sh(script).await.ended(&JailEnd::Exited(0)).wrote(expect);
}

#[tokio::test]
async fn descriptors_are_three() {
    // A database, a socket and a secret that the server has open, none of them closed on exec.
    let _file = inheritable(if nix::unistd::geteuid().is_root() { "/etc/shadow" } else { "/etc/passwd" });
    let _more: Vec<_> = (0..50).map(|_| inheritable("/etc/passwd")).collect();
    // 255 is bash's own script, 3 the directory that ls reads.
    check("ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3").await;
    check("readlink /proc/self/fd/0", "/dev/null").await;
    check(
        "ls /proc/1/fd 2>&1 | grep -c 'Permission denied'; cat /proc/1/environ 2>&1 | grep -c 'ermission'",
        "1\n1",
    )
    .await;
    check("echo x > /dev/stdout; echo y > /proc/self/fd/1", "x\ny").await;
}

fn inheritable(path: &str) -> fs::File {
    let file = fs::File::open(path).unwrap();
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    file
}

#[tokio::test]
async fn the_environment_is_the_list_and_no_more() {
    let place = Place::new();
    let mut spec = place.spec(&["/usr/bin/env"]);
    let odd = "a\"b'c\\d\ne ü $HOME `x` \u{1}";
    spec.env = [("ODD".to_owned(), odd.to_owned()), ("EMPTY".to_owned(), String::new())].into();
    let ran = place.run(spec).await;
    let mut expect = vec![
        "EMPTY=".to_owned(),
        "HOME=/home/agent".to_owned(),
        "LANG=C.UTF-8".to_owned(),
        "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
        "TMPDIR=/tmp".to_owned(),
        "USER=agent".to_owned(),
        format!("ODD={odd}"),
    ];
    expect.sort();
    let mut found = ran.stdout.replace("\ne ü", "\0e ü");
    found.truncate(found.trim_end_matches('\n').len());
    let mut found: Vec<_> = found.split('\n').map(|line| line.replace('\0', "\n")).collect();
    found.sort();
    assert_eq!(found, expect);
}

/// Each waits for what the other leaves, and sees that it is the same user's.
#[tokio::test]
async fn two_at_once_may_have_one_workspace() {
    let place = Place::new();
    let meets = |mine: &str, others: &str| {
        let script = format!(
            "echo {mine} > {mine}; until [ -s {others} ]; do sleep 0.01; done; cp {others} {mine}-saw; [ -O {others} ]"
        );
        place.spec(&["bash", "-c", &script])
    };
    let (one, mut other) = (meets("a", "b"), meets("b", "a"));
    other.workspace.clone_from(&one.workspace);
    let (work, sender) = (one.workspace.clone(), tokio::sync::mpsc::channel(64).0);
    let run = |spec| place.jails.run(spec, sender.clone(), CancellationToken::new());
    let (one, other) = tokio::join!(run(one), run(other));
    assert_eq!((one.unwrap().end, other.unwrap().end), (JailEnd::Exited(0), JailEnd::Exited(0)));
    assert_eq!(fs::read(work.join("a-saw")).unwrap(), b"b\n");
    assert_eq!(fs::read(work.join("b-saw")).unwrap(), b"a\n");
    // Nobody is left of them, whoever the next one is.
    place.sh("touch mine; cat mine").await.ended(&JailEnd::Exited(0));
}

/// What is written is read as it comes, and its end is seen.
#[tokio::test]
async fn a_pipe_is_standard_input() {
    use std::io::Write as _;
    let place = Place::new();
    let (pipe, into) = std::io::pipe().unwrap();
    let mut spec =
        place.spec(&["bash", "-c", "read one; echo \"$one\"; read two < /dev/stdin; echo \"$two\"; cat"]);
    spec.stdin = Stdin::Pipe(std::sync::Arc::new(pipe.into()));
    let (sender, mut output) = tokio::sync::mpsc::channel::<OutputChunk>(64);
    let talk = async move {
        let (mut into, mut heard) = (into, String::new());
        for said in ["one", "two", "three"] {
            writeln!(into, "{said}").unwrap();
            while !heard.ends_with(&format!("{said}\n")) {
                heard.push_str(std::str::from_utf8(&output.recv().await.unwrap().bytes).unwrap());
            }
        }
        heard
    };
    let running = place.jails.run(spec, sender, CancellationToken::new());
    let (report, heard) = tokio::join!(running, talk);
    assert_eq!((report.unwrap().end, heard.as_str()), (JailEnd::Exited(0), "one\ntwo\nthree\n"));
}

#[tokio::test]
async fn arguments_arrive_as_they_are() {
    let place = Place::new();
    let spec = place.spec(&["printf", "<%s>", "a b", "", "\"} exec_bin {", "$X\n", "-- ü"]);
    place.run(spec).await.wrote("<a b><><\"} exec_bin {><$X\n><-- ü>");
}

#[tokio::test]
async fn it_is_nobody_and_may_nothing() {
    check("id -u; id -g; whoami", "1000\n1000\nagent").await;
    let status = "grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t' | tr '\\n' ' '";
    check(
        status,
        "CapInh:0000000000000000 CapPrm:0000000000000000 CapEff:0000000000000000 CapBnd:0000000000000000 \
         CapAmb:0000000000000000 NoNewPrivs:1 Seccomp:2",
    )
    .await;
    // The first process, the shell and `ls`; in a pipeline the others may be there or not yet.
    check(
        "cat /proc/sys/kernel/hostname; ls /proc > /tmp/listed; grep -c '^[0-9]' /tmp/listed; \
         tr '\\0' ' ' < /proc/1/cmdline | cut -c1-17",
        "jail\n3\n/.spellbook/init",
    )
    .await;
}

#[tokio::test]
async fn what_is_read_only_stays_so() {
    let script = r#"
        for d in / /usr /usr/bin /etc /dev /home /.spellbook /proc /proc/sys /proc/sys/kernel; do
            (echo x > $d/spellbook-test) 2>/dev/null && echo "wrote $d"
            mkdir $d/spellbook-test 2>/dev/null && echo "made $d"
        done
        find / -path /usr -prune -o -path /proc -prune -o -writable -not -type l -print 2>/dev/null | sort | tr '\n' ' '
        for f in /proc/sys/kernel/hostname /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/self/oom_score; do
            (echo 1 > $f) 2>/dev/null && echo "wrote $f"
        done
        true"#;
    let writable = "/dev/full /dev/null /dev/random /dev/shm /dev/urandom /dev/zero /home/agent /tmp /work";
    check(script, writable).await;
    check("for d in /work /tmp /dev/shm $HOME; do echo x > $d/y && cat $d/y; done", "x\nx\nx\nx").await;
    check("cp /bin/true /dev/shm/t; /dev/shm/t 2>/dev/null || echo refused", "refused").await;
    check("cp /bin/true $HOME/t; $HOME/t && cp /bin/true /tmp/t && /tmp/t && echo runs", "runs").await;
}

#[tokio::test]
async fn what_tells_of_the_machine_is_empty() {
    let script = "for f in keys key-users kcore kmsg kallsyms cmdline timer_list iomem config.gz; do \
                  head -c 10 /proc/$f 2>/dev/null; done; ls /sys /run /root /boot /opt /var /mnt 2>/dev/null; true";
    check(script, "").await;
    check("cat /etc/shadow 2>/dev/null; cut -d: -f1 /etc/passwd | tr '\\n' ' '; ls /etc/hostname 2>/dev/null; true", "root agent nobody").await;
    check("ls -A /work /tmp /dev/shm $HOME", "/dev/shm:\n\n/home/agent:\n\n/tmp:\n\n/work:").await;
    check(
        "cut -d' ' -f5 /proc/self/mountinfo | grep -vE '^/(usr|proc|dev|tmp|work|home/agent)?(/|$)'; true",
        "",
    )
    .await;
}

#[tokio::test]
async fn two_at_once_share_nothing() {
    let place = Place::new();
    let script = |number: usize| {
        format!(
            "for d in /tmp /dev/shm $HOME /work; do echo {number} > $d/mine; done
             (exec -a spellbook-{number} sleep 5) & ipcmk -M 4096 >/dev/null; sleep 0.5
             cat /tmp/* /dev/shm/* $HOME/* /work/*
             ls /proc > listed; grep -c '^[0-9]' listed; ipcs -m | grep -c 0x"
        )
    };
    let (one, two) = (script(1), script(2));
    let (one, two) = tokio::join!(place.sh(&one), place.sh(&two));
    // The first process, the shell, `sleep` and `ls`.
    one.wrote("1\n1\n1\n1\n4\n1");
    two.wrote("2\n2\n2\n2\n4\n1");
    if nix::unistd::geteuid().is_root() {
        // Different users outside: whoever broke out of one could not signal the other.
        let owner = |place: &Place| {
            let mut owners: Vec<_> = fs::read_dir(place.home.path())
                .unwrap()
                .flatten()
                .filter_map(|entry| {
                    Some(std::os::unix::fs::MetadataExt::uid(&fs::metadata(entry.path().join("mine")).ok()?))
                })
                .collect();
            owners.sort_unstable();
            owners.dedup();
            owners
        };
        let owners = owner(&place);
        assert!(owners.len() == 2 && !owners.contains(&0), "{owners:?}");
    }
}

#[tokio::test]
async fn the_workspace_is_shared_and_links_lead_nowhere() {
    let place = Place::new();
    let mut spec = place.spec(&[
        "bash",
        "-c",
        "cat a/in; echo out > a/out; cat up 2>/dev/null; ls -ln | grep -c ' 1000 1000 '; pwd",
    ]);
    fs::create_dir(spec.workspace.join("a")).unwrap();
    fs::write(spec.workspace.join("a/in"), "in\n").unwrap();
    fs::set_permissions(spec.workspace.join("a/in"), fs::Permissions::from_mode(0o600)).unwrap();
    let secret = place.home.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    symlink(&secret, spec.workspace.join("up")).unwrap();
    spec.directory = ".".into();
    let workspace = spec.workspace.clone();
    place.run(spec).await.ended(&JailEnd::Exited(0)).wrote("in\n2\n/work");
    assert_eq!(fs::read_to_string(workspace.join("a/out")).unwrap(), "out\n");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(secret).unwrap());
    assert_eq!(owner, nix::unistd::geteuid().as_raw());
}

#[tokio::test]
async fn it_starts_where_it_is_told() {
    let place = Place::new();
    let mut spec = place.spec(&["pwd"]);
    fs::create_dir_all(spec.workspace.join("a b/c")).unwrap();
    spec.directory = "a b/c".into();
    place.run(spec).await.wrote("/work/a b/c");
}

#[tokio::test]
async fn mounts_below_usr_are_read_only_too() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can mount something there; the ordinary user's pass leaves this to root's.
        return;
    }
    // A thread with mounts of its own, so that the machine keeps its /usr.
    let thread = std::thread::spawn(|| {
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("x"), "/usr/src", Some("tmpfs"), MsFlags::empty(), Some("mode=1777")).unwrap();
        fs::write("/usr/src/below", "x").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            check("ls /usr/src; echo x > /usr/src/y || echo refused", "below\nrefused").await;
        });
    });
    thread.join().unwrap();
}

#[tokio::test]
async fn interpreters_of_the_host_run() {
    let place = Place::new();
    for (runtime, program) in [
        ("bash", "echo $((6*7))"),
        ("python", "python3 -c 'print(6*7)'"),
        ("node", "node -e 'console.log(6*7)'"),
    ] {
        let mut spec = place.spec(&["bash", "-c", program]);
        spec.runtime = Some(runtime.to_owned());
        spec.limits.memory = 1 << 30;
        spec.limits.timeout = Duration::from_secs(60);
        place.run(spec).await.ended(&JailEnd::Exited(0)).wrote("42");
    }
    place.sh("git init -q x && cd x && git -c user.name=a -c user.email=b commit -q --allow-empty -m m && git log --format=%s").await.wrote("m");
}

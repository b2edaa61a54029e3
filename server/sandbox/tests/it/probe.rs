//! A hostile program in C, compiled once, and the table of what becomes of each thing it tries.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use ports::sandbox::{JailEnd, JailSpec};

use crate::jail::{Place, Ran};

/// The program on this machine. The linker that built these tests is a C compiler, so there is one.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("spellbook-probe-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let source = directory.join("probe.c");
    std::fs::write(&source, include_str!("probe.c")).unwrap();
    let program = directory.join("probe");
    #[expect(clippy::disallowed_methods, reason = "the tests build their own hostile program")]
    let status = Command::new("cc").args(["-O1", "-w", "-o"]).args([&program, &source]).status();
    assert!(status.expect("cc, a C compiler").success());
    program
});

/// A jail that has the program in its workspace and runs it.
pub(crate) fn spec(place: &Place, arguments: &[&str]) -> JailSpec {
    let mut command = vec!["/work/probe"];
    command.extend(arguments);
    let spec = place.spec(&command);
    std::fs::copy(&*PROGRAM, spec.workspace.join("probe")).unwrap();
    spec
}

async fn table(arguments: &[&str]) -> Ran {
    let place = Place::new();
    let ran = place.run(spec(&place, arguments)).await;
    ran.ended(&JailEnd::Exited(0));
    ran
}

#[track_caller]
pub(crate) fn compare(found: &str, expect: &str) {
    let words = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| !line.is_empty()).collect()
    };
    let (found, expect) = (words(found), words(expect));
    let wrong: Vec<_> = expect.iter().filter(|line| !found.contains(line)).collect();
    let unexpected: Vec<_> = found.iter().filter(|line| !expect.contains(line)).collect();
    assert!(wrong.is_empty() && unexpected.is_empty(), "expected {wrong:#?}, found {unexpected:#?}");
}

#[tokio::test]
async fn every_call_gets_its_answer() {
    let found = table(&["calls"]).await.stdout;
    let portable = "
        unshare EPERM
        clone-user EPERM
        clone-net-high EPERM
        clone3 ENOSYS
        setns EPERM
        mount EPERM
        umount2 EPERM
        chroot EPERM
        pivot_root killed-31
        open_tree EPERM
        move_mount EPERM
        fsopen EPERM
        fsmount EPERM
        fspick EPERM
        mount_setattr EPERM
        name_to_handle_at EPERM
        open_by_handle_at killed-31
        ptrace EPERM
        ptrace-traceme EPERM
        process_vm_readv EPERM
        process_vm_writev EPERM
        pidfd_getfd EPERM
        kcmp EPERM
        keyctl EPERM
        add_key EPERM
        request_key EPERM
        bpf killed-31
        perf_event_open killed-31
        userfaultfd killed-31
        io_uring_setup ENOSYS
        io_uring_enter ENOSYS
        io_uring_register ENOSYS
        kexec_load killed-31
        init_module killed-31
        finit_module killed-31
        delete_module killed-31
        reboot killed-31
        swapon killed-31
        settimeofday killed-31
        clock_settime killed-31
        clock_adjtime EPERM
        acct killed-31
        syslog killed-31
        quotactl killed-31
        sethostname EPERM
        fanotify_init EPERM
        memfd_secret ENOSYS
        vhangup killed-31
        mbind EPERM
        fallocate EOPNOTSUPP
        mknod-device EPERM
        mknod-pipe ok
        personality-no-randomize ok
        personality-read-exec EPERM
        prctl-set-mm EPERM
        prctl-pdeathsig-none ok
        ioctl-tiocsti EPERM
        ioctl-tiocsti-high EPERM
        ioctl-tioclinux EPERM
        socket-unix ok
        socket-inet ok
        socket-inet-raw EPERM
        socket-inet6 ok
        socket-netlink-route ok
        socket-netlink-audit EAFNOSUPPORT
        socket-netlink-netfilter EAFNOSUPPORT
        socket-netlink-high EAFNOSUPPORT
        socket-packet EAFNOSUPPORT
        socket-vsock EAFNOSUPPORT
        socket-vsock-high EAFNOSUPPORT
        socket-alg EAFNOSUPPORT
        socket-bluetooth EAFNOSUPPORT
        socket-xdp EAFNOSUPPORT
        no-such-call ENOSYS
        setuid-root EINVAL
        kill-init ok
    ";
    let machine = "
        iopl killed-31
        ioperm killed-31
        modify_ldt EPERM
        int80-getpid killed-31
        x32-getpid ENOSYS
        x32-unshare ENOSYS
    ";
    let machine = if cfg!(target_arch = "x86_64") { machine } else { "" };
    compare(&found, &[portable, machine].concat());
}

/// What becomes of each attempt to reach something, wherever there is only a loopback interface.
pub(crate) const NO_NETWORK: &str = "
    tcp-out ENETUNREACH
    udp-out ENETUNREACH
    tcp-metadata ENETUNREACH
    tcp-private ENETUNREACH
    udp-broadcast ENETUNREACH
    udp-multicast ENETUNREACH
    tcp6-out ENETUNREACH
    udp6-out ENETUNREACH
    tcp6-loopback ECONNREFUSED
    tcp-loopback-other ECONNREFUSED
    icmp EACCES
    unix-host-abstract ECONNREFUSED
    netlink-add-route EPERM
    name-server EAI_NONAME
    ";

/// Runs the attempts, with servers on the host that must not be reached, and says what they found.
pub(crate) async fn network(change: impl FnOnce(JailSpec) -> JailSpec) -> String {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let name = format!("spellbook-test-{}-{port}", std::process::id());
    let _unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let place = Place::new();
    let ran = place.run(change(spec(&place, &["network", &port.to_string(), &name]))).await;
    ran.ended(&JailEnd::Exited(0));
    ran.stdout
}

#[tokio::test]
async fn nothing_answers_on_any_network() {
    let found = network(|spec| spec).await;
    compare(&found, &[NO_NETWORK, "tcp-door ECONNREFUSED"].concat());
}

#[tokio::test]
async fn a_forbidden_call_has_its_own_end() {
    let place = Place::new();
    place.run(spec(&place, &["forbidden"])).await.ended(&JailEnd::ForbiddenSystemCall);
}

/// A static `cat`, for root file systems without anything.
pub(crate) fn build_static(program: &std::path::Path) {
    let source = PROGRAM.with_file_name("show.c");
    let code = "#include <fcntl.h>\n#include <unistd.h>\nint main(int c, char **v) { char b[4096]; long n; \
                for (int i = 1; i < c; i++) { int f = open(v[i], O_RDONLY); \
                while ((n = read(f, b, sizeof b)) > 0) write(1, b, n); } return 0; }";
    std::fs::write(&source, code).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the tests build their own programs")]
    let status = Command::new("cc").args(["-static", "-w", "-o"]).arg(program).arg(&source).status();
    assert!(status.expect("cc, a C compiler").success());
}

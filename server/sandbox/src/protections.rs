//! What is in force on this machine, found out by making a jail and looking around in it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::limits::Limits;
use ports::sandbox::{
    Door, JailEnd, JailSpec, Network, OutputChunk, Protection, ProtectionState, Sandbox, SandboxError, Stdin,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::group::Controller;
use crate::jails::Jails;
use crate::runtime::visible;

use ProtectionState::{Active, Missing, Required};

/// Every protection, the required ones first.
pub(crate) async fn report(jails: &Jails) -> Vec<Protection> {
    let nsjail = nsjail(&jails.config.nsjail);
    let there = nsjail.state == Active;
    let mut report = vec![nsjail];
    if there {
        report.extend(inside(&look(jails).await));
    }
    report.push(user(jails));
    report.extend(
        [Controller::Memory, Controller::Pids, Controller::Cpu].map(|controller| limit(jails, controller)),
    );
    report.push(disk());
    report.push(prepared(jails));
    report.extend(["bash", "git", "node", "python3"].map(program));
    report
}

fn protection(
    name: &str,
    state: ProtectionState,
    detail: impl Into<String>,
    remedy: Option<&str>,
) -> Protection {
    Protection { name: name.to_owned(), state, detail: detail.into(), remedy: remedy.map(str::to_owned) }
}

fn nsjail(path: &Path) -> Protection {
    match nix::unistd::access(path, nix::unistd::AccessFlags::X_OK) {
        Ok(()) => protection("nsjail", Active, path.display().to_string(), None),
        Err(error) => protection(
            "nsjail",
            Required,
            format!("{}: {}", path.display(), error.desc()),
            Some("run ./x setup, or install nsjail and put it on the PATH or name it in SPELLBOOK_NSJAIL"),
        ),
    }
}

/// What a program in a jail prints: its status, its namespaces as `ls` shows them, who listens in its
/// network, how many processes it sees.
const TRIAL: &str = "cat /proc/self/status && ls -l /proc/self/ns && cat /proc/net/tcp && \
                     ls -d /proc/[0-9]* > /tmp/seen && echo Seen: $(wc -l < /tmp/seen)";

/// A door that nobody knocks on.
#[derive(Debug)]
struct Quiet;

impl Door for Quiet {
    fn open(&self, listener: TcpListener) -> std::io::Result<Box<dyn Send>> {
        Ok(Box::new(listener))
    }
}

/// What it printed.
async fn look(jails: &Jails) -> Result<String, SandboxError> {
    let _one = jails.trial.lock().await;
    let workspace = jails.config.state_dir.join("trial");
    let made = fs::create_dir(&workspace);
    if let Err(error) = made
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(SandboxError::SetUp(format!("{}: {error}", workspace.display())));
    }
    let spec = JailSpec {
        name: format!("trial-{}", std::process::id()),
        command: ["/bin/sh", "-c", TRIAL].map(str::to_owned).to_vec(),
        stdin: Stdin::nothing(),
        env: [].into(),
        workspace,
        directory: ".".into(),
        runtime: None,
        limits: Limits {
            timeout: Duration::from_secs(10),
            memory: Limits::DEFAULT.memory.min(jails.config.ceiling.memory),
            ..Limits::DEFAULT
        },
        network: Network::Door(Arc::new(Quiet)),
    };
    let (sender, mut receiver) = mpsc::channel::<OutputChunk>(64);
    let report = jails.run(spec, sender, CancellationToken::new());
    let read = async {
        let mut text = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            text.extend_from_slice(&chunk.bytes);
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let (report, text) = tokio::join!(report, read);
    match report?.end {
        JailEnd::Exited(0) => Ok(text),
        end => Err(SandboxError::SetUp(format!("the trial ended with {end:?}: {text}"))),
    }
}

const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

fn inside(trial: &Result<String, SandboxError>) -> Vec<Protection> {
    let text = match trial {
        Ok(text) => text,
        Err(error) => {
            return vec![protection(
                "jail",
                Required,
                format!("a trial jail could not be made: {error}"),
                Some(remedy(&error.to_string())),
            )];
        }
    };
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .unwrap_or_default()
    };
    let apart = |name: &&str| {
        let ours = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let ours = ours.to_string_lossy();
        !ours.is_empty() && text.contains(&format!("{name}:[")) && !text.contains(ours.as_ref())
    };
    let shared: Vec<&str> = NAMESPACES.into_iter().filter(|name| !apart(name)).collect();
    let tried = |name: &str, holds: bool, detail: &str| {
        let state = if holds { Active } else { Required };
        protection(name, state, detail, (!holds).then_some("see docs/sandbox.md"))
    };
    vec![
        if shared.is_empty() {
            tried("namespaces", true, &format!("own {}", NAMESPACES.join(", ")))
        } else {
            tried("namespaces", false, &format!("shared with the machine: {}", shared.join(", ")))
        },
        tried("network", !shared.contains(&"net"), "one of its own with nothing in it"),
        // 127.0.0.1:8080, listening (proc_net(5)).
        tried(
            "door",
            text.contains("0100007F:1F90 00000000:0000 0A"),
            "127.0.0.1:8080, and only for runs that may reach models or hosts",
        ),
        tried("system calls", field("Seccomp") == "2", "seccomp, an allow-list"),
        tried("privileges", field("NoNewPrivs") == "1", "no new ones, no set-user-id"),
        tried("capabilities", field("CapEff") == "0000000000000000", "none"),
        tried(
            "process list",
            field("Seen").parse().is_ok_and(|seen: u32| seen <= MOST_SEEN),
            "/proc of the jail's own processes",
        ),
    ]
}

/// The first process, the shell and what it starts.
const MOST_SEEN: u32 = 5;

/// What to do about a jail that could not be made, by what was said of it.
fn remedy(error: &str) -> &'static str {
    if error.contains("masked") {
        "give the server an unmasked /proc: --security-opt systempaths=unconfined for Docker and Podman, \
         procMount: Unmasked for Kubernetes"
    } else if error.contains("namespaces") {
        "allow them with sysctl, whichever of these the machine has: user.max_user_namespaces=10000, \
         kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; in a container \
         also allow the calls clone and unshare; or start the server as root"
    } else if error.contains("library") {
        "install what nsjail links to; on Debian and Ubuntu: apt-get install libnl-route-3-200"
    } else if error.contains("chmod") {
        "do what it says, or keep the server's data elsewhere"
    } else {
        "see docs/sandbox.md, Requirements"
    }
}

fn user(jails: &Jails) -> Protection {
    if jails.users.are_separate() {
        protection("own user", Active, "a user outside that nobody else is, another for each jail", None)
    } else {
        protection(
            "own user",
            Missing,
            "jails are the server's own user outside; only what is mounted keeps its files from them",
            Some("start the server as root"),
        )
    }
}

fn limit(jails: &Jails, controller: Controller) -> Protection {
    let name = match controller {
        Controller::Memory => "memory limit",
        Controller::Pids => "process limit",
        Controller::Cpu | Controller::Cpuacct => "processor limit",
    };
    let Some(missing) = jails.groups.missing().iter().find(|missing| missing.controller == controller) else {
        let at = jails.groups.describe(controller);
        return protection(name, Active, format!("control group, {at}"), None);
    };
    let remedy = "start the server as root; or, on a machine with control groups of version 2, in a group of its \
                  own: Delegate=yes in its systemd unit, systemd-run --user --scope -p Delegate=yes by hand";
    let instead = match controller {
        Controller::Memory => {
            "none: a jail may use all memory of the machine; only /tmp, /dev/shm and HOME are bounded"
        }
        Controller::Pids => "by RLIMIT_NPROC instead, which holds for an ordinary user",
        Controller::Cpu | Controller::Cpuacct => {
            "none: a jail may use every processor; it only stands back for the server"
        }
    };
    let why = format!("{instead}; there is no control group for it ({})", missing.why);
    protection(name, Missing, why, Some(remedy))
}

fn disk() -> Protection {
    protection(
        "disk quota",
        Active,
        "watched: a run ends within 20 to 100 ms of filling its workspace; what it writes meanwhile goes over",
        None,
    )
}

fn prepared(jails: &Jails) -> Protection {
    let name = "prepared jails";
    match (jails.config.prepared, jails.pool.most()) {
        (0, _) => {
            protection(name, Active, "none, as configured: each run makes its jail when it begins", None)
        }
        (_, 0) => protection(
            name,
            Missing,
            "none: each run makes its jail when it begins, some milliseconds later; what is kept ready needs root",
            Some("start the server as root"),
        ),
        (_, most) => protection(name, Active, format!("up to {most} are kept ready, about 2 MB each"), None),
    }
}

fn program(name: &str) -> Protection {
    let title = format!("program {name}");
    match visible(name) {
        Some(path) => protection(&title, Active, path.display().to_string(), None),
        None => protection(
            &title,
            Missing,
            "not where a jail could see it",
            Some("install it below /usr, or configure a runtime with it"),
        ),
    }
}

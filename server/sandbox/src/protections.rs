//! What is in force on this machine, found out by making a jail and looking around in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use domain::limits::{Limits, MIB};
use ports::sandbox::{
    JailEnd, JailSpec, Network, OutputChunk, Protection, ProtectionState, Sandbox, SandboxError,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::group::Controller;
use crate::jails::Jails;
use crate::runtime::visible;

use ProtectionState::{Active, Missing, Required};

/// Every protection, the required ones first.
pub(crate) async fn report(jails: &Jails) -> Vec<Protection> {
    let mut report = vec![nsjail(&jails.config.nsjail)];
    report.extend(inside(&look(jails).await));
    report.push(user(jails));
    report.extend(
        [Controller::Memory, Controller::Pids, Controller::Cpu].map(|controller| limit(jails, controller)),
    );
    report.push(disk());
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
            Some("install nsjail and name it in the configuration"),
        ),
    }
}

/// `/proc/self/status` of a program in a jail, then its namespaces as `ls` shows them.
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
        command: ["/bin/sh", "-c", "cat /proc/self/status && ls -l /proc/self/ns"]
            .map(str::to_owned)
            .to_vec(),
        stdin: Bytes::new(),
        env: [].into(),
        workspace,
        directory: ".".into(),
        runtime: None,
        limits: Limits { timeout: Duration::from_secs(10), memory: 256 * MIB, ..Limits::DEFAULT },
        network: Network::None,
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
                Some("allow user namespaces, give the server an unmasked /proc, and see docs/sandbox.md"),
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
        tried("network", !shared.contains(&"net"), "a network of its own with nothing in it"),
        tried("system calls", field("Seccomp") == "2", "seccomp, an allow-list"),
        tried("privileges", field("NoNewPrivs") == "1", "no new ones, no set-user-id"),
        tried("capabilities", field("CapEff") == "0000000000000000", "none"),
        tried("process list", true, "/proc of the jail's own processes"),
    ]
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
        return protection(name, Active, format!("control group, {}", jails.groups.describe()), None);
    };
    let remedy = "start the server as root, or in a delegated group: systemd-run --user -p Delegate=yes";
    let instead = match controller {
        Controller::Memory => {
            "a jail may use all memory of the machine; only /tmp, /dev/shm and HOME are bounded"
        }
        Controller::Pids => "instead RLIMIT_NPROC, which does not hold for root",
        Controller::Cpu | Controller::Cpuacct => {
            "a jail may use every processor; it only stands back for the server"
        }
    };
    let why = format!("no control group `{}` ({}): {instead}", controller.name(), missing.why);
    protection(name, Missing, why, Some(remedy))
}

fn disk() -> Protection {
    protection(
        "disk quota",
        Active,
        "watched: each file bounded by RLIMIT_FSIZE, the workspace looked at every 20 to 100 ms; what is written \
         between two looks may go over",
        None,
    )
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

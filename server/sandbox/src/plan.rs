//! From what is asked for to what will be done: every check before anything is made.

use std::path::{Path, PathBuf};

use domain::limits::{Limits, MIB};
use nix::sys::resource::Resource;
use ports::sandbox::{JailSpec, SandboxError};

use crate::policy::{Instance, Mount, Programs, Rlimit, UserMap};
use crate::root::INIT_PATH;
use crate::user;

/// Variables that are the jail's own.
const OWN_VARIABLES: [&str; 5] = ["PATH", "HOME", "TMPDIR", "USER", "LANG"];
/// How much later than the server the first process itself would end a jail, seconds.
const NET_SLACK: u64 = 10;
/// Where the first process finds its end of the socket.
const SERVER: i32 = 3;
/// Longest environment and command together; the kernel takes about 2 MiB (execve(2)).
const ARGUMENTS_MOST: usize = 1 << 20;
/// Longest single argument or variable (execve(2), MAX_ARG_STRLEN).
const ARGUMENT_MOST: usize = 128 << 10;

/// Refuses what no jail can be made of.
///
/// # Errors
/// [`SandboxError::Refused`], in words for whoever asked.
pub(crate) fn check(spec: &JailSpec, ceiling: &Limits) -> Result<(), SandboxError> {
    refuse(!is_name(&spec.name), || format!("`{}` is no name for a jail", spec.name))?;
    refuse(spec.command.first().is_none_or(String::is_empty), || "there is no program to run".to_owned())?;
    let above = spec.limits.above(ceiling);
    refuse(!above.is_empty(), || format!("limits above the operator's ceiling: {}", above.join(", ")))?;
    refuse(spec.limits.timeout.is_zero(), || "the limit `timeout` is zero".to_owned())?;
    refuse(spec.limits.processes == 0, || "the limit `processes` is zero".to_owned())?;
    for name in spec.env.keys() {
        let own = OWN_VARIABLES.contains(&name.as_str());
        refuse(own, || format!("the environment variable `{name}` is set by the jail"))?;
        refuse(name.is_empty() || name.contains('='), || {
            format!("`{name}` is no name for an environment variable")
        })?;
    }
    let strings = spec.command.iter().chain(spec.env.keys()).chain(spec.env.values());
    let mut total = 0;
    for string in strings {
        refuse(string.contains('\0'), || {
            "an argument or environment variable has a zero byte in it".to_owned()
        })?;
        refuse(string.len() >= ARGUMENT_MOST, || {
            format!(
                "an argument or environment variable of {} bytes is longer than the kernel takes",
                string.len()
            )
        })?;
        total += string.len() + 16;
    }
    refuse(total > ARGUMENTS_MOST, || {
        format!("arguments and environment of {total} bytes are more than the kernel takes")
    })
}

fn refuse(condition: bool, why: impl FnOnce() -> String) -> Result<(), SandboxError> {
    if condition { Err(SandboxError::Refused(why())) } else { Ok(()) }
}

fn is_name(name: &str) -> bool {
    (1..=60).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Who bounds the number of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessBound {
    /// The control group.
    Group,
    /// RLIMIT_NPROC, which counts the processes of a user in a user namespace, and not for root.
    Rlimit,
}

/// What nsjail is told for a jail whose first process waits for its order: everything that cannot be
/// said later. Scratch space is memory, and counts as such: half of it for /tmp leaves programs room to
/// run, and a third in each would be more than all.
pub(crate) fn cell(memory: u64, user: UserMap, workspace: Option<&Path>) -> Instance {
    let scratch = |target, share: u64, mode, programs| Mount::Scratch {
        target,
        bytes: (memory / share).max(MIB),
        files: (memory / share / 4096).clamp(1024, 1 << 20),
        mode,
        programs,
    };
    let mut mounts = vec![
        scratch("/dev/shm", 4, "1777", Programs::Refuse),
        scratch("/tmp", 2, "1777", Programs::Run),
        scratch("/home/agent", 4, "1777", Programs::Run),
    ];
    mounts.extend(
        workspace.map(|source| Mount::Writable { source: source.to_owned(), target: "/work".into() }),
    );
    Instance {
        mounts,
        rlimits: ["rlimit_fsize", "rlimit_nproc"].map(|name| Rlimit { name, value: None }).to_vec(),
        env: Vec::new(),
        user,
        directory: "/".into(),
        net_seconds: 0,
        command: vec![INIT_PATH.to_owned()],
        descriptors: vec![SERVER],
    }
}

/// The limits of each process that differ from jail to jail: number and value as in prlimit(2).
pub(crate) fn rlimits(limits: &Limits, bound: ProcessBound) -> Vec<(u32, u64)> {
    let mut rlimits = vec![(Resource::RLIMIT_FSIZE as u32, user::clamp(Resource::RLIMIT_FSIZE, limits.disk))];
    if bound == ProcessBound::Rlimit {
        // One more for the first process.
        let most = user::clamp(Resource::RLIMIT_NPROC, u64::from(limits.processes) + 1);
        rlimits.push((Resource::RLIMIT_NPROC as u32, most));
    }
    rlimits
}

/// After how many seconds the first process ends a jail by itself.
pub(crate) fn net_seconds(limits: &Limits) -> u32 {
    u32::try_from(limits.timeout.as_secs() + NET_SLACK).unwrap_or(u32::MAX)
}

/// The same jail for nsjail alone.
pub(crate) fn raw(spec: &JailSpec, user: UserMap, bound: ProcessBound, command: Vec<String>) -> Instance {
    let mut rlimits: Vec<Rlimit> = Vec::new();
    for (number, value) in self::rlimits(&spec.limits, bound) {
        rlimits.push(match number == Resource::RLIMIT_FSIZE as u32 {
            // In MiB for nsjail.
            true => Rlimit { name: "rlimit_fsize", value: Some(value.div_ceil(MIB)) },
            false => Rlimit { name: "rlimit_nproc", value: Some(value) },
        });
    }
    if bound == ProcessBound::Group {
        rlimits.push(Rlimit { name: "rlimit_nproc", value: None });
    }
    Instance {
        rlimits,
        env: spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        directory: inside(&spec.directory),
        net_seconds: u64::from(net_seconds(&spec.limits)),
        command,
        descriptors: Vec::new(),
        ..cell(spec.limits.memory, user, Some(&spec.workspace))
    }
}

/// Where that is in the jail.
pub(crate) fn inside(directory: &Path) -> PathBuf {
    Path::new("/work").join(directory)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use domain::limits::Limits;
    use ports::sandbox::{JailSpec, Network, Stdin};

    use super::check;

    fn spec() -> JailSpec {
        JailSpec {
            name: "run-1".into(),
            command: vec!["true".into()],
            stdin: Stdin::nothing(),
            env: [("A".to_owned(), "b".to_owned())].into(),
            workspace: "/tmp".into(),
            directory: ".".into(),
            runtime: None,
            limits: Limits::DEFAULT,
            network: Network::None,
        }
    }

    fn refused(change: impl FnOnce(&mut JailSpec), expect: &str) {
        let mut spec = spec();
        change(&mut spec);
        let error = check(&spec, &Limits::CEILING).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn what_no_jail_can_be_made_of() {
        check(&spec(), &Limits::CEILING).unwrap();
        refused(|spec| spec.name = "../x".into(), "`../x` is no name");
        refused(|spec| spec.name = "a".repeat(61), "is no name");
        refused(|spec| spec.name.clear(), "is no name");
        refused(|spec| spec.command.clear(), "no program");
        refused(|spec| spec.command = vec![String::new()], "no program");
        refused(|spec| spec.command.push("a\0b".into()), "zero byte");
        refused(|spec| spec.command.push("a".repeat(1 << 20)), "longer than the kernel takes");
        refused(|spec| spec.command = vec!["a".repeat(100_000); 20], "more than the kernel takes");
        refused(|spec| drop(spec.env.insert("PATH".into(), "/x".into())), "`PATH` is set by the jail");
        refused(|spec| drop(spec.env.insert("A=B".into(), "c".into())), "`A=B` is no name");
        refused(|spec| drop(spec.env.insert(String::new(), "c".into())), "`` is no name");
        refused(|spec| spec.limits.timeout = Duration::ZERO, "`timeout` is zero");
        refused(|spec| spec.limits.memory = u64::MAX, "ceiling: memory");
        refused(|spec| spec.limits.cpu_millis = u32::MAX, "ceiling: cpus");
    }
}

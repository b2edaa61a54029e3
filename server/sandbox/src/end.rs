//! How an end is told apart.
//!
//! Several things may be true at once: a program whose child was killed for want of memory exits 0,
//! one that was ended for its time was killed by a signal, and one may exit 137 on its own account.
//! So no end is read from nsjail's exit status; each has a witness of its own, and the first of these
//! that speaks is believed: the server's own reasons for ending it, whether the program was ever
//! started, the kernel's count of kills for want of memory, and last what the first process reports.

use nix::libc;
use ports::sandbox::{JailEnd, SandboxError};

/// Why the server itself ended a jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Cancelled,
    TimedOut,
    DiskFull,
    OutputLimit,
}

/// What is known when a jail has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// The server ended it.
    pub cut: Option<Cut>,
    /// The first process said that it starts the program.
    pub started: bool,
    /// It could not: the error number of execve(2).
    pub not_executed: Option<i32>,
    /// The program's status as in wait(2).
    pub status: Option<i32>,
    /// Kills for want of memory.
    pub memory_kills: u64,
    /// The workspace was over its quota at the end.
    pub full: bool,
    /// What nsjail said.
    pub log: String,
}

/// The end, or why there was no jail.
///
/// # Errors
/// When the program was never started, and that was not the server's wish.
pub(crate) fn tell(signs: &Signs, program: &str) -> Result<JailEnd, SandboxError> {
    match signs.cut {
        Some(Cut::Cancelled) => return Ok(JailEnd::Cancelled),
        Some(Cut::TimedOut) if signs.started => return Ok(JailEnd::TimedOut),
        Some(Cut::DiskFull) => return Ok(JailEnd::DiskFull),
        Some(Cut::OutputLimit) => return Ok(JailEnd::OutputLimit),
        Some(Cut::TimedOut) | None => {}
    }
    if let Some(error) = signs.not_executed {
        return Err(not_executed(program, error));
    }
    if signs.memory_kills > 0 {
        return Ok(JailEnd::OutOfMemory);
    }
    if !signs.started {
        return Err(not_started(&signs.log));
    }
    if signs.full {
        return Ok(JailEnd::DiskFull);
    }
    let Some(status) = signs.status else {
        return Err(SandboxError::SetUp(format!("the jail ended and did not say how. {}", said(&signs.log))));
    };
    Ok(if libc::WIFSIGNALED(status) {
        match libc::WTERMSIG(status) {
            libc::SIGSYS => JailEnd::ForbiddenSystemCall,
            // A file that would have grown past the whole quota.
            libc::SIGXFSZ => JailEnd::DiskFull,
            signal => JailEnd::Signalled(signal),
        }
    } else {
        JailEnd::Exited(libc::WEXITSTATUS(status))
    })
}

fn not_executed(program: &str, error: i32) -> SandboxError {
    let why = std::io::Error::from_raw_os_error(error);
    SandboxError::Refused(match error {
        libc::ENOENT if !program.contains('/') => {
            format!("there is no program `{program}` in the jail; it looks in {}", crate::runtime::PATH)
        }
        libc::ENOENT => {
            format!("there is no program `{program}` in the jail, or not the interpreter that it names")
        }
        libc::EACCES => format!("`{program}` may not be executed"),
        libc::ENOEXEC => {
            format!("`{program}` is no program that this machine can run; a script begins with #!")
        }
        _ => format!("`{program}` could not be executed: {why}"),
    })
}

/// What the machine lacks, by the words of nsjail's log.
const LACKS: [(&str, &str); 5] = [
    (
        "clone(flags",
        "the kernel makes no namespaces for this user; see sysctl kernel.unprivileged_userns_clone, \
         user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns",
    ),
    (
        "procfs mount may fail",
        "/proc of this machine is masked, as in containers, so a jail cannot have one of its own",
    ),
    ("CLONE_NEWUSER", "the kernel makes no user namespaces for this user"),
    ("uid_map", "the kernel refuses the mapping of users"),
    ("error while loading shared libraries", "a library that nsjail needs is not installed"),
];

fn not_started(log: &str) -> SandboxError {
    match LACKS.iter().find(|(sign, _)| log.contains(sign)) {
        Some((_, lack)) => SandboxError::Unavailable(format!("{lack}. {}", said(log))),
        None => SandboxError::SetUp(said(log)),
    }
}

/// The lines of the log that tell of errors, shortened.
fn said(log: &str) -> String {
    const MOST: usize = 600;
    let errors: Vec<&str> = log
        .lines()
        .filter(|line| ["[E]", "[F]", "[W]", "error while"].iter().any(|sign| line.contains(sign)))
        // The line that only says that another one was an error.
        .filter(|line| !line.contains("error message from the child"))
        .collect();
    if errors.is_empty() {
        return "nsjail said nothing".to_owned();
    }
    let mut text = format!("nsjail said: {}", errors.join(" | "));
    if text.len() > MOST {
        let end = (0..=MOST).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use ports::sandbox::JailEnd;

    use super::{Cut, Signs, tell};

    fn check(signs: &Signs, expect: Result<JailEnd, &str>) {
        match (tell(signs, "tool"), expect) {
            (Ok(end), Ok(expect)) => assert_eq!(end, expect),
            (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
            (found, expect) => panic!("{found:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn the_first_witness_is_believed() {
        let started = Signs { started: true, ..Signs::default() };
        let status = |status| Signs { status: Some(status), ..started.clone() };
        check(&status(0), Ok(JailEnd::Exited(0)));
        for code in [1, 137, 143, 153, 159, 255] {
            check(&status(code << 8), Ok(JailEnd::Exited(code)));
        }
        check(&status(9), Ok(JailEnd::Signalled(9)));
        check(&status(6 | 0x80), Ok(JailEnd::Signalled(6)));
        check(&status(31), Ok(JailEnd::ForbiddenSystemCall));
        check(&status(25), Ok(JailEnd::DiskFull));
        check(&Signs { memory_kills: 1, ..status(0) }, Ok(JailEnd::OutOfMemory));
        check(&Signs { memory_kills: 1, ..started.clone() }, Ok(JailEnd::OutOfMemory));
        check(&Signs { full: true, ..status(0) }, Ok(JailEnd::DiskFull));
        check(&Signs { full: true, ..status(153 << 8) }, Ok(JailEnd::DiskFull));
        check(&Signs { cut: Some(Cut::TimedOut), memory_kills: 1, ..started.clone() }, Ok(JailEnd::TimedOut));
        check(&Signs { cut: Some(Cut::Cancelled), ..Signs::default() }, Ok(JailEnd::Cancelled));
        check(&Signs { cut: Some(Cut::OutputLimit), ..started.clone() }, Ok(JailEnd::OutputLimit));
        check(&Signs { cut: Some(Cut::DiskFull), ..started.clone() }, Ok(JailEnd::DiskFull));
        check(&started, Err("did not say how"));
    }

    #[test]
    fn no_jail_is_an_error_that_says_why() {
        let log = |log: &str| Signs { log: log.to_owned(), ..Signs::default() };
        check(&log(""), Err("could not be set up: nsjail said nothing"));
        check(&log("[E][x] y\n[I] z"), Err("could not be set up: nsjail said: [E][x] y"));
        check(
            &log("[W] clone(flags=CLONE_NEWUSER) failed"),
            Err("not available: the kernel makes no namespaces"),
        );
        check(&log("nsjail: error while loading shared libraries: libnl"), Err("not available: a library"));
        check(&Signs { cut: Some(Cut::TimedOut), ..log("") }, Err("nsjail said nothing"));
        let not =
            |error| Signs { started: true, not_executed: Some(error), status: Some(127 << 8), ..log("") };
        check(&not(2), Err("no program `tool` in the jail; it looks in /usr"));
        check(&not(13), Err("may not be executed"));
        check(&not(8), Err("begins with #!"));
    }
}

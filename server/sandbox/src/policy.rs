//! What a jail may see, call and use, and its text for nsjail.
//!
//! The text is protobuf's text format of nsjail's `config.proto`. A policy is in two parts: what is
//! the same for every jail of a runtime, prepared and hashed once, and what differs from run to run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Names the programs and files of one release of the policy; part of its hash.
pub(crate) const SECCOMP: &str = include_str!("seccomp.kafel");

/// What is the same for every jail of one runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What is mounted, in this order.
    pub mounts: Vec<Mount>,
    /// The file with the system call policy, in kafel's language.
    pub seccomp: PathBuf,
    /// Bounds of each process.
    pub rlimits: Vec<Rlimit>,
    /// Environment variables that every jail has.
    pub env: Vec<(&'static str, &'static str)>,
    /// The name of the machine inside.
    pub hostname: &'static str,
    /// How far the jail stands back behind the server for processor time, as in nice(2).
    pub niceness: u8,
}

/// What differs from jail to jail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Mounts of this run's own: workspace and scratch space.
    pub mounts: Vec<Mount>,
    /// Bounds of each process of this run.
    pub rlimits: Vec<Rlimit>,
    /// Environment variables of this run.
    pub env: Vec<(String, String)>,
    /// The user inside and the one outside, the same number for the group.
    pub user: UserMap,
    /// Where the program starts, inside.
    pub directory: PathBuf,
    /// After how many seconds nsjail itself ends the jail; 0 is never.
    pub net_seconds: u64,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// File descriptors that stay open beside 0, 1 and 2.
    pub descriptors: Vec<i32>,
}

/// Which user outside stands behind the one inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserMap {
    /// User and group id in the jail.
    pub inside: u32,
    /// User id on the machine.
    pub outside_user: u32,
    /// Group id on the machine.
    pub outside_group: u32,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A directory or file of the machine, read-only, no set-user-id, no devices.
    ReadOnly {
        /// On the machine.
        source: PathBuf,
        /// In the jail.
        target: PathBuf,
    },
    /// A directory of the machine that the jail may write to.
    Writable {
        /// On the machine.
        source: PathBuf,
        /// In the jail.
        target: PathBuf,
    },
    /// A device node of the machine.
    Device(&'static str),
    /// A file system in memory.
    Scratch {
        /// In the jail.
        target: &'static str,
        /// Most bytes.
        bytes: u64,
        /// Most files.
        files: u64,
        /// Permission bits, octal.
        mode: &'static str,
        /// Whether programs in it may be run.
        programs: Programs,
    },
    /// The process list of the jail.
    Proc,
    /// Something below `/proc` that is hidden behind `/dev/null`, where the kernel has it.
    Hidden(&'static str),
}

/// Whether files of a mount may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// They may.
    Run,
    /// They may not.
    Refuse,
}

/// One limit of setrlimit(2), in nsjail's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// nsjail's name of it, as in `rlimit_nofile`.
    pub name: &'static str,
    /// The bound; `None` is none but the server's own.
    pub value: Option<u64>,
}

impl Policy {
    /// The part of the configuration that is the same for every jail.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(8 << 10);
        text.push_str("name: \"spellbook\"\nmode: ONCE\nlog_level: WARNING\nlog_fd: 2\n");
        text.push_str("keep_env: false\nkeep_caps: false\nskip_setsid: false\ndisable_no_new_privs: false\n");
        text.push_str("clone_newnet: true\nclone_newns: true\nclone_newpid: true\nclone_newipc: true\n");
        text.push_str("clone_newuts: true\nclone_newcgroup: true\nclone_newuser: true\niface_no_lo: false\n");
        field(&mut text, "hostname", self.hostname);
        line(&mut text, format_args!("nice_level: {}", self.niceness));
        field(&mut text, "seccomp_policy_file", path(&self.seccomp));
        render_rlimits(&mut text, &self.rlimits);
        for (name, value) in &self.env {
            field(&mut text, "envar", format!("{name}={value}"));
        }
        for mount in &self.mounts {
            mount.render(&mut text);
        }
        text
    }
}

impl Instance {
    /// The rest of the configuration.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(2 << 10);
        line(&mut text, format_args!("time_limit: {}", self.net_seconds));
        field(&mut text, "cwd", path(&self.directory));
        render_rlimits(&mut text, &self.rlimits);
        for (name, value) in &self.env {
            field(&mut text, "envar", format!("{name}={value}"));
        }
        let UserMap { inside, outside_user, outside_group } = self.user;
        line(
            &mut text,
            format_args!("uidmap {{ inside_id: \"{inside}\" outside_id: \"{outside_user}\" count: 1 }}"),
        );
        line(
            &mut text,
            format_args!("gidmap {{ inside_id: \"{inside}\" outside_id: \"{outside_group}\" count: 1 }}"),
        );
        for mount in &self.mounts {
            mount.render(&mut text);
        }
        for descriptor in &self.descriptors {
            line(&mut text, format_args!("pass_fd: {descriptor}"));
        }
        if let Some((program, arguments)) = self.command.split_first() {
            text.push_str("exec_bin {\n");
            field(&mut text, "path", program);
            for argument in arguments {
                field(&mut text, "arg", argument);
            }
            text.push_str("}\n");
        }
        text
    }
}

impl Mount {
    fn render(&self, text: &mut String) {
        text.push_str("mount {\n");
        match self {
            Self::ReadOnly { source, target } => bind(text, source, target, "nosuid: true nodev: true"),
            Self::Writable { source, target } => {
                bind(text, source, target, "rw: true nosuid: true nodev: true");
            }
            Self::Device(node) => {
                bind(
                    text,
                    Path::new(node),
                    Path::new(node),
                    "is_dir: false rw: true nosuid: true noexec: true",
                );
            }
            Self::Scratch { target, bytes, files, mode, programs } => {
                field(text, "dst", target);
                field(text, "options", format!("size={bytes},nr_inodes={files},mode={mode}"));
                let noexec = *programs == Programs::Refuse;
                line(
                    text,
                    format_args!("fstype: \"tmpfs\" rw: true nosuid: true nodev: true noexec: {noexec}"),
                );
            }
            Self::Proc => {
                text.push_str("dst: \"/proc\" fstype: \"proc\" nosuid: true nodev: true noexec: true\n");
            }
            Self::Hidden(target) => {
                bind(
                    text,
                    Path::new("/dev/null"),
                    Path::new(target),
                    "is_dir: false mandatory: false nosuid: true noexec: true",
                );
            }
        }
        text.push_str("}\n");
    }
}

fn bind(text: &mut String, source: &Path, target: &Path, flags: &str) {
    field(text, "src", path(source));
    field(text, "dst", path(target));
    line(text, format_args!("is_bind: true {flags}"));
}

fn render_rlimits(text: &mut String, rlimits: &[Rlimit]) {
    for Rlimit { name, value } in rlimits {
        match value {
            Some(value) => line(text, format_args!("{name}: {value} {name}_type: VALUE")),
            None => line(text, format_args!("{name}_type: HARD")),
        }
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("because writing to a string cannot fail");
}

fn path(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}

/// One string field. What is not plain ASCII is written as three octal digits a byte, which
/// protobuf's text format reads back as the same bytes.
fn field(text: &mut String, name: &str, value: impl AsRef<[u8]>) {
    text.push_str(name);
    text.push_str(": \"");
    for &byte in value.as_ref() {
        match byte {
            b'"' | b'\\' | b'\'' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            _ => write!(text, "\\{byte:03o}").expect("because writing to a string cannot fail"),
        }
    }
    text.push_str("\"\n");
}

#[cfg(test)]
mod tests {
    use super::field;

    fn check(value: &[u8], expect: &str) {
        let mut text = String::new();
        field(&mut text, "f", value);
        assert_eq!(text, format!("f: \"{expect}\"\n"));
    }

    #[test]
    fn a_string_can_never_end_its_field() {
        check(b"plain text", "plain text");
        check(br#"" mount { src: "/etc" }"#, r#"\" mount { src: \"/etc\" }"#);
        check(br"\", r"\\");
        check(b"a\nb\0c", r"a\012b\000c");
        check("ü\u{2028}".as_bytes(), r"\303\274\342\200\250");
        check(&[0xff, b'1'], r"\3771");
    }
}

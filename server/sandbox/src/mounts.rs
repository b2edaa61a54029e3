//! Mounts of the machine below a directory.
//!
//! A bind mount brings what is mounted below it along, and making it read-only leaves those as they
//! were. Whatever is mounted below a read-only directory is therefore mounted again, read-only.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mounts that this thread sees, and so what it starts, as the kernel writes them down.
pub(crate) fn table() -> io::Result<Vec<u8>> {
    fs::read("/proc/thread-self/mountinfo")
}

/// What is mounted below (not at) `directory`, outermost first. The fifth field of a line is the mount point, with octal escapes (proc_pid_mountinfo(5)).
pub(crate) fn below(mountinfo: &[u8], directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(unescape)
        .filter(|path| path != directory && path.starts_with(directory))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::below;

    fn check(mountinfo: &str, directory: &str, expect: &[&str]) {
        let found = below(mountinfo.as_bytes(), Path::new(directory));
        assert_eq!(found, expect.iter().map(PathBuf::from).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_mounted_below() {
        let table = "1 0 8:1 / / rw - ext4 a rw\n\
                     5 1 8:2 / /usr/share rw - ext4 b rw\n\
                     6 5 8:3 / /usr/share/a\\040b rw - ext4 c rw\n\
                     7 1 8:4 / /usr2 rw - ext4 d rw\n\
                     8 1 8:4 / /usr rw - ext4 d rw\n";
        check(table, "/usr", &["/usr/share", "/usr/share/a b"]);
        check(table, "/usr2", &[]);
        check("", "/usr", &[]);
    }
}

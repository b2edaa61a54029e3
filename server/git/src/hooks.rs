//! The only hooks that ever run: two small scripts of ours, in a directory of ours. They hand over to
//! the program that the server names, and refuse the push when it named none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ports::source::SourceError;

use crate::error::Doing;

/// Which program a hook runs, as `PROGRAM git-hook pre-receive` or `… post-receive`.
pub const HOOK_PROGRAM: &str = "SPELLBOOK_HOOK_PROGRAM";
/// The socket over which that program asks the server.
pub const HOOK_SOCKET: &str = "SPELLBOOK_HOOK_SOCKET";

/// Writes the hooks.
pub(crate) fn install(root: &Path) -> Result<PathBuf, SourceError> {
    let directory = root.join("hooks");
    fs::create_dir_all(&directory).doing("writing the hooks")?;
    for hook in ["pre-receive", "post-receive"] {
        let script =
            format!("#!/bin/sh\nexec \"${{{HOOK_PROGRAM}:?no program for hooks}}\" git-hook {hook}\n");
        let path = directory.join(hook);
        if fs::read_to_string(&path).is_ok_and(|text| text == script) {
            continue;
        }
        // By renaming, so that a server that is still running never sees half a script.
        let new = directory.join(format!(".{hook}.new"));
        fs::write(&new, script).doing("writing the hooks")?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).doing("writing the hooks")?;
        fs::rename(&new, &path).doing("writing the hooks")?;
    }
    Ok(directory)
}

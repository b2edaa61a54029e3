//! Files that are made from the code and kept in the repository.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Fails when a file of the repository is not what the code makes of it; with `SPELLBOOK_BLESS=1` writes it.
pub(crate) fn is_current(path: &str, made: &str) {
    let file = root().join(path);
    if wants_blessing() {
        let directory = file.parent().expect("a file stands in a directory");
        std::fs::create_dir_all(directory).expect("the directory can be made");
        std::fs::write(&file, made).expect("the file can be written");
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == made,
        "{path} is stale; write it anew with `SPELLBOOK_BLESS=1 cargo test -p manifest`"
    );
}

#[expect(clippy::disallowed_methods, reason = "a switch of the tests, not configuration of the program")]
fn wants_blessing() -> bool {
    std::env::var("SPELLBOOK_BLESS").is_ok_and(|value| value == "1")
}

//! Where the cassette of a test lies: `tests/cassettes/<name>.yaml`, and its pictures in a directory of the same
//! name beside it, so that a review of the change shows them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cassettes::Cassette;
use domain::scrub::Scrub;

use crate::commands::worktree::read_text;
use crate::exit::CommandError;

/// The longest cassette, bytes: YAML beyond it is not read.
const LONGEST: usize = 1 << 20;
/// The largest picture, bytes.
const LARGEST_PICTURE: u64 = 8 << 20;
/// What stands above a cassette.
const HEADING: &str =
    "# Made by `spellbook test --record`: what was asked in this test, and what was answered.\n";

/// The place of one cassette.
#[derive(Debug)]
pub(super) struct Shelf {
    file: PathBuf,
    pictures: PathBuf,
}

impl Shelf {
    /// In a directory of cassettes, for the test of this name.
    pub(super) fn new(cassettes: &Path, test: &str) -> Self {
        Self { file: cassettes.join(format!("{test}.yaml")), pictures: cassettes.join(test) }
    }

    /// What was recorded before; an empty cassette when nothing was.
    pub(super) fn cassette(&self) -> Result<Cassette, CommandError> {
        if self.file.symlink_metadata().is_err() {
            return Ok(Cassette::default());
        }
        let unreadable = |path: &Path, why: String| {
            let message = format!("{}: {why}", path.display());
            CommandError::failed("cassette_unreadable", message)
                .help("record it anew: spellbook test --record")
        };
        let json = manifest::schema::yaml_to_json(&read_text(&self.file)?);
        let json = json.ok_or_else(|| unreadable(&self.file, "this is not YAML".to_owned()))?;
        let cassette = Cassette::from_json(json);
        let mut cassette = cassette.map_err(|error| unreadable(&self.file, error.to_string()))?;
        let names: Vec<String> = cassette.pictures().into_iter().map(str::to_owned).collect();
        for name in names {
            let path = self.pictures.join(&name);
            let bytes = picture(&path, &name).map_err(|error| unreadable(&path, error.to_string()))?;
            cassette.bring(&name, bytes).map_err(|error| unreadable(&path, error.to_string()))?;
        }
        Ok(cassette)
    }

    /// Writes what was recorded, or nothing where nothing was; says how much it is.
    pub(super) fn keep(&self, cassette: &Cassette, scrub: &Scrub) -> Result<usize, CommandError> {
        if cassette.is_empty() {
            gone(fs::remove_file(&self.file)).map_err(|error| unwritable(&self.file, error))?;
            return self.hang(cassette).map(|()| 0);
        }
        let text = format!("{HEADING}{}", manifest::schema::json_to_yaml(&cassette.to_json(scrub)));
        if scrub.find(&text).is_some() {
            let message = "a secret would stand in the cassette; it was not written";
            return Err(CommandError::failed("secret_recorded", message));
        }
        if text.len() > LONGEST {
            let message = format!("the cassette would have {} bytes, and {LONGEST} are read", text.len());
            return Err(CommandError::failed("cassette_too_large", message).help("test less at once"));
        }
        if let Some(parent) = self.file.parent() {
            fs::create_dir_all(parent).map_err(|error| unwritable(parent, error))?;
        }
        self.hang(cassette)?;
        fs::write(&self.file, text).map_err(|error| unwritable(&self.file, error))?;
        Ok(cassette.len())
    }

    /// Puts the pictures there, and takes away those that nobody speaks of any more.
    fn hang(&self, cassette: &Cassette) -> Result<(), CommandError> {
        let failed = |error: io::Error| unwritable(&self.pictures, error);
        let names = cassette.pictures();
        match fs::read_dir(&self.pictures) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(failed)?.path();
                    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
                    if is_ours(name) && !names.contains(name) {
                        fs::remove_file(&path).map_err(|error| unwritable(&path, error))?;
                    }
                }
            }
            Err(error) => gone(Err(error)).map_err(failed)?,
        }
        if names.is_empty() {
            // What else somebody put there stays, and the directory with it.
            let _ = fs::remove_dir(&self.pictures);
            return Ok(());
        }
        fs::create_dir_all(&self.pictures).map_err(failed)?;
        for name in names {
            let path = self.pictures.join(name);
            let bytes = cassette.picture(name).unwrap_or_default();
            if bytes.len() as u64 > LARGEST_PICTURE {
                let message = format!("a picture has {} bytes, and {LARGEST_PICTURE} are read", bytes.len());
                return Err(CommandError::failed("cassette_too_large", message));
            }
            fs::write(&path, bytes).map_err(|error| unwritable(&path, error))?;
        }
        Ok(())
    }
}

/// Whether this is a name as pictures have it: the beginning of a digest, and what kind it is.
fn is_ours(name: &str) -> bool {
    let (digest, kind) = name.split_once('.').unwrap_or_default();
    digest.len() == 24
        && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
        && ["png", "jpg", "gif", "webp"].contains(&kind)
}

/// Reads a picture; a link is not followed. The name comes from a file that anybody may have written.
fn picture(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    if !is_ours(name) {
        return Err(io::Error::other("this is no name of a picture"));
    }
    let meta = path.symlink_metadata()?;
    if !meta.is_file() || meta.len() > LARGEST_PICTURE {
        return Err(io::Error::other(format!("this is not a file of at most {LARGEST_PICTURE} bytes")));
    }
    fs::read(path)
}

/// What is not there is gone already.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn unwritable(path: &Path, error: io::Error) -> CommandError {
    CommandError::failed("unwritable", format!("{} cannot be written", path.display())).because(error)
}

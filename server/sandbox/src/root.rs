//! The prepared root file system: all that a jail sees which is not mounted from the machine.
//!
//! Made once for each state of the machine, named by its hash, read-only to every jail. It holds the
//! mount points (a jail's user could not make them), the few files of `/etc` — the machine's own
//! `/etc` is never mounted — and the first process. One mount instead of thirty.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::image::Image;

/// The first process of a jail, built from `init/init.rs`.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
/// Where it is in a jail.
pub(crate) const INIT_PATH: &str = "/.spellbook/init";
/// The system call policy, beside the root and not in it.
const SECCOMP_FILE: &str = "seccomp.kafel";

/// Where our files of `/etc` are that lie over an image's.
pub(crate) const OWN_ETC: &str = ".spellbook/etc";

/// Device nodes that a jail has.
pub(crate) const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/random"];

/// Where machines keep the certificates of the authorities that programs trust.
const CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

const ETC: [(&str, &str); 6] = [
    (
        "passwd",
        "root:x:0:0:root:/nonexistent:/bin/false\nagent:x:1000:1000::/home/agent:/bin/bash\n\
         nobody:x:65534:65534::/nonexistent:/bin/false\n",
    ),
    ("group", "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n"),
    ("hosts", "127.0.0.1 localhost jail\n::1 localhost\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    // Not empty: an empty one is read as "ask 127.0.0.1".
    ("resolv.conf", "# There is no name server in a jail.\n"),
    ("gitconfig", "[safe]\n\tdirectory = *\n"),
];

/// A prepared root on disk.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// What becomes `/`.
    pub directory: PathBuf,
    /// The system call policy.
    pub seccomp: PathBuf,
}

/// What is in a root, in order.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// What it is laid over.
    image: Option<Image>,
    entries: Vec<(PathBuf, Entry)>,
}

#[derive(Debug, Clone)]
enum Entry {
    Directory,
    File { content: Vec<u8>, mode: u32 },
    Link(PathBuf),
}

impl Layout {
    /// What every jail has.
    pub(crate) fn basic() -> Self {
        let mut layout = Self::default();
        for directory in
            ["dev", "dev/shm", "etc", "home", "home/agent", "proc", "tmp", "usr", "work", ".spellbook"]
        {
            layout.directory(directory);
        }
        for device in DEVICES {
            layout.file(device.trim_start_matches('/'), Vec::new(), 0o444);
        }
        for (name, target) in [
            ("dev/fd", "/proc/self/fd"),
            ("dev/stdin", "/proc/self/fd/0"),
            ("dev/stdout", "/proc/self/fd/1"),
            ("dev/stderr", "/proc/self/fd/2"),
        ] {
            layout.link(name, target);
        }
        layout.file(INIT_PATH.trim_start_matches('/'), INIT.to_vec(), 0o555);
        layout
    }

    /// Lays everything over what an image has.
    pub(crate) fn below(&mut self, image: Image) {
        self.image = Some(image);
    }

    /// The files of `/etc` that we write ourselves.
    pub(crate) fn etc(&mut self) {
        for (name, content) in ETC {
            self.file(Path::new("etc").join(name), content.into(), 0o444);
        }
    }

    /// These, and those of the machine that its programs need and that say nothing about it.
    pub(crate) fn host_etc(&mut self) -> io::Result<()> {
        self.etc();
        for path in ["/etc/ld.so.cache"].into_iter().chain(CERTIFICATES) {
            if let Ok(content) = fs::read(path) {
                self.parents(Path::new(path.trim_start_matches('/')));
                self.file(path.trim_start_matches('/'), content, 0o444);
            }
        }
        let Ok(alternatives) = fs::read_dir("/etc/alternatives") else { return Ok(()) };
        let mut links = Vec::new();
        for entry in alternatives {
            let entry = entry?;
            if let Ok(target) = fs::read_link(entry.path()) {
                links.push((Path::new("etc/alternatives").join(entry.file_name()), target));
            }
        }
        links.sort();
        self.directory("etc/alternatives");
        for (name, target) in links {
            self.link(name, target);
        }
        Ok(())
    }

    /// Our files of `/etc`, for mounting over those of a root file system that has its own.
    pub(crate) fn own_etc(&mut self) -> Vec<PathBuf> {
        self.directory(OWN_ETC);
        let mut names = Vec::new();
        for (name, content) in ETC {
            self.file(Path::new(OWN_ETC).join(name), content.into(), 0o444);
            names.push(PathBuf::from(name));
        }
        names
    }

    pub(crate) fn directory(&mut self, path: impl Into<PathBuf>) {
        self.add(path.into(), Entry::Directory);
    }

    pub(crate) fn file(&mut self, path: impl Into<PathBuf>, content: Vec<u8>, mode: u32) {
        self.add(path.into(), Entry::File { content, mode });
    }

    pub(crate) fn link(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        self.add(path.into(), Entry::Link(target.into()));
    }

    fn add(&mut self, path: PathBuf, entry: Entry) {
        if !self.entries.iter().any(|(there, _)| *there == path) {
            self.entries.push((path, entry));
        }
    }

    fn parents(&mut self, path: &Path) {
        let mut above: Vec<_> = path.ancestors().skip(1).filter(|at| !at.as_os_str().is_empty()).collect();
        above.reverse();
        for directory in above {
            self.directory(directory);
        }
    }

    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        if let Some(image) = &self.image {
            hash.update(format!("image {}\n", image.digest()));
        }
        for (path, entry) in &self.entries {
            let (kind, content, mode) = match entry {
                Entry::Directory => ("directory", Vec::new(), 0o755),
                Entry::File { content, mode } => ("file", content.clone(), *mode),
                Entry::Link(target) => ("link", target.as_os_str().as_encoded_bytes().to_vec(), 0o777),
            };
            hash.update(format!("{kind} {mode:o} {} {}\n", path.display(), content.len()));
            hash.update(content);
        }
        hash.update(crate::policy::SECCOMP);
        hex::encode(&hash.finalize()[..8])
    }

    /// Where the root will be, once prepared.
    pub(crate) fn at(&self, roots: &Path) -> Root {
        let directory = roots.join(self.hash());
        Root { directory: directory.join("root"), seccomp: directory.join(SECCOMP_FILE) }
    }

    /// Writes the root to disk unless it is there. A half-written one is never under its name.
    pub(crate) fn prepare(&self, roots: &Path) -> io::Result<Root> {
        let root = self.at(roots);
        let home = roots.join(self.hash());
        if home.exists() {
            return Ok(root);
        }
        let new = roots.join(format!("{}.new", self.hash()));
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        make_directory(&new)?;
        make_directory(&new.join("root"))?;
        write_file(&new.join(SECCOMP_FILE), crate::policy::SECCOMP.as_bytes(), 0o444)?;
        if let Some(image) = &self.image {
            tracing::info!("unpacking the image {}", image.digest());
            image.unpack(&new.join("root"))?;
        }
        for (path, entry) in &self.entries {
            let path = new.join("root").join(path);
            make_room(&path, entry)?;
            match entry {
                Entry::Directory if path.exists() => {}
                Entry::Directory => make_directory(&path)?,
                Entry::File { content, mode } => write_file(&path, content, *mode)?,
                Entry::Link(target) => symlink(target, &path)?,
            }
        }
        fs::rename(&new, &home)?;
        Ok(root)
    }
}

/// The hash of the first process, for the hash of a policy.
pub(crate) fn init_hash() -> String {
    hex::encode(Sha256::digest(INIT))
}

/// A directory that the jail's user may look into, whatever the umask of the server.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Removes what an image has in the place of an entry. Directories come before what is in them, so none
/// of those on the way is a link by now.
fn make_room(path: &Path, entry: &Entry) -> io::Result<()> {
    match (fs::symlink_metadata(path), entry) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        (Err(error), _) => Err(error),
        (Ok(at), Entry::Directory) if at.is_dir() => Ok(()),
        (Ok(at), _) if at.is_dir() => fs::remove_dir_all(path),
        (Ok(_), _) => fs::remove_file(path),
    }
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

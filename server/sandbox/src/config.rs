//! What the operator says about jails.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use domain::limits::Limits;

/// How jails are made on this machine.
#[derive(Debug, Clone)]
pub struct Config {
    /// The nsjail program.
    pub nsjail: PathBuf,
    /// A directory of this server alone; prepared root file systems are kept in it. Made when it is
    /// missing. When the server is root, every directory above it must be searchable by all.
    pub state_dir: PathBuf,
    /// Toolchains by name, beside `bash`, `node` and `python`, which are the host's.
    pub runtimes: BTreeMap<String, Runtime>,
    /// A directory with programs for every jail that has the host's toolchain, where [`AGENTS`] says; it
    /// must be there. When the server is root, every directory above it must be searchable by all.
    ///
    /// [`AGENTS`]: ports::agents::AGENTS
    pub agents: Option<PathBuf>,
    /// Jails that ask for more than this are refused.
    pub ceiling: Limits,
    /// How many jails are kept ready for programs to come; only root can. Each takes some megabytes and,
    /// until it is needed, no processor time.
    pub prepared: usize,
}

impl Config {
    /// The host's toolchain only, the default ceiling, nothing prepared.
    pub fn new(nsjail: PathBuf, state_dir: PathBuf) -> Self {
        let (runtimes, ceiling) = (BTreeMap::new(), Limits::CEILING);
        Self { nsjail, state_dir, runtimes, agents: None, ceiling, prepared: 0 }
    }
}

/// Where a jail's toolchain comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// `/usr` of this machine, read-only.
    Host,
    /// A root file system in a directory, read-only. What it has in `/dev`, `/proc`, `/sys`, `/tmp`,
    /// `/home`, `/run` and `/work` is not seen.
    Directory(PathBuf),
    /// An image in the layout of the Open Container Initiative, unpacked once.
    Image {
        /// The directory with `oci-layout`, `index.json` and `blobs`.
        layout: PathBuf,
        /// The name that it bears there; it is needed when there are several for this machine.
        reference: Option<String>,
    },
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host's toolchain"),
            Self::Directory(path) => write!(f, "the directory {}", path.display()),
            Self::Image { layout, reference: None } => write!(f, "the image {}", layout.display()),
            Self::Image { layout, reference: Some(name) } => {
                write!(f, "the image {}:{name}", layout.display())
            }
        }
    }
}

//! Where packages come from: the machine's own `npm` and `pip`, so that the registries, mirrors, proxies
//! and certificates that they are configured for are obeyed. Nothing that a package brings is run here.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256, Sha512};
use tokio::process::Command;

use crate::catalogue::{Package, Registry};

/// How much of what an installer said last is told, in lines.
const LAST_LINES: usize = 6;
/// How long one of its lines may be, bytes.
const LONGEST_LINE: usize = 300;

/// What a file is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// As npm writes it: `sha512-` and base64.
    Sha512(Vec<u8>),
    /// As pip writes it: `sha256:` and hexadecimal.
    Sha256(Vec<u8>),
}

impl FromStr for Integrity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "`integrity` is `sha512-…` in base64 or `sha256:…` in hexadecimal".to_owned();
        if let Some(encoded) = text.strip_prefix("sha512-") {
            let bytes = STANDARD.decode(encoded).map_err(|_| wrong())?;
            return if bytes.len() == 64 { Ok(Self::Sha512(bytes)) } else { Err(wrong()) };
        }
        let encoded = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        let bytes = hex::decode(encoded).map_err(|_| wrong())?;
        if bytes.len() == 32 { Ok(Self::Sha256(bytes)) } else { Err(wrong()) }
    }
}

impl Integrity {
    /// Whether a file is what it should be.
    fn holds(&self, file: &Path) -> io::Result<bool> {
        let mut file = std::fs::File::open(file)?;
        Ok(match self {
            Self::Sha512(wanted) => {
                let mut digest = Sha512::new();
                io::copy(&mut file, &mut Writer(&mut digest))?;
                digest.finalize()[..] == wanted[..]
            }
            Self::Sha256(wanted) => {
                let mut digest = Sha256::new();
                io::copy(&mut file, &mut Writer(&mut digest))?;
                digest.finalize()[..] == wanted[..]
            }
        })
    }
}

struct Writer<'d, D>(&'d mut D);

impl<D: Digest> io::Write for Writer<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The programs that bring packages.
#[derive(Debug, Clone)]
pub(crate) struct Installers {
    pub(crate) npm: PathBuf,
    pub(crate) python: PathBuf,
    /// The Python that jails have, for which wheels are chosen.
    pub(crate) jail_python: PathBuf,
}

impl Installers {
    /// Brings a package into `root`; gives where its program is there.
    ///
    /// # Errors
    /// With what the installer said last, for people.
    pub(crate) async fn bring(
        &self,
        registry: Registry,
        package: &Package,
        version: &str,
        place: &Place<'_>,
    ) -> Result<PathBuf, String> {
        match registry {
            Registry::Npm => self.npm(package, version, place).await,
            Registry::Pypi => self.pip(package, version, place).await,
            Registry::Hand => Err("nobody brings it".to_owned()),
        }
    }

    async fn npm(&self, package: &Package, version: &str, place: &Place<'_>) -> Result<PathBuf, String> {
        let wanted = format!("{}@{version}", package.name);
        let mut pack = command(&self.npm, place.work);
        pack.args(["pack", "--ignore-scripts", "--json", "--pack-destination"]).arg(place.downloads);
        pack.arg("--").arg(&wanted);
        run(&mut pack, "npm").await?;
        let file = place.only_file()?;
        verify(&file, package, &wanted).await?;
        let mut install = command(&self.npm, place.root);
        install.args(["install", "--ignore-scripts", "--omit=optional", "--omit=dev", "--no-package-lock"]);
        install.args(["--no-save", "--no-audit", "--no-fund", "--prefix"]).arg(place.root);
        install.arg("--").arg(&file);
        run(&mut install, "npm").await?;
        Ok(Path::new("node_modules").join(&package.name).join(&package.program))
    }

    async fn pip(&self, package: &Package, version: &str, place: &Place<'_>) -> Result<PathBuf, String> {
        let wanted = format!("{}=={version}", package.name);
        let found =
            run(command(&self.jail_python, place.work).args(["-c", PYTHON_VERSION]), "python").await?;
        let python = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        // A wheel is unpacked; the source of a package would be run.
        let only = [
            "--only-binary",
            ":all:",
            "--python-version",
            &python,
            "--no-input",
            "--disable-pip-version-check",
        ];
        let pip = |verb: &str| {
            let mut pip = command(&self.python, place.work);
            pip.args(["-m", "pip", verb, "--quiet"]).args(only);
            pip
        };
        run(pip("download").args(["--no-deps", "--dest"]).arg(place.downloads).arg(&wanted), "pip").await?;
        let file = place.only_file()?;
        verify(&file, package, &wanted).await?;
        let lib = place.root.join("lib");
        run(pip("install").args(["--no-compile", "--target"]).arg(&lib).arg(&file), "pip").await?;
        Ok(Path::new("lib").join(&package.program))
    }
}

const PYTHON_VERSION: &str = "import sys; print('%d.%d' % sys.version_info[:2])";

/// Where an installation is made.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// Where installers run: a directory of nobody's, so that no project's settings are read.
    pub(crate) work: &'a Path,
    /// Where the package's own file comes to.
    pub(crate) downloads: &'a Path,
    /// What becomes the installation.
    pub(crate) root: &'a Path,
}

impl Place<'_> {
    /// The file that was brought.
    fn only_file(&self) -> Result<PathBuf, String> {
        let read = |error: io::Error| format!("{}: {error}", self.downloads.display());
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.downloads).map_err(read)? {
            files.push(entry.map_err(read)?.path());
        }
        match files.as_slice() {
            [file] => Ok(file.clone()),
            _ => Err(format!("one file was to be brought, not {}", files.len())),
        }
    }
}

async fn verify(file: &Path, package: &Package, wanted: &str) -> Result<(), String> {
    let Some(integrity) = &package.integrity else {
        return Err(format!("{wanted} has nothing that it could be checked against"));
    };
    let (integrity, file) = (integrity.parse::<Integrity>()?, file.to_owned());
    let checked = tokio::task::spawn_blocking(move || integrity.holds(&file)).await;
    match checked {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(format!(
            "{wanted} is not the file that was expected: its hash is another; nothing was installed"
        )),
        Ok(Err(error)) => Err(format!("{wanted} cannot be read: {error}")),
        Err(error) => Err(format!("{wanted} could not be checked: {error}")),
    }
}

#[expect(clippy::disallowed_methods, reason = "installers are started here and nowhere else")]
fn command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// Runs an installer to its end; an error has its last lines.
async fn run(command: &mut Command, name: &str) -> Result<Output, String> {
    let program = command.as_std().get_program().to_owned();
    let output = command.output().await.map_err(|error| missing(&program, name, &error))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr };
    Err(format!("{name} ended with {}: {}", output.status, last_lines(&String::from_utf8_lossy(said))))
}

fn missing(program: &OsStr, name: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("`{}` is not there; install {name} on this machine", program.display())
        }
        _ => format!("`{}` cannot be started: {error}", program.display()),
    }
}

/// What an installer said last, without where it keeps its own log.
fn last_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.contains("A complete log of this run") && !line.ends_with("-debug-0.log")
    });
    let lines: Vec<&str> = lines.collect();
    let shown = lines[lines.len().saturating_sub(LAST_LINES)..].iter();
    let shown = shown.map(|line| {
        let clean: String = line.chars().filter(|c| !c.is_control()).collect();
        clean[..clean.floor_char_boundary(LONGEST_LINE.min(clean.len()))].to_owned()
    });
    shown.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_file_holds() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "abc").unwrap();
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sha512 =
            "sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        for integrity in [sha256, sha512] {
            let integrity: Integrity = integrity.parse().unwrap();
            assert!(integrity.holds(&file).unwrap());
        }
        std::fs::write(&file, "abd").unwrap();
        for integrity in [sha256, sha512] {
            let integrity: Integrity = integrity.parse().unwrap();
            assert!(!integrity.holds(&file).unwrap());
        }
    }

    #[test]
    fn a_hash_is_whole_and_of_a_kind_that_holds() {
        for text in ["", "sha1-abc", "sha512-", "sha512-YWJj", "sha256:ba78", "sha256:zz", "SHA256:ba"] {
            assert!(text.parse::<Integrity>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn the_last_lines_say_why() {
        let said = "npm notice\n\nnpm error code E404\nnpm error 404 Not \x1b[31mFound\nnpm error A complete log of this run can be found in: /root/x\n";
        assert_eq!(last_lines(said), "npm notice; npm error code E404; npm error 404 Not [31mFound");
        assert_eq!(last_lines(&"x\n".repeat(100)), ["x"; LAST_LINES].join("; "));
    }
}

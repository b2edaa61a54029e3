//! Who is signed in where: one file of this person's, readable by nobody else.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::client::ServerUrl;
use crate::exit::CommandError;
use crate::tools;

/// Who is signed in where.
#[derive(Debug)]
pub(crate) struct Credentials {
    path: Option<PathBuf>,
    stored: Stored,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    /// The server of the last sign-in.
    last: Option<String>,
    /// By the server's address.
    servers: BTreeMap<String, Entry>,
}

/// One sign-in.
#[derive(Serialize, Deserialize)]
struct Entry {
    account: String,
    token: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the file of this person; without one, nobody is signed in anywhere.
    pub(crate) fn read() -> Result<Self, CommandError> {
        match path(tools::variable) {
            Some(path) => Self::read_from(path),
            None => Ok(Self { path: None, stored: Stored::default() }),
        }
    }

    fn read_from(path: PathBuf) -> Result<Self, CommandError> {
        let unusable = |error: anyhow::Error| {
            let message = format!("the credentials in {} cannot be used", path.display());
            CommandError::failed("credentials_unusable", message).because(error)
        };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Self { path: Some(path), stored: Stored::default() });
            }
            Err(error) => return Err(unusable(error.into())),
        };
        let mode = fs::metadata(&path).map_err(|error| unusable(error.into()))?.permissions().mode();
        if mode & 0o077 != 0 {
            let message =
                format!("others may read the credentials in {} (mode {:03o})", path.display(), mode & 0o777);
            return Err(CommandError::failed("credentials_open", message)
                .help(format!("chmod 600 {}", path.display())));
        }
        // The parser's message would repeat the line, and with it the token.
        let stored = toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
            unusable(anyhow::anyhow!("line {line} makes no sense"))
                .help(format!("remove {} and sign in again: spellbook login URL", path.display()))
        })?;
        Ok(Self { path: Some(path), stored })
    }

    /// The server of the last sign-in.
    pub(crate) fn last_server(&self) -> Option<ServerUrl> {
        self.stored.last.as_deref()?.parse().ok()
    }

    /// The token for a server, and for no other.
    pub(crate) fn token(&self, server: &ServerUrl) -> Option<SecretString> {
        self.stored.servers.get(&server.to_string()).map(|entry| entry.token.clone().into())
    }

    /// Remembers a sign-in; gives the file.
    pub(crate) fn store(
        &mut self,
        server: &ServerUrl,
        account: &str,
        token: &SecretString,
    ) -> Result<&Path, CommandError> {
        let Some(path) = &self.path else {
            let message = "there is no place for credentials: neither XDG_CONFIG_HOME nor HOME is set";
            return Err(CommandError::failed("no_home", message).help("set SPELLBOOK_TOKEN instead"));
        };
        let entry = Entry { account: account.to_owned(), token: token.expose_secret().to_owned() };
        self.stored.servers.insert(server.to_string(), entry);
        self.stored.last = Some(server.to_string());
        let text = toml::to_string(&self.stored).map_err(anyhow::Error::from)?;
        write(path, &text).map_err(|error| {
            let message = format!("the credentials cannot be written to {}", path.display());
            CommandError::failed("credentials_unwritable", message).because(error)
        })?;
        Ok(path)
    }
}

/// Where the file is (XDG Base Directory Specification).
fn path(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(home.join("spellbook/credentials.toml"))
}

/// Replaces the file at once: it is never half there, and never readable by others.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::NotFound)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o600)).tempfile_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> ServerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_kept_for_its_server_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/spellbook/credentials.toml");
        let mut credentials = Credentials::read_from(path.clone()).unwrap();
        assert!(credentials.last_server().is_none());
        credentials.store(&server("https://a.example/"), "ada", &"sb_a".to_owned().into()).unwrap();
        credentials.store(&server("https://b.example"), "ada", &"sb_b".to_owned().into()).unwrap();
        let again = Credentials::read_from(path.clone()).unwrap();
        let token = |text: &str| again.token(&server(text)).map(|token| token.expose_secret().to_owned());
        assert_eq!(token("https://a.example").as_deref(), Some("sb_a"));
        assert_eq!(token("https://B.example:443/").as_deref(), Some("sb_b"));
        for other in
            ["http://a.example", "https://a.example:8443", "https://a.example/x", "https://a.example.evil"]
        {
            assert_eq!(token(other), None, "{other}");
        }
        assert_eq!(again.last_server(), Some(server("https://b.example")));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("credentials.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert_eq!(Credentials::read_from(path).unwrap_err().code(), "credentials_open");
    }

    #[test]
    fn a_broken_file_is_not_repeated() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("credentials.toml");
        fs::write(&path, "last = 1\n[servers.x]\ntoken = sb_hidden\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let error = Credentials::read_from(path).unwrap_err();
        assert!(!format!("{error:?} {error} {:?}", error.causes()).contains("sb_hidden"), "{error:?}");
    }

    #[test]
    fn the_file_is_where_the_standard_says() {
        let at = |pairs: &'static [(&str, &str)]| {
            let variable =
                |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            path(variable).map(|path| path.display().to_string())
        };
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]).as_deref(),
            Some("/x/spellbook/credentials.toml")
        );
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")]).as_deref(),
            Some("/h/.config/spellbook/credentials.toml")
        );
        assert_eq!(at(&[]), None);
    }
}

//! Names that come from outside: owners, repositories, daemons, branches, commits, addresses.
//! Each is parsed once, at the door; a value of these types is safe to put into a path, a ref or a
//! row, and is never a program's option.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that breaks the rules of its kind; the message is fit for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {kind}: {rule}")]
pub struct NameError {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// What was expected, with its article.
    pub kind: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $valid:path, $rule:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// When the text breaks the rule of this kind of name.
            pub fn parse(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if $valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(NameError { text: text.chars().take(80).collect(), kind: $kind, rule: $rule })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// The account that a repository belongs to.
    Owner, "an owner", is_account, "use letters, digits and single hyphens, at most 64, no hyphen at either end";
    /// The name of a repository under its owner.
    RepositoryName, "a repository name", is_repository, "use letters, digits, `-`, `_` and `.`, at most 100; it may not begin with `.` or `-` or end with `.git` or `.lock`";
    /// The name of a daemon: the name of its directory.
    DaemonId, "a daemon id", is_slug, "use lower-case letters, digits and single hyphens, at most 64, no hyphen at either end";
    /// The operator's name for a forge.
    ForgeName, "a forge's name", is_slug, "use lower-case letters, digits and single hyphens, at most 64, no hyphen at either end";
    /// A branch, without `refs/heads/`.
    Branch, "a branch name", is_branch, "git does not allow it (see `git help check-ref-format`)";
    /// A tag, without `refs/tags/`.
    Tag, "a tag name", is_branch, "git does not allow it (see `git help check-ref-format`)";
    /// A commit: 40 hexadecimal digits.
    Commit, "a commit id", is_object_id, "write all 40 lower-case hexadecimal digits";
    /// The tree id of a daemon's directory: same digest, same behaviour.
    Digest, "a digest", is_object_id, "write all 40 lower-case hexadecimal digits";
    /// The name of a secret, and of the variable that carries it.
    SecretName, "a secret name", is_variable, "use letters, digits and `_`, at most 128, not beginning with a digit";
    /// The name of something that a daemon keeps from run to run: of a variable, or the key of a session.
    MemoName, "a name", is_memo, "use 1 to 200 bytes without control characters";
}

fn is_account(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

fn is_repository(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with(['.', '-'])
        && !text.ends_with(".git")
        && !text.ends_with(".lock")
        && !text.contains("..")
}

fn is_slug(text: &str) -> bool {
    is_account(text) && !text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_variable(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn is_memo(text: &str) -> bool {
    (1..=200).contains(&text.len()) && !text.contains(char::is_control)
}

fn is_object_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The rules of `git check-ref-format --branch`, which also keep the name from being an option.
fn is_branch(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && text != "@"
        && text != "HEAD"
        && !text.starts_with(['-', '/'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && !text
            .chars()
            .any(|c| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\'))
        && text.split('/').all(|part| !part.starts_with('.') && !part.ends_with(".lock"))
}

/// `owner/name`: a repository, as people and addresses write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryPath {
    /// Whose it is.
    pub owner: Owner,
    /// What it is called.
    pub name: RepositoryName,
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

impl FromStr for RepositoryPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (owner, name) = text.split_once('/').ok_or_else(|| NameError {
            text: text.chars().take(80).collect(),
            kind: "a repository",
            rule: "write it as owner/name",
        })?;
        Ok(Self { owner: owner.parse()?, name: name.parse()? })
    }
}

/// Which version of a daemon is meant: what stands after `@` in an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum At {
    /// Nothing was said: the deploy branch.
    Deployed,
    /// A branch or a tag; a branch is tried first.
    Named(Branch),
    /// One commit.
    Commit(Commit),
}

impl At {
    /// Whether this names one commit for ever.
    pub fn is_pinned(&self) -> bool {
        matches!(self, Self::Commit(_))
    }
}

/// `owner/repository/id@ref`: any version of any daemon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Where it lives.
    pub repository: RepositoryPath,
    /// Which daemon.
    pub daemon: DaemonId,
    /// Which version.
    pub at: At,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.repository, self.daemon)?;
        match &self.at {
            At::Deployed => Ok(()),
            At::Named(name) => write!(f, "@{name}"),
            At::Commit(commit) => write!(f, "@{commit}"),
        }
    }
}

impl FromStr for Address {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (path, at) = match text.split_once('@') {
            None => (text, At::Deployed),
            Some((path, at)) if is_object_id(at) => (path, At::Commit(Commit(at.to_owned()))),
            Some((path, at)) => (path, At::Named(at.parse()?)),
        };
        let (repository, daemon) = path.rsplit_once('/').ok_or_else(|| NameError {
            text: text.chars().take(80).collect(),
            kind: "a daemon's address",
            rule: "write it as owner/repository/id or owner/repository/id@ref",
        })?;
        Ok(Self { repository: repository.parse()?, daemon: daemon.parse()?, at })
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr<Err = NameError> + fmt::Display>(valid: &[&str], invalid: &[&str]) {
        for text in valid {
            assert_eq!(text.parse::<T>().map(|name| name.to_string()).as_deref(), Ok(*text));
        }
        for text in invalid {
            assert!(text.parse::<T>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn daemon_ids_are_slugs() {
        check::<DaemonId>(
            &["review", "code-review", "a1"],
            &["", "Review", "-a", "a-", "a--b", "a/b", "..", "é"],
        );
    }

    #[test]
    fn repository_names_are_safe_paths() {
        check::<RepositoryName>(
            &["book", "a.b_c-d"],
            &["", ".git", "a.git", "-o", "..", "a/b", "a b", "x..y"],
        );
    }

    #[test]
    fn branch_names_follow_git() {
        check::<Branch>(
            &["main", "feature/x", "v1.2.0", "spellbook/review/12"],
            &[
                "",
                "--upload-pack=x",
                "-u",
                "a..b",
                "a b",
                "a\nb",
                "a:b",
                "/a",
                "a/",
                "a.lock",
                "@",
                "HEAD",
                "a@{1}",
                "a/.b",
            ],
        );
    }

    #[test]
    fn commits_are_whole() {
        let whole = "0123456789abcdef0123456789abcdef01234567";
        check::<Commit>(&[whole], &["", "HEAD", "0123456", &whole.to_uppercase(), &format!("{whole}0")]);
    }

    #[test]
    fn addresses_name_any_version() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let pinned = format!("ada/book/review@{commit}");
        check::<Address>(
            &["ada/book/review", "ada/book/review@main", "ada/book/review@feature/x", &pinned],
            &[
                "",
                "review",
                "ada/review",
                "ada/book/Review",
                "ada/book/review@",
                "ada/book/review@-x",
                "a/b/c/d",
            ],
        );
        assert!(pinned.parse::<Address>().is_ok_and(|address| address.at.is_pinned()));
    }
}

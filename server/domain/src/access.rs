//! Who may do what.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, TokenId};
use crate::name::{DaemonId, RepositoryPath};
use crate::time::Timestamp;
use crate::trigger::globs_select;

/// A person or a program that signs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Which.
    pub id: AccountId,
    /// The name to show; unique.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
}

/// What an account may do; each role may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Start, cancel and replay runs.
    Runner,
    /// Push, merge, add repositories.
    Maintainer,
    /// Everything, tokens of others too.
    Admin,
}

impl Role {
    /// The word in the store and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Runner => "runner",
            Self::Maintainer => "maintainer",
            Self::Admin => "admin",
        }
    }

    /// The role that a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Viewer, Self::Runner, Self::Maintainer, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is kept of an API token; the token itself is shown once and kept by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Which.
    pub id: TokenId,
    /// Whose.
    pub account: AccountId,
    /// What for, in the owner's words.
    pub label: String,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
    /// What it may do: never more than its account.
    pub role: Role,
    /// Good for one sign-in only: the first administrator's.
    pub once: bool,
    /// What it is confined to; without one, it is good for whatever the role may.
    pub reach: Option<Reach>,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when.
    pub expires_at: Option<Timestamp>,
}

/// The daemons that a token is confined to, as globs over `owner/name/id`: its bearer starts these and
/// follows what it started, and nothing else. An empty one reaches no daemon at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reach(Vec<String>);

impl Reach {
    /// A reach of these globs; the last one that matches decides, one that begins with `!` against.
    pub fn new(globs: Vec<String>) -> Self {
        Self(globs)
    }

    /// Whether a daemon is within it.
    pub fn holds(&self, repository: &RepositoryPath, daemon: &DaemonId) -> bool {
        globs_select(&self.0, &format!("{repository}/{daemon}"))
    }

    /// The globs.
    pub fn globs(&self) -> &[String] {
        &self.0
    }
}

/// Someone whose token was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub account: Account,
    /// By which token.
    pub token: TokenId,
    /// What they may do with it: the lesser of account and token.
    pub role: Role,
    /// What the token is confined to.
    pub reach: Option<Reach>,
}

impl Principal {
    /// Whether they may do what `role` may.
    pub fn may(&self, role: Role) -> bool {
        self.role >= role
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_holds_what_its_globs_select() {
        let check = |globs: &[&str], daemon: &str, expect: bool| {
            let reach = Reach::new(globs.iter().map(ToString::to_string).collect());
            let (path, id) = daemon.rsplit_once('/').unwrap();
            assert_eq!(
                reach.holds(&path.parse().unwrap(), &id.parse().unwrap()),
                expect,
                "{globs:?} {daemon}"
            );
        };
        check(&["ada/book/review"], "ada/book/review", true);
        check(&["ada/book/review"], "ada/book/reviewer", false);
        check(&["ada/book/*"], "ada/book/review", true);
        check(&["ada/*"], "ada/book/review", false);
        check(&["ada/**"], "ada/book/review", true);
        check(&["ada/**", "!ada/book/deploy"], "ada/book/deploy", false);
        check(&["*/book/review"], "eve/book/review", true);
        check(&["[", ""], "ada/book/review", false);
        check(&[], "ada/book/review", false);
    }
}

//! Who may do what.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{AccountId, TokenId};
use crate::time::Timestamp;

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
    /// Since when.
    pub created_at: Timestamp,
    /// Until when.
    pub expires_at: Option<Timestamp>,
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
}

impl Principal {
    /// Whether they may do what `role` may.
    pub fn may(&self, role: Role) -> bool {
        self.role >= role
    }
}

//! Identities. Each kind is its own type: UUIDv7 inside, so that rows sort by creation, and a
//! prefix outside (`run_…`), so that a person sees what they hold.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of the form {prefix}…")]
pub struct IdError {
    text: String,
    prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What stands before the id when it is written.
            pub const PREFIX: &'static str = $prefix;

            /// Wraps a UUID that the caller drew (see `ports::Clock::unique`).
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bare UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .filter(|rest| rest.len() == 32)
                    .and_then(|rest| Uuid::try_parse(rest).ok())
                    .map(Self)
                    .ok_or_else(|| IdError { text: text.chars().take(80).collect(), prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A repository that the server hosts or watches.
    RepositoryId = "repo_";
    /// One webhook request or push, stored once.
    DeliveryId = "dlv_";
    /// A normalised fact that triggers are matched against.
    EventId = "evt_";
    /// A daemon at a commit of a branch.
    RevisionId = "rev_";
    /// One execution of a daemon.
    RunId = "run_";
    /// One change wanted outside.
    EffectId = "eff_";
    /// A change offered for merging on the built-in host.
    ProposalId = "prop_";
    /// A comment kept by the built-in host.
    CommentId = "cmt_";
    /// A check kept by the built-in host.
    CheckId = "chk_";
    /// One writing of a memo.
    MemoWriteId = "mem_";
    /// A person or a program that signs in.
    AccountId = "acc_";
    /// An API token.
    TokenId = "tok_";
    /// One process that works on runs; new at every start.
    WorkerId = "wrk_";
    /// One call of a model: a row of the ledger.
    CallId = "call_";
    /// A budget that was set.
    BudgetId = "bud_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_written_and_read() {
        let id = RunId::new(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_002a));
        assert_eq!(id.to_string(), "run_0198000000007000800000000000002a");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        for text in [
            "",
            "run_",
            "evt_0198000000007000800000000000002a",
            "run_0198",
            "run_{0198000000007000800000000002a}",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text:?} was taken for a run id");
        }
    }
}

//! `.spellbook/policy.yaml`.

use serde_json::json;

use crate::raw::scalar::{Line, OneOrMany};
use crate::read::{object, words};

object! {
    /// What daemons may do in this repository, whatever their own files say. It is read from the default branch
    /// each time that a daemon wants something done here.
    struct File {
        /// Whether programs may change or say anything here. `deny` leaves answers to people who ask. Without it: `allow`.
        #[schemars(example = json!("deny"))]
        bots: Consent,
        /// Which daemons. Without it: all.
        #[schemars(example = json!({ "allow": ["review", "acme/tools/*"] }))]
        daemons: Daemons,
        /// What holds for pull requests of daemons.
        #[schemars(example = json!({ "max_open": 3, "labels": ["automated"] }))]
        pull_requests: PullRequests,
        /// Whether daemons may comment. Without it: `allow`.
        #[schemars(example = json!("deny"))]
        comments: Consent,
        /// Whether daemons may open issues. Without it: `allow`.
        #[schemars(example = json!("deny"))]
        issues: Consent,
    }
}

words! {
    /// Whether something is allowed.
    enum Consent {
        Allow = "allow",
        Deny = "deny",
    }
}

object! {
    /// Which daemons, by globs of `id` or `owner/repository/id`.
    struct Daemons {
        /// These, and no others. Without it: all.
        #[schemars(example = json!(["review", "acme/tools/*"]))]
        allow: OneOrMany<Line>,
        /// Not these, whatever `allow` says.
        #[schemars(example = json!(["experimental-*"]))]
        block: OneOrMany<Line>,
    }
}

object! {
    /// What holds for pull requests of daemons.
    struct PullRequests {
        /// So many may be open at once, of all daemons together; 0 is none. What is open already may still be brought
        /// up to date. Without it: any number.
        #[schemars(example = 3)]
        max_open: u32,
        /// Labels that each gets, besides its own.
        #[schemars(example = json!(["automated"]))]
        labels: OneOrMany<Line>,
    }
}

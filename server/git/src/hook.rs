//! What git tells a `pre-receive` or `post-receive` hook, in a form that travels to the server.

use std::path::PathBuf;

use domain::name::{Branch, Commit, Tag};
use serde::{Deserialize, Serialize};

/// The most refs that one push may move.
const MOST_UPDATES: usize = 10_000;
/// The most push options, and the longest one in bytes.
const MOST_OPTIONS: usize = 64;
const LONGEST_OPTION: usize = 4 << 10;

/// One push, as a hook sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookInput {
    /// What the push moves.
    pub updates: Vec<RefUpdate>,
    /// Where the objects of the push are until `pre-receive` agrees; `None` afterwards.
    pub quarantine: Option<PathBuf>,
    /// What the person gave with `git push -o`.
    pub push_options: Vec<String>,
}

/// One ref that a push moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    /// The whole name, `refs/heads/main`.
    pub name: String,
    /// Where it was; `None` when it is new. For a tag with a message this is the tag's own object.
    pub old: Option<Commit>,
    /// Where it goes; `None` when it is removed.
    pub new: Option<Commit>,
}

/// What a hook was given makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// A line is not `old new name`.
    #[error("`{0}` is not what git writes to a hook")]
    Line(String),
    /// The push is larger than anyone's good intentions.
    #[error("a push may move {MOST_UPDATES} refs and carry {MOST_OPTIONS} options of {LONGEST_OPTION} bytes")]
    TooMuch,
}

impl HookInput {
    /// Reads what git gives to a hook: lines on standard input (`old new name`) and environment
    /// variables, see `git help hooks` and `git help receive-pack`.
    ///
    /// # Errors
    /// When it is not what git gives, or too much of it.
    pub fn from_environment(
        stdin: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, HookError> {
        if stdin.lines().nth(MOST_UPDATES).is_some() {
            return Err(HookError::TooMuch);
        }
        let updates = stdin.lines().map(update).collect::<Result<_, _>>()?;
        let count = variable("GIT_PUSH_OPTION_COUNT").and_then(|count| count.parse().ok()).unwrap_or(0);
        let push_options: Vec<String> = (0..count.min(MOST_OPTIONS + 1))
            .filter_map(|n| variable(&format!("GIT_PUSH_OPTION_{n}")))
            .collect();
        if count > MOST_OPTIONS || push_options.iter().any(|option| option.len() > LONGEST_OPTION) {
            return Err(HookError::TooMuch);
        }
        Ok(Self { updates, quarantine: variable("GIT_QUARANTINE_PATH").map(PathBuf::from), push_options })
    }
}

impl RefUpdate {
    /// The branch that moves, if it is one.
    pub fn branch(&self) -> Option<Branch> {
        self.name.strip_prefix("refs/heads/").and_then(|name| Branch::parse(name).ok())
    }

    /// The tag that moves, if it is one.
    pub fn tag(&self) -> Option<Tag> {
        self.name.strip_prefix("refs/tags/").and_then(|name| Tag::parse(name).ok())
    }
}

/// Why a push is refused whatever it holds: only branches and tags with proper names are people's to
/// move; everything else in a repository belongs to the server.
pub fn refuse_hidden(updates: &[RefUpdate]) -> Option<String> {
    updates.iter().find(|update| update.branch().is_none() && update.tag().is_none()).map(|update| {
        let name: String = update.name.chars().filter(|c| !c.is_control()).take(200).collect();
        format!("`{name}` cannot be pushed to: push branches (refs/heads/…) and tags (refs/tags/…) with plain names")
    })
}

fn update(line: &str) -> Result<RefUpdate, HookError> {
    let broken = || HookError::Line(line.chars().take(200).collect());
    let mut parts = line.splitn(3, ' ');
    let (Some(old), Some(new), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(broken());
    };
    let object = |text: &str| match Commit::parse(text) {
        Ok(_) if text.bytes().all(|byte| byte == b'0') => Ok(None),
        Ok(commit) => Ok(Some(commit)),
        Err(_) => Err(broken()),
    };
    if name.is_empty() {
        return Err(broken());
    }
    Ok(RefUpdate { name: name.to_owned(), old: object(old)?, new: object(new)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const ONE: &str = "1111111111111111111111111111111111111111";

    fn check(stdin: &str, variables: &[(&str, &str)], expect: &Result<(usize, usize), HookError>) {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let read = HookInput::from_environment(stdin, lookup);
        assert_eq!(&read.map(|input| (input.updates.len(), input.push_options.len())), expect, "{stdin:?}");
    }

    #[test]
    fn reads_what_git_writes() {
        check("", &[], &Ok((0, 0)));
        check(&format!("{ZERO} {ONE} refs/heads/main\n{ONE} {ZERO} refs/heads/old\n"), &[], &Ok((2, 0)));
        let options = [("GIT_PUSH_OPTION_COUNT", "1"), ("GIT_PUSH_OPTION_0", "dry-run")];
        check(&format!("{ZERO} {ONE} refs/heads/main\n"), &options, &Ok((1, 1)));
    }

    #[test]
    fn refuses_what_git_does_not_write() {
        check("hello", &[], &Err(HookError::Line("hello".into())));
        check(
            &format!("{ZERO} xyz refs/heads/main"),
            &[],
            &Err(HookError::Line(format!("{ZERO} xyz refs/heads/main"))),
        );
        check(
            &format!("{ZERO} {ONE} refs/heads/x\n").repeat(MOST_UPDATES + 1),
            &[],
            &Err(HookError::TooMuch),
        );
        check("", &[("GIT_PUSH_OPTION_COUNT", "65")], &Err(HookError::TooMuch));
    }

    #[test]
    fn absence_is_not_a_commit() {
        let input = HookInput::from_environment(&format!("{ZERO} {ONE} refs/heads/main"), |_| None).unwrap();
        assert_eq!(input.updates[0].old, None);
        assert_eq!(input.updates[0].new.as_ref().map(Commit::as_str), Some(ONE));
        let text = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<HookInput>(&text).unwrap(), input);
    }

    #[test]
    fn only_branches_and_tags_are_pushed_to() {
        let refused = |name: &str| {
            refuse_hidden(&[RefUpdate { name: name.into(), old: None, new: Commit::parse(ONE).ok() }])
                .is_some()
        };
        for name in ["refs/heads/main", "refs/heads/feature/x", "refs/tags/v1"] {
            assert!(!refused(name), "{name} was refused");
        }
        for name in [
            "refs/spellbook/kept/x",
            "refs/notes/x",
            "refs/replace/x",
            "HEAD",
            "refs/heads/-x",
            "refs/heads/",
        ] {
            assert!(refused(name), "{name} was accepted");
        }
    }
}

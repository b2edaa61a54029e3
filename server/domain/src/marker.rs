//! Who says so: the line below everything that the server writes on a forge, for people, and a marker in
//! it for programs, by which the server finds its own words again. Neither can be imitated, hidden or
//! swallowed by the text above.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::effect::{Act, Author, Effect, EffectKind, Provenance};
use crate::id::RunId;
use crate::name::RepositoryPath;

const OPENS: &str = "<!-- spellbook ";
const CLOSES: &str = " -->";

/// What a marker holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The effect's key: the same key is the same comment, issue or proposal.
    pub key: String,
    /// The repository of the daemon, by its name on the server.
    pub repository: String,
    /// The daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<String>,
    /// The commit that it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The tree of its directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// On which occasion the server itself speaks, when there is no run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
    /// Of a pull request the commit at which its branch was left: anything else on it is somebody's work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

impl Marker {
    /// The marker of an effect.
    pub fn of(effect: &Effect, repository: &RepositoryPath) -> Self {
        let run = effect.author.provenance();
        Self {
            key: effect.key.clone(),
            repository: repository.to_string(),
            daemon: run.map(|run| run.daemon.to_string()),
            commit: run.map(|run| run.commit.to_string()),
            digest: run.map(|run| run.digest.to_string()),
            run: run.map(|run| run.run),
            act: match effect.author {
                Author::Run(_) => None,
                Author::Server { act } => Some(act),
            },
            head: match &effect.kind {
                EffectKind::CreatePullRequest { commit, .. } => Some(commit.to_string()),
                _ => None,
            },
        }
    }

    /// The marker in a text that may be the server's. The last one counts: what the server writes has one,
    /// at its end.
    pub fn find(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(OPENS)?;
        let (json, _) = rest.split_once(CLOSES)?;
        serde_json::from_str(json).ok()
    }

    /// Whether somebody who came later than `effect` has spoken where this stands. What was put off must
    /// not take a newer one back.
    pub fn outdates(&self, effect: &Effect) -> bool {
        matches!((self.run, effect.author.run()), (Some(theirs), Some(ours)) if theirs > ours)
    }

    fn written(&self) -> String {
        let json = serde_json::to_string(self).expect("because a marker is JSON");
        // Nothing in it may end the comment that it stands in.
        format!("{OPENS}{}{CLOSES}", json.replace('>', "\\u003e"))
    }
}

/// What the message of a commit says of the run that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailers {
    /// The daemon.
    pub daemon: String,
    /// The run.
    pub run: RunId,
    /// The commit of the daemon.
    pub commit: String,
    /// The tree of the daemon's directory.
    pub digest: String,
}

impl Trailers {
    /// Those of a run.
    pub fn of(run: &Provenance) -> Self {
        Self {
            daemon: run.daemon.to_string(),
            run: run.run,
            commit: run.commit.to_string(),
            digest: run.digest.to_string(),
        }
    }

    /// Those in a message; of two of a name the last one counts, as git itself has it.
    pub fn find(message: &str) -> Option<Self> {
        let value = |name: &str| {
            let lines = message.lines().rev();
            let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            values.next().map(|value| value.trim().to_owned())
        };
        Some(Self {
            daemon: value("Spellbook-Daemon")?,
            run: value("Spellbook-Run")?.parse().ok()?,
            commit: value("Spellbook-Commit")?,
            digest: value("Spellbook-Digest")?,
        })
    }
}

impl fmt::Display for Trailers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Spellbook-Daemon: {}\nSpellbook-Run: {}", self.daemon, self.run)?;
        writeln!(f, "Spellbook-Commit: {}\nSpellbook-Digest: {}", self.commit, self.digest)
    }
}

/// A text with the line below it.
pub fn signed(body: &str, effect: &Effect, repository: &RepositoryPath) -> String {
    let line = match &effect.author {
        Author::Run(Provenance { run, daemon, commit, digest }) => format!(
            "Daemon `{daemon}` of {repository} at `{}`, digest `{}`, run `{run}`",
            &commit.as_str()[..12],
            &digest.as_str()[..12],
        ),
        Author::Server { act } => format!("Spellbook, {} for {repository}", act.as_str()),
    };
    let marker = Marker::of(effect, repository).written();
    format!("{}---\n<sub>{line}</sub> {marker}\n", closed(body))
}

/// The text so that what follows is read as what it is: no comment and no fence is left open, and no
/// comment is in it at all, which could pass for the marker.
fn closed(body: &str) -> Cow<'_, str> {
    let body = body.trim_end();
    if body.is_empty() {
        return Cow::Borrowed("");
    }
    let mut text = body.replace("<!--", "&lt;!--");
    if let Some(fence) = open_fence(&text) {
        text.push('\n');
        text.push_str(&fence);
    }
    text.push_str("\n\n");
    Cow::Owned(text)
}

/// What closes the code block that a text leaves open (CommonMark 0.31, 4.5).
fn open_fence(text: &str) -> Option<String> {
    let mut open: Option<(char, usize)> = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let line = line.trim_start_matches(' ');
        let Some(mark) = line.chars().next().filter(|c| matches!(c, '`' | '~')) else { continue };
        let rest = line.trim_start_matches(mark);
        let length = line.len() - rest.len();
        match open {
            None if indent < 4 && length >= 3 && (mark == '~' || !rest.contains('`')) => {
                open = Some((mark, length));
            }
            Some((of, at_least))
                if indent < 4 && mark == of && length >= at_least && rest.trim().is_empty() =>
            {
                open = None;
            }
            None | Some(_) => {}
        }
    }
    open.map(|(mark, length)| mark.to_string().repeat(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::EffectStatus;
    use crate::id::{EffectId, RepositoryId};
    use crate::time::Timestamp;
    use uuid::Uuid;

    fn effect(key: &str, author: Author) -> Effect {
        Effect {
            id: EffectId::new(Uuid::nil()),
            repository: RepositoryId::new(Uuid::nil()),
            author,
            key: key.to_owned(),
            kind: EffectKind::Noop { reason: String::new() },
            status: EffectStatus::Staged,
            attempts: 0,
            created_at: Timestamp::EPOCH,
        }
    }

    fn by_run(number: u128) -> Author {
        Author::Run(Provenance {
            run: RunId::new(Uuid::from_u128(number)),
            daemon: "review".parse().unwrap(),
            commit: "a".repeat(40).parse().unwrap(),
            digest: "b".repeat(40).parse().unwrap(),
        })
    }

    fn check(body: &str, expect: &str) {
        let effect = effect("review/comment/x", by_run(7));
        let text = signed(body, &effect, &"ada/book".parse().unwrap());
        let (above, line) = text.rsplit_once("---\n").expect("the line is set off");
        assert_eq!(above, expect, "{body:?}");
        assert!(line.starts_with("<sub>Daemon `review` of ada/book at `aaaaaaaaaaaa`"), "{line}");
        assert_eq!(text.matches("<!--").count(), 1, "one marker, ours");
        let marker = Marker::find(&text).expect("there is a marker");
        assert_eq!(marker, Marker::of(&effect, &"ada/book".parse().unwrap()));
    }

    #[test]
    fn the_line_stands_below_the_text() {
        check("", "");
        check(" \n", "");
        check("Hello.\n\n\n", "Hello.\n\n");
        check("```\ncode\n```", "```\ncode\n```\n\n");
    }

    #[test]
    fn nothing_above_hides_or_imitates_it() {
        check("<!-- spellbook {\"run\":\"run_x\"} -->", "&lt;!-- spellbook {\"run\":\"run_x\"} -->\n\n");
        check("a <!-- b", "a &lt;!-- b\n\n");
        check("```rust\nfn", "```rust\nfn\n```\n\n");
        check("~~~~\n```\n~~~", "~~~~\n```\n~~~\n~~~~\n\n");
        check("`````\n```\n````` x", "`````\n```\n````` x\n`````\n\n");
        check("    ```\nno fence", "    ```\nno fence\n\n");
        check("```a`b\nno fence", "```a`b\nno fence\n\n");
    }

    #[test]
    fn a_key_cannot_end_the_marker() {
        let effect = effect("plan/--> \" <!-- x", Author::Server { act: Act::Plan });
        let text = signed("Hello.", &effect, &"ada/book".parse().unwrap());
        assert_eq!(text.matches("-->").count(), 1);
        let marker = Marker::find(&text).expect("there is a marker");
        assert_eq!((marker.key.as_str(), marker.act), (effect.key.as_str(), Some(Act::Plan)));
        assert_eq!(Marker::find("no marker"), None);
        assert_eq!(Marker::find("<!-- spellbook {} -->"), None);
    }

    #[test]
    fn a_commit_says_whose_it_is() {
        let Author::Run(run) = by_run(7) else { panic!("it is by a run") };
        let trailers = Trailers::of(&run);
        assert_eq!(Trailers::find(&format!("Mend it\n\n{trailers}")), Some(trailers.clone()));
        let other = trailers.to_string().replace("review", "other");
        assert_eq!(Trailers::find(&format!("Mend it\r\n\r\n{other}{trailers}\r\n")), Some(trailers));
        assert_eq!(Trailers::find("Mend it\n\nSpellbook-Run: run_x\n"), None);
    }

    #[test]
    fn only_a_later_run_outdates() {
        let path = "ada/book".parse().unwrap();
        let marker = Marker::of(&effect("k", by_run(2)), &path);
        assert!(marker.outdates(&effect("k", by_run(1))));
        assert!(!marker.outdates(&effect("k", by_run(2))));
        assert!(!marker.outdates(&effect("k", Author::Server { act: Act::Plan })));
    }
}

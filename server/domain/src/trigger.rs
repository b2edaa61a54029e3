//! Triggers: when a daemon wants to run, and the decision whether an event is such a moment.
//! The decision is recorded with its reason, so that "why did it not run?" has an answer.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Event, EventKind};

/// A declared condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// What must happen.
    pub on: TriggerKind,
    /// What must hold besides.
    #[serde(default)]
    pub filter: Filter,
    /// An expression that, when true, keeps the daemon from running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_if: Option<String>,
    /// No second run within this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// Wait this long for a newer event, which takes the place of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce: Option<Duration>,
}

impl Trigger {
    /// A trigger without conditions.
    pub fn on(on: TriggerKind) -> Self {
        Self { on, filter: Filter::default(), skip_if: None, cooldown: None, debounce: None }
    }
}

/// What must happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum TriggerKind {
    /// Commits arrive.
    Push,
    /// A pull request changes. Without `types` in its filter, it comes, comes back or gets commits; to a trigger
    /// that takes no drafts it comes when it is no draft any more, too.
    PullRequest,
    /// Someone comments. Without `roles` in its filter, someone who may write.
    Comment {
        /// The word that the comment must command, without the slash: `/<command>`; `None` hears every comment that
        /// commands nothing.
        command: Option<String>,
    },
    /// An issue changes.
    Issues,
    /// A label is put on.
    Label {
        /// Which; any of them.
        names: Vec<String>,
    },
    /// A release is published.
    Release,
    /// A suite of checks ends.
    CheckSuite,
    /// A clock strikes.
    Schedule {
        /// Five fields: minute, hour, day of month, month, day of week.
        cron: String,
        /// An IANA time zone.
        timezone: String,
    },
    /// The daemon's own endpoint is called.
    Webhook {
        /// The secret that signs the calls.
        secret: crate::name::SecretName,
    },
    /// Another daemon of the repository ends.
    Daemon {
        /// Which; any of them.
        ids: Vec<crate::name::DaemonId>,
    },
    /// A person or a program asks. Always possible, declared or not.
    Manual,
}

impl TriggerKind {
    /// The kind of event that it waits for.
    pub const fn event(&self) -> EventKind {
        match self {
            Self::Push => EventKind::Push,
            Self::PullRequest => EventKind::PullRequest,
            Self::Comment { .. } => EventKind::Comment,
            Self::Issues => EventKind::Issues,
            Self::Label { .. } => EventKind::Label,
            Self::Release => EventKind::Release,
            Self::CheckSuite => EventKind::CheckSuite,
            Self::Schedule { .. } => EventKind::Schedule,
            Self::Webhook { .. } => EventKind::Webhook,
            Self::Daemon { .. } => EventKind::Daemon,
            Self::Manual => EventKind::Manual,
        }
    }
}

/// What must hold besides; an empty list holds always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The event's action is one of these.
    pub types: Vec<String>,
    /// The branch matches one of these globs, and no later one that begins with `!`.
    pub branches: Vec<String>,
    /// A changed file matches one of these globs.
    pub paths: Vec<String>,
    /// Not every changed file matches one of these globs.
    pub paths_ignore: Vec<String>,
    /// The actor is one of these.
    pub actors: Vec<String>,
    /// The actor has one of these roles, or a higher one.
    pub roles: Vec<String>,
    /// The thing bears one of these labels.
    pub labels: Vec<String>,
    /// Whether drafts count; `None` and `Some(true)` take them.
    pub drafts: Option<bool>,
}

/// Whether an event is what a trigger waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It is.
    Yes,
    /// It is not, and this is the first rule that says so.
    No(Mismatch),
}

/// The rule by which an event is not what a trigger waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// Another kind of event.
    Kind {
        /// What the trigger waits for.
        wanted: EventKind,
    },
    /// Another action, branch, actor, …: the filter of this name does not hold.
    Filter {
        /// The filter's key in the manifest.
        key: &'static str,
        /// What it asks for.
        wanted: String,
        /// What the event has.
        found: String,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind { wanted } => write!(f, "it waits for {}", wanted.as_str()),
            Self::Filter { key, wanted, found } if found.is_empty() => {
                write!(f, "`{key}` wants {wanted}; the event has none")
            }
            Self::Filter { key, wanted, found } => write!(f, "`{key}` wants {wanted}; the event has {found}"),
        }
    }
}

/// Decides whether `event` is what `trigger` waits for. Pure; `skip_if`, `cooldown` and `debounce`
/// need more than the event and are decided by the engine.
pub fn matching(trigger: &Trigger, event: &Event) -> Match {
    let wanted = trigger.on.event();
    if wanted != event.kind {
        return Match::No(Mismatch::Kind { wanted });
    }
    match mismatch(&trigger.on, &trigger.filter, event) {
        None => Match::Yes,
        Some(mismatch) => Match::No(mismatch),
    }
}

fn mismatch(on: &TriggerKind, filter: &Filter, event: &Event) -> Option<Mismatch> {
    let fail = |key, wanted: &[String], found: String| {
        Some(Mismatch::Filter { key, wanted: wanted.join(", "), found })
    };
    let action = event.action.clone().unwrap_or_default();
    let branch = event.branch.as_ref().map(ToString::to_string).unwrap_or_default();
    let role = event.actor.role.clone().unwrap_or_default();
    // Anybody may comment; what a comment starts is done with the server's means.
    let writers = [WRITE.to_owned()];
    let roles = match on {
        TriggerKind::Comment { .. } if filter.roles.is_empty() => &writers[..],
        _ => &filter.roles,
    };
    let types = match on {
        TriggerKind::PullRequest if filter.types.is_empty() => pull_request_types(filter),
        _ => filter.types.clone(),
    };
    let subject = subject_mismatch(on, event);
    if subject.is_some() {
        return subject;
    }
    if !types.is_empty() && !types.contains(&action) {
        return fail("types", &types, action);
    }
    if !filter.branches.is_empty() && !globs_select(&filter.branches, &branch) {
        return fail("branches", &filter.branches, branch);
    }
    if !filter.paths.is_empty() && !event.paths.iter().any(|path| globs_select(&filter.paths, path)) {
        return fail("paths", &filter.paths, some(&event.paths));
    }
    let ignored = |path: &String| globs_select(&filter.paths_ignore, path);
    if !filter.paths_ignore.is_empty() && event.paths.iter().all(ignored) {
        return fail("paths_ignore", &filter.paths_ignore, some(&event.paths));
    }
    if !filter.actors.is_empty() && !filter.actors.contains(&event.actor.name) {
        return fail("actors", &filter.actors, event.actor.name.clone());
    }
    if !roles.is_empty() && !roles.iter().any(|wanted| reaches(&role, wanted)) {
        return fail("roles", roles, role);
    }
    if !filter.labels.is_empty() && !event.labels.iter().any(|label| filter.labels.contains(label)) {
        return fail("labels", &filter.labels, event.labels.join(", "));
    }
    if event.draft && filter.drafts == Some(false) {
        return fail("drafts", &["false".to_owned()], "a draft".to_owned());
    }
    None
}

/// What a trigger hears of pull requests when it does not say (as GitHub's workflows).
fn pull_request_types(filter: &Filter) -> Vec<String> {
    let ready = (filter.drafts == Some(false)).then_some("ready_for_review");
    ["opened", "synchronize", "reopened"].into_iter().chain(ready).map(str::to_owned).collect()
}

/// What accounts may be in a repository, each more than the one before (GitHub's repository roles).
pub const ROLES: [&str; 5] = ["read", "triage", "write", "maintain", "admin"];

/// The role of those whose work is the repository's own.
pub const WRITE: &str = "write";

/// Whether a role is the wanted one or a higher one. A role of the forge's own making is only itself.
pub fn reaches(role: &str, wanted: &str) -> bool {
    let rank = |role: &str| ROLES.iter().position(|known| *known == role);
    match (rank(role), rank(wanted)) {
        (Some(role), Some(wanted)) => role >= wanted,
        _ => role == wanted,
    }
}

/// The first of a list and how many more there are: the reason is stored for every daemon.
fn some(paths: &[String]) -> String {
    let shown = paths.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    if paths.len() > 5 { format!("{shown} and {} more", paths.len() - 5) } else { shown }
}

/// What a kind of trigger asks of the event beyond its kind.
fn subject_mismatch(on: &TriggerKind, event: &Event) -> Option<Mismatch> {
    let text = |pointer: &str| {
        event.payload.pointer(pointer).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    };
    let (key, wanted, found) = match on {
        TriggerKind::Comment { command: Some(command) } => {
            ("command", vec![command.clone()], text("/command"))
        }
        TriggerKind::Label { names } => ("label", names.clone(), text("/label/name")),
        TriggerKind::Daemon { ids } => {
            ("daemon", ids.iter().map(ToString::to_string).collect(), text("/daemon/id"))
        }
        TriggerKind::Comment { command: None }
        | TriggerKind::Push
        | TriggerKind::PullRequest
        | TriggerKind::Issues
        | TriggerKind::Release
        | TriggerKind::CheckSuite
        | TriggerKind::Schedule { .. }
        | TriggerKind::Webhook { .. }
        | TriggerKind::Manual => return None,
    };
    let holds = wanted.is_empty() || wanted.contains(&found);
    (!holds).then(|| Mismatch::Filter { key, wanted: wanted.join(", "), found })
}

/// Whether an ordered list of globs selects `text`: the last one that matches decides, and one that
/// begins with `!` decides against (as in GitHub's workflow filters). `**` crosses slashes, `*` does not.
pub fn globs_select(globs: &[String], text: &str) -> bool {
    let mut selected = false;
    for glob in globs {
        let (pattern, verdict) = glob.strip_prefix('!').map_or((glob.as_str(), true), |rest| (rest, false));
        let compiled = globset::GlobBuilder::new(pattern).literal_separator(true).build();
        if compiled.is_ok_and(|glob| glob.compile_matcher().is_match(text)) {
            selected = verdict;
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Actor;
    use crate::id::{EventId, RepositoryId};
    use crate::time::Timestamp;
    use crate::value::Taint;
    use uuid::Uuid;

    fn push(branch: &str, paths: &[&str]) -> Event {
        Event {
            id: EventId::new(Uuid::nil()),
            repository: RepositoryId::new(Uuid::nil()),
            kind: EventKind::Push,
            action: None,
            branch: branch.parse().ok(),
            commit: None,
            paths: paths.iter().map(ToString::to_string).collect(),
            actor: Actor { name: "ada".to_owned(), role: Some("write".to_owned()), bot: false },
            labels: vec![],
            draft: false,
            payload: serde_json::Value::Null,
            taint: Taint::External,
            depth: 0,
            occurred_at: Timestamp::EPOCH,
        }
    }

    fn check(edit: impl FnOnce(&mut Filter), event: &Event, expect: &str) {
        let mut trigger = Trigger::on(TriggerKind::Push);
        edit(&mut trigger.filter);
        let got = match matching(&trigger, event) {
            Match::Yes => "yes".to_owned(),
            Match::No(mismatch) => mismatch.to_string(),
        };
        assert_eq!(got, expect);
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_filter_says_why_not() {
        let event = push("main", &["src/a.rs", "docs/a.md"]);
        check(|_| {}, &event, "yes");
        check(
            |f| f.branches = list(&["release/*"]),
            &event,
            "`branches` wants release/*; the event has main",
        );
        check(|f| f.paths = list(&["src/**"]), &event, "yes");
        check(|f| f.paths = list(&["*.rs"]), &event, "`paths` wants *.rs; the event has src/a.rs, docs/a.md");
        check(|f| f.paths_ignore = list(&["docs/**"]), &event, "yes");
        check(
            |f| f.paths_ignore = list(&["**"]),
            &event,
            "`paths_ignore` wants **; the event has src/a.rs, docs/a.md",
        );
        check(|f| f.roles = list(&["admin"]), &event, "`roles` wants admin; the event has write");
        check(|f| f.types = list(&["opened"]), &event, "`types` wants opened; the event has none");
    }

    #[test]
    fn a_comment_is_of_someone_who_may_write_unless_it_says_who() {
        let check = |roles: &[&str], role: Option<&str>, expect: bool| {
            let mut trigger = Trigger::on(TriggerKind::Comment { command: None });
            trigger.filter.roles = list(roles);
            let mut event = push("main", &[]);
            event.kind = EventKind::Comment;
            event.actor.role = role.map(str::to_owned);
            assert_eq!(matching(&trigger, &event) == Match::Yes, expect, "{roles:?} and {role:?}");
        };
        check(&[], Some("write"), true);
        check(&[], Some("admin"), true);
        check(&[], Some("triage"), false);
        check(&[], None, false);
        check(&["read"], Some("triage"), true);
        check(&["read"], None, false);
        check(&["admin"], Some("write"), false);
    }

    #[test]
    fn a_pull_request_has_new_commits_unless_the_trigger_says_what_else() {
        let check = |edit: fn(&mut Filter), action: &str, expect: bool| {
            let mut trigger = Trigger::on(TriggerKind::PullRequest);
            edit(&mut trigger.filter);
            let mut event = push("main", &[]);
            (event.kind, event.action) = (EventKind::PullRequest, Some(action.to_owned()));
            assert_eq!(matching(&trigger, &event) == Match::Yes, expect, "{:?} and {action}", trigger.filter);
        };
        for (action, expect) in [
            ("opened", true),
            ("synchronize", true),
            ("reopened", true),
            ("labeled", false),
            ("closed", false),
            ("ready_for_review", false),
        ] {
            check(|_| {}, action, expect);
        }
        check(|filter| filter.drafts = Some(false), "ready_for_review", true);
        check(|filter| filter.types = list(&["closed"]), "closed", true);
        check(|filter| filter.types = list(&["closed"]), "opened", false);
    }

    #[test]
    fn the_last_glob_that_matches_decides() {
        let globs = list(&["**", "!docs/**", "docs/keep.md"]);
        assert!(globs_select(&globs, "src/a.rs"));
        assert!(!globs_select(&globs, "docs/a.md"));
        assert!(globs_select(&globs, "docs/keep.md"));
    }

    #[test]
    fn another_kind_of_event_never_matches() {
        let trigger = Trigger::on(TriggerKind::Release);
        assert_eq!(
            matching(&trigger, &push("main", &[])),
            Match::No(Mismatch::Kind { wanted: EventKind::Release })
        );
    }
}

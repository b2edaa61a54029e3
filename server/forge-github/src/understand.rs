//! What a webhook of GitHub says. Pure: nobody is asked, and no body makes it panic; what is not as GitHub
//! writes it is ignored, with the reason.
//!
//! An edit never triggers: of comments only those that are written count. Pushes are hints to look; git
//! says what came. What the server itself did is left out.

use domain::effect::CommentKind;
use domain::name::ForgeName;
use domain::repository::Place;
use domain::time::Timestamp;
use ports::forge::{Fact, Found, Moved, Understood};
use serde_json::{Value, json};

use crate::shape::{self, Thread, Told};

/// GitHub sends no more than this (<https://docs.github.com/webhooks/webhook-events-and-payloads>).
const LARGEST: usize = 25 << 20;

/// The actions of pull requests that are facts.
const PULL_ACTIONS: [&str; 14] = [
    "opened",
    "edited",
    "synchronize",
    "reopened",
    "closed",
    "ready_for_review",
    "converted_to_draft",
    "labeled",
    "unlabeled",
    "assigned",
    "unassigned",
    "review_requested",
    "review_request_removed",
    "milestoned",
];
/// Those after which its commits may be others.
const PULL_MOVES: [&str; 4] = ["opened", "synchronize", "reopened", "closed"];
/// The actions of issues that are facts.
const ISSUE_ACTIONS: [&str; 9] = [
    "opened",
    "edited",
    "closed",
    "reopened",
    "labeled",
    "unlabeled",
    "assigned",
    "unassigned",
    "milestoned",
];

/// Who reads: which forge it is, and who the server is there.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The operator's name for the forge.
    pub forge: &'a ForgeName,
    /// Where its repositories are, for git and for people: `https://github.com`.
    pub web_url: &'a str,
    /// The number of the server's own account, where it is known.
    pub own: Option<u64>,
    /// The name of the server's app in addresses, where it is one; its account is `<slug>[bot]`.
    pub app: Option<&'a str>,
}

impl Reader<'_> {
    /// What a webhook of this name says.
    pub fn understand(&self, name: &str, body: &[u8], received_at: Timestamp) -> Understood {
        if body.len() > LARGEST {
            return ignored(format!("it is larger than {} MiB", LARGEST >> 20));
        }
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return ignored(if body.starts_with(b"payload=") {
                "it is a form: set the webhook's content type to `application/json`"
            } else {
                "it is not JSON, or nested too deeply"
            });
        };
        self.read(name, &json, received_at)
    }

    /// What a webhook of this name says, once it is known to be JSON.
    pub fn read(&self, name: &str, json: &Value, received_at: Timestamp) -> Understood {
        let hook = Hook { reader: *self, json, at: received_at };
        match name {
            "push" | "create" | "delete" => hook.about(Moved::Perhaps, Vec::new()),
            "pull_request" => hook.pull_request(),
            "issues" => hook.issue(),
            "issue_comment" => hook.comment(CommentKind::Issue, "issue"),
            "pull_request_review_comment" => hook.comment(CommentKind::Review, "pull_request"),
            "pull_request_review" => hook.review(),
            "release" => hook.once("published", "release", shape::release_fact),
            "check_suite" => hook.once("completed", "check_suite", shape::check_suite_fact),
            "repository" => hook.repository(),
            "installation" => hook.installation(),
            "installation_repositories" => hook.installed("repositories_added", "repositories_removed"),
            "public" => hook.about(Moved::Perhaps, Vec::new()),
            "commit_comment" => ignored("a comment on a commit is under no issue and no pull request"),
            "ping" => ignored("GitHub tries whether the webhook works; it does"),
            _ => ignored(format!("`{name}` starts nothing")),
        }
    }
}

/// A webhook that is JSON.
struct Hook<'a> {
    reader: Reader<'a>,
    json: &'a Value,
    at: Timestamp,
}

impl<'a> Hook<'a> {
    fn pull_request(&self) -> Understood {
        let action = self.action();
        if !PULL_ACTIONS.contains(&action) {
            return ignored(format!("`{action}` of a pull request starts nothing"));
        }
        let pull = self.part("pull_request");
        let Some(fact) = shape::pull_fact(&self.told(), pull) else { return self.odd("pull_request") };
        let label = self.label(Thread::Pull(pull));
        let moved = if PULL_MOVES.contains(&action) { Moved::Perhaps } else { Moved::No };
        self.about(moved, [Some(fact), label].into_iter().flatten().collect())
    }

    fn issue(&self) -> Understood {
        let action = self.action();
        if !ISSUE_ACTIONS.contains(&action) {
            return ignored(format!("`{action}` of an issue starts nothing"));
        }
        let issue = self.part("issue");
        let Some(fact) = shape::issue_fact(&self.told(), issue) else { return self.odd("issue") };
        let label = self.label(Thread::Issue(issue));
        self.about(Moved::No, [Some(fact), label].into_iter().flatten().collect())
    }

    /// The label that was put on, when one was.
    fn label(&self, thread: Thread<'_>) -> Option<Fact> {
        if self.action() != "labeled" {
            return None;
        }
        shape::label_fact(&self.told(), self.part("label"), thread, None)
    }

    fn comment(&self, kind: CommentKind, under: &str) -> Understood {
        match self.action() {
            "created" => {}
            "edited" => return ignored("an edit never triggers"),
            action => return ignored(format!("`{action}` of a comment starts nothing")),
        }
        match shape::comment_fact(&self.told(), kind, self.part("comment"), self.part(under)) {
            Some(fact) => self.about(Moved::No, vec![fact]),
            None => self.odd("comment"),
        }
    }

    /// A review is a fact about its pull request. It is no comment: nobody can react to it or answer below it,
    /// and the comments that it holds come by themselves.
    fn review(&self) -> Understood {
        if self.action() != "submitted" {
            return ignored(format!("`{}` of a review starts nothing", self.action()));
        }
        let review = self.part("review");
        let fact = shape::pull_fact(&self.told(), self.part("pull_request"));
        let (Some(mut fact), Some(id)) = (fact, shape::number(review, "/id")) else {
            return self.odd("review");
        };
        let number = shape::number(self.part("pull_request"), "/number").unwrap_or_default();
        fact.key = format!("pull/{number}/review/{id}");
        fact.occurred_at = shape::moment(review, "/submitted_at").unwrap_or(fact.occurred_at);
        let state = shape::text(review, "/state").unwrap_or_default().to_lowercase();
        let body = shape::text(review, "/body").unwrap_or_default();
        if let Some(payload) = fact.payload.as_object_mut() {
            payload.insert("review".to_owned(), json!({ "state": state, "body": body }));
        }
        self.about(Moved::No, vec![fact])
    }

    /// Of a release and of a suite of checks one action counts: the others say the same once more, or say
    /// what nobody who asks later could find out.
    fn once(&self, action: &str, part: &str, fact: fn(&Told<'_>, &Value) -> Option<Fact>) -> Understood {
        if self.action() != action {
            return ignored(format!("`{}` starts nothing, only `{action}` does", self.action()));
        }
        match fact(&self.told(), self.part(part)) {
            Some(fact) => self.about(Moved::No, vec![fact]),
            None => self.odd(part),
        }
    }

    fn repository(&self) -> Understood {
        match self.action() {
            "deleted" => match self.place() {
                Some(place) => Understood::Installed { added: Vec::new(), removed: vec![place] },
                None => self.odd("repository"),
            },
            // Without an installation it is told to an organisation's webhook: the server is not at home there.
            "created" if shape::number(self.json, "/installation/id").is_some() => {
                match self.found(self.part("repository")) {
                    Some(found) => Understood::Installed { added: vec![found], removed: Vec::new() },
                    None => self.odd("repository"),
                }
            }
            "created" => ignored("the server is not at home in the new repository"),
            _ => self.about(Moved::Perhaps, Vec::new()),
        }
    }

    /// GitHub names the repositories of an installation when it is made and when it is ended; of what happens
    /// between it says only that it happened, and the server asks.
    fn installation(&self) -> Understood {
        match self.action() {
            "created" => self.installed("repositories", ""),
            "deleted" => self.installed("", "repositories"),
            "suspend" | "unsuspend" | "new_permissions_accepted" => {
                Understood::Installed { added: Vec::new(), removed: Vec::new() }
            }
            action => ignored(format!("`{action}` of an installation starts nothing")),
        }
    }

    fn installed(&self, added: &str, removed: &str) -> Understood {
        let list = |key: &str| self.part(key).as_array().into_iter().flatten();
        Understood::Installed {
            added: list(added).filter_map(|repository| self.found(repository)).collect(),
            removed: list(removed)
                .filter_map(|repository| shape::place(self.reader.forge, repository))
                .collect(),
        }
    }

    /// Something about the repository that the webhook names. What the server itself did is no news to it.
    fn about(&self, moved: Moved, facts: Vec<Fact>) -> Understood {
        let Some(place) = self.place() else { return self.odd("repository") };
        if self.is_own() {
            return match moved {
                Moved::Perhaps => Understood::About { place, moved, facts: Vec::new() },
                Moved::No => ignored("the server itself did it"),
            };
        }
        Understood::About { place, moved, facts }
    }

    /// Whether the server's own account did it. A number is nobody else's, and only an app's account has a
    /// name that ends in `[bot]`.
    fn is_own(&self) -> bool {
        let sender = self.part("sender");
        let by_number = self.reader.own.is_some() && shape::number(sender, "/id") == self.reader.own;
        let login = shape::text(sender, "/login").and_then(|login| login.strip_suffix("[bot]"));
        let by_app = self.reader.app.is_some() && login == self.reader.app;
        by_number || by_app && shape::text(sender, "/type") == Some("Bot")
    }

    fn told(&self) -> Told<'a> {
        Told {
            action: self.action(),
            sender: self.part("sender"),
            repository: self.part("repository"),
            own: self.reader.own,
            at: self.at,
        }
    }

    fn action(&self) -> &'a str {
        shape::text(self.json, "/action").unwrap_or_default()
    }

    fn part(&self, key: &str) -> &'a Value {
        self.json.get(key).unwrap_or(&Value::Null)
    }

    fn place(&self) -> Option<Place> {
        shape::place(self.reader.forge, self.part("repository"))
    }

    fn found(&self, repository: &Value) -> Option<Found> {
        shape::found(self.reader.forge, self.reader.web_url, repository)
    }

    fn odd(&self, part: &str) -> Understood {
        ignored(format!("its `{part}` is not as GitHub writes it"))
    }
}

fn ignored(reason: impl Into<String>) -> Understood {
    Understood::Ignored(reason.into())
}

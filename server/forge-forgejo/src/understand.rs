//! What a webhook of Forgejo says. Pure: nobody is asked, and no body makes it panic; what is not as Forgejo
//! writes it is ignored, with the reason.
//!
//! An edit never triggers: of comments only those that are written count. Pushes are hints to look; git
//! says what came. What the server itself did is left out. Of labels Forgejo says only which there are now: which
//! one was put on is found by asking, unless it is said.

use domain::effect::CommentKind;
use domain::name::ForgeName;
use domain::repository::Place;
use domain::time::Timestamp;
use ports::forge::{Fact, Moved, Understood};
use serde_json::{Value, json};

use crate::shape::{self, Thread, Told};
use crate::thing::account;

/// As much as GitHub sends at most; Forgejo names no limit.
const LARGEST: usize = 25 << 20;

/// Who reads: which forge it is, and who the server is there.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The operator's name for the forge.
    pub forge: &'a ForgeName,
    /// The number of the server's own account, where it is known.
    pub own: Option<u64>,
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
        let sender = account(json.get("sender").unwrap_or(&Value::Null));
        let hook = Hook { reader: *self, json: &json, sender: &sender, at: received_at };
        match name {
            "push" | "create" | "delete" => hook.about(Moved::Perhaps, Vec::new()),
            "pull_request" => hook.pull_request(),
            "issues" => hook.issue(),
            "issue_comment" => hook.comment(),
            "pull_request_approved" => hook.review("approved"),
            "pull_request_rejected" => hook.review("changes_requested"),
            "pull_request_comment" => hook.review("commented"),
            "release" => hook.release(),
            "repository" => hook.repository(),
            "action_run_success" | "action_run_recover" => hook.forgejo_run("success"),
            "action_run_failure" => hook.forgejo_run("failure"),
            "workflow_run" => hook.gitea_run(),
            _ => ignored(format!("`{name}` starts nothing")),
        }
    }
}

/// A webhook that is JSON.
struct Hook<'a> {
    reader: Reader<'a>,
    json: &'a Value,
    sender: &'a Value,
    at: Timestamp,
}

impl<'a> Hook<'a> {
    fn pull_request(&self) -> Understood {
        let Some(action) = self.known_action() else {
            return ignored(format!("`{}` of a pull request starts nothing", self.action()));
        };
        let pull = self.part("pull_request");
        let Some(fact) = shape::pull_fact(&self.told(action), pull) else { return self.odd("pull_request") };
        let moves = ["opened", "synchronize", "reopened", "closed"].contains(&action);
        let moved = if moves { Moved::Perhaps } else { Moved::No };
        self.about(moved, [fact].into_iter().chain(self.labels(Thread::Pull(pull))).collect())
    }

    fn issue(&self) -> Understood {
        let Some(action) = self.known_action() else {
            return ignored(format!("`{}` of an issue starts nothing", self.action()));
        };
        let issue = self.part("issue");
        let Some(fact) = shape::issue_fact(&self.told(action), issue) else { return self.odd("issue") };
        self.about(Moved::No, [fact].into_iter().chain(self.labels(Thread::Issue(issue))).collect())
    }

    /// The action in the words of all forges.
    fn known_action(&self) -> Option<&'static str> {
        let labels = ["/pull_request/labels", "/issue/labels"].iter().find_map(|at| self.json.pointer(at));
        let has_labels = labels.and_then(Value::as_array).is_some_and(|labels| !labels.is_empty());
        Some(match self.action() {
            "opened" => "opened",
            "edited" => "edited",
            "synchronized" => "synchronize",
            "reopened" => "reopened",
            "closed" => "closed",
            "label_updated" if has_labels => "labeled",
            "label_updated" | "label_cleared" => "unlabeled",
            "assigned" => "assigned",
            "unassigned" => "unassigned",
            "review_requested" => "review_requested",
            "review_request_removed" => "review_request_removed",
            "milestoned" => "milestoned",
            _ => return None,
        })
    }

    /// The labels that were put on, where it is said which.
    fn labels(&self, thread: Thread<'a>) -> Vec<Fact> {
        let added = self.json.pointer("/changes/added_labels").and_then(Value::as_array);
        let fact = |label| shape::label_fact(&self.told("labeled"), label, thread, None);
        added.into_iter().flatten().filter_map(fact).collect()
    }

    /// A comment in a conversation. Those at a line come with their review, and nobody can be answered there.
    fn comment(&self) -> Understood {
        match self.action() {
            "created" => {}
            "edited" => return ignored("an edit never triggers"),
            action => return ignored(format!("`{action}` of a comment starts nothing")),
        }
        let mut issue = self.part("issue").clone();
        if shape::flag(self.json, "/is_pull") == Some(true) && issue["pull_request"].is_null() {
            let Some(issue) = issue.as_object_mut() else { return self.odd("issue") };
            issue.insert("pull_request".to_owned(), json!({}));
        }
        let told = self.told("created");
        match shape::comment_fact(&told, CommentKind::Issue, self.part("comment"), &issue) {
            Some(fact) => self.about(Moved::No, vec![fact]),
            None => self.odd("comment"),
        }
    }

    /// A review is a fact about its pull request; it has no number.
    fn review(&self, state: &str) -> Understood {
        let pull = self.part("pull_request");
        let (Some(mut fact), Some(number)) =
            (shape::pull_fact(&self.told("submitted"), pull), shape::number(pull, "/number"))
        else {
            return self.odd("pull_request");
        };
        fact.key = format!("pull/{number}/review/{state}/{}", fact.occurred_at);
        let body = shape::text(self.json, "/review/content").unwrap_or_default();
        if let Some(payload) = fact.payload.as_object_mut() {
            payload.insert("review".to_owned(), json!({ "state": state, "body": body }));
        }
        self.about(Moved::No, vec![fact])
    }

    fn release(&self) -> Understood {
        if self.action() != "published" {
            return ignored(format!("`{}` starts nothing, only `published` does", self.action()));
        }
        match shape::release_fact(&self.told("published"), self.part("release")) {
            Some(fact) => self.about(Moved::No, vec![fact]),
            None => self.odd("release"),
        }
    }

    fn repository(&self) -> Understood {
        match (self.action(), self.place()) {
            ("deleted", Some(place)) => Understood::Installed { added: Vec::new(), removed: vec![place] },
            ("created", _) => ignored("the server is not at home in the new repository"),
            (_, Some(_)) => self.about(Moved::Perhaps, Vec::new()),
            (_, None) => self.odd("repository"),
        }
    }

    /// A run of Forgejo's Actions that ended.
    fn forgejo_run(&self, conclusion: &str) -> Understood {
        let run = self.part("run");
        self.suite(&json!({
            "id": run["id"], "conclusion": conclusion, "head_branch": run["prettyref"],
            "head_sha": run["commit_sha"], "updated_at": run["updated"], "app": { "slug": "forgejo-actions" },
        }))
    }

    /// The same of Gitea's.
    fn gitea_run(&self) -> Understood {
        if self.action() != "completed" {
            return ignored(format!("`{}` starts nothing, only `completed` does", self.action()));
        }
        let run = self.part("workflow_run");
        self.suite(&json!({
            "id": run["id"], "conclusion": run["conclusion"], "head_branch": run["head_branch"],
            "head_sha": run["head_sha"], "updated_at": run["completed_at"], "app": { "slug": "gitea-actions" },
        }))
    }

    fn suite(&self, suite: &Value) -> Understood {
        match shape::check_suite_fact(&self.told("completed"), suite) {
            Some(fact) => self.about(Moved::No, vec![fact]),
            None => self.odd("run"),
        }
    }

    /// Something about the repository that the webhook names. What the server itself did is no news to it.
    fn about(&self, moved: Moved, facts: Vec<Fact>) -> Understood {
        let Some(place) = self.place() else { return self.odd("repository") };
        let is_own = self.reader.own.is_some() && shape::number(self.sender, "/id") == self.reader.own;
        match moved {
            Moved::Perhaps if is_own => Understood::About { place, moved, facts: Vec::new() },
            Moved::No if is_own => ignored("the server itself did it"),
            Moved::Perhaps | Moved::No => Understood::About { place, moved, facts },
        }
    }

    fn told(&self, action: &'a str) -> Told<'a> {
        let repository = self.repository_part();
        Told { action, sender: self.sender, repository, own: self.reader.own, at: self.at }
    }

    fn action(&self) -> &'a str {
        shape::text(self.json, "/action").unwrap_or_default()
    }

    fn part(&self, key: &str) -> &'a Value {
        self.json.get(key).unwrap_or(&Value::Null)
    }

    /// A run of Forgejo's Actions has the repository inside.
    fn repository_part(&self) -> &'a Value {
        let inside = self.json.pointer("/run/repository");
        self.json.get("repository").filter(|there| !there.is_null()).or(inside).unwrap_or(&Value::Null)
    }

    fn place(&self) -> Option<Place> {
        shape::place(self.reader.forge, self.repository_part())
    }

    fn odd(&self, part: &str) -> Understood {
        ignored(format!("its `{part}` is not as Forgejo writes it"))
    }
}

fn ignored(reason: impl Into<String>) -> Understood {
    Understood::Ignored(reason.into())
}

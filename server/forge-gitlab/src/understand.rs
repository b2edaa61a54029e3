//! What a webhook of GitLab says. Pure: nobody is asked, and no body makes it panic; what is not as GitLab writes it
//! is ignored, with the reason.
//!
//! An edit never triggers: of comments only those that are written count. Pushes are hints to look; git says what
//! came. What the server itself did is left out, and so is what is confidential: a run's page is read by more people.

use domain::effect::CommentKind;
use domain::name::ForgeName;
use domain::repository::Place;
use domain::time::Timestamp;
use ports::forge::{Fact, Moved, Understood};
use serde_json::{Value, json};

use crate::shape::{self, Thread, Told};
use crate::thing;

/// As much as GitLab sends at most by default (`webhook_max_body_size`).
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
            return ignored("it is not JSON, or nested too deeply");
        };
        let hook = Hook::of(*self, &json, received_at);
        match name {
            "push" | "tag_push" => hook.about(Moved::Perhaps, Vec::new()),
            "merge_request" => hook.merge_request(),
            "issue" => hook.issue(),
            "note" => hook.comment(),
            "release" => hook.release(),
            "pipeline" => hook.pipeline(),
            "confidential_issue" | "confidential_note" => ignored("it is confidential"),
            "system" => ignored("system hooks say nothing that matters here; add webhooks"),
            _ => ignored(format!("`{name}` starts nothing")),
        }
    }
}

/// A webhook that is JSON.
struct Hook<'a> {
    reader: Reader<'a>,
    json: &'a Value,
    /// What it is about.
    attributes: &'a Value,
    sender: Value,
    repository: Value,
    at: Timestamp,
}

/// Which labels were put on and whether any were taken off.
struct Labels<'a> {
    added: Vec<&'a str>,
    changed: bool,
}

impl<'a> Hook<'a> {
    fn of(reader: Reader<'a>, json: &'a Value, at: Timestamp) -> Self {
        // A push names its user otherwise.
        let pusher = json!({ "id": json["user_id"], "username": json["user_username"] });
        let sender = thing::account(json.get("user").unwrap_or(&pusher));
        let repository = thing::repository(&json["project"]);
        Self { reader, json, attributes: &json["object_attributes"], sender, repository, at }
    }

    fn merge_request(&self) -> Understood {
        let labels = self.labels();
        let is_pushed = shape::text(self.attributes, "/oldrev").is_some();
        let (action, moved) = match self.action() {
            "open" => ("opened", Moved::Perhaps),
            "reopen" => ("reopened", Moved::Perhaps),
            "close" | "merge" => ("closed", Moved::Perhaps),
            "update" if is_pushed => ("synchronize", Moved::Perhaps),
            "update" => match self.changed_draft() {
                Some(true) => ("converted_to_draft", Moved::No),
                Some(false) => ("ready_for_review", Moved::No),
                None => (labels.action().unwrap_or("edited"), Moved::No),
            },
            "approved" => return self.review("approved"),
            action => return ignored(format!("`{action}` of a merge request starts nothing")),
        };
        let Some(pull) = self.thread(thing::merge_request) else { return self.odd("object_attributes") };
        let Some(fact) = pull_fact(&self.told(action), &pull) else {
            return self.odd("object_attributes");
        };
        // After a push GitLab says of all labels that they are new (gitlab-org/gitlab#22023).
        let added = if is_pushed { Vec::new() } else { labels.added };
        self.about(moved, [fact].into_iter().chain(self.put_on(&added, Thread::Pull(&pull))).collect())
    }

    /// An approval is a fact about its merge request; it has no number.
    fn review(&self, state: &str) -> Understood {
        let fact = self.thread(thing::merge_request).and_then(|pull| {
            let number = shape::number(&pull, "/number")?;
            Some((shape::pull_fact(&self.told("submitted"), &pull)?, number))
        });
        let Some((mut fact, number)) = fact else { return self.odd("object_attributes") };
        let by = &fact.actor.name;
        fact.key = format!("pull/{number}/review/{state}/{by}/{}", fact.occurred_at);
        if let Some(payload) = fact.payload.as_object_mut() {
            payload.insert("review".to_owned(), json!({ "state": state, "body": "" }));
        }
        self.about(Moved::No, vec![fact])
    }

    fn issue(&self) -> Understood {
        if shape::flag(self.attributes, "/confidential") == Some(true) {
            return ignored("it is confidential");
        }
        let labels = self.labels();
        let action = match self.action() {
            "open" => "opened",
            "reopen" => "reopened",
            "close" => "closed",
            "update" => labels.action().unwrap_or("edited"),
            action => return ignored(format!("`{action}` of an issue starts nothing")),
        };
        let Some(issue) = self.thread(thing::issue) else { return self.odd("object_attributes") };
        let Some(fact) = shape::issue_fact(&self.told(action), &issue) else {
            return self.odd("object_attributes");
        };
        let added = self.put_on(&labels.added, Thread::Issue(&issue));
        self.about(Moved::No, [fact].into_iter().chain(added).collect())
    }

    /// Who acts is named whole, who wrote a thing by number only: of whoever is another no name is known.
    fn thread(&self, read: fn(&Value) -> Option<Value>) -> Option<Value> {
        let mut thing = read(self.attributes)?;
        if thing.get("labels").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            thing["labels"] = titles(&self.json["labels"]).map(|name| json!({ "name": name })).collect();
        }
        Some(self.by_author(thing, self.attributes))
    }

    fn by_author(&self, mut thing: Value, raw: &Value) -> Value {
        let author = shape::number(raw, "/author_id");
        if author.is_some() && author == shape::number(&self.sender, "/id") {
            thing["user"] = self.sender.clone();
        }
        thing
    }

    fn changed_draft(&self) -> Option<bool> {
        shape::flag(self.json, "/changes/draft/current")
    }

    fn labels(&self) -> Labels<'a> {
        let Some(changes) = self.json.pointer("/changes/labels") else {
            return Labels { added: Vec::new(), changed: false };
        };
        let before: Vec<&str> = titles(&changes["previous"]).collect();
        let after: Vec<&str> = titles(&changes["current"]).collect();
        let changed = before != after;
        Labels { added: after.into_iter().filter(|label| !before.contains(label)).collect(), changed }
    }

    fn put_on(&self, added: &[&str], thread: Thread<'_>) -> Vec<Fact> {
        let told = self.told("labeled");
        let fact = |name: &&str| shape::label_fact(&told, &json!({ "name": name }), thread, None);
        added.iter().filter_map(fact).collect()
    }

    /// A comment, in a conversation or at a line of a change.
    fn comment(&self) -> Understood {
        let note = self.attributes;
        if shape::flag(note, "/system") == Some(true) {
            return ignored("GitLab itself notes it");
        }
        if ["/internal", "/confidential"].iter().any(|at| shape::flag(note, at) == Some(true)) {
            return ignored("it is confidential");
        }
        // Older servers send this for new ones only, and do not say so.
        match shape::text(note, "/action").unwrap_or("create") {
            "create" => {}
            "update" => return ignored("an edit never triggers"),
            action => return ignored(format!("`{action}` of a comment starts nothing")),
        }
        let at_line = shape::text(note, "/type") == Some("DiffNote");
        let (kind, raw, thread) = match shape::text(note, "/noteable_type") {
            Some("MergeRequest") => {
                let raw = &self.json["merge_request"];
                let thread = thing::merge_request(raw);
                match at_line {
                    true => (CommentKind::Review, raw, thread),
                    false => (CommentKind::Issue, raw, thread.map(thing::as_thread)),
                }
            }
            Some("Issue") if shape::flag(self.json, "/issue/confidential") == Some(true) => {
                return ignored("it is confidential");
            }
            Some("Issue") => (CommentKind::Issue, &self.json["issue"], thing::issue(&self.json["issue"])),
            _ => return ignored("a comment under no issue and no merge request starts nothing"),
        };
        let fact = thread.and_then(|thread| {
            let comment = self.by_author(thing::comment(note), note);
            shape::comment_fact(&self.told("created"), kind, &comment, &self.by_author(thread, raw))
        });
        match fact {
            Some(fact) => self.about(Moved::No, vec![fact]),
            None => self.odd("object_attributes"),
        }
    }

    fn release(&self) -> Understood {
        if shape::text(self.json, "/action") != Some("create") {
            return ignored("only a new release starts something");
        }
        match release_fact(&self.told("published"), self.json) {
            Some(fact) => self.about(Moved::No, vec![fact]),
            None => self.odd("tag"),
        }
    }

    /// A pipeline that ended is a suite of checks.
    fn pipeline(&self) -> Understood {
        let conclusion = match shape::text(self.attributes, "/status").unwrap_or_default() {
            "success" => "success",
            "failed" => "failure",
            "canceled" => "cancelled",
            "skipped" => "skipped",
            status => return ignored(format!("a pipeline that is `{status}` starts nothing")),
        };
        let suite = json!({
            "id": self.attributes["id"], "conclusion": conclusion, "head_branch": self.attributes["ref"],
            "head_sha": self.attributes["sha"], "app": { "slug": "gitlab-ci" },
            "updated_at": thing::moment(&self.attributes["finished_at"]),
        });
        match shape::check_suite_fact(&self.told("completed"), &suite) {
            Some(fact) => self.about(Moved::No, vec![fact]),
            None => self.odd("object_attributes"),
        }
    }

    /// Something about the project that the webhook names. What the server itself did is no news to it.
    fn about(&self, moved: Moved, facts: Vec<Fact>) -> Understood {
        let Some(place) = self.place() else { return self.odd("project") };
        let is_own = self.reader.own.is_some() && shape::number(&self.sender, "/id") == self.reader.own;
        match moved {
            Moved::Perhaps if is_own => Understood::About { place, moved, facts: Vec::new() },
            Moved::No if is_own => ignored("the server itself did it"),
            Moved::Perhaps | Moved::No => Understood::About { place, moved, facts },
        }
    }

    fn told<'t>(&'t self, action: &'t str) -> Told<'t> {
        let (sender, repository) = (&self.sender, &self.repository);
        Told { action, sender, repository, own: self.reader.own, at: self.at }
    }

    fn action(&self) -> &'a str {
        shape::text(self.attributes, "/action").unwrap_or_default()
    }

    fn place(&self) -> Option<Place> {
        thing::place(self.reader.forge, &self.json["project"])
    }

    fn odd(&self, part: &str) -> Understood {
        ignored(format!("its `{part}` is not as GitLab writes it"))
    }
}

impl Labels<'_> {
    fn action(&self) -> Option<&'static str> {
        match (self.changed, self.added.is_empty()) {
            (false, _) => None,
            (true, true) => Some("unlabeled"),
            (true, false) => Some("labeled"),
        }
    }
}

/// A merge request is merged once; webhooks do not say when.
pub(crate) fn pull_fact(told: &Told<'_>, pull: &Value) -> Option<Fact> {
    let mut fact = shape::pull_fact(told, pull)?;
    if told.action == "closed" && shape::flag(pull, "/merged") == Some(true) {
        fact.key = format!("pull/{}/closed/merged", shape::number(pull, "/number")?);
    }
    Some(fact)
}

/// A release is known by its tag: it has no number.
pub(crate) fn release_fact(told: &Told<'_>, raw: &Value) -> Option<Fact> {
    let release = thing::release(raw);
    let tag = shape::text(&release, "/tag_name")?;
    let mut fact = shape::release_fact(told, &release)?;
    fact.key = format!("release/{tag}/{}", told.action);
    Some(fact)
}

fn titles(labels: &Value) -> impl Iterator<Item = &str> {
    labels.as_array().into_iter().flatten().filter_map(|label| shape::text(label, "/title"))
}

fn ignored(reason: impl Into<String>) -> Understood {
    Understood::Ignored(reason.into())
}

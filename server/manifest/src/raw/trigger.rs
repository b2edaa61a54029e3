//! `on:`: when a daemon runs.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use crate::codes;
use crate::diagnostic::Problem;
use crate::raw::scalar::{Condition, Line, OneOrMany, Secret, Time};
use crate::read::{Field, Place, Read, Reader, Slot, object, words};
use crate::suggest::{did_you_mean, one_of, quoted};
use crate::yaml::{Node, Shape};

/// Everything that starts a daemon, in the order of the file.
#[derive(Debug)]
pub(crate) struct Triggers(pub(crate) Vec<(&'static Kind, Slot<Trigger>)>);

/// A kind of trigger: its word, what it means, the keys it has besides the common ones, and the words of
/// its `types`.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) word: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [&'static str],
    pub(crate) needed: &'static [&'static str],
    pub(crate) types: &'static [&'static str],
}

/// The keys of every kind.
pub(crate) const COMMON: [&str; 3] = ["skip_if", "cooldown", "debounce"];

/// All kinds.
pub(crate) const KINDS: [Kind; 11] = [
    Kind {
        word: "push",
        doc: "Commits arrive on a branch.",
        keys: &["branches", "paths", "paths_ignore", "actors", "roles"],
        needed: &[],
        types: &[],
    },
    Kind {
        word: "pull_request",
        doc: "A pull request is opened or reopened, or gets commits; with `types`, anything else of it.",
        keys: &["types", "branches", "paths", "paths_ignore", "actors", "roles", "labels", "drafts"],
        needed: &[],
        types: &[
            "opened",
            "synchronize",
            "reopened",
            "closed",
            "edited",
            "labeled",
            "unlabeled",
            "ready_for_review",
            "converted_to_draft",
            "review_requested",
            "review_request_removed",
            "submitted",
            "assigned",
            "unassigned",
            "milestoned",
        ],
    },
    Kind {
        word: "comment",
        doc: "Someone comments on an issue, a pull request or a line of it; with `command`, only `/<command>`.",
        keys: &["command", "types", "actors", "roles", "labels"],
        needed: &[],
        types: &["created"],
    },
    Kind {
        word: "issues",
        doc: "An issue changes.",
        keys: &["types", "actors", "roles", "labels"],
        needed: &[],
        types: &[
            "opened",
            "edited",
            "closed",
            "reopened",
            "labeled",
            "unlabeled",
            "assigned",
            "unassigned",
            "milestoned",
        ],
    },
    Kind {
        word: "label",
        doc: "A label is put on an issue or pull request. It is taken off again when the run begins.",
        keys: &["names", "actors", "roles"],
        needed: &["names"],
        types: &[],
    },
    Kind {
        word: "release",
        doc: "A release is published.",
        keys: &["types", "actors", "roles"],
        needed: &[],
        types: &["published"],
    },
    Kind {
        word: "check_suite",
        doc: "A suite of checks ends.",
        keys: &["types", "branches"],
        needed: &[],
        types: &["completed"],
    },
    Kind {
        word: "schedule",
        doc: "A clock strikes: a cron expression of five fields, or `daily between 9:00 and 17:00`.",
        keys: &["cron", "timezone"],
        needed: &["cron"],
        types: &[],
    },
    Kind {
        word: "webhook",
        doc: "The daemon's own endpoint is called, signed with a secret.",
        keys: &["secret"],
        needed: &["secret"],
        types: &[],
    },
    Kind {
        word: "daemon",
        doc: "Another daemon of the repository ends.",
        keys: &["ids"],
        needed: &[],
        types: &[],
    },
    Kind {
        word: "manual",
        doc: "A person or a program asks. Always possible, also without being named.",
        keys: &["actors", "roles"],
        needed: &[],
        types: &[],
    },
];

object! {
    /// The conditions of a trigger. Which keys a trigger has depends on its kind.
    struct Trigger {
        /// The finer kinds of the event, in the forge's words. Without it: all; of a pull request, that it is opened,
        /// reopened or gets commits, and with `drafts: false`, that it is no draft any more.
        #[schemars(example = json!(["opened", "synchronize"]))]
        types: OneOrMany<Line>,
        /// Globs of branches; one that begins with `!` takes out again. For a pull request, the branch it wants to change.
        #[schemars(example = json!(["main", "release/*"]))]
        branches: OneOrMany<Line>,
        /// Globs of files: one of the changed files must match.
        #[schemars(example = json!(["src/**"]))]
        paths: OneOrMany<Line>,
        /// Globs of files: not all changed files may match.
        #[schemars(example = json!(["docs/**"]))]
        paths_ignore: OneOrMany<Line>,
        /// Names of accounts: one of them must have done it.
        #[schemars(example = json!(["ada"]))]
        actors: OneOrMany<Line>,
        /// What the actor may do in the repository, or more; a `comment` that does not say is for `write`.
        #[schemars(example = json!(["write", "admin"]))]
        roles: OneOrMany<Role>,
        /// Labels: the thing must bear one of them.
        #[schemars(example = json!(["needs-review"]))]
        labels: OneOrMany<Line>,
        /// Whether drafts count. Without it: yes.
        #[schemars(example = false)]
        drafts: bool,
        /// The word, without the slash, that a comment must begin with.
        #[schemars(example = json!("review"))]
        command: Line,
        /// The labels that start the daemon.
        #[schemars(example = json!(["review-me"]))]
        names: OneOrMany<Line>,
        /// Minute, hour, day of month, month, day of week; or `daily between 9:00 and 17:00`, at a minute that
        /// is chosen once for the daemon.
        #[schemars(example = json!("0 9 * * 1"))]
        cron: Line,
        /// The time zone of `cron`, by its IANA name. Without it: UTC.
        #[schemars(example = json!("Europe/Berlin"))]
        timezone: Line,
        /// The secret that signs the calls; also named in `permissions.secrets`.
        #[schemars(example = json!("HOOK_SECRET"))]
        secret: Secret,
        /// The daemons of the same repository after which this one runs. Without it: any.
        #[schemars(example = json!(["review"]))]
        ids: OneOrMany<Line>,
        /// An expression that, when true, keeps the daemon from running. It sees `event`, `repository` and `inputs`.
        #[schemars(example = json!("contains(event.pull_request.title, 'WIP')"))]
        skip_if: Condition,
        /// No second run within this time.
        #[schemars(example = json!("10m"))]
        cooldown: Time,
        /// Wait this long for a newer event, which then takes the place of this one.
        #[schemars(example = json!("30s"))]
        debounce: Time,
    }
}

words! {
    /// What an actor may do in the repository.
    enum Role {
        Read = "read",
        Triage = "triage",
        Write = "write",
        Maintain = "maintain",
        Admin = "admin",
    }
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

impl Kind {
    /// All keys of this kind.
    pub(crate) fn all_keys(&self) -> Vec<&'static str> {
        self.keys.iter().copied().chain(COMMON).collect()
    }
}

impl Read for Triggers {
    /// A word, a list of words, or a map from words to conditions.
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let mut triggers = Vec::new();
        match &node.shape {
            Shape::Scalar(Json::String(_)) => {
                triggers.extend(bare(node, place, reader));
            }
            Shape::List(_) => {
                for (item, place) in reader.items(node, place)? {
                    triggers.extend(bare(item, place, reader));
                }
            }
            _ => {
                for field in reader.entries(node, place)? {
                    let Some(kind) = kind(field.name, field.key, reader) else { continue };
                    read_kind(kind, field, reader, &mut triggers);
                }
            }
        }
        Some(Self(triggers))
    }
}

/// A kind without conditions.
fn bare(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<(&'static Kind, Slot<Trigger>)> {
    let text = crate::raw::scalar::text(node, place, reader)?;
    let kind = kind(text, place, reader)?;
    reader.require(&[], kind.needed, place);
    Some((kind, empty(place, reader)))
}

fn kind(word: &str, place: Place, reader: &mut Reader<'_>) -> Option<&'static Kind> {
    let known = KINDS.iter().find(|kind| kind.word == word);
    if known.is_none() {
        let words = || KINDS.iter().map(|kind| kind.word);
        let problem =
            Problem::error(&codes::UNKNOWN_TRIGGER, format!("there is no trigger {}", quoted(word)));
        reader.report(problem.expected(one_of(words())).maybe_help(did_you_mean(word, words())), place);
    }
    known
}

/// The conditions of a kind: nothing, a map, or a list of maps.
fn read_kind(
    kind: &'static Kind,
    field: Field<'_>,
    reader: &mut Reader<'_>,
    triggers: &mut Vec<(&'static Kind, Slot<Trigger>)>,
) {
    let ((node, place), key) = (field.node(), field.key);
    match &node.shape {
        Shape::Scalar(Json::Null) => {
            reader.require(&[], kind.needed, key);
            triggers.push((kind, empty(key, reader)));
        }
        Shape::Scalar(Json::String(_)) if kind.word == "schedule" => {
            let cron = reader.slot(node, place);
            let slot: Slot<Trigger> = empty(key, reader);
            triggers.push((kind, slot.map(|trigger| Trigger { cron, ..trigger })));
        }
        Shape::List(_) => {
            for (item, place) in reader.items(node, place).unwrap_or_default() {
                triggers.push((kind, conditions(kind, item, place, reader)));
            }
        }
        _ => triggers.push((kind, conditions(kind, node, place, reader))),
    }
}

fn empty(place: Place, reader: &mut Reader<'_>) -> Slot<Trigger> {
    reader.slot(&Node { span: place.span(), shape: Shape::Map(Vec::new()) }, place)
}

fn conditions(kind: &'static Kind, node: &Node, place: Place, reader: &mut Reader<'_>) -> Slot<Trigger> {
    if matches!(node.shape, Shape::Map(_)) {
        let fields = reader.entries(node, place).unwrap_or_default();
        reader.require(&fields, kind.needed, place);
        let (keys, word) = (kind.all_keys(), kind.word);
        for field in
            fields.iter().filter(|field| Trigger::KEYS.contains(&field.name) && !keys.contains(&field.name))
        {
            let message = format!("`{}` does not belong to the trigger `{word}`", field.name);
            let help = format!("its keys are {}", keys.join(", "));
            reader.report(Problem::error(&codes::MISPLACED_KEY, message).help(help), field.key);
        }
    }
    reader.slot(node, place)
}

impl JsonSchema for Triggers {
    fn schema_name() -> Cow<'static, str> {
        "Triggers".into()
    }

    /// Each kind has the properties of [`Trigger`] that belong to it.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let all = Trigger::json_schema(generator).to_value();
        let words: Vec<&str> =
            KINDS.iter().filter(|kind| kind.needed.is_empty()).map(|kind| kind.word).collect();
        let kinds: serde_json::Map<String, Json> =
            KINDS.iter().map(|kind| (kind.word.to_owned(), kind_schema(kind, &all))).collect();
        json_schema!({ "anyOf": [
            { "type": "object", "properties": kinds, "additionalProperties": false },
            { "enum": words },
            { "type": "array", "items": { "enum": words } },
        ] })
    }
}

fn kind_schema(kind: &Kind, all: &Json) -> Json {
    let mut properties = serde_json::Map::new();
    for key in kind.all_keys() {
        let mut property = all["properties"][key].clone();
        if key == "types" {
            let one = json!({ "type": "string", "enum": kind.types });
            property["anyOf"] = json!([one, { "type": "array", "items": one }]);
            property["examples"] = json!([kind.types[..1]]);
        }
        properties.insert(key.to_owned(), property);
    }
    let map = json!({ "type": "object", "properties": properties, "additionalProperties": false, "required": kind.needed });
    let mut forms = vec![map.clone(), json!({ "type": "array", "items": map })];
    if kind.needed.is_empty() {
        forms.push(json!({ "type": "null" }));
    }
    if kind.word == "schedule" {
        forms.push(json!({ "type": "string" }));
    }
    let example: serde_json::Map<String, Json> = properties_example(kind, all);
    json!({ "description": kind.doc, "examples": [example], "anyOf": forms })
}

fn properties_example(kind: &Kind, all: &Json) -> serde_json::Map<String, Json> {
    let shown: Vec<&str> = if kind.needed.is_empty() {
        kind.keys.iter().copied().take(1).collect()
    } else {
        kind.needed.to_vec()
    };
    shown
        .into_iter()
        .map(|key| {
            let example = if key == "types" {
                json!(kind.types[..1])
            } else {
                all["properties"][key]["examples"][0].clone()
            };
            (key.to_owned(), example)
        })
        .collect()
}

//! A test of a daemon: `tests/<name>.yaml` in its directory.

use std::borrow::Cow;

use domain::event::EventKind;
use domain::money::NanoUsd;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use crate::codes;
use crate::diagnostic::Problem;
use crate::model::OutcomeKind;
use crate::raw::scalar::{Any, Condition, Line, Named, OneOrMany, Secret, Text};
use crate::raw::trigger::Role;
use crate::read::{Place, Read, Reader, Slot, object, word, words};
use crate::suggest::quoted;
use crate::units;
use crate::yaml::{Node, Shape};

object! {
    /// What a run of a daemon is given, and what must come of it.
    struct File {
        /// A title; without it, the file's name.
        #[schemars(example = json!("A crash with everything that is needed"))]
        name: Line,
        /// What it shows, for people.
        #[schemars(example = json!("Words that leave no doubt come before the model."))]
        description: Text,
        /// What the run is given, by the names of the daemon's inputs.
        #[schemars(example = json!({ "depth": "quick" }))]
        inputs: Named<Any>,
        /// What happened. Without it, somebody runs the daemon by hand.
        #[schemars(example = json!({ "kind": "issues", "action": "opened", "payload": { "issue": { "number": 7, "title": "It crashes" } } }))]
        event: Event,
        /// The branch on which the daemon runs, and on which it happened. Without it: `main`.
        #[schemars(example = json!("release/2.0"))]
        branch: Line,
        /// What the daemon's variables are, by name. Those that are left out are as the daemon declares them.
        #[schemars(example = json!({ "counter": 6, "seen": ["a"] }))]
        state: Named<Any>,
        /// Conversations with models that were held before, by the key that a stage's `session` has.
        #[schemars(example = json!({ "ticket-7": [{ "user": "Where is my parcel?", "assistant": "On its way." }] }))]
        sessions: Named<Vec<Slot<Turn>>>,
        /// A directory beside the test whose files are laid over the workspace.
        #[schemars(example = json!("workspace"))]
        workspace: Line,
        /// More files of the workspace, by path.
        #[schemars(example = json!({ "src/main.rs": "fn main() {}\n" }))]
        files: Named<Text>,
        /// Made-up values for the secrets that the daemon uses, at least eight characters each. Real ones never stand here.
        #[schemars(example = json!({ "SNYK_TOKEN": "made-up-token" }))]
        secrets: Secrets,
        /// What must come of it. Without it: the run succeeds.
        #[schemars(example = json!({ "outputs": { "kind": "bug" }, "cost": "<= $0.01" }))]
        expect: Expect,
    }
}

object! {
    /// A question to a model, and what it answered.
    struct Turn requires [user, assistant] {
        /// What was said to it.
        #[schemars(example = json!("Where is my parcel?"))]
        user: Text,
        /// What it said.
        #[schemars(example = json!("On its way."))]
        assistant: Text,
    }
}

object! {
    /// What happened, as the server would know it.
    struct Event requires [kind] {
        /// Which trigger it is for.
        #[schemars(example = json!("issues"))]
        kind: Kind,
        /// What was done, as in a trigger's `types`.
        #[schemars(example = json!("opened"))]
        action: Line,
        /// Who did it. Without it: `tester`.
        #[schemars(example = json!("ada"))]
        actor: Line,
        /// What the actor may do in the repository. Without it: `write`.
        #[schemars(example = json!("write"))]
        role: Role,
        /// The files that changed.
        #[schemars(example = json!(["src/main.rs"]))]
        paths: OneOrMany<Line>,
        /// The labels of the pull request or issue.
        #[schemars(example = json!(["bug"]))]
        labels: OneOrMany<Line>,
        /// Whether the pull request is a draft.
        #[schemars(example = false)]
        draft: bool,
        /// What `${event.…}` sees.
        #[schemars(example = json!({ "issue": { "number": 7, "title": "It crashes" } }))]
        payload: Any,
    }
}

object! {
    /// What must come of a run.
    struct Expect {
        /// How it ends. Without it: `succeeded`. `not_started` means that the event starts no run.
        #[schemars(example = json!("succeeded"))]
        status: Ending,
        /// Why it failed or was skipped, in its own words.
        #[schemars(example = json!({ "contains": "there is no issue" }))]
        message: Match,
        /// What stages made, by the name of the output or of the stage.
        #[schemars(example = json!({ "kind": "bug", "summary": { "contains": "crash" } }))]
        outputs: Named<Match>,
        /// Conditions that hold at the end. They see what outcomes see, and `outcomes`, the list of what the run wants.
        #[schemars(example = json!(["len(findings.issues) > 0", "!workspace.changed"]))]
        when: OneOrMany<Condition>,
        /// What the daemon's variables are at the end, by name.
        #[schemars(example = json!({ "counter": 7 }))]
        state: Named<Match>,
        /// Files of the workspace at the end, by path.
        #[schemars(example = json!({ "CHANGELOG.md": { "contains": "## Unreleased" } }))]
        files: Named<Match>,
        /// Everything that the run wants done, in order. An empty list: nothing.
        #[schemars(example = json!([{ "kind": "add-comment", "body": { "contains": "Thank you" } }]))]
        outcomes: Vec<Slot<Outcome>>,
        /// What the models may have cost together.
        #[schemars(example = json!("<= $0.01"))]
        cost: Cost,
    }
}

words! {
    /// How a run ends.
    enum Ending {
        Succeeded = "succeeded",
        Failed = "failed",
        TimedOut = "timed_out",
        Skipped = "skipped",
        NotStarted = "not_started",
    }
}

object! {
    /// What holds for a value. All that is written must hold.
    struct Wanted {
        /// It is this.
        #[schemars(example = json!({ "kind": "bug" }))]
        equals: Any,
        /// Its text has these in it.
        #[schemars(example = json!(["crash", "parser"]))]
        contains: OneOrMany<Text>,
        /// Its text has none of these in it.
        #[schemars(example = json!("secret"))]
        lacks: OneOrMany<Text>,
        /// A regular expression finds something in its text.
        #[schemars(example = json!("^v[0-9]+\\."))]
        matches: Text,
        /// Its text is that of a file beside the test.
        #[schemars(example = json!("CHANGELOG.after.md"))]
        same_as: Line,
        /// Whether it is not there: `true` for a file or a value that must not be.
        #[schemars(example = true)]
        absent: bool,
    }
}

/// What holds for a value: a map of conditions, or the value itself.
#[derive(Debug)]
pub(crate) enum Match {
    /// Anything but a map: it is this.
    Is(Json),
    /// A map.
    Wanted(Box<Wanted>),
}

/// Something that a run wants done: its kind, and what holds for its fields.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: OutcomeKind,
    pub(crate) fields: Vec<(String, Place, Slot<Match>)>,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(pub(crate) EventKind);

/// A bound for money.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost(pub(crate) crate::test::Bound, pub(crate) NanoUsd);

/// Made-up secrets by name.
#[derive(Debug)]
pub(crate) struct Secrets(pub(crate) Vec<(Secret, Place, Slot<Text>)>);

impl Read for Match {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        match node.shape {
            Shape::Map(_) => Wanted::read(node, place, reader).map(Box::new).map(Self::Wanted),
            _ => Any::read(node, place, reader).map(|Any(json)| Self::Is(json)),
        }
    }
}

impl Read for Outcome {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let fields = reader.entries(node, place)?;
        reader.require(&fields, &["kind"], place);
        let kind = fields.iter().find(|field| field.name == "kind")?;
        let (node, at) = kind.node();
        let words = OutcomeKind::ALL.map(OutcomeKind::as_str);
        let found = word(node, at, reader, &words)?;
        let kind = OutcomeKind::ALL.into_iter().find(|kind| kind.as_str() == found)?;
        let rest = fields.iter().filter(|field| field.name != "kind");
        let fields = rest.map(|field| (field.name.to_owned(), field.key, field.read(reader))).collect();
        Some(Self { kind, fields })
    }
}

impl Read for Kind {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let words = EVENTS.map(EventKind::as_str);
        let found = word(node, place, reader, &words)?;
        EVENTS.into_iter().find(|kind| kind.as_str() == found).map(Self)
    }
}

/// What can happen; `manual` is no event.
const EVENTS: [EventKind; 10] = [
    EventKind::Push,
    EventKind::PullRequest,
    EventKind::Comment,
    EventKind::Issues,
    EventKind::Label,
    EventKind::Release,
    EventKind::CheckSuite,
    EventKind::Schedule,
    EventKind::Webhook,
    EventKind::Daemon,
];

impl Read for Cost {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let Shape::Scalar(Json::String(text)) = &node.shape else {
            reader.wrong_kind(node, place, "a text like `<= $0.01`");
            return None;
        };
        let bound = units::bound(text);
        if bound.is_none() {
            let problem = Problem::error(&codes::TEST_COST, format!("{} is not understood", quoted(text)));
            reader.report(problem.expected("a comparison with dollars, like `<= $0.01`"), place);
        }
        bound.map(|(bound, amount)| Self(bound, amount))
    }
}

impl Read for Secrets {
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        let fields = reader.entries(node, place)?;
        let mut secrets = Vec::new();
        for field in fields {
            let Ok(name) = field.name.parse() else {
                let message = format!("{} cannot be a secret's name", quoted(field.name));
                reader.report(Problem::error(&codes::BAD_IDENTIFIER, message), field.key);
                continue;
            };
            secrets.push((Secret(name), field.key, field.read(reader)));
        }
        Some(Self(secrets))
    }
}

macro_rules! schemas {
    ($($type:ident => |$generator:ident| $schema:expr;)*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

schemas! {
    Match => |generator| json_schema!({ "anyOf": [
        { "type": ["string", "number", "boolean", "array", "null"] },
        generator.subschema_for::<Wanted>(),
    ] });
    Outcome => |generator| json_schema!({
        "type": "object",
        "required": ["kind"],
        "properties": { "kind": {
            "description": "What is wanted.",
            "examples": ["add-comment"],
            "enum": OutcomeKind::ALL.map(OutcomeKind::as_str),
        } },
        "additionalProperties": generator.subschema_for::<Match>(),
    });
    Kind => |_generator| json_schema!({ "enum": EVENTS.map(EventKind::as_str) });
    Cost => |_generator| json_schema!({ "type": "string", "pattern": "^ *(<=|<|=) *\\$?[0-9]+(\\.[0-9]{1,9})? *$" });
    Secrets => |_generator| json_schema!({ "type": "object", "additionalProperties": { "type": "string", "minLength": 8 } });
}

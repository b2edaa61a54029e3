//! `outcomes:`: what the server may do with the result. A table: kinds, and the fields of each.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value as Json, json};

use crate::codes;
use crate::diagnostic::Problem;
use crate::model::OutcomeKind;
use crate::raw::scalar::{Condition, TemplatedJson};
use crate::read::{Field, Place, Read, Reader, Slot};
use crate::suggest::{did_you_mean, one_of, quoted};
use crate::yaml::{Node, Shape};

/// One declared outcome.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kind: OutcomeKind,
    /// Where its kind is written.
    pub(crate) place: Place,
    pub(crate) condition: Slot<Condition>,
    pub(crate) max: Slot<u32>,
    pub(crate) fields: Vec<(&'static Spec, Slot<TemplatedJson>)>,
}

/// A field of an outcome.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    takes: Takes,
    doc: &'static str,
    example: &'static str,
}

/// What a field takes. Every one but a right also takes an expression.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Text,
    Texts,
    Truth,
    Count,
    Word(&'static [&'static str]),
    /// A word that is no expression: a right is not computed.
    Right(&'static [&'static str]),
    Any,
}

macro_rules! specs {
    ($($name:literal, $takes:expr, $example:literal, $doc:literal;)*) => {
        &[$(Spec { name: $name, takes: $takes, doc: $doc, example: $example }),*]
    };
}

/// All fields. The names are those of GitHub's agentic workflows, with `_`.
static SPECS: &[Spec] = specs! {
    "title", Takes::Text, "\"Fixes for #${event.number}\"", "One line.";
    "body", Takes::Text, "\"${verdict}\"", "Markdown.";
    "title_prefix", Takes::Text, "\"[spellbook] \"", "What every title begins with.";
    "draft", Takes::Truth, "true", "Not ready for merging, or not yet public.";
    "labels", Takes::Texts, "[\"spellbook\"]", "Labels to put on.";
    "reviewers", Takes::Texts, "[\"ada\"]", "People or teams to ask.";
    "assignees", Takes::Texts, "[\"ada\"]", "People who are to do it.";
    "base", Takes::Text, "\"main\"", "The branch to be changed. Without it: the one of the event, or the default branch.";
    "key", Takes::Text, "\"${event.number}\"", "What tells it from others of this daemon: the same key is edited in place. Without it: the event's number.";
    "message", Takes::Text, "\"Apply the fixes\"", "The commit's message.";
    "protected_files", Takes::Right(&["blocked", "allowed"]), "\"allowed\"", "Whether the change may touch files that decide what is run and by whom: daemons, pipelines, settings of agents, CODEOWNERS, .gitattributes and the like. Without it: `blocked`.";
    "target", Takes::Text, "\"triggering\"", "Which issue or pull request: `triggering`, or a number.";
    "sticky", Takes::Truth, "true", "Whether the comment is edited in place instead of written anew.";
    "status", Takes::Word(&["open", "closed"]), "\"closed\"", "What becomes of the issue.";
    "name", Takes::Text, "\"Security\"", "The name that is shown.";
    "conclusion", Takes::Word(&["success", "failure", "neutral"]), "\"neutral\"", "What came of it. Without it: how the run ended.";
    "summary", Takes::Text, "\"${report}\"", "Markdown.";
    "annotations", Takes::Any, "\"${findings.annotations}\"", "Remarks on lines: a list of maps of `path`, `start_line`, `end_line`, `level` (notice, warning, failure) and `message`.";
    "state", Takes::Word(&["success", "failure", "error", "pending"]), "\"success\"", "The state.";
    "context", Takes::Text, "\"spellbook/review\"", "What tells the status from others on the commit.";
    "description", Takes::Text, "\"3 findings\"", "One line.";
    "url", Takes::Text, "\"https://example.org/hook\"", "An https address.";
    "tag", Takes::Text, "\"v1.2.0\"", "The tag of the release.";
    "prerelease", Takes::Truth, "false", "Whether it is not the newest for everyone.";
    "path", Takes::Texts, "[\"report/**\"]", "Globs of files in the workspace.";
    "retention_days", Takes::Count, "30", "How long it is kept.";
    "secret", Takes::Text, "\"HOOK_SECRET\"", "The name of the secret that signs the call; also named in `permissions.secrets`.";
    "headers", Takes::Any, "{\"X-Source\": \"spellbook\"}", "Headers.";
    "json", Takes::Any, "{\"verdict\": \"${verdict}\"}", "JSON to send.";
    "reason", Takes::Text, "\"nothing to do\"", "Why nothing is done.";
};

/// The keys of every kind.
const COMMON: [&str; 2] = ["if", "max"];

/// The fields of a kind, and those that it must have.
struct Shapes {
    doc: &'static str,
    fields: &'static [&'static str],
    needed: &'static [&'static str],
}

fn shape(kind: OutcomeKind) -> Shapes {
    let (doc, fields, needed): (_, &'static [&'static str], &'static [&'static str]) = match kind {
        OutcomeKind::CreatePullRequest => (
            "Offer the changed files as a pull request. The same key updates the same one in place.",
            &[
                "title",
                "body",
                "title_prefix",
                "draft",
                "labels",
                "reviewers",
                "base",
                "key",
                "target",
                "message",
                "protected_files",
            ],
            &["title"],
        ),
        OutcomeKind::PushToPullRequestBranch => (
            "Push the changed files to the branch of the pull request that started the run.",
            &["message", "target", "title_prefix", "labels", "protected_files"],
            &[],
        ),
        OutcomeKind::AddComment => ("Say something.", &["body", "sticky", "target", "key"], &["body"]),
        OutcomeKind::CreateIssue => {
            ("Open an issue.", &["title", "body", "title_prefix", "labels", "assignees", "key"], &["title"])
        }
        OutcomeKind::UpdateIssue => {
            ("Change an issue.", &["target", "title", "body", "status", "labels", "assignees"], &[])
        }
        OutcomeKind::AddLabels => ("Put labels on.", &["labels", "target"], &["labels"]),
        OutcomeKind::AddReviewers => ("Ask people to review.", &["reviewers", "target"], &["reviewers"]),
        OutcomeKind::CreateCheck => {
            ("Report on the commit.", &["name", "title", "conclusion", "summary", "annotations"], &["name"])
        }
        OutcomeKind::SetStatus => {
            ("Set the commit's status.", &["state", "context", "description", "url"], &["state"])
        }
        OutcomeKind::CreateRelease => {
            ("Publish a release.", &["tag", "name", "body", "draft", "prerelease"], &["tag"])
        }
        OutcomeKind::UploadArtifact => ("Keep files.", &["name", "path", "retention_days"], &["path"]),
        OutcomeKind::CallWebhook => {
            ("Call an address, signed.", &["url", "secret", "headers", "json"], &["url"])
        }
        OutcomeKind::Noop => ("Do nothing, and say why.", &["reason"], &[]),
    };
    Shapes { doc, fields, needed }
}

impl Read for Outcome {
    /// A kind alone, or a map with the kind as its only key.
    fn read(node: &Node, place: Place, reader: &mut Reader<'_>) -> Option<Self> {
        if let Shape::Scalar(Json::String(word)) = &node.shape {
            let kind = kind(word, place, reader)?;
            reader.require(&[], shape(kind).needed, place);
            return Some(Self {
                kind,
                place,
                condition: Slot::default(),
                max: Slot::default(),
                fields: Vec::new(),
            });
        }
        let entries = reader.entries(node, place)?;
        let [entry] = entries.as_slice() else {
            let problem = Problem::error(
                &codes::OUTCOME_SHAPE,
                format!("an outcome is one key, here are {}", entries.len()),
            );
            reader.report(
                problem
                    .expected("one key: the kind of the outcome")
                    .help("begin each outcome with its own `-`"),
                place,
            );
            return None;
        };
        let kind = kind(entry.name, entry.key, reader)?;
        let (node, place) = entry.node();
        let shape = shape(kind);
        let fields = match &node.shape {
            Shape::Scalar(Json::Null) => Vec::new(),
            _ => reader.entries(node, place)?,
        };
        let known: Vec<&'static str> = shape.fields.iter().copied().chain(COMMON).collect();
        reader.refuse_unknown(&fields, &known);
        reader.require(&fields, shape.needed, entry.key);
        Some(Self {
            kind,
            place: entry.key,
            condition: crate::read::field(&fields, "if", reader),
            max: crate::read::field(&fields, "max", reader),
            fields: fields
                .iter()
                .filter_map(|field| Some((spec(field.name)?, value(field, reader))))
                .collect(),
        })
    }
}

fn kind(word: &str, place: Place, reader: &mut Reader<'_>) -> Option<OutcomeKind> {
    let known = OutcomeKind::ALL.into_iter().find(|kind| kind.as_str() == word);
    if known.is_none() {
        let words = || OutcomeKind::ALL.into_iter().map(OutcomeKind::as_str);
        let problem =
            Problem::error(&codes::UNKNOWN_OUTCOME, format!("there is no outcome {}", quoted(word)));
        reader.report(problem.expected(one_of(words())).maybe_help(did_you_mean(word, words())), place);
    }
    known
}

fn spec(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.name == name)
}

/// Reads a field; what is no expression must be of the field's kind.
fn value(field: &Field<'_>, reader: &mut Reader<'_>) -> Slot<TemplatedJson> {
    let (node, place) = field.node();
    let takes = spec(field.name).map_or(Takes::Any, |spec| spec.takes);
    let is_computed = is_expression(node) && !matches!(takes, Takes::Right(_));
    if !is_computed && !takes.fits(node) {
        match (takes, &node.shape) {
            (Takes::Word(words) | Takes::Right(words), Shape::Scalar(Json::String(_))) => {
                crate::read::word(node, place, reader, words);
            }
            _ => reader.wrong_kind(node, place, &takes.expected()),
        }
        return Slot::default();
    }
    field.read(reader)
}

fn is_expression(node: &Node) -> bool {
    matches!(&node.shape, Shape::Scalar(Json::String(text)) if text.contains("${"))
}

impl Takes {
    fn fits(self, node: &Node) -> bool {
        let scalar = |node: &Node| matches!(&node.shape, Shape::Scalar(Json::String(_) | Json::Number(_)));
        match (self, &node.shape) {
            (Self::Text, _) => scalar(node),
            (Self::Texts, Shape::List(items)) => items.iter().all(scalar),
            (Self::Texts, _) => scalar(node),
            (Self::Truth, shape) => matches!(shape, Shape::Scalar(Json::Bool(_))),
            (Self::Count, Shape::Scalar(Json::Number(number))) => number.is_u64(),
            (Self::Word(words) | Self::Right(words), Shape::Scalar(Json::String(text))) => {
                words.contains(&text.as_str())
            }
            (Self::Count | Self::Word(_) | Self::Right(_), _) => false,
            (Self::Any, shape) => !matches!(shape, Shape::Scalar(Json::Null)),
        }
    }

    fn expected(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Texts => "a list of texts".to_owned(),
            Self::Truth => "`true`, `false` or an expression".to_owned(),
            Self::Count => "a whole number".to_owned(),
            Self::Word(words) | Self::Right(words) => one_of(words.iter().copied()),
            Self::Any => "a value".to_owned(),
        }
    }

    fn schema(self) -> Json {
        let expression = json!({ "type": "string", "pattern": "\\$\\{" });
        match self {
            Self::Text => json!({ "type": ["string", "number"] }),
            Self::Texts => json!({ "anyOf": [
                { "type": ["string", "number"] },
                { "type": "array", "items": { "type": ["string", "number"] } },
            ] }),
            Self::Truth => json!({ "anyOf": [{ "type": "boolean" }, expression] }),
            Self::Count => json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, expression] }),
            Self::Word(words) => json!({ "anyOf": [{ "enum": words }, expression] }),
            Self::Right(words) => json!({ "enum": words }),
            Self::Any => json!({ "type": ["string", "number", "boolean", "array", "object"] }),
        }
    }
}

impl JsonSchema for Outcome {
    fn schema_name() -> Cow<'static, str> {
        "Outcome".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds: Map<String, Json> = OutcomeKind::ALL
            .into_iter()
            .map(|kind| (kind.as_str().to_owned(), kind_schema(kind, generator)))
            .collect();
        let alone: Vec<&str> = OutcomeKind::ALL
            .into_iter()
            .filter(|kind| shape(*kind).needed.is_empty())
            .map(OutcomeKind::as_str)
            .collect();
        json_schema!({
            "description": "One thing that the server may do: the kind as the only key.",
            "anyOf": [
                { "type": "object", "properties": kinds, "additionalProperties": false, "minProperties": 1, "maxProperties": 1 },
                { "enum": alone },
            ],
        })
    }
}

fn kind_schema(kind: OutcomeKind, generator: &mut SchemaGenerator) -> Json {
    let Shapes { doc, fields, needed } = shape(kind);
    let example = |name: &str| spec(name).and_then(|spec| serde_json::from_str::<Json>(spec.example).ok());
    let mut properties = Map::new();
    for name in fields {
        let Some(spec) = spec(name) else { continue };
        let mut property = spec.takes.schema();
        property["description"] = spec.doc.into();
        property["examples"] = json!([example(name)]);
        properties.insert((*name).to_owned(), property);
    }
    let mut condition = generator.subschema_for::<Condition>().to_value();
    condition["description"] = "Only if this holds.".into();
    condition["examples"] = json!(["${workspace.changed}"]);
    properties.insert("if".to_owned(), condition);
    properties.insert(
        "max".to_owned(),
        json!({ "type": "integer", "minimum": 1, "maximum": 100, "description": "How often at most in one run. Without it: 1.", "examples": [3] }),
    );
    let shown: Map<String, Json> = needed
        .iter()
        .chain(fields.first())
        .filter_map(|name| Some(((*name).to_owned(), example(name)?)))
        .collect();
    let mut kinds = vec![json!("object")];
    if needed.is_empty() {
        kinds.push(json!("null"));
    }
    json!({
        "type": kinds, "description": doc, "examples": [shown],
        "properties": properties, "additionalProperties": false, "required": needed,
    })
}

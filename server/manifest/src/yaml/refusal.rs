//! Why a file is no tree, in words of its author: what is wrong, where, and what the bound is. The YAML
//! library's own sentences are for people who write YAML libraries.

use std::ops::Range;

use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::granit_parser::ErrorKind;
use serde_saphyr::localizer::ExternalMessageSource;
use serde_saphyr::{Error, Location};

use super::{MAX_ALIASES, MAX_DEPTH, MAX_NODES, MAX_REPEATED, span};
use crate::codes::{self, Code};

/// Why there is no tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) code: &'static Code,
    pub(crate) message: String,
    pub(crate) help: Option<&'static str>,
    pub(crate) span: Range<usize>,
}

/// What is wrong, before its place is known.
struct Refusal {
    code: &'static Code,
    message: String,
    help: Option<&'static str>,
}

impl Refusal {
    fn new(code: &'static Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    fn help(self, help: &'static str) -> Self {
        Self { help: Some(help), ..self }
    }
}

/// The library's error in this project's words.
pub(super) fn refused(source: &str, error: &Error) -> YamlError {
    let span = error.location().map_or(0..0, |location| error_span(source, &location));
    let Refusal { code, message, help } = refusal(error);
    YamlError { code, message, help, span: clamped(source, span) }
}

fn refusal(error: &Error) -> Refusal {
    match error {
        // What an alias stands for is at fault; the place is that of the alias.
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => refusal(error),
        Error::Budget { breach, .. } => bound(breach),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => repeated(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            Refusal::new(&codes::YAML_FEATURE, "this alias stands inside its own anchor, and would never end")
                .help("write out what is meant")
        }
        Error::UnknownAnchor { .. } => {
            Refusal::new(&codes::YAML_SYNTAX, "no anchor of this name stands before this alias")
                .help("a text that begins with `*` needs quotes")
        }
        Error::MultipleDocuments { .. } => several_documents(),
        Error::MergeKeyNotAllowed { .. } => {
            Refusal::new(&codes::YAML_FEATURE, "merge keys (`<<`) are not understood")
                .help("write out the keys that are meant")
        }
        Error::UnsupportedTag { .. } => Refusal::new(&codes::YAML_FEATURE, "tags (`!…`) are not understood")
            .help("a text that begins with `!` needs quotes"),
        Error::Eof { .. } => Refusal::new(&codes::YAML_SYNTAX, "the file is empty"),
        Error::NonFiniteFloat { .. } => Refusal::new(&codes::YAML_SYNTAX, "this is no finite number")
            .help("a text that looks like a number needs quotes"),
        Error::ExternalMessage { source, .. } => match &**source {
            ExternalMessageSource::Parser(error) => syntax(error.kind()),
            _ => other(error),
        },
        error => other(error),
    }
}

/// A bound that the file is beyond.
fn bound(breach: &BudgetBreach) -> Refusal {
    let message = match breach {
        BudgetBreach::Depth { .. } => return too_deep(),
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            format!("the file holds more than {MAX_NODES} values")
        }
        BudgetBreach::Aliases { .. } => format!("the file uses more than {MAX_ALIASES} aliases"),
        BudgetBreach::Documents { .. } => return several_documents(),
        BudgetBreach::RecordedAnchorEvents { .. } | BudgetBreach::RecordedAnchorBytes { .. } => {
            return Refusal::new(&codes::YAML_BOUNDS, "anchors stand in one another around too many values")
                .help("remove the anchors (`&…`) that no alias uses");
        }
        _ => return repeated(),
    };
    Refusal::new(&codes::YAML_BOUNDS, message)
}

fn too_deep() -> Refusal {
    let message = format!("values stand more than {MAX_DEPTH} levels deep in one another");
    Refusal::new(&codes::YAML_BOUNDS, message)
}

fn repeated() -> Refusal {
    let message = format!("aliases repeat more than {MAX_REPEATED} values");
    Refusal::new(&codes::YAML_BOUNDS, message).help("aliases of aliases multiply; write out what is meant")
}

fn several_documents() -> Refusal {
    Refusal::new(&codes::YAML_FEATURE, "the file holds more than one YAML document")
        .help("remove what follows the second `---`")
}

/// What the scanner stumbled over. Grouped by what the author has to do.
fn syntax(kind: &ErrorKind) -> Refusal {
    use ErrorKind as Kind;
    let (message, help) = match kind {
        Kind::RecursionLimitExceeded => return too_deep(),
        Kind::UnclosedFlowCollection { open } => {
            return Refusal::new(&codes::YAML_SYNTAX, format!("this `{open}` is never closed"));
        }
        Kind::MismatchedFlowCollectionEnd { open, close } => {
            return Refusal::new(&codes::YAML_SYNTAX, format!("a `{open}` is closed by a `{close}`"));
        }
        Kind::UnexpectedCharacter { character } => {
            let shown = character.escape_debug();
            let message = format!("the character `{shown}` cannot stand here");
            let help = (!character.is_control()).then_some("a text that begins with a sign needs quotes");
            return Refusal { help, ..Refusal::new(&codes::YAML_SYNTAX, message) };
        }
        Kind::MisplacedFlowCollectionEnd => ("there is nothing that this bracket closes", None),
        Kind::UnexpectedEofFlowSequence
        | Kind::UnexpectedEofFlowMapping
        | Kind::UnexpectedEofImplicitFlowMapping
        | Kind::ExpectedFlowMappingSeparator
        | Kind::ExpectedFlowSequenceSeparator => (
            "a `,` or a closing bracket is missing",
            Some("inside `[ ]` and `{ }` items stand between commas"),
        ),
        Kind::UnclosedQuotedScalar | Kind::DocumentIndicatorInQuotedScalar => {
            ("a quote is opened here and never closed", None)
        }
        Kind::InvalidTrailingSingleQuotedScalar => {
            ("something follows the closing quote", Some("inside '…' a quote is written twice: ''"))
        }
        Kind::InvalidTrailingDoubleQuotedScalar => {
            ("something follows the closing quote", Some("inside \"…\" a quote is written \\\""))
        }
        Kind::UnknownQuotedScalarEscape
        | Kind::InvalidQuotedScalarHexEscape
        | Kind::InvalidLowSurrogateHexEscape
        | Kind::InvalidLowSurrogate
        | Kind::MissingLowSurrogate
        | Kind::UnpairedLowSurrogate
        | Kind::InvalidUnicodeEscape => {
            ("this `\\` begins no known escape", Some("use '…' for text with backslashes in it"))
        }
        Kind::TabNotAllowed
        | Kind::TabInBlockIndentation
        | Kind::TabInIndentation
        | Kind::TabInPlainScalar
        | Kind::TabAtBlockScalarStart => ("a tab stands where YAML wants spaces", Some("indent with spaces")),
        Kind::InvalidIndentation
        | Kind::InvalidQuotedScalarIndent
        | Kind::InvalidFlowScalarIndent
        | Kind::InvalidBlockScalarIndent
        | Kind::ZeroBlockScalarIndent
        | Kind::ExpectedBlockMappingKey
        | Kind::ExpectedBlockSequenceEntry
        | Kind::UnexpectedEofBlockSequence
        | Kind::UnexpectedEofBlockMapping => {
            ("this line does not continue what stands before it", Some("look at the indentation of both"))
        }
        Kind::MappingValueNotAllowed | Kind::MappingKeyNotAllowed | Kind::InvalidColonPlacement => {
            ("a `:` cannot stand here", Some("a text with `: ` in it needs quotes"))
        }
        Kind::SimpleKeyExpected | Kind::InvalidSimpleKey => {
            ("a `:` is missing, or a key is longer than a line", Some("after a key stands `:` and a space"))
        }
        Kind::InvalidMappingValueWhitespace | Kind::FlowMappingValueAdjacentCollection => {
            ("a space is missing after `:`", None)
        }
        Kind::BlockEntryInFlowCollection
        | Kind::BlockSequenceEntryNotAllowed
        | Kind::InvalidBlockEntryWhitespace
        | Kind::PlainScalarStartsWithDashFlowIndicator => {
            ("a `-` cannot stand here", Some("items of a list stand below one another, each after `- `"))
        }
        Kind::CommentInterceptedScalar | Kind::CommentNotSeparated => (
            "a comment cannot stand here",
            Some("before `#` stands a space; a text with ` #` in it needs quotes"),
        ),
        Kind::MissingAnchorOrAliasName => (
            "`&` and `*` begin a name, and there is none",
            Some("a text that begins with `&` or `*` needs quotes"),
        ),
        Kind::InvalidBlockScalarHeader => ("after `|` or `>` the line ends", None),
        Kind::BomInsideDocument => ("a byte order mark can only stand at the very beginning", None),
        Kind::UnsupportedYamlMajorVersion => {
            ("this is read as YAML 1.2", Some("remove the line with `%YAML`"))
        }
        Kind::InvalidDocumentEnd => {
            ("something follows the end of the document", Some("remove the line `...`"))
        }
        _ => return Refusal::new(&codes::YAML_SYNTAX, format!("this is not YAML: {kind}")),
    };
    Refusal { help, ..Refusal::new(&codes::YAML_SYNTAX, message) }
}

/// What the tree itself refuses, and what cannot be foreseen.
fn other(error: &Error) -> Refusal {
    let message = error.without_snippet().to_string();
    let line = message.lines().next().unwrap_or_default();
    // The library repeats the place, which the diagnostic has already.
    let told: String = line.split(" at line ").next().unwrap_or_default().chars().take(200).collect();
    Refusal::new(&codes::YAML_SYNTAX, told)
}

/// Where an error is. Errors of the scanner know line and column, but no bytes.
fn error_span(source: &str, location: &Location) -> Range<usize> {
    if location.span().byte_offset().is_some() {
        return span(location);
    }
    let narrow = |number: u64| usize::try_from(number).unwrap_or(1).max(1) - 1;
    let (line, column) = (narrow(location.line()), narrow(location.column()));
    let start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = source[start..].split('\n').next().unwrap_or_default();
    let offset = rest.char_indices().nth(column).map_or(rest.len(), |(offset, _)| offset);
    start + offset..start + offset
}

fn clamped(source: &str, span: Range<usize>) -> Range<usize> {
    let start = span.start.min(source.len());
    start..span.end.clamp(start, source.len())
}

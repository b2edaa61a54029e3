//! The expression language: what stands in `if:`, `when:`, and between `${` and `}`.
//!
//! Small on purpose. There are paths (`event.pull_request.number`, `findings.issues[0]`,
//! `stages["Run tests"].status`), literals, `! && || == != < <= > >= ?:` and thirteen functions; no loops,
//! no arithmetic, no assignment. A value is data and never parsed again.
//!
//! - **Missing** values are null: a path below a known name never fails, an unknown name does, except in
//!   `default(x, y)`, which is `y` when `x` is null or reads an unknown name.
//! - **Truth**: `false`, `null`, `0` and the empty text are false. `&&` and `||` give the value that
//!   decided, as in JavaScript.
//! - **Comparison** never converts: values of different kinds are not equal, numbers are equal by worth
//!   (`1 == 1.0`), texts exactly and with case. `<` and its kin compare two numbers or two texts; with null
//!   they are false; anything else is an error. Comparisons do not chain.
//! - **Taint**: the result is as tainted as the worst value that was read on the way, decisions included.
//! - **Bounds**: a source of 4 KiB, a depth of 32, a result of 1 MiB, 16 MiB of data looked at.

mod evaluate;
mod function;
mod lexer;
mod parser;
mod template;

use domain::value::Value;

use evaluate::{Evaluator, Fuel, Roots};
use lexer::Closing;
use parser::{Node, Step};

pub use template::{JsonTemplate, Template};

/// The longest source of one expression, bytes.
pub const MAX_SOURCE: usize = 4 << 10;
/// How deep an expression may be nested.
pub const MAX_DEPTH: usize = 32;
/// The largest result, bytes of text or JSON.
pub const MAX_RESULT: usize = 1 << 20;

/// An expression that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    source: String,
    node: Node,
}

/// Text that is not an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    /// What is wrong.
    pub message: String,
    /// Where, bytes from the beginning of the text that was parsed.
    pub offset: usize,
    /// What to do.
    pub help: Option<String>,
}

impl ExpressionError {
    fn new(message: impl Into<String>, offset: usize) -> Self {
        Self { message: message.into(), offset, help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvaluationError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    unknown_name: bool,
}

impl EvaluationError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, unknown_name: false }
    }

    fn unknown(message: String, help: Option<String>) -> Self {
        Self { message, help, unknown_name: true }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether the expression reads a name that the scope does not have.
    pub fn is_unknown_name(&self) -> bool {
        self.unknown_name
    }
}

/// How the run has gone so far, for `success()` and its kin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RunSoFar {
    /// Nothing has failed.
    #[default]
    Success,
    /// A stage has failed.
    Failure,
    /// Someone has cancelled it.
    Cancelled,
}

/// What an expression can see.
pub trait Scope {
    /// The value under a name; `None` when there is no such name. Asked once for each name of an
    /// expression or template, whatever the expression does with it.
    fn lookup(&self, name: &str) -> Option<Value>;

    /// The value of a key right below a name, where the keys of that name each have a taint of their own;
    /// `None` where the name as a whole is as tainted as everything in it.
    fn member(&self, _name: &str, _key: &str) -> Option<Value> {
        None
    }

    /// How the run has gone so far.
    fn status(&self) -> RunSoFar;

    /// All names, for "did you mean"; may be left out.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A name that an expression reads, and the path below it as far as it is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference<'e> {
    /// The name.
    pub root: &'e str,
    /// The keys below it, up to the first that is computed or a position.
    pub path: Vec<&'e str>,
    /// Where it stands, bytes from the beginning of the text that was parsed.
    pub offset: usize,
    /// Whether it stands in `default(…, y)`, where it may be missing.
    pub guarded: bool,
}

impl Expression {
    /// Parses an expression that stands alone: `len(findings) > 0`.
    ///
    /// # Errors
    /// When it is not one, or is beyond the bounds.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        let (node, _) = parser::parse(source, 0, Closing::Source)?;
        Ok(Self { source: source.trim().to_owned(), node })
    }

    /// Parses a condition: an expression alone, or one in `${ … }`.
    ///
    /// # Errors
    /// When it is neither; offsets count from the beginning of `text`.
    pub fn parse_condition(text: &str) -> Result<Self, ExpressionError> {
        let start = text.len() - text.trim_start().len();
        if !text[start..].starts_with("${") {
            return Self::parse(text);
        }
        let (expression, end) = Self::parse_in(text, start + 2)?;
        let rest = text[end..].trim_start();
        if rest.is_empty() {
            return Ok(expression);
        }
        Err(ExpressionError::new("a condition is one expression", text.len() - rest.len())
            .help("put everything inside one `${ … }`, or leave `${` and `}` away"))
    }

    /// Parses the expression of a template that begins at `start`; answers where its `}` ended.
    fn parse_in(text: &str, start: usize) -> Result<(Self, usize), ExpressionError> {
        let (node, end) = parser::parse(text, start, Closing::Brace)?;
        Ok((Self { source: text[start..end - 1].trim().to_owned(), node }, end))
    }

    /// The text of it, without `${` and `}`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The names that it reads, in order.
    pub fn references(&self) -> Vec<Reference<'_>> {
        let mut references = Vec::new();
        collect(&self.node, Where { path: &[], guarded: false }, &mut references);
        references
    }

    /// Whether it asks how the run has gone (`success()`, `failure()`, `always()`, `cancelled()`).
    /// A condition that does not is meant to hold only as long as nothing has failed.
    pub fn asks_status(&self) -> bool {
        any(&self.node, &|node| matches!(node, Node::Call { function, .. } if function.asks_status()))
    }

    /// The value.
    ///
    /// # Errors
    /// When a name is unknown, values do not fit together, or the bounds are exceeded.
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, EvaluationError> {
        self.evaluate_with(&Roots::read(&self.references(), scope), &Fuel::full())
    }

    /// Whether it holds: the truth of its value.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, EvaluationError> {
        self.evaluate(scope).map(|value| evaluate::truthy(&value.json))
    }

    fn evaluate_with(&self, roots: &Roots, fuel: &Fuel) -> Result<Value, EvaluationError> {
        let mut evaluator = Evaluator::new(roots, fuel);
        let json = evaluator.value(&self.node)?;
        evaluate::check_size(&json, fuel)?;
        let json = json.into_owned();
        Ok(Value { json, taint: evaluator.taint() })
    }
}

/// Whether a value counts as true: everything but `false`, `null`, `0` and the empty text.
pub fn is_true(value: &Value) -> bool {
    evaluate::truthy(&value.json)
}

/// Where a node stands, for [`collect`].
#[derive(Clone, Copy)]
struct Where<'e> {
    path: &'e [Step],
    guarded: bool,
}

fn collect<'e>(node: &'e Node, at: Where<'e>, found: &mut Vec<Reference<'e>>) {
    let inner = Where { path: &[], guarded: at.guarded };
    match node {
        Node::Literal(_) => {}
        Node::Root { name, offset } => {
            let fixed = at.path.iter().map_while(|step| match step {
                Step::Key(key) => Some(key.as_str()),
                Step::Index(_) => None,
            });
            found.push(Reference { root: name, path: fixed.collect(), offset: *offset, guarded: at.guarded });
        }
        Node::Access { of, steps } => {
            collect(of, Where { path: steps, guarded: at.guarded }, found);
            for step in steps {
                if let Step::Index(index) = step {
                    collect(index, inner, found);
                }
            }
        }
        Node::Call { function: function::Function::Default, arguments, .. } => {
            collect(&arguments[0], Where { path: &[], guarded: true }, found);
            collect(&arguments[1], inner, found);
        }
        _ => children(node).for_each(|child| collect(child, inner, found)),
    }
}

fn any(node: &Node, test: &dyn Fn(&Node) -> bool) -> bool {
    test(node) || children(node).any(|child| any(child, test))
}

/// The nodes right below a node.
fn children(node: &Node) -> Box<dyn Iterator<Item = &Node> + '_> {
    match node {
        Node::Literal(_) | Node::Root { .. } => Box::new(std::iter::empty()),
        Node::Not(of) => Box::new(std::iter::once(&**of)),
        Node::All(parts) | Node::Any(parts) => Box::new(parts.iter()),
        Node::Compare { sides, .. } => Box::new(sides.iter()),
        Node::Choose(parts) => Box::new(parts.iter()),
        Node::Call { arguments, .. } => Box::new(arguments.iter()),
        Node::Access { of, steps } => {
            Box::new(std::iter::once(&**of).chain(steps.iter().filter_map(|step| match step {
                Step::Index(index) => Some(index),
                Step::Key(_) => None,
            })))
        }
    }
}

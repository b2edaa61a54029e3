//! Text with expressions in it: `Fixes for #${event.number}`.

use domain::value::{Taint, Value};
use serde_json::Value as Json;

use super::evaluate::{self, Fuel, Roots};
use super::{EvaluationError, Expression, ExpressionError, MAX_RESULT, Reference, Scope};

/// The deepest JSON that may hold templates.
const MAX_JSON_DEPTH: usize = 128;

/// Text with expressions in it. `$${` stands for `${` itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Expression(Expression),
}

impl Template {
    /// Parses a template. Read from the left: `$${` is an escape, then `${` opens an expression, and
    /// everything else is text.
    ///
    /// # Errors
    /// When an expression in it cannot be parsed; offsets count from the beginning of `source`.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut at = 0;
        while let Some(found) = source[at..].find('$') {
            let dollar = at + found;
            text.push_str(&source[at..dollar]);
            let rest = &source[dollar..];
            if rest.starts_with("$${") {
                text.push_str("${");
                at = dollar + 3;
            } else if rest.starts_with("${") {
                let (expression, end) = Expression::parse_in(source, dollar + 2)?;
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Expression(expression));
                at = end;
            } else {
                text.push('$');
                at = dollar + 1;
            }
        }
        text.push_str(&source[at..]);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { source: source.to_owned(), parts })
    }

    /// A template that is this text and nothing else, whatever the text looks like.
    pub fn verbatim(text: &str) -> Self {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Text(text.to_owned())] };
        Self { source: text.replace("${", "$${"), parts }
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text, when there is no expression in it.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The names that its expressions read, in order.
    pub fn references(&self) -> Vec<Reference<'_>> {
        self.expressions().flat_map(Expression::references).collect()
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expression) => Some(expression),
            Part::Text(_) => None,
        })
    }

    /// The value: of exactly one expression and nothing else, its own; otherwise text.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, EvaluationError> {
        self.evaluate_with(&Roots::read(&self.references(), scope), &Fuel::full())
    }

    fn evaluate_with(&self, roots: &Roots, fuel: &Fuel) -> Result<Value, EvaluationError> {
        if let [Part::Expression(expression)] = self.parts.as_slice() {
            return expression.evaluate_with(roots, fuel);
        }
        let mut text = String::new();
        let mut taint = Taint::Trusted;
        for part in &self.parts {
            match part {
                Part::Text(part) => append(&mut text, part)?,
                Part::Expression(expression) => {
                    let value = expression.evaluate_with(roots, fuel)?;
                    taint = taint.with(value.taint);
                    let shown = evaluate::text_of(&value.json, fuel)?;
                    fuel.append(&mut text, &shown)?;
                }
            }
        }
        Ok(Value { json: Json::String(text), taint })
    }
}

/// Text of the manifest itself costs nothing, but counts against the size of the result.
fn append(text: &mut String, more: &str) -> Result<(), EvaluationError> {
    if text.len() + more.len() > MAX_RESULT {
        return Err(EvaluationError::new("the result is larger than 1 MiB"));
    }
    text.push_str(more);
    Ok(())
}

/// JSON whose texts are templates. Keys are taken as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonTemplate {
    source: Json,
    node: JsonNode,
}

#[derive(Debug, Clone, PartialEq)]
enum JsonNode {
    Fixed(Json),
    Text(Template),
    List(Vec<JsonNode>),
    Object(Vec<(String, JsonNode)>),
}

impl JsonTemplate {
    /// Parses every text in `source`.
    ///
    /// # Errors
    /// When an expression cannot be parsed (the offset counts from the beginning of its own text), or the
    /// JSON is nested deeper than 128.
    pub fn parse(source: Json) -> Result<Self, ExpressionError> {
        let node = JsonNode::parse(&source, 0)?;
        Ok(Self { source, node })
    }

    /// The JSON that was parsed.
    pub fn source(&self) -> &Json {
        &self.source
    }

    /// The JSON, when there is no expression in it.
    pub fn literal(&self) -> Option<Json> {
        self.node.literal()
    }

    /// The names that its expressions read, in order.
    pub fn references(&self) -> Vec<Reference<'_>> {
        let mut templates = Vec::new();
        self.node.templates(&mut templates);
        templates.into_iter().flat_map(Template::references).collect()
    }

    /// The value, with every text evaluated as [`Template::evaluate`] does.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate(&self, scope: &dyn Scope) -> Result<Value, EvaluationError> {
        let roots = Roots::read(&self.references(), scope);
        let mut evaluation = JsonEvaluation { roots: &roots, fuel: Fuel::full(), taint: Taint::Trusted };
        let json = evaluation.node(&self.node)?;
        evaluate::check_size(&json, &evaluation.fuel)?;
        Ok(Value { json, taint: evaluation.taint })
    }
}

impl JsonNode {
    fn parse(source: &Json, depth: usize) -> Result<Self, ExpressionError> {
        if depth > MAX_JSON_DEPTH {
            return Err(ExpressionError::new("the JSON is nested deeper than 128", 0));
        }
        Ok(match source {
            Json::String(text) => Self::Text(Template::parse(text)?),
            Json::Array(items) => {
                Self::List(items.iter().map(|item| Self::parse(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Json::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), Self::parse(value, depth + 1)?)))
                    .collect::<Result<_, ExpressionError>>()?,
            ),
            fixed => Self::Fixed(fixed.clone()),
        })
    }

    fn literal(&self) -> Option<Json> {
        match self {
            Self::Fixed(json) => Some(json.clone()),
            Self::Text(template) => template.literal().map(Json::from),
            Self::List(items) => items.iter().map(Self::literal).collect::<Option<_>>().map(Json::Array),
            Self::Object(fields) => fields
                .iter()
                .map(|(key, value)| Some((key.clone(), value.literal()?)))
                .collect::<Option<_>>()
                .map(Json::Object),
        }
    }

    fn templates<'n>(&'n self, found: &mut Vec<&'n Template>) {
        match self {
            Self::Fixed(_) => {}
            Self::Text(template) => found.push(template),
            Self::List(items) => items.iter().for_each(|item| item.templates(found)),
            Self::Object(fields) => fields.iter().for_each(|(_, value)| value.templates(found)),
        }
    }
}

struct JsonEvaluation<'e> {
    roots: &'e Roots,
    fuel: Fuel,
    taint: Taint,
}

impl JsonEvaluation<'_> {
    fn node(&mut self, node: &JsonNode) -> Result<Json, EvaluationError> {
        Ok(match node {
            JsonNode::Fixed(json) => json.clone(),
            JsonNode::Text(template) => {
                let value = template.evaluate_with(self.roots, &self.fuel)?;
                self.taint = self.taint.with(value.taint);
                value.json
            }
            JsonNode::List(items) => {
                Json::Array(items.iter().map(|item| self.node(item)).collect::<Result<_, _>>()?)
            }
            JsonNode::Object(fields) => Json::Object(
                fields
                    .iter()
                    .map(|(key, value)| Ok((key.clone(), self.node(value)?)))
                    .collect::<Result<_, EvaluationError>>()?,
            ),
        })
    }
}

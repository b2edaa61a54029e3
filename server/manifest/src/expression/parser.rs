//! Tokens into a tree: a Pratt parser (Vaughan Pratt, "Top down operator precedence", 1973).
//!
//! The tree is never deeper than [`MAX_DEPTH`]: chains of `&&`, of `||` and of steps are kept flat, and
//! comparisons do not chain. So whoever walks or drops a tree cannot run out of stack.

use serde_json::{Number, Value as Json};

use super::function::Function;
use super::lexer::{Closing, Lexer, Token};
use super::{ExpressionError, MAX_DEPTH};
use crate::suggest::quoted;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Literal(Json),
    /// A name that the scope knows.
    Root {
        name: String,
        offset: usize,
    },
    /// `a.b[c]`.
    Access {
        of: Box<Node>,
        steps: Vec<Step>,
    },
    Not(Box<Node>),
    /// The first that does not hold, or the last.
    All(Vec<Node>),
    /// The first that holds, or the last.
    Any(Vec<Node>),
    Compare {
        relation: Relation,
        sides: Box<[Node; 2]>,
        offset: usize,
    },
    /// Condition, then, otherwise.
    Choose(Box<[Node; 3]>),
    Call {
        function: Function,
        arguments: Vec<Node>,
        offset: usize,
    },
}

/// A step into a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Key(String),
    Index(Node),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How tightly the operators bind, loosest first.
mod power {
    pub(super) const CHOOSE: u8 = 1;
    pub(super) const OR: u8 = 2;
    pub(super) const AND: u8 = 3;
    pub(super) const COMPARE: u8 = 4;
    pub(super) const NOT: u8 = 5;
}

/// Parses one expression that begins at byte `start`; answers where it ended.
pub(super) fn parse(source: &str, start: usize, closing: Closing) -> Result<(Node, usize), ExpressionError> {
    let mut lexer = Lexer::new(source, start, closing);
    let (token, offset) = lexer.token()?;
    let mut parser = Parser { lexer, token, offset, depth: 0 };
    let node = parser.expression(0)?;
    match parser.token {
        Token::End => Ok((node, parser.lexer.position())),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser<'s> {
    lexer: Lexer<'s>,
    token: Token<'s>,
    offset: usize,
    depth: usize,
}

impl<'s> Parser<'s> {
    /// An expression whose operators bind at least as tightly as `floor`.
    fn expression(&mut self, floor: u8) -> Result<Node, ExpressionError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpressionError::new("the expression is nested deeper than 32", self.offset));
        }
        let mut left = self.prefix()?;
        while let Token::Sign(sign) = self.token {
            let offset = self.offset;
            left = match sign {
                "||" if floor <= power::OR => {
                    self.advance()?;
                    chained(left, self.expression(power::OR + 1)?, "||")
                }
                "&&" if floor <= power::AND => {
                    self.advance()?;
                    chained(left, self.expression(power::AND + 1)?, "&&")
                }
                "?" if floor <= power::CHOOSE => self.choice(left)?,
                _ => match relation(sign) {
                    Some(relation) if floor <= power::COMPARE => self.comparison(left, relation, offset)?,
                    _ => break,
                },
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn prefix(&mut self) -> Result<Node, ExpressionError> {
        let offset = self.offset;
        let node = match self.advance()? {
            Token::Sign("!") => return Ok(Node::Not(Box::new(self.expression(power::NOT)?))),
            Token::Sign("-") => self.negative(offset)?,
            Token::Sign("(") => {
                let inner = self.expression(0)?;
                self.expect(")")?;
                inner
            }
            Token::Literal(literal) => Node::Literal(literal),
            Token::Name(name) if self.token == Token::Sign("(") => self.call(name, offset)?,
            Token::Name(name) => Node::Root { name: name.to_owned(), offset },
            other => {
                (self.token, self.offset) = (other, offset);
                return Err(self.unexpected("a value"));
            }
        };
        self.access(node)
    }

    /// `.key` and `[index]`, as many as follow.
    fn access(&mut self, of: Node) -> Result<Node, ExpressionError> {
        let mut steps = Vec::new();
        loop {
            match self.token {
                Token::Sign(".") => {
                    self.advance()?;
                    let Token::Name(name) = self.token else { return Err(self.unexpected("a name")) };
                    steps.push(Step::Key(name.to_owned()));
                    self.advance()?;
                }
                Token::Sign("[") => {
                    self.advance()?;
                    let index = self.expression(0)?;
                    self.expect("]")?;
                    steps.push(match index {
                        Node::Literal(Json::String(key)) => Step::Key(key),
                        index => Step::Index(index),
                    });
                }
                _ if steps.is_empty() => return Ok(of),
                _ => return Ok(Node::Access { of: Box::new(of), steps }),
            }
        }
    }

    fn negative(&mut self, offset: usize) -> Result<Node, ExpressionError> {
        let Token::Literal(Json::Number(number)) = self.advance()? else {
            return Err(ExpressionError::new("`-` stands only before a number", offset)
                .help("expressions do not calculate; let a script do it"));
        };
        let negative = match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Some(Number::from(-whole)),
            (None, float) => float.and_then(|float| Number::from_f64(-float)),
        };
        negative
            .map(|number| Node::Literal(Json::Number(number)))
            .ok_or_else(|| ExpressionError::new("the number does not fit", offset))
    }

    fn call(&mut self, name: &str, offset: usize) -> Result<Node, ExpressionError> {
        let function = Function::named(name, offset)?;
        self.expect("(")?;
        let mut arguments = Vec::new();
        while self.token != Token::Sign(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.expression(0)?);
        }
        self.expect(")")?;
        function.check_arity(arguments.len(), offset)?;
        Ok(Node::Call { function, arguments, offset })
    }

    fn choice(&mut self, condition: Node) -> Result<Node, ExpressionError> {
        self.expect("?")?;
        let then = self.expression(0)?;
        self.expect(":")?;
        let otherwise = self.expression(power::CHOOSE)?;
        Ok(Node::Choose(Box::new([condition, then, otherwise])))
    }

    fn comparison(&mut self, left: Node, relation: Relation, offset: usize) -> Result<Node, ExpressionError> {
        self.advance()?;
        let right = self.expression(power::COMPARE + 1)?;
        if matches!(self.token, Token::Sign(sign) if self::relation(sign).is_some()) {
            return Err(ExpressionError::new("comparisons do not chain", self.offset)
                .help("compare two at a time and join them with `&&`"));
        }
        Ok(Node::Compare { relation, sides: Box::new([left, right]), offset })
    }

    /// Takes the current token and reads the next; the end is never passed.
    fn advance(&mut self) -> Result<Token<'s>, ExpressionError> {
        if self.token == Token::End {
            return Ok(Token::End);
        }
        let (token, offset) = self.lexer.token()?;
        self.offset = offset;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), ExpressionError> {
        if self.token == Token::Sign(sign) {
            self.advance().map(|_| ())
        } else {
            Err(self.unexpected(&format!("`{sign}`")))
        }
    }

    fn unexpected(&self, expected: &str) -> ExpressionError {
        let found = match &self.token {
            Token::Name(name) => quoted(name),
            Token::Literal(Json::String(text)) => format!("the text {}", quoted(text)),
            Token::Literal(literal) => quoted(&literal.to_string()),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end of the expression".to_owned(),
        };
        ExpressionError::new(format!("expected {expected}, found {found}"), self.offset)
    }
}

/// `a && b && c` is one node with three parts, so that a long chain is not a deep tree.
fn chained(left: Node, right: Node, sign: &str) -> Node {
    match (left, sign) {
        (Node::All(mut parts), "&&") => {
            parts.push(right);
            Node::All(parts)
        }
        (Node::Any(mut parts), "||") => {
            parts.push(right);
            Node::Any(parts)
        }
        (left, "&&") => Node::All(vec![left, right]),
        (left, _) => Node::Any(vec![left, right]),
    }
}

fn relation(sign: &str) -> Option<Relation> {
    Some(match sign {
        "==" => Relation::Equal,
        "!=" => Relation::NotEqual,
        "<" => Relation::Less,
        "<=" => Relation::LessOrEqual,
        ">" => Relation::Greater,
        ">=" => Relation::GreaterOrEqual,
        _ => return None,
    })
}

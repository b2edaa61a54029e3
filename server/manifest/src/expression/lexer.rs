//! Text into tokens, one at a time.

use serde_json::{Number, Value as Json};

use super::{ExpressionError, MAX_SOURCE};
use crate::suggest::quoted;

/// The smallest unit of meaning.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'s> {
    Name(&'s str),
    Literal(Json),
    /// Anything made of signs.
    Sign(&'static str),
    /// The end of the source, or the `}` that closes an expression in a template.
    End,
}

/// Reads tokens from a source.
#[derive(Debug)]
pub(super) struct Lexer<'s> {
    source: &'s str,
    start: usize,
    at: usize,
    closing: Closing,
}

/// What ends the expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// The end of the source.
    Source,
    /// A `}`: the expression stands in a template.
    Brace,
}

/// Longer signs before their beginnings.
const SIGNS: [&str; 18] =
    ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", ".", "[", "]", "(", ")", ",", "-"];

impl<'s> Lexer<'s> {
    pub(super) fn new(source: &'s str, start: usize, closing: Closing) -> Self {
        Self { source, start, at: start, closing }
    }

    /// Where the last token ended, bytes from the beginning of the source.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next token, and where it begins.
    pub(super) fn token(&mut self) -> Result<(Token<'s>, usize), ExpressionError> {
        let source = self.source;
        let rest = source[self.at..].trim_start();
        let at = source.len() - rest.len();
        self.at = at;
        if at - self.start > MAX_SOURCE {
            return Err(ExpressionError::new("the expression is longer than 4 KiB", self.start));
        }
        let Some(first) = rest.chars().next() else {
            return match self.closing {
                Closing::Source => Ok((Token::End, at)),
                Closing::Brace => {
                    Err(ExpressionError::new("the expression is not closed", at).help("end it with `}`"))
                }
            };
        };
        let token = match first {
            '}' if self.closing == Closing::Brace => {
                self.at += 1;
                Token::End
            }
            'a'..='z' | 'A'..='Z' | '_' => self.name(rest),
            '0'..='9' => self.number(rest)?,
            '\'' | '"' => self.text(rest, first)?,
            _ => self.sign(rest, first)?,
        };
        Ok((token, at))
    }

    /// Letters, digits, `_`, and `-` inside: there is no subtraction it could be taken for.
    fn name(&mut self, rest: &'s str) -> Token<'s> {
        let length =
            rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
        let name = rest[..length].trim_end_matches('-');
        self.at += name.len();
        match name {
            "true" => Token::Literal(Json::Bool(true)),
            "false" => Token::Literal(Json::Bool(false)),
            "null" => Token::Literal(Json::Null),
            _ => Token::Name(name),
        }
    }

    fn number(&mut self, rest: &str) -> Result<Token<'s>, ExpressionError> {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut length = digits(rest);
        if let Some(decimals) = rest[length..].strip_prefix('.').map(digits).filter(|count| *count > 0) {
            length += 1 + decimals;
        }
        if let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['+', '-']));
            let count = digits(&exponent[sign..]);
            length += if count > 0 { 1 + sign + count } else { 0 };
        }
        let text = &rest[..length];
        let number: Number = serde_json::from_str(text).map_err(|_| {
            ExpressionError::new(format!("{} is not a number that fits", quoted(text)), self.at)
        })?;
        self.at += length;
        Ok(Token::Literal(Json::Number(number)))
    }

    fn text(&mut self, rest: &str, quote: char) -> Result<Token<'s>, ExpressionError> {
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                _ if c == quote => {
                    self.at += offset + 1;
                    return Ok(Token::Literal(Json::String(text)));
                }
                '\\' => text.push(self.escape(&mut chars, offset)?),
                _ => text.push(c),
            }
            if offset > MAX_SOURCE {
                break;
            }
        }
        Err(ExpressionError::new("the text is not closed", self.at).help(format!("end it with {quote}")))
    }

    fn escape(
        &self,
        chars: &mut impl Iterator<Item = (usize, char)>,
        offset: usize,
    ) -> Result<char, ExpressionError> {
        match chars.next().map(|(_, c)| c) {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some(c @ ('\\' | '\'' | '"')) => Ok(c),
            _ => Err(ExpressionError::new("an unknown escape", self.at + offset)
                .help("the escapes are \\n \\t \\\\ \\' and \\\"")),
        }
    }

    fn sign(&mut self, rest: &str, first: char) -> Result<Token<'s>, ExpressionError> {
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        let error =
            ExpressionError::new(format!("{} means nothing here", quoted(&first.to_string())), self.at);
        Err(match first {
            '=' => error.help("compare with `==`"),
            '&' => error.help("\"and\" is `&&`"),
            '|' => error.help("\"or\" is `||`"),
            '$' => error.help("inside an expression names stand alone, without `${`"),
            '+' | '*' | '/' | '%' => error.help("expressions do not calculate; let a script do it"),
            _ => error,
        })
    }
}

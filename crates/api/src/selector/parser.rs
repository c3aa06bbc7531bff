//! From tokens to an expression, by recursive descent.

use std::collections::BTreeSet;

use super::SelectorError;
use super::expression::Expression;
use super::lexer::{SpannedToken, Token, tokens};

/// How deep brackets may be nested. A policy selector has at most 1024 characters, so it can hold no more pairs than this;
/// the bound keeps hostile text from exhausting the stack, here and in whatever walks the expression.
pub(super) const MAX_DEPTH: usize = 512;

/// Parses a whole text.
pub(super) fn parse(text: &str) -> Result<Expression, SelectorError> {
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(Expression::All);
    }
    let mut parser = Parser { tokens: &tokens, next: 0, end: text.len(), depth: 0 };
    let expression = parser.or()?;
    if parser.peek().is_some() {
        return Err(parser.unexpected("`&&`, `||` or the end"));
    }
    // The canonical text has brackets around every `&&` and `||`, and has to parse as well.
    if expression.depth() > MAX_DEPTH {
        return Err(SelectorError::TooDeep { position: 0 });
    }
    Ok(expression)
}

struct Parser<'t, 'a> {
    tokens: &'t [SpannedToken<'a>],
    next: usize,
    end: usize,
    depth: usize,
}

impl<'a> Parser<'_, 'a> {
    fn or(&mut self) -> Result<Expression, SelectorError> {
        let mut operands = vec![self.and()?];
        while self.take(&Token::Or) {
            operands.push(self.and()?);
        }
        Ok(single_or(operands, Expression::Or))
    }

    fn and(&mut self) -> Result<Expression, SelectorError> {
        let mut operands = vec![self.operation()?];
        while self.take(&Token::And) {
            operands.push(self.operation()?);
        }
        Ok(single_or(operands, Expression::And))
    }

    fn operation(&mut self) -> Result<Expression, SelectorError> {
        let mut negated = false;
        while self.take(&Token::Not) {
            negated = !negated;
        }
        let operand = self.primary()?;
        Ok(if negated { operand.negated() } else { operand })
    }

    fn primary(&mut self) -> Result<Expression, SelectorError> {
        let Some(token) = self.peek() else { return Err(self.unexpected(PRIMARY)) };
        let expression = match token {
            Token::OpenBracket => return self.bracketed(),
            Token::All => Expression::All,
            Token::Global => Expression::Global,
            Token::Has(label) => Expression::Has((*label).to_owned()),
            Token::Label(label) => {
                let label = (*label).to_owned();
                self.next += 1;
                return self.comparison(label);
            }
            _ => return Err(self.unexpected(PRIMARY)),
        };
        self.next += 1;
        Ok(expression)
    }

    fn bracketed(&mut self) -> Result<Expression, SelectorError> {
        if self.depth == MAX_DEPTH {
            return Err(SelectorError::TooDeep { position: self.position() });
        }
        self.next += 1;
        self.depth += 1;
        let inner = self.or()?;
        self.depth -= 1;
        self.expect(&Token::CloseBracket, "`&&`, `||` or `)`")?;
        Ok(inner)
    }

    fn comparison(&mut self, label: String) -> Result<Expression, SelectorError> {
        let Some(operator) = self.peek().cloned() else { return Err(self.unexpected(OPERATOR)) };
        let build = match operator {
            Token::In | Token::NotIn => {
                self.next += 1;
                let values = self.set()?;
                let is_in = operator == Token::In;
                return Ok(if is_in {
                    Expression::In(label, values)
                } else {
                    Expression::NotIn(label, values)
                });
            }
            Token::Equal => Expression::Equal,
            Token::NotEqual => Expression::NotEqual,
            Token::Contains => Expression::Contains,
            Token::StartsWith => Expression::StartsWith,
            Token::EndsWith => Expression::EndsWith,
            _ => return Err(self.unexpected(OPERATOR)),
        };
        self.next += 1;
        Ok(build(label, self.string("a string in quotes")?))
    }

    fn set(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        self.expect(&Token::OpenBrace, "`{` and a list of strings")?;
        let mut values = BTreeSet::new();
        while !self.take(&Token::CloseBrace) {
            values.insert(self.string("a string in quotes or `}`")?);
            if !self.take(&Token::Comma) {
                self.expect(&Token::CloseBrace, "`,` or `}`")?;
                break;
            }
        }
        Ok(values)
    }

    fn string(&mut self, expected: &'static str) -> Result<String, SelectorError> {
        let Some(Token::String(text)) = self.peek() else { return Err(self.unexpected(expected)) };
        let text = (*text).to_owned();
        self.next += 1;
        Ok(text)
    }

    fn take(&mut self, token: &Token<'_>) -> bool {
        let there = self.peek() == Some(token);
        self.next += usize::from(there);
        there
    }

    fn expect(&mut self, token: &Token<'_>, expected: &'static str) -> Result<(), SelectorError> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.next).map(|spanned| &spanned.token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |spanned| spanned.span.start)
    }

    fn unexpected(&self, expected: &'static str) -> SelectorError {
        let found = self.peek().map_or_else(|| "the end".to_owned(), Token::to_string);
        SelectorError::Unexpected { position: self.position(), found, expected }
    }
}

const PRIMARY: &str = "a comparison such as label == 'value', `has(label)`, `all()`, `global()`, `!` or `(`";
const OPERATOR: &str = "one of `==`, `!=`, `in`, `not in`, `contains`, `starts with`, `ends with`";

fn single_or(mut operands: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match operands.len() {
        1 => operands.remove(0),
        _ => join(operands),
    }
}

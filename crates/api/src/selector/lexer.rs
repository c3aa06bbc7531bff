//! From text to tokens.
//!
//! The language is lexed by context: directly after a label only an operator can follow, so `contains contains "x"` is a
//! label, an operator and a string. Blanks are space and tab, nothing else. `has(`, `all(` and `global(` are one
//! lexeme with their bracket.

use std::fmt;
use std::ops::Range;

use super::SelectorError;

/// The longest label name, in characters.
pub(super) const MAX_LABEL_LENGTH: usize = 512;

/// One lexeme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token<'a> {
    /// `all()`
    All,
    /// `global()`
    Global,
    /// `has(label)`
    Has(&'a str),
    /// A label name.
    Label(&'a str),
    /// A string, without its quotes.
    String(&'a str),
    /// `(`
    OpenBracket,
    /// `)`
    CloseBracket,
    /// `{`
    OpenBrace,
    /// `}`
    CloseBrace,
    /// `,`
    Comma,
    /// `!`
    Not,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `in`
    In,
    /// `not in`
    NotIn,
    /// `contains`
    Contains,
    /// `starts with`
    StartsWith,
    /// `ends with`
    EndsWith,
}

impl Token<'_> {
    /// The token's fixed text; for tokens with a content, the name of their sort: `has()`, `label`, `string`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::All => "all()",
            Self::Global => "global()",
            Self::Has(_) => "has()",
            Self::Label(_) => "label",
            Self::String(_) => "string",
            Self::OpenBracket => "(",
            Self::CloseBracket => ")",
            Self::OpenBrace => "{",
            Self::CloseBrace => "}",
            Self::Comma => ",",
            Self::Not => "!",
            Self::And => "&&",
            Self::Or => "||",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::In => "in",
            Self::NotIn => "not in",
            Self::Contains => "contains",
            Self::StartsWith => "starts with",
            Self::EndsWith => "ends with",
        }
    }

    /// The content of a label, a string or a `has()`.
    pub fn content(&self) -> Option<&str> {
        match self {
            Self::Has(text) | Self::Label(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(label) => write!(f, "has({label})"),
            Self::Label(label) => write!(f, "label {label}"),
            Self::String(text) => write!(f, "string {text:?}"),
            other => write!(f, "`{}`", other.name()),
        }
    }
}

/// A token and where it stands, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpannedToken<'a> {
    /// The token.
    pub token: Token<'a>,
    /// The bytes of the text that it covers.
    pub span: Range<usize>,
}

/// Cuts a text into tokens. Their order is not checked, save for what may follow a label.
///
/// # Errors
/// A character, word or unfinished string that no token starts with.
pub fn tokens(text: &str) -> Result<Vec<SpannedToken<'_>>, SelectorError> {
    let mut lexer = Lexer { text, position: 0 };
    let mut tokens: Vec<SpannedToken<'_>> = Vec::new();
    loop {
        lexer.skip_blanks();
        let start = lexer.position;
        if start == text.len() {
            return Ok(tokens);
        }
        let after_label = matches!(tokens.last(), Some(SpannedToken { token: Token::Label(_), .. }));
        let token = lexer.next(after_label)?;
        tokens.push(SpannedToken { token, span: start..lexer.position });
    }
}

const SYMBOLS: [(&str, Token<'static>); 10] = [
    ("(", Token::OpenBracket),
    (")", Token::CloseBracket),
    ("{", Token::OpenBrace),
    ("}", Token::CloseBrace),
    (",", Token::Comma),
    ("==", Token::Equal),
    ("!=", Token::NotEqual),
    ("!", Token::Not),
    ("&&", Token::And),
    ("||", Token::Or),
];

const WORD_OPERATORS: [(&[&str], Token<'static>); 5] = [
    (&["contains"], Token::Contains),
    (&["starts", "with"], Token::StartsWith),
    (&["ends", "with"], Token::EndsWith),
    (&["not", "in"], Token::NotIn),
    (&["in"], Token::In),
];

struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self, after_label: bool) -> Result<Token<'a>, SelectorError> {
        if let Some(token) = self.symbol() {
            return Ok(token);
        }
        match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.string(quote),
            Some('=') => Err(self.unexpected(self.position, "`==`")),
            Some('&') => Err(self.unexpected(self.position, "`&&`")),
            Some('|') => Err(self.unexpected(self.position, "`||`")),
            _ if after_label => self.word_operator(),
            Some(first) if is_label_char(first) => self.call_or_label(),
            _ => Err(self.unexpected(self.position, "a label, a string, a bracket or an operator")),
        }
    }

    fn symbol(&mut self) -> Option<Token<'a>> {
        let (text, token) = SYMBOLS.iter().find(|(text, _)| self.rest().starts_with(text))?;
        self.position += text.len();
        Some(token.clone())
    }

    fn string(&mut self, quote: char) -> Result<Token<'a>, SelectorError> {
        let content = &self.rest()[1..];
        let Some(length) = content.find(quote) else {
            return Err(SelectorError::UnterminatedString { position: self.position, quote });
        };
        self.position += length + 2;
        Ok(Token::String(&content[..length]))
    }

    fn word_operator(&mut self) -> Result<Token<'a>, SelectorError> {
        let found = WORD_OPERATORS
            .iter()
            .find_map(|(words, token)| words_length(self.rest(), words).map(|length| (length, token)));
        let Some((length, token)) = found else {
            return Err(self.unexpected(
                self.position,
                "one of `==`, `!=`, `in`, `not in`, `contains`, `starts with`, `ends with` after a label",
            ));
        };
        self.position += length;
        Ok(token.clone())
    }

    fn call_or_label(&mut self) -> Result<Token<'a>, SelectorError> {
        for (word, token) in [("all(", Token::All), ("global(", Token::Global)] {
            if self.rest().starts_with(word) {
                self.position += word.len();
                self.close_bracket()?;
                return Ok(token);
            }
        }
        if !self.rest().starts_with("has(") {
            return self.label().map(Token::Label);
        }
        self.position += "has(".len();
        self.skip_blanks();
        let label = self.label()?;
        self.close_bracket()?;
        Ok(Token::Has(label))
    }

    fn label(&mut self) -> Result<&'a str, SelectorError> {
        let rest = self.rest();
        let length = rest.find(|c| !is_label_char(c)).unwrap_or(rest.len());
        match length {
            0 => Err(self.unexpected(self.position, "a label")),
            1..=MAX_LABEL_LENGTH => {
                self.position += length;
                Ok(&rest[..length])
            }
            _ => Err(SelectorError::LabelTooLong { position: self.position, length }),
        }
    }

    fn close_bracket(&mut self) -> Result<(), SelectorError> {
        self.skip_blanks();
        if !self.rest().starts_with(')') {
            return Err(self.unexpected(self.position, "`)`"));
        }
        self.position += 1;
        Ok(())
    }

    fn skip_blanks(&mut self) {
        self.position += blanks(self.rest());
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn unexpected(&self, position: usize, expected: &'static str) -> SelectorError {
        SelectorError::Unexpected { position, found: excerpt(&self.text[position..]), expected }
    }
}

/// The length of these words at the start of a text, with any number of blanks between them, if a word ends there.
fn words_length(text: &str, words: &[&str]) -> Option<usize> {
    let mut length = 0;
    for word in words {
        length += blanks(&text[length..]);
        length += text[length..].starts_with(word).then_some(word.len())?;
    }
    let next = text[length..].chars().next();
    next.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_')).then_some(length)
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

fn is_label_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

/// The word or character with which a text starts, quoted, for messages.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 32;
    let Some(first) = text.chars().next() else { return "the end".to_owned() };
    let word: String = text.chars().take_while(|c| is_label_char(*c)).take(LONGEST).collect();
    if word.is_empty() { format!("{:?}", first.to_string()) } else { format!("{word:?}") }
}

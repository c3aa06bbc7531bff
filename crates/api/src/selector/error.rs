//! Why a text is not a selector.

/// Why a text is not a selector. Positions are byte offsets into it, starting at 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Something else was expected at a position.
    #[error("selector, position {position}: found {found}, expected {expected}")]
    Unexpected {
        /// Where.
        position: usize,
        /// What is there, quoted, or `the end`.
        found: String,
        /// What may stand there.
        expected: &'static str,
    },
    /// A string has no closing quote.
    #[error("selector, position {position}: the string that starts here lacks its closing {quote}")]
    UnterminatedString {
        /// Where the opening quote is.
        position: usize,
        /// The quote that is missing.
        quote: char,
    },
    /// A label name is longer than the language allows.
    #[error(
        "selector, position {position}: label name of {length} characters, at most {} are allowed",
        super::lexer::MAX_LABEL_LENGTH
    )]
    LabelTooLong {
        /// Where the name starts.
        position: usize,
        /// Its length.
        length: usize,
    },
    /// Brackets are nested too deep.
    #[error(
        "selector, position {position}: brackets are nested more than {} deep; simplify the selector",
        super::parser::MAX_DEPTH
    )]
    TooDeep {
        /// Where the bracket is that is one too many.
        position: usize,
    },
}

impl SelectorError {
    /// Where in the text the mistake is, in bytes.
    pub fn position(&self) -> usize {
        match self {
            Self::Unexpected { position, .. }
            | Self::UnterminatedString { position, .. }
            | Self::LabelTooLong { position, .. }
            | Self::TooDeep { position } => *position,
        }
    }
}

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

/// How many characters of a selector are shown before and after a mistake.
const SHOWN: usize = 40;

impl SelectorError {
    /// The text that is no selector, or what is around the mistake in it, and a line with a caret under the mistake; both
    /// indented.
    pub fn caret(&self, text: &str) -> String {
        let place = text.get(..self.position()).map_or(0, |before| before.chars().count());
        let (first, last) = (place.saturating_sub(SHOWN), place + SHOWN);
        let is_cut = [first > 0, text.chars().count() > last];
        let shown = text.chars().skip(first).take(last - first);
        // A tab or a line's end would move the caret away.
        let shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        let [before, after] = is_cut.map(|is_cut| if is_cut { "…" } else { "" });
        let blanks = " ".repeat(before.chars().count() + place - first);
        format!("    {before}{shown}{after}\n    {blanks}^")
    }

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

//! The selector language: boolean expressions over labels, with which policies, pools and peers choose what they
//! apply to.
//!
//! ```text
//! root  := "" | or                      or   := and ( "||" and )*
//! and   := op ( "&&" op )*              op   := "!"* prim
//! prim  := "all()" | "global()" | "has(" label ")" | "(" or ")"
//!        | label "==" str               | label "!=" str
//!        | label "in" set               | label "not in" set
//!        | label "contains" str         | label "starts with" str      | label "ends with" str
//! set   := "{" [ str ( "," str )* [","] ] "}"
//! str   := "'" [^']* "'" | '"' [^"]* '"'             label := [A-Za-z0-9_./-]{1,512}
//! ```
//!
//! A label that is absent satisfies `!=` and `not in`, and no other comparison. The empty text means `all()`; whether an
//! absent peer selector means "anything" is decided by who holds it, not here. `global()` matches everything by itself:
//! its meaning, "not in a namespace", is given to it by [`Selector::for_namespaces`].
//!
//! Every selector has a canonical text (its `Display`), which parses to an equal selector, and a
//! [unique id](Selector::unique_id) made from that text, which names the IP set of whatever it selects.

mod compile;
mod error;
mod expression;
mod labels;
mod lexer;
mod parser;
mod restriction;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha224};

pub use compile::{PeerSelector, policy_selector};
pub use error::SelectorError;
pub use labels::{Labels, Layered};
pub use lexer::{SpannedToken, Token, tokens};
pub use restriction::LabelRestriction;

use expression::Expression;

/// A parsed selector. Cloning is cheap; equality, order and hash are those of the canonical text.
#[derive(Clone)]
pub struct Selector(Arc<Parsed>);

struct Parsed {
    expression: Expression,
    text: String,
    unique_id: OnceLock<String>,
}

impl Selector {
    /// Parses a selector; the empty text (or only blanks) is `all()`.
    ///
    /// # Errors
    /// The position (in bytes), what was found there and what was expected instead.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        parser::parse(text).map(Self::new)
    }

    fn new(expression: Expression) -> Self {
        let text = expression.to_string();
        Self(Arc::new(Parsed { expression, text, unique_id: OnceLock::new() }))
    }

    /// The selector that matches everything.
    pub fn all() -> Self {
        Self::new(Expression::All)
    }

    /// `has(label)`. The label has to be one that the language can write.
    pub fn has(label: &str) -> Self {
        Self::new(Expression::Has(label.to_owned()))
    }

    /// `label == "value"`. The value must not hold both kinds of quote.
    pub fn equals(label: &str, value: &str) -> Self {
        Self::new(Expression::Equal(label.to_owned(), value.to_owned()))
    }

    /// `label in {"value", …}`.
    pub fn one_of<V: Into<String>>(label: &str, values: impl IntoIterator<Item = V>) -> Self {
        Self::new(Expression::In(label.to_owned(), values.into_iter().map(Into::into).collect()))
    }

    /// What both match.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self::new(Expression::And(vec![self.0.expression.clone(), other.0.expression.clone()]))
    }

    /// What this one does not match.
    #[must_use]
    pub fn negated(&self) -> Self {
        Self::new(self.0.expression.clone().negated())
    }

    /// Whether something with these labels is selected.
    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        self.0.expression.matches(labels)
    }

    /// The canonical text, as `Display` writes it.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The id of the selector: `s:` and the unpadded URL-safe base64 of the SHA-224 of `s:` and the canonical text.
    /// Equal selectors share it; it is part of IP set names.
    pub fn unique_id(&self) -> &str {
        self.0.unique_id.get_or_init(|| unique_id("s", &self.0.text))
    }

    /// What labels must look like for a match to be possible: a necessary condition for each label that has one, so
    /// that an index need not look at every endpoint.
    pub fn label_restrictions(&self) -> BTreeMap<String, LabelRestriction> {
        restriction::of(&self.0.expression)
    }

    /// The same expression over labels whose names start with `prefix`.
    #[must_use]
    pub fn with_label_prefix(&self, prefix: &str) -> Self {
        Self::new(self.0.expression.map_labels(&|label| format!("{prefix}{label}")))
    }

    /// Whether `global()` appears anywhere in it; only a rule's `namespaceSelector` may hold it, and then alone.
    pub fn mentions_global(&self) -> bool {
        self.0.expression.any(&|part| matches!(part, Expression::Global))
    }

    /// Whether it is just `global()`.
    pub fn is_global(&self) -> bool {
        self.0.expression == Expression::Global
    }

    /// Whether it is just `all()`.
    pub fn is_all(&self) -> bool {
        self.0.expression == Expression::All
    }
}

/// An id as IP sets have: `kind`, a colon, and the unpadded URL-safe base64 of the SHA-224 of `kind:text`.
pub fn unique_id(kind: &str, text: &str) -> String {
    let digest = Sha224::new().chain_update(kind).chain_update(":").chain_update(text).finalize();
    format!("{kind}:{}", URL_SAFE_NO_PAD.encode(digest))
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.0.text)
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self::all()
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}

impl Eq for Selector {}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.text.cmp(&other.0.text)
    }
}

impl Hash for Selector {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

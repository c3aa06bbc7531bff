use std::fmt;

use serde::de;

use super::node::Path;
use super::tree::Tree;

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The field, such as `spec.ingress[0].action`; empty for the document itself.
    pub(crate) field: String,
    /// Line, from 1; 0 if not known.
    pub(crate) line: u32,
    /// The value there, if it is a scalar.
    pub(crate) value: Option<String>,
    /// What is wrong, and what would be right.
    pub(crate) reason: String,
}

impl Problem {
    /// With the document as a whole.
    pub(crate) fn whole(reason: String) -> Self {
        Self { field: String::new(), line: 0, value: None, reason }
    }
}

/// A problem that finds its place on the way out of the document.
#[derive(Debug)]
pub(crate) struct DecodeError {
    reason: String,
    missing: Option<&'static str>,
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    field: String,
    line: u32,
    value: Option<String>,
}

impl DecodeError {
    /// Notes the place, unless an inner one is known.
    pub(crate) fn at(mut self, path: &Path<'_>, tree: &Tree) -> Self {
        if self.place.is_none() {
            let field = match self.missing {
                Some(name) => Path::Field(path, name).to_string(),
                None => path.to_string(),
            };
            let value = tree.scalar().map(str::to_owned);
            self.place = Some(Place { field, line: tree.line, value });
        }
        self
    }

    pub(crate) fn into_problem(self) -> Problem {
        let place = self.place.unwrap_or(Place { field: String::new(), line: 0, value: None });
        Problem { field: place.field, line: place.line, value: place.value, reason: self.reason }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { reason: message.to_string(), missing: None, place: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { reason: "is required".to_owned(), missing: Some(field), place: None }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("is {}, but has to be {expected}", plainly(found)))
    }
}

fn plainly(found: de::Unexpected<'_>) -> &'static str {
    match found {
        de::Unexpected::Map => "an object",
        de::Unexpected::Seq => "a list",
        de::Unexpected::Unit => "empty",
        de::Unexpected::Bool(_) => "a truth value",
        de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) => "a whole number",
        de::Unexpected::Float(_) => "a number",
        _ => "a string",
    }
}

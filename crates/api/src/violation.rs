//! What is wrong with a resource.

use std::fmt;

use crate::decode::Problem;

/// A field of a resource that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Which field, such as `spec.ingress[0].source.nets[1]`; empty for the resource as a whole.
    pub field: String,
    /// Its value, if it is a scalar.
    pub value: Option<String>,
    /// What is wrong with it and what would be right: continues the sentence that the field and value begin.
    pub reason: String,
}

impl Violation {
    /// The same, seen from a level further up: `place` is what its field is a part of.
    pub(crate) fn within(self, place: &str) -> Self {
        let field = match self.field.as_str() {
            "" => place.to_owned(),
            field if field.starts_with('[') => format!("{place}{field}"),
            field => format!("{place}.{field}"),
        };
        Self { field, ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        match &self.value {
            // Reasons of scalars begin with the value.
            Some(value) if !self.reason.starts_with(&format!("{value:?}")) => {
                write!(f, ": {value:?} {}", self.reason)
            }
            _ if self.field.is_empty() => f.write_str(&self.reason),
            Some(_) => write!(f, ": {}", self.reason),
            None => write!(f, " {}", self.reason),
        }
    }
}

impl From<Problem> for Violation {
    fn from(problem: Problem) -> Self {
        Self { field: problem.field, value: problem.value, reason: problem.reason }
    }
}

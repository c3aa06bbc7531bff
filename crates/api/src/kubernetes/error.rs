//! What can be wrong with a Kubernetes object.

use std::fmt;

use crate::Violation;

/// A field that cannot be converted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field, as in `spec.ingress[0].from[1].ipBlock.cidr`.
    pub path: String,
    /// Its value, where that is what is wrong.
    pub value: Option<String>,
    /// What is wrong with it, and what would be right: continues the sentence that field and value begin.
    pub reason: String,
}

impl FieldError {
    /// Something is wrong with a field.
    pub(crate) fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), value: None, reason: reason.into() }
    }

    /// A field's value is wrong.
    pub(crate) fn bad_value(
        path: impl Into<String>,
        value: impl ToString,
        reason: impl Into<String>,
    ) -> Self {
        Self { value: Some(value.to_string()), ..Self::new(path, reason) }
    }

    /// The same error, seen from a level further up: `part` is the field (or `field[index]`) that holds the erroneous one.
    pub(crate) fn within(self, part: impl fmt::Display) -> Self {
        let path = if self.path.is_empty() { part.to_string() } else { format!("{part}.{}", self.path) };
        Self { path, ..self }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Violation::from(self.clone()).fmt(f)
    }
}

impl std::error::Error for FieldError {}

impl From<FieldError> for Violation {
    fn from(FieldError { path, value, reason }: FieldError) -> Self {
        Self { field: path, value, reason }
    }
}

/// The direction of a rule's traffic, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Coming in.
    Ingress,
    /// Going out.
    Egress,
}

impl Direction {
    /// The field of a policy's spec that holds its rules: `ingress` or `egress`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The field of a rule that holds its peers: `from` or `to`.
    pub(crate) fn peers_field(self) -> &'static str {
        match self {
            Self::Ingress => "from",
            Self::Egress => "to",
        }
    }
}

/// A rule that could not be converted. What stands in its place, if anything, lets through no more than the rule did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedRule {
    /// The list that it is in.
    pub direction: Direction,
    /// Its place in the list, from 0.
    pub index: usize,
    /// The field in question, seen from the object, and what is wrong.
    pub error: FieldError,
}

impl DroppedRule {
    pub(crate) fn new(direction: Direction, index: usize, error: FieldError) -> Self {
        let error = error.within(format_args!("spec.{}[{index}]", direction.field()));
        Self { direction, index, error }
    }
}

/// A policy, and the rules of the original that it lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted<P> {
    /// The policy.
    pub policy: P,
    /// The rules that could not be converted, to be reported.
    pub dropped_rules: Vec<DroppedRule>,
}

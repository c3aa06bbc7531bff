use std::fmt;

use crate::decode::Problem;

/// What is wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct DocumentError {
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// Line in the file, from 1; 0 if not known.
    pub line: u32,
    /// The object, such as `NetworkPolicy default/web`; empty if it does not say what it is.
    pub object: String,
    /// The field, such as `spec.ingress[0].action`; empty for the object or document as a whole.
    pub field: String,
    /// The value there, if it is a scalar.
    pub value: Option<String>,
    /// What is wrong, and what would be right: continues the sentence that field and value begin.
    pub reason: String,
}

impl DocumentError {
    pub(super) fn new(document: usize, object: &str, problem: Problem) -> Self {
        Self {
            document,
            line: problem.line,
            object: object.to_owned(),
            field: problem.field,
            value: problem.value,
            reason: problem.reason,
        }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}", self.document)?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        f.write_str(": ")?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        let violation = crate::Violation {
            field: self.field.clone(),
            value: self.value.clone(),
            reason: self.reason.clone(),
        };
        violation.fmt(f)
    }
}

/// Everything that is wrong with a file, in the order of its lines. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentErrors(pub Vec<DocumentError>);

impl fmt::Display for DocumentErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for DocumentErrors {}

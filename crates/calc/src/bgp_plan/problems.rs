//! What resources ask for and does not happen.

/// A field that cannot be followed, and what happens instead. Resources that the API refuses get here when something else
/// than our tools wrote them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{object}: {field}: {reason}; {remedy}")]
pub struct Problem {
    /// Kind and name: `BGPPeer tor-1`.
    pub object: String,
    /// The field: `spec.filters[0]`.
    pub field: String,
    /// What is wrong, and what happens instead.
    pub reason: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Problem {
    pub(super) fn new(
        object: impl Into<String>,
        field: impl Into<String>,
        reason: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        Self { object: object.into(), field: field.into(), reason: reason.into(), remedy }
    }
}

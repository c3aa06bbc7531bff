//! A rule: statements and a comment.

use std::sync::Arc;

use super::statement::{Log, Match, Reject, SetMark, Statement, Verdict};

/// One rule of a chain. `Display` writes it as `nft list` does.
///
/// Two rules are the same when their statements and comments are: the reconciler then leaves the kernel's one alone,
/// and its counter goes on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rule {
    /// The statements, run in order.
    pub statements: Vec<Statement>,
    /// The comment, at most 127 bytes; carries the identity of the policy rule that this one came from.
    pub comment: Option<Arc<str>>,
}

impl Rule {
    /// A rule without statements.
    pub fn new() -> Self {
        Self::default()
    }

    /// A rule that gives `verdict` to every packet.
    pub fn always(verdict: Verdict) -> Self {
        Self::new().verdict(verdict)
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(self, condition: Match) -> Self {
        self.then(Statement::Match(condition))
    }

    /// Adds a statement.
    #[must_use]
    pub fn then(mut self, statement: Statement) -> Self {
        self.statements.push(statement);
        self
    }

    /// Adds a counter.
    #[must_use]
    pub fn counter(self) -> Self {
        self.then(Statement::Counter)
    }

    /// Adds a change of the mark.
    #[must_use]
    pub fn set_mark(self, change: SetMark) -> Self {
        self.then(Statement::SetMark(change))
    }

    /// Adds a log statement.
    #[must_use]
    pub fn log(self, log: Log) -> Self {
        self.then(Statement::Log(log))
    }

    /// Adds a reject statement.
    #[must_use]
    pub fn reject(self, reject: Reject) -> Self {
        self.then(Statement::Reject(reject))
    }

    /// Ends with a verdict.
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.then(Statement::Verdict(verdict))
    }

    /// Sets the comment.
    #[must_use]
    pub fn comment(mut self, comment: impl Into<Arc<str>>) -> Self {
        self.comment = Some(comment.into());
        self
    }
}

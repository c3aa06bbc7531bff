use api::{Key, Violation};

use crate::StoreError;

/// Why a resource was not read or written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// The store's, also for what does not exist, exists already, or was changed by someone else.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The resource breaks rules of its kind, or does not go together with what the datastore holds. Not retryable.
    #[error("{key}: {}", list(violations))]
    Invalid {
        /// Which resource.
        key: Key,
        /// By field.
        violations: Vec<Violation>,
    },
    /// Every cluster has it, as it is. Not retryable.
    #[error("{key} is built in: it cannot be {action}")]
    BuiltIn {
        /// Which resource.
        key: Key,
        /// What was asked for, such as `deleted`.
        action: &'static str,
    },
    /// A tier that has policies. Retryable when they are gone.
    #[error("{tier} still has policies: {}; delete them or move them to another tier first", names(policies))]
    TierInUse {
        /// Which tier.
        tier: Key,
        /// Its policies.
        policies: Vec<Key>,
    },
    /// A kind that only IPAM writes. Not retryable.
    #[error(
        "{key} belongs to IPAM and cannot be written by hand; `calicoctl ipam` has commands for addresses and blocks"
    )]
    ReadOnly {
        /// Which resource.
        key: Key,
    },
}

impl ResourceError {
    /// Whether the resource does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotFound(_)))
    }

    /// Whether there is one of that name already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Store(StoreError::AlreadyExists(_)))
    }

    /// Whether someone else changed the resource meanwhile.
    pub(super) fn is_race(&self) -> bool {
        matches!(
            self,
            Self::Store(StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_))
        )
    }
}

fn list(violations: &[Violation]) -> String {
    let texts: Vec<_> = violations.iter().map(ToString::to_string).collect();
    // A selector is shown with a caret under the mistake, on lines of their own.
    let has_lines = texts.iter().any(|text| text.contains('\n'));
    texts.join(if has_lines { "\n" } else { "; " })
}

fn names(keys: &[Key]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

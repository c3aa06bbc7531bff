//! The `Store` trait: what every datastore engine offers, and nothing more.
//!
//! The semantics are etcd's: every write gets a new revision of the whole store, a row remembers the revision of its
//! last write, writes and deletes can be made conditional on it, and a watch replays everything after a revision, in
//! order, without gaps, or says that those revisions have been compacted away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::{Key, Row};

/// A revision. Opaque to callers but for equality (it has no order: what it counts is the engine's affair);
/// `Display` and `From<&str>` round-trip it through `metadata.resourceVersion`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision(pub String);

impl From<&str> for Revision {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Revision {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its identity.
    pub key: Key,
    /// JSON text, in the form that Calico keeps under this key in etcd.
    pub value: String,
    /// Revision of its last write.
    pub revision: Revision,
}

impl Entry {
    /// The row that the text says, with its revision in `metadata.resource_version` where it has metadata.
    ///
    /// # Errors
    /// [`StoreError::Malformed`].
    pub fn row(&self) -> Result<Row, StoreError> {
        let mut row = Row::decode(&self.key, &self.value).map_err(|error| StoreError::Malformed {
            key: self.key.clone(),
            kind: word_for(&self.key),
            reason: error.violation.to_string(),
        })?;
        if let Row::Resource(resource) = &mut row {
            resource.metadata_mut().resource_version = Some(self.revision.to_string());
        }
        Ok(row)
    }
}

fn word_for(key: &Key) -> &'static str {
    match key {
        Key::Resource { kind, .. } => kind.name(),
        Key::Block(_) => "IPAMBlock",
        Key::BlockAffinity { .. } => "BlockAffinity",
        Key::Handle(_) => "IPAMHandle",
        Key::IpamConfig => "IPAMConfig",
        Key::Confirmation(_) => "Confirmation",
    }
}

/// The answer to a list: rows in key order, and the revision at which they were all true at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The rows.
    pub entries: Vec<Entry>,
    /// Watch from here to see what happened since.
    pub revision: Revision,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The row was created or changed, and is now this.
    Put(Entry),
    /// The row was deleted.
    Delete {
        /// Its identity.
        key: Key,
        /// The revision of the delete.
        revision: Revision,
    },
}

impl Event {
    /// Which row it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The revision that made it.
    pub fn revision(&self) -> &Revision {
        match self {
            Self::Put(entry) => &entry.revision,
            Self::Delete { revision, .. } => revision,
        }
    }
}

/// A datastore.
///
/// Every operation can also fail with [`StoreError::Unavailable`]. A write that failed so has changed nothing when
/// the embedded engines say it; over a network the answer may have been lost after the write was done, so a caller
/// that must know reads the row again.
pub trait Store: Send + Sync {
    /// Reads one row.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    fn get(&self, key: &Key) -> Result<Entry, StoreError>;

    /// Reads all rows of several scopes, as of one revision: a watch of the same scopes from that revision continues
    /// exactly where the listing ends. A row that two scopes share is listed once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn list_scopes(&self, scopes: &[Scope]) -> Result<Listing, StoreError>;

    /// Reads all rows of a scope, as of one revision.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn list(&self, scope: &Scope) -> Result<Listing, StoreError> {
        self.list_scopes(std::slice::from_ref(scope))
    }

    /// Creates a row.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`].
    fn create(&self, key: &Key, value: &str) -> Result<Entry, StoreError>;

    /// Replaces a row; with `expected`, only if that is still its revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`].
    fn update(&self, key: &Key, value: &str, expected: Option<&Revision>) -> Result<Entry, StoreError>;

    /// Deletes a row; with `expected`, only if that is still its revision. Returns what it was.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`].
    fn delete(&self, key: &Key, expected: Option<&Revision>) -> Result<Entry, StoreError>;

    /// Everything that happens to rows of these scopes after `from`, in order. `from` is the revision of a listing
    /// or of an entry of this store.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when history that old is gone, or `from` is no revision of this store's history (it
    /// comes from another store, or the file was replaced by an older copy): list again, and watch from there.
    fn watch(&self, scopes: &[Scope], from: &Revision) -> Result<Box<dyn Watch>, StoreError>;
}

/// A running watch; dropping it ends it.
pub trait Watch: Send {
    /// Waits up to `timeout` for events and returns those that are there (many at once if many are, but a bounded
    /// number), in revision order; empty on time-out.
    ///
    /// # Errors
    /// [`StoreError::Compacted`], [`StoreError::Unavailable`]: the watch is over, list again.
    fn next(&mut self, timeout: Duration) -> Result<Vec<Event>, StoreError>;
}

/// A part of the key space, for lists and watches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All resources of a kind, in one namespace or everywhere.
    Resources {
        /// The kind.
        kind: api::Kind,
        /// Only this namespace.
        namespace: Option<String>,
    },
    /// All IPAM blocks of both families.
    Blocks,
    /// Block affinities: of one host (`host` or `virtual` type both), or all.
    BlockAffinities {
        /// Only this node's.
        host: Option<String>,
    },
    /// All IPAM handles.
    Handles,
    /// The one IPAM configuration row.
    IpamConfig,
    /// All changes that are to be confirmed.
    Confirmations,
}

impl Scope {
    /// Whether the row belongs to the scope.
    pub fn contains(&self, key: &Key) -> bool {
        match (self, key) {
            (Self::Resources { kind, namespace }, Key::Resource { kind: k, namespace: n, .. }) => {
                kind == k && (namespace.is_none() || namespace == n)
            }
            (Self::BlockAffinities { host }, Key::BlockAffinity { owner, .. }) => {
                host.as_deref().is_none_or(|host| host == owner.name())
            }
            (Self::Blocks, Key::Block(_))
            | (Self::Handles, Key::Handle(_))
            | (Self::Confirmations, Key::Confirmation(_))
            | (Self::IpamConfig, Key::IpamConfig) => true,
            _ => false,
        }
    }

    /// All resources of a kind.
    pub fn all(kind: api::Kind) -> Self {
        Self::Resources { kind, namespace: None }
    }
}

/// Delegates through a pointer, so that `Arc<dyn Store>`, `Box<dyn Store>` and `&S` are stores too.
macro_rules! store_by_pointer {
    ($($pointer:ty),*) => {$(
        impl<S: Store + ?Sized> Store for $pointer {
            fn get(&self, key: &Key) -> Result<Entry, StoreError> {
                (**self).get(key)
            }
            fn list_scopes(&self, scopes: &[Scope]) -> Result<Listing, StoreError> {
                (**self).list_scopes(scopes)
            }
            fn create(&self, key: &Key, value: &str) -> Result<Entry, StoreError> {
                (**self).create(key, value)
            }
            fn update(&self, key: &Key, value: &str, expected: Option<&Revision>) -> Result<Entry, StoreError> {
                (**self).update(key, value, expected)
            }
            fn delete(&self, key: &Key, expected: Option<&Revision>) -> Result<Entry, StoreError> {
                (**self).delete(key, expected)
            }
            fn watch(&self, scopes: &[Scope], from: &Revision) -> Result<Box<dyn Watch>, StoreError> {
                (**self).watch(scopes, from)
            }
        }
    )*};
}

store_by_pointer!(&S, Box<S>, Arc<S>);

/// Why a datastore operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such row. Not retryable.
    #[error("{0} does not exist")]
    NotFound(Key),
    /// The row is there already. Not retryable.
    #[error("{0} already exists")]
    AlreadyExists(Key),
    /// The row changed since it was read. Read again, and retry.
    #[error("{key} was changed by someone else since it was read (revision {expected} is not its latest)")]
    Conflict {
        /// Which row.
        key: Key,
        /// The revision that the caller had.
        expected: Revision,
    },
    /// The history that a watch asks for is gone. List again.
    #[error("revision {requested} has been compacted; the oldest that can be watched from is {oldest}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// What can be had.
        oldest: Revision,
    },
    /// A row that does not hold what its key promises.
    #[error("{key} in the datastore does not hold a valid {kind}: {reason}")]
    Malformed {
        /// Which row.
        key: Key,
        /// What it should be.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The datastore itself cannot be used: not there, not a datastore, read-only, disk full, connection lost.
    /// Retryable when `temporary`. Nothing was changed.
    #[error("datastore {location}: {reason}")]
    Unavailable {
        /// File or endpoints.
        location: String,
        /// What is wrong and what to do about it.
        reason: String,
        /// Whether a later try may succeed by itself.
        temporary: bool,
    },
}

#[cfg(test)]
mod tests {
    use api::Kind;

    use super::*;

    #[test]
    fn an_entry_is_read_with_its_revision_or_refused_by_name() {
        let entry = |value: &str| Entry {
            key: Key::cluster(Kind::IPPool, "v4"),
            value: value.to_owned(),
            revision: Revision::from("7"),
        };
        let pool = r#"{"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {}, "spec": {"cidr": "10.0.0.0/16"}}"#;
        let row = entry(pool).row().expect("a pool");
        let Row::Resource(resource) = row else { panic!("{row:?}") };
        assert_eq!(resource.metadata().resource_version.as_deref(), Some("7"));
        assert_eq!(resource.metadata().name, "v4");

        let error = entry("[]").row().expect_err("no pool");
        assert!(matches!(error, StoreError::Malformed { kind: "IPPool", .. }), "{error:?}");
        assert!(error.to_string().starts_with("IPPool v4 in the datastore"), "{error}");
    }
}

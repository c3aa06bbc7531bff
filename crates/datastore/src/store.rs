//! The `Store` trait: what every datastore engine offers, and nothing more.
//!
//! The semantics are etcd's: every write gets a new revision of the whole store, a row remembers the revision of its
//! last write, writes and deletes can be made conditional on it, and a watch replays everything after a revision, in
//! order, without gaps, or says that those revisions have been compacted away.

use std::fmt;
use std::time::Duration;

use api::Key;

/// A revision. Opaque to callers but for equality; `Display` and `From<&str>` round-trip it through
/// `metadata.resourceVersion`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub String);

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

/// A datastore.
pub trait Store: Send + Sync {
    /// Reads one row.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    fn get(&self, key: &Key) -> Result<Entry, StoreError>;

    /// Reads all rows of a scope, as of one revision.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    fn list(&self, scope: &Scope) -> Result<Listing, StoreError>;

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

    /// Everything that happens to rows of these scopes after `from`, in order.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when history that old is gone: list again, and watch from there.
    fn watch(&self, scopes: &[Scope], from: &Revision) -> Result<Box<dyn Watch>, StoreError>;
}

/// A running watch; dropping it ends it.
pub trait Watch: Send {
    /// Waits up to `timeout` for events and returns all that are there, in revision order; empty on time-out.
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
}

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
    #[error("{key} holds something that is not a {kind}: {reason}")]
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

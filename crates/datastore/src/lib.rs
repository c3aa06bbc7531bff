//! The datastore: the [`Store`] trait, Calico's key layout, the embedded SQLite engine and the syncer.

mod store;

pub use store::{Entry, Event, Listing, Revision, Scope, Store, StoreError, Watch};

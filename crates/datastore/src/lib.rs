//! The datastore: the [`Store`] trait, Calico's key layout, the embedded SQLite engine and the syncer.

mod fault;
pub mod layout;
mod memory;
mod sqlite;
mod store;
pub mod suite;

pub use fault::{Call, FaultStore, Moment, Operation, Outcome};
pub use memory::Memory;
pub use sqlite::{Retention, Sqlite};
pub use store::{Entry, Event, Listing, Revision, Scope, Store, StoreError, Watch};

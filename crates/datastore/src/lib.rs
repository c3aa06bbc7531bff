//! The datastore: the [`Store`] trait, Calico's key layout, the embedded SQLite engine and the syncer.

mod fault;
mod memory;
mod store;

pub use fault::{Call, FaultStore, Moment, Operation, Outcome};
pub use memory::Memory;
pub use store::{Entry, Event, Listing, Revision, Scope, Store, StoreError, Watch};

//! The datastore: the [`Store`] trait, Calico's key layout, the embedded SQLite engine and the syncer.

pub mod config;
mod fault;
pub mod layout;
mod memory;
mod sqlite;
mod store;
pub mod suite;
mod syncer;

pub use fault::{Call, FaultStore, Moment, Operation, Outcome};
pub use memory::Memory;
pub use sqlite::{Retention, Sqlite};
pub use store::{Entry, Event, Listing, Revision, Scope, Store, StoreError, Watch};
pub use syncer::{Decode, SyncEvent, SyncHealth, SyncMonitor, Syncer, Update};

//! The datastore: rows of text under Calico's keys, with revisions, compare-and-swap and watches.
//!
//! - [`Store`] is what every engine offers; its semantics are etcd's.
//! - [`Sqlite`] is the embedded engine: one file, shared by the processes of one machine. [`Memory`] keeps everything in
//!   this process. [`suite`] is what both have to pass, and every engine to come.
//! - [`layout`] maps row identities to Calico's etcd v3 keys and back.
//! - [`Syncer`] turns list and watch into typed updates and exactly one in-sync.
//! - [`resources`] reads and writes v3 resources on behalf of users, by the rules that need the rest of the datastore.
//! - [`confirmation`] keeps what a change replaces, and puts it back unless somebody confirms the change.
//! - [`config`] chooses the datastore from the environment or from `calicoctl.cfg`.
//! - [`FaultStore`] lets a test hold up, observe and fail the operations of another store.
//!
//! Everything here blocks; run it on a thread of its own. The store is the only coordination between nodes.

pub mod config;
pub mod confirmation;
mod fault;
pub mod layout;
mod memory;
pub mod objects;
pub mod resources;
mod sqlite;
mod store;
pub mod suite;
mod syncer;

pub use config::{ConfigError, DatastoreConfig};
pub use fault::{Call, FaultStore, Moment, Operation, Outcome};
pub use memory::Memory;
pub use sqlite::{Retention, Sqlite};
pub use store::{Entry, Event, Listing, Revision, Scope, Store, StoreError, Watch};
pub use syncer::{Decode, SyncEvent, SyncHealth, SyncMonitor, Syncer, Update};

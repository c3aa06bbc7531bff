//! The kernel's nf_tables over netlink.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connection::Connection;
use super::error::NftError;
use super::family::TableId;
use super::transport::{Committed, Operation, RuleCount, TableState, Transport};

/// nf_tables of the network namespace in which it was opened, whichever thread uses it later.
///
/// Clones share one connection: give one to each table of the namespace, so that what is committed for one is known not
/// to be a stranger's doing for the others, and a large transaction has no listeners but strangers. (An event for each
/// rule of it would be made for every connection that listens.)
#[derive(Debug, Clone)]
pub struct NftSocket {
    connection: Arc<Mutex<Connection>>,
}

impl NftSocket {
    /// Opens a connection in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the system refuses; CAP_NET_ADMIN is needed.
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { connection: Arc::new(Mutex::new(Connection::open()?)) })
    }

    /// A descriptor that becomes readable when anyone commits a transaction: then
    /// [`NftTable::changed`](super::NftTable::changed) tells whether it matters, and makes it unreadable again. Only to be
    /// polled, never to be read.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn events(&self) -> io::Result<OwnedFd> {
        self.connection().events().try_clone_to_owned()
    }

    /// A panic in the middle of an exchange leaves at most unread answers, which the next one skips by their number.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for NftSocket {
    fn generation(&mut self) -> Result<u32, NftError> {
        self.connection().generation()
    }

    fn touched(&mut self, table: &TableId, since: u32, until: u32) -> Result<bool, NftError> {
        self.connection().touched(table, since, until)
    }

    fn read(&mut self, table: &TableId) -> Result<(u32, Option<TableState>), NftError> {
        self.connection().read(table)
    }

    fn counters(&mut self, table: &TableId) -> Result<Vec<RuleCount>, NftError> {
        self.connection().counters(table)
    }

    fn commit(
        &mut self,
        table: &TableId,
        generation: u32,
        operations: &[Operation],
    ) -> Result<Committed, NftError> {
        self.connection().commit(table, generation, operations)
    }
}

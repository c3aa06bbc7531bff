//! Connections that the kernel tracks, and forgetting those of an address (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! # Why
//! A tracked connection is let through without asking policy again. When an address goes from one workload to another,
//! what is left of the first one's connections would open the second one to the first one's peers. So before an address
//! is used again, every entry that has it as source or destination is deleted, in the direction of the first packet or
//! in that of the answers (the two differ where addresses are translated).
//!
//! # How
//! The kernel has no request "delete all entries of these addresses": the table is listed once, compared with all
//! addresses at once, and what matches is deleted by what names it (tuple, zone, number) in batches. The number makes sure
//! that an entry which took the place of the listed one meanwhile is not deleted in its stead.
//!
//! A listing walks every bucket of the table in the kernel, and then formats and copies the entries: on the machine of
//! `examples/conntrack_figures.rs` 8.7 ms for the default 262,144 buckets and 1.4 µs an entry. So addresses are best
//! gathered and handed in together. The kernel can filter (`CTA_FILTER`, Linux 5.8), but a filter has one address at one of
//! four ends, which makes four walks an address: that is done where it is cheaper than copying a large table. An older
//! kernel ignores the filter, which is only slower.
//!
//! # What it does not do
//! It does not keep entries from being made again: whoever calls takes away routes and rules first.

mod socket;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use crate::netlink::{Error, Refusal};
use crate::nflog::Headers;

pub use socket::Conntrack;

/// Source and destination of one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    /// Who sends in that direction.
    pub source: IpAddr,
    /// Who receives.
    pub destination: IpAddr,
}

impl Ends {
    fn each(self) -> [IpAddr; 2] {
        [self.source, self.destination]
    }
}

/// An entry of the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// As its first packet had them when it came (`CTA_TUPLE_ORIG`).
    pub original: Ends,
    /// As its answers have them (`CTA_TUPLE_REPLY`): the other way round, unless addresses are translated.
    pub reply: Ends,
    /// The kernel's number for it, not used again soon (`CTA_ID`).
    pub id: u32,
    /// Its first packet as rules saw it, between the translation of its destination and that of its source: who asked, and who
    /// answers (`CTA_TUPLE_PROTO` of both tuples).
    pub headers: Headers,
    /// The attributes that name it in a request.
    key: Box<[u8]>,
}

impl Connection {
    /// A connection without translation, for [`crate::fake::FakeKernel::add_connection`].
    pub fn direct(id: u32, source: IpAddr, destination: IpAddr) -> Self {
        let original = Ends { source, destination };
        Self::translated(id, original, Ends { source: destination, destination: source })
    }

    /// A connection whose answers go another way, for [`crate::fake::FakeKernel::add_connection`].
    pub fn translated(id: u32, original: Ends, reply: Ends) -> Self {
        let headers = Headers::bare(original.source, reply.source, 0);
        Self { original, reply, id, headers, key: Box::default() }
    }

    /// Its addresses: source and destination of both directions.
    pub fn addresses(&self) -> [IpAddr; 4] {
        let ([a, b], [c, d]) = (self.original.each(), self.reply.each());
        [a, b, c, d]
    }

    /// Whether it has one of these addresses.
    pub fn concerns(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        self.addresses().iter().any(|address| addresses.contains(address))
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "connection {} -> {}", self.original.source, self.original.destination)
    }
}

/// What [`delete_connections`] needs of the kernel: [`Conntrack`], or the strict fake [`crate::fake::FakeKernel`].
pub trait ConntrackKernel {
    /// The entries that have one of these addresses, in no order. One may be listed twice.
    ///
    /// # Errors
    /// Retryable; nothing was changed.
    fn connections_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, Error>;

    /// Every address that some entry has.
    ///
    /// # Errors
    /// Retryable.
    fn connected_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error>;

    /// Deletes these, in order, and gives the outcome of each; a refused one does not stop the others.
    ///
    /// # Errors
    /// When it is not known what was done. Retryable.
    fn delete_connections(&mut self, connections: &[Connection]) -> Result<Vec<Result<(), Refusal>>, Error>;
}

/// What [`delete_connections`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// How many entries were deleted.
    pub count: usize,
    /// Addresses of which an entry could not be deleted, and the kernel's reason. The others have none left.
    pub refused: BTreeMap<IpAddr, Refusal>,
}

/// Deletes all entries that have one of these addresses as source or destination, in either direction. Without addresses
/// it makes no system call. An entry that is gone already is as good as deleted.
///
/// # Errors
/// When the table cannot be read, or it is not known what was deleted. Retryable.
pub fn delete_connections(
    kernel: &mut impl ConntrackKernel,
    addresses: &BTreeSet<IpAddr>,
) -> Result<Deleted, Error> {
    let mut deleted = Deleted::default();
    if addresses.is_empty() {
        return Ok(deleted);
    }
    let found: BTreeSet<Connection> = kernel.connections_of(addresses)?.into_iter().collect();
    let found: Vec<Connection> =
        found.into_iter().filter(|connection| connection.concerns(addresses)).collect();
    if found.is_empty() {
        return Ok(deleted);
    }
    let outcomes = kernel.delete_connections(&found)?;
    for (connection, outcome) in found.iter().zip(outcomes) {
        match outcome {
            Ok(()) => deleted.count += 1,
            Err(refusal) if refusal.is_absent() => {}
            Err(refusal) => {
                let concerned = connection.addresses().into_iter().filter(|end| addresses.contains(end));
                deleted.refused.extend(concerned.map(|end| (end, refusal.clone())));
            }
        }
    }
    Ok(deleted)
}

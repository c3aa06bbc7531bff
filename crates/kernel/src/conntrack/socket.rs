use std::collections::BTreeSet;
use std::net::IpAddr;

use super::wire::{self, ENDS};
use super::{Connection, ConntrackKernel};
use crate::netlink::{Errno, Error, Message, Protocol, Refusal, Socket};
use crate::netns::{self, Netns};

/// How many entries can be copied while the kernel walks its table once (see the documentation of the module).
const ENTRIES_PER_WALK: usize = 6_000;

const TABLE: &str = "tracked connections";

/// A kept socket for the connections that one network namespace tracks.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    /// The kernel has said that it cannot list connections, and that was logged.
    absent: bool,
}

impl Conntrack {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)?, absent: false })
    }

    /// Opens a socket in that network namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the socket cannot be opened.
    pub fn open_in(namespace: &Netns) -> Result<Self, netns::Error> {
        Ok(Self { socket: Socket::open_in(namespace, Protocol::Netfilter)?, absent: false })
    }

    /// All entries of both families, in no order.
    ///
    /// # Errors
    /// As [`Socket::dump`].
    pub fn connections(&mut self) -> Result<Vec<Connection>, Error> {
        self.socket.dump(&wire::list(None), TABLE, |reply| wire::read(reply.payload))
    }

    /// So many entries of both families at most, in no order, and how many others there are; those are not kept.
    ///
    /// # Errors
    /// As [`Socket::dump`].
    pub fn first_connections(&mut self, most: usize) -> Result<(Vec<Connection>, usize), Error> {
        let mut seen = 0_usize;
        let kept = self.socket.dump(&wire::list(None), TABLE, |reply| {
            let connection = wire::read(reply.payload)?;
            seen += 1;
            // A listing that was interrupted is begun again: then more are left out than had to be, and counted so.
            (seen <= most).then_some(connection)
        })?;
        Ok((kept, seen.saturating_sub(most)))
    }

    /// How many entries there are in the namespace. None can be listed where the kernel cannot list any.
    fn count(&mut self) -> Result<usize, Error> {
        match self.socket.get(&wire::count(), TABLE, |reply| wire::read_count(reply.payload)) {
            Ok(count) => Ok(count.map_or(usize::MAX, |count| count as usize)),
            Err(error) if is_unsupported(&error) => {
                if !std::mem::replace(&mut self.absent, true) {
                    tracing::warn!(
                        "the kernel cannot list connections (nf_conntrack_netlink is missing): those of a \
                         workload that is gone are not deleted, and its address's next owner may inherit them"
                    );
                }
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    fn list(&mut self, request: &Message, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, Error> {
        let wanted = |connection: &Connection| connection.concerns(addresses);
        self.socket.dump(request, TABLE, |reply| wire::read(reply.payload).filter(wanted))
    }

    fn list_filtered(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, Error> {
        let mut found = Vec::new();
        for address in addresses {
            for end in ENDS {
                found.extend(self.list(&wire::list_with(*address, end), addresses)?);
            }
        }
        Ok(found)
    }
}

impl ConntrackKernel for Conntrack {
    /// A kernel without `nf_conntrack_netlink` is asked again each time, since a module can be loaded later, and gives
    /// nothing.
    fn connections_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<Connection>, Error> {
        let entries = self.count()?;
        // Walking an empty table costs as much as walking a full one.
        if entries == 0 || addresses.is_empty() {
            return Ok(Vec::new());
        }
        let more_walks = ENDS.len().saturating_mul(addresses.len()) - 1;
        if entries > more_walks.saturating_mul(ENTRIES_PER_WALK) {
            return self.list_filtered(addresses);
        }
        let one_family = addresses.first().zip(addresses.last());
        let one_family = one_family.filter(|(first, last)| first.is_ipv4() == last.is_ipv4());
        self.list(&wire::list(one_family.map(|(first, _)| *first)), addresses)
    }

    fn connected_addresses(&mut self) -> Result<BTreeSet<IpAddr>, Error> {
        if self.count()? == 0 {
            return Ok(BTreeSet::new());
        }
        let mut addresses = BTreeSet::new();
        self.socket.dump(&wire::list(None), TABLE, |reply| -> Option<()> {
            addresses.extend(wire::read(reply.payload)?.addresses());
            None
        })?;
        Ok(addresses)
    }

    fn delete_connections(&mut self, connections: &[Connection]) -> Result<Vec<Result<(), Refusal>>, Error> {
        let requests: Vec<Message> = connections.iter().map(wire::delete).collect();
        self.socket.batch(&requests, TABLE)
    }
}

/// The kernel knows no such request (nfnetlink: no such subsystem).
fn is_unsupported(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::PROTONOSUPPORT))
}

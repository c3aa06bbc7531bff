//! Answers to `calicoctl explain`: is what policy says of a packet what the kernel holds?
//!
//! What the kernel should hold is not worked out a second way: the node's own calculation and its own dataplane run once more
//! over the datastore's rows, with a kernel in memory ([`expected`]). The table that they make there is compared with the one
//! that the kernel has ([`compare`]): the base chains, the chains that the packet can come by, the sets that those look into.
//! So a difference is shown whatever made it: a row that has not arrived yet, a refused rule, a hand that edited.
//!
//! All of it happens on the thread that asks; the agent is not held up.

mod compare;
mod expected;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::Row;
use api::wire::packet::{PacketFacts, PacketQuestion};
use calc::cluster::Cluster;
use calc::evaluator::Packet;
use dataplane::{DataplaneConfig, OpenError};
use datastore::{Store, StoreError};
use kernel::conntrack::{Connection, Conntrack, ConntrackKernel};
use kernel::monitor::Event;
use kernel::nflog::Headers;
use kernel::nft::{Family, NftError, NftSocket, TableId, Transport};
use kernel::route::KernelRoute;
use kernel::{Rtnetlink, ownership};

use compare::Comparison;
use expected::Expected;

/// The other backend's rules are not read back here.
const NOT_NFTABLES: &str =
    "this node's rules are not in nf_tables; `iptables-save -c` and `ipset list` show them";

/// So many connections are listed.
const CONNECTIONS: usize = 16;

/// Who answers.
pub(crate) struct Packets {
    config: DataplaneConfig,
    store: Arc<dyn Store>,
}

/// Why there is no answer; a line for the user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketError {
    /// The rows cannot be read.
    #[error("the datastore cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The rules cannot be read.
    #[error("the kernel's rules cannot be read: {0}")]
    Nft(#[from] NftError),
    /// Routes, links or connections cannot be read.
    #[error("the kernel cannot be asked: {0}")]
    Netlink(#[from] kernel::netlink::Error),
    /// No socket.
    #[error("the kernel cannot be asked: {0}")]
    Open(#[from] OpenError),
    /// The ends are of different families.
    #[error("source {0} and destination {1} are not of one family")]
    Families(IpAddr, IpAddr),
}

impl Packets {
    /// For a node whose dataplane is configured like this.
    pub(crate) fn new(config: DataplaneConfig, store: Arc<dyn Store>) -> Self {
        Self { config, store }
    }

    /// What the kernel holds for a packet.
    pub(crate) fn answer(&self, question: &PacketQuestion) -> Result<PacketFacts, PacketError> {
        let (source, destination) = (question.source, question.destination);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(PacketError::Families(source, destination));
        }
        let mut rtnetlink = Rtnetlink::open()?;
        let links = rtnetlink.links()?.into_iter().map(Event::Link);
        let addresses = rtnetlink.addresses()?.into_iter().map(Event::Address);
        let expected = Expected::of(&cluster(&*self.store)?, &self.config, links.chain(addresses));
        let family = if source.is_ipv4() { Family::Ip } else { Family::Ip6 };
        let table = TableId::new(family, ownership::NFT_TABLE);
        let mut nft = NftSocket::open()?;
        let (_, actual) = nft.read(&table)?;
        let counters = if actual.is_some() { nft.counters(&table)? } else { Vec::new() };
        let wanted = expected.table(&table);
        let mut comparison = Comparison::new(&wanted, actual.as_ref(), &counters, &expected.meanings);
        // With nf_tables there are always base chains.
        let is_elsewhere = wanted.chains.is_empty();
        let mut stages = Vec::new();
        if !is_elsewhere {
            comparison.base_chains();
            stages.extend(question.stages.iter().map(|stage| comparison.stage(stage, question)));
        }
        let connections = connections(source, destination)?;
        Ok(PacketFacts {
            node: self.config.node_name.clone(),
            backend: format!("nftables, {table}"),
            stages,
            difference: comparison.difference.filter(|_| !is_elsewhere),
            not_compared: is_elsewhere.then(|| NOT_NFTABLES.to_owned()),
            route: route(&mut rtnetlink, destination)?,
            more_connections: connections.len().saturating_sub(CONNECTIONS),
            connections: connections.iter().take(CONNECTIONS).map(connection_text).collect(),
        })
    }
}

/// The rows as the agent reads them: what it skips is not in the kernel either.
fn cluster(store: &dyn Store) -> Result<Cluster, StoreError> {
    let scopes = crate::agent::scopes();
    let mut cluster = Cluster::default();
    for entry in store.list_scopes(&scopes)?.entries {
        if let Ok((row, _)) = Row::decode_closed(&entry.key, &entry.value) {
            cluster.set(entry.key, Some(Arc::new(row)));
        }
    }
    Ok(cluster)
}

/// As `ip route` writes it, with the devices' names.
fn route(rtnetlink: &mut Rtnetlink, destination: IpAddr) -> Result<String, PacketError> {
    let Some(route) = rtnetlink.lookup(destination)? else {
        return Ok("none: the kernel has no route".to_owned());
    };
    let links = rtnetlink.links()?;
    let name = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("device {index}"), |link| link.name.as_str().to_owned())
    };
    let KernelRoute { hops, .. } = &route;
    let text = hops.iter().filter_map(|hop| hop.device).fold(route.to_string(), |text, index| {
        text.replace(&format!(" dev {index} "), &format!(" dev {} ", name(index)))
    });
    Ok(text)
}

/// Those between the two, whoever began.
fn connections(source: IpAddr, destination: IpAddr) -> Result<Vec<Connection>, PacketError> {
    let ends = BTreeSet::from([source, destination]);
    let mut found = Conntrack::open()?.connections_of(&ends)?;
    let between = |connection: &Connection| {
        let addresses = connection.addresses();
        ends.iter().all(|end| addresses.contains(end))
    };
    found.retain(between);
    found.sort();
    found.dedup();
    Ok(found)
}

/// `TCP 10.0.0.1:40000 -> 10.0.0.2:80`, as the rules saw it.
fn connection_text(connection: &Connection) -> String {
    let Headers { source, destination, protocol, source_port, destination_port, icmp } = connection.headers;
    calc::explain::words::packet(&Packet {
        source_port,
        icmp,
        ..Packet::new(source, destination, protocol, destination_port)
    })
}

//! Where every destination is: the route resolver.
//!
//! Facts of several kinds are filed under the CIDR that they are about ([`Entry`]): pools, blocks and the addresses
//! borrowed from them, addresses of nodes, of workloads and of tunnels. The route of a CIDR is what the facts of all CIDRs
//! that hold it say, from the shortest to its own, where a later one overrides what an earlier one said (the types add
//! up). A CIDR has a route when something is filed under it exactly.
//!
//! A fact that changes can therefore change the routes of everything inside its CIDR, and a node that changes those of
//! everything that leads to it; both are noted at once and worked out at the next flush.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use crate::contract::{Pool, Route, TunnelKind};
use crate::ip_sets::Nets;
use crate::published::{Differences, Published};
use entry::Entry;

/// What the resolver knows of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NodeFact {
    /// `bgp.ipv4Address` and `bgp.ipv6Address`, host bits and prefix length included.
    pub(crate) bgp: Vec<IpNet>,
    /// All its addresses, those in `bgp` included.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Addresses of its tunnel devices.
    pub(crate) tunnels: BTreeSet<(TunnelKind, IpAddr)>,
}

impl NodeFact {
    /// Its BGP address of a family, with the prefix length of its subnet.
    fn interface(&self, v6: bool) -> Option<&IpNet> {
        self.bgp.iter().find(|net| net.addr().is_ipv6() == v6)
    }
}

/// What the resolver knows of a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BlockFact {
    /// The node that owns it.
    pub(crate) owner: Option<Arc<str>>,
    /// Addresses that a node has and that is not the owner.
    pub(crate) borrowed: BTreeMap<IpAddr, Arc<str>>,
}

/// A workload's node and addresses.
pub(crate) type Location = (Arc<str>, Nets);

/// The resolver.
#[derive(Debug)]
pub(crate) struct Routes {
    node_name: Arc<str>,
    entries: JointPrefixMap<IpNet, Entry>,
    nodes: BTreeMap<Arc<str>, NodeFact>,
    blocks: BTreeMap<IpNet, BlockFact>,
    workloads: BTreeMap<Box<str>, Location>,
    /// The CIDRs that have facts naming a node.
    by_node: BTreeMap<Arc<str>, BTreeMap<IpNet, u32>>,
    use_blocks: bool,
    dirty: BTreeSet<IpNet>,
    published: Published<IpNet, Arc<Route>>,
}

impl Routes {
    /// A resolver for this node; blocks count (`RouteSource` `CalicoIPAM`).
    pub(crate) fn new(node_name: Arc<str>) -> Self {
        Self {
            node_name,
            entries: JointPrefixMap::default(),
            nodes: BTreeMap::new(),
            blocks: BTreeMap::new(),
            workloads: BTreeMap::new(),
            by_node: BTreeMap::new(),
            use_blocks: true,
            dirty: BTreeSet::new(),
            published: Published::default(),
        }
    }

    /// Whether blocks make routes.
    pub(crate) fn set_use_blocks(&mut self, use_blocks: bool) {
        if self.use_blocks == use_blocks {
            return;
        }
        for (cidr, block) in self.blocks.clone() {
            self.file_block(cidr, &block, use_blocks);
        }
        self.use_blocks = use_blocks;
    }

    pub(crate) fn set_node(&mut self, name: &Arc<str>, node: Option<NodeFact>) {
        let old = self.nodes.get(name);
        if old == node.as_ref() {
            return;
        }
        let is_ours = *name == self.node_name;
        let old = match node.clone() {
            Some(node) => self.nodes.insert(name.clone(), node),
            None => self.nodes.remove(name),
        };
        self.file_node(name, &old.unwrap_or_default(), false);
        self.file_node(name, &node.unwrap_or_default(), true);
        match is_ours {
            // Our subnet decides for everyone whether a node is in it.
            true => self.dirty.extend(self.entries.iter().map(|(cidr, _)| cidr)),
            false => self.dirty.extend(self.by_node.get(name).into_iter().flat_map(BTreeMap::keys)),
        }
    }

    /// The pool with this CIDR.
    pub(crate) fn set_pool(&mut self, cidr: IpNet, pool: Option<Pool>) {
        self.edit(cidr, |entry| entry.pool = pool);
    }

    pub(crate) fn set_block(&mut self, cidr: IpNet, block: Option<BlockFact>) {
        if self.blocks.get(&cidr) == block.as_ref() {
            return;
        }
        let old = match block.clone() {
            Some(block) => self.blocks.insert(cidr, block),
            None => self.blocks.remove(&cidr),
        };
        if self.use_blocks {
            self.file_block(cidr, &old.unwrap_or_default(), false);
            self.file_block(cidr, &block.unwrap_or_default(), true);
        }
    }

    /// A workload, by `namespace/name`, and the node it runs on.
    pub(crate) fn set_workload(&mut self, id: &str, workload: Option<Location>) {
        if self.workloads.get(id) == workload.as_ref() {
            return;
        }
        let old = match workload.clone() {
            Some(workload) => self.workloads.insert(id.into(), workload),
            None => self.workloads.remove(id),
        };
        for (facts, is_there) in [(old, false), (workload, true)] {
            let Some((node, nets)) = facts else { continue };
            for cidr in nets.iter().copied() {
                self.refer(cidr, &node, is_there);
                self.edit(cidr, |entry| entry.workloads.count(node.clone(), is_there));
            }
        }
    }

    /// Routes that changed and that are gone.
    pub(crate) fn flush(&mut self) -> Differences<IpNet, Arc<Route>> {
        for cidr in std::mem::take(&mut self.dirty) {
            let route = self.resolve(cidr).map(Arc::new);
            self.published.set(cidr, route);
        }
        self.published.drain()
    }

    /// How much it holds, all indexes counted: 0 when everything has been removed and flushed.
    pub(crate) fn size(&self) -> usize {
        let facts = self.nodes.len() + self.blocks.len() + self.workloads.len();
        facts + self.entries.len() + self.by_node.len() + self.dirty.len() + self.published.len()
    }

    fn file_node(&mut self, name: &Arc<str>, node: &NodeFact, is_there: bool) {
        for address in &node.addresses {
            let cidr = IpNet::from(*address);
            self.refer(cidr, name, is_there);
            self.edit(cidr, |entry| entry.hosts.count(name.clone(), is_there));
        }
        for (kind, address) in &node.tunnels {
            let cidr = IpNet::from(*address);
            self.refer(cidr, name, is_there);
            self.edit(cidr, |entry| entry.tunnels.count((*kind, name.clone()), is_there));
        }
    }

    fn file_block(&mut self, cidr: IpNet, block: &BlockFact, is_there: bool) {
        if let Some(owner) = &block.owner {
            self.refer(cidr, owner, is_there);
            self.edit(cidr, |entry| entry.block = is_there.then(|| owner.clone()));
        }
        for (address, node) in &block.borrowed {
            let cidr = IpNet::from(*address);
            self.refer(cidr, node, is_there);
            self.edit(cidr, |entry| entry.borrowers.count(node.clone(), is_there));
        }
    }

    fn refer(&mut self, cidr: IpNet, node: &Arc<str>, is_there: bool) {
        let cidrs = self.by_node.entry(node.clone()).or_default();
        let count = cidrs.entry(cidr).or_default();
        *count = if is_there { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            cidrs.remove(&cidr);
        }
        if cidrs.is_empty() {
            self.by_node.remove(node);
        }
    }

    fn edit(&mut self, cidr: IpNet, change: impl FnOnce(&mut Entry)) {
        let mut entry = self.entries.remove(&cidr).unwrap_or_default();
        change(&mut entry);
        if !entry.is_empty() {
            self.entries.insert(cidr, entry);
        }
        self.dirty.insert(cidr);
        self.dirty.extend(self.entries.children(&cidr).map(|(inner, _)| inner));
    }

    fn resolve(&self, cidr: IpNet) -> Option<Route> {
        self.entries.get(&cidr)?;
        let mut route = Route::default();
        for (_, entry) in self.entries.cover(&cidr) {
            entry.describe(&mut route, &self.node_name);
        }
        if route.types.is_empty() {
            route.types.insert(crate::contract::RouteType::CidrInfo);
        }
        let v6 = cidr.addr().is_ipv6();
        let node = route.node.as_ref().and_then(|name| self.nodes.get(name));
        route.node_address = node.and_then(|node| node.interface(v6)).map(IpNet::addr);
        route.same_subnet = route.pool.is_some_and(crosses_subnets_only) && self.is_near(route.node_address);
        Some(route)
    }

    /// Whether an address is in our own subnet.
    fn is_near(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return false };
        let ours = self.nodes.get(&self.node_name).and_then(|node| node.interface(address.is_ipv6()));
        ours.is_some_and(|subnet| subnet.contains(&address))
    }
}

/// Whether a pool wraps traffic only when it leaves the subnet.
fn crosses_subnets_only(pool: Pool) -> bool {
    use crate::contract::EncapMode::CrossSubnet;
    pool.ipip == CrossSubnet || pool.vxlan == CrossSubnet
}

#[cfg(test)]
mod tests;

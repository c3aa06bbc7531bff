//! The rows that matter, and the plan that they make.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::{
    AffinityOwner, BGPConfigurationSpec, BGPPeerSpec, BindMode, BlockAffinityState, Key, Kind, Resource, Row,
};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::originate::PoolRow;
use super::types::{BgpPlan, Listen};

/// The AS of a cluster that does not set one.
const DEFAULT_AS: u32 = 64512;
/// The BGP port (RFC 4271 section 4).
const DEFAULT_PORT: u16 = 179;

/// Where the BGP identifier comes from (`CALICO_ROUTER_ID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RouterIdSource {
    /// The node's IPv4 address.
    #[default]
    NodeAddress,
    /// A hash of the node's name (`hash`).
    NameHash,
    /// This.
    Literal(Ipv4Addr),
}

/// What counts of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeRow {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) as_number: Option<u32>,
    pub(super) cluster_id: Option<Ipv4Addr>,
    /// BGP addresses, one of each family at most.
    pub(super) addresses: Vec<IpAddr>,
    /// Addresses of its tunnel devices.
    pub(super) tunnels: Vec<IpAddr>,
}

impl NodeRow {
    /// Its address of a family.
    pub(super) fn address(&self, v6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == v6)
    }
}

/// What counts of a workload of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WorkloadRow {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) addresses: Vec<IpAddr>,
}

/// Keeps the rows that the plan depends on. Not one of its methods blocks, reads a clock or does any I/O.
#[derive(Debug)]
pub struct BgpPlanner {
    pub(super) node_name: String,
    router_id: RouterIdSource,
    pub(super) nodes: BTreeMap<String, NodeRow>,
    pub(super) peers: BTreeMap<String, BGPPeerSpec>,
    configurations: BTreeMap<String, BGPConfigurationSpec>,
    pub(super) pools: BTreeMap<String, PoolRow>,
    /// Blocks of this node, and whether they are confirmed.
    pub(super) blocks: BTreeMap<IpNet, bool>,
    pub(super) workloads: BTreeMap<(String, String), WorkloadRow>,
    is_stale: bool,
    last: Option<BgpPlan>,
}

impl BgpPlanner {
    /// A planner for a node, without rows.
    pub fn new(node_name: impl Into<String>, router_id: RouterIdSource) -> Self {
        Self {
            node_name: node_name.into(),
            router_id,
            nodes: BTreeMap::new(),
            peers: BTreeMap::new(),
            configurations: BTreeMap::new(),
            pools: BTreeMap::new(),
            blocks: BTreeMap::new(),
            workloads: BTreeMap::new(),
            is_stale: true,
            last: None,
        }
    }

    /// A row is now this; `None`: it does not exist. Rows that the plan does not depend on are ignored.
    pub fn on_update(&mut self, key: &Key, row: Option<Arc<Row>>) {
        let changed = match key {
            Key::BlockAffinity { owner: AffinityOwner::Host(node), cidr } if *node == self.node_name => {
                let affinity = row.as_deref().and_then(|row| match row {
                    Row::BlockAffinity(affinity) if !affinity.deleted => Some(affinity.state),
                    _ => None,
                });
                let confirmed = affinity.map(|state| state == BlockAffinityState::Confirmed);
                replace(&mut self.blocks, cidr.trunc(), confirmed)
            }
            Key::Resource { kind, namespace, name } => {
                let resource = row.as_deref().and_then(|row| match row {
                    Row::Resource(resource) if resource.kind() == *kind => Some(resource),
                    _ => None,
                });
                self.on_resource(*kind, namespace.as_deref().unwrap_or_default(), name, resource)
            }
            _ => false,
        };
        self.is_stale |= changed;
    }

    /// The plan, if it is not what this returned last.
    pub fn flush(&mut self) -> Option<BgpPlan> {
        if !std::mem::take(&mut self.is_stale) {
            return None;
        }
        let plan = Some(self.plan());
        if plan == self.last {
            return None;
        }
        self.last.clone_from(&plan);
        plan
    }

    /// The plan that the rows make.
    pub fn plan(&self) -> BgpPlan {
        let us = self.nodes.get(&self.node_name);
        let (peers, static_routes) = self.sessions();
        let blocks = self.own_blocks();
        let originate = blocks.iter().copied().chain(self.own_addresses()).collect();
        BgpPlan {
            local_as: self.local_as(),
            router_id: self.router_id(),
            listen: self.listen(),
            mesh: self.is_mesh_on(),
            cluster_id: us.and_then(|us| us.cluster_id),
            peers,
            originate,
            blocks,
            static_routes,
        }
    }

    /// How many rows it keeps.
    #[doc(hidden)]
    pub fn size(&self) -> usize {
        let bgp = self.nodes.len() + self.peers.len() + self.configurations.len();
        bgp + self.pools.len() + self.blocks.len() + self.workloads.len()
    }

    /// The AS of a node.
    pub(super) fn as_of(&self, node: &NodeRow) -> u32 {
        node.as_number.unwrap_or_else(|| self.cluster_as())
    }

    pub(super) fn local_as(&self) -> u32 {
        self.nodes.get(&self.node_name).map_or_else(|| self.cluster_as(), |us| self.as_of(us))
    }

    /// The port that a node listens on.
    pub(super) fn port_of(&self, node: &str) -> u16 {
        let own = self.configurations.get(&format!("node.{node}")).and_then(|spec| spec.listen_port);
        own.or_else(|| self.global().and_then(|spec| spec.listen_port)).unwrap_or(DEFAULT_PORT)
    }

    /// The port of a peer that is no node.
    pub(super) fn foreign_port() -> u16 {
        DEFAULT_PORT
    }

    pub(super) fn is_mesh_on(&self) -> bool {
        self.global().and_then(|spec| spec.node_to_node_mesh_enabled).unwrap_or(true)
    }

    pub(super) fn global(&self) -> Option<&BGPConfigurationSpec> {
        self.configurations.get("default")
    }

    fn cluster_as(&self) -> u32 {
        self.global().and_then(|spec| spec.as_number).map_or(DEFAULT_AS, |number| number.0)
    }

    fn listen(&self) -> Listen {
        let own = self.configurations.get(&format!("node.{}", self.node_name));
        let bind_mode = own.and_then(|spec| spec.bind_mode).or_else(|| self.global()?.bind_mode);
        let addresses = match bind_mode.unwrap_or_default() {
            BindMode::None => Vec::new(),
            BindMode::NodeIP => {
                self.nodes.get(&self.node_name).map(|us| us.addresses.clone()).unwrap_or_default()
            }
        };
        Listen { port: self.port_of(&self.node_name), addresses }
    }

    fn router_id(&self) -> Option<Ipv4Addr> {
        match self.router_id {
            RouterIdSource::Literal(id) => Some(id),
            RouterIdSource::NameHash => Some(hashed_router_id(&self.node_name)),
            RouterIdSource::NodeAddress => match self.nodes.get(&self.node_name)?.address(false)? {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            },
        }
    }

    fn on_resource(&mut self, kind: Kind, namespace: &str, name: &str, resource: Option<&Resource>) -> bool {
        match kind {
            Kind::Node => replace(&mut self.nodes, name.to_owned(), resource.and_then(node_row)),
            Kind::BGPPeer => {
                let spec = resource.and_then(|resource| match resource {
                    Resource::BGPPeer(peer) => Some(peer.spec.clone()),
                    _ => None,
                });
                replace(&mut self.peers, name.to_owned(), spec)
            }
            Kind::BGPConfiguration => {
                let spec = resource.and_then(|resource| match resource {
                    Resource::BGPConfiguration(configuration) => Some(configuration.spec.clone()),
                    _ => None,
                });
                replace(&mut self.configurations, name.to_owned(), spec)
            }
            Kind::IPPool => replace(&mut self.pools, name.to_owned(), resource.and_then(PoolRow::of)),
            Kind::WorkloadEndpoint => {
                let row = resource.and_then(|resource| self.workload_row(resource));
                replace(&mut self.workloads, (namespace.to_owned(), name.to_owned()), row)
            }
            _ => false,
        }
    }

    fn workload_row(&self, resource: &Resource) -> Option<WorkloadRow> {
        let Resource::WorkloadEndpoint(endpoint) = resource else { return None };
        if endpoint.spec.node != self.node_name {
            return None;
        }
        let addresses = endpoint.spec.ip_networks.iter().map(|net| net.addr()).collect();
        Some(WorkloadRow { labels: endpoint.metadata.labels.clone(), addresses })
    }
}

fn node_row(resource: &Resource) -> Option<NodeRow> {
    let Resource::Node(node) = resource else { return None };
    let fact = crate::convert::node(&node.spec);
    let bgp = node.spec.bgp.as_ref();
    Some(NodeRow {
        labels: node.metadata.labels.clone(),
        as_number: bgp.and_then(|bgp| bgp.as_number).map(|number| number.0),
        cluster_id: bgp.and_then(|bgp| bgp.route_reflector_cluster_id),
        addresses: fact.bgp.iter().map(IpNet::addr).collect(),
        tunnels: fact.tunnels.into_iter().map(|(_, address)| address).collect(),
    })
}

/// The identifier that Calico makes of a name: the first bytes of its SHA-256, out of the range of multicast addresses.
fn hashed_router_id(name: &str) -> Ipv4Addr {
    let digest = Sha256::digest(name);
    let first = if digest[0] > 223 { digest[0] - 32 } else { digest[0] };
    Ipv4Addr::new(first, digest[1], digest[2], digest[3])
}

/// Replaces a row; says whether that changed anything.
fn replace<K: Ord, V: PartialEq + Clone>(rows: &mut BTreeMap<K, V>, key: K, row: Option<V>) -> bool {
    let old = match row.clone() {
        Some(row) => rows.insert(key, row),
        None => rows.remove(&key),
    };
    old != row
}

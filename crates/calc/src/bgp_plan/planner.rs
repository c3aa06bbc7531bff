//! The rows that matter, and the plan that they make.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api::{
    AffinityOwner, BGPConfigurationSpec, BGPFilter, BGPPeerSpec, BindMode, BlockAffinityState,
    DEFAULT_ROUTE_PRIORITY, Key, Kind, NodeStatus, Resource, Row,
};
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::filter_tests::{ANNOTATION as FILTER_TESTS, FilterTestError, check_filter};
use super::originate::PoolRow;
use super::peers::PlannedSessions;
use super::policy::Policies;
use super::problems::Problem;
use super::services::{EXCLUDED, Ranges, Service, ServiceEndpoints, Services};
use super::types::{BgpPlan, Listen, SessionFeedback};
use super::workloads::{PeeringWorkloads, WorkloadKey, WorkloadRow};
use crate::contract::TunnelKind;

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

/// How much of the last plan may no longer hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Nothing,
    /// What is originated.
    Originated,
    /// Anything.
    Plan,
}

/// Which tunnels the dataplane makes. The routes of those that it does not make are BGP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tunnels {
    /// IP in IP.
    pub ipip: bool,
    /// VXLAN.
    pub vxlan: bool,
    /// WireGuard.
    pub wireguard: bool,
}

impl Tunnels {
    /// All that Calico has.
    pub const ALL: Self = Self { ipip: true, vxlan: true, wireguard: true };
}

/// Whether a node has WireGuard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wireguard {
    ipv4: bool,
    ipv6: bool,
}

impl Wireguard {
    pub(super) fn has(self, v6: bool) -> bool {
        if v6 { self.ipv6 } else { self.ipv4 }
    }
}

/// What counts of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodeRow {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) as_number: Option<u32>,
    pub(super) cluster_id: Option<Ipv4Addr>,
    /// BGP addresses, one of each family at most.
    pub(super) addresses: Vec<IpAddr>,
    /// The same with the lengths of their networks.
    pub(super) networks: Vec<IpNet>,
    /// Addresses of its tunnel devices.
    pub(super) tunnels: BTreeSet<(TunnelKind, IpAddr)>,
    pub(super) wireguard: Wireguard,
}

impl NodeRow {
    /// Its address of a family.
    pub(super) fn address(&self, v6: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv6() == v6)
    }
}

/// Keeps the rows that the plan depends on. Not one of its methods blocks, reads a clock or does any I/O.
#[derive(Debug, Clone)]
pub struct BgpPlanner {
    pub(super) node_name: String,
    router_id: RouterIdSource,
    pub(super) nodes: BTreeMap<String, NodeRow>,
    pub(super) peers: BTreeMap<String, BGPPeerSpec>,
    pub(super) filters: BTreeMap<String, BGPFilter>,
    /// What filters' own test cases say against them.
    filter_problems: BTreeMap<String, Vec<Problem>>,
    configurations: BTreeMap<String, BGPConfigurationSpec>,
    pub(super) pools: BTreeMap<String, PoolRow>,
    /// Blocks of this node, and whether they are confirmed.
    pub(super) blocks: BTreeMap<IpNet, bool>,
    pub(super) workloads: BTreeMap<WorkloadKey, WorkloadRow>,
    /// The labels that profiles lend.
    pub(super) profiles: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) services: Services,
    /// Addresses of the host's interfaces, with the lengths of their networks.
    pub(super) interfaces: BTreeMap<Arc<str>, BTreeSet<IpNet>>,
    pub(super) tunnels: Tunnels,
    cluster_ips: Vec<IpNet>,
    /// How the sessions of the last plan are.
    pub(super) feedback: SessionFeedback,
    stale: Stale,
    pub(super) last: Option<BgpPlan>,
}

impl BgpPlanner {
    /// The kinds of resource that a plan depends on, besides the affinities of blocks.
    pub const KINDS: [Kind; 7] = [
        Kind::BGPConfiguration,
        Kind::BGPFilter,
        Kind::BGPPeer,
        Kind::IPPool,
        Kind::Node,
        Kind::Profile,
        Kind::WorkloadEndpoint,
    ];

    /// A planner for a node, without rows.
    pub fn new(node_name: impl Into<String>, router_id: RouterIdSource) -> Self {
        Self {
            node_name: node_name.into(),
            router_id,
            nodes: BTreeMap::new(),
            peers: BTreeMap::new(),
            filters: BTreeMap::new(),
            filter_problems: BTreeMap::new(),
            configurations: BTreeMap::new(),
            pools: BTreeMap::new(),
            blocks: BTreeMap::new(),
            workloads: BTreeMap::new(),
            profiles: BTreeMap::new(),
            services: Services::default(),
            interfaces: BTreeMap::new(),
            tunnels: Tunnels::default(),
            cluster_ips: Vec::new(),
            feedback: SessionFeedback::default(),
            stale: Stale::Plan,
            last: None,
        }
    }

    /// Which tunnels the dataplane makes; none unless said.
    #[must_use]
    pub fn with_tunnels(self, tunnels: Tunnels) -> Self {
        Self { tunnels, ..self }
    }

    /// Ranges of cluster IPs to announce where BGPConfiguration has none (`CALICO_ADVERTISE_CLUSTER_IPS`).
    #[must_use]
    pub fn with_cluster_ips(self, cluster_ips: Vec<IpNet>) -> Self {
        Self { cluster_ips, ..self }
    }

    /// A Kubernetes Service is now this; `None`: it does not exist, or has no addresses to announce.
    pub fn on_service(&mut self, namespace: &str, name: &str, service: Option<Service>) {
        let key = (namespace.to_owned(), name.to_owned());
        let changed = replace(&mut self.services.services, key, service);
        self.note(changed, Stale::Plan);
    }

    /// An EndpointSlice (or Endpoints) is now this; `None`: it does not exist.
    pub fn on_endpoints(&mut self, namespace: &str, name: &str, endpoints: Option<ServiceEndpoints>) {
        let key = (namespace.to_owned(), name.to_owned());
        let changed = replace(&mut self.services.endpoints, key, endpoints);
        self.note(changed, Stale::Plan);
    }

    /// An interface of the host has these addresses, with the lengths of their networks; none: it is gone.
    pub fn on_interface(&mut self, name: &str, addresses: BTreeSet<IpNet>) {
        let addresses = (!addresses.is_empty()).then_some(addresses);
        let changed = replace(&mut self.interfaces, name.into(), addresses);
        self.note(changed, Stale::Plan);
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
        self.note(changed, self.stale_by(key));
    }

    /// What a changed row puts in doubt.
    fn stale_by(&self, key: &Key) -> Stale {
        let Key::Resource { kind, .. } = key else { return Stale::Plan };
        let are_peers = || self.peers.values().any(|peer| !peer.local_workload_selector.is_empty());
        match kind {
            Kind::WorkloadEndpoint if !are_peers() => Stale::Originated,
            Kind::Profile if !are_peers() => Stale::Nothing,
            _ => Stale::Plan,
        }
    }

    fn note(&mut self, changed: bool, stale: Stale) {
        if changed {
            self.stale = self.stale.max(stale);
        }
    }

    /// The plan, if it is not what this returned last.
    pub fn flush(&mut self) -> Option<BgpPlan> {
        let plan = match (std::mem::replace(&mut self.stale, Stale::Nothing), &self.last) {
            (Stale::Nothing, _) => return None,
            // Workloads come and go all the time; sessions need not be worked out for that.
            (Stale::Originated, Some(last)) => {
                let originate = self.originated();
                if originate == *last.originate {
                    return None;
                }
                BgpPlan { originate: originate.into(), ..last.clone() }
            }
            _ => self.plan(),
        };
        if self.last.as_ref() == Some(&plan) {
            return None;
        }
        self.last = Some(plan.clone());
        Some(plan)
    }

    /// The plan that the rows make.
    pub fn plan(&self) -> BgpPlan {
        let us = self.nodes.get(&self.node_name);
        let mut problems = self.filter_problems.values().flatten().cloned().collect();
        let PlannedSessions { mut peers, static_routes, reflection, workloads } =
            self.sessions(&mut problems);
        let reflects = self.is_reflector() || reflection.as_ref().is_some_and(|plan| plan.reflects);
        let originate = self.originated();
        let common =
            [false, true].map(|v6| (v6, self.common_export(v6, reflects, &originate, &mut problems))).into();
        let mut made = Policies::new();
        for peer in &mut peers {
            let of = (&peer.families, &peer.filters[..]);
            (peer.import, peer.export) = self.policies(of, &common, &mut made, &mut problems);
        }
        BgpPlan {
            local_as: self.local_as(),
            router_id: self.router_id(),
            listen: self.listen(&workloads),
            mesh: self.is_mesh_on(),
            cluster_id: us.and_then(|us| us.cluster_id),
            reflection,
            peers,
            normal_priorities: [false, true].map(|v6| self.normal_priority(v6)),
            addresses: us.map(|us| us.addresses.clone()).unwrap_or_default(),
            originate: originate.into(),
            blocks: self.own_blocks(),
            kernel: self.kernel_policy(),
            excluded_interfaces: self.excluded_interfaces(),
            interfaces: self.networks().into_iter().chain(workloads.links).collect(),
            peering_addresses: workloads.peering_addresses,
            static_routes,
            forwards: true,
            name: self.node_name.clone(),
            stations: self.stations(),
            aggregates: self.aggregates(),
            log_severity: self.setting(|spec| spec.log_severity_screen),
            problems,
        }
    }

    /// The next [`BgpPlanner::flush`] makes the plan anew.
    pub(super) fn mark_stale(&mut self) {
        self.stale = Stale::Plan;
    }

    /// How many rows it keeps.
    #[doc(hidden)]
    pub fn size(&self) -> usize {
        let bgp = self.nodes.len() + self.peers.len() + self.configurations.len() + self.filters.len();
        let services = self.services.services.len() + self.services.endpoints.len() + self.interfaces.len();
        bgp + services + self.pools.len() + self.blocks.len() + self.workloads.len() + self.profiles.len()
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

    /// The configurations that count for this node, its own first, with their names.
    fn own_and_global(&self) -> impl Iterator<Item = (String, &BGPConfigurationSpec)> {
        let names = [format!("node.{}", self.node_name), "default".to_owned()];
        names.into_iter().filter_map(|name| Some((name.clone(), self.configurations.get(&name)?)))
    }

    /// A setting of this node: its own, else the global one.
    pub(super) fn setting<T>(&self, of: impl Fn(&BGPConfigurationSpec) -> Option<T>) -> Option<T> {
        self.own_and_global().find_map(|(_, spec)| of(spec))
    }

    /// The configuration that counts for this node in something: its own, if that says anything about it.
    pub(super) fn deciding_configuration(
        &self,
        says: impl Fn(&BGPConfigurationSpec) -> bool,
    ) -> Option<(String, &BGPConfigurationSpec)> {
        self.own_and_global().find(|(_, spec)| says(spec))
    }

    /// The value of a community that a configuration means, by a name of its own or a global one.
    pub(super) fn community_value<'a>(&'a self, spec: &'a BGPConfigurationSpec, text: &'a str) -> &'a str {
        let value = spec.community_value(text);
        match self.global() {
            Some(global) if value == text => global.community_value(text),
            _ => value,
        }
    }

    /// The metric of routes for which nobody says another.
    pub(super) fn normal_priority(&self, v6: bool) -> u32 {
        let priority = self.setting(|spec| match v6 {
            true => spec.ipv6_normal_route_priority,
            false => spec.ipv4_normal_route_priority,
        });
        u32::try_from(priority.unwrap_or(DEFAULT_ROUTE_PRIORITY)).unwrap_or(u32::MAX)
    }

    pub(super) fn is_reflector(&self) -> bool {
        self.nodes.get(&self.node_name).is_some_and(|us| us.cluster_id.is_some())
    }

    pub(super) fn is_excluded_from_services(&self) -> bool {
        let us = self.nodes.get(&self.node_name);
        us.is_some_and(|us| us.labels.get(EXCLUDED).is_some_and(|value| value == "true"))
    }

    pub(super) fn service_ranges(&self) -> Ranges {
        Ranges::of(self.global(), &self.cluster_ips)
    }

    fn cluster_as(&self) -> u32 {
        self.global().and_then(|spec| spec.as_number).map_or(DEFAULT_AS, |number| number.0)
    }

    /// Workloads dial an address of their own, wherever else the node listens.
    fn listen(&self, workloads: &PeeringWorkloads) -> Listen {
        let addresses = match self.setting(|spec| spec.bind_mode).unwrap_or_default() {
            BindMode::None => Vec::new(),
            BindMode::NodeIP => {
                let own = self.nodes.get(&self.node_name).into_iter().flat_map(|us| &us.addresses);
                own.copied().chain(workloads.dialled_addresses()).collect()
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
            Kind::BGPFilter => {
                let filter = resource.and_then(|resource| match resource {
                    Resource::BGPFilter(filter) => Some((**filter).clone()),
                    _ => None,
                });
                let failures = filter.as_ref().map(failures).filter(|failures| !failures.is_empty());
                replace(&mut self.filter_problems, name.to_owned(), failures);
                replace(&mut self.filters, name.to_owned(), filter)
            }
            Kind::IPPool => replace(&mut self.pools, name.to_owned(), resource.and_then(PoolRow::of)),
            Kind::WorkloadEndpoint => {
                let row = resource.and_then(|resource| self.workload_row(namespace, resource));
                replace(&mut self.workloads, (namespace.to_owned(), name.to_owned()), row)
            }
            Kind::Profile => {
                let labels = resource.and_then(|resource| match resource {
                    Resource::Profile(profile) => Some(profile.spec.labels_to_apply.clone()),
                    _ => None,
                });
                replace(&mut self.profiles, name.to_owned(), labels.filter(|labels| !labels.is_empty()))
            }
            _ => false,
        }
    }

    fn workload_row(&self, namespace: &str, resource: &Resource) -> Option<WorkloadRow> {
        let Resource::WorkloadEndpoint(endpoint) = resource else { return None };
        (endpoint.spec.node == self.node_name).then(|| WorkloadRow::of(namespace, endpoint))
    }
}

/// A filter whose test cases fail is used all the same: peers without it would be worse.
fn failures(filter: &BGPFilter) -> Vec<Problem> {
    let failures = check_filter(filter).err().unwrap_or_default();
    let problem = |failure: FilterTestError| {
        let object = format!("BGPFilter {}", filter.metadata.name);
        let field = format!("metadata.annotations[{FILTER_TESTS}]");
        Problem::new(
            object,
            field,
            format!("{failure}; the filter is used all the same"),
            "apply a corrected filter",
        )
    };
    failures.into_iter().map(problem).collect()
}

fn node_row(resource: &Resource) -> Option<NodeRow> {
    let Resource::Node(node) = resource else { return None };
    let fact = crate::convert::node(&node.spec);
    let bgp = node.spec.bgp.as_ref();
    let has_key =
        |key: fn(&NodeStatus) -> &String| node.status.as_ref().is_some_and(|status| !key(status).is_empty());
    Some(NodeRow {
        labels: node.metadata.labels.clone(),
        as_number: bgp.and_then(|bgp| bgp.as_number).map(|number| number.0),
        cluster_id: bgp.and_then(|bgp| bgp.route_reflector_cluster_id),
        addresses: fact.bgp.iter().map(IpNet::addr).collect(),
        networks: fact.bgp,
        tunnels: fact.tunnels,
        wireguard: Wireguard {
            ipv4: has_key(|status| &status.wireguard_public_key),
            ipv6: has_key(|status| &status.wireguard_public_key_v6),
        },
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

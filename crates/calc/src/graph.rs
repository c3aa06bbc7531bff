//! The calculation graph: rows of the datastore in, differences of this node's desired state out.
//!
//! # The problem
//!
//! Every node sees the whole cluster change, and must know within milliseconds what that means for itself: which policies
//! its endpoints are under, which addresses the selectors of those policies stand for, and where every block is.
//!
//! # The approach
//!
//! The graph is a handful of small tables, each with add, change and remove for all that it tracks: [`crate::ip_sets`],
//! [`crate::policies`], [`crate::profiles`], [`crate::endpoints`], [`crate::routes`]. A row goes to the tables that it
//! concerns at once ([`Graph::on_update`]); they note what may have changed. [`Graph::flush`] works that out and hands on
//! real differences only: things before those that refer to them, removals the other way round.
//!
//! # What it promises
//!
//! The state that the changes add up to is a function of the rows that are there, whatever the order in which they came,
//! however often one was repeated or deleted in between, and wherever flushes fell. What a row refers to need not be
//! there: a profile that does not exist denies, a policy of an unknown tier applies after all others.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::{Key, Kind, Metadata, Resource, Row};
use ipnet::IpNet;

use crate::blocks::Blocks;
use crate::compile::{CompileError, compile_policy, compile_profile, policy_kind};
use crate::contract::{Change, PolicyId, ProfileId};
use crate::convert;
use crate::endpoints::{Followers, LocalEndpoint, LocalEndpoints};
use crate::felix_config::FelixConfig;
use crate::ip_sets::{IpSets, Item, ItemKey, ItemKind};
use crate::policies::Policies;
use crate::pools::Pools;
use crate::profiles::Profiles;
use crate::published::{Differences, Published};
use crate::routes::{BlockFact, Location, Routes};
use crate::services::EndpointSlice;

/// What routes to remote workloads are made from (Felix parameter `RouteSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteSource {
    /// IPAM blocks and the addresses borrowed from them.
    CalicoIpam,
    /// The workload endpoints themselves, for other kinds of IPAM.
    WorkloadIps,
}

/// What a graph has to know beforehand.
#[derive(Debug, Clone)]
pub struct GraphConfig {
    /// The name of this node.
    pub node_name: String,
    /// `RouteSource` from the environment or a file, which goes before what the datastore says; `None`: not set there.
    pub route_source: Option<RouteSource>,
}

impl GraphConfig {
    /// For a node, with nothing set.
    pub fn new(node_name: impl Into<String>) -> Self {
        Self { node_name: node_name.into(), route_source: None }
    }
}

/// Something in a row that could not be used. The rest of the row counts; what the part would have allowed, does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The row.
    pub key: Key,
    /// What is wrong with it.
    pub error: CompileError,
}

/// The graph. Not one of its methods blocks, reads a clock or does any I/O.
#[derive(Debug)]
pub struct Graph {
    node_name: Arc<str>,
    fixed_route_source: Option<RouteSource>,
    sync: Sync,
    sets: IpSets,
    policies: Policies,
    profiles: Profiles,
    endpoints: LocalEndpoints,
    blocks: Blocks,
    routes: Routes,
    pools: Pools,
    hosts: Published<Arc<str>, BTreeSet<IpAddr>>,
    service_networks: Published<(), BTreeSet<IpNet>>,
    config: FelixConfig,
    problems: Vec<Problem>,
}

/// How far the datastore's initial content has been handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// There is more to come.
    Waiting,
    /// All is here; the next flush says so.
    Arrived,
    /// The receiver knows.
    Told,
}

impl Graph {
    /// An empty graph.
    pub fn new(config: GraphConfig) -> Self {
        let node_name: Arc<str> = config.node_name.into();
        Self {
            sync: Sync::Waiting,
            sets: IpSets::default(),
            policies: Policies::default(),
            profiles: Profiles::default(),
            endpoints: LocalEndpoints::default(),
            blocks: Blocks::default(),
            routes: Routes::new(node_name.clone()),
            pools: Pools::default(),
            hosts: Published::default(),
            service_networks: Published::default(),
            config: FelixConfig::new(&node_name),
            problems: Vec::new(),
            fixed_route_source: config.route_source,
            node_name,
        }
    }

    /// A row is now this; `None`: it does not exist. Rows that mean nothing to the graph are ignored, so is a row that is
    /// not of its key's kind (as if it did not exist).
    pub fn on_update(&mut self, key: &Key, row: Option<Arc<Row>>) {
        let row = row.as_deref().filter(|row| is_of_kind(key, row));
        match (key, row) {
            (Key::Resource { kind, namespace, name }, row) => {
                let resource = row.and_then(|row| match row {
                    Row::Resource(resource) => Some(resource),
                    _ => None,
                });
                self.on_resource(key, *kind, namespace.as_deref().unwrap_or_default(), name, resource);
            }
            (Key::Block(cidr), Some(Row::Block(block))) => {
                let fact = self.blocks.set_block(cidr.trunc(), Some(block));
                self.routes.set_block(cidr.trunc(), fact);
            }
            (Key::Block(cidr), _) => {
                let fact = self.blocks.set_block(cidr.trunc(), None);
                self.routes.set_block(cidr.trunc(), fact);
            }
            (Key::BlockAffinity { owner, cidr }, row) => {
                let state = row.and_then(|row| match row {
                    Row::BlockAffinity(affinity) if !affinity.deleted => Some(affinity.state),
                    _ => None,
                });
                let fact: Option<BlockFact> = self.blocks.set_affinity(owner, cidr.trunc(), state);
                self.routes.set_block(cidr.trunc(), fact);
            }
            (Key::Handle(_) | Key::IpamConfig | Key::Confirmation(_), _) => {}
        }
    }

    /// An EndpointSlice is now this: rules that name a Service match what its slices hold. A datastore without Kubernetes has
    /// them as rows ([`Kind::KubernetesEndpointSlice`]).
    pub fn on_endpoint_slice(&mut self, namespace: &str, name: &str, slice: Option<EndpointSlice>) {
        self.sets.set_slice((namespace.to_owned(), name.to_owned()), slice);
    }

    /// Everything that the datastore holds has been handed in.
    pub fn on_in_sync(&mut self) {
        if self.sync == Sync::Waiting {
            self.sync = Sync::Arrived;
        }
    }

    /// What has changed since the last flush, in an order in which nothing refers to what is not there: configuration,
    /// IP sets, policies and profiles, endpoints; removals of those in reverse; removals of routes before routes; then
    /// pools and hosts. Nothing before [`Graph::on_in_sync`]; the first flush after it ends with [`Change::InSync`].
    pub fn flush(&mut self) -> Vec<Change> {
        if self.sync == Sync::Waiting {
            return Vec::new();
        }
        let mut changes: Vec<Change> =
            self.config.flush().map(|parameters| Change::ConfigUpdate { parameters }).into_iter().collect();
        self.flush_policy(&mut changes);
        self.flush_network(&mut changes);
        if self.sync == Sync::Arrived {
            self.sync = Sync::Told;
            changes.push(Change::InSync);
        }
        changes
    }

    /// What could not be used of the rows that came since this was last called.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// What the sets that were handed on stand for, in words: a selector between backquotes, a named port, a service.
    pub fn set_meanings(&self) -> std::collections::BTreeMap<crate::contract::IpSetId, String> {
        self.sets.meanings()
    }

    /// How much the graph holds, every table and index counted: 0 when all rows are gone and that has been flushed. For
    /// tests that nothing is left behind.
    #[doc(hidden)]
    pub fn size(&self) -> usize {
        let policy = self.sets.size() + self.policies.size() + self.profiles.size() + self.endpoints.size();
        let network = self.blocks.size() + self.routes.size() + self.pools.size() + self.hosts.len();
        policy + network + self.service_networks.len() + self.config.size()
    }

    fn on_resource(
        &mut self,
        key: &Key,
        kind: Kind,
        namespace: &str,
        name: &str,
        resource: Option<&Resource>,
    ) {
        match kind {
            Kind::WorkloadEndpoint => self.on_workload_endpoint(namespace, name, resource),
            Kind::HostEndpoint => self.on_host_endpoint(name, resource),
            Kind::NetworkSet | Kind::GlobalNetworkSet => self.on_network_set(kind, namespace, name, resource),
            Kind::Profile => self.on_profile(key, name, resource),
            Kind::Tier => {
                let tier = resource.and_then(|resource| match resource {
                    Resource::Tier(tier) => Some(convert::tier(&tier.spec)),
                    _ => None,
                });
                self.policies.set_tier(name, tier);
            }
            Kind::IPPool => self.on_pool(name, resource),
            Kind::Node => self.on_node(name, resource),
            Kind::BGPConfiguration => self.on_bgp_configuration(name, resource),
            Kind::FelixConfiguration => self.on_felix_configuration(name, resource),
            Kind::KubernetesEndpointSlice => {
                let slice = resource.and_then(|resource| match resource {
                    Resource::KubernetesEndpointSlice(slice) => {
                        Some(EndpointSlice::from_resource(&slice.spec))
                    }
                    _ => None,
                });
                self.on_endpoint_slice(namespace, name, slice);
            }
            kind => self.on_policy(key, kind, namespace, name, resource),
        }
    }

    fn on_policy(&mut self, key: &Key, kind: Kind, namespace: &str, name: &str, resource: Option<&Resource>) {
        let Some(policy_kind) = policy_kind(kind) else { return };
        let namespace = kind.is_namespaced().then(|| namespace.into());
        let id = PolicyId { kind: policy_kind, namespace, name: name.into() };
        let mut errors = Vec::new();
        let policy = resource.and_then(|resource| compile_policy(&id, resource, &mut errors));
        self.report(key, errors);
        self.policies.set_policy(id, policy, &mut self.sets);
    }

    fn on_profile(&mut self, key: &Key, name: &str, resource: Option<&Resource>) {
        let profile = resource.and_then(|resource| match resource {
            Resource::Profile(profile) => Some(profile),
            _ => None,
        });
        let id = ProfileId(name.into());
        let mut errors = Vec::new();
        let compiled = profile.map(|profile| compile_profile(&id, profile, &mut errors));
        self.report(key, errors);
        self.profiles.set(id, compiled, &mut self.sets);
        let labels = || profile.into_iter().flat_map(|profile| texts(&profile.spec.labels_to_apply));
        self.sets.set_profile_labels(name, labels());
        self.policies.set_profile_labels(name, labels(), &mut self.sets);
    }

    fn on_workload_endpoint(&mut self, namespace: &str, name: &str, resource: Option<&Resource>) {
        let id: Box<str> = format!("{namespace}/{name}").into();
        let key = ItemKey(ItemKind::WorkloadEndpoint, id.clone());
        let Some(Resource::WorkloadEndpoint(endpoint)) = resource else {
            self.routes.set_workload(&id, None);
            self.remove_item(&key);
            return;
        };
        let item = convert::workload_item(&endpoint.spec);
        let is_local = endpoint.spec.node == *self.node_name;
        if is_local || !self.uses_blocks() {
            self.routes.set_workload(&id, item.location());
        } else {
            self.routes.set_workload(&id, None);
        }
        let labels: Vec<_> = convert::workload_labels(endpoint, namespace).collect();
        let profiles = endpoint.spec.profiles.iter().map(String::as_str);
        self.sets.set_item(key.clone(), item, labels.iter().copied(), profiles);
        let local = is_local.then(|| {
            let id = convert::workload_id(namespace, name, &endpoint.spec);
            LocalEndpoint::Workload(id, convert::workload_endpoint(&endpoint.spec))
        });
        self.set_local(key, local, labels);
    }

    fn on_host_endpoint(&mut self, name: &str, resource: Option<&Resource>) {
        let key = ItemKey(ItemKind::HostEndpoint, name.into());
        let Some(Resource::HostEndpoint(endpoint)) = resource else {
            self.remove_item(&key);
            return;
        };
        let labels: Vec<_> = texts(&endpoint.metadata.labels).collect();
        let profiles = endpoint.spec.profiles.iter().map(String::as_str);
        self.sets.set_item(key.clone(), convert::host_item(&endpoint.spec), labels.iter().copied(), profiles);
        let is_local = endpoint.spec.node == *self.node_name;
        let local =
            is_local.then(|| LocalEndpoint::Host(name.into(), convert::host_endpoint(&endpoint.spec)));
        self.set_local(key, local, labels);
    }

    fn on_network_set(&mut self, kind: Kind, namespace: &str, name: &str, resource: Option<&Resource>) {
        let key = match kind {
            Kind::NetworkSet => ItemKey(ItemKind::NetworkSet, format!("{namespace}/{name}").into()),
            _ => ItemKey(ItemKind::GlobalNetworkSet, name.into()),
        };
        match resource {
            Some(Resource::NetworkSet(set)) => {
                let profile = api::kubernetes::namespace_profile_name(namespace);
                let labels = texts(&set.metadata.labels).chain([(convert::NAMESPACE_LABEL, namespace)]);
                let item = convert::network_set_item(&set.spec.nets);
                self.sets.set_item(key, item, labels, [profile.as_str()]);
            }
            Some(Resource::GlobalNetworkSet(set)) => {
                let Metadata { labels, .. } = &set.metadata;
                self.sets.set_item(key, convert::network_set_item(&set.spec.nets), texts(labels), []);
            }
            _ => self.sets.remove_item(&key),
        }
    }

    fn on_pool(&mut self, name: &str, resource: Option<&Resource>) {
        let pool = resource.and_then(|resource| match resource {
            Resource::IPPool(pool) => Some(convert::pool(&pool.spec)),
            _ => None,
        });
        for (cidr, pool) in self.pools.set(name, pool) {
            self.routes.set_pool(cidr, pool);
        }
    }

    fn on_node(&mut self, name: &str, resource: Option<&Resource>) {
        let name: Arc<str> = name.into();
        let node = resource.and_then(|resource| match resource {
            Resource::Node(node) => Some(convert::node(&node.spec)),
            _ => None,
        });
        let addresses = node.as_ref().map(|node| node.bgp.iter().map(IpNet::addr).collect());
        self.hosts.set(name.clone(), addresses);
        self.routes.set_node(&name, node);
    }

    fn on_felix_configuration(&mut self, name: &str, resource: Option<&Resource>) {
        let spec = resource.and_then(|resource| match resource {
            Resource::FelixConfiguration(configuration) => Some(&configuration.spec),
            _ => None,
        });
        let before = self.uses_blocks();
        self.config.set(name, spec);
        let now = self.uses_blocks();
        if before != now {
            self.routes.set_use_blocks(now);
            self.replay_remote_workloads();
        }
    }

    /// Of BGP's settings only where Services are; those of single nodes have no say in that.
    fn on_bgp_configuration(&mut self, name: &str, resource: Option<&Resource>) {
        if name != convert::GLOBAL_CONFIGURATION {
            return;
        }
        let networks = resource.and_then(|resource| match resource {
            Resource::BGPConfiguration(configuration) => Some(convert::service_networks(&configuration.spec)),
            _ => None,
        });
        self.service_networks.set((), networks.filter(|networks| !networks.is_empty()));
    }

    fn replay_remote_workloads(&mut self) {
        let uses_blocks = self.uses_blocks();
        for (id, item) in self.sets.items(ItemKind::WorkloadEndpoint) {
            if item.node.as_ref() != Some(&self.node_name) {
                self.routes.set_workload(id, item.location().filter(|_| !uses_blocks));
            }
        }
    }

    fn uses_blocks(&self) -> bool {
        match self.fixed_route_source {
            Some(source) => source == RouteSource::CalicoIpam,
            None => self.config.get("RouteSource") != Some("WorkloadIPs"),
        }
    }

    fn set_local(&mut self, key: ItemKey, endpoint: Option<LocalEndpoint>, labels: Vec<(&str, &str)>) {
        let followers =
            Followers { policies: &mut self.policies, profiles: &mut self.profiles, sets: &mut self.sets };
        match endpoint {
            Some(endpoint) => self.endpoints.set(key, endpoint, labels, followers),
            None => self.endpoints.remove(&key, followers),
        }
    }

    fn remove_item(&mut self, key: &ItemKey) {
        self.sets.remove_item(key);
        self.set_local(key.clone(), None, Vec::new());
    }

    fn report(&mut self, key: &Key, errors: Vec<CompileError>) {
        self.problems.extend(errors.into_iter().map(|error| Problem { key: key.clone(), error }));
    }

    fn flush_policy(&mut self, changes: &mut Vec<Change>) {
        let (set_updates, set_removals) = self.sets.flush();
        let policies = self.policies.flush();
        let profiles = self.profiles.flush();
        let endpoints = self.endpoints.flush(&mut self.policies);
        changes.extend(set_updates);
        changes.extend(policies.updates.into_iter().map(|(id, policy)| Change::PolicyUpdate { id, policy }));
        changes
            .extend(profiles.updates.into_iter().map(|(id, profile)| Change::ProfileUpdate { id, profile }));
        let (workloads, hosts) = (endpoints.workloads, endpoints.hosts);
        let updates = workloads.updates.into_iter();
        changes.extend(updates.map(|(id, endpoint)| Change::WorkloadEndpointUpdate { id, endpoint }));
        let updates = hosts.updates.into_iter();
        changes.extend(updates.map(|(name, endpoint)| Change::HostEndpointUpdate { name, endpoint }));
        changes.extend(workloads.removals.into_iter().map(|id| Change::WorkloadEndpointRemove { id }));
        changes.extend(hosts.removals.into_iter().map(|name| Change::HostEndpointRemove { name }));
        changes.extend(profiles.removals.into_iter().map(|id| Change::ProfileRemove { id }));
        changes.extend(policies.removals.into_iter().map(|id| Change::PolicyRemove { id }));
        changes.extend(set_removals);
    }

    fn flush_network(&mut self, changes: &mut Vec<Change>) {
        let Differences { updates, removals } = self.routes.flush();
        changes.extend(removals.into_iter().map(|destination| Change::RouteRemove { destination }));
        let updates = updates.into_iter();
        changes.extend(updates.map(|(destination, route)| Change::RouteUpdate { destination, route }));
        let Differences { updates, removals } = self.pools.flush();
        changes.extend(removals.into_iter().map(|cidr| Change::PoolRemove { cidr }));
        changes.extend(updates.into_iter().map(|(cidr, pool)| Change::PoolUpdate { cidr, pool }));
        let Differences { updates, removals } = self.hosts.drain();
        changes.extend(removals.into_iter().map(|node| Change::HostRemove { node }));
        changes.extend(updates.into_iter().map(|(node, addresses)| Change::HostUpdate { node, addresses }));
        let Differences { updates, removals } = self.service_networks.drain();
        let gone = removals.into_iter().map(|()| BTreeSet::new());
        let networks = updates.into_iter().map(|((), networks)| networks).chain(gone);
        changes.extend(networks.map(|networks| Change::ServiceNetworksUpdate { networks }));
    }
}

impl Item {
    /// The node and the addresses of a workload; the name is a copy, since the item's own is counted.
    fn location(&self) -> Option<Location> {
        Some((self.node.as_deref()?.into(), self.nets.clone()))
    }
}

fn is_of_kind(key: &Key, row: &Row) -> bool {
    match (key, row) {
        (Key::Resource { kind, .. }, Row::Resource(resource)) => resource.kind() == *kind,
        (Key::Block(_), Row::Block(_)) | (Key::BlockAffinity { .. }, Row::BlockAffinity(_)) => true,
        _ => false,
    }
}

fn texts(map: &std::collections::BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    map.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

#[cfg(test)]
mod tests;

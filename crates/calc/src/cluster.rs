//! The whole cluster as rows, and what a node makes of it; for whoever wants to know rather than to program: `calicoctl
//! explain`, `policy plan`, `policy assert` and `policy reach`.
//!
//! A [`Cluster`] is filled with the rows of a datastore, or with the resources of a file. It can be cloned (rows are shared)
//! and changed, so that "before" and "after" are two clusters. [`Cluster::node_model`] runs the same [`Graph`] that the
//! node itself runs, over all rows, and keeps what it would program: policies, sets, endpoints, routes. From that
//! come the rule program ([`NodeModel::program`]) and with it the evaluator.
//!
//! ```
//! use calc::cluster::Cluster;
//! use calc::contract::{Direction, IpVersion};
//! use calc::evaluator::{Evaluator, Packet};
//!
//! let cluster = Cluster::default(); // `cluster.set(key, Some(row))` for every row
//! let model = cluster.node_model("node-1");
//! let program = model.program(IpVersion::V4);
//! let evaluator = Evaluator::new(&program, &model.sets);
//! let packet = Packet::tcp([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 80);
//! // An interface that nobody knows drops.
//! let outcome = evaluator.workload("cali1", Direction::Egress, &packet);
//! assert_eq!(outcome.decision, calc::evaluator::Decision::Deny);
//! ```

mod node_model;
mod place;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::kubernetes::Service;
use api::selector::Selector;
use api::{Key, Kind, Resource, Row};

use crate::{EndpointSlice, Graph, GraphConfig};
pub use node_model::NodeModel;
pub use place::{FindError, Found, HostPlace, Place, ServicePlace, WorkloadPlace};

/// Rows by key.
pub type Rows = BTreeMap<Key, Arc<Row>>;

/// Everything that decides what becomes of a packet.
#[derive(Debug, Clone, Default)]
pub struct Cluster {
    rows: Rows,
    /// By namespace and name: those that are no rows.
    slices: BTreeMap<(String, String), EndpointSlice>,
    /// By namespace and name; as the slices.
    services: BTreeMap<(String, String), Service>,
    /// As they came, for the ports' names.
    kubernetes_slices: BTreeMap<(String, String), api::kubernetes::EndpointSlice>,
}

impl Cluster {
    /// The kinds of resource that have a say. IPAM's blocks and block affinities do so too, for routes.
    pub const KINDS: [Kind; 16] = [
        Kind::BGPConfiguration,
        Kind::FelixConfiguration,
        Kind::GlobalNetworkPolicy,
        Kind::GlobalNetworkSet,
        Kind::HostEndpoint,
        Kind::IPPool,
        Kind::KubernetesEndpointSlice,
        Kind::NetworkPolicy,
        Kind::NetworkSet,
        Kind::Node,
        Kind::Profile,
        Kind::StagedGlobalNetworkPolicy,
        Kind::StagedKubernetesNetworkPolicy,
        Kind::StagedNetworkPolicy,
        Kind::Tier,
        Kind::WorkloadEndpoint,
    ];

    /// The row is this; `None`: it is not there.
    pub fn set(&mut self, key: Key, row: Option<Arc<Row>>) {
        match row {
            Some(row) => self.rows.insert(key, row),
            None => self.rows.remove(&key),
        };
    }

    /// Adds or replaces a resource.
    pub fn put(&mut self, resource: Resource) {
        self.set(resource.key(), Some(Arc::new(Row::Resource(resource))));
    }

    /// Adds or replaces a Kubernetes Service.
    pub fn put_service(&mut self, service: Service) {
        self.services.insert(identity(&service.metadata), service);
    }

    /// Adds or replaces a Kubernetes EndpointSlice. One that belongs to no service says nothing.
    pub fn put_endpoint_slice(&mut self, slice: api::kubernetes::EndpointSlice) {
        let key = identity(&slice.metadata);
        if let Some(reduced) = EndpointSlice::from_kubernetes(&slice) {
            self.slices.insert(key.clone(), reduced);
            self.kubernetes_slices.insert(key, slice);
        }
    }

    /// All rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// What a node makes of it, by the node's own calculation.
    pub fn node_model(&self, node: &str) -> NodeModel {
        self.model(node, |row| row.clone())
    }

    /// Policy as it is for all workload endpoints of the cluster: as if they were all on one node. Policy does not ask where a
    /// workload is, so this is what every node says of its own; routes mean nothing in it, and it has no host endpoints.
    pub fn policy_model(&self) -> NodeModel {
        const EVERYWHERE: &str = "(every node)";
        self.model(EVERYWHERE, |row| on_node(row, EVERYWHERE))
    }

    /// The workloads that a selector matches, by their labels and those of their namespaces and accounts.
    pub fn selected(&self, selector: &Selector) -> Vec<WorkloadPlace> {
        let matches = |endpoint: &&api::WorkloadEndpoint| selector.matches(&self.labels(endpoint));
        self.workloads().filter(matches).filter_map(WorkloadPlace::new).collect()
    }

    /// All labels of a workload endpoint; its own go before those of its profiles.
    fn labels(&self, endpoint: &api::WorkloadEndpoint) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for name in endpoint.spec.profiles.iter().rev() {
            let row = self.rows.get(&Key::cluster(Kind::Profile, name.as_str()));
            if let Some(Row::Resource(Resource::Profile(profile))) = row.map(|row| &**row) {
                labels.extend(profile.spec.labels_to_apply.clone());
            }
        }
        let namespace = endpoint.metadata.namespace.as_deref().unwrap_or_default();
        let own = crate::convert::workload_labels(endpoint, namespace);
        labels.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        labels
    }

    /// The node's calculation with all rows in it, in sync and not yet flushed.
    pub fn graph(&self, node: &str) -> Graph {
        self.changed_graph(node, |row| row.clone())
    }

    fn model(&self, node: &str, change: impl Fn(&Arc<Row>) -> Arc<Row>) -> NodeModel {
        NodeModel::new(node, &mut self.changed_graph(node, change))
    }

    fn changed_graph(&self, node: &str, change: impl Fn(&Arc<Row>) -> Arc<Row>) -> Graph {
        let mut graph = Graph::new(GraphConfig::new(node));
        for (key, row) in &self.rows {
            graph.on_update(key, Some(change(row)));
        }
        for ((namespace, name), slice) in &self.slices {
            graph.on_endpoint_slice(namespace, name, Some(slice.clone()));
        }
        graph.on_in_sync();
        graph
    }

    /// Every workload endpoint.
    pub fn workloads(&self) -> impl Iterator<Item = &api::WorkloadEndpoint> {
        self.resources(Kind::WorkloadEndpoint).filter_map(|resource| match resource {
            Resource::WorkloadEndpoint(endpoint) => Some(&**endpoint),
            _ => None,
        })
    }

    /// The nodes with their addresses, IPv4 first.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, Vec<IpAddr>)> {
        self.resources(Kind::Node).filter_map(|resource| match resource {
            Resource::Node(node) => {
                let fact = crate::convert::node(&node.spec);
                let others = fact.addresses.iter().copied();
                let mut addresses: Vec<IpAddr> = fact.bgp.iter().map(ipnet::IpNet::addr).collect();
                addresses.extend(others.filter(|address| !fact.bgp.iter().any(|net| net.addr() == *address)));
                Some((node.metadata.name.as_str(), addresses))
            }
            _ => None,
        })
    }

    /// All resources of a kind, in the order of their keys.
    pub fn resources(&self, kind: Kind) -> impl Iterator<Item = &Resource> {
        self.rows.iter().filter_map(move |(key, row)| match (key, &**row) {
            (Key::Resource { kind: of, .. }, Row::Resource(resource)) if *of == kind => Some(resource),
            _ => None,
        })
    }
}

fn identity(metadata: &api::Metadata) -> (String, String) {
    let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    (namespace.unwrap_or("default").to_owned(), metadata.name.clone())
}

/// The row, with its workload endpoint on another node.
fn on_node(row: &Arc<Row>, node: &str) -> Arc<Row> {
    let moved = match &**row {
        Row::Resource(Resource::WorkloadEndpoint(endpoint)) => {
            let mut endpoint = endpoint.clone();
            endpoint.spec.node = node.to_owned();
            Resource::WorkloadEndpoint(endpoint)
        }
        _ => return row.clone(),
    };
    Arc::new(Row::Resource(moved))
}

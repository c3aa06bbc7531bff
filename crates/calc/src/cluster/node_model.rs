//! What one node makes of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::contract::{
    Change, HostEndpoint, IpSetId, IpVersion, Policy, PolicyId, Pool, Profile, ProfileId, Route,
    WorkloadEndpoint, WorkloadEndpointId,
};
use crate::evaluator::IpSets;
use crate::program::{Program, failsafe};
use crate::{Graph, Problem};

/// The desired state of a node, whole.
#[derive(Debug, Clone, Default)]
pub struct NodeModel {
    /// The node.
    pub node: Arc<str>,
    /// The policies that apply to one of its endpoints, staged ones included.
    pub policies: BTreeMap<PolicyId, Arc<Policy>>,
    /// The profiles that one of its endpoints names.
    pub profiles: BTreeMap<ProfileId, Arc<Profile>>,
    /// Its workload endpoints.
    pub workloads: BTreeMap<WorkloadEndpointId, Arc<WorkloadEndpoint>>,
    /// Its host endpoints.
    pub hosts: BTreeMap<Arc<str>, Arc<HostEndpoint>>,
    /// The sets that the rules look into.
    pub sets: IpSets,
    /// What those sets stand for, in words.
    pub set_meanings: BTreeMap<IpSetId, String>,
    /// Where destinations are.
    pub routes: BTreeMap<IpNet, Arc<Route>>,
    /// The IP pools.
    pub pools: BTreeMap<IpNet, Pool>,
    /// The addresses of all nodes.
    pub nodes: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// The networks of Services: what nobody took there goes no further (`serviceLoopPrevention`).
    pub service_networks: BTreeSet<IpNet>,
    /// The Felix parameters that the datastore sets for the node.
    pub parameters: BTreeMap<String, String>,
    /// Parts of rows that cannot be used.
    pub problems: Vec<Problem>,
}

impl NodeModel {
    /// What a graph that has all rows says.
    pub(super) fn new(node: &str, graph: &mut Graph) -> Self {
        let mut model = Self { node: node.into(), ..Self::default() };
        graph.flush().into_iter().for_each(|change| model.take(change));
        model.set_meanings = graph.set_meanings();
        model.problems = graph.take_problems();
        model
    }

    /// The rule program of a family: policies, profiles, endpoints and failsafe ports.
    pub fn program(&self, version: IpVersion) -> Program {
        let mut program = Program::new(version);
        self.policies.iter().for_each(|(id, policy)| program.set_policy(id, policy));
        self.profiles.iter().for_each(|(id, profile)| program.set_profile(id, profile));
        self.workloads.values().for_each(|endpoint| program.set_workload(endpoint));
        self.hosts.iter().for_each(|(name, endpoint)| program.set_host(name, endpoint));
        let ports = |name, default: fn() -> _| {
            let set = self.parameter(name).and_then(|value| failsafe::parse_ports(value).ok());
            set.unwrap_or_else(default)
        };
        let inbound = ports("FailsafeInboundHostPorts", failsafe::inbound_ports);
        let outbound = ports("FailsafeOutboundHostPorts", failsafe::outbound_ports);
        program.set_failsafe(&inbound, &outbound);
        program
    }

    /// A Felix parameter of the datastore, by its name in any case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        parameters.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The most specific destination that an address lies in, and where it is.
    pub fn route_to(&self, address: IpAddr) -> Option<(IpNet, &Route)> {
        longest(&self.routes, address).map(|(net, route)| (net, &**route))
    }

    /// The most specific pool that an address lies in.
    pub fn pool_of(&self, address: IpAddr) -> Option<(IpNet, Pool)> {
        longest(&self.pools, address).map(|(net, pool)| (net, *pool))
    }

    fn take(&mut self, change: Change) {
        self.sets.on_change(&change);
        match change {
            Change::PolicyUpdate { id, policy } => drop(self.policies.insert(id, policy)),
            Change::ProfileUpdate { id, profile } => drop(self.profiles.insert(id, profile)),
            Change::WorkloadEndpointUpdate { id, endpoint } => drop(self.workloads.insert(id, endpoint)),
            Change::HostEndpointUpdate { name, endpoint } => drop(self.hosts.insert(name, endpoint)),
            Change::RouteUpdate { destination, route } => drop(self.routes.insert(destination, route)),
            Change::PoolUpdate { cidr, pool } => drop(self.pools.insert(cidr, pool)),
            Change::HostUpdate { node, addresses } => drop(self.nodes.insert(node, addresses)),
            Change::ServiceNetworksUpdate { networks } => self.service_networks = networks,
            Change::ConfigUpdate { parameters } => self.parameters = parameters,
            // Sets were taken in above; a graph that is flushed once removes nothing.
            Change::IpSetUpdate { .. }
            | Change::IpSetDelta { .. }
            | Change::IpSetRemove { .. }
            | Change::PolicyRemove { .. }
            | Change::ProfileRemove { .. }
            | Change::WorkloadEndpointRemove { .. }
            | Change::HostEndpointRemove { .. }
            | Change::RouteRemove { .. }
            | Change::PoolRemove { .. }
            | Change::HostRemove { .. }
            | Change::InSync => {}
        }
    }
}

/// The entry of the longest network that holds an address.
fn longest<T>(nets: &BTreeMap<IpNet, T>, address: IpAddr) -> Option<(IpNet, &T)> {
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let mut nets_of = (0..=longest).rev().filter_map(|length| IpNet::new(address, length).ok());
    nets_of.find_map(|net| nets.get_key_value(&net.trunc()).map(|(net, value)| (*net, value)))
}

//! What the calculation wants on this node: the contract's objects, as the changes left them. Memory only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use calc::contract::{
    HostEndpoint, Policy, PolicyId, Pool, Profile, ProfileId, WorkloadEndpoint, WorkloadEndpointId,
};
use ipnet::IpNet;

/// The objects of the contract that managers look at.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) policies: BTreeMap<PolicyId, Arc<Policy>>,
    pub(crate) profiles: BTreeMap<ProfileId, Arc<Profile>>,
    pub(crate) hosts: BTreeMap<Arc<str>, Arc<HostEndpoint>>,
    pub(crate) pools: BTreeMap<IpNet, Pool>,
    pub(crate) nodes: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// Where the addresses of Services are.
    pub(crate) service_networks: BTreeSet<IpNet>,
    /// Addresses of the host's own interfaces.
    pub(crate) addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    workloads: BTreeMap<WorkloadEndpointId, Arc<WorkloadEndpoint>>,
    /// Endpoints by interface. More than one on an interface is a fault of the datastore; the first by identity has it.
    interfaces: BTreeMap<Arc<str>, BTreeSet<WorkloadEndpointId>>,
}

/// What a change of an endpoint is about.
pub(crate) struct Concerned {
    /// Its interfaces.
    pub(crate) interfaces: BTreeSet<Arc<str>>,
    /// One of them has, or had, an endpoint that may send from other addresses than its own.
    pub(crate) may_spoof: bool,
    /// One of them has, or had, an endpoint whose traffic is marked.
    pub(crate) marks: bool,
}

impl Model {
    /// Puts in or takes out an endpoint.
    pub(crate) fn set_workload(
        &mut self,
        id: WorkloadEndpointId,
        endpoint: Option<Arc<WorkloadEndpoint>>,
    ) -> Concerned {
        let old = self.workloads.get(&id);
        let interfaces: BTreeSet<_> =
            old.into_iter().chain(&endpoint).map(|endpoint| endpoint.interface.clone()).collect();
        let (could_spoof, did_mark) = (self.may_spoof(&interfaces), self.marks(&interfaces));
        if let Some(old) = self.workloads.remove(&id)
            && let Some(ids) = self.interfaces.get_mut(&old.interface)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.interfaces.remove(&old.interface);
            }
        }
        if let Some(endpoint) = endpoint {
            self.interfaces.entry(endpoint.interface.clone()).or_default().insert(id.clone());
            self.workloads.insert(id, endpoint);
        }
        let may_spoof = could_spoof || self.may_spoof(&interfaces);
        Concerned { may_spoof, marks: did_mark || self.marks(&interfaces), interfaces }
    }

    /// Every endpoint.
    pub(crate) fn workloads(&self) -> &BTreeMap<WorkloadEndpointId, Arc<WorkloadEndpoint>> {
        &self.workloads
    }

    /// The endpoint that has an interface.
    pub(crate) fn on_interface(
        &self,
        interface: &str,
    ) -> Option<(&WorkloadEndpointId, &Arc<WorkloadEndpoint>)> {
        let id = self.interfaces.get(interface)?.first()?;
        self.workloads.get_key_value(id)
    }

    fn may_spoof(&self, interfaces: &BTreeSet<Arc<str>>) -> bool {
        let endpoints = interfaces.iter().filter_map(|interface| self.on_interface(interface));
        endpoints
            .map(|(_, endpoint)| endpoint)
            .any(|endpoint| !endpoint.allow_spoofed_source_prefixes.is_empty())
    }

    fn marks(&self, interfaces: &BTreeSet<Arc<str>>) -> bool {
        let endpoints = interfaces.iter().filter_map(|interface| self.on_interface(interface));
        endpoints.map(|(_, endpoint)| endpoint).any(|endpoint| endpoint.qos.dscp.is_some())
    }

    /// The interfaces that have an endpoint.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.interfaces.keys()
    }
}

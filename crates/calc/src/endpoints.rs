//! The endpoints of this node, and what the dataplane hears of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::contract::{HostEndpoint, ProfileId, WorkloadEndpoint, WorkloadEndpointId};
use crate::ip_sets::{IpSets, ItemKey};
use crate::policies::{EndpointTiers, Policies};
use crate::profiles::Profiles;
use crate::published::{Differences, Published};
use crate::slab::Slab;

/// A local endpoint; its tiers are not filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LocalEndpoint {
    Workload(WorkloadEndpointId, WorkloadEndpoint),
    Host(Arc<str>, HostEndpoint),
}

impl LocalEndpoint {
    fn profiles(&self) -> &[ProfileId] {
        match self {
            Self::Workload(_, endpoint) => &endpoint.profiles,
            Self::Host(_, endpoint) => &endpoint.profiles,
        }
    }
}

/// What a flush of the endpoints found.
#[derive(Debug)]
pub(crate) struct EndpointDifferences {
    pub(crate) workloads: Differences<WorkloadEndpointId, Arc<WorkloadEndpoint>>,
    pub(crate) hosts: Differences<Arc<str>, Arc<HostEndpoint>>,
}

/// The local endpoints. Their numbers are those that [`Policies`] knows them by.
#[derive(Debug, Default)]
pub(crate) struct LocalEndpoints {
    numbers: BTreeMap<ItemKey, u32>,
    endpoints: Slab<LocalEndpoint>,
    workloads: Published<WorkloadEndpointId, Arc<WorkloadEndpoint>>,
    hosts: Published<Arc<str>, Arc<HostEndpoint>>,
}

/// The parts of the graph that follow the local endpoints.
pub(crate) struct Followers<'a> {
    pub(crate) policies: &'a mut Policies,
    pub(crate) profiles: &'a mut Profiles,
    pub(crate) sets: &'a mut IpSets,
}

impl LocalEndpoints {
    /// Adds or changes an endpoint.
    pub(crate) fn set<'a>(
        &mut self,
        key: ItemKey,
        endpoint: LocalEndpoint,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        followers: Followers<'_>,
    ) {
        let Followers { policies, profiles, sets } = followers;
        let known = self.numbers.get(&key).copied();
        let old = known.and_then(|number| self.endpoints.get(number)).cloned();
        endpoint.profiles().iter().for_each(|profile| profiles.acquire(profile, sets));
        old.iter().flat_map(LocalEndpoint::profiles).for_each(|profile| profiles.release(profile, sets));
        self.withdraw_renamed(old.as_ref(), &endpoint);
        let names: Vec<Arc<str>> = endpoint.profiles().iter().map(|profile| profile.0.clone()).collect();
        let number = match known.and_then(|number| Some((number, self.endpoints.get_mut(number)?))) {
            Some((number, slot)) => {
                *slot = endpoint;
                number
            }
            None => {
                let number = self.endpoints.insert(endpoint);
                self.numbers.insert(key, number);
                number
            }
        };
        policies.set_endpoint(number, labels, names.iter().map(|name| &**name), sets);
    }

    /// Removes an endpoint, if it is one of ours.
    pub(crate) fn remove(&mut self, key: &ItemKey, followers: Followers<'_>) {
        let Followers { policies, profiles, sets } = followers;
        let Some(number) = self.numbers.remove(key) else { return };
        policies.remove_endpoint(number, sets);
        let Some(endpoint) = self.endpoints.remove(number) else { return };
        endpoint.profiles().iter().for_each(|profile| profiles.release(profile, sets));
        match endpoint {
            LocalEndpoint::Workload(id, _) => self.workloads.set(id, None),
            LocalEndpoint::Host(name, _) => self.hosts.set(name, None),
        }
    }

    /// Endpoints that changed, with their tiers, and those that are gone.
    pub(crate) fn flush(&mut self, policies: &mut Policies) -> EndpointDifferences {
        for (number, tiers) in policies.take_dirty_endpoints() {
            if let Some(endpoint) = self.endpoints.get(number).cloned() {
                self.publish(endpoint, tiers);
            }
        }
        EndpointDifferences { workloads: self.workloads.drain(), hosts: self.hosts.drain() }
    }

    pub(crate) fn size(&self) -> usize {
        self.numbers.len() + self.endpoints.len() + self.workloads.len() + self.hosts.len()
    }

    /// A row that stays the same row may still come to describe a workload of another name.
    fn withdraw_renamed(&mut self, old: Option<&LocalEndpoint>, new: &LocalEndpoint) {
        if let (Some(LocalEndpoint::Workload(old, _)), LocalEndpoint::Workload(new, _)) = (old, new)
            && old != new
        {
            self.workloads.set(old.clone(), None);
        }
    }

    fn publish(&mut self, endpoint: LocalEndpoint, tiers: EndpointTiers) {
        match endpoint {
            LocalEndpoint::Workload(id, endpoint) => {
                let endpoint = WorkloadEndpoint { tiers: tiers.normal, ..endpoint };
                self.workloads.set(id, Some(Arc::new(endpoint)));
            }
            LocalEndpoint::Host(name, endpoint) => {
                let endpoint = HostEndpoint {
                    tiers: tiers.normal,
                    untracked_tiers: tiers.untracked,
                    pre_dnat_tiers: tiers.pre_dnat,
                    forward_tiers: tiers.forward,
                    ..endpoint
                };
                self.hosts.set(name, Some(Arc::new(endpoint)));
            }
        }
    }
}

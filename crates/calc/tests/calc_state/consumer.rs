//! A strict receiver of changes: it refuses whatever a dataplane could not carry out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use calc::contract::*;
use ipnet::IpNet;

/// What the changes add up to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Consumer {
    pub(crate) sets: BTreeMap<IpSetId, BTreeSet<IpSetMember>>,
    pub(crate) policies: BTreeMap<PolicyId, Arc<Policy>>,
    pub(crate) profiles: BTreeMap<ProfileId, Arc<Profile>>,
    pub(crate) workloads: BTreeMap<WorkloadEndpointId, Arc<WorkloadEndpoint>>,
    pub(crate) hosts: BTreeMap<Arc<str>, Arc<HostEndpoint>>,
    pub(crate) routes: BTreeMap<IpNet, Arc<Route>>,
    pub(crate) pools: BTreeMap<IpNet, Pool>,
    pub(crate) service_networks: BTreeSet<IpNet>,
    pub(crate) nodes: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    pub(crate) parameters: BTreeMap<String, String>,
    in_sync: bool,
}

impl Consumer {
    /// # Panics
    /// When the change refers to what is not there, removes what is referred to or not there, or changes nothing.
    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::IpSetUpdate { id, members, .. } => {
                assert_ne!(self.sets.insert(id, members.clone()), Some(members))
            }
            Change::IpSetDelta { id, added, removed } => self.apply_delta(&id, &added, &removed),
            Change::IpSetRemove { id } => {
                let rules =
                    self.policies.values().flat_map(|policy| policy.inbound.iter().chain(&policy.outbound));
                let of_profiles = self.profiles.values().flat_map(|of| of.inbound.iter().chain(&of.outbound));
                assert!(
                    !rules.chain(of_profiles).any(|rule| set_ids(rule).any(|other| *other == id)),
                    "{id}"
                );
                assert!(self.sets.remove(&id).is_some());
            }
            Change::PolicyUpdate { id, policy } => {
                self.check_rules(policy.inbound.iter().chain(&policy.outbound));
                assert_ne!(self.policies.insert(id, policy.clone()), Some(policy));
            }
            Change::PolicyRemove { id } => {
                assert!(
                    !self.tiers().any(|tier| tier
                        .ingress
                        .iter()
                        .chain(&tier.egress)
                        .any(|other| *other == id))
                );
                assert!(self.policies.remove(&id).is_some());
            }
            Change::ProfileUpdate { id, profile } => {
                self.check_rules(profile.inbound.iter().chain(&profile.outbound));
                assert_ne!(self.profiles.insert(id, profile.clone()), Some(profile));
            }
            Change::ProfileRemove { id } => {
                let of_workloads = self.workloads.values().flat_map(|endpoint| &endpoint.profiles);
                let of_hosts = self.hosts.values().flat_map(|endpoint| &endpoint.profiles);
                assert!(!of_workloads.chain(of_hosts).any(|other| *other == id));
                assert!(self.profiles.remove(&id).is_some());
            }
            Change::WorkloadEndpointUpdate { id, endpoint } => {
                assert_ne!(self.workloads.insert(id, endpoint.clone()), Some(endpoint.clone()));
                self.check_endpoint(&endpoint.profiles);
            }
            Change::WorkloadEndpointRemove { id } => assert!(self.workloads.remove(&id).is_some()),
            Change::HostEndpointUpdate { name, endpoint } => {
                assert_ne!(self.hosts.insert(name, endpoint.clone()), Some(endpoint.clone()));
                self.check_endpoint(&endpoint.profiles);
            }
            Change::HostEndpointRemove { name } => assert!(self.hosts.remove(&name).is_some()),
            Change::RouteUpdate { destination, route } => {
                assert_ne!(self.routes.insert(destination, route.clone()), Some(route));
            }
            Change::RouteRemove { destination } => assert!(self.routes.remove(&destination).is_some()),
            Change::PoolUpdate { cidr, pool } => assert_ne!(self.pools.insert(cidr, pool), Some(pool)),
            Change::PoolRemove { cidr } => assert!(self.pools.remove(&cidr).is_some()),
            Change::HostUpdate { node, addresses } => {
                assert_ne!(self.nodes.insert(node, addresses.clone()), Some(addresses));
            }
            Change::HostRemove { node } => assert!(self.nodes.remove(&node).is_some()),
            Change::ServiceNetworksUpdate { networks } => {
                assert_ne!(std::mem::replace(&mut self.service_networks, networks.clone()), networks);
            }
            Change::ConfigUpdate { parameters } => self.parameters = parameters,
            Change::InSync => assert!(!std::mem::replace(&mut self.in_sync, true)),
        }
    }

    fn apply_delta(&mut self, id: &IpSetId, added: &[IpSetMember], removed: &[IpSetMember]) {
        let members = self.sets.get_mut(id).unwrap_or_else(|| panic!("a delta for {id}, which is not there"));
        assert!(!added.is_empty() || !removed.is_empty());
        for member in removed {
            assert!(members.remove(member), "{id} loses {member:?}, which it does not have");
        }
        for member in added {
            assert!(members.insert(*member), "{id} gains {member:?}, which it has");
        }
        assert!(!removed.iter().any(|member| added.contains(member)));
    }

    fn check_rules<'a>(&self, rules: impl Iterator<Item = &'a Rule>) {
        for id in rules.flat_map(set_ids) {
            assert!(self.sets.contains_key(id), "a rule refers to {id}, which is not there");
        }
    }

    fn check_endpoint(&self, profiles: &[ProfileId]) {
        assert!(profiles.iter().all(|profile| self.profiles.contains_key(profile)));
        let policies = self.tiers().flat_map(|tier| tier.ingress.iter().chain(&tier.egress));
        for policy in policies {
            assert!(self.policies.contains_key(policy), "an endpoint refers to {policy}, which is not there");
        }
    }

    fn tiers(&self) -> impl Iterator<Item = &Tier> {
        let of_hosts = self.hosts.values().flat_map(|endpoint| {
            let kinds = [
                &endpoint.tiers,
                &endpoint.untracked_tiers,
                &endpoint.pre_dnat_tiers,
                &endpoint.forward_tiers,
            ];
            kinds.into_iter().flatten()
        });
        self.workloads.values().flat_map(|endpoint| &endpoint.tiers).chain(of_hosts)
    }
}

fn set_ids(rule: &Rule) -> impl Iterator<Item = &IpSetId> {
    [&rule.source, &rule.destination].into_iter().flat_map(|side| {
        let lists = [
            &side.named_port_sets,
            &side.not_named_port_sets,
            &side.ip_sets,
            &side.not_ip_sets,
            &side.ip_port_sets,
        ];
        lists.into_iter().flatten()
    })
}

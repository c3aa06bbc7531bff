//! Builders of contract objects, for unit and integration tests.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::collections::BTreeSet;
use std::sync::Arc;

use calc::contract::*;

/// A global policy's identity.
pub fn policy_id(name: &str) -> PolicyId {
    PolicyId { kind: PolicyKind::GlobalNetworkPolicy, namespace: None, name: name.into() }
}

/// A rule without conditions.
pub fn rule(action: Action) -> Rule {
    let id = RuleId { owner: RuleOwner::Policy(policy_id("?")), direction: Direction::Ingress, index: 0 };
    Rule::new(id, action)
}

/// A rule for a protocol and a destination port.
pub fn to_port(action: Action, protocol: u8, port: u16) -> Rule {
    let ports = vec![PortRange { min: port, max: port }];
    let destination = EntityMatch { ports, ..EntityMatch::default() };
    Rule { protocol: Some(protocol), destination, ..rule(action) }
}

/// A rule for sources in a set.
pub fn from_set(action: Action, set: &str) -> Rule {
    let source = EntityMatch { ip_sets: vec![IpSetId(set.into())], ..EntityMatch::default() };
    Rule { source, ..rule(action) }
}

fn numbered(rules: Vec<Rule>, owner: &RuleOwner, direction: Direction) -> Vec<Rule> {
    let number = |(index, rule): (usize, Rule)| Rule {
        id: RuleId { owner: owner.clone(), direction, index: u32::try_from(index).unwrap() },
        ..rule
    };
    rules.into_iter().enumerate().map(number).collect()
}

/// A policy of the default tier.
pub fn policy(name: &str, inbound: Vec<Rule>, outbound: Vec<Rule>) -> Change {
    let id = policy_id(name);
    let owner = RuleOwner::Policy(id.clone());
    let policy = Policy {
        tier: "default".into(),
        inbound: numbered(inbound, &owner, Direction::Ingress),
        outbound: numbered(outbound, &owner, Direction::Egress),
        untracked: false,
        pre_dnat: false,
        apply_on_forward: false,
        rechecks: false,
    };
    Change::PolicyUpdate { id, policy: Arc::new(policy) }
}

/// A profile.
pub fn profile(name: &str, inbound: Vec<Rule>, outbound: Vec<Rule>) -> Change {
    let id = ProfileId(name.into());
    let owner = RuleOwner::Profile(id.clone());
    let profile = Profile {
        inbound: numbered(inbound, &owner, Direction::Ingress),
        outbound: numbered(outbound, &owner, Direction::Egress),
    };
    Change::ProfileUpdate { id, profile: Arc::new(profile) }
}

/// The profile that allows everything.
pub fn open_profile() -> Change {
    profile("open", vec![rule(Action::Allow)], vec![rule(Action::Allow)])
}

/// A tier's policies of both directions.
pub fn tier(name: &str, default_action: TierDefault, ingress: &[&str], egress: &[&str]) -> Tier {
    let ids = |names: &[&str]| names.iter().map(|name| policy_id(name)).collect();
    Tier { name: name.into(), default_action, ingress: ids(ingress), egress: ids(egress) }
}

/// Identity of a container's endpoint.
pub fn endpoint_id(name: &str) -> WorkloadEndpointId {
    WorkloadEndpointId { orchestrator: "cni".into(), workload: name.into(), endpoint: "eth0".into() }
}

/// A workload endpoint with the profile `open`.
pub fn workload(interface: &str, address: &str, tiers: Vec<Tier>) -> WorkloadEndpoint {
    WorkloadEndpoint {
        active: true,
        interface: interface.into(),
        mac: None,
        ipv4_nets: vec![format!("{address}/32").parse().unwrap()],
        ipv6_nets: Vec::new(),
        tiers,
        profiles: vec![ProfileId("open".into())],
        allow_spoofed_source_prefixes: Vec::new(),
        qos: Qos::default(),
    }
}

/// The change that brings an endpoint.
pub fn endpoint(name: &str, endpoint: WorkloadEndpoint) -> Change {
    Change::WorkloadEndpointUpdate { id: endpoint_id(name), endpoint: Arc::new(endpoint) }
}

/// A set of addresses and networks.
pub fn net_set(id: &str, nets: &[&str]) -> Change {
    let members: BTreeSet<IpSetMember> = nets.iter().map(|net| net_member(net)).collect();
    Change::IpSetUpdate { id: IpSetId(id.into()), kind: IpSetKind::Net, members }
}

/// A member of such a set.
pub fn net_member(net: &str) -> IpSetMember {
    IpSetMember::Net(net.parse().unwrap())
}

/// A change of members.
pub fn delta(id: &str, removed: &[&str], added: &[&str]) -> Change {
    let members = |nets: &[&str]| nets.iter().map(|net| net_member(net)).collect();
    Change::IpSetDelta { id: IpSetId(id.into()), added: members(added), removed: members(removed) }
}

/// Felix parameters from the datastore.
pub fn parameters(pairs: &[(&str, &str)]) -> Change {
    let parameters = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Change::ConfigUpdate { parameters }
}

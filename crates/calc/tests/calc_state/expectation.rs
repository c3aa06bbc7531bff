//! What a vector says of a state and what a consumer has, in one form: texts that can be compared and shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calc::contract::*;
use ipnet::IpNet;
use serde_json::Value;

use crate::adapter::NAMESPACE;
use crate::consumer::Consumer;

/// One text for each fact.
pub(crate) type Facts = BTreeSet<String>;

/// What a vector's `then` says.
pub(crate) fn of(then: &Value) -> Facts {
    let mut facts = Facts::new();
    for (id, set) in entries(&then["ip_sets"]) {
        facts.insert(set_fact(id, items(&set["members"]).map(member_text).collect()));
    }
    for (name, label) in [
        ("active_policies", "policy"),
        ("untracked_policies", "untracked policy"),
        ("pre_dnat_policies", "preDNAT policy"),
        ("active_profiles", "profile"),
    ] {
        facts.extend(items(&then[name]).map(|id| format!("{label} {}", id.as_str().unwrap())));
    }
    for (name, label) in [("endpoint_tiers", "tiers"), ("endpoint_untracked_tiers", "untracked tiers")] {
        for (id, tiers) in entries(&then[name]) {
            let tiers: Vec<String> = items(tiers).map(expected_tier).collect();
            facts.extend(
                (label == "tiers" || !tiers.is_empty()).then(|| format!("{label} of {id}: {tiers:?}")),
            );
        }
    }
    facts.extend(items(&then["routes"]).map(expected_route));
    facts.extend(items(&then["host_metadata"]).flat_map(expected_host));
    facts
        .extend(entries(&then["encapsulation"]).filter(|(_, on)| **on == true).map(|(kind, _)| kind.clone()));
    facts
}

/// What a consumer has, as far as it can be compared with what is expected.
pub(crate) fn seen_beside(consumer: &Consumer, expected: &Facts) -> Facts {
    let mut facts = seen(consumer);
    for host in consumer.nodes.keys() {
        let any = any_address(host);
        if expected.contains(&any) {
            facts.retain(|fact| !fact.starts_with(&format!("host {host} ")));
            facts.insert(any);
        }
    }
    facts
}

/// What a consumer has.
pub(crate) fn seen(consumer: &Consumer) -> Facts {
    let mut facts = Facts::new();
    for (id, members) in &consumer.sets {
        facts.insert(set_fact(&id.0, members.iter().map(seen_member).collect()));
    }
    for (id, policy) in &consumer.policies {
        facts.insert(format!("policy {id}"));
        facts.extend(policy.untracked.then(|| format!("untracked policy {id}")));
        facts.extend(policy.pre_dnat.then(|| format!("preDNAT policy {id}")));
    }
    facts.extend(consumer.profiles.keys().map(|id| format!("profile {id}")));
    for (id, endpoint) in &consumer.workloads {
        let workload = id.workload.strip_prefix(&format!("{NAMESPACE}/")).unwrap();
        let id = format!("{}/{workload}/{}", id.orchestrator, id.endpoint);
        facts.insert(format!("tiers of {id}: {:?}", seen_tiers(&endpoint.tiers)));
    }
    for (name, endpoint) in &consumer.hosts {
        facts.insert(format!("tiers of {name}: {:?}", seen_tiers(&endpoint.tiers)));
        let untracked = seen_tiers(&endpoint.untracked_tiers);
        facts.extend((!untracked.is_empty()).then(|| format!("untracked tiers of {name}: {untracked:?}")));
    }
    facts.extend(consumer.routes.iter().map(|(destination, route)| seen_route(*destination, route)));
    for (node, addresses) in &consumer.nodes {
        facts.extend(addresses.iter().map(|address| format!("host {node} {address}")));
    }
    facts.extend(encapsulation(consumer));
    facts
}

fn set_fact(id: &str, members: BTreeSet<String>) -> String {
    format!("set {id}: {members:?}")
}

/// A canonical spelling: the vectors write some IPv6 addresses at length.
fn member_text(member: &Value) -> String {
    let text = member.as_str().unwrap();
    match text.split_once(',') {
        Some((address, port)) => format!("{},{port}", address.parse::<IpAddr>().unwrap()),
        None => text.parse::<IpNet>().unwrap().to_string(),
    }
}

fn seen_member(member: &IpSetMember) -> String {
    match member {
        IpSetMember::Net(net) => net.to_string(),
        IpSetMember::NetPort { net, protocol, port } => {
            let protocol = BTreeMap::from([(6, "tcp"), (17, "udp"), (132, "sctp")])[protocol];
            format!("{},{protocol}:{port}", net.addr())
        }
    }
}

fn expected_tier(tier: &Value) -> String {
    let list = |name: &str| items(&tier[name]).map(|id| id.as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (ingress, egress) = (list("ingressPolicies"), list("egressPolicies"));
    format!("{} in {ingress:?} out {egress:?}", tier["name"].as_str().unwrap())
}

fn seen_tiers(tiers: &[Tier]) -> Vec<String> {
    let list = |ids: &[PolicyId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let tier =
        |tier: &Tier| format!("{} in {:?} out {:?}", tier.name, list(&tier.ingress), list(&tier.egress));
    tiers.iter().map(tier).collect()
}

/// A route as text; without a type it is a whole pool.
fn expected_route(route: &Value) -> String {
    let types: BTreeSet<String> =
        items(&route["types"]).map(|word| word.as_str().unwrap().to_owned()).collect();
    let flag = |name: &str| route[name] == true;
    let address = route["dstNodeIp"].as_str().map(|text| text.parse::<IpAddr>().unwrap());
    route_text(RouteText {
        destination: route["dst"].as_str().unwrap().parse().unwrap(),
        types,
        pool: route["ipPoolType"].as_str(),
        nat: flag("natOutgoing"),
        node: route["dstNodeName"].as_str(),
        address,
        flags: [flag("sameSubnet"), flag("localWorkload"), flag("borrowed")],
    })
}

fn seen_route(destination: IpNet, route: &Route) -> String {
    let name = |kind: &RouteType| match kind {
        RouteType::CidrInfo => None,
        RouteType::RemoteWorkload => Some("remote_workload"),
        RouteType::LocalWorkload => Some("local_workload"),
        RouteType::RemoteHost => Some("remote_host"),
        RouteType::LocalHost => Some("local_host"),
        RouteType::RemoteTunnel => Some("remote_tunnel"),
        RouteType::LocalTunnel => Some("local_tunnel"),
    };
    let pool = route.pool.map(|pool| match (pool.ipip, pool.vxlan) {
        (EncapMode::Never, EncapMode::Never) => "no_encap",
        (EncapMode::Never, _) => "vxlan",
        _ => "ipip",
    });
    route_text(RouteText {
        destination,
        types: route.types.iter().filter_map(name).map(str::to_owned).collect(),
        pool,
        nat: route.pool.is_some_and(|pool| pool.nat_outgoing),
        node: route.node.as_deref(),
        address: route.node_address,
        flags: [route.same_subnet, route.local_workload, route.borrowed],
    })
}

#[derive(Debug)]
#[expect(dead_code, reason = "compared and shown through Debug")]
struct RouteText<'a> {
    destination: IpNet,
    types: BTreeSet<String>,
    pool: Option<&'a str>,
    nat: bool,
    node: Option<&'a str>,
    address: Option<IpAddr>,
    /// same subnet, local workload, borrowed
    flags: [bool; 3],
}

fn route_text(route: RouteText<'_>) -> String {
    format!("{route:?}")
}

/// A host's addresses. The model leaves an address without a prefix length out of its metadata (but not out of its routes);
/// such a host may have any address here.
fn expected_host(host: &Value) -> Vec<String> {
    let name = host["hostname"].as_str().unwrap();
    let addresses = ["ipv4Addr", "ipv6Addr"].into_iter().filter_map(|field| host[field].as_str());
    let addresses: Vec<IpNet> = addresses.map(|text| text.parse().unwrap()).collect();
    match addresses.is_empty() {
        true => vec![any_address(name)],
        false => addresses.iter().map(|net| format!("host {name} {}", net.addr())).collect(),
    }
}

fn any_address(host: &str) -> String {
    format!("host {host} with any address")
}

fn encapsulation(consumer: &Consumer) -> Vec<String> {
    let any = |v6: bool, mode: fn(&Pool) -> EncapMode| {
        let mut pools = consumer.pools.iter().filter(|(cidr, _)| cidr.addr().is_ipv6() == v6);
        pools.any(|(_, pool)| mode(pool) != EncapMode::Never)
    };
    let kinds = [
        ("ipipEnabled", any(false, |pool| pool.ipip)),
        ("vxlanEnabled", any(false, |pool| pool.vxlan)),
        ("vxlanEnabledV6", any(true, |pool| pool.vxlan)),
    ];
    kinds.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

//! The vectors of `bgp-config.jsonl`: sessions, identifier, listening, originated prefixes, routes to peers, and what the
//! policies of peers and kernel make of sample routes.

mod probes;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::kubernetes;
use api::{AffinityOwner, Key, Kind, Row};
use calc::bgp_plan::{
    BgpPlan, BgpPlanner, NextHop, OriginatedKind, PasswordRef, Peer, PeerSource, RouterIdSource, Service,
    ServiceEndpoints, Tunnels,
};
use ipnet::IpNet;
use serde_json::{Value, json};
use testkit::vectors::{Case, Runner};

#[test]
fn plans_are_what_the_vectors_say() {
    Runner::new("bgp-config.jsonl").suite("bgp.config", check).run();
}

fn check(case: &Case) -> Result<(), String> {
    let plan = planner(case).plan();
    if case.then["session_count"].is_object() {
        let count = |v6| plan.peers.iter().filter(|peer| peer.address.is_ipv6() == v6).count();
        return compare(
            "ipv4 session count",
            json!(count(false)),
            case.then["session_count"]["ipv4"].clone(),
        );
    }
    let secrets = &case.given["secrets"];
    compare("sessions", set(plan.peers.iter().map(|peer| session(peer, &plan, secrets))), sessions(case))?;
    compare("router id", json!(plan.router_id), case.then["router_id"].clone())?;
    compare("originated", prefixes(&plan), set(items(&case.then["originated"])))?;
    compare("listen", listen(&plan), case.then["listen"].clone())?;
    let routes =
        plan.static_routes.iter().map(|route| json!({"prefix": route.destination, "via": route.gateway}));
    let expected = set(case.then["routes_to_peers"].as_array().unwrap().iter().cloned());
    compare("routes to peers", set(routes), expected)?;
    let excluded: Vec<String> = plan.excluded_interfaces.iter().map(ToString::to_string).collect();
    let expected = &case.then["direct_interfaces_excluded"];
    compare("direct_interfaces_excluded", json!(excluded), expected.clone())?;
    probes::check(case, &plan)
}

fn compare(what: &str, ours: Value, theirs: Value) -> Result<(), String> {
    if ours == theirs {
        return Ok(());
    }
    let (Some(ours), Some(theirs)) = (ours.as_array(), theirs.as_array()) else {
        return Err(format!("{what}: {ours} instead of {theirs}"));
    };
    let extra: Vec<_> = ours.iter().filter(|item| !theirs.contains(item)).collect();
    let missing: Vec<_> = theirs.iter().filter(|item| !ours.contains(item)).collect();
    Err(format!("{what}: missing {missing:?}, unexpected {extra:?}"))
}

/// Rows in reverse order: the plan does not depend on it.
fn planner(case: &Case) -> BgpPlanner {
    let node = case.given["node"].as_str().unwrap();
    let router_id = match case.given["env"]["CALICO_ROUTER_ID"].as_str() {
        None | Some("") => RouterIdSource::NodeAddress,
        Some("hash") => RouterIdSource::NameHash,
        Some(literal) => RouterIdSource::Literal(literal.parse().unwrap()),
    };
    let mut planner = BgpPlanner::new(node, router_id).with_tunnels(Tunnels::ALL);
    for object in case.given["kubernetes"].as_array().into_iter().flatten() {
        on_kubernetes(&mut planner, object);
    }
    let mut rows = Vec::new();
    for affinity in case.given["block_affinities"].as_array().unwrap() {
        let key = Key::BlockAffinity {
            owner: AffinityOwner::Host(affinity["node"].as_str().unwrap().to_owned()),
            cidr: affinity["cidr"].as_str().unwrap().parse().unwrap(),
        };
        rows.push((key, json!({"state": affinity["state"]})));
    }
    for resource in case.given["resources"].as_array().unwrap() {
        let kind = Kind::from_word(resource["kind"].as_str().unwrap()).unwrap();
        rows.push((Key::cluster(kind, resource["metadata"]["name"].as_str().unwrap()), readable(resource)));
    }
    for status in case.given["endpoint_status"].as_array().into_iter().flatten() {
        rows.push(workload(node, status));
    }
    for (key, document) in rows.into_iter().rev() {
        let row =
            Row::decode(&key, &document.to_string()).unwrap_or_else(|error| panic!("{error}: {document}"));
        planner.on_update(&key, Some(Arc::new(row)));
    }
    planner
}

fn on_kubernetes(planner: &mut BgpPlanner, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap();
    match object["kind"].as_str().unwrap() {
        "Service" => {
            let service: kubernetes::Service = serde_json::from_value(object.clone()).unwrap();
            planner.on_service("default", name, Service::from_kubernetes(&service));
        }
        "EndpointSlice" => {
            let slice: kubernetes::EndpointSlice = serde_json::from_value(object.clone()).unwrap();
            planner.on_endpoints("default", name, ServiceEndpoints::from_kubernetes(&slice));
        }
        other => panic!("nothing is known of {other}"),
    }
}

/// The sources had unquoted words in their YAML, so some texts came out as booleans and numbers; and the peers of local
/// workloads are known by the endpoint status, which names them: see [`workload`].
fn readable(resource: &Value) -> Value {
    let mut resource = resource.clone();
    for value in
        resource["metadata"]["labels"].as_object_mut().into_iter().flat_map(|labels| labels.values_mut())
    {
        quote(value);
    }
    for advertisement in resource["spec"]["prefixAdvertisements"].as_array_mut().into_iter().flatten() {
        advertisement["communities"].as_array_mut().into_iter().flatten().for_each(community);
    }
    if resource["spec"].is_null() {
        resource["spec"] = json!({});
    }
    if resource["spec"]["localWorkloadSelector"].is_string() {
        let name = resource["metadata"]["name"].as_str().unwrap();
        resource["spec"]["localWorkloadSelector"] = json!(format!("peer == '{name}'"));
    }
    resource
}

fn quote(value: &mut Value) {
    if !value.is_string() {
        *value = json!(value.to_string());
    }
}

/// Without quotes, `5663:12` is a number to base 60 in YAML 1.1.
fn community(value: &mut Value) {
    if let Some(number) = value.as_u64() {
        *value = json!(format!("{}:{}", number / 60, number % 60));
    }
}

fn workload(node: &str, status: &Value) -> (Key, Value) {
    let interface = status["ifaceName"].as_str().unwrap();
    let nets: Vec<&Value> =
        ["ipv4Nets", "ipv6Nets"].into_iter().flat_map(|field| status[field].as_array().unwrap()).collect();
    let document = json!({
        "metadata": {"name": interface, "namespace": "default", "labels": {"peer": status["bgpPeerName"]}},
        "spec": {"node": node, "interfaceName": interface, "ipNetworks": nets},
    });
    (Key::namespaced(Kind::WorkloadEndpoint, "default", interface), document)
}

fn session(peer: &Peer, plan: &BgpPlan, secrets: &Value) -> Value {
    let kind = match &peer.source {
        PeerSource::Mesh { .. } => "mesh",
        PeerSource::Global { .. } => "global-peer",
        PeerSource::Node { .. } => "node-peer",
        PeerSource::LocalWorkload { .. } => "local-workload",
    };
    let next_hop = match peer.next_hop {
        NextHop::Auto => "default",
        NextHop::Own => "self",
        NextHop::Keep => "keep",
    };
    json!({
        "family": family(peer.address),
        "kind": kind,
        "peer": peer.address,
        "port": peer.port,
        "local_as": peer.local_as,
        "remote_as": peer.remote_as,
        "source": peer.source_address,
        "passive": peer.passive,
        "ttl_security": peer.ttl_security.is_some(),
        "multihop": peer.ttl_security.map_or(json!(true), |hops| json!(hops)),
        "rr_client": peer.reflector_client,
        "cluster_id": plan.cluster_id.filter(|_| peer.reflector_client),
        "next_hop": next_hop,
        "password": peer.password.as_ref().and_then(|reference| secret(reference, secrets)),
        "graceful_restart_time": peer.restart_time.map(|time| time.as_secs()),
        "allow_local_as": peer.allow_local_as,
    })
}

fn secret<'a>(reference: &PasswordRef, secrets: &'a Value) -> Option<&'a Value> {
    let secret = secrets.as_array()?.iter().find(|secret| secret["name"] == reference.name)?;
    secret["data"].get(&reference.key)
}

/// The vector's sessions, without what is the same for all of them.
fn sessions(case: &Case) -> Value {
    set(case.then["sessions"].as_array().unwrap().iter().map(|session| {
        let mut session = session.clone();
        let fields = session.as_object_mut().unwrap();
        for constant in ["add_path", "graceful_restart"] {
            assert_eq!(fields.remove(constant), Some(json!(true)));
        }
        session["peer"] = json!(session["peer"].as_str().unwrap().parse::<IpAddr>().unwrap());
        session
    }))
}

fn prefixes(plan: &BgpPlan) -> Value {
    let is_static = |kind| matches!(kind, OriginatedKind::Block | OriginatedKind::Service);
    let all = plan.originate.iter().filter(|(_, originated)| is_static(originated.kind));
    set(all.map(|(prefix, _): (&IpNet, _)| json!(prefix)))
}

fn items(by_family: &Value) -> impl Iterator<Item = Value> {
    ["ipv4", "ipv6"].into_iter().flat_map(|family| by_family[family].as_array().cloned().unwrap_or_default())
}

/// Nothing when all is as by default.
fn listen(plan: &BgpPlan) -> Value {
    if plan.listen.port == 179 && plan.listen.addresses.is_empty() {
        return json!({});
    }
    let mut listen = json!({"ipv4": {"port": plan.listen.port}, "ipv6": {"port": plan.listen.port}});
    for address in &plan.listen.addresses {
        listen[family(*address)]["address"] = json!(address);
    }
    listen
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "ipv6" } else { "ipv4" }
}

/// As a list without order.
fn set(values: impl Iterator<Item = Value>) -> Value {
    let texts: BTreeSet<String> = values.map(|value| value.to_string()).collect();
    json!(texts)
}

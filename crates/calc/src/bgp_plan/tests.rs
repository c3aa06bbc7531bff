mod changes;
mod filters;
mod services;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

use api::{AffinityOwner, Key, Kind, Row};
use bgp::config::{Aggregate, Bfd, StationConfig, StationView};
use bgp::policy::{Route, RouteAttributes, SourceMatch};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::*;

fn set(planner: &mut BgpPlanner, key: &Key, document: Option<Value>) {
    let row = document.map(|document| Arc::new(Row::decode(key, &document.to_string()).unwrap()));
    planner.on_update(key, row);
}

fn node(name: &str) -> Key {
    Key::cluster(Kind::Node, name)
}

fn affinity(owner: &str, cidr: &str) -> Key {
    Key::BlockAffinity { owner: AffinityOwner::Host(owner.to_owned()), cidr: cidr.parse().unwrap() }
}

fn pod(name: &str) -> Key {
    Key::namespaced(Kind::WorkloadEndpoint, "ns", name)
}

fn pod_document(node: &str, address: &str) -> Value {
    let spec = json!({"node": node, "interfaceName": "cali1", "ipNetworks": [format!("{address}/32")]});
    json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})
}

fn resource(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Two nodes, a pool, and a block for each of the nodes.
fn planner() -> BgpPlanner {
    let mut planner = BgpPlanner::new("n1", RouterIdSource::NodeAddress);
    for (name, address) in [("n1", "10.0.0.1/24"), ("n2", "10.0.0.2/24")] {
        let document = resource(name, &json!({"bgp": {"ipv4Address": address}}));
        set(&mut planner, &node(name), Some(document));
    }
    let pool = resource("pool", &json!({"cidr": "192.168.0.0/16"}));
    set(&mut planner, &Key::cluster(Kind::IPPool, "pool"), Some(pool));
    set(&mut planner, &affinity("n1", "192.168.0.0/26"), Some(json!({"state": "confirmed"})));
    set(&mut planner, &affinity("n2", "192.168.1.0/26"), Some(json!({"state": "confirmed"})));
    planner
}

/// What the first peer is told.
fn announced(planner: &BgpPlanner) -> Vec<String> {
    let plan = planner.plan();
    plan.announced(&plan.peers[0]).into_keys().map(|prefix| prefix.to_string()).collect()
}

#[test]
fn the_default_is_a_mesh_in_which_the_lesser_address_waits() {
    let plan = planner().plan();
    assert_eq!((plan.local_as, plan.router_id), (64512, Some("10.0.0.1".parse().unwrap())));
    let [peer] = &plan.peers[..] else { panic!("{:?}", plan.peers) };
    assert_eq!(peer.source, PeerSource::Mesh { node: "n2".to_owned() });
    assert_eq!((peer.address.to_string().as_str(), peer.port, peer.passive), ("10.0.0.2", 179, true));
}

#[test]
fn own_blocks_and_addresses_outside_of_them_are_announced() {
    let mut planner = planner();
    set(&mut planner, &pod("in-block"), Some(pod_document("n1", "192.168.0.5")));
    set(&mut planner, &pod("borrowed"), Some(pod_document("n1", "192.168.1.5")));
    set(&mut planner, &pod("elsewhere"), Some(pod_document("n2", "192.168.1.6")));
    set(&mut planner, &pod("no-pool"), Some(pod_document("n1", "172.16.0.1")));
    set(&mut planner, &affinity("n1", "192.168.2.0/26"), Some(json!({"state": "pending"})));
    set(&mut planner, &affinity("n1", "192.168.3.7/32"), Some(json!({"state": "confirmed"})));
    set(&mut planner, &pod("block-of-one"), Some(pod_document("n1", "192.168.3.7")));
    assert_eq!(announced(&planner), ["192.168.0.0/26", "192.168.1.5/32", "192.168.3.7/32"]);
    assert_eq!(planner.plan().blocks.len(), 1);
}

#[test]
fn pools_that_are_not_exported_or_not_enabled_keep_addresses_back() {
    let mut planner = planner();
    set(&mut planner, &pod("borrowed"), Some(pod_document("n1", "192.168.1.5")));
    let pool = Key::cluster(Kind::IPPool, "pool");
    let document = |field: &str| resource("pool", &json!({"cidr": "192.168.0.0/16", field: true}));
    set(&mut planner, &pool, Some(document("disabled")));
    assert_eq!(announced(&planner), ["192.168.0.0/26"]);
    set(&mut planner, &pool, Some(document("disableBGPExport")));
    assert_eq!(announced(&planner), [""; 0]);
}

#[test]
fn of_two_that_ask_for_a_session_the_more_special_counts() {
    let mut planner = planner();
    let global = resource("g", &json!({"peerIP": "10.0.0.2", "asNumber": 64512, "filters": ["global"]}));
    set(&mut planner, &Key::cluster(Kind::BGPPeer, "g"), Some(global));
    let own =
        resource("o", &json!({"node": "n1", "peerIP": "10.0.0.2", "asNumber": 64512, "filters": ["own"]}));
    set(&mut planner, &Key::cluster(Kind::BGPPeer, "o"), Some(own));
    let plan = planner.plan();
    assert_eq!(plan.peers.len(), 1);
    assert_eq!((&plan.peers[0].filters[..], plan.peers[0].passive), (&["own".to_owned()][..], false));
}

#[test]
fn a_path_is_watched_only_where_a_peer_asks_for_it() {
    let watched = |bfd: Value| {
        let mut planner = planner();
        let spec = json!({"peerIP": "10.0.0.9", "asNumber": 64600, "bfd": bfd});
        set(&mut planner, &Key::cluster(Kind::BGPPeer, "tor"), Some(resource("tor", &spec)));
        let plan = planner.plan();
        let of =
            |address: &str| plan.peers.iter().find(|peer| peer.address.to_string() == address).unwrap().bfd;
        assert_eq!(of("10.0.0.2"), None, "the mesh");
        of("10.0.0.9")
    };
    assert_eq!(watched(json!(null)), None);
    assert_eq!(watched(json!({})), Some(Bfd::default()));
    let all = json!({"interval": "50ms", "multiplier": 5, "multihop": true, "strict": true});
    let interval = Duration::from_millis(50);
    assert_eq!(watched(all), Some(Bfd { multihop: true, interval, multiplier: 5, strict: true }));
}

#[test]
fn a_session_carries_the_families_that_are_asked_for_and_each_has_its_own_rules() {
    let mut planner = planner();
    let document =
        resource("n1", &json!({"bgp": {"ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64"}}));
    set(&mut planner, &node("n1"), Some(document));
    let pool = resource("six", &json!({"cidr": "fd65::/64"}));
    set(&mut planner, &Key::cluster(Kind::IPPool, "six"), Some(pool));
    set(&mut planner, &affinity("n1", "fd65::/122"), Some(json!({"state": "confirmed"})));
    let filter = resource("no-six", &json!({"exportV6": [{"action": "Reject"}]}));
    set(&mut planner, &Key::cluster(Kind::BGPFilter, "no-six"), Some(filter));
    let mut told = |families: &[&str], filters: &[&str]| {
        let spec = json!({"peerIP": "10.0.0.2", "asNumber": 64512, "families": families, "filters": filters});
        set(&mut planner, &Key::cluster(Kind::BGPPeer, "p"), Some(resource("p", &spec)));
        announced(&planner)
    };
    assert_eq!(told(&[], &[]), ["192.168.0.0/26"]);
    assert_eq!(told(&["IPv6"], &[]), ["fd65::/122"]);
    assert_eq!(told(&["IPv4", "IPv6"], &[]), ["192.168.0.0/26", "fd65::/122"]);
    assert_eq!(told(&["IPv6", "IPv4"], &["no-six"]), ["192.168.0.0/26"]);
}

#[test]
fn a_second_number_of_our_as_is_for_peers_in_it() {
    let mut planner = planner();
    let mut peer = |as_number: u32| {
        let spec = json!({"peerIP": "10.0.0.2", "asNumber": as_number, "aliasASNumber": 64999});
        set(&mut planner, &Key::cluster(Kind::BGPPeer, "p"), Some(resource("p", &spec)));
        let plan = planner.plan();
        let config = plan.speaker_config(&Nothing).0.unwrap();
        let aliases: Vec<Option<u32>> =
            config.peers.values().map(|peer| peer.alias_as.map(|asn| asn.0)).collect();
        (aliases, plan.problems.iter().any(|problem| problem.field == "spec.aliasASNumber"))
    };
    assert_eq!(peer(64512), (vec![Some(64999)], false));
    assert_eq!(peer(7), (vec![None], true));
}

#[test]
fn an_ipv6_node_has_an_identifier_only_when_told_how() {
    let document = resource("n1", &json!({"bgp": {"ipv6Address": "fd00::1/64"}}));
    for (source, expected) in [
        (RouterIdSource::NodeAddress, false),
        (RouterIdSource::NameHash, true),
        (RouterIdSource::Literal("1.2.3.4".parse().unwrap()), true),
    ] {
        let mut planner = BgpPlanner::new("n1", source);
        set(&mut planner, &node("n1"), Some(document.clone()));
        let id = planner.plan().router_id;
        assert_eq!(id.is_some(), expected);
        assert!(id.is_none_or(|id| !id.is_multicast()));
    }
}

#[test]
fn a_plan_comes_out_only_when_it_differs() {
    let mut planner = planner();
    assert!(planner.flush().is_some());
    assert!(planner.flush().is_none());
    let document = resource("n2", &json!({"bgp": {"ipv4Address": "10.0.0.2/24"}, "orchRefs": []}));
    set(&mut planner, &node("n2"), Some(document));
    set(&mut planner, &pod("remote"), Some(pod_document("n2", "192.168.1.6")));
    assert!(planner.flush().is_none());
    set(&mut planner, &node("n2"), None);
    assert_eq!(planner.flush().unwrap().peers, []);
}

#[test]
fn workloads_that_come_and_go_change_what_is_originated_and_nothing_else() {
    let mut planner = planner();
    let before = planner.flush().unwrap();
    set(&mut planner, &pod("p"), Some(pod_document("n1", "192.168.0.5")));
    let with = planner.flush().unwrap();
    assert_eq!(with, planner.plan());
    assert_eq!(with.peers, before.peers);
    assert_eq!(with.originate.len(), before.originate.len() + 1);
    set(&mut planner, &pod("p"), None);
    assert_eq!(planner.flush(), Some(before));
}

struct Nothing;

impl Passwords for Nothing {
    fn password(&self, _: &PasswordRef) -> Result<Option<bgp::config::Secret>, String> {
        Ok(None)
    }
}

#[test]
fn stations_are_those_of_the_node_or_else_of_all_that_its_labels_are_asked_for_by() {
    let named = |planner: &mut BgpPlanner, name: &str, stations: Value| {
        let document = resource(name, &json!({"bmpStations": stations}));
        set(planner, &Key::cluster(Kind::BGPConfiguration, name), Some(document));
    };
    let mut planner = planner();
    let before = planner.plan();
    let (here, there) = (
        json!({"address": "10.0.0.9"}),
        json!({"address": "10.0.0.9", "port": 1, "nodeSelector": "x == 'y'"}),
    );
    named(&mut planner, "default", json!([here, there]));
    let plan = planner.plan();
    let names: Vec<&str> = plan.stations.keys().map(String::as_str).collect();
    assert_eq!(names, ["10.0.0.9:11019"]);
    let changes = PlanChanges::between(&before, &plan);
    assert_eq!(changes.stations_added, ["10.0.0.9:11019"]);
    assert_eq!(PlanChanges { stations_added: Vec::new(), ..changes }, PlanChanges::default());

    let own =
        json!({"address": "2001:db8::9", "port": 1790, "views": ["LocRIB"], "statisticsInterval": "5s"});
    named(&mut planner, "node.n1", json!([own]));
    let config = planner.plan().speaker_config(&Nothing).0.unwrap();
    let expected = StationConfig {
        address: "[2001:db8::9]:1790".parse().unwrap(),
        views: [StationView::LocRib].into(),
        statistics: Some(Duration::from_secs(5)),
    };
    let name = "[2001:db8::9]:1790".to_owned();
    assert_eq!((config.stations, config.name.as_str()), ([(name, expected)].into(), "n1"));
}

#[test]
fn aggregates_are_those_of_the_node_or_else_of_all_and_pass_every_export() {
    let mut planner = planner();
    let spec = json!({"peerIP": "10.0.0.2", "asNumber": 7});
    set(&mut planner, &Key::cluster(Kind::BGPPeer, "p"), Some(resource("p", &spec)));
    let before = planner.plan();
    let mut configure = |name: &str, aggregates: Value| {
        let document = resource(name, &json!({"aggregates": aggregates}));
        set(&mut planner, &Key::cluster(Kind::BGPConfiguration, name), Some(document));
        planner.plan()
    };
    let plan = configure("default", json!([{"cidr": "172.16.0.0/12", "summaryOnly": true}]));
    let config = plan.speaker_config(&Nothing).0.unwrap();
    let prefix: IpNet = "172.16.0.0/12".parse().unwrap();
    let expected = Aggregate { summary_only: true, internal: false, local_pref: Some(2_147_482_623) };
    assert_eq!(config.aggregates, [(prefix, expected)].into());
    let changes = PlanChanges::between(&before, &plan);
    assert_eq!(changes.aggregates_added, [prefix]);
    assert!(
        changes.sessions.iter().all(|change| matches!(change.effect, SessionEffect::InPlace(_))),
        "{changes:?}"
    );
    let attributes = RouteAttributes::default();
    let told = |prefix: &str, source| {
        let route = Route {
            prefix: prefix.parse().unwrap(),
            source,
            peer: Some(bgp::packet::PeerKind::External),
            next_hop: None,
            interface: None,
            attributes: &attributes,
        };
        plan.peers[0].export.evaluate(&route).is_some()
    };
    // Whichever pools it is about; but not what somebody else tells of that prefix, nor what lies in it.
    assert!(told("172.16.0.0/12", SourceMatch::Local));
    assert!(!told("172.16.0.0/12", SourceMatch::Learned));
    assert!(!told("172.16.1.0/24", SourceMatch::Local));
    let plan = configure("node.n1", json!([{"cidr": "10.0.0.0/8", "internalPeers": true}]));
    assert_eq!(plan.aggregates.keys().map(IpNet::to_string).collect::<Vec<_>>(), ["10.0.0.0/8"]);
}

#[test]
fn it_is_empty_when_everything_has_been_removed() {
    let mut planner = planner();
    set(&mut planner, &pod("p"), Some(pod_document("n1", "192.168.1.5")));
    for key in [
        node("n1"),
        node("n2"),
        Key::cluster(Kind::IPPool, "pool"),
        affinity("n1", "192.168.0.0/26"),
        pod("p"),
    ] {
        set(&mut planner, &key, None);
    }
    assert_eq!(planner.size(), 0);
}

/// Eight nodes that are beyond their full mesh.
fn reflecting(own: &str) -> BgpPlanner {
    let mut planner = BgpPlanner::new(own, RouterIdSource::NodeAddress);
    let spec = json!({"routeReflection": {"meshLimit": 7}});
    set(&mut planner, &Key::cluster(Kind::BGPConfiguration, "default"), Some(resource("default", &spec)));
    for number in 1..=8 {
        let name = format!("n{number}");
        let spec = json!({"bgp": {"ipv4Address": format!("10.0.0.{number}/24")}});
        set(&mut planner, &node(&name), Some(resource(&name, &spec)));
    }
    planner
}

fn by_role(role: ReflectionRole) -> Vec<String> {
    let names = (1..=8).map(|number| format!("n{number}"));
    names.filter(|name| reflecting(name).plan().reflection.unwrap().role == role).collect()
}

#[test]
fn beyond_the_mesh_both_ends_of_a_session_agree_on_it() {
    let reflectors = by_role(ReflectionRole::Reflector);
    assert_eq!(reflectors.len(), 3);
    for client in by_role(ReflectionRole::Client) {
        let plan = reflecting(&client).plan();
        assert_eq!(plan.peers.len(), 2, "{client}");
        for peer in &plan.peers {
            let PeerSource::Mesh { node } = &peer.source else { panic!("{peer:?}") };
            assert!(reflectors.contains(node) && !peer.passive && !peer.reflector_client);
            let theirs = reflecting(node).plan();
            let back = theirs.peers.iter().find(|back| back.address == plan.addresses[0]).unwrap();
            assert!(back.passive && back.reflector_client && !back.on_demand);
        }
    }
    // Reflectors peer with each other, and take the clients for which they stand by.
    let plan = reflecting(&reflectors[0]).plan();
    assert_eq!(plan.peers.iter().filter(|peer| !peer.reflector_client).count(), 2);
    assert_eq!(plan.peers.len(), 7);
    assert_eq!(plan.reflection.unwrap().wanted.len(), 7);
}

#[test]
fn without_the_field_nothing_is_chosen_and_nothing_kept() {
    let mut planner = reflecting("n1");
    set(
        &mut planner,
        &Key::cluster(Kind::BGPConfiguration, "default"),
        Some(resource("default", &json!({}))),
    );
    let plan = planner.flush().unwrap();
    assert_eq!((plan.reflection, plan.peers.len()), (None, 7));
    planner.on_sessions(SessionFeedback { settled: Some(0), ..SessionFeedback::default() });
    assert_eq!(planner.flush(), None);
}

#[test]
fn a_session_stays_until_what_replaces_it_has_settled_or_it_is_idle() {
    let client = by_role(ReflectionRole::Client).remove(0);
    let mut planner = reflecting(&client);
    set(&mut planner, &node("n8"), None);
    let mesh = planner.flush().unwrap();
    let eighth = resource("n8", &json!({"bgp": {"ipv4Address": "10.0.0.8/24"}}));
    assert_ne!(client, "n8");
    assert_eq!((mesh.reflection.unwrap().role, mesh.peers.len()), (ReflectionRole::Mesh, 6));
    set(&mut planner, &node("n8"), Some(eighth));
    let plan = planner.flush().unwrap();
    let reflection = plan.reflection.unwrap();
    let extra: Vec<_> =
        plan.peers.iter().filter(|peer| !reflection.wanted.contains_key(&peer.address)).collect();
    assert!(extra.len() >= 4 && extra.iter().all(|peer| peer.on_demand), "{extra:?}");
    // One of them is not up: nobody needs it any more.
    let idle = std::collections::BTreeSet::from([extra[0].address]);
    planner.on_sessions(SessionFeedback { idle, ..SessionFeedback::default() });
    assert_eq!(planner.flush().unwrap().peers.len(), plan.peers.len() - 1);
    // What settled before does not count.
    let settled = |generation| SessionFeedback { settled: Some(generation), ..SessionFeedback::default() };
    planner.on_sessions(settled(reflection.generation - 1));
    assert_eq!(planner.flush(), None);
    planner.on_sessions(settled(reflection.generation));
    assert_eq!(planner.flush().unwrap().peers.len(), 2);
}

#[test]
fn a_client_dials_who_stands_by_while_its_reflector_is_down() {
    let client = by_role(ReflectionRole::Client).remove(0);
    let mut planner = reflecting(&client);
    let first = planner.flush().unwrap().peers[0].address;
    let down = std::collections::BTreeSet::from([first]);
    planner.on_sessions(SessionFeedback { down, ..SessionFeedback::default() });
    let plan = planner.flush().unwrap();
    assert_eq!(plan.peers.len(), 3);
    assert!(plan.peers.iter().all(|peer| !peer.passive));
}

//! The apply loop on kernels in memory: order, retries, faults at every call, and no writes without need.

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, scene};
use calc::contract::*;
use calc::{Graph, GraphConfig};
use common::*;
use dataplane::ApplyError;
use kernel::address::InterfaceAddress;
use kernel::fake::Fault;
use kernel::monitor::Event;
use kernel::netlink::Errno;
use kernel::nft::TableId;
use serde_json::json;
use testkit::clusters::Generator;
use testkit::objects::{self, Rows};

#[test]
fn nothing_is_touched_before_the_datastore_is_in_sync() {
    let mut bench = Bench::new();
    let mut changes = scene();
    changes.pop();
    bench.dataplane.set_blocks(["10.65.0.0/26".parse().unwrap()]);
    let report = bench.play(changes);
    assert!(report.waiting_for_sync);
    assert_eq!((bench.nft.calls(), bench.kernel.calls()), (0, 0));
    let report = bench.play([Change::InSync]);
    assert_eq!(report.programmed, [endpoint_id("one"), endpoint_id("two")]);
    assert_eq!(bench.routes().len(), 3, "{:?}", bench.routes());
}

#[test]
fn without_news_an_apply_makes_no_call_and_a_look_only_asks_for_the_generation() {
    let mut bench = Bench::new();
    bench.play(scene());
    bench.settle();
    let (nft, commits, kernel) = (bench.nft.calls(), bench.nft.commits(), bench.kernel.calls());
    bench.apply();
    assert_eq!((bench.nft.calls(), bench.kernel.calls()), (nft, kernel));
    // Both families have an IP set told again.
    let report = bench.play(scene().into_iter().take(6));
    assert!(report.errors.is_empty() && report.programmed.is_empty(), "{report:?}");
    assert_eq!((bench.nft.calls(), bench.kernel.calls()), (nft + 2, kernel));
    bench.dataplane.look_again(usize::MAX);
    bench.apply();
    assert!(bench.nft.calls() >= nft + 5);
    assert_eq!(bench.nft.commits(), commits);
}

#[test]
fn a_restarted_process_writes_nothing_where_all_is_as_it_should_be() {
    let mut bench = Bench::new();
    bench.play(scene());
    let (commits, tables, routes) = (bench.nft.commits(), bench.tables(), bench.routes());
    bench.restart();
    let report = bench.play(scene());
    assert_eq!(report.programmed.len(), 2);
    assert_eq!((bench.nft.commits(), bench.tables(), bench.routes()), (commits, tables, routes));
}

#[test]
fn where_the_rules_are_not_taken_no_workload_gets_a_route() {
    let mut bench = Bench::new();
    for call in 0..2 {
        bench.nft.fail_at(call, kernel::nft::Fault::Lost);
    }
    let report = bench.play(scene());
    assert!(
        matches!(report.errors[..], [ApplyError::Ruleset { .. }, ApplyError::Ruleset { .. }]),
        "{report:?}"
    );
    assert_eq!((report.ruleset_failures, report.programmed.len(), bench.routes().len()), (1, 0, 0));
    assert_eq!(report.next_apply, Some(bench.now + Duration::from_millis(100)));
    bench.nft.heal();
    bench.now += Duration::from_millis(100);
    let report = bench.apply();
    assert_eq!((report.ruleset_failures, report.programmed.len(), bench.routes().len()), (0, 2, 2));
}

#[test]
fn the_table_of_arp_holds_nobody_up() {
    let mut bench = Bench::new();
    bench.play(scene());
    let last = bench.nft.calls() - 1;
    let mut bench = Bench::new();
    bench.nft.fail_at(last, kernel::nft::Fault::Lost);
    let report = bench.play(scene());
    let arp = kernel::nft::Family::Arp;
    assert!(
        matches!(&report.errors[..], [ApplyError::Ruleset { family, .. }] if *family == arp),
        "{report:?}"
    );
    assert_eq!((report.programmed.len(), report.ruleset_failures), (2, 0));
    bench.settle();
    let table = bench.nft.state(&TableId::new(arp, "calico")).unwrap();
    assert_eq!(table.sets["cali-arp-own"].elements.len(), 2);
    bench.play([Change::WorkloadEndpointRemove { id: endpoint_id("one") }]);
    let table = bench.nft.state(&TableId::new(arp, "calico")).unwrap();
    assert_eq!(table.sets["cali-arp-own"].elements.len(), 1);
}

#[test]
fn an_endpoint_whose_interface_is_missing_waits_and_holds_nobody_up() {
    let mut bench = Bench::new();
    let report =
        bench.play(scene().into_iter().chain([endpoint("three", workload("cali3", "10.65.0.3", vec![]))]));
    assert_eq!(report.programmed, [endpoint_id("one"), endpoint_id("two")]);
    assert!(report.errors.is_empty(), "{report:?}");
    bench.kernel.add_link("cali3", true);
    let link = bench.kernel.current_links().into_iter().find(|link| link.name.as_str() == "cali3").unwrap();
    bench.dataplane.on_link(&link);
    assert_eq!(bench.apply().programmed, [endpoint_id("three")]);
    bench.kernel.remove_link(link.index);
    bench.dataplane.on_link_gone(link.index);
    assert_eq!(bench.apply().withdrawn, [endpoint_id("three")]);
}

#[test]
fn of_two_endpoints_on_one_interface_the_second_is_reported() {
    let mut bench = Bench::new();
    let report =
        bench.play(scene().into_iter().chain([endpoint("zzz", workload("cali1", "10.65.0.9", vec![]))]));
    let text = report.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(
        text,
        "endpoint cni/zzz/eth0: interface cali1 belongs to cni/one/eth0 already: delete one of them"
    );
    let report = bench.play([Change::WorkloadEndpointRemove { id: endpoint_id("one") }]);
    assert_eq!((report.programmed, report.withdrawn), (vec![endpoint_id("zzz")], vec![endpoint_id("one")]));
}

#[test]
fn an_impossible_interface_name_is_reported_and_holds_nobody_up() {
    let mut bench = Bench::new();
    let name = "cali-much-too-long-a-name";
    let report =
        bench.play(scene().into_iter().chain([endpoint("bad", workload(name, "10.65.0.9", vec![]))]));
    assert!(
        report.errors.iter().any(|error| matches!(error, ApplyError::InterfaceName { .. })),
        "{report:?}"
    );
    assert_eq!(report.programmed, [endpoint_id("one"), endpoint_id("two")]);
}

#[test]
fn a_set_that_changes_shape_is_replaced_in_one_transaction() {
    let mut bench = Bench::new();
    bench.play(scene());
    let commits = bench.nft.commits();
    let report = bench.play([delta("s:a", &[], &["10.66.0.0/16"])]);
    assert!(report.errors.is_empty(), "{report:?}");
    assert_eq!(bench.nft.commits(), commits + 1);
    let table = bench.nft.state(&TableId::new(kernel::nft::Family::Ip, "calico")).unwrap();
    assert!(table.sets.contains_key("cali40s-a-net") && !table.sets.contains_key("cali40s-a"));
}

#[test]
fn an_established_block_is_a_blackhole_of_bird_and_bgp_routes_are_kept_until_told() {
    let mut bench = Bench::new();
    bench.dataplane.set_blocks(["10.65.0.0/26".parse().unwrap()]);
    bench.play(scene());
    assert!(
        bench.routes().iter().any(|route| route == "blackhole 10.65.0.0/26 proto 12"),
        "{:?}",
        bench.routes()
    );
    bench.restart();
    bench.play(scene());
    assert!(bench.routes().iter().any(|route| route.starts_with("blackhole")), "swept too early");
    bench.dataplane.bgp_routes().allow_sweep();
    bench.apply();
    assert!(!bench.routes().iter().any(|route| route.starts_with("blackhole")), "{:?}", bench.routes());
}

/// The scene, a change of everything in it, and the state after.
fn dialled(pairs: &[(&str, &[&str])]) -> BTreeMap<Arc<str>, BTreeSet<IpAddr>> {
    let addresses = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect();
    pairs.iter().map(|(name, all)| (Arc::from(*name), addresses(all))).collect()
}

#[test]
fn an_address_to_dial_is_on_the_interfaces_of_endpoints_that_peer_and_goes_with_its_cause() {
    let mut bench = Bench::new();
    let index = |bench: &Bench, name: &str| {
        let links = bench.kernel.current_links();
        links.iter().find(|link| link.name.as_str() == name).unwrap().index
    };
    let (one, two) = (index(&bench, "cali1"), index(&bench, "cali2"));
    // An earlier process had another, on both.
    for link in [one, two] {
        bench.kernel.add_address(link, "169.254.0.1/32".parse().unwrap());
    }
    let shown = |bench: &Bench| -> Vec<String> {
        let all = bench.kernel.current_addresses().into_iter();
        all.map(|(link, net)| format!("{} {net}", if link == one { 1 } else { 2 })).collect()
    };
    bench.take(scene());
    let wanted = dialled(&[("cali1", &["169.254.0.179", "fdc9::1"]), ("cali9", &["169.254.0.179"])]);
    bench.dataplane.set_peering_addresses(wanted.clone());
    assert_eq!(bench.apply().programmed, [endpoint_id("one"), endpoint_id("two")]);
    assert_eq!(shown(&bench), ["1 169.254.0.179/32", "1 fdc9::1/128"]);
    // With the last address of a link the kernel forgets its routes.
    let both =
        ["10.65.0.1", "10.65.0.2"].map(|address| bench.routes().iter().any(|r| r.starts_with(address)));
    assert_eq!(both, [true, true], "{:?}", bench.routes());

    bench.settle();
    let calls = bench.kernel.calls();
    bench.dataplane.set_peering_addresses(wanted.clone());
    bench.apply();
    assert_eq!(bench.kernel.calls(), calls, "the same again is no news");

    bench.play([parameters(&[("Ipv6Support", "false")])]);
    assert_eq!(shown(&bench), ["1 169.254.0.179/32"]);
    bench.dataplane.set_peering_addresses(dialled(&[("cali2", &["169.254.0.180"])]));
    bench.settle();
    assert_eq!(shown(&bench), ["2 169.254.0.180/32"]);
    assert!(bench.routes().iter().any(|route| route.starts_with("10.65.0.1")), "{:?}", bench.routes());
    // Somebody else takes it away: the endpoint's routes come back, and so does the address.
    let address = "169.254.0.180/32".parse().unwrap();
    bench.kernel.remove_address(two, address);
    let gone = InterfaceAddress { index: two, address, scope: 253, tentative: false };
    bench.dataplane.on_event(&Event::AddressGone(gone));
    bench.settle();
    assert_eq!((shown(&bench).len(), bench.routes().len()), (1, 2), "{:?}", bench.routes());
    // The endpoint goes, its interface stays for the moment.
    bench.play([Change::WorkloadEndpointRemove { id: endpoint_id("two") }]);
    assert_eq!(shown(&bench), Vec::<String>::new());
}

/// In the order in which the kernel tells of it.
#[test]
fn an_interface_that_goes_takes_its_addresses_along_without_everything_being_read_back() {
    let mut bench = Bench::new();
    bench.play(scene());
    let link = bench.kernel.current_links().into_iter().find(|link| link.name.as_str() == "cali1").unwrap();
    let address = "169.254.0.179/32".parse().unwrap();
    let held = InterfaceAddress { index: link.index, address, scope: 253, tentative: false };
    bench.dataplane.set_peering_addresses(dialled(&[("cali1", &["169.254.0.179"])]));
    bench.apply();
    bench.dataplane.on_event(&Event::Address(held.clone()));
    bench.settle();
    bench.kernel.remove_link(link.index);
    let (calls, routes) = (bench.kernel.calls(), bench.routes());
    assert_eq!(routes.len(), 1, "the kernel has forgotten its route: {routes:?}");
    bench.dataplane.on_event(&Event::Link(kernel::link::Link { up: false, ..link.clone() }));
    bench.dataplane.on_event(&Event::AddressGone(held));
    bench.dataplane.on_event(&Event::LinkGone { index: link.index, name: link.name.clone() });
    bench.apply();
    assert_eq!((bench.kernel.calls(), bench.routes()), (calls, routes));
}

#[test]
fn an_endpoint_is_there_when_it_can_dial() {
    let mut bench = Bench::new();
    bench.play(scene());
    bench.settle();
    bench.dataplane.set_peering_addresses(dialled(&[("cali1", &["169.254.0.179"])]));
    bench.kernel.fail_after(0, Fault::Refuse(Errno::BUSY));
    // Whatever the first call is, in the end the address is there, and what failed has been said.
    let first = bench.apply();
    assert_eq!((first.withdrawn, first.errors.len()), (vec![endpoint_id("one")], 1));
    bench.settle();
    assert!(bench.dataplane.programmed(&endpoint_id("one")).is_some());
    assert_eq!(bench.kernel.current_addresses().len(), 1);
}

fn changed() -> Vec<Change> {
    vec![
        delta("s:a", &["10.65.0.2/32"], &["10.64.0.0/16"]),
        policy("web", vec![rule(Action::Pass), to_port(Action::Allow, 6, 80)], vec![]),
        endpoint(
            "two",
            workload("cali2", "10.65.0.22", vec![tier("default", TierDefault::Deny, &["web"], &["web"])]),
        ),
        Change::WorkloadEndpointRemove { id: endpoint_id("one") },
    ]
}

#[test]
fn a_fault_at_any_call_of_nf_tables_changes_nothing_in_the_end() {
    use kernel::nft::Fault;
    let mut undisturbed = Bench::new();
    undisturbed.play(scene());
    undisturbed.play(changed());
    undisturbed.settle();
    let calls = undisturbed.nft.calls();
    for fault in [Fault::Raced, Fault::Lost, Fault::AnswerLost, Fault::HandlesUnknown, Fault::EventsLost] {
        for call in 0..calls {
            let mut bench = Bench::new();
            bench.nft.fail_at(call, fault);
            bench.play(scene());
            bench.play(changed());
            bench.settle();
            assert_eq!(bench.tables(), undisturbed.tables(), "{fault:?} at call {call}");
            assert_eq!(bench.routes(), undisturbed.routes(), "{fault:?} at call {call}");
        }
    }
}

#[test]
fn a_fault_at_any_call_for_routes_and_settings_changes_nothing_in_the_end() {
    use kernel::fake::Fault;
    let mut undisturbed = Bench::new();
    undisturbed.play(scene());
    undisturbed.play(changed());
    undisturbed.settle();
    let calls = undisturbed.kernel.calls();
    for fault in [Fault::Refuse(kernel::netlink::Errno::NOBUFS), Fault::Lose] {
        for call in 0..calls {
            let mut bench = Bench::new();
            bench.kernel.fail_after(call, fault);
            bench.play(scene());
            bench.play(changed());
            bench.settle();
            assert_eq!(bench.routes(), undisturbed.routes(), "{fault:?} at call {call}");
            let proxy_arp = "net/ipv4/conf/cali2/proxy_arp";
            assert_eq!(bench.kernel.sysctl(proxy_arp).as_deref(), Some("1"), "{fault:?} at call {call}");
            assert!(bench.dataplane.programmed(&endpoint_id("two")).is_some(), "{fault:?} at call {call}");
        }
    }
}

/// Whatever way led there, the kernel has what a dataplane makes that only ever saw the last state.
#[test]
fn the_way_to_a_ruleset_does_not_matter() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut generator = Generator::new(seed);
    let mut cluster = generator.cluster();
    let (mut bench, mut graph, mut played) = (Bench::new(), new_graph(), Rows::new());
    for round in 0..60 {
        let rows = objects::rows(&json!(cluster.objects())).unwrap();
        for key in played.keys().filter(|key| !rows.contains_key(key)) {
            graph.on_update(key, None);
        }
        for (key, row) in rows.iter().filter(|(key, row)| played.get(key) != Some(row)) {
            graph.on_update(key, Some(row.clone()));
        }
        let mut fresh = (Bench::new(), new_graph());
        rows.iter().for_each(|(key, row)| fresh.1.on_update(key, Some(row.clone())));
        for (bench, graph) in [(&mut bench, &mut graph), (&mut fresh.0, &mut fresh.1)] {
            add_links(bench, &rows);
            let report = bench.play(graph.flush());
            assert!(report.errors.is_empty(), "round {round}: {:?}", report.errors);
        }
        assert_eq!(bench.tables(), fresh.0.tables(), "round {round}");
        assert_eq!(bench.routes(), fresh.0.routes(), "round {round}");
        played = rows;
        generator.mutate(&mut cluster);
    }
}

fn new_graph() -> Graph {
    let mut graph = Graph::new(GraphConfig::new(objects::NODE));
    graph.on_in_sync();
    graph
}

/// Every workload has its interface, from when it first appears.
fn add_links(bench: &mut Bench, rows: &Rows) {
    for row in rows.values() {
        let api::Row::Resource(api::Resource::WorkloadEndpoint(endpoint)) = &**row else { continue };
        let name = endpoint.spec.interface_name.as_str();
        if !bench.kernel.current_links().iter().any(|link| link.name.as_str() == name) {
            bench.kernel.add_link(name, true);
            let link = bench.kernel.current_links().pop().unwrap();
            bench.dataplane.on_link(&link);
        }
    }
}

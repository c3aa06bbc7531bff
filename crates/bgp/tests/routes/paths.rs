//! Several routes for a prefix: add-path (RFC 7911), routes used together, next hops that are near, far, or not there.

use std::net::Ipv4Addr;

use bgp::config::{AddPath, Multipath, SendPaths};
use bgp::packet::attribute::{AttributeValue, Community};
use bgp::packet::capability::{AddPathMode, Capability};
use bgp::{Family, Input, PeerConfig, Resolution, Start};

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

const PREFIX: &str = "203.0.113.0/24";

fn add_path(mode: AddPathMode) -> impl FnOnce(&mut Vec<Capability>) {
    let families = Family::ALL.map(|family| (family.into(), mode));
    move |capabilities| capabilities.push(Capability::AddPath(families.to_vec()))
}

/// e4, e5 and e6 are external, i2 is internal and takes several routes as configured.
fn sending(send: SendPaths) -> Bench {
    let mut internal = peer(2, OUR_AS);
    internal.add_path = AddPath { receive: false, send };
    let peers = [
        ("e4", peer(4, 65004)),
        ("e5", peer(5, 65005)),
        ("e6", peer(6, 65006)),
        ("i2", internal),
        ("i3", peer(3, OUR_AS)),
    ];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    ["e4", "e5", "e6", "i3"].iter().for_each(|name| bench.up(name));
    bench.up_with("i2", add_path(AddPathMode::Receive));
    bench
}

fn paths(bench: &Bench, name: &str) -> Vec<String> {
    let mut paths: Vec<String> = bench.probes[name].paths.values().map(|told| told.path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_peer_that_takes_several_routes_gets_all_of_them_and_others_the_best() {
    let mut bench = sending(SendPaths::All);
    bench.announce("e4", &[PREFIX], &[65004, 7], &[]);
    bench.announce("e5", &[PREFIX], &[65005], &[]);
    bench.announce("e6", &[PREFIX], &[65006, 7, 8], &[]);
    assert_eq!(paths(&bench, "i2"), ["65004 7", "65005", "65006 7 8"]);
    assert_eq!(bench.told("i3", PREFIX).unwrap().path(), "65005");
    bench.withdraw("e5", &[PREFIX]);
    assert_eq!(paths(&bench, "i2"), ["65004 7", "65006 7 8"]);
    assert_eq!(bench.told("i3", PREFIX).unwrap().path(), "65004 7");
    bench.lose("e4");
    bench.wait(std::time::Duration::from_secs(121));
    assert_eq!(paths(&bench, "i2"), ["65006 7 8"]);
}

#[test]
fn a_route_keeps_its_identifier_while_others_come_and_go() {
    let mut bench = sending(SendPaths::All);
    let id = |bench: &Bench, path: &str| {
        let paths = &bench.probes["i2"].paths;
        paths.iter().find(|(_, told)| told.path() == path).map(|((_, id), _)| *id).unwrap()
    };
    bench.announce("e4", &[PREFIX], &[65004], &[]);
    bench.announce("e5", &[PREFIX], &[65005], &[]);
    let before = id(&bench, "65005");
    let updates = bench.probes["i2"].updates;
    bench.withdraw("e4", &[PREFIX]);
    bench.announce("e6", &[PREFIX], &[65006], &[]);
    assert_eq!(id(&bench, "65005"), before);
    assert_eq!(bench.probes["i2"].updates, updates + 2, "the route that stays is not told again");
    bench.announce("e5", &[PREFIX], &[65005, 9], &[]);
    assert_eq!(id(&bench, "65005 9"), before, "other attributes, the same route");
}

#[test]
fn as_many_of_the_best_are_sent_as_wanted() {
    let mut bench = sending(SendPaths::Best(2));
    bench.announce("e4", &[PREFIX], &[65004, 7, 8, 9], &[]);
    bench.announce("e5", &[PREFIX], &[65005], &[]);
    assert_eq!(paths(&bench, "i2"), ["65004 7 8 9", "65005"]);
    bench.announce("e6", &[PREFIX], &[65006, 7], &[]);
    assert_eq!(paths(&bench, "i2"), ["65005", "65006 7"]);
    bench.withdraw("e5", &[PREFIX]);
    assert_eq!(paths(&bench, "i2"), ["65004 7 8 9", "65006 7"]);
}

#[test]
fn of_the_routes_with_one_next_hop_the_best_is_sent_and_another_takes_its_place_before_it_goes() {
    let mut internal = peer(2, OUR_AS);
    internal.add_path = AddPath { receive: false, send: SendPaths::EachNextHop };
    let client = |last| PeerConfig { reflector_client: true, ..peer(last, OUR_AS) };
    let peers = [("i2", internal), ("c3", client(3)), ("c4", client(4)), ("c5", client(5))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    ["c3", "c4", "c5"].iter().for_each(|name| bench.up(name));
    bench.up_with("i2", add_path(AddPathMode::Receive));
    let from = |last| [AttributeValue::NextHop(Ipv4Addr::new(10, 9, 9, last))];
    bench.announce("c3", &[PREFIX], &[3, 3], &from(1));
    bench.announce("c4", &[PREFIX], &[4], &from(1));
    bench.announce("c5", &[PREFIX], &[5, 5, 5], &from(2));
    assert_eq!(paths(&bench, "i2"), ["4", "5 5 5"]);
    let gaps = bench.probes["i2"].gaps;
    bench.withdraw("c4", &[PREFIX]);
    assert_eq!(paths(&bench, "i2"), ["3 3", "5 5 5"]);
    bench.withdraw("c5", &[PREFIX]);
    assert_eq!(paths(&bench, "i2"), ["3 3"]);
    bench.announce("c4", &[PREFIX], &[4], &from(1));
    assert_eq!(paths(&bench, "i2"), ["4"]);
    assert_eq!(bench.probes["i2"].gaps, gaps, "it had a route at every moment");
}

#[test]
fn whoever_has_sent_the_best_route_of_a_next_hop_gets_the_next_best_one() {
    let client = |last| PeerConfig {
        reflector_client: true,
        add_path: AddPath { receive: true, send: SendPaths::EachNextHop },
        ..peer(last, OUR_AS)
    };
    let peers = [("c2", client(2)), ("c3", client(3)), ("c4", client(4))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up_with(name, add_path(AddPathMode::Both)));
    let hop = || AttributeValue::NextHop(Ipv4Addr::new(10, 9, 9, 1));
    let announce = |bench: &mut Bench, name: &str, path: &[u32]| {
        bench.announce_path_with(name, PREFIX, 1, path, &[hop()]);
    };
    let known = |bench: &Bench| ["c2", "c3", "c4"].map(|name| paths(bench, name).join(","));
    announce(&mut bench, "c2", &[2, 2]);
    assert_eq!(known(&bench), ["", "2 2", "2 2"]);
    announce(&mut bench, "c3", &[3]);
    assert_eq!(known(&bench), ["3", "2 2", "3"]);
    announce(&mut bench, "c4", &[4, 4, 4]);
    assert_eq!(known(&bench), ["3", "2 2", "3"]);
    announce(&mut bench, "c3", &[3, 3, 3, 3]);
    assert_eq!(known(&bench), ["4 4 4", "2 2", "2 2"]);
    bench.withdraw_path("c4", PREFIX, 1);
    assert_eq!(known(&bench), ["3 3 3 3", "2 2", "2 2"]);
    bench.withdraw_path("c2", PREFIX, 1);
    assert_eq!(known(&bench), ["3 3 3 3", "", "3 3 3 3"]);
    announce(&mut bench, "c2", &[2]);
    assert_eq!(known(&bench), ["3 3 3 3", "2", "2"]);
    // What has gone through somebody is no news to him (RFC 4456, section 8).
    let through_c2 = AttributeValue::ClusterList(vec![Ipv4Addr::new(10, 0, 0, 2)]);
    bench.announce_path_with("c3", PREFIX, 1, &[3, 3], &[hop(), through_c2]);
    assert_eq!(known(&bench), ["", "2", "2"]);
}

#[test]
fn a_peer_that_does_not_take_several_routes_gets_the_best_without_identifier() {
    let mut internal = peer(2, OUR_AS);
    internal.add_path = AddPath { receive: true, send: SendPaths::All };
    let peers = [("e4", peer(4, 65004)), ("e5", peer(5, 65005)), ("i2", internal)];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &[PREFIX], &[65004, 7], &[]);
    bench.announce("e5", &[PREFIX], &[65005], &[]);
    assert_eq!(bench.has("i2"), [PREFIX]);
    assert_eq!(bench.told("i2", PREFIX).unwrap().path(), "65005");
}

#[test]
fn several_routes_of_one_peer_are_kept_apart_by_their_identifiers() {
    let mut several = peer(2, OUR_AS);
    several.add_path = AddPath { receive: true, send: SendPaths::None };
    let peers = [("i2", several), ("e4", peer(4, 65004))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up_with("i2", add_path(AddPathMode::Send));
    bench.up("e4");
    bench.announce_path("i2", PREFIX, 7, &[1, 2, 3]);
    bench.announce_path("i2", PREFIX, 9, &[1, 2]);
    assert_eq!(bench.told("e4", PREFIX).unwrap().path(), "64512 1 2");
    assert_eq!(bench.speaker.status()[1].received[0].1, 2);
    bench.withdraw_path("i2", PREFIX, 9);
    assert_eq!(bench.told("e4", PREFIX).unwrap().path(), "64512 1 2 3");
    bench.withdraw_path("i2", PREFIX, 8);
    assert_eq!(bench.has("e4"), [PREFIX], "there was no such route");
    bench.announce_path("i2", PREFIX, 7, &[5]);
    assert_eq!(bench.told("e4", PREFIX).unwrap().path(), "64512 5");
    bench.withdraw_path("i2", PREFIX, 7);
    assert_eq!((bench.has("e4").len(), bench.kernel.len(), bench.speaker.attribute_sets()), (0, 0, 0));
}

#[test]
fn equally_good_routes_are_used_together_and_told_once() {
    let peers = [("e4", peer(4, 65004)), ("e5", peer(5, 65005)), ("e6", peer(6, 65006))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &[PREFIX], &[65004, 7], &[]);
    bench.announce("e5", &[PREFIX], &[65005, 8], &[]);
    let hops = |bench: &Bench| bench.kernel[&net(PREFIX)].next_hops.clone();
    assert_eq!(hops(&bench), [peer_address(4), peer_address(5)]);
    let changes = bench.kernel_changes;
    bench.announce("e6", &[PREFIX], &[65006, 8, 9], &[]);
    bench.announce("e5", &[PREFIX], &[65005, 8], &[AttributeValue::Communities(vec![Community(9)])]);
    assert_eq!((hops(&bench).len(), bench.kernel_changes), (2, changes), "the set is the same");
    bench.announce("e6", &[PREFIX], &[65006, 8], &[]);
    assert_eq!(hops(&bench), [peer_address(4), peer_address(5), peer_address(6)]);
    bench.withdraw("e4", &[PREFIX]);
    assert_eq!(hops(&bench), [peer_address(5), peer_address(6)]);
    bench.announce("e6", &[PREFIX], &[65006], &[]);
    assert_eq!(hops(&bench), [peer_address(6)], "a better one is used alone");
}

#[test]
fn no_more_routes_are_used_together_than_configured() {
    let peers =
        [("e4", peer(4, 65004)), ("e5", peer(5, 65005)), ("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS))];
    let mut limited = config(&peers);
    limited.multipath = Multipath { external: 1, internal: 2 };
    let mut bench = Bench::new(limited.clone(), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &[PREFIX], &[65004], &[]);
    bench.announce("e5", &[PREFIX], &[65005], &[]);
    bench.announce("i2", &["10.9.0.0/16"], &[7], &[]);
    bench.announce("i3", &["10.9.0.0/16"], &[7], &[]);
    let hops = |bench: &Bench, prefix: &str| bench.kernel[&net(prefix)].next_hops.clone();
    assert_eq!(hops(&bench, PREFIX), [peer_address(4)]);
    assert_eq!(hops(&bench, "10.9.0.0/16"), [peer_address(2), peer_address(3)]);
    limited.multipath = Multipath { external: 2, internal: 1 };
    bench.input(Input::Configure(limited));
    assert_eq!(hops(&bench, PREFIX), [peer_address(4), peer_address(5)]);
    assert_eq!(hops(&bench, "10.9.0.0/16"), [peer_address(2)]);
}

fn resolving() -> Bench {
    let peers = [("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS)), ("e4", peer(4, 65004))];
    let mut resolving = config(&peers);
    resolving.resolve_next_hops = true;
    let mut bench = Bench::new(resolving, Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("i2", &[PREFIX], &[7], &[]);
    bench.announce("i3", &[PREFIX], &[7], &[]);
    bench
}

fn found(bench: &mut Bench, last: u8, cost: u32, gateway: u8) {
    let resolution = Some(Resolution { cost, gateways: vec![peer_address(gateway)] });
    bench.input(Input::NextHop { address: peer_address(last), resolution });
}

#[test]
fn a_route_is_used_as_soon_as_its_next_hop_can_be_reached() {
    let mut bench = resolving();
    assert_eq!(bench.watched, [peer_address(2), peer_address(3)].into());
    assert!(bench.kernel.is_empty() && bench.has("e4").is_empty());
    found(&mut bench, 3, 10, 3);
    assert_eq!(bench.kernel[&net(PREFIX)].next_hops, [peer_address(3)]);
    assert_eq!(bench.has("e4"), [PREFIX]);
    bench.input(Input::NextHop { address: peer_address(3), resolution: None });
    assert!(bench.kernel.is_empty() && bench.has("e4").is_empty());
    bench.withdraw("i2", &[PREFIX]);
    assert_eq!(bench.watched, [peer_address(3)].into());
    bench.withdraw("i3", &[PREFIX]);
    assert!(bench.watched.is_empty());
}

#[test]
fn the_nearer_next_hop_wins_and_equally_near_ones_are_used_together() {
    let mut bench = resolving();
    found(&mut bench, 2, 20, 2);
    found(&mut bench, 3, 10, 3);
    let hops = |bench: &Bench| bench.kernel[&net(PREFIX)].next_hops.clone();
    assert_eq!(hops(&bench), [peer_address(3)]);
    found(&mut bench, 2, 5, 2);
    assert_eq!(hops(&bench), [peer_address(2)]);
    found(&mut bench, 3, 5, 3);
    assert_eq!(hops(&bench), [peer_address(2), peer_address(3)]);
}

#[test]
fn the_kernel_gets_a_route_again_when_its_next_hop_is_reached_another_way() {
    let mut bench = resolving();
    found(&mut bench, 2, 20, 2);
    found(&mut bench, 2, 20, 99);
    let route = bench.kernel[&net(PREFIX)].clone();
    assert_eq!(
        (&route.next_hops[..], &route.gateways[..]),
        (&[peer_address(2)][..], &[peer_address(99)][..])
    );
    let changes = bench.kernel_changes;
    found(&mut bench, 2, 20, 99);
    assert_eq!(bench.kernel_changes, changes);
}

#[test]
fn turned_on_or_off_resolution_changes_what_is_selected() {
    let mut bench = resolving();
    let mut off = bench.speaker.config().clone();
    off.resolve_next_hops = false;
    bench.input(Input::Configure(off.clone()));
    assert_eq!(bench.kernel[&net(PREFIX)].next_hops, [peer_address(2), peer_address(3)]);
    assert!(bench.watched.is_empty());
    off.resolve_next_hops = true;
    bench.input(Input::Configure(off));
    assert!(bench.kernel.is_empty());
    assert_eq!(bench.watched.len(), 2);
}

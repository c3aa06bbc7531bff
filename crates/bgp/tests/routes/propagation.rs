//! RFC 4271, section 9.2 and RFC 4456: which routes go where, and with which attributes.

use bgp::Start;
use bgp::config::{NextHopMode, Origination};
use bgp::packet::attribute::{AttributeValue, Community};

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

/// i2 and i3 are internal, e4 and e5 external.
fn bench() -> Bench {
    let peers =
        [("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS)), ("e4", peer(4, 65004)), ("e5", peer(5, 65005))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    for (name, _) in &peers {
        bench.up(name);
    }
    bench
}

fn local_pref(value: &AttributeValue) -> Option<u32> {
    match value {
        AttributeValue::LocalPref(preference) => Some(*preference),
        _ => None,
    }
}

fn med(value: &AttributeValue) -> Option<u32> {
    match value {
        AttributeValue::Med(med) => Some(*med),
        _ => None,
    }
}

#[test]
fn what_comes_from_inside_goes_outside_only() {
    let mut bench = bench();
    bench.announce("i2", &["10.65.2.0/26", "2001:db8:2::/64"], &[], &[]);
    for (name, expected) in [("i2", 0), ("i3", 0), ("e4", 2), ("e5", 2)] {
        assert_eq!(bench.has(name).len(), expected, "{name}");
    }
    let told = bench.told("e4", "10.65.2.0/26").unwrap();
    assert_eq!((told.path().as_str(), told.next_hop()), ("64512", peer_address(1)));
    assert_eq!(told.find(local_pref), None);
    let told = bench.told("e4", "2001:db8:2::/64").unwrap();
    assert_eq!(told.next_hop().to_string(), "2001:db8::1");
    assert_eq!(bench.kernel[&net("10.65.2.0/26")].next_hops, [peer_address(2)]);
    bench.withdraw("i2", &["10.65.2.0/26"]);
    assert_eq!(bench.has("e4"), ["2001:db8:2::/64"]);
    assert_eq!(bench.kernel.len(), 1);
}

#[test]
fn what_comes_from_outside_goes_everywhere_but_back() {
    let mut bench = bench();
    bench.announce("e4", &["203.0.113.0/24"], &[65004, 7], &[AttributeValue::Med(9)]);
    assert_eq!(bench.has("e4"), [""; 0]);
    let inside = bench.told("i2", "203.0.113.0/24").unwrap();
    assert_eq!((inside.path().as_str(), inside.next_hop()), ("65004 7", peer_address(4)));
    assert_eq!((inside.find(local_pref), inside.find(med)), (Some(100), Some(9)));
    let outside = bench.told("e5", "203.0.113.0/24").unwrap();
    assert_eq!((outside.path().as_str(), outside.next_hop()), ("64512 65004 7", peer_address(1)));
    assert_eq!(outside.find(med), None);
}

#[test]
fn a_route_that_moves_to_another_peer_is_withdrawn_from_it_and_given_to_the_old_one() {
    let mut bench = bench();
    bench.announce("e4", &["203.0.113.0/24"], &[65004, 7, 8], &[]);
    bench.announce("e5", &["203.0.113.0/24"], &[65005, 7], &[]);
    assert_eq!(bench.told("e4", "203.0.113.0/24").unwrap().path(), "64512 65005 7");
    assert_eq!(bench.told("e5", "203.0.113.0/24"), None);
    assert_eq!(bench.told("i2", "203.0.113.0/24").unwrap().path(), "65005 7");
    bench.lose("e5");
    bench.wait(std::time::Duration::from_secs(121));
    assert_eq!(bench.told("e4", "203.0.113.0/24"), None);
    assert_eq!(bench.told("i2", "203.0.113.0/24").unwrap().path(), "65004 7 8");
}

#[test]
fn our_own_routes_go_to_everyone_with_ourselves_as_next_hop() {
    let mut bench = bench();
    let route = Origination {
        med: Some(5),
        communities: [Community(64512 << 16 | 1)].into(),
        ..Origination::default()
    };
    for prefix in ["10.65.1.0/26", "2001:db8:1::/64"] {
        let input = bgp::Input::Originate { prefix: net(prefix), route: route.clone() };
        bench.input(input);
    }
    for name in ["i2", "i3", "e4", "e5"] {
        let told = bench.told(name, "10.65.1.0/26").unwrap();
        assert_eq!((told.next_hop(), told.find(med)), (peer_address(1), Some(5)), "{name}");
        assert_eq!(bench.told(name, "2001:db8:1::/64").unwrap().next_hop().to_string(), "2001:db8::1");
    }
    assert!(bench.kernel.is_empty(), "the kernel has its own idea of what is here");
    bench.input(bgp::Input::Withdraw { prefix: net("10.65.1.0/26") });
    assert_eq!(bench.has("i2"), ["2001:db8:1::/64"]);
}

#[test]
fn loops_are_kept_but_never_used() {
    let mut bench = bench();
    bench.announce("e4", &["203.0.113.0/24"], &[65004, OUR_AS], &[]);
    bench.announce("i2", &["198.51.100.0/24"], &[], &[AttributeValue::OriginatorId([10, 0, 0, 1].into())]);
    bench.announce("i2", &["192.0.2.0/24"], &[], &[AttributeValue::ClusterList(vec![[10, 0, 0, 1].into()])]);
    bench.announce("e5", &["10.9.0.0/16"], &[65005], &[AttributeValue::NextHop([10, 0, 0, 1].into())]);
    assert!(bench.kernel.is_empty());
    let received: Vec<usize> = bench.speaker.status().iter().map(|peer| peer.received[0].1).collect();
    assert_eq!(received, [1, 1, 2, 0], "e4, e5, i2, i3");
}

#[test]
fn our_as_in_a_path_is_taken_as_often_as_allowed() {
    let mut tolerant = peer(4, 65004);
    tolerant.allow_local_as = 1;
    let mut bench = Bench::new(config(&[("e4", tolerant)]), Start::Fresh);
    bench.up("e4");
    bench.announce("e4", &["203.0.113.0/24"], &[65004, OUR_AS], &[]);
    bench.announce("e4", &["198.51.100.0/24"], &[65004, OUR_AS, OUR_AS], &[]);
    assert_eq!(bench.kernel.keys().copied().collect::<Vec<_>>(), [net("203.0.113.0/24")]);
}

#[test]
fn a_reflector_passes_routes_on_between_clients_and_others_with_their_origin_noted() {
    let mut client = peer(2, OUR_AS);
    client.reflector_client = true;
    let mut second = peer(3, OUR_AS);
    second.reflector_client = true;
    let peers = [
        ("i2", client),
        ("i3", second),
        ("i4", peer(4, OUR_AS)),
        ("i5", peer(5, OUR_AS)),
        ("e6", peer(6, 65006)),
    ];
    let mut config = config(&peers);
    config.cluster_id = Some([1, 1, 1, 1].into());
    let mut bench = Bench::new(config, Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("i2", &["10.65.2.0/26"], &[], &[AttributeValue::LocalPref(200)]);
    bench.announce("i4", &["10.65.4.0/26"], &[], &[]);
    assert_eq!(bench.has("i2"), ["10.65.4.0/26"]);
    assert_eq!(bench.has("i3"), ["10.65.2.0/26", "10.65.4.0/26"]);
    assert_eq!(bench.has("i4"), ["10.65.2.0/26"]);
    assert_eq!(bench.has("i5"), ["10.65.2.0/26"], "a non-client does not get what another non-client says");
    assert_eq!(bench.has("e6"), ["10.65.2.0/26", "10.65.4.0/26"]);
    let told = bench.told("i3", "10.65.2.0/26").unwrap();
    assert_eq!(told.next_hop(), peer_address(2));
    assert_eq!(told.find(local_pref), Some(200));
    assert_eq!(told.codes(), [1, 2, 3, 5, 9, 10], "in ascending order, ORIGINATOR_ID and CLUSTER_LIST added");
    assert!(told.attributes.iter().any(|a| a.value == AttributeValue::OriginatorId([10, 0, 0, 2].into())));
    assert!(
        told.attributes.iter().any(|a| a.value == AttributeValue::ClusterList(vec![[1, 1, 1, 1].into()]))
    );
    assert_eq!(bench.told("e6", "10.65.2.0/26").unwrap().codes(), [1, 2, 3]);
}

#[test]
fn well_known_communities_are_honoured() {
    let mut bench = bench();
    let with = |community| [AttributeValue::Communities(vec![community])];
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &with(Community::NO_EXPORT));
    bench.announce("e4", &["198.51.100.0/24"], &[65004], &with(Community::NO_ADVERTISE));
    assert_eq!(bench.has("i2"), ["203.0.113.0/24"]);
    assert_eq!(bench.has("e5"), [""; 0]);
    assert_eq!(bench.kernel.len(), 2);
}

#[test]
fn next_hops_are_ours_or_unchanged_as_configured() {
    let mut ours = peer(2, OUR_AS);
    ours.next_hop = NextHopMode::OurSelf;
    let mut keep = peer(5, 65005);
    keep.next_hop = NextHopMode::Keep;
    let peers = [("i2", ours), ("i3", peer(3, OUR_AS)), ("e4", peer(4, 65004)), ("e5", keep)];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    assert_eq!(bench.told("i2", "203.0.113.0/24").unwrap().next_hop(), peer_address(1));
    assert_eq!(bench.told("i3", "203.0.113.0/24").unwrap().next_hop(), peer_address(4));
    assert_eq!(bench.told("e5", "203.0.113.0/24").unwrap().next_hop(), peer_address(4));
}

#[test]
fn what_a_peer_tells_that_only_we_can_reach_leads_others_to_us() {
    let mut behind = peer(4, 65004);
    behind.behind_us = true;
    let mut keep = peer(3, OUR_AS);
    keep.next_hop = NextHopMode::Keep;
    let mut client = peer(6, OUR_AS);
    client.reflector_client = true;
    let peers =
        [("i2", peer(2, OUR_AS)), ("i3", keep), ("e4", behind), ("e5", peer(5, 65005)), ("i6", client)];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    bench.announce("e5", &["198.51.100.0/24"], &[65005], &[]);
    for (name, next_hop) in [("i2", 1), ("i3", 4), ("e5", 1), ("i6", 1)] {
        let told = bench.told(name, "203.0.113.0/24").unwrap();
        assert_eq!((name, told.next_hop()), (name, peer_address(next_hop)));
    }
    assert_eq!(bench.told("i2", "198.51.100.0/24").unwrap().next_hop(), peer_address(5));
    // Packets of ours go to the peer itself.
    assert_eq!(bench.kernel[&net("203.0.113.0/24")].next_hops, [peer_address(4)]);
}

#[test]
fn unknown_attributes_travel_if_transitive_and_old_speakers_get_as4_attributes() {
    let peers = [("i2", peer(2, OUR_AS)), ("e4", peer(4, 65004)), ("e5", peer(5, 65005))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up("i2");
    bench.up("e4");
    bench.up_with("e5", |capabilities| {
        capabilities.retain(|c| !matches!(c, bgp::packet::capability::Capability::FourOctetAs(_)));
    });
    let unknown = AttributeValue::Unknown { code: 99, value: vec![1, 2, 3] };
    bench.announce("e4", &["203.0.113.0/24"], &[65004, 4_200_000_000], std::slice::from_ref(&unknown));
    let told = bench.told("i2", "203.0.113.0/24").unwrap();
    let attribute = told.attributes.iter().find(|attribute| attribute.value == unknown).unwrap();
    assert_eq!(attribute.flags, 0xe0, "optional, transitive, partial");
    let told = bench.told("e5", "203.0.113.0/24").unwrap();
    assert_eq!(told.path(), "64512 65004 23456");
    let four = told.find(|value| match value {
        AttributeValue::As4Path(path) => Some(path.to_string()),
        _ => None,
    });
    assert_eq!(four.as_deref(), Some("64512 65004 4200000000"));
}

#[test]
fn a_malformed_route_is_withdrawn_and_the_session_stays() {
    let mut bench = bench();
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    assert_eq!(bench.kernel.len(), 1);
    bench.announce("e4", &["203.0.113.0/24"], &[65999], &[]);
    assert!(bench.kernel.is_empty(), "a path that does not begin with the peer's AS");
    assert!(!bench.probes["e4"].closed);
    let status = bench.speaker.status();
    assert_eq!(status[0].messages.malformed_updates, 1);
}

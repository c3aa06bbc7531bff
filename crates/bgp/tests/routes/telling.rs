//! How peers are told: shared octets, packing, refresh, slow readers, changes of configuration.

use std::collections::BTreeMap;

use bgp::packet::attribute::{AttributeValue, Community};
use bgp::packet::route_refresh::{RouteRefresh, Subtype};
use bgp::policy::{Actions, Match, Policy, PrefixMatch, Rule, SourceMatch, Verdict};
use bgp::{Asn, Family, Input, PeerId, Start};

use crate::bench::{Bench, OUR_AS, config, net, peer};

fn prefixes(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("10.{}.{}.{}/26", 64 + n / 1024, n / 4 % 256, n % 4 * 64)).collect()
}

fn announce_all(bench: &mut Bench, name: &str, path: &[u32], list: &[String]) {
    for piece in list.chunks(400) {
        bench.announce(name, &piece.iter().map(String::as_str).collect::<Vec<_>>(), path, &[]);
    }
}

/// Reflection clients i1 … i9 but i1, which is us.
fn reflector(clients: u8) -> Bench {
    let list: Vec<(String, bgp::PeerConfig)> = (2..2 + clients)
        .map(|last| {
            let mut client = peer(last, OUR_AS);
            client.reflector_client = true;
            (format!("i{last}"), client)
        })
        .collect();
    let named: Vec<(&str, bgp::PeerConfig)> =
        list.iter().map(|(name, peer)| (name.as_str(), peer.clone())).collect();
    let mut bench = Bench::new(config(&named), Start::Fresh);
    list.iter().for_each(|(name, _)| bench.up(name));
    bench
}

#[test]
fn a_change_is_encoded_once_for_all_peers_of_a_group() {
    let mut bench = reflector(8);
    let before = bench.encoded;
    bench.announce("i2", &["10.65.0.0/26", "10.65.0.64/26"], &[], &[]);
    let encoded = bench.encoded - before;
    assert!((40..120).contains(&encoded), "{encoded} octets for one UPDATE to seven peers");
    for last in 3..10 {
        assert_eq!((bench.has(&format!("i{last}")).len(), bench.probes[&format!("i{last}")].updates), (2, 3));
    }
}

#[test]
fn many_prefixes_with_the_same_attributes_share_messages() {
    let mut bench = Bench::new(config(&[("e4", peer(4, 65004)), ("i2", peer(2, OUR_AS))]), Start::Fresh);
    bench.up("e4");
    let list = prefixes(4000);
    announce_all(&mut bench, "e4", &[65004], &list);
    bench.up("i2");
    assert_eq!(bench.has("i2").len(), 4000);
    assert_eq!(bench.probes["i2"].end_of_ribs, [Family::Ipv4Unicast, Family::Ipv6Unicast]);
    let updates = bench.probes["i2"].updates;
    assert!(updates <= 4000 * 5 / 4000 + 4, "{updates} UPDATEs for 4,000 prefixes of 5 octets");
}

#[test]
fn a_peer_that_does_not_read_is_told_the_outcome_only_and_holds_up_nobody() {
    let mut bench = Bench::new(
        config(&[("e4", peer(4, 65004)), ("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS))]),
        Start::Fresh,
    );
    ["e4", "i2", "i3"].iter().for_each(|name| bench.up(name));
    bench.probes.get_mut("i2").unwrap().reads = false;
    let list = prefixes(2000);
    for turn in 0..60u32 {
        announce_all(&mut bench, "e4", &[65004, 1000 + turn], &list);
    }
    let (slow, fast) = (bench.probes["i2"].unread, bench.probes["i3"].updates);
    assert!(slow < 400_000, "{slow} octets are kept for a peer that does not read");
    assert!(fast > 200, "{fast} UPDATEs to the other one");
    bench.probes.get_mut("i2").unwrap().reads = true;
    bench.read("i2");
    assert_eq!(bench.probes["i2"].routes, bench.probes["i3"].routes);
    assert_eq!(bench.told("i2", &list[7]).unwrap().path(), "65004 1059");
    bench.withdraw("e4", &[&list[0]]);
    assert_eq!(bench.told("i2", &list[0]), None);
}

#[test]
fn a_peer_gets_its_routes_again_when_it_asks_between_marks_if_it_knows_them() {
    let mut bench = Bench::new(config(&[("e4", peer(4, 65004)), ("i2", peer(2, OUR_AS))]), Start::Fresh);
    bench.up("e4");
    bench.up_with("i2", |capabilities| {
        capabilities.push(bgp::packet::capability::Capability::EnhancedRouteRefresh)
    });
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    let before = bench.probes["i2"].updates;
    bench.say("i2", &RouteRefresh::new(Family::Ipv4Unicast, Subtype::Request).encode());
    assert_eq!(bench.probes["i2"].updates, before + 1);
    let marks: Vec<Subtype> = bench.probes["i2"].refreshes.iter().map(|refresh| refresh.subtype).collect();
    assert_eq!(marks, [Subtype::Beginning, Subtype::End]);
}

#[test]
fn between_the_marks_of_a_refresh_a_peer_may_leave_routes_out() {
    let mut bench = Bench::new(config(&[("e4", peer(4, 65004))]), Start::Fresh);
    bench.up_with("e4", |capabilities| {
        capabilities.push(bgp::packet::capability::Capability::EnhancedRouteRefresh)
    });
    bench.announce("e4", &["203.0.113.0/24", "198.51.100.0/24"], &[65004], &[]);
    bench.say("e4", &RouteRefresh::new(Family::Ipv4Unicast, Subtype::Beginning).encode());
    assert_eq!(bench.kernel.len(), 2);
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    bench.say("e4", &RouteRefresh::new(Family::Ipv4Unicast, Subtype::End).encode());
    assert_eq!(bench.kernel.keys().copied().collect::<Vec<_>>(), [net("203.0.113.0/24")]);
}

fn reject(prefix: &str) -> Policy {
    let when = Match::prefix(PrefixMatch::within(net(prefix)));
    Policy::new(vec![Rule::deciding("test", when, Verdict::Reject)], Verdict::Accept)
}

#[test]
fn a_new_export_policy_withdraws_and_announces_without_a_reset() {
    let peers = [("e4", peer(4, 65004)), ("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &["10.1.0.0/16", "10.2.0.0/16"], &[65004], &[]);
    let mut new = config(&peers);
    let marked = Rule {
        name: "marked".into(),
        when: Match { source: Some(SourceMatch::Learned), ..Match::default() },
        set: Actions {
            local_pref: Some(300),
            add_communities: [Community(7)].into(),
            prepend: vec![Asn(OUR_AS); 2],
            ..Actions::default()
        },
        verdict: Some(Verdict::Accept),
    };
    let mut rules = reject("10.1.0.0/16").rules.to_vec();
    rules.push(marked);
    let policy = Policy::new(rules, Verdict::Accept);
    new.peers.get_mut(&PeerId::from("i2")).unwrap().export = policy;
    bench.input(Input::Configure(new));
    assert_eq!(bench.has("i2"), ["10.2.0.0/16"]);
    let told = bench.told("i2", "10.2.0.0/16").unwrap();
    assert_eq!(told.path(), "64512 64512 65004");
    assert!(told.attributes.iter().any(|a| a.value == AttributeValue::Communities(vec![Community(7)])));
    assert!(told.attributes.iter().any(|a| a.value == AttributeValue::LocalPref(300)));
    assert_eq!(bench.has("i3").len(), 2);
    assert!(bench.probes.values().all(|probe| !probe.closed));
    bench.input(Input::Configure(config(&peers)));
    assert_eq!(bench.has("i2").len(), 2);
    bench.withdraw("e4", &["10.1.0.0/16", "10.2.0.0/16"]);
    assert_eq!(bench.has("i2").len(), 0);
}

#[test]
fn a_new_import_policy_asks_the_peer_for_its_routes() {
    let peers = [("e4", peer(4, 65004))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up("e4");
    bench.announce("e4", &["10.1.0.0/16", "10.2.0.0/16"], &[65004], &[]);
    let mut new = config(&peers);
    new.peers.get_mut(&PeerId::from("e4")).unwrap().import = reject("10.1.0.0/16");
    bench.input(Input::Configure(new));
    let asked: BTreeMap<_, _> = bench.probes["e4"]
        .refreshes
        .iter()
        .map(|refresh| (refresh.family.to_string(), refresh.subtype))
        .collect();
    assert_eq!(asked.len(), 2);
    bench.announce("e4", &["10.1.0.0/16", "10.2.0.0/16"], &[65004], &[]);
    assert_eq!(bench.kernel.keys().copied().collect::<Vec<_>>(), [net("10.2.0.0/16")]);
}

#[test]
fn peers_come_and_go_and_only_changed_sessions_are_reset() {
    let peers = [("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS)), ("e4", peer(4, 65004))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    bench.announce("e4", &["10.1.0.0/16"], &[65004], &[]);
    let mut hold = peer(3, OUR_AS);
    hold.timers.hold *= 2;
    let new = [("i2", peer(2, OUR_AS)), ("i3", hold), ("e5", peer(5, 65005))];
    bench.input(Input::Configure(config(&new)));
    assert!(!bench.probes["i2"].closed);
    let told = |name: &str| bench.probes[name].notification.clone().map(|n| (n.code, n.subcode));
    assert_eq!(told("i3"), Some((6, 6)), "other configuration change");
    assert_eq!(told("e4"), Some((6, 3)), "peer de-configured");
    assert_eq!(bench.has("i2"), [""; 0], "routes of a peer that is gone are gone");
    assert!(bench.kernel.is_empty());
    let names: Vec<String> = bench.speaker.status().into_iter().map(|peer| peer.id.0).collect();
    assert_eq!(names, ["e5", "i2", "i3"]);
    bench.up("i3");
    bench.up("e5");
    bench.announce("e5", &["10.1.0.0/16"], &[65005], &[]);
    assert_eq!(bench.has("i3"), ["10.1.0.0/16"]);
}

#[test]
fn nothing_is_kept_once_all_is_withdrawn() {
    let mut bench = reflector(4);
    for round in 0..20 {
        for last in 2..6u8 {
            let prefix = format!("10.{last}.{round}.0/24");
            bench.announce(&format!("i{last}"), &[&prefix, "10.99.0.0/16"], &[round], &[]);
        }
    }
    for last in 2..6u8 {
        for round in 0..20 {
            bench.withdraw(&format!("i{last}"), &[&format!("10.{last}.{round}.0/24")]);
        }
        bench.withdraw(&format!("i{last}"), &["10.99.0.0/16"]);
    }
    assert_eq!((bench.speaker.prefixes(Family::Ipv4Unicast), bench.speaker.attribute_sets()), (0, 0));
    assert!(bench.kernel.is_empty());
    assert!(bench.probes.values().all(|probe| probe.routes.is_empty()));
}

#[test]
fn a_peer_whose_export_changes_together_with_the_loss_of_another_keeps_nothing_of_that() {
    let peers = [("e4", peer(4, 65004)), ("i9", peer(9, OUR_AS))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    ["e4", "i9"].iter().for_each(|name| bench.up(name));
    bench.announce("e4", &["203.0.113.0/24"], &[65004], &[]);
    assert_eq!(bench.has("i9"), ["203.0.113.0/24"]);
    let mut new = config(&peers);
    new.peers.get_mut(&PeerId::from("e4")).unwrap().timers.hold *= 2;
    new.peers.get_mut(&PeerId::from("i9")).unwrap().export = Policy::reject_all();
    bench.input(Input::Configure(new));
    assert!(bench.probes["e4"].closed, "its session is reset");
    assert_eq!(bench.has("i9"), [""; 0]);
}

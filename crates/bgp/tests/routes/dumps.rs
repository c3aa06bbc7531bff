//! Tables as MRT: every route once, page by page, with whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bgp::config::{AddPath, Origination, SendPaths};
use bgp::observe::Timestamp;
use bgp::observe::mrt::{Body, PeerIndex, Prefix, Record, read_attributes};
use bgp::packet::attribute::AttributeValue;
use bgp::packet::capability::{AddPathMode, Capability};
use bgp::query::DumpCursor;
use bgp::{Family, Input, Start};

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

const NOW: Timestamp = Timestamp { secs: 1_700_000_000, micros: 0 };

/// All records of a dump; `between` is called between its pages.
fn dump(bench: &mut Bench, mut between: impl FnMut(&mut Bench)) -> (PeerIndex, Vec<Prefix>, usize) {
    let (mut octets, mut from, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = bench.speaker.dump(from.take(), NOW);
        assert!(page.octets.len() < 400_000, "a page has {} octets", page.octets.len());
        octets.extend(page.octets);
        pages += 1;
        let Some(next) = page.next else { break };
        // Through its text, as over the node's socket.
        from = Some(next.to_string().parse::<DumpCursor>().unwrap());
        between(bench);
    }
    let (mut rest, mut index, mut prefixes) = (&octets[..], None, Vec::new());
    while let Some((record, length)) = Record::decode(rest).unwrap() {
        rest = &rest[length..];
        assert_eq!(record.timestamp, NOW);
        match record.body {
            Body::PeerIndex(table) => assert!(index.replace(table).is_none(), "once, in front"),
            Body::Prefix(prefix) => prefixes.push(prefix),
            other => panic!("{other:?}"),
        }
    }
    assert!(rest.is_empty());
    let sequence: Vec<u32> = prefixes.iter().map(|prefix| prefix.sequence).collect();
    assert!(sequence.iter().copied().eq(0..u32::try_from(prefixes.len()).unwrap()), "{sequence:?}");
    (index.expect("an index"), prefixes, pages)
}

fn as_path(octets: &[u8]) -> String {
    let (_, attributes) = read_attributes(octets).unwrap();
    let path = attributes.iter().find_map(|attribute| match &attribute.value {
        AttributeValue::AsPath(path) => Some(path.to_string()),
        _ => None,
    });
    path.expect("every route has one")
}

#[test]
fn every_route_is_there_with_its_peer_its_next_hop_and_the_time_of_its_session() {
    let peers = [("e4", peer(4, 65004)), ("e5", peer(5, 65005)), ("e6", peer(6, 65006))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.input(Input::Clock { since_epoch: Duration::from_secs(1_600_000_000) });
    bench.wait(Duration::from_secs(5));
    bench.input(Input::Originate { prefix: net("10.65.0.0/26"), route: Origination::default() });
    bench.up("e4");
    bench.up("e5");
    bench.announce("e4", &["203.0.113.0/24", "2001:db8:7::/48"], &[65004], &[]);
    bench.announce("e5", &["203.0.113.0/24"], &[65005, 1], &[]);
    let (index, prefixes, _) = dump(&mut bench, |_| {});
    let addresses: Vec<IpAddr> = index.peers.iter().map(|peer| peer.address).collect();
    assert_eq!(addresses, [[0, 0, 0, 0].into(), peer_address(4), peer_address(5), peer_address(6)]);
    let ids: Vec<String> = index.peers.iter().map(|peer| peer.router_id.to_string()).collect();
    assert_eq!(ids, ["10.0.0.1", "10.0.0.4", "10.0.0.5", "0.0.0.0"]);
    let mut lines = BTreeSet::new();
    for prefix in &prefixes {
        for entry in &prefix.entries {
            let (hops, _) = read_attributes(&entry.attributes).unwrap();
            assert_eq!(entry.path_id, None);
            let time = entry.originated;
            lines.insert(format!(
                "{} {} {time} {hops:?} {}",
                entry.peer,
                prefix.prefix,
                as_path(&entry.attributes)
            ));
        }
    }
    let expected = [
        "0 10.65.0.0/26 1700000000 [0.0.0.0] ",
        "1 2001:db8:7::/48 1600000005 [2001:db8::4] 65004",
        "1 203.0.113.0/24 1600000005 [10.0.0.4] 65004",
        "2 203.0.113.0/24 1600000005 [10.0.0.5] 65005 1",
    ];
    assert_eq!(lines.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn path_identifiers_are_kept() {
    let mut config = peer(2, OUR_AS);
    config.add_path = AddPath { receive: true, send: SendPaths::None };
    let mut bench = Bench::new(crate::bench::config(&[("i2", config)]), Start::Fresh);
    let families = Family::ALL.map(|family| (family.into(), AddPathMode::Send));
    bench.up_with("i2", |capabilities| capabilities.push(Capability::AddPath(families.to_vec())));
    bench.announce_path("i2", "203.0.113.0/24", 7, &[1]);
    bench.announce_path("i2", "203.0.113.0/24", 9, &[2]);
    let (_, prefixes, _) = dump(&mut bench, |_| {});
    let [prefix] = &prefixes[..] else { panic!("{prefixes:?}") };
    let ids: Vec<Option<u32>> = prefix.entries.iter().map(|entry| entry.path_id).collect();
    assert_eq!(ids, [Some(7), Some(9)]);
}

#[test]
fn a_large_table_comes_in_pages_and_what_stays_is_there_once() {
    let peers = [("e4", peer(4, 65004)), ("e5", peer(5, 65005))];
    let mut bench = Bench::new(config(&peers[..1]), Start::Fresh);
    bench.up("e4");
    let text = |number: usize| format!("10.{}.{}.0/24", number / 250, number % 250);
    let all: Vec<String> = (0..20_000).map(text).collect();
    for part in all.chunks(500) {
        let names: Vec<&str> = part.iter().map(String::as_str).collect();
        bench.announce("e4", &names, &[65004], &[]);
    }
    let mut number = 0;
    let (index, prefixes, pages) = dump(&mut bench, |bench| {
        // Meanwhile somebody comes who is not in the index, and some go.
        if number == 0 {
            bench.input(Input::Configure(config(&peers)));
            bench.up("e5");
        }
        bench.announce("e5", &["192.0.2.0/24", "10.79.1.0/24"], &[65005], &[]);
        bench.withdraw("e4", &[&text(number)]);
        number += 1;
    });
    assert!(pages > 2, "{pages} pages");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for prefix in &prefixes {
        *seen.entry(prefix.prefix.to_string()).or_default() += prefix.entries.len();
        assert!(prefix.entries.iter().all(|entry| usize::from(entry.peer) < index.peers.len()));
    }
    assert!(all[number..].iter().all(|prefix| seen.get(prefix) == Some(&1)), "{number} pages");
    assert_eq!(seen.get("192.0.2.0/24"), None);
}

//! RFC 4271, section 9.2.2.2: one route for many, as long as there are any.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bgp::config::{Aggregate, Origination};
use bgp::packet::attribute::{AttributeValue, Community, Origin};
use bgp::packet::capability::Capability;
use bgp::{Input, SpeakerConfig, Start};
use ipnet::IpNet;

use crate::bench::{Bench, OUR_AS, Told, config, net, peer, peer_address};

const SUMMARY: Aggregate = Aggregate { summary_only: true, internal: false, local_pref: None };
const BESIDE: Aggregate = Aggregate { summary_only: false, internal: true, local_pref: Some(70) };

/// e4 and e5 have routes, e6 and i2 hear of them. Routes go at once with their session.
fn bench(aggregates: &[(&str, Aggregate)]) -> Bench {
    let peers =
        [("i2", peer(2, OUR_AS)), ("e4", peer(4, 65004)), ("e5", peer(5, 65005)), ("e6", peer(6, 65006))];
    let mut config = config(&peers);
    config.aggregates = aggregates.iter().map(|(prefix, aggregate)| (net(prefix), *aggregate)).collect();
    let mut bench = Bench::new(config, Start::Fresh);
    peers.iter().for_each(|(name, _)| up(&mut bench, name));
    bench
}

fn up(bench: &mut Bench, name: &str) {
    bench.up_with(name, |capabilities| {
        capabilities.retain(|capability| !matches!(capability, Capability::GracefulRestart(_)));
    });
}

fn aggregator(value: &AttributeValue) -> Option<String> {
    match value {
        AttributeValue::Aggregator(aggregator) => Some(format!("{} {}", aggregator.asn, aggregator.address)),
        _ => None,
    }
}

fn is_atomic(told: &Told) -> bool {
    told.attributes.iter().any(|attribute| attribute.value == AttributeValue::AtomicAggregate)
}

#[test]
fn it_comes_with_the_first_route_in_it_and_goes_with_the_last() {
    let mut bench = bench(&[("10.9.0.0/16", SUMMARY)]);
    assert_eq!(bench.has("e6"), [""; 0]);
    bench.announce("e4", &["10.9.1.0/24", "10.10.0.0/16"], &[65004, 7], &[]);
    assert_eq!(bench.has("e6"), ["10.9.0.0/16", "10.10.0.0/16"]);
    assert_eq!(bench.has("i2"), ["10.9.1.0/24", "10.10.0.0/16"], "internal peers are told all there is");
    let told = bench.told("e6", "10.9.0.0/16").unwrap();
    assert_eq!((told.path().as_str(), told.next_hop()), ("64512 65004 7", peer_address(1)));
    assert_eq!(told.find(aggregator).as_deref(), Some("64512 10.0.0.1"));
    assert!(!is_atomic(told));
    assert_eq!(bench.has("e4"), ["10.9.0.0/16"], "the peer that has all of it is told, too");
    bench.announce("e5", &["10.9.2.0/24"], &[65005, 7], &[AttributeValue::Origin(Origin::Incomplete)]);
    let told = bench.told("e6", "10.9.0.0/16").unwrap();
    assert_eq!((told.path().as_str(), is_atomic(told)), ("64512", true));
    assert!(told.attributes.iter().any(|a| a.value == AttributeValue::Origin(Origin::Incomplete)));
    bench.withdraw("e4", &["10.9.1.0/24"]);
    assert_eq!(bench.told("e6", "10.9.0.0/16").unwrap().path(), "64512 65005 7");
    bench.withdraw("e5", &["10.9.2.0/24"]);
    assert_eq!(bench.has("e6"), ["10.10.0.0/16"]);
    assert!(bench.kernel.keys().all(|prefix| *prefix != net("10.9.0.0/16")), "it is no way to anywhere");
}

#[test]
fn beside_what_lies_in_it_it_is_one_route_more() {
    let mut bench = bench(&[("10.9.0.0/16", BESIDE)]);
    let communities = [AttributeValue::Communities(vec![Community(7)])];
    bench.announce("e4", &["10.9.1.0/24"], &[65004], &communities);
    assert_eq!(bench.has("i2"), ["10.9.0.0/16", "10.9.1.0/24"]);
    assert_eq!(bench.has("e6"), ["10.9.0.0/16", "10.9.1.0/24"]);
    let told = bench.told("i2", "10.9.0.0/16").unwrap();
    assert!(told.attributes.iter().any(|attribute| attribute.value == communities[0]));
    assert!(told.attributes.iter().any(|attribute| attribute.value == AttributeValue::LocalPref(70)));
}

#[test]
fn nobody_is_told_of_a_summary_of_what_nobody_is_to_be_told_of() {
    let mut bench = bench(&[("10.9.0.0/16", SUMMARY)]);
    let secret = [AttributeValue::Communities(vec![Community::NO_ADVERTISE])];
    bench.announce("e4", &["10.9.1.0/24"], &[65004], &secret);
    assert_eq!(bench.has("e6"), [""; 0]);
}

#[test]
fn one_in_another_counts_for_what_it_is_made_of() {
    let mut bench = bench(&[("10.0.0.0/8", BESIDE), ("10.9.0.0/16", BESIDE)]);
    bench.announce("e4", &["10.9.1.0/24"], &[65004], &[]);
    assert_eq!(bench.has("e6"), ["10.0.0.0/8", "10.9.0.0/16", "10.9.1.0/24"]);
    bench.withdraw("e4", &["10.9.1.0/24"]);
    assert_eq!(bench.has("e6"), [""; 0]);
}

#[test]
fn a_route_of_our_own_for_the_same_prefix_stays_what_it_is() {
    let mut bench = bench(&[("10.0.0.0/8", BESIDE), ("10.9.0.0/16", SUMMARY)]);
    let route = Origination { preference: 250, med: Some(5), ..Origination::default() };
    bench.input(Input::Originate { prefix: net("10.9.0.0/16"), route });
    assert_eq!(bench.has("e6"), ["10.0.0.0/8", "10.9.0.0/16"], "it lies in the greater one");
    bench.announce("e4", &["10.9.1.0/24"], &[65004], &[]);
    assert_eq!(bench.told("e6", "10.9.0.0/16").unwrap().find(aggregator), None);
    bench.input(Input::Withdraw { prefix: net("10.9.0.0/16") });
    assert!(bench.told("e6", "10.9.0.0/16").unwrap().find(aggregator).is_some());
    bench.withdraw("e4", &["10.9.1.0/24"]);
    assert_eq!(bench.has("e6"), [""; 0]);
}

#[test]
fn another_configuration_changes_what_is_told_and_no_session() {
    let mut bench = bench(&[]);
    bench.announce("e4", &["10.9.1.0/24", "10.9.2.0/24"], &[65004], &[]);
    let wanted = |aggregates: &[(&str, Aggregate)], config: &SpeakerConfig| SpeakerConfig {
        aggregates: aggregates.iter().map(|(prefix, aggregate)| (net(prefix), *aggregate)).collect(),
        ..config.clone()
    };
    for (aggregates, expected) in [
        (&[("10.9.0.0/16", SUMMARY)][..], &["10.9.0.0/16"][..]),
        (&[("10.9.0.0/16", BESIDE)], &["10.9.0.0/16", "10.9.1.0/24", "10.9.2.0/24"]),
        (&[("10.0.0.0/8", SUMMARY), ("10.9.0.0/16", BESIDE)], &["10.0.0.0/8"]),
        (&[], &["10.9.1.0/24", "10.9.2.0/24"]),
    ] {
        let config = wanted(aggregates, bench.speaker.config());
        bench.input(Input::Configure(config));
        assert_eq!(bench.has("e6"), expected);
        assert!(bench.probes.values().all(|probe| !probe.closed));
    }
}

#[test]
fn it_says_what_it_is_made_of_and_why_the_rest_is_not_told() {
    let mut bench = bench(&[("10.9.0.0/16", SUMMARY)]);
    bench.announce("e4", &["10.9.1.0/24", "10.9.2.0/24"], &[65004], &[]);
    let whole = bench.speaker.explain(net("10.9.0.0/16"), None).unwrap();
    let aggregate = whole.aggregate.expect("it is one");
    assert_eq!((aggregate.count, aggregate.first), (2, vec![net("10.9.1.0/24"), net("10.9.2.0/24")]));
    let part = bench.speaker.explain(net("10.9.1.0/24"), Some("e6")).unwrap();
    assert_eq!(part.aggregate, None);
    let reason = part.told[0].route.as_ref().expect_err("the aggregate is told");
    assert_eq!(reason.to_string(), "an aggregate that it lies in is told in its place");
    let internal = bench.speaker.explain(net("10.9.0.0/16"), Some("i2")).unwrap();
    let reason = internal.told[0].route.as_ref().expect_err("it is for others");
    assert_eq!(reason.to_string(), "it is an aggregate for external peers only");
}

/// What e6 is told, from what the two senders have: `(prefix, sender)` to the path behind the sender's AS.
fn model(
    routes: &BTreeMap<(IpNet, u8), Vec<u32>>,
    aggregates: &BTreeMap<IpNet, bool>,
) -> BTreeMap<IpNet, String> {
    let whole = |sender: u8, path: &[u32]| [&[65000 + u32::from(sender)], path].concat();
    let mut best: BTreeMap<IpNet, Vec<u32>> = BTreeMap::new();
    for ((prefix, sender), path) in routes {
        let path = whole(*sender, path);
        let shorter = best.get(prefix).is_none_or(|known| path.len() < known.len());
        shorter.then(|| best.insert(*prefix, path));
    }
    let text = |path: &[u32]| {
        let all = std::iter::once(&OUR_AS).chain(path).map(u32::to_string);
        all.collect::<Vec<_>>().join(" ")
    };
    let inside = |outer: &IpNet, prefix: &IpNet| outer.contains(prefix) && outer != prefix;
    let hidden = |prefix: &IpNet| aggregates.iter().any(|(outer, only)| *only && inside(outer, prefix));
    let mut told: BTreeMap<IpNet, String> = best
        .iter()
        .map(|(prefix, path)| (*prefix, text(path)))
        .filter(|(prefix, _)| !hidden(prefix))
        .collect();
    for outer in aggregates.keys().filter(|outer| !hidden(outer)) {
        let parts: Vec<&Vec<u32>> =
            best.iter().filter(|(prefix, _)| inside(outer, prefix)).map(|(_, path)| path).collect();
        let Some(first) = parts.first() else { continue };
        let common =
            (0..first.len()).take_while(|at| parts.iter().all(|path| path.get(*at) == first.get(*at)));
        let summary = text(&first[..common.count()]);
        told.entry(*outer).or_insert(summary);
    }
    told
}

#[test]
fn whatever_comes_and_goes_it_is_what_a_simple_model_says() {
    let prefixes =
        ["10.9.0.0/16", "10.9.1.0/24", "10.9.1.128/25", "10.9.2.0/24", "10.8.0.0/16", "11.0.0.0/8"];
    let outer = ["10.0.0.0/8", "10.9.0.0/16", "10.9.1.0/24", "0.0.0.0/0"];
    for seed in 0..40 {
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bench = bench(&[]);
        let mut aggregates: BTreeMap<IpNet, bool> = BTreeMap::new();
        let mut routes: BTreeMap<(IpNet, u8), Vec<u32>> = BTreeMap::new();
        for step in 0..150 {
            let (prefix, sender) = (prefixes[rng.usize(0..prefixes.len())], rng.u8(4..6));
            let name = format!("e{sender}");
            match rng.u8(0..20) {
                0 => {
                    let prefix = net(outer[rng.usize(0..outer.len())]);
                    if aggregates.remove(&prefix).is_none() {
                        aggregates.insert(prefix, rng.bool());
                    }
                    let of = |(prefix, only): (&IpNet, &bool)| {
                        (*prefix, Aggregate { summary_only: *only, internal: true, local_pref: None })
                    };
                    let config = SpeakerConfig {
                        aggregates: aggregates.iter().map(of).collect(),
                        ..bench.speaker.config().clone()
                    };
                    bench.input(Input::Configure(config));
                }
                1 => {
                    bench.lose(&name);
                    routes.retain(|(_, other), _| *other != sender);
                    bench.wait(Duration::from_secs(60));
                    up(&mut bench, &name);
                }
                2..=8 => {
                    bench.withdraw(&name, &[prefix]);
                    routes.remove(&(net(prefix), sender));
                }
                _ => {
                    let path: Vec<u32> = (0..rng.usize(0..3)).map(|_| rng.u32(7..9)).collect();
                    let whole = [&[65000 + u32::from(sender)], &path[..]].concat();
                    bench.announce(&name, &[prefix], &whole, &[]);
                    routes.insert((net(prefix), sender), path);
                }
            }
            let told: BTreeMap<IpNet, String> =
                bench.probes["e6"].routes.iter().map(|(prefix, told)| (*prefix, told.path())).collect();
            let expected = model(&routes, &aggregates);
            // A learned route for the very prefix of an aggregate is taken in its place.
            assert_eq!(told, expected, "seed {seed}, step {step}: {routes:?}, {aggregates:?}");
        }
        let all: BTreeSet<(IpNet, u8)> = routes.into_keys().collect();
        all.iter().for_each(|(prefix, sender)| bench.withdraw(&format!("e{sender}"), &[&prefix.to_string()]));
        assert_eq!(bench.speaker.attribute_sets(), 0, "seed {seed}: nothing is left");
    }
}

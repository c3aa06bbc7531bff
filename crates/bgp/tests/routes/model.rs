//! Whatever the order of announcements, withdrawals and losses: what is selected and told is what a naive model says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bgp::Start;
use bgp::config::{AddPath, SendPaths};
use bgp::packet::attribute::AttributeValue;
use bgp::packet::capability::{AddPathMode, Capability};
use bgp::{Family, PeerConfig};

use crate::bench::{Bench, OUR_AS, config, net, peer, peer_address};

const SENDERS: [u8; 4] = [4, 5, 6, 7];
const PREFIXES: [&str; 5] =
    ["203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/25", "10.9.0.0/16", "10.9.1.0/24"];

/// A route as the model sees it. The path begins with the sender's AS; all are external.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    sender: u8,
    path: Vec<u32>,
    med: u32,
}

/// Senders share next hops, but not those that share an AS.
fn next_hop(sender: u8) -> IpAddr {
    peer_address(100 + sender % 2)
}

/// ORIGIN, AS_PATH and LOCAL_PREF are the bench's.
fn attributes(route: &Route) -> Vec<AttributeValue> {
    let IpAddr::V4(address) = next_hop(route.sender) else { panic!("IPv4") };
    vec![AttributeValue::Med(route.med), AttributeValue::NextHop(address)]
}

/// RFC 4271, section 9.1.2.2, for such routes: those that can be used together, the best first.
fn equally_good(routes: &[Route]) -> Vec<Route> {
    let shortest = routes.iter().map(|route| route.path.len()).min();
    let short: Vec<&Route> = routes.iter().filter(|route| Some(route.path.len()) == shortest).collect();
    let beaten =
        |route: &Route| short.iter().any(|other| other.path[0] == route.path[0] && other.med < route.med);
    let mut left: Vec<Route> = short.iter().filter(|route| !beaten(route)).map(|r| (*r).clone()).collect();
    left.sort_by_key(|route| route.sender);
    left
}

/// e4 to e7 send; i2 takes all routes, i3 the two best, i8 the best one, i9 the best of each next hop.
fn peers() -> Vec<(String, PeerConfig)> {
    // Two senders share an AS, so that MEDs matter.
    let senders = SENDERS.map(|last| (format!("e{last}"), peer(last, 65000 + u32::from(last / 2))));
    let receiver = |last: u8, send| {
        let mut config = peer(last, OUR_AS);
        config.add_path = AddPath { receive: false, send };
        (format!("i{last}"), config)
    };
    let receivers = [
        receiver(2, SendPaths::All),
        receiver(3, SendPaths::Best(2)),
        receiver(8, SendPaths::None),
        receiver(9, SendPaths::EachNextHop),
    ];
    senders.into_iter().chain(receivers).collect()
}

fn start() -> Bench {
    let peers = peers();
    let named: Vec<(&str, PeerConfig)> =
        peers.iter().map(|(name, peer)| (name.as_str(), peer.clone())).collect();
    let mut bench = Bench::new(config(&named), Start::Fresh);
    for (name, peer) in &peers {
        bench.up_with(name, |capabilities| {
            // Routes go at once with their session.
            capabilities.retain(|capability| !matches!(capability, Capability::GracefulRestart(_)));
            if peer.add_path.send != SendPaths::None {
                let families = Family::ALL.map(|family| (family.into(), AddPathMode::Receive));
                capabilities.push(Capability::AddPath(families.to_vec()));
            }
        });
    }
    bench
}

fn paths(bench: &Bench, name: &str, prefix: &str) -> BTreeSet<String> {
    let of_prefix = bench.probes[name].paths.iter().filter(|((other, _), _)| *other == net(prefix));
    of_prefix.map(|(_, told)| told.path()).collect()
}

fn text(route: &Route) -> String {
    route.path.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn check(bench: &Bench, model: &BTreeMap<(&str, u8), Route>, step: &str) {
    for prefix in PREFIXES {
        let routes: Vec<Route> =
            model.iter().filter(|((other, _), _)| *other == prefix).map(|(_, route)| route.clone()).collect();
        let good = equally_good(&routes);
        let hops: BTreeSet<IpAddr> = good.iter().map(|route| next_hop(route.sender)).collect();
        let hops: Vec<IpAddr> = hops.into_iter().collect();
        let kernel = bench.kernel.get(&net(prefix)).map(|route| route.next_hops.clone()).unwrap_or_default();
        assert_eq!(kernel, hops, "{step}: {prefix} in the kernel, of {routes:?}");
        let best = bench.told("i8", prefix).map(|told| told.path());
        assert_eq!(best, good.first().map(text), "{step}: {prefix} at i8, of {routes:?}");
        let all: BTreeSet<String> = routes.iter().map(text).collect();
        assert_eq!(paths(bench, "i2", prefix), all, "{step}: {prefix} at i2");
        let others: Vec<Route> =
            routes.iter().filter(|route| Some(*route) != good.first()).cloned().collect();
        let second = equally_good(&others);
        let two: BTreeSet<String> = good.first().into_iter().chain(second.first()).map(text).collect();
        assert_eq!(paths(bench, "i3", prefix), two, "{step}: {prefix} at i3, of {routes:?}");
        let by_next_hop = [0, 1].map(|parity| {
            let same: Vec<Route> =
                routes.iter().filter(|route| route.sender % 2 == parity).cloned().collect();
            equally_good(&same).first().map(text)
        });
        let one_each: BTreeSet<String> = by_next_hop.into_iter().flatten().collect();
        assert_eq!(paths(bench, "i9", prefix), one_each, "{step}: {prefix} at i9, of {routes:?}");
    }
}

#[test]
fn what_is_selected_and_told_follows_from_the_routes_that_are_there() {
    for seed in 0..15 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bench = start();
        let mut model: BTreeMap<(&str, u8), Route> = BTreeMap::new();
        for step in 0..120 {
            let (prefix, sender) = (PREFIXES[rng.usize(0..5)], SENDERS[rng.usize(0..4)]);
            let name = format!("e{sender}");
            match rng.u8(0..20) {
                0 => {
                    bench.lose(&name);
                    model.retain(|(_, other), _| *other != sender);
                    // A session that has just failed rests for a while.
                    bench.wait(Duration::from_secs(60));
                    bench.up_with(&name, |capabilities| {
                        capabilities.retain(|c| !matches!(c, Capability::GracefulRestart(_)));
                    });
                }
                1..=5 => {
                    bench.withdraw(&name, &[prefix]);
                    model.remove(&(prefix, sender));
                }
                // Another process goes on, which nobody notices.
                6..=7 => {
                    let before = (bench.messages(), bench.kernel.clone());
                    bench.take_over(bench.speaker.config().clone());
                    assert_eq!((bench.messages(), bench.kernel.clone()), before, "seed {seed}, step {step}");
                }
                _ => {
                    // The sender's number makes paths distinct, without making them longer.
                    let length = rng.usize(1..3);
                    let mut path = vec![65000 + u32::from(sender / 2), u32::from(sender)];
                    path.extend(std::iter::repeat_n(7, length));
                    let med = rng.u32(0..3);
                    let route = Route { sender, path, med };
                    bench.announce(&name, &[prefix], &route.path, &attributes(&route));
                    model.insert((prefix, sender), route);
                }
            }
            check(&bench, &model, &format!("seed {seed}, step {step}"));
        }
        for (prefix, sender) in model.keys() {
            bench.withdraw(&format!("e{sender}"), &[prefix]);
        }
        check(&bench, &BTreeMap::new(), &format!("seed {seed}, at the end"));
        assert_eq!(bench.speaker.attribute_sets(), 0, "seed {seed}: nothing is left");
    }
}

#[test]
fn the_order_of_announcements_does_not_matter() {
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut routes: Vec<(&str, Route)> = Vec::new();
        for prefix in PREFIXES {
            for sender in SENDERS {
                let mut path = vec![65000 + u32::from(sender / 2), u32::from(sender)];
                path.extend(std::iter::repeat_n(7, rng.usize(0..2)));
                routes.push((prefix, Route { sender, path, med: rng.u32(0..3) }));
            }
        }
        let model: BTreeMap<(&str, u8), Route> =
            routes.iter().map(|(prefix, route)| ((*prefix, route.sender), route.clone())).collect();
        for order in 0..4 {
            let mut bench = start();
            for (prefix, route) in &routes {
                bench.announce(&format!("e{}", route.sender), &[prefix], &route.path, &attributes(route));
            }
            check(&bench, &model, &format!("seed {seed}, order {order}"));
            rng.shuffle(&mut routes);
        }
    }
}

/// The best route of each next hop that does not come from somebody: shortest AS_PATH, then lowest identifier.
fn best_of_others(routes: &BTreeMap<(&str, u8), Route>, prefix: &str, member: u8) -> BTreeSet<String> {
    let best = |parity: u8| {
        let others = routes.iter().filter(|((of, sender), route)| {
            *of == prefix && *sender != member && route.med % 2 == u32::from(parity)
        });
        others.map(|(_, route)| route).min_by_key(|route| (route.path.len(), route.sender)).map(text)
    };
    [0, 1].into_iter().filter_map(best).collect()
}

#[test]
fn reflectors_that_have_each_other_as_clients_get_the_best_of_each_next_hop_from_others() {
    let client = |last| {
        let mut config = peer(last, OUR_AS);
        config.reflector_client = true;
        config.add_path = AddPath { receive: true, send: SendPaths::EachNextHop };
        config
    };
    let names = SENDERS.map(|last| (format!("c{last}"), last));
    let peers: Vec<(&str, PeerConfig)> =
        names.iter().map(|(name, last)| (name.as_str(), client(*last))).collect();
    let up = |bench: &mut Bench, name: &str| {
        bench.up_with(name, |capabilities| {
            capabilities.retain(|capability| !matches!(capability, Capability::GracefulRestart(_)));
            let families = Family::ALL.map(|family| (family.into(), AddPathMode::Both));
            capabilities.push(Capability::AddPath(families.to_vec()));
        });
    };
    for seed in 0..15 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bench = Bench::new(config(&peers), Start::Fresh);
        names.iter().for_each(|(name, _)| up(&mut bench, name));
        let mut model: BTreeMap<(&str, u8), Route> = BTreeMap::new();
        for step in 0..200 {
            let (name, sender) = &names[rng.usize(0..4)];
            let prefix = PREFIXES[rng.usize(0..5)];
            match rng.u8(0..20) {
                0 => {
                    bench.lose(name);
                    model.retain(|(_, other), _| other != sender);
                    // A session that has just failed rests for a while.
                    bench.wait(Duration::from_secs(60));
                    up(&mut bench, name);
                }
                1..=6 => {
                    bench.withdraw_path(name, prefix, 1);
                    model.remove(&(prefix, *sender));
                }
                _ => {
                    let mut path = vec![u32::from(*sender)];
                    path.extend(std::iter::repeat_n(7, rng.usize(0..3)));
                    let route = Route { sender: *sender, path, med: rng.u32(0..2) };
                    let hop = AttributeValue::NextHop([10, 9, 9, 1 + route.med as u8].into());
                    bench.announce_path_with(name, prefix, 1, &route.path, &[hop]);
                    model.insert((prefix, *sender), route);
                }
            }
            for prefix in PREFIXES {
                for (name, member) in &names {
                    let expected = best_of_others(&model, prefix, *member);
                    let told = paths(&bench, name, prefix);
                    assert_eq!(told, expected, "seed {seed}, step {step}: {prefix} at {name}, of {model:?}");
                }
            }
        }
    }
}

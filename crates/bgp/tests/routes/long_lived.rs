//! Long-lived graceful restart (RFC 9494), as the one that keeps.

use std::time::Duration;

use bgp::config::LongLived;
use bgp::packet::attribute::{AttributeValue, Community};
use bgp::packet::capability::{Capability, FamilyCode};
use bgp::{Family, PeerConfig, Start};

use crate::bench::{Bench, OUR_AS, config, net, peer};

const RESTART: Duration = Duration::from_secs(120);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn long_lived(last: u8, asn: u32) -> PeerConfig {
    PeerConfig { long_lived: Some(LongLived { stale_time: secs(3600) }), ..peer(last, asn) }
}

/// The peer wants its IPv4 routes to be kept for so long.
fn keeps(secs: u32) -> impl FnOnce(&mut Vec<Capability>) {
    move |capabilities| {
        let family = FamilyCode::from(Family::Ipv4Unicast);
        capabilities.push(Capability::LongLivedGracefulRestart(vec![(family, true, secs)]));
    }
}

/// i2 has gone; e3 knows long-lived routes, e4 does not; i5 has another route for one of the prefixes.
fn gone(stale_time: u32) -> Bench {
    let peers = [
        ("i2", long_lived(2, OUR_AS)),
        ("e3", long_lived(3, 65003)),
        ("e4", peer(4, 65004)),
        ("i5", peer(5, OUR_AS)),
    ];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    bench.up_with("i2", keeps(stale_time));
    bench.up_with("e3", keeps(600));
    bench.up("e4");
    bench.up("i5");
    bench.announce("i2", &["10.2.0.0/16", "10.25.0.0/16", "2001:db8:2::/64"], &[], &[]);
    bench.announce("i2", &["10.99.0.0/16"], &[], &[AttributeValue::Communities(vec![Community::NO_LLGR])]);
    // Worse in every way, but alive.
    bench.announce("i5", &["10.25.0.0/16"], &[7, 8, 9], &[AttributeValue::LocalPref(1)]);
    bench.lose("i2");
    bench
}

fn is_marked(bench: &Bench, name: &str, prefix: &str) -> bool {
    let list = bench.told(name, prefix).expect("told").find(|value| match value {
        AttributeValue::Communities(list) => Some(list.clone()),
        _ => None,
    });
    list.is_some_and(|list| list.contains(&Community::LLGR_STALE))
}

#[test]
fn after_the_restart_time_routes_are_the_last_resort_and_only_for_those_who_know() {
    let mut bench = gone(1000);
    bench.wait(RESTART - secs(1));
    assert!(!is_marked(&bench, "e3", "10.2.0.0/16"), "graceful restart is not over");
    bench.wait(secs(1));
    assert!(is_marked(&bench, "e3", "10.2.0.0/16"));
    assert!(bench.told("e4", "10.2.0.0/16").is_none(), "it does not know such routes");
    assert!(bench.kernel.contains_key(&net("10.2.0.0/16")), "better than nothing");
    let other = &bench.kernel[&net("10.25.0.0/16")];
    assert!(format!("{other:?}").contains("10.0.0.5"), "any living route is better: {other:?}");
    assert!(!is_marked(&bench, "e3", "10.25.0.0/16"));
    assert!(!bench.kernel.contains_key(&net("10.99.0.0/16")), "NO_LLGR");
    assert!(!bench.kernel.contains_key(&net("2001:db8:2::/64")), "not a family that is kept");
    bench.wait(secs(999));
    assert!(bench.kernel.contains_key(&net("10.2.0.0/16")));
    bench.wait(secs(1));
    assert!(!bench.kernel.contains_key(&net("10.2.0.0/16")), "the stale time is over");
    assert!(bench.told("e3", "10.2.0.0/16").is_none());
}

#[test]
fn no_peer_gets_more_than_our_own_stale_time() {
    let mut bench = gone(1_000_000);
    bench.wait(RESTART + secs(3599));
    assert!(bench.kernel.contains_key(&net("10.2.0.0/16")));
    bench.wait(secs(1));
    assert!(!bench.kernel.contains_key(&net("10.2.0.0/16")));
}

#[test]
fn a_peer_that_comes_back_has_ordinary_routes_again() {
    let mut bench = gone(1000);
    bench.wait(RESTART + secs(500));
    bench.up_with("i2", keeps(1000));
    assert!(is_marked(&bench, "e3", "10.2.0.0/16"), "kept until it is announced again");
    bench.announce("i2", &["10.2.0.0/16"], &[], &[]);
    assert!(!is_marked(&bench, "e3", "10.2.0.0/16"));
    assert!(bench.told("e4", "10.2.0.0/16").is_some());
    bench.end_of_rib("i2");
    bench.wait(secs(2000));
    assert!(bench.kernel.contains_key(&net("10.2.0.0/16")), "no timer is left behind");
}

#[test]
fn the_stale_time_goes_on_while_the_peer_is_back_without_end_of_rib_or_fails_again() {
    let mut bench = gone(1000);
    bench.wait(RESTART + secs(500));
    bench.up_with("i2", keeps(1000));
    bench.wait(secs(100));
    bench.lose("i2");
    assert!(bench.kernel.contains_key(&net("10.2.0.0/16")), "kept as before");
    bench.wait(secs(399));
    assert!(bench.kernel.contains_key(&net("10.2.0.0/16")));
    bench.wait(secs(1));
    assert!(!bench.kernel.contains_key(&net("10.2.0.0/16")));
}

#[test]
fn a_peer_that_has_not_kept_forwarding_loses_its_routes_at_once() {
    let mut bench = gone(1000);
    bench.wait(RESTART + secs(10));
    bench.up_with("i2", |capabilities| {
        capabilities.retain(|capability| !matches!(capability, Capability::GracefulRestart(_)));
    });
    assert!(!bench.kernel.contains_key(&net("10.2.0.0/16")));
}

#[test]
fn a_route_that_is_stale_elsewhere_is_the_last_resort_here_too() {
    let peers = [("i2", peer(2, OUR_AS)), ("i3", peer(3, OUR_AS)), ("e4", peer(4, 65004))];
    let mut bench = Bench::new(config(&peers), Start::Fresh);
    peers.iter().for_each(|(name, _)| bench.up(name));
    let stale = AttributeValue::Communities(vec![Community::LLGR_STALE]);
    bench.announce("i2", &["10.2.0.0/16"], &[], &[stale, AttributeValue::LocalPref(1000)]);
    assert!(bench.kernel.contains_key(&net("10.2.0.0/16")));
    assert!(bench.told("e4", "10.2.0.0/16").is_none());
    bench.announce("i3", &["10.2.0.0/16"], &[], &[]);
    assert!(format!("{:?}", bench.kernel[&net("10.2.0.0/16")]).contains("10.0.0.3"));
    assert!(bench.told("e4", "10.2.0.0/16").is_some());
}

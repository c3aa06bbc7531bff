//! Two numbers of one AS, while the hosts of a network move from one to the other (RFC 7705, section 4).

use std::time::Duration;

use bgp::config::ConnectMode;
use bgp::query::{Cursor, RouteFilter, View};
use bgp::{Asn, SpeakerConfig};

use crate::network::{World, address, mesh_config, peer_id};

const OLD: Asn = Asn(64999);
const NEW: Asn = Asn(64512);
const MINUTE: Duration = Duration::from_secs(60);

/// A host in an AS, whose peer is in the same one, or perhaps in another.
fn host(host: usize, asn: Asn, alias: Option<Asn>) -> SpeakerConfig {
    let mut config = mesh_config(host, 2, false);
    config.local_as = asn;
    let peer = config.peers.get_mut(&peer_id(1 - host)).expect("the other one");
    peer.remote_as = asn;
    peer.alias_as = alias;
    config
}

fn world(seed: u64, configs: Vec<SpeakerConfig>) -> World {
    let mut world = World::new(seed, configs);
    for host in 0..2 {
        world.boot(host);
        world.originate(host, &format!("10.65.{host}.0/26"));
    }
    world
}

#[test]
fn a_peer_that_has_moved_and_one_that_has_not_are_internal_to_each_other() {
    for seed in 0..60 {
        println!("seed {seed}");
        let mut configs = vec![host(0, NEW, Some(OLD)), host(1, OLD, None)];
        // Both dial, or only one of them does.
        if let Some(passive) = [None, Some(0), Some(1)][(seed % 3) as usize] {
            let peer = configs[passive].peers.get_mut(&peer_id(1 - passive)).expect("the other one");
            peer.connect = ConnectMode::Passive;
        }
        let mut world = world(seed, configs);
        world.await_condition(MINUTE, "up", |world| world.all_established() && world.is_converged());
        for host in 0..2 {
            let speaker = world.hosts[host].speaker.as_ref().expect("it runs");
            let filter = RouteFilter { view: View::Received(peer_id(1 - host)), prefix: None, longer: false };
            let routes = speaker.routes(&filter, Cursor::START).routes;
            assert_eq!(routes.len(), 1);
            let path = routes[0].attributes.decode();
            assert!(path.iter().all(|attribute| attribute.value.name() != Some("as-path") || {
                matches!(&attribute.value, bgp::packet::attribute::AttributeValue::AsPath(path) if path.segments.is_empty())
            }), "an internal route has no AS of ours in its path: {path:?}");
            assert_eq!(routes[0].attributes.local_pref, 100);
        }
    }
}

#[test]
fn both_may_know_the_two_numbers_whichever_is_theirs() {
    for (seed, (first, second)) in [(NEW, NEW), (NEW, OLD), (OLD, NEW), (OLD, OLD)].into_iter().enumerate() {
        let other = |asn| if asn == NEW { OLD } else { NEW };
        let configs = vec![host(0, first, Some(other(first))), host(1, second, Some(other(second)))];
        let mut world = world(seed as u64, configs);
        world.await_condition(MINUTE, "up", |world| world.all_established() && world.is_converged());
    }
}

#[test]
fn a_peer_with_a_third_number_is_refused_all_the_same() {
    let mut world = world(1, vec![host(0, NEW, Some(OLD)), host(1, Asn(7), None)]);
    world.run(2 * MINUTE);
    let status = world.hosts[0].speaker.as_ref().expect("it runs").status();
    assert!(status[0].established.is_none());
    assert!(
        matches!(&status[0].reason, Some(bgp::session::Reason::WrongAs { offered: Asn(7), .. })),
        "{status:?}"
    );
    assert_eq!(status[0].address, std::net::IpAddr::V4(address(1)));
}

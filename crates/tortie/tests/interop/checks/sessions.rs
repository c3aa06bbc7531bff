//! Sessions and routes of every sort.

use super::{THEM, US, await_down, exchange, pair};
use crate::daemon::Daemon;
use crate::ours::cluster_id;
use crate::pings::Pings;
use crate::side::{Ip, Neighbour, OUR_AS, Side, THEIR_AS, address, block};
use crate::world::{Who, World};

/// A third speaker, one of ours.
const THIRD: u8 = 3;

pub(crate) fn internal(daemon: &'static dyn Daemon) {
    exchanges_routes(daemon, OUR_AS);
}

pub(crate) fn external(daemon: &'static dyn Daemon) {
    exchanges_routes(daemon, THEIR_AS);
}

/// Routes go both ways, into the kernel, and go when the peer does.
fn exchanges_routes(daemon: &'static dyn Daemon, their_as: u32) {
    let mut world = pair(daemon, their_as, |_| ());
    world.start_all();
    exchange(&world);
    for ip in Ip::BOTH {
        let (prefix, next_hop) = (block(THEM, ip), address(THEM, ip));
        world.await_that(&format!("{prefix} in our kernel"), |world| {
            world.host(US).kernel_route(&prefix).contains(&format!("via {next_hop} dev wire proto bird"))
        });
    }
    world.kill(THEM);
    await_down(&world);
}

pub(crate) fn client_of_ours(daemon: &'static dyn Daemon) {
    let reflected = |neighbour: &mut Neighbour| neighbour.is_client = true;
    let mut world = World::new();
    world.add(Who::Us, Side::new(US, OUR_AS).with(&[(THEM, OUR_AS), (THIRD, OUR_AS)], reflected));
    for (host, who) in [(THEM, Who::Daemon(daemon)), (THIRD, Who::Us)] {
        world.add(who, Side::new(host, OUR_AS).with(&[(US, OUR_AS)], |_| ()));
    }
    world.start_all();
    exchange(&world);
    reflects(&world, &cluster_id(world.host(US).side()), &[(THEM, THIRD), (THIRD, THEM)]);
}

pub(crate) fn our_reflector(daemon: &'static dyn Daemon) {
    let reflected = |neighbour: &mut Neighbour| neighbour.is_client = true;
    let mut world = World::new();
    world.add(Who::Daemon(daemon), Side::new(THEM, OUR_AS).with(&[(US, OUR_AS), (THIRD, OUR_AS)], reflected));
    for host in [US, THIRD] {
        world.add(Who::Us, Side::new(host, OUR_AS).with(&[(THEM, OUR_AS)], |_| ()));
    }
    world.start_all();
    exchange(&world);
    // All daemons take their identifier for the cluster's.
    reflects(&world, &address(THEM, Ip::V4), &[(US, THIRD), (THIRD, US)]);
}

/// What one client has from the other went through the cluster, and keeps its originator and next hop.
fn reflects(world: &World, cluster: &str, pairs: &[(u8, u8)]) {
    for (at, of) in pairs {
        world.await_blocks(*at, *of);
        for ip in Ip::BOTH {
            let shown = world.host(*at).route(&block(*of, ip));
            for expected in [cluster, &address(*of, Ip::V4), &address(*of, ip)] {
                world.check(
                    &format!("{expected} in what host {at} has of host {of}: {shown}"),
                    shown.contains(expected),
                );
            }
        }
    }
}

pub(crate) fn both_families(daemon: &'static dyn Daemon) {
    over_one_session(daemon, Ip::V4);
}

/// IPv4 over IPv6: our host and the daemon's have no IPv4 address that the other's routes could lead to.
pub(crate) fn extended_next_hop(daemon: &'static dyn Daemon) {
    over_one_session(daemon, Ip::V6);
}

fn over_one_session(daemon: &'static dyn Daemon, over: Ip) {
    let mut world = World::new();
    for (host, other, who) in [(US, THEM, Who::Us), (THEM, US, Who::Daemon(daemon))] {
        let mut side = Side::new(host, OUR_AS);
        side.neighbours.push(Neighbour::of_both(other, OUR_AS, over));
        world.add(who, side);
    }
    world.start_all();
    exchange(&world);
    let prefix = block(THEM, Ip::V4);
    let words = if over == Ip::V6 { "via inet6" } else { "via" };
    world.await_that(&format!("{prefix} in our kernel {words}"), |world| {
        let next_hop = address(THEM, over);
        world.host(US).kernel_route(&prefix).contains(&format!("{words} {next_hop} dev wire proto bird"))
    });
    if !daemon.has_kernel() {
        world.host(THEM).route_by_hand(US);
    }
    for ip in Ip::BOTH {
        let pings = Pings::start(&world, US, THEM, ip);
        pings.go_on(&world, 5);
    }
}

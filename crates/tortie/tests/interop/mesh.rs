//! A cluster that is moved node by node: two hosts of ours, and one with BIRD as Calico configures it.

use std::fmt::Write;

use crate::daemon::Bird;
use crate::ours;
use crate::pings::Pings;
use crate::results::Cell;
use crate::side::{Ip, OUR_AS, Side, address, block};
use crate::world::{Who, World, has_told_all};

const HOSTS: [u8; 3] = [1, 2, 3];
/// The one that has BIRD at first.
const OLD: u8 = 3;

/// Calico's BIRD, in the words of BIRD 2, for one of the hosts.
fn calico(host: u8) -> String {
    let mut text = format!("router id {};\nprotocol device {{ scan time 2; }}\n", address(host, Ip::V4));
    for ip in Ip::BOTH {
        let (word, own) = (ip.word(), block(host, ip));
        let pool = if ip == Ip::V4 { "10.65.0.0/16" } else { "fd65::/64" };
        let _ = writeln!(
            text,
            "filter export_{word} {{ if (net = {own}) then accept; if (net ~ {own}) then reject;\n\
             if (net ~ {pool}) then accept; reject; }}\n\
             filter kernel_{word} {{ if (source = RTS_STATIC || source = RTS_BGP) then accept; reject; }}\n\
             protocol kernel {{ learn; persist; scan time 2; merge paths on; graceful restart;\n\
             {word} {{ import all; export filter kernel_{word}; }}; }}\n\
             protocol direct {{ {word}; interface -\"cali*\", -\"kube-ipvs*\", \"*\"; }}\n\
             protocol static {{ {word}; route {own} blackhole; }}"
        );
        for other in HOSTS.into_iter().filter(|other| *other != host) {
            let passive = if address(other, ip) > address(host, ip) { "passive on;" } else { "" };
            let _ = writeln!(
                text,
                "protocol bgp Mesh_{other}_{word} {{ local {} as {OUR_AS}; neighbor {} as {OUR_AS}; multihop; {passive}\n\
                 graceful restart; connect delay time 1; connect retry time 2; error wait time 1, 2;\n\
                 {word} {{ import all; export filter export_{word}; add paths on; gateway recursive; }}; }}",
                address(host, ip),
                address(other, ip)
            );
        }
    }
    text
}

fn await_mesh(world: &World) {
    for at in HOSTS {
        for of in HOSTS.into_iter().filter(|of| *of != at) {
            world.await_in_kernel(at, of);
        }
    }
}

/// Pings between each two of the hosts, in both families.
fn pings(world: &World) -> Vec<Pings> {
    let pairs = [(1, 2), (1, 3), (2, 3)].into_iter();
    let pings = pairs.flat_map(|(from, to)| Ip::BOTH.map(|ip| Pings::start(world, from, to, ip)));
    let pings: Vec<Pings> = pings.collect();
    pings.iter().for_each(|pings| pings.go_on(world, 20));
    pings
}

#[test]
fn a_mesh_with_calicos_bird_forwards_between_all_and_goes_on_when_bird_is_replaced() {
    let feature =
        "a mesh of two nodes of ours and one of Calico's BIRD, which is then replaced, under traffic";
    let cell = Cell { place: ("mesh", 0, 0), feature, peer: ("BIRD", "bird2") };
    cell.note(None, moves_node_by_node);
}

fn moves_node_by_node() {
    let mut world = World::new();
    for host in HOSTS {
        let who = if host == OLD { Who::Daemon(&Bird) } else { Who::Us };
        world.add(who, Side::new(host, OUR_AS));
        let configuration = if host == OLD { calico(host) } else { ours::mesh(host, &HOSTS) };
        world.host(host).configure(&configuration);
    }
    world.start_all();
    await_mesh(&world);
    world.watch_routes(OLD);
    let pings = pings(&world);
    world.kill(OLD);
    pings.iter().for_each(|pings| pings.go_on(&world, 20));
    world.replace(OLD, Who::Us, &ours::mesh(OLD, &HOSTS));
    for host in HOSTS {
        for other in HOSTS.into_iter().filter(|other| *other != host) {
            for ip in Ip::BOTH {
                world.await_that(&format!("host {host}: the session with host {other}, told all"), |world| {
                    let peer = world.host(host).peer(&address(other, ip));
                    peer["state"] == "Established" && has_told_all(&peer)
                });
            }
        }
    }
    await_mesh(&world);
    for pings in pings {
        pings.go_on(&world, 50);
        pings.finish(&world);
    }
}

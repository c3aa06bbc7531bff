//! A hundred thousand routes.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{THEM, US};
use crate::daemon::{Bird, Daemon};
use crate::side::{Ip, OUR_AS, Side, THEIR_AS, address};
use crate::world::{Who, World};

/// Where the routes come from.
const SOURCE: u8 = 3;
const SOURCE_AS: u32 = 64_700;
const ROUTES: u32 = 100_000;
/// GoBGP works on its routes one by one.
const LONG: Duration = Duration::from_secs(240);
/// Of what the source tells us: inside a pool, so that we pass it on.
const TO_US: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 128, 0, 0), 26);
/// Of what the source tells the daemon.
const TO_THEM: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 64, 0, 0), 28);

/// A source tells us as many routes as it tells the daemon, others; we and the daemon pass them on to each other.
pub(crate) fn each_way(daemon: &'static dyn Daemon) {
    let mut world = World::new();
    let side = |host: u8, asn: u32, others: &[(u8, u32)]| Side {
        forwards: false,
        ..Side::silent(host, asn, others)
    };
    world.add(Who::Us, side(US, OUR_AS, &[(THEM, THEIR_AS), (SOURCE, SOURCE_AS)]));
    world.add(Who::Daemon(daemon), side(THEM, THEIR_AS, &[(US, OUR_AS), (SOURCE, SOURCE_AS)]));
    world.add(Who::Daemon(&Bird), side(SOURCE, SOURCE_AS, &[]));
    world.host(SOURCE).configure(&source());
    world.start_all();
    world.await_sessions(US);
    let expected = ROUTES as usize;
    world.await_within(LONG, "all routes at the peer, by its own count", |world| {
        world.host(THEM).count_from(US) == Some(expected)
    });
    let counted = |world: &World, what: &str| {
        world.host(US).peer(&address(THEM, Ip::V4))["prefixes"]["ipv4/unicast"][what].as_u64()
    };
    // FRR also sends back what it has from us; of that nothing is used.
    for what in ["best", "advertised"] {
        world.await_within(LONG, &format!("all routes, {what} by our count"), |world| {
            counted(world, what) == Some(u64::from(ROUTES))
        });
    }
}

/// BIRD with a table for each of the two.
fn source() -> String {
    let mut text = format!("router id {};\nprotocol device {{}}\n", address(SOURCE, Ip::V4));
    for (name, (first, length), host, asn) in [("a", TO_US, US, OUR_AS), ("b", TO_THEM, THEM, THEIR_AS)] {
        let _ = writeln!(text, "ipv4 table {name};\nprotocol static {{ ipv4 {{ table {name}; }};");
        let step = 1 << (32 - u32::from(length));
        for index in 0..ROUTES {
            let network = Ipv4Addr::from_bits(first.to_bits() + index * step);
            let _ = writeln!(text, "  route {network}/{length} blackhole;");
        }
        let _ = writeln!(
            text,
            "}}\nprotocol bgp {{ local {} as {SOURCE_AS}; neighbor {} as {asn}; connect delay time 1; \
             connect retry time 2; error wait time 1, 2; ipv4 {{ table {name}; import none; export all; }}; }}",
            address(SOURCE, Ip::V4),
            address(host, Ip::V4)
        );
    }
    text
}

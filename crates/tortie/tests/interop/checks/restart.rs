//! Graceful restart (RFC 4724) while packets flow.

use super::{THEM, US, await_down, exchange, pair};
use crate::daemon::Daemon;
use crate::pings::Pings;
use crate::side::{Ip, OUR_AS, address, block};
use crate::world::{World, has_told_all};

/// Sessions up, and pings on their way in both families; `by_hand`: their way back does not depend on the daemon.
fn under_traffic(daemon: &'static dyn Daemon, by_hand: bool) -> (World, [Pings; 2]) {
    let mut world = pair(daemon, OUR_AS, |_| ());
    world.start_all();
    exchange(&world);
    if by_hand {
        world.host(THEM).route_by_hand(US);
    }
    for (at, of) in [(US, THEM), (THEM, US)] {
        world.await_in_kernel(at, of);
    }
    [US, THEM].into_iter().for_each(|host| world.watch_routes(host));
    let pings = Ip::BOTH.map(|ip| Pings::start(&world, US, THEM, ip));
    pings.iter().for_each(|pings| pings.go_on(&world, 20));
    (world, pings)
}

/// Pings go on a while longer, and none has been lost.
fn finish(world: &World, pings: [Pings; 2]) {
    for pings in pings {
        pings.go_on(world, 50);
        pings.finish(world);
    }
}

/// Sessions that came up anew, over which all routes have been told again.
fn await_complete(world: &World, established: u64) {
    for ip in Ip::BOTH {
        world.await_that("a new session, and End-of-RIB over it", |world| {
            let peer = world.host(US).peer(&address(THEM, ip));
            let stale = peer["prefixes"][format!("{}/unicast", ip.word())]["stale"].as_u64();
            peer["establishedCount"].as_u64() >= Some(established) && has_told_all(&peer) && stale == Some(0)
        });
    }
}

pub(crate) fn theirs(daemon: &'static dyn Daemon) {
    let (mut world, pings) = under_traffic(daemon, !daemon.keeps_kernel_routes());
    world.kill(THEM);
    await_down(&world);
    pings.iter().for_each(|pings| pings.go_on(&world, 20));
    for ip in Ip::BOTH {
        let routes = world.host(US).routes_for(&block(THEM, ip));
        world.check("the routes are kept as stale", routes.iter().any(|route| route["stale"] == true));
    }
    world.start_again(THEM);
    await_complete(&world, 2);
    exchange(&world);
    finish(&world, pings);
}

pub(crate) fn ours(daemon: &'static dyn Daemon) {
    let (mut world, pings) = under_traffic(daemon, !daemon.has_kernel());
    world.kill(US);
    pings.iter().for_each(|pings| pings.go_on(&world, 50));
    for ip in Ip::BOTH {
        world.check("the peer keeps our routes", world.host(THEM).has_route(&block(US, ip)));
    }
    world.start_again(US);
    await_complete(&world, 1);
    exchange(&world);
    finish(&world, pings);
}

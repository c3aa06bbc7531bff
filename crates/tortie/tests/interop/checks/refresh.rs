//! Route refresh (RFC 2918, RFC 7313).

use serde_json::Value;

use super::{THEM, US, exchange, pair};
use crate::daemon::Daemon;
use crate::side::{Ip, THEIR_AS, address, block};
use crate::world::World;

/// How often our sessions with the peer have come up. It may be twice: at the start both ends dial.
fn came_up(world: &World) -> Vec<Value> {
    Ip::BOTH.map(|ip| world.host(US).peer(&address(THEM, ip))["establishedCount"].clone()).into()
}

/// What a filter no longer turns away comes back, though nobody keeps what filters turn away; the session stays.
pub(crate) fn ours(daemon: &'static dyn Daemon) {
    let mut world = pair(daemon, THEIR_AS, |_| ());
    world.start_all();
    exchange(&world);
    let before = came_up(&world);
    let blocks = Ip::BOTH.map(|ip| block(THEM, ip));
    world.host(US).reject(&blocks);
    for prefix in &blocks {
        world.await_that("what the filter rejects is gone", |world| !world.host(US).has_route(prefix));
    }
    world.host(US).reject(&[]);
    world.await_blocks(US, THEM);
    world.check("the same sessions", came_up(&world) == before);
}

/// The peer is told everything once more.
pub(crate) fn theirs(daemon: &'static dyn Daemon) {
    let mut world = pair(daemon, THEIR_AS, |_| ());
    world.start_all();
    exchange(&world);
    let before = came_up(&world);
    for ip in Ip::BOTH {
        let sent =
            |world: &World| world.host(US).peer(&address(THEM, ip))["messages"]["updatesSent"].as_u64();
        let so_far = sent(&world);
        world.host(THEM).tell(|daemon, folder| daemon.refresh(folder, US, ip));
        world.await_that("UPDATEs sent once more", |world| sent(world) > so_far);
        world.check("the peer has our routes", world.host(THEM).has_route(&block(US, ip)));
    }
    world.check("the same sessions", came_up(&world) == before);
}

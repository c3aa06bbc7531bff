//! What is tried, with whichever daemon.

pub(crate) mod add_path;
pub(crate) mod bfd;
pub(crate) mod communities;
pub(crate) mod refresh;
pub(crate) mod restart;
pub(crate) mod scale;
pub(crate) mod security;
pub(crate) mod sessions;

use crate::daemon::Daemon;
use crate::side::{Ip, Neighbour, OUR_AS, Side, address};
use crate::world::{Who, World};

/// Our host.
const US: u8 = 1;
/// The daemon's.
const THEM: u8 = 2;

/// We and a daemon, with a session for each family.
fn pair(daemon: &'static dyn Daemon, their_as: u32, change: impl Fn(&mut Neighbour)) -> World {
    let mut world = World::new();
    world.add(Who::Us, Side::new(US, OUR_AS).with(&[(THEM, their_as)], &change));
    world.add(Who::Daemon(daemon), Side::new(THEM, their_as).with(&[(US, OUR_AS)], &change));
    world
}

/// Sessions up, and each has the other's blocks.
fn exchange(world: &World) {
    world.await_sessions(US);
    world.await_blocks(THEM, US);
    world.await_blocks(US, THEM);
}

/// We have seen that the peer is gone.
fn await_down(world: &World) {
    for ip in Ip::BOTH {
        world.await_that("the session seen to be down", |world| {
            world.host(US).peer(&address(THEM, ip))["state"] != "Established"
        });
    }
}

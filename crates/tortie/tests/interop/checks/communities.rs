//! Communities of every kind.

use super::{THEM, US};
use crate::daemon::Daemon;
use crate::matrix::DAEMONS;
use crate::side::{Ip, Neighbour, OUR_AS, Side, block};
use crate::world::{Who, World};

/// Where the communities go to.
const RECEIVER: u8 = 3;

/// From a daemon through our reflector to the next one, whoever that is: over all daemons, each sends and each receives.
pub(crate) fn through_us(daemon: &'static dyn Daemon) {
    let index = DAEMONS.iter().position(|other| other.name() == daemon.name()).expect("one of them");
    let receiver = DAEMONS[(index + 1) % DAEMONS.len()];
    let mut world = World::new();
    let reflected = |neighbour: &mut Neighbour| neighbour.is_client = true;
    world.add(Who::Us, Side::new(US, OUR_AS).with(&[(THEM, OUR_AS), (RECEIVER, OUR_AS)], reflected));
    let mut sender = Side::new(THEM, OUR_AS).with(&[(US, OUR_AS)], |_| ());
    sender.marks = true;
    world.add(Who::Daemon(daemon), sender);
    world.add(Who::Daemon(receiver), Side::new(RECEIVER, OUR_AS).with(&[(US, OUR_AS)], |_| ()));
    world.start_all();
    world.await_sessions(US);
    for ip in Ip::BOTH {
        let prefix = block(THEM, ip);
        for mark in receiver.marks() {
            world.await_that(&format!("{mark} on {prefix} at {}", receiver.name()), |world| {
                world.host(RECEIVER).route(&prefix).contains(&mark)
            });
        }
    }
}

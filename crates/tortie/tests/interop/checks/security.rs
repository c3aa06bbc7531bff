//! Whom a session is spoken with.

use super::{THEM, US, exchange, pair};
use crate::daemon::Daemon;
use crate::side::{Ip, OUR_AS, THEIR_AS, address};

/// With another password than the peer's there is no session; with the peer's there is.
pub(crate) fn md5(daemon: &'static dyn Daemon) {
    let mut world = pair(daemon, OUR_AS, |neighbour| neighbour.password = Some("rosebud"));
    world.host(US).write_password("wrong");
    world.start_all();
    world.await_that("a signature refused", |world| {
        [US, THEM].iter().map(|host| world.host(*host).refused_signatures()).sum::<u64>() > 0
    });
    for ip in Ip::BOTH {
        let state = world.host(US).peer(&address(THEM, ip))["state"].clone();
        world.check("no session without the right password", state != "Established");
    }
    world.host(US).write_password("rosebud");
    exchange(&world);
}

pub(crate) fn gtsm(daemon: &'static dyn Daemon) {
    let mut world = pair(daemon, THEIR_AS, |neighbour| neighbour.ttl_security = true);
    world.start_all();
    exchange(&world);
}

//! BFD (RFC 5880, RFC 5881).

use std::time::Duration;

use super::{THEM, US, exchange, pair};
use crate::daemon::Daemon;
use crate::side::{Ip, THEIR_AS, address};

/// Far above what BFD needs (three packets, 300 ms apart at most), far below the hold time of 90 s.
const SOON: Duration = Duration::from_secs(10);

/// A path that no longer carries packets, with the carrier there at both ends.
pub(crate) fn cut(daemon: &'static dyn Daemon) {
    let mut world = pair(daemon, THEIR_AS, |neighbour| neighbour.bfd = true);
    world.start_all();
    exchange(&world);
    for ip in Ip::BOTH {
        world.await_that("the path watched", |world| {
            let peer = world.host(US).peer(&address(THEM, ip));
            peer["bfd"]["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("up"))
        });
    }
    world.cut(THEM);
    for ip in Ip::BOTH {
        world.await_within(SOON, "the session down because of BFD", |world| {
            let peer = world.host(US).peer(&address(THEM, ip));
            peer["state"] != "Established" && peer["reason"].as_str().is_some_and(|why| why.contains("BFD"))
        });
    }
    world.mend(THEM);
    exchange(&world);
}

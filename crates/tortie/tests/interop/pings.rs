//! A hundred pings a second, none of which may be lost.

use crate::side::{Ip, inside};
use crate::world::World;

/// Pings between addresses inside the blocks of two hosts, so that both directions are routed by BGP.
pub(crate) struct Pings(testkit::Pings);

impl Pings {
    pub(crate) fn start(world: &World, from: u8, to: u8, ip: Ip) -> Self {
        let host = world.host(from);
        let log = host.folder().join(format!("pings-{to}-{}", ip.word()));
        let (from, to) = (inside(from, ip), inside(to, ip));
        Self(testkit::Pings::start(&from, &to, log, |ping| host.child(ping)))
    }

    /// Waits for so many more replies.
    pub(crate) fn go_on(&self, world: &World, more: usize) {
        let before = self.0.answered();
        world.await_that(&format!("{more} more pings answered"), |_| self.0.answered() >= before + more);
    }

    /// Stops them; every ping before the last that was answered has been answered, once and in order.
    pub(crate) fn finish(self, world: &World) {
        let outcome = self.0.finish();
        world.check(&format!("no ping lost: {outcome:?}"), outcome.is_ok());
    }
}

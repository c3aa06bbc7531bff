//! A speaker among four peers, driven by a byte string: connections, octets, time, another configuration.
//!
//! Whatever happens, and besides not panicking:
//!
//! - the same script gives the same outputs;
//! - the speaker writes to connections that are open only, and what it writes, every peer can read without a fault;
//! - a peer is never told to withdraw what it was not told, nor the kernel;
//! - queues are bounded, timers never fall due again and again at the same time, prefix limits hold;
//! - when everything is told, a peer believes what `calicoctl bgp routes --advertised` says, and the kernel has what is
//!   selected;
//! - a station (BMP) is told what can be read, and a process that takes over in the middle goes on as if nothing had been;
//! - when all peers are gone, nothing is left.

mod configuration;
mod link;
mod messages;
mod script;
mod steps;
mod world;

pub use script::Script;
use world::World;

/// Most steps that are played: more say nothing new, and cost time.
const MOST_STEPS: usize = 400;

/// Plays a script; if its first octet is even, twice, and compares.
///
/// # Panics
/// Something that must hold does not.
pub fn run(data: &[u8]) {
    let first = play(data);
    if data.first().is_some_and(|octet| octet & 1 == 0) {
        assert!(first == play(data), "the same script gives other outputs");
    }
}

fn play(data: &[u8]) -> Vec<bgp::Output> {
    world_after(data).finish()
}

/// What the speaker would hand over at the end of a script.
pub(crate) fn handed_over(data: &[u8]) -> Vec<u8> {
    let world = world_after(data);
    world.speaker.hand_over(world.now).encode()
}

fn world_after(data: &[u8]) -> World {
    let mut script = Script::new(data);
    let mut world = World::new(script.octet());
    let mut steps = 0;
    while let Some(step) = script.next()
        && steps < MOST_STEPS
    {
        world.step(step, &mut script);
        steps += 1;
    }
    world
}

//! A hundred pings a second, none of which may be lost.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};

use crate::side::{Ip, inside};
use crate::world::World;

/// Pings between addresses inside the blocks of two hosts, so that both directions are routed by BGP.
pub(crate) struct Pings {
    child: Child,
    log: PathBuf,
}

impl Drop for Pings {
    fn drop(&mut self) {
        // One that has ended is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pings {
    pub(crate) fn start(world: &World, from: u8, to: u8, ip: Ip) -> Self {
        let host = world.host(from);
        let log = host.folder().join(format!("pings-{to}-{}", ip.word()));
        let mut ping = Command::new("ping");
        ping.args(["-n", "-i", "0.01", "-I", &inside(from, ip), &inside(to, ip)]);
        Self { child: host.background(ping, &log), log }
    }

    /// The sequence numbers of the replies so far.
    fn replies(&self) -> Vec<u64> {
        let log = fs::read_to_string(&self.log).expect("ping writes it");
        let of_line = |line: &str| {
            let (_, rest) = line.split_once("icmp_seq=")?;
            if !line.contains(" bytes from ") {
                return None;
            }
            rest.split(' ').next()?.parse().ok()
        };
        log.lines().filter_map(of_line).collect()
    }

    /// Waits for so many more replies.
    pub(crate) fn go_on(&self, world: &World, more: usize) {
        let before = self.replies().len();
        world.await_that(&format!("{more} more pings answered"), |_| self.replies().len() >= before + more);
    }

    /// Stops them; every ping before the last that was answered has been answered, once and in order.
    pub(crate) fn finish(mut self, world: &World) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it is our child");
        self.child.wait().expect("it is our child");
        let replies = self.replies();
        let expected: Vec<u64> = (1..=replies.len() as u64).collect();
        let first = replies.iter().zip(&expected).find(|(found, expected)| found != expected);
        let log = self.log.display();
        let what = format!("no ping lost of {} in {log} (from {first:?} on)", replies.len());
        world.check(&what, !replies.is_empty() && first.is_none());
    }
}

//! Routes in the kernel: waiting for them, and the limit, prepared batches on a socket that is kept.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::fleet::Fleet;
use super::net::Net;
use super::scenario::Scenario;
use super::wire::Prefix;
use crate::harness::netlink::{HEADER, messages};
use crate::harness::route_events::{NEW_ROUTE, RouteEvents};
use crate::harness::{cpu, interrupt};

/// Routes of one batch.
const BATCH: usize = 500;
/// How often it is looked at other things while the kernel is waited for.
const LOOK: Duration = Duration::from_millis(5);

const ERROR: u16 = 2;
/// Request, acknowledge, only if it does not exist, create (linux/netlink.h).
const CREATE: u16 = 1 | 0x200 | 0x400;
const ACKNOWLEDGE: u16 = 4;

/// Subscribes to the blocks among the routes of the speaker's namespace.
pub(super) fn subscribe(net: &Net) -> Result<RouteEvents> {
    let blocks = |address, length| Prefix(address, length).number().filter(|_| length == 26);
    net.speaker.run(|| RouteEvents::subscribe(blocks))
}

/// Waits until the kernel has so many, while the neighbours carry on; when it had.
pub(super) fn wait(
    events: &RouteEvents,
    fleet: &mut Fleet,
    count: usize,
    deadline: Instant,
) -> Result<Instant> {
    events.wait_for(count);
    loop {
        fleet.turn(LOOK)?;
        if let Some(at) = events.reached(Duration::ZERO)? {
            return Ok(at);
        }
        ensure!(Instant::now() < deadline, "not done in time: the kernel does not have {count} routes");
    }
}

/// The kernel's own limit: how long it took until the last event came, and the processor time.
pub(super) fn raw(scenario: &Scenario) -> Result<(Duration, Duration)> {
    let net = Net::new(scenario.sessions())?;
    let events = subscribe(&net)?;
    let of_each = scenario.prefixes / (scenario.neighbours.len() - 1);
    let gateways =
        scenario.neighbours[1..].iter().flat_map(|gateway| std::iter::repeat_n(gateway.address, of_each));
    let routes: Vec<_> = scenario.tables[0].prefixes.iter().zip(gateways).collect();
    let batches: Vec<Vec<u8>> = routes
        .chunks(BATCH)
        .map(|batch| {
            let mut octets = Vec::new();
            for (index, (prefix, gateway)) in batch.iter().enumerate() {
                let flags = if index + 1 == batch.len() { CREATE | ACKNOWLEDGE } else { CREATE };
                add_route(**prefix, gateway.octets(), flags, &mut octets);
            }
            octets
        })
        .collect();
    events.wait_for(scenario.prefixes);
    let before = cpu::of_process(std::process::id())?;
    let start = Instant::now();
    net.speaker.run(|| send(&batches))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        interrupt::check()?;
        if let Some(at) = events.reached(LOOK)? {
            // The listener's part is in it.
            return Ok((at - start, cpu::of_process(std::process::id())?.saturating_sub(before)));
        }
        ensure!(Instant::now() < deadline, "the kernel does not tell of all routes");
    }
}

fn send(batches: &[Vec<u8>]) -> Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut answer = Vec::with_capacity(1 << 16);
    for batch in batches {
        socket.send(batch, 0).context("a batch of routes")?;
        answer.clear();
        socket.recv(&mut answer, 0).context("the kernel's answer")?;
        for (kind, payload) in messages(&answer) {
            if kind == ERROR && payload.get(..4) != Some(&[0; 4]) {
                bail!("the kernel refuses a route: {:?}", payload.get(..4));
            }
        }
    }
    Ok(())
}

/// `struct nlmsghdr`, `struct rtmsg`, destination, gateway.
fn add_route(prefix: Prefix, gateway: [u8; 4], flags: u16, out: &mut Vec<u8>) {
    const MAIN: u8 = 254;
    const BIRD: u8 = 12;
    const UNICAST: u8 = 1;
    let length = u32::try_from(HEADER + 12 + 8 + 8).expect("a few octets");
    out.extend(length.to_ne_bytes());
    out.extend(NEW_ROUTE.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend([0; 8]);
    out.extend([2, prefix.1, 0, 0, MAIN, BIRD, 0, UNICAST, 0, 0, 0, 0]);
    for (kind, value) in [(1_u16, prefix.0.to_be_bytes()), (5, gateway)] {
        out.extend(8_u16.to_ne_bytes());
        out.extend(kind.to_ne_bytes());
        out.extend(value);
    }
}

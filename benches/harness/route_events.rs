//! The kernel's routes as its events tell of them: when a given number of different blocks is there, or gone.
//!
//! A bit map of destinations, so that a route that is replaced does not count twice. A thread of its own listens: who is
//! measured must not wait for whoever plays its neighbours.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::bits::Bits;
use super::netlink::{messages, subscribe};

/// Linux, linux/rtnetlink.h.
pub(crate) const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GROUP_IPV4_ROUTE: u32 = 7;
const DESTINATION: u16 = 1;

/// Room for the events of 100,000 routes.
const RECEIVE_BUFFER_BYTES: usize = 256 << 20;
/// How often the thread looks. It does not wait for each event: to be woken would cost whoever writes the routes as much as the
/// route itself.
const LOOK: Duration = Duration::from_millis(1);

/// A subscription, bound to the namespace in which it was made.
pub(crate) struct RouteEvents {
    reached: Receiver<Result<Instant>>,
    goals: Option<Sender<usize>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for RouteEvents {
    fn drop(&mut self) {
        self.goals = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl RouteEvents {
    /// Subscribes in the calling thread's namespace; `number` numbers the destinations that count.
    pub(crate) fn subscribe(number: fn(u32, u8) -> Option<usize>) -> Result<Self> {
        let socket = subscribe(NETLINK_ROUTE, GROUP_IPV4_ROUTE, RECEIVE_BUFFER_BYTES)?;
        let (goals, wanted) = channel();
        let (told, reached) = channel();
        let listener = Listener { socket, number, has: Bits::default() };
        let thread = std::thread::Builder::new()
            .name("route-events".to_owned())
            .spawn(move || listener.run(&wanted, &told))?;
        Ok(Self { reached, goals: Some(goals), thread: Some(thread) })
    }

    /// Asks when so many will be there; the answer comes with [`RouteEvents::reached`].
    pub(crate) fn wait_for(&self, count: usize) {
        // A thread that has ended has said why.
        let _ = self.goals.as_ref().map(|goals| goals.send(count));
    }

    /// When what was asked for was reached; none within the limit.
    pub(crate) fn reached(&self, limit: Duration) -> Result<Option<Instant>> {
        match self.reached.recv_timeout(limit) {
            Ok(reached) => reached.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("nobody listens to the kernel's routes"),
        }
    }
}

struct Listener {
    socket: Socket,
    number: fn(u32, u8) -> Option<usize>,
    has: Bits,
}

impl Listener {
    fn run(mut self, goals: &Receiver<usize>, told: &Sender<Result<Instant>>) {
        use std::sync::mpsc::TryRecvError::{Disconnected, Empty};
        let (mut goal, mut buffer) = (None, Vec::with_capacity(1 << 16));
        loop {
            match goals.try_recv() {
                Ok(count) => goal = Some(count),
                Err(Empty) => {}
                Err(Disconnected) => return,
            }
            if let Err(error) = self.take_in(&mut buffer) {
                let _ = told.send(Err(error));
                return;
            }
            if goal.take_if(|count| *count == self.has.count()).is_some() {
                let _ = told.send(Ok(Instant::now()));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// All that is there now.
    fn take_in(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        loop {
            buffer.clear();
            match self.socket.recv(buffer, 0) {
                Ok(_) => messages(buffer).for_each(|(kind, payload)| self.note(kind, payload)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("events of routes"),
            }
        }
    }

    fn note(&mut self, kind: u16, payload: &[u8]) {
        let present = match kind {
            NEW_ROUTE => true,
            DELETE_ROUTE => false,
            _ => return,
        };
        let destination = destination(payload);
        if let Some(number) = destination.and_then(|(address, length)| (self.number)(address, length)) {
            self.has.set(number, present);
        }
    }
}

/// `struct rtmsg`, then attributes: address and length of an IPv4 route's destination.
fn destination(payload: &[u8]) -> Option<(u32, u8)> {
    const RTMSG: usize = 12;
    let (mut rest, length) = (payload.get(RTMSG..)?, payload[1]);
    while let [low, high, kind_low, kind_high, ..] = *rest {
        let size = usize::from(u16::from_ne_bytes([low, high]));
        let value = rest.get(4..size)?;
        if u16::from_ne_bytes([kind_low, kind_high]) == DESTINATION {
            return Some((u32::from_be_bytes(value.try_into().ok()?), length));
        }
        rest = rest.get(size.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_destination_of_a_route_is_found_behind_other_attributes() {
        let mut payload = vec![2, 26, 0, 0, 254, 12, 0, 1, 0, 0, 0, 0];
        payload.extend([8, 0, 15, 0, 254, 0, 0, 0]);
        payload.extend([8, 0, 1, 0, 10, 0, 1, 64]);
        assert_eq!(destination(&payload), Some((0x0a00_0140, 26)));
        assert_eq!(destination(&payload[..20]), None);
        assert_eq!(destination(&payload[..22]), None);
    }
}

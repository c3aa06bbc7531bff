//! Events: what changes in the kernel, as it changes.
//!
//! Events are hints about what to look at. They may be late, merged or repeated; when the kernel could not deliver some
//! (`ENOBUFS`), or the receiver was too slow for too long, [`Event::Resync`] says that anything may have changed. The
//! first event is always a [`Event::Resync`]: who subscribes first and reads the state then misses nothing.

mod filter;
mod pending;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::TrySendError;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::RecvFlags;
use rustix::time::Timespec;

use crate::InterfaceName;
use crate::address::{InterfaceAddress, read_address};
use crate::link::{Link, read_link};
use crate::neighbour::{Neighbour, read_neighbour};
use crate::netlink::{self, Protocol, Reply, Socket, attributes};
use crate::netns::{self, Netns};
use crate::route::{KernelRoute, read_route};
use pending::Pending;

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Anything may have changed: read the state back.
    Resync,
    /// A link is new, or is now like this.
    Link(Link),
    /// A link is gone.
    LinkGone {
        /// Its number.
        index: u32,
        /// Its last name.
        name: InterfaceName,
    },
    /// An address is new, or is now like this.
    Address(InterfaceAddress),
    /// An address is gone.
    AddressGone(InterfaceAddress),
    /// A route is new, or is now like this.
    Route(KernelRoute),
    /// A route is gone.
    RouteGone(KernelRoute),
    /// A neighbour is new, or is now like this.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone {
        /// Number of its interface.
        index: u32,
        /// Its address.
        address: IpAddr,
    },
    /// One of the settings of which the kernel tells (`forwarding`, `rp_filter`, `proxy_arp`, `proxy_ndp`…) was changed.
    Setting {
        /// Number of the interface; none for the host's own and the defaults.
        index: Option<u32>,
    },
}

/// Of which changes of routes is told. What is left out costs nothing: the kernel does not even queue it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteNews {
    /// Of all.
    All,
    /// Of all but those that the socket with this port ([`crate::Rtnetlink::port`]) has asked for: whoever makes changes knows
    /// of them from their acknowledgements, and an event that lags behind would tell of what is no longer so.
    ByOthersThan(u32),
    /// Of all but those of routes with this protocol (`RTPROT_*`).
    OfOthersThan(u8),
}

/// What to listen to besides links and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriptions {
    /// Routes.
    pub routes: RouteNews,
    /// Neighbours; there are many such events on a busy host.
    pub neighbours: bool,
    /// Settings.
    pub settings: bool,
}

impl Default for Subscriptions {
    /// What the reconcilers need.
    fn default() -> Self {
        Self { routes: RouteNews::All, neighbours: false, settings: true }
    }
}

/// A thread that listens; it stops when this is dropped.
#[derive(Debug)]
pub struct Monitor {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

/// How often a receiver that has no room is tried again.
const RETRY: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

const RECEIVE_BUFFER_BYTES: usize = 16 * 1024 * 1024;

/// Datagrams that are taken in one go before the events are handed on.
const BURST: usize = 256;

impl Monitor {
    /// Starts to listen in a namespace, or in that of the calling thread. Events go to `deliver` in batches, on the monitor's
    /// thread; while it has no room for them ([`TrySendError::Full`]) they are merged, and when it is gone, so is the monitor.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or a socket or thread cannot be had.
    pub fn start(
        namespace: Option<&Netns>,
        subscriptions: Subscriptions,
        deliver: impl FnMut(Vec<Event>) -> Result<(), TrySendError<Vec<Event>>> + Send + 'static,
    ) -> Result<Self, netns::Error> {
        let socket = match namespace {
            Some(namespace) => Socket::open_in(namespace, Protocol::Route)?,
            None => Socket::open(Protocol::Route)?,
        };
        socket.set_receive_buffer(RECEIVE_BUFFER_BYTES)?;
        filter::attach(&socket, subscriptions.routes)?;
        for group in groups(subscriptions) {
            socket.subscribe(group)?;
        }
        let failed = |source| netlink::Error::Socket { action: "start a monitor", source };
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?;
        let stopped = stop.try_clone().map_err(|error| failed(errno(&error)))?;
        let thread = std::thread::Builder::new()
            .name("monitor".to_owned())
            .spawn(move || Listener { socket, stopped, deliver, pending: Pending::new() }.run())
            .map_err(|error| failed(errno(&error)))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn errno(error: &io::Error) -> netlink::Errno {
    netlink::Errno::from_io_error(error).unwrap_or(netlink::Errno::IO)
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `RTNLGRP_*`
fn groups(subscriptions: Subscriptions) -> Vec<u32> {
    const SETTINGS: [u32; 2] = [24, 25];
    let mut groups = vec![libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR];
    groups.extend([libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE]);
    if subscriptions.neighbours {
        groups.push(libc::RTNLGRP_NEIGH);
    }
    if subscriptions.settings {
        groups.extend(SETTINGS);
    }
    groups
}

struct Listener<D> {
    socket: Socket,
    stopped: OwnedFd,
    deliver: D,
    pending: Pending,
}

impl<D: FnMut(Vec<Event>) -> Result<(), TrySendError<Vec<Event>>>> Listener<D> {
    fn run(mut self) {
        while self.hand_on() {
            match self.wait() {
                Ok(true) => self.read(),
                Ok(false) => {}
                Err(Stop) => return,
            }
        }
    }

    /// Gives false when nobody listens any more.
    fn hand_on(&mut self) -> bool {
        if self.pending.is_empty() {
            return true;
        }
        match (self.deliver)(self.pending.take()) {
            Ok(()) => true,
            Err(TrySendError::Full(events)) => {
                events.into_iter().for_each(|event| self.pending.push(event));
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    /// Gives whether there is something to read.
    fn wait(&self) -> Result<bool, Stop> {
        let mut fds = [
            PollFd::from_borrowed_fd(self.stopped.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
        ];
        let timeout = if self.pending.is_empty() { None } else { Some(&RETRY) };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(netlink::Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "the monitor of the kernel's events has ended");
                return Err(Stop);
            }
        }
        if fds[0].revents().is_empty() { Ok(!fds[1].revents().is_empty()) } else { Err(Stop) }
    }

    fn read(&mut self) {
        for _ in 0..BURST {
            let Self { socket, pending, .. } = self;
            let mut note = |reply: Reply<'_>| {
                if let Some(event) = event(reply) {
                    pending.push(event);
                }
            };
            match socket.receive(&"events", RecvFlags::DONTWAIT, &mut note) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(%error, "events were lost");
                    self.pending.push(Event::Resync);
                    // A socket that fails for good must not make this thread spin.
                    if !matches!(error, netlink::Error::Overrun { .. }) {
                        std::thread::sleep(Duration::from_secs(1));
                    }
                    return;
                }
            }
        }
    }
}

/// The monitor is to stop.
struct Stop;

fn event(reply: Reply<'_>) -> Option<Event> {
    const RTM_NEWNETCONF: u16 = 80;
    let payload = reply.payload;
    Some(match reply.kind {
        libc::RTM_NEWLINK => Event::Link(read_link(payload)?),
        libc::RTM_DELLINK => {
            let link = read_link(payload)?;
            Event::LinkGone { index: link.index, name: link.name }
        }
        libc::RTM_NEWADDR => Event::Address(read_address(payload)?),
        libc::RTM_DELADDR => Event::AddressGone(read_address(payload)?),
        libc::RTM_NEWROUTE => Event::Route(read_route(payload)?),
        libc::RTM_DELROUTE => Event::RouteGone(read_route(payload)?),
        libc::RTM_NEWNEIGH => Event::Neighbour(read_neighbour(payload)?),
        libc::RTM_DELNEIGH => {
            let neighbour = read_neighbour(payload)?;
            Event::NeighbourGone { index: neighbour.index, address: neighbour.address }
        }
        RTM_NEWNETCONF => Event::Setting { index: setting_index(payload) },
        _ => return None,
    })
}

/// `struct netconfmsg` (one byte, padded), then `NETCONFA_IFINDEX`: negative for `all` and `default`.
fn setting_index(payload: &[u8]) -> Option<u32> {
    const NETCONFA_IFINDEX: u16 = 1;
    let attribute = attributes(payload.get(4..)?).find(|attribute| attribute.kind == NETCONFA_IFINDEX)?;
    u32::try_from(attribute.i32()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_the_kernel_could_not_deliver_become_a_resync() {
        let namespace = testkit::TestNamespace::new();
        let socket = namespace.run(|| {
            let socket = Socket::open(Protocol::Route).unwrap();
            socket.subscribe(libc::RTNLGRP_LINK).unwrap();
            // The least that the kernel grants: a few events.
            socket.set_receive_buffer(1).unwrap();
            socket
        });
        namespace.command("ip link add cali1 type bridge");
        for mtu in 1300..1330 {
            namespace.command(&format!("ip link set cali1 mtu {mtu}"));
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let stopped = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let mut listener = Listener {
            socket,
            stopped,
            deliver: move |events| sender.try_send(events),
            pending: Pending::new(),
        };
        listener.pending.take();
        // The kernel tells of the loss before or after what it could deliver.
        listener.read();
        listener.read();
        assert!(listener.hand_on());
        assert!(receiver.try_recv().unwrap().contains(&Event::Resync));
    }
}

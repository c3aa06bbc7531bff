//! Listening sockets, and who may connect to them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bgp::config::Authentication;
use bgp::handover::HandedListening;
use bgp::{Arrival, Endpoints, SpeakerConfig};
use ipnet::IpNet;
use kernel::tcp;
use socket2::{Domain, Protocol, Socket, Type};

use super::poller::{Interest, Poller};
use super::transport;

/// Connections that the kernel keeps ready for us.
const BACKLOG: i32 = 1024;
/// How many connections are taken at a time, so that a flood of them does not hold up the sessions.
const ACCEPTS: usize = 32;
/// How long nothing is accepted when file descriptors have run out.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// What the listening sockets have to do for the peers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Demands {
    /// How segments of these addresses are signed.
    keys: BTreeMap<IpNet, Authentication>,
    /// Somebody uses TTL security: we answer with the highest TTL, and look at that of first segments.
    is_secured: bool,
    /// Somebody is known by an interface.
    by_interface: bool,
}

impl Demands {
    /// Whether some connections must be signed.
    pub(super) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(super) fn of(config: &SpeakerConfig) -> Self {
        let mut demands = Self::default();
        let peers = config.peers.values().map(|peer| (network(peer.address), peer));
        let ranges = config.ranges.values().map(|range| (range.prefix, &range.template));
        for (prefix, peer) in peers.chain(ranges) {
            demands.is_secured |= peer.ttl_security.is_some();
            demands.by_interface |= peer.interface.is_some();
            if let Some(authentication) = &peer.authentication {
                demands.keys.insert(prefix.trunc(), authentication.clone());
            }
        }
        demands
    }
}

/// The addresses that a peer may connect from: for one that is known by its interface only, any link-local one.
fn network(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V6(address) if address.is_unspecified() => {
            let link_local = IpNet::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10);
            link_local.expect("10 is a prefix length of IPv6")
        }
        address => address.into(),
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    token: u64,
    is_ipv6: bool,
    demands: Demands,
}

impl Listener {
    /// Listens. A node that is restarted binds the port while connections of its predecessor are still in TIME-WAIT; an
    /// IPv6 socket leaves IPv4 to its own. The address need not be there yet: what workloads dial comes and goes with them.
    ///
    /// # Errors
    /// The address cannot be had.
    pub(super) fn bind(address: SocketAddr, token: u64, poller: &Poller) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        poller.add(&socket, token, Interest::Read)?;
        Ok(Self { socket, token, is_ipv6: address.is_ipv6(), demands: Demands::default() })
    }

    /// Takes over the socket of another process, which has done this much for the peers.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub(super) fn take_over(
        socket: OwnedFd,
        address: SocketAddr,
        token: u64,
        handed: &HandedListening,
        poller: &Poller,
    ) -> io::Result<Self> {
        let socket = Socket::from(socket);
        poller.add(&socket, token, Interest::Read)?;
        let demands = Demands {
            keys: handed.keys.iter().cloned().collect(),
            is_secured: handed.is_secured,
            by_interface: false,
        };
        Ok(Self { socket, token, is_ipv6: address.is_ipv6(), demands })
    }

    /// What it does for the peers.
    pub(super) fn handed(&self) -> HandedListening {
        let keys = self.demands.keys.iter().map(|(prefix, key)| (*prefix, key.clone()));
        HandedListening { keys: keys.collect(), is_secured: self.demands.is_secured }
    }

    /// The socket, for another process.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub(super) fn share(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(OwnedFd::from)
    }

    /// Does what the peers need from now on; says what of it is not possible.
    pub(super) fn demand(&mut self, wanted: &Demands) -> Vec<(IpNet, bgp::TransportFailure)> {
        let is_ours = |prefix: &IpNet| matches!(prefix, IpNet::V6(_)) == self.is_ipv6;
        let mut failures = Vec::new();
        for (prefix, old) in self.demands.keys.iter().filter(|(prefix, _)| is_ours(prefix)) {
            if wanted.keys.get(prefix) != Some(old) {
                transport::remove_keys(&self.socket, *prefix, old);
            }
        }
        for (prefix, new) in wanted.keys.iter().filter(|(prefix, _)| is_ours(prefix)) {
            if self.demands.keys.get(prefix) != Some(new)
                && let Err(failure) = transport::add_keys(&self.socket, *prefix, new, false)
            {
                failures.push((*prefix, failure));
            }
        }
        if self.demands.is_secured != wanted.is_secured {
            self.secure(wanted.is_secured);
        }
        self.demands = wanted.clone();
        failures
    }

    fn secure(&self, is_secured: bool) {
        let ttl = if is_secured { u8::MAX } else { 64 };
        let outcome = transport::set_ttl(&self.socket, self.is_ipv6, ttl)
            .and_then(|()| tcp::keep_first_segments(&self.socket, is_secured));
        if let Err(error) = outcome {
            tracing::error!(%error, "TTL security of a listening BGP socket");
        }
    }

    /// Takes some of the connections that are ready.
    ///
    /// # Errors
    /// Out of file descriptors or memory: wait for [`PAUSE`].
    pub(super) fn accept(&self, mut taken: impl FnMut(TcpStream, Arrival)) -> io::Result<()> {
        for _ in 0..ACCEPTS {
            match self.socket.accept() {
                Ok((socket, remote)) => {
                    let Some(remote) = remote.as_socket() else { continue };
                    // A connection that died in the queue is nobody's.
                    if let Ok(arrival) = self.arrival(&socket, remote) {
                        taken(socket.into(), arrival);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn arrival(&self, socket: &Socket, remote: SocketAddr) -> io::Result<Arrival> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        let interface = self.demands.by_interface.then(|| interface(socket, remote)).flatten();
        let hop_limit = self.demands.is_secured.then(|| tcp::first_hop_limit(socket)).flatten();
        Ok(Arrival { endpoints: Endpoints { local, remote }, interface, hop_limit })
    }

    /// Stops and begins again to accept.
    pub(super) fn pause(&self, paused: bool, poller: &Poller) {
        let interest = if paused { Interest::Nothing } else { Interest::Read };
        if let Err(error) = poller.change(&self.socket, self.token, interest) {
            tracing::error!(%error, "a listening BGP socket is lost");
        }
    }
}

fn interface(socket: &Socket, remote: SocketAddr) -> Option<String> {
    let index = match remote {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => Some(v6.scope_id()),
        _ => tcp::arrival_interface(socket, remote.is_ipv6()),
    };
    transport::interface_name(index?)
}

/// Errors of accept(2) that belong to the connection that would have been accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
            | Kind::TimedOut
    )
}

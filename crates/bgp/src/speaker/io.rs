//! What goes into a speaker and what comes out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::monitor::StationEvent;
use crate::bfd::Path;
use crate::config::{Authentication, Origination, PeerConfig, SpeakerConfig};
use crate::rib::Resolution;
use crate::session::{Reason, SessionState};
use crate::types::{Asn, ConnectionId, Endpoints, Family, PeerId};

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input<'a> {
    /// A new configuration; the speaker applies the difference.
    Configure(SpeakerConfig),
    /// A route that we originate from now on (or with other attributes).
    Originate {
        /// Its prefix.
        prefix: IpNet,
        /// Its attributes.
        route: Origination,
    },
    /// A route that we no longer originate.
    Withdraw {
        /// Its prefix.
        prefix: IpNet,
    },
    /// A connection that [`Output::Connect`] asked for is up.
    Connected {
        /// Which.
        connection: ConnectionId,
        /// Its two ends.
        endpoints: Endpoints,
    },
    /// A connection that [`Output::Connect`] asked for could not be made.
    ConnectFailed {
        /// Which.
        connection: ConnectionId,
        /// Why.
        failure: TransportFailure,
    },
    /// Bytes from the peer, in order, cut anywhere.
    Received {
        /// On which connection.
        connection: ConnectionId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Bytes of [`Output::Send`] have gone into the socket.
    Written {
        /// On which connection.
        connection: ConnectionId,
        /// How many.
        bytes: usize,
    },
    /// The peer closed the connection, or it broke.
    Closed {
        /// Which.
        connection: ConnectionId,
        /// How.
        failure: TransportFailure,
    },
    /// What the host's routing table says about a next hop, as asked for by [`Output::WatchNextHop`]; and again whenever
    /// that changes.
    NextHop {
        /// The next hop.
        address: IpAddr,
        /// How it is reached; `None`: it cannot be.
        resolution: Option<Resolution>,
    },
    /// The kernel has lately dropped segments that were not signed as they should be: perhaps those of a peer that we wait
    /// for.
    UnsignedDropped,
    /// What time it is, for what stations are told (RFC 7854, section 4.2). The shell says it when it starts, and now and then:
    /// the clock may be set.
    Clock {
        /// Since the beginning of 1970, in UTC.
        since_epoch: Duration,
    },
    /// Ask a peer for its routes again (RFC 2918).
    Refresh {
        /// Whom.
        peer: PeerId,
    },
    /// What BFD says of the path to a peer; see [`Speaker::watched_paths`](crate::Speaker::watched_paths).
    Path {
        /// Whose.
        peer: PeerId,
        /// What it says.
        path: Path,
    },
    /// The speaker is about to stop: it closes its sessions and gives no route changes any more, so that the kernel
    /// goes on forwarding.
    Shutdown(Shutdown),
}

/// How a speaker stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shutdown {
    /// We will be back: connections are closed without a NOTIFICATION, so that peers with graceful restart keep
    /// our routes (RFC 4724, section 4.2).
    Restarting,
    /// For good: peers drop our routes at once (Cease, administrative shutdown, with this message; RFC 9003).
    Stopping {
        /// Shown to the peers' operators; at most 255 octets are sent.
        message: String,
    },
}

/// Why there is no (more) TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportFailure {
    /// Nothing listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// No route, or a router said so.
    Unreachable,
    /// No answer in time, while the kernel dropped segments that were not signed as they should be (RFC 2385, RFC 5925),
    /// or a password is configured, so that a peer with another one drops ours unanswered.
    Unsigned,
    /// No answer in time, while the kernel dropped segments whose TTL was below what is asked for (RFC 5082).
    TooFarAway,
    /// The peer closed it in order.
    ClosedByPeer,
    /// The peer reset it.
    Reset,
    /// The kernel cannot do what the peer's configuration asks for.
    Unsupported(String),
    /// Anything else, in the system's words.
    Other(String),
}

/// What the socket of a peer has to do, before it dials or as soon as it is accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Transport {
    /// Bound to this interface. With the remote address `::`: the router at the other end of it.
    pub interface: Option<String>,
    /// How segments are signed.
    pub authentication: Option<Authentication>,
    /// TTL security (RFC 5082): send with 255, take nothing below 256 minus this number of hops.
    pub ttl_security: Option<u8>,
    /// The TTL to send with otherwise.
    pub ttl: Option<u8>,
}

impl Transport {
    /// The least TTL or hop limit that segments of the peer must have.
    pub fn least_hop_limit(&self) -> Option<u8> {
        self.ttl_security.map(|hops| 255 - hops.saturating_sub(1))
    }
}

impl PeerConfig {
    /// What the peer's sockets have to do.
    pub fn transport(&self) -> Transport {
        Transport {
            interface: self.interface.clone(),
            authentication: self.authentication.clone(),
            ttl_security: self.ttl_security,
            ttl: self.ttl,
        }
    }
}

/// A connection from somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its two ends.
    pub endpoints: Endpoints,
    /// The interface that it came in by, where the shell knows: for peers that are named by one.
    pub interface: Option<String>,
    /// The TTL or hop limit of its first segment, where the shell knows.
    pub hop_limit: Option<u8>,
}

/// Something to be done. The order matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Dial. Answered by [`Input::Connected`] or [`Input::ConnectFailed`].
    Connect {
        /// The name of the new connection.
        connection: ConnectionId,
        /// For whom.
        peer: PeerId,
        /// Where to.
        remote: SocketAddr,
        /// The address to dial from, or the kernel's choice.
        source: Option<IpAddr>,
        /// What the socket has to do.
        transport: Box<Transport>,
        /// How long to wait for an answer.
        limit: Duration,
    },
    /// Send bytes. Equal bytes for several peers are one allocation.
    Send {
        /// On which connection.
        connection: ConnectionId,
        /// What.
        bytes: Arc<[u8]>,
    },
    /// Close a connection (or give up dialling) once what was sent before is written. Nothing is expected in return.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// The best route for a prefix has changed.
    BestRoute {
        /// The prefix.
        prefix: IpNet,
        /// The route that the kernel shall have; `None` when no peer has one, or we originate the prefix.
        route: Option<Arc<BestRoute>>,
    },
    /// Routes with this next hop are there: say how it is reached, now and whenever that changes, with
    /// [`Input::NextHop`]. Only with [`SpeakerConfig::resolve_next_hops`].
    WatchNextHop {
        /// The next hop.
        address: IpAddr,
    },
    /// No route has this next hop any more: nothing needs to be said about it.
    ForgetNextHop {
        /// The next hop.
        address: IpAddr,
    },
    /// The routes of a family are complete for the first time, every peer having sent its End-of-RIB (or the time for that being
    /// over): what the kernel has from an earlier life and was not named by [`Output::BestRoute`] is stale.
    RibComplete {
        /// The family.
        family: Family,
    },
    /// A peer comes near to its prefix limit: once whenever it crosses the share that is configured.
    PrefixWarning {
        /// Whose.
        peer: PeerId,
        /// The family.
        family: Family,
        /// How many prefixes it has.
        prefixes: usize,
        /// How many it may have.
        max: u32,
    },
    /// A station is told what peers say, or is not any more.
    Station {
        /// Its name.
        station: String,
        /// What has become of it.
        event: StationEvent,
    },
    /// A session changed its state.
    Session {
        /// Whose.
        peer: PeerId,
        /// The new state.
        state: SessionState,
        /// Why, where there is something to say.
        reason: Option<Reason>,
    },
}

/// A route as the kernel needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestRoute {
    /// The next hops of the best route and of those that are used together with it: sorted, each once, not empty.
    pub next_hops: Vec<IpAddr>,
    /// Through whom they are reached (RFC 4271, section 5.1.3): sorted, each once, not empty. The next hops themselves
    /// when they are on a link of ours, or not resolved.
    pub gateways: Vec<IpAddr>,
    /// The interfaces of those next hops and gateways that are link-local addresses: an address of a peer that is known by
    /// its interface means nothing elsewhere.
    pub links: BTreeMap<IpAddr, Arc<str>>,
    /// The tunnel device that packets go through to them; the devices that they are on if none.
    pub tunnel: Option<Arc<str>>,
    /// The peer that the best one came from.
    pub peer: PeerId,
    /// That peer's AS.
    pub peer_as: Asn,
    /// Its LOCAL_PREF.
    pub local_pref: u32,
}

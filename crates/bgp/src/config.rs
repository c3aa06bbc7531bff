//! What a speaker is told to be. A new [`SpeakerConfig`] is applied as a typed difference: sessions that need not
//! be reset stay up.

mod aggregate;
mod authentication;
mod bfd;
mod session;
mod station;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::interfaces::Interfaces;
use crate::packet::attribute::{Community, LargeCommunity, Origin};
use crate::policy::Policy;
use crate::types::{Asn, Family, PeerId, RouterId};

pub use aggregate::{Aggregate, Summaries};
pub use authentication::{AoAlgorithm, AoKey, Authentication, Secret, SecretError};
pub use bfd::Bfd;
pub use session::{LocalAs, LongLived, PrefixLimit, Role, RoleConfig};
pub use station::{StationConfig, StationView};

/// The port that BGP listens on (RFC 4271, section 2).
pub const PORT: u16 = 179;

/// Everything that a speaker is configured with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Our AS number.
    pub local_as: Asn,
    /// Our BGP identifier. Must not be 0.0.0.0. A change resets every session.
    pub router_id: RouterId,
    /// Our cluster id when we reflect routes (RFC 4456); the router id when absent.
    pub cluster_id: Option<Ipv4Addr>,
    /// Where the shell listens for connections. Empty: nowhere, peers cannot dial us.
    pub listen: BTreeSet<SocketAddr>,
    /// Our own addresses: next hops for a family that is not that of the session's transport, and loop protection.
    pub addresses: LocalAddresses,
    /// How many equally good routes for a prefix are used at once.
    pub multipath: Multipath,
    /// MEDs of different neighbouring ASes are compared, too. Off: only those of the same one (RFC 4271, section
    /// 9.1.2.2 c).
    pub always_compare_med: bool,
    /// Routes are selected only while their next hop can be reached, and nearer ones are better (RFC 4271, sections 9.1.2
    /// and 9.1.2.2 e): the shell is asked with [`Output::WatchNextHop`](crate::Output::WatchNextHop). Off: every next
    /// hop counts as reachable and equally near, as suits a reflector that forwards nothing.
    pub resolve_next_hops: bool,
    /// Which learned routes go into the kernel, and how.
    pub kernel: Policy,
    /// The networks of the host's interfaces, for policies that ask by which one a route's packets leave.
    pub interfaces: Interfaces,
    /// After a start: how long we wait for the End-of-RIB of all peers before routes count as complete; after a restart, route
    /// selection waits as well (RFC 4724, section 4.1).
    pub selection_deferral: Duration,
    /// The peers.
    pub peers: BTreeMap<PeerId, PeerConfig>,
    /// Our name, for stations (sysName).
    pub name: String,
    /// Stations that are told what peers say, by a name that tells them apart (RFC 7854).
    pub stations: BTreeMap<String, StationConfig>,
    /// Addresses from which peers may come that are not named one by one.
    pub ranges: BTreeMap<PeerId, PeerRange>,
    /// Prefixes that are told as one route for all that lie in them, while there are any.
    pub aggregates: BTreeMap<IpNet, Aggregate>,
    /// The routes that we originate. [`Input::Originate`](crate::Input::Originate) and
    /// [`Input::Withdraw`](crate::Input::Withdraw) change this set without the rest.
    pub originated: BTreeMap<IpNet, Origination>,
}

impl SpeakerConfig {
    /// A speaker without peers and routes, with Calico's defaults.
    pub fn new(local_as: Asn, router_id: RouterId) -> Self {
        Self {
            local_as,
            router_id,
            cluster_id: None,
            listen: BTreeSet::new(),
            addresses: LocalAddresses::default(),
            multipath: Multipath::default(),
            always_compare_med: false,
            resolve_next_hops: false,
            kernel: Policy::accept_all(),
            interfaces: Interfaces::default(),
            selection_deferral: Duration::from_secs(120),
            peers: BTreeMap::new(),
            name: String::new(),
            stations: BTreeMap::new(),
            ranges: BTreeMap::new(),
            aggregates: BTreeMap::new(),
            originated: BTreeMap::new(),
        }
    }
}

/// How many routes for a prefix go into the kernel together: those that nothing before the identifier of the peer tells
/// apart from the best one (RFC 4271, section 9.1.2.2 a to e). The kernel spreads connections over their next hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Multipath {
    /// When the best one comes from an external peer: at most so many, at least 1. Their AS_PATHs are equally long, but
    /// may go through different ASes.
    pub external: u8,
    /// When the best one comes from an internal peer: at most so many, at least 1.
    pub internal: u8,
}

impl Multipath {
    /// One route only.
    pub const OFF: Self = Self { external: 1, internal: 1 };
}

impl Default for Multipath {
    /// As Calico's BIRD merges paths: up to 16.
    fn default() -> Self {
        Self { external: 16, internal: 16 }
    }
}

/// The addresses that other speakers can use to reach us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalAddresses {
    /// For IPv4 routes.
    pub ipv4: Option<Ipv4Addr>,
    /// For IPv6 routes.
    pub ipv6: Option<Ipv6Addr>,
}

impl LocalAddresses {
    /// The address that serves as next hop of a family.
    pub fn of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4Unicast => self.ipv4.map(IpAddr::V4),
            Family::Ipv6Unicast => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// Peers that are known by the prefix that their address lies in: each that dials gets a session of its own, named
/// after the range and its address. We do not dial them. A peer that is named by itself does not belong to a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRange {
    /// Where they come from. Of several ranges the longest prefix counts.
    pub prefix: IpNet,
    /// How many there may be at a time.
    pub max_peers: usize,
    /// What they have in common; the address in it is not looked at.
    pub template: PeerConfig,
}

/// A neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// What `calicoctl node status` shows as PEER TYPE: `node-to-node mesh`, `node specific`, `global`.
    pub label: String,
    /// The peer's address. `::` together with an interface: whichever router the link has at its other end.
    pub address: IpAddr,
    /// The interface that the peer is reached by, for link-local addresses and unnumbered peers. Connections are bound
    /// to it, and taken from it only.
    pub interface: Option<String>,
    /// The port that the peer listens on.
    pub port: u16,
    /// The address that we dial from; the kernel's choice when absent.
    pub source: Option<IpAddr>,
    /// The peer's AS. The same as ours: an internal peer.
    pub remote_as: Asn,
    /// Who dials.
    pub connect: ConnectMode,
    /// The families to exchange.
    pub families: BTreeSet<Family>,
    /// Timers of the session.
    pub timers: Timers,
    /// Graceful restart (RFC 4724); `None` does not offer it.
    pub graceful_restart: Option<GracefulRestart>,
    /// Several routes for a prefix on the session (RFC 7911).
    pub add_path: AddPath,
    /// The next hop of routes that we pass on.
    pub next_hop: NextHopMode,
    /// An internal peer that we reflect routes for (RFC 4456). A change keeps the session.
    pub reflector_client: bool,
    /// The peer may connect or not; after a restart nobody waits for its routes.
    pub on_demand: bool,
    /// Only we can reach the peer, if it is external: others cannot make anything of its next hops, so routes from it are
    /// passed on with us as next hop to internal peers, too (RFC 4271, section 5.1.3), unless they are to get it unchanged.
    /// A change resets the session.
    pub behind_us: bool,
    /// How often our own AS number may be in a received AS_PATH.
    pub allow_local_as: u8,
    /// How segments are signed. A change resets the session.
    pub authentication: Option<Authentication>,
    /// The generalised TTL security mechanism (RFC 5082): the peer is at most so many hops away (1: on the same link);
    /// what comes from further away is dropped. Calico's `ttlSecurity`.
    pub ttl_security: Option<u8>,
    /// The TTL of what we send without TTL security; the system's (64) when absent. 1 keeps a session on the link.
    pub ttl: Option<u8>,
    /// Our role towards an external peer (RFC 9234).
    pub role: Option<RoleConfig>,
    /// Another AS number than our own towards this peer (RFC 7705).
    pub local_as: Option<LocalAs>,
    /// Another number of our AS: an internal peer may go by it, and know us by it, instead of the usual one (RFC 7705, section
    /// 4). Either is taken, and our OPEN has the one that the peer takes. Ignored for external peers.
    pub alias_as: Option<Asn>,
    /// How many prefixes the peer may have in each family; `None`: any number.
    pub prefix_limit: Option<PrefixLimit>,
    /// Long-lived graceful restart (RFC 9494); `None`, or without `graceful_restart`, does not offer it.
    pub long_lived: Option<LongLived>,
    /// RFC 8212: an external peer whose policy in a direction has no rules, and lets everything through, exchanges
    /// nothing in that direction. Off by default, as in Calico. A rule that matches everything is a policy.
    pub require_policy: bool,
    /// Whether the path to the peer is watched, and how. A change does not reset the session.
    pub bfd: Option<Bfd>,
    /// Applied to received routes.
    pub import: Policy,
    /// Applied to routes before they are sent.
    pub export: Policy,
}

impl PeerConfig {
    /// A peer with defaults: port 179, we dial, the family of its address, graceful restart on.
    pub fn new(address: IpAddr, remote_as: Asn) -> Self {
        Self {
            label: "global".to_owned(),
            address,
            interface: None,
            port: PORT,
            source: None,
            remote_as,
            connect: ConnectMode::Active,
            families: BTreeSet::from([Family::of_address(address)]),
            timers: Timers::default(),
            graceful_restart: Some(GracefulRestart::default()),
            add_path: AddPath::default(),
            next_hop: NextHopMode::Auto,
            reflector_client: false,
            on_demand: false,
            behind_us: false,
            allow_local_as: 0,
            authentication: None,
            ttl_security: None,
            ttl: None,
            role: None,
            local_as: None,
            alias_as: None,
            prefix_limit: None,
            long_lived: None,
            require_policy: false,
            bfd: None,
            import: Policy::accept_all(),
            export: Policy::accept_all(),
        }
    }

    /// The AS number that the peer knows us by.
    pub fn effective_local_as(&self, ours: Asn) -> Asn {
        self.local_as.map_or(ours, |local| local.asn)
    }
}

/// Who dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectMode {
    /// We dial, and accept too; a collision is resolved (RFC 4271, section 6.8).
    Active,
    /// We only accept.
    Passive,
}

/// Timers of a session (RFC 4271, section 10). Those that repeat are jittered by 0.75 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// What we propose as hold time: 0, or 3 s and more. The smaller of both ends' is used.
    pub hold: Duration,
    /// Between KEEPALIVEs; a third of the negotiated hold time when absent.
    pub keepalive: Option<Duration>,
    /// Between attempts to connect; the first attempts come sooner.
    pub connect_retry: Duration,
    /// The longest wait after an error before the session is started again; the first waits are shorter.
    pub idle_hold_max: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(90),
            keepalive: None,
            connect_retry: Duration::from_secs(5),
            idle_hold_max: Duration::from_secs(30),
        }
    }
}

/// Graceful restart towards a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GracefulRestart {
    /// How long the peer shall wait for us to come back: whole seconds, at most 4,095.
    pub restart_time: Duration,
    /// How long we keep the routes of a peer that came back but has not sent its End-of-RIB.
    pub stale_time: Duration,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self { restart_time: Duration::from_secs(120), stale_time: Duration::from_secs(300) }
    }
}

/// Add-path towards a peer, for all families of the session (RFC 7911). Neither direction by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct AddPath {
    /// We take several routes for a prefix.
    pub receive: bool,
    /// We send several, if the peer takes them.
    pub send: SendPaths,
}

/// Which routes for a prefix an add-path peer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SendPaths {
    /// The best one, without add-path.
    #[default]
    None,
    /// All that could be selected.
    All,
    /// The best so many of them: the best, the best of the others, and so on.
    Best(u8),
    /// Of those with the same next hop the best. Reflectors that have each other as clients would tell each other every
    /// way round among them with [`SendPaths::All`], though packets go the same way by all of them.
    EachNextHop,
}

/// The next hop that a route gets when it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHopMode {
    /// RFC 4271, section 5.1.3: ourselves towards external peers, unchanged towards internal ones.
    Auto,
    /// Always ourselves.
    OurSelf,
    /// Unchanged, towards external peers too.
    Keep,
}

/// A route that we originate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origination {
    /// ORIGIN.
    pub origin: Origin,
    /// How it ranks beside learned routes for the same prefix: they have 100, unless import policy says otherwise, and the
    /// highest is selected.
    pub preference: u32,
    /// The interface that its packets leave by, if they leave by one; for policies that ask for it.
    pub interface: Option<Arc<str>>,
    /// LOCAL_PREF towards internal peers; 100 when absent.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// COMMUNITIES.
    pub communities: BTreeSet<Community>,
    /// Large communities (RFC 8092).
    pub large_communities: BTreeSet<LargeCommunity>,
}

impl Default for Origination {
    fn default() -> Self {
        Self {
            origin: Origin::Igp,
            preference: 150,
            interface: None,
            local_pref: None,
            med: None,
            communities: BTreeSet::new(),
            large_communities: BTreeSet::new(),
        }
    }
}

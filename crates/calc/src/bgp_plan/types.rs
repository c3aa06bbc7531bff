//! The plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use api::BGPLogSeverity;
use bgp::Family;
use bgp::config::{Aggregate, Bfd, StationConfig};
use bgp::policy::{InterfacePattern, Policy};
use ipnet::IpNet;

use super::problems::Problem;

/// Everything that the speaker has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpPlan {
    /// The AS of this node: its own (`Node.spec.bgp.asNumber`), else the cluster's, else 64512.
    pub local_as: u32,
    /// The BGP identifier. `None`: the node has no IPv4 address and nothing else was asked for; no session can be had.
    pub router_id: Option<Ipv4Addr>,
    /// Where to listen.
    pub listen: Listen,
    /// Whether the node-to-node mesh is on (it may still be empty).
    pub mesh: bool,
    /// Own route reflector cluster, if this node is a reflector.
    pub cluster_id: Option<Ipv4Addr>,
    /// What this node is among nodes that choose their own route reflectors; `None` when they do not.
    pub reflection: Option<ReflectionPlan>,
    /// The sessions to have, by peer address and port.
    pub peers: Vec<Peer>,
    /// The priority of routes for which nobody says another: of IPv4, of IPv6.
    pub normal_priorities: [u32; 2],
    /// This node's own addresses, one of each family at most.
    pub addresses: Vec<IpAddr>,
    /// What could be announced, with this node as next hop; the peers' export policies say what is.
    pub originate: Arc<BTreeMap<IpNet, Originated>>,
    /// Those of `originate` that are blocks: what is not assigned in them has to be dropped here (a blackhole route).
    pub blocks: BTreeSet<IpNet>,
    /// Packets are forwarded on what is learned: next hops are looked up in the routing table, and those that it does not
    /// lead to are not used. A reflector that only passes routes on does not ask.
    pub forwards: bool,
    /// Which learned routes BGP puts into the kernel.
    pub kernel: Policy,
    /// Interfaces whose networks are not BGP's business.
    pub excluded_interfaces: Vec<InterfacePattern>,
    /// The networks of the host's interfaces, by which next hops are reached.
    pub interfaces: BTreeMap<IpNet, Arc<str>>,
    /// The addresses that this node has on the interfaces of workloads that it peers with, by interface: all of those
    /// workloads find it by the same (`localWorkloadPeeringIPV4`, `localWorkloadPeeringIPV6`).
    pub peering_addresses: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// Routes that sessions need to reach their peers (`reachableBy`).
    pub static_routes: BTreeSet<StaticRoute>,
    /// The node's name.
    pub name: String,
    /// Monitoring stations that are told what peers say, by address and port.
    pub stations: BTreeMap<String, StationConfig>,
    /// Prefixes that are told as one route for all that lie in them.
    pub aggregates: BTreeMap<IpNet, Aggregate>,
    /// How much BGP logs, if BGPConfiguration says so.
    pub log_severity: Option<BGPLogSeverity>,
    /// What resources ask for and does not happen.
    pub problems: BTreeSet<Problem>,
}

/// What a node is among nodes that choose their own route reflectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReflectionPlan {
    /// What it is.
    pub role: ReflectionRole,
    /// It passes routes on, as a reflector or for those who still take it for one.
    pub reflects: bool,
    /// Counts changes of what is wanted.
    pub generation: u64,
    /// The peers that are wanted, and whether they are clients; others are there only until these are up.
    pub wanted: BTreeMap<IpAddr, bool>,
    /// How long they have to be up before the others end.
    pub settle_time: Duration,
}

/// What a node is among nodes that choose their own route reflectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReflectionRole {
    /// One of a few that are a full mesh.
    Mesh,
    /// It reflects, and peers with the other reflectors and its clients.
    Reflector,
    /// It peers with its reflectors.
    Client,
}

/// How sessions are, by the peers' addresses: what the shell tells the planner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionFeedback {
    /// Not Established for some seconds: nobody loses anything when the session is given up. What is not named may be up by
    /// now, whatever it was a moment ago.
    pub idle: BTreeSet<IpAddr>,
    /// Wanted, and not Established for longer than a restart takes.
    pub down: BTreeSet<IpAddr>,
    /// The generation of the plan that has settled: for a while everything that it wants has been up, or is known to be down.
    pub settled: Option<u64>,
}

/// A prefix that this node could announce.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Originated {
    /// What it is.
    pub kind: OriginatedKind,
    /// Its priority, a kernel metric; LOCAL_PREF is 2147483647 less it.
    pub priority: u32,
    /// The interface that its packets leave by, if they leave by one.
    pub interface: Option<Arc<str>>,
}

/// What a prefix is that this node could announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginatedKind {
    /// A block that this node owns.
    Block,
    /// Addresses of services.
    Service,
    /// An address of a workload.
    Workload,
    /// A network or an address of the host.
    Connected,
}

/// Where the speaker listens for sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// TCP port, 179 unless configured.
    pub port: u16,
    /// Only on these addresses (`bindMode: NodeIP`), those that workloads dial among them; empty: on all.
    pub addresses: Vec<IpAddr>,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What asks for it.
    pub source: PeerSource,
    /// The peer's address.
    pub address: IpAddr,
    /// The routes that the session carries, at least one family.
    pub families: BTreeSet<Family>,
    /// The peer's TCP port.
    pub port: u16,
    /// Our AS towards this peer.
    pub local_as: u32,
    /// The peer's AS.
    pub remote_as: u32,
    /// Another number of our AS, which the peer may go and know us by; `None`: there is none, or it is not in our AS.
    pub alias_as: Option<u32>,
    /// The address to speak from; `None`: whichever the kernel picks (`sourceAddress: None`).
    pub source_address: Option<IpAddr>,
    /// Wait for the peer to connect. Of two nodes, the one with the lesser address waits.
    pub passive: bool,
    /// The peer is a client of ours, a route reflector (RFC 4456).
    pub reflector_client: bool,
    /// It may connect or not: nobody waits for it, and nobody misses it.
    pub on_demand: bool,
    /// How next hops are told.
    pub next_hop: NextHop,
    /// Hops to the peer, for GTSM (RFC 5082); `None`: not used, any number of hops.
    pub ttl_security: Option<u8>,
    /// Where the TCP MD5 password is kept.
    pub password: Option<PasswordRef>,
    /// Restart time to announce for graceful restart; `None`: the speaker's own.
    pub restart_time: Option<Duration>,
    /// Keepalive interval; `None`: the speaker's own.
    pub keepalive_time: Option<Duration>,
    /// How often our own AS may stand in a path from this peer; `None`: never.
    pub allow_local_as: Option<u32>,
    /// How the path to the peer is watched; `None`: it is not.
    pub bfd: Option<Bfd>,
    /// `BGPFilter`s, in order.
    pub filters: Vec<String>,
    /// What is taken from it.
    pub import: Policy,
    /// What it is told.
    pub export: Policy,
}

/// Labels of sessions by what asks for them: PEER TYPE in `calicoctl node status`.
pub mod label {
    /// The mesh.
    pub const MESH: &str = "node-to-node mesh";
    /// A `BGPPeer` for all nodes.
    pub const GLOBAL: &str = "global";
    /// A `BGPPeer` for some nodes.
    pub const NODE: &str = "node specific";
    /// A `BGPPeer` for workloads.
    pub const LOCAL_WORKLOAD: &str = "local workload";
}

/// What asks for a session; the more special come later.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerSource {
    /// The mesh: a session with this node.
    Mesh {
        /// The other node.
        node: String,
    },
    /// A `BGPPeer` for all nodes.
    Global {
        /// The `BGPPeer`.
        name: String,
    },
    /// A `BGPPeer` for this node, by name or selector, or the other direction of a peering by selectors.
    Node {
        /// The `BGPPeer`.
        name: String,
    },
    /// A `BGPPeer` for workloads of this node.
    LocalWorkload {
        /// The `BGPPeer`.
        name: String,
    },
}

/// How next hops are told to a peer (`nextHopMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum NextHop {
    /// As BGP does by itself: ourselves to eBGP peers, unchanged to iBGP peers.
    #[default]
    Auto,
    /// Always ourselves.
    Own,
    /// Always unchanged.
    Keep,
}

/// A key of a Kubernetes Secret in the namespace of the node's pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PasswordRef {
    /// The Secret.
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Without it the session is spoken all the same, unprotected.
    pub optional: bool,
}

/// A route to one peer by way of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaticRoute {
    /// The peer's address.
    pub destination: IpNet,
    /// `reachableBy`.
    pub gateway: IpAddr,
}

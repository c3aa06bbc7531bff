//! The sessions to have (control-plane.md 3.2).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::scalars::GoDuration;
use api::selector::Selector;
use api::{BGPPassword, BGPPeerSpec, NextHopMode, PeerBfd, PeerFamily, ReversePeering, SourceAddress};
use bgp::Family;
use bgp::config::Bfd;
use bgp::policy::Policy;
use ipnet::IpNet;

use super::planner::{BgpPlanner, NodeRow};
use super::problems::Problem;
use super::types::{NextHop, PasswordRef, Peer, PeerSource, ReflectionPlan, StaticRoute};
use super::workloads::PeeringWorkloads;

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remote<'a> {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) as_number: u32,
    /// The node that has the address, if one does.
    pub(super) node: Option<&'a NodeRow>,
}

pub(super) type Sessions = BTreeMap<(IpAddr, u16), Peer>;

/// The sessions to have, and what belongs to them.
#[derive(Default)]
pub(super) struct PlannedSessions {
    pub(super) peers: Vec<Peer>,
    pub(super) static_routes: BTreeSet<StaticRoute>,
    pub(super) reflection: Option<ReflectionPlan>,
    pub(super) workloads: PeeringWorkloads,
}

impl BgpPlanner {
    /// Sessions by address and port, and the routes that they need.
    pub(super) fn sessions(&self, problems: &mut BTreeSet<Problem>) -> PlannedSessions {
        let Some(us) = self.nodes.get(&self.node_name) else { return PlannedSessions::default() };
        let mut sessions = Sessions::new();
        let mut static_routes = BTreeSet::new();
        let reflection = self.add_reflection(us, &mut sessions);
        self.add_mesh(us, reflection.is_some(), &mut sessions);
        for (name, spec) in &self.peers {
            problems.extend(self.problems_of(name, spec));
            if spec.local_workload_selector.is_empty() {
                self.add_peers(us, name, spec, &mut sessions, &mut static_routes);
            }
        }
        let workloads = self.add_local_workloads(us, &mut sessions, problems);
        PlannedSessions { peers: sessions.into_values().collect(), static_routes, reflection, workloads }
    }

    /// What a peer asks for and does not get.
    fn problems_of(&self, name: &str, spec: &BGPPeerSpec) -> Vec<Problem> {
        let problem = |field: &str, reason: String, remedy| {
            Problem::new(format!("BGPPeer {name}"), format!("spec.{field}"), reason, remedy)
        };
        let mut problems = Vec::new();
        for (text, field) in [
            (&spec.node_selector, "nodeSelector"),
            (&spec.peer_selector, "peerSelector"),
            (&spec.local_workload_selector, "localWorkloadSelector"),
        ] {
            if let Err(error) = Selector::parse(text) {
                let reason = format!("{error}; it selects nothing");
                problems.push(problem(field, reason, "correct the selector"));
            }
        }
        if let Err(error) = spec.peer_address() {
            problems.push(problem("peerIP", format!("{error}; there is no session"), "correct the address"));
        }
        let (is_address, is_workloads) = (!spec.peer_ip.is_empty(), !spec.local_workload_selector.is_empty());
        if (is_address || is_workloads) && spec.as_number.is_none() {
            let reason = "is not set; there is no session".to_owned();
            problems.push(problem("asNumber", reason, "write the AS number of the peer"));
        }
        let other_as = spec.as_number.filter(|number| number.0 != self.local_as());
        if let (Some(_), Some(number)) = (spec.alias_as_number, other_as) {
            let reason = format!("has no effect: the peer is in AS {number}, and not in ours");
            problems.push(problem("aliasASNumber", reason, "leave it out, or write our AS into asNumber"));
        }
        for (index, filter) in spec.filters.iter().enumerate() {
            if !self.filters.contains_key(filter) {
                let reason =
                    format!("BGPFilter {filter} does not exist; the peer goes without it, as in Calico");
                problems.push(problem(
                    &format!("filters[{index}]"),
                    reason,
                    "create the BGPFilter, or leave it out",
                ));
            }
        }
        problems
    }

    /// A route reflector keeps out of the mesh, and so do the others towards it. Where nodes choose their own reflectors,
    /// only those of other ASes are left for the mesh.
    fn add_mesh(&self, us: &NodeRow, has_reflection: bool, sessions: &mut Sessions) {
        if !self.is_mesh_on() || us.cluster_id.is_some() {
            return;
        }
        let global = self.global();
        let others =
            self.nodes.iter().filter(|(name, node)| **name != self.node_name && node.cluster_id.is_none());
        let others = others.filter(|(_, node)| !has_reflection || self.as_of(node) != self.local_as());
        for (name, node) in others {
            for address in &node.addresses {
                let remote = Remote {
                    address: *address,
                    port: self.port_of(name),
                    as_number: self.as_of(node),
                    node: Some(node),
                };
                let source = PeerSource::Mesh { node: name.clone() };
                let Some(peer) = self.session(us, source, remote, &BGPPeerSpec::default()) else { continue };
                let peer = Peer {
                    password: global.and_then(|spec| password(spec.node_mesh_password.as_ref())),
                    restart_time: global.and_then(|spec| duration(spec.node_mesh_max_restart_time)),
                    ..peer
                };
                add(sessions, peer);
            }
        }
    }

    fn add_peers(
        &self,
        us: &NodeRow,
        name: &str,
        spec: &BGPPeerSpec,
        sessions: &mut Sessions,
        static_routes: &mut BTreeSet<StaticRoute>,
    ) {
        if let Some(source) = self.source_for_us(us, name, spec) {
            for remote in self.remotes(spec) {
                let Some(peer) = self.session(us, source.clone(), remote, spec) else { continue };
                let destination = IpNet::from(peer.address);
                let gateway = spec.reachable_by.filter(|via| via.is_ipv6() == peer.address.is_ipv6());
                static_routes.extend(gateway.map(|gateway| StaticRoute { destination, gateway }));
                add(sessions, peer);
            }
        }
        let source = self.reversed_source(us, name, spec);
        for remote in source.iter().flat_map(|_| self.reversed_remotes(us, spec)) {
            let session = source.clone().and_then(|source| self.session(us, source, remote, spec));
            session.into_iter().for_each(|peer| add(sessions, peer));
        }
    }

    /// Whether a peer is one of ours, and as what.
    pub(super) fn source_for_us(&self, us: &NodeRow, name: &str, spec: &BGPPeerSpec) -> Option<PeerSource> {
        let name = name.to_owned();
        match spec.node.is_empty() && spec.node_selector.is_empty() {
            true => Some(PeerSource::Global { name }),
            false => applies(spec, &self.node_name, us).then_some(PeerSource::Node { name }),
        }
    }

    /// Nodes that a peer means peer back, unless they are told not to: those that it selects, and the one whose address it
    /// gives.
    fn reversed_source(&self, us: &NodeRow, name: &str, spec: &BGPPeerSpec) -> Option<PeerSource> {
        if spec.reverse_peering.unwrap_or_default() != ReversePeering::Auto {
            return None;
        }
        let name = name.to_owned();
        let is_global = spec.node.is_empty() && spec.node_selector.is_empty();
        if selects(&spec.peer_selector, &us.labels) {
            return Some(if is_global { PeerSource::Global { name } } else { PeerSource::Node { name } });
        }
        let (address, _) = address_and_port(&spec.peer_ip)?;
        us.addresses.contains(&address).then_some(PeerSource::Node { name })
    }

    /// The nodes that have us as a peer; with a peer's address, in its family only.
    fn reversed_remotes<'a>(&'a self, us: &NodeRow, spec: &BGPPeerSpec) -> Vec<Remote<'a>> {
        let family = address_and_port(&spec.peer_ip).map(|(address, _)| address.is_ipv6());
        let nodes = self.nodes.iter().filter(|(name, node)| applies(spec, name, node));
        let remotes = nodes.flat_map(|(name, node)| self.node_remotes(name, node));
        let fits = |address: IpAddr| family.is_none_or(|v6| v6 == address.is_ipv6());
        remotes.filter(|remote| fits(remote.address) && !us.addresses.contains(&remote.address)).collect()
    }

    fn remotes<'a>(&'a self, spec: &BGPPeerSpec) -> Vec<Remote<'a>> {
        if spec.peer_ip.is_empty() {
            let selected = self.nodes.iter().filter(|(_, node)| selects(&spec.peer_selector, &node.labels));
            return selected.flat_map(|(name, node)| self.node_remotes(name, node)).collect();
        }
        let Some((address, port)) = address_and_port(&spec.peer_ip) else { return Vec::new() };
        let node = self.nodes.iter().find(|(_, node)| node.addresses.contains(&address));
        let known_port = node.map_or_else(Self::foreign_port, |(name, _)| self.port_of(name));
        let Some(as_number) = spec.as_number else { return Vec::new() };
        let node = node.map(|(_, node)| node);
        vec![Remote { address, port: port.unwrap_or(known_port), as_number: as_number.0, node }]
    }

    fn node_remotes<'a>(&self, name: &str, node: &'a NodeRow) -> Vec<Remote<'a>> {
        let (port, as_number) = (self.port_of(name), self.as_of(node));
        node.addresses
            .iter()
            .map(|address| Remote { address: *address, port, as_number, node: Some(node) })
            .collect()
    }

    /// A session, unless it would be with ourselves or in a family that we have no address of.
    pub(super) fn session(
        &self,
        us: &NodeRow,
        source: PeerSource,
        remote: Remote<'_>,
        spec: &BGPPeerSpec,
    ) -> Option<Peer> {
        let own_address = us.address(remote.address.is_ipv6())?;
        if us.addresses.contains(&remote.address) {
            return None;
        }
        let local_as = spec.local_as_number.map_or_else(|| self.local_as(), |number| number.0);
        let is_internal = local_as == remote.as_number;
        let their_cluster = remote.node.and_then(|node| node.cluster_id);
        let reflects = us.cluster_id.is_some() && their_cluster != us.cluster_id;
        Some(Peer {
            passive: waits(&source, spec, &remote, own_address),
            source,
            address: remote.address,
            families: families(spec, remote.address),
            port: remote.port,
            local_as,
            remote_as: remote.as_number,
            alias_as: spec.alias_as_number.map(|number| number.0).filter(|_| is_internal),
            source_address: match spec.source_address.unwrap_or_default() {
                SourceAddress::UseNodeIP => Some(own_address),
                SourceAddress::None => None,
            },
            reflector_client: is_internal && reflects,
            on_demand: false,
            next_hop: next_hop(spec, is_internal),
            ttl_security: spec.ttl_security.filter(|hops| *hops > 0),
            password: password(spec.password.as_ref()),
            restart_time: duration(spec.max_restart_time),
            keepalive_time: duration(spec.keepalive_time),
            allow_local_as: spec.num_allowed_local_as_numbers.and_then(|number| u32::try_from(number).ok()),
            bfd: spec.bfd.as_ref().map(bfd),
            filters: spec.filters.clone(),
            import: Policy::accept_all(),
            export: Policy::reject_all(),
        })
    }
}

/// Of several that ask for one session, the most special counts; of equals, the first by name.
pub(super) fn add(sessions: &mut Sessions, peer: Peer) {
    let rank = |source: &PeerSource| match source {
        PeerSource::Mesh { .. } => 0,
        PeerSource::Global { .. } => 1,
        PeerSource::Node { .. } => 2,
        PeerSource::LocalWorkload { .. } => 3,
    };
    let key = (peer.address, peer.port);
    let known = sessions.get(&key);
    if known.is_none_or(|known| rank(&known.source) < rank(&peer.source)) {
        sessions.insert(key, peer);
    }
}

/// Where both ends are sure to have the session, one waits, so that they do not connect twice: the one whose peer has the
/// greater address, compared as text.
fn waits(source: &PeerSource, spec: &BGPPeerSpec, remote: &Remote<'_>, own_address: IpAddr) -> bool {
    let is_mutual = match source {
        PeerSource::Mesh { .. } => true,
        PeerSource::Global { .. } => remote.node.is_some() && !spec.peer_ip.is_empty(),
        PeerSource::Node { .. } | PeerSource::LocalWorkload { .. } => false,
    };
    is_mutual && remote.address.to_string() > own_address.to_string()
}

fn next_hop(spec: &BGPPeerSpec, is_internal: bool) -> NextHop {
    match spec.next_hop_mode {
        Some(NextHopMode::Self_) => NextHop::Own,
        Some(NextHopMode::Keep) => NextHop::Keep,
        // The older field acts on eBGP only.
        None if spec.keep_original_next_hop && !is_internal => NextHop::Keep,
        Some(NextHopMode::Auto) | None => NextHop::Auto,
    }
}

/// Whether a peer is meant for a node.
fn applies(spec: &BGPPeerSpec, name: &str, node: &NodeRow) -> bool {
    match (spec.node.as_str(), spec.node_selector.as_str()) {
        ("", "") => true,
        ("", selector) => selects(selector, &node.labels),
        (wanted, _) => wanted == name,
    }
}

/// An empty selector selects nothing here; nor does one that cannot be read.
pub(super) fn selects(selector: &str, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && Selector::parse(selector).is_ok_and(|selector| selector.matches(labels))
}

/// `ip`, `ip:port` or `[v6]:port`.
fn address_and_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse() {
        return Some((address, None));
    }
    let socket: SocketAddr = text.parse().ok()?;
    Some((socket.ip(), Some(socket.port())))
}

pub(super) fn password(password: Option<&BGPPassword>) -> Option<PasswordRef> {
    let reference = password?.secret_key_ref.as_ref()?;
    let optional = reference.optional.unwrap_or(false);
    Some(PasswordRef { name: reference.name.clone(), key: reference.key.clone(), optional })
}

fn families(spec: &BGPPeerSpec, address: IpAddr) -> BTreeSet<Family> {
    let named = spec.families.iter().map(|family| match family {
        PeerFamily::IPv4 => Family::Ipv4Unicast,
        PeerFamily::IPv6 => Family::Ipv6Unicast,
    });
    let named: BTreeSet<Family> = named.collect();
    if named.is_empty() { [Family::of_address(address)].into() } else { named }
}

fn bfd(spec: &PeerBfd) -> Bfd {
    let default = Bfd::default();
    Bfd {
        multihop: spec.multihop,
        interval: duration(spec.interval).unwrap_or(default.interval),
        multiplier: spec.multiplier.unwrap_or(default.multiplier),
        strict: spec.strict,
    }
}

pub(super) fn duration(duration: Option<GoDuration>) -> Option<Duration> {
    duration.and_then(GoDuration::to_duration)
}

//! A route as people see it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::config::SpeakerConfig;
use crate::packet::attribute::{AsPath, AttributeValue};
use crate::rib::{AttributeSet, Path, PeerNumber, Routes};
use crate::speaker::Speaker;
use crate::speaker::peer::Peer;
use crate::types::{Asn, PeerId};

/// A route, with what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteView {
    /// The prefix.
    pub prefix: IpNet,
    /// The peer that it comes from; none: it is our own.
    pub peer: Option<PeerId>,
    /// That peer's address.
    pub from: Option<IpAddr>,
    /// The path identifier under which it came, or under which a peer was told (RFC 7911); none without add-path.
    pub path_id: Option<u32>,
    /// Its attributes: behind the import policy, or, when it is what a peer was told, behind the export policy.
    pub attributes: AttributeSet,
    /// It is the one that is used and told on.
    pub best: bool,
    /// It is used beside the best one.
    pub multipath: bool,
    /// It is kept from before the peer's restart.
    pub stale: bool,
    /// Why it cannot be used.
    pub unusable: Option<Unusable>,
}

/// How a route is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Best,
    Beside,
    Unused,
}

impl Use {
    pub(super) fn of(index: usize, routes: &Routes) -> Self {
        match routes.best {
            Some(best) if best == index => Self::Best,
            _ if routes.multipath.contains(&index) => Self::Beside,
            _ => Self::Unused,
        }
    }
}

impl RouteView {
    /// About how many octets it takes as text.
    pub(super) fn weight(&self) -> usize {
        600 + 4 * self.attributes.octets().len()
    }
}

/// Why a well-formed route is never selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// Our AS is in its AS_PATH more often than allowed (RFC 4271, section 9.1.2).
    OwnAs {
        /// Our AS, as the peer knows it.
        asn: Asn,
        /// How often it is there.
        times: usize,
        /// How often it may be.
        allowed: u8,
    },
    /// We are its originator (RFC 4456, section 8).
    OwnOriginator,
    /// It has been through our cluster (RFC 4456, section 8).
    OwnCluster(Ipv4Addr),
    /// It is for customers only, and comes from one, or from an equal that did not say so (RFC 9234, section 5).
    Leak,
    /// Its next hop is our own address (RFC 4271, section 5.1.3).
    OwnNextHop(IpAddr),
    /// The host has no route to its next hop (RFC 4271, section 9.1.2).
    Unresolved(IpAddr),
    /// Routes are not selected yet: peers are still waited for (RFC 4724, section 4.1).
    Deferred,
    /// The tables do not take it for a reason that is not one of the above.
    NotEligible,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnAs { asn, times, allowed } => {
                write!(f, "loop: our AS {asn} is in its AS path {times} times, {allowed} are allowed")
            }
            Self::OwnOriginator => f.write_str("loop: we are its originator"),
            Self::OwnCluster(id) => write!(f, "loop: it has been through our cluster {id}"),
            Self::Leak => f.write_str("leak: it is for customers only, and should not come from this peer"),
            Self::OwnNextHop(address) => write!(f, "its next hop {address} is our own address"),
            Self::Unresolved(address) => {
                write!(f, "its next hop {address} cannot be reached: the host has no route to it")
            }
            Self::Deferred => f.write_str("not yet: after the restart, peers are still waited for"),
            Self::NotEligible => f.write_str("it is not eligible"),
        }
    }
}

impl Speaker {
    /// A route of the table.
    pub(super) fn view(&self, prefix: IpNet, path: &Path, used: Use) -> RouteView {
        let set = self.interner.get(path.attributes);
        let peer = self.peers.get(&path.peer);
        RouteView {
            prefix,
            peer: peer.map(|peer| peer.id.clone()),
            from: peer.map(|peer| peer.config.address),
            path_id: (path.path_id != 0 && path.peer != PeerNumber::LOCAL).then_some(path.path_id),
            attributes: set.clone(),
            best: used == Use::Best,
            multipath: used == Use::Beside,
            stale: path.stale,
            unusable: self.why_unusable(prefix, path, set),
        }
    }

    fn why_unusable(&self, prefix: IpNet, path: &Path, set: &AttributeSet) -> Option<Unusable> {
        if path.ineligible {
            let fault = self.peers.get(&path.peer).and_then(|peer| fault(peer, &self.config, set));
            return Some(fault.unwrap_or(Unusable::NotEligible));
        }
        let deferred = match prefix {
            IpNet::V4(_) => self.ipv4.rib.is_deferred(),
            IpNet::V6(_) => self.ipv6.rib.is_deferred(),
        };
        if deferred && path.peer != PeerNumber::LOCAL {
            return Some(Unusable::Deferred);
        }
        self.interner.cost(path.attributes).is_none().then_some(Unusable::Unresolved(set.next_hop))
    }
}

/// The same rules as those by which a received route is found to be ineligible, on what is kept of it.
pub(super) fn fault(peer: &Peer, config: &SpeakerConfig, set: &AttributeSet) -> Option<Unusable> {
    let ours = [config.addresses.ipv4.map(IpAddr::V4), config.addresses.ipv6.map(IpAddr::V6)];
    if ours.contains(&Some(set.next_hop)) || peer.local == Some(set.next_hop) {
        return Some(Unusable::OwnNextHop(set.next_hop));
    }
    if set.originator == Some(config.router_id.0) {
        return Some(Unusable::OwnOriginator);
    }
    if peer.is_leak(set) {
        return Some(Unusable::Leak);
    }
    let cluster = config.cluster_id.unwrap_or(config.router_id.0);
    set.decode().iter().find_map(|attribute| match &attribute.value {
        AttributeValue::AsPath(path) => own_as(peer, config, path),
        AttributeValue::ClusterList(list) => list.contains(&cluster).then_some(Unusable::OwnCluster(cluster)),
        _ => None,
    })
}

fn own_as(peer: &Peer, config: &SpeakerConfig, path: &AsPath) -> Option<Unusable> {
    let allowed = peer.config.allow_local_as;
    let times: usize = peer.our_names(config.local_as).iter().map(|asn| path.count(*asn)).sum();
    // What we have put there ourselves is no loop.
    let times = times.saturating_sub(peer.own_prepends());
    let asn = peer.config.effective_local_as(config.local_as);
    (times > usize::from(allowed)).then_some(Unusable::OwnAs { asn, times, allowed })
}

//! What a speaker says about itself.

use std::net::IpAddr;
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::{PathStatus, Speaker};
use crate::rib::PeerNumber;
use crate::session::{Negotiated, Reason, SessionState};
use crate::types::{Asn, Family, PeerId, RouterId};

/// A snapshot of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub id: PeerId,
    /// Its address.
    pub address: IpAddr,
    /// Its type, as configured.
    pub label: String,
    /// Its AS.
    pub remote_as: Asn,
    /// The state of the session; that of the connection that got furthest.
    pub state: SessionState,
    /// Since when it has this state.
    pub since: Instant,
    /// Why the session is not up, or why it last went down.
    pub reason: Option<Reason>,
    /// What the peer said in its OPEN.
    pub established: Option<EstablishedStatus>,
    /// Prefixes received (accepted or not eligible) per family, stale ones included.
    pub received: Vec<(Family, usize)>,
    /// Prefixes of them that are kept from before a restart of the peer, per family.
    pub stale: Vec<(Family, usize)>,
    /// Messages since the session was configured.
    pub messages: MessageCounts,
    /// How often the session has been Established.
    pub established_count: u64,
    /// What can be done about it; only while the session is down.
    pub remedy: Option<String>,
    /// Octets for the peer that are not in the socket yet.
    pub unread: usize,
    /// The path to the peer, if BFD is to watch it.
    pub path: Option<PathStatus>,
}

/// How a session is, without the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStatus {
    /// The peer's address.
    pub address: IpAddr,
    /// The state of the session.
    pub state: SessionState,
    /// It is Established, and the peer has told all that it has: the End-of-RIBs of all families have come.
    pub is_whole: bool,
}

impl From<&PeerStatus> for SessionStatus {
    fn from(peer: &PeerStatus) -> Self {
        let established = peer.established.as_ref().filter(|_| peer.state == SessionState::Established);
        let is_whole =
            established.is_some_and(|established| established.end_of_rib.len() == established.families.len());
        Self { address: peer.address, state: peer.state, is_whole }
    }
}

impl PeerStatus {
    /// How often an established session was lost.
    pub fn flaps(&self) -> u64 {
        self.established_count - u64::from(self.state == SessionState::Established)
    }

    /// The state in the words of `calicoctl node status`: STATE (`up`, `start`, …) and INFO.
    pub fn state_and_info(&self) -> (&'static str, String) {
        let state = if self.state == SessionState::Established { "up" } else { "start" };
        let info = match (&self.reason, self.state) {
            (_, SessionState::Established) => self.state.to_string(),
            (Some(reason), other) => format!("{other}: {reason}"),
            (None, other) => other.to_string(),
        };
        (state, info)
    }
}

/// What was agreed with an established peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EstablishedStatus {
    /// Its identifier.
    pub router_id: RouterId,
    /// Our end of the connection.
    pub local_address: Option<IpAddr>,
    /// The hold time in force; zero means none.
    pub hold_time: Duration,
    /// Between KEEPALIVEs; zero means none.
    pub keepalive: Duration,
    /// The families in use.
    pub families: Vec<Family>,
    /// Whether both ends do graceful restart.
    pub graceful_restart: bool,
    /// Families whose End-of-RIB has come.
    pub end_of_rib: Vec<Family>,
}

/// Counters of messages and routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageCounts {
    /// Messages received.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// UPDATEs received.
    pub updates_received: u64,
    /// UPDATEs sent.
    pub updates_sent: u64,
    /// UPDATEs whose routes were treated as withdrawn, or that lost an attribute (RFC 7606).
    pub malformed_updates: u64,
}

/// Why a well-formed route is never selected, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ineligible {
    /// We are its originator.
    Originator,
    /// Our AS is in its AS_PATH.
    AsPath,
    /// Our cluster is in its CLUSTER_LIST.
    ClusterList,
    /// A leak, or a next hop that is ourselves.
    Other,
}

/// What of a peer's routes was not used, since it was configured (RFC 7854, section 4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Unused {
    /// Prefixes that import policy has turned away.
    pub(super) rejected: u64,
    /// Times that the attributes of an UPDATE were found to have been through our AS.
    pub(super) as_path_loops: u64,
    /// Through our cluster.
    pub(super) cluster_loops: u64,
    /// To be our own.
    pub(super) originator_loops: u64,
    /// UPDATEs whose routes were treated as withdrawn (RFC 7606).
    pub(super) treated_as_withdraw: u64,
}

impl Unused {
    /// Counts what has become of an UPDATE.
    pub(super) fn count(&mut self, rejected: usize, fault: Option<Ineligible>) {
        self.rejected += rejected as u64;
        match fault {
            Some(Ineligible::Originator) => self.originator_loops += 1,
            Some(Ineligible::AsPath) => self.as_path_loops += 1,
            Some(Ineligible::ClusterList) => self.cluster_loops += 1,
            Some(Ineligible::Other) | None => {}
        }
    }
}

impl Speaker {
    /// A snapshot of every peer, in the order of their names.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.numbers.values().map(|number| self.peer_status(*number)).collect()
    }

    /// How every session is, in the order in which peers were configured: cheap enough to be asked for all the time.
    pub fn sessions(&self) -> impl Iterator<Item = SessionStatus> + '_ {
        self.peers.values().map(|peer| {
            let told = |negotiated: &Negotiated| {
                negotiated.context.families.iter().all(|family| peer.end_of_rib.contains(family))
            };
            let is_whole = peer.session.negotiated().is_some_and(told);
            SessionStatus { address: peer.config.address, state: peer.session.state(), is_whole }
        })
    }

    /// Snapshots of some peers, in the order of their names: the first so many behind a name.
    pub fn status_after(&self, after: Option<&PeerId>, limit: usize) -> Vec<PeerStatus> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.numbers.range::<PeerId, _>((from, Bound::Unbounded));
        range.take(limit).map(|(_, number)| self.peer_status(*number)).collect()
    }

    /// A snapshot of a peer, if it is there.
    pub fn status_of(&self, peer: &PeerId) -> Option<PeerStatus> {
        self.numbers.get(peer).map(|number| self.peer_status(*number))
    }

    fn peer_status(&self, number: PeerNumber) -> PeerStatus {
        let peer = &self.peers[&number];
        let (v4, v6) = (self.ipv4.rib.count(number), self.ipv6.rib.count(number));
        let offered = peer.session.settings().families;
        let received = [(Family::Ipv4Unicast, v4.routes), (Family::Ipv6Unicast, v6.routes)];
        let established = peer.session.negotiated().map(|agreed| EstablishedStatus {
            router_id: agreed.router_id,
            local_address: peer.local,
            hold_time: agreed.hold_time,
            keepalive: agreed.keepalive,
            families: agreed.context.families.iter().collect(),
            graceful_restart: agreed.does_graceful_restart(),
            end_of_rib: peer.end_of_rib.iter().collect(),
        });
        PeerStatus {
            id: peer.id.clone(),
            address: peer.config.address,
            label: peer.config.label.clone(),
            remote_as: peer.config.remote_as,
            state: peer.session.state(),
            since: peer.session.since(),
            reason: peer.session.reason().cloned(),
            established,
            received: received.into_iter().filter(|(family, _)| offered.contains(*family)).collect(),
            stale: vec![(Family::Ipv4Unicast, v4.stale), (Family::Ipv6Unicast, v6.stale)],
            messages: MessageCounts { received: peer.session.messages_received(), ..peer.counts },
            established_count: peer.established_count,
            remedy: remedy(peer),
            unread: peer.session.outstanding(),
            path: self.path_status(peer),
        }
    }

    /// How many prefixes of a family have at least one route.
    pub fn prefixes(&self, family: Family) -> usize {
        match family {
            Family::Ipv4Unicast => self.ipv4.rib.len(),
            Family::Ipv6Unicast => self.ipv6.rib.len(),
        }
    }

    /// How many different sets of attributes are in use.
    pub fn attribute_sets(&self) -> usize {
        self.interner.len()
    }

    /// Whether the routes of a family are complete.
    pub fn is_complete(&self, family: Family) -> bool {
        match family {
            Family::Ipv4Unicast => self.ipv4.complete,
            Family::Ipv6Unicast => self.ipv6.complete,
        }
    }
}

/// What can be done about a session that is down: about the last failure, or when there was none, about what is waited for.
fn remedy(peer: &super::Peer) -> Option<String> {
    if peer.session.negotiated().is_some() {
        return None;
    }
    match peer.session.reason() {
        Some(reason) => reason.remedy(&peer.config),
        None => crate::session::waiting(&peer.config),
    }
}

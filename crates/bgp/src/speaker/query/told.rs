//! What a peer has been told, and why it has not.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::view::RouteView;
use crate::config::SendPaths;
use crate::policy::Trace;
use crate::rib::{
    AttributeSet, Belief, Best, GroupKey, Net, PeerNumber, Refusal, Slot, exported, goes_to, seen_by_policy,
};
use crate::speaker::Speaker;
use crate::speaker::family::FamilyRib;
use crate::types::PeerId;

/// Whether an established peer has been told of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldPeer {
    /// The peer.
    pub peer: PeerId,
    /// Its address.
    pub address: IpAddr,
    /// The routes as it has them, not empty; or why it has none.
    pub route: Result<Vec<RouteView>, NotTold>,
    /// Something newer is still to be told.
    pub outdated: bool,
    /// What its export policy makes of the best route, when it comes to that.
    pub export: Option<Trace>,
}

/// Why a peer has no route from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotTold {
    /// It has not come to it yet: the session has just come up, or the peer reads slowly.
    NotYet,
    /// There is no route that could be used.
    NoRoute,
    /// The best route comes from this very peer.
    Source,
    /// The best route does not go to peers of its sort.
    Refused(Refusal),
}

impl fmt::Display for NotTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotYet => "not yet: it is still being told the rest of the table",
            Self::NoRoute => "there is no route that can be used",
            Self::Source => "the best route comes from it",
            Self::Refused(Refusal::Internal) => {
                "internal routes do not go to internal peers, except by reflection (RFC 4271, section 9.2)"
            }
            Self::Refused(Refusal::NoAdvertise) => "the route carries the community NO_ADVERTISE",
            Self::Refused(Refusal::NoExport) => {
                "the route carries the community NO_EXPORT, the peer is external"
            }
            Self::Refused(Refusal::LongLivedStale) => {
                "the route is long-lived stale, which the peer does not understand (RFC 9494, section 4.3)"
            }
            Self::Refused(Refusal::OnlyToCustomers) => {
                "the route may only go to customers, which the peer is not (RFC 9234, section 5)"
            }
            Self::Refused(Refusal::Summarised) => "an aggregate that it lies in is told in its place",
            Self::Refused(Refusal::ForExternalPeers) => "it is an aggregate for external peers only",
            Self::Refused(Refusal::Policy) => "the export filters reject it",
            Self::Refused(Refusal::NextHop) => "there is no next hop that the peer could use",
        })
    }
}

impl Speaker {
    /// The routes that a peer has been told for a prefix: one, or several if it does add-path.
    pub(super) fn told<N: Net>(
        &self,
        family: &FamilyRib<N>,
        number: PeerNumber,
        slot: Slot,
        prefix: N,
    ) -> Result<Vec<RouteView>, NotTold> {
        let key = family.groups.key_of(number).ok_or(NotTold::NotYet)?;
        let now;
        let selected = match family.groups.belief(number, prefix, slot) {
            Belief::NotYet => return Err(NotTold::NotYet),
            Belief::Outdated(before) => before,
            Belief::UpToDate => {
                now = family.rib.selected_at(slot, &self.sources);
                &now
            }
        };
        let mut refusal = NotTold::NoRoute;
        let mut told = Vec::new();
        for best in key.routes(selected) {
            if !key.audience(best).includes(number) {
                if best.peer == number {
                    refusal = NotTold::Source;
                }
                continue;
            }
            match exported(prefix, best, key, &self.interner) {
                Ok(attributes) => told.push(self.told_view(prefix.into(), best, key, attributes)),
                Err(reason) => refusal = NotTold::Refused(reason),
            }
        }
        if told.is_empty() { Err(refusal) } else { Ok(told) }
    }

    fn told_view(&self, prefix: IpNet, best: &Best, key: &GroupKey, attributes: AttributeSet) -> RouteView {
        let source = self.peers.get(&best.peer);
        RouteView {
            prefix,
            peer: source.map(|peer| peer.id.clone()),
            from: source.map(|peer| peer.config.address),
            path_id: (key.paths != SendPaths::None).then_some(best.path_id),
            attributes,
            best: best.rank == 1,
            multipath: false,
            stale: false,
            unusable: None,
        }
    }

    /// Whether a peer has been told of a prefix, with the steps of its export policy.
    pub(super) fn told_peer<N: Net>(&self, family: &FamilyRib<N>, number: PeerNumber, prefix: N) -> ToldPeer {
        let peer = &self.peers[&number];
        let slot = family.rib.slot(prefix);
        let route = match slot {
            Some(slot) => self.told(family, number, slot, prefix),
            None => Err(NotTold::NoRoute),
        };
        let belief = slot.map(|slot| family.groups.belief(number, prefix, slot));
        ToldPeer {
            peer: peer.id.clone(),
            address: peer.config.address,
            route,
            outdated: matches!(belief, Some(Belief::Outdated(_))),
            export: self.export_trace(family, number, prefix),
        }
    }

    /// The steps of a peer's export policy for the best route; `None` when it does not get as far as that.
    fn export_trace<N: Net>(&self, family: &FamilyRib<N>, number: PeerNumber, prefix: N) -> Option<Trace> {
        let selected = family.rib.selected(prefix, &self.sources);
        let best = selected.best().filter(|best| best.peer != number)?;
        let key = family.groups.key_of(number)?;
        match goes_to(prefix, best, key, &self.interner) {
            Err(
                Refusal::Internal
                | Refusal::NoAdvertise
                | Refusal::NoExport
                | Refusal::LongLivedStale
                | Refusal::OnlyToCustomers
                | Refusal::Summarised
                | Refusal::ForExternalPeers,
            ) => None,
            Ok(()) | Err(Refusal::Policy | Refusal::NextHop) => {
                let set = self.interner.get(best.attributes);
                Some(key.policy.trace(&seen_by_policy(prefix, best, key, set)))
            }
        }
    }
}

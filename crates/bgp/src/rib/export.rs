//! What a route looks like to a group of peers: Adj-RIB-Out as a function, not as a table.
//!
//! Peers that get the same octets for the same route form an update group. What a group has been told about a prefix
//! is not stored: it follows from the route that was best before, which a change carries along.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::attributes::{self, AttributeId, AttributeSet, Interner};
use super::best_path::SourceKind;
use super::net::Net;
use super::table::{Best, PeerNumber};
use crate::config::{NextHopMode, Role};
use crate::packet::attribute::AttributeValue;
use crate::packet::{MAX_EXTENDED_LEN, MAX_LEN, PeerKind};
use crate::policy::{Applied, Policy, Route, SourceMatch};
use crate::types::{Asn, Family};

/// What the members of a group have in common: everything that their octets depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// What the members are to us.
    pub members: MemberKind,
    /// Our AS, as the members know it.
    pub local_as: Asn,
    /// Our real AS, when the members are to see it behind that one (RFC 7705).
    pub real_as: Option<Asn>,
    /// Our role towards them, if they are external (RFC 9234).
    pub role: Option<Role>,
    /// They know long-lived stale routes (RFC 9494).
    pub long_lived: bool,
    /// They take messages of 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// Our cluster id.
    pub cluster_id: std::net::Ipv4Addr,
    /// Four-octet AS numbers.
    pub as4: bool,
    /// How next hops are set.
    pub next_hop: NextHopMode,
    /// We, as next hop of this family. Without one, routes that need it are not sent.
    pub our_address: Option<IpAddr>,
    /// Next hops of the other family are understood (RFC 8950).
    pub extended_next_hop: bool,
    /// The export policy.
    pub policy: Policy,
}

/// What the members of a group are to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberKind {
    /// External peers.
    External,
    /// Internal peers.
    Internal,
    /// Internal peers that we reflect for.
    Client,
}

impl GroupKey {
    /// The longest message that the members take.
    pub(crate) fn max_len(&self) -> usize {
        if self.extended_message { MAX_EXTENDED_LEN } else { MAX_LEN }
    }
}

impl MemberKind {
    /// Whether they are in our AS.
    pub fn peer_kind(self) -> PeerKind {
        match self {
            Self::External => PeerKind::External,
            Self::Internal | Self::Client => PeerKind::Internal,
        }
    }
}

/// What the exports of one round have in common: the same attributes are changed only once. Owns a use of every set
/// that it hands out, until [`Exporter::finish`].
#[derive(Debug, Default)]
pub(crate) struct Exporter {
    done: BTreeMap<(AttributeId, PeerNumber, Applied), Option<AttributeId>>,
}

impl Exporter {
    /// The attributes with which a best route goes to a group; `None` when it does not go there.
    pub(crate) fn export<N: Net>(
        &mut self,
        prefix: N,
        best: &Best,
        group: &GroupKey,
        interner: &mut Interner,
    ) -> Option<AttributeId> {
        let applied = admits(prefix, best, group, interner)?;
        let key = (best.attributes, best.peer, applied);
        if let Some(done) = self.done.get(&key) {
            return *done;
        }
        let set = transform(N::FAMILY, best, interner.get(best.attributes), group, &key.2);
        let id = set.map(|set| interner.intern(set));
        self.done.insert(key, id);
        id
    }

    /// Gives back the uses.
    pub(crate) fn finish(self, interner: &mut Interner) {
        self.done.into_values().flatten().for_each(|id| interner.release(id));
    }
}

/// Whether a route may go to a group at all, and with which changes of its policy.
fn admits<N: Net>(prefix: N, best: &Best, group: &GroupKey, interner: &Interner) -> Option<Applied> {
    let reflected = best.kind == SourceKind::Client || group.members == MemberKind::Client;
    // RFC 4271, section 9.2: what comes from inside does not go inside, except by reflection (RFC 4456, section 6).
    if best.kind.is_internal() && group.members != MemberKind::External && !reflected {
        return None;
    }
    let set = interner.get(best.attributes);
    if set.no_advertise || set.no_export && group.members == MemberKind::External {
        return None;
    }
    // RFC 9494, section 4.3.
    if set.long_lived_stale && !group.long_lived {
        return None;
    }
    // RFC 9234, section 5, egress 2: what may only go to customers does not go up or across.
    if set.otc.is_some() && group.role.is_some_and(Role::looks_up) {
        return None;
    }
    let is_local = best.kind == SourceKind::Local;
    group.policy.evaluate(&Route {
        prefix: prefix.into(),
        source: if is_local { SourceMatch::Local } else { SourceMatch::Learned },
        peer: Some(group.members.peer_kind()),
        next_hop: (!is_local).then_some(set.next_hop),
        interface: None,
        attributes: set,
    })
}

/// The attributes as the group gets them.
fn transform(
    family: Family,
    best: &Best,
    set: &AttributeSet,
    group: &GroupKey,
    applied: &Applied,
) -> Option<AttributeSet> {
    let next_hop = next_hop(family, best, set, group)?;
    let link_local = set.link_local.filter(|_| next_hop == set.next_hop);
    let mut list = set.decode();
    if group.members == MemberKind::External {
        // MED and reflection belong to our AS (RFC 4271, section 5.1.4).
        let from_outside = best.kind != SourceKind::Local;
        list.retain(|attribute| match attribute.value {
            AttributeValue::OriginatorId(_) | AttributeValue::ClusterList(_) | AttributeValue::Aigp(_) => {
                false
            }
            AttributeValue::Med(_) => !from_outside,
            _ => true,
        });
    } else {
        attributes::put(&mut list, AttributeValue::LocalPref(set.local_pref));
    }
    if !applied.is_empty() {
        attributes::change(&mut list, &group.policy.changes(applied));
    }
    match group.members {
        MemberKind::External => {
            // RFC 4271, section 5.1.5.
            list.retain(|attribute| !matches!(attribute.value, AttributeValue::LocalPref(_)));
            group.real_as.into_iter().for_each(|asn| attributes::prepend(&mut list, asn, 1));
            attributes::prepend(&mut list, group.local_as, 1);
            // RFC 9234, section 5, egress 1.
            if set.otc.is_none() && group.role.is_some_and(Role::looks_down) {
                attributes::put(&mut list, AttributeValue::Otc(group.local_as));
            }
        }
        MemberKind::Internal | MemberKind::Client if best.kind.is_internal() => {
            reflect(&mut list, best, group);
        }
        MemberKind::Internal | MemberKind::Client => {}
    }
    Some(AttributeSet::new(list, next_hop, link_local))
}

/// RFC 4456, section 8.
fn reflect(list: &mut Vec<crate::packet::attribute::Attribute>, best: &Best, group: &GroupKey) {
    if !list.iter().any(|attribute| matches!(attribute.value, AttributeValue::OriginatorId(_))) {
        attributes::put(list, AttributeValue::OriginatorId(best.router_id.0));
    }
    let mut clusters = vec![group.cluster_id];
    for attribute in list.iter() {
        if let AttributeValue::ClusterList(old) = &attribute.value {
            clusters.extend_from_slice(old);
        }
    }
    attributes::put(list, AttributeValue::ClusterList(clusters));
}

/// RFC 4271, section 5.1.3.
fn next_hop(family: Family, best: &Best, set: &AttributeSet, group: &GroupKey) -> Option<IpAddr> {
    let ours = match (best.kind, group.next_hop) {
        (SourceKind::Local, _) | (_, NextHopMode::OurSelf) => true,
        (_, NextHopMode::Keep) => false,
        (_, NextHopMode::Auto) => group.members == MemberKind::External,
    };
    let next_hop = if ours { group.our_address? } else { set.next_hop };
    let fits = Family::of_address(next_hop) == family || group.extended_next_hop && next_hop.is_ipv6();
    fits.then_some(next_hop)
}

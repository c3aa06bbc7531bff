//! What a route looks like to a group of peers: Adj-RIB-Out as a function, not as a table.
//!
//! Peers that get the same octets for the same route form an update group. What a group has been told about a prefix
//! is not stored: it follows from the route that was best before, which a change carries along.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::attributes::{self, AttributeSet};
use super::best_path::SourceKind;
use super::interner::{AttributeId, Interner};
use super::net::Net;
use super::pack::Format;
use super::raw::RawAttributes;
use super::selected::{Best, Selected, UNRANKED};
use super::table::PeerNumber;
use crate::config::{NextHopMode, Role, SendPaths, Summaries};
use crate::iana::attribute as code;
use crate::interfaces::Interfaces;
use crate::packet::attribute::AttributeValue;
use crate::packet::{MAX_EXTENDED_LEN, MAX_LEN, PeerKind};
use crate::policy::{Applied, Policy, Route, SourceMatch, Verdict};
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
    pub cluster_id: Ipv4Addr,
    /// Four-octet AS numbers.
    pub as4: bool,
    /// How next hops are set.
    pub next_hop: NextHopMode,
    /// We, as next hop of this family. Without one, routes that need it are not sent.
    pub our_address: Option<IpAddr>,
    /// Several routes for a prefix are sent, with path identifiers (RFC 7911).
    pub paths: SendPaths,
    /// Next hops of the other family are understood (RFC 8950).
    pub extended_next_hop: bool,
    /// The export policy.
    pub policy: Policy,
    /// The interfaces that it can tell apart.
    pub interfaces: Interfaces,
    /// Aggregates that stand for what lies in them, and those that are for others.
    pub summaries: Summaries,
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

impl MemberKind {
    /// Whether they are in our AS.
    pub fn peer_kind(self) -> PeerKind {
        match self {
            Self::External => PeerKind::External,
            Self::Internal | Self::Client => PeerKind::Internal,
        }
    }
}

/// To which members of a group a route goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// All but its source.
    AllBut(PeerNumber),
    /// This one, which is the source of a better one.
    Only(PeerNumber),
}

impl Audience {
    /// Whether a member belongs to it.
    pub(crate) fn includes(self, member: PeerNumber) -> bool {
        match self {
            Self::AllBut(source) => source != member,
            Self::Only(only) => only == member,
        }
    }
}

impl GroupKey {
    /// How the members want their UPDATEs.
    pub(crate) fn format(&self) -> Format {
        let max_len = if self.extended_message { MAX_EXTENDED_LEN } else { MAX_LEN };
        Format { as4: self.as4, add_path: self.paths != SendPaths::None, max_len }
    }

    /// The identifier that a route is announced with; 0 without add-path.
    pub(crate) fn path_id(&self, route: &Best) -> u32 {
        if self.paths == SendPaths::None { 0 } else { route.path_id }
    }

    /// Which of the selected routes for a prefix may go to the group.
    pub(crate) fn routes<'a>(&self, selected: &'a Selected) -> impl Iterator<Item = &'a Best> {
        let wanted = self.paths;
        selected.iter().filter(move |route| match wanted {
            SendPaths::None => route.rank == 1,
            SendPaths::All => route.rank > 0,
            SendPaths::Best(count) => (1..=count.clamp(1, UNRANKED - 1)).contains(&route.rank),
            SendPaths::EachNextHop => route.leads || route.instead_for != PeerNumber::LOCAL,
        })
    }

    /// To which members a route goes that may go to the group: not to the one that it came from.
    pub(crate) fn audience(&self, route: &Best) -> Audience {
        match self.paths {
            SendPaths::EachNextHop if !route.leads => Audience::Only(route.instead_for),
            _ => Audience::AllBut(route.peer),
        }
    }
}

/// What the exports of one round have in common: the same attributes are changed only once.
#[derive(Debug, Default)]
pub(crate) struct Exporter {
    done: BTreeMap<Cause, Option<ExportId>>,
    /// The one that was asked for last: the routes of an UPDATE come one after another.
    last: Option<(Cause, Option<ExportId>)>,
    exports: Vec<Export>,
    octets: Vec<u8>,
}

/// What an export follows from.
type Cause = (AttributeId, PeerNumber, Applied);

/// Equality, quick for routes that no policy changes.
fn is_same_cause(a: &Cause, b: &Cause) -> bool {
    (a.0, a.1) == (b.0, b.1) && (a.2.is_empty() && b.2.is_empty() || a.2 == b.2)
}

/// The number of an export of an [`Exporter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExportId(u32);

impl ExportId {
    /// Its place among [`Exporter::all`].
    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

#[derive(Debug)]
struct Export {
    /// The attributes with codes below that of NEXT_HOP.
    before: Range<usize>,
    /// The others.
    after: Range<usize>,
    next_hop: IpAddr,
    link_local: Option<Ipv6Addr>,
}

/// Attributes as a group gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exported<'a> {
    /// Encoded, those with codes below that of NEXT_HOP; four-octet AS numbers.
    pub(crate) before: &'a [u8],
    /// Encoded, the others.
    pub(crate) after: &'a [u8],
    /// NEXT_HOP.
    pub(crate) next_hop: IpAddr,
    /// The link-local address beside an IPv6 next hop.
    pub(crate) link_local: Option<Ipv6Addr>,
}

impl Exporter {
    /// The attributes with which a route goes to a group; `None` when it does not go there.
    pub(crate) fn export<N: Net>(
        &mut self,
        prefix: N,
        best: &Best,
        group: &GroupKey,
        interner: &Interner,
    ) -> Option<ExportId> {
        let cause = (best.attributes, best.peer, admits(prefix, best, group, interner).ok()?);
        if let Some((_, done)) = self.last.as_ref().filter(|(last, _)| is_same_cause(last, &cause)) {
            return *done;
        }
        let id = match self.done.get(&cause) {
            Some(done) => *done,
            None => {
                let id = self.transform(N::FAMILY, best, interner.get(best.attributes), group, &cause.2);
                self.done.insert(cause.clone(), id);
                id
            }
        };
        self.last = Some((cause, id));
        id
    }

    /// The attributes of an export.
    pub(crate) fn get(&self, id: ExportId) -> Exported<'_> {
        self.show(&self.exports[id.0 as usize])
    }

    /// Those of all exports so far, in the order of their numbers.
    pub(crate) fn all(&self) -> impl Iterator<Item = Exported<'_>> {
        self.exports.iter().map(|export| self.show(export))
    }

    fn show(&self, export: &Export) -> Exported<'_> {
        Exported {
            before: &self.octets[export.before.clone()],
            after: &self.octets[export.after.clone()],
            next_hop: export.next_hop,
            link_local: export.link_local,
        }
    }

    /// Whether a group gets the same for both.
    pub(crate) fn is_same(&self, a: Option<ExportId>, b: Option<ExportId>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => a == b || self.get(a) == self.get(b),
            (a, b) => a.is_none() && b.is_none(),
        }
    }

    /// The attributes as the group gets them.
    fn transform(
        &mut self,
        family: Family,
        best: &Best,
        set: &AttributeSet,
        group: &GroupKey,
        applied: &Applied,
    ) -> Option<ExportId> {
        let next_hop = next_hop(family, best, set, group)?;
        let list = changed(best, set, group, applied);
        let start = self.octets.len();
        list.encode_part(true, &mut self.octets);
        let middle = self.octets.len();
        list.encode_part(false, &mut self.octets);
        self.exports.push(Export {
            before: start..middle,
            after: middle..self.octets.len(),
            next_hop,
            link_local: set.link_local.filter(|_| next_hop == set.next_hop),
        });
        Some(ExportId(u32::try_from(self.exports.len() - 1).expect("fewer exports than routes in a round")))
    }
}

/// Why a route does not go to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// From an internal peer to an internal peer, and neither is our reflection client (RFC 4271, section 9.2).
    Internal,
    /// The community NO_ADVERTISE (RFC 1997).
    NoAdvertise,
    /// The community NO_EXPORT or NO_EXPORT_SUBCONFED, and the peer is external (RFC 1997).
    NoExport,
    /// It is stale for long, and the peer does not do long-lived graceful restart (RFC 9494, section 4.3).
    LongLivedStale,
    /// It may only go to customers (RFC 9234, section 5).
    OnlyToCustomers,
    /// It lies in an aggregate that is told in its place.
    Summarised,
    /// It is an aggregate for external peers, and the peer is internal.
    ForExternalPeers,
    /// The export policy rejects it.
    Policy,
    /// We have no address that could be its next hop, or the peer does not take next hops of the other family.
    NextHop,
}

/// Whether a route goes to a group.
pub(crate) fn goes_to<N: Net>(
    prefix: N,
    best: &Best,
    group: &GroupKey,
    interner: &Interner,
) -> Result<(), Refusal> {
    admits(prefix, best, group, interner)?;
    next_hop(N::FAMILY, best, interner.get(best.attributes), group).map(|_| ()).ok_or(Refusal::NextHop)
}

/// The attributes with which a route goes to a group, worked out for it alone.
pub(crate) fn exported<N: Net>(
    prefix: N,
    best: &Best,
    group: &GroupKey,
    interner: &Interner,
) -> Result<AttributeSet, Refusal> {
    goes_to(prefix, best, group, interner)?;
    let mut exporter = Exporter::default();
    let id = exporter.export(prefix, best, group, interner).ok_or(Refusal::NextHop)?;
    let Exported { before, after, next_hop, link_local } = exporter.get(id);
    let attributes = attributes::decode_octets(&[before, after].concat());
    Ok(AttributeSet::new(attributes, next_hop, link_local))
}

/// Whether a route may go to a group at all, and with which changes of its policy.
fn admits<N: Net>(prefix: N, best: &Best, group: &GroupKey, interner: &Interner) -> Result<Applied, Refusal> {
    let reflected = best.kind == SourceKind::Client || group.members == MemberKind::Client;
    // RFC 4271, section 9.2: what comes from inside does not go inside, except by reflection (RFC 4456, section 6).
    if best.kind.is_internal() && group.members != MemberKind::External && !reflected {
        return Err(Refusal::Internal);
    }
    let set = interner.get(best.attributes);
    if set.no_advertise {
        return Err(Refusal::NoAdvertise);
    }
    if set.no_export && group.members == MemberKind::External {
        return Err(Refusal::NoExport);
    }
    // RFC 9494, section 4.3.
    if set.long_lived_stale && !group.long_lived {
        return Err(Refusal::LongLivedStale);
    }
    // RFC 9234, section 5, egress 2: what may only go to customers does not go up or across.
    if set.otc.is_some() && group.role.is_some_and(Role::looks_up) {
        return Err(Refusal::OnlyToCustomers);
    }
    if group.summaries.cover(prefix.into()) {
        return Err(Refusal::Summarised);
    }
    if best.kind == SourceKind::Local && group.summaries.others.contains(&prefix.into()) && is_aggregate(set)
    {
        return Err(Refusal::ForExternalPeers);
    }
    if group.policy.rules.is_empty() {
        let accepted = group.policy.otherwise == Verdict::Accept;
        return accepted.then(Applied::default).ok_or(Refusal::Policy);
    }
    group.policy.evaluate(&seen_by_policy(prefix, best, group, set)).ok_or(Refusal::Policy)
}

/// Of our own routes only aggregates have an AGGREGATOR.
fn is_aggregate(set: &AttributeSet) -> bool {
    RawAttributes::new(set.octets()).get(code::AGGREGATOR).is_some()
}

/// A route as a group's export policy sees it.
pub(crate) fn seen_by_policy<'a, N: Net>(
    prefix: N,
    best: &Best,
    group: &'a GroupKey,
    set: &'a AttributeSet,
) -> Route<'a> {
    let is_local = best.kind == SourceKind::Local;
    Route {
        prefix: prefix.into(),
        source: if is_local { SourceMatch::Local } else { SourceMatch::Learned },
        peer: Some(group.members.peer_kind()),
        next_hop: (!is_local).then_some(set.next_hop),
        interface: if is_local { set.interface.as_deref() } else { group.interfaces.of(set.next_hop) },
        attributes: set,
    }
}

/// The attributes of a route as the group gets them.
fn changed<'a>(best: &Best, set: &'a AttributeSet, group: &GroupKey, applied: &Applied) -> RawAttributes<'a> {
    let mut list = RawAttributes::new(set.octets());
    if group.members == MemberKind::External {
        // MED and reflection belong to our AS (RFC 4271, section 5.1.4).
        list.remove(&[code::ORIGINATOR_ID, code::CLUSTER_LIST, code::AIGP]);
        if best.kind != SourceKind::Local {
            list.remove(&[code::MULTI_EXIT_DISC]);
        }
    } else if list.get(code::LOCAL_PREF).is_none() {
        list.put(AttributeValue::LocalPref(set.local_pref));
    }
    if !applied.is_empty() {
        list.edit(|list| attributes::change(list, &group.policy.changes(applied)));
    }
    match group.members {
        MemberKind::External => {
            // RFC 4271, section 5.1.5.
            list.remove(&[code::LOCAL_PREF]);
            group.real_as.into_iter().for_each(|asn| list.prepend(asn));
            list.prepend(group.local_as);
            // RFC 9234, section 5, egress 1.
            if set.otc.is_none() && group.role.is_some_and(Role::looks_down) {
                list.put(AttributeValue::Otc(group.local_as));
            }
        }
        MemberKind::Internal | MemberKind::Client if best.kind.is_internal() => {
            reflect(&mut list, best, group);
        }
        MemberKind::Internal | MemberKind::Client => {}
    }
    list
}

/// RFC 4456, section 8.
fn reflect(list: &mut RawAttributes<'_>, best: &Best, group: &GroupKey) {
    if list.get(code::ORIGINATOR_ID).is_none() {
        list.put(AttributeValue::OriginatorId(best.router_id.0));
    }
    let passed = list.get(code::CLUSTER_LIST).unwrap_or_default().as_chunks::<4>().0;
    let clusters = std::iter::once(group.cluster_id).chain(passed.iter().map(|id| Ipv4Addr::from(*id)));
    list.put(AttributeValue::ClusterList(clusters.collect()));
}

/// RFC 4271, section 5.1.3.
fn next_hop(family: Family, best: &Best, set: &AttributeSet, group: &GroupKey) -> Option<IpAddr> {
    let ours = match (best.kind, group.next_hop) {
        (SourceKind::Local, _) | (_, NextHopMode::OurSelf) => true,
        (_, NextHopMode::Keep) => false,
        (SourceKind::Behind, NextHopMode::Auto) => true,
        (_, NextHopMode::Auto) => group.members == MemberKind::External,
    };
    let next_hop = if ours { group.our_address? } else { set.next_hop };
    let fits = Family::of_address(next_hop) == family || group.extended_next_hop && next_hop.is_ipv6();
    fits.then_some(next_hop)
}

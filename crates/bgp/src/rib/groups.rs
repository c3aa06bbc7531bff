//! Update groups of one family: who is told of what, encoded once.
//!
//! A member is *in step* when it knows everything up to the last round; it then shares the group's octets. One that
//! has just come up, wants a refresh, or does not read fast enough, is served by itself: it has a position in the
//! table up to which it knows everything, and a list of changes behind that position that it has not been told of.
//! So a slow peer costs at most one entry per prefix, and never holds up the others.
//!
//! A route does not go back to the peer that it came from. Octets are therefore encoded per (attributes, source), and
//! go to all members but the source; what the source itself has to be told instead is worked out for it alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::attributes::{AttributeId, Interner};
use super::export::{Exporter, GroupKey};
use super::net::Net;
use super::pack::{self, Packed};
use super::table::{Best, PeerNumber, Rib, Sources};
use crate::packet::route_refresh::{RouteRefresh, Subtype};
use crate::packet::update::end_of_rib;

/// How many prefixes are worked on at a time for members that are not in step.
const CHUNK: usize = 8192;

/// Octets for some peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Emit {
    pub(crate) to: Vec<PeerNumber>,
    pub(crate) octets: Arc<[u8]>,
    pub(crate) updates: u64,
}

/// The update groups of a family.
#[derive(Debug)]
pub(crate) struct Groups<N> {
    groups: BTreeMap<GroupKey, BTreeMap<PeerNumber, Member<N>>>,
    of: BTreeMap<PeerNumber, GroupKey>,
}

#[derive(Debug)]
struct Member<N> {
    /// The first transfer of the table: everything up to here has been told. `None`: all of it.
    initial: Option<Option<N>>,
    /// A further transfer, on request.
    refresh: Option<Option<N>>,
    /// The refresh is marked by BoRR and EoRR.
    marked: bool,
    /// Changes that it has not been told of, with what it believes.
    pending: BTreeMap<N, Option<Best>>,
    /// The End-of-RIB marker is still to be sent.
    end_of_rib_due: bool,
}

impl<N: Net> Member<N> {
    fn is_in_step(&self) -> bool {
        self.initial.is_none() && self.refresh.is_none() && self.pending.is_empty()
    }

    /// Whether it has been told anything about a prefix.
    fn knows(&self, prefix: N) -> bool {
        match self.initial {
            None => true,
            Some(position) => position.is_some_and(|position| prefix <= position),
        }
    }
}

/// What some members have to be told, sorted for packing.
struct Buckets<N> {
    announce: BTreeMap<(AttributeId, Option<PeerNumber>), Vec<N>>,
    withdraw: BTreeMap<Option<PeerNumber>, Vec<N>>,
    /// For one member only.
    own: BTreeMap<PeerNumber, Own<N>>,
}

struct Own<N> {
    announce: BTreeMap<AttributeId, Vec<N>>,
    withdraw: Vec<N>,
}

impl<N: Net> Default for Groups<N> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), of: BTreeMap::new() }
    }
}

impl<N: Net> Groups<N> {
    /// A peer comes up: it gets the whole table.
    pub(crate) fn join(&mut self, peer: PeerNumber, key: GroupKey) {
        let member = Member {
            initial: Some(None),
            refresh: None,
            marked: false,
            pending: BTreeMap::new(),
            end_of_rib_due: true,
        };
        self.groups.entry(key.clone()).or_default().insert(peer, member);
        self.of.insert(peer, key);
    }

    /// A peer goes.
    pub(crate) fn leave(&mut self, peer: PeerNumber, interner: &mut Interner) {
        if let Some((_, member)) = self.take(peer) {
            release_all(member.pending, interner);
        }
    }

    fn take(&mut self, peer: PeerNumber) -> Option<(GroupKey, Member<N>)> {
        let key = self.of.remove(&peer)?;
        let members = self.groups.get_mut(&key).expect("a member's group exists");
        let member = members.remove(&peer).expect("it is in its group");
        if members.is_empty() {
            self.groups.remove(&key);
        }
        Some((key, member))
    }

    /// A peer wants all routes again; `marked`: between BoRR and EoRR (RFC 7313).
    pub(crate) fn refresh(&mut self, peer: PeerNumber, marked: bool) -> Option<Emit> {
        let key = self.of.get(&peer)?;
        let member = self.groups.get_mut(key)?.get_mut(&peer)?;
        member.refresh = Some(None);
        member.marked = marked;
        marked.then(|| mark(peer, N::FAMILY, Subtype::Beginning))
    }

    /// A peer's export changes: it is told what it must no longer have, then gets all routes again. Changes of the
    /// current round must have been dealt with before.
    pub(crate) fn regroup(
        &mut self,
        peer: PeerNumber,
        key: GroupKey,
        rib: &Rib<N>,
        sources: &Sources,
        interner: &mut Interner,
    ) -> Vec<Emit> {
        if self.of.get(&peer).is_none_or(|old| *old == key) {
            return Vec::new();
        }
        let Some((old_key, mut member)) = self.take(peer) else { return Vec::new() };
        let mut gone = Vec::new();
        let (mut before, mut after) = (Exporter::default(), Exporter::default());
        let mut compare = |prefix: N, believed: Option<Best>, now: Option<Best>, interner: &mut Interner| {
            let has = believed.filter(|best| best.peer != peer);
            let gets = now.filter(|best| best.peer != peer);
            let has = has.is_some_and(|best| before.export(prefix, &best, &old_key, interner).is_some());
            let gets = gets.is_some_and(|best| after.export(prefix, &best, &key, interner).is_some());
            if has && !gets {
                gone.push(prefix);
            }
        };
        for (prefix, best) in rib.best_after(None, sources).filter(|(prefix, _)| member.knows(*prefix)) {
            if !member.pending.contains_key(&prefix) {
                compare(prefix, best, best, interner);
            }
        }
        for (prefix, believed) in &member.pending {
            compare(*prefix, *believed, rib.best(*prefix, sources), interner);
        }
        before.finish(interner);
        after.finish(interner);
        release_all(std::mem::take(&mut member.pending), interner);
        member.refresh = Some(None);
        self.groups.entry(key.clone()).or_default().insert(peer, member);
        self.of.insert(peer, key);
        let mut packed = Packed::default();
        pack::withdraw(&gone, &mut packed);
        emit(vec![peer], packed).into_iter().collect()
    }

    /// A round of changes. Members in step that can take octets get them now, the others are served later.
    pub(crate) fn round(
        &mut self,
        changes: &BTreeMap<N, Option<Best>>,
        rib: &Rib<N>,
        sources: &Sources,
        interner: &mut Interner,
        congested: &dyn Fn(PeerNumber) -> bool,
    ) -> Vec<Emit> {
        let mut out = Vec::new();
        for (key, members) in &mut self.groups {
            let mut in_step = Vec::new();
            for (peer, member) in members.iter_mut() {
                if member.is_in_step() && !congested(*peer) {
                    in_step.push(*peer);
                } else {
                    member.postpone(changes, interner);
                }
            }
            if in_step.is_empty() {
                continue;
            }
            let mut exporter = Exporter::default();
            let mut buckets = Buckets::default();
            for (prefix, old) in changes {
                let new = rib.best(*prefix, sources);
                let is_member = |peer: PeerNumber| members.contains_key(&peer);
                buckets.add(*prefix, *old, new, key, &mut exporter, interner, &in_step, &is_member);
            }
            buckets.emit(&in_step, key, interner, &mut out);
            exporter.finish(interner);
        }
        out
    }

    /// A piece of work for members that are not in step; nothing when there is none that can be done now.
    /// `selected`: routes are selected, so a table that has been sent is whole and may be closed by End-of-RIB.
    pub(crate) fn advance(
        &mut self,
        selected: bool,
        rib: &Rib<N>,
        sources: &Sources,
        interner: &mut Interner,
        congested: &dyn Fn(PeerNumber) -> bool,
    ) -> Vec<Emit> {
        let mut out = Vec::new();
        for (key, members) in &mut self.groups {
            catch_up(key, members, rib, sources, interner, congested, &mut out);
            for kind in [Transfer::Initial, Transfer::Refresh] {
                transfer(kind, key, members, rib, sources, interner, congested, &mut out);
            }
            let done =
                members.iter_mut().filter(|(peer, member)| selected && member.ends() && !congested(**peer));
            let to: Vec<PeerNumber> = done
                .map(|(peer, member)| {
                    member.end_of_rib_due = false;
                    *peer
                })
                .collect();
            if !to.is_empty() {
                out.push(Emit { to, octets: end_of_rib(N::FAMILY).into(), updates: 1 });
            }
        }
        out
    }
}

impl<N: Net> Member<N> {
    fn ends(&self) -> bool {
        self.end_of_rib_due && self.initial.is_none() && self.pending.is_empty()
    }

    fn postpone(&mut self, changes: &BTreeMap<N, Option<Best>>, interner: &mut Interner) {
        for (prefix, old) in changes {
            if self.knows(*prefix) && !self.pending.contains_key(prefix) {
                if let Some(best) = old {
                    interner.retain(best.attributes);
                }
                self.pending.insert(*prefix, *old);
            }
        }
    }
}

fn release_all<N>(pending: BTreeMap<N, Option<Best>>, interner: &mut Interner) {
    pending.into_values().flatten().for_each(|best| interner.release(best.attributes));
}

fn mark(peer: PeerNumber, family: crate::types::Family, subtype: Subtype) -> Emit {
    Emit { to: vec![peer], octets: RouteRefresh::new(family, subtype).encode().into(), updates: 0 }
}

fn emit(to: Vec<PeerNumber>, packed: Packed) -> Option<Emit> {
    let wanted = !to.is_empty() && !packed.octets.is_empty();
    wanted.then(|| Emit { to, octets: packed.octets.into(), updates: packed.messages })
}

/// Tells members of the changes that they have missed.
fn catch_up<N: Net>(
    key: &GroupKey,
    members: &mut BTreeMap<PeerNumber, Member<N>>,
    rib: &Rib<N>,
    sources: &Sources,
    interner: &mut Interner,
    congested: &dyn Fn(PeerNumber) -> bool,
    out: &mut Vec<Emit>,
) {
    for (peer, member) in members.iter_mut() {
        if member.pending.is_empty() || congested(*peer) {
            continue;
        }
        let mut exporter = Exporter::default();
        let mut buckets = Buckets::default();
        for _ in 0..CHUNK {
            let Some((prefix, old)) = member.pending.pop_first() else { break };
            let new = rib.best(prefix, sources);
            buckets.add(prefix, old, new, key, &mut exporter, interner, &[*peer], &|other| other == *peer);
            if let Some(best) = old {
                interner.release(best.attributes);
            }
        }
        buckets.emit(&[*peer], key, interner, out);
        exporter.finish(interner);
    }
}

#[derive(Clone, Copy)]
enum Transfer {
    Initial,
    Refresh,
}

impl<N: Net> Member<N> {
    fn position(&mut self, kind: Transfer) -> &mut Option<Option<N>> {
        match kind {
            Transfer::Initial => &mut self.initial,
            Transfer::Refresh => &mut self.refresh,
        }
    }
}

/// The next piece of the table for members that are being given it; members at the same place get the same octets.
#[expect(clippy::too_many_arguments, reason = "the parts of a RIB, borrowed separately")]
fn transfer<N: Net>(
    kind: Transfer,
    key: &GroupKey,
    members: &mut BTreeMap<PeerNumber, Member<N>>,
    rib: &Rib<N>,
    sources: &Sources,
    interner: &mut Interner,
    congested: &dyn Fn(PeerNumber) -> bool,
    out: &mut Vec<Emit>,
) {
    let mut places: BTreeMap<Option<N>, Vec<PeerNumber>> = BTreeMap::new();
    for (peer, member) in members.iter_mut().filter(|(_, member)| member.pending.is_empty()) {
        let first = matches!(kind, Transfer::Initial) || member.initial.is_none();
        if let Some(place) = member.position(kind).filter(|_| first && !congested(*peer)) {
            places.entry(place).or_default().push(*peer);
        }
    }
    for (place, to) in places {
        let mut exporter = Exporter::default();
        let mut buckets = Buckets::default();
        let mut last = None;
        for (prefix, best) in rib.best_after(place, sources).take(CHUNK) {
            let is_member = |peer: PeerNumber| members.contains_key(&peer);
            buckets.add(prefix, None, best, key, &mut exporter, interner, &to, &is_member);
            last = Some(prefix);
        }
        let more = last.is_some_and(|last| rib.best_after(Some(last), sources).next().is_some());
        buckets.emit(&to, key, interner, out);
        exporter.finish(interner);
        for peer in to {
            let member = members.get_mut(&peer).expect("just seen");
            *member.position(kind) = more.then_some(last);
            if !more && matches!(kind, Transfer::Refresh) && std::mem::take(&mut member.marked) {
                out.push(mark(peer, N::FAMILY, Subtype::End));
            }
        }
    }
}

impl<N: Net> Default for Buckets<N> {
    fn default() -> Self {
        Self { announce: BTreeMap::new(), withdraw: BTreeMap::new(), own: BTreeMap::new() }
    }
}

impl<N: Net> Buckets<N> {
    /// What a change of a prefix means for the group: for all but the old or new source the same, for those two
    /// what follows from a route never going back to its source.
    #[expect(clippy::too_many_arguments, reason = "the parts of a RIB, borrowed separately")]
    fn add(
        &mut self,
        prefix: N,
        old: Option<Best>,
        new: Option<Best>,
        key: &GroupKey,
        exporter: &mut Exporter,
        interner: &mut Interner,
        members: &[PeerNumber],
        is_member: &dyn Fn(PeerNumber) -> bool,
    ) {
        // What comes from the only one that is to be told needs no work.
        let concerns = |best: &Best| *members != [best.peer];
        let mut export = |best: Option<Best>| {
            best.filter(concerns).and_then(|best| exporter.export(prefix, &best, key, interner))
        };
        let (before, after) = (export(old), export(new));
        let source =
            |best: Option<Best>| best.filter(concerns).map(|best| best.peer).filter(|peer| is_member(*peer));
        let (old_source, new_source) = (source(old), source(new));
        let told_apart = old_source != new_source;
        match after {
            Some(attributes) if before != after => {
                self.announce.entry((attributes, new_source)).or_default().push(prefix);
                if let Some(peer) = new_source.filter(|_| told_apart && before.is_some()) {
                    self.own(peer).withdraw.push(prefix);
                }
            }
            Some(attributes) if told_apart => {
                if let Some(peer) = old_source {
                    self.own(peer).announce.entry(attributes).or_default().push(prefix);
                }
                if let Some(peer) = new_source {
                    self.own(peer).withdraw.push(prefix);
                }
            }
            None if before.is_some() => self.withdraw.entry(old_source).or_default().push(prefix),
            _ => {}
        }
    }

    fn own(&mut self, peer: PeerNumber) -> &mut Own<N> {
        self.own.entry(peer).or_insert_with(|| Own { announce: BTreeMap::new(), withdraw: Vec::new() })
    }

    /// Packs and hands out, withdrawals first.
    fn emit(self, members: &[PeerNumber], key: &GroupKey, interner: &Interner, out: &mut Vec<Emit>) {
        let all_but = |source: Option<PeerNumber>| -> Vec<PeerNumber> {
            members.iter().copied().filter(|peer| Some(*peer) != source).collect()
        };
        for (source, prefixes) in self.withdraw {
            let to = all_but(source);
            if !to.is_empty() {
                let mut packed = Packed::default();
                pack::withdraw(&prefixes, &mut packed);
                out.extend(emit(to, packed));
            }
        }
        for (peer, own) in self.own.into_iter().filter(|(peer, _)| members.contains(peer)) {
            let mut packed = Packed::default();
            pack::withdraw(&own.withdraw, &mut packed);
            for (attributes, prefixes) in own.announce {
                announce(&prefixes, attributes, key, interner, &mut packed);
            }
            out.extend(emit(vec![peer], packed));
        }
        for ((attributes, source), prefixes) in self.announce {
            let to = all_but(source);
            if !to.is_empty() {
                let mut packed = Packed::default();
                announce(&prefixes, attributes, key, interner, &mut packed);
                out.extend(emit(to, packed));
            }
        }
    }
}

/// Announces; routes whose attributes are too long for a message are withdrawn instead, so that no old one stays.
fn announce<N: Net>(
    prefixes: &[N],
    attributes: AttributeId,
    key: &GroupKey,
    interner: &Interner,
    packed: &mut Packed,
) {
    if !pack::announce(prefixes, interner.get(attributes), key.as4, key.max_len(), packed) {
        pack::withdraw(prefixes, packed);
    }
}

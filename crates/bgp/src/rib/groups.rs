//! Update groups of one family: who is told of what, encoded once.
//!
//! A member is *in step* when it knows everything up to the last round; it then shares the group's octets. One that
//! has just come up, wants a refresh, or does not read fast enough, is served by itself: it has a position in the
//! table up to which it knows everything, and a list of changes behind that position that it has not been told of.
//! So a slow peer costs at most one entry per prefix, and never holds up the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::export::{Exporter, GroupKey};
use super::interner::Interner;
use super::net::Net;
use super::pack::{self, Item, Packed};
use super::selected::Selected;
use super::table::{Change, PeerNumber, Rib, Slot, Sources};
use super::tell::{Telling, emit};
use crate::packet::route_refresh::{RouteRefresh, Subtype};
use crate::packet::update::end_of_rib;

/// How many prefixes are worked on at a time for members that are not in step.
pub(super) const CHUNK: usize = 8192;

/// Octets for some peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Emit {
    pub(crate) to: Vec<PeerNumber>,
    pub(crate) octets: Arc<[u8]>,
    pub(crate) updates: u64,
}

/// What a peer has been told about a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Belief<'a> {
    /// It has not come up, or the first transfer of the table has not got there.
    NotYet,
    /// What follows from what was selected once; that it is no longer so is still to be told.
    Outdated(&'a Selected),
    /// What follows from what is selected.
    UpToDate,
}

/// The update groups of a family.
#[derive(Debug)]
pub(crate) struct Groups<N> {
    pub(super) groups: BTreeMap<GroupKey, BTreeMap<PeerNumber, Member<N>>>,
    pub(super) of: BTreeMap<PeerNumber, GroupKey>,
}

/// How far a peer has been told.
#[derive(Debug)]
pub(super) struct Member<N> {
    /// The first transfer of the table: everything before this place has been told. `None`: all of it.
    pub(super) initial: Option<Slot>,
    /// A further transfer, on request.
    pub(super) refresh: Option<Slot>,
    /// The refresh is marked by BoRR and EoRR.
    pub(super) marked: bool,
    /// Changes that it has not been told of, with what it believes.
    pub(super) pending: BTreeMap<N, Selected>,
    /// The End-of-RIB marker is still to be sent.
    pub(super) end_of_rib_due: bool,
}

impl<N: Net> Member<N> {
    fn is_in_step(&self) -> bool {
        self.initial.is_none() && self.refresh.is_none() && self.pending.is_empty()
    }

    /// Whether it has been told what its group has been told.
    pub(super) fn has_whole_list(&self) -> bool {
        self.initial.is_none() && self.pending.is_empty()
    }

    /// Whether it has been told what is at a place.
    pub(super) fn knows(&self, slot: Slot) -> bool {
        self.initial.is_none_or(|next| slot < next)
    }
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
            initial: Some(Slot::default()),
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

    /// The group that a peer is in.
    pub(crate) fn key_of(&self, peer: PeerNumber) -> Option<&GroupKey> {
        self.of.get(&peer)
    }

    /// All groups and their members.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&GroupKey, impl Iterator<Item = PeerNumber>)> {
        self.groups.iter().map(|(key, members)| (key, members.keys().copied()))
    }

    /// What a peer knows about a prefix. Changes of a round that is under way are as good as told.
    pub(crate) fn belief(&self, peer: PeerNumber, prefix: N, slot: Slot) -> Belief<'_> {
        let member = self.of.get(&peer).and_then(|key| self.groups.get(key)?.get(&peer));
        match member {
            None => Belief::NotYet,
            Some(member) => match member.pending.get(&prefix) {
                Some(before) => Belief::Outdated(before),
                None if member.knows(slot) => Belief::UpToDate,
                None => Belief::NotYet,
            },
        }
    }

    /// A peer wants all routes again; `marked`: between BoRR and EoRR (RFC 7313).
    pub(crate) fn refresh(&mut self, peer: PeerNumber, marked: bool) -> Option<Emit> {
        let key = self.of.get(&peer)?;
        let member = self.groups.get_mut(key)?.get_mut(&peer)?;
        member.refresh = Some(Slot::default());
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
        let mut compare = |prefix: N, believed: &Selected, now: &Selected| {
            let has = told(prefix, believed, peer, &old_key, &mut before, interner);
            let gets = told(prefix, now, peer, &key, &mut after, interner);
            let lost = has.into_iter().filter(|path_id| !gets.contains(path_id));
            gone.extend(lost.map(|path_id| Item { prefix, path_id }));
        };
        for (slot, prefix, selected) in rib.selected_from(Slot::default(), sources) {
            if member.knows(slot) && !member.pending.contains_key(&prefix) {
                compare(prefix, &selected, &selected);
            }
        }
        for (prefix, believed) in &member.pending {
            compare(*prefix, believed, &rib.selected(*prefix, sources));
        }
        release_all(std::mem::take(&mut member.pending), interner);
        member.refresh = Some(Slot::default());
        self.groups.entry(key.clone()).or_default().insert(peer, member);
        self.of.insert(peer, key);
        let mut packed = Packed::default();
        pack::withdraw(&gone, old_key.format(), &mut packed);
        emit(vec![peer], packed).into_iter().collect()
    }

    /// A round of changes. Members in step that can take octets get them now, the others are served later.
    pub(crate) fn round(
        &mut self,
        changes: &[Change<N>],
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
            let is_member = |peer: PeerNumber| members.contains_key(&peer);
            let mut telling = Telling::new(key, &in_step);
            for Change { slot, prefix, old } in changes {
                telling.change(*prefix, old, &rib.selected_at(*slot, sources), interner, &is_member);
            }
            telling.emit(&mut out);
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

    fn postpone(&mut self, changes: &[Change<N>], interner: &mut Interner) {
        for Change { slot, prefix, old } in changes {
            if self.knows(*slot) && !self.pending.contains_key(prefix) {
                old.retain(interner);
                self.pending.insert(*prefix, old.clone());
            }
        }
    }
}

fn release_all<N>(pending: BTreeMap<N, Selected>, interner: &mut Interner) {
    pending.into_values().for_each(|selected| selected.release(interner));
}

/// The path identifiers under which a peer has been told of a prefix; 0 without add-path.
fn told<N: Net>(
    prefix: N,
    selected: &Selected,
    peer: PeerNumber,
    key: &GroupKey,
    exporter: &mut Exporter,
    interner: &Interner,
) -> Vec<u32> {
    let routes = key.routes(selected).filter(|route| key.audience(route).includes(peer));
    let told = routes.filter(|route| exporter.export(prefix, route, key, interner).is_some());
    told.map(|route| key.path_id(route)).collect()
}

fn mark(peer: PeerNumber, family: crate::types::Family, subtype: Subtype) -> Emit {
    Emit { to: vec![peer], octets: RouteRefresh::new(family, subtype).encode().into(), updates: 0 }
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
        let only = [*peer];
        let mut telling = Telling::new(key, &only);
        let mut missed = Vec::new();
        for _ in 0..CHUNK {
            let Some((prefix, old)) = member.pending.pop_first() else { break };
            let new = rib.selected(prefix, sources);
            telling.change(prefix, &old, &new, interner, &|other| other == *peer);
            missed.push(old);
        }
        telling.emit(out);
        missed.iter().for_each(|old| old.release(interner));
    }
}

#[derive(Clone, Copy)]
enum Transfer {
    Initial,
    Refresh,
}

impl<N: Net> Member<N> {
    fn position(&mut self, kind: Transfer) -> &mut Option<Slot> {
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
    let mut places: BTreeMap<Slot, Vec<PeerNumber>> = BTreeMap::new();
    for (peer, member) in members.iter_mut().filter(|(_, member)| member.pending.is_empty()) {
        let first = matches!(kind, Transfer::Initial) || member.initial.is_none();
        if let Some(place) = member.position(kind).filter(|_| first && !congested(*peer)) {
            places.entry(place).or_default().push(*peer);
        }
    }
    for (place, to) in places {
        let is_member = |peer: PeerNumber| members.contains_key(&peer);
        let mut telling = Telling::new(key, &to);
        let mut table = rib.selected_from(place, sources);
        for (_, prefix, selected) in table.by_ref().take(CHUNK) {
            telling.change(prefix, &Selected::default(), &selected, interner, &is_member);
        }
        let next = table.next().map(|(slot, ..)| slot);
        telling.emit(out);
        for peer in to {
            let member = members.get_mut(&peer).expect("just seen");
            *member.position(kind) = next;
            if next.is_none() && matches!(kind, Transfer::Refresh) && std::mem::take(&mut member.marked) {
                out.push(mark(peer, N::FAMILY, Subtype::End));
            }
        }
    }
}

//! The routes of one family, received, selected and told on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::io::{BestRoute, Output};
use super::original::Originals;
use super::rejected::Rejected;
use crate::config::{Aggregate, Origination};
use crate::packet::PeerKind;
use crate::packet::attribute::Aggregator;
use crate::packet::nlri::Nlri;
use crate::policy::{Actions, Applied, Policy, Route, SourceMatch, Verdict};
use crate::rib::{
    Aggregates, AttributeId, AttributeSet, Best, Change, Emit, GroupKey, Groups, Interner, Net, NextHopId,
    Path, PeerNumber, Rib, Selected, Sources, key,
};
use crate::types::{Asn, PeerId};

/// Changes that are told at a time: others are not kept waiting for the rest, and outputs stay few.
const PIECE_CHANGES: usize = 8192;
/// Places that are looked at at a time for routes that are on their way out.
const PIECE_PLACES: u32 = 8192;

/// One family's RIB and update groups.
#[derive(Debug)]
pub(super) struct FamilyRib<N> {
    pub(super) rib: Rib<N>,
    pub(super) groups: Groups<N>,
    /// What import policies turned away, for whoever asks why.
    pub(super) rejected: Rejected<N>,
    /// Routes as they came, where they were changed or turned away; only while a station asks for them.
    pub(super) originals: Option<Originals<N>>,
    pub(super) aggregates: Aggregates<N>,
    /// Which learned routes go into the kernel.
    kernel: Policy,
    /// What was so before, and for how many of the changes, from the first, that counts as what the kernel has.
    kernel_before: (Policy, usize),
    /// Next hops that are reached another way since the last round: the kernel gets their routes again.
    rerouted: BTreeSet<NextHopId>,
    /// All routes that can be waited for are there.
    pub(super) complete: bool,
    /// The shell has not been told so yet.
    pub(super) complete_due: bool,
}

/// How routes of a peer are taken.
#[derive(Clone, Copy)]
pub(super) struct Import<'a> {
    pub(super) policy: &'a Policy,
    /// What the peer is to us.
    pub(super) peer: PeerKind,
    /// The interface that the next hop is reached by, if the policy asks for it.
    pub(super) interface: Option<&'a str>,
}

/// What all families share.
pub(super) struct Shared<'a> {
    pub(super) sources: &'a Sources,
    pub(super) interner: &'a mut Interner,
}

impl<N: Net> FamilyRib<N> {
    pub(super) fn new(deferred: bool, key: u64, ourselves: Aggregator) -> Self {
        Self {
            rib: Rib::new(deferred, key),
            groups: Groups::default(),
            rejected: Rejected::default(),
            originals: None,
            aggregates: Aggregates::new(ourselves),
            kernel: Policy::accept_all(),
            kernel_before: (Policy::accept_all(), 0),
            rerouted: BTreeSet::new(),
            complete: false,
            complete_due: false,
        }
    }

    /// A route of our own comes, changes, or goes.
    pub(super) fn originate(&mut self, prefix: IpNet, route: Option<&Origination>, shared: &mut Shared<'_>) {
        let Some(prefix) = key::<N>(prefix) else { return };
        match route {
            Some(route) => {
                let attributes = shared.interner.intern(AttributeSet::originated(route));
                let peer = PeerNumber::LOCAL;
                let path = Path { peer, path_id: 0, attributes, ineligible: false, stale: false };
                self.rib.insert(prefix, path, shared.sources, shared.interner);
            }
            None => self.rib.remove(prefix, (PeerNumber::LOCAL, 0), shared.sources, shared.interner),
        }
    }

    /// A peer announces prefixes with the same attributes. How many of them the import policy turns away.
    pub(super) fn learn(
        &mut self,
        peer: PeerNumber,
        prefixes: &[Nlri],
        set: AttributeSet,
        ineligible: bool,
        import: Import<'_>,
        shared: &mut Shared<'_>,
    ) -> usize {
        if import.policy.rules.is_empty() && import.policy.otherwise == Verdict::Accept {
            let attributes = shared.interner.intern(set);
            prefixes.iter().for_each(|nlri| self.put(peer, nlri, attributes, ineligible, shared));
            shared.interner.release(attributes);
            return 0;
        }
        let mut rejected = 0;
        let mut interned: Vec<(Applied, AttributeId)> = Vec::new();
        for nlri in prefixes {
            let decision = import.policy.evaluate(&Route {
                prefix: nlri.prefix,
                source: SourceMatch::Learned,
                peer: Some(import.peer),
                next_hop: Some(set.next_hop),
                interface: import.interface,
                attributes: &set,
            });
            let Some(applied) = decision else {
                self.withdrawn(peer, nlri, shared);
                self.rejected.note(key(nlri.prefix), peer, &set);
                rejected += 1;
                continue;
            };
            let known = interned.iter().find(|(other, _)| *other == applied).map(|(_, id)| *id);
            let attributes = known.unwrap_or_else(|| {
                let set = match applied.is_empty() {
                    true => set.clone(),
                    false => set.changed(&import.policy.changes(&applied)),
                };
                let attributes = shared.interner.intern(set);
                interned.push((applied, attributes));
                attributes
            });
            self.put(peer, nlri, attributes, ineligible, shared);
        }
        interned.into_iter().for_each(|(_, id)| shared.interner.release(id));
        rejected
    }

    /// Notes how routes came that have just been taken or turned away.
    pub(super) fn note_originals(
        &mut self,
        peer: PeerNumber,
        prefixes: &[Nlri],
        set: AttributeSet,
        shared: &mut Shared<'_>,
    ) {
        let Some(originals) = &mut self.originals else { return };
        let came = shared.interner.intern(set);
        for nlri in prefixes {
            let Some(prefix) = key::<N>(nlri.prefix) else { continue };
            let path_id = nlri.path_id.unwrap_or(0);
            let kept = self.rib.path(prefix, peer, path_id).map(|(_, path)| path.attributes);
            let changed = match kept == Some(came) {
                true => originals.remove(peer, (prefix, path_id), shared.interner),
                false => {
                    originals.put(peer, (prefix, path_id), came, kept.is_none(), shared.interner);
                    true
                }
            };
            if changed {
                self.rib.touch(prefix, peer, path_id);
            }
        }
        shared.interner.release(came);
    }

    /// Whether routes are kept as they came from now on.
    pub(super) fn keep_originals(&mut self, keep: bool, shared: &mut Shared<'_>) {
        match keep {
            true => drop(self.originals.get_or_insert_default()),
            false => self.originals.take().into_iter().for_each(|mut all| all.clear(shared.interner)),
        }
    }

    fn put(
        &mut self,
        peer: PeerNumber,
        nlri: &Nlri,
        attributes: AttributeId,
        ineligible: bool,
        shared: &mut Shared<'_>,
    ) {
        let Some(prefix) = key::<N>(nlri.prefix) else { return };
        self.rejected.forget(prefix, peer);
        shared.interner.retain(attributes);
        let path_id = nlri.path_id.unwrap_or(0);
        let path = Path { peer, path_id, attributes, ineligible, stale: false };
        self.rib.insert(prefix, path, shared.sources, shared.interner);
    }

    fn withdrawn(&mut self, peer: PeerNumber, nlri: &Nlri, shared: &mut Shared<'_>) {
        let Some(prefix) = key::<N>(nlri.prefix) else { return };
        let name = (peer, nlri.path_id.unwrap_or(0));
        self.rib.remove(prefix, name, shared.sources, shared.interner);
        self.rejected.forget(prefix, peer);
        if let Some(originals) = &mut self.originals
            && originals.remove(peer, (prefix, name.1), shared.interner)
        {
            self.rib.touch(prefix, peer, name.1);
        }
    }

    /// A peer withdraws prefixes.
    pub(super) fn unlearn(&mut self, peer: PeerNumber, prefixes: &[Nlri], shared: &mut Shared<'_>) {
        prefixes.iter().for_each(|nlri| self.withdrawn(peer, nlri, shared));
    }

    pub(super) fn regroup(&mut self, peer: PeerNumber, key: GroupKey, shared: &mut Shared<'_>) -> Vec<Emit> {
        self.groups.regroup(peer, key, &self.rib, shared.sources, shared.interner)
    }

    /// Routes are selected as soon as nothing keeps them from it, and complete once nothing more is to come.
    pub(super) fn advance_start(&mut self, settled: bool, told: bool, shared: &mut Shared<'_>) {
        if (settled || told) && self.rib.is_deferred() {
            self.rib.end_deferral(shared.sources, shared.interner);
        }
        if told && !self.complete {
            self.complete = true;
            self.complete_due = true;
        }
    }

    /// Something else is known about these next hops.
    pub(super) fn next_hops_changed(&mut self, changed: &BTreeSet<NextHopId>, shared: &mut Shared<'_>) {
        let concerns = |id: AttributeId, interner: &Interner| changed.contains(&interner.next_hop(id));
        self.rib.reselect(concerns, shared.sources, shared.interner);
        self.rerouted.extend(changed);
    }

    /// Whether there is something to tell, or to remove.
    pub(super) fn has_news(&self) -> bool {
        self.rib.has_changes() || self.rib.has_removals()
    }

    /// A piece of the changes of a round: what the kernel and the peers have to be told.
    pub(super) fn round(
        &mut self,
        shared: &mut Shared<'_>,
        name: &dyn Fn(PeerNumber) -> Teller,
        congested: &dyn Fn(PeerNumber) -> bool,
        outputs: &mut VecDeque<Output>,
    ) -> Vec<Emit> {
        if !self.rib.has_changes() {
            self.rib.advance_removals(PIECE_PLACES, shared.sources, shared.interner);
        }
        let changes = self.rib.take_changes(PIECE_CHANGES);
        let mut last = None;
        for (index, Change { slot, prefix, old }) in changes.iter().enumerate() {
            let new = self.rib.selected_at(*slot, shared.sources);
            if !self.aggregates.is_empty() {
                self.aggregates.note(*prefix, new.best(), shared.interner);
            }
            let policy = if index < self.kernel_before.1 { &self.kernel_before.0 } else { &self.kernel };
            let before = into_kernel(policy, *prefix, old, shared.interner);
            let now = into_kernel(&self.kernel, *prefix, &new, shared.interner);
            if self.is_same_for_kernel((old, &before), (&new, &now), shared.interner) {
                continue;
            }
            let route = now.and_then(|changes| best_route(&new, changes, &mut last, shared.interner, name));
            outputs.push_back(Output::BestRoute { prefix: (*prefix).into(), route });
        }
        self.kernel_before.1 = self.kernel_before.1.saturating_sub(changes.len());
        let emits = self.groups.round(&changes, &self.rib, shared.sources, shared.interner, congested);
        changes.iter().for_each(|change| change.old.release(shared.interner));
        if !self.rib.has_changes() {
            self.rerouted.clear();
            self.aggregates.settle(&mut self.rib, shared.sources, shared.interner);
        }
        emits
    }

    /// Other aggregates are wanted.
    pub(super) fn set_aggregates(
        &mut self,
        wanted: &BTreeMap<IpNet, Aggregate>,
        ourselves: Aggregator,
        shared: &mut Shared<'_>,
    ) {
        self.aggregates.configure(wanted, ourselves, &mut self.rib, shared.sources, shared.interner);
    }

    /// Another policy for the kernel: every route is looked at again. Changes that wait to be told are older than it.
    pub(super) fn set_kernel(&mut self, policy: &Policy, shared: &mut Shared<'_>) {
        if self.kernel == *policy {
            return;
        }
        let before = std::mem::replace(&mut self.kernel, policy.clone());
        self.rib.reselect(|_, _| true, shared.sources, shared.interner);
        self.kernel_before = (before, self.rib.change_count());
    }

    /// Whether the kernel's route stays the same.
    fn is_same_for_kernel(
        &self,
        (old, before): (&Selected, &Option<Actions>),
        (new, now): (&Selected, &Option<Actions>),
        interner: &Interner,
    ) -> bool {
        if before != now || now.is_none() {
            return before == now;
        }
        let (Some(before), Some(after)) = (learned(old), learned(new)) else { return false };
        let rerouted = |route: &Best| self.rerouted.contains(&interner.next_hop(route.attributes));
        if !self.rerouted.is_empty() && new.used().any(rerouted) {
            return false;
        }
        if (before.peer, before.attributes) == (after.peer, after.attributes)
            && old.used().map(|route| route.attributes).eq(new.used().map(|route| route.attributes))
        {
            return true;
        }
        let preference = |best: &Best| interner.get(best.attributes).local_pref;
        (before.peer, preference(before)) == (after.peer, preference(after))
            && next_hops(old, interner) == next_hops(new, interner)
    }

    pub(super) fn advance(
        &mut self,
        shared: &mut Shared<'_>,
        congested: &dyn Fn(PeerNumber) -> bool,
    ) -> Vec<Emit> {
        self.groups.advance(!self.rib.is_deferred(), &self.rib, shared.sources, shared.interner, congested)
    }
}

/// The best route, unless it is our own: the kernel has its own idea of those.
fn learned(selected: &Selected) -> Option<&Best> {
    selected.best().filter(|best| best.peer != PeerNumber::LOCAL)
}

/// Sorted, without duplicates.
fn each_once(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn next_hops(selected: &Selected, interner: &Interner) -> Vec<IpAddr> {
    each_once(selected.used().map(|route| interner.get(route.attributes).next_hop))
}

/// Whether the best route goes into the kernel, and with which changes. (A policy without rules, as most speakers that are
/// no node have it, is not worth a look at the attributes.)
fn into_kernel<N: Net>(
    policy: &Policy,
    prefix: N,
    selected: &Selected,
    interner: &Interner,
) -> Option<Actions> {
    let best = learned(selected)?;
    if policy.rules.is_empty() {
        return (policy.otherwise == Verdict::Accept).then(Actions::default);
    }
    let set = interner.get(best.attributes);
    let applied = policy.evaluate(&Route {
        prefix: prefix.into(),
        source: SourceMatch::Learned,
        peer: None,
        next_hop: Some(set.next_hop),
        interface: None,
        attributes: set,
    })?;
    Some(policy.changes(&applied))
}

/// The peer that a route comes from, as the kernel's route needs it.
pub(super) struct Teller {
    pub(super) id: PeerId,
    pub(super) asn: Asn,
    /// The interface that it is known by.
    pub(super) interface: Option<Arc<str>>,
}

/// The best route for the kernel. `last`: the one before; the routes of an UPDATE have it in common.
fn best_route(
    selected: &Selected,
    changes: Actions,
    last: &mut Option<(Selected, Actions, Arc<BestRoute>)>,
    interner: &Interner,
    name: &dyn Fn(PeerNumber) -> Teller,
) -> Option<Arc<BestRoute>> {
    let best = learned(selected)?;
    if let Some((.., route)) =
        last.as_ref().filter(|(before, with, _)| before == selected && *with == changes)
    {
        return Some(route.clone());
    }
    let Teller { id: peer, asn: peer_as, .. } = name(best.peer);
    let link = |route: &Best| {
        let next_hop = interner.get(route.attributes).next_hop;
        let is_link_local = matches!(next_hop, IpAddr::V6(address) if address.is_unicast_link_local());
        Some((next_hop, name(route.peer).interface.filter(|_| is_link_local)?))
    };
    let links = selected.used().filter_map(link).collect();
    let gateways = selected.used().flat_map(|route| interner.gateways(route.attributes));
    let route = Arc::new(BestRoute {
        next_hops: next_hops(selected, interner),
        gateways: each_once(gateways.copied()),
        links,
        tunnel: changes.tunnel.clone().map(|device| device.0),
        peer,
        peer_as,
        local_pref: changes.local_pref.unwrap_or(interner.get(best.attributes).local_pref),
    });
    *last = Some((selected.clone(), changes, route.clone()));
    Some(route)
}

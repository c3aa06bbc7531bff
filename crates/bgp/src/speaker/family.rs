//! The routes of one family, received, selected and told on.

use std::net::IpAddr;

use ipnet::IpNet;

use super::io::{BestRoute, Output};
use crate::config::Origination;
use crate::packet::PeerKind;
use crate::packet::nlri::Nlri;
use crate::policy::{Policy, Route, SourceMatch};
use crate::rib::{
    AttributeSet, Best, Emit, GroupKey, Groups, Interner, Net, Path, PeerNumber, Rib, Sources, key,
};
use crate::types::{Asn, PeerId};

/// One family's RIB and update groups.
#[derive(Debug)]
pub(super) struct FamilyRib<N> {
    pub(super) rib: Rib<N>,
    pub(super) groups: Groups<N>,
    /// All routes that can be waited for are there.
    pub(super) complete: bool,
    /// The shell has not been told so yet.
    pub(super) complete_due: bool,
}

/// What all families share.
pub(super) struct Shared<'a> {
    pub(super) sources: &'a Sources,
    pub(super) interner: &'a mut Interner,
}

impl<N: Net> FamilyRib<N> {
    pub(super) fn new(deferred: bool) -> Self {
        Self { rib: Rib::new(deferred), groups: Groups::default(), complete: false, complete_due: false }
    }

    /// A route of our own comes, changes, or goes.
    pub(super) fn originate(&mut self, prefix: IpNet, route: Option<&Origination>, shared: &mut Shared<'_>) {
        let Some(prefix) = key::<N>(prefix) else { return };
        match route {
            Some(route) => {
                let attributes = shared.interner.intern(AttributeSet::originated(route));
                let path = Path { peer: PeerNumber::LOCAL, attributes, ineligible: false, stale: false };
                self.rib.insert(prefix, path, shared.sources, shared.interner);
            }
            None => self.rib.remove(prefix, PeerNumber::LOCAL, shared.sources, shared.interner),
        }
    }

    /// A peer announces prefixes with the same attributes.
    pub(super) fn learn(
        &mut self,
        peer: PeerNumber,
        prefixes: &[Nlri],
        set: AttributeSet,
        ineligible: bool,
        import: (&Policy, PeerKind),
        shared: &mut Shared<'_>,
    ) {
        let mut interned = std::collections::BTreeMap::new();
        for prefix in prefixes.iter().filter_map(|nlri| key::<N>(nlri.prefix)) {
            let decision = import.0.evaluate(&Route {
                prefix: prefix.into(),
                source: SourceMatch::Learned,
                peer: Some(import.1),
                next_hop: Some(set.next_hop),
                interface: None,
                attributes: &set,
            });
            let Some(applied) = decision else {
                self.rib.remove(prefix, peer, shared.sources, shared.interner);
                continue;
            };
            let attributes = *interned.entry(applied).or_insert_with_key(|applied| {
                let set = match applied.is_empty() {
                    true => set.clone(),
                    false => set.changed(&import.0.changes(applied)),
                };
                shared.interner.intern(set)
            });
            shared.interner.retain(attributes);
            let path = Path { peer, attributes, ineligible, stale: false };
            self.rib.insert(prefix, path, shared.sources, shared.interner);
        }
        interned.into_values().for_each(|id| shared.interner.release(id));
    }

    /// A peer withdraws prefixes.
    pub(super) fn unlearn(&mut self, peer: PeerNumber, prefixes: &[Nlri], shared: &mut Shared<'_>) {
        for prefix in prefixes.iter().filter_map(|nlri| key::<N>(nlri.prefix)) {
            self.rib.remove(prefix, peer, shared.sources, shared.interner);
        }
    }

    pub(super) fn regroup(&mut self, peer: PeerNumber, key: GroupKey, shared: &mut Shared<'_>) -> Vec<Emit> {
        self.groups.regroup(peer, key, &self.rib, shared.sources, shared.interner)
    }

    /// Nothing more is waited for.
    pub(super) fn finish(&mut self, shared: &mut Shared<'_>) {
        if !self.complete {
            self.complete = true;
            self.complete_due = true;
            self.rib.end_deferral(shared.sources, shared.interner);
        }
    }

    /// The changes of a round: what the kernel and the peers have to be told.
    pub(super) fn round(
        &mut self,
        shared: &mut Shared<'_>,
        name: &dyn Fn(PeerNumber) -> (PeerId, Asn),
        congested: &dyn Fn(PeerNumber) -> bool,
        outputs: &mut std::collections::VecDeque<Output>,
    ) -> Vec<Emit> {
        let changes = self.rib.take_changes();
        for (prefix, old) in &changes {
            let new = self.rib.best(*prefix, shared.sources);
            if kernel_view(*old, shared.interner) != kernel_view(new, shared.interner) {
                let route = new.and_then(|best| best_route(&best, shared.interner, name));
                outputs.push_back(Output::BestRoute { prefix: (*prefix).into(), route });
            }
        }
        let emits = self.groups.round(&changes, &self.rib, shared.sources, shared.interner, congested);
        changes.into_values().flatten().for_each(|best| shared.interner.release(best.attributes));
        emits
    }

    pub(super) fn advance(
        &mut self,
        shared: &mut Shared<'_>,
        congested: &dyn Fn(PeerNumber) -> bool,
    ) -> Vec<Emit> {
        self.groups.advance(!self.rib.is_deferred(), &self.rib, shared.sources, shared.interner, congested)
    }
}

/// What of a best route concerns the kernel; `None` also for routes of our own.
fn kernel_view(best: Option<Best>, interner: &Interner) -> Option<(PeerNumber, IpAddr, u32)> {
    let best = best.filter(|best| best.peer != PeerNumber::LOCAL)?;
    let set = interner.get(best.attributes);
    Some((best.peer, set.next_hop, set.local_pref))
}

fn best_route(
    best: &Best,
    interner: &Interner,
    name: &dyn Fn(PeerNumber) -> (PeerId, Asn),
) -> Option<BestRoute> {
    let (_, next_hop, local_pref) = kernel_view(Some(*best), interner)?;
    let (peer, peer_as) = name(best.peer);
    Some(BestRoute { next_hops: vec![next_hop], peer, peer_as, local_pref })
}

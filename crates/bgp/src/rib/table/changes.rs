//! What is selected otherwise than before, and for whoever has to be told of it.

use super::{Path, Paths, Rib, Slot, Sources};
use crate::rib::interner::{AttributeId, Interner};
use crate::rib::net::Net;
use crate::rib::selected::Selected;
use crate::rib::selection::SelectionRules;

/// Changes for which there is always room once there was.
const ROOM: usize = 1 << 16;

/// When one in so many slots becomes free, it is cheaper to go through the index than to look each of them up.
const MANY: usize = 16;

/// A change of a prefix: what was selected before. Owns a use of each of its routes' attributes.
#[derive(Debug)]
pub(crate) struct Change<N> {
    pub(crate) slot: Slot,
    pub(crate) prefix: N,
    pub(crate) old: Selected,
}

impl<N: Net> Rib<N> {
    /// Learned routes take part in selection from now on.
    pub fn end_deferral(&mut self, sources: &Sources, interner: &mut Interner) {
        let before = (self.rules, self.deferred);
        self.deferred = false;
        if before.1 {
            self.reselect(|_, _| true, sources, interner);
        }
    }

    /// Selects by other rules.
    pub fn set_rules(&mut self, rules: SelectionRules, sources: &Sources, interner: &mut Interner) {
        if std::mem::replace(&mut self.rules, rules) != rules {
            self.reselect(|_, _| true, sources, interner);
        }
    }

    /// Selects again where one of the routes is concerned by something.
    pub fn reselect(
        &mut self,
        concerns: impl Fn(AttributeId, &Interner) -> bool,
        sources: &Sources,
        interner: &mut Interner,
    ) {
        for slot in 0..u32::try_from(self.entries.len()).expect("fewer than 2^32 prefixes") {
            match self.entries[slot as usize].paths {
                Paths::None => {}
                Paths::One { attributes, .. } => {
                    if concerns(attributes, interner) {
                        self.note(slot, sources, interner);
                        self.reselect_one(slot, interner);
                    }
                }
                Paths::Many(many) => {
                    let mut attributes = self.many[many as usize].attributes();
                    if attributes.any(|attributes| concerns(attributes, interner)) {
                        drop(attributes);
                        self.note(slot, sources, interner);
                        let selecting = self.selecting(sources, interner);
                        self.many[many as usize].select(&selecting);
                    }
                }
            }
        }
    }

    pub(super) fn reselect_one(&mut self, slot: u32, interner: &Interner) {
        if let Paths::One { peer, attributes, ineligible, stale, .. } = self.entries[slot as usize].paths {
            self.put_one(slot, Path { peer, path_id: 0, attributes, ineligible, stale }, interner);
        }
    }

    /// How many changes wait to be taken.
    pub(crate) fn change_count(&self) -> usize {
        self.changes.len()
    }

    /// What has changed since the last call, at most so much of it, with what was selected before. The uses of attributes
    /// go to the caller.
    pub(crate) fn take_changes(&mut self, limit: usize) -> Vec<Change<N>> {
        // What waits behind it may be a million: it is not to be moved for each piece.
        let changes: Vec<Change<N>> = self.changes.drain(..limit.min(self.changes.len())).collect();
        let room = self.changes.capacity();
        if room > ROOM && self.changes.len() < room / 4 {
            self.changes.shrink_to(room / 2);
        }
        for change in &changes {
            let entry = &mut self.entries[change.slot.0 as usize];
            entry.noted = false;
            if matches!(entry.paths, Paths::None) && !std::mem::replace(&mut entry.emptied, true) {
                self.emptied.push(change.slot.0);
            }
        }
        if let Some(observed) = &mut self.observed {
            observed.selected.extend(changes.iter().map(|change| change.prefix));
        }
        // Of a table that goes, piece by piece, all slots become free together.
        if self.changes.is_empty() && !self.has_removals() {
            self.free_slots();
        }
        changes
    }

    fn free_slots(&mut self) {
        if self.emptied.is_empty() {
            return;
        }
        if self.used == 0 {
            return self.give_back();
        }
        let mut free = std::mem::take(&mut self.emptied);
        free.retain(|slot| {
            let entry = &mut self.entries[*slot as usize];
            entry.emptied = false;
            matches!(entry.paths, Paths::None)
        });
        if free.len() < self.entries.len() / MANY {
            for slot in &free {
                self.index.remove(self.entries[*slot as usize].prefix.hash(self.key), *slot);
            }
        } else {
            let mut is_free = vec![false; self.entries.len()];
            free.iter().for_each(|slot| is_free[*slot as usize] = true);
            self.index.retain(|slot| !is_free[slot as usize]);
        }
        self.free.append(&mut free);
    }

    /// Nothing is left: the memory goes back.
    fn give_back(&mut self) {
        self.index.clear();
        self.entries = Vec::new();
        self.free = Vec::new();
        self.emptied = Vec::new();
        self.many = Vec::new();
        self.free_many = Vec::new();
    }

    /// Whether there is something to take.
    pub fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Notes that a prefix is about to change.
    pub(super) fn note(&mut self, slot: u32, sources: &Sources, interner: &mut Interner) {
        if self.entries[slot as usize].noted {
            return;
        }
        let old = self.selected_at(Slot(slot), sources);
        old.retain(interner);
        let entry = &mut self.entries[slot as usize];
        entry.noted = true;
        self.changes.push_back(Change { slot: Slot(slot), prefix: entry.prefix, old });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr};

    use ipnet::Ipv4Net;

    use super::*;
    use crate::config::Origination;
    use crate::rib::attributes::AttributeSet;
    use crate::rib::best_path::{Source, SourceKind};
    use crate::rib::table::PeerNumber;
    use crate::types::RouterId;

    const PREFIXES: u32 = 400;
    const PEERS: u32 = 4;

    fn prefix(number: u32) -> Ipv4Net {
        Ipv4Net::new_assert(Ipv4Addr::from((10 << 24) + (number << 8)), 24)
    }

    fn sources() -> Sources {
        let source = |peer: u32| Source {
            kind: SourceKind::External,
            router_id: RouterId(Ipv4Addr::from(peer)),
            address: IpAddr::from(Ipv4Addr::from(peer)),
        };
        (0..=PEERS).map(|peer| (PeerNumber(peer), source(peer))).collect()
    }

    /// What is told is forgotten.
    fn tell(rib: &mut Rib<Ipv4Net>, limit: usize, interner: &mut Interner) {
        rib.take_changes(limit).iter().for_each(|change| change.old.release(interner));
    }

    /// Peers come and go piece by piece, some with most of the table, some with little of it, while prefixes come and go.
    #[test]
    fn places_of_routes_that_go_are_found_again_and_given_to_others_once() {
        let sources = sources();
        for seed in 0..40 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut rib, mut interner) = (Rib::<Ipv4Net>::new(false, seed), Interner::new(seed));
            let mut model: BTreeSet<(u32, u32)> = BTreeSet::new();
            for _ in 0..300 {
                let peer = rng.u32(1..=PEERS);
                let number = PeerNumber(peer);
                match rng.u32(0..8) {
                    0 => {
                        rib.begin_removal(number, false);
                        model.retain(|(_, of)| *of != peer);
                    }
                    1..4 => {
                        rib.finish_removals(number, &sources, &mut interner);
                        for _ in 0..rng.u32(1..60) / peer {
                            let at = rng.u32(0..PREFIXES);
                            let attributes =
                                interner.intern(AttributeSet::originated(&Origination::default()));
                            let path = Path {
                                peer: number,
                                path_id: 0,
                                attributes,
                                ineligible: false,
                                stale: false,
                            };
                            rib.insert(prefix(at), path, &sources, &mut interner);
                            model.insert((at, peer));
                        }
                    }
                    4 => {
                        let at = rng.u32(0..PREFIXES);
                        rib.remove(prefix(at), (number, 0), &sources, &mut interner);
                        model.remove(&(at, peer));
                    }
                    5 | 6 => rib.advance_removals(rng.u32(1..200), &sources, &mut interner),
                    _ => tell(&mut rib, rng.usize(1..100), &mut interner),
                }
                if !rib.has_removals() {
                    let held = |at: u32| {
                        let paths = rib.routes(prefix(at)).paths;
                        paths.into_iter().map(move |path| (at, path.peer.0)).collect::<Vec<_>>()
                    };
                    let held: BTreeSet<(u32, u32)> = (0..PREFIXES).flat_map(held).collect();
                    assert_eq!(held, model, "seed {seed}");
                }
            }
            assert!(rib.entries.len() <= PREFIXES as usize, "seed {seed}: {} places", rib.entries.len());
            for peer in 1..=PEERS {
                rib.begin_removal(PeerNumber(peer), false);
                rib.finish_removals(PeerNumber(peer), &sources, &mut interner);
            }
            tell(&mut rib, usize::MAX, &mut interner);
            assert!(rib.is_empty() && interner.is_empty() && rib.entries.is_empty(), "seed {seed}");
        }
    }
}

//! What is selected otherwise than before, and for whoever has to be told of it.

use super::{Path, Paths, Rib, Slot, Sources};
use crate::rib::interner::{AttributeId, Interner};
use crate::rib::net::Net;
use crate::rib::selected::Selected;
use crate::rib::selection::SelectionRules;

/// Changes for which there is always room once there was.
const ROOM: usize = 1 << 16;

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
        let mut empty = false;
        for change in &changes {
            let entry = &mut self.entries[change.slot.0 as usize];
            entry.noted = false;
            empty |= matches!(entry.paths, Paths::None);
        }
        if let Some(observed) = &mut self.observed {
            observed.selected.extend(changes.iter().map(|change| change.prefix));
        }
        if empty {
            self.free_slots(&changes);
        }
        changes
    }

    fn free_slots(&mut self, changes: &[Change<N>]) {
        let emptied =
            changes.iter().filter(|change| matches!(self.entries[change.slot.0 as usize].paths, Paths::None));
        let emptied: Vec<u32> = emptied.map(|change| change.slot.0).collect();
        if self.used == 0 && self.changes.is_empty() {
            return self.give_back();
        }
        for slot in emptied {
            self.index.remove(self.entries[slot as usize].prefix.hash(self.key), slot);
            self.free.push(slot);
        }
    }

    /// Nothing is left: the memory goes back.
    fn give_back(&mut self) {
        self.index.clear();
        self.entries = Vec::new();
        self.free = Vec::new();
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

//! Sets of attributes, kept once.

use std::net::IpAddr;

use super::attributes::AttributeSet;
use super::index::{Index, mix, mix_octets};
use super::next_hops::{NextHopId, NextHops, Resolution};

/// An interned [`AttributeSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributeId(u32);

/// All sets that are in use.
///
/// Whoever keeps an [`AttributeId`] owns one use of it: [`Interner::intern`] and [`Interner::retain`] add one,
/// [`Interner::release`] takes one away, and with the last the set goes.
#[derive(Debug, Default)]
pub struct Interner {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: Index,
    key: u64,
    used: usize,
    next_hops: NextHops,
}

#[derive(Debug)]
struct Slot {
    set: Option<AttributeSet>,
    /// The lower half of its hash.
    hash: u32,
    uses: u32,
    next_hop: NextHopId,
}

impl Interner {
    /// An empty one; `key` keys its hashes.
    pub fn new(key: u64) -> Self {
        Self { key, ..Self::default() }
    }

    /// How many different sets are in use.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether no set is in use.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The set.
    ///
    /// # Panics
    /// When the id is not in use: its owner has released it too early.
    pub fn get(&self, id: AttributeId) -> &AttributeSet {
        self.slots[id.0 as usize].set.as_ref().expect("an id in use has its set")
    }

    /// What is known about the next hops of the sets in use.
    pub(crate) fn next_hops(&mut self) -> &mut NextHops {
        &mut self.next_hops
    }

    /// The number of a set's next hop.
    pub(crate) fn next_hop(&self, id: AttributeId) -> NextHopId {
        self.slots[id.0 as usize].next_hop
    }

    /// The interior cost to a set's next hop; `None` when it cannot be reached.
    pub fn cost(&self, id: AttributeId) -> Option<u32> {
        self.next_hops.cost(self.next_hop(id))
    }

    /// What is known about an address as next hop; `None`: it is nobody's, so nothing is.
    pub(crate) fn resolution(&self, address: IpAddr) -> Option<Option<Resolution>> {
        self.next_hops.known(address)
    }

    /// Everything that is known of next hops that can be reached.
    pub(crate) fn resolved(&self) -> impl Iterator<Item = (IpAddr, &Resolution)> {
        self.next_hops.resolved()
    }

    /// Through whom a set's next hop is reached.
    pub(crate) fn gateways(&self, id: AttributeId) -> &[IpAddr] {
        self.next_hops.gateways(self.next_hop(id))
    }

    /// The id of a set, with one more use.
    pub fn intern(&mut self, set: AttributeSet) -> AttributeId {
        let hash = self.hash(&set);
        let slots = &mut self.slots;
        let same = |number: u32| {
            let slot = &slots[number as usize];
            slot.hash == hash && slot.set.as_ref() == Some(&set)
        };
        if let Some(number) = self.index.find(u64::from(hash), same) {
            slots[number as usize].uses += 1;
            return AttributeId(number);
        }
        let slot = Slot { hash, uses: 1, next_hop: self.next_hops.acquire(set.next_hop), set: Some(set) };
        let number = match self.free.pop() {
            Some(number) => {
                slots[number as usize] = slot;
                number
            }
            None => {
                slots.push(slot);
                u32::try_from(slots.len() - 1).expect("fewer than 2^32 sets fit into memory")
            }
        };
        self.index.insert(u64::from(hash), number);
        self.used += 1;
        AttributeId(number)
    }

    fn hash(&self, set: &AttributeSet) -> u32 {
        let hash = mix_octets(self.key, set.octets());
        let hash = match set.next_hop {
            IpAddr::V4(address) => mix(hash, u64::from(u32::from(address))),
            IpAddr::V6(address) => mix_octets(hash, &address.octets()),
        };
        (hash >> 32) as u32 ^ hash as u32
    }

    /// One more use.
    pub fn retain(&mut self, id: AttributeId) {
        self.retain_times(id, 1);
    }

    /// So many more uses.
    pub(crate) fn retain_times(&mut self, id: AttributeId, times: u32) {
        self.slots[id.0 as usize].uses += times;
    }

    /// One use less.
    pub fn release(&mut self, id: AttributeId) {
        let slot = &mut self.slots[id.0 as usize];
        slot.uses -= 1;
        if slot.uses == 0 {
            slot.set = None;
            let (hash, next_hop) = (slot.hash, slot.next_hop);
            self.index.remove(u64::from(hash), id.0);
            self.next_hops.release(next_hop);
            self.free.push(id.0);
            self.used -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origination;

    fn set(med: u32) -> AttributeSet {
        AttributeSet::originated(&Origination { med: Some(med), ..Origination::default() })
    }

    #[test]
    fn equal_sets_are_one_and_go_with_their_last_user() {
        let mut interner = Interner::new(1);
        let a = interner.intern(set(1));
        assert_eq!(interner.intern(set(1)), a);
        let b = interner.intern(set(2));
        assert_ne!(a, b);
        interner.release(a);
        assert_eq!(interner.get(a).med, Some(1));
        interner.release(a);
        assert_eq!(interner.len(), 1);
        assert_eq!(interner.get(b).med, Some(2));
    }

    #[test]
    fn it_behaves_like_a_map_under_random_use() {
        let mut rng = fastrand::Rng::with_seed(11);
        let mut interner = Interner::new(2);
        let mut held: Vec<(u32, AttributeId)> = Vec::new();
        for _ in 0..20_000 {
            if held.len() < 300 && rng.bool() || held.is_empty() {
                let med = rng.u32(0..400);
                held.push((med, interner.intern(set(med))));
            } else {
                let (_, id) = held.swap_remove(rng.usize(0..held.len()));
                interner.release(id);
            }
        }
        for (med, id) in &held {
            assert_eq!(interner.get(*id).med, Some(*med));
        }
        let different: std::collections::BTreeSet<u32> = held.iter().map(|(med, _)| *med).collect();
        assert_eq!(interner.len(), different.len());
        held.into_iter().for_each(|(_, id)| interner.release(id));
        assert!(interner.is_empty());
    }
}

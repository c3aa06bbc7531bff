//! The arithmetic of one block: pure, no clock, no store.
//!
//! Invariants, which every operation keeps:
//! - Each ordinal is either in `unallocated` once, or has an entry in `allocations`; never both.
//! - `unallocated` is a queue: addresses are taken from its head and given back to its tail, so that the one that has been
//!   free longest is used first.
//! - An allocation remembers, until it is released, the sequence number of the write that made it. Sequence numbers only
//!   grow, also over deletion and re-creation of a block (see [`Block::create`]), so an address and a number name one
//!   assignment for ever.
//! - `attributes` holds what some allocation points to and nothing else, and no two equal ones.
//! - A released address rests: its attribute has no handle and says when it was released. [`Block::collect`] frees it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::{AffinityOwner, IpamAllocationAttribute, IpamBlock, Timestamp};
use ipnet::IpNet;

use crate::reserved::Reservations;
use crate::{Attributes, HostReserved};

/// A block that is being looked at or changed. All changes between two writes get one sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    row: IpamBlock,
    /// The sequence number of the row as it was read.
    read_at: u64,
}

/// Whose an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// Nobody's.
    Free,
    /// Nobody's yet: it was released then, and rests.
    Resting(Timestamp),
    /// Someone's.
    Assigned {
        /// Whose, and what they said about it.
        attribute: &'a IpamAllocationAttribute,
        /// The sequence number of the write that assigned it.
        sequence: u64,
    },
}

/// What happens to one address of a block, in a list of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation<'a> {
    /// The address.
    pub address: IpAddr,
    /// Whose it is.
    pub attribute: &'a IpamAllocationAttribute,
    /// The sequence number of the write that assigned it.
    pub sequence: u64,
}

impl From<IpamBlock> for Block {
    fn from(row: IpamBlock) -> Self {
        let read_at = row.sequence_number;
        Self { row, read_at }
    }
}

impl Block {
    /// A new block, all free but for what the host keeps back.
    ///
    /// `first_sequence` has to be greater than any number that a former block of the same addresses had: microseconds
    /// since 1970 are, as a block is not written a million times a second.
    pub fn create(
        cidr: IpNet,
        owner: Option<AffinityOwner>,
        now: Timestamp,
        first_sequence: u64,
        reserved: Option<&HostReserved>,
    ) -> Self {
        let mut row = IpamBlock::new(cidr, owner);
        row.sequence_number = first_sequence;
        row.affinity_claim_time = row.affinity.is_some().then_some(now);
        let mut block = Self::from(row);
        if let Some(reserved) = reserved {
            block.keep_back(reserved);
        }
        block
    }

    fn keep_back(&mut self, reserved: &HostReserved) {
        let size = self.size();
        let start = reserved.start_of_block.min(size);
        let end = size.saturating_sub(reserved.end_of_block).max(start);
        let attribute = IpamAllocationAttribute {
            handle_id: Some(HostReserved::HANDLE.to_owned()),
            secondary: Attributes::from([("note".to_owned(), reserved.note.clone())]),
            ..IpamAllocationAttribute::default()
        };
        for ordinal in (0..start).chain(end..size) {
            self.occupy(ordinal, &attribute);
        }
    }

    /// The row to store.
    pub fn row(&self) -> &IpamBlock {
        &self.row
    }

    /// The row to store.
    pub fn into_row(self) -> IpamBlock {
        self.row
    }

    /// The addresses.
    pub fn cidr(&self) -> IpNet {
        self.row.cidr
    }

    /// Whose the block is.
    pub fn owner(&self) -> Option<&AffinityOwner> {
        self.row.affinity.as_ref()
    }

    /// How many addresses it has.
    pub fn size(&self) -> usize {
        self.row.allocations.len()
    }

    /// How many addresses could be assigned now, reserved ones included.
    pub fn free(&self) -> usize {
        self.row.unallocated.len()
    }

    /// How many addresses are assigned or rest, other than those that a host keeps back.
    pub fn in_use(&self) -> usize {
        let counts = |index: &usize| !self.is_kept_back(*index);
        self.row.allocations.iter().flatten().filter(|index| counts(index)).count()
    }

    /// Whether nobody has or had just now an address of it.
    pub fn is_empty(&self) -> bool {
        self.in_use() == 0
    }

    fn is_kept_back(&self, index: usize) -> bool {
        self.attribute(index).handle_id.as_deref() == Some(HostReserved::HANDLE)
    }

    fn attribute(&self, index: usize) -> &IpamAllocationAttribute {
        static NONE: IpamAllocationAttribute = IpamAllocationAttribute {
            handle_id: None,
            secondary: Attributes::new(),
            alternate_owner_attrs: Attributes::new(),
            released_at: None,
        };
        // A row that someone else damaged may point nowhere; the address is then taken, by nobody known.
        self.row.attributes.get(index).unwrap_or(&NONE)
    }

    /// The address with an ordinal.
    pub fn address(&self, ordinal: usize) -> IpAddr {
        match self.row.cidr.network() {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + ordinal as u32).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + ordinal as u128).into(),
        }
    }

    /// The ordinal of an address, if it is in the block.
    pub fn ordinal(&self, address: IpAddr) -> Option<usize> {
        let offset = match (self.row.cidr.network(), address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                u128::from(address.to_bits().checked_sub(first.to_bits())?)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => address.to_bits().checked_sub(first.to_bits())?,
            _ => return None,
        };
        usize::try_from(offset).ok().filter(|offset| *offset < self.size())
    }

    /// Whose an address of the block is; free if it is not in the block.
    pub fn state(&self, address: IpAddr) -> State<'_> {
        let Some(ordinal) = self.ordinal(address) else { return State::Free };
        let Some(index) = self.row.allocations[ordinal] else { return State::Free };
        let attribute = self.attribute(index);
        match (&attribute.handle_id, attribute.released_at) {
            (None, Some(released)) => State::Resting(released),
            _ => State::Assigned { attribute, sequence: self.sequence_of(ordinal) },
        }
    }

    fn sequence_of(&self, ordinal: usize) -> u64 {
        self.row.sequence_number_for_allocation.get(&ordinal).copied().unwrap_or_default()
    }

    /// All assigned addresses, in their order; those that a host keeps back included, resting ones not.
    pub fn allocations(&self) -> impl Iterator<Item = Allocation<'_>> {
        self.row.allocations.iter().enumerate().filter_map(|(ordinal, index)| {
            let attribute = self.attribute((*index)?);
            let rests = attribute.handle_id.is_none() && attribute.released_at.is_some();
            let allocation = || Allocation {
                address: self.address(ordinal),
                attribute,
                sequence: self.sequence_of(ordinal),
            };
            (!rests).then(allocation)
        })
    }

    /// The addresses of a handle, in their order.
    pub fn addresses_of(&self, handle: &str) -> Vec<IpAddr> {
        self.allocations()
            .filter(|allocation| allocation.attribute.handle_id.as_deref() == Some(handle))
            .map(|allocation| allocation.address)
            .collect()
    }

    /// Takes up to `count` free addresses from the head of the queue; reserved ones are passed over and keep their place.
    pub fn auto_assign(
        &mut self,
        count: usize,
        attribute: &IpamAllocationAttribute,
        reservations: &Reservations,
    ) -> Vec<IpAddr> {
        let mut taken = Vec::new();
        let queue = self.row.unallocated.clone();
        for ordinal in queue {
            if taken.len() == count {
                break;
            }
            let address = self.address(ordinal);
            if !reservations.contains(address) && self.row.allocations[ordinal].is_none() {
                self.occupy(ordinal, attribute);
                taken.push(address);
            }
        }
        taken
    }

    /// Takes one address. `false` if it is not in the block, or not free.
    pub fn assign(&mut self, address: IpAddr, attribute: &IpamAllocationAttribute) -> bool {
        match self.ordinal(address) {
            Some(ordinal) if self.row.allocations[ordinal].is_none() => {
                self.occupy(ordinal, attribute);
                true
            }
            _ => false,
        }
    }

    fn occupy(&mut self, ordinal: usize, attribute: &IpamAllocationAttribute) {
        self.touch();
        self.point(ordinal, attribute.clone());
        self.row.unallocated.retain(|free| *free != ordinal);
        self.row.sequence_number_for_allocation.insert(ordinal, self.row.sequence_number);
    }

    /// Makes an allocation point to an attribute, and drops what is no longer pointed to.
    fn point(&mut self, ordinal: usize, attribute: IpamAllocationAttribute) {
        let known = self.row.attributes.iter().position(|existing| *existing == attribute);
        let index = known.unwrap_or_else(|| {
            self.row.attributes.push(attribute);
            self.row.attributes.len() - 1
        });
        self.row.allocations[ordinal] = Some(index);
        self.drop_unused();
    }

    /// Gives the block a new sequence number, the same for all changes until it is written.
    pub fn touch(&mut self) {
        self.row.sequence_number = self.read_at + 1;
    }

    /// Gives the block to someone, or to nobody.
    pub fn set_owner(&mut self, owner: Option<AffinityOwner>, now: Timestamp) {
        self.touch();
        self.row.affinity_claim_time = owner.is_some().then_some(now);
        self.row.affinity = owner;
    }

    /// Releases an address: from now on it rests. `false` if it was not assigned.
    pub fn release(&mut self, address: IpAddr, now: Timestamp) -> bool {
        let State::Assigned { attribute, .. } = self.state(address) else { return false };
        let Some(ordinal) = self.ordinal(address) else { return false };
        let resting = IpamAllocationAttribute {
            handle_id: None,
            alternate_owner_attrs: Attributes::new(),
            released_at: Some(now),
            secondary: attribute.secondary.clone(),
        };
        self.touch();
        self.row.sequence_number_for_allocation.remove(&ordinal);
        self.point(ordinal, resting);
        true
    }

    /// Frees the addresses that have rested long enough: to the tail of the queue, those released first first. Returns
    /// how many.
    pub fn collect(&mut self, now: Timestamp, cooldown_seconds: u32) -> usize {
        let rested = |released: Timestamp| {
            now.duration_since(released).as_secs() >= i64::from(cooldown_seconds) || cooldown_seconds == 0
        };
        let mut done: Vec<(Timestamp, usize)> = (0..self.size())
            .filter_map(|ordinal| match self.state(self.address(ordinal)) {
                State::Resting(released) if rested(released) => Some((released, ordinal)),
                _ => None,
            })
            .collect();
        if done.is_empty() {
            return 0;
        }
        done.sort_unstable();
        self.touch();
        for (_, ordinal) in &done {
            self.row.allocations[*ordinal] = None;
            self.row.unallocated.push(*ordinal);
        }
        self.drop_unused();
        done.len()
    }

    /// Says something else about an assigned address, which stays who it belongs to.
    pub fn describe(&mut self, address: IpAddr, attribute: IpamAllocationAttribute) -> bool {
        let Some(ordinal) = self.ordinal(address) else { return false };
        let State::Assigned { .. } = self.state(address) else { return false };
        self.touch();
        self.point(ordinal, attribute);
        true
    }

    fn drop_unused(&mut self) {
        let mut used = vec![false; self.row.attributes.len()];
        for index in self.row.allocations.iter().flatten() {
            if let Some(used) = used.get_mut(*index) {
                *used = true;
            }
        }
        if used.iter().all(|used| *used) {
            return;
        }
        let mut kept = 0..;
        let new_index: Vec<usize> =
            used.iter().map(|used| if *used { kept.next() } else { None }.unwrap_or(0)).collect();
        for pointer in self.row.allocations.iter_mut().flatten() {
            // A pointer to nowhere, in a row that someone else damaged, stays one.
            *pointer = new_index.get(*pointer).copied().unwrap_or(usize::MAX);
        }
        let mut used = used.iter();
        self.row.attributes.retain(|_| used.next().copied().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;

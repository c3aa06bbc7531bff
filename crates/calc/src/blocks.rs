//! IPAM blocks and block affinities: who owns a block, and which of its addresses are at other nodes.
//!
//! An affinity that is not confirmed counts as absent: the block is then nobody's, and each of its addresses leads to the
//! node that has it. A block whose affinity row is not there (yet) is its owner's all the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::{AffinityOwner, BlockAffinityState, IpamBlock};
use ipnet::IpNet;

use crate::routes::BlockFact;

/// The attribute of an allocation that names its node.
const NODE_ATTRIBUTE: &str = "node";
/// Bits of a word of [`Block::at_owner`].
const WORD: usize = 64;

/// Nearly all addresses of a block are at its owner's, so those take a bit each.
#[derive(Debug)]
struct Block {
    owner: Option<AffinityOwner>,
    /// Which ordinals are at the owner's node, 64 a word, the first in the lowest bit.
    at_owner: Box<[u64]>,
    /// Addresses at other nodes.
    elsewhere: BTreeMap<IpAddr, Arc<str>>,
}

impl Block {
    fn of(block: &IpamBlock) -> Self {
        let owner = match &block.affinity {
            Some(AffinityOwner::Host(name)) => Some(name.as_str()),
            _ => None,
        };
        let mut at_owner = vec![0; block.allocations.len().div_ceil(WORD)];
        let mut elsewhere = BTreeMap::new();
        let mut names: BTreeMap<&str, Arc<str>> = BTreeMap::new();
        for (ordinal, node) in allocation_nodes(block) {
            if Some(node) == owner {
                at_owner[ordinal / WORD] |= 1 << (ordinal % WORD);
            } else if let Some(address) = address_at(block.cidr, ordinal) {
                let name = names.entry(node).or_insert_with(|| node.into());
                elsewhere.insert(address, name.clone());
            }
        }
        Self { owner: block.affinity.clone(), at_owner: at_owner.into(), elsewhere }
    }

    /// The addresses at the owner's node.
    fn at_owner(&self, cidr: IpNet) -> impl Iterator<Item = IpAddr> {
        let ordinals = (0..self.at_owner.len() * WORD)
            .filter(|ordinal| self.at_owner[ordinal / WORD] & 1 << (ordinal % WORD) != 0);
        ordinals.filter_map(move |ordinal| address_at(cidr, ordinal))
    }
}

/// Blocks and affinities by CIDR.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: BTreeMap<IpNet, Block>,
    affinities: BTreeMap<IpNet, BTreeMap<AffinityOwner, BlockAffinityState>>,
}

impl Blocks {
    /// Replaces a block; returns what it means now.
    pub(crate) fn set_block(&mut self, cidr: IpNet, block: Option<&IpamBlock>) -> Option<BlockFact> {
        match block.filter(|block| !block.deleted) {
            Some(block) => {
                self.blocks.insert(cidr, Block::of(block));
            }
            None => {
                self.blocks.remove(&cidr);
            }
        }
        self.fact(cidr)
    }

    /// Replaces an affinity; returns what the block means now.
    pub(crate) fn set_affinity(
        &mut self,
        owner: &AffinityOwner,
        cidr: IpNet,
        state: Option<BlockAffinityState>,
    ) -> Option<BlockFact> {
        let of_block = self.affinities.entry(cidr).or_default();
        match state {
            Some(state) => of_block.insert(owner.clone(), state),
            None => of_block.remove(owner),
        };
        if of_block.is_empty() {
            self.affinities.remove(&cidr);
        }
        self.fact(cidr)
    }

    pub(crate) fn size(&self) -> usize {
        self.blocks.len() + self.affinities.len()
    }

    fn fact(&self, cidr: IpNet) -> Option<BlockFact> {
        let block = self.blocks.get(&cidr)?;
        let mut borrowed = block.elsewhere.clone();
        let Some(owner @ AffinityOwner::Host(name)) = &block.owner else {
            return Some(BlockFact { owner: None, borrowed });
        };
        let name: Arc<str> = name.as_str().into();
        if self.is_confirmed(cidr, owner) {
            return Some(BlockFact { owner: Some(name), borrowed });
        }
        borrowed.extend(block.at_owner(cidr).map(|address| (address, name.clone())));
        Some(BlockFact { owner: None, borrowed })
    }

    fn is_confirmed(&self, cidr: IpNet, owner: &AffinityOwner) -> bool {
        let state = self.affinities.get(&cidr).and_then(|of_block| of_block.get(owner));
        state.is_none_or(|state| *state == BlockAffinityState::Confirmed)
    }
}

/// The ordinals whose node is known, with it.
fn allocation_nodes(block: &IpamBlock) -> impl Iterator<Item = (usize, &str)> {
    block.allocations.iter().enumerate().filter_map(|(ordinal, allocation)| {
        let attribute = allocation.and_then(|index| block.attributes.get(index))?;
        let node = attribute.released_at.is_none().then(|| attribute.secondary.get(NODE_ATTRIBUTE))??;
        Some((ordinal, node.as_str()))
    })
}

/// The address with this ordinal in a block.
fn address_at(block: IpNet, ordinal: usize) -> Option<IpAddr> {
    match block {
        IpNet::V4(net) => {
            let address = u32::from(net.network()).checked_add(u32::try_from(ordinal).ok()?)?;
            Some(IpAddr::V4(address.into()))
        }
        IpNet::V6(net) => {
            let address = u128::from(net.network()).checked_add(u128::try_from(ordinal).ok()?)?;
            Some(IpAddr::V6(address.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use api::IpamAllocationAttribute;

    use super::*;

    fn owner(name: &str) -> AffinityOwner {
        AffinityOwner::Host(name.to_owned())
    }

    fn block() -> IpamBlock {
        let mut block = IpamBlock::new("10.0.0.0/30".parse().unwrap(), Some(owner("one")));
        for (ordinal, node) in [(0, "one"), (2, "two")] {
            let secondary = BTreeMap::from([(NODE_ATTRIBUTE.to_owned(), node.to_owned())]);
            block.allocations[ordinal] = Some(block.attributes.len());
            block.attributes.push(IpamAllocationAttribute { secondary, ..Default::default() });
        }
        block
    }

    fn borrowed(fact: &Option<BlockFact>) -> Vec<(String, String)> {
        let borrowed = fact.iter().flat_map(|fact| &fact.borrowed);
        borrowed.map(|(address, node)| (address.to_string(), node.to_string())).collect()
    }

    #[test]
    fn addresses_at_other_nodes_are_borrowed() {
        let fact = Blocks::default().set_block(block().cidr, Some(&block()));
        assert_eq!(borrowed(&fact), [("10.0.0.2".to_owned(), "two".to_owned())]);
        assert_eq!(fact.unwrap().owner.as_deref(), Some("one"));
    }

    #[test]
    fn a_block_with_an_unconfirmed_affinity_is_nobodys() {
        let mut blocks = Blocks::default();
        blocks.set_block(block().cidr, Some(&block()));
        let fact = blocks.set_affinity(&owner("one"), block().cidr, Some(BlockAffinityState::Pending));
        assert_eq!((fact.as_ref().unwrap().owner.clone(), borrowed(&fact).len()), (None, 2));
        let fact = blocks.set_affinity(&owner("one"), block().cidr, Some(BlockAffinityState::Confirmed));
        assert_eq!(fact.unwrap().owner.as_deref(), Some("one"));
        let fact = blocks.set_affinity(&owner("two"), block().cidr, Some(BlockAffinityState::Pending));
        assert_eq!(fact.unwrap().owner.as_deref(), Some("one"));
    }

    #[test]
    fn deleted_blocks_and_affinities_leave_nothing() {
        let mut blocks = Blocks::default();
        blocks.set_block(block().cidr, Some(&block()));
        blocks.set_affinity(&owner("one"), block().cidr, Some(BlockAffinityState::Confirmed));
        assert_eq!(blocks.set_block(block().cidr, Some(&IpamBlock { deleted: true, ..block() })), None);
        blocks.set_affinity(&owner("one"), block().cidr, None);
        assert_eq!(blocks.size(), 0);
    }
}

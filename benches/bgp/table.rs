//! What is announced: prefixes and attributes like those of a full table, or blocks of a cluster; always the same for a seed.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::session::Neighbour;
use super::wire::{Prefix, announce};

/// Prefixes, and the UPDATEs that announce them.
pub(crate) struct Table {
    /// In the order in which they are announced.
    pub(crate) prefixes: Vec<Prefix>,
    /// Encoded before any clock starts.
    pub(crate) updates: Vec<u8>,
}

/// Prefixes that share their attributes, on average, in a full table.
const PER_SET: u64 = 5;

impl Table {
    /// Like a full table: lengths from /16 to /24, six in ten /24; paths of 2 to 8 ASes, MED, communities, large communities and
    /// an AGGREGATOR here and there; five prefixes share a set. The prefixes depend on `count` alone, the attributes on `seed`
    /// too.
    pub(crate) fn full(count: u32, first_as: u32, next_hop: Ipv4Addr, seed: u64) -> Self {
        let prefixes: Vec<Prefix> = (0..count).map(full_prefix).collect();
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut updates, mut rest) = (Vec::new(), &prefixes[..]);
        while !rest.is_empty() {
            let of_one = random.usize(1..=2 * PER_SET as usize - 1).min(rest.len());
            let attributes = full_attributes(first_as, next_hop, &mut random);
            announce(&attributes, &rest[..of_one], &mut updates);
            rest = &rest[of_one..];
        }
        Self { prefixes, updates }
    }

    /// The /26 blocks of these numbers, with one set of attributes, those of a route inside an AS.
    pub(crate) fn blocks(numbers: Range<u32>, next_hop: Ipv4Addr) -> Self {
        let prefixes: Vec<Prefix> = numbers.map(block).collect();
        let mut updates = Vec::new();
        announce(&internal_attributes(next_hop), &prefixes, &mut updates);
        Self { prefixes, updates }
    }

    /// One prefix more of a neighbour in another AS.
    pub(crate) fn one_external(number: u32, from: &Neighbour) -> Self {
        let (prefix, mut updates) = (full_prefix(number), Vec::new());
        let attributes = full_attributes(from.asn, from.address, &mut fastrand::Rng::with_seed(0));
        announce(&attributes, &[prefix], &mut updates);
        Self { prefixes: vec![prefix], updates }
    }

    /// Both, this one first.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.prefixes.extend(other.prefixes);
        self.updates.extend(other.updates);
        self
    }
}

/// Blocks start at 10.0.0.0, the prefixes of a full table behind them.
const BLOCKS: u32 = 0x0a00_0000;
const FULL: u32 = 0x0b00_0000;
const BLOCK_LENGTH: u8 = 26;

/// The block of this number.
fn block(number: u32) -> Prefix {
    Prefix(BLOCKS + number * 64, BLOCK_LENGTH)
}

impl Prefix {
    /// Its number in the bit maps: blocks first, those of a full table behind all blocks that there can be; none for
    /// what nobody here announces.
    pub(crate) fn number(self) -> Option<usize> {
        let behind_blocks = || Some(((FULL - BLOCKS) / 64 + (self.0.checked_sub(FULL)? >> 8)) as usize);
        match self.0.checked_sub(BLOCKS)? {
            offset if self.0 < FULL => Some((offset / 64) as usize),
            _ => behind_blocks(),
        }
    }
}

/// 16 numbers are a /20 of ten prefixes of /24, and shorter ones beside them: no two are the same.
fn full_prefix(number: u32) -> Prefix {
    // A /24 a number, so that a shorter prefix, which begins where its number does, is another one.
    let address = FULL.wrapping_add(number << 8);
    let length = match number % 16 {
        0 => 20,
        4 => 22,
        8 => 21,
        12 => 22,
        2 | 6 | 10 | 14 => 23,
        _ => 24,
    };
    Prefix(address, length)
}

fn attribute(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    let length = u8::try_from(value.len()).expect("a short attribute");
    out.extend([flags, code, length]);
    out.extend(value);
}

const WELL_KNOWN: u8 = 0x40;
const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0xc0;

/// An AS on the way, of two octets or four: neither one of those here, which would be a loop, nor AS_TRANS.
fn far_as(random: &mut fastrand::Rng) -> u32 {
    if random.bool() { random.u32(1000..23_000) } else { random.u32(131_072..400_000) }
}

fn full_attributes(first_as: u32, next_hop: Ipv4Addr, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    attribute(WELL_KNOWN, 1, &[random.u8(..10) / 9 * 2], &mut out);
    let hops = random.u8(1..=7);
    let mut path = vec![2, hops + 1];
    path.extend(first_as.to_be_bytes());
    (0..hops).for_each(|_| path.extend(far_as(random).to_be_bytes()));
    attribute(WELL_KNOWN, 2, &path, &mut out);
    attribute(WELL_KNOWN, 3, &next_hop.octets(), &mut out);
    if random.u8(..3) == 0 {
        attribute(OPTIONAL, 4, &random.u32(..500).to_be_bytes(), &mut out);
    }
    if random.u8(..10) == 0 {
        attribute(TRANSITIVE, 7, &[far_as(random).to_be_bytes(), [192, 0, 2, 1]].concat(), &mut out);
    }
    let communities = random.usize(..6);
    if communities > 0 {
        let mut list: Vec<u32> = (0..communities).map(|_| random.u32(0x0100_0000..0xf000_0000)).collect();
        list.sort();
        attribute(TRANSITIVE, 8, &list.iter().flat_map(|c| c.to_be_bytes()).collect::<Vec<_>>(), &mut out);
    }
    if random.u8(..4) == 0 {
        let large: Vec<u8> = (0..3).flat_map(|_| random.u32(1..100_000).to_be_bytes()).collect();
        attribute(TRANSITIVE, 32, &large, &mut out);
    }
    out
}

fn internal_attributes(next_hop: Ipv4Addr) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(WELL_KNOWN, 1, &[0], &mut out);
    attribute(WELL_KNOWN, 2, &[], &mut out);
    attribute(WELL_KNOWN, 3, &next_hop.octets(), &mut out);
    attribute(WELL_KNOWN, 5, &100_u32.to_be_bytes(), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_prefix_occurs_twice_and_none_has_bits_behind_its_length() {
        let table = Table::full(50_000, 65001, Ipv4Addr::LOCALHOST, 1);
        assert_eq!(table.prefixes.iter().collect::<BTreeSet<_>>().len(), 50_000);
        let stray = |prefix: &&Prefix| prefix.0 & (u32::MAX >> prefix.1) != 0;
        assert_eq!(table.prefixes.iter().find(stray), None);
    }

    #[test]
    fn every_prefix_has_a_number_of_its_own() {
        let of = |prefixes: Vec<Prefix>| prefixes.into_iter().map(|prefix| prefix.number().unwrap());
        let full = Table::full(50_000, 65001, Ipv4Addr::LOCALHOST, 1).prefixes;
        let all: BTreeSet<_> = of(full).chain(of((0..50_000).map(block).collect())).collect();
        assert_eq!(all.len(), 100_000);
        assert_eq!(block(7).number(), Some(7));
        assert_eq!(Prefix(0, 0).number(), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_octets() {
        let of = |seed| Table::full(1000, 65001, Ipv4Addr::LOCALHOST, seed).updates;
        assert!(of(1) == of(1) && of(1) != of(2));
    }
}

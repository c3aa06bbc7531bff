//! In which order a host looks at the blocks of a pool: from a start that its name decides, onwards, and round.
//!
//! Hosts so begin far from each other and rarely want the same block; a host that comes back looks first where it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The blocks of a pool, as a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ring {
    pool: IpNet,
    block_prefix_len: u8,
    start: u128,
}

/// FNV-1, 32 bits (not FNV-1a): <http://www.isthe.com/chongo/tech/comp/fnv/>.
pub fn fnv1_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte))
}

/// One step of the generator SplitMix64: spreads a seed over 64 bits.
fn spread(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Ring {
    /// The ring of a pool for a host. Blocks of a single address start at a place that `now` decides instead, as
    /// otherwise a host would meet the same few addresses again and again.
    pub fn new(pool: IpNet, block_prefix_len: u8, host: &str, now_nanoseconds: u64) -> Self {
        let single = block_prefix_len == pool.max_prefix_len();
        let seed = if single { now_nanoseconds } else { u64::from(fnv1_32(host.as_bytes())) };
        let mut ring = Self { pool, block_prefix_len, start: 0 };
        let wide = u128::from(spread(seed)) << 64 | u128::from(spread(!seed));
        ring.start = wide % ring.len();
        ring
    }

    /// How many blocks it has, at least one (a pool smaller than its blocks counts as one).
    pub fn len(&self) -> u128 {
        let bits = u32::from(self.block_prefix_len.saturating_sub(self.pool.prefix_len()));
        1u128.checked_shl(bits).unwrap_or(u128::MAX)
    }

    /// Never: see [`Ring::len`].
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The block at a place, counted from the start, round the end.
    pub fn block(&self, place: u128) -> IpNet {
        let index = self.start.wrapping_add(place % self.len()) % self.len();
        let shift = u32::from(self.pool.max_prefix_len() - self.block_prefix_len);
        let offset = index.checked_shl(shift).unwrap_or(0);
        let address: IpAddr = match self.pool.network() {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(offset as u32)).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(offset)).into(),
        };
        IpNet::new(address, self.block_prefix_len).expect("the prefix length is the pool's own").trunc()
    }

    /// At which place a block is, if it is one of the pool's.
    pub fn place(&self, block: &IpNet) -> Option<u128> {
        if block.prefix_len() != self.block_prefix_len || !self.pool.contains(block) {
            return None;
        }
        let offset = match (self.pool.network(), block.network()) {
            (IpAddr::V4(first), IpAddr::V4(block)) => u128::from(block.to_bits() - first.to_bits()),
            (IpAddr::V6(first), IpAddr::V6(block)) => block.to_bits() - first.to_bits(),
            _ => return None,
        };
        let shift = u32::from(self.pool.max_prefix_len() - self.block_prefix_len);
        let index = offset.checked_shr(shift).unwrap_or(0);
        Some(if index >= self.start { index - self.start } else { index + (self.len() - self.start) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_hash_is_fnv_1_of_32_bits() {
        // From the table of test vectors of the FNV authors.
        assert_eq!(fnv1_32(b""), 0x811c_9dc5);
        assert_eq!(fnv1_32(b"a"), 0x050c_5d7e);
        assert_eq!(fnv1_32(b"foobar"), 0x31f0_b262);
    }

    #[test]
    fn a_ring_visits_every_block_once_and_knows_their_places() {
        for (pool, len) in
            [("10.0.0.0/22", 26), ("fd00::/116", 122), ("10.0.0.0/32", 32), ("10.0.0.0/29", 32)]
        {
            let ring = Ring::new(net(pool), len, "node-1", 77);
            let blocks: BTreeSet<IpNet> = (0..ring.len()).map(|place| ring.block(place)).collect();
            assert_eq!(blocks.len() as u128, ring.len());
            assert!(blocks.iter().all(|block| net(pool).contains(block)));
            for place in 0..ring.len() {
                assert_eq!(ring.place(&ring.block(place)), Some(place));
            }
            assert_eq!(ring.block(ring.len()), ring.block(0));
        }
    }

    #[test]
    fn the_host_decides_the_start_and_time_does_for_single_addresses() {
        let start = |host, len, now| Ring::new(net("10.0.0.0/8"), len, host, now).block(0);
        assert_eq!(start("node-1", 26, 1), start("node-1", 26, 2));
        assert_ne!(start("node-1", 26, 1), start("node-2", 26, 1));
        assert_ne!(start("node-1", 32, 1), start("node-1", 32, 2));
    }

    #[test]
    fn foreign_blocks_have_no_place() {
        let ring = Ring::new(net("10.0.0.0/24"), 26, "h", 0);
        for block in ["10.0.1.0/26", "10.0.0.0/27", "10.0.0.0/25", "fd00::/122"] {
            assert_eq!(ring.place(&net(block)), None, "{block}");
        }
    }

    #[test]
    fn a_huge_pool_has_a_ring_too() {
        let ring = Ring::new(net("fd00::/8"), 122, "h", 0);
        assert_eq!(ring.len(), 1 << 114);
        let last = ring.block(ring.len() - 1);
        assert_eq!(ring.place(&last), Some(ring.len() - 1));
        assert!(net("fd00::/8").contains(&last));
    }
}

//! Finding things by what they are: a hash table of numbers, beside the list that the numbers count in.
//!
//! Open addressing with linear probing; a removed number leaves no mark, those behind it move up. The table never
//! decides an order: whoever goes through everything goes through the list. Hashes are keyed, so that a peer cannot
//! choose prefixes or attributes that collide.

/// Numbers by hash. What a number stands for is known to the caller.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A number + 1, or 0 for none. A power of two long, or empty.
    cells: Vec<u32>,
    used: usize,
}

impl Index {
    /// The number with this hash for which `is_it` holds.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.cells.len().checked_sub(1)?;
        let mut at = hash as usize & mask;
        loop {
            match self.cells[at] {
                0 => return None,
                number if is_it(number - 1) => return Some(number - 1),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Puts in a number that is not there. `hash_of` gives the hashes of those that are.
    pub(crate) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.used + 1) * 5 > self.cells.len() * 3 {
            let numbers: Vec<u32> = self.cells.iter().filter_map(|number| number.checked_sub(1)).collect();
            self.fill((self.cells.len() * 2).max(64), &numbers, hash_of);
        }
        self.put(hash, number);
        self.used += 1;
    }

    /// Takes out a number that is there.
    pub(crate) fn remove(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let mask = self.cells.len() - 1;
        let mut hole = hash as usize & mask;
        while self.cells[hole] != number + 1 {
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let Some(other) = self.cells[at].checked_sub(1) else { break };
            let home = hash_of(other) as usize & mask;
            // It may move to the hole unless its home lies cyclically after the hole.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.cells[hole] = self.cells[at];
                hole = at;
            }
        }
        self.cells[hole] = 0;
        self.used -= 1;
    }

    /// Keeps only these; cheaper than taking out most of them one by one.
    pub(crate) fn keep(&mut self, numbers: &[u32], hash_of: impl Fn(u32) -> u64) {
        let room = (numbers.len() * 2).next_power_of_two().max(64);
        self.fill(if numbers.is_empty() { 0 } else { room }, numbers, hash_of);
        self.used = numbers.len();
    }

    fn fill(&mut self, room: usize, numbers: &[u32], hash_of: impl Fn(u32) -> u64) {
        self.cells = vec![0; room];
        numbers.iter().for_each(|number| self.put(hash_of(*number), *number));
    }

    fn put(&mut self, hash: u64, number: u32) {
        let mask = self.cells.len() - 1;
        let mut at = hash as usize & mask;
        while self.cells[at] != 0 {
            at = (at + 1) & mask;
        }
        self.cells[at] = number + 1;
    }
}

/// Adds a word to a hash: both halves of a product depend on every bit.
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

/// Adds octets to a hash.
pub(crate) fn mix_octets(hash: u64, octets: &[u8]) -> u64 {
    let (words, rest) = octets.as_chunks::<8>();
    let mut hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = mix(hash, u64::from_le_bytes(last));
    mix(hash, octets.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_behaves_like_a_set_under_random_use_and_bad_hashes() {
        let mut rng = fastrand::Rng::with_seed(11);
        for bits in [2, 10, 64] {
            let hash_of = |number: u32| mix(5, u64::from(number)) >> (64 - bits);
            let mut index = Index::default();
            let mut model = BTreeSet::new();
            for _ in 0..20_000 {
                let number = rng.u32(0..500);
                let found = index.find(hash_of(number), |other| other == number);
                assert_eq!(found, model.get(&number).copied());
                if model.remove(&number) {
                    index.remove(hash_of(number), number, hash_of);
                } else {
                    index.insert(hash_of(number), number, hash_of);
                    model.insert(number);
                }
            }
            let kept: Vec<u32> = model.iter().copied().filter(|number| number % 3 == 0).collect();
            index.keep(&kept, hash_of);
            for number in 0..500 {
                let found = index.find(hash_of(number), |other| other == number);
                assert_eq!(found.is_some(), kept.contains(&number));
            }
        }
    }

    #[test]
    fn neighbouring_prefixes_spread() {
        let cells: BTreeSet<u64> =
            (0..1000u64).map(|number| mix(3, (number << 8) << 8 | 24) & 4095).collect();
        assert!(cells.len() > 800, "{} of 1,000", cells.len());
    }
}

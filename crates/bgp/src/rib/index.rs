//! Finding things by what they are: a hash table of numbers, beside the list that the numbers count in.
//!
//! Open addressing with linear probing; a removed number leaves no mark, those behind it move up. The table never
//! decides an order: whoever goes through everything goes through the list. Hashes are keyed, so that a peer cannot
//! choose prefixes or attributes that collide.

/// Numbers by hash. What a number stands for is known to the caller.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// A power of two long, or empty.
    cells: Vec<Cell>,
    used: usize,
}

/// A number and its hash: what is far away in memory is looked at only when the hash is right.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// The number + 1, or 0 for none.
    number: u32,
    hash: u32,
}

/// The part of a hash that decides.
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

impl Index {
    /// The number with this hash for which `is_it` holds.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mask = self.cells.len().checked_sub(1)?;
        let hash = short(hash);
        let mut at = hash as usize & mask;
        loop {
            let cell = self.cells[at];
            let number = cell.number.checked_sub(1)?;
            if cell.hash == hash && is_it(number) {
                return Some(number);
            }
            at = (at + 1) & mask;
        }
    }

    /// Puts in a number that is not there.
    pub(crate) fn insert(&mut self, hash: u64, number: u32) {
        if (self.used + 1) * 3 > self.cells.len() * 2 {
            let room = (self.cells.len() * 2).max(64);
            let old = std::mem::replace(&mut self.cells, vec![Cell::default(); room]);
            old.into_iter().filter(|cell| cell.number != 0).for_each(|cell| self.put(cell));
        }
        self.put(Cell { number: number + 1, hash: short(hash) });
        self.used += 1;
    }

    /// Takes out a number that is there.
    pub(crate) fn remove(&mut self, hash: u64, number: u32) {
        let mask = self.cells.len() - 1;
        let mut hole = short(hash) as usize & mask;
        while self.cells[hole].number != number + 1 {
            hole = (hole + 1) & mask;
        }
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell.number == 0 {
                break;
            }
            let home = cell.hash as usize & mask;
            // It may move to the hole unless its home lies cyclically after the hole.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = Cell::default();
        self.used -= 1;
    }

    /// Takes out the numbers that are not to stay: once through the cells, where [`Index::remove`] would have to fetch a
    /// cell from anywhere in memory for each.
    pub(crate) fn retain(&mut self, stays: impl Fn(u32) -> bool) {
        let Some(gap) = self.cells.iter().position(|cell| cell.number == 0) else { return };
        // From behind a gap on nothing has been pushed past what is still to be looked at, so each is put where it is or
        // before that.
        for at in (gap + 1..self.cells.len()).chain(0..gap) {
            let cell = std::mem::take(&mut self.cells[at]);
            match cell.number.checked_sub(1) {
                Some(number) if stays(number) => self.put(cell),
                Some(_) => self.used -= 1,
                None => {}
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn put(&mut self, cell: Cell) {
        let mask = self.cells.len() - 1;
        let mut at = cell.hash as usize & mask;
        while self.cells[at].number != 0 {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }
}

/// Adds a word to a hash: both halves of a product depend on every bit.
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

/// What octets are told apart by, the same in every process.
pub(crate) fn digest(octets: &[u8]) -> u64 {
    mix_octets(0, octets)
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
                    index.remove(hash_of(number), number);
                } else {
                    index.insert(hash_of(number), number);
                    model.insert(number);
                }
            }
            index.clear();
            assert!((0..500).all(|number| index.find(hash_of(number), |other| other == number).is_none()));
        }
    }

    #[test]
    fn what_stays_is_found_and_what_does_not_is_gone() {
        let mut rng = fastrand::Rng::with_seed(12);
        for bits in [2, 10, 64] {
            let hash_of = |number: u32| mix(5, u64::from(number)) >> (64 - bits);
            for count in [0, 1, 40, 42, 500] {
                let mut index = Index::default();
                (0..count).for_each(|number| index.insert(hash_of(number), number));
                let of_ten = rng.u32(0..=10);
                let stays: BTreeSet<u32> = (0..count).filter(|_| rng.u32(0..10) < of_ten).collect();
                index.retain(|number| stays.contains(&number));
                assert_eq!(index.used, stays.len());
                for number in 0..count {
                    let found = index.find(hash_of(number), |other| other == number);
                    assert_eq!(found.is_some(), stays.contains(&number), "{number} of {count}");
                }
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

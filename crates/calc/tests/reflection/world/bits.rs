//! Sets of small numbers.

/// Which hosts; compared and counted quickly.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub(crate) fn contains(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word & bit(number) != 0)
    }

    /// Puts a number in; whether it was not there.
    pub(crate) fn insert(&mut self, number: usize) -> bool {
        if self.words.len() <= number / 64 {
            self.words.resize(number / 64 + 1, 0);
        }
        let word = &mut self.words[number / 64];
        let is_new = *word & bit(number) == 0;
        *word |= bit(number);
        is_new
    }

    /// Takes a number out; whether it was there.
    pub(crate) fn remove(&mut self, number: usize) -> bool {
        let was_there = self.contains(number);
        if was_there {
            self.words[number / 64] &= !bit(number);
        }
        was_there
    }

    pub(crate) fn clear(&mut self) {
        self.words.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let words = self.words.iter().enumerate();
        words.flat_map(|(index, word)| {
            (0..64).filter(move |number| word & bit(*number) != 0).map(move |number| index * 64 + number)
        })
    }

    /// Whether both are the same, whatever one of them says about a number.
    pub(crate) fn is_same_but_for(&self, other: &Self, number: usize) -> bool {
        let length = self.words.len().max(other.words.len());
        let word = |bits: &Self, index: usize| bits.words.get(index).copied().unwrap_or_default();
        (0..length).all(|index| {
            let ignored = if index == number / 64 { bit(number) } else { 0 };
            (word(self, index) ^ word(other, index)) & !ignored == 0
        })
    }
}

impl FromIterator<usize> for Bits {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut bits = Self::default();
        for number in numbers {
            bits.insert(number);
        }
        bits
    }
}

fn bit(number: usize) -> u64 {
    1 << (number % 64)
}

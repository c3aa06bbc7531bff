//! Which of many numbers are there, and how many.

/// A set of small numbers.
#[derive(Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
    count: usize,
}

impl Bits {
    pub(crate) fn set(&mut self, number: usize, present: bool) {
        let (word, bit) = (number / 64, 1 << (number % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let had = self.words[word] & bit != 0;
        if had != present {
            self.words[word] ^= bit;
            self.count = if present { self.count + 1 } else { self.count - 1 };
        }
    }

    pub(crate) fn has(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// How many are in it.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_once_however_often_it_is_set() {
        let mut bits = Bits::default();
        for (number, present, count) in
            [(7, true, 1), (7, true, 1), (500, true, 2), (7, false, 1), (7, false, 1)]
        {
            bits.set(number, present);
            assert_eq!((bits.has(number), bits.count()), (present, count));
        }
        assert!(!bits.has(10_000));
    }
}

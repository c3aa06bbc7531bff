//! What is wanted beside what is there, and the difference kept up to date.

use std::collections::{BTreeMap, BTreeSet};

/// Two maps, desired and actual, and the keys in which they differ. Every operation costs what it touches, so asking
/// for the difference costs nothing where there is none.
#[derive(Debug, Clone)]
pub struct DeltaTracker<K, V> {
    desired: BTreeMap<K, V>,
    actual: BTreeMap<K, V>,
    updates: BTreeSet<K>,
    deletions: BTreeSet<K>,
    same: fn(desired: &V, actual: &V) -> bool,
}

impl<K: Ord + Clone, V: PartialEq> Default for DeltaTracker<K, V> {
    fn default() -> Self {
        Self::new(|desired, actual| desired == actual)
    }
}

impl<K: Ord + Clone, V> DeltaTracker<K, V> {
    /// An empty tracker that takes an actual value for right if `same` says so.
    pub fn new(same: fn(desired: &V, actual: &V) -> bool) -> Self {
        Self {
            desired: BTreeMap::new(),
            actual: BTreeMap::new(),
            updates: BTreeSet::new(),
            deletions: BTreeSet::new(),
            same,
        }
    }

    /// Wants this value.
    pub fn set_desired(&mut self, key: K, value: V) {
        self.desired.insert(key.clone(), value);
        self.touch(key);
    }

    /// Wants nothing there any more.
    pub fn remove_desired(&mut self, key: &K) {
        if self.desired.remove(key).is_some() {
            self.touch(key.clone());
        }
    }

    /// This value is there.
    pub fn set_actual(&mut self, key: K, value: V) {
        self.actual.insert(key.clone(), value);
        self.touch(key);
    }

    /// Nothing is there any more.
    pub fn remove_actual(&mut self, key: &K) {
        if self.actual.remove(key).is_some() {
            self.touch(key.clone());
        }
    }

    /// This is all that is there.
    pub fn replace_actual(&mut self, actual: BTreeMap<K, V>) {
        let before = std::mem::replace(&mut self.actual, actual);
        let keys: BTreeSet<K> =
            before.keys().chain(self.actual.keys()).chain(self.desired.keys()).cloned().collect();
        keys.into_iter().for_each(|key| self.touch(key));
    }

    /// What is wanted.
    pub fn desired(&self) -> &BTreeMap<K, V> {
        &self.desired
    }

    /// What is there, as far as is known.
    pub fn actual(&self) -> &BTreeMap<K, V> {
        &self.actual
    }

    /// What is wanted and is not there, or is there differently: key, wanted value, present value. In order of keys.
    pub fn updates(&self) -> impl Iterator<Item = (&K, &V, Option<&V>)> {
        self.updates.iter().filter_map(|key| Some((key, self.desired.get(key)?, self.actual.get(key))))
    }

    /// What is there and is not wanted, in order of keys.
    pub fn deletions(&self) -> impl Iterator<Item = (&K, &V)> {
        self.deletions.iter().filter_map(|key| Some((key, self.actual.get(key)?)))
    }

    /// Whether what is there is what is wanted.
    pub fn is_settled(&self) -> bool {
        self.updates.is_empty() && self.deletions.is_empty()
    }

    fn touch(&mut self, key: K) {
        let (update, deletion) = match (self.desired.get(&key), self.actual.get(&key)) {
            (Some(desired), Some(actual)) => (!(self.same)(desired, actual), false),
            (Some(_), None) => (true, false),
            (None, actual) => (false, actual.is_some()),
        };
        for (set, differs) in [(&mut self.updates, update), (&mut self.deletions, deletion)] {
            if differs {
                set.insert(key.clone());
            } else {
                set.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Update = (u8, u8, Option<u8>);

    fn difference(tracker: &DeltaTracker<u8, u8>) -> (Vec<Update>, Vec<u8>) {
        let updates = tracker.updates().map(|(key, want, have)| (*key, *want, have.copied())).collect();
        (updates, tracker.deletions().map(|(key, _)| *key).collect())
    }

    #[test]
    fn the_difference_follows_both_sides() {
        let mut tracker = DeltaTracker::default();
        tracker.set_desired(1, 10);
        tracker.set_desired(2, 20);
        tracker.replace_actual([(2, 99), (3, 30)].into());
        assert_eq!(difference(&tracker), (vec![(1, 10, None), (2, 20, Some(99))], vec![3]));
        tracker.set_actual(1, 10);
        tracker.set_desired(3, 30);
        tracker.remove_desired(&2);
        assert_eq!(difference(&tracker), (vec![], vec![2]));
        tracker.remove_actual(&2);
        assert!(tracker.is_settled());
    }

    #[test]
    fn it_agrees_with_a_comparison_of_the_maps_after_any_operations() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut tracker = DeltaTracker::default();
            for _ in 0..100 {
                let (key, value) = (random.u8(..8), random.u8(..3));
                match random.u8(..5) {
                    0 => tracker.set_desired(key, value),
                    1 => tracker.remove_desired(&key),
                    2 => tracker.set_actual(key, value),
                    3 => tracker.remove_actual(&key),
                    _ => tracker.replace_actual((0..key).map(|key| (key, value)).collect()),
                }
                let updates: Vec<_> = tracker
                    .desired()
                    .iter()
                    .filter(|(key, value)| tracker.actual().get(key) != Some(value))
                    .map(|(key, value)| (*key, *value, tracker.actual().get(key).copied()))
                    .collect();
                let gone = tracker.actual().keys().filter(|key| !tracker.desired().contains_key(key));
                assert_eq!(difference(&tracker), (updates, gone.copied().collect()), "seed {seed}");
            }
        }
    }
}

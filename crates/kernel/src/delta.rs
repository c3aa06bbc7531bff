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

/// What has to be done about a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Difference {
    Update,
    Deletion,
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
        let difference = self.difference(Some(&value), self.actual.get(&key));
        self.note(&key, difference);
        self.desired.insert(key, value);
    }

    /// Wants nothing there any more.
    pub fn remove_desired(&mut self, key: &K) {
        if self.desired.remove(key).is_some() {
            self.touch(key);
        }
    }

    /// This value is there.
    pub fn set_actual(&mut self, key: K, value: V) {
        let difference = self.difference(self.desired.get(&key), Some(&value));
        self.note(&key, difference);
        self.actual.insert(key, value);
    }

    /// Nothing is there any more.
    pub fn remove_actual(&mut self, key: &K) {
        if self.actual.remove(key).is_some() {
            self.touch(key);
        }
    }

    /// This is all that is there.
    pub fn replace_actual(&mut self, actual: BTreeMap<K, V>) {
        let before = std::mem::replace(&mut self.actual, actual);
        let keys: BTreeSet<K> =
            before.keys().chain(self.actual.keys()).chain(self.desired.keys()).cloned().collect();
        keys.iter().for_each(|key| self.touch(key));
    }

    /// What is wanted.
    pub fn desired(&self) -> &BTreeMap<K, V> {
        &self.desired
    }

    /// What is there, as far as is known.
    pub fn actual(&self) -> &BTreeMap<K, V> {
        &self.actual
    }

    /// What is wanted under a key, and what is there, if they differ.
    pub fn update(&self, key: &K) -> Option<(&V, Option<&V>)> {
        let (want, have) = (self.desired.get(key)?, self.actual.get(key));
        (self.difference(Some(want), have) == Some(Difference::Update)).then_some((want, have))
    }

    /// What is wanted and is not there, or is there differently: key, wanted value, present value. In order of keys.
    pub fn updates(&self) -> impl Iterator<Item = (&K, &V, Option<&V>)> {
        self.updates.iter().filter_map(|key| self.update(key).map(|(want, have)| (key, want, have)))
    }

    /// What is there and is not wanted, in order of keys.
    pub fn deletions(&self) -> impl Iterator<Item = (&K, &V)> {
        self.deletions.iter().filter_map(|key| Some((key, self.actual.get(key)?)))
    }

    /// Whether what is there is what is wanted.
    pub fn is_settled(&self) -> bool {
        self.updates.is_empty() && self.deletions.is_empty()
    }

    fn touch(&mut self, key: &K) {
        let difference = self.difference(self.desired.get(key), self.actual.get(key));
        self.note(key, difference);
    }

    fn difference(&self, desired: Option<&V>, actual: Option<&V>) -> Option<Difference> {
        match (desired, actual) {
            (Some(desired), Some(actual)) if (self.same)(desired, actual) => None,
            (Some(_), _) => Some(Difference::Update),
            (None, actual) => actual.map(|_| Difference::Deletion),
        }
    }

    fn note(&mut self, key: &K, difference: Option<Difference>) {
        let sets = [(&mut self.updates, Difference::Update), (&mut self.deletions, Difference::Deletion)];
        for (set, kind) in sets {
            if difference == Some(kind) {
                set.insert(key.clone());
            } else {
                set.remove(key);
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

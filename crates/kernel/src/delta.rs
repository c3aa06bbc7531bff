//! What is wanted beside what is there, and the difference kept up to date.

use std::collections::{BTreeMap, BTreeSet};

/// Two maps, desired and actual, and what in the second is too much. What is missing in it, or different, is told key by key:
/// who changes what is wanted knows where.
#[derive(Debug, Clone)]
pub struct DeltaTracker<K, V> {
    desired: BTreeMap<K, V>,
    actual: BTreeMap<K, V>,
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
        Self { desired: BTreeMap::new(), actual: BTreeMap::new(), deletions: BTreeSet::new(), same }
    }

    /// Wants this value.
    pub fn set_desired(&mut self, key: K, value: V) {
        self.deletions.remove(&key);
        self.desired.insert(key, value);
    }

    /// Wants nothing there any more.
    pub fn remove_desired(&mut self, key: &K) {
        if self.desired.remove(key).is_some() && self.actual.contains_key(key) {
            self.deletions.insert(key.clone());
        }
    }

    /// This value is there; gives what was there.
    pub fn set_actual(&mut self, key: K, value: V) -> Option<V> {
        if !self.desired.contains_key(&key) {
            self.deletions.insert(key.clone());
        }
        self.actual.insert(key, value)
    }

    /// Nothing is there any more.
    pub fn remove_actual(&mut self, key: &K) {
        self.actual.remove(key);
        self.deletions.remove(key);
    }

    /// This is all that is there.
    pub fn replace_actual(&mut self, actual: BTreeMap<K, V>) {
        let unwanted = actual.keys().filter(|key| !self.desired.contains_key(key));
        self.deletions = unwanted.cloned().collect();
        self.actual = actual;
    }

    /// What is wanted.
    pub fn desired(&self) -> &BTreeMap<K, V> {
        &self.desired
    }

    /// What is there, as far as is known.
    pub fn actual(&self) -> &BTreeMap<K, V> {
        &self.actual
    }

    /// What is wanted under a key and is not there, or is there differently: wanted value, present value.
    pub fn update(&self, key: &K) -> Option<(&V, Option<&V>)> {
        let (want, have) = (self.desired.get(key)?, self.actual.get(key));
        (!have.is_some_and(|have| (self.same)(want, have))).then_some((want, have))
    }

    /// What is there and is not wanted, in order of keys.
    pub fn deletions(&self) -> impl Iterator<Item = (&K, &V)> {
        self.deletions.iter().filter_map(|key| Some((key, self.actual.get(key)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Update = (u8, u8, Option<u8>);

    fn difference(tracker: &DeltaTracker<u8, u8>) -> (Vec<Update>, Vec<u8>) {
        let update = |key: &u8| tracker.update(key).map(|(want, have)| (*key, *want, have.copied()));
        (
            tracker.desired().keys().filter_map(update).collect(),
            tracker.deletions().map(|(key, _)| *key).collect(),
        )
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
        assert_eq!(difference(&tracker), (vec![], vec![]));
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
                    2 => drop(tracker.set_actual(key, value)),
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

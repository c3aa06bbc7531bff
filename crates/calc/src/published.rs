//! The stage between "what should be" and "what the dataplane has been told".

use std::collections::BTreeMap;

/// Objects by id: what was last handed on, and what has been set since. Only real differences come out, however often
/// and in whatever order an object was set in between.
#[derive(Debug)]
pub(crate) struct Published<K, V> {
    current: BTreeMap<K, V>,
    /// What the receiver has for each object that was set since the last drain.
    before: BTreeMap<K, Option<V>>,
}

/// What a drain found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Differences<K, V> {
    /// Objects that are new or differ, by id.
    pub(crate) updates: Vec<(K, V)>,
    /// Objects that are gone, by id.
    pub(crate) removals: Vec<K>,
}

impl<K, V> Default for Published<K, V> {
    fn default() -> Self {
        Self { current: BTreeMap::new(), before: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> Published<K, V> {
    /// What the object is to be; `None`: it is not to be.
    pub(crate) fn set(&mut self, id: K, value: Option<V>) {
        let previous = match value {
            Some(value) => self.current.insert(id.clone(), value),
            None => self.current.remove(&id),
        };
        self.before.entry(id).or_insert(previous);
    }

    /// Everything that differs from what was handed on before; it counts as handed on now.
    pub(crate) fn drain(&mut self) -> Differences<K, V> {
        let mut found = Differences { updates: Vec::new(), removals: Vec::new() };
        for (id, before) in std::mem::take(&mut self.before) {
            match (before, self.current.get(&id)) {
                (Some(before), Some(now)) if before == *now => {}
                (_, Some(now)) => found.updates.push((id, now.clone())),
                (Some(_), None) => found.removals.push(id),
                (None, None) => {}
            }
        }
        found
    }

    pub(crate) fn len(&self) -> usize {
        self.current.len() + self.before.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(published: &mut Published<u8, char>) -> (Vec<(u8, char)>, Vec<u8>) {
        let Differences { updates, removals } = published.drain();
        (updates, removals)
    }

    #[test]
    fn only_the_last_value_since_the_last_drain_comes_out() {
        let mut published = Published::default();
        published.set(1, Some('a'));
        published.set(1, Some('b'));
        assert_eq!(drain(&mut published), (vec![(1, 'b')], vec![]));
        published.set(1, None);
        published.set(1, Some('b'));
        assert_eq!(drain(&mut published), (vec![], vec![]));
        published.set(1, None);
        assert_eq!(drain(&mut published), (vec![], vec![1]));
        assert_eq!(published.len(), 0);
    }

    #[test]
    fn what_came_and_went_between_drains_is_never_mentioned() {
        let mut published = Published::default();
        published.set(1, Some('a'));
        published.set(1, None);
        assert_eq!(drain(&mut published), (vec![], vec![]));
    }
}

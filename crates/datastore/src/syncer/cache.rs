//! What a syncer has delivered, so that it can tell what is different.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use api::Key;

use super::{Decode, Update};
use crate::{Entry, Event};

/// The rows that exist, each with a hash of its text: the receiver has the rows, so keeping the text here would double
/// the memory. Two texts of one row have the same hash once in 2^64 times, with a key that is new in each process.
#[derive(Debug, Default)]
pub(super) struct Cache {
    rows: BTreeMap<Key, u64>,
    hasher: RandomState,
}

impl Cache {
    /// Takes a whole listing: deletes of what is no longer there, then what is new or different, in key order. Rows are
    /// decoded as the iterator is drawn from; it has to be drawn to its end.
    pub(super) fn replace<R: Decode>(&mut self, entries: Vec<Entry>) -> impl Iterator<Item = Update<R>> {
        let listed: BTreeSet<&Key> = entries.iter().map(|entry| &entry.key).collect();
        let gone: Vec<Key> = self.rows.keys().filter(|key| !listed.contains(key)).cloned().collect();
        let deletes = gone.into_iter().filter_map(|key| self.remove(key)).collect::<Vec<_>>();
        deletes.into_iter().chain(entries.into_iter().filter_map(|entry| self.put(entry)))
    }

    /// Takes what a watch told: of each row the last event.
    pub(super) fn apply<R: Decode>(&mut self, events: Vec<Event>) -> Vec<Update<R>> {
        last_of_each_row(events)
            .into_iter()
            .filter_map(|event| match event {
                Event::Put(entry) => self.put(entry),
                Event::Delete { key, .. } => self.remove(key),
            })
            .collect()
    }

    fn put<R: Decode>(&mut self, entry: Entry) -> Option<Update<R>> {
        let hash = self.hasher.hash_one(&entry.value);
        if self.rows.get(&entry.key) == Some(&hash) {
            return None;
        }
        let mut complain = |problem: String| {
            tracing::warn!(row = %entry.key, problem, "part of this row cannot be read; nothing is allowed by it");
        };
        let row = match R::decode(&entry.key, &entry.value, &mut complain) {
            Ok(row) => Some(Arc::new(row)),
            Err(reason) => {
                tracing::warn!(row = %entry.key, reason, "this row is malformed, and treated as if it did not exist");
                None
            }
        };
        self.rows.insert(entry.key.clone(), hash);
        Some(Update { key: entry.key, row })
    }

    fn remove<R>(&mut self, key: Key) -> Option<Update<R>> {
        self.rows.remove(&key).map(|_| Update { key, row: None })
    }
}

/// Drops events that a later one of the same row makes moot; the rest stay in order.
fn last_of_each_row(events: Vec<Event>) -> Vec<Event> {
    if events.len() < 2 {
        return events;
    }
    let mut seen = BTreeSet::new();
    let mut last: Vec<Event> =
        events.into_iter().rev().filter(|event| seen.insert(event.key().clone())).collect();
    last.reverse();
    last
}

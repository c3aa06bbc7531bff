//! The in-process engine: the semantics of [`Store`] in a page, for tests, dry runs and simulations.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::Key;

use crate::{Entry, Event, Listing, Revision, Scope, Store, StoreError, Watch};

/// A datastore in this process's memory. Clones share the same rows.
///
/// It keeps all history until [`Memory::compact`] is called.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Row>,
    /// Events with revisions `compacted + 1 ..= revision`, without gaps.
    log: VecDeque<Event>,
    revision: u64,
    compacted: u64,
}

#[derive(Debug, Clone)]
struct Row {
    value: String,
    revision: u64,
}

impl Memory {
    /// An empty datastore at revision 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the history up to and including a revision: a watch from an older one is answered with
    /// [`StoreError::Compacted`], now and if it is running. Rows stay. A revision of the future compacts to the
    /// present.
    pub fn compact(&self, up_to: &Revision) {
        let mut state = self.lock();
        let up_to = up_to.0.parse().unwrap_or(0).min(state.revision);
        while state.compacted < up_to {
            state.log.pop_front();
            state.compacted += 1;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No operation panics between two changes that belong together, so the state behind a poisoned lock is sound.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The row, if it is there and has the revision that the caller expects.
    fn current(&self, key: &Key, expected: Option<&Revision>) -> Result<Entry, StoreError> {
        let row = self.rows.get(key).ok_or_else(|| StoreError::NotFound(key.clone()))?;
        let entry = row.entry(key);
        match expected {
            Some(expected) if *expected != entry.revision => {
                Err(StoreError::Conflict { key: key.clone(), expected: expected.clone() })
            }
            _ => Ok(entry),
        }
    }

    fn put(&mut self, key: &Key, value: &str) -> Entry {
        self.revision += 1;
        let row = Row { value: value.to_owned(), revision: self.revision };
        let entry = row.entry(key);
        self.rows.insert(key.clone(), row);
        self.log.push_back(Event::Put(entry.clone()));
        entry
    }

    fn remove(&mut self, key: &Key) {
        self.revision += 1;
        self.rows.remove(key);
        self.log.push_back(Event::Delete { key: key.clone(), revision: self.revision.to_string().into() });
    }

    /// Whether events after `from` can be told in full.
    fn check_history(&self, from: u64) -> Result<(), StoreError> {
        if (self.compacted..=self.revision).contains(&from) {
            return Ok(());
        }
        Err(StoreError::Compacted {
            requested: from.to_string().into(),
            oldest: self.compacted.to_string().into(),
        })
    }
}

impl Row {
    fn entry(&self, key: &Key) -> Entry {
        Entry { key: key.clone(), value: self.value.clone(), revision: self.revision.to_string().into() }
    }
}

impl Store for Memory {
    fn get(&self, key: &Key) -> Result<Entry, StoreError> {
        self.lock().current(key, None)
    }

    fn list_scopes(&self, scopes: &[Scope]) -> Result<Listing, StoreError> {
        let state = self.lock();
        let wanted = |key: &Key| scopes.iter().any(|scope| scope.contains(key));
        let entries =
            state.rows.iter().filter(|(key, _)| wanted(key)).map(|(key, row)| row.entry(key)).collect();
        Ok(Listing { entries, revision: state.revision.to_string().into() })
    }

    fn create(&self, key: &Key, value: &str) -> Result<Entry, StoreError> {
        let mut state = self.lock();
        if state.rows.contains_key(key) {
            return Err(StoreError::AlreadyExists(key.clone()));
        }
        let entry = state.put(key, value);
        drop(state);
        self.shared.changed.notify_all();
        Ok(entry)
    }

    fn update(&self, key: &Key, value: &str, expected: Option<&Revision>) -> Result<Entry, StoreError> {
        let mut state = self.lock();
        state.current(key, expected)?;
        let entry = state.put(key, value);
        drop(state);
        self.shared.changed.notify_all();
        Ok(entry)
    }

    fn delete(&self, key: &Key, expected: Option<&Revision>) -> Result<Entry, StoreError> {
        let mut state = self.lock();
        let entry = state.current(key, expected)?;
        state.remove(key);
        drop(state);
        self.shared.changed.notify_all();
        Ok(entry)
    }

    fn watch(&self, scopes: &[Scope], from: &Revision) -> Result<Box<dyn Watch>, StoreError> {
        let state = self.lock();
        let position = from.0.parse().map_err(|_| StoreError::Compacted {
            requested: from.clone(),
            oldest: state.compacted.to_string().into(),
        })?;
        state.check_history(position)?;
        Ok(Box::new(MemoryWatch { store: self.clone(), scopes: scopes.to_vec(), position }))
    }
}

struct MemoryWatch {
    store: Memory,
    scopes: Vec<Scope>,
    /// The revision up to which everything has been told.
    position: u64,
}

impl MemoryWatch {
    /// Takes what has happened since `position`.
    fn take(&mut self, state: &State) -> Result<Vec<Event>, StoreError> {
        state.check_history(self.position)?;
        let new = usize::try_from(self.position - state.compacted).unwrap_or(usize::MAX);
        self.position = state.revision;
        let wanted = |event: &&Event| self.scopes.iter().any(|scope| scope.contains(event.key()));
        Ok(state.log.iter().skip(new).filter(wanted).cloned().collect())
    }
}

impl Watch for MemoryWatch {
    fn next(&mut self, timeout: Duration) -> Result<Vec<Event>, StoreError> {
        let deadline = Instant::now() + timeout;
        let store = self.store.clone();
        let mut state = store.lock();
        loop {
            let events = self.take(&state)?;
            let left = deadline.saturating_duration_since(Instant::now());
            if !events.is_empty() || left.is_zero() {
                return Ok(events);
            }
            let waited = store.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

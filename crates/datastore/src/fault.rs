//! A store whose operations a test can watch, hold up, and make fail, for models of crashes and of races.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use api::Key;

use crate::{Entry, Event, Listing, Revision, Scope, Store, StoreError, Watch};

/// What is done to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Store::get`].
    Get,
    /// [`Store::list`] and [`Store::list_scopes`].
    List,
    /// [`Store::create`].
    Create,
    /// [`Store::update`].
    Update,
    /// [`Store::delete`].
    Delete,
    /// [`Store::watch`].
    Watch,
    /// [`Watch::next`] of a watch of this store.
    Next,
}

impl Operation {
    /// Whether it can change a row.
    pub fn is_write(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Delete)
    }
}

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The inner store has not seen the operation. [`Outcome::Fail`]: it never will.
    Before,
    /// The inner store has answered. [`Outcome::Fail`]: the caller does not learn the answer, though it was done, as
    /// when a process or a connection dies between the write and its acknowledgement.
    After,
}

/// One call of the hook.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Before or after the operation.
    pub moment: Moment,
    /// Which operation.
    pub operation: Operation,
    /// The row, for operations on one row.
    pub key: Option<&'a Key>,
    /// How many operations this wrapper has seen, this one included: the first is 1.
    pub nth: u64,
    /// The same for writes only: the first write is 1. For a read, the number of writes so far.
    pub nth_write: u64,
}

/// What a hook decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Go on.
    Go,
    /// The caller gets [`StoreError::Unavailable`] (temporary).
    Fail,
}

type Hook = dyn Fn(&Call<'_>) -> Outcome + Send + Sync;

/// A store that calls a hook before and after each operation of another one.
///
/// The hook runs on the caller's thread and may block: a scheduler in a test can so let several hosts take turns
/// between any two operations. Clones share the hook and the counters.
#[derive(Clone)]
pub struct FaultStore<S> {
    inner: S,
    hooks: Hooks,
}

#[derive(Clone)]
struct Hooks {
    hook: Arc<Hook>,
    operations: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
}

impl Hooks {
    fn run<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let nth = self.operations.fetch_add(1, Ordering::SeqCst) + 1;
        let new_writes = u64::from(operation.is_write());
        let nth_write = self.writes.fetch_add(new_writes, Ordering::SeqCst) + new_writes;
        let ask = |moment| match (self.hook)(&Call { moment, operation, key, nth, nth_write }) {
            Outcome::Go => Ok(()),
            Outcome::Fail => Err(injected(operation, moment)),
        };
        ask(Moment::Before)?;
        let answer = work();
        ask(Moment::After)?;
        answer
    }
}

impl<S: Store> FaultStore<S> {
    /// Wraps a store.
    pub fn new(inner: S, hook: impl Fn(&Call<'_>) -> Outcome + Send + Sync + 'static) -> Self {
        let hooks = Hooks { hook: Arc::new(hook), operations: Arc::default(), writes: Arc::default() };
        Self { inner, hooks }
    }

    /// A caller that crashes just before its `n`-th write (from 1): that write and every later operation fail, and
    /// none reaches the inner store.
    pub fn crash_before_write(inner: S, n: u64) -> Self {
        Self::crash_when(inner, move |call| call.moment == Moment::Before && is_write(call, n))
    }

    /// A caller that crashes just after its `n`-th write (from 1): that write is done, but the caller gets no answer
    /// to it, and every later operation fails without reaching the inner store.
    pub fn crash_after_write(inner: S, n: u64) -> Self {
        Self::crash_when(inner, move |call| call.moment == Moment::After && is_write(call, n))
    }

    /// Everything fails from the first call for which `crash` says so.
    fn crash_when(inner: S, crash: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static) -> Self {
        let crashed = AtomicBool::new(false);
        Self::new(inner, move |call| {
            if crash(call) {
                crashed.store(true, Ordering::SeqCst);
            }
            if crashed.load(Ordering::SeqCst) { Outcome::Fail } else { Outcome::Go }
        })
    }

    /// The store beneath.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// How many writes have been tried through this wrapper and its clones.
    pub fn writes(&self) -> u64 {
        self.hooks.writes.load(Ordering::SeqCst)
    }
}

fn is_write(call: &Call<'_>, n: u64) -> bool {
    call.operation.is_write() && call.nth_write == n
}

fn injected(operation: Operation, moment: Moment) -> StoreError {
    let done = match moment {
        Moment::Before => "before it was done",
        Moment::After => "after it was done",
    };
    StoreError::Unavailable {
        location: "fault injection".to_owned(),
        reason: format!("a test made {operation:?} fail {done}"),
        temporary: true,
    }
}

impl<S: Store> Store for FaultStore<S> {
    fn get(&self, key: &Key) -> Result<Entry, StoreError> {
        self.hooks.run(Operation::Get, Some(key), || self.inner.get(key))
    }

    fn list_scopes(&self, scopes: &[Scope]) -> Result<Listing, StoreError> {
        self.hooks.run(Operation::List, None, || self.inner.list_scopes(scopes))
    }

    fn create(&self, key: &Key, value: &str) -> Result<Entry, StoreError> {
        self.hooks.run(Operation::Create, Some(key), || self.inner.create(key, value))
    }

    fn update(&self, key: &Key, value: &str, expected: Option<&Revision>) -> Result<Entry, StoreError> {
        self.hooks.run(Operation::Update, Some(key), || self.inner.update(key, value, expected))
    }

    fn delete(&self, key: &Key, expected: Option<&Revision>) -> Result<Entry, StoreError> {
        self.hooks.run(Operation::Delete, Some(key), || self.inner.delete(key, expected))
    }

    fn watch(&self, scopes: &[Scope], from: &Revision) -> Result<Box<dyn Watch>, StoreError> {
        let inner = self.hooks.run(Operation::Watch, None, || self.inner.watch(scopes, from))?;
        Ok(Box::new(FaultWatch { inner, hooks: self.hooks.clone() }))
    }
}

struct FaultWatch {
    inner: Box<dyn Watch>,
    hooks: Hooks,
}

impl Watch for FaultWatch {
    fn next(&mut self, timeout: Duration) -> Result<Vec<Event>, StoreError> {
        self.hooks.run(Operation::Next, None, || self.inner.next(timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    fn create(store: &impl Store, id: &str) -> Result<Entry, StoreError> {
        store.create(&Key::Handle(id.to_owned()), "{}")
    }

    fn handles(store: &Memory) -> usize {
        store.list(&Scope::Handles).expect("memory is always available").entries.len()
    }

    #[test]
    fn a_crash_before_the_second_write_leaves_one_row() {
        let memory = Memory::new();
        let store = FaultStore::crash_before_write(memory.clone(), 2);
        create(&store, "a").expect("the first write is done");
        store.get(&Key::Handle("a".into())).expect("reads go on until the crash");
        create(&store, "b").expect_err("crashed");
        store.get(&Key::Handle("a".into())).expect_err("dead callers read nothing");
        create(&store, "c").expect_err("dead callers write nothing");
        assert_eq!(handles(&memory), 1);
    }

    #[test]
    fn a_crash_after_the_second_write_leaves_two_rows() {
        let memory = Memory::new();
        let store = FaultStore::crash_after_write(memory.clone(), 2);
        create(&store, "a").expect("the first write is done");
        create(&store, "b").expect_err("done, but not acknowledged");
        store.get(&Key::Handle("a".into())).expect_err("dead callers read nothing");
        create(&store, "c").expect_err("dead callers write nothing");
        assert_eq!(handles(&memory), 2);
    }
}

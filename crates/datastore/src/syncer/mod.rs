//! The syncer: list and watch, turned into ordered updates and exactly one in-sync.
//!
//! A thread lists the scopes, delivers every row, then [`SyncEvent::InSync`], then what the watch tells. When the watch
//! ends, because the datastore went away or compacted what the watch had not yet told, it backs off, lists again and
//! delivers the difference, deletes included; in-sync is not said a second time, and never before a whole list was
//! delivered. Updates say what *is*: several changes of a row may arrive as one, a row whose text is the same as before
//! is not delivered again, and a row whose text does not decode does not exist (and is warned of). Of a policy that can be read in part the rest
//! opens nothing ([`Row::decode_closed`]).

mod cache;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use api::{Key, Row};

use crate::{Entry, Scope, Store, StoreError, Watch};
use cache::Cache;

/// What a syncer delivers. `R` is what rows are decoded to: [`Row`], or for the text itself [`String`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncEvent<R = Row> {
    /// These rows are now so. At most one update per row; deletes of rows that vanished while the datastore could not be
    /// watched come first. Never empty. What is there at the beginning comes in several.
    Updates(Vec<Update<R>>),
    /// All rows that there were at some moment have been delivered. Said once.
    InSync,
}

/// What a row is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update<R = Row> {
    /// Which row.
    pub key: Key,
    /// Its value; `None` if it does not exist, or is malformed.
    pub row: Option<Arc<R>>,
}

/// What the text of a row can be decoded to.
pub trait Decode: Sized + Send + Sync + 'static {
    /// Decodes the text under a key; tells `complain` what of it could not be used.
    ///
    /// # Errors
    /// Why nothing of it can be used, for the log.
    fn decode(key: &Key, text: &str, complain: &mut dyn FnMut(String)) -> Result<Self, String>;
}

/// Typed, as the key promises; what cannot be read of it opens nothing. `metadata.resource_version` is left empty: a row is
/// the same whichever write made it.
impl Decode for Row {
    fn decode(key: &Key, text: &str, complain: &mut dyn FnMut(String)) -> Result<Self, String> {
        let (row, problems) = Row::decode_closed(key, text).map_err(|error| error.violation.to_string())?;
        problems.iter().for_each(|problem| complain(problem.to_string()));
        Ok(row)
    }
}

/// The text as it is.
impl Decode for String {
    fn decode(_: &Key, text: &str, _: &mut dyn FnMut(String)) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// How a syncer is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncHealth {
    /// Whether [`SyncEvent::InSync`] has been delivered.
    pub in_sync: bool,
    /// Why the datastore cannot be listed or watched now; `None` if it can.
    pub trouble: Option<String>,
}

/// Tells how a syncer is doing, from any thread, also after its end.
#[derive(Debug, Clone, Default)]
pub struct SyncMonitor(Arc<Mutex<SyncHealth>>);

impl SyncMonitor {
    /// How it is doing now.
    pub fn health(&self) -> SyncHealth {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, change: impl FnOnce(&mut SyncHealth)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A running syncer: a thread, which ends when this is dropped or stopped.
#[derive(Debug)]
pub struct Syncer {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    monitor: SyncMonitor,
}

/// The first pause after trouble; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause after trouble.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a watch that has been quiet is waited for before the stop flag is looked at.
const TICK: Duration = Duration::from_millis(250);

/// Updates that are delivered at a time until all have been: a cluster's rows, decoded, are several times their text.
const FIRST_BATCH: usize = 512;

/// How long to wait for a full channel before the stop flag is looked at.
const CHANNEL_TICK: Duration = Duration::from_millis(2);

impl Syncer {
    /// Starts a syncer that calls `deliver` on its own thread until that returns [`ControlFlow::Break`].
    pub fn spawn<R: Decode>(
        store: Arc<dyn Store>,
        scopes: Vec<Scope>,
        mut deliver: impl FnMut(SyncEvent<R>) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        Self::start(store, scopes, move |event, _| deliver(event))
    }

    /// Starts a syncer that sends into a channel of `bound` events. When it is full the syncer waits, and what happens
    /// to a row meanwhile arrives as one update. It ends when the receiver is dropped.
    pub fn channel<R: Decode>(
        store: Arc<dyn Store>,
        scopes: Vec<Scope>,
        bound: usize,
    ) -> (Self, Receiver<SyncEvent<R>>) {
        let (sender, receiver) = mpsc::sync_channel(bound);
        let syncer = Self::start(store, scopes, move |mut event, stop: &AtomicBool| {
            while !stop.load(Ordering::Acquire) {
                match sender.try_send(event) {
                    Ok(()) => return ControlFlow::Continue(()),
                    Err(TrySendError::Disconnected(_)) => break,
                    Err(TrySendError::Full(back)) => event = back,
                }
                thread::park_timeout(CHANNEL_TICK);
            }
            ControlFlow::Break(())
        });
        (syncer, receiver)
    }

    fn start<R: Decode>(
        store: Arc<dyn Store>,
        scopes: Vec<Scope>,
        deliver: impl FnMut(SyncEvent<R>, &AtomicBool) -> ControlFlow<()> + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let monitor = SyncMonitor::default();
        let mut worker = Worker {
            store,
            scopes,
            deliver,
            stop: stop.clone(),
            monitor: monitor.clone(),
            cache: Cache::default(),
        };
        let thread = thread::Builder::new()
            .name("syncer".to_owned())
            .spawn(move || worker.run())
            .expect("a thread can be made at start-up, or nothing works");
        Self { thread: Some(thread), stop, monitor }
    }

    /// Tells how the syncer is doing.
    pub fn monitor(&self) -> SyncMonitor {
        self.monitor.clone()
    }

    /// Whether it has ended by itself: its receiver wants no more, or has panicked. Then nothing will be delivered any more.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the syncer, within a quarter of a second, and returns when nothing will be delivered any more.
    ///
    /// # Panics
    /// If `deliver` has panicked, with its panic.
    pub fn stop(mut self) {
        if let Err(panic) = self.end() {
            std::panic::resume_unwind(panic);
        }
    }

    fn end(&mut self) -> thread::Result<()> {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.thread().unpark();
        thread.join()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        if self.end().is_err() {
            tracing::error!("the syncer ended by a panic");
        }
    }
}

struct Worker<D> {
    store: Arc<dyn Store>,
    scopes: Vec<Scope>,
    deliver: D,
    stop: Arc<AtomicBool>,
    monitor: SyncMonitor,
    cache: Cache,
}

/// Why following the datastore ended.
enum End {
    /// Nobody wants more.
    Stopped,
    /// It has to be listed again.
    Trouble(StoreError),
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Trouble(error)
    }
}

impl<D> Worker<D> {
    fn run<R: Decode>(&mut self)
    where
        D: FnMut(SyncEvent<R>, &AtomicBool) -> ControlFlow<()>,
    {
        let mut pause = FIRST_PAUSE;
        while let End::Trouble(error) = self.follow(&mut pause) {
            self.report(&error);
            self.sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lists, then watches until something goes wrong. What works resets the pause.
    fn follow<R: Decode>(&mut self, pause: &mut Duration) -> End
    where
        D: FnMut(SyncEvent<R>, &AtomicBool) -> ControlFlow<()>,
    {
        let mut watch = match self.list() {
            Ok(watch) => watch,
            Err(end) => return end,
        };
        loop {
            if self.is_stopped() {
                return End::Stopped;
            }
            let events = match watch.next(TICK) {
                Ok(events) => events,
                Err(error) => return End::Trouble(error),
            };
            *pause = FIRST_PAUSE;
            let updates = self.cache.apply(events);
            if self.deliver(updates).is_break() {
                return End::Stopped;
            }
        }
    }

    /// Lists everything, delivers what is different, and returns the watch that goes on from there.
    fn list<R: Decode>(&mut self) -> Result<Box<dyn Watch>, End>
    where
        D: FnMut(SyncEvent<R>, &AtomicBool) -> ControlFlow<()>,
    {
        if self.is_stopped() {
            return Err(End::Stopped);
        }
        let listing = self.store.list_scopes(&self.scopes)?;
        // The watch before the delivery, which may take a while in which history could be compacted.
        let watch = self.store.watch(&self.scopes, &listing.revision)?;
        let in_sync = self.monitor.health().in_sync;
        let mut flow = self.deliver_listing(listing.entries, if in_sync { usize::MAX } else { FIRST_BATCH });
        if flow.is_continue() && !in_sync {
            flow = (self.deliver)(SyncEvent::InSync, &self.stop);
        }
        if flow.is_break() {
            return Err(End::Stopped);
        }
        self.monitor.set(|health| *health = SyncHealth { in_sync: true, trouble: None });
        Ok(watch)
    }

    /// Delivers what is different, so many updates at a time.
    fn deliver_listing<R: Decode>(&mut self, entries: Vec<Entry>, batch: usize) -> ControlFlow<()>
    where
        D: FnMut(SyncEvent<R>, &AtomicBool) -> ControlFlow<()>,
    {
        let mut updates = self.cache.replace(entries);
        loop {
            let some: Vec<_> = updates.by_ref().take(batch).collect();
            if some.is_empty() {
                return ControlFlow::Continue(());
            }
            (self.deliver)(SyncEvent::Updates(some), &self.stop)?;
        }
    }

    fn deliver<R: Decode>(&mut self, updates: Vec<Update<R>>) -> ControlFlow<()>
    where
        D: FnMut(SyncEvent<R>, &AtomicBool) -> ControlFlow<()>,
    {
        if updates.is_empty() {
            return ControlFlow::Continue(());
        }
        (self.deliver)(SyncEvent::Updates(updates), &self.stop)
    }

    fn report(&self, error: &StoreError) {
        if matches!(error, StoreError::Compacted { .. }) {
            tracing::info!(%error, "the watch fell behind; listing again");
            return;
        }
        let text = error.to_string();
        if self.monitor.health().trouble.as_ref() != Some(&text) {
            tracing::warn!(%error, "the datastore cannot be watched; what is known stays in force, and it is tried again");
        }
        self.monitor.set(|health| health.trouble = Some(text));
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn sleep(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.is_stopped() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }
}

//! Undoes changes that nobody has confirmed in time (`datastore::confirmation` has the whole).
//!
//! Each node watches; which of them undoes a change is decided by compare-and-swap. A node that starts finds in the
//! datastore what waits.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use api::{Key, Row, Timestamp};
use datastore::confirmation::{self, Moment, Undone, Watchlist};
use datastore::{Scope, Store, StoreError, Update};
use ipam::Ipam;

/// How long to sleep when nothing waits.
const IDLE: Duration = Duration::from_secs(3600);
/// How often the clocks are looked at while something waits.
const LOOK: Duration = Duration::from_millis(250);
/// The pause after the datastore could not be used.
const RETRY: Duration = Duration::from_secs(1);

/// The rows that it follows.
pub(crate) fn scope() -> Scope {
    Scope::Confirmations
}

/// Where those rows go. Nothing is undone after the last of these has gone.
#[derive(Debug, Clone)]
pub(crate) struct Rows(Sender<Vec<Update>>);

impl Rows {
    /// Takes out the rows that are followed here, and hands them on.
    pub(crate) fn take(&self, updates: &mut Vec<Update>) {
        let ours = |update: &mut Update| matches!(update.key, Key::Confirmation(_));
        let rows: Vec<Update> = updates.extract_if(.., ours).collect();
        if !rows.is_empty() {
            // A thread that has panicked undoes no more; the other nodes do.
            let _ = self.0.send(rows);
        }
    }
}

/// Starts the thread.
///
/// # Errors
/// No thread.
pub(crate) fn start(node: &str, store: Arc<dyn Store>) -> io::Result<Rows> {
    let (sender, rows) = channel();
    let mut keeper = Keeper {
        node: node.to_owned(),
        ipam: Ipam::new(store.clone()),
        store,
        list: Watchlist::default(),
        told: BTreeSet::new(),
    };
    std::thread::Builder::new().name("confirmation".to_owned()).spawn(move || keeper.run(&rows))?;
    Ok(Rows(sender))
}

struct Keeper {
    node: String,
    store: Arc<dyn Store>,
    ipam: Ipam,
    list: Watchlist,
    /// Troubles that have been logged, so that each is logged once.
    told: BTreeSet<String>,
}

impl Keeper {
    fn run(&mut self, rows: &Receiver<Vec<Update>>) {
        let mut wait = IDLE;
        loop {
            match rows.recv_timeout(wait) {
                Ok(updates) => updates.into_iter().for_each(|update| self.on_update(&update)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            wait = match self.work(now()) {
                Ok(()) if self.list.is_empty() => IDLE,
                Ok(()) => LOOK,
                Err(error) => {
                    if self.told.insert(error.to_string()) {
                        tracing::warn!(%error, "a change that was not confirmed cannot be undone yet; it is tried again");
                    }
                    RETRY
                }
            };
        }
    }

    fn on_update(&mut self, update: &Update) {
        let Key::Confirmation(id) = &update.key else { return };
        let row = update.row.as_deref().and_then(|row| match row {
            Row::Confirmation(row) => Some(row.clone()),
            _ => None,
        });
        self.list.on_row(id, row, now());
    }

    fn work(&mut self, now: Moment) -> Result<(), StoreError> {
        for id in self.list.due(now) {
            // `None`: it was confirmed, or another node undoes it; its row comes.
            if let Some(undone) = confirmation::undo(&*self.store, &id, &self.node, Timestamp::now)? {
                self.report(&id, &undone);
            }
        }
        self.list.forgettable(now).iter().try_for_each(|id| confirmation::forget(&*self.store, id))
    }

    fn report(&self, id: &str, undone: &Undone) {
        let names = |keys: &mut dyn Iterator<Item = &Key>| {
            keys.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let restored = names(&mut undone.restored.iter().map(|row| &row.key));
        tracing::warn!(change = id, restored, "a change was not confirmed in time, and is undone");
        if !undone.kept.is_empty() {
            let kept = names(&mut undone.kept.iter());
            tracing::warn!(
                change = id,
                kept,
                "of the change that is undone, somebody else has changed these since; they stay"
            );
        }
        for pool in undone.deleted_pools() {
            if let Err(error) = self.ipam.release_pool_affinities(pool) {
                tracing::warn!(%pool, %error, "the pool is gone, but its blocks are not all released");
            }
        }
    }
}

fn now() -> Moment {
    Moment { wall: Timestamp::now(), steady: Instant::now() }
}

#[cfg(test)]
mod tests {
    use api::{IPPool, IPPoolSpec, Metadata};
    use datastore::confirmation::{Change, Terms};
    use datastore::resources::Resources;
    use datastore::{Memory, Syncer};

    use super::*;

    #[test]
    fn a_node_undoes_what_it_finds_at_its_start_when_its_time_is_over() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let pool =
            IPPool::new(Metadata::named("p"), IPPoolSpec::new("10.0.0.0/16".parse().expect("a network")));
        let resources = Resources::new(&*store);
        let terms = |id: &str, allowed_secs| Terms {
            id: id.to_owned(),
            allowed_secs,
            author: String::new(),
            connection: String::new(),
        };
        let mut change = Change::new(&*store, terms("c", 1));
        let planned = resources.plan(&pool.into()).expect("a good pool").expect("it is new");
        change.note(planned.replaced(), false, Timestamp::now()).expect("memory is always available");
        resources.carry_out(planned).expect("memory is always available");

        let rows = start("node-1", store.clone()).expect("a thread");
        let _syncer = Syncer::spawn(store.clone(), vec![scope()], move |mut event| {
            if let datastore::SyncEvent::Updates(updates) = &mut event {
                rows.take(updates);
            }
            std::ops::ControlFlow::Continue(())
        });
        let undone = || {
            let row = confirmation::list(&*store).expect("memory is always available").remove(0);
            matches!(row.phase, api::ConfirmationPhase::Undone { by, .. } if by == "node-1")
        };
        testkit::eventually("the change is undone", undone);
        assert!(resources.get(api::Kind::IPPool, None, "p").expect_err("it is gone").is_not_found());
    }
}

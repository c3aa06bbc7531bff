//! What every engine has to do: a test suite that each of them passes.
//!
//! A backend writes a function that makes a fresh [`Subject`] and calls [`store_suite!`](crate::store_suite) with it,
//! in a module of its tests:
//!
//! ```
//! # use std::sync::Arc;
//! mod memory {
//!     fn subject() -> datastore::suite::Subject {
//!         let memory = datastore::Memory::new();
//!         let compacted = memory.clone();
//!         datastore::suite::Subject::new(memory.clone(), memory, move |up_to| compacted.compact(up_to))
//!     }
//!     datastore::store_suite!(subject);
//! }
//! ```
//!
//! Each case is a function here, a test there, and panics when the engine misbehaves.

mod rows;
mod watches;
mod writers;

use std::any::Any;
use std::time::{Duration, Instant};

use api::{Key, Kind};

use crate::{Entry, Event, Revision, Scope, Store, Watch};

pub use rows::*;
pub use watches::*;
pub use writers::*;

/// An engine under test, over data that no other subject shares.
pub struct Subject {
    store: Box<dyn Store>,
    other: Box<dyn Store>,
    compact: Box<dyn Fn(&Revision)>,
    _keep: Option<Box<dyn Any>>,
}

impl Subject {
    /// Two clients of the same, empty data (of different processes, connections or servers, as far as the engine has
    /// them), and the way to compact history up to and including a revision.
    pub fn new(
        store: impl Store + 'static,
        other: impl Store + 'static,
        compact: impl Fn(&Revision) + 'static,
    ) -> Self {
        Self { store: Box::new(store), other: Box::new(other), compact: Box::new(compact), _keep: None }
    }

    /// Keeps something alive as long as the subject: a temporary folder, a server process.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any) -> Self {
        self._keep = Some(Box::new(guard));
        self
    }
}

/// Makes a test of each case of [`suite`](crate::suite), given a function that makes a fresh
/// [`Subject`].
#[macro_export]
macro_rules! store_suite {
    ($subject:expr) => {
        $crate::store_suite! { @ $subject;
            a_created_row_reads_back
            a_row_is_not_created_twice
            missing_rows_are_not_found
            a_stale_revision_conflicts_and_changes_nothing
            without_a_revision_the_last_write_wins
            a_deleted_row_can_be_created_again
            every_write_has_a_revision_of_its_own
            values_are_any_unicode_text
            a_scope_lists_exactly_its_rows_in_key_order
            names_do_not_reach_into_other_scopes
            several_scopes_are_listed_once_at_one_revision
            large_lists_are_complete
            a_watch_continues_where_the_listing_ends
            a_watch_replays_history_in_order
            a_watch_tells_only_of_its_scopes
            a_watch_catches_up_over_many_events
            a_quiet_watch_times_out_empty
            a_watch_is_woken_by_another_client
            compaction_keeps_rows_and_later_history
            a_watch_from_compacted_history_is_refused
            a_running_watch_that_falls_behind_compaction_is_told
            a_watch_that_is_up_to_date_survives_compaction
            compaction_can_be_repeated
            a_revision_of_another_history_is_refused
            concurrent_increments_are_all_counted_and_all_told
            of_concurrent_creators_exactly_one_wins
            of_concurrent_deleters_exactly_one_wins
        }
    };
    (@ $subject:expr; $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::suite::$case(&$subject());
        }
    )*};
}

/// How long an engine may take for what should be immediate, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(20);

fn handle(id: &str) -> Key {
    Key::Handle(id.to_owned())
}

fn pool(name: &str) -> Key {
    Key::cluster(Kind::IPPool, name)
}

#[track_caller]
fn create(store: &dyn Store, key: &Key, value: &str) -> Entry {
    store.create(key, value).unwrap_or_else(|error| panic!("create {key}: {error}"))
}

#[track_caller]
fn update(store: &dyn Store, key: &Key, value: &str) -> Entry {
    store.update(key, value, None).unwrap_or_else(|error| panic!("update {key}: {error}"))
}

#[track_caller]
fn delete(store: &dyn Store, key: &Key) -> Entry {
    store.delete(key, None).unwrap_or_else(|error| panic!("delete {key}: {error}"))
}

#[track_caller]
fn get(store: &dyn Store, key: &Key) -> Entry {
    store.get(key).unwrap_or_else(|error| panic!("get {key}: {error}"))
}

#[track_caller]
fn list(store: &dyn Store, scopes: &[Scope]) -> crate::Listing {
    store.list_scopes(scopes).unwrap_or_else(|error| panic!("list {scopes:?}: {error}"))
}

#[track_caller]
fn watch(store: &dyn Store, scopes: &[Scope], from: &Revision) -> Box<dyn Watch> {
    store.watch(scopes, from).unwrap_or_else(|error| panic!("watch {scopes:?} from {from}: {error}"))
}

/// The next `count` events, and not one more that is there at the same time.
#[track_caller]
fn take(watch: &mut dyn Watch, count: usize) -> Vec<Event> {
    let deadline = Instant::now() + PATIENCE;
    let mut events = Vec::new();
    while events.len() < count {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{} of {count} events within {PATIENCE:?}: {events:?}", events.len());
        events.extend(watch.next(left).unwrap_or_else(|error| panic!("watch: {error}")));
    }
    assert_eq!(events.len(), count, "more events than there should be: {events:?}");
    events
}

/// Asserts that nothing more has happened.
#[track_caller]
fn assert_quiet(watch: &mut dyn Watch) {
    let events = watch.next(Duration::ZERO).unwrap_or_else(|error| panic!("watch: {error}"));
    assert_eq!(events, [], "nothing has happened that should be told");
}

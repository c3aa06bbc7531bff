//! Watches: order, completeness, scopes, compaction.

use std::time::{Duration, Instant};

use api::{Key, Kind};

use super::{PATIENCE, Subject, assert_quiet, create, delete, get, handle, list, pool, take, update, watch};
use crate::{Event, Revision, Scope, StoreError};

fn all() -> [Scope; 2] {
    [Scope::Handles, Scope::all(Kind::IPPool)]
}

/// Nothing that the listing has is told again, and nothing after it is left out.
pub fn a_watch_continues_where_the_listing_ends(subject: &Subject) {
    create(&subject.store, &handle("before"), "1");
    let listing = list(&subject.store, &all());
    let between = create(&subject.store, &handle("between"), "2");
    let mut watch = watch(&subject.store, &all(), &listing.revision);
    let after = create(&subject.other, &pool("after"), "3");
    assert_eq!(take(&mut *watch, 2), [Event::Put(between), Event::Put(after)]);
    assert_quiet(&mut *watch);
}

/// All that happened after a revision is told, each write by itself, in order, with the deletes.
pub fn a_watch_replays_history_in_order(subject: &Subject) {
    let start = list(&subject.store, &all()).revision;
    let a1 = create(&subject.store, &handle("a"), "1");
    let a2 = update(&subject.other, &handle("a"), "2");
    let b = create(&subject.store, &pool("b"), "3");
    delete(&subject.other, &handle("a"));
    let deleted = list(&subject.store, &all()).revision;
    let a3 = create(&subject.store, &handle("a"), "4");
    let events = [
        Event::Put(a1.clone()),
        Event::Put(a2.clone()),
        Event::Put(b),
        Event::Delete { key: handle("a"), revision: deleted },
        Event::Put(a3),
    ];
    assert_eq!(take(&mut *watch(&subject.store, &all(), &start), 5), events);
    assert_eq!(take(&mut *watch(&subject.other, &all(), &a1.revision), 4), events[1..]);
    assert_eq!(take(&mut *watch(&subject.store, &all(), &a2.revision), 3), events[2..]);
}

/// Other scopes' events are left out, and do not hold up those of its own.
pub fn a_watch_tells_only_of_its_scopes(subject: &Subject) {
    let start = list(&subject.store, &all()).revision;
    let one = Scope::Resources { kind: Kind::NetworkSet, namespace: Some("one".to_owned()) };
    let mut narrow = watch(&subject.store, &[one, Scope::IpamConfig], &start);
    create(&subject.other, &handle("h"), "{}");
    create(&subject.other, &Key::namespaced(Kind::NetworkSet, "one-more", "a"), "{}");
    create(&subject.other, &Key::namespaced(Kind::NetworkPolicy, "one", "a"), "{}");
    let set = create(&subject.other, &Key::namespaced(Kind::NetworkSet, "one", "a"), "{}");
    create(&subject.other, &pool("a"), "{}");
    let config = create(&subject.other, &Key::IpamConfig, "{}");
    delete(&subject.other, &pool("a"));
    assert_eq!(take(&mut *narrow, 2), [Event::Put(set), Event::Put(config)]);
    assert_quiet(&mut *narrow);
}

/// A watch from far back tells thousands of events, in order.
pub fn a_watch_catches_up_over_many_events(subject: &Subject) {
    let count = 2_500;
    let start = list(&subject.store, &all()).revision;
    create(&subject.store, &handle("h"), "0");
    for n in 1..count {
        update(&subject.store, &handle("h"), &n.to_string());
    }
    let events = take(&mut *watch(&subject.other, &all(), &start), count);
    for (n, event) in events.iter().enumerate() {
        let Event::Put(entry) = event else { panic!("{event:?}") };
        assert_eq!(entry.value, n.to_string());
    }
}

/// Without events a watch waits as long as it was told to, and stays usable.
pub fn a_quiet_watch_times_out_empty(subject: &Subject) {
    let start = list(&subject.store, &all()).revision;
    let mut watch = watch(&subject.store, &all(), &start);
    let timeout = Duration::from_millis(30);
    let begun = Instant::now();
    assert_eq!(watch.next(timeout).expect("a quiet watch is no error"), []);
    assert!(begun.elapsed() >= timeout, "it returned after {:?}", begun.elapsed());
    let entry = create(&subject.store, &handle("h"), "{}");
    assert_eq!(take(&mut *watch, 1), [Event::Put(entry)]);
}

/// A watch that sleeps is woken by a write of another client, long before its time-out.
pub fn a_watch_is_woken_by_another_client(subject: &Subject) {
    let start = list(&subject.store, &all()).revision;
    let mut watch = watch(&subject.store, &all(), &start);
    let (told, woken) = std::sync::mpsc::channel();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            for _ in 0..3 {
                let events = watch.next(PATIENCE * 2).expect("the watch goes on");
                told.send(events).expect("the test waits for it");
            }
        });
        for n in 0..3 {
            let entry = create(&subject.other, &handle(&format!("h{n}")), "{}");
            let events = woken.recv_timeout(PATIENCE).expect("the watch is woken");
            assert_eq!(events, [Event::Put(entry)]);
        }
    });
}

/// Compaction leaves rows and their revisions alone, and history after it.
pub fn compaction_keeps_rows_and_later_history(subject: &Subject) {
    let old = create(&subject.store, &handle("old"), "1");
    create(&subject.store, &handle("updated"), "1");
    let updated = update(&subject.store, &handle("updated"), "2");
    create(&subject.store, &handle("deleted"), "1");
    delete(&subject.store, &handle("deleted"));
    let listing = list(&subject.store, &all());
    let later = update(&subject.store, &handle("updated"), "3");
    (subject.compact)(&listing.revision);

    assert_eq!(listing.entries, [old.clone(), updated]);
    assert_eq!(get(&subject.other, &handle("old")), old);
    assert_eq!(list(&subject.store, &all()).entries, [old.clone(), later.clone()]);
    assert_eq!(take(&mut *watch(&subject.other, &all(), &listing.revision), 1), [Event::Put(later.clone())]);
    subject.store.update(&handle("old"), "2", Some(&old.revision)).expect("its revision is still good");
    (subject.compact)(&later.revision);
    assert_eq!(get(&subject.store, &handle("updated")), later);
}

/// History before the compacted revision is refused with the oldest revision that can be had, from which it goes on.
pub fn a_watch_from_compacted_history_is_refused(subject: &Subject) {
    let start = list(&subject.store, &all()).revision;
    let first = create(&subject.store, &handle("a"), "1");
    let second = update(&subject.store, &handle("a"), "2");
    let third = update(&subject.store, &handle("a"), "3");
    (subject.compact)(&second.revision);
    for requested in [start, first.revision] {
        for store in [&subject.store, &subject.other] {
            let error = store.watch(&all(), &requested).err().expect("that history is gone");
            let StoreError::Compacted { requested: named, oldest } = &error else { panic!("{error:?}") };
            assert_eq!((named, oldest), (&requested, &second.revision));
        }
    }
    assert_eq!(take(&mut *watch(&subject.store, &all(), &second.revision), 1), [Event::Put(third)]);
}

/// A watch whose next event was compacted away learns it, rather than skip it.
pub fn a_running_watch_that_falls_behind_compaction_is_told(subject: &Subject) {
    let start = list(&subject.store, &all()).revision;
    let mut watch = watch(&subject.store, &all(), &start);
    assert_quiet(&mut *watch);
    create(&subject.other, &handle("a"), "1");
    delete(&subject.other, &handle("a"));
    let end = list(&subject.store, &all()).revision;
    (subject.compact)(&end);
    let error = watch.next(PATIENCE).expect_err("its history is gone");
    let StoreError::Compacted { requested, oldest } = &error else { panic!("{error:?}") };
    assert_eq!((requested, oldest), (&start, &end));
}

/// Compaction of what a watch has told already does not end it.
pub fn a_watch_that_is_up_to_date_survives_compaction(subject: &Subject) {
    let start = list(&subject.store, &all()).revision;
    let mut watch = watch(&subject.store, &all(), &start);
    create(&subject.other, &handle("a"), "1");
    delete(&subject.other, &handle("a"));
    take(&mut *watch, 2);
    (subject.compact)(&list(&subject.store, &all()).revision);
    assert_quiet(&mut *watch);
    let entry = create(&subject.other, &handle("b"), "1");
    assert_eq!(take(&mut *watch, 1), [Event::Put(entry)]);
}

/// Each compaction drops what is superseded since, also of rows that an earlier one kept.
pub fn compaction_can_be_repeated(subject: &Subject) {
    create(&subject.store, &handle("a"), "0");
    for n in 1..=5 {
        let before = list(&subject.store, &all()).revision;
        (subject.compact)(&before);
        (subject.compact)(&before);
        let entry = update(&subject.store, &handle("a"), &n.to_string());
        let gone = create(&subject.store, &handle("b"), "x");
        delete(&subject.store, &handle("b"));
        let events = take(&mut *watch(&subject.other, &all(), &before), 3);
        assert_eq!(events[..2], [Event::Put(entry.clone()), Event::Put(gone)]);
        assert_eq!(list(&subject.other, &all()).entries, [entry]);
    }
}

/// A revision that this store never had is answered like one that is gone: with the remedy to list again.
pub fn a_revision_of_another_history_is_refused(subject: &Subject) {
    create(&subject.store, &handle("a"), "1");
    for requested in ["999999999", "not-a-revision", ""] {
        let error = subject.store.watch(&all(), &Revision::from(requested)).err().expect("no such revision");
        assert!(matches!(error, StoreError::Compacted { .. }), "{error:?}");
    }
}

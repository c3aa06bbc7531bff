//! Several writers at once.

use std::sync::Barrier;

use super::{Subject, create, get, handle, list, take, watch};
use crate::{Event, Scope, Store, StoreError};

const WRITERS: usize = 6;

/// Runs `work` on several threads at once, every other one through the second client, and returns what they returned.
fn at_once<T: Send>(subject: &Subject, work: impl Fn(usize, &dyn Store) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(WRITERS);
    let stores: [&dyn Store; 2] = [&*subject.store, &*subject.other];
    let run = |writer: usize| {
        barrier.wait();
        work(writer, stores[writer % 2])
    };
    let run = &run;
    std::thread::scope(|threads| {
        let running: Vec<_> = (0..WRITERS).map(|writer| threads.spawn(move || run(writer))).collect();
        running.into_iter().map(|thread| thread.join().expect("the writer did not panic")).collect()
    })
}

/// Counters incremented by compare-and-swap miss no increment, and a watch tells each, in order.
pub fn concurrent_increments_are_all_counted_and_all_told(subject: &Subject) {
    const EACH: usize = 50;
    create(&subject.store, &handle("counter"), "0");
    let start = list(&subject.store, &[Scope::Handles]).revision;
    at_once(subject, |_, store| {
        for _ in 0..EACH {
            increment(store);
        }
    });
    let total = WRITERS * EACH;
    assert_eq!(get(&subject.store, &handle("counter")).value, total.to_string());
    let events = take(&mut *watch(&subject.store, &[Scope::Handles], &start), total);
    for (n, event) in events.iter().enumerate() {
        let Event::Put(entry) = event else { panic!("{event:?}") };
        assert_eq!(entry.value, (n + 1).to_string());
    }
}

fn increment(store: &dyn Store) {
    // Each conflict means that another writer got on, so the bound is the number of all increments.
    for _ in 0..=WRITERS * 50 {
        let entry = get(store, &handle("counter"));
        let next = entry.value.parse::<usize>().expect("a number") + 1;
        match store.update(&handle("counter"), &next.to_string(), Some(&entry.revision)) {
            Ok(_) => return,
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => panic!("update: {error}"),
        }
    }
    panic!("more conflicts than writes");
}

/// The others are told that the row exists.
pub fn of_concurrent_creators_exactly_one_wins(subject: &Subject) {
    for round in 0..20 {
        let key = handle(&format!("h{round}"));
        let answers = at_once(subject, |writer, store| match store.create(&key, &writer.to_string()) {
            Ok(entry) => Some(entry),
            Err(StoreError::AlreadyExists(_)) => None,
            Err(error) => panic!("create: {error}"),
        });
        let winners: Vec<_> = answers.into_iter().flatten().collect();
        assert_eq!(winners, [get(&subject.store, &key)]);
    }
}

/// The others are told that the row does not exist.
pub fn of_concurrent_deleters_exactly_one_wins(subject: &Subject) {
    for round in 0..20 {
        let entry = create(&subject.store, &handle("h"), &round.to_string());
        let answers = at_once(subject, |_, store| match store.delete(&handle("h"), Some(&entry.revision)) {
            Ok(deleted) => Some(deleted),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => panic!("delete: {error}"),
        });
        assert_eq!(answers.into_iter().flatten().collect::<Vec<_>>(), [entry]);
    }
}

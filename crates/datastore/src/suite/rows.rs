//! Rows: reading, writing, conflicts, lists.

use api::{AffinityOwner, Key, Kind};
use ipnet::IpNet;

use super::{Subject, create, delete, get, handle, list, pool, update};
use crate::{Entry, Revision, Scope, StoreError};

/// What was created is what both clients read.
pub fn a_created_row_reads_back(subject: &Subject) {
    let entry = create(&subject.store, &pool("a"), r#"{"spec":{}}"#);
    assert_eq!((&entry.key, entry.value.as_str()), (&pool("a"), r#"{"spec":{}}"#));
    assert_eq!(get(&subject.store, &pool("a")), entry);
    assert_eq!(get(&subject.other, &pool("a")), entry);
    assert_eq!(list(&subject.other, &[Scope::all(Kind::IPPool)]).entries, [entry]);
}

/// A second create is refused, by whichever client, and changes nothing.
pub fn a_row_is_not_created_twice(subject: &Subject) {
    let entry = create(&subject.store, &pool("a"), "first");
    for store in [&subject.store, &subject.other] {
        let error = store.create(&pool("a"), "second").expect_err("it exists already");
        assert!(matches!(&error, StoreError::AlreadyExists(key) if *key == pool("a")), "{error:?}");
    }
    assert_eq!(get(&subject.store, &pool("a")), entry);
}

/// Get, update and delete of what is not there say so, with or without a revision, and make nothing.
pub fn missing_rows_are_not_found(subject: &Subject) {
    let elsewhere = create(&subject.store, &pool("b"), "{}");
    let revision = Some(&elsewhere.revision);
    let answers = [
        subject.store.get(&pool("a")),
        subject.store.update(&pool("a"), "{}", None),
        subject.store.update(&pool("a"), "{}", revision),
        subject.store.delete(&pool("a"), None),
        subject.store.delete(&pool("a"), revision),
    ];
    for answer in answers {
        let error = answer.expect_err("there is no such row");
        assert!(matches!(&error, StoreError::NotFound(key) if *key == pool("a")), "{error:?}");
    }
    assert_eq!(list(&subject.store, &[Scope::all(Kind::IPPool)]).entries, [elsewhere]);
}

/// Update and delete with a revision that is not the row's latest are refused, naming the row and the revision.
pub fn a_stale_revision_conflicts_and_changes_nothing(subject: &Subject) {
    let first = create(&subject.store, &pool("a"), "1");
    let second =
        subject.store.update(&pool("a"), "2", Some(&first.revision)).expect("nobody else has written");
    for stale in [first.revision, Revision::from("no-such-revision")] {
        let answers = [
            subject.other.update(&pool("a"), "3", Some(&stale)),
            subject.other.delete(&pool("a"), Some(&stale)),
        ];
        for answer in answers {
            let error = answer.expect_err("the revision is stale");
            let StoreError::Conflict { key, expected } = &error else { panic!("{error:?}") };
            assert_eq!((key, expected), (&pool("a"), &stale));
        }
    }
    assert_eq!(get(&subject.store, &pool("a")), second);
    let deleted = subject.other.delete(&pool("a"), Some(&second.revision)).expect("that is its revision");
    assert_eq!(deleted, second);
}

/// Update and delete without a revision are done whatever the row is.
pub fn without_a_revision_the_last_write_wins(subject: &Subject) {
    create(&subject.store, &handle("h"), "1");
    update(&subject.other, &handle("h"), "2");
    let last = update(&subject.store, &handle("h"), "3");
    assert_eq!(delete(&subject.other, &handle("h")), last);
    subject.store.get(&handle("h")).expect_err("deleted");
}

/// After a delete the key is free, and the new row is not mistaken for the old one.
pub fn a_deleted_row_can_be_created_again(subject: &Subject) {
    let old = create(&subject.store, &handle("h"), "same");
    delete(&subject.store, &handle("h"));
    let new = create(&subject.store, &handle("h"), "same");
    assert_ne!(old.revision, new.revision);
    let error = subject.store.delete(&handle("h"), Some(&old.revision)).expect_err("that was another row");
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    assert_eq!(get(&subject.store, &handle("h")), new);
}

/// Even a write that changes nothing gets a new revision, and a row's revision is that of its last write.
pub fn every_write_has_a_revision_of_its_own(subject: &Subject) {
    let mut revisions = vec![list(&subject.store, &[Scope::Handles]).revision];
    revisions.push(create(&subject.store, &handle("a"), "x").revision);
    revisions.push(update(&subject.store, &handle("a"), "x").revision);
    let a = update(&subject.store, &handle("a"), "x");
    revisions.push(a.revision.clone());
    revisions.push(create(&subject.store, &handle("b"), "x").revision);
    delete(&subject.store, &handle("b"));
    revisions.push(list(&subject.store, &[Scope::Handles]).revision);
    for (at, revision) in revisions.iter().enumerate() {
        assert!(!revisions[..at].contains(revision), "{revision} was given twice: {revisions:?}");
    }
    assert_eq!(get(&subject.store, &handle("a")), a);
}

/// Values come back as they went in, whatever characters, however long.
pub fn values_are_any_unicode_text(subject: &Subject) {
    let long = "0123456789abcdef".repeat(1 << 16);
    let values = [
        "",
        " ",
        "{\"a\": \"\\u0000\"}",
        "nul \0 inside",
        "'; DROP TABLE rows; --",
        "%s?1",
        "ünï\u{202e}cödé 🐢",
        &long,
    ];
    for (at, value) in values.into_iter().enumerate() {
        let key = handle(&format!("h{at}"));
        create(&subject.store, &key, value);
        assert!(get(&subject.other, &key).value == value, "value {at} was changed");
    }
    let listed = list(&subject.other, &[Scope::Handles]).entries;
    assert!(listed.iter().map(|entry| entry.value.as_str()).eq(values), "the list changed a value");
}

fn cidr(text: &str) -> IpNet {
    text.parse().expect("a valid CIDR")
}

fn affinity(owner: AffinityOwner, block: &str) -> Key {
    Key::BlockAffinity { owner, cidr: cidr(block) }
}

/// Rows of every scope: lists have exactly theirs, in the order of keys.
pub fn a_scope_lists_exactly_its_rows_in_key_order(subject: &Subject) {
    let host = |name: &str| AffinityOwner::Host(name.to_owned());
    let keys = [
        pool("b"),
        pool("a"),
        Key::cluster(Kind::IPAMConfiguration, "default"),
        Key::namespaced(Kind::NetworkPolicy, "one", "b"),
        Key::namespaced(Kind::NetworkPolicy, "one", "a"),
        Key::namespaced(Kind::NetworkPolicy, "two", "a"),
        Key::namespaced(Kind::NetworkSet, "one", "a"),
        Key::Block(cidr("10.0.0.64/26")),
        Key::Block(cidr("10.0.0.128/26")),
        Key::Block(cidr("fd00::/122")),
        affinity(host("node-1"), "10.0.0.64/26"),
        affinity(host("node-2"), "fd00::/122"),
        affinity(AffinityOwner::Virtual("node-1".to_owned()), "10.0.0.128/26"),
        handle("h"),
        Key::IpamConfig,
    ];
    let entries: Vec<Entry> = keys.iter().map(|key| create(&subject.store, key, &key.to_string())).collect();
    let one = Some("one".to_owned());
    let scopes = [
        Scope::all(Kind::IPPool),
        Scope::all(Kind::IPAMConfiguration),
        Scope::all(Kind::NetworkPolicy),
        Scope::Resources { kind: Kind::NetworkPolicy, namespace: one },
        Scope::all(Kind::NetworkSet),
        Scope::all(Kind::Profile),
        Scope::Blocks,
        Scope::BlockAffinities { host: None },
        Scope::BlockAffinities { host: Some("node-1".to_owned()) },
        Scope::BlockAffinities { host: Some("node-3".to_owned()) },
        Scope::Handles,
        Scope::IpamConfig,
    ];
    for scope in scopes {
        let mut expected: Vec<Entry> =
            entries.iter().filter(|entry| scope.contains(&entry.key)).cloned().collect();
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(list(&subject.store, std::slice::from_ref(&scope)).entries, expected, "{scope:?}");
        assert_eq!(subject.other.list(&scope).expect("available").entries, expected, "{scope:?}");
    }
}

/// Namespaces and hosts whose names begin alike, or have odd characters, are kept apart.
pub fn names_do_not_reach_into_other_scopes(subject: &Subject) {
    let names = ["a", "a-b", "a.b", "ab", "a/b", "a%2fb", "a0", "ä"];
    for name in names {
        create(&subject.store, &Key::namespaced(Kind::NetworkSet, name, "set"), name);
        create(&subject.store, &affinity(AffinityOwner::Host(name.to_owned()), "10.0.0.0/26"), name);
    }
    for name in names {
        let namespace = Some(name.to_owned());
        let sets = list(&subject.store, &[Scope::Resources { kind: Kind::NetworkSet, namespace }]).entries;
        let affinities =
            list(&subject.store, &[Scope::BlockAffinities { host: Some(name.to_owned()) }]).entries;
        for entries in [sets, affinities] {
            assert_eq!(entries.iter().map(|entry| entry.value.as_str()).collect::<Vec<_>>(), [name]);
        }
    }
    let sorted = list(&subject.store, &[Scope::all(Kind::NetworkSet)]).entries;
    assert!(sorted.is_sorted_by(|a, b| a.key < b.key), "not in key order: {sorted:?}");
    assert_eq!(sorted.len(), names.len());
}

/// Scopes that overlap or repeat list each row once, in key order over all.
pub fn several_scopes_are_listed_once_at_one_revision(subject: &Subject) {
    let keys = [
        handle("h"),
        Key::namespaced(Kind::NetworkSet, "one", "a"),
        Key::namespaced(Kind::NetworkSet, "two", "a"),
        pool("a"),
    ];
    let mut expected: Vec<Entry> = keys.iter().map(|key| create(&subject.store, key, "{}")).collect();
    expected.sort_by(|a, b| a.key.cmp(&b.key));
    let one = Scope::Resources { kind: Kind::NetworkSet, namespace: Some("one".to_owned()) };
    let scopes =
        [Scope::Handles, one, Scope::all(Kind::NetworkSet), Scope::all(Kind::IPPool), Scope::Handles];
    let listing = list(&subject.store, &scopes);
    assert_eq!(listing.entries, expected);
    assert_eq!(listing.revision, list(&subject.other, &scopes).revision, "nothing was written in between");
    assert_eq!(list(&subject.store, &[]).entries, []);
}

/// A list of thousands of rows has them all.
pub fn large_lists_are_complete(subject: &Subject) {
    let count = 3_000;
    let value = "v".repeat(300);
    for n in 0..count {
        create(&subject.store, &handle(&format!("h{n:05}")), &value);
    }
    let entries = list(&subject.other, &[Scope::Handles]).entries;
    assert_eq!(entries.len(), count);
    for (n, entry) in entries.iter().enumerate() {
        assert_eq!((&entry.key, &entry.value), (&handle(&format!("h{n:05}")), &value));
    }
}

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use api::{Kind, Resource};
use serde_json::json;

use super::*;
use crate::resources::{ResourceError, Resources};
use crate::{Call, FaultStore, Memory, Moment as CallMoment, Outcome};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn terms(id: &str) -> Terms {
    let connection = "10.0.0.9 50000 10.0.0.1 22".to_owned();
    Terms { id: id.to_owned(), allowed_secs: 60, author: "ann".to_owned(), connection }
}

fn resource(kind: &str, name: &str, spec: serde_json::Value) -> Resource {
    let value =
        json!({ "apiVersion": api::API_VERSION, "kind": kind, "metadata": { "name": name }, "spec": spec });
    Resource::from_value(&value).expect("a resource")
}

/// A tier, a policy in it, and a pool that becomes another; all of it is to be confirmed.
fn file() -> Vec<Resource> {
    vec![
        resource("Tier", "hosts", json!({ "order": 5 })),
        resource("GlobalNetworkPolicy", "p", json!({ "tier": "hosts", "types": ["Ingress"] })),
        resource("IPPool", "pool", json!({ "cidr": "10.0.0.0/16", "vxlanMode": "Always" })),
    ]
}

/// A datastore with a pool in it.
fn before() -> Memory {
    let memory = Memory::new();
    let pool = resource("IPPool", "pool", json!({ "cidr": "10.0.0.0/16" }));
    Resources::new(&memory).create(pool).expect("a new pool");
    memory
}

/// What calicoctl does.
fn apply(store: &dyn Store, id: &str, file: &[Resource], now: Timestamp) -> Result<(), ConfirmError> {
    let mut change = Change::new(store, terms(id));
    let resources = Resources::new(store);
    for resource in file {
        let planned = resources.plan(resource).map_err(unwrap_store)?;
        let Some(planned) = planned else { continue };
        change.note(planned.replaced(), false, now)?;
        resources.carry_out(planned).map_err(unwrap_store)?;
        change.written()?;
    }
    Ok(())
}

fn unwrap_store(error: ResourceError) -> StoreError {
    match error {
        ResourceError::Store(error) => error,
        other => panic!("{other}"),
    }
}

/// All rows of users, by key, without their revisions.
fn rows(store: &Memory) -> Vec<(String, String)> {
    let scopes: Vec<_> = Kind::ALL.iter().map(|kind| Scope::all(*kind)).collect();
    let entries = store.list_scopes(&scopes).expect("memory is always available").entries;
    entries.into_iter().map(|entry| (entry.key.to_string(), entry.value)).collect()
}

fn state(store: &Memory, id: &str) -> Option<ConfirmationPhase> {
    read(store, id).expect("memory is always available").map(|(row, _)| row.phase)
}

#[test]
fn what_is_not_confirmed_is_put_back_to_the_letter() {
    let store = before();
    let old = rows(&store);
    apply(&store, "c", &file(), at(100)).unwrap();
    assert_eq!(rows(&store).len(), 3);
    assert_eq!(list(&store).unwrap()[0].deadline, at(160));
    let undone = undo(&store, "c", "node-1", || at(161)).unwrap().expect("it is ours to undo");
    assert_eq!(rows(&store), old);
    let keys: Vec<String> = undone.restored.iter().map(|row| row.key.to_string()).collect();
    assert_eq!(keys, ["IPPool pool", "GlobalNetworkPolicy p", "Tier hosts"], "the other way round");
    assert_eq!(undone.kept, []);
    let error = confirm(&store, "c", "").unwrap_err().to_string();
    assert_eq!(
        error,
        "change c was not confirmed in time: node-1 put back what was before, at 1970-01-01T00:02:41Z"
    );
    assert_eq!(undo(&store, "c", "node-2", || at(162)).unwrap(), None, "once is enough");
    forget(&store, "c").unwrap();
    assert_eq!(state(&store, "c"), None);
}

#[test]
fn what_is_confirmed_over_another_connection_stays() {
    let store = before();
    apply(&store, "c", &file(), at(100)).unwrap();
    let new = rows(&store);
    let same = confirm(&store, "c", &terms("c").connection).unwrap_err();
    assert!(matches!(same, ConfirmError::SameConnection(_)), "{same}");
    confirm(&store, "c", "10.0.0.9 50001 10.0.0.1 22").unwrap();
    assert_eq!(undo(&store, "c", "node-1", || at(999)).unwrap(), None);
    assert_eq!(rows(&store), new);
    assert!(matches!(confirm(&store, "c", ""), Err(ConfirmError::Unknown(_))));
}

#[test]
fn what_somebody_else_has_changed_since_is_kept_and_said() {
    let store = before();
    apply(&store, "c", &file(), at(100)).unwrap();
    let theirs = resource("IPPool", "pool", json!({ "cidr": "10.0.0.0/16", "disabled": true }));
    Resources::new(&store).apply(&theirs).unwrap();
    let undone = undo(&store, "c", "node-1", || at(161)).unwrap().unwrap();
    assert_eq!(undone.kept, [Key::cluster(Kind::IPPool, "pool")]);
    assert_eq!(undone.restored.len(), 2);
    let Resource::IPPool(pool) = Resources::new(&store).get(Kind::IPPool, None, "pool").unwrap() else {
        panic!("no pool")
    };
    assert!(pool.spec.disabled);
    let error = confirm(&store, "c", "").unwrap_err().to_string();
    assert!(error.ends_with("(but not IPPool pool, which somebody else has changed since)"), "{error}");
}

#[test]
fn a_status_that_was_written_meanwhile_is_no_change_of_the_users() {
    let store = before();
    apply(&store, "c", &file(), at(100)).unwrap();
    let key = Key::cluster(Kind::IPPool, "pool");
    let entry = store.get(&key).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&entry.value).unwrap();
    value["status"] = json!({ "conditions": [{ "type": "Allocatable", "status": "True" }] });
    store.update(&key, &value.to_string(), None).unwrap();
    assert_eq!(undo(&store, "c", "node-1", || at(161)).unwrap().unwrap().kept, []);
    let now: serde_json::Value = serde_json::from_str(&store.get(&key).unwrap().value).unwrap();
    assert_eq!((&now["status"], &now["spec"]["vxlanMode"]), (&value["status"], &json!("Never")));
}

#[test]
fn an_author_that_dies_between_any_two_writes_leaves_nothing_that_is_not_undone() {
    let old = rows(&before());
    let dies_at = |write: u64, moment| {
        let store = before();
        let dying = FaultStore::new(store.clone(), move |call: &Call<'_>| {
            match call.operation.is_write() && call.moment == moment && call.nth_write >= write {
                true => Outcome::Fail,
                false => Outcome::Go,
            }
        });
        let outcome = apply(&dying, "c", &file(), at(100));
        undo(&store, "c", "node-1", || at(161)).unwrap();
        // The pool's identity is random: its name and shape are what is compared.
        assert_eq!(rows(&store).len(), old.len(), "died at write {write}, {moment:?}");
        let pool = Resources::new(&store).get(Kind::IPPool, None, "pool").unwrap();
        assert_eq!(pool.to_value()["spec"]["vxlanMode"], json!("Never"));
        outcome.is_ok()
    };
    for moment in [CallMoment::Before, CallMoment::After] {
        let survived = (1..20).find(|write| dies_at(*write, moment));
        assert_eq!(survived, Some(7), "a note and a write for each of three resources");
    }
}

#[test]
fn a_node_that_dies_while_it_undoes_is_followed_by_another_after_its_claim() {
    for write in 1..=5 {
        let store = before();
        let old = rows(&store);
        apply(&store, "c", &file(), at(100)).unwrap();
        let dying = FaultStore::new(store.clone(), move |call: &Call<'_>| {
            match call.moment == CallMoment::After && call.nth_write >= write {
                true => Outcome::Fail,
                false => Outcome::Go,
            }
        });
        undo(&dying, "c", "node-1", || at(160)).unwrap_err();
        if write < 5 {
            assert_eq!(undo(&store, "c", "node-2", || at(189)).unwrap(), None, "node-1 has its time");
            undo(&store, "c", "node-2", || at(190)).unwrap().expect("node-1 had its time");
        }
        assert_eq!(rows(&store), old, "died at write {write}");
        assert!(matches!(state(&store, "c"), Some(ConfirmationPhase::Undone { .. })));
        // The same process goes on with its own claim at once.
        apply(&store, "d", &file(), at(300)).unwrap();
        let dying = FaultStore::new(store.clone(), move |call: &Call<'_>| {
            match call.moment == CallMoment::Before && call.nth_write == 2 {
                true => Outcome::Fail,
                false => Outcome::Go,
            }
        });
        undo(&dying, "d", "node-1", || at(360)).unwrap_err();
        undo(&store, "d", "node-1", || at(361)).unwrap().expect("it is its own");
        assert_eq!(rows(&store), old);
    }
}

#[test]
fn of_many_nodes_and_a_confirmation_one_wins_and_all_is_old_or_all_is_new() {
    for round in 0..50 {
        let store = before();
        let old = rows(&store);
        apply(&store, "c", &file(), at(100)).unwrap();
        let new = rows(&store);
        let (undone, confirmed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for node in 0..4 {
                let (store, undone) = (&store, &undone);
                scope.spawn(move || {
                    let done = undo(store, "c", &format!("node-{node}"), || at(160)).unwrap();
                    undone.fetch_add(usize::from(done.is_some()), Ordering::SeqCst);
                });
            }
            scope.spawn(|| {
                confirmed.fetch_add(usize::from(confirm(&store, "c", "").is_ok()), Ordering::SeqCst)
            });
        });
        let (undone, confirmed) = (undone.into_inner(), confirmed.into_inner());
        assert_eq!(undone + confirmed, 1, "round {round}");
        assert_eq!(rows(&store), if undone == 1 { old } else { new }, "round {round}");
    }
}

#[test]
fn a_second_change_of_the_same_row_has_to_wait() {
    let store = before();
    apply(&store, "c", &file(), at(100)).unwrap();
    let other = [resource(
        "IPPool",
        "pool",
        json!({ "cidr": "10.0.0.0/16", "ipipMode": "Always", "vxlanMode": "Never" }),
    )];
    let error = apply(&store, "d", &other, at(110)).unwrap_err().to_string();
    assert!(error.starts_with("IPPool pool is part of change c, which waits"), "{error}");
    confirm(&store, "c", "").unwrap();
    apply(&store, "d", &other, at(120)).unwrap();
}

#[test]
fn an_author_that_is_too_slow_learns_that_it_is_over() {
    let store = before();
    let mut change = Change::new(&store, terms("c"));
    let resources = Resources::new(&store);
    let planned = resources.plan(&file()[0]).unwrap().unwrap();
    change.note(planned.replaced(), false, at(100)).unwrap();
    undo(&store, "c", "node-1", || at(160)).unwrap();
    let error = change.note(planned.replaced(), false, at(170)).unwrap_err();
    assert!(matches!(error, ConfirmError::Undone { .. }), "{error}");
}

#[test]
fn what_an_author_writes_after_it_was_undone_is_put_back_by_the_author() {
    let end = |store: &Memory, how: u8| match how {
        0 => drop(undo(store, "c", "node-1", || at(160)).unwrap()),
        1 => drop(claim(store, "c", "node-1", at(160)).unwrap()),
        _ => {
            undo(store, "c", "node-1", || at(160)).unwrap();
            forget(store, "c").unwrap();
        }
    };
    for how in 0..3 {
        // The pool is changed, the tier is new.
        for resource in [&file()[2], &file()[0]] {
            let store = before();
            let old = rows(&store);
            let (mut change, resources) = (Change::new(&store, terms("c")), Resources::new(&store));
            let planned = resources.plan(resource).unwrap().unwrap();
            change.note(planned.replaced(), false, at(100)).unwrap();
            end(&store, how);
            resources.carry_out(planned).unwrap();
            assert_ne!(rows(&store), old);
            let error = change.written().unwrap_err();
            let expected = match how {
                0 => matches!(error, ConfirmError::Undone { .. }),
                1 => matches!(error, ConfirmError::Undoing { .. }),
                _ => matches!(error, ConfirmError::Unknown(_)),
            };
            assert!(expected, "{how}: {error}");
            assert_eq!(rows(&store), old, "{how}: {}", resource.key());
        }
    }
}

#[test]
fn a_change_is_due_at_its_deadline_or_after_the_time_that_it_was_allowed_whatever_the_clocks_say() {
    let steady = Instant::now();
    let moment = |wall, secs| Moment { wall: at(wall), steady: steady + Duration::from_secs(secs) };
    let row = |phase| Confirmation {
        id: "c".to_owned(),
        deadline: at(160),
        allowed_secs: 60,
        author: String::new(),
        connection: String::new(),
        changes: Vec::new(),
        phase,
    };
    let mut list = Watchlist::default();
    list.on_row("c", Some(row(ConfirmationPhase::Waiting)), moment(100, 0));
    assert!(list.due(moment(159, 59)).is_empty());
    assert_eq!(list.due(moment(160, 59)), ["c"]);
    assert_eq!(list.due(moment(20, 60)), ["c"], "the clock on the wall was set back");
    let undoing = ConfirmationPhase::Undoing { by: "node-2".to_owned(), since: at(160) };
    list.on_row("c", Some(row(undoing)), moment(160, 60));
    assert!(list.due(moment(189, 89)).is_empty());
    assert_eq!(list.due(moment(190, 90)), ["c"], "node-2 has not come to an end");
    let undone = ConfirmationPhase::Undone { by: "node-2".to_owned(), at: at(161), kept: Vec::new() };
    list.on_row("c", Some(row(undone)), moment(161, 61));
    assert!(list.due(moment(9999, 9999)).is_empty() && list.forgettable(moment(3000, 3000)).is_empty());
    assert_eq!(list.forgettable(moment(161 + 3600, 61 + 3600)), ["c"]);
    list.on_row("c", None, moment(0, 0));
    assert!(list.is_empty());
}

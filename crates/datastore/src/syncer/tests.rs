use std::sync::atomic::AtomicUsize;

use api::Kind;

use super::*;
use crate::{Call, FaultStore, Memory, Moment, Operation, Outcome};

const PATIENCE: Duration = Duration::from_secs(20);

fn handle(id: &str) -> Key {
    Key::Handle(id.to_owned())
}

fn scopes() -> Vec<Scope> {
    vec![Scope::Handles]
}

fn is(id: &str, value: &str) -> Update<String> {
    Update { key: handle(id), row: Some(Arc::new(value.to_owned())) }
}

fn is_gone(id: &str) -> Update<String> {
    Update { key: handle(id), row: None }
}

fn start<R: Decode>(store: impl Store + 'static) -> (Syncer, Receiver<SyncEvent<R>>) {
    Syncer::channel(Arc::new(store), scopes(), 16)
}

#[track_caller]
fn next<R>(events: &Receiver<SyncEvent<R>>) -> SyncEvent<R> {
    events.recv_timeout(PATIENCE).expect("the syncer delivers")
}

fn put(memory: &Memory, id: &str, value: &str) {
    match memory.create(&handle(id), value) {
        Err(StoreError::AlreadyExists(_)) => memory.update(&handle(id), value, None).expect("it exists"),
        answer => answer.expect("memory is always available"),
    };
}

/// Fails every operation that `dead` names, while the switch is on.
fn faulty(
    memory: &Memory,
    dead: &'static [Operation],
) -> (FaultStore<Memory>, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (switch, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (on, count) = (switch.clone(), failed.clone());
    let store = FaultStore::new(memory.clone(), move |call: &Call<'_>| {
        if call.moment == Moment::Before && dead.contains(&call.operation) && on.load(Ordering::SeqCst) {
            count.fetch_add(1, Ordering::SeqCst);
            return Outcome::Fail;
        }
        Outcome::Go
    });
    (store, switch, failed)
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true within {PATIENCE:?}");
        thread::yield_now();
    }
}

#[test]
fn rows_come_first_then_in_sync_then_changes() {
    let memory = Memory::new();
    put(&memory, "b", "1");
    put(&memory, "a", "1");
    let (syncer, events) = start(memory.clone());
    assert_eq!(next(&events), SyncEvent::Updates(vec![is("a", "1"), is("b", "1")]));
    assert_eq!(next(&events), SyncEvent::InSync);
    put(&memory, "a", "2");
    assert_eq!(next(&events), SyncEvent::Updates(vec![is("a", "2")]));
    memory.delete(&handle("a"), None).expect("it exists");
    assert_eq!(next(&events), SyncEvent::Updates(vec![is_gone("a")]));
    assert_eq!(syncer.monitor().health(), SyncHealth { in_sync: true, trouble: None });
    syncer.stop();
    assert!(events.recv().is_err(), "nothing is delivered after the stop");
}

#[test]
fn an_empty_datastore_is_in_sync_at_once() {
    let (_syncer, events) = start::<String>(Memory::new());
    assert_eq!(next(&events), SyncEvent::InSync);
}

#[test]
fn in_sync_is_not_invented_while_the_datastore_is_away() {
    let memory = Memory::new();
    put(&memory, "a", "1");
    let (store, away, failed) = faulty(&memory, &[Operation::List]);
    away.store(true, Ordering::SeqCst);
    let (syncer, events) = start(store);
    wait_until(|| failed.load(Ordering::SeqCst) >= 3);
    assert!(events.try_recv().is_err(), "nothing is known yet");
    let health = syncer.monitor().health();
    assert!(!health.in_sync);
    assert!(health.trouble.is_some_and(|trouble| trouble.contains("fault injection")));
    away.store(false, Ordering::SeqCst);
    assert_eq!(next(&events), SyncEvent::Updates(vec![is("a", "1")]));
    assert_eq!(next(&events), SyncEvent::InSync);
}

#[test]
fn after_an_outage_only_the_difference_is_delivered_and_no_second_in_sync() {
    let memory = Memory::new();
    for id in ["changed", "deleted", "same"] {
        put(&memory, id, "1");
    }
    let (store, away, failed) = faulty(&memory, &[Operation::Next, Operation::List, Operation::Watch]);
    let (syncer, events) = start(store);
    next(&events);
    assert_eq!(next(&events), SyncEvent::InSync);
    away.store(true, Ordering::SeqCst);
    wait_until(|| failed.load(Ordering::SeqCst) >= 1);
    put(&memory, "changed", "2");
    put(&memory, "new", "1");
    memory.delete(&handle("deleted"), None).expect("it exists");
    wait_until(|| failed.load(Ordering::SeqCst) >= 3);
    away.store(false, Ordering::SeqCst);
    assert_eq!(
        next(&events),
        SyncEvent::Updates(vec![is_gone("deleted"), is("changed", "2"), is("new", "1")])
    );
    put(&memory, "last", "1");
    assert_eq!(next(&events), SyncEvent::Updates(vec![is("last", "1")]));
    wait_until(|| syncer.monitor().health() == SyncHealth { in_sync: true, trouble: None });
}

#[test]
fn a_receiver_that_falls_behind_compaction_gets_the_deletes_too() {
    let memory = Memory::new();
    put(&memory, "deleted", "1");
    put(&memory, "kept", "1");
    // Without room in the channel, the syncer waits in the middle of its delivery, its watch already open.
    let (_syncer, events) = Syncer::channel::<String>(Arc::new(memory.clone()), scopes(), 0);
    assert_eq!(next(&events), SyncEvent::Updates(vec![is("deleted", "1"), is("kept", "1")]));
    memory.delete(&handle("deleted"), None).expect("it exists");
    put(&memory, "kept", "2");
    memory.compact(&memory.list(&Scope::Handles).expect("available").revision);
    assert_eq!(next(&events), SyncEvent::InSync);
    assert_eq!(next(&events), SyncEvent::Updates(vec![is_gone("deleted"), is("kept", "2")]));
}

#[test]
fn a_row_written_with_the_same_text_is_not_delivered_again() {
    let memory = Memory::new();
    put(&memory, "a", "1");
    let (_syncer, events) = start(memory.clone());
    next(&events);
    assert_eq!(next(&events), SyncEvent::InSync);
    put(&memory, "a", "1");
    put(&memory, "b", "1");
    assert_eq!(next(&events), SyncEvent::Updates(vec![is("b", "1")]));
}

#[test]
fn many_changes_of_a_row_arrive_as_its_last() {
    let mut cache = Cache::default();
    let events = |memory: &Memory| {
        let mut watch = memory.watch(&scopes(), &"0".into()).expect("nothing is compacted");
        watch.next(Duration::ZERO).expect("the watch is new")
    };
    let memory = Memory::new();
    put(&memory, "a", "1");
    put(&memory, "b", "1");
    put(&memory, "gone", "1");
    put(&memory, "a", "2");
    memory.delete(&handle("gone"), None).expect("it exists");
    assert_eq!(cache.apply(events(&memory)), [is("b", "1"), is("a", "2")]);
    assert_eq!(cache.apply::<String>(events(&memory)), [], "the same again changes nothing");
}

#[test]
fn a_malformed_row_does_not_exist_until_it_is_mended() {
    let memory = Memory::new();
    let set = |namespace: &str| Key::namespaced(Kind::NetworkSet, namespace, "set");
    let text = |net: &str| {
        format!(
            r#"{{"apiVersion": "projectcalico.org/v3", "kind": "NetworkSet", "metadata": {{}}, "spec": {{"nets": [{net}]}}}}"#
        )
    };
    let updated = |row: Option<&str>| {
        let row = row.map(|text| Arc::new(Row::decode(&set("a"), text).expect("a valid row")));
        SyncEvent::Updates(vec![Update { key: set("a"), row }])
    };
    let (good, better) = (text("\"10.0.0.0/8\""), text("\"10.0.0.0/16\""));
    memory.create(&set("a"), &good).expect("new");
    let scopes = vec![Scope::all(Kind::NetworkSet)];
    let (_syncer, events) = Syncer::channel::<Row>(Arc::new(memory.clone()), scopes, 16);
    assert_eq!(next(&events), updated(Some(&good)));
    assert_eq!(next(&events), SyncEvent::InSync);
    for malformed in ["not JSON", r#"{"metadata": 7, "spec": {}}"#] {
        memory.update(&set("a"), malformed, None).expect("there");
        assert_eq!(next(&events), updated(None), "{malformed}");
    }
    memory.update(&set("a"), &better, None).expect("there");
    assert_eq!(next(&events), updated(Some(&better)));
}

#[test]
fn a_syncer_whose_receiver_does_not_take_anything_still_stops() {
    let memory = Memory::new();
    put(&memory, "a", "1");
    let (syncer, events) = Syncer::channel::<String>(Arc::new(memory), scopes(), 0);
    syncer.stop();
    assert!(events.recv().is_err());
}

#[test]
fn a_syncer_ends_when_its_receiver_is_gone() {
    let memory = Memory::new();
    let (syncer, events) = start::<String>(memory.clone());
    assert_eq!(next(&events), SyncEvent::InSync);
    drop(events);
    put(&memory, "a", "1");
    wait_until(|| syncer.has_ended());
}

#[test]
fn a_callback_can_end_the_syncer() {
    let memory = Memory::new();
    let (told, heard) = mpsc::channel();
    let syncer = Syncer::spawn::<String>(Arc::new(memory), scopes(), move |event| {
        told.send(event).expect("the test waits");
        ControlFlow::Break(())
    });
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(SyncEvent::InSync));
    assert!(heard.recv_timeout(PATIENCE).is_err(), "the callback was dropped with its thread");
    syncer.stop();
}

#[test]
fn a_policy_of_a_newer_version_arrives_with_what_opens_nothing_in_place_of_what_is_not_known() {
    let memory = Memory::new();
    let key = Key::cluster(Kind::GlobalNetworkPolicy, "p");
    let text =
        r#"{"metadata":{},"spec":{"selector":"all()","ingress":[{"action":"Audit"},{"action":"Allow"}]}}"#;
    memory.create(&key, text).expect("memory is always available");
    let scopes = vec![Scope::all(Kind::GlobalNetworkPolicy)];
    let (_syncer, events) = Syncer::channel::<Row>(Arc::new(memory), scopes, 16);
    let SyncEvent::Updates(updates) = next(&events) else { panic!("no updates") };
    let Some(Row::Resource(api::Resource::GlobalNetworkPolicy(policy))) = updates[0].row.as_deref() else {
        panic!("{updates:?}")
    };
    let rules: Vec<_> =
        policy.spec.ingress.iter().map(|rule| (rule.action, rule.unreadable.is_some())).collect();
    assert_eq!(rules, [(api::Action::Deny, true), (api::Action::Allow, false)]);
}

//! A store that fails once, at each call in turn: what a failed request leaves behind.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::IpamHandle;
use api::Row;
use datastore::{FaultStore, Memory, Moment, Outcome, Store};
use ipam::{AutoAssign, Ipam, IpamError};
use support::Setup;

/// A store that fails its `n`-th call, before it is done.
fn failing_once(inner: &Memory, n: u64) -> (Arc<dyn Store>, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let seen = calls.clone();
    let store = FaultStore::new(inner.clone(), move |call| {
        let is_due = call.moment == Moment::Before && seen.fetch_add(1, Ordering::SeqCst) + 1 == n;
        if is_due { Outcome::Fail } else { Outcome::Go }
    });
    (Arc::new(store), calls)
}

fn request() -> AutoAssign {
    AutoAssign { num4: 6, num6: 1, handle: Some("pod".to_owned()), ..AutoAssign::new("node-1") }
}

#[test]
fn a_request_that_fails_at_any_call_keeps_no_address() {
    for n in 1.. {
        let memory = Setup::small(1).store();
        let (store, calls) = failing_once(&memory, n);
        let outcome = Ipam::new(store).auto_assign(&request());
        if calls.load(Ordering::SeqCst) < n {
            assert_eq!(outcome.unwrap().addresses().count(), 7);
            assert!(n > 20, "six addresses in two blocks, and one more, cost more calls than {n}");
            return;
        }
        assert!(matches!(outcome, Err(IpamError::Store(_))), "call {n}: {outcome:?}");
        let ipam = Ipam::new(Arc::new(memory));
        assert_eq!(ipam.assignments().unwrap(), [], "call {n}");
        ipam.recover(&ipam.leaks().unwrap()).unwrap();
        assert_eq!(ipam.leaks().unwrap(), [], "call {n}");
    }
}

#[test]
fn when_one_family_fails_the_other_is_given_back() {
    let memory = Setup::small(1).store();
    // A dead operation has counted an address that is not there.
    let blocks = [("fd00::/127".parse().unwrap(), 1)].into();
    let handle = Row::Handle(IpamHandle { blocks, ..IpamHandle::new("vm") });
    memory.create(&handle.key(), &handle.encode()).unwrap();
    let ipam = Ipam::new(Arc::new(memory.clone()));
    let request = AutoAssign {
        num4: 1,
        num6: 1,
        handle: Some("vm".to_owned()),
        max_per_handle: 1,
        ..AutoAssign::new("node-1")
    };
    let error = ipam.auto_assign(&request).unwrap_err();
    assert!(matches!(error, IpamError::HandleLimit { counted: 1, limit: 1, .. }), "{error}");
    assert_eq!(ipam.assignments().unwrap(), []);

    ipam.recover(&ipam.leaks().unwrap()).unwrap();
    assert_eq!(ipam.auto_assign(&request).unwrap().addresses().count(), 2, "recovery is the remedy");
}

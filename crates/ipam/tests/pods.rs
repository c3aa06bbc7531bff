//! What CNI does with addresses: an address for a pod that starts, and back when it stops.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::{IPPool, IPPoolSpec, Key, Metadata, Row};
use datastore::{FaultStore, Memory, Moment, Outcome, Scope, Store};
use ipam::{AutoAssign, Ipam, IpamError};

fn store_with_pool(cidr: &str) -> Memory {
    let store = Memory::new();
    let spec = IPPoolSpec::new(cidr.parse().unwrap());
    let pool = Row::Resource(IPPool::new(Metadata::named("pool"), spec).into());
    store.create(&pool.key(), &pool.encode()).unwrap();
    store
}

fn pod(handle: &str) -> AutoAssign {
    AutoAssign { num4: 1, handle: Some(handle.to_owned()), ..AutoAssign::new("node-1") }
}

#[test]
fn a_pod_gets_an_address_and_gives_it_back() {
    let store = store_with_pool("10.65.0.0/16");
    let ipam = Ipam::new(Arc::new(store.clone()));
    let assigned = ipam.auto_assign_all(&pod("k8s-pod-network.0A")).unwrap();
    let address: IpAddr = assigned.addresses().next().unwrap();
    assert_eq!(assigned.ipv4.addresses[0].prefix_len(), 26);
    assert_eq!(ipam.ips_by_handle("k8s-pod-network.0a").unwrap(), [address]);

    assert_eq!(ipam.release_by_handle("k8s-pod-network.0a").unwrap(), [address]);
    assert!(matches!(ipam.release_by_handle("k8s-pod-network.0a"), Err(IpamError::HandleNotFound(_))));
    assert!(store.list(&Scope::Handles).unwrap().entries.is_empty());
    let block = Key::Block(assigned.ipv4.addresses[0].trunc());
    assert!(store.get(&block).is_ok(), "the empty block stays for the host's next pod");
}

#[test]
fn all_or_nothing_leaves_nothing() {
    let store = store_with_pool("10.65.0.0/30");
    let spec = IPPoolSpec { block_size: Some(30), ..IPPoolSpec::new("10.65.0.0/30".parse().unwrap()) };
    let pool = Row::Resource(IPPool::new(Metadata::named("pool"), spec).into());
    store.update(&pool.key(), &pool.encode(), None).unwrap();
    let ipam = Ipam::new(Arc::new(store.clone()));
    let error = ipam.auto_assign_all(&AutoAssign { num4: 5, ..pod("h") }).unwrap_err();
    assert!(matches!(error, IpamError::Short { assigned: 4, requested: 5, .. }), "{error}");
    assert!(ipam.assignments().unwrap().is_empty());
    assert!(store.list(&Scope::Handles).unwrap().entries.is_empty());
}

#[test]
fn an_undisturbed_pod_costs_four_calls_to_start_and_five_to_stop() {
    let calls = Arc::new(AtomicUsize::new(0));
    let writes = Arc::new(AtomicUsize::new(0));
    let (seen, written) = (calls.clone(), writes.clone());
    let store = FaultStore::new(store_with_pool("10.65.0.0/16"), move |call| {
        if call.moment == Moment::Before {
            seen.fetch_add(1, Ordering::Relaxed);
            written.fetch_add(usize::from(call.operation.is_write()), Ordering::Relaxed);
        }
        Outcome::Go
    });
    let ipam = Ipam::new(Arc::new(store));
    ipam.auto_assign(&pod("first")).unwrap();
    let count = |work: &dyn Fn()| {
        let before = (calls.load(Ordering::Relaxed), writes.load(Ordering::Relaxed));
        work();
        (calls.load(Ordering::Relaxed) - before.0, writes.load(Ordering::Relaxed) - before.1)
    };
    assert_eq!(count(&|| drop(ipam.auto_assign(&pod("second")).unwrap())), (4, 2));
    assert_eq!(count(&|| drop(ipam.release_by_handle("second").unwrap())), (5, 2));
}

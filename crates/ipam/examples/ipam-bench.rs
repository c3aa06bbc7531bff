//! How long it takes to assign an address and to give it back, on a SQLite file: `ipam-bench [PODS] [RESIDENT]`.
//!
//! Prints percentiles of `PODS` (2,000) single assignments and releases, on a host that already has as many pods as the
//! second argument says (40).

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{IPPool, IPPoolSpec, Metadata, Row};
use datastore::{Memory, Sqlite, Store};
use ipam::{Attributes, AutoAssign, Ipam};

fn main() {
    let argument = |n: usize, default: usize| {
        std::env::args().nth(n).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (pods, resident) = (argument(1, 2_000), argument(2, 40));
    let directory = tempfile::tempdir().expect("a directory for the store");
    let sqlite = Sqlite::open(directory.path().join("store.db")).expect("a store");
    println!("{pods} pods on a host with {resident}");
    measure("sqlite", Arc::new(sqlite), pods, resident);
    // What is left without a datastore: our own arithmetic, and JSON.
    measure("memory", Arc::new(Memory::new()), pods, resident);
}

fn measure(engine: &str, store: Arc<dyn Store>, pods: usize, resident: usize) {
    let pool = IPPool::new(
        Metadata::named("default-ipv4-ippool"),
        IPPoolSpec::new("192.168.0.0/16".parse().expect("a CIDR")),
    );
    let row = Row::Resource(pool.into());
    store.create(&row.key(), &row.encode()).expect("a pool");
    let ipam = Ipam::new(store);
    for pod in 0..resident {
        ipam.auto_assign_all(&request(&format!("resident-{pod}"))).expect("an address");
    }
    let (mut assign, mut release) = (Vec::new(), Vec::new());
    for pod in 0..pods {
        let handle = format!("k8s-pod-network.{pod:064x}");
        assign.push(timed(|| drop(ipam.auto_assign_all(&request(&handle)).expect("an address"))));
        release.push(timed(|| drop(ipam.release_by_handle(&handle).expect("it is held"))));
    }
    report(&format!("{engine} assign "), assign);
    report(&format!("{engine} release"), release);
}

fn request(handle: &str) -> AutoAssign {
    let attributes = [
        ("namespace", "default"),
        ("node", "node-1"),
        ("pod", handle),
        ("timestamp", "2026-01-01T00:00:00Z"),
    ];
    AutoAssign {
        num4: 1,
        handle: Some(handle.to_owned()),
        attributes: attributes
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<Attributes>(),
        ..AutoAssign::new("node-1")
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |permille: usize| times[(times.len() - 1) * permille / 1_000].as_micros();
    println!("{what}  p50 {} us  p90 {} us  p99 {} us  max {} us", at(500), at(900), at(990), at(1_000));
}

//! Real concurrency: threads over one SQLite file, as the processes of one machine have it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use api::{IPPool, IPPoolSpec, IpamConfig, Metadata, Row};
use datastore::{Sqlite, Store};
use ipam::{Attributes, AutoAssign, Ipam, IpamError};

const THREADS: usize = 8;
const ROUNDS: usize = 60;

fn open(file: &Path, cidr: &str, block_size: u8) -> Arc<Sqlite> {
    let store = Sqlite::open(file).unwrap();
    let spec = IPPoolSpec { block_size: Some(block_size), ..IPPoolSpec::new(cidr.parse().unwrap()) };
    let pool = Row::Resource(IPPool::new(Metadata::named("pool"), spec).into());
    store.create(&pool.key(), &pool.encode()).unwrap();
    Arc::new(store)
}

fn request(host: &str, handle: &str, number: usize) -> AutoAssign {
    AutoAssign {
        num4: number,
        handle: Some(handle.to_owned()),
        attributes: Attributes::from([("node".to_owned(), host.to_owned())]),
        ..AutoAssign::new(host)
    }
}

/// Who has which address, according to those who have them.
#[derive(Default)]
struct Held(Mutex<BTreeMap<IpAddr, String>>);

impl Held {
    fn take(&self, address: IpAddr, handle: &str) {
        let previous = self.0.lock().unwrap().insert(address, handle.to_owned());
        assert_eq!(previous, None, "{address} was given to {handle} too");
    }

    fn give_back(&self, address: IpAddr) {
        self.0.lock().unwrap().remove(&address).expect("it was held");
    }
}

/// Assigns and releases, and gives back what it still has at the end.
fn work(ipam: &Ipam, host: &str, thread: usize, held: &Held) {
    let mut rng = fastrand::Rng::with_seed(thread as u64);
    let mut own: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for round in 0..ROUNDS {
        if own.len() < 4 || rng.bool() {
            let handle = format!("{thread}-{round}");
            let assigned = ipam.auto_assign(&request(host, &handle, rng.usize(1..3))).unwrap();
            let addresses: BTreeSet<IpAddr> = assigned.addresses().collect();
            addresses.iter().for_each(|address| held.take(*address, &handle));
            if !addresses.is_empty() {
                own.insert(handle, addresses);
            }
        } else if let Some((handle, addresses)) = own.pop_first() {
            addresses.iter().for_each(|address| held.give_back(*address));
            let released: BTreeSet<IpAddr> = ipam.release_by_handle(&handle).unwrap().into_iter().collect();
            assert_eq!(released, addresses);
        }
    }
    for (handle, addresses) in own {
        addresses.iter().for_each(|address| held.give_back(*address));
        ipam.release_by_handle(&handle).unwrap();
    }
}

fn nothing_is_left(ipam: &Ipam) {
    assert_eq!(ipam.assignments().unwrap(), []);
    assert_eq!(ipam.leaks().unwrap(), []);
}

#[test]
fn threads_of_eight_hosts_share_a_small_pool() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    // Fewer blocks than hosts: they borrow from each other.
    let store = open(&file, "10.0.0.0/26", 28);
    let held = Held::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (file, held) = (&file, &held);
            scope.spawn(move || {
                // Its own connections and client, as another process would have.
                let ipam = Ipam::new(Arc::new(Sqlite::open(file).unwrap()));
                work(&ipam, &format!("node-{thread}"), thread, held);
            });
        }
    });
    nothing_is_left(&Ipam::new(store));
}

#[test]
fn threads_of_one_host_share_its_blocks_and_keep_its_limit() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"), "10.0.0.0/24", 29);
    let ipam = Ipam::new(store);
    ipam.set_config(&IpamConfig { strict_affinity: true, max_blocks_per_host: 3, ..IpamConfig::default() })
        .unwrap();
    let held = Held::default();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ipam, held) = (&ipam, &held);
            scope.spawn(move || work(ipam, "node-1", thread, held));
        }
    });
    assert_eq!(
        ipam.affinities().unwrap().len(),
        3,
        "eight threads fill three blocks of eight, and get no more"
    );
    nothing_is_left(&ipam);
}

#[test]
fn many_want_the_last_address_and_one_gets_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"), "10.0.0.0/30", 30);
    let ipam = Ipam::new(store);
    ipam.auto_assign_all(&request("node-0", "first", 3)).unwrap();
    let outcomes: Vec<Result<_, IpamError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let ipam = &ipam;
                let host = format!("node-{thread}");
                scope.spawn(move || ipam.auto_assign_all(&request(&host, &format!("last-{thread}"), 1)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(matches!(error, IpamError::Short { .. }), "{error}");
    }
    assert_eq!(ipam.leaks().unwrap(), []);
}

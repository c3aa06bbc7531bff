//! Many hosts over one store, one store call at a time: a deterministic scheduler, what hosts do, and what must hold.
//!
//! Each host runs its operations on a thread of its own, but waits before every call to the store until the scheduler lets
//! it make that call, so that only one thread ever runs, and a seed decides the whole history. The scheduler may also let a
//! host crash instead: that call and all later ones of the operation fail, as if the process had died there, and the host
//! starts again without memory.
//!
//! After every call all rows are compared with those before it ([`rules`]).

// Each test file uses its part, and none of it leaves the tests.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod operation;
mod rules;
mod scheduler;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use api::Timestamp;
use api::{
    IPPool, IPPoolSpec, IPReservation, IPReservationSpec, IpamConfig, Metadata, Node, NodeSpec, Resource, Row,
};
use datastore::{Memory, Store};
use ipnet::IpNet;

pub use operation::{Operation, Outcome};
pub use rules::{Rows, Rules};
pub use scheduler::{Hosts, Progress};

/// A cluster.
#[derive(Debug, Clone)]
pub struct Setup {
    pub pools: Vec<IPPoolSpec>,
    pub reserved: Vec<IpNet>,
    pub config: IpamConfig,
    pub hosts: Vec<String>,
    /// Of requests; 0 for the default.
    pub max_blocks_per_host: u32,
}

impl Setup {
    /// Small blocks in small pools, so that hosts meet.
    pub fn small(hosts: usize) -> Self {
        let pool = |cidr: &str, size| IPPoolSpec {
            block_size: Some(size),
            ..IPPoolSpec::new(cidr.parse().unwrap())
        };
        Self {
            pools: vec![pool("10.0.0.0/28", 30), pool("fd00::/125", 127)],
            reserved: Vec::new(),
            config: IpamConfig::default(),
            hosts: (1..=hosts).map(|n| format!("node-{n}")).collect(),
            max_blocks_per_host: 0,
        }
    }

    /// A store that holds it.
    pub fn store(&self) -> Memory {
        let store = Memory::new();
        for (index, spec) in self.pools.iter().enumerate() {
            put(&store, IPPool::new(Metadata::named(format!("pool-{index}")), spec.clone()));
        }
        for host in &self.hosts {
            put(&store, Node::new(Metadata::named(host), NodeSpec::default()));
        }
        let reserved_cidrs = self.reserved.iter().map(|net| (*net).into()).collect();
        put(&store, IPReservation::new(Metadata::named("reserved"), IPReservationSpec { reserved_cidrs }));
        let config = Row::IpamConfig(self.config.clone());
        store.create(&config.key(), &config.encode()).unwrap();
        store
    }
}

/// Writes a resource, whatever is there.
pub fn put(store: &dyn Store, resource: impl Into<Resource>) {
    let row = Row::Resource(resource.into());
    let (key, text) = (row.key(), row.encode());
    if store.create(&key, &text).is_err() {
        store.update(&key, &text, None).unwrap();
    }
}

/// A clock that goes on by a millisecond whenever someone looks at it, and by more when it is told to.
#[derive(Debug, Clone)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_700_000_000_000)))
    }

    pub fn tick(&self) -> Timestamp {
        self.read(self.0.fetch_add(1, Ordering::SeqCst))
    }

    /// Without moving it.
    pub fn now(&self) -> Timestamp {
        self.read(self.0.load(Ordering::SeqCst))
    }

    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000, Ordering::SeqCst);
    }

    fn read(&self, milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }
}

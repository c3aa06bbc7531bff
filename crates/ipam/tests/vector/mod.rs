//! Reads and judges vectors.

#![allow(unreachable_pub)] // none of it leaves the test

mod expect;
mod operations;
pub mod property;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::{
    BlockAffinityState, IPPool, IPPoolSpec, IPReservation, IPReservationSpec, IpamBlock, IpamBlockAffinity,
    IpamConfig, IpamHandle, Metadata, Node, NodeSpec, Profile, ProfileSpec, Row,
};
use datastore::{Memory, Store};
use ipam::{Ipam, Usage};
use ipnet::IpNet;
use serde_json::Value;
use testkit::vectors::Case;

use crate::support::put;

/// The store of a case, and what its operations have done so far.
pub struct World {
    store: Memory,
    ipam: Ipam,
    results: Vec<OpResult>,
    /// The address and sequence number that a step has saved.
    saved: Option<(IpAddr, u64)>,
}

/// What an operation gave. Which fields are filled depends on the operation.
#[derive(Debug, Default)]
pub struct OpResult {
    /// Whether it gave an error, rather than less than asked for.
    has_failed: bool,
    /// Class and text of each error, and of each reason why there is less than asked for.
    errors: Vec<(&'static str, String)>,
    addresses: Vec<IpNet>,
    /// Those that were not assigned before.
    new: BTreeSet<IpAddr>,
    borrowed: usize,
    from_own_block: usize,
    released: Vec<IpAddr>,
    unallocated: Vec<IpAddr>,
    claimed: usize,
    failed: usize,
    pools: Vec<IpNet>,
    blocks: BTreeSet<IpNet>,
    attributes: Value,
    handle: Option<String>,
    config: Value,
    is_persisted: bool,
    utilization: Option<(Usage, Vec<Usage>)>,
    block_counts_sum: usize,
}

impl World {
    pub fn new(given: &Value) -> Self {
        let store = Memory::new();
        let each = |name: &str| given[name].as_array().cloned().unwrap_or_default();
        each("pools").iter().for_each(|pool| put_pool(&store, pool));
        for node in each("nodes") {
            let mut metadata = Metadata::named(text(&node["name"]));
            metadata.labels = serde_json::from_value(node["labels"].clone()).unwrap_or_default();
            put(&store, Node::new(metadata, NodeSpec::default()));
        }
        each("namespaces").iter().for_each(|namespace| put_namespace(&store, namespace));
        each("reservations").iter().for_each(|reservation| put_reservation(&store, reservation));
        let world =
            Self { ipam: Ipam::new(Arc::new(store.clone())), store, results: Vec::new(), saved: None };
        if given["config"].is_object() {
            world.ipam.set_config(&config(&given["config"])).expect("the given settings are valid");
        }
        put_rows(&world.store, &given["store"]);
        world
    }

    pub fn run(mut self, case: &Case) -> Result<(), String> {
        let operations = case.when["ops"].as_array().ok_or("no operations")?;
        let expected = case.then["results"].as_array().ok_or("no results")?;
        if operations.len() != expected.len() {
            return Err("as many results as operations are needed".to_owned());
        }
        for (index, (operation, expected)) in operations.iter().zip(expected).enumerate() {
            let result = self.operate(operation)?;
            self.judge(&result, expected)
                .map_err(|error| format!("operation {index} {operation}: {error}; got {result:?}"))?;
            self.results.push(result);
        }
        Ok(())
    }
}

fn put_pool(store: &Memory, pool: &Value) {
    let spec: IPPoolSpec = serde_json::from_value(pool["spec"].clone()).expect("a pool");
    put(store, IPPool::new(Metadata::named(text(&pool["name"])), spec));
}

fn put_namespace(store: &Memory, namespace: &Value) {
    let labels: std::collections::BTreeMap<String, String> =
        serde_json::from_value(namespace["labels"].clone()).unwrap_or_default();
    let labels_to_apply = labels.into_iter().map(|(name, value)| (format!("pcns.{name}"), value)).collect();
    let name = Metadata::named(format!("kns.{}", text(&namespace["name"])));
    put(store, Profile::new(name, ProfileSpec { labels_to_apply, ..ProfileSpec::default() }));
}

fn put_reservation(store: &Memory, reservation: &Value) {
    let reserved_cidrs =
        serde_json::from_value(reservation["reservedCIDRs"].clone()).expect("a list of networks");
    let name = Metadata::named(text(&reservation["name"]));
    put(store, IPReservation::new(name, IPReservationSpec { reserved_cidrs }));
}

/// Rows that are there before, as a crash may have left them.
fn put_rows(store: &Memory, rows: &Value) {
    let each = |name: &str| rows[name].as_array().cloned().unwrap_or_default();
    let cidr = |value: &Value| -> IpNet { text(value).parse().expect("a network") };
    for row in each("affinities") {
        let state: BlockAffinityState = serde_json::from_value(row["state"].clone()).expect("a state");
        let owner = api::AffinityOwner::Host(text(&row["host"]).to_owned());
        create(store, &Row::BlockAffinity(IpamBlockAffinity::new(owner, cidr(&row["cidr"]), state)));
    }
    for row in each("blocks") {
        let owner = row["affinity"].as_str().map(|owner| owner.parse().expect("an owner"));
        create(store, &Row::Block(IpamBlock::new(cidr(&row["cidr"]), owner)));
    }
    for row in each("handles") {
        let blocks = serde_json::from_value(row["block"].clone()).expect("counts by block");
        create(store, &Row::Handle(IpamHandle { blocks, ..IpamHandle::new(text(&row["id"])) }));
    }
}

fn create(store: &Memory, row: &Row) {
    store.create(&row.key(), &row.encode()).expect("given rows differ");
}

fn config(value: &Value) -> IpamConfig {
    serde_json::from_value(value.clone()).expect("settings")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

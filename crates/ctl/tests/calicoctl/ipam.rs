//! ipam show, release and configure; and what deleting pools and nodes means to IPAM.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ::ipam::{AutoAssign, Ipam};
use datastore::{Scope, Store};

use crate::world::{World, pool, resource};

fn ipam(world: &World) -> Ipam {
    Ipam::new(Arc::new(world.store()))
}

/// A pod's address on a host.
fn assign(world: &World, host: &str, pod: &str) -> IpAddr {
    let attributes = [("node", host), ("pod", pod), ("namespace", "default")];
    let request = AutoAssign {
        num4: 1,
        handle: Some(format!("k8s-pod-network.{pod}")),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(),
        ..AutoAssign::new(host)
    };
    let assigned = ipam(world).auto_assign(&request).expect("an address");
    assigned.addresses().next().expect("an address")
}

/// The number of rows in a scope.
fn rows(world: &World, scope: Scope) -> usize {
    world.store().list(&scope).expect("a listing").entries.len()
}

/// One pool of one block, so that a second host has to borrow.
fn one_block() -> World {
    World::with(&resource("IPPool", "name: small", "cidr: 10.65.0.0/26"))
}

#[test]
fn pools_and_blocks_are_shown_with_their_use() {
    let world = World::with(
        &(pool("a", "10.65.0.0/16") + &resource("IPReservation", "name: r", "reservedCIDRs: [10.65.0.0/24]")),
    );
    let address = assign(&world, "node-1", "p");
    let table = world.run(&["ipam", "show"]).succeeded();
    let expected = "\
+----------+--------------+-----------+------------+--------------+--------------+
| GROUPING |     CIDR     | IPS TOTAL | IPS IN USE | IPS RESERVED |   IPS FREE   |
+----------+--------------+-----------+------------+--------------+--------------+
| IP Pool  | 10.65.0.0/16 |     65536 | 1 (0%)     | 256 (0%)     | 65279 (100%) |
+----------+--------------+-----------+------------+--------------+--------------+
";
    assert_eq!(table, expected);
    let table = world.run(&["ipam", "show", "--show-blocks"]).succeeded();
    let block = table.lines().find(|line| line.contains("| Block ")).expect("a block");
    assert!(block.contains("/26 ") && block.contains("|        64 | 1 (2%)"), "{address}: {table}");
}

#[test]
fn an_address_is_shown_with_its_owner() {
    let world = World::with(&pool("a", "10.65.0.0/16"));
    let address = assign(&world, "node-1", "p").to_string();
    assert_eq!(
        world.run(&["ipam", "show", "--ip", &address]).succeeded(),
        format!(
            "IP {address} is in use\nHandle: k8s-pod-network.p\nAttributes:\n  namespace: default\n  node: node-1\n  pod: p\n"
        )
    );
    let free = if address == "10.65.0.9" { "10.65.0.10" } else { "10.65.0.9" };
    assert_eq!(
        world.run(&["ipam", "show", "--ip", free]).succeeded(),
        format!("IP {free} is not assigned\n")
    );
    let outside = world.run(&["ipam", "show", "--ip", "192.0.2.1"]);
    assert_eq!((outside.code, outside.output.as_str()), (0, "IP 192.0.2.1 is not assigned\n"));
    assert!(outside.errors.contains("192.0.2.1 is in no IPPool"), "{outside:?}");
    world.run(&["ipam", "show", "--ip", "10.65.0"]).misused(&["10.65.0"]);
}

#[test]
fn borrowed_addresses_are_shown_with_both_nodes() {
    let world = one_block();
    assign(&world, "node-1", "owner");
    let borrowed = assign(&world, "node-2", "guest").to_string();
    let table = world.run(&["ipam", "show", "--show-borrowed"]).succeeded();
    let rows: Vec<_> = table.lines().filter(|line| line.contains("10.65.0.")).collect();
    let [row] = rows[..] else { panic!("{table}") };
    let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
    assert_eq!(cells, [&*borrowed, "node-2", "10.65.0.0/26", "node-1", "pod", "default/guest"]);
}

#[test]
fn an_address_is_released_once() {
    let world = World::with(&pool("a", "10.65.0.0/16"));
    let address = assign(&world, "node-1", "p").to_string();
    let line = world.run(&["ipam", "release", "--ip", &address]).succeeded();
    assert_eq!(line, format!("Successfully released IP address {address}\n"));
    assert_eq!(rows(&world, Scope::Handles), 0);
    world.run(&["ipam", "release", "--ip", &address]).failed(&[&address, "is not assigned"]);
    world.run(&["ipam", "release"]).misused(&["--ip"]);
}

#[test]
fn settings_are_changed_one_by_one_and_shown() {
    let world = World::new();
    let line =
        world.run(&["ipam", "configure", "--strictaffinity=true", "--max-blocks-per-host", "4"]).succeeded();
    assert_eq!(line, "Successfully set StrictAffinity to: true\nSuccessfully set MaxBlocksPerHost to: 4\n");
    world.run(&["ipam", "configure", "--ip-cooldown-seconds=30"]).succeeded();
    let table = world.run(&["ipam", "show", "--show-configuration"]).succeeded();
    let values: BTreeMap<_, _> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .filter_map(|line| line.trim_matches('|').split_once('|'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    assert_eq!(
        (values["StrictAffinity"], values["MaxBlocksPerHost"], values["IPCooldownSeconds"]),
        ("true", "4", "30")
    );
    world
        .run(&["ipam", "configure", "--strictaffinity=false"])
        .failed(&["maxBlocksPerHost", "strictAffinity: true"]);
    world.run(&["ipam", "configure"]).failed(&["nothing to configure"]);
}

#[test]
fn deleting_a_pool_takes_its_blocks_from_their_hosts() {
    let world = one_block();
    let address = assign(&world, "node-1", "p").to_string();
    assert_eq!(
        world.run(&["delete", "ippool", "small"]).succeeded(),
        "Successfully deleted 1 'IPPool' resource(s)\n"
    );
    assert_eq!(rows(&world, Scope::BlockAffinities { host: None }), 0);
    assert!(
        world.run(&["ipam", "show", "--ip", &address]).output.contains("is in use"),
        "it was not the pod's to lose"
    );
    // The block is still there, and a pool of another block size cannot be laid over it.
    world
        .run_with_input(
            &["apply", "-f", "-"],
            &resource("IPPool", "name: other", "cidr: 10.65.0.0/24, blockSize: 28"),
        )
        .failed(&["IPPool other", "spec.blockSize", "10.65.0.0/26"]);
    world.run(&["ipam", "release", "--ip", &address]).succeeded();
    assert_eq!(rows(&world, Scope::Blocks), 0);
}

#[test]
fn deleting_a_node_takes_all_that_is_its_alone() {
    let world = World::with(
        &[
            pool("a", "10.65.0.0/16"),
            resource("Node", "name: node-1", ""),
            resource("Node", "name: node-2", ""),
            resource("BGPPeer", "name: ours", "node: node-1, peerIP: 192.0.2.1, asNumber: 64512"),
            resource("BGPPeer", "name: global", "peerIP: 192.0.2.2, asNumber: 64512"),
        ]
        .concat(),
    );
    let (gone, kept) = (assign(&world, "node-1", "gone"), assign(&world, "node-2", "kept"));
    for (node, pod, address) in [("node-1", "gone", gone), ("node-2", "kept", kept)] {
        let spec = format!(
            "orchestrator: k8s, node: {node}, pod: {pod}, endpoint: eth0, ipNetworks: [{address}/32], interfaceName: cali{pod}"
        );
        world
            .run_with_input(&["apply", "-f", "-"], &resource("WorkloadEndpoint", "namespace: default", &spec))
            .succeeded();
    }
    assert_eq!(
        world.run(&["delete", "node", "node-1"]).succeeded(),
        "Successfully deleted 1 'Node' resource(s)\n"
    );
    let names = |kind: &str| world.run(&["get", kind, "-o", "name"]).succeeded();
    assert_eq!(names("nodes"), "node/node-2\n");
    assert_eq!(names("bgppeers"), "bgppeer/global\n");
    assert_eq!(names("weps"), "workloadendpoint/node--2-k8s-kept-eth0\n");
    assert_eq!(rows(&world, Scope::BlockAffinities { host: Some("node-1".into()) }), 0);
    let left: Vec<_> =
        ipam(&world).assignments().unwrap().iter().map(|assignment| assignment.address).collect();
    assert_eq!(left, [kept]);
}

#[test]
fn a_pool_of_another_revision_is_not_touched() {
    let world = one_block();
    let stored = world.run(&["get", "ippool", "small", "-o", "yaml"]).succeeded();
    world.run(&["label", "ippool", "small", "a=b"]).succeeded();
    let before = world.snapshot();
    world.run_with_input(&["delete", "-f", "-"], &stored).failed(&["IPPool small", "someone else"]);
    assert_eq!(world.snapshot(), before);
}

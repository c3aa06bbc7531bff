//! What the vectors do not say: hosts' blocks by hand, pools that change, owners that move, settings of one request.

mod support;

use std::net::IpAddr;
use std::sync::Arc;

use api::{AffinityOwner, IPPool, IPPoolAllowedUse, IPPoolSpec, IpamConfig, Metadata, Node, NodeSpec};
use datastore::{Memory, Scope, Store};
use ipam::{
    AssignIp, Attributes, AutoAssign, Change, Expect, Family, HostReserved, Ipam, IpamError, OwnerUpdate,
    Release, Shortfall,
};
use ipnet::IpNet;
use support::{Clock, put};

struct Cluster {
    store: Memory,
    clock: Clock,
    ipam: Ipam,
}

fn pool(cidr: &str, block_size: u8) -> IPPoolSpec {
    IPPoolSpec { block_size: Some(block_size), ..IPPoolSpec::new(cidr.parse().unwrap()) }
}

fn cluster(pools: &[IPPoolSpec]) -> Cluster {
    let (store, clock) = (Memory::new(), Clock::new());
    let ticking = clock.clone();
    let ipam = Ipam::new(Arc::new(store.clone())).with_clock(move || ticking.tick());
    let cluster = Cluster { store, clock, ipam };
    pools.iter().enumerate().for_each(|(index, spec)| cluster.put_pool(index, spec));
    cluster.put_node("a", &[]);
    cluster.put_node("b", &[]);
    cluster
}

impl Cluster {
    fn put_pool(&self, index: usize, spec: &IPPoolSpec) {
        put(&self.store, IPPool::new(Metadata::named(format!("pool-{index}")), spec.clone()));
    }

    fn put_node(&self, name: &str, labels: &[(&str, &str)]) {
        let mut metadata = Metadata::named(name);
        metadata.labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        put(&self.store, Node::new(metadata, NodeSpec::default()));
    }

    fn assign(&self, host: &str, number: usize, handle: &str) -> Vec<IpNet> {
        let request = AutoAssign { num4: number, handle: Some(handle.into()), ..AutoAssign::new(host) };
        self.ipam.auto_assign(&request).unwrap().ipv4.addresses
    }

    fn blocks_of(&self, host: &str) -> Vec<IpNet> {
        let all = self.ipam.affinities().unwrap();
        all.into_iter().filter(|claim| claim.owner.name() == host).map(|claim| claim.cidr).collect()
    }
}

fn host(name: &str) -> AffinityOwner {
    AffinityOwner::Host(name.to_owned())
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_empty_block_of_another_host_is_reclaimed_after_a_minute() {
    let cluster = cluster(&[pool("10.0.0.0/30", 30)]);
    cluster.assign("a", 1, "x");
    cluster.ipam.release_by_handle("x").unwrap();
    let borrowed = cluster.assign("b", 1, "y");
    assert_eq!(borrowed.len(), 1);
    assert_eq!(cluster.blocks_of("a").len(), 1, "a is about to use what it has just claimed");
    cluster.ipam.release_by_handle("y").unwrap();

    cluster.clock.advance(61);
    cluster.assign("b", 1, "z");
    assert_eq!((cluster.blocks_of("a").len(), cluster.blocks_of("b").len()), (0, 1));
    assert_eq!(cluster.ipam.leaks().unwrap(), []);
}

#[test]
fn a_block_goes_back_when_its_pool_no_longer_selects_the_host_and_it_is_empty() {
    let both = [pool("10.0.0.0/29", 30), pool("10.0.1.0/29", 30)];
    let cluster = cluster(&both);
    cluster.assign("a", 1, "x");
    cluster.put_pool(0, &IPPoolSpec { node_selector: "rack == 'r1'".into(), ..both[0].clone() });
    assert!(net("10.0.1.0/29").contains(&cluster.assign("a", 1, "y")[0]));
    assert_eq!(cluster.blocks_of("a").len(), 2, "x still has an address there");

    cluster.ipam.release_by_handle("x").unwrap();
    cluster.assign("a", 1, "z");
    assert!(cluster.blocks_of("a").iter().all(|block| net("10.0.1.0/29").contains(block)));
    cluster.put_node("a", &[("rack", "r1")]);
    assert!(net("10.0.0.0/29").contains(&cluster.assign("a", 4, "w")[3]), "selected again");
}

#[test]
fn blocks_of_another_size_from_before_are_never_overlapped() {
    let cluster = cluster(&[pool("10.0.0.0/28", 30)]);
    cluster.assign("a", 4, "x");
    cluster.put_pool(0, &pool("10.0.0.0/28", 29));
    let all = cluster.assign("b", 16, "y");
    assert_eq!(all.len(), 8, "one of the two larger blocks overlaps a's");
    let taken = cluster.ipam.ips_by_handle("x").unwrap()[0];
    let error = cluster.ipam.assign_ip(&AssignIp::new(taken, "b")).unwrap_err();
    assert!(matches!(error, IpamError::Overlap(_)), "{error}");
    assert_eq!(cluster.ipam.assignments().unwrap().len(), 12);
    assert_eq!(cluster.ipam.assignment_attributes(taken).unwrap().handle.as_deref(), Some("x"));
    assert_eq!(cluster.ipam.release_ips(&[Release::of(taken)]).unwrap().released, [taken]);
}

#[test]
fn a_cluster_that_forbids_automatic_blocks_says_so() {
    let cluster = cluster(&[pool("10.0.0.0/28", 30)]);
    let config = IpamConfig { strict_affinity: true, auto_allocate_blocks: false, ..IpamConfig::default() };
    cluster.ipam.set_config(&config).unwrap();
    let assigned = cluster.ipam.auto_assign(&AutoAssign { num4: 1, ..AutoAssign::new("a") }).unwrap();
    let expected =
        [Shortfall::NoAutoAllocate { host: "a".into() }, Shortfall::StrictAffinity { host: "a".into() }];
    assert_eq!(assigned.ipv4.reasons, expected);
    let error = cluster.ipam.ensure_block(&AutoAssign { num4: 1, ..AutoAssign::new("a") }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a cannot have an IPv4 block: the blocks of a are full, and autoAllocateBlocks is false"
    );
}

#[test]
fn strict_affinity_names_the_owner_of_the_block() {
    let cluster = cluster(&[pool("10.0.0.0/28", 30)]);
    cluster.ipam.set_config(&IpamConfig { strict_affinity: true, ..IpamConfig::default() }).unwrap();
    cluster.ipam.assign_ip(&AssignIp::new(ip("10.0.0.1"), "a")).unwrap();
    let error = cluster.ipam.assign_ip(&AssignIp::new(ip("10.0.0.2"), "b")).unwrap_err();
    assert!(error.to_string().starts_with("block 10.0.0.0/30 belongs to host:a"), "{error}");
    assert_eq!(cluster.blocks_of("b"), []);
}

#[test]
fn the_configured_limit_holds_for_named_addresses_too() {
    let cluster = cluster(&[pool("10.0.0.0/28", 30)]);
    let config = IpamConfig { strict_affinity: true, max_blocks_per_host: 1, ..IpamConfig::default() };
    cluster.ipam.set_config(&config).unwrap();
    cluster.ipam.assign_ip(&AssignIp::new(ip("10.0.0.1"), "a")).unwrap();
    cluster.ipam.assign_ip(&AssignIp::new(ip("10.0.0.2"), "a")).unwrap();
    let error = cluster.ipam.assign_ip(&AssignIp::new(ip("10.0.0.4"), "a")).unwrap_err();
    assert!(matches!(error, IpamError::BlockLimit { limit: 1, .. }), "{error}");
}

#[test]
fn a_resting_address_is_nobodys_and_cannot_be_had() {
    let cluster = cluster(&[pool("10.0.0.0/30", 30)]);
    cluster.ipam.set_config(&IpamConfig { ip_cooldown_seconds: 30, ..IpamConfig::default() }).unwrap();
    let address = cluster.assign("a", 1, "x")[0].addr();
    cluster.ipam.release_by_handle("x").unwrap();
    let take = || cluster.ipam.assign_ip(&AssignIp::new(address, "a"));
    assert!(matches!(take(), Err(IpamError::Cooling { cooldown_seconds: 30, .. })));
    assert!(matches!(cluster.ipam.assignment_attributes(address), Err(IpamError::NotAssigned(_))));
    let usage = cluster.ipam.utilization(&[]).unwrap()[0].usage;
    assert_eq!((usage.in_use, usage.resting, usage.available), (0, 1, 3));
    assert_eq!(cluster.assign("a", 4, "y").len(), 3);
    cluster.clock.advance(31);
    take().unwrap();
}

#[test]
fn a_block_of_nobody_goes_once_its_last_address_has_rested() {
    let cluster = cluster(&[pool("10.0.0.0/30", 30)]);
    cluster.ipam.set_config(&IpamConfig { ip_cooldown_seconds: 30, ..IpamConfig::default() }).unwrap();
    cluster.assign("a", 1, "x");
    cluster.ipam.remove_host("a").unwrap();
    cluster.ipam.release_by_handle("x").unwrap();
    assert_eq!(cluster.ipam.leaks().unwrap(), [], "it rests");
    cluster.clock.advance(31);
    let leaks = cluster.ipam.leaks().unwrap();
    assert_eq!(cluster.ipam.recover(&leaks).unwrap(), 1);
    assert!(cluster.store.list(&Scope::Blocks).unwrap().entries.is_empty());
}

#[test]
fn all_blocks_of_a_pool_can_be_released_before_it_is_deleted() {
    let cluster = cluster(&[pool("10.0.0.0/28", 30), pool("10.0.1.0/28", 30)]);
    cluster.assign("a", 1, "x");
    cluster.assign("b", 17, "y");
    let released = cluster.ipam.release_pool_affinities(net("10.0.0.0/28")).unwrap();
    assert_eq!(released.len(), 4);
    let left = cluster.ipam.affinities().unwrap();
    assert!(!left.is_empty() && left.iter().all(|claim| net("10.0.1.0/28").contains(&claim.cidr)));
    assert_eq!(cluster.ipam.assignments().unwrap().len(), 18, "addresses stay with their owners");
}

#[test]
fn ranges_to_claim_have_to_hold_whole_blocks_of_one_pool() {
    let cluster = cluster(&[pool("10.0.0.0/28", 30), pool("fd00::/64", 122)]);
    let claim = |cidr: &str| cluster.ipam.claim_affinity(net(cidr), &host("a"));
    assert!(matches!(claim("10.0.0.0/31"), Err(IpamError::BadRange { block_prefix_len: 30, .. })));
    assert!(matches!(claim("10.0.0.0/24"), Err(IpamError::NotInPool(_))));
    assert!(matches!(claim("fd00::/64"), Err(IpamError::BadRange { .. })), "2^58 blocks");
    assert_eq!(claim("10.0.0.8/29").unwrap().claimed, [net("10.0.0.8/30"), net("10.0.0.12/30")]);
    cluster.assign("a", 1, "x");
    let release =
        |must_be_empty| cluster.ipam.release_affinity(net("10.0.0.0/28"), &host("a"), must_be_empty);
    assert!(matches!(release(true), Err(IpamError::BlockNotEmpty { in_use: 1, .. })));
    assert_eq!(cluster.blocks_of("a").len(), 1, "the empty one went");
    assert_eq!(release(false).unwrap().len(), 1);
}

#[test]
fn load_balancer_addresses_belong_to_no_node() {
    let uses = Some(vec![IPPoolAllowedUse::LoadBalancer]);
    let cluster = cluster(&[IPPoolSpec { allowed_uses: uses, ..pool("10.0.0.0/28", 30) }]);
    let request = AutoAssign { num4: 1, ..AutoAssign::new("load-balancer") };
    let error = cluster.ipam.auto_assign(&request).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no qualified IPv4 pool for Workload addresses of load-balancer: pool-0 is not for this use; create an IPPool, \
         or change the named pool's nodeSelector, namespaceSelector, allowedUses or assignmentMode"
    );
    let request = AutoAssign { intended_use: IPPoolAllowedUse::LoadBalancer, ..request };
    cluster.ipam.auto_assign_all(&request).unwrap();
    assert_eq!(cluster.ipam.affinities().unwrap()[0].owner, AffinityOwner::Virtual("load-balancer".into()));
}

#[test]
fn windows_hosts_keep_addresses_back_in_every_block() {
    let cluster = cluster(&[pool("10.0.0.0/28", 29)]);
    let reserved = HostReserved { start_of_block: 3, end_of_block: 1, note: "windows host rsvd".into() };
    let request = AutoAssign {
        num4: 16,
        handle: Some("x".into()),
        host_reserved: Some(reserved),
        ..AutoAssign::new("a")
    };
    assert_eq!(cluster.ipam.auto_assign(&request).unwrap().ipv4.addresses.len(), 8);
    assert_eq!(cluster.ipam.leaks().unwrap(), [], "what is kept back has no handle row, and needs none");
    cluster.ipam.release_by_handle("x").unwrap();
    assert_eq!(cluster.ipam.release_host_affinities(&host("a"), true).unwrap().len(), 2);
}

#[test]
fn a_machine_moves_its_address_from_one_pod_to_another_in_one_write() {
    let cluster = cluster(&[pool("10.0.0.0/30", 30)]);
    let pod = |name: &str| {
        Attributes::from([
            ("namespace".into(), "ns".into()),
            ("pod".into(), name.into()),
            ("node".into(), "a".into()),
        ])
    };
    let request =
        AssignIp { handle: Some("vm".into()), attributes: pod("old"), ..AssignIp::new(ip("10.0.0.1"), "a") };
    cluster.ipam.assign_ip(&request).unwrap();
    let before = cluster.ipam.assignment_attributes(ip("10.0.0.1")).unwrap();
    let swap = OwnerUpdate {
        handle: Some("VM".into()),
        expect_active: Expect::Pod { namespace: "ns".into(), name: "old".into() },
        expect_alternate: Expect::Nobody,
        active: Change::Set(pod("new")),
        alternate: Change::Set(pod("old")),
    };
    cluster.ipam.set_owner_attributes(ip("10.0.0.1"), &swap).unwrap();
    let after = cluster.ipam.assignment_attributes(ip("10.0.0.1")).unwrap();
    assert_eq!((&after.attributes, &after.alternate_attributes), (&pod("new"), &pod("old")));
    assert_eq!((after.handle, after.sequence), (before.handle, before.sequence));

    let again = cluster.ipam.set_owner_attributes(ip("10.0.0.1"), &swap).unwrap_err();
    assert_eq!(again.to_string(), "10.0.0.1: its active owner is pod ns/new, not pod ns/old");
    let done = OwnerUpdate { alternate: Change::Clear, ..OwnerUpdate::default() };
    cluster.ipam.set_owner_attributes(ip("10.0.0.1"), &done).unwrap();
    assert!(cluster.ipam.assignment_attributes(ip("10.0.0.1")).unwrap().alternate_attributes.is_empty());
    let strange = OwnerUpdate { handle: Some("other".into()), ..OwnerUpdate::default() };
    let error = cluster.ipam.set_owner_attributes(ip("10.0.0.1"), &strange).unwrap_err();
    assert!(matches!(error, IpamError::HandleMismatch { .. }), "{error}");
}

#[test]
fn one_refused_release_does_not_keep_the_others() {
    let cluster = cluster(&[pool("10.0.0.0/28", 30)]);
    let addresses = cluster.assign("a", 6, "x");
    let mut releases: Vec<Release> = addresses.iter().map(|net| Release::of(net.addr())).collect();
    releases[0].sequence = Some(1);
    releases[1].handle = Some("y".into());
    let outcome = cluster.ipam.release_ips(&releases).unwrap();
    assert_eq!((outcome.released.len(), outcome.refused.len(), outcome.unallocated.len()), (4, 2, 0));
    assert_eq!(cluster.ipam.ips_by_handle("x").unwrap().len(), 2);
    assert_eq!(cluster.ipam.leaks().unwrap(), []);
}

#[test]
fn a_pending_claim_is_confirmed_before_a_named_address_is_assigned_in_it() {
    let cluster = cluster(&[pool("10.0.0.0/30", 30)]);
    let pending =
        api::IpamBlockAffinity::new(host("a"), net("10.0.0.0/30"), api::BlockAffinityState::Pending);
    let block = api::IpamBlock::new(net("10.0.0.0/30"), Some(host("a")));
    for row in [api::Row::BlockAffinity(pending), api::Row::Block(block)] {
        cluster.store.create(&row.key(), &row.encode()).unwrap();
    }
    cluster.ipam.assign_ip(&AssignIp::new(ip("10.0.0.1"), "a")).unwrap();
    assert_eq!(cluster.ipam.leaks().unwrap(), []);
}

#[test]
fn a_pool_that_selects_by_label_needs_the_node() {
    let cluster = cluster(&[IPPoolSpec { node_selector: "has(rack)".into(), ..pool("10.0.0.0/28", 30) }]);
    let request = AutoAssign { num4: 1, ..AutoAssign::new("unknown") };
    let error = cluster.ipam.auto_assign(&request).unwrap_err();
    assert_eq!(
        error.to_string(),
        "IPPool pool-0 selects nodes by label, but Node unknown does not exist; register the node first"
    );
    let none = cluster.ipam.determine_pools(&AutoAssign::new("a"), Family::V4).unwrap();
    assert_eq!(none, []);
}

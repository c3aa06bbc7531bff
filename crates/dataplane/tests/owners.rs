//! Addresses that go from one workload to another: the connections of the first one are gone before the second one has
//! the address, whatever fails and whenever the process is started anew; and nobody else's are touched.

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::time::Duration;

use bench::{Bench, scene};
use calc::contract::*;
use common::*;
use dataplane::ApplyError;
use kernel::conntrack::Connection;
use kernel::fake::Fault;
use kernel::netlink::Errno;

/// The scene, a third interface, and connections: 1 of the first workload, 2 of the second, 3 of both, 4 of a workload that
/// is not there, 5 of nobody.
fn crowd() -> Bench {
    let bench = Bench::new();
    bench.kernel.add_link("cali3", true);
    let pairs = [
        ("10.65.0.1", "192.0.2.1"),
        ("10.65.0.2", "192.0.2.1"),
        ("10.65.0.2", "10.65.0.1"),
        ("192.0.2.1", "10.65.0.3"),
        ("192.0.2.1", "192.0.2.2"),
    ];
    for (id, (source, destination)) in (1..).zip(pairs) {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        bench.kernel.add_connection(Connection::direct(id, source, destination));
    }
    bench
}

/// As [`crowd`], with the two workloads programmed by an earlier process.
fn running() -> Bench {
    let mut bench = crowd();
    let kept = bench.kernel.current_connections();
    bench.play(scene());
    kept.into_iter().for_each(|connection| bench.kernel.add_connection(connection));
    bench.restart();
    assert_eq!(bench.play(scene()).programmed.len(), 2);
    bench
}

fn left(bench: &Bench) -> Vec<u32> {
    bench.kernel.current_connections().iter().map(|connection| connection.id).collect()
}

fn removal(name: &str) -> Change {
    Change::WorkloadEndpointRemove { id: endpoint_id(name) }
}

/// A third workload, on an interface of its own.
fn third(address: &str) -> Change {
    endpoint("three", workload("cali3", address, vec![]))
}

fn stale(errors: &[ApplyError]) -> bool {
    matches!(errors, [ApplyError::StaleConnections { .. }])
}

#[test]
fn an_endpoint_that_is_gone_takes_its_connections_along_and_only_those() {
    let mut bench = running();
    let report = bench.play([removal("one")]);
    assert_eq!(report.withdrawn, [endpoint_id("one")]);
    assert!(bench.dataplane.is_withdrawn(&endpoint_id("one")));
    assert_eq!(left(&bench), [2, 4, 5]);
}

#[test]
fn an_address_that_a_living_endpoint_loses_takes_its_connections_along() {
    let mut bench = running();
    let report = bench.play([endpoint("two", workload("cali2", "10.65.0.22", vec![]))]);
    assert_eq!((report.programmed, report.withdrawn.len()), (vec![endpoint_id("two")], 0));
    assert_eq!(left(&bench), [1, 4, 5]);
}

#[test]
fn while_connections_cannot_be_deleted_the_endpoint_is_not_withdrawn_and_nobody_else_waits() {
    // The last three calls are one to list the connections and two to delete them: the listing fails.
    let changes = || [removal("one"), third("10.65.0.33")];
    let mut undisturbed = running();
    let before = undisturbed.kernel.calls();
    undisturbed.play(changes());
    let listing = undisturbed.kernel.calls() - before - 3;
    let mut bench = running();
    bench.take(changes());
    bench.kernel.fail_after(listing, Fault::Refuse(Errno::NOMEM));
    let report = bench.apply();
    assert!(stale(&report.errors), "{report:?}");
    assert_eq!((report.programmed, report.withdrawn.len()), (vec![endpoint_id("three")], 0));
    assert!(bench.dataplane.programmed(&endpoint_id("one")).is_some());
    assert!(!bench.dataplane.is_withdrawn(&endpoint_id("one")));
    assert_eq!(report.next_apply, Some(bench.now + Duration::from_millis(100)));
    bench.now = report.next_apply.unwrap();
    let report = bench.apply();
    assert_eq!((report.withdrawn, report.errors.len()), (vec![endpoint_id("one")], 0));
    assert_eq!(left(&bench), [2, 4, 5]);
}

#[test]
fn an_address_that_moves_is_had_by_nobody_in_between_and_by_the_new_owner_in_the_same_apply() {
    let mut bench = running();
    let report = bench.play([removal("one"), third("10.65.0.1")]);
    assert_eq!(report.programmed, [endpoint_id("three")]);
    assert_eq!(report.withdrawn, [endpoint_id("one")]);
    assert_eq!((left(&bench), bench.kernel.inherited()), (vec![2, 4, 5], vec![]));
    assert!(bench.routes().iter().any(|route| route.starts_with("10.65.0.1/32")), "{:?}", bench.routes());
}

#[test]
fn whoever_wants_an_address_that_is_still_had_waits_and_is_reported() {
    let mut bench = running();
    let report = bench.play([third("10.65.0.1")]);
    let text = report.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let expected =
        "endpoint cni/three/eth0: 10.65.0.1 is routed to interface cali1 already: delete one of them";
    assert_eq!(text, expected);
    assert!(report.programmed.is_empty() && left(&bench).len() == 5);
    let report = bench.play([removal("one")]);
    assert_eq!((report.programmed, report.errors.len()), (vec![endpoint_id("three")], 0));
    assert_eq!((left(&bench), bench.kernel.inherited()), (vec![2, 4, 5], vec![]));
}

#[test]
fn whoever_wants_an_address_of_an_interface_that_is_gone_gets_it() {
    let mut bench = running();
    bench.play([third("10.65.0.1")]);
    let link = bench.kernel.current_links().into_iter().find(|link| link.name.as_str() == "cali1").unwrap();
    bench.kernel.remove_link(link.index);
    bench.dataplane.on_link_gone(link.index);
    let report = bench.apply();
    assert_eq!(report.programmed, [endpoint_id("three")]);
    assert_eq!((left(&bench), bench.kernel.inherited()), (vec![2, 4, 5], vec![]));
}

#[test]
fn a_restart_keeps_the_connections_of_all_who_stay() {
    let mut bench = running();
    bench.restart();
    let calls = bench.kernel.calls();
    bench.play(scene());
    assert_eq!(left(&bench), [1, 2, 3, 4, 5]);
    bench.apply();
    assert!(bench.kernel.calls() > calls, "the restarted process has looked at nothing");
}

#[test]
fn connections_of_an_endpoint_that_went_while_no_process_ran_go_with_its_route() {
    let mut bench = running();
    bench.restart();
    bench.take(scene());
    bench.take([removal("one")]);
    bench.apply();
    assert_eq!(left(&bench).len(), 5, "the route is spared for the grace period");
    bench.settle();
    assert_eq!(left(&bench), [2, 4, 5]);
}

#[test]
fn an_address_that_moved_while_no_process_ran_is_not_spared_for_its_former_owner() {
    let mut bench = running();
    bench.restart();
    bench.take(scene());
    let report = bench.play([removal("one"), third("10.65.0.1")]);
    assert!(report.programmed.contains(&endpoint_id("three")), "{report:?}");
    assert_eq!((left(&bench), bench.kernel.inherited()), (vec![2, 4, 5], vec![]));
}

#[test]
fn connections_without_a_route_at_the_start_are_gone_before_their_address_is_had() {
    let mut bench = running();
    let report = bench.play([third("10.65.0.3")]);
    assert_eq!(report.programmed, [endpoint_id("three")]);
    assert_eq!((left(&bench), bench.kernel.inherited()), (vec![1, 2, 3, 5], vec![]));
}

/// Everything at once, with a fault at any call.
#[test]
fn a_fault_at_any_call_lets_nobody_inherit_a_connection() {
    let play = |fault: Option<(u64, Fault)>| {
        let mut bench = running();
        bench.restart();
        if let Some((call, fault)) = fault {
            bench.kernel.fail_after(call, fault);
        }
        bench.play(scene());
        let two = workload("cali2", "10.65.0.22", vec![]);
        bench.play([removal("one"), third("10.65.0.1"), endpoint("two", two)]);
        bench.settle();
        bench
    };
    let undisturbed = play(None);
    let calls = undisturbed.kernel.calls();
    assert_eq!(left(&undisturbed), [4, 5]);
    for fault in [Fault::Refuse(Errno::NOMEM), Fault::Lose] {
        for call in 0..calls {
            let bench = play(Some((call, fault)));
            assert_eq!(bench.routes(), undisturbed.routes(), "{fault:?} at call {call}");
            assert_eq!(left(&bench), left(&undisturbed), "{fault:?} at call {call}");
            assert_eq!(bench.kernel.inherited(), [], "{fault:?} at call {call}");
            for name in ["two", "three"] {
                let programmed = bench.dataplane.programmed(&endpoint_id(name));
                assert!(programmed.is_some(), "{name}, {fault:?} at call {call}");
            }
        }
    }
}

//! Vectors that name an invariant: random interleavings of hosts on the pools of the vector.

use std::net::IpAddr;

use ipam::Release;
use testkit::vectors::Case;

use crate::support::{Hosts, Operation, Setup};

/// Checks the property that a case names.
pub fn check(case: &Case) -> Result<(), String> {
    let setup = setup(case)?;
    let (_, name) = case.id.rsplit_once('/').ok_or("no name")?;
    match name {
        "same-ip-twice" => each_seed(300, |rng| same_ip_twice(&setup, rng)),
        "release-vs-assign" => each_seed(300, |rng| late_release(&setup, rng)),
        // The rules that are checked after every call say both of every address of every block.
        "conservation" | "no-double" => each_seed(40, |rng| crowd(&setup, rng, 15)),
        // They also refuse an operation that fails for want of retries.
        "cas-retry" => each_seed(40, |rng| crowd(&setup, rng, 0)),
        other => Err(format!("property {other:?} is not known")),
    }
}

fn setup(case: &Case) -> Result<Setup, String> {
    let list = |name: &str| case.given[name].as_array().cloned().unwrap_or_default();
    let pools = list("pools").iter().map(|pool| serde_json::from_value(pool["spec"].clone())).collect();
    let pools: Result<Vec<_>, serde_json::Error> = pools;
    let hosts = list("nodes").iter().filter_map(|node| node["name"].as_str().map(str::to_owned)).collect();
    Ok(Setup { pools: pools.map_err(|error| error.to_string())?, hosts, ..Setup::small(0) })
}

fn each_seed(
    seeds: u64,
    mut check: impl FnMut(&mut fastrand::Rng) -> Result<(), String>,
) -> Result<(), String> {
    for seed in 0..seeds {
        check(&mut fastrand::Rng::with_seed(seed)).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

fn same_ip_twice(setup: &Setup, rng: &mut fastrand::Rng) -> Result<(), String> {
    let mut hosts = Hosts::new(setup);
    let ip: IpAddr = "10.0.0.5".parse().unwrap();
    let assign = |handle: &str| Operation::AssignIp { ip, handle: Some(handle.to_owned()) };
    let outcomes = hosts.race(rng, &[assign("a"), assign("b")]);
    match outcomes.iter().filter(|outcome| outcome.is_success()).count() {
        1 => Ok(()),
        other => Err(format!("{other} of two succeeded: {outcomes:?}")),
    }
}

/// Someone releases what they saw, while the address gets a new owner.
fn late_release(setup: &Setup, rng: &mut fastrand::Rng) -> Result<(), String> {
    let mut hosts = Hosts::new(setup);
    let ip: IpAddr = "10.0.0.5".parse().unwrap();
    let assign = |handle: &str| Operation::AssignIp { ip, handle: Some(handle.to_owned()) };
    hosts.run(0, assign("old"));
    let sequence = hosts.observer().assignment_attributes(ip).map_err(|error| error.to_string())?.sequence;
    hosts.run(0, Operation::ReleaseByHandle { handle: "old".to_owned() });
    let late = Release { sequence: Some(sequence), ..Release::of(ip) };
    let outcomes = hosts.race(rng, &[Operation::ReleaseIps { releases: vec![late] }, assign("new")]);
    let held = hosts.observer().ips_by_handle("new").unwrap_or_default();
    if held == [ip] { Ok(()) } else { Err(format!("the new owner has {held:?}: {outcomes:?}")) }
}

/// Both hosts assign and release as fast as they can.
fn crowd(setup: &Setup, rng: &mut fastrand::Rng, crash_in: usize) -> Result<(), String> {
    let mut hosts = Hosts::new(setup);
    for _ in 0..200 {
        let host = rng.usize(..hosts.len());
        let handle = format!("h{}", rng.u8(..3));
        if !hosts.is_idle(host) {
            let is_fatal = crash_in > 0 && rng.usize(..crash_in) == 0;
            if is_fatal {
                hosts.crash(host)
            } else {
                hosts.step(host)
            };
        } else if rng.bool() {
            let (num4, num6, max_blocks_per_host) = (rng.usize(1..4), 0, 0);
            hosts
                .begin(host, Operation::AutoAssign { num4, num6, handle: Some(handle), max_blocks_per_host });
        } else {
            hosts.begin(host, Operation::ReleaseByHandle { handle });
        }
    }
    let usage = hosts.observer().utilization(&[]).map_err(|error| error.to_string())?;
    let blocks = usage.iter().flat_map(|pool| &pool.blocks).map(|block| block.usage);
    for usage in blocks {
        let parts = usage.in_use + usage.resting + usage.reserved + usage.available;
        if parts != usage.capacity {
            return Err(format!("{usage:?} does not add up"));
        }
    }
    let is_tame = hosts.rules.total == 0;
    if is_tame { Err("nothing was assigned".to_owned()) } else { Ok(()) }
}

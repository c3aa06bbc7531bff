//! Proof 5: a pod that is removed leaves nothing, on no host.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::kubernetes::{DEFAULT_INTERFACE_PREFIX, interface_name};
use kernel::Rtnetlink;
use kernel::nft::{Element, Family, NftSocket, TableId, Transport};
use kernel::ownership::NFT_TABLE;

use super::{Demo, address, policy, routing};
use crate::state::Pod;
use crate::{lifecycle, process};

/// How long the hosts may take.
const LIMIT: Duration = Duration::from_secs(1);
/// Both policies select it as a source or destination, so that the hosts of others have it in their sets.
const POD: &str = "shop/web";
const FORMER_NEIGHBOUR: &str = "guests/carol";

/// What is known of a pod at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Trace {
    host: String,
    kind: &'static str,
    what: String,
}

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    policy::apply_policies(demo)?;
    let pod = demo.pod(POD)?.clone();
    let gone = address(&pod);
    let before = traces(demo, &pod)?;
    check_that_there_is_something_to_remove(&before, &pod)?;
    let held = routing::calicoctl(demo, None, &["ipam", "show", &format!("--ip={gone}")])?;
    ensure!(held.contains("in use"), "calicoctl ipam show --ip={gone} before the removal: {}", held.trim());
    lifecycle::remove_pod(&demo.lab, POD)?;
    let start = Instant::now();
    let took = process::wait_until(start + LIMIT, || {
        let left = traces(demo, &pod)?;
        let list: Vec<_> =
            left.iter().map(|trace| format!("{} {} {}", trace.host, trace.kind, trace.what)).collect();
        ensure!(left.is_empty(), "{gone} is still in {}", list.join(", "));
        Ok(start.elapsed())
    })?;
    let freed = routing::calicoctl(demo, None, &["ipam", "show", &format!("--ip={gone}")])?;
    ensure!(freed.contains("not assigned"), "calicoctl ipam show --ip={gone} says: {}", freed.trim());
    let endpoints = routing::calicoctl(demo, None, &["get", "workloadendpoints", "-n", "shop"])?;
    ensure!(!endpoints.contains("web"), "there is still a WorkloadEndpoint:\n{endpoints}");
    let others = demo.namespace(demo.pod(FORMER_NEIGHBOUR)?)?;
    ensure!(
        crate::probe::ping(&others, gone, Duration::from_millis(200)).is_err(),
        "{gone} still answers a ping from {FORMER_NEIGHBOUR}"
    );
    demo.report.done(
        &format!("5. removed {POD} with CNI DEL"),
        &format!(
            "{gone} is free again; before, {}; {} ms later none of these is left on any host",
            summary(&before),
            took.as_millis()
        ),
    );
    Ok(())
}

/// The proof would prove nothing if it did not find routes, maps and sets while the pod is there.
fn check_that_there_is_something_to_remove(before: &BTreeSet<Trace>, pod: &Pod) -> Result<()> {
    let on = |kind: &str, own: bool| {
        before.iter().any(|trace| trace.kind == kind && (trace.host == pod.node) == own)
    };
    for (kind, own) in [("link", true), ("route", true), ("map", true), ("set", false)] {
        let place = if own { "its own host" } else { "another host" };
        ensure!(
            on(kind, own),
            "before the removal no {kind} on {place} names {}: {before:?}",
            pod.full_name()
        );
    }
    Ok(())
}

fn summary(before: &BTreeSet<Trace>) -> String {
    let kinds = ["link", "route", "map", "set"];
    let counts = kinds.map(|kind| {
        let count = before.iter().filter(|trace| trace.kind == kind).count();
        format!("{count} {kind}{}", if count == 1 { "" } else { "s" })
    });
    let hosts: BTreeSet<_> = before.iter().map(|trace| &trace.host).collect();
    format!("{} named it on {} hosts", counts.join(", "), hosts.len())
}

/// Where a pod is still known: links, routes and nf_tables of every host.
fn traces(demo: &Demo, pod: &Pod) -> Result<BTreeSet<Trace>> {
    let interface = interface_name(DEFAULT_INTERFACE_PREFIX, &pod.namespace, &pod.name);
    let mut traces = BTreeSet::new();
    for host in &demo.state.topology.hosts {
        let namespace = demo.host(&host.name)?;
        let mut add = |kind, what: String| traces.insert(Trace { host: host.name.clone(), kind, what });
        let mut rtnetlink = Rtnetlink::open_in(&namespace)?;
        let links = rtnetlink.links()?;
        for link in links.iter().filter(|link| link.name.as_str() == interface) {
            add("link", link.name.to_string());
        }
        let start = format!("{} ", address(pod));
        for line in routing::lines(&mut rtnetlink)?.into_iter().filter(|line| line.starts_with(&start)) {
            add("route", line);
        }
        let found = namespace.run(|| in_nf_tables(address(pod), &interface))?;
        for (kind, what) in found.with_context(|| format!("nf_tables of {}", host.name))? {
            add(kind, what);
        }
    }
    Ok(traces)
}

/// The sets and maps of our table that an address or its link is in. (Chains are of all pods that are judged alike.)
fn in_nf_tables(address: Ipv4Addr, interface: &str) -> Result<Vec<(&'static str, String)>> {
    let table = TableId::new(Family::Ip, NFT_TABLE);
    let (_, state) = NftSocket::open()?.read(&table)?;
    let state = state.context("the host has no table of ours")?;
    let holds = |element: &Element, name: &[u8]| element.low.as_slice().starts_with(name);
    let mut found = Vec::new();
    for (name, set) in &state.sets {
        if set.elements.keys().any(|element| holds(element, &address.octets())) {
            found.push(("set", name.clone()));
        }
        if set.elements.keys().any(|element| holds(element, interface.as_bytes())) {
            found.push(("map", name.clone()));
        }
    }
    Ok(found)
}

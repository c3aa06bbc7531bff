//! Proof 5: a pod that is removed leaves nothing, on no host.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::kubernetes::{DEFAULT_INTERFACE_PREFIX, interface_name};
use kernel::Rtnetlink;
use kernel::nft::{Element, Family, NftSocket, TableId, Transport};
use kernel::ownership::NFT_TABLE;

use super::{Demo, address, policy, routing};
use crate::state::Pod;
use crate::{lifecycle, process};

/// How long the other hosts may take to hear of it.
const LIMIT: Duration = Duration::from_secs(1);
const POD: &str = "shop/cache";

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    // With policies in force that name the pod, so that there is something of it on every host.
    policy::apply_policies(demo)?;
    let pod = demo.pod(POD)?.clone();
    let gone = address(&pod).to_string();
    let before = traces(demo, &pod)?;
    ensure!(
        !before.is_empty(),
        "before its removal no host's rules or routes name {gone}; the proof would prove nothing"
    );
    lifecycle::remove_pod(&demo.lab, &mut demo.state, POD)?;
    let freed = routing::calicoctl(demo, None, &["ipam", "show", &format!("--ip={gone}")])?;
    ensure!(freed.contains("is not assigned"), "calicoctl ipam show --ip={gone} says: {}", freed.trim());
    let start = Instant::now();
    process::wait_until(start + LIMIT, || {
        let left = traces(demo, &pod)?;
        ensure!(left.is_empty(), "{gone} is still in {}", left.join(", "));
        Ok(())
    })?;
    demo.report.done(
        &format!("5. removed {POD} with CNI DEL"),
        &format!(
            "{gone} is free; of {} routes, sets and rules that named it or its link none is left on any host",
            before.len()
        ),
    );
    Ok(())
}

/// Where a pod is still known: routes and nf_tables of every host.
fn traces(demo: &Demo, pod: &Pod) -> Result<Vec<String>> {
    let interface = interface_name(DEFAULT_INTERFACE_PREFIX, &pod.namespace, &pod.name);
    let mut traces = Vec::new();
    for host in &demo.state.topology.hosts {
        let namespace = demo.host(&host.name)?;
        let routes = routing::lines(&mut Rtnetlink::open_in(&namespace)?)?;
        let found = routes.into_iter().filter(|line| line.starts_with(&format!("{} ", address(pod))));
        traces.extend(found.map(|line| format!("{}: route {line}", host.name)));
        let places = namespace.run(|| in_nf_tables(address(pod), &interface))??;
        traces.extend(places.into_iter().map(|place| format!("{}: {place}", host.name)));
    }
    Ok(traces)
}

/// The sets, maps and chains of our table that an address or its link is in.
fn in_nf_tables(address: Ipv4Addr, interface: &str) -> Result<Vec<String>> {
    let table = TableId::new(Family::Ip, NFT_TABLE);
    let (_, state) = NftSocket::open()?.read(&table)?;
    let Some(state) = state else { return Ok(Vec::new()) };
    let names_it = |element: &Element| {
        let key = element.low.as_slice();
        key.starts_with(&address.octets()) || key.starts_with(interface.as_bytes())
    };
    let sets = state.sets.iter().filter(|(_, set)| set.elements.keys().any(names_it));
    let chains = state.chains.keys().filter(|name| name.contains(interface));
    Ok(sets
        .map(|(name, _)| format!("set {name}"))
        .chain(chains.map(|name| format!("chain {name}")))
        .collect())
}

//! Proof 5: a pod that is removed leaves nothing, on no host.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kernel::Rtnetlink;

use super::{Demo, address, policy, routing};
use crate::{lifecycle, process};

/// How long the other hosts may take to hear of it.
const LIMIT: Duration = Duration::from_secs(1);
const POD: &str = "shop/cache";

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    // With policies in force that name the pod, so that there is something of it on every host.
    policy::apply_policies(demo)?;
    let pod = demo.pod(POD)?.clone();
    let gone = address(&pod).to_string();
    let before = traces(demo, &gone)?;
    ensure!(
        !before.is_empty(),
        "before its removal no host's rules or routes name {gone}; the proof would prove nothing"
    );
    lifecycle::remove_pod(&demo.lab, &mut demo.state, POD)?;
    let freed = routing::calicoctl(demo, None, &["ipam", "show", &format!("--ip={gone}")])?;
    ensure!(freed.contains("is not assigned"), "calicoctl ipam show --ip={gone} says: {}", freed.trim());
    let start = Instant::now();
    process::wait_until(start + LIMIT, || {
        let left = traces(demo, &gone)?;
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

/// Where an address is still known: routes and nf_tables of every host.
fn traces(demo: &Demo, address: &str) -> Result<Vec<String>> {
    let mut traces = Vec::new();
    for host in &demo.state.topology.hosts {
        let namespace = demo.host(&host.name)?;
        let routes = routing::lines(&mut Rtnetlink::open_in(&namespace)?)?;
        let found = routes.into_iter().filter(|line| line.starts_with(&format!("{address} ")));
        traces.extend(found.map(|line| format!("{}: route {line}", host.name)));
        let places = super::cleanup::nf_tables_places(&namespace, address)?;
        traces.extend(places.into_iter().map(|place| format!("{}: {place}", host.name)));
    }
    Ok(traces)
}

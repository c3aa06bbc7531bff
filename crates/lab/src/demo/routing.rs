//! Proof 2: BGP as Calico users know it, and the routes that it made.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use kernel::route::{KernelRoute, RouteKind};
use kernel::{InterfaceName, Rtnetlink};

use super::Demo;
use crate::node;

const HOST: &str = "node-1";

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    status(demo)?;
    routes(demo)
}

fn status(demo: &mut Demo) -> Result<()> {
    let table = calicoctl(demo, Some(HOST), &["node", "status"])?;
    let rows: Vec<Vec<&str>> = table.lines().filter(|line| line.starts_with('|')).map(cells).collect();
    let heading = ["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"];
    ensure!(rows.iter().any(|row| *row == heading), "calicoctl node status has no such heading:\n{table}");
    for host in demo.state.topology.hosts.iter().filter(|host| host.name != HOST) {
        let address = host.address.to_string();
        let good = |row: &&Vec<&str>| matches!(row[..], [peer, "node-to-node mesh", "up", _, "Established"] if peer == address);
        let found = rows.iter().filter(good).count();
        ensure!(found == 1, "calicoctl node status on {HOST} has no good row for {address}:\n{table}");
    }
    demo.report.done(
        "2. ran calicoctl node status on node-1",
        "both sessions are up: node-to-node mesh, Established",
    );
    demo.report.show("node-1# calicoctl node status", &table);
    Ok(())
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

fn routes(demo: &mut Demo) -> Result<()> {
    let lines = lines(&mut Rtnetlink::open_in(&demo.host(HOST)?)?)?;
    for host in demo.state.topology.hosts.iter().filter(|host| host.name != HOST) {
        let via = format!("via {} dev eth0 proto bird", host.address);
        let found = lines.iter().any(|line| line.contains("/26 ") && line.contains(&via));
        ensure!(found, "{HOST} has no /26 block {via}:\n{}", lines.join("\n"));
    }
    let own = lines.iter().any(|line| line.starts_with("blackhole ") && line.contains("/26 proto bird"));
    ensure!(own, "{HOST} has no blackhole for its own block:\n{}", lines.join("\n"));
    for pod in demo.state.pods.iter().filter(|pod| pod.node == HOST) {
        let start = format!("{} dev cali", super::address(pod));
        let found = lines.iter().any(|line| line.starts_with(&start));
        ensure!(found, "{HOST} has no route to {}:\n{}", pod.full_name(), lines.join("\n"));
    }
    demo.report.done(
        "2. read node-1's routes",
        "the others' /26 blocks are proto bird, its own is a blackhole, its pods are /32s on cali*",
    );
    demo.report.show("node-1's main route table, as `ip route` writes it", &lines.join("\n"));
    Ok(())
}

/// The IPv4 routes of the main table as `ip route` prints them, in the order of destinations.
pub(crate) fn lines(rtnetlink: &mut Rtnetlink) -> Result<Vec<String>> {
    let links: BTreeMap<_, _> = rtnetlink.links()?.into_iter().map(|link| (link.index, link.name)).collect();
    let mut routes = rtnetlink.main_routes()?;
    routes.retain(|route| route.destination.addr().is_ipv4());
    routes.sort_by_key(|route| route.key());
    Ok(routes.iter().map(|route| line(route, &links)).collect())
}

fn line(route: &KernelRoute, links: &BTreeMap<u32, InterfaceName>) -> String {
    let mut words = Vec::new();
    if route.kind == RouteKind::Blackhole {
        words.push("blackhole".to_owned());
    }
    words.push(match (route.destination.prefix_len(), route.destination.addr()) {
        (0, _) => "default".to_owned(),
        (32, address) => address.to_string(),
        _ => route.destination.to_string(),
    });
    for hop in &route.hops {
        words.extend(hop.gateway.map(|gateway| format!("via {gateway}")));
        words.extend(hop.device.and_then(|index| links.get(&index)).map(|name| format!("dev {name}")));
    }
    words.extend(protocol(route.protocol).map(|name| format!("proto {name}")));
    if route.hops.iter().any(|hop| hop.gateway.is_none()) {
        words.push("scope link".to_owned());
    }
    words.extend(route.source.map(|source| format!("src {source}")));
    if route.metric != 0 {
        words.push(format!("metric {}", route.metric));
    }
    words.join(" ")
}

/// Names of `/etc/iproute2/rt_protos`; `ip` leaves out `boot`.
fn protocol(number: u8) -> Option<String> {
    Some(match number {
        3 => return None,
        2 => "kernel".to_owned(),
        4 => "static".to_owned(),
        12 => "bird".to_owned(),
        other => other.to_string(),
    })
}

/// Runs `calicoctl` against the demo's datastore (inside a host, if one is named); its output.
pub(crate) fn calicoctl(demo: &Demo, host: Option<&str>, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(demo.lab.bin().join("calicoctl"));
    command.args(arguments).envs(node::environment(&demo.lab, host)).stdin(Stdio::null());
    let output = match host {
        Some(host) => demo.host(host)?.run(move || command.output())?,
        None => command.output(),
    }
    .context("cannot run calicoctl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "calicoctl {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

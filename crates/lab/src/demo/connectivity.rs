//! Proof 1: every pod reaches every other, routed, with nothing in the path but routers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::kubernetes::{DEFAULT_INTERFACE_PREFIX, interface_name};
use kernel::Rtnetlink;
use kernel::netns::Netns;

use super::{Demo, address};
use crate::pods::INTERFACE;
use crate::probe::{Capture, Seen, ping};
use crate::state::Pod;

const PING_LIMIT: Duration = Duration::from_secs(1);
/// TTL of a packet as Linux sends it.
const FIRST_TTL: u8 = 64;
const ICMP: u8 = 1;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// What a pod's route table has, and nothing else.
const ROUTES: [&str; 2] = ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"];
/// The host's end of every pod's link.
const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";

pub(crate) fn prove(demo: &mut Demo) -> Result<()> {
    every_pod_pings_every_other(demo)?;
    routes_and_gateway_inside(demo)?;
    nothing_but_routers_in_the_path(demo)
}

fn every_pod_pings_every_other(demo: &mut Demo) -> Result<()> {
    let mut pings = 0;
    let mut slowest = Duration::ZERO;
    for from in &demo.state.pods {
        let namespace = demo.namespace(from)?;
        for to in demo.state.pods.iter().filter(|pod| *pod != from) {
            let took = ping(&namespace, address(to), PING_LIMIT)
                .with_context(|| format!("{} to {}", from.full_name(), to.full_name()))?;
            slowest = slowest.max(took);
            pings += 1;
        }
    }
    let saw = format!("{pings} of {pings} replies, the slowest after {:.1} ms", slowest.as_secs_f64() * 1e3);
    demo.report.done("1. pinged every pod from every other", &saw);
    Ok(())
}

fn routes_and_gateway_inside(demo: &mut Demo) -> Result<()> {
    for pod in &demo.state.pods {
        let mut inside = Rtnetlink::open_in(&demo.namespace(pod)?)?;
        check_inside(&mut inside).with_context(|| pod.full_name())?;
        let host = demo.host(&pod.node)?;
        check_proxy_arp(pod, &host).with_context(|| pod.node.clone())?;
    }
    demo.report.done(
        "1. looked inside every pod",
        &format!(
            "each has the two routes [{}], and 169.254.1.1 at {HOST_MAC} by proxy ARP of its host",
            ROUTES.join("] [")
        ),
    );
    Ok(())
}

fn check_inside(inside: &mut Rtnetlink) -> Result<()> {
    let routes = super::routing::lines(inside)?;
    ensure!(routes == ROUTES, "the route table is {routes:?}, not {ROUTES:?}");
    let neighbours = inside.neighbours()?;
    let gateway = neighbours.iter().find(|neighbour| neighbour.address == IpAddr::V4(GATEWAY));
    let gateway = gateway.context("no ARP entry for 169.254.1.1")?;
    let mac = gateway.mac.context("the ARP entry for 169.254.1.1 has no address")?.to_string();
    ensure!(mac == HOST_MAC, "the ARP entry for 169.254.1.1 is {mac}, not {HOST_MAC}");
    Ok(())
}

/// The host answers for an address that it does not have itself: that is what makes it a proxy.
fn check_proxy_arp(pod: &Pod, host: &Netns) -> Result<()> {
    let interface = interface_name(DEFAULT_INTERFACE_PREFIX, &pod.namespace, &pod.name);
    let held = Rtnetlink::open_in(host)?.addresses()?;
    let own = held.iter().any(|held| held.address.addr() == IpAddr::V4(GATEWAY));
    ensure!(!own, "the host has 169.254.1.1 itself");
    let setting = format!("/proc/sys/net/ipv4/conf/{interface}/proxy_arp");
    let value = host.run(|| std::fs::read_to_string(setting))??;
    ensure!(value.trim() == "1", "proxy_arp of {interface} is {value}");
    Ok(())
}

fn nothing_but_routers_in_the_path(demo: &mut Demo) -> Result<()> {
    let (from, to) = (demo.pod("shop/web")?.clone(), demo.pod("shop/db")?.clone());
    let fabric = kernel::netns::Netns::open(demo.lab.fabric())?;
    let mut on_fabric = Capture::start(&fabric)?;
    let mut at_target = Capture::start(&demo.namespace(&to)?)?;
    ping(&demo.namespace(&from)?, address(&to), PING_LIMIT)?;
    no_bridge_or_tunnel(demo)?;
    for (place, capture, hops) in [("the fabric", &mut on_fabric, 1), (INTERFACE, &mut at_target, 2)] {
        let seen = capture.find(PING_LIMIT, |seen| is_between(seen, &from, &to))?;
        let Some(seen) = seen else {
            bail!("no ICMP packet from {} to {} was seen on {place}", address(&from), address(&to));
        };
        ensure!(seen.ttl == FIRST_TTL - hops, "its TTL on {place} is {}, not {}", seen.ttl, FIRST_TTL - hops);
    }
    let saw = format!(
        "on the fabric {} > {} with TTL 63, in the other pod with TTL 62; no host has a bridge or a tunnel",
        address(&from),
        address(&to)
    );
    demo.report.done("1. captured a ping from shop/web to shop/db", &saw);
    Ok(())
}

/// What a host may have: the loopback, its link to the fabric, and a veth for each pod.
fn no_bridge_or_tunnel(demo: &Demo) -> Result<()> {
    for host in &demo.state.topology.hosts {
        for link in Rtnetlink::open_in(&demo.host(&host.name)?)?.links()? {
            let plain = link.loopback || link.kind.as_deref() == Some("veth") || !link.up;
            ensure!(plain, "{} has the link {} of kind {:?}", host.name, link.name, link.kind);
        }
    }
    Ok(())
}

fn is_between(seen: &Seen, from: &Pod, to: &Pod) -> bool {
    seen.source == address(from) && seen.destination == address(to) && seen.protocol == ICMP
}

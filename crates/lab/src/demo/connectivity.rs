//! Proof 1: every pod reaches every other, routed, with nothing in the path but routers.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kernel::Rtnetlink;

use super::{Demo, address};
use crate::pods::INTERFACE;
use crate::probe::{Capture, Seen, ping};
use crate::state::Pod;

const PING_LIMIT: Duration = Duration::from_secs(1);
/// TTL of a packet as Linux sends it.
const FIRST_TTL: u8 = 64;
const ICMP: u8 = 1;
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
    let pod = demo.pod("shop/web")?.clone();
    let mut inside = Rtnetlink::open_in(&demo.namespace(&pod)?)?;
    let routes = super::routing::lines(&mut inside)?;
    let expected = ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"];
    ensure!(routes == expected, "{}'s route table is {routes:?}, not {expected:?}", pod.full_name());
    let gateway = inside
        .neighbours()?
        .into_iter()
        .find(|neighbour| neighbour.address.to_string() == "169.254.1.1")
        .context("no ARP entry for 169.254.1.1")?;
    let mac = gateway.mac.context("the ARP entry for 169.254.1.1 has no address")?.to_string();
    ensure!(mac == HOST_MAC, "the ARP entry for 169.254.1.1 is {mac}, not {HOST_MAC}");
    demo.report.done(
        "1. looked inside shop/web",
        &format!("routes are the two lines [{}]; 169.254.1.1 is at {mac} by proxy ARP", routes.join("] [")),
    );
    Ok(())
}

fn nothing_but_routers_in_the_path(demo: &mut Demo) -> Result<()> {
    let (from, to) = (demo.pod("shop/web")?.clone(), demo.pod("shop/db")?.clone());
    let fabric = kernel::netns::Netns::open(demo.lab.fabric())?;
    let mut on_fabric = Capture::start(&fabric)?;
    let mut at_target = Capture::start(&demo.namespace(&to)?)?;
    ping(&demo.namespace(&from)?, address(&to), PING_LIMIT)?;
    for (place, capture, hops) in [("the fabric", &mut on_fabric, 1), (INTERFACE, &mut at_target, 2)] {
        let seen = capture.find(PING_LIMIT, |seen| is_between(seen, &from, &to))?;
        let Some(seen) = seen else {
            bail!("no ICMP packet from {} to {} was seen on {place}", address(&from), address(&to));
        };
        ensure!(seen.ttl == FIRST_TTL - hops, "its TTL on {place} is {}, not {}", seen.ttl, FIRST_TTL - hops);
    }
    let saw = format!(
        "on the fabric {} > {} with TTL 63, in the other pod with TTL 62: no bridge, tunnel or NAT",
        address(&from),
        address(&to)
    );
    demo.report.done("1. captured a ping from shop/web to shop/db", &saw);
    Ok(())
}

fn is_between(seen: &Seen, from: &Pod, to: &Pod) -> bool {
    seen.source == address(from) && seen.destination == address(to) && seen.protocol == ICMP
}

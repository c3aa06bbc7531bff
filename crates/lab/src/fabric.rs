//! The wires of a lab: a namespace per host, and one for the fabric between them.
//!
//! All links are inside these namespaces, so that removing the namespaces removes everything, and labs cannot meet.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;
use kernel::address::AddressOptions;
use kernel::link::{LinkChange, NewVeth, VethEnd};
use kernel::netns::Netns;
use kernel::route::{Hop, KernelRoute, MAIN_TABLE, RouteChange, RouteKernel, RouteKind};
use kernel::sysctl::{ProcSys, Sysctl, Sysctls};
use kernel::{InterfaceName, Rtnetlink};

use crate::state::LabDir;
use crate::topology::{Host, Topology};

/// The host's link to the fabric.
pub(crate) const HOST_INTERFACE: &str = "eth0";

/// linux/rtnetlink.h: made by the administrator.
const RTPROT_STATIC: u8 = 4;

/// Makes the namespaces, bridges and links of a topology.
///
/// # Errors
/// The first step that the kernel refuses, named.
pub(crate) fn build(lab: &LabDir, topology: &Topology) -> Result<()> {
    let fabric = Netns::make_named(lab.fabric()).context("cannot make a network namespace")?;
    let mut wires = Rtnetlink::open_in(&fabric)?;
    let lo = name("lo")?;
    wires.change_link(&lo, &LinkChange::up())?;
    for subnet in 0..topology.subnets {
        add_bridge(&mut wires, subnet)?;
    }
    if topology.subnets > 1 {
        fabric.run(|| ProcSys.set(&Sysctl::new("net/ipv4/ip_forward"), "1"))??;
    }
    for host in &topology.hosts {
        add_host(lab, &fabric, &mut wires, host).with_context(|| host.name.clone())?;
    }
    Ok(())
}

fn name(text: &str) -> Result<InterfaceName> {
    Ok(InterfaceName::new(text)?)
}

fn bridge(subnet: u8) -> String {
    format!("subnet-{subnet}")
}

fn add_bridge(wires: &mut Rtnetlink, subnet: u8) -> Result<()> {
    let bridge = name(&bridge(subnet))?;
    wires.create_bridge(&bridge)?;
    let network = Topology::network(subnet).prefix_len();
    let gateway = IpNet::new(Topology::gateway(subnet).into(), network)?;
    let index = wires.link(&bridge)?.context("the bridge has vanished")?.index;
    wires.add_address(index, gateway, AddressOptions::default())?;
    wires.change_link(&bridge, &LinkChange::up())?;
    Ok(())
}

fn add_host(lab: &LabDir, fabric: &Netns, wires: &mut Rtnetlink, host: &Host) -> Result<()> {
    let namespace = Netns::make_named(lab.host(&host.name))?;
    let port = name(&host.name)?;
    let inside = name(HOST_INTERFACE)?;
    wires.create_veth(&NewVeth {
        near: VethEnd { name: port.clone(), mac: None, namespace: Some(fabric) },
        far: VethEnd { name: inside.clone(), mac: None, namespace: Some(&namespace) },
        mtu: None,
        queues: None,
    })?;
    let master = wires.link(&name(&bridge(host.subnet))?)?.context("the bridge has vanished")?.index;
    wires
        .change_link(&port, &LinkChange { master: Some(master), up: Some(true), ..LinkChange::default() })?;
    let mut local = Rtnetlink::open_in(&namespace)?;
    local.change_link(&name("lo")?, &LinkChange::up())?;
    let index = local.link(&inside)?.context("the link has vanished")?.index;
    let address = IpNet::new(host.address.into(), Topology::network(host.subnet).prefix_len())?;
    local.add_address(index, address, AddressOptions::default())?;
    local.change_link(&inside, &LinkChange::up())?;
    add_default_route(&mut local, index, host)
}

/// The way to the other subnets; with the protocol of a route made by hand, so that no node takes it for its own.
fn add_default_route(local: &mut Rtnetlink, device: u32, host: &Host) -> Result<()> {
    let gateway = Hop {
        gateway: Some(Topology::gateway(host.subnet).into()),
        device: Some(device),
        onlink: false,
        weight: 1,
    };
    let route = KernelRoute {
        destination: IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0)?,
        table: MAIN_TABLE,
        metric: 0,
        tos: 0,
        protocol: RTPROT_STATIC,
        kind: RouteKind::Unicast,
        hops: vec![gateway],
        source: None,
    };
    let outcomes = local.change_routes(&[RouteChange::Add(route)])?;
    outcomes
        .into_iter()
        .try_for_each(|outcome| outcome.map_err(|refusal| anyhow!("default route: {refusal}")))
}

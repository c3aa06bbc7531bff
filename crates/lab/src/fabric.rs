//! The wires of a lab: a namespace per host, and one for the fabric between them.
//!
//! All links are inside these namespaces, so that removing the namespaces removes everything, and labs cannot meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
        add_bridge(&mut wires, subnet, topology.ipv6)?;
    }
    if topology.subnets > 1 {
        fabric.run(|| forward(topology.ipv6))??;
    }
    for host in &topology.hosts {
        add_host(lab, &fabric, &mut wires, host, topology.ipv6).with_context(|| host.name.clone())?;
    }
    Ok(())
}

/// Makes a namespace a router.
fn forward(ipv6: bool) -> Result<()> {
    ProcSys.set(&Sysctl::new("net/ipv4/ip_forward"), "1")?;
    if ipv6 {
        ProcSys.set(&Sysctl::new("net/ipv6/conf/all/forwarding"), "1")?;
    }
    Ok(())
}

fn name(text: &str) -> Result<InterfaceName> {
    Ok(InterfaceName::new(text)?)
}

fn bridge(subnet: u8) -> String {
    format!("subnet-{subnet}")
}

fn add_bridge(wires: &mut Rtnetlink, subnet: u8, ipv6: bool) -> Result<()> {
    let bridge = name(&bridge(subnet))?;
    wires.create_bridge(&bridge)?;
    let network = Topology::network(subnet).prefix_len();
    let gateway = IpNet::new(Topology::gateway(subnet).into(), network)?;
    let index = wires.link(&bridge)?.context("the bridge has vanished")?.index;
    wires.add_address(index, gateway, AddressOptions::default())?;
    if ipv6 {
        add_address6(wires, index, Topology::gateway6(subnet))?;
    }
    wires.change_link(&bridge, &LinkChange::up())?;
    Ok(())
}

/// Nobody else can have it, so there is no need to wait for duplicates to be found.
fn add_address6(rtnetlink: &mut Rtnetlink, index: u32, address: Ipv6Addr) -> Result<()> {
    let options = AddressOptions { no_duplicate_detection: true, ..AddressOptions::default() };
    Ok(rtnetlink.add_address(index, IpNet::new(address.into(), 64)?, options)?)
}

fn add_host(lab: &LabDir, fabric: &Netns, wires: &mut Rtnetlink, host: &Host, ipv6: bool) -> Result<()> {
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
    if ipv6 {
        add_address6(&mut local, index, host.address6())?;
    }
    local.change_link(&inside, &LinkChange::up())?;
    add_default_route(&mut local, index, Topology::gateway(host.subnet).into())?;
    if ipv6 {
        add_default_route(&mut local, index, Topology::gateway6(host.subnet).into())?;
    }
    Ok(())
}

/// The way to the other subnets; with the protocol of a route made by hand, so that no node takes it for its own.
fn add_default_route(local: &mut Rtnetlink, device: u32, gateway: IpAddr) -> Result<()> {
    let everywhere = match gateway {
        IpAddr::V4(_) => IpNet::new(Ipv4Addr::UNSPECIFIED.into(), 0)?,
        IpAddr::V6(_) => IpNet::new(Ipv6Addr::UNSPECIFIED.into(), 0)?,
    };
    let route = KernelRoute {
        destination: everywhere,
        table: MAIN_TABLE,
        metric: 0,
        tos: 0,
        protocol: RTPROT_STATIC,
        kind: RouteKind::Unicast,
        hops: vec![Hop { gateway: Some(gateway), device: Some(device), onlink: false, weight: 1 }],
        source: None,
    };
    let outcomes = local.change_routes(&[RouteChange::Add(route.into())])?;
    outcomes
        .into_iter()
        .try_for_each(|outcome| outcome.map_err(|refusal| anyhow!("default route: {refusal}")))
}

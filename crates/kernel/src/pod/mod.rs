//! The plumbing of a workload: a veth pair from its network namespace to the host.
//!
//! Inside there is one interface with the workload's addresses (/32, /128). Its gateway is an address that nobody has,
//! 169.254.1.1, for which the host's end answers ARP by proxy; for IPv6 it is the link-local address of the host's end,
//! which is the same on every host because the Ethernet address of that end always is [`ownership::HOST_MAC`].
//! (datapath.md 2.1 of the project's reference.)
//!
//! [`PodSpec::add`] needs few system calls: one request makes both ends in their final places (moving a link costs an
//! RCU grace period), and each side then gets everything else in one batch. Both [`PodSpec::add`] and
//! [`Removal::run`] can be repeated. If `add` fails, what it made is gone again.
//!
//! Proxy ARP answers only for addresses to which the host has a route by another device. Most hosts have a default
//! route; one that has none needs [`gateway_route`].
//!
//! The sysctls of the host's end belong to the namespace of the *calling thread*, which has to be that of the socket.

mod add;
mod inspect;
mod remove;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::link::{Link, LinkId};
use crate::netns::Netns;
use crate::route::Route;
use crate::{InterfaceName, MacAddress, Rtnetlink, netlink, netns, ownership, sysctl};

pub use inspect::Problem;
pub use remove::{Error as RemovalError, Removal, RemovalErrors, Remover};

/// The gateway of every workload's IPv4 routes.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// A route for hosts without a default route, where nobody would answer workloads that ask for [`GATEWAY_V4`]. The
/// loopback must be up. It carries no packets: workloads only send *by* the gateway, never to it.
pub fn gateway_route(protocol: u8) -> Route {
    Route::device(host_prefix(GATEWAY_V4.into()), InterfaceName::from_kernel("lo".to_owned()), protocol)
}

/// What a workload's plumbing is to be like.
#[derive(Debug, Clone)]
pub struct PodSpec<'a> {
    /// The workload's namespace.
    pub namespace: &'a Netns,
    /// The interface inside, such as `eth0` (`CNI_IFNAME`).
    pub interface: InterfaceName,
    /// The host's end.
    pub host_interface: InterfaceName,
    /// The workload's addresses, of one family or both.
    pub addresses: Vec<IpAddr>,
    /// Where the workload's routes lead to; see [`PodSpec::default_routes`]. Those of a family of which it has no
    /// address are left out.
    pub routes: Vec<IpNet>,
    /// Ethernet address inside (annotation `cni.projectcalico.org/hwAddr`); random if none.
    pub mac: Option<MacAddress>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Transmit and receive queues (`num_queues`).
    pub queues: Option<u32>,
    /// Whether the workload may forward (`container_settings.allow_ip_forwarding`).
    pub allow_ip_forwarding: bool,
    /// Whether to add the host's routes to the workload here, and make all settings of the host's end. None: whoever has
    /// the [`crate::route::RouteTable`] and the [`crate::interface::InterfaceTable`] does, before it adds the routes.
    pub host_routes: Option<HostRoutes>,
}

/// With what marks the host's routes to a workload are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoutes {
    /// Protocol.
    pub protocol: u8,
    /// Metric, as in [`crate::route::Route::metric`].
    pub metric: u32,
}

/// What [`PodSpec::add`] made, or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodInterfaces {
    /// The host's end.
    pub host: Link,
    /// The workload's end.
    pub inside: Link,
    /// Whether the pair was there before.
    pub existed: bool,
}

/// Why the plumbing could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The workload's namespace cannot be entered or used.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The kernel refused something on the host's side.
    #[error("on the host: {0}")]
    Host(netlink::Error),
    /// The kernel refused something inside the workload's namespace.
    #[error("in the workload's namespace: {0}")]
    Inside(netlink::Error),
    /// A setting cannot be made.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
    /// There is another interface of that name inside.
    #[error(
        "interface {interface} exists in the workload's namespace and is not the other end of {host_interface}; \
         delete it or choose another name"
    )]
    InterfaceTaken {
        /// The interface inside.
        interface: InterfaceName,
        /// The host's end.
        host_interface: InterfaceName,
    },
    /// The interface vanished while it was being set up.
    #[error("interface {interface} vanished while it was being set up")]
    Vanished {
        /// Which.
        interface: InterfaceName,
    },
    /// A route of someone else leads to the workload's address.
    #[error(
        "route to {destination} exists already: \"{route}\" (device {device}); delete it or choose another address"
    )]
    RouteTaken {
        /// The workload's address.
        destination: IpNet,
        /// What is there.
        route: String,
        /// The name of its device.
        device: String,
    },
    /// There is no address.
    #[error("workload behind {host_interface}: no address given")]
    NoAddress {
        /// The host's end.
        host_interface: InterfaceName,
    },
}

impl PodSpec<'_> {
    /// Everything: `0.0.0.0/0` and `::/0`.
    pub fn default_routes() -> Vec<IpNet> {
        let unspecified = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];
        unspecified.into_iter().filter_map(|address| IpNet::new(address, 0).ok()).collect()
    }

    fn has_ipv4(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv4)
    }

    fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }

    /// The gateway of the family of this address.
    fn gateway(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(_) => GATEWAY_V4.into(),
            IpAddr::V6(_) => MacAddress(ownership::HOST_MAC).link_local().into(),
        }
    }

    /// The routes of the families that it has.
    fn usable_routes(&self) -> impl Iterator<Item = IpNet> {
        let (ipv4, ipv6) = (self.has_ipv4(), self.has_ipv6());
        let usable = move |route: &IpNet| if route.addr().is_ipv4() { ipv4 } else { ipv6 };
        self.routes.iter().map(IpNet::trunc).filter(usable)
    }
}

/// Whether two links are the ends of one veth pair: each names the other, and the host knows the other's namespace by
/// the number that its link shows.
fn is_pair(host: &mut Rtnetlink, outside: &Link, inside: &Link, namespace: &Netns) -> Result<bool, Error> {
    let (Some(far), Some(near)) = (outside.peer, inside.peer) else { return Ok(false) };
    if far.index != inside.index || near.index != outside.index {
        return Ok(false);
    }
    Ok(far.namespace == host.namespace_id(namespace).map_err(Error::Host)?)
}

/// By which name a namespace has the other end of one of the host's interfaces; none if that end is not there.
///
/// # Errors
/// [`Error`].
pub fn interface_inside(
    host: &mut Rtnetlink,
    host_interface: &InterfaceName,
    namespace: &Netns,
) -> Result<Option<InterfaceName>, Error> {
    let outside = find(host, host_interface).map_err(Error::Host)?;
    let Some(outside) = outside.filter(|link| link.group != ownership::CONDEMNED_GROUP) else {
        return Ok(None);
    };
    let Some(peer) = outside.peer else { return Ok(None) };
    let inside = Rtnetlink::open_in(namespace)?.link(peer.index).map_err(Error::Inside)?;
    let Some(inside) = inside else { return Ok(None) };
    Ok(is_pair(host, &outside, &inside, namespace)?.then_some(inside.name))
}

fn find(socket: &mut Rtnetlink, name: &InterfaceName) -> Result<Option<Link>, netlink::Error> {
    socket.link(LinkId::Name(name.clone()))
}

/// The address alone: /32 or /128.
fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

//! Routes of the main table: what the kernel has, what we want, and the one writer that brings them together.
//!
//! [`KernelRoute`] is a route as the kernel speaks of it, with devices by number. [`Route`] is a route as the rest of
//! the program wants it, with devices by name, because devices come and go. [`RouteTable`] is the only writer.

mod class;
mod table;
mod wire;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;

use crate::link::Link;
use crate::netlink::{Error, Message, Refusal};
use crate::{InterfaceName, Rtnetlink};

pub use class::RouteClass;
pub use table::{Conflict, Failure, Report, RouteStatus, RouteTable, RouteTableConfig, Waiting};
pub(crate) use wire::{add_route, read_route};

/// The main table's number (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// The metric that IPv6 gives to routes that are added without one (`IP6_RT_PRIO_USER`).
pub const IPV6_DEFAULT_METRIC: u32 = 1024;

/// A route as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to; host bits must be zero.
    pub destination: IpNet,
    /// What becomes of the packets.
    pub target: Target,
    /// Whose it is (`RTPROT_*`), see [`crate::ownership`].
    pub protocol: u8,
    /// Preference: lower wins. 0 means none for IPv4 and [`IPV6_DEFAULT_METRIC`] for IPv6, as in `ip route`.
    pub metric: u32,
    /// The source address that the host's own packets get, if not the default one.
    pub source: Option<IpAddr>,
}

/// What becomes of a packet that a route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The destination is on this device (`dev X scope link`).
    Device(InterfaceName),
    /// It is handed to a gateway (`via A [dev X] [onlink]`).
    Gateway(Gateway),
    /// It is handed to one of several gateways, chosen by flow (ECMP). Order does not matter.
    Multipath(Vec<Gateway>),
    /// Dropped silently.
    Blackhole,
    /// Dropped with ICMP unreachable.
    Unreachable,
    /// Dropped with ICMP prohibited.
    Prohibit,
    /// The table is left as if nothing had matched.
    Throw,
}

/// A next hop.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// Its address; the other family's is possible too (RFC 9229).
    pub address: IpAddr,
    /// The device; the kernel finds it by the address if none.
    pub device: Option<InterfaceName>,
    /// Take it for reachable on the device even if no route says so.
    pub onlink: bool,
    /// Share of the flows, from 1.
    pub weight: u16,
}

impl Gateway {
    /// A gateway that the kernel finds by itself.
    pub fn new(address: IpAddr) -> Self {
        Self { address, device: None, onlink: false, weight: 1 }
    }

    /// A gateway on a device.
    pub fn on(address: IpAddr, device: InterfaceName) -> Self {
        Self { device: Some(device), ..Self::new(address) }
    }

    /// The same, taken for reachable there.
    #[must_use]
    pub fn onlink(self) -> Self {
        Self { onlink: true, ..self }
    }
}

impl Route {
    /// A route straight to a device.
    pub fn device(destination: IpNet, device: InterfaceName, protocol: u8) -> Self {
        Self::to(destination, Target::Device(device), protocol)
    }

    /// A route by a gateway.
    pub fn via(destination: IpNet, gateway: Gateway, protocol: u8) -> Self {
        Self::to(destination, Target::Gateway(gateway), protocol)
    }

    /// A route that drops.
    pub fn blackhole(destination: IpNet, protocol: u8) -> Self {
        Self::to(destination, Target::Blackhole, protocol)
    }

    fn to(destination: IpNet, target: Target, protocol: u8) -> Self {
        Self { destination: destination.trunc(), target, protocol, metric: 0, source: None }
    }

    /// The devices that it names.
    pub fn devices(&self) -> impl Iterator<Item = &InterfaceName> {
        let (device, gateways) = match &self.target {
            Target::Device(device) => (Some(device), &[][..]),
            Target::Gateway(gateway) => (None, std::slice::from_ref(gateway)),
            Target::Multipath(gateways) => (None, &gateways[..]),
            Target::Blackhole | Target::Unreachable | Target::Prohibit | Target::Throw => (None, &[][..]),
        };
        device.into_iter().chain(gateways.iter().filter_map(|gateway| gateway.device.as_ref()))
    }
}

/// A route as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoute {
    /// Where to.
    pub destination: IpNet,
    /// Number of the table.
    pub table: u32,
    /// Metric (`RTA_PRIORITY`).
    pub metric: u32,
    /// Type of service; 0 for all.
    pub tos: u8,
    /// Whose it is (`RTPROT_*`).
    pub protocol: u8,
    /// What kind of route it is.
    pub kind: RouteKind,
    /// Next hops, sorted; none unless it is [`RouteKind::Unicast`].
    pub hops: Vec<Hop>,
    /// Preferred source address.
    pub source: Option<IpAddr>,
}

/// A next hop as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// Gateway; none if the destination is on the device.
    pub gateway: Option<IpAddr>,
    /// Number of the device; none only in routes to be added.
    pub device: Option<u32>,
    /// `RTNH_F_ONLINK`
    pub onlink: bool,
    /// Share of the flows, from 1.
    pub weight: u16,
}

/// The kind of a route (`RTN_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// Forwarded to a next hop.
    Unicast,
    /// Dropped silently.
    Blackhole,
    /// Dropped with ICMP unreachable.
    Unreachable,
    /// Dropped with ICMP prohibited.
    Prohibit,
    /// Not in this table.
    Throw,
    /// Something that we never make.
    Other(u8),
}

/// By what the kernel tells routes of one table apart. Two routes with the same key cannot both be ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// Where to.
    pub destination: IpNet,
    /// Metric.
    pub metric: u32,
    /// Type of service.
    pub tos: u8,
}

impl KernelRoute {
    /// By what the kernel tells it from others.
    pub fn key(&self) -> RouteKey {
        RouteKey { destination: self.destination, metric: self.metric, tos: self.tos }
    }
}

impl fmt::Display for KernelRoute {
    /// As `ip route` writes it, with devices by number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Blackhole => formatter.write_str("blackhole ")?,
            RouteKind::Unreachable => formatter.write_str("unreachable ")?,
            RouteKind::Prohibit => formatter.write_str("prohibit ")?,
            RouteKind::Throw => formatter.write_str("throw ")?,
            RouteKind::Other(number) => write!(formatter, "type {number} ")?,
        }
        write!(formatter, "{}", self.destination)?;
        for hop in &self.hops {
            if let Some(gateway) = hop.gateway {
                write!(formatter, " via {gateway}")?;
            }
            if let Some(device) = hop.device {
                write!(formatter, " dev {device}")?;
            }
        }
        write!(formatter, " proto {}", self.protocol)?;
        if self.metric != 0 {
            write!(formatter, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

/// One change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteChange {
    /// Add it where nothing with its key is: refused with `EEXIST` otherwise.
    Add(Arc<KernelRoute>),
    /// Put it in the place of the route with the same key, with no moment in between without one.
    Replace(Arc<KernelRoute>),
    /// Delete it, if it is there with this protocol and these next hops.
    Delete(Arc<KernelRoute>),
}

impl RouteChange {
    /// The route that is added or deleted.
    pub fn route(&self) -> &KernelRoute {
        self.shared()
    }

    fn shared(&self) -> &Arc<KernelRoute> {
        match self {
            Self::Add(route) | Self::Replace(route) | Self::Delete(route) => route,
        }
    }
}

impl fmt::Display for RouteChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Add(_) => "add",
            Self::Replace(_) => "replace",
            Self::Delete(_) => "delete",
        };
        write!(formatter, "{verb} route {}", self.route())
    }
}

/// What [`RouteTable`] needs of the kernel. The strict fake is [`crate::fake::FakeKernel`]. Many changes are made
/// on another thread.
pub trait RouteKernel: Send {
    /// All links.
    ///
    /// # Errors
    /// Retryable; nothing was changed.
    fn links(&mut self) -> Result<Vec<Link>, Error>;

    /// All routes of the main table, of both families and of every protocol, but those that the kernel keeps for
    /// itself in its cache.
    ///
    /// # Errors
    /// Retryable; nothing was changed.
    fn routes(&mut self) -> Result<Vec<KernelRoute>, Error>;

    /// Makes the changes in order; a refused one does not stop the others.
    ///
    /// # Errors
    /// When it is not known what was done.
    fn change_routes(&mut self, changes: &[RouteChange]) -> Result<Vec<Result<(), Refusal>>, Error>;
}

impl RouteKernel for Rtnetlink {
    fn links(&mut self) -> Result<Vec<Link>, Error> {
        Self::links(self)
    }

    fn routes(&mut self) -> Result<Vec<KernelRoute>, Error> {
        self.main_routes()
    }

    fn change_routes(&mut self, changes: &[RouteChange]) -> Result<Vec<Result<(), Refusal>>, Error> {
        let messages: Vec<Message> = changes.iter().map(wire::change).collect();
        self.socket.batch(&messages, "routes of the main table")
    }
}

impl Rtnetlink {
    /// All routes of the main table, of both families.
    ///
    /// # Errors
    /// As [`crate::netlink::Socket::dump`].
    pub fn main_routes(&mut self) -> Result<Vec<KernelRoute>, Error> {
        let mut routes = self.routes_of(AddressFamily::Inet)?;
        routes.extend(self.routes_of(AddressFamily::Inet6)?);
        Ok(routes)
    }

    /// The routes of the main table for exactly this prefix.
    ///
    /// # Errors
    /// As [`crate::netlink::Socket::dump`].
    pub fn routes_to(&mut self, prefix: IpNet) -> Result<Vec<KernelRoute>, Error> {
        let wanted = |route: &KernelRoute| route.destination == prefix.trunc();
        self.routes_where(family(prefix.addr()), wanted)
    }

    /// The route that packets of this host to an address take, whatever table it is in, as it lies in that table (Linux
    /// 4.13, `RTM_F_FIB_MATCH`); `None`: there is none.
    ///
    /// # Errors
    /// The socket failed, or the request was refused for another reason.
    pub fn lookup(&mut self, address: IpAddr) -> Result<Option<KernelRoute>, Error> {
        let answer = self.socket.get(&wire::lookup(address), format_args!("route to {address}"), |reply| {
            read_route(reply.payload)
        });
        match answer {
            Err(error) if error.is_absent() || error.errno().is_some_and(is_unreachable) => Ok(None),
            answer => answer,
        }
    }

    fn routes_of(&mut self, family: AddressFamily) -> Result<Vec<KernelRoute>, Error> {
        self.routes_where(family, |_| true)
    }

    fn routes_where(
        &mut self,
        family: AddressFamily,
        wanted: impl Fn(&KernelRoute) -> bool,
    ) -> Result<Vec<KernelRoute>, Error> {
        let routes = self.socket.dump(&wire::list_main(family), "routes of the main table", |reply| {
            // A kernel without IPv6 answers with the routes of every family that it has.
            let fits = |route: &KernelRoute| {
                route.table == MAIN_TABLE && self::family(route.destination.addr()) == family
            };
            read_route(reply.payload).filter(fits).filter(&wanted)
        });
        match routes {
            // IPv6 may be disabled, or (at boot) the table not made yet.
            Err(error) if error.is_absent() || error.errno() == Some(crate::netlink::Errno::AFNOSUPPORT) => {
                Ok(Vec::new())
            }
            routes => routes,
        }
    }
}

/// No route, or one that says so.
fn is_unreachable(errno: crate::netlink::Errno) -> bool {
    use crate::netlink::Errno;
    [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::AFNOSUPPORT, Errno::INVAL, Errno::ACCESS].contains(&errno)
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
